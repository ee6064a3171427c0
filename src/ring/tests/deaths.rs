//! Either side killed before each of its stores and bells, on real shared memory; then its successor.
//!
//! The stores are not listed here: a story is told again with a death one step later, until nobody dies in it.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::PollTimeout;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::super::nap::{Depth, Sleeper};
use super::*;
use crate::sys::steps::killing::{at_every_step, killed_after};

/// Deaths that a story has at least: its stores are many, and a hook that came off would show here.
const DEATHS_MIN: u32 = 5;

/// What the supervisor does when it has reaped a child.
fn reap_producer(owner: &RingOwner) -> Producer {
    owner.set_generation().unwrap();
    owner.ring_bells();
    Producer::attach(&owner.producer_fds().unwrap()).unwrap()
}

fn reap_consumer(owner: &RingOwner) -> Consumer {
    owner.check().unwrap();
    owner.ring_bells();
    Consumer::attach(&owner.consumer_fds().unwrap()).unwrap()
}

fn record(seq: u64) -> Vec<u8> {
    format!("the record of sequence {seq}").into_bytes()
}

fn publish_one(producer: &mut Producer) -> Result<u64, Full> {
    let record = record(producer.tail());
    producer.try_publish(&[&record], false)
}

/// Reads all that is there, checks each, frees it, and returns how many there were.
fn drain(consumer: &mut Consumer) -> u64 {
    let (head, count) = (consumer.head(), consumer.available().unwrap());
    let mut out = Vec::new();
    for seq in head..head + count {
        consumer.read(seq, &mut out).unwrap();
        assert_eq!(out, record(seq), "torn");
    }
    consumer.advance(consumer.tail());
    count
}

/// A side's place at its bell, watched by edge and never read, as a waiter does.
struct Bed {
    epoll: Epoll,
    _bell: OwnedFd,
}

impl Bed {
    fn at(sleeper: &dyn Sleeper) -> Bed {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let bell = sleeper.bell().as_fd().try_clone_to_owned().unwrap();
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&bell, EpollEvent::new(flags, 0)).unwrap();
        let bed = Bed { epoll, _bell: bell };
        bed.is_rung();
        bed
    }

    fn is_rung(&self) -> bool {
        let mut events = [EpollEvent::empty()];
        self.epoll.wait(&mut events, PollTimeout::ZERO).unwrap() > 0
    }
}

/// A ring that has gone round once and holds one record of sequence 4 that nobody has read.
fn used_ring() -> Ends {
    let mut ends = Ends::new(SMALL);
    for _ in 0..4 {
        publish_one(&mut ends.producer).unwrap();
    }
    drain(&mut ends.consumer);
    publish_one(&mut ends.producer).unwrap();
    ends
}

#[test]
fn a_producer_killed_while_it_publishes_leaves_whole_messages() {
    let deaths = at_every_step(|steps| {
        let Ends {
            owner,
            mut producer,
            mut consumer,
        } = used_ring();
        drain(&mut consumer);
        let sleeper = consumer.sleeper();
        let bed = Bed::at(&*sleeper);
        assert!(sleeper.nap_begin(Depth::Idle));
        let killed = killed_after(steps, || {
            let records = [record(5), record(6)];
            let records = records.each_ref().map(Vec::as_slice);
            producer.try_publish(&records, false).unwrap();
        });
        drop(producer);
        let mut successor = reap_producer(&owner);
        assert!(bed.is_rung(), "step {steps}: the consumer sleeps on");
        sleeper.nap_end();
        let left = drain(&mut consumer);
        assert!(left == 0 || left == 2, "step {steps}: {left} of two");
        assert!(killed || left == 2);
        assert_eq!((successor.tail(), successor.head()), (5 + left, 5 + left));
        for _ in 0..4 {
            publish_one(&mut successor).unwrap();
        }
        assert_eq!(publish_one(&mut successor), Err(Full));
        assert_eq!(drain(&mut consumer), 4);
        killed
    });
    // Two headers of four words, two records of four, the commit, the bell.
    assert!(deaths >= 2 * (4 + 3) + 2, "{deaths} deaths");
}

