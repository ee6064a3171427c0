//! GPS103 (Coban): vehicle trackers, text with the word `imei:`.
//!
//! This file holds the session: it cuts messages and says what each kind is answered. A device that is let in (`LOAD`)
//! sends heartbeats, which want an answer (`ON`), and reports, of which only a call for help is answered.

mod report;

use super::decoder::Decoder;
use super::fields::Fields;
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::{DeviceId, FixFields};

/// Longest message: a part of a picture.
pub(super) const MESSAGE_BYTES_MAX: usize = 2048;

/// What every message but a heartbeat names its sender with.
const IMEI: &[u8] = b"imei:";
const LOGIN: &[u8] = b"##,";

/// State of one connection; every message says who sent it.
pub(super) struct Session {
    settings: Settings,
    /// In a message that was too long.
    skipping: bool,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            skipping: false,
        }
    }
}

impl Decoder for Session {
    /// A message ends with `;`, `*` or its line, or where the next one names its sender: some leave out the end.
    fn split(&mut self, bytes: &[u8]) -> Split {
        let full = bytes.len() >= MESSAGE_BYTES_MAX;
        if self.skipping && !bytes.is_empty() {
            return self.skip(bytes);
        }
        let Some(start) = bytes.iter().position(|&byte| !is_end(byte)) else {
            return match full {
                true => rubbish(bytes.len(), Reject::Rubbish),
                false => Split::Incomplete,
            };
        };
        let window = &bytes[start..bytes.len().min(start + MESSAGE_BYTES_MAX)];
        let own = usize::from(window.starts_with(LOGIN)) * LOGIN.len();
        match end_of(window, own + 1) {
            Some(len) => Split::Message {
                range: start..start + len,
                consumed: start + len + usize::from(is_end(window[len])),
            },
            None if window.len() == MESSAGE_BYTES_MAX => {
                self.skipping = true;
                rubbish(start + window.len(), Reject::TooLong)
            }
            None if full => rubbish(start, Reject::Rubbish),
            None => Split::Incomplete,
        }
    }

    /// Ends alone belong to the message before.
    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|&byte| !is_end(byte))
    }

    fn decode(&mut self, content: &[u8], now: Arrival) -> Result<Message, Reject> {
        let content = content.trim_ascii();
        if let Some(login) = content.strip_prefix(LOGIN) {
            let login = login.strip_prefix(IMEI).unwrap_or(login);
            let device = device(Fields::new(login).get(0))?;
            return Ok(answered("login", device, b"LOAD"));
        }
        if let Some(named) = content.strip_prefix(IMEI) {
            let fields = Fields::new(named);
            let device = device(fields.get(0))?;
            return Ok(self.named(&fields, device, now));
        }
        match content {
            [b'0'..=b'9', ..] if content.iter().all(u8::is_ascii_digit) => {
                Ok(answered("heartbeat", device(content)?, b"ON"))
            }
            _ => Err(Reject::Rubbish),
        }
    }
}

impl Session {
    /// Passes over the rest of a message that was too long, but for what may be the name of the next sender.
    fn skip(&mut self, bytes: &[u8]) -> Split {
        let end = end_of(bytes, 0);
        self.skipping = end.is_none();
        let begun = |at: &usize| IMEI.starts_with(&bytes[*at..]);
        let kept = (0..bytes.len()).find(begun).unwrap_or(bytes.len());
        match end.unwrap_or(kept) {
            0 if self.skipping => Split::Incomplete,
            0 => self.split(bytes),
            consumed => rubbish(consumed, Reject::TooLong),
        }
    }

    /// A message that begins with its sender.
    fn named(&self, fields: &Fields, device: DeviceId, now: Arrival) -> Message {
        match fields.get(1) {
            // Some come in without the mark of a login.
            b"A" | b"L" | b"" if fields.len() <= 3 => answered("login", device, b"LOAD"),
            b"OBD" => {
                let mut message = Message::new("vehicle", Some(device));
                message.attributes = report::vehicle(fields);
                message
            }
            b"vr" => Message {
                refused: Some(Reject::Part),
                ..Message::new("photo", Some(device))
            },
            event => {
                let mut message = Message::new("location", Some(device));
                if event == b"help me" {
                    let id = device.as_bytes();
                    message.answer_now = [b"**,imei:", id, b",E;"].concat();
                }
                match report::read(fields, &self.settings, now) {
                    Some(report) if tells_alarm_or_place(&report) => {
                        message.hold_answer_for(vec![report]);
                    }
                    Some(report) => message.attributes = report.attributes,
                    None => {
                        message.kind = "unknown";
                        message.refused = Some(Reject::UnknownKind);
                    }
                }
                message
            }
        }
    }
}

fn tells_alarm_or_place(report: &Report) -> bool {
    report.fix.fields.has(FixFields::POSITION) || !report.momentary.is_empty()
}

fn answered(kind: &'static str, device: DeviceId, answer: &[u8]) -> Message {
    let mut message = Message::new(kind, Some(device));
    message.answer_now = answer.to_vec();
    message
}

fn device(id: &[u8]) -> Result<DeviceId, Reject> {
    DeviceId::new(id).ok_or(Reject::Device)
}

/// The first end at or behind a place: a character that ends, or the name of the next sender.
fn end_of(window: &[u8], from: usize) -> Option<usize> {
    (0..window.len()).find(|&at| is_end(window[at]) || at >= from && window[at..].starts_with(IMEI))
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b';' | b'*' | b'\r' | b'\n')
}

fn rubbish(consumed: usize, reason: Reject) -> Split {
    Split::Rubbish { consumed, reason }
}

#[cfg(test)]
mod tests;
