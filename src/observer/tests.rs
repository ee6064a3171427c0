//! The observer with real rings, pages and sockets, and a collector that decodes for itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use device_sim::sink::{self, Behaviour};
use tokio::sync::oneshot;

use super::process::{ObserverError, Setup, serve};
use crate::config::{Node, TraceSettings};
use crate::frame::{AlarmKind, DeviceId, EventId, Phase, TraceRecord};
use crate::hop::{Hop, TraceHead};
use crate::ring::{Geometry, Producer, RingOwner};
use crate::role::{End, FromChild, Purpose, RingAssignment, ToChild};
use crate::stats::{self, ClassifierMetric, IngestMetric, Metric, ObserverMetric, Stats};
use crate::sys::clock;
use crate::sys::control::Channel;

/// Nothing here takes this long on any machine that is alive.
const DEADLINE: Duration = Duration::from_secs(30);

const GEOMETRY: Geometry = Geometry {
    slots: 64,
    stride: 512,
    answers: 0,
};

/// An observer with one trace ring, whose producer is the test, and the page of one sensor.
struct Watched {
    producer: Producer,
    page: OwnedFd,
    address: SocketAddr,
    control: Channel,
    thread: JoinHandle<Result<(), ObserverError>>,
    _owner: RingOwner,
}

fn watched(endpoint: Option<SocketAddr>) -> Watched {
    let owner = RingOwner::create(GEOMETRY, 9, 1).unwrap();
    let producer = Producer::attach(&owner.producer_fds().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let page = stats::create().unwrap();
    let sensor = stats::create().unwrap();
    let ingest = Stats::<IngestMetric>::attach(sensor.as_fd(), "fleet", 0).unwrap();
    ingest.set(IngestMetric::SpeaksJt808, 1);
    ingest.heartbeat(clock::monotonic_ns());
    ingest.set_ready(true);
    let (control, theirs) = Channel::pair().unwrap();
    let assignment = RingAssignment {
        ring: 9,
        birth: 1,
        purpose: Purpose::Trace,
        end: End::Consumer,
        name: "uplink".to_owned(),
        geometry: GEOMETRY,
    };
    let setup = Setup {
        node: Node {
            site: "harbour".to_owned(),
            name: "gate-1".to_owned(),
        },
        trace: TraceSettings {
            endpoint: endpoint.map(|address| format!("http://{address}/")),
            headers: vec![("x-tenant".to_owned(), "t1".to_owned())],
            one_in: 2,
        },
        listener: listener.into(),
        rings: vec![(assignment, owner.consumer_fds().unwrap())],
        pages: vec![sensor],
        page: page.try_clone().unwrap(),
        control: theirs,
        lock: None,
    };
    let thread = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(serve(setup))
    });
    let ready = control.recv::<FromChild>().unwrap();
    assert!(matches!(ready, Some((FromChild::Ready, _))));
    Watched {
        producer,
        page,
        address,
        control,
        thread,
        _owner: owner,
    }
}

