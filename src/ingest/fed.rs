//! The loop of an ingest that is fed: one stream of bytes at a time, which the supervisor opened and opens again when it
//! ends: a serial line, a connection to gpsd, a program's output, a named pipe.
//!
//! While a message is stalled, or too many await their outcome, the feed is not read: a pipe or line fills up, and
//! whoever writes waits. What was read and not published dies with this process, at most one read of it; what was not
//! read stays in the kernel, where the successor finds it.

mod answers;
mod ending;
mod open;
mod patience;

use nix::sys::epoll::{Epoll, EpollEvent};

use self::open::{Got, INPUT, Open};
pub use self::patience::Origin;
use self::patience::{Due, GPSD_QUESTION};
use super::admit::{Door, Judged};
use super::feed_log::{FeedLog, LOG};
use super::pending::Settled;
use super::process::{IngestError, Limits};
use super::publishing::Published;
use super::round::{Rounds, read_at};
use super::session::{Decoding, Next, ReadAt};
use super::silence::Silences;
use super::tally::Withheld;
use crate::protocol::Message;
use crate::role::{self, FeedEnd, FromChild, Handed};
use crate::sys::clock;

/// Bytes read in one go: little, because what is read and not published dies with this process.
const READ_BYTES: usize = 4 * 1024;

/// Reads of a round.
const READS_MAX: usize = 16;

/// Reads at a drain: what a pipe holds. Who writes on and on must not hold up the end.
const DRAIN_READS_MAX: usize = 16;

/// An ingest of a feed.
pub struct Fed {
    epoll: Epoll,
    rounds: Rounds<u64>,
    limits: Limits,
    door: Door,
    decoding: Decoding,
    origin: Origin,
    buffer: Box<[u8]>,
    feed: Option<Open>,
    /// Outlives the feed's end: a program may go on after it has closed its output.
    log: Option<FeedLog>,
    /// Handed over while another one is still read.
    next: Option<role::Feed>,
    /// A named pipe that ended, until the next one is there.
    last: Option<Open>,
    /// The newest feed that was open.
    newest: u64,
    silences: Silences<u64>,
    settled: Vec<Settled<u64>>,
    /// Whether the input is to be read though nothing says that there is something.
    more: bool,
    /// Reads left once it drains.
    drain_reads: usize,
}

impl Fed {
    /// Takes over all of it.
    pub fn new(
        epoll: Epoll,
        rounds: Rounds<u64>,
        limits: Limits,
        door: Door,
        decoding: Decoding,
        origin: Origin,
    ) -> Fed {
        let buffer = vec![0; READ_BYTES + decoding.message_bytes_max().max(READ_BYTES)];
        Fed {
            epoll,
            rounds,
            limits,
            door,
            decoding,
            origin,
            buffer: buffer.into(),
            feed: None,
            log: None,
            next: None,
            last: None,
            newest: 0,
            silences: Silences::new(),
            settled: Vec::new(),
            more: false,
            drain_reads: DRAIN_READS_MAX,
        }
    }

    /// Serves until it is drained, then closes the ring.
    ///
    /// # Errors
    /// When the supervisor cannot be told, or nothing can be waited for any more.
    pub fn run(mut self) -> Result<(), IngestError> {
        self.rounds.begin()?;
        let mut events = [EpollEvent::empty(); 4];
        loop {
            let (in_hand, due_ms) = (self.in_hand(), self.due_ms());
            let count = self
                .rounds
                .wait(&self.epoll, &mut events, in_hand, due_ms)?;
            let now = read_at();
            let now_ms = now.monotonic_ns / 1_000_000;
            self.take_handed(now_ms)?;
            let answered = self.settle(now_ms);
            if self.resume_stalled() {
                self.go_on(now)?;
                let ready = events[..count].iter().any(|event| event.data() == INPUT);
                let more = std::mem::take(&mut self.more);
                if !self.rounds.draining() && (ready || more || self.next.is_some()) {
                    self.read(now)?;
                }
                self.end_silent_epoch(now);
            }
            self.look(now_ms);
            self.write_answers();
            self.finish(now)?;
            if let Some(open) = &mut self.feed {
                open.watch(&self.epoll)?;
            }
            if let Some(log) = &mut self.log {
                let readable = events[..count].iter().any(|event| event.data() == LOG);
                log.attend(&self.epoll, readable, now_ms);
            }
            self.rounds.hand_over();
            self.door.tell(now_ms, &self.rounds)?;
            if answered {
                self.rounds.answered();
            }
            self.report(now.monotonic_ns);
            if self.rounds.drained(now_ms) && !self.read_rest(now)? {
                break;
            }
            self.rounds.end();
        }
        self.finish_log();
        self.write_answers();
        self.rounds.hand_over();
        self.report(clock::monotonic_ns());
        self.rounds.close();
        Ok(())
    }

