//! The state table: one slot a device, two copies, switched by one store.
//!
//! The supervisor owns the memory, the classifier writes, dispatcher and uplink read. A write goes to the copy that is
//! not shown and becomes visible by one store, so a classifier killed at any instant leaves the state before or the
//! state after. Readers treat what they find as another process's word: copied out, checksummed, parsed in private.
//!
//! The payload is opaque here but for [`PublicState`] at its front, which is what readers know. Which device has which
//! slot is left to the writer, who finds it out anew by reading all slots when it starts.

mod snapshot;
mod state;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

pub use snapshot::{SnapshotError, SnapshotReport, SnapshotWriter, read_snapshot, write_snapshot};
pub use state::PublicState;

use crate::sys::region::{self, ReadRegion, WORD_BYTES, WriteRegion};

/// Bytes of a slot: the switch and two copies.
pub const SLOT_BYTES: usize = NEAR_BYTES + 2 * REST_BYTES;

/// Most bytes of a payload: what a copy holds of it near the switch, and the rest.
pub const PAYLOAD_BYTES_MAX: usize = FRONT_BYTES_MAX + REST_BYTES;

/// Most devices of a table.
pub const DEVICES_MAX: u32 = 500_000;

/// Times that a reader starts over because the writer switched meanwhile. The writer needs microseconds for each of its
/// two writes in between, the reader less than one for a copy.
const READ_ATTEMPTS_MAX: u32 = 64;

const HEAD_BYTES: usize = 4096;
const SWITCH_BYTES: usize = 64;
/// Bytes of a slot's near part: the switch and the fronts of both copies. A device without open alarms has all of its
/// state there, so the pages of the rests, which lie behind the near parts of all slots, are hardly ever touched.
const NEAR_BYTES: usize = 1024;
const COPY_BYTES: usize = (NEAR_BYTES - SWITCH_BYTES) / 2;
const COPY_HEADER_BYTES: usize = 8;
const FRONT_BYTES_MAX: usize = COPY_BYTES - COPY_HEADER_BYTES;
/// Bytes of a copy's rest.
const REST_BYTES: usize = 512;

const MAGIC: u64 = u64::from_le_bytes(*b"RWTABL02");
const MAGIC_WORD: usize = 0;
const USED_WORD: usize = 16;

/// Why a slot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The memory cannot be used.
    #[error("cannot use state table: {0}")]
    Region(#[from] io::Error),
    /// The memory is no table of this layout.
    #[error("cannot use state table: its layout is unknown")]
    Layout,
    /// The payload does not fit.
    #[error("cannot write device state: it is larger than {PAYLOAD_BYTES_MAX} bytes")]
    Large,
    /// The copy shown does not match its checksum.
    #[error("cannot read device state: slot {0} is damaged")]
    Damaged(u32),
    /// The slot was written over and over while it was read.
    #[error("cannot read device state: slot {0} does not come to rest")]
    Busy(u32),
}

/// Makes an empty table.
///
/// # Errors
/// What the kernel says; `InvalidInput` for zero or more than [`DEVICES_MAX`] devices.
pub fn create(devices_max: u32) -> io::Result<OwnedFd> {
    if !(1..=DEVICES_MAX).contains(&devices_max) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "cannot create state table for {devices_max} devices: not in 1..={DEVICES_MAX}"
            ),
        ));
    }
    let bytes = HEAD_BYTES + devices_max as usize * SLOT_BYTES;
    region::create("ringway-table", bytes)
}

fn slots_in(bytes: usize) -> u32 {
    u32::try_from((bytes - HEAD_BYTES) / SLOT_BYTES).unwrap_or(u32::MAX)
}

fn switch_word(slot: u32) -> usize {
    (HEAD_BYTES + slot as usize * NEAR_BYTES) / WORD_BYTES
}

/// Where a copy lies in a table.
#[derive(Clone, Copy)]
struct Place {
    /// Byte of its header; the front follows.
    header: usize,
    /// Byte of its rest.
    rest: usize,
}

impl Place {
    /// The copy that a switch value shows, in a table of so many slots; the other one is that of the next value.
    fn of(slots: u32, slot: u32, switch: u64) -> Place {
        let copy = (switch % 2) as usize;
        let near = HEAD_BYTES + slot as usize * NEAR_BYTES;
        let rests = HEAD_BYTES + slots as usize * NEAR_BYTES;
        Place {
            header: near + SWITCH_BYTES + copy * COPY_BYTES,
            rest: rests + (slot as usize * 2 + copy) * REST_BYTES,
        }
    }

    fn front(self) -> usize {
        self.header + COPY_HEADER_BYTES
    }
}

