//! Which of a vehicle's receivers counts: of several that report under one device id, the best by rank that gives fresh
//! valid fixes. Pure; what is known of each is part of the device's state.
//!
//! Promises that at any time the fixes of one rank move track and rules, that a worse one takes over only when the one
//! in use gave no fresh fix for a stated time, and that a better one takes back only after having given them for that
//! long. What a receiver reports itself counts whatever its rank is: each is judged against its own reports before, and
//! an alarm that one holds lasts until that one ends it. Receivers of equal rank are one here.
//!
//! A device heard through one rank only costs four bytes and no look at any clock.

mod good;

use serde::{Deserialize, Serialize};

use crate::frame::{AlarmKind, Alarms, DEVICE_RULE, Frame};

use super::alarm::Alarming;
use super::hygiene;
use super::rule::RuleSet;
use super::state::DeviceState;
use good::{Good, Newest, Sight};

/// Ranks known of one device. Of more, the worst are not remembered: they never count, and each report of theirs is
/// judged as if it were the first.
pub const RECEIVERS_MAX: usize = 4;

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

    /// Takes up where another run ended, with sensors of these ranks: the receiver in use is given as long to be heard
    /// as ever, and the clocks of before say nothing. What a receiver held that is gone ends with the next report.
    pub fn begin_anew(&mut self, ranks: &[u8]) {
        self.newest = None;
        self.heard.retain(|receiver| ranks.contains(&receiver.rank));
        if !ranks.contains(&self.used) {
            self.used = 0;
        }
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
        // Each time by a byte, a rank known for nothing by three times; of both sets, seven kinds a byte.
        let sets = 2 * (AlarmKind::ALL.len().div_ceil(7) - 1);
        let receivers = self.heard.iter().map(|r| match r.good {
            Good::Until { .. } => 3 + sets,
            Good::Never | Good::Restored => 3 * 7 + sets,
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

    /// Notes what a receiver gives.
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
            self.newest = Some(Newest::of(self.newest, time_ms, now_ms, after_ms));
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
        if !self.know(rank) {
            return turn;
        }
        let (now_ms, after_ms) = (frame.received_ms, rules.fail_over_ms);
        let receivers = &mut self.receivers;
        let sight = Sight::of(frame, receivers.newest, rules);
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
            // Whoever takes over does not wait for what another one is to send again.
            self.memory.gap = None;
        }
        let time = hygiene::time_of(frame, rules.future_max_ms);
        turn.counts = self.receivers.counts(rank, sight, time.ok());
        turn
    }

    /// Knows of a receiver of this rank from now on, if there is room for it; whether it does.
    fn know(&mut self, rank: u8) -> bool {
        if self.receivers.get(rank).is_some() {
            return true;
        }
        let before = self.receivers.clone();
        if self.receivers.heard.is_empty() {
            let first = self.only_receiver();
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

    /// The receiver that was the only one until now, as the device's state tells it.
    fn only_receiver(&self) -> Receiver {
        let live = &self.memory.live;
        let alarming = Alarming {
            state: self,
            at_ms: 0,
            late: false,
            backwards: false,
        };
        let open = alarming.open().filter(|(_, rule, _)| *rule == DEVICE_RULE);
        Receiver {
            rank: self.receivers.used,
            good: match live.place {
                Some(_) => Good::Until {
                    since_ms: None,
                    last_ms: self.public.received_ms,
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
