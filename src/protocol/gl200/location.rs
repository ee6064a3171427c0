//! Location groups: found by their shape, because where they stand depends on the report, the device and its version.
//!
//! A group is accuracy, speed, azimuth, altitude, longitude, latitude and time; all documents agree on these seven. The
//! coordinates with a time after them are what no other part of a message looks like. Access points and the cell follow,
//! then a field that is a mileage, or a mask of what else follows, or reserved.

use super::fields::Fields;
use super::model::Family;
use crate::frame::{AttributeKey, Fix};
use crate::protocol::{Arrival, Report, Settings, text};

/// Fields of a group before its time.
const BEFORE_TIME: usize = 6;

/// Fields of an access point: address, signal, three reserved.
const ACCESS_POINT_FIELDS: usize = 5;

/// Digits of an access point's address.
const ADDRESS_DIGITS: usize = 12;

/// Most access points that are kept.
const ACCESS_POINTS_MAX: usize = 16;

/// Bytes that the name of most cells has no more than.
const CELL_BYTES_USUAL: usize = 32;

/// Attributes of a group: dilution, cell, access points.
const ATTRIBUTES_OF_GROUP: usize = 3;

/// A group that was found.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Index of the time.
    time: usize,
    lat_e7: i32,
    lon_e7: i32,
    time_ms: i64,
}

impl Place {
    /// The next group whose time stands at `from` or later.
    pub(super) fn find(fields: &Fields, from: usize) -> Option<Place> {
        (from.max(BEFORE_TIME)..fields.count()).find_map(|time| {
            if fields.len(time) != 14 {
                return None;
            }
            let lon_e7 = coordinate(fields.get(time - 2), 180)?;
            let lat_e7 = coordinate(fields.get(time - 1), 90)?;
            Some(Place {
                time,
                lat_e7,
                lon_e7,
                time_ms: fields.time_ms(time)?,
            })
        })
    }

    /// Index of the field after the time.
    pub(super) fn after(&self) -> usize {
        self.time + 1
    }

    /// The fix of the group. Accuracy is a dilution of precision, and 0 says that the receiver had no fix: the position
    /// is then the last one it had.
    pub(super) fn report(&self, fields: &Fields, settings: &Settings, now: Arrival) -> Report {
        let mut fix = Fix::default();
        fix.set_position(self.lat_e7, self.lon_e7);
        let utc_ms = self.time_ms - zone_ms(settings);
        fix.set_time(settings.fix_time(utc_ms, now));
        let at = |back: usize| fields.get(self.time - back);
        let point = |back: usize| at(back).contains(&b'.');
        // The GT300 has its accuracy last; speed and altitude have a point, the other two have not.
        let last = point(6) && !point(5) && point(4) && !point(3) && !at(3).is_empty();
        let (accuracy, speed, course, altitude) = match last {
            true => (at(3), at(6), at(5), at(4)),
            false => (at(6), at(5), at(4), at(3)),
        };
        if let Some(mm_s) = text::kmh_mm_s(speed) {
            fix.set_speed(mm_s);
        }
        if let Some(cdeg) = text::course_cdeg(course) {
            fix.set_course(u32::from(cdeg));
        }
        if let Some(mm) = text::metres_mm(altitude) {
            fix.set_altitude(mm);
        }
        let accuracy = text::decimal(accuracy, 2).filter(|&accuracy| accuracy >= 0);
        fix.set_valid(accuracy.is_some_and(|accuracy| accuracy > 0));
        let mut report = Report {
            fix,
            attributes: Vec::with_capacity(ATTRIBUTES_OF_GROUP),
            ..Report::default()
        };
        let dilution = accuracy.filter(|&accuracy| accuracy > 0);
        report.state(AttributeKey::Hdop, dilution.map(|value| value as f64 / 1e2));
        report
    }
}

/// What the operator states about the devices' clock, milliseconds ahead of UTC.
pub(super) fn zone_ms(settings: &Settings) -> i64 {
    i64::from(settings.zone_minutes.unwrap_or(0)) * 60_000
}

/// Signed degrees with a point; a bare number is something else.
fn coordinate(field: &[u8], degrees_max: i64) -> Option<i32> {
    if !field.contains(&b'.') {
        return None;
    }
    text::signed_degrees_e7(field, degrees_max)
}

