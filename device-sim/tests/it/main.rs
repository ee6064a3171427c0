//! The simulator over real sockets and as a real process.

// The lint spares test functions only, not what they share.
#![allow(clippy::unwrap_used)]

mod crowd;
mod fleet;
mod program;
mod records;
mod server;

use std::time::Duration;

/// What a test waits for at most.
const DEADLINE: Duration = Duration::from_secs(60);
