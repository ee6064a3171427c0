//! Two sensors of one vehicle on real rings.

use super::*;
use crate::frame::{SensorChange, record_kind};

/// A second sensor, "spare", of rank 2.
struct Spare {
    ring: RingOwner,
    ingest: Producer,
}

impl Spare {
    fn new() -> Spare {
        let geometry = Geometry {
            slots: 64,
            stride: 512,
            answers: 4,
        };
        let ring = RingOwner::create(geometry, 8, 101).unwrap();
        let ingest = Producer::attach(&ring.producer_fds().unwrap()).unwrap();
        Spare { ring, ingest }
    }

    /// Adds it to a classifier that was started.
    fn join(&self, pipeline: &mut Pipeline, restarted: bool) {
        let consumer = Consumer::attach(&self.ring.consumer_fds().unwrap()).unwrap();
        pipeline.add_sensor("spare", 2, consumer, restarted);
    }

    /// A message of one frame that awaits its answer; gives what finds it.
    fn message(&mut self, mut frame: Frame) -> (u32, u64) {
        let first = self.ingest.tail();
        let flags = FrameFlags::AWAITS_ANSWER | FrameFlags::MESSAGE_END;
        frame.flags.set(flags, true);
        frame.message_first_seq = first;
        frame.answer_index = (first % 4) as u32;
        let mut slot = [0; FRAME_BYTES_MAX];
        let (used, _) = frame.encode(&mut slot).unwrap();
        self.ingest.try_publish(&[&slot[..used]], false).unwrap();
        (frame.answer_index, first)
    }

    fn answer(&self, (index, first_seq): (u32, u64)) -> Outcome {
        self.ingest.outcome(index).outcome_of(first_seq)
    }
}

/// What the dispatcher was sent: a sensor's name, or the second of a track.
fn told(rig: &mut Rig) -> Vec<String> {
    let mut told = Vec::new();
    let mut record = Vec::new();
    let head = rig.dispatcher.head();
    let available = rig.dispatcher.available().unwrap();
    for seq in head..head + available {
        rig.dispatcher.read(seq, &mut record).unwrap();
        match record[0] {
            record_kind::SENSOR => told.push(SensorChange::decode(&record[1..]).unwrap().sensor),
            record_kind::TRACK => {
                let frame = Frame::decode(&record[1..]).unwrap();
                told.push((frame.fix.time_ms / 1_000).to_string());
            }
            _ => {}
        }
    }
    rig.dispatcher.advance(head + available);
    told
}

#[test]
fn who_is_outranked_is_answered_and_counted_and_not_shown() {
    let mut rig = Rig::new(16, 64);
    let mut spare = Spare::new();
    let mut pipeline = rig.start();
    spare.join(&mut pipeline, false);
    rig.message(&[report("1", 1_000_000)], true);
    pipeline.turn();
    let message = spare.message(report("1", 1_001_000));
    pipeline.turn();
    assert_eq!(spare.answer(message), Outcome::Accepted);
    assert_eq!(rig.count(Metric::RejectedOutranked), 1);
    assert_eq!(told(&mut rig), ["1000"]);
}

#[test]
fn an_alarm_by_the_outranked_is_answered_when_it_is_safe() {
    let mut rig = Rig::new(16, 64);
    let mut spare = Spare::new();
    let mut pipeline = rig.start();
    spare.join(&mut pipeline, false);
    rig.message(&[report("1", 1_000_000)], true);
    pipeline.turn();
    let pressed = sos("1", 1_001_000);
    let message = spare.message(pressed.clone());
    pipeline.turn();
    assert_eq!(spare.answer(message), Outcome::Pending);
    rig.uplink(1, |event| event.sensor == "spare");
    pipeline.turn();
    assert_eq!(spare.answer(message), Outcome::Accepted);
    assert_eq!(rig.journal[0].id, sos_id(&pressed));
}

/// Killed after each stage while it passes the frame with which the spare one takes over.
#[test]
fn a_killed_classifier_leaves_who_is_used_to_its_successor() {
    for stage in 0..STAGES {
        let mut rig = Rig::new(16, 64);
        let mut spare = Spare::new();
        let mut pipeline = rig.start();
        spare.join(&mut pipeline, false);
        for second in [1_000, 1_001] {
            rig.message(&[report("1", second * 1_000)], true);
            spare.message(report("1", second * 1_000));
            pipeline.turn();
        }
        spare.message(report("1", 1_010_000));
        // The spare one is the second of the sensors.
        let stages: [&dyn Fn(&mut Pipeline); 7] = [
            &|p| assert!(p.take(1)),
            &|p| p.judge(1),
            &|p| p.commit_outputs(1),
            &|p| p.refuse(1),
            &|p| p.switch_states(),
            &|p| p.accept(1),
            &|p| p.free(1),
        ];
        stages[..stage.min(7) as usize]
            .iter()
            .for_each(|run| run(&mut pipeline));
        drop(pipeline);
        let mut pipeline = rig.start();
        spare.join(&mut pipeline, true);
        pipeline.turn();
        assert_eq!(rig.public("1").sensor, "spare", "stage {stage}");
        // The better one is not used at once.
        rig.message(&[report("1", 1_011_000)], true);
        pipeline.turn();
        assert_eq!(rig.public("1").sensor, "spare", "stage {stage}");
        let told = told(&mut rig);
        assert_eq!(
            told[..4],
            ["1000", "1001", "spare", "1010"],
            "stage {stage}"
        );
    }
}
