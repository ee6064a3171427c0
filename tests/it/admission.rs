//! Who may come in, with all processes: the list of devices while the node runs, limits of descriptors, and what an
//! operator sees.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use ringway::supervisor::report::NoticeReport;
use serde_json::Value;

use crate::example;
use crate::node::{DEADLINE, Node, QUIET, wait_for};
use crate::terminal::{Terminal, now_s, report};

const KNOWN: u64 = 13_900_000_001;
const STRANGER: u64 = 13_900_000_002;

/// A node whose only sensor has a list of devices, and where that list is.
fn listed(unknown: &str, devices: &str) -> (Node, PathBuf) {
    let admit =
        format!("[sensor.admit]\ndevices = \"fleet.txt\"\nunknown = \"{unknown}\"\n\n[dispatcher]");
    let mut node = Node::prepare(&QUIET.replace("[dispatcher]", &admit));
    let list = node.config_path().with_file_name("fleet.txt");
    std::fs::write(&list, devices).unwrap();
    node.launch();
    node.ready();
    (node, list)
}

fn ringway(verb: &str, node: &Node, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway"))
        .arg(verb)
        .arg("--config")
        .arg(node.config_path())
        .args(more)
        .output()
        .unwrap()
}

fn noticed(node: &Node) -> Vec<NoticeReport> {
    node.process("ingest").unwrap().notices
}

fn await_log(node: &Node, words: &str) {
    wait_for(words, || node.log().contains(words).then_some(()));
}

fn assert_closed(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // A reset is an end as well.
    assert!(!matches!(stream.read(&mut [0; 64]), Ok(1..)));
}

#[test]
fn what_a_device_in_quarantine_reports_arrives_once_it_is_on_the_list() {
    let (node, list) = listed("quarantine", &format!("{KNOWN}\n"));
    let address = node.address("sensor:trackers");
    let mut device = Terminal::connect(&address, STRANGER);
    device.beat();
    let time_s = now_s() - 60;
    let serials: Vec<u16> = (0..3).map(|at| device.send(&report(time_s + at))).collect();
    // An answer to a later heartbeat shows that the reports were read, and not answered.
    device.beat();
    assert!(!serials.iter().any(|&serial| device.is_answered(serial)));

    let notice = wait_for("the notice", || {
        noticed(&node).into_iter().find(|notice| notice.count >= 4)
    });
    assert_eq!(
        (notice.what.as_str(), notice.device),
        ("unknown", device.id())
    );
    assert_eq!(notice.source, "127.0.0.1");
    let shown = ringway("status", &node, &[]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&device.id()), "{shown}");

    std::fs::write(&list, format!("{KNOWN}\n{STRANGER}\n")).unwrap();
    node.signal_supervisor(Signal::SIGHUP);
    await_log(&node, "ingest trackers: 2 devices are on the list");
    // It keeps what was not answered and sends it again, over the connection that it has.
    let again: Vec<u16> = (0..3).map(|at| device.send(&report(time_s + at))).collect();
    for serial in again {
        device.await_answer(serial);
    }
    node.await_figure("classifier", "ringway_frames_total", 3.0);
    let quarantined = "ringway_messages_unknown_total{outcome=\"quarantined\"}";
    assert_eq!(node.figure("trackers", quarantined), 5.0);
    wait_for("no more notices", || {
        noticed(&node).is_empty().then_some(())
    });
}

#[test]
fn a_wrong_list_changes_nothing_also_for_an_ingest_that_starts_again() {
    let (node, list) = listed("reject", &format!("{KNOWN}\n"));
    let address = node.address("sensor:trackers");
    let mut known = Terminal::connect(&address, KNOWN);
    known.beat();

    std::fs::write(&list, format!("{STRANGER}\nnobody at all\n")).unwrap();
    node.signal_supervisor(Signal::SIGHUP);
    await_log(&node, "fleet.txt is wrong: line 2:");
    await_log(&node, "cannot reload");
    known.beat();
    let reload = ringway("reload", &node, &[]);
    assert_eq!(reload.status.code(), Some(78));
    let said = String::from_utf8(reload.stderr).unwrap();
    assert!(
        said.contains("fleet.txt:2: \"nobody at all\" is not a device id"),
        "{said}"
    );
    // A node that runs could not be asked while a file of its configuration was wrong.
    let status = ringway("status", &node, &[]);
    let said = String::from_utf8([status.stdout, status.stderr].concat()).unwrap();
    assert!(said.contains(" is ready "), "{said}");

    let before = node.process("ingest").unwrap().pid;
    assert!(node.signal("ingest", Signal::SIGKILL));
    wait_for("another ingest", || {
        node.process("ingest")
            .filter(|ingest| ingest.state == "ready" && ingest.pid != before)
    });
    Terminal::connect(&address, KNOWN).beat();
    let mut stranger = Terminal::connect(&address, STRANGER);
    let (_, beat) = stranger.message(device_sim::jt808::HEARTBEAT, &[]);
    stranger.say(&beat);
    node.await_figure(
        "trackers",
        "ringway_connections_closed_total{reason=\"unknown\"}",
        1.0,
    );
}

