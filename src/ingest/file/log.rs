//! A recorded log: one stream, whose reports say themselves when they were made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Found;
use crate::ingest::session::{Next, ReadAt, Session};
use crate::ingest::tally::Tally;
use crate::protocol::Reject;
use crate::sys::clock;

/// Bytes read in one go.
const READ_BYTES: usize = 64 * 1024;

/// A log on its way in.
pub struct Log {
    file: File,
    session: Session,
    /// Bytes read and not yet taken, from `taken` on; the first of the buffer stands at `offset` in the file.
    buffer: Vec<u8>,
    taken: usize,
    offset: u64,
    ended: bool,
}

impl Log {
    /// Reads from `offset` on.
    pub fn new(file: File, offset: u64, session: Session) -> Log {
        Log {
            file,
            session,
            buffer: Vec::new(),
            taken: 0,
            offset,
            ended: false,
        }
    }

    /// Whether nothing more comes.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The next message, if it reports something.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next(&mut self, now_ns: u64, tally: &Tally) -> io::Result<Option<Found>> {
        let at = ReadAt {
            monotonic_ns: now_ns,
            wall_ms: clock::wall_ms(),
        };
        let offset = self.offset + self.taken as u64;
        let message = match self.session.next(&self.buffer[self.taken..], at) {
            Next::Incomplete if self.read(tally)? => return Ok(None),
            Next::Incomplete => match self.session.flush() {
                Some(message) => message,
                None => {
                    self.session.keep(&self.buffer[self.taken..], at);
                    if self.session.is_within_message() {
                        tally.refused(Reject::Incomplete);
                    }
                    self.ended = true;
                    return Ok(None);
                }
            },
            Next::Refused { consumed, reason } => {
                self.taken += consumed;
                tally.refused(reason);
                return Ok(None);
            }
            Next::Message { consumed, message } => {
                self.taken += consumed;
                tally.message(message.refused);
                message
            }
        };
        if message.reports.is_empty() {
            return Ok(None);
        }
        let time_ms = message.reports.iter().find_map(|report| report.fix.time());
        Ok(Some(Found {
            message,
            time_ms,
            received_ms: None,
            // The message that completed it may be the start of what comes next, so it is read again.
            offset,
        }))
    }

    /// Reads on in the file; `false` at its end.
    fn read(&mut self, tally: &Tally) -> io::Result<bool> {
        self.buffer.drain(..self.taken);
        self.offset += self.taken as u64;
        self.taken = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + READ_BYTES, 0);
        let offset = self.offset + kept as u64;
        let read = self.file.read_at(&mut self.buffer[kept..], offset);
        self.buffer.truncate(kept + *read.as_ref().unwrap_or(&0));
        let bytes = read?;
        tally.bytes(bytes);
        Ok(bytes > 0)
    }
}
