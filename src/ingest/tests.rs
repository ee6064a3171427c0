//! The ingest with real sockets, a real ring and a classifier that is this test.

mod admission;
mod captured;
mod order;
mod rubbish;
mod tls;
mod udp;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::process::{IngestError, Setup, serve};
use super::tally::Tally;
use crate::config::{Ack, Admission, Input, Listening, Node, SensorSettings};
use crate::frame::{Frame, FrameFlags};
use crate::protocol::Protocol;
use crate::ring::{Consumer, Geometry, Outcome, RingOwner};
use crate::role::{FromChild, Handed, ToChild};
use crate::stats::{self, IngestMetric, Metric, Stats};
use crate::sys::control::Channel;

/// Nothing here takes this long on any machine that is alive.
const DEADLINE: Duration = Duration::from_secs(30);

/// Long enough that an answer which is wrongly given would be there.
const SILENCE: Duration = Duration::from_millis(150);

const ROOM: Geometry = Geometry {
    slots: 1024,
    stride: 512,
    answers: 256,
};

fn settings() -> SensorSettings {
    SensorSettings {
        name: "fleet".to_owned(),
        input: Input::Tcp(Listening {
            listen: String::new(),
            connections_max: 100,
            idle_ms: 60_000,
            tls: None,
        }),
        protocol: Protocol::Jt808,
        device: None,
        ack: Ack::Safe,
        errors_max: 5,
        zone_minutes: None,
        lenient: false,
        ring_slots: ROOM.slots,
        answers_max: ROOM.answers,
        rank: 1,
        capture: false,
        admit: Admission::default(),
    }
}

/// What outlives an ingest: listening socket, ring, page.
struct Site {
    owner: RingOwner,
    page: OwnedFd,
    input: OwnedFd,
    address: Option<SocketAddr>,
    consumer: Consumer,
}

/// A running ingest.
struct Running {
    control: Channel,
    thread: JoinHandle<Result<(), IngestError>>,
}

