use super::super::Report;
use super::*;
use crate::frame::{AlarmKind, Alarms, Attribute, FixFields, TimeSource, Value};
use crate::protocol::testing;

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

/// The same as a terminal writes it.
const TIME: [u8; 6] = [26, 6, 15, 10, 0, 0];

/// 123456789012345 behind a zero.
const ID: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0x01, 0x23, 0x45];

/// MCC 460, MNC 0, LAC 0x1234, cell 0x00abcd: a cell of GSM.
const CELL: [u8; 8] = [0x01, 0xcc, 0x00, 0x12, 0x34, 0x00, 0xab, 0xcd];

fn session() -> Session {
    Session::new(&Settings::default())
}

/// CRC-16/X-25 bit by bit, as the documents describe it.
fn check(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0xffff_u16;
    for &byte in bytes {
        sum ^= u16::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 != 0 {
                sum >> 1 ^ 0x8408
            } else {
                sum >> 1
            };
        }
    }
    (!sum).to_be_bytes()
}

/// A message in the short form with serial number 1.
fn short(number: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![0x78, 0x78, content.len() as u8 + 5, number];
    message.extend(content);
    message.extend([0, 1]);
    message.extend(check(&message[2..]));
    message.extend(b"\r\n");
    message
}

/// A message in the long form with serial number 1.
fn long(number: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![0x79, 0x79];
    message.extend((content.len() as u16 + 5).to_be_bytes());
    message.push(number);
    message.extend(content);
    message.extend([0, 1]);
    message.extend(check(&message[2..]));
    message.extend(b"\r\n");
    message
}

/// The GPS part: 31.5 degrees of latitude, 121.25 of longitude, 9 satellites, 36 km/h, course 90.
fn place(flags: u16) -> Vec<u8> {
    let mut place = TIME.to_vec();
    place.push(0xc9);
    place.extend(56_700_000_u32.to_be_bytes());
    place.extend(218_250_000_u32.to_be_bytes());
    place.push(36);
    place.extend((flags | 90).to_be_bytes());
    place
}

const NORTH: u16 = 1 << 10;
const WEST: u16 = 1 << 11;
const FIXED: u16 = 1 << 12;

/// A GPS part in the north and east with a fix, and what follows it.
fn placed(rest: &[&[u8]]) -> Vec<u8> {
    [&place(NORTH | FIXED)[..], &rest.concat()].concat()
}

/// Everything that a session makes of some bytes.
fn read(session: &mut Session, bytes: &[u8]) -> Vec<Result<Message, Reject>> {
    let mut unread = bytes.to_vec();
    drain(session, &mut unread)
}

fn drain(session: &mut Session, unread: &mut Vec<u8>) -> Vec<Result<Message, Reject>> {
    testing::drain(session, unread, NOW)
}

fn read_one(bytes: &[u8]) -> Message {
    let mut results = read(&mut session(), bytes);
    assert_eq!(results.len(), 1);
    results.remove(0).unwrap()
}

fn report_of(bytes: &[u8]) -> Report {
    let mut message = read_one(bytes);
    assert_eq!(message.reports.len(), 1, "{message:?}");
    message.reports.remove(0)
}

fn stated(attributes: &[Attribute], name: &str) -> Option<Value> {
    let attribute = attributes.iter().find(|a| a.key.name() == name);
    attribute.map(|attribute| attribute.value.clone())
}

