//! Who waits for what: the records on the uplink's ring whose outcome is not known yet, and the messages that are
//! answered by them. Pure bookkeeping; ring and answer tables are read and written by the caller.
//!
//! Promises: a message is accepted when all of its records have an outcome and those that bind it are accepted, refused
//! as soon as one of these is, and answered once. A record's slot is kept ([`Custody::hold`]) until its outcome was
//! passed on, so that a successor of this process finds all that was not. Bounded by the slots of the uplink's ring.

use std::collections::{HashMap, VecDeque};

use crate::frame::{DeviceId, EventId, Origin};

/// A record on the uplink's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The event in it.
    pub event: EventId,
    /// Whose event.
    pub device: DeviceId,
    /// The message that waits for it, if one does.
    pub origin: Option<Origin>,
    /// Whether that message is refused with it; if not, it waits for any outcome.
    pub binds: bool,
}

/// A message that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    records: u32,
    refused: bool,
}

/// What to do now that an outcome is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The record.
    pub record: Record,
    /// Whether it is safe.
    pub accepted: bool,
    /// The message to answer, and whether it is accepted.
    pub answer: Option<(Origin, bool)>,
}

/// Records without an outcome and the messages that wait for them.
#[derive(Debug, Default)]
pub struct Custody {
    /// Records from sequence `first` on; `None` once settled.
    records: VecDeque<Option<Record>>,
    first: u64,
    waiting: HashMap<Origin, Waiting>,
    in_flight: HashMap<EventId, u32>,
}

impl Custody {
    /// Notes a record at `seq`, which is beyond all noted before.
    pub fn sent(&mut self, seq: u64, record: Record) {
        if self.records.is_empty() {
            self.first = seq;
        }
        let next = self.first + self.records.len() as u64;
        assert!(seq >= next, "sequences grow");
        // Sequences left out belong to records of a predecessor that need nothing any more.
        self.records.extend((next..seq).map(|_| None));
        self.records.push_back(Some(record));
        *self.in_flight.entry(record.event).or_insert(0) += 1;
        if let Some(origin) = record.origin {
            let waiting = self.waiting.entry(origin).or_insert(Waiting {
                records: 0,
                refused: false,
            });
            waiting.records += 1;
        }
    }

    /// Keeps a message from being answered until [`Custody::close`], because more records of it may follow.
    pub fn keep_open(&mut self, origin: Origin) {
        let waiting = self.waiting.entry(origin).or_insert(Waiting {
            records: 0,
            refused: false,
        });
        waiting.records += 1;
    }

    /// No more records of a message follow, and without them it would be `accepted`; the answer, if it is known now.
    pub fn close(&mut self, origin: Origin, accepted: bool) -> Option<(Origin, bool)> {
        self.pass_on(origin, accepted)
    }

