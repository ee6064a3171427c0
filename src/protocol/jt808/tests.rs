use super::super::Report;
use super::*;
use crate::frame::{AlarmKind, Alarms, FixFields, TimeSource};
use crate::protocol::testing;

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};
const PHONE: [u8; 6] = [0x01, 0x39, 0x12, 0x34, 0x56, 0x78];

fn session() -> Session {
    Session::new(&Settings::default())
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// A message as a terminal sends it.
fn wire(id: u16, properties: u16, phone: &[u8], serial: u16, body: &[u8]) -> Vec<u8> {
    let properties = properties | (body.len() as u16 & 0x3ff);
    let mut content = Vec::new();
    content.extend(id.to_be_bytes());
    content.extend(properties.to_be_bytes());
    content.extend(phone);
    content.extend(serial.to_be_bytes());
    content.extend(body);
    content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
    let mut wire = vec![0x7e];
    for byte in content {
        match byte {
            0x7d => wire.extend([0x7d, 1]),
            0x7e => wire.extend([0x7d, 2]),
            byte => wire.push(byte),
        }
    }
    wire.push(0x7e);
    wire
}

/// A location body: 31.2304 N, 121.4737 E, 12 m, 36 km/h, 90 degrees, 2026-06-15 18:00:00 in GMT+8.
fn location(alarm: u32, status: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for word in [alarm, status, 31_230_400, 121_473_700] {
        body.extend(word.to_be_bytes());
    }
    for half in [12_u16, 360, 90] {
        body.extend(half.to_be_bytes());
    }
    body.extend([0x26, 0x06, 0x15, 0x18, 0x00, 0x00]);
    body
}

/// Everything that a session makes of some bytes.
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

fn read_one(session: &mut Session, bytes: &[u8]) -> Result<Message, Reject> {
    let mut results = read(session, bytes);
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// The result code of a general response to a header of 2013.
fn result_of(answer: &[u8]) -> u8 {
    assert_eq!(answer[1..3], [0x80, 0x01], "general response");
    answer[answer.len() - 3]
}

#[test]
fn a_heartbeat_is_answered_with_its_serial_and_id() {
    // By hand: the check is the XOR of all bytes between flags and check.
    let heartbeat = unhex("7e000200000139123456780007357e");
    let message = read_one(&mut session(), &heartbeat).unwrap();
    assert_eq!(message.kind, "heartbeat");
    assert_eq!(message.device.unwrap().as_str(), "13912345678");
    assert_eq!(
        message.answer_now,
        unhex("7e8001000501391234567800000007000200b17e")
    );
    assert!(message.answer_when_safe.is_empty());
}

#[test]
fn a_location_is_read_field_by_field_and_answered_when_it_is_safe() {
    let mut body = location(1 | 1 << 8, 0b11);
    body.extend([
        0x01, 4, 0, 0, 0x04, 0xd2, 0x02, 2, 0x01, 0x2c, 0x31, 1, 9, 0xe7, 1, 0xab,
    ]);
    let wire = wire(0x0200, 0, &PHONE, 0x7e7d, &body);
    let message = read_one(&mut session(), &wire).unwrap();
    assert!(message.answer_now.is_empty());
    assert_eq!(result_of(&message.answer_when_safe), 0);
    assert_eq!(
        message.answer_when_safe[13..17],
        [0x7d, 0x02, 0x7d, 0x01],
        "the serial number repeated, escaped"
    );

    let [report] = &message.reports[..] else {
        panic!("one report");
    };
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (312_304_000, 1_214_737_000));
    assert_eq!((fix.altitude_mm, fix.speed_mm_s), (12_000, 10_000));
    assert_eq!((fix.course_cdeg, fix.satellites), (9000, 9));
    assert_eq!(
        (fix.time_ms, fix.time_source),
        (NOW.wall_ms, TimeSource::Device)
    );
    assert!(
        fix.fields
            .has(FixFields::VALID | FixFields::POSITION | FixFields::TIME)
    );
    assert_eq!(report.held, Alarms::from(AlarmKind::PowerCut));
    assert_eq!(report.momentary, Alarms::from(AlarmKind::Sos));
    assert!(!report.backlog);
    let stated = |name: &str| {
        let attribute = report.attributes.iter().find(|a| a.key.name() == name);
        attribute.map(|attribute| attribute.value.clone())
    };
    assert_eq!(stated("odometer_m"), Some(Value::Int(123_400)));
    assert_eq!(stated("fuel_l"), Some(Value::Float(30.0)));
    assert_eq!(stated("ignition"), Some(Value::Bool(true)));
    assert_eq!(stated("item_e7"), Some(Value::Text("ab".to_owned())));
}

#[test]
fn hemispheres_come_from_the_status_word() {
    let wire = wire(0x0200, 0, &PHONE, 0, &location(0, 0b1110));
    let report = read_one(&mut session(), &wire).unwrap().reports.remove(0);
    assert_eq!(
        (report.fix.lat_e7, report.fix.lon_e7),
        (-312_304_000, -1_214_737_000)
    );
}

#[test]
fn positions_without_a_fix_shifted_or_without_a_time_are_not_valid() {
    let valid = |body: &[u8]| {
        let wire = wire(0x0200, 0, &PHONE, 0, body);
        let report = read_one(&mut session(), &wire).unwrap().reports.remove(0);
        report.fix.fields.has(FixFields::VALID)
    };
    assert!(valid(&location(0, 1 << 1)));
    assert!(!valid(&location(0, 0)));
    assert!(!valid(&location(0, 1 << 1 | 1 << 5)));
    let mut without_time = location(0, 1 << 1);
    without_time[22..].fill(0);
    assert!(!valid(&without_time));
}

#[test]
fn a_cut_item_ends_the_list_and_not_the_record() {
    let mut body = location(0, 2);
    body.extend([0x31, 1, 9, 0x01, 4, 0]);
    let wire = wire(0x0200, 0, &PHONE, 0, &body);
    let report = read_one(&mut session(), &wire).unwrap().reports.remove(0);
    assert_eq!(report.fix.satellites, 9);
}

#[test]
fn a_2019_header_is_answered_in_kind() {
    // Version 1, then ten bytes of phone number; server time is asked for.
    let phone = [1, 0, 0, 0, 0, 0x01, 0x39, 0x12, 0x34, 0x56, 0x78];
    let message = read_one(&mut session(), &wire(0x0004, 1 << 14, &phone, 3, &[])).unwrap();
    assert_eq!(message.device.unwrap().as_str(), "13912345678");
    // By hand: id 8004, 6 bytes and the bit of 2019, the address, serial 0, then 2026-06-15 10:00:00.
    let mut content = unhex("80044006");
    content.extend(phone);
    content.extend([0, 0, 0x26, 0x06, 0x15, 0x10, 0x00, 0x00]);
    let check = content.iter().fold(0, |sum, byte| sum ^ byte);
    assert_eq!(message.answer_now[1..message.answer_now.len() - 2], content);
    assert_eq!(message.answer_now[message.answer_now.len() - 2], check);
}

#[test]
fn a_2019_header_without_its_bit_is_known_by_its_length() {
    let phone = [1, 0, 0, 0, 0, 0x01, 0x39, 0x12, 0x34, 0x56, 0x78];
    let message = read_one(&mut session(), &wire(0x0002, 0, &phone, 3, &[])).unwrap();
    assert_eq!(message.device.unwrap().as_str(), "13912345678");
}

#[test]
fn a_registration_code_is_good_after_a_restart_and_only_on_this_node() {
    let settings = |key: u8, lenient: bool| Settings {
        node_key: [key; 16],
        lenient,
        ..Settings::default()
    };
    let mut body = vec![0, 31, 0, 1];
    body.extend(*b"MAKER");
    body.extend(*b"MODEL\0\0\0");
    body.extend(*b"TERM001");
    body.extend(*b"\x01PLATE");
    let register = wire(0x0100, 0, &PHONE, 5, &body);
    let message = read_one(&mut Session::new(&settings(1, false)), &register).unwrap();
    let answer = &message.answer_now;
    assert_eq!(answer[1..3], [0x81, 0x00]);
    assert_eq!(
        answer[13..16],
        [0, 5, 0],
        "serial of the registration, done"
    );
    let code = &answer[16..answer.len() - 2];
    assert_eq!(
        message.attributes[1],
        Attribute::named("model", Value::Text("MODEL".into()))
    );

    let authenticate = wire(0x0102, 0, &PHONE, 6, code);
    let result = |key, lenient| {
        let mut restarted = Session::new(&settings(key, lenient));
        result_of(&read_one(&mut restarted, &authenticate).unwrap().answer_now)
    };
    assert_eq!(result(1, false), 0);
    assert_eq!(result(2, false), 1);
    assert_eq!(result(2, true), 0);
}

#[test]
fn a_batch_keeps_its_order_and_tells_stored_from_live() {
    for (kind, backlog) in [(0, false), (1, true)] {
        let mut body = vec![0, 2, kind];
        for status in [0b10, 0b11] {
            body.extend([0, 28]);
            body.extend(location(0, status));
        }
        let message = read_one(&mut session(), &wire(0x0704, 0, &PHONE, 0, &body)).unwrap();
        assert_eq!(result_of(&message.answer_when_safe), 0);
        let words: Vec<_> = message
            .reports
            .iter()
            .map(|r| &r.attributes[1].value)
            .collect();
        assert_eq!(words, [&Value::Int(2), &Value::Int(3)]);
        assert!(
            message
                .reports
                .iter()
                .all(|report| report.backlog == backlog)
        );
    }
}

#[test]
fn what_cannot_be_read_is_answered_so_that_it_does_not_come_again() {
    let short = read_one(&mut session(), &wire(0x0200, 0, &PHONE, 0, &[0; 27])).unwrap();
    assert_eq!(
        (short.refused, result_of(&short.answer_now)),
        (Some(Reject::Length), 2)
    );
    let batch = read_one(
        &mut session(),
        &wire(0x0704, 0, &PHONE, 0, &[0, 1, 0, 0, 99]),
    )
    .unwrap();
    assert_eq!(
        (batch.refused, result_of(&batch.answer_now)),
        (Some(Reject::Length), 2)
    );
    let secret = read_one(&mut session(), &wire(0x0200, 1 << 10, &PHONE, 0, &[7; 40])).unwrap();
    assert_eq!(
        (secret.refused, result_of(&secret.answer_now)),
        (Some(Reject::Encrypted), 3)
    );
    let other = read_one(&mut session(), &wire(0x0b0b, 0, &PHONE, 0, &[])).unwrap();
    assert_eq!(
        (other.refused, result_of(&other.answer_now)),
        (Some(Reject::UnknownKind), 3)
    );
}

#[test]
fn a_wrong_check_is_refused_without_trace_unless_lenient() {
    let mut heartbeat = unhex("7e000200000139123456780007357e");
    heartbeat[13] ^= 1;
    let mut strict = session();
    assert_eq!(read_one(&mut strict, &heartbeat), Err(Reject::Checksum));
    assert_eq!(strict.serial, 0);
    let mut lenient = Session::new(&Settings {
        lenient: true,
        ..Settings::default()
    });
    assert!(read_one(&mut lenient, &heartbeat).is_ok());
    assert_eq!(lenient.serial, 1);
}

/// A batch of four locations as two parts of one long message.
fn long_batch() -> [Vec<u8>; 2] {
    let mut body = vec![0, 4, 1];
    for _ in 0..4 {
        body.extend([0, 28]);
        body.extend(location(0, 2));
    }
    let (first, second) = body.split_at(50);
    [(1_u8, first), (2, second)].map(|(number, bytes)| {
        // Total and number stand between header and body, and do not count as body.
        let serial = 9 + u16::from(number);
        let mut content = [&[0x07, 0x04, 0x20, bytes.len() as u8], &PHONE[..]].concat();
        content.extend(serial.to_be_bytes());
        content.extend([0, 2, 0, number]);
        content.extend(bytes);
        content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
        assert!(!content.contains(&0x7e) && !content.contains(&0x7d));
        [&[0x7e], &content[..], &[0x7e]].concat()
    })
}

#[test]
fn a_long_batch_is_put_together_and_its_last_part_waits_until_safe() {
    let [first, second] = long_batch();
    let mut session = session();
    let part = read_one(&mut session, &first).unwrap();
    assert_eq!((part.reports.len(), result_of(&part.answer_now)), (0, 0));
    let whole = read_one(&mut session, &second).unwrap();
    assert_eq!(whole.reports.len(), 4);
    assert!(whole.answer_now.is_empty() && !whole.answer_when_safe.is_empty());
}

#[test]
fn a_lost_part_is_asked_for() {
    let [first, second] = long_batch();
    let mut session = session();
    let part = read_one(&mut session, &second).unwrap();
    // 8003: first serial 10, one part, number 1; and not 8001, after which the terminal would forget the rest.
    assert_eq!(part.answer_now[1..3], [0x80, 0x03]);
    assert!(
        part.answer_now
            .windows(5)
            .any(|bytes| bytes == [0, 10, 1, 0, 1])
    );
    assert_eq!(read_one(&mut session, &first).unwrap().reports.len(), 4);
}

#[test]
fn parts_beyond_the_limits_are_refused_by_name() {
    let part = |id: u16, total: u16, number: u16, bytes: usize| {
        let mut content = id.to_be_bytes().to_vec();
        content.extend((1 << 13 | bytes as u16).to_be_bytes());
        content.extend(PHONE);
        content.extend(number.to_be_bytes());
        content.extend([total.to_be_bytes(), number.to_be_bytes()].as_flattened());
        content.extend(vec![0; bytes]);
        content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
        content
    };
    let mut session = session();
    let mut refused = |content: &[u8]| session.decode(content, NOW).unwrap().refused;
    assert_eq!(refused(&part(0x0801, 2, 1, 8)), Some(Reject::Part));
    for (total, number) in [(0, 0), (2, 3), (2, 0), (60_000, 1)] {
        assert_eq!(refused(&part(0x0704, total, number, 8)), Some(Reject::Part));
    }
    for number in 1..=33 {
        let one_of_many = refused(&part(0x0704, 33, number, 1000));
        assert_eq!(
            one_of_many,
            Some(Reject::Part),
            "every part is refused, not only the last ones"
        );
    }
    for number in 1..32 {
        assert_eq!(
            refused(&part(0x0704, 32, number, 1023)),
            None,
            "part {number} of the longest message"
        );
    }
}

#[test]
fn a_text_in_parentheses_is_a_message_too() {
    let message = read_one(&mut session(), b"(794104004140,1,001,BASE,2,TIME)").unwrap();
    assert_eq!(message.device.unwrap().as_str(), "794104004140");
    assert_eq!(message.kind, "text");
    let expected = "(794104004140,1,001,BASE,2,20260615100000)";
    assert_eq!(
        message.answer_now,
        expected.as_bytes(),
        "the time that it asks for"
    );
    let message = read_one(&mut session(), b"(794104004140,1,001,ELOCK,3,5)").unwrap();
    assert!(message.answer_now.is_empty());
}

#[test]
fn an_endless_message_is_dropped_and_the_next_one_read() {
    let mut session = session();
    let mut stream = vec![0x7e];
    stream.extend(vec![0x11; MESSAGE_BYTES_MAX]);
    assert_eq!(
        session.split(&stream),
        Split::Rubbish {
            consumed: stream.len(),
            reason: Reject::TooLong
        }
    );
    let mut rest = vec![0x11, 0x11, 0x7e];
    rest.extend(unhex("7e000200000139123456780007357e"));
    let results = read(&mut session, &rest);
    assert_eq!(results[0], Err(Reject::Rubbish));
    assert_eq!(results[1].as_ref().unwrap().kind, "heartbeat");
}

/// Locations with escapes, a batch, rubbish before, empty messages and a shared flag between.
fn stream() -> Vec<u8> {
    let mut stream = b"rubbish".to_vec();
    for serial in [0x7e, 0x7d] {
        stream.extend(wire(0x0200, 0, &PHONE, serial, &location(1, 3)));
    }
    stream.extend([0x7e, 0x7e]);
    stream.extend(&wire(0x0200, 0, &PHONE, 3, &location(0, 3))[1..]);
    let mut batch = vec![0, 1, 1, 0, 28];
    batch.extend(location(0, 2));
    stream.extend(&wire(0x0704, 0, &PHONE, 4, &batch)[1..]);
    stream.extend(b"(1234567890,text)");
    stream
}

fn reports(results: Vec<Result<Message, Reject>>) -> Vec<Report> {
    let messages = results.into_iter().filter_map(Result::ok);
    messages.flat_map(|message| message.reports).collect()
}

#[test]
fn any_cut_of_a_stream_into_two_gives_the_same_reports() {
    let stream = stream();
    let whole = reports(read(&mut session(), &stream));
    assert_eq!(whole.len(), 4);
    for cut in 0..=stream.len() {
        assert_eq!(
            reports(read_in_chunks(&stream, cut.max(1))),
            whole,
            "chunks of {cut}"
        );
        let mut session = session();
        let mut unread = stream[..cut].to_vec();
        let mut results = drain(&mut session, &mut unread);
        unread.extend(&stream[cut..]);
        results.extend(drain(&mut session, &mut unread));
        assert_eq!(reports(results), whole, "cut at {cut}");
    }
}

/// Feeds a stream as a socket does, in pieces of one size.
fn read_in_chunks(stream: &[u8], chunk_bytes: usize) -> Vec<Result<Message, Reject>> {
    let mut session = session();
    let mut unread = Vec::new();
    let mut results = Vec::new();
    for chunk in stream.chunks(chunk_bytes) {
        unread.extend(chunk);
        results.extend(drain(&mut session, &mut unread));
    }
    results
}

fn drain(session: &mut Session, unread: &mut Vec<u8>) -> Vec<Result<Message, Reject>> {
    testing::drain(session, unread, NOW)
}

#[test]
fn any_truncation_of_a_message_is_refused_or_waits() {
    let whole = wire(0x0200, 0, &PHONE, 0, &location(1, 3));
    for len in 0..whole.len() {
        assert!(reports(read(&mut session(), &whole[..len])).is_empty());
        let closed = [&whole[..len], &[0x7e]].concat();
        let expected = usize::from(len == whole.len() - 1);
        assert_eq!(
            reports(read(&mut session(), &closed)).len(),
            expected,
            "cut at {len}"
        );
    }
}

/// A location with these items behind it.
fn with_items(items: &[u8]) -> Report {
    let body = [&location(0, 3)[..], items].concat();
    let wire = wire(0x0200, 0, &PHONE, 0, &body);
    read_one(&mut session(), &wire).unwrap().reports.remove(0)
}

fn stated(attributes: &[Attribute], name: &str) -> Option<Value> {
    let attribute = attributes.iter().find(|a| a.key.name() == name)?;
    Some(attribute.value.clone())
}

#[test]
fn items_of_the_standard_keep_their_units() {
    let mut items = vec![0x02, 2, 0x80, 75, 0x03, 2, 0x01, 0x68, 0x06, 2, 0x80, 5];
    items.extend([0x12, 6, 1, 0, 0, 0, 7, 1, 0x05, 30, 24, 0xff, 25]);
    items.extend([0xff; 27]);
    let attributes = with_items(&items).attributes;
    let stated = |name| stated(&attributes, name);
    assert_eq!(stated("fuel_percent"), Some(Value::Int(75)));
    // 36 km/h.
    assert_eq!(stated("tachograph_speed_mps"), Some(Value::Float(10.0)));
    assert_eq!(stated("temperature_c"), Some(Value::Int(-5)));
    assert_eq!(stated("area"), Some(Value::Text("7".into())));
    let pressures = Some(Value::Text("1:24 3:25".into()));
    assert_eq!(stated("tyre_pressures"), pressures, "ff is no tyre");
}

/// A message of a thousand bytes took more than 64 KiB, as an item of 32 bytes became thirty attributes, again and
/// again.
#[test]
fn the_pressures_of_all_tyres_are_one_attribute() {
    let item = [&[0x05, 30][..], &[24; 30]].concat();
    let once = with_items(&item).attributes.len();
    let often = with_items(&item.repeat(31)).attributes.len();
    assert_eq!(often - once, 30);
}

#[test]
fn items_of_vendors_are_read_where_their_length_says_which_they_are() {
    let report = with_items(&[
        0xe4, 2, 0, 56, 0xe5, 1, 1, 0x69, 2, 0x01, 0x93, 0xd3, 2, 0x00, 0x7b, 0x51, 2, 0x80, 15,
        0x57, 8, 0x05, 0, 0, 0, 0, 0, 0, 0, 0xe5, 3, 1, 2, 3,
    ]);
    let stated = |name| stated(&report.attributes, name);
    assert_eq!(stated("battery_percent"), Some(Value::Int(56)));
    assert_eq!(stated("charging"), Some(Value::Bool(true)));
    assert_eq!(stated("motion"), Some(Value::Bool(true)));
    assert_eq!(stated("battery_v"), Some(Value::Float(4.03)));
    assert_eq!(stated("power_v"), Some(Value::Float(12.3)));
    assert_eq!(stated("temperature_c"), Some(Value::Float(-1.5)));
    assert_eq!(stated("item_e5"), Some(Value::Text("010203".into())));
    let harsh = [AlarmKind::HarshAcceleration, AlarmKind::HarshCornering];
    assert_eq!(report.momentary, harsh.into_iter().collect());
}

#[test]
fn a_list_within_an_item_ends_at_its_cut() {
    // Battery 3.9 V; the alarm words with bit 12 and bit 6 at 0; then an item that is cut.
    let mut nested = vec![0, 4, 0x00, 0x2d, 0x0f, 0x3c];
    nested.extend([0, 6, 0x00, 0x89, 0xff, 0xff, 0xef, 0xff]);
    nested.extend([0, 6, 0x00, 0xc5, 0xff, 0xff, 0xff, 0xbf, 0, 9, 0]);
    let items = [&[0xeb, nested.len() as u8], &nested[..]].concat();
    let report = with_items(&items);
    assert_eq!(
        stated(&report.attributes, "battery_v"),
        Some(Value::Float(3.9))
    );
    let held = [AlarmKind::Tampering, AlarmKind::Vibration];
    assert_eq!(report.held, held.into_iter().collect());
}

#[test]
fn items_after_80_are_those_of_the_engine() {
    let items = [
        0x82, 2, 0, 0x85, 0x80, 1, 0, 0x81, 2, 0x05, 0xdc, 0x84, 1, 130, 0x80, 1, 36,
    ];
    let attributes = with_items(&items).attributes;
    assert_eq!(stated(&attributes, "power_v"), Some(Value::Float(13.3)));
    assert_eq!(stated(&attributes, "engine_rpm"), Some(Value::Int(1500)));
    assert_eq!(stated(&attributes, "coolant_c"), Some(Value::Int(90)));
    let speed = stated(&attributes, "tachograph_speed_mps");
    assert_eq!(speed, Some(Value::Float(10.0)), "36 km/h");
}

#[test]
fn a_tail_of_20_bytes_is_no_list() {
    let mut tail = [0; 20];
    (tail[7], tail[9], tail[14]) = (13, 37, 25);
    let attributes = with_items(&tail).attributes;
    assert_eq!(stated(&attributes, "odometer_m"), Some(Value::Int(13_000)));
    assert_eq!(stated(&attributes, "battery_v"), Some(Value::Float(3.7)));
    assert_eq!(stated(&attributes, "signal"), Some(Value::Int(25)));
}

/// The place of [`location`], as status, latitude and longitude.
fn place() -> Vec<u8> {
    let words = [0b10_u32, 31_230_400, 121_473_700];
    words.into_iter().flat_map(u32::to_be_bytes).collect()
}

#[test]
fn transparent_messages_may_hold_a_place() {
    let time = [0x26, 0x06, 0x15, 0x18, 0x00, 0x00];
    let motion = [0, 12, 0x01, 0x68, 0, 90];
    // One value of the vehicle; one fault code; one alarm.
    let value = [
        &[0xf0],
        &time[..],
        &[0, 1, 1, 1, 0x05, 0x36, 2, 3, 0xe8],
        &place(),
    ]
    .concat();
    let mut codes = [&[0xf0], &time[..], &[1, 1, 2, 0, 1, 0, 0, 0, 9, 0, 1]].concat();
    codes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 5]);
    codes.extend(b"P0301");
    codes.extend(place());
    let alarm = [&[0xf0], &time[..], &[0, 1, 3, 1, 0x1b, 1, 0], &place()].concat();
    let collision = [&[0xff], &time[..], &place()[4..], &motion].concat();
    let tags = [&[0x53], &place()[..], &motion, &time, &[1]].concat();
    for body in [&value, &codes, &alarm, &collision, &tags] {
        let message = read_one(&mut session(), &wire(0x0900, 0, &PHONE, 0, body)).unwrap();
        let [report] = &message.reports[..] else {
            panic!("one report of {body:x?}");
        };
        let fix = &report.fix;
        assert_eq!((fix.lat_e7, fix.lon_e7), (312_304_000, 1_214_737_000));
        assert_eq!(fix.time(), Some(NOW.wall_ms));
        assert!(fix.fields.has(FixFields::VALID));
        assert_eq!(report.backlog, body[7] == 1 && body[0] == 0xf0);
        assert_eq!(result_of(&message.answer_when_safe), 0);
        for len in 0..body.len() {
            let cut = wire(0x0900, 0, &PHONE, 0, &body[..len]);
            assert!(read_one(&mut session(), &cut).is_ok(), "cut at {len}");
        }
    }
    let message = read_one(&mut session(), &wire(0x0900, 0, &PHONE, 0, &codes)).unwrap();
    let codes = stated(&message.reports[0].attributes, "fault_codes");
    assert_eq!(codes, Some(Value::Text("P0301".into())));
    let message = read_one(&mut session(), &wire(0x0900, 0, &PHONE, 0, &alarm)).unwrap();
    assert_eq!(message.reports[0].momentary, AlarmKind::HarshBraking.into());
}

