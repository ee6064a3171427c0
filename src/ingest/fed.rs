//! The loop of an ingest that is fed: one stream of bytes at a time, which the supervisor opened and opens again when it
//! ends: a serial line, a connection to gpsd, a program's output, a named pipe.
//!
//! While a message is stalled the feed is not read: a pipe or line fills up, and whoever writes waits.

use std::fs::File;
use std::io::{self, Read, Write};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::admit::{Door, Judged};
use super::connection::Closed;
use super::pending::Settled;
use super::process::{IngestError, Limits};
use super::publishing::Published;
use super::round::{Rounds, read_at};
use super::session::{Next, ReadAt, Session};
use super::tally::Withheld;
use crate::protocol::{self, Message, Protocol, Reject};
use crate::role::{FeedEnd, FromChild, Handed};
use crate::sys::clock;

/// Bytes read in one go.
const READ_BYTES: usize = 16 * 1024;

/// Token of the feed's input.
const INPUT: u64 = 0;

/// An ingest of a feed.
pub struct Fed {
    epoll: Epoll,
    rounds: Rounds<u64>,
    limits: Limits,
    door: Door,
    protocol: Protocol,
    decoding: protocol::Settings,
    buffer: Box<[u8]>,
    feed: Option<Open>,
    settled: Vec<Settled<u64>>,
}

/// The feed that is open.
struct Open {
    number: u64,
    input: File,
    answers: Option<File>,
    session: Session,
    /// The supervisor knows that it is sound.
    sound: bool,
}

impl Fed {
    /// Takes over all of it.
    pub fn new(
        epoll: Epoll,
        rounds: Rounds<u64>,
        limits: Limits,
        door: Door,
        protocol: Protocol,
        decoding: protocol::Settings,
    ) -> Fed {
        let buffer = vec![0; READ_BYTES + protocol.message_bytes_max().max(READ_BYTES)];
        Fed {
            epoll,
            rounds,
            limits,
            door,
            protocol,
            decoding,
            buffer: buffer.into(),
            feed: None,
            settled: Vec::new(),
        }
    }

    /// Serves until it is drained, then closes the ring.
    ///
    /// # Errors
    /// When the supervisor cannot be told, or nothing can be waited for any more.
    pub fn run(mut self) -> Result<(), IngestError> {
        self.rounds.begin()?;
        let mut events = [EpollEvent::empty(); 2];
        loop {
            let count = self.rounds.wait(&self.epoll, &mut events, false, None)?;
            let now = read_at();
            let now_ms = now.monotonic_ns / 1_000_000;
            while let Some(handed) = self.rounds.next_handed() {
                match handed {
                    Handed::Feed(feed) => self.open(feed)?,
                    Handed::Devices(devices) => self.door.take_list(devices, &self.rounds)?,
                    Handed::Capture(_) | Handed::Certificates(_) => {}
                }
            }
            if self.settle(now_ms) {
                self.rounds.answered();
            }
            if self.rounds.publisher.stalled() {
                self.resume_stalled();
            }
            if !self.rounds.draining()
                && !self.rounds.publisher.stalled()
                && events[..count].iter().any(|event| event.data() == INPUT)
            {
                self.read(now)?;
            }
            self.rounds.hand_over();
            self.door.tell(now_ms, &self.rounds)?;
            self.rounds
                .report(now.monotonic_ns, u32::from(self.feed.is_some()));
            if self.rounds.drained(now_ms) {
                break;
            }
            self.rounds.end();
        }
        self.rounds.hand_over();
        self.rounds.report(clock::monotonic_ns(), 0);
        self.rounds.close();
        Ok(())
    }