impl Site {
    fn listening(geometry: Geometry) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut site = Site::with_input(geometry, listener.into());
        site.address = Some(address);
        site
    }

    fn with_input(geometry: Geometry, input: OwnedFd) -> Site {
        let owner = RingOwner::create(geometry, 1, 7).unwrap();
        let consumer = Consumer::attach(&owner.consumer_fds().unwrap()).unwrap();
        Site {
            page: stats::create().unwrap(),
            owner,
            input,
            address: None,
            consumer,
        }
    }

    fn start(&self, settings: SensorSettings) -> Running {
        self.start_with(settings, Vec::new())
    }

    fn start_with(&self, settings: SensorSettings, handed: Vec<Handed>) -> Running {
        let (control, theirs) = Channel::pair().unwrap();
        let stats = Stats::<IngestMetric>::attach(self.page.as_fd(), "fleet", 0).unwrap();
        let setup = Setup {
            node: Node {
                site: "test".to_owned(),
                name: "node".to_owned(),
            },
            tally: Tally::new(stats, settings.protocol),
            settings,
            input: Some(self.input.try_clone().unwrap()),
            handed,
            ring: self.owner.producer_fds().unwrap(),
            identity: self.owner.identity(),
            control: theirs,
            lock: None,
        };
        let thread = std::thread::spawn(move || serve(setup));
        while let Some((said, _)) = control.recv::<FromChild>().unwrap() {
            if matches!(said, FromChild::Ready) {
                break;
            }
        }
        Running { control, thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address.unwrap()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// The next `count` frames, in order, with their sequences; freed.
    fn frames(&mut self, count: usize) -> Vec<(u64, Frame)> {
        let mut frames = Vec::new();
        let mut record = Vec::new();
        let give_up = Instant::now() + DEADLINE;
        while frames.len() < count {
            let head = self.consumer.head();
            let there = self.consumer.available().unwrap();
            for seq in head..head + there.min((count - frames.len()) as u64) {
                self.consumer.read(seq, &mut record).unwrap();
                frames.push((seq, Frame::decode(&record).unwrap()));
                self.consumer.advance(seq + 1);
            }
            self.consumer.wake_producer();
            assert!(
                Instant::now() < give_up,
                "{} of {count} frames",
                frames.len()
            );
            std::thread::yield_now();
        }
        frames
    }

    fn settle(&mut self, frame: &Frame, outcome: Outcome) {
        self.consumer
            .set_outcome(frame.answer_index, frame.message_first_seq, outcome);
        self.consumer.wake_producer();
    }

    /// Waits until a counter has reached `at_least`.
    fn counted(&self, metric: IngestMetric, at_least: u64) -> u64 {
        let give_up = Instant::now() + DEADLINE;
        loop {
            let count = stats::read(self.page.as_fd())
                .unwrap()
                .number(metric)
                .unwrap();
            if count >= at_least {
                return count;
            }
            let name = IngestMetric::TABLE[metric.index()];
            assert!(Instant::now() < give_up, "{name:?} is {count}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Running {
    fn drain(self) {
        self.control.send(&ToChild::Drain, &[]).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

/// A JT/T 808 message of the 2013 form: flag, header, body, check, flag, escaped.
fn message(kind: u16, serial: u16, body: &[u8]) -> Vec<u8> {
    message_of(0x5678, kind, serial, body)
}

/// ... of the device 1391234xxxx.
fn message_of(device: u16, kind: u16, serial: u16, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(kind.to_be_bytes());
    content.extend((body.len() as u16).to_be_bytes());
    content.extend([0x01, 0x39, 0x12, 0x34]);
    content.extend(device.to_be_bytes());
    content.extend(serial.to_be_bytes());
    content.extend(body);
    content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
    let mut wire = vec![0x7e];
    for byte in content {
        match byte {
            0x7e => wire.extend([0x7d, 0x02]),
            0x7d => wire.extend([0x7d, 0x01]),
            byte => wire.push(byte),
        }
    }
    wire.push(0x7e);
    wire
}

/// A location: alarm and status words, place, height, speed, course, time.
fn location(alarms: u32, second: u8) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(alarms.to_be_bytes());
    body.extend(3_u32.to_be_bytes());
    body.extend(31_230_416_u32.to_be_bytes());
    body.extend(121_473_701_u32.to_be_bytes());
    body.extend(12_u16.to_be_bytes());
    body.extend(500_u16.to_be_bytes());
    body.extend(90_u16.to_be_bytes());
    let bcd = (second / 10) * 16 + second % 10;
    body.extend([0x24, 0x05, 0x17, 0x08, 0x30, bcd]);
    body
}

/// The device of that number, for [`message_of`]: its digits, two in a byte.
fn numbered(number: u16) -> u16 {
    let digit = |place: u16| number / place % 10;
    digit(1_000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
}

fn report(serial: u16) -> Vec<u8> {
    report_of(0x5678, serial)
}

fn report_of(device: u16, serial: u16) -> Vec<u8> {
    message_of(device, 0x0200, serial, &location(0, (serial % 60) as u8))
}

/// Reads one answer and returns the serial that it answers.
fn answered(stream: &mut impl Read) -> u16 {
    let mut wire = Vec::new();
    while wire.len() < 2 || wire.last() != Some(&0x7e) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        wire.push(byte[0]);
    }
    let content = unescaped(&wire[1..wire.len() - 1]);
    assert_eq!(content[..2], [0x80, 0x01], "a general response");
    u16::from_be_bytes([content[12], content[13]])
}

fn unescaped(wire: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut bytes = wire.iter();
    while let Some(&byte) = bytes.next() {
        content.push(match byte {
            0x7d if bytes.next() == Some(&0x02) => 0x7e,
            byte => byte,
        });
    }
    content
}

fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let kind = read.map_err(|error| error.kind());
    assert!(
        matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        "{kind:?}"
    );
}

fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_device_is_answered_when_its_message_is_accepted_and_not_before() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut device = site.connect();
    device.write_all(&report(7)).unwrap();

    let (seq, frame) = site.frames(1).remove(0);
    assert_eq!(frame.message_first_seq, seq);
    assert!(
        frame
            .flags
            .has(FrameFlags::AWAITS_ANSWER | FrameFlags::MESSAGE_END)
    );
    assert_ne!((frame.trace.trace_id, frame.trace.span_id), (0, 0));
    assert_eq!(frame.fix.position_deg(), Some((31.230416, 121.473701)));
    assert_eq!(frame.device.as_str(), "13912345678");
    assert_silent(&mut device);

    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut device), 7);
    site.counted(IngestMetric::AnswersAccepted, 1);
    running.drain();
}

#[test]
fn a_refused_message_is_not_answered_and_counted() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut device = site.connect();
    device.write_all(&report(7)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Refused);
    site.counted(IngestMetric::AnswersRefused, 1);
    assert_silent(&mut device);

    // Sent again, it is judged anew.
    device.write_all(&report(7)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut device), 7);
    running.drain();
}

