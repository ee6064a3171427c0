//! One device's connection: read when there is room, its answers written as far as the kernel takes them.
//!
//! It owns no read buffer: bytes of a message that is not complete yet are kept with it, and nothing while it is idle.
//! What a device can make us keep is bounded: unread answers stop the reading of its bytes, and too many or too old
//! ones close it.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::epoll::EpollFlags;

use super::admit::Bucket;
use super::deadlines::Deadlines;
use super::offence::{Source, Standing};
use super::session::{ReadAt, Session};
use super::silence::Mark;
use super::tls::{self, Failure, Tls};
use crate::frame::DeviceId;

/// Bytes of answers that a device may leave unread before it is closed.
const UNREAD_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Time for which a device may leave answers unread before it is closed.
const UNREAD_ANSWER_MS_MAX: u64 = 30_000;

/// Why a connection ended, or a peer was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The device closed it, or the network did.
    Peer,
    /// No message for too long.
    Idle,
    /// Too many unreadable messages.
    Errors,
    /// It does not read its answers.
    Unread,
    /// A message of its was not taken, and later answers would have been taken for the one that is missing.
    Refused,
    /// Another one took its place.
    Displaced,
    /// No message came of it in time.
    NoMessage,
    /// It began a message and did not end it in time.
    Slow,
    /// There was no room, and it had not shown yet that a known device is there.
    GaveWay,
    /// Its device is not on the list.
    Unknown,
    /// Its device came by another connection.
    TakenOver,
    /// Its device is served by another connection, which keeps it.
    Occupied,
    /// TLS with it came to nothing.
    Tls(Failure),
    /// This process ends.
    Drain,
}

impl Closed {
    /// The name in metrics and recordings.
    pub fn name(self) -> &'static str {
        match self {
            Closed::Peer => "peer",
            Closed::Idle => "idle",
            Closed::Errors => "errors",
            Closed::Unread => "unread",
            Closed::Refused => "refused",
            Closed::Displaced => "displaced",
            Closed::NoMessage => "no_message",
            Closed::Slow => "slow",
            Closed::GaveWay => "gave_way",
            Closed::Unknown => "unknown",
            Closed::TakenOver => "taken_over",
            Closed::Occupied => "occupied",
            Closed::Tls(_) => "tls",
            Closed::Drain => "drain",
        }
    }
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// So many bytes.
    Bytes(usize),
    /// None now.
    Nothing,
    /// None; but from now on it talks TLS.
    Established,
    /// The device will send no more.
    End,
    /// The connection is broken.
    Broken,
    /// TLS with the device came to nothing.
    Failed(Failure),
}

/// One device's connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    /// What its bytes go through, if not as they are.
    tls: Option<Box<Tls>>,
    /// What its bytes mean, and the start of a message that is not complete.
    pub session: Session,
    /// Messages published whose answer is held back.
    pub awaiting: u32,
    /// Time of the last whole message, of the accept, or from which on it is read, milliseconds of the monotonic clock.
    pub heard_ms: u64,
    /// Not read until some of its answers are given.
    pub paused: bool,
    /// That its silence is watched, which ends its epoch.
    pub silence: Option<Mark>,
    /// Where it comes from.
    pub source: Source,
    /// What is to be expected of it.
    pub standing: Standing,
    /// The device whose messages it brings: the first whose session it has.
    pub device: Option<DeviceId>,
    /// Further devices whose sessions it has, as a gateway that speaks for many.
    #[allow(clippy::box_collection)] // Most have none: 8 bytes here instead of 48.
    pub further: Option<Box<HashSet<DeviceId>>>,
    /// What it, and its first device, may send.
    pub bucket: Bucket,
    /// Not read until then, monotonic milliseconds, because it sent too much.
    pub rests_until_ms: Option<u64>,
    /// A known device is there.
    pub proven: bool,
    /// A message came of it.
    spoke: bool,
    /// Since when the start of a message waits for its rest, milliseconds of the monotonic clock.
    part_since_ms: Option<u64>,
    /// Bytes of that start.
    part_bytes: usize,
    /// No more of it is read; why it will be closed once all is said.
    ended: Option<Closed>,
    /// Answers not yet taken by the kernel, from `unread[sent..]` on.
    unread: Vec<u8>,
    sent: usize,
    /// When the kernel first took no more answers.
    blocked_ms: Option<u64>,
    /// On the list of connections with new answers.
    dirty: bool,
    interest: EpollFlags,
}

