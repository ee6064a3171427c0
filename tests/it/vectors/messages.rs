//! Messages of devices in every protocol: what they say, however their bytes arrive, whatever came before.

use ringway::frame::Fix;
use ringway::protocol::{Message, Protocol, Reject, Session, Split};
use serde_json::Value as Json;

use super::data::{
    NOW, data, feed, feed_pieces, is_at, is_then, json_lines, payload, places, recorded, unhex,
};

/// Vectors that contradict others or that only a lenient reader takes, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "nmea_t55/t55protocol/040",
        "the same bytes as 024, of which a position is expected; its reader was told to ignore it",
    ),
    (
        "nmea_t55/t55protocol/002",
        "its checksum is wrong (6D for 6B), and it stands alone on its line",
    ),
    ("gl200/gl200textprotocol/109", NO_PLACE),
    ("gl200/gl200textprotocol/147", NO_PLACE),
    ("tk103/tk103protocol/012", NO_PLACE),
    ("teltonika/teltonikaprotocol/016", NO_PLACE),
    ("teltonika/teltonikaprotocol/030", NO_PLACE),
    ("teltonika/teltonikaprotocol/036", CUT),
    ("teltonika/teltonikaprotocol/040", CUT),
    ("meitrack/meitrackprotocol/003", WRONG_SUM),
    ("meitrack/meitrackprotocol/004", WRONG_SUM),
    ("meitrack/meitrackprotocol/013", WRONG_SUM),
    ("meitrack/meitrackprotocol/024", WRONG_SUM),
    ("meitrack/meitrackprotocol/031", WRONG_SUM),
    ("meitrack/meitrackprotocol/047", WRONG_SUM),
];

const NO_PLACE: &str = "holds no coordinates; its reader was told the last ones of the device";
const CUT: &str = "is shorter than it says: on a connection the rest would be waited for";
const WRONG_SUM: &str = "its sum is wrong: its device id was changed before it was published";

