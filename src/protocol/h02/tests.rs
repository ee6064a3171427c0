use super::super::Report;
use super::*;
use crate::frame::{AlarmKind, Alarms, AttributeKey, FixFields, TimeSource, Value};
use crate::protocol::testing;

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

/// 31 deg 13.8240' is 31.2304, 121 deg 28.4220' is 121.4737; 19.44 knots are 10.001 m/s.
const V1: &str = "*HQ,4170001234,V1,095958,A,3113.8240,N,12128.4220,E,19.44,090,150626,FFFFFBFF,460,0,9376,8532,6#";

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

fn time(report: &Report) -> Option<String> {
    report.fix.time().map(rfc3339_ms)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// By hand: id 4170001234, 09:59:58 on 15/06/26, 31 deg 13.8240' N, charge 6, 121 deg 28.4220' E with a fix, 19 knots,
/// 90 degrees, the status, and `tail`.
fn binary(tail: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'$', 0x41, 0x70, 0x00, 0x12, 0x34];
    bytes.extend([0x09, 0x59, 0x58, 0x15, 0x06, 0x26]);
    bytes.extend([0x31, 0x13, 0x82, 0x40, 0x06, 0x12, 0x12, 0x84, 0x22, 0x0e]);
    bytes.extend([0x01, 0x90, 0x90, 0xff, 0xff, 0xfb, 0xff]);
    bytes.extend(tail);
    bytes
}

/// The end of the form of 45 bytes: counters, a cell and a number.
const TAIL: [u8; 16] = [
    0xff, 0, 0x1f, 0, 0, 0, 1, 0xf8, 0x01, 0xcc, 0, 0x24, 0xa0, 0x21, 0x54, 0x33,
];

#[test]
fn a_position_is_read_field_by_field_and_answered_when_it_is_safe() {
    let message = one(&mut session(), V1);
    assert_eq!(message.kind, "location");
    assert_eq!(message.device.unwrap().as_str(), "4170001234");
    assert!(message.answer_now.is_empty());
    assert_eq!(
        text(&message.answer_when_safe),
        "*HQ,4170001234,V4,V1,20260615100000#"
    );
    let report = &message.reports[0];
    assert_eq!(
        (report.fix.lat_e7, report.fix.lon_e7),
        (312_304_000, 1_214_737_000)
    );
    assert_eq!(time(report).as_deref(), Some("2026-06-15T09:59:58.000Z"));
    assert_eq!(
        (report.fix.speed_mm_s, report.fix.course_cdeg),
        (10_001, 9000)
    );
    assert!(report.fix.fields.has(FixFields::VALID));
    let ignition = attribute(report, AttributeKey::Ignition);
    assert_eq!(ignition, Some(Value::Bool(false)), "bit 10 is 0");
    let cells = attribute(report, AttributeKey::Cells);
    assert_eq!(cells, Some(Value::Text("460-0-9376-8532".into())));
}

#[test]
fn a_maker_reads_only_answers_with_its_own_letters() {
    let message = one(&mut session(), V1.replace("*HQ", "*TH"));
    assert!(
        message
            .answer_when_safe
            .starts_with(b"*TH,4170001234,V4,V1,")
    );
}

#[test]
fn coordinates_come_in_three_shapes() {
    let place = |lat: &str, lon: &str| {
        let fix = report(format!(
            "*HQ,41,V1,095958,A,{lat},S,{lon},W,0,0,150626,FFFFFFFF#"
        ))
        .fix;
        (fix.lat_e7, fix.lon_e7)
    };
    let expected = (-230_556_800, -480_482_100);
    assert_eq!(place("2303.3408", "04802.8926"), expected);
    assert_eq!(place("23033408", "048028926"), expected);
    assert_eq!(place("-23-3.3408", "-48-2.8926"), expected);
    assert_eq!(place("-23-03.3408", "-048-02.8926").0, expected.0);
}

#[test]
fn validity_is_the_receivers_word() {
    let valid = |letter: &str| {
        let report = report(V1.replace(",A,", &format!(",{letter},")));
        assert!(report.fix.fields.has(FixFields::POSITION));
        report.fix.fields.has(FixFields::VALID)
    };
    assert!(valid("A") && valid("B"), "GPS and BeiDou");
    assert!(!valid("V") && !valid(""));
    assert!(valid("0"), "coding of an address");
}

