//! The storm's consumer: takes messages, checks every byte of them, notes each frame, answers, and frees, in this order.

use std::os::fd::{AsFd, OwnedFd};

use ringway::ring::{BACKSTOP, Consumer, RingFds, Waiter, Woken};
use ringway::sys::clock;
use serde::{Deserialize, Serialize};

use super::child::{Parent, block_on};
use super::ledger::{Fault, Ledger, Phase};
use super::message::{self, FRAMES_MAX, Head};

/// Frames after which a batch ends with the message that it is in; what is read twice is at most one batch.
const BATCH_FRAMES: u64 = 16;

/// Most frames of a batch.
pub const BATCH_FRAMES_MAX: u64 = BATCH_FRAMES + FRAMES_MAX - 1;

/// A frame this old when a whole backstop is over lay there while the consumer slept: its bell did not ring.
const OLD_US: u64 = 900_000;

/// How a consumer spends its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// It asks an empty ring again and again.
    Poll,
    /// It sleeps while the ring is empty.
    Nap,
    /// It attaches again after every few batches.
    Churn,
}

/// What a consumer is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Task {
    pub pace: Pace,
    /// Where it must resume.
    pub resume_at: u64,
}

pub fn run(task: Task, fds: Vec<OwnedFd>) {
    let mut fds = fds.into_iter();
    let ring = RingFds::take(&mut fds).expect("the descriptors of a ring");
    let ledger = Ledger::map(fds.next().expect("a ledger").as_fd());
    ledger.enter(Phase::Attaching);
    block_on(take(task, ring, &ledger));
}

async fn take(task: Task, fds: RingFds, ledger: &Ledger) {
    let parent = Parent::find();
    let mut resume_at = task.resume_at;
    while parent.lives() {
        ledger.enter(Phase::Attaching);
        let consumer = match Consumer::attach(&fds) {
            Ok(consumer) if consumer.head() == resume_at => consumer,
            Ok(consumer) => return ledger.fault(Fault::Resume, consumer.head()),
            Err(_) => return ledger.fault(Fault::Attach, resume_at),
        };
        let mut waiter = Waiter::new().unwrap();
        waiter.add_consumer(&consumer).unwrap();
        let mut life = Life {
            taker: Taker::new(consumer, ledger),
            waiter,
            pace: task.pace,
        };
        for round in 1u64.. {
            if let Err((fault, at)) = life.round().await {
                return ledger.fault(fault, at);
            }
            if task.pace == Pace::Churn && round == 8 || round % 256 == 0 && !parent.lives() {
                break;
            }
        }
        resume_at = life.taker.consumer.head();
    }
}

struct Life<'a> {
    taker: Taker<'a>,
    waiter: Waiter,
    pace: Pace,
}

impl Life<'_> {
    /// Takes a batch, or waits for one.
    async fn round(&mut self) -> Result<(), Wrong> {
        if self.taker.batch()? > 0 {
            return Ok(());
        }
        let ledger = self.taker.ledger;
        if self.pace != Pace::Nap {
            ledger.enter(Phase::Polling);
            tokio::task::yield_now().await;
            std::thread::yield_now();
            return Ok(());
        }
        ledger.napped();
        ledger.enter(Phase::Napping);
        let woken = self.waiter.wait(BACKSTOP).await;
        ledger.enter(Phase::Between);
        if woken == Woken::Deadline {
            self.taker.after_backstop()?;
        }
        Ok(())
    }
}

/// What is wrong, and at which sequence.
pub type Wrong = (Fault, u64);

/// Takes whole messages from an honest ring.
pub struct Taker<'a> {
    pub consumer: Consumer,
    ledger: &'a Ledger,
    record: Vec<u8>,
}

impl<'a> Taker<'a> {
    pub fn new(consumer: Consumer, ledger: &'a Ledger) -> Taker<'a> {
        Taker {
            consumer,
            ledger,
            record: Vec::new(),
        }
    }

    /// Takes a batch, answers it and frees it; returns its frames.
    pub fn batch(&mut self) -> Result<u64, Wrong> {
        self.ledger.enter(Phase::Draining);
        let head = self.consumer.head();
        let end = head + self.available()?;
        let mut firsts = Vec::new();
        let mut seq = head;
        while seq < end && seq - head < BATCH_FRAMES && self.ledger.has_room_for(seq + FRAMES_MAX) {
            firsts.push(seq);
            seq = self.message(seq, end)?;
        }
        if seq == head {
            return Ok(0);
        }
        self.ledger.enter(Phase::Answering);
        let answers = u64::from(self.consumer.identity().geometry.answers);
        for first in firsts {
            self.consumer
                .set_outcome((first % answers) as u32, first, message::outcome(first));
        }
        self.consumer.advance(seq);
        self.consumer.wake_producer();
        Ok(seq - head)
    }

    /// Takes the message that begins there; returns the sequence after it.
    fn message(&mut self, first: u64, end: u64) -> Result<u64, Wrong> {
        let head = self.frame(first)?;
        let after = first + u64::from(head.parts);
        // The whole message was committed by the store that committed its first frame.
        if head.part != 0 || after > end {
            return Err((Fault::Split, first));
        }
        for seq in first + 1..after {
            let next = self.frame(seq)?;
            let same = (next.first_seq(), next.parts, next.life);
            if same != (first, head.parts, head.life) {
                return Err((Fault::Split, seq));
            }
        }
        Ok(after)
    }

    /// Takes a frame: reads it, checks it, notes it.
    fn frame(&mut self, seq: u64) -> Result<Head, Wrong> {
        let head = self.look_at(seq)?;
        self.ledger.take(seq);
        Ok(head)
    }

    fn look_at(&mut self, seq: u64) -> Result<Head, Wrong> {
        self.consumer
            .read(seq, &mut self.record)
            .map_err(|_| (Fault::Violation, seq))?;
        let head = Head::decode(&self.record).ok_or((Fault::Torn, seq))?;
        if head.seq != seq {
            return Err((Fault::Order, seq));
        }
        Ok(head)
    }

    /// Looks whether something lay there all the time that was just slept.
    fn after_backstop(&mut self) -> Result<(), Wrong> {
        if self.available()? > 0 {
            let head = self.look_at(self.consumer.head())?;
            let now_us = clock::monotonic_ns() / 1_000;
            if now_us - head.published_us > OLD_US {
                self.ledger.slept_through();
            }
        }
        Ok(())
    }

    fn available(&mut self) -> Result<u64, Wrong> {
        let head = self.consumer.head();
        self.consumer
            .available()
            .map_err(|_| (Fault::Violation, head))
    }
}
