//! The loop of an ingest whose devices connect, by TCP alone or with HTTP on it: wait, settle answers, take in, answer.
//!
//! While a message is stalled no socket is read, so a full ring slows the senders down and nothing grows here; a device
//! with very many unanswered messages is slowed down alone.

mod entrance;

use std::collections::VecDeque;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::admit::Door;
use super::connection::{Closed, Got};
use super::connections::{Connections, Key, LISTENER};
use super::pending::Settled;
use super::process::{IngestError, Limits};
use super::publishing::Published;
use super::round::{Rounds, WAKE, read_at};
use super::session::{Decoding, Next, ReadAt};
use super::silence::Silences;
use super::tls::{self, Acceptor, Failure};
use super::turns::Turns;
use crate::config::Tls;
use crate::protocol::{self, Message};
use crate::role::{Certificates, Handed};
use crate::sys::clock;

/// Bytes that one connection gives in a round, besides what was kept of it.
const READ_BYTES: usize = 16 * 1024;

/// Events taken from the kernel in a round.
const EVENTS_MAX: usize = 1024;

/// An ingest of the inputs `tcp` and `http`.
pub struct Tcp {
    connections: Connections,
    /// What its TLS is to be like, if connections use it.
    tls: Option<Tls>,
    rounds: Rounds<Key>,
    limits: Limits,
    door: Door,
    /// Whether a device has one session, whatever connections it comes by.
    has_sessions: bool,
    /// Connections whose device came by another one, not yet settled.
    displaced: Vec<Key>,
    /// When it was last that something came, monotonic nanoseconds.
    now_ns: u64,
    decoding: Decoding,
    buffer: Box<[u8]>,
    events: Vec<EpollEvent>,
    /// Connections that have whole messages kept and may go on.
    resumable: VecDeque<Key>,
    silences: Silences<Key>,
    turns: Turns,
    settled: Vec<Settled<Key>>,
    /// Handshakes that this round may go on with.
    handshakes_left: u32,
}

impl Tcp {
    /// Takes over all of it. Nothing is accepted before [`Tcp::run`].
    pub fn new(
        connections: Connections,
        tls: Option<Tls>,
        rounds: Rounds<Key>,
        limits: Limits,
        door: Door,
        has_sessions: bool,
        decoding: Decoding,
    ) -> Tcp {
        // A session keeps what one read left over, at most what is in the buffer then.
        let buffer = vec![0; READ_BYTES + decoding.message_bytes_max().max(READ_BYTES)];
        Tcp {
            connections,
            tls,
            rounds,
            limits,
            door,
            has_sessions,
            displaced: Vec::new(),
            now_ns: 0,
            decoding,
            buffer: buffer.into(),
            events: vec![EpollEvent::empty(); EVENTS_MAX],
            resumable: VecDeque::new(),
            silences: Silences::new(),
            turns: Turns::default(),
            settled: Vec::new(),
            handshakes_left: tls::HANDSHAKES_MAX,
        }
    }

    /// Serves until it is drained, then closes the ring.
    ///
    /// # Errors
    /// When the sockets cannot be waited on any more.
    pub fn run(mut self) -> Result<(), IngestError> {
        self.take_handed()?;
        if self.tls.is_some() && self.connections.tls.is_none() {
            return Err(IngestError::Assignment("the certificate"));
        }
        self.connections.listen(true)?;
        self.rounds.begin()?;
        loop {
            let due_ms = self.silences.due_ms().into_iter();
            let due_ms = due_ms.chain(self.connections.delayed_until_ms());
            let due_ms = due_ms.chain(self.connections.resting_until_ms()).min();
            let count = self.rounds.wait(
                self.connections.epoll(),
                &mut self.events,
                !self.resumable.is_empty(),
                due_ms,
            )?;
            let now = read_at();
            let now_ms = now.monotonic_ns / 1_000_000;
            self.take_handed()?;
            self.handshakes_left = tls::HANDSHAKES_MAX;
            let answered = self.settle(now_ms);
            if !self.rounds.draining() {
                self.take_in(count, now)?;
            } else if self.rounds.publisher.stalled() {
                self.resume_stalled();
            }
            self.rounds.hand_over();
            let (rounds, resumable) = (&self.rounds, &mut self.resumable);
            self.connections.flush(
                now_ms,
                |key, why| rounds.closed(key.token(), why),
                |key| resumable.push_back(key),
            );
            if answered {
                self.rounds.answered();
            }
            self.connections.end_delays(now_ms);
            self.end_rests(now_ms);
            self.settle_displaced(now);
            self.close_overdue(now_ms);
            self.door.tell(now_ms, &self.rounds)?;
            self.report(now.monotonic_ns);
            if self.rounds.drained(now_ms) {
                break;
            }
            if !self.rounds.draining() {
                self.connections.listen_if_room(now_ms)?;
            }
            self.rounds.end();
        }
        for key in self.connections.keys() {
            self.close(key, Closed::Drain);
        }
        self.rounds.hand_over();
        self.report(clock::monotonic_ns());
        self.rounds.close();
        Ok(())
    }