    /// Takes a feed in the place of the one before.
    fn open(&mut self, feed: crate::role::Feed) -> Result<(), IngestError> {
        self.close(Closed::Displaced);
        let input = File::from(feed.input);
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, INPUT);
        self.epoll.add(&input, readable).map_err(io::Error::from)?;
        self.rounds.tally.accepted(1);
        self.feed = Some(Open {
            number: feed.number,
            input,
            answers: feed.answers.map(File::from),
            session: Session::new(self.protocol, &self.decoding),
            sound: false,
        });
        Ok(())
    }

    fn close(&mut self, why: Closed) {
        if let Some(open) = self.feed.take() {
            // The supervisor has the same file open, so that dropping ours does not take it out of the set.
            let _ = self.epoll.delete(&open.input);
            self.rounds.tally.closed(why);
        }
    }

    /// The feed is of no use any more.
    fn end(&mut self, why: FeedEnd, closed: Closed, now: ReadAt) -> Result<(), IngestError> {
        let Some(open) = &mut self.feed else {
            return Ok(());
        };
        let number = open.number;
        if open.session.is_within_message() {
            self.rounds.tally.refused(Reject::Incomplete);
        }
        while let Some(message) = self.feed.as_mut().and_then(|open| open.session.flush()) {
            self.let_in(number, message, now);
        }
        self.close(closed);
        self.rounds.say(&FromChild::FeedEnded { number, why })
    }

    /// Gives the answers of messages whose outcome is now known; whether there were any.
    fn settle(&mut self, now_ms: u64) -> bool {
        let mut settled = std::mem::take(&mut self.settled);
        self.rounds.publisher.settle(now_ms, &mut settled);
        let mut answered = false;
        for Settled { to, answer, ending } in settled.drain(..) {
            let here = self.feed.as_ref().is_some_and(|open| open.number == to);
            answered |= self.rounds.settled(ending, here);
            self.answer(to, &answer);
        }
        self.settled = settled;
        answered
    }

    fn resume_stalled(&mut self) {
        if let Some((to, published)) = self.rounds.publisher.resume() {
            self.published(to, published);
        }
    }

    fn read(&mut self, now: ReadAt) -> Result<(), IngestError> {
        let Some(open) = &mut self.feed else {
            return Ok(());
        };
        let (kept, _) = open.session.put_kept(&mut self.buffer);
        match open.input.read(&mut self.buffer[kept..kept + READ_BYTES]) {
            Ok(0) => self.end(FeedEnd::Closed, Closed::Peer, now),
            Ok(bytes) => {
                self.rounds.tally.bytes(bytes);
                self.feed(kept + bytes, now)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                _ => self.end(FeedEnd::Broken, Closed::Peer, now),
            },
        }
    }

    /// Reads the messages in the first `length` bytes of the buffer, and keeps what is left.
    fn feed(&mut self, length: usize, at: ReadAt) -> Result<(), IngestError> {
        let mut taken = 0;
        while let Some(open) = &mut self.feed
            && !self.rounds.publisher.stalled()
        {
            let number = open.number;
            match open.session.next(&self.buffer[taken..length], at) {
                Next::Incomplete => break,
                Next::Refused { consumed, reason } => {
                    taken += consumed;
                    self.rounds.tally.refused(reason);
                }
                Next::Message { consumed, message } => {
                    taken += consumed;
                    let known = std::mem::replace(&mut open.sound, true);
                    self.let_in(number, message, at);
                    if !known {
                        self.rounds.say(&FromChild::FeedSound { number })?;
                    }
                }
            }
        }
        let errors_max = self.limits.errors_max;
        let Some(open) = &mut self.feed else {
            return Ok(());
        };
        open.session.keep(&self.buffer[taken..length], at);
        if open.session.errors_in_a_row() >= errors_max {
            return self.end(FeedEnd::Unreadable, Closed::Errors, at);
        }
        Ok(())
    }

    /// Takes a message as far as its device may come in. A feed is not ended for a stranger: it may carry many devices.
    fn let_in(&mut self, to: u64, mut message: Message, at: ReadAt) {
        let judged = message.device.map_or(Judged::Taken, |device| {
            let source = || "feed".to_owned();
            self.door.judge(device, source, at, &self.rounds.tally)
        });
        match judged {
            Judged::Taken => self.message(to, message, at),
            Judged::Quarantined => {
                message.reports.clear();
                message.answer_when_safe.clear();
                self.message(to, message, at);
            }
            Judged::Rejected => self.rounds.tally.message(message.refused),
        }
    }

    /// Publishes what a message reports and answers what needs no outcome.
    fn message(&mut self, to: u64, mut message: Message, at: ReadAt) {
        self.answer(to, &std::mem::take(&mut message.answer_now));
        match self.rounds.publish(to, message, at) {
            Ok(published) => self.published(to, published),
            Err(why) => self.rounds.tally.stalled(why),
        }
    }

    fn published(&mut self, to: u64, published: Published) {
        match published {
            Published::Unanswered | Published::Awaiting => {}
            Published::Answer(answer) | Published::Refused(answer) => self.answer(to, &answer),
        }
    }

    fn answer(&mut self, to: u64, answer: &[u8]) {
        let open = self.feed.as_mut().filter(|open| open.number == to);
        let answers = open.and_then(|open| open.answers.as_mut());
        if let Some(answers) = answers.filter(|_| !answer.is_empty())
            && answers.write_all(answer).is_err()
        {
            self.rounds.tally.withheld(Withheld::Unsent);
        }
    }
}
