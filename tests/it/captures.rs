//! Recordings of a real node: what another node makes of them, and what becomes of them when processes are killed,
//! files are turned over, cut, or find no room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::JoinHandle;
use std::time::Duration;

use device_sim::fleet::{Options, run};
use device_sim::roads::Roads;
use device_sim::scenario::Scenario;
use device_sim::schedule::Pace;
use device_sim::town;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::aside::block_on;
use crate::dispatched::{hear, hear_snapshot};
use crate::example;
use crate::mailbox::Mailbox;
use crate::mosquitto::Mosquitto;
use crate::node::{DEADLINE, Node, QUIET, wait_for};
use crate::terminal::{Terminal, now_s, report};
use crate::web;

/// Both servers on free ports.
const SERVERS: &str =
    "\n[dispatcher]\nlisten = \"127.0.0.1:0\"\n\n[observer]\nlisten = \"127.0.0.1:0\"\n";

/// The documented node, whose sensor is recorded from the start on.
fn recorded() -> String {
    recorded_in("file_size_max = \"16MiB\"\nfiles_max = 8")
}

/// The same with other limits.
fn recorded_in(limits: &str) -> String {
    let documented = "file_size_max = \"16MiB\"\nfiles_max = 8";
    let changes = [("127.0.0.1:6808", "127.0.0.1:0"), (documented, limits)];
    example::of("Recording and replay", &changes) + SERVERS
}

/// A sensor of the same name that replays a capture.
fn replayed(file: &Path, speed: f64) -> String {
    let input = format!("path = {file:?}\nspeed = {speed:?}");
    QUIET
        .replacen("input = \"tcp\"", "input = \"file\"", 1)
        .replacen("listen = \"127.0.0.1:0\"", &input, 1)
}

fn program(arguments: &[&str], paths: &[PathBuf]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(arguments)
        .args(paths)
        .output()
        .unwrap()
}

/// What `ringway replay --json` prints, and what it says on standard error; its exit code is as expected.
fn replay(files: &[PathBuf], code: i32) -> (Vec<Value>, String) {
    let output = program(&["replay", "--json"], files);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let objects = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (objects.collect(), said)
}

/// The times of all fixes, in seconds, in the order of the capture.
fn seconds(objects: &[Value]) -> Vec<u32> {
    let fixes = objects
        .iter()
        .filter_map(|object| object["fixes"].as_array());
    let times = fixes.flatten().map(|fix| fix["time"].as_str().unwrap());
    times
        .map(|time| (device_sim::delivery::time_ms(time).unwrap() / 1000) as u32)
        .collect()
}

/// The captures of a node, in the order of their making.
fn captures(node: &Node) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(node.state_dir().join("captures"));
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// All of them in one file, as `cat` would make it.
fn joined(node: &Node) -> tempfile::NamedTempFile {
    let all: Vec<u8> = captures(node)
        .iter()
        .flat_map(|file| std::fs::read(file).unwrap())
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), all).unwrap();
    file
}

fn terminal(node: &Node, number: u64) -> Terminal {
    Terminal::connect(&node.address("sensor:trackers"), 13_900_000_000 + number)
}

/// Sends a report and waits until it is answered.
fn tell(terminal: &mut Terminal, time_s: u32) {
    let serial = terminal.send(&report(time_s));
    terminal.await_answer(serial);
}

/// Collects what the stream of a node says of each device, the snapshot first, until the node ends.
fn listen(node: &Node) -> JoinHandle<BTreeMap<String, Vec<Value>>> {
    let mut socket = web::subscribe(&node.address("dispatcher"));
    let snapshot = hear_snapshot(&mut socket);
    std::thread::spawn(move || {
        let mut heard = BTreeMap::<String, Vec<Value>>::new();
        let mut enter = |track: &Value| {
            assert_eq!(track.get("conflated"), None, "{track}");
            let device = track["device"].as_str().unwrap().to_owned();
            let mut track = track.clone();
            // Told apart from the fixes, and shown with whichever track comes next.
            track.as_object_mut().unwrap().remove("sensor");
            heard.entry(device).or_default().push(track);
        };
        snapshot.iter().for_each(&mut enter);
        while let Some(message) = hear(&mut socket) {
            let tracks = message["tracks"].as_array();
            tracks.into_iter().flatten().for_each(&mut enter);
        }
        heard
    })
}

