//! Room for what a device owes: a device that raises more at once than it may owe (a stored batch in which an alarm
//! comes and goes, a dozen messages in one packet) waits for the journal's next commits rather than being refused and
//! judged again as late.
//!
//! Promises that this wait is short and rare: at most [`LOOKS_MAX`] looks for one frame, at most a fifth of the time in
//! all, and none while the uplink is silent. Without patience left the frame is refused, as ever.

use std::time::Duration;

use super::super::fleet::Berth;
use super::Pipeline;
use crate::sys::fail::{self, Point};

/// Time between two looks for outcomes: a small part of a commit.
const LOOK: Duration = Duration::from_micros(50);

/// Looks for one frame: about 100 ms, many commits of a healthy journal.
const LOOKS_MAX: u32 = 2_000;

/// Looks that may be saved up.
const SAVED_LOOKS_MAX: u32 = 2 * LOOKS_MAX;

/// One look is granted for this much time, ns: five times of what it takes.
const LOOK_EVERY_NS: u64 = 250_000;

/// How long the classifier may still wait for the uplink.
#[derive(Debug)]
pub struct Patience {
    looks: u32,
    granted_ns: u64,
    /// The last wait was for nothing, and no outcome has come since.
    silent: bool,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            looks: SAVED_LOOKS_MAX,
            granted_ns: 0,
            silent: false,
        }
    }
}

impl Patience {
    /// The uplink lives.
    pub fn outcomes_come(&mut self) {
        self.silent = false;
    }

    /// None at all, for tests that shall not wait.
    #[cfg(test)]
    pub fn none() -> Patience {
        Patience {
            looks: 0,
            granted_ns: u64::MAX,
            silent: false,
        }
    }

    /// Looks that a frame may take now.
    fn grant(&mut self, now_ns: u64) -> u32 {
        let earned = now_ns.saturating_sub(self.granted_ns) / LOOK_EVERY_NS;
        let looks = u64::from(self.looks) + earned;
        self.looks = u32::try_from(looks).map_or(SAVED_LOOKS_MAX, |n| n.min(SAVED_LOOKS_MAX));
        self.granted_ns = now_ns;
        if self.silent {
            0
        } else {
            self.looks.min(LOOKS_MAX)
        }
    }
}

impl Pipeline {
    /// Sends what was found so far and waits until the device owes less; `false` if that takes too long. The message
    /// stays open: its first records alone do not answer it.
    pub(super) fn make_room(&mut self, at: usize, message: usize, berth: Berth) -> bool {
        let owed = |pipeline: &Pipeline| pipeline.fleet.state(berth).memory.owed.len();
        let looks = self.patience.grant((self.clock)());
        // Of a device that owes nothing no outcome makes room.
        if looks == 0 || owed(self) == 0 {
            return false;
        }
        self.commit_outputs(at);
        fail::pass(Point::ClassifierRoom);
        if self.batch.messages[message].kept_open.is_none()
            && self.batch.messages[message].sent > 0
            && let Some(origin) = self.origin(at, message)
        {
            self.custody.keep_open(origin);
            self.batch.messages[message].kept_open = Some(origin);
        }
        let before = owed(self);
        for look in 1..=looks {
            self.pass_outcomes();
            if owed(self) < before {
                self.patience.looks -= look;
                return true;
            }
            std::thread::sleep(LOOK);
        }
        self.patience.looks -= looks;
        self.patience.silent = true;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_earned_slowly_and_bounded() {
        let mut patience = Patience::default();
        assert_eq!(patience.grant(0), LOOKS_MAX);
        patience.looks = 0;
        assert_eq!(patience.grant(10 * LOOK_EVERY_NS), 10);
        assert_eq!(patience.grant(u64::MAX), LOOKS_MAX);
        assert_eq!(patience.looks, SAVED_LOOKS_MAX);
    }

    #[test]
    fn a_silent_uplink_is_not_waited_for_until_it_speaks() {
        let mut patience = Patience {
            silent: true,
            ..Patience::default()
        };
        assert_eq!(patience.grant(0), 0);
        patience.outcomes_come();
        assert_eq!(patience.grant(0), LOOKS_MAX);
    }
}
