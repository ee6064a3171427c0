//! GT06 as a tracker speaks it: login, heartbeat, locations that nobody answers, alarms that are kept until answered.
//!
//! Written from the protocol's tables only. Trackers of the newer kind send 0x22 and 0x26 with UTC; the older kind
//! states its time zone at login and sends 0x12 and 0x16 with the time of that zone.

use crate::alarm;
use crate::calendar::Clock;
use crate::dialect::{ANSWER_BYTES_MAX, Damage, Dialect, Habits, Heard, Kind, Name};
use crate::report::Report;

/// Alarms that may await an answer at a time.
const IN_FLIGHT_MAX: usize = 64;
/// Resends of an alarm on one connection.
const RESENDS_MAX: u64 = 3;
/// The zone of older trackers, seconds east of UTC, and as the login has it: hours x 100, then four bits.
const ZONE: (i64, u16) = (8 * 3600, 800 << 4);

const LOGIN: u8 = 0x01;
const HEARTBEAT: u8 = 0x13;
/// Mobile country and network, area and cell.
const CELL: [u8; 8] = [0x01, 0xcc, 0x00, 0x28, 0x7d, 0x00, 0x1f, 0x71];
/// Ignition on and positioning on.
const STATE: u8 = 1 << 1 | 1 << 6;
/// The battery is full.
const VOLTAGE: u8 = 6;
/// English.
const LANGUAGE: u8 = 2;

/// Which messages a tracker sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Newer,
    Older,
}

/// A tracker.
#[derive(Debug)]
pub struct Speaker {
    imei: String,
    generation: Generation,
    serial: u16,
    logged_in: bool,
    signal: u8,
    partial: Vec<u8>,
}

impl Speaker {
    /// A tracker with this IMEI. Generations take turns.
    pub fn new(imei: &str, rank: u32) -> Speaker {
        Speaker {
            imei: imei.into(),
            generation: match rank % 2 {
                0 => Generation::Newer,
                _ => Generation::Older,
            },
            serial: 0,
            logged_in: false,
            signal: 4,
            partial: Vec::new(),
        }
    }

    /// Serials begin with 1.
    fn take_serial(&mut self) -> u16 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    fn login(&self) -> Vec<u8> {
        let mut content = packed(&self.imei);
        if self.generation == Generation::Older {
            // Type of the terminal, then the zone; the lowest bits are the language.
            content.extend_from_slice(&[0x36, 0x05]);
            content.extend_from_slice(&(ZONE.1 | u16::from(LANGUAGE)).to_be_bytes());
        }
        content
    }

    /// Number and content of a report's message.
    fn report(&self, report: &Report, kind: Kind) -> (u8, Vec<u8>) {
        let newer = self.generation == Generation::Newer;
        let mut content = position(report, if newer { 0 } else { ZONE.0 });
        let signal = report.signal / 8 + 1;
        if report.alarms != 0 {
            let (code, state) = match report.alarms & 1 << alarm::SOS {
                0 => (0x02, STATE | 0b010 << 3),
                _ => (0x01, STATE | 0b100 << 3),
            };
            // The length of the cell counts itself.
            content.push(CELL.len() as u8 + 1);
            content.extend_from_slice(&CELL);
            content.extend_from_slice(&[state, VOLTAGE, signal, code, LANGUAGE]);
            return (if newer { 0x26 } else { 0x16 }, content);
        }
        content.extend_from_slice(&CELL);
        if !newer {
            return (0x12, content);
        }
        // Ignition on, sent by time, live or stored, and the mileage in metres.
        content.extend_from_slice(&[1, 0, u8::from(kind == Kind::Stored)]);
        content.extend_from_slice(&(report.odometer_hm * 100).to_be_bytes());
        (0x22, content)
    }
}

