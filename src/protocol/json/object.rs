//! The objects of a line: which keys there are, and what they state.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::super::{Arrival, Message, Reject, Report, Settings, real};
use super::value::{Device, Id, Kinds, Moment, Scalar, short};
use super::{ATTRIBUTES_MAX, LINE_ATTRIBUTES_MAX, REPORTS_MAX, answer};
use crate::frame::{Attribute, AttributeKey, DeviceId, FixFields};

/// Most characters of a vendor's name of an attribute.
pub(super) const NAME_CHARS_MAX: usize = 32;

/// Most characters of a reason.
const REASON_CHARS_MAX: usize = 120;

macro_rules! keys {
    ($($variant:ident $name:literal)*) => {
        /// A key of an object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Key { $($variant,)* }

        impl Key {
            /// Every key.
            #[cfg(test)]
            pub(super) const NAMES: &'static [&'static str] = &[$($name,)*];

            fn from_name(name: &str) -> Option<Key> {
                match name { $($name => Some(Key::$variant),)* _ => None }
            }
        }
    };
}

keys! {
    Device "device"
    Id "id"
    Time "time"
    Lat "lat"
    Lon "lon"
    Valid "valid"
    Altitude "altitude_m"
    Speed "speed_m_s"
    Course "course_deg"
    Satellites "satellites"
    Accuracy "accuracy_m"
    Hdop "hdop"
    Alarms "alarms"
    Held "held"
    Attributes "attributes"
    Backlog "backlog"
}

/// Names of all keys.
#[cfg(test)]
pub(super) const KEYS: &[&str] = Key::NAMES;

/// Why a line is refused, in a word to count and in a sentence for its author.
pub(super) struct Refusal {
    pub(super) reject: Reject,
    pub(super) reason: String,
}

/// What a line has said so far.
pub(super) struct Reading<'a> {
    settings: &'a Settings,
    now: Arrival,
    device: Option<DeviceId>,
    id: Option<Id>,
    reports: Vec<Report>,
    /// What objects say that report neither a position nor an alarm.
    attributes: Vec<Attribute>,
    attributes_left: usize,
    /// What an error is, where it is not [`Reject::Field`].
    reject: Option<Reject>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(settings: &'a Settings, now: Arrival) -> Reading<'a> {
        Reading {
            settings,
            now,
            device: None,
            id: None,
            reports: Vec::new(),
            attributes: Vec::new(),
            attributes_left: LINE_ATTRIBUTES_MAX,
            reject: None,
        }
    }

    /// Reads a line.
    pub(super) fn read(mut self, line: &[u8]) -> Result<Message, Refusal> {
        let count = match line.first() {
            // Counted first, so that the list of reports is made once and not a byte too long.
            Some(b'[') => serde_json::from_slice::<Vec<IgnoredAny>>(line).map(|list| list.len()),
            _ => Ok(1),
        };
        let read = count.and_then(|count| {
            if count > REPORTS_MAX {
                self.reject = Some(Reject::TooLong);
                return Err(Error::custom("a list has more than 128 reports"));
            }
            self.reports.reserve_exact(count);
            let mut from = serde_json::Deserializer::from_slice(line);
            Line(&mut self).deserialize(&mut from)?;
            from.end()
        });
        if let Err(error) = read {
            let read = if error.is_data() {
                Reject::Field
            } else {
                Reject::Rubbish
            };
            return Err(Refusal {
                reject: self.reject.unwrap_or(read),
                reason: error.to_string().chars().take(REASON_CHARS_MAX).collect(),
            });
        }
        // What an operator states wins over what a program says of itself.
        match self.settings.device.or(self.device) {
            Some(device) => Ok(self.message(device)),
            None => Err(Refusal {
                reject: Reject::Device,
                reason: "device is missing".to_owned(),
            }),
        }
    }

    /// What the line says, with the answers that it asks for.
    fn message(self, device: DeviceId) -> Message {
        let kind = match self.reports.is_empty() {
            true => "status",
            false => "report",
        };
        let mut message = Message::new(kind, Some(device));
        message.attributes = self.attributes;
        message.answer_now = self.id.as_ref().map(answer::safe).unwrap_or_default();
        if !self.reports.is_empty() {
            message.answer_if_refused = self.id.as_ref().map(answer::again).unwrap_or_default();
        }
        message.hold_answer_for(self.reports);
        message
    }

    /// Takes what an object said.
    fn take<E: Error>(&mut self, said: Said) -> Result<(), E> {
        if let Some(device) = said.device {
            let same = self.device.is_none_or(|before| Some(before) == device);
            if device.is_none() || !same {
                self.reject = Some(Reject::Device);
                return Err(E::custom(match same {
                    true => "device is not 1 to 31 of A-Z a-z 0-9 . _ : -",
                    false => "a list is of one device",
                }));
            }
            self.device = device;
        }
        if said.id.is_some() && self.id.is_some() {
            return Err(E::custom("a list has one id"));
        }
        self.id = self.id.take().or(said.id);
        let mut report = said.report;
        match (said.lat, said.lon) {
            (None, None) => {}
            (Some(lat_e7), Some(lon_e7)) => report.fix.set_position(lat_e7, lon_e7),
            _ => return Err(E::custom("lat and lon come together")),
        }
        let placed = report.fix.fields.has(FixFields::POSITION);
        if !placed && !said.held && report.momentary.is_empty() {
            if self.attributes.len() + report.attributes.len() > ATTRIBUTES_MAX {
                return Err(E::custom("there are too many attributes"));
            }
            self.attributes.append(&mut report.attributes);
            return Ok(());
        }
        self.settings
            .state_time(&mut report, said.time_ms, self.now);
        report.fix.set_valid(said.valid.unwrap_or(true));
        report.attributes.shrink_to_fit();
        self.reports.push(report);
        Ok(())
    }
}

