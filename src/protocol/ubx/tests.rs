use super::*;
use crate::frame::{Fix, FixFields, Value, rfc3339_ms};
use crate::protocol::testing;

/// 2026-06-15T12:00:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_524_800_000,
};

fn session(mode: Mode) -> Session {
    Session::new(&Settings::default(), mode)
}

/// A message with its check, which is computed here by the rule of the interface description.
fn ubx(class: u8, id: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0xb5, 0x62, class, id];
    message.extend((payload.len() as u16).to_le_bytes());
    message.extend(payload);
    let (mut a, mut b) = (0_u32, 0_u32);
    for &byte in &message[2..] {
        a += u32::from(byte);
        b += a;
    }
    message.extend([(a % 256) as u8, (b % 256) as u8]);
    message
}

/// NAV-PVT of 2026-06-15 11:59:59 and `nano`, at 48.1173 north, 11.5166667 east, with a 3D fix.
fn pvt(bytes: usize, nano: i32) -> Vec<u8> {
    let mut payload = vec![0; bytes];
    let mut put = |offset: usize, field: &[u8]| {
        payload[offset..offset + field.len()].copy_from_slice(field);
    };
    put(0, &129_600_000_u32.to_le_bytes());
    put(4, &2026_u16.to_le_bytes());
    put(6, &[6, 15, 11, 59, 59]);
    put(11, &[0b0111]);
    put(16, &nano.to_le_bytes());
    put(20, &[3, 0b1000_0011, 0, 14]);
    put(24, &115_166_667_i32.to_le_bytes());
    put(28, &481_173_000_i32.to_le_bytes());
    put(32, &592_000_i32.to_le_bytes());
    put(36, &545_400_i32.to_le_bytes());
    put(40, &1_234_u32.to_le_bytes());
    put(60, &11_524_i32.to_le_bytes());
    put(64, &8_440_000_i32.to_le_bytes());
    put(76, &185_u16.to_le_bytes());
    payload
}

/// Feeds `stream` in pieces; gives the reports.
fn feed(session: &mut Session, stream: &[u8], chunk_bytes: usize) -> Vec<Report> {
    let pieces: Vec<_> = stream.chunks(chunk_bytes).collect();
    let read = testing::read(session, &pieces, NOW);
    let messages = read.into_iter().flatten().chain(session.flush());
    messages.flat_map(|message| message.reports).collect()
}

fn only_fix(stream: &[u8]) -> Fix {
    let reports = feed(&mut session(Mode::Epoch), stream, usize::MAX);
    assert_eq!(reports.len(), 1);
    reports[0].fix
}

fn time(fix: &Fix) -> Option<String> {
    fix.time().map(rfc3339_ms)
}

#[test]
fn a_navigation_solution_is_a_report_with_its_message() {
    let mut session = session(Mode::Epoch);
    let message = ubx(1, 7, &pvt(92, 0));
    let reports = session.decode(&message, NOW).unwrap().reports;
    let [report] = &reports[..] else {
        panic!("one report");
    };
    let fix = &report.fix;
    assert_eq!((fix.lat_e7, fix.lon_e7), (481_173_000, 115_166_667));
    assert_eq!((fix.altitude_mm, fix.accuracy_mm), (545_400, 1234));
    assert_eq!((fix.speed_mm_s, fix.course_cdeg), (11_524, 8440));
    assert_eq!(
        (fix.satellites, time(fix).as_deref()),
        (14, Some("2026-06-15T11:59:59.000Z"))
    );
    assert!(fix.fields.has(FixFields::VALID));
    let said = |key| {
        report
            .attributes
            .iter()
            .find(|a| a.key == key)
            .map(|a| &a.value)
    };
    assert_eq!(said(AttributeKey::FixMode), Some(&Value::Int(3)));
    assert_eq!(said(AttributeKey::Pdop), Some(&Value::Float(1.85)));
    assert_eq!(
        said(AttributeKey::GeoidSeparationM),
        Some(&Value::Float(46.6))
    );
    assert_eq!(said(AttributeKey::DeadReckoning), None);
    assert_eq!(session.flush(), None);
}

#[test]
fn the_shorter_edition_says_the_same() {
    assert_eq!(
        only_fix(&ubx(1, 7, &pvt(84, 0))),
        only_fix(&ubx(1, 7, &pvt(92, 0)))
    );
}

#[test]
fn the_second_is_corrected_by_nanoseconds_of_either_sign() {
    let at = |nano| time(&only_fix(&ubx(1, 7, &pvt(92, nano))));
    assert_eq!(
        at(-250_000_000).as_deref(),
        Some("2026-06-15T11:59:58.750Z")
    );
    assert_eq!(at(-400).as_deref(), Some("2026-06-15T11:59:59.000Z"));
    assert_eq!(at(999_999_999).as_deref(), Some("2026-06-15T12:00:00.000Z"));
}

