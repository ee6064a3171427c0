//! The binary form: an id, a time, a place and the status in packed decimal digits.

use super::super::bytes::Reader;
use super::super::calendar;
use super::super::{Arrival, Message, Reject, Report, Settings};
use super::{Begins, status};
use crate::frame::{AttributeKey, DeviceId, Fix};

/// Shortest message: everything that is read here, in the form with the long id.
pub(super) const BYTES_MIN: usize = 32;

/// Bytes of an id of ten digits, and of one of fifteen and a filler.
const SHORT_ID_BYTES: usize = 5;
const LONG_ID_BYTES: usize = 8;
const MOMENT_BYTES: usize = 6;

/// 1 where the receiver has a fix, where the place is in the north and in the east.
const FIXED: u8 = 2;
const NORTH: u8 = 4;
const EAST: u8 = 8;

/// Whether what follows the mark is an id and a moment.
pub(super) fn begins(rest: &[u8]) -> Begins {
    let digits = |end: usize| {
        rest.iter()
            .take(end)
            .all(|&byte| calendar::bcd(byte).is_some())
    };
    let moment = |at: usize| rest.get(at..at + MOMENT_BYTES).map(is_moment);
    if !digits(SHORT_ID_BYTES) {
        return Begins::Nothing;
    }
    let longest = LONG_ID_BYTES + MOMENT_BYTES;
    match (moment(SHORT_ID_BYTES), moment(LONG_ID_BYTES)) {
        (Some(true), _) => Begins::Message,
        (_, Some(true)) if digits(LONG_ID_BYTES) => Begins::Message,
        (_, None) if digits(longest) => Begins::Perhaps,
        _ => Begins::Nothing,
    }
}

/// Whether six bytes can be `hh mm ss dd mm yy`. A device that does not know the date yet has zeros.
fn is_moment(bytes: &[u8]) -> bool {
    let two = |at: usize| bytes.get(at).copied().and_then(calendar::bcd);
    let below = |at: usize, limit: u8| two(at).is_some_and(|value| value < limit);
    below(0, 24) && below(1, 60) && below(2, 61) && below(3, 32) && below(4, 13) && below(5, 100)
}

/// The number that decimal digits make.
fn decimal(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |number, &byte| {
        let two = i64::from(calendar::bcd(byte)?);
        number.checked_mul(100)?.checked_add(two)
    })
}

/// Reads a message; what stands behind the status is cells and counters of vendors, and stays out.
pub(super) fn read(message: &[u8], settings: &Settings, now: Arrival) -> Result<Message, Reject> {
    let body = message.get(1..).ok_or(Reject::Length)?;
    let moment_at = |at: usize| body.get(at..at + MOMENT_BYTES).is_some_and(is_moment);
    // Both can fit by chance; then the place behind tells them apart.
    let short = moment_at(SHORT_ID_BYTES)
        && (!moment_at(LONG_ID_BYTES) || place(&body[SHORT_ID_BYTES + MOMENT_BYTES..]).is_some());
    let id_bytes = match short {
        true => SHORT_ID_BYTES,
        false => LONG_ID_BYTES,
    };
    let mut reader = Reader(body);
    let id = reader.take(id_bytes).ok_or(Reject::Length)?;
    let digits = super::super::bytes::hex(id);
    let digits = match short {
        true => &digits[..],
        false => &digits[..2 * LONG_ID_BYTES - 1],
    };
    let device = DeviceId::new(digits.as_bytes()).filter(|_| decimal(id).is_some());
    let device = device.ok_or(Reject::Device)?;
    let [hour, minute, second, day, month, year] = reader.array().ok_or(Reject::Length)?;
    let place_bytes = reader.0;
    reader.skip(4).ok_or(Reject::Length)?;
    let battery = reader.u8().ok_or(Reject::Length)?;
    let [_, _, _, _, flags] = reader.array().ok_or(Reject::Length)?;
    let [speed, shared, course] = reader.array().ok_or(Reject::Length)?;
    let word = reader.u32().ok_or(Reject::Length)?;

    let mut fix = Fix::default();
    if let Some((lat_e7, lon_e7)) = place(place_bytes) {
        fix.set_position(lat_e7, lon_e7);
    }
    let zone = settings.zone_minutes.unwrap_or(0);
    let moment = [year, month, day, hour, minute, second];
    if let Some(time_ms) = calendar::bcd_time_ms(&moment, zone) {
        fix.set_time(settings.fix_time(time_ms, now));
    } else if !settings.recorded {
        fix.set_time((now.wall_ms, crate::frame::TimeSource::Arrival));
    }
    fix.set_valid(flags & FIXED != 0);
    if let Some(knots) = decimal(&[speed >> 4, (speed & 15) << 4 | shared >> 4]) {
        fix.set_speed((knots * 1_852_000 / 3600) as u32);
    }
    if let Some(degrees) = decimal(&[shared & 15, course]) {
        fix.set_course(degrees as u32 * 100);
    }
    let mut report = Report {
        fix,
        ..Report::default()
    };
    status::state(&mut report, word);
    report.state(AttributeKey::BatteryPercent, battery_percent(battery));
    let mut message = Message::new("location", Some(device));
    message.hold_answer_for(vec![report]);
    Ok(message)
}

/// Latitude and longitude, which have the battery between them and the flags in their last half byte.
fn place(bytes: &[u8]) -> Option<(i32, i32)> {
    let (lat, rest) = bytes.split_first_chunk::<4>()?;
    let (_, rest) = rest.split_first()?;
    let (lon, _) = rest.split_first_chunk::<5>()?;
    let flags = lon[4] & 15;
    let lon = decimal(&lon[..4])? * 10 + i64::from(calendar::bcd(lon[4] >> 4)?);
    Some((
        minutes_e4(decimal(lat)?, 90, flags & NORTH != 0)?,
        minutes_e4(lon, 180, flags & EAST != 0)?,
    ))
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

/// The charge, which some devices send in steps.
fn battery_percent(code: u8) -> Option<u8> {
    match code {
        1 => Some(0),
        2 => Some(10),
        3 => Some(20),
        4 => Some(60),
        5 => Some(80),
        6 => Some(100),
        7..=100 => Some(code),
        _ => None,
    }
}