/// What of an alarm does not depend on when it was published.
fn alarm(payload: &Value) -> BTreeMap<String, String> {
    let own = ["seq", "published", "trace_id", "traceparent", "journal"];
    let members = payload.as_object().unwrap().iter();
    members
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect()
}

#[test]
fn a_node_makes_of_a_capture_what_the_recorded_node_made() {
    let (Some(first), Some(second)) = (
        Mosquitto::running("outputs of a capture"),
        Mosquitto::prepare("outputs of a capture"),
    ) else {
        return;
    };
    let mut second = second;
    second.start();
    let seed = 27;
    eprintln!("seed {seed}");
    let roads = Roads::new(town::generate(seed)).unwrap();
    let scenario = Scenario::new(seed, 20, None, &roads);
    let with = |sensor: &str, broker: &Mosquitto| {
        let uplink = format!("[uplink]\nbroker = \"{}\"\n", broker.url());
        format!("{sensor}\n{uplink}{}", scenario.config())
    };
    let alarms = "ringway/v1/+/+/alarm/#";

    let mut node = Node::start(&with(&recorded(), &first));
    let mailbox = Mailbox::open(first.address(), alarms);
    let heard = listen(&node);
    let options = Options {
        pace: Pace::Clock {
            rate: 4.0,
            speed: 4.0,
        },
        length: Some(Duration::from_secs(5)),
        mqtt: Some(first.url()),
        stream: Some(format!("ws://{}/v1/stream", node.address("dispatcher"))),
        grace: DEADLINE,
        ..Options::new(seed, 20, node.address("sensor:trackers").parse().unwrap())
    };
    let check = block_on(run(roads, options, std::future::pending())).unwrap();
    assert!(check.summary.ok, "{check:#?}");
    let tracks = node.figure("dispatcher", "ringway_tracks_total");
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let heard = heard.join().unwrap();
    let expected: BTreeSet<_> = mailbox.empty().iter().map(|l| alarm(&l.payload)).collect();
    assert!(expected.len() as u64 >= check.summary.alarms_delivered);
    assert!(check.summary.alarms_delivered > 0);

    let capture = joined(&node);
    let mailbox = Mailbox::open(second.address(), alarms);
    let mut again = Node::start(&with(&replayed(capture.path(), 1.0), &second));
    let reheard = listen(&again);
    again.await_figure("dispatcher", "ringway_tracks_total", tracks);
    wait_for("the end of the capture", || {
        again
            .log()
            .contains("the capture is replayed")
            .then_some(())
    });
    let mut found = BTreeSet::new();
    while found.len() < expected.len() {
        let alarm = alarm(&mailbox.next().payload);
        assert!(expected.contains(&alarm), "{alarm:?} was not raised before");
        found.insert(alarm);
    }
    assert_eq!(again.figure("dispatcher", "ringway_tracks_total"), tracks);
    assert_eq!(again.terminate().code(), Some(0), "{}", again.log());
    assert!(!again.log().contains("WARN"), "{}", again.log());
    let late: Vec<_> = mailbox.empty().iter().map(|l| alarm(&l.payload)).collect();
    assert!(
        late.iter().all(|alarm| expected.contains(alarm)),
        "{late:?}"
    );
    // Whoever subscribes to a replay may miss its beginning.
    for (device, tracks) in reheard.join().unwrap() {
        let before = &heard[&device];
        assert!(
            before.ends_with(&tracks),
            "{device}: {tracks:?}\nafter {before:?}"
        );
    }
}

