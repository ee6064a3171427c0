//! When each device sends: at its own place in the period, drawn from a seed, so that messages come as unevenly as a
//! real fleet's and the same in each run.

use std::time::Duration;

use crate::clock::Nanos;

/// Who sends when.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: Nanos,
    period: Nanos,
    /// Offset in the period and device, by offset.
    places: Vec<(Nanos, u32)>,
    rounds: u32,
}

/// One message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Nanos,
    /// By whom.
    pub device: u32,
    /// Its number among the device's messages, from 1.
    pub number: u32,
}

impl Schedule {
    /// Each device once a period, from `start`, for as many whole periods as `lasting` has.
    pub fn new(
        start: Nanos,
        devices: u32,
        period: Duration,
        lasting: Duration,
        seed: u64,
    ) -> Schedule {
        let period = period.as_nanos() as Nanos;
        let mut state = seed;
        let mut places: Vec<(Nanos, u32)> = (0..devices)
            .map(|device| (random(&mut state) % period, device))
            .collect();
        places.sort_unstable();
        Schedule {
            start,
            period,
            places,
            rounds: (lasting.as_nanos() as Nanos / period) as u32,
        }
    }

    /// All messages in order.
    pub fn dues(&self) -> impl Iterator<Item = Due> + '_ {
        (0..self.rounds).flat_map(move |round| {
            let start = self.start + self.period * Nanos::from(round);
            self.places.iter().map(move |&(offset, device)| Due {
                at: start + offset,
                device,
                number: round + 1,
            })
        })
    }
}

/// splitmix64 (Steele, Lea, Flood 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_sends_once_a_period_and_never_before_the_start() {
        let (period, lasting) = (Duration::from_micros(7), Duration::from_micros(21));
        let schedule = Schedule::new(1_000, 50, period, lasting, 1);
        let dues: Vec<Due> = schedule.dues().collect();
        assert_eq!(dues.len(), 150);
        assert!(dues.is_sorted_by_key(|due| due.at));
        assert!(dues[0].at >= 1_000 && dues[149].at < 1_000 + 21_000);
        let of_one: Vec<u32> = dues
            .iter()
            .filter(|due| due.device == 9)
            .map(|due| due.number)
            .collect();
        assert_eq!(of_one, [1, 2, 3]);
    }
}
