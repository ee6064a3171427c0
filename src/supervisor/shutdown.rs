//! The order in which a node stops (pure): what takes in first, what shows last, each stage with a deadline.

use std::time::Duration;

use crate::role::Role;

/// One step: these roles are told to drain, and the next step begins when they have ended or the time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Who is told.
    pub told: &'static [Role],
    /// Who must have ended before the next stage.
    pub awaited: &'static [Role],
    /// After this long whoever is left is killed.
    pub grace: Duration,
}

/// What is taken in stops first; a stage ends when everything upstream of the next is written. The grace of a stage is
/// the child's own limit and half a second for the machine.
///
/// Streams are told with the ingests, so that a subscriber hears of it while the last positions still come.
pub const STAGES: [Stage; 4] = [
    Stage {
        told: &[Role::Ingest, Role::Dispatcher],
        awaited: &[Role::Ingest],
        grace: Duration::from_millis(2_500),
    },
    Stage {
        told: &[Role::Classifier],
        awaited: &[Role::Classifier],
        grace: Duration::from_millis(1_500),
    },
    Stage {
        told: &[Role::Uplink],
        awaited: &[Role::Uplink, Role::Dispatcher],
        grace: Duration::from_millis(4_500),
    },
    Stage {
        told: &[Role::Observer],
        awaited: &[Role::Observer],
        grace: Duration::from_millis(2_500),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_told_once_and_awaited_once() {
        for role in [
            Role::Ingest,
            Role::Classifier,
            Role::Dispatcher,
            Role::Uplink,
            Role::Observer,
        ] {
            let told = STAGES
                .iter()
                .flat_map(|s| s.told)
                .filter(|r| **r == role)
                .count();
            let awaited = STAGES
                .iter()
                .flat_map(|s| s.awaited)
                .filter(|r| **r == role)
                .count();
            assert_eq!((told, awaited), (1, 1), "{role:?}");
        }
    }

    #[test]
    fn nobody_is_awaited_before_it_is_told() {
        for (n, stage) in STAGES.iter().enumerate() {
            for role in stage.awaited {
                assert!(
                    STAGES[..=n].iter().any(|s| s.told.contains(role)),
                    "{role:?}"
                );
            }
        }
    }
}
