//! Claims about the uplink: the real process function on real rings, a real journal and a real mosquitto.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use device_sim::subscriber::{self, Seen};
use ringway::config::{Node, UplinkSettings};
use ringway::frame::{AlarmKind, DeviceId, Event, EventId, Fix, FixFields, Phase, TraceRecord};
use ringway::hop::{Hop, TraceHead};
use ringway::ring::{Consumer, Geometry, Outcome, Producer, RingOwner};
use ringway::role::{Assignment, Duty, End, FromChild, Purpose, RingAssignment, ToChild, exit};
use ringway::stats::{self, UplinkMetric};
use ringway::sys::control::Channel;
use ringway::sys::region::{self, ReadRegion};
use ringway::sys::start::Started;
use ringway::table::{self, PublicState, TableWriter};
use tempfile::TempDir;

use super::mosquitto::Mosquitto;

/// How long anything may take before a test gives up; far above what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

const SLOTS: u32 = 256;

const ALL_ALARMS: &str = "ringway/v1/site/node/alarm/#";

/// Everything around an uplink: what the supervisor, the classifier and the observer have of it.
struct Rig {
    folder: TempDir,
    settings: UplinkSettings,
    table: OwnedFd,
    page: OwnedFd,
    alarms: RingOwner,
    traces: RingOwner,
    producer: Producer,
    /// Events that have an outcome, in the order of the ring.
    settled: Vec<(EventId, Outcome)>,
    sent: Vec<EventId>,
}

/// An uplink that runs, in a thread of its own.
struct Running {
    thread: JoinHandle<i32>,
    control: Channel,
}

