//! The publisher against a model of everything around it: a journal that commits deletes late, a client with packet
//! ids and a queue, a network that may end at any time, and a broker that acknowledges late, out of order, wrongly,
//! with a refusal or not at all. The process may die too. Every run comes from a seed, which it prints when it fails.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;

/// What happens how often, each in 1,000 of its chances.
#[derive(Clone, Copy)]
struct Faults {
    cut: u32,
    crash: u32,
    mute: u32,
    wrong: u32,
    refuse: u32,
    no_subscriber: u32,
}

const CALM: Faults = Faults {
    cut: 0,
    crash: 0,
    mute: 0,
    wrong: 0,
    refuse: 0,
    no_subscriber: 0,
};

#[derive(Default)]
struct Link {
    /// The client's queue, then the wire.
    queued: VecDeque<Cargo>,
    wire: VecDeque<(u16, Cargo)>,
    acks: Vec<(u16, Reason)>,
    last_id: u16,
    /// Ids that the broker has not acknowledged, as the client sees it.
    used: BTreeSet<u16>,
}

struct World {
    random: TestRng,
    seed: u64,
    settings: Settings,
    faults: Faults,
    now_ms: u64,
    publisher: Publisher,
    link: Option<Link>,
    loads: Vec<u64>,
    journal: BTreeMap<u64, DeviceId>,
    /// Deletes that ride with a later commit.
    riding: Vec<u64>,
    next_seq: u64,
    delivered: HashSet<u64>,
    last_first: HashMap<DeviceId, u64>,
    blamed: HashMap<u64, u32>,
    quarantined: HashSet<u64>,
    duplicates: usize,
    duplicates_max: usize,
    reconnects: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let window = [1, 2, 7, 50][random.next_u32() as usize % 4];
        let settings = Settings {
            window,
            hold_without_subscriber: true,
            broker: true,
        };
        let mut rate = |most: u32| random.next_u32() % (most + 1);
        let faults = Faults {
            cut: rate(20),
            crash: rate(3),
            mute: rate(10),
            wrong: rate(5),
            refuse: rate(60),
            no_subscriber: rate(60),
        };
        World {
            random,
            seed,
            settings,
            faults,
            now_ms: 0,
            publisher: Publisher::new(settings, seed),
            link: None,
            loads: Vec::new(),
            journal: BTreeMap::new(),
            riding: Vec::new(),
            next_seq: 1,
            delivered: HashSet::new(),
            last_first: HashMap::new(),
            blamed: HashMap::new(),
            quarantined: HashSet::new(),
            duplicates: 0,
            duplicates_max: 0,
            reconnects: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.next_u32() as usize % bound
    }

    fn chance(&mut self, in_1000: u32) -> bool {
        self.random.next_u32() % 1000 < in_1000
    }

    /// What was unconfirmed at this moment may come twice.
    fn expect_duplicates(&mut self, of_crash: usize) {
        self.reconnects += 1;
        self.duplicates_max += usize::from(self.settings.window) + of_crash;
    }

    fn step(&mut self, accept: bool) {
        self.now_ms += self.random.next_u64() % 40;
        if self.chance(2) {
            self.now_ms += ACK_MS_MAX / 3;
        }
        match self.below(8) {
            0 | 1 if accept => self.accept(),
            2 => self.commit(),
            3 | 4 => self.write(),
            5 | 6 => self.serve(),
            _ => self.hear(),
        }
        while !self.loads.is_empty() && self.chance(700) {
            let at = self.below(self.loads.len());
            let seq = self.loads.swap_remove(at);
            self.publisher.loaded(seq, self.journal.contains_key(&seq));
        }
        if self.chance(self.faults.cut) && self.link.is_some() {
            self.link = None;
            self.publisher.closed(self.now_ms);
        }
        if self.chance(self.faults.crash) {
            self.crash();
        }
        self.publisher.tick(self.now_ms);
        self.act();
        assert!(self.publisher.in_flight() <= usize::from(self.settings.window) + 1);
    }

    fn accept(&mut self) {
        for _ in 0..=self.below(5) {
            let device = DeviceId::new(format!("d{}", self.below(12)).as_bytes()).unwrap();
            self.journal.insert(self.next_seq, device);
            self.publisher.accepted(self.next_seq, device);
            self.next_seq += 1;
        }
    }

    fn commit(&mut self) {
        for seq in self.riding.drain(..) {
            self.journal.remove(&seq);
        }
    }

