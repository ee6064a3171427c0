//! Named pipes, and what pipes do to those who do not know them.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use device_sim::jt808::{self, Answer, Edition, HEARTBEAT, LOCATION, Reader};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::example;
use crate::fed::{await_feed, await_shown, feed, refused, resident, sentence};
use crate::node::{DEADLINE, Node, QUIET, wait_for};
use crate::terminal::{now_s, report};

const FRAMES: &str = "ringway_frames_published_total";

/// Whole messages up to this length do not mix, by pipe(7).
const ATOMIC_BYTES: usize = 4096;

/// The documented example, with its pipes beside the configuration.
fn config(more: &str) -> String {
    let example = example::of(
        "fifo",
        &[
            ("/run/ringway/bridge.fifo", "bridge.fifo"),
            ("/run/ringway/modem.fifo", "modem.fifo"),
            ("/run/ringway/modem-answers.fifo", "modem-answers.fifo"),
            (
                "device = \"bridge-1\"\n",
                &format!("device = \"bridge-1\"\n{more}"),
            ),
        ],
    );
    format!("{QUIET}{example}")
}

fn pipe(node: &Node, name: &str) -> PathBuf {
    node.config_path().with_file_name(name)
}

/// The same, with room for few answers of the modem's that are waited for: one in eight of these at a time.
fn few_at_a_time() -> String {
    let few = "modem-answers.fifo\"\nanswers_max = 256\n";
    config("").replace("modem-answers.fifo\"\n", few)
}

/// Opens a pipe as `echo` does: the open waits until there is a reader.
fn writer(node: &Node, name: &str) -> File {
    let path = pipe(node, name);
    wait_for("the pipe", || path.exists().then_some(()));
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(OpenOptions::new().write(true).open(path)));
    let opened = told.recv_timeout(DEADLINE);
    opened.expect("there is always a reader").unwrap()
}

/// The ingest of a sensor.
fn ingest(node: &Node, sensor: &str) -> Pid {
    let processes = node.report().processes.into_iter();
    let mut found = processes.filter(|process| process.instance == sensor);
    Pid::from_raw(found.next().unwrap().pid.unwrap() as i32)
}

/// A modem that writes each message as a writer of its own, and reads the answers.
struct Modem {
    speaker: jt808::Terminal,
    serial: u16,
    answers: File,
    reader: Reader,
    heard: Vec<u16>,
}

impl Modem {
    fn of(node: &Node, phone: u64) -> Modem {
        let path = pipe(node, "modem-answers.fifo");
        wait_for("the pipe", || path.exists().then_some(()));
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        Modem {
            speaker: jt808::Terminal {
                edition: Edition::Y2013,
                phone,
            },
            serial: 0,
            answers: options.open(path).unwrap(),
            reader: Reader::default(),
            heard: Vec::new(),
        }
    }

    /// Says where it is; returns the message's serial number.
    fn locate(&mut self, node: &Node) -> u16 {
        self.locate_many(node, 1)[0]
    }

    /// Says so many times where it is, as one writer; returns the messages' serial numbers.
    fn locate_many(&mut self, node: &Node, count: u16) -> Vec<u16> {
        let (mut body, mut wire) = (Vec::new(), Vec::new());
        let serials: Vec<u16> = (1..=count).map(|number| self.serial + number).collect();
        for &serial in &serials {
            body.clear();
            jt808::location(&report(now_s()), &mut body);
            self.speaker.message(&mut wire, LOCATION, serial, &body);
        }
        self.serial += count;
        writer(node, "modem.fifo").write_all(&wire).unwrap();
        serials
    }

    /// Takes what answers there are.
    fn hear(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            let count = match self.answers.read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            };
            let heard = &mut self.heard;
            let read = self.reader.read(&bytes[..count], |answer| match answer {
                Answer::General {
                    serial, result: 0, ..
                } => heard.push(serial),
                other => panic!("{other:?}"),
            });
            read.expect("no answer is cut");
        }
    }

    fn await_answer(&mut self, serial: u16) {
        wait_for(&format!("answer {serial}"), || {
            self.hear();
            self.heard.contains(&serial).then_some(())
        });
    }
}

