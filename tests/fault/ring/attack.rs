//! What a producer that was taken over does with the memory and the bells that it holds.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fcntl};
use ringway::ring::{Producer, RingFds};
use ringway::sys::region::WriteRegion;
use serde::{Deserialize, Serialize};

use super::message::{HEAD_BYTES, Head};
use crate::harness::layout::{self, producer as word};
use crate::stand::Chance;

/// Frames that a producer publishes before it turns, or beside its attack where that must do no harm.
pub const VALID_FRAMES: u64 = 40;

/// Between two looks at what the other side did.
const PAUSE: Duration = Duration::from_micros(200);

/// What must come of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The consumer finds it out.
    Caught,
    /// All valid frames are taken, and nothing is found.
    Harmless,
}

/// One way to attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attack {
    /// Random words over the whole region, tail and naps too, at full speed.
    ScribbleAll,
    /// Random words over the slots while valid frames are published there.
    ScribbleSlots,
    /// Random words over the records only, so that headers stay good.
    ScribbleRecords,
    TailBack,
    /// Back and forth over frames that are all good and in range.
    TailWavers,
    TailZero,
    TailFar,
    TailMax,
    TailRandom,
    /// A thread switches the tail between a lie and the truth.
    TailFlips,
    /// In range, over slots that nobody wrote.
    TailUnwritten,
    /// The same, over slots of the lap before.
    TailOldLap,
    LengthLong,
    LengthHuge,
    /// A thread switches a length while the consumer reads.
    LengthFlips,
    /// A thread changes bytes while the consumer reads.
    RecordFlips,
    SequenceOther,
    GenerationZero,
    GenerationFuture,
    GenerationFalls,
    ChecksumWrong,
    ByteChanged,
    /// A slot whose length was shortened without a new checksum.
    LengthShort,
    PunchHole,
    /// Holes are punched while valid frames are published.
    PunchHoles,
    ExitTailAhead,
    ExitTailBeyond,
    SaturateBells,
    /// Fills the bells and makes them files that block whoever writes to them.
    BlockBells,
    /// Fills and reads the bells at full speed.
    EatBells,
    NapsLie,
    NapMax,
    ResyncFloods,
    CloseEarly,
    StopInPublish,
}

impl Attack {
    pub const ALL: [(Attack, Expected); 35] = {
        use Expected::{Caught, Harmless};
        [
            (Attack::ScribbleAll, Caught),
            (Attack::ScribbleSlots, Caught),
            (Attack::ScribbleRecords, Caught),
            (Attack::TailBack, Caught),
            (Attack::TailWavers, Caught),
            (Attack::TailZero, Caught),
            (Attack::TailFar, Caught),
            (Attack::TailMax, Caught),
            (Attack::TailRandom, Caught),
            (Attack::TailFlips, Caught),
            (Attack::TailUnwritten, Caught),
            (Attack::TailOldLap, Caught),
            (Attack::LengthLong, Caught),
            (Attack::LengthHuge, Caught),
            (Attack::LengthFlips, Caught),
            (Attack::RecordFlips, Caught),
            (Attack::SequenceOther, Caught),
            (Attack::GenerationZero, Caught),
            (Attack::GenerationFuture, Caught),
            (Attack::GenerationFalls, Caught),
            (Attack::ChecksumWrong, Caught),
            (Attack::ByteChanged, Caught),
            (Attack::LengthShort, Caught),
            (Attack::PunchHole, Caught),
            (Attack::PunchHoles, Caught),
            (Attack::ExitTailAhead, Caught),
            (Attack::ExitTailBeyond, Caught),
            (Attack::SaturateBells, Harmless),
            (Attack::BlockBells, Harmless),
            (Attack::EatBells, Harmless),
            (Attack::NapsLie, Harmless),
            (Attack::NapMax, Harmless),
            (Attack::ResyncFloods, Harmless),
            (Attack::CloseEarly, Harmless),
            (Attack::StopInPublish, Harmless),
        ]
    };
}

