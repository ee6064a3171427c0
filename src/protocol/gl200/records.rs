//! The binary form without letters: a mark, a zero, a length, the sender, then records of values with their lengths.
//!
//! Newer vehicle devices (GV500CNA) send it. The source that knows it does not say how the check byte is made, so what
//! protects a message is that its length, its sender's digits and the lengths inside fit. Only positions are read.

use super::binary::{LENGTHS, place, tenths_mm_s};
use crate::frame::{AttributeKey, DeviceId};
use crate::protocol::bytes::{Reader, hex};
use crate::protocol::{Arrival, Message, Reject, Report, Settings, calendar};

/// Bit of the byte behind the length: two bytes about parts come before the sender's id.
const PARTED: u8 = 1 << 7;

/// Bytes of the sender's id.
const ID_BYTES: usize = 8;

/// Count number, check, end.
const TAIL_BYTES: usize = 4;

/// Most positions of a message.
const POSITIONS_MAX: usize = super::LOCATIONS_MAX;

/// The value that is a position.
const POSITION: usize = 0x52;

/// Whether this is a message of this form; no other has a zero there.
pub(super) fn is(message: &[u8]) -> bool {
    message.get(1) == Some(&0)
}

/// Whether these bytes can begin a message, as far as they go.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let zero = bytes.get(1).is_none_or(|&byte| byte == 0);
    // No shorter than what shows that it is one, or it would matter how much has arrived.
    let fits = length(bytes)
        .is_none_or(|length| LENGTHS.contains(&length) && length >= 7 + ID_BYTES + TAIL_BYTES);
    zero && fits && id(bytes).is_none_or(is_id)
}

/// Bytes of the whole message as it states; `None` until they are there.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    Reader(bytes.get(2..)?).u16().map(usize::from)
}

/// The sender's id, and what stands behind it.
fn split_at_id(bytes: &[u8]) -> Option<(&[u8; ID_BYTES], &[u8])> {
    let parts = if bytes.get(4)? & PARTED != 0 { 2 } else { 0 };
    bytes.get(5 + parts..)?.split_first_chunk()
}

fn id(bytes: &[u8]) -> Option<&[u8; ID_BYTES]> {
    split_at_id(bytes).map(|(id, _)| id)
}

/// The fifteen digits of an IMEI behind a zero.
fn is_id(id: &[u8; ID_BYTES]) -> bool {
    id[0] < 0x10 && id.iter().all(|&two| calendar::bcd(two).is_some())
}

/// Reads a message that was cut by its length.
pub(super) fn read(message: &[u8], settings: &Settings, now: Arrival) -> Result<Message, Reject> {
    if length(message) != Some(message.len()) {
        return Err(Reject::Length);
    }
    let body = message.len().checked_sub(TAIL_BYTES);
    let body = body.and_then(|end| message.get(..end));
    let (id, rest) = body.and_then(split_at_id).ok_or(Reject::Length)?;
    let digits = hex(id);
    let digits = digits.strip_prefix('0').filter(|_| is_id(id));
    let device = digits.and_then(|digits| DeviceId::new(digits.as_bytes()));
    let mut reader = Reader(rest);
    let mut reports = Vec::new();
    let whole = records(&mut reader, &mut reports, settings, now);
    if reports.len() > POSITIONS_MAX {
        return Err(Reject::TooLong);
    }
    if whole.is_none() && reports.is_empty() {
        return Err(Reject::Length);
    }
    let mut read = Message::new("location", Some(device.ok_or(Reject::Device)?));
    read.reports = reports;
    Ok(read)
}

/// Reads records until one does not fit.
fn records(
    reader: &mut Reader,
    reports: &mut Vec<Report>,
    settings: &Settings,
    now: Arrival,
) -> Option<()> {
    // Type of device, versions, a field that is reserved.
    reader.skip(5)?;
    let reserved = usize::from(reader.u8()?);
    reader.skip(reserved)?;
    while !reader.is_empty() && reports.len() <= POSITIONS_MAX {
        let before = reader.len();
        let length = variable(reader)?;
        // The length counts itself.
        let mut record = Reader(reader.take(length.checked_sub(before - reader.len())?)?);
        // When and how often it was made, its kind and event.
        record.skip(4 + 2 + 1 + 1)?;
        while !record.is_empty() {
            let kind = variable(&mut record)?;
            let length = variable(&mut record)?;
            let value = record.take(length)?;
            if kind == POSITION {
                reports.extend(position(Reader(value), settings, now));
            }
        }
    }
    Some(())
}

/// A number of seven bits, or of fifteen if the top bit is set.
fn variable(reader: &mut Reader) -> Option<usize> {
    let first = usize::from(reader.u8()?);
    match first & 0x80 {
        0 => Some(first),
        _ => Some((first & 0x7f) << 8 | usize::from(reader.u8()?)),
    }
}

/// A position; `None` if it is not whole or there is no such place.
fn position(mut reader: Reader, settings: &Settings, now: Arrival) -> Option<Report> {
    let state = reader.u8()?;
    let (lon_e6, lat_e6) = (reader.i32()?, reader.i32()?);
    let seconds = i64::from(reader.u32()?);
    let tenths_kmh = u32::from(reader.u16()?);
    let dilution = reader.u8()?;
    let azimuth = u32::from(reader.u16()?);
    let [a, b, c] = reader.array()?;
    let satellites = reader.u8()?;
    let mut report = Report::default();
    let fix = &mut report.fix;
    place(fix, lon_e6, lat_e6)?;
    if seconds > 0 {
        fix.set_time(settings.fix_time(seconds * 1000, now));
    }
    fix.set_valid(state >> 2 & 3 == 2);
    fix.set_speed(tenths_mm_s(tenths_kmh));
    fix.set_course(azimuth * 100);
    // Tenths of a metre in twenty-four bits with sign.
    fix.set_altitude((i32::from_be_bytes([a, b, c, 0]) >> 8) * 100);
    fix.set_satellites(satellites);
    let dilution = Some(f64::from(dilution) / 10.0).filter(|&dilution| dilution > 0.0);
    report.state(AttributeKey::Hdop, dilution);
    Some(report)
}
