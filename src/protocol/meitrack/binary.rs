//! Batches in binary, little-endian: CCC with one layout for every report, CCE with numbered values.

use super::super::bytes::{Reader, hex, number};
use super::super::{Arrival, Reject, Report, Settings};
use super::text::{state_analog, state_temperature};
use super::{event, is_kept, is_text, printable, set_time};
use crate::frame::{Attribute, AttributeKey, Fix, Value};

/// 2000-01-01, UTC, from which seconds are counted.
const EPOCH_S: i64 = 946_684_800;

/// Bytes of a report in the layout of CCC that is read, and its version.
const FIXED_BYTES: usize = 52;
const FIXED_VERSION: u16 = 0x0102;

/// Least bytes of a report of CCE: its length, its number, four counts.
const TAGGED_BYTES_MIN: usize = 8;

/// Values without a standard name that are kept of one message.
const VENDOR_ATTRIBUTES_MAX: usize = 64;

/// A vendor's value that is longer is passed over.
const VALUE_BYTES_MAX: usize = 64;

/// Cells or access points that are kept of one report. The protocol has numbers for nine.
const HEARD_MAX: usize = 16;

/// What a batch says.
#[derive(Default)]
pub(super) struct Batch {
    /// Reports in the message, also those that cannot be read: the device may delete them.
    pub(super) count: usize,
    pub(super) reports: Vec<Report>,
    /// Of reports with neither a place nor an alarm.
    pub(super) attributes: Vec<Attribute>,
    pub(super) refused: Option<Reject>,
}

impl Batch {
    fn refused(reason: Reject) -> Batch {
        Batch {
            refused: Some(reason),
            ..Batch::default()
        }
    }

    fn add(&mut self, report: Option<Report>) {
        self.count += 1;
        match report {
            Some(report) if is_kept(&report) => self.reports.push(report),
            Some(mut report) => self.attributes.append(&mut report.attributes),
            None => self.refused = Some(Reject::Length),
        }
    }
}

fn u16_le(reader: &mut Reader) -> Option<u16> {
    reader.u16().map(u16::swap_bytes)
}

fn u32_le(reader: &mut Reader) -> Option<u32> {
    reader.u32().map(u32::swap_bytes)
}

/// Reads CCC: the version of the layout, the length of a report, how many are stored, and reports.
pub(super) fn fixed(body: &[u8], settings: &Settings, now: Arrival) -> Batch {
    let mut reader = Reader(body);
    let mut head = || {
        let head = (u16_le(&mut reader)?, u16_le(&mut reader)?);
        u32_le(&mut reader).map(|_| head)
    };
    let Some((version, length)) = head() else {
        return Batch::refused(Reject::Length);
    };
    let length = usize::from(length);
    // Other versions have fields that a server chose.
    if length < FIXED_BYTES || version != FIXED_VERSION && length != FIXED_BYTES {
        return Batch::refused(Reject::UnknownKind);
    }
    let mut batch = Batch::default();
    while let Some(bytes) = reader.take(length) {
        batch.add(fixed_report(Reader(bytes), settings, now));
    }
    if !reader.is_empty() {
        batch.refused = Some(Reject::Length);
    }
    batch
}

