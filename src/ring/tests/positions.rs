//! Positions, tried out: all of them at a width of eight bits, many at the real one.
//!
//! The narrow twin is the same file. Its sums are checked for overflow, as all are in tests.

use proptest::prelude::*;

use super::super::position as wide;

#[path = ".."]
#[allow(
    clippy::duplicate_mod,
    reason = "the same file at another width is the point"
)]
mod narrow {
    pub type Position = u8;

    #[path = "position.rs"]
    pub mod position;
}

use narrow::position;

const SLOTS: [u8; 5] = [2, 4, 8, 16, 32];

/// Every pair of positions with every size of ring, and what they are in numbers that cannot overflow.
fn all(mut check: impl FnMut([u8; 3], [i32; 3])) {
    for slots in SLOTS {
        for head in 0..=u8::MAX {
            for tail in 0..=u8::MAX {
                let wide = [head, tail, slots].map(i32::from);
                check([head, tail, slots], wide);
            }
        }
    }
}

/// Every pair that can stand in a ring.
fn possible(mut check: impl FnMut([u8; 3], [i32; 3])) {
    let mut pairs = 0;
    all(|narrow @ [head, tail, slots], wide| {
        if position::used(head, tail, slots).is_some() {
            pairs += 1;
            check(narrow, wide);
        }
    });
    assert!(pairs > 1_000, "{pairs} pairs are possible");
}

#[test]
fn the_gate_lets_through_what_can_stand_in_a_ring_and_nothing_else() {
    assert_eq!(position::LAST, 64);
    all(|[head, tail, slots], [h, t, s]| {
        let expected = (h <= t && t <= h + s && t <= 64).then_some(t - h);
        let used = position::used(head, tail, slots).map(i32::from);
        assert_eq!(used, expected, "head {head}, tail {tail}, {slots} slots");
    });
}

#[test]
fn what_is_free_and_what_is_used_are_all_slots() {
    possible(|[head, tail, slots], [h, t, s]| {
        for hold in 0..=u8::MAX {
            let kept = h.min(i32::from(hold));
            let expected = (s - (t - kept)).max(0);
            let free = i32::from(position::free(head, hold, tail, slots));
            assert_eq!(free, expected, "{head} {hold} {tail} {slots}");
        }
        assert_eq!(
            position::free(head, u8::MAX, tail, slots),
            slots - (tail - head)
        );
    });
}

#[test]
fn a_stated_head_moves_within_what_was_written() {
    possible(|[head, tail, _], [h, t, _]| {
        for stated in 0..=u8::MAX {
            let expected = (h..=t).contains(&i32::from(stated));
            assert_eq!(position::may_be_freed(head, stated, tail), expected);
        }
    });
}

#[test]
fn a_producer_is_woken_at_the_first_head_with_room_and_not_before() {
    possible(|[_, tail, slots], [_, t, s]| {
        for records in 1..=u8::MAX {
            let wanted = i32::from(records).min(s);
            let wake_at = i32::from(position::head_with_room(records, tail, slots));
            let first = (0..=t).find(|head| s - (t - head) >= wanted);
            assert_eq!(
                Some(wake_at),
                first,
                "{records} records, tail {tail}, {slots} slots"
            );
        }
    });
}

#[test]
fn the_frames_that_can_be_read_again_have_a_slot_each() {
    possible(|[_, tail, slots], _| {
        let mut seen = [false; 32];
        for seq in position::oldest(tail, slots)..tail {
            let slot = position::slot(seq, slots);
            assert!(slot < slots);
            assert!(!std::mem::replace(&mut seen[usize::from(slot)], true));
        }
    });
}

#[test]
fn a_slot_exists_for_every_number() {
    for slots in SLOTS {
        for seq in 0..=u8::MAX {
            assert_eq!(position::slot(seq, slots), seq % slots);
        }
    }
}

/// Positions where something could go wrong, and any.
fn positions() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..64,
        wide::LAST - 64..=wide::LAST + 64,
        u64::MAX - 64..=u64::MAX,
    ]
}

/// Slots, a head and a tail that the gate lets through.
fn admitted() -> impl Strategy<Value = (u64, u64, u64)> {
    let heads = prop_oneof![0..=wide::LAST, 0u64..64, wide::LAST - 64..=wide::LAST,];
    (1u32..21, heads)
        .prop_flat_map(|(power, head)| {
            let slots = 1u64 << power;
            let room = slots.min(wide::LAST - head);
            (Just(slots), Just(head), 0..=room)
        })
        .prop_map(|(slots, head, used)| (slots, head, head + used))
}

proptest! {
    #[test]
    fn the_gate_is_the_same_at_the_real_width(
        head in positions(),
        ahead in prop_oneof![any::<u64>(), 0u64..64],
        power in 1u32..21,
    ) {
        let slots = 1u64 << power;
        let tail = head.wrapping_add(ahead);
        let (h, t, s) = (u128::from(head), u128::from(tail), u128::from(slots));
        let expected = h <= t && t <= h + s && t <= u128::from(wide::LAST);
        prop_assert_eq!(wide::used(head, tail, slots), expected.then_some(ahead));
    }

    #[test]
    fn behind_the_gate_nothing_overflows_at_the_real_width(
        (slots, head, tail) in admitted(),
        hold in positions(),
        stated in positions(),
        records in positions(),
    ) {
        prop_assert_eq!(wide::used(head, tail, slots), Some(tail - head));
        let free = wide::free(head, hold, tail, slots);
        prop_assert!(free <= slots - (tail - head));
        let wake_at = wide::head_with_room(records, tail, slots);
        prop_assert!(wake_at <= tail);
        prop_assert!(wide::free(wake_at, u64::MAX, tail, slots) >= records.min(slots));
        prop_assert_eq!(wide::may_be_freed(head, stated, tail), (head..=tail).contains(&stated));
        prop_assert!(tail - wide::oldest(tail, slots) <= slots);
    }
}
