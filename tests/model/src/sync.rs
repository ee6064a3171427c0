//! What the core stands on here: words, bells and fences of the model checker.
//!
//! A region has two kinds of words. *Control words* are atomics; a relaxed load may find any value that the memory model
//! allows. *Plain words* hold what the protocol says is never touched by two threads at a time, such as slots: each access
//! is checked to be ordered with those of other threads. That is more than to check values: a model checker runs a thread
//! in program order, so a load that the processor would do later than a store can only be noticed this way.
//!
//! The product's read-only regions put a fence behind a relaxed load. Here an acquire load is one, which orders less: what
//! holds here holds there.

use std::ops::Range;
use std::panic::Location;
use std::sync::{Arc, Mutex};

use loom::cell::Cell;
use loom::sync::Notify;
use loom::sync::atomic::AtomicU64 as ControlWord;

use crate::{fuse, site};

pub use std::sync::atomic::Ordering;
// What a side keeps to itself is shared with a waiter on the same thread only; there is nothing to search.
pub use std::sync::atomic::{AtomicBool, AtomicU64};

pub const WORD_BYTES: usize = 8;
pub const REGION_BYTES_MAX: usize = 1 << 30;

/// In the place of descriptors; a model hands regions around as they are.
pub struct Descriptors;

/// A checksum that passes everything of the right length: what a reader takes is then whole by order alone.
pub fn crc32c_append(_: u32, _: &[u8]) -> u32 {
    0
}

/// Not the product's, which is two sums: here it only has to notice another record.
fn checksum(head: [u64; 3], bytes: &[u8]) -> u64 {
    let head = head.map(u64::to_ne_bytes).concat();
    u64::from(crc32c::crc32c_append(crc32c::crc32c(&head), bytes))
}

enum Word {
    Control(ControlWord),
    /// The lock is for the compiler only: loom's threads take turns on one of the system's.
    Plain(Mutex<Cell<u64>>),
    /// Never touched. Each word that loom knows of costs time in every run.
    Absent,
}

/// Memory of zeros that threads share.
pub struct Memory {
    words: Vec<Word>,
    /// What was stored last, for the one who stores.
    own: Vec<AtomicU64>,
    /// Touched by each store: two threads that store in one region at a time are a race of this word.
    writer: Mutex<Cell<()>>,
}

impl Memory {
    /// Memory of so many bytes with these words: `control` by their numbers, `plain` in a row. The rest must not be
    /// touched.
    pub fn new(bytes: usize, control: &[usize], plain: Range<usize>) -> Arc<Memory> {
        let word = |index: usize| {
            if control.contains(&index) {
                Word::Control(ControlWord::new(0))
            } else if plain.contains(&index) {
                Word::Plain(Mutex::new(Cell::new(0)))
            } else {
                Word::Absent
            }
        };
        let words = bytes.div_ceil(WORD_BYTES);
        Arc::new(Memory {
            words: (0..words).map(word).collect(),
            own: (0..words).map(|_| AtomicU64::new(0)).collect(),
            writer: Mutex::new(Cell::new(())),
        })
    }

    fn load(&self, word: usize, order: Ordering) -> u64 {
        match &self.words[word] {
            Word::Control(control) => control.load(order),
            Word::Plain(plain) => plain.lock().unwrap().get(),
            Word::Absent => panic!("word {word} is in the model"),
        }
    }

    /// A load by the one who stores: it finds what was stored last. Loom is not asked, since a load of one's own before a
    /// store makes it overlook that others loaded the word before: it remembers the last access only.
    fn load_own(&self, word: usize, order: Ordering) -> u64 {
        assert_eq!(order, Ordering::Relaxed, "an own word needs no order");
        self.writer.lock().unwrap().get();
        match &self.words[word] {
            Word::Control(_) => self.own[word].load(Ordering::Relaxed),
            _ => self.load(word, order),
        }
    }

    fn store(&self, word: usize, value: u64, order: Ordering) {
        fuse::step();
        self.writer.lock().unwrap().set(());
        self.own[word].store(value, Ordering::Relaxed);
        match &self.words[word] {
            Word::Control(control) => control.store(value, order),
            Word::Plain(plain) => plain.lock().unwrap().set(value),
            Word::Absent => panic!("word {word} is in the model"),
        }
    }

