//! Programs as feeds: what they are given, how they are ended and started again, and that bad ones harm nobody.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use ringway::cli::status::ask;
use ringway::supervisor::report::ProgramReport;
use tempfile::TempDir;

use crate::node::{Node, wait_for};
use crate::web;

const SERVERS: &str = r#"
[dispatcher]
listen = "127.0.0.1:0"

[observer]
listen = "127.0.0.1:0"
"#;

/// Position sentences, a second apart, from a gps receiver: a moment of the past.
const POSITIONS: &str = "\
$GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*57\r
$GPRMC,083600.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*5B\r
";

/// A sensor with this command and these further keys.
fn sensor(command: &[&str], keys: &str) -> String {
    format!(
        "[[sensor]]\nname = \"plug\"\ninput = \"exec\"\nprotocol = \"nmea\"\ndevice = \"plug-1\"\n\
         command = {command:?}\n{keys}\n{SERVERS}"
    )
}

/// A shell script as the command.
fn script(script: &str) -> String {
    sensor(&["sh", "-c", script], "")
}

/// A folder that every user may look into.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    folder
}

/// A file with two positions in it.
fn positions(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("positions.nmea");
    std::fs::write(&path, POSITIONS).unwrap();
    path
}

fn program(node: &Node) -> Option<ProgramReport> {
    let report = ask(&node.state_dir()).ok()?;
    report.programs.into_iter().next()
}

/// Process id of the program, once it is past the launcher.
fn running(node: &Node) -> i32 {
    wait_for("the program to run", || {
        let pid = program(node)?.pid?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let launched = !line.is_empty() && !line.starts_with(b"ringway");
        launched.then_some(pid as i32)
    })
}

/// The program's process id after it was started again `restarts` times or more.
fn restarted(node: &Node, restarts: u32) -> ProgramReport {
    wait_for(&format!("restart {restarts}"), || {
        program(node).filter(|program| program.restarts >= restarts)
    })
}

