//! Fail points: places where a test has a role kill itself, so that what is left behind there is tried and not argued.
//!
//! A debug build asks at each point whether a file of the point's name lies in the folder that [`FOLDER_VARIABLE`]
//! names. The process that takes it, by renaming it, kills itself with SIGKILL at the n-th passing from then on, n being
//! the file's content (1 if that is no number); right before, it leaves `<name>.fired`. One shot: a successor finds no
//! file. In a build without debug assertions nothing of this exists: [`pass`] is empty, and the names are not in the
//! program.
//!
//! Not for the pure files: a point stands where something that others can see has just been done, or is about to be.

/// Environment variable that names the folder.
pub const FOLDER_VARIABLE: &str = "RINGWAY_FAIL_FOLDER";

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place to die at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// Every point, in the order in which an alarm meets them.
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            /// The name of its file.
            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A message is in the ring; its ingest has noted nothing of it and has not rung the bell.
    IngestCommitted = "ingest-committed",
    /// A round is over and the bell not rung.
    IngestBell = "ingest-bell",
    /// An outcome is known and its device not answered.
    IngestAnswer = "ingest-answer",
    /// Devices were answered.
    IngestAnswered = "ingest-answered",
    /// A batch is taken from its ring.
    ClassifierTaken = "classifier-taken",
    /// The batch is judged, and nobody can see it.
    ClassifierJudged = "classifier-judged",
    /// The alarms of a part of a message are out, and the rest of it is not judged.
    ClassifierRoom = "classifier-room",
    /// Alarms are out, tracks are not.
    ClassifierAlarms = "classifier-alarms",
    /// All outputs are committed.
    ClassifierOutputs = "classifier-outputs",
    /// What is refused is said.
    ClassifierRefused = "classifier-refused",
    /// The first state of a batch is switched.
    ClassifierSwitching = "classifier-switching",
    /// All states are.
    ClassifierSwitched = "classifier-switched",
    /// What is accepted is said.
    ClassifierAccepted = "classifier-accepted",
    /// The head has moved, and the bell is not rung.
    ClassifierHead = "classifier-head",
    /// A message is answered, and its event is still owed in the table.
    ClassifierOutcome = "classifier-outcome",
    /// The outcome is passed on, and its slot is still kept.
    ClassifierSettled = "classifier-settled",
    /// Slots of the alarm ring are given back, and the bell is not rung.
    ClassifierReleased = "classifier-released",
    /// Something owed is sent again.
    ClassifierOwed = "classifier-owed",
    /// The first state of a snapshot is in the table.
    ClassifierRestoring = "classifier-restoring",
    /// All of them are, and nobody has been told.
    ClassifierRestored = "classifier-restored",
    /// What a predecessor left on the alarm ring is known, and no outcome of it passed on.
    ClassifierResumed = "classifier-resumed",
    /// Records are read from the alarm ring.
    UplinkTaken = "uplink-taken",
    /// The journal has a batch and has not begun.
    UplinkBegin = "uplink-begin",
    /// The first record is in the transaction.
    UplinkInserted = "uplink-inserted",
    /// The transaction is complete and not committed.
    UplinkCommit = "uplink-commit",
    /// It is on disk, and nobody knows.
    UplinkCommitted = "uplink-committed",
    /// The first outcome of a batch is set.
    UplinkOutcome = "uplink-outcome",
    /// All outcomes are set, and the head has not moved.
    UplinkOutcomes = "uplink-outcomes",
    /// The head has moved, and the bell is not rung.
    UplinkHead = "uplink-head",
    /// The bell is rung, and the publisher knows nothing of the batch.
    UplinkBell = "uplink-bell",
    /// A confirmed record is deleted in the transaction.
    UplinkDeleting = "uplink-deleting",
    /// Deletes are on disk.
    UplinkDeleted = "uplink-deleted",
    /// A snapshot is about to be written.
    UplinkSnapshot = "uplink-snapshot",
    /// It is on disk.
    UplinkSnapshotted = "uplink-snapshotted",
    /// The end of the run is noted, and the process has not ended.
    UplinkEnded = "uplink-ended",
    /// The states of the last run are put together, and the supervisor has not got them.
    UplinkRestored = "uplink-restored",
    /// It has them.
    UplinkHandedBack = "uplink-handed-back",
    /// An open alarm is written again, and the transaction is not committed.
    UplinkRepeating = "uplink-repeating",
    /// Open alarms are on disk again.
    UplinkRepeated = "uplink-repeated",
}

/// Passes a point; does not return when a test wants this process dead here.
#[cfg(debug_assertions)]
pub fn pass(point: Point) {
    armed::pass(point);
}

/// Passes a point.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pass(_point: Point) {}

#[cfg(debug_assertions)]
mod armed {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::{FOLDER_VARIABLE, Point};

    /// Passings left until the end, by point; 0: not armed.
    static LEFT: [AtomicU32; Point::ALL.len()] = [const { AtomicU32::new(0) }; Point::ALL.len()];

    fn folder() -> Option<&'static PathBuf> {
        static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
        let folder = FOLDER.get_or_init(|| std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from));
        folder.as_ref()
    }

    pub(super) fn pass(point: Point) {
        let Some(folder) = folder() else { return };
        let left = &LEFT[point as usize];
        // A point is passed by one thread only, so that load and store need not be one step.
        let mut passings = left.load(Ordering::Relaxed);
        if passings == 0 {
            let armed = folder.join(point.name());
            let taken = folder.join(format!("{}.taken", point.name()));
            if std::fs::rename(&armed, &taken).is_err() {
                return;
            }
            let text = std::fs::read_to_string(taken).unwrap_or_default();
            passings = text.trim().parse().unwrap_or(1).max(1);
        }
        passings -= 1;
        left.store(passings, Ordering::Relaxed);
        if passings == 0 {
            // The test must not wait for ever if the folder is gone; what counts is that this process ends.
            let _ = std::fs::write(folder.join(format!("{}.fired", point.name())), "");
            let _ = kill(Pid::this(), Signal::SIGKILL);
            // The signal takes effect before the call returns; a process that lives on would prove nothing.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let mut names: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
