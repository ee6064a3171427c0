//! Where each word of a ring lies, and what makes a slot good.
//!
//! Pure: it knows no process and no map. Control words that different sides write lie 128 bytes apart, two cache lines,
//! because the prefetcher of common processors fetches lines in pairs.

use serde::{Deserialize, Serialize};

use super::error::{AttachError, Violation};
use super::position;
use super::sync::REGION_BYTES_MAX;

/// First word of an S-page; the digits are the layout's version.
pub const MAGIC: u64 = u64::from_le_bytes(*b"RWRING02");

/// Words of the S-page, which the supervisor alone writes.
pub mod supervisor_page {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// Number of the ring.
    pub const RING: usize = 1;
    /// Birth of the ring.
    pub const BIRTH: usize = 2;
    /// Slots.
    pub const SLOTS: usize = 3;
    /// Bytes from slot to slot.
    pub const STRIDE: usize = 4;
    /// Words of the answer table.
    pub const ANSWERS: usize = 5;
    /// Generation of the producer that runs now; grows with each one started.
    pub const GENERATION: usize = 16;
    /// Not zero: no producer will come back.
    pub const CLOSED: usize = 32;
    /// Bytes of the page.
    pub const BYTES: usize = 4096;
}

/// Words of the P-region, which the producer alone writes.
pub mod producer_region {
    /// Sequence of the next frame; storing it is the commit.
    pub const TAIL: usize = 0;
    /// Not zero: this producer will write no more.
    pub const CLOSED: usize = 16;
    /// Odd: the producer sleeps.
    pub const NAP: usize = 32;
    /// Head position at which a sleeping producer wants its bell; `u64::MAX`: it does not wait for room.
    pub const WAKE_AT: usize = 33;
    /// Not zero: a sleeping producer wants its bell for answers.
    pub const WANTS_ANSWERS: usize = 34;
    /// Times that something did not fit and must be read from the state table instead.
    pub const RESYNC: usize = 48;
    /// Byte at which the slots begin.
    pub const SLOTS_BYTE: usize = 512;
}

/// Words of the C-region, which the consumer alone writes.
pub mod consumer_region {
    /// Sequence of the first frame that is not free.
    pub const HEAD: usize = 0;
    /// Odd: the consumer sleeps.
    pub const NAP: usize = 16;
    /// Tail position at which a sleeping consumer wants its bell.
    pub const WAKE_AT: usize = 17;
    /// Times that answers were written; what a producer that waits for answers looks at.
    pub const ANSWERED: usize = 32;
    /// First word of the answer table.
    pub const ANSWERS: usize = 48;
}

/// Bytes of a slot's own header: sequence, generation, length, checksum; eight bytes each.
pub const SLOT_HEADER_BYTES: usize = 32;

/// Most slots of a ring.
pub const SLOTS_MAX: u32 = 1 << 20;

/// Most bytes from slot to slot.
pub const STRIDE_BYTES_MAX: u32 = 64 * 1024;

/// Most words of an answer table.
pub const ANSWERS_MAX: u32 = 1 << 20;

/// Size of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Slots, a power of two.
    pub slots: u32,
    /// Bytes from slot to slot, a multiple of 64.
    pub stride: u32,
    /// Words of the answer table; 0: none.
    pub answers: u32,
}

/// Which ring this is, as the S-page and the assignment state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Number of the ring.
    pub ring: u32,
    /// Birth of the ring: no two rings of a node ever have the same.
    pub birth: u64,
    /// Its size.
    pub geometry: Geometry,
}

impl Identity {
    /// Checks that this is the ring that was assigned.
    pub(super) fn check(&self, assigned: &Identity) -> Result<(), AttachError> {
        if self == assigned {
            return Ok(());
        }
        Err(AttachError::Other {
            found: *self,
            assigned: *assigned,
        })
    }
}

impl Geometry {
    /// Whether a ring can have this size.
    pub fn is_possible(&self) -> bool {
        self.slots.is_power_of_two()
            && (2..=SLOTS_MAX).contains(&self.slots)
            && self.stride.is_multiple_of(64)
            && (64..=STRIDE_BYTES_MAX).contains(&self.stride)
            && self.answers <= ANSWERS_MAX
            && self.producer_bytes() <= REGION_BYTES_MAX
    }

    /// Most bytes of one record.
    pub fn record_bytes_max(&self) -> usize {
        self.stride as usize - SLOT_HEADER_BYTES
    }

