//! S2: random images of a ring's memory and of a state table, each attached to and read by the product and by a judge
//! that knows only the description of the layout; and random orders of steps of both sides of a ring beside a model.
//!
//! An image is an input of a fuzz target, made from seed and number, so that any of them can be made again. The judge
//! says of each whether the product was right; beside it, what the image was made of says what must come of it at least.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::ring_validator::{self, GEOMETRIES, kind};
use crate::harness::step::Step;
use crate::harness::{ring_peer, state_table};
use crate::stand::Chance;
use crate::{Form, Outcome, Verdict};

/// Images of a ring in the long form; state tables and orders of steps come on top.
const RINGS_LONG: u64 = 1_000_000;
/// All images of the long form.
const IMAGES_LONG: u64 = (RINGS_LONG * KINDS_OF).div_ceil(KINDS_OF - 2);
/// How long the short form goes on.
const SHORT: Duration = Duration::from_secs(20);
/// How long one image may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);
const THREADS: u64 = 2;
/// Of so many images, one is a state table and one an order of steps.
const KINDS_OF: u64 = 8;

/// A file with one image, to be run instead of all others.
const IMAGE_VARIABLE: &str = "RINGWAY_IMAGE";

pub fn run(form: Form) -> Verdict {
    if let Some(path) = std::env::var_os(IMAGE_VARIABLE).map(PathBuf::from) {
        return one(&path);
    }
    let began = Instant::now();
    let lanes: Vec<Arc<Lane>> = (0..THREADS).map(|_| Arc::default()).collect();
    for (number, lane) in (0..).zip(&lanes) {
        let lane = lane.clone();
        std::thread::spawn(move || lane.run(form, number, began));
    }
    let outcome = supervise(&lanes);
    let images: u64 = lanes.iter().map(|lane| lane.done()).sum();
    let mut sum: BTreeMap<&'static str, u64> = BTreeMap::new();
    for lane in &lanes {
        for (name, count) in lane.seen.lock().unwrap().iter() {
            *sum.entry(name).or_default() += count;
        }
    }
    let rings = sum.get(Target::Validator.counted()).copied();
    let outcome = match outcome {
        Outcome::Holds if form.long && rings.unwrap_or(0) < RINGS_LONG => {
            Outcome::Fails(format!("{rings:?} images of a ring, not {RINGS_LONG}"))
        }
        outcome => outcome,
    };
    let counts = sum.into_iter().map(|(name, count)| (name, json!(count)));
    let mut counts: BTreeMap<_, _> = counts.collect();
    let rate = images as f64 / began.elapsed().as_secs_f64();
    counts.insert("images_per_s", json!(rate.round()));
    Verdict { outcome, counts }
}

/// Runs the image of a file.
fn one(path: &Path) -> Verdict {
    let image = Image {
        bytes: std::fs::read(path).unwrap(),
        target: Target::of_file(path),
        demand: Demand::None,
    };
    let outcome = match image.check() {
        Ok(seen) => {
            eprintln!("ring-images: {}: {seen:?}", path.display());
            Outcome::Holds
        }
        Err(why) => Outcome::Fails(why),
    };
    let counts = BTreeMap::from([(image.target.counted(), json!(1))]);
    Verdict { outcome, counts }
}

