//! Requests of programs and phones, with all processes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use device_sim::broker;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::aside;
use crate::example;
use crate::mailbox::Mailbox;
use crate::node::{DEADLINE, Node, wait_for};
use crate::terminal::now_s;
use crate::web;

const ALARMS: &str = "ringway/v1/+/+/alarm/#";

/// Long enough that an answer which is wrongly given would be there.
const SILENCE: Duration = Duration::from_millis(300);

const SERVERS: &str =
    "[dispatcher]\nlisten = \"127.0.0.1:0\"\n[observer]\nlisten = \"127.0.0.1:0\"\n";

/// A node with the sensor that docs/sensors.md shows.
fn node(more: &str) -> Node {
    let sensor = example::of("http", &[("[::]:5080", "127.0.0.1:0")]);
    Node::start(&format!("{sensor}{SERVERS}{more}"))
}

fn uplink(broker: &broker::Handle) -> String {
    format!("[uplink]\nbroker = \"{}\"\n", broker.url())
}

/// A report of a moment ago.
fn place(device: &str, id: u32) -> Value {
    let time_ms = (u64::from(now_s()) - 5) * 1000 + u64::from(id);
    json!({"device": device, "id": id, "time": time_ms, "lat": 48.137154, "lon": 11.576124})
}

fn alarm(device: &str, id: u32) -> Value {
    let mut report = place(device, id);
    report["alarms"] = json!(["sos"]);
    report
}

/// A client that does as it is told.
struct Client(TcpStream);

impl Client {
    fn of(node: &Node) -> Client {
        let stream = TcpStream::connect(node.address("sensor:partners")).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(stream)
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    fn post(&mut self, body: &str) {
        let length = body.len();
        self.say(format!(
            "POST /any/path HTTP/1.1\r\nHost: node\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
    }

    /// The next response: its head, and its body.
    fn hear(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.split("Content-Length: ").nth(1).map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse().unwrap()
        });
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// The status of the next response, and its body.
    fn status(&mut self) -> (u16, String) {
        let (head, body) = self.hear();
        (head[9..12].parse().unwrap(), body)
    }

    fn is_silent(&mut self) -> bool {
        self.0.set_read_timeout(Some(SILENCE)).unwrap();
        let got = self.0.peek(&mut [0]);
        self.0.set_read_timeout(Some(DEADLINE)).unwrap();
        got.is_err()
    }
}

fn is_shown(node: &Node, device: &str) -> Option<()> {
    let tracks = web::get_json(&node.address("dispatcher"), "/v1/tracks");
    let mut tracks = tracks["features"].as_array().unwrap().iter();
    tracks
        .any(|track| track["properties"]["device"] == device)
        .then_some(())
}

#[test]
fn what_curl_posts_is_answered_and_shown() {
    if !Path::new("/usr/bin/curl").exists() {
        // Written past the test runner, which keeps the words of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: 1 test, what curl posts: /usr/bin/curl is not installed"
        );
        return;
    }
    let node = node("");
    let curl = |arguments: &[&str], body: &str| {
        let url = format!("http://{}/", node.address("sensor:partners"));
        let run = Command::new("/usr/bin/curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "30",
                "--write-out",
                "%{http_code}",
            ])
            .args(arguments)
            .args(["--data-binary", body, &url])
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
        String::from_utf8(run.stdout).unwrap()
    };
    assert_eq!(
        curl(&[], &place("van-1", 7).to_string()),
        "{\"safe\":7}\n200"
    );
    wait_for("the van", || is_shown(&node, "van-1"));
    let chunked = ["--header", "Transfer-Encoding: chunked"];
    let pretty = format!(
        "{:#}",
        json!([place("van-2", 1), {"lat": 48.2, "lon": 11.5}])
    );
    assert_eq!(curl(&chunked, &pretty), "{\"safe\":1}\n200");
    let waits = ["--header", "Expect: 100-continue"];
    assert_eq!(
        curl(&waits, "{\"device\":\"van-3\",\"lat\":1,\"lon\":2}"),
        "204"
    );
    let old = ["--http1.0"];
    assert_eq!(
        curl(&old, &place("van-4", 2).to_string()),
        "{\"safe\":2}\n200"
    );
    let refused = curl(&[], "{\"device\":\"van-5\",\"id\":3,\"speed\":1}");
    assert!(
        refused.starts_with("{\"refused\":3,") && refused.ends_with("\n400"),
        "{refused}"
    );
    assert_eq!(curl(&["--request", "GET"], ""), "404");
}

