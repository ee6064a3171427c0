//! When a feed is opened again, and how (pure).
//!
//! One whose end is no fault is opened again at once, and so is one at its next rate; one that cannot be opened, does
//! not last, or gives nothing that can be read, after a pause that doubles each time.

use std::time::Duration;

use crate::role::FeedEnd;

/// First pause.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Longest pause: what a line that was plugged in again waits at most.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often a feed failed lately, and which of its variants is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reopen {
    /// Ways to open it: the rates of a serial line.
    variants: usize,
    pause_max: Duration,
    /// Writers come and go: their end is no fault.
    shared: bool,
    failures: u32,
    sound: bool,
    variant: usize,
}

impl Reopen {
    /// Of a feed that was never open; `shared`: by writers that come and go.
    pub fn new(variants: usize, shared: bool) -> Reopen {
        Reopen {
            variants: variants.max(1),
            pause_max: PAUSE_MAX,
            shared,
            failures: 0,
            sound: false,
            variant: 0,
        }
    }

    /// With a longest pause of its own.
    pub fn up_to(pause_max: Duration) -> Reopen {
        Reopen {
            pause_max,
            ..Reopen::new(1, false)
        }
    }

    /// Which variant to open.
    pub fn variant(&self) -> usize {
        self.variant
    }

    /// It is sound as it is.
    pub fn sound(&mut self) {
        self.sound = true;
    }

    /// It ended after it was open for `lasted`; the pause before it is opened again.
    pub fn ended(&mut self, why: FeedEnd, lasted: Duration) -> Duration {
        let sound = std::mem::take(&mut self.sound);
        if sound && (self.shared || lasted >= PAUSE_MAX) {
            self.failures = 0;
        }
        match why {
            FeedEnd::Closed if sound && self.shared => Duration::ZERO,
            FeedEnd::Unreadable if !sound && self.variants > 1 => {
                self.variant = (self.variant + 1) % self.variants;
                match self.variant {
                    // None of them is it: the line may be noise.
                    0 => self.failed(),
                    _ => Duration::ZERO,
                }
            }
            _ => self.failed(),
        }
    }

    /// It could not be opened, or did not last; the pause before the next try.
    pub fn failed(&mut self) -> Duration {
        let pause = PAUSE_MIN * 2u32.pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        pause.min(self.pause_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_up_to_a_limit_and_start_over_once_it_was_sound_for_a_while() {
        let mut reopen = Reopen::new(1, false);
        let pauses: Vec<_> = (0..6).map(|_| reopen.failed().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 2_000, 2_000]);
        reopen.sound();
        assert_eq!(reopen.ended(FeedEnd::Closed, LONG), PAUSE_MIN);
    }

    #[test]
    fn a_longest_pause_of_ones_own_is_kept() {
        let mut reopen = Reopen::up_to(Duration::from_secs(30));
        let pauses: Vec<_> = (0..9).map(|_| reopen.failed().as_millis()).collect();
        assert_eq!(pauses[5..], [8_000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn what_greets_and_hangs_up_at_once_waits_longer_each_time() {
        let mut reopen = Reopen::new(1, false);
        let pauses = (0..3).map(|_| {
            reopen.sound();
            reopen.ended(FeedEnd::Closed, SHORT).as_millis()
        });
        assert_eq!(pauses.collect::<Vec<_>>(), [250, 500, 1_000]);
    }

    #[test]
    fn what_writers_share_is_opened_again_at_once_unless_they_wrote_rubbish() {
        let mut reopen = Reopen::new(1, true);
        for _ in 0..3 {
            reopen.sound();
            assert_eq!(reopen.ended(FeedEnd::Closed, SHORT), Duration::ZERO);
        }
        assert_eq!(reopen.ended(FeedEnd::Unreadable, SHORT), PAUSE_MIN);
        assert_eq!(reopen.ended(FeedEnd::Unreadable, SHORT), 2 * PAUSE_MIN);
    }

    #[test]
    fn the_next_variant_is_tried_at_once_until_one_is_sound_which_is_kept() {
        let mut reopen = Reopen::new(3, false);
        assert_eq!(reopen.ended(FeedEnd::Unreadable, SHORT), Duration::ZERO);
        assert_eq!(reopen.variant(), 1);
        reopen.sound();
        reopen.ended(FeedEnd::Broken, LONG);
        assert_eq!(reopen.variant(), 1);
        reopen.ended(FeedEnd::Unreadable, SHORT);
        assert_eq!(reopen.variant(), 2);
        // Silence says nothing about the rate.
        reopen.ended(FeedEnd::Broken, LONG);
        assert_eq!(reopen.variant(), 2);
    }

    #[test]
    fn when_no_variant_is_right_there_is_a_pause_between_rounds() {
        let mut reopen = Reopen::new(2, false);
        let pauses = (0..4).map(|_| reopen.ended(FeedEnd::Unreadable, SHORT).as_millis());
        assert_eq!(pauses.collect::<Vec<_>>(), [0, 250, 0, 500]);
    }
}
