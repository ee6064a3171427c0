use super::super::Report;
use super::*;
use crate::frame::{AlarmKind, Alarms, AttributeKey, FixFields, Value, rfc3339_ms};
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

/// A packet around data, with its check.
fn packet(data: &str) -> Vec<u8> {
    let data = unhex(data);
    let mut packet = vec![0; 4];
    packet.extend((data.len() as u32).to_be_bytes());
    packet.extend(&data);
    packet.extend(u32::from(crc16_arc(&data)).to_be_bytes());
    packet
}

/// A record of codec 8: 2026-06-15 10:00:00, 54.6 N, 25.25 E, 112 m, 90 degrees, 36 km/h, and what comes after.
fn record(priority: u8, satellites: u8, rest: &str) -> String {
    // 1,781,517,600,000 ms are 19ecab94500; 25.25 and 54.6 degrees are 0f0cd820 and 208b4c80 in 1e-7 degrees.
    format!(
        "0000019ecab94500 {priority:02x} 0f0cd820 208b4c80 0070 005a {satellites:02x} 0024 {rest}"
    )
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

fn read_one(bytes: &[u8]) -> Result<Message, Reject> {
    let mut results = read(&mut session(), bytes);
    assert_eq!(results.len(), 1, "{results:?}");
    results.remove(0)
}

fn stated(report: &Report, name: &str) -> Option<Value> {
    let attribute = report.attributes.iter().find(|a| a.key.name() == name);
    attribute.map(|attribute| attribute.value.clone())
}

/// Examples of the vendor's document on sending protocols, with what it says that they hold.
mod document {
    use super::*;

    #[test]
    fn codec_8_is_read_and_its_count_answered_when_safe() {
        let message = read_one(&unhex(
            "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A01\
             4E0000000000000000010000C7CF",
        ))
        .unwrap();
        assert!(message.answer_now.is_empty());
        assert_eq!(message.answer_when_safe, [0, 0, 0, 1]);
        let [report] = &message.reports[..] else {
            panic!("one report");
        };
        assert_eq!(rfc3339_ms(report.fix.time_ms), "2019-06-10T10:04:46.000Z");
        assert!(!report.fix.fields.has(FixFields::VALID), "no satellites");
        assert_eq!(stated(report, "event"), Some(Value::Int(1)));
        assert_eq!(stated(report, "priority"), Some(Value::Int(1)));
        assert_eq!(stated(report, "signal"), Some(Value::Int(3)));
        assert_eq!(stated(report, "inputs"), Some(Value::Int(1)));
        assert_eq!(stated(report, "power_v"), Some(Value::Float(24.079)));
        assert_eq!(stated(report, "operator"), Some(Value::Int(24602)));
        assert_eq!(stated(report, "driver_id"), None, "no key is touched");
    }

    #[test]
    fn codec_8_extended_has_wide_numbers() {
        let message = read_one(&unhex(
            "000000000000004A8E010000016B412CEE000100000000000000000000000000000000010005000100010100010011001D000100\
             10015E2C880002000B000000003544C87A000E000000001DD7E06A00000100002994",
        ))
        .unwrap();
        let report = &message.reports[0];
        assert_eq!(stated(report, "acceleration_x_mg"), Some(Value::Int(29)));
        assert_eq!(stated(report, "odometer_m"), Some(Value::Int(22_949_000)));
        assert_eq!(stated(report, "io_11"), Some(Value::Int(893_700_218)));
        assert_eq!(stated(report, "io_14"), Some(Value::Int(500_686_954)));
    }

    #[test]
    fn codec_16_says_what_made_a_record() {
        let message = read_one(&unhex(
            "000000000000005F10020000016BDBC7833000000000000000000000000000000000000B05040200010000030002000B00270042\
             563A00000000016BDBC7871800000000000000000000000000000000000B05040200010000030002000B00260042563A00000200\
             005FB3",
        ))
        .unwrap();
        assert_eq!(message.answer_when_safe, [0, 0, 0, 2]);
        let [first, second] = &message.reports[..] else {
            panic!("two reports");
        };
        assert_eq!(stated(first, "event"), Some(Value::Int(11)));
        assert_eq!(stated(first, "generation_type"), Some(Value::Int(5)));
        assert_eq!(stated(first, "power_v"), Some(Value::Float(22.074)));
        assert_eq!(second.fix.time_ms - first.fix.time_ms, 1000);
    }

    #[test]
    fn a_datagram_is_answered_with_both_of_its_numbers() {
        let datagram = unhex(
            "003DCAFE0105000F33353230393330383634303336353508010000016B4F815B30010000000000000000000000000000000103\
             021503010101425DBC000001",
        );
        let message = read_one(&datagram).unwrap();
        assert_eq!(message.device.unwrap().as_str(), "352093086403655");
        assert_eq!(message.answer_when_safe, unhex("0005CAFE010501"));
        assert!(message.answer_when_safe.len() < datagram.len());
    }

    #[test]
    fn an_answer_to_a_command_is_text_and_is_not_answered() {
        let message = read_one(&unhex(
            "00000000000000370C01060000002F4449313A31204449323A30204449333A302041494E313A302041494E323A313639323420444F\
             313A3020444F323A3101000066E3",
        ))
        .unwrap();
        let text = "DI1:1 DI2:0 DI3:0 AIN1:0 AIN2:16924 DO1:0 DO2:1";
        assert_eq!(message.attributes[0].key, AttributeKey::Result);
        assert_eq!(message.attributes[0].value, Value::Text(text.to_owned()));
        assert_eq!(
            (message.answer_now.len(), message.answer_when_safe.len()),
            (0, 0)
        );
    }
}

/// A datagram with 0 between its numbers was taken for one that wants no answer: its device sent it again for ever. The
/// vendor's example of codec 8 Extended over UDP is one, and is answered.
#[test]
fn a_datagram_is_answered_whatever_stands_between_its_numbers() {
    let records = format!("08 01 {} 01", record(0, 9, "00 00 00 00 00 00"));
    let rest = unhex(&format!(
        "cafe 00 1b 000f 333536333037303432343431303133 {records}"
    ));
    let datagram = [&(rest.len() as u16).to_be_bytes()[..], &rest].concat();
    let message = read_one(&datagram).unwrap();
    assert_eq!(message.reports.len(), 1);
    assert_eq!(message.answer_when_safe, unhex("0005cafe011b01"));
}

#[test]
fn a_login_names_the_sender_of_what_follows() {
    let mut bytes = unhex("000f");
    bytes.extend(b"490154203237518");
    bytes.push(0xff);
    bytes.extend(packet(&format!(
        "08 01 {} 01",
        record(0, 9, "00 00 00 00 00 00")
    )));
    let results = read(&mut session(), &bytes);
    let [login, keep_alive, records] = &results.map_ok()[..] else {
        panic!("three messages");
    };
    assert_eq!((login.kind, &login.answer_now[..]), ("login", &[1][..]));
    assert_eq!(
        (keep_alive.kind, keep_alive.answer_now.len()),
        ("keep_alive", 0)
    );
    assert_eq!(records.device.unwrap().as_str(), "490154203237518");
}

trait MapOk {
    fn map_ok(self) -> Vec<Message>;
}

impl MapOk for Vec<Result<Message, Reject>> {
    fn map_ok(self) -> Vec<Message> {
        self.into_iter().map(Result::unwrap).collect()
    }
}

#[test]
fn a_name_that_is_no_imei_is_refused_and_changes_nothing() {
    let mut session = session();
    for name in [&b"49015420323751x"[..], b"1234", b"4901542032375180"] {
        let mut bytes = (name.len() as u16).to_be_bytes().to_vec();
        bytes.extend(name);
        let message = read(&mut session, &bytes).remove(0).unwrap();
        assert_eq!(message.answer_now, [0]);
        assert_eq!(message.refused, Some(Reject::Device));
        assert_eq!(session.device, None);
    }
}

#[test]
fn a_record_is_read_field_by_field() {
    let message = read_one(&packet(&format!(
        "08 01 {} 01",
        record(0, 9, "00 03 02 ef 01 b4 01 00 01 10 00 00 04 d2 00")
    )))
    .unwrap();
    let fix = &message.reports[0].fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (546_000_000, 252_500_000));
    assert_eq!((fix.altitude_mm, fix.speed_mm_s), (112_000, 10_000));
    assert_eq!((fix.course_cdeg, fix.satellites), (9000, 9));
    assert_eq!(fix.time_ms, NOW.wall_ms);
    assert!(fix.fields.has(FixFields::VALID));
    let report = &message.reports[0];
    assert_eq!(stated(report, "ignition"), Some(Value::Bool(true)));
    assert_eq!(stated(report, "outputs"), Some(Value::Int(2)));
    assert_eq!(stated(report, "odometer_m"), Some(Value::Int(1234)));
    assert_eq!(stated(report, "event"), None, "a periodic record");
}

