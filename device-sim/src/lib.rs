//! A fleet of simulated trackers and a checker of what became of their reports.

pub mod alarm;
pub mod broker;
pub mod checker;
pub mod delivery;
pub mod device;
pub mod histogram;
pub mod jt808;
pub mod ledger;
pub mod random;
pub mod report;
pub mod roads;
pub mod scenario;
pub mod sink;
pub mod subscriber;
pub mod town;
pub mod truth;
pub mod vehicle;
