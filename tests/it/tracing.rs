//! One alarm, one trace: from the socket of the device to the broker's confirmation, through every process, as a
//! collector gets it.

use std::net::{SocketAddr, TcpListener};

use device_sim::sink::{Behaviour, Traces};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::aside;
use crate::mailbox::{Letter, Mailbox};
use crate::node::{Node, wait_for};
use crate::terminal::{SOS, Terminal, now_s, report};
use crate::web;

/// Name, kind, service and parent of every span.
const SPANS: [(&str, SpanKind, &str, Option<&str>); 7] = [
    ("receive trackers", SpanKind::Server, "ringway-ingest", None),
    (
        "decode jt808",
        SpanKind::Internal,
        "ringway-ingest",
        Some("receive trackers"),
    ),
    (
        "send ring",
        SpanKind::Producer,
        "ringway-ingest",
        Some("receive trackers"),
    ),
    (
        "process ring",
        SpanKind::Consumer,
        "ringway-classifier",
        Some("send ring"),
    ),
    (
        "classify",
        SpanKind::Internal,
        "ringway-classifier",
        Some("process ring"),
    ),
    (
        "journal",
        SpanKind::Internal,
        "ringway-uplink",
        Some("process ring"),
    ),
    (
        "send alarms/13900000001",
        SpanKind::Producer,
        "ringway-uplink",
        Some("journal"),
    ),
];

fn config(broker: SocketAddr, collector: SocketAddr) -> String {
    format!(
        r#"
[[sensor]]
name = "trackers"
input = "tcp"
protocol = "jt808"
listen = "127.0.0.1:0"

[dispatcher]
listen = "127.0.0.1:0"

[observer]
listen = "127.0.0.1:0"

[uplink]
broker = "mqtt://{broker}"

[trace]
endpoint = "http://{collector}"
"#
    )
}

/// Presses the button; returns what the broker's subscriber got. The device is answered by then.
fn alarm(terminal: &mut Terminal, mailbox: &Mailbox, time_s: u32) -> Letter {
    let plain = terminal.send(&report(time_s));
    let mut pressed = report(time_s + 1);
    pressed.alarms = SOS;
    let serial = terminal.send(&pressed);
    let letter = mailbox.next();
    terminal.await_answer(plain);
    terminal.await_answer(serial);
    letter
}

/// Trace id and parent id of the message's `traceparent`.
fn context(letter: &Letter) -> (u128, Vec<u8>) {
    let parts: Vec<&str> = letter.user["traceparent"].split('-').collect();
    let parent = u64::from_str_radix(parts[2], 16).unwrap();
    (
        u128::from_str_radix(parts[1], 16).unwrap(),
        parent.to_be_bytes().to_vec(),
    )
}

fn await_trace(traces: &Traces, id: u128) -> device_sim::sink::Tree {
    let mut faults = Vec::new();
    wait_for("the trace of an alarm to be complete", || {
        let checked = traces.check(id);
        if let Err(why) = &checked
            && *why != faults
        {
            eprintln!("so far: {why:?}");
            faults.clone_from(why);
        }
        checked.ok()
    })
}

#[test]
fn an_alarm_is_one_trace_from_the_devices_socket_to_the_brokers_confirmation() {
    let (broker, (collector, traces)) = (aside::broker(), aside::collector());
    let node = Node::start(&config(broker.addr, collector));
    let mailbox = Mailbox::open(broker.addr, "ringway/v1/+/+/alarm/#");
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    let letter = alarm(&mut terminal, &mailbox, now_s() - 60);
    let (trace_id, parent) = context(&letter);
    let tree = await_trace(&traces, trace_id);

    for (name, kind, service, parent) in SPANS {
        let named = tree.branches.iter().filter(|branch| branch.name == name);
        let [branch] = &named.collect::<Vec<_>>()[..] else {
            panic!("not one {name} in {tree:#?}");
        };
        let found = (branch.kind, &branch.service[..], branch.parent.as_deref());
        assert_eq!(found, (kind, service, parent), "{name} in {tree:#?}");
    }
    assert_eq!(tree.branches.len(), SPANS.len(), "{tree:#?}");
    // The subscriber's own span hangs below the one that sent the message to it.
    let spans = traces.spans(trace_id);
    let sender = spans
        .iter()
        .find(|received| received.span.span_id == parent);
    assert_eq!(sender.unwrap().span.name, "send alarms/13900000001");
    let hosts = spans
        .iter()
        .map(|received| received.resource_text("host.id").unwrap().to_owned());
    assert_eq!(hosts.collect::<std::collections::BTreeSet<_>>().len(), 1);
    // The position without an alarm left none.
    assert_eq!(traces.ids(), [trace_id]);
    assert_eq!(
        (traces.counts().unreadable, traces.counts().repeated),
        (0, 0)
    );
}

#[test]
fn a_collector_that_fails_delays_no_alarm_and_gets_the_trace_later() {
    let (broker, (collector, traces)) = (aside::broker(), aside::collector());
    traces.behave(Behaviour::Status(503));
    let node = Node::start(&config(broker.addr, collector));
    let mailbox = Mailbox::open(broker.addr, "ringway/v1/+/+/alarm/#");
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    let letter = alarm(&mut terminal, &mailbox, now_s() - 60);
    wait_for("a failed export", || {
        (traces.counts().failed > 0).then_some(())
    });
    assert_eq!(traces.ids(), [0; 0]);
    traces.behave(Behaviour::Accept);
    await_trace(&traces, context(&letter).0);
    assert!(node.figure("observer", "ringway_export_failures_total") >= 1.0);
}

#[test]
fn without_a_collector_alarms_are_delivered_and_the_node_is_ready() {
    let broker = aside::broker();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let node = Node::start(&config(broker.addr, nobody));
    let mailbox = Mailbox::open(broker.addr, "ringway/v1/+/+/alarm/#");
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    let time_s = now_s() - 600;
    for alarms in 0..20 {
        alarm(&mut terminal, &mailbox, time_s + 2 * alarms);
    }
    node.await_figure("observer", "ringway_export_failures_total", 1.0);
    assert_eq!(web::get(&node.address("observer"), "/readyz").0, 200);
}