/// What follows a group: access points, cell, and the mask of a vehicle device. Gives the index of the first field after
/// them, which is where a mileage stands if there is one.
pub(super) fn surroundings(
    fields: &Fields,
    mut at: usize,
    family: Family,
    report: &mut Report,
) -> usize {
    let mut wifi = None;
    if fields.len(at + 1) == ADDRESS_DIGITS && fields.int(at).is_some() {
        at += 1;
        wifi = access_points(fields, &mut at);
    }
    let cell = cell(fields, at);
    at += 4;
    if family != Family::Portable {
        at = appended(fields, at, &mut report.fix);
    }
    report.state(AttributeKey::Cells, cell);
    report.state(AttributeKey::Wifi, wifi);
    at
}

/// The cell at four fields: MCC and MNC in decimal, LAC and cell in hex.
pub(super) fn cell(fields: &Fields, at: usize) -> Option<String> {
    let code = |at: usize| {
        let code = fields.int(at).filter(|code| (0..=999).contains(code));
        code.and_then(|code| u32::try_from(code).ok())
    };
    let mcc = code(at).filter(|&mcc| mcc > 0)?;
    let numbers = [mcc, code(at + 1)?, fields.hex(at + 2)?, fields.hex(at + 3)?];
    Some(cell_name(numbers))
}

/// MCC, MNC, LAC and cell in decimal with dashes between.
pub(super) fn cell_name(numbers: [u32; 4]) -> String {
    // Formatting by the library took as long as reading the numbers did.
    let mut name = String::with_capacity(CELL_BYTES_USUAL);
    for (index, mut number) in numbers.into_iter().enumerate() {
        if index > 0 {
            name.push('-');
        }
        let mut digits = [0; 10];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        name.extend(digits[start..].iter().map(|&digit| char::from(digit)));
    }
    name
}

/// Where the cell of a message without a position stands, found by its shape too: four numbers of known lengths.
pub(super) fn cell_alone(fields: &Fields, from: usize, end: usize) -> Option<usize> {
    (from..end.saturating_sub(3)).find(|&at| {
        let countries = 200..=799;
        (3..=4).contains(&fields.len(at))
            && fields.int(at).is_some_and(|mcc| countries.contains(&mcc))
            && (2..=4).contains(&fields.len(at + 1))
            && fields.int(at + 1).is_some()
            && fields.len(at + 2) == 4
            && fields.hex(at + 2).is_some()
            && (3..=8).contains(&fields.len(at + 3))
            && fields.hex(at + 3).is_some()
    })
}

/// Access points from `at`, which moves behind them.
pub(super) fn access_points(fields: &Fields, at: &mut usize) -> Option<String> {
    let mut heard = String::new();
    for seen in 0.. {
        let address = fields.get(*at);
        if address.len() != ADDRESS_DIGITS || !address.iter().all(u8::is_ascii_hexdigit) {
            break;
        }
        if seen < ACCESS_POINTS_MAX {
            if seen > 0 {
                heard.push(' ');
            }
            for (index, &digit) in address.iter().enumerate() {
                if index > 0 && index % 2 == 0 {
                    heard.push(':');
                }
                heard.push(char::from(digit.to_ascii_lowercase()));
            }
            if let Some(signal) = fields.int(*at + 1) {
                heard.push_str(&format!(",{signal}"));
            }
        }
        *at += ACCESS_POINT_FIELDS;
    }
    Some(heard).filter(|heard| !heard.is_empty())
}

/// The mask of what a vehicle device appends to its cell: bit 0 satellites, bit 1 what triggered the fix, bit 4 jamming.
/// Older ones have `00`, nothing, or their mileage there.
fn appended(fields: &Fields, at: usize, fix: &mut Fix) -> usize {
    let mask = match fields.len(at) {
        2 => fields.hex(at),
        0 => Some(0),
        _ => None,
    };
    let Some(mask) = mask else {
        return at;
    };
    let mut at = at + 1;
    if mask & 1 != 0 {
        let count = fields.int(at).and_then(|count| u8::try_from(count).ok());
        if let Some(count) = count {
            fix.set_satellites(count);
        }
        at += 1;
    }
    at + usize::from(mask & 2 != 0) + usize::from(mask & 16 != 0)
}