#[test]
fn received_means_answered_without_an_outcome() {
    let mut site = Site::listening(ROOM);
    let mut settings = settings();
    settings.ack = Ack::Received;
    let running = site.start(settings);
    let mut device = site.connect();
    device.write_all(&report(3)).unwrap();
    assert_eq!(answered(&mut device), 3);
    assert!(!site.frames(1)[0].1.flags.has(FrameFlags::AWAITS_ANSWER));
    running.drain();
}

#[test]
fn a_heartbeat_is_answered_at_once_and_makes_no_frame() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut device = site.connect();
    device.write_all(&message(0x0002, 5, &[])).unwrap();
    assert_eq!(answered(&mut device), 5);
    assert_eq!(site.consumer.available().unwrap(), 0);
    running.drain();
}

#[test]
fn rubbish_is_counted_and_closes_the_connection_after_the_limit() {
    let site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut device = site.connect();
    let mut bad = report(1);
    let end = bad.len() - 2;
    bad[end] ^= 1;
    for _ in 0..5 {
        device.write_all(&bad).unwrap();
    }
    assert_closed(&mut device);
    site.counted(IngestMetric::ClosedErrors, 1);
    assert_eq!(site.counted(IngestMetric::RefusedChecksum, 5), 5);
    running.drain();
}

#[test]
fn a_lenient_sensor_takes_a_wrong_check_and_answers() {
    let mut site = Site::listening(ROOM);
    let mut settings = settings();
    settings.lenient = true;
    let running = site.start(settings);
    let mut device = site.connect();
    let mut bad = report(8);
    let end = bad.len() - 2;
    bad[end] ^= 1;
    device.write_all(&bad).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut device), 8);
    assert_eq!(site.counted(IngestMetric::RefusedChecksum, 0), 0);
    running.drain();
}

#[test]
fn a_good_message_makes_up_for_bad_ones() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut device = site.connect();
    for serial in 0..10 {
        let mut bad = report(serial);
        let end = bad.len() - 2;
        bad[end] ^= 1;
        device.write_all(&bad).unwrap();
        device.write_all(&report(serial)).unwrap();
    }
    assert_eq!(site.frames(10).len(), 10);
    assert_eq!(site.counted(IngestMetric::RefusedChecksum, 10), 10);
    running.drain();
}

#[test]
fn an_endless_message_is_bounded_and_ends_the_connection() {
    let site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut device = site.connect();
    device.write_all(&[0x7e]).unwrap();
    let endless = [0x55; 4096];
    let give_up = Instant::now() + DEADLINE;
    while device.write_all(&endless).is_ok() {
        assert!(Instant::now() < give_up);
    }
    site.counted(IngestMetric::ClosedErrors, 1);
    running.drain();
}

#[test]
fn half_a_message_and_an_end_leave_nothing_but_a_count() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let whole = report(1);
    let mut device = site.connect();
    device.write_all(&whole[..whole.len() / 2]).unwrap();
    drop(device);
    site.counted(IngestMetric::ClosedByPeer, 1);
    site.counted(IngestMetric::RefusedIncomplete, 1);
    assert_eq!(site.consumer.available().unwrap(), 0);
    running.drain();
}

#[test]
fn a_device_that_only_ends_its_sending_still_gets_its_answer() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut device = site.connect();
    device.write_all(&report(9)).unwrap();
    device.shutdown(std::net::Shutdown::Write).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut device), 9);
    assert_closed(&mut device);
    running.drain();
}

