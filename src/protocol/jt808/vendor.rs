//! Bodies outside the standard that hold positions, as far as they are known.

use super::super::calendar::{self, bcd};
use super::super::{Message, Reject, Report};
use super::envelope::{Header, SHORT_STORED};
use super::location::{LOCATION_BYTES, Locations};
use super::{battery, text_attribute};
use crate::frame::{Attribute, DeviceId, Fix, FixFields, TimeSource};

/// What a vendor's body says.
#[derive(Default)]
pub(super) struct Body {
    pub(super) reports: Vec<Report>,
    pub(super) attributes: Vec<Attribute>,
}

/// Transparent data, 0x0900: one type byte, then anything. Type f0 is a vehicle's data with the place of an alarm.
pub(super) fn transparent(locations: &Locations, body: &[u8]) -> Result<Body, Reject> {
    let mut read = Body::default();
    match body.split_first() {
        None => return Err(Reject::Length),
        Some((0xf0, data)) => read.reports.extend(vehicle_alarm(locations, data)),
        Some((_, text)) => read.attributes.extend(text_attribute("transparent", text)),
    }
    Ok(read)
}

/// Time, stored or not, kind of vehicle, kind of data (3: alarms, each id, length, value), then status, latitude,
/// longitude and the time of the fix.
fn vehicle_alarm(locations: &Locations, data: &[u8]) -> Option<Report> {
    let (&[stored, _vehicle, 3, count], mut rest) = data.get(6..)?.split_first_chunk()? else {
        return None;
    };
    for _ in 0..count {
        let (&[_id, len], after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(len)..)?;
    }
    let (words, time) = rest.split_first_chunk::<12>()?;
    let word =
        |at: usize| u32::from_be_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
    let mut fix = locations.place(word(0), word(4), word(8));
    locations.set_time(&mut fix, time.first_chunk()?);
    Some(Report {
        fix,
        backlog: stored != 0,
        ..Report::default()
    })
}

/// 0x0210: either the charge of the battery and a time, or locations with a length byte before each.
pub(super) fn packed(locations: &mut Locations, body: &[u8]) -> Result<Body, Reject> {
    let mut read = Body::default();
    if let &[percent, _, _, _, _, _, _] = body {
        read.attributes.extend(battery(percent));
        return Ok(read);
    }
    let mut rest = body;
    while let Some((&len, after)) = rest.split_first() {
        let Some((item, after)) = after.split_at_checked(usize::from(len)) else {
            break;
        };
        rest = after;
        if item.len() >= LOCATION_BYTES {
            read.reports.push(locations.one(item)?);
        }
    }
    Ok(read)
}

/// 0x5501 and 0x5502: date and time, then degrees and minutes, all in decimal digits; UTC. The speed's unit is not
/// known, so it stays out.
pub(super) fn short_location(header: &Header, body: &[u8]) -> Result<Report, Reject> {
    let (fixed, _) = body.split_first_chunk::<17>().ok_or(Reject::Length)?;
    let digits = |range: std::ops::Range<usize>| {
        fixed[range].iter().try_fold(0, |number: i64, &byte| {
            bcd(byte).map(|two| number * 100 + i64::from(two))
        })
    };
    let two = |at: usize| digits(at..at + 1).ok_or(Reject::Field);
    let (day, month, year) = (two(0)?, two(1)?, two(2)?);
    let time = (two(3)?, two(4)?, two(5)?);
    let lat = digits(6..10).ok_or(Reject::Field)?;
    // Nine digits; the last half byte holds the flags.
    let (high, flags) = (fixed[14] >> 4, fixed[14] & 15);
    let lon = digits(10..14).ok_or(Reject::Field)? * 10 + i64::from(high);
    if high > 9 {
        return Err(Reject::Field);
    }
    let mut fix = Fix::default();
    let north = flags & 2 != 0;
    let east = flags & 4 != 0;
    fix.lat_e7 = minutes_e4(lat, 90, north).ok_or(Reject::Field)?;
    fix.lon_e7 = minutes_e4(lon, 180, east).ok_or(Reject::Field)?;
    fix.fields.0 |= FixFields::POSITION;
    if let Some(time_ms) = calendar::time_ms((2000 + year, month, day), time) {
        fix.time_ms = time_ms;
        fix.time_source = TimeSource::Device;
        fix.fields.0 |= FixFields::TIME;
        if flags & 1 != 0 {
            fix.fields.0 |= FixFields::VALID;
        }
    }
    fix.course_cdeg = u16::from(fixed[16]) * 200 % 36_000;
    fix.fields.0 |= FixFields::COURSE;
    let mut report = Report {
        fix,
        backlog: header.id == SHORT_STORED,
        ..Report::default()
    };
    if let Some(&satellites) = body.get(18) {
        report.fix.satellites = satellites;
        report.fix.fields.0 |= FixFields::SATELLITES;
    }
    report
        .attributes
        .extend(body.get(23).copied().and_then(battery));
    Ok(report)
}

/// Degrees and minutes with four decimals as one number, to 1e-7 degrees.
fn minutes_e4(number: i64, degrees_max: i64, positive: bool) -> Option<i32> {
    let (degrees, minutes_e4) = (number / 1_000_000, number % 1_000_000);
    let e7 = degrees * 10_000_000 + (minutes_e4 * 100 + 3) / 6;
    if minutes_e4 >= 600_000 || e7 > degrees_max * 10_000_000 {
        return None;
    }
    Some(if positive { e7 } else { -e7 } as i32)
}

/// `(id,...)`: a text of terminals with an electronic lock.
pub(super) fn text(content: &[u8]) -> Result<Message, Reject> {
    let inner = content
        .strip_prefix(b"(")
        .and_then(|rest| rest.strip_suffix(b")"))
        .ok_or(Reject::Rubbish)?;
    let (id, text) = match inner.iter().position(|&b| b == b',') {
        Some(comma) => (&inner[..comma], &inner[comma + 1..]),
        None => return Err(Reject::Rubbish),
    };
    Ok(Message {
        device: Some(DeviceId::new(id).ok_or(Reject::Device)?),
        kind: "text",
        attributes: text_attribute("text", text).into_iter().collect(),
        ..Message::default()
    })
}
