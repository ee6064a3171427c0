//! A side that is killed after any step, and its successor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread::spawn;

use super::answer::Outcome;
use super::nap::Depth;
use super::producer::Producer;
use super::world::{
    World, drain, publish, publish_until, read_all, record, settled, sleep, take_until,
};
use crate::fuse::killed_after;
use crate::search::{Model, killed_at_every_step};

/// Interruptions of a run. A full search of one killed step alone takes minutes, and there are some dozen steps.
const INTERRUPTED_AT_MOST: Option<usize> = Some(2);

pub fn models() -> Vec<Model> {
    vec![
        Model {
            name: "a_killed_producer_leaves_whole_frames_and_its_successor_goes_on",
            search: a_killed_producer_leaves_whole_frames_and_its_successor_goes_on,
        },
        Model {
            name: "a_consumer_asleep_hears_of_what_a_killed_producer_left",
            search: a_consumer_asleep_hears_of_what_a_killed_producer_left,
        },
        Model {
            name: "a_successor_of_a_producer_that_died_asleep_hears_of_room",
            search: a_successor_of_a_producer_that_died_asleep_hears_of_room,
        },
        Model {
            name: "a_killed_producer_leaves_all_frames_of_a_commit_or_none",
            search: a_killed_producer_leaves_all_frames_of_a_commit_or_none,
        },
        Model {
            name: "a_killed_consumer_frees_nothing_that_it_has_not_read",
            search: a_killed_consumer_frees_nothing_that_it_has_not_read,
        },
        Model {
            name: "a_successor_of_a_consumer_that_died_asleep_hears_of_frames",
            search: a_successor_of_a_consumer_that_died_asleep_hears_of_frames,
        },
        Model {
            name: "a_producer_asleep_hears_of_room_although_the_consumer_is_killed",
            search: a_producer_asleep_hears_of_room_although_the_consumer_is_killed,
        },
        Model {
            name: "an_outcome_reaches_the_producer_although_the_consumer_is_killed",
            search: an_outcome_reaches_the_producer_although_the_consumer_is_killed,
        },
    ]
}

fn a_killed_producer_leaves_whole_frames_and_its_successor_goes_on() {
    killed_at_every_step(INTERRUPTED_AT_MOST, |steps| {
        let world = World::new(2, 0);
        let mut consumer = world.consumer();
        let supervising = spawn(move || {
            let life = {
                let world = world.clone();
                spawn(move || killed_after(steps, || publish_twice(&mut world.producer())))
            };
            let killed = life.join().unwrap();
            let mut successor = world.next_producer();
            publish_twice(&mut successor);
            (killed, successor.tail())
        });
        let early = drain(&mut consumer) + drain(&mut consumer);
        let (killed, tail) = supervising.join().unwrap();
        assert_eq!(early + drain(&mut consumer), tail);
        killed
    });
}

/// Two records, if there is room; for the third slot there is or is not, whenever the consumer gets round to it.
fn publish_twice(producer: &mut Producer) {
    producer.gather();
    publish(producer);
    publish(producer);
}

fn a_consumer_asleep_hears_of_what_a_killed_producer_left() {
    killed_at_every_step(INTERRUPTED_AT_MOST, |steps| {
        let world = World::new(2, 0);
        let mut consumer = world.consumer();
        let supervising = spawn(move || {
            let life = {
                let world = world.clone();
                spawn(move || killed_after(steps, || publish_until(&mut world.producer(), 1)))
            };
            let killed = life.join().unwrap();
            let mut successor = world.next_producer();
            if successor.tail() == 0 {
                publish_until(&mut successor, 1);
            }
            killed
        });
        take_until(&mut consumer, 1);
        supervising.join().unwrap()
    });
}

fn a_successor_of_a_producer_that_died_asleep_hears_of_room() {
    killed_at_every_step(INTERRUPTED_AT_MOST, |steps| {
        let world = World::new(2, 0);
        let mut producer = world.producer();
        assert!(publish(&mut producer) && publish(&mut producer));
        let mut consumer = world.consumer();
        let supervising = spawn(move || {
            let life = spawn(move || killed_after(steps, || publish_until(&mut producer, 3)));
            let killed = life.join().unwrap();
            publish_until(&mut world.next_producer(), 3);
            killed
        });
        assert_eq!(read_all(&mut consumer), 2);
        consumer.advance(1);
        consumer.wake_producer();
        supervising.join().unwrap()
    });
}

