//! Reports: an event, the local date and time, and a position or a cell; and what a device reads off the vehicle.

use super::super::calendar::{self, DAY_MS};
use super::super::fields::{Fields, printable};
use super::super::{Arrival, Report, Settings, text};
use crate::frame::{AlarmKind, Alarms, Attribute, AttributeKey, TimeSource};

/// Where `F` (a position) or `L` (a cell only) stands: behind sender, event, local time and phone.
const MARK: usize = 4;

/// A device's clock is taken to be ahead of UTC by more than -10:45 and at most +13:15 hours, of which this is the
/// middle: all zones but those of a few islands on each side.
const ZONE_MIDDLE_MS: i64 = 75 * 60_000;

/// Most fault codes that are told.
const FAULTS_MAX: usize = 16;

/// Reads a report; `None` if it has no layout that is known.
pub(super) fn read(fields: &Fields, settings: &Settings, now: Arrival) -> Option<Report> {
    let event = fields.get(1);
    let mut report = Report::default();
    let clock = Clock { settings, now };
    match fields.get(MARK) {
        b"F" => placed(fields, &mut report, &clock),
        b"L" => {
            if let Some(time) = clock.time(fields.get(2), b"") {
                report.fix.set_time(time);
            }
            report.state_named("lac", fields.text(MARK + 3));
            report.state_named("cell_id", fields.text(MARK + 5));
            behind(fields, MARK + 7, &mut report);
        }
        _ => return second_layout(fields, &clock),
    }
    report.momentary = alarms(event);
    match event {
        b"tracker" => {}
        b"acc on" => set(&mut report, AttributeKey::Ignition, true),
        b"acc off" => set(&mut report, AttributeKey::Ignition, false),
        [b'T', b':', degrees @ ..] => {
            let degrees = text::decimal(degrees, 1).map(|e1| e1 as f64 / 10.0);
            report
                .attributes
                .retain(|attribute| attribute.key != AttributeKey::TemperatureC);
            report.state(AttributeKey::TemperatureC, degrees);
        }
        [b'o', b'i', b'l', b' ', percent @ ..] => {
            report.state(AttributeKey::FuelPercent, percentage(percent));
        }
        _ => {}
    }
    if event == b"rfid" {
        report.state(AttributeKey::DriverId, fields.text(3));
    }
    // Some put the charge where others put a phone number.
    let charge = fields.get(3).strip_suffix(b"%").and_then(percentage);
    report.state(AttributeKey::BatteryPercent, charge);
    if event != b"tracker" {
        report.state(AttributeKey::Event, printable(event));
    }
    Some(report)
}

/// Time of day in UTC, A or V, latitude and longitude with their letters behind or before, speed, course.
fn placed(fields: &Fields, report: &mut Report, clock: &Clock) {
    if let Some(time) = clock.time(fields.get(2), fields.get(MARK + 1)) {
        report.fix.set_time(time);
    }
    let mut at = MARK + 3;
    let lat_e7 = degrees(fields, &mut at, [b"N", b"S"], 90);
    let lon_e7 = degrees(fields, &mut at, [b"E", b"W"], 180);
    if let Some((lat_e7, lon_e7)) = lat_e7.zip(lon_e7) {
        report.fix.set_position(lat_e7, lon_e7);
        report.fix.set_valid(fields.get(MARK + 2) == b"A");
        behind(fields, at, report);
    }
}

/// Degrees, minutes and a letter before or behind them. Some leave the letter out, and mean north and east.
fn degrees(fields: &Fields, at: &mut usize, letters: [&[u8]; 2], degrees_max: i64) -> Option<i32> {
    let mut letter = None;
    if letters.contains(&fields.get(*at)) {
        letter = Some(fields.get(*at));
        *at += 1;
    }
    let field = fields.get(*at);
    *at += 1;
    let behind = fields.get(*at);
    if letters.contains(&behind) || letter.is_none() && behind.is_empty() {
        letter = letter.or(Some(behind).filter(|letter| !letter.is_empty()));
        *at += 1;
    }
    text::degrees_e7(field, letter.unwrap_or(letters[0]), degrees_max)
}