    /// Whether there is something to go on with besides what comes.
    fn in_hand(&self) -> bool {
        let waits = self.next.is_some();
        match &self.feed {
            Some(open) => open.readable() && (self.more || waits),
            None => waits,
        }
    }

    fn due_ms(&self) -> Option<u64> {
        if self.rounds.publisher.stalled() {
            return None;
        }
        let open = self.feed.as_ref().filter(|open| open.readable());
        let patience = open.and_then(|open| open.patience.due_ms());
        let log = self.log.as_ref().and_then(FeedLog::due_ms);
        let all = patience.into_iter().chain(self.silences.due_ms());
        all.chain(log).min()
    }

    /// Takes what was handed over. It may be handed twice to one that is being started.
    fn take_handed(&mut self, now_ms: u64) -> Result<(), IngestError> {
        while let Some(handed) = self.rounds.next_handed() {
            match handed {
                Handed::Feed(feed) if feed.number > self.newest => {
                    self.newest = feed.number;
                    self.next = Some(feed);
                }
                Handed::Devices(devices) => self.door.take_list(devices, &self.rounds)?,
                Handed::Feed(_) | Handed::Capture(_) | Handed::Certificates(_) => {}
            }
        }
        if self.feed.is_none()
            && let Some(mut feed) = self.next.take()
        {
            self.finish_log();
            if let Some(log) = feed.log.take() {
                self.log = Some(FeedLog::open(&self.epoll, log, self.door.sensor())?);
            }
            self.rounds.tally.feed_opened();
            self.rounds.capture.opened(feed.number, "feed");
            self.last = None;
            let session = self.decoding.session();
            self.feed = Some(Open::new(feed, session, self.origin, now_ms));
        }
        Ok(())
    }

    /// Says what is left of the log of a feed whose place is taken.
    fn finish_log(&mut self) {
        if let Some(log) = self.log.take() {
            log.finish(&self.epoll, clock::monotonic_ns() / 1_000_000);
        }
    }

    fn resume(&mut self) {
        if let Some(open) = &mut self.feed {
            open.resumable = true;
        }
    }

    /// Gives the answers of messages whose outcome is now known; whether there were any.
    fn settle(&mut self, now_ms: u64) -> bool {
        let mut settled = std::mem::take(&mut self.settled);
        self.rounds.publisher.settle(now_ms, &mut settled);
        let mut answered = false;
        for Settled { to, answer, ending } in settled.drain(..) {
            let open = self.feed.as_mut().filter(|open| open.number == to);
            let accepted = self.rounds.settled(ending, open.is_some());
            let Some(open) = open else {
                continue;
            };
            open.awaiting -= 1;
            if open.paused && open.awaiting <= self.limits.awaiting_max(open.in_order()) / 2 {
                open.paused = false;
                open.resumable = true;
            }
            if accepted {
                self.answer(to, &answer);
                answered = true;
            } else {
                self.refused(to, &answer);
            }
        }
        self.settled = settled;
        answered
    }

    /// Goes on with the stalled message; `true` if none is left.
    fn resume_stalled(&mut self) -> bool {
        if let Some((to, published)) = self.rounds.publisher.resume() {
            self.published(to, published);
            // Whole messages may be kept behind the one that was stalled.
            self.resume();
        }
        !self.rounds.publisher.stalled()
    }

    /// Goes on with the bytes kept while the feed was held up.
    fn go_on(&mut self, now: ReadAt) -> Result<(), IngestError> {
        let Some(open) = self.feed.as_mut().filter(|open| !open.paused) else {
            return Ok(());
        };
        if !std::mem::take(&mut open.resumable) {
            return Ok(());
        }
        // What came meanwhile may have been the end.
        self.more = true;
        let (kept, at) = open.session.put_kept(&mut self.buffer);
        self.feed(kept, if kept > 0 { at } else { now })
    }

    /// Reads until there is nothing, because the kernel does not report the end of a pipe that was opened after its last
    /// writer had gone.
    fn read(&mut self, now: ReadAt) -> Result<(), IngestError> {
        for _ in 0..READS_MAX {
            if !self.read_once(now)? {
                return Ok(());
            }
            // What the kernel takes of the answers makes room for those of the next read.
            self.write_answers();
        }
        self.more = true;
        Ok(())
    }

