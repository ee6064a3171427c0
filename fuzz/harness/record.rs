//! Records as the product writes them, and what it makes of a record.

use ringway::frame::{
    AlarmKind, Alarms, Attribute, AttributeKey, DeviceId, Event, EventId, Fix, Frame, FrameFlags,
    Origin, Phase, Severity, TraceRecord, Value,
};
use ringway::hop::TraceHead;
use ringway::table::PublicState;

/// A record as the product writes it, of each kind that crosses a ring.
pub fn encoded(which: u8) -> Vec<u8> {
    let device = DeviceId::new(b"13912345678").expect("digits");
    let fix = Fix {
        time_ms: 1_700_000_000_000,
        lat_e7: 481_234_567,
        lon_e7: 111_234_567,
        ..Fix::default()
    };
    let event = Event {
        id: EventId([7; 16]),
        device,
        kind: AlarmKind::Overspeed,
        phase: Phase::Raise,
        severity: Severity::Warning,
        late: false,
        rule: "overspeed".into(),
        start_ms: fix.time_ms,
        fix,
        received_ms: fix.time_ms,
        sensor: "gate".into(),
        trace: TraceHead::default(),
        origin: Some(Origin {
            ring: 1,
            birth: 2,
            first_seq: 3,
            answer_index: 4,
        }),
    };
    let mut bytes = vec![0; 480];
    let length = match which % 4 {
        0 => {
            let frame = Frame {
                trace: TraceHead::default(),
                device,
                fix,
                held: Alarms(1),
                momentary: Alarms(2),
                flags: FrameFlags(FrameFlags::AWAITS_ANSWER),
                answer_index: 3,
                message_first_seq: 42,
                received_ms: fix.time_ms,
                digest: 5,
                attributes: vec![
                    Attribute::new(AttributeKey::OdometerM, Value::Int(1234)),
                    Attribute::named("vendor", Value::Bool(true)),
                ],
            };
            frame.encode(&mut bytes).expect("it fits").0
        }
        1 => event.encode(&mut bytes).expect("it fits"),
        2 => {
            let state = PublicState {
                device,
                sensor: "gate".into(),
                fix,
                received_ms: fix.time_ms,
                alarms: vec![event],
            };
            postcard::to_slice(&state, &mut bytes)
                .expect("it fits")
                .len()
        }
        _ => {
            let record = TraceRecord::Pushed {
                head: TraceHead::default(),
                device,
                sensor: "gate".into(),
            };
            postcard::to_slice(&record, &mut bytes)
                .expect("it fits")
                .len()
        }
    };
    bytes.truncate(length);
    bytes
}

/// All that the product may make of a record: none of it may panic.
pub fn decode_all(record: &[u8]) {
    if let Ok(frame) = Frame::decode(record) {
        let _ = frame.encode(&mut [0; 512]);
    }
    let _ = Event::decode(record);
    let _ = PublicState::decode(record);
    let _ = postcard::from_bytes::<TraceRecord>(record);
}
