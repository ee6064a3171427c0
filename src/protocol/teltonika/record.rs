//! Records of codecs 8, 8 Extended and 16: a moment, a place, and lists of numbered values.

use super::super::bytes::Reader;
use super::super::{Arrival, Reject, Report, Settings};
use super::{io, narrow_or_wide};
use crate::frame::{AlarmKind, Attribute, AttributeKey, Fix, FixFields};

/// Least bytes of a record: codec 8 with empty lists.
const RECORD_BYTES_MIN: usize = 30;

/// Longitude, latitude, altitude, course, satellites, speed.
const PLACE_BYTES: usize = 15;

/// Values that most records have at most. A list of twice as many is so large that the allocator looks for its room.
const ELEMENTS: usize = 40;

/// The priority of a record that a panic button sent.
const PANIC: u8 = 2;

/// 9999-12-31: a time beyond it is none, and what is computed from one below cannot overflow.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// Numbers of values have one byte.
    Eight,
    /// Counts and numbers have two bytes; a list of values of any length comes last.
    EightExtended,
    /// Numbers have two bytes; a byte says what made the record.
    Sixteen,
}

impl Codec {
    pub(super) fn of(byte: u8) -> Option<Codec> {
        match byte {
            0x08 => Some(Codec::Eight),
            0x8e => Some(Codec::EightExtended),
            0x10 => Some(Codec::Sixteen),
            _ => None,
        }
    }
}

/// A numbered value.
pub(super) type Element<'a> = (u16, &'a [u8]);

/// The records of one message.
pub(super) struct Records<'a> {
    settings: &'a Settings,
    now: Arrival,
    pub(super) reports: Vec<Report>,
    /// Of records that are no reports: neither a place nor an alarm.
    pub(super) attributes: Vec<Attribute>,
    pub(super) vendor: io::Vendor,
}

impl<'a> Records<'a> {
    pub(super) fn new(settings: &'a Settings, now: Arrival) -> Records<'a> {
        Records {
            settings,
            now,
            reports: Vec::new(),
            attributes: Vec::new(),
            vendor: io::Vendor::new(),
        }
    }

    /// Reads `count` records, or those before one that cannot be read.
    pub(super) fn read(&mut self, codec: Codec, count: u8, body: &[u8]) -> Result<(), Reject> {
        let read = self.read_as(codec, false, count, body);
        // Some firmware has one more list, of values of 16 bytes. Only the length tells.
        if read.is_ok() || !fits(codec, count, body) {
            return read;
        }
        *self = Records::new(self.settings, self.now);
        self.read_as(codec, true, count, body)
    }

    fn read_as(
        &mut self,
        codec: Codec,
        sixteens: bool,
        count: u8,
        body: &[u8],
    ) -> Result<(), Reject> {
        self.reports
            .reserve(usize::from(count).min(body.len() / RECORD_BYTES_MIN));
        let mut reader = Reader(body);
        let mut elements = Vec::with_capacity(ELEMENTS);
        for _ in 0..count {
            self.record(codec, sixteens, &mut reader, &mut elements)
                .ok_or(Reject::Length)?;
        }
        match reader.is_empty() {
            true => Ok(()),
            false => Err(Reject::Length),
        }
    }

    fn record<'b>(
        &mut self,
        codec: Codec,
        sixteens: bool,
        reader: &mut Reader<'b>,
        elements: &mut Vec<Element<'b>>,
    ) -> Option<()> {
        let mut report = Report::default();
        let time_ms = reader.u64()?;
        let priority = reader.u8()?;
        self.place(reader, time_ms, &mut report.fix)?;
        let event = narrow_or_wide(reader, codec != Codec::Eight)?;
        let generation = match codec {
            Codec::Sixteen => Some(reader.u8()?),
            Codec::Eight | Codec::EightExtended => None,
        };
        elements.clear();
        lists(codec, sixteens, reader, |element| elements.push(element))?;

        if event != 0 {
            report.state(AttributeKey::Event, Some(event));
        }
        if priority != 0 {
            report.state(AttributeKey::Priority, Some(priority));
        }
        if priority == PANIC {
            report.momentary.insert(AlarmKind::Sos);
        }
        io::state(elements, event, &mut self.vendor, &mut report);
        report.state_named("generation_type", generation);
        self.keep(report);
        Some(())
    }

