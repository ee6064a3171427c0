//! H02 as a tracker speaks it, as text or packed: positions with a status word that the tracker waits for no answer to.
//!
//! Written from the protocol's tables only. Some servers answer all the same, so what comes is held against the form
//! of an answer and passed over.

use crate::alarm;
use crate::calendar::Clock;
use crate::dialect::{ANSWER_BYTES_MAX, Damage, Dialect, Habits, Heard, Kind, Name};
use crate::report::{Report, degrees_minutes};

/// Status bits, which are 0 while they apply: SOS, and power cut.
const SOS_BIT: u32 = 1;
const POWER_CUT_BIT: u32 = 19;

/// Status of the battery: full.
const BATTERY: u8 = 6;
/// What stands behind the status of a packed position; its length is what trackers of this age send.
const PACKED_REST: [u8; 3] = [0; 3];

/// How a tracker writes its positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Packed,
}

/// A tracker.
#[derive(Debug)]
pub struct Speaker {
    id: String,
    form: Form,
    partial: Vec<u8>,
}

impl Speaker {
    /// A tracker with this id of ten digits. Forms take turns; a heartbeat is text in both.
    pub fn new(id: &str, rank: u32) -> Speaker {
        Speaker {
            id: id.into(),
            form: match rank % 2 {
                0 => Form::Text,
                _ => Form::Packed,
            },
            partial: Vec::new(),
        }
    }

    /// Whether a whole answer is one to this tracker.
    fn is_answer(&self, answer: &[u8]) -> bool {
        let start = format!("*HQ,{},", self.id);
        answer.starts_with(start.as_bytes()) && answer.ends_with(b"#")
    }
}

impl Dialect for Speaker {
    fn habits(&self) -> Habits {
        Habits {
            in_flight_max: 1,
            live_max: 1,
            stored_max: 1,
            stored_above: usize::MAX,
            resends_max: 0,
        }
    }

    fn greet(&mut self, _out: &mut Vec<u8>) -> bool {
        self.partial.clear();
        true
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        _each: &mut dyn FnMut(Heard),
    ) -> Result<(), Damage> {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'#') {
            let answer: Vec<u8> = self.partial.drain(..=end).collect();
            if !self.is_answer(&answer) {
                return Err(Damage::Form);
            }
        }
        match self.partial.len() {
            0..=ANSWER_BYTES_MAX => Ok(()),
            _ => Err(Damage::Length),
        }
    }

    fn name(&mut self, _kind: Kind, _first: &Report) -> Name {
        Name {
            number: 0,
            awaited: false,
        }
    }

    fn write(
        &mut self,
        _name: Name,
        _kind: Kind,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    ) {
        if let Some(report) = reports.next() {
            match self.form {
                Form::Text => out.extend_from_slice(position(&self.id, report).as_bytes()),
                Form::Packed => pack(&self.id, report, out),
            }
        }
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        // The battery is full.
        out.extend_from_slice(format!("*HQ,{},HTBT,100#", self.id).as_bytes());
    }
}

/// The status word.
fn status(report: &Report) -> u32 {
    let mut word = u32::MAX;
    for (bit, place) in [(alarm::SOS, SOS_BIT), (alarm::POWER_CUT, POWER_CUT_BIT)] {
        word &= !((report.alarms >> bit & 1) << place);
    }
    word
}

/// Appends a packed position: decimal digits, two to a byte.
fn pack(id: &str, report: &Report, out: &mut Vec<u8>) {
    let clock = Clock::utc(report.time_s);
    let (lat, lat_e5) = degrees_minutes(report.lat_e6);
    let (lon, lon_e5) = degrees_minutes(report.lon_e6);
    out.push(b'$');
    digits(&format!("{id:0>10}{}{}", clock.hms(), clock.dmy()), out);
    digits(&format!("{lat:02}{:06}", lat_e5 / 10), out);
    out.push(BATTERY);
    // A fix, the north, the east.
    let flags = 1 << 1 | u8::from(report.lat_e6 >= 0) << 2 | u8::from(report.lon_e6 >= 0) << 3;
    let start = out.len();
    digits(&format!("{lon:03}{:06}0", lon_e5 / 10), out);
    out[start + 4] |= flags;
    digits(
        &format!("{:03.0}{:03}", report.knots(), report.course_deg),
        out,
    );
    out.extend_from_slice(&status(report).to_be_bytes());
    out.extend_from_slice(&PACKED_REST);
}