impl Watched {
    /// Publishes a record; a ring that stays full means that taking from it stalled.
    fn publish(&mut self, record: &TraceRecord) {
        let bytes = postcard::to_stdvec(record).unwrap();
        let give_up = Instant::now() + DEADLINE;
        while self.producer.try_publish(&[&bytes], false).is_err() {
            assert!(Instant::now() < give_up, "the ring is not emptied");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn counted(&self, metric: ObserverMetric, at_least: u64) -> u64 {
        let name = ObserverMetric::TABLE[metric.index()].name;
        eventually(name, || {
            let count = stats::read(self.page.as_fd()).unwrap().number(metric);
            count.filter(|&count| count >= at_least)
        })
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn drain(self) {
        self.control.send(&ToChild::Drain, &[]).unwrap();
        self.producer.close();
        self.thread.join().unwrap().unwrap();
    }
}

/// What `look` finds in the end.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < give_up, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn head(trace_id: u128) -> TraceHead {
    let now = clock::monotonic_ns();
    let mut head = TraceHead {
        trace_id,
        span_id: trace_id as u64,
        t0_ns: now - 1_000_000,
        flags: TraceHead::SAMPLED,
        ..TraceHead::default()
    };
    let hops = [
        Hop::Decoded,
        Hop::Committed,
        Hop::Taken,
        Hop::Classified,
        Hop::HandedOn,
        Hop::Done,
    ];
    for (at, hop) in hops.into_iter().enumerate() {
        head.stamp(hop, now - 900_000 + at as u64 * 100_000);
    }
    head
}

fn device() -> DeviceId {
    DeviceId::new(b"13912345678").unwrap()
}

fn journalled(trace_id: u128) -> TraceRecord {
    TraceRecord::Journalled {
        head: head(trace_id),
        device: device(),
        sensor: "fleet".to_owned(),
        event: EventId([5; 16]),
        kind: AlarmKind::Sos,
        phase: Phase::Raise,
    }
}

fn confirmed(trace_id: u128) -> TraceRecord {
    TraceRecord::Confirmed {
        head: head(trace_id),
        device: device(),
        event: EventId([5; 16]),
        sent_unix_ns: clock::wall_ns(),
        confirmed_unix_ns: clock::wall_ns() + 1_000,
        attempts: 1,
    }
}

fn pushed(trace_id: u128) -> TraceRecord {
    TraceRecord::Pushed {
        head: head(trace_id),
        device: device(),
        sensor: "fleet".to_owned(),
    }
}

/// A collector on a thread of its own, which ends when the sender is dropped.
fn collector() -> (oneshot::Sender<()>, SocketAddr, sink::Traces) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            tell.send(sink::start("127.0.0.1:0").await.unwrap())
                .unwrap();
            let _ = stopped.await;
        });
    });
    let (address, traces) = told.recv().unwrap();
    (stop, address, traces)
}

#[test]
fn an_alarm_is_one_complete_trace_at_the_collector() {
    let (_collector, address, traces) = collector();
    let mut observer = watched(Some(address));
    observer.publish(&journalled(77));
    observer.publish(&confirmed(77));
    let tree = eventually("the trace", || traces.complete_alarm_traces().pop());
    assert_eq!(tree.branches.len(), 7);

    let spans = traces.spans(77);
    let hosts = spans.iter().map(|span| span.resource_text("host.id"));
    assert!(hosts.into_iter().all(|host| host == Some("harbour/gate-1")));
    let receive = spans
        .iter()
        .find(|s| s.span.name == "receive fleet")
        .unwrap();
    assert_eq!(
        receive.resource_text("service.name"),
        Some("ringway-ingest")
    );
    assert_eq!(receive.resource_text("service.instance.id"), Some("fleet"));
    assert_eq!(receive.attribute_text("device.id"), Some("13912345678"));
    assert_eq!(receive.attribute_text("ringway.alarm.kind"), Some("sos"));
    assert!(spans.iter().any(|s| s.span.name == "decode jt808"));
    assert_eq!(observer.counted(ObserverMetric::SpansExported, 7), 7);
    assert_eq!((traces.counts().spans, traces.counts().repeated), (7, 0));
    observer.drain();
}

#[test]
fn forged_records_are_refused_and_counted() {
    let (_collector, address, traces) = collector();
    let mut observer = watched(Some(address));
    observer.publish(&journalled(0));
    observer.publish(&pushed(3));
    observer.producer.try_publish(&[b"rubbish"], false).unwrap();
    observer.publish(&pushed(4));
    observer.counted(ObserverMetric::TraceRecordsRefused, 3);
    eventually("the good one", || traces.ids().contains(&4).then_some(()));
    assert_eq!(traces.ids(), [4]);
    observer.drain();
}

#[test]
fn a_sensor_whose_page_has_just_begun_is_known_at_once() {
    let (_collector, address, traces) = collector();
    let mut observer = watched(Some(address));
    let page = stats::create().unwrap();
    observer
        .control
        .send(&ToChild::Page, &[page.as_fd()])
        .unwrap();
    eventually("the empty page", || {
        observer
            .get("/readyz")
            .contains("have not begun")
            .then_some(())
    });
    Stats::<IngestMetric>::attach(page.as_fd(), "yard", 0).unwrap();
    let mut record = journalled(5);
    if let TraceRecord::Journalled { sensor, .. } = &mut record {
        *sensor = "yard".to_owned();
    }
    observer.publish(&record);
    eventually("the trace", || traces.ids().contains(&5).then_some(()));
    let refused = observer.counted(ObserverMetric::TraceRecordsRefused, 0);
    assert_eq!(refused, 0);
    observer.drain();
}

