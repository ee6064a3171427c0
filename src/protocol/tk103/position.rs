//! Positions, with and without commas between their fields.

use super::super::calendar::{self, DAY_MS};
use super::super::fields::Fields;
use super::super::{Arrival, Report, Settings, text};
use super::Head;
use crate::frame::{AttributeKey, TimeSource};

/// A date within so many days of the arrival is taken for today's, in whatever order it stands.
const NEAR_MS: i64 = 2 * DAY_MS;

/// Bytes of a date and of a time of day.
const MOMENT_BYTES: usize = 6;
/// Bytes of a speed.
const SPEED_BYTES: usize = 5;
/// Longest degrees and minutes.
const DEGREES_BYTES_MAX: usize = 16;
/// Bytes of the state before the odometer.
const STATE_BYTES: usize = 8;

/// Finds the position of a message by its shape: six digits of a date, A or V, and degrees with a letter behind.
pub(super) fn read(head: &Head, settings: &Settings, now: Arrival) -> Option<Report> {
    let starts = head.data.windows(MOMENT_BYTES).enumerate();
    starts
        .filter(|(_, window)| window.iter().all(u8::is_ascii_digit))
        .find_map(|(at, date)| {
            let rest = &head.data[at + MOMENT_BYTES..];
            placed(head, date, rest, settings, now)
        })
}

fn placed(
    head: &Head,
    date: &[u8],
    rest: &[u8],
    settings: &Settings,
    now: Arrival,
) -> Option<Report> {
    let mut cursor = Cursor(rest);
    let commas = cursor.comma();
    let valid = match cursor.take(1)? {
        b"A" => true,
        b"V" => false,
        _ => return None,
    };
    cursor.comma();
    let lat_e7 = cursor.degrees(b"NS", 90)?;
    let lon_e7 = cursor.degrees(b"EW", 180)?;
    let mut report = Report::default();
    report.fix.set_position(lat_e7, lon_e7);
    let clock = match commas {
        true => behind_with_commas(cursor.0, &mut report),
        false => behind(cursor.0, &mut report),
    };
    if let Some(time) = time(head.commas, date, clock, settings, now) {
        report.fix.set_time(time);
    }
    report.fix.set_valid(valid);
    Some(report)
}

/// What follows a position without separators: speed of five characters, or longer with a comma behind, time, course,
/// state, odometer. Gives the time of day.
fn behind<'a>(rest: &'a [u8], report: &mut Report) -> &'a [u8] {
    let comma = rest
        .iter()
        .take(2 * SPEED_BYTES)
        .position(|&byte| byte == b',');
    let (speed, rest) = match comma {
        Some(comma) => (&rest[..comma], &rest[comma + 1..]),
        None => rest.split_at(rest.len().min(SPEED_BYTES)),
    };
    set_speed(report, speed);
    let (clock, rest) = rest.split_at(rest.len().min(MOMENT_BYTES));
    tail(rest, report);
    clock
}

/// Course, state and odometer; the state are the eight characters before the odometer's L.
fn tail(rest: &[u8], report: &mut Report) {
    let odometer = rest.iter().position(|&byte| byte == b'L');
    let (before, after) = rest.split_at(odometer.unwrap_or(rest.len()));
    let stateful = odometer.is_some() || before.contains(&b',') || before.len() > STATE_BYTES;
    let trimmed = before.strip_suffix(b",").unwrap_or(before);
    let (course, state) = match trimmed.len().checked_sub(STATE_BYTES) {
        Some(at) if stateful => trimmed.split_at(at),
        _ => (trimmed, &b""[..]),
    };
    set_course(report, course.strip_suffix(b",").unwrap_or(course));
    set_state(report, state);
    let Some((b'L', after)) = after.split_first() else {
        return;
    };
    let digits = after.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (odometer, after) = after.split_at(digits.count().min(STATE_BYTES));
    report.state(AttributeKey::OdometerM, hex(odometer));
    if let [b'+' | b'-', ..] = after {
        report.state(AttributeKey::TemperatureC, decimal(after));
    }
}

/// The same with commas; the newest put altitude and satellites behind the course.
fn behind_with_commas<'a>(rest: &'a [u8], report: &mut Report) -> &'a [u8] {
    let fields = Fields::new(rest);
    set_speed(report, fields.get(0));
    set_course(report, fields.get(2));
    if let Some(odometer) = fields.get(4).strip_prefix(b"L") {
        set_state(report, fields.get(3));
        report.state(AttributeKey::OdometerM, hex(odometer));
    } else {
        if let Some(mm) = text::metres_mm(fields.get(3)) {
            report.fix.set_altitude(mm);
        }
        if let Some(count) = fields.u8(4) {
            report.fix.set_satellites(count);
        }
    }
    fields.get(1)
}

fn set_speed(report: &mut Report, field: &[u8]) {
    if let Some(speed) = text::kmh_mm_s(field) {
        report.fix.set_speed(speed);
    }
}

