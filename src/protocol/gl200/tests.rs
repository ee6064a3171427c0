use super::*;
use crate::frame::{AlarmKind, FixFields, Value, rfc3339_ms};
use crate::protocol::Report;

/// 2026-06-15T10:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_517_600_000,
};

/// A location group and its cell, at 20.25 degrees south, 10.5 degrees east.
const GROUP: &str = "2,36.0,90,12.5,10.500000,-20.250000,20260615095958,0262,0001,1A2B,00C2";

/// The end of a message.
const END: &str = "20260615100000,00A1$";

fn session() -> Session {
    Session::new(&Settings::default())
}

fn decode(message: &[u8]) -> Result<Message, Reject> {
    session().decode(message, NOW)
}

fn read(text: &str) -> Message {
    decode(text.as_bytes()).unwrap()
}

/// The only report of a message.
fn report(text: &str) -> Report {
    let mut message = read(text);
    assert_eq!(message.reports.len(), 1, "{text}");
    message.reports.remove(0)
}

fn value(attributes: &[crate::frame::Attribute], name: &str) -> Option<Value> {
    let found = attributes.iter().find(|said| said.key.name() == name);
    found.map(|said| said.value.clone())
}

fn text(value: &str) -> Option<Value> {
    Some(Value::Text(value.to_owned()))
}

