//! The log of a feed: what a program says on standard error, read in small pieces and said in our log under the name of
//! its sensor.
//!
//! At most [`PIECE_BYTES`] are read each [`PIECE_EVERY_MS`]: a program that says more waits with its next word, as it
//! would for a slow terminal, and takes no time away from its data.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::log_lines::LogLines;

/// Token of the log in the epoll set of its feed.
pub const LOG: u64 = 2;

/// Bytes of one piece.
const PIECE_BYTES: usize = 4096;

/// Time from one piece to the next, ms.
const PIECE_EVERY_MS: u64 = 50;

/// Most pieces that are read at the end: as much as a pipe holds.
const LAST_PIECES_MAX: usize = 64 * 1024 / PIECE_BYTES;

/// One shot: an end that was met would wake for ever, and nothing is to wake before the next piece is due.
const READABLE: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLONESHOT);

/// The log of one feed.
pub struct FeedLog {
    sensor: String,
    pipe: File,
    lines: LogLines,
    /// When it is listened to again; none: it is now.
    due_ms: Option<u64>,
    ended: bool,
}

impl FeedLog {
    /// Takes it over.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(epoll: &Epoll, pipe: OwnedFd, sensor: &str) -> io::Result<FeedLog> {
        epoll.add(&pipe, EpollEvent::new(READABLE, LOG))?;
        Ok(FeedLog {
            sensor: sensor.into(),
            pipe: pipe.into(),
            lines: LogLines::default(),
            due_ms: None,
            ended: false,
        })
    }

    /// Reads a piece if there is one (`readable`), and listens again when the next one is due.
    pub fn attend(&mut self, epoll: &Epoll, readable: bool, now_ms: u64) {
        if readable && !self.ended {
            self.ended = match self.read(now_ms) {
                Ok(bytes) => bytes == 0,
                Err(error) => {
                    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
                }
            };
            self.due_ms = (!self.ended).then_some(now_ms + PIECE_EVERY_MS);
        }
        if self.due_ms.is_some_and(|due| now_ms >= due) {
            self.due_ms = None;
            // What cannot be listened to any more is read when the feed ends.
            let _ = epoll.modify(&self.pipe, &mut EpollEvent::new(READABLE, LOG));
        }
        let sensor = &self.sensor;
        self.lines.tick(now_ms, &mut |line| say(sensor, line));
    }

    /// When [`FeedLog::attend`] has something to do.
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms.into_iter().chain(self.lines.due_ms()).min()
    }

    /// Reads what is still there and says it.
    pub fn finish(mut self, epoll: &Epoll, now_ms: u64) {
        for _ in 0..LAST_PIECES_MAX {
            if !self.read(now_ms).is_ok_and(|bytes| bytes > 0) {
                break;
            }
        }
        let sensor = &self.sensor;
        self.lines.end(&mut |line| say(sensor, line));
        // The supervisor has the same pipe open, so that dropping ours does not take it out of the set.
        let _ = epoll.delete(&self.pipe);
    }

    /// Reads one piece and says the lines that it ends; how long it was.
    fn read(&mut self, now_ms: u64) -> io::Result<usize> {
        let mut piece = [0; PIECE_BYTES];
        let bytes = self.pipe.read(&mut piece)?;
        let sensor = &self.sensor;
        let mut say = |line: &str| say(sensor, line);
        self.lines.put(&piece[..bytes], now_ms, &mut say);
        Ok(bytes)
    }
}

fn say(sensor: &str, line: &str) {
    tracing::info!(sensor, "program: {line}");
}
