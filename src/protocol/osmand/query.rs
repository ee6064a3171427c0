//! Parameters of a query or a form.

use std::borrow::Cow;

use super::super::{Arrival, Reject, Report, Settings, real};
use super::{Upload, alarm};
use crate::frame::{Attribute, AttributeKey, DeviceId, Value};

/// Most attributes that have no standard name.
pub(super) const VENDOR_ATTRIBUTES_MAX: usize = 64;

/// Most characters of a vendor's name, and of a text.
const NAME_CHARS_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 64;

/// Most cells, and most access points.
const NEIGHBOURS_MAX: usize = 8;

/// Metres per second of a knot.
const KNOT_MPS: f64 = 1852.0 / 3600.0;

/// What a standard attribute's value has to be.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Number,
    Flag,
    Text,
}

/// Parameters that have a standard name, besides those of the position.
const STANDARD: &[(&str, AttributeKey, Form)] = &[
    ("batt", AttributeKey::BatteryPercent, Form::Number),
    ("batteryLevel", AttributeKey::BatteryPercent, Form::Number),
    ("charge", AttributeKey::Charging, Form::Flag),
    ("ignition", AttributeKey::Ignition, Form::Flag),
    ("motion", AttributeKey::Motion, Form::Flag),
    ("odometer", AttributeKey::OdometerM, Form::Number),
    ("driverUniqueId", AttributeKey::DriverId, Form::Text),
    ("event", AttributeKey::Event, Form::Text),
    ("hdop", AttributeKey::Hdop, Form::Number),
    ("vdop", AttributeKey::Vdop, Form::Number),
    ("pdop", AttributeKey::Pdop, Form::Number),
    ("fuel", AttributeKey::FuelL, Form::Number),
    ("rpm", AttributeKey::EngineRpm, Form::Number),
    ("power", AttributeKey::PowerV, Form::Number),
    ("battery", AttributeKey::BatteryV, Form::Number),
    ("rssi", AttributeKey::Signal, Form::Number),
    ("steps", AttributeKey::Steps, Form::Number),
    ("armed", AttributeKey::Armed, Form::Flag),
    ("blocked", AttributeKey::Blocked, Form::Flag),
    ("vin", AttributeKey::Vin, Form::Text),
];

/// What the parameters say, as far as it is not in the report yet.
#[derive(Default)]
struct Parameters {
    device: Option<Option<DeviceId>>,
    time_ms: Option<i64>,
    lat: Option<f64>,
    lon: Option<f64>,
    invalid: bool,
    cells: Vec<String>,
    access_points: Vec<String>,
    vendor: Vec<Attribute>,
}

/// Reads the parameters of a request.
pub(super) fn read(query: &[u8], settings: &Settings, now: Arrival) -> Result<Upload, Reject> {
    let mut said = Parameters::default();
    let mut report = Report::default();
    for (name, value) in form_urlencoded::parse(query) {
        said.take(&mut report, &name, value.trim())?;
    }
    let device = said.device.flatten().ok_or(Reject::Device)?;
    if let (Some(lat), Some(lon)) = (said.lat, said.lon) {
        set_position(&mut report, lat, lon)?;
    }
    settings.state_time(&mut report, said.time_ms, now);
    // A client that does not say otherwise reports what its receiver found.
    report.fix.set_valid(!said.invalid);
    report.attributes.append(&mut said.vendor);
    let list = |of: Vec<String>| (!of.is_empty()).then(|| of.join(" "));
    report.state(AttributeKey::Cells, list(said.cells));
    report.state(AttributeKey::Wifi, list(said.access_points));
    Ok(Upload { device, report })
}

/// States a position in degrees; one that is nowhere is no report.
pub(super) fn set_position(report: &mut Report, lat: f64, lon: f64) -> Result<(), Reject> {
    let lat_e7 = real::degrees_e7(lat, 90.0).ok_or(Reject::Field)?;
    let lon_e7 = real::degrees_e7(lon, 180.0).ok_or(Reject::Field)?;
    report.fix.set_position(lat_e7, lon_e7);
    Ok(())
}

/// The first characters of a text.
pub(super) fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// A vendor's attribute, unless its name is none.
pub(super) fn vendor(name: &str, value: Value) -> Option<Attribute> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let named = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(plain);
    named.then(|| Attribute::named(Cow::Owned(name.to_owned()), value))
}

