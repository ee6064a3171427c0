//! As many frames as go: few connections, each with segments of many messages on the way, all made beforehand. What
//! counts is what is answered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::wire::Wire;

/// Messages of one segment.
pub const SEGMENT_MESSAGES: usize = 100;

/// The flood ends when nothing was answered for this long, or all is.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// Events taken at once.
const EVENTS_MAX: usize = 256;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections.
    pub connections: u32,
    /// Messages of each, a multiple of [`SEGMENT_MESSAGES`].
    pub messages: u32,
    /// Messages of a connection that may be unanswered.
    pub window: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Messages that were answered.
    pub answered: u64,
    /// Messages that were not.
    pub unanswered: u64,
    /// From the first segment to the last answer.
    pub took: Duration,
}

struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Ends of the segments in `bytes`.
    segments: Vec<usize>,
    segment: usize,
    at: usize,
    units: u32,
    writable: bool,
}

/// A flood that is made and not sent yet.
pub struct Flood<'a> {
    wire: &'a dyn Wire,
    plan: Plan,
    epoll: Epoll,
    connections: Vec<Connection>,
}

impl<'a> Flood<'a> {
    /// Makes all messages and connects.
    ///
    /// # Errors
    /// When a connection fails.
    pub fn prepare(wire: &'a dyn Wire, address: SocketAddr, plan: Plan) -> io::Result<Flood<'a>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connections = Vec::new();
        for device in 0..plan.connections {
            let (mut bytes, mut segments) = (Vec::new(), Vec::new());
            for number in 0..plan.messages {
                wire.message(device, number, &mut bytes);
                if (number as usize + 1).is_multiple_of(SEGMENT_MESSAGES) {
                    segments.push(bytes.len());
                }
            }
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            // Edge-triggered: told once when there is room again.
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            epoll.add(&stream, EpollEvent::new(flags, u64::from(device)))?;
            connections.push(Connection {
                stream,
                bytes,
                segments,
                segment: 0,
                at: 0,
                units: 0,
                writable: true,
            });
        }
        Ok(Flood {
            wire,
            plan,
            epoll,
            connections,
        })
    }

    /// Sends everything and waits for the answers.
    ///
    /// # Errors
    /// When a connection fails.
    pub fn run(mut self) -> io::Result<Outcome> {
        let began = Instant::now();
        let expected = u64::from(self.plan.connections) * u64::from(self.plan.messages);
        let (mut answered, mut last) = (0, began);
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        while answered < expected && last.elapsed() < STALLED_AFTER {
            let mut wrote = false;
            for connection in &mut self.connections {
                wrote |= connection.write_segment(self.wire, self.plan.window)?;
            }
            let timeout = if wrote { 0u16 } else { 100 };
            let ready = match self.epoll.wait(&mut events, EpollTimeout::from(timeout)) {
                Err(nix::Error::EINTR) => 0,
                ready => ready?,
            };
            let mut came = 0;
            for event in &events[..ready] {
                let connection = &mut self.connections[event.data() as usize];
                connection.writable |= event.events().contains(EpollFlags::EPOLLOUT);
                came += connection.read_answers(self.wire)?;
            }
            if came > 0 {
                answered += came;
                last = Instant::now();
            }
        }
        Ok(Outcome {
            answered,
            unanswered: expected - answered.min(expected),
            took: last - began,
        })
    }
}

impl Connection {
    /// Writes (the rest of) a segment if the window and the socket have room. Returns whether it wrote.
    fn write_segment(&mut self, wire: &dyn Wire, window: u32) -> io::Result<bool> {
        let Some(&end) = self.segments.get(self.segment) else {
            return Ok(false);
        };
        let answered = self.units / wire.units_an_answer();
        let sent = ((self.segment + 1) * SEGMENT_MESSAGES) as u32;
        if !self.writable || sent > answered + window {
            return Ok(false);
        }
        let segment: Range<usize> = self.at..end;
        match self.stream.write(&self.bytes[segment]) {
            Ok(written) => self.at += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.segment += usize::from(self.at == end);
        Ok(true)
    }

    /// Reads what is there and returns how many messages it answers.
    fn read_answers(&mut self, wire: &dyn Wire) -> io::Result<u64> {
        let mut input = [0; 64 * 1024];
        let before = self.units / wire.units_an_answer();
        loop {
            match self.stream.read(&mut input) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(read) => self.units += wire.answer_units(&input[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(u64::from(self.units / wire.units_an_answer() - before))
    }
}
