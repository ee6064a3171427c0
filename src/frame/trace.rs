//! What crosses a ring to the observer: a frame's hop stamps, once it is known what came of it.

use serde::{Deserialize, Serialize};

use super::{AlarmKind, DeviceId, EventId, Phase};
use crate::hop::TraceHead;

/// What the owner of a frame tells the observer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TraceRecord {
    /// A track was pushed.
    Pushed {
        /// Stamps up to [`crate::hop::Hop::Done`].
        head: TraceHead,
        /// Whose.
        device: DeviceId,
        /// Name of the sensor.
        sensor: String,
    },
    /// An alarm is in the journal.
    Journalled {
        /// Stamps up to [`crate::hop::Hop::Done`].
        head: TraceHead,
        /// Whose.
        device: DeviceId,
        /// Name of the sensor.
        sensor: String,
        /// Which event.
        event: EventId,
        /// What.
        kind: AlarmKind,
        /// Raised or cleared.
        phase: Phase,
    },
    /// The broker confirmed an alarm, perhaps hours and a restart later: wall-clock times.
    Confirmed {
        /// The trace that it belongs to; stamps mean nothing after a reboot.
        head: TraceHead,
        /// Whose.
        device: DeviceId,
        /// Which event.
        event: EventId,
        /// Wall clock at the first publish of this session, nanoseconds since 1970.
        sent_unix_ns: u64,
        /// Wall clock at PUBACK, nanoseconds since 1970.
        confirmed_unix_ns: u64,
        /// Times that it was sent.
        attempts: u32,
    },
}
