//! What the numbered values of a record mean. What has no standard name is kept under its number.

use super::super::Report;
use super::super::bytes::{Reader, hex, io_name, number};
use crate::frame::{AlarmKind, Attribute, AttributeKey, Value};

/// Values without a standard name that are kept of one message.
pub(super) const VENDOR_ATTRIBUTES_MAX: usize = 64;

/// A value from the vehicle's bus that begins higher says that there is none (SAE J1939).
const BUS_BYTE_MAX: u8 = 0xfa;

/// States what the values of a record say, in lists by their length, standard names first.
pub(super) fn lists(
    wide: bool,
    reader: &mut Reader,
    vendor_left: &mut usize,
    report: &mut Report,
) -> Option<()> {
    let mut inputs = None;
    // Who drives, in two halves: by the vehicle's bus, and by its tachograph.
    let mut driver = [[0; 8]; 4];
    for length in [1, 2, 4, 8] {
        for _ in 0..reader.u8()? {
            let id = match wide {
                true => reader.u16()?,
                false => u16::from(reader.u8()?),
            };
            let value = reader.take(length)?;
            match (id, value) {
                (2..=5, &[level]) => {
                    let inputs = inputs.get_or_insert(0_u8);
                    *inputs |= u8::from(level != 0) << (id - 2);
                }
                (126 | 127, &[a, b, c, d, e, f, g, h]) => {
                    driver[usize::from(id - 126)] = [a, b, c, d, e, f, g, h];
                }
                (155 | 156, &[a, b, c, d, e, f, g, h]) => {
                    driver[usize::from(id - 153)] = [a, b, c, d, e, f, g, h];
                }
                _ => state(id, value, vendor_left, report),
            }
        }
    }
    report.state(AttributeKey::Inputs, inputs);
    let (by_bus, by_tachograph) = driver.as_flattened().split_at(16);
    let driver = card(by_bus).or_else(|| card(by_tachograph));
    if !is_stated(report, &AttributeKey::DriverId) {
        report.state(AttributeKey::DriverId, driver);
    }
    report
        .attributes
        .sort_by_key(|attribute| matches!(attribute.key, AttributeKey::Other(_)));
    Some(())
}

/// The number of a driver's card.
fn card(bytes: &[u8]) -> Option<String> {
    let digits = bytes.iter().copied().filter(|&byte| byte != 0);
    let card: Vec<u8> = digits.collect();
    let is_text = !card.is_empty() && card.iter().all(u8::is_ascii_graphic);
    is_text.then(|| String::from_utf8_lossy(&card).into_owned())
}

fn state(id: u16, value: &[u8], vendor_left: &mut usize, report: &mut Report) {
    alarm(id, number(value), report);
    match meaning(id, value) {
        Some((key, value)) if !is_stated(report, &key) => {
            report.attributes.push(Attribute { key, value });
        }
        _ if *vendor_left > 0 => {
            *vendor_left -= 1;
            let value = i64::try_from(number(value)).map_or(Value::Text(hex(value)), Value::Int);
            report.state_named(io_name(id), Some(value));
        }
        _ => {}
    }
}

fn is_stated(report: &Report, key: &AttributeKey) -> bool {
    report
        .attributes
        .iter()
        .any(|attribute| attribute.key == *key)
}

/// The standard attribute that a value is.
fn meaning(id: u16, bytes: &[u8]) -> Option<(AttributeKey, Value)> {
    use AttributeKey as Key;
    let raw = number(bytes);
    let int = || Value::Int(raw as i64);
    let flag = || Value::Bool(raw != 0);
    let float = |factor: f64| Value::Float(raw as f64 * factor);
    let milli = || Value::Float(raw as f64 / 1000.0);
    let tenths = || Value::Float(f64::from(raw as u16 as i16) / 10.0);
    let on_bus = bytes.first().is_some_and(|&first| first <= BUS_BYTE_MAX);
    Some(match (id, bytes.len()) {
        (251 | 409, 1) => (Key::Ignition, flag()),
        (13 | 173, 1) => (Key::Motion, flag()),
        (65, 4) => (Key::OdometerM, int()),
        (29, 2) => (Key::PowerV, milli()),
        (30, 2) => (Key::BatteryV, milli()),
        (27, 1) => (Key::Signal, int()),
        (170, 1) => (Key::Charging, flag()),
        (22, 2) => (Key::Analog1V, milli()),
        (23, 2) => (Key::Analog2V, milli()),
        (20, 2) => (Key::Analog3V, milli()),
        (21, 2) => (Key::Analog4V, milli()),
        (78, 2) => (Key::TemperatureC, tenths()),
        (79, 2) => (Key::Temperature2C, tenths()),
        (80, 2) => (Key::Temperature3C, tenths()),
        (74, 2) => (Key::Temperature4C, tenths()),
        (34, 8) if raw != 0 => (Key::DriverId, Value::Text(hex(bytes))),
        (150, 4) if raw != 0 => (Key::Operator, int()),
        // By the connector for diagnostics.
        (39, 1) => (Key::EngineLoadPercent, int()),
        (94, 2) => (Key::EngineRpm, Value::Int(raw as i64 / 4)),
        (95, 1) => (Key::TachographSpeedMps, Value::Float(raw as f64 / 3.6)),
        (98, 1) => (Key::FuelPercent, Value::Float(raw as f64 * 100.0 / 255.0)),
        (645, 4) => (Key::OdometerM, Value::Int(raw as i64 * 1000)),
        // By the bus of lorries, in its steps.
        (163, 4) if on_bus => (Key::OdometerM, Value::Int(raw as i64 * 5)),
        (164, 4) if on_bus => (Key::TripM, Value::Int(raw as i64 * 5)),
        (165, 2) if on_bus => (Key::TachographSpeedMps, float(1.0 / 256.0 / 3.6)),
        (166 | 197, 2) if on_bus => (Key::EngineRpm, Value::Int(raw as i64 / 8)),
        (207, 1) if on_bus => (Key::FuelPercent, float(0.4)),
        (208, 4) if on_bus => (Key::FuelUsedL, float(0.5)),
        _ => return None,
    })
}

/// The alarm that a value says holds, or that just came.
fn alarm(id: u16, value: u64, report: &mut Report) {
    match (id, value) {
        (88, 1..) => report.held.insert(AlarmKind::Jamming),
        (415, 0) => report.held.insert(AlarmKind::GnssAntennaCut),
        (758, 1) => report.held.insert(AlarmKind::Tampering),
        (134, 1..) => report.momentary.insert(AlarmKind::HarshBraking),
        (136, 1..) => report.momentary.insert(AlarmKind::HarshAcceleration),
        (410, 1..) => report.momentary.insert(AlarmKind::IllegalMovement),
        (411, 1..) => report.momentary.insert(AlarmKind::Collision),
        _ => {}
    }
}
