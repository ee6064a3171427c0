use super::*;
use crate::frame::{AlarmKind, Attribute, Fix, TimeSource, Value, rfc3339_ms};

/// 2026-06-15T12:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_524_800_000,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn session() -> Session {
    Session::new(&Settings::default())
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: tracker.example\r\n\r\n")
}

fn post(fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST / HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

fn post_json(body: &str) -> String {
    post("Content-Type: application/json; charset=utf-8\r\n", body)
}

/// Feeds `stream` in pieces; gives the messages, and whether all bytes were read.
fn feed(stream: &[u8], chunk_bytes: usize) -> (Vec<Message>, bool) {
    let mut session = session();
    let (mut unread, mut messages) = (Vec::new(), Vec::new());
    for chunk in stream.chunks(chunk_bytes) {
        unread.extend(chunk);
        loop {
            match session.split(&unread) {
                Split::Message { range, consumed } => {
                    messages.extend(session.decode(&unread[range], NOW));
                    unread.drain(..consumed);
                }
                Split::Rubbish { consumed, .. } => drop(unread.drain(..consumed)),
                Split::Incomplete => break,
            }
        }
    }
    (messages, !session.is_part(&unread))
}

fn one(request: &str) -> Message {
    let (mut messages, all) = feed(request.as_bytes(), usize::MAX);
    assert!(all && messages.len() == 1, "{request}");
    messages.remove(0)
}

fn fix(request: &str) -> Fix {
    one(request).reports[0].fix
}

fn status(message: &Message) -> String {
    let answer = String::from_utf8(message.answer_now.clone()).unwrap();
    answer
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

fn said(attributes: &[Attribute], name: &str) -> Option<Value> {
    let attribute = attributes.iter().find(|a| a.key.name() == name);
    attribute.map(|a| a.value.clone())
}

#[test]
fn a_query_is_a_report_that_is_answered_when_it_is_safe() {
    let message = one(&get(
        "/?id=864000000000017&timestamp=1781524799&lat=48.1173&lon=-11.5166667&speed=22.4&bearing=84.4\
         &altitude=545.4&accuracy=12&batt=81.5&charge=true&hdop=0.9&driverUniqueId=D7",
    ));
    assert_eq!(message.device, DeviceId::new(b"864000000000017"));
    assert_eq!(
        (message.answer_now.len(), message.answer_when_safe),
        (0, OK.as_bytes().to_vec())
    );
    let report = &message.reports[0];
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (481_173_000, -115_166_667));
    assert_eq!((fix.speed_mm_s, fix.course_cdeg), (11_524, 8440), "knots");
    assert_eq!((fix.altitude_mm, fix.accuracy_mm), (545_400, 12_000));
    assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T11:59:59.000Z");
    assert!(fix.fields.has(FixFields::VALID));
    let expected = [
        ("battery_percent", Value::Float(81.5)),
        ("charging", Value::Bool(true)),
        ("hdop", Value::Float(0.9)),
        ("driver_id", Value::Text("D7".to_owned())),
    ];
    for (name, value) in expected {
        assert_eq!(said(&report.attributes, name), Some(value), "{name}");
    }
}

#[test]
fn times_come_as_seconds_milliseconds_or_text_or_not_at_all() {
    for time in [
        "1781524799",
        "1781524799000",
        "2026-06-15T11:59:59Z",
        "2026-06-15T13:59:59%2B02:00",
        "2026-06-15%2011:59:59",
        "2026-06-15+11:59:59",
        "2026-06-15 11:59:59",
    ] {
        let fix = fix(&get(&format!("/?id=1&lat=1&lon=2&timestamp={time}")));
        assert_eq!(
            rfc3339_ms(fix.time_ms),
            "2026-06-15T11:59:59.000Z",
            "{time}"
        );
    }
    let fix = fix(&get("/?id=1&lat=1&lon=2"));
    assert_eq!(
        (fix.time_ms, fix.time_source),
        (NOW.wall_ms, TimeSource::Arrival)
    );
    let message = one(&get("/?id=1&lat=1&lon=2&timestamp=yesterday"));
    assert_eq!(
        (status(&message).as_str(), message.refused),
        ("400", Some(Reject::Field))
    );
}

#[test]
fn parameters_come_in_a_query_or_in_a_form() {
    let in_query = fix(&get(
        "/any/path?deviceid=1&location=48.1173,11.5&timestamp=1781524799#x",
    ));
    let form = "deviceid=1&location=48.1173,11.5&timestamp=1781524799";
    let in_form = fix(&post(
        "Content-Type: application/x-www-form-urlencoded\r\n",
        form,
    ));
    assert_eq!(in_query, in_form);
    assert_eq!(in_query.lat_e7, 481_173_000);
}

#[test]
fn numbers_with_an_exponent_are_read_and_unknown_ones_left_out() {
    let fix = fix(&get(
        "/?id=1&lat=4.81173E1&lon=2&speed=5.0E-1&bearing=-1&altitude=&accuracy=NaN",
    ));
    assert_eq!(
        (fix.lat_e7, fix.speed_mm_s),
        (481_173_000, 257),
        "half a knot"
    );
    for field in [FixFields::COURSE, FixFields::ALTITUDE, FixFields::ACCURACY] {
        assert!(!fix.fields.has(field));
    }
}

#[test]
fn a_client_can_say_that_its_position_is_not_valid() {
    let valid = |value| {
        let fix = fix(&get(&format!("/?id=1&lat=1&lon=2&valid={value}")));
        fix.fields.has(FixFields::VALID)
    };
    assert!(valid("true") && valid("1") && !valid("false") && !valid("0"));
}

#[test]
fn cells_and_access_points_are_attributes_of_a_message_that_is_answered_at_once() {
    let message = one(&get(
        "/?id=1&cell=262,01,17,4711&cell=262,01,17,4712,-91&wifi=02-00-5E-10-00-01,-70&mood=good&level=7",
    ));
    assert_eq!(
        (message.reports.len(), status(&message).as_str()),
        (0, "200")
    );
    let text = |name| said(&message.attributes, name);
    let expected = [
        (
            "cells",
            Value::Text("262-1-17-4711 262-1-17-4712".to_owned()),
        ),
        ("wifi", Value::Text("02:00:5e:10:00:01,-70".to_owned())),
        ("mood", Value::Text("good".to_owned())),
        ("level", Value::Int(7)),
    ];
    for (name, value) in expected {
        assert_eq!(text(name), Some(value), "{name}");
    }
}

#[test]
fn an_alarm_is_held_until_it_is_safe_even_without_a_position() {
    let message = one(&get("/?id=1&alarm=sos,inventedHere"));
    let report = &message.reports[0];
    assert!(report.momentary.contains(AlarmKind::Sos));
    assert!(report.momentary.contains(AlarmKind::Unspecified));
    assert_eq!(
        said(&report.attributes, "alarm"),
        Some(Value::Text("inventedHere".to_owned()))
    );
    assert!(!report.fix.fields.has(FixFields::POSITION));
    assert_eq!(
        (message.answer_now.len(), message.answer_when_safe),
        (0, OK.as_bytes().to_vec())
    );
}

const JSON: &str = r#"{"device_id": "unit-7", "location": {"timestamp": "2026-06-15T11:59:59.250Z",
    "coords": {"latitude": 48.1173, "longitude": -11.5, "accuracy": 4.5, "speed": 11.5, "heading": 84.4,
    "altitude": 545.4, "floor": null}, "is_moving": true, "odometer": 1234.4, "event": "motionchange",
    "battery": {"level": 0.5, "is_charging": false}, "activity": {"type": "in_vehicle"}, "uuid": "x",
    "extras": {"shift": 2, "alarm": "sos", "deep": [1, {"a": 2}]}}}"#;