fn text_of(attributes: &[Attribute], name: &str) -> Option<String> {
    match stated(attributes, name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

#[test]
fn a_login_names_the_terminal_and_is_answered_at_once() {
    let message = read_one(&short(0x01, &ID));
    assert_eq!(message.kind, "login");
    assert_eq!(message.device.unwrap().as_str(), "123456789012345");
    // The vendor's document has this answer for serial number 1.
    let answer = [0x78, 0x78, 0x05, 0x01, 0x00, 0x01, 0xd9, 0xdc, 0x0d, 0x0a];
    assert_eq!(message.answer_now, answer);
    assert!(message.answer_when_safe.is_empty());
}

#[test]
fn later_messages_are_those_of_who_logged_in() {
    let mut session = session();
    let stream = [short(0x01, &ID), short(0x12, &placed(&[&CELL]))].concat();
    let results = read(&mut session, &stream);
    let location = results[1].as_ref().unwrap();
    assert_eq!(location.device.unwrap().as_str(), "123456789012345");
    let stranger = read_one(&short(0x12, &placed(&[&CELL])));
    assert_eq!((stranger.device, stranger.reports.len()), (None, 1));
}

#[test]
fn zones_are_hours_and_minutes_as_one_number_and_a_bit_for_west() {
    // 800, 500 west, 545, and what no place on earth has.
    assert_eq!(zone_minutes(0x3200), Some(480));
    assert_eq!(zone_minutes(0x1f48), Some(-300));
    assert_eq!(zone_minutes(0x2211), Some(345));
    assert_eq!(zone_minutes(0), Some(0));
    assert_eq!(zone_minutes(1500 << 4), None);
    assert_eq!(zone_minutes(160 << 4), None);
}

#[test]
fn times_are_in_the_zone_of_the_operator_or_of_the_login_or_utc() {
    let login = |zone: [u8; 2]| short(0x01, &[&ID[..], &[0x10, 0x0b], &zone].concat());
    let time = |settings: &Settings, login: &[u8]| {
        let mut session = Session::new(settings);
        let location = short(0x22, &placed(&[&CELL]));
        let results = read(&mut session, &[login, &location].concat());
        results.last().unwrap().as_ref().unwrap().reports[0]
            .fix
            .time_ms
    };
    let hours = |ms: i64| (ms - NOW.wall_ms) / 3_600_000;
    let silent = Settings::default();
    assert_eq!(hours(time(&silent, &[])), 0);
    assert_eq!(hours(time(&silent, &login([0x32, 0x00]))), -8);
    assert_eq!(hours(time(&silent, &login([0x1f, 0x48]))), 5);
    let sure = Settings {
        zone_minutes: Some(120),
        ..Settings::default()
    };
    assert_eq!(hours(time(&sure, &login([0x32, 0x00]))), -2);
}

#[test]
fn a_location_is_read_field_by_field_and_waits_for_no_answer() {
    let message = read_one(&short(0x12, &placed(&[&CELL])));
    assert_eq!(message.kind, "location");
    assert!(message.answer_now.is_empty() && message.answer_when_safe.is_empty());
    let report = &message.reports[0];
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (315_000_000, 1_212_500_000));
    assert_eq!((fix.speed_mm_s, fix.course_cdeg), (10_000, 9000));
    assert_eq!((fix.satellites, fix.time_ms), (9, NOW.wall_ms));
    assert_eq!(fix.time_source, TimeSource::Device);
    assert!(fix.fields.has(FixFields::VALID));
    assert!(!report.backlog && report.momentary.is_empty() && report.held.is_empty());
    // 0x1234 and 0xabcd.
    let cells = text_of(&report.attributes, "cells");
    assert_eq!(cells.as_deref(), Some("460-0-4660-43981"));
}

#[test]
fn hemispheres_are_flags() {
    let place_with = |flags: u16| {
        let fix = report_of(&short(0x10, &place(flags))).fix;
        (fix.lat_e7.signum(), fix.lon_e7.signum())
    };
    assert_eq!(place_with(NORTH), (1, 1));
    assert_eq!(place_with(NORTH | WEST), (1, -1));
    assert_eq!(place_with(0), (-1, 1));
    assert_eq!(place_with(WEST), (-1, -1));
}

#[test]
fn a_last_known_position_is_not_valid_and_zeros_are_none() {
    let report = report_of(&short(0x10, &place(NORTH)));
    assert!(report.fix.fields.has(FixFields::POSITION));
    assert!(!report.fix.fields.has(FixFields::VALID));
    let mut nowhere = place(NORTH | FIXED);
    nowhere[7..15].fill(0);
    let message = read_one(&short(0x10, &nowhere));
    assert!(message.reports.is_empty(), "neither position nor alarm");
}

#[test]
fn ignition_is_in_the_flags_of_some_models() {
    let ignition = |flags: u16| {
        let report = report_of(&short(0x10, &place(flags)));
        stated(&report.attributes, "ignition")
    };
    assert_eq!(ignition(NORTH), None);
    assert_eq!(ignition(NORTH | 1 << 14), Some(Value::Bool(false)));
    assert_eq!(ignition(NORTH | 3 << 14), Some(Value::Bool(true)));
}

#[test]
fn a_stored_location_is_backlog() {
    let tail = |stored: u8| [1, 4, stored, 0, 0, 0x30, 0x39];
    let report = report_of(&short(0x22, &placed(&[&CELL, &tail(1)])));
    assert!(report.backlog);
    assert_eq!(
        stated(&report.attributes, "odometer_m"),
        Some(12_345.into())
    );
    assert_eq!(stated(&report.attributes, "event"), Some(4.into()));
    assert_eq!(stated(&report.attributes, "ignition"), Some(true.into()));
    assert!(!report_of(&short(0x22, &placed(&[&CELL, &tail(0)]))).backlog);
}

#[test]
fn cells_are_as_wide_as_their_network_has_them() {
    let cells = |number: u8, cell: &[u8]| {
        let report = report_of(&short(number, &placed(&[cell, &[1, 0, 0]])));
        assert_eq!(stated(&report.attributes, "ignition"), Some(true.into()));
        text_of(&report.attributes, "cells").unwrap()
    };
    // The top bit of the MCC: two bytes of MNC.
    let wide = [0x81, 0xcc, 0x01, 0x04, 0x12, 0x34, 0x00, 0xab, 0xcd];
    assert_eq!(cells(0x22, &wide), "460-260-4660-43981");
    let mut lte = vec![0x01, 0xcc, 0x05, 0, 0, 0x12, 0x34];
    lte.extend(0x1_0000_abcd_u64.to_be_bytes());
    assert_eq!(cells(0xa0, &lte), "460-5-4660-4295011277");
}

/// Ignition, charging; charge 4 of 6; signal 3; a code; English.
fn status(code: u8) -> [u8; 5] {
    [0b110, 4, 3, code, 2]
}

#[test]
fn an_alarm_is_answered_when_it_is_safe() {
    let message = read_one(&short(0x16, &placed(&[&[9], &CELL, &status(0x01)])));
    assert!(message.answer_now.is_empty());
    let mut answer = vec![0x78, 0x78, 0x05, 0x16, 0x00, 0x01];
    answer.extend(check(&answer[2..]));
    answer.extend(b"\r\n");
    assert_eq!(message.answer_when_safe, answer);
    let report = &message.reports[0];
    assert_eq!(report.momentary, Alarms::from(AlarmKind::Sos));
    assert_eq!(stated(&report.attributes, "ignition"), Some(true.into()));
    assert_eq!(stated(&report.attributes, "charging"), Some(true.into()));
    assert_eq!(
        stated(&report.attributes, "battery_percent"),
        Some(66.into())
    );
    assert_eq!(stated(&report.attributes, "signal"), Some(3.into()));
    assert_eq!(stated(&report.attributes, "alarm_word"), Some(1.into()));
}

#[test]
fn alarm_codes_are_kinds_and_notices_are_none() {
    let raised = |number: u8, rest: &[u8]| {
        report_of(&short(number, &placed(&[&[9], &CELL, rest]))).momentary
    };
    assert_eq!(raised(0x26, &status(0x02)), AlarmKind::PowerCut.into());
    assert_eq!(raised(0x26, &status(0x06)), AlarmKind::Overspeed.into());
    assert_eq!(raised(0x26, &status(0x77)), AlarmKind::Unspecified.into());
    assert_eq!(raised(0x26, &status(0xfe)), Alarms::default());
    // The information byte alone: 100 in bits 3 to 5.
    assert_eq!(raised(0x16, &[0x20, 4, 3, 0, 2]), AlarmKind::Sos.into());
    // The upper half of the language belongs to the code 0x107; then the fence.
    let jammed = [0, 4, 3, 0x07, 0x12, 5];
    assert_eq!(raised(0x27, &jammed), AlarmKind::Jamming.into());
}

#[test]
fn a_fence_is_named_by_the_newer_alarm() {
    let rest = [0, 4, 3, 0x04, 2, 7];
    let report = report_of(&short(0x27, &placed(&[&[9], &CELL, &rest])));
    assert_eq!(stated(&report.attributes, "area"), Some(7.into()));
    assert_eq!(report.momentary, AlarmKind::AreaCrossed.into());
}

#[test]
fn an_alarm_without_a_position_is_a_report_too() {
    let message = read_one(&short(0x19, &[&CELL[..], &status(0x02)].concat()));
    assert_eq!(message.reports[0].momentary, AlarmKind::PowerCut.into());
    assert_eq!(message.reports[0].fix.position_deg(), None);
    assert!(message.answer_now.is_empty() && !message.answer_when_safe.is_empty());
}

#[test]
fn a_heartbeat_is_answered_at_once_and_its_alarm_is_new_only_once() {
    let mut session = session();
    let calm = short(0x13, &status(0));
    let shaken = short(0x13, &[0b1110, 4, 3, 0, 2]);
    let stream = [&calm[..], &shaken, &shaken, &calm, &shaken].concat();
    let results = read(&mut session, &stream);
    let alarms: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().unwrap())
        .map(|message| (message.reports.len(), message.answer_now.is_empty()))
        .collect();
    let (silent, alarm) = ((0, false), (1, true));
    assert_eq!(alarms, [silent, alarm, silent, silent, alarm]);
    let first = results[0].as_ref().unwrap();
    let percent = stated(&first.attributes, "battery_percent");
    assert_eq!(percent, Some(66.into()));
}

