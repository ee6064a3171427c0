//! Lines as the schema and the documents have them.

mod schema;

use super::super::testing;
use super::*;
use crate::frame::{AlarmKind, DeviceId, FixFields, TimeSource, Value, rfc3339_ms};

/// 2026-06-15T12:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_524_800_000,
};

fn session() -> Session {
    Session::new(&Settings::default())
}

fn decode(line: &str) -> Result<Message, Reject> {
    session().decode(line.as_bytes(), NOW)
}

fn text(answer: &[u8]) -> &str {
    std::str::from_utf8(answer).unwrap()
}

#[test]
fn a_line_is_a_report_in_the_units_of_its_keys() {
    let message = decode(
        r#"{"device":"bus-17","time":"2026-06-15T13:59:59.250+02:00","lat":48.1173,"lon":-11.5166667,
        "altitude_m":545.4,"speed_m_s":11.5,"course_deg":84.4,"satellites":9,"accuracy_m":2.5,"hdop":0.9,
        "attributes":{"ignition":true,"battery_v":12.6,"odometer_m":1234,"driver_id":"D7","x.shift":2}}"#,
    )
    .unwrap();
    assert_eq!(message.device, DeviceId::new(b"bus-17"));
    let report = &message.reports[0];
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (481_173_000, -115_166_667));
    assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T11:59:59.250Z");
    assert_eq!((fix.altitude_mm, fix.speed_mm_s), (545_400, 11_500));
    assert_eq!((fix.course_cdeg, fix.accuracy_mm), (8_440, 2_500));
    assert_eq!((fix.satellites, fix.time_source), (9, TimeSource::Device));
    assert_eq!(fix.fields, FixFields(0xff), "all of them, and valid");
    let said: Vec<_> = report
        .attributes
        .iter()
        .map(|a| (a.key.name(), &a.value))
        .collect();
    let expected = [
        ("hdop", Value::Float(0.9)),
        ("ignition", Value::Bool(true)),
        ("battery_v", Value::Float(12.6)),
        ("odometer_m", Value::Int(1234)),
        ("driver_id", Value::Text("D7".to_owned())),
        ("x.shift", Value::Int(2)),
    ];
    assert_eq!(
        said,
        expected.each_ref().map(|(name, value)| (*name, value))
    );
    assert!(message.answer_now.is_empty() && message.answer_when_safe.is_empty());
}

