//! Both sides of a ring and its owner in any order of steps, against a plain model of what must come out.
//!
//! While nobody stored into the producer's memory from outside, everything is exact: what fits, what is there, every
//! byte, every answer. After such a store a frame that is accepted must still be one that was once published with that
//! sequence; the only other answer is a violation, after which the owner makes a fresh ring.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::{Relaxed, Release};

use ringway::ring::{Consumer, Full, Geometry, Outcome, Producer, RingFds, RingOwner};
use ringway::sys::region::WriteRegion;

use super::layout::{self, producer as word};
use super::step::{self, Step};

const GEOMETRIES: [Geometry; 3] = [
    Geometry {
        slots: 2,
        stride: 64,
        answers: 2,
    },
    Geometry {
        slots: 4,
        stride: 128,
        answers: 4,
    },
    Geometry {
        slots: 8,
        stride: 64,
        answers: 3,
    },
];

/// What came of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Frames published.
    pub published: u64,
    /// Frames read.
    pub read: u64,
    /// Rings given up.
    pub replaced: u64,
}

/// Kinds of steps.
pub mod kind {
    pub const PUBLISH: u8 = 0;
    pub const READ: u8 = 1;
    pub const ADVANCE: u8 = 2;
    pub const KILL_PRODUCER: u8 = 3;
    pub const KILL_CONSUMER: u8 = 4;
    pub const TORN_PUBLISH: u8 = 5;
    pub const OUTCOME: u8 = 6;
    pub const HOLD: u8 = 7;
    pub const RESYNC: u8 = 8;
    pub const CLOSE: u8 = 9;
    pub const NAP: u8 = 10;
    pub const READ_AGAIN: u8 = 11;
    pub const RE_READ_OWN: u8 = 12;
    pub const HOSTILE_STORE: u8 = 13;
    pub const HOSTILE_FLIP: u8 = 14;
    pub const COUNT: u8 = 15;
}

thread_local! {
    static RIGS: RefCell<BTreeMap<usize, Rig>> = const { RefCell::new(BTreeMap::new()) };
}

/// Runs an input.
///
/// # Panics
/// When the product and the model do not agree.
pub fn run(bytes: &[u8]) -> Seen {
    let mut steps = Step::all(bytes);
    let first = steps.next().unwrap_or_default();
    let index = usize::from(first.kind) % GEOMETRIES.len();
    RIGS.with_borrow_mut(|rigs| {
        let rig = rigs
            .remove(&index)
            .unwrap_or_else(|| Rig::new(GEOMETRIES[index]));
        let mut peers = Peers::new(rig);
        steps.for_each(|step| peers.act(&step));
        peers.drain();
        rigs.insert(index, peers.rig);
        peers.seen
    })
}

/// A ring, its memory, and its descriptors: making those is dearer than all else here.
struct Rig {
    owner: RingOwner,
    producer_fds: RingFds,
    consumer_fds: RingFds,
    memory: WriteRegion,
    answers: WriteRegion,
}

impl Rig {
    fn new(geometry: Geometry) -> Rig {
        let owner = RingOwner::create(geometry, 1, 1).expect("a ring");
        let producer_fds = owner.producer_fds().expect("descriptors");
        let consumer_fds = owner.consumer_fds().expect("descriptors");
        let map = |fd: &OwnedFd| WriteRegion::map(fd.as_fd(), 0).expect("a map");
        Rig {
            memory: map(&producer_fds.producer_region),
            answers: map(&consumer_fds.consumer_region),
            owner,
            producer_fds,
            consumer_fds,
        }
    }

    fn geometry(&self) -> Geometry {
        self.owner.identity().geometry
    }

    /// As a fresh ring has it.
    fn zero(&self) {
        for region in [&self.memory, &self.answers] {
            (0..region.len() / 8).for_each(|word| region.store(word, 0, Relaxed));
        }
    }

    fn producer(&self) -> Option<Producer> {
        Producer::attach(&self.producer_fds).ok()
    }

    fn consumer(&self) -> Consumer {
        Consumer::attach(&self.consumer_fds).expect("a ring")
    }
}

