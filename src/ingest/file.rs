//! Replay of a recorded log: in its own time, faster, or as fast as it goes.
//!
//! The descriptor's offset, which outlives this process, follows what was published, so that a successor goes on where
//! this one stopped. A recording waits for no answers.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::pending::Answers;
use super::process::IngestError;
use super::publishing::{Outgoing, Publisher};
use super::session::{Next, ReadAt, Session};
use super::tally::Tally;
use super::wake::Wake;
use crate::capture::Pace;
use crate::protocol::{Message, Reject};
use crate::sys::clock;

/// Bytes read in one go.
const READ_BYTES: usize = 64 * 1024;

/// Longest sleep: the heart beats and the backstop of the ring's bell.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Messages after which control and heartbeat are looked at although there is more to do.
const MESSAGES_IN_A_ROW_MAX: u32 = 1_000;

/// An ingest of the input `file`.
pub struct Replay {
    file: File,
    session: Session,
    publisher: Publisher<()>,
    wake: Wake,
    tally: Tally,
    pace: Pace,
    /// Bytes read and not yet taken, from `taken` on; the first of the buffer stands at `buffer_offset` in the file.
    buffer: Vec<u8>,
    taken: usize,
    buffer_offset: u64,
    ended: bool,
    next: Option<Due>,
    /// Where a successor is to go on, and from where once the stalled message is through.
    played_to: u64,
    played_to_next: u64,
}

/// The next message that has reports.
struct Due {
    /// When it is to be published, monotonic nanoseconds.
    at_ns: u64,
    message: Message,
    /// Where the message on the wire that completed it begins. That one may be the start of what comes next, so a
    /// successor reads it again.
    offset: u64,
}

impl Replay {
    /// Takes over all of it; `speed` as in [`crate::config::Input::File`].
    ///
    /// # Errors
    /// When the file has no offset, such as a pipe.
    pub fn new(
        mut file: File,
        session: Session,
        publisher: Publisher<()>,
        wake: Wake,
        tally: Tally,
        speed: f64,
    ) -> Result<Replay, IngestError> {
        let buffer_offset = file.stream_position()?;
        Ok(Replay {
            file,
            session,
            publisher,
            wake,
            tally,
            pace: Pace::new(speed),
            buffer: Vec::new(),
            taken: 0,
            buffer_offset,
            ended: false,
            next: None,
            played_to: buffer_offset,
            played_to_next: buffer_offset,
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
                    self.played_to_next = due.offset;
                    self.publish(due.message, now_ns);
                }
                None if self.next.is_some() || self.ended => return Ok(()),
                None => self.find_next(now_ns)?,
            }
        }
        Ok(())
    }

    fn publish(&mut self, message: Message, now_ns: u64) {
        let Some(device) = message.device else {
            self.tally.refused(Reject::Device);
            return;
        };
        let outgoing = Outgoing {
            to: (),
            device,
            reports: message.reports,
            answers: Answers::default(),
            read_at: ReadAt {
                monotonic_ns: now_ns,
                wall_ms: clock::wall_ms(),
            },
            decoded_ns: clock::monotonic_ns(),
        };
        if let Err(why) = self.publisher.publish(outgoing) {
            self.tally.stalled(why);
        }
    }

    /// Reads up to the next message that reports something.
    fn find_next(&mut self, now_ns: u64) -> Result<(), IngestError> {
        let at = ReadAt {
            monotonic_ns: now_ns,
            wall_ms: clock::wall_ms(),
        };
        loop {
            let offset = self.buffer_offset + self.taken as u64;
            let message = match self.session.next(&self.buffer[self.taken..], at) {
                Next::Incomplete if self.read()? => continue,
                Next::Incomplete => {
                    let message = self.session.flush();
                    self.ended = message.is_none();
                    if self.ended {
                        self.session.keep(&self.buffer[self.taken..], at);
                        if self.session.is_within_message() {
                            self.tally.refused(Reject::Incomplete);
                        }
                    }
                    message
                }
                Next::Refused { consumed, reason } => {
                    self.taken += consumed;
                    self.tally.refused(reason);
                    continue;
                }
                Next::Message { consumed, message } => {
                    self.taken += consumed;
                    self.tally.message(message.refused);
                    Some(message)
                }
            };
            match message {
                Some(message) if !message.reports.is_empty() => {
                    let time_ms = message.reports.iter().find_map(|report| report.fix.time());
                    self.next = Some(Due {
                        at_ns: self.pace.due_ns(now_ns, time_ms),
                        message,
                        offset,
                    });
                    return Ok(());
                }
                _ if self.ended => return Ok(()),
                _ => {}
            }
        }
    }

    /// Reads on in the file; `false` at its end.
    fn read(&mut self) -> Result<bool, IngestError> {
        self.buffer.drain(..self.taken);
        self.buffer_offset += self.taken as u64;
        self.taken = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + READ_BYTES, 0);
        let offset = self.buffer_offset + kept as u64;
        let read = self.file.read_at(&mut self.buffer[kept..], offset);
        self.buffer.truncate(kept + *read.as_ref().unwrap_or(&0));
        let bytes = read?;
        self.tally.bytes(bytes);
        Ok(bytes > 0)
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
