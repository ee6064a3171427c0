//! HTTP as an envelope: requests whose bodies hold whole messages of another protocol.
//!
//! A request is one message. Its body is read by a session of its own, since a proxy may pass on requests of many clients
//! over one connection. What of it is sound is taken; the answer waits until that is safe and tells by its status whether
//! that was all: 2xx for nothing but a request that was read to its end. What there is no room for is answered 503.

mod chunks;
mod contents;
mod request;
mod requests;
mod response;

pub(super) use request::{Head, Method};
pub(super) use requests::{Cut, Requests};
pub(super) use response::{CONTINUE, NO_ROOM, bare};

use self::contents::Contents;
use self::response::{Media, with_body};
use super::decoder::{Decoder, Mode};
use super::{Arrival, Message, Protocol, Reject, Settings, Split};

/// Longest body, as it stands on the wire.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest request.
pub(super) const MESSAGE_BYTES_MAX: usize = Requests::message_bytes_max(BODY_BYTES_MAX);

/// State of one connection.
pub(super) struct Session {
    settings: Settings,
    protocol: Protocol,
    requests: Requests,
}

impl Session {
    /// Requests whose bodies are of that protocol.
    pub(super) fn new(protocol: Protocol, settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            protocol,
            requests: Requests::new(BODY_BYTES_MAX),
        }
    }
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
        Ok(match self.requests.read(message)? {
            Cut::Whole(head, body) => self.request(&head, &body, now),
            Cut::Waits => waits(),
            Cut::Refused(head, status, reject) => refuse(&head, status, reject, None),
        })
    }

    /// A response is the one to the oldest request.
    fn answers_in_order(&self) -> bool {
        true
    }
}

impl Session {
    fn request(&self, head: &Head, body: &[u8], now: Arrival) -> Message {
        let unknown = Reject::UnknownKind;
        match head.method {
            Method::Post | Method::Put if head.packed => {
                return refuse(head, "415 Unsupported Media Type", unknown, None);
            }
            Method::Post | Method::Put => {}
            // There is nothing to be had here.
            Method::Get => return refuse(head, "404 Not Found", unknown, None),
            Method::Other => {
                let status = "405 Method Not Allowed\r\nAllow: POST, PUT";
                return refuse(head, status, unknown, None);
            }
        }
        let mut inner = super::open(self.protocol, &self.settings, Mode::Epoch);
        let contents = Contents::read(self.protocol, &mut *inner, body, now);
        if let Some(what) = contents.too_many {
            let why = format!("a request has at most {what}");
            return refuse(head, "413 Content Too Large", Reject::TooLong, Some(&why));
        }
        if contents.sound == 0 && contents.reject.is_none() {
            let why = Some("there is no message in the body");
            return refuse(head, "400 Bad Request", Reject::Incomplete, why);
        }
        self.answer(head, contents)
    }

    fn answer(&self, head: &Head, contents: Contents) -> Message {
        let (media, mut answers) = match self.protocol {
            Protocol::Json => (Media::Lines, contents.answers),
            _ if contents.reject.is_some() => (Media::Lines, Vec::new()),
            _ => (Media::Bytes, contents.answers),
        };
        let mut message = contents.message;
        message.kind = match message.reports.is_empty() {
            true => "status",
            false => "report",
        };
        message.refused = contents.reject;
        let status = match contents.reject {
            None => "200 OK",
            Some(reject) => {
                if answers.is_empty() {
                    answers = reason(&reject.to_string());
                }
                "400 Bad Request"
            }
        };
        message.answer_now = with_body(head, status, media, &answers);
        if !message.reports.is_empty() {
            // All of it, or nothing: there is nothing to name.
            let no_room = reason("there is no room");
            message.answer_if_refused = with_body(head, NO_ROOM, Media::Lines, &no_room);
        }
        let reports = std::mem::take(&mut message.reports);
        message.hold_answer_for(reports);
        message
    }
}

/// The answer to the head of a request whose sender waits with the body.
pub(super) fn waits() -> Message {
    Message {
        answer_now: CONTINUE.to_vec(),
        ..Message::new("expect", None)
    }
}

/// Nothing of the request is taken.
fn refuse(head: &Head, status: &str, reject: Reject, why: Option<&str>) -> Message {
    let answer_now = match why {
        Some(why) => with_body(head, status, Media::Lines, &reason(why)),
        None => bare(head, status),
    };
    Message {
        refused: Some(reject),
        answer_now,
        ..Message::new("refused", None)
    }
}

/// Why, as a line.
fn reason(why: &str) -> Vec<u8> {
    let why = serde_json::Value::from(why);
    format!("{{\"reason\":{why}}}\n").into_bytes()
}

#[cfg(test)]
mod tests;