#[test]
fn without_a_fix_there_is_no_position_and_without_a_valid_date_no_time() {
    let mut payload = pvt(92, 0);
    (payload[20], payload[21]) = (0, 0);
    let fix = only_fix(&ubx(1, 7, &payload));
    assert_eq!(fix.fields.0 & !FixFields::SATELLITES, FixFields::TIME);
    payload[11] = 0b01;
    let reports = feed(&mut session(Mode::Epoch), &ubx(1, 7, &payload), 1000);
    assert_eq!(reports, []);
    // A position that the receiver does not vouch for.
    let mut payload = pvt(92, 0);
    payload[21] = 0;
    let fix = only_fix(&ubx(1, 7, &payload));
    assert!(fix.fields.has(FixFields::POSITION) && !fix.fields.has(FixFields::VALID));
    // The bit that says that the position is invalid.
    let mut payload = pvt(92, 0);
    payload[78] = 1;
    assert_eq!(
        feed(&mut session(Mode::Epoch), &ubx(1, 7, &payload), 1000),
        []
    );
}

#[test]
fn a_receiver_that_takes_the_time_only_states_its_position_but_has_no_fix() {
    let mut payload = pvt(92, 0);
    payload[20] = 5;
    let fix = only_fix(&ubx(1, 7, &payload));
    assert!(fix.fields.has(FixFields::POSITION) && !fix.fields.has(FixFields::VALID));
    payload[21] = 0;
    let fix = only_fix(&ubx(1, 7, &payload));
    assert!(!fix.fields.has(FixFields::POSITION) && fix.fields.has(FixFields::TIME));
}

#[test]
fn dead_reckoning_is_marked() {
    let mut payload = pvt(92, 0);
    payload[20] = 1;
    let reports = feed(&mut session(Mode::Epoch), &ubx(1, 7, &payload), 1000);
    let marked = reports[0]
        .attributes
        .iter()
        .any(|a| (&a.key, &a.value) == (&AttributeKey::DeadReckoning, &Value::Bool(true)));
    assert!(marked && reports[0].fix.fields.has(FixFields::POSITION));
}

#[test]
fn a_lost_week_count_is_repaired_in_a_live_stream() {
    let mut payload = pvt(92, 0);
    // 2026-06-15 less 7168 days.
    payload[4..8].copy_from_slice(&[0xd6, 0x07, 10, 30]);
    let fix = only_fix(&ubx(1, 7, &payload));
    assert_eq!(fix.time_source, TimeSource::RolloverRepaired);
    assert_eq!(time(&fix).as_deref(), Some("2026-06-15T11:59:59.000Z"));
}

/// NAV-STATUS, NAV-POSLLH, NAV-VELNED and NAV-TIMEUTC of one time of week.
fn older(tow_ms: u32, second: u8) -> Vec<u8> {
    let with_tow = |bytes: usize, fields: &[(usize, &[u8])]| {
        let mut payload = vec![0; bytes];
        payload[..4].copy_from_slice(&tow_ms.to_le_bytes());
        for &(offset, field) in fields {
            payload[offset..offset + field.len()].copy_from_slice(field);
        }
        payload
    };
    let place = with_tow(
        28,
        &[
            (4, &115_166_667_i32.to_le_bytes()),
            (8, &481_173_000_i32.to_le_bytes()),
        ],
    );
    let speed = with_tow(
        36,
        &[
            (20, &1152_u32.to_le_bytes()),
            (24, &8_440_000_i32.to_le_bytes()),
        ],
    );
    let utc = with_tow(20, &[(12, &[0xea, 0x07, 6, 15, 12, 0, second, 0b111])]);
    [
        ubx(1, 3, &with_tow(16, &[(4, &[3, 1])])),
        ubx(1, 2, &place),
        ubx(1, 0x12, &speed),
        ubx(1, 0x21, &utc),
    ]
    .concat()
}

#[test]
fn messages_of_older_receivers_are_one_report_for_each_time_of_week() {
    let stream = [older(1000, 0), older(2000, 1), older(3000, 2)].concat();
    let reports = feed(&mut session(Mode::Epoch), &stream, usize::MAX);
    let times: Vec<_> = reports
        .iter()
        .map(|report| time(&report.fix).unwrap())
        .collect();
    assert_eq!(
        times,
        [
            "2026-06-15T12:00:00.000Z",
            "2026-06-15T12:00:01.000Z",
            "2026-06-15T12:00:02.000Z"
        ]
    );
    for report in &reports {
        let fix = &report.fix;
        assert_eq!(
            (fix.lat_e7, fix.speed_mm_s, fix.course_cdeg),
            (481_173_000, 11_520, 8440)
        );
        assert!(fix.fields.has(FixFields::VALID));
    }
}

#[test]
fn from_the_second_epoch_on_the_last_message_of_the_cycle_brings_the_report() {
    let mut live = session(Mode::Epoch);
    let stream = [older(1000, 0), older(2000, 1)].concat();
    let mut reports = 0;
    let mut rest = &stream[..];
    while let Split::Message { range, consumed } = live.split(rest) {
        reports += live.decode(&rest[range], NOW).unwrap().reports.len();
        rest = &rest[consumed..];
    }
    assert_eq!((reports, live.flush()), (2, None));
}

