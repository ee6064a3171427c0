//! OsmAnd, Traccar Client and whatever else reports by HTTP requests of the same parameters.
//!
//! This file holds the session: it cuts requests out of the bytes of a connection and answers them, each by a status
//! without a body. A position or an alarm is answered when it is safe: a client keeps it until it sees 200. What cannot
//! be read is answered at once, so that a client does not wait. Any path is taken, as clients and proxies differ in it.

mod alarm;
mod json;
mod query;
mod request;

use self::request::{Begin, Body, HEAD_BYTES_MAX, Head, Method};
use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::{DeviceId, FixFields};

/// Longest body: a location of a client takes less than 2 KiB.
const BODY_BYTES_MAX: usize = 8192;

/// Longest request.
pub(super) const MESSAGE_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX;

/// State of one connection.
pub(super) struct Session {
    settings: Settings,
    /// Bytes that are left of a body that was too long.
    skipping: u64,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            skipping: 0,
        }
    }
}

/// What a request reports, and who sent it.
struct Upload {
    device: DeviceId,
    report: Report,
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        if self.skipping > 0 && !bytes.is_empty() {
            let consumed = self.skipping.min(bytes.len() as u64);
            self.skipping -= consumed;
            return rubbish(consumed as usize, Reject::TooLong);
        }
        let start = bytes.iter().take_while(|&&byte| is_line_end(byte)).count();
        let full = bytes.len() >= MESSAGE_BYTES_MAX;
        let unread = &bytes[start..];
        let head = match request::begin(unread) {
            Begin::Request(head) => head,
            Begin::Noise(len, reason) => return rubbish(start + len, reason),
            // Empty lines without end would fill the buffer of who waits for more.
            Begin::Wait if full => return rubbish(start, Reject::Rubbish),
            Begin::Wait => return Split::Incomplete,
        };
        let len = match head.body {
            Body::Bytes(stated) if stated <= BODY_BYTES_MAX as u64 => head.len + stated as usize,
            Body::Bytes(stated) => {
                self.skipping = stated;
                head.len
            }
            // Where the body ends is not known: the next request is looked for in it.
            Body::Chunked | Body::Encoded | Body::Unclear => head.len,
        };
        match unread.len() >= len {
            true => Split::Message {
                range: start..start + len,
                consumed: start + len,
            },
            false if full => rubbish(start, Reject::Rubbish),
            false => Split::Incomplete,
        }
    }

    /// Empty lines may stand between requests.
    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|&byte| !is_line_end(byte))
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let Begin::Request(head) = request::begin(message) else {
            return Err(Reject::Rubbish);
        };
        let body = &message[head.len..];
        match head.body {
            Body::Bytes(stated) if stated > BODY_BYTES_MAX as u64 => {
                return Ok(refuse(&head, "413 Content Too Large", Reject::TooLong));
            }
            Body::Bytes(stated) if stated != body.len() as u64 => return Err(Reject::Length),
            Body::Bytes(_) => {}
            Body::Chunked => {
                return Ok(refuse(&head, "411 Length Required", Reject::UnknownKind));
            }
            Body::Encoded => {
                return Ok(refuse(&head, "501 Not Implemented", Reject::UnknownKind));
            }
            Body::Unclear => return Ok(refuse(&head, "400 Bad Request", Reject::Length)),
        }
        if head.method == Method::Other {
            let status = "405 Method Not Allowed\r\nAllow: GET, POST";
            return Ok(refuse(&head, status, Reject::UnknownKind));
        }
        if head.packed {
            return Ok(refuse(
                &head,
                "415 Unsupported Media Type",
                Reject::UnknownKind,
            ));
        }
        let query = head.query();
        let read = match body.trim_ascii_start().first() {
            Some(b'{') if head.json || query.is_none() => json::read(body, &self.settings, now),
            _ => query::read(query.unwrap_or(body), &self.settings, now),
        };
        Ok(match read {
            Ok(upload) => accept(&head, upload),
            Err(reject) => refuse(&head, "400 Bad Request", reject),
        })
    }

    /// A response is the one to the oldest request.
    fn answers_in_order(&self) -> bool {
        true
    }
}

/// A position or an alarm is to be safe before the answer goes out; the rest is not kept.
fn accept(head: &Head, upload: Upload) -> Message {
    let Upload { device, report } = upload;
    let placed = report.fix.fields.has(FixFields::POSITION);
    let kind = if placed { "location" } else { "status" };
    let mut message = Message::new(kind, Some(device));
    message.answer_now = answer(head, "200 OK");
    if placed || !report.momentary.is_empty() {
        message.hold_answer_for(vec![report]);
    } else {
        message.attributes = report.attributes;
    }
    message
}

fn refuse(head: &Head, status: &str, reject: Reject) -> Message {
    Message {
        refused: Some(reject),
        answer_now: answer(head, status),
        ..Message::new("refused", None)
    }
}

/// A status without a body. It says whether the connection is for further requests.
fn answer(head: &Head, status: &str) -> Vec<u8> {
    let connection = match (head.keeps, head.is_old) {
        (false, _) => "Connection: close\r\n",
        (true, true) => "Connection: keep-alive\r\n",
        (true, false) => "",
    };
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{connection}\r\n").into_bytes()
}

fn rubbish(consumed: usize, reason: Reject) -> Split {
    Split::Rubbish { consumed, reason }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

#[cfg(test)]
mod tests;
