//! S2, the ring's part: a producer that was taken over does its worst with what it holds. The consumer, a real process
//! with an honest ring in the same waiter, finds it out where the ring's content is wrong, takes every frame that is
//! valid and none that is not, neither ends nor stops, and the honest ring loses nothing and stands never still.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Uid, geteuid};
use ringway::ring::{Geometry, RingFds, RingOwner};
use serde_json::{Value, json};

use super::attack::{self, Attack, Expected, VALID_FRAMES};
use super::attempt::{self, Said, Whose};
use super::child::{Task, Worker};
use super::ledger::{Ledger, ViolationKind};
use super::producer::{self, Pace};
use crate::{Form, Outcome, Verdict};

const ROUNDS: u64 = 5;
const ROUNDS_LONG: u64 = 200;

/// How long anything may stand still before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// Frames that the honest ring must pass on while an attack goes on, and after it.
const HONEST_FRAMES: u64 = 10;

const GEOMETRY: Geometry = Geometry {
    slots: 64,
    stride: 512,
    answers: 64,
};

/// Nobody's uid on Debian and most others: it need not exist.
const OTHER_UID: u32 = 65_534;

pub fn run(form: Form) -> Verdict {
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    let skipped = attempts(&mut counts, &mut wrong);
    counts.insert("probes_skipped", json!(skipped));
    if let Err(what) = attacks(form, &mut counts) {
        wrong.push(what);
    }
    let outcome = match wrong.is_empty() {
        true => Outcome::Holds,
        false => Outcome::Fails(wrong.join("; ")),
    };
    Verdict { outcome, counts }
}

/// What the kernel refuses, for a process of another uid and for one of the same.
fn attempts(counts: &mut BTreeMap<&'static str, Value>, wrong: &mut Vec<String>) -> u64 {
    let mut refused = BTreeMap::<String, Vec<String>>::new();
    let (mut own, mut open) = (Vec::new(), Vec::new());
    let mut skipped = 0;
    for whose in [Whose::Other, Whose::Same] {
        if whose == Whose::Other && !geteuid().is_root() {
            eprintln!("ring-hostile: SKIPPED what another uid may do: that takes root");
            skipped += 1;
            continue;
        }
        for (name, errno) in probe(whose) {
            let what = format!("{name}/{}", format!("{whose:?}").to_lowercase());
            match (attempt::expected(&name, whose), errno) {
                (attempt::Expected::Refused, 0) => wrong.push(format!("not refused: {what}")),
                (attempt::Expected::Own, 0) => own.push(what),
                (attempt::Expected::UntilConfined, 0) => open.push(what),
                (_, errno) => {
                    let errno = format!("{:?}", Errno::from_raw(errno));
                    refused.entry(errno).or_default().push(what);
                }
            }
        }
    }
    let number = refused.values().map(Vec::len).sum::<usize>();
    counts.insert("refused_count", json!(number));
    counts.insert("refused", json!(refused));
    counts.insert("own_region", json!(own));
    counts.insert("open_until_confined", json!(open));
    skipped
}

fn probe(whose: Whose) -> Vec<Said> {
    let owner = RingOwner::create(GEOMETRY, 1, 1).unwrap();
    let child = hostile_process();
    let fds = owner.producer_fds().unwrap();
    child.begin(Task::Attempt(whose), &fds.as_fds());
    child.answer::<Vec<Said>>()
}

/// A process without privileges, as far as this one may start one.
fn hostile_process() -> Worker {
    let uid = geteuid().is_root().then_some(Uid::from_raw(OTHER_UID));
    Worker::start_as(uid)
}

fn attacks(form: Form, counts: &mut BTreeMap<&'static str, Value>) -> Result<(), String> {
    let mut stage = Stage::new();
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let rounds = if form.long { ROUNDS_LONG } else { ROUNDS };
    for round in 0..rounds {
        for (attack, expected) in Attack::ALL {
            let seed = form.seed.wrapping_mul(1_000) + round;
            let finding = stage
                .attack(attack, expected, seed)
                .map_err(|what| format!("{attack:?}, round {round}: {what}"))?;
            let attack = format!("{attack:?}");
            let attacks = found.entry(finding).or_default();
            if !attacks.contains(&attack) {
                attacks.push(attack);
            }
        }
    }
    let honest = stage.finish()?;
    counts.insert("attacks", json!(rounds * Attack::ALL.len() as u64));
    counts.insert("found", json!(found));
    counts.insert("honest_frames", json!(honest));
    Ok(())
}

/// A process that keeps the rules, and its ledger.
struct Honest {
    worker: Worker,
    ledger: Ledger,
}

impl Honest {
    fn start(task: Task, ring: &RingFds) -> Honest {
        let (worker, ledger) = (Worker::start(), Ledger::create());
        let mut fds = ring.as_fds().to_vec();
        fds.push(ledger.as_fd());
        worker.begin(task, &fds);
        Honest {
            worker,
            ledger: Ledger::map(ledger.as_fd()),
        }
    }

    fn producer(ring: &RingOwner, pace: Pace) -> Honest {
        let task = Task::Produce(producer::Task {
            pace,
            seed: 1,
            resume_at: ring.tail(),
        });
        Honest::start(task, &ring.producer_fds().unwrap())
    }
}

