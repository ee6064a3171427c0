//! The live stream of a whole node: what a subscriber may rely on while devices report, processes die and the node
//! drains.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Instant;

use device_sim::delivery::time_ms;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::dispatched::{Socket, hear, hear_snapshot};
use crate::node::{DEADLINE, Node, wait_for};
use crate::terminal::{Terminal, now_s, report};
use crate::web;

const NODE: &str = r#"
[[sensor]]
name = "trackers"
input = "tcp"
protocol = "jt808"
listen = "127.0.0.1:0"
ring_slots = 1024

[dispatcher]
listen = "127.0.0.1:0"
subscriber_updates_max = 5000
stalled = "10min"

[observer]
listen = "127.0.0.1:0"
"#;

/// Vehicles of the test with a slow subscriber, their reports in a round, and the rounds: more bytes than the kernel
/// keeps for a connection (4 MiB by default), and in each round fewer updates than the node keeps for a subscriber.
const VEHICLES: u64 = 20;
const ROUND_REPORTS: u32 = 50;
const ROUNDS: u32 = 25;

fn terminals(node: &Node, count: u64) -> Vec<Terminal> {
    let address = node.address("sensor:trackers");
    (1..=count)
        .map(|n| Terminal::connect(&address, 13_900_000_000 + n))
        .collect()
}

/// Sends a report and waits until it is answered.
fn tell(terminal: &mut Terminal, time_s: u32) {
    let serial = terminal.send(&report(time_s));
    terminal.await_answer(serial);
}

fn seconds(track: &Value) -> u32 {
    (time_ms(track["time"].as_str().unwrap()).unwrap() / 1000) as u32
}

/// The next tracks of the stream, alarms passed over.
fn hear_tracks(socket: &mut Socket) -> Vec<Value> {
    loop {
        let mut message = hear(socket).expect("the stream goes on");
        if message["type"] == "tracks" {
            return message["tracks"]
                .as_array_mut()
                .unwrap()
                .drain(..)
                .collect();
        }
    }
}

/// Seconds of each vehicle's fix, as a new subscriber's snapshot has them.
fn snapshot(node: &Node) -> BTreeMap<String, u32> {
    let mut socket = web::subscribe(&node.address("dispatcher"));
    let tracks = hear_snapshot(&mut socket);
    let of = |track: &Value| (track["device"].as_str().unwrap().to_owned(), seconds(track));
    tracks.iter().map(of).collect()
}

#[test]
fn the_snapshot_comes_first_and_every_update_follows_in_order() {
    let node = Node::start(NODE);
    let start_s = now_s() - 1_000;
    let mut terminals = terminals(&node, 2);
    terminals
        .iter_mut()
        .for_each(|terminal| tell(terminal, start_s));
    let view = node.address("dispatcher");
    wait_for("both vehicles in the live view", || {
        let tracks = web::get_json(&view, "/v1/tracks");
        (tracks["features"].as_array().unwrap().len() == 2).then_some(())
    });
    let mut socket = web::subscribe(&view);
    let first = hear(&mut socket).unwrap();
    assert_eq!(
        (&first["type"], &first["more"]),
        (&"snapshot".into(), &false.into())
    );
    let tracks = first["tracks"].as_array().unwrap();
    assert_eq!(tracks.len(), 2);
    let track = tracks
        .iter()
        .find(|track| track["device"] == "13900000001")
        .unwrap();
    assert_eq!(track["sensor"], "trackers");
    assert_eq!(
        (&track["lat"], &track["lon"]),
        (&48.137154.into(), &11.576124.into())
    );
    assert_eq!(
        (&track["speed_mps"], &track["course_deg"]),
        (&10.into(), &90.into())
    );
    assert_eq!(
        (&track["altitude_m"], &track["valid"]),
        (&519.into(), &true.into())
    );
    assert_eq!(track["alarms"], Value::Array(Vec::new()));
    assert_eq!(seconds(track), start_s);
    assert!(time_ms(track["received"].as_str().unwrap()).unwrap() / 1000 >= i64::from(start_s));

    for second in 1..=100 {
        terminals.iter_mut().for_each(|terminal| {
            terminal.send(&report(start_s + second));
        });
    }
    let mut last = BTreeMap::from([("13900000001", start_s), ("13900000002", start_s)]);
    while last.values().any(|&last| last < start_s + 100) {
        for track in hear_tracks(&mut socket) {
            let device = track["device"].as_str().unwrap();
            let before = last.get_mut(device).unwrap();
            assert_eq!(seconds(&track), *before + 1, "{device}");
            assert_eq!(track.get("conflated"), None);
            *before += 1;
        }
    }
}