#[test]
fn heartbeats_state_voltages_where_their_values_cannot_be_what_others_send() {
    let power = |content: &[u8]| {
        let message = read_one(&short(0x13, content));
        assert!(message.reports.is_empty(), "no alarm is read into it");
        stated(&message.attributes, "power_v")
    };
    // 0x04d2 are 12.34 V; 0x7b are 12.3 V.
    assert_eq!(power(&[0x06, 0x04, 0xd2, 4, 0]), Some(12.34.into()));
    assert_eq!(power(&[0x06, 100, 4, 0, 0x7b]), Some(12.3.into()));
    assert_eq!(power(&status(0)), None);
    let newer = read_one(&short(0x23, &[0, 0x01, 0x9a, 4, 0, 2]));
    assert_eq!(stated(&newer.attributes, "battery_v"), Some(4.1.into()));
    assert!(!newer.answer_now.is_empty());
}

#[test]
fn requests_are_answered_with_the_time_and_without_an_address() {
    let time = read_one(&short(0x8a, &[]));
    assert_eq!(time.answer_now[..4], [0x78, 0x78, 0x0b, 0x8a]);
    assert_eq!(time.answer_now[4..10], TIME);
    let address = read_one(&short(0x2a, &placed(&[&[0; 23]])));
    assert_eq!(address.answer_now[..5], [0x79, 0x79, 0, 21, 0x97]);
    assert!(address.reports.is_empty());
}