/// What an object says, as far as it is not in its report yet.
#[derive(Default)]
struct Said {
    device: Option<Option<DeviceId>>,
    id: Option<Id>,
    time_ms: Option<i64>,
    lat: Option<i32>,
    lon: Option<i32>,
    valid: Option<bool>,
    /// It says which alarms are held, be it none.
    held: bool,
    report: Report,
}

/// An object, or a list of them.
struct Line<'r, 'a>(&'r mut Reading<'a>);

impl<'de> DeserializeSeed<'de> for Line<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Line<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Object(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<(), A::Error> {
        Object(self.0).visit_map(object)
    }
}

struct Object<'r, 'a>(&'r mut Reading<'a>);

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut said = Said::default();
        let mut seen = 0_u32;
        while let Some(key) = object.next_key::<Key>()? {
            if seen & 1 << key as u32 != 0 {
                return Err(A::Error::custom("a key stands twice"));
            }
            seen |= 1 << key as u32;
            self.0.member(key, &mut object, &mut said)?;
        }
        self.0.take(said)
    }
}

impl Reading<'_> {
    /// Reads the value of a key. Null says nothing.
    fn member<'de, A: MapAccess<'de>>(
        &mut self,
        key: Key,
        object: &mut A,
        said: &mut Said,
    ) -> Result<(), A::Error> {
        let fix = &mut said.report.fix;
        match key {
            Key::Device => {
                let device: Option<Device> = object.next_value()?;
                said.device = device.map(|device| device.0);
            }
            Key::Id => said.id = object.next_value()?,
            Key::Time => {
                let time: Option<Moment> = object.next_value()?;
                said.time_ms = time.map(|time| time.0);
            }
            Key::Lat => said.lat = number(object, "lat", |deg| real::degrees_e7(deg, 90.0))?,
            Key::Lon => said.lon = number(object, "lon", |deg| real::degrees_e7(deg, 180.0))?,
            Key::Valid => said.valid = object.next_value()?,
            Key::Altitude => {
                if let Some(mm) = number(object, "altitude_m", real::mm)? {
                    fix.set_altitude(mm);
                }
            }
            Key::Speed => {
                if let Some(mm_s) = number(object, "speed_m_s", real::positive_mm)? {
                    fix.set_speed(mm_s);
                }
            }
            Key::Course => {
                if let Some(cdeg) = number(object, "course_deg", real::course_cdeg)? {
                    fix.set_course(cdeg);
                }
            }
            Key::Satellites => {
                if let Some(count) = object.next_value()? {
                    fix.set_satellites(count);
                }
            }
            Key::Accuracy => {
                if let Some(mm) = number(object, "accuracy_m", real::positive_mm)? {
                    fix.set_accuracy(mm);
                }
            }
            Key::Hdop => {
                let hdop = number(object, "hdop", |hdop| (hdop >= 0.0).then_some(hdop))?;
                said.report.state(AttributeKey::Hdop, hdop);
            }
            Key::Alarms => {
                let kinds: Option<Kinds> = object.next_value()?;
                said.report.momentary = kinds.unwrap_or_default().0;
            }
            Key::Held => {
                let kinds: Option<Kinds> = object.next_value()?;
                said.held = kinds.is_some();
                said.report.held = kinds.unwrap_or_default().0;
            }
            Key::Attributes => object.next_value_seed(Attributes {
                left: &mut self.attributes_left,
                to: &mut said.report.attributes,
            })?,
            Key::Backlog => {
                said.report.backlog = object.next_value::<Option<bool>>()? == Some(true)
            }
        }
        Ok(())
    }
}