#[test]
fn a_flood_into_a_full_ring_stops_the_sender_and_loses_nothing() {
    let mut site = Site::listening(Geometry {
        slots: 16,
        stride: 512,
        answers: 0,
    });
    let mut settings = settings();
    settings.ack = Ack::Received;
    let running = site.start(settings);
    // Small buffers in the kernel, or the flood takes its time.
    setsockopt(&site.input, sockopt::RcvBuf, &(32 * 1024)).unwrap();
    let mut device = site.connect();
    setsockopt(&device, sockopt::SndBuf, &(32 * 1024)).unwrap();
    device.set_nonblocking(true).unwrap();

    // Nobody reads the ring: sooner or later the kernel takes no more of the device's bytes.
    let mut sent = 0_u16;
    let mut wire = Vec::new();
    let give_up = Instant::now() + DEADLINE;
    let mut blocked_since = None;
    while blocked_since.is_none_or(|since: Instant| since.elapsed() < SILENCE) {
        assert!(Instant::now() < give_up, "the sender is never stopped");
        if wire.is_empty() {
            wire = report(sent);
            sent += 1;
        }
        match device.write(&wire) {
            Ok(bytes) => {
                wire.drain(..bytes);
                blocked_since = None;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                blocked_since.get_or_insert_with(Instant::now);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    site.counted(IngestMetric::StalledRing, 1);
    assert_eq!(site.counted(IngestMetric::FramesPublished, 16), 16);

    device.set_nonblocking(false).unwrap();
    let rest = std::thread::spawn(move || {
        device.write_all(&wire).unwrap();
        let mut answers = vec![0; 64 * 1024];
        while device.read(&mut answers).unwrap() > 0 {}
    });
    let frames = site.frames(usize::from(sent));
    let seconds: Vec<i64> = frames
        .iter()
        .map(|(_, f)| f.fix.time_ms / 1000 % 60)
        .collect();
    let expected: Vec<i64> = (0..i64::from(sent)).map(|n| n % 60).collect();
    assert_eq!(seconds, expected);
    running.drain();
    rest.join().unwrap();
}

#[test]
fn a_message_of_more_frames_than_a_quarter_of_the_ring_is_answered_when_all_parts_are_accepted() {
    let mut site = Site::listening(Geometry {
        slots: 16,
        stride: 512,
        answers: 8,
    });
    let running = site.start(settings());
    let mut device = site.connect();
    let mut batch = vec![0, 9, 1];
    for second in 0..9 {
        let body = location(0, second);
        batch.extend((body.len() as u16).to_be_bytes());
        batch.extend(body);
    }
    device.write_all(&message(0x0704, 77, &batch)).unwrap();

    let frames = site.frames(9);
    let ends: Vec<bool> = frames
        .iter()
        .map(|(_, frame)| frame.flags.has(FrameFlags::MESSAGE_END))
        .collect();
    assert_eq!(
        ends,
        [false, false, false, true, false, false, false, true, true]
    );
    let backlog = frames.iter().all(|(_, f)| f.flags.has(FrameFlags::BACKLOG));
    assert!(backlog, "type 1 is stored data");
    for at in [0, 8] {
        site.settle(&frames[at].1, Outcome::Accepted);
        assert_silent(&mut device);
    }
    site.settle(&frames[4].1, Outcome::Accepted);
    assert_eq!(answered(&mut device), 77);
    running.drain();
}

#[test]
fn many_unanswered_messages_of_one_device_do_not_hold_up_another() {
    let mut site = Site::listening(Geometry {
        answers: 64,
        ..ROOM
    });
    let running = site.start(settings());
    let mut greedy = site.connect();
    for serial in 0..100 {
        greedy.write_all(&report(serial)).unwrap();
    }
    let first = site.frames(8);
    let mut modest = site.connect();
    modest.write_all(&report_of(0x5679, 200)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut modest), 200);

    let mut unsettled = first;
    for serial in 0..100 {
        if unsettled.is_empty() {
            unsettled = site.frames(1);
        }
        site.settle(&unsettled.remove(0).1, Outcome::Accepted);
        assert_eq!(answered(&mut greedy), serial);
    }
    running.drain();
}

#[test]
fn outcomes_for_a_predecessor_are_not_taken_for_ours() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut before = site.connect();
    before.write_all(&report(1)).unwrap();
    let (_, old) = site.frames(1).remove(0);
    // Ends without waiting for outcomes, as far as this process can: by the drain's time limit.
    running.drain();
    assert_closed(&mut before);

    site.owner.set_generation().unwrap();
    let running = site.start(settings());
    let mut after = site.connect();
    after.write_all(&report(2)).unwrap();
    let (_, new) = site.frames(1).remove(0);
    assert_eq!(
        old.answer_index, new.answer_index,
        "the index is used again"
    );
    site.settle(&old, Outcome::Accepted);
    assert_silent(&mut after);
    site.settle(&new, Outcome::Accepted);
    assert_eq!(answered(&mut after), 2);
    running.drain();
}

#[test]
fn a_drain_gives_the_answers_that_are_due_and_closes_the_ring() {
    let mut site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut device = site.connect();
    device.write_all(&report(4)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    running.control.send(&ToChild::Drain, &[]).unwrap();
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut device), 4);
    assert_closed(&mut device);
    running.thread.join().unwrap().unwrap();
    assert!(site.consumer.closed());
    assert_eq!(site.counted(IngestMetric::ClosedDrain, 1), 1);
}

