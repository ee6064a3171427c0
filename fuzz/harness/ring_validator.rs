//! A ring's memory as a producer in foreign hands may leave it, and a consumer that must not believe it.
//!
//! The first step chooses size and head, the others write to the P-region or let consumer, producer or owner act. After
//! each act the product's answer is compared with [`Judge`], which reads the same memory by the document's rules: nothing
//! is accepted that was not validly written, nothing valid is refused, and nothing panics.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

use ringway::ring::{AttachError, Consumer, Geometry, Outcome, Producer, RingFds, RingOwner};
use ringway::sys::region::{self, WriteRegion};

use super::judge::{Judge, Memory, POSITION_MAX, good};
use super::layout::{self, consumer, page, producer};
use super::record;
use super::step::{self, Step};

/// Sizes that are tried: the smallest, usual ones, one record a page, the longest slots, many slots.
pub const GEOMETRIES: [(u32, u32, u32); 8] = [
    (2, 64, 0),
    (4, 128, 4),
    (8, 64, 2),
    (64, 512, 64),
    (4, 4096, 1),
    (2, 65_536, 3),
    (1024, 512, 1024),
    (65_536, 64, 0),
];

/// Newest generation at the start.
const GENERATION: u64 = 3;

/// Most frames that one step reads, and most slots that it zeroes.
const FRAMES_MAX: u64 = 80;

/// What came of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Frames that consumers accepted.
    pub accepted: u64,
    /// Times that a consumer found a violation.
    pub violations: u64,
    /// Frames that producers re-read.
    pub reread: u64,
    /// Descriptors and positions that were refused when a side attached.
    pub refused: u64,
}

/// Kinds of steps; see [`Image::act`].
pub mod kind {
    pub const FRAME: u8 = 0;
    pub const DISPLACED: u8 = 1;
    pub const FLIP: u8 = 2;
    pub const STORE: u8 = 3;
    pub const LENGTH: u8 = 4;
    pub const TAIL: u8 = 5;
    pub const ZERO: u8 = 6;
    pub const RECORD: u8 = 7;
    pub const NOISE: u8 = 8;
    pub const GENERATION: u8 = 9;
    pub const TAKE: u8 = 10;
    pub const NEXT_CONSUMER: u8 = 11;
    pub const PRODUCER: u8 = 12;
    pub const PUBLISH: u8 = 13;
    pub const OUTCOME: u8 = 14;
    pub const CONTROL: u8 = 15;
    pub const PAGE: u8 = 16;
    pub const COUNT: u8 = 17;
}

/// Runs an input.
///
/// # Panics
/// When the product and the judge do not agree.
pub fn run(bytes: &[u8]) -> Seen {
    let mut steps = Step::all(bytes);
    let first = steps.next().unwrap_or_default();
    let index = usize::from(first.kind) % GEOMETRIES.len();
    RIGS.with_borrow_mut(|rigs| {
        // Taken out, so that one on which something panicked is not used again.
        let rig = rigs.remove(&index).unwrap_or_else(|| Rig::new(index));
        let mut image = Image::new(rig, head(&first));
        steps.for_each(|step| image.act(&step));
        image.take(u64::MAX);
        let (rig, seen) = image.end();
        rigs.insert(index, rig);
        seen
    })
}

/// Where the consumer stands: at the beginning, after a few laps, or far on, up to half of where positions end. A head
/// beyond that end is not tried: no consumer attaches there.
fn head(step: &Step) -> u64 {
    match step.a % 3 {
        0 => 0,
        1 => step.v % 4096,
        // Positions end at 2^62: half of that leaves room for what is published on.
        _ => step.v >> 3,
    }
}

thread_local! {
    /// Mapping is dearer than all else here, so the regions are used again, zeroed where they were written.
    static RIGS: RefCell<BTreeMap<usize, Rig>> = const { RefCell::new(BTreeMap::new()) };
}

/// The regions of one size.
struct Rig {
    geometry: Geometry,
    owner: RingOwner,
    producer_fds: RingFds,
    consumer_fds: RingFds,
    /// An S-page of our own in the place of the owner's: generations can go back to the start.
    page: WriteRegion,
    memory: WriteRegion,
    answers: WriteRegion,
}