#[test]
fn the_length_tells_models_apart() {
    let report = |rest: &[u8]| report_of(&short(0x12, &placed(&[&CELL, rest]))).attributes;
    let powered = report(&[0b10, 0x04, 0xd2, 4, 0]);
    assert_eq!(stated(&powered, "power_v"), Some(12.34.into()));
    assert_eq!(stated(&powered, "ignition"), Some(true.into()));
    let driven = report(&[0, 0, 0x30, 0x39, 2, b'4', b'2', 0, 1, 0, 60]);
    assert_eq!(
        text_of(&driven, "driver_id"),
        None,
        "one byte too many for it"
    );
    let driven = report(&[0, 0, 0x30, 0x39, 1, b'4', 0, 1, 0, 60]);
    assert_eq!(text_of(&driven, "driver_id").as_deref(), Some("4"));
    assert_eq!(stated(&driven, "odometer_m"), Some(12_345.into()));
    let fuelled = report(&[0, 0x04, 0xd2, 4, 0, 0, 9, 0x85, 0, 0, 0, 7]);
    assert_eq!(stated(&fuelled, "temperature_c"), Some((-5).into()));
    assert_eq!(stated(&fuelled, "odometer_m"), Some(70.into()));
}

#[test]
fn an_id_before_the_time_is_the_terminal() {
    let message = read_one(&short(0x12, &[&ID[..], &placed(&[&CELL])].concat()));
    assert_eq!(message.device.unwrap().as_str(), "123456789012345");
    assert_eq!(message.reports[0].fix.lat_e7, 315_000_000);
    // Source, id, clock, GPS part, cell, status, distance, hours.
    let status = [0b10, 0x04, 0xd2, 41, 20, 0, 2, 0, 0, 9, 0, 1, 0];
    let prefix = [&[1], &ID[..], &TIME].concat();
    let message = read_one(&short(
        0x22,
        &[&prefix[..], &placed(&[&[8], &CELL, &status])].concat(),
    ));
    let report = &message.reports[0];
    assert_eq!(message.device.unwrap().as_str(), "123456789012345");
    assert_eq!(stated(&report.attributes, "power_v"), Some(12.34.into()));
    assert_eq!(stated(&report.attributes, "battery_v"), Some(4.1.into()));
    // 256 minutes.
    assert_eq!(stated(&report.attributes, "engine_s"), Some(15_360.into()));
}

#[test]
fn cells_alone_make_no_report() {
    let mut content = TIME.to_vec();
    content.extend([0x01, 0xcc, 0x00]);
    content.extend([0x12, 0x34, 0x00, 0xab, 0xcd, 60]);
    content.extend([0; 36]);
    content.extend([0xff, 2, 1, 2, 3, 4, 5, 6, 70, 1, 2, 3, 4, 5, 7, 0xba]);
    let message = read_one(&short(0x2c, &content));
    assert!(message.reports.is_empty() && message.answer_now.is_empty());
    let cells = text_of(&message.attributes, "cells");
    assert_eq!(cells.as_deref(), Some("460-0-4660-43981"));
    // Strength as a magnitude, and with its sign.
    let points = text_of(&message.attributes, "wifi");
    let expected = "01:02:03:04:05:06,-70 01:02:03:04:05:07,-70";
    assert_eq!(points.as_deref(), Some(expected));
}

#[test]
fn information_has_kinds() {
    let read = |content: &[u8]| {
        let message = read_one(&long(0x94, content));
        assert!(message.answer_now.is_empty() && message.reports.is_empty());
        message.attributes
    };
    assert_eq!(
        stated(&read(&[0, 0x04, 0xd2]), "power_v"),
        Some(12.34.into())
    );
    assert_eq!(stated(&read(&[5, 1]), "doors"), Some(1.into()));
    let climate = read(&[0x1e, 0, 0, 0, 215, 0, 0, 1, 0xf4]);
    assert_eq!(stated(&climate, "temperature_c"), Some(21.5.into()));
    assert_eq!(stated(&climate, "humidity_percent"), Some(50.0.into()));
    let mut numbers = vec![0x0a];
    numbers.extend([ID, ID].concat());
    numbers.extend([0x89, 0x86, 0, 0, 0, 0, 0, 0, 0x12, 0x3f]);
    let iccid = text_of(&read(&numbers), "iccid");
    assert_eq!(iccid.as_deref(), Some("8986000000000000123"));
    let settings = read(b"\x04ALM1=40;ICCID=89860000000000001234F;X");
    let iccid = text_of(&settings, "iccid");
    assert_eq!(iccid.as_deref(), Some("89860000000000001234"));
    assert_eq!(text_of(&settings, "setting_alm1").as_deref(), Some("40"));
    let fuel = read(b"\x0d!AIOIL,01,001.000,021.5,10J,0100,012.500,0,00,AB");
    assert_eq!(stated(&fuel, "temperature_c"), Some(21.5.into()));
    assert_eq!(stated(&fuel, "fuel_sensor"), Some(12.5.into()));
}

