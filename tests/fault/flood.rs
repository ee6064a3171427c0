//! R12: memory is bounded. Sound messages at many times the rated load, ten thousand connections, subscribers that read
//! nothing, and no broker and no collector, all at once: what the node's processes keep does not grow, and no alarm of the
//! good devices beside all that is lost.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use device_sim::crowd::Options;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::connect_async;

use crate::aside::Aside;
use crate::footprint::{Kernel, processes, proportional_bytes};
use crate::stand::{Load, Stand, await_, await_for, block_on, judge};
use crate::{Form, Verdict};

/// Messages a second that a node is made for.
const RATED: f64 = 10_000.0;
/// So many times that is offered.
const TIMES: f64 = 10.0;
const SENDERS: u32 = 100;
/// Good devices, whose alarms are counted.
const LOAD: Load = Load {
    devices: 100,
    sos_every_s: 8,
    rate: 1.0,
};
const STALLED: usize = 8;
/// A subscriber that was cut off for its silence comes again after this long; the node's limit is 10 s.
const STALLED_FOR: Duration = Duration::from_secs(12);
/// Longest time until every queue is full, on a machine that is busy with other things.
const FULL_WITHIN: Duration = Duration::from_secs(120);
/// Queues are full when so little came within so many seconds.
const FLAT_BYTES_MAX: u64 = 512 << 10;
const FLAT_S: usize = 4;

struct Size {
    idle: u32,
    warm_up: Duration,
    length: Duration,
    /// One frame in so many is traced; 0: those that raise an alarm.
    traced_one_in: u32,
    /// What the processes may keep more in the last quarter of the time than in the first: pages of the alarms' ring that
    /// nobody has touched yet, and of the journal's log. What is kept for the stalled subscribers comes and goes with them,
    /// every 12 s, which quarters of a long time do not show.
    growth_bytes_max: u64,
}

const SHORT: Size = Size {
    idle: 300,
    warm_up: Duration::from_secs(2),
    length: Duration::from_secs(8),
    // A debug build would take half a minute to fill the queue of those that nobody takes.
    traced_one_in: 0,
    growth_bytes_max: 6 << 20,
};
const LONG: Size = Size {
    idle: 10_000,
    warm_up: Duration::from_secs(60),
    length: Duration::from_secs(600),
    traced_one_in: 1,
    growth_bytes_max: 2 << 20,
};

pub fn run(form: Form) -> Verdict {
    block_on(flood(form))
}

async fn flood(form: Form) -> Verdict {
    let size = if form.long { LONG } else { SHORT };
    if let Some(skipped) = crate::lacks_descriptors(u64::from(size.idle) + 1_000) {
        return skipped;
    }
    // Nobody listens there: the collector is away.
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = away.local_addr().unwrap();
    drop(away);
    let one_in = size.traced_one_in;
    let trace = format!("[trace]\nendpoint = \"http://{collector}\"\none_in = {one_in}");
    let mut stand = Stand::new(form.seed, LOAD, &trace).await;
    let online = await_(|| stand.fleet.progress().online == LOAD.devices).await;
    let mut stalled = JoinSet::new();
    for _ in 0..STALLED {
        stalled.spawn(stall(stand.stream.clone()));
    }
    stand.broker_away().await;
    let crowd = Aside::start(Options {
        idle: size.idle,
        flood: SENDERS,
        rate: TIMES * RATED / f64::from(SENDERS),
        length: size.warm_up + 2 * FULL_WITHIN + size.length,
        sources: "127.3.0.0/16".parse().ok(),
        ..Options::new(form.seed, stand.sensor.parse().unwrap())
    });
    sleep(size.warm_up).await;
    let traced = one_in == 0 || await_for(FULL_WITHIN, || traces_dropped(&stand)).await;
    let full = traced && becomes_flat(&stand).await;
    let began = Instant::now();
    let (offered, taken) = (crowd.report().flood.messages, messages(&stand));
    let (mut bytes, mut kernel) = (Vec::new(), 0);
    while began.elapsed() < size.length {
        bytes.push(memory(&stand));
        kernel = kernel.max(Kernel::now().buffers);
        sleep(Duration::from_secs(1)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let a_second = |count: u64| (count as f64 / seconds).round();
    let offered = a_second(crowd.report().flood.messages - offered);
    let taken = a_second(messages(&stand) - taken);
    let report = crowd.report();
    drop((crowd, stalled));
    stand.broker_back().await;
    let check = stand.fleet.finish().await;
    let quarter = bytes.len().div_ceil(4);
    let (first, last) = (
        median(&bytes[..quarter]),
        median(&bytes[bytes.len() - quarter..]),
    );
    let growth = last.saturating_sub(first);
    let mb = |bytes: u64| (bytes as f64 / 1e5).round() / 10.0;
    let counts = BTreeMap::from([
        ("offered_a_second", json!(offered)),
        ("taken_a_second", json!(taken)),
        ("idle_connections", json!(report.idle.open)),
        ("pss_mb_first_quarter", json!(mb(first))),
        ("pss_mb_last_quarter", json!(mb(last))),
        (
            "pss_mb_max",
            json!(mb(bytes.iter().copied().max().unwrap_or(0))),
        ),
        ("kernel_buffers_mb_max", json!(mb(kernel))),
    ]);
    judge(&check, counts)
        .but(&[
            (!online, "not all good devices came"),
            (!full, "memory does not stop to grow"),
            (report.flood.messages == 0, "there was no flood"),
            (growth > size.growth_bytes_max, "memory grows"),
        ])
        .with_log(&stand.node)
}

/// What all processes keep together.
fn memory(stand: &Stand) -> u64 {
    proportional_bytes(&processes(&stand.node))
}

/// Waits until hardly anything comes any more; `false` if that does not happen.
async fn becomes_flat(stand: &Stand) -> bool {
    let deadline = Instant::now() + FULL_WITHIN;
    let mut last = VecDeque::new();
    while Instant::now() < deadline {
        last.push_back(memory(stand));
        if last.len() > FLAT_S {
            let first = last.pop_front().unwrap_or(0);
            if memory(stand) < first + FLAT_BYTES_MAX {
                return true;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
    false
}

/// Whether the queue of traces is full: one found no room.
fn traces_dropped(stand: &Stand) -> bool {
    let process = stand.node.process("observer");
    let figures = process.map(|process| process.figures).unwrap_or_default();
    let mut names = figures.keys();
    names.any(|name| name.starts_with("ringway_trace_records_dropped_total"))
}

/// Messages that the ingest has read.
fn messages(stand: &Stand) -> u64 {
    stand.node.figure("trackers", "ringway_messages_total") as u64
}

fn median(bytes: &[u64]) -> u64 {
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// A subscriber that reads nothing, again and again.
async fn stall(url: String) {
    loop {
        let connected = connect_async(url.as_str()).await;
        sleep(STALLED_FOR).await;
        drop(connected);
    }
}
