//! R8: an owed alarm arrives without its frame being sent again. Devices send once and never resend; the uplink refuses,
//! because its journal is full, and later accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use device_sim::broker;
use device_sim::report::Report;
use device_sim::subscriber::{self, Seen};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::guests::Guests;
use crate::node::{Node, QUIET};
use crate::stand::{PATIENCE, await_, block_on};
use crate::terminal::{SOS, Terminal, now_s, report};
use crate::{Form, Outcome, Verdict};

const DEVICES: u64 = 40;
const DEVICES_LONG: u64 = 2_000;
const FIRST_PHONE: u64 = 13_900_000_000;
/// What is owed is tried again each second; it is refused at least so often.
const REFUSED_FOR: Duration = Duration::from_secs(3);

pub fn run(form: Form) -> Verdict {
    block_on(owe(form))
}

async fn owe(form: Form) -> Verdict {
    let devices = if form.long { DEVICES_LONG } else { DEVICES };
    let first = broker::start(broker::Options::default()).await.unwrap();
    let (url, listen) = (first.url(), first.addr.to_string());
    let node = Node::start(&format!(
        "{QUIET}\n[uplink]\nbroker = \"{url}\"\njournal_size_max = \"1MiB\"\n"
    ));
    let (tx, mut seen) = mpsc::channel(1_024);
    let subscriber = tokio::spawn({
        let url = url.clone();
        // Of all kinds: what nobody subscribed to would stay in the journal.
        async move { subscriber::alarms(&url, "ringway/v1/+/+/alarm/#", tx).await }
    });
    first.stop().await;
    let refused = || {
        let process = node.process("uplink");
        let figures = process.map(|process| process.figures).unwrap_or_default();
        let refused = figures.iter().filter(|(name, _)| name.contains("refused"));
        refused.map(|(_, count)| *count as u64).sum::<u64>()
    };
    let sensor = node.address("sensor:trackers");
    let mut guests = Guests::default();
    guests.fill(&sensor);
    let full = await_(|| refused() > 0).await;

    let mut terminals = Vec::new();
    for phone in FIRST_PHONE..FIRST_PHONE + devices {
        let mut terminal = Terminal::connect(&sensor, phone);
        let pressed = Report {
            alarms: SOS,
            ..report(now_s())
        };
        terminals.push((terminal.send(&pressed), terminal));
    }
    let before = refused();
    sleep(REFUSED_FOR).await;
    let tried = refused() - before;
    // Also what a dead classifier owed.
    let killed = node.signal("classifier", Signal::SIGKILL);
    let mut answered = terminals
        .iter_mut()
        .filter_map(|(serial, terminal)| terminal.is_answered(*serial).then_some(()))
        .count();
    let options = broker::Options {
        listen,
        ..broker::Options::default()
    };
    let _broker = broker::start(options).await.unwrap();
    let (mut came, mut ids) = (BTreeSet::new(), BTreeSet::new());
    while (came.len() as u64) < devices {
        match timeout(PATIENCE, seen.recv()).await {
            Ok(Some(Seen::Alarm { payload, .. })) if payload["kind"] == "sos" => {
                came.insert(payload["device"].to_string());
                ids.insert(payload["id"].to_string());
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    subscriber.abort();
    answered += terminals
        .iter_mut()
        .filter_map(|(serial, terminal)| terminal.is_answered(*serial).then_some(()))
        .count();
    let counts = BTreeMap::from([
        ("devices", json!(devices)),
        ("arrived", json!(came.len())),
        ("ids", json!(ids.len())),
        ("refusals", json!(tried)),
        ("answered", json!(answered)),
    ]);
    let verdict = Verdict {
        outcome: Outcome::Holds,
        counts,
    };
    verdict
        .but(&[
            (!full, "the journal did not fill"),
            (!killed, "there was no classifier to kill"),
            (tried < devices, "not every alarm was refused first"),
            (
                (came.len() as u64) < devices,
                "an owed alarm did not arrive",
            ),
            (ids.len() != came.len(), "an alarm came under two ids"),
            (
                answered > 0,
                "a device was answered although it was refused",
            ),
        ])
        .with_log(&node)
}
