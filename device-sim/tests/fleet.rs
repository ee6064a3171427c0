//! The fleet against a server that answers, and one that often does not: nothing may be given up.

// The lint spares test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device_sim::fleet::{Fleet, Options, run};
use device_sim::jt808::{Edition, Terminal};
use device_sim::ledger::Ledger;
use device_sim::random::Random;
use device_sim::roads::Roads;
use device_sim::scenario::Scenario;
use device_sim::schedule::Pace;
use device_sim::town;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// What a test waits for at most.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server of JT/T 808: registers everybody and answers everything, with faults.
#[derive(Clone, Default)]
struct Server {
    /// Location bodies of singles and batches, with repeats left out.
    taken: Arc<Mutex<HashSet<Vec<u8>>>>,
    /// One answer in this many is not given; 0: all are.
    silent_one_in: usize,
    /// One message in this many ends the connection; 0: none.
    close_one_in: usize,
}

impl Server {
    async fn listen(self, seed: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let random = Random::part(seed, connection);
                tokio::spawn(self.clone().serve(stream, random));
            }
        });
        address
    }

    async fn serve(self, mut stream: TcpStream, mut random: Random) {
        let (mut bytes, mut room) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut room).await {
            bytes.extend_from_slice(&room[..count]);
            while let Some(end) = bytes.iter().skip(1).position(|&byte| byte == 0x7e) {
                let message: Vec<u8> = bytes.drain(..end + 2).collect();
                let plain = unescape(&message[1..message.len() - 1]);
                if self.close_one_in > 0 && random.one_in(self.close_one_in) {
                    return;
                }
                let answer = self.answer(&plain);
                let login = plain[0] == 1;
                let told = login || self.silent_one_in == 0 || !random.one_in(self.silent_one_in);
                if told && stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The answer to a message without its flags and escapes.
    fn answer(&self, plain: &[u8]) -> Vec<u8> {
        assert_eq!(
            plain.iter().fold(0, |sum, byte| sum ^ byte),
            0,
            "check byte"
        );
        let new = plain[2] & 0x40 != 0;
        let header = if new { 17 } else { 12 };
        let body = &plain[header..plain.len() - 1];
        match (plain[0], plain[1]) {
            (2, 0) => self.take(body),
            (7, 4) => {
                let mut rest = &body[3..];
                while !rest.is_empty() {
                    self.take(&rest[2..42]);
                    rest = &rest[42..];
                }
            }
            _ => {}
        }
        let edition = if new { Edition::Y2019 } else { Edition::Y2013 };
        let terminal = Terminal { edition, phone: 1 };
        let serial = &plain[header - 2..header];
        let mut out = Vec::new();
        if plain[..2] == [1, 0] {
            terminal.message(&mut out, 0x8100, 0, &[serial, b"\0CODE"].concat());
        } else {
            terminal.message(&mut out, 0x8001, 0, &[serial, &plain[..2], &[0]].concat());
        }
        out
    }

    fn take(&self, body: &[u8]) {
        self.taken.lock().unwrap().insert(body.to_vec());
    }
}

fn unescape(bytes: &[u8]) -> Vec<u8> {
    let (mut plain, mut escaped) = (Vec::new(), false);
    for &byte in bytes {
        match (byte, escaped) {
            (0x7d, false) => escaped = true,
            (code, true) => {
                plain.push(0x7c + code);
                escaped = false;
            }
            (byte, false) => plain.push(byte),
        }
    }
    plain
}

fn roads() -> Roads {
    Roads::new(town::generate(1)).unwrap()
}

#[tokio::test]
async fn every_report_is_answered_once_by_a_good_server() {
    let server = Server::default();
    let address = server.clone().listen(1).await;
    let length = Some(Duration::from_secs(3));
    let options = Options {
        length,
        ..Options::new(1, 30, address)
    };
    let finished = run(roads(), options, std::future::pending());
    let check = timeout(DEADLINE, finished).await.unwrap().unwrap();
    assert!(check.summary.ok, "{check:?}");
    assert!(check.summary.frames_sent >= 30, "{check:?}");
    assert_eq!(check.summary.frames_answered, check.summary.frames_sent);
    assert_eq!(check.resent, 0);
    assert_eq!(
        server.taken.lock().unwrap().len() as u64,
        check.summary.frames_sent
    );
}

#[tokio::test]
async fn nothing_is_given_up_when_answers_and_connections_are_lost() {
    let seed = 7;
    let server = Server {
        silent_one_in: 10,
        close_one_in: 20,
        ..Server::default()
    };
    let address = server.clone().listen(seed).await;
    let options = Options {
        pace: Pace::Clock {
            rate: 5.0,
            speed: 5.0,
        },
        length: Some(Duration::from_secs(4)),
        answer_timeout: Duration::from_millis(100),
        grace: DEADLINE,
        ..Options::new(seed, 20, address)
    };
    let finished = run(roads(), options, std::future::pending());
    let check = timeout(2 * DEADLINE, finished).await.unwrap().unwrap();
    assert!(check.resent > 0, "seed {seed}: {check:?}");
    assert!(check.summary.frames_sent > 100, "seed {seed}: {check:?}");
    assert_eq!(
        check.summary.frames_answered, check.summary.frames_sent,
        "seed {seed}: {check:?}"
    );
    assert_eq!(
        server.taken.lock().unwrap().len() as u64,
        check.summary.frames_sent,
        "seed {seed}"
    );
}

#[tokio::test]
async fn reports_made_without_a_server_are_sent_when_it_comes() {
    let server = Server::default();
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().unwrap();
    let pace = Pace::Clock {
        rate: 10.0,
        speed: 10.0,
    };
    let fleet = Fleet::start(
        roads(),
        Options {
            pace,
            ..Options::new(3, 5, address)
        },
    );
    let fleet = fleet.await.unwrap();
    let mut serving = Vec::new();
    for _ in 0..2 {
        let stream = first.accept().await.unwrap().0;
        serving.push(tokio::spawn(server.clone().serve(stream, Random::new(1))));
    }
    until(|| fleet.ledger().counts().answered > 4).await;
    // Both connections end, nobody accepts, and the reports go on being made.
    serving.iter().for_each(|task| task.abort());
    drop(first);
    sleep(Duration::from_secs(2)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap().0;
            tokio::spawn(server.clone().serve(stream, Random::new(1)));
        }
    });
    fleet.stop();
    until(|| fleet.settled()).await;
    let check = fleet.finish().await;
    assert_eq!(check.summary.frames_answered, check.summary.frames_sent);
}

