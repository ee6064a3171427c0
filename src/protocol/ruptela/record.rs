//! Records: a moment, a place, and lists of numbered values.

use super::super::bytes::Reader;
use super::super::{Arrival, Reject, Report, Settings};
use super::io;
use crate::frame::{Attribute, AttributeKey, Fix, FixFields};

/// Least bytes of a record: not extended, with empty lists.
const RECORD_BYTES_MIN: usize = 28;

/// A latitude or longitude that is not known.
const UNKNOWN: i32 = i32::MIN;

/// The records of one message.
pub(super) struct Records<'a> {
    settings: &'a Settings,
    now: Arrival,
    pub(super) reports: Vec<Report>,
    /// Of records that are no reports: neither a place nor an alarm.
    pub(super) attributes: Vec<Attribute>,
    vendor_left: usize,
    /// The record before is the last of the reports.
    kept: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(settings: &'a Settings, now: Arrival) -> Records<'a> {
        Records {
            settings,
            now,
            reports: Vec::new(),
            attributes: Vec::new(),
            vendor_left: io::VENDOR_ATTRIBUTES_MAX,
            kept: false,
        }
    }

    /// Reads all records, or those before one that cannot be read.
    pub(super) fn read(&mut self, extended: bool, mut payload: Reader) -> Result<(), Reject> {
        // The first byte says whether more records wait in the device.
        let (Some(_), Some(count)) = (payload.u8(), payload.u8()) else {
            return Err(Reject::Length);
        };
        self.reports
            .reserve(usize::from(count).min(payload.len() / RECORD_BYTES_MIN));
        for _ in 0..count {
            self.record(extended, &mut payload).ok_or(Reject::Length)?;
        }
        match payload.is_empty() {
            true => Ok(()),
            false => Err(Reject::Length),
        }
    }

    fn record(&mut self, extended: bool, reader: &mut Reader) -> Option<()> {
        let mut report = Report::default();
        let seconds = reader.u32()?;
        // Counts records of the same second.
        reader.skip(1)?;
        let continues = match extended {
            true => continues(reader.u8()?),
            false => false,
        };
        let priority = reader.u8()?;
        place(&mut report.fix, reader.i32()?, reader.i32()?);
        let (altitude_dm, course_cdeg) = (reader.u16()?, reader.u16()?);
        let (satellites, speed_kmh, hdop) = (reader.u8()?, reader.u16()?, reader.u8()?);
        let event = match extended {
            true => reader.u16()?,
            false => u16::from(reader.u8()?),
        };
        set_time(&mut report.fix, seconds, self.settings, self.now);
        if report.fix.fields.has(FixFields::POSITION) {
            let fix = &mut report.fix;
            fix.set_altitude(i32::from(altitude_dm) * 100);
            fix.set_course(u32::from(course_cdeg));
            fix.set_satellites(satellites);
            fix.set_speed((u32::from(speed_kmh) * 10_000 + 18) / 36);
            fix.set_valid(satellites != 0);
            report.state(AttributeKey::Hdop, Some(f64::from(hdop) / 10.0));
        }
        if event != 0 {
            report.state(AttributeKey::Event, Some(event));
        }
        if priority != 0 {
            report.state(AttributeKey::Priority, Some(priority));
        }
        // The rest of a record that was too long for one goes to the record before.
        let continues = continues && self.kept;
        match self.reports.last_mut().filter(|_| continues) {
            Some(before) => io::lists(extended, reader, &mut self.vendor_left, before)?,
            None => {
                io::lists(extended, reader, &mut self.vendor_left, &mut report)?;
                self.keep(report);
            }
        }
        Some(())
    }

    /// Keeps a report, or only what else it says where it has neither a place nor an alarm.
    fn keep(&mut self, mut report: Report) {
        let alarms = !report.held.is_empty() || !report.momentary.is_empty();
        self.kept = alarms || report.fix.fields.has(FixFields::POSITION);
        if self.kept {
            self.reports.push(report);
        } else {
            self.attributes.append(&mut report.attributes);
        }
    }
}

/// Whether a record is a later part of a longer one: the number of its last part, then its own number, from zero.
fn continues(parts: u8) -> bool {
    let (last, number) = (parts >> 4, parts & 15);
    number > 0 && number <= last
}

/// States the place, unless it is not known.
pub(super) fn place(fix: &mut Fix, lon_e7: i32, lat_e7: i32) {
    if lon_e7 != UNKNOWN && lat_e7 != UNKNOWN {
        fix.set_position(lat_e7, lon_e7);
    }
}

/// States the time; zero is none.
pub(super) fn set_time(fix: &mut Fix, seconds: u32, settings: &Settings, now: Arrival) {
    if seconds != 0 {
        let zone_s = i64::from(settings.zone_minutes.unwrap_or(0)) * 60;
        fix.set_time(settings.fix_time((i64::from(seconds) - zone_s) * 1000, now));
    }
}