/// Process ids of the supervisor, of every child and every program, with what each is.
fn processes(node: &Node) -> Vec<(i32, String)> {
    let report = node.report();
    let children = report.processes.iter().filter_map(|process| {
        let name = format!("{} {}", process.role, process.instance);
        Some((process.pid? as i32, name))
    });
    let supervisor = (report.pid as i32, "supervisor".to_owned());
    let programs = report.programs.iter();
    let programs = programs.filter_map(|program| Some((program.pid? as i32, "program".to_owned())));
    children.chain([supervisor]).chain(programs).collect()
}

/// Who holds a file open, and how: `r`, `w` or `rw` for each descriptor, sorted.
fn holders(node: &Node, path: &Path) -> Vec<String> {
    let wanted = std::fs::metadata(path).unwrap();
    let mut found = Vec::new();
    for (pid, name) in processes(node) {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let entry = entry.unwrap();
            let Ok(held) = std::fs::metadata(entry.path()) else {
                continue;
            };
            if (held.dev(), held.ino()) != (wanted.dev(), wanted.ino()) {
                continue;
            }
            let number = entry.file_name().into_string().unwrap();
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            let how = match OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE {
                OFlag::O_RDONLY => "r",
                OFlag::O_WRONLY => "w",
                _ => "rw",
            };
            found.push(format!("{name}: {how}"));
        }
    }
    found.sort();
    found
}

#[test]
fn a_node_starts_without_a_writer_and_each_writers_end_ends_its_message() {
    let node = Node::start(&config(""));
    // Opened and closed without a word.
    drop(writer(&node, "bridge.fifo"));
    let mut first = writer(&node, "bridge.fifo");
    first.write_all(sentence(1).as_bytes()).unwrap();
    first.write_all(&sentence(2).as_bytes()[..40]).unwrap();
    drop(first);
    wait_for("the cut message", || {
        (refused(&node, "bridge", "incomplete") == 1.0).then_some(())
    });
    await_shown(&node, "bridge-1", 1);
    // The rest of the cut one is not what the next writer says.
    writer(&node, "bridge.fifo")
        .write_all(sentence(3).as_bytes())
        .unwrap();
    await_shown(&node, "bridge-1", 3);
    assert_eq!(node.figure("bridge", FRAMES), 2.0);
    assert_eq!(
        node.figure(
            "bridge",
            "ringway_messages_refused_total{reason=\"checksum\"}"
        ),
        0.0
    );
}

#[test]
fn several_writers_at_once_lose_nothing() {
    let node = Node::start(&config(""));
    let (writers, each) = (4, 50);
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                for _ in 0..each {
                    // A writer each, as from a shell.
                    let mut writer = writer(&node, "bridge.fifo");
                    let text = sentence(next.fetch_add(1, Ordering::Relaxed));
                    assert!(text.len() <= ATOMIC_BYTES);
                    writer.write_all(text.as_bytes()).unwrap();
                }
            });
        }
    });
    let all = f64::from(writers * each);
    node.await_figure("bridge", "ringway_messages_total", all);
    assert_eq!(refused(&node, "bridge", "incomplete"), 0.0);
    assert_eq!(refused(&node, "bridge", "checksum"), 0.0);
}

#[test]
fn ends_are_open_in_the_processes_that_need_them_and_in_no_other() {
    let node = Node::start(&config(""));
    writer(&node, "bridge.fifo")
        .write_all(sentence(1).as_bytes())
        .unwrap();
    await_shown(&node, "bridge-1", 1);
    await_feed(&node, "modem", "open");
    let readers = ["ingest bridge: r", "supervisor: r"];
    wait_for("the ends of the pipe", || {
        (holders(&node, &pipe(&node, "bridge.fifo")) == readers).then_some(())
    });
    // For writing alone it cannot be opened while nobody reads it.
    let answers = ["ingest modem: rw", "supervisor: rw"];
    assert_eq!(holders(&node, &pipe(&node, "modem-answers.fifo")), answers);
    for second in 2..20 {
        writer(&node, "bridge.fifo")
            .write_all(sentence(second).as_bytes())
            .unwrap();
        await_shown(&node, "bridge-1", second);
    }
    wait_for("no end to be left over", || {
        (holders(&node, &pipe(&node, "bridge.fifo")) == readers).then_some(())
    });
}