#[test]
fn a_wrong_check_is_refused_unless_lenient() {
    let mut bytes = packet(&format!("08 01 {} 01", record(0, 9, "00 00 00 00 00 00")));
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(read_one(&bytes), Err(Reject::Checksum));
    let settings = Settings {
        lenient: true,
        ..Settings::default()
    };
    let mut lenient = Session::new(&settings);
    assert_eq!(read(&mut lenient, &bytes).map_ok()[0].reports.len(), 1);
}

#[test]
fn events_are_alarms_only_in_the_record_that_they_made() {
    let alarms = |event: u8, id: u8, value: u8| {
        let rest = format!("{event:02x} 01 01 {id:02x} {value:02x} 00 00 00");
        let packet = packet(&format!("08 01 {} 01", record(1, 9, &rest)));
        read_one(&packet).unwrap().reports.remove(0).momentary
    };
    assert_eq!(alarms(252, 252, 1), AlarmKind::PowerCut.into());
    assert_eq!(alarms(252, 252, 0), Alarms::default(), "plugged in again");
    assert_eq!(alarms(0, 252, 1), Alarms::default());
    assert_eq!(alarms(253, 253, 3), AlarmKind::HarshCornering.into());
    assert_eq!(alarms(246, 246, 1), AlarmKind::IllegalMovement.into());
    assert_eq!(alarms(247, 247, 1), AlarmKind::Collision.into());
    assert_eq!(alarms(156, 156, 0), AlarmKind::AreaCrossed.into());
    let panic = packet(&format!("08 01 {} 01", record(2, 0, "00 00 00 00 00 00")));
    assert_eq!(
        read_one(&panic).unwrap().reports[0].momentary,
        AlarmKind::Sos.into()
    );
}

