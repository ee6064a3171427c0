//! Positions in a ring: heads, tails and what is reckoned with them.
//!
//! A position counts frames since the ring's birth and never wraps: at a hundred million frames a second, [`LAST`] is
//! more than a thousand years away. What a peer *says* its position is may be anything, so [`used`] is the gate: nothing is
//! reckoned with a pair of positions that did not pass it. Behind the gate no sum overflows, whatever was said before.

use super::Position;

/// The furthest position. Two bits are left of a word, which an answer word needs for its outcome; they also leave room
/// for sums of a position and a number of slots.
pub const LAST: Position = 1 << (Position::BITS - 2);

/// Frames between head and tail, if such positions can stand in a ring of so many slots.
pub fn used(head: Position, tail: Position, slots: Position) -> Option<Position> {
    let used = tail.checked_sub(head)?;
    (used <= slots && tail <= LAST).then_some(used)
}

/// Slots that may be written. The frames from `hold` on are kept although the head passed them; a hold at or beyond the
/// head keeps none. `head` and `tail` passed the gate.
pub fn free(head: Position, hold: Position, tail: Position, slots: Position) -> Position {
    slots.saturating_sub(tail - head.min(hold))
}

/// Whether a head that a consumer states is one that it can have: it never goes back, and frees only what was there.
pub fn may_be_freed(head: Position, stated: Position, tail: Position) -> bool {
    head <= stated && stated <= tail
}

/// The head at which so many records, at most all slots, find room.
pub fn head_with_room(records: Position, tail: Position, slots: Position) -> Position {
    (tail + records.min(slots)).saturating_sub(slots)
}

/// The oldest sequence whose frame can still be in its slot.
pub fn oldest(tail: Position, slots: Position) -> Position {
    tail.saturating_sub(slots)
}

/// The slot of a sequence. Whatever is asked for, the slot exists: `slots` is a power of two.
pub fn slot(seq: Position, slots: Position) -> Position {
    seq & (slots - 1)
}