#[test]
fn alarms_are_held_for_as_long_as_their_bit_is_0() {
    let held = |word: &str| report(V1.replace("FFFFFBFF", word)).held;
    assert_eq!(held("FFFFFBFF"), Alarms::default());
    assert_eq!(held("FFFFFBFD"), AlarmKind::Sos.into());
    assert_eq!(held("FFF7FFFF"), AlarmKind::PowerCut.into());
    let cut = report(V1.replace("FFFFFBFF", "F7FFFBFF"));
    assert_eq!(
        attribute(&cut, AttributeKey::Blocked),
        Some(Value::Bool(true))
    );
}

#[test]
fn an_acknowledged_command_stands_before_its_position() {
    let message = one(
        &mut session(),
        "*HQ,41,V4,S20,80,095900,095958,A,3113.8240,N,12128.4220,E,0,0,150626,F7FFFBFF#",
    );
    assert_eq!(message.kind, "command_result");
    assert!(message.answer_when_safe.is_empty());
    let report = &message.reports[0];
    assert_eq!(time(report).as_deref(), Some("2026-06-15T09:59:58.000Z"));
    let result = attribute(report, AttributeKey::Result);
    assert_eq!(result, Some(Value::Text("S20,80,095900".into())));
}

#[test]
fn fields_of_the_sim_card_may_stand_before_the_status() {
    let report = report(
        "*HQ,41,V19,095958,V,3113.8240,N,12128.4220,E,0,0,150626,,5550100,8999000000000000001?,FFFFFFFD#",
    );
    assert_eq!(report.held, AlarmKind::Sos.into());
    assert_eq!(
        attribute(&report, AttributeKey::Iccid),
        Some(Value::Text("8999000000000000001".into()))
    );
}

#[test]
fn the_document_s_charge_and_cells_are_read() {
    let report = report(
        "*HQ,490154203237518,V1,095958,A,3113.8240,N,12128.4220,E,0.00,348,150626,FFFFFFFF,99,3,460,0,9376,8532,9876,4357,0,0 #",
    );
    let charge = attribute(&report, AttributeKey::BatteryPercent);
    assert_eq!(charge, Some(Value::Int(100)), "99 stands for all");
    assert_eq!(
        attribute(&report, AttributeKey::Cells),
        Some(Value::Text("460-0-9376-8532 460-0-9876-4357".into()))
    );
}

#[test]
fn heartbeats_are_answered_with_themselves_and_without_their_charge() {
    let message = one(&mut session(), "*HQ,4170001234,HTBT,87#");
    assert_eq!(text(&message.answer_now), "*HQ,4170001234,HTBT#");
    assert_eq!(message.attributes[0].value, Value::Int(87));
    let message = one(&mut session(), "*HQ,4170001234,XT#");
    assert!(message.answer_now.is_empty() && message.attributes.is_empty());
}

#[test]
fn cells_alone_are_answered_at_once_unless_there_is_an_alarm() {
    let nbr =
        "*HQ,41,NBR,095958,460,00,0,2,9376,8532,99,9876,4357,60,150626,FFFFFFFF,5#".to_owned();
    let message = one(&mut session(), &nbr);
    assert_eq!(text(&message.answer_now), "*HQ,41,V4,NBR,20260615100000#");
    assert!(message.reports.is_empty());
    let cells = message
        .attributes
        .iter()
        .find(|found| found.key == AttributeKey::Cells);
    assert_eq!(
        cells.unwrap().value,
        Value::Text("460-0-9376-8532 460-0-9876-4357".into())
    );
    let message = one(&mut session(), nbr.replace("FFFFFFFF", "FFFFFFFD"));
    assert!(message.answer_now.is_empty() && !message.answer_when_safe.is_empty());
    assert_eq!(message.reports[0].held, AlarmKind::Sos.into());
    assert!(!message.reports[0].fix.fields.has(FixFields::POSITION));
    assert_eq!(
        time(&message.reports[0]).as_deref(),
        Some("2026-06-15T09:59:58.000Z")
    );
}

#[test]
fn an_alarm_message_is_a_report_with_or_without_a_position() {
    let report = report("*HQ,41,ALRM,2,095958#");
    assert_eq!(report.momentary, AlarmKind::BatteryLow.into());
    assert_eq!(time(&report).as_deref(), Some("2026-06-15T09:59:58.000Z"));
    assert_eq!(report.fix.time_source, TimeSource::DateCompleted);
    let placed = self::report(
        "*HQ,41,ALRM,1,095958,0,3113.8240,N,12128.4220,E,0.00,348,150626,FFFFFFFF,1CC,0,25FC,F48,90#",
    );
    assert_eq!(placed.momentary, AlarmKind::Sos.into());
    assert!(placed.fix.fields.has(FixFields::VALID));
    assert_eq!(
        attribute(&placed, AttributeKey::Cells),
        Some(Value::Text("460-0-9724-3912".into())),
        "hexadecimal"
    );
}

