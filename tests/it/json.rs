//! Lines of JSON over a connection: custody up to the program that wrote them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::aside;
use crate::mailbox::Mailbox;
use crate::node::{DEADLINE, Node, QUIET, wait_for};
use crate::terminal::now_s;

/// A program with a connection.
struct Program {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Program {
    fn connect(node: &Node) -> Program {
        let stream = TcpStream::connect(node.address("sensor:trackers")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Program {
            answers: BufReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    fn say(&mut self, line: &Value) {
        writeln!(self.stream, "{line}").unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

fn alarm(id: u32) -> Value {
    let time_ms = (u64::from(now_s()) - 60) * 1000;
    json!({"device": format!("bus-{id}"), "id": id, "time": time_ms, "lat": 48.1, "lon": 11.5, "alarms": ["sos"]})
}

/// A node for lines, with an uplink.
fn node(broker: &device_sim::broker::Handle) -> Node {
    let uplink = format!("\n[uplink]\nbroker = \"{}\"\n", broker.url());
    Node::start(&(QUIET.replace("jt808", "json") + &uplink))
}

#[test]
fn answers_name_what_they_answer_and_one_that_waits_holds_up_no_other() {
    let broker = aside::broker();
    let node = node(&broker);
    let mut program = Program::connect(&node);
    program.say(&alarm(1));
    assert_eq!(program.hear(), json!({"safe": 1}));
    assert!(node.signal("uplink", Signal::SIGSTOP));
    program.say(&alarm(2));
    program.say(&json!({"device": "bus-9", "id": "bad", "lat": 91, "lon": 0}));
    program.say(&json!({"device": "bus-9", "id": "place", "lat": 48.1, "lon": 11.5}));
    program.say(&json!({"device": "bus-9", "id": "status", "attributes": {"ignition": true}}));
    let mut heard: Vec<Value> = (0..3).map(|_| program.hear()).collect();
    heard.sort_by_key(Value::to_string);
    assert_eq!(heard[0]["refused"], "bad");
    assert_eq!(
        heard[1..],
        [json!({"safe": "place"}), json!({"safe": "status"})]
    );
    assert!(node.signal("uplink", Signal::SIGCONT));
    assert_eq!(program.hear(), json!({"safe": 2}));
}

#[test]
fn a_program_that_sends_again_what_was_not_answered_loses_nothing_and_invents_nothing() {
    let broker = aside::broker();
    let node = node(&broker);
    let mailbox = Mailbox::open(broker.addr, "ringway/v1/+/+/alarm/#");
    let alarms: Vec<Value> = (1..=50).map(alarm).collect();
    let mut waiting = alarms.clone();
    let mut killed = 0;
    wait_for("all answers", || {
        let mut program = Program::connect(&node);
        for alarm in &waiting {
            // The other side may be killed by now.
            if writeln!(program.stream, "{alarm}").is_err() {
                break;
            }
        }
        if killed < 3 {
            killed += u32::from(node.signal(
                ["ingest", "classifier", "uplink"][killed as usize],
                Signal::SIGKILL,
            ));
        }
        program
            .stream
            .set_read_timeout(Some(std::time::Duration::from_secs(2)))
            .unwrap();
        let mut line = String::new();
        while !waiting.is_empty() && matches!(program.answers.read_line(&mut line), Ok(1..)) {
            let answer: Value = serde_json::from_str(&line).unwrap();
            waiting.retain(|alarm| alarm["id"] != answer["safe"]);
            line.clear();
        }
        (waiting.is_empty() && killed == 3).then_some(())
    });
    let mut ids = std::collections::BTreeMap::new();
    while ids.len() < alarms.len() {
        let letter = mailbox.find("an alarm", |letter| letter.payload["phase"] == "raise");
        let (device, id) = (&letter.payload["device"], &letter.payload["id"]);
        let before = ids.insert(device.to_string(), id.clone());
        assert!(
            before.is_none_or(|before| before == *id),
            "another id for the same press of {device}"
        );
    }
}
