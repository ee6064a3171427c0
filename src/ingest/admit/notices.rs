//! What an operator should look at: device ids that are not on the list, and ids that two devices seem to have (pure).
//!
//! The last few of each, and for each kind of refusal a log line now and then.

use std::hash::RandomState;

use hashlink::LinkedHashMap;

use crate::frame::DeviceId;
use crate::role::{Notice, Noticed};

/// Ids of each kind that are remembered: the last ones.
pub const NOTICES_MAX: usize = 64;

/// A line of the log for each kind of refusal in so much time.
const LINE_EVERY_MS: u64 = 10_000;

/// Ids by what was noticed of them.
#[derive(Debug)]
pub struct Notices {
    kinds: [Kind; Noticed::ALL.len()],
    changed: bool,
}

#[derive(Debug)]
struct Kind {
    /// In the order in which they were noticed last.
    last: LinkedHashMap<DeviceId, Notice, RandomState>,
    line_at_ms: u64,
    unsaid: u64,
}

/// A line that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of how many more it was not said since the last line.
    pub unsaid: u64,
}

impl Notices {
    /// Nothing was noticed.
    pub fn new() -> Notices {
        let kind = || Kind {
            last: LinkedHashMap::with_hasher(RandomState::new()),
            line_at_ms: 0,
            unsaid: 0,
        };
        Notices {
            kinds: std::array::from_fn(|_| kind()),
            changed: false,
        }
    }

    /// Notes a device; `source` is where it comes from. Says whether the log should have a line of it.
    pub fn note(
        &mut self,
        what: Noticed,
        device: DeviceId,
        source: impl FnOnce() -> String,
        now_ms: u64,
        wall_ms: i64,
    ) -> Option<Line> {
        self.changed = true;
        let kind = &mut self.kinds[what as usize];
        match kind.last.to_back(&device) {
            Some(notice) => {
                notice.last_ms = wall_ms;
                notice.count += 1;
            }
            None => {
                if kind.last.len() >= NOTICES_MAX {
                    kind.last.pop_front();
                }
                let notice = Notice {
                    what,
                    device,
                    source: source(),
                    first_ms: wall_ms,
                    last_ms: wall_ms,
                    count: 1,
                };
                kind.last.insert(device, notice);
            }
        }
        if now_ms < kind.line_at_ms {
            kind.unsaid += 1;
            return None;
        }
        kind.line_at_ms = now_ms + LINE_EVERY_MS;
        let unsaid = std::mem::take(&mut kind.unsaid);
        Some(Line { unsaid })
    }

    /// Forgets those of which it is not true any more.
    pub fn forget(&mut self, what: Noticed, mut over: impl FnMut(&DeviceId) -> bool) {
        let last = &mut self.kinds[what as usize].last;
        let before = last.len();
        last.retain(|device, _| !over(device));
        self.changed |= last.len() < before;
    }

    /// All, the latest of each kind first, if there is news since they were last taken.
    pub fn take_news(&mut self) -> Option<Vec<Notice>> {
        let news = std::mem::take(&mut self.changed);
        let all = self.kinds.iter().flat_map(|kind| kind.last.values().rev());
        news.then(|| all.cloned().collect())
    }

    /// They could not be passed on.
    pub fn put_back(&mut self) {
        self.changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> DeviceId {
        DeviceId::new(number.to_string().as_bytes()).unwrap()
    }

    fn note(notices: &mut Notices, number: usize, now_ms: u64) -> Option<Line> {
        let source = || "192.0.2.1".to_owned();
        notices.note(Noticed::Unknown, id(number), source, now_ms, now_ms as i64)
    }

    #[test]
    fn the_last_ones_are_remembered_with_how_often_and_since_when() {
        let mut notices = Notices::new();
        assert_eq!(notices.take_news(), None);
        for number in 0..=NOTICES_MAX {
            note(&mut notices, number, 1_000);
        }
        note(&mut notices, 5, 2_000);
        let all = notices.take_news().unwrap();
        assert_eq!(all.len(), NOTICES_MAX);
        let five = &all[0];
        assert_eq!(
            (five.device, five.first_ms, five.last_ms, five.count),
            (id(5), 1_000, 2_000, 2)
        );
        assert!(!all.iter().any(|notice| notice.device == id(0)));
        assert_eq!(notices.take_news(), None);
        notices.forget(Noticed::Unknown, |device| *device == id(5));
        assert_eq!(notices.take_news().unwrap().len(), NOTICES_MAX - 1);
    }

    #[test]
    fn a_flood_of_them_is_a_line_in_ten_seconds_that_counts_the_rest() {
        let mut notices = Notices::new();
        assert_eq!(note(&mut notices, 1, 50_000), Some(Line { unsaid: 0 }));
        for now_ms in 50_001..60_000 {
            assert_eq!(note(&mut notices, 2, now_ms), None);
        }
        assert_eq!(note(&mut notices, 3, 60_000), Some(Line { unsaid: 9_999 }));
        let other = notices.note(Noticed::Contested, id(1), String::new, 60_000, 0);
        assert_eq!(
            other,
            Some(Line { unsaid: 0 }),
            "each kind has lines of its own"
        );
    }
}