#[test]
fn a_killed_ingest_leaves_a_file_that_its_successor_goes_on_in() {
    let mut node = Node::start(&recorded());
    let start_s = now_s() - 1_000;
    let mut before = terminal(&node, 1);
    tell(&mut before, start_s);
    let files = captures(&node);
    assert_eq!(files.len(), 1, "{files:?}");
    // It is still recorded, so that its end is missing, which is no error.
    wait_for("the report to be written", || {
        (seconds(&replay(&files, 0).0) == [start_s]).then_some(())
    });
    let killed = node.process("ingest").unwrap();
    assert!(node.signal("ingest", Signal::SIGKILL));
    wait_for("another ingest", || {
        node.process("ingest")
            .filter(|now| now.pid != killed.pid && now.state == "ready")
    });
    let mut after = terminal(&node, 2);
    tell(&mut after, start_s + 1);
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    assert_eq!(captures(&node), files);
    let (objects, said) = replay(&files, 0);
    assert_eq!(seconds(&objects), [start_s, start_s + 1]);
    assert_eq!(said, "");
    let streams: Vec<_> = objects.iter().filter(|o| o["opened"].is_string()).collect();
    assert_eq!(streams.len(), 2, "{objects:?}");
}

/// A tail that a kill tore is passed over, and what the successor wrote is read.
#[test]
fn a_torn_record_in_the_middle_costs_itself_only() {
    let mut node = Node::start(&recorded());
    let start_s = now_s() - 1_000;
    tell(&mut terminal(&node, 1), start_s);
    let files = captures(&node);
    wait_for("the report to be written", || {
        (seconds(&replay(&files, 0).0) == [start_s]).then_some(())
    });
    assert!(node.signal("ingest", Signal::SIGSTOP));
    let whole = std::fs::read(&files[0]).unwrap();
    let killed = node.process("ingest").unwrap();
    assert!(node.signal("ingest", Signal::SIGKILL));
    wait_for("another ingest", || {
        node.process("ingest")
            .filter(|now| now.pid != killed.pid && now.state == "ready")
    });
    tell(&mut terminal(&node, 2), start_s + 1);
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let mut torn = std::fs::read(&files[0]).unwrap();
    // As if the kill had come while the last record before it was written.
    torn.drain(whole.len() - 5..whole.len());
    std::fs::write(&files[0], torn).unwrap();
    let (objects, said) = replay(&files, 74);
    assert!(seconds(&objects).contains(&(start_s + 1)), "{objects:?}");
    assert!(
        said.contains("damaged bytes between sound records"),
        "{said}"
    );
}

#[test]
fn files_are_turned_over_under_load_and_nothing_is_missing() {
    let mut node = Node::start(&recorded_in("file_size_max = \"64KiB\"\nfiles_max = 1000"));
    let start_s = now_s() - 100_000;
    let mut terminals: Vec<_> = (1..=4).map(|number| terminal(&node, number)).collect();
    let mut second = 0;
    while captures(&node).len() < 4 {
        for _ in 0..50 {
            second += 1;
            let sent: Vec<_> = terminals
                .iter_mut()
                .map(|terminal| terminal.send(&report(start_s + second)))
                .collect();
            if second % 50 == 0 {
                let all = terminals.iter_mut().zip(sent);
                all.for_each(|(terminal, serial)| terminal.await_answer(serial));
            }
        }
    }
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let files = captures(&node);
    let (objects, said) = replay(&files, 0);
    assert_eq!(said, "");
    let mut by_stream = BTreeMap::<u64, Vec<u32>>::new();
    for object in &objects {
        let times = seconds(std::slice::from_ref(object));
        if let Some(stream) = object["stream"].as_u64() {
            by_stream.entry(stream).or_default().extend(times);
        }
    }
    let all: Vec<u32> = (1..=second).map(|second| start_s + second).collect();
    assert_eq!(by_stream.len(), 4);
    assert!(
        by_stream.values().all(|times| *times == all),
        "of {}",
        all.len()
    );
    let answers = objects.iter().filter(|object| object["sent"].is_string());
    assert!(answers.count() >= 4 * all.len(), "both sides are recorded");

    // A file less: what began in it is read from its next message on, and that is said.
    let (objects, said) = replay(&files[1..], 0);
    assert!(said.contains("its file 1 ends, which is missing"), "{said}");
    assert!(said.contains("4 streams"), "{said}");
    let times = seconds(&objects);
    assert!(times.contains(&(start_s + second)) && !times.contains(&(start_s + 1)));
}

