//! Queclink @Track: trackers of the GL, GV, GT, GB and CV series, text and two binary forms.
//!
//! This file holds the session: it cuts messages and says what each is answered. Field lists depend on device, version
//! and settings, so locations are found by their shape, and the rest is read from the heads and tails that the documents
//! have in common. Text carries no check, so a message counts only if its end is there.

mod binary;
mod bus;
mod fields;
mod information;
mod location;
mod model;
mod records;
mod report;

use self::binary::Header;
use self::fields::Fields;
use self::location::Place;
use self::model::Model;
use self::report::Body;
use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Settings, Split};
use crate::frame::{AttributeKey, DeviceId};

/// Longest message, of either form. A text with fifteen positions, access points and bus data has about 2500.
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;

/// Beginnings of text messages.
const RESPONSE: &[u8] = b"+RESP:GT";
const STORED: &[u8] = b"+BUFF:GT";
const ACKNOWLEDGEMENT: &[u8] = b"+ACK:GT";
const TEXTS: [&[u8]; 3] = [RESPONSE, STORED, ACKNOWLEDGEMENT];

/// Most locations of a text; the documents know up to 15.
const LOCATIONS_MAX: usize = 64;

/// Attributes that most reports have no more than.
const ATTRIBUTES_USUAL: usize = 12;

/// Bytes that answers have no more than, unless a version is odd.
const ANSWER_BYTES_USUAL: usize = 32;

/// Bytes that are looked at together for the end of a text.
const SCAN_BYTES: usize = 32;

/// Digits of an IMEI; where a message has no version it stands in the version's place.
const IMEI_DIGITS: usize = 15;

/// Digits of the versions at the end of a GT300's message.
const TRAILER_DIGITS: usize = 10;

/// State of one connection: none, as every message names its sender.
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
        let full = bytes.len() >= MESSAGE_BYTES_MAX;
        let Some(start) = bytes.iter().position(|&b| !is_blank(b)) else {
            // Blanks without end would fill the buffer of who waits for more.
            return match full {
                true => rubbish(bytes.len(), Reject::Rubbish),
                false => Split::Incomplete,
            };
        };
        match cut(&bytes[start..]) {
            Cut::Message { len, consumed } => Split::Message {
                range: start..start + len,
                consumed: start + consumed,
            },
            Cut::Rubbish { consumed, reason } => rubbish(start + consumed, reason),
            Cut::More if full => rubbish(start, Reject::Rubbish),
            Cut::More => Split::Incomplete,
        }
    }

    /// Blanks alone belong to the message before.
    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|&byte| !is_blank(byte))
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        match Header::of(message) {
            _ if records::is(message) => records::read(message, &self.settings, now),
            Some(header) => binary::read(header, message, &self.settings, now),
            None => self.text(message, now),
        }
    }
}

/// What stands at the start of unread bytes that are no blanks.
enum Cut {
    Message { len: usize, consumed: usize },
    Rubbish { consumed: usize, reason: Reject },
    More,
}

fn cut(bytes: &[u8]) -> Cut {
    if TEXTS.iter().any(|text| bytes.starts_with(text)) {
        return cut_text(bytes);
    }
    if records::begins(bytes) {
        return match records::length(bytes) {
            Some(len) if bytes.len() >= len => Cut::Message { len, consumed: len },
            _ => Cut::More,
        };
    }
    if let Some(header) = Header::of(bytes) {
        return match header.length(bytes) {
            Some(len) if !binary::LENGTHS.contains(&len) => skip(bytes, Reject::Length),
            Some(len) => match bytes.get(..len) {
                Some(message) if message.ends_with(binary::END) => {
                    Cut::Message { len, consumed: len }
                }
                Some(_) => skip(bytes, Reject::Length),
                None => Cut::More,
            },
            None => Cut::More,
        };
    }
    let begins = |text: &[u8]| text.starts_with(bytes);
    match TEXTS.iter().any(|text| begins(text)) || binary::HEADERS.iter().any(|text| begins(text)) {
        true => Cut::More,
        false => skip(bytes, Reject::Rubbish),
    }
}

/// A text ends with its `$`, with its line, or where the next begins: a lost connection cuts messages short.
fn cut_text(bytes: &[u8]) -> Cut {
    let window = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
    let ends = |at: usize| match window[at] {
        b'$' => true,
        b'+' => TEXTS.iter().any(|text| window[at..].starts_with(text)),
        byte => is_blank(byte),
    };
    // What can end a text lies below the comma, most of the text does not: whole blocks are passed over.
    let blocks = window.chunks(SCAN_BYTES).zip((0..).step_by(SCAN_BYTES));
    let end = blocks
        .filter(|(block, _)| block.iter().fold(false, |low, &b| low | (b < b',')))
        .find_map(|(block, start)| (start.max(1)..start + block.len()).find(|&at| ends(at)));
    match end {
        Some(len) if window[len] == b'$' => Cut::Message {
            len: len + 1,
            consumed: len + 1,
        },
        Some(len) => Cut::Message { len, consumed: len },
        // No record begins in a text, as its zero would have ended it.
        None if window.len() == MESSAGE_BYTES_MAX => Cut::Rubbish {
            consumed: (1..window.len())
                .find(|&at| window[at] == b'+')
                .unwrap_or(window.len()),
            reason: Reject::TooLong,
        },
        None => Cut::More,
    }
}

