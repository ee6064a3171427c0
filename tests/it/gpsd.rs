//! gpsd as a way in: Debian's, fed with a recorded log through a pseudo-terminal; and some that lie.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::example;
use crate::fed::{await_feed, await_shown, feed, pseudo_terminal, sentence, track};
use crate::node::{Node, QUIET, wait_for};

const BINARY: &str = "/usr/sbin/gpsd";

/// A log of the test data and what gpsd made of it: a receiver that moves, in 2022.
const LOG: &str = "gpsd/garmin15x.log";

/// gpsd on a free port, with a receiver on a pseudo-terminal.
struct Gpsd {
    port: u16,
    receiver: PathBuf,
    child: Option<Child>,
}

impl Gpsd {
    fn start(&mut self) {
        let child = Command::new(BINARY)
            .args(["-N", "-n", "-S", &self.port.to_string()])
            .arg(&self.receiver)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let address = ("127.0.0.1", self.port);
        wait_for("gpsd to listen", || TcpStream::connect(address).ok());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Gpsd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a test needs that not every machine has, or a loud word about what is skipped.
fn facilities(test: &str) -> Option<(Vec<String>, Value)> {
    let data = std::env::var_os("RINGWAY_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let log = std::fs::read_to_string(data.join(LOG));
    let missing = match &log {
        Ok(_) if Path::new(BINARY).exists() => None,
        Ok(_) => Some(format!("{BINARY} is not installed")),
        Err(_) => Some(format!("data not found at {}", data.join(LOG).display())),
    };
    if let Some(missing) = missing {
        // Written past the test runner, which keeps the words of a test that passes.
        let _ = writeln!(std::io::stderr(), "skipped: 1 test, {test}: {missing}");
        return None;
    }
    let check = std::fs::read_to_string(data.join(format!("{LOG}.chk"))).unwrap();
    let mut reports = check
        .lines()
        .filter(|line| line.starts_with("{\"class\":\"TPV\""));
    let last = serde_json::from_str(reports.next_back().unwrap()).unwrap();
    let sentences = log
        .unwrap()
        .lines()
        .filter(|line| line.starts_with('$'))
        .map(String::from)
        .collect();
    Some((sentences, last))
}

/// The moments of a log: from one RMC to the next.
fn epochs(sentences: &[String]) -> Vec<String> {
    let mut epochs: Vec<String> = Vec::new();
    for sentence in sentences {
        match epochs.last_mut() {
            Some(epoch) if !sentence.starts_with("$GPRMC") => *epoch += &format!("{sentence}\r\n"),
            _ => epochs.push(format!("{sentence}\r\n")),
        }
    }
    epochs
}

/// The documented example, at this port and, if it names one, this receiver; and the same receiver's sentences.
fn config(port: u16, receiver: &str) -> String {
    let connect = format!("127.0.0.1:{port}");
    let changes = [("127.0.0.1:2947", &connect[..]), ("/dev/ttyACM0", receiver)];
    let json = example::of("gpsd", &changes);
    let sentences = json
        .replace("protocol = \"gpsd\"", "protocol = \"nmea\"")
        .replace("\"mast\"", "\"sentences\"")
        .replace("mast-1", "sentences-1");
    format!("{QUIET}{json}{sentences}")
}

#[test]
fn debians_gpsd_is_read_also_after_it_was_killed_and_while_its_receiver_is_silent() {
    let test = "debians_gpsd_is_read_also_after_it_was_killed_and_while_its_receiver_is_silent";
    let Some((sentences, last)) = facilities(test) else {
        return;
    };
    let epochs = epochs(&sentences);
    let (mut wire, receiver) = pseudo_terminal();
    // gpsd drops its privileges before it opens a line again.
    std::fs::set_permissions(&receiver, Permissions::from_mode(0o666)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut gpsd = Gpsd {
        port,
        receiver: receiver.clone(),
        child: None,
    };
    gpsd.start();
    let node = Node::start(&config(port, receiver.to_str().unwrap()));
    await_feed(&node, "mast", "sound");
    await_feed(&node, "sentences", "sound");

    // gpsd itself learns the receiver's rate and cycle first: the whole log, then its last moment until it is through.
    let degrees = |track: &Value, at: usize| track["geometry"]["coordinates"][at].as_f64().unwrap();
    let arrived = |device: &str| {
        let track = track(&node, device)?;
        let near =
            |at: usize, key: &str| (degrees(&track, at) - last[key].as_f64().unwrap()).abs() < 1e-5;
        (track["properties"]["time"] == last["time"] && near(0, "lon") && near(1, "lat"))
            .then_some(())
    };
    let mut next = epochs
        .iter()
        .chain(std::iter::repeat(epochs.last().unwrap()));
    wait_for("the last position of the log", || {
        // What gpsd does not take at once is lost, as on a line.
        let _ = wire.write(next.next().unwrap().as_bytes()).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(100));
        arrived("mast-1").and_then(|()| arrived("sentences-1"))
    });

    // Its receiver is off: it is asked, answers, and is kept.
    let messages = node.figure("mast", "ringway_messages_total");
    node.await_figure("mast", "ringway_messages_total", messages + 2.0);
    assert_eq!(feed(&node, "mast").opened, 1);
    assert_eq!(feed(&node, "sentences").opened, 1);

    gpsd.kill();
    await_feed(&node, "mast", "waiting");
    let why = feed(&node, "mast").why.unwrap();
    assert!(why.contains(&format!("gpsd at 127.0.0.1:{port}")), "{why}");
    gpsd.start();
    assert!(await_feed(&node, "mast", "sound").opened >= 2);
}

/// A server that is no gpsd: what it does with each connection; the first line of each is told.
fn server(mut each: impl FnMut(TcpStream, usize) + Send + 'static) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            let mut line = String::new();
            // A peer that is gone already is as good.
            let _ = BufReader::new(&stream).read_line(&mut line);
            let _ = tell.send(line);
            each(stream, number);
        }
    });
    (port, told)
}

