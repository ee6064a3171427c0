//! The supervisor: what it refuses to start, what it starts again, and how it ends.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;

use crate::node::{Node, QUIET, wait_for};
use crate::terminal::{Terminal, now_s, report};

fn run(node: &Node) -> Output {
    let program = env!("CARGO_BIN_EXE_ringway");
    Command::new(program)
        .arg("run")
        .arg("--config")
        .arg(node.config_path())
        .output()
        .unwrap()
}

fn alive(pid: u32) -> bool {
    // A zombie has an empty command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn pids(node: &Node) -> Vec<u32> {
    node.report()
        .processes
        .iter()
        .filter_map(|process| process.pid)
        .collect()
}

#[test]
fn a_wrong_configuration_exits_78_names_file_and_line_and_starts_nothing() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let port = free.unwrap().to_string();
    let protocol = "protocol = \"jt808\"";
    // What is put in, where, and what must be said; the first line of `QUIET` is the fifth of the file.
    let cases = [
        (
            "wrong unit",
            protocol,
            format!("{protocol}\nidle = \"10 parsecs\""),
            10,
            "10 parsecs",
        ),
        (
            "unknown key",
            protocol,
            format!("{protocol}\nidel = \"10min\""),
            10,
            "idel",
        ),
        (
            "unknown value",
            protocol,
            "protocol = \"morse\"".into(),
            9,
            "morse",
        ),
        (
            "missing file",
            "[observer]",
            "roads = \"nowhere\"\n[observer]".into(),
            15,
            "nowhere",
        ),
        (
            "port used twice",
            "127.0.0.1:0",
            port.clone(),
            13,
            &port[..],
        ),
    ];
    for (what, place, with, line, said) in cases {
        let node = Node::prepare(&QUIET.replace(place, &with));
        let output = run(&node);
        let error = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(78), "{what}: {error}");
        let place = format!("edge.toml:{line}: ");
        assert!(
            error.contains(&place) && error.contains(said),
            "{what}: {error}"
        );
        assert!(!node.state_dir().exists(), "{what}");
    }
}

#[test]
fn a_port_in_use_exits_69_and_says_which() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let node = Node::prepare(&QUIET.replacen("127.0.0.1:0", &port, 1));
    let output = run(&node);
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(
        said.contains(&port) && said.contains("sensor:trackers"),
        "{said}"
    );
}

#[test]
fn a_role_started_by_hand_refuses() {
    let program = env!("CARGO_BIN_EXE_ringway");
    let output = Command::new(program)
        .arg("role")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("started by hand"), "{said}");
}

#[test]
fn a_second_node_on_the_same_state_directory_is_refused() {
    let node = Node::start(QUIET);
    let output = run(&node);
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("in use by another ringway"), "{said}");
}

#[test]
fn every_killed_role_is_started_again_and_the_sensor_refuses_nobody() {
    let node = Node::start(QUIET);
    let sensor = node.address("sensor:trackers");
    for role in ["ingest", "classifier", "dispatcher", "uplink", "observer"] {
        let before = node.process(role).unwrap();
        assert!(node.signal(role, Signal::SIGKILL), "{role} did not run");
        TcpStream::connect(&sensor).unwrap();
        wait_for(&format!("{role} to serve again"), || {
            node.process(role)
                .filter(|now| now.pid != before.pid && now.state == "ready")
        });
        let after = node.process(role).unwrap();
        assert_eq!(
            (after.restarts, after.last_exit.as_deref()),
            (1, Some("signal 9")),
            "{role}"
        );
    }
}

#[test]
fn term_and_int_drain_and_exit_0_and_leave_no_process() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut node = Node::start(QUIET);
        let children = pids(&node);
        assert_eq!(children.len(), 5);
        node.signal_supervisor(signal);
        assert_eq!(node.ended().code(), Some(0), "{signal}: {}", node.log());
        assert!(!children.iter().any(|&pid| alive(pid)), "{signal}");
    }
}

#[test]
fn a_second_term_ends_at_once_and_leaves_no_process() {
    let mut node = Node::start(QUIET);
    let children = pids(&node);
    // Nothing drains past an ingest that stands still.
    assert!(node.signal("ingest", Signal::SIGSTOP));
    node.signal_supervisor(Signal::SIGTERM);
    wait_for("the drain to begin", || {
        node.log().contains("draining on TERM").then_some(())
    });
    node.signal_supervisor(Signal::SIGTERM);
    assert_eq!(node.ended().code(), Some(75), "{}", node.log());
    assert!(!children.iter().any(|&pid| alive(pid)), "{}", node.log());
}

#[test]
fn children_of_a_killed_supervisor_end_and_a_new_one_takes_over() {
    let mut node = Node::start(QUIET);
    let children = pids(&node);
    node.signal_supervisor(Signal::SIGKILL);
    node.ended();
    node.launch();
    node.ready();
    assert!(!children.iter().any(|&pid| alive(pid)));
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
}

#[test]
fn a_restart_leaves_no_zombie_and_no_descriptor_behind() {
    let node = Node::start(QUIET);
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", node.pid()))
            .unwrap()
            .count()
    };
    let settled = |role: &str, restarts: u32| {
        wait_for("the role to serve again", || {
            node.process(role)
                .filter(|p| p.restarts == restarts && p.state == "ready")
        })
    };
    assert!(node.signal("ingest", Signal::SIGKILL));
    settled("ingest", 1);
    let before = descriptors();
    for round in 2..12 {
        assert!(node.signal("ingest", Signal::SIGKILL));
        settled("ingest", round);
    }
    assert_eq!(descriptors(), before);
    let zombies = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("stat")).ok())
        .filter(|stat| stat.contains(") Z "))
        .filter(|stat| {
            stat.split(") Z ")
                .nth(1)
                .is_some_and(|rest| rest.starts_with(&node.pid().to_string()))
        })
        .count();
    assert_eq!(zombies, 0);
}

#[test]
fn status_of_a_node_that_does_not_run_exits_69() {
    let node = Node::prepare(QUIET);
    let program = env!("CARGO_BIN_EXE_ringway");
    let output = Command::new(program)
        .arg("status")
        .arg("--config")
        .arg(node.config_path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(!Path::new(&node.state_dir()).exists());
}

#[test]
fn positions_go_on_without_a_journal() {
    let mut node = Node::prepare(QUIET);
    std::fs::create_dir(node.state_dir()).unwrap();
    // A folder in the place of the journal: it can neither be opened nor made.
    std::fs::create_dir(node.state_dir().join("journal.db")).unwrap();
    node.launch();
    wait_for("the classifier to serve", || {
        node.process("classifier")
            .filter(|process| process.state == "ready")
    });
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    let serial = terminal.send(&report(now_s()));
    terminal.await_answer(serial);
    assert_ne!(node.process("uplink").unwrap().state, "ready");
}

/// The log was redirected to a file whose disk filled up. The next line ended whoever wrote it.
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let mut node = Node::prepare(QUIET);
    let mut full = Command::new("sh");
    let ringway = env!("CARGO_BIN_EXE_ringway");
    full.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full", ringway]);
    node.launch_by(full);
    node.ready();
    node.signal_supervisor(Signal::SIGUSR1);
    assert_eq!(node.terminate().code(), Some(0));
}
