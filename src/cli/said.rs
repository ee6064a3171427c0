//! What messages say, as one JSON object.

use std::fmt::Display;

use serde_json::{Map, Value as Json, json};

use crate::frame::{AlarmKind, Attribute, Fix, FixFields, Value, rfc3339_ms};
use crate::protocol::{Message, Protocol, Reject};

/// What messages say together.
#[derive(Default)]
pub struct Said {
    messages: usize,
    error: Option<String>,
    kind: &'static str,
    device: Option<String>,
    fixes: Vec<Json>,
    alarms: Vec<&'static str>,
    attributes: Map<String, Json>,
    answer: String,
}

impl Said {
    /// The error of bytes that are the start of a message only.
    pub const INCOMPLETE: &str = "message is incomplete";

    /// Nothing but this error.
    pub fn wrong(error: impl Display) -> Said {
        let mut said = Said::default();
        said.fail(error);
        said
    }

    /// Takes note that something cannot be read; the first error counts.
    pub fn fail(&mut self, error: impl Display) {
        self.error.get_or_insert_with(|| error.to_string());
    }

    /// Takes note of a message.
    pub fn add(&mut self, protocol: Protocol, message: Message) {
        self.answer_with(protocol, &message.answer_now);
        self.answer_with(protocol, &message.answer_when_safe);
        // A kind that is not known is a result: the message was sound.
        let refused = message
            .refused
            .filter(|&reject| reject != Reject::UnknownKind);
        if let Some(reject) = refused {
            self.fail(reject);
            // Records before one that cannot be read are passed on, so they are shown.
            if message.reports.is_empty() {
                return;
            }
        }
        self.messages += 1;
        self.kind = message.kind;
        self.device = message.device.map(|device| device.to_string());
        for report in message.reports {
            self.fixes.extend(fix_json(&report.fix, report.backlog));
            for kind in report.held.iter().chain(report.momentary.iter()) {
                self.alarm(kind);
            }
            self.attributes(report.attributes);
        }
        self.attributes(message.attributes);
    }

    fn alarm(&mut self, kind: AlarmKind) {
        if !self.alarms.contains(&kind.name()) {
            self.alarms.push(kind.name());
        }
    }

    /// The first report that states an attribute counts.
    fn attributes(&mut self, attributes: Vec<Attribute>) {
        for Attribute { key, value } in attributes {
            let value = match value {
                Value::Bool(value) => json!(value),
                Value::Int(value) => json!(value),
                Value::Float(value) => json!(value),
                Value::Text(value) => json!(value),
            };
            self.attributes.entry(key.name()).or_insert(value);
        }
    }

    fn answer_with(&mut self, protocol: Protocol, answer: &[u8]) {
        self.answer.push_str(&text_or_hex(protocol, answer));
    }

    /// One object; only what nothing can be read of is an error.
    pub fn into_json(self) -> Json {
        let mut object = Map::new();
        if self.messages == 0 {
            let error = self.error.unwrap_or_else(|| Said::INCOMPLETE.into());
            object.insert("error".into(), json!(error));
        } else {
            object.insert("fixes".into(), json!(self.fixes));
            object.insert("alarms".into(), json!(self.alarms));
            object.insert("attributes".into(), Json::Object(self.attributes));
            object.insert("device".into(), json!(self.device));
            object.insert("kind".into(), json!(self.kind));
        }
        if !self.answer.is_empty() {
            object.insert("answer".into(), json!(self.answer));
        }
        Json::Object(object)
    }
}

/// A fix with a position; what is not stated is left out, but for the time, which is null.
fn fix_json(fix: &Fix, backlog: bool) -> Option<Json> {
    let (lat, lon) = fix.position_deg()?;
    let mut object = Map::new();
    object.insert("time".into(), json!(fix.time().map(rfc3339_ms)));
    object.insert("lat".into(), json!(lat));
    object.insert("lon".into(), json!(lon));
    let stated = [
        ("altitude_m", fix.altitude_m()),
        ("speed_mps", fix.speed_mps()),
        ("course_deg", fix.course_deg()),
    ];
    for (name, value) in stated {
        if let Some(value) = value {
            object.insert(name.into(), json!(value));
        }
    }
    object.insert("valid".into(), json!(fix.fields.has(FixFields::VALID)));
    if fix.fields.has(FixFields::SATELLITES) {
        object.insert("satellites".into(), json!(fix.satellites));
    }
    if fix.fields.has(FixFields::ACCURACY) {
        let accuracy_m = f64::from(fix.accuracy_mm) / 1e3;
        object.insert("accuracy_m".into(), json!(accuracy_m));
    }
    if backlog {
        object.insert("backlog".into(), json!(true));
    }
    Some(Json::Object(object))
}

/// Text as it is, all else in hexadecimal: behind `auto` there may be either.
pub fn text_or_hex(protocol: Protocol, bytes: &[u8]) -> String {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    match str::from_utf8(bytes) {
        Ok(text) if protocol.is_text() && bytes.iter().all(is_text) => text.into(),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
