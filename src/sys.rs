//! The operating system: shared memory, the control channel, clocks.
