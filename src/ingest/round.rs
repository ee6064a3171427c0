//! The rounds of an ingest that listens: how long it sleeps between them, and what each message goes through, whatever
//! it came in by.
//!
//! Under load it looks at its sockets at most once per [`GATHER`], because waking is what costs; the first message
//! after a pause is taken at once.

use std::io;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::capture::{Capture, Failed};
use super::connection::Closed;
use super::pending::{Answers, Ending};
use super::process::IngestError;
use super::publishing::{Outgoing, Published, Publisher, Stall};
use super::session::ReadAt;
use super::tally::Tally;
use super::wake::{self, Wake};
use crate::protocol::{Message, Reject};
use crate::ring;
use crate::role::{FromChild, Handed};
use crate::sys::clock;
use crate::sys::fail::{self, Point};

/// Longest time for which messages wait to be taken together when there is load. The hops behind take what one round
/// hands over, so most of the millisecond that all may take is spent here, where it saves wake-ups of all of them.
const GATHER: Duration = Duration::from_micros(1_000 - 2 * ring::COALESCE.as_micros() as u64);

/// A round with more messages than this was long enough to make up for its wake-up: the next one follows at once.
const GATHER_MESSAGES_MAX: u32 = 64;

/// Longest sleep: the heart beats and the backstop of the ring's bell.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Messages further apart than this are no load, ns.
const QUIET_NS: u64 = 2_000_000;

/// How often answers are looked for under load, when nobody rings for them.
const ANSWERS_EVERY: Duration = Duration::from_millis(1);

/// Time for which a drain waits for outcomes.
const DRAIN_MS_MAX: u64 = 2_000;

/// Token of the control channel and the bell in the epoll set of the sockets.
pub const WAKE: u64 = u64::MAX - 1;

/// What all rounds share: the ring, the supervisor, the figures, and how busy the sensor is.
pub struct Rounds<K> {
    /// The ring and the answers that are owed.
    pub publisher: Publisher<K>,
    /// The statistics page.
    pub tally: Tally,
    /// The recording of what comes and goes.
    pub capture: Capture,
    wake: Wake,
    /// Messages of this round.
    messages: u32,
    ended_ns: u64,
    /// When the last round with messages ended.
    taken_in_ns: u64,
    /// Whether the last round was one of many.
    loaded: bool,
    drain_until_ms: Option<u64>,
}

