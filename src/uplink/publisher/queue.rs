//! The unconfirmed records, in one line a device: whose turn it is next, and who has to wait.
//!
//! Only the head of a line is ever taken, and the next only after the head is finished: that is the whole of the order
//! per device. Lines take turns within two lanes: *live* for devices that reported something new while connected, and
//! the *backlog*.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::frame::DeviceId;

/// Records of a device that a live alarm pulls out of the backlog with it; a longer line stays there.
pub(super) const PULLED_RECORDS_MAX: usize = 64;

/// Which of two queues a device waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Live = 0,
    Backlog = 1,
}

impl Lane {
    pub(super) const COUNT: usize = 2;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the turns of its lane.
    Waiting,
    /// Its head was taken.
    Taken,
    /// Not before a time.
    Held,
}

/// The records of one device, oldest first; never empty.
#[derive(Debug)]
struct Line {
    seqs: VecDeque<u64>,
    lane: Lane,
    place: Place,
    /// Times that the head was sent.
    attempts: u32,
    refused: Refused,
}

/// How often the broker refused the head of a line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refused {
    /// For any reason.
    pub(super) in_a_row: u32,
    /// For a reason that speaks of the message itself.
    pub(super) blamed: u32,
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: HashMap<DeviceId, Line>,
    /// Entries of a device that has moved on are passed over.
    turns: [VecDeque<DeviceId>; Lane::COUNT],
    held: BTreeSet<(u64, DeviceId)>,
    records: usize,
}

impl Queue {
    /// Records in all lines.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Lines whose head was refused and waits.
    pub(super) fn held_devices(&self) -> usize {
        self.held.len()
    }

    /// Adds a record to the end of its device's line.
    pub(super) fn push(&mut self, seq: u64, device: DeviceId, lane: Lane) {
        self.records += 1;
        match self.lines.entry(device) {
            Entry::Vacant(vacant) => {
                vacant.insert(Line {
                    seqs: VecDeque::from([seq]),
                    lane,
                    place: Place::Waiting,
                    attempts: 0,
                    refused: Refused::default(),
                });
                self.turns[lane as usize].push_back(device);
            }
            Entry::Occupied(mut occupied) => {
                let line = occupied.get_mut();
                debug_assert!(line.seqs.back() < Some(&seq), "sequences grow");
                line.seqs.push_back(seq);
                let pulled = lane == Lane::Live && line.seqs.len() <= PULLED_RECORDS_MAX;
                if pulled && line.lane == Lane::Backlog {
                    line.lane = Lane::Live;
                    if line.place == Place::Waiting {
                        self.turns[Lane::Live as usize].push_back(device);
                    }
                }
            }
        }
    }

    /// A new connection: everything that is not held waits again in the backlog, oldest first.
    pub(super) fn restart(&mut self) {
        let mut order = Vec::with_capacity(self.lines.len());
        for (&device, line) in &mut self.lines {
            line.lane = Lane::Backlog;
            if line.place != Place::Held {
                line.place = Place::Waiting;
                order.push((line.seqs[0], device));
            }
        }
        order.sort_unstable();
        let backlog = order.into_iter().map(|(_, device)| device).collect();
        self.turns = [VecDeque::new(), backlog];
    }

    /// Takes the head of the next line of a lane; the line waits until it is finished or held.
    pub(super) fn take(&mut self, lane: Lane) -> Option<(u64, DeviceId)> {
        while let Some(device) = self.turns[lane as usize].pop_front() {
            if let Some(line) = self.lines.get_mut(&device)
                && line.place == Place::Waiting
                && line.lane == lane
            {
                line.place = Place::Taken;
                return Some((line.seqs[0], device));
            }
        }
        None
    }

    /// Whether some line could be taken.
    pub(super) fn has_turn(&self) -> bool {
        let waits = |device| {
            let line: Option<&Line> = self.lines.get(device);
            line.is_some_and(|line| line.place == Place::Waiting)
        };
        self.turns.iter().flatten().any(waits)
    }

    /// Counts a sending of the head and returns the count.
    pub(super) fn attempt(&mut self, device: DeviceId) -> u32 {
        let line = self.line(device);
        line.attempts += 1;
        line.attempts
    }

    /// Counts a refusal of the head.
    pub(super) fn refuse(&mut self, device: DeviceId, blamed: bool) -> Refused {
        let refused = &mut self.line(device).refused;
        refused.in_a_row += 1;
        refused.blamed += u32::from(blamed);
        *refused
    }

    /// The head is done with; the next of the line gets its turn after the others.
    pub(super) fn finish(&mut self, device: DeviceId) {
        self.records -= 1;
        let line = self.line(device);
        line.seqs.pop_front();
        line.place = Place::Waiting;
        line.attempts = 0;
        line.refused = Refused::default();
        let lane = line.lane;
        if line.seqs.is_empty() {
            self.lines.remove(&device);
        } else {
            self.turns[lane as usize].push_back(device);
        }
    }

    /// The head is not to be taken before `until_ms`.
    pub(super) fn hold(&mut self, device: DeviceId, until_ms: u64) {
        self.line(device).place = Place::Held;
        self.held.insert((until_ms, device));
    }

    /// When the next held line is released.
    pub(super) fn release_ms(&self) -> Option<u64> {
        self.held.first().map(|&(until_ms, _)| until_ms)
    }

    /// Lets the lines wait again whose time has come.
    pub(super) fn release(&mut self, now_ms: u64) {
        while let Some(&(until_ms, device)) = self.held.first()
            && until_ms <= now_ms
        {
            self.held.pop_first();
            let line = self.line(device);
            line.place = Place::Waiting;
            let lane = line.lane;
            self.turns[lane as usize].push_back(device);
        }
    }

    fn line(&mut self, device: DeviceId) -> &mut Line {
        self.lines
            .get_mut(&device)
            .expect("a device with an unconfirmed record has a line")
    }
}
