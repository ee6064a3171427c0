//! The fleet against a server that answers, and one that often does not: nothing may be given up.

use std::time::Duration;

use device_sim::crew::{Protocol, Target};
use device_sim::fleet::{Fleet, FleetError, Options, run};
use device_sim::ledger::Ledger;
use device_sim::random::Random;
use device_sim::roads::Roads;
use device_sim::scenario::Scenario;
use device_sim::schedule::Pace;
use device_sim::town;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::DEADLINE;
use crate::records::Recorder;
use crate::server::Server;

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
async fn no_record_is_given_up_over_tcp_and_udp() {
    let seed = 3;
    let server = Recorder {
        fault_one_in: 8,
        ..Recorder::default()
    };
    let (tcp, udp) = server.clone().listen(seed).await;
    let options = Options {
        pace: Pace::Clock {
            rate: 5.0,
            speed: 5.0,
        },
        length: Some(Duration::from_secs(4)),
        protocols: vec![Protocol::Teltonika, Protocol::TeltonikaUdp],
        target: Target {
            tcp,
            udp: Some(udp),
        },
        answer_timeout: Duration::from_millis(100),
        grace: DEADLINE,
        ..Options::new(seed, 20, tcp)
    };
    let finished = run(roads(), options, std::future::pending());
    let check = timeout(2 * DEADLINE, finished).await.unwrap().unwrap();
    let summary = &check.summary;
    assert!(check.resent > 0 && check.refused > 0, "{check:?}");
    assert_eq!(summary.frames_answered, summary.frames_sent, "{check:?}");
    let taken = server.taken.lock().unwrap().len() as u64;
    assert_eq!(taken, summary.frames_sent, "seed {seed}");
    for (name, share) in &summary.protocols {
        assert_eq!(share.devices, 10, "{name}");
        assert!(share.frames_sent > 50, "{name}: {share:?}");
        assert_eq!(share.frames_answered, share.frames_sent, "{name}");
    }
}

#[tokio::test]
async fn options_that_make_no_fleet_are_refused() {
    let address = "127.0.0.1:1".parse().unwrap();
    let options = |protocols: &[Protocol]| Options {
        protocols: protocols.to_vec(),
        ..Options::new(1, 1, address)
    };
    let refusal = async |options| Fleet::start(roads(), options).await.err();
    let two = options(&[Protocol::H02, Protocol::Nmea]);
    assert!(matches!(refusal(two).await, Some(FleetError::TooFew(1, 2))));
    let datagrams = options(&[Protocol::TeltonikaUdp]);
    let refused = refusal(datagrams).await;
    assert!(matches!(refused, Some(FleetError::NoTarget(_))));
    let pipelined = Options {
        pace: Pace::Pipelined(100),
        ..options(&[Protocol::Gt06])
    };
    let refused = refusal(pipelined).await;
    assert!(matches!(refused, Some(FleetError::Unanswered(_))));
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
