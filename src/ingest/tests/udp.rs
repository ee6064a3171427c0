//! Devices that send datagrams.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use super::*;

const PEER_ANSWERS_MAX: usize = 8;

const SMALL: Geometry = Geometry {
    slots: 16,
    stride: 512,
    answers: 8 * PEER_ANSWERS_MAX as u32,
};

fn input(peers_max: u32) -> Input {
    Input::Udp {
        listen: String::new(),
        peers_max,
        idle_ms: 60_000,
    }
}

fn datagram_settings() -> SensorSettings {
    SensorSettings {
        input: input(100),
        ..settings()
    }
}

fn bound(geometry: Geometry, address: &str) -> Site {
    let socket = UdpSocket::bind(address).unwrap();
    setsockopt(&socket, sockopt::RxqOvfl, &1).unwrap();
    let address = socket.local_addr().unwrap();
    let mut site = Site::with_input(geometry, socket.into());
    site.address = Some(address);
    site
}

fn site(geometry: Geometry) -> Site {
    bound(geometry, "127.0.0.1:0")
}

/// A device with a port of its own.
fn device(site: &Site) -> UdpSocket {
    let to = site.address.unwrap();
    let socket = match to.is_ipv4() {
        true => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)),
        false => UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)),
    };
    let socket = socket.unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Takes one answer, a datagram of its own, and returns the serial that it answers.
fn answered_by(device: &UdpSocket) -> u16 {
    let mut wire = [0; 100];
    let length = device.recv(&mut wire).unwrap();
    assert_eq!((wire[0], wire[length - 1]), (0x7e, 0x7e));
    let content = unescaped(&wire[1..length - 1]);
    assert_eq!(content[..2], [0x80, 0x01], "a general response");
    u16::from_be_bytes([content[12], content[13]])
}

fn assert_no_answer(device: &UdpSocket) {
    device.set_read_timeout(Some(SILENCE)).unwrap();
    let got = device.recv(&mut [0; 100]);
    device.set_read_timeout(Some(DEADLINE)).unwrap();
    let kind = got.map_err(|error| error.kind());
    assert!(
        matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        "{kind:?}"
    );
}

fn corrupt(mut wire: Vec<u8>) -> Vec<u8> {
    let check = wire.len() - 2;
    wire[check] ^= 1;
    wire
}

#[test]
fn a_device_is_answered_at_its_address_when_its_message_is_accepted_and_not_before() {
    let mut site = site(ROOM);
    let running = site.start(datagram_settings());
    let (first, second) = (device(&site), device(&site));
    first.send(&report(7)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    second.send(&report(8)).unwrap();
    let (_, other) = site.frames(1).remove(0);
    assert_eq!(frame.fix.position_deg(), Some((31.230416, 121.473701)));
    assert_no_answer(&first);
    site.settle(&other, Outcome::Accepted);
    assert_eq!(answered_by(&second), 8);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered_by(&first), 7);
    assert_eq!(site.counted(IngestMetric::AnswersAccepted, 2), 2);
    assert_eq!(site.counted(IngestMetric::ConnectionsOpen, 2), 2);
    running.drain();
    assert_eq!(site.counted(IngestMetric::ClosedDrain, 2), 2);
}

#[test]
fn ipv6_is_answered_too() {
    let mut site = bound(ROOM, "[::1]:0");
    let running = site.start(datagram_settings());
    let device = device(&site);
    device.send(&report(7)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered_by(&device), 7);
    running.drain();
}

#[test]
fn a_datagram_is_read_whole_and_what_is_cut_off_is_counted() {
    let mut site = site(ROOM);
    let running = site.start(datagram_settings());
    let device = device(&site);
    let mut datagram = [report(1), report(2), report(3)].concat();
    datagram.truncate(datagram.len() - 1);
    device.send(&datagram).unwrap();
    assert_eq!(seconds(&site.frames(2)), [1, 2]);
    assert_eq!(site.counted(IngestMetric::RefusedIncomplete, 1), 1);
    // The rest is no rest of that: it is a message of its own.
    device.send(&report(4)).unwrap();
    assert_eq!(seconds(&site.frames(1)), [4]);
    running.drain();
}