/// Speed, course, altitude, ignition, door, two fuel sensors, temperature; any may be empty or not there.
fn behind(fields: &Fields, at: usize, report: &mut Report) {
    if let Some(speed) = text::knots_mm_s(fields.get(at)) {
        report.fix.set_speed(speed);
    }
    if let Some(course) = text::course_cdeg(fields.get(at + 1)) {
        report.fix.set_course(u32::from(course));
    }
    if let Some(mm) = text::metres_mm(fields.get(at + 2)) {
        report.fix.set_altitude(mm);
    }
    report.state(AttributeKey::Ignition, yes(fields.get(at + 3)));
    let door = yes(fields.get(at + 4)).filter(|&open| open);
    report.state(AttributeKey::Doors, door.map(|_| 1_u8));
    let marked = |at: usize| fields.get(at).strip_suffix(b"%").and_then(percentage);
    report.state(AttributeKey::FuelPercent, marked(at + 5));
    report.state(AttributeKey::TemperatureC, fields.float(at + 7));
    report.state_named("fuel_2_percent", marked(at + 6));
    // Devices on the diagnostic plug put the vehicle's kilometres here.
    let km = fields.get(at + 6);
    let km = km
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| fields.number(at + 6));
    let km = km.flatten().filter(|&km| km > 0);
    report.state(AttributeKey::OdometerM, km.map(|km| km * 1000));
}

/// `name,event,sensor,voltage,hhmmss,ddmmyy,signal,fix,latitude,longitude,km/h,course,altitude,hdop,satellites,
/// ignition,charging,error`, degrees with decimals; dashes for nothing.
fn second_layout(fields: &Fields, clock: &Clock) -> Option<Report> {
    let of_day = text::time_of_day_ms(fields.get(5))?;
    let lat_e7 = text::signed_degrees_e7(fields.get(9), 90)?;
    let lon_e7 = text::signed_degrees_e7(fields.get(10), 180)?;
    let mut report = Report::default();
    report.fix.set_position(lat_e7, lon_e7);
    if let Some(days) = text::date_days(fields.get(6)) {
        let time_ms = days * DAY_MS + i64::from(of_day) - clock.zone_ms();
        report
            .fix
            .set_time(clock.settings.fix_time(time_ms, clock.now));
    }
    report.fix.set_valid(fields.number(8)? > 0);
    if let Some(speed) = text::kmh_mm_s(fields.get(11)) {
        report.fix.set_speed(speed);
    }
    if let Some(course) = text::course_cdeg(fields.get(12)) {
        report.fix.set_course(u32::from(course));
    }
    if let Some(mm) = text::metres_mm(fields.get(13)) {
        report.fix.set_altitude(mm);
    }
    if let Some(count) = fields.u8(15) {
        report.fix.set_satellites(count);
    }
    let said = |at: usize| {
        fields
            .text(at)
            .filter(|text| text.bytes().any(|byte| byte != b'-'))
    };
    report.momentary = alarms(said(2).unwrap_or_default().as_bytes());
    report.state(AttributeKey::Ignition, yes(fields.get(16)));
    report.state(AttributeKey::Event, said(2));
    report.state(AttributeKey::Charging, yes(fields.get(17)));
    report.state(AttributeKey::Signal, fields.number(7));
    report.state(AttributeKey::Hdop, fields.float(14));
    report.state_named("sensor_id", said(3));
    report.state_named("sensor_voltage", fields.float(4));
    report.state_named("error", said(18));
    Some(report)
}

/// What a device on the diagnostic plug reads: date, kilometres, fuel now, fuel on average, hours, km/h, load, coolant,
/// throttle, turns a minute, volts, fault codes.
pub(super) fn vehicle(fields: &Fields) -> Vec<Attribute> {
    let mut report = Report::default();
    let percent = |at: usize| fields.get(at).strip_suffix(b"%").and_then(percentage);
    let km = fields.number(3).map(|km| km * 1000);
    report.state(AttributeKey::OdometerM, km);
    report.state(AttributeKey::EngineRpm, fields.number(11));
    let speed = text::kmh_mm_s(fields.get(7)).map(|mm_s| f64::from(mm_s) / 1e3);
    report.state(AttributeKey::TachographSpeedMps, speed);
    report.state(AttributeKey::CoolantC, fields.float(9));
    report.state(AttributeKey::PowerV, fields.float(12));
    report.state(AttributeKey::EngineLoadPercent, percent(8));
    report.state(AttributeKey::ThrottlePercent, percent(10));
    let seconds = fields.number(6).map(|hours| hours * 3600);
    report.state(AttributeKey::EngineS, seconds);
    let faults: Vec<_> = fields
        .from(13)
        .iter()
        .filter_map(|fault| printable(fault))
        .take(FAULTS_MAX)
        .collect();
    let faults = (!faults.is_empty()).then(|| faults.join(" "));
    report.state(AttributeKey::FaultCodes, faults);
    report.state_named("fuel_now", fields.float(4));
    report.state_named("fuel_average", fields.float(5));
    report.attributes
}