/// Whether a process runs; a zombie does not.
fn alive(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn gone(what: &str, pid: i32) {
    wait_for(&format!("{what} to be gone"), || {
        (!alive(pid)).then_some(())
    });
}

fn await_log(node: &Node, text: &str) {
    wait_for(&format!("{text:?} in the log"), || {
        node.log().contains(text).then_some(())
    });
}

/// Words of a file in which a script wrote a number.
fn number_in(path: &Path) -> i32 {
    wait_for("a number in a file", || {
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

/// A line of `/proc/PID/status`.
fn status(pid: i32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key} in {text}"))
        .trim_matches([':', ' ', '\t'])
        .to_owned()
}

/// What each descriptor of a process is, by number.
fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut found: Vec<(i32, String)> = listed
        .map(|entry| {
            let path = entry.unwrap().path();
            let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let target = std::fs::read_link(&path).unwrap();
            (number, target.display().to_string())
        })
        .collect();
    found.sort();
    found
}

fn shown(node: &Node) -> bool {
    let tracks = web::get_json(&node.address("dispatcher"), "/v1/tracks");
    let mut tracks = tracks["features"].as_array().unwrap().iter();
    tracks.any(|track| track["properties"]["device"] == "plug-1")
}

#[test]
fn a_program_gets_its_arguments_directory_and_environment_and_no_shell_reads_them() {
    let folder = folder();
    let arguments = ["a b", "", "$HOME", "\"quoted\" * ünï", "-x", "--"];
    let command = [&["sh", "-c", "sleep 1000; :"][..], &arguments].concat();
    let keys = format!(
        "directory = {:?}\nenvironment = {{ TOKEN = \"two words\", LD_BIND_NOW = \"1\" }}\n",
        folder.path()
    );
    let node = Node::start(&sensor(&command, &keys));
    let pid = running(&node);
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let words: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
    assert_eq!(words, command);
    let stands = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(stands, folder.path().canonicalize().unwrap());
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let mut environment: Vec<&str> = environment.trim_end_matches('\0').split('\0').collect();
    environment.sort_unstable();
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    let expected = [
        "LD_BIND_NOW=1",
        path.as_str(),
        "RINGWAY_PROTOCOL=nmea",
        "RINGWAY_SENSOR=plug",
        "TOKEN=two words",
    ];
    assert_eq!(environment, expected);
}

/// The node is started as a careless parent would: with a file left open and signals ignored.
#[test]
fn a_program_has_three_descriptors_a_session_of_its_own_and_signals_as_usual() {
    let folder = folder();
    let left_open = positions(&folder);
    for (answers, input) in [(false, "/dev/null"), (true, "pipe:")] {
        let keys = format!("answers = {answers}\n");
        let mut node = Node::prepare(&sensor(&["sleep", "1000"], &keys));
        let mut careless = Command::new("bash");
        careless.arg("-c").arg(format!(
            "trap '' QUIT USR2 TSTP RTMIN+3; exec 7<{left_open:?}; exec {:?} \"$@\"",
            env!("CARGO_BIN_EXE_ringway")
        ));
        careless.arg("bash");
        node.launch_by(careless);
        node.ready();
        let pid = running(&node);
        let found = descriptors(pid);
        let numbers: Vec<i32> = found.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2], "{found:?}");
        assert!(found[0].1.starts_with(input), "{found:?}");
        assert!(found[1].1.starts_with("pipe:") && found[2].1.starts_with("pipe:"));
        assert_ne!(found[1], found[2]);
        for process in node.report().processes {
            let has = descriptors(process.pid.unwrap() as i32);
            let has = has
                .iter()
                .filter(|(_, what)| found[1..].iter().any(|(_, own)| own == what));
            // Its two outputs are read by its ingest and by nobody else; the supervisor keeps them for the next one.
            let expected = if process.role == "ingest" { 2 } else { 0 };
            assert_eq!(has.count(), expected, "{}", process.role);
        }
        for (number, _) in found {
            let flags = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
            let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            assert_eq!(flags & 0o4000, 0, "descriptor {number} would not block");
        }
        assert_eq!(status(pid, "SigBlk"), "0".repeat(16));
        let ignored = u64::from_str_radix(&status(pid, "SigIgn"), 16).unwrap();
        // But for 32 and 33, which the C library keeps for itself and lets nobody set.
        assert_eq!(ignored & !(0b11 << 31), 0, "{ignored:x}");
        assert_eq!(status(pid, "NoNewPrivs"), "1");
        assert_eq!(status(pid, "Umask"), "0022");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
        // State, parent, group, session, after the blank behind the name.
        let own = pid.to_string();
        assert_eq!(fields[2..5], [&node.pid().to_string(), &own, &own]);
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core"));
        let core: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(core[4..6], ["0", "0"]);
    }
}

#[test]
fn a_program_runs_as_the_user_and_group_that_it_is_given_and_can_do_no_more() {
    if !Uid::effective().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: 1 test, a program runs as another user: not root"
        );
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let daemon = nix::unistd::Group::from_name("daemon").unwrap().unwrap();
    for (keys, uid, gid) in [
        ("user = \"nobody\"\n", nobody.uid.as_raw(), nobody.gid),
        (
            "user = \"nobody\"\ngroup = \"daemon\"\n",
            nobody.uid.as_raw(),
            daemon.gid,
        ),
        ("group = \"daemon\"\n", 0, daemon.gid),
    ] {
        let mut node = Node::start(&sensor(&["sleep", "1000"], keys));
        let pid = running(&node);
        let four = |id: u32| {
            [
                id.to_string(),
                id.to_string(),
                id.to_string(),
                id.to_string(),
            ]
        };
        let ids = |key| {
            status(pid, key)
                .split_whitespace()
                .map(String::from)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids("Uid"), four(uid), "{keys}");
        assert_eq!(ids("Gid"), four(gid.as_raw()), "{keys}");
        let groups = ids("Groups");
        let own = [gid.as_raw().to_string()];
        assert!(groups.is_empty() || groups == own, "{keys}: {groups:?}");
        if uid != 0 {
            assert_eq!(status(pid, "CapEff"), "0".repeat(16));
        }
        // Its kind does not protect it from its end.
        assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
        assert!(!alive(pid));
    }
}

