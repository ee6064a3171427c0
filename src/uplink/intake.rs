//! The alarm ring: records out, outcomes back.
//!
//! Records are gathered into one batch while another is with the journal. Outcomes are set in the order of the ring once
//! the commit returned, and only then are the slots free; a record that cannot be used is refused like one that has no
//! room, so that nothing ever waits behind it.

use crate::frame::Event;
use crate::ring::{Consumer, Outcome, Violation};
use crate::sys::fail::{self, Point};

use super::journal::{COMMIT_RECORDS_MAX, Entry, Refusal, Verdict};

/// Why a record was refused before the journal saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is the next entry of the batch.
    Asked,
    /// It does not parse.
    Bad,
    /// No broker would take it.
    Large,
}

/// Records of the ring that are together in a batch.
#[derive(Debug, Default)]
struct Gathered {
    first_seq: u64,
    fates: Vec<Fate>,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }
}

/// What became of a batch's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// New in the journal.
    pub accepted: u64,
    /// In the journal already.
    pub repeated: u64,
    /// No room in the journal.
    pub full: u64,
    /// No room on the disk.
    pub disk: u64,
    /// Too large for the broker.
    pub large: u64,
    /// Did not parse.
    pub bad: u64,
}

/// The consumer's side of the ring.
pub struct Intake {
    ring: Consumer,
    /// Sequence of the next record to read; those before it are gathered, with the journal, or done.
    next_seq: u64,
    record: Vec<u8>,
    gathered: Gathered,
    /// The records whose commit is under way.
    committing: Gathered,
}

impl Intake {
    /// Goes on where the ring's head is.
    pub fn new(ring: Consumer) -> Intake {
        Intake {
            next_seq: ring.head(),
            ring,
            record: Vec::new(),
            gathered: Gathered::default(),
            committing: Gathered::default(),
        }
    }

    /// The ring.
    pub fn ring(&self) -> &Consumer {
        &self.ring
    }

    /// Whether the batch being gathered takes more records.
    pub fn has_room(&self) -> bool {
        self.gathered.fates.len() < COMMIT_RECORDS_MAX
    }

    /// Whether the batch being gathered has any records.
    pub fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Whether a record was taken from the ring whose outcome is not set.
    pub fn is_busy(&self) -> bool {
        !self.gathered.is_empty() || !self.committing.is_empty()
    }

    /// Records in the ring whose outcome is not set, as far as the ring can be believed.
    pub fn unsettled(&mut self) -> u64 {
        match self.ring.available() {
            Ok(count) => count,
            Err(_) => self.ring.tail() - self.ring.head(),
        }
    }

    /// Reads what is in the ring into `entries`, as far as the batch has room. `fits` says whether a broker would take
    /// an event.
    ///
    /// # Errors
    /// The producer's violation; what was read before it stays gathered.
    pub fn gather(
        &mut self,
        entries: &mut Vec<Entry>,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<(), Violation> {
        self.ring.available()?;
        if self.gathered.is_empty() {
            self.gathered.first_seq = self.next_seq;
        }
        while self.has_room() && self.next_seq < self.ring.tail() {
            self.ring.read(self.next_seq, &mut self.record)?;
            self.next_seq += 1;
            let fate = match Event::decode(&self.record) {
                Ok(event) if fits(&event) => {
                    let body = self.record.clone();
                    entries.push(Entry { event, body });
                    Fate::Asked
                }
                Ok(_) => Fate::Large,
                Err(_) => Fate::Bad,
            };
            self.gathered.fates.push(fate);
            fail::pass(Point::UplinkTaken);
        }
        Ok(())
    }

    /// What was gathered goes to the journal.
    ///
    /// # Panics
    /// When the batch before it is still there.
    pub fn commit_begins(&mut self) {
        assert!(
            self.committing.is_empty(),
            "one batch is with the journal at a time"
        );
        std::mem::swap(&mut self.gathered, &mut self.committing);
    }

    /// The journal has spoken: sets the outcomes, frees the slots, wakes the producer.
    pub fn settle(&mut self, verdicts: &[Verdict]) -> Tally {
        let mut tally = Tally::default();
        let mut verdicts = verdicts.iter();
        let slots = u64::from(self.ring.identity().geometry.slots);
        let mut seq = self.committing.first_seq;
        for fate in self.committing.fates.drain(..) {
            let verdict = match fate {
                Fate::Asked => verdicts.next().expect("the journal judges every entry"),
                Fate::Large => &Verdict::Refused(Refusal::Size),
                Fate::Bad => {
                    tally.bad += 1;
                    &Verdict::Refused(Refusal::Size)
                }
            };
            let outcome = match verdict {
                Verdict::Accepted(_) | Verdict::Known => Outcome::Accepted,
                Verdict::Refused(_) => Outcome::Refused,
            };
            match verdict {
                Verdict::Accepted(_) => tally.accepted += 1,
                Verdict::Known => tally.repeated += 1,
                Verdict::Refused(Refusal::Full) => tally.full += 1,
                Verdict::Refused(Refusal::Disk) => tally.disk += 1,
                Verdict::Refused(Refusal::Size) => tally.large += u64::from(fate == Fate::Large),
            }
            self.ring
                .set_outcome((seq & (slots - 1)) as u32, seq, outcome);
            fail::pass(Point::UplinkOutcome);
            seq += 1;
        }
        if seq > self.ring.head() {
            fail::pass(Point::UplinkOutcomes);
            self.ring.advance(seq);
            fail::pass(Point::UplinkHead);
        }
        self.ring.wake_producer();
        tally
    }
}
