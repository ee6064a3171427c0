//! Answers that wait until what they answer is safe.
//!
//! A published message that awaits an answer holds one word of the ring's answer table; a message that was too large
//! for one commit holds one for each of its parts and is answered when all are accepted. This is bookkeeping only: it
//! sees neither the ring nor a socket. Indices that a dead predecessor used are handed out again at once, because a
//! word counts for a message only if it carries that message's first sequence. An outcome that does not come, as when
//! the ring behind the classifier had to be replaced, is given up after [`OUTCOME_WAIT_MAX_MS`]: the message is not
//! answered, as if it were refused, its device sends again, and the word serves the next one.

use std::collections::VecDeque;
use std::ops::Range;

use crate::ring::Outcome;

/// Longest time that an outcome is waited for, milliseconds: far above what a device waits, or a slow disk takes.
pub const OUTCOME_WAIT_MAX_MS: u64 = 60_000;

/// A message that was published, or is being published, and is owed an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u32);

/// What a message is answered at the end of its way; empty: nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// If it is safe.
    pub safe: Vec<u8>,
    /// If it could not be kept, or that took too long.
    pub refused: Vec<u8>,
}

impl Answers {
    /// Whether nobody waits, however it ends.
    pub fn is_empty(&self) -> bool {
        self.safe.is_empty() && self.refused.is_empty()
    }

    fn after(self, ending: Ending) -> Vec<u8> {
        match ending {
            Ending::Accepted => self.safe,
            Ending::Lapsed | Ending::Refused => self.refused,
        }
    }
}

/// The end of a message's way: whom to tell, and what.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled<K> {
    /// Who waits.
    pub to: K,
    /// What to send; empty: nothing.
    pub answer: Vec<u8>,
    /// How it came to it.
    pub ending: Ending,
}

/// The end of a message; of several parts, the worst of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// All of it is safe.
    Accepted,
    /// The outcome did not come in time.
    Lapsed,
    /// It could not be kept.
    Refused,
}

/// Messages that await their outcome, at most as many as the answer table has words.
#[derive(Debug)]
pub struct Pending<K> {
    /// Words to use again.
    free: Vec<u32>,
    /// Words that were never used. Most of a quiet sensor's stay so, and need no list.
    fresh: Range<u32>,
    awaited: VecDeque<Awaited>,
    replies: Vec<Reply<K>>,
    vacant: Vec<u32>,
}

/// One word of the answer table in use.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    index: u32,
    first_seq: u64,
    reply: u32,
    published_ms: u64,
    /// As last looked at.
    outcome: Outcome,
}

/// One message.
#[derive(Debug)]
struct Reply<K> {
    to: K,
    answers: Answers,
    /// Parts published whose outcome is not known.
    parts: u32,
    /// Further parts will follow.
    open: bool,
    ending: Ending,
}

impl<K: Copy> Pending<K> {
    /// Nothing awaited; `answers_max` words to hand out.
    pub fn new(answers_max: u32) -> Pending<K> {
        Pending {
            free: Vec::new(),
            fresh: 0..answers_max,
            awaited: VecDeque::new(),
            replies: Vec::new(),
            vacant: Vec::new(),
        }
    }

    /// Words in use: parts of messages whose outcome is not known.
    pub fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// The word that the next part will use; `None`: all are in use.
    pub fn next_index(&self) -> Option<u32> {
        let again = self.free.last().copied();
        again.or_else(|| self.fresh.clone().next())
    }

    /// Begins a message whose parts will be published one after the other.
    pub fn open(&mut self, to: K, answers: Answers) -> Ticket {
        let reply = Reply {
            to,
            answers,
            parts: 0,
            open: true,
            ending: Ending::Accepted,
        };
        match self.vacant.pop() {
            Some(at) => {
                self.replies[at as usize] = reply;
                Ticket(at)
            }
            None => {
                self.replies.push(reply);
                Ticket(self.replies.len() as u32 - 1)
            }
        }
    }

    /// A part was published under [`Pending::next_index`], its first frame at `first_seq`.
    pub fn published(&mut self, ticket: Ticket, first_seq: u64, now_ms: u64) {
        let index = self.free.pop().or_else(|| self.fresh.next());
        let index = index.expect("a part is published under a free index");
        self.replies[ticket.0 as usize].parts += 1;
        self.awaited.push_back(Awaited {
            index,
            first_seq,
            reply: ticket.0,
            published_ms: now_ms,
            outcome: Outcome::Pending,
        });
    }