/// A library that the environment names is loaded by the program, which is nobody, and not by the launcher, which is root.
#[test]
fn what_a_programs_environment_loads_is_not_loaded_by_the_launcher() {
    let folder = folder();
    let trace = folder.path().join("trace");
    // The dynamic linker writes what it loads to this file and the process id; of `sleep` alone if all is well.
    let keys = format!("environment = {{ LD_DEBUG = \"files\", LD_DEBUG_OUTPUT = {trace:?} }}\n");
    let node = Node::start(&sensor(&["sleep", "1000"], &keys));
    let pid = running(&node);
    let written = folder.path().join(format!("trace.{pid}"));
    let text = wait_for("what the program loads", || {
        let text = std::fs::read_to_string(&written).ok()?;
        text.contains("transferring control: sleep").then_some(text)
    });
    assert_eq!(text.matches("transferring control: ").count(), 1, "{text}");
}

/// A service manager may have given us a capability for our ports.
#[test]
fn capabilities_of_ours_do_not_reach_a_program() {
    if !Uid::effective().is_root() || Command::new("setpriv").arg("--help").output().is_err() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: 1 test, capabilities do not reach a program: not root, or no setpriv"
        );
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let mut node = Node::prepare(&sensor(&["sleep", "1000"], ""));
    let folder = node.config_path().parent().unwrap().to_owned();
    std::os::unix::fs::chown(folder, Some(nobody.uid.as_raw()), None).unwrap();
    let mut service = Command::new("setpriv");
    service.args(["--reuid", "nobody", "--clear-groups"]);
    service.args(["--inh-caps", "+net_bind_service"]);
    service.args(["--ambient-caps", "+net_bind_service"]);
    service.arg(env!("CARGO_BIN_EXE_ringway"));
    node.launch_by(service);
    node.ready();
    let none = "0".repeat(16);
    assert_ne!(status(node.pid(), "CapAmb"), none);
    let pid = running(&node);
    for set in ["CapAmb", "CapEff", "CapPrm"] {
        assert_eq!(status(pid, set), none, "{set}");
    }
}

#[test]
fn another_user_is_for_root_to_give() {
    let node = Node::prepare(&sensor(&["true"], "user = \"root\"\n"));
    let folder = node.config_path().parent().unwrap().to_owned();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_ringway"));
    check.arg("check").arg("--config").arg(node.config_path());
    if Uid::effective().is_root() {
        assert!(check.status().unwrap().success());
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        check.uid(nobody.uid.as_raw());
    }
    let output = check.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(78), "{error}");
    assert!(error.contains("only root can give it"), "{error}");
}

#[test]
fn what_cannot_be_run_is_a_wrong_configuration() {
    let folder = folder();
    let plain = positions(&folder);
    let there = "command = [\"true\"]";
    let cases = [
        ("command = []".to_owned(), "command names no program"),
        ("command = [\"\"]".to_owned(), "command names no program"),
        (
            "command = [\"no-such-program\"]".into(),
            "it is in none of /",
        ),
        ("command = [\"./no-such-program\"]".into(), "no such file"),
        (format!("command = [{plain:?}]"), "not executable"),
        ("command = [\"/\"]".into(), "not a file"),
        (format!("{there}\ndirectory = \"nowhere\""), "no such file"),
        (format!("{there}\ndirectory = {plain:?}"), "not a folder"),
        (
            format!("{there}\nuser = \"no-such-user\""),
            "there is no such user",
        ),
        (
            format!("{there}\ngroup = \"no-such\""),
            "there is no such group",
        ),
        (
            format!("{there}\nenvironment = {{ RINGWAY_SENSOR = \"x\" }}"),
            "set by ringway itself",
        ),
        (
            format!("{there}\nenvironment = {{ \"A=B\" = \"x\" }}"),
            "not a variable",
        ),
    ];
    for (keys, said) in cases {
        let text = sensor(&["true"], "").replace("command = [\"true\"]", &keys);
        let node = Node::prepare(&text);
        let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
            .arg("check")
            .arg("--config")
            .arg(node.config_path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(78), "{keys}: {error}");
        assert!(
            error.contains(said) && error.contains("edge.toml:"),
            "{keys}: {error}"
        );
    }
}

