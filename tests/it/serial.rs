//! Serial lines, on pseudo-terminals: a link stands for the device's path, the other side for what hangs on the line.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use device_sim::jt808::{self, Answer, Edition, LOCATION, Reader};
use nix::sys::termios::{
    BaudRate, ControlFlags, InputFlags, LocalFlags, OutputFlags, cfgetospeed, tcgetattr,
};

use crate::example;
use crate::fed::{await_feed, await_shown, feed, pseudo_terminal, refused, sentence};
use crate::node::{DEADLINE, Node, QUIET, wait_for};
use crate::terminal::{now_s, report};

/// The other side of a line.
struct Line {
    /// Never blocks.
    wire: File,
    path: PathBuf,
}

impl Line {
    fn new() -> Line {
        let (wire, path) = pseudo_terminal();
        Line { wire, path }
    }

    /// Plugs it in at a node's `/dev`.
    fn plug_in(&self, node: &Node) {
        symlink(&self.path, link(node)).unwrap();
    }

    /// What it is set to: a pseudo-terminal has any rate, and tells both sides.
    fn rate(&self) -> BaudRate {
        cfgetospeed(&tcgetattr(&self.wire).unwrap())
    }

    /// Says it on a wire that drops what nobody takes.
    fn say(&mut self, bytes: &[u8]) {
        if let Err(error) = self.wire.write_all(bytes) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    }
}

fn link(node: &Node) -> PathBuf {
    node.config_path().with_file_name("line")
}

const PATH: &str = "/dev/serial/by-id/usb-u-blox_GNSS_receiver-if00";

/// The documented example, with its line beside the configuration.
fn config(changes: &[(&str, &str)]) -> String {
    let mut all = vec![(PATH, "line")];
    all.extend(changes);
    format!("{QUIET}{}", example::of("serial", &all))
}

/// Waits until the line was found to be missing.
fn await_missing(node: &Node) {
    wait_for("the first try to open it", || {
        let why = feed(node, "roof").why?;
        why.contains("cannot open").then_some(())
    });
}

/// Says sentences until the line is sound, from `second` on; returns the next one.
fn until_sound(node: &Node, line: &mut Line, mut second: u32) -> u32 {
    wait_for("the line to be sound", || {
        line.say(sentence(second).as_bytes());
        second += 1;
        (feed(node, "roof").state == "sound").then_some(second)
    })
}

#[test]
fn a_line_is_raw_and_answers_go_to_it() {
    let changes = [
        (
            "protocol = \"nmea\"\ndevice = \"roof-1\"",
            "protocol = \"jt808\"",
        ),
        ("baud = \"auto\"", "baud = 115200"),
    ];
    let mut node = Node::prepare(&config(&changes));
    let mut line = Line::new();
    line.plug_in(&node);
    node.launch();
    node.ready();
    await_feed(&node, "roof", "open");

    let settings = tcgetattr(&line.wire).unwrap();
    assert_eq!(cfgetospeed(&settings), BaudRate::B115200);
    let control = settings.control_flags;
    assert!(control.contains(ControlFlags::CS8 | ControlFlags::CLOCAL | ControlFlags::CREAD));
    let parity_or_more = ControlFlags::PARENB | ControlFlags::CSTOPB | ControlFlags::CRTSCTS;
    assert!(!control.intersects(parity_or_more), "{control:?}");
    let echo = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
    assert!(!settings.local_flags.intersects(echo));
    assert!(!settings.output_flags.contains(OutputFlags::OPOST));
    let changed = InputFlags::ICRNL | InputFlags::INLCR | InputFlags::IXON | InputFlags::ISTRIP;
    assert!(!settings.input_flags.intersects(changed));

    // Serial numbers that are a terminal's control characters go through, among them interrupt, end, stop and go on.
    let speaker = jt808::Terminal {
        edition: Edition::Y2013,
        phone: 13_900_000_031,
    };
    let mut reader = Reader::default();
    for serial in 1..=31 {
        let (mut body, mut wire) = (Vec::new(), Vec::new());
        jt808::location(&report(now_s()), &mut body);
        speaker.message(&mut wire, LOCATION, serial, &body);
        line.say(&wire);
        let mut bytes = [0; 1024];
        wait_for(&format!("answer {serial}"), || {
            let count = line.wire.read(&mut bytes).unwrap_or(0);
            let mut found = None;
            let read = reader.read(&bytes[..count], |answer| {
                if matches!(answer, Answer::General { serial: to, result: 0, .. } if to == serial) {
                    found = Some(());
                }
            });
            read.expect("answers go out as they are, and are not echoed");
            found
        });
    }
}

/// What a line at another rate gives: any bytes. Seeded.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut random = || {
            // xorshift64 (Marsaglia 2003).
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 24) as u8
        };
        (0..count).map(|_| random()).collect()
    }
}