/// A number that `fits` gives in fixed point; one that it does not take is an error.
fn number<'de, A: MapAccess<'de>, T>(
    object: &mut A,
    name: &str,
    fits: impl Fn(f64) -> Option<T>,
) -> Result<Option<T>, A::Error> {
    let Some(number) = object.next_value::<Option<f64>>()? else {
        return Ok(None);
    };
    let fitting = fits(number);
    fitting
        .map(Some)
        .ok_or_else(|| A::Error::custom(format_args!("{name} is out of range")))
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        from.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        // Cut here, since the name is foreign and may be as long as the line.
        let unknown = || E::custom(format_args!("{:?} is no key of a report", short(name)));
        Key::from_name(name).ok_or_else(unknown)
    }
}

/// The attributes of a report.
struct Attributes<'r> {
    left: &'r mut usize,
    to: &'r mut Vec<Attribute>,
}

impl<'de> DeserializeSeed<'de> for Attributes<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Attributes<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attributes")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(key)) = object.next_key()? {
            let Scalar(Some(value)) = object.next_value()? else {
                continue;
            };
            if self.to.len() >= ATTRIBUTES_MAX || *self.left == 0 {
                return Err(A::Error::custom("there are too many attributes"));
            }
            *self.left -= 1;
            self.to.push(Attribute { key, value });
        }
        Ok(())
    }
}

/// The name of an attribute.
struct Name(AttributeKey);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        from.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an attribute")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(E::custom(format_args!(
                "{:?} is no name of an attribute",
                short(name)
            )));
        }
        Ok(Name(AttributeKey::from_name(name)))
    }
}

/// The id of a line that is refused, if that much of it can be read: the last one of a list.
pub(super) fn id_of(line: &[u8]) -> Option<Id> {
    serde_json::from_slice::<IdOnly>(line).ok()?.0
}

struct IdOnly(Option<Id>);

impl<'de> Deserialize<'de> for IdOnly {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<IdOnly, D::Error> {
        from.deserialize_any(IdOnlyVisitor)
    }
}

struct IdOnlyVisitor;

impl<'de> Visitor<'de> for IdOnlyVisitor {
    type Value = IdOnly;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<IdOnly, A::Error> {
        let mut last = None;
        while let Some(IdOnly(id)) = items.next_element()? {
            last = id.or(last);
        }
        Ok(IdOnly(last))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<IdOnly, A::Error> {
        let mut found = None;
        while let Some(IsId(is_id)) = object.next_key()? {
            match is_id {
                true => found = object.next_value()?,
                false => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(IdOnly(found))
    }
}

/// Whether a key is `id`.
struct IsId(bool);

impl<'de> Deserialize<'de> for IsId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<IsId, D::Error> {
        struct IsIdVisitor;
        impl Visitor<'_> for IsIdVisitor {
            type Value = IsId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<IsId, E> {
                Ok(IsId(name == "id"))
            }
        }
        from.deserialize_str(IsIdVisitor)
    }
}
