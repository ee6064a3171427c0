//! The ring: one producer, one consumer, in shared memory that the supervisor owns.
//!
//! Slots of a fixed size hold one record each; storing the tail commits all that was written before it, so a producer
//! killed at any instant leaves either nothing or whole frames. Three regions, each with one writer: the S-page
//! (supervisor), the P-region (producer), the C-region (consumer). Either side resumes where its predecessor stopped.
//! Full is an answer, never a wait. What a producer wrote is copied out once and then checked; a producer that breaks
//! the rules is a [`Violation`], after which its ring is not read any more.
//!
//! What the records mean, and what to do when the ring is full, is left to the roles.
//!
//! The core ([`Producer`], [`Consumer`], [`RingOwner`] and what they share) knows no system: `sync` gives it memory,
//! bells and fences, so that a model checker can give it others. `attach` makes a core out of descriptors, `doorbell` puts
//! a process to sleep.

mod answer;
mod attach;
mod consumer;
mod doorbell;
mod error;
mod layout;
mod nap;
mod owner;
mod page;
mod position;
mod producer;
mod spin;
mod sync;
#[cfg(test)]
mod tests;

pub use answer::{AnswerWord, Outcome};
pub use attach::RingFds;
pub use consumer::Consumer;
pub use doorbell::{BACKSTOP, COALESCE, Seat, Waiter, Woken};
pub use error::{AttachError, Violation};
pub use layout::{ANSWERS_MAX, Geometry, Identity, SLOT_HEADER_BYTES, SLOTS_MAX, STRIDE_BYTES_MAX};
pub use owner::{RingOwner, Snapshot};
pub use producer::{Full, Producer};

/// Frames since a ring was made: the sequence of one, or the place after the last.
type Position = u64;
