//! Trace ids for frames: random enough to sample by, cheap enough for every frame, never zero.

use std::hash::{BuildHasher, RandomState};

use crate::hop::TraceHead;

/// A generator of a process. Two of them do not repeat each other: each starts at a random place of a sequence of 2^64
/// (`splitmix64`; Steele, Lea, Flood 2014).
#[derive(Debug)]
pub struct TraceIds {
    low: u64,
    high: u64,
}

impl TraceIds {
    /// Starts at a place that the standard library's hash keys choose; the kernel gives those to each process.
    pub fn from_random() -> TraceIds {
        let keys = RandomState::new();
        TraceIds {
            low: keys.hash_one(0_u8),
            high: keys.hash_one(1_u8),
        }
    }

    /// The head of a new trace that begins at the monotonic time `t0_ns`.
    pub fn next_head(&mut self, t0_ns: u64) -> TraceHead {
        let high = next(&mut self.high);
        let low = next(&mut self.low);
        TraceHead {
            trace_id: u128::from(high) << 64 | u128::from(low),
            span_id: next(&mut self.low),
            t0_ns,
            ..TraceHead::default()
        }
    }
}

/// One step; zero, which W3C forbids, becomes one.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_not_zero_and_do_not_repeat() {
        let (mut a, mut b) = (TraceIds::from_random(), TraceIds::from_random());
        let heads: Vec<_> = (0..10_000)
            .flat_map(|_| [a.next_head(1), b.next_head(1)])
            .collect();
        let traces: HashSet<_> = heads.iter().map(|head| head.trace_id).collect();
        assert_eq!(traces.len(), heads.len());
        assert!(heads.iter().all(|h| h.trace_id != 0 && h.span_id != 0));
    }

    #[test]
    fn the_number_that_would_be_zero_is_one() {
        // The finaliser maps 0 to 0, so the state before the step that reaches 0 gives it.
        let mut state = 0_u64.wrapping_sub(0x9e37_79b9_7f4a_7c15);
        assert_eq!(next(&mut state), 1);
    }
}
