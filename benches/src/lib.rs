//! What Ringway costs and how fast it is, measured beside peers in the same run.
//!
//! A `case` is one peer under one load: `wire` says what its devices send, `schedule` when, `fleet` sends it and reads
//! the answers, `control` shows what a bare timer does at the same instants, `receiver` is the subscriber at the other
//! end, `peer` the processes measured and `usage` what they use. `flood` sends as much as goes. `figure` makes
//! medians of it and `report` a table and JSON.

pub mod case;
pub mod chart;
pub mod clock;
pub mod control;
pub mod epoll;
pub mod figure;
pub mod fleet;
pub mod flood;
pub mod peer;
pub mod receiver;
pub mod report;
pub mod schedule;
pub mod usage;
pub mod wire;
