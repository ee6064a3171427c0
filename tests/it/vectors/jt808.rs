//! JT/T 808 field by field, against two independent readers.

use std::collections::BTreeMap;

use ringway::frame::rfc3339_ms;
use ringway::protocol::{Message, Protocol, Reject, Report, Session, Split};
use serde_json::Value as Json;

use super::data::{data, feed, is_at, is_then, json_lines, payload, recorded, reports, unhex};

#[test]
fn jt808_location_words_and_answers_agree_with_an_independent_reader() {
    let Some(text) = data("traccar/jt808.jsonl", "70 vectors") else {
        return;
    };
    let mut compared = 0;
    for vector in json_lines(&text) {
        let derived = &vector["derived"];
        if derived["checksum_ok"] != true || derived["length_ok"] != true {
            continue;
        }
        let id = &vector["id"];
        let results = feed(
            &mut Session::new(Protocol::Jt808, &recorded(None)),
            &payload(&vector),
            usize::MAX,
        );
        let [Ok(message)] = &results[..] else {
            panic!("{id}: {results:?}");
        };
        check_device(id, message, derived["phone_bcd"].as_str().unwrap());
        let one = derived.get("location").into_iter();
        let many = derived["locations"].as_array().into_iter().flatten();
        let locations: Vec<_> = one.chain(many).collect();
        for (report, location) in message.reports.iter().zip(&locations) {
            check_location(id, report, location);
            compared += 1;
        }
        if !locations.is_empty() {
            assert_eq!(message.reports.len(), locations.len(), "{id}");
            check_general_response(id, &message.answer_when_safe, derived);
        }
    }
    assert!(compared > 50, "only {compared} locations");
}

/// The device is the phone number without padding, or an IMEI if it is not decimal.
fn check_device(id: &Json, message: &Message, phone_bcd: &str) {
    let device = message.device.map(|device| device.to_string());
    let digits = phone_bcd.trim_start_matches('0');
    if digits.bytes().all(|digit| digit.is_ascii_digit()) {
        assert_eq!(device.unwrap_or_default(), digits, "{id}");
    } else {
        let number = u64::from_str_radix(phone_bcd, 16).unwrap();
        let device = device.unwrap();
        assert_eq!(device.len(), 15, "{id}");
        assert_eq!(device[..14].parse(), Ok(number), "{id}");
    }
}

fn check_location(id: &Json, report: &Report, location: &Json) {
    let word = |name: &str| {
        let attribute = report.attributes.iter().find(|a| a.key.name() == name);
        format!("{:?}", attribute.map(|attribute| &attribute.value))
    };
    let stated = |name: &str| {
        let digits = location[name].as_str().unwrap();
        let value = i64::from_str_radix(digits, 16).unwrap();
        format!("{:?}", Some(ringway::frame::Value::Int(value)))
    };
    assert_eq!(word("alarm_word"), stated("alarm_bits"), "{id}");
    assert_eq!(word("status_word"), stated("status_bits"), "{id}");
    let fix = &report.fix;
    assert!(is_at(fix, location), "{id}");
    let speed_kmh = fix.speed_mps().unwrap() * 3.6;
    let near = |ours: f64, name: &str, tolerance: f64| {
        let theirs = location[name].as_f64().unwrap();
        assert!(
            (ours - theirs).abs() <= tolerance,
            "{id}: {name} {ours} {theirs}"
        );
    };
    near(speed_kmh, "speed_kmh", 0.01);
    near(fix.course_deg().unwrap(), "course_deg", 0.0);
    near(fix.altitude_m().unwrap(), "altitude_m", 0.0);
    assert!(is_then(fix, &location["time_if_gmt8"]), "{id}");
}

/// `8001`, with the serial number and id of the message, and "done".
fn check_general_response(id: &Json, answer: &[u8], derived: &Json) {
    let content = unescape(&answer[1..answer.len() - 1]);
    assert_eq!(content[..2], [0x80, 0x01], "{id}");
    let body = &content[content.len() - 6..content.len() - 1];
    let serial = derived["serial"].as_u64().unwrap() as u16;
    let message_id = unhex(derived["message_id"].as_str().unwrap());
    assert_eq!(body[..2], serial.to_be_bytes(), "{id}");
    assert_eq!(body[2..4], message_id, "{id}");
    assert_eq!(body[4], 0, "{id}");
    let sum = content.iter().fold(0, |sum, byte| sum ^ byte);
    assert_eq!(sum, 0, "{id}: the check of our answer");
}

fn unescape(bytes: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), bytes.iter());
    while let Some(&byte) = rest.next() {
        match byte {
            0x7d => plain.push(*rest.next().unwrap() + 0x7c),
            byte => plain.push(byte),
        }
    }
    plain
}

#[test]
fn jt808_frames_are_cut_out_of_their_stream() {
    let Some(text) = data("traccar/jt808.jsonl", "2 vectors") else {
        return;
    };
    let vectors = json_lines(&text);
    let frames: Vec<_> = vectors.iter().filter(|v| v["layer"] == "frame").collect();
    assert!(!frames.is_empty());
    for vector in frames {
        let bytes = payload(vector);
        let mut session = Session::new(Protocol::Jt808, &recorded(None));
        let Split::Message { range, .. } = session.split(&bytes) else {
            panic!("{}", vector["id"]);
        };
        let expected = unhex(vector["expect"]["frame"].as_str().unwrap());
        // The expected frame has its flags, but not its escapes.
        let inner = match expected.first() {
            Some(0x7e) => &expected[1..expected.len() - 1],
            _ => &expected[..],
        };
        assert_eq!(unescape(&bytes[range]), inner, "{}", vector["id"]);
    }
}

