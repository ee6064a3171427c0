//! `ringway demo` as a visitor runs it: the built program, the simulator beside it, and what the last line says.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::mailbox::Mailbox;
use crate::mosquitto::Mosquitto;
use crate::node::wait_for;
use crate::web;

const MEMBERS: [&str; 13] = [
    "devices",
    "frames_sent",
    "frames_answered",
    "tracks_pushed",
    "alarms_raised",
    "alarms_delivered",
    "lost",
    "invented",
    "duplicates",
    "latency_ms",
    "traces",
    "protocols",
    "ok",
];

/// The program, with the simulator beside it.
fn program() -> PathBuf {
    static SIMULATOR: Once = Once::new();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_ringway"));
    // A test of one package does not build the programs of another.
    SIMULATOR.call_once(|| {
        if !program.with_file_name("device-sim").is_file() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--locked", "--package", "device-sim"]);
            let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
            assert!(built.unwrap().success(), "device-sim does not build");
        }
    });
    program
}

/// A demo with a temporary folder of its own, by which its processes are known too.
struct Demo {
    folder: TempDir,
}

impl Demo {
    fn new() -> Demo {
        let folder = tempfile::tempdir().unwrap();
        Demo { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", self.folder.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Processes that have this folder in their environment.
    fn processes(&self) -> Vec<String> {
        let mark = format!("TMPDIR={}", self.folder.path().display());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let own = processes.filter(|process| {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            environment
                .split(|&byte| byte == 0)
                .any(|text| text == mark.as_bytes())
        });
        own.map(|process| command_line(&process.path())).collect()
    }

    /// Whether nothing of it is left.
    fn left_nothing(&self) {
        assert_eq!(self.processes(), [""; 0]);
        let left: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn command_line(process: &Path) -> String {
    let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// The last line of standard output, held against the documentation and against success.
fn verdict(output: &Output) -> Value {
    let (out, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{out}\n{said}");
    let verdict: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let members: BTreeSet<&str> = verdict
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(members, BTreeSet::from(MEMBERS));
    let latency = verdict["latency_ms"].as_object().unwrap();
    let measured: BTreeSet<&str> = latency.keys().map(String::as_str).collect();
    assert_eq!(measured, BTreeSet::from(["max", "p50", "p99"]));
    assert!(
        latency.values().all(|value| value.as_f64() > Some(0.0)),
        "{verdict}"
    );
    assert_eq!(verdict["ok"], true);
    for member in ["lost", "invented"] {
        assert_eq!(verdict[member], 0, "{verdict}");
    }
    for member in [
        "frames_answered",
        "tracks_pushed",
        "alarms_raised",
        "traces",
    ] {
        assert!(verdict[member].as_u64() > Some(0), "{verdict}");
    }
    assert_eq!(verdict["alarms_delivered"], verdict["alarms_raised"]);
    verdict
}

#[test]
fn a_demo_of_twenty_seconds_shows_every_alarm_and_says_so_in_its_last_line() {
    let demo = Demo::new();
    let arguments = ["--for", "20s", "--devices", "50", "--seed", "1", "--json"];
    let output = demo.command(&arguments).output().unwrap();
    let verdict = verdict(&output);
    assert_eq!(verdict["devices"], 50);
    demo.left_nothing();
}

#[test]
fn a_demo_of_all_protocols_sees_each_of_them_end_to_end() {
    let demo = Demo::new();
    // Seven by twenty: each protocol has a device for each part of the scenario.
    let arguments = ["--protocols", "all", "--devices", "140", "--for", "20s"];
    let mut command = demo.command(&arguments);
    let verdict = verdict(&command.args(["--seed", "1", "--json"]).output().unwrap());
    let protocols = verdict["protocols"].as_object().unwrap();
    let names: Vec<&String> = protocols.keys().collect();
    assert_eq!(
        names,
        [
            "gt06",
            "h02",
            "jt808",
            "nmea",
            "osmand",
            "teltonika",
            "teltonika-udp"
        ]
    );
    for (name, share) in protocols {
        let count = |member: &str| share[member].as_u64().unwrap();
        let sent = count("frames_sent");
        assert_eq!(count("devices"), 20, "{name}");
        assert!(sent > 0 && count("tracks_pushed") > 0, "{name}: {share}");
        assert!(count("alarms_raised") > 0, "{name}: {share}");
        assert_eq!(count("alarms_delivered"), count("alarms_raised"), "{name}");
        let answered = count("frames_answered");
        match name.as_str() {
            "h02" | "nmea" => assert_eq!(answered, 0, "{name} is not answered"),
            "gt06" => assert!((1..sent).contains(&answered), "alarms are: {share}"),
            _ => assert_eq!(answered, sent, "{name}"),
        }
    }
    demo.left_nothing();
}

#[test]
fn a_demo_of_fewer_devices_than_protocols_is_refused() {
    let demo = Demo::new();
    let arguments = ["--protocols", "h02,nmea", "--devices", "1"];
    let output = demo.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("cannot spread 1 devices over 2 protocols"),
        "{said}"
    );
    demo.left_nothing();
}

#[test]
fn a_demo_delivers_to_a_real_broker() {
    let Some(broker) = Mosquitto::running("a demo with a real broker") else {
        return;
    };
    let mailbox = Mailbox::open(broker.address(), "ringway/v1/demo/#");
    let demo = Demo::new();
    let url = broker.url();
    let arguments = [
        "--for",
        "8s",
        "--devices",
        "40",
        "--seed",
        "2",
        "--json",
        "--broker",
        &url,
    ];
    let verdict = verdict(&demo.command(&arguments).output().unwrap());
    let letters = mailbox.empty();
    let alarms: BTreeSet<&str> = letters
        .iter()
        .filter_map(|letter| letter.payload["id"].as_str())
        .collect();
    assert_eq!(
        alarms.len() as u64,
        verdict["alarms_delivered"].as_u64().unwrap()
    );
    demo.left_nothing();
}

/// Starts a demo without an end, and waits until something is wrong on its map; the rest of its output is returned with
/// it.
fn open_end(demo: &Demo) -> (Child, impl BufRead) {
    let mut child = demo
        .command(&["--devices", "20", "--seed", "3"])
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let map = line
        .trim()
        .strip_prefix("map")
        .and_then(|rest| rest.trim().strip_prefix("http://"));
    let map = map
        .and_then(|rest| rest.strip_suffix('/'))
        .unwrap_or_else(|| panic!("{line}"));
    wait_for("an alarm on the map", || {
        let open = web::get_json(map, "/v1/alarms");
        (!open["alarms"].as_array().unwrap().is_empty()).then_some(())
    });
    (child, out)
}

#[test]
fn ctrl_c_ends_a_demo_in_order_and_leaves_nothing() {
    let demo = Demo::new();
    let (mut child, mut out) = open_end(&demo);
    assert!(demo.processes().len() >= 8, "{:?}", demo.processes());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{rest}");
    assert!(rest.lines().any(|line| line.starts_with("ok")), "{rest}");
    demo.left_nothing();
}

#[test]
fn a_second_ctrl_c_ends_a_demo_at_once_and_leaves_no_process() {
    let demo = Demo::new();
    let (mut child, _out) = open_end(&demo);
    let stderr = child.stderr.take().unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    // It says that it heard the first before the second can count as one.
    let mut said = BufReader::new(stderr).lines().map_while(Result::ok);
    assert!(
        said.any(|line| line.contains("ending")),
        "it says nothing of the first"
    );
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    wait_for("the demo to end", || child.try_wait().unwrap());
    wait_for("all its processes to end", || {
        demo.processes().is_empty().then_some(())
    });
}