    /// All parts are published. A message whose parts were all settled meanwhile ends here.
    pub fn close(&mut self, ticket: Ticket) -> Option<Settled<K>> {
        self.replies[ticket.0 as usize].open = false;
        self.end_if_settled(ticket.0)
    }

    /// The rest of a message will not be published: it ends as refused, at once if no part of it is awaited.
    pub fn refuse(&mut self, ticket: Ticket) -> Option<Settled<K>> {
        self.replies[ticket.0 as usize].ending = Ending::Refused;
        self.close(ticket)
    }

    /// Looks at every word in use, in the order of publication, and appends to `settled` the messages whose outcome is
    /// now known, or was waited for too long. `outcome` reads the word of an index for the message that began at a
    /// sequence.
    pub fn settle(
        &mut self,
        now_ms: u64,
        mut outcome: impl FnMut(u32, u64) -> Outcome,
        settled: &mut Vec<Settled<K>>,
    ) {
        // The newest first: outcomes of a device are set in the order of its messages, so whoever sees that of a later one
        // then sees those before it. A device that is answered for a release has the answer for the press before it.
        for part in self.awaited.iter_mut().rev() {
            part.outcome = outcome(part.index, part.first_seq);
        }
        for _ in 0..self.awaited.len() {
            let part = self.awaited.pop_front().expect("counted by the loop");
            let ending = match part.outcome {
                Outcome::Pending if now_ms < part.published_ms + OUTCOME_WAIT_MAX_MS => {
                    self.awaited.push_back(part);
                    continue;
                }
                Outcome::Pending => Ending::Lapsed,
                Outcome::Refused => Ending::Refused,
                Outcome::Accepted => Ending::Accepted,
            };
            self.free.push(part.index);
            let reply = &mut self.replies[part.reply as usize];
            reply.parts -= 1;
            reply.ending = reply.ending.max(ending);
            settled.extend(self.end_if_settled(part.reply));
        }
    }

