//! R1: an accepted alarm survives kill -9 of any process, the supervisor included, at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::sleep;

use crate::stand::{Chance, IN_DOUBT, Load, STEADY, Stand, block_on, judge};
use crate::{Form, Verdict};

const KILLS: u32 = 100;
const KILLS_LONG: u32 = 1_000;
const PAUSE_MS: std::ops::Range<u64> = 50..500;
/// As many alarms at stake as a small machine gets through beside all the kills.
const HEAVY: Load = Load {
    devices: 1_000,
    sos_every_s: 2,
    rate: 1.0,
};
const VICTIMS: [&str; 6] = [
    "ingest",
    "classifier",
    "dispatcher",
    "uplink",
    "observer",
    "supervisor",
];

pub fn run(form: Form) -> Verdict {
    block_on(storm(form))
}

async fn storm(form: Form) -> Verdict {
    let load = if form.long { HEAVY } else { STEADY };
    let mut stand = Stand::new(form.seed, load, "").await;
    let mut chance = Chance::new(form.seed);
    let mut states_lost = 0;
    let mut kills = BTreeMap::from(VICTIMS.map(|victim| (victim, 0)));
    while kills.values().sum::<u32>() < if form.long { KILLS_LONG } else { KILLS } {
        sleep(Duration::from_millis(
            PAUSE_MS.start + chance.below(PAUSE_MS.end - PAUSE_MS.start),
        ))
        .await;
        let victim = VICTIMS[chance.below(VICTIMS.len() as u64) as usize];
        let killed = if victim == "supervisor" {
            stand.node.signal_supervisor(Signal::SIGKILL);
            stand.node.ended();
            stand.node.launch();
            true
        } else {
            // It may be between two lives, or the supervisor not back yet.
            stand.node.signal(victim, Signal::SIGKILL)
        };
        *kills.entry(victim).or_default() += u32::from(killed);
        // Where the uplink dies with the supervisor nobody writes the states down: they are lost, as in a power cut.
        let in_doubt = stand.node.log().matches(IN_DOUBT).count();
        if in_doubt > states_lost {
            stand.fleet.ledger().state_lost();
            states_lost = in_doubt;
        }
    }
    stand.node.ready();
    let check = stand.fleet.finish().await;
    let drained = stand.node.terminate();
    let mut counts = BTreeMap::from([
        ("kills", json!(kills)),
        ("kills_total", json!(kills.values().sum::<u32>())),
    ]);
    counts.insert("exit", json!(drained.code()));
    counts.insert("states_lost", json!(states_lost));
    let often = states_lost > kills["supervisor"] as usize / 4;
    let mut verdict =
        judge(&check, counts).but(&[(often, "states are lost where they need not be")]);
    if !drained.success() && verdict.outcome == crate::Outcome::Holds {
        verdict.outcome = crate::Outcome::Fails(format!("the node did not drain: {drained}"));
    }
    if verdict.outcome != crate::Outcome::Holds {
        eprintln!("---- log of the node ----\n{}", stand.node.log());
    }
    verdict
}
