//! Streams that fall silent: a moment of which a receiver speaks in several messages ends when it says no more (pure).

use std::collections::VecDeque;

/// A stream that is silent for this long has ended its epoch.
const SILENCE_MS: u64 = 200;

/// Streams that were heard lately, by when they will have been silent for long enough.
///
/// The stream itself keeps its mark, when that will be after all; each is listed once.
#[derive(Debug)]
pub struct Silences<K> {
    due: VecDeque<(u64, K)>,
}

impl<K: Copy> Silences<K> {
    /// Nobody was heard.
    pub fn new() -> Silences<K> {
        Silences {
            due: VecDeque::new(),
        }
    }

    /// The stream with this mark was heard.
    pub fn heard(&mut self, key: K, mark: &mut Option<u64>, now_ms: u64) {
        let due_ms = now_ms + SILENCE_MS;
        if mark.replace(due_ms).is_none() {
            self.due.push_back((due_ms, key));
        }
    }

    /// When to look again.
    pub fn due_ms(&self) -> Option<u64> {
        self.due.front().map(|&(due_ms, _)| due_ms)
    }

    /// The next stream that fell silent; its mark is to be cleared. `mark` tells that of a stream that is still there.
    pub fn next(&mut self, now_ms: u64, mut mark: impl FnMut(K) -> Option<u64>) -> Option<K> {
        while let Some(&(due_ms, key)) = self.due.front()
            && due_ms <= now_ms
        {
            self.due.pop_front();
            match mark(key) {
                Some(later_ms) if later_ms > now_ms => self.due.push_back((later_ms, key)),
                Some(_) => return Some(key),
                None => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_was_heard_again_is_silent_later_and_one_that_is_gone_never() {
        let mut silences = Silences::new();
        let mut marks = [None; 3];
        for (key, mark) in marks.iter_mut().enumerate() {
            silences.heard(key, mark, 1_000);
        }
        silences.heard(1, &mut marks[1], 1_100);
        marks[2] = None;
        assert_eq!(silences.due_ms(), Some(1_200));
        assert_eq!(silences.next(1_199, |key| marks[key]), None);
        assert_eq!(silences.next(1_200, |key| marks[key]), Some(0));
        assert_eq!(silences.next(1_200, |key| marks[key]), None);
        assert_eq!(silences.next(1_300, |key| marks[key]), Some(1));
        assert_eq!(silences.due_ms(), None);
    }
}
