//! What a terminal says about itself: its information byte, voltages, signal, alarm code; and heartbeats.

use super::super::bytes::{Reader, hex};
use super::reading::Reading;
use super::{alarm, modules};
use crate::frame::AttributeKey;

/// The documents' scale of the mobile network's signal ends here.
const SIGNAL_MAX: u8 = 4;

/// The documents number two languages.
const LANGUAGE_MAX: u8 = 4;

/// Longest status of a padlock. A place and the cell and status behind it are longer.
pub(super) const LOCK_BYTES_MAX: usize = 19;

/// Bits of the information byte.
mod bit {
    pub(super) const ARMED: u8 = 1;
    pub(super) const IGNITION: u8 = 1 << 1;
    pub(super) const CHARGING: u8 = 1 << 2;
    pub(super) const CUT: u8 = 1 << 7;
}

/// Reads the information byte. The alarm in it is raised by the session, which knows whether it is new.
pub(super) fn read_information(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    let information = reader.u8()?;
    reading.terminal = Some(information);
    reading.ignition = Some(information & bit::IGNITION != 0);
    let has = |bit: u8| Some(information & bit != 0);
    let report = &mut reading.report;
    report.state(AttributeKey::Charging, has(bit::CHARGING));
    // Most are neither; the word says so.
    report.state(AttributeKey::Blocked, has(bit::CUT).filter(|&cut| cut));
    report.state(AttributeKey::Armed, has(bit::ARMED).filter(|&armed| armed));
    report.state(AttributeKey::StatusWord, Some(information));
    Some(())
}

/// Reads information byte, charge, signal.
pub(super) fn read_status(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    read_information(reader, reading)?;
    set_charge(reading, reader.u8()?);
    let signal = reader.u8()?;
    reading.report.state(AttributeKey::Signal, Some(signal));
    Some(())
}

/// Reads information byte, supply voltage, signal.
pub(super) fn read_powered_status(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    read_information(reader, reading)?;
    set_power(reading, reader.u16()?);
    let signal = reader.u8()?;
    reading.report.state(AttributeKey::Signal, Some(signal));
    Some(())
}

/// Reads an alarm code and the byte behind it, of which some kinds of message use the upper half for the code too.
pub(super) fn read_alarm(reader: &mut Reader, reading: &mut Reading, wide: bool) -> Option<()> {
    let low = reader.u8()?;
    let language = reader.u8().unwrap_or(0);
    let high = if wide { language >> 4 } else { 0 };
    raise_code(reading, u16::from_be_bytes([high, low]));
    Some(())
}

/// States an alarm code and raises its alarm.
pub(super) fn raise_code(reading: &mut Reading, code: u16) {
    alarm::raise(&mut reading.report.momentary, alarm::of_code(code));
    reading.report.state(AttributeKey::AlarmWord, Some(code));
}

/// The battery's charge: seven steps, or percent in newer terminals.
pub(super) fn set_charge(reading: &mut Reading, charge: u8) {
    let percent = match charge {
        0..=6 => Some(u16::from(charge) * 100 / 6),
        7..=100 => Some(u16::from(charge)),
        _ => None,
    };
    reading.report.state(AttributeKey::BatteryPercent, percent);
}

/// States the supply voltage, from 0.01 V.
pub(super) fn set_power(reading: &mut Reading, centivolts: u16) {
    let volts = Some(hundredths(centivolts));
    reading.report.state(AttributeKey::PowerV, volts);
}

/// States the battery's voltage, from 0.01 V.
pub(super) fn set_battery(reading: &mut Reading, centivolts: u16) {
    let volts = Some(hundredths(centivolts));
    reading.report.state(AttributeKey::BatteryV, volts);
}

pub(super) fn hundredths(value: impl Into<f64>) -> f64 {
    value.into() / 100.0
}

pub(super) fn tenths(value: impl Into<f64>) -> f64 {
    value.into() / 10.0
}

