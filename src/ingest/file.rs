//! Replay of what was recorded: a log, or a capture with its many streams; in its own time, faster, or as fast as it
//! goes.
//!
//! The descriptor's offset, which outlives this process, follows what was published, so that a successor goes on where
//! this one stopped. A recording waits for no answers.

mod captured;
mod log;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use captured::Captured;
use log::Log;

use super::pending::Answers;
use super::process::IngestError;
use super::publishing::{Outgoing, Publisher};
use super::session::{ReadAt, Session};
use super::tally::Tally;
use super::wake::Wake;
use crate::capture::{MAGIC, Pace};
use crate::protocol::{Message, Protocol, Reject};
use crate::sys::clock;

/// Longest sleep: the heart beats and the backstop of the ring's bell.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Messages, or looks at the file, after which control and heartbeat are looked at although there is more to do.
const MESSAGES_IN_A_ROW_MAX: u32 = 1_000;

/// An ingest of the input `file`.
pub struct Replay {
    file: File,
    source: Source,
    publisher: Publisher<()>,
    wake: Wake,
    tally: Tally,
    pace: Pace,
    ended: bool,
    next: Option<Due>,
    /// Where a successor is to go on, and from where once the stalled message is through.
    played_to: u64,
    played_to_next: u64,
}

/// What the file is.
enum Source {
    Log(Box<Log>),
    Captured(Box<Captured>),
}

/// A message of the file that has reports.
struct Found {
    message: Message,
    /// When it was recorded or reported, milliseconds of its own clock.
    time_ms: Option<i64>,
    /// When it was received, if that was recorded.
    received_ms: Option<i64>,
    /// Where a successor has to begin to find it again.
    offset: u64,
}

/// The next message that has reports.
struct Due {
    /// When it is to be published, monotonic nanoseconds.
    at_ns: u64,
    found: Found,
}

impl Replay {
    /// Takes over all of it; `speed` as in [`crate::config::Input::File`]. A capture says itself how it is decoded; a
    /// log is read by `session`.
    ///
    /// # Errors
    /// When the file has no offset, such as a pipe.
    pub fn new(
        mut file: File,
        protocol: Protocol,
        session: Session,
        publisher: Publisher<()>,
        wake: Wake,
        tally: Tally,
        speed: f64,
    ) -> Result<Replay, IngestError> {
        let played_to = file.stream_position()?;
        let (source, begin) = if is_capture(&file)? {
            let captured = Captured::new(file.try_clone()?, played_to, protocol)?;
            let begin = captured.begin_ms();
            (Source::Captured(Box::new(captured)), begin)
        } else {
            let log = Log::new(file.try_clone()?, played_to, session);
            (Source::Log(Box::new(log)), None)
        };
        let mut pace = Pace::new(speed);
        if begin.is_some() {
            // Its first message comes as long after its begin as it did.
            pace.due_ns(clock::monotonic_ns(), begin);
        }
        Ok(Replay {
            file,
            source,
            publisher,
            wake,
            tally,
            pace,
            ended: false,
            next: None,
            played_to,
            played_to_next: played_to,
        })
    }

    /// Replays to the end and then waits to be drained, then closes the ring.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn run(mut self) -> Result<(), IngestError> {
        self.wake.say_ready()?;
        self.tally.ready();
        while !self.wake.drain() {
            self.play()?;
            self.file.seek(SeekFrom::Start(self.played_to))?;
            let now_ns = clock::monotonic_ns();
            self.tally.beat(now_ns, 0, 0, self.publisher.figures());
            self.sleep()?;
        }
        self.tally.ends();
        self.publisher.close();
        Ok(())
    }

    /// Publishes what is due and finds what comes next.
    fn play(&mut self) -> Result<(), IngestError> {
        for _ in 0..MESSAGES_IN_A_ROW_MAX {
            if self.publisher.stalled() && self.publisher.resume().is_none() {
                return Ok(());
            }
            self.played_to = self.played_to_next;
            let now_ns = clock::monotonic_ns();
            match self.next.take_if(|due| due.at_ns <= now_ns) {
                Some(due) => {
                    self.played_to_next = due.found.offset;
                    self.publish(due.found, now_ns);
                }
                None if self.next.is_some() || self.ended => return Ok(()),
                None => self.find_next(now_ns)?,
            }
        }
        Ok(())
    }

    fn publish(&mut self, found: Found, now_ns: u64) {
        let Some(device) = found.message.device else {
            self.tally.refused(Reject::Device);
            return;
        };
        let outgoing = Outgoing {
            to: (),
            device,
            reports: found.message.reports,
            answers: Answers::default(),
            read_at: ReadAt {
                monotonic_ns: now_ns,
                wall_ms: found.received_ms.unwrap_or_else(clock::wall_ms),
            },
            decoded_ns: clock::monotonic_ns(),
        };
        if let Err(why) = self.publisher.publish(outgoing) {
            self.tally.stalled(why);
        }
    }

    /// Looks at what comes next. There may be gigabytes without a report: what else is to be done comes in between.
    fn find_next(&mut self, now_ns: u64) -> Result<(), IngestError> {
        let found = match &mut self.source {
            Source::Log(log) => log.next(now_ns, &self.tally)?,
            Source::Captured(captured) => captured.next(&self.tally)?,
        };
        self.next = found.map(|found| Due {
            at_ns: self.pace.due_ns(now_ns, found.time_ms),
            found,
        });
        self.ended = match &self.source {
            Source::Log(log) => log.ended(),
            Source::Captured(captured) => captured.ended(),
        };
        Ok(())
    }

    fn sleep(&mut self) -> Result<(), IngestError> {
        let may_sleep = self.publisher.nap_begin(true);
        let now_ns = clock::monotonic_ns();
        let timeout = match &self.next {
            _ if !may_sleep => Duration::ZERO,
            _ if self.publisher.stalled() => SLEEP_MAX,
            // Rounded up, so that it is due when this process wakes.
            Some(due) => {
                let wait_ns = due.at_ns.saturating_sub(now_ns);
                Duration::from_millis(wait_ns.div_ceil(1_000_000)).min(SLEEP_MAX)
            }
            None if self.ended => SLEEP_MAX,
            None => Duration::ZERO,
        };
        self.wake.wait(timeout)?;
        self.publisher.nap_end();
        Ok(())
    }
}

fn is_capture(file: &File) -> io::Result<bool> {
    let mut start = [0; MAGIC.len()];
    Ok(file.read_at(&mut start, 0)? == start.len() && start == MAGIC)
}
