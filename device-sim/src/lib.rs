//! A fleet of simulated trackers and a checker of what became of their reports.

pub mod alarm;
pub mod device;
pub mod jt808;
pub mod random;
pub mod report;
pub mod roads;
pub mod town;
pub mod truth;
pub mod vehicle;
