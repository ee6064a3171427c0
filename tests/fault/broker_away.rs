//! R3, in small: the broker goes away under load and comes back with nothing in its memory; every alarm arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::stand::{STEADY, Stand, block_on, judge};
use crate::{Form, Outcome, Verdict};

const CUTS: u32 = 3;
const CUTS_LONG: u32 = 30;
const AWAY: Duration = Duration::from_secs(3);
const BACK: Duration = Duration::from_secs(2);

pub fn run(form: Form) -> Verdict {
    block_on(cuts(form))
}

async fn cuts(form: Form) -> Verdict {
    let mut stand = Stand::new(form.seed, STEADY, "").await;
    let cuts = if form.long { CUTS_LONG } else { CUTS };
    for _ in 0..cuts {
        sleep(BACK).await;
        if let Some(broker) = stand.broker.take() {
            broker.stop().await;
        }
        sleep(AWAY).await;
        stand.broker_back().await;
    }
    let check = stand.fleet.finish().await;
    let said = stand.node.log().matches("broker").count();
    let mut verdict = judge(
        &check,
        BTreeMap::from([("cuts", json!(cuts)), ("lines_on_broker", json!(said))]),
    );
    if verdict.outcome == Outcome::Holds && said as u32 > 4 * cuts + 4 {
        verdict.outcome = Outcome::Fails(format!("{said} log lines about {cuts} cuts"));
    }
    if verdict.outcome != Outcome::Holds {
        eprintln!("---- log of the node ----\n{}", stand.node.log());
    }
    verdict
}