/// An honest ring with its producer, the consumer of both rings, and the supervisor's part.
struct Stage {
    honest: RingOwner,
    producer: Honest,
    consumer: Honest,
    /// An honest producer on a ring that was attacked in vain.
    successor: Option<Honest>,
    /// Frames of the honest ring before this one were taken.
    checked: u64,
    /// Of the hostile ring.
    birth: u64,
}

impl Stage {
    fn new() -> Stage {
        let honest = RingOwner::create(GEOMETRY, 2, 1).unwrap();
        Stage {
            consumer: Honest::start(Task::Serve, &honest.consumer_fds().unwrap()),
            producer: Honest::producer(&honest, Pace::Sparse),
            successor: None,
            checked: 0,
            birth: 1,
            honest,
        }
    }

    /// Lets a fresh ring be attacked; returns what the consumer found.
    fn attack(&mut self, attack: Attack, expected: Expected, seed: u64) -> Result<String, String> {
        self.birth += 1;
        let owner = RingOwner::create(GEOMETRY, 1, self.birth).unwrap();
        // The attacker is not the first producer, so that there is a generation below its own.
        owner.set_generation().unwrap();
        let fds = owner.consumer_fds().unwrap();
        self.consumer.worker.send(&self.birth, &fds.as_fds());
        self.until("the consumer to take the ring", |it| {
            it.consumer.ledger.serving() == it.birth
        })?;
        let mut attacker = hostile_process();
        let task = Task::Attack(attack::Task { attack, seed });
        attacker.begin(task, &owner.producer_fds().unwrap().as_fds());

        match expected {
            Expected::Caught => {
                self.until("the consumer to find it out", |it| it.violation().is_some())?
            }
            Expected::Harmless => self.until("all valid frames to be taken", |_| {
                owner.head() >= VALID_FRAMES
            })?,
        }
        self.honest_flows()?;
        attacker.kill();
        attacker.reap();
        owner.ring_bells();
        self.honest_flows()?;
        match self.violation() {
            Some(kind) => return Ok(format!("{kind:?}")),
            None if owner.head() != VALID_FRAMES => {
                return Err(format!(
                    "{} frames were taken, {VALID_FRAMES} are valid",
                    owner.head()
                ));
            }
            None => {}
        }
        self.succeed(&owner)?;
        Ok("harmless".into())
    }

    /// A ring on which nothing was found goes on with an honest producer.
    fn succeed(&mut self, owner: &RingOwner) -> Result<(), String> {
        owner.set_generation().map_err(|why| why.to_string())?;
        self.successor = Some(Honest::producer(owner, Pace::Flood));
        let goal = owner.head() + HONEST_FRAMES;
        self.until("the successor's frames to be taken", |_| {
            owner.head() >= goal
        })?;
        self.successor = None;
        match self.violation() {
            None => Ok(()),
            Some(kind) => Err(format!("the successor is called a liar: {kind:?}")),
        }
    }

    /// What was found on the hostile ring.
    fn violation(&self) -> Option<ViolationKind> {
        self.consumer.ledger.violation(self.birth)
    }

    /// Waits until the honest ring has passed on more.
    fn honest_flows(&mut self) -> Result<(), String> {
        let goal = self.honest.head() + HONEST_FRAMES;
        self.until("the honest ring", |it| it.honest.head() >= goal)
    }

    fn until(&mut self, what: &str, reached: impl Fn(&Stage) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            self.check()?;
            if Instant::now() > deadline {
                return Err(format!("hang: waited {PATIENCE:?} for {what}"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        self.check()
    }

    /// All honest processes live and have nothing to complain of, and the honest ring lost nothing.
    fn check(&mut self) -> Result<(), String> {
        let successor = self.successor.as_mut();
        for (name, Honest { worker, ledger }) in [
            ("consumer", Some(&mut self.consumer)),
            ("honest producer", Some(&mut self.producer)),
            ("honest successor", successor),
        ]
        .into_iter()
        .filter_map(|(name, process)| Some((name, process?)))
        {
            if let Some((fault, at)) = ledger.found() {
                return Err(format!("the {name} found {fault:?} at {at}"));
            }
            if let Some(status) = worker.ended() {
                return Err(format!("the {name} ended: {status}"));
            }
        }
        let head = self.honest.head();
        let again = self.consumer.ledger.check(self.checked..head);
        let again = again.map_err(|seq| format!("honest frame {seq} was lost"))?;
        if again > 0 {
            return Err("an honest frame was taken twice".into());
        }
        self.checked = head;
        Ok(())
    }

    /// All that the honest producer committed is taken; returns how many frames that are.
    fn finish(mut self) -> Result<u64, String> {
        self.producer.worker.kill();
        self.producer.worker.reap();
        self.honest.ring_bells();
        let tail = self.honest.tail();
        let deadline = Instant::now() + PATIENCE;
        while self.honest.head() < tail {
            if Instant::now() > deadline {
                return Err("hang: the honest ring is not emptied".into());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(tail)
    }
}
