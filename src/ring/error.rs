//! How a ring can be wrong: a producer that broke the rules, a ring that cannot be used.

use std::io;

use super::layout::{Geometry, Identity};

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
    /// The consumer's head is further on than any position.
    #[error("cannot resume ring: head {head} is no position")]
    Head {
        /// The consumer's position, as it says.
        head: u64,
    },
    /// Head and tail contradict each other; which of them is wrong cannot be told.
    #[error("cannot resume ring: head {head} and tail {tail} contradict each other")]
    Positions {
        /// The consumer's position.
        head: u64,
        /// The producer's position.
        tail: u64,
    },
}
