//! A fleet of simulated trackers and a checker of what became of their reports.

pub mod broker;
pub mod sink;
pub mod subscriber;
