//! What must be said of a ring's memory, by the description of the layout and a checksum of its own.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering::Relaxed;

use ringway::ring::Geometry;
use ringway::sys::region::WriteRegion;

use super::layout::{self, page, producer};

/// A ring's memory, to look at.
pub struct Memory<'a> {
    pub geometry: Geometry,
    pub page: &'a WriteRegion,
    /// The P-region.
    pub words: &'a WriteRegion,
}

/// Where positions end: decision 11.
pub const POSITION_MAX: u64 = 1 << 62;

/// What a consumer must say, by the document's rules and a checksum of its own.
pub struct Judge {
    slots: u64,
    pub head: u64,
    /// The last tail that was possible.
    tail: u64,
    /// Sequence and generation of the furthest frame read.
    furthest: Option<(u64, u64)>,
    quarantined: bool,
}

impl Judge {
    pub fn new(geometry: Geometry, head: u64) -> Judge {
        Judge {
            slots: u64::from(geometry.slots),
            head,
            tail: head,
            furthest: None,
            quarantined: false,
        }
    }

    pub fn available(&mut self, memory: &Memory<'_>) -> Option<u64> {
        let tail = memory.words.load(producer::TAIL, Relaxed);
        let ahead = tail.wrapping_sub(self.head);
        let back = ahead < self.tail - self.head;
        self.quarantined |= ahead > self.slots || back || tail > POSITION_MAX;
        if self.quarantined {
            return None;
        }
        self.tail = tail;
        Some(ahead)
    }

    pub fn read(&mut self, memory: &Memory<'_>, seq: u64) -> Option<Vec<u8>> {
        let newest = memory.page.load(page::GENERATION, Relaxed);
        let allowed = match self.furthest {
            None => 1..=newest,
            // Generations never fall along the ring.
            Some((furthest, generation)) if furthest <= seq => generation..=newest,
            Some((_, generation)) => 1..=generation,
        };
        let record = good(memory, seq, allowed);
        self.quarantined |= record.is_none();
        if record.is_some() && self.furthest.is_none_or(|(furthest, _)| furthest < seq) {
            let Geometry { slots, stride, .. } = memory.geometry;
            let word = layout::slot_word(slots, stride, seq) + 1;
            self.furthest = Some((seq, memory.words.load(word, Relaxed)));
        }
        record
    }

    pub fn advance(&mut self, to: u64) {
        self.head = to;
    }
}

/// The record in the slot of a sequence, if all of the slot is right.
pub fn good(memory: &Memory<'_>, seq: u64, generations: RangeInclusive<u64>) -> Option<Vec<u8>> {
    let Geometry { slots, stride, .. } = memory.geometry;
    let slot = layout::slot_word(slots, stride, seq);
    let [said, generation, length, sum] =
        [0, 1, 2, 3].map(|n| memory.words.load(slot + n, Relaxed));
    let longest = u64::from(stride) - layout::SLOT_HEADER_WORDS as u64 * 8;
    if said != seq || !generations.contains(&generation) || length > longest {
        return None;
    }
    let mut record = vec![0; length as usize];
    memory
        .words
        .copy_out((slot + layout::SLOT_HEADER_WORDS) * 8, &mut record);
    (layout::slot_checksum(seq, generation, &record) == sum).then_some(record)
}
