//! Other people's messages and receiver logs against what others decoded from them.
//!
//! The data stay outside the repository: `RINGWAY_TEST_DATA`, or the folder `../shared/data` beside the checkout.
//! Without them these tests skip and say so. What is left out of a comparison is listed here with its reason.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop with the line that broke"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use ringway::frame::{Fix, FixFields, rfc3339_ms};
use ringway::protocol::{Arrival, Message, Protocol, Reject, Report, Session, Settings, Split};
use serde_json::Value as Json;

/// Recorded bytes are read as recorded: no date depends on this.
const NOW: Arrival = Arrival { wall_ms: 0 };

/// Vectors that contradict others or that only a lenient reader takes, with the reason.
const VECTORS_LEFT_OUT: &[(&str, &str)] = &[
    (
        "nmea_t55/t55protocol/040",
        "the same bytes as 024, of which a position is expected; its reader was told to ignore it",
    ),
    (
        "nmea_t55/t55protocol/002",
        "its checksum is wrong (6D for 6B), and it stands alone on its line",
    ),
];

/// Logs whose fixes differ from gpsd's, with the reason.
const LOGS_LEFT_OUT: &[(&str, &str)] = &[
    (
        "foretrex-201.log",
        "at 20:00:04 RMC warns while GGA does not; gpsd takes the fix, we do not trust it",
    ),
    (
        "garmin48.log",
        "the receiver gives two fixes in its cycle; gpsd reports one of them",
    ),
    ("gp-320fw-2019-03-28.log", GPSD_LEARNS),
    ("gp-320fw-2019-04-06-overflow.log", GPSD_LEARNS),
    ("rst39.log", GPSD_LEARNS),
    ("tn204.log", GPSD_LEARNS),
    (
        "ublox-neo-m8l.log",
        "its positions are in u-blox binary; its sentences are text only",
    ),
];

const GPSD_LEARNS: &str = "gpsd leaves out the second epoch, while it learns the cycle";