#[test]
fn a_supervisor_that_is_gone_is_a_drain() {
    let site = Site::listening(ROOM);
    let running = site.start(settings());
    drop(OwnedFd::from(running.control));
    running.thread.join().unwrap().unwrap();
    assert!(site.consumer.closed());
}

#[test]
fn further_connections_wait_until_one_ends() {
    let mut site = Site::listening(ROOM);
    let mut settings = settings();
    settings.input = Input::Tcp(Listening {
        listen: String::new(),
        connections_max: 2,
        idle_ms: 60_000,
        tls: None,
    });
    let running = site.start(settings);
    let first = site.connect();
    let _second = site.connect();
    let mut third = site.connect();
    third.write_all(&message(0x0002, 3, &[])).unwrap();
    site.counted(IngestMetric::ConnectionsOpen, 2);
    assert_silent(&mut third);
    drop(first);
    assert_eq!(answered(&mut third), 3);
    assert!(site.frames(0).is_empty());
    running.drain();
}

#[test]
fn who_says_nothing_is_closed() {
    let site = Site::listening(ROOM);
    let mut settings = settings();
    settings.input = Input::Tcp(Listening {
        listen: String::new(),
        connections_max: 10,
        idle_ms: 50,
        tls: None,
    });
    let running = site.start(settings);
    let mut device = site.connect();
    assert_closed(&mut device);
    site.counted(IngestMetric::ClosedIdle, 1);
    running.drain();
}

/// An NMEA 0183 sentence with its check.
fn sentence(text: &str) -> String {
    let check = text.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${text}*{check:02X}\r\n")
}

fn rmc(second: u32) -> String {
    sentence(&format!(
        "GPRMC,0835{second:02}.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A"
    ))
}

fn receiver(input: Input) -> SensorSettings {
    SensorSettings {
        input,
        protocol: Protocol::Nmea,
        device: Some("van-1".to_owned()),
        ..settings()
    }
}

fn seconds(frames: &[(u64, Frame)]) -> Vec<i64> {
    frames
        .iter()
        .map(|(_, frame)| frame.fix.time_ms / 1000 % 60)
        .collect()
}