#[test]
fn what_a_program_says_is_in_the_log_under_its_sensor_also_its_last_words() {
    let node = Node::start(&script(
        "printf 'one\\ntwo \\033[2J\\rthree\\n' >&2; printf 'no end' >&2; exec >&-; sleep 0.2; echo after >&2; sleep 1000",
    ));
    for said in ["one", "two \\u{1b}[2J\\rthree", "no endafter"] {
        await_log(&node, &format!("program: {said}"));
    }
    let log = node.log();
    let line = log.lines().find(|line| line.contains("program: one"));
    assert!(line.unwrap().contains("plug"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_program_that_ends_is_started_again_later_and_later_and_its_end_is_said() {
    let node = Node::start(&script("echo dying >&2; exit 3"));
    restarted(&node, 3);
    for pause in ["250ms", "500ms", "1s"] {
        await_log(&node, &format!("starting again in {pause}"));
    }
    let report = program(&node).unwrap();
    assert_eq!(report.last_exit.as_deref(), Some("exit code 3"));
    let mut output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["status", "--config"])
        .arg(node.config_path())
        .output()
        .unwrap();
    let shown = String::from_utf8(std::mem::take(&mut output.stdout)).unwrap();
    let row = shown
        .lines()
        .skip_while(|line| !line.starts_with("program of"));
    let row = row.skip(1).find(|line| line.starts_with("plug"));
    assert!(
        row.is_some_and(|row| row.ends_with("exit code 3")),
        "{shown}"
    );
    assert!(node.log().matches("program: dying").count() >= 3);
}

/// One line and out is a failure, too: it was started again at once, as fast as the machine could.
#[test]
fn a_program_that_says_something_sound_and_ends_is_not_started_in_a_circle() {
    let folder = folder();
    let positions = positions(&folder);
    let node = Node::start(&script(&format!("cat {positions:?}")));
    wait_for("its positions", || shown(&node).then_some(()));
    restarted(&node, 2);
    await_log(&node, "starting again in 500ms");
}

#[test]
fn a_program_that_ends_after_a_sound_run_is_started_again_at_once() {
    let folder = folder();
    let positions = positions(&folder);
    let node = Node::start(&script(&format!("cat {positions:?}; sleep 5.2")));
    restarted(&node, 1);
    await_log(&node, "starting again at once");
}

#[test]
fn a_program_that_vanishes_is_waited_for_and_started_when_it_is_back() {
    let folder = folder();
    let path = folder.path().join("reader");
    let write = || {
        std::fs::write(&path, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write();
    let node = Node::start(&sensor(&[path.to_str().unwrap()], ""));
    let pid = running(&node);
    std::fs::remove_file(&path).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    await_log(&node, "program ended with signal 9");
    await_log(
        &node,
        &format!("program: cannot run {}: No such file", path.display()),
    );
    await_log(&node, "program ended with exit code 127");
    write();
    assert_ne!(running(&node), pid);
}

#[test]
fn what_a_program_started_ends_with_it_and_does_not_hold_its_output() {
    let folder = folder();
    let child = folder.path().join("child");
    let node = Node::start(&script(&format!("sleep 1000 & echo $! > {child:?}; wait")));
    let pid = running(&node);
    let grandchild = number_in(&child);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    restarted(&node, 1);
    gone("what it started", grandchild);
}

/// What has left the group is not killed; it must not hold up the sensor for ever.
#[test]
fn output_that_a_stranger_holds_open_is_given_up_in_the_end() {
    let folder = folder();
    let child = folder.path().join("child");
    // One only, however often it is started.
    let node = Node::start(&script(&format!(
        "[ -e {child:?} ] || setsid sh -c 'echo $$ > {}; exec sleep 1000' &
         while [ ! -s {child:?} ]; do sleep 0.05; done",
        child.display()
    )));
    let stranger = number_in(&child);
    restarted(&node, 1);
    await_log(&node, "holds its output; not read any more");
    assert!(alive(stranger));
    kill(Pid::from_raw(stranger), Signal::SIGKILL).unwrap();
}

#[test]
fn a_program_that_closes_its_output_and_runs_on_is_ended_and_started_again() {
    let node = Node::start(&script(
        "exec >&-; trap 'exit 7' TERM; while :; do sleep 0.05; done",
    ));
    let report = restarted(&node, 1);
    assert_eq!(report.last_exit.as_deref(), Some("exit code 7"));
    let stubborn = Node::start(&script(
        "exec >&-; trap '' TERM; while :; do sleep 0.05; done",
    ));
    let report = restarted(&stubborn, 1);
    assert_eq!(report.last_exit.as_deref(), Some("signal 9"));
}

#[test]
fn a_program_that_writes_rubbish_is_ended_and_started_again_with_a_pause() {
    let node = Node::start(&script("while :; do echo rubbish; done"));
    restarted(&node, 2);
    await_log(&node, "program is ended: Unreadable");
    await_log(&node, "starting again in 500ms");
}

#[test]
fn a_drain_asks_a_program_to_end_and_takes_in_its_last_words() {
    let folder = folder();
    let positions = positions(&folder);
    let ready = folder.path().join("ready");
    let mut node = Node::start(&script(&format!(
        "trap 'sleep 0.3; cat {positions:?}; echo good night >&2; exit 0' TERM
         echo 1 > {ready:?}; while :; do sleep 0.05; done"
    )));
    number_in(&ready);
    assert!(!shown(&node));
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let log = node.log();
    assert!(log.contains("program: good night"), "{log}");
    assert!(log.contains("program ended with exit code 0"), "{log}");
    // What it said is in the states that the next run starts with.
    node.launch();
    node.ready();
    wait_for("its last words on the map", || shown(&node).then_some(()));
}

/// One that closed its output when it was asked to end, and was still tidying up, was asked once more, which many
/// programs take for "at once", and got half a second longer than a drain has.
#[test]
fn a_drain_asks_a_program_once() {
    let folder = folder();
    let ready = folder.path().join("ready");
    let mut node = Node::start(&script(&format!(
        "trap 'echo asked >&2; exec 1>&-' TERM
         echo 1 > {ready:?}; while :; do sleep 0.05; done"
    )));
    number_in(&ready);
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let log = node.log();
    assert_eq!(log.matches("program: asked").count(), 1, "{log}");
    assert!(log.contains("did not end within 1s: killed"), "{log}");
}

#[test]
fn a_program_that_does_not_end_is_killed_in_a_drain_and_so_is_what_it_started() {
    let folder = folder();
    let child = folder.path().join("child");
    let mut node = Node::start(&script(&format!(
        "trap '' TERM; sh -c \"trap '' TERM; echo \\$\\$ > {}; while :; do sleep 0.05; done\" &
         while :; do sleep 0.05; done",
        child.display()
    )));
    let pid = running(&node);
    let grandchild = number_in(&child);
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    assert!(node.log().contains("did not end within 1s: killed"));
    assert!(!alive(pid) && !alive(grandchild));
}

/// A dead program reads no answers: the wait for what is not safe yet, up to a minute, was one before its restart.
#[test]
fn a_program_is_started_again_though_nobody_says_what_became_of_its_lines() {
    let line = r#"{"device":"bus-1","id":1,"lat":48.1,"lon":11.5,"alarms":["sos"]}"#;
    let text = sensor(
        &["sh", "-c", &format!("echo '{line}'; sleep 0.2; exit 1")],
        "answers = true\n",
    );
    let node = Node::start(&text.replace("protocol = \"nmea\"", "protocol = \"json\""));
    assert!(node.signal("uplink", Signal::SIGSTOP));
    let before = program(&node).unwrap().restarts;
    restarted(&node, before + 3);
    assert!(node.signal("uplink", Signal::SIGCONT));
}

#[test]
fn a_second_term_ends_a_program_at_once() {
    let mut node = Node::start(&script("trap '' TERM; while :; do sleep 0.05; done"));
    let pid = running(&node);
    node.signal_supervisor(Signal::SIGTERM);
    await_log(&node, "draining on TERM");
    node.signal_supervisor(Signal::SIGTERM);
    assert_eq!(node.ended().code(), Some(75), "{}", node.log());
    gone("the program", pid);
}

#[test]
fn a_program_does_not_outlive_a_killed_supervisor() {
    let mut node = Node::start(&sensor(&["sleep", "1000"], ""));
    let pid = running(&node);
    node.signal_supervisor(Signal::SIGKILL);
    node.ended();
    gone("the program", pid);
}

#[test]
fn restarts_of_a_program_leave_no_zombie_and_no_descriptor_behind() {
    let node = Node::start(&script("exec sleep 1000"));
    let supervisor = node.pid();
    let ingest = node.process("ingest").unwrap().pid.unwrap() as i32;
    let count = || {
        // Once the ingest has the new feed, it has given up the old one.
        (descriptors(supervisor).len(), descriptors(ingest).len())
    };
    let mut before = None;
    for round in 1..6 {
        kill(Pid::from_raw(running(&node)), Signal::SIGKILL).unwrap();
        restarted(&node, round);
        running(&node);
        match before {
            None => before = Some(wait_settled(count)),
            Some(before) => {
                wait_for(&format!("{before:?} descriptors"), || {
                    (count() == before).then_some(())
                });
            }
        }
    }
    let zombies = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("stat")).ok())
        .filter(|stat| stat.contains(&format!(") Z {supervisor} ")))
        .count();
    assert_eq!(zombies, 0);
}

/// A value that stays the same for ten looks.
fn wait_settled<T: PartialEq>(value: impl Fn() -> T) -> T {
    let mut last = value();
    let mut same = 0;
    wait_for("a value that stays", || {
        let now = value();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same == 10).then_some(())
    });
    last
}

#[test]
fn a_flood_on_standard_error_is_cut_and_counted_and_holds_up_no_position() {
    let folder = folder();
    let positions = positions(&folder);
    let node = Node::start(&script(&format!(
        "yes 'all is well' >&2 & while :; do cat {positions:?}; sleep 0.1; done"
    )));
    node.await_figure("plug", "ringway_messages_total", 100.0);
    await_log(&node, "lines left out)");
    let log = node.log();
    // Three windows of a hundred lines are more than this test lasts.
    assert!(log.matches("all is well").count() <= 400, "{}", log.len());
    assert_eq!(program(&node).unwrap().restarts, 0);
}

#[test]
fn a_program_that_never_ends_a_line_costs_no_memory() {
    let node = Node::start(&script(
        "head -c 100000000 /dev/zero | tr '\\0' x; head -c 100000000 /dev/zero | tr '\\0' x >&2; sleep 1000",
    ));
    let resident = || {
        let pid = node.process("ingest").unwrap().pid.unwrap() as i32;
        let text = status(pid, "VmHWM");
        text.trim_end_matches(" kB").trim().parse::<u64>().unwrap()
    };
    let before = resident();
    restarted(&node, 2);
    assert!(
        resident() < before + 4_096,
        "{before} then {} KiB",
        resident()
    );
}

#[test]
fn a_node_whose_program_fails_serves_all_others() {
    let other = "[[sensor]]\nname = \"trackers\"\ninput = \"tcp\"\nprotocol = \"jt808\"\nlisten = \"127.0.0.1:0\"\n";
    let node = Node::start(&format!("{other}{}", script("exit 1")));
    restarted(&node, 2);
    let mut terminal =
        crate::terminal::Terminal::connect(&node.address("sensor:trackers"), 13_900_000_001);
    let serial = terminal.send(&crate::terminal::report(crate::terminal::now_s()));
    terminal.await_answer(serial);
}

#[test]
fn the_launcher_does_not_run_for_anybody_but_its_supervisor() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["launch", "--parent=1", "--", "echo", "ran"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(126), "{said}");
    assert!(
        said.contains("the supervisor is gone") && output.stdout.is_empty(),
        "{said}"
    );
}
