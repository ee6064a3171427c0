use super::*;
use crate::frame::{AlarmKind, Attribute, AttributeKey, TimeSource, Value, rfc3339_ms};
use crate::protocol::testing;

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

/// 31 deg 13.8240' is 31.2304, 121 deg 28.4220' is 121.4737; 19.44 knots are 10.001 m/s. The clock is at UTC+8.
const TRACKER: &str = "imei:490154203237518,tracker,260615175958,,F,095958.000,A,3113.8240,N,\
    12128.4220,E,19.44,90.5,12.5,1,1,51.93%,7.5%,-11;";

fn session() -> Session {
    Session::new(&Settings::default())
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

fn attribute(attributes: &[Attribute], key: AttributeKey) -> Option<Value> {
    let found = attributes.iter().find(|found| found.key == key);
    found.map(|found| found.value.clone())
}

fn time(report: &Report) -> String {
    rfc3339_ms(report.fix.time().unwrap())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_position_is_read_field_by_field() {
    let message = one(&mut session(), TRACKER);
    assert_eq!(message.kind, "location");
    assert_eq!(message.device.unwrap().as_str(), "490154203237518");
    assert!(message.answer_now.is_empty() && message.answer_when_safe.is_empty());
    let report = &message.reports[0];
    assert_eq!(
        (report.fix.lat_e7, report.fix.lon_e7),
        (312_304_000, 1_214_737_000)
    );
    assert_eq!(time(report), "2026-06-15T09:59:58.000Z");
    assert_eq!(
        (report.fix.speed_mm_s, report.fix.course_cdeg),
        (10_001, 9050)
    );
    assert_eq!(report.fix.altitude_mm, 12_500);
    assert!(report.fix.fields.has(FixFields::VALID));
    let stated = |key| attribute(&report.attributes, key);
    assert_eq!(stated(AttributeKey::Ignition), Some(Value::Bool(true)));
    assert_eq!(stated(AttributeKey::Doors), Some(Value::Int(1)));
    assert_eq!(stated(AttributeKey::FuelPercent), Some(Value::Float(51.93)));
    assert_eq!(
        stated(AttributeKey::TemperatureC),
        Some(Value::Float(-11.0))
    );
    assert_eq!(stated(AttributeKey::Event), None);
}

#[test]
fn a_position_may_end_after_any_field() {
    let fields: Vec<_> = TRACKER.trim_end_matches(';').split(',').collect();
    for count in 11..=fields.len() {
        let cut = fields[..count].join(",") + ";";
        assert_eq!(report(cut).fix.lon_e7, 1_214_737_000);
    }
    let lost = one(&mut session(), fields[..9].join(",") + ";");
    assert!(lost.reports.is_empty());
}

#[test]
fn letters_stand_behind_degrees_or_before_or_nowhere() {
    let place = |place: &str| {
        let fix = report(TRACKER.replace("3113.8240,N,12128.4220,E", place)).fix;
        (fix.lat_e7, fix.lon_e7, fix.speed_mm_s)
    };
    let expected = (-312_304_000, -1_214_737_000, 10_001);
    assert_eq!(place("3113.8240,S,12128.4220,W"), expected);
    assert_eq!(place("S,3113.8240,W,12128.4220"), expected);
    let unsaid = (312_304_000, 1_214_737_000, 10_001);
    assert_eq!(place("3113.8240,N,12128.4220,"), unsaid);
}

#[test]
fn the_zone_is_the_one_that_people_live_in() {
    let time = |local: &str, utc: &str| {
        let message = TRACKER
            .replace("260615175958", local)
            .replace("095958.000", utc);
        time(&report(message))
    };
    assert_eq!(
        time("260615015958", "095958.000"),
        "2026-06-15T09:59:58.000Z",
        "-8"
    );
    assert_eq!(
        time("260616005958", "115958.000"),
        "2026-06-15T11:59:58.000Z",
        "+13"
    );
    assert_eq!(
        time("2606152359", "115958.0"),
        "2026-06-15T11:59:58.000Z",
        "+12"
    );
    assert_eq!(
        time("2606142300", "085959.0"),
        "2026-06-15T08:59:59.000Z",
        "-10"
    );
    assert_eq!(time("26/06/15 17:59", "095958"), "2026-06-15T09:59:58.000Z");
    assert_eq!(
        time("260615095958", "58.0"),
        "2026-06-15T09:59:58.000Z",
        "no zone"
    );
}

#[test]
fn a_zone_of_the_operator_settles_it() {
    let mut session = Session::new(&Settings {
        zone_minutes: Some(-660),
        ..Settings::default()
    });
    let samoa = TRACKER.replace("260615175958", "260614225958");
    let message = one(&mut session, samoa);
    assert_eq!(time(&message.reports[0]), "2026-06-15T09:59:58.000Z");
}

#[test]
fn a_date_that_is_missing_is_completed_live_and_unknown_in_a_recording() {
    let dateless = TRACKER.replace("260615175958", "000000000");
    let report = report(&dateless);
    assert_eq!(time(&report), "2026-06-15T09:59:58.000Z");
    assert_eq!(report.fix.time_source, TimeSource::DateCompleted);
    let mut recorded = Session::new(&Settings {
        recorded: true,
        ..Settings::default()
    });
    let message = one(&mut recorded, &dateless);
    assert_eq!(message.reports[0].fix.time(), None);
}

#[test]
fn logins_and_heartbeats_are_answered_and_name_their_sender() {
    for (said, answer) in [
        ("##,imei:490154203237518,A;", "LOAD"),
        ("490154203237518;", "ON"),
        ("imei:490154203237518,L,*", "LOAD"),
    ] {
        let message = one(&mut session(), said);
        assert_eq!(text(&message.answer_now), answer);
        assert_eq!(message.device.unwrap().as_str(), "490154203237518");
    }
}

#[test]
fn a_call_for_help_is_answered_when_it_is_safe() {
    let message = one(&mut session(), TRACKER.replace("tracker", "help me"));
    assert!(message.answer_now.is_empty());
    assert_eq!(
        text(&message.answer_when_safe),
        "**,imei:490154203237518,E;"
    );
    assert_eq!(message.reports[0].momentary, AlarmKind::Sos.into());
}

#[test]
fn events_are_alarms_or_states() {
    let alarm = |event: &str| report(TRACKER.replace("tracker", event)).momentary;
    assert_eq!(alarm("ac alarm"), AlarmKind::PowerCut.into());
    assert_eq!(alarm("stockade"), AlarmKind::AreaCrossed.into());
    assert_eq!(alarm("T:+42"), AlarmKind::Temperature.into());
    assert_eq!(alarm("oil 20.5"), AlarmKind::FuelAbnormal.into());
    assert_eq!(alarm("footbrake alarm"), AlarmKind::Unspecified.into());
    assert!(alarm("001").is_empty());

    let off = report(TRACKER.replace("tracker", "acc off"));
    let ignition = attribute(&off.attributes, AttributeKey::Ignition);
    assert_eq!(ignition, Some(Value::Bool(false)), "the event is newer");
    let event = attribute(&off.attributes, AttributeKey::Event);
    assert_eq!(event, Some(Value::Text("acc off".into())));
    let driver = report(TRACKER.replace("tracker,260615175958,", "rfid,260615175958,49121185"));
    let driver = attribute(&driver.attributes, AttributeKey::DriverId);
    assert_eq!(driver, Some(Value::Text("49121185".into())));
}

#[test]
fn a_cell_is_no_position_but_an_alarm_is_a_report_all_the_same() {
    let cell = "imei:490154203237518,tracker,260615095958,,L,,,24a0,,2154,,,,,1,0,,,;";
    let message = one(&mut session(), cell);
    assert!(message.reports.is_empty());
    let area = AttributeKey::Other("lac".into());
    assert_eq!(
        attribute(&message.attributes, area),
        Some(Value::Text("24a0".into()))
    );
    let ignition = attribute(&message.attributes, AttributeKey::Ignition);
    assert_eq!(ignition, Some(Value::Bool(true)));

    let message = one(&mut session(), cell.replace("tracker", "help me"));
    assert_eq!(message.reports[0].momentary, AlarmKind::Sos.into());
    assert!(!message.answer_when_safe.is_empty());
    assert_eq!(time(&message.reports[0]), "2026-06-15T09:59:58.000Z");
    let bare = report("imei:490154203237518,help me,000000000,,L,;");
    assert_eq!(bare.fix.time_source, TimeSource::Arrival);
}

#[test]
fn the_second_layout_has_degrees_with_decimals_and_km_an_hour() {
    let report = report(
        "imei:490154203237518,Car 1,---,------,----,095958,150626,14,1,-31.2304,121.4737,036,090,0012,0.9,08,1,0,---,*",
    );
    assert_eq!(
        (report.fix.lat_e7, report.fix.lon_e7),
        (-312_304_000, 1_214_737_000)
    );
    assert_eq!(time(&report), "2026-06-15T09:59:58.000Z");
    assert_eq!((report.fix.speed_mm_s, report.fix.satellites), (10_000, 8));
    assert!(report.fix.fields.has(FixFields::VALID));
    assert!(report.momentary.is_empty());
    let ignition = attribute(&report.attributes, AttributeKey::Ignition);
    assert_eq!(ignition, Some(Value::Bool(true)));
}

#[test]
fn the_vehicle_s_own_values_are_attributes() {
    let message = one(
        &mut session(),
        "imei:490154203237518,OBD,260615095958,195874,,7.8,808,036,30.0%,+87,13.0%,02444,14.3,P0134,P0571,,;",
    );
    let stated = |key| attribute(&message.attributes, key);
    assert_eq!(
        stated(AttributeKey::OdometerM),
        Some(Value::Int(195_874_000))
    );
    assert_eq!(
        stated(AttributeKey::TachographSpeedMps),
        Some(Value::Float(10.0))
    );
    assert_eq!(stated(AttributeKey::EngineRpm), Some(Value::Int(2444)));
    assert_eq!(stated(AttributeKey::CoolantC), Some(Value::Float(87.0)));
    assert_eq!(stated(AttributeKey::PowerV), Some(Value::Float(14.3)));
    assert_eq!(
        stated(AttributeKey::EngineLoadPercent),
        Some(Value::Float(30.0))
    );
    let faults = Value::Text("P0134 P0571".into());
    assert_eq!(stated(AttributeKey::FaultCodes), Some(faults));
}

#[test]
fn messages_may_be_glued_and_cut_anywhere() {
    let stream = [
        "##,imei:490154203237518,A;",
        TRACKER,
        "\r\n490154203237518",
        TRACKER,
        "490154203237518;",
        "imei:490154203237518,trac",
        TRACKER,
    ]
    .concat();
    let whole = read(&mut session(), &[stream.as_bytes()]);
    let kinds: Vec<_> = whole
        .iter()
        .map(|result| result.as_ref().map(|message| message.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            Ok("login"),
            Ok("location"),
            Ok("heartbeat"),
            Ok("location"),
            Ok("heartbeat"),
            Ok("unknown"),
            Ok("location")
        ]
    );
    for cut in 0..stream.len() {
        let (first, second) = stream.as_bytes().split_at(cut);
        let parts = read(&mut session(), &[first, second]);
        assert!(parts == whole, "cut at {cut}");
    }
}

#[test]
fn a_message_without_end_is_dropped_and_the_next_one_read() {
    let mut stream = b"imei:490154203237518,vr,".to_vec();
    stream.resize(3 * MESSAGE_BYTES_MAX, b'0');
    stream.extend(TRACKER.as_bytes());
    for chunk in [1, 7, 5000, stream.len()] {
        let pieces: Vec<_> = stream.chunks(chunk).collect();
        let results = read(&mut session(), &pieces);
        assert_eq!(results[0], Err(Reject::TooLong));
        assert!(results.last().unwrap().is_ok(), "chunks of {chunk}");
    }
    for filling in [b';', b'#', b'1'] {
        let full = vec![filling; MESSAGE_BYTES_MAX];
        assert_ne!(session().split(&full), Split::Incomplete);
    }
}

#[test]
fn pictures_are_not_collected_and_strangers_are_refused() {
    let message = one(&mut session(), "imei:490154203237518,vr,0c00fa01;");
    assert_eq!(message.refused, Some(Reject::Part));
    let message = one(&mut session(), "imei:490154203237518,at,done;");
    assert_eq!(message.refused, Some(Reject::UnknownKind));
    for (text, reject) in [
        ("hello;", Reject::Rubbish),
        ("imei:,tracker;", Reject::Device),
        ("##,;", Reject::Device),
    ] {
        assert_eq!(read(&mut session(), &[text.as_bytes()]), [Err(reject)]);
    }
}
