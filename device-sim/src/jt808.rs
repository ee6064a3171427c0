//! JT/T 808 as a terminal speaks it, editions 2011, 2013 and 2019: writes messages, reads answers.
//!
//! Written from the protocol's tables only, so that a mistake in the runtime's decoder cannot hide in a shared
//! encoder. Pure: bytes in, bytes out. When to send what is [`crate::device`]'s matter.

pub mod dialect;

use crate::calendar::Clock;
use crate::dialect::{ANSWER_BYTES_MAX, Damage};
use crate::report::Report;

/// Register.
pub const REGISTER: u16 = 0x0100;
/// Authenticate.
pub const AUTHENTICATE: u16 = 0x0102;
/// Heartbeat.
pub const HEARTBEAT: u16 = 0x0002;
/// Location.
pub const LOCATION: u16 = 0x0200;
/// Batch of locations.
pub const BATCH: u16 = 0x0704;

/// Most bytes of a message's body.
pub const BODY_BYTES_MAX: usize = 1023;
/// Bytes of a location with the items that [`location`] writes.
pub const LOCATION_BYTES: usize = 40;
/// Most locations that fit a batch: count and type, then length and location each.
pub const BATCH_REPORTS_MAX: usize = (BODY_BYTES_MAX - 3) / (LOCATION_BYTES + 2);

const FLAG: u8 = 0x7e;
const ESCAPE: u8 = 0x7d;
/// The standard's times are those of Beijing.
const ZONE_S: i64 = 8 * 3600;

/// Edition of the standard that a terminal follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// JT/T 808-2011.
    Y2011,
    /// The supplement of 2013 for BeiDou terminals.
    Y2013,
    /// JT/T 808-2019.
    Y2019,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// How it speaks.
    pub edition: Edition,
    /// Its phone number, at most 12 digits.
    pub phone: u64,
}

impl Terminal {
    /// Appends a whole message: flags, header, body, check, escapes.
    pub fn message(&self, out: &mut Vec<u8>, id: u16, serial: u16, body: &[u8]) {
        debug_assert!(body.len() <= BODY_BYTES_MAX, "a body fits one packet");
        let mut header = [0; 17];
        header[0..2].copy_from_slice(&id.to_be_bytes());
        let length = body.len() as u16;
        let used = match self.edition {
            Edition::Y2011 | Edition::Y2013 => {
                header[2..4].copy_from_slice(&length.to_be_bytes());
                bcd(self.phone, &mut header[4..10]);
                10
            }
            Edition::Y2019 => {
                header[2..4].copy_from_slice(&(length | 1 << 14).to_be_bytes());
                header[4] = 1;
                bcd(self.phone, &mut header[5..15]);
                15
            }
        };
        header[used..used + 2].copy_from_slice(&serial.to_be_bytes());
        let header = &header[..used + 2];
        let check = header.iter().chain(body).fold(0, |sum, byte| sum ^ byte);
        out.push(FLAG);
        escape(header, out);
        escape(body, out);
        escape(&[check], out);
        out.push(FLAG);
    }

    /// Body of a registration.
    pub fn registration(&self) -> Vec<u8> {
        let (maker, model, id) = match self.edition {
            Edition::Y2011 => (5, 8, 7),
            Edition::Y2013 => (5, 20, 7),
            Edition::Y2019 => (11, 30, 30),
        };
        let digits = self.phone.to_string();
        let tail = &digits[digits.len().saturating_sub(7)..];
        let mut body = vec![0, 11, 0, 108];
        padded(&mut body, "RWSIM", maker);
        padded(&mut body, "SIM-1", model);
        padded(&mut body, tail, id);
        // Plate colour blue, then a plate of ASCII letters, which GBK encodes alike.
        body.push(1);
        body.extend_from_slice(format!("R{tail}").as_bytes());
        body
    }