#[test]
fn the_fence_of_an_alarm_is_named() {
    let numbers = [
        155, 159, 61, 65, 70, 88, 91, 99, 153, 154, 190, 198, 208, 209, 216, 231,
    ];
    let zones = [1, 5, 6, 10, 11, 12, 13, 21, 22, 23, 24, 32, 33, 34, 35, 50];
    for (number, expected) in numbers.into_iter().zip(zones) {
        assert_eq!(super::io::zone(number), Some(expected));
    }
}

#[test]
fn a_number_of_an_older_family_is_not_taken_for_another() {
    // 81 is the cruise control where 88, of four bytes, is the speed of the engine.
    let rest = "00 02 01 51 01 00 01 58 00 00 04 20 00";
    let message = read_one(&packet(&format!("08 01 {} 01", record(0, 9, rest)))).unwrap();
    let report = &message.reports[0];
    assert_eq!(stated(report, "tachograph_speed_mps"), None);
    assert_eq!(stated(report, "io_81"), Some(Value::Int(1)));
    let rest = "00 01 01 51 24 00 00 00";
    let message = read_one(&packet(&format!("08 01 {} 01", record(0, 9, rest)))).unwrap();
    assert_eq!(
        stated(&message.reports[0], "tachograph_speed_mps"),
        Some(Value::Float(10.0))
    );
}

#[test]
fn values_of_any_length_are_bounded() {
    // Codec 8 extended: a vehicle's number, a list of beacons, and one that is too long to keep.
    let head = record(0, 9, "0000 0003 0000 0000 0000 0000 0003");
    let vin = "0100 0011 5756315a5a5a32455a3836303135333838";
    let long = format!("2a4f 0081 {}", "00".repeat(129));
    let data = format!("8e 01 {head} {vin} 0181 0002 1121 {long} 01");
    let message = read_one(&packet(&data)).unwrap();
    let report = &message.reports[0];
    assert_eq!(
        stated(report, "vin"),
        Some(Value::Text("WV1ZZZ2EZ86015388".to_owned()))
    );
    assert_eq!(stated(report, "io_385"), Some(Value::Int(0x1121)));
    assert_eq!(stated(report, "io_10831"), None);
}

#[test]
fn a_list_of_sixteen_bytes_is_found_by_the_length() {
    let rest = format!("00 00 00 00 00 00 01 cb {}", "00".repeat(16));
    let message = read_one(&packet(&format!("08 01 {} 01", record(0, 9, &rest)))).unwrap();
    assert_eq!(message.refused, None);
    assert_eq!(
        stated(&message.reports[0], "io_203"),
        Some(Value::Text("00".repeat(16)))
    );
}