/// What must come out.
struct Model {
    slots: u64,
    head: u64,
    tail: u64,
    hold: u64,
    /// Frames that the consumer has counted as available.
    counted: u64,
    /// All that was ever published, by sequence: more than one where a tail was turned back.
    published: BTreeMap<u64, Vec<Vec<u8>>>,
    /// What a producer that died had begun to write. Only a tail stored from outside can bring it out.
    begun: Vec<(u64, Vec<u8>)>,
    answers: Vec<(u64, Outcome)>,
    /// Outcomes were set and the producer not told.
    untold: bool,
    /// The producer was told of answers since it looked.
    told: bool,
    resyncs: u64,
    closed: bool,
    /// Somebody else stored into the producer's memory.
    tainted: bool,
}

impl Model {
    fn new(geometry: Geometry) -> Model {
        Model {
            slots: u64::from(geometry.slots),
            head: 0,
            tail: 0,
            hold: u64::MAX,
            counted: 0,
            published: BTreeMap::new(),
            begun: Vec::new(),
            answers: vec![(0, Outcome::Pending); geometry.answers as usize],
            untold: false,
            told: false,
            resyncs: 0,
            closed: false,
            tainted: false,
        }
    }

    fn room(&self) -> u64 {
        self.slots - (self.tail - self.head.min(self.hold).min(self.tail)).min(self.slots)
    }

    fn last(&self, seq: u64) -> Option<&Vec<u8>> {
        self.published.get(&seq)?.last()
    }

    fn ever(&self, seq: u64, record: &[u8]) -> bool {
        let published = self.published.get(&seq);
        let published =
            published.is_some_and(|records| records.iter().any(|known| known == record));
        let mut begun = self.begun.iter();
        published || begun.any(|known| known.0 == seq && known.1 == record)
    }
}

struct Peers {
    rig: Rig,
    producer: Option<Producer>,
    consumer: Consumer,
    model: Model,
    record: Vec<u8>,
    seen: Seen,
}

