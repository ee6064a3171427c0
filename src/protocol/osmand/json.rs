//! The JSON of newer clients: one location for each request.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::real::{self, Moment};
use super::super::{Arrival, Reject, Report, Settings};
use super::query::{VENDOR_ATTRIBUTES_MAX, set_position, short, vendor};
use super::{Upload, alarm};
use crate::frame::{AttributeKey, DeviceId, Value};

#[derive(Deserialize)]
struct Root {
    device_id: Option<Scalar>,
    location: Option<Location>,
}

#[derive(Deserialize)]
struct Location {
    timestamp: Option<Moment>,
    coords: Option<Coords>,
    event: Option<Scalar>,
    is_moving: Option<bool>,
    odometer: Option<f64>,
    battery: Option<Battery>,
    activity: Option<Activity>,
    mock: Option<bool>,
    alarm: Option<String>,
    extras: Option<Extras>,
}

#[derive(Deserialize)]
struct Coords {
    latitude: Option<f64>,
    longitude: Option<f64>,
    accuracy: Option<f64>,
    /// Metres per second.
    speed: Option<f64>,
    heading: Option<f64>,
    altitude: Option<f64>,
}

#[derive(Deserialize)]
struct Battery {
    /// 0 to 1.
    level: Option<f64>,
    is_charging: Option<bool>,
}

#[derive(Deserialize)]
struct Activity {
    r#type: Option<Scalar>,
}

/// Reads the body of a request.
pub(super) fn read(body: &[u8], settings: &Settings, now: Arrival) -> Result<Upload, Reject> {
    let root: Root = serde_json::from_slice(body).map_err(|_| Reject::Field)?;
    let device = root.device_id.and_then(|id| id.device());
    let device = device.ok_or(Reject::Device)?;
    let location = root.location.ok_or(Reject::Field)?;
    let mut report = Report::default();
    if let Some(coords) = &location.coords {
        coords.state(&mut report)?;
    }
    let sent_ms = location.timestamp.map(|moment| moment.0);
    settings.state_time(&mut report, sent_ms, now);
    report.fix.set_valid(true);
    location.state(&mut report);
    Ok(Upload { device, report })
}

impl Coords {
    /// Less than nothing means unknown, but for the altitude.
    fn state(&self, report: &mut Report) -> Result<(), Reject> {
        if let (Some(lat), Some(lon)) = (self.latitude, self.longitude) {
            set_position(report, lat, lon)?;
        }
        let fix = &mut report.fix;
        if let Some(mm) = self.altitude.and_then(real::mm) {
            fix.set_altitude(mm);
        }
        if let Some(mm_s) = self.speed.and_then(real::positive_mm) {
            fix.set_speed(mm_s);
        }
        if let Some(cdeg) = self.heading.and_then(real::course_cdeg) {
            fix.set_course(cdeg);
        }
        if let Some(mm) = self.accuracy.and_then(real::positive_mm) {
            fix.set_accuracy(mm);
        }
        Ok(())
    }
}

impl Location {
    /// States all but position and time.
    fn state(self, report: &mut Report) {
        if let Some(names) = &self.alarm {
            alarm::state(report, names);
        }
        let battery = self.battery.as_ref();
        let level = battery
            .and_then(|battery| battery.level)
            .filter(|level| (0.0..=1.0).contains(level));
        let percent = level.map(|level| (level * 100.0).round() as i64);
        report.state(AttributeKey::BatteryPercent, percent);
        let charging = battery.and_then(|battery| battery.is_charging);
        report.state(AttributeKey::Charging, charging);
        report.state(AttributeKey::Motion, self.is_moving);
        let metres = self
            .odometer
            .filter(|metres| *metres >= 0.0 && *metres < 1e12);
        report.state(
            AttributeKey::OdometerM,
            metres.map(|metres| metres.round() as i64),
        );
        report.state(AttributeKey::Event, self.event.and_then(|event| event.0));
        let kind = self.activity.and_then(|activity| activity.r#type?.0);
        report.state_named("activity", kind);
        report.state_named("mock", self.mock.filter(|&mock| mock));
        for (name, value) in self.extras.map(|extras| extras.0).unwrap_or_default() {
            match value {
                Value::Text(names) if name == "alarm" => alarm::state(report, &names),
                value => report.attributes.extend(vendor(&name, value)),
            }
        }
    }
}

/// A number, flag or text; `None` for nothing, a list or an object.
struct Scalar(Option<Value>);

impl Scalar {
    /// The id of a device, which some write as a number.
    fn device(&self) -> Option<DeviceId> {
        match self.0.as_ref()? {
            Value::Text(text) => DeviceId::new(text.as_bytes()),
            Value::Int(number) => DeviceId::new(number.to_string().as_bytes()),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Scalar, D::Error> {
        from.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar(Some(Value::Bool(flag))))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(Some(Value::Int(number))))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(i64::try_from(number).ok().map(Value::Int)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(Some(Value::Float(number))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(Some(Value::Text(short(text)))))
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }
}

/// What a client's user adds: names and values. An empty list stands for nothing, too.
struct Extras(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Extras {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Extras, D::Error> {
        from.deserialize_any(ExtrasVisitor)
    }
}

struct ExtrasVisitor;

impl<'de> Visitor<'de> for ExtrasVisitor {
    type Value = Extras;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Extras, A::Error> {
        let mut extras = Vec::new();
        while let Some((name, value)) = items.next_entry::<String, Scalar>()? {
            let value = value.0.filter(|_| extras.len() < VENDOR_ATTRIBUTES_MAX);
            extras.extend(value.map(|value| (name, value)));
        }
        Ok(Extras(extras))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Extras, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Extras(Vec::new()))
    }
}