    fn crash(&mut self) {
        self.expect_duplicates(self.riding.len());
        self.riding.clear();
        self.loads.clear();
        self.link = None;
        self.publisher = Publisher::new(self.settings, self.random.next_u64());
        for (&seq, &device) in &self.journal {
            self.publisher.accepted(seq, device);
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.publisher.next_action(self.now_ms) {
            match action {
                Action::Connect => {
                    assert!(self.link.is_none());
                    self.link = Some(Link::default());
                    let receive_max = if self.chance(300) { 1 } else { u16::MAX };
                    self.publisher.connected(self.now_ms, receive_max);
                }
                Action::Drop(_) => {
                    // What is on the wire may still arrive, all of it or a part.
                    let part = self.below(3);
                    for _ in 0..part {
                        self.serve();
                    }
                    self.link = None;
                    self.expect_duplicates(0);
                }
                Action::Load(seq) => self.loads.push(seq),
                Action::Publish { seq, .. } => self.queue(Cargo::Alarm(seq)),
                Action::PublishStatus(status) => self.queue(Cargo::Status(status)),
                Action::Forget(_) => {}
                Action::Delete(seq) => {
                    assert!(
                        self.delivered.contains(&seq),
                        "{seq} deleted, not delivered"
                    );
                    self.riding.push(seq);
                }
                Action::Quarantine(seq, _) => {
                    assert!(self.blamed[&seq] >= REFUSALS_MAX);
                    self.quarantined.insert(seq);
                    self.riding.push(seq);
                }
                Action::Disconnect => unreachable!("nobody drains here"),
            }
        }
    }

    fn queue(&mut self, cargo: Cargo) {
        let link = self
            .link
            .as_mut()
            .expect("messages are handed over while connected");
        link.queued.push_back(cargo);
    }

    /// The client writes a message, unless the id that is next is still in use.
    fn write(&mut self) {
        let window = self.settings.window;
        let Some(link) = &mut self.link else {
            return;
        };
        let id = link.last_id % window + 1;
        if link.used.contains(&id) {
            return;
        }
        if let Some(cargo) = link.queued.pop_front() {
            link.last_id = id;
            link.used.insert(id);
            link.wire.push_back((id, cargo));
            self.publisher.sent(self.now_ms, id);
        }
    }

    /// The broker takes a message from the wire.
    fn serve(&mut self) {
        let Some((id, cargo)) = self.link.as_mut().and_then(|link| link.wire.pop_front()) else {
            return;
        };
        let mut reason = Reason::Success;
        if let Cargo::Alarm(seq) = cargo {
            if self.chance(self.faults.no_subscriber) {
                reason = Reason::NoSubscriber;
            } else if self.chance(self.faults.refuse) {
                let some = [
                    Reason::NotAuthorized,
                    Reason::QuotaExceeded,
                    Reason::TopicInvalid,
                ];
                reason = some[self.below(3)];
            }
            if reason == Reason::Success {
                self.deliver(seq);
            }
            *self.blamed.entry(seq).or_default() += u32::from(reason.blames_message());
        }
        let mute = self.chance(self.faults.mute);
        let wrong = self.chance(self.faults.wrong);
        let link = self.link.as_mut().expect("a message came from it");
        match (mute, wrong) {
            (true, _) => {}
            (_, true) => link.acks.push((9_999, reason)),
            _ => link.acks.push((id, reason)),
        }
    }

    fn deliver(&mut self, seq: u64) {
        if !self.delivered.insert(seq) {
            self.duplicates += 1;
            return;
        }
        let device = self.journal[&seq];
        let before = self.last_first.insert(device, seq);
        assert!(before < Some(seq), "{seq} of {device} after {before:?}");
    }

    /// The client hears one acknowledgement, any of those on the way.
    fn hear(&mut self) {
        let count = self.link.as_ref().map_or(0, |link| link.acks.len());
        if count > 0 {
            let at = self.below(count);
            let link = self.link.as_mut().expect("it has acknowledgements");
            let (id, reason) = link.acks.swap_remove(at);
            link.used.remove(&id);
            self.publisher.acknowledged(self.now_ms, id, reason);
        }
    }

    fn run(&mut self) {
        (0..3_000).for_each(|_| self.step(true));
        self.faults = CALM;
        let mut steps = 0;
        while self.publisher.records() > 0 {
            self.step(false);
            steps += 1;
            assert!(steps < 200_000, "{} records stay", self.publisher.records());
        }
        self.commit();
        assert!(self.journal.is_empty());
        let lost = (1..self.next_seq)
            .filter(|seq| !self.delivered.contains(seq) && !self.quarantined.contains(seq));
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<u64>::new());
        assert!(
            self.duplicates <= self.duplicates_max,
            "{} duplicates over {} reconnects with a window of {}",
            self.duplicates,
            self.reconnects,
            self.settings.window
        );
    }
}

/// Names the seed when a run panics.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} at {} ms", self.seed, self.now_ms);
        }
    }
}

#[test]
fn no_broker_no_network_and_no_crash_loses_or_reorders_an_alarm() {
    let from = std::env::var("RINGWAY_SEED").map_or(0, |seed| seed.parse().unwrap());
    let (mut alarms, mut reconnects, mut duplicates) = (0, 0, 0);
    for seed in from..from + 40 {
        let mut world = World::new(seed);
        world.run();
        alarms += world.delivered.len();
        reconnects += world.reconnects;
        duplicates += world.duplicates;
    }
    println!(
        "seeds {from}..{}: {alarms} alarms, {reconnects} reconnects, {duplicates} duplicates",
        from + 40
    );
    assert!(
        alarms > 50_000 && reconnects > 200 && duplicates > 0,
        "the faults must bite"
    );
}
