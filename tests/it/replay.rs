//! Recorded drives, replayed faster than they were driven: every epoch with a fix reaches a subscriber, in order and
//! with its position.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::aside::block_on;
use crate::dispatched::{Socket, hear, hear_snapshot};
use crate::example;
use crate::node::Node;
use crate::recording::{Epoch, drive, epochs, recorded};
use crate::web;

const CAR: &str = "tracks/mtv_car_f9k_1hz.nmea";

/// Times faster than recorded: half an hour in a few seconds.
const SPEED: f64 = 500.0;

/// Positions cross the node in 1e-7 degree.
const DEGREES_OFF_MAX: f64 = 1e-7;

const SERVERS: &str =
    "\n[dispatcher]\nlisten = \"127.0.0.1:0\"\n\n[observer]\nlisten = \"127.0.0.1:0\"\n";

const BY_TCP: &str = r#"
[[sensor]]
name = "receiver"
input = "tcp"
protocol = "nmea"
device = "car-1"
listen = "127.0.0.1:0"
"#;

fn by_file(path: &Path) -> String {
    let (path, speed) = (format!("{path:?}"), format!("speed = {SPEED:?}"));
    let changes = [
        ("\"drive\"", "\"receiver\""),
        ("\"van-7\"", "\"car-1\""),
        ("\"drive.nmea\"", &path),
        ("speed = 10.0", &speed),
    ];
    example::of("file", &changes) + SERVERS
}

fn epoch_of(track: &Value) -> Epoch {
    assert_eq!(track["device"], "car-1");
    assert_eq!(
        track.get("conflated"),
        None,
        "a subscriber that keeps up misses nothing"
    );
    Epoch {
        time_ms: device_sim::delivery::time_ms(track["time"].as_str().unwrap()).unwrap(),
        lat: track["lat"].as_f64().unwrap(),
        lon: track["lon"].as_f64().unwrap(),
    }
}

/// Hears exactly these epochs.
fn hear_epochs(socket: &mut Socket, expected: &[Epoch]) {
    let mut expected = expected.iter();
    while expected.len() > 0 {
        let message = hear(socket).expect("the stream goes on");
        assert_eq!(message["type"], "tracks", "{message}");
        let tracks = message["tracks"].as_array().unwrap().iter();
        // Without a fix the receiver's last guess is shown, and says so.
        for track in tracks.filter(|track| track["valid"] == true) {
            let (heard, expected) = (epoch_of(track), expected.next());
            let expected = expected.unwrap_or_else(|| panic!("{heard:?} after the last"));
            assert_eq!(
                heard.time_ms, expected.time_ms,
                "{heard:?} instead of {expected:?}"
            );
            let near = |a: f64, b: f64| (a - b).abs() <= DEGREES_OFF_MAX;
            assert!(
                near(heard.lat, expected.lat),
                "{heard:?} instead of {expected:?}"
            );
            assert!(
                near(heard.lon, expected.lon),
                "{heard:?} instead of {expected:?}"
            );
        }
    }
}

/// Every epoch comes through a connection.
fn comes_by_tcp(log: PathBuf, expected: &[Epoch]) {
    let node = Node::start(&format!("{BY_TCP}{SERVERS}"));
    let mut socket = web::subscribe(&node.address("dispatcher"));
    assert_eq!(hear_snapshot(&mut socket), Vec::<Value>::new());
    let target = node.address("sensor:receiver").parse().unwrap();
    let sending =
        std::thread::spawn(move || block_on(device_sim::replay::replay(&log, target, SPEED)));
    hear_epochs(&mut socket, expected);
    sending.join().unwrap().unwrap();
}

/// Every epoch comes out of a file. The replay starts with the node, so a subscriber first gets the present epoch and
/// then all that follow; that the earlier ones passed too, the count says.
fn comes_by_file(log: &Path, expected: &[Epoch]) {
    let node = Node::start(&by_file(log));
    let mut socket = web::subscribe(&node.address("dispatcher"));
    let snapshot = hear_snapshot(&mut socket);
    let before = match &snapshot[..] {
        [] => 0,
        [track] => {
            let now = epoch_of(track);
            expected
                .iter()
                .filter(|epoch| epoch.time_ms <= now.time_ms)
                .count()
        }
        more => panic!("{more:?}"),
    };
    hear_epochs(&mut socket, &expected[before..]);
    let passed = node.figure("dispatcher", "ringway_tracks_total");
    assert!(
        passed >= expected.len() as f64,
        "{passed} of {}",
        expected.len()
    );
}

fn car() -> Option<(PathBuf, Vec<Epoch>)> {
    let path = recorded(CAR, "a recorded car drive")?;
    let log = std::fs::read(&path).unwrap();
    let epochs = epochs(&String::from_utf8_lossy(&log));
    assert!(
        epochs.len() > 1_000,
        "only {} epochs with a fix",
        epochs.len()
    );
    Some((path, epochs))
}

fn small_drive() -> (tempfile::NamedTempFile, Vec<Epoch>) {
    let (log, epochs) = drive();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), log).unwrap();
    (file, epochs)
}

#[test]
fn every_epoch_of_a_recorded_car_drive_comes_through_a_connection() {
    if let Some((log, epochs)) = car() {
        comes_by_tcp(log, &epochs);
    }
}

#[test]
fn every_epoch_of_a_recorded_car_drive_comes_out_of_a_file() {
    if let Some((log, epochs)) = car() {
        comes_by_file(&log, &epochs);
    }
}

#[test]
fn every_epoch_of_a_small_drive_comes_through_a_connection() {
    let (log, epochs) = small_drive();
    comes_by_tcp(log.path().into(), &epochs);
}

#[test]
fn every_epoch_of_a_small_drive_comes_out_of_a_file() {
    let (log, epochs) = small_drive();
    comes_by_file(log.path(), &epochs);
}
