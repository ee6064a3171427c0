//! The ring: one producer, one consumer, in shared memory that the supervisor owns.
//!
//! Slots of a fixed size hold one record each; storing the tail commits all that was written before it, so a producer
//! killed at any instant leaves either nothing or whole frames. Three regions, each with one writer: the S-page
//! (supervisor), the P-region (producer), the C-region (consumer). Either side resumes where its predecessor stopped.
//! Full is an answer, never a wait. What a producer wrote is copied out once and then checked; a producer that breaks
//! the rules is a [`Violation`], after which its ring is not read any more.
//!
//! What the records mean, and what to do when the ring is full, is left to the roles.

mod consumer;
mod doorbell;
mod layout;
mod owner;
mod producer;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::sys::region::ReadRegion;

pub use consumer::Consumer;
pub use doorbell::{BACKSTOP, COALESCE, Seat, Waiter, Woken};
pub use layout::{
    ANSWERS_MAX, AnswerWord, Outcome, SLOT_HEADER_BYTES, SLOTS_MAX, STRIDE_BYTES_MAX,
};
pub use owner::{RingOwner, Snapshot};
pub use producer::{Full, Producer};

/// Size of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Slots, a power of two.
    pub slots: u32,
    /// Bytes from slot to slot, a multiple of 64.
    pub stride: u32,
    /// Words of the answer table; 0: none.
    pub answers: u32,
}

/// Which ring this is, as the S-page and the assignment state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Number of the ring.
    pub ring: u32,
    /// Birth of the ring: no two rings of a node ever have the same.
    pub birth: u64,
    /// Its size.
    pub geometry: Geometry,
}

/// How a producer broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The tail is further from the head than the ring is long, or went back.
    #[error("tail {tail} is impossible with head {head} and last tail {last}")]
    Tail {
        /// What it says now.
        tail: u64,
        /// The consumer's head.
        head: u64,
        /// What it said last.
        last: u64,
    },
    /// A slot carries another sequence than its place.
    #[error("slot of sequence {seq} carries another sequence")]
    Sequence {
        /// The sequence looked for.
        seq: u64,
    },
    /// A slot's generation is lower than its predecessor's or was never given out.
    #[error("slot of sequence {seq} has an impossible generation")]
    Generation {
        /// Its sequence.
        seq: u64,
    },
    /// A record is longer than a slot.
    #[error("slot of sequence {seq} states an impossible length")]
    Length {
        /// Its sequence.
        seq: u64,
    },
    /// The checksum does not match.
    #[error("slot of sequence {seq} does not match its checksum")]
    Checksum {
        /// Its sequence.
        seq: u64,
    },
}

/// Why a ring cannot be made or attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A region or bell cannot be used.
    #[error("cannot use shared memory of ring: {0}")]
    Region(#[from] io::Error),
    /// The S-page has another layout.
    #[error("cannot attach to ring: its layout is unknown")]
    Layout,
    /// No ring can have this size, or the regions do not have it.
    #[error("cannot attach to ring: geometry {0:?} is not that of its regions")]
    Geometry(Geometry),
    /// It is another ring than the assignment says.
    #[error("cannot attach to ring: it is {found:?}, assigned is {assigned:?}")]
    Other {
        /// What the S-page says.
        found: Identity,
        /// What the assignment says.
        assigned: Identity,
    },
    /// Head and tail contradict each other.
    #[error("cannot resume ring: tail {tail} is impossible with head {head}")]
    Positions {
        /// The consumer's position.
        head: u64,
        /// The producer's position.
        tail: u64,
    },
}

/// Descriptors of one ring, with the access that one side has. The order of the fields is the order on the control
/// channel.
#[derive(Debug)]
pub struct RingFds {
    /// S-page, read-only.
    pub supervisor_page: OwnedFd,
    /// P-region, writable for the producer only.
    pub producer_region: OwnedFd,
    /// C-region, writable for the consumer only.
    pub consumer_region: OwnedFd,
    /// Wakes the consumer.
    pub consumer_bell: OwnedFd,
    /// Wakes the producer.
    pub producer_bell: OwnedFd,
}

impl RingFds {
    /// Descriptors of a ring.
    pub const COUNT: usize = 5;

    /// Takes the next five of `fds`; `None` if there are fewer.
    pub fn take(fds: &mut impl Iterator<Item = OwnedFd>) -> Option<RingFds> {
        Some(RingFds {
            supervisor_page: fds.next()?,
            producer_region: fds.next()?,
            consumer_region: fds.next()?,
            consumer_bell: fds.next()?,
            producer_bell: fds.next()?,
        })
    }

    /// The descriptors in the order in which they are sent.
    pub fn as_fds(&self) -> [BorrowedFd<'_>; Self::COUNT] {
        [
            self.supervisor_page.as_fd(),
            self.producer_region.as_fd(),
            self.consumer_region.as_fd(),
            self.consumer_bell.as_fd(),
            self.producer_bell.as_fd(),
        ]
    }
}

/// The S-page as either side sees it.
struct Page {
    region: ReadRegion,
    identity: Identity,
}

impl Page {
    /// Reads ring and geometry once; from then on the private copy counts.
    fn attach(fds: &RingFds) -> Result<Page, AttachError> {
        use layout::supervisor_page as s;
        let region = ReadRegion::map(fds.supervisor_page.as_fd(), s::BYTES)?;
        let word = |word| region.load(word, Ordering::Relaxed);
        if word(s::MAGIC) != layout::MAGIC {
            return Err(AttachError::Layout);
        }
        let narrow = |value| u32::try_from(value).unwrap_or(0);
        let geometry = Geometry {
            slots: narrow(word(s::SLOTS)),
            stride: narrow(word(s::STRIDE)),
            answers: narrow(word(s::ANSWERS)),
        };
        let identity = Identity {
            ring: narrow(word(s::RING)),
            birth: word(s::BIRTH),
            geometry,
        };
        if !geometry.is_possible() {
            return Err(AttachError::Geometry(geometry));
        }
        Ok(Page { region, identity })
    }

    /// Checks that the regions are as long as the geometry says, no more and no less.
    fn check_sizes(&self, producer_bytes: usize, consumer_bytes: usize) -> Result<(), AttachError> {
        let geometry = self.identity.geometry;
        let same = producer_bytes == geometry.producer_bytes()
            && consumer_bytes == geometry.consumer_bytes();
        same.then_some(()).ok_or(AttachError::Geometry(geometry))
    }

    fn check_identity(&self, assigned: &Identity) -> Result<(), AttachError> {
        if self.identity == *assigned {
            return Ok(());
        }
        Err(AttachError::Other {
            found: self.identity,
            assigned: *assigned,
        })
    }

    /// The newest generation given out. Acquire, with the supervisor's release store, though a slot of that generation
    /// can only be seen after it anyway: its producer was started later and committed by its own release store.
    fn generation(&self) -> u64 {
        self.region
            .load(layout::supervisor_page::GENERATION, Ordering::Acquire)
    }

    fn closed(&self) -> bool {
        self.region
            .load(layout::supervisor_page::CLOSED, Ordering::Acquire)
            != 0
    }
}

/// Rings a bell. One that is saturated says `EAGAIN`; its listener has the backstop, and nobody else is concerned.
fn ring_bell(bell: &OwnedFd) {
    let _ = nix::unistd::write(bell, &1u64.to_ne_bytes());
}