    /// Whether there were bytes.
    fn read_once(&mut self, now: ReadAt) -> Result<bool, IngestError> {
        let may = |open: &&mut Open| open.readable() && !open.resumable;
        let open = self.feed.as_mut().filter(may);
        let Some(open) = open.filter(|_| !self.rounds.publisher.stalled()) else {
            return Ok(false);
        };
        let (kept, _) = open.session.put_kept(&mut self.buffer);
        match open.read(&mut self.buffer[kept..kept + READ_BYTES]) {
            Got::Bytes(bytes) => {
                self.rounds.tally.bytes(bytes);
                let read = &self.buffer[kept..kept + bytes];
                self.rounds.capture.bytes(open.number, read, now);
                let now_ms = now.monotonic_ns / 1_000_000;
                open.patience.bytes(now_ms);
                if self.decoding.protocol.has_epochs() {
                    self.silences.heard(open.number, &mut open.silence, now_ms);
                }
                self.feed(kept + bytes, now)?;
                return Ok(true);
            }
            // Emptied for good: another one waits to take its place.
            Got::Nothing if self.next.is_some() => open.ended = Some(FeedEnd::Closed),
            Got::Nothing => {}
            Got::End(why) => open.ended = Some(why),
        }
        Ok(false)
    }

    /// Reads the messages in the first `length` bytes of the buffer, and keeps what is left.
    fn feed(&mut self, length: usize, at: ReadAt) -> Result<(), IngestError> {
        let now_ms = at.monotonic_ns / 1_000_000;
        let mut taken = 0;
        while !self.rounds.publisher.stalled()
            && let Some(open) = self.feed.as_mut().filter(|open| !open.paused)
        {
            let number = open.number;
            match open.session.next(&self.buffer[taken..length], at) {
                Next::Incomplete => break,
                Next::Refused { consumed, reason } => {
                    taken += consumed;
                    open.patience.refused();
                    self.rounds.tally.refused(reason);
                }
                Next::Message { consumed, message } => {
                    taken += consumed;
                    let sound = open.patience.message(now_ms);
                    self.let_in(number, message, at);
                    if sound {
                        self.rounds.say(&FromChild::FeedSound { number })?;
                    }
                }
            }
        }
        let errors_max = self.limits.errors_max;
        if let Some(open) = &mut self.feed {
            open.session.keep(&self.buffer[taken..length], at);
            if open.session.errors_in_a_row() >= errors_max {
                open.ended.get_or_insert(FeedEnd::Unreadable);
            }
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
                let refused = std::mem::take(&mut message.answer_if_refused);
                if !std::mem::take(&mut message.answer_when_safe).is_empty() {
                    self.answer(to, &refused);
                }
                message.reports.clear();
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
            Published::Unanswered => {}
            Published::Answer(answer) => self.answer(to, &answer),
            Published::Refused(answer) => self.refused(to, &answer),
            Published::Awaiting => {
                if let Some(open) = self.feed.as_mut().filter(|open| open.number == to) {
                    open.awaiting += 1;
                    open.paused |= open.awaiting >= self.limits.awaiting_max(open.in_order());
                }
            }
        }
    }

    /// A message was not taken. Where answers do not say what they answer, a later one would be taken for the one that is
    /// missing: the feed begins anew.
    fn refused(&mut self, to: u64, answer: &[u8]) {
        let in_order = |open: &&mut Open| open.number == to && open.in_order();
        match self.feed.as_mut().filter(in_order) {
            Some(open) if answer.is_empty() => {
                open.session.keep(&[], ReadAt::default());
                open.ended = Some(FeedEnd::Broken);
            }
            _ => self.answer(to, answer),
        }
    }

    fn answer(&mut self, to: u64, answer: &[u8]) {
        let open = self.feed.as_mut().filter(|open| open.number == to);
        if let Some(answers) = open.and_then(|open| open.answers.as_mut())
            && !answer.is_empty()
        {
            match answers.push(answer) {
                true => self.rounds.capture.sent(to, answer),
                false => self.rounds.tally.withheld(Withheld::Unsent),
            }
        }
    }

    fn write_answers(&mut self) {
        if let Some(answers) = self.feed.as_mut().and_then(|open| open.answers.as_mut()) {
            for _ in 0..answers.write() {
                self.rounds.tally.withheld(Withheld::Unsent);
            }
        }
    }

    /// Bears with the feed, or does not.
    fn look(&mut self, now_ms: u64) {
        let stalled = self.rounds.publisher.stalled();
        let Some(open) = &mut self.feed else {
            return;
        };
        if !open.readable() || stalled {
            return open.patience.held(now_ms);
        }
        match open.patience.due(now_ms) {
            None => {}
            Some(Due::Ask) => {
                let number = open.number;
                self.answer(number, GPSD_QUESTION);
            }
            Some(Due::End(why)) => open.ended = Some(why),
        }
    }

    /// Reports on the statistics page. No device connects.
    fn report(&mut self, now_ns: u64) {
        self.rounds.tally.feed_open(self.feed.is_some());
        self.rounds.report(now_ns, 0);
    }
}
