//! Who may come in, with real sockets.

use std::io::Write;
use std::net::UdpSocket;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::rubbish::connect_from;
use super::*;
use crate::config::{Takeover, Unknown};
use crate::ingest::connections::PART_BYTES_MAX;
use crate::role::{Devices, Notice, Noticed};

/// Devices, as [`message_of`] names them.
const KNOWN: u16 = 0x5611;
const STRANGER: u16 = 0x5622;

fn list(number: u64, text: &str) -> Devices {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Devices {
        number,
        list: file.into(),
    }
}

fn admitting(change: impl FnOnce(&mut Admission)) -> SensorSettings {
    let mut settings = settings();
    change(&mut settings.admit);
    settings
}

fn listed(unknown: Unknown) -> SensorSettings {
    admitting(|admit| {
        admit.devices = Some("fleet.txt".to_owned());
        admit.unknown = unknown;
    })
}

fn limited(connections_max: u32, admit: Admission) -> SensorSettings {
    SensorSettings {
        input: Input::Tcp(Listening {
            listen: String::new(),
            connections_max,
            idle_ms: 60_000,
            tls: None,
        }),
        admit,
        ..settings()
    }
}

impl Running {
    /// What the ingest says of something, once it does.
    fn said<T>(&self, found: impl Fn(FromChild) -> Option<T>) -> T {
        loop {
            let (said, _) = self.control.recv::<FromChild>().unwrap().unwrap();
            if let Some(found) = found(said) {
                return found;
            }
        }
    }

    /// Hands over a list; says how many are on it, or why not.
    fn hand(&self, devices: Devices) -> Result<u32, String> {
        let message = ToChild::Devices {
            number: devices.number,
        };
        self.control
            .send(&message, &[devices.list.as_fd()])
            .unwrap();
        self.said(|said| match said {
            FromChild::Devices { number, outcome } if number == devices.number => Some(outcome),
            _ => None,
        })
    }

    fn notices(&self) -> Vec<Notice> {
        self.said(|said| match said {
            FromChild::Notices(notices) => Some(notices),
            _ => None,
        })
    }
}

/// Reports, and is answered once the report is accepted.
fn reports(site: &mut Site, device: u16, stream: &mut TcpStream, serial: u16) {
    stream.write_all(&report_of(device, serial)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(stream), serial);
}

fn beats(device: u16, stream: &mut TcpStream, serial: u16) {
    stream
        .write_all(&message_of(device, 0x0002, serial, &[]))
        .unwrap();
    assert_eq!(answered(stream), serial);
}

#[test]
fn a_device_that_is_not_on_the_list_is_closed_unanswered_and_one_that_is_is_served() {
    let mut site = Site::listening(ROOM);
    let start = Handed::Devices(list(1, "13912345611\n"));
    let running = site.start_with(listed(Unknown::Reject), vec![start]);
    let mut stranger = site.connect();
    stranger.write_all(&report_of(STRANGER, 1)).unwrap();
    assert_closed(&mut stranger);
    site.counted(IngestMetric::ClosedUnknown, 1);
    assert_eq!(site.counted(IngestMetric::UnknownReject, 1), 1);
    let mut known = site.connect();
    reports(&mut site, KNOWN, &mut known, 2);
    assert_eq!(
        site.consumer.available().unwrap(),
        0,
        "nothing of the stranger"
    );

    let notices = running.notices();
    let first = &notices[0];
    assert_eq!(
        (first.what, first.device.as_str()),
        (Noticed::Unknown, "13912345622")
    );
    assert_eq!((first.source.as_str(), first.count), ("127.0.0.1", 1));
    running.drain();
}

/// Nobody is served before the list is there: who is asked for has to be known.
#[test]
fn where_a_list_is_asked_for_and_has_not_come_nobody_is_known() {
    let site = Site::listening(ROOM);
    let running = site.start(listed(Unknown::Reject));
    let mut device = site.connect();
    device.write_all(&report_of(KNOWN, 1)).unwrap();
    assert_closed(&mut device);
    running.drain();
}

