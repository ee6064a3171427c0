//! The loop of an ingest whose devices send datagrams: wait, settle answers, take in, answer.
//!
//! A datagram is read whole: what is left of it after its last message is a message that is not complete. Nobody can be
//! slowed down here, so a message that finds no room is dropped and counted, and not answered. A source address proves
//! nothing, so an answer never takes more bytes to it than came from it.

use std::net::SocketAddr;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::admit::{BUCKETS_MAX, Buckets, Door, Judged};
use super::connection::Closed;
use super::datagrams::{BATCH_DATAGRAMS_MAX, Datagrams};
use super::peers::{Peer, Peers};
use super::pending::Settled;
use super::process::{IngestError, Limits};
use super::publishing::{Published, Stall};
use super::round::{Rounds, read_at};
use super::session::{Decoding, Next, ReadAt};
use super::silence::Silences;
use super::tally::Withheld;
use crate::frame::DeviceId;
use crate::protocol::{Message, Reject};
use crate::role::Handed;
use crate::sys::clock;

/// Batches of datagrams taken in a round, so that answers do not wait for a flood.
const BATCHES_MAX: usize = 8;

/// Bytes of the headers of a datagram, IPv6 and UDP.
const HEADER_BYTES: usize = 48;

/// Token of the socket.
const SOCKET: u64 = 0;

/// An ingest of the input `udp`.
pub struct Udp {
    epoll: Epoll,
    datagrams: Datagrams,
    peers: Peers,
    rounds: Rounds<SocketAddr>,
    limits: Limits,
    door: Door,
    /// What devices may send, whatever addresses they send from.
    buckets: Buckets,
    decoding: Decoding,
    silences: Silences<SocketAddr>,
    settled: Vec<Settled<SocketAddr>>,
}