#[test]
fn texts_answer_commands_and_may_tell_a_position() {
    let mut content = vec![6, 0, 0, 0, 0];
    content.extend(b"OK\0\x02");
    let answer = read_one(&short(0x15, &content));
    assert_eq!(text_of(&answer.attributes, "result").as_deref(), Some("OK"));
    let text = b"Current position!Lat:S31.5,Lon:W121.25,Course:90.00,Speed:36.0,DateTime:2026-06-15  10:00:00";
    let report = report_of(&long(0x21, &[&[0, 0, 0, 0, 1], &text[..]].concat()));
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (-315_000_000, -1_212_500_000));
    assert_eq!((fix.speed_mm_s, fix.time_ms), (10_000, NOW.wall_ms));
    let wide: Vec<_> = b"No!".iter().flat_map(|&byte| [0, byte]).collect();
    let answer = read_one(&long(0x21, &[&[0, 0, 0, 0, 2], &wide[..]].concat()));
    assert_eq!(
        text_of(&answer.attributes, "result").as_deref(),
        Some("No!")
    );
}

#[test]
fn a_message_of_modules_may_hold_a_position_and_an_alarm() {
    let mut content = Vec::new();
    content.extend([0x00, 0x33, 0x00, 0x12]);
    content.extend(((NOW.wall_ms / 1000) as u32).to_be_bytes());
    content.extend([7, 0x00, 0x64]);
    content.extend(&place(NORTH | FIXED)[7..]);
    content.extend([0x00, 0x34, 0x00, 0x06, 0x21, 0, 0, 0, 0, 0]);
    content.extend([0x00, 0x18, 0x00, 0x02, 0x01, 0x9a]);
    content.extend([0x00, 0x99, 0x00, 0x01, 0xab]);
    let report = report_of(&long(0x70, &content));
    assert_eq!(
        (report.fix.lat_e7, report.fix.altitude_mm),
        (315_000_000, 100_000)
    );
    assert_eq!(report.fix.time_ms, NOW.wall_ms);
    assert_eq!(report.momentary, AlarmKind::PowerCut.into());
    assert_eq!(stated(&report.attributes, "battery_v"), Some(4.1.into()));
    let other = text_of(&report.attributes, "module_0099");
    assert_eq!(other.as_deref(), Some("ab"));
}

#[test]
fn cameras_put_speed_behind_the_flags() {
    let mut content = vec![0xff, 0xff, 1];
    content.extend(&place(NORTH | FIXED)[..15]);
    content.extend((NORTH | FIXED | 90).to_be_bytes());
    content.extend([0, 36, 0, 123, 0x91, 0, 0]);
    content.extend(b"A.mp4");
    let message = read_one(&short(0x95, &content));
    assert!(!message.answer_when_safe.is_empty());
    let report = &message.reports[0];
    assert_eq!(
        (report.fix.lat_e7, report.fix.speed_mm_s),
        (315_000_000, 10_000)
    );
    assert_eq!(report.momentary, AlarmKind::HarshBraking.into());
    assert_eq!(stated(&report.attributes, "power_v"), Some(12.3.into()));
    let files = text_of(&report.attributes, "event_files");
    assert_eq!(files.as_deref(), Some("A.mp4"));
}

#[test]
fn newer_messages_name_the_kind_of_their_cell_and_end_in_modules() {
    // By time, stored; kind 3 of 460-5-4660-43981; the odometer.
    let lte = [
        0x01, 0xcc, 5, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0xab, 0xcd,
    ];
    let odometer = [0x00, 0x2e, 4, 0, 0, 0x30, 0x39];
    let rest = [
        &[0, 1, 3],
        &lte[..],
        &[0, 60],
        &odometer,
        &[0x12, 0x34, 1, 7],
    ]
    .concat();
    let report = report_of(&long(0x38, &placed(&[&rest])));
    assert!(report.backlog);
    let cells = text_of(&report.attributes, "cells");
    assert_eq!(cells.as_deref(), Some("460-5-4660-43981"));
    assert_eq!(
        stated(&report.attributes, "odometer_m"),
        Some(12_345.into())
    );
    let module = text_of(&report.attributes, "module_1234");
    assert_eq!(module.as_deref(), Some("07"));
    // Kind 1 is GSM. A status, the code 0x107, the battery.
    let status = [0b10, 80, 4, 0x07, 0x12];
    let rest = [
        &[1],
        &CELL[..],
        &[60],
        &status,
        &[0x00, 0x18, 2, 0x01, 0x9a],
    ]
    .concat();
    let message = read_one(&short(0x39, &placed(&[&rest])));
    let report = &message.reports[0];
    assert_eq!(report.momentary, AlarmKind::Jamming.into());
    assert_eq!(
        stated(&report.attributes, "battery_percent"),
        Some(80.into())
    );
    assert_eq!(stated(&report.attributes, "battery_v"), Some(4.1.into()));
    assert!(!message.answer_when_safe.is_empty());
}

