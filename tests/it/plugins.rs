//! The plug-ins of docs/examples/plugins, run as a node runs them, while everything around them is killed.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringway::cli::status::ask;
use tempfile::TempDir;

use crate::mailbox::Mailbox;
use crate::mosquitto::Mosquitto;
use crate::node::{Node, wait_for};
use crate::terminal::now_s;
use crate::{example, web};

/// How often each of plug-in, ingest and supervisor is killed.
const ROUNDS: usize = 2;

/// Alarms that have to come between two kills, so that there is something to lose.
const ALARMS_BETWEEN: usize = 2;

/// The metres between two readings; a reading's number is in its latitude, since alarms carry no other words of a
/// device's own.
const STEP_DEG: f64 = 1e-5;

fn plugin(file: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/examples/plugins"
    ))
    .join(file)
}

/// Whether that program can be run; if not, it is said, past the test runner.
fn have(program: &str, argument: &str, test: &str) -> bool {
    let found = Command::new(program).arg(argument).output().is_ok();
    if !found {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: 1 test, {test}: {program} is not installed"
        );
    }
    found
}

/// A node with a plug-in and a broker.
struct World {
    _broker: Mosquitto,
    mailbox: Mailbox,
    node: Node,
    numbers: BTreeSet<u64>,
}

impl World {
    fn start(broker: Mosquitto, sensor: &str) -> World {
        let mailbox = Mailbox::open(broker.address(), "ringway/v1/+/+/alarm/#");
        let node = Node::start(&format!(
            "{sensor}\n[dispatcher]\nlisten = \"127.0.0.1:0\"\n[observer]\nlisten = \"127.0.0.1:0\"\n\
             [uplink]\nbroker = \"{}\"\n",
            broker.url()
        ));
        World {
            _broker: broker,
            mailbox,
            node,
            numbers: BTreeSet::new(),
        }
    }

    /// Notes which readings have come as alarms by now.
    fn look(&mut self) {
        for letter in self.mailbox.empty() {
            let lat = letter.payload["lat"].as_f64().unwrap();
            self.numbers
                .insert(((lat - 48.0) / STEP_DEG).round() as u64);
        }
    }

    fn await_more(&mut self) {
        let before = self.numbers.len();
        wait_for("more alarms", || {
            self.look();
            (self.numbers.len() >= before + ALARMS_BETWEEN).then_some(())
        });
    }

    fn await_all(&mut self, expected: impl IntoIterator<Item = u64>) {
        for number in expected {
            wait_for(&format!("the alarm of reading {number}"), || {
                self.look();
                self.numbers.contains(&number).then_some(())
            });
        }
    }

    /// Kills plug-in, ingest and supervisor in turn, while alarms come.
    fn kill_in_turn(&mut self) {
        for _ in 0..ROUNDS {
            self.await_more();
            kill_program(&self.node);
            self.await_more();
            assert!(self.node.signal("ingest", Signal::SIGKILL));
            self.await_more();
            self.node.signal_supervisor(Signal::SIGKILL);
            self.node.ended();
            self.node.launch();
            self.node.ready();
        }
        self.await_more();
    }
}

