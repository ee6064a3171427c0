use super::*;
use crate::frame::{Alarms, FixFields, Value, rfc3339_ms};
use crate::protocol::testing;

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

/// 490154203237518 as a number.
const IMEI: &str = "0001bdcaeb2b4c8e";

fn session() -> Session {
    Session::new(&Settings::default())
}

fn unhex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// A message around a command and its payload, with length and check.
fn wire(content: &str) -> Vec<u8> {
    let content = unhex(&format!("{IMEI} {content}"));
    let mut wire = (content.len() as u16).to_be_bytes().to_vec();
    wire.extend(&content);
    wire.extend(crc16_kermit(&content).to_be_bytes());
    wire
}

fn read(session: &mut Session, bytes: &[u8]) -> Vec<Result<Message, Reject>> {
    let mut results = Vec::new();
    let mut rest = bytes;
    loop {
        match session.split(rest) {
            Split::Message { range, consumed } => {
                results.push(session.decode(&rest[range], NOW));
                rest = &rest[consumed..];
            }
            Split::Rubbish { consumed, reason } => {
                results.push(Err(reason));
                rest = &rest[consumed..];
            }
            Split::Incomplete => return results,
        }
    }
}

fn read_one(content: &str) -> Message {
    let mut results = read(&mut session(), &wire(content));
    assert_eq!(results.len(), 1);
    results.remove(0).unwrap()
}

fn stated(report: &Report, name: &str) -> Option<Value> {
    let attribute = report.attributes.iter().find(|a| a.key.name() == name);
    attribute.map(|attribute| attribute.value.clone())
}

/// 2026-06-15 10:00:00, -58.45 E, -34.6 N, 25.5 m, 90 degrees, nine satellites, 36 km/h, HDOP 0.8.
const PLACE: &str = "dd293ce0 eb607580 00ff 2328 09 0024 08";
const TIME: &str = "6a2fcd20 00";

#[test]
fn a_record_is_read_field_by_field_and_answered_when_safe() {
    let lists = "03 05 01 1b 14 58 01 01 1d 30d4 01 41 00000d05 00";
    let message = read_one(&format!("01 00 01 {TIME} 00 {PLACE} 07 {lists}"));
    assert_eq!(message.device.unwrap().as_str(), "490154203237518");
    assert!(message.answer_now.is_empty());
    assert_eq!(message.answer_when_safe, unhex("0002640113bc"));
    let report = &message.reports[0];
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (-346_000_000, -584_500_000));
    assert_eq!((fix.altitude_mm, fix.speed_mm_s), (25_500, 10_000));
    assert_eq!((fix.course_cdeg, fix.satellites), (9000, 9));
    assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T10:00:00.000Z");
    assert!(fix.fields.has(FixFields::VALID));
    assert_eq!(report.held, AlarmKind::Jamming.into());
    assert_eq!(stated(report, "event"), Some(Value::Int(7)));
    assert_eq!(stated(report, "inputs"), Some(Value::Int(8)));
    assert_eq!(stated(report, "signal"), Some(Value::Int(20)));
    assert_eq!(stated(report, "power_v"), Some(Value::Float(12.5)));
    assert_eq!(stated(report, "odometer_m"), Some(Value::Int(3333)));
}

#[test]
fn the_parts_of_a_long_record_are_one_report() {
    let first = format!("{TIME} 10 00 {PLACE} 0007 01 0005 01 00 00 00");
    let second = format!("{TIME} 11 00 {PLACE} 0007 00 01 001d 30d4 01 0286 0000000c 00");
    let message = read_one(&format!("44 00 02 {first} {second}"));
    let [report] = &message.reports[..] else {
        panic!("one report");
    };
    assert_eq!(stated(report, "power_v"), Some(Value::Float(12.5)));
    assert_eq!(stated(report, "io_646"), Some(Value::Int(12)));
}

/// The rest of a long record without a place, which is no report, was added to the report before it: a collision came
/// with another place and time.
#[test]
fn the_rest_of_a_record_that_is_no_report_does_not_go_to_another() {
    let nowhere = "80000000 80000000 0000 0000 00 0000 00";
    let before = format!("{TIME} 00 00 {PLACE} 0007 00 00 00 00");
    let first = format!("6a2fcd21 00 10 00 {nowhere} 0007 01 0005 01 00 00 00");
    let rest = format!("6a2fcd21 00 11 00 {nowhere} 0007 01 019b 01 00 00 00");
    let message = read_one(&format!("44 00 03 {before} {first} {rest}"));
    let [before, rest] = &message.reports[..] else {
        panic!("two reports");
    };
    assert!(before.momentary.is_empty());
    assert_eq!(rest.momentary, AlarmKind::Collision.into());
    assert_eq!(rest.fix.time_ms, before.fix.time_ms + 1000);
}

