//! Messages without a GPS part: information, texts, what is attached to a terminal.

use super::super::bytes::{Reader, hex};
use super::super::text as numbers;
use super::modules::digits;
use super::place::Clock;
use super::reading::Reading;
use super::status::{set_power, tenths};
use super::text;
use crate::frame::AttributeKey;

/// Values of a list that are kept of one message.
const LIST_VALUES_MAX: usize = 32;

/// 0x94: a kind and what it says. The short form is a voltage.
pub(super) fn information(content: &[u8], long: bool, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    if !long {
        set_power(reading, reader.u16()?);
        return Some(());
    }
    let kind = reader.u8()?;
    let known = information_of(kind, &mut reader, reading);
    if known.is_none() {
        let value = Some(hex(&content[..content.len().min(64)]));
        reading.report.state_named("information", value);
    }
    Some(())
}

fn information_of(kind: u8, reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    match kind {
        0x00 => set_power(reading, reader.u16()?),
        0x04 => settings(reader, reading),
        0x05 => {
            // A time may stand before the doors.
            if reader.len() > 6 {
                reader.skip(6)?;
            }
            let flags = reader.u8()?;
            reading.report.state(AttributeKey::Doors, Some(flags & 1));
            reading
                .report
                .state(AttributeKey::Inputs, Some(flags >> 2 & 1));
        }
        0x0a => {
            reader.skip(8)?;
            let (imsi, iccid) = (reader.take(8)?, reader.take(10)?);
            reading
                .report
                .state(AttributeKey::Iccid, Some(digits(iccid)));
            reading.report.state(AttributeKey::Imsi, Some(digits(imsi)));
        }
        0x0b if reader.len() == 1 => {
            let network = if reader.u8()? == 0 { "2G" } else { "4G" };
            reading.report.state_named("network", Some(network));
        }
        0x0b if reader.len() == 2 => set_power(reading, reader.u16()?),
        0x0d => fuel(reader, reading)?,
        0x1b => card(reader, reading)?,
        0x1e => {
            let (celsius, percent) = (tenths(reader.i32()?), tenths(reader.i32()?));
            let report = &mut reading.report;
            report.state(AttributeKey::TemperatureC, Some(celsius));
            report.state(AttributeKey::HumidityPercent, Some(percent));
        }
        _ => return None,
    }
    Some(())
}

/// `NAME=value;...`: settings of the terminal, of which one is not a setting.
fn settings(reader: &mut Reader, reading: &mut Reading) {
    for pair in reader.0.split(|&byte| byte == b';').take(LIST_VALUES_MAX) {
        let Some(at) = pair.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let (Some(name), Some(value)) = (text(&pair[..at]), text(&pair[at + 1..])) else {
            continue;
        };
        let report = &mut reading.report;
        match name.as_str() {
            "ICCID" => report.state(
                AttributeKey::Iccid,
                Some(value.trim_end_matches(['F', 'f'])),
            ),
            "IMSI" => report.state(AttributeKey::Imsi, Some(value)),
            _ if name.len() <= 16 && value.len() <= 64 => {
                let name = ["setting_", &name.to_ascii_lowercase()].concat();
                report.state_named(name, Some(value));
            }
            _ => {}
        }
    }
}

/// `!AIOIL,address,output,temperature,version,states,measured,...`: a fuel sensor, behind a time or not.
fn fuel(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    let start = reader.0.iter().position(|&byte| byte == b'!')?;
    let mut fields = reader.0[start..].split(|&byte| byte == b',');
    if fields.next()? != b"!AIOIL" {
        return None;
    }
    let temperature = numbers::decimal(fields.nth(2)?, 1)?;
    let measured = numbers::decimal(fields.nth(2)?, 3)?;
    let report = &mut reading.report;
    let celsius = temperature as f64 / 10.0;
    report.state(AttributeKey::TemperatureC, Some(celsius));
    // What the sensor measures depends on how it is set up.
    report.state_named("fuel_sensor", Some(measured as f64 / 1000.0));
    Some(())
}

