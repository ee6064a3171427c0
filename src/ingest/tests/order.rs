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
fn after_a_refusal_the_connection_ends_before_a_later_answer_could_be_taken_for_the_missing_one() {
    let mut site = Site::listening(ROOM);
    let running = site.start(trackers());
    let mut device = site.connect();
    let requests = [&place(1), NAMELESS].concat();
    device.write_all(requests.as_bytes()).unwrap();

    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Refused);
    let mut rest = Vec::new();
    // Reset where the request behind it was not read any more.
    let _ = device.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    site.counted(IngestMetric::ClosedRefused, 1);
    running.drain();
}