#[test]
fn altitude_stands_at_the_end_where_the_length_says_so() {
    let wide = [0x01, 0xcc, 0x00, 0x05, 0x12, 0x34, 0, 0, 0xab, 0xcd];
    let upload = [1, 0, 0, 0, 0, 0x30, 0x39];
    let report = report_of(&short(0x31, &placed(&[&wide, &upload, &[0xff, 0xf6]])));
    assert_eq!(report.fix.altitude_mm, -10_000);
    assert_eq!(
        stated(&report.attributes, "odometer_m"),
        Some(12_345.into())
    );
    let cells = text_of(&report.attributes, "cells");
    assert_eq!(cells.as_deref(), Some("460-5-4660-43981"));
}

#[test]
fn an_alarm_system_says_whether_it_is_armed_in_the_form_that_it_uses() {
    let rest = |state: u8| [&[9], &CELL[..], &[20], &[0, 0, state, 0]].concat();
    let armed = long(0x33, &[&TIME[..], &[0], &rest(0xa0)].concat());
    let message = read_one(&armed);
    assert_eq!(stated(&message.attributes, "armed"), Some(true.into()));
    assert_eq!(message.answer_now[..5], [0x79, 0x79, 0, 5, 0x33]);
    let place = place(NORTH | FIXED);
    let open = [&TIME[..], &[12], &place[6..], &rest(0xa5)].concat();
    let report = report_of(&long(0x33, &open));
    assert_eq!(report.fix.lat_e7, 315_000_000);
    assert_eq!(report.momentary, AlarmKind::DoorOpened.into());
    let cells = text_of(&report.attributes, "cells");
    assert_eq!(cells.as_deref(), Some("460-0-4660-43981"));
}

#[test]
fn a_diagnosis_is_in_hundredths() {
    let mut content = [&TIME[..], &[1]].concat();
    content.extend(b"363=0000c350,283=000007d0,4A3=VIN0123456789ABCD,997=00000064");
    content.extend([0; 12]);
    let message = read_one(&long(0x8c, &content));
    let attribute = |name: &str| stated(&message.attributes, name);
    assert_eq!(attribute("engine_rpm"), Some(500.0.into()));
    // 20 km.
    assert_eq!(attribute("odometer_m"), Some(20_000.into()));
    assert_eq!(attribute("vin"), Some("VIN0123456789ABCD".into()));
    assert_eq!(attribute("obd_99"), Some(1.0.into()));
    assert_eq!(attribute("ignition"), Some(true.into()));
}

#[test]
fn a_logger_counts_its_analogue_inputs_in_its_ports() {
    let mut content = vec![0; 4];
    content.extend(placed(&[&[0, 0], &[0, 0, 0x30, 0x39]]));
    content.extend([0x01, 0xcc, 0, 0x12, 0x34, 0, 0, 0xab, 0xcd]);
    content.extend([0, 0, 0, 42, 0x04, 0xd2, 0x01, 0x9a]);
    content.extend([0x00, 0x10, 0, 0, 5, 2, 0x01, 0xf4]);
    let report = report_of(&short(0x34, &content));
    let attribute = |name: &str| stated(&report.attributes, name);
    assert_eq!(attribute("driver_id"), Some("42".into()));
    assert_eq!(attribute("power_v"), Some(12.34.into()));
    assert_eq!(attribute("battery_v"), Some(4.1.into()));
    assert_eq!(
        (attribute("inputs"), attribute("outputs")),
        (Some(5.into()), Some(2.into()))
    );
    assert_eq!(
        (attribute("analog_1_v"), attribute("analog_2_v")),
        (Some(5.0.into()), None)
    );
}

#[test]
fn what_is_not_read_is_named_and_answered_where_an_answer_may_be_waited_for() {
    let refused = |bytes: &[u8]| {
        let message = read_one(bytes);
        (message.refused, message.answer_now.is_empty())
    };
    let unknown = Some(Reject::UnknownKind);
    assert_eq!(refused(&short(0xee, &[1])), (unknown, false));
    assert_eq!(refused(&long(0xee, &[1])), (unknown, true));
    assert_eq!(refused(&short(0x80, &[1])), (unknown, true));
    assert_eq!(refused(&long(0x36, &[0; 60])), (Some(Reject::Part), true));
    assert_eq!(refused(&long(0x41, &[0; 60])), (None, false));
    let cut = short(0x16, &TIME);
    assert_eq!(refused(&cut), (Some(Reject::Length), false));
}

#[test]
fn a_wrong_check_is_refused_without_trace_unless_lenient() {
    let mut login = short(0x01, &ID);
    login[7] ^= 1;
    let mut strict = session();
    assert_eq!(read(&mut strict, &login), [Err(Reject::Checksum)]);
    assert_eq!(strict.device, None);
    let mut lenient = Session::new(&Settings {
        lenient: true,
        ..Settings::default()
    });
    assert!(read(&mut lenient, &login)[0].is_ok());
}

