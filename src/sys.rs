//! The operating system: shared memory, the control channel, clocks, log lines, how a child comes to life, and, in debug
//! builds, where a test has it die.

mod checksum;
pub mod clock;
pub mod control;
pub mod fail;
pub mod log;
pub mod region;
pub mod start;
pub mod steps;
