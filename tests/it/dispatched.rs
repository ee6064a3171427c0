//! A dispatcher as the supervisor would start it, but on a thread of the test, with the test in the classifier's place.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway::config::{DispatcherSettings, Node};
use ringway::dispatcher::{self, DispatcherError};
use ringway::frame::{
    AlarmKind, Alarms, DeviceId, Event, EventId, FRAME_BYTES_MAX, Fix, FixFields, Frame,
    FrameFlags, Phase, TraceRecord,
};
use ringway::hop::TraceHead;
use ringway::ring::{Consumer, Geometry, Producer, RingOwner};
use ringway::role::{Assignment, Duty, End, FromChild, Purpose, RingAssignment, Role, ToChild};
use ringway::stats::{self, DispatcherMetric};
use ringway::sys::clock::monotonic_ns;
use ringway::sys::control::Channel;
use ringway::sys::start::Started;
use ringway::table::{self, PublicState, TableWriter};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::web;

/// Longest wait of a test for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What outlives a dispatcher: as the supervisor, the test keeps it.
pub struct World {
    ring: RingOwner,
    trace_ring: RingOwner,
    table_fd: OwnedFd,
    page: OwnedFd,
    listener: TcpListener,
    roads: Option<File>,
    settings: DispatcherSettings,
    producer: Option<Producer>,
    traces: Consumer,
    table: TableWriter,
}

/// A dispatcher that runs.
pub struct Dispatched {
    pub address: SocketAddr,
    control: Channel,
    thread: JoinHandle<Result<(), DispatcherError>>,
}

pub type Socket = WebSocket<TcpStream>;

fn owner(slots: u32) -> RingOwner {
    static BIRTHS: AtomicU64 = AtomicU64::new(1);
    let geometry = Geometry {
        slots,
        stride: 1024,
        answers: 0,
    };
    RingOwner::create(geometry, 1, BIRTHS.fetch_add(1, Ordering::Relaxed)).unwrap()
}

impl World {
    pub fn new(slots: u32) -> World {
        let (ring, trace_ring) = (owner(slots), owner(64));
        let table_fd = table::create(20_000).unwrap();
        ring.set_generation().unwrap();
        trace_ring.set_generation().unwrap();
        World {
            producer: Some(Producer::attach(&ring.producer_fds().unwrap()).unwrap()),
            traces: Consumer::attach(&trace_ring.consumer_fds().unwrap()).unwrap(),
            table: TableWriter::attach(table_fd.as_fd()).unwrap(),
            ring,
            trace_ring,
            table_fd,
            page: stats::create().unwrap(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            roads: None,
            settings: DispatcherSettings {
                listen: "127.0.0.1:0".into(),
                roads: None,
                subscriber_updates_max: 4096,
                subscribers_max: 8,
                stalled_ms: 10_000,
            },
        }
    }

    pub fn with_settings(mut self, change: impl FnOnce(&mut DispatcherSettings)) -> World {
        change(&mut self.settings);
        self
    }

    pub fn with_roads(mut self, json: &[u8]) -> World {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(json).unwrap();
        self.roads = Some(file);
        self
    }

    /// Starts a dispatcher and waits until it serves.
    pub fn start(&self) -> Dispatched {
        let (ours, theirs) = Channel::pair().unwrap();
        let assigned = |ring: &RingOwner, purpose, end| RingAssignment {
            ring: ring.identity().ring,
            birth: ring.identity().birth,
            purpose,
            end,
            name: "classifier".into(),
            geometry: ring.identity().geometry,
        };
        let dup = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().unwrap();
        let mut fds = vec![dup(&self.table_fd), dup(&self.listener)];
        fds.extend(self.roads.as_ref().map(|roads| dup(roads)));
        let started = Started {
            assignment: Assignment {
                node: Node {
                    site: "here".into(),
                    name: "edge".into(),
                },
                instance: "dispatcher".into(),
                restarts: 0,
                duty: Duty::Dispatcher {
                    settings: self.settings.clone(),
                    roads: self.roads.is_some(),
                },
            },
            lock: dup(&self.page),
            page: dup(&self.page),
            fds,
            rings: vec![
                (
                    assigned(&self.ring, Purpose::Track, End::Consumer),
                    self.ring.consumer_fds().unwrap(),
                ),
                (
                    assigned(&self.trace_ring, Purpose::Trace, End::Producer),
                    self.trace_ring.producer_fds().unwrap(),
                ),
            ],
            pages: Vec::new(),
            handed: Vec::new(),
            snapshot: None,
            control: theirs,
        };
        assert_eq!(started.role(), Role::Dispatcher);
        let thread = std::thread::spawn(move || dispatcher::run(started));
        let (ready, _) = ours.recv::<FromChild>().unwrap().expect("it becomes ready");
        assert!(matches!(ready, FromChild::Ready), "{ready:?}");
        Dispatched {
            address: self.listener.local_addr().unwrap(),
            control: ours,
            thread,
        }
    }

    /// Sends a track; waits for room.
    pub fn track(&mut self, frame: &Frame) {
        let mut record = [0; 1 + FRAME_BYTES_MAX];
        let (len, _) = frame.encode(&mut record[1..]).unwrap();
        self.publish(&record[..=len]);
    }

    pub fn alarm(&mut self, event: &Event) {
        let mut record = [1; 900];
        let len = event.encode(&mut record[1..]).unwrap();
        self.publish(&record[..=len]);
    }

    pub fn publish(&mut self, record: &[u8]) {
        let producer = self.producer.as_mut().expect("not closed yet");
        let give_up = std::time::Instant::now() + PATIENCE;
        while producer.try_publish(&[record], false).is_err() {
            assert!(std::time::Instant::now() < give_up, "the ring stays full");
            std::thread::yield_now();
        }
    }

    /// Writes a device's state and nothing to the ring, as when the ring was full; the slot is returned.
    pub fn state(&mut self, slot: Option<u32>, frame: &Frame, open: &[Event]) -> u32 {
        let state = PublicState {
            device: frame.device,
            sensor: "gate".into(),
            fix: frame.fix,
            received_ms: frame.received_ms,
            alarms: open.to_vec(),
        };
        let payload = postcard::to_stdvec(&state).unwrap();
        let slot = slot.unwrap_or_else(|| self.table.claim().unwrap());
        self.table.write(slot, &payload).unwrap();
        slot
    }

    pub fn request_resync(&mut self) {
        self.producer.as_mut().unwrap().request_resync();
    }

    /// No more records will come.
    pub fn close_ring(&mut self) {
        self.producer.take().expect("closed once").close();
    }

    /// The statistics page.
    pub fn page_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.page.as_fd()
    }

