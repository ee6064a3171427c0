use super::*;
use crate::frame::{Value, rfc3339_ms};
use crate::protocol::testing;

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

/// 31 deg 13.8240' is 31.2304, 121 deg 28.4220' is 121.4737.
const BR00: &str =
    "(013912345678BR00260615A3113.8240N12128.4220E036.0095958090.0001000000L000004D2)";

fn session() -> Session {
    Session::new(&Settings::default())
}

fn recorded() -> Session {
    Session::new(&Settings {
        recorded: true,
        ..Settings::default()
    })
}

fn read(session: &mut Session, pieces: &[&[u8]]) -> Vec<Result<Message, Reject>> {
    testing::read(session, pieces, NOW)
}

fn one(session: &mut Session, text: impl AsRef<[u8]>) -> Message {
    let mut results = read(session, &[text.as_ref()]);
    assert_eq!(results.len(), 1);
    results.remove(0).unwrap()
}

fn report(text: impl AsRef<[u8]>) -> Report {
    let mut message = one(&mut session(), text);
    assert_eq!(message.reports.len(), 1);
    message.reports.remove(0)
}

fn attribute(report: &Report, key: AttributeKey) -> Option<Value> {
    let found = report.attributes.iter().find(|found| found.key == key);
    found.map(|found| found.value.clone())
}

