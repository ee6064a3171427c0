//! The ring: one producer, one consumer, in shared memory that the supervisor owns.

use serde::{Deserialize, Serialize};

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