/// What a hostile child is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Task {
    pub attack: Attack,
    pub seed: u64,
}

/// Attacks until killed, but for the attacks that end by themselves.
pub fn run(task: Task, fds: Vec<OwnedFd>) {
    let fds = RingFds::take(&mut fds.into_iter()).expect("the descriptors of a ring");
    let mut attacker = Attacker::new(&fds, task.seed);
    attacker.publish(VALID_FRAMES / 2);
    attacker.await_taken();
    attacker.attack(task.attack);
}

/// A producer in foreign hands: an honest one, and its memory to write as it likes.
struct Attacker<'a> {
    fds: &'a RingFds,
    producer: Producer,
    memory: WriteRegion,
    slots: u32,
    stride: u32,
    chance: Chance,
}

impl<'a> Attacker<'a> {
    fn new(fds: &'a RingFds, seed: u64) -> Attacker<'a> {
        let producer = Producer::attach(fds).expect("a ring");
        let geometry = producer.identity().geometry;
        Attacker {
            fds,
            memory: WriteRegion::map(fds.producer_region.as_fd(), 0).expect("memory of its own"),
            producer,
            slots: geometry.slots,
            stride: geometry.stride,
            chance: Chance::new(seed),
        }
    }

    fn attack(&mut self, attack: Attack) {
        let tail = self.producer.tail();
        let slots = u64::from(self.slots);
        let first = word::FIRST_SLOT;
        match attack {
            Attack::ScribbleAll => self.scribble(0, 1),
            Attack::ScribbleSlots => self.beside(Attacker::publish_on, |it| it.scribble(first, 1)),
            Attack::ScribbleRecords => {
                self.beside(Attacker::publish_on, |it| it.scribble_records());
            }
            Attack::TailBack => self.lie(tail - 3),
            Attack::TailWavers => {
                for seq in tail..tail + slots {
                    self.write_frame(seq, self.producer.generation());
                }
                loop {
                    for tail in [tail + slots, tail + slots / 2] {
                        self.lie(tail);
                    }
                }
            }
            Attack::TailZero => self.lie(0),
            Attack::TailFar => self.lie(tail + slots + 1),
            Attack::TailMax => self.lie(u64::MAX),
            Attack::TailRandom => loop {
                let lie = self.random();
                self.commit(lie);
            },
            Attack::TailFlips => loop {
                for tail in [tail + slots * 5, tail] {
                    self.commit(tail);
                }
            },
            Attack::TailUnwritten => self.lie(tail + 3),
            Attack::TailOldLap => {
                // Everything was written and taken once, so that each slot holds a good frame of a lap ago.
                self.publish(2 * slots);
                self.await_taken();
                self.lie(self.producer.tail() + 1);
            }
            Attack::LengthLong => self.slot(|words, bytes_max| words[2] = bytes_max + 1),
            Attack::LengthHuge => self.slot(|words, _| words[2] = u64::MAX),
            Attack::LengthFlips => self.flip(2, |word| word.wrapping_sub(1)),
            Attack::RecordFlips => self.flip(5, |word| word ^ 0x0100_0000),
            Attack::SequenceOther => self.slot(|words, _| words[0] += 1),
            Attack::GenerationZero => self.forge(0),
            Attack::GenerationFuture => self.forge(self.producer.generation() + 1),
            Attack::GenerationFalls => self.forge(self.producer.generation() - 1),
            Attack::ChecksumWrong => self.slot(|words, _| words[3] ^= 1),
            Attack::ByteChanged => self.slot(|words, _| words[5] ^= 1 << 40),
            Attack::LengthShort => self.slot(|words, _| words[2] -= 1),
            Attack::PunchHole => {
                self.write_frame(tail, self.producer.generation());
                self.punch();
                self.lie(tail + 1);
            }
            Attack::PunchHoles => self.beside(Attacker::publish_on, |it| {
                loop {
                    it.punch();
                }
            }),
            Attack::ExitTailAhead => self.commit(tail + slots),
            Attack::ExitTailBeyond => self.commit(tail + slots + 1),
            Attack::SaturateBells => {
                self.fill_bells();
                self.publish(VALID_FRAMES / 2);
            }
            Attack::BlockBells => {
                self.fill_bells();
                for bell in self.bells() {
                    // The flags belong to the file: whoever else has it finds them so.
                    let _ = fcntl(bell, FcntlArg::F_SETFL(OFlag::empty()));
                }
                self.beside(Attacker::commit_slowly, |it| it.lie_about_naps());
            }
            Attack::EatBells => self.beside(Attacker::publish_slowly, |it| {
                loop {
                    it.fill_bells();
                    it.empty_bells();
                }
            }),
            Attack::NapsLie => self.beside(Attacker::publish_slowly, |it| it.lie_about_naps()),
            Attack::NapMax => {
                self.memory.store(word::WAKE_AT, 0, Relaxed);
                self.memory.store(word::WANTS_ANSWERS, 1, Relaxed);
                self.memory.store(word::NAP, u64::MAX, Release);
                self.publish(VALID_FRAMES / 2);
            }
            Attack::ResyncFloods => self.beside(Attacker::publish_slowly, |it| {
                loop {
                    it.memory.fetch_add(word::RESYNC, 1, Release);
                }
            }),
            Attack::CloseEarly => {
                self.memory.store(word::CLOSED, 1, Release);
                self.ring();
                self.publish(VALID_FRAMES / 2);
            }
            Attack::StopInPublish => {
                self.publish(VALID_FRAMES / 2);
                self.write_frame(self.producer.tail(), self.producer.generation());
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).expect("a signal");
            }
        }
        // Not the end of the process, which the parent would take for part of the attack.
        let exits = matches!(attack, Attack::ExitTailAhead | Attack::ExitTailBeyond);
        while !exits && std::os::unix::process::parent_id() > 1 {
            std::thread::sleep(PAUSE);
        }
    }