    /// Body of an authentication with the code from the registration.
    pub fn authentication(&self, code: &[u8]) -> Vec<u8> {
        if self.edition != Edition::Y2019 {
            return code.to_vec();
        }
        let mut body = vec![code.len() as u8];
        body.extend_from_slice(code);
        body.extend_from_slice(format!("{:015}", self.phone).as_bytes());
        padded(&mut body, "sim-1.0", 20);
        body
    }
}

/// Appends the body of a location: the words, the position, then odometer, signal and satellites as items.
pub fn location(report: &Report, out: &mut Vec<u8>) {
    // ACC on, a fix, hemispheres, and both satellite systems in use.
    let mut status: u32 = 1 | 1 << 1 | 1 << 18 | 1 << 19;
    status |= (u32::from(report.lat_e6 < 0) << 2) | (u32::from(report.lon_e6 < 0) << 3);
    out.extend_from_slice(&report.alarms.to_be_bytes());
    out.extend_from_slice(&status.to_be_bytes());
    out.extend_from_slice(&report.lat_e6.unsigned_abs().to_be_bytes());
    out.extend_from_slice(&report.lon_e6.unsigned_abs().to_be_bytes());
    out.extend_from_slice(&report.altitude_m.to_be_bytes());
    out.extend_from_slice(&report.speed_dkmh.to_be_bytes());
    out.extend_from_slice(&report.course_deg.to_be_bytes());
    out.extend_from_slice(&local_time(report.time_s));
    out.extend_from_slice(&[0x01, 4]);
    out.extend_from_slice(&report.odometer_hm.to_be_bytes());
    out.extend_from_slice(&[0x30, 1, report.signal, 0x31, 1, report.satellites]);
}

/// Body of a batch of locations that a blind zone held back.
pub fn batch<'a>(reports: impl ExactSizeIterator<Item = &'a Report>) -> Vec<u8> {
    let mut body = (reports.len() as u16).to_be_bytes().to_vec();
    body.push(1);
    for report in reports {
        body.extend_from_slice(&(LOCATION_BYTES as u16).to_be_bytes());
        location(report, &mut body);
    }
    body
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 0x8001: the general response.
    General {
        /// Serial of the message that it answers.
        serial: u16,
        /// Id of the message that it answers.
        id: u16,
        /// 0 done, 1 failed, 2 message wrong, 3 not supported, 4 alarm handled.
        result: u8,
    },
    /// 0x8100: the registration's response.
    Registered {
        /// Serial of the registration.
        serial: u16,
        /// The authentication code, or why there is none (1 to 4).
        code: Result<Vec<u8>, u8>,
    },
    /// Anything else, by its id.
    Other(u16),
}

/// Cuts a server's bytes into answers.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes of a message that is not complete, escapes still in.
    partial: Vec<u8>,
    /// The message that is being read, escapes resolved.
    plain: Vec<u8>,
}

impl Reader {
    /// Takes bytes as they came and calls `each` for every answer that is complete.
    ///
    /// # Errors
    /// At the first message that is damaged, or one over [`ANSWER_BYTES_MAX`]; the connection is of no use then.
    pub fn read(&mut self, bytes: &[u8], mut each: impl FnMut(Answer)) -> Result<(), Damage> {
        for part in bytes.split_inclusive(|&byte| byte == FLAG) {
            let Some(end) = part.strip_suffix(&[FLAG]) else {
                self.partial.extend_from_slice(part);
                continue;
            };
            let whole = match self.partial.is_empty() {
                true => end,
                false => {
                    self.partial.extend_from_slice(end);
                    &self.partial
                }
            };
            // Two messages may share a flag, so nothing between two flags is no message.
            if !whole.is_empty() {
                each(answer(whole, &mut self.plain)?);
            }
            self.partial.clear();
        }
        if self.partial.len() > ANSWER_BYTES_MAX {
            return Err(Damage::Length);
        }
        Ok(())
    }

    /// Forgets a half message, for a new connection.
    pub fn reset(&mut self) {
        self.partial = Vec::new();
    }
}

