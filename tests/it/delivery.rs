//! Alarms through a real broker, the answers that wait for them, and what the node says about itself there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use device_sim::delivery::time_ms;
use device_sim::fleet::{Options, run};
use device_sim::roads::Roads;
use device_sim::scenario::{KINDS, Scenario};
use device_sim::schedule::Pace;
use device_sim::town;
use nix::sys::signal::Signal;
use rumqttc::v5::mqttbytes::QoS;
use serde_json::{Value, json};

use crate::aside::block_on;
use crate::mailbox::{Letter, Mailbox};
use crate::mosquitto::Mosquitto;
use crate::node::{Node, QUIET, wait_for};
use crate::terminal::{SOS, Terminal, now_s, report};

const ALARMS: &str = "ringway/v1/+/+/alarm/#";
const STATUS: &str = "ringway/v1/test/n1/status";

/// The fleet drives through the first scene, in which everything happens, this many times faster than the clock.
const SPEED: f64 = 4.0;
const LENGTH: Duration = Duration::from_secs(6);
const DEVICES: u32 = 40;

fn with_broker(broker: &Mosquitto) -> String {
    format!("{QUIET}\n[uplink]\nbroker = \"{}\"\n", broker.url())
}

fn text<'a>(payload: &'a Value, member: &str) -> &'a str {
    payload[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member} of {payload}"))
}

/// Holds a message against the documented form; the sequence number is returned.
fn is_as_documented(letter: &Letter) -> u64 {
    let payload = &letter.payload;
    let topic = format!(
        "ringway/v1/test/n1/alarm/{}/{}",
        text(payload, "device"),
        text(payload, "kind")
    );
    assert_eq!(letter.topic, topic);
    assert_eq!(letter.quality, QoS::AtLeastOnce);
    assert!(!letter.retained);
    assert_eq!(letter.content_type.as_deref(), Some("application/json"));
    let seq = payload["seq"].as_u64().unwrap();
    let expected = BTreeMap::from([
        ("id", text(payload, "id").to_owned()),
        ("seq", seq.to_string()),
        ("traceparent", text(payload, "traceparent").to_owned()),
    ]);
    let user: BTreeMap<&str, String> = letter
        .user
        .iter()
        .map(|(key, value)| (&key[..], value.clone()))
        .collect();
    assert_eq!(user, expected);

    let members: BTreeSet<&str> = payload
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let documented = [
        "id",
        "journal",
        "seq",
        "site",
        "node",
        "device",
        "sensor",
        "kind",
        "phase",
        "severity",
        "rule",
        "start",
        "time",
        "received",
        "published",
        "late",
        "lat",
        "lon",
        "altitude_m",
        "speed_mps",
        "course_deg",
        "trace_id",
        "traceparent",
    ];
    assert_eq!(members, BTreeSet::from(documented));
    for (member, length) in [("id", 32), ("trace_id", 32)] {
        let id = text(payload, member);
        let lower_hex = id
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        assert!(id.len() == length && lower_hex, "{member}: {id}");
    }
    // W3C Trace Context: version, trace id, parent id, flags.
    let parts: Vec<&str> = text(payload, "traceparent").split('-').collect();
    assert_eq!(
        (parts.len(), parts[0], parts[2].len()),
        (4, "00", 16),
        "{parts:?}"
    );
    assert_eq!(
        (parts[1], parts[3]),
        (text(payload, "trace_id"), "01"),
        "{parts:?}"
    );
    assert_ne!(parts[2], "0000000000000000");
    let moment = |member: &str| time_ms(text(payload, member)).unwrap();
    assert!(moment("start") <= moment("time"), "{payload}");
    assert!(moment("received") <= moment("published"), "{payload}");
    seq
}

#[test]
fn a_real_broker_gets_exactly_the_alarms_of_a_fleet() {
    let Some(broker) = Mosquitto::running("alarms of a fleet") else {
        return;
    };
    let seed = 20;
    eprintln!("seed {seed}");
    let roads = Roads::new(town::generate(seed)).unwrap();
    let scenario = Scenario::new(seed, DEVICES, None, &roads);
    let node = Node::start(&format!("{}{}", with_broker(&broker), scenario.config()));
    let mailbox = Mailbox::open(broker.address(), ALARMS);
    let target = node.address("sensor:trackers").parse().unwrap();
    let options = Options {
        pace: Pace::Clock {
            rate: SPEED,
            speed: SPEED,
        },
        length: Some(LENGTH),
        mqtt: Some(broker.url()),
        stream: Some(format!("ws://{}/v1/stream", node.address("dispatcher"))),
        grace: crate::node::DEADLINE,
        ..Options::new(seed, DEVICES, target)
    };
    let check = block_on(run(roads, options, std::future::pending())).unwrap();
    assert!(check.summary.ok, "{check:#?}");
    assert_eq!((check.reordered, check.refused), (0, 0), "{check:#?}");
    assert_eq!(
        check.summary.alarms_delivered, check.summary.alarms_raised,
        "{check:#?}"
    );

    let mut kinds = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut newest = BTreeMap::new();
    while (ids.len() as u64) < check.summary.alarms_delivered {
        let letter = mailbox.next();
        let seq = is_as_documented(&letter);
        let device = text(&letter.payload, "device").to_owned();
        if ids.insert(text(&letter.payload, "id").to_owned()) {
            let before = newest.insert(device, seq);
            assert!(before < Some(seq), "{letter:?} after {before:?}");
        }
        let (kind, phase) = (
            text(&letter.payload, "kind"),
            text(&letter.payload, "phase"),
        );
        kinds.insert(format!("{kind} {phase}"));
    }
    let raised = KINDS.map(|kind| format!("{kind} raise"));
    let cleared = ["power_cut", "overspeed", "geofence"].map(|kind| format!("{kind} clear"));
    let shown: BTreeSet<String> = raised.into_iter().chain(cleared).collect();
    assert_eq!(kinds, shown);
}

