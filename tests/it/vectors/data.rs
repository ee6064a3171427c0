//! Where the data are, and how their bytes are fed to a session.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use ringway::frame::{Fix, FixFields, rfc3339_ms};
use ringway::protocol::{Arrival, Message, Reject, Report, Session, Settings, Split};
use serde_json::Value as Json;

/// Recorded bytes are read as recorded: no date depends on this.
pub const NOW: Arrival = Arrival { wall_ms: 0 };

pub fn data_dir() -> PathBuf {
    std::env::var_os("RINGWAY_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    )
}

/// A file of the data as text, or `None` with a loud word about what is skipped.
pub fn data(path: &str, skipped: &str) -> Option<String> {
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

pub fn json_lines(text: &str) -> Vec<Json> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub fn unhex(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// The bytes of a vector as a device sends them.
pub fn payload(vector: &Json) -> Vec<u8> {
    let payload = vector.get("wire").unwrap_or(&vector["payload"]);
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    match vector["kind"].as_str() {
        Some("binary") => unhex(&text(payload)),
        Some("http") => request(payload),
        // A message ends where its line ends, where nothing else ends it.
        _ => (text(payload) + "\r\n").into_bytes(),
    }
}

fn request(request: &Json) -> Vec<u8> {
    let body = request["body"].as_str().unwrap();
    let (method, url) = (request["method"].as_str(), request["url"].as_str());
    let mut bytes = format!("{} {} HTTP/1.1\r\n", method.unwrap(), url.unwrap());
    for (name, value) in request["headers"].as_object().unwrap() {
        bytes += &format!("{name}: {}\r\n", value.as_str().unwrap());
    }
    bytes += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    bytes.into_bytes()
}

pub fn recorded(device: Option<&[u8]>) -> Settings {
    Settings {
        recorded: true,
        device: device.and_then(ringway::frame::DeviceId::new),
        ..Settings::default()
    }
}

/// Feeds bytes in chunks, as a socket does, and gives everything that comes out.
pub fn feed(
    session: &mut Session,
    bytes: &[u8],
    chunk_bytes: usize,
) -> Vec<Result<Message, Reject>> {
    feed_pieces(session, bytes.chunks(chunk_bytes))
}

/// Feeds bytes in these pieces.
pub fn feed_pieces<'a>(
    session: &mut Session,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Result<Message, Reject>> {
    let (mut unread, mut results) = (Vec::new(), Vec::new());
    for chunk in pieces {
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

pub fn reports(results: &[Result<Message, Reject>]) -> Vec<Report> {
    let messages = results.iter().filter_map(|result| result.as_ref().ok());
    messages
        .flat_map(|message| message.reports.clone())
        .collect()
}

pub fn places(results: &[Result<Message, Reject>]) -> Vec<Fix> {
    let fixes = reports(results).into_iter().map(|report| report.fix);
    fixes
        .filter(|fix| fix.fields.has(FixFields::POSITION))
        .collect()
}

pub fn is_at(fix: &Fix, place: &Json) -> bool {
    let (lat, lon) = fix.position_deg().unwrap();
    let near = |ours: f64, theirs: &Json| (ours - theirs.as_f64().unwrap()).abs() < 1e-5;
    near(lat, &place["lat"]) && near(lon, &place["lon"])
}

/// Whether a time agrees to the second, if one is stated.
pub fn is_then(fix: &Fix, time: &Json) -> bool {
    let Some(stated) = time.as_str() else {
        return true;
    };
    fix.time().is_some_and(|time_ms| {
        let ours = rfc3339_ms(time_ms);
        ours[..19] == stated[..19]
    })
}
