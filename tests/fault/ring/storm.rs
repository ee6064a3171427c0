//! R1, the ring's part: kill -9 on either side of a ring at any instant, with real processes and a private ledger.
//!
//! Demanded after each kill: every committed frame is taken (committed is the tail as it stands when the producer is
//! reaped), whole and in order, messages all or none; what is taken twice lies between the last read and the head and is
//! at most one batch; the successor resumes exactly; somebody makes progress; nothing is cleaned up by hand.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ringway::ring::{Geometry, RingFds, RingOwner};
use serde_json::json;

use super::child::{Task, Worker};
use super::consumer::{self, BATCH_FRAMES_MAX};
use super::ledger::{Ledger, Phase};
use super::producer;
use crate::stand::Chance;
use crate::{Form, Outcome, Verdict};

const KILLS: u64 = 8_000;
const KILLS_LONG: u64 = 100_000;

/// How long anything may stand still before it counts as hanging; far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pairs that are killed side by side, each on a ring of its own: one that is full all the time, one that never is,
/// one between.
const GEOMETRIES: [Geometry; 3] = [
    Geometry {
        slots: 8,
        stride: 64,
        answers: 8,
    },
    Geometry {
        slots: 64,
        stride: 128,
        answers: 64,
    },
    Geometry {
        slots: 1024,
        stride: 512,
        answers: 1024,
    },
];

/// Of a hundred rounds, those in which both sides run on for a while: only there can a lost bell be told from one that
/// came with the next kill.
const CALM_OF_100: u64 = 2;
/// Frames that go through in such a round.
const CALM_FRAMES: u64 = 200;
/// Of a hundred rounds, those that strike around the start of a successor.
const EARLY_OF_100: u64 = 40;

pub fn run(form: Form) -> Verdict {
    let kills = if form.long { KILLS_LONG } else { KILLS };
    let before = descriptors();
    let began = Instant::now();
    let pairs = std::thread::scope(|scope| {
        let started = (0u64..).zip(GEOMETRIES).map(|(number, geometry)| {
            let share = kills.div_ceil(GEOMETRIES.len() as u64);
            scope.spawn(move || Pair::new(geometry, number, form.seed).storm(share))
        });
        let started: Vec<_> = started.collect();
        let joined = started.into_iter().map(|thread| thread.join());
        joined.collect::<Vec<_>>()
    });
    let seconds = began.elapsed().as_secs_f64();
    let mut wrong = Vec::new();
    let mut sum = Tally::default();
    for (geometry, pair) in GEOMETRIES.iter().zip(pairs) {
        match pair {
            Ok((tally, end)) => {
                sum.add(&tally);
                wrong.extend(
                    end.err()
                        .map(|what| format!("{} slots: {what}", geometry.slots)),
                );
            }
            Err(_) => wrong.push(format!("{} slots: the test panicked", geometry.slots)),
        }
    }
    let left = descriptors().saturating_sub(before);
    if left > 0 {
        wrong.push(format!("{left} descriptors or maps of rings are left"));
    }
    let outcome = if wrong.is_empty() {
        Outcome::Holds
    } else {
        Outcome::Fails(wrong.join("; "))
    };
    let mut counts = sum.counts();
    let rate = sum.kills() as f64 / seconds;
    counts.insert("kills_per_s", json!((rate * 10.0).round() / 10.0));
    Verdict { outcome, counts }
}

/// Open descriptors and mapped rings of this process.
fn descriptors() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|line| line.contains("memfd:ring"));
    std::fs::read_dir("/proc/self/fd").unwrap().count() + mapped.count()
}

/// Figures of one pair, or of all.
#[derive(Debug, Default)]
struct Tally {
    kills_producer: u64,
    kills_consumer: u64,
    phases_producer: BTreeMap<Phase, u64>,
    phases_consumer: BTreeMap<Phase, u64>,
    frames: u64,
    taken_again: u64,
    naps: u64,
    /// Times that a backstop was slept through with work there, where the death of the peer explains it.
    slept_excused: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.kills_producer += other.kills_producer;
        self.kills_consumer += other.kills_consumer;
        self.frames += other.frames;
        self.taken_again += other.taken_again;
        self.naps += other.naps;
        self.slept_excused += other.slept_excused;
        for (mine, theirs) in [
            (&mut self.phases_producer, &other.phases_producer),
            (&mut self.phases_consumer, &other.phases_consumer),
        ] {
            for (phase, count) in theirs {
                *mine.entry(*phase).or_default() += count;
            }
        }
    }

    fn kills(&self) -> u64 {
        self.kills_producer + self.kills_consumer
    }

    fn counts(&self) -> BTreeMap<&'static str, serde_json::Value> {
        let named = |phases: &BTreeMap<Phase, u64>| {
            let named = phases.iter().map(|(phase, count)| (phase.name(), *count));
            json!(named.collect::<BTreeMap<_, _>>())
        };
        BTreeMap::from([
            ("kills", json!(self.kills())),
            ("kills_producer", json!(self.kills_producer)),
            ("kills_consumer", json!(self.kills_consumer)),
            ("producer_died", named(&self.phases_producer)),
            ("consumer_died", named(&self.phases_consumer)),
            ("frames", json!(self.frames)),
            ("taken_again", json!(self.taken_again)),
            ("naps", json!(self.naps)),
            ("slept_excused", json!(self.slept_excused)),
        ])
    }
}