#[test]
fn a_collector_that_fails_stalls_nothing_and_gets_all_alarms_later() {
    for behaviour in [Behaviour::Refuse, Behaviour::Status(503), Behaviour::Silent] {
        let (_collector, address, traces) = collector();
        traces.behave(behaviour);
        let mut observer = watched(Some(address));
        // Many times what the ring holds.
        for trace_id in 1..=500 {
            observer.publish(&journalled(trace_id));
        }
        observer.counted(ObserverMetric::TraceRecords, 500);
        observer.counted(ObserverMetric::ExportFailures, 1);
        traces.behave(Behaviour::Accept);
        eventually("all spans", || {
            (traces.counts().spans == 3_000).then_some(())
        });
        assert_eq!(traces.ids().len(), 500, "{behaviour:?}");
        assert_eq!(observer.counted(ObserverMetric::DroppedAlarms, 0), 0);
        observer.drain();
    }
}

#[test]
fn spans_that_a_collector_will_never_take_are_given_up_and_counted() {
    let (_collector, address, traces) = collector();
    traces.behave(Behaviour::Status(400));
    let mut observer = watched(Some(address));
    observer.publish(&journalled(1));
    assert_eq!(observer.counted(ObserverMetric::SpansRefused, 6), 6);
    traces.behave(Behaviour::Accept);
    observer.publish(&journalled(2));
    eventually("the next one", || traces.ids().contains(&2).then_some(()));
    assert_eq!(traces.ids(), [2]);
    observer.drain();
}

#[test]
fn a_drain_takes_and_sends_the_last_records() {
    let (_collector, address, traces) = collector();
    let mut observer = watched(Some(address));
    observer.publish(&journalled(8));
    observer.control.send(&ToChild::Drain, &[]).unwrap();
    observer.publish(&confirmed(8));
    observer.producer.close();
    observer.thread.join().unwrap().unwrap();
    assert_eq!(traces.complete_alarm_traces().len(), 1);
}

#[test]
fn a_drain_ends_although_the_collector_is_silent_and_a_ring_stays_open() {
    let (_collector, address, traces) = collector();
    traces.behave(Behaviour::Silent);
    let mut observer = watched(Some(address));
    observer.publish(&journalled(8));
    drop(OwnedFd::from(observer.control));
    observer.thread.join().unwrap().unwrap();
}

#[test]
fn without_a_collector_records_are_taken_and_none_is_kept() {
    let mut observer = watched(None);
    for trace_id in 1..=200 {
        observer.publish(&journalled(trace_id));
    }
    observer.counted(ObserverMetric::TraceRecords, 200);
    assert_eq!(observer.counted(ObserverMetric::QueueBytes, 0), 0);
    observer.drain();
}

#[test]
fn metrics_and_health_show_pages_that_are_handed_over_later() {
    let observer = watched(None);
    assert!(observer.get("/livez").starts_with("HTTP/1.1 200 OK\r\n"));
    let ready = observer.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200 OK\r\n"), "{ready}");

    let page = stats::create().unwrap();
    let classifier = Stats::<ClassifierMetric>::attach(page.as_fd(), "classifier", 0).unwrap();
    classifier.add(ClassifierMetric::Frames, 42);
    classifier.heartbeat(clock::monotonic_ns());
    observer
        .control
        .send(&ToChild::Page, &[page.as_fd()])
        .unwrap();
    let line = "ringway_frames_total{role=\"classifier\",instance=\"classifier\"} 42\n";
    eventually("the page", || {
        observer.get("/metrics").contains(line).then_some(())
    });
    let ready = observer.get("/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{ready}"
    );
    let (_, body) = ready.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["reasons"][0], "classifier classifier is not ready");
    observer.drain();
}

#[test]
fn metrics_are_text_that_prometheus_reads() {
    let observer = watched(None);
    let answer = observer.get("/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    for line in body.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        assert!(
            name.starts_with("ringway_") && name.ends_with('}'),
            "{line}"
        );
    }
    assert!(body.contains("\nringway_process_up{role=\"ingest\",instance=\"fleet\"} 1\n"));
    observer.drain();
}
