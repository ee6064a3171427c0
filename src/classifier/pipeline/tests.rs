//! The stages against real rings and a real table, with an ingest, an uplink and devices played by the test. A killed
//! classifier is a pipeline dropped after a stage: what it had in private is gone, what it had shared is there.

mod receivers;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;

use super::*;
use crate::classifier::hygiene::SEEN_REPORTS_MAX;
use crate::classifier::testing::{fence, report, report_at, rules, with_digest};
use crate::frame::{AlarmKind, Alarms, Event, EventId, FRAME_BYTES_MAX, FrameFlags, Phase};
use crate::ring::{Geometry, RingOwner};
use crate::stats;
use crate::table::{self, PublicState, TableReader, TableWriter};

const ANSWERS: u32 = 64;

/// Stages after which a classifier can be killed, in order; 7 is a whole turn.
const STAGES: u32 = 8;

/// The supervisor's objects and the other processes.
struct Rig {
    sensor: RingOwner,
    tracks: RingOwner,
    alarms: RingOwner,
    table: OwnedFd,
    page: OwnedFd,
    ingest: Producer,
    dispatcher: Consumer,
    uplink: Consumer,
    /// What the uplink accepted, in order, repeats left out.
    journal: Vec<Event>,
    /// Records that the uplink took, repeats and refusals counted too.
    records: usize,
    next_index: u32,
    restarts: u32,
}

impl Rig {
    fn new(alarm_slots: u32, track_slots: u32) -> Rig {
        let ring = |slots, answers, number| {
            let geometry = Geometry {
                slots,
                stride: 512,
                answers,
            };
            RingOwner::create(geometry, number, 100).unwrap()
        };
        let sensor = ring(1024, ANSWERS, 7);
        let tracks = ring(track_slots, 0, 1);
        let alarms = ring(alarm_slots, alarm_slots, 2);
        Rig {
            ingest: Producer::attach(&sensor.producer_fds().unwrap()).unwrap(),
            dispatcher: Consumer::attach(&tracks.consumer_fds().unwrap()).unwrap(),
            uplink: Consumer::attach(&alarms.consumer_fds().unwrap()).unwrap(),
            table: table::create(64).unwrap(),
            page: stats::create().unwrap(),
            sensor,
            tracks,
            alarms,
            journal: Vec::new(),
            records: 0,
            next_index: 0,
            restarts: 0,
        }
    }

    /// Starts a classifier, the first or one after another died.
    fn start(&mut self) -> Pipeline {
        if self.restarts > 0 {
            self.tracks.set_generation().unwrap();
            self.alarms.set_generation().unwrap();
        }
        let table = TableWriter::attach(self.table.as_fd()).unwrap();
        let (fleet, damaged) = Fleet::attach(table);
        assert_eq!(damaged, 0);
        let mut pipeline = Pipeline::new(Parts {
            rules: RuleSet::new(&rules(), &[fence("yard", 1_000.0)]),
            trace_one_in: 2,
            tracks: Producer::attach(&self.tracks.producer_fds().unwrap()).unwrap(),
            alarms: Producer::attach(&self.alarms.producer_fds().unwrap()).unwrap(),
            fleet,
            stats: Stats::attach(self.page.as_fd(), "classifier", 0).unwrap(),
            clock: || 1_000_000,
        });
        let consumer = Consumer::attach(&self.sensor.consumer_fds().unwrap()).unwrap();
        pipeline.add_sensor("gate", 1, consumer, self.restarts > 0);
        pipeline.resume(self.restarts > 0);
        self.restarts += 1;
        pipeline
    }

    /// Publishes a message; gives what finds its answer. `answered`: whether the device waits for one.
    fn message(&mut self, frames: &[Frame], answered: bool) -> (u32, u64) {
        let first = self.ingest.tail();
        let index = self.next_index;
        self.next_index = (self.next_index + 1) % ANSWERS;
        let mut slots = vec![[0; FRAME_BYTES_MAX]; frames.len()];
        let mut records = Vec::new();
        for (at, (frame, slot)) in frames.iter().zip(&mut slots).enumerate() {
            let mut frame = frame.clone();
            frame.message_first_seq = first;
            frame.answer_index = index;
            frame.flags.set(FrameFlags::AWAITS_ANSWER, answered);
            frame
                .flags
                .set(FrameFlags::MESSAGE_END, at + 1 == frames.len());
            let (used, _) = frame.encode(slot).unwrap();
            records.push(&slot[..used]);
        }
        self.ingest.try_publish(&records, false).unwrap();
        (index, first)
    }

    fn answer(&self, (index, first_seq): (u32, u64)) -> Outcome {
        self.ingest.outcome(index).outcome_of(first_seq)
    }

