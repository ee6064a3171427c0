//! Numbers with a fraction and moments, as JSON and queries have them, to fixed point.
//!
//! What text protocols write in a fixed form goes without floating point ([`super::text`]); here a number may have an
//! exponent and any count of digits. One that is not finite or does not fit is unknown: `None`.

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::calendar;

/// Last millisecond of the year 9999.
const MOMENT_MS_MAX: i64 = 253_402_300_799_999;

/// A Unix time from here on is in milliseconds, as 32 bits of seconds end there.
const SECONDS_MAX: f64 = 2_147_483_648.0;

/// Degrees to 1e-7 degree; `None` beyond `degrees_max` either way.
pub(super) fn degrees_e7(degrees: f64, degrees_max: f64) -> Option<i32> {
    (degrees.abs() <= degrees_max).then(|| (degrees * 1e7).round() as i32)
}

/// Metres to millimetres.
pub(super) fn mm(metres: f64) -> Option<i32> {
    let mm = (metres * 1e3).round();
    (mm.abs() <= f64::from(i32::MAX)).then_some(mm as i32)
}

/// Metres to millimetres, or metres per second to millimetres per second, where less than nothing means unknown.
pub(super) fn positive_mm(metres: f64) -> Option<u32> {
    let mm = (metres * 1e3).round();
    (metres >= 0.0 && mm <= f64::from(u32::MAX)).then_some(mm as u32)
}

/// Degrees of a course to 0.01 degree, where less than nothing means unknown.
pub(super) fn course_cdeg(degrees: f64) -> Option<u32> {
    (0.0..=360.0)
        .contains(&degrees)
        .then(|| (degrees * 1e2).round() as u32)
}

/// A number as text; words such as `inf` are none.
pub(super) fn parse(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    number.is_finite().then_some(number)
}

/// Milliseconds since 1970 of a Unix time in seconds or milliseconds.
pub(super) fn unix_ms(number: f64) -> Option<i64> {
    let ms = match number < SECONDS_MAX {
        true => number * 1e3,
        false => number,
    };
    (0.0..=MOMENT_MS_MAX as f64)
        .contains(&ms)
        .then(|| ms.round() as i64)
}

/// Milliseconds since 1970 of `YYYY-MM-DDThh:mm:ss` (ISO 8601), with a space or a T within, with or without a fraction
/// of the second, and with `Z`, an offset, or nothing for UTC. The plus of an offset may have become a space.
pub(super) fn iso_ms(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.trim_ascii().split_first_chunk::<10>()?;
    let (time, mut rest) = rest.split_first_chunk::<9>()?;
    let [b'T' | b't' | b' ', time @ ..] = time else {
        return None;
    };
    if (date[4], date[7], time[2], time[5]) != (b'-', b'-', b':', b':') {
        return None;
    }
    let mut ms = calendar::time_ms(
        (
            digits(&date[..4])?,
            digits(&date[5..7])?,
            digits(&date[8..])?,
        ),
        (
            digits(&time[..2])?,
            digits(&time[3..5])?,
            digits(&time[6..])?,
        ),
    )?;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let mut place = 100;
        for &digit in &fraction[..count] {
            ms += i64::from(digit - b'0') * place;
            place /= 10;
        }
        rest = &fraction[count..];
    }
    match rest {
        b"" | b"Z" | b"z" => Some(ms),
        [sign @ (b'+' | b' ' | b'-'), zone @ ..] => {
            let zone_ms = zone_minutes(zone)? * 60_000;
            Some(if *sign == b'-' {
                ms + zone_ms
            } else {
                ms - zone_ms
            })
        }
        _ => None,
    }
}

/// `hh:mm`, `hhmm` or `hh`.
fn zone_minutes(zone: &[u8]) -> Option<i64> {
    let (hours, minutes) = zone.split_at_checked(2)?;
    let minutes = minutes.strip_prefix(b":").unwrap_or(minutes);
    let minutes = match minutes {
        b"" => 0,
        [_, _] => digits(minutes)?,
        _ => return None,
    };
    Some(digits(hours)? * 60 + minutes)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

/// Milliseconds since 1970 in JSON: a string of ISO 8601, or a Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) i64);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Moment, D::Error> {
        from.deserialize_any(MomentVisitor)
    }
}

struct MomentVisitor;

impl Visitor<'_> for MomentVisitor {
    type Value = Moment;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a moment")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
        let ms = iso_ms(text.as_bytes());
        ms.map(Moment)
            .ok_or_else(|| E::custom("moment does not parse"))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Moment, E> {
        let ms = unix_ms(number);
        ms.map(Moment)
            .ok_or_else(|| E::custom("moment is out of range"))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Moment, E> {
        self.visit_f64(number as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::rfc3339_ms;

    #[test]
    fn moments_are_read_in_all_their_forms() {
        let noon = "2026-06-15T12:00:00.000Z";
        for text in [
            "2026-06-15T12:00:00Z",
            "2026-06-15T12:00:00",
            "2026-06-15 12:00:00",
            "2026-06-15T12:00:00.000000Z",
            "2026-06-15T14:00:00+02:00",
            "2026-06-15T14:00:00 0200",
            "2026-06-15T06:30:00.0-05:30",
        ] {
            let ms = iso_ms(text.as_bytes());
            assert_eq!(ms.map(rfc3339_ms).as_deref(), Some(noon), "{text}");
        }
        let fraction = iso_ms(b"2026-06-15T12:00:00.25Z").map(rfc3339_ms);
        assert_eq!(fraction.as_deref(), Some("2026-06-15T12:00:00.250Z"));
        for bad in [
            "",
            "2026-06-15",
            "2026-06-31T12:00:00Z",
            "2026-06-15T12:00:00+2",
            "2026-06-15T24:00:00Z",
            "2026-06-15T12:00:00Zulu",
            "2026/06/15 12:00:00",
            "+026-06-15T12:00:00Z",
        ] {
            assert_eq!(iso_ms(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn unix_times_are_seconds_up_to_32_bits_and_milliseconds_beyond() {
        // 2026-06-15T12:00:00Z.
        assert_eq!(unix_ms(1_781_524_800.0), Some(1_781_524_800_000));
        assert_eq!(unix_ms(1_781_524_800.25), Some(1_781_524_800_250));
        assert_eq!(unix_ms(1_781_524_800_250.0), Some(1_781_524_800_250));
        for bad in [-1.0, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(unix_ms(bad), None);
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_unknown() {
        assert_eq!(degrees_e7(-48.1173, 90.0), Some(-481_173_000));
        assert_eq!(degrees_e7(90.000_000_1, 90.0), None);
        assert_eq!(degrees_e7(f64::NAN, 90.0), None);
        assert_eq!((mm(-1.5), mm(3e6), mm(f64::NAN)), (Some(-1500), None, None));
        assert_eq!(positive_mm(11.5236), Some(11_524));
        assert_eq!((positive_mm(-1.0), positive_mm(1e9)), (None, None));
        assert_eq!(
            (course_cdeg(359.999), course_cdeg(-1.0)),
            (Some(36_000), None)
        );
        assert_eq!(
            (parse("5.0E-4"), parse("inf"), parse("")),
            (Some(5e-4), None, None)
        );
    }
}
