//! Bad bytes over a real socket: each kind is counted by its reason, costs a bounded amount of memory, and ends at most
//! the session that it came by.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use crate::node::{Node, wait_for};
use crate::terminal::{Terminal, now_s, report};

/// `strict` closes after 16 errors, `patient` never.
const TWO_SENSORS: &str = r#"
[[sensor]]
name = "strict"
input = "tcp"
protocol = "jt808"
listen = "127.0.0.1:0"

[[sensor]]
name = "patient"
input = "tcp"
protocol = "jt808"
listen = "127.0.0.1:0"
errors_max = 1000000000

[dispatcher]
listen = "127.0.0.1:0"

[observer]
listen = "127.0.0.1:0"
"#;

/// As the documentation has it.
const ERRORS_MAX: usize = 16;

/// What a hostile sender may make an ingest hold besides what it holds anyway. The longest message of the protocol is
/// 2 KiB and a read is 16 KiB; all the rest is the allocator's.
const GROWTH_KIB_MAX: u64 = 1_024;

/// Bytes of an endless message: far more than an ingest may keep.
const ENDLESS_BYTES: usize = 16 << 20;

/// How long a socket may take nothing before its sender is held back: far more than a working one needs.
const HELD_BACK_AFTER: Duration = Duration::from_secs(1);

const CHECKSUM: &str = r#"ringway_messages_refused_total{reason="checksum"}"#;
const INCOMPLETE: &str = r#"ringway_messages_refused_total{reason="incomplete"}"#;
const RUBBISH: &str = r#"ringway_messages_refused_total{reason="rubbish"}"#;
const TOO_LONG: &str = r#"ringway_messages_refused_total{reason="too_long"}"#;
const CLOSED_FOR_ERRORS: &str = r#"ringway_connections_closed_total{reason="errors"}"#;

/// A well-behaved device on the same sensor.
struct Neighbour {
    terminal: Terminal,
    time_s: u32,
}

impl Neighbour {
    fn on(node: &Node, sensor: &str) -> Neighbour {
        let mut neighbour = Neighbour {
            terminal: Terminal::connect(&address(node, sensor), 13_900_000_001),
            time_s: now_s() - 1_000,
        };
        neighbour.is_served();
        neighbour
    }

    /// Reports, and waits until it is answered.
    fn is_served(&mut self) {
        self.time_s += 1;
        let serial = self.terminal.send(&report(self.time_s));
        self.terminal.await_answer(serial);
    }
}

fn address(node: &Node, sensor: &str) -> String {
    node.address(&format!("sensor:{sensor}"))
}

fn rude(node: &Node, sensor: &str) -> Terminal {
    Terminal::connect(&address(node, sensor), 13_900_000_666)
}

/// Memory of its own that the ingest of a sensor has now, KiB: shared memory, such as its ring, is left out.
fn memory_kib(node: &Node, sensor: &str) -> u64 {
    let processes = node.report().processes;
    let ingest = processes.iter().find(|p| p.instance == sensor).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", ingest.pid.unwrap())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.unwrap().split_whitespace().next();
    number.unwrap().parse().unwrap()
}

#[test]
fn rubbish_is_counted_and_ends_its_session_after_errors_max() {
    let node = Node::start(TWO_SENSORS);
    let mut neighbour = Neighbour::on(&node, "strict");
    let mut rude = rude(&node, "strict");
    for errors in 1..=ERRORS_MAX {
        rude.say(b"GET / HTTP/1.1\r\n");
        // What comes in one read is one run of rubbish, so each has to be taken before the next.
        node.await_figure("strict", RUBBISH, errors as f64);
        neighbour.is_served();
    }
    rude.await_end();
    assert_eq!(node.figure("strict", RUBBISH), ERRORS_MAX as f64);
    node.await_figure("strict", CLOSED_FOR_ERRORS, 1.0);
    neighbour.is_served();
}

#[test]
fn wrong_checksums_are_counted_and_a_good_message_makes_up_for_them() {
    let node = Node::start(TWO_SENSORS);
    let mut neighbour = Neighbour::on(&node, "strict");
    let mut rude = rude(&node, "strict");
    let start_s = now_s() - 1_000;
    let damaged = |rude: &mut Terminal| {
        let (_, mut bytes) = rude.location(&report(start_s));
        // The second byte of the alarm word, after a flag and twelve bytes of header: 0 in every report here.
        assert_eq!(bytes[14], 0);
        bytes[14] = 1;
        bytes
    };
    for _ in 1..ERRORS_MAX {
        let bytes = damaged(&mut rude);
        rude.say(&bytes);
    }
    let good = rude.send(&report(start_s));
    rude.await_answer(good);
    assert_eq!(node.figure("strict", CHECKSUM), (ERRORS_MAX - 1) as f64);
    assert_eq!(rude.answers(), 1, "damaged messages are not answered");

    for _ in 0..ERRORS_MAX {
        let bytes = damaged(&mut rude);
        rude.say(&bytes);
    }
    rude.await_end();
    assert_eq!(node.figure("strict", CHECKSUM), (2 * ERRORS_MAX - 1) as f64);
    node.await_figure("strict", CLOSED_FOR_ERRORS, 1.0);
    neighbour.is_served();
}