    /// The uplink takes up to `count` records and says of each what `accepts` says. A record of an event that it has
    /// already is accepted without a second entry.
    fn uplink(&mut self, count: u64, mut accepts: impl FnMut(&Event) -> bool) {
        let slots = u64::from(self.alarms.identity().geometry.slots);
        let available = self.uplink.available().unwrap().min(count);
        let mut record = Vec::new();
        for seq in self.uplink.head()..self.uplink.head() + available {
            self.uplink.read(seq, &mut record).unwrap();
            let event = Event::decode(&record).unwrap();
            self.records += 1;
            let known = self.journal.iter().any(|e| e.id == event.id);
            let accepted = known || accepts(&event);
            if accepted && !known {
                self.journal.push(event);
            }
            let outcome = if accepted {
                Outcome::Accepted
            } else {
                Outcome::Refused
            };
            self.uplink.set_outcome((seq % slots) as u32, seq, outcome);
            self.uplink.advance(seq + 1);
        }
    }

    /// What the dispatcher was sent since: tracks and events.
    fn dispatched(&mut self) -> (Vec<Frame>, Vec<Event>) {
        let (mut tracks, mut events) = (Vec::new(), Vec::new());
        let available = self.dispatcher.available().unwrap();
        let head = self.dispatcher.head();
        let mut record = Vec::new();
        for seq in head..head + available {
            self.dispatcher.read(seq, &mut record).unwrap();
            match record[0] {
                0 => tracks.push(Frame::decode(&record[1..]).unwrap()),
                1 => events.push(Event::decode(&record[1..]).unwrap()),
                other => panic!("unknown record {other}"),
            }
        }
        self.dispatcher.advance(head + available);
        (tracks, events)
    }

    fn public(&self, device: &str) -> PublicState {
        let reader = TableReader::attach(self.table.as_fd()).unwrap();
        let mut payload = Vec::new();
        (0..reader.used())
            .filter_map(|slot| {
                let written = reader.read(slot, &mut payload).unwrap();
                written.then(|| PublicState::decode(&payload).unwrap())
            })
            .find(|state| state.device.as_str() == device)
            .expect("the device is in the table")
    }

    fn count(&self, metric: Metric) -> u64 {
        stats::read(self.page.as_fd())
            .unwrap()
            .number(metric)
            .unwrap()
    }
}

/// Passes one batch and stops after `stage`; whether the classifier is to be taken as killed there.
fn batch_until(pipeline: &mut Pipeline, stage: u32) -> bool {
    let stages: [&dyn Fn(&mut Pipeline); 6] = [
        &|p| p.judge(0),
        &|p| p.commit_outputs(0),
        &|p| p.refuse(0),
        &|p| p.switch_states(),
        &|p| p.accept(0),
        &|p| p.free(0),
    ];
    if !pipeline.take(0) {
        return false;
    }
    for (at, run) in stages.iter().enumerate() {
        if at as u32 == stage {
            return true;
        }
        run(pipeline);
    }
    stage == 6
}

/// Passes outcomes and stops after so many; whether the classifier is to be taken as killed there.
fn outcomes_until(pipeline: &mut Pipeline, count: usize) -> bool {
    let known = pipeline.gather_outcomes();
    (0..known.min(count)).for_each(|at| pipeline.pass_on(at));
    if known > count {
        return true;
    }
    pipeline.release_records();
    false
}

fn sos(device: &str, time_ms: i64) -> Frame {
    let mut frame = report(device, time_ms);
    frame.momentary = AlarmKind::Sos.into();
    with_digest(frame)
}

fn sos_id(frame: &Frame) -> EventId {
    EventId::derive(&frame.device, "sos/device", frame.digest, Phase::Raise)
}

#[test]
fn a_message_that_raises_nothing_is_accepted_after_the_switch_and_before_its_slots_are_free() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let message = rig.message(&[report("1", 1_000)], true);
    assert!(pipeline.take(0));
    pipeline.judge(0);
    pipeline.commit_outputs(0);
    pipeline.refuse(0);
    pipeline.switch_states();
    assert_eq!(rig.public("1").fix.time_ms, 1_000);
    assert_eq!(rig.answer(message), Outcome::Pending);
    pipeline.accept(0);
    assert_eq!(rig.answer(message), Outcome::Accepted);
    assert_eq!(rig.sensor.head(), 0);
    pipeline.free(0);
    assert_eq!(rig.sensor.head(), 1);
}

#[test]
fn a_message_is_accepted_when_all_of_its_events_are() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let mut both = report("1", 1_000);
    both.held = AlarmKind::PowerCut.into();
    both.momentary = AlarmKind::Sos.into();
    let message = rig.message(&[with_digest(both)], true);
    pipeline.turn();
    assert_eq!(rig.answer(message), Outcome::Pending);
    rig.uplink(1, |_| true);
    pipeline.turn();
    assert_eq!(rig.answer(message), Outcome::Pending);
    rig.uplink(1, |_| true);
    pipeline.turn();
    assert_eq!(rig.answer(message), Outcome::Accepted);
    assert_eq!(rig.journal[0].origin.unwrap().first_seq, message.1);
    assert_eq!(rig.count(Metric::EventsOwed), 0);
}

