//! The storm's producer: publishes numbered messages without end, and checks the answers of those that are free.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ringway::ring::{BACKSTOP, Outcome, Producer, RingFds, Waiter, Woken};
use ringway::sys::clock;
use serde::{Deserialize, Serialize};

use super::child::{Parent, block_on};
use super::ledger::{Fault, Ledger, Phase};
use super::message::{self, FRAMES_MAX, HEAD_BYTES, Head};
use crate::stand::Chance;

/// How a producer spends its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// As fast as it can; a full ring is asked again and again.
    Flood,
    /// As fast as it can; it sleeps until a full ring has room.
    Room,
    /// One message at a time; it sleeps until that is answered.
    Ask,
    /// One message, then a sleep that no message ends.
    Sparse,
    /// It attaches again for every few messages.
    Churn,
}

/// What a producer is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Task {
    pub pace: Pace,
    pub seed: u64,
    /// Where it must resume.
    pub resume_at: u64,
}

pub fn run(task: Task, fds: Vec<OwnedFd>) {
    let mut fds = fds.into_iter();
    let ring = RingFds::take(&mut fds).expect("the descriptors of a ring");
    let ledger = Ledger::map(fds.next().expect("a ledger").as_fd());
    ledger.enter(Phase::Attaching);
    block_on(publish(task, ring, &ledger));
}

async fn publish(task: Task, fds: RingFds, ledger: &Ledger) {
    let parent = Parent::find();
    let mut chance = Chance::new(task.seed);
    let mut resume_at = task.resume_at;
    while parent.lives() {
        ledger.enter(Phase::Attaching);
        let producer = match Producer::attach(&fds) {
            Ok(producer) if producer.tail() == resume_at => producer,
            Ok(producer) => return ledger.fault(Fault::Resume, producer.tail()),
            Err(_) => return ledger.fault(Fault::Attach, resume_at),
        };
        let mut life = Life::new(producer, ledger, task.pace);
        ledger.enter(Phase::Between);
        loop {
            match life.message(&mut chance).await {
                Ok(()) => {}
                Err((fault, at)) => return ledger.fault(fault, at),
            }
            if task.pace == Pace::Churn && chance.below(4) == 0 {
                break;
            }
            if life.published.is_multiple_of(1024) && !parent.lives() {
                return;
            }
        }
        resume_at = life.producer.tail();
    }
}

/// What is wrong, and at which sequence.
type Wrong = (Fault, u64);

struct Life<'a> {
    producer: Producer,
    waiter: Waiter,
    ledger: &'a Ledger,
    pace: Pace,
    /// Messages of this life whose slots are not free: first sequence, and the one after the last.
    in_flight: VecDeque<(u64, u64)>,
    records: Vec<Vec<u8>>,
    published: u64,
}

impl<'a> Life<'a> {
    fn new(producer: Producer, ledger: &'a Ledger, pace: Pace) -> Life<'a> {
        let mut waiter = Waiter::new().unwrap();
        waiter.add_producer(&producer).unwrap();
        Life {
            producer,
            waiter,
            ledger,
            pace,
            in_flight: VecDeque::new(),
            records: vec![Vec::new(); FRAMES_MAX as usize],
            published: 0,
        }
    }

    /// Publishes one message, however long that takes, and does what its pace says.
    async fn message(&mut self, chance: &mut Chance) -> Result<(), Wrong> {
        self.ledger.enter(Phase::Publishing);
        let slots = u64::from(self.producer.identity().geometry.slots);
        let parts = 1 + chance.below(FRAMES_MAX.min(slots));
        self.fill(parts, chance);
        let urgent = chance.below(8) == 0;
        let first = loop {
            let records = self.records[..parts as usize].iter().map(Vec::as_slice);
            match self
                .producer
                .try_publish(&records.collect::<Vec<_>>(), urgent)
            {
                Ok(first) => break first,
                Err(_) => self.full(parts).await?,
            }
        };
        self.in_flight.push_back((first, first + parts));
        self.published += 1;
        self.ledger.enter(Phase::Between);
        match self.pace {
            Pace::Ask => self.answered(first).await?,
            Pace::Sparse => self.rest(chance).await,
            Pace::Flood | Pace::Room | Pace::Churn => {}
        }
        self.check_answers()
    }

    /// Makes the records of the next message; the time is that of now, since it is published at once or late.
    fn fill(&mut self, parts: u64, chance: &mut Chance) {
        let first = self.producer.tail();
        let spare = self.producer.record_bytes_max() - HEAD_BYTES;
        for part in 0..parts {
            let head = Head {
                seq: first + part,
                published_us: now_us(),
                life: self.producer.generation() as u32,
                part: part as u8,
                parts: parts as u8,
            };
            let length = HEAD_BYTES + chance.below(spare as u64 + 1) as usize;
            head.encode(length, &mut self.records[part as usize]);
        }
    }

    /// Waits until there may be room.
    async fn full(&mut self, parts: u64) -> Result<(), Wrong> {
        if self.pace != Pace::Room {
            self.ledger.enter(Phase::Polling);
            self.check_answers()?;
            tokio::task::yield_now().await;
            std::thread::yield_now();
            self.ledger.enter(Phase::Publishing);
            return Ok(());
        }
        self.producer.wait_for(parts, false);
        let woken = self.nap(BACKSTOP).await;
        if woken == Woken::Deadline && self.producer.room() >= parts {
            self.ledger.slept_through();
        }
        self.ledger.enter(Phase::Publishing);
        Ok(())
    }

    /// Sleeps until the message that begins there is answered.
    async fn answered(&mut self, first: u64) -> Result<(), Wrong> {
        self.producer.wait_for(0, true);
        let mut woken = Woken::Bell;
        loop {
            match self.outcome(first) {
                Outcome::Pending => woken = self.nap(BACKSTOP).await,
                _ if woken == Woken::Bell => return Ok(()),
                _ => {
                    self.ledger.slept_through();
                    return Ok(());
                }
            }
        }
    }

    async fn rest(&mut self, chance: &mut Chance) {
        self.producer.wait_for(0, false);
        self.nap(Duration::from_micros(chance.below(1_500))).await;
    }

    async fn nap(&mut self, patience: Duration) -> Woken {
        self.ledger.napped();
        self.ledger.enter(Phase::Napping);
        let woken = self.waiter.wait(patience).await;
        self.ledger.enter(Phase::Between);
        woken
    }

    fn outcome(&self, first: u64) -> Outcome {
        let answers = u64::from(self.producer.identity().geometry.answers);
        self.producer
            .outcome((first % answers) as u32)
            .outcome_of(first)
    }

    /// The consumer answers before it frees: what is free has its answer, unless a later message's took its place.
    fn check_answers(&mut self) -> Result<(), Wrong> {
        let head = self.producer.head();
        let answers = u64::from(self.producer.identity().geometry.answers);
        while let Some(&(first, end)) = self.in_flight.front()
            && end <= head
        {
            let word = self.producer.outcome((first % answers) as u32);
            let right = message::outcome(first);
            if word.first_seq() < first || word.first_seq() == first && word.outcome() != right {
                return Err((Fault::Answer, first));
            }
            self.in_flight.pop_front();
        }
        Ok(())
    }
}

fn now_us() -> u64 {
    clock::monotonic_ns() / 1_000
}
