//! Sleeping without losing a wake-up. Nobody here has a backstop: what is lost leaves every thread blocked.

use loom::thread::spawn;

use super::answer::Outcome;
use super::nap::Depth;
use super::world::{
    Witness, World, drain, publish, publish_until, read_all, record, settled, sleep, take_until,
};
use crate::search::{Model, all, interrupted_at_most};

/// Interruptions of a run where a model has several naps in a row. A full search of those takes minutes to hours; each
/// has a sibling with one nap that is searched in full.
const INTERRUPTED_AT_MOST: usize = 3;

pub fn models() -> Vec<Model> {
    vec![
        Model {
            name: "a_consumer_asleep_hears_of_every_frame",
            search: a_consumer_asleep_hears_of_every_frame,
        },
        Model {
            name: "a_consumer_asleep_hears_of_a_frame",
            search: a_consumer_asleep_hears_of_a_frame,
        },
        Model {
            name: "a_producer_asleep_hears_of_room_each_time",
            search: a_producer_asleep_hears_of_room_each_time,
        },
        Model {
            name: "a_producer_asleep_hears_of_room",
            search: a_producer_asleep_hears_of_room,
        },
        Model {
            name: "both_sides_sleep_whenever_they_can",
            search: both_sides_sleep_whenever_they_can,
        },
        Model {
            name: "frames_that_were_gathered_wake_when_they_are_handed_over",
            search: frames_that_were_gathered_wake_when_they_are_handed_over,
        },
        Model {
            name: "a_busy_consumer_hears_of_many_frames",
            search: a_busy_consumer_hears_of_many_frames,
        },
        Model {
            name: "a_busy_consumer_hears_of_an_urgent_frame",
            search: a_busy_consumer_hears_of_an_urgent_frame,
        },
        Model {
            name: "a_nap_is_not_taken_for_the_one_before",
            search: a_nap_is_not_taken_for_the_one_before,
        },
        Model {
            name: "a_producer_that_waits_for_less_room_now_hears_of_it",
            search: a_producer_that_waits_for_less_room_now_hears_of_it,
        },
        Model {
            name: "a_producer_that_waits_for_answers_now_hears_of_them",
            search: a_producer_that_waits_for_answers_now_hears_of_them,
        },
        Model {
            name: "a_consumer_asleep_hears_of_a_resync_and_sees_why",
            search: a_consumer_asleep_hears_of_a_resync_and_sees_why,
        },
        Model {
            name: "a_consumer_asleep_hears_of_the_end",
            search: a_consumer_asleep_hears_of_the_end,
        },
        Model {
            name: "a_consumer_asleep_hears_of_the_end_from_the_supervisor",
            search: a_consumer_asleep_hears_of_the_end_from_the_supervisor,
        },
    ]
}

fn a_consumer_asleep_hears_of_a_frame() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        let writing = spawn(move || assert!(publish(&mut producer)));
        take_until(&mut consumer, 1);
        writing.join().unwrap();
    });
}

/// See [`INTERRUPTED_AT_MOST`].
fn a_consumer_asleep_hears_of_every_frame() {
    interrupted_at_most(INTERRUPTED_AT_MOST, || {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        let writing = spawn(move || {
            assert!(publish(&mut producer));
            assert!(publish(&mut producer));
        });
        take_until(&mut consumer, 2);
        writing.join().unwrap();
    });
}

fn a_producer_asleep_hears_of_room() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        assert!(publish(&mut producer) && publish(&mut producer));
        let reading = spawn(move || {
            assert_eq!(read_all(&mut consumer), 2);
            consumer.advance(1);
            consumer.wake_producer();
        });
        publish_until(&mut producer, 3);
        reading.join().unwrap();
    });
}

/// See [`INTERRUPTED_AT_MOST`].
fn a_producer_asleep_hears_of_room_each_time() {
    interrupted_at_most(INTERRUPTED_AT_MOST, || {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        assert!(publish(&mut producer) && publish(&mut producer));
        let reading = spawn(move || {
            assert_eq!(read_all(&mut consumer), 2);
            for seq in 1..=2 {
                consumer.advance(seq);
                consumer.wake_producer();
            }
        });
        publish_until(&mut producer, 4);
        reading.join().unwrap();
    });
}

/// See [`INTERRUPTED_AT_MOST`].
fn both_sides_sleep_whenever_they_can() {
    interrupted_at_most(INTERRUPTED_AT_MOST, || {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        let writing = spawn(move || publish_until(&mut producer, 3));
        take_until(&mut consumer, 3);
        writing.join().unwrap();
    });
}