/// A collision that a vehicle told as an event was answered as done and passed on to nobody, as it has no place.
#[test]
fn an_event_of_a_vehicle_is_an_alarm_without_a_place() {
    let time = [0x26, 0x06, 0x15, 0x18, 0x00, 0x00];
    let event = [&[0xf0], &time[..], &[0, 1, 0x15, 0, 0, 0, 56]].concat();
    let message = read_one(&mut session(), &wire(0x0900, 0, &PHONE, 0, &event)).unwrap();
    let report = &message.reports[0];
    assert_eq!(report.momentary, AlarmKind::Collision.into());
    assert_eq!(report.fix.time(), Some(NOW.wall_ms));
    assert!(!report.fix.fields.has(FixFields::POSITION));
    assert_eq!(result_of(&message.answer_when_safe), 0);
}

#[test]
fn messages_without_a_place_give_attributes_of_the_message() {
    let said = |id: u16, body: &[u8]| {
        let message = read_one(&mut session(), &wire(id, 0, &PHONE, 0, body)).unwrap();
        assert_eq!((result_of(&message.answer_now), message.refused), (0, None));
        message.attributes
    };
    let heartbeat = said(0x0002, &[80, 25, 1]);
    assert_eq!(stated(&heartbeat, "battery_percent"), Some(Value::Int(80)));
    let text = |text: &str| Some(Value::Text(text.into()));
    let result = said(0x0701, &[&[0, 0, 0, 2][..], b"OK"].concat());
    assert_eq!(stated(&result, "result"), text("OK"));
    let result = said(0x1300, &[0, 1, 0, b'O', 0, b'K']);
    assert_eq!(stated(&result, "result"), text("OK"));
    let mut card = vec![1, 0x26, 0x06, 0x15, 0x18, 0, 0, 0, 3];
    card.extend(b"ANN");
    card.extend(b"CARD-7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02HQ");
    card.extend([0x20, 0x27, 0x01, 0x31]);
    let card = said(0x0702, &card);
    assert_eq!(stated(&card, "driver_name"), text("ANN"));
    assert_eq!(stated(&card, "driver_id"), text("CARD-7"));
    assert_eq!(stated(&card, "card_valid_until"), text("20270131"));
    let mut properties = vec![0, 1];
    properties.extend(b"MAKERMODEL-1\0\0\0\0\0\0\0\0\0\0\0\0\0TERM001");
    properties.extend([0x89, 0x86, 0, 0, 0, 0, 0, 0, 0, 0x01, 2]);
    properties.extend(b"H1\x02F2");
    let properties = said(0x0107, &properties);
    assert_eq!(stated(&properties, "model"), text("MODEL-1"));
    assert_eq!(stated(&properties, "iccid"), text("89860000000000000001"));
    assert_eq!(stated(&properties, "firmware"), text("F2"));
}

