//! The devices: connections that send by a schedule and read their answers. One thread, so that it costs little beside
//! what is measured.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::TimerFlags;

use crate::clock::{self, Nanos, Sent};
use crate::control;
use crate::schedule::Schedule;
use crate::wire::Wire;

/// Connections opened before their greeting is awaited: fewer than fit into any server's backlog, in which a connection
/// that does not fit waits for a second.
const OPEN_TOGETHER: usize = 64;

/// A greeting that is not answered by then fails the run.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Answers that are not here by then, after the last message, count as missing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The key of the timer in the epoll set; devices have their number.
const TIMER: u64 = u64::MAX;

/// Events taken at once.
const EVENTS_MAX: usize = 256;

/// Connected devices.
pub struct Fleet<'a> {
    wire: &'a dyn Wire,
    epoll: Epoll,
    streams: Vec<TcpStream>,
    /// Units of answers that each device got.
    units: Vec<u32>,
}

/// What a fleet did in the measured window.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages sent.
    pub sent: u64,
    /// Messages of them that were answered.
    pub answered: u64,
    /// From sending to the answer, nanoseconds.
    pub answers: Vec<Nanos>,
    /// How late after their due time messages were sent, nanoseconds.
    pub late: Vec<Nanos>,
}

impl<'a> Fleet<'a> {
    /// Connects devices, and has each greet and be answered.
    ///
    /// # Errors
    /// When a connection fails or a greeting is not answered in time.
    pub fn connect(wire: &'a dyn Wire, address: SocketAddr, devices: u32) -> io::Result<Fleet<'a>> {
        let mut fleet = Fleet {
            wire,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            streams: Vec::with_capacity(devices as usize),
            units: vec![0; devices as usize],
        };
        let mut hello = Vec::new();
        while fleet.streams.len() < devices as usize {
            let first = fleet.streams.len();
            let end = (first + OPEN_TOGETHER).min(devices as usize);
            for device in first..end {
                let mut stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                hello.clear();
                wire.hello(device as u32, &mut hello);
                stream.write_all(&hello)?;
                let event = EpollEvent::new(EpollFlags::EPOLLIN, device as u64);
                fleet.epoll.add(&stream, event)?;
                fleet.streams.push(stream);
            }
            fleet.await_hellos(first..end)?;
        }
        Ok(fleet)
    }

    fn await_hellos(&mut self, devices: Range<usize>) -> io::Result<()> {
        let deadline = clock::now() + HELLO_WITHIN.as_nanos() as Nanos;
        let expected = self.wire.units_an_answer();
        while self.units[devices.clone()]
            .iter()
            .any(|units| *units < expected)
        {
            self.wait(Some(deadline), |_, _| {})?;
            if clock::now() > deadline {
                return Err(io::Error::other("a device's greeting was not answered"));
            }
        }
        Ok(())
    }

    /// Waits for events, reads all answers that are there and tells of each: device and number of its message.
    /// Returns whether the timer rang.
    fn wait(
        &mut self,
        deadline: Option<Nanos>,
        mut answered: impl FnMut(u32, u32),
    ) -> io::Result<bool> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let timeout = deadline.map_or(EpollTimeout::NONE, |deadline| {
            let millis = deadline.saturating_sub(clock::now()) / 1_000_000 + 1;
            EpollTimeout::try_from(millis as u32).unwrap_or(EpollTimeout::MAX)
        });
        let ready = match self.epoll.wait(&mut events, timeout) {
            Err(nix::Error::EINTR) => 0,
            ready => ready?,
        };
        let mut rang = false;
        for event in &events[..ready] {
            if event.data() == TIMER {
                rang = true;
                continue;
            }
            let device = event.data() as usize;
            let mut input = [0; 2_048];
            let read = match self.streams[device].read(&mut input) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                read => read?,
            };
            let per_answer = self.wire.units_an_answer();
            let before = self.units[device] / per_answer;
            self.units[device] += self.wire.answer_units(&input[..read]);
            for number in before..self.units[device] / per_answer {
                // Answer 0 is to the greeting.
                answered(device as u32, number);
            }
        }
        Ok(rang)
    }

    /// Sends by the schedule and reads answers. What is sent in `window` counts.
    ///
    /// # Errors
    /// When a connection fails or a server takes no more bytes.
    pub fn run(
        &mut self,
        schedule: &Schedule,
        window: Range<Nanos>,
        sent: &Sent,
    ) -> io::Result<Outcome> {
        let timer = control::timer(TimerFlags::TFD_NONBLOCK)?;
        self.epoll
            .add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let mut outcome = Outcome::default();
        let mut answers = Vec::new();
        let mut take = |device, number| {
            let time = sent.time(device, number);
            if let Some(time) = time.filter(|time| window.contains(time)) {
                answers.push(clock::now() - time);
            }
        };
        let mut message = Vec::new();
        for due in schedule.dues() {
            loop {
                if clock::now() >= due.at {
                    break;
                }
                control::arm(&timer, due.at)?;
                while !self.wait(None, &mut take)? {}
            }
            message.clear();
            self.wire.message(due.device, due.number, &mut message);
            let time = clock::now();
            sent.note(due.device, due.number, time);
            // A message is far smaller than any socket buffer: one that does not fit means a server that stopped.
            self.streams[due.device as usize].write_all(&message)?;
            if window.contains(&time) {
                outcome.sent += 1;
                outcome.late.push(time - due.at);
            }
        }
        self.epoll.delete(&timer)?;
        let deadline = clock::now() + ANSWERS_WITHIN.as_nanos() as Nanos;
        let mut missing = self.missing(schedule);
        while missing > 0 && clock::now() < deadline {
            let mut came = 0;
            self.wait(Some(deadline), |device, number| {
                came += 1;
                take(device, number);
            })?;
            missing = missing.saturating_sub(came);
        }
        outcome.answered = answers.len() as u64;
        outcome.answers = answers;
        Ok(outcome)
    }

    /// Answers that are still to come, those to greetings included.
    fn missing(&self, schedule: &Schedule) -> usize {
        let per_answer = self.wire.units_an_answer();
        let got: usize = self
            .units
            .iter()
            .map(|units| (units / per_answer) as usize)
            .sum();
        (schedule.dues().count() + self.streams.len()).saturating_sub(got)
    }
}