impl Rig {
    fn new(broker_port: Option<u16>) -> Rig {
        let geometry = |answers| Geometry {
            slots: SLOTS,
            stride: 512,
            answers,
        };
        let alarms = RingOwner::create(geometry(SLOTS), 7, 1).unwrap();
        let producer = Producer::attach(&alarms.producer_fds().unwrap()).unwrap();
        Rig {
            folder: tempfile::tempdir().unwrap(),
            settings: UplinkSettings {
                broker_host: broker_port.map(|_| "127.0.0.1".to_owned()),
                broker_port: broker_port.unwrap_or(1),
                client_id: "uplink-under-test".to_owned(),
                username: None,
                password_file: None,
                keep_alive_s: 5,
                window: 20,
                journal_bytes_max: 16 << 20,
                hold_without_subscriber: true,
            },
            table: table::create(16).unwrap(),
            page: stats::create().unwrap(),
            traces: RingOwner::create(geometry(0), 8, 2).unwrap(),
            alarms,
            producer,
            settled: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// What the supervisor makes anew when it is started again.
    fn next_run(&mut self) {
        let (identity, birth) = (self.alarms.identity(), self.alarms.identity().birth + 1);
        self.alarms = RingOwner::create(identity.geometry, identity.ring, birth).unwrap();
        self.producer = Producer::attach(&self.alarms.producer_fds().unwrap()).unwrap();
        self.table = table::create(16).unwrap();
        self.settled.clear();
        self.sent.clear();
    }

    /// What a classifier does with the states that it is handed.
    fn fill_table(&self, snapshot: Option<OwnedFd>) -> usize {
        let region = ReadRegion::map(snapshot.expect("states").as_fd(), 8).unwrap();
        let mut bytes = vec![0; region.len()];
        region.copy_out(0, &mut bytes);
        let table = TableWriter::attach(self.table.as_fd()).unwrap();
        let states = table::read_snapshot(&bytes).map(|payload| {
            let slot = table.claim().unwrap();
            table.write(slot, payload.unwrap()).unwrap();
        });
        states.count()
    }

    /// Starts an uplink and waits until it is ready; the snapshot that it handed back, if any.
    fn start(&self) -> (Running, Option<OwnedFd>) {
        let ring = |owner: &RingOwner, purpose, end| RingAssignment {
            ring: owner.identity().ring,
            birth: owner.identity().birth,
            purpose,
            end,
            name: "peer".to_owned(),
            geometry: owner.identity().geometry,
        };
        let (control, theirs) = Channel::pair().unwrap();
        self.traces.set_generation().unwrap();
        let started = Started {
            assignment: Assignment {
                node: Node {
                    site: "site".to_owned(),
                    name: "node".to_owned(),
                },
                instance: "uplink".to_owned(),
                restarts: 0,
                duty: Duty::Uplink {
                    settings: self.settings.clone(),
                    state_dir: self.folder.path().display().to_string(),
                },
            },
            lock: tempfile::tempfile().unwrap().into(),
            page: self.page.try_clone().unwrap(),
            fds: vec![region::read_only(self.table.as_fd()).unwrap()],
            rings: vec![
                (
                    ring(&self.alarms, Purpose::Alarm, End::Consumer),
                    self.alarms.consumer_fds().unwrap(),
                ),
                (
                    ring(&self.traces, Purpose::Trace, End::Producer),
                    self.traces.producer_fds().unwrap(),
                ),
            ],
            pages: Vec::new(),
            handed: Vec::new(),
            snapshot: None,
            control: theirs,
        };
        let thread = std::thread::spawn(move || ringway::uplink::run(started));
        let mut snapshot = None;
        loop {
            match control.recv::<FromChild>().unwrap() {
                Some((FromChild::Ready, _)) => break,
                Some((FromChild::Snapshot { .. }, fds)) => snapshot = fds.into_iter().next(),
                other => panic!("the uplink said {other:?} before it was ready"),
            }
        }
        (Running { thread, control }, snapshot)
    }

    /// Writes events to the ring, and waits for room.
    fn send(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.sent.push(event.id);
            let mut record = [0; 480];
            let length = event.encode(&mut record).unwrap();
            wait_for("room in the alarm ring", || {
                self.settle();
                let pending = self.sent.len() as u64 - 1 - self.settled.len() as u64;
                let free = pending < u64::from(SLOTS);
                (free
                    && self
                        .producer
                        .try_publish(&[&record[..length]], true)
                        .is_ok())
                .then_some(())
            });
        }
    }

    /// Collects the outcomes that are there.
    fn settle(&mut self) {
        while self.settled.len() < self.sent.len() {
            let seq = self.settled.len() as u64;
            let index = (seq & u64::from(SLOTS - 1)) as u32;
            match self.producer.outcome(index).outcome_of(seq) {
                Outcome::Pending => break,
                outcome => self.settled.push((self.sent[seq as usize], outcome)),
            }
        }
    }

    /// Waits until everything sent has its outcome.
    fn settle_all(&mut self) {
        wait_for("all outcomes", || {
            self.settle();
            (self.settled.len() == self.sent.len()).then_some(())
        });
    }

    fn accepted(&self) -> HashSet<String> {
        let accepted = self
            .settled
            .iter()
            .filter(|(_, outcome)| *outcome == Outcome::Accepted);
        accepted.map(|(id, _)| id.to_string()).collect()
    }

    fn metric(&self, metric: UplinkMetric) -> u64 {
        stats::read(self.page.as_fd())
            .unwrap()
            .number(metric)
            .unwrap()
    }

    /// Waits until a figure is what it has to be: it is written after what it counts can be seen.
    fn counted(&self, metric: UplinkMetric, expected: impl Fn(u64) -> bool) {
        wait_for("a figure", || expected(self.metric(metric)).then_some(()));
    }

    fn traces(&self) -> Vec<TraceRecord> {
        let mut consumer = Consumer::attach(&self.traces.consumer_fds().unwrap()).unwrap();
        let mut record = Vec::new();
        let mut found = Vec::new();
        let count = consumer.available().unwrap();
        for seq in consumer.head()..consumer.head() + count {
            consumer.read(seq, &mut record).unwrap();
            found.push(postcard::from_bytes(&record).unwrap());
        }
        consumer.advance(consumer.tail());
        found
    }
}

impl Running {
    /// Drains it as the supervisor does once the classifier has ended; the exit code.
    fn drain(self, rig: &Rig) -> i32 {
        rig.alarms.close();
        self.end()
    }

