//! Requests as clients send them.

use super::super::testing;
use super::*;
use crate::frame::DeviceId;

const NOW: Arrival = Arrival {
    wall_ms: 1_781_524_800_000,
};

const PLACE: &str = r#"{"device":"a","id":1,"lat":1,"lon":2}"#;

fn session(protocol: Protocol) -> Session {
    Session::new(protocol, &Settings::default())
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /in HTTP/1.1\r\nHost: node\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut request = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(chunk_bytes) {
        request.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

fn read(protocol: Protocol, stream: &[u8]) -> Vec<Result<Message, Reject>> {
    testing::read(&mut session(protocol), &[stream], NOW)
}

fn one(protocol: Protocol, request: &[u8]) -> Message {
    let mut results = read(protocol, request);
    assert_eq!(results.len(), 1, "{results:?}");
    results.remove(0).unwrap()
}

/// The status of a response, and its body.
fn parts(response: &[u8]) -> (u16, Vec<u8>) {
    let mut room = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut room);
    let len = head.parse(response).unwrap().unwrap();
    let stated = head
        .headers
        .iter()
        .find(|field| field.name == "Content-Length");
    let body = response[len..].to_vec();
    let stated = stated.map(|field| std::str::from_utf8(field.value).unwrap().parse().unwrap());
    assert_eq!(stated.unwrap_or(0), body.len());
    (head.code.unwrap(), body)
}

fn said(response: &[u8]) -> (u16, String) {
    let (status, body) = parts(response);
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn a_body_of_json_is_an_object_a_list_or_several_however_they_are_laid_out() {
    let lines = [
        (PLACE.to_owned(), 1, "{\"safe\":1}\n"),
        (
            format!("[{PLACE},{{\"lat\":3,\"lon\":4}}]\n"),
            2,
            "{\"safe\":1}\n",
        ),
        (
            format!("{PLACE}\n{{\"device\":\"a\",\"id\":2,\"held\":[]}}\r\n\n"),
            2,
            "{\"safe\":1}\n{\"safe\":2}\n",
        ),
        (PLACE.replace(',', "\n,\n "), 1, "{\"safe\":1}\n"),
        (
            format!("{PLACE}{}", PLACE.replace('1', "7")),
            2,
            "{\"safe\":1}\n{\"safe\":7}\n",
        ),
    ];
    for (body, reports, answer) in lines {
        let message = one(Protocol::Json, &post(body.as_bytes()));
        assert_eq!(
            (message.device, message.reports.len()),
            (DeviceId::new(b"a"), reports),
            "{body}"
        );
        assert!(message.answer_now.is_empty(), "nothing is safe yet");
        assert_eq!(
            said(&message.answer_when_safe),
            (200, answer.to_owned()),
            "{body}"
        );
    }
    let silent = one(Protocol::Json, &post(br#"{"device":"a","lat":1,"lon":2}"#));
    assert_eq!(said(&silent.answer_when_safe), (204, String::new()));
    let status = one(
        Protocol::Json,
        &post(br#"{"device":"a","id":1,"attributes":{"model":"m"}}"#),
    );
    assert_eq!(
        (said(&status.answer_now).0, status.attributes.len()),
        (200, 1)
    );
}

/// A codec 8 packet of the vendor's documentation behind the login that its device sends.
#[test]
fn a_body_of_another_protocol_is_a_connection_of_its_own() {
    let login = [&[0, 15][..], b"356307042441013"].concat();
    let packet = b"\x00\x00\x00\x00\x00\x00\x00\x36\x08\x01\x00\x00\x01\x6B\x40\xD8\xEA\x30\x01\x00\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x05\x02\x15\x03\x01\x01\x01\x42\x5E\x0F\x01\xF1\x00\x00\
        \x60\x1A\x01\x4E\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\xC7\xCF";
    let message = one(Protocol::Teltonika, &post(&[&login, &packet[..]].concat()));
    assert_eq!(message.device, DeviceId::new(b"356307042441013"));
    assert_eq!(message.reports.len(), 1);
    assert_eq!(parts(&message.answer_when_safe), (200, vec![1, 0, 0, 0, 1]));
    // Another request of the same connection may be another client's.
    let stream = [post(&login), post(packet)].concat();
    let nameless = read(Protocol::Teltonika, &stream).remove(1).unwrap();
    assert!(nameless.reports.is_empty() && nameless.refused.is_some());
    assert_eq!(parts(&nameless.answer_now).0, 400);
}

#[test]
fn the_last_moment_of_a_receiver_is_taken_with_the_request() {
    let settings = Settings {
        device: DeviceId::new(b"boat"),
        ..Settings::default()
    };
    let rmc = b"$GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*57\r\n";
    let results = testing::read(
        &mut Session::new(Protocol::Nmea, &settings),
        &[&post(rmc)],
        NOW,
    );
    let message = results[0].as_ref().unwrap();
    assert_eq!(
        (message.device, message.reports.len()),
        (DeviceId::new(b"boat"), 1)
    );
    assert_eq!(said(&message.answer_when_safe).0, 204);
}

#[test]
fn requests_in_a_row_are_read_however_they_are_cut_and_coded() {
    let expecting = String::from_utf8(post(PLACE.as_bytes())).unwrap();
    let expecting = expecting.replacen("\r\n", "\r\nExpect: 100-continue\r\n", 1);
    let late_chunks = String::from_utf8(chunked(PLACE.as_bytes(), 9)).unwrap();
    let late_chunks = late_chunks.replacen("\r\n", "\r\nExpect: 100-Continue\r\n", 1);
    let stream = [
        b"\r\n".to_vec(),
        post(PLACE.as_bytes()),
        chunked(PLACE.as_bytes(), 5),
        expecting.into_bytes(),
        late_chunks.into_bytes(),
        chunked(PLACE.as_bytes(), 1),
    ]
    .concat();
    let whole = read(Protocol::Json, &stream);
    let kinds: Vec<_> = whole
        .iter()
        .map(|read| read.as_ref().unwrap().kind)
        .collect();
    assert_eq!(
        kinds,
        [
            "report", "report", "expect", "report", "expect", "report", "report"
        ]
    );
    for at in [2, 4] {
        let now = &whole[at].as_ref().unwrap().answer_now;
        assert_eq!(now, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    for piece_bytes in 1..stream.len() {
        let pieces: Vec<_> = stream.chunks(piece_bytes).collect();
        let cut = testing::read(&mut session(Protocol::Json), &pieces, NOW);
        assert_eq!(cut, whole, "pieces of {piece_bytes}");
    }
}

#[test]
fn what_is_no_request_for_us_is_told_so_by_its_status() {
    let with = |method: &str, fields: &str| format!("{method} / HTTP/1.1\r\n{fields}\r\n");
    let long = BODY_BYTES_MAX + 1;
    for (request, status, reject) in [
        (with("GET", ""), 404, Reject::UnknownKind),
        (with("HEAD", ""), 405, Reject::UnknownKind),
        (with("DELETE", ""), 405, Reject::UnknownKind),
        (with("POST", ""), 400, Reject::Incomplete),
        (
            with("POST", "Content-Encoding: gzip\r\nContent-Length: 0\r\n"),
            415,
            Reject::UnknownKind,
        ),
        (
            with("POST", "Transfer-Encoding: gzip, chunked\r\n"),
            501,
            Reject::UnknownKind,
        ),
        (
            with(
                "POST",
                "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            ),
            400,
            Reject::Length,
        ),
        (
            with("POST", "Content-Length: 1\r\nContent-Length: 2\r\n"),
            400,
            Reject::Length,
        ),
        (with("POST", "Content-Length: -1\r\n"), 400, Reject::Length),
        (
            with("POST", &format!("Content-Length: {long}\r\n")),
            413,
            Reject::TooLong,
        ),
        (
            with(
                "POST",
                &format!("Content-Length: {long}\r\nExpect: 100-continue\r\n"),
            ),
            413,
            Reject::TooLong,
        ),
        (
            with("POST", "Transfer-Encoding: chunked\r\n") + "x\r\n",
            400,
            Reject::Length,
        ),
    ] {
        let message = read(Protocol::Json, request.as_bytes()).remove(0).unwrap();
        assert_eq!(
            (parts(&message.answer_now).0, message.refused),
            (status, Some(reject)),
            "{request}"
        );
        assert!(message.reports.is_empty() && message.answer_when_safe.is_empty());
        let closes = String::from_utf8_lossy(&message.answer_now).contains("Connection: close");
        let framing = matches!(reject, Reject::Length | Reject::TooLong) || status == 501;
        assert_eq!(closes, framing, "{request}");
    }
}

#[test]
fn a_long_body_is_taken_up_to_the_limit_and_passed_over_beyond_it() {
    let spaces = |len: usize| [PLACE.as_bytes(), &vec![b' '; len - PLACE.len()]].concat();
    let longest = post(&spaces(BODY_BYTES_MAX));
    assert_eq!(one(Protocol::Json, &longest).reports.len(), 1);
    let stream = [post(&spaces(BODY_BYTES_MAX + 1)), post(PLACE.as_bytes())].concat();
    let results: Vec<_> = read(Protocol::Json, &stream)
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(
        (results[0].refused, results[1].reports.len()),
        (Some(Reject::TooLong), 1)
    );

    let in_chunks = chunked(&spaces(BODY_BYTES_MAX), 30_000);
    for piece_bytes in [1_000, usize::MAX] {
        let pieces: Vec<_> = in_chunks.chunks(piece_bytes).collect();
        let results = testing::read(&mut session(Protocol::Json), &pieces, NOW);
        let sound: Vec<_> = results.into_iter().flatten().collect();
        assert_eq!((parts(&sound[0].answer_now).0, sound.len()), (413, 1));
    }
}

/// A proxy that reads a request in another way than we do would let a stranger put a request of his own between those of
/// others.
#[test]
fn behind_a_request_whose_end_is_not_known_nothing_is_taken_for_one() {
    for fields in [
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        // Heads that we cannot read and a proxy may.
        "Content-Length : 4\r\n",
        &"X: y\r\n".repeat(49),
        &format!("X: {}\r\n", "y".repeat(8_192)),
    ] {
        let first = format!("POST / HTTP/1.1\r\n{fields}\r\n").into_bytes();
        for second in [post(PLACE.as_bytes()), b"GET ".to_vec()] {
            let mut session = session(Protocol::Json);
            let results = testing::read(&mut session, &[&first, &second], NOW);
            let Some((Ok(refused), behind)) = results.split_first() else {
                panic!("{fields}: {results:?}");
            };
            let answer = String::from_utf8_lossy(&refused.answer_now);
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
            assert!(refused.refused.is_some());
            assert!(behind.iter().all(|read| *read == Err(Reject::Rubbish)));
        }
    }
    for first in ["BREW / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", "x\n"] {
        let stream = [first.as_bytes(), &post(PLACE.as_bytes())].concat();
        let cut = stream.chunks(7).collect::<Vec<_>>();
        let results = testing::read(&mut session(Protocol::Json), &cut, NOW);
        assert!(results.iter().all(|read| *read == Err(Reject::Rubbish)));
    }
}

#[test]
fn what_is_sound_is_taken_and_the_status_tells_that_it_was_not_all() {
    let bad = r#"{"device":"a","id":2,"speed":1}"#;
    let body = format!("{PLACE}\n{bad}\nno json\n{}\n", PLACE.replace('1', "3"));
    let message = one(Protocol::Json, &post(body.as_bytes()));
    assert_eq!(
        (message.reports.len(), message.refused),
        (2, Some(Reject::Field))
    );
    assert!(
        message.answer_now.is_empty(),
        "what was taken is not safe yet"
    );
    let (status, lines) = said(&message.answer_when_safe);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(
        (status, lines[0], lines[3]),
        (400, "{\"safe\":1}", "{\"safe\":3}")
    );
    assert!(
        lines[1].starts_with("{\"refused\":2,\"reason\":"),
        "{lines:?}"
    );
    assert_eq!(
        lines[2],
        "{\"refused\":null,\"reason\":\"bytes are not a message\"}"
    );

    let message = one(Protocol::Json, &post(bad.as_bytes()));
    assert_eq!(said(&message.answer_now).0, 400);
    let message = one(Protocol::Gt06, &post(b"hello"));
    let reason = "{\"reason\":\"bytes are not a message\"}\n".to_owned();
    assert_eq!(said(&message.answer_now), (400, reason));
}

#[test]
fn what_there_is_no_room_for_is_503_with_a_time_to_come_again() {
    let message = one(Protocol::Json, &post(PLACE.as_bytes()));
    let text = String::from_utf8(message.answer_if_refused.clone()).unwrap();
    assert!(
        text.contains("\r\nRetry-After: 5\r\n") && !text.contains("close"),
        "{text}"
    );
    let reason = "{\"reason\":\"there is no room\"}\n".to_owned();
    assert_eq!(said(&message.answer_if_refused), (503, reason));
}

/// Answers wait with their requests, and attributes with their reports: what one client may have is bounded.
#[test]
fn a_request_has_limits_of_answers_and_attributes() {
    let refused = |body: &str| {
        let message = one(Protocol::Json, &post(body.as_bytes()));
        assert!(message.reports.is_empty(), "nothing of it is taken");
        said(&message.answer_now)
    };
    let status = "{\"device\":\"a\",\"id\":1}";
    // 744 answers of 11 bytes are 8,184 bytes.
    let message = one(Protocol::Json, &post(status.repeat(744).as_bytes()));
    assert_eq!(said(&message.answer_now).0, 200);
    let (code, why) = refused(&status.repeat(745));
    assert_eq!(
        (code, why.contains("8192 bytes of answers")),
        (413, true),
        "{why}"
    );

    let attributes: Vec<_> = (0..64).map(|n| format!("\"a{n}\":1")).collect();
    let report = format!(
        "{{\"device\":\"a\",\"held\":[],\"attributes\":{{{}}}}}",
        attributes.join(",")
    );
    assert_eq!(
        one(Protocol::Json, &post(report.repeat(32).as_bytes()))
            .reports
            .len(),
        32
    );
    let (code, why) = refused(&report.repeat(33));
    assert_eq!(
        (code, why.contains("2048 attributes")),
        (413, true),
        "{why}"
    );
}

#[test]
fn a_request_is_of_one_device_and_has_a_limit_of_reports() {
    let of = |device: &str| format!("{{\"device\":\"{device}\",\"lat\":1,\"lon\":2}}\n");
    let message = one(
        Protocol::Json,
        &post([of("a"), of("b"), of("a")].concat().as_bytes()),
    );
    assert_eq!(
        (message.device, message.reports.len()),
        (DeviceId::new(b"a"), 2)
    );
    assert_eq!(message.refused, Some(Reject::Device));
    let mixed = format!("{}{{\"device\":\"b\",\"id\":1}}\n", of("a"));
    assert_eq!(
        one(Protocol::Json, &post(mixed.as_bytes())).device,
        DeviceId::new(b"a")
    );

    let many = of("a").repeat(contents::REPORTS_MAX);
    assert_eq!(
        one(Protocol::Json, &post(many.as_bytes())).reports.len(),
        contents::REPORTS_MAX
    );
    let message = one(Protocol::Json, &post((many + &of("a")).as_bytes()));
    assert_eq!(
        (message.reports.len(), said(&message.answer_now).0),
        (0, 413)
    );
}

/// Lines that cannot be read would otherwise be answered by ten times their bytes.
#[test]
fn a_body_of_rubbish_is_not_read_to_its_end() {
    let body = "x\n".repeat(BODY_BYTES_MAX / 2);
    let message = one(Protocol::Json, &post(body.as_bytes()));
    assert_eq!(said(&message.answer_now).1.lines().count(), 16);
}
