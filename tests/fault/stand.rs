//! The stand on which a case is run: a node with the fleet's rules, a broker, a fleet that keeps a ledger, and seeded
//! chance.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use device_sim::broker;
use device_sim::checker::Check;
use device_sim::fleet::{Fleet, Options};
use device_sim::roads::Roads;
use device_sim::scenario::Scenario;
use device_sim::schedule::Pace;
use device_sim::town;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::guests;
use crate::node::Node;
use crate::{Outcome, Verdict};

/// How much a fleet does.
#[derive(Clone, Copy)]
pub struct Load {
    pub devices: u32,
    /// Each device presses its button about once in so many seconds, so that alarms are always on their way.
    pub sos_every_s: u32,
    /// Reports a second of each device, and seconds of driving between them.
    pub rate: f64,
}

/// Alarms all the time, on a machine that has other things to do.
pub const STEADY: Load = Load {
    devices: 60,
    sos_every_s: 4,
    rate: 1.0,
};

/// What a node says that starts on states older than what was answered.
pub const IN_DOUBT: &str = "the last run did not end in order";

/// Longest wait of a case for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What is broken, and what watches.
pub struct Stand {
    pub node: Node,
    pub broker: Option<broker::Handle>,
    pub fleet: Fleet,
    /// Where trackers connect to.
    pub sensor: String,
    /// Where subscribers follow the vehicles.
    pub stream: String,
    broker_address: String,
}

impl Stand {
    /// A node that serves, a broker, and a fleet at work. `uplink` is added to the section of that name.
    pub async fn new(seed: u64, load: Load, uplink: &str) -> Stand {
        Stand::prepared(seed, load, uplink, |_| ()).await
    }

    /// The same, with something done to the node before it starts.
    pub async fn prepared(
        seed: u64,
        load: Load,
        uplink: &str,
        prepare: impl FnOnce(&Node),
    ) -> Stand {
        let roads = Roads::new(town::generate(seed)).unwrap();
        let broker = broker::start(broker::Options::default()).await.unwrap();
        let broker_address = broker.addr.to_string();
        let scenario = Scenario::new(seed, load.devices, Some(load.sos_every_s), &roads);
        // Fixed ports: they must be the same after a restart of the supervisor.
        let [sensor, dispatcher, observer] = free_ports();
        let config = format!(
            r#"
[[sensor]]
name = "trackers"
input = "tcp"
protocol = "jt808"
listen = "{sensor}"

[dispatcher]
listen = "{dispatcher}"

[observer]
listen = "{observer}"

[uplink]
broker = "mqtt://{broker_address}"
{uplink}
{}
"#,
            scenario.config()
        );
        let mut node = Node::prepare(&config);
        prepare(&node);
        node.launch();
        node.ready();
        let mut options = Options::new(seed, load.devices, sensor.parse().unwrap());
        options.mqtt = Some(broker.url());
        let stream = format!("ws://{dispatcher}/v1/stream");
        options.stream = Some(stream.clone());
        options.sos_every_s = Some(load.sos_every_s);
        options.pace = Pace::Clock {
            rate: load.rate,
            speed: load.rate,
        };
        options.answer_timeout = Duration::from_secs(2);
        options.grace = Duration::from_secs(90);
        let fleet = Fleet::start(roads, options).await.unwrap();
        fleet.ledger().pass_over_from(guests::FIRST_PHONE);
        Stand {
            sensor,
            stream,
            node,
            broker: Some(broker),
            fleet,
            broker_address,
        }
    }

    /// The broker goes when every alarm that it acknowledged is with its subscribers: what it has in its memory is lost
    /// with it, which is no fault of the node.
    pub async fn broker_away(&mut self) {
        let Some(broker) = self.broker.take() else {
            return;
        };
        // Nothing else runs on this thread between the last look and the stop.
        await_(|| {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            count(&broker.counters.queued) == count(&broker.counters.confirmed)
        })
        .await;
        broker.stop().await;
    }

    /// The sum of the uplink's counters whose name contains this; 0 while it does not run.
    pub fn uplink(&self, name: &str) -> u64 {
        let process = self.node.process("uplink");
        let figures = process.map(|process| process.figures).unwrap_or_default();
        let named = figures.iter().filter(|(full, _)| full.contains(name));
        named.map(|(_, count)| *count as u64).sum()
    }

    /// A broker on the old address, with nothing in its memory.
    pub async fn broker_back(&mut self) {
        let listen = self.broker_address.clone();
        let options = broker::Options {
            listen,
            ..broker::Options::default()
        };
        self.broker = Some(broker::start(options).await.unwrap());
    }
}

/// Lets the fleet go on until something is there; `false` if it does not come in time.
pub async fn await_(there: impl FnMut() -> bool) -> bool {
    await_for(PATIENCE, there).await
}

/// The same with another patience.
pub async fn await_for(patience: Duration, mut there: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !there() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Addresses that nobody listens on just now.
fn free_ports<const N: usize>() -> [String; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().to_string())
}

/// Holds if nothing is lost or invented and something was at stake.
pub fn judge(check: &Check, mut counts: BTreeMap<&'static str, Value>) -> Verdict {
    let summary = &check.summary;
    for (name, value) in [
        ("frames_sent", json!(summary.frames_sent)),
        ("frames_answered", json!(summary.frames_answered)),
        ("alarms_raised", json!(summary.alarms_raised)),
        ("alarms_delivered", json!(summary.alarms_delivered)),
        ("lost", json!(summary.lost)),
        ("invented", json!(summary.invented)),
        ("duplicates", json!(summary.duplicates)),
        ("reordered", json!(check.reordered)),
        ("shifted", json!(check.shifted)),
        ("excused", json!(check.excused)),
        ("resent", json!(check.resent)),
    ] {
        counts.insert(name, value);
    }
    let unanswered = summary.frames_sent - summary.frames_answered;
    let wrong = [
        (summary.lost > 0, format!("lost {:?}", check.lost)),
        (
            summary.invented > 0,
            format!("invented {:?}", check.invented),
        ),
        (
            check.reordered > 0,
            format!("{} reordered", check.reordered),
        ),
        (
            unanswered > 0,
            format!("{unanswered} reports were never answered"),
        ),
        (
            summary.alarms_delivered == 0,
            "no alarm was delivered: nothing was at stake".into(),
        ),
    ];
    let wrong: Vec<String> = wrong
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, what)| what)
        .collect();
    let outcome = if wrong.is_empty() {
        Outcome::Holds
    } else {
        Outcome::Fails(wrong.join("; "))
    };
    Verdict { outcome, counts }
}

impl Verdict {
    /// Fails, if it held so far, for the first of these that is the case.
    pub fn but(mut self, wrong: &[(bool, &str)]) -> Verdict {
        if self.outcome == Outcome::Holds
            && let Some((_, what)) = wrong.iter().find(|(is, _)| *is)
        {
            self.outcome = Outcome::Fails((*what).to_string());
        }
        self
    }

    /// Shows the node's log unless it holds.
    pub fn with_log(self, node: &Node) -> Verdict {
        if self.outcome != Outcome::Holds {
            eprintln!("---- log of the node ----\n{}", node.log());
        }
        self
    }
}

/// Runs a case on a runtime of its own.
pub fn block_on<T>(case: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(case)
}

/// Seeded chance: xorshift64* (Vigna 2016).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
