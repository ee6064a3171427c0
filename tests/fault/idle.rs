//! S3: what a connection takes that logged in and says nothing.
//!
//! Measured is what the ingest has written to and shares with nobody, before and after so many have logged in. What the
//! kernel keeps for their sockets is told apart, both ends of each, since both are on this machine.

use std::collections::BTreeMap;

use device_sim::crowd::Options;
use serde_json::json;

use crate::aside::Aside;
use crate::footprint::{Kernel, private_bytes};
use crate::node::{Node, QUIET};
use crate::stand::await_;
use crate::{Form, Outcome, Verdict, stand::block_on};

const CONNECTIONS: u32 = 1_000;
const CONNECTIONS_LONG: u32 = 10_000;
/// Connections before the first look, so that what is needed once is there.
const FIRST: u32 = 50;
/// User memory of each.
const BYTES_MAX: f64 = 1_536.0;

pub fn run(form: Form) -> Verdict {
    let count = if form.long {
        CONNECTIONS_LONG
    } else {
        CONNECTIONS
    };
    if let Some(skipped) = crate::lacks_descriptors(u64::from(count + FIRST) + 500) {
        return skipped;
    }
    block_on(measure(form, count))
}

async fn measure(form: Form, count: u32) -> Verdict {
    let node = Node::start(QUIET);
    let target = node.address("sensor:trackers").parse().unwrap();
    let pid = node.process("ingest").and_then(|process| process.pid);
    let pid = pid.expect("a node that is ready has an ingest");
    let crowd = |idle, seed| Options {
        idle,
        sources: "127.1.0.0/16".parse().ok(),
        ..Options::new(seed, target)
    };
    let first = Aside::start(crowd(FIRST, form.seed));
    let ready = await_(|| first.report().idle.logged_in >= u64::from(FIRST)).await;
    let (before, kernel) = (private_bytes(pid), Kernel::now());
    let mut options = crowd(count, form.seed + 1);
    options.first_phone += u64::from(FIRST);
    let all = Aside::start(options);
    let came = await_(|| all.report().idle.logged_in >= u64::from(count)).await;
    let (after, kernel_after) = (private_bytes(pid), Kernel::now());
    let open = node.figure("trackers", "ringway_connections");
    let report = all.report().idle;
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(count);
    let user = before.zip(after).map(|(before, after)| each(before, after));
    let outcome = match user {
        None => Outcome::Skipped("the memory of a process cannot be read from /proc".into()),
        Some(bytes) if bytes > BYTES_MAX => {
            Outcome::Fails(format!("{bytes:.0} bytes a connection, above {BYTES_MAX}"))
        }
        Some(_) => Outcome::Holds,
    };
    let counts = BTreeMap::from([
        ("connections", json!(open)),
        ("bytes_a_connection", json!(user)),
        (
            "kernel_buffers_a_connection",
            json!(each(kernel.buffers, kernel_after.buffers)),
        ),
        (
            "kernel_objects_a_connection",
            json!(each(kernel.objects, kernel_after.objects)),
        ),
    ]);
    let stayed = report.open == u64::from(count) && report.closed_by_peer == 0;
    let verdict = Verdict { outcome, counts };
    verdict
        .but(&[
            (!ready || !came, "not all connections came"),
            (
                !stayed,
                "connections were closed that said nothing for a moment",
            ),
            (
                open < f64::from(count),
                "the node does not know of all connections",
            ),
        ])
        .with_log(&node)
}
