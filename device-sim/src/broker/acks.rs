//! Acknowledgements that a script holds back: late ones and those that go out backwards. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::script::Ack;

/// Longest that acknowledgements wait for others to be turned round with; a client whose window is smaller than the
/// depth would wait for ever.
const GATHER: Duration = Duration::from_millis(50);

/// What waits. Bounded by the client's packet ids: each is acknowledged once.
#[derive(Debug, Default)]
pub struct Acks<T> {
    late: BTreeMap<(Instant, u64), T>,
    number: u64,
    gathered: Vec<T>,
    gathered_since: Option<Instant>,
}

impl<T> Acks<T> {
    /// Nothing waits.
    pub fn new() -> Acks<T> {
        Acks {
            late: BTreeMap::new(),
            number: 0,
            gathered: Vec::new(),
            gathered_since: None,
        }
    }

    /// Takes an acknowledgement and hands to `send`, in order, what goes out now.
    pub fn push(&mut self, item: T, how: Ack, now: Instant, mut send: impl FnMut(T)) {
        if how.dropped {
            return;
        }
        if !how.delay.is_zero() {
            self.number += 1;
            self.late.insert((now + how.delay, self.number), item);
        } else if how.reorder > 1 {
            self.gathered.push(item);
            self.gathered_since.get_or_insert(now);
            if self.gathered.len() >= usize::from(how.reorder) {
                self.turn(&mut send);
            }
        } else {
            send(item);
        }
    }

    fn turn(&mut self, send: &mut impl FnMut(T)) {
        self.gathered_since = None;
        self.gathered.drain(..).rev().for_each(send);
    }

    /// When to call [`Acks::release`] next.
    pub fn due(&self) -> Option<Instant> {
        let late = self.late.first_key_value().map(|((due, _), _)| *due);
        let gathered = self.gathered_since.map(|since| since + GATHER);
        late.into_iter().chain(gathered).min()
    }

    /// Hands to `send` what is due.
    pub fn release(&mut self, now: Instant, mut send: impl FnMut(T)) {
        while let Some(entry) = self.late.first_entry() {
            if entry.key().0 > now {
                break;
            }
            send(entry.remove());
        }
        if self
            .gathered_since
            .is_some_and(|since| since + GATHER <= now)
        {
            self.turn(&mut send);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_acks_go_out_backwards_by_depth_or_by_time() {
        let (mut acks, mut out, now) = (Acks::new(), Vec::new(), Instant::now());
        let how = Ack {
            reorder: 3,
            ..Ack::default()
        };
        for id in 1..=5 {
            acks.push(id, how, now, |id| out.push(id));
        }
        assert_eq!(out, [3, 2, 1]);
        assert_eq!(acks.due(), Some(now + GATHER));
        acks.release(now + GATHER, |id| out.push(id));
        assert_eq!((out, acks.due()), (vec![3, 2, 1, 5, 4], None));
    }

    #[test]
    fn late_acks_wait_for_their_time_and_dropped_ones_never_come() {
        let (mut acks, mut out, now) = (Acks::new(), Vec::new(), Instant::now());
        let (late, dropped) = (
            Ack {
                delay: Duration::from_millis(20),
                ..Ack::default()
            },
            Ack {
                dropped: true,
                ..Ack::default()
            },
        );
        acks.push(1, late, now, |id| out.push(id));
        acks.push(2, dropped, now, |id| out.push(id));
        acks.push(3, Ack::default(), now, |id| out.push(id));
        acks.release(now + Duration::from_millis(19), |id| out.push(id));
        assert_eq!(out, [3]);
        acks.release(now + Duration::from_millis(20), |id| out.push(id));
        assert_eq!((out, acks.due()), (vec![3, 1], None));
    }
}