/// The heartbeat 0x13. Its length tells the layouts apart; the longest two are of a diagnostic plug and of a tag.
pub(super) fn heartbeat(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    match *content {
        [_, _, _, _, _, _, _, _, _, _, _, _, _, _] => {
            plug(&mut reader, reading)?;
        }
        [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] => {
            tag(&mut reader, reading)?;
        }
        // Some send the supply's voltage where others send charge and signal: then the third byte is no signal, and
        // the last, which is never 0 as the language, is.
        [_, _, low, _, 0] if low > SIGNAL_MAX => {
            read_powered_status(&mut reader, reading)?;
        }
        // Or the voltage where others send alarm and language: no language has such a number.
        [_, _, _, high, low] if low > LANGUAGE_MAX => {
            read_status(&mut reader, reading)?;
            let decivolts = u16::from_be_bytes([high & 15, low]);
            let volts = Some(tenths(decivolts));
            reading.report.state(AttributeKey::PowerV, volts);
        }
        _ => {
            read_status(&mut reader, reading)?;
            if reader.len() >= 2 {
                read_alarm(&mut reader, reading, false)?;
            }
            // Two more bytes are a voltage in a unit that differs.
            let extra = reader.u16();
            reading.report.state_named("extra_voltage", extra);
        }
    }
    Some(())
}

/// Satellites of two systems and the mobile signal in one word.
fn read_signals(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    let word = reader.u16()?;
    let satellites = (word >> 10 & 31) + (word >> 5 & 31);
    let report = &mut reading.report;
    report.state(AttributeKey::Signal, Some(word & 31));
    report.state(AttributeKey::SatellitesInView, Some(satellites));
    Some(())
}

fn plug(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    read_information(reader, reading)?;
    read_signals(reader, reading)?;
    read_alarm(reader, reading, false)?;
    let percent = reader.u8()?;
    let mode = reader.u8()?;
    set_power(reading, reader.u16()?);
    reader.skip(3)?;
    let temperature = reader.i16()?;
    let report = &mut reading.report;
    report.state(AttributeKey::BatteryPercent, Some(percent));
    report.state_named("mode", Some(mode));
    // In other modes the field holds something else.
    let celsius = (mode == 4).then(|| tenths(temperature));
    report.state(AttributeKey::TemperatureC, celsius);
    Some(())
}

fn tag(reader: &mut Reader, reading: &mut Reading) -> Option<()> {
    let information = reader.u8()?;
    read_signals(reader, reading)?;
    reader.skip(2)?;
    let percent = reader.u8()?;
    let mode = reader.u8()?;
    set_battery(reading, reader.u16()?);
    reader.skip(5)?;
    let word = reader.u16()?;
    let magnitude = tenths(word & 0x7fff);
    // The top bit stands for plus here.
    let celsius = match word & 0x8000 {
        0 => -magnitude,
        _ => magnitude,
    };
    let report = &mut reading.report;
    report.state(AttributeKey::BatteryPercent, Some(percent));
    report.state(AttributeKey::TemperatureC, Some(celsius));
    report.state(AttributeKey::StatusWord, Some(information));
    report.state_named("mode", Some(mode));
    Some(())
}

/// The heartbeat 0x23: the battery's voltage in place of its charge.
pub(super) fn newer_heartbeat(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    read_information(&mut reader, reading)?;
    if let Some(centivolts) = reader.u16() {
        set_battery(reading, centivolts);
    }
    let signal = reader.u8();
    reading.report.state(AttributeKey::Signal, signal);
    if reader.len() >= 2 {
        read_alarm(&mut reader, reading, false)?;
    }
    Some(())
}

/// 0xa3 of a padlock: information, then fields that are not known.
pub(super) fn lock(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    read_information(&mut reader, reading)?;
    let rest = hex(&reader.0[..reader.len().min(16)]);
    reading.report.state_named("lock", Some(rest));
    Some(())
}

/// 0x36: a status and modules.
pub(super) fn with_modules(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    read_status(&mut reader, reading)?;
    read_alarm(&mut reader, reading, false)?;
    let _ = modules::read_short(&mut reader, reading);
    Some(())
}