#[test]
fn what_finds_no_room_is_dropped_and_counted_and_others_go_on() {
    let mut site = site(SMALL);
    let mut settings = datagram_settings();
    settings.ack = Ack::Received;
    let running = site.start(settings);
    let device = device(&site);
    for serial in 0..16 {
        device.send(&report(serial)).unwrap();
        assert_eq!(answered_by(&device), serial);
    }
    for serial in 16..20 {
        device.send(&report(serial)).unwrap();
    }
    assert_eq!(site.counted(IngestMetric::DroppedRing, 4), 4);
    // What needs no room is still answered.
    let query = message(0x0002, 20, &[0; 8]);
    device.send(&query).unwrap();
    assert_eq!(answered_by(&device), 20, "and none of those before");

    assert_eq!(seconds(&site.frames(16)), (0..16).collect::<Vec<i64>>());
    device.send(&report(21)).unwrap();
    assert_eq!(answered_by(&device), 21);
    assert_eq!(seconds(&site.frames(1)), [21]);
    running.drain();
}

/// Nine locations are published in parts of four; there is room for two parts.
#[test]
fn a_batch_of_which_a_part_was_dropped_is_not_answered() {
    let mut site = site(SMALL);
    let running = site.start(datagram_settings());
    let (first, second) = (device(&site), device(&site));
    for serial in 0..8 {
        first.send(&report(serial)).unwrap();
    }
    site.counted(IngestMetric::FramesPublished, 8);
    let mut body = vec![0, 9, 1];
    for at in 0..9 {
        body.extend([0, 28]);
        body.extend(location(0, at));
    }
    second.send(&message(0x0704, 9, &body)).unwrap();
    assert_eq!(site.counted(IngestMetric::DroppedRing, 1), 1);
    for (_, frame) in site.frames(16) {
        site.settle(&frame, Outcome::Accepted);
    }
    for serial in 0..8 {
        assert_eq!(answered_by(&first), serial);
    }
    assert_eq!(site.counted(IngestMetric::AnswersRefused, 1), 1);
    assert_no_answer(&second);
    second.send(&message(0x0704, 10, &body)).unwrap();
    for (_, frame) in site.frames(9) {
        site.settle(&frame, Outcome::Accepted);
    }
    assert_eq!(answered_by(&second), 10);
    running.drain();
}

#[test]
fn an_answer_longer_than_its_request_is_not_sent() {
    let site = site(ROOM);
    let running = site.start(datagram_settings());
    let device = device(&site);
    // 15 bytes; the general response to it has 20.
    device.send(&message(0x0002, 1, &[])).unwrap();
    assert_eq!(site.counted(IngestMetric::WithheldLonger, 1), 1);
    assert_no_answer(&device);
    device.send(&message(0x0002, 2, &[0; 5])).unwrap();
    assert_eq!(answered_by(&device), 2);
    running.drain();
}

#[test]
fn many_unanswered_messages_of_one_device_take_no_room_from_another() {
    let mut site = site(Geometry {
        slots: 1024,
        ..SMALL
    });
    let running = site.start(datagram_settings());
    let (greedy, modest) = (device(&site), device(&site));
    for serial in 0..20 {
        greedy.send(&report(serial)).unwrap();
    }
    assert_eq!(site.counted(IngestMetric::DroppedAnswers, 12), 12);
    modest.send(&report(30)).unwrap();
    let frames = site.frames(PEER_ANSWERS_MAX + 1);
    site.settle(&frames[PEER_ANSWERS_MAX].1, Outcome::Accepted);
    assert_eq!(answered_by(&modest), 30);
    for (_, frame) in &frames[..PEER_ANSWERS_MAX] {
        site.settle(frame, Outcome::Accepted);
    }
    for serial in 0..PEER_ANSWERS_MAX as u16 {
        assert_eq!(answered_by(&greedy), serial);
    }
    greedy.send(&report(40)).unwrap();
    assert_eq!(seconds(&site.frames(1)), [40]);
    running.drain();
}