#[test]
fn only_so_many_files_are_kept() {
    let node = Node::start(&recorded_in("file_size_max = \"64KiB\"\nfiles_max = 2"));
    let first = captures(&node);
    let mut terminal = terminal(&node, 1);
    let mut time_s = now_s() - 100_000;
    let number = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap();
        name.rsplit('-').next().unwrap().parse::<u32>().unwrap()
    };
    while captures(&node).iter().map(number).max() < Some(4) {
        for _ in 0..100 {
            time_s += 1;
            terminal.send(&report(time_s));
        }
        tell(&mut terminal, time_s + 1);
    }
    let kept = captures(&node);
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(!kept.contains(&first[0]));
}

/// What `ringway record` says of the sensor; its exit code is as expected.
fn record(node: &Node, arguments: &[&str], code: i32) -> String {
    let config = node.config_path();
    let all = [&["record"], arguments, &["--config"]].concat();
    let output = program(&all, &[config]);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn a_sensor_is_recorded_while_the_node_runs_and_no_more() {
    let node = Node::start(QUIET);
    let start_s = now_s() - 1_000;
    let mut early = terminal(&node, 1);
    tell(&mut early, start_s);
    assert_eq!(node.report().captures, []);
    assert_eq!(captures(&node), Vec::<PathBuf>::new());

    let said = record(&node, &["trackers", "--for", "1h"], 0);
    let capture = node.report().captures.remove(0);
    let file = PathBuf::from(capture.file.unwrap());
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    assert!(capture.left_s.is_some_and(|left| left > 3_000.0));
    let status = program(&["status", "--config"], &[node.config_path()]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(
        status.contains(&format!("is recorded in {}", file.display())),
        "{status}"
    );
    // Told to the ingest before anything that comes later.
    node.await_figure(
        "trackers",
        r#"ringway_capture_records_total{fate="kept"}"#,
        1.0,
    );
    tell(&mut early, start_s + 1);
    let mut late = terminal(&node, 2);
    tell(&mut late, start_s + 2);

    let said = record(&node, &["trackers", "--off", "--json"], 0);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["file"].as_str(), file.to_str());
    assert_eq!(node.report().captures, []);
    let files = [file];
    let objects = wait_for("the end of the file", || {
        let (objects, said) = replay(&files, 0);
        (!said.contains("does not say that it ends")).then_some(objects)
    });
    assert_eq!(seconds(&objects), [start_s + 1, start_s + 2]);
    tell(&mut early, start_s + 3);
    assert_eq!(seconds(&replay(&files, 0).0).len(), 2);
    assert!(record(&node, &["trackers", "--off"], 0).contains("was not recorded"));
    assert!(record(&node, &["nobody"], 64).contains("no such sensor"));
    record(&node, &["trackers", "--for", "5"], 64);

    record(&node, &["trackers", "--for", "1ms"], 0);
    wait_for("the recording to end by itself", || {
        node.report().captures.is_empty().then_some(())
    });
}

#[test]
fn a_cut_capture_is_replayed_up_to_the_cut_and_says_so() {
    let mut node = Node::start(&recorded());
    let start_s = now_s() - 1_000;
    let mut terminal = terminal(&node, 1);
    (0..20).for_each(|second| tell(&mut terminal, start_s + second));
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let files = captures(&node);
    let whole = std::fs::read(&files[0]).unwrap();
    // Within a record: each begins with the mark, which stands in the header (docs/decisions/0027).
    let mark = &whole[16..24];
    let half = whole.len() / 2;
    let begins = whole[half..].windows(8).position(|bytes| bytes == mark);
    let cut = half + begins.unwrap() + 20;
    std::fs::write(&files[0], &whole[..cut]).unwrap();
    let (objects, said) = replay(&files, 74);
    assert!(
        said.contains("is cut at byte ") && said.contains("replayed up to there"),
        "{said}"
    );
    let found = seconds(&objects);
    assert!((1..20).contains(&found.len()), "{found:?}");

    let again = Node::start(&replayed(&files[0], 0.0));
    again.await_figure("dispatcher", "ringway_tracks_total", found.len() as f64);
    wait_for("a word about the cut", || {
        again
            .log()
            .contains("the capture is cut at byte ")
            .then_some(())
    });
    let newest = web::get_json(&again.address("dispatcher"), "/v1/tracks/13900000001");
    let time = newest["properties"]["time"].as_str().unwrap();
    let time_s = device_sim::delivery::time_ms(time).unwrap() / 1000;
    assert_eq!(Some(&(time_s as u32)), found.last());
}

#[test]
fn a_replay_that_was_killed_goes_on_where_it_was() {
    let mut node = Node::start(&recorded());
    let start_s = now_s() - 1_000;
    let mut terminal = terminal(&node, 1);
    (0..60).for_each(|second| tell(&mut terminal, start_s + second));
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let capture = joined(&node);
    let again = Node::start(&replayed(capture.path(), 0.05));
    again.await_figure("dispatcher", "ringway_tracks_total", 1.0);
    assert!(again.signal("ingest", Signal::SIGKILL));
    again.await_figure("dispatcher", "ringway_tracks_total", 4.0);
    let frames = again.figure("trackers", "ringway_frames_published_total");
    let tracks = again.figure("dispatcher", "ringway_tracks_total");
    // The one in hand when it was killed may come twice, and is dropped then.
    assert!(
        frames <= tracks + 2.0,
        "{frames} frames for {tracks} tracks"
    );
}

#[test]
fn a_capture_is_played_to_a_node_over_as_many_connections() {
    let mut node = Node::start(&recorded());
    let start_s = now_s() - 1_000;
    for number in 1..=3 {
        let mut terminal = terminal(&node, number);
        (0..5).for_each(|second| tell(&mut terminal, start_s + second));
    }
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let files = captures(&node);
    let target = Node::start(QUIET);
    let to = target.address("sensor:trackers");
    let output = program(&["replay", "--to", &to, "--speed", "0"], &files);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("15 records over 3 streams"), "{said}");
    assert!(!said.contains("failed"), "{said}");
    target.await_figure("dispatcher", "ringway_tracks_total", 15.0);
    assert_eq!(
        target.figure("trackers", "ringway_connections_accepted_total"),
        3.0
    );

    let udp = program(&["replay", "--udp", "--to", &to], &files);
    assert_eq!(udp.status.code(), Some(64), "{udp:?}");
    let gone = program(&["replay", "--to", "127.0.0.1:1"], &files);
    assert_eq!(gone.status.code(), Some(69), "{gone:?}");
}