/// Reads what stood between two flags; `plain` is room to work in.
fn answer(escaped: &[u8], plain: &mut Vec<u8>) -> Result<Answer, Damage> {
    if escaped.len() > ANSWER_BYTES_MAX {
        return Err(Damage::Length);
    }
    plain.clear();
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            ESCAPE => match bytes.next() {
                Some(1) => ESCAPE,
                Some(2) => FLAG,
                _ => return Err(Damage::Escape),
            },
            byte => byte,
        });
    }
    if plain.iter().fold(0, |sum, byte| sum ^ byte) != 0 {
        return Err(Damage::Check);
    }
    let word = |at: usize| match plain.get(at..at + 2) {
        Some(pair) => Ok(u16::from_be_bytes([pair[0], pair[1]])),
        None => Err(Damage::Length),
    };
    let properties = word(2)?;
    let start = match (properties & 1 << 14 != 0, properties & 1 << 13 != 0) {
        (false, false) => 12,
        (false, true) => 16,
        (true, false) => 17,
        (true, true) => 21,
    };
    let length = usize::from(properties & 0x3ff);
    if plain.len() != start + length + 1 {
        return Err(Damage::Length);
    }
    let body = &plain[start..start + length];
    match (word(0)?, body) {
        (0x8001, &[s1, s2, i1, i2, result]) => Ok(Answer::General {
            serial: u16::from_be_bytes([s1, s2]),
            id: u16::from_be_bytes([i1, i2]),
            result,
        }),
        (0x8100, &[s1, s2, result, ref code @ ..]) => Ok(Answer::Registered {
            serial: u16::from_be_bytes([s1, s2]),
            code: if result == 0 {
                Ok(code.to_vec())
            } else {
                Err(result)
            },
        }),
        (0x8001 | 0x8100, _) => Err(Damage::Length),
        (id, _) => Ok(Answer::Other(id)),
    }
}

/// Appends bytes with 7e and 7d replaced.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            FLAG => out.extend_from_slice(&[ESCAPE, 2]),
            ESCAPE => out.extend_from_slice(&[ESCAPE, 1]),
            byte => out.push(byte),
        }
    }
}

/// Writes the last digits of a number, two to a byte.
fn bcd(mut number: u64, out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        let pair = (number % 100) as u8;
        *byte = ((pair / 10) << 4) | (pair % 10);
        number /= 100;
    }
}

fn padded(body: &mut Vec<u8>, text: &str, length: usize) {
    body.extend(text.bytes().chain(std::iter::repeat(0)).take(length));
}