#[test]
fn half_a_message_is_counted_when_its_connection_ends() {
    let node = Node::start(TWO_SENSORS);
    let mut neighbour = Neighbour::on(&node, "strict");
    let mut cut = rude(&node, "strict");
    let whole = cut.send(&report(now_s() - 1_000));
    cut.await_answer(whole);
    let (_, bytes) = cut.location(&report(now_s() - 999));
    cut.say(&bytes[..bytes.len() / 2]);
    cut.finish();
    cut.await_end();
    node.await_figure("strict", INCOMPLETE, 1.0);
    node.await_figure(
        "strict",
        r#"ringway_connections_closed_total{reason="peer"}"#,
        1.0,
    );
    assert_eq!(node.figure("strict", CLOSED_FOR_ERRORS), 0.0);
    neighbour.is_served();
}

#[test]
fn an_endless_message_costs_no_memory_and_ends_its_session() {
    let node = Node::start(TWO_SENSORS);
    let mut neighbour = Neighbour::on(&node, "patient");
    let before_kib = memory_kib(&node, "patient");
    let chunk = [b'A'; 64 * 1024];

    let mut endless = rude(&node, "patient");
    endless.say(b"\x7e");
    for sent in (0..ENDLESS_BYTES).step_by(chunk.len()) {
        endless.say(&chunk);
        if sent % (4 << 20) == 0 {
            neighbour.is_served();
        }
    }
    node.await_figure(
        "patient",
        "ringway_received_bytes_total",
        ENDLESS_BYTES as f64,
    );
    let growth_kib = memory_kib(&node, "patient").saturating_sub(before_kib);
    assert!(growth_kib <= GROWTH_KIB_MAX, "grew by {growth_kib} KiB");
    assert!(node.figure("patient", TOO_LONG) >= 1.0);

    let mut closed = rude(&node, "strict");
    closed.say(b"\x7e");
    let sent = (0..ENDLESS_BYTES).step_by(chunk.len());
    let refused = sent
        .into_iter()
        .any(|_| closed.stream().write_all(&chunk).is_err());
    assert!(refused, "{ENDLESS_BYTES} bytes of one message were taken");
    closed.await_end();
    node.await_figure("strict", CLOSED_FOR_ERRORS, 1.0);
    assert!(node.figure("strict", TOO_LONG) >= 1.0);
}

#[test]
fn a_flood_whose_answers_nobody_reads_is_held_back_alone() {
    let node = Node::start(TWO_SENSORS);
    let mut neighbour = Neighbour::on(&node, "strict");
    let before_kib = memory_kib(&node, "strict");
    let mut flood = rude(&node, "strict");
    let start_s = now_s() - 1_000;
    let mut messages = Vec::new();
    let mut ends = Vec::new();
    for second in 0..500 {
        messages.extend(flood.location(&report(start_s + second)).1);
        ends.push(messages.len());
    }

    flood
        .stream()
        .set_write_timeout(Some(HELD_BACK_AFTER))
        .unwrap();
    let mut sent = 0;
    loop {
        match flood.stream().write(&messages[sent % messages.len()..]) {
            Ok(bytes) => sent += bytes,
            Err(why) if why.kind() == ErrorKind::WouldBlock => break,
            Err(why) => panic!("{why}"),
        }
        assert!(sent < 1 << 30, "never held back");
    }
    neighbour.is_served();
    let growth_kib = memory_kib(&node, "strict").saturating_sub(before_kib);
    assert!(growth_kib <= GROWTH_KIB_MAX, "grew by {growth_kib} KiB");

    // It reads again: every message gets its answer, and the half one is completed first.
    let next = ends
        .iter()
        .copied()
        .find(|&end| end >= sent % messages.len());
    let rest = messages[sent % messages.len()..next.unwrap()].to_vec();
    let whole = sent / messages.len() * ends.len()
        + ends.iter().filter(|&&end| end <= next.unwrap()).count();
    let mut writer = flood.stream().try_clone().unwrap();
    writer.set_write_timeout(None).unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&rest).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    flood.await_end();
    writing.join().unwrap();
    assert_eq!(flood.answers(), whole);
    wait_for("the flood's connection to be counted", || {
        (node.figure(
            "strict",
            r#"ringway_connections_closed_total{reason="peer"}"#,
        ) == 1.0)
            .then_some(())
    });
    neighbour.is_served();
}