fn set_course(report: &mut Report, field: &[u8]) {
    if let Some(course) = text::course_cdeg(field.trim_ascii()) {
        report.fix.set_course(u32::from(course));
    }
}

/// Main power (0 where it is on), ignition, three half bytes of inputs and outputs, and a number of the fuel sensor.
fn set_state(report: &mut Report, state: &[u8]) {
    let Some(&[power, ignition, first, second, third, ..]) = state.first_chunk::<STATE_BYTES>()
    else {
        return;
    };
    if !state.iter().all(u8::is_ascii_hexdigit) {
        return;
    }
    if matches!(ignition, b'0' | b'1') {
        report.state(AttributeKey::Ignition, Some(ignition == b'1'));
    }
    if matches!(power, b'0' | b'1') {
        report.state_named("main_power", Some(power == b'0'));
    }
    let (first, second) = (hex(&[first]).unwrap_or(0), hex(&[second]).unwrap_or(0));
    report.state(AttributeKey::Blocked, (first & 8 != 0).then_some(true));
    report.state(AttributeKey::Doors, (second & 8 != 0).then_some(1_u8));
    let inputs = first << 8 | second << 4 | hex(&[third]).unwrap_or(0);
    report.state_named("io_state", (inputs != 0).then_some(inputs));
    report.state_named("fuel_sensor", hex(&state[5..]));
}

/// Charge as a step, battery in 0.01 V and supply in 0.1 V.
pub(super) fn power(head: &Head, report: &mut Report, settings: &Settings, now: Arrival) {
    let fields = Fields::new(head.data);
    if let Some(time) = time(true, fields.get(0), fields.get(1), settings, now) {
        report.fix.set_time(time);
    }
    let percent = match fields.get(2) {
        b"6" => Some(100_u8),
        b"5" => Some(80),
        b"4" => Some(50),
        b"3" => Some(20),
        b"2" => Some(10),
        _ => None,
    };
    report.state(AttributeKey::BatteryPercent, percent);
    let volts = |at: usize, unit: f64| {
        let number = fields
            .number(at)
            .filter(|&number| (0..65_535).contains(&number))?;
        Some(number as f64 / unit)
    };
    report.state(AttributeKey::BatteryV, volts(3, 100.0));
    report.state(AttributeKey::PowerV, volts(4, 10.0));
}

/// The moment of a date and a time of day. The order of the date differs: with commas it is mostly day, month, year,
/// without it is mostly year, month, day. That order counts, unless it gives no date, or none near the arrival of a live
/// message where another does.
pub(super) fn time(
    commas: bool,
    date: &[u8],
    clock: &[u8],
    settings: &Settings,
    now: Arrival,
) -> Option<(i64, TimeSource)> {
    let zone_ms = i64::from(settings.zone_minutes.unwrap_or(0)) * 60_000;
    let of_day = text::time_of_day_ms(clock).map(i64::from);
    let two = |at: usize| text::decimal(date.get(at..at + 2)?, 0);
    let moment = |order: [usize; 3]| {
        let [year, month, day] = order;
        let days = calendar::days(2000 + two(year)?, two(month)?, two(day)?)?;
        Some(days * DAY_MS + of_day? - zone_ms)
    };
    // Where year, month and day stand.
    let orders = match commas {
        true => [[4, 2, 0], [4, 0, 2], [0, 2, 4], [0, 4, 2]],
        false => [[0, 2, 4], [0, 4, 2], [4, 2, 0], [4, 0, 2]],
    };
    let near = |time_ms: &i64| (time_ms - now.wall_ms).abs() <= NEAR_MS;
    let nearby = orders
        .into_iter()
        .filter_map(moment)
        .find(|time_ms| !settings.recorded && near(time_ms));
    let stated = nearby.or_else(|| orders.into_iter().find_map(moment));
    match stated {
        Some(time_ms) => Some(settings.fix_time(time_ms, now)),
        None if settings.recorded => None,
        None => Some((now.wall_ms, TimeSource::Arrival)),
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn decimal(field: &[u8]) -> Option<f64> {
    text::decimal(field, 1).map(|e1| e1 as f64 / 10.0)
}

/// What is left of a position.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Passes over a comma; whether there was one.
    fn comma(&mut self) -> bool {
        let after = self.0.strip_prefix(b",");
        self.0 = after.unwrap_or(self.0);
        after.is_some()
    }

    /// Degrees and minutes up to one of two letters.
    fn degrees(&mut self, letters: &[u8], degrees_max: i64) -> Option<i32> {
        let mut near = self.0.iter().take(DEGREES_BYTES_MAX);
        let len = near.position(|byte| letters.contains(byte))?;
        let field = self.take(len)?;
        let letter = self.take(1)?;
        self.comma();
        text::degrees_e7(field, letter, degrees_max)
    }
}
