//! The location body, alone or in a batch: alarms, status, position, items.

use super::super::bytes::hex;
use super::super::calendar;
use super::super::{Arrival, Reject, Report, Settings};
use super::alarm::alarms;
use super::envelope::Edition;
use crate::frame::{Attribute, AttributeKey, Fix, FixFields, TimeSource, Value};

/// The standard's times are those of Beijing.
const STANDARD_ZONE_MINUTES: i32 = 480;

/// Bytes of the fixed part.
pub(super) const LOCATION_BYTES: usize = 28;

/// Items without a standard meaning that are kept of one message; a hostile one could hold five hundred.
const VENDOR_ITEMS_MAX: usize = 64;

/// A vendor's item that is longer is passed over.
const VENDOR_ITEM_BYTES_MAX: usize = 64;

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

        let mut fix = self.place(status_word, word(8), word(12));
        fix.altitude_mm = i32::from(half(16) as i16) * 1000;
        // 0.1 km/h are 1000/36 mm/s.
        fix.speed_mm_s = (u32::from(half(18)) * 1000 + 18) / 36;
        fix.fields.0 |= FixFields::ALTITUDE | FixFields::SPEED;
        if half(20) <= 360 {
            fix.course_cdeg = half(20) % 360 * 100;
            fix.fields.0 |= FixFields::COURSE;
        }
        self.set_time(&mut fix, fixed.last_chunk().expect("28 bytes end in 6"));

        let mut attributes = Vec::with_capacity(8);
        status_attributes(alarm_word, status_word, &mut attributes);
        self.items(items, &mut fix, &mut attributes);
        Ok(Report {
            fix,
            held,
            momentary,
            backlog: false,
            attributes,
        })
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
            fix.lat_e7 = lat;
            fix.lon_e7 = lon;
            fix.fields.0 |= FixFields::POSITION;
            if status_word & status::FIXED != 0 && status_word & status::SHIFTED == 0 {
                fix.fields.0 |= FixFields::VALID;
            }
        }
        fix
    }

    /// Sets the time; a fix without one is not valid (terminals send zeros before their first fix).
    pub(super) fn set_time(&self, fix: &mut Fix, bcd: &[u8; 6]) {
        match calendar::bcd_time_ms(bcd, self.zone_minutes) {
            Some(time_ms) => {
                (fix.time_ms, fix.time_source) =
                    calendar::repair_rollover(time_ms, self.arrival_ms, self.recorded);
                fix.fields.0 |= FixFields::TIME;
            }
            None => {
                fix.time_source = TimeSource::None;
                fix.fields.0 &= !FixFields::VALID;
            }
        }
    }

    fn items(&mut self, items: &[u8], fix: &mut Fix, attributes: &mut Vec<Attribute>) {
        if !whole(items) {
            // One family of terminals has a tail of 20 bytes here that is no list; reading into it would make things up.
            // In a list that is cut, what comes before the cut is good.
            if items.len() == 20 {
                return;
            }
        }
        let mut rest = items;
        while let Some((&[id, len], after)) = rest.split_first_chunk() {
            let Some((value, after)) = after.split_at_checked(usize::from(len)) else {
                break;
            };
            rest = after;
            if id == 0x31 && value.len() == 1 {
                fix.satellites = value[0];
                fix.fields.0 |= FixFields::SATELLITES;
            } else if !standard_item(id, value, attributes)
                && self.vendor_items_left > 0
                && value.len() <= VENDOR_ITEM_BYTES_MAX
            {
                self.vendor_items_left -= 1;
                let name = ["item_", &hex(&[id])].concat();
                attributes.push(Attribute::named(name, Value::Text(hex(value))));
            }
        }
    }
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

fn status_attributes(alarm_word: u32, status_word: u32, attributes: &mut Vec<Attribute>) {
    let int = |value: u32| Value::Int(i64::from(value));
    let ignition = status_word & status::IGNITION != 0;
    attributes.push(Attribute::new(AttributeKey::AlarmWord, int(alarm_word)));
    attributes.push(Attribute::new(AttributeKey::StatusWord, int(status_word)));
    attributes.push(Attribute::new(
        AttributeKey::Ignition,
        Value::Bool(ignition),
    ));
    if status_word & (status::FUEL_CUT | status::CIRCUIT_CUT) != 0 {
        attributes.push(Attribute::new(AttributeKey::Blocked, Value::Bool(true)));
    }
    let doors = status_word >> 13 & 0b1_1111;
    if doors != 0 {
        attributes.push(Attribute::new(AttributeKey::Doors, int(doors)));
    }
}

/// Adds an item that the standard defines; `false` for another, or one of another length.
fn standard_item(id: u8, value: &[u8], attributes: &mut Vec<Attribute>) -> bool {
    let number = value
        .iter()
        .take(4)
        .fold(0, |number: u32, &byte| number << 8 | u32::from(byte));
    let int = Value::Int(i64::from(number));
    let tenths = |number: u32| Value::Float(f64::from(number) / 10.0);
    let attribute = match (id, value.len()) {
        (0x01, 4) => Attribute::new(AttributeKey::OdometerM, Value::Int(i64::from(number) * 100)),
        // Some terminals set the top bit and send a percentage.
        (0x02, 2) if number & 0x8000 != 0 => Attribute::new(
            AttributeKey::FuelPercent,
            Value::Int(i64::from(number & 0x7fff)),
        ),
        (0x02, 2) => Attribute::new(AttributeKey::FuelL, tenths(number)),
        (0x03, 2) => {
            let speed = Value::Float(f64::from(number) / 36.0);
            Attribute::new(AttributeKey::TachographSpeedMps, speed)
        }
        (0x04, 2) => Attribute::named("alarm_to_confirm", int),
        (0x06, 2) => {
            let degrees = i64::from(number & 0x7fff);
            let negative = number & 0x8000 != 0;
            let value = Value::Int(if negative { -degrees } else { degrees });
            Attribute::new(AttributeKey::TemperatureC, value)
        }
        (0x25, 4) => Attribute::named("vehicle_signals", int),
        (0x2a, 2) => Attribute::named("io_status", int),
        (0x2b, 4) => {
            let high = Value::Int(i64::from(number >> 16));
            attributes.push(Attribute::named("analog_1", high));
            Attribute::named("analog_0", Value::Int(i64::from(number & 0xffff)))
        }
        (0x30, 1) => Attribute::new(AttributeKey::Signal, int),
        _ => return false,
    };
    attributes.push(attribute);
    true
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