fn check_file(path: &str, protocol: Protocol, check: fn(Protocol, &Json) -> Vec<String>) {
    let Some(text) = data(path, path) else {
        return;
    };
    let mut wrong = Vec::new();
    let mut checked = 0;
    for vector in json_lines(&text) {
        if vector["layer"] != "message" || vector["disabled_upstream"] == true {
            continue;
        }
        checked += 1;
        let id = vector["id"].as_str().unwrap();
        for complaint in check(protocol, &vector) {
            wrong.push(format!("{id}: {complaint}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 0, "no message in {path}");
}

fn session(protocol: Protocol) -> Session {
    Session::per_message(protocol, &recorded(None))
}

/// What comes of the bytes in a session of their own.
fn read(protocol: Protocol, bytes: &[u8]) -> Vec<Result<Message, Reject>> {
    feed(&mut session(protocol), bytes, usize::MAX)
}

/// The locations that a vector states or that an independent reader found, each with its time.
fn expected_places(vector: &Json) -> Vec<(&Json, &Json)> {
    if let Some(place) = vector["expect"].get("position") {
        return vec![(place, &place["time"])];
    }
    let derived = &vector["derived"];
    let many = derived["records"]
        .as_array()
        .or(derived["locations"].as_array());
    if let Some(many) = many {
        let time = |place: &'_ Json| match place.get("time") {
            Some(_) => "time",
            None => "time_if_gmt8",
        };
        let placed = many.iter().filter(|place| place.get("lat").is_some());
        return placed.map(|place| (place, &place[time(place)])).collect();
    }
    let one = match derived.get("location") {
        Some(place) => (place, &place["time_if_gmt8"]),
        None => (derived, &derived["time"]),
    };
    one.0.get("lat").map(|_| one).into_iter().collect()
}

fn is_damaged(vector: &Json) -> bool {
    let derived = &vector["derived"];
    derived["checksum_ok"] == false || derived["crc_ok"] == false
}

/// What a message says.
fn check_meaning(protocol: Protocol, vector: &Json) -> Vec<String> {
    let results = read(protocol, &payload(vector));
    let mut complaints = Vec::new();
    if is_damaged(vector) {
        if results.iter().any(Result::is_ok) {
            complaints.push("a wrong checksum was accepted".to_owned());
        }
        return complaints;
    }
    let fixes = places(&results);
    for (place, time) in expected_places(vector) {
        let found = fixes
            .iter()
            .any(|fix| is_at(fix, place) && is_then(fix, time));
        if !found {
            complaints.push(format!("no fix at {place}"));
        }
    }
    let kind = vector["expect"]["type"].as_str().unwrap();
    let length_is_wrong = vector["derived"]["length_ok"] == false && fixes.is_empty();
    let as_expected = match kind {
        "position" | "positions" => !fixes.is_empty() || length_is_wrong,
        "null" => fixes.is_empty(),
        _ => results.iter().any(Result::is_ok) || length_is_wrong,
    };
    if !as_expected {
        let count = fixes.len();
        complaints.push(format!("{kind} expected, {count} fixes, {results:?}"));
    }
    let id = vector["id"].as_str().unwrap();
    match LEFT_OUT.iter().find(|(name, _)| *name == id) {
        Some(_) if complaints.is_empty() => vec!["is left out and agrees".to_owned()],
        Some(_) => Vec::new(),
        None => complaints,
    }
}

/// The same bytes in other pieces, twice in a row, and cut off.
fn check_pieces(protocol: Protocol, vector: &Json) -> Vec<String> {
    let bytes = payload(vector);
    let results = read(protocol, &bytes);
    let fixes = places(&results);
    let mut complaints = Vec::new();
    let mut check = |what: String, pieces: &[&[u8]], expected: &[Fix]| {
        let results = feed_pieces(&mut session(protocol), pieces.iter().copied());
        if places(&results) != expected {
            complaints.push(format!("other fixes {what}"));
        }
    };
    check(
        "byte by byte".into(),
        &bytes.chunks(1).collect::<Vec<_>>(),
        &fixes,
    );
    for at in 1..bytes.len() {
        let (head, tail) = bytes.split_at(at);
        check(format!("split at {at}"), &[head, tail], &fixes);
    }
    let twice = [&bytes[..], &bytes].concat();
    let expected = [&fixes[..], &fixes].concat();
    check("glued".into(), &[&twice], &expected);
    check("one after the other".into(), &[&bytes, &bytes], &expected);
    for at in 0..bytes.len() {
        let (head, tail) = twice.split_at(bytes.len() + at);
        let what = format!("glued and split at {at}");
        check(what, &[head, tail], &expected);
    }
    for at in 0..bytes.len() {
        let cut = places(&read(protocol, &bytes[..at]));
        if !fixes.starts_with(&cut) {
            complaints.push(format!("fixes that were not sent, cut at {at}: {cut:?}"));
        }
    }
    complaints
}

/// A message with a changed byte that is refused leaves no trace in what comes after it.
fn check_damage(protocol: Protocol, vector: &Json) -> Vec<String> {
    let bytes = payload(vector);
    let mut splitter = session(protocol);
    let Split::Message { range, .. } = splitter.split(&bytes) else {
        return Vec::new();
    };
    let message = &bytes[range];
    let undisturbed = session_after_split(protocol, &bytes).decode(message, NOW);
    let mut complaints = Vec::new();
    for at in 0..message.len() {
        let mut damaged = message.to_vec();
        damaged[at] ^= 0x55;
        let mut disturbed = session_after_split(protocol, &bytes);
        if disturbed.decode(&damaged, NOW).is_err() && disturbed.decode(message, NOW) != undisturbed
        {
            complaints.push(format!("a refused message, damaged at {at}, left a trace"));
        }
    }
    complaints
}

/// A session that has cut the first message off the bytes.
fn session_after_split(protocol: Protocol, bytes: &[u8]) -> Session {
    let mut session = session(protocol);
    session.split(bytes);
    session
}

/// `layer: frame`: what a splitter gives.
fn check_frames(path: &str, protocol: Protocol) {
    let Some(text) = data(path, path) else {
        return;
    };
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for vector in json_lines(&text) {
        let Some(expected) = vector["expect"]["frame"].as_str().map(unhex) else {
            continue;
        };
        checked += 1;
        let id = vector["id"].as_str().unwrap();
        let messages = cut(protocol, &payload(&vector));
        let found = messages.iter().any(|ours| covers(ours, &expected));
        let left_out = FRAMES_LEFT_OUT.iter().any(|(name, _)| *name == id);
        if found == left_out {
            wrong.push(format!("{id}: {messages:02x?}, expected {expected:02x?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 0, "no frame in {path}");
}

/// The messages of a stream, not read.
fn cut(protocol: Protocol, bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut splitter, mut rest, mut messages) = (session(protocol), bytes, Vec::new());
    loop {
        match splitter.split(rest) {
            Split::Message { range, consumed } => {
                messages.push(rest[range].to_vec());
                rest = &rest[consumed..];
            }
            Split::Rubbish { consumed, .. } => rest = &rest[consumed..],
            Split::Incomplete => return messages,
        }
    }
}

/// Frames that our splitter does not give, with the reason.
const FRAMES_LEFT_OUT: &[(&str, &str)] = &[(
    "jt808/jt808frame/001",
    "the splitter leaves the escapes in; the test of JT/T 808 takes them out",
)];

/// Whether our message is that frame; one of us may keep what encloses a message.
fn covers(ours: &[u8], theirs: &[u8]) -> bool {
    let within = |long: &[u8], short: &[u8]| {
        long.len() <= short.len() + 4 && long.windows(short.len()).any(|part| part == short)
    };
    !ours.is_empty() && !theirs.is_empty() && (within(ours, theirs) || within(theirs, ours))
}

macro_rules! files {
    ($($name:ident $protocol:ident $path:literal)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn vectors_give_what_their_tests_state() {
                check_file($path, Protocol::$protocol, check_meaning);
            }

            #[test]
            fn vectors_give_the_same_however_their_bytes_arrive() {
                check_file($path, Protocol::$protocol, check_pieces);
            }

            #[test]
            fn refused_messages_leave_no_trace() {
                check_file($path, Protocol::$protocol, check_damage);
            }

            #[test]
            fn the_first_bytes_tell_the_protocol() {
                check_file($path, Protocol::$protocol, check_auto);
            }
        })*
    };
}

files! {
    jt808 Jt808 "traccar/jt808.jsonl"
    teltonika Teltonika "traccar/teltonika.jsonl"
    gt06 Gt06 "traccar/gt06.jsonl"
    h02 H02 "traccar/h02.jsonl"
    nmea Nmea "traccar/nmea_t55.jsonl"
    osmand Osmand "traccar/osmand.jsonl"
    gl200 Gl200 "traccar/gl200.jsonl"
    tk103 Tk103 "traccar/tk103.jsonl"
    gps103 Gps103 "traccar/gps103.jsonl"
    meitrack Meitrack "traccar/meitrack.jsonl"
    ruptela Ruptela "traccar/ruptela.jsonl"
}

/// A session that is told nothing gives what one that knows the protocol gives.
fn check_auto(protocol: Protocol, vector: &Json) -> Vec<String> {
    let bytes = payload(vector);
    let known = places(&read(protocol, &bytes));
    let mut complaints = Vec::new();
    for at in [1, 2, 4, 9, bytes.len()] {
        let pieces = bytes.split_at(at.min(bytes.len()));
        let found = feed_pieces(&mut session(Protocol::Auto), [pieces.0, pieces.1]);
        if places(&found) != known {
            complaints.push(format!("auto gives other fixes, split at {at}"));
        }
    }
    complaints
}

#[test]
fn frames_are_cut_out_of_their_streams() {
    check_frames("traccar/jt808.jsonl", Protocol::Jt808);
    check_frames("traccar/gt06.jsonl", Protocol::Gt06);
    check_frames("traccar/h02.jsonl", Protocol::H02);
    check_frames("traccar/gl200.jsonl", Protocol::Gl200);
    check_frames("traccar/tk103.jsonl", Protocol::Tk103);
    check_frames("traccar/meitrack.jsonl", Protocol::Meitrack);
}
