//! The slots of a state table: two copies each, switched by one store, and what orders the loads and stores around it.

use std::io;

use super::sync::{Ordering, ReadRegion, WORD_BYTES, WriteRegion, crc32c_append, fence};

/// Bytes of a slot: the switch and two copies.
pub const SLOT_BYTES: usize = NEAR_BYTES + 2 * REST_BYTES;

/// Most bytes of a payload: what a copy holds of it near the switch, and the rest.
pub const PAYLOAD_BYTES_MAX: usize = FRONT_BYTES_MAX + REST_BYTES;

/// Most devices of a table.
pub const DEVICES_MAX: u32 = 500_000;

/// Times that a reader starts over because the writer switched meanwhile. The writer needs microseconds for each of its
/// two writes in between, the reader less than one for a copy.
const READ_ATTEMPTS_MAX: u32 = 64;

pub(super) const HEAD_BYTES: usize = 4096;
const SWITCH_BYTES: usize = 64;
/// Bytes of a slot's near part: the switch and the fronts of both copies. A device without open alarms has all of its
/// state there, so the pages of the rests, which lie behind the near parts of all slots, are hardly ever touched.
const NEAR_BYTES: usize = 1024;
const COPY_BYTES: usize = (NEAR_BYTES - SWITCH_BYTES) / 2;
const COPY_HEADER_BYTES: usize = 8;
const FRONT_BYTES_MAX: usize = COPY_BYTES - COPY_HEADER_BYTES;
/// Bytes of a copy's rest.
const REST_BYTES: usize = 512;

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"RWTABL02");
pub(super) const MAGIC_WORD: usize = 0;
pub(super) const USED_WORD: usize = 16;

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

fn slots_in(bytes: usize) -> u32 {
    u32::try_from((bytes - HEAD_BYTES) / SLOT_BYTES).unwrap_or(u32::MAX)
}

fn switch_word(slot: u32) -> usize {
    (HEAD_BYTES + slot as usize * NEAR_BYTES) / WORD_BYTES
}

/// Where a copy lies in a table.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Byte of its header; the front follows.
    pub header: usize,
    /// Byte of its rest.
    pub rest: usize,
}

impl Place {
    /// The copy that a switch value shows, in a table of so many slots; the other one is that of the next value.
    pub fn of(slots: u32, slot: u32, switch: u64) -> Place {
        let copy = (switch % 2) as usize;
        let near = HEAD_BYTES + slot as usize * NEAR_BYTES;
        let rests = HEAD_BYTES + slots as usize * NEAR_BYTES;
        Place {
            header: near + SWITCH_BYTES + copy * COPY_BYTES,
            rest: rests + (slot as usize * 2 + copy) * REST_BYTES,
        }
    }

    pub fn front(self) -> usize {
        self.header + COPY_HEADER_BYTES
    }
}

/// Length and checksum of a payload in one word. The slot's number is in the sum, and so is the length: zeros do not
/// pass, nor does a copy that belongs elsewhere.
fn copy_header(slot: u32, payload: &[u8]) -> u64 {
    let length = payload.len() as u64;
    let words = [u64::from(slot).to_ne_bytes(), length.to_ne_bytes()].concat();
    let sum = crc32c_append(crc32c_append(0, &words), payload);
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
    /// Takes over what is in the region.
    ///
    /// # Errors
    /// `Layout` when it is something else.
    pub(super) fn over(region: WriteRegion) -> Result<TableWriter, TableError> {
        match region.load(MAGIC_WORD, Ordering::Relaxed) {
            MAGIC => {}
            // Relaxed: to readers an empty table is a table too.
            0 => region.store(MAGIC_WORD, MAGIC, Ordering::Relaxed),
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
        // Relaxed: a slot says by its own switch whether there is something in it.
        self.region
            .store(USED_WORD, u64::from(slot) + 1, Ordering::Relaxed);
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
    /// Reads what is in the region.
    ///
    /// # Errors
    /// `Layout` when it is something else.
    pub(super) fn over(region: ReadRegion) -> Result<TableReader, TableError> {
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
        // Relaxed, as in `TableWriter::claim`.
        let used = self.region.load(USED_WORD, Ordering::Relaxed);
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
