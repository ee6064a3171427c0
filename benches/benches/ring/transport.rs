//! What every transport looks like to the measurement: two ends that move frames of one size.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Slots of every transport that has slots.
pub const SLOTS: usize = 1024;

/// Most frames that a writer has at hand, or a reader takes, at a time.
pub const BATCH_FRAMES: usize = 256;

/// How an end waits when there is no room or no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Not at all: it says so and is asked again, on a core of its own.
    Poll,
    /// In the kernel, until the other end wakes it.
    Sleep,
}

/// The end that writes.
pub trait Writer {
    /// Writes as many of `frames`, which lie one after the other, as there is room for, and returns how many. When it
    /// sleeps, at least one; when it polls, perhaps none.
    ///
    /// # Errors
    /// What the kernel says.
    fn send(&mut self, frames: &[u8]) -> io::Result<usize>;
}

/// The end that reads.
pub trait Reader {
    /// Takes at most `most` frames and shows each to `each`. Returns how many: when it sleeps, at least one; when it
    /// polls, perhaps none.
    ///
    /// # Errors
    /// What the kernel says; `UnexpectedEof` when the writer is gone.
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize>;
}

/// One direction between two processes, as the process that starts both makes it.
#[derive(Default)]
pub struct Channel {
    /// Descriptors that the writer inherits.
    pub writer: Vec<OwnedFd>,
    /// Descriptors that the reader inherits.
    pub reader: Vec<OwnedFd>,
    /// What both are told beside.
    pub text: String,
    /// What has to outlive the two processes, and is cleaned up after them.
    pub keep: Option<Box<dyn std::any::Any>>,
}

/// An end as a child process gets it.
pub struct End {
    /// Inherited descriptors.
    pub fds: Vec<OwnedFd>,
    /// What it was told.
    pub text: String,
    /// Bytes of a frame.
    pub size: usize,
    /// How it waits.
    pub mode: Mode,
}

impl End {
    /// The descriptor that is the only one.
    ///
    /// # Errors
    /// When there is none.
    pub fn only_fd(self) -> io::Result<OwnedFd> {
        let mut fds = self.fds.into_iter();
        fds.next()
            .ok_or_else(|| io::Error::other("the end has no descriptor"))
    }
}

/// A transport: how a channel is made, and how each side opens its end.
pub trait Transport {
    /// Its writing end.
    type Writer: Writer;
    /// Its reading end.
    type Reader: Reader;

    /// Makes a channel for frames of `size` bytes; files go into `folder`.
    ///
    /// # Errors
    /// What the kernel says.
    fn create(folder: &Path, size: usize) -> io::Result<Channel>;

    /// Opens the writing end in the child.
    ///
    /// # Errors
    /// What the kernel says.
    fn writer(end: End) -> io::Result<Self::Writer>;

    /// Opens the reading end in the child.
    ///
    /// # Errors
    /// What the kernel says.
    fn reader(end: End) -> io::Result<Self::Reader>;
}