/// Year, month, day, hour, minute and second in Beijing, BCD.
fn local_time(utc_s: u32) -> [u8; 6] {
    let local = Clock::at(utc_s, ZONE_S);
    let year = (local.year % 100) as u8;
    let numbers = [
        year,
        local.month,
        local.day,
        local.hour,
        local.minute,
        local.second,
    ];
    numbers.map(|number| ((number / 10) << 4) | (number % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    const OLD: Terminal = Terminal {
        edition: Edition::Y2013,
        phone: 13_912_345_678,
    };
    const NEW: Terminal = Terminal {
        edition: Edition::Y2019,
        phone: 13_912_345_678,
    };

    #[test]
    fn escapes_are_those_of_the_standard() {
        let mut out = vec![FLAG];
        escape(&hex("30 7e 08 7d 55"), &mut out);
        out.push(FLAG);
        assert_eq!(out, hex("7e 30 7d 02 08 7d 01 55 7e"));
    }

    #[test]
    fn headers_of_both_forms() {
        let mut out = Vec::new();
        OLD.message(&mut out, HEARTBEAT, 7, &[]);
        // 02^01^39^12^34^56^78^07 = 35
        assert_eq!(out, hex("7e 0002 0000 013912345678 0007 35 7e"));
        out.clear();
        NEW.message(&mut out, HEARTBEAT, 7, &[]);
        // the same with 40 and the version 01: 74
        assert_eq!(out, hex("7e 0002 4000 01 00000000013912345678 0007 74 7e"));
    }

    #[test]
    fn check_byte_is_escaped_too() {
        let mut out = Vec::new();
        // A serial of 004c turns the check byte from 35 into 35^07^4c = 7e.
        OLD.message(&mut out, HEARTBEAT, 0x4c, &[]);
        assert_eq!(out, hex("7e 0002 0000 013912345678 004c 7d02 7e"));
    }

    #[test]
    fn location_has_every_field_at_its_place() {
        let report = Report {
            time_s: 1_700_000_000, // 2023-11-14T22:13:20Z, 06:13:20 next day in Beijing
            lat_e6: -33_867_487,
            lon_e6: 151_206_990,
            altitude_m: 58,
            speed_dkmh: 655,
            course_deg: 271,
            alarms: 0x101,
            odometer_hm: 12_345,
            satellites: 9,
            signal: 22,
        };
        let mut body = Vec::new();
        location(&report, &mut body);
        let expected = hex(
            "00000101 000c0007 0204c6df 09033c4e 003a 028f 010f 231115061320 01 04 00003039 30 01 16 31 01 09",
        );
        assert_eq!(body, expected);
        assert_eq!(body.len(), LOCATION_BYTES);
        let batch = batch([report, report].iter());
        assert_eq!(batch[..5], hex("0002 01 0028"));
        assert_eq!(batch[5..45], expected);
        assert_eq!(batch.len(), 3 + 2 * 42);
    }

    #[test]
    fn registration_has_the_length_of_its_edition() {
        for (edition, fixed) in [
            (Edition::Y2011, 25),
            (Edition::Y2013, 37),
            (Edition::Y2019, 76),
        ] {
            let terminal = Terminal { edition, ..OLD };
            let body = terminal.registration();
            assert_eq!(&body[fixed..], b"R2345678", "{edition:?}");
        }
        assert_eq!(NEW.authentication(b"abc").len(), 1 + 3 + 15 + 20);
        assert_eq!(OLD.authentication(b"abc"), b"abc");
    }

    fn read(reader: &mut Reader, bytes: &[u8]) -> Result<Vec<Answer>, Damage> {
        let mut answers = Vec::new();
        reader.read(bytes, |answer| answers.push(answer))?;
        Ok(answers)
    }

    #[test]
    fn answers_come_out_however_the_bytes_are_cut() {
        // 8001 for serial 0007 of 0200, done; then 8100 for serial 0000 with code "A~"; then 8104; one flag shared.
        let mut bytes = hex("7e 8001 0005 013912345678 0001 0007 0200 00 b0 7e");
        bytes.extend(hex("7e 8100 0005 013912345678 0002 0000 00 41 7d02 89 7e"));
        bytes.extend(hex("8104 0000 013912345678 0003 b6 7e"));
        let expected = [
            Answer::General {
                serial: 7,
                id: LOCATION,
                result: 0,
            },
            Answer::Registered {
                serial: 0,
                code: Ok(b"A~".to_vec()),
            },
            Answer::Other(0x8104),
        ];
        for cut in 0..bytes.len() {
            let mut reader = Reader::default();
            let mut answers = read(&mut reader, &bytes[..cut]).unwrap();
            answers.extend(read(&mut reader, &bytes[cut..]).unwrap());
            assert_eq!(answers, expected, "cut at {cut}");
        }
    }

    #[test]
    fn damaged_answers_are_told_apart() {
        let cases = [
            (
                "7e 8001 0005 013912345678 0001 0007 0200 00 b4 7e",
                Damage::Check,
            ),
            (
                "7e 8001 0004 013912345678 0001 0007 0200 00 b1 7e",
                Damage::Length,
            ),
            ("7e 8001 7d03 7e", Damage::Escape),
            ("7e 8001 81 7e", Damage::Length),
        ];
        for (bytes, damage) in cases {
            assert_eq!(
                read(&mut Reader::default(), &hex(bytes)),
                Err(damage),
                "{bytes}"
            );
        }
        let endless = vec![0; ANSWER_BYTES_MAX + 1];
        assert_eq!(read(&mut Reader::default(), &endless), Err(Damage::Length));
    }
}
