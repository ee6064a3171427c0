//! The process as its supervisor sees it: in a thread, over a real control channel.

use std::thread::JoinHandle;
use std::time::Instant;

use super::*;
use crate::classifier::testing::{fence, report, rules};
use crate::frame::{AlarmKind, Event, FRAME_BYTES_MAX, Frame, FrameFlags};
use crate::ring::{Geometry, Outcome, RingOwner};
use crate::{stats, table};

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(10);

struct Node {
    sensor: RingOwner,
    tracks: RingOwner,
    alarms: RingOwner,
    page: OwnedFd,
    control: Option<Channel>,
    classifier: Option<JoinHandle<Result<(), ClassifierError>>>,
}

fn ring(number: u32, birth: u64) -> RingOwner {
    let geometry = Geometry {
        slots: 64,
        stride: 512,
        answers: 64,
    };
    RingOwner::create(geometry, number, birth).unwrap()
}

fn assignment(owner: &RingOwner, purpose: Purpose, end: End) -> RingAssignment {
    let identity = owner.identity();
    RingAssignment {
        ring: identity.ring,
        birth: identity.birth,
        purpose,
        end,
        name: "gate".into(),
        geometry: identity.geometry,
    }
}

impl Node {
    fn start() -> Node {
        let (ours, theirs) = Channel::pair().unwrap();
        let (sensor, tracks, alarms) = (ring(7, 1), ring(1, 2), ring(2, 3));
        let page = stats::create().unwrap();
        let setup = Setup {
            rules: rules(),
            fences: vec![fence("yard", 1_000.0)],
            trace_one_in: 0,
            ranks: Vec::new(),
            restarted: false,
            stats: Stats::attach(page.as_fd(), "classifier", 0).unwrap(),
            table: table::create(16).unwrap(),
            rings: vec![
                (
                    assignment(&sensor, Purpose::Sensor, End::Consumer),
                    sensor.consumer_fds().unwrap(),
                ),
                (
                    assignment(&tracks, Purpose::Track, End::Producer),
                    tracks.producer_fds().unwrap(),
                ),
                (
                    assignment(&alarms, Purpose::Alarm, End::Producer),
                    alarms.producer_fds().unwrap(),
                ),
            ],
            snapshot: None,
            control: theirs,
        };
        let classifier = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(setup))
        });
        let (ready, _) = ours.recv::<FromChild>().unwrap().unwrap();
        assert!(matches!(ready, FromChild::Ready));
        Node {
            sensor,
            tracks,
            alarms,
            page,
            control: Some(ours),
            classifier: Some(classifier),
        }
    }

    fn control(&self) -> &Channel {
        self.control.as_ref().unwrap()
    }

    fn ended(mut self) -> Result<(), ClassifierError> {
        let classifier = self.classifier.take().unwrap();
        wait_until("the classifier ends", || classifier.is_finished());
        classifier.join().unwrap()
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::yield_now();
    }
}

/// Publishes one frame as a message that awaits its answer under word 3; its sequence.
fn publish(ingest: &mut Producer, mut frame: Frame) -> u64 {
    frame.message_first_seq = ingest.tail();
    frame.answer_index = 3;
    frame.flags.set(FrameFlags::AWAITS_ANSWER, true);
    let mut slot = [0; FRAME_BYTES_MAX];
    let (used, _) = frame.encode(&mut slot).unwrap();
    ingest.try_publish(&[&slot[..used]], false).unwrap()
}

