//! Codec 7, of the handheld GH3000: what a record holds, its masks say.

use super::super::bytes::{Reader, number};
use super::super::{Reject, Report};
use super::io;
use super::record::{Records, kmh_mm_s};
use crate::frame::{AlarmKind, AttributeKey};

pub(super) const CODEC: u8 = 0x07;

/// 2007-01-01, UTC, from which seconds are counted.
const EPOCH_S: u64 = 1_167_609_600;

/// The top two bits of the time are the priority.
const TIME_BITS: u32 = 0x3fff_ffff;

/// What a record holds.
mod part {
    pub(super) const PLACE: u8 = 1;
    /// Lists of values of one, two and four bytes: this bit and the next two.
    pub(super) const LISTS: u8 = 1 << 1;
}

/// What its place holds.
mod field {
    pub(super) const POSITION: u8 = 1;
    pub(super) const ALTITUDE: u8 = 1 << 1;
    pub(super) const COURSE: u8 = 1 << 2;
    pub(super) const SPEED: u8 = 1 << 3;
    pub(super) const SATELLITES: u8 = 1 << 4;
    pub(super) const CELL: u8 = 1 << 5;
    pub(super) const SIGNAL: u8 = 1 << 6;
    pub(super) const OPERATOR: u8 = 1 << 7;
}

/// Reads `count` records, or those before one that cannot be read.
pub(super) fn read(records: &mut Records, count: u8, body: &[u8]) -> Result<(), Reject> {
    let mut reader = Reader(body);
    for _ in 0..count {
        let report = record(records, &mut reader).ok_or(Reject::Length)?;
        records.keep(report);
    }
    match reader.is_empty() {
        true => Ok(()),
        false => Err(Reject::Length),
    }
}

fn record(records: &mut Records, reader: &mut Reader) -> Option<Report> {
    let mut report = Report::default();
    let seconds = reader.u32()? & TIME_BITS;
    records.set_time(&mut report.fix, (EPOCH_S + u64::from(seconds)) * 1000);
    let parts = reader.u8()?;
    if parts & part::PLACE != 0 {
        place(reader, &mut report)?;
    }
    for (bit, length) in [1, 2, 4].into_iter().enumerate() {
        if parts & part::LISTS << bit == 0 {
            continue;
        }
        for _ in 0..reader.u8()? {
            let id = reader.u8()?;
            value(id, reader.take(length)?, &mut records.vendor, &mut report);
        }
    }
    records.vendor.move_to(&mut report);
    Some(report)
}

fn place(reader: &mut Reader, report: &mut Report) -> Option<()> {
    let fields = reader.u8()?;
    let has = |field: u8| fields & field != 0;
    if has(field::POSITION) {
        let lat = f32::from_be_bytes(reader.array()?);
        let lon = f32::from_be_bytes(reader.array()?);
        if lat.is_finite() && lon.is_finite() {
            // A number that is too large becomes the largest one, which is out of range too.
            let e7 = |degrees: f32| (f64::from(degrees) * 1e7).round() as i32;
            report.fix.set_position(e7(lat), e7(lon));
        }
    }
    if has(field::ALTITUDE) {
        report.fix.set_altitude(i32::from(reader.u16()?) * 1000);
    }
    if has(field::COURSE) {
        // 256 are a circle.
        report
            .fix
            .set_course(u32::from(reader.u8()?) * 36_000 / 256);
    }
    if has(field::SPEED) {
        report.fix.set_speed(kmh_mm_s(u16::from(reader.u8()?)));
    }
    let mut fixed = true;
    if has(field::SATELLITES) {
        let satellites = reader.u8()?;
        report.fix.set_satellites(satellites);
        fixed = satellites != 0;
    }
    report.fix.set_valid(fixed);
    if has(field::CELL) {
        report.state_named("area_code", Some(reader.u16()?));
        report.state_named("cell", Some(reader.u16()?));
    }
    if has(field::SIGNAL) {
        report.state(AttributeKey::Signal, Some(reader.u8()?));
    }
    if has(field::OPERATOR) {
        report.state(AttributeKey::Operator, Some(reader.u32()?));
    }
    Some(())
}

fn value(id: u8, bytes: &[u8], vendor: &mut io::Vendor, report: &mut Report) {
    use AttributeKey as Key;
    let raw = number(bytes);
    let tenths = Some(raw as f64 / 10.0);
    match id {
        1 => report.state(Key::BatteryPercent, Some(raw as i64)),
        20 => report.state(Key::Hdop, tenths),
        21 => report.state(Key::Vdop, tenths),
        22 => report.state(Key::Pdop, tenths),
        67 => report.state(Key::BatteryV, Some(raw as f64 / 1000.0)),
        222 if raw == 1 => report.momentary.insert(AlarmKind::Sos),
        240 => report.state(Key::Motion, Some(raw != 0)),
        244 => report.state(Key::Roaming, Some(raw != 0)),
        _ => vendor.add((u16::from(id), bytes)),
    }
}
