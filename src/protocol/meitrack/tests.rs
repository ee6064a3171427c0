use super::*;
use crate::frame::{AlarmKind, rfc3339_ms};
use crate::protocol::testing;

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

fn session() -> Session {
    Session::new(&Settings::default())
}

fn unhex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// A message of a device around a command and its body, with length and sum.
fn wire(command: &str, body: &[u8]) -> Vec<u8> {
    let counted = [b",490154203237518,", command.as_bytes(), b",", body].concat();
    let mut wire = format!("$$A{}", counted.len() + 5).into_bytes();
    wire.extend(counted);
    wire.push(b'*');
    let sum = wire.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
    wire.extend(format!("{sum:02X}\r\n").as_bytes());
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

fn read_one(bytes: &[u8]) -> Message {
    let mut results = read(&mut session(), bytes);
    assert_eq!(results.len(), 1, "{results:?}");
    results.remove(0).unwrap()
}

fn stated(report: &Report, name: &str) -> Option<Value> {
    let attribute = report.attributes.iter().find(|a| a.key.name() == name);
    attribute.map(|attribute| attribute.value.clone())
}

/// Examples of the vendor's document on the T622.
mod document {
    use super::*;

    #[test]
    fn a_pressed_button_is_read_field_by_field() {
        let message = read_one(
            b"$$G127,353358017784062,AAA,1,22.538169,114.075958,100313095653,A,3,21,4,46,5,581,0,148,0|0|10133|4172,\
            0000,166|204|205|2709|878,*77\r\n",
        );
        assert_eq!(message.device.unwrap().as_str(), "353358017784062");
        assert!(message.answer_now.is_empty() && message.answer_when_safe.is_empty());
        let report = &message.reports[0];
        assert_eq!(report.momentary, AlarmKind::Sos.into());
        let fix = &report.fix;
        assert_eq!((fix.lat_e7, fix.lon_e7), (225_381_690, 1_140_759_580));
        assert_eq!(rfc3339_ms(fix.time_ms), "2010-03-13T09:56:53.000Z");
        assert!(fix.fields.has(FixFields::VALID));
        assert_eq!((fix.satellites, fix.speed_mm_s), (3, 1111));
        assert_eq!((fix.course_cdeg, fix.altitude_mm), (4600, 581_000));
        assert_eq!(stated(report, "signal"), Some(Value::Int(21)));
        assert_eq!(stated(report, "hdop"), Some(Value::Float(5.0)));
        assert_eq!(stated(report, "running_s"), Some(Value::Int(148)));
    }

    #[test]
    fn a_batch_is_answered_under_its_identifier_when_it_is_safe() {
        let mut wire = b"$$U86,369800013320014,CCC,".to_vec();
        wire.extend(unhex(
            "020134000100000023418757019B5FCC06EA3E3C1A010A1F000000000900370099C1080005AB0E00CC0100009227890E02001300\
             A801000000000000",
        ));
        wire.extend(b"*A4\r\n");
        let message = read_one(&wire);
        assert!(message.answer_now.is_empty());
        let answer = String::from_utf8(message.answer_when_safe).unwrap();
        assert!(
            answer.starts_with("@@U27,369800013320014,CCC,1*"),
            "{answer}"
        );
        let report = &message.reports[0];
        let fix = &report.fix;
        assert_eq!((fix.lat_e7, fix.lon_e7), (225_134_730, 1_140_571_150));
        assert_eq!(rfc3339_ms(fix.time_ms), "2013-12-12T09:31:22.000Z");
        assert!(fix.fields.has(FixFields::VALID));
        assert_eq!((fix.satellites, fix.altitude_mm), (10, 55_000));
        assert_eq!(stated(report, "odometer_m"), Some(Value::Int(573_849)));
        assert_eq!(stated(report, "battery_v"), Some(Value::Float(4.24)));
        assert_eq!(
            stated(report, "cells"),
            Some(Value::Text("460-0-10130-3721".to_owned()))
        );
    }

    #[test]
    fn what_a_device_says_to_a_command_is_a_result() {
        let message = read_one(b"$$W28,353358017784062,A73,OK*0A\r\n");
        assert_eq!(message.kind, "result");
        assert_eq!(message.attributes[1].value, Value::Text("OK".to_owned()));
    }
}

const FIELDS: &str =
    "35,-34.600000,-58.450000,260615100000,V,0,4,36.5,90,0.8,-5,1234,60,722|7|0065|118A,0801";

#[test]
fn later_fields_of_a_report_depend_on_the_model() {
    let body = format!("{FIELDS},0000|0001|0002|0190|04F0,,,3,3C32,01FF38|0507D0");
    let message = read_one(&wire("AAA", body.as_bytes()));
    let report = &message.reports[0];
    assert!(!report.fix.fields.has(FixFields::VALID));
    assert_eq!(report.fix.speed_mm_s, 10_139, "36.5 km/h");
    assert_eq!(stated(report, "battery_v"), Some(Value::Float(4.0)));
    assert_eq!(stated(report, "power_v"), Some(Value::Float(12.64)));
    assert_eq!(stated(report, "fuel_percent"), Some(Value::Float(60.5)));
    assert_eq!(stated(report, "temperature_c"), Some(Value::Float(-2.0)));
    assert_eq!(stated(report, "temperature_5"), Some(Value::Float(20.0)));
    assert_eq!(stated(report, "inputs"), Some(Value::Int(8)));
    assert_eq!(stated(report, "outputs"), Some(Value::Int(1)));
    assert_eq!(
        stated(report, "cells"),
        Some(Value::Text("722-7-101-4490".to_owned()))
    );

    // A battery that would have 24 V shows that the steps are not hundredths.
    let body = format!("{FIELDS},0000|0001||0965|04F0,,,2,,01FE32");
    let report = &read_one(&wire("AAA", body.as_bytes())).reports[0].clone();
    assert_eq!(stated(report, "battery_v"), None);
    assert_eq!(stated(report, "battery"), Some(Value::Int(0x965)));
    assert_eq!(stated(report, "temperature_c"), Some(Value::Float(-2.5)));

    let body = format!("{FIELDS},3.94|12.01|3.3|3.3|2.8");
    let report = &read_one(&wire("AAA", body.as_bytes())).reports[0].clone();
    assert_eq!(stated(report, "power_v"), Some(Value::Float(12.01)));
}

#[test]
fn a_card_that_was_read_names_the_driver() {
    let body = format!("37{},0|0|0|0|0,AB12,", &FIELDS[2..]);
    let report = &read_one(&wire("AAA", body.as_bytes())).reports[0].clone();
    assert_eq!(
        stated(report, "driver_id"),
        Some(Value::Text("AB12".to_owned()))
    );
}

/// A call for help was refused because the device's clock had no date yet.
#[test]
fn an_alarm_counts_without_a_time_too() {
    let fields = FIELDS
        .replacen("35,", "1,", 1)
        .replace("260615100000", "000000000000");
    for command in ["AAA", "A10"] {
        let report = &read_one(&wire(command, fields.as_bytes())).reports[0];
        assert_eq!(report.momentary, AlarmKind::Sos.into());
        assert!(!report.fix.fields.has(FixFields::TIME));
    }
}

#[test]
fn a_heartbeat_is_answered() {
    let message = read_one(b"$$A25,490154203237518,AAC*3D\r\n");
    let answer = String::from_utf8(message.answer_now).unwrap();
    assert!(
        answer.starts_with("@@A27,490154203237518,AAC,1*"),
        "{answer}"
    );
}

#[test]
fn a_stored_report_is_deleted_when_it_is_safe() {
    let message = read_one(&wire("AFF", format!("0004,{FIELDS}").as_bytes()));
    assert_eq!(message.reports.len(), 1);
    let answer = String::from_utf8(message.answer_when_safe).unwrap();
    assert!(answer.starts_with("@@A27,490154203237518,AFF,1*"));
    let message = read_one(&wire("A10", FIELDS.as_bytes()));
    assert_eq!(
        (message.reports.len(), message.answer_when_safe.len()),
        (1, 0)
    );
    let message = read_one(&wire("AFF", b"OK"));
    assert_eq!((message.kind, message.answer_now.len()), ("result", 0));
}

/// 34.6 S, 58.45 W, 2026-06-15 10:00:00, fixed with nine satellites, 36 km/h, and lists to be closed.
const TAGGED: &str =
    "0100 02 0501 0609 03 082400 095a00 1a1305 03 02c00bf0fd 03b01f84fc 04a089c231";

fn tagged(rest: &str) -> Message {
    let report = unhex(&format!("{TAGGED} {rest}"));
    let mut body = unhex("03000000 0100");
    body.extend((report.len() as u16).to_le_bytes());
    body.extend(report);
    read_one(&wire("CCE", &body))
}

#[test]
fn a_batch_of_numbered_values_is_read_and_not_answered() {
    let message = tagged("03 0e0c d202 0700 6500 8a110000 0000 2a03 00 38ff fe77 02 abcd");
    assert!(message.answer_now.is_empty() && message.answer_when_safe.is_empty());
    let report = &message.reports[0];
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (-346_000_000, -584_500_000));
    assert_eq!(fix.time_ms, NOW.wall_ms);
    assert!(fix.fields.has(FixFields::VALID));
    assert_eq!((fix.satellites, fix.speed_mm_s), (9, 10_000));
    assert_eq!(stated(report, "power_v"), Some(Value::Float(12.99)));
    assert_eq!(stated(report, "temperature_c"), Some(Value::Float(-2.0)));
    assert_eq!(
        stated(report, "cells"),
        Some(Value::Text("722-7-101-4490".to_owned()))
    );
    assert_eq!(
        stated(report, "item_fe77"),
        Some(Value::Text("abcd".to_owned()))
    );
}

