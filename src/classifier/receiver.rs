//! Which of a vehicle's receivers counts: of several that report under one device id, the best by rank that gives fresh
//! valid fixes. Pure; what is known of each is part of the device's state.
//!
//! Promises that at any time the fixes of one rank move track and rules, that a worse one takes over only when the one
//! in use gave no fresh fix for a stated time, and that a better one takes back only after having given them for that
//! long. What a receiver reports itself counts whatever its rank is: each is judged against its own reports before, and
//! an alarm that one holds lasts until that one ends it. Receivers of equal rank are one here.
//!
//! A device heard through one rank only costs four bytes and no look at any clock.

use serde::{Deserialize, Serialize};

use crate::frame::{Alarms, DEVICE_RULE, Frame, FrameFlags};

use super::alarm::Alarming;
use super::hygiene::{self, Rejection};
use super::rule::RuleSet;
use super::state::DeviceState;

/// Ranks known of one device. Of more, the worst are not remembered: they never count, and each report of theirs is
/// judged as if it were the first.
pub const RECEIVERS_MAX: usize = 4;

/// What a fix may be behind, at least, ms: receivers differ by a second, and times are stated in whole ones.
const LAG_MIN_MS: i64 = 2_000;

/// A reception that lies so far ahead was noted before the clock was set back, ms. Less is the order in which rings are
/// read.
const CLOCK_BACK_MS: i64 = 60_000;

/// The receivers of one vehicle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receivers {
    /// Rank of the one in use; 0 before the first report.
    used: u8,
    /// All of them, once there are two.
    heard: Vec<Receiver>,
    /// The newest fix of any.
    newest: Option<Newest>,
    /// Where the one in use took over.
    seam: Option<Seam>,
}

/// One receiver, or all of one rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Receiver {
    rank: u8,
    good: Good,
    reported: Reported,
}

/// Whether a receiver gives fresh valid fixes. Times are of reception, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Good {
    /// Never so far.
    Never,
    /// It did when the state was written down; what is heard first says when now is.
    Restored,
    /// Last at `last_ms`, and without a break since `since_ms`; none: no longer.
    Until { since_ms: Option<i64>, last_ms: i64 },
}

/// What a receiver reported last, as [`super::state::Course`] has it of a device with one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// Time of its newest report, ms.
    pub report_ms: Option<i64>,
    /// Momentary alarms of that report.
    pub momentary: Alarms,
    /// Alarms that it holds.
    pub held: Alarms,
}

/// The newest fix of any receiver, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    time_ms: i64,
    received_ms: i64,
}

/// Where one receiver took over from another, in fix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seam {
    /// Rank of the one before.
    former: u8,
    /// Time of its last fix that counted, ms. Up to here nothing of the one in use counts.
    until_ms: i64,
    /// Time of the first fix of the one in use, ms. From here on nothing of the former counts.
    from_ms: i64,
}

/// What a frame counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Rank of its receiver.
    pub rank: u8,
    /// Whether its position does.
    pub counts: bool,
    /// Whether its receiver took over with it.
    pub change: Option<Change>,
}

/// A take-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A worse receiver is used from now on.
    Worse,
    /// A better one is.
    Better,
}

/// What a frame's fix is worth to the choice of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
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
    fn time_ms(self) -> Option<i64> {
        match self {
            Sight::Fresh(time_ms) | Sight::Stored(time_ms) => Some(time_ms),
            Sight::Lost | Sight::None => None,
        }
    }
}

impl Good {
    fn is_fresh(self, now_ms: i64, after_ms: i64) -> bool {
        match self {
            Good::Never => false,
            Good::Restored => true,
            Good::Until { last_ms, .. } => {
                (-CLOCK_BACK_MS..=after_ms).contains(&now_ms.saturating_sub(last_ms))
            }
        }
    }

