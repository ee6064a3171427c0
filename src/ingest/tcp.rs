//! The loop of an ingest whose devices connect: wait, settle answers, take in, answer.
//!
//! Under load it looks at its sockets at most once per [`GATHER`], because waking is what costs; the first message
//! after a pause is taken at once. While a message is stalled no socket is read, so a full ring slows the senders down
//! and nothing grows here; a device with very many unanswered messages is slowed down alone.

use std::collections::VecDeque;
use std::time::Duration;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::connection::{Closed, Connections, Got, Key, LISTENER};
use super::pending::{Ending, Settled};
use super::process::{IngestError, Limits};
use super::publishing::{Outgoing, Published, Publisher};
use super::session::{Next, ReadAt, Session};
use super::tally::Tally;
use super::wake::{self, Wake};
use crate::protocol::{self, Message, Protocol};
use crate::ring;
use crate::sys::clock;
use crate::sys::fail::{self, Point};

/// Longest time for which messages wait to be taken together when there is load. The hops behind take what one round
/// hands over, so most of the millisecond that all may take is spent here, where it saves wake-ups of all of them.
const GATHER: Duration = Duration::from_micros(1_000 - 2 * ring::COALESCE.as_micros() as u64);

/// A round with more messages than this was long enough to make up for its wake-up: the next one follows at once.
const GATHER_MESSAGES_MAX: u32 = 64;

/// Bytes that one connection gives in a round, besides what was kept of it.
const READ_BYTES: usize = 16 * 1024;

/// Events taken from the kernel in a round.
const EVENTS_MAX: usize = 1024;

/// Longest sleep: the heart beats and the backstop of the ring's bell.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Messages further apart than this are no load, ns.
const QUIET_NS: u64 = 2_000_000;

/// How often answers are looked for under load, when nobody rings for them.
const ANSWERS_EVERY: Duration = Duration::from_millis(1);

/// A stream that is silent for this long has ended its epoch.
const SILENCE_MS: u64 = 200;

/// Time for which a drain waits for outcomes.
const DRAIN_MS_MAX: u64 = 2_000;

/// Token of the control channel and the bell.
const WAKE: u64 = u64::MAX - 1;

/// An ingest of the input `tcp`.
pub struct Tcp {
    connections: Connections,
    publisher: Publisher<Key>,
    wake: Wake,
    tally: Tally,
    limits: Limits,
    protocol: Protocol,
    decoding: protocol::Settings,
    buffer: Box<[u8]>,
    events: Vec<EpollEvent>,
    /// Connections that have whole messages kept and may go on.
    resumable: VecDeque<Key>,
    /// Connections read lately, by when they will have been silent.
    silent: VecDeque<(u64, Key)>,
    settled: Vec<Settled<Key>>,
    /// Messages of this round.
    messages: u32,
    round_ended_ns: u64,
    /// When the last round with messages ended.
    taken_in_ns: u64,
    /// Whether the last round was one of many.
    loaded: bool,
}

