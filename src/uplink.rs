//! The uplink process: alarms through a durable journal to the broker.
//!
//! The alarm ring's records go into the `journal`, whose commit is what makes an alarm safe; the `publisher` decides
//! what the broker hears and when; `mqtt` carries it there under the names of `topics`. A confirmed alarm is deleted
//! with the next commit. Nothing here waits for a broker before it accepts, and nothing is deleted that the broker did
//! not confirm.

mod delivery;
mod intake;
mod journal;
mod mqtt;
mod process;
mod publisher;
mod restore;
mod service;
mod topics;
mod writer;

pub use process::{UplinkError, run};
