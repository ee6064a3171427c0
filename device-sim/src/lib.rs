//! A fleet of simulated trackers and a checker of what became of their reports.
//!
//! On [`roads`] (a generated [`town`] or a real one) each [`vehicle`] drives as the [`scenario`] has it; a [`device`]
//! of the [`crew`] sends its [`report`]s by the [`schedule`] in its [`dialect`]: [`jt808`], [`teltonika`], [`gt06`],
//! [`h02`], [`osmand`] or [`nmea`]. The [`fleet`] runs them all. The [`ledger`] notes what was sent and answered and
//! what the [`subscriber`]s saw; [`truth`] says which alarms that means, and the [`checker`] judges. Beside them stand
//! a [`broker`] that can misbehave, a [`crowd`] of connections that are no good devices, [`tls`] for those that are, a
//! [`sink`] for traces and the [`replay`] of recorded logs. Nothing here is shared with the runtime: neither encoders nor
//! geometry nor rules.

pub mod alarm;
pub mod broker;
mod calendar;
pub mod checker;
pub mod cli;
pub mod crew;
pub mod crowd;
pub mod delivery;
pub mod descriptors;
pub mod device;
pub mod dialect;
mod duration;
pub mod fleet;
pub mod gt06;
pub mod h02;
pub mod histogram;
pub mod jt808;
pub mod ledger;
mod link;
pub mod nmea;
pub mod osmand;
pub mod random;
pub mod replay;
pub mod report;
pub mod roads;
pub mod scenario;
pub mod schedule;
pub mod sink;
pub mod subscriber;
pub mod teltonika;
pub mod tls;
pub mod town;
pub mod truth;
mod unit;
pub mod vehicle;