impl Rig {
    fn new(index: usize) -> Rig {
        let (slots, stride, answers) = GEOMETRIES[index];
        let geometry = Geometry {
            slots,
            stride,
            answers,
        };
        let owner = RingOwner::create(geometry, 1, 1).expect("a ring");
        let (mut producer_fds, mut consumer_fds) = (
            owner.producer_fds().expect("descriptors"),
            owner.consumer_fds().expect("descriptors"),
        );
        let (page, page_fd) = own_page();
        producer_fds.supervisor_page = page_fd.try_clone().expect("a descriptor");
        consumer_fds.supervisor_page = page_fd;
        let map = |fd: &OwnedFd| WriteRegion::map(fd.as_fd(), 0).expect("a map");
        Rig {
            geometry,
            page,
            memory: map(&producer_fds.producer_region),
            answers: map(&consumer_fds.consumer_region),
            owner,
            producer_fds,
            consumer_fds,
        }
    }

    fn view(&self) -> Memory<'_> {
        Memory {
            geometry: self.geometry,
            page: &self.page,
            words: &self.memory,
        }
    }

    /// Fills in the S-page as the supervisor does.
    fn reset_page(&self) {
        for (word, value) in [
            (page::MAGIC, layout::RING_MAGIC),
            (page::RING, 1),
            (page::BIRTH, 1),
            (page::SLOTS, u64::from(self.geometry.slots)),
            (page::STRIDE, u64::from(self.geometry.stride)),
            (page::ANSWERS, u64::from(self.geometry.answers)),
            (page::GENERATION, GENERATION),
            (page::CLOSED, 0),
        ] {
            self.page.store(word, value, Relaxed);
        }
    }
}

fn own_page() -> (WriteRegion, OwnedFd) {
    let fd = region::create("fuzz-page", page::BYTES).expect("memory");
    let map = WriteRegion::map(fd.as_fd(), 0).expect("a map");
    (map, region::read_only(fd.as_fd()).expect("a descriptor"))
}

/// One image, while it is written and read.
struct Image {
    rig: Rig,
    judge: Judge,
    consumer: Consumer,
    /// Words that were written and must be zeroed for the next image.
    written: Vec<usize>,
    record: Vec<u8>,
    seen: Seen,
}