fn fixed_report(mut reader: Reader, settings: &Settings, now: Arrival) -> Option<Report> {
    let reader = &mut reader;
    let mut report = Report::default();
    event::state(u32::from(reader.u8()?), &mut report);
    let (lat, lon) = (u32_le(reader)?, u32_le(reader)?);
    let seconds = u32_le(reader)?;
    let (valid, satellites, signal) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let (speed_kmh, course_deg) = (u16_le(reader)?, u16_le(reader)?);
    let (hdop, altitude_m) = (u16_le(reader)?, u16_le(reader)?);
    let (odometer_m, running_s) = (u32_le(reader)?, u32_le(reader)?);
    let [country, network, area, cell] = [
        u16_le(reader)?,
        u16_le(reader)?,
        u16_le(reader)?,
        u16_le(reader)?,
    ];
    let ports = u16_le(reader)?;
    let [first, battery, power] = [u16_le(reader)?, u16_le(reader)?, u16_le(reader)?];

    let fix = &mut report.fix;
    set_position(fix, lat, lon);
    set_time(fix, time_ms(seconds), settings, now);
    fix.set_valid(valid == 1);
    fix.set_satellites(satellites);
    fix.set_speed(kmh_mm_s(speed_kmh));
    fix.set_course(u32::from(course_deg) * 100);
    fix.set_altitude(i32::from(altitude_m as i16) * 1000);
    report.state(AttributeKey::Signal, Some(signal));
    report.state(AttributeKey::Hdop, Some(f64::from(hdop) / 10.0));
    report.state(AttributeKey::OdometerM, Some(odometer_m));
    let cells = (country != 0).then(|| format!("{country}-{network}-{area}-{cell}"));
    report.state(AttributeKey::Cells, cells);
    report.state(AttributeKey::Inputs, Some(ports >> 8));
    report.state(AttributeKey::Outputs, Some(ports & 0xff));
    let input = |raw: u16| Some(u32::from(raw));
    state_analog(
        [input(first), None, None, input(battery), input(power)],
        &mut report,
    );
    report.state_named("running_s", Some(running_s));
    Some(report)
}

/// 1e-6 degrees.
fn set_position(fix: &mut Fix, lat: u32, lon: u32) {
    let e7 = |e6: u32| (e6 as i32).checked_mul(10);
    if let (Some(lat), Some(lon)) = (e7(lat), e7(lon)) {
        fix.set_position(lat, lon);
    }
}

fn time_ms(seconds: u32) -> i64 {
    (EPOCH_S + i64::from(seconds)) * 1000
}

fn kmh_mm_s(kmh: u16) -> u32 {
    (u32::from(kmh) * 10_000 + 18) / 36
}

/// Reads CCE: how many reports are stored, how many follow, and reports, each with its length.
pub(super) fn tagged(body: &[u8], settings: &Settings, now: Arrival) -> Batch {
    let mut reader = Reader(body);
    let (Some(_), Some(count)) = (u32_le(&mut reader), u16_le(&mut reader)) else {
        return Batch::refused(Reject::Length);
    };
    let mut batch = Batch::default();
    batch
        .reports
        .reserve(usize::from(count).min(reader.len() / TAGGED_BYTES_MIN));
    let mut vendor_left = VENDOR_ATTRIBUTES_MAX;
    for _ in 0..count {
        let bytes = u16_le(&mut reader).and_then(|length| reader.take(usize::from(length)));
        let Some(bytes) = bytes else {
            batch.refused = Some(Reject::Length);
            return batch;
        };
        let mut tagged = Tagged::new(&mut vendor_left);
        let read = tagged.read(Reader(bytes));
        let report = tagged.report(settings, now);
        batch.add(read.map(|()| report));
    }
    if !reader.is_empty() {
        batch.refused = Some(Reject::Length);
    }
    batch
}

/// A report of CCE under construction.
struct Tagged<'a> {
    report: Report,
    vendor_left: &'a mut usize,
    event: Option<u32>,
    lat: Option<u32>,
    lon: Option<u32>,
    seconds: Option<u32>,
    valid: bool,
    cells: Vec<String>,
    wifi: Vec<String>,
}