#[test]
fn reload_says_what_it_read_and_ends_the_sessions_of_those_that_are_gone() {
    let (node, list) = listed("reject", &format!("{KNOWN}\n{STRANGER}\n"));
    let address = node.address("sensor:trackers");
    let mut stays = Terminal::connect(&address, KNOWN);
    let mut goes = Terminal::connect(&address, STRANGER);
    stays.beat();
    goes.beat();
    std::fs::write(&list, format!("{KNOWN} # the only one\n")).unwrap();
    let reload = ringway("reload", &node, &["--json"]);
    assert_eq!(reload.status.code(), Some(0), "{reload:?}");
    let said: Value = serde_json::from_slice(&reload.stdout).unwrap();
    let read = &said["device_lists"][0];
    assert_eq!(
        (&read["sensor"], &read["devices"]),
        (&"trackers".into(), &1.into())
    );
    node.await_figure(
        "trackers",
        "ringway_connections_closed_total{reason=\"unknown\"}",
        1.0,
    );
    let serial = stays.send(&report(now_s() - 60));
    stays.await_answer(serial);

    std::fs::remove_file(&list).unwrap();
    node.signal_supervisor(Signal::SIGHUP);
    await_log(&node, "the list before stays");
    stays.beat();
}

#[test]
fn the_example_of_the_document_admits_as_it_says() {
    let text = example::of("Who may come in", &[("[::]:6808", "127.0.0.1:0")]);
    let sources = "sources = [\"10.0.0.0/8\", \"2001:db8::/32\"]";
    let text = text.replace(
        sources,
        "sources = [\"127.0.0.1\"]\nconnections_per_source_max = 2",
    );
    assert!(text.contains("127.0.0.1\"]"), "{text}");
    let servers = QUIET.split("[dispatcher]").nth(1).unwrap();
    let mut node = Node::prepare(&format!("{text}\n[dispatcher]{servers}"));
    let list = node.config_path().with_file_name("fleet.txt");
    std::fs::write(&list, format!("{KNOWN}\n")).unwrap();
    node.launch();
    node.ready();
    let address = node.address("sensor:trackers");
    let mut known = Terminal::connect(&address, KNOWN);
    known.beat();
    let _second = TcpStream::connect(&address).unwrap();
    node.await_figure("trackers", "ringway_connections", 2.0);
    assert_closed(&mut TcpStream::connect(&address).unwrap());
    let turned_away = "ringway_connections_turned_away_total{reason=\"per_source\"}";
    node.await_figure("trackers", turned_away, 1.0);
    known.beat();
}

/// A feed is one stream for many devices: it is not ended for a stranger in it.
#[test]
fn a_feed_with_a_stranger_in_it_goes_on_and_only_known_devices_arrive() {
    let feed = "[[sensor]]\nname = \"bridge\"\ninput = \"fifo\"\nprotocol = \"json\"\n\
        path = \"bridge.fifo\"\n[sensor.admit]\ndevices = \"fleet.txt\"\n";
    let mut node = Node::prepare(&format!("{QUIET}{feed}"));
    let list = node.config_path().with_file_name("fleet.txt");
    std::fs::write(&list, "bus-*\n").unwrap();
    node.launch();
    node.ready();
    let pipe = node.config_path().with_file_name("bridge.fifo");
    let mut writer = wait_for("the pipe", || {
        pipe.exists()
            .then(|| std::fs::OpenOptions::new().write(true).open(&pipe).unwrap())
    });
    for device in ["bus-17", "tram-4", "bus-18"] {
        let line = format!("{{\"device\":\"{device}\",\"id\":1,\"lat\":48.1,\"lon\":11.5}}\n");
        writer.write_all(line.as_bytes()).unwrap();
    }
    node.await_figure("bridge", "ringway_frames_published_total", 2.0);
    let rejected = "ringway_messages_unknown_total{outcome=\"rejected\"}";
    assert_eq!(node.figure("bridge", rejected), 1.0);
    assert_eq!(node.figure("bridge", "ringway_frames_published_total"), 2.0);
    assert_eq!(node.figure("bridge", "ringway_devices_listed"), 1.0);
}

/// Runs the program below a limit of descriptors.
fn run_below(limits: &str, node: &Node) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = format!("{limits}; exec \"$0\" run --config \"$1\"");
    command.arg("-c").arg(script);
    command
        .arg(env!("CARGO_BIN_EXE_ringway"))
        .arg(node.config_path());
    command.stdin(Stdio::null());
    command
}

#[test]
fn more_connections_than_descriptors_are_an_error_before_anything_starts() {
    let node = Node::prepare(&QUIET.replace("[dispatcher]", "connections_max = 500\n[dispatcher]"));
    let output = run_below("ulimit -n 400", &node).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("sensor trackers: connections_max = 500 needs 564 descriptors, and a process may have 400"),
        "{said}"
    );
    assert!(!node.state_dir().join("journal.db").exists());
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_for_connections() {
    let node = Node::prepare(&QUIET.replace("[dispatcher]", "connections_max = 300\n[dispatcher]"));
    let mut child = run_below("ulimit -Sn 100", &node)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let state = node.state_dir();
    let report = wait_for("the node to be ready", || {
        let report = ringway::cli::status::ask(&state).ok();
        report.filter(|report| report.state == "ready")
    });
    let address = &report.listeners["sensor:trackers"];
    let mut devices: Vec<Terminal> = (0..200)
        .map(|number| Terminal::connect(address, KNOWN + number))
        .collect();
    devices.iter_mut().for_each(Terminal::beat);
    child.kill().unwrap();
    child.wait().unwrap();
}