#[test]
fn an_alarm_says_what_the_device_said() {
    let Some(broker) = Mosquitto::running("an alarm's message") else {
        return;
    };
    let node = Node::start(&with_broker(&broker));
    let mailbox = Mailbox::open(broker.address(), ALARMS);
    let mut terminal = Terminal::connect(&node.address("sensor:trackers"), 13_900_000_007);
    let time_s = now_s() - 60;
    let mut pressed = report(time_s);
    pressed.alarms = SOS;
    let serial = terminal.send(&pressed);
    let letter = mailbox.next();
    is_as_documented(&letter);
    let expected = json!({
        "site": "test", "node": "n1", "device": "13900000007", "sensor": "trackers",
        "kind": "sos", "phase": "raise", "severity": "critical", "rule": "device", "late": false,
        "lat": 48.137154, "lon": 11.576124, "altitude_m": 519.0, "speed_mps": 10.0,
        "course_deg": 90.0,
    });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(letter.payload[member], *value, "{member}");
    }
    for member in ["start", "time"] {
        let stated = time_ms(text(&letter.payload, member)).unwrap();
        assert_eq!(stated, i64::from(time_s) * 1000, "{member}");
    }
    terminal.await_answer(serial);
}

#[test]
fn an_answer_waits_for_its_alarms_to_be_safe_unless_it_need_not() {
    let early =
        QUIET
            .replacen("trackers", "early", 1)
            .replacen("listen", "ack = \"received\"\nlisten", 1);
    let early = early.split("[dispatcher]").next().unwrap();
    let node = Node::start(&format!("{early}{QUIET}"));
    let safe = node.address("sensor:trackers");
    let mut plain = Terminal::connect(&safe, 13_900_000_001);
    let mut alarmed = Terminal::connect(&safe, 13_900_000_002);
    let mut early = Terminal::connect(&node.address("sensor:early"), 13_900_000_003);
    let time_s = now_s() - 60;
    let mut pressed = report(time_s);
    pressed.alarms = SOS;

    assert!(node.signal("uplink", Signal::SIGSTOP));
    let held = alarmed.send(&pressed);
    let raised = r#"ringway_events_total{phase="raise"}"#;
    node.await_figure("classifier", raised, 1.0);
    // Everything that came after it on the same sensor is answered.
    for second in 0..10 {
        let serial = plain.send(&report(time_s + second));
        plain.await_answer(serial);
    }
    let at_once = early.send(&pressed);
    early.await_answer(at_once);
    node.await_figure("classifier", raised, 2.0);
    alarmed.beat();
    assert!(!alarmed.is_answered(held), "answered before it was on disk");

    assert!(node.signal("uplink", Signal::SIGCONT));
    alarmed.await_answer(held);
    wait_for("both alarms in the journal", || {
        (node.figure("uplink", "ringway_journal_records") == 2.0).then_some(())
    });
}

fn state(letter: &Letter) -> &str {
    text(&letter.payload, "state")
}

#[test]
fn the_status_is_retained_and_the_broker_speaks_for_a_dead_uplink() {
    let Some(broker) = Mosquitto::running("the node's status") else {
        return;
    };
    let mut node = Node::start(&with_broker(&broker));
    let mailbox = Mailbox::open(broker.address(), STATUS);
    let born = mailbox.find("online", |letter| state(letter) == "online");
    assert_eq!(text(&born.payload, "version"), env!("CARGO_PKG_VERSION"));
    let session = text(&born.payload, "session").to_owned();
    assert!(!session.is_empty());
    let retained = || Mailbox::open(broker.address(), STATUS).next();
    assert!(retained().retained);
    assert_eq!(retained().payload, born.payload);
    // It was said before anybody subscribed, which is no alarm that nobody got.
    assert_eq!(node.figure("uplink", "ringway_publish_refused_total"), 0.0);
    assert!(!node.log().contains("does not deliver"), "{}", node.log());

    assert!(node.signal("uplink", Signal::SIGKILL));
    let will = mailbox.find("the will", |letter| state(letter) == "offline");
    assert_eq!(
        text(&will.payload, "session"),
        session,
        "the will is the dead one's"
    );
    let again = mailbox.find("online again", |letter| state(letter) == "online");
    assert_ne!(text(&again.payload, "session"), session);

    assert_eq!(node.terminate().code(), Some(0), "{}", node.log());
    let said: Vec<Letter> = {
        let mut said = vec![mailbox.next()];
        while said.last().map(state) != Some("offline") {
            said.push(mailbox.next());
        }
        said
    };
    let states: Vec<&str> = said.iter().map(state).collect();
    assert_eq!(states, ["draining", "offline"]);
    let left = retained();
    assert!(left.retained);
    assert_eq!(state(&left), "offline");
}
