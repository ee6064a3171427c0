//! Names and payloads: how an alarm and the node's status look to whoever subscribes.
//!
//! JSON with units in the field names, three times apart (of the fix, of reception, of publishing) in RFC 3339 with
//! milliseconds. Fields that the device did not state are left out.

use bytes::Bytes;
use serde::Serialize;

use super::journal::Stored;
use crate::config::Node;
use crate::frame::{AlarmKind, DeviceId, EventId, Phase, Severity, rfc3339_ms};

/// Bytes that an alarm takes on the wire beside its names: fixed fields of topic, payload and properties at their
/// longest, and JSON's worst escape of the rest is counted apart.
const ALARM_FIXED_BYTES: usize = 1024;

/// The names of one node.
#[derive(Clone, Debug)]
pub struct Topics {
    node: Node,
    journal: String,
    session: String,
    prefix: String,
}

/// A message ready for the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Where it goes.
    pub topic: String,
    /// What it says, JSON.
    pub payload: Bytes,
    /// User properties in MQTT 5.
    pub properties: Vec<(String, String)>,
}

/// What the node says about itself; retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It delivers.
    Online,
    /// It takes nothing in any more and delivers what is left.
    Draining,
    /// It said goodbye.
    Offline,
    /// The broker says so in its place.
    #[serde(rename = "offline")]
    Lost,
}

#[derive(Serialize)]
struct StatusPayload<'a> {
    state: Status,
    version: &'static str,
    session: &'a str,
    journal: &'a str,
    site: &'a str,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clean: Option<bool>,
}

#[derive(Serialize)]
struct AlarmPayload<'a> {
    #[serde(serialize_with = "as_text")]
    id: EventId,
    journal: &'a str,
    seq: u64,
    site: &'a str,
    node: &'a str,
    device: DeviceId,
    sensor: &'a str,
    kind: AlarmKind,
    phase: Phase,
    severity: Severity,
    rule: &'a str,
    start: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    received: String,
    published: String,
    late: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lat: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lon: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    altitude_m: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_mps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    course_deg: Option<f64>,
    trace_id: String,
    traceparent: &'a str,
}

impl Topics {
    /// The names of `node`, whose journal is `journal`; `session` tells this run of the uplink from others.
    pub fn new(node: Node, journal: &str, session: &str) -> Topics {
        let prefix = format!("ringway/v1/{}/{}", node.site, node.name);
        Topics {
            node,
            journal: journal.to_owned(),
            session: session.to_owned(),
            prefix,
        }
    }

    /// The message of an alarm that is published at the wall clock `now_ms`.
    pub fn alarm(&self, stored: &Stored, now_ms: i64) -> Message {
        let event = &stored.event;
        let position = event.fix.position_deg();
        let traceparent = event.trace.traceparent(&event.id.0);
        let payload = AlarmPayload {
            id: event.id,
            journal: &self.journal,
            seq: stored.seq,
            site: &self.node.site,
            node: &self.node.name,
            device: event.device,
            sensor: &event.sensor,
            kind: event.kind,
            phase: event.phase,
            severity: event.severity,
            rule: &event.rule,
            start: rfc3339_ms(event.start_ms),
            time: event.fix.time().map(rfc3339_ms),
            received: rfc3339_ms(event.received_ms),
            published: rfc3339_ms(now_ms),
            late: event.late,
            lat: position.map(|(lat, _)| lat),
            lon: position.map(|(_, lon)| lon),
            altitude_m: event.fix.altitude_m(),
            speed_mps: event.fix.speed_mps(),
            course_deg: event.fix.course_deg(),
            trace_id: format!("{:032x}", event.trace.trace_id),
            traceparent: &traceparent,
        };
        let payload = json(&payload);
        Message {
            topic: format!(
                "{}/alarm/{}/{}",
                self.prefix,
                event.device,
                event.kind.name()
            ),
            payload,
            properties: vec![
                ("traceparent".to_owned(), traceparent),
                ("id".to_owned(), event.id.to_string()),
                ("seq".to_owned(), stored.seq.to_string()),
            ],
        }
    }

    /// The message of the node's status.
    pub fn status(&self, state: Status) -> Message {
        let clean = match state {
            Status::Online | Status::Draining => None,
            Status::Offline => Some(true),
            Status::Lost => Some(false),
        };
        let payload = json(&StatusPayload {
            state,
            version: env!("CARGO_PKG_VERSION"),
            session: &self.session,
            journal: &self.journal,
            site: &self.node.site,
            node: &self.node.name,
            clean,
        });
        Message {
            topic: format!("{}/status", self.prefix),
            payload,
            properties: Vec::new(),
        }
    }