#[test]
fn a_producer_killed_while_it_attaches_naps_or_closes_has_a_successor() {
    let deaths = at_every_step(|steps| {
        let Ends {
            owner,
            producer,
            mut consumer,
        } = used_ring();
        let bed = Bed::at(&*consumer.sleeper());
        drop(producer);
        let fds = owner.producer_fds().unwrap();
        let killed = killed_after(steps, || {
            let mut producer = Producer::attach(&fds).unwrap();
            publish_one(&mut producer).unwrap();
            // Four slots hold the two frames: it sleeps until all are free.
            producer.wait_for(4, true);
            assert!(producer.nap_begin());
            producer.nap_end();
            producer.request_resync();
            producer.close();
        });
        let before = owner.snapshot();
        let mut successor = reap_producer(&owner);
        assert!(bed.is_rung());
        assert!(!consumer.closed(), "the successor opens the ring again");
        // Its own nap is not the one that it finds.
        successor.wait_for(4, false);
        assert!(successor.nap_begin());
        drain(&mut consumer);
        let producer_bed = Bed::at(&*successor.sleeper());
        consumer.wake_producer();
        assert!(
            producer_bed.is_rung(),
            "step {steps}: the producer sleeps on"
        );
        successor.nap_end();
        assert_eq!(consumer.head(), before.tail);
        publish_one(&mut successor).unwrap();
        assert_eq!(drain(&mut consumer), 1);
        killed
    });
    assert!(deaths >= DEATHS_MIN, "{deaths} deaths");
}

#[test]
fn a_producer_killed_while_it_asks_for_a_resync_is_heard_or_was_not_there() {
    let deaths = at_every_step(|steps| {
        let Ends {
            owner,
            mut producer,
            mut consumer,
        } = used_ring();
        drain(&mut consumer);
        let (sleeper, served) = (consumer.sleeper(), consumer.resync_counter());
        let bed = Bed::at(&*sleeper);
        assert!(sleeper.nap_begin(Depth::Idle));
        let killed = killed_after(steps, || producer.request_resync());
        let asked = consumer.resync_counter() != served;
        assert!(killed || asked);
        drop(producer);
        let mut successor = reap_producer(&owner);
        assert!(bed.is_rung());
        sleeper.nap_end();
        sleeper.look();
        let served = consumer.resync_counter();
        successor.request_resync();
        assert_ne!(consumer.resync_counter(), served);
        killed
    });
    assert_eq!(deaths, 2, "the count and the bell");
}

#[test]
fn a_consumer_killed_while_it_drains_and_answers_loses_nothing() {
    let deaths = at_every_step(|steps| {
        let Ends {
            owner,
            mut producer,
            mut consumer,
        } = used_ring();
        for _ in 0..3 {
            publish_one(&mut producer).unwrap();
        }
        producer.wait_for(1, true);
        let sleeper = producer.sleeper();
        let bed = Bed::at(&*sleeper);
        assert!(producer.nap_begin());
        // What the consumer did with the frames before it freed them.
        let mut taken = 4;
        let killed = killed_after(steps, || {
            let mut out = Vec::new();
            assert_eq!(consumer.available(), Ok(4));
            for seq in 4..8 {
                consumer.read(seq, &mut out).unwrap();
                assert_eq!(out, record(seq));
                consumer.set_outcome(seq as u32 % 4, seq, Outcome::Accepted);
                taken = seq + 1;
                consumer.advance(taken);
            }
            consumer.wake_producer();
        });
        drop(consumer);
        let mut successor = reap_consumer(&owner);
        assert!(bed.is_rung(), "step {steps}: the producer sleeps on");
        producer.nap_end();
        let head = successor.head();
        assert!(
            head <= taken,
            "step {steps}: {head} is free, {taken} is taken"
        );
        for seq in 4..head {
            let outcome = producer.outcome(seq as u32 % 4).outcome_of(seq);
            assert_eq!(
                outcome,
                Outcome::Accepted,
                "step {steps}: free, not answered"
            );
        }
        // It judges again what is not free, and comes to another end: what was accepted stays so.
        for seq in head..8 {
            let index = seq as u32 % 4;
            let before = producer.outcome(index).outcome_of(seq);
            successor.set_outcome(index, seq, Outcome::Refused);
            let after = producer.outcome(index).outcome_of(seq);
            match before {
                Outcome::Pending => assert_eq!(after, Outcome::Refused),
                settled => assert_eq!(after, settled),
            }
        }
        assert_eq!(drain(&mut successor), 8 - head);
        assert_eq!((producer.room(), publish_one(&mut producer)), (4, Ok(8)));
        assert_eq!(drain(&mut successor), 1);
        killed
    });
    // An outcome and a head for each frame, the count of answers, the bell.
    assert_eq!(deaths, 4 * 2 + 2);
}

