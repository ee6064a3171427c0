//! Streams that fall silent: a moment of which a receiver speaks in several messages ends when it says no more (pure).

use std::collections::VecDeque;

/// A stream that is silent for this long has ended its epoch.
const SILENCE_MS: u64 = 200;

/// What a stream keeps while its silence is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When it will have been silent for long enough.
    due_ms: u64,
    /// Its place in the list. A stream that went and came again has another one, so that its old place is worth nothing.
    number: u64,
}

/// Streams that were heard lately, by when they will have been silent for long enough.
#[derive(Debug)]
pub struct Silences<K> {
    due: VecDeque<(Mark, K)>,
    number: u64,
}

impl<K: Copy> Silences<K> {
    /// Nobody was heard.
    pub fn new() -> Silences<K> {
        Silences {
            due: VecDeque::new(),
            number: 0,
        }
    }

    /// The stream with this mark was heard.
    pub fn heard(&mut self, key: K, mark: &mut Option<Mark>, now_ms: u64) {
        let due_ms = now_ms + SILENCE_MS;
        match mark {
            Some(mark) => mark.due_ms = due_ms,
            None => {
                self.number += 1;
                let number = self.number;
                let mark = mark.insert(Mark { due_ms, number });
                self.due.push_back((*mark, key));
            }
        }
    }

    /// When to look again.
    pub fn due_ms(&self) -> Option<u64> {
        self.due.front().map(|(mark, _)| mark.due_ms)
    }

    /// The next stream that fell silent; its mark is to be cleared. `mark` tells that of a stream that is still there.
    pub fn next(&mut self, now_ms: u64, mut mark: impl FnMut(K) -> Option<Mark>) -> Option<K> {
        while let Some(&(listed, key)) = self.due.front()
            && listed.due_ms <= now_ms
        {
            self.due.pop_front();
            match mark(key).filter(|mark| mark.number == listed.number) {
                Some(later) if later.due_ms > now_ms => self.due.push_back((later, key)),
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

    /// Two senders took each other's place in a table of one: each of their datagrams left an entry that was kept as long
    /// as its sender was heard.
    #[test]
    fn a_stream_that_goes_and_comes_again_is_listed_once() {
        let mut silences = Silences::new();
        let mut mark = None;
        for now_ms in 0..10_000 {
            // Forgotten and entered anew.
            mark = None;
            silences.heard((), &mut mark, now_ms);
            assert_eq!(silences.next(now_ms, |()| mark), None);
            assert!(silences.due.len() <= SILENCE_MS as usize + 1);
        }
        assert_eq!(silences.next(20_000, |()| mark), Some(()));
    }
}