#[test]
fn the_rate_is_found_kept_and_said() {
    let seed = 0x5eed_0e01;
    println!("seed {seed:#x}");
    let mut node = Node::prepare(&config(&[]));
    let mut line = Line::new();
    line.plug_in(&node);
    node.launch();
    node.ready();
    await_feed(&node, "roof", "open");
    let right = BaudRate::B38400;
    let mut noise = Noise(seed);
    let mut second = 0;
    let mut speak = |line: &mut Line| {
        if line.rate() == right {
            line.say(sentence(second).as_bytes());
            second += 1;
        } else {
            let garbled = noise.bytes(sentence(second).len());
            line.say(&garbled);
        }
    };
    let sound = wait_for("the rate", || {
        speak(&mut line);
        Some(feed(&node, "roof")).filter(|feed| feed.state == "sound")
    });
    assert_eq!(sound.baud, Some(38_400));
    // 9600 and 115200 come before it in the list.
    assert_eq!(sound.opened, 3);
    let unreadable = "ringway_feeds_ended_total{reason=\"unreadable\"}";
    assert_eq!(node.figure("roof", unreadable), 2.0);
    wait_for("its position", || {
        speak(&mut line);
        crate::fed::track(&node, "roof-1")
    });
    let said = "its line is sound at 38400 baud";
    assert!(node.log().contains(said), "{}", node.log());

    // Kept over an unplugging.
    std::fs::remove_file(link(&node)).unwrap();
    drop(line);
    await_missing(&node);
    let mut line = Line::new();
    line.plug_in(&node);
    let again = wait_for("the line to be sound again", || {
        speak(&mut line);
        Some(feed(&node, "roof")).filter(|feed| feed.state == "sound")
    });
    assert_eq!((again.baud, again.opened), (Some(38_400), 4));
    let status = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["status", "--config"])
        .arg(node.config_path())
        .output()
        .unwrap();
    let shown = String::from_utf8(status.stdout).unwrap();
    let line = shown
        .lines()
        .find(|line| line.starts_with("roof (serial at 38400 baud)"));
    let line = line.unwrap_or_else(|| panic!("{shown}"));
    assert!(
        line.contains(" sound ") && line.contains("cannot open"),
        "{line}"
    );
}

#[test]
fn an_unplugged_line_is_waited_for_and_said_once() {
    // The node starts without it.
    let node = Node::start(&config(&[]));
    let waiting = await_feed(&node, "roof", "waiting");
    let why = waiting.why.unwrap();
    assert!(
        why.contains("/line: ") && why.contains("No such file"),
        "{why}"
    );

    let mut line = Line::new();
    line.plug_in(&node);
    let second = until_sound(&node, &mut line, 0);
    line.say(&sentence(second).as_bytes()[..30]);
    let bytes = (0..second)
        .map(|second| sentence(second).len())
        .sum::<usize>()
        + 30;
    // Some were said before it was open.
    assert!(node.figure("roof", "ringway_received_bytes_total") <= bytes as f64);
    let received = |node: &Node| node.figure("roof", "ringway_received_bytes_total");
    let settled = received(&node);
    wait_for("the half message", || {
        line.say(b"1");
        (received(&node) > settled).then_some(())
    });
    std::fs::remove_file(link(&node)).unwrap();
    drop(line);
    await_feed(&node, "roof", "waiting");
    await_missing(&node);
    assert_eq!(refused(&node, "roof", "incomplete"), 1.0);
    assert_eq!(node.figure("roof", "ringway_feed_open"), 0.0);

    let mut line = Line::new();
    line.plug_in(&node);
    let second = until_sound(&node, &mut line, second + 1);
    line.say(sentence(second).as_bytes());
    await_shown(&node, "roof-1", second);
    let report = node.report();
    let restarts: u32 = report
        .processes
        .iter()
        .map(|process| process.restarts)
        .sum();
    assert_eq!(restarts, 0);
    let log = node.log();
    let said = |what: &str| log.matches(what).count();
    // Missing at the start, unplugged, and missing after that.
    assert_eq!(said("cannot open serial line"), 2, "{log}");
    assert_eq!(said("has ended: the other side ended it"), 1, "{log}");
}

#[test]
fn a_line_that_another_program_has_locked_is_waited_for() {
    let mut node = Node::prepare(&config(&[]));
    let mut line = Line::new();
    line.plug_in(&node);
    let other = File::options()
        .read(true)
        .write(true)
        .open(link(&node))
        .unwrap();
    other.try_lock().unwrap();
    node.launch();
    node.ready();
    let why = await_feed(&node, "roof", "waiting").why.unwrap();
    assert!(why.ends_with("another program has locked it"), "{why}");
    drop(other);
    until_sound(&node, &mut line, 0);
}

#[test]
fn an_ingest_that_was_killed_reads_on_at_the_rate_that_was_found() {
    let mut node = Node::prepare(&config(&[("baud = \"auto\"", "baud = [4800, 19200]")]));
    let mut line = Line::new();
    line.plug_in(&node);
    node.launch();
    node.ready();
    let second = until_sound(&node, &mut line, 0);
    let opened = feed(&node, "roof").opened;
    let roof = |node: &Node| {
        let processes = node.report().processes.into_iter();
        let mut found = processes.filter(|process| process.instance == "roof");
        found.next().unwrap()
    };
    let pid = nix::unistd::Pid::from_raw(roof(&node).pid.unwrap() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    for second in second..second + 20 {
        line.say(sentence(second).as_bytes());
    }
    await_shown(&node, "roof-1", second + 19);
    assert_eq!(
        (roof(&node).restarts, feed(&node, "roof").opened),
        (1, opened)
    );
}

#[test]
fn silence_is_no_reason_to_change_the_rate() {
    let mut node = Node::prepare(&config(&[]));
    let line = Line::new();
    line.plug_in(&node);
    node.launch();
    node.ready();
    let first = await_feed(&node, "roof", "open");
    // Longer than bytes without sense are borne with.
    wait_for("4 s of silence", || {
        (feed(&node, "roof").since_s > 4.0).then_some(())
    });
    let later = feed(&node, "roof");
    assert_eq!((later.opened, later.baud), (first.opened, Some(9_600)));
    assert!(later.since_s < DEADLINE.as_secs_f64());
}

#[test]
fn what_is_no_line_is_said() {
    let mut node = Node::prepare(&config(&[]));
    std::fs::write(link(&node), "a file").unwrap();
    node.launch();
    node.ready();
    let why = await_feed(&node, "roof", "waiting").why.unwrap();
    assert!(why.ends_with("it is no serial line"), "{why}");
}