    /// Takes what the supervisor handed over.
    fn take_handed(&mut self) -> Result<(), IngestError> {
        while let Some(handed) = self.rounds.next_handed() {
            match handed {
                Handed::Certificates(certificates) => self.take_certificates(&certificates)?,
                Handed::Devices(devices) => self.take_list(devices)?,
                Handed::Feed(_) | Handed::Capture(_) => {}
            }
        }
        Ok(())
    }

    fn take_certificates(&mut self, certificates: &Certificates) -> Result<(), IngestError> {
        let Some(settings) = &self.tls else {
            return Ok(());
        };
        let certificates = tls::read(certificates)?;
        let acceptor = match &mut self.connections.tls {
            Some(acceptor) => {
                if let Err(cause) = acceptor.renew(&certificates) {
                    tracing::error!("goes on with its old certificates: {cause}");
                }
                acceptor
            }
            none => none.insert(Acceptor::new(settings.clone(), &certificates)?),
        };
        self.rounds.tally.certificate(acceptor.expires_s());
        Ok(())
    }

    /// Gives the answers of messages whose outcome is now known; whether there were any.
    fn settle(&mut self, now_ms: u64) -> bool {
        let mut settled = std::mem::take(&mut self.settled);
        self.rounds.publisher.settle(now_ms, &mut settled);
        let mut answered = false;
        for Settled { to, answer, ending } in settled.drain(..) {
            let connection = self.connections.get(to);
            let accepted = self.rounds.settled(ending, connection.is_some());
            let Some(connection) = connection else {
                continue;
            };
            let in_order = connection.session.answers_in_order();
            connection.awaiting -= 1;
            if connection.paused && connection.awaiting <= self.limits.awaiting_max(in_order) / 2 {
                connection.paused = false;
                self.resumable.push_back(to);
            }
            if accepted {
                self.answer(to, answer);
                answered = true;
            } else {
                self.refused(to, answer, in_order);
            }
            self.update(to);
        }
        self.settled = settled;
        answered
    }

    /// Goes on with the stalled message; `true` if none is left.
    fn resume_stalled(&mut self) -> bool {
        if let Some((to, published)) = self.rounds.publisher.resume() {
            self.published(to, published);
            // Whole messages may be kept behind the one that was stalled.
            self.resumable.push_front(to);
        }
        !self.rounds.publisher.stalled()
    }

    /// Takes what devices sent, as long as nothing is stalled.
    fn take_in(&mut self, count: usize, now: ReadAt) -> Result<(), IngestError> {
        if !self.resume_stalled() {
            return Ok(());
        }
        while let Some(key) = self.resumable.pop_front() {
            self.go_on(key, now);
            if self.rounds.publisher.stalled() {
                return Ok(());
            }
        }
        self.turns.begin();
        for at in 0..count {
            match self.events[at].data() {
                WAKE => {}
                LISTENER => self.accept(now)?,
                token if self.connections.is_proven(Key::from_token(token)) => self.ready(at, now),
                _ => self.turns.wait(at),
            }
            if self.rounds.publisher.stalled() {
                // The sockets that are left out are reported again.
                return Ok(());
            }
        }
        while let Some(at) = self.turns.take() {
            self.ready(at, now);
            if self.rounds.publisher.stalled() {
                return Ok(());
            }
        }
        self.end_epochs(now);
        Ok(())
    }

    fn accept(&mut self, now: ReadAt) -> Result<(), IngestError> {
        let decoding = &self.decoding;
        let rounds = &self.rounds;
        let accepted = self.connections.accept(
            now.monotonic_ns / 1_000_000,
            || decoding.session(),
            |key, address| rounds.capture.opened(key.token(), address),
            |key| rounds.closed(key.token(), Closed::GaveWay),
        )?;
        self.rounds.tally.came(&accepted);
        Ok(())
    }

