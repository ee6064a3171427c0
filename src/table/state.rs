//! What a slot holds: a public part for every reader and a private one that only the classifier understands.

use serde::{Deserialize, Serialize};

use super::{PAYLOAD_BYTES_MAX, TableError};
use crate::frame::{DeviceId, Event, Fix};

/// What dispatcher and uplink may know of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublicState {
    /// Whose state it is.
    pub device: DeviceId,
    /// Name of the sensor that it last came in by.
    pub sensor: String,
    /// The newest fix.
    pub fix: Fix,
    /// Wall clock at its reception, milliseconds since 1970.
    pub received_ms: i64,
    /// Alarms that are open: the events that raised them. Trace and origin may have been left out to save room.
    pub alarms: Vec<Event>,
}

impl PublicState {
    /// Reads the public part at the front of a slot's payload.
    ///
    /// `None` for anything that no classifier writes: it may be another version's, or damaged before it was summed.
    pub fn decode(payload: &[u8]) -> Option<PublicState> {
        let (state, _private) = postcard::take_from_bytes::<PublicState>(payload).ok()?;
        let in_range =
            state.fix.in_range() && state.alarms.iter().all(|event| event.fix.in_range());
        in_range.then_some(state)
    }
}

/// All of a slot's payload. The public part comes first, so that a reader can take it alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// For every reader.
    pub public: PublicState,
    /// The classifier's own.
    pub private: Vec<u8>,
}

impl DeviceState {
    /// Writes the state to `out` and returns its length.
    ///
    /// # Errors
    /// `Large` when it has more than [`PAYLOAD_BYTES_MAX`] bytes.
    pub fn encode(&self, out: &mut [u8; PAYLOAD_BYTES_MAX]) -> Result<usize, TableError> {
        postcard::to_slice(self, out)
            .map(|used| used.len())
            .map_err(|_| TableError::Large)
    }

    /// Reads all of a payload; `None` for anything that [`DeviceState::encode`] did not write.
    pub fn decode(payload: &[u8]) -> Option<DeviceState> {
        postcard::from_bytes(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{AlarmKind, EventId, Phase, Severity};
    use crate::hop::TraceHead;

    fn state() -> DeviceState {
        let device = DeviceId::new(b"13912345678").unwrap();
        let fix = Fix {
            time_ms: 1_700_000_000_000,
            lat_e7: 481_234_567,
            lon_e7: -111_234_567,
            ..Fix::default()
        };
        DeviceState {
            public: PublicState {
                device,
                sensor: "gate".into(),
                fix,
                received_ms: 1_700_000_000_500,
                alarms: vec![Event {
                    id: EventId([7; 16]),
                    device,
                    kind: AlarmKind::Overspeed,
                    phase: Phase::Raise,
                    severity: Severity::Warning,
                    late: false,
                    rule: "overspeed".into(),
                    start_ms: 1_700_000_000_000,
                    fix,
                    received_ms: 1_700_000_000_500,
                    sensor: "gate".into(),
                    trace: TraceHead::default(),
                    origin: None,
                }],
            },
            private: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_state_reads_back_and_its_public_part_alone() {
        let mut bytes = [0; PAYLOAD_BYTES_MAX];
        let length = state().encode(&mut bytes).unwrap();
        assert_eq!(DeviceState::decode(&bytes[..length]), Some(state()));
        assert_eq!(PublicState::decode(&bytes[..length]), Some(state().public));
    }

    #[test]
    fn a_state_with_six_open_alarms_leaves_room_for_a_private_part() {
        let mut full = state();
        full.public.alarms = vec![full.public.alarms[0].clone(); 6];
        full.private = vec![0; 256];
        assert!(full.encode(&mut [0; PAYLOAD_BYTES_MAX]).is_ok());
    }

    #[test]
    fn a_state_that_does_not_fit_is_an_error() {
        let mut large = state();
        large.private = vec![0; PAYLOAD_BYTES_MAX];
        let refused = large.encode(&mut [0; PAYLOAD_BYTES_MAX]);
        assert!(matches!(refused, Err(TableError::Large)));
    }

    #[test]
    fn a_fix_out_of_range_is_no_state() {
        let mut wrong = state();
        wrong.public.alarms[0].fix.lat_e7 = 900_000_001;
        let mut bytes = [0; PAYLOAD_BYTES_MAX];
        let length = wrong.encode(&mut bytes).unwrap();
        assert_eq!(PublicState::decode(&bytes[..length]), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1000)) {
            let _ = PublicState::decode(&bytes);
            let _ = DeviceState::decode(&bytes);
        }
    }
}
