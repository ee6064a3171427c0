//! The classifier process: judges frames, keeps the device states, raises and clears alarms.
//!
//! The judging is pure ([`verdict`] over [`hygiene`], [`alarm`], [`rule`] and [`fence`], on a [`state`]); [`custody`]
//! knows which message waits for what.

mod alarm;
mod custody;
mod fence;
mod hygiene;
mod place;
mod rule;
mod state;
#[cfg(test)]
mod testing;
mod verdict;
