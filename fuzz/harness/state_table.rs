//! A state table under any sequence of writes, reads, restarts of the writer and foreign stores into its memory.
//!
//! Readers must agree with [`good`], which reads the same memory by the layout's description: nothing is read that was
//! not written as a whole, nothing whole is refused, and nothing panics. Snapshots hold what readers can read.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

use ringway::sys::region::WriteRegion;
use ringway::table::{
    PublicState, TableError, TableReader, TableWriter, create, read_snapshot, write_snapshot,
};

use super::layout::table as layout;
use super::step::{self, Step};

/// Slots of a table.
const SLOTS: u32 = 3;

/// What came of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Payloads that readers accepted.
    pub accepted: u64,
    /// Times that a slot was found damaged.
    pub damaged: u64,
    /// Times that something was refused as no table.
    pub refused: u64,
}

/// Kinds of steps.
pub mod kind {
    pub const CLAIM: u8 = 0;
    pub const WRITE: u8 = 1;
    pub const STORE: u8 = 2;
    pub const FLIP: u8 = 3;
    pub const COPY: u8 = 4;
    pub const SWITCH: u8 = 5;
    pub const READ: u8 = 6;
    pub const RESTART: u8 = 7;
    pub const SNAPSHOT: u8 = 8;
    pub const NOISE: u8 = 9;
    pub const COUNT: u8 = 10;
}

/// Runs an input.
///
/// # Panics
/// When the product and the judge do not agree.
pub fn run(bytes: &[u8]) -> Seen {
    // What comes out of a journal or over the control channel is not a table's either.
    let _ = read_snapshot(bytes).count();
    let _ = PublicState::decode(bytes);
    RIG.with_borrow_mut(|rig| {
        // Taken out, so that one on which something panicked is not used again.
        let mut table = Table::new(rig.take().unwrap_or_else(Rig::new));
        for step in Step::all(bytes) {
            table.act(&step);
        }
        table.read_all();
        table.snapshot();
        let seen = table.seen;
        *rig = Some(table.memory);
        seen
    })
}

thread_local! {
    /// Mapping is dearer than all else here, so the table is used again, zeroed.
    static RIG: RefCell<Option<Rig>> = const { RefCell::new(None) };
}

/// A table's memory.
struct Rig {
    fd: OwnedFd,
    words: WriteRegion,
}

impl Rig {
    fn new() -> Rig {
        let fd = create(SLOTS).expect("a table");
        let words = WriteRegion::map(fd.as_fd(), 0).expect("a map");
        assert_eq!(words.len(), layout::bytes(SLOTS));
        Rig { fd, words }
    }
}

struct Table {
    memory: Rig,
    writer: Option<TableWriter>,
    reader: Option<TableReader>,
    payload: Vec<u8>,
    seen: Seen,
}

impl Table {
    fn new(memory: Rig) -> Table {
        let zeros = [0; 512];
        for at in (0..memory.words.len()).step_by(zeros.len()) {
            let bytes = zeros.len().min(memory.words.len() - at);
            memory.words.copy_in(at, &zeros[..bytes]);
        }
        let mut table = Table {
            memory,
            writer: None,
            reader: None,
            payload: Vec::new(),
            seen: Seen::default(),
        };
        table.attach();
        table
    }

    fn act(&mut self, step: &Step) {
        let Step { kind, a, b, v } = *step;
        let slot = u32::from(a) % SLOTS;
        let words = self.memory.words.len() / 8;
        match kind % kind::COUNT {
            kind::CLAIM => self.claim(),
            kind::WRITE => self.write(slot, v, b),
            // Half of them into the near parts, where the switches and most copies are.
            kind::STORE => {
                let word = usize::from(a) << 8 | usize::from(b);
                self.memory.words.store(word % words, v, Relaxed);
            }
            kind::FLIP => {
                let word = layout::switch_word(slot) + usize::from(b) % 128;
                let old = self.memory.words.load(word, Relaxed);
                self.memory.words.store(word, old ^ v, Relaxed);
            }
            kind::COPY => self.copy(slot, b, v),
            kind::SWITCH => {
                let word = layout::switch_word(slot);
                let old = self.memory.words.load(word, Relaxed);
                let new = if b % 2 == 0 { old.wrapping_add(v) } else { v };
                self.memory.words.store(word, new, Relaxed);
            }
            kind::READ => self.read_all(),
            kind::RESTART => self.attach(),
            kind::SNAPSHOT => self.snapshot(),
            _ => {
                let first = usize::from(a) * 8 % words;
                for (word, value) in (first..words).zip(step::words(v)).take(usize::from(b) * 4) {
                    self.memory.words.store(word, value, Relaxed);
                }
            }
        }
    }

    /// A writer and a reader start on what is there, or refuse it.
    fn attach(&mut self) {
        // The old writer is dead before the new one starts.
        self.writer = None;
        let magic = self.memory.words.load(layout::MAGIC_WORD, Relaxed);
        let known = magic == 0 || magic == layout::MAGIC;
        let possible = self.memory.words.load(layout::USED_WORD, Relaxed) <= u64::from(SLOTS);
        let reader = TableReader::attach(self.memory.fd.as_fd());
        assert_eq!(
            reader.is_ok(),
            known,
            "a reader of a table with magic {magic:x}"
        );
        let writer = TableWriter::attach(self.memory.fd.as_fd());
        assert_eq!(
            writer.is_ok(),
            known && possible,
            "a writer of a table with magic {magic:x}"
        );
        self.seen.refused += u64::from(reader.is_err()) + u64::from(writer.is_err());
        (self.reader, self.writer) = (reader.ok(), writer.ok());
    }