/// Passes to the next byte that can begin a message.
fn skip(bytes: &[u8], reason: Reject) -> Cut {
    let begins = |at: &usize| match bytes[*at] {
        b'+' => true,
        byte => !is_blank(byte) && records::begins(&bytes[*at..]),
    };
    Cut::Rubbish {
        consumed: (1..bytes.len()).find(begins).unwrap_or(bytes.len()),
        reason,
    }
}

fn rubbish(consumed: usize, reason: Reject) -> Split {
    Split::Rubbish { consumed, reason }
}

/// Nothing between two messages; some devices end theirs with a zero.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

impl Session {
    fn text(&self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let (text, closed) = match message.strip_suffix(b"$") {
            Some(text) => (text, true),
            None => (message, false),
        };
        let fields = Fields::cut(text).ok_or(Reject::TooLong)?;
        // Some devices leave the version out; the GT300 has its versions after the count number instead.
        let versioned = fields.len(1) != IMEI_DIGITS;
        let trailer = !versioned && fields.len(fields.count() - 1) == TRAILER_DIGITS;
        let last = fields.count() - 1 - usize::from(trailer);
        let number = fields.get(last);
        let numbered = number.len() == 4 && number.iter().all(u8::is_ascii_hexdigit);
        if !closed && !numbered {
            return Err(Reject::Incomplete);
        }
        let header = fields.get(0);
        let start = TEXTS.iter().find(|start| header.starts_with(start));
        let code = start.and_then(|start| header.get(start.len()..));
        let code: [u8; 3] = code
            .and_then(|code| code.try_into().ok())
            .ok_or(Reject::Rubbish)?;
        let id = 1 + usize::from(versioned);
        let device = DeviceId::new(fields.get(id)).ok_or(Reject::Device)?;
        if last < id + 2 {
            return Err(Reject::Field);
        }
        let mut message = match header.starts_with(ACKNOWLEDGEMENT) {
            true => acknowledgement(&fields, code, device),
            false => {
                let end = last - usize::from(numbered);
                let mut message = self.report(&fields, code, id, end, now)?;
                message.device = Some(device);
                let stored = header.starts_with(STORED);
                for report in &mut message.reports {
                    report.backlog = stored;
                }
                message
            }
        };
        if numbered && !trailer {
            let version = if versioned { fields.get(1) } else { b"" };
            answer(&mut message, version, number);
        }
        Ok(message)
    }

    /// What a report says, its sender's id at `id` and its send time at `end`.
    fn report(
        &self,
        fields: &Fields,
        code: [u8; 3],
        id: usize,
        end: usize,
        now: Arrival,
    ) -> Result<Message, Reject> {
        let versioned = id > 1;
        let model = Model::of(if versioned { fields.get(1) } else { b"" });
        let mut body = Body {
            fields,
            model,
            versioned,
            code,
            name: id + 1 + usize::from(model.vin || code == *b"OBD"),
            tail: None,
            end,
        };
        let mut reports = Vec::new();
        let mut next = Place::find(fields, id + 1);
        while let Some(place) = next {
            if reports.len() == LOCATIONS_MAX {
                return Err(Reject::TooLong);
            }
            let mut report = place.report(fields, &self.settings, now);
            let tail = location::surroundings(fields, place.after(), model.family, &mut report);
            body.tail = Some(tail);
            reports.push(report);
            next = Place::find(fields, place.after());
        }
        // The device's own state is that of its newest position, which is the last.
        let located = !reports.is_empty();
        let mut newest = reports.pop().unwrap_or_default();
        newest.attributes.reserve(ATTRIBUTES_USUAL);
        let known = report::kind(code);
        if !located && !matches!(known, Some("information" | "network")) {
            body.tail = location::cell_alone(fields, id + 1, end)
                .map(|at| location::surroundings(fields, at, model.family, &mut newest));
        }
        body.add_to(&mut newest);
        let mut message = Message::new(known.unwrap_or("report"), None);
        if model.vin {
            newest.state(AttributeKey::Vin, fields.text(id + 1));
        }
        if located || !(newest.held.is_empty() && newest.momentary.is_empty()) {
            if let (false, Some(sent_ms)) = (located, fields.time_ms(end)) {
                let utc_ms = sent_ms - location::zone_ms(&self.settings);
                newest.fix.set_time(self.settings.fix_time(utc_ms, now));
            }
            reports.push(newest);
        } else {
            message.attributes = newest.attributes;
            if known.is_none() {
                message.refused = Some(Reject::UnknownKind);
            }
        }
        message.reports = reports;
        Ok(message)
    }
}

/// What a device answered to a command, or its heartbeat.
fn acknowledgement(fields: &Fields, code: [u8; 3], device: DeviceId) -> Message {
    if code == *b"HBD" {
        return Message::new("heartbeat", Some(device));
    }
    let mut message = Message::new("acknowledgement", Some(device));
    let command = fields.text(0);
    let command = command.and_then(|header| header.strip_prefix("+ACK:").map(str::to_owned));
    message.state(AttributeKey::Result, command);
    message
}

/// Adds the answer. A device whose settings ask for none passes over it; one that asks for it and hears nothing sends
/// the report again and drops the connection.
fn answer(message: &mut Message, version: &[u8], number: &[u8]) {
    let out = &mut message.answer_now;
    out.reserve(ANSWER_BYTES_USUAL);
    out.extend(b"+SACK:");
    if message.kind == "heartbeat" {
        out.extend(b"GTHBD,");
        out.extend(version);
        out.push(b',');
    }
    out.extend(number);
    out.push(b'$');
    let reports = std::mem::take(&mut message.reports);
    message.hold_answer_for(reports);
}

#[cfg(test)]
mod tests;
