//! How long a sleeper may look for work instead of sleeping (pure).
//!
//! A nap costs several microseconds even if there is work again by the time it begins. Where frames come as fast as they
//! are taken, looking a little longer is cheaper than a nap and sooner than its end; everywhere else it burns a core.
//! So looking is earned by working, a tenth of it, and only done while the last wait found work without any sleep.

use std::time::Duration;

/// Of the time worked, one part in this many may be spent on looking.
const SHARE: u32 = 10;

/// Longest look: twice of what the nap costs that it saves.
const LOOK_MAX: Duration = Duration::from_micros(20);

/// A look shorter than this is not worth its clock readings.
const LOOK_MIN: Duration = Duration::from_micros(2);

/// Time saved up for looking.
#[derive(Debug, Default)]
pub(super) struct SpinBudget {
    saved: Duration,
    hot: bool,
}

impl SpinBudget {
    /// Earns by work and returns how long to look now; zero: not at all.
    pub fn grant(&mut self, worked: Duration) -> Duration {
        self.saved = (self.saved + worked / SHARE).min(LOOK_MAX);
        if self.hot && self.saved >= LOOK_MIN {
            self.saved
        } else {
            Duration::ZERO
        }
    }

    /// A look took so long.
    pub fn spend(&mut self, looked: Duration) {
        self.saved = self.saved.saturating_sub(looked);
    }

    /// How the wait ended: with work at once, or only after a sleep.
    pub fn ended(&mut self, at_once: bool) {
        self.hot = at_once;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_spent_unless_the_last_wait_ended_at_once() {
        let mut budget = SpinBudget::default();
        assert_eq!(budget.grant(LONG), Duration::ZERO);
        budget.ended(true);
        assert_eq!(budget.grant(LONG), LOOK_MAX);
        budget.ended(false);
        assert_eq!(budget.grant(LONG), Duration::ZERO);
    }

    #[test]
    fn no_more_than_a_tenth_of_the_work_is_spent() {
        let mut budget = SpinBudget::default();
        let (mut worked, mut looked) = (Duration::ZERO, Duration::ZERO);
        for work_us in [3, 40, 7, 90, 1, 1, 250, 5_000, 2] {
            let work = Duration::from_micros(work_us);
            budget.ended(true);
            let look = budget.grant(work);
            budget.spend(look);
            worked += work;
            looked += look;
            assert!(looked <= worked / SHARE);
        }
        assert!(looked >= LOOK_MAX, "a long piece of work earns a look");
    }

    #[test]
    fn a_look_that_overran_leaves_nothing_saved() {
        let mut budget = SpinBudget::default();
        budget.ended(true);
        budget.grant(LONG);
        budget.spend(LONG);
        assert_eq!(budget.grant(Duration::ZERO), Duration::ZERO);
    }
}