#[test]
fn what_cannot_be_read_is_accepted_so_that_it_does_not_block_what_follows() {
    let good = record(0, 9, "00 00 00 00 00 00");
    let message = read_one(&packet(&format!("08 02 {good} 0102 02"))).unwrap();
    assert_eq!(message.reports.len(), 1);
    assert_eq!(message.refused, Some(Reject::Length));
    assert_eq!(message.answer_when_safe, [0, 0, 0, 2]);
    let message = read_one(&packet("08 01 00 01")).unwrap();
    assert_eq!(message.answer_now, [0, 0, 0, 1]);
    assert_eq!(message.refused, Some(Reject::Length));
}

#[test]
fn a_codec_that_is_not_known_is_told_that_nothing_was_accepted() {
    let message = read_one(&packet("77 01 00 01")).unwrap();
    assert_eq!(message.refused, Some(Reject::UnknownKind));
    assert_eq!(message.answer_now, [0, 0, 0, 0]);
}

#[test]
fn codec_7_has_masks_for_what_a_record_holds() {
    // 619,142,400 s after 2007 are 2026-08-15 00:00; 54.5 and 25.25 as 32-bit floats; 64/256 of a circle, 36 km/h.
    let record = "24e75d00 03 1f 425a0000 41ca0000 0070 40 24 09 01 de 01";
    let message = read_one(&packet(&format!("07 01 {record} 01"))).unwrap();
    let report = &message.reports[0];
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (545_000_000, 252_500_000));
    assert_eq!((fix.course_cdeg, fix.speed_mm_s), (9000, 10_000));
    assert_eq!(report.momentary, AlarmKind::Sos.into());
}

#[test]
fn a_text_for_another_device_says_whose_it_is() {
    let message = read_one(&packet("0e 01 11 00000008 0490154203237518 01")).unwrap();
    assert_eq!(message.device.unwrap().as_str(), "490154203237518");
    let message = read_one(&packet("0d 01 06 00000007 6a2fcb20 414243 01")).unwrap();
    assert_eq!(message.attributes[1].value, Value::Text("ABC".to_owned()));
}

#[test]
fn after_rubbish_the_next_message_is_found() {
    let good = packet(&format!("08 01 {} 01", record(0, 9, "00 00 00 00 00 00")));
    for rubbish in [&b"\x7e\x02\x00\x00"[..], b"$GPRMC,\r\n", b"\x00\x00\x01"] {
        let bytes = [rubbish, &good].concat();
        let results = read(&mut session(), &bytes);
        let (last, before) = results.split_last().unwrap();
        assert_eq!(last.as_ref().unwrap().reports.len(), 1);
        assert!(before.iter().all(Result::is_err));
    }
}

#[test]
fn messages_do_not_depend_on_how_bytes_are_cut() {
    let mut bytes = unhex("000f");
    bytes.extend(b"490154203237518\xff");
    let good = packet(&format!("08 01 {} 01", record(0, 9, "00 00 00 00 00 00")));
    bytes.extend([&good[..], b"rubbish", &good].concat());
    let good: Vec<_> = read(&mut session(), &bytes).into_iter().flatten().collect();
    assert_eq!(good.len(), 4);
    for cut in 0..bytes.len() {
        let pieces = [&bytes[..cut], &bytes[cut..]];
        let results = testing::read(&mut session(), &pieces, NOW);
        let messages: Vec<_> = results.into_iter().flatten().collect();
        assert_eq!(messages, good, "cut at {cut}");
    }
}

#[test]
fn the_number_of_a_sim_card_is_joined_where_its_check_digit_agrees() {
    // 8,949,020,000 is 215673560. By Luhn's rule 0 checks 894902000001234567, and 9 checks 8949020000001234567.
    let stated_for = |second: u64| {
        let rest = format!("00 02 00 00 00 02 0b 0000000215673560 0e {second:016x}");
        let packet = packet(&format!("08 01 {} 01", record(0, 9, &rest)));
        let report = read_one(&packet).unwrap().reports.remove(0);
        stated(&report, "iccid")
    };
    let text = |digits: &str| Some(Value::Text(digits.to_owned()));
    assert_eq!(stated_for(12_345_670), text("8949020000012345670"));
    assert_eq!(stated_for(12_345_679), text("89490200000012345679"));
    assert_eq!(stated_for(12_345_675), None);
}