    /// Bytes of the P-region.
    pub(super) fn producer_bytes(&self) -> usize {
        producer_region::SLOTS_BYTE + self.slots as usize * self.stride as usize
    }

    /// Bytes of the C-region.
    pub(super) fn consumer_bytes(&self) -> usize {
        (consumer_region::ANSWERS + self.answers as usize) * 8
    }

    /// Byte at which the slot of a sequence begins. The mask keeps it inside whatever the sequence is.
    pub(super) fn slot_byte(&self, seq: u64) -> usize {
        let slot = position::slot(seq, self.slots.into());
        producer_region::SLOTS_BYTE + slot as usize * self.stride as usize
    }

    /// Frames between two positions, if such positions can stand in one ring at a time.
    pub(super) fn used(&self, head: u64, tail: u64) -> Option<u64> {
        position::used(head, tail, self.slots.into())
    }
}

/// What stands before a record in its slot: a check of the frame, not its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotHeader {
    pub seq: u64,
    pub generation: u64,
    pub length: u64,
    pub checksum: u64,
}

impl SlotHeader {
    /// The header of a record that is not copied yet, and so without its checksum.
    pub fn begin(seq: u64, generation: u64, length: usize) -> SlotHeader {
        SlotHeader {
            seq,
            generation,
            length: length as u64,
            checksum: 0,
        }
    }

    /// The words that the checksum is over, beside the record.
    pub fn summed(&self) -> [u64; 3] {
        [self.seq, self.generation, self.length]
    }

    /// The words in the order in which they lie in the slot.
    pub fn words(&self) -> [u64; SLOT_HEADER_BYTES / 8] {
        [self.seq, self.generation, self.length, self.checksum]
    }

    /// Takes private copies of a slot's words, each loaded once.
    pub fn decode(words: [u64; SLOT_HEADER_BYTES / 8]) -> SlotHeader {
        let [seq, generation, length, checksum] = words;
        SlotHeader {
            seq,
            generation,
            length,
            checksum,
        }
    }

    /// Checks all that can be checked before the record is copied, and returns its length.
    pub fn check(
        &self,
        seq: u64,
        generations: std::ops::RangeInclusive<u64>,
        geometry: &Geometry,
    ) -> Result<usize, Violation> {
        if self.seq != seq {
            return Err(Violation::Sequence { seq });
        }
        if !generations.contains(&self.generation) {
            return Err(Violation::Generation { seq });
        }
        match usize::try_from(self.length) {
            Ok(length) if length <= geometry.record_bytes_max() => Ok(length),
            _ => Err(Violation::Length { seq }),
        }
    }

    /// Checks the checksum that was made of a private copy of the record. Zeros, as after a punched hole, do not pass:
    /// theirs is not zero.
    pub fn check_sum(&self, checksum: u64) -> Result<(), Violation> {
        if checksum == self.checksum {
            Ok(())
        } else {
            Err(Violation::Checksum { seq: self.seq })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn geometry(slots: u32) -> Geometry {
        Geometry {
            slots,
            stride: 128,
            answers: 0,
        }
    }

    #[test]
    fn sizes_that_no_ring_can_have_are_refused() {
        let good = Geometry {
            slots: 4096,
            stride: 512,
            answers: 1024,
        };
        assert!(good.is_possible());
        for bad in [
            Geometry { slots: 0, ..good },
            Geometry { slots: 1, ..good },
            Geometry { slots: 3, ..good },
            Geometry {
                slots: 1 << 21,
                ..good
            },
            Geometry { stride: 0, ..good },
            Geometry { stride: 65, ..good },
            Geometry {
                stride: 1 << 17,
                ..good
            },
            Geometry {
                slots: 1 << 20,
                stride: 1 << 16,
                ..good
            },
            Geometry {
                answers: u32::MAX,
                ..good
            },
        ] {
            assert!(!bad.is_possible(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_slot_lies_inside_its_region_whatever_the_sequence(seq in any::<u64>(), power in 1u32..12) {
            let ring = geometry(1 << power);
            let byte = ring.slot_byte(seq);
            prop_assert!(byte >= producer_region::SLOTS_BYTE);
            prop_assert!(byte + 128 <= ring.producer_bytes());
            prop_assert_eq!(byte, ring.slot_byte(seq.wrapping_add(u64::from(ring.slots))));
        }
    }
}
