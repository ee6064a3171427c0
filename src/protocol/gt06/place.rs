//! Times and the GPS part that most messages share.

use super::super::bytes::Reader;
use super::super::calendar;
use super::super::{Arrival, Settings};
use super::reading::Reading;

/// Bytes of a time.
pub(super) const TIME_BYTES: usize = 6;

/// Bytes of the GPS part.
pub(super) const PLACE_BYTES: usize = 18;

/// Bits of the word that also holds the course.
mod flag {
    pub(super) const NORTH: u16 = 1 << 10;
    pub(super) const WEST: u16 = 1 << 11;
    pub(super) const FIXED: u16 = 1 << 12;
    pub(super) const IGNITION_KNOWN: u16 = 1 << 14;
    pub(super) const IGNITION: u16 = 1 << 15;
}

/// How to understand the times of a message.
pub(super) struct Clock<'a> {
    pub(super) zone_minutes: i32,
    pub(super) settings: &'a Settings,
    pub(super) now: Arrival,
}

impl Clock<'_> {
    /// Year since 2000, month, day, hour, minute, second, as UTC; `None` if they are no date.
    pub(super) fn time_ms(&self, fields: [u8; TIME_BYTES]) -> Option<i64> {
        let [year, month, day, hour, minute, second] = fields.map(i64::from);
        let local = calendar::time_ms((2000 + year, month, day), (hour, minute, second))?;
        Some(local - i64::from(self.zone_minutes) * 60_000)
    }
}

/// Whether a time stands here that a device could mean.
pub(super) fn has_time(bytes: &[u8]) -> bool {
    let Some(fields) = bytes.first_chunk::<TIME_BYTES>() else {
        return false;
    };
    let [year, month, day, hour, minute, second] = fields.map(i64::from);
    year < 100 && calendar::time_ms((2000 + year, month, day), (hour, minute, second)).is_some()
}

/// Reads time, satellites, position, speed, flags with the course.
pub(super) fn read_place(reader: &mut Reader, clock: &Clock, reading: &mut Reading) -> Option<()> {
    reading.set_time(clock, reader.array()?);
    let satellites = reader.u8()? & 15;
    reading.report.fix.set_satellites(satellites);
    let (lat, lon) = (reader.u32()?, reader.u32()?);
    let speed_kmh = u32::from(reader.u8()?);
    reading.report.fix.set_speed(speed(speed_kmh));
    set_position(reading, lat, lon, reader.u16()?);
    Some(())
}

/// Reads what dash cameras send: wide speed behind the flags, or neither satellites nor speed.
pub(super) fn read_camera_place(
    reader: &mut Reader,
    clock: &Clock,
    reading: &mut Reading,
    whole: bool,
) -> Option<()> {
    reading.set_time(clock, reader.array()?);
    if whole {
        let satellites = reader.u8()? & 15;
        reading.report.fix.set_satellites(satellites);
    }
    let (lat, lon) = (reader.u32()?, reader.u32()?);
    let flags = reader.u16()?;
    if whole {
        let speed_kmh = u32::from(reader.u16()?);
        reading.report.fix.set_speed(speed(speed_kmh));
    }
    set_position(reading, lat, lon, flags);
    Some(())
}

/// km/h to mm/s.
pub(super) fn speed(kmh: u32) -> u32 {
    (kmh * 10_000 + 18) / 36
}

/// States position, course, validity and, where the flags hold it, the ignition.
pub(super) fn set_position(reading: &mut Reading, lat: u32, lon: u32, flags: u16) {
    let fix = &mut reading.report.fix;
    // Zeros are what is sent before the first fix, whatever the flags say.
    if (lat, lon) != (0, 0) {
        let lat = degrees_e7(lat, flags & flag::NORTH == 0);
        let lon = degrees_e7(lon, flags & flag::WEST != 0);
        if let (Some(lat), Some(lon)) = (lat, lon) {
            fix.set_position(lat, lon);
        }
    }
    fix.set_course(u32::from(flags & 0x3ff) * 100);
    fix.set_valid(flags & flag::FIXED != 0);
    if flags & flag::IGNITION_KNOWN != 0 {
        reading.ignition = Some(flags & flag::IGNITION != 0);
    }
}

/// 1/1,800,000 degree to 1e-7 degree.
fn degrees_e7(wire: u32, negative: bool) -> Option<i32> {
    let e7 = i32::try_from((u64::from(wire) * 50 + 4) / 9).ok()?;
    Some(if negative { -e7 } else { e7 })
}