    /// The connection of this event can be read or written, or is broken.
    fn ready(&mut self, at: usize, now: ReadAt) {
        let (token, what) = (self.events[at].data(), self.events[at].events());
        let key = Key::from_token(token);
        if what.contains(EpollFlags::EPOLLOUT) {
            match self.connections.write(key, now.monotonic_ns / 1_000_000) {
                Some(why) => self.rounds.closed(key.token(), why),
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
        self.read_once(key);
        // What was decrypted already makes no socket readable.
        while self.can_go_on(key) {
            self.read_once(key);
        }
    }

    /// Whether a connection has bytes that its socket does not tell of, and they may be taken.
    fn can_go_on(&mut self, key: Key) -> bool {
        let connection = self.connections.get(key);
        !self.rounds.publisher.stalled() && connection.is_some_and(|c| c.readable() && c.holds())
    }

    fn read_once(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key).filter(|c| c.readable()) else {
            return;
        };
        let greets = connection.is_handshaking();
        if greets && self.handshakes_left == 0 {
            // It is reported again.
            return;
        }
        let (kept, _) = connection.session.put_kept(&mut self.buffer);
        let room = &mut self.buffer[kept..kept + READ_BYTES];
        let got = self.connections.read(key, room);
        // A greeting that is not whole costs nothing.
        if greets && (got != Got::Nothing || self.connections.owes_tls(key)) {
            self.handshakes_left -= 1;
        }
        match got {
            Got::Bytes(bytes) => {
                self.rounds.tally.bytes(bytes);
                let at = read_at();
                let read = &self.buffer[kept..kept + bytes];
                self.rounds.capture.bytes(key.token(), read, at);
                self.feed(key, kept + bytes, at);
                self.watch_silence(key, at);
            }
            Got::Nothing => {}
            Got::Established => self.rounds.tally.established(),
            Got::Failed(failure) => self.fail(key, failure),
            Got::End => {
                self.count_cut_message(key);
                self.end_epoch(key, read_at());
                if let Some(why) = self.connections.end(key, Closed::Peer) {
                    self.rounds.closed(key.token(), why);
                }
            }
            Got::Broken => {
                self.count_cut_message(key);
                self.close(key, Closed::Peer);
            }
        }
    }

    /// TLS with a device came to nothing.
    fn fail(&mut self, key: Key, failure: Failure) {
        let now_ms = clock::monotonic_ns() / 1_000_000;
        if let Some(unsaid) = self
            .connections
            .tls
            .as_mut()
            .and_then(|tls| tls.complain(now_ms))
        {
            let address = self
                .connections
                .get(key)
                .and_then(|connection| connection.address());
            let from = address.map_or("somewhere".to_owned(), |address| address.to_string());
            tracing::warn!(unsaid, "no TLS with {from}: {}", failure.words());
        }
        if failure.is_offence() {
            self.connections.offend(key, now_ms);
        }
        self.count_cut_message(key);
        self.close(key, Closed::Tls(failure));
    }

    /// Counts the message of which the connection's end left only the start.
    fn count_cut_message(&mut self, key: Key) {
        let connection = self.connections.get(key);
        if connection.is_some_and(|connection| connection.session.is_within_message()) {
            self.rounds.tally.refused(protocol::Reject::Incomplete);
        }
    }

    /// Goes on with the bytes kept of a connection that was held up.
    fn go_on(&mut self, key: Key, now: ReadAt) {
        if let Some(connection) = self.connections.get(key) {
            let (kept, at) = connection.session.put_kept(&mut self.buffer);
            let at = if kept > 0 { at } else { now };
            self.now_ns = self.now_ns.max(now.monotonic_ns);
            self.feed(key, kept, at);
            if self.can_go_on(key) {
                self.read(key);
            }
            self.update(key);
        }
    }

    /// Reads the messages in the first `length` bytes of the buffer, and keeps what is left.
    fn feed(&mut self, key: Key, length: usize, at: ReadAt) {
        let mut taken = 0;
        self.now_ns = self.now_ns.max(at.monotonic_ns);
        while let Some(connection) = self.connections.get(key) {
            if self.rounds.publisher.stalled() || !connection.readable() {
                break;
            }
            match connection.session.next(&self.buffer[taken..length], at) {
                Next::Incomplete => break,
                Next::Refused { consumed, reason } => {
                    taken += consumed;
                    connection.erred();
                    self.rounds.tally.refused(reason);
                }
                Next::Message { consumed, message } => {
                    taken += consumed;
                    connection.heard(at.monotonic_ns / 1_000_000);
                    self.let_in(key, message, at);
                }
            }
            self.close_if_unreadable(key, at);
        }
        let reads_on = !self.rounds.publisher.stalled();
        let left = &self.buffer[taken..length];
        if let Some(key) = self.connections.keep(key, left, at, reads_on) {
            self.close(key, Closed::GaveWay);
        }
    }

    /// Closes a connection that gave too much rubbish; who comes from there next has to wait.
    fn close_if_unreadable(&mut self, key: Key, at: ReadAt) {
        let errors_max = self.limits.errors_max;
        let over = self.connections.get(key).is_some_and(|connection| {
            connection.session.errors_in_a_row() >= connection.standing.errors_max(errors_max)
        });
        if over {
            self.connections.offend(key, at.monotonic_ns / 1_000_000);
            self.close(key, Closed::Errors);
        }
    }

    /// Publishes what a message reports and answers what needs no outcome.
    fn message(&mut self, key: Key, mut message: Message, at: ReadAt) {
        self.answer(key, std::mem::take(&mut message.answer_now));
        match self.rounds.publish(key, message, at) {
            Ok(published) => self.published(key, published),
            Err(why) => self.rounds.tally.stalled(why),
        }
    }

    fn published(&mut self, key: Key, published: Published) {
        match published {
            Published::Unanswered => {}
            Published::Answer(answer) => self.answer(key, answer),
            Published::Refused(answer) => {
                let connection = self.connections.get(key);
                let in_order = connection.is_some_and(|c| c.session.answers_in_order());
                self.refused(key, answer, in_order);
            }
            Published::Awaiting => {
                if let Some(connection) = self.connections.get(key) {
                    let in_order = connection.session.answers_in_order();
                    connection.awaiting += 1;
                    connection.paused |= connection.awaiting >= self.limits.awaiting_max(in_order);
                }
                self.update(key);
            }
        }
    }

    /// A message could not be kept: its device is told if there are words for that. Without them a later answer would be
    /// taken for the missing one where answers do not say what they answer.
    fn refused(&mut self, key: Key, answer: Vec<u8>, in_order: bool) {
        if answer.is_empty() && in_order {
            self.close(key, Closed::Refused);
        } else {
            self.answer(key, answer);
        }
    }

    fn answer(&mut self, key: Key, answer: Vec<u8>) {
        if !answer.is_empty() {
            self.rounds.capture.sent(key.token(), &answer);
            self.connections.answer(key, answer);
        }
    }

    fn update(&mut self, key: Key) {
        if let Some(why) = self.connections.settle(key) {
            self.rounds.closed(key.token(), why);
        }
    }

    fn close(&mut self, key: Key, why: Closed) {
        // What a receiver said of a moment counts, although it says no more.
        self.end_epoch(key, read_at());
        if self.connections.get(key).is_some() {
            self.connections.close(key);
            self.rounds.closed(key.token(), why);
        }
    }

    /// Remembers to end the epoch of a stream that falls silent.
    fn watch_silence(&mut self, key: Key, at: ReadAt) {
        if !self.decoding.protocol.has_epochs() {
            return;
        }
        if let Some(connection) = self.connections.get(key) {
            let now_ms = at.monotonic_ns / 1_000_000;
            self.silences.heard(key, &mut connection.silence, now_ms);
        }
    }

    fn end_epochs(&mut self, now: ReadAt) {
        let now_ms = now.monotonic_ns / 1_000_000;
        while !self.rounds.publisher.stalled() {
            let connections = &mut self.connections;
            let silent = |key| connections.get(key)?.silence;
            let Some(key) = self.silences.next(now_ms, silent) else {
                return;
            };
            self.end_epoch(key, now);
        }
    }

    /// Takes the report that was waiting for more of the same moment.
    fn end_epoch(&mut self, key: Key, at: ReadAt) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        connection.silence = None;
        if self.decoding.protocol.has_epochs() {
            self.rounds.capture.quiet(key.token(), at);
        }
        while !self.rounds.publisher.stalled()
            && let Some(connection) = self.connections.get(key)
            && let Some(message) = connection.session.flush()
        {
            self.let_in_last(key, message, at);
        }
    }

    fn report(&mut self, now_ns: u64) {
        self.rounds.tally.unproven(self.connections.unproven());
        let now_s = u64::try_from(clock::wall_ms()).unwrap_or(0) / 1_000;
        if let Some(tls) = &mut self.connections.tls
            && let Some(days) = tls.remind(now_s)
        {
            let what = "renew it, then send the supervisor HUP";
            match days {
                0 => tracing::warn!("the certificate has expired or does so within a day: {what}"),
                days => tracing::warn!("the certificate ends in {days} days: {what}"),
            }
        }
        self.rounds.report(now_ns, self.connections.open());
    }
}