fn a_killed_producer_leaves_all_frames_of_a_commit_or_none() {
    killed_at_every_step(INTERRUPTED_AT_MOST, |steps| {
        let world = World::new(2, 0);
        let mut consumer = world.consumer();
        let supervising = spawn(move || {
            let life = {
                let world = world.clone();
                spawn(move || {
                    let mut producer = world.producer();
                    killed_after(steps, || {
                        producer
                            .try_publish(&[&record(0), &record(1)], false)
                            .unwrap();
                        producer.close();
                    })
                })
            };
            let killed = life.join().unwrap();
            world.owner.close();
            killed
        });
        let sleeper = consumer.sleeper();
        loop {
            let closed = consumer.closed();
            let count = drain(&mut consumer);
            assert!(count == 0 || count == 2, "{count} of two");
            if closed {
                break;
            }
            sleep(&*sleeper, Depth::Idle);
        }
        supervising.join().unwrap()
    });
}

fn a_killed_consumer_frees_nothing_that_it_has_not_read() {
    killed_at_every_step(None, |steps| {
        let world = World::new(2, 0);
        let mut producer = world.producer();
        let supervising = spawn(move || {
            // The consumer's ledger; no part of the model.
            let read_to = Arc::new(AtomicU64::new(0));
            let life = {
                let (world, read_to) = (world.clone(), read_to.clone());
                spawn(move || {
                    killed_after(steps, || {
                        let mut consumer = world.consumer();
                        read_all(&mut consumer);
                        read_to.store(consumer.tail(), Ordering::Relaxed);
                        consumer.advance(consumer.tail());
                    })
                })
            };
            let killed = life.join().unwrap();
            let mut successor = world.next_consumer();
            assert!(successor.head() <= read_to.load(Ordering::Relaxed));
            drain(&mut successor);
            (killed, successor)
        });
        publish_twice(&mut producer);
        publish_twice(&mut producer);
        let (killed, mut successor) = supervising.join().unwrap();
        drain(&mut successor);
        assert_eq!(successor.head(), producer.tail());
        killed
    });
}

fn a_successor_of_a_consumer_that_died_asleep_hears_of_frames() {
    killed_at_every_step(INTERRUPTED_AT_MOST, |steps| {
        let world = World::new(2, 0);
        let mut producer = world.producer();
        let supervising = spawn(move || {
            let life = {
                let world = world.clone();
                spawn(move || killed_after(steps, || take_until(&mut world.consumer(), 1)))
            };
            let killed = life.join().unwrap();
            take_until(&mut world.next_consumer(), 1);
            killed
        });
        assert!(publish(&mut producer));
        supervising.join().unwrap()
    });
}

fn a_producer_asleep_hears_of_room_although_the_consumer_is_killed() {
    killed_at_every_step(INTERRUPTED_AT_MOST, |steps| {
        let world = World::new(2, 0);
        let mut producer = world.producer();
        assert!(publish(&mut producer) && publish(&mut producer));
        let supervising = spawn(move || {
            let life = {
                let world = world.clone();
                spawn(move || killed_after(steps, || take_until(&mut world.consumer(), 2)))
            };
            let killed = life.join().unwrap();
            take_until(&mut world.next_consumer(), 2);
            killed
        });
        publish_until(&mut producer, 3);
        supervising.join().unwrap()
    });
}

fn an_outcome_reaches_the_producer_although_the_consumer_is_killed() {
    killed_at_every_step(INTERRUPTED_AT_MOST, |steps| {
        let world = World::new(2, 1);
        let mut producer = world.producer();
        assert!(publish(&mut producer));
        let supervising = spawn(move || {
            let life = {
                let world = world.clone();
                spawn(move || killed_after(steps, || judge(&world)))
            };
            let killed = life.join().unwrap();
            if killed {
                world.owner.check().unwrap();
                world.owner.ring_bells();
                judge(&world);
            }
            killed
        });
        assert_eq!(settled(&producer, 0, 0), Outcome::Accepted);
        supervising.join().unwrap()
    });
}

/// A consumer's life for one message.
fn judge(world: &World) {
    let mut consumer = world.consumer();
    if read_all(&mut consumer) == 1 {
        consumer.set_outcome(0, 0, Outcome::Accepted);
        consumer.advance(1);
        consumer.wake_producer();
    }
}