#[test]
fn a_login_without_an_id_is_refused_and_the_old_one_stays() {
    let mut session = session();
    read(&mut session, &short(0x01, &ID));
    let results = read(&mut session, &short(0x01, &[0; 8]));
    assert_eq!(results, [Err(Reject::Device)]);
    assert_eq!(
        read(&mut session, &short(0x01, &ID[..5])),
        [Err(Reject::Length)]
    );
    assert_eq!(session.device.unwrap().as_str(), "123456789012345");
}

#[test]
fn a_damaged_stop_costs_nothing_where_the_check_fits() {
    let whole = short(0x12, &placed(&[&CELL]));
    let cut = &whole[..whole.len() - 1];
    let results = read(&mut session(), &[cut, cut, &whole].concat());
    assert!(results.len() == 3 && results.iter().all(Result::is_ok));
}

#[test]
fn a_length_that_does_not_count_the_check_is_understood() {
    let mut message = short(0x12, &placed(&[&CELL]));
    message[2] -= 2;
    let end = message.len() - 4;
    let sum = check(&message[2..end]);
    message[end..end + 2].copy_from_slice(&sum);
    let results = read(
        &mut session(),
        &[&message[..], &short(0x13, &status(0))].concat(),
    );
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].as_ref().unwrap().reports.len(), 1);
}

/// Login without check: the id and a version.
fn bare_login() -> Vec<u8> {
    [&[0x78, 0x78, 0x0d, 0x01][..], &ID, &[0x42], b"\r\n"].concat()
}

/// A location without check.
fn bare_location() -> Vec<u8> {
    [
        &[0x78, 0x78, 0x12, 0x10][..],
        &place(NORTH | FIXED),
        b"\r\n",
    ]
    .concat()
}

/// One access point and two cells without check.
fn bare_wifi() -> Vec<u8> {
    let mut message = vec![0x78, 0x78, 1, 0x69, 0x26, 0x06, 0x15, 0x10, 0x00, 0x00];
    message.extend([1, 2, 3, 4, 5, 6, 70]);
    message.extend([2, 0x01, 0xcc, 0x00]);
    message.extend([0x12, 0x34, 0xab, 0xcd, 60, 0x12, 0x34, 0xab, 0xce, 61]);
    message.extend(b"\r\n");
    message
}

#[test]
fn small_trackers_without_check_are_known_by_their_layouts() {
    let login = read_one(&bare_login());
    assert_eq!(login.device.unwrap().as_str(), "123456789012345");
    assert_eq!(login.answer_now, [0x78, 0x78, 1, 1, 0x0d, 0x0a]);
    let heartbeat = read_one(&[0x78, 0x78, 1, 8, 0x0d, 0x0a]);
    assert_eq!(heartbeat.kind, "heartbeat");
    let location = read_one(&bare_location());
    assert_eq!(location.reports[0].fix.lat_e7, 315_000_000);
    let answer = [&[0x78, 0x78, 0, 0x10][..], &TIME, b"\r\n"].concat();
    assert_eq!(location.answer_when_safe, answer);
    let wifi = read_one(&bare_wifi());
    assert_eq!(wifi.answer_now[..6], [0x78, 0x78, 0, 0x69, 0x26, 0x06]);
    let cells = text_of(&wifi.attributes, "cells");
    assert_eq!(cells.as_deref(), Some("460-0-4660-43981 460-0-4660-43982"));
}

/// All forms, with rubbish, blanks and a lost beginning between them.
fn stream() -> Vec<u8> {
    let mut stream = b"rubbish".to_vec();
    stream.extend(short(0x01, &ID));
    stream.extend(short(0x12, &placed(&[&CELL])));
    stream.extend(b"\r\n\r\n");
    stream.extend(bare_location());
    stream.extend(&short(0x13, &status(0))[3..]);
    stream.extend(bare_wifi());
    stream.extend(long(0x70, &[0, 0x34, 0, 6, 0x20, 0, 0, 0, 0, 0]));
    stream.extend(short(0x16, &placed(&[&[9], &CELL, &status(1)])));
    stream.extend(bare_login());
    stream.extend(short(0x13, &status(0)));
    stream
}

fn sound(results: Vec<Result<Message, Reject>>) -> Vec<Message> {
    results.into_iter().filter_map(Result::ok).collect()
}

#[test]
fn any_cut_of_a_stream_gives_the_same_messages() {
    let stream = stream();
    let whole = sound(read(&mut session(), &stream));
    assert_eq!(whole.len(), 8);
    for cut in 0..=stream.len() {
        let (first, second) = stream.split_at(cut);
        let mut session = session();
        let mut unread = first.to_vec();
        let mut results = drain(&mut session, &mut unread);
        unread.extend(second);
        results.extend(drain(&mut session, &mut unread));
        assert_eq!(sound(results), whole, "cut at {cut}");
    }
    let mut session = session();
    let mut unread = Vec::new();
    let mut results = Vec::new();
    for &byte in &stream {
        unread.push(byte);
        results.extend(drain(&mut session, &mut unread));
    }
    assert_eq!(sound(results), whole, "byte by byte");
}