#[test]
fn an_alarm_is_with_the_broker_once_under_one_id_however_often_it_is_posted() {
    let broker = aside::broker();
    let node = node(&uplink(&broker));
    let mailbox = Mailbox::open(broker.addr, ALARMS);
    let body = alarm("bus-17", 1).to_string();
    for _ in 0..2 {
        let mut client = Client::of(&node);
        client.post(&body);
        assert_eq!(client.status(), (200, "{\"safe\":1}\n".to_owned()));
    }
    assert!(node.signal("ingest", Signal::SIGKILL));
    wait_for("an answer by the next ingest", || {
        let mut client = Client::of(&node);
        client
            .0
            .write_all(
                format!(
                    "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            )
            .ok()?;
        let mut first = [0; 12];
        client.0.read_exact(&mut first).ok()?;
        (first == *b"HTTP/1.1 200").then_some(())
    });
    let mut client = Client::of(&node);
    client.post(&alarm("bus-18", 2).to_string());
    assert_eq!(client.status().0, 200);
    let first = mailbox.next().payload;
    assert_eq!(
        (&first["device"], &first["kind"]),
        (&json!("bus-17"), &json!("sos"))
    );
    assert_eq!(
        mailbox
            .find("the next alarm", |letter| letter.payload["phase"]
                == "raise")
            .payload["device"],
        "bus-18"
    );
}

#[test]
fn requests_sent_ahead_and_byte_by_byte_are_answered_in_order() {
    let node = node("");
    let mut client = Client::of(&node);
    for id in 1..=20 {
        client.post(&place("fast", id).to_string());
        client.say("GET / HTTP/1.1\r\n\r\n");
    }
    for id in 1..=20 {
        assert_eq!(client.status(), (200, format!("{{\"safe\":{id}}}\n")));
        assert_eq!(client.status().0, 404);
    }
    let body = place("slow", 1).to_string();
    let (first, last) = body.split_at(10);
    let request = format!(
        "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{first}\r\n{:x};x=y\r\n{last}\r\n0\r\nT: x\r\n\r\n",
        last.len()
    );
    for byte in request.as_bytes() {
        client.say([*byte]);
    }
    assert_eq!(client.status(), (200, "{\"safe\":1}\n".to_owned()));
    // Waits for the word to go on, as HTTP asks for.
    let length = body.len();
    client.say(format!(
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(client.status().0, 100);
    client.say(&body);
    assert_eq!(client.status().0, 200);
}

#[test]
fn what_is_too_long_or_no_request_is_told_so_and_others_are_served() {
    let node = node("");
    let mut client = Client::of(&node);
    client.post(&" ".repeat(70_000));
    client.post(&place("a", 1).to_string());
    let (head, _) = client.hear();
    assert!(
        head.starts_with("HTTP/1.1 413 ") && head.contains("Connection: close"),
        "{head}"
    );
    assert_eq!(client.status().0, 200, "the long body was passed over");
    let mut stranger = Client::of(&node);
    stranger.say("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 30\r\n\r\n");
    assert_eq!(stranger.status().0, 400);
    stranger.say("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    assert!(
        stranger.is_silent(),
        "nothing behind it is taken for a request"
    );
    client.post(&place("a", 2).to_string());
    assert_eq!(client.status().0, 200);
}

#[test]
fn while_the_uplink_stands_still_alarms_wait_for_their_answer_and_positions_do_not() {
    let broker = aside::broker();
    let node = node(&uplink(&broker));
    let mut client = Client::of(&node);
    client.post(&alarm("bus-1", 1).to_string());
    assert_eq!(client.status().0, 200);
    assert!(node.signal("uplink", Signal::SIGSTOP));
    client.post(&alarm("bus-2", 2).to_string());
    let mut other = Client::of(&node);
    other.post(&place("bus-3", 3).to_string());
    assert_eq!(other.status(), (200, "{\"safe\":3}\n".to_owned()));
    assert!(client.is_silent(), "it is not safe yet");
    assert!(node.signal("uplink", Signal::SIGCONT));
    assert_eq!(client.status(), (200, "{\"safe\":2}\n".to_owned()));
}

/// Lines of devices that look for no answer: as many alarms as fill the smallest journal there may be.
fn fill(node: &Node) -> TcpStream {
    let mut lines = String::new();
    for device in 0..1_200 {
        let mut report = place(&format!("guest-{device}"), 1);
        report["alarms"] = json!(["collision", "fall", "idling", "parking"]);
        report.as_object_mut().unwrap().remove("id");
        lines += &format!("{report}\n");
    }
    let mut stream = TcpStream::connect(node.address("sensor:guests")).unwrap();
    stream.write_all(lines.as_bytes()).unwrap();
    stream
}

#[test]
fn a_full_journal_is_503_and_the_same_again_is_200_when_there_is_room() {
    // The broker comes late, so its address has to be known before.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap().to_string();
    drop(free);
    let node = node(&format!(
        "[[sensor]]\nname = \"guests\"\ninput = \"tcp\"\nprotocol = \"json\"\nlisten = \"127.0.0.1:0\"\n\
         [uplink]\nbroker = \"mqtt://{listen}\"\njournal_size_max = \"1MiB\"\n"
    ));
    let _guests = fill(&node);
    let mut client = Client::of(&node);
    let mut number = 0;
    let (body, head, line) = wait_for("a refusal", || {
        number += 1;
        let body = alarm(&format!("bus-{number}"), number).to_string();
        client.post(&body);
        let (head, line) = client.hear();
        head.starts_with("HTTP/1.1 503 ")
            .then_some((body, head, line))
    });
    assert_eq!(line, "{\"reason\":\"there is no room\"}\n");
    assert!(
        head.contains("\r\nRetry-After: 5\r\n") && !head.contains("close"),
        "{head}"
    );
    client.post(&place("bus-x", 1).to_string());
    assert_eq!(client.status().0, 200, "a position needs no room");

    let options = broker::Options {
        listen,
        ..broker::Options::default()
    };
    let broker = aside::broker_with(options);
    let mailbox = Mailbox::open(broker.addr, ALARMS);
    wait_for("room", || {
        client.post(&body);
        (client.status().0 == 200).then_some(())
    });
    let device = format!("bus-{number}");
    mailbox.find("the alarm", |letter| {
        letter.payload["device"] == device.as_str()
    });
}

#[test]
fn phones_report_over_http_as_they_do_over_tcp() {
    let sensor = example::of(
        "http",
        &[("[::]:5080", "127.0.0.1:0"), ("\"json\"", "\"osmand\"")],
    );
    let node = Node::start(&format!("{sensor}{SERVERS}"));
    let mut client = Client::of(&node);
    client.say("GET /?id=phone-1&lat=48.1&lon=11.5 HTTP/1.1\r\n\r\n");
    assert_eq!(client.status(), (200, String::new()));
    wait_for("the phone", || is_shown(&node, "phone-1"));
}
