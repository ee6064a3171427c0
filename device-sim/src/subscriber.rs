//! Two subscribers that see what the runtime sends out: positions on its live stream, alarms at the broker. Both
//! connect again for ever; whoever wants them to end drops or aborts them.

mod alarms;
mod stream;

use std::time::{Duration, Instant};

use crate::report::Shown;

pub use alarms::{UrlError, alarms};
pub use stream::stream;

/// Pause before connecting again.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);

/// What a subscriber saw.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A position on the live stream.
    Track {
        /// Whose.
        device: String,
        /// UTC of the fix, milliseconds since 1970.
        time_ms: i64,
        /// Where, and how fast.
        shown: Shown,
        /// Updates of this vehicle that were skipped before it.
        conflated: u64,
        /// Part of the snapshot at the start of a connection, not news.
        snapshot: bool,
        /// When it was here.
        at: Instant,
    },
    /// An alarm message of the broker.
    Alarm {
        /// As published.
        payload: serde_json::Value,
        /// The broker's mark of a message that it sent before.
        duplicate_flag: bool,
        /// When it was here.
        at: Instant,
    },
    /// An alarm on the live stream.
    StreamAlarm {
        /// The member `alarm` of the message.
        alarm: serde_json::Value,
        /// When it was here.
        at: Instant,
    },
    /// A message that is not what is documented: a fault of the runtime.
    Unreadable {
        /// Its beginning, and what is wrong.
        what: String,
    },
    /// Messages come from here on: the stream is open, or the broker confirmed the subscription.
    Connected,
    /// The connection ended; what was sent in between may be missed on the stream, and comes later from the broker.
    Closed,
}
