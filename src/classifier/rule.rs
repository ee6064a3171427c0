//! What is looked for: the configured rules, prepared once, and the overspeed rule (faster than a limit in every fix
//! over at least some time, with hysteresis).

use crate::config::{Fence, JumpRule, OverspeedRule, Rules};

use super::fence::Circle;

/// The overspeed rule's name in events.
pub const OVERSPEED: &str = "overspeed";

/// The rules and fences of a run, prepared for judging.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// Overspeed, if looked for.
    pub overspeed: Option<OverspeedRule>,
    /// Jumps.
    pub jump: JumpRule,
    /// A fix this far ahead of the clock is a clock fault, ms.
    pub future_max_ms: u64,
    /// After so long without a fresh fix of the receiver in use, the next one is, ms.
    pub fail_over_ms: i64,
    /// Fences, in the order of the configuration.
    pub fences: Vec<Circle>,
}

impl RuleSet {
    /// Prepares what was configured.
    pub fn new(rules: &Rules, fences: &[Fence]) -> RuleSet {
        RuleSet {
            overspeed: rules.overspeed,
            jump: rules.jump,
            future_max_ms: rules.future_max_ms,
            fail_over_ms: i64::try_from(rules.fail_over_ms).unwrap_or(i64::MAX),
            fences: fences.iter().map(Circle::new).collect(),
        }
    }
}

/// What one fix means to the overspeed rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speeding {
    /// Not faster than allowed.
    No,
    /// Faster since this time, ms, but not yet for long enough.
    Since(i64),
    /// To be raised; the first fix that was faster had this time, ms.
    Raise(i64),
    /// Raised before and not over.
    Stays,
    /// To be cleared.
    Clear,
}

impl Speeding {
    /// Judges a fix of `time_ms` and `speed_mm_s`. `since_ms` is the first fix of an unbroken run above the limit that
    /// was not raised yet, `raised` whether the alarm is open.
    pub fn judge(
        rule: &OverspeedRule,
        since_ms: Option<i64>,
        raised: bool,
        time_ms: i64,
        speed_mm_s: u32,
    ) -> Speeding {
        if raised {
            let over = speed_mm_s >= rule.limit_mm_s.saturating_sub(rule.hysteresis_mm_s);
            return if over {
                Speeding::Stays
            } else {
                Speeding::Clear
            };
        }
        if speed_mm_s <= rule.limit_mm_s {
            return Speeding::No;
        }
        let start_ms = since_ms.unwrap_or(time_ms);
        if time_ms.saturating_sub(start_ms) >= i64::try_from(rule.for_ms).unwrap_or(i64::MAX) {
            Speeding::Raise(start_ms)
        } else {
            Speeding::Since(start_ms)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: OverspeedRule = OverspeedRule {
        limit_mm_s: 20_000,
        for_ms: 5_000,
        hysteresis_mm_s: 1_000,
    };

    fn judge(since: Option<i64>, raised: bool, time_ms: i64, speed: u32) -> Speeding {
        Speeding::judge(&RULE, since, raised, time_ms, speed)
    }

    #[test]
    fn the_limit_itself_is_allowed_and_one_allowed_fix_starts_over() {
        assert_eq!(judge(Some(0), false, 4_000, 20_000), Speeding::No);
        assert_eq!(judge(None, false, 4_000, 20_001), Speeding::Since(4_000));
    }

    #[test]
    fn it_is_raised_at_the_first_fix_that_completes_the_time() {
        assert_eq!(
            judge(Some(1_000), false, 5_999, 21_000),
            Speeding::Since(1_000)
        );
        assert_eq!(
            judge(Some(1_000), false, 6_000, 21_000),
            Speeding::Raise(1_000)
        );
    }

    #[test]
    fn it_is_cleared_only_below_the_hysteresis() {
        assert_eq!(judge(None, true, 0, 19_000), Speeding::Stays);
        assert_eq!(judge(None, true, 0, 18_999), Speeding::Clear);
    }

    #[test]
    fn without_a_duration_the_first_fix_raises() {
        let rule = OverspeedRule { for_ms: 0, ..RULE };
        assert_eq!(
            Speeding::judge(&rule, None, false, 7, 20_001),
            Speeding::Raise(7)
        );
    }
}