#[tokio::test]
async fn pipelined_fleet_waits_for_its_answers() {
    let server = Server::default();
    let address = server.clone().listen(1).await;
    let length = Some(Duration::from_secs(2));
    let options = Options {
        length,
        pace: Pace::Pipelined(100),
        ..Options::new(1, 3, address)
    };
    let finished = run(roads(), options, std::future::pending());
    let check = timeout(DEADLINE, finished).await.unwrap().unwrap();
    assert!(check.summary.ok, "{check:?}");
    assert_eq!(check.summary.frames_sent % 100, 0);
    assert_eq!(
        server.taken.lock().unwrap().len() as u64,
        check.summary.frames_sent
    );
}

#[tokio::test]
async fn ledger_file_of_a_run_reads_back() {
    let path = std::env::temp_dir().join(format!("device-sim-run-{}", std::process::id()));
    let address = Server {
        close_one_in: 30,
        ..Server::default()
    }
    .listen(1)
    .await;
    let length = Some(Duration::from_secs(3));
    let options = Options {
        length,
        ledger: Some(path.clone()),
        ..Options::new(1, 20, address)
    };
    let fleet = Fleet::start(roads(), options).await.unwrap();
    fleet.lasts().await;
    fleet.settle().await;
    let rules = Scenario::new(1, 20, None, &roads()).rules().clone();
    let loaded = Ledger::load(&path, 20, rules).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(loaded.counts(), fleet.ledger().counts());
    assert!(loaded.counts().expected > 0, "{:?}", loaded.counts());
}

async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap();
}
