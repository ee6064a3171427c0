//! What is attached to a terminal: the vehicle's diagnosis, a battery with a controller, sensors.

use super::super::bytes::{Reader, hex};
use super::place::Clock;
use super::reading::Reading;
use super::status::{hundredths, set_power};
use super::text;
use crate::frame::AttributeKey;

/// Values of a list that are kept of one message.
const VALUES_MAX: usize = 32;

/// Bytes behind the list of a diagnosis: a position in another form, that is not read.
const DIAGNOSIS_TAIL_BYTES: usize = 12;

/// 0x8c: a time, ignition, `id=value,...` in hex, most of them in hundredths.
pub(super) fn diagnosis(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.set_time(clock, reader.array()?);
    reading.ignition = Some(reader.u8()? != 0);
    let list = reader.take(reader.len().saturating_sub(DIAGNOSIS_TAIL_BYTES))?;
    for pair in list.split(|&byte| byte == b',').take(VALUES_MAX) {
        let Some(at) = pair.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        // Two digits name the value; the third is how it is written.
        if let (Some(id), Some(value)) = (hex_number(&pair[..at.min(2)]), text(&pair[at + 1..])) {
            value_of(id, &value, reading);
        }
    }
    Some(())
}

fn hex_number(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

fn value_of(id: u32, value: &str, reading: &mut Reading) {
    let report = &mut reading.report;
    let Some(number) = hex_number(value.as_bytes()).filter(|_| id != 0x4a) else {
        if id == 0x4a {
            report.state(AttributeKey::Vin, Some(value));
        }
        return;
    };
    let hundredths = hundredths(number);
    match id {
        0x28 => report.state(AttributeKey::OdometerM, Some(i64::from(number) * 10)),
        0x2d => report.state(AttributeKey::CoolantC, Some(hundredths)),
        0x35 => report.state(AttributeKey::TachographSpeedMps, Some(hundredths / 3.6)),
        0x36 => report.state(AttributeKey::EngineRpm, Some(hundredths)),
        0x47 => report.state(AttributeKey::FuelUsedL, Some(hundredths)),
        0x49 => report.state(AttributeKey::EngineS, Some(i64::from(number) * 36)),
        _ => report.state_named(["obd_", &hex(&[id as u8])].concat(), Some(hundredths)),
    }
}

/// 0x65 and 0x66: a time, a count, and a list of faults or values as text.
pub(super) fn list(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.set_time(clock, reader.array()?);
    reader.skip(1)?;
    let printable = reader
        .0
        .iter()
        .take_while(|byte| (b' '..=b'~').contains(byte));
    let length = printable.count().min(200);
    let list = text(&reader.0[..length]);
    reading.report.state_named("diagnosis_list", list);
    Some(())
}

/// 0x40: serial number, a time in seconds since 1970, charge and voltage of a battery with its own controller.
pub(super) fn battery(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reader.skip(8)?;
    reading.set_time_ms(clock, i64::from(reader.u32()?) * 1000);
    let percent = reader.u8()?;
    reader.skip(2 + 1 + 2)?;
    let health = reader.u8()?;
    // From 0.1 kelvin.
    let celsius = (f64::from(reader.u16()?) - 2731.0) / 10.0;
    let current = reader.u16()?;
    let volts = f64::from(reader.u16()?) / 1000.0;
    let cycles = reader.u16()?;
    let report = &mut reading.report;
    report.state(AttributeKey::BatteryPercent, Some(percent));
    report.state(AttributeKey::BatteryV, Some(volts));
    report.state(AttributeKey::TemperatureC, Some(celsius));
    report.state_named("battery_health", Some(health));
    report.state_named("battery_current", Some(current));
    report.state_named("battery_cycles", Some(cycles));
    Some(())
}

/// 0xf1: seconds since 1970, then states: id, length, value.
pub(super) fn states(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.set_time_ms(clock, i64::from(reader.u32()?) * 1000);
    for _ in 0..VALUES_MAX {
        let (Some(id), Some(length)) = (reader.u16(), reader.u8()) else {
            break;
        };
        let Some(value) = reader.take(usize::from(length)) else {
            break;
        };
        let _ = state(id, value, reading);
    }
    Some(())
}

fn state(id: u16, value: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(value);
    let report = &mut reading.report;
    match id {
        0x0001 => {
            let moving = matches!(reader.u8()?, 2 | 4);
            report.state(AttributeKey::Motion, Some(moving));
        }
        0x0002 => report.state(AttributeKey::Armed, Some(reader.u8()? != 0)),
        0x0004 => reading.ignition = Some(reader.u8()? != 0),
        0x0005 => set_power(reading, reader.u16()?),
        0x0007 => report.state(AttributeKey::Charging, Some(reader.u8()? != 0)),
        _ => {
            let name = ["state_", &hex(&id.to_be_bytes())].concat();
            report.state_named(name, Some(hex(&value[..value.len().min(32)])));
        }
    }
    Some(())
}

/// 0xf2: seconds since 1970, then what a sensor near the terminal said. Its layout differs by sensor.
pub(super) fn sensors(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.set_time_ms(clock, i64::from(reader.u32()?) * 1000);
    let data = reader.0;
    let data = hex(&data[..data.len().min(64)]);
    reading.report.state_named("sensors", Some(data));
    Some(())
}

/// 0x35: a picture that could be asked for. It is not.
pub(super) fn picture_offer(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    // Time, place, camera, reason, format.
    reader.skip(6 + 9 + 3)?;
    let bytes = reader.u32()?;
    let id = reader.u32()?;
    reading.report.state_named("media_id", Some(id));
    reading.report.state_named("media_bytes", Some(bytes));
    Some(())
}

/// 0x41: a part of a picture. It is not kept.
pub(super) fn picture(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    // Serial number, time, place, cell.
    reader.skip(8 + 4 + 14 + 8)?;
    let id = reader.u32()?;
    let bytes = reader.u32()?;
    reading.report.state_named("media_id", Some(id));
    reading.report.state_named("media_bytes", Some(bytes));
    Some(())
}
