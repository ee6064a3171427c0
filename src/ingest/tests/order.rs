//! Answers of a protocol that does not say what it answers.

use super::*;

fn trackers() -> SensorSettings {
    SensorSettings {
        protocol: Protocol::Osmand,
        ..settings()
    }
}

fn place(second: u32) -> String {
    format!("GET /?id=1&lat=48.1&lon=11.5&timestamp=17815248{second:02} HTTP/1.1\r\n\r\n")
}

/// Without a device it is answered 400 at once.
const NAMELESS: &str = "GET /?lat=48.1&lon=11.5 HTTP/1.1\r\n\r\n";

fn status(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head[9..12].to_vec()).unwrap()
}

/// A client with several requests under way takes the first response for the one to the first request.
#[test]
fn an_immediate_answer_does_not_overtake_one_that_waits() {
    let mut site = Site::listening(ROOM);
    let running = site.start(trackers());
    let mut device = site.connect();
    let requests = [&place(1), NAMELESS, &place(2)].concat();
    device.write_all(requests.as_bytes()).unwrap();

    let (_, frame) = site.frames(1).remove(0);
    assert_silent(&mut device);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(status(&mut device), "200");
    assert_eq!(status(&mut device), "400");
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(status(&mut device), "200");
    running.drain();
}

#[test]
fn a_refusal_that_has_words_keeps_its_place_and_the_connection() {
    let mut site = Site::listening(ROOM);
    let running = site.start(trackers());
    let mut device = site.connect();
    let requests = [&place(1), NAMELESS].concat();
    device.write_all(requests.as_bytes()).unwrap();

    let (_, frame) = site.frames(1).remove(0);
    assert_silent(&mut device);
    site.settle(&frame, Outcome::Refused);
    assert_eq!(status(&mut device), "503");
    assert_eq!(status(&mut device), "400");
    device.write_all(place(1).as_bytes()).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(status(&mut device), "200");
    site.counted(IngestMetric::AnswersRefused, 1);
    running.drain();
}

/// A packet of Ruptela with a record of that second: the length, the IMEI, the command, what is left, the count, and a
/// valid place without values. Its check is left zero.
fn records(second: u32) -> Vec<u8> {
    let mut content = 356_307_042_441_013_u64.to_be_bytes().to_vec();
    content.extend([1, 0, 1]);
    content.extend((1_716_000_000 + second).to_be_bytes());
    content.extend([0, 0]);
    content.extend(115_761_240_i32.to_be_bytes());
    content.extend(481_371_540_i32.to_be_bytes());
    content.extend([0, 0, 0, 0, 7, 0, 36, 10, 0, 0, 0, 0, 0]);
    [&(content.len() as u16).to_be_bytes()[..], &content, &[0; 2]].concat()
}

/// The "yes" to records without an alarm overtook that to records whose alarm was not safe yet. The device took it for the
/// older ones and deleted them; the journal then refused the alarm, and it was nowhere.
#[test]
fn a_yes_that_names_nothing_is_said_to_one_packet_at_a_time() {
    let mut site = Site::listening(ROOM);
    let mut settings = settings();
    settings.protocol = Protocol::Ruptela;
    settings.lenient = true;
    let running = site.start(settings);
    let mut device = site.connect();
    device
        .write_all(&[records(1), records(2)].concat())
        .unwrap();

    let (_, first) = site.frames(1).remove(0);
    assert_silent(&mut device);
    assert_eq!(site.consumer.available().unwrap(), 0);
    site.settle(&first, Outcome::Accepted);
    let mut yes = [0; 6];
    device.read_exact(&mut yes).unwrap();
    assert_eq!(yes, [0x00, 0x02, 0x64, 0x01, 0x13, 0xbc]);
    let (_, second) = site.frames(1).remove(0);
    site.settle(&second, Outcome::Refused);
    assert_closed(&mut device);
    site.counted(IngestMetric::ClosedRefused, 1);
    running.drain();
}
