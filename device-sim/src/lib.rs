//! A fleet of simulated trackers and a checker of what became of their reports.

#[allow(missing_docs)]
pub mod random;
pub mod report;
pub mod roads;
pub mod town;