/// What a receiver had said of a moment was thrown away with a connection that was reset, and with all in a drain.
#[test]
fn the_last_moment_of_a_receiver_whose_connection_ends_in_any_way_is_taken() {
    let mut site = Site::listening(ROOM);
    let running = site.start(receiver(Input::Tcp(Listening {
        listen: String::new(),
        connections_max: 10,
        idle_ms: 60_000,
        tls: None,
    })));
    let mut rude = site.connect();
    rude.write_all(rmc(1).as_bytes()).unwrap();
    site.counted(IngestMetric::Messages, 1);
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&rude, sockopt::Linger, &at_once).unwrap();
    drop(rude);
    site.counted(IngestMetric::ClosedByPeer, 1);
    let mut quiet = site.connect();
    site.counted(IngestMetric::ConnectionsAccepted, 2);
    let mut bad = site.connect();
    bad.write_all(rmc(2).as_bytes()).unwrap();
    bad.write_all(&b"$GPRMC,rubbish*00\r\n".repeat(5)).unwrap();
    assert_closed(&mut bad);
    quiet.write_all(rmc(3).as_bytes()).unwrap();
    site.counted(IngestMetric::Messages, 3);
    running.drain();
    assert_eq!(seconds(&site.frames(3)), [1, 2, 3]);
}

#[test]
fn the_last_moment_of_a_receiver_that_falls_silent_is_not_held_back() {
    let mut site = Site::listening(ROOM);
    let running = site.start(receiver(Input::Tcp(Listening {
        listen: String::new(),
        connections_max: 10,
        idle_ms: 60_000,
        tls: None,
    })));
    let mut device = site.connect();
    for second in [1, 2] {
        device.write_all(rmc(second).as_bytes()).unwrap();
    }
    let frames = site.frames(2);
    assert_eq!(seconds(&frames), [1, 2]);
    assert_eq!(frames[0].1.device.as_str(), "van-1");
    assert!(!frames[0].1.flags.has(FrameFlags::AWAITS_ANSWER));
    running.drain();
}

fn recording(name: &str, seconds: std::ops::Range<u32>) -> (tempfile::TempDir, std::fs::File) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let text: String = seconds.map(rmc).collect();
    std::fs::write(&path, text).unwrap();
    let file = std::fs::File::open(path).unwrap();
    (folder, file)
}

fn replay(speed: f64) -> SensorSettings {
    receiver(Input::File {
        path: String::new(),
        speed,
    })
}

#[test]
fn a_recording_is_replayed_to_the_end_in_order() {
    let (_folder, file) = recording("log.nmea", 0..50);
    let mut site = Site::with_input(ROOM, file.into());
    let running = site.start(replay(0.0));
    let expected: Vec<i64> = (0..50).collect();
    assert_eq!(seconds(&site.frames(50)), expected);
    running.drain();
    assert!(site.consumer.closed());
}

/// A drain waited for the next message that reports something, for as long as the file went on without one.
#[test]
fn a_log_that_says_nothing_for_gigabytes_keeps_no_drain_waiting() {
    let endless = std::fs::File::open("/dev/zero").unwrap();
    let site = Site::with_input(ROOM, endless.into());
    let running = site.start(replay(0.0));
    site.counted(IngestMetric::Bytes, 1);
    running.drain();
    assert!(site.consumer.closed());
}

#[test]
fn a_successor_goes_on_in_the_recording_where_the_ring_was_full() {
    let (_folder, file) = recording("log.nmea", 0..50);
    let small = Geometry {
        slots: 16,
        stride: 512,
        answers: 0,
    };
    let mut site = Site::with_input(small, file.into());
    let running = site.start(replay(0.0));
    site.counted(IngestMetric::StalledRing, 1);
    running.drain();
    let before = seconds(&site.frames(16));

    site.owner.set_generation().unwrap();
    let running = site.start(replay(0.0));
    let first = site.frames(1);
    let rest = 49 - seconds(&first)[0] as usize;
    let after = seconds(&[first, site.frames(rest)].concat());
    running.drain();
    let mut all = [before, after].concat();
    all.dedup();
    assert_eq!(all, (0..50).collect::<Vec<i64>>(), "none is left out");
}

#[test]
fn a_recording_in_its_own_time_takes_its_time() {
    let (_folder, file) = recording("log.nmea", 0..6);
    let mut site = Site::with_input(ROOM, file.into());
    let begin = Instant::now();
    let running = site.start(replay(10.0));
    assert_eq!(seconds(&site.frames(6)), [0, 1, 2, 3, 4, 5]);
    assert!(begin.elapsed() >= Duration::from_millis(490));
    running.drain();
}