impl<K: Copy> Rounds<K> {
    /// Takes over all of it; `epoll` is the set of the sockets, which gets the token [`WAKE`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(
        epoll: &Epoll,
        mut publisher: Publisher<K>,
        wake: Wake,
        tally: Tally,
    ) -> io::Result<Rounds<K>> {
        publisher.gather();
        epoll.add(wake.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Rounds {
            publisher,
            tally,
            capture: Capture::default(),
            wake,
            messages: 0,
            ended_ns: 0,
            taken_in_ns: 0,
            loaded: false,
            drain_until_ms: None,
        })
    }

    /// Says that the process serves.
    ///
    /// # Errors
    /// When the supervisor cannot be told.
    pub fn begin(&mut self) -> Result<(), IngestError> {
        self.switch_capture();
        self.wake.say_ready()?;
        self.tally.ready();
        Ok(())
    }

    /// What the supervisor handed over and was not taken yet, one a call.
    pub fn next_handed(&mut self) -> Option<Handed> {
        self.wake.next_handed()
    }

    /// Tells the supervisor something.
    ///
    /// # Errors
    /// When the channel failed.
    pub fn say(&self, what: &FromChild) -> Result<(), IngestError> {
        Ok(self.wake.say(what)?)
    }

    /// Tells the supervisor something if it can be told at once; whether it was.
    ///
    /// # Errors
    /// When the channel failed.
    pub fn try_say(&self, what: &FromChild) -> Result<bool, IngestError> {
        Ok(self.wake.try_say(what)?)
    }

    /// Sleeps until there is something to do and begins a round; returns how many sockets have something. `in_hand`:
    /// there is something to go on with besides them; `due_ms`: when there will be.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(
        &mut self,
        epoll: &Epoll,
        events: &mut [EpollEvent],
        in_hand: bool,
        due_ms: Option<u64>,
    ) -> io::Result<usize> {
        let loaded = self.loaded;
        if loaded && self.messages <= GATHER_MESSAGES_MAX {
            let since = Duration::from_nanos(clock::monotonic_ns() - self.ended_ns);
            // Asleep, not waiting: neither a socket nor the bell is to wake this process sooner.
            std::thread::sleep(GATHER.saturating_sub(since));
        }
        let reading = !self.draining() && !self.publisher.stalled();
        let idle = self.publisher.nap_begin(!loaded);
        let may_sleep = idle && !(in_hand && reading);
        let timeout = if !may_sleep {
            Duration::ZERO
        } else if loaded && self.publisher.awaited() > 0 {
            ANSWERS_EVERY
        } else {
            self.sleep_max(due_ms)
        };
        let count = if reading {
            let count = wake::wait(epoll, events, timeout)?;
            if events[..count].iter().any(|event| event.data() == WAKE) {
                self.wake.wait(Duration::ZERO)?;
            }
            count
        } else {
            self.wake.wait(timeout)?;
            0
        };
        self.publisher.nap_end();
        self.messages = 0;
        self.switch_capture();
        Ok(count)
    }

    /// Records where the supervisor wants it.
    fn switch_capture(&mut self) {
        if let Some(recording) = self.wake.take_capture()
            && let Err(failed) = self.capture.switch(recording)
        {
            self.capture_failed(failed);
        }
    }

    /// A recording came to an end by itself; the sensor goes on.
    fn capture_failed(&self, Failed { mark, why }: Failed) {
        self.tally.capture_failed();
        tracing::error!("cannot write recording: {why}; nothing is recorded any more");
        // A supervisor that cannot be told is met again as a drain.
        let _ = self.wake.say(&FromChild::CaptureFailed { mark, why });
    }

    fn sleep_max(&self, due_ms: Option<u64>) -> Duration {
        let due_ms = due_ms.into_iter().chain(self.drain_until_ms).min();
        let now_ms = clock::monotonic_ns() / 1_000_000;
        due_ms.map_or(SLEEP_MAX, |due| {
            Duration::from_millis(due.saturating_sub(now_ms).max(1)).min(SLEEP_MAX)
        })
    }

    /// Counts a message and publishes what it reports; what needs no outcome is answered now.
    ///
    /// # Errors
    /// Why it is stalled, as [`Publisher::publish`].
    pub fn publish(&mut self, to: K, message: Message, at: ReadAt) -> Result<Published, Stall> {
        self.messages += 1;
        self.tally.message(message.refused);
        if message.reports.is_empty() {
            return Ok(Published::Answer(message.answer_when_safe));
        }
        let Some(device) = message.device else {
            self.tally.refused(Reject::Device);
            return Ok(Published::Unanswered);
        };
        self.publisher.publish(Outgoing {
            to,
            device,
            reports: message.reports,
            answers: Answers {
                safe: message.answer_when_safe,
                refused: message.answer_if_refused,
            },
            read_at: at,
            decoded_ns: clock::monotonic_ns(),
        })
    }

    /// Wakes the classifier for what was published.
    pub fn hand_over(&mut self) {
        fail::pass(Point::IngestBell);
        self.publisher.hand_over();
    }

    /// Counts that a message has come to its end; whether it is to be answered now. `here`: its sender is still there.
    pub fn settled(&self, ending: Ending, here: bool) -> bool {
        self.tally.settled(ending, here);
        let answer = here && ending == Ending::Accepted;
        if answer {
            fail::pass(Point::IngestAnswer);
        }
        answer
    }

    /// Counts and records that a stream is over.
    pub fn closed(&self, stream: u64, why: Closed) {
        self.tally.closed(why);
        self.capture.closed(stream, why);
    }

    /// Answers of messages that were settled are sent.
    pub fn answered(&self) {
        fail::pass(Point::IngestAnswered);
    }

    /// Whether a drain began: nothing more is taken in.
    pub fn draining(&self) -> bool {
        self.drain_until_ms.is_some()
    }

    /// Whether a drain is over: every message is published, settled and answered, or time is up.
    pub fn drained(&mut self, now_ms: u64) -> bool {
        if !self.wake.drain() {
            return false;
        }
        let until_ms = *self.drain_until_ms.get_or_insert(now_ms + DRAIN_MS_MAX);
        let empty = self.publisher.awaited() == 0 && !self.publisher.stalled();
        empty || now_ms >= until_ms
    }

    /// Ends a round and notes how busy the sensor is: one message after a quiet time is no load, and its answer is
    /// waited for by the bell, not by the clock.
    pub fn end(&mut self) {
        self.ended_ns = clock::monotonic_ns();
        self.loaded = false;
        if self.messages > 0 {
            self.loaded = self.ended_ns - self.taken_in_ns < QUIET_NS;
            self.taken_in_ns = self.ended_ns;
        }
    }

    /// Reports on the statistics page; `open` connections or peers.
    pub fn report(&mut self, now_ns: u64, open: u32) {
        let (awaited, figures) = (self.publisher.awaited(), self.publisher.figures());
        self.tally.beat(now_ns, open, awaited, figures);
        if let Some(failed) = self.capture.report(&self.tally) {
            self.capture_failed(failed);
        }
    }

    /// Says that nothing will come any more.
    pub fn close(self) {
        self.tally.ends();
        self.publisher.close();
        self.capture.finish();
    }
}

/// Now, on both clocks.
pub fn read_at() -> ReadAt {
    ReadAt {
        monotonic_ns: clock::monotonic_ns(),
        wall_ms: clock::wall_ms(),
    }
}
