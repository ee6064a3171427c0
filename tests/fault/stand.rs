//! The stand on which a case is run: a node with the fleet's rules, a broker, a fleet that keeps a ledger, and seeded
//! chance.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use device_sim::broker;
use device_sim::checker::Check;
use device_sim::fleet::{Fleet, Options};
use device_sim::roads::Roads;
use device_sim::scenario::Scenario;
use device_sim::town;
use serde_json::{Value, json};

use crate::node::Node;
use crate::{Outcome, Verdict};

/// How much a fleet does.
#[derive(Clone, Copy)]
pub struct Load {
    pub devices: u32,
    /// Each device presses its button about once in so many seconds, so that alarms are always on their way.
    pub sos_every_s: u32,
}

/// Alarms all the time, on a machine that has other things to do.
pub const STEADY: Load = Load {
    devices: 60,
    sos_every_s: 4,
};

/// What is broken, and what watches.
pub struct Stand {
    pub node: Node,
    pub broker: Option<broker::Handle>,
    pub fleet: Fleet,
    broker_address: String,
}

impl Stand {
    /// A node that serves, a broker, and a fleet at work. `uplink` is added to the section of that name.
    pub async fn new(seed: u64, load: Load, uplink: &str) -> Stand {
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
        let node = Node::start(&config);
        let mut options = Options::new(seed, load.devices, sensor.parse().unwrap());
        options.mqtt = Some(broker.url());
        options.stream = Some(format!("ws://{dispatcher}/v1/stream"));
        options.sos_every_s = Some(load.sos_every_s);
        options.answer_timeout = Duration::from_secs(2);
        options.grace = Duration::from_secs(45);
        let fleet = Fleet::start(roads, options).await.unwrap();
        Stand {
            node,
            broker: Some(broker),
            fleet,
            broker_address,
        }
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
