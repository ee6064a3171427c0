//! What the observer shows of a node: metrics that every scraper can read and that follow what happens, and health
//! that says why.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::dispatched::hear_snapshot;
use crate::exposition::{self, Family};
use crate::node::{Node, wait_for};
use crate::terminal::{SOS, Terminal, now_s, report};
use crate::web;

const NODE: &str = r#"
[[sensor]]
name = "trackers"
input = "tcp"
protocol = "jt808"
listen = "127.0.0.1:0"

[dispatcher]
listen = "127.0.0.1:0"

[observer]
listen = "127.0.0.1:0"
"#;

const DOCUMENTED: &str = include_str!("../../docs/metrics.md");

/// Labels that every sample has.
const COMMON_LABELS: [&str; 3] = ["role", "instance", "le"];

fn scrape(node: &Node) -> Vec<Family> {
    let (status, body) = web::get(&node.address("observer"), "/metrics");
    assert_eq!(status, 200);
    exposition::read(&body)
}

/// The one sample of this name with these labels.
fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = families.iter().flat_map(|family| &family.samples);
    let found: Vec<f64> = samples
        .filter(|sample| sample.name == name && sample.has(labels))
        .map(|sample| sample.value)
        .collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}");
    found[0]
}

/// The row of a family as the documentation has it.
fn row(family: &Family) -> String {
    let labels = family.samples.iter().flat_map(|sample| &sample.labels);
    let own = labels.filter(|(name, _)| !COMMON_LABELS.contains(&&name[..]));
    let mut names = BTreeSet::new();
    let mut values = Vec::new();
    for (name, value) in own {
        names.insert(name.as_str());
        let value = format!("`{value}`");
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let labels = match names.first() {
        None => String::new(),
        Some(name) => format!("`{name}`: {}", values.join(", ")),
    };
    assert!(names.len() <= 1, "{names:?} of {}", family.name);
    format!(
        "| `{}` | {} | {labels} | {} |",
        family.name, family.kind, family.help
    )
}

fn tell(terminal: &mut Terminal, time_s: u32, alarms: u32) {
    let mut report = report(time_s);
    report.alarms = alarms;
    let serial = terminal.send(&report);
    terminal.await_answer(serial);
}

#[test]
fn metrics_are_sound_and_each_family_is_documented_and_there_once() {
    let node = Node::start(NODE);
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    tell(&mut terminal, now_s() - 60, 0);
    let there: BTreeSet<String> = scrape(&node).iter().map(row).collect();
    let documented = DOCUMENTED
        .lines()
        .filter(|line| line.starts_with("| `ringway_"));
    let documented: BTreeSet<String> = documented.map(String::from).collect();
    let lines = |rows: Vec<&String>| {
        rows.into_iter()
            .map(|row| format!("\n{row}"))
            .collect::<String>()
    };
    let missing = lines(there.difference(&documented).collect());
    let gone = lines(documented.difference(&there).collect());
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/metrics.md lacks:{missing}\nand has what no node has:{gone}"
    );
}