/// Length and checksum of a payload in one word. The slot's number is in the sum, and so is the length: zeros do not
/// pass, nor does a copy that belongs elsewhere.
fn copy_header(slot: u32, payload: &[u8]) -> u64 {
    let length = payload.len() as u64;
    let words = [u64::from(slot).to_ne_bytes(), length.to_ne_bytes()].concat();
    let sum = crc32c::crc32c_append(crc32c::crc32c(&words), payload);
    length << 32 | u64::from(sum)
}

/// Checks a private copy of a payload.
fn read_copy(
    slot: u32,
    header: u64,
    out: &mut Vec<u8>,
    copy_out: impl FnOnce(&mut [u8], &mut [u8]),
) -> Result<(), TableError> {
    let length = (header >> 32) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(TableError::Damaged(slot));
    }
    out.clear();
    out.resize(length, 0);
    let (front, rest) = out.split_at_mut(length.min(FRONT_BYTES_MAX));
    copy_out(front, rest);
    if copy_header(slot, out) == header {
        Ok(())
    } else {
        Err(TableError::Damaged(slot))
    }
}

/// The table as the classifier has it. There is one writer at a time: the supervisor sees to it.
pub struct TableWriter {
    region: WriteRegion,
    slots: u32,
}

impl TableWriter {
    /// Takes over a table, an empty one or a predecessor's.
    ///
    /// # Errors
    /// `Region` when it cannot be mapped, `Layout` when it is something else.
    pub fn attach(fd: BorrowedFd<'_>) -> Result<TableWriter, TableError> {
        let region = WriteRegion::map(fd, HEAD_BYTES + SLOT_BYTES)?;
        match region.load(MAGIC_WORD, Ordering::Relaxed) {
            MAGIC => {}
            // Release: pairs with the acquire load in `TableReader::used`.
            0 => region.store(MAGIC_WORD, MAGIC, Ordering::Release),
            _ => return Err(TableError::Layout),
        }
        let slots = slots_in(region.len());
        if region.load(USED_WORD, Ordering::Relaxed) > u64::from(slots) {
            return Err(TableError::Layout);
        }
        Ok(TableWriter { region, slots })
    }

    /// Slots that there are.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Slots handed out. One whose writer was killed before the first write reads as empty and may be taken.
    pub fn used(&self) -> u32 {
        // Checked when attached, and nobody else writes it.
        self.region.load(USED_WORD, Ordering::Relaxed) as u32
    }

    /// Hands out the next slot; `None` when all are.
    pub fn claim(&self) -> Option<u32> {
        let slot = self.used();
        if slot == self.slots {
            return None;
        }
        // Release: pairs with the acquire load in `TableReader::used`.
        self.region
            .store(USED_WORD, u64::from(slot) + 1, Ordering::Release);
        Some(slot)
    }

    /// Replaces a slot's payload.
    ///
    /// # Errors
    /// `Large` for more than [`PAYLOAD_BYTES_MAX`] bytes; the slot keeps what it has.
    ///
    /// # Panics
    /// When the slot was not handed out.
    pub fn write(&self, slot: u32, payload: &[u8]) -> Result<(), TableError> {
        assert!(slot < self.used(), "the slot was handed out");
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(TableError::Large);
        }
        let switch = self.region.load(switch_word(slot), Ordering::Relaxed);
        let place = Place::of(self.slots, slot, switch.wrapping_add(1));
        let (front, rest) = payload.split_at(payload.len().min(FRONT_BYTES_MAX));
        // Partner: the fence in `TableReader::read`. The switch of the write before must not be seen after any of the
        // stores below: a reader that sees one of them sees that switch too, and starts over.
        fence(Ordering::Release);
        self.region.copy_in(place.front(), front);
        self.region.copy_in(place.rest, rest);
        self.region.store(
            place.header / WORD_BYTES,
            copy_header(slot, payload),
            Ordering::Relaxed,
        );
        // Release: the switch. Pairs with the acquire load in `TableReader::read`; the copy comes before it.
        self.region
            .store(switch_word(slot), switch.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Reads a slot back into `out`; `false` when nothing was ever written there.
    ///
    /// # Errors
    /// `Damaged` when the copy does not match its checksum.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn read(&self, slot: u32, out: &mut Vec<u8>) -> Result<bool, TableError> {
        assert!(slot < self.slots, "the slot exists");
        // Relaxed: this process, or one that was reaped before it was started, wrote all of it.
        let switch = self.region.load(switch_word(slot), Ordering::Relaxed);
        if switch == 0 {
            return Ok(false);
        }
        let place = Place::of(self.slots, slot, switch);
        let header = self
            .region
            .load(place.header / WORD_BYTES, Ordering::Relaxed);
        read_copy(slot, header, out, |front, rest| {
            self.region.copy_out(place.front(), front);
            self.region.copy_out(place.rest, rest);
        })?;
        Ok(true)
    }
}

