//! Hop stamps: how an alarm's trace can reach back to the socket although nobody knew there that it was an alarm.
//!
//! Each hop stamps a time into the frame's head and does nothing else. When the verdict is known, the owner of the
//! frame (the uplink if it raised an alarm, else the dispatcher) hands the stamps to the observer, which builds the
//! spans after the fact.

use serde::{Deserialize, Serialize};

/// Bytes of an encoded [`TraceHead`]: one cache line.
pub const TRACE_HEAD_BYTES: usize = 64;

/// Nanoseconds of one tick of a stamp; a stamp saturates 274 s after `t0`.
pub const TICK_NS: u64 = 64;

/// The hops, in the order of a frame's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Hop {
    /// The message is decoded.
    Decoded = 0,
    /// The frame is committed to the sensor ring.
    Committed = 1,
    /// The classifier took the batch that holds it.
    Taken = 2,
    /// The verdict is known.
    Classified = 3,
    /// Its outcome is committed to the next ring.
    HandedOn = 4,
    /// Pushed to subscribers, or in the journal.
    Done = 5,
}

/// Count of [`Hop`]s.
pub const HOPS: usize = 6;

/// Trace identity and hop stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceHead {
    /// W3C trace id; zero in a frame that nobody may trace.
    pub trace_id: u128,
    /// Id of the root span; the ids of later hops derive from it.
    pub span_id: u64,
    /// Monotonic time of the first byte of the message, nanoseconds.
    pub t0_ns: u64,
    /// Ticks after `t0_ns` at each [`Hop`]; zero where the hop has not happened.
    pub stamps: [u32; HOPS],
    /// Marks, one bit each ([`TraceHead::SAMPLED`]).
    pub flags: u8,
}

impl TraceHead {
    /// The trace is exported whatever the verdict is.
    pub const SAMPLED: u8 = 1;
    /// The frame was seen before by a process that died.
    pub const REDELIVERED: u8 = 1 << 1;

    /// Stamps a hop at the monotonic time `now_ns`. A stamp is at least one tick, so that it differs from "not yet".
    pub fn stamp(&mut self, hop: Hop, now_ns: u64) {
        let ticks = (now_ns.saturating_sub(self.t0_ns) / TICK_NS).clamp(1, u64::from(u32::MAX));
        self.stamps[hop as usize] = ticks as u32;
    }

    /// Monotonic time of a hop, nanoseconds; `None` if it has not happened.
    pub fn at_ns(&self, hop: Hop) -> Option<u64> {
        let ticks = self.stamps[hop as usize];
        (ticks != 0).then(|| self.t0_ns.saturating_add(u64::from(ticks) * TICK_NS))
    }

    /// Whether the trace is one of those exported whatever the verdict is: one in `one_in` by its id, so that every
    /// process comes to the same answer; 0: none.
    pub fn in_ratio(&self, one_in: u32) -> bool {
        one_in != 0
            && self.trace_id != 0
            && (self.trace_id as u64).is_multiple_of(u64::from(one_in))
    }

    /// Id of a later span of this trace: derived, so that every process knows it beforehand and a repeated export is
    /// the same span. Never zero.
    pub fn child_span_id(&self, number: u8) -> u64 {
        let step = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mix(self.span_id.wrapping_add(step))
    }

    /// Id of a span that is about one event: a frame may raise several, each with spans of its own.
    pub fn event_span_id(&self, number: u8, event: &[u8; 16]) -> u64 {
        let (_, low) = event.split_at(8);
        let low = u64::from_le_bytes(std::array::from_fn(|i| low[i]));
        mix(self.child_span_id(number) ^ low)
    }

    /// The W3C `traceparent` that makes the `send alarms` span of an event the parent of whoever reads it.
    pub fn traceparent(&self, event: &[u8; 16]) -> String {
        format!(
            "00-{:032x}-{:016x}-01",
            self.trace_id,
            self.event_span_id(span::SEND_ALARM, event)
        )
    }

    /// Fixed layout, little-endian.
    pub fn encode(&self) -> [u8; TRACE_HEAD_BYTES] {
        let mut out = [0; TRACE_HEAD_BYTES];
        out[0..16].copy_from_slice(&self.trace_id.to_le_bytes());
        out[16..24].copy_from_slice(&self.span_id.to_le_bytes());
        out[24..32].copy_from_slice(&self.t0_ns.to_le_bytes());
        for (bytes, stamp) in out[32..56].chunks_exact_mut(4).zip(self.stamps) {
            bytes.copy_from_slice(&stamp.to_le_bytes());
        }
        out[56] = self.flags;
        out
    }

    /// Reads what [`TraceHead::encode`] wrote. Every bit pattern is valid; the observer checks the order of stamps.
    pub fn decode(bytes: [u8; TRACE_HEAD_BYTES]) -> TraceHead {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        TraceHead {
            trace_id: u128::from(word(0)) | u128::from(word(8)) << 64,
            span_id: word(16),
            t0_ns: word(24),
            stamps: std::array::from_fn(|hop| {
                u32::from_le_bytes(std::array::from_fn(|i| bytes[32 + 4 * hop + i]))
            }),
            flags: bytes[56],
        }
    }
}

/// `splitmix64` finaliser (Steele, Lea, Flood 2014); never zero.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1)
}

/// Numbers of the derived spans, one a place in the code that a trace shows.
pub mod span {
    /// `receive {sensor}`: the root; its id is the root id itself.
    pub const RECEIVE: u8 = 0;
    /// `decode {protocol}`.
    pub const DECODE: u8 = 1;
    /// `send ring`.
    pub const SEND_RING: u8 = 2;
    /// `process ring`.
    pub const PROCESS_RING: u8 = 3;
    /// `classify`.
    pub const CLASSIFY: u8 = 4;
    /// `push tracks`.
    pub const PUSH_TRACKS: u8 = 5;
    /// `journal`; one for each event.
    pub const JOURNAL: u8 = 6;
    /// `send alarms/{device}`; one for each event.
    pub const SEND_ALARM: u8 = 7;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_a_stamp_is_never_mistaken_for_none() {
        let mut head = TraceHead {
            trace_id: u128::MAX - 5,
            span_id: 3,
            t0_ns: 1_000_000,
            ..TraceHead::default()
        };
        head.stamp(Hop::Decoded, 1_000_000);
        head.stamp(Hop::Done, u64::MAX);
        assert_eq!(TraceHead::decode(head.encode()), head);
        assert_eq!(head.at_ns(Hop::Decoded), Some(1_000_064));
        assert_eq!(head.at_ns(Hop::Taken), None);
        assert_eq!(head.stamps[Hop::Done as usize], u32::MAX);
    }

    #[test]
    fn derived_span_ids_differ_and_are_stable() {
        let head = TraceHead {
            span_id: 1,
            ..TraceHead::default()
        };
        let ids: std::collections::HashSet<u64> = (0..8).map(|n| head.child_span_id(n)).collect();
        assert_eq!((ids.len(), ids.contains(&0)), (8, false));
        assert_eq!(head.child_span_id(3), head.child_span_id(3));
        let of = |byte| head.event_span_id(span::JOURNAL, &[byte; 16]);
        assert_ne!(of(1), of(2));
    }
}