impl Tagged<'_> {
    fn new(vendor_left: &mut usize) -> Tagged<'_> {
        Tagged {
            report: Report::default(),
            vendor_left,
            event: None,
            lat: None,
            lon: None,
            seconds: None,
            valid: false,
            cells: Vec::new(),
            wifi: Vec::new(),
        }
    }

    /// Reads the report's number and its values: lists of those of one, two and four bytes, and of any length.
    fn read(&mut self, mut reader: Reader) -> Option<()> {
        u16_le(&mut reader)?;
        for length in [Some(1), Some(2), Some(4), None] {
            for _ in 0..reader.u8()? {
                // A number that begins with fe has two bytes.
                let id = match reader.u8()? {
                    0xfe => 0xfe00 | u16::from(reader.u8()?),
                    id => u16::from(id),
                };
                match length {
                    Some(length) => self.number(id, reader.take(length)?),
                    None => {
                        let length = usize::from(reader.u8()?);
                        self.bytes(id, reader.take(length)?);
                    }
                }
            }
        }
        Some(())
    }

    fn report(self, settings: &Settings, now: Arrival) -> Report {
        let mut report = self.report;
        let others = std::mem::take(&mut report.attributes);
        if let Some(code) = self.event {
            event::state(code, &mut report);
        }
        report.attributes.extend(others);
        let joined = |heard: Vec<String>| (!heard.is_empty()).then(|| heard.join(" "));
        report.state(AttributeKey::Cells, joined(self.cells));
        report.state(AttributeKey::Wifi, joined(self.wifi));
        report
            .attributes
            .sort_by_key(|attribute| matches!(attribute.key, AttributeKey::Other(_)));
        if let (Some(lat), Some(lon)) = (self.lat, self.lon) {
            set_position(&mut report.fix, lat, lon);
        }
        if let Some(seconds) = self.seconds {
            set_time(&mut report.fix, time_ms(seconds), settings, now);
        }
        report.fix.set_valid(self.valid);
        report
    }

    fn number(&mut self, id: u16, bytes: &[u8]) {
        use AttributeKey as Key;
        let raw = number(bytes) as u32;
        let raw = raw.swap_bytes() >> (32 - 8 * bytes.len() as u32);
        let fix = &mut self.report.fix;
        let hundredths = || Value::Float(f64::from(raw) / 100.0);
        let int = || Value::Int(i64::from(raw));
        let (key, value) = match (id, bytes.len()) {
            (0x01, 1) | (0x40, 2) => return self.event = Some(raw),
            (0x02, 4) => return self.lat = Some(raw),
            (0x03, 4) => return self.lon = Some(raw),
            (0x04, 4) => return self.seconds = Some(raw),
            (0x05, 1) => return self.valid = raw != 0,
            (0x06, 1) => return fix.set_satellites(raw as u8),
            (0x08, 2) => return fix.set_speed(kmh_mm_s(raw as u16)),
            (0x09, 2) => return fix.set_course(raw * 100),
            (0x0b, 2) => return fix.set_altitude(i32::from(raw as u16 as i16) * 1000),
            (0x07, 1) => (Key::Signal, int()),
            (0x0a, 2) => (Key::Hdop, Value::Float(f64::from(raw) / 10.0)),
            (0x0c, 4) => (Key::OdometerM, int()),
            (0x14, 1) => (Key::Outputs, int()),
            (0x15, 1) => (Key::Inputs, int()),
            (0x16, 2) => (Key::Analog1V, hundredths()),
            (0x17, 2) => (Key::Analog2V, hundredths()),
            (0x18, 2) => (Key::Analog3V, hundredths()),
            (0x19, 2) => (Key::BatteryV, hundredths()),
            (0x1a, 2) => (Key::PowerV, hundredths()),
            (0xfe69, 1) => (Key::BatteryPercent, int()),
            (0x97, 1) => (Key::ThrottlePercent, int()),
            (0x9d, 1) => (Key::FuelPercent, int()),
            (0x29, 2) => (Key::FuelPercent, hundredths()),
            (0x91 | 0x92, 2) => (Key::TachographSpeedMps, Value::Float(f64::from(raw) / 3.6)),
            (0x99, 2) => (Key::EngineRpm, int()),
            (0x9c, 2) => (Key::CoolantC, Value::Int(i64::from(raw as u16 as i16))),
            (0xa0, 4) => (Key::FuelUsedL, Value::Float(f64::from(raw) / 1000.0)),
            (0xfef4, 4) => (Key::EngineS, Value::Int(i64::from(raw) * 60)),
            (0x0d, 4) => return self.vendor_named("running_s", int()),
            (0x25, 4) if raw != 0 => (Key::DriverId, Value::Text(raw.to_string())),
            _ => return self.vendor(id, int()),
        };
        match self.is_stated(&key) {
            true => self.vendor(id, int()),
            false => self.report.state(key, Some(value)),
        }
    }

    fn is_stated(&self, key: &AttributeKey) -> bool {
        let mut attributes = self.report.attributes.iter();
        attributes.any(|attribute| attribute.key == *key)
    }

    fn bytes(&mut self, id: u16, bytes: &[u8]) {
        match (id, bytes) {
            (0x0e..=0x13, &[c1, c2, n1, n2, a1, a2, d1, d2, d3, d4, _, _]) => {
                let country = u16::from_le_bytes([c1, c2]);
                let network = u16::from_le_bytes([n1, n2]);
                let area = u16::from_le_bytes([a1, a2]);
                let cell = u32::from_le_bytes([d1, d2, d3, d4]);
                if country != 0 && self.cells.len() < HEARD_MAX {
                    self.cells
                        .push(format!("{country}-{network}-{area}-{cell}"));
                }
            }
            (0x1d..=0x25, &[ref address @ .., low, high])
                if address.len() == 6 && self.wifi.len() < HEARD_MAX =>
            {
                let signal = i16::from_le_bytes([low, high]);
                let address = address.iter().map(|byte| format!("{byte:02x}"));
                let address: Vec<_> = address.collect();
                self.wifi.push(format!("{},{signal}", address.join(":")));
            }
            (0x2a..=0x31, &[_label, low, high]) => {
                let degrees = f64::from(i16::from_le_bytes([low, high])) / 100.0;
                let sensor = u32::from(id - 0x29);
                if sensor <= 4 || self.take_vendor() {
                    state_temperature(sensor, degrees, &mut self.report);
                }
            }
            (0x39, card) if self.event == Some(event::CARD) && is_text(card) => {
                let card = printable(card.trim_ascii());
                if !self.is_stated(&AttributeKey::DriverId) {
                    self.report.state(AttributeKey::DriverId, Some(card));
                }
            }
            (0xfe31, &[2, kind, ref file @ ..]) if is_text(file) => {
                self.vendor_named("picture_kind", Value::Int(i64::from(kind)));
                self.vendor_named("picture", printable(file));
            }
            (0xfe73, bytes) if self.tag(Reader(bytes)).is_some() => {}
            (0xfea8, &[first, percent, second, percent_2, third, percent_3, _]) => {
                if first != 0 && !self.is_stated(&AttributeKey::BatteryPercent) {
                    self.report
                        .state(AttributeKey::BatteryPercent, Some(percent));
                }
                if second != 0 {
                    self.vendor_named("battery_2_percent", Value::Int(i64::from(percent_2)));
                }
                if third != 0 {
                    self.vendor_named("battery_3_percent", Value::Int(i64::from(percent_3)));
                }
            }
            (0x4b, &[_version, _kind, length, ref name @ ..])
                if usize::from(length) == name.len() && is_text(name) =>
            {
                self.vendor_named("network", printable(name));
            }
            (_, bytes) if bytes.len() <= VALUE_BYTES_MAX => {
                self.vendor(id, Value::Text(hex(bytes)));
            }
            _ => {}
        }
    }

    /// A sensor that was heard: its name, address, battery, temperature and humidity.
    fn tag(&mut self, mut reader: Reader) -> Option<()> {
        reader.skip(1)?;
        let length = usize::from(reader.u8()?);
        let name = reader.take(length)?;
        let address = reader.take(6)?;
        let battery = reader.u8()?;
        let temperature = u16_le(&mut reader)? as i16;
        let humidity = u16_le(&mut reader)? as i16;
        let name = if is_text(name) {
            printable(name)
        } else {
            Value::Text(hex(name))
        };
        self.vendor_named("tag_name", name);
        self.vendor_named("tag_address", Value::Text(hex(address)));
        self.vendor_named("tag_battery_percent", Value::Int(i64::from(battery)));
        self.vendor_named(
            "tag_temperature_c",
            Value::Float(f64::from(temperature) / 256.0),
        );
        self.vendor_named(
            "tag_humidity_percent",
            Value::Float(f64::from(humidity) / 256.0),
        );
        Some(())
    }

    fn vendor(&mut self, id: u16, value: Value) {
        if self.take_vendor() {
            self.report
                .state_named(format!("item_{id:02x}"), Some(value));
        }
    }

    fn vendor_named(&mut self, name: &'static str, value: Value) {
        if self.take_vendor() {
            self.report.state_named(name, Some(value));
        }
    }

    fn take_vendor(&mut self) -> bool {
        let left = *self.vendor_left > 0;
        *self.vendor_left -= usize::from(left);
        left
    }
}