impl Peers {
    fn new(rig: Rig) -> Peers {
        rig.zero();
        Peers {
            producer: rig.producer(),
            consumer: rig.consumer(),
            model: Model::new(rig.geometry()),
            rig,
            record: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn act(&mut self, step: &Step) {
        let Step { kind, a, b, v } = *step;
        match kind % kind::COUNT {
            kind::PUBLISH => self.publish(1 + u64::from(a % 4), b % 2 == 0, v),
            kind::READ => self.read(u64::from(a)),
            kind::ADVANCE => self.advance(u64::from(a)),
            kind::KILL_PRODUCER => self.kill_producer(),
            kind::KILL_CONSUMER => self.kill_consumer(),
            kind::TORN_PUBLISH => self.torn_publish(usize::from(a), v),
            kind::OUTCOME => self.outcome(u32::from(a % 4), v >> 2, b),
            kind::HOLD => self.hold(u64::from(a), b),
            kind::RESYNC => self.resync(),
            kind::CLOSE => self.close(),
            kind::NAP => self.nap(u64::from(a % 10), b % 2 == 0),
            kind::READ_AGAIN => self.read_again(),
            kind::RE_READ_OWN => self.re_read_own(),
            kind::HOSTILE_STORE => {
                let word = usize::from(a) << 8 | usize::from(b);
                self.hostile(word % (self.rig.memory.len() / 8), v);
            }
            _ => {
                let word = layout::producer::FIRST_SLOT + usize::from(a);
                let word = word % (self.rig.memory.len() / 8);
                let old = self.rig.memory.load(word, Relaxed);
                self.hostile(word, old ^ v);
            }
        }
    }

    fn publish(&mut self, count: u64, urgent: bool, v: u64) {
        let Some(producer) = &mut self.producer else {
            return;
        };
        let longest = producer.record_bytes_max();
        let records: Vec<Vec<u8>> = (0..count)
            .map(|n| {
                let seed = v.wrapping_add(n);
                step::bytes(seed, seed as usize % (longest + 1))
            })
            .collect();
        let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let published = producer.try_publish(&slices, urgent);
        let fits = self.model.room() >= count;
        match published {
            // A consumer that counted more than a tail that was turned back frees what is not written again yet; the
            // producer believes no such head.
            Err(Full) => assert!(!fits || self.model.tainted, "full with room for {count}"),
            Ok(first) => assert_eq!((first, fits), (self.model.tail, true)),
        }
        if published.is_ok() {
            for (seq, record) in (self.model.tail..).zip(records) {
                self.model.published.entry(seq).or_default().push(record);
            }
            self.model.tail += count;
            self.seen.published += count;
        }
    }

    /// Counts what is there and reads some of it.
    fn read(&mut self, count: u64) {
        match self.consumer.available() {
            Ok(available) if self.model.tainted => self.model.counted = available,
            Ok(available) => {
                assert_eq!(available, self.model.tail - self.model.head, "available");
                self.model.counted = available;
            }
            Err(violation) => return self.violated(&violation),
        }
        for seq in (self.model.head..).take(self.model.counted.min(count) as usize) {
            if !self.read_one(seq) {
                return;
            }
        }
    }

    fn read_one(&mut self, seq: u64) -> bool {
        match self.consumer.read(seq, &mut self.record) {
            Ok(()) if self.model.tainted => {
                assert!(
                    self.model.ever(seq, &self.record),
                    "frame {seq} was invented"
                );
            }
            Ok(()) => assert_eq!(Some(&self.record), self.model.last(seq), "frame {seq}"),
            Err(violation) => {
                self.violated(&violation);
                return false;
            }
        }
        self.seen.read += 1;
        true
    }

    /// Nobody honest is called a liar; the ring of one that is gets a successor.
    fn violated(&mut self, violation: &dyn std::fmt::Display) {
        assert!(self.model.tainted, "an honest producer: {violation}");
        self.replace();
    }

    fn replace(&mut self) {
        let geometry = self.rig.geometry();
        self.rig = Rig::new(geometry);
        self.producer = self.rig.producer();
        self.consumer = self.rig.consumer();
        self.model = Model::new(geometry);
        self.seen.replaced += 1;
    }

    fn advance(&mut self, count: u64) {
        let to = self.model.head + self.model.counted.min(count);
        self.consumer.advance(to);
        self.model.counted -= to - self.model.head;
        self.model.head = to;
        self.wake_producer();
    }

    fn wake_producer(&mut self) {
        self.consumer.wake_producer();
        self.model.told |= std::mem::take(&mut self.model.untold);
    }

    /// The producer dies, is reaped, and has a successor.
    fn kill_producer(&mut self) {
        self.producer = None;
        if self.rig.owner.set_generation().is_err() {
            assert!(self.model.tainted, "honest positions are possible");
            return self.replace();
        }
        self.rig.owner.ring_bells();
        let producer = self.rig.producer().expect("positions were checked");
        if self.model.tainted {
            self.model.tail = producer.tail();
        }
        assert_eq!(producer.tail(), self.model.tail, "resumes at the tail");
        self.producer = Some(producer);
        self.model.hold = u64::MAX;
        self.model.told = false;
        self.model.closed = false;
    }

    fn kill_consumer(&mut self) {
        self.consumer = self.rig.consumer();
        self.rig.owner.ring_bells();
        assert_eq!(self.consumer.head(), self.model.head, "resumes at the head");
        self.model.counted = 0;
        self.model.untold = false;
    }

    /// The producer dies in the middle of a publish: some words of its next slots are written, the tail is not.
    fn torn_publish(&mut self, words: usize, v: u64) {
        let Some(producer) = &self.producer else {
            return;
        };
        // An honest one writes into free slots only.
        if self.model.room() > 0 {
            let Geometry { slots, stride, .. } = self.rig.geometry();
            let record = step::bytes(v, v as usize % (producer.record_bytes_max() + 1));
            let slot = layout::slot_words(self.model.tail, producer.generation(), &record);
            let first = layout::slot_word(slots, stride, self.model.tail);
            for (word, value) in (first..).zip(slot).take(words) {
                self.rig.memory.store(word, value, Relaxed);
            }
            self.model.begun.push((self.model.tail, record));
        }
        self.kill_producer();
    }

    fn outcome(&mut self, index: u32, first_seq: u64, b: u8) {
        let outcome = [Outcome::Pending, Outcome::Accepted, Outcome::Refused][usize::from(b % 3)];
        self.consumer.set_outcome(index, first_seq, outcome);
        if let Some(known) = self.model.answers.get_mut(index as usize) {
            let older = first_seq < known.0;
            let settled = first_seq == known.0 && known.1 != Outcome::Pending;
            if !older && !settled {
                *known = (first_seq, outcome);
            }
            self.model.untold = true;
        }
        if b >= 128 {
            self.wake_producer();
        }
        let Some(producer) = &self.producer else {
            return;
        };
        for (index, known) in (0u32..).zip(&self.model.answers) {
            let word = producer.outcome(index);
            assert_eq!((word.first_seq(), word.outcome()), *known, "answer {index}");
        }
    }

    fn hold(&mut self, back: u64, b: u8) {
        let hold = match b % 4 {
            0 => u64::MAX,
            _ => self.model.tail.saturating_sub(back),
        };
        if let Some(producer) = &mut self.producer {
            producer.set_hold(hold);
            self.model.hold = hold;
            let room = producer.room();
            assert!(
                self.model.tainted || room == self.model.room(),
                "room {room}"
            );
        }
    }

    fn resync(&mut self) {
        if let Some(producer) = &mut self.producer {
            producer.request_resync();
            self.model.resyncs += 1;
        }
        let counted = self.consumer.resync_counter();
        assert!(
            self.model.tainted || counted == self.model.resyncs,
            "resyncs"
        );
    }

    /// The producer says that it is the last one; somebody starts another one all the same.
    fn close(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.close();
            self.model.closed = true;
        }
        let closed = self.consumer.closed();
        assert!(self.model.tainted || closed == self.model.closed, "closed");
        self.kill_producer();
    }

    fn nap(&mut self, records: u64, answers: bool) {
        let Some(producer) = &self.producer else {
            return;
        };
        producer.wait_for(records, answers);
        let sleeps = producer.nap_begin();
        let model = &self.model;
        let position = (model.tail + records.min(model.slots)).saturating_sub(model.slots);
        let room = records > 0 && position <= model.head;
        assert_eq!(sleeps, !(room || answers && model.told), "sleeps");
        producer.nap_end();
        self.model.told = false;
    }

    /// Frames that were counted may be read again, backwards too.
    fn read_again(&mut self) {
        let head = self.model.head;
        for seq in (head..head + self.model.counted).rev() {
            if !self.read_one(seq) {
                return;
            }
        }
    }

    /// What is in its slot still, free or not, the producer can read.
    fn re_read_own(&mut self) {
        let Some(producer) = &self.producer else {
            return;
        };
        for seq in producer.oldest()..producer.tail() {
            match producer.record_at(seq, &mut self.record) {
                Ok(()) if self.model.tainted => {
                    assert!(
                        self.model.ever(seq, &self.record),
                        "frame {seq} was invented"
                    );
                }
                Ok(()) => assert_eq!(Some(&self.record), self.model.last(seq), "own frame {seq}"),
                // Where a predecessor had begun to overwrite it; only what is free may be overwritten.
                Err(violation) => {
                    let free = seq < self.model.head;
                    assert!(free || self.model.tainted, "own frame {seq}: {violation}");
                }
            }
        }
    }

    fn hostile(&mut self, word: usize, value: u64) {
        self.rig.memory.store(word, value, Release);
        self.model.tainted = true;
    }

    /// In the end all that is committed comes out.
    fn drain(&mut self) {
        let replaced = self.seen.replaced;
        self.read(u64::MAX);
        if replaced == self.seen.replaced {
            self.advance(u64::MAX);
            assert!(self.model.tainted || self.model.head == self.model.tail);
        }
        let tail = self.rig.memory.load(word::TAIL, Relaxed);
        assert!(self.model.tainted || tail == self.model.tail);
    }
}
