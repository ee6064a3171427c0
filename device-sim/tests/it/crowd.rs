//! A crowd at servers of several minds.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use std::time::Duration;

use device_sim::crowd::{Crowd, Options, Report};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::DEADLINE;
use crate::program::{lines, run};
use crate::server::Server;

/// Begins and ends a message of JT/T 808.
const FLAG: u8 = 0x7e;

/// Who came, and what they said, connection by connection.
type Visits = Arc<Mutex<Vec<(IpAddr, Vec<u8>)>>>;

/// Takes what comes and answers nothing; `patient` closes nobody, others everybody after the first bytes.
async fn recorder(patient: bool) -> (SocketAddr, Visits) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let visits = Visits::default();
    let noted = Arc::clone(&visits);
    tokio::spawn(async move {
        loop {
            let (mut stream, from) = listener.accept().await.unwrap();
            let visits = Arc::clone(&noted);
            let index = {
                let mut visits = visits.lock().unwrap();
                visits.push((from.ip(), Vec::new()));
                visits.len() - 1
            };
            tokio::spawn(async move {
                let mut room = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut room).await {
                    visits.lock().unwrap()[index].1.extend(&room[..count]);
                    if !patient {
                        return;
                    }
                }
            });
        }
    });
    (address, visits)
}

/// A crowd at this address, from when on its report is as wanted.
async fn crowd(options: Options, wanted: impl Fn(&Report) -> bool) -> (Crowd, Report) {
    let crowd = Crowd::start(options).unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let report = crowd.watch().report();
        if wanted(&report) {
            return (crowd, report);
        }
        assert!(Instant::now() < deadline, "{report:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn idle_members_log_in_and_stay() {
    let target = Server::default().listen(1).await;
    let options = Options {
        idle: 7,
        ..Options::new(1, target)
    };
    let (_crowd, report) = crowd(options, |report| report.idle.logged_in == 7).await;
    let idle = report.idle;
    assert_eq!(
        (idle.connected, idle.open, idle.closed_by_peer, idle.refused),
        (7, 7, 0, 0)
    );
}

#[tokio::test]
async fn slow_members_never_come_to_the_end_of_a_message() {
    let (target, visits) = recorder(true).await;
    let options = Options {
        slow: 3,
        slow_every: Duration::from_millis(5),
        ..Options::new(1, target)
    };
    // More bytes than any other message of a terminal's login has.
    let (_crowd, report) = crowd(options, |report| report.slow.sent_bytes > 300).await;
    assert_eq!(report.slow.connected, 3, "{report:?}");
    for (_, bytes) in visits.lock().unwrap().iter() {
        assert!(bytes.len() > 1 && bytes[0] == FLAG, "{bytes:02x?}");
        let flags = bytes.iter().filter(|&&byte| byte == FLAG).count();
        assert_eq!(flags, 1, "{bytes:02x?}");
    }
}

#[tokio::test]
async fn senders_of_rubbish_come_again_from_anywhere_when_they_are_closed() {
    let (target, visits) = recorder(false).await;
    let options = Options {
        garbage: 10,
        sources: "127.9.0.0/16".parse().ok(),
        ..Options::new(1, target)
    };
    let again =
        |report: &Report| report.garbage.connected > 40 && report.garbage.closed_by_peer > 10;
    let (_crowd, _) = crowd(options, again).await;
    let visits = visits.lock().unwrap();
    let mut sources: Vec<IpAddr> = visits.iter().map(|(from, _)| *from).collect();
    assert!(sources.iter().all(|from| match from {
        IpAddr::V4(four) => four.octets()[..2] == [127, 9],
        IpAddr::V6(_) => false,
    }));
    sources.sort_unstable();
    sources.dedup();
    assert!(sources.len() > 10, "{sources:?}");
}

/// The server checks each message, and answers none that is not sound.
#[tokio::test]
async fn a_flood_is_of_sound_messages() {
    let server = Server::default();
    let taken = Arc::clone(&server.taken);
    let target = server.listen(1).await;
    let options = Options {
        flood: 2,
        rate: 200.0,
        ..Options::new(1, target)
    };
    let answered = |report: &Report| {
        // A general response has 20 bytes and more.
        report.flood.messages > 20 && report.flood.received_bytes > 20 * 20
    };
    let (_crowd, _) = crowd(options, answered).await;
    assert!(taken.lock().unwrap().len() > 20);
}

#[tokio::test]
async fn the_program_ends_by_itself_and_says_what_happened() {
    let target = Server::default().listen(1).await;
    let output = run(&format!(
        "crowd --target {target} --idle 1 --seed 9 --for 3s --json"
    ))
    .await;
    assert!(output.status.success(), "{output:?}");
    let report = lines(&output.stdout).remove(0);
    assert_eq!(
        (&report["seed"], &report["idle"]["asked"]),
        (&9.into(), &1.into())
    );
    assert_eq!(report["idle"]["open"], 1, "{report}");
}

#[tokio::test]
async fn nobody_to_connect_to_is_an_exit_status() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let output = run(&format!("crowd --target {target} --idle 1 --for 1s --json")).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(lines(&output.stdout).remove(0)["idle"]["connected"], 0);
}
