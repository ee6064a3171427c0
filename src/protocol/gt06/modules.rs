//! Lists of modules: a kind, a length, a value.

use super::super::bytes::{Reader, hex};
use super::alarm;
use super::network::{NARROW, read_operator};
use super::place::{Clock, set_position, speed};
use super::reading::Reading;
use super::status::{set_battery, set_power, tenths};
use crate::frame::AttributeKey;

/// Modules without a standard meaning that are kept of one message.
const VENDOR_MODULES_MAX: usize = 16;

/// A vendor's module that is longer is passed over.
const VENDOR_MODULE_BYTES_MAX: usize = 32;

/// Modules with a length of one byte, behind a location or a status.
pub(super) fn read_short(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    let mut vendor_left = VENDOR_MODULES_MAX;
    while !reader.is_empty() {
        let kind = reader.u16()?;
        let length = usize::from(reader.u8()?);
        let value = reader.take(length)?;
        let known = short(kind, &mut Reader(value), reading);
        if known.is_none() {
            keep(kind, value, reading, &mut vendor_left);
        }
    }
    Some(())
}

fn short(kind: u16, value: &mut Reader, reading: &mut Reading) -> Option<()> {
    match kind {
        0x0018 => set_battery(reading, value.u16()?),
        0x0027 => set_power(reading, value.u16()?),
        0x002e => {
            let metres = value.u32()?;
            reading.report.state(AttributeKey::OdometerM, Some(metres));
        }
        0x003b => {
            let centimetres = u32::from(value.u16()?);
            // Without a position there is nothing that could be accurate.
            if centimetres > 0 {
                reading.report.fix.set_accuracy(centimetres * 10);
            }
        }
        0x006a => {
            let percent = value.u8()?;
            reading
                .report
                .state(AttributeKey::BatteryPercent, Some(percent));
        }
        _ => return None,
    }
    Some(())
}

fn keep(kind: u16, value: &[u8], reading: &mut Reading, left: &mut usize) {
    if *left > 0 && value.len() <= VENDOR_MODULE_BYTES_MAX {
        *left -= 1;
        let name = ["module_", &hex(&kind.to_be_bytes())].concat();
        reading.report.state_named(name, Some(hex(value)));
    }
}

/// 0x70: a message that is all modules, with a length of two bytes.
pub(super) fn modular(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    let mut vendor_left = VENDOR_MODULES_MAX;
    while !reader.is_empty() {
        let kind = reader.u16()?;
        let length = usize::from(reader.u16()?);
        let value = reader.take(length)?;
        let known = long(kind, &mut Reader(value), reading, clock);
        if known.is_none() {
            keep(kind, value, reading, &mut vendor_left);
        }
    }
    Some(())
}

fn long(kind: u16, value: &mut Reader, reading: &mut Reading, clock: &Clock) -> Option<()> {
    match kind {
        0x01 => reading.device = super::terminal_id(&value.array()?),
        0x11 => {
            // An MNC of two bytes, then a cell of GSM.
            let (mcc, mnc) = read_operator(value, true)?;
            reading.network.read_cells(value, (mcc, mnc), 1, NARROW)?;
        }
        0x33 => place(value, reading, clock)?,
        0x34 => {
            let event = value.u8()?;
            alarm::raise(&mut reading.report.momentary, alarm::of_module(event));
            reading.report.state(AttributeKey::AlarmWord, Some(event));
        }
        _ => return attribute(kind, value, reading),
    }
    Some(())
}

fn attribute(kind: u16, value: &mut Reader, reading: &mut Reading) -> Option<()> {
    let report = &mut reading.report;
    match kind {
        0x02 => report.state(AttributeKey::Imsi, Some(digits(value.take(8)?))),
        0x03 => report.state(AttributeKey::Iccid, Some(digits(value.take(10)?))),
        0x09 => report.fix.set_satellites(value.u8()?),
        0x0a => report.state(AttributeKey::SatellitesInView, Some(value.u8()?)),
        0x18 => set_battery(reading, value.u16()?),
        0x28 => report.state(AttributeKey::Hdop, Some(tenths(value.u8()?))),
        0x2a => report.state(AttributeKey::Doors, Some(value.u8()? & 15)),
        0x2e => {
            let metres = value.u32()?;
            report.state(AttributeKey::OdometerM, Some(metres));
        }
        _ => return None,
    }
    Some(())
}

/// Seconds since 1970, satellites, altitude, position, speed, flags.
fn place(value: &mut Reader, reading: &mut Reading, clock: &Clock) -> Option<()> {
    let seconds = i64::from(value.u32()?);
    let satellites = value.u8()?;
    let metres = i32::from(value.i16()?);
    let (lat, lon) = (value.u32()?, value.u32()?);
    let speed_kmh = u32::from(value.u8()?);
    let flags = value.u16()?;
    if seconds > 0 {
        reading.set_time_ms(clock, seconds * 1000);
    }
    let fix = &mut reading.report.fix;
    fix.set_satellites(satellites);
    fix.set_altitude(metres * 1000);
    fix.set_speed(speed(speed_kmh));
    set_position(reading, lat, lon, flags);
    Some(())
}

/// Packed digits without their padding.
pub(super) fn digits(bytes: &[u8]) -> String {
    let text = hex(bytes);
    text.trim_end_matches('f').to_owned()
}