#[test]
fn nav_eoe_ends_an_epoch_of_older_messages() {
    let mut live = session(Mode::Epoch);
    let stream = [older(1000, 0), ubx(1, 0x61, &1000_u32.to_le_bytes())].concat();
    let mut reports = 0;
    let mut rest = &stream[..];
    while let Split::Message { range, consumed } = live.split(rest) {
        reports += live.decode(&rest[range], NOW).unwrap().reports.len();
        rest = &rest[consumed..];
    }
    assert_eq!((reports, live.flush()), (1, None));
}

/// RTCM 3 of two zero bytes of body; the check is CRC-24Q, done by hand with the polynomial 1864cfb.
fn rtcm() -> Vec<u8> {
    let mut message = vec![0xd3, 0, 2, 0, 0];
    let mut sum = 0_u32;
    for &byte in &message {
        sum ^= u32::from(byte) << 16;
        for _ in 0..8 {
            sum <<= 1;
            if sum & 0x0100_0000 != 0 {
                sum ^= 0x0186_4cfb;
            }
        }
    }
    message.extend(&sum.to_be_bytes()[1..]);
    message
}

fn mixed() -> Vec<u8> {
    [
        b"\x00\xb5\xd3$noise\xb5\x62\x01\x07".to_vec(),
        ubx(1, 7, &pvt(92, 0)),
        b"$GPTXT,01,01,02,text*00\r\n\r\n".to_vec(),
        rtcm(),
        // Another message is sound but not read; one within a damaged one is found.
        ubx(1, 0x35, &[0; 68]),
        b"\xb5\x62\x01\x35\x40\x00\x01".to_vec(),
        ubx(1, 7, &pvt(84, 1_000_000)),
        b"$GPGGA,1".to_vec(),
        ubx(1, 7, &pvt(92, 2_000_000)),
    ]
    .concat()
}

#[test]
fn what_else_is_on_the_line_costs_no_report_however_it_is_cut() {
    let stream = mixed();
    let whole = feed(&mut session(Mode::Epoch), &stream, usize::MAX);
    let ms: Vec<_> = whole
        .iter()
        .map(|report| report.fix.time_ms % 1000)
        .collect();
    assert_eq!(ms, [0, 1, 2]);
    for chunk_bytes in 1..200 {
        let cut = feed(&mut session(Mode::Epoch), &stream, chunk_bytes);
        assert_eq!(cut, whole, "chunks of {chunk_bytes}");
    }
}

#[test]
fn rtcm_and_sentences_are_no_rubbish() {
    let mut live = session(Mode::Epoch);
    let stream = [rtcm(), b"$GPTXT,01,01,02,text*00\r\n".to_vec()].concat();
    let mut kinds = Vec::new();
    let mut rest = &stream[..];
    while let Split::Message { range, consumed } = live.split(rest) {
        kinds.push(live.decode(&rest[range], NOW).unwrap().kind);
        rest = &rest[consumed..];
    }
    assert_eq!((kinds, live.is_part(rest)), (vec!["rtcm", "nmea"], false));
}

#[test]
fn a_wrong_check_is_refused_unless_told_otherwise() {
    let mut damaged = ubx(1, 7, &pvt(92, 0));
    damaged[70] ^= 1;
    let split = session(Mode::Epoch).split(&damaged);
    assert!(matches!(
        split,
        Split::Rubbish {
            reason: Reject::Checksum,
            ..
        }
    ));
    let settings = Settings {
        lenient: true,
        ..Settings::default()
    };
    let reports = feed(&mut Session::new(&settings, Mode::Epoch), &damaged, 7);
    assert_eq!(reports.len(), 1);
}

#[test]
fn a_length_that_no_such_message_has_is_not_waited_for() {
    for bytes in [
        &b"\xb5\x62\x01\x07\x5c\x1f"[..],
        b"\xb5\x62\x02\x15\xff\xff",
    ] {
        let split = session(Mode::Epoch).split(bytes);
        assert!(matches!(
            split,
            Split::Rubbish {
                reason: Reject::Length,
                ..
            }
        ));
    }
}

#[test]
fn the_receivers_program_is_an_attribute() {
    let mut payload = vec![0; 40];
    payload[..9].copy_from_slice(b"EXT 1.00a");
    payload[30..38].copy_from_slice(b"00190000");
    let message = session(Mode::Epoch)
        .decode(&ubx(0x0a, 4, &payload), NOW)
        .unwrap();
    let said: Vec<_> = message
        .attributes
        .iter()
        .map(|a| (&a.key, &a.value))
        .collect();
    assert_eq!(
        said,
        [
            (
                &AttributeKey::Firmware,
                &Value::Text("EXT 1.00a".to_owned())
            ),
            (&AttributeKey::Hardware, &Value::Text("00190000".to_owned())),
        ]
    );
}
