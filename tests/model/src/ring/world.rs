//! A ring in the model's memory, and what its sides do with it.

use std::sync::{Arc, Mutex};

use loom::cell::Cell;

use super::answer::Outcome;
use super::consumer::Consumer;
use super::layout::{
    Geometry, Identity, SLOT_HEADER_BYTES, consumer_region, producer_region, supervisor_page,
};
use super::nap::{Depth, Sleeper};
use super::owner::RingOwner;
use super::page::Page;
use super::producer::Producer;
use super::sync::{Bell, Descriptors, Memory, ReadRegion, WriteRegion};

/// Header and four words of record.
const STRIDE_BYTES: u32 = 64;

/// A ring as the supervisor has it.
pub struct World {
    pub owner: RingOwner,
    page: Arc<Memory>,
    producer_region: Arc<Memory>,
    consumer_region: Arc<Memory>,
    bells: [Bell; 2],
}

impl World {
    pub fn new(slots: u32, answers: u32) -> Arc<World> {
        use {consumer_region as c, producer_region as p, supervisor_page as s};
        let geometry = Geometry {
            slots,
            stride: STRIDE_BYTES,
            answers,
        };
        let page = Memory::new(
            s::BYTES,
            &[s::GENERATION, s::CLOSED],
            // Written before anybody else has the page.
            s::MAGIC..s::ANSWERS + 1,
        );
        let slot_words = p::SLOTS_BYTE / 8..geometry.producer_bytes() / 8;
        let producer_region = Memory::new(
            geometry.producer_bytes(),
            &[
                p::TAIL,
                p::CLOSED,
                p::NAP,
                p::WAKE_AT,
                p::WANTS_ANSWERS,
                p::RESYNC,
            ],
            slot_words,
        );
        let mut control = vec![c::HEAD, c::NAP, c::WAKE_AT, c::ANSWERED];
        control.extend((0..answers as usize).map(|index| c::ANSWERS + index));
        let consumer_region = Memory::new(geometry.consumer_bytes(), &control, 0..0);
        let bells = [Bell::new(), Bell::new()];
        let identity = Identity {
            ring: 1,
            birth: 1,
            geometry,
        };
        Arc::new(World {
            owner: RingOwner::begin(
                identity,
                WriteRegion(page.clone()),
                ReadRegion(producer_region.clone()),
                ReadRegion(consumer_region.clone()),
                bells.clone(),
                Descriptors,
            ),
            page,
            producer_region,
            consumer_region,
            bells,
        })
    }

    pub fn producer(&self) -> Producer {
        Producer::resume(
            self.page(),
            WriteRegion(self.producer_region.clone()),
            ReadRegion(self.consumer_region.clone()),
            self.bells.clone(),
        )
        .unwrap()
    }

    pub fn consumer(&self) -> Consumer {
        Consumer::resume(
            self.page(),
            WriteRegion(self.consumer_region.clone()),
            ReadRegion(self.producer_region.clone()),
            self.bells.clone(),
        )
        .unwrap()
    }

    fn page(&self) -> Page {
        Page::read(ReadRegion(self.page.clone())).unwrap()
    }

    /// What the supervisor does when it has reaped a producer, and a successor.
    pub fn next_producer(&self) -> Producer {
        self.owner.set_generation().unwrap();
        self.owner.ring_bells();
        self.producer()
    }

    /// What the supervisor does when it has reaped a consumer, and a successor.
    pub fn next_consumer(&self) -> Consumer {
        self.owner.check().unwrap();
        self.owner.ring_bells();
        self.consumer()
    }
}

/// Publishes the record that belongs to the next sequence, if there is room.
pub fn publish(producer: &mut Producer) -> bool {
    let record = record(producer.tail());
    producer.try_publish(&[&record], false).is_ok()
}

/// The record of a sequence: two words, so that half of one is noticed.
pub fn record(seq: u64) -> [u8; 16] {
    let word = (0x5eed_0000_0000_0000 | seq).to_ne_bytes();
    [word, word].concat().try_into().unwrap()
}

/// Reads all that is there, checks that it is what belongs there, and frees it. Returns how many it was.
pub fn drain(consumer: &mut Consumer) -> u64 {
    let count = read_all(consumer);
    consumer.advance(consumer.tail());
    count
}

/// As [`drain`], without freeing.
pub fn read_all(consumer: &mut Consumer) -> u64 {
    let head = consumer.head();
    let count = consumer.available().expect("the producer keeps the rules");
    let mut out = Vec::with_capacity(STRIDE_BYTES as usize - SLOT_HEADER_BYTES);
    for seq in head..head + count {
        consumer
            .read(seq, &mut out)
            .expect("the producer keeps the rules");
        assert_eq!(out, record(seq), "sequence {seq}");
    }
    count
}

/// Sleeps as a waiter does, but for its backstop. With [`Depth::Busy`] there is no timer either.
pub fn sleep(sleeper: &dyn Sleeper, depth: Depth) {
    if sleeper.nap_begin(depth) {
        sleeper.bell().wait();
    }
    sleeper.nap_end();
    sleeper.look();
}

/// Takes frames, asleep whenever there are none, until the head is at `end`.
pub fn take_until(consumer: &mut Consumer, end: u64) {
    let sleeper = consumer.sleeper();
    while consumer.head() < end {
        if drain(consumer) == 0 {
            sleep(&*sleeper, Depth::Idle);
        } else {
            consumer.wake_producer();
        }
    }
}

/// Publishes frames, asleep whenever there is no room, until the tail is at `end`.
pub fn publish_until(producer: &mut Producer, end: u64) {
    let sleeper = producer.sleeper();
    while producer.tail() < end {
        if !publish(producer) {
            producer.wait_for(1, false);
            sleep(&*sleeper, Depth::Idle);
        }
    }
}

/// Waits, asleep whenever it is pending, for the outcome of the message that began at `first_seq`.
pub fn settled(producer: &Producer, index: u32, first_seq: u64) -> Outcome {
    let sleeper = producer.sleeper();
    producer.wait_for(0, true);
    loop {
        match producer.outcome(index).outcome_of(first_seq) {
            Outcome::Pending => sleep(&*sleeper, Depth::Idle),
            outcome => return outcome,
        }
    }
}

/// Something beside the ring that its order has to carry across, such as a journal or the state table.
#[derive(Clone)]
pub struct Witness(Arc<Mutex<Cell<u64>>>);

impl Witness {
    pub fn new() -> Witness {
        Witness(Arc::new(Mutex::new(Cell::new(0))))
    }

    /// Unordered with anything else: a run in which another thread looks at the same time fails.
    pub fn set(&self, value: u64) {
        self.0.lock().unwrap().set(value);
    }

    /// As [`Witness::set`].
    pub fn get(&self) -> u64 {
        self.0.lock().unwrap().get()
    }
}