#[test]
fn liars_and_those_that_stall_are_dropped_and_tried_again() {
    const VERSION: &[u8] =
        b"{\"class\":\"VERSION\",\"release\":\"3.22\",\"rev\":\"3.22\",\"proto_major\":3,\"proto_minor\":14}\r\n";
    // What a server says at first, whether it then hangs up, and what its end is counted as.
    let rubbish = b"HTTP/1.1 400 Bad Request\r\n".repeat(20);
    let cases: [(&str, Vec<u8>, bool, &str); 6] = [
        ("closes", vec![], true, "closed"),
        ("greets", VERSION.to_vec(), true, "closed"),
        ("lies", rubbish, false, "unreadable"),
        (
            "half",
            b"{\"class\":\"VERSION\",\"rel".to_vec(),
            false,
            "stalled",
        ),
        ("mute", vec![], false, "stalled"),
        ("tires", VERSION.to_vec(), false, "stalled"),
    ];
    let mut config = QUIET.to_owned();
    let mut told = Vec::new();
    let open: &'static Mutex<Vec<TcpStream>> = Box::leak(Box::default());
    for (name, says, hangs_up, _) in &cases {
        let (says, hangs_up) = (says.clone(), *hangs_up);
        let (port, lines) = server(move |mut stream, number| {
            if number < 3 {
                // A client that gives up early is what is tested.
                let _ = stream.write_all(&says);
            } else {
                // It has come to its senses.
                let _ = stream.write_all(VERSION);
                let _ = stream.write_all(
                    b"{\"class\":\"TPV\",\"device\":\"/dev/ttyS0\",\"mode\":2,\"time\":\"2022-10-18T11:33:04.000Z\",\
                      \"lat\":32.648538333,\"lon\":-108.374266667}\r\n",
                );
            }
            if !hangs_up || number >= 3 {
                open.lock().unwrap().push(stream);
            }
        });
        told.push(lines);
        config += &format!(
            "\n[[sensor]]\nname = \"{name}\"\ninput = \"gpsd\"\nprotocol = \"gpsd\"\ndevice = \"{name}\"\n\
             connect = \"localhost:{port}\"\n"
        );
    }
    let node = Node::start(&config);
    for lines in &told {
        let line = lines.recv_timeout(crate::node::DEADLINE).unwrap();
        assert_eq!(line, "?WATCH={\"enable\":true,\"json\":true};\n");
    }
    for (name, _, _, reason) in &cases {
        // Three times are enough for what ends at once; what stalls takes 10 s each time.
        let times = if *reason == "stalled" { 1.0 } else { 3.0 };
        let ended = format!("ringway_feeds_ended_total{{reason={reason:?}}}");
        node.await_figure(name, &ended, times);
        assert_eq!(
            node.figure(name, "ringway_feeds_ended_total{reason=\"broken\"}"),
            0.0
        );
        if *reason != "stalled" {
            wait_for(&format!("{name} to be shown"), || track(&node, name));
        }
    }
    let restarts: u32 = node
        .report()
        .processes
        .iter()
        .map(|process| process.restarts)
        .sum();
    assert_eq!(restarts, 0);
}

#[test]
fn a_gpsd_that_is_not_there_is_waited_for() {
    // Reserved and closed again: nobody listens.
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let node = Node::start(&config(address.port(), "/dev/ttyACM0"));
    let why = await_feed(&node, "sentences", "waiting").why.unwrap();
    assert!(why.contains("Connection refused"), "{why}");
    let listener = TcpListener::bind(address).unwrap();
    let mut sentences = None;
    while sentences.is_none() {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        if line == "?WATCH={\"device\":\"/dev/ttyACM0\",\"enable\":true,\"nmea\":true};\n" {
            sentences = Some(stream);
        }
    }
    let mut stream = sentences.unwrap();
    stream.write_all(sentence(7).as_bytes()).unwrap();
    await_shown(&node, "sentences-1", 7);
}
