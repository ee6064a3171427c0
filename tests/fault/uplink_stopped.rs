//! R8, and R13 in small: the uplink stands still under load. Nobody is answered for what is not safe, tracks go on, and
//! when it goes on everything arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::sleep;

use crate::stand::{Load, Stand, block_on, judge};
use crate::{Form, Verdict};

const LOAD: Load = Load {
    devices: 200,
    sos_every_s: 3,
    rate: 1.0,
};
const BEFORE: Duration = Duration::from_secs(3);
/// What was on disk when it stopped is answered by then.
const SETTLED: Duration = Duration::from_secs(1);
const STOPPED: Duration = Duration::from_secs(5);
/// Long enough for the alarm ring to fill.
const STOPPED_LONG: Duration = Duration::from_secs(120);

pub fn run(form: Form) -> Verdict {
    block_on(stand_still(form))
}

async fn stand_still(form: Form) -> Verdict {
    let stand = Stand::new(form.seed, LOAD, "").await;
    sleep(BEFORE).await;
    let stopped = stand.node.signal("uplink", Signal::SIGSTOP);
    sleep(SETTLED).await;
    // Answered, and not delivered: what the uplink had taken over and not sent before it stopped.
    let early = stand.fleet.ledger().outstanding();
    let before = stand.fleet.progress();
    sleep(if form.long { STOPPED_LONG } else { STOPPED }).await;
    let late = stand.fleet.ledger().outstanding();
    let meanwhile = stand.fleet.progress();
    let unanswered = stand.fleet.ledger().unanswered(SETTLED);
    let ring_full = stand.node.process("classifier").map_or(0.0, |process| {
        let name = "ringway_alarm_ring_full_total";
        process.figures.get(name).copied().unwrap_or(0.0)
    });
    let goes_on = stand.node.signal("uplink", Signal::SIGCONT);
    let tracks = meanwhile.tracks_pushed - before.tracks_pushed;
    let check = stand.fleet.finish().await;
    let counts = BTreeMap::from([
        ("tracks_while_stopped", json!(tracks)),
        (
            "answered_while_stopped",
            json!(meanwhile.frames_answered - before.frames_answered),
        ),
        (
            "alarms_answered_while_stopped",
            json!(late.saturating_sub(early)),
        ),
        ("unanswered_with_alarm", json!(unanswered.deciding)),
        ("refused_for_a_full_ring", json!(ring_full)),
    ]);
    judge(&check, counts)
        .but(&[
            (!stopped || !goes_on, "there was no uplink to stop"),
            (
                late > early,
                "a device was answered for an alarm while the uplink stood still",
            ),
            (unanswered.deciding == 0, "no alarm waited"),
            (tracks == 0, "no track came while the uplink stood still"),
        ])
        .with_log(&stand.node)
}