impl Connection {
    /// A connection that was just accepted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(
        socket: TcpStream,
        tls: Option<Tls>,
        session: Session,
        source: Source,
        standing: Standing,
        now_ms: u64,
    ) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        // Answers are gathered here; the kernel need not wait for more.
        socket.set_nodelay(true)?;
        Ok(Connection {
            socket,
            tls: tls.map(Box::new),
            session,
            awaiting: 0,
            heard_ms: now_ms,
            paused: false,
            silence: None,
            source,
            standing,
            device: None,
            further: None,
            bucket: Bucket::default(),
            rests_until_ms: None,
            proven: false,
            spoke: false,
            part_since_ms: None,
            part_bytes: 0,
            ended: None,
            unread: Vec::new(),
            sent: 0,
            blocked_ms: None,
            dirty: false,
            interest: EpollFlags::empty(),
        })
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether more of its bytes may be taken now.
    pub fn readable(&self) -> bool {
        let delayed = matches!(self.standing, Standing::Delayed { .. });
        let held_up = self.paused || delayed || self.rests_until_ms.is_some();
        self.ended.is_none() && !held_up && self.blocked_ms.is_none()
    }

    /// What to wait for from now on, if that has changed.
    pub fn new_interest(&mut self) -> Option<EpollFlags> {
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, self.readable());
        wanted.set(EpollFlags::EPOLLOUT, self.blocked_ms.is_some());
        let before = std::mem::replace(&mut self.interest, wanted);
        (before != wanted).then_some(wanted)
    }

    /// Reads what it has, into `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Got {
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut self.socket, buffer);
        }
        match self.socket.read(buffer) {
            Ok(0) => Got::End,
            Ok(bytes) => Got::Bytes(bytes),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Got::Nothing,
                _ => Got::Broken,
            },
        }
    }

    /// No more of it is read: the device sends no more, or will not be heard any more.
    pub fn end(&mut self, why: Closed) {
        self.ended.get_or_insert(why);
    }

    /// Whether no more of it is read.
    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Why it is to be closed, if all is said: no more of it is read and the device is owed no answer.
    pub fn is_over(&self) -> Option<Closed> {
        self.ended
            .filter(|_| self.awaiting == 0 && self.unread.is_empty() && !self.tls_wants_write())
    }

    /// Whether it has no session of any device.
    pub fn speaks_for_nobody(&self) -> bool {
        let further = self.further.as_ref();
        self.device.is_none() && further.is_none_or(|devices| devices.is_empty())
    }

    /// Bytes that belong to no message came.
    pub fn erred(&mut self) {
        self.part_since_ms = None;
    }

    /// A whole message came.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.spoke = true;
        self.part_since_ms = None;
    }

    /// Keeps the bytes that are left of a read, and since when the start of a message waits for its rest. Where we do not
    /// read on, the rest is not waited for.
    pub fn keep(&mut self, left: &[u8], at: ReadAt, reads_on: bool) {
        self.session.keep(left, at);
        if reads_on && self.readable() && self.session.is_within_message() {
            self.part_since_ms
                .get_or_insert(at.monotonic_ns / 1_000_000);
            self.part_bytes = left.len();
        } else {
            self.part_since_ms = None;
            self.part_bytes = 0;
        }
    }

    /// Bytes of the start of a message that are kept until its rest comes.
    pub fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// Whether it has bytes that its socket does not tell of.
    pub fn holds(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.holds())
    }

    /// Whether it cannot have said anything yet.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether it may report for this device.
    pub fn may_report_for(&self, device: &DeviceId) -> bool {
        self.tls
            .as_ref()
            .is_none_or(|tls| tls.may_report_for(device))
    }

    /// Where the device is, as far as the kernel still knows.
    pub fn address(&self) -> Option<SocketAddr> {
        let address = self.socket.peer_addr().ok()?;
        // An IPv4 address is shown as one, whatever the socket listens on.
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Why it is to be closed because of the time that has passed, if it is.
    pub fn overdue(&self, now_ms: u64, deadlines: &Deadlines) -> Option<Closed> {
        let over = |since_ms: u64, length_ms: u64| now_ms >= since_ms.saturating_add(length_ms);
        if self
            .blocked_ms
            .is_some_and(|since_ms| over(since_ms, UNREAD_ANSWER_MS_MAX))
        {
            return Some(Closed::Unread);
        }
        // A device that waits for us is not late with anything.
        let delayed = matches!(self.standing, Standing::Delayed { .. });
        let waits = self.awaiting > 0 || delayed || self.rests_until_ms.is_some();
        if waits || !deadlines.are_running() {
            return None;
        }
        let over = |since_ms, length_ms| over(deadlines.begin_ms(since_ms), length_ms);
        if self.is_handshaking() && over(self.heard_ms, tls::HANDSHAKE_MS_MAX) {
            return Some(Closed::Tls(Failure::Late));
        }
        if over(self.heard_ms, deadlines.idle_ms) {
            return Some(Closed::Idle);
        }
        if !self.spoke && over(self.heard_ms, deadlines.first_message_ms) {
            return Some(Closed::NoMessage);
        }
        let slow = |since_ms| over(since_ms, deadlines.message_ms);
        self.part_since_ms.is_some_and(slow).then_some(Closed::Slow)
    }

    /// Whether TLS has something to say by itself, for the first time since the last [`Connection::write`].
    pub fn queue_tls(&mut self) -> bool {
        self.tls_wants_write() && !std::mem::replace(&mut self.dirty, true)
    }

    /// Whether TLS has something to say by itself.
    pub fn tls_wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Queues an answer; whether it is the first since the last [`Connection::write`].
    pub fn queue(&mut self, answer: Vec<u8>) -> bool {
        if self.unread.is_empty() {
            self.unread = answer;
        } else {
            self.unread.drain(..self.sent);
            self.sent = 0;
            self.unread.extend_from_slice(&answer);
        }
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Writes what is queued, as far as the kernel takes it.
    ///
    /// # Errors
    /// Why it is to be closed.
    pub fn write(&mut self, now_ms: u64) -> Result<(), Closed> {
        self.dirty = false;
        while self.sent < self.unread.len() || self.tls_wants_write() {
            let left = &self.unread[self.sent..];
            let written = match &mut self.tls {
                Some(tls) => tls.write(&mut self.socket, left),
                None => self.socket.write(left),
            };
            match written {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_ms.get_or_insert(now_ms);
                    let left = self.unread.len() - self.sent;
                    return if left > UNREAD_ANSWER_BYTES_MAX {
                        Err(Closed::Unread)
                    } else {
                        Ok(())
                    };
                }
                Err(_) => return Err(Closed::Peer),
            }
        }
        // Given back, not kept: most connections are silent most of the time.
        self.unread = Vec::new();
        self.sent = 0;
        self.blocked_ms = None;
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.socket);
        }
    }
}
