//! Messages with the GPS part. What follows it differs by number, and by model, which only the length shows.
//!
//! A tail that is shorter than its layout is read as far as it goes.

use super::super::bytes::{Reader, hex};
use super::super::calendar::bcd;
use super::network::{LONG, NARROW, WIDE, WIDE_MNC};
use super::place::{Clock, PLACE_BYTES, TIME_BYTES, has_time, read_place};
use super::reading::Reading;
use super::status::{
    hundredths, raise_code, read_alarm, read_information, read_powered_status, read_status,
    set_battery, set_charge, set_power,
};
use super::{modules, terminal_id};
use crate::frame::{AlarmKind, AttributeKey};

/// Bytes of the terminal's id.
const ID_BYTES: usize = 8;

/// Bytes of a cell of GSM.
const CELL_BYTES: usize = 8;

/// Bytes of a status: information, charge, signal, alarm, language.
const STATUS_BYTES: usize = 5;

/// Bytes that hold the seven cells of terminals that state no length for them.
const CELLS_BYTES: usize = 45;

/// Whether the message begins with the GPS part.
pub(super) fn begins(content: &[u8]) -> bool {
    content.len() >= PLACE_BYTES && has_time(content)
}

/// What the GPS part and the rest of a message with this number say; `None` if the GPS part is not whole.
pub(super) fn read(number: u8, content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    let prefix = prefix(content);
    match prefix {
        Prefix::None => {}
        Prefix::Id => reading.device = terminal_id(&reader.array()?),
        Prefix::SourceIdTime => {
            reader.skip(1)?;
            reading.device = terminal_id(&reader.array()?);
            reader.skip(TIME_BYTES)?;
        }
    }
    read_place(&mut reader, clock, reading)?;
    let rest = &mut reader;
    let _ = match (number, prefix) {
        (_, Prefix::SourceIdTime) => with_engine_time(rest, reading),
        (0x10, _) => end(rest, reading),
        (0x11, _) => (reading.network.read_cell(rest, WIDE_MNC)).and_then(|()| end(rest, reading)),
        (0x1a, _) => Some(()),
        (0x12, _) => first(rest, reading),
        (0x16 | 0x26 | 0x27 | 0x32 | 0xa3 | 0xa4, _) => alarm(number, rest, reading),
        (0x17, _) => driver_card(rest, reading),
        (0x1e, _) => cells(rest, reading),
        (0x24, _) => powered(rest, reading),
        (0x25, _) => (reading.network.read_cell(rest, WIDE)).and_then(|()| upload(rest, reading)),
        (0x31, _) => with_altitude(rest, reading),
        (0x36, _) => driver_and_battery(rest, reading),
        (0x37, _) => with_modules(rest, reading),
        (0x38, _) => typed_cell(rest, reading),
        (0x39, _) => alarm_with_modules(rest, reading),
        (0x61, _) => driver_key(rest, reading),
        (0xa0, _) => (reading.network.read_cell(rest, LONG)).and_then(|()| upload(rest, reading)),
        (0xa2, _) => working_hours(rest, reading),
        (0x22, _) if rest.len() == 24 => with_climate(rest, reading),
        _ => usual(rest, reading),
    };
    Some(())
}

/// What may stand before the GPS part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    /// The terminal's id.
    Id,
    /// Where the position comes from, the terminal's id, and its clock.
    SourceIdTime,
}

/// The month and day of a time are never digits of an id, so a time that is none is the sign of a prefix.
fn prefix(content: &[u8]) -> Prefix {
    let id_at = |at: usize| {
        let digits = content.get(at..at + ID_BYTES);
        digits.is_some_and(|id| id.iter().all(|&byte| bcd(byte).is_some()))
    };
    let time_at = |at: usize| content.get(at..).is_some_and(has_time);
    let after = 1 + ID_BYTES;
    if time_at(0) {
        Prefix::None
    } else if id_at(0) && time_at(ID_BYTES) {
        Prefix::Id
    } else if id_at(1) && time_at(after) && time_at(after + TIME_BYTES) {
        Prefix::SourceIdTime
    } else {
        Prefix::None
    }
}

/// 0x12: a cell and whatever a model adds.
fn first(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, NARROW)?;
    match rest.len() {
        2 => {
            let word = rest.u16();
            reading.report.state_named("port_word", word);
            Some(())
        }
        4 => odometer(rest, reading),
        5 => read_powered_status(rest, reading),
        10 => card_and_driving_time(rest, reading),
        12 => fuel_and_temperature(rest, reading),
        82.. => driver_licence(rest, reading),
        _ => upload(rest, reading),
    }
}

fn odometer(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    let metres = rest.u32()?;
    reading.report.state(AttributeKey::OdometerM, Some(metres));
    Some(())
}

/// Ignition, why it is sent, whether it was stored, and a distance that not all have.
fn upload(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    let [ignition, mode, stored] = rest.array()?;
    reading.ignition = Some(ignition != 0);
    let report = &mut reading.report;
    report.backlog = stored != 0;
    report.state(AttributeKey::Event, Some(mode));
    odometer(rest, reading)
}