#[test]
fn a_message_that_comes_byte_by_byte_is_whole() {
    let node = Node::start(&config(""));
    let mut writer = writer(&node, "bridge.fifo");
    for second in 0..5 {
        for byte in sentence(second).bytes() {
            writer.write_all(&[byte]).unwrap();
        }
    }
    await_shown(&node, "bridge-1", 4);
    assert_eq!(node.figure("bridge", FRAMES), 5.0);
    let figures = node.report().processes;
    let bridge = figures
        .iter()
        .find(|process| process.instance == "bridge")
        .unwrap();
    let refused = |name: &&String| name.starts_with("ringway_messages_refused_total");
    assert_eq!(bridge.figures.keys().find(refused), None);
}

#[test]
fn a_line_without_end_takes_no_memory_and_what_follows_it_is_read() {
    let node = Node::start(&config("errors_max = 100000\n"));
    let pid = ingest(&node, "bridge");
    let mut writer = writer(&node, "bridge.fifo");
    writer.write_all(sentence(1).as_bytes()).unwrap();
    await_shown(&node, "bridge-1", 1);
    let before = resident(pid);
    let length = 4 << 20;
    writer.write_all(&vec![b'A'; length]).unwrap();
    node.await_figure("bridge", "ringway_received_bytes_total", length as f64);
    let grown = resident(pid).saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes for a line of {length}");
    assert!(refused(&node, "bridge", "too_long") >= 1.0);
    writer
        .write_all(format!("\n{}", sentence(2)).as_bytes())
        .unwrap();
    await_shown(&node, "bridge-1", 2);
    assert_eq!(node.figure("bridge", "ringway_feeds_opened_total"), 1.0);
}

#[test]
fn rubbish_ends_the_feed_which_is_opened_again() {
    let node = Node::start(&config(""));
    let mut writer = writer(&node, "bridge.fifo");
    // As many as `errors_max` is by default.
    for _ in 0..16 {
        writer.write_all(b"no sentence\n").unwrap();
    }
    let ended = "ringway_feeds_ended_total{reason=\"unreadable\"}";
    node.await_figure("bridge", ended, 1.0);
    writer.write_all(sentence(5).as_bytes()).unwrap();
    await_shown(&node, "bridge-1", 5);
    assert!(
        node.log().contains("nothing on it can be read"),
        "{}",
        node.log()
    );
}

#[test]
fn of_a_reader_that_dies_only_the_message_under_way_is_lost() {
    let node = Node::start(&config(""));
    let mut writer = writer(&node, "bridge.fifo");
    writer.write_all(sentence(1).as_bytes()).unwrap();
    let cut = sentence(2);
    let (head, tail) = cut.split_at(30);
    writer.write_all(head.as_bytes()).unwrap();
    await_shown(&node, "bridge-1", 1);
    let read = (sentence(1).len() + head.len()) as f64;
    node.await_figure("bridge", "ringway_received_bytes_total", read);
    kill(ingest(&node, "bridge"), Signal::SIGKILL).unwrap();
    // Written while nobody reads: the supervisor keeps the pipe open.
    writer.write_all(tail.as_bytes()).unwrap();
    for second in 3..20 {
        writer.write_all(sentence(second).as_bytes()).unwrap();
    }
    await_shown(&node, "bridge-1", 19);
    // All but the second.
    assert_eq!(node.figure("bridge", FRAMES), 18.0);
    let refused: f64 = ["rubbish", "checksum"]
        .map(|why| refused(&node, "bridge", why))
        .iter()
        .sum();
    assert_eq!(refused, 1.0);
    assert_eq!(feed(&node, "bridge").opened, 1);
}

#[test]
fn a_writer_that_is_faster_than_the_ring_waits_and_nothing_is_lost_or_grows() {
    let node = Node::start(&config("ring_slots = 64\n"));
    let count = 6_000;
    let mut writer = writer(&node, "bridge.fifo");
    writer.write_all(sentence(0).as_bytes()).unwrap();
    await_shown(&node, "bridge-1", 0);
    let ingest = ingest(&node, "bridge");
    let before = resident(ingest);
    assert!(node.signal("classifier", Signal::SIGSTOP));
    let written = AtomicU32::new(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for second in 1..count {
                writer.write_all(sentence(second).as_bytes()).unwrap();
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        node.await_figure("bridge", "ringway_stalls_total{reason=\"ring\"}", 1.0);
        // Until nothing moves any more, there and here.
        let still = wait_for("the writer to wait", || {
            let look = || {
                (
                    written.load(Ordering::Relaxed),
                    node.figure("bridge", "ringway_received_bytes_total"),
                )
            };
            let first = look();
            std::thread::sleep(std::time::Duration::from_millis(300));
            (look() == first).then_some(first.0)
        });
        assert!(
            still < count,
            "all {count} went where 64 slots and 64 KiB are"
        );
        let grown = resident(ingest).saturating_sub(before);
        assert!(grown < 1 << 20, "{grown} bytes while the writer waits");
        assert!(node.signal("classifier", Signal::SIGCONT));
    });
    await_shown(&node, "bridge-1", count - 1);
    assert_eq!(node.figure("bridge", FRAMES), f64::from(count));
}

