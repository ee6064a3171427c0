//! The front of a slot's payload, which every reader knows. What follows it only the classifier understands.

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{AlarmKind, EventId, Phase, Severity};
    use crate::hop::TraceHead;

    fn state() -> PublicState {
        let device = DeviceId::new(b"13912345678").unwrap();
        let fix = Fix {
            time_ms: 1_700_000_000_000,
            lat_e7: 481_234_567,
            lon_e7: -111_234_567,
            ..Fix::default()
        };
        PublicState {
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
        }
    }

    #[test]
    fn a_public_part_reads_back_whatever_follows_it() {
        let mut bytes = postcard::to_stdvec(&state()).unwrap();
        bytes.extend([1, 2, 3]);
        assert_eq!(PublicState::decode(&bytes), Some(state()));
    }

    #[test]
    fn six_open_alarms_leave_room_for_a_private_part() {
        let mut full = state();
        full.alarms = vec![full.alarms[0].clone(); 6];
        let used = postcard::to_stdvec(&full).unwrap().len();
        assert!(used + 256 <= super::super::PAYLOAD_BYTES_MAX);
    }

    #[test]
    fn a_fix_out_of_range_is_no_state() {
        let mut wrong = state();
        wrong.alarms[0].fix.lat_e7 = 900_000_001;
        let bytes = postcard::to_stdvec(&wrong).unwrap();
        assert_eq!(PublicState::decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1000)) {
            let _ = PublicState::decode(&bytes);
        }
    }
}