#[test]
fn a_subscriber_that_does_not_read_gets_the_latest_and_delays_nobody() {
    let node = Node::start(NODE);
    let view = node.address("dispatcher");
    let mut slow = web::subscribe(&view);
    let mut fast = web::subscribe(&view);
    hear_snapshot(&mut slow);
    hear_snapshot(&mut fast);
    let mut terminals = terminals(&node, VEHICLES);
    let start_s = now_s() - 100_000;
    let mut time_s = start_s;
    let mut heard = BTreeMap::<String, u32>::new();
    for _ in 0..ROUNDS {
        for terminal in &mut terminals {
            for second in 1..=ROUND_REPORTS {
                terminal.send(&report(time_s + second));
            }
        }
        time_s += ROUND_REPORTS;
        // Whoever reads gets all of it before the next round begins.
        let mut left = VEHICLES as u32 * ROUND_REPORTS;
        while left > 0 {
            for track in hear_tracks(&mut fast) {
                let device = track["device"].as_str().unwrap().to_owned();
                let before = heard.insert(device, seconds(&track));
                assert_eq!(seconds(&track), before.unwrap_or(start_s) + 1, "{track}");
                left -= 1;
            }
        }
    }

    let mut told = BTreeMap::<String, (u32, u64)>::new();
    let mut conflated = 0;
    while told.len() < VEHICLES as usize || told.values().any(|&(last, _)| last < time_s) {
        for track in hear_tracks(&mut slow) {
            let (last, updates) = told
                .entry(track["device"].as_str().unwrap().to_owned())
                .or_default();
            assert!(seconds(&track) > *last, "{track}");
            *last = seconds(&track);
            let skipped = track["conflated"].as_u64().unwrap_or(0);
            conflated += skipped;
            *updates += 1 + skipped;
        }
    }
    assert!(conflated > 0, "it missed nothing, so nothing was shown");
    let all = u64::from(ROUNDS * ROUND_REPORTS);
    assert!(
        told.values().all(|&(_, updates)| updates == all),
        "{told:?}"
    );
    node.await_figure(
        "dispatcher",
        "ringway_updates_conflated_total",
        conflated as f64,
    );
    assert_eq!(
        node.figure("dispatcher", "ringway_subscribers_cut_off_total"),
        0.0
    );
}

#[test]
fn a_drain_is_announced_to_subscribers() {
    let mut node = Node::start(NODE);
    let mut socket = web::subscribe(&node.address("dispatcher"));
    hear_snapshot(&mut socket);
    node.signal_supervisor(Signal::SIGTERM);
    assert_eq!(hear(&mut socket).unwrap()["type"], "closing");
    assert_eq!(hear(&mut socket), None);
    assert_eq!(node.ended().code(), Some(0), "{}", node.log());
}

#[test]
fn after_a_killed_dispatcher_every_vehicle_is_right_without_new_frames() {
    let node = Node::start(NODE);
    let start_s = now_s() - 1_000;
    let mut terminals = terminals(&node, 3);
    terminals
        .iter_mut()
        .for_each(|terminal| tell(terminal, start_s));
    let before = node.process("dispatcher").unwrap();
    wait_for("all vehicles in the live view", || {
        (snapshot(&node).len() == 3).then_some(())
    });

    assert!(node.signal("dispatcher", Signal::SIGSTOP));
    tell(&mut terminals[0], start_s + 60);
    assert!(node.signal("dispatcher", Signal::SIGKILL));
    tell(&mut terminals[1], start_s + 60);
    wait_for("another dispatcher", || {
        node.process("dispatcher")
            .filter(|now| now.pid != before.pid && now.state == "ready")
    });
    let expected = [start_s + 60, start_s + 60, start_s];
    wait_for("every vehicle as it was last told", || {
        snapshot(&node).into_values().eq(expected).then_some(())
    });
}