    /// Whether it was so without a break for the whole time before which a better receiver does not take back.
    fn is_steady(self, now_ms: i64, after_ms: i64) -> bool {
        let Good::Until { since_ms, .. } = self else {
            return false;
        };
        since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= after_ms)
    }

    fn after(self, sight: Sight, now_ms: i64, after_ms: i64) -> Good {
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

impl Receivers {
    /// What a receiver reported last; none if only one is known, whose reports the device's course tells.
    pub fn reported(&self, rank: u8) -> Option<Reported> {
        self.get(rank).map(|receiver| receiver.reported)
    }

    /// Notes what a receiver reported last.
    pub fn note_reported(&mut self, rank: u8, reported: Reported) {
        if let Some(receiver) = self.heard.iter_mut().find(|r| r.rank == rank) {
            receiver.reported = reported;
        }
    }

    /// Alarms that the receivers of other ranks hold.
    pub fn held_by_others(&self, rank: u8) -> Alarms {
        let others = self.heard.iter().filter(|r| r.rank != rank);
        Alarms(others.fold(0, |held, r| held | r.reported.held.0))
    }

    /// Takes up where another run ended: the receiver in use is given as long to be heard as ever, and the clocks of
    /// before say nothing.
    pub fn begin_anew(&mut self) {
        self.newest = None;
        for receiver in &mut self.heard {
            receiver.good = if receiver.rank == self.used {
                Good::Restored
            } else {
                Good::Never
            };
        }
    }

    /// Forgets which buttons were pressed.
    pub fn forget_what_went_on(&mut self) {
        for receiver in &mut self.heard {
            receiver.reported.momentary = Alarms::default();
        }
    }

    /// Bytes by which what is there may still grow: longer times and sets, a seam and a newest fix that are not known
    /// yet.
    pub fn growth_bytes(&self) -> usize {
        if self.heard.is_empty() {
            return 0;
        }
        let seam = self.seam.map_or(15, |_| 2);
        let newest = self.newest.map_or(14, |_| 2);
        // Each time by a byte, a rank known for nothing by three times, both sets by five bytes of the first 35 kinds.
        let receivers = self.heard.iter().map(|r| match r.good {
            Good::Until { .. } => 3 + 10,
            Good::Never | Good::Restored => 3 * 7 + 10,
        });
        // The jumps of both courses, which a seam sets.
        let jumps = 2 * 4;
        seam + newest + jumps + receivers.sum::<usize>()
    }

    fn get(&self, rank: u8) -> Option<&Receiver> {
        self.heard.iter().find(|receiver| receiver.rank == rank)
    }

    fn is_fresh(&self, rank: u8, now_ms: i64, after_ms: i64) -> bool {
        self.get(rank)
            .is_some_and(|receiver| receiver.good.is_fresh(now_ms, after_ms))
    }

    /// What a frame's fix is worth. By a synchronised clock it is of now if it came soon after it was computed; a clock
    /// that is wrong, and a log that is replayed, leave the newest fix of any receiver to compare it with.
    fn sight(&self, frame: &Frame, rules: &RuleSet) -> Sight {
        let time = hygiene::time_of(frame, rules.future_max_ms);
        let time_ms = match time.and_then(|time_ms| hygiene::usable(&frame.fix).map(|_| time_ms)) {
            Ok(time_ms) => time_ms,
            Err(Rejection::NoTime) if hygiene::shown(&frame.fix).is_err() => return Sight::None,
            Err(_) => return Sight::Lost,
        };
        let lag_ms = rules.fail_over_ms.max(LAG_MIN_MS);
        let synced = !frame.flags.has(FrameFlags::CLOCK_UNSYNCED);
        let soon = synced && frame.received_ms.saturating_sub(time_ms) <= lag_ms;
        let newest = self
            .newest
            .is_none_or(|newest| time_ms >= newest.time_ms.saturating_sub(lag_ms));
        if frame.flags.has(FrameFlags::BACKLOG) || !(soon || newest) {
            Sight::Stored(time_ms)
        } else {
            Sight::Fresh(time_ms)
        }
    }

    fn note(&mut self, rank: u8, sight: Sight, now_ms: i64, after_ms: i64) {
        for receiver in &mut self.heard {
            if receiver.good == Good::Restored {
                receiver.good = Good::Until {
                    since_ms: None,
                    last_ms: now_ms,
                };
            }
            if receiver.rank == rank {
                receiver.good = receiver.good.after(sight, now_ms, after_ms);
            }
        }
        if let Some(time_ms) = sight.time_ms() {
            let outdone = |newest: &Newest| {
                let age_ms = now_ms.saturating_sub(newest.received_ms);
                time_ms >= newest.time_ms || !(-CLOCK_BACK_MS..=after_ms).contains(&age_ms)
            };
            if self.newest.as_ref().is_none_or(outdone) {
                self.newest = Some(Newest {
                    time_ms,
                    received_ms: now_ms,
                });
            }
        }
    }

    /// Whether a receiver takes over with a fix: from one that gives none, if the fix is ahead and no better receiver
    /// gives any; from a worse one after having been good for long.
    fn takes_over(&self, rank: u8, sight: Sight, ahead: bool, now_ms: i64, after_ms: i64) -> bool {
        if rank == self.used {
            return false;
        }
        if self.is_fresh(self.used, now_ms, after_ms) {
            let steady = |r: &Receiver| r.good.is_steady(now_ms, after_ms);
            return rank < self.used
                && matches!(sight, Sight::Fresh(_))
                && self.get(rank).is_some_and(steady);
        }
        let mut better = self.heard.iter().filter(|r| r.rank < rank);
        ahead && !better.any(|r| r.good.is_fresh(now_ms, after_ms))
    }

    /// Whether the position of a frame of that time counts. What the former receiver stored in its own time does; its
    /// live fixes do not, though its clock may be behind.
    fn counts(&self, rank: u8, sight: Sight, time_ms: Option<i64>) -> bool {
        let stored = matches!(sight, Sight::Stored(_));
        match (self.seam, time_ms) {
            (Some(seam), Some(time_ms)) if rank == self.used => time_ms > seam.until_ms,
            (Some(seam), Some(time_ms)) => stored && rank == seam.former && time_ms < seam.from_ms,
            _ => rank == self.used,
        }
    }
}

impl Turn {
    /// The turn of a device's only receiver.
    pub fn alone(rank: u8) -> Turn {
        Turn {
            rank,
            counts: true,
            change: None,
        }
    }
}

impl DeviceState {
    /// Hears a frame that came by a receiver of this rank: who is used from now on, and what the frame counts for.
    /// Hearing it again on the state after changes nothing more.
    pub fn hear(&mut self, frame: &Frame, rank: u8, rules: &RuleSet) -> Turn {
        if self.receivers.used == 0 {
            self.receivers.used = rank;
        }
        if self.receivers.heard.is_empty() && self.receivers.used == rank {
            return Turn::alone(rank);
        }
        let mut turn = Turn {
            counts: false,
            ..Turn::alone(rank)
        };
        if !self.know(rank, frame.received_ms) {
            return turn;
        }
        let (now_ms, after_ms) = (frame.received_ms, rules.fail_over_ms);
        let receivers = &mut self.receivers;
        let sight = receivers.sight(frame, rules);
        receivers.note(rank, sight, now_ms, after_ms);
        let place = self.memory.live.place;
        let time_ms = sight.time_ms();
        let ahead = time_ms.is_some_and(|time_ms| place.is_none_or(|p| time_ms > p.time_ms));
        if let Some(from_ms) = time_ms
            && receivers.takes_over(rank, sight, ahead, now_ms, after_ms)
        {
            let former = std::mem::replace(&mut receivers.used, rank);
            receivers.seam = place.map(|place| Seam {
                former,
                until_ms: place.time_ms,
                from_ms,
            });
            turn.change = Some(if rank < former {
                Change::Better
            } else {
                Change::Worse
            });
            self.memory.live.pass_on();
            self.memory.history.pass_on();
        }
        let time = hygiene::time_of(frame, rules.future_max_ms);
        turn.counts = self.receivers.counts(rank, sight, time.ok());
        turn
    }

    /// Knows of a receiver of this rank from now on, if there is room for it; whether it does.
    fn know(&mut self, rank: u8, now_ms: i64) -> bool {
        if self.receivers.get(rank).is_some() {
            return true;
        }
        let before = self.receivers.clone();
        if self.receivers.heard.is_empty() {
            let first = self.only_receiver(now_ms);
            self.receivers.heard.push(first);
        }
        let receivers = &mut self.receivers;
        if receivers.heard.len() == RECEIVERS_MAX {
            let idle = receivers.heard.iter().filter(|r| r.rank != receivers.used);
            let worst = idle.map(|r| r.rank).max().filter(|&worst| worst > rank);
            let Some(worst) = worst else { return false };
            receivers.heard.retain(|r| r.rank != worst);
        }
        receivers.heard.push(Receiver {
            rank,
            good: Good::Never,
            reported: Reported::default(),
        });
        let fits = self.make_room();
        if !fits {
            self.receivers = before;
        }
        fits
    }

    /// The receiver that was the only one until now, as the device's course tells it. How it does now will be seen.
    fn only_receiver(&self, now_ms: i64) -> Receiver {
        let live = &self.memory.live;
        let alarming = Alarming {
            state: self,
            at_ms: now_ms,
            late: false,
            backwards: false,
        };
        let open = alarming.open().filter(|(_, rule, _)| *rule == DEVICE_RULE);
        Receiver {
            rank: self.receivers.used,
            good: match live.place {
                Some(_) => Good::Until {
                    since_ms: None,
                    last_ms: now_ms,
                },
                None => Good::Never,
            },
            reported: Reported {
                report_ms: live.report_ms,
                momentary: live.momentary,
                held: open.map(|(kind, _, _)| kind).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