#[test]
fn a_line_with_an_id_is_answered_by_that_id_when_it_is_safe_and_told_to_come_again_when_not() {
    for id in [
        "42",
        "-7",
        "18446744073709551615",
        r#""batch 9""#,
        r#""a\"b\\ü""#,
    ] {
        let message = decode(&format!(r#"{{"device":"a","id":{id},"lat":1,"lon":2}}"#)).unwrap();
        assert!(message.answer_now.is_empty(), "nothing is safe yet");
        assert_eq!(
            text(&message.answer_when_safe),
            format!("{{\"safe\":{id}}}\n")
        );
        assert_eq!(
            text(&message.answer_if_refused),
            format!("{{\"again\":{id}}}\n")
        );
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_its_id_and_without_one_is_an_error() {
    for (line, reject, reason) in [
        (
            r#""device":"a","lat":91,"lon":2"#,
            Reject::Field,
            "lat is out of range",
        ),
        (
            r#""device":"a","lat":1"#,
            Reject::Field,
            "lat and lon come together",
        ),
        (
            r#""device":"a","speed":3"#,
            Reject::Field,
            "\\\"speed\\\" is no key of a report",
        ),
        (
            r#""device":"a","alarms":["soss"]"#,
            Reject::Field,
            "\\\"soss\\\" is no kind of alarm",
        ),
        (
            r#""device":"a","time":"2026-06-15T12:00:00""#,
            Reject::Field,
            "time is not one of RFC 3339",
        ),
        (
            r#""device":"a","time":1781524800"#,
            Reject::Field,
            "time is not in milliseconds",
        ),
        (
            r#""device":"a","attributes":{"a b":1}"#,
            Reject::Field,
            "is no name of an attribute",
        ),
        (
            r#""device":"a","attributes":{"a":[1]}"#,
            Reject::Field,
            "a number, a text, true or false",
        ),
        (
            r#""device":"a","lat":1,"lat":1,"lon":2"#,
            Reject::Field,
            "a key stands twice",
        ),
        (
            r#""device":"a b","lat":1,"lon":2"#,
            Reject::Device,
            "device is not 1 to 31 of",
        ),
        (r#""lat":1,"lon":2"#, Reject::Device, "device is missing"),
    ] {
        assert_eq!(decode(&format!("{{{line}}}")), Err(reject), "{line}");
        for line in [
            format!(r#"{{"id":7,{line}}}"#),
            format!(r#"{{{line},"id":7}}"#),
        ] {
            let message = decode(&line).unwrap();
            assert_eq!(
                (message.refused, message.device),
                (Some(reject), None),
                "{line}"
            );
            let said = text(&message.answer_now);
            assert!(said.starts_with(r#"{"refused":7,"reason":""#), "{said}");
            assert!(said.contains(reason) && said.ends_with("\"}\n"), "{said}");
            assert!(message.reports.is_empty() && message.answer_when_safe.is_empty());
        }
    }
    for line in ["hello", "{", r#"{"device":"a","id":7"#, r#"{"id":7} {}"#] {
        assert_eq!(decode(line), Err(Reject::Rubbish), "{line}");
    }
}

#[test]
fn a_time_is_one_of_rfc_3339_or_in_milliseconds_or_that_of_arrival() {
    let fix = |time: &str| {
        let line = format!(r#"{{"device":"a","lat":1,"lon":2{time}}}"#);
        decode(&line).unwrap().reports[0].fix
    };
    for time in [
        "1781524800000",
        "1781524799999.8",
        "\"2026-06-15T12:00:00Z\"",
        "\"2026-06-15T06:30:00-05:30\"",
    ] {
        let fix = fix(&format!(r#","time":{time}"#));
        assert_eq!(
            (fix.time_ms, fix.time_source),
            (NOW.wall_ms, TimeSource::Device),
            "{time}"
        );
    }
    for time in ["", r#","time":null"#] {
        assert_eq!(fix(time).time_source, TimeSource::Arrival);
        assert!(fix(time).fields.has(FixFields::VALID));
    }
    let recorded = Settings {
        recorded: true,
        ..Settings::default()
    };
    let message = Session::new(&recorded).decode(br#"{"device":"a","lat":1,"lon":2}"#, NOW);
    assert_eq!(message.unwrap().reports[0].fix.time(), None);
}

#[test]
fn alarms_are_reports_without_a_position_and_an_empty_list_of_held_ones_ends_them() {
    let report = |line: &str| decode(line).unwrap().reports.remove(0);
    let pressed = report(r#"{"device":"a","alarms":["sos","fall"],"held":["power_cut"]}"#);
    assert!(
        pressed.momentary.contains(AlarmKind::Sos) && pressed.momentary.contains(AlarmKind::Fall)
    );
    assert!(pressed.held.contains(AlarmKind::PowerCut));
    assert_eq!(pressed.fix.fields, FixFields(FixFields::TIME));
    let ended = report(r#"{"device":"a","held":[]}"#);
    assert!(ended.held.is_empty() && ended.momentary.is_empty());
    let stored = report(r#"{"device":"a","lat":1,"lon":2,"backlog":true,"valid":false}"#);
    assert!(stored.backlog && !stored.fix.fields.has(FixFields::VALID));
}

#[test]
fn what_reports_neither_a_place_nor_an_alarm_is_answered_at_once() {
    let message =
        decode(r#"{"device":"a","id":1,"alarms":[],"attributes":{"model":"M1"}}"#).unwrap();
    assert_eq!(
        (message.kind, text(&message.answer_now)),
        ("status", "{\"safe\":1}\n")
    );
    assert_eq!(message.attributes[0].value, Value::Text("M1".to_owned()));
    assert!(message.reports.is_empty() && message.answer_if_refused.is_empty());
}

#[test]
fn a_list_is_one_message_of_one_device_with_one_id() {
    let list = r#"[{"device":"a","lat":1,"lon":2},{"lat":3,"lon":4,"id":5},{"device":"a","lat":5,"lon":6}]"#;
    let message = decode(list).unwrap();
    assert_eq!(
        (message.device, message.reports.len()),
        (DeviceId::new(b"a"), 3)
    );
    assert_eq!(text(&message.answer_when_safe), "{\"safe\":5}\n");

    let two_devices =
        decode(r#"[{"device":"a","id":1,"lat":1,"lon":2},{"device":"b","lat":1,"lon":2}]"#)
            .unwrap();
    assert_eq!(two_devices.refused, Some(Reject::Device));
    let two_ids = decode(r#"[{"device":"a","id":1},{"id":2}]"#).unwrap();
    assert_eq!(
        text(&two_ids.answer_now).get(..13),
        Some("{\"refused\":2,"),
        "the last"
    );
    let one_bad = decode(r#"[{"device":"a","lat":1,"lon":2},{"lat":99,"lon":2}]"#);
    assert_eq!(one_bad, Err(Reject::Field), "all of it or nothing");
}

#[test]
fn what_the_operator_states_wins_over_what_the_line_says() {
    let settings = Settings {
        device: DeviceId::new(b"stated"),
        ..Settings::default()
    };
    for line in [
        r#"{"lat":1,"lon":2}"#,
        r#"{"device":"other","lat":1,"lon":2}"#,
    ] {
        let message = Session::new(&settings)
            .decode(line.as_bytes(), NOW)
            .unwrap();
        assert_eq!(message.device, DeviceId::new(b"stated"));
    }
}

#[test]
fn more_reports_or_attributes_than_the_limits_are_refused() {
    let list = |count: usize| {
        format!(
            "[{}]",
            vec![r#"{"device":"a","lat":1,"lon":2}"#; count].join(",")
        )
    };
    assert_eq!(
        decode(&list(REPORTS_MAX)).unwrap().reports.len(),
        REPORTS_MAX
    );
    assert_eq!(decode(&list(REPORTS_MAX + 1)), Err(Reject::TooLong));

    let attributes = |count: usize| {
        let all: Vec<_> = (0..count).map(|n| format!("\"a{n}\":{n}")).collect();
        format!(
            r#"{{"device":"a","lat":1,"lon":2,"attributes":{{{}}}}}"#,
            all.join(",")
        )
    };
    assert_eq!(
        decode(&attributes(ATTRIBUTES_MAX)).unwrap().reports[0]
            .attributes
            .len(),
        ATTRIBUTES_MAX
    );
    assert_eq!(decode(&attributes(ATTRIBUTES_MAX + 1)), Err(Reject::Field));
    let many = vec![attributes(50); LINE_ATTRIBUTES_MAX / 50].join(",");
    assert!(decode(&format!("[{many}]")).is_ok());
    assert_eq!(
        decode(&format!("[{many},{}]", attributes(1))),
        Err(Reject::Field)
    );
    let long = format!(
        r#"{{"device":"a","held":[],"attributes":{{"text":"{}"}}}}"#,
        "é".repeat(500)
    );
    let kept = decode(&long)
        .unwrap()
        .reports
        .remove(0)
        .attributes
        .remove(0)
        .value;
    assert_eq!(kept, Value::Text("é".repeat(64)));
}

#[test]
fn lines_are_read_however_they_arrive_and_one_that_is_too_long_is_passed_over() {
    let stream = [
        r#"{"device":"a","lat":1,"lon":2}"#,
        "\r\n\n",
        &format!(r#"{{"device":"{}"}}"#, "x".repeat(MESSAGE_BYTES_MAX)),
        "\nno json\n",
        r#" [{"device":"b","lat":1,"lon":2}] "#,
        "\n",
    ]
    .concat();
    let read = |piece_bytes: usize| {
        let pieces: Vec<_> = stream.as_bytes().chunks(piece_bytes).collect();
        let results = testing::read(&mut session(), &pieces, NOW);
        let read = results.into_iter().flatten();
        read.map(|message| message.device.unwrap().to_string())
            .collect::<Vec<_>>()
    };
    for piece_bytes in [1, 2, 3, 7, 100, 4096, usize::MAX] {
        assert_eq!(read(piece_bytes), ["a", "b"], "pieces of {piece_bytes}");
    }
}
