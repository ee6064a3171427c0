//! Which counter a verdict belongs to.

use crate::frame::Phase;
use crate::stats::{ClassifierMetric as Metric, Stats};

use super::hygiene::Rejection;
use super::receiver::Change;
use super::state::Owed;
use super::verdict::Standing;

/// Counts an event that was found.
pub fn count_found(stats: &Stats<Metric>, event: &Owed) {
    stats.add(
        match event.phase {
            Phase::Raise => Metric::EventsRaised,
            Phase::Clear => Metric::EventsCleared,
        },
        1,
    );
    stats.add(Metric::EventsLate, u64::from(event.late));
    stats.add(Metric::EventsOwed, 1);
}

/// Counts that another receiver of a vehicle is used.
pub fn count_change(stats: &Stats<Metric>, change: Change) {
    let metric = match change {
        Change::Worse => Metric::FailOversWorse,
        Change::Better => Metric::FailOversBetter,
    };
    stats.add(metric, 1);
}

/// Counts a frame that moves nothing.
pub fn count_standing(stats: &Stats<Metric>, standing: Standing) {
    let metric = match standing {
        Standing::Newest => return,
        Standing::Late => Metric::RejectedLate,
        Standing::Repeated => Metric::RejectedDuplicate,
        Standing::Outranked => Metric::RejectedOutranked,
        Standing::Rejected(Rejection::Future) => Metric::RejectedFuture,
        Standing::Rejected(Rejection::OutOfRange) => Metric::RejectedOutOfRange,
        Standing::Rejected(Rejection::Jump) => Metric::RejectedJump,
        Standing::Rejected(
            Rejection::NoTime | Rejection::NoPosition | Rejection::Zero | Rejection::Invalid,
        ) => Metric::RejectedInvalid,
    };
    stats.add(metric, 1);
}