#[test]
fn a_refused_event_refuses_its_message_and_stays_owed() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let frame = sos("1", 1_000);
    let message = rig.message(std::slice::from_ref(&frame), true);
    pipeline.turn();
    rig.uplink(1, |_| false);
    pipeline.turn();
    assert_eq!(rig.answer(message), Outcome::Refused);
    assert_eq!(rig.count(Metric::EventsOwed), 1);
    // The device sends it again: nothing is raised anew, and the answer waits for what is owed.
    let again = rig.message(&[frame], true);
    pipeline.turn();
    assert_eq!(rig.answer(again), Outcome::Pending);
    rig.uplink(1, |_| true);
    pipeline.turn();
    assert_eq!(rig.answer(again), Outcome::Accepted);
    assert_eq!((rig.journal.len(), rig.records), (1, 2));
}

#[test]
fn what_is_owed_is_sent_again_without_its_frame() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    rig.message(&[sos("1", 1_000)], true);
    pipeline.turn();
    pipeline.emit_owed();
    assert_eq!(rig.alarms.tail(), 1, "it is on its way");
    rig.uplink(1, |_| false);
    pipeline.turn();
    pipeline.emit_owed();
    pipeline.emit_owed();
    assert_eq!(rig.alarms.tail(), 2, "once, until the outcome is known");
    rig.uplink(1, |_| true);
    pipeline.turn();
    pipeline.emit_owed();
    assert_eq!((rig.alarms.tail(), rig.journal.len()), (2, 1));
}

#[test]
fn a_new_message_waits_only_for_what_it_raises() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let first = rig.message(&[sos("1", 1_000)], true);
    pipeline.turn();
    let second = rig.message(&[sos("1", 2_000)], true);
    pipeline.turn();
    assert_eq!(rig.answer(first), Outcome::Pending);
    assert_eq!(rig.answer(second), Outcome::Accepted);
}

/// The uplink died with the supervisor while a press of a button was on its way. Its release was answered meanwhile and,
/// as every state, forgotten. The device sent the press again, then a second one, which looked like the first still
/// going on: it raised nothing, and was answered.
#[test]
fn a_release_is_not_answered_before_its_press_is_decided() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let first = [sos("1", 1_000), report("1", 2_000), report("1", 3_000)];
    let sent = first.clone().map(|frame| rig.message(&[frame], true));
    pipeline.turn();
    let answers = sent.map(|message| rig.answer(message));
    use Outcome::{Accepted, Pending};
    assert_eq!(answers, [Pending, Pending, Accepted]);

    // The states are lost, and what was not answered comes again.
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let unanswered = first.into_iter().zip(answers);
    let unanswered = unanswered.filter(|(_, answer)| *answer == Pending);
    for frame in unanswered.map(|(frame, _)| frame).chain([sos("1", 4_000)]) {
        rig.message(&[frame], true);
    }
    pipeline.turn();
    rig.uplink(9, |_| true);
    let raised: Vec<i64> = rig.journal.iter().map(|event| event.start_ms).collect();
    assert_eq!(raised, [1_000, 4_000]);
}

#[test]
fn a_release_is_answered_when_its_press_was_refused() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let press = rig.message(&[sos("1", 1_000)], true);
    let release = rig.message(&[report("1", 2_000)], true);
    pipeline.turn();
    rig.uplink(9, |_| false);
    pipeline.turn();
    let answers = [press, release].map(|message| rig.answer(message));
    assert_eq!(answers, [Outcome::Refused, Outcome::Accepted]);
}

#[test]
fn a_report_resent_after_the_window_of_digests_waits_for_what_is_owed() {
    let mut rig = Rig::new(64, 64);
    let mut pipeline = rig.start();
    let frame = sos("1", 1_000);
    rig.message(std::slice::from_ref(&frame), true);
    pipeline.turn();
    for second in 2..40 {
        let message = rig.message(&[report("1", 1_000 * second)], true);
        pipeline.turn();
        // The first one is the release, which waits by itself.
        let waits = if second == 2 {
            Outcome::Pending
        } else {
            Outcome::Accepted
        };
        assert_eq!(rig.answer(message), waits);
    }
    let again = rig.message(&[frame], true);
    pipeline.turn();
    assert_eq!(rig.answer(again), Outcome::Pending);
    rig.uplink(9, |_| true);
    pipeline.turn();
    assert_eq!(rig.answer(again), Outcome::Accepted);
}

