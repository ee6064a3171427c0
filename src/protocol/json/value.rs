//! Values of the schema that are more than a number or a flag.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::super::real;
use crate::frame::{AlarmKind, Alarms, DeviceId, Value};

/// Most characters of an id.
pub(super) const ID_CHARS_MAX: usize = 64;

/// Most characters of a text; the rest of a longer one is left out.
const TEXT_CHARS_MAX: usize = 64;

/// A number of milliseconds before 2000-01-01 is most likely one of seconds.
pub(super) const TIME_MS_MIN: i64 = 946_684_800_000;

/// Last millisecond of the year 9999.
pub(super) const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// What an answer names, as it stands in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id(String);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) i64);

/// Who reports; `None` if the text is no id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device(pub(super) Option<DeviceId>);

/// Kinds of alarms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kinds(pub(super) Alarms);

/// What an attribute is; `None` for null.
#[derive(Debug)]
pub(super) struct Scalar(pub(super) Option<Value>);

/// Implements `Deserialize` by a visitor of the same name in this file.
macro_rules! visited {
    ($($name:ident as $hint:ident by $visitor:ident;)*) => {
        $(impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                from.$hint($visitor)
            }
        })*
    };
}

visited! {
    Id as deserialize_any by IdVisitor;
    Moment as deserialize_any by MomentVisitor;
    Device as deserialize_str by DeviceVisitor;
    Kinds as deserialize_seq by KindsVisitor;
    Scalar as deserialize_any by ScalarVisitor;
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a whole number or a text of 1 to {ID_CHARS_MAX} characters"
        )
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Id, E> {
        Ok(Id(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Id, E> {
        Ok(Id(number.to_string()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Id, E> {
        let mut rest = text.chars();
        if rest.next().is_none() || rest.nth(ID_CHARS_MAX - 1).is_some() {
            return Err(E::custom("id is empty or too long"));
        }
        Ok(Id(serde_json::Value::from(text).to_string()))
    }
}

struct MomentVisitor;

impl Visitor<'_> for MomentVisitor {
    type Value = Moment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time of RFC 3339, or milliseconds since 1970")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
        // Without a zone it could be meant anywhere.
        let moment = Some(text).filter(|text| has_zone(text.as_bytes()));
        let moment = moment.and_then(|text| real::iso_ms(text.as_bytes()));
        moment
            .map(Moment)
            .ok_or_else(|| E::custom("time is not one of RFC 3339 with its zone"))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Moment, E> {
        let ms = number.round();
        (TIME_MS_MIN as f64..=TIME_MS_MAX as f64)
            .contains(&ms)
            .then_some(Moment(ms as i64))
            .ok_or_else(|| E::custom("time is not in milliseconds since 1970"))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Moment, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Moment, E> {
        self.visit_f64(number as f64)
    }
}

/// Whether a time ends in `Z`, `+hh:mm` or `-hh:mm`, with nothing around it.
fn has_zone(text: &[u8]) -> bool {
    matches!(
        text,
        [b'0'..=b'9', .., b'Z' | b'z'] | [b'0'..=b'9', .., b'+' | b'-', _, _, b':', _, _]
    )
}

struct DeviceVisitor;

impl Visitor<'_> for DeviceVisitor {
    type Value = Device;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the id of a device")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Device, E> {
        Ok(Device(DeviceId::new(text.as_bytes())))
    }
}

struct KindsVisitor;

impl<'de> Visitor<'de> for KindsVisitor {
    type Value = Kinds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of kinds of alarms")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kinds, A::Error> {
        let mut kinds = Kinds::default();
        while let Some(Kind(kind)) = items.next_element()? {
            kinds.0.insert(kind);
        }
        Ok(kinds)
    }
}

struct Kind(AlarmKind);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Kind, D::Error> {
        from.deserialize_str(KindVisitor)
    }
}

struct KindVisitor;

impl Visitor<'_> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a kind of alarm")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Kind, E> {
        let unknown = || E::custom(format_args!("{:?} is no kind of alarm", short(name)));
        AlarmKind::from_name(name).map(Kind).ok_or_else(unknown)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text, true or false")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar(Some(Value::Bool(flag))))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(Some(Value::Int(number))))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
        let value = i64::try_from(number).map_or(Value::Float(number as f64), Value::Int);
        Ok(Scalar(Some(value)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(Some(Value::Float(number))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(Some(Value::Text(short(text).to_owned()))))
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar(None))
    }
}

/// The first characters of a text.
pub(super) fn short(text: &str) -> &str {
    let end = text.char_indices().nth(TEXT_CHARS_MAX);
    &text[..end.map_or(text.len(), |(at, _)| at)]
}