/// The ingest was stopped while a writer filled the pipe, and told to drain: what was in the pipe has to be read, a few
/// messages at a time, and answered, before the pipe goes. Three reads of it were all that a drain had time for: nobody
/// woke the classifier for what they held; and waiting for room counted as reading.
#[test]
fn what_is_in_a_pipe_at_the_drain_is_read_and_answered() {
    let mut node = Node::start(&few_at_a_time());
    let mut modem = Modem::of(&node, 13_900_000_023);
    let serial = modem.locate(&node);
    modem.await_answer(serial);
    let ingest = ingest(&node, "modem");
    kill(ingest, Signal::SIGSTOP).unwrap();
    let sent = modem.locate_many(&node, 900);
    node.signal_supervisor(Signal::SIGTERM);
    wait_for("the drain", || {
        node.log().contains("draining on TERM").then_some(())
    });
    kill(ingest, Signal::SIGCONT).unwrap();
    assert!(node.ended().success());
    modem.hear();
    let answered = |serial: &&u16| modem.heard.contains(serial);
    assert_eq!(sent.iter().filter(answered).count(), sent.len());
}

/// A pipe whose writers said nothing is opened again after a pause. What came meanwhile was read in a drain, but not
/// answered: the ingest failed because it took a pipe out of its set that it had taken out before.
#[test]
fn what_comes_to_a_pipe_before_it_is_opened_again_is_answered_at_the_drain() {
    let mut node = Node::start(&few_at_a_time());
    let mut modem = Modem::of(&node, 13_900_000_025);
    // The pauses double: after the fourth there are two seconds, which are not waited for.
    let ended = "ringway_feeds_ended_total{reason=\"closed\"}";
    for time in 1..=4 {
        node.await_figure("modem", "ringway_feeds_opened_total", f64::from(time));
        drop(writer(&node, "modem.fifo"));
        node.await_figure("modem", ended, f64::from(time));
    }
    let sent = modem.locate_many(&node, 100);
    node.signal_supervisor(Signal::SIGTERM);
    assert!(node.ended().success());
    modem.hear();
    let answered = |serial: &&u16| modem.heard.contains(serial);
    assert_eq!(sent.iter().filter(answered).count(), sent.len());
}

#[test]
fn answers_that_nobody_reads_are_withheld_and_counted_and_stop_nothing() {
    let node = Node::start(&config(""));
    let count = 10_000;
    let mut writer = writer(&node, "modem.fifo");
    let speaker = jt808::Terminal {
        edition: Edition::Y2013,
        phone: 13_900_000_021,
    };
    for serial in 1..=count {
        let mut wire = Vec::new();
        speaker.message(&mut wire, HEARTBEAT, serial, &[]);
        writer.write_all(&wire).unwrap();
    }
    node.await_figure("modem", "ringway_messages_total", f64::from(count));
    let withheld = "ringway_answers_withheld_total{reason=\"unsent\"}";
    let withheld = node.figure("modem", withheld);
    assert!(withheld > 0.0, "10,000 answers are in twice 64 KiB");

    // Somebody comes to read: first what was kept, each answer whole, then the answer to what is sent now.
    let mut modem = Modem::of(&node, speaker.phone);
    let kept = count - withheld as u16;
    wait_for("the answers that were kept", || {
        modem.hear();
        (modem.heard.len() >= usize::from(kept)).then_some(())
    });
    let expected: Vec<_> = (1..=kept).collect();
    assert!(modem.heard == expected, "not the first {kept}, in order");
    modem.serial = count;
    let serial = modem.locate(&node);
    modem.await_answer(serial);
}