/// The table as everybody else has it.
pub struct TableReader {
    region: ReadRegion,
    slots: u32,
}

impl TableReader {
    /// Maps a table; its writer need not have begun it yet.
    ///
    /// # Errors
    /// `Region` when it cannot be mapped, `Layout` when it is something else.
    pub fn attach(fd: BorrowedFd<'_>) -> Result<TableReader, TableError> {
        let region = ReadRegion::map(fd, HEAD_BYTES + SLOT_BYTES)?;
        let magic = region.load(MAGIC_WORD, Ordering::Relaxed);
        if magic != MAGIC && magic != 0 {
            return Err(TableError::Layout);
        }
        let slots = slots_in(region.len());
        Ok(TableReader { region, slots })
    }

    /// Slots that there are.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Slots handed out: those that may hold a device.
    pub fn used(&self) -> u32 {
        // Acquire: pairs with the release store in `TableWriter::claim`.
        let used = self.region.load(USED_WORD, Ordering::Acquire);
        u32::try_from(used).unwrap_or(u32::MAX).min(self.slots)
    }

    /// A number that changes whenever the slot is written: who remembers it need not read a slot that is as before.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn version(&self, slot: u32) -> u64 {
        assert!(slot < self.slots, "the slot exists");
        self.region.load(switch_word(slot), Ordering::Acquire)
    }

    /// Copies a slot's payload into `out`; `false` when nothing was ever written there.
    ///
    /// # Errors
    /// `Damaged` when it does not match its checksum, `Busy` when the writer never left it alone.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn read(&self, slot: u32, out: &mut Vec<u8>) -> Result<bool, TableError> {
        for _ in 0..READ_ATTEMPTS_MAX {
            // Acquire: pairs with the release store in `TableWriter::write`.
            let switch = self.version(slot);
            if switch == 0 {
                return Ok(false);
            }
            let place = Place::of(self.slots, slot, switch);
            let header = self
                .region
                .load(place.header / WORD_BYTES, Ordering::Relaxed);
            let copied = read_copy(slot, header, out, |front, rest| {
                self.region.copy_out(place.front(), front);
                self.region.copy_out(place.rest, rest);
            });
            // Partner: the fence in `TableWriter::write`. If any load above saw a store of the write after the next
            // switch, the load below sees that switch.
            fence(Ordering::Acquire);
            if self.region.load(switch_word(slot), Ordering::Relaxed) == switch {
                return copied.map(|()| true);
            }
        }
        Err(TableError::Busy(slot))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn table(devices_max: u32) -> (TableWriter, TableReader, WriteRegion) {
        let fd = create(devices_max).unwrap();
        let reading = region::read_only(fd.as_fd()).unwrap();
        (
            TableWriter::attach(fd.as_fd()).unwrap(),
            TableReader::attach(reading.as_fd()).unwrap(),
            WriteRegion::map(fd.as_fd(), 0).unwrap(),
        )
    }

    #[test]
    fn a_slot_reads_as_what_was_written_last() {
        let (writer, reader, _) = table(3);
        let mut out = Vec::new();
        assert_eq!((writer.claim(), writer.claim()), (Some(0), Some(1)));
        assert_eq!(reader.used(), 2);
        assert!(!reader.read(1, &mut out).unwrap());
        for round in 0..10u8 {
            let payload = vec![round; usize::from(round) * 100];
            writer.write(1, &payload).unwrap();
            assert!(reader.read(1, &mut out).unwrap());
            assert_eq!(out, payload);
            assert!(writer.read(1, &mut out).unwrap());
            assert_eq!(out, payload);
            assert_eq!(reader.version(1), u64::from(round) + 1);
        }
    }

    #[test]
    fn a_full_table_hands_out_no_slot() {
        let (writer, _, _) = table(2);
        assert_eq!(
            [writer.claim(), writer.claim(), writer.claim()],
            [Some(0), Some(1), None]
        );
    }

    #[test]
    fn the_largest_payload_fits_and_a_larger_one_changes_nothing() {
        let (writer, reader, _) = table(2);
        writer.claim();
        writer.claim();
        let full = vec![0xff; PAYLOAD_BYTES_MAX];
        for _ in 0..4 {
            writer.write(0, &full).unwrap();
            writer.write(1, &full).unwrap();
        }
        let larger = vec![1; PAYLOAD_BYTES_MAX + 1];
        assert!(matches!(writer.write(0, &larger), Err(TableError::Large)));
        let mut out = Vec::new();
        for slot in 0..2 {
            assert!(reader.read(slot, &mut out).unwrap());
            assert_eq!(out, full);
        }
    }

    #[test]
    fn a_writer_killed_before_the_switch_leaves_the_state_before() {
        let (writer, reader, raw) = table(1);
        writer.claim();
        writer.write(0, b"before").unwrap();
        let hidden = Place::of(1, 0, 2);
        raw.copy_in(hidden.header, b"a torn write of the hidden copy");
        raw.copy_in(hidden.rest, b"and of its rest");
        let mut out = Vec::new();
        assert!(reader.read(0, &mut out).unwrap());
        assert_eq!(out, b"before");
        writer.write(0, b"after").unwrap();
        assert!(reader.read(0, &mut out).unwrap());
        assert_eq!(out, b"after");
    }

    #[test]
    fn a_successor_finds_all_slots() {
        let fd = create(4).unwrap();
        let first = TableWriter::attach(fd.as_fd()).unwrap();
        let slot = first.claim().unwrap();
        first.write(slot, b"state").unwrap();
        first.claim();
        let second = TableWriter::attach(fd.as_fd()).unwrap();
        let mut out = Vec::new();
        assert_eq!(second.used(), 2);
        assert!(second.read(0, &mut out).unwrap());
        assert_eq!(out, b"state");
        assert!(!second.read(1, &mut out).unwrap());
    }

    #[test]
    fn damage_is_found() {
        let (writer, reader, raw) = table(2);
        writer.claim();
        writer.claim();
        let mut out = Vec::new();
        let large = [b'x'; PAYLOAD_BYTES_MAX];
        let shown = |slot: u32| Place::of(2, slot, reader.version(slot));
        for damage in [&b"garbage!"[..], &[0; 8], &[0xff; 8]] {
            for part in [
                Place::front,
                |place: Place| place.header,
                |place: Place| place.rest,
            ] {
                writer.write(0, &large).unwrap();
                raw.copy_in(part(shown(0)), damage);
                assert!(matches!(
                    reader.read(0, &mut out),
                    Err(TableError::Damaged(0))
                ));
            }
        }
        // A copy of another slot does not pass for this one's.
        writer.write(1, b"elsewhere").unwrap();
        writer.write(0, b"here").unwrap();
        let mut copy = [0; 32];
        raw.copy_out(shown(1).header, &mut copy);
        raw.copy_in(shown(0).header, &copy);
        assert!(reader.read(0, &mut out).is_err());
    }

    #[test]
    fn readers_never_see_half_of_a_write() {
        let fd = create(1).unwrap();
        let writer = TableWriter::attach(fd.as_fd()).unwrap();
        let reader = TableReader::attach(fd.as_fd()).unwrap();
        writer.claim();
        writer.write(0, &[0; 900]).unwrap();
        let rounds = 20_000u32;
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    let payload = [round as u8; 900];
                    writer
                        .write(0, &payload[..800 + round as usize % 100])
                        .unwrap();
                }
                done.store(true, Ordering::Release);
            });
            let mut out = Vec::new();
            while !done.load(Ordering::Acquire) {
                match reader.read(0, &mut out) {
                    Ok(_) => assert!(out.iter().all(|byte| *byte == out[0])),
                    Err(TableError::Busy(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }

    #[test]
    fn something_else_is_no_table() {
        let fd = region::create("test", HEAD_BYTES + SLOT_BYTES).unwrap();
        let raw = WriteRegion::map(fd.as_fd(), 0).unwrap();
        raw.store(MAGIC_WORD, 5, Ordering::Relaxed);
        assert!(matches!(
            TableWriter::attach(fd.as_fd()),
            Err(TableError::Layout)
        ));
        assert!(matches!(
            TableReader::attach(fd.as_fd()),
            Err(TableError::Layout)
        ));
        raw.store(MAGIC_WORD, MAGIC, Ordering::Relaxed);
        raw.store(USED_WORD, u64::MAX, Ordering::Relaxed);
        assert!(matches!(
            TableWriter::attach(fd.as_fd()),
            Err(TableError::Layout)
        ));
        assert_eq!(TableReader::attach(fd.as_fd()).unwrap().used(), 1);
    }

    #[test]
    fn sizes_that_no_table_can_have_are_refused() {
        for devices in [0, DEVICES_MAX + 1] {
            assert!(create(devices).is_err());
        }
    }
}
