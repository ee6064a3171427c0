//! What the core of a ring stands on: memory that two processes share, bells, fences.
//!
//! The core (producer, consumer, owner and what they share) names nothing of the operating system but by this file. A
//! model checker builds the very same files on another `sync`, in which words, bells and fences are its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

pub(super) use super::attach::Descriptors;
pub(super) use crate::sys::region::{REGION_BYTES_MAX, ReadRegion, WriteRegion};
use crate::sys::steps::step;

/// What wakes one side of a ring: an eventfd for who rings, an epoll set of all of these for that side.
pub(super) struct Bell(OwnedFd);

impl Bell {
    /// Rings. A bell that is saturated says `EAGAIN`; its listener has the backstop, and nobody else is concerned.
    pub fn ring(&self) {
        step();
        let _ = nix::unistd::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl From<OwnedFd> for Bell {
    fn from(fd: OwnedFd) -> Bell {
        Bell(fd)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