#[test]
fn a_place_that_is_not_known_is_no_report_but_an_alarm_is() {
    let place = "80000000 80000000 0000 0000 00 0000 00";
    let message = read_one(&format!(
        "01 00 01 {TIME} 00 {place} 07 00 01 1d 30d4 00 00"
    ));
    assert_eq!(message.reports.len(), 0);
    assert_eq!(message.attributes.len(), 2);
    assert_eq!(message.answer_now, unhex("0002640113bc"));
    let message = read_one(&format!(
        "44 00 01 {TIME} 00 00 {place} 0007 01 019b 01 00 00 00"
    ));
    assert_eq!(message.reports[0].momentary, AlarmKind::Collision.into());
    assert!(!message.reports[0].fix.fields.has(FixFields::POSITION));
}

#[test]
fn values_that_the_bus_does_not_have_are_not_made_up() {
    let message = read_one(&format!(
        "01 00 01 {TIME} 00 {PLACE} 07 01 cf ff 00 01 d0 ffffffff 00"
    ));
    let report = &message.reports[0];
    assert_eq!(stated(report, "fuel_percent"), None);
    assert_eq!(stated(report, "fuel_used_l"), None);
    assert_eq!(stated(report, "io_207"), Some(Value::Int(255)));
}

#[test]
fn a_driver_is_named_by_two_halves() {
    let message = read_one(&format!(
        "01 00 01 {TIME} 00 {PLACE} 07 00 00 00 02 7e 4142434431323334 7f 3536000000000000"
    ));
    assert_eq!(
        stated(&message.reports[0], "driver_id"),
        Some(Value::Text("ABCD123456".to_owned()))
    );
    assert_eq!(message.reports[0].held, Alarms::default());
}

#[test]
fn a_login_and_a_heartbeat_are_answered_at_once() {
    // Model Eco4, firmware 00.03.68.04, subscriber 001010123456789, network 00101.
    let message = read_one(
        "0f 45636f34 30302e30332e36382e3034 000000eb300cc115 00000065 000003e8 0000003c 003c",
    );
    assert_eq!(message.answer_now[..4], [0, 2, 115, 1]);
    assert_eq!(message.attributes[0].value, Value::Text("Eco4".to_owned()));
    assert_eq!(
        message.attributes[1].value,
        Value::Text("00.03.68.04".to_owned())
    );
    assert_eq!(
        message.attributes[2].value,
        Value::Text("001010123456789".to_owned())
    );
    let message = read_one("10");
    assert_eq!(
        (message.kind, &message.answer_now[..4]),
        ("heartbeat", &[0, 2, 116, 1][..])
    );
}

#[test]
fn trouble_codes_are_alarms_with_a_place() {
    let message = read_one("09 01 00 6a2fcd20 dd293ce0 eb607580 02 5030323939");
    assert_eq!(message.answer_when_safe, unhex("00026d01c4a4"));
    let report = &message.reports[0];
    assert!(report.backlog);
    assert_eq!(report.momentary, AlarmKind::VehicleFault.into());
    assert_eq!(
        stated(report, "fault_codes"),
        Some(Value::Text("P0299".to_owned()))
    );
}

#[test]
fn what_is_not_read_is_counted_and_not_answered() {
    let message = read_one("25 02 00 4141414144414400 000a 0000 ffd8");
    assert_eq!(message.refused, Some(Reject::Part));
    let message = read_one("63 00");
    assert_eq!(message.refused, Some(Reject::UnknownKind));
    assert!(message.answer_now.is_empty() && message.answer_when_safe.is_empty());
    let message = read_one("07 4f4b0d0a");
    assert_eq!(message.attributes[0].value, Value::Text("OK".to_owned()));
}

#[test]
fn a_record_that_cannot_be_read_does_not_block_what_follows() {
    let message = read_one(&format!("01 00 02 {TIME} 00 {PLACE} 07 00 00 00 00 6a2f"));
    assert_eq!(message.reports.len(), 1);
    assert_eq!(message.refused, Some(Reject::Length));
    assert_eq!(message.answer_when_safe, unhex("0002640113bc"));
}

#[test]
fn wrong_checks_and_numbers_that_are_no_imei_are_refused() {
    let mut bytes = wire("10");
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(read(&mut session(), &bytes), [Err(Reject::Checksum)]);
    let zeros = [0; 9];
    let mut bytes = vec![0, 9];
    bytes.extend(zeros);
    bytes.extend(crc16_kermit(&zeros).to_be_bytes());
    assert_eq!(read(&mut session(), &bytes), [Err(Reject::Device)]);
}

#[test]
fn messages_do_not_depend_on_how_bytes_are_cut() {
    let record = wire(&format!("01 00 01 {TIME} 00 {PLACE} 07 00 00 00 00"));
    let bytes = [&wire("10")[..], &record, b"rubbish!", &record, &wire("10")].concat();
    let good: Vec<_> = read(&mut session(), &bytes).into_iter().flatten().collect();
    assert_eq!(good.len(), 4);
    for cut in 0..bytes.len() {
        let pieces = [&bytes[..cut], &bytes[cut..]];
        let results = testing::read(&mut session(), &pieces, NOW);
        let messages: Vec<_> = results.into_iter().flatten().collect();
        assert_eq!(messages, good, "cut at {cut}");
    }
}