/// One side: the process that has it now, and its ledger.
struct Side {
    worker: Worker,
    ledger_fd: OwnedFd,
    ledger: Ledger,
    /// The other side was killed since this process started.
    bereaved: bool,
}

impl Side {
    fn new() -> Side {
        let ledger_fd = Ledger::create();
        Side {
            worker: Worker::start(),
            ledger: Ledger::map(ledger_fd.as_fd()),
            ledger_fd,
            bereaved: false,
        }
    }

    fn begin(&mut self, task: Task, ring: &RingFds) {
        self.ledger.enter(Phase::Starting);
        self.bereaved = false;
        let mut fds = ring.as_fds().to_vec();
        fds.push(self.ledger_fd.as_fd());
        self.worker.begin(task, &fds);
    }
}

/// A ring with a process on either side, and the supervisor's part.
struct Pair {
    owner: RingOwner,
    producer: Side,
    consumer: Side,
    spare: Worker,
    chance: Chance,
    /// Frames before this one were taken, and are checked.
    checked: u64,
    tally: Tally,
}

impl Pair {
    fn new(geometry: Geometry, number: u64, seed: u64) -> Pair {
        Pair {
            owner: RingOwner::create(geometry, number as u32, 1).unwrap(),
            producer: Side::new(),
            consumer: Side::new(),
            spare: Worker::start(),
            chance: Chance::new(seed * 31 + number),
            checked: 0,
            tally: Tally::default(),
        }
    }

    fn storm(mut self, kills: u64) -> (Tally, Result<(), String>) {
        let end = self.rounds(kills).and_then(|()| self.finish());
        self.tally.naps = self.producer.ledger.naps() + self.consumer.ledger.naps();
        (self.tally, end)
    }

    fn rounds(&mut self, kills: u64) -> Result<(), String> {
        self.start_producer();
        self.start_consumer();
        while self.tally.kills() < kills {
            self.wait()?;
            match self.chance.below(10) {
                0..4 => self.strike(true, false)?,
                4..8 => self.strike(false, true)?,
                _ => self.strike(true, true)?,
            }
        }
        Ok(())
    }

    /// Lets both sides work for a seeded while.
    fn wait(&mut self) -> Result<(), String> {
        let kind = self.chance.below(100);
        let micros = if kind < CALM_OF_100 {
            self.progress(CALM_FRAMES)?;
            0
        } else if kind < CALM_OF_100 + EARLY_OF_100 {
            self.chance.below(1_200)
        } else {
            self.progress(1)?;
            self.chance.below(800)
        };
        std::thread::sleep(Duration::from_micros(micros));
        Ok(())
    }

    /// Waits until so many frames more are taken.
    fn progress(&mut self, frames: u64) -> Result<(), String> {
        let goal = self.owner.head() + frames;
        self.until("frames to be taken", |owner| owner.head() >= goal)
    }

