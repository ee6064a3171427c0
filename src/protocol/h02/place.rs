//! Positions in text, found by their shape: degrees, N or S, degrees, E or W.

use super::super::fields::Fields;
use super::super::text;
use crate::frame::Fix;

/// A position among the fields of a message.
pub(super) struct Place {
    lat_e7: i32,
    lon_e7: i32,
    /// Where the N or S stands.
    pub(super) at: usize,
}

/// The first position of which the N or S stands at `first` or later.
pub(super) fn find(fields: &Fields, first: usize) -> Option<Place> {
    (first..fields.len().saturating_sub(2)).find_map(|at| {
        let lat_e7 = degrees_e7(fields.get(at - 1), fields.get(at), b"NS", 90)?;
        let lon_e7 = degrees_e7(fields.get(at + 1), fields.get(at + 2), b"EW", 180)?;
        Some(Place { lat_e7, lon_e7, at })
    })
}

/// A position with the speed and course behind it.
pub(super) fn movement(fields: &Fields, place: &Place) -> Fix {
    let mut fix = Fix::default();
    fix.set_position(place.lat_e7, place.lon_e7);
    if let Some(speed) = text::knots_mm_s(fields.get(place.at + 3)) {
        fix.set_speed(speed);
    }
    if let Some(course) = text::course_cdeg(fields.get(place.at + 4)) {
        fix.set_course(u32::from(course));
    }
    fix
}

/// Degrees and minutes to 1e-7 degrees: `ddmm.mmmm`, the same without its point, or `-dd-mm.mmmm`, where the sign says
/// no more than the letter.
fn degrees_e7(field: &[u8], hemisphere: &[u8], letters: &[u8], degrees_max: i64) -> Option<i32> {
    let &[letter] = hemisphere else {
        return None;
    };
    if !letters.contains(&letter) {
        return None;
    }
    if let Some(dashed) = field.strip_prefix(b"-") {
        let dash = dashed.iter().position(|&byte| byte == b'-')?;
        let (degrees, minutes) = (&dashed[..dash], &dashed[dash + 1..]);
        let two_digits = minutes.iter().take_while(|byte| byte.is_ascii_digit());
        let fill: &[u8] = match two_digits.count() {
            1 => b"0",
            _ => b"",
        };
        let joined = [degrees, fill, minutes].concat();
        return text::degrees_e7(&joined, hemisphere, degrees_max);
    }
    if field.len() >= 7 && !field.contains(&b'.') {
        let (whole, fraction) = field.split_at(field.len() - 4);
        return text::degrees_e7(&[whole, b".", fraction].concat(), hemisphere, degrees_max);
    }
    text::degrees_e7(field, hemisphere, degrees_max)
}

/// A is a fix by GPS and B one by BeiDou; a number is the coding of an address that is asked for, of a place that is
/// known.
pub(super) fn is_valid(field: &[u8]) -> bool {
    matches!(field, b"A" | b"B") || !field.is_empty() && field.iter().all(u8::is_ascii_digit)
}
