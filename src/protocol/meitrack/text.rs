//! A report as text: fields between commas, of which the later ones depend on the model.

use super::super::calendar;
use super::super::text::{
    course_cdeg, date_days, decimal, kmh_mm_s, metres_mm, signed_degrees_e7, time_of_day_ms,
};
use super::super::{Arrival, Report, Settings};
use super::{event, hex, printable, set_time};
use crate::frame::{AttributeKey, Value};

/// Raw values of a battery in hundredths of a volt: 2.5 V to 5 V. Others are in the steps of a converter that depends
/// on the model.
const BATTERY_CENTIVOLTS: std::ops::RangeInclusive<u32> = 250..=500;

/// Reads a report; `None` if it has no event, place and time.
pub(super) fn report(body: &[u8], settings: &Settings, now: Arrival) -> Option<Report> {
    let mut fields = body.split(|&byte| byte == b',');
    let mut next = || fields.next().unwrap_or(&[]);
    let mut report = Report::default();
    let code = number(next())?;
    event::state(code, &mut report);

    let lat = signed_degrees_e7(next(), 90)?;
    let lon = signed_degrees_e7(next(), 180)?;
    report.fix.set_position(lat, lon);
    let time = next();
    match time_ms(time) {
        Some(time_ms) => set_time(&mut report.fix, time_ms, settings, now),
        // A clock that was never set has no date; what else is said, an alarm perhaps, counts all the same.
        None if time.is_empty() || is_moment(time) => {}
        None => return None,
    }
    report.fix.set_valid(next() == b"A");
    if let Some(satellites) = number(next()) {
        report
            .fix
            .set_satellites(u8::try_from(satellites).unwrap_or(u8::MAX));
    }
    report.state(AttributeKey::Signal, number(next()));
    if let Some(speed) = kmh_mm_s(next()) {
        report.fix.set_speed(speed);
    }
    if let Some(course) = course_cdeg(next()) {
        report.fix.set_course(u32::from(course));
    }
    report.state(AttributeKey::Hdop, thousandths(next()));
    if let Some(altitude) = metres_mm(next()) {
        report.fix.set_altitude(altitude);
    }
    report.state(AttributeKey::OdometerM, number(next()));
    let running_s = number(next());
    report.state(AttributeKey::Cells, cell(next()));
    let ports = hex(next()).filter(|&ports| ports <= 0xffff);
    report.state(AttributeKey::Inputs, ports.map(|ports| ports >> 8));
    report.state(AttributeKey::Outputs, ports.map(|ports| ports & 0xff));
    analog(next(), &mut report);

    let event_data = next();
    let sensor = next();
    let protocol = number(next());
    let fuel = next();
    report.state(AttributeKey::FuelPercent, hex_pair(fuel));
    temperatures(next(), protocol, &mut report);
    report.state_named("running_s", running_s);
    if !event_data.is_empty() {
        let value = printable(&event_data[..event_data.len().min(super::TEXT_BYTES_MAX)]);
        match code {
            event::CARD => report.state(AttributeKey::DriverId, Some(value)),
            _ => report.state_named("event_data", Some(value)),
        }
    }
    if !sensor.is_empty() {
        let value = printable(&sensor[..sensor.len().min(super::TEXT_BYTES_MAX)]);
        report.state_named("sensor", Some(value));
    }
    Some(report)
}

/// A whole number.
fn number(field: &[u8]) -> Option<u32> {
    match field.iter().all(u8::is_ascii_digit) {
        true => u32::try_from(decimal(field, 0)?).ok(),
        false => None,
    }
}

fn thousandths(field: &[u8]) -> Option<f64> {
    decimal(field, 3).map(|number| number as f64 / 1000.0)
}

/// Whether a field is written like a time, be it one or not.
fn is_moment(field: &[u8]) -> bool {
    field.len() == 12 && field.iter().all(u8::is_ascii_digit)
}

