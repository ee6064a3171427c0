//! Connections that have not shown yet that a known device is at their other end, by how long they have waited (pure).
//!
//! Whoever comes is one of them, known devices too. When there is no room, the one that has waited longest gives way, so
//! that connections of which nothing comes never keep known devices out.

use std::hash::RandomState;

use hashlink::LinkedHashMap;

/// Time that a connection has to show it, however little room there is.
pub const GRACE_MS: u64 = 5_000;

/// Unproven connections, at most as many as are open.
#[derive(Debug)]
pub struct Unproven {
    /// By token, in the order in which they came; when they did, monotonic milliseconds.
    waiting: LinkedHashMap<u64, u64, RandomState>,
}

impl Unproven {
    /// None.
    pub fn new() -> Unproven {
        Unproven {
            waiting: LinkedHashMap::with_hasher(RandomState::new()),
        }
    }

    /// A connection came.
    pub fn came(&mut self, token: u64, now_ms: u64) {
        self.waiting.insert(token, now_ms);
    }

    /// A connection is proven, or gone.
    pub fn is_none_any_more(&mut self, token: u64) {
        self.waiting.remove(&token);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    /// All of them, the one that has waited longest first.
    pub fn oldest_first(&self) -> impl Iterator<Item = u64> {
        self.waiting.keys().copied()
    }

    /// The one that has waited longest, if it has for long enough to give way.
    pub fn gives_way(&self, now_ms: u64) -> Option<u64> {
        let (&token, &since_ms) = self.waiting.front()?;
        (now_ms >= since_ms + GRACE_MS).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_has_waited_longest_gives_way_once_it_had_its_time() {
        let mut unproven = Unproven::new();
        assert_eq!(unproven.gives_way(9_999), None);
        for token in 1..=3 {
            unproven.came(token, token * 1_000);
        }
        assert_eq!(unproven.gives_way(1_000 + GRACE_MS - 1), None);
        assert_eq!(unproven.gives_way(1_000 + GRACE_MS), Some(1));
        unproven.is_none_any_more(1);
        assert_eq!(unproven.gives_way(1_000 + GRACE_MS), None);
        unproven.is_none_any_more(2);
        assert_eq!(unproven.gives_way(3_000 + GRACE_MS), Some(3));
        assert_eq!(unproven.count(), 1);
    }
}