#[test]
fn who_sends_rubbish_is_not_read_for_a_while_and_its_neighbour_is() {
    let mut site = site(ROOM);
    let running = site.start(datagram_settings());
    let (bad, good) = (device(&site), device(&site));
    for _ in 0..5 {
        bad.send(&corrupt(report(1))).unwrap();
    }
    site.counted(IngestMetric::RefusedChecksum, 5);
    bad.send(&report(2)).unwrap();
    site.counted(IngestMetric::DatagramsDelayed, 1);
    good.send(&report(3)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    assert_eq!(frame.fix.time_ms / 1000 % 60, 3);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered_by(&good), 3);

    // It is let back in; a sound message makes up for all.
    let give_up = Instant::now() + DEADLINE;
    while site.consumer.available().unwrap() == 0 {
        assert!(Instant::now() < give_up, "it is never let back in");
        bad.send(&report(4)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    running.drain();
}

/// A datagram of 64 KiB that was a damaged start again and again took a tenth of a second, and its sender needed 20 of them
/// a second to keep an ingest from everybody else.
#[test]
fn a_datagram_is_read_no_further_than_its_sender_may_err() {
    let mut site = site(ROOM);
    let running = site.start(datagram_settings());
    let (bad, good) = (device(&site), device(&site));
    let datagram = [corrupt(report(1)).repeat(5), report(2)].concat();
    bad.send(&datagram).unwrap();
    good.send(&report(3)).unwrap();
    assert_eq!(seconds(&site.frames(1)), [3]);
    assert_eq!(site.counted(IngestMetric::RefusedChecksum, 5), 5);
    running.drain();
}

/// The first datagrams of a device were not its own: its translated address had been somebody else's, or an `auto` sensor
/// saw a stray one. All that it sent for as long as it sent was then read by the wrong rules.
#[test]
fn who_is_let_back_in_is_told_anew_by_its_first_bytes() {
    let mut site = site(ROOM);
    let mut settings = datagram_settings();
    settings.protocol = Protocol::Auto;
    let running = site.start(settings);
    let device = device(&site);
    for _ in 0..5 {
        device.send(b"hello").unwrap();
    }
    site.counted(IngestMetric::RefusedRubbish, 5);
    let give_up = Instant::now() + DEADLINE;
    while site.consumer.available().unwrap() == 0 {
        assert!(Instant::now() < give_up, "it is never understood");
        device.send(&report(4)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(seconds(&site.frames(1)), [4]);
    running.drain();
}

#[test]
fn a_full_table_forgets_who_was_silent_for_longest_and_reads_everybody() {
    let mut site = site(ROOM);
    let mut settings = datagram_settings();
    settings.input = input(3);
    let running = site.start(settings);
    let devices: Vec<UdpSocket> = (0..10).map(|_| device(&site)).collect();
    for (serial, device) in devices.iter().enumerate() {
        device.send(&report(serial as u16)).unwrap();
        site.counted(IngestMetric::Messages, serial as u64 + 1);
    }
    assert_eq!(site.counted(IngestMetric::ClosedDisplaced, 7), 7);
    // The address is all that an answer takes.
    for (serial, (_, frame)) in site.frames(10).iter().enumerate() {
        site.settle(frame, Outcome::Accepted);
        assert_eq!(answered_by(&devices[serial]), serial as u16);
    }
    running.drain();
}

#[test]
fn receivers_that_name_nobody_are_the_configured_device_and_silence_ends_a_moment() {
    let mut site = site(ROOM);
    let running = site.start(receiver(input(100)));
    let device = device(&site);
    for second in [1, 2] {
        device.send(rmc(second).as_bytes()).unwrap();
    }
    let frames = site.frames(2);
    assert_eq!(seconds(&frames), [1, 2]);
    assert_eq!(frames[0].1.device.as_str(), "van-1");
    // A drain ends one too, of a receiver of which it is not known yet what it says last.
    let other = self::device(&site);
    other.send(rmc(3).as_bytes()).unwrap();
    site.counted(IngestMetric::ConnectionsAccepted, 2);
    running.drain();
    assert_eq!(seconds(&site.frames(1)), [3]);
}

/// A packet of the Teltonika protocol over UDP: its length, its number, 01, the number of the data in it, the IMEI, and
/// one record of codec 8 without values of inputs.
#[test]
fn a_packet_of_teltonika_is_acknowledged_by_its_numbers_and_the_count_of_its_records() {
    let mut content = vec![0xca, 0xfe, 0x01, 0x05, 0, 15];
    content.extend(b"356307042441013");
    content.extend([8, 1]);
    content.extend(1_716_000_000_000_u64.to_be_bytes());
    content.push(0);
    content.extend(115_761_240_i32.to_be_bytes());
    content.extend(481_371_540_i32.to_be_bytes());
    content.extend([2, 7, 0, 90, 9, 0, 36]);
    content.extend([0, 0, 0, 0, 0, 0, 1]);
    let packet = [&(content.len() as u16).to_be_bytes()[..], &content].concat();

    let mut site = site(ROOM);
    let mut settings = datagram_settings();
    settings.protocol = Protocol::Teltonika;
    let running = site.start(settings);
    let device = device(&site);
    device.send(&packet).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    assert_eq!(frame.device.as_str(), "356307042441013");
    assert_eq!(frame.fix.position_deg(), Some((48.137154, 11.576124)));
    assert_no_answer(&device);
    site.settle(&frame, Outcome::Accepted);
    let mut answer = [0; 20];
    let length = device.recv(&mut answer).unwrap();
    assert_eq!(answer[..length], [0, 5, 0xca, 0xfe, 0x01, 0x05, 1]);
    running.drain();
}

#[test]
fn a_drain_gives_the_answers_that_are_due() {
    let mut site = site(ROOM);
    let running = site.start(datagram_settings());
    let device = device(&site);
    device.send(&report(4)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    running.control.send(&ToChild::Drain, &[]).unwrap();
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered_by(&device), 4);
    running.thread.join().unwrap().unwrap();
    assert!(site.consumer.closed());
}

#[test]
fn what_the_kernel_had_no_room_for_is_counted_once_over_all_lives() {
    let site = site(ROOM);
    setsockopt(&site.input, sockopt::RcvBuf, &4096).unwrap();
    let device = device(&site);
    for _ in 0..100 {
        device.send(&report(1)).unwrap();
    }
    let in_all = |site: &Site, sent: u64| {
        let give_up = Instant::now() + DEADLINE;
        loop {
            let datagrams = site.counted(IngestMetric::Datagrams, 0);
            let lost = site.counted(IngestMetric::DatagramsKernel, 0);
            if datagrams + lost == sent {
                return lost;
            }
            assert!(Instant::now() < give_up, "{datagrams} read, {lost} lost");
        }
    };
    let running = site.start(datagram_settings());
    site.counted(IngestMetric::Datagrams, 1);
    // The kernel tells with the next datagram that it has room for.
    device.send(&report(2)).unwrap();
    let lost = in_all(&site, 101);
    assert!(lost > 0);
    running.drain();

    site.owner.set_generation().unwrap();
    let running = site.start(datagram_settings());
    device.send(&report(3)).unwrap();
    assert_eq!(in_all(&site, 102), lost);
    running.drain();
}

/// A line is longer than its answers, so that it may have them.
fn line(id: u32) -> String {
    format!("{{\"device\":\"a\",\"id\":{id},\"time\":{id}781524800000,\"lat\":1,\"lon\":2}}\n")
}

#[test]
fn what_finds_no_room_is_told_to_come_again_where_there_are_words_for_it() {
    let mut site = site(SMALL);
    let mut settings = datagram_settings();
    settings.protocol = Protocol::Json;
    let running = site.start(settings);
    let device = device(&site);
    let hear = || {
        let mut answer = [0; 100];
        let length = device.recv(&mut answer).unwrap();
        String::from_utf8(answer[..length].to_vec()).unwrap()
    };
    for id in 1..=PEER_ANSWERS_MAX as u32 {
        device.send(line(id).as_bytes()).unwrap();
    }
    let frames = site.frames(PEER_ANSWERS_MAX);
    assert_no_answer(&device);
    device.send(line(9).as_bytes()).unwrap();
    assert_eq!(hear(), "{\"again\":9}\n", "it waits for too many answers");
    site.settle(&frames[0].1, Outcome::Refused);
    assert_eq!(hear(), "{\"again\":1}\n", "it could not be kept");
    site.settle(&frames[1].1, Outcome::Accepted);
    assert_eq!(hear(), "{\"safe\":2}\n");
    site.counted(IngestMetric::DroppedAnswers, 1);
    running.drain();
}
