//! TERM under load: the node ends in order, with exit code 0, again and again, and nothing that was answered is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::sleep;

use crate::stand::{Chance, STEADY, Stand, block_on, judge};
use crate::{Form, Outcome, Verdict};

const DRAINS: u32 = 4;
const DRAINS_LONG: u32 = 50;

pub fn run(form: Form) -> Verdict {
    block_on(drains(form))
}

async fn drains(form: Form) -> Verdict {
    let mut stand = Stand::new(form.seed, STEADY, "").await;
    let mut chance = Chance::new(form.seed);
    let mut odd = Vec::new();
    for round in 0..if form.long { DRAINS_LONG } else { DRAINS } {
        sleep(Duration::from_millis(1_500 + chance.below(1_000))).await;
        let signal = if round % 2 == 0 {
            Signal::SIGTERM
        } else {
            Signal::SIGINT
        };
        stand.node.signal_supervisor(signal);
        // The fleet shares this thread: it must go on while the node drains.
        let status = loop {
            match stand.node.try_ended() {
                Some(status) => break status,
                None => sleep(Duration::from_millis(5)).await,
            }
        };
        if status.code() != Some(0) {
            odd.push(format!("drain {round} ended with {status}"));
        }
        stand.node.launch();
        stand.node.ready();
    }
    let check = stand.fleet.finish().await;
    stand.node.terminate();
    let mut verdict = judge(&check, BTreeMap::from([("drains_odd", json!(odd.len()))]));
    if verdict.outcome == Outcome::Holds && !odd.is_empty() {
        verdict.outcome = Outcome::Fails(odd.join("; "));
    }
    if verdict.outcome != Outcome::Holds {
        eprintln!("---- log of the node ----\n{}", stand.node.log());
    }
    verdict
}