#[test]
fn datagrams_are_recorded_and_played_as_datagrams() {
    let config = recorded().replacen("input = \"tcp\"", "input = \"udp\"", 1);
    let mut node = Node::start(&config);
    let start_s = now_s() - 1_000;
    let devices: Vec<_> = (0..2)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let address = node.address("sensor:trackers");
    // A terminal only to make the messages; nobody reads its own connection.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap().to_string();
    let mut speakers: Vec<_> = (1..=2)
        .map(|number| Terminal::connect(&local, 13_900_000_000 + number))
        .collect();
    for second in 0..4 {
        for (device, speaker) in devices.iter().zip(&mut speakers) {
            let (_, bytes) = speaker.location(&report(start_s + second));
            device.send_to(&bytes, &address).unwrap();
        }
    }
    node.await_figure("dispatcher", "ringway_tracks_total", 8.0);
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let files = captures(&node);
    let (objects, said) = replay(&files, 0);
    assert_eq!((seconds(&objects).len(), said.as_str()), (8, ""));
    let target = Node::start(&config);
    let to = target.address("sensor:trackers");
    let output = program(&["replay", "--udp", "--speed", "0", "--to", &to], &files);
    assert!(output.status.success(), "{output:?}");
    target.await_figure("dispatcher", "ringway_tracks_total", 8.0);
}

