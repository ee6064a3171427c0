//! The operating system: shared memory, the control channel, clocks.

pub mod clock;
pub mod control;
pub mod region;