    fn end(self) -> i32 {
        self.control.send(&ToChild::Drain, &[]).unwrap();
        self.thread.join().unwrap()
    }
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Alarm `n` of the test, of one of seven devices.
fn alarm(n: u64) -> Event {
    let device = DeviceId::new(format!("truck-{}", n % 7).as_bytes()).unwrap();
    let (kind, phase) = (AlarmKind::Overspeed, Phase::Raise);
    let start_ms = 1_700_000_000_000 + n as i64;
    let mut trace = TraceHead {
        trace_id: u128::from(n) + 1,
        span_id: n + 1,
        t0_ns: ringway::sys::clock::monotonic_ns(),
        ..TraceHead::default()
    };
    trace.stamp(Hop::Decoded, trace.t0_ns);
    Event {
        id: EventId::of_alarm(&device, kind, "overspeed", start_ms as u64, phase),
        device,
        kind,
        phase,
        severity: kind.severity(),
        late: false,
        rule: "overspeed".to_owned(),
        start_ms,
        fix: Fix {
            time_ms: start_ms,
            lat_e7: 480_000_000,
            lon_e7: 110_000_000,
            fields: FixFields(FixFields::TIME | FixFields::POSITION),
            ..Fix::default()
        },
        received_ms: start_ms + 20,
        sensor: "trackers".to_owned(),
        trace,
        origin: None,
    }
}

/// A subscriber and what it got.
struct Cloud {
    seen: mpsc::Receiver<Seen>,
    payloads: Vec<serde_json::Value>,
}

impl Cloud {
    /// Subscribes, and waits until the broker has confirmed it.
    fn subscribe(broker: &Mosquitto) -> Cloud {
        let (tell, seen) = mpsc::channel();
        let url = broker.url();
        // It ends with the test's process.
        std::thread::spawn(move || follow(&url, &tell));
        let payloads = Vec::new();
        let mut cloud = Cloud { seen, payloads };
        while !matches!(cloud.next(), Seen::Connected) {}
        cloud
    }

    fn next(&mut self) -> Seen {
        self.seen
            .recv_timeout(DEADLINE)
            .expect("something is seen in time")
    }

    /// Waits until all of `ids` have come.
    fn receive(&mut self, ids: &HashSet<String>) {
        while !self.ids().is_superset(ids) {
            match self.next() {
                Seen::Alarm { payload, .. } => self.payloads.push(payload),
                Seen::Unreadable { what } => panic!("{what}"),
                _ => {}
            }
        }
    }