#[test]
fn stored_positions_have_a_day_of_the_month_only() {
    let stored = "*HQ,41,BC,100000,138,\
        A,3113.8240,N,12128.4220,E,0.00,348,15095512,FFFFFFFF,1CC,0,25FC,F48;\
        A,3113.8240,N,12128.4220,E,0.00,348,28095512,FFFFFFFF,1CC,0,25FC,F48;rubbish#";
    let message = one(&mut session(), stored);
    assert!(message.reports.iter().all(|report| report.backlog));
    let times: Vec<_> = message.reports.iter().filter_map(time).collect();
    assert_eq!(
        times,
        ["2026-06-15T09:55:12.000Z", "2026-05-28T09:55:12.000Z"],
        "not in the future"
    );
    let message = one(&mut recorded(), stored);
    assert_eq!(message.reports.len(), 2);
    assert!(message.reports.iter().all(|report| time(report).is_none()));
}

#[test]
fn a_time_of_day_alone_is_completed_live_and_unknown_in_a_recording() {
    let vp1 = "*hq,41,VP1,B,3113.8240,N,12128.4220,E,0.62,0.0000,150626#";
    let live = report(vp1);
    assert_eq!(live.fix.time_source, TimeSource::Arrival);
    assert!(live.fix.fields.has(FixFields::VALID));
    let message = one(&mut recorded(), vp1);
    assert_eq!(time(&message.reports[0]), None);
}

#[test]
fn a_zone_of_the_operator_is_taken_off() {
    let mut session = Session::new(&Settings {
        zone_minutes: Some(480),
        ..Settings::default()
    });
    let message = one(&mut session, V1);
    assert_eq!(
        time(&message.reports[0]).as_deref(),
        Some("2026-06-15T01:59:58.000Z")
    );
}

#[test]
fn binary_digits_are_read() {
    let message = one(&mut session(), binary(&[0xff, 0, 0x24]));
    assert_eq!(message.device.unwrap().as_str(), "4170001234");
    assert!(message.answer_when_safe.is_empty(), "waits for none");
    let report = &message.reports[0];
    assert_eq!(
        (report.fix.lat_e7, report.fix.lon_e7),
        (312_304_000, 1_214_737_000)
    );
    assert_eq!(time(report).as_deref(), Some("2026-06-15T09:59:58.000Z"));
    // 19 knots are 9.774 m/s.
    assert_eq!(
        (report.fix.speed_mm_s, report.fix.course_cdeg),
        (9774, 9000)
    );
    assert!(report.fix.fields.has(FixFields::VALID));
    let charge = attribute(report, AttributeKey::BatteryPercent);
    assert_eq!(charge, Some(Value::Int(100)));

    let mut south_west = binary(&[0xff, 0, 0]);
    south_west[21] = 0x00;
    let report = self::report(south_west);
    assert_eq!(
        (report.fix.lat_e7, report.fix.lon_e7),
        (-312_304_000, -1_214_737_000)
    );
    assert!(!report.fix.fields.has(FixFields::VALID));
}

#[test]
fn an_id_of_fifteen_digits_is_told_by_the_time_behind_it() {
    let mut long = vec![b'$', 0x49, 0x01, 0x54, 0x20, 0x32, 0x37, 0x51, 0x80];
    long.extend(&binary(&[0; 10])[6..]);
    let message = one(&mut session(), long);
    assert_eq!(message.device.unwrap().as_str(), "490154203237518");
    assert_eq!(message.reports[0].fix.lat_e7, 312_304_000);
}

#[test]
fn text_and_binary_may_alternate_and_be_cut_anywhere() {
    let mut stream = Vec::new();
    for tail in [&TAIL[..], &[0xff, 0, 0x24], &TAIL[..], &[0xff, 0, 0x2a]] {
        stream.extend(binary(tail));
        stream.extend(V1.as_bytes());
        stream.extend(b"\r\n");
        stream.extend(binary(tail));
    }
    let whole = read(&mut session(), &[&stream]);
    assert_eq!(whole.len(), 12);
    assert!(whole.iter().all(|result| result.is_ok()));
    for cut in 0..stream.len() {
        let (first, second) = stream.split_at(cut);
        let parts = read(&mut session(), &[first, second]);
        assert!(parts == whole, "cut at {cut}");
    }
    let bytes: Vec<_> = stream.chunks(1).collect();
    assert_eq!(read(&mut session(), &bytes), whole);
}

