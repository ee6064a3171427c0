//! Messages of single models: dash cameras, alarm systems, loggers.

use super::super::bytes::Reader;
use super::alarm;
use super::network::{Cell, NARROW};
use super::place::{Clock, read_camera_place, read_place};
use super::reading::Reading;
use super::status::{hundredths, set_battery, set_power, tenths};
use super::text;
use crate::frame::{AlarmKind, AttributeKey};

/// 0x95: an event of a dash camera, with a position in one of two forms or only a time, and the names of its films.
pub(super) fn camera(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    let whole = content.starts_with(&[0xff, 0xff]);
    if content.len() <= 9 {
        reading.set_time(clock, reader.array()?);
    } else {
        if whole {
            reader.skip(3)?;
        }
        read_camera_place(&mut reader, clock, reading, whole)?;
    }
    if whole {
        let volts = tenths(reader.u16()?);
        reading.report.state(AttributeKey::PowerV, Some(volts));
    }
    let event = reader.u8()?;
    alarm::raise(&mut reading.report.momentary, alarm::of_camera(event));
    let data = reader.u16();
    let report = &mut reading.report;
    report.state(AttributeKey::AlarmWord, Some(event));
    report.state_named("event_data", data);
    report.state_named("event_files", text(reader.0));
    Some(())
}

/// 0x32 and 0x33 in the long form: a GPS part behind its length, cells, access points, the state of an alarm system.
pub(super) fn alarm_system(
    number: u8,
    content: &[u8],
    clock: &Clock,
    reading: &mut Reading,
) -> Option<()> {
    let mut reader = Reader(content);
    let time = reader.array()?;
    reading.set_time(clock, time);
    if reader.u8()? != 0 {
        // The time stands before the length, and the rest after it.
        let mut part = time.to_vec();
        part.extend(reader.take(12)?);
        read_place(&mut Reader(&part), clock, reading)?;
    }
    let length = usize::from(reader.u8()?);
    if length != 0 {
        let cell = reader.take(length.checked_sub(1)?)?;
        let _ = reading.network.read_cell(&mut Reader(cell), NARROW);
        let signal = reader.u8();
        reading.report.state(AttributeKey::Signal, signal);
    }
    for _more in ["cells", "access points"] {
        let length = usize::from(reader.u8()?);
        reader.skip(length)?;
    }
    let state = reader.u8()?;
    let report = &mut reading.report;
    report.state(AttributeKey::StatusWord, Some(state));
    if number == 0x33 {
        let raised = match state {
            0xa2 | 0xa3 => Some(AlarmKind::BatteryLow),
            0xa4 => Some(AlarmKind::Unspecified),
            0xa5 => Some(AlarmKind::DoorOpened),
            _ => None,
        };
        alarm::raise(&mut report.momentary, raised);
        let armed = matches!(state, 0xa0 | 0xa1).then_some(state == 0xa0);
        report.state(AttributeKey::Armed, armed);
    }
    Some(())
}

/// 0x34 of a logger: alarm word, GPS part, distance, cell, driver, voltages, ports.
pub(super) fn logger(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    let word = reader.u32()?;
    read_place(&mut reader, clock, reading)?;
    reading.report.state(AttributeKey::AlarmWord, Some(word));
    let _ = logger_ports(&mut reader, reading);
    Some(())
}

fn logger_ports(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    let status = reader.u16()?;
    let metres = reader.u32()?;
    let report = &mut reading.report;
    report.state(AttributeKey::StatusWord, Some(status));
    report.state(AttributeKey::OdometerM, Some(metres));
    let (mcc, mnc) = (reader.u16()?, u16::from(reader.u8()?));
    let (lac, id) = (u32::from(reader.u16()?), u64::from(reader.u32()?));
    reading.network.add_cell(Cell { mcc, mnc, lac, id });
    let driver = reader.u32()?;
    let driver = (driver != 0).then(|| driver.to_string());
    reading.report.state(AttributeKey::DriverId, driver);
    set_power(reading, reader.u16()?);
    set_battery(reading, reader.u16()?);
    let ports = reader.u32()?;
    let (inputs, outputs) = (reader.u8()?, reader.u8()?);
    let report = &mut reading.report;
    report.state(AttributeKey::Inputs, Some(inputs));
    report.state(AttributeKey::Outputs, Some(outputs));
    // Four bits of the ports' word count the analogue inputs.
    let names = [
        AttributeKey::Analog1V,
        AttributeKey::Analog2V,
        AttributeKey::Analog3V,
        AttributeKey::Analog4V,
    ];
    for name in names.into_iter().take((ports >> 20 & 15) as usize) {
        report.state(name, Some(hundredths(reader.u16()?)));
    }
    Some(())
}