fn data_dir() -> PathBuf {
    std::env::var_os("RINGWAY_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    )
}

/// A file of the data as text, or `None` with a loud word about what is skipped.
fn data(path: &str, skipped: &str) -> Option<String> {
    let path = data_dir().join(path);
    match fs::read(&path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(_) => {
            // Written past the test runner, which keeps the words of a test that passes.
            let path = path.display();
            let _ = writeln!(io::stderr(), "skipped: {skipped}, data not found at {path}");
            None
        }
    }
}

fn json_lines(text: &str) -> Vec<Json> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// The bytes of a vector as a device sends them.
fn payload(vector: &Json) -> Vec<u8> {
    let text = vector.get("wire").unwrap_or(&vector["payload"]);
    let text = text.as_str().unwrap();
    match vector["kind"].as_str() {
        Some("binary") => unhex(text),
        _ => text.as_bytes().to_vec(),
    }
}

fn recorded(device: Option<&[u8]>) -> Settings {
    Settings {
        recorded: true,
        device: device.and_then(ringway::frame::DeviceId::new),
        ..Settings::default()
    }
}

/// Feeds bytes in chunks, as a socket does, and gives everything that comes out.
fn feed(session: &mut Session, bytes: &[u8], chunk_bytes: usize) -> Vec<Result<Message, Reject>> {
    let (mut unread, mut results) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(chunk_bytes) {
        unread.extend(chunk);
        loop {
            match session.split(&unread) {
                Split::Message { range, consumed } => {
                    results.push(session.decode(&unread[range], NOW));
                    unread.drain(..consumed);
                }
                Split::Rubbish { consumed, reason } => {
                    results.push(Err(reason));
                    unread.drain(..consumed);
                }
                Split::Incomplete => break,
            }
        }
    }
    results
}

fn reports(results: &[Result<Message, Reject>]) -> Vec<Report> {
    let messages = results.iter().filter_map(|result| result.as_ref().ok());
    messages
        .flat_map(|message| message.reports.clone())
        .collect()
}

fn places(results: &[Result<Message, Reject>]) -> Vec<Fix> {
    let fixes = reports(results).into_iter().map(|report| report.fix);
    fixes
        .filter(|fix| fix.fields.has(FixFields::POSITION))
        .collect()
}

fn is_at(fix: &Fix, place: &Json) -> bool {
    let (lat, lon) = fix.position_deg().unwrap();
    let near = |ours: f64, theirs: &Json| (ours - theirs.as_f64().unwrap()).abs() < 1e-5;
    near(lat, &place["lat"]) && near(lon, &place["lon"])
}

/// Whether a time agrees to the second, if one is stated.
fn is_then(fix: &Fix, time: &Json) -> bool {
    let Some(stated) = time.as_str() else {
        return true;
    };
    fix.time().is_some_and(|time_ms| {
        let ours = rfc3339_ms(time_ms);
        ours[..19] == stated[..19]
    })
}

/// The locations that a vector states or that an independent reader found, each with its time.
fn expected_places(vector: &Json) -> Vec<(&Json, &Json)> {
    if let Some(place) = vector["expect"].get("position") {
        return vec![(place, &place["time"])];
    }
    let derived = &vector["derived"];
    if let Some(many) = derived["locations"].as_array() {
        return many
            .iter()
            .map(|place| (place, &place["time_if_gmt8"]))
            .collect();
    }
    let one = match derived.get("location") {
        Some(place) => (place, &place["time_if_gmt8"]),
        None => (derived, &derived["time"]),
    };
    if one.0.get("lat").is_some() {
        vec![one]
    } else {
        Vec::new()
    }
}

/// One message vector in a session of its own; gives complaints.
fn check_message(protocol: Protocol, vector: &Json) -> Vec<String> {
    let mut bytes = payload(vector);
    if protocol == Protocol::Nmea {
        bytes.push(b'\n');
    }
    let results = feed(
        &mut Session::per_message(protocol, &recorded(None)),
        &bytes,
        usize::MAX,
    );
    let mut complaints = Vec::new();
    if vector["derived"]["checksum_ok"] == false {
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
        complaints.push(format!(
            "{kind} expected, {} fixes, {results:?}",
            fixes.len()
        ));
    }
    // However the bytes arrive, the same comes out.
    for chunk_bytes in 1..bytes.len() {
        let mut session = Session::per_message(protocol, &recorded(None));
        if places(&feed(&mut session, &bytes, chunk_bytes)) != fixes {
            complaints.push(format!("other fixes in chunks of {chunk_bytes} bytes"));
        }
    }
    complaints
}

/// Every message vector of a file; one that is left out must really disagree.
fn check_messages(path: &str, protocol: Protocol, skipped: &str) {
    let Some(text) = data(path, skipped) else {
        return;
    };
    let mut wrong = Vec::new();
    for vector in json_lines(&text) {
        if vector["layer"] != "message" || vector["disabled_upstream"] == true {
            continue;
        }
        let id = vector["id"].as_str().unwrap();
        let complaints = check_message(protocol, &vector);
        let left_out = VECTORS_LEFT_OUT.iter().any(|(name, _)| *name == id);
        if complaints.is_empty() == left_out {
            wrong.push(format!("{id}: left out {left_out}, {complaints:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn jt808_vectors_give_what_their_tests_state() {
    check_messages("traccar/jt808.jsonl", Protocol::Jt808, "70 vectors");
}

#[test]
fn nmea_vectors_give_what_their_tests_state() {
    check_messages("traccar/nmea_t55.jsonl", Protocol::Nmea, "26 vectors");
}

#[test]
fn jt808_location_words_and_answers_agree_with_an_independent_reader() {
    let Some(text) = data("traccar/jt808.jsonl", "70 vectors") else {
        return;
    };
    let mut compared = 0;
    for vector in json_lines(&text) {
        let derived = &vector["derived"];
        if derived["checksum_ok"] != true || derived["length_ok"] != true {
            continue;
        }
        let id = &vector["id"];
        let results = feed(
            &mut Session::new(Protocol::Jt808, &recorded(None)),
            &payload(&vector),
            usize::MAX,
        );
        let [Ok(message)] = &results[..] else {
            panic!("{id}: {results:?}");
        };
        check_device(id, message, derived["phone_bcd"].as_str().unwrap());
        let one = derived.get("location").into_iter();
        let many = derived["locations"].as_array().into_iter().flatten();
        let locations: Vec<_> = one.chain(many).collect();
        for (report, location) in message.reports.iter().zip(&locations) {
            check_location(id, report, location);
            compared += 1;
        }
        if !locations.is_empty() {
            assert_eq!(message.reports.len(), locations.len(), "{id}");
            check_general_response(id, &message.answer_when_safe, derived);
        }
    }
    assert!(compared > 50, "only {compared} locations");
}

/// The device is the phone number without padding, or an IMEI if it is not decimal.
fn check_device(id: &Json, message: &Message, phone_bcd: &str) {
    let device = message.device.map(|device| device.to_string());
    let digits = phone_bcd.trim_start_matches('0');
    if digits.bytes().all(|digit| digit.is_ascii_digit()) {
        assert_eq!(device.unwrap_or_default(), digits, "{id}");
    } else {
        let number = u64::from_str_radix(phone_bcd, 16).unwrap();
        let device = device.unwrap();
        assert_eq!(device.len(), 15, "{id}");
        assert_eq!(device[..14].parse(), Ok(number), "{id}");
    }
}

fn check_location(id: &Json, report: &Report, location: &Json) {
    let word = |name: &str| {
        let attribute = report.attributes.iter().find(|a| a.key.name() == name);
        format!("{:?}", attribute.map(|attribute| &attribute.value))
    };
    let stated = |name: &str| {
        let digits = location[name].as_str().unwrap();
        let value = i64::from_str_radix(digits, 16).unwrap();
        format!("{:?}", Some(ringway::frame::Value::Int(value)))
    };
    assert_eq!(word("alarm_word"), stated("alarm_bits"), "{id}");
    assert_eq!(word("status_word"), stated("status_bits"), "{id}");
    let fix = &report.fix;
    assert!(is_at(fix, location), "{id}");
    let speed_kmh = fix.speed_mps().unwrap() * 3.6;
    let near = |ours: f64, name: &str, tolerance: f64| {
        let theirs = location[name].as_f64().unwrap();
        assert!(
            (ours - theirs).abs() <= tolerance,
            "{id}: {name} {ours} {theirs}"
        );
    };
    near(speed_kmh, "speed_kmh", 0.01);
    near(fix.course_deg().unwrap(), "course_deg", 0.0);
    near(fix.altitude_m().unwrap(), "altitude_m", 0.0);
    assert!(is_then(fix, &location["time_if_gmt8"]), "{id}");
}

/// `8001`, with the serial number and id of the message, and "done".
fn check_general_response(id: &Json, answer: &[u8], derived: &Json) {
    let content = unescape(&answer[1..answer.len() - 1]);
    assert_eq!(content[..2], [0x80, 0x01], "{id}");
    let body = &content[content.len() - 6..content.len() - 1];
    let serial = derived["serial"].as_u64().unwrap() as u16;
    let message_id = unhex(derived["message_id"].as_str().unwrap());
    assert_eq!(body[..2], serial.to_be_bytes(), "{id}");
    assert_eq!(body[2..4], message_id, "{id}");
    assert_eq!(body[4], 0, "{id}");
    let sum = content.iter().fold(0, |sum, byte| sum ^ byte);
    assert_eq!(sum, 0, "{id}: the check of our answer");
}

fn unescape(bytes: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), bytes.iter());
    while let Some(&byte) = rest.next() {
        match byte {
            0x7d => plain.push(*rest.next().unwrap() + 0x7c),
            byte => plain.push(byte),
        }
    }
    plain
}

#[test]
fn jt808_frames_are_cut_out_of_their_stream() {
    let Some(text) = data("traccar/jt808.jsonl", "2 vectors") else {
        return;
    };
    let vectors = json_lines(&text);
    let frames: Vec<_> = vectors.iter().filter(|v| v["layer"] == "frame").collect();
    assert!(!frames.is_empty());
    for vector in frames {
        let bytes = payload(vector);
        let mut session = Session::new(Protocol::Jt808, &recorded(None));
        let Split::Message { range, .. } = session.split(&bytes) else {
            panic!("{}", vector["id"]);
        };
        let expected = unhex(vector["expect"]["frame"].as_str().unwrap());
        // The expected frame has its flags, but not its escapes.
        let inner = match expected.first() {
            Some(0x7e) => &expected[1..expected.len() - 1],
            _ => &expected[..],
        };
        assert_eq!(unescape(&bytes[range]), inner, "{}", vector["id"]);
    }
}

/// Bodies of the second set that our reader looks into. The others are answers to commands that we do not send, the
/// server's own messages, the memory of a tachograph, driver cards and recordings.
const BODIES_READ: &[&str] = &["0200", "0801"];

#[test]
fn jt808_frames_and_bodies_of_a_second_implementation_agree() {
    let Some(text) = data("jt808/jt808_second.jsonl", "92 vectors") else {
        return;
    };
    let (mut wires, mut bodies, mut left_out) = (0, 0, BTreeMap::new());
    for vector in json_lines(&text) {
        let fields = &vector["expect"]["fields"];
        if vector["layer"] == "wire" {
            wires += 1;
            check_second_wire(&vector, fields);
            continue;
        }
        let message_id = vector["message_id"].as_str().unwrap();
        if !BODIES_READ.contains(&message_id) {
            *left_out.entry(message_id.to_owned()).or_insert(0) += 1;
            continue;
        }
        bodies += 1;
        let report = report_of_body(message_id, &unhex(vector["payload"].as_str().unwrap()));
        check_fields(&vector["id"], &report, fields);
    }
    assert!(wires >= 40 && bodies >= 4, "{wires} wires, {bodies} bodies");
    eprintln!("bodies left out by message id: {left_out:?}");
}

fn check_second_wire(vector: &Json, fields: &Json) {
    let (id, derived) = (&vector["id"], &vector["derived"]);
    let mut session = Session::new(Protocol::Jt808, &recorded(None));
    let results = feed(&mut session, &payload(vector), usize::MAX);
    let [result] = &results[..] else {
        panic!("{id}: {results:?}");
    };
    if derived["checksum_ok"] == false {
        // Digits were blanked.
        assert_eq!(*result, Err(Reject::Checksum), "{id}");
        return;
    }
    let message = result.as_ref().unwrap_or_else(|e| panic!("{id}: {e}"));
    check_device(id, message, derived["phone_bcd"].as_str().unwrap());
    // The fields that 117 states are those of another frame: its bytes hold another phone number.
    let stated = fields["Header.TerminalPhoneNo"].as_str();
    if let Some(phone) = stated.filter(|_| id != "jt808_cs/117") {
        assert_eq!(message.device.unwrap().as_str(), phone, "{id}");
    }
    if let Some(serial) = fields["Header.MsgNum"].as_u64() {
        let answer = [&message.answer_now[..], &message.answer_when_safe].concat();
        let content = unescape(&answer[1..answer.len() - 1]);
        let serial = (serial as u16).to_be_bytes();
        assert!(content.windows(2).any(|bytes| bytes == serial), "{id}");
    }
    if let Some(location) = derived.get("location") {
        check_location(id, &message.reports[0], location);
    }
    if derived["multi_packet"] == true {
        // Parts of a recording (1205), which is not kept.
        assert_eq!(message.refused, Some(Reject::Part), "{id}");
    }
}

/// Puts a header of our own around a body.
fn report_of_body(message_id: &str, body: &[u8]) -> Report {
    let mut content = unhex(message_id);
    content.extend((body.len() as u16).to_be_bytes());
    content.extend([1, 2, 3, 4, 5, 6, 0, 0]);
    content.extend(body);
    content.push(content.iter().fold(0, |sum, byte| sum ^ byte));
    let mut wire = vec![0x7e];
    for byte in content {
        match byte {
            0x7d | 0x7e => wire.extend([0x7d, byte - 0x7c]),
            byte => wire.push(byte),
        }
    }
    wire.push(0x7e);
    let mut session = Session::new(Protocol::Jt808, &recorded(None));
    let mut reports = reports(&feed(&mut session, &wire, usize::MAX));
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

fn check_fields(id: &Json, report: &Report, fields: &Json) {
    let field = |name: &str| {
        let direct = fields.get(name);
        direct.or_else(|| fields.get(format!("Position.{name}")))
    };
    let number = |name: &str| field(name).and_then(Json::as_i64);
    let stated = |name: &str| {
        let attribute = report.attributes.iter().find(|a| a.key.name() == name);
        attribute.map(|attribute| match attribute.value {
            ringway::frame::Value::Int(value) => value as f64,
            ringway::frame::Value::Float(value) => value,
            _ => panic!("{id}: {name} is no number"),
        })
    };
    let fix = &report.fix;
    let ours = [
        ("Lat", Some(f64::from(fix.lat_e7) / 10.0)),
        ("Lng", Some(f64::from(fix.lon_e7) / 10.0)),
        // 0.1 km/h.
        ("Speed", fix.speed_mps().map(|speed| (speed * 36.0).round())),
        ("Altitude", fix.altitude_m()),
        ("Direction", fix.course_deg()),
        ("AlarmFlag", stated("alarm_word")),
        ("StatusFlag", stated("status_word")),
        // 0.1 km and 0.1 l.
        ("item_01.Mileage", stated("odometer_m").map(|m| m / 100.0)),
        ("item_02.Oil", stated("fuel_l").map(|l| (l * 10.0).round())),
    ];
    for (name, ours) in ours {
        if let Some(theirs) = number(name) {
            assert_eq!(ours, Some(theirs as f64), "{id}: {name}");
        }
    }
    if let Some(local) = field("GPSTime").and_then(|time| time["local_time"].as_str()) {
        let local_ms = fix.time().unwrap() + 8 * 3_600_000;
        assert_eq!(rfc3339_ms(local_ms)[..19], local.replace(' ', "T"), "{id}");
    }
}

/// A fix of gpsd: one of its reports with a position.
struct Opinion {
    lat: f64,
    lon: f64,
    speed: Option<f64>,
    track: Option<f64>,
}

/// gpsd's positions by time in ms, its shift of 1024 weeks undone where the index marks it.
fn opinions(check: &str, shifted: bool) -> BTreeMap<i64, Vec<Opinion>> {
    let mut by_time = BTreeMap::<_, Vec<_>>::new();
    for line in check.lines().filter(|line| line.starts_with('{')) {
        let Ok(report) = serde_json::from_str::<Json>(line) else {
            continue;
        };
        let usable = report["class"] == "TPV" && report["mode"].as_i64() >= Some(2);
        let (Some(lat), Some(lon)) = (report["lat"].as_f64(), report["lon"].as_f64()) else {
            continue;
        };
        let Some(time) = report["time"].as_str().filter(|_| usable) else {
            continue;
        };
        let time_ms = parse_ms(time) - if shifted { 619_315_200_000 } else { 0 };
        by_time.entry(time_ms).or_default().push(Opinion {
            lat,
            lon,
            speed: report["speed"].as_f64(),
            track: report["track"].as_f64(),
        });
    }
    by_time
}

/// Milliseconds since 1970 of a time with milliseconds; found by asking our own formatter, which has its own tests.
fn parse_ms(text: &str) -> i64 {
    let (mut low, mut high) = (0, 4_102_444_800_000);
    while low < high {
        let middle = (low + high) / 2;
        if rfc3339_ms(middle).as_str() < text {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    assert_eq!(rfc3339_ms(low), text);
    low
}

/// Compares a log with gpsd's reading of it; gives complaints.
fn check_log(ours: &[Fix], theirs: &BTreeMap<i64, Vec<Opinion>>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    let agrees = |ours: Option<f64>, theirs: Vec<f64>, turn: f64| {
        let near = |theirs: &f64| {
            let apart = (ours.unwrap_or(*theirs) - theirs).abs();
            apart.min(turn - apart).abs() <= 0.02
        };
        theirs.is_empty() || theirs.iter().any(near)
    };
    for fix in ours {
        let Some(time_ms) = fix.time().filter(|_| fix.fields.has(FixFields::VALID)) else {
            continue;
        };
        seen.insert(time_ms);
        let Some(opinions) = theirs.get(&time_ms) else {
            // gpsd is silent until it knows the cycle, and about an epoch that has no end.
            let inside = theirs.range(..time_ms).next().is_some()
                && theirs.range(time_ms..).next().is_some();
            if inside {
                complaints.push(format!("{} is ours alone", rfc3339_ms(time_ms)));
            }
            continue;
        };
        let (lat, lon) = fix.position_deg().unwrap();
        let near = |o: &&Opinion| (lat - o.lat).abs() < 2e-6 && (lon - o.lon).abs() < 2e-6;
        let speeds = opinions.iter().filter_map(|o| o.speed).collect();
        let tracks = opinions.iter().filter_map(|o| o.track).collect();
        if !opinions.iter().any(|opinion| near(&opinion))
            || !agrees(fix.speed_mps(), speeds, f64::INFINITY)
            || !agrees(fix.course_deg(), tracks, 360.0)
        {
            complaints.push(format!("{} is different", rfc3339_ms(time_ms)));
        }
    }
    for &time_ms in theirs.keys().filter(|time_ms| !seen.contains(time_ms)) {
        complaints.push(format!("{} is missing", rfc3339_ms(time_ms)));
    }
    complaints
}

#[test]
fn receiver_logs_give_the_fixes_that_gpsd_gives() {
    let Some(index) = data("gpsd/index.jsonl", "69 logs") else {
        return;
    };
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for entry in json_lines(&index) {
        if entry["kind"] == "ubx" {
            continue;
        }
        let name = entry["log"].as_str().unwrap();
        let log = fs::read(data_dir().join("gpsd").join(name)).unwrap();
        let check = data(&format!("gpsd/{name}.chk"), name).unwrap();
        let shifted = entry["chk_shifted_by_1024_weeks"] == true;

        let settings = recorded(Some(b"receiver"));
        let read = |chunk_bytes: usize| {
            let mut session = Session::new(Protocol::Nmea, &settings);
            let mut results = feed(&mut session, &log, chunk_bytes);
            results.extend(session.flush().map(Ok));
            places(&results)
        };
        let fixes = read(usize::MAX);
        assert_eq!(read(7), fixes, "{name} in pieces");
        compared += fixes.len();
        let complaints = check_log(&fixes, &opinions(&check, shifted));
        let left_out = LOGS_LEFT_OUT.iter().any(|(log, _)| *log == name);
        if complaints.is_empty() == left_out {
            wrong.push(format!("{name}: left out {left_out}, {complaints:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 1000, "only {compared} fixes");
}

#[test]
fn decode_answers_each_message_line_with_one_object() {
    let run = |protocol: &str, input: &str| {
        let mut output = Vec::new();
        ringway::cli::decode::run(protocol, input.as_bytes(), &mut output).unwrap();
        json_lines(&String::from_utf8(output).unwrap())
    };
    let input = "hex:7e000200000139123456780007357e\n\nhex:7e0\nhex:7e0002\nhttp:{}\n\\x\n";
    let out = run("jt808", input);
    assert_eq!(out.len(), 5, "{out:?}");
    assert_eq!(out[0]["device"], "13912345678");
    assert_eq!(out[0]["fixes"], Json::Array(Vec::new()));
    assert_eq!(out[0]["answer"], "7e8001000501391234567800000007000200b17e");
    assert!(out[1..].iter().all(|object| object["error"].is_string()));

    // A login names the sentences after it, up to the empty line.
    let rmc = "$GPRMC,120000.00,A,4807.038,N,01131.000,E,022.4,084.4,150626,003.1,W*43\\r\\n";
    let out = run("nmea", &format!("490154203237518\n{rmc}\n\n{rmc}\n"));
    assert_eq!(out.len(), 3);
    assert_eq!(out[1]["device"], "490154203237518");
    assert_eq!(out[1]["fixes"][0]["time"], "2026-06-15T12:00:00.000Z");
    assert_eq!(out[1]["fixes"][0]["valid"], true);
    assert_eq!(out[2]["device"], Json::Null);

    let unknown = ringway::cli::decode::run("pigeon", &b""[..], Vec::new());
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "cannot decode \"pigeon\": the protocols are jt808, nmea"
    );
}
