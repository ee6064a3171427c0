//! Meitrack: text reports (AAA), batches in binary (CCC, CCE), over TCP and UDP.
//!
//! This file holds the session: it cuts messages, which state their length and end with a sum, says what each command
//! means and what it is answered. A heartbeat is answered (AAC), and a device that waits to delete what it stored (CCC,
//! AFF), when the reports are safe. A picture comes only if somebody asks for it; its parts are counted and left.

mod binary;
mod event;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write;

use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::{AttributeKey, DeviceId, Fix, FixFields, Value};

/// Longest message. Those of the vendor's documents have up to 1,046 bytes, with a part of a picture 1,100.
pub(super) const MESSAGE_BYTES_MAX: usize = 1536;

/// What a message begins with, before its identifier.
const MARK: &[u8; 2] = b"$$";

/// Most digits of the length.
const LENGTH_DIGITS_MAX: usize = 4;

/// What a message ends with: a star, the sum as two hex digits, carriage return, line feed.
const END_BYTES: usize = 5;

/// Least that the length counts: the comma before an IMEI, the comma and three characters of a command, the end.
const COUNTED_BYTES_MIN: usize = 5 + END_BYTES;

/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 128;

/// State of one connection: none, as each message names its sender.
pub(super) struct Session {
    settings: Settings,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        let blank = bytes.iter().take_while(|&&byte| is_blank(byte)).count();
        if blank == bytes.len() {
            return match blank >= MESSAGE_BYTES_MAX {
                true => Split::Rubbish {
                    consumed: blank,
                    reason: Reject::Rubbish,
                },
                false => Split::Incomplete,
            };
        }
        let reason = match start(&bytes[blank..]) {
            Ok(Some(length)) => {
                return Split::Message {
                    range: blank..blank + length,
                    consumed: blank + length,
                };
            }
            // What is blank before a message does not make it longer.
            Ok(None) if bytes.len() < MESSAGE_BYTES_MAX => return Split::Incomplete,
            Ok(None) => {
                return Split::Rubbish {
                    consumed: blank,
                    reason: Reject::Rubbish,
                };
            }
            Err(reason) => reason,
        };
        let next = (blank + 1..bytes.len()).find(|&at| start(&bytes[at..]).is_ok());
        Split::Rubbish {
            consumed: next.unwrap_or(bytes.len()),
            reason,
        }
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let envelope = Envelope::open(message, self.settings.lenient)?;
        Ok(self.command(&envelope, now))
    }

    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|&byte| !is_blank(byte))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The length of the message that bytes begin, once it is there; `Err` if they begin none.