#[test]
fn vehicles_whose_updates_found_the_ring_full_are_right_without_new_frames() {
    let node = Node::start(NODE);
    let view = node.address("dispatcher");
    let start_s = now_s() - 100_000;
    let mut terminals = terminals(&node, 2);
    terminals
        .iter_mut()
        .for_each(|terminal| tell(terminal, start_s));
    wait_for("both vehicles in the live view", || {
        (snapshot(&node).len() == 2).then_some(())
    });
    let mut socket = web::subscribe(&view);
    hear_snapshot(&mut socket);

    assert!(node.signal("dispatcher", Signal::SIGSTOP));
    let (still, mover) = terminals.split_at_mut(1);
    let (still, mover) = (&mut still[0], &mut mover[0]);
    let mut time_s = start_s;
    let give_up = Instant::now() + DEADLINE;
    while node.figure("classifier", "ringway_track_ring_full_total") == 0.0 {
        assert!(Instant::now() < give_up, "the ring is never full");
        let mut last = 0;
        for _ in 0..1_000 {
            time_s += 1;
            last = mover.send(&report(time_s));
        }
        mover.await_answer(last);
    }
    tell(still, start_s + 60);
    assert!(node.signal("dispatcher", Signal::SIGCONT));

    let expected = BTreeMap::from([(still.id(), start_s + 60), (mover.id(), time_s)]);
    let mut last = BTreeMap::new();
    while last != expected {
        for track in hear_tracks(&mut socket) {
            last.insert(
                track["device"].as_str().unwrap().to_owned(),
                seconds(&track),
            );
        }
    }
    assert_eq!(snapshot(&node), expected);
}

#[test]
fn tracks_are_valid_geojson() {
    let node = Node::start(NODE);
    let start_s = now_s() - 1_000;
    let mut terminals = terminals(&node, 3);
    terminals
        .iter_mut()
        .for_each(|terminal| tell(terminal, start_s));
    let view = node.address("dispatcher");
    let collection = wait_for("all vehicles in the live view", || {
        let tracks = web::get_json(&view, "/v1/tracks");
        (tracks["features"].as_array().unwrap().len() == 3).then_some(tracks)
    });
    // RFC 7946, sections 3.1.2, 3.2 and 3.3: longitude comes first.
    assert_eq!(collection["type"], "FeatureCollection");
    let mut ids = Vec::new();
    for feature in collection["features"].as_array().unwrap() {
        assert_eq!(feature["type"], "Feature");
        assert_eq!(feature["geometry"]["type"], "Point");
        assert_eq!(
            feature["geometry"]["coordinates"],
            serde_json::json!([11.576124, 48.137154])
        );
        let properties = feature["properties"].as_object().unwrap();
        assert_eq!(properties["device"], feature["id"]);
        assert!(!properties.contains_key("lat") && !properties.contains_key("lon"));
        assert_eq!(seconds(&feature["properties"]), start_s);
        ids.push(feature["id"].as_str().unwrap().to_owned());
    }
    ids.sort_unstable();
    assert_eq!(ids, ["13900000001", "13900000002", "13900000003"]);

    assert_eq!(
        web::get_json(&view, "/v1/alarms"),
        serde_json::json!({"alarms": []})
    );
    assert_eq!(web::get(&view, "/v1/roads").0, 404);
    assert_eq!(web::get(&view, "/v1/tracks/13900000001").0, 200);
    assert_eq!(web::get(&view, "/v1/tracks/nobody").0, 404);
}

#[test]
fn a_page_of_another_origin_is_refused_the_stream() {
    let node = Node::start(NODE);
    let view = node.address("dispatcher");
    let from = |origin: &str| {
        web::subscribe_as(TcpStream::connect(&view).unwrap(), &view, Some(origin)).map(drop)
    };
    assert_eq!(from("http://elsewhere.example"), Err(403));
    assert_eq!(from("null"), Err(403));
    assert_eq!(from(&format!("http://{view}")), Ok(()));
}
