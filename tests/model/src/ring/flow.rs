//! Frames on their way, nobody asleep.

use loom::thread::spawn;

use super::world::{World, drain, publish, record};
use crate::search::{Model, all};

pub fn models() -> Vec<Model> {
    vec![
        Model {
            name: "frames_come_once_in_order_and_whole",
            search: frames_come_once_in_order_and_whole,
        },
        Model {
            name: "frames_of_one_commit_come_all_or_none",
            search: frames_of_one_commit_come_all_or_none,
        },
        Model {
            name: "the_end_comes_after_all_frames",
            search: the_end_comes_after_all_frames,
        },
        Model {
            name: "the_end_said_by_the_supervisor_comes_after_all_frames",
            search: the_end_said_by_the_supervisor_comes_after_all_frames,
        },
        Model {
            name: "a_snapshot_shows_no_head_beyond_the_tail_and_no_end_before_it",
            search: a_snapshot_shows_no_head_beyond_the_tail_and_no_end_before_it,
        },
        Model {
            name: "a_new_generation_is_never_taken_for_a_violation",
            search: a_new_generation_is_never_taken_for_a_violation,
        },
    ]
}

/// A slot that is written while it is read is a race of plain words, and so is one that is read before it is whole.
fn frames_come_once_in_order_and_whole() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        producer.gather();
        let writing = spawn(move || {
            // The third one finds room or not, whenever the consumer gets round to it.
            (0..4)
                .filter(|_| producer.tail() < 3 && publish(&mut producer))
                .count() as u64
        });
        let early = drain(&mut consumer) + drain(&mut consumer);
        let written = writing.join().unwrap();
        assert_eq!(early + drain(&mut consumer), written);
        assert!(written >= 2, "both slots were free");
    });
}

fn frames_of_one_commit_come_all_or_none() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        producer.gather();
        let writing = spawn(move || {
            producer
                .try_publish(&[&record(0), &record(1)], false)
                .unwrap();
            producer
                .try_publish(&[&record(2), &record(3)], false)
                .is_ok()
        });
        let mut taken = 0;
        for _ in 0..2 {
            let count = drain(&mut consumer);
            assert!(count == 0 || count == 2, "{count} of two");
            taken += count;
        }
        let both = writing.join().unwrap();
        assert_eq!(taken + drain(&mut consumer), if both { 4 } else { 2 });
    });
}

fn the_end_comes_after_all_frames() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        producer.gather();
        let writing = spawn(move || {
            assert!(publish(&mut producer));
            producer.close();
        });
        if consumer.closed() {
            assert_eq!(drain(&mut consumer), 1);
        }
        writing.join().unwrap();
        assert!(consumer.closed());
    });
}

fn the_end_said_by_the_supervisor_comes_after_all_frames() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        producer.gather();
        let supervising = spawn(move || {
            let writing = spawn(move || assert!(publish(&mut producer)));
            writing.join().unwrap();
            world.owner.close();
        });
        if consumer.closed() {
            assert_eq!(drain(&mut consumer), 1);
        }
        supervising.join().unwrap();
        assert!(consumer.closed());
    });
}

fn a_new_generation_is_never_taken_for_a_violation() {
    all(|| {
        let world = World::new(2, 0);
        let mut consumer = world.consumer();
        let supervising = spawn(move || {
            for generation in 1..=2 {
                let mut producer = if generation == 1 {
                    world.producer()
                } else {
                    world.next_producer()
                };
                producer.gather();
                spawn(move || assert!(publish(&mut producer)))
                    .join()
                    .unwrap();
            }
        });
        let early = drain(&mut consumer);
        let rest = drain(&mut consumer);
        supervising.join().unwrap();
        assert_eq!(early + rest + drain(&mut consumer), 2);
    });
}

fn a_snapshot_shows_no_head_beyond_the_tail_and_no_end_before_it() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        producer.gather();
        let writing = spawn(move || {
            assert!(publish(&mut producer));
            producer.close();
        });
        let reading = spawn(move || drain(&mut consumer));
        let snapshot = world.owner.snapshot();
        assert!(snapshot.head <= snapshot.tail);
        assert!(snapshot.tail == 1 || !snapshot.closed);
        writing.join().unwrap();
        reading.join().unwrap();
    });
}
