//! OsmAnd, Traccar Client and whatever else reports by HTTP requests of the same parameters.
//!
//! This file holds the session: it cuts requests out of the bytes of a connection and answers them, each by a status
//! without a body. A position or an alarm is answered when it is safe: a client keeps it until it sees 200. What cannot
//! be read is answered at once, so that a client does not wait. Any path is taken, as clients and proxies differ in it.

mod alarm;
mod json;
mod query;

use super::decoder::Decoder;
use super::http::{self, Cut, Head, Method, Requests};
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::{DeviceId, FixFields};

/// Longest body: a location of a client takes less than 2 KiB.
const BODY_BYTES_MAX: usize = 8192;

/// Longest request.
pub(super) const MESSAGE_BYTES_MAX: usize = Requests::message_bytes_max(BODY_BYTES_MAX);

/// State of one connection.
pub(super) struct Session {
    settings: Settings,
    requests: Requests,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            requests: Requests::new(BODY_BYTES_MAX),
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
        self.requests.split(bytes)
    }

    fn is_part(&self, left: &[u8]) -> bool {
        self.requests.is_part(left)
    }

    fn passes_over(&self) -> bool {
        self.requests.passes_over()
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let (head, body) = match self.requests.read(message)? {
            Cut::Whole(head, body) => (head, body),
            Cut::Waits => return Ok(http::waits()),
            Cut::Refused(head, status, reject) => return Ok(refuse(&head, status, reject)),
        };
        let unknown = Reject::UnknownKind;
        if !matches!(head.method, Method::Get | Method::Post) {
            let status = "405 Method Not Allowed\r\nAllow: GET, POST";
            return Ok(refuse(&head, status, unknown));
        }
        if head.packed {
            return Ok(refuse(&head, "415 Unsupported Media Type", unknown));
        }
        let query = head.query();
        let read = match body.trim_ascii_start().first() {
            Some(b'{') if head.json || query.is_none() => json::read(&body, &self.settings, now),
            _ => query::read(query.unwrap_or(&body), &self.settings, now),
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
    message.answer_now = http::bare(head, "200 OK");
    if placed || !report.momentary.is_empty() {
        message.answer_if_refused = http::bare(head, http::NO_ROOM);
        message.hold_answer_for(vec![report]);
    } else {
        message.attributes = report.attributes;
    }
    message
}

fn refuse(head: &Head, status: &str, reject: Reject) -> Message {
    Message {
        refused: Some(reject),
        answer_now: http::bare(head, status),
        ..Message::new("refused", None)
    }
}

#[cfg(test)]
mod tests;