impl Udp {
    /// Takes over all of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(
        epoll: Epoll,
        datagrams: Datagrams,
        peers: Peers,
        rounds: Rounds<SocketAddr>,
        limits: Limits,
        door: Door,
        decoding: Decoding,
    ) -> std::io::Result<Udp> {
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, SOCKET);
        epoll.add(datagrams.as_fd(), readable)?;
        Ok(Udp {
            epoll,
            datagrams,
            peers,
            rounds,
            limits,
            door,
            buckets: Buckets::new(BUCKETS_MAX),
            decoding,
            silences: Silences::new(),
            settled: Vec::new(),
        })
    }

    /// Serves until it is drained, then closes the ring.
    ///
    /// # Errors
    /// When the socket cannot be read any more.
    pub fn run(mut self) -> Result<(), IngestError> {
        self.take_handed()?;
        self.rounds.begin()?;
        let mut events = [EpollEvent::empty(); 2];
        loop {
            let due_ms = self.silences.due_ms();
            let count = self.rounds.wait(&self.epoll, &mut events, false, due_ms)?;
            let readable = events[..count].iter().any(|event| event.data() == SOCKET);
            let now = read_at();
            let now_ms = now.monotonic_ns / 1_000_000;
            self.take_handed()?;
            if self.settle(now_ms) {
                self.rounds.answered();
            }
            if readable {
                self.take_in()?;
            }
            if !self.rounds.draining() {
                self.end_epochs(now);
            }
            self.rounds.hand_over();
            while let Some((_, peer)) = self.peers.forget_idle(now_ms) {
                self.rounds.closed(peer.stream, Closed::Idle);
            }
            self.door.tell(now_ms, &self.rounds)?;
            self.rounds.report(now.monotonic_ns, self.peers.known());
            if self.rounds.drained(now_ms) {
                break;
            }
            self.rounds.end();
        }
        while let Some((from, peer)) = self.peers.forget_first() {
            self.forgotten(from, peer, Closed::Drain, read_at());
        }
        self.rounds.hand_over();
        self.rounds.report(clock::monotonic_ns(), 0);
        self.rounds.close();
        Ok(())
    }

    /// Gives the answers of messages whose outcome is now known; whether there were any.
    fn settle(&mut self, now_ms: u64) -> bool {
        let mut settled = std::mem::take(&mut self.settled);
        self.rounds.publisher.settle(now_ms, &mut settled);
        let mut answered = false;
        for Settled { to, answer, ending } in settled.drain(..) {
            if let Some(peer) = self.peers.get(to) {
                // One that was forgotten meanwhile and heard again is owed less than it gets.
                peer.awaiting = peer.awaiting.saturating_sub(1);
            }
            // Although the peer may be forgotten: its address is all that an answer takes.
            answered |= self.rounds.settled(ending, true);
            self.answer(to, &answer);
        }
        self.settled = settled;
        answered
    }

    /// Takes what devices sent; what is left after a full round is reported again.
    fn take_in(&mut self) -> Result<(), IngestError> {
        for _ in 0..BATCHES_MAX {
            let count = self.datagrams.read()?;
            let now = read_at();
            for at in 0..count {
                self.datagram(at, now);
            }
            if count < BATCH_DATAGRAMS_MAX {
                break;
            }
        }
        if let Some(count) = self.datagrams.lost() {
            self.rounds.tally.lost_datagrams(count);
        }
        Ok(())
    }

    /// Reads one datagram of the batch.
    fn datagram(&mut self, at: usize, now: ReadAt) {
        let now_ms = now.monotonic_ns / 1_000_000;
        let (from, length) = self.datagrams.head(at);
        self.rounds.tally.bytes(length);
        self.rounds.tally.datagram();
        if !self.peers.may_come(from) {
            self.rounds.tally.datagram_from_elsewhere();
            return;
        }
        if let Some(peer) = self.peers.get(from)
            && peer.delay.until_ms(now_ms).is_some()
        {
            self.rounds.tally.delayed_datagram();
            return;
        }
        self.hear(from, now);
        if let Some(peer) = self.peers.get(from) {
            let bytes = self.datagrams.bytes(at);
            self.rounds.capture.bytes(peer.stream, bytes, now);
        }
        let mut allowance = Allowance::of(length);
        let mut taken = 0;
        while let Some(peer) = self.peers.get(from) {
            let left = &self.datagrams.bytes(at)[taken..];
            match peer.session.next(left, now) {
                Next::Incomplete => break,
                Next::Refused { consumed, reason } => {
                    taken += consumed;
                    self.rounds.tally.refused(reason);
                    if peer.session.errors_in_a_row() >= self.limits.errors_max {
                        // The rest is not read: there is room in it for thousands more, each of which costs a search.
                        taken = length;
                    }
                }
                Next::Message { consumed, message } => {
                    taken += consumed;
                    peer.delay = Default::default();
                    self.let_in(from, message, now, &mut allowance);
                }
            }
        }
        if let Some(peer) = self.peers.get(from) {
            if peer.session.is_cut_off(&self.datagrams.bytes(at)[taken..]) {
                self.rounds.tally.refused(Reject::Incomplete);
            }
            if peer.session.errors_in_a_row() >= self.limits.errors_max {
                peer.delay.offend(now_ms);
                // As a connection that comes back: another device may send from here, or `auto` have guessed wrong.
                peer.session = self.decoding.session();
            }
            if self.decoding.protocol.has_epochs() {
                self.silences.heard(from, &mut peer.silence, now_ms);
            }
        }
    }

    /// Takes a message as far as its device may come in, and it and its sender may send.
    fn let_in(
        &mut self,
        from: SocketAddr,
        mut message: Message,
        now: ReadAt,
        allowance: &mut Allowance,
    ) {
        if !self.paced(from, message.device, now) {
            self.rounds.tally.message(message.refused);
            self.rounds.tally.over_rate();
            return;
        }
        let source = || from.ip().to_canonical().to_string();
        let judged = message.device.map_or(Judged::Taken, |device| {
            self.door.judge(device, source, now, &self.rounds.tally)
        });
        match judged {
            Judged::Taken => self.message(from, message, now, allowance),
            Judged::Quarantined => {
                message.reports.clear();
                message.answer_when_safe.clear();
                self.message(from, message, now, allowance);
            }
            Judged::Rejected => self.rounds.tally.message(message.refused),
        }
    }

    /// Whether a message is not too much of its sender or its device.
    fn paced(&mut self, from: SocketAddr, device: Option<DeviceId>, now: ReadAt) -> bool {
        let (rate, now_ns) = (self.door.rate(), now.monotonic_ns);
        let peer = self.peers.get(from);
        if peer.is_some_and(|peer| peer.bucket.try_take(rate, now_ns).is_err()) {
            return false;
        }
        device.is_none_or(|device| {
            self.buckets
                .of(device, now_ns)
                .try_take(rate, now_ns)
                .is_ok()
        })
    }

    /// Takes what the supervisor handed over.
    fn take_handed(&mut self) -> Result<(), IngestError> {
        while let Some(handed) = self.rounds.next_handed() {
            if let Handed::Devices(devices) = handed {
                self.door.take_list(devices, &self.rounds)?;
            }
        }
        Ok(())
    }

    /// Makes sure that the sender is known.
    fn hear(&mut self, from: SocketAddr, now: ReadAt) {
        let now_ms = now.monotonic_ns / 1_000_000;
        if self.peers.heard(from, now_ms) {
            return;
        }
        self.rounds.tally.accepted(1);
        let session = self.decoding.session();
        if let Some((other, peer)) = self.peers.enter(from, session, now_ms) {
            self.forgotten(other, peer, Closed::Displaced, now);
        }
        if let Some(peer) = self.peers.get(from) {
            self.rounds.capture.opened(peer.stream, from);
        }
    }

    /// Takes what a peer said last, although it can say no more.
    fn forgotten(&mut self, from: SocketAddr, mut peer: Peer, why: Closed, now: ReadAt) {
        if self.decoding.protocol.has_epochs() {
            self.rounds.capture.quiet(peer.stream, now);
        }
        self.rounds.closed(peer.stream, why);
        while let Some(message) = peer.session.flush() {
            self.let_in(from, message, now, &mut Allowance::of(0));
        }
    }

    /// Publishes what a message reports and answers what needs no outcome, as far as the datagram allows.
    fn message(
        &mut self,
        from: SocketAddr,
        mut message: Message,
        now: ReadAt,
        allowance: &mut Allowance,
    ) {
        if !allowance.covers(message.answer_now.len()) {
            message.answer_now.clear();
            self.rounds.tally.withheld(Withheld::Longer);
        }
        // Only one of the two is sent.
        let later = message
            .answer_when_safe
            .len()
            .max(message.answer_if_refused.len());
        if !allowance.covers(later) {
            message.answer_when_safe.clear();
            message.answer_if_refused.clear();
            self.rounds.tally.withheld(Withheld::Longer);
        }
        self.answer(from, &message.answer_now);
        let awaiting = self.peers.get(from).map_or(0, |peer| peer.awaiting);
        let waits = !message.answer_when_safe.is_empty();
        if waits && awaiting >= self.limits.connection_answers_max {
            self.rounds.tally.message(message.refused);
            self.rounds.tally.dropped(Stall::Answers);
            self.answer(from, &message.answer_if_refused);
            return;
        }
        let published = self
            .rounds
            .publish(from, message, now)
            .unwrap_or_else(|why| {
                self.rounds.tally.dropped(why);
                self.rounds.publisher.give_up()
            });
        match published {
            Published::Unanswered => {}
            Published::Answer(answer) | Published::Refused(answer) => self.answer(from, &answer),
            Published::Awaiting => {
                if let Some(peer) = self.peers.get(from) {
                    peer.awaiting += 1;
                }
            }
        }
    }

    /// Sends an answer; a device that does not get it sends again.
    fn answer(&mut self, to: SocketAddr, answer: &[u8]) {
        if answer.is_empty() {
            return;
        }
        if self.datagrams.send(to, answer) {
            // One that was forgotten meanwhile has no number any more.
            let stream = self.peers.get(to).map_or(0, |peer| peer.stream);
            self.rounds.capture.sent(stream, answer);
        } else {
            self.rounds.tally.withheld(Withheld::Unsent);
        }
    }

    /// Takes the reports that were waiting for more of the same moment.
    fn end_epochs(&mut self, now: ReadAt) {
        let now_ms = now.monotonic_ns / 1_000_000;
        loop {
            let peers = &mut self.peers;
            let silent = |from| peers.get(from)?.silence;
            let Some(from) = self.silences.next(now_ms, silent) else {
                return;
            };
            let Some(peer) = self.peers.get(from) else {
                continue;
            };
            peer.silence = None;
            self.rounds.capture.quiet(peer.stream, now);
            while let Some(peer) = self.peers.get(from)
                && let Some(message) = peer.session.flush()
            {
                self.let_in(from, message, now, &mut Allowance::of(0));
            }
        }
    }
}

/// Bytes of answers that a datagram may cause: whoever wrote somebody else's address on it must not gain by that.
#[derive(Debug)]
struct Allowance {
    left: usize,
    first: bool,
}

impl Allowance {
    fn of(datagram_bytes: usize) -> Allowance {
        Allowance {
            left: datagram_bytes,
            first: true,
        }
    }

    /// Takes the bytes of an answer off, those of its headers too after the first; `false` if there are not as many.
    fn covers(&mut self, answer_bytes: usize) -> bool {
        if answer_bytes == 0 {
            return true;
        }
        let headers = if self.first { 0 } else { HEADER_BYTES };
        match self.left.checked_sub(answer_bytes + headers) {
            Some(left) => {
                self.left = left;
                self.first = false;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_never_take_more_bytes_than_came_in() {
        let mut allowance = Allowance::of(100);
        assert!(allowance.covers(20));
        assert!(!allowance.covers(33));
        assert!(allowance.covers(32));
        assert!(!allowance.covers(1));
        assert!(allowance.covers(0));
        assert!(!Allowance::of(15).covers(16));
        assert!(Allowance::of(15).covers(15));
    }
}
