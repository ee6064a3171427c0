//! A vehicle with two receivers, with all processes.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use device_sim::delivery::time_ms;
use device_sim::dialect::{Dialect, Kind, Name};
use device_sim::nmea::Speaker;
use device_sim::report::Report;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::dispatched::{Socket, hear, hear_snapshot, now_ms};
use crate::node::{Node, wait_for};
use crate::terminal::{now_s, report};
use crate::{example, web};

const REST: &str = r#"
[dispatcher]
listen = "127.0.0.1:0"

[observer]
listen = "127.0.0.1:0"
"#;

/// What a better receiver may be silent for, and must have been good for, in the example, ms.
const AFTER_MS: i64 = 5_000;

/// The two are 11 m apart, so that each position says whose it is.
const DASH_LAT: f64 = 48.137254;
const ROOF_LAT: f64 = 48.137154;

/// What a receiver says of a moment.
fn epoch(report: &Report) -> Vec<u8> {
    let mut bytes = Vec::new();
    let name = Name {
        number: 0,
        awaited: false,
    };
    let mut reports = std::iter::once(report);
    Speaker::new("").write(name, Kind::Live, &mut reports, &mut bytes);
    bytes
}

/// Both receivers, once a second, the one on the roof while it is switched on; until the test ends.
fn feed(node: &Node, roof_on: Arc<AtomicBool>) {
    let roof = UdpSocket::bind("127.0.0.1:0").unwrap();
    roof.connect(node.address("sensor:roof")).unwrap();
    let mut dash = TcpStream::connect(node.address("sensor:dash")).unwrap();
    let mut said_s = 0;
    std::thread::spawn(move || {
        // Nobody listens any more when the node is gone.
        let mut heard = true;
        while heard {
            std::thread::sleep(Duration::from_millis(20));
            let here = report(now_s());
            if here.time_s == said_s {
                continue;
            }
            said_s = here.time_s;
            let there = Report {
                lat_e6: here.lat_e6 + 100,
                ..here
            };
            if roof_on.load(Ordering::Relaxed) {
                heard &= roof.send(&epoch(&here)).is_ok();
            }
            heard &= dash.write_all(&epoch(&there)).is_ok();
        }
    });
}

/// Hears tracks until one comes in by that sensor.
fn hear_until(socket: &mut Socket, sensor: &str, tracks: &mut Vec<Value>) {
    wait_for(&format!("a track by {sensor}"), || {
        let message = hear(socket).expect("the stream goes on");
        assert_eq!(message["type"], "tracks", "nothing happened to the vehicle");
        let new = message["tracks"].as_array().unwrap();
        tracks.extend(new.iter().cloned());
        new.iter()
            .any(|track| track["sensor"] == sensor)
            .then_some(())
    });
}

fn ms(track: &Value, member: &str) -> i64 {
    time_ms(track[member].as_str().unwrap()).unwrap()
}

#[test]
fn the_next_receiver_takes_over_and_the_better_one_takes_back() {
    let listen = "\"127.0.0.1:0\"";
    let changes = [("\"0.0.0.0:10110\"", listen), ("\"0.0.0.0:10111\"", listen)];
    let config = example::of("Several receivers of one vehicle", &changes);
    let node = Node::start(&format!("{config}{REST}"));
    let roof_on = Arc::new(AtomicBool::new(true));
    feed(&node, Arc::clone(&roof_on));
    let view = node.address("dispatcher");
    let shown_by = || {
        let shown = web::get_json(&view, "/v1/tracks");
        let sensor = &shown["features"][0]["properties"]["sensor"];
        sensor.as_str().map(str::to_owned)
    };
    wait_for("the better receiver", || {
        shown_by().filter(|sensor| sensor == "roof")
    });

    let mut socket = web::subscribe(&view);
    let mut tracks = hear_snapshot(&mut socket);
    hear_until(&mut socket, "roof", &mut tracks);
    node.await_figure(
        "classifier",
        "ringway_frames_rejected_total{reason=\"outranked\"}",
        1.0,
    );
    roof_on.store(false, Ordering::Relaxed);
    hear_until(&mut socket, "dash", &mut tracks);
    // Its successor knows who is used.
    assert!(node.signal("classifier", Signal::SIGKILL));
    let back_ms = now_ms();
    roof_on.store(true, Ordering::Relaxed);
    hear_until(&mut socket, "roof", &mut tracks);
    assert_eq!(shown_by().as_deref(), Some("roof"));

    for track in &tracks {
        let expected = match track["sensor"].as_str().unwrap() {
            "roof" => ROOF_LAT,
            "dash" => DASH_LAT,
            other => panic!("{other}"),
        };
        let lat = track["lat"].as_f64().unwrap();
        assert!((lat - expected).abs() < 5e-6, "{track}");
    }
    assert!(tracks.is_sorted_by_key(|track| ms(track, "time")));
    let runs: Vec<&[Value]> = tracks.chunk_by(|a, b| a["sensor"] == b["sensor"]).collect();
    let [first, second, third] = runs[..] else {
        panic!("more than two changes: {runs:?}");
    };
    let (last, next) = (first.last().unwrap(), &second[0]);
    assert!(ms(next, "received") - ms(last, "received") > AFTER_MS);
    assert!(ms(&third[0], "received") - back_ms >= AFTER_MS);
    for to in ["worse", "better"] {
        let name = format!("ringway_fail_overs_total{{to={to:?}}}");
        assert!(node.figure("classifier", &name) >= 1.0, "{name}");
    }
}