impl Parameters {
    /// An empty value says nothing. A position, time or device that does not parse is no report; the rest is left out.
    fn take(&mut self, report: &mut Report, name: &str, value: &str) -> Result<(), Reject> {
        let number = || real::parse(value);
        let fix = &mut report.fix;
        match name {
            // Two ids have to be one.
            "id" | "deviceid" => {
                let device = DeviceId::new(value.as_bytes());
                let same = self.device.is_none_or(|before| before == device);
                self.device = Some(device.filter(|_| same));
            }
            _ if value.is_empty() => {}
            "timestamp" => self.time_ms = Some(moment_ms(value).ok_or(Reject::Field)?),
            "lat" => self.lat = Some(number().ok_or(Reject::Field)?),
            "lon" => self.lon = Some(number().ok_or(Reject::Field)?),
            "location" => {
                let (lat, lon) = value.split_once(',').ok_or(Reject::Field)?;
                self.lat = Some(real::parse(lat).ok_or(Reject::Field)?);
                self.lon = Some(real::parse(lon).ok_or(Reject::Field)?);
            }
            "valid" => self.invalid = !is_true(value),
            "speed" => {
                if let Some(mm_s) = number().and_then(|knots| real::positive_mm(knots * KNOT_MPS)) {
                    fix.set_speed(mm_s);
                }
            }
            "bearing" | "heading" => {
                if let Some(cdeg) = number().and_then(real::course_cdeg) {
                    fix.set_course(cdeg);
                }
            }
            "altitude" => {
                if let Some(mm) = number().and_then(real::mm) {
                    fix.set_altitude(mm);
                }
            }
            "accuracy" => {
                if let Some(mm) = number().and_then(real::positive_mm) {
                    fix.set_accuracy(mm);
                }
            }
            "sat" => {
                if let Ok(count) = value.parse() {
                    fix.set_satellites(count);
                }
            }
            // A secret of the phone: whoever has it may send it notices.
            "notificationToken" => {}
            "alarm" => alarm::state(report, value),
            "cell" => push(&mut self.cells, cell(value)),
            "wifi" => push(&mut self.access_points, access_point(value)),
            _ => self.other(report, name, value),
        }
        Ok(())
    }

    fn other(&mut self, report: &mut Report, name: &str, value: &str) {
        let standard = STANDARD.iter().find(|(known, ..)| *known == name);
        if let Some((_, key, form)) = standard
            && let Some(value) = form.of(value)
        {
            let again = report.attributes.iter().any(|stated| stated.key == *key);
            return report.state(key.clone(), (!again).then_some(value));
        }
        if self.vendor.len() < VENDOR_ATTRIBUTES_MAX {
            self.vendor.extend(vendor(name, guess(value)));
        }
    }
}

impl Form {
    fn of(self, value: &str) -> Option<Value> {
        match (self, guess(value)) {
            (Form::Text, _) => Some(Value::Text(short(value))),
            (Form::Number, number @ (Value::Int(_) | Value::Float(_))) => Some(number),
            (Form::Flag, flag @ Value::Bool(_)) => Some(flag),
            (Form::Flag, Value::Int(flag @ 0..=1)) => Some(Value::Bool(flag == 1)),
            _ => None,
        }
    }
}

/// A number, a flag or a text, as it looks.
fn guess(value: &str) -> Value {
    if let Ok(number) = value.parse() {
        return Value::Int(number);
    }
    match (value, real::parse(value)) {
        (_, Some(number)) => Value::Float(number),
        ("true", _) => Value::Bool(true),
        ("false", _) => Value::Bool(false),
        _ => Value::Text(short(value)),
    }
}

fn is_true(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true")
}

/// A Unix time in seconds or milliseconds, or a date and time.
fn moment_ms(value: &str) -> Option<i64> {
    match real::parse(value) {
        Some(number) => real::unix_ms(number),
        None => real::iso_ms(value.as_bytes()),
    }
}

fn push(to: &mut Vec<String>, neighbour: Option<String>) {
    if to.len() < NEIGHBOURS_MAX {
        to.extend(neighbour);
    }
}

/// `mcc,mnc,lac,cell` and perhaps a signal.
fn cell(value: &str) -> Option<String> {
    let mut numbers = value.split(',').map(|number| number.trim().parse::<u64>());
    let mut next = || numbers.next()?.ok();
    let (mcc, mnc, lac, cell) = (next()?, next()?, next()?, next()?);
    Some(format!("{mcc}-{mnc}-{lac}-{cell}"))
}

/// `address,signal`; the address with colons or dashes.
fn access_point(value: &str) -> Option<String> {
    let (address, signal) = value.split_once(',')?;
    let plain = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'-');
    let signal: i32 = signal.trim().parse().ok()?;
    let sound = address.len() <= 17 && address.bytes().all(plain);
    sound.then(|| {
        let address = address.to_ascii_lowercase().replace('-', ":");
        format!("{address},{signal}")
    })
}
