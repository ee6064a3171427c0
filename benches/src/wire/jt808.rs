//! JT/T 808 (2013) location reports, 61 bytes before escaping, made by patching one template. All vehicles drive
//! north at 36 km/h; the time of a fix tells which message it was.

use super::Wire;

/// What phone numbers begin with; the device's number follows.
const PHONE_PREFIX: u64 = 13_800_000_000;

/// Seconds that JT/T 808 times are ahead of UTC.
const ZONE_S: i64 = 8 * 3600;

/// First latitude and longitude, 1e-6 degree. Vehicles stand 0.001 degree apart.
const SOUTH_WEST: (u32, u32) = (31_000_000, 121_000_000);

/// 10 m/s northward, 1e-6 degree a second.
const NORTHWARD: u32 = 90;

/// The reports of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Jt808 {
    /// UTC of message 0 of each device, seconds since 1970; each further one is a second later.
    pub first_fix_s: i64,
}

impl Jt808 {
    /// The device of an id as the runtime gives it; `None` if it is none of ours.
    pub fn device(id: &str) -> Option<u32> {
        let phone: u64 = id.parse().ok()?;
        u32::try_from(phone.checked_sub(PHONE_PREFIX)?).ok()
    }

    /// The number of the message that held a fix of this time.
    pub fn number(&self, fix_ms: i64) -> Option<u32> {
        u32::try_from(fix_ms / 1_000 - self.first_fix_s).ok()
    }
}

impl Wire for Jt808 {
    /// A first report: many devices in the field send no other greeting.
    fn hello(&self, device: u32, out: &mut Vec<u8>) {
        self.message(device, 0, out);
    }

    fn message(&self, device: u32, number: u32, out: &mut Vec<u8>) {
        let mut content = [0u8; 59];
        content[0..2].copy_from_slice(&0x0200u16.to_be_bytes());
        content[2..4].copy_from_slice(&46u16.to_be_bytes());
        bcd(PHONE_PREFIX + u64::from(device), &mut content[4..10]);
        content[10..12].copy_from_slice(&(number as u16).to_be_bytes());
        let body = &mut content[12..];
        // Status: engine on, positioned.
        body[7] = 0b11;
        let lat = SOUTH_WEST.0 + (device % 1_000) * 1_000 + number * NORTHWARD;
        let lon = SOUTH_WEST.1 + (device / 1_000) * 1_000;
        body[8..12].copy_from_slice(&lat.to_be_bytes());
        body[12..16].copy_from_slice(&lon.to_be_bytes());
        body[16..18].copy_from_slice(&12u16.to_be_bytes());
        body[18..20].copy_from_slice(&360u16.to_be_bytes());
        local_time(self.first_fix_s + i64::from(number), &mut body[22..28]);
        // Items: mileage, signals of the vehicle, signal strength, satellites.
        body[28..34].copy_from_slice(&[0x01, 4, 0, 0, 0x10, 0]);
        body[34..40].copy_from_slice(&[0x25, 4, 0, 0, 0, 1]);
        body[40..43].copy_from_slice(&[0x30, 1, 22]);
        body[43..46].copy_from_slice(&[0x31, 1, 11]);
        let length = content.len() - 1;
        let check = content[..length].iter().fold(0, |check, byte| check ^ byte);
        content[length] = check;
        out.push(0x7e);
        for &byte in &content[..=length] {
            match byte {
                0x7e => out.extend_from_slice(&[0x7d, 2]),
                0x7d => out.extend_from_slice(&[0x7d, 1]),
                byte => out.push(byte),
            }
        }
        out.push(0x7e);
    }

    /// Marks: an answer has one at each end and none within.
    fn answer_units(&self, bytes: &[u8]) -> u32 {
        bytes.iter().filter(|byte| **byte == 0x7e).count() as u32
    }

    fn units_an_answer(&self) -> u32 {
        2
    }
}

/// Decimal digits, two a byte.
fn bcd(mut number: u64, out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        let pair = (number % 100) as u8;
        *byte = ((pair / 10) << 4) | (pair % 10);
        number /= 100;
    }
}

/// `YYMMDDhhmmss` in GMT+8, as BCD.
fn local_time(utc_s: i64, out: &mut [u8]) {
    let local = utc_s + ZONE_S;
    let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let parts = [year % 100, month, day, hour, minute, second];
    let number = parts.iter().fold(0, |number, part| number * 100 + part);
    bcd(number as u64, out);
}

/// Year, month and day of a count of days since 1970.
fn date(days: i64) -> (i64, i64, i64) {
    // Counted in 400-year cycles of 146,097 days from the first of March of the year 0.
    let since_march = days + 719_468;
    let (cycle, in_cycle) = (
        since_march.div_euclid(146_097),
        since_march.rem_euclid(146_097),
    );
    let year = (in_cycle - in_cycle / 1_460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let day = in_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year + cycle * 400 + next_year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_the_calendar_has_them() {
        // Checked with date -u -d @SECONDS.
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (19_783, (2024, 3, 1)),
            (20_453, (2025, 12, 31)),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn a_report_has_the_bytes_that_the_standard_states() {
        let wire = Jt808 {
            // 2024-03-01T00:00:00Z
            first_fix_s: 19_783 * 86_400,
        };
        let mut out = Vec::new();
        wire.message(42, 61, &mut out);
        assert_eq!(
            out[..13],
            *b"\x7e\x02\x00\x00\x2e\x01\x38\x00\x00\x00\x42\x00\x3d"
        );
        // 08:01:01 in GMT+8.
        assert_eq!(out[35..41], [0x24, 0x03, 0x01, 0x08, 0x01, 0x01]);
        assert_eq!(out.len(), 61);
        let check = out[1..60].iter().fold(0, |check, byte| check ^ byte);
        assert_eq!((check, out[60]), (0, 0x7e));
        assert_eq!(Jt808::device("13800000042"), Some(42));
        assert_eq!(wire.number((wire.first_fix_s + 61) * 1_000), Some(61));
    }
}
