//! Records about to be published, one after the other in memory that is kept.

use crate::frame::{Event, Frame};
use crate::hop::TRACE_HEAD_BYTES;

/// First byte of a record to the dispatcher: a [`Frame`] follows.
pub const TRACK: u8 = 0;

/// First byte of a record to the dispatcher: an [`Event`] follows.
pub const ALARM: u8 = 1;

/// Records.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds a track: the frame's bytes as they came, under the trace head that it has now. Where the byte of its kind
    /// makes it longer than `bytes_max`, attributes fall away.
    pub fn push_track(&mut self, bytes: &[u8], frame: &Frame, bytes_max: usize) {
        let start = self.bytes.len();
        self.bytes.push(TRACK);
        if bytes.len() < bytes_max {
            self.bytes.extend_from_slice(&frame.trace.encode());
            self.bytes.extend_from_slice(&bytes[TRACE_HEAD_BYTES..]);
        } else {
            self.bytes.resize(start + bytes_max, 0);
            let (used, _cut) = frame
                .encode(&mut self.bytes[start + 1..])
                .expect("a slot holds a frame without attributes");
            self.bytes.truncate(start + 1 + used);
        }
        self.ends.push(self.bytes.len());
    }

    /// Adds an event behind the byte of its kind, if it is to have one; `false` when it is longer than `bytes_max`.
    pub fn push_event(&mut self, event: &Event, bytes_max: usize, kind: Option<u8>) -> bool {
        let start = self.bytes.len();
        self.bytes.extend(kind);
        let body = self.bytes.len();
        self.bytes.resize(start + bytes_max, 0);
        match event.encode(&mut self.bytes[body..]) {
            Ok(used) => {
                self.bytes.truncate(body + used);
                self.ends.push(self.bytes.len());
                true
            }
            Err(_) => {
                self.bytes.truncate(start);
                false
            }
        }
    }

    /// The records, in the order in which they were added.
    pub fn records(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let spans = starts.zip(&self.ends);
        spans.map(|(start, &end)| &self.bytes[start..end]).collect()
    }
}