#[test]
fn in_quarantine_a_device_may_log_in_and_keeps_what_it_reports_until_it_is_on_the_list() {
    let mut site = Site::listening(ROOM);
    let start = Handed::Devices(list(1, "# nobody yet\n"));
    let running = site.start_with(listed(Unknown::Quarantine), vec![start]);
    let mut device = site.connect();
    beats(STRANGER, &mut device, 1);
    device.write_all(&report_of(STRANGER, 2)).unwrap();
    site.counted(IngestMetric::UnknownQuarantine, 2);
    assert_silent(&mut device);
    assert_eq!(site.consumer.available().unwrap(), 0);

    assert_eq!(running.hand(list(2, "139123456*\n")), Ok(1));
    // It was not answered, so it sends again, on the same connection.
    reports(&mut site, STRANGER, &mut device, 2);
    reports(&mut site, STRANGER, &mut device, 3);
    assert_eq!(site.counted(IngestMetric::DevicesListed, 1), 1);
    running.drain();
}

#[test]
fn a_wrong_list_is_refused_whole_and_a_right_one_ends_the_sessions_of_those_that_are_gone() {
    let mut site = Site::listening(ROOM);
    let start = Handed::Devices(list(1, "13912345611\n13912345622\n"));
    let running = site.start_with(listed(Unknown::Reject), vec![start]);
    let (mut stays, mut goes) = (site.connect(), site.connect());
    beats(0x5611, &mut stays, 1);
    beats(0x5622, &mut goes, 1);

    let wrong = running
        .hand(list(2, "13912345611\nnot an id\n"))
        .unwrap_err();
    assert!(
        wrong.starts_with("line 2: \"not an id\" is not a device id"),
        "{wrong}"
    );
    reports(&mut site, 0x5622, &mut goes, 2);

    assert_eq!(running.hand(list(3, "13912345611\n")), Ok(1));
    assert_closed(&mut goes);
    assert_eq!(site.counted(IngestMetric::ClosedUnknown, 1), 1);
    reports(&mut site, 0x5611, &mut stays, 3);
    running.drain();
}

#[test]
fn a_device_that_comes_again_takes_its_session_over_and_the_old_one_ends_after_its_last_answer() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut old = site.connect();
    old.write_all(&report(1)).unwrap();
    let (_, owed) = site.frames(1).remove(0);

    let mut new = site.connect();
    reports(&mut site, 0x5678, &mut new, 2);
    assert_eq!(site.counted(IngestMetric::SessionsTakenOver, 1), 1);
    // It is not read any more, and what it is owed it gets.
    old.write_all(&report(3)).unwrap();
    assert_silent(&mut old);
    assert_eq!(site.consumer.available().unwrap(), 0);
    site.settle(&owed, Outcome::Accepted);
    assert_eq!(answered(&mut old), 1);
    assert_closed(&mut old);
    assert_eq!(site.counted(IngestMetric::ClosedTakenOver, 1), 1);
    reports(&mut site, 0x5678, &mut new, 4);
    running.drain();
}

/// Two devices with one id: after six take-overs who comes next is served slowly, and nobody is closed.
#[test]
fn take_overs_without_end_wait_and_what_was_sent_is_taken_all_the_same() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut holder = site.connect();
    reports(&mut site, 0x5678, &mut holder, 0);
    for turn in 1..=6 {
        let mut next = site.connect();
        reports(&mut site, 0x5678, &mut next, turn);
        holder = next;
    }
    let mut contender = site.connect();
    reports(&mut site, 0x5678, &mut contender, 7);
    assert_eq!(site.counted(IngestMetric::SessionsContested, 1), 1);
    contender.write_all(&report(8)).unwrap();
    // The holder is not disturbed, and the contender has to wait.
    reports(&mut site, 0x5678, &mut holder, 9);
    assert_silent(&mut contender);
    assert_eq!(site.counted(IngestMetric::SessionsTakenOver, 6), 6);
    let notices = running.notices();
    let contested = notices
        .iter()
        .find(|notice| notice.what == Noticed::Contested);
    assert_eq!(contested.unwrap().device.as_str(), "13912345678");
    // Ten seconds after, it is the contender's turn: nothing was lost.
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut contender), 8);
    running.drain();
}

fn kept_for(silent_ms: u64) -> SensorSettings {
    admitting(|admit| {
        admit.takeover = Takeover::Silent;
        admit.silent_ms = silent_ms;
    })
}

#[test]
fn a_session_that_is_kept_is_not_taken_over() {
    let mut site = Site::listening(ROOM);
    let running = site.start(kept_for(3_600_000));
    let mut old = site.connect();
    reports(&mut site, 0x5678, &mut old, 1);
    let mut early = site.connect();
    early.write_all(&report(2)).unwrap();
    assert_closed(&mut early);
    assert_eq!(site.counted(IngestMetric::ClosedOccupied, 1), 1);
    assert_eq!(site.consumer.available().unwrap(), 0);
    reports(&mut site, 0x5678, &mut old, 3);
    running.drain();
}