fn kill_program(node: &Node) {
    let pid = wait_for("the program to run", || {
        let report = ask(&node.state_dir()).ok()?;
        report.programs.first()?.pid
    });
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

#[test]
fn the_plug_in_in_python_loses_nothing_whoever_is_killed() {
    let test = "the plug-in in Python loses nothing";
    if !have("python3", "--version", test) {
        return;
    }
    let Some(broker) = Mosquitto::running(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let fast = "environment = { EVERY_S = \"0.02\", PATIENCE_S = \"1\" }";
    let path = plugin("reader.py");
    let sensor = example::of(
        "exec",
        &[
            ("./reader.py", path.to_str().unwrap()),
            (
                "directory = \".\"",
                &format!("directory = {:?}", folder.path()),
            ),
            ("environment = { EVERY_S = \"1\" }", fast),
        ],
    );
    let mut world = World::start(broker, &sensor);
    world.kill_in_turn();
    let last = *world.numbers.last().unwrap();
    // Each tenth reading has an alarm, and readings are numbered without a gap.
    world.await_all((10..=last).step_by(10));
    assert!(world.numbers.iter().all(|number| number % 10 == 0));
    // What is safe is forgotten.
    let queue = folder.path().join("queue.db");
    wait_for("the queue to forget", || {
        let queue = rusqlite::Connection::open(&queue).ok()?;
        let count = "SELECT COUNT(*) FROM queue WHERE id <= ?1";
        let kept: u64 = queue.query_row(count, [last], |row| row.get(0)).ok()?;
        (kept == 0).then_some(())
    });
    assert_eq!(
        world.node.terminate().code(),
        Some(0),
        "{}",
        world.node.log()
    );
}

/// The program in that file, built.
fn built(folder: &TempDir) -> PathBuf {
    let program = folder.path().join("reader");
    let output = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(plugin("reader.go"))
        // A file of its own, not of whatever module lies above.
        .current_dir(folder.path())
        .env("GOTOOLCHAIN", "local")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    program
}

#[test]
fn the_plug_in_in_go_loses_nothing_whoever_is_killed() {
    let test = "the plug-in in Go loses nothing";
    if !have("go", "version", test) {
        return;
    }
    let Some(broker) = Mosquitto::running(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let program = built(&folder);
    let readings = folder.path().join("readings.csv");
    std::fs::write(&readings, "").unwrap();
    let sensor = format!(
        "[[sensor]]\nname = \"readings\"\ninput = \"exec\"\nprotocol = \"json\"\nanswers = true\n\
         command = [{program:?}, {readings:?}]\n"
    );
    // Whoever writes the file, in pieces as they come, each tenth line with an alarm.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::File::options()
            .append(true)
            .open(readings)
            .unwrap();
        let began_ms = u64::from(now_s()) * 1_000;
        let mut number = 0;
        while stopped.recv_timeout(Duration::from_millis(20)).is_err() {
            number += 1;
            let alarm = if number % 10 == 0 { "sos" } else { "" };
            let (time_ms, lat) = (began_ms + number * 20, 48.0 + number as f64 * STEP_DEG);
            let line = format!("{time_ms},bus-18,{lat:.7},11.5,{alarm}\n");
            let (first, second) = line.split_at(line.len() / 2);
            file.write_all(first.as_bytes()).unwrap();
            file.write_all(second.as_bytes()).unwrap();
        }
        number
    });
    let mut world = World::start(broker, &sensor);
    world.kill_in_turn();
    stop.send(()).unwrap();
    let last = writer.join().unwrap();
    world.await_all((10..=last).step_by(10));
    assert!(world.numbers.iter().all(|number| number % 10 == 0));
    // All of the file is safe in the end, and the plug-in knows.
    let size = std::fs::metadata(folder.path().join("readings.csv"))
        .unwrap()
        .len();
    let safe = folder.path().join("readings.csv.safe");
    wait_for("the whole file to be safe", || {
        let text = std::fs::read_to_string(&safe).ok()?;
        (text.trim() == size.to_string()).then_some(())
    });
    assert_eq!(
        world.node.terminate().code(),
        Some(0),
        "{}",
        world.node.log()
    );
}

#[test]
fn the_one_liner_of_the_read_me_is_a_plug_in() {
    let text = std::fs::read_to_string(plugin("README.md")).unwrap();
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let sensor = rest.split("```").next().unwrap();
    let node = Node::start(&format!(
        "{sensor}\n[dispatcher]\nlisten = \"127.0.0.1:0\"\n[observer]\nlisten = \"127.0.0.1:0\"\n"
    ));
    wait_for("its device on the map", || {
        let tracks = web::get_json(&node.address("dispatcher"), "/v1/tracks");
        let tracks = tracks["features"].as_array()?.clone();
        let mut devices = tracks.iter().map(|track| &track["properties"]["device"]);
        devices.any(|device| device == "mast-1").then_some(())
    });
}