#[test]
fn traffic_moves_the_metrics() {
    let node = Node::start(NODE);
    let mut socket = web::subscribe(&node.address("dispatcher"));
    hear_snapshot(&mut socket);
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    let time_s = now_s() - 600;
    for second in 0..10 {
        tell(&mut terminal, time_s + second, 0);
    }
    tell(&mut terminal, time_s + 9, 0);
    tell(&mut terminal, time_s + 10, SOS);
    let (_, mut damaged) = terminal.location(&report(time_s + 11));
    // The second byte of the alarm word, after a flag and twelve bytes of header.
    damaged[14] ^= 1;
    terminal.say(&damaged);
    terminal.beat();

    let trackers = ("instance", "trackers");
    type Labels<'a> = &'a [(&'a str, &'a str)];
    let expected: [(&str, Labels<'_>, f64); 18] = [
        ("ringway_connections", &[trackers], 1.0),
        ("ringway_connections_accepted_total", &[trackers], 1.0),
        ("ringway_messages_total", &[trackers], 13.0),
        (
            "ringway_messages_refused_total",
            &[trackers, ("reason", "checksum")],
            1.0,
        ),
        (
            "ringway_messages_refused_total",
            &[trackers, ("reason", "length")],
            0.0,
        ),
        ("ringway_frames_published_total", &[trackers], 12.0),
        (
            "ringway_answers_total",
            &[trackers, ("outcome", "accepted")],
            12.0,
        ),
        ("ringway_answers_pending", &[trackers], 0.0),
        ("ringway_frames_total", &[], 12.0),
        (
            "ringway_frames_rejected_total",
            &[("reason", "duplicate")],
            1.0,
        ),
        ("ringway_devices", &[], 1.0),
        ("ringway_events_total", &[("phase", "raise")], 1.0),
        ("ringway_records_accepted_total", &[], 1.0),
        ("ringway_journal_records", &[], 1.0),
        ("ringway_vehicles", &[], 1.0),
        ("ringway_subscribers", &[], 1.0),
        ("ringway_freshness_seconds_count", &[], 11.0),
        ("ringway_children", &[], 5.0),
    ];
    // Gauges are written once a second.
    let mut off = Vec::new();
    let moved = |off: &mut Vec<String>| {
        let families = scrape(&node);
        let wrong = expected.iter().filter_map(|(name, labels, expected)| {
            let found = value(&families, name, labels);
            (found != *expected).then(|| format!("{name} {labels:?}: {found}, not {expected}"))
        });
        *off = wrong.collect();
        off.is_empty()
    };
    let deadline = std::time::Instant::now() + crate::node::DEADLINE;
    while !moved(&mut off) {
        assert!(std::time::Instant::now() < deadline, "{off:#?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let families = scrape(&node);
    assert!(value(&families, "ringway_received_bytes_total", &[trackers]) > 500.0);
    assert!(value(&families, "ringway_scrapes_total", &[]) >= 2.0);
    for role in [
        "supervisor",
        "ingest",
        "classifier",
        "dispatcher",
        "uplink",
        "observer",
    ] {
        for name in ["ringway_process_up", "ringway_process_ready"] {
            assert_eq!(
                value(&families, name, &[("role", role)]),
                1.0,
                "{name} {role}"
            );
        }
    }

    let before = node.process("classifier").unwrap();
    assert!(node.signal("classifier", Signal::SIGKILL));
    wait_for("another classifier", || {
        node.process("classifier")
            .filter(|now| now.pid != before.pid && now.state == "ready")
    });
    let families = scrape(&node);
    assert_eq!(
        value(&families, "ringway_restarts_total", &[("of", "classifier")]),
        1.0
    );
    assert_eq!(
        value(&families, "ringway_frames_total", &[]),
        12.0,
        "a counter survives"
    );
}

/// The answer of `/readyz` once it has this status and all of `reasons`.
fn await_health(observer: &str, status: u16, reasons: &[&str]) {
    wait_for(&format!("{status} with {reasons:?}"), || {
        let (now, body) = web::try_get(observer, "/readyz").ok()?;
        let health: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(health["ready"] == true, now == 200, "{body}");
        let said: Vec<&str> = health["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r.as_str().unwrap())
            .collect();
        assert_eq!(said.is_empty(), now == 200, "{body}");
        let all = reasons
            .iter()
            .all(|reason| said.iter().any(|said| said.contains(reason)));
        (now == status && all).then_some(())
    });
}

#[test]
fn health_says_which_process_does_not_serve_and_why() {
    let mut node = Node::start(NODE);
    let observer = node.address("observer");
    await_health(&observer, 200, &[]);
    assert_eq!(web::get(&observer, "/livez").0, 200);
    assert_eq!(web::get(&observer, "/elsewhere").0, 404);

    let stopped = ["ingest", "classifier", "dispatcher", "uplink"];
    for role in stopped {
        assert!(node.signal(role, Signal::SIGSTOP), "{role}");
    }
    await_health(
        &observer,
        503,
        &[
            "ingest trackers",
            "classifier",
            "dispatcher",
            "uplink",
            "silent",
        ],
    );
    assert_eq!(web::get(&observer, "/livez").0, 200, "the node lives");
    for role in stopped {
        assert!(node.signal(role, Signal::SIGCONT), "{role}");
    }
    await_health(&observer, 200, &[]);

    // An unanswered alarm holds the drain up for a moment.
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    assert!(node.signal("uplink", Signal::SIGSTOP));
    let mut pressed = report(now_s() - 60);
    pressed.alarms = SOS;
    let held = terminal.send(&pressed);
    node.await_figure("classifier", r#"ringway_events_total{phase="raise"}"#, 1.0);
    let uplink = node.process("uplink").unwrap().pid.unwrap();
    node.signal_supervisor(Signal::SIGTERM);
    await_health(&observer, 503, &["supervisor"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(uplink as i32), Signal::SIGCONT).unwrap();
    terminal.await_answer(held);
    assert_eq!(node.ended().code(), Some(0), "{}", node.log());
}
