//! S3: senders of rubbish, slow ones and silent ones beside good devices, which notice nothing of them.
//!
//! Compared are phases of the same run: windows without the crowd, then as many beside it. The machine is shared with the
//! crowd and with whatever else runs, so one window says little: what is compared is the median of the windows' 99th
//! percentiles. It decides in the long form only, whose windows have thousands of reports each; the short form reports
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use device_sim::crowd::{Options, Report};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::aside::Aside;
use crate::node::Node;
use crate::stand::{Load, Stand, await_, block_on, judge};
use crate::{Form, Verdict};

/// Good ones that must be delivered and answered, of 1,000.
const DELIVERED_PER_MILLE: f64 = 999.0;
/// How many times the quiet phase's the 99th percentile may be.
const RATIO_MAX: f64 = 2.0;

struct Size {
    devices: u32,
    garbage: u32,
    slow: u32,
    idle: u32,
    windows: usize,
    window: Duration,
}

const SHORT: Size = Size {
    devices: 100,
    garbage: 200,
    slow: 20,
    idle: 100,
    windows: 3,
    window: Duration::from_secs(2),
};
const LONG: Size = Size {
    devices: 500,
    garbage: 1_000,
    slow: 100,
    idle: 10_000,
    windows: 9,
    window: Duration::from_secs(10),
};

pub fn run(form: Form) -> Verdict {
    block_on(beside(form))
}

async fn beside(form: Form) -> Verdict {
    let size = if form.long { LONG } else { SHORT };
    if let Some(skipped) = crate::lacks_descriptors(u64::from(size.idle + size.garbage) + 2_000) {
        return skipped;
    }
    let load = Load {
        devices: size.devices,
        sos_every_s: 30,
        rate: 1.0,
    };
    let stand = Stand::new(form.seed, load, "").await;
    let online = await_(|| stand.fleet.progress().online == size.devices).await;
    let quiet = windows(&stand, &size).await;
    let crowd = Aside::start(Options {
        garbage: size.garbage,
        slow: size.slow,
        idle: size.idle,
        // Each one comes from another address each time: nothing can be held against where it comes from.
        sources: "127.0.0.0/8".parse().ok(),
        ..Options::new(form.seed, stand.sensor.parse().unwrap())
    });
    let came = await_(|| has_come(&crowd.report())).await;
    let beside = windows(&stand, &size).await;
    let report = crowd.report();
    let node = figures(&stand.node);
    drop(crowd);
    let check = stand.fleet.finish().await;
    let ratio = median(&beside) / median(&quiet);
    let summary = &check.summary;
    let share = |count: u64| 1e3 * count as f64 / summary.frames_sent.max(1) as f64;
    let delivered = share(summary.tracks_pushed.min(summary.frames_answered));
    let counts = BTreeMap::from([
        ("p99_ms_quiet", json!(quiet)),
        ("p99_ms_beside", json!(beside)),
        ("p99_ratio", json!((ratio * 100.0).round() / 100.0)),
        ("delivered_per_mille", json!(delivered)),
        ("crowd", told(&report)),
        ("node", node),
    ]);
    judge(&check, counts)
        .but(&[
            (!online, "not all good devices came"),
            (!came, "the crowd did not come"),
            (
                report.garbage.closed_by_peer == 0,
                "nobody was closed for rubbish",
            ),
            (
                delivered < DELIVERED_PER_MILLE,
                "too few of the good ones were delivered and answered",
            ),
            (
                form.long && ratio > RATIO_MAX,
                "the good ones wait for longer than twice as long beside the crowd",
            ),
        ])
        .with_log(&stand.node)
}

/// Whether everybody was there once.
fn has_come(report: &Report) -> bool {
    report.garbage.connected >= u64::from(report.garbage.asked)
        && report.slow.connected >= u64::from(report.slow.asked)
        && report.idle.logged_in >= u64::from(report.idle.asked)
}

/// The 99th percentile of each window, from sending a report to its push, ms.
async fn windows(stand: &Stand, size: &Size) -> Vec<f64> {
    let mut found = Vec::new();
    for _ in 0..size.windows {
        let before = stand.fleet.ledger().latency();
        sleep(size.window).await;
        let window = stand.fleet.ledger().latency().since(&before);
        // A window in which nothing came is the worst there can be.
        found.push(window.share_ms(0.99).unwrap_or(f64::INFINITY));
    }
    found
}

fn median(windows: &[f64]) -> f64 {
    let mut sorted = windows.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What happened to the crowd.
fn told(report: &Report) -> Value {
    let (garbage, slow, idle) = (&report.garbage, &report.slow, &report.idle);
    json!({
        "seconds": report.seconds.round(),
        "garbage_connected": garbage.connected,
        "garbage_closed": garbage.closed_by_peer,
        "garbage_mb": garbage.sent_bytes / 1_000_000,
        "slow_connected": slow.connected,
        "slow_closed": slow.closed_by_peer,
        "idle_logged_in": idle.logged_in,
        "idle_closed": idle.closed_by_peer,
        "refused": garbage.refused + slow.refused + idle.refused,
    })
}

/// What the ingest says of connections that came and went.
fn figures(node: &Node) -> Value {
    let figures = node.process("ingest").map(|process| process.figures);
    let told = ["ringway_connections", "ringway_messages_refused"];
    let figures = figures.unwrap_or_default().into_iter();
    let figures = figures.filter(|(name, _)| told.iter().any(|told| name.starts_with(told)));
    json!(figures.collect::<BTreeMap<_, _>>())
}
