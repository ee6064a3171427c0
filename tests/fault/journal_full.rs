//! R8, its quota part: the journal is full while the broker is away. New alarms are refused and their devices not
//! answered, tracks go on; when the broker is back, what was refused comes again and everything arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::stand::{Load, Stand, block_on, judge};
use crate::{Form, Outcome, Verdict};

const LOAD: Load = Load {
    devices: 400,
    sos_every_s: 3,
};
const FULL_WAIT: Duration = Duration::from_secs(60);
const FULL_FOR: Duration = Duration::from_secs(3);
const FULL_FOR_LONG: Duration = Duration::from_secs(60);

pub fn run(form: Form) -> Verdict {
    block_on(fill(form))
}

async fn fill(form: Form) -> Verdict {
    let mut stand = Stand::new(form.seed, LOAD, "journal_size_max = \"1MiB\"").await;
    if let Some(broker) = stand.broker.take() {
        broker.stop().await;
    }
    let deadline = Instant::now() + FULL_WAIT;
    while refused(&stand) == 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
    let tracks_before = stand.fleet.progress().tracks_pushed;
    sleep(if form.long { FULL_FOR_LONG } else { FULL_FOR }).await;
    let tracks_meanwhile = stand.fleet.progress().tracks_pushed - tracks_before;
    let refused = refused(&stand);
    let unanswered = stand.fleet.progress();
    let unanswered = unanswered.frames_sent - unanswered.frames_answered;
    stand.broker_back().await;

    let check = stand.fleet.finish().await;
    let mut verdict = judge(
        &check,
        BTreeMap::from([
            ("refused", json!(refused)),
            ("tracks_while_full", json!(tracks_meanwhile)),
            ("unanswered_while_full", json!(unanswered)),
        ]),
    );
    let missing = [
        (refused == 0, "the journal did not fill"),
        (
            tracks_meanwhile == 0,
            "no track came while the journal was full",
        ),
        (
            unanswered == 0,
            "every device was answered although alarms were refused",
        ),
    ];
    if verdict.outcome == Outcome::Holds
        && let Some((_, what)) = missing.into_iter().find(|(is, _)| *is)
    {
        verdict.outcome = Outcome::Fails(what.into());
    }
    if verdict.outcome != Outcome::Holds {
        eprintln!("---- log of the node ----\n{}", stand.node.log());
    }
    verdict
}

/// Alarm records that the uplink refused so far.
fn refused(stand: &Stand) -> u64 {
    let figures = stand
        .node
        .process("uplink")
        .map(|process| process.figures)
        .unwrap_or_default();
    let refused = figures.iter().filter(|(name, _)| name.contains("refused"));
    refused.map(|(_, count)| *count as u64).sum()
}