#[test]
fn a_truncated_message_waits_and_costs_none_of_the_next() {
    let whole = short(0x16, &placed(&[&[9], &CELL, &status(1)]));
    // Without its stop it is whole.
    for len in 0..whole.len() - 2 {
        let cut = &whole[..len];
        assert!(read(&mut session(), cut).is_empty());
        let next = [&whole[..]; 5].concat();
        let messages = sound(read(&mut session(), &[cut, &next].concat()));
        assert_eq!(messages.len(), 5, "cut at {len}");
    }
}

#[test]
fn an_endless_message_is_dropped_and_the_next_one_read() {
    let mut session = session();
    let mut stream = vec![0x79, 0x79, 0xff, 0xff, 0x94];
    stream.extend(short(0x13, &status(0)));
    let results = read(&mut session, &stream);
    assert_eq!(results[0], Err(Reject::TooLong));
    assert_eq!(results[1].as_ref().unwrap().kind, "heartbeat");
    // As long as may be, behind blanks, and with no end.
    for blanks in [0, 1, 5] {
        let mut flood = vec![b'\r'; blanks];
        flood.extend([0x79, 0x79, 0x0f, 0xf8]);
        flood.resize(MESSAGE_BYTES_MAX, 1);
        assert_ne!(session.split(&flood), Split::Incomplete);
    }
    assert_ne!(
        session.split(&[b'\r'; MESSAGE_BYTES_MAX]),
        Split::Incomplete
    );
}

#[test]
fn a_long_message_of_the_greatest_length_is_read() {
    let message = long(0x94, &[0xfe; MESSAGE_BYTES_MAX - 13]);
    assert_eq!(message.len(), MESSAGE_BYTES_MAX - 2);
    assert_eq!(read_one(&message).kind, "information");
}

proptest::proptest! {
    #[test]
    fn any_content_under_any_number_is_read_without_panic(
        number: u8,
        is_long: bool,
        begins_with_place: bool,
        content in proptest::collection::vec(proptest::num::u8::ANY, 0..150),
    ) {
        let content = match begins_with_place {
            true => placed(&[&content]),
            false => content,
        };
        let bytes = match is_long {
            true => long(number, &content),
            false => short(number, &content),
        };
        let mut session = session();
        let results = read(&mut session, &bytes);
        for message in results.iter().flatten() {
            let reports = message.reports.iter().map(|report| report.attributes.len());
            assert!(reports.sum::<usize>() + message.attributes.len() <= 80);
        }
    }
}

#[test]
fn a_padlocks_long_status_is_no_place() {
    // The longer of its two forms has a byte more than the GPS part and was read as one: a place off Africa.
    let mut content = vec![0x46, 1, 2, 4, 3, 5, 2, 1, 1, 0, 0, 0, 16, 85, 1, 1, 0, 0, 0];
    for information in [0x46, 6] {
        content[0] = information;
        let message = read_one(&short(0xa3, &content));
        assert_eq!((message.kind, message.reports.len()), ("status", 0));
    }
}

#[test]
fn whether_it_was_stored_ends_any_location() {
    // 0x10 and 0x11 were read only up to their cell: what came late from them was taken for news.
    let wide = [0x01, 0xcc, 0x00, 0x00, 0x12, 0x34, 0x00, 0x00, 0xab, 0xcd];
    for (number, cell) in [(0x10, &[][..]), (0x11, &wide)] {
        for odometer in [&[][..], &[0, 0, 16, 0]] {
            let report = report_of(&short(number, &placed(&[cell, &[1, 2, 1], odometer])));
            assert!(report.backlog, "{number:x}");
        }
        assert!(!report_of(&short(number, &placed(&[cell]))).backlog);
    }
}

#[test]
fn cells_have_the_width_that_their_message_says() {
    // 0x25 has cells of four bytes: the first three were read, as another cell. An alarm of a fence with a cell of GSM
    // lost the status and the alarm behind it.
    let wide = [0x01, 0xcc, 0x00, 0x12, 0x34, 0x00, 0x00, 0xab, 0xcd];
    let status = [0x46, 4, 3, 2, 2, 5];
    let before = [&[1][..], &ID, &TIME].concat();
    let engine = [0x46, 4, 0xd2, 41, 4, 3, 2, 0, 1, 0, 0, 2, 0, 0];
    for (number, content) in [
        (0x25, placed(&[&wide, &[1, 2, 0]])),
        (0x25, [before, placed(&[&[9], &wide, &engine])].concat()),
        (0xa4, placed(&[&[9], &CELL, &status])),
        (0xa3, placed(&[&[9], &CELL, &status[..5]])),
    ] {
        let report = report_of(&short(number, &content));
        let cells = text_of(&report.attributes, "cells");
        assert_eq!(cells.as_deref(), Some("460-0-4660-43981"), "{number:x}");
        let fenced = number != 0x25;
        assert_eq!(report.momentary.contains(AlarmKind::PowerCut), fenced);
    }
}