/// What may end a message whatever its number, as its length says: the upload, or a distance alone.
fn end(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    match rest.len() {
        3 | 7 => upload(rest, reading),
        4 => odometer(rest, reading),
        _ => Some(()),
    }
}

/// 0x22, 0x2d and others: a cell, then the upload.
fn usual(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, NARROW)?;
    upload(rest, reading)
}

/// 0x22 with a wide cell and a sensor for the climate.
fn with_climate(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, WIDE)?;
    upload(rest, reading)?;
    // How long the terminal was under way.
    rest.skip(4)?;
    let sign_and_size = rest.u16()?;
    let size = hundredths(sign_and_size & 0x7fff);
    let negative = sign_and_size & 0x8000 != 0;
    let celsius = if negative { -size } else { size };
    let humidity = rest.u16().map(hundredths);
    let report = &mut reading.report;
    report.state(AttributeKey::TemperatureC, Some(celsius));
    report.state(AttributeKey::HumidityPercent, humidity);
    Some(())
}

/// A card that was swiped, an alarm, and how long the driver drove.
fn card_and_driving_time(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    odometer(rest, reading)?;
    let card = rest
        .u8()
        .and_then(|length| rest.take(usize::from(length)))?;
    let [alarm, status] = rest.array()?;
    if alarm != 0 {
        reading.report.momentary.insert(AlarmKind::Unspecified);
    }
    let driving_time = rest.u16()?;
    let report = &mut reading.report;
    report.state(AttributeKey::DriverId, super::text(card));
    report.state_named("card_status", Some(status));
    report.state_named("driving_time", Some(driving_time));
    Some(())
}

/// The text of a magnetic card.
fn driver_licence(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    odometer(rest, reading)?;
    let card = rest
        .u8()
        .and_then(|length| rest.take(usize::from(length)))?;
    reading
        .report
        .state(AttributeKey::DriverId, super::text(card));
    Some(())
}

fn fuel_and_temperature(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    read_powered_status(rest, reading)?;
    raise_code(reading, u16::from(rest.u8()?));
    let fuel = rest.u16()?;
    let sign_and_size = rest.u8()?;
    let size = i16::from(sign_and_size & 0x7f);
    let negative = sign_and_size & 0x80 != 0;
    let celsius = if negative { -size } else { size };
    let tens_of_metres = rest.u32()?;
    let report = &mut reading.report;
    let metres = i64::from(tens_of_metres) * 10;
    report.state(AttributeKey::OdometerM, Some(metres));
    report.state(AttributeKey::TemperatureC, Some(celsius));
    report.state_named("fuel_raw", Some(fuel));
    Some(())
}

/// 0x16, 0x26 and their kin: cells, a status, and whatever a model adds.
fn alarm(number: u8, rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    // No length before the cell, and the supply's voltage in the status.
    if number == 0x16 && rest.len() == CELL_BYTES + STATUS_BYTES {
        reading.network.read_cell(rest, NARROW)?;
        return read_powered_status(rest, reading);
    }
    status_cells(number, rest, reading)?;
    read_status(rest, reading)?;
    let fenced = matches!(number, 0x27 | 0xa4);
    read_alarm(rest, reading, fenced)?;
    if fenced {
        let fence = rest.u8();
        reading.report.state(AttributeKey::Area, fence);
    }
    match rest.len() {
        2 if number == 0x32 => {
            let metres = rest.i16()?;
            reading.report.fix.set_altitude(i32::from(metres) * 1000);
        }
        8 => driver(rest, reading, ID_BYTES)?,
        _ => end(rest, reading)?,
    }
    Some(())
}

/// A length, not always right, and the cell that it covers.
fn status_cells(number: u8, rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    let left = rest.len();
    let length = usize::from(rest.u8()?);
    if length == 0 && !matches!(number, 0xa3 | 0xa4) {
        // Seven cells, or the place of one; some leave out the place too.
        let count = match left - 1 {
            count if count >= CELLS_BYTES + STATUS_BYTES => CELLS_BYTES,
            count if count >= CELL_BYTES + STATUS_BYTES => CELL_BYTES,
            _ => 0,
        };
        return rest.skip(count);
    }
    let before = rest.len();
    let widths = match (number, left) {
        // Those of a cell of GSM, with itself or without.
        (0xa3 | 0xa4, _) if !(CELL_BYTES..=CELL_BYTES + 1).contains(&length) => LONG,
        (0x32, 16 | 18) => WIDE_MNC,
        (0x16, 15) => WIDE,
        _ => NARROW,
    };
    reading.network.read_cell(rest, widths)?;
    // The length counts itself in some models and not in others; more than a cell is more cells.
    let read = before - rest.len();
    if length > read + 1 && length - 1 - read + STATUS_BYTES <= rest.len() {
        rest.skip(length - 1 - read)?;
    }
    Some(())
}

