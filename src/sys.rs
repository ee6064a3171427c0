//! The operating system: shared memory, the control channel, clocks, log lines, and how a child comes to life.

mod checksum;
pub mod clock;
pub mod control;
pub mod log;
pub mod region;
pub mod start;
pub mod steps;