#[test]
fn json_is_a_report_in_metres_per_second() {
    let message = one(&post_json(JSON));
    assert_eq!(message.device, DeviceId::new(b"unit-7"));
    let report = &message.reports[0];
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (481_173_000, -115_000_000));
    assert_eq!((fix.speed_mm_s, fix.course_cdeg), (11_500, 8440));
    assert_eq!((fix.altitude_mm, fix.accuracy_mm), (545_400, 4500));
    assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T11:59:59.250Z");
    assert!(report.momentary.contains(AlarmKind::Sos));
    let expected = [
        ("battery_percent", Value::Int(50)),
        ("charging", Value::Bool(false)),
        ("motion", Value::Bool(true)),
        ("odometer_m", Value::Int(1234)),
        ("event", Value::Text("motionchange".to_owned())),
        ("activity", Value::Text("in_vehicle".to_owned())),
        ("shift", Value::Int(2)),
    ];
    for (name, value) in expected {
        assert_eq!(said(&report.attributes, name), Some(value), "{name}");
    }
    assert_eq!(message.answer_when_safe, OK.as_bytes());
}

#[test]
fn less_than_nothing_in_json_is_unknown() {
    let message = one(&post_json(
        r#"{"device_id":7,"location":{"timestamp":"2026-06-15T11:59:59Z","extras":[],"coords":{"latitude":1,
        "longitude":2,"speed":-1,"heading":-1,"accuracy":-1},"battery":{"level":-1,"is_charging":true}}}"#,
    ));
    let report = &message.reports[0];
    assert_eq!(message.device, DeviceId::new(b"7"));
    let stated = FixFields::POSITION | FixFields::TIME | FixFields::VALID;
    assert_eq!(report.fix.fields, FixFields(stated));
    assert_eq!(said(&report.attributes, "battery_percent"), None);
    assert_eq!(
        said(&report.attributes, "charging"),
        Some(Value::Bool(true))
    );
}

