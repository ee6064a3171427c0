//! One clock for all threads of a run, and when each message was sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock.
pub type Nanos = u64;

/// Nanoseconds of the monotonic clock now.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// The same clock's reading at an [`Instant`] that is not in the future.
pub fn at(instant: Instant) -> Nanos {
    now() - instant.elapsed().as_nanos() as u64
}

/// Messages of one device whose send times are kept.
const SENT_MAX: usize = 16;

/// Bits of a send time; the rest is the low part of the message's number.
const TIME_BITS: u32 = 48;

/// When the newest messages of each device were sent; written by the fleet, read by receivers.
#[derive(Debug)]
pub struct Sent {
    since: Nanos,
    times: Vec<[AtomicU64; SENT_MAX]>,
}

impl Sent {
    /// Nothing was sent yet.
    pub fn new(devices: u32) -> Sent {
        Sent {
            since: now(),
            times: (0..devices).map(|_| Default::default()).collect(),
        }
    }

    /// Notes that a message is sent now, at `time`.
    pub fn note(&self, device: u32, number: u32, time: Nanos) {
        let mark = u64::from(number as u16) << TIME_BITS;
        let word = mark | (time - self.since);
        // Release: whoever gets the message through the kernel reads the time with acquire.
        self.times[device as usize][number as usize % SENT_MAX].store(word, Ordering::Release);
    }

    /// When a message was sent; `None` if it never was or is too long ago.
    pub fn time(&self, device: u32, number: u32) -> Option<Nanos> {
        let times = self.times.get(device as usize)?;
        let word = times[number as usize % SENT_MAX].load(Ordering::Acquire);
        let noted = word != 0 && word >> TIME_BITS == u64::from(number as u16);
        noted.then(|| self.since + (word & ((1 << TIME_BITS) - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_time_is_forgotten_once_its_place_is_taken() {
        let sent = Sent::new(2);
        let time = now() + 5;
        sent.note(1, 3, time);
        assert_eq!(sent.time(1, 3), Some(time));
        assert_eq!((sent.time(0, 3), sent.time(2, 3)), (None, None));
        sent.note(1, 3 + SENT_MAX as u32, time + 1);
        assert_eq!(sent.time(1, 3), None);
    }
}
