//! The location body, alone or in a batch: alarms, status, position, items.

use super::super::bytes::hex;
use super::super::calendar;
use super::super::{Arrival, Reject, Report, Settings};
use super::alarm::alarms;
use super::envelope::Edition;
use super::items;
use crate::frame::{AttributeKey, Fix, FixFields, TimeSource};

/// The standard's times are those of Beijing.
const STANDARD_ZONE_MINUTES: i32 = 480;

/// Bytes of the fixed part.
pub(super) const LOCATION_BYTES: usize = 28;

/// Items outside the standard that are read or kept of one message; a hostile one could hold five hundred.
const VENDOR_ITEMS_MAX: usize = 64;

/// A vendor's item that is longer is passed over.
const VENDOR_ITEM_BYTES_MAX: usize = 64;

/// Attributes of most reports.
const ATTRIBUTES_EXPECTED: usize = 8;

/// Bits of the status word.
mod status {
    pub(super) const IGNITION: u32 = 1;
    pub(super) const FIXED: u32 = 1 << 1;
    pub(super) const SOUTH: u32 = 1 << 2;
    pub(super) const WEST: u32 = 1 << 3;
    /// The position was shifted by a plug-in and is not WGS 84.
    pub(super) const SHIFTED: u32 = 1 << 5;
    pub(super) const FUEL_CUT: u32 = 1 << 10;
    pub(super) const CIRCUIT_CUT: u32 = 1 << 11;
}

/// Reads the locations of one message.
pub(super) struct Locations {
    edition: Edition,
    zone_minutes: i32,
    recorded: bool,
    arrival_ms: i64,
    vendor_items_left: usize,
}

impl Locations {
    pub(super) fn new(edition: Edition, settings: &Settings, now: Arrival) -> Locations {
        Locations {
            edition,
            zone_minutes: settings.zone_minutes.unwrap_or(STANDARD_ZONE_MINUTES),
            recorded: settings.recorded,
            arrival_ms: now.wall_ms,
            vendor_items_left: VENDOR_ITEMS_MAX,
        }
    }

    /// Reads one location with its items.
    pub(super) fn one(&mut self, body: &[u8]) -> Result<Report, Reject> {
        let (fixed, items) = body
            .split_first_chunk::<LOCATION_BYTES>()
            .ok_or(Reject::Length)?;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let half = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (alarm_word, status_word) = (word(0), word(4));
        let (held, momentary) = alarms(alarm_word, self.edition);
        let mut report = Report {
            fix: self.place(status_word, word(8), word(12)),
            held,
            momentary,
            ..Report::default()
        };
        motion(&mut report.fix, half(16), half(18), half(20));
        self.set_time(
            &mut report.fix,
            fixed.last_chunk().expect("28 bytes end in 6"),
        );
        status_attributes(alarm_word, status_word, &mut report);
        self.items(items, &mut report);
        Ok(report)
    }

    /// Reads a batch: as many of its locations as are whole.
    pub(super) fn batch(&mut self, body: &[u8]) -> Result<Vec<Report>, Reject> {
        let (&[count_high, count_low, kind], mut rest) =
            body.split_first_chunk().ok_or(Reject::Length)?;
        let count = usize::from(u16::from_be_bytes([count_high, count_low]));
        let mut reports = Vec::with_capacity(count.min(rest.len() / (LOCATION_BYTES + 2)));
        while let Some((len, after)) = rest.split_first_chunk() {
            let Some((item, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))
            else {
                break;
            };
            rest = after;
            if let Ok(mut report) = self.one(item) {
                // 0 is an ordinary batch, 1 what was stored while there was no link.
                report.backlog = kind == 1;
                reports.push(report);
            }
        }
        if reports.is_empty() && count > 0 {
            return Err(Reject::Length);
        }
        Ok(reports)
    }

    /// A position as the wire has it: magnitudes, with signs in the status.
    pub(super) fn place(&self, status_word: u32, lat: u32, lon: u32) -> Fix {
        let mut fix = Fix::default();
        let lat = degrees_e7(lat, status_word & status::SOUTH != 0, 90);
        let lon = degrees_e7(lon, status_word & status::WEST != 0, 180);
        if let (Some(lat), Some(lon)) = (lat, lon) {
            fix.set_position(lat, lon);
            if status_word & status::FIXED != 0 && status_word & status::SHIFTED == 0 {
                fix.fields.0 |= FixFields::VALID;
            }
        }
        fix
    }

