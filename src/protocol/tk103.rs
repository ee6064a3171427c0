//! TK103: vehicle trackers, text in parentheses.
//!
//! This file holds the session: it cuts messages and says what each command means and what it is answered. Older
//! devices write everything without separators, newer ones put commas between; both give the same fields in the same
//! order.

mod position;

use super::decoder::Decoder;
use super::fields::{Fields, printable};
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::{AlarmKind, Alarms, AttributeKey, DeviceId, FixFields, TimeSource};

/// Longest message; settings that a device tells and lists of access points are the longest.
pub(super) const MESSAGE_BYTES_MAX: usize = 2048;

/// Bytes of an id that does not end with a comma.
const ID_BYTES: usize = 12;

/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 256;

/// Most access points that are told, and most cells.
const NEIGHBOURS_MAX: usize = 8;

/// Most values of the vehicle's own network that are kept.
const VALUES_MAX: usize = 32;

/// State of one connection.
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
    /// A message ends with its parenthesis; one within a text between dollars is none. Where another message begins
    /// before, outside such a text, the end was lost.
    fn split(&mut self, bytes: &[u8]) -> Split {
        let full = bytes.len() >= MESSAGE_BYTES_MAX;
        let Some(start) = bytes.iter().position(|&byte| byte == b'(') else {
            let blank = bytes.iter().all(|&byte| is_line_end(byte));
            return match blank && !full {
                true => Split::Incomplete,
                false => rubbish(bytes.len(), Reject::Rubbish),
            };
        };
        if !bytes[..start].iter().all(|&byte| is_line_end(byte)) {
            return rubbish(start, Reject::Rubbish);
        }
        let window = &bytes[start..bytes.len().min(start + MESSAGE_BYTES_MAX)];
        let mut quoted = false;
        for (at, &byte) in window.iter().enumerate().skip(1) {
            match byte {
                b'$' => quoted = !quoted,
                b')' if !quoted => {
                    return Split::Message {
                        range: start..start + at + 1,
                        consumed: start + at + 1,
                    };
                }
                b'(' if !quoted => return rubbish(start + at, Reject::Incomplete),
                _ => {}
            }
        }
        if window.len() == MESSAGE_BYTES_MAX {
            // A dollar may have been lost, and what follows it stand outside of the text.
            let next = window.iter().skip(1).position(|&byte| byte == b'(');
            let consumed = next.map_or(window.len(), |next| next + 1);
            return rubbish(start + consumed, Reject::TooLong);
        }
        match full {
            true => rubbish(start, Reject::Rubbish),
            false => Split::Incomplete,
        }
    }

    /// Ends of lines alone belong to the message before.
    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|&byte| !is_line_end(byte))
    }

    fn decode(&mut self, content: &[u8], now: Arrival) -> Result<Message, Reject> {
        let inner = content
            .strip_prefix(b"(")
            .and_then(|rest| rest.strip_suffix(b")"))
            .ok_or(Reject::Rubbish)?;
        let head = Head::read(inner)?;
        Ok(self.read(&head, now))
    }
}

fn rubbish(consumed: usize, reason: Reject) -> Split {
    Split::Rubbish { consumed, reason }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// What every message begins with, and the rest.
struct Head<'a> {
    id: &'a [u8],
    device: DeviceId,
    command: &'a [u8],
    data: &'a [u8],
    /// Commas stand between the fields.
    commas: bool,
}