    fn place(&self, reader: &mut Reader, time_ms: u64, fix: &mut Fix) -> Option<()> {
        let mut reader = Reader(reader.take(PLACE_BYTES)?);
        let (lon_e7, lat_e7) = (reader.i32()?, reader.i32()?);
        let altitude_m = reader.i16()?;
        let course_deg = reader.u16()?;
        let satellites = reader.u8()?;
        let speed_kmh = reader.u16()?;
        fix.set_position(lat_e7, lon_e7);
        fix.set_altitude(i32::from(altitude_m) * 1000);
        fix.set_course(u32::from(course_deg) * 100);
        fix.set_satellites(satellites);
        fix.set_speed(kmh_mm_s(speed_kmh));
        self.set_time(fix, time_ms);
        // Without satellites the place is the last one known, or zero.
        fix.set_valid(satellites != 0);
        Some(())
    }

    /// States the time; zero and times that cannot be are none.
    pub(super) fn set_time(&self, fix: &mut Fix, time_ms: u64) {
        if time_ms == 0 || time_ms > TIME_MS_MAX {
            return;
        }
        let zone_ms = i64::from(self.settings.zone_minutes.unwrap_or(0)) * 60_000;
        fix.set_time(self.settings.fix_time(time_ms as i64 - zone_ms, self.now));
    }

    /// Keeps a report, or only what else it says where it has neither a place nor an alarm.
    pub(super) fn keep(&mut self, mut report: Report) {
        let alarms = !report.held.is_empty() || !report.momentary.is_empty();
        if alarms || report.fix.fields.has(FixFields::POSITION) {
            self.reports.push(report);
        } else {
            self.attributes.append(&mut report.attributes);
        }
    }
}

/// km/h to mm/s.
pub(super) fn kmh_mm_s(kmh: u16) -> u32 {
    (u32::from(kmh) * 10_000 + 18) / 36
}

/// Whether `count` records with a list of values of 16 bytes end where the body does.
fn fits(codec: Codec, count: u8, body: &[u8]) -> bool {
    let mut reader = Reader(body);
    // Time, priority and place, then what made the record.
    let head = 24 + if codec == Codec::Eight { 1 } else { 2 };
    let head = head + usize::from(codec == Codec::Sixteen);
    for _ in 0..count {
        let whole = reader
            .skip(head)
            .and_then(|()| lists(codec, true, &mut reader, |_| {}));
        if whole.is_none() {
            return false;
        }
    }
    reader.is_empty()
}

/// Passes over the values of a record, in lists by their length, and shows each.
fn lists<'a>(
    codec: Codec,
    sixteens: bool,
    reader: &mut Reader<'a>,
    mut see: impl FnMut(Element<'a>),
) -> Option<()> {
    let wide_counts = codec == Codec::EightExtended;
    let wide_ids = codec != Codec::Eight;
    // The count of all values says nothing that the lists do not.
    narrow_or_wide(reader, wide_counts)?;
    let lengths: &[usize] = match sixteens {
        true => &[1, 2, 4, 8, 16],
        false => &[1, 2, 4, 8],
    };
    for &length in lengths {
        for _ in 0..narrow_or_wide(reader, wide_counts)? {
            let id = narrow_or_wide(reader, wide_ids)?;
            see((id, reader.take(length)?));
        }
    }
    if codec == Codec::EightExtended {
        for _ in 0..reader.u16()? {
            let (id, length) = (reader.u16()?, reader.u16()?);
            see((id, reader.take(usize::from(length))?));
        }
    }
    Some(())
}