#[test]
fn a_session_that_is_kept_is_taken_over_once_its_connection_was_silent() {
    let mut site = Site::listening(ROOM);
    let running = site.start(kept_for(1_000));
    let mut old = site.connect();
    reports(&mut site, 0x5678, &mut old, 1);
    // It was heard before its report was accepted.
    let heard = Instant::now();
    while heard.elapsed() < Duration::from_millis(1_100) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut late = site.connect();
    reports(&mut site, 0x5678, &mut late, 3);
    assert_closed(&mut old);
    running.drain();
}

/// A gateway speaks for several devices; one of them that comes by itself takes its own session only.
#[test]
fn a_connection_that_speaks_for_others_stays_when_one_of_them_comes_by_itself() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut gateway = site.connect();
    for device in [0x5611, 0x5622, 0x5633] {
        beats(device, &mut gateway, device);
    }
    let mut alone = site.connect();
    beats(0x5611, &mut alone, 1);
    let mut other = site.connect();
    beats(0x5622, &mut other, 2);
    assert_eq!(site.counted(IngestMetric::SessionsTakenOver, 2), 2);
    reports(&mut site, 0x5633, &mut gateway, 3);
    reports(&mut site, 0x5611, &mut alone, 4);
    // The last one leaves nobody for whom it would speak.
    let mut last = site.connect();
    beats(0x5633, &mut last, 5);
    assert_closed(&mut gateway);
    running.drain();
}

#[test]
fn who_sends_more_than_its_rate_is_read_later_and_loses_nothing() {
    let mut site = Site::listening(ROOM);
    let running = site.start(admitting(|admit| {
        admit.rate_max = 20;
        admit.burst_max = 5;
    }));
    let mut device = site.connect();
    let begin = Instant::now();
    let all: Vec<u8> = (0..15).flat_map(report).collect();
    device.write_all(&all).unwrap();
    let frames = site.frames(15);
    // Five at once, ten more at twenty a second; the clock of the ingest has milliseconds.
    assert!(
        begin.elapsed() >= Duration::from_millis(440),
        "{:?}",
        begin.elapsed()
    );
    site.counted(IngestMetric::Rests, 1);
    for (serial, (_, frame)) in frames.iter().enumerate() {
        site.settle(frame, Outcome::Accepted);
        assert_eq!(answered(&mut device), serial as u16);
    }
    running.drain();
}

#[test]
fn a_device_that_connects_anew_has_no_more_tokens_for_it() {
    let mut site = Site::listening(ROOM);
    let running = site.start(admitting(|admit| {
        admit.rate_max = 1;
        admit.burst_max = 3;
    }));
    let mut device = site.connect();
    let all: Vec<u8> = (0..3).flat_map(report).collect();
    device.write_all(&all).unwrap();
    site.frames(3);
    drop(device);
    site.counted(IngestMetric::Rests, 1);
    let begin = Instant::now();
    let mut again = site.connect();
    let all: Vec<u8> = (3..6).flat_map(report).collect();
    again.write_all(&all).unwrap();
    site.frames(3);
    assert!(
        begin.elapsed() >= Duration::from_millis(990),
        "{:?}",
        begin.elapsed()
    );
    running.drain();
}

#[test]
fn only_networks_that_may_come_in_do_and_no_address_has_more_connections_than_its_limit() {
    let site = Site::listening(ROOM);
    let running = site.start(admitting(|admit| {
        admit.sources = vec!["127.0.0.0/29".parse().unwrap()];
        admit.connections_per_source_max = Some(2);
    }));
    assert_closed(&mut connect_from(&site, 9));
    assert_eq!(site.counted(IngestMetric::TurnedAwaySource, 1), 1);

    let mut here = [connect_from(&site, 2), connect_from(&site, 2)];
    for (device, stream) in here.iter_mut().enumerate() {
        beats(device as u16, stream, 1);
    }
    assert_closed(&mut connect_from(&site, 2));
    assert_eq!(site.counted(IngestMetric::TurnedAwayPerSource, 1), 1);
    beats(0x5633, &mut connect_from(&site, 3), 1);
    // One leaves, another may come.
    let [first, _second] = here;
    drop(first);
    site.counted(IngestMetric::ClosedByPeer, 1);
    beats(0x5644, &mut connect_from(&site, 2), 1);
    running.drain();
}

