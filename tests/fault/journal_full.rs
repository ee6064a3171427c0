//! R8, its quota part: the journal is full while the broker is away. New alarms are refused and their devices not
//! answered, tracks go on; when the broker is back, what was refused comes again and everything arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use device_sim::ledger::Unanswered;
use serde_json::json;
use tokio::time::sleep;

use crate::guests::Guests;
use crate::stand::{Load, Stand, await_, block_on, judge};
use crate::{Form, Verdict};

const LOAD: Load = Load {
    devices: 400,
    sos_every_s: 3,
    rate: 1.0,
};
const FULL_FOR: Duration = Duration::from_secs(3);
const FULL_FOR_LONG: Duration = Duration::from_secs(60);
/// Reports that wait for their answer when it is looked who does.
const WAITING_MIN: u64 = 50;
/// Reports younger than this may still be on their way.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

pub fn run(form: Form) -> Verdict {
    block_on(fill(form))
}

async fn fill(form: Form) -> Verdict {
    let mut stand = Stand::new(form.seed, LOAD, "journal_size_max = \"1MiB\"").await;
    stand.broker_away().await;
    let mut guests = Guests::default();
    guests.fill(&stand.sensor);
    await_(|| stand.uplink("refused") > 0).await;
    // Whose alarm is refused is not answered for it, and is the only one.
    let mut unanswered = Unanswered::default();
    let exact = await_(|| {
        unanswered = stand.fleet.ledger().unanswered(ON_ITS_WAY);
        unanswered.deciding >= WAITING_MIN && unanswered.plain == 0
    })
    .await;
    let tracks_before = stand.fleet.progress().tracks_pushed;
    sleep(if form.long { FULL_FOR_LONG } else { FULL_FOR }).await;
    let tracks_meanwhile = stand.fleet.progress().tracks_pushed - tracks_before;
    let refused = stand.uplink("refused");
    stand.broker_back().await;

    let check = stand.fleet.finish().await;
    let counts = BTreeMap::from([
        ("refused", json!(refused)),
        ("tracks_while_full", json!(tracks_meanwhile)),
        ("unanswered_with_alarm", json!(unanswered.deciding)),
        ("unanswered_without", json!(unanswered.plain)),
    ]);
    judge(&check, counts)
        .but(&[
            (refused == 0, "the journal did not fill"),
            (
                !exact,
                "not exactly the reports whose alarms were refused were left without an answer",
            ),
            (
                tracks_meanwhile == 0,
                "no track came while the journal was full",
            ),
            (check.resent == 0, "nobody sent again what was refused"),
        ])
        .with_log(&stand.node)
}