/// Bytes of hex digits.
fn bytes(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// Messages and kinds of rubbish of `stream`, which arrives in pieces of `chunk_bytes`.
fn cut_up(stream: &[u8], chunk_bytes: usize) -> (Vec<Vec<u8>>, Vec<Reject>) {
    let (mut session, mut unread) = (session(), Vec::new());
    let (mut messages, mut refused) = (Vec::new(), Vec::new());
    for chunk in stream.chunks(chunk_bytes) {
        unread.extend(chunk);
        loop {
            match session.split(&unread) {
                Split::Message { range, consumed } => {
                    messages.push(unread[range].to_vec());
                    unread.drain(..consumed);
                }
                Split::Rubbish { consumed, reason } => {
                    refused.push(reason);
                    unread.drain(..consumed);
                }
                Split::Incomplete => break,
            }
        }
    }
    (messages, refused)
}

#[test]
fn a_location_is_found_wherever_it_stands() {
    let heads = [
        "GTFRI,1A0300,861234567890123,,0,0,1,",
        "GTFRI,060100,861234567890123,van 7,12940,10,1,",
        "GTFRI,1F0101,861234567890123,1G1JC5444R7252367,,,00,1,",
        "GTNMR,8020040305,A1000012345678,,0,1,1,",
        "GTXYZ,,861234567890123,,a,b,c,d,e,f,g,",
    ];
    for head in heads {
        let report = report(&format!("+RESP:{head}{GROUP},00,,77,{END}"));
        let fix = report.fix;
        assert_eq!(fix.position_deg(), Some((-20.25, 10.5)), "{head}");
        assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T09:59:58.000Z");
        assert_eq!(fix.speed_mps(), Some(10.0), "36 km/h");
        assert_eq!((fix.course_cdeg, fix.altitude_mm), (9000, 12_500));
        assert!(fix.fields.has(FixFields::VALID) && !report.backlog);
        // 0x1A2B and 0xC2.
        assert_eq!(value(&report.attributes, "cells"), text("262-1-6699-194"));
    }
}

#[test]
fn a_report_is_answered_when_it_is_safe() {
    let message = read(&format!(
        "+RESP:GTSOS,1A0300,861234567890123,,0,0,1,{GROUP},00,,77,{END}"
    ));
    assert_eq!(message.answer_when_safe, b"+SACK:00A1$");
    assert!(message.answer_now.is_empty());
    assert_eq!(message.device, DeviceId::new(b"861234567890123"));
}

#[test]
fn a_heartbeat_is_answered_at_once_with_its_version() {
    let message = read("+ACK:GTHBD,1A0401,861234567890123,,20260615100000,00A1$");
    assert_eq!(message.answer_now, b"+SACK:GTHBD,1A0401,00A1$");
    assert_eq!(message.kind, "heartbeat");
    let command = read("+ACK:GTFRI,1A0401,861234567890123,,0003,20260615100000,00A2$");
    assert_eq!(command.answer_now, b"+SACK:00A2$");
    assert_eq!(value(&command.attributes, "result"), text("GTFRI"));
}

#[test]
fn accuracy_zero_is_the_last_known_position() {
    let group = GROUP.replacen('2', "0", 1);
    let report = report(&format!(
        "+BUFF:GTSTT,1A0300,861234567890123,,42,{group},00,{END}"
    ));
    assert_eq!(report.fix.position_deg(), Some((-20.25, 10.5)));
    assert!(!report.fix.fields.has(FixFields::VALID));
    assert!(report.backlog, "stored");
    assert_eq!(value(&report.attributes, "motion"), Some(Value::Bool(true)));
}

#[test]
fn the_newest_position_has_what_the_device_says_of_itself() {
    let later = GROUP
        .replace("095958", "095959")
        .replace("-20.25", "-20.26");
    let message = read(&format!(
        "+RESP:GTFRI,1A0300,861234567890123,,0,0,2,{GROUP},25.2,{later},25.3,77,{END}"
    ));
    let [older, newer] = &message.reports[..] else {
        panic!("two positions");
    };
    assert_eq!(older.fix.lat_e7, -202_500_000);
    assert_eq!(newer.fix.lat_e7, -202_600_000);
    assert_eq!(value(&older.attributes, "battery_percent"), None);
    assert_eq!(
        value(&newer.attributes, "battery_percent"),
        Some(Value::Int(77))
    );
    assert_eq!(
        value(&newer.attributes, "odometer_m"),
        Some(Value::Int(25_300))
    );
}

#[test]
fn a_vehicle_says_its_mileage_inputs_charge_and_status() {
    let report = report(&format!(
        "+RESP:GTFRI,060100,861234567890123,,12940,10,1,{GROUP},00,2000.5,00012:34:56,13442,F40,,80,220302,,,,{END}"
    ));
    let said = |name: &str| value(&report.attributes, name);
    assert_eq!(said("odometer_m"), Some(Value::Int(2_000_500)));
    // 12 h 34 min 56 s.
    assert_eq!(said("engine_s"), Some(Value::Int(45_296)));
    assert_eq!(said("analog_1_v"), Some(Value::Float(13.442)));
    assert_eq!(said("fuel_percent"), Some(Value::Int(40)));
    assert_eq!(said("battery_percent"), Some(Value::Int(80)));
    assert_eq!(said("power_v"), Some(Value::Float(12.94)));
    // 22: ignition on, moving. 03: the ignition's own input and the first. 02: the second output.
    assert_eq!(said("ignition"), Some(Value::Bool(true)));
    assert_eq!(said("motion"), Some(Value::Bool(true)));
    assert_eq!(said("inputs"), Some(Value::Int(1)));
    assert_eq!(said("outputs"), Some(Value::Int(2)));
}

#[test]
fn a_mask_after_the_cell_says_what_follows_it() {
    for (after, satellites) in [("01,11,12.5", 11), ("13,9,0,1,12.5", 9)] {
        let report = report(&format!(
            "+RESP:GTFRI,6E0202,861234567890123,,,10,1,{GROUP},{after},,,,,100,210100,,,,{END}"
        ));
        assert_eq!(report.fix.satellites, satellites, "{after}");
        assert_eq!(
            value(&report.attributes, "odometer_m"),
            Some(Value::Int(12_500))
        );
        assert_eq!(
            value(&report.attributes, "battery_percent"),
            Some(Value::Int(100))
        );
    }
}

#[test]
fn access_points_stand_before_the_cell() {
    let (place, cell) = GROUP.split_at(GROUP.find(",0262").unwrap());
    let report = report(&format!(
        "+RESP:GTFRI,423037,861234567890123,,0,1,1,5,{place},2,0A0b0c0d0e0f,-50,,,,1a1b1c1d1e1f,-73,,,{cell},00,,93,{END}"
    ));
    assert_eq!(
        value(&report.attributes, "wifi"),
        text("0a:0b:0c:0d:0e:0f,-50 1a:1b:1c:1d:1e:1f,-73")
    );
    assert_eq!(value(&report.attributes, "cells"), text("262-1-6699-194"));
    assert_eq!(
        value(&report.attributes, "battery_percent"),
        Some(Value::Int(93))
    );
}

#[test]
fn events_are_alarms() {
    let events = [
        ("SOS", "0,0,1", AlarmKind::Sos),
        ("SPD", "0,0,1", AlarmKind::Overspeed),
        ("GEO", ",01,1", AlarmKind::AreaCrossed),
        ("TOW", ",00,1", AlarmKind::IllegalMovement),
        ("IDN", ",", AlarmKind::Idling),
        ("MPF", "", AlarmKind::PowerCut),
        ("BPL", "3.55", AlarmKind::BatteryLow),
        ("TEM", "3,33", AlarmKind::Temperature),
        ("JDR", "", AlarmKind::Jamming),
        ("JDS", "2", AlarmKind::Jamming),
        ("CRA", "01", AlarmKind::Collision),
        ("HBM", ",10,1", AlarmKind::HarshBraking),
        ("HBM", ",11,1", AlarmKind::HarshAcceleration),
        ("HBM", ",22,1", AlarmKind::HarshCornering),
        ("HBM", ",13,1", AlarmKind::HarshBraking),
        ("DAR", "1,5,", AlarmKind::Fatigue),
    ];
    for (code, head, kind) in events {
        let comma = if head.is_empty() { "" } else { "," };
        let report = report(&format!(
            "+RESP:GT{code},060100,861234567890123,,{head}{comma}{GROUP},00,2000.0,{END}"
        ));
        assert_eq!(report.momentary, kind.into(), "{code} {head}");
        assert!(report.held.is_empty());
        assert!(report.fix.fields.has(FixFields::POSITION), "{code} {head}");
        assert_eq!(value(&report.attributes, "event"), text(code));
    }
}

#[test]
fn the_end_of_a_condition_is_no_alarm() {
    for (code, head) in [("JDS", "1,"), ("MPN", ""), ("IDF", ",60,"), ("GSS", "1,8,")] {
        let report = report(&format!(
            "+RESP:GT{code},060100,861234567890123,,{head}{GROUP},00,2000.0,{END}"
        ));
        assert!(report.momentary.is_empty(), "{code}");
    }
}

#[test]
fn ignition_is_said_by_event_and_by_location_report() {
    let cases = [
        ("IGN", "120,", true),
        ("IGF", "120,", false),
        ("VGN", "00,4,120,", true),
        // In a location report 0 is on.
        ("IGL", ",00,1,", true),
        ("IGL", ",01,1,", false),
    ];
    for (code, head, on) in cases {
        let report = report(&format!(
            "+RESP:GT{code},060100,861234567890123,,{head}{GROUP},00,,35.5,{END}"
        ));
        assert_eq!(
            value(&report.attributes, "ignition"),
            Some(Value::Bool(on)),
            "{code}"
        );
        assert_eq!(
            value(&report.attributes, "odometer_m"),
            Some(Value::Int(35_500))
        );
    }
}

#[test]
fn being_towed_is_held_while_the_state_says_so() {
    let report = report(&format!(
        "+RESP:GTFRI,060100,861234567890123,,,10,1,{GROUP},00,1.0,,,,,80,160000,,,,{END}"
    ));
    assert_eq!(report.held, AlarmKind::IllegalMovement.into());
}

#[test]
fn an_alarm_without_a_position_is_a_report_all_the_same() {
    let message = read(&format!("+RESP:GTPFA,060100,861234567890123,,{END}"));
    let [report] = &message.reports[..] else {
        panic!("one report");
    };
    assert_eq!(report.momentary, AlarmKind::PoweredOff.into());
    assert!(!report.fix.fields.has(FixFields::POSITION));
    assert_eq!(rfc3339_ms(report.fix.time_ms), "2026-06-15T10:00:00.000Z");
    assert_eq!(message.answer_when_safe, b"+SACK:00A1$");
}

#[test]
fn a_message_without_a_position_keeps_its_cell_and_charge() {
    let message = read(&format!(
        "+RESP:GTFRI,210102,861234567890123,,1,1,1,,,,,,,,0262,0001,1a2b,00c2d3e4,10800,41,{END}"
    ));
    assert!(message.reports.is_empty());
    assert_eq!(message.answer_now, b"+SACK:00A1$");
    // 0x00C2D3E4.
    assert_eq!(
        value(&message.attributes, "cells"),
        text("262-1-6699-12768228")
    );
    assert_eq!(
        value(&message.attributes, "battery_percent"),
        Some(Value::Int(41))
    );
}

#[test]
fn an_unknown_kind_is_answered_and_counted() {
    let message = read(&format!("+RESP:GTXYZ,060100,861234567890123,,1,2,3,{END}"));
    assert_eq!(message.refused, Some(Reject::UnknownKind));
    assert_eq!(message.answer_now, b"+SACK:00A1$");
}

#[test]
fn a_message_that_was_cut_is_refused() {
    let whole = format!("+RESP:GTFRI,1A0300,861234567890123,,0,0,1,{GROUP},00,,77,{END}");
    let open = whole.strip_suffix('$').unwrap();
    assert_eq!(read(open).reports.len(), 1, "its count number is there");
    for len in 0..open.len() {
        let cut = decode(&whole.as_bytes()[..len]);
        let sound = cut.is_ok_and(|message| !message.reports.is_empty());
        // A field of four digits can be taken for the count number, but the position before it is whole.
        let group = whole.find(",0262").unwrap();
        assert!(!sound || len > group, "{len}");
    }
    let no_id = whole.replace("861234567890123", "");
    assert_eq!(decode(no_id.as_bytes()), Err(Reject::Device));
    assert_eq!(
        decode(b"+RESP:GTFRI,1A0300,861234567890123$"),
        Err(Reject::Field)
    );
    assert_eq!(
        decode(b"+RESP:GTFR,1A0300,861234567890123,,$"),
        Err(Reject::Rubbish)
    );
}

#[test]
fn splitting_does_not_depend_on_how_bytes_arrive() {
    let text = format!("+RESP:GTFRI,1A0300,861234567890123,,0,0,1,{GROUP},00,,77,{END}");
    let heartbeat = "+ACK:GTHBD,1A0401,861234567890123,,20260615100000,00A2";
    let binary = bytes(HEARTBEAT);
    let mut stream = Vec::new();
    // A text without its end before the next, then line ends, a zero, rubbish, and the binary form.
    for part in [
        &text[..],
        heartbeat,
        &text,
        "\r\n",
        heartbeat,
        "\0\r\n",
        "rubb+ish",
    ] {
        stream.extend(part.as_bytes());
    }
    stream.extend(&binary);
    stream.extend(text.as_bytes());
    let (messages, refused) = cut_up(&stream, usize::MAX);
    let expected = [
        text.as_bytes(),
        heartbeat.as_bytes(),
        text.as_bytes(),
        heartbeat.as_bytes(),
        &binary,
        text.as_bytes(),
    ];
    assert_eq!(messages, expected);
    assert_eq!(refused, [Reject::Rubbish, Reject::Rubbish]);
    for chunk_bytes in 1..100 {
        assert_eq!(cut_up(&stream, chunk_bytes).0, expected, "{chunk_bytes}");
    }
}

#[test]
fn what_does_not_end_is_given_up_at_the_limit() {
    let mut session = session();
    let text = [b"+RESP:GTFRI,".to_vec(), vec![b'1'; MESSAGE_BYTES_MAX]].concat();
    let expected = Split::Rubbish {
        consumed: MESSAGE_BYTES_MAX,
        reason: Reject::TooLong,
    };
    assert_eq!(
        session.split(&text[..MESSAGE_BYTES_MAX - 1]),
        Split::Incomplete
    );
    assert_eq!(session.split(&text[..MESSAGE_BYTES_MAX]), expected);
    let blanks = [vec![b'\n'; 10], text].concat();
    let blank = Split::Rubbish {
        consumed: 10,
        reason: Reject::Rubbish,
    };
    assert_eq!(session.split(&blanks[..MESSAGE_BYTES_MAX]), blank);
    let commas = [b"+RESP:GTFRI".to_vec(), vec![b','; fields::FIELDS_MAX]].concat();
    assert_eq!(decode(&commas), Err(Reject::TooLong));
    let group = "0,1.0,1.0,20260615095958,".repeat(LOCATIONS_MAX + 1);
    let many = format!("+RESP:GTFRI,1A0300,861234567890123,,,{group}{END}");
    assert_eq!(decode(many.as_bytes()), Err(Reject::TooLong));
}

#[test]
fn an_extended_report_has_sensors_by_its_mask() {
    let extended = |mask: &str, more: &str| {
        report(&format!(
            "+RESP:GTERI,060502,861234567890123,,{mask},27822,10,1,{GROUP},00,0.0,,,,83,220104,2,{more},{END}"
        ))
        .attributes
    };
    // 0x0190 and 0xFFD8 are 400 and -40 sixteenths of a degree.
    let wired = extended("00000002", "2,28AA,1,0190,28BB,1,FFD8");
    assert_eq!(value(&wired, "temperature_c"), Some(Value::Float(25.0)));
    assert_eq!(value(&wired, "temperature_2_c"), Some(Value::Float(-2.5)));
    let fuel = extended("00000001", "0394");
    assert_eq!(value(&fuel, "fuel_sensor"), Some(Value::Int(0x394)));
    // As the GV200's document has it: no status word, digital inputs, and one more field before the reading.
    let many = report(&format!(
        "+RESP:GTERI,040408,861234567890123,,00000001,,10,1,{GROUP},00,0.0,,,2789,,05,02,,1,0097,{END}"
    ));
    let said = |name: &str| value(&many.attributes, name);
    assert_eq!(said("fuel_sensor"), Some(Value::Int(0x97)));
    assert_eq!(said("analog_2_v"), Some(Value::Float(2.789)));
    assert_eq!(said("inputs"), Some(Value::Int(5)));
    assert_eq!(said("outputs"), Some(Value::Int(2)));
    // Name, address, battery, temperature, humidity.
    let radio = extended("00000100", "1,00,6,2,,003B,PROBE,0A0B0C0D0E0F,3001,-4,36");
    assert_eq!(value(&radio, "temperature_c"), Some(Value::Float(-4.0)));
    assert_eq!(value(&radio, "humidity_percent"), Some(Value::Int(36)));
    let bus = extended("00000004", "0,0000003F,VIN7,2,H123456,L10.5,900,36");
    assert_eq!(value(&bus, "engine_rpm"), Some(Value::Int(900)));
    assert_eq!(value(&bus, "power_v"), Some(Value::Float(27.822)));
}

#[test]
fn bus_data_follow_their_mask() {
    let report = report(&format!(
        "+RESP:GTCAN,310701,861234567890123,,10,0,E00003FE,2,H123456,4236.08,1291,36,91,L/H4.5,P82.40,77,00000001,P55.5,1,{},{END}",
        &GROUP[2..]
    ));
    let said = |name: &str| value(&report.attributes, name);
    assert_eq!(said("ignition"), Some(Value::Bool(true)));
    assert_eq!(said("odometer_m"), Some(Value::Int(12_345_600)));
    assert_eq!(said("fuel_used_l"), Some(Value::Float(4236.08)));
    assert_eq!(said("engine_rpm"), Some(Value::Int(1291)));
    assert_eq!(said("tachograph_speed_mps"), Some(Value::Float(10.0)));
    assert_eq!(said("coolant_c"), Some(Value::Int(91)));
    assert_eq!(said("fuel_l_per_h"), Some(Value::Float(4.5)));
    assert_eq!(said("fuel_percent"), Some(Value::Float(82.4)));
    assert_eq!(said("adblue_percent"), Some(Value::Float(55.5)));
    assert_eq!(report.fix.position_deg(), Some((-20.25, 10.5)));
}

#[test]
fn diagnostics_stand_at_fixed_places() {
    let report = report(&format!(
        "+RESP:GTOBD,360201,861234567890123,1G1JC5444R7252367,,0,19FFFF,1G1JC5444R7252367,1,14283,983901C0,799,36,88,5.1,33792,0,1,1,0301,12,38,60,6,53557,{GROUP},00,{END}"
    ));
    let said = |name: &str| value(&report.attributes, name);
    assert_eq!(said("engine_rpm"), Some(Value::Int(799)));
    assert_eq!(said("tachograph_speed_mps"), Some(Value::Float(10.0)));
    assert_eq!(said("coolant_c"), Some(Value::Int(88)));
    assert_eq!(said("fault_codes"), text("0301"));
    assert_eq!(said("throttle_percent"), Some(Value::Int(12)));
    assert_eq!(said("engine_load_percent"), Some(Value::Int(38)));
    assert_eq!(said("fuel_percent"), Some(Value::Int(60)));
    assert_eq!(said("vin"), text("1G1JC5444R7252367"));
}

#[test]
fn a_device_says_what_it_is() {
    let state = read(&format!(
        "+RESP:GTINF,1A0800,861234567890123,,22,8949000000000000001,17,0,1,26.6,,3.90,1,1,0,0,0,20260615094043,69,1,44,,,{END}"
    ));
    let said = |name: &str| value(&state.attributes, name);
    assert_eq!(said("signal"), Some(Value::Int(17)));
    assert_eq!(said("odometer_m"), Some(Value::Int(26_600)));
    assert_eq!(said("battery_v"), Some(Value::Float(3.9)));
    assert_eq!(said("battery_percent"), Some(Value::Int(69)));
    assert_eq!(said("charging"), Some(Value::Bool(true)));
    assert_eq!(said("ignition"), Some(Value::Bool(true)));
    assert_eq!(said("iccid"), text("8949000000000000001"));
    let version = read(&format!(
        "+RESP:GTVER,1A0800,861234567890123,,GL300,0A03,0103,{END}"
    ));
    assert_eq!(value(&version.attributes, "model"), text("GL300"));
    assert_eq!(value(&version.attributes, "firmware"), text("0A03"));
    let cells = read(&format!(
        "+RESP:GTGSM,1A0800,861234567890123,FRI,0262,0001,1A2B,00C2,18,,0262,0001,1A2B,00C3,14,,,,,,,,{END}"
    ));
    assert_eq!(
        value(&cells.attributes, "cells"),
        text("262-1-6699-194 262-1-6699-195")
    );
    assert_eq!(cells.answer_now, b"+SACK:00A1$");
}

/// As the GT300's document has it: accuracy after altitude, count number and versions at the end, no `$`.
#[test]
fn a_gt300_has_its_accuracy_and_its_version_last() {
    let message = read(
        "+RESP:GTNMR,861234567890123,1,0,0,1,36.0,92,70.5,0,10.500000,-20.250000,20260615095958,0262,0001,1A2B,00C2,00,00A1,0102070202",
    );
    let fix = message.reports[0].fix;
    assert_eq!(
        (fix.speed_mm_s, fix.course_cdeg, fix.altitude_mm),
        (10_000, 9200, 70_500)
    );
    assert!(!fix.fields.has(FixFields::VALID), "accuracy 0");
    assert!(message.answer_when_safe.is_empty(), "its answer is another");
}

#[test]
fn times_are_utc_unless_the_operator_knows_better() {
    let text = format!("+RESP:GTFRI,1A0300,861234567890123,,0,0,1,{GROUP},00,,77,{END}");
    let settings = Settings {
        zone_minutes: Some(120),
        ..Settings::default()
    };
    let message = Session::new(&settings)
        .decode(text.as_bytes(), NOW)
        .unwrap();
    let fix = message.reports[0].fix;
    assert_eq!(rfc3339_ms(fix.time_ms), "2026-06-15T07:59:58.000Z");
}

/// The example of the GV200's document, section 4.6: IMEI 359231036735270, no protocol version by its mask.
const HEARTBEAT: &str = "2b484244eb1e010c01235c1f0343231b0007dc011e092026000de29c0d0a";

/// Two positions, stored: accuracy 2, 36.0 km/h, 90 degrees, 12 m, and accuracy 0, 36.5 km/h, 91 degrees, -3 m.
const TWO: &str = "2b4253500700fc1fbf006c4501020209560c22384e5a0c034d2f442207000202002400005a000c00a037a0fecb0270\
    07ea060f093b3a026200011a2b00c20000002405005bfffd00a03804fecb01a807ea060f093b3b026200011a2b00c20007ea060f0a000000a1\
    f42e0d0a";

/// Jamming, state 2, before the location.
const JAMMING: &str = "2b4556542100fc1fbf004c4501020209560c22384e5a0c034d2f4421070201020000010000000c00a037a0fecb027007\
    ea060f093b3a026200011a2b00c20007ea060f0a000000a120d30d0a";

/// Battery low, stored, without a location.
const BATTERY: &str =
    "2b4256540600fc1fbf002d4501020209560c22384e5a0c0305000041000e100007ea060f0a000000a18d990d0a";

/// Positions as differences: one in full at 36.0 km/h, 359 degrees; -1.0 km/h, 2 degrees, 150e-6 degree east, 200e-6
/// south; a second without; 1.0 km/h, 0, 2048e-6 west, 1023e-6 north.
const COMPRESSED: &str = "2b5253506400fc1fbf00464501020209560c22384e5a0c034d2f442207000462d16700a037a0fecb02706a2fcd1e\
    bd8104b73800a2804003ff07ea060f0a000000a16b240d0a";

#[test]
fn the_documents_heartbeat_is_read_and_its_check_agrees() {
    let message = decode(&bytes(HEARTBEAT)).unwrap();
    assert_eq!(message.kind, "heartbeat");
    assert_eq!(message.device, DeviceId::new(b"359231036735270"));
}

#[test]
fn binary_locations_are_found_by_their_shape() {
    let message = decode(&bytes(TWO)).unwrap();
    assert_eq!(message.device, DeviceId::new(b"861234567890123"));
    let [older, newer] = &message.reports[..] else {
        panic!("two positions");
    };
    assert_eq!(older.fix.position_deg(), Some((-20.25, 10.5)));
    assert_eq!(rfc3339_ms(older.fix.time_ms), "2026-06-15T09:59:58.000Z");
    assert_eq!(
        (older.fix.speed_mm_s, older.fix.course_cdeg),
        (10_000, 9000)
    );
    assert!(older.fix.fields.has(FixFields::VALID) && older.backlog);
    // 36.5 km/h is 10.1389 m/s.
    assert_eq!(
        (newer.fix.speed_mm_s, newer.fix.altitude_mm),
        (10_139, -3000)
    );
    assert!(!newer.fix.fields.has(FixFields::VALID));
    assert_eq!(value(&newer.attributes, "cells"), text("262-1-6699-194"));
    assert_eq!(
        value(&newer.attributes, "battery_percent"),
        Some(Value::Int(77))
    );
    assert_eq!(
        value(&newer.attributes, "power_v"),
        Some(Value::Float(12.1))
    );
    assert_eq!(newer.fix.satellites, 7);
    let event = decode(&bytes(JAMMING)).unwrap();
    assert_eq!(event.reports[0].momentary, AlarmKind::Jamming.into());
    assert_eq!(event.reports[0].fix.position_deg(), Some((-20.25, 10.5)));
}

#[test]
fn a_binary_alarm_without_a_location_is_a_report() {
    let mut message = decode(&bytes(BATTERY)).unwrap();
    let report = message.reports.pop().unwrap();
    assert_eq!(report.momentary, AlarmKind::BatteryLow.into());
    assert!(report.backlog && !report.fix.fields.has(FixFields::POSITION));
    assert_eq!(rfc3339_ms(report.fix.time_ms), "2026-06-15T10:00:00.000Z");
}

#[test]
fn differences_add_up() {
    let reports = decode(&bytes(COMPRESSED)).unwrap().reports;
    let places: Vec<_> = reports
        .iter()
        .map(|report| {
            (
                report.fix.lat_e7,
                report.fix.lon_e7,
                report.fix.time_ms % 60_000,
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            (-202_500_000, 105_000_000, 58_000),
            (-202_502_000, 105_001_500, 59_000),
            (-202_491_770, 104_981_020, 1000),
        ]
    );
    assert_eq!(reports[0].fix.course_cdeg, 35_900);
    // 35.0 km/h is 9.7222 m/s.
    assert_eq!(
        (reports[1].fix.speed_mm_s, reports[1].fix.course_cdeg),
        (9722, 100)
    );
}

#[test]
fn a_binary_message_is_checked() {
    let mut damaged = bytes(TWO);
    damaged[40] ^= 1;
    assert_eq!(decode(&damaged), Err(Reject::Checksum));
    let lenient = Settings {
        lenient: true,
        ..Settings::default()
    };
    assert!(Session::new(&lenient).decode(&damaged, NOW).is_ok());
    damaged[10] ^= 1;
    assert_eq!(decode(&damaged), Err(Reject::Length));
    let (messages, refused) = cut_up(&[damaged, bytes(TWO)].concat(), 7);
    assert_eq!(messages, [bytes(TWO)]);
    assert!(refused.contains(&Reject::Length));
}

proptest::proptest! {
    /// Bytes that look like messages reach further than any bytes do.
    #[test]
    fn whatever_the_fields_hold_is_read_without_panic(
        kind in "[A-Z]{3}",
        version in "[0-9A-F]{6}|8020(04|05)0[0-9]{3}|",
        fields in proptest::collection::vec(
            "-?[0-9]{0,12}|[0-9]{1,10}\\.[0-9]{0,9}|[0-9A-F]{2,8}|20260615[0-9]{6}|[0-9]{2}\\.[0-9]{6}|[HLPF:]?[0-9:.]*|",
            0..80,
        ),
        stored: bool,
    ) {
        let start = if stored { "+BUFF" } else { "+RESP" };
        let fields = fields.join(",");
        let text = format!("{start}:GT{kind},{version},861234567890123,,{fields},00A1$");
        let _ = decode(text.as_bytes());
    }

    #[test]
    fn whatever_a_binary_body_holds_is_read_without_panic(
        header in proptest::sample::select(binary::HEADERS.to_vec()),
        body in proptest::collection::vec(proptest::num::u8::ANY, 30..300),
        kind in proptest::sample::select(vec![100_u8, 7, 33, 45]),
    ) {
        let lenient = Settings { lenient: true, ..Settings::default() };
        let mut message = [header, &body[..], binary::END].concat();
        let len = (message.len() as u16).to_be_bytes();
        // Where headers have their length, behind a type and a mask; a name where the mask puts it.
        message[4] = kind;
        for at in [6, 7, 9] {
            message[at..at + 2].copy_from_slice(&len);
            if at == 9 {
                message[7] = 7;
                message[16..24].copy_from_slice(b"gb100\0\0\0");
            }
            let _ = Session::new(&lenient).decode(&message, NOW);
        }
        message.truncate(12);
        let _ = session().split(&message);
    }
}

/// A message of records: a position, behind a value whose number takes two bytes.
const RECORDS: &str = concat!(
    "2400003d00086123456789012301020304050026",
    "5a100bb700010200812302abcd",
    "52160806cb8080fea8ad605a100bb701900c0087ffff8309",
    "0001550d",
);

#[test]
fn records_behind_a_zero_are_positions() {
    // Messages of a newer form begin with a mark and a zero. They were rubbish, each byte up to the next plus sign.
    let message = bytes(RECORDS);
    let twice = [&message[..], &message].concat();
    for chunk_bytes in 1..=twice.len() {
        let (messages, refused) = cut_up(&twice, chunk_bytes);
        assert_eq!(messages, [&message[..], &message], "{chunk_bytes}");
        assert!(refused.is_empty(), "{chunk_bytes}");
    }

    let read = decode(&message).unwrap();

    assert_eq!(read.device, DeviceId::new(b"861234567890123"));
    let [report] = &read.reports[..] else {
        panic!("{} reports", read.reports.len());
    };
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (-225_000_000, 1_140_000_000));
    assert_eq!(rfc3339_ms(fix.time_ms), "2017-11-18T10:30:15.000Z");
    assert_eq!((fix.speed_mm_s, fix.course_cdeg), (11_111, 13_500));
    assert_eq!((fix.altitude_mm, fix.satellites), (-12_500, 9));
    assert!(fix.fields.has(FixFields::VALID));
    let dilution = value(&report.attributes, "hdop");
    assert_eq!(dilution, Some(Value::Float(1.2)));
}

#[test]
fn records_that_do_not_fit_are_none() {
    // The length, the sender, the length of the record.
    for at in [2, 5, 19] {
        let mut message = bytes(RECORDS);
        message[at] ^= 0x40;
        let (messages, _) = cut_up(&message, 100);
        let reports = messages.iter().filter_map(|message| decode(message).ok());
        assert_eq!(reports.map(|read| read.reports.len()).sum::<usize>(), 0);
    }
}

#[test]
fn records_are_found_behind_rubbish_in_any_reads() {
    // Whether a message was found behind rubbish hung on where a read ended: only a plus sign was looked for.
    let message = bytes(RECORDS);
    let stream = [b"x\0yz", &message[..], b"+R", &message].concat();
    for chunk_bytes in 1..=stream.len() {
        let (messages, _) = cut_up(&stream, chunk_bytes);
        assert_eq!(messages, [&message[..], &message], "{chunk_bytes}");
    }
}