#[test]
fn a_consumer_killed_while_it_attaches_or_naps_has_a_successor_that_is_rung() {
    let deaths = at_every_step(|steps| {
        let Ends {
            owner,
            mut producer,
            mut consumer,
        } = used_ring();
        drain(&mut consumer);
        // It died asleep, and so does the next one.
        assert!(consumer.sleeper().nap_begin(Depth::Busy));
        drop(consumer);
        let fds = owner.consumer_fds().unwrap();
        let killed = killed_after(steps, || {
            let consumer = Consumer::attach(&fds).unwrap();
            assert!(consumer.sleeper().nap_begin(Depth::Idle));
            consumer.sleeper().nap_end();
            assert!(consumer.sleeper().nap_begin(Depth::Busy));
        });
        // A frame that comes between the two lives.
        publish_one(&mut producer).unwrap();
        let mut successor = reap_consumer(&owner);
        assert_eq!((successor.head(), drain(&mut successor)), (5, 1));
        let bed = Bed::at(&*successor.sleeper());
        assert!(successor.sleeper().nap_begin(Depth::Idle));
        publish_one(&mut producer).unwrap();
        assert!(bed.is_rung(), "step {steps}: the consumer sleeps on");
        successor.sleeper().nap_end();
        assert_eq!(drain(&mut successor), 1);
        killed
    });
    assert!(deaths >= DEATHS_MIN, "{deaths} deaths");
}

/// Each death of the one together with each death of the other.
#[test]
fn both_sides_killed_lose_and_tear_nothing() {
    let mut pairs = 0;
    at_every_step(|producer_steps| {
        let mut producer_killed = false;
        pairs += at_every_step(|consumer_steps| {
            let Ends {
                owner,
                mut producer,
                mut consumer,
            } = used_ring();
            let mut published = 5;
            producer_killed = killed_after(producer_steps, || {
                for _ in 0..2 {
                    publish_one(&mut producer).unwrap();
                    published += 1;
                }
            });
            let mut taken = 4;
            let consumer_killed = killed_after(consumer_steps, || {
                taken += consumer.available().unwrap();
                assert_eq!(drain(&mut consumer), taken - 4);
                consumer.wake_producer();
                let sleeper = consumer.sleeper();
                sleeper.nap_begin(Depth::Idle);
                sleeper.nap_end();
            });
            drop((producer, consumer));
            // Nobody runs: the supervisor sees what there is.
            let left = owner.snapshot();
            assert!(published <= left.tail && left.tail <= 7);
            assert!(left.head <= taken);
            let mut producer = reap_producer(&owner);
            let mut consumer = reap_consumer(&owner);
            assert_eq!((producer.tail(), consumer.head()), (left.tail, left.head));
            assert_eq!(drain(&mut consumer), left.tail - left.head);
            let bed = Bed::at(&*consumer.sleeper());
            assert!(consumer.sleeper().nap_begin(Depth::Idle));
            for _ in 0..4 {
                publish_one(&mut producer).unwrap();
            }
            assert!(bed.is_rung());
            consumer.sleeper().nap_end();
            assert_eq!(drain(&mut consumer), 4);
            consumer_killed
        });
        producer_killed
    });
    assert!(pairs >= 8 * 4, "{pairs} pairs");
}