    fn until(&mut self, what: &str, reached: impl Fn(&RingOwner) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !reached(&self.owner) {
            self.faults()?;
            self.check_notes()?;
            if Instant::now() > deadline {
                return Err(format!(
                    "hang: waited {PATIENCE:?} for {what} at {:?}, producer {:?}, consumer {:?}",
                    self.owner.snapshot(),
                    self.producer.ledger.phase(),
                    self.consumer.ledger.phase()
                ));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        self.faults()
    }

    /// What a child found wrong.
    fn faults(&self) -> Result<(), String> {
        for (name, side) in [("producer", &self.producer), ("consumer", &self.consumer)] {
            if let Some((fault, at)) = side.ledger.found() {
                return Err(format!("{name} found {fault:?} at {at}"));
            }
        }
        Ok(())
    }

    /// Kills one side or both, does what the supervisor does, and starts the successors.
    fn strike(&mut self, producer: bool, consumer: bool) -> Result<(), String> {
        if producer {
            self.producer.worker.kill();
        }
        if consumer {
            self.consumer.worker.kill();
        }
        let consumer_first = self.chance.below(2) == 0;
        for side in [consumer_first, !consumer_first] {
            if side && consumer {
                self.reap_consumer()?;
            } else if !side && producer {
                self.reap_producer()?;
            }
        }
        self.faults()?;
        for side in [!consumer_first, consumer_first] {
            if side && consumer {
                self.start_consumer();
            } else if !side && producer {
                self.start_producer();
            }
        }
        Ok(())
    }

    fn reap_producer(&mut self) -> Result<(), String> {
        self.producer.worker.reap();
        self.tally.kills_producer += 1;
        let phase = self.producer.ledger.phase();
        *self.tally.phases_producer.entry(phase).or_default() += 1;
        self.consumer.bereaved = true;
        self.overslept(
            self.producer.bereaved,
            self.producer.ledger.take_slept_through(),
        )?;
        self.owner
            .set_generation()
            .map_err(|why| format!("after a kill while {}: {why}", phase.name()))?;
        let tail = self.owner.tail();
        if let Some(seq) = (tail..tail + BATCH_FRAMES_MAX).find(|&seq| self.taken(seq) > 0) {
            return Err(format!("frame {seq} was taken, committed is up to {tail}"));
        }
        self.owner.ring_bells();
        Ok(())
    }

    fn reap_consumer(&mut self) -> Result<(), String> {
        self.consumer.worker.reap();
        self.tally.kills_consumer += 1;
        let phase = self.consumer.ledger.phase();
        *self.tally.phases_consumer.entry(phase).or_default() += 1;
        self.producer.bereaved = true;
        self.overslept(
            self.consumer.bereaved,
            self.consumer.ledger.take_slept_through(),
        )?;
        self.check_notes()?;
        let head = self.owner.head();
        if self.taken(head + BATCH_FRAMES_MAX) > 0 {
            return Err(format!("more than a batch was taken beyond head {head}"));
        }
        self.owner.ring_bells();
        Ok(())
    }

    fn overslept(&mut self, bereaved: bool, times: u64) -> Result<(), String> {
        if times > 0 && !bereaved {
            return Err(format!("a bell did not ring, {times} times"));
        }
        self.tally.slept_excused += times;
        Ok(())
    }

    fn start_producer(&mut self) {
        let paces = [
            producer::Pace::Flood,
            producer::Pace::Room,
            producer::Pace::Ask,
            producer::Pace::Sparse,
            producer::Pace::Churn,
        ];
        let task = Task::Produce(producer::Task {
            pace: paces[self.chance.below(paces.len() as u64) as usize],
            seed: self.chance.below(1 << 30),
            resume_at: self.owner.tail(),
        });
        self.producer.worker = std::mem::replace(&mut self.spare, Worker::start());
        self.producer
            .begin(task, &self.owner.producer_fds().unwrap());
    }

    fn start_consumer(&mut self) {
        let paces = [
            consumer::Pace::Poll,
            consumer::Pace::Nap,
            consumer::Pace::Nap,
            consumer::Pace::Churn,
        ];
        let task = Task::Consume(consumer::Task {
            pace: paces[self.chance.below(paces.len() as u64) as usize],
            resume_at: self.owner.head(),
        });
        self.consumer.worker = std::mem::replace(&mut self.spare, Worker::start());
        self.consumer
            .begin(task, &self.owner.consumer_fds().unwrap());
    }

    fn taken(&self, seq: u64) -> u64 {
        self.consumer.ledger.taken(seq)
    }

    /// What is free must have been taken.
    fn check_notes(&mut self) -> Result<(), String> {
        let head = self.owner.head();
        let again = self.consumer.ledger.check(self.checked..head);
        self.tally.taken_again +=
            again.map_err(|seq| format!("lost: frame {seq} is free and was never taken"))?;
        self.tally.frames += head - self.checked;
        self.checked = head;
        Ok(())
    }

    /// The producer dies for good; everything that it and its predecessors committed is still taken.
    fn finish(&mut self) -> Result<(), String> {
        self.producer.worker.kill();
        self.reap_producer()?;
        self.until("the rest to be taken", |owner| owner.snapshot().used() == 0)?;
        self.consumer.worker.kill();
        self.reap_consumer()?;
        self.faults()?;
        if self.checked != self.owner.tail() {
            return Err(format!(
                "taken up to {}, committed {}",
                self.checked,
                self.owner.tail()
            ));
        }
        Ok(())
    }
}