    fn fetch_add(&self, word: usize, value: u64, order: Ordering) -> u64 {
        fuse::step();
        self.writer.lock().unwrap().set(());
        self.own[word].fetch_add(value, Ordering::Relaxed);
        match &self.words[word] {
            Word::Control(control) => control.fetch_add(value, order),
            _ => panic!("word {word} is a control word"),
        }
    }

    fn copy_out(&self, byte_offset: usize, out: &mut [u8], load: impl Fn(&Memory, usize) -> u64) {
        for (chunk, word) in out.chunks_mut(WORD_BYTES).zip(byte_offset / WORD_BYTES..) {
            chunk.copy_from_slice(&load(self, word).to_ne_bytes()[..chunk.len()]);
        }
    }
}

/// As the product's: a region that this thread reads.
pub struct ReadRegion(pub Arc<Memory>);

impl ReadRegion {
    pub fn len(&self) -> usize {
        self.0.words.len() * WORD_BYTES
    }

    #[track_caller]
    pub fn load(&self, word: usize, order: Ordering) -> u64 {
        self.0
            .load(word, site::order(Location::caller(), "load", order))
    }

    pub fn copy_out(&self, byte_offset: usize, out: &mut [u8]) {
        let load = |memory: &Memory, word| memory.load(word, Ordering::Relaxed);
        self.0.copy_out(byte_offset, out, load);
    }

    pub fn copy_out_summed(&self, byte_offset: usize, out: &mut [u8], head: [u64; 3]) -> u64 {
        self.copy_out(byte_offset, out);
        checksum(head, out)
    }
}

/// As the product's: a region that this thread writes.
pub struct WriteRegion(pub Arc<Memory>);

impl WriteRegion {
    pub fn len(&self) -> usize {
        self.0.words.len() * WORD_BYTES
    }

    pub fn load(&self, word: usize, order: Ordering) -> u64 {
        self.0.load_own(word, order)
    }

    #[track_caller]
    pub fn store(&self, word: usize, value: u64, order: Ordering) {
        let order = site::order(Location::caller(), "store", order);
        self.0.store(word, value, order);
    }

    #[track_caller]
    pub fn fetch_add(&self, word: usize, value: u64, order: Ordering) -> u64 {
        let order = site::order(Location::caller(), "add", order);
        self.0.fetch_add(word, value, order)
    }

    pub fn copy_in(&self, byte_offset: usize, bytes: &[u8]) {
        for (chunk, word) in bytes.chunks(WORD_BYTES).zip(byte_offset / WORD_BYTES..) {
            let mut padded = [0; WORD_BYTES];
            padded[..chunk.len()].copy_from_slice(chunk);
            self.0
                .store(word, u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
    }

    pub fn copy_out(&self, byte_offset: usize, out: &mut [u8]) {
        let load = |memory: &Memory, word| memory.load_own(word, Ordering::Relaxed);
        self.0.copy_out(byte_offset, out, load);
    }

    pub fn copy_in_summed(&self, byte_offset: usize, bytes: &[u8], head: [u64; 3]) -> u64 {
        self.copy_in(byte_offset, bytes);
        checksum(head, bytes)
    }

    pub fn copy_out_summed(&self, byte_offset: usize, out: &mut [u8], head: [u64; 3]) -> u64 {
        self.copy_out(byte_offset, out);
        checksum(head, out)
    }
}

#[track_caller]
pub fn fence(order: Ordering) {
    if site::fence_stays(Location::caller(), order) {
        fuse::step();
        loom::sync::atomic::fence(order);
    }
}

/// As the product's: what wakes one side. A ring that comes before the wait ends the wait, as an edge does.
#[derive(Clone)]
pub struct Bell(Arc<Notify>);

impl Bell {
    pub fn new() -> Bell {
        Bell(Arc::new(Notify::new()))
    }

    #[track_caller]
    pub fn ring(&self) {
        if site::bell_stays(Location::caller()) {
            fuse::step();
            self.0.notify();
        }
    }

    /// Sleeps until it is rung. Once in a run loom may wake the sleeper without that.
    pub fn wait(&self) {
        // A sleeper may be killed asleep.
        fuse::step();
        self.0.wait();
    }
}