fn start(bytes: &[u8]) -> Result<Option<usize>, Reject> {
    let shared = bytes.len().min(MARK.len());
    if bytes[..shared] != MARK[..shared] {
        return Err(Reject::Rubbish);
    }
    let Some((&identifier, rest)) = bytes.get(2..).and_then(|rest| rest.split_first()) else {
        return Ok(None);
    };
    // One character, which an answer repeats.
    if !identifier.is_ascii_graphic() {
        return Err(Reject::Rubbish);
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > LENGTH_DIGITS_MAX {
        return Err(Reject::TooLong);
    }
    match rest.get(digits) {
        None => return Ok(None),
        Some(b',') if digits > 0 => {}
        Some(_) => return Err(Reject::Rubbish),
    }
    let counted = rest[..digits]
        .iter()
        .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    let whole = 3 + digits + counted;
    if counted < COUNTED_BYTES_MIN {
        return Err(Reject::Length);
    }
    if whole > MESSAGE_BYTES_MAX {
        return Err(Reject::TooLong);
    }
    match bytes.get(..whole) {
        None => Ok(None),
        Some(message) if ends(message) => Ok(Some(whole)),
        Some(_) => Err(Reject::Length),
    }
}

/// Whether a message ends where it says.
fn ends(message: &[u8]) -> bool {
    matches!(message, [.., b'*', high, low, b'\r', b'\n']
        if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// What stands around every command.
struct Envelope<'a> {
    identifier: u8,
    device: DeviceId,
    command: &'a [u8],
    /// After the command and a comma, before the star.
    body: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn open(message: &'a [u8], lenient: bool) -> Result<Envelope<'a>, Reject> {
        let (content, end) = message
            .split_last_chunk::<END_BYTES>()
            .ok_or(Reject::Length)?;
        let stated = hex(&end[1..3]).ok_or(Reject::Field)?;
        if !lenient && u32::from(sum(content)) != stated {
            return Err(Reject::Checksum);
        }
        let identifier = *content.get(2).ok_or(Reject::Length)?;
        let mut fields = content.splitn(4, |&byte| byte == b',').skip(1);
        let device = fields
            .next()
            .and_then(DeviceId::new)
            .ok_or(Reject::Device)?;
        Ok(Envelope {
            identifier,
            device,
            command: fields.next().ok_or(Reject::Length)?,
            body: fields.next().unwrap_or(&[]),
        })
    }

    fn message(&self, kind: &'static str) -> Message {
        Message::new(kind, Some(self.device))
    }

    /// Under its own identifier and command, a count: of the stored reports that the device may delete.
    fn answer(&self, count: usize) -> Vec<u8> {
        let counted = [b",", self.device.as_bytes(), b",", self.command].concat();
        let count = count.to_string();
        // A comma, the count, and the end.
        let length = counted.len() + 1 + count.len() + END_BYTES;
        let mut answer = b"@@".to_vec();
        answer.push(self.identifier);
        answer.extend(length.to_string().as_bytes());
        answer.extend(counted);
        answer.push(b',');
        answer.extend(count.as_bytes());
        let sum = sum(&answer);
        write!(answer, "*{sum:02X}\r\n").expect("memory takes what is written");
        answer
    }
}

/// The sum of all bytes and of the star that follows them.
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(b'*', |sum, &byte| sum.wrapping_add(byte))
}

/// A number of one to eight hex digits.
fn hex(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    match digits.iter().all(u8::is_ascii_hexdigit) {
        true => u32::from_str_radix(text, 16).ok(),
        false => None,
    }
}

impl Session {
    fn command(&self, envelope: &Envelope, now: Arrival) -> Message {
        match envelope.command {
            b"AAA" => self.report(envelope, envelope.body, now),
            // What it says when a stored report was deleted: how many are left, and the next one.
            b"AFF" => {
                let mut message = self.text(envelope, now);
                if !message.reports.is_empty() {
                    message.answer_when_safe = envelope.answer(1);
                }
                message
            }
            b"CCC" => self.batch(
                envelope,
                binary::fixed(envelope.body, &self.settings, now),
                true,
            ),
            b"CCE" => self.batch(
                envelope,
                binary::tagged(envelope.body, &self.settings, now),
                false,
            ),
            // A part of a picture, of a file, of a list of pictures.
            b"D00" | b"D01" => {
                let mut message = envelope.message("file");
                message.refused = Some(Reject::Part);
                message
            }
            b"AAC" => {
                let mut message = envelope.message("heartbeat");
                message.answer_now = envelope.answer(1);
                message
            }
            _ if is_text(envelope.body) => self.text(envelope, now),
            _ => {
                let mut message = envelope.message("unknown");
                message.refused = Some(Reject::UnknownKind);
                message
            }
        }
    }

    /// A report under another name, or after a number; else what the device says to a command.
    fn text(&self, envelope: &Envelope, now: Arrival) -> Message {
        let after_number = envelope.body.splitn(2, |&byte| byte == b',').nth(1);
        for body in [Some(envelope.body), after_number].into_iter().flatten() {
            let message = self.report(envelope, body, now);
            if !message.reports.is_empty() {
                return message;
            }
        }
        result(envelope)
    }

    fn report(&self, envelope: &Envelope, body: &[u8], now: Arrival) -> Message {
        let mut message = envelope.message("report");
        match text::report(body, &self.settings, now) {
            Some(report) => message.hold_answer_for(vec![report]),
            None => message.refused = Some(Reject::Field),
        }
        message
    }

    fn batch(&self, envelope: &Envelope, batch: binary::Batch, wait: bool) -> Message {
        let mut message = envelope.message("batch");
        if wait {
            message.answer_now = envelope.answer(batch.count);
        }
        message.refused = batch.refused;
        message.attributes = batch.attributes;
        message.hold_answer_for(batch.reports);
        message
    }
}

/// What the device says to a command.
fn result(envelope: &Envelope) -> Message {
    let mut message = envelope.message("result");
    let kept = &envelope.body[..envelope.body.len().min(TEXT_BYTES_MAX)];
    message.state_named("command", Some(printable(envelope.command)));
    message.state(AttributeKey::Result, Some(printable(kept)));
    message
}

fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
}

/// Text with other bytes replaced.
fn printable(bytes: &[u8]) -> Value {
    Value::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// States the time, which the device counts in UTC or in a zone that it was set to.
fn set_time(fix: &mut Fix, time_ms: i64, settings: &Settings, now: Arrival) {
    let zone_ms = i64::from(settings.zone_minutes.unwrap_or(0)) * 60_000;
    fix.set_time(settings.fix_time(time_ms - zone_ms, now));
}

/// Whether a report is one to keep: with a place, or with an alarm.
fn is_kept(report: &Report) -> bool {
    report.fix.fields.has(FixFields::POSITION) || !report.momentary.is_empty()
}