    /// An upper bound of the bytes that an alarm with these names takes on the wire; to refuse what no broker takes
    /// before it is journalled.
    pub fn alarm_bytes_max(&self, rule: &str, sensor: &str) -> usize {
        let names = self.node.site.len() + self.node.name.len();
        // A control character becomes six bytes of JSON; the node's names are also in the topic.
        ALARM_FIXED_BYTES + 7 * names + 6 * (rule.len() + sensor.len())
    }
}

fn json(payload: &impl Serialize) -> Bytes {
    serde_json::to_vec(payload)
        .expect("a payload has string keys and writes to memory")
        .into()
}

fn as_text<S: serde::Serializer>(id: &EventId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Event, Fix, FixFields};
    use crate::hop::TraceHead;

    fn topics() -> Topics {
        let node = Node {
            site: "depot".to_owned(),
            name: "edge-1".to_owned(),
        };
        Topics::new(node, "the-journal", "the-session")
    }

    fn stored() -> Stored {
        let device = DeviceId::new(b"13912345678").unwrap();
        Stored {
            seq: 42,
            accepted_ms: 1_700_000_000_200,
            event: Event {
                id: EventId([0xab; 16]),
                device,
                kind: AlarmKind::Overspeed,
                phase: Phase::Raise,
                severity: Severity::Warning,
                late: false,
                rule: "overspeed".to_owned(),
                start_ms: 1_700_000_000_000,
                fix: Fix {
                    time_ms: 1_700_000_010_000,
                    lat_e7: 481_234_567,
                    lon_e7: -111_234_567,
                    speed_mm_s: 25_500,
                    fields: FixFields(FixFields::POSITION | FixFields::TIME | FixFields::SPEED),
                    ..Fix::default()
                },
                received_ms: 1_700_000_010_050,
                sensor: "trackers".to_owned(),
                trace: TraceHead {
                    trace_id: 0x1f,
                    span_id: 5,
                    ..TraceHead::default()
                },
                origin: None,
            },
        }
    }

    #[test]
    fn an_alarm_says_who_what_where_and_when_and_leaves_out_what_nobody_stated() {
        let stored = stored();
        let traceparent = stored.event.trace.traceparent(&stored.event.id.0);
        let message = topics().alarm(&stored, 1_700_000_011_000);
        assert_eq!(
            message.topic,
            "ringway/v1/depot/edge-1/alarm/13912345678/overspeed"
        );
        let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let expected = serde_json::json!({
            "id": "abababababababababababababababab", "journal": "the-journal", "seq": 42,
            "site": "depot", "node": "edge-1", "device": "13912345678", "sensor": "trackers",
            "kind": "overspeed", "phase": "raise", "severity": "warning", "rule": "overspeed",
            "start": "2023-11-14T22:13:20.000Z", "time": "2023-11-14T22:13:30.000Z",
            "received": "2023-11-14T22:13:30.050Z", "published": "2023-11-14T22:13:31.000Z",
            "late": false, "lat": 48.123_456_7, "lon": -11.123_456_7, "speed_mps": 25.5,
            "trace_id": "0000000000000000000000000000001f", "traceparent": traceparent,
        });
        assert_eq!(payload, expected);
        let property = |name: &str| {
            let found = message.properties.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(property("traceparent"), Some(traceparent));
        assert_eq!(property("seq").as_deref(), Some("42"));
    }

    #[test]
    fn the_size_bound_holds_for_names_that_escape_badly() {
        let mut stored = stored();
        stored.seq = u64::MAX;
        stored.event.rule = "\u{1}".repeat(60);
        stored.event.sensor = "\u{2}".repeat(60);
        stored.event.fix.fields = FixFields(u16::MAX);
        let topics = topics();
        let message = topics.alarm(&stored, 0);
        let properties: usize = message
            .properties
            .iter()
            .map(|(k, v)| k.len() + v.len() + 5)
            .sum();
        let bytes = message.topic.len() + message.payload.len() + properties + 64;
        assert!(
            bytes <= topics.alarm_bytes_max(&stored.event.rule, &stored.event.sensor),
            "{bytes}"
        );
    }

    #[test]
    fn a_lost_node_is_offline_like_one_that_said_goodbye_but_not_cleanly() {
        let state = |status| -> serde_json::Value {
            serde_json::from_slice(&topics().status(status).payload).unwrap()
        };
        let (lost, gone) = (state(Status::Lost), state(Status::Offline));
        assert_eq!(
            (&lost["state"], &gone["state"]),
            (&"offline".into(), &"offline".into())
        );
        assert_eq!(
            (&lost["clean"], &gone["clean"]),
            (&false.into(), &true.into())
        );
        assert_eq!(state(Status::Online)["session"], "the-session");
        assert_eq!(
            topics().status(Status::Online).topic,
            "ringway/v1/depot/edge-1/status"
        );
    }
}