#[test]
fn who_says_nothing_or_never_ends_a_message_is_closed_and_who_spoke_is_not() {
    let mut site = Site::listening(ROOM);
    let running = site.start(admitting(|admit| {
        admit.first_message_ms = 1_000;
        admit.message_ms = 1_000;
    }));
    let mut good = site.connect();
    beats(0x5611, &mut good, 1);
    let mut mute = site.connect();
    let mut slow = site.connect();
    beats(0x5622, &mut slow, 1);
    let wire = report_of(0x5622, 2);
    let mut bytes = wire.chunks(1).cycle();
    let give_up = Instant::now() + DEADLINE;
    // A byte now and then, and never the last one.
    for piece in bytes.by_ref().take(wire.len() - 1) {
        assert!(Instant::now() < give_up);
        if slow.write_all(piece).is_err() || site.counted(IngestMetric::ClosedSlow, 0) > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    site.counted(IngestMetric::ClosedSlow, 1);
    assert_closed(&mut slow);
    assert_closed(&mut mute);
    assert_eq!(site.counted(IngestMetric::ClosedNoMessage, 1), 1);
    reports(&mut site, 0x5611, &mut good, 2);
    assert_eq!(site.counted(IngestMetric::ClosedIdle, 0), 0);
    running.drain();
}

#[test]
fn connections_of_which_nothing_comes_give_way_and_those_of_known_devices_do_not() {
    let mut site = Site::listening(ROOM);
    let running = site.start(limited(4, Admission::default()));
    let mut good = site.connect();
    beats(0x5611, &mut good, 1);
    let mute: Vec<TcpStream> = (0..3).map(|_| site.connect()).collect();
    site.counted(IngestMetric::ConnectionsAccepted, 4);
    assert_eq!(site.counted(IngestMetric::ConnectionsUnproven, 3), 3);
    // There is no room; it is served once one of the others has had its five seconds.
    let mut late = site.connect();
    beats(0x5622, &mut late, 2);
    assert_eq!(site.counted(IngestMetric::ClosedGaveWay, 1), 1);
    site.counted(IngestMetric::AcceptPauses, 1);
    reports(&mut site, 0x5611, &mut good, 3);
    drop(mute);
    running.drain();
}

/// What a known device says of itself.
const STATUS: &str = "POST / HTTP/1.1\r\nContent-Length: 42\r\n\r\n\
    {\"device\":\"a\",\"attributes\":{\"model\":\"mm\"}}";

/// A sensor of JSON by HTTP.
fn by_http(connections_max: u32, admit: Admission) -> SensorSettings {
    let Input::Tcp(listening) = limited(connections_max, Admission::default()).input else {
        unreachable!("it listens");
    };
    SensorSettings {
        input: Input::Http(listening),
        protocol: Protocol::Json,
        admit,
        ..settings()
    }
}

/// The status of the next response; its body is left.
fn told(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head[9..12]).into_owned()
}

/// Such a client was held against nothing but the time for which connections may be idle, with its head in memory.
#[test]
fn who_asks_to_go_on_with_a_body_and_does_not_is_slow() {
    let site = Site::listening(ROOM);
    let running = site.start(by_http(
        4,
        Admission {
            message_ms: 1_000,
            ..Admission::default()
        },
    ));
    let mut client = site.connect();
    let head = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    assert_eq!(told(&mut client), "100");
    assert_closed(&mut client);
    assert_eq!(site.counted(IngestMetric::ClosedSlow, 1), 1);
    running.drain();
}

/// Anybody can ask a web server for something: four such clients kept all others out.
#[test]
fn clients_of_which_no_message_comes_give_way_whatever_they_were_told() {
    let site = Site::listening(ROOM);
    let running = site.start(by_http(4, Admission::default()));
    let mut nosy: Vec<TcpStream> = (0..4).map(|_| site.connect()).collect();
    for client in &mut nosy {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(told(client), "404");
    }
    assert_eq!(site.counted(IngestMetric::ConnectionsUnproven, 4), 4);
    let mut late = site.connect();
    late.write_all(STATUS.as_bytes()).unwrap();
    assert_eq!(told(&mut late), "204");
    assert_eq!(site.counted(IngestMetric::ClosedGaveWay, 1), 1);
    running.drain();
}

