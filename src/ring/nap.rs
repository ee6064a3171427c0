//! What a side that sleeps and the one that wakes it agree on.
//!
//! The nap word of a sleeper is odd while it sleeps. It makes the word odd, passes a full fence and looks once more; the
//! other side stores what the sleeper waits for, passes a full fence and looks at the word. One of the two sees the
//! other's store, so no wake-up is lost. Beside the word stands what the sleeper wants to hear of.

use super::sync::{Bell, Ordering, WriteRegion};

/// How readily a sleeper wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// By the first frame or answer.
    Idle,
    /// By what is urgent, or by many frames; a timer does the rest.
    Busy,
}

/// One side of one ring, as a waiter needs it.
pub(super) trait Sleeper: Send + Sync {
    /// Says that this side sleeps, then looks once more; `false` when there is work, so that it must not sleep.
    fn nap_begin(&self, depth: Depth) -> bool;
    /// Whether there is something that this side has not looked at.
    fn has_work(&self) -> bool;
    /// Says that this side is awake.
    fn nap_end(&self);
    /// Notes what has come so far as seen: the caller is about to look. Not part of `nap_end`, since the caller of a
    /// wait that is cancelled does not look.
    fn look(&self);
    /// A count that grows with what this side waits for.
    fn position(&self) -> u64;
    /// What the other side rings.
    fn bell(&self) -> &Bell;
}

/// Begins a nap. Relaxed: the fence that has to follow carries it, and what was stored before it.
pub(super) fn nap_begin(region: &WriteRegion, nap_word: usize) {
    let nap = region.load(nap_word, Ordering::Relaxed);
    region.store(nap_word, nap.wrapping_add(1) | 1, Ordering::Relaxed);
}

/// Ends a nap: the own one, or one that a predecessor died in. The count wraps: a predecessor that was taken over may
/// have left any number.
pub(super) fn nap_end(region: &WriteRegion, nap_word: usize) {
    let nap = region.load(nap_word, Ordering::Relaxed);
    if !nap.is_multiple_of(2) {
        region.store(nap_word, nap.wrapping_add(1), Ordering::Relaxed);
    }
}