    /// Sequences of the records without an outcome, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = u64> {
        let pending = (self.first..).zip(&self.records);
        pending.filter_map(|(seq, record)| record.map(|_| seq))
    }

    /// Whether no record is without an outcome.
    pub fn is_idle(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether a record of this event is on its way.
    pub fn is_in_flight(&self, event: EventId) -> bool {
        self.in_flight.contains_key(&event)
    }

    /// Takes in the outcome of a pending record; `None` if it is not pending.
    pub fn settle(&mut self, seq: u64, accepted: bool) -> Option<Settled> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let record = self.records.get_mut(at)?.take()?;
        while let Some(None) = self.records.front() {
            self.records.pop_front();
            self.first += 1;
        }
        if let Some(count) = self.in_flight.get_mut(&record.event) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&record.event);
            }
        }
        let answer = record
            .origin
            .and_then(|origin| self.pass_on(origin, accepted || !record.binds));
        Some(Settled {
            record,
            accepted,
            answer,
        })
    }

    /// The first sequence whose slot must be kept; `tail` when none must.
    pub fn hold(&self, tail: u64) -> u64 {
        if self.records.is_empty() {
            tail
        } else {
            self.first
        }
    }

    fn pass_on(&mut self, origin: Origin, accepted: bool) -> Option<(Origin, bool)> {
        let waiting = self.waiting.get_mut(&origin)?;
        waiting.records -= 1;
        let told = waiting.refused;
        waiting.refused |= !accepted;
        let (left, refused) = (waiting.records, waiting.refused);
        if left == 0 {
            self.waiting.remove(&origin);
        }
        match (told, refused, left) {
            (true, _, _) => None,
            (false, true, _) => Some((origin, false)),
            (false, false, 0) => Some((origin, true)),
            (false, false, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(event: u8, message: Option<u64>) -> Record {
        Record {
            event: EventId([event; 16]),
            device: DeviceId::new(b"1").unwrap(),
            origin: message.map(|first_seq| Origin {
                ring: 1,
                birth: 1,
                first_seq,
                answer_index: 0,
            }),
            binds: true,
        }
    }

    fn answer(settled: Option<Settled>) -> Option<(u64, bool)> {
        settled
            .and_then(|s| s.answer)
            .map(|(o, yes)| (o.first_seq, yes))
    }

    #[test]
    fn a_message_is_accepted_with_its_last_record() {
        let mut custody = Custody::default();
        custody.sent(10, record(1, Some(5)));
        custody.sent(11, record(2, Some(5)));
        assert_eq!(answer(custody.settle(11, true)), None);
        assert_eq!(custody.hold(12), 10);
        assert_eq!(answer(custody.settle(10, true)), Some((5, true)));
        assert_eq!((custody.hold(12), custody.is_idle()), (12, true));
    }

    #[test]
    fn a_message_is_refused_with_its_first_refused_record_and_only_once() {
        let mut custody = Custody::default();
        (0..3).for_each(|seq| custody.sent(seq, record(seq as u8, Some(5))));
        assert_eq!(answer(custody.settle(0, true)), None);
        assert_eq!(answer(custody.settle(1, false)), Some((5, false)));
        assert_eq!(answer(custody.settle(2, false)), None);
        assert_eq!(custody.settle(2, true), None, "an outcome counts once");
    }

    #[test]
    fn an_event_is_in_flight_while_any_record_of_it_is() {
        let mut custody = Custody::default();
        custody.sent(0, record(7, None));
        custody.sent(1, record(7, Some(1)));
        custody.settle(0, false);
        assert!(custody.is_in_flight(EventId([7; 16])));
        custody.settle(1, true);
        assert!(!custody.is_in_flight(EventId([7; 16])));
    }

    #[test]
    fn a_message_kept_open_is_not_answered_by_its_first_records() {
        let mut custody = Custody::default();
        let first = record(1, Some(5));
        custody.sent(0, first);
        custody.keep_open(first.origin.unwrap());
        assert_eq!(answer(custody.settle(0, true)), None);
        custody.sent(1, record(2, Some(5)));
        assert_eq!(custody.close(first.origin.unwrap(), true), None);
        assert_eq!(answer(custody.settle(1, true)), Some((5, true)));
    }

    #[test]
    fn gaps_that_a_predecessor_left_hold_nothing() {
        let mut custody = Custody::default();
        custody.sent(3, record(1, None));
        custody.sent(7, record(2, None));
        assert_eq!(custody.pending().collect::<Vec<_>>(), [3, 7]);
        custody.settle(3, true);
        assert_eq!(custody.hold(8), 7);
    }

    proptest! {
        #[test]
        fn every_message_is_answered_once_and_truly(
            records in proptest::collection::vec((0..6_u64, any::<bool>()), 1..40),
            order in any::<u64>(),
        ) {
            let mut custody = Custody::default();
            for (seq, (message, _)) in (0..).zip(&records) {
                custody.sent(seq, record(seq as u8, Some(*message)));
            }
            let mut sequences: Vec<u64> = (0..records.len() as u64).collect();
            sequences.sort_by_key(|seq| (seq ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut answers = HashMap::new();
            for seq in sequences {
                if let Some((message, yes)) = answer(custody.settle(seq, records[seq as usize].1)) {
                    prop_assert_eq!(answers.insert(message, yes), None);
                }
            }
            for (message, _) in &records {
                let all = records.iter().filter(|r| r.0 == *message).all(|r| r.1);
                prop_assert_eq!(answers.get(message), Some(&all));
            }
            prop_assert!(custody.is_idle() && custody.waiting.is_empty() && custody.in_flight.is_empty());
        }
    }
}
