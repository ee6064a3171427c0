//! A good fleet beside connections that send garbage to the same port, from the same address.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use device_sim::fleet::{Options, run};
use device_sim::roads::Roads;
use device_sim::schedule::Pace;
use device_sim::town;

use crate::aside::block_on;
use crate::node::{DEADLINE, Node, QUIET};

const DEVICES: u32 = 50;
const GARBAGE: u64 = 20;
const LENGTH: Duration = Duration::from_secs(3);

/// How long a garbage connection waits to be closed before it tries another one.
const PATIENCE: Duration = Duration::from_millis(300);

/// Connects again and again and sends what is hardly ever a message: flags of JT/T 808 with noise between them.
fn disturb(address: &str, seed: u64, over: &AtomicBool) {
    let mut state = seed;
    let mut noise = move || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let give_up = Instant::now() + DEADLINE;
    while !over.load(Ordering::Relaxed) && Instant::now() < give_up {
        let Ok(mut stream) = TcpStream::connect(address) else {
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let garbage: Vec<u8> = (0..64)
            .flat_map(|_| [&[0x7e], &noise()[..]].concat())
            .collect();
        // Closed by the other side or not read yet: both are what garbage can expect.
        let _ = stream.write_all(&garbage);
        let _ = stream.read(&mut [0; 64]);
    }
}

#[test]
fn garbage_is_closed_and_a_fleet_beside_it_is_answered() {
    let seed = 31;
    eprintln!("seed {seed}");
    let node = Node::start(QUIET);
    let address = node.address("sensor:trackers");
    let options = Options {
        pace: Pace::Clock {
            rate: 2.0,
            speed: 1.0,
        },
        length: Some(LENGTH),
        grace: DEADLINE,
        ..Options::new(seed, DEVICES, address.parse().unwrap())
    };
    let roads = Roads::new(town::generate(seed)).unwrap();
    let over = AtomicBool::new(false);
    let check = std::thread::scope(|scope| {
        for number in 0..GARBAGE {
            let (address, over) = (&address, &over);
            scope.spawn(move || disturb(address, seed + number, over));
        }
        let check = block_on(run(roads, options, std::future::pending()));
        over.store(true, Ordering::Relaxed);
        check.unwrap()
    });
    let summary = &check.summary;
    assert!(summary.frames_sent >= u64::from(DEVICES), "{check:#?}");
    assert_eq!(summary.frames_answered, summary.frames_sent, "{check:#?}");
    assert_eq!(check.refused, 0, "{check:#?}");
    let closed = "ringway_connections_closed_total{reason=\"errors\"}";
    node.await_figure("trackers", closed, GARBAGE as f64);
}