#[test]
fn a_sensor_that_was_heard_is_named() {
    // "T1", its address, 100 %, -10.5 and 50.5 in 1/256.
    let message = tagged("01 fe73 0f 01 02 5431 ac233f000001 64 80f5 8032");
    let report = &message.reports[0];
    assert_eq!(
        stated(report, "tag_temperature_c"),
        Some(Value::Float(-10.5))
    );
    assert_eq!(
        stated(report, "tag_humidity_percent"),
        Some(Value::Float(50.5))
    );
}

#[test]
fn a_report_that_cannot_be_read_leaves_the_others() {
    let good = unhex(&format!("{TAGGED} 00"));
    let mut body = unhex("03000000 0200 0300 0100 09");
    body.extend((good.len() as u16).to_le_bytes());
    body.extend(&good);
    let message = read_one(&wire("CCE", &body));
    assert_eq!(message.reports.len(), 1);
    assert_eq!(message.refused, Some(Reject::Length));
}

#[test]
fn parts_of_pictures_are_counted_and_not_answered() {
    let message = read_one(&wire("D00", b"a.jpg,14,0,\xff\xd8*\r\n$$A9"));
    assert_eq!(message.refused, Some(Reject::Part));
    assert!(message.answer_now.is_empty());
}

#[test]
fn what_cannot_be_read_is_refused() {
    let message = read_one(&wire("AAA", b"35,95.0,0.0,260615100000,A"));
    assert_eq!(message.refused, Some(Reject::Field));
    let message = read_one(&wire("XYZ", b"\x01\x02"));
    assert_eq!(message.refused, Some(Reject::UnknownKind));
    let mut bytes = wire("AAA", FIELDS.as_bytes());
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    assert_eq!(read(&mut session(), &bytes), [Err(Reject::Checksum)]);
}

#[test]
fn messages_do_not_depend_on_how_bytes_are_cut() {
    let text = wire("AAA", FIELDS.as_bytes());
    let mut body = unhex("01000000 0100");
    let report = unhex(&format!("{TAGGED} 00"));
    body.extend((report.len() as u16).to_le_bytes());
    body.extend(&report);
    let binary = wire("CCE", &body);
    let wrong = b"$$A30,490154203237518,AAA,\r\n$";
    let bytes = [
        &b"\r\n"[..],
        &text,
        b"\r\n",
        &binary,
        &wrong[..],
        &text,
        &binary,
    ]
    .concat();
    let good: Vec<_> = read(&mut session(), &bytes).into_iter().flatten().collect();
    assert_eq!(good.len(), 4);
    for cut in 0..bytes.len() {
        let pieces = [&bytes[..cut], &bytes[cut..]];
        let results = testing::read(&mut session(), &pieces, NOW);
        let messages: Vec<_> = results.into_iter().flatten().collect();
        assert_eq!(messages, good, "cut at {cut}");
    }
}