impl Dialect for Speaker {
    /// All that waited for a connection is marked as stored.
    fn habits(&self) -> Habits {
        Habits {
            in_flight_max: IN_FLIGHT_MAX,
            live_max: 1,
            stored_max: 1,
            stored_above: 0,
            resends_max: RESENDS_MAX,
        }
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> bool {
        self.partial.clear();
        self.logged_in = false;
        let serial = self.take_serial();
        message(LOGIN, &self.login(), serial, out);
        false
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        each: &mut dyn FnMut(Heard),
    ) -> Result<(), Damage> {
        self.partial.extend_from_slice(bytes);
        while let Some(bytes) = whole(&self.partial)? {
            let (number, serial) = answer(&self.partial[..bytes])?;
            self.partial.drain(..bytes);
            match number {
                LOGIN if !self.logged_in && serial == self.serial => {
                    self.logged_in = true;
                    each(Heard::Welcome);
                }
                0x16 | 0x26 => each(Heard::Done(serial.into())),
                // Heartbeats are answered too, and commands mean nothing to this tracker.
                _ => {}
            }
        }
        Ok(())
    }

    fn name(&mut self, _kind: Kind, first: &Report) -> Name {
        Name {
            number: self.take_serial().into(),
            awaited: first.alarms != 0,
        }
    }

    fn write(
        &mut self,
        name: Name,
        kind: Kind,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    ) {
        if let Some(report) = reports.next() {
            self.signal = report.signal / 8 + 1;
            let (number, content) = self.report(report, kind);
            message(number, &content, name.number as u16, out);
        }
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        let serial = self.take_serial();
        let content = [STATE, VOLTAGE, self.signal, 0, LANGUAGE];
        message(HEARTBEAT, &content, serial, out);
    }
}

/// Appends a message of the short form.
fn message(number: u8, content: &[u8], serial: u16, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0x78, 0x78, content.len() as u8 + 5, number]);
    out.extend_from_slice(content);
    out.extend_from_slice(&serial.to_be_bytes());
    let check = crc(&out[start + 2..]);
    out.extend_from_slice(&check.to_be_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The eighteen bytes of a position.
fn position(report: &Report, east_s: i64) -> Vec<u8> {
    let clock = Clock::at(report.time_s, east_s);
    // 1/30000 minute: 1.8 of them are 1e-6 degree.
    let units = |e6: i32| (u64::from(e6.unsigned_abs()) * 9 / 5) as u32;
    // A fix, and the hemispheres.
    let mut flags = report.course_deg | 1 << 12;
    flags |= u16::from(report.lat_e6 >= 0) << 10 | u16::from(report.lon_e6 < 0) << 11;
    let mut out = vec![
        (clock.year - 2000) as u8,
        clock.month,
        clock.day,
        clock.hour,
        clock.minute,
        clock.second,
        0xc0 | report.satellites.min(15),
    ];
    out.extend_from_slice(&units(report.lat_e6).to_be_bytes());
    out.extend_from_slice(&units(report.lon_e6).to_be_bytes());
    out.push((report.speed_dkmh / 10).min(255) as u8);
    out.extend_from_slice(&flags.to_be_bytes());
    out
}

/// Digits, two to a byte, with a zero before an odd number of them.
fn packed(digits: &str) -> Vec<u8> {
    let padded = format!("{}{digits}", "0".repeat(digits.len() % 2));
    let pairs = padded.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| (pair[0] - b'0') << 4 | (pair[1] - b'0'))
        .collect()
}

/// Bytes of the first message, once it is complete.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Damage> {
    let length = match *bytes {
        [0x78, 0x78, length, ..] => usize::from(length) + 5,
        [0x79, 0x79, high, low, ..] => usize::from(u16::from_be_bytes([high, low])) + 6,
        [] | [0x78 | 0x79] | [0x78, 0x78] | [0x79, 0x79] | [0x79, 0x79, _] => return Ok(None),
        _ => return Err(Damage::Form),
    };
    match length {
        10..=ANSWER_BYTES_MAX => Ok((bytes.len() >= length).then_some(length)),
        _ => Err(Damage::Length),
    }
}

/// Number and serial of a whole message.
fn answer(bytes: &[u8]) -> Result<(u8, u16), Damage> {
    let (body, end) = bytes.split_at(bytes.len() - 4);
    if end[2..] != *b"\r\n" {
        return Err(Damage::Form);
    }
    if crc(&body[2..]).to_be_bytes() != end[..2] {
        return Err(Damage::Check);
    }
    let number = body[if bytes[0] == 0x78 { 3 } else { 4 }];
    let serial = body.last_chunk().ok_or(Damage::Length)?;
    Ok((number, u16::from_be_bytes(*serial)))
}