#[test]
fn a_full_alarm_ring_refuses_and_lets_tracks_go_on() {
    let mut rig = Rig::new(2, 64);
    let mut pipeline = rig.start();
    let messages: Vec<_> = (1..=4)
        .map(|n| rig.message(&[sos(&n.to_string(), 1_000)], true))
        .collect();
    pipeline.turn();
    let answers: Vec<Outcome> = messages.iter().map(|m| rig.answer(*m)).collect();
    use Outcome::{Pending, Refused};
    assert_eq!(answers, [Pending, Pending, Refused, Refused]);
    assert_eq!(rig.dispatched().0.len(), 4);
    assert_eq!(rig.count(Metric::AlarmRingFull), 2);
    // What was refused is owed, and found its way once there is room.
    rig.uplink(2, |_| true);
    pipeline.turn();
    pipeline.emit_owed();
    rig.uplink(2, |_| true);
    assert_eq!(rig.journal.len(), 4);
}

#[test]
fn a_slot_of_the_alarm_ring_is_kept_until_its_outcome_was_passed_on() {
    let mut rig = Rig::new(2, 64);
    let mut pipeline = rig.start();
    let first = rig.message(&[sos("1", 1_000), sos("2", 1_000)], true);
    pipeline.turn();
    rig.uplink(2, |_| true);
    // The head has passed both, but nobody has heard of it: a batch finds the ring full.
    let third = rig.message(&[sos("3", 1_000)], true);
    batch_until(&mut pipeline, STAGES);
    assert_eq!(rig.answer(third), Outcome::Refused);
    drop(pipeline);
    let mut pipeline = rig.start();
    assert_eq!(rig.answer(first), Outcome::Accepted);
    pipeline.turn();
}

#[test]
fn an_event_without_room_is_not_applied_and_judged_anew_when_sent_again() {
    let mut rig = Rig::new(64, 64);
    let mut pipeline = rig.start();
    let mut held = Alarms::default();
    let kinds = [
        AlarmKind::PowerCut,
        AlarmKind::GnssFault,
        AlarmKind::PowerLow,
    ];
    for (at, kind) in kinds.into_iter().enumerate() {
        held.insert(kind);
        let mut frame = report("1", 1_000 * (at as i64 + 1));
        frame.held = held;
        rig.message(&[with_digest(frame)], true);
    }
    let gone = report("1", 9_000);
    let refused = rig.message(std::slice::from_ref(&gone), true);
    pipeline.turn();
    assert_eq!(rig.answer(refused), Outcome::Refused);
    assert_eq!(rig.count(Metric::RejectedNotApplied), 1);
    assert_eq!(rig.public("1").alarms.len(), 3);
    assert_eq!(rig.public("1").fix.time_ms, 3_000);
    rig.uplink(9, |_| true);
    pipeline.turn();
    let again = rig.message(&[gone], true);
    pipeline.turn();
    rig.uplink(9, |_| true);
    pipeline.turn();
    assert_eq!(rig.answer(again), Outcome::Accepted);
    assert_eq!(rig.public("1").alarms.len(), 0);
    assert_eq!(rig.journal.len(), 6);
}

/// The uplink was silent while a device came to owe as much as it may. The report with which it entered a fence was
/// refused, the one with which it left raised nothing and was applied. When the first one came again it was late: its
/// alarm was raised, and never cleared.
#[test]
fn what_comes_after_a_report_without_room_waits_for_it() {
    for killed in [false, true] {
        let mut rig = Rig::new(64, 64);
        let mut pipeline = rig.start();
        pipeline.patience = Patience::none();
        for second in 1..=4 {
            rig.message(&[sos("1", 2_000 * second)], true);
            rig.message(&[report("1", 2_000 * second + 1_000)], true);
        }
        let course = [report_at("1", 60_000, 1_000.0, 0), report("1", 120_000)];
        let entering = rig.message(&course[..1], true);
        pipeline.turn();
        assert_eq!(rig.answer(entering), Outcome::Refused);
        if killed {
            pipeline = rig.start();
            pipeline.patience = Patience::none();
        }
        let leaving = rig.message(&course[1..], true);
        let other = rig.message(&[report("2", 120_000)], true);
        pipeline.turn();
        assert_eq!(rig.answer(leaving), Outcome::Refused);
        assert_eq!(rig.public("1").fix.time_ms, 120_000, "the track goes on");
        assert_eq!(rig.answer(other), Outcome::Accepted);
        rig.uplink(9, |_| true);
        pipeline.turn();
        let sent = course.map(|frame| rig.message(&[frame], true));
        pipeline.turn();
        rig.uplink(9, |_| true);
        pipeline.turn();
        assert_eq!(sent.map(|m| rig.answer(m)), [Outcome::Accepted; 2]);
        let fence = rig.journal.iter().skip(4).map(|e| (e.phase, e.late));
        let expected = [(Phase::Raise, false), (Phase::Clear, false)];
        assert_eq!(fence.collect::<Vec<_>>(), expected);
    }
}