/// `yymmddhhmmss`.
fn time_ms(field: &[u8]) -> Option<i64> {
    let &[y1, y2, m1, m2, d1, d2, ref time @ ..] = field else {
        return None;
    };
    let days = date_days(&[d1, d2, m1, m2, y1, y2])?;
    Some(days * calendar::DAY_MS + i64::from(time_of_day_ms(time)?))
}

/// Country and network in decimal digits, area and cell in hex, between bars.
fn cell(field: &[u8]) -> Option<String> {
    let mut parts = field.split(|&byte| byte == b'|');
    let (country, network) = (number(parts.next()?)?, number(parts.next()?)?);
    let (area, cell) = (hex(parts.next()?)?, hex(parts.next()?)?);
    (country != 0).then(|| format!("{country}-{network}-{area}-{cell}"))
}

/// Five inputs between bars, in hex; the last two are the battery and the supply. Or, with points, volts of the
/// battery, the supply and of parts of the device.
fn analog(field: &[u8], report: &mut Report) {
    let parts = || field.split(|&byte| byte == b'|');
    if field.contains(&b'.') {
        let mut volts = parts().map(thousandths);
        report.state(AttributeKey::BatteryV, volts.next().flatten());
        report.state(AttributeKey::PowerV, volts.next().flatten());
        return;
    }
    let mut inputs = [None; 5];
    for (input, part) in inputs.iter_mut().zip(parts()) {
        *input = hex(part);
    }
    state_analog(inputs, report);
}

/// States inputs in hundredths of a volt, or raw where the battery shows that they are not.
pub(super) fn state_analog(inputs: [Option<u32>; 5], report: &mut Report) {
    let in_volts = inputs[3].is_some_and(|battery| BATTERY_CENTIVOLTS.contains(&battery));
    let keys = [
        AttributeKey::Analog1V,
        AttributeKey::Analog2V,
        AttributeKey::Analog3V,
        AttributeKey::BatteryV,
        AttributeKey::PowerV,
    ];
    let names = ["analog_1", "analog_2", "analog_3", "battery", "power"];
    for ((input, key), name) in inputs.into_iter().zip(keys).zip(names) {
        match in_volts {
            true => report.state(key, input.map(|raw| f64::from(raw) / 100.0)),
            false => report.state_named(name, input),
        }
    }
}

/// A whole part and hundredths, each in two hex digits.
fn hex_pair(field: &[u8]) -> Option<f64> {
    let raw = hex(field).filter(|_| field.len() == 4)?;
    Some(f64::from(raw >> 8) + f64::from(raw & 0xff) / 100.0)
}

/// Sensors between bars: a number in two hex digits, a temperature in four.
fn temperatures(field: &[u8], protocol: Option<u32>, report: &mut Report) {
    for part in field.split(|&byte| byte == b'|').take(8) {
        let Some(raw) = hex(part).filter(|_| part.len() == 6) else {
            continue;
        };
        let bits = raw as u16;
        let degrees = match protocol {
            Some(3..) => f64::from(bits as i16) / 100.0,
            // A signed whole part, and hundredths away from zero.
            _ => {
                let whole = f64::from((bits >> 8) as u8 as i8);
                let hundredths = f64::from(bits & 0xff) / 100.0;
                whole + hundredths.copysign(whole)
            }
        };
        state_temperature(raw >> 16, degrees, report);
    }
}

/// States the temperature of a sensor: the first four have names of their own.
pub(super) fn state_temperature(sensor: u32, degrees: f64, report: &mut Report) {
    let key = match sensor {
        1 => AttributeKey::TemperatureC,
        2 => AttributeKey::Temperature2C,
        3 => AttributeKey::Temperature3C,
        4 => AttributeKey::Temperature4C,
        _ => {
            return report
                .state_named(format!("temperature_{sensor}"), Some(Value::Float(degrees)));
        }
    };
    report.state(key, Some(degrees));
}