#[test]
fn a_binary_message_alone_does_not_wait_for_the_next() {
    for len in [32, 37, 42, 44, 45, 47, 60] {
        let mut bytes = binary(&[0; 40]);
        bytes.truncate(len);
        let consumed = len;
        assert_eq!(
            session().split(&bytes),
            Split::Message {
                range: 0..len,
                consumed
            }
        );
        // A counter at the end that looks like a start is passed over later.
        bytes[len - 1] = b'$';
        let mut session = session();
        let results = read(&mut session, &[&bytes, V1.as_bytes()]);
        assert_eq!(results.len(), 2);
        assert!(results.iter().all(|result| result.is_ok()));
    }
}

#[test]
fn a_text_that_lost_its_end_does_not_take_the_next_one_with_it() {
    let stream = format!("*HQ,4170001234,V1,0959{V1}");
    let results = read(&mut session(), &[stream.as_bytes()]);
    assert_eq!(results[0], Err(Reject::Incomplete));
    assert_eq!(results[1].as_ref().unwrap().reports.len(), 1);
}

#[test]
fn rubbish_is_passed_over_and_nothing_is_waited_for_without_end() {
    let mut stream = b"hello *1 $GPRMC,".to_vec();
    stream.extend(V1.as_bytes());
    let results = read(&mut session(), &[&stream]);
    assert!(results.iter().rev().skip(1).all(|result| result.is_err()));
    assert!(results.last().unwrap().is_ok());

    let mut endless = b"*HQ,41,SMS,".to_vec();
    endless.resize(3 * MESSAGE_BYTES_MAX, b'x');
    endless.extend(V1.as_bytes());
    let results = read(&mut session(), &[&endless]);
    assert_eq!(results[0], Err(Reject::TooLong));
    assert!(results.last().unwrap().is_ok());

    for filling in [b'\r', b'*', b'$'] {
        let full = vec![filling; MESSAGE_BYTES_MAX];
        assert_ne!(session().split(&full), Split::Incomplete);
    }
    let mut late = vec![b'\n'; 100];
    late.extend(b"*HQ,");
    late.resize(MESSAGE_BYTES_MAX, b'x');
    assert_ne!(session().split(&late), Split::Incomplete);
}

#[test]
fn what_is_not_known_is_sound_and_says_nothing() {
    for (text, reject) in [
        (
            "*HQ,41,BASE,095958,0,0,0,0,150626,FFFFFFFF#",
            Reject::UnknownKind,
        ),
        ("*HQ,41,#", Reject::UnknownKind),
        ("*HQ,41,V1,095958,A,here,N,there,E#", Reject::Field),
    ] {
        let message = one(&mut session(), text);
        assert_eq!(message.refused, Some(reject), "{text}");
        assert!(message.reports.is_empty());
    }
    let unknown = one(
        &mut session(),
        "X\x41\x70\x00\x12\x34\x09\x59\x58\x15\x06\x26xxxxxxxxxxxxxxxxxxxx",
    );
    assert_eq!(unknown.refused, Some(Reject::UnknownKind));
}

#[test]
fn a_message_without_an_id_is_of_who_spoke_before_and_a_refused_one_changes_nothing() {
    let nameless = V1.replace("4170001234", "");
    let message = one(&mut session(), &nameless);
    assert_eq!(message.device, None);
    assert!(message.answer_when_safe.is_empty());

    let mut session = session();
    one(&mut session, V1);
    let bad = V1.replace("4170001234", "a b");
    assert_eq!(read(&mut session, &[bad.as_bytes()]), [Err(Reject::Device)]);
    let message = one(&mut session, &nameless);
    assert_eq!(message.device.unwrap().as_str(), "4170001234");
}

#[test]
fn answers_of_a_device_are_kept_as_text() {
    let message = one(&mut session(), "*HQ,41,SMS,X9_V1\nVOLT:12.9V,ok\n#");
    assert_eq!(message.kind, "text");
    assert_eq!(
        message.attributes[0].value,
        Value::Text("X9_V1\nVOLT:12.9V,ok".into())
    );
}