/// A classifier died while a message of which a part was sent waited for room. Its successor knew the part from the alarm
/// ring, took it for the whole, and accepted the message before the rest of it was judged.
#[test]
fn a_part_of_a_message_that_was_sent_does_not_answer_it() {
    let mut rig = Rig::new(64, 64);
    let mut pipeline = rig.start();
    let frames: Vec<Frame> = (1..=6)
        .map(|second| {
            let mut frame = report("1", 1_000 * second);
            if second % 2 == 1 {
                frame.held = AlarmKind::PowerCut.into();
            }
            with_digest(frame)
        })
        .collect();
    let message = rig.message(&frames, true);
    // Four events fit; the uplink is silent, so the fifth frame waits in vain, and there the classifier dies.
    assert!(pipeline.take(0));
    pipeline.judge(0);
    drop(pipeline);
    assert_eq!(rig.alarms.tail(), 4);
    rig.uplink(9, |_| true);
    let mut pipeline = rig.start();
    assert_eq!(rig.answer(message), Outcome::Pending);
    pipeline.turn();
    let mut last = message;
    for _ in 0..6 {
        rig.uplink(9, |_| true);
        pipeline.turn();
        if rig.answer(last) == Outcome::Refused {
            last = rig.message(&frames, true);
            pipeline.turn();
        }
    }
    assert_eq!(rig.answer(last), Outcome::Accepted);
    assert_eq!(rig.journal.len(), 6);
}

#[test]
fn a_refused_message_stays_refused_when_its_frames_are_seen_again() {
    // Two events fit the ring of two; the third finds it full. The classifier dies when all states are switched and no
    // slot is free, so that its successor sees all three messages again and knows their frames as applied.
    let mut rig = Rig::new(2, 64);
    let mut pipeline = rig.start();
    let messages: Vec<_> = (1..=3)
        .map(|n| rig.message(&[sos(&n.to_string(), 1_000)], true))
        .collect();
    assert!(batch_until(&mut pipeline, 5));
    drop(pipeline);
    assert_eq!(rig.answer(messages[2]), Outcome::Refused);
    rig.uplink(9, |_| true);
    let mut pipeline = rig.start();
    for _ in 0..4 {
        pipeline.turn();
        rig.uplink(9, |_| true);
    }
    assert_eq!(rig.answer(messages[0]), Outcome::Accepted);
    assert_eq!(rig.answer(messages[2]), Outcome::Refused);
    assert_eq!(rig.journal.len(), 3, "what is owed arrives all the same");
}

#[test]
fn frames_of_a_received_sensor_wait_for_nothing() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let message = rig.message(&[sos("1", 1_000)], false);
    pipeline.turn();
    rig.uplink(1, |_| true);
    pipeline.turn();
    assert_eq!(rig.answer(message), Outcome::Pending, "nobody asked");
    assert_eq!(rig.journal[0].origin, None);
}

#[test]
fn the_dispatcher_gets_tracks_and_events_with_their_stamps_and_one_owner_a_trace() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    let mut frames = [report("1", 1_000), sos("1", 2_000), report("1", 3_000)];
    for (frame, trace_id) in frames.iter_mut().zip([2, 4, 5]) {
        frame.trace.trace_id = trace_id;
    }
    rig.message(&frames, true);
    pipeline.turn();
    let (tracks, events) = rig.dispatched();
    let sampled = tracks.iter().map(|t| t.trace.flags & TraceHead::SAMPLED);
    assert_eq!(sampled.collect::<Vec<_>>(), [1, 0, 0]);
    assert_eq!(events[0].trace.flags, TraceHead::SAMPLED);
    for trace in tracks.iter().map(|t| t.trace).chain([events[0].trace]) {
        for hop in [Hop::Taken, Hop::Classified, Hop::HandedOn] {
            assert!(trace.at_ns(hop).is_some(), "{hop:?}");
        }
    }
}

#[test]
fn a_full_dispatcher_ring_drops_counts_and_asks_for_a_resync() {
    let mut rig = Rig::new(16, 2);
    let mut pipeline = rig.start();
    for second in 1..=5 {
        rig.message(&[report("1", 1_000 * second)], true);
    }
    let before = rig.dispatcher.resync_counter();
    pipeline.turn();
    assert_eq!(rig.dispatched().0.len(), 2);
    assert_eq!(rig.count(Metric::TrackRingFull), 3);
    assert_eq!(rig.dispatcher.resync_counter(), before + 1);
    assert_eq!(rig.public("1").fix.time_ms, 5_000);
}