/// CRC-16/X.25: 0x1021 reflected, from all ones, inverted.
fn crc(bytes: &[u8]) -> u16 {
    let sum = bytes.iter().fold(0xffff, |sum, &byte| {
        let byte = sum ^ u16::from(byte);
        (0..8).fold(byte, |sum, _| {
            sum >> 1 ^ if sum & 1 == 1 { 0x8408 } else { 0 }
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// An IMEI of the GSM Association's texts.
    const IMEI: &str = "490154203237518";

    fn logged_in(rank: u32) -> Speaker {
        let mut speaker = Speaker::new(IMEI, rank);
        speaker.greet(&mut Vec::new());
        // The protocol's own example of an answer.
        let answer = hex("78 78 05 01 00 01 d9 dc 0d 0a");
        assert_eq!(hear(&mut speaker, &answer), Ok(vec![Heard::Welcome]));
        speaker
    }

    #[test]
    fn check_is_the_catalogued_one() {
        assert_eq!(crc(b"123456789"), 0x906e);
    }

    #[test]
    fn login_states_the_id_and_older_ones_their_zone() {
        let (mut newer, mut older) = (Vec::new(), Vec::new());
        Speaker::new(IMEI, 0).greet(&mut newer);
        Speaker::new(IMEI, 1).greet(&mut older);
        let expected = hex("78 78 0d 01 0490154203237518 0001 1f17 0d 0a");
        assert_eq!(newer, expected);
        // 800 for eight hours, and English.
        let expected = hex("78 78 11 01 0490154203237518 3605 3202 0001 5dad 0d 0a");
        assert_eq!(older, expected);
    }

    #[test]
    fn location_has_every_field_at_its_place() {
        // 33.867485 x 1,800,000 = 60961473; 151.206990 x 1,800,000 = 272172582. 65 km/h; fix, south, east, 271 degrees.
        let place = "c9 03a232c1 10390626 41 110f";
        let cell = "01cc 00 287d 001f71";
        let (name, bytes) = write(&mut logged_in(0), Kind::Live, &[REPORT]);
        assert!(!name.awaited);
        let newer = format!("22 170b0e160d14 {place} {cell} 01 00 00 0012d644 0002");
        assert_eq!(bytes[3..bytes.len() - 4], hex(&newer));
        assert_eq!(bytes[..3], hex("78 78 26"));
        assert_eq!(bytes.len(), 0x26 + 5);
        let (_, bytes) = write(&mut logged_in(0), Kind::Stored, &[REPORT]);
        assert_eq!(bytes[32], 1, "re-upload");
        // Eight hours east it is 06:13:20 of the next day.
        let (_, bytes) = write(&mut logged_in(1), Kind::Live, &[REPORT]);
        let older = format!("12 170b0f060d14 {place} {cell} 0002");
        assert_eq!(bytes[3..bytes.len() - 4], hex(&older));
    }

    #[test]
    fn hemispheres_are_flags() {
        let flags = |lat_e6, lon_e6| {
            let report = Report {
                lat_e6,
                lon_e6,
                ..REPORT
            };
            position(&report, 0)[16] & 0b1100
        };
        let all = [flags(5, 5), flags(-5, 5), flags(5, -5), flags(-5, -5)];
        assert_eq!(all, [0b0100, 0b0000, 0b1100, 0b1000]);
    }

    #[test]
    fn alarm_is_kept_until_its_serial_is_answered() {
        let mut speaker = logged_in(0);
        let (name, bytes) = write(&mut speaker, Kind::Live, &[SOS]);
        assert!(name.awaited);
        let rest = "09 01cc 00 287d 001f71 62 06 03 01 02 0002";
        assert_eq!(bytes[3], 0x26);
        assert_eq!(bytes[22..bytes.len() - 4], hex(rest));
        let mut answer = Vec::new();
        message(0x26, &[], 2, &mut answer);
        let heartbeat = hex("78 78 05 01 00 01 d9 dc 0d 0a");
        assert_eq!(hear(&mut speaker, &heartbeat), Ok(vec![]), "no login");
        assert_eq!(hear(&mut speaker, &answer[..7]), Ok(vec![]));
        let done = hear(&mut speaker, &answer[7..]);
        assert_eq!(done, Ok(vec![Heard::Done(name.number)]));
        let report = Report {
            alarms: 1 << alarm::POWER_CUT,
            ..REPORT
        };
        let (_, bytes) = write(&mut logged_in(1), Kind::Live, &[report]);
        assert_eq!((bytes[3], bytes[31], bytes[34]), (0x16, 0x52, 2));
    }

    #[test]
    fn damaged_answers_are_told_apart() {
        for (bytes, damage) in [
            ("78 78 05 01 00 01 d9 dd 0d 0a", Damage::Check),
            ("78 78 05 01 00 01 d9 dc 0d 0d", Damage::Form),
            ("78 78 04 01 00", Damage::Length),
            ("7e", Damage::Form),
        ] {
            let mut speaker = Speaker::new(IMEI, 0);
            assert_eq!(hear(&mut speaker, &hex(bytes)), Err(damage), "{bytes}");
        }
    }
}