    /// Waits until a number of the statistics page is reached.
    pub fn wait_for(&self, metric: DispatcherMetric, at_least: u64) {
        let number = || stats::read(self.page.as_fd()).ok()?.number(metric);
        eventually(&format!("{metric:?} reaches {at_least}"), || {
            number() >= Some(at_least)
        });
    }

    /// The next trace record.
    pub fn trace(&mut self) -> TraceRecord {
        eventually("a trace record", || self.traces.available().unwrap() > 0);
        let (head, mut record) = (self.traces.head(), Vec::new());
        self.traces.read(head, &mut record).unwrap();
        self.traces.advance(head + 1);
        postcard::from_bytes(&record).unwrap()
    }
}

impl Dispatched {
    pub fn drain(&self) {
        self.control.send(&ToChild::Drain, &[]).unwrap();
    }

    /// Waits for its end.
    pub fn join(self) {
        eventually("the dispatcher's end", || self.thread.is_finished());
        self.thread.join().unwrap().unwrap();
    }

    /// Answer to a GET: status, head, body.
    pub fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        self.get_with(path, &format!("Host: {}\r\n", self.address))
    }

    pub fn get_with(&self, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        // HTTP/1.0, so that the body ends with the connection and never comes in chunks.
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n{headers}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (
            status,
            head.to_ascii_lowercase(),
            answer[end + 4..].to_vec(),
        )
    }

    pub fn get_json(&self, path: &str) -> Value {
        let (status, _, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// A subscriber, or the status that it was refused with.
    pub fn subscribe_from(&self, origin: Option<&str>) -> Result<Socket, u16> {
        let stream = TcpStream::connect(self.address).unwrap();
        web::subscribe_as(stream, &self.address.to_string(), origin)
    }

    pub fn subscribe(&self) -> Socket {
        self.subscribe_from(None).unwrap()
    }
}

/// The next JSON message; `None` once the other side closed.
pub fn hear(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

/// All tracks of the snapshot.
pub fn hear_snapshot(socket: &mut Socket) -> Vec<Value> {
    let mut tracks = Vec::new();
    loop {
        let message = hear(socket).expect("a snapshot comes before the end");
        assert_eq!(message["type"], "snapshot");
        tracks.extend(message["tracks"].as_array().unwrap().iter().cloned());
        if message["more"] == false {
            return tracks;
        }
    }
}

pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let give_up = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(
            std::time::Instant::now() < give_up,
            "waited in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since_1970.as_millis()).unwrap()
}

/// A good fix of a device on the quay of Monaco, just received.
pub fn frame(device: &str, time_ms: i64) -> Frame {
    Frame {
        trace: TraceHead {
            trace_id: 0,
            span_id: 1,
            t0_ns: monotonic_ns(),
            ..TraceHead::default()
        },
        device: DeviceId::new(device.as_bytes()).unwrap(),
        fix: Fix {
            time_ms,
            lat_e7: 437_340_000,
            lon_e7: 74_215_000,
            fields: FixFields(FixFields::POSITION | FixFields::TIME | FixFields::VALID),
            ..Fix::default()
        },
        held: Alarms::default(),
        momentary: Alarms::default(),
        flags: FrameFlags::default(),
        answer_index: 0,
        message_first_seq: 0,
        received_ms: now_ms(),
        digest: 0,
        attributes: Vec::new(),
    }
}

/// What the classifier would find in `frame`.
pub fn event(frame: &Frame, kind: AlarmKind, rule: &str, phase: Phase) -> Event {
    Event {
        id: EventId::derive(&frame.device, rule, frame.fix.time_ms as u64, phase),
        device: frame.device,
        kind,
        phase,
        severity: kind.severity(),
        late: false,
        rule: rule.into(),
        start_ms: frame.fix.time_ms,
        fix: frame.fix,
        received_ms: frame.received_ms,
        sensor: "gate".into(),
        trace: frame.trace,
        origin: None,
    }
}