/// A text, or the number of a card between two marks.
fn card(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    if reader.0.first()?.is_ascii_alphabetic() {
        let serial = text(reader.0);
        reading.report.state_named("serial_data", serial);
        return Some(());
    }
    reader.skip(2)?;
    let number = hex(reader.take(4)?);
    reading.report.state(AttributeKey::DriverId, Some(number));
    Some(())
}

/// 0x15: a length that includes four bytes of the server's flag, the flag, a text, a language.
pub(super) fn command_answer(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    let length = usize::from(reader.u8()?);
    let Some(length) = length.checked_sub(4) else {
        return Some(());
    };
    reader.skip(4)?;
    let bytes = reader.take(length)?;
    let report = &mut reading.report;
    match bytes.strip_prefix(b"<ICCID:") {
        Some(rest) => {
            let iccid = rest.strip_suffix(b">").unwrap_or(rest);
            report.state(AttributeKey::Iccid, text(iccid));
        }
        None => report.state(AttributeKey::Result, text(bytes)),
    }
    Some(())
}

/// 0x21: the server's flag, how the text is written, the text. It may tell a position.
pub(super) fn newer_command_answer(
    content: &[u8],
    clock: &Clock,
    reading: &mut Reading,
) -> Option<()> {
    let mut reader = Reader(content);
    reader.skip(4)?;
    let written = match reader.u8()? {
        1 => text(reader.0),
        _ => {
            let units = reader.0.chunks_exact(2);
            let ascii: Vec<_> = units
                .map(|unit| if unit[0] == 0 { unit[1] } else { b'?' })
                .collect();
            text(&ascii)
        }
    };
    let Some(written) = written else {
        return Some(());
    };
    if told_place(written.as_bytes(), clock, reading).is_none() {
        *reading = Reading::default();
        reading.report.state(AttributeKey::Result, Some(written));
    }
    Some(())
}

/// `Current position!Lat:N23.1,Lon:E114.4,Course:0.0,Speed:0.0,DateTime:2026-01-31 12:00:00`.
fn told_place(written: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut fields = written
        .strip_prefix(b"Current position!")?
        .split(|&byte| byte == b',');
    let lat = told_degrees(fields.next()?.strip_prefix(b"Lat:")?, b'N', b'S')?;
    let lon = told_degrees(fields.next()?.strip_prefix(b"Lon:")?, b'E', b'W')?;
    let course = fields.next()?.strip_prefix(b"Course:")?;
    let speed = fields.next()?.strip_prefix(b"Speed:")?;
    let time = fields.next()?.strip_prefix(b"DateTime:")?;
    let mut number = time
        .split(|byte| !byte.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| numbers::decimal(digits, 0));
    let mut next = || number.next().flatten();
    let date = (next()?, next()?, next()?);
    let time_ms = super::super::calendar::time_ms(date, (next()?, next()?, next()?))?;
    reading.set_time_ms(clock, time_ms);
    let fix = &mut reading.report.fix;
    fix.set_position(lat, lon);
    if let Some(cdeg) = numbers::course_cdeg(course) {
        fix.set_course(u32::from(cdeg));
    }
    if let Some(mm_s) = numbers::kmh_mm_s(speed) {
        fix.set_speed(mm_s);
    }
    fix.set_valid(true);
    Some(())
}

fn told_degrees(field: &[u8], positive: u8, negative: u8) -> Option<i32> {
    let (&hemisphere, degrees) = field.split_first()?;
    let e7 = numbers::signed_degrees_e7(degrees, 180)?;
    match hemisphere {
        _ if hemisphere == positive => Some(e7),
        _ if hemisphere == negative => Some(-e7),
        _ => None,
    }
}

/// 0x9b: what a device on the serial port said.
pub(super) fn serial(content: &[u8], reading: &mut Reading) -> Option<()> {
    let (_, data) = content.split_first()?;
    let value = text(data).unwrap_or_else(|| hex(&data[..data.len().min(128)]));
    reading.report.state(AttributeKey::Result, Some(value));
    Some(())
}
