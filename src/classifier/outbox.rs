//! Records about to be published, one after the other in memory that is kept.

use crate::frame::{Event, Frame, SensorChange, record_kind};
use crate::hop::TRACE_HEAD_BYTES;

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
        self.bytes.push(record_kind::TRACK);
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

    /// Adds the sensor of a vehicle's tracks. A slot has room for the longest name, so it always fits.
    pub fn push_sensor(&mut self, change: &SensorChange) {
        self.bytes.push(record_kind::SENSOR);
        let bytes = postcard::to_stdvec(change).expect("memory takes what has a length");
        self.bytes.extend_from_slice(&bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::testing::report;
    use crate::frame::{Attribute, FRAME_BYTES_MAX, FrameFlags, Value};
    use crate::hop::Hop;

    #[test]
    fn a_track_has_the_stamps_of_now_and_all_else_as_it_came() {
        let mut frame = report("1", 1_000);
        let mut bytes = [0; FRAME_BYTES_MAX];
        let (used, _) = frame.encode(&mut bytes).unwrap();
        frame.trace.stamp(Hop::Classified, 5_000);
        let mut outbox = Outbox::default();
        outbox.push_track(&bytes[..used], &frame, FRAME_BYTES_MAX);
        let records = outbox.records();
        assert_eq!(records[0][0], record_kind::TRACK);
        assert_eq!(Frame::decode(&records[0][1..]).unwrap(), frame);
    }

    #[test]
    fn a_frame_that_fills_its_slot_loses_an_attribute_to_the_byte_of_its_kind() {
        let mut frame = report("1", 1_000);
        let text = |bytes: usize| Attribute::named("n", Value::Text("x".repeat(bytes)));
        frame.attributes = vec![text(100), text(100)];
        let mut bytes = [0; FRAME_BYTES_MAX];
        let (used, _) = frame.encode(&mut bytes).unwrap();
        let mut outbox = Outbox::default();
        outbox.push_track(&bytes[..used], &frame, used);
        let track = Frame::decode(&outbox.records()[0][1..]).unwrap();
        assert!(track.flags.has(FrameFlags::CUT));
        assert_eq!(track.attributes, frame.attributes[..1]);
    }

    #[test]
    fn an_event_that_does_not_fit_adds_nothing() {
        let frame = report("1", 1_000);
        let mut state = crate::classifier::state::DeviceState::new(frame.device);
        let rules = crate::classifier::testing::rule_set();
        let frame = crate::classifier::testing::report_at("1", 1_000, 1_000.0, 0);
        let verdict = crate::classifier::testing::classify(&state, &frame, &rules);
        state.apply(&frame, "gate", &verdict);
        let event = state.memory.owed[0].event(frame.device, None);
        let mut outbox = Outbox::default();
        assert!(outbox.push_event(&event, 480, Some(record_kind::ALARM)));
        assert!(!outbox.push_event(&event, 40, None));
        let records = outbox.records();
        assert_eq!(records.len(), 1);
        assert_eq!(Event::decode(&records[0][1..]).unwrap(), event);
    }
}