#[test]
fn what_cannot_be_read_is_answered_at_once_by_its_status() {
    let deep = "[".repeat(4000);
    let cases = [
        (get("/?lat=1&lon=2"), "400", Reject::Device),
        (get("/?id=a%20b&lat=1&lon=2"), "400", Reject::Device),
        (get("/?id=1&id=2&lat=1&lon=2"), "400", Reject::Device),
        (get("/"), "400", Reject::Device),
        (get("/?id=1&lat=91&lon=2"), "400", Reject::Field),
        (get("/?id=1&lat=north&lon=2"), "400", Reject::Field),
        (post_json("{\"device_id\":\"1\"}"), "400", Reject::Field),
        (post_json("{\"location\":{}}"), "400", Reject::Device),
        (
            post_json(&format!("{{\"location\":{deep}")),
            "400",
            Reject::Field,
        ),
        (
            get("/?id=1").replace("GET", "HEAD"),
            "405",
            Reject::UnknownKind,
        ),
        (
            get("/?id=1").replace("GET", "DELETE"),
            "405",
            Reject::UnknownKind,
        ),
        (
            post("Content-Encoding: gzip\r\n", "x"),
            "415",
            Reject::UnknownKind,
        ),
        (
            post("Transfer-Encoding: chunked\r\n", ""),
            "400",
            Reject::Length,
        ),
        (
            get("/?id=1").replace("\r\n\r\n", "\r\nTransfer-Encoding: gzip\r\n\r\n"),
            "501",
            Reject::UnknownKind,
        ),
        (post("Content-Length: 7\r\n", ""), "400", Reject::Length),
        (
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "400",
            Reject::Length,
        ),
    ];
    for (request, expected, reject) in cases {
        let message = one(&request);
        assert_eq!(
            (status(&message).as_str(), message.refused),
            (expected, Some(reject)),
            "{request}"
        );
        assert!(message.reports.is_empty() && message.answer_when_safe.is_empty());
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_by_its_head_and_passed_over() {
    let body = format!(
        "{}{}",
        get("/?id=1&lat=1&lon=2"),
        "x".repeat(BODY_BYTES_MAX)
    );
    let stream = [post("", &body), get("/?id=2&lat=3&lon=4")].concat();
    for chunk_bytes in [1, 100, usize::MAX] {
        let (messages, all) = feed(stream.as_bytes(), chunk_bytes);
        assert!(all);
        let [refused, accepted] = &messages[..] else {
            panic!("two messages");
        };
        assert_eq!(
            (status(refused).as_str(), refused.refused),
            ("413", Some(Reject::TooLong))
        );
        assert_eq!(accepted.device, DeviceId::new(b"2"));
    }
}

#[test]
fn the_answer_says_whether_the_connection_goes_on() {
    let answer = |fields: &str, version: &str| {
        let request = format!("GET /?id=1&lat=1&lon=2 HTTP/{version}\r\n{fields}\r\n");
        String::from_utf8(one(&request).answer_when_safe).unwrap()
    };
    assert_eq!(answer("", "1.1"), OK);
    assert!(answer("Connection: close\r\n", "1.1").contains("\r\nConnection: close\r\n\r\n"));
    assert!(answer("", "1.0").contains("\r\nConnection: close\r\n\r\n"));
    let kept = answer("Connection: Keep-Alive, x\r\n", "1.0");
    assert!(kept.contains("\r\nConnection: keep-alive\r\n\r\n"));
}

#[test]
fn requests_in_a_row_are_read_however_they_are_cut() {
    let stream = [
        get("/?id=1&lat=1&lon=2&timestamp=1781524799"),
        "\r\n\n".to_owned(),
        post_json(JSON),
        post("", "id=3&lat=1&lon=2&timestamp=1781524799"),
        // Lines may end with LF alone.
        "GET /?id=4&lat=1&lon=2&timestamp=1781524799 HTTP/1.1\n\n".to_owned(),
    ]
    .concat();
    let (whole, _) = feed(stream.as_bytes(), usize::MAX);
    let devices: Vec<_> = whole
        .iter()
        .map(|m| m.device.unwrap().to_string())
        .collect();
    assert_eq!(devices, ["1", "unit-7", "3", "4"]);
    for chunk_bytes in 1..stream.len() {
        let (cut, _) = feed(stream.as_bytes(), chunk_bytes);
        assert_eq!(cut, whole, "chunks of {chunk_bytes}");
    }
}

#[test]
fn a_head_without_an_end_is_not_waited_for() {
    let endless = get(&format!("/?id=1&x={}", "y".repeat(8_192)));
    let refused = one(&endless);
    assert_eq!(
        (status(&refused).as_str(), refused.refused),
        ("431", Some(Reject::TooLong))
    );
}

/// What a proxy takes for the body of a request that we cannot read was read as the next one, and its answer went to
/// whoever asked next.
#[test]
fn behind_what_is_no_request_nothing_is_taken_for_one() {
    for first in ["rubbish GETGET ", "GET junk\r\n"] {
        let stream = [first.to_owned(), get("/?id=1&lat=1&lon=2")].concat();
        for chunk_bytes in 1..stream.len() {
            let (messages, _) = feed(stream.as_bytes(), chunk_bytes);
            assert!(messages.iter().all(|message| message.reports.is_empty()));
        }
    }
}

/// The key by which a phone can be sent notices went to everybody who reads positions.
#[test]
fn a_phones_secret_is_not_passed_on() {
    let message = one(&get("/?id=1&lat=1&lon=2&notificationToken=secret"));
    assert!(message.reports[0].attributes.is_empty());
}

#[test]
fn attributes_that_a_sender_invents_are_bounded() {
    let mut target = "/?id=1&lat=1&lon=2".to_owned();
    for number in 0..100 {
        target += &format!("&k{number}=v&batt=5");
    }
    target += &format!(
        "&{}=1&two%20words=2&long={}",
        "n".repeat(33),
        "t".repeat(500)
    );
    let attributes = one(&get(&target)).reports.remove(0).attributes;
    assert_eq!(attributes.len(), query::VENDOR_ATTRIBUTES_MAX + 1);
    let message = one(&get(&format!("/?id=1&long={}", "t".repeat(500))));
    assert_eq!(
        said(&message.attributes, "long"),
        Some(Value::Text("t".repeat(64)))
    );
}