/// The number of a driver's card or key; zeros are none.
fn driver(rest: &mut Reader, reading: &mut Reading, bytes: usize) -> Option<()> {
    let id = rest.take(bytes)?;
    let stated = id.iter().any(|&byte| byte != 0);
    let id = stated.then(|| hex(id));
    reading.report.state(AttributeKey::DriverId, id);
    Some(())
}

/// 0x17 with check.
fn driver_card(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, NARROW)?;
    driver(rest, reading, ID_BYTES)
}

/// 0x61.
fn driver_key(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, WIDE)?;
    driver(rest, reading, 6)
}

/// 0x1e: seven cells with their signals.
fn cells(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    let operator = super::network::read_operator(rest, false)?;
    reading.network.read_cells(rest, operator, 7, NARROW)
}

/// 0x24 with a GPS part.
fn powered(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, NARROW)?;
    reading.ignition = Some(rest.u8()? != 0);
    set_power(reading, rest.u16()?);
    set_battery(reading, rest.u16()?);
    Some(())
}

/// 0x31: in some models a wide cell, and the altitude at the end.
fn with_altitude(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    if !matches!(rest.len(), 15 | 19) {
        return usual(rest, reading);
    }
    let measured = rest.len() == 19;
    reading.network.read_cell(rest, WIDE_MNC)?;
    let mut first = Reader(rest.take(if measured { 7 } else { 3 })?);
    let _ = upload(&mut first, reading);
    let metres = rest.i16()?;
    reading.report.fix.set_altitude(i32::from(metres) * 1000);
    Some(())
}

/// 0x36 with a GPS part: a wide cell, ignition, a driver.
fn driver_and_battery(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, WIDE)?;
    reading.ignition = Some(rest.u8()? != 0);
    rest.skip(8)?;
    let battery = f64::from(rest.u8()?) / 10.0;
    reading.report.state(AttributeKey::BatteryV, Some(battery));
    rest.skip(3)?;
    driver(rest, reading, ID_BYTES)
}

/// 0x37: modules follow.
fn with_modules(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, NARROW)?;
    let mut first = Reader(rest.take(3)?);
    let _ = upload(&mut first, reading);
    modules::read_short(rest, reading)
}

/// 0x38: how it was sent, a cell of one of several kinds, modules.
fn typed_cell(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    let [mode, stored] = rest.array()?;
    reading.report.backlog = stored != 0;
    reading.report.state(AttributeKey::Event, Some(mode));
    cell_of_kind(rest, reading)?;
    modules::read_short(rest, reading)
}

/// A kind, a cell of that kind, its signal.
fn cell_of_kind(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    let (widths, signal_bytes) = match rest.u8()? {
        // LTE and what came after.
        3.. => (LONG, 2),
        _ => (NARROW, 1),
    };
    reading.network.read_cell(rest, widths)?;
    rest.skip(signal_bytes)
}

/// 0x39.
fn alarm_with_modules(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    cell_of_kind(rest, reading)?;
    read_status(rest, reading)?;
    read_alarm(rest, reading, true)?;
    modules::read_short(rest, reading)
}

/// 0xa2 with a GPS part.
fn working_hours(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    reading.network.read_cell(rest, LONG)?;
    rest.skip(1)?;
    read_information(rest, reading)?;
    set_power(reading, rest.u16()?);
    set_charge(reading, rest.u8()?);
    let signal = rest.u8()?;
    reading.report.state(AttributeKey::Signal, Some(signal));
    read_alarm(rest, reading, false)?;
    odometer(rest, reading)?;
    let seconds = rest.u32()?;
    reading.report.state(AttributeKey::EngineS, Some(seconds));
    // A name of the terminal, in a form that is not known.
    rest.skip(ID_BYTES)?;
    let inputs = rest.u16()?;
    reading.report.state(AttributeKey::Inputs, Some(inputs));
    Some(())
}

/// 0x22 and 0x25 with a prefix: a cell behind its length, a status with two voltages, distance, hours, a driver.
fn with_engine_time(rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    let length = usize::from(rest.u8()?);
    let mut cell = Reader(rest.take(length)?);
    let widths = match length {
        ..=CELL_BYTES => NARROW,
        _ => WIDE,
    };
    let _ = reading.network.read_cell(&mut cell, widths);
    read_information(rest, reading)?;
    set_power(reading, rest.u16()?);
    let battery = f64::from(rest.u8()?) / 10.0;
    reading.report.state(AttributeKey::BatteryV, Some(battery));
    let signal = rest.u8()?;
    reading.report.state(AttributeKey::Signal, Some(signal));
    read_alarm(rest, reading, false)?;
    // The unit of the distance is not known.
    let [a, b, c] = rest.array()?;
    let distance = u32::from_be_bytes([0, a, b, c]);
    reading.report.state_named("mileage_raw", Some(distance));
    let [a, b, c] = rest.array()?;
    let seconds = u32::from_be_bytes([0, a, b, c]) * 60;
    reading.report.state(AttributeKey::EngineS, Some(seconds));
    let length = usize::from(rest.u8()?).checked_sub(1)?;
    rest.skip(1)?;
    driver(rest, reading, length)
}
