//! Devices that send datagrams, with all processes.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use device_sim::jt808::{self, Answer, Edition, LOCATION, Reader};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::example;
use crate::node::{Node, QUIET, wait_for};
use crate::terminal::{now_s, report};
use crate::web;

const NMEA: &str = r#"
[[sensor]]
name = "mast"
input = "udp"
protocol = "nmea"
device = "mast-1"
listen = "[::1]:0"
"#;

const SERVERS: &str =
    "\n[dispatcher]\nlisten = \"127.0.0.1:0\"\n\n[observer]\nlisten = \"127.0.0.1:0\"\n";

/// How long a device waits before it sends again.
const PATIENCE: Duration = Duration::from_millis(500);

/// A terminal that sends each report in a datagram.
struct Sender {
    socket: UdpSocket,
    speaker: jt808::Terminal,
    serial: u16,
}

impl Sender {
    fn to(address: &str) -> Sender {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Sender {
            socket,
            speaker: jt808::Terminal {
                edition: Edition::Y2013,
                phone: 13_900_000_007,
            },
            serial: 0,
        }
    }

    /// Reports, again and again until it is answered.
    fn report(&mut self, time_s: u32) {
        let mut body = Vec::new();
        jt808::location(&report(time_s), &mut body);
        self.serial += 1;
        let mut wire = Vec::new();
        self.speaker
            .message(&mut wire, LOCATION, self.serial, &body);
        wait_for("an answer", || {
            self.socket.send(&wire).unwrap();
            self.hear()
        });
    }

    fn hear(&mut self) -> Option<()> {
        let mut bytes = [0; 100];
        let count = match self.socket.recv(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        };
        let mut found = None;
        let read = Reader::default().read(&bytes[..count], |answer| {
            let mine = |serial| serial == self.serial;
            if matches!(answer, Answer::General { serial, result: 0, .. } if mine(serial)) {
                found = Some(());
            }
        });
        read.expect("answers are well formed");
        found
    }
}

fn shown(node: &Node, device: &str) -> Option<String> {
    let (status, body) = web::get(&node.address("dispatcher"), "/v1/tracks");
    assert_eq!(status, 200);
    let tracks: Value = serde_json::from_str(&body).unwrap();
    let mut tracks = tracks["features"].as_array().unwrap().iter();
    let track = tracks.find(|track| track["properties"]["device"] == device)?;
    Some(track["properties"]["time"].as_str().unwrap().to_owned())
}

#[test]
fn datagrams_are_answered_and_shown_also_after_their_ingest_was_killed() {
    let changes = [("\"teltonika\"", "\"jt808\""), ("[::]:5027", "127.0.0.1:0")];
    let node = Node::start(&(example::of("udp", &changes) + SERVERS));
    let mut sender = Sender::to(&node.address("sensor:datagrams"));
    let time_s = now_s() - 60;
    sender.report(time_s);
    let first = wait_for("the track", || shown(&node, "13900000007"));
    assert!(node.signal("ingest", Signal::SIGKILL));
    sender.report(time_s + 10);
    wait_for("the next fix", || {
        shown(&node, "13900000007").filter(|time| *time > first)
    });
}

#[test]
fn a_receiver_that_names_nobody_is_shown_as_its_sensor_says() {
    let node = Node::start(&format!("{QUIET}{NMEA}"));
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    let to = node.address("sensor:mast");
    // A moment of the past; the sum is the XOR of what stands between `$` and `*`.
    let text = "GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A";
    let check = text.bytes().fold(0, |sum, byte| sum ^ byte);
    let sentence = format!("${text}*{check:02X}\r\n");
    socket.send_to(sentence.as_bytes(), &to).unwrap();
    wait_for("the receiver", || shown(&node, "mast-1"));
}