    /// Whether the count of slots is one that the writer itself has written: it alone may, and it trusts it.
    fn writer_is_sound(&self) -> bool {
        self.memory.words.load(layout::USED_WORD, Relaxed) <= u64::from(SLOTS)
    }

    fn claim(&mut self) {
        if let Some(writer) = self.writer.as_ref().filter(|_| self.writer_is_sound()) {
            let used = writer.used();
            let claimed = writer.claim();
            assert_eq!(claimed, (used < SLOTS).then_some(used));
        }
    }

    fn write(&mut self, slot: u32, v: u64, b: u8) {
        let Some(writer) = self.writer.as_ref().filter(|_| self.writer_is_sound()) else {
            return;
        };
        if slot >= writer.used() {
            return;
        }
        let longest = layout::PAYLOAD_BYTES_MAX;
        let front = layout::FRONT_BYTES_MAX;
        let lengths = [
            0,
            1,
            front - 1,
            front,
            front + 1,
            longest,
            longest + 1,
            v as usize % longest,
        ];
        let payload = step::bytes(v, lengths[usize::from(b) % lengths.len()]);
        let before = self.memory.words.load(layout::switch_word(slot), Relaxed);
        let written = writer.write(slot, &payload);
        if payload.len() > longest {
            assert!(matches!(written, Err(TableError::Large)));
            assert_eq!(
                self.memory.words.load(layout::switch_word(slot), Relaxed),
                before
            );
        } else {
            written.expect("a payload that fits");
            // A switch that wraps to zero reads as a slot that was never written; 2^64 writes are far off.
            if before != u64::MAX {
                assert_eq!(good(&self.memory.words, slot), Some(Some(payload)));
            }
        }
    }

    /// A copy as the layout says, of this slot or of another one, behind the switch or in front of it.
    fn copy(&mut self, slot: u32, b: u8, v: u64) {
        let switch = self.memory.words.load(layout::switch_word(slot), Relaxed);
        let (header, rest) = layout::copy(SLOTS, slot, switch.wrapping_add(u64::from(b & 1)));
        let payload = step::bytes(v, v as usize % layout::PAYLOAD_BYTES_MAX);
        let says = if b & 2 == 0 { slot } else { slot + 1 };
        let (front, behind) = payload.split_at(payload.len().min(layout::FRONT_BYTES_MAX));
        self.memory.words.copy_in(header + 8, front);
        self.memory.words.copy_in(rest, behind);
        self.memory
            .words
            .store(header / 8, layout::header(says, &payload), Relaxed);
    }

    fn read_all(&mut self) {
        for slot in 0..SLOTS {
            let expected = good(&self.memory.words, slot);
            if let Some(reader) = &self.reader {
                let found = reader.read(slot, &mut self.payload);
                agree(slot, &found, &self.payload, &expected);
                self.seen.damaged += u64::from(found.is_err());
                if let Ok(true) = found {
                    self.seen.accepted += 1;
                    let _ = PublicState::decode(&self.payload);
                }
            }
            if let Some(writer) = &self.writer {
                let found = writer.read(slot, &mut self.payload);
                agree(slot, &found, &self.payload, &expected);
            }
        }
    }

    fn snapshot(&mut self) {
        let Some(reader) = &self.reader else {
            return;
        };
        let used = self
            .memory
            .words
            .load(layout::USED_WORD, Relaxed)
            .min(u64::from(SLOTS));
        let readable = (0..used as u32).filter_map(|slot| good(&self.memory.words, slot)??.into());
        let expected: Vec<Vec<u8>> = readable
            .filter(|payload: &Vec<u8>| !payload.is_empty())
            .collect();
        let mut bytes = Vec::new();
        write_snapshot(reader, &mut bytes).expect("memory to write to");
        let read = read_snapshot(&bytes).collect::<Result<Vec<_>, _>>();
        assert_eq!(read.expect("a snapshot that was just written"), expected);
        // In a memory region, as it is handed on, zeros follow.
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let read = read_snapshot(&bytes).filter(Result::is_ok);
        assert_eq!(read.count(), expected.len());
    }
}

fn agree(
    slot: u32,
    found: &Result<bool, TableError>,
    payload: &[u8],
    expected: &Option<Option<Vec<u8>>>,
) {
    match (found, expected) {
        (Ok(true), Some(Some(expected))) => assert_eq!(payload, expected, "slot {slot}"),
        (Ok(false), Some(None)) | (Err(TableError::Damaged(_)), None) => {}
        _ => panic!("slot {slot}: {found:?}, in memory is {expected:?}"),
    }
}

/// What a slot shows: `None` if it is damaged, `Some(None)` if nothing was ever written.
fn good(memory: &WriteRegion, slot: u32) -> Option<Option<Vec<u8>>> {
    let switch = memory.load(layout::switch_word(slot), Relaxed);
    if switch == 0 {
        return Some(None);
    }
    let (at, rest) = layout::copy(SLOTS, slot, switch);
    let header = memory.load(at / 8, Relaxed);
    let length = (header >> 32) as usize;
    if length > layout::PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut payload = vec![0; length];
    let (front, behind) = payload.split_at_mut(length.min(layout::FRONT_BYTES_MAX));
    memory.copy_out(at + 8, front);
    memory.copy_out(rest, behind);
    (layout::header(slot, &payload) == header).then_some(Some(payload))
}