#[test]
fn a_disk_without_room_costs_the_recording_and_not_the_sensor() {
    let node = Node::start(&recorded_in("free_min = \"1000000000GiB\""));
    let capture = node.report().captures.remove(0);
    assert_eq!(capture.file, None);
    let stopped = capture.stopped.unwrap();
    assert!(stopped.contains("less than capture.free_min"), "{stopped}");
    tell(&mut terminal(&node, 1), now_s() - 60);
    assert!(record(&node, &["trackers"], 64).contains("bytes left"));
}

/// A line of our own schema.
fn line(time_s: u32) -> String {
    format!("{{\"device\":\"van-1\",\"time\":{time_s}000,\"lat\":48.1,\"lon\":11.5}}\n")
}

/// Where the van is, since when, and when that was received.
fn last_track(node: &Node) -> [String; 3] {
    let track = web::get_json(&node.address("dispatcher"), "/v1/tracks/van-1");
    let said = &track["properties"];
    [&track["geometry"], &said["time"], &said["received"]].map(Value::to_string)
}

/// Records a sensor that is told three lines, and has another node make the same of the capture.
fn is_recorded(sensor: &str, tell: impl FnOnce(&Node, &[String])) {
    let start_s = now_s() - 1_000;
    let lines: Vec<String> = (0..3).map(|second| line(start_s + second)).collect();
    let sensor =
        format!("[[sensor]]\nname = \"s\"\nprotocol = \"json\"\ncapture = true\n{sensor}\n");
    let mut node = Node::start(&format!("{sensor}{SERVERS}"));
    tell(&node, &lines);
    node.await_figure("dispatcher", "ringway_tracks_total", 3.0);
    let track = last_track(&node);
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let (objects, said) = replay(&captures(&node), 0);
    let expected = [start_s, start_s + 1, start_s + 2];
    assert_eq!((seconds(&objects), said.as_str()), (expected.to_vec(), ""));
    let capture = joined(&node);
    let again = format!(
        "[[sensor]]\nname = \"s\"\nprotocol = \"json\"\ninput = \"file\"\npath = {:?}\nspeed = 0.0\n",
        capture.path()
    );
    let again = Node::start(&format!("{again}{SERVERS}"));
    again.await_figure("dispatcher", "ringway_tracks_total", 3.0);
    assert_eq!(last_track(&again), track);
}

#[test]
fn requests_are_recorded_with_what_they_came_in() {
    is_recorded(
        "input = \"http\"\nlisten = \"127.0.0.1:0\"",
        |node, lines| {
            for line in lines {
                let mut stream = TcpStream::connect(node.address("sensor:s")).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let length = line.len();
                let head =
                    format!("POST / HTTP/1.1\r\nHost: n\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all((head + line).as_bytes()).unwrap();
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).unwrap();
                assert!(answer.starts_with(b"HTTP/1.1 20"), "{answer:?}");
            }
        },
    );
}

#[test]
fn a_pipe_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    is_recorded(&format!("input = \"fifo\"\npath = {path:?}"), |_, lines| {
        let mut pipe = wait_for("the pipe", || File::options().append(true).open(&path).ok());
        pipe.write_all(lines.concat().as_bytes()).unwrap();
    });
}