#[test]
fn a_short_header_is_answered_in_kind_if_its_sender_waits() {
    // 15 June 2026, 12:00:00; 48 07.0380 N, 011 31.0000 E, fixed.
    let mut body = vec![
        0x15, 0x06, 0x26, 0x12, 0, 0, 0x48, 0x07, 0x03, 0x80, 0x01, 0x13, 0x10,
    ];
    body.extend([0x00, 0b0111, 0, 42, 20, 9, 0, 0, 0, 12, 85]);
    for (properties, answered) in [(0, false), (1 << 15, true)] {
        let mut content = vec![0x55, 0x01];
        content.extend((properties | body.len() as u16).to_be_bytes());
        content.extend(PHONE);
        content.push(7);
        content.extend(&body);
        content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
        let message = session().decode(&content, NOW).unwrap();
        let [report] = &message.reports[..] else {
            panic!("one report");
        };
        assert_eq!(
            (report.fix.lat_e7, report.fix.lon_e7),
            (481_173_000, 115_166_667)
        );
        assert_eq!(
            stated(&report.attributes, "odometer_m"),
            Some(Value::Int(12_000))
        );
        // By hand: id 4401, three bytes, the phone, serial of one byte; id of what is answered, done; the check.
        let expected = unhex("7e440100030139123456780155010013");
        assert_eq!(message.answer_when_safe.is_empty(), !answered);
        if answered {
            let answer = &message.answer_when_safe;
            assert_eq!(answer[..answer.len() - 2], expected[..expected.len() - 1]);
            let sum = answer[1..answer.len() - 1]
                .iter()
                .fold(0, |sum, byte| sum ^ byte);
            assert_eq!(sum, 0, "the check");
        }
    }
}

#[test]
fn one_vendor_has_flags_and_escapes_of_its_own() {
    // A heartbeat with a phone number of seven bytes and the serial number 3de7, in both directions; checks by hand.
    let heartbeat = unhex("e700020000013912345678043e02e602ece7");
    let mut session = session();
    let stream = [&heartbeat[..], &heartbeat].concat();
    for message in read(&mut session, &stream) {
        let message = message.unwrap();
        assert_eq!(message.device.unwrap().as_str(), "1391234567804");
        let answer = &message.answer_now;
        assert_eq!(answer[..12], unhex("e78001000501391234567804")[..]);
        assert_eq!(
            answer[14..21],
            unhex("3e02e602000200")[..],
            "the serial number, escaped"
        );
        assert_eq!(answer.last(), Some(&0xe7));
    }
    // The same flag in rubbish does not hide what follows.
    let plain = unhex("7e000200000139123456780007357e");
    let rubbish = [&[0xe7, 0x55, 0x01][..], &plain].concat();
    assert_eq!(
        read(&mut session, &rubbish)[1].as_ref().unwrap().kind,
        "heartbeat"
    );
}