/// Appends an even number of digits.
fn digits(text: &str, out: &mut Vec<u8>) {
    let pairs = text.as_bytes().chunks_exact(2);
    out.extend(pairs.map(|pair| (pair[0] - b'0') << 4 | (pair[1] - b'0')));
}

/// A position as text.
fn position(id: &str, report: &Report) -> String {
    let status = status(report);
    let clock = Clock::utc(report.time_s);
    let (lat, lat_e5) = degrees_minutes(report.lat_e6);
    let (lon, lon_e5) = degrees_minutes(report.lon_e6);
    // Minutes have four decimals.
    let (lat_e4, lon_e4) = (lat_e5 / 10, lon_e5 / 10);
    format!(
        "*HQ,{id},V1,{},A,{lat:02}{:02}.{:04},{},{lon:03}{:02}.{:04},{},{:06.2},{:03},{},{status:08X}#",
        clock.hms(),
        lat_e4 / 10_000,
        lat_e4 % 10_000,
        if report.lat_e6 < 0 { 'S' } else { 'N' },
        lon_e4 / 10_000,
        lon_e4 % 10_000,
        if report.lon_e6 < 0 { 'W' } else { 'E' },
        report.knots(),
        report.course_deg,
        clock.dmy(),
    )
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

    #[test]
    fn position_has_every_field_at_its_place() {
        // 33.867485 degrees: 52.0491 minutes; 151.206990: 12.4194. 65 km/h are 35.097 knots.
        let expected =
            "*HQ,4100000012,V1,221320,A,3352.0491,S,15112.4194,E,035.10,271,141123,FFFFFFFF#";
        assert_eq!(position("4100000012", &REPORT), expected);
    }

    #[test]
    fn packed_position_has_every_field_at_its_place() {
        let mut out = Vec::new();
        pack("4100000012", &SOS, &mut out);
        // A fix, south and east: 1010. 65 km/h are 35 knots.
        let expected: [u8; 32] = [
            0x24, 0x41, 0x00, 0x00, 0x00, 0x12, 0x22, 0x13, 0x20, 0x14, 0x11, 0x23, 0x33, 0x52,
            0x04, 0x91, 0x06, 0x15, 0x11, 0x24, 0x19, 0x4a, 0x03, 0x52, 0x71, 0xff, 0xff, 0xff,
            0xfd, 0x00, 0x00, 0x00,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn status_bits_are_0_while_they_apply() {
        let status = |alarms| {
            let text = position("1", &Report { alarms, ..REPORT });
            text[text.len() - 9..text.len() - 1].to_string()
        };
        assert_eq!(status(SOS.alarms), "FFFFFFFD");
        assert_eq!(status(1 << alarm::POWER_CUT), "FFF7FFFF");
        let both = SOS.alarms | 1 << alarm::POWER_CUT;
        assert_eq!(status(both), "FFF7FFFD");
    }

    #[test]
    fn answers_are_not_awaited_but_must_be_answers() {
        let mut speaker = Speaker::new("4100000012", 0);
        assert!(speaker.greet(&mut Vec::new()));
        let (name, bytes) = write(&mut speaker, Kind::Live, &[REPORT]);
        assert!(!name.awaited && bytes.ends_with(b"#"));
        let answer = b"*HQ,4100000012,V4,V1,20231114221320#*HQ,41000";
        assert_eq!(hear(&mut speaker, answer), Ok(vec![]));
        assert_eq!(hear(&mut speaker, b"00012,R12,221320#"), Ok(vec![]));
        let other = b"*HQ,4100000013,R12,221320#";
        assert_eq!(hear(&mut speaker, other), Err(Damage::Form));
    }
}