#[test]
fn who_ends_his_side_is_answered_all_the_same() {
    let node = Node::start(&config(""));
    let mut modem = Modem::of(&node, 13_900_000_022);
    for _ in 0..20 {
        let serial = modem.locate(&node);
        modem.await_answer(serial);
    }
    let abandoned = "ringway_answers_total{outcome=\"abandoned\"}";
    assert_eq!(node.figure("modem", abandoned), 0.0);
}

#[test]
fn what_is_no_pipe_is_said_once_and_waited_out() {
    let mut node = Node::prepare(&config(""));
    let path = pipe(&node, "bridge.fifo");
    std::fs::write(&path, "a file").unwrap();
    node.launch();
    node.ready();
    let why = await_feed(&node, "bridge", "waiting").why.unwrap();
    assert!(why.contains("bridge.fifo: it is no named pipe"), "{why}");
    // The other sensor does not wait for it.
    await_feed(&node, "modem", "open");
    std::fs::remove_file(&path).unwrap();
    await_feed(&node, "bridge", "open");
    assert!(std::fs::metadata(&path).unwrap().file_type().is_fifo());
    writer(&node, "bridge.fifo")
        .write_all(sentence(1).as_bytes())
        .unwrap();
    await_shown(&node, "bridge-1", 1);
    let said = node.log().matches("it is no named pipe").count();
    assert_eq!(said, 1, "{}", node.log());
}

#[test]
fn a_pipe_that_is_made_anew_is_opened_anew_after_the_old_one_was_read() {
    let node = Node::start(&config(""));
    let mut old = writer(&node, "bridge.fifo");
    old.write_all(sentence(1).as_bytes()).unwrap();
    let path = pipe(&node, "bridge.fifo");
    std::fs::remove_file(&path).unwrap();
    // Whoever is first makes it anew; the node would, too.
    let _ = mkfifo(&path, Mode::from_bits_truncate(0o600));
    writer(&node, "bridge.fifo")
        .write_all(sentence(2).as_bytes())
        .unwrap();
    await_shown(&node, "bridge-1", 2);
    assert_eq!(node.figure("bridge", FRAMES), 2.0);
    // Who still has the old one learns of it.
    wait_for("the old pipe to break", || {
        old.write_all(sentence(3).as_bytes())
            .err()
            .map(|error| assert_eq!(error.kind(), ErrorKind::BrokenPipe))
    });
}

/// A node with a program of the shell, whose answers come on its standard input.
fn program(protocol: &str, script: &str) -> String {
    format!(
        "{QUIET}\n[[sensor]]\nname = \"plug\"\ninput = \"exec\"\nprotocol = {protocol:?}\nanswers = true\n\
         command = [\"sh\", \"-c\", {script:?}]\n"
    )
}

#[test]
fn the_pipes_of_a_program_are_open_at_one_end_in_the_program_and_at_the_other_here() {
    let node = Node::start(&program("json", "exec sleep 1000"));
    let program = wait_for("the program", || {
        let pid = node.report().programs.first()?.pid?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "sleep").then_some(pid)
    });
    let of = |number: u32| PathBuf::from(format!("/proc/{program}/fd/{number}"));
    for output in [1, 2] {
        let expected = ["ingest plug: r", "program: w", "supervisor: r"];
        let mut found = holders(&node, &of(output));
        // The supervisor has a second descriptor of the end that it has, to look whether somebody else holds the other.
        found.dedup();
        assert_eq!(found, expected, "output {output}");
    }
    let expected = ["ingest plug: w", "program: r", "supervisor: w"];
    assert_eq!(holders(&node, &of(0)), expected);
}

#[test]
fn a_program_that_closes_its_input_is_read_on_and_its_answers_are_counted() {
    let speaker = jt808::Terminal {
        edition: Edition::Y2013,
        phone: 13_900_000_024,
    };
    let count = 50;
    let mut wire = Vec::new();
    for serial in 1..=count {
        speaker.message(&mut wire, HEARTBEAT, serial, &[]);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), wire).unwrap();
    let once_and_again = format!(
        "exec 0<&-; cat {0}; sleep 0.2; cat {0}; exec sleep 1000",
        file.path().display()
    );
    let node = Node::start(&program("jt808", &once_and_again));
    let withheld = "ringway_answers_withheld_total{reason=\"unsent\"}";
    let all = f64::from(2 * count);
    node.await_figure("plug", withheld, all);
    assert_eq!(node.figure("plug", "ringway_messages_total"), all);
    assert_eq!(node.figure("plug", "ringway_feeds_opened_total"), 1.0);
}
