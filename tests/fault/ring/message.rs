//! What a frame of the storm says: who wrote it, as what part of which message, and bytes that follow from that.
//!
//! Every frame can be checked without knowing any other one, and none can be mistaken for another: a slot that mixes two
//! frames is found even if its checksum were not looked at.

use ringway::ring::Outcome;

/// Bytes of a frame without filler: sequence, life, time, part, parts, length.
pub const HEAD_BYTES: usize = 24;

/// Most frames of one message.
pub const FRAMES_MAX: u64 = 4;

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its sequence in the ring.
    pub seq: u64,
    /// Monotonic clock when it was published, microseconds, 48 bits: about nine years.
    pub published_us: u64,
    /// Generation of its producer.
    pub life: u32,
    /// Which frame of its message, from 0.
    pub part: u8,
    /// Frames of its message.
    pub parts: u8,
}

impl Head {
    /// Sequence of its message's first frame.
    pub fn first_seq(&self) -> u64 {
        self.seq.wrapping_sub(u64::from(self.part))
    }

    /// Writes a frame of `length` bytes.
    pub fn encode(&self, length: usize, out: &mut Vec<u8>) {
        out.clear();
        out.extend(self.seq.to_le_bytes());
        out.extend(self.life.to_le_bytes());
        out.extend(&self.published_us.to_le_bytes()[..6]);
        out.extend([self.part, self.parts]);
        out.extend((length as u32).to_le_bytes());
        let filler = self.filler().to_le_bytes();
        while out.len() < length {
            let more = filler.len().min(length - out.len());
            out.extend(&filler[..more]);
        }
    }

    /// Reads a frame; `None` unless every byte of it is as [`Head::encode`] makes it.
    pub fn decode(bytes: &[u8]) -> Option<Head> {
        let (fixed, filled) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let number = |range: std::ops::Range<usize>| {
            let mut wide = [0; 8];
            wide[..range.len()].copy_from_slice(&fixed[range]);
            u64::from_le_bytes(wide)
        };
        let head = Head {
            seq: number(0..8),
            life: number(8..12) as u32,
            published_us: number(12..18),
            part: fixed[18],
            parts: fixed[19],
        };
        let filler = head.filler().to_le_bytes();
        let whole = filled
            .chunks(8)
            .all(|chunk| chunk == &filler[..chunk.len()]);
        let sensible = head.part < head.parts && u64::from(head.parts) <= FRAMES_MAX;
        (whole && sensible && number(20..24) == bytes.len() as u64).then_some(head)
    }

    /// Different in many bits for every frame ever written (splitmix64, Steele 2014).
    fn filler(&self) -> u64 {
        let parts = u64::from(self.part) << 56 | u64::from(self.life) << 20;
        let mut x = (self.seq ^ parts).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// What the consumer answers to the message that begins there: both sides know.
pub fn outcome(first_seq: u64) -> Outcome {
    if first_seq
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .is_multiple_of(3)
    {
        Outcome::Refused
    } else {
        Outcome::Accepted
    }
}
