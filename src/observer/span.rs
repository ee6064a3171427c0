//! Trace records to span trees: names, kinds, parents and attributes of each place that a frame passed.
//!
//! Pure: [`check`] refuses what a process that went wrong may have written, [`spans`] builds. Stamps are monotonic;
//! the caller reads the distance to the wall clock at each flush. Coordinates are personal data and never appear.
//!
//! ```text
//! receive {sensor}                  ingest      t0 .. committed
//! |- decode {protocol}              ingest      t0 .. decoded
//! '- send ring                      ingest      decoded .. committed
//!    '- process ring                classifier  taken .. handed on
//!       |- classify                 classifier  taken .. classified
//!       |- push tracks              dispatcher  handed on .. pushed
//!       '- journal                  uplink      handed on .. on disk
//!          '- send alarms/{device}  uplink      first publish .. PUBACK
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Event as SpanEvent, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::frame::{AlarmKind, DeviceId, EventId, Phase, TraceRecord};
use crate::hop::{Hop, TraceHead, span};
use crate::role::Role;

/// A stamp this far ahead of the observer's own clock is forged or damaged: both read the same monotonic clock, and a
/// record is written after its last stamp.
const AHEAD_NS_MAX: u64 = 1_000_000_000;

/// Name of the protocol of each sensor, by the sensor's name.
pub type Sensors = BTreeMap<String, &'static str>;

/// Which process a span belongs to: one resource of the export each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The role.
    pub role: Role,
    /// The sensor for an ingest, else the role's name.
    pub instance: String,
}

/// A span and whose it is.
#[derive(Clone, Debug)]
pub struct ServiceSpan {
    /// Whose.
    pub service: Service,
    /// What.
    pub span: SpanData,
}

/// Why a record is not made into spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// A trace or span id is zero.
    #[error("trace or span id is zero")]
    ZeroId,
    /// Stamps are missing, out of order or in the future.
    #[error("stamps are out of order")]
    Stamps,
    /// No such sensor.
    #[error("sensor is not known")]
    Sensor,
    /// A trace without an alarm that the ratio does not pick.
    #[error("trace is not one that is sampled")]
    Unsampled,
}

/// The wall clock as a distance from the monotonic one.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// Wall time less monotonic time, nanoseconds.
    pub offset_ns: i128,
}

impl WallClock {
    fn at(self, monotonic_ns: u64) -> SystemTime {
        let unix_ns = (i128::from(monotonic_ns) + self.offset_ns).max(0);
        unix_time(u64::try_from(unix_ns).unwrap_or(u64::MAX))
    }
}

/// Whether a record may become spans, at the monotonic time `now_ns`. One in `one_in` traces without an alarm is
/// wanted; whether this is one is worked out anew from its id.
///
/// # Errors
/// The first fault found.
pub fn check(
    record: &TraceRecord,
    sensors: &Sensors,
    one_in: u32,
    now_ns: u64,
) -> Result<(), RecordFault> {
    let (head, sensor) = match record {
        TraceRecord::Pushed { head, sensor, .. } | TraceRecord::Journalled { head, sensor, .. } => {
            (head, Some(sensor))
        }
        TraceRecord::Confirmed { head, .. } => (head, None),
    };
    if head.trace_id == 0 || head.span_id == 0 {
        return Err(RecordFault::ZeroId);
    }
    let Some(sensor) = sensor else { return Ok(()) };
    if matches!(record, TraceRecord::Pushed { .. }) && !head.in_ratio(one_in) {
        return Err(RecordFault::Unsampled);
    }
    if !sensors.contains_key(sensor) {
        return Err(RecordFault::Sensor);
    }
    let complete = head.stamps[0] != 0 && head.stamps.is_sorted();
    let past = head
        .at_ns(Hop::Done)
        .is_some_and(|at| at <= now_ns.saturating_add(AHEAD_NS_MAX));
    if complete && past {
        Ok(())
    } else {
        Err(RecordFault::Stamps)
    }
}

