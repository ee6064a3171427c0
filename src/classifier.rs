//! The classifier process: judges frames, keeps the device states, raises and clears alarms.
//!
//! The judging is pure: `receiver` says whose position counts, then `verdict` over `hygiene`, `alarm`, `rule` and
//! `fence`, on a `state`; `custody` knows which message waits for what. `pipeline` passes batches from ring to ring in the order that lets this process die at any
//! instant; `process` waits.

mod alarm;
mod batch;
mod custody;
mod fence;
mod fleet;
mod gap;
mod hygiene;
mod outbox;
mod pipeline;
mod place;
mod process;
mod receiver;
mod rule;
mod sensor;
mod state;
mod tally;
#[cfg(test)]
mod testing;
mod verdict;

pub use process::{ClassifierError, Setup, run, serve};