#[test]
fn a_device_without_a_slot_is_refused_and_the_others_go_on() {
    let mut rig = Rig::new(16, 1024);
    let mut pipeline = rig.start();
    let messages: Vec<_> = (0..60)
        .map(|n| rig.message(&[report(&format!("d{n}"), 1_000)], true))
        .collect();
    pipeline.turn();
    assert!(messages.iter().all(|m| rig.answer(*m) == Outcome::Accepted));
    let messages: Vec<_> = (60..66)
        .map(|n| rig.message(&[report(&format!("d{n}"), 1_000)], true))
        .collect();
    pipeline.turn();
    let refused = messages
        .iter()
        .filter(|m| rig.answer(**m) == Outcome::Refused);
    assert_eq!(refused.count(), 2);
    assert_eq!(rig.count(Metric::RejectedTableFull), 2);
}

#[test]
fn bytes_that_are_no_frame_are_counted_and_passed_over() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    rig.ingest.try_publish(&[b"rubbish"], false).unwrap();
    let message = rig.message(&[report("1", 1_000)], true);
    pipeline.turn();
    assert_eq!(rig.count(Metric::RejectedBadFrame), 1);
    assert_eq!(rig.answer(message), Outcome::Accepted);
    assert_eq!(rig.sensor.head(), 2);
}

#[test]
fn a_frame_that_claims_to_belong_to_another_message_sets_no_word() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    for first_seq in [5, u64::MAX] {
        let mut liar = report("1", 1_000);
        liar.message_first_seq = first_seq;
        liar.flags.set(FrameFlags::AWAITS_ANSWER, true);
        let mut slot = [0; FRAME_BYTES_MAX];
        let (used, _) = liar.encode(&mut slot).unwrap();
        rig.ingest.try_publish(&[&slot[..used]], false).unwrap();
    }
    let honest = rig.message(&[report("1", 2_000)], true);
    pipeline.turn();
    assert_eq!(rig.count(Metric::RejectedBadFrame), 2);
    assert_eq!(rig.answer(honest), Outcome::Accepted);
}

#[test]
fn a_restart_asks_the_dispatcher_to_read_the_table_again() {
    let mut rig = Rig::new(16, 64);
    let before = rig.dispatcher.resync_counter();
    drop(rig.start());
    assert_eq!(rig.dispatcher.resync_counter(), before);
    drop(rig.start());
    assert_eq!(rig.dispatcher.resync_counter(), before + 1);
}

#[test]
fn a_killed_classifier_forgets_neither_a_fence_nor_an_alarm() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    rig.message(&[report_at("1", 1_000, 1_000.0, 0)], true);
    pipeline.turn();
    rig.uplink(9, |_| true);
    drop(pipeline);
    let mut pipeline = rig.start();
    rig.message(&[report_at("1", 2_000, 1_010.0, 0)], true);
    rig.message(&[report_at("1", 60_000, 0.0, 0)], true);
    pipeline.turn();
    rig.uplink(9, |_| true);
    let phases: Vec<Phase> = rig.journal.iter().map(|e| e.phase).collect();
    assert_eq!(phases, [Phase::Raise, Phase::Clear]);
}

#[test]
fn the_end_comes_when_all_is_closed_empty_and_settled() {
    let mut rig = Rig::new(16, 64);
    let mut pipeline = rig.start();
    rig.message(&[sos("1", 1_000)], true);
    assert!(!pipeline.is_finished());
    rig.sensor.close();
    assert!(!pipeline.is_finished(), "a frame is left");
    pipeline.turn();
    assert!(!pipeline.is_finished(), "an outcome is pending");
    rig.uplink(1, |_| true);
    pipeline.turn();
    assert!(pipeline.is_finished());
    pipeline.close();
    assert!(rig.uplink.closed() && rig.dispatcher.closed());
}

/// A device that sends its messages in order, each until it is accepted.
struct Sender {
    messages: Vec<Vec<Frame>>,
    next: usize,
    waits: Option<(u32, u64)>,
}