    /// Sets the time; a fix without one is not valid (terminals send zeros before their first fix).
    pub(super) fn set_time(&self, fix: &mut Fix, bcd: &[u8; 6]) {
        match self.time(bcd) {
            Some(time) => fix.set_time(time),
            None => fix.set_valid(false),
        }
    }

    /// A time as the wire has it; `None` if it is no date.
    pub(super) fn time(&self, bcd: &[u8; 6]) -> Option<(i64, TimeSource)> {
        Some(self.repaired(calendar::bcd_time_ms(bcd, self.zone_minutes)?))
    }

    /// A time in UTC by the rule for lost weeks.
    pub(super) fn repaired(&self, time_ms: i64) -> (i64, TimeSource) {
        calendar::repair_rollover(time_ms, self.arrival_ms, self.recorded)
    }

    fn items(&mut self, list: &[u8], report: &mut Report) {
        if let Ok(tail) = list.try_into()
            && !whole(list)
        {
            // No list, and reading into it would make things up. In a list that is cut, what comes before the cut is
            // good.
            return items::tail(tail, report);
        }
        let mut vendor: fn(u8, &[u8], &mut Report) -> Option<()> = items::vendor;
        let mut rest = list;
        while let Some((&[id, len], after)) = rest.split_first_chunk() {
            let Some((value, after)) = after.split_at_checked(usize::from(len)) else {
                break;
            };
            rest = after;
            if items::standard(id, value, report).is_some() {
                continue;
            }
            if self.vendor_items_left == 0 {
                continue;
            }
            self.vendor_items_left -= 1;
            if vendor(id, value, report).is_none() && value.len() <= VENDOR_ITEM_BYTES_MAX {
                report.state_named(["item_", &hex(&[id])].concat(), Some(hex(value)));
            }
            if (id, value.len()) == (0x80, 1) {
                vendor = items::engine;
            }
        }
    }
}

/// Altitude in m, speed in 0.1 km/h, course in degrees.
pub(super) fn motion(fix: &mut Fix, altitude: u16, speed: u16, course: u16) {
    fix.set_altitude(i32::from(altitude as i16) * 1000);
    // 0.1 km/h are 1000/36 mm/s.
    fix.set_speed((u32::from(speed) * 1000 + 18) / 36);
    fix.set_course(u32::from(course) * 100);
}

/// Whether the item list ends where the bytes end.
fn whole(mut items: &[u8]) -> bool {
    while let [_, len, after @ ..] = items {
        match after.get(usize::from(*len)..) {
            Some(after) => items = after,
            None => return false,
        }
    }
    items.is_empty()
}

/// 1e-6 degrees and a hemisphere to signed 1e-7 degrees. Some senders write a signed number instead of a magnitude.
fn degrees_e7(wire: u32, negative: bool, degrees_max: i64) -> Option<i32> {
    let range = -degrees_max * 1_000_000..=degrees_max * 1_000_000;
    let magnitude = i64::from(wire);
    let signed = if range.contains(&magnitude) {
        if negative { -magnitude } else { magnitude }
    } else {
        i64::from(wire as i32)
    };
    range.contains(&signed).then(|| (signed * 10) as i32)
}

fn status_attributes(alarm_word: u32, status_word: u32, report: &mut Report) {
    report.attributes = Vec::with_capacity(ATTRIBUTES_EXPECTED);
    report.state(AttributeKey::AlarmWord, Some(alarm_word));
    report.state(AttributeKey::StatusWord, Some(status_word));
    let ignition = status_word & status::IGNITION != 0;
    report.state(AttributeKey::Ignition, Some(ignition));
    if status_word & (status::FUEL_CUT | status::CIRCUIT_CUT) != 0 {
        report.state(AttributeKey::Blocked, Some(true));
    }
    let doors = status_word >> 13 & 0b1_1111;
    report.state(AttributeKey::Doors, (doors != 0).then_some(doors));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_may_be_magnitudes_or_signed() {
        assert_eq!(degrees_e7(132_444_444, true, 180), Some(-1_324_444_440));
        assert_eq!(
            degrees_e7(-132_444_444_i32 as u32, true, 180),
            Some(-1_324_444_440)
        );
        assert_eq!(degrees_e7(90_000_001, false, 90), None);
        assert_eq!(degrees_e7(180_000_000, false, 180), Some(1_800_000_000));
    }

    #[test]
    fn a_list_of_items_is_whole_only_if_it_ends_with_the_bytes() {
        assert!(whole(&[]));
        assert!(whole(&[0x30, 1, 5, 0x31, 0]));
        for cut in [&[0x30][..], &[0x30, 1], &[0x30, 2, 5]] {
            assert!(!whole(cut));
        }
    }
}