/// Appends the spans of a record that passed [`check`], parents before children.
pub fn spans(record: &TraceRecord, sensors: &Sensors, wall: WallClock, out: &mut Vec<ServiceSpan>) {
    match record {
        TraceRecord::Pushed {
            head,
            device,
            sensor,
        } => {
            let tree = Tree {
                head,
                device,
                event: None,
                wall,
            };
            tree.to_handed_on(sensor, sensors, out);
            out.push(tree.hop(
                Role::Dispatcher,
                "push tracks",
                SpanKind::Producer,
                (span::PUSH_TRACKS, Some(span::PROCESS_RING)),
                (Hop::HandedOn, Hop::Done),
            ));
        }
        TraceRecord::Journalled {
            head,
            device,
            sensor,
            event,
            kind,
            phase,
        } => {
            let tree = Tree {
                head,
                device,
                event: Some(event),
                wall,
            };
            let first = out.len();
            tree.to_handed_on(sensor, sensors, out);
            let mut journal = tree.hop(
                Role::Uplink,
                "journal",
                SpanKind::Internal,
                (span::JOURNAL, Some(span::PROCESS_RING)),
                (Hop::HandedOn, Hop::Done),
            );
            journal.span.attributes.extend(alarm(event, *kind, *phase));
            out[first]
                .span
                .attributes
                .extend(alarm(event, *kind, *phase));
            out.push(journal);
        }
        TraceRecord::Confirmed {
            head,
            device,
            event,
            sent_unix_ns,
            confirmed_unix_ns,
            attempts,
        } => {
            let tree = Tree {
                head,
                device,
                event: Some(event),
                wall,
            };
            // The wall clock may have been set back between the two.
            let confirmed_unix_ns = (*confirmed_unix_ns).max(*sent_unix_ns);
            let mut sent = tree.span(
                Service::of(Role::Uplink),
                Cow::Owned(format!("send alarms/{device}")),
                SpanKind::Producer,
                (span::SEND_ALARM, Some(span::JOURNAL)),
                (unix_time(*sent_unix_ns), unix_time(confirmed_unix_ns)),
                confirmed_unix_ns - sent_unix_ns,
            );
            sent.span.attributes.extend([
                KeyValue::new("messaging.system", "mqtt"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("ringway.event.id", event.to_string()),
                KeyValue::new("ringway.attempts", i64::from(*attempts)),
            ]);
            out.push(sent);
        }
    }
}

impl Service {
    /// The only process of its role.
    fn of(role: Role) -> Service {
        Service {
            role,
            instance: role.name().to_owned(),
        }
    }
}

/// What all spans of one record share.
struct Tree<'a> {
    head: &'a TraceHead,
    device: &'a DeviceId,
    /// The one that the record is about, if it is about one.
    event: Option<&'a EventId>,
    wall: WallClock,
}

impl Tree<'_> {
    /// The spans that every frame has, whoever owns it in the end. The root comes first.
    fn to_handed_on(&self, sensor: &str, sensors: &Sensors, out: &mut Vec<ServiceSpan>) {
        let ingest = || Service {
            role: Role::Ingest,
            instance: sensor.to_owned(),
        };
        let protocol = sensors.get(sensor).copied().unwrap_or_default();
        let t0 = self.head.t0_ns;
        let at = |hop| self.head.at_ns(hop).unwrap_or(t0);
        let ring = |name, numbers, hops| {
            self.hop(Role::Classifier, name, SpanKind::Consumer, numbers, hops)
        };

        out.push(self.timed(
            ingest(),
            Cow::Owned(format!("receive {sensor}")),
            SpanKind::Server,
            (span::RECEIVE, None),
            (t0, at(Hop::Committed)),
        ));
        out.push(self.timed(
            ingest(),
            Cow::Owned(format!("decode {protocol}")),
            SpanKind::Internal,
            (span::DECODE, Some(span::RECEIVE)),
            (t0, at(Hop::Decoded)),
        ));
        out.push(self.timed(
            ingest(),
            Cow::Borrowed("send ring"),
            SpanKind::Producer,
            (span::SEND_RING, Some(span::RECEIVE)),
            (at(Hop::Decoded), at(Hop::Committed)),
        ));
        let mut process = ring(
            "process ring",
            (span::PROCESS_RING, Some(span::SEND_RING)),
            (Hop::Taken, Hop::HandedOn),
        );
        if self.head.flags & TraceHead::REDELIVERED != 0 {
            let event = SpanEvent::new("redelivered", process.span.start_time, Vec::new(), 0);
            process.span.events.events.push(event);
        }
        out.push(process);
        out.push(self.hop(
            Role::Classifier,
            "classify",
            SpanKind::Internal,
            (span::CLASSIFY, Some(span::PROCESS_RING)),
            (Hop::Taken, Hop::Classified),
        ));
    }

    /// A span between two stamps, of a role that has one process.
    fn hop(
        &self,
        role: Role,
        name: &'static str,
        kind: SpanKind,
        numbers: (u8, Option<u8>),
        (start, end): (Hop, Hop),
    ) -> ServiceSpan {
        let at = |hop| self.head.at_ns(hop).unwrap_or(self.head.t0_ns);
        self.timed(
            Service::of(role),
            Cow::Borrowed(name),
            kind,
            numbers,
            (at(start), at(end)),
        )
    }

    /// A span between two monotonic times. They are exact to 64 ns while many viewers show microseconds, so the exact
    /// figures are attributes too.
    fn timed(
        &self,
        service: Service,
        name: Cow<'static, str>,
        kind: SpanKind,
        numbers: (u8, Option<u8>),
        (start_ns, end_ns): (u64, u64),
    ) -> ServiceSpan {
        let times = (self.wall.at(start_ns), self.wall.at(end_ns));
        let mut timed = self.span(service, name, kind, numbers, times, end_ns - start_ns);
        let after_t0_ns = (start_ns - self.head.t0_ns) as i64;
        timed
            .span
            .attributes
            .push(KeyValue::new("ringway.after_receive_ns", after_t0_ns));
        timed
    }

    fn span(
        &self,
        service: Service,
        name: Cow<'static, str>,
        kind: SpanKind,
        (number, parent): (u8, Option<u8>),
        (start_time, end_time): (SystemTime, SystemTime),
        duration_ns: u64,
    ) -> ServiceSpan {
        ServiceSpan {
            service,
            span: SpanData {
                span_context: SpanContext::new(
                    TraceId::from(self.head.trace_id),
                    self.id(number),
                    TraceFlags::SAMPLED,
                    false,
                    TraceState::NONE,
                ),
                parent_span_id: parent.map_or(SpanId::INVALID, |number| self.id(number)),
                // Parents inside one process are local, whatever the process; a parent across a ring is remote.
                parent_span_is_remote: matches!(
                    number,
                    span::PROCESS_RING | span::PUSH_TRACKS | span::JOURNAL
                ),
                span_kind: kind,
                name,
                start_time,
                end_time,
                attributes: vec![
                    KeyValue::new("device.id", self.device.to_string()),
                    KeyValue::new("ringway.duration_ns", duration_ns as i64),
                ],
                dropped_attributes_count: 0,
                events: SpanEvents::default(),
                links: SpanLinks::default(),
                status: Status::Unset,
                instrumentation_scope: InstrumentationScope::builder("ringway")
                    .with_version(env!("CARGO_PKG_VERSION"))
                    .build(),
            },
        }
    }

    fn id(&self, number: u8) -> SpanId {
        SpanId::from(match (number, self.event) {
            (span::RECEIVE, _) => self.head.span_id,
            (span::JOURNAL | span::SEND_ALARM, Some(event)) => {
                self.head.event_span_id(number, &event.0)
            }
            _ => self.head.child_span_id(number),
        })
    }
}