/// Runs a storm of kills and refusals; afterwards everything is well and all must come to rest.
fn storm(seed: u64, steps: u32, alarm_slots: u32) {
    let mut random = seed;
    let mut dice = move |sides: u64| {
        // splitmix64 (Steele, Lea, Flood 2014).
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    };
    let mut rig = Rig::new(alarm_slots, 16);
    let mut senders: Vec<Sender> = (0..6)
        .map(|device| {
            let message = |n: i64| {
                // Whatever the order in which messages are applied, each raises exactly its own alarms.
                let time_ms = 10_000 * (n + 1);
                let device = format!("d{device}");
                vec![sos(&device, time_ms + 1_000), report(&device, time_ms)]
            };
            Sender {
                messages: (0..12).map(message).collect(),
                next: 0,
                waits: None,
            }
        })
        .collect();
    let mut pipeline = rig.start();
    let mut quiet = 0;
    for step in 0.. {
        let calm = step > steps;
        assert!(step < steps + 2_000, "seed {seed}: nothing comes to rest");
        for sender in &mut senders {
            if let Some(waits) = sender.waits {
                match rig.answer(waits) {
                    Outcome::Pending => continue,
                    Outcome::Refused => {}
                    Outcome::Accepted => {
                        let id = sos_id(&sender.messages[sender.next][0]);
                        let safe = rig.journal.iter().any(|e| e.id == id);
                        assert!(safe, "seed {seed}: accepted, but {id} is not safe");
                        sender.next += 1;
                    }
                }
                sender.waits = None;
            }
            if sender.next < sender.messages.len() && (calm || dice(3) == 0) {
                let frames = sender.messages[sender.next].clone();
                sender.waits = Some(rig.message(&frames, true));
            }
        }
        let killed = if calm {
            pipeline.turn();
            pipeline.emit_owed();
            false
        } else {
            batch_until(&mut pipeline, dice(u64::from(STAGES) + 8) as u32)
                || outcomes_until(&mut pipeline, dice(6) as usize)
        };
        if killed {
            pipeline = rig.start();
        } else if dice(8) == 0 {
            pipeline.emit_owed();
        }
        if calm {
            rig.uplink(u64::MAX, |_| true);
        } else if dice(3) == 0 {
            rig.uplink(1 + dice(4), |_| dice(4) > 0);
        }
        rig.dispatched();
        let done = senders.iter().all(|s| s.next == s.messages.len());
        quiet = if done { quiet + 1 } else { 0 };
        if quiet > 3 && calm {
            break;
        }
    }
    let found: BTreeSet<EventId> = rig.journal.iter().map(|e| e.id).collect();
    let messages = senders.iter().flat_map(|s| &s.messages);
    let expected: BTreeSet<EventId> = messages.map(|m| sos_id(&m[0])).collect();
    assert_eq!(found, expected, "seed {seed}");
    assert_eq!(rig.count(Metric::EventsOwed), 0, "seed {seed}");
    assert!(rig.restarts > 5 || steps < 50, "seed {seed}: a storm kills");
}