    fn end_if_settled(&mut self, at: u32) -> Option<Settled<K>> {
        let reply = &mut self.replies[at as usize];
        if reply.open || reply.parts > 0 {
            return None;
        }
        self.vacant.push(at);
        Some(Settled {
            to: reply.to,
            answer: std::mem::take(&mut reply.answers).after(reply.ending),
            ending: reply.ending,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 5_000;

    fn answers(to: u8) -> Answers {
        Answers {
            safe: vec![to],
            refused: vec![to, to],
        }
    }

    fn settle(
        pending: &mut Pending<u8>,
        outcome: impl FnMut(u32, u64) -> Outcome,
    ) -> Vec<(u8, bool)> {
        let mut settled = Vec::new();
        pending.settle(NOW_MS, outcome, &mut settled);
        let accepted = |s: &Settled<u8>| (s.to, s.ending == Ending::Accepted);
        settled.iter().map(accepted).collect()
    }

    fn message(pending: &mut Pending<u8>, to: u8, first_seqs: &[u64]) {
        let ticket = pending.open(to, answers(to));
        for &seq in first_seqs {
            pending.published(ticket, seq, NOW_MS);
        }
        assert_eq!(pending.close(ticket), None);
    }

    /// Both outcomes were set, in order, just after the first word was looked at. The later message was answered, the
    /// earlier one a moment later; a kill in between left the device with the wrong one of the two.
    #[test]
    fn no_message_is_answered_before_one_whose_outcome_was_set_before() {
        let mut pending = Pending::new(4);
        message(&mut pending, 1, &[10]);
        message(&mut pending, 2, &[20]);
        let mut looks = 0;
        let outcome = |_, _| {
            looks += 1;
            match looks {
                1 => Outcome::Pending,
                _ => Outcome::Accepted,
            }
        };
        assert_eq!(settle(&mut pending, outcome), [(1, true)]);
        assert_eq!(settle(&mut pending, |_, _| Outcome::Accepted), [(2, true)]);
    }

    #[test]
    fn messages_are_settled_in_order_and_pending_ones_stay_in_order() {
        let mut pending = Pending::new(4);
        for (to, seq) in [(1, 10), (2, 11), (3, 12)] {
            message(&mut pending, to, &[seq]);
        }
        let second = |_, seq| match seq {
            11 => Outcome::Accepted,
            _ => Outcome::Pending,
        };
        assert_eq!(settle(&mut pending, second), [(2, true)]);
        assert_eq!(pending.awaited(), 2);
        let all = settle(&mut pending, |_, _| Outcome::Accepted);
        assert_eq!(all, [(1, true), (3, true)]);
    }

    #[test]
    fn all_words_in_use_is_an_answer_and_a_settled_word_is_used_again() {
        let mut pending = Pending::new(2);
        message(&mut pending, 1, &[10]);
        message(&mut pending, 2, &[11]);
        assert_eq!(pending.next_index(), None);
        let first = |_, seq| match seq {
            10 => Outcome::Refused,
            _ => Outcome::Pending,
        };
        assert_eq!(settle(&mut pending, first), [(1, false)]);
        assert_eq!(pending.next_index(), Some(0));
    }

    #[test]
    fn a_message_in_parts_is_accepted_when_all_are_and_refused_when_one_is() {
        let mut pending = Pending::new(4);
        message(&mut pending, 1, &[10, 20]);
        message(&mut pending, 2, &[30, 40]);
        let early = |_, seq| match seq {
            10 => Outcome::Accepted,
            30 => Outcome::Refused,
            _ => Outcome::Pending,
        };
        assert_eq!(settle(&mut pending, early), []);
        let late = settle(&mut pending, |_, _| Outcome::Accepted);
        assert_eq!(late, [(1, true), (2, false)]);
    }

    #[test]
    fn a_message_whose_first_part_is_settled_waits_for_parts_yet_to_be_published() {
        let mut pending = Pending::new(4);
        let ticket = pending.open(1, answers(1));
        pending.published(ticket, 10, NOW_MS);
        assert_eq!(settle(&mut pending, |_, _| Outcome::Accepted), []);
        let end = pending.close(ticket).unwrap();
        assert_eq!(
            (end.to, end.ending, end.answer),
            (1, Ending::Accepted, vec![1])
        );
    }

    #[test]
    fn what_could_not_be_kept_is_answered_by_the_words_for_that_and_not_by_those_for_what_is_safe()
    {
        let mut pending = Pending::new(4);
        message(&mut pending, 1, &[10]);
        message(&mut pending, 2, &[20]);
        message(&mut pending, 3, &[30]);
        let mut settled = Vec::new();
        let outcome = |_, seq| match seq {
            10 => Outcome::Accepted,
            20 => Outcome::Refused,
            _ => Outcome::Pending,
        };
        pending.settle(NOW_MS + OUTCOME_WAIT_MAX_MS, outcome, &mut settled);
        let said: Vec<_> = settled.into_iter().map(|s| (s.ending, s.answer)).collect();
        let expected = [
            (Ending::Accepted, vec![1]),
            (Ending::Refused, vec![2, 2]),
            (Ending::Lapsed, vec![3, 3]),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_message_of_which_the_rest_is_given_up_is_refused_whatever_becomes_of_its_parts() {
        let mut pending = Pending::new(4);
        let ticket = pending.open(1, answers(1));
        pending.published(ticket, 10, NOW_MS);
        assert_eq!(pending.refuse(ticket), None);
        assert_eq!(settle(&mut pending, |_, _| Outcome::Accepted), [(1, false)]);
        assert_eq!(pending.next_index(), Some(0));
    }

    /// The ring between classifier and uplink was replaced under messages that waited: their words were in use for ever,
    /// and so were the places of their connections.
    #[test]
    fn an_outcome_that_never_comes_is_given_up_and_its_word_used_again() {
        let mut pending = Pending::new(2);
        message(&mut pending, 1, &[10]);
        let ticket = pending.open(2, answers(2));
        pending.published(ticket, 20, NOW_MS + 1);
        assert_eq!(pending.close(ticket), None);
        let mut at = |now_ms| {
            let mut settled = Vec::new();
            pending.settle(now_ms, |_, _| Outcome::Pending, &mut settled);
            settled.iter().map(|s| (s.to, s.ending)).collect::<Vec<_>>()
        };
        assert_eq!(at(NOW_MS + OUTCOME_WAIT_MAX_MS - 1), []);
        assert_eq!(at(NOW_MS + OUTCOME_WAIT_MAX_MS), [(1, Ending::Lapsed)]);
        assert_eq!(pending.next_index(), Some(0));
        // What comes after all is about another message than the word's next one.
        message(&mut pending, 3, &[30]);
        let late = |_, seq| match seq {
            10 => Outcome::Accepted,
            _ => Outcome::Pending,
        };
        assert_eq!(settle(&mut pending, late), []);
    }
}
