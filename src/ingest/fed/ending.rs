//! How what a feed says comes to an end: a moment of a receiver, a feed, and all of it at a drain.

use super::answers::Answers;
use super::open::Open;
use super::{Fed, Origin};
use crate::ingest::connection::Closed;
use crate::ingest::process::IngestError;
use crate::ingest::session::ReadAt;
use crate::ingest::tally::Withheld;
use crate::protocol::Reject;
use crate::role::{FeedEnd, FromChild};

impl Fed {
    /// Ends the moment of a receiver that fell silent.
    pub(super) fn end_silent_epoch(&mut self, now: ReadAt) {
        let now_ms = now.monotonic_ns / 1_000_000;
        let feed = &self.feed;
        let silence = |number| {
            let open = feed.as_ref().filter(|open| open.number == number);
            open.and_then(|open| open.silence)
        };
        if self.silences.next(now_ms, silence).is_some() {
            self.end_epoch(now);
        }
    }

    /// Takes the reports that were waiting for more of the same moment; `false` if there were none.
    fn end_epoch(&mut self, at: ReadAt) -> bool {
        let mut any = false;
        if let Some(open) = &mut self.feed
            && open.silence.take().is_some()
        {
            self.rounds.capture.quiet(open.number, at);
        }
        while !self.rounds.publisher.stalled()
            && let Some(open) = &mut self.feed
            && let Some(message) = open.session.flush()
        {
            any = true;
            let number = open.number;
            self.let_in(number, message, at);
        }
        any
    }

    /// Closes a feed that ended, once all is said: what a receiver said of a moment counts although it says no more, and
    /// who ended his side may still read answers.
    pub(super) fn finish(&mut self, now: ReadAt) -> Result<(), IngestError> {
        let Some((why, open)) = self
            .feed
            .as_mut()
            .and_then(|open| Some((open.ended?, open)))
        else {
            return Ok(());
        };
        // Kept messages first.
        if self.rounds.publisher.stalled() || open.resumable || open.paused {
            return Ok(());
        }
        if open.session.is_within_message() {
            self.rounds.tally.refused(Reject::Incomplete);
        }
        open.session.keep(&[], now);
        self.end_epoch(now);
        let stalled = self.rounds.publisher.stalled();
        let is_pipe = matches!(self.origin, Origin::Pipe | Origin::Program);
        let is_pipe = is_pipe && why == FeedEnd::Closed;
        let is_read =
            |open: &Open| is_pipe && open.answers.as_ref().is_some_and(Answers::has_reader);
        let waits = |open: &Open| stalled || is_read(open) && open.awaiting > 0;
        let Some(mut open) = self.feed.take_if(|open| !waits(open)) else {
            return Ok(());
        };
        for _ in 0..open.answers.as_ref().map_or(0, |answers| answers.unsent()) {
            self.rounds.tally.withheld(Withheld::Unsent);
        }
        open.forget(&self.epoll);
        self.rounds.tally.feed_ended(why);
        let number = open.number;
        let closed = match why {
            FeedEnd::Closed | FeedEnd::Broken => Closed::Peer,
            FeedEnd::Unreadable => Closed::Errors,
            FeedEnd::Stalled => Closed::Idle,
        };
        self.rounds.capture.closed(number, closed);
        // Before the word of it: the supervisor may open the same thing again. A named pipe outlives its ends, and what is
        // written until it is opened again comes from this one, too.
        self.last = Some(open).filter(|_| self.origin == Origin::Pipe);
        self.rounds.say(&FromChild::FeedEnded { number, why })
    }

    /// Reads what is left in a pipe or line at the end: nobody will come for it. Whether there is something to wait for.
    pub(super) fn read_rest(&mut self, now: ReadAt) -> Result<bool, IngestError> {
        // Whoever is still waited for is waited for too long: time is up.
        let mut any = self.drain_reads > 0 && !self.held_up();
        // Nobody opens a named pipe again whose writers have left, but others may have written since.
        let last = self.last.take().filter(|_| any && self.feed.is_none());
        self.feed = self.feed.take().or(last);
        if self.origin == Origin::Pipe
            && let Some(open) = self.feed.as_mut().filter(|_| any)
        {
            open.ended = None;
        }
        while any && self.drain_reads > 0 {
            if !self.read_once(now)? {
                // Held up, it is read on when that is over.
                let open = self.feed.as_ref().filter(|open| open.paused);
                if open.is_none() && !self.rounds.publisher.stalled() {
                    self.drain_reads = 0;
                }
                break;
            }
            self.drain_reads -= 1;
        }
        any |= self.end_epoch(now);
        // This round has handed over already.
        self.rounds.hand_over();
        Ok(any && self.held_up())
    }

    /// Whether outcomes or room for a message are waited for.
    fn held_up(&self) -> bool {
        self.rounds.publisher.awaited() > 0 || self.rounds.publisher.stalled()
    }
}