fn frames_that_were_gathered_wake_when_they_are_handed_over() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        producer.gather();
        let writing = spawn(move || {
            assert!(publish(&mut producer));
            producer.hand_over();
        });
        take_until(&mut consumer, 1);
        writing.join().unwrap();
    });
}

/// Eight slots: a quarter of them is two frames, so that the first one does not wake.
fn a_busy_consumer_hears_of_many_frames() {
    all(|| {
        let world = World::new(8, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        let writing = spawn(move || {
            assert!(publish(&mut producer));
            assert!(publish(&mut producer));
        });
        let sleeper = consumer.sleeper();
        let mut depth = Depth::Busy;
        while consumer.head() < 2 {
            sleep(&*sleeper, depth);
            // One alone was seen before the nap; there is no timer here for the other one.
            if drain(&mut consumer) == 1 {
                depth = Depth::Idle;
            }
        }
        writing.join().unwrap();
    });
}

fn a_busy_consumer_hears_of_an_urgent_frame() {
    all(|| {
        let world = World::new(8, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        let writing = spawn(move || {
            producer.try_publish(&[&record(0)], true).unwrap();
        });
        let sleeper = consumer.sleeper();
        while drain(&mut consumer) == 0 {
            sleep(&*sleeper, Depth::Busy);
        }
        writing.join().unwrap();
    });
}

/// A busy nap wants to hear of the second frame only. What it wanted must not stand beside the idle nap after it.
fn a_nap_is_not_taken_for_the_one_before() {
    all(|| {
        let world = World::new(8, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        let writing = spawn(move || assert!(publish(&mut producer)));
        let sleeper = consumer.sleeper();
        // Its timer ends it.
        sleeper.nap_begin(Depth::Busy);
        sleeper.nap_end();
        take_until(&mut consumer, 1);
        writing.join().unwrap();
    });
}

fn a_producer_that_waits_for_less_room_now_hears_of_it() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        assert!(publish(&mut producer) && publish(&mut producer));
        let reading = spawn(move || {
            assert_eq!(read_all(&mut consumer), 2);
            consumer.advance(1);
            consumer.wake_producer();
        });
        let sleeper = producer.sleeper();
        producer.wait_for(2, false);
        sleeper.nap_begin(Depth::Idle);
        sleeper.nap_end();
        publish_until(&mut producer, 3);
        reading.join().unwrap();
    });
}

fn a_producer_that_waits_for_answers_now_hears_of_them() {
    all(|| {
        let world = World::new(2, 1);
        let (producer, mut consumer) = (world.producer(), world.consumer());
        let judging = spawn(move || {
            consumer.set_outcome(0, 0, Outcome::Accepted);
            consumer.wake_producer();
        });
        let sleeper = producer.sleeper();
        // For nothing yet.
        sleeper.nap_begin(Depth::Idle);
        sleeper.nap_end();
        assert_eq!(settled(&producer, 0, 0), Outcome::Accepted);
        judging.join().unwrap();
    });
}

fn a_consumer_asleep_hears_of_a_resync_and_sees_why() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, consumer) = (world.producer(), world.consumer());
        let state = Witness::new();
        let switched = state.clone();
        let writing = spawn(move || {
            switched.set(1);
            producer.request_resync();
        });
        let sleeper = consumer.sleeper();
        while consumer.resync_counter() == 0 {
            sleep(&*sleeper, Depth::Idle);
        }
        assert_eq!(state.get(), 1);
        writing.join().unwrap();
    });
}

fn a_consumer_asleep_hears_of_the_end() {
    all(|| {
        let world = World::new(2, 0);
        let (mut producer, mut consumer) = (world.producer(), world.consumer());
        let writing = spawn(move || {
            assert!(publish(&mut producer));
            producer.close();
        });
        let sleeper = consumer.sleeper();
        loop {
            let closed = consumer.closed();
            let count = drain(&mut consumer);
            if closed {
                break;
            }
            if count == 0 {
                sleep(&*sleeper, Depth::Idle);
            }
        }
        assert_eq!(consumer.head(), 1);
        writing.join().unwrap();
    });
}

fn a_consumer_asleep_hears_of_the_end_from_the_supervisor() {
    all(|| {
        let world = World::new(2, 0);
        let consumer = world.consumer();
        let supervising = spawn(move || world.owner.close());
        let sleeper = consumer.sleeper();
        while !consumer.closed() {
            sleep(&*sleeper, Depth::Idle);
        }
        supervising.join().unwrap();
    });
}
