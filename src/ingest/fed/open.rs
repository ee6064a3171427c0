//! The feed that is open: read when there is room, its answers written as far as they are taken.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::answers::Answers;
use super::patience::{Origin, Patience};
use crate::ingest::session::Session;
use crate::ingest::silence::Mark;
use crate::role::{self, FeedEnd};

/// Token of its input.
pub const INPUT: u64 = 0;

/// Token of its answers.
const ANSWERS: u64 = 1;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// So many bytes.
    Bytes(usize),
    /// None now.
    Nothing,
    /// No more will come.
    End(FeedEnd),
}

/// The feed that is open.
pub struct Open {
    /// Which.
    pub number: u64,
    /// What its bytes mean, and the start of a message that is not complete.
    pub session: Session,
    /// How long it is borne with.
    pub patience: Patience,
    /// Where its answers go, if anywhere.
    pub answers: Option<Answers>,
    /// Messages published whose outcome is not known.
    pub awaiting: u32,
    /// Not read until the outcomes of some of them are known.
    pub paused: bool,
    /// Whole messages may be among the bytes that are kept.
    pub resumable: bool,
    /// That its silence is watched, which ends its epoch.
    pub silence: Option<Mark>,
    /// Nothing more is read from it, and why; it is closed once all is said.
    pub ended: Option<FeedEnd>,
    input: File,
    /// In the epoll set.
    input_watched: bool,
    answers_watched: bool,
}

impl Open {
    /// A feed that was just handed over.
    pub fn new(feed: role::Feed, session: Session, origin: Origin, now_ms: u64) -> Open {
        Open {
            number: feed.number,
            session,
            patience: Patience::new(origin, now_ms),
            answers: feed.answers.map(|to| Answers::new(to.into())),
            awaiting: 0,
            paused: false,
            resumable: false,
            silence: None,
            ended: None,
            input: feed.input.into(),
            input_watched: false,
            answers_watched: false,
        }
    }

    /// Whether more of its bytes may be taken now.
    pub fn readable(&self) -> bool {
        self.ended.is_none() && !self.paused
    }

    /// Whether somebody gets answers that do not say what they answer: one at a time.
    pub fn in_order(&self) -> bool {
        self.answers.is_some() && self.session.answers_in_order()
    }

    /// Reads what it has, into `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Got {
        match self.input.read(buffer) {
            // Of a pipe: no writer is left. Of a line: it was unplugged.
            Ok(0) => Got::End(FeedEnd::Closed),
            Ok(bytes) => Got::Bytes(bytes),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Got::Nothing,
                _ => Got::End(FeedEnd::Broken),
            },
        }
    }

    /// Waits for what there is to wait for. A pipe without writers is reported whatever is asked of it, so that what is
    /// not to be read leaves the set.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch(&mut self, epoll: &Epoll) -> io::Result<()> {
        let readable = self.readable();
        if self.input_watched != readable {
            self.input_watched = readable;
            watch(epoll, &self.input, readable, EpollFlags::EPOLLIN, INPUT)?;
        }
        if let Some(answers) = &self.answers {
            let blocked = answers.unsent() > 0;
            if self.answers_watched != blocked {
                self.answers_watched = blocked;
                let writable = EpollFlags::EPOLLOUT;
                watch(epoll, answers.file(), blocked, writable, ANSWERS)?;
            }
        }
        Ok(())
    }

    /// Takes it out of the set: the supervisor has the same files open, so that dropping ours does not.
    pub fn forget(&mut self, epoll: &Epoll) {
        (self.input_watched, self.answers_watched) = (false, false);
        // What was never in it is no trouble.
        let _ = epoll.delete(&self.input);
        if let Some(answers) = &self.answers {
            let _ = epoll.delete(answers.file());
        }
    }
}

fn watch(epoll: &Epoll, what: impl AsFd, on: bool, of: EpollFlags, token: u64) -> io::Result<()> {
    let changed = match on {
        true => epoll.add(what, EpollEvent::new(of, token)),
        false => epoll.delete(what),
    };
    match changed {
        // It can be read and written at any time, as a file can.
        Err(Errno::EPERM) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