impl Image {
    fn new(rig: Rig, head: u64) -> Image {
        rig.reset_page();
        rig.answers.store(consumer::HEAD, head, Relaxed);
        rig.memory.store(producer::TAIL, head, Relaxed);
        let consumer = Consumer::attach(&rig.consumer_fds).expect("a ring that is right");
        Image {
            judge: Judge::new(rig.geometry, head),
            consumer,
            rig,
            written: Vec::new(),
            record: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Leaves the regions as they were.
    fn end(self) -> (Rig, Seen) {
        for word in (0..producer::FIRST_SLOT).chain(self.written) {
            self.rig.memory.store(word, 0, Relaxed);
        }
        for word in 0..self.rig.answers.len() / 8 {
            self.rig.answers.store(word, 0, Relaxed);
        }
        (self.rig, self.seen)
    }

    fn act(&mut self, step: &Step) {
        let Step { kind, a, b, v } = *step;
        let slots = u64::from(self.rig.geometry.slots);
        let seq = self.judge.head.wrapping_add_signed(i64::from(a as i8));
        match kind % kind::COUNT {
            kind::FRAME => self.frame(seq, seq, u64::from(b % 8), v),
            kind::DISPLACED => self.frame(seq, seq.wrapping_add(u64::from(b)), GENERATION, v),
            kind::FLIP => {
                let word =
                    self.slot(seq) + usize::from(b) % (self.rig.geometry.stride as usize / 8);
                let old = self.rig.memory.load(word, Relaxed);
                self.store(word, old ^ v);
            }
            kind::STORE => {
                let word = usize::from(a) << 8 | usize::from(b);
                self.store(word % (self.rig.memory.len() / 8), v);
            }
            kind::LENGTH => self.length(seq, b, v),
            kind::TAIL => {
                let tail = if b % 4 == 3 { v } else { seq };
                self.store(producer::TAIL, tail);
            }
            kind::ZERO => {
                let stride = self.rig.geometry.stride as usize / 8;
                let slots = slots.min(FRAMES_MAX).min(u64::from(b));
                for n in 0..slots {
                    let first = self.slot(seq.wrapping_add(n));
                    // The header and what a usual record has.
                    (first..first + stride.min(64)).for_each(|word| self.store(word, 0));
                }
            }
            kind::RECORD => {
                // As a record of the product's own, changed in one byte.
                let mut record = record::encoded(a);
                let at = (v >> 8) as usize % record.len();
                record[at] ^= v as u8;
                record.truncate(record.len() - usize::from(b) % record.len());
                record.truncate(self.longest());
                self.write_slot(self.judge.head, self.judge.head, GENERATION, &record);
            }
            kind::NOISE => {
                let words = self.rig.memory.len() / 8;
                let first = usize::from(a) * 8 % words;
                for (word, value) in (first..words).zip(step::words(v)).take(usize::from(b) * 4) {
                    self.store(word, value);
                }
            }
            kind::GENERATION => {
                let now = self.rig.page.load(page::GENERATION, Relaxed);
                let next = now.max(u64::from(b));
                self.rig.page.store(page::GENERATION, next, Relaxed);
            }
            kind::TAKE => self.take(u64::from(b)),
            kind::NEXT_CONSUMER => self.next_consumer(),
            kind::PRODUCER => self.producer(),
            kind::PUBLISH => self.publish(v),
            kind::OUTCOME => {
                self.consumer
                    .set_outcome(v as u32, v >> 2, Outcome::Accepted);
                self.consumer.wake_producer();
                let _ = (self.consumer.closed(), self.consumer.resync_counter());
            }
            kind::CONTROL => self.store(usize::from(b) % producer::FIRST_SLOT, v),
            _ => self.foreign_page(a, b, v),
        }
    }

    fn store(&mut self, word: usize, value: u64) {
        self.rig.memory.store(word, value, Relaxed);
        self.written.push(word);
    }

    fn slot(&self, seq: u64) -> usize {
        let Geometry { slots, stride, .. } = self.rig.geometry;
        layout::slot_word(slots, stride, seq)
    }

    fn longest(&self) -> usize {
        self.rig.geometry.stride as usize - layout::SLOT_HEADER_WORDS * 8
    }

    /// A frame that says `seq`, written where the one of sequence `place` belongs; its length and content follow from `v`.
    fn frame(&mut self, seq: u64, place: u64, generation: u64, v: u64) {
        let longest = self.longest();
        let length = match v % 8 {
            0 => 0,
            1 => longest,
            _ => (v >> 8) as usize % longest.min(600),
        };
        let record = step::bytes(v, length);
        self.write_slot(seq, place, generation, &record);
    }

    fn write_slot(&mut self, seq: u64, place: u64, generation: u64, record: &[u8]) {
        let words = layout::slot_words(seq, generation, record);
        for (word, value) in (self.slot(place)..).zip(words) {
            self.store(word, value);
        }
    }

    /// Lengths around the limits, with a checksum that is right for them where there can be one.
    fn length(&mut self, seq: u64, b: u8, v: u64) {
        let longest = self.longest() as u64;
        let lengths = [
            0,
            1,
            longest - 1,
            longest,
            longest + 1,
            1 << 32,
            u64::MAX,
            v,
        ];
        let length = lengths[usize::from(b) % lengths.len()];
        let slot = self.slot(seq);
        self.store(slot + 2, length);
        if b >= 128 && length <= longest {
            let header = [0, 1].map(|word| self.rig.memory.load(slot + word, Relaxed));
            let mut record = vec![0; length as usize];
            let from = (slot + layout::SLOT_HEADER_WORDS) * 8;
            self.rig.memory.copy_out(from, &mut record);
            let sum = layout::slot_checksum(header[0], header[1], &record);
            self.store(slot + 3, sum);
        }
    }

    /// Reads what is there and frees a share of it.
    fn take(&mut self, share: u64) {
        let expected = self.judge.available(&self.rig.view());
        let found = self.consumer.available();
        assert_eq!(found.ok(), expected, "available");
        let Some(available) = expected else {
            self.seen.violations += 1;
            return;
        };
        let head = self.consumer.head();
        let mut good = 0;
        for seq in (head..).take(available.min(FRAMES_MAX) as usize) {
            let expected = self.judge.read(&self.rig.view(), seq);
            let found = self.consumer.read(seq, &mut self.record);
            assert_eq!(found.is_ok(), expected.is_some(), "frame {seq}: {found:?}");
            let Some(expected) = expected else {
                self.seen.violations += 1;
                assert!(self.consumer.available().is_err(), "a quarantine lasts");
                break;
            };
            assert_eq!(self.record, expected, "frame {seq}");
            record::decode_all(&self.record);
            good += 1;
        }
        self.seen.accepted += good;
        if good > 0 && self.consumer.violation().is_none() {
            let to = head + share.min(good);
            self.consumer.advance(to);
            self.judge.advance(to);
        }
    }

    fn next_consumer(&mut self) {
        self.consumer = Consumer::attach(&self.rig.consumer_fds).expect("a ring that is right");
        assert_eq!(self.consumer.head(), self.judge.head, "resumes at the head");
        self.judge = Judge::new(self.rig.geometry, self.judge.head);
    }

    /// A producer attaches and re-reads all that its predecessors may have left; then it dies. The owner agrees with it.
    fn producer(&mut self) {
        let Some((producer, newest)) = self.attach_producer() else {
            return;
        };
        let tail = producer.tail();
        for seq in (producer.oldest()..tail).rev().take(FRAMES_MAX as usize) {
            let expected = good(&self.rig.view(), seq, 1..=newest);
            let found = producer.record_at(seq, &mut self.record);
            assert_eq!(
                found.is_ok(),
                expected.is_some(),
                "re-read {seq}: {found:?}"
            );
            if let Some(expected) = expected {
                assert_eq!(self.record, expected, "re-read {seq}");
                self.seen.reread += 1;
            }
        }
        let _ = producer.nap_begin();
        producer.nap_end();
    }

    /// An honest successor publishes one record.
    fn publish(&mut self, v: u64) {
        let Some((mut producer, newest)) = self.attach_producer() else {
            return;
        };
        let record = step::bytes(v, v as usize % (self.longest() + 1).min(600));
        let tail = producer.tail();
        let used = tail.wrapping_sub(self.judge.head);
        let published = producer.try_publish(&[&record], v.is_multiple_of(2));
        let room = used < u64::from(self.rig.geometry.slots);
        assert_eq!(published.ok(), room.then_some(tail), "room at {tail}");
        if room {
            assert_eq!(good(&self.rig.view(), tail, newest..=newest), Some(record));
            let (first, words) = (self.slot(tail), self.rig.geometry.stride as usize / 8);
            self.written.extend(first..first + words.min(80));
        }
    }

    /// `None` where positions are impossible; then both the owner and a producer must say so.
    fn attach_producer(&mut self) -> Option<(Producer, u64)> {
        let tail = self.rig.memory.load(producer::TAIL, Relaxed);
        let used = tail.wrapping_sub(self.judge.head);
        let possible = used <= u64::from(self.rig.geometry.slots) && tail <= POSITION_MAX;
        assert_eq!(
            self.rig.owner.check().is_ok(),
            possible,
            "the owner's check"
        );
        let newest = self.rig.page.load(page::GENERATION, Relaxed);
        match Producer::attach(&self.rig.producer_fds) {
            Ok(producer) => {
                assert!(possible, "attached at tail {tail}");
                assert_eq!((producer.tail(), producer.generation()), (tail, newest));
                Some((producer, newest))
            }
            Err(AttachError::Positions { .. }) => {
                assert!(!possible, "not attached at tail {tail}");
                self.seen.refused += 1;
                None
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// A page that says something else than the regions are: only what describes them exactly is attached to.
    fn foreign_page(&mut self, a: u8, b: u8, v: u64) {
        let word = [page::MAGIC, page::SLOTS, page::STRIDE, page::ANSWERS][usize::from(a) % 4];
        let small = [0, 1, 2, 3, 64, 65, 128, 1 << 20, 1 << 32, u64::MAX];
        let value = small.get(usize::from(b)).copied().unwrap_or(v);
        let old = self.rig.page.load(word, Relaxed);
        self.rig.page.store(word, value, Relaxed);
        let says = |word| self.rig.page.load(word, Relaxed);
        let narrow = |word| u32::try_from(says(word)).unwrap_or(0);
        let (slots, stride, answers) = (
            narrow(page::SLOTS),
            narrow(page::STRIDE),
            narrow(page::ANSWERS),
        );
        let right = says(page::MAGIC) == layout::RING_MAGIC
            && slots.is_power_of_two()
            && slots >= 2
            && stride.is_multiple_of(64)
            && stride >= 64
            && layout::producer_bytes(slots, stride) == self.rig.memory.len()
            && layout::consumer_bytes(answers) == self.rig.answers.len();
        let consumer = Consumer::attach(&self.rig.consumer_fds);
        assert_eq!(consumer.is_ok(), right, "page word {word} is {value}");
        self.seen.refused += u64::from(!right);
        if !right {
            assert!(Producer::attach(&self.rig.producer_fds).is_err());
        }
        self.rig.page.store(word, old, Relaxed);
    }
}