/// It was closed in the middle, so that the answer was lost with it, and all who came from there had to wait.
#[test]
fn a_body_that_is_too_long_is_passed_over_and_is_no_rubbish() {
    let site = Site::listening(ROOM);
    let running = site.start(by_http(4, Admission::default()));
    let mut client = site.connect();
    let length = 1024 * 1024;
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    for _ in 0..length / 1024 {
        client.write_all(&[b' '; 1024]).unwrap();
    }
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(told(&mut client), "413");
    assert_eq!(told(&mut client), "404");
    assert_eq!(site.counted(IngestMetric::ClosedErrors, 0), 0);
    running.drain();
}

/// Twelve thousand clients could have us keep 72 KiB each.
#[test]
fn requests_that_are_not_whole_take_a_bounded_room_and_strangers_give_way_first() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let part = vec![b' '; 60 * 1024];
    let strangers_max = PART_BYTES_MAX / part.len();
    let site = Site::listening(ROOM);
    let running = site.start(by_http(2 * strangers_max as u32, Admission::default()));
    let head = "POST / HTTP/1.1\r\nContent-Length: 61441\r\n\r\n";
    let begin = |client: &mut TcpStream| {
        client.write_all(head.as_bytes()).unwrap();
        // Who has no room may be closed before all of it is written.
        let _ = client.write_all(&part);
    };
    let mut good = site.connect();
    good.write_all(STATUS.as_bytes()).unwrap();
    assert_eq!(told(&mut good), "204");
    let mut strangers: Vec<TcpStream> = (0..strangers_max).map(|_| site.connect()).collect();
    strangers.iter_mut().for_each(begin);
    // The last to send has no room, and a known device has.
    site.counted(IngestMetric::ClosedGaveWay, 1);
    begin(&mut good);
    site.counted(IngestMetric::ClosedGaveWay, 2);
    good.write_all(b"x").unwrap();
    assert_eq!(told(&mut good), "400");
    drop(strangers);
    running.drain();
}

fn over_udp(admit: Admission) -> (Site, SocketAddr, SensorSettings) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let settings = SensorSettings {
        input: Input::Udp {
            listen: String::new(),
            peers_max: 10,
            idle_ms: 60_000,
        },
        admit,
        ..settings()
    };
    (Site::with_input(ROOM, socket.into()), address, settings)
}

#[test]
fn datagrams_from_elsewhere_and_of_strangers_and_above_the_rate_are_dropped_and_counted() {
    let (mut site, address, settings) = over_udp(Admission {
        devices: Some("fleet.txt".to_owned()),
        sources: vec!["127.0.0.1/32".parse().unwrap()],
        rate_max: 1,
        burst_max: 3,
        ..Admission::default()
    });
    let start = Handed::Devices(list(1, "13912345611\n"));
    let running = site.start_with(settings, vec![start]);
    let elsewhere = UdpSocket::bind("127.0.0.2:0").unwrap();
    elsewhere.send_to(&report_of(KNOWN, 1), address).unwrap();
    assert_eq!(site.counted(IngestMetric::DatagramsSource, 1), 1);

    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&report_of(STRANGER, 1), address).unwrap();
    assert_eq!(site.counted(IngestMetric::UnknownReject, 1), 1);

    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    for serial in 0..8 {
        device.send_to(&report_of(KNOWN, serial), address).unwrap();
    }
    let frames = site.frames(3);
    assert!(
        frames
            .iter()
            .all(|(_, frame)| frame.device.as_str() == "13912345611")
    );
    site.counted(IngestMetric::DroppedRate, 1);
    running.drain();
}

#[test]
fn over_udp_a_device_in_quarantine_may_log_in_and_its_reports_are_not_answered() {
    let (mut site, address, settings) = over_udp(Admission {
        devices: Some("fleet.txt".to_owned()),
        unknown: Unknown::Quarantine,
        ..Admission::default()
    });
    let running = site.start(settings);
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.connect(address).unwrap();
    device.set_read_timeout(Some(SILENCE)).unwrap();
    device.send(&report_of(STRANGER, 1)).unwrap();
    site.counted(IngestMetric::UnknownQuarantine, 1);
    assert!(device.recv(&mut [0; 64]).is_err());
    assert_eq!(running.hand(list(1, "13912345622\n")), Ok(1));
    device.send(&report_of(STRANGER, 1)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    device.set_read_timeout(Some(DEADLINE)).unwrap();
    assert!(device.recv(&mut [0; 64]).unwrap() > 0);
    running.drain();
}