    fn ids(&self) -> HashSet<String> {
        self.payloads
            .iter()
            .map(|payload| payload["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The first time that each alarm came must follow the order of the journal, device by device.
    fn assert_ordered(&self) {
        let mut last: HashMap<&str, u64> = HashMap::new();
        let mut met = HashSet::new();
        for payload in &self.payloads {
            let seq = payload["seq"].as_u64().unwrap();
            if met.insert(seq) {
                let before = last.insert(payload["device"].as_str().unwrap(), seq);
                assert!(before < Some(seq), "{seq} came after {before:?}");
            }
        }
    }
}

/// Subscribes for ever, on a thread that it has for itself.
fn follow(url: &str, tell: &mpsc::Sender<Seen>) {
    let (tx, mut rx) = tokio::sync::mpsc::channel(1_000);
    let pass_on = async {
        while let Some(seen) = rx.recv().await {
            if tell.send(seen).is_err() {
                return;
            }
        }
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            tokio::select! {
                ended = subscriber::alarms(url, ALL_ALARMS, tx) => ended.unwrap(),
                () = pass_on => {}
            }
        });
}

/// The retained status, as somebody reads it who comes later.
fn retained_status(broker: &Mosquitto) -> serde_json::Value {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{Client, Event, MqttOptions};
    let (client, mut connection) =
        Client::new(MqttOptions::new("reader", "127.0.0.1", broker.port()), 4);
    client
        .subscribe("ringway/v1/site/node/status", QoS::AtLeastOnce)
        .unwrap();
    loop {
        let event = connection
            .recv_timeout(DEADLINE)
            .expect("a status is retained");
        if let Event::Incoming(Packet::Publish(publish)) = event.expect("the broker answers") {
            assert!(publish.retain);
            return serde_json::from_slice(&publish.payload).unwrap();
        }
    }
}

#[test]
fn alarms_reach_a_subscriber_whatever_happens_to_broker_and_connection() {
    let Some(mut broker) = Mosquitto::prepare("alarms through broker kills") else {
        return;
    };
    broker.start();
    let mut cloud = Cloud::subscribe(&broker);
    let mut rig = Rig::new(Some(broker.port()));
    let (uplink, _) = rig.start();

    rig.send((0..400).map(alarm));
    rig.settle_all();
    cloud.receive(&rig.accepted());
    let status = retained_status(&broker);
    assert_eq!(status["state"], "online");

    // Killed between messages: mosquitto acknowledges what it only holds in memory.
    broker.kill();
    rig.send((400..800).map(alarm));
    rig.settle_all();
    broker.start();
    cloud.receive(&rig.accepted());

    // Somebody takes our client id in the middle of the stream; the broker closes our connection.
    let before = rig.metric(UplinkMetric::Reconnects);
    for round in 0..3 {
        rig.send((800 + 400 * round..1200 + 400 * round).map(alarm));
        let mut options =
            rumqttc::v5::MqttOptions::new("uplink-under-test", "127.0.0.1", broker.port());
        options.set_clean_start(true);
        let (_thief, mut connection) = rumqttc::v5::Client::new(options, 1);
        let _ = connection.recv_timeout(DEADLINE);
    }
    rig.settle_all();
    assert!(
        rig.settled
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Accepted)
    );
    cloud.receive(&rig.accepted());
    cloud.assert_ordered();
    assert_eq!(cloud.ids(), rig.accepted(), "nothing was invented");
    rig.counted(UplinkMetric::Reconnects, |count| count > before);

    wait_for("an empty journal", || {
        (rig.metric(UplinkMetric::JournalRecords) == 0).then_some(())
    });
    assert_eq!(uplink.drain(&rig), exit::OK);
    let status = retained_status(&broker);
    assert_eq!(
        (&status["state"], &status["clean"]),
        (&"offline".into(), &true.into())
    );
}

#[test]
fn an_alarm_is_safe_without_a_broker_and_travels_after_a_restart_with_its_trace() {
    let Some(mut broker) = Mosquitto::prepare("alarms after a restart") else {
        return;
    };
    let mut rig = Rig::new(Some(broker.port()));
    let table = TableWriter::attach(rig.table.as_fd()).unwrap();
    let slot = table.claim().unwrap();
    let known = PublicState {
        device: alarm(0).device,
        sensor: "trackers".to_owned(),
        fix: alarm(0).fix,
        received_ms: 1,
        alarms: Vec::new(),
    };
    let mut payload = postcard::to_stdvec(&known).unwrap();
    // The classifier's own part.
    payload.extend([1, 2, 3]);
    table.write(slot, &payload).unwrap();

    let (uplink, snapshot) = rig.start();
    assert!(snapshot.is_none());
    rig.send((0..50).map(alarm));
    rig.settle_all();
    assert_eq!(rig.accepted().len(), 50);
    let journalled = rig.traces();
    assert_eq!(journalled.len(), 50);
    for record in journalled {
        assert!(
            matches!(record, TraceRecord::Journalled { head, .. } if head.at_ns(Hop::Done).is_some())
        );
    }
    // The classifier lives on: the ring is not closed, and the drain does not wait for it for ever.
    assert_eq!(uplink.end(), exit::OK);

    broker.start();
    let mut cloud = Cloud::subscribe(&broker);
    let (uplink, snapshot) = rig.start();
    let region = ReadRegion::map(snapshot.expect("there is a snapshot").as_fd(), 8).unwrap();
    let mut bytes = vec![0; region.len()];
    region.copy_out(0, &mut bytes);
    let states: Vec<PublicState> = table::read_snapshot(&bytes)
        .map(|payload| PublicState::decode(payload.unwrap()).unwrap())
        .collect();
    // Seven devices have an open alarm of this rule, one of them was in the table.
    assert_eq!(states.len(), 7);
    assert!(states.iter().all(|state| state.alarms.len() == 1));

    // What the classifier sends again after a crash is safe already, and makes no second record.
    rig.send((0..50).map(alarm));
    rig.settle_all();
    cloud.receive(&rig.accepted());
    cloud.assert_ordered();
    wait_for("an empty journal", || {
        (rig.metric(UplinkMetric::JournalRecords) == 0).then_some(())
    });
    rig.counted(UplinkMetric::Repeated, |count| count == 50);
    rig.counted(UplinkMetric::Accepted, |count| count == 50);
    assert_eq!(uplink.drain(&rig), exit::OK);
    let confirmed: Vec<u128> = rig
        .traces()
        .into_iter()
        .map(|record| match record {
            TraceRecord::Confirmed {
                head,
                sent_unix_ns,
                confirmed_unix_ns,
                attempts,
                ..
            } => {
                assert!(confirmed_unix_ns >= sent_unix_ns && attempts >= 1);
                head.trace_id
            }
            other => panic!("only confirmations were expected, not {other:?}"),
        })
        .collect();
    assert_eq!(confirmed.len(), 50);
    for payload in &cloud.payloads {
        let trace = u128::from_str_radix(payload["trace_id"].as_str().unwrap(), 16).unwrap();
        assert!(confirmed.contains(&trace));
        let parent = payload["traceparent"].as_str().unwrap();
        assert!(parent.starts_with(&format!("00-{trace:032x}-")));
    }
}

#[test]
fn open_alarms_are_sent_again_after_a_run_that_did_not_end_in_order_and_not_after_one_that_did() {
    let Some(mut broker) = Mosquitto::prepare("open alarms after a crash") else {
        return;
    };
    broker.start();
    let mut cloud = Cloud::subscribe(&broker);
    let mut rig = Rig::new(Some(broker.port()));
    // A device that nothing but the snapshot knows.
    let quiet = PublicState {
        device: DeviceId::new(b"quiet").unwrap(),
        sensor: "trackers".to_owned(),
        fix: alarm(0).fix,
        received_ms: 1,
        alarms: Vec::new(),
    };
    let table = TableWriter::attach(rig.table.as_fd()).unwrap();
    let slot = table.claim().unwrap();
    let payload = postcard::to_stdvec(&quiet).unwrap();
    table.write(slot, &payload).unwrap();
    let (uplink, _) = rig.start();
    rig.send((0..20).map(alarm));
    rig.settle_all();
    let sent = rig.accepted();
    cloud.receive(&sent);
    assert_eq!(uplink.drain(&rig), exit::OK);
    // As a power cut leaves it.
    let journal = rusqlite::Connection::open(rig.folder.path().join("journal.db")).unwrap();
    let removed = journal.execute("DELETE FROM meta WHERE key = 'ended'", []);
    assert_eq!(removed, Ok(1));
    drop(journal);

    rig.next_run();
    cloud.payloads.clear();
    let (uplink, states) = rig.start();
    assert_eq!(rig.fill_table(states), 8);
    // Seven devices have one open alarm each of this rule: the last that was raised.
    let open: HashSet<String> = (13..20).map(|n| alarm(n).id.to_string()).collect();
    cloud.receive(&open);
    assert_eq!(cloud.ids(), open);
    wait_for("an empty journal", || {
        (rig.metric(UplinkMetric::JournalRecords) == 0).then_some(())
    });
    assert_eq!(uplink.drain(&rig), exit::OK);

    // Killed before its classifier had the states: they are not overwritten by a table without them, and nothing of the
    // end before is undone.
    rig.next_run();
    let (uplink, _) = rig.start();
    assert_eq!(uplink.drain(&rig), exit::OK);

    rig.next_run();
    cloud.payloads.clear();
    let (uplink, states) = rig.start();
    assert_eq!(rig.fill_table(states), 8);
    rig.send([alarm(100)]);
    rig.settle_all();
    cloud.receive(&rig.accepted());
    assert_eq!(cloud.ids(), rig.accepted(), "nothing but what is new");
    assert_eq!(uplink.drain(&rig), exit::OK);
}

#[test]
fn a_full_journal_refuses_at_once_and_a_bad_record_stops_nobody() {
    let mut rig = Rig::new(None);
    rig.settings.journal_bytes_max = 1 << 20;
    let (uplink, _) = rig.start();
    let mut n = 0;
    while rig
        .settled
        .iter()
        .all(|(_, outcome)| *outcome == Outcome::Accepted)
    {
        rig.send((n..n + 200).map(alarm));
        rig.settle_all();
        n += 200;
        assert!(n < 20_000, "a megabyte does not hold this");
    }
    rig.counted(UplinkMetric::RefusedFull, |count| count > 0);
    rig.counted(UplinkMetric::Degraded, |gauge| gauge == 1);

    rig.sent.push(EventId([0; 16]));
    wait_for("room", || {
        rig.producer.try_publish(&[b"no event"], true).ok()
    });
    // What is in the journal is still known.
    rig.send([alarm(0)]);
    rig.settle_all();
    let last: Vec<Outcome> = rig.settled[rig.settled.len() - 2..]
        .iter()
        .map(|s| s.1)
        .collect();
    assert_eq!(last, [Outcome::Refused, Outcome::Accepted]);
    rig.counted(UplinkMetric::RefusedBadRecord, |count| count == 1);
    let accepted = rig.accepted().len() as u64;
    rig.counted(UplinkMetric::JournalRecords, |count| count == accepted);
    assert_eq!(uplink.drain(&rig), exit::OK);
}
