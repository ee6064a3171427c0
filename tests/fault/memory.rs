//! R14: the classifier is killed again and again while vehicles are inside fences and alarms are raised. What is inside
//! stays inside, what is open stays open: no raise that is not true, and no clear that is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::sleep;

use crate::stand::{Chance, Load, Stand, block_on, judge};
use crate::{Form, Verdict};

/// Every part of the scenario comes and goes within the short form.
const LOAD: Load = Load {
    devices: 120,
    sos_every_s: 8,
    rate: 4.0,
};
const KILLS: u32 = 40;
const KILLS_LONG: u32 = 800;
const PAUSE_MS: std::ops::Range<u64> = 50..450;
/// Kinds that are raised and cleared.
const HELD: [&str; 3] = ["geofence", "overspeed", "power_cut"];

pub fn run(form: Form) -> Verdict {
    block_on(forgetful(form))
}

async fn forgetful(form: Form) -> Verdict {
    let stand = Stand::new(form.seed, LOAD, "").await;
    let mut chance = Chance::new(form.seed);
    let mut kills = 0;
    while kills < if form.long { KILLS_LONG } else { KILLS } {
        let pause = PAUSE_MS.start + chance.below(PAUSE_MS.end - PAUSE_MS.start);
        sleep(Duration::from_millis(pause)).await;
        kills += u32::from(stand.node.signal("classifier", Signal::SIGKILL));
    }
    let check = stand.fleet.finish().await;
    let came = |kind| check.came.get(kind).copied().unwrap_or_default();
    let lacks = HELD.iter().any(|kind| came(*kind).contains(&0));
    let mut counts = BTreeMap::from([("kills", json!(kills))]);
    counts.extend(HELD.map(|kind| (kind, json!(came(kind)))));
    judge(&check, counts)
        .but(&[(lacks, "not every kind was raised and cleared")])
        .with_log(&stand.node)
}