fn alarm(event: &EventId, kind: AlarmKind, phase: Phase) -> [KeyValue; 3] {
    [
        KeyValue::new("ringway.event.id", event.to_string()),
        KeyValue::new("ringway.alarm.kind", kind.name()),
        KeyValue::new(
            "ringway.alarm.phase",
            match phase {
                Phase::Raise => "raise",
                Phase::Clear => "clear",
            },
        ),
    ]
}

fn unix_time(unix_ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensors() -> Sensors {
        Sensors::from([("fleet".to_owned(), "jt808")])
    }

    fn head() -> TraceHead {
        TraceHead {
            trace_id: 0xabc,
            span_id: 7,
            t0_ns: 1_000,
            stamps: [10, 20, 30, 40, 50, 60],
            flags: TraceHead::SAMPLED,
        }
    }

    fn journalled(head: TraceHead) -> TraceRecord {
        TraceRecord::Journalled {
            head,
            device: DeviceId::new(b"13912345678").unwrap(),
            sensor: "fleet".to_owned(),
            event: EventId([3; 16]),
            kind: AlarmKind::Sos,
            phase: Phase::Raise,
        }
    }

    fn built(record: &TraceRecord) -> Vec<ServiceSpan> {
        let mut out = Vec::new();
        let wall = WallClock {
            offset_ns: 1_700_000_000_000_000_000,
        };
        spans(record, &sensors(), wall, &mut out);
        out
    }

    #[test]
    fn the_spans_of_an_alarm_form_one_tree_from_the_socket_to_the_broker() {
        let confirmed = TraceRecord::Confirmed {
            head: head(),
            device: DeviceId::new(b"13912345678").unwrap(),
            event: EventId([3; 16]),
            sent_unix_ns: 1_700_000_000_000_100_000,
            confirmed_unix_ns: 1_700_000_000_000_200_000,
            attempts: 1,
        };
        let mut all = built(&journalled(head()));
        all.extend(built(&confirmed));

        let name_of = |id: SpanId| {
            all.iter()
                .find(|s| s.span.span_context.span_id() == id)
                .map_or("", |s| &s.span.name)
        };
        let tree: Vec<_> = all
            .iter()
            .map(|s| {
                (
                    s.service.role.name(),
                    &*s.span.name,
                    name_of(s.span.parent_span_id),
                )
            })
            .collect();
        assert_eq!(
            tree,
            [
                ("ingest", "receive fleet", ""),
                ("ingest", "decode jt808", "receive fleet"),
                ("ingest", "send ring", "receive fleet"),
                ("classifier", "process ring", "send ring"),
                ("classifier", "classify", "process ring"),
                ("uplink", "journal", "process ring"),
                ("uplink", "send alarms/13912345678", "journal"),
            ]
        );
        let kinds: Vec<_> = all.iter().map(|s| s.span.span_kind.clone()).collect();
        use SpanKind::{Consumer, Internal, Producer, Server};
        assert_eq!(
            kinds,
            [
                Server, Internal, Producer, Consumer, Internal, Internal, Producer
            ]
        );
    }

    #[test]
    fn the_send_span_is_the_one_that_subscribers_are_told_of() {
        let confirmed = TraceRecord::Confirmed {
            head: head(),
            device: DeviceId::new(b"1").unwrap(),
            event: EventId([3; 16]),
            sent_unix_ns: 9,
            confirmed_unix_ns: 8,
            attempts: 2,
        };
        let sent = &built(&confirmed)[0].span;
        let context = &sent.span_context;
        let told = format!("00-{}-{}-01", context.trace_id(), context.span_id());
        assert_eq!(told, head().traceparent(&[3; 16]));
        assert!(
            sent.end_time >= sent.start_time,
            "a clock set back gives no negative span"
        );
    }

    #[test]
    fn two_alarms_of_one_frame_share_its_trace_and_have_their_own_spans() {
        let mut other = journalled(head());
        if let TraceRecord::Journalled { event, .. } = &mut other {
            *event = EventId([4; 16]);
        }
        let (first, second) = (built(&journalled(head())), built(&other));
        let id = |spans: &[ServiceSpan], at: usize| spans[at].span.span_context.span_id();
        assert_eq!(first[5].span.name, "journal");
        assert_eq!(id(&first, 4), id(&second, 4));
        assert_ne!(id(&first, 5), id(&second, 5));
    }

    #[test]
    fn times_are_wall_clock_and_exact_in_attributes() {
        let all = built(&journalled(head()));
        let classify = &all[4].span;
        let start = 1_700_000_000_000_000_000 + 1_000 + 30 * 64;
        assert_eq!(classify.start_time, unix_time(start));
        assert_eq!(classify.end_time, unix_time(start + 10 * 64));
        let exact = KeyValue::new("ringway.duration_ns", 640_i64);
        assert!(classify.attributes.contains(&exact));
    }

    #[test]
    fn forged_ids_stamps_and_sensors_are_refused() {
        let now = 1_000_000;
        let fault = |change: fn(&mut TraceHead)| {
            let mut head = head();
            change(&mut head);
            check(&journalled(head), &sensors(), 0, now)
        };
        assert_eq!(fault(|_| ()), Ok(()));
        assert_eq!(fault(|h| h.trace_id = 0), Err(RecordFault::ZeroId));
        assert_eq!(fault(|h| h.span_id = 0), Err(RecordFault::ZeroId));
        assert_eq!(fault(|h| h.stamps[2] = 0), Err(RecordFault::Stamps));
        assert_eq!(fault(|h| h.stamps[3] = 70), Err(RecordFault::Stamps));
        assert_eq!(fault(|h| h.stamps = [0; 6]), Err(RecordFault::Stamps));
        assert_eq!(fault(|h| h.t0_ns = u64::MAX), Err(RecordFault::Stamps));
        let other = check(&journalled(head()), &Sensors::new(), 0, now);
        assert_eq!(other, Err(RecordFault::Sensor));
    }

    #[test]
    fn a_trace_without_an_alarm_is_taken_only_if_its_id_is_in_the_ratio() {
        let pushed = TraceRecord::Pushed {
            head: TraceHead {
                trace_id: 1 << 64 | 30,
                ..head()
            },
            device: DeviceId::new(b"1").unwrap(),
            sensor: "fleet".to_owned(),
        };
        let fault = |one_in| check(&pushed, &sensors(), one_in, 1_000_000);
        assert_eq!([fault(10), fault(1)], [Ok(()); 2]);
        assert_eq!([fault(7), fault(0)], [Err(RecordFault::Unsampled); 2]);
    }

    #[test]
    fn a_frame_seen_twice_says_so() {
        let mut again = head();
        again.flags |= TraceHead::REDELIVERED;
        let all = built(&journalled(again));
        assert_eq!(all[3].span.events[0].name, "redelivered");
    }
}