/// Bodies of the second set that our reader looks into. The others are answers to commands that we do not send, the
/// server's own messages, the memory of a tachograph, driver cards and recordings.
const BODIES_READ: &[&str] = &["0200", "0801"];

#[test]
fn jt808_frames_and_bodies_of_a_second_implementation_agree() {
    let Some(text) = data("jt808/jt808_second.jsonl", "92 vectors") else {
        return;
    };
    let (mut wires, mut bodies, mut left_out) = (0, 0, BTreeMap::new());
    for vector in json_lines(&text) {
        let fields = &vector["expect"]["fields"];
        if vector["layer"] == "wire" {
            wires += 1;
            check_second_wire(&vector, fields);
            continue;
        }
        let message_id = vector["message_id"].as_str().unwrap();
        if !BODIES_READ.contains(&message_id) {
            *left_out.entry(message_id.to_owned()).or_insert(0) += 1;
            continue;
        }
        bodies += 1;
        let report = report_of_body(message_id, &unhex(vector["payload"].as_str().unwrap()));
        check_fields(&vector["id"], &report, fields);
    }
    assert!(wires >= 40 && bodies >= 4, "{wires} wires, {bodies} bodies");
    eprintln!("bodies left out by message id: {left_out:?}");
}

fn check_second_wire(vector: &Json, fields: &Json) {
    let (id, derived) = (&vector["id"], &vector["derived"]);
    let mut session = Session::new(Protocol::Jt808, &recorded(None));
    let results = feed(&mut session, &payload(vector), usize::MAX);
    let [result] = &results[..] else {
        panic!("{id}: {results:?}");
    };
    if derived["checksum_ok"] == false {
        // Digits were blanked.
        assert_eq!(*result, Err(Reject::Checksum), "{id}");
        return;
    }
    let message = result.as_ref().unwrap_or_else(|e| panic!("{id}: {e}"));
    check_device(id, message, derived["phone_bcd"].as_str().unwrap());
    // The fields that 117 states are those of another frame: its bytes hold another phone number.
    let stated = fields["Header.TerminalPhoneNo"].as_str();
    if let Some(phone) = stated.filter(|_| id != "jt808_cs/117") {
        assert_eq!(message.device.unwrap().as_str(), phone, "{id}");
    }
    if let Some(serial) = fields["Header.MsgNum"].as_u64() {
        let answer = [&message.answer_now[..], &message.answer_when_safe].concat();
        let content = unescape(&answer[1..answer.len() - 1]);
        let serial = (serial as u16).to_be_bytes();
        assert!(content.windows(2).any(|bytes| bytes == serial), "{id}");
    }
    if let Some(location) = derived.get("location") {
        check_location(id, &message.reports[0], location);
    }
    if derived["multi_packet"] == true {
        // Parts of a recording (1205), which is not kept.
        assert_eq!(message.refused, Some(Reject::Part), "{id}");
    }
}

/// Puts a header of our own around a body.
fn report_of_body(message_id: &str, body: &[u8]) -> Report {
    let mut content = unhex(message_id);
    content.extend((body.len() as u16).to_be_bytes());
    content.extend([1, 2, 3, 4, 5, 6, 0, 0]);
    content.extend(body);
    content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
    let mut wire = vec![0x7e];
    for byte in content {
        match byte {
            0x7d | 0x7e => wire.extend([0x7d, byte - 0x7c]),
            byte => wire.push(byte),
        }
    }
    wire.push(0x7e);
    let mut session = Session::new(Protocol::Jt808, &recorded(None));
    let mut reports = reports(&feed(&mut session, &wire, usize::MAX));
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

fn check_fields(id: &Json, report: &Report, fields: &Json) {
    let field = |name: &str| {
        let direct = fields.get(name);
        direct.or_else(|| fields.get(format!("Position.{name}")))
    };
    let number = |name: &str| field(name).and_then(Json::as_i64);
    let stated = |name: &str| {
        let attribute = report.attributes.iter().find(|a| a.key.name() == name);
        attribute.map(|attribute| match attribute.value {
            ringway::frame::Value::Int(value) => value as f64,
            ringway::frame::Value::Float(value) => value,
            _ => panic!("{id}: {name} is no number"),
        })
    };
    let fix = &report.fix;
    let ours = [
        ("Lat", Some(f64::from(fix.lat_e7) / 10.0)),
        ("Lng", Some(f64::from(fix.lon_e7) / 10.0)),
        // 0.1 km/h.
        ("Speed", fix.speed_mps().map(|speed| (speed * 36.0).round())),
        ("Altitude", fix.altitude_m()),
        ("Direction", fix.course_deg()),
        ("AlarmFlag", stated("alarm_word")),
        ("StatusFlag", stated("status_word")),
        // 0.1 km and 0.1 l.
        ("item_01.Mileage", stated("odometer_m").map(|m| m / 100.0)),
        ("item_02.Oil", stated("fuel_l").map(|l| (l * 10.0).round())),
    ];
    for (name, ours) in ours {
        if let Some(theirs) = number(name) {
            assert_eq!(ours, Some(theirs as f64), "{id}: {name}");
        }
    }
    if let Some(local) = field("GPSTime").and_then(|time| time["local_time"].as_str()) {
        let local_ms = fix.time().unwrap() + 8 * 3_600_000;
        assert_eq!(rfc3339_ms(local_ms)[..19], local.replace(' ', "T"), "{id}");
    }
}