impl<'a> Head<'a> {
    /// An id of twelve characters, or of another count of digits, and a command of two letters and two more characters,
    /// with or without a comma between.
    fn read(inner: &'a [u8]) -> Result<Head<'a>, Reject> {
        let digits = inner.iter().take_while(|byte| byte.is_ascii_digit());
        let digits = digits.count();
        let head = Head::cut(inner, ID_BYTES).or_else(|| Head::cut(inner, digits));
        match DeviceId::new(&inner[..digits]) {
            None if head.is_none() => Err(Reject::Device),
            _ => head.ok_or(Reject::Rubbish),
        }
    }

    fn cut(inner: &'a [u8], id_bytes: usize) -> Option<Head<'a>> {
        let (id, rest) = inner.split_at_checked(id_bytes)?;
        let after_comma = rest.strip_prefix(b",");
        let (command, data) = after_comma.unwrap_or(rest).split_at_checked(4)?;
        let letters = command[..2].iter().all(u8::is_ascii_uppercase);
        let sound = letters && command[2..].iter().all(u8::is_ascii_alphanumeric);
        sound.then_some(Head {
            id,
            device: DeviceId::new(id)?,
            command,
            data: data.strip_prefix(b",").unwrap_or(data),
            commas: after_comma.is_some(),
        })
    }

    /// An answer in the form of the message.
    fn answer(&self, parts: &[&[u8]]) -> Vec<u8> {
        let comma: &[u8] = if self.commas { b"," } else { b"" };
        [&[b"(", self.id, comma], parts, &[b")"]].concat().concat()
    }
}

impl Session {
    fn read(&self, head: &Head, now: Arrival) -> Message {
        let mut message = Message::new(kind(head.command), Some(head.device));
        let position = position::read(head, &self.settings, now);
        let placed = position.is_some();
        let mut report = position.unwrap_or_default();
        match head.command {
            b"BP00" => message.answer_now = head.answer(&[b"AP01HSO"]),
            b"BP05" => message.answer_now = head.answer(&[b"AP05"]),
            b"BO01" => {
                // The answer repeats the digit of the alarm.
                let digit = &head.data[..head.data.len().min(1)];
                report.momentary = alarm(digit);
                message.answer_now = head.answer(&[b"AS01", digit]);
            }
            b"BQ81" => report.momentary = vehicle_alarm(Fields::new(head.data).get(1)),
            command => {
                let (momentary, ignition) = event(command);
                report.momentary = momentary;
                report.state(AttributeKey::Ignition, ignition);
            }
        }
        match head.command {
            b"ZC20" => position::power(head, &mut report, &self.settings, now),
            b"ZC03" => {
                let text = head.data.split(|&byte| byte == b'$').nth(1);
                report.state(AttributeKey::Result, text.and_then(words));
            }
            b"BZ00" => network(head, &mut report),
            b"BV00" => {
                let vin = printable(head.data).filter(|vin| vin.len() == 17);
                report.state(AttributeKey::Vin, vin);
            }
            b"BS51" | b"BS50" => values(head, &mut report),
            [b'D', b'W', b'5' | b'6', _] if !placed => {
                surroundings(head, &mut report, &self.settings, now);
            }
            _ if !placed => braced_cells(head, &mut report),
            _ => {}
        }
        if placed || !report.momentary.is_empty() {
            if message.kind == "unknown" {
                message.kind = "location";
            }
            if !report.fix.fields.has(FixFields::TIME) && !self.settings.recorded {
                report.fix.set_time((now.wall_ms, TimeSource::Arrival));
            }
            message.hold_answer_for(vec![report]);
        } else {
            message.attributes = report.attributes;
            message.refused = match head.command {
                _ if message.kind == "unknown" => Some(Reject::UnknownKind),
                _ if !message.attributes.is_empty() => None,
                // These have nothing to say but a position.
                [b'B', b'R', ..] | [b'D', b'W', b'3' | b'4', _] => Some(Reject::Field),
                _ => None,
            };
        }
        message
    }
}

fn kind(command: &[u8]) -> &'static str {
    match command {
        b"BP00" => "handshake",
        b"BP05" => "login",
        b"BO01" | b"BQ81" => "alarm",
        b"ZC20" => "power",
        b"ZC03" => "command_result",
        b"BZ00" => "cells",
        b"BV00" => "vin",
        b"BS50" | b"BS51" | b"BQ86" => "vehicle",
        [b'B', b'R', ..] | [b'B', b'P', ..] | [b'Z', b'C', ..] | [b'D', b'W', ..] => "location",
        _ => "unknown",
    }
}

/// The alarms of the document.
fn alarm(digit: &[u8]) -> Alarms {
    let kind = match digit {
        b"0" => AlarmKind::PowerCut,
        b"1" => AlarmKind::Collision,
        b"2" => AlarmKind::Sos,
        b"3" => AlarmKind::Theft,
        b"4" => AlarmKind::LowSpeed,
        b"5" => AlarmKind::Overspeed,
        b"6" => AlarmKind::AreaCrossed,
        b"7" => AlarmKind::IllegalMovement,
        _ => AlarmKind::Unspecified,
    };
    kind.into()
}

/// Alarms of devices on the vehicle's diagnostic plug.
fn vehicle_alarm(number: &[u8]) -> Alarms {
    let kind = match number {
        b"0" => AlarmKind::PowerLow,
        b"1" => AlarmKind::Overspeed,
        b"2" => AlarmKind::Idling,
        b"3" => AlarmKind::HarshAcceleration,
        b"4" => AlarmKind::HarshBraking,
        b"5" => AlarmKind::Temperature,
        _ => AlarmKind::Unspecified,
    };
    kind.into()
}

/// What a command of the newer devices says by itself: ZC with a position of its own, DW3 and DW4 too, and DW5 and DW6
/// the same events without one.
fn event(command: &[u8]) -> (Alarms, Option<bool>) {
    let alarm = |kind: AlarmKind| (kind.into(), None);
    match command {
        b"ZC11" | b"DW31" | b"DW51" => alarm(AlarmKind::IllegalMovement),
        b"ZC12" | b"DW32" | b"DW52" => alarm(AlarmKind::BatteryLow),
        b"ZC13" | b"DW33" | b"DW53" => alarm(AlarmKind::PowerCut),
        b"ZC17" | b"DW37" | b"DW57" => alarm(AlarmKind::Tampering),
        b"ZC25" | b"DW3E" | b"DW5E" => alarm(AlarmKind::Sos),
        b"ZC26" | b"DW3F" | b"DW5F" => alarm(AlarmKind::Tampering),
        b"ZC27" | b"DW40" | b"DW60" => alarm(AlarmKind::PowerLow),
        b"ZC15" | b"DW35" | b"DW55" | b"ZC29" | b"DW42" | b"DW62" => {
            (Alarms::default(), Some(true))
        }
        b"ZC16" | b"DW36" | b"DW56" => (Alarms::default(), Some(false)),
        _ => (Alarms::default(), None),
    }
}

/// Text of several lines, bounded.
fn words(bytes: &[u8]) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let shown = |byte: &u8| (b' '..=b'~').contains(byte) || *byte == b'\n';
    let kept = bytes.iter().copied().filter(shown);
    let text: String = kept.map(char::from).collect();
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// Network and cell, of which area and cell are hexadecimal.
fn network(head: &Head, report: &mut Report) {
    let fields = Fields::new(head.data);
    let hex = |at: usize| u32::from_str_radix(fields.text(at)?, 16).ok();
    if let (Some(mcc), Some(mnc), Some(area), Some(cell)) =
        (fields.number(0), fields.number(1), hex(2), hex(3))
    {
        let cell = format!("{mcc}-{mnc}-{area}-{cell}");
        report.state(AttributeKey::Cells, Some(cell));
    }
}

/// What stands in place of a position that is not known: cells, each between braces.
fn braced_cells(head: &Head, report: &mut Report) {
    let braced = head.data.split(|&byte| byte == b'{').skip(1);
    let cells: Vec<_> = braced
        .filter_map(|rest| {
            let fields = Fields::new(rest.split(|&byte| byte == b'}').next()?);
            let numbers: Option<Vec<_>> = (0..4).map(|at| fields.number(at)).collect();
            let numbers = numbers?.into_iter().map(|number| number.to_string());
            Some(numbers.collect::<Vec<_>>().join("-"))
        })
        .take(NEIGHBOURS_MAX)
        .collect();
    let cells = (!cells.is_empty()).then(|| cells.join(" "));
    report.state(AttributeKey::Cells, cells);
}

/// Network, cell, a count of access points (address, signal and channel, stars between), date and time.
fn surroundings(head: &Head, report: &mut Report, settings: &Settings, now: Arrival) {
    let fields = Fields::new(head.data);
    let cell: Option<Vec<_>> = (0..4)
        .map(|at| fields.number(at).map(|number| number.to_string()))
        .collect();
    let count = fields.u8(4).map_or(0, usize::from);
    let points: Vec<_> = fields
        .from(5)
        .iter()
        .take(count.min(NEIGHBOURS_MAX))
        .filter_map(|point| {
            let mut parts = point.split(|&byte| byte == b'*');
            let (address, signal) = (printable(parts.next()?)?, printable(parts.next()?)?);
            Some(format!("{address} {signal}"))
        })
        .collect();
    let last = fields.len().saturating_sub(1).max(1);
    let moment = (fields.get(last - 1), fields.get(last));
    if let Some(time) = position::time(true, moment.0, moment.1, settings, now) {
        report.fix.set_time(time);
    }
    let known = cell.filter(|cell| cell[2] != "0");
    report.state(AttributeKey::Cells, known.map(|cell| cell.join("-")));
    let points = (!points.is_empty()).then(|| points.join(" "));
    report.state(AttributeKey::Wifi, points);
}

/// Numbered values of the vehicle's network, `number:digits`.
fn values(head: &Head, report: &mut Report) {
    for value in head.data.split(|&byte| byte == b',').take(VALUES_MAX) {
        let mut parts = value.split(|&byte| byte == b':');
        if let (Some(number), Some(digits)) = (parts.next(), parts.next()) {
            let name = printable(number).filter(|name| name.len() <= 4);
            if let Some(name) = name {
                report.state_named(format!("can_{name}"), printable(digits));
            }
        }
    }
}

#[cfg(test)]
mod tests;