fn time(report: &Report) -> String {
    rfc3339_ms(report.fix.time().unwrap())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_position_without_separators_is_read_field_by_field() {
    let message = one(&mut session(), BR00);
    assert_eq!(message.kind, "location");
    assert_eq!(message.device.unwrap().as_str(), "013912345678");
    assert!(message.answer_now.is_empty() && message.answer_when_safe.is_empty());
    let report = &message.reports[0];
    assert_eq!(
        (report.fix.lat_e7, report.fix.lon_e7),
        (312_304_000, 1_214_737_000)
    );
    assert_eq!(time(report), "2026-06-15T09:59:58.000Z");
    assert_eq!(
        (report.fix.speed_mm_s, report.fix.course_cdeg),
        (10_000, 9000),
        "km/h"
    );
    assert!(report.fix.fields.has(FixFields::VALID));
    let stated = |key| attribute(report, key);
    assert_eq!(stated(AttributeKey::Ignition), Some(Value::Bool(true)));
    assert_eq!(stated(AttributeKey::OdometerM), Some(Value::Int(1234)));
}

#[test]
fn state_digits_are_read_and_bits_are_told_where_they_are_set() {
    let report = report(BR00.replace(".0001000000L", ".00018800FFL"));
    let stated = |key| attribute(&report, key);
    assert_eq!(stated(AttributeKey::Ignition), Some(Value::Bool(true)));
    assert_eq!(stated(AttributeKey::Blocked), Some(Value::Bool(true)));
    assert_eq!(stated(AttributeKey::Doors), Some(Value::Int(1)));
}

#[test]
fn a_temperature_may_follow_the_odometer() {
    let report = report(BR00.replace("4D2)", "4D2-017.5)"));
    assert_eq!(
        attribute(&report, AttributeKey::TemperatureC),
        Some(Value::Float(-17.5))
    );
}

#[test]
fn a_position_with_commas_has_altitude_and_satellites() {
    let report =
        report("(490154203237518,ZC17,150626,A,3113.8240S,12128.4220W,36.0,095958,90.00,64.5,9)");
    assert_eq!(
        (report.fix.lat_e7, report.fix.lon_e7),
        (-312_304_000, -1_214_737_000)
    );
    assert_eq!(time(&report), "2026-06-15T09:59:58.000Z");
    assert_eq!((report.fix.altitude_mm, report.fix.satellites), (64_500, 9));
    assert_eq!(report.momentary, AlarmKind::Tampering.into());
    let old = self::report(
        "(013912345678,BR00,150626,A,3113.8240N,12128.4220E,036.0,095958,090.00,01000000,L000004D2)",
    );
    assert_eq!(
        attribute(&old, AttributeKey::OdometerM),
        Some(Value::Int(1234))
    );
    assert_eq!(old.fix.course_cdeg, 9000);
}

#[test]
fn the_order_of_a_date_is_the_usual_one_unless_another_is_of_today() {
    let live = |date: &str| time(&report(BR00.replace("260615", date)));
    assert_eq!(&live("260615")[..10], "2026-06-15");
    assert_eq!(&live("261506")[..10], "2026-06-15", "year, day, month");
    assert_eq!(&live("150626")[..10], "2026-06-15", "day, month, year");
    assert_eq!(&live("061526")[..10], "2026-06-15", "month, day, year");
    assert_eq!(&live("250704")[..10], "2025-07-04", "an old one");
    let at_rest = |date: &str| {
        let message = one(&mut recorded(), BR00.replace("260615", date));
        time(&message.reports[0])[..10].to_owned()
    };
    assert_eq!(at_rest("150626"), "2015-06-26");
    assert_eq!(at_rest("261506"), "2026-06-15", "no other gives a date");
}

#[test]
fn logins_and_handshakes_are_answered() {
    let message = one(&mut session(), "(013912345678BP00000013912345678HSO)");
    assert_eq!(text(&message.answer_now), "(013912345678AP01HSO)");
    let message = one(&mut session(), "(013912345678BP05000013912345678HSO)");
    assert_eq!(text(&message.answer_now), "(013912345678AP05)");
    let message = one(&mut session(), "(490154203237518,BP05,150626,095958)");
    assert_eq!(text(&message.answer_now), "(490154203237518,AP05)");
    let placed = BR00.replace("BR00", "BP05000013912345678");
    let message = one(&mut session(), placed);
    assert!(message.answer_now.is_empty());
    assert_eq!(text(&message.answer_when_safe), "(013912345678AP05)");
    assert_eq!(time(&message.reports[0]), "2026-06-15T09:59:58.000Z");
}

#[test]
fn an_alarm_is_answered_with_its_digit_when_it_is_safe() {
    for (digit, kind) in [
        ("0", AlarmKind::PowerCut),
        ("2", AlarmKind::Sos),
        ("5", AlarmKind::Overspeed),
        ("9", AlarmKind::Unspecified),
    ] {
        let alarm = BR00.replace("BR00", &format!("BO01{digit}"));
        let message = one(&mut session(), alarm);
        assert!(message.answer_now.is_empty());
        let answer = format!("(013912345678AS01{digit})");
        assert_eq!(text(&message.answer_when_safe), answer);
        assert_eq!(message.reports[0].momentary, kind.into());
    }
    let placeless = one(&mut session(), "(013912345678BO012)");
    assert_eq!(text(&placeless.answer_when_safe), "(013912345678AS012)");
    assert_eq!(placeless.reports[0].fix.time_source, TimeSource::Arrival);
}

#[test]
fn an_alarm_of_the_vehicle_has_a_number_of_its_own() {
    let report = report(
        "(013912345678BQ81,ALARM,4,164,260615A3113.8240N12128.4220E36.00095958090.00,00000000)",
    );
    assert_eq!(report.momentary, AlarmKind::HarshBraking.into());
    assert_eq!(time(&report), "2026-06-15T09:59:58.000Z");
}

#[test]
fn surroundings_are_attributes_and_with_an_alarm_a_report() {
    let around = "(490154203237518,DW5B,460,0,9376,8532,1,02:00:00:AA:BB:CC*-65*11,150626,095958)";
    let message = one(&mut session(), around);
    let values: Vec<_> = message
        .attributes
        .iter()
        .map(|found| &found.value)
        .collect();
    assert_eq!(
        values,
        [
            &Value::Text("460-0-9376-8532".into()),
            &Value::Text("02:00:00:AA:BB:CC -65".into())
        ]
    );
    let report = report(around.replace("DW5B", "DW5E"));
    assert_eq!(report.momentary, AlarmKind::Sos.into());
    assert!(!report.fix.fields.has(FixFields::POSITION));
    assert_eq!(time(&report), "2026-06-15T09:59:58.000Z");
}

#[test]
fn charge_vin_and_text_are_attributes() {
    let values = |text: &str| -> Vec<Value> {
        let message = one(&mut session(), text);
        assert!(message.refused.is_none());
        let attributes = message.attributes.into_iter();
        attributes.map(|found| found.value).collect()
    };
    assert_eq!(
        values("(490154203237518,ZC20,150626,095958,5,394,121,255)"),
        [Value::Int(80), Value::Float(3.94), Value::Float(12.1)]
    );
    assert_eq!(
        values("(490154203237518,ZC20,150626,095958,5,394,65535,255)").len(),
        2,
        "65535 is no voltage"
    );
    assert_eq!(
        values("(013912345678BV00WVWZZZ1JZXW000001)"),
        [Value::Text("WVWZZZ1JZXW000001".into())]
    );
    assert_eq!(
        values("(490154203237518,ZC03,150626,095958,$Notice (1):\r\nok$)"),
        [Value::Text("Notice (1):\nok".into())]
    );
    assert_eq!(
        values("(013912345678BZ00,460,00,24A0,2154,00)"),
        [Value::Text("460-0-9376-8532".into())],
        "hexadecimal"
    );
    assert_eq!(
        values("(013912345678BR00,{460,0,9376,8532}\n{460,0,9376,8533},000004D2)"),
        [Value::Text("460-0-9376-8532 460-0-9376-8533".into())],
        "in place of a position"
    );
}

#[test]
fn an_id_with_letters_has_twelve_characters() {
    let message = one(&mut session(), BR00.replace("013912345678", "01391A2B4C5D"));
    assert_eq!(message.device.unwrap().as_str(), "01391A2B4C5D");
    assert_eq!(message.reports.len(), 1);
    // Two letters behind the digits were taken for a command, and what stands before them for another device.
    let message = one(&mut session(), BR00.replace("013912345678", "013912345AB7"));
    assert_eq!(message.device.unwrap().as_str(), "013912345AB7");
}

#[test]
fn messages_may_be_glued_and_cut_anywhere() {
    let quoted = "(490154203237518,ZC03,150626,095958,$a) (b) c$)";
    let stream = [BR00, "\r\n", quoted, BR00, BR00, "\r\n"].concat();
    let whole = read(&mut session(), &[stream.as_bytes()]);
    assert_eq!(whole.len(), 4);
    assert!(whole.iter().all(|result| result.is_ok()));
    for cut in 0..stream.len() {
        let (first, second) = stream.as_bytes().split_at(cut);
        let parts = read(&mut session(), &[first, second]);
        assert!(parts == whole, "cut at {cut}");
    }
}

#[test]
fn a_message_that_lost_its_end_does_not_take_the_next_one_with_it() {
    let stream = ["(013912345678BR00260615A31", BR00].concat();
    let results = read(&mut session(), &[stream.as_bytes()]);
    assert_eq!(results[0], Err(Reject::Incomplete));
    assert_eq!(results[1].as_ref().unwrap().reports.len(), 1);
}

#[test]
fn a_text_without_end_is_dropped_and_the_next_message_read() {
    let mut stream = b"(490154203237518,ZC03,150626,095958,$".to_vec();
    stream.resize(MESSAGE_BYTES_MAX - 10, b')');
    for _ in 0..3 {
        stream.extend(BR00.as_bytes());
    }
    let results = read(&mut session(), &[&stream]);
    assert_eq!(results[0], Err(Reject::TooLong));
    assert!(results[1..].iter().all(|result| result.is_ok()));
    assert_eq!(results.len(), 4);
    for filling in [b'(', b'\n', b'$'] {
        let full = vec![filling; MESSAGE_BYTES_MAX];
        assert_ne!(session().split(&full), Split::Incomplete);
    }
}

#[test]
fn what_is_not_known_is_sound_and_what_is_no_message_is_not() {
    let refused = |text: &str| one(&mut session(), text).refused;
    assert_eq!(refused("(013912345678BX99data)"), Some(Reject::UnknownKind));
    assert_eq!(refused("(013912345678BR00260615)"), Some(Reject::Field));
    for (text, reject) in [
        ("()", Reject::Device),
        ("(BR00)", Reject::Device),
        ("(01391234567801)", Reject::Rubbish),
        ("(013912345678!!00)", Reject::Rubbish),
    ] {
        assert_eq!(read(&mut session(), &[text.as_bytes()]), [Err(reject)]);
    }
}
