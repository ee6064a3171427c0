//! Whether a receiver is good: what one of its fixes is worth, and what follows from fix after fix.
//!
//! Promises that what was stored does not count as fresh, and that no clock that is set, here or in a receiver, keeps a
//! vehicle from a good one for longer than a stated time.

use serde::{Deserialize, Serialize};

use crate::classifier::hygiene::{self, Rejection};
use crate::classifier::rule::RuleSet;
use crate::frame::{Frame, FrameFlags};

/// What a fix may be behind, at least, ms: receivers differ by a second, and times are stated in whole ones.
const LAG_MIN_MS: i64 = 2_000;

/// A reception that lies so far ahead was noted before the clock was set back, ms. Less is the order in which rings are
/// read.
const CLOCK_BACK_MS: i64 = 60_000;

/// Whether a receiver gives fresh valid fixes. Times are of reception, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Good {
    /// Never so far.
    Never,
    /// It did when the state was written down; what is heard first says when now is.
    Restored,
    /// Last at `last_ms`, and without a break since `since_ms`; none: no longer.
    Until { since_ms: Option<i64>, last_ms: i64 },
}

/// The newest fix of any receiver, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// Its own time.
    pub time_ms: i64,
    /// Its reception.
    pub received_ms: i64,
}

/// What a frame's fix is worth to the choice of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Valid and of now; its time, ms.
    Fresh(i64),
    /// Valid and stored, or sent late; its time, ms.
    Stored(i64),
    /// The receiver says that it has none.
    Lost,
    /// It is no report of a position at all.
    None,
}

impl Sight {
    /// What a frame's fix is worth. By a synchronised clock it is of now if it came soon after it was computed; a clock
    /// that is wrong, and a log that is replayed, leave the newest fix of any receiver to compare it with.
    pub fn of(frame: &Frame, newest: Option<Newest>, rules: &RuleSet) -> Sight {
        let time = hygiene::time_of(frame, rules.future_max_ms);
        let time_ms = match time.and_then(|time_ms| hygiene::usable(&frame.fix).map(|_| time_ms)) {
            Ok(time_ms) => time_ms,
            Err(Rejection::NoTime) if hygiene::shown(&frame.fix).is_err() => return Sight::None,
            Err(_) => return Sight::Lost,
        };
        let lag_ms = rules.fail_over_ms.max(LAG_MIN_MS);
        let synced = !frame.flags.has(FrameFlags::CLOCK_UNSYNCED);
        let soon = synced && frame.received_ms.saturating_sub(time_ms) <= lag_ms;
        let newest = newest.is_none_or(|newest| time_ms >= newest.time_ms.saturating_sub(lag_ms));
        if frame.flags.has(FrameFlags::BACKLOG) || !(soon || newest) {
            Sight::Stored(time_ms)
        } else {
            Sight::Fresh(time_ms)
        }
    }

    /// The time of a valid fix, ms.
    pub fn time_ms(self) -> Option<i64> {
        match self {
            Sight::Fresh(time_ms) | Sight::Stored(time_ms) => Some(time_ms),
            Sight::Lost | Sight::None => None,
        }
    }
}

impl Good {
    /// Whether a fresh fix came within the stated time.
    pub fn is_fresh(self, now_ms: i64, after_ms: i64) -> bool {
        match self {
            Good::Never => false,
            Good::Restored => true,
            Good::Until { last_ms, .. } => {
                (-CLOCK_BACK_MS..=after_ms).contains(&now_ms.saturating_sub(last_ms))
            }
        }
    }

    /// Whether it was so without a break for the whole time before which a better receiver does not take back.
    pub fn is_steady(self, now_ms: i64, after_ms: i64) -> bool {
        let Good::Until { since_ms, .. } = self else {
            return false;
        };
        since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= after_ms)
    }

    /// How it is after what came at `now_ms`.
    pub fn after(self, sight: Sight, now_ms: i64, after_ms: i64) -> Good {
        match (self, sight) {
            (_, Sight::Fresh(_)) => {
                let unbroken = match self {
                    Good::Until { since_ms, .. } if self.is_fresh(now_ms, after_ms) => since_ms,
                    _ => None,
                };
                // Begun after now: the clock was set back.
                let since_ms = unbroken.filter(|&since_ms| since_ms <= now_ms);
                Good::Until {
                    since_ms: since_ms.or(Some(now_ms)),
                    last_ms: now_ms,
                }
            }
            (Good::Until { last_ms, .. }, Sight::Lost) => Good::Until {
                since_ms: None,
                last_ms,
            },
            (good, _) => good,
        }
    }
}

impl Newest {
    /// The newest after a valid fix. One that is not outdone within the stated time counts no more: its clock was
    /// ahead.
    pub fn of(before: Option<Newest>, time_ms: i64, received_ms: i64, after_ms: i64) -> Newest {
        let stands = before.filter(|newest| {
            let age_ms = received_ms.saturating_sub(newest.received_ms);
            newest.time_ms > time_ms && (-CLOCK_BACK_MS..=after_ms).contains(&age_ms)
        });
        stands.unwrap_or(Newest {
            time_ms,
            received_ms,
        })
    }
}