/// The alarm of an event; an alarm without a name of ours is one all the same.
fn alarms(event: &[u8]) -> Alarms {
    let kind = match event {
        b"help me" => AlarmKind::Sos,
        b"low battery" => AlarmKind::BatteryLow,
        b"move" => AlarmKind::IllegalMovement,
        b"speed" => AlarmKind::Overspeed,
        b"stockade" => AlarmKind::AreaCrossed,
        b"ac alarm" => AlarmKind::PowerCut,
        b"acc alarm" => AlarmKind::IllegalIgnition,
        b"door alarm" | b"bonnet alarm" => AlarmKind::DoorOpened,
        b"sensor alarm" => AlarmKind::Vibration,
        b"accident alarm" | b"collision" => AlarmKind::Collision,
        b"brake" | b"brake alarm" => AlarmKind::HarshBraking,
        b"accelerate" => AlarmKind::HarshAcceleration,
        b"sharp turn" => AlarmKind::HarshCornering,
        b"DTC" => AlarmKind::VehicleFault,
        [b'T', b':', ..] => AlarmKind::Temperature,
        [b'o', b'i', b'l', ..] => AlarmKind::FuelAbnormal,
        event if event.ends_with(b" alarm") => AlarmKind::Unspecified,
        _ => return Alarms::default(),
    };
    kind.into()
}

fn set(report: &mut Report, key: AttributeKey, value: bool) {
    report.attributes.retain(|attribute| attribute.key != key);
    report.state(key, Some(value));
}

fn yes(field: &[u8]) -> Option<bool> {
    match field {
        b"1" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

fn percentage(field: &[u8]) -> Option<f64> {
    let field = field.strip_suffix(b"%").unwrap_or(field);
    let e2 = text::decimal(field, 2).filter(|e2| (0..=10_000).contains(e2))?;
    Some(e2 as f64 / 100.0)
}

/// What the times of a message are made of besides the message.
struct Clock<'a> {
    settings: &'a Settings,
    now: Arrival,
}

impl Clock<'_> {
    fn zone_ms(&self) -> i64 {
        i64::from(self.settings.zone_minutes.unwrap_or(0)) * 60_000
    }

    /// The moment of a local date and time and of a time of day in UTC: the moment with that time of day which makes
    /// the zone the one that is known, or else one that people live in. Either may be missing.
    fn time(&self, local: &[u8], utc: &[u8]) -> Option<(i64, TimeSource)> {
        let of_day = text::time_of_day_ms(utc).map(i64::from);
        let zone_ms = self.settings.zone_minutes.map(|_| self.zone_ms());
        let stated = match (local_ms(local), of_day) {
            (Some(local_ms), Some(of_day)) => {
                let about_ms = local_ms - zone_ms.unwrap_or(ZONE_MIDDLE_MS);
                Some(calendar::nearest(of_day, about_ms))
            }
            (Some(local_ms), None) => Some(local_ms - self.zone_ms()),
            (None, _) => None,
        };
        match (stated, of_day) {
            (Some(time_ms), _) => Some(self.settings.fix_time(time_ms, self.now)),
            _ if self.settings.recorded => None,
            (None, Some(of_day)) => {
                let time_ms = calendar::nearest(of_day, self.now.wall_ms);
                Some((time_ms, TimeSource::DateCompleted))
            }
            (None, None) => Some((self.now.wall_ms, TimeSource::Arrival)),
        }
    }
}

/// `yymmddhhmm` or `yymmddhhmmss`, also with strokes, colons and spaces, as if it were UTC.
fn local_ms(field: &[u8]) -> Option<i64> {
    let mut digits = [b'0'; 12];
    let mut count = 0;
    for &byte in field {
        match byte {
            b'0'..=b'9' => {
                *digits.get_mut(count)? = byte;
                count += 1;
            }
            b'/' | b':' | b' ' => {}
            _ => return None,
        }
    }
    if count != 10 && count != 12 {
        return None;
    }
    let two = |at: usize| i64::from(digits[at] - b'0') * 10 + i64::from(digits[at + 1] - b'0');
    calendar::time_ms((2000 + two(0), two(2), two(4)), (two(6), two(8), two(10)))
}
