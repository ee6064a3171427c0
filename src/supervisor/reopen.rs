//! When a feed is opened again, and how (pure).
//!
//! A feed that ended by itself after it was sound is opened again at once; one that cannot be opened, or of which
//! nothing can be read, after a pause that doubles each time.

use std::time::Duration;

use crate::role::FeedEnd;

/// First pause.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Longest pause: what a line that was plugged in again waits at most.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often a feed failed lately, and which of its variants is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reopen {
    pause_max: Duration,
    failures: u32,
    sound: bool,
    variant: usize,
}

impl Default for Reopen {
    fn default() -> Reopen {
        Reopen::up_to(PAUSE_MAX)
    }
}

impl Reopen {
    /// With a longest pause of its own.
    pub fn up_to(pause_max: Duration) -> Reopen {
        Reopen {
            pause_max,
            failures: 0,
            sound: false,
            variant: 0,
        }
    }

    /// Which variant to open, of so many: the rates of a serial line.
    pub fn variant(&self, variants: usize) -> usize {
        self.variant % variants.max(1)
    }

    /// It is sound as it is.
    pub fn sound(&mut self) {
        self.sound = true;
        self.failures = 0;
    }

    /// It ended; the pause before it is opened again.
    pub fn ended(&mut self, why: FeedEnd) -> Duration {
        let sound = std::mem::take(&mut self.sound);
        match why {
            FeedEnd::Unreadable if !sound => {
                // The next one at once: a receiver speaks once a second.
                self.variant += 1;
                Duration::ZERO
            }
            FeedEnd::Closed if sound => Duration::ZERO,
            _ => self.failed(),
        }
    }

    /// It could not be opened, or did not last; the pause before the next try.
    pub fn failed(&mut self) -> Duration {
        let pause = PAUSE_MIN * 2u32.pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        pause.min(self.pause_max)
    }

    /// How often it failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_over_once_it_was_sound() {
        let mut reopen = Reopen::default();
        let pauses: Vec<_> = (0..6).map(|_| reopen.failed().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 2_000, 2_000]);
        reopen.sound();
        assert_eq!(reopen.ended(FeedEnd::Closed), Duration::ZERO);
        assert_eq!(reopen.ended(FeedEnd::Closed), PAUSE_MIN);
    }

    #[test]
    fn a_longest_pause_of_ones_own_is_kept() {
        let mut reopen = Reopen::up_to(Duration::from_secs(30));
        let pauses: Vec<_> = (0..9).map(|_| reopen.failed().as_millis()).collect();
        assert_eq!(pauses[5..], [8_000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn the_next_variant_is_tried_until_one_is_sound_which_is_kept() {
        let mut reopen = Reopen::default();
        reopen.ended(FeedEnd::Unreadable);
        assert_eq!(reopen.variant(3), 1);
        reopen.sound();
        reopen.ended(FeedEnd::Broken);
        assert_eq!(reopen.variant(3), 1);
        reopen.ended(FeedEnd::Unreadable);
        reopen.ended(FeedEnd::Unreadable);
        assert_eq!(reopen.variant(3), 0);
    }
}