/// Waits for all lanes, or for one that fails or stands still.
fn supervise(lanes: &[Arc<Lane>]) -> Outcome {
    let mut moved = vec![(0, Instant::now()); lanes.len()];
    loop {
        for (lane, moved) in lanes.iter().zip(&mut moved) {
            if let Some(failure) = lane.failure.lock().unwrap().take() {
                return Outcome::Fails(failure);
            }
            if moved.0 != lane.done() || lane.over.load(Relaxed) {
                *moved = (lane.done(), Instant::now());
            } else if moved.1.elapsed() > PATIENCE {
                let image = lane.current.lock().unwrap().clone();
                return Outcome::Fails(format!("hang: {}", image.keep()));
            }
        }
        if lanes.iter().all(|lane| lane.over.load(Relaxed)) {
            return Outcome::Holds;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One thread's work.
#[derive(Default)]
struct Lane {
    done: AtomicU64,
    over: AtomicBool,
    current: Mutex<Image>,
    failure: Mutex<Option<String>>,
    seen: Mutex<BTreeMap<&'static str, u64>>,
}

impl Lane {
    fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    fn run(&self, form: Form, number: u64, began: Instant) {
        for n in (number..).step_by(THREADS as usize) {
            let enough = match form.long {
                true => n >= IMAGES_LONG,
                false => began.elapsed() > SHORT,
            };
            if enough {
                break;
            }
            let image = Image::new(form.seed, n);
            *self.current.lock().unwrap() = image.clone();
            match image.check() {
                Ok(seen) => {
                    let mut sum = self.seen.lock().unwrap();
                    *sum.entry(image.target.counted()).or_default() += 1;
                    for (name, count) in seen {
                        *sum.entry(name).or_default() += count;
                    }
                }
                Err(why) => {
                    let kept = image.keep();
                    let failure = format!("image {n} of seed {}: {why}; {kept}", form.seed);
                    *self.failure.lock().unwrap() = Some(failure);
                    break;
                }
            }
            self.done.fetch_add(1, Relaxed);
        }
        self.over.store(true, Relaxed);
    }
}

/// What an image must lead to, known from how it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Demand {
    #[default]
    None,
    /// Nothing of it was validly written.
    NothingAccepted,
    /// All of it was: so many frames, and no violation.
    AllAccepted(u64),
    /// So many frames at most are good, and what follows is found out.
    Caught(u64),
}

/// The fuzz target that an image is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Target {
    #[default]
    Validator,
    Table,
    Peer,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Validator => "ring_validator",
            Target::Table => "state_table",
            Target::Peer => "ring_peer",
        }
    }

    /// The name under which its images are counted.
    fn counted(self) -> &'static str {
        match self {
            Target::Validator => "ring_images",
            Target::Table => "table_images",
            Target::Peer => "step_orders",
        }
    }

    /// By a part of the file's path, be it of this case or of the corpus.
    fn of_file(path: &Path) -> Target {
        let path = path.to_string_lossy();
        let named = [Target::Table, Target::Peer].into_iter();
        let mut named = named.filter(|target| path.contains(target.name()));
        named.next().unwrap_or_default()
    }
}

#[derive(Clone, Default)]
struct Image {
    bytes: Vec<u8>,
    target: Target,
    demand: Demand,
}

/// What an image led to.
type Seen = Vec<(&'static str, u64)>;

impl Image {
    /// The image of that number.
    fn new(seed: u64, n: u64) -> Image {
        let mut maker = Maker {
            chance: Chance::new(seed.wrapping_mul(0x1_0000_0001).wrapping_add(n)),
            bytes: Vec::new(),
        };
        // Numbers next to each other begin alike in this generator.
        (0..8).for_each(|_| _ = maker.chance.below(2));
        let (target, demand) = match n % KINDS_OF {
            0 => {
                maker.anything(state_table::kind::COUNT);
                (Target::Table, Demand::None)
            }
            1 => {
                // Every other one with honest sides only, for which the model is exact.
                let kinds = [ring_peer::kind::HOSTILE_STORE, ring_peer::kind::COUNT];
                maker.anything(kinds[(n / KINDS_OF % 2) as usize]);
                (Target::Peer, Demand::None)
            }
            _ => (Target::Validator, maker.ring()),
        };
        Image {
            bytes: maker.bytes,
            target,
            demand,
        }
    }

    fn check(&self) -> Result<Seen, String> {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            match self.target {
                Target::Validator => {}
                Target::Table => {
                    let seen = state_table::run(&self.bytes);
                    return Ok(vec![
                        ("table_accepted", seen.accepted),
                        ("table_damaged", seen.damaged),
                    ]);
                }
                Target::Peer => {
                    let seen = ring_peer::run(&self.bytes);
                    return Ok(vec![("peer_read", seen.read)]);
                }
            }
            let seen = ring_validator::run(&self.bytes);
            let right = match self.demand {
                Demand::None => true,
                Demand::NothingAccepted => seen.accepted == 0,
                Demand::AllAccepted(frames) => (seen.accepted, seen.violations) == (frames, 0),
                Demand::Caught(frames) => seen.accepted <= frames && seen.violations > 0,
            };
            if !right {
                return Err(format!("{seen:?} although {:?}", self.demand));
            }
            Ok(vec![
                ("accepted", seen.accepted),
                ("violations", seen.violations),
                ("reread", seen.reread),
                ("refused", seen.refused),
            ])
        }));
        ran.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.unwrap_or_else(|| "it panicked".into()))
        })
    }

    /// Writes the image to a file and says how to run it.
    fn keep(&self) -> String {
        let folder = std::env::temp_dir();
        let name = self.target.name();
        let path = folder.join(format!("ringway-{name}-{}", std::process::id()));
        match std::fs::write(&path, &self.bytes) {
            Ok(()) => format!("{IMAGE_VARIABLE}={} tests/lab ring-images", path.display()),
            Err(why) => format!("the image cannot be kept: {why}"),
        }
    }
}

/// Puts an image together.
struct Maker {
    chance: Chance,
    bytes: Vec<u8>,
}

