//! `ringway decode PROTOCOL`: one message a line in, one JSON object a line out.
//!
//! A line is `hex:` and digits, or text with `\\`, `\r` and `\n` escaped; an empty line starts a new session. Each
//! message line is answered with one object, also one that cannot be read. A line may hold several messages: the object
//! is their union. Lines are taken as recorded: no date is repaired or completed from the clock.

use std::io::{self, BufRead, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use super::said::Said;
use crate::protocol::{Arrival, Protocol, Session, Settings, Split};
use crate::role::exit;

/// Longest line; the rest of a longer one is passed over.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Why decoding stopped.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No such protocol.
    #[error("cannot decode {0:?}: the protocols are {names}", names = protocol_names())]
    Protocol(String),
    /// The input failed.
    #[error("cannot read message: {0}")]
    Read(#[source] io::Error),
    /// The output failed.
    #[error("cannot write result: {0}")]
    Write(#[source] io::Error),
}

impl DecodeError {
    /// The exit code that tells it.
    pub fn exit_code(&self) -> i32 {
        match self {
            DecodeError::Protocol(_) => exit::USAGE,
            // Whoever read the results has enough of them.
            DecodeError::Write(cause) if cause.kind() == io::ErrorKind::BrokenPipe => exit::OK,
            DecodeError::Read(_) | DecodeError::Write(_) => exit::IO,
        }
    }
}

fn protocol_names() -> String {
    let names: Vec<_> = Protocol::ALL
        .iter()
        .map(|protocol| protocol.name())
        .collect();
    names.join(", ")
}

/// Why one line has no result.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("line is longer than {LINE_BYTES_MAX} bytes")]
    Long,
    #[error("hex digits are not valid")]
    Hex,
    #[error("escape sequence in text is not valid")]
    Text,
    #[error("{0} does not travel over http")]
    Http(&'static str),
    #[error("request is not a JSON object with method, url, headers and body")]
    Request,
}

/// Decodes `input` line by line until it ends; `lenient`: also what has a wrong checksum.
///
/// # Errors
/// An unknown protocol, or input or output that fails; a line that cannot be read is a result like any other.
pub fn run(
    protocol_name: &str,
    lenient: bool,
    mut input: impl BufRead,
    mut output: impl Write,
) -> Result<(), DecodeError> {
    let protocol = Protocol::from_name(protocol_name)
        .ok_or_else(|| DecodeError::Protocol(protocol_name.to_owned()))?;
    let settings = Settings {
        recorded: true,
        lenient,
        ..Settings::default()
    };
    let mut session = Session::per_message(protocol, &settings);
    let mut line = Vec::new();
    loop {
        let whole = read_line(&mut input, &mut line).map_err(DecodeError::Read)?;
        match whole {
            LineRead::End => return output.flush().map_err(DecodeError::Write),
            LineRead::Whole if line.trim_ascii().is_empty() => {
                session = Session::per_message(protocol, &settings);
                continue;
            }
            LineRead::Whole | LineRead::Cut => {}
        }
        let bytes = match whole {
            LineRead::Cut => Err(LineError::Long),
            _ => payload(protocol, &line),
        };
        let said = match bytes {
            Ok(bytes) => decode(protocol, &mut session, &bytes),
            Err(error) => Said::wrong(error),
        };
        let object = said.into_json();
        writeln!(output, "{object}").map_err(DecodeError::Write)?;
    }
}

enum LineRead {
    Whole,
    Cut,
    End,
}

/// Reads one line without its end into `line`, never more than the limit.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<LineRead> {
    line.clear();
    input.take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(LineRead::Whole);
    }
    if line.is_empty() {
        return Ok(LineRead::End);
    }
    if (line.len() as u64) < LINE_BYTES_MAX {
        return Ok(LineRead::Whole);
    }
    input.skip_until(b'\n')?;
    Ok(LineRead::Cut)
}

/// The bytes that a line stands for.
fn payload(protocol: Protocol, line: &[u8]) -> Result<Vec<u8>, LineError> {
    let line = line.trim_ascii_end();
    if let Some(digits) = line.strip_prefix(b"hex:") {
        return unhex(digits.trim_ascii()).ok_or(LineError::Hex);
    }
    if let Some(request) = line.strip_prefix(b"http:") {
        return match protocol {
            Protocol::Osmand | Protocol::Auto => http(request).ok_or(LineError::Request),
            _ => Err(LineError::Http(protocol.name())),
        };
    }
    let mut bytes = Vec::with_capacity(line.len() + 2);
    let mut rest = line.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'\\') => b'\\',
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                _ => return Err(LineError::Text),
            },
            byte => byte,
        });
    }
    if protocol.is_text() {
        // The end of the input line is the end of the last message.
        bytes.extend(b"\r\n");
    }
    Ok(bytes)
}

/// The bytes of a request that is given as a JSON object.
fn http(request: &[u8]) -> Option<Vec<u8>> {
    let request: Json = serde_json::from_slice(request).ok()?;
    let text = |name: &str| request[name].as_str();
    let body = text("body").unwrap_or_default();
    let mut bytes = format!("{} {} HTTP/1.1\r\n", text("method")?, text("url")?);
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        bytes += &format!("{name}: {}\r\n", value.as_str()?);
    }
    bytes += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    Some(bytes.into_bytes())
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let pairs = digits.chunks(2).map(|pair| match *pair {
        [high, low] => Some(value(high)? << 4 | value(low)?),
        _ => None,
    });
    pairs.collect()
}

/// Decodes the messages of one line. What can be read counts; only a line of which nothing can be read is an error.
fn decode(protocol: Protocol, session: &mut Session, bytes: &[u8]) -> Said {
    let now = Arrival { wall_ms: wall_ms() };
    let mut said = Said::default();
    let mut rest = bytes;
    loop {
        match session.split(rest) {
            Split::Message { range, consumed } => {
                match session.decode(&rest[range], now) {
                    Ok(message) => said.add(protocol, message),
                    Err(reject) => said.fail(reject),
                }
                rest = &rest[consumed..];
            }
            Split::Rubbish { consumed, reason } => {
                said.fail(reason);
                rest = &rest[consumed..];
            }
            Split::Incomplete => break,
        }
    }
    if !rest.trim_ascii().is_empty() {
        said.fail(Said::INCOMPLETE);
    }
    said
}

fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of which some records could be read was shown as an error, although they are passed on.
    #[test]
    fn records_before_one_that_cannot_be_read_are_shown() {
        // The vendor's first example of codec 8, which says that it has two records.
        let line = "hex:000000000000003608020000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F1\
                    0000601A014E0000000000000000020000C7CF\n";
        let mut output = Vec::new();
        run("teltonika", true, line.as_bytes(), &mut output).unwrap();
        let object: Json = serde_json::from_slice(&output).unwrap();
        assert_eq!(object["fixes"][0]["time"], "2019-06-10T10:04:46.000Z");
        assert_eq!(object["fixes"].as_array().map(Vec::len), Some(1));
    }
}
