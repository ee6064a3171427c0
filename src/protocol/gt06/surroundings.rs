//! Messages that say where a terminal is only by the cells and access points that it hears.

use super::super::bytes::{Reader, hex};
use super::network::{LONG, NARROW, WIDE, WIDE_MNC, read_operator};
use super::place::Clock;
use super::reading::Reading;
use super::status::{raise_code, read_alarm, read_status};
use super::text;

/// Cells that most of these messages have room for.
const CELLS: u8 = 7;

/// 0x18, 0x24, 0x28, 0x2c, 0x2e, 0x33, 0x34, 0xa1, 0xa2, 0xa9: a time, a network, cells with signals, in some access
/// points.
pub(super) fn read(number: u8, content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.set_time(clock, reader.array()?);
    let _ = cells(number, content.len(), &mut reader, reading);
    Some(())
}

fn cells(number: u8, length: usize, rest: &mut Reader, reading: &mut Reading) -> Option<()> {
    // Two models state the timing advance first; one of them counts its cells.
    let counted = number == 0x24 && length == 44;
    if counted || number == 0x34 {
        rest.skip(1)?;
    }
    let operator = read_operator(rest, number == 0x34)?;
    let long = number == 0xa9 && rest.u8()? != 0;
    let count = match number {
        0xa9 => rest.u8()?,
        0x24 if counted => rest.u8()?,
        0x33 => 6,
        _ => CELLS,
    };
    let widths = match number {
        0xa1 | 0xa2 => LONG,
        _ if long => LONG,
        0x33 => WIDE,
        0x34 => WIDE_MNC,
        _ => NARROW,
    };
    let network = &mut reading.network;
    network.read_cells(rest, operator, count, widths)?;
    if !counted && number != 0x34 {
        rest.skip(1)?;
    }
    if matches!(number, 0x18 | 0x2c | 0x33 | 0xa2 | 0xa9) {
        network.read_points(rest)?;
    }
    if number == 0xa9 {
        read_alarm(rest, reading, true)?;
    }
    Some(())
}

/// 0xf3: a time and access points without signals.
pub(super) fn points(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.set_time(clock, reader.array()?);
    for _ in 0..reader.u8()? {
        let Some([_, _, a, b, c, d, e, f]) = reader.array() else {
            break;
        };
        reading.network.add_point([a, b, c, d, e, f], None);
    }
    Some(())
}

/// 0x19: a cell and a status.
pub(super) fn status(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.network.read_cell(&mut reader, NARROW)?;
    read_status(&mut reader, reading)?;
    read_alarm(&mut reader, reading, false)?;
    Some(())
}

/// 0x19 of one model: a time, a network, a count, cells with signals.
pub(super) fn counted_cells(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.set_time(clock, reader.array()?);
    let operator = read_operator(&mut reader, false)?;
    let count = reader.u8()?;
    let network = &mut reading.network;
    let _ = network.read_cells(&mut reader, operator, count, NARROW);
    Some(())
}

/// 0xa5: a cell of 4G, a status with an alarm.
pub(super) fn alarm(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.network.read_cell(&mut reader, LONG)?;
    read_status(&mut reader, reading)?;
    read_alarm(&mut reader, reading, false)?;
    Some(())
}

/// 0xa7: a cell of 4G and the number of a telephone that asks for its address.
pub(super) fn address(content: &[u8], reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.network.read_cell(&mut reader, LONG)?;
    let telephone = reader.take(21).and_then(text);
    reading.report.state_named("telephone", telephone);
    if let Some(code) = reader.u8() {
        raise_code(reading, u16::from(code));
    }
    Some(())
}

/// 0xb2: a beacon that was heard.
pub(super) fn beacon(content: &[u8], clock: &Clock, reading: &mut Reading) -> Option<()> {
    let mut reader = Reader(content);
    reading.set_time(clock, reader.array()?);
    let signal = reader.u8()?;
    let address = hex(reader.take(6)?);
    let id = reader.take(16).map(hex);
    let report = &mut reading.report;
    report.state_named("beacon", Some(address));
    report.state_named("beacon_id", id);
    report.state_named("beacon_dbm", Some(signal as i8));
    Some(())
}