#[test]
fn a_frame_is_woken_for_judged_and_answered_when_its_alarm_is_safe() {
    let node = Node::start();
    let mut ingest = Producer::attach(&node.sensor.producer_fds().unwrap()).unwrap();
    let mut uplink = Consumer::attach(&node.alarms.consumer_fds().unwrap()).unwrap();
    let mut dispatcher = Consumer::attach(&node.tracks.consumer_fds().unwrap()).unwrap();
    let quiet = publish(&mut ingest, report("1", 1_000));
    wait_until("the quiet message is accepted", || {
        ingest.outcome(3).outcome_of(quiet) == Outcome::Accepted
    });
    let mut frame = report("1", 2_000);
    frame.momentary = AlarmKind::Sos.into();
    frame.digest += 1;
    let loud = publish(&mut ingest, frame);
    wait_until("the alarm arrives", || uplink.available().unwrap() == 1);
    assert_eq!(ingest.outcome(3).outcome_of(loud), Outcome::Pending);
    let mut record = Vec::new();
    uplink.read(0, &mut record).unwrap();
    assert_eq!(Event::decode(&record).unwrap().kind, AlarmKind::Sos);
    uplink.set_outcome(0, 0, Outcome::Accepted);
    uplink.advance(1);
    uplink.wake_producer();
    wait_until("the loud message is accepted", || {
        ingest.outcome(3).outcome_of(loud) == Outcome::Accepted
    });
    assert_eq!(dispatcher.available().unwrap(), 3);
    let page = stats::read(node.page.as_fd()).unwrap();
    assert!(page.ready);
}

#[test]
fn a_drain_ends_when_the_rings_are_closed_and_empty_and_closes_the_outputs() {
    let node = Node::start();
    let mut ingest = Producer::attach(&node.sensor.producer_fds().unwrap()).unwrap();
    let uplink = Consumer::attach(&node.alarms.consumer_fds().unwrap()).unwrap();
    let mut dispatcher = Consumer::attach(&node.tracks.consumer_fds().unwrap()).unwrap();
    node.control().send(&ToChild::Drain, &[]).unwrap();
    publish(&mut ingest, report("1", 1_000));
    ingest.close();
    node.ended().unwrap();
    assert!(uplink.closed() && dispatcher.closed());
    assert_eq!(dispatcher.available().unwrap(), 1);
}

#[test]
fn a_supervisor_that_is_gone_is_an_order_to_end_though_a_ring_stays_open() {
    let mut node = Node::start();
    let dispatcher = Consumer::attach(&node.tracks.consumer_fds().unwrap()).unwrap();
    node.control = None;
    node.ended().unwrap();
    assert!(dispatcher.closed());
}

#[test]
fn a_ring_whose_producer_lies_is_reported_once_and_replaced() {
    let node = Node::start();
    let fds = node.sensor.producer_fds().unwrap();
    let raw = crate::sys::region::WriteRegion::map(fds.producer_region.as_fd(), 0).unwrap();
    // A tail far beyond the ring; where it stands is the ring's business, so every word is made one.
    for word in 0..64 {
        raw.store(word, 1 << 40, std::sync::atomic::Ordering::SeqCst);
    }
    node.sensor.ring_bells();
    let (message, _) = node.control().recv::<FromChild>().unwrap().unwrap();
    assert!(matches!(message, FromChild::Violation { ring: 7, .. }));
    let fresh = ring(7, 9);
    let message = ToChild::Ring(assignment(&fresh, Purpose::Sensor, End::Consumer));
    let fds = fresh.consumer_fds().unwrap();
    node.control().send(&message, &fds.as_fds()).unwrap();
    let mut ingest = Producer::attach(&fresh.producer_fds().unwrap()).unwrap();
    let first = publish(&mut ingest, report("1", 1_000));
    wait_until("the fresh ring is read", || {
        ingest.outcome(3).outcome_of(first) == Outcome::Accepted
    });
}

/// A classifier that is started while a ring is replaced gets the new one at its start, and is handed it once more.
#[test]
fn a_ring_that_is_handed_over_twice_goes_on_where_it_was() {
    let node = Node::start();
    let mut ingest = Producer::attach(&node.sensor.producer_fds().unwrap()).unwrap();
    let mut dispatcher = Consumer::attach(&node.tracks.consumer_fds().unwrap()).unwrap();
    for second in 1..=6 {
        let message = publish(&mut ingest, report("1", 1_000 * second));
        if second == 3 {
            let again = ToChild::Ring(assignment(&node.sensor, Purpose::Sensor, End::Consumer));
            let fds = node.sensor.consumer_fds().unwrap();
            node.control().send(&again, &fds.as_fds()).unwrap();
        }
        wait_until("the message is accepted", || {
            ingest.outcome(3).outcome_of(message) == Outcome::Accepted
        });
    }
    assert_eq!(dispatcher.available().unwrap(), 6, "each frame once");
}
