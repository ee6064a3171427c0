//! How long to wait before the next try: exponential, with jitter from a seed, so that a thousand nodes do not come back
//! to a broker at once and a test can replay a run.

/// Longest wait of the first reconnect and of the last, milliseconds.
const CONNECT_MS: (u64, u64) = (100, 30_000);

/// Waits of a device that the broker refused.
const REFUSED_MS: (u64, u64) = (1_000, 30_000);

/// Waits of a device that nobody subscribes to: shorter, since a consumer that restarts is back soon.
const NO_SUBSCRIBER_MS: (u64, u64) = (500, 8_000);

/// The state of the waits.
#[derive(Debug)]
pub(super) struct Backoff {
    random: u64,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff {
            random: seed,
            failures: 0,
        }
    }

    /// Wait before the next connect: full jitter, anything up to a bound that doubles.
    pub(super) fn connect_ms(&mut self) -> u64 {
        let bound = doubled(CONNECT_MS, self.failures);
        self.failures += 1;
        self.below(bound + 1)
    }

    /// A connection proved steady.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Wait of a device after so many refusals in a row: between half of a bound that doubles and the bound.
    pub(super) fn hold_ms(&mut self, no_subscriber: bool, in_a_row: u32) -> u64 {
        let limits = if no_subscriber {
            NO_SUBSCRIBER_MS
        } else {
            REFUSED_MS
        };
        let bound = doubled(limits, in_a_row.saturating_sub(1));
        bound / 2 + self.below(bound / 2 + 1)
    }

    /// `splitmix64` (Steele, Lea, Flood 2014); the bias of the remainder does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn doubled((first, last): (u64, u64), times: u32) -> u64 {
    // 16 doublings reach the limit of every wait and overflow none.
    (first << times.min(16)).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_never_beyond() {
        let mut backoff = Backoff::new(1);
        let longest = (0..200).map(|_| backoff.connect_ms()).max().unwrap();
        assert!((15_000..=30_000).contains(&longest), "{longest}");
        assert!(backoff.hold_ms(true, 1) <= 500 && backoff.hold_ms(true, 90) >= 4_000);
        backoff.reset();
        assert!(backoff.connect_ms() <= 100);
    }
}
