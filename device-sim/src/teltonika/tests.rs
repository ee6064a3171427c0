use super::*;
use crate::alarm;

/// 2023-11-14T22:13:20Z near Sydney.
const REPORT: Report = Report {
    time_s: 1_700_000_000,
    lat_e6: -33_867_485,
    lon_e6: 151_206_990,
    altitude_m: 58,
    speed_dkmh: 650,
    course_deg: 271,
    alarms: 0,
    odometer_hm: 12_345,
    satellites: 9,
    signal: 22,
};

const SOS: Report = Report {
    alarms: 1 << alarm::SOS,
    ..REPORT
};

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
}

fn hear(dialect: &mut impl Dialect, bytes: &[u8]) -> Result<Vec<Heard>, Damage> {
    let mut all = Vec::new();
    dialect.hear(bytes, &mut Vec::new(), &mut |heard| all.push(heard))?;
    Ok(all)
}

/// Writes one message and returns its bytes.
fn write(dialect: &mut impl Dialect, kind: Kind, reports: &[Report]) -> (Name, Vec<u8>) {
    let (name, mut out) = (dialect.name(kind, &reports[0]), Vec::new());
    dialect.write(name, kind, &mut reports.iter(), &mut out);
    (name, out)
}

const IMEI: &str = "866999000000003";

#[test]
fn check_is_the_catalogued_one() {
    assert_eq!(crc(b"123456789"), 0xbb3d);
    // The data of the vendor's first example of Codec 8, whose check is 0000c7cf.
    let data = hex(
        "08 01 0000016b40d8ea30 01 00000000 00000000 0000 0000 00 0000 01 05
         02 15 03 01 01 01 42 5e0f 01 f1 0000601a 01 4e 0000000000000000 01",
    );
    assert_eq!(crc(&data), 0xc7cf);
}

#[test]
fn record_of_codec_8_has_every_field_at_its_place() {
    let mut out = Vec::new();
    Codec::Eight.record(&REPORT, &mut out);
    // 1,700,000,000,000 ms; 1512069900 and -338674850 ten-millionths; 58 m, 271 degrees, 9 satellites, 65 km/h.
    let fixed = "0000018bcfe56800 00 5a205b0c ebd03b5e 003a 010f 09 0041";
    // No event, seven elements: ignition, movement, signal 22/6, good fix; 13.8 V, 4.05 V; 1,234,500 m.
    let elements = "00 07 04 ef01 f001 1503 4501 02 42 35e8 43 0fd2 01 10 0012d644 00";
    assert_eq!(out, hex(&format!("{fixed}{elements}")));
}

#[test]
fn record_of_codec_8_extended_has_wide_ids_and_a_string() {
    let mut out = Vec::new();
    Codec::Extended.record(&SOS, &mut out);
    let fixed = "0000018bcfe56800 02 5a205b0c ebd03b5e 003a 010f 09 0041";
    let few = "00ec 0009 0005 00ef01 00f001 001503 004501 00ec01";
    let more = "0002 0042 35e8 0043 0fd2 0001 0010 0012d644 0000";
    let vin = "0001 0100 0011 525753314d3030303030303053494d3031";
    assert_eq!(out, hex(&format!("{fixed}{few}{more}{vin}")));
}

#[test]
fn lost_power_is_an_event_of_high_priority() {
    let report = Report {
        alarms: 1 << alarm::POWER_CUT,
        ..REPORT
    };
    let mut out = Vec::new();
    Codec::Eight.record(&report, &mut out);
    assert_eq!((out[8], out[24]), (1, 252));
    assert!(out.windows(5).any(|five| five == hex("fc01 02 4200")));
}

#[test]
fn packet_has_length_and_check_around_its_records() {
    let mut stream = Stream::new(IMEI, 0);
    let mut out = Vec::new();
    assert!(!stream.greet(&mut out));
    assert_eq!(out, b"\x00\x0f866999000000003");
    let (_, packet) = write(&mut stream, Kind::Live, &[REPORT, SOS]);
    // Two records of 24 + 25 and 24 + 27 bytes.
    assert_eq!(packet.len(), 8 + 3 + 49 + 51 + 4);
    assert_eq!(packet[..10], hex("00000000 00000067 08 02"));
    assert_eq!(packet[110], 2);
    let check = crc(&packet[8..111]);
    assert_eq!(packet[111..], u32::from(check).to_be_bytes());
}

#[test]
fn answer_is_the_count_of_records_however_it_is_cut() {
    let mut stream = Stream::new(IMEI, 0);
    stream.greet(&mut Vec::new());
    assert_eq!(hear(&mut stream, &[1]), Ok(vec![Heard::Welcome]));
    let (name, _) = write(&mut stream, Kind::Live, &[REPORT, SOS]);
    assert_eq!(hear(&mut stream, &[0, 0, 0]), Ok(vec![]));
    assert_eq!(hear(&mut stream, &[2]), Ok(vec![Heard::Done(name.number)]));
    let (name, _) = write(&mut stream, Kind::Live, &[REPORT, SOS]);
    let one = [0, 0, 0, 1];
    assert_eq!(hear(&mut stream, &one), Ok(vec![Heard::Not(name.number)]));
    assert_eq!(hear(&mut stream, &one), Err(Damage::Form), "to nothing");
    stream.greet(&mut Vec::new());
    assert_eq!(hear(&mut stream, &[0]), Ok(vec![Heard::Refused(0)]));
}

#[test]
fn datagram_names_the_tracker_and_is_answered_by_its_numbers() {
    let mut tracker = Datagrams::new(IMEI, 0);
    assert!(tracker.greet(&mut Vec::new()));
    let (name, bytes) = write(&mut tracker, Kind::Live, &[REPORT]);
    // 23 bytes of head, then codec, count, 49 bytes, count.
    assert_eq!(bytes.len(), 23 + 3 + 49);
    assert_eq!(bytes[..8], hex("0049 0001 01 01 000f"));
    assert_eq!(&bytes[8..23], IMEI.as_bytes());
    assert_eq!((bytes[23], bytes[24], bytes[74]), (8, 1, 1));
    let two = [bytes.clone(), bytes.clone()].concat();
    assert_eq!(datagram_bytes(&two), bytes.len());
    assert_eq!(hear(&mut tracker, &hex("0005 0002 01 02 01")), Ok(vec![]));
    let done = hear(&mut tracker, &hex("0005 0001 01 01 01"));
    assert_eq!(done, Ok(vec![Heard::Done(name.number)]));
    assert_eq!(hear(&mut tracker, &[1]), Err(Damage::Form));
}