impl Tcp {
    /// Takes over all of it. Nothing is accepted before [`Tcp::run`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(
        connections: Connections,
        mut publisher: Publisher<Key>,
        wake: Wake,
        tally: Tally,
        limits: Limits,
        protocol: Protocol,
        decoding: protocol::Settings,
    ) -> Result<Tcp, IngestError> {
        publisher.gather();
        connections
            .epoll()
            .add(wake.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))
            .map_err(std::io::Error::from)?;
        // A session keeps what one read left over, at most what is in the buffer then.
        let buffer = vec![0; READ_BYTES + protocol.message_bytes_max().max(READ_BYTES)];
        Ok(Tcp {
            connections,
            publisher,
            wake,
            tally,
            limits,
            protocol,
            decoding,
            buffer: buffer.into(),
            events: vec![EpollEvent::empty(); EVENTS_MAX],
            resumable: VecDeque::new(),
            silent: VecDeque::new(),
            settled: Vec::new(),
            messages: 0,
            round_ended_ns: 0,
            taken_in_ns: 0,
            loaded: false,
        })
    }

    /// Serves until it is drained, then closes the ring.
    ///
    /// # Errors
    /// When the sockets cannot be waited on any more.
    pub fn run(mut self) -> Result<(), IngestError> {
        self.connections.listen(true)?;
        self.wake.say_ready()?;
        self.tally.ready();
        let mut drain_until_ms = None;
        loop {
            let count = self.wait(drain_until_ms)?;
            let now = read_at();
            let now_ms = now.monotonic_ns / 1_000_000;
            self.messages = 0;
            let answered = self.settle(now_ms);
            if drain_until_ms.is_none() {
                self.take_in(count, now)?;
            } else if self.publisher.stalled() {
                self.resume_stalled();
            }
            fail::pass(Point::IngestBell);
            self.publisher.hand_over();
            let tally = &self.tally;
            self.connections.flush(now_ms, |why| tally.closed(why));
            if answered {
                fail::pass(Point::IngestAnswered);
            }
            self.connections.sweep(now_ms, |why| tally.closed(why));
            self.report(now.monotonic_ns);
            if self.wake.drain() {
                let until = *drain_until_ms.get_or_insert(now_ms + DRAIN_MS_MAX);
                if self.is_empty() || now_ms >= until {
                    break;
                }
            } else {
                self.connections.listen_if_room(now_ms)?;
            }
            self.end_round();
        }
        for key in self.connections.keys() {
            self.connections.close(key);
            self.tally.closed(Closed::Drain);
        }
        self.report(clock::monotonic_ns());
        self.tally.ends();
        self.publisher.close();
        Ok(())
    }

    /// Notes how busy the sensor is: one message after a quiet time is no load, and its answer is waited for by the
    /// bell, not by the clock.
    fn end_round(&mut self) {
        self.round_ended_ns = clock::monotonic_ns();
        self.loaded = false;
        if self.messages > 0 {
            self.loaded = self.round_ended_ns - self.taken_in_ns < QUIET_NS;
            self.taken_in_ns = self.round_ended_ns;
        }
    }

    /// Whether every message is published, settled and answered.
    fn is_empty(&self) -> bool {
        self.publisher.awaited() == 0 && !self.publisher.stalled()
    }

    /// Sleeps until there is something to do; returns how many sockets have something.
    fn wait(&mut self, drain_until_ms: Option<u64>) -> Result<usize, IngestError> {
        let loaded = self.loaded;
        if loaded && self.messages <= GATHER_MESSAGES_MAX {
            let since = Duration::from_nanos(clock::monotonic_ns() - self.round_ended_ns);
            // Asleep, not waiting: neither a socket nor the bell is to wake this process sooner.
            std::thread::sleep(GATHER.saturating_sub(since));
        }
        let awaited = self.publisher.awaited() > 0;
        let reading = drain_until_ms.is_none() && !self.publisher.stalled();
        let idle = self.publisher.nap_begin(!loaded);
        let may_sleep = idle && (self.resumable.is_empty() || !reading);
        let timeout = if !may_sleep {
            Duration::ZERO
        } else if loaded && awaited {
            ANSWERS_EVERY
        } else {
            self.sleep_max(drain_until_ms)
        };
        let count = if reading {
            let count = wake::wait(self.connections.epoll(), &mut self.events, timeout)?;
            if self.events[..count]
                .iter()
                .any(|event| event.data() == WAKE)
            {
                self.wake.wait(Duration::ZERO)?;
            }
            count
        } else {
            self.wake.wait(timeout)?;
            0
        };
        self.publisher.nap_end();
        Ok(count)
    }

    fn sleep_max(&self, drain_until_ms: Option<u64>) -> Duration {
        let first_silent = self.silent.front().map(|&(due_ms, _)| due_ms);
        let due_ms = first_silent.into_iter().chain(drain_until_ms).min();
        let now_ms = clock::monotonic_ns() / 1_000_000;
        due_ms.map_or(SLEEP_MAX, |due| {
            Duration::from_millis(due.saturating_sub(now_ms).max(1)).min(SLEEP_MAX)
        })
    }

    /// Gives the answers of messages whose outcome is now known; whether there were any.
    fn settle(&mut self, now_ms: u64) -> bool {
        let mut settled = std::mem::take(&mut self.settled);
        self.publisher.settle(now_ms, &mut settled);
        let mut answered = false;
        for Settled { to, answer, ending } in settled.drain(..) {
            let connection = self.connections.get(to);
            self.tally.settled(ending, connection.is_some());
            let Some(connection) = connection else {
                continue;
            };
            connection.awaiting -= 1;
            if connection.paused && connection.awaiting <= self.limits.connection_answers_max / 2 {
                connection.paused = false;
                self.resumable.push_back(to);
            }
            if ending == Ending::Accepted {
                fail::pass(Point::IngestAnswer);
                self.answer(to, answer);
                answered = true;
            }
            self.update(to);
        }
        self.settled = settled;
        answered
    }

    /// Goes on with the stalled message; `true` if none is left.
    fn resume_stalled(&mut self) -> bool {
        if let Some((to, published)) = self.publisher.resume() {
            self.published(to, published);
            // Whole messages may be kept behind the one that was stalled.
            self.resumable.push_front(to);
        }
        !self.publisher.stalled()
    }

    /// Takes what devices sent, as long as nothing is stalled.
    fn take_in(&mut self, count: usize, now: ReadAt) -> Result<(), IngestError> {
        if !self.resume_stalled() {
            return Ok(());
        }
        while let Some(key) = self.resumable.pop_front() {
            self.go_on(key, now);
            if self.publisher.stalled() {
                return Ok(());
            }
        }
        for at in 0..count {
            let (token, what) = (self.events[at].data(), self.events[at].events());
            match token {
                WAKE => {}
                LISTENER => self.accept(now)?,
                token => self.ready(Key::from_token(token), what, now),
            }
            if self.publisher.stalled() {
                // The sockets that are left out are reported again.
                return Ok(());
            }
        }
        self.end_epochs(now);
        Ok(())
    }

    fn accept(&mut self, now: ReadAt) -> Result<(), IngestError> {
        let (protocol, decoding) = (self.protocol, &self.decoding);
        let accepted = self.connections.accept(now.monotonic_ns / 1_000_000, || {
            Session::new(protocol, decoding)
        })?;
        self.tally.accepted(accepted);
        Ok(())
    }

    /// A connection can be read or written, or is broken.
    fn ready(&mut self, key: Key, what: EpollFlags, now: ReadAt) {
        if what.contains(EpollFlags::EPOLLOUT) {
            match self.connections.write(key, now.monotonic_ns / 1_000_000) {
                Some(why) => self.tally.closed(why),
                None => self.resumable.push_back(key),
            }
        }
        if what.contains(EpollFlags::EPOLLIN) {
            self.read(key);
        } else if what.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            self.close(key, Closed::Peer);
        }
    }

    fn read(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key).filter(|c| c.readable()) else {
            return;
        };
        let (kept, _) = connection.session.put_kept(&mut self.buffer);
        match self
            .connections
            .read(key, &mut self.buffer[kept..kept + READ_BYTES])
        {
            Got::Bytes(bytes) => {
                self.tally.bytes(bytes);
                let at = read_at();
                self.feed(key, kept + bytes, at);
                self.watch_silence(key, at);
            }
            Got::Nothing => {}
            Got::End => {
                self.count_cut_message(key);
                self.end_epoch(key, read_at());
                if let Some(why) = self.connections.end(key) {
                    self.tally.closed(why);
                }
            }
            Got::Broken => {
                self.count_cut_message(key);
                self.close(key, Closed::Peer);
            }
        }
    }

    /// Counts the message of which the connection's end left only the start.
    fn count_cut_message(&mut self, key: Key) {
        let connection = self.connections.get(key);
        if connection.is_some_and(|connection| connection.session.is_within_message()) {
            self.tally.refused(protocol::Reject::Incomplete);
        }
    }

    /// Goes on with the bytes kept of a connection that was held up.
    fn go_on(&mut self, key: Key, now: ReadAt) {
        if let Some(connection) = self.connections.get(key) {
            let (kept, at) = connection.session.put_kept(&mut self.buffer);
            let at = if kept > 0 { at } else { now };
            self.feed(key, kept, at);
            self.update(key);
        }
    }

    /// Reads the messages in the first `length` bytes of the buffer, and keeps what is left.
    fn feed(&mut self, key: Key, length: usize, at: ReadAt) {
        let mut taken = 0;
        while let Some(connection) = self.connections.get(key) {
            if self.publisher.stalled() || !connection.readable() {
                break;
            }
            match connection.session.next(&self.buffer[taken..length], at) {
                Next::Incomplete => break,
                Next::Refused { consumed, reason } => {
                    taken += consumed;
                    self.tally.refused(reason);
                }
                Next::Message { consumed, message } => {
                    taken += consumed;
                    connection.heard_ms = at.monotonic_ns / 1_000_000;
                    self.message(key, message, at);
                }
            }
            self.close_if_unreadable(key);
        }
        if let Some(connection) = self.connections.get(key) {
            connection.session.keep(&self.buffer[taken..length], at);
        }
    }

    fn close_if_unreadable(&mut self, key: Key) {
        let errors = self
            .connections
            .get(key)
            .map_or(0, |c| c.session.errors_in_a_row());
        if errors >= self.limits.errors_max {
            self.close(key, Closed::Errors);
        }
    }

    /// Publishes what a message reports and answers what needs no outcome.
    fn message(&mut self, key: Key, message: Message, at: ReadAt) {
        self.messages += 1;
        self.tally.message();
        if let Some(reason) = message.refused {
            self.tally.refused(reason);
        }
        self.answer(key, message.answer_now);
        if message.reports.is_empty() {
            self.answer(key, message.answer_when_safe);
            return;
        }
        let Some(device) = message.device else {
            self.tally.refused(protocol::Reject::Device);
            return;
        };
        let outgoing = Outgoing {
            to: key,
            device,
            reports: message.reports,
            answer: message.answer_when_safe,
            read_at: at,
            decoded_ns: clock::monotonic_ns(),
        };
        match self.publisher.publish(outgoing) {
            Ok(published) => self.published(key, published),
            Err(why) => self.tally.stalled(why),
        }
    }

    fn published(&mut self, key: Key, published: Published) {
        match published {
            Published::Unanswered => {}
            Published::Answer(answer) => self.answer(key, answer),
            Published::Awaiting => {
                if let Some(connection) = self.connections.get(key) {
                    connection.awaiting += 1;
                    connection.paused |= connection.awaiting >= self.limits.connection_answers_max;
                }
                self.update(key);
            }
        }
    }

    fn answer(&mut self, key: Key, answer: Vec<u8>) {
        if !answer.is_empty() {
            self.connections.answer(key, answer);
        }
    }

    fn update(&mut self, key: Key) {
        if let Some(why) = self.connections.settle(key) {
            self.tally.closed(why);
        }
    }

    fn close(&mut self, key: Key, why: Closed) {
        if self.connections.get(key).is_some() {
            self.connections.close(key);
            self.tally.closed(why);
        }
    }

    /// Remembers to end the epoch of a stream that falls silent.
    fn watch_silence(&mut self, key: Key, at: ReadAt) {
        if !self.protocol.has_epochs() {
            return;
        }
        if let Some(connection) = self.connections.get(key) {
            let watched = connection.silent_ms.is_some();
            let due_ms = at.monotonic_ns / 1_000_000 + SILENCE_MS;
            connection.silent_ms = Some(due_ms);
            if !watched {
                self.silent.push_back((due_ms, key));
            }
        }
    }

    fn end_epochs(&mut self, now: ReadAt) {
        let now_ms = now.monotonic_ns / 1_000_000;
        while let Some(&(due_ms, key)) = self.silent.front() {
            if due_ms > now_ms || self.publisher.stalled() {
                return;
            }
            self.silent.pop_front();
            match self.connections.get(key).and_then(|c| c.silent_ms) {
                Some(later_ms) if later_ms > now_ms => self.silent.push_back((later_ms, key)),
                Some(_) => self.end_epoch(key, now),
                None => {}
            }
        }
    }

    /// Takes the report that was waiting for more of the same moment.
    fn end_epoch(&mut self, key: Key, at: ReadAt) {
        if let Some(connection) = self.connections.get(key) {
            connection.silent_ms = None;
            if let Some(message) = connection.session.flush() {
                self.message(key, message, at);
            }
        }
    }

    fn report(&mut self, now_ns: u64) {
        self.tally.beat(
            now_ns,
            self.connections.open(),
            self.publisher.awaited(),
            self.publisher.figures(),
        );
    }
}

fn read_at() -> ReadAt {
    ReadAt {
        monotonic_ns: clock::monotonic_ns(),
        wall_ms: clock::wall_ms(),
    }
}
