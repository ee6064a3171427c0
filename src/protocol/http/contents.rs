//! What the body of a request holds: whole messages of the sensor's protocol, read one after the other.

use serde::de::IgnoredAny;

use super::super::decoder::Decoder;
use super::super::{Arrival, Message, Protocol, Reject, Split, json};
use crate::frame::{DeviceId, MESSAGE_FRAMES_MAX};

/// Most reports of a request: it is committed at once and has one word of the answer table.
pub(super) const REPORTS_MAX: usize = MESSAGE_FRAMES_MAX;

/// Most messages that cannot be read before the rest of a body is left unread.
const PROBLEMS_MAX: u32 = 16;

/// Most attributes of a request.
const ATTRIBUTES_MAX: usize = 2_048;

/// Most attributes that are kept of messages without a report.
const STATUS_ATTRIBUTES_MAX: usize = 64;

/// Most bytes of all answers together: they wait with the request, and so may ten thousand others.
pub(super) const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// What was read.
#[derive(Default)]
pub(super) struct Contents {
    /// All reports, and who sent them.
    pub(super) message: Message,
    /// Messages that were sound.
    pub(super) sound: u32,
    /// Why the first of those that are not was refused.
    pub(super) reject: Option<Reject>,
    problems: u32,
    /// What there is more of than a request may have.
    pub(super) too_many: Option<&'static str>,
    attributes: usize,
    /// Their answers if all is safe.
    pub(super) answers: Vec<u8>,
    /// Answers are lines of JSON, in which everything can be said.
    lines: bool,
}

impl Contents {
    /// Reads a body by a session of its own.
    pub(super) fn read(
        protocol: Protocol,
        inner: &mut dyn Decoder,
        body: &[u8],
        now: Arrival,
    ) -> Contents {
        let mut contents = Contents {
            lines: protocol == Protocol::Json,
            ..Contents::default()
        };
        match protocol {
            Protocol::Json => contents.values(inner, body, now),
            _ => contents.stream(inner, body, now),
        }
        while let Some(message) = inner.flush() {
            contents.take(Ok(message));
        }
        contents
    }

    /// JSON has no need of lines in a body: values, however they are laid out. Behind one that is broken the next line is
    /// gone on with.
    fn values(&mut self, inner: &mut dyn Decoder, body: &[u8], now: Arrival) {
        let mut at = 0;
        while at < body.len() && !self.is_enough() {
            let mut values =
                serde_json::Deserializer::from_slice(&body[at..]).into_iter::<IgnoredAny>();
            let mut broken = false;
            let mut from = at;
            while let Some(value) = values.next() {
                if self.is_enough() {
                    return;
                }
                if value.is_err() {
                    broken = true;
                    break;
                }
                let to = at + values.byte_offset();
                let value = body[from..to].trim_ascii();
                from = to;
                self.take(match value.len() < json::MESSAGE_BYTES_MAX {
                    true => inner.decode(value, now),
                    false => Err(Reject::TooLong),
                });
            }
            if !broken {
                return;
            }
            self.take(Err(Reject::Rubbish));
            let start = body[from..]
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace());
            from += start.count();
            let Some(len) = memchr::memchr(b'\n', &body[from..]) else {
                return;
            };
            at = from + len + 1;
        }
    }

    fn stream(&mut self, inner: &mut dyn Decoder, body: &[u8], now: Arrival) {
        let mut rest = body;
        while !self.is_enough() {
            match inner.split(rest) {
                Split::Message { range, consumed } => {
                    self.take(inner.decode(&rest[range], now));
                    rest = &rest[consumed..];
                }
                Split::Rubbish { consumed, reason } => {
                    self.take(Err(reason));
                    rest = &rest[consumed..];
                }
                Split::Incomplete if inner.is_part(rest) => {
                    return self.take(Err(Reject::Incomplete));
                }
                Split::Incomplete => return,
            }
        }
    }

    /// Whether what follows is not read any more.
    fn is_enough(&self) -> bool {
        self.problems >= PROBLEMS_MAX || self.too_many.is_some()
    }

    fn take(&mut self, read: Result<Message, Reject>) {
        let mut message = match read.and_then(|message| self.of_one_device(message)) {
            Ok(message) => message,
            Err(reject) if self.lines => Message {
                answer_now: json::refused(reject),
                refused: Some(reject),
                ..Message::default()
            },
            Err(reject) => return self.problem(reject),
        };
        let ours = &mut self.message;
        let attributes = message.reports.iter().map(|report| report.attributes.len());
        self.attributes += attributes.sum::<usize>();
        self.answers.append(&mut message.answer_now);
        self.answers.append(&mut message.answer_when_safe);
        self.too_many = match () {
            () if ours.reports.len() + message.reports.len() > REPORTS_MAX => Some("256 reports"),
            () if self.attributes > ATTRIBUTES_MAX => Some("2048 attributes"),
            () if self.answers.len() > ANSWER_BYTES_MAX => Some("8192 bytes of answers"),
            () => None,
        };
        if self.too_many.is_some() {
            return;
        }
        if ours.reports.is_empty() {
            ours.device = message.device.or(ours.device);
        }
        ours.reports.append(&mut message.reports);
        if ours.attributes.len() + message.attributes.len() <= STATUS_ATTRIBUTES_MAX {
            ours.attributes.append(&mut message.attributes);
        }
        match message.refused {
            // Sound, and answered so.
            None | Some(Reject::UnknownKind | Reject::Part) => self.sound += 1,
            Some(reject) => self.problem(reject),
        }
    }

    fn problem(&mut self, reject: Reject) {
        self.problems += 1;
        self.reject = self.reject.or(Some(reject));
    }

    /// The message, unless its reports are of another device than those before it: frames that are committed together are
    /// of one.
    fn of_one_device(&self, message: Message) -> Result<Message, Reject> {
        let strange = |device: DeviceId| message.device != Some(device);
        let others = !self.message.reports.is_empty() && self.message.device.is_some_and(strange);
        let nameless = message.device.is_none();
        match !message.reports.is_empty() && (others || nameless) {
            true => Err(Reject::Device),
            false => Ok(message),
        }
    }
}