/// The classifier died and its ingest went wrong before the next one came: attaching looked at the tail, which
/// quarantined the ring, and after that nobody took the violation for new. The supervisor was never told.
#[test]
fn a_violation_that_is_there_at_the_start_is_told_once() {
    let mut rig = Rig::new(64, 64);
    let fds = rig.sensor.producer_fds().unwrap();
    let raw = crate::sys::region::WriteRegion::map(fds.producer_region.as_fd(), 0).unwrap();
    for word in 0..64 {
        raw.store(word, 1 << 40, std::sync::atomic::Ordering::SeqCst);
    }
    let mut pipeline = rig.start();
    assert!(!pipeline.turn());
    assert!(matches!(pipeline.next_violation(), Some((7, _))));
    assert!(!pipeline.turn());
    assert_eq!(pipeline.next_violation(), None);
    assert_eq!(rig.count(Metric::RingViolations), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_message_is_accepted_before_its_events_are_safe_whatever_is_killed(
        seed in any::<u64>(),
        alarm_slots in prop_oneof![Just(2_u32), Just(4), Just(32)],
    ) {
        storm(seed, 300, alarm_slots);
    }

    #[test]
    fn kills_between_outputs_state_and_head_change_no_event(
        course in proptest::collection::vec((-1..=24_i32, any::<bool>(), 0..8_u32), 1..40),
        kills in proptest::collection::vec(0..STAGES + 4, 40),
    ) {
        let frames: Vec<Frame> = course
            .iter()
            .zip(1_i64..)
            .map(|((north, power, hurry), n)| {
                let speed = if *hurry < 6 { 21_000 } else { 0 };
                let mut frame = report_at("1", 1_000 * n, f64::from(*north) * 50.0, speed);
                if *power {
                    frame.held = AlarmKind::PowerCut.into();
                }
                with_digest(frame)
            })
            .collect();
        let mut without = Rig::new(256, 256);
        let mut pipeline = without.start();
        for frame in &frames {
            without.message(std::slice::from_ref(frame), true);
            pipeline.turn();
            without.uplink(u64::MAX, |_| true);
        }
        let mut with = Rig::new(256, 256);
        let mut pipeline = with.start();
        let mut answers = HashMap::new();
        for (at, (frame, kill)) in frames.iter().zip(&kills).enumerate() {
            answers.insert(at, with.message(std::slice::from_ref(frame), true));
            if batch_until(&mut pipeline, *kill) {
                pipeline = with.start();
            }
            pipeline.turn();
            with.uplink(u64::MAX, |_| true);
            pipeline.turn();
            // At most the last ANSWERS messages can be told apart by their word.
            prop_assert_eq!(with.answer(answers[&at]), Outcome::Accepted);
        }
        let ids = |rig: &Rig| rig.journal.iter().map(|e| e.id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&with), ids(&without));
        prop_assert_eq!(with.public("1"), without.public("1"));
    }
    /// As long as its device keeps what is not answered, no more of it than its state knows the last reports of, and sends
    /// it again in order, no report is taken for a late one and no event is other than those of an uplink that always had
    /// room.
    #[test]
    fn an_uplink_without_room_now_and_then_changes_no_event(
        course in proptest::collection::vec((0..=24_i32, 0..3_u8, 0..8_u32), 1..80),
        steps in proptest::collection::vec((0..20_u8, 0..STAGES), 1..160),
    ) {
        let frames: Vec<Frame> = course
            .iter()
            .zip(1_i64..)
            .map(|((north, alarms, hurry), n)| {
                let speed = if *hurry < 4 { 21_000 } else { 0 };
                let mut frame = report_at("1", 4_000 * n, f64::from(*north) * 50.0, speed);
                match alarms {
                    0 => frame.held = AlarmKind::PowerCut.into(),
                    1 => frame.momentary = AlarmKind::Sos.into(),
                    _ => {}
                }
                with_digest(frame)
            })
            .collect();
        let mut without = Rig::new(256, 256);
        let mut pipeline = without.start();
        for frame in &frames {
            without.message(std::slice::from_ref(frame), true);
            pipeline.turn();
            without.uplink(u64::MAX, |_| true);
            pipeline.turn();
        }
        let mut with = Rig::new(256, 256);
        let mut pipeline = with.start();
        pipeline.patience = Patience::none();
        let mut device = Keeper::default();
        let mut made = frames.iter();
        let calm = std::iter::repeat_n([(14, 0), (17, 0)], 400).flatten();
        for (step, stage) in steps.into_iter().chain(calm) {
            match step {
                0..14 if device.has_room() => device.send_new(&mut with, made.next()),
                0..14 => device.send_again(&mut with, 1),
                14 => device.send_again(&mut with, 1),
                15 => device.send_again(&mut with, SEEN_REPORTS_MAX),
                16..18 => with.uplink(u64::MAX, |_| true),
                18 => with.uplink(u64::MAX, |_| false),
                _ => if batch_until(&mut pipeline, stage) {
                    pipeline = with.start();
                    pipeline.patience = Patience::none();
                }
            }
            pipeline.turn();
            if step == 17 {
                pipeline.emit_owed();
                if device.has_room() {
                    device.send_new(&mut with, made.next());
                }
            }
            with.dispatched();
            device.hear(&with);
        }
        prop_assert!(device.kept.is_empty(), "{} reports have no answer", device.kept.len());
        let events = |rig: &Rig| -> BTreeSet<_> {
            let about = |e: &Event| (e.start_ms, e.rule.clone(), e.phase as u8, e.late, e.id);
            rig.journal.iter().map(about).collect()
        };
        prop_assert_eq!(events(&with), events(&without));
        let open = |rig: &Rig| -> BTreeSet<EventId> {
            rig.public("1").alarms.iter().map(|e| e.id).collect()
        };
        prop_assert_eq!(open(&with), open(&without));
    }
}

/// A device that keeps each report until it is answered.
#[derive(Default)]
struct Keeper {
    made: u32,
    kept: Vec<Frame>,
    waits: Vec<(Vec<Frame>, (u32, u64))>,
}

impl Keeper {
    fn has_room(&self) -> bool {
        self.kept.len() < SEEN_REPORTS_MAX
    }

    fn send_new(&mut self, rig: &mut Rig, frame: Option<&Frame>) {
        if let Some(frame) = frame {
            self.made += 1;
            self.kept.push(frame.clone());
            self.send(rig, vec![frame.clone()]);
            // It does not wait for longer than a gap is kept.
            if self.made.is_multiple_of(20) {
                self.send_again(rig, 1);
            }
        }
    }

    /// Sends all that it keeps, oldest first, so many reports in a message.
    fn send_again(&mut self, rig: &mut Rig, count: usize) {
        for frames in self.kept.clone().chunks(count) {
            self.send(rig, frames.to_vec());
        }
    }

    fn send(&mut self, rig: &mut Rig, mut frames: Vec<Frame>) {
        let newest = self.kept.last().map_or(0, |frame| frame.received_ms);
        frames.iter_mut().for_each(|f| f.received_ms = newest);
        let message = rig.message(&frames, true);
        self.waits.push((frames, message));
    }

    fn hear(&mut self, rig: &Rig) {
        self.waits.retain(|(frames, message)| {
            let outcome = rig.answer(*message);
            if outcome == Outcome::Accepted {
                let answered = |kept: &Frame| frames.iter().any(|f| f.digest == kept.digest);
                self.kept.retain(|kept| !answered(kept));
            }
            outcome == Outcome::Pending
        });
    }
}
