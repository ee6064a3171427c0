use super::*;
use crate::frame::{FixFields, rfc3339_ms};

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

fn session() -> Session {
    Session::new(&Settings::default())
}

fn read(text: &str) -> Message {
    session().decode(text.as_bytes(), NOW).unwrap()
}

#[test]
fn a_location_is_found_wherever_it_stands() {
    let message = read(
        "+RESP:GTFRI,1A0300,861234567890123,,0,0,1,2,36.0,90,12.5,10.500000,-20.250000,20260615095958,0262,0001,0a1B,00c2,,77,20260615100000,00A1$",
    );
    let fix = message.reports[0].fix;
    assert_eq!(fix.position_deg(), Some((-20.25, 10.5)));
    assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T09:59:58.000Z");
    assert_eq!(fix.speed_mps(), Some(10.0), "36 km/h");
    assert!(fix.fields.has(FixFields::VALID));
    assert_eq!(message.answer_when_safe, b"+SACK:00A1$");
    assert!(message.answer_now.is_empty());
}