    /// Publishes frames that are good, waiting for room.
    fn publish(&mut self, frames: u64) {
        let mut record = Vec::new();
        for _ in 0..frames {
            self.head(self.producer.tail()).encode(48, &mut record);
            while self.producer.try_publish(&[&record], true).is_err() {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// As an attack runs beside it; until killed.
    fn publish_on(&mut self) {
        loop {
            self.publish(1);
        }
    }

    /// The valid frames that must be taken whatever runs beside them.
    fn publish_slowly(&mut self) {
        for _ in 0..VALID_FRAMES / 2 {
            self.publish(1);
            std::thread::sleep(PAUSE);
        }
    }

    /// As [`Attacker::publish_slowly`], but without ringing: that would block this process.
    fn commit_slowly(&mut self) {
        let tail = self.producer.tail();
        for seq in tail..tail + VALID_FRAMES / 2 {
            self.write_frame(seq, self.producer.generation());
            self.commit(seq + 1);
            std::thread::sleep(PAUSE);
        }
    }

    fn await_taken(&mut self) {
        while self.producer.head() < self.producer.tail() {
            std::thread::sleep(PAUSE);
        }
    }

    /// Runs an attack in a second thread, on maps of its own.
    fn beside(&mut self, mine: fn(&mut Self), theirs: impl FnOnce(&mut Attacker<'_>) + Send) {
        let seed = self.chance.below(1 << 30);
        // While nothing is published: who attaches to a ring on the move may see its head beyond its tail.
        let mut other = Attacker::new(self.fds, seed);
        std::thread::scope(|scope| {
            scope.spawn(move || theirs(&mut other));
            mine(self);
        });
    }

    fn head(&self, seq: u64) -> Head {
        Head {
            seq,
            published_us: 0,
            life: self.producer.generation() as u32,
            part: 0,
            parts: 1,
        }
    }

    /// The words of a good frame.
    fn frame(&self, seq: u64, generation: u64) -> Vec<u64> {
        let mut record = Vec::new();
        self.head(seq).encode(HEAD_BYTES + 24, &mut record);
        layout::slot_words(seq, generation, &record)
    }

    fn write_frame(&self, seq: u64, generation: u64) {
        self.write_slot(seq, &self.frame(seq, generation));
    }

    fn write_slot(&self, seq: u64, words: &[u64]) {
        let at = layout::slot_word(self.slots, self.stride, seq);
        for (word, value) in (at..).zip(words) {
            self.memory.store(word, *value, Relaxed);
        }
    }

    fn commit(&self, tail: u64) {
        self.memory.store(word::TAIL, tail, Release);
    }

    /// Says a tail, and wakes who must hear of it.
    fn lie(&self, tail: u64) {
        self.commit(tail);
        self.ring();
    }

    /// Commits a frame of which something was changed.
    fn slot(&self, change: impl FnOnce(&mut [u64], u64)) {
        let seq = self.producer.tail();
        let mut words = self.frame(seq, self.producer.generation());
        change(&mut words, self.producer.record_bytes_max() as u64);
        self.write_slot(seq, &words);
        self.lie(seq + 1);
    }

    /// Commits a frame of a generation that is not its own, right in everything else.
    fn forge(&self, generation: u64) {
        let seq = self.producer.tail();
        self.write_frame(seq, generation);
        self.lie(seq + 1);
    }

    /// Commits good frames one after the other, of which one word changes to and fro all the while.
    fn flip(&mut self, at: usize, change: fn(u64) -> u64) {
        self.beside(Attacker::publish_on, |it| {
            loop {
                let seq = it.memory.load(word::TAIL, Relaxed);
                for seq in seq.saturating_sub(2)..seq + 2 {
                    let word = layout::slot_word(it.slots, it.stride, seq) + at;
                    let good = it.memory.load(word, Relaxed);
                    it.memory.store(word, change(good), Relaxed);
                    it.memory.store(word, good, Relaxed);
                }
            }
        });
    }

    fn scribble(&mut self, from: usize, step: usize) {
        loop {
            for at in (from..self.memory.len() / 8).step_by(step) {
                let value = self.random();
                self.memory.store(at, value, Relaxed);
            }
        }
    }

    fn scribble_records(&mut self) {
        let per_slot = self.stride as usize / 8;
        loop {
            let slot = self.chance.below(u64::from(self.slots)) as usize;
            let inside = layout::SLOT_HEADER_WORDS + self.chance.below(3) as usize;
            let value = self.random();
            self.memory
                .store(word::FIRST_SLOT + slot * per_slot + inside, value, Relaxed);
        }
    }

    fn lie_about_naps(&mut self) {
        loop {
            let (nap, wake_at) = (self.random() | 1, self.random());
            self.memory.store(word::WAKE_AT, wake_at, Relaxed);
            self.memory.store(word::WANTS_ANSWERS, wake_at, Relaxed);
            self.memory.store(word::NAP, nap, Release);
        }
    }

    /// Zeroes all pages of the region but the first, which has the tail, without a store.
    fn punch(&self) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let bytes = self.memory.len() as i64 - 4096;
        nix::fcntl::fallocate(&self.fds.producer_region, flags, 4096, bytes).expect("a hole");
    }

    fn ring(&self) {
        let _ = nix::unistd::write(&self.fds.consumer_bell, &1u64.to_ne_bytes());
    }

    fn bells(&self) -> [BorrowedFd<'_>; 2] {
        [
            self.fds.consumer_bell.as_fd(),
            self.fds.producer_bell.as_fd(),
        ]
    }

    fn fill_bells(&self) {
        for bell in self.bells() {
            // By halves: together one less than the largest count, at which a write would block or be refused.
            for step in (0..64).rev() {
                let _ = nix::unistd::write(bell, &(1u64 << step).to_ne_bytes());
            }
        }
    }

    fn empty_bells(&self) {
        for bell in self.bells() {
            let _ = nix::unistd::read(bell, &mut [0; 8]);
        }
    }

    fn random(&mut self) -> u64 {
        self.chance.below(1 << 32) << 32 | self.chance.below(1 << 32)
    }
}