impl Maker {
    fn ring(&mut self) -> Demand {
        // The long strides cost most and show least.
        let index = match self.chance.below(16) {
            0 => 4 + self.chance.below(4),
            _ => self.chance.below(4),
        };
        let (slots, ..) = GEOMETRIES[index as usize];
        let head = (self.chance.below(3) as u8, self.random());
        self.step(index as u8, head.0, 0, head.1);
        let frames = 1 + self.chance.below(u64::from(slots.min(12)));
        match self.chance.below(11) {
            0 => {
                let seed = self.random();
                self.step(kind::NOISE, 0, 255, seed);
                let tail = self.random();
                self.step(kind::TAIL, frames as u8, [0, 3][(tail % 2) as usize], tail);
                Demand::NothingAccepted
            }
            1 => {
                self.good(frames);
                Demand::AllAccepted(frames)
            }
            2 => {
                self.good(frames);
                let (at, word) = (self.chance.below(frames), self.chance.below(4));
                let bits = self.random() | 1;
                self.step(kind::FLIP, at as u8, word as u8, bits);
                Demand::Caught(at)
            }
            3 => {
                self.good(frames);
                let beyond = u64::from(slots) + 1 + self.chance.below(40);
                if beyond < 128 {
                    self.step(kind::TAIL, beyond as u8, 0, 0);
                } else {
                    self.step(kind::TAIL, 0, 3, u64::MAX - beyond);
                }
                Demand::Caught(0)
            }
            4 => {
                self.good(frames);
                let at = self.chance.below(frames);
                let (by, v) = (1 + self.chance.below(200), self.random());
                // A good frame that says one sequence and lies at the place of another.
                self.step(
                    kind::DISPLACED,
                    (at as u8).wrapping_sub(by as u8),
                    by as u8,
                    v,
                );
                match by < 128 {
                    true => Demand::Caught(at),
                    // The offset is signed.
                    false => Demand::None,
                }
            }
            5 => {
                self.good(frames);
                let (at, v) = (self.chance.below(frames), self.random());
                let generation = [0, 4 + self.chance.below(4)][self.chance.below(2) as usize];
                self.step(kind::FRAME, at as u8, generation as u8, v);
                Demand::Caught(at)
            }
            6 => {
                self.good(frames);
                let (at, which, v) = (
                    self.chance.below(frames),
                    self.chance.below(256),
                    self.random(),
                );
                self.step(kind::LENGTH, at as u8, which as u8, v);
                Demand::None
            }
            7 => {
                let (which, cut, v) = (self.chance.below(4), self.chance.below(3), self.random());
                self.step(kind::RECORD, which as u8, cut as u8, v);
                self.step(kind::TAIL, 1, 0, 0);
                Demand::AllAccepted(1)
            }
            8 => {
                self.good(frames);
                let at = self.chance.below(frames);
                self.step(kind::ZERO, at as u8, 1, 0);
                Demand::Caught(at)
            }
            9 => {
                self.good(frames);
                // Read and not freed, so that a tail before the last one is in range.
                self.step(kind::TAKE, 0, 0, 0);
                let back = self.chance.below(frames);
                self.step(kind::TAIL, back as u8, 0, 0);
                Demand::Caught(frames)
            }
            _ => {
                self.anything(kind::COUNT);
                Demand::None
            }
        }
    }

    /// Good frames from the head on, of generations that never fall.
    fn good(&mut self, frames: u64) {
        let mut generation = 1;
        for at in 0..frames {
            generation += u64::from(generation < 3) * self.chance.below(2);
            let v = self.random();
            self.step(kind::FRAME, at as u8, generation as u8, v);
        }
        self.step(kind::TAIL, frames as u8, 0, 0);
    }

    /// Steps of any kind, in any order, near the head more often than far from it.
    fn anything(&mut self, kinds: u8) {
        for _ in 0..self.chance.below(40) {
            let kind = self.chance.below(u64::from(kinds)) as u8;
            let spread = [4, 16, 256][self.chance.below(3) as usize];
            let (a, b) = (self.chance.below(spread), self.chance.below(spread));
            let v = match self.chance.below(4) {
                0 => self.random(),
                1 => self.random() >> 32,
                2 => self.random() >> 60,
                // Where counts end.
                _ => u64::MAX - self.chance.below(3),
            };
            self.step(kind, a as u8, b as u8, v);
        }
    }

    fn step(&mut self, kind: u8, a: u8, b: u8, v: u64) {
        Step { kind, a, b, v }.encode(&mut self.bytes);
    }

    fn random(&mut self) -> u64 {
        self.chance.below(1 << 32) << 32 | self.chance.below(1 << 32)
    }
}
