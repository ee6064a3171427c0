//! What the classifier makes of frames: an alarm raised or cleared, with an identity that survives every repeat.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AlarmKind, DeviceId, Fix, FrameError, Severity};
use crate::hop::TraceHead;

/// The rule of what a device reports itself.
pub const DEVICE_RULE: &str = "device";

/// Identity of an event: the first 128 bits of a SHA-256 over device, rule, start and phase. The same event found
/// twice, before and after a crash or from a resent message, has the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// Derives the id. `start` is the time of the first fix that met the condition for what rules find and for held
    /// bits, else the digest of the report.
    pub fn derive(device: &DeviceId, rule: &str, start: u64, phase: Phase) -> EventId {
        let mut hash = Sha256::new();
        hash.update(device.encode());
        hash.update((rule.len() as u64).to_le_bytes());
        hash.update(rule.as_bytes());
        hash.update(start.to_le_bytes());
        hash.update([phase as u8]);
        let digest = hash.finalize();
        EventId(*digest.first_chunk().expect("a SHA-256 has 32 bytes"))
    }

    /// The id of an alarm's raise or clear. The kind is part of it because one rule, such as the device itself, may find
    /// several kinds at one time. `start` as in [`EventId::derive`]: an alarm whose id follows from its start lasts
    /// until it is cleared, one whose id follows from a digest is momentary.
    pub fn of_alarm(
        device: &DeviceId,
        kind: AlarmKind,
        rule: &str,
        start: u64,
        phase: Phase,
    ) -> EventId {
        EventId::derive(device, &format!("{}/{rule}", kind.name()), start, phase)
    }

    /// Reads 32 hex digits.
    pub fn parse(text: &str) -> Option<EventId> {
        let value = u128::from_str_radix(text, 16).ok()?;
        (text.len() == 32).then_some(EventId(value.to_be_bytes()))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an alarm is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Phase {
    /// It began.
    Raise = 0,
    /// It ended.
    Clear = 1,
}

/// The message that waits for this event to be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Number of the sensor's ring.
    pub ring: u32,
    /// Birth of that ring; an answer to another birth is void.
    pub birth: u64,
    /// Ring sequence of the message's first frame.
    pub first_seq: u64,
    /// Word of the ring's answer table.
    pub answer_index: u32,
}

/// An alarm raised or cleared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Identity.
    pub id: EventId,
    /// Whose.
    pub device: DeviceId,
    /// What.
    pub kind: AlarmKind,
    /// Raised or cleared.
    pub phase: Phase,
    /// How much it matters.
    pub severity: Severity,
    /// Found in stored or reordered fixes: true, but not news.
    pub late: bool,
    /// The rule that found it, or the fence's name; `device` for what the device itself reports.
    pub rule: String,
    /// UTC of the first fix that met the condition, milliseconds since 1970.
    pub start_ms: i64,
    /// The fix that decided.
    pub fix: Fix,
    /// Wall clock at reception of that fix, milliseconds since 1970.
    pub received_ms: i64,
    /// Name of the sensor that it came in by.
    pub sensor: String,
    /// Trace identity and the hop stamps so far.
    pub trace: TraceHead,
    /// The message that is answered when this is safe, if one waits.
    pub origin: Option<Origin>,
}

impl Event {
    /// Writes the event to `out` and returns its length.
    ///
    /// # Errors
    /// [`FrameError::Large`] when it does not fit.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, FrameError> {
        postcard::to_slice(self, out)
            .map(|used| used.len())
            .map_err(|_| FrameError::Large)
    }

    /// Reads what [`Event::encode`] wrote.
    ///
    /// # Errors
    /// [`FrameError::Tail`] for anything else, [`FrameError::Range`] for a fix out of range.
    pub fn decode(bytes: &[u8]) -> Result<Event, FrameError> {
        let event: Event = postcard::from_bytes(bytes).map_err(|_| FrameError::Tail)?;
        if event.fix.in_range() {
            Ok(event)
        } else {
            Err(FrameError::Range)
        }
    }
}
