//! What a child writes down about itself, in memory that outlives it: where it is in its work, what it found wrong, and
//! (the consumer) which frames it took.
//!
//! A frame is noted by one store, so that a kill at any instant leaves it noted or not, and nothing in between. The
//! parent checks the notes after each kill; the consumer never runs further ahead of that than there is room for notes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ringway::ring::Violation;
use ringway::sys::region::{self, WriteRegion};

/// Frames that can be noted before the parent has checked them.
pub const NOTES: u64 = 1 << 15;

const PHASE: usize = 0;
const FAULT: usize = 1;
const FAULT_AT: usize = 2;
const SLEPT_THROUGH: usize = 3;
const NAPS: usize = 4;
const VIOLATION: usize = 5;
const SERVING: usize = 6;
const CHECKED: usize = 8;
const FIRST_NOTE: usize = 16;

/// Kinds of things, each of which can be stored as a word and found again by it.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $kind:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u64)]
        pub enum $name {
            $($(#[$what])* $kind = $word,)*
        }

        impl $name {
            fn of(word: u64) -> Option<$name> {
                [$($name::$kind,)*].into_iter().find(|kind| *kind as u64 == word)
            }
        }
    };
}

words! {
    /// Where a child is in its work.
    Phase {
        /// It has not begun to attach.
        Starting = 0,
        Attaching = 1,
        /// Between two other phases.
        Between = 2,
        Publishing = 3,
        /// It polls for what the other side has to do.
        Polling = 4,
        Napping = 5,
        /// It reads frames.
        Draining = 6,
        /// Between the last frame of a batch and the move of the head.
        Answering = 7,
    }
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Attaching => "attaching",
            Phase::Between => "between",
            Phase::Publishing => "publishing",
            Phase::Polling => "polling",
            Phase::Napping => "napping",
            Phase::Draining => "draining",
            Phase::Answering => "answering",
        }
    }
}

words! {
    /// What a child may find wrong.
    Fault {
        /// It did not resume where its predecessor stopped.
        Resume = 1,
        /// The ring could not be attached to.
        Attach = 2,
        /// The consumer calls its honest producer a liar.
        Violation = 3,
        /// A frame is not as it was written.
        Torn = 4,
        /// A frame is not the one that comes next, or not of that message.
        Order = 5,
        /// A part of a message is there and another is not.
        Split = 6,
        /// The answer of a message that is free is missing or wrong.
        Answer = 7,
    }
}

words! {
    /// A [`Violation`] without its numbers.
    ViolationKind {
        Tail = 1,
        Sequence = 2,
        Generation = 3,
        Length = 4,
        Checksum = 5,
    }
}

impl From<Violation> for ViolationKind {
    fn from(violation: Violation) -> ViolationKind {
        match violation {
            Violation::Tail { .. } => ViolationKind::Tail,
            Violation::Sequence { .. } => ViolationKind::Sequence,
            Violation::Generation { .. } => ViolationKind::Generation,
            Violation::Length { .. } => ViolationKind::Length,
            Violation::Checksum { .. } => ViolationKind::Checksum,
        }
    }
}

/// A child's ledger, as the child and the parent have it.
pub struct Ledger {
    region: WriteRegion,
}

impl Ledger {
    /// Memory for one.
    pub fn create() -> OwnedFd {
        region::create("ring-ledger", (FIRST_NOTE + NOTES as usize) * 8).unwrap()
    }

    pub fn map(fd: BorrowedFd<'_>) -> Ledger {
        Ledger {
            region: WriteRegion::map(fd.as_fd(), 0).unwrap(),
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.region.store(PHASE, phase as u64, Relaxed);
    }

    pub fn phase(&self) -> Phase {
        Phase::of(self.region.load(PHASE, Relaxed)).unwrap()
    }

    /// Notes what is wrong; the first fault stays. The child ends after it.
    pub fn fault(&self, fault: Fault, at: u64) {
        if self.region.load(FAULT, Relaxed) == 0 {
            self.region.store(FAULT_AT, at, Relaxed);
            self.region.store(FAULT, fault as u64, Release);
        }
    }

    pub fn found(&self) -> Option<(Fault, u64)> {
        let fault = Fault::of(self.region.load(FAULT, Acquire))?;
        Some((fault, self.region.load(FAULT_AT, Relaxed)))
    }

    /// Notes that a whole backstop was slept although there was work.
    pub fn slept_through(&self) {
        self.region.fetch_add(SLEPT_THROUGH, 1, Relaxed);
    }

    /// How often that was since the last call.
    pub fn take_slept_through(&self) -> u64 {
        let count = self.region.load(SLEPT_THROUGH, Relaxed);
        self.region.store(SLEPT_THROUGH, 0, Relaxed);
        count
    }

    pub fn napped(&self) {
        self.region.fetch_add(NAPS, 1, Relaxed);
    }

    pub fn naps(&self) -> u64 {
        self.region.load(NAPS, Relaxed)
    }

    /// Notes that a frame was taken, by one store: its sequence, and how often it was taken so far.
    pub fn take(&self, seq: u64) {
        let times = self.taken(seq) + 1;
        self.region
            .store(note(seq), seq << 8 | times.min(255), Release);
    }

    /// Times that a frame was taken.
    pub fn taken(&self, seq: u64) -> u64 {
        let note = self.region.load(note(seq), Acquire);
        if note >> 8 == seq { note & 255 } else { 0 }
    }

    /// Checks that the frames of a range were taken; returns how often one was taken again.
    ///
    /// # Errors
    /// The sequence of the first one that was not.
    pub fn check(&self, free: std::ops::Range<u64>) -> Result<u64, u64> {
        let end = free.end;
        let mut again = 0;
        for seq in free {
            again += self.taken(seq).checked_sub(1).ok_or(seq)?;
        }
        self.region.store(CHECKED, end, Release);
        Ok(again)
    }

    /// Whether a frame may be taken before the parent has checked more.
    pub fn has_room_for(&self, seq: u64) -> bool {
        seq < self.region.load(CHECKED, Acquire) + NOTES
    }

    /// Notes that a hostile producer was found out; `birth` tells whose ring it was.
    pub fn note_violation(&self, birth: u64, kind: ViolationKind) {
        self.region
            .store(VIOLATION, birth << 8 | kind as u64, Release);
    }

    /// What was found on the ring of that birth.
    pub fn violation(&self, birth: u64) -> Option<ViolationKind> {
        let word = self.region.load(VIOLATION, Acquire);
        (word >> 8 == birth)
            .then(|| ViolationKind::of(word & 255))
            .flatten()
    }

    /// Notes which ring the consumer reads beside the honest one.
    pub fn note_serving(&self, birth: u64) {
        self.region.store(SERVING, birth, Release);
    }

    pub fn serving(&self) -> u64 {
        self.region.load(SERVING, Acquire)
    }
}

fn note(seq: u64) -> usize {
    FIRST_NOTE + (seq % NOTES) as usize
}
