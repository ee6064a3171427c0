//! GT06: trackers of Concox and Jimi and their many relatives.
//!
//! This file holds the session: who a terminal is, in which zone its times are, what each kind of message means and
//! what it is answered. What reports an alarm or a status is answered when it is safe, login and heartbeat at once;
//! plain locations wait for no answer. The terminals share numbers for other layouts, so lengths tell much.

mod alarm;
mod attached;
mod bare;
mod envelope;
mod information;
mod location;
mod models;
mod modules;
mod network;
mod place;
mod reading;
mod status;
mod surroundings;

use self::bare::{Bare, Kind};
use self::envelope::{Packet, push_answer};
use self::place::Clock;
use self::reading::Reading;
use super::bytes::hex;
use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Settings, Split};
use crate::frame::{DeviceId, rfc3339_ms};

/// Longest message: a part of a picture has little more than a thousand bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;

/// Longest text that is taken from a message.
const TEXT_BYTES_MAX: usize = 256;

/// No zone is further from UTC.
const ZONE_MINUTES_MAX: i32 = 14 * 60;

/// State of one terminal's connection.
pub(super) struct Session {
    settings: Settings,
    /// Who logged in.
    device: Option<DeviceId>,
    /// The zone that the login stated.
    zone_minutes: Option<i32>,
    /// The alarm bits of the last information byte: a heartbeat that repeats them is no new alarm.
    alarm_bits: u8,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            device: None,
            zone_minutes: None,
            alarm_bits: 0,
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        envelope::split(bytes)
    }

    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|byte| !envelope::STOP.contains(byte))
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        if let Some(bare) = bare::open(message) {
            return self.bare(&bare, now);
        }
        let packet = envelope::open(message, self.settings.lenient)?;
        match packet.number {
            0x01 => self.login(&packet),
            _ => Ok(self.packet(&packet, now)),
        }
    }
}

/// How a message is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The terminal waits for none.
    None,
    /// The number and the serial number, in the short form.
    Short,
    /// The same, in the form of the message.
    Same,
}

/// What a kind of message is called, how it is answered, and whether it could be read.
type Read = (&'static str, Answer, Option<()>);

impl Session {
    fn clock(&self, now: Arrival) -> Clock<'_> {
        let zone = self.settings.zone_minutes.or(self.zone_minutes);
        Clock {
            zone_minutes: zone.unwrap_or(0),
            settings: &self.settings,
            now,
        }
    }

    fn login(&mut self, packet: &Packet) -> Result<Message, Reject> {
        let (id, rest) = packet.content.split_first_chunk().ok_or(Reject::Length)?;
        self.device = Some(terminal_id(id).ok_or(Reject::Device)?);
        // A type of two bytes, then the zone.
        self.zone_minutes = match *rest {
            [_, _, high, low, ..] => zone_minutes(u16::from_be_bytes([high, low])),
            _ => None,
        };
        self.alarm_bits = 0;
        let mut message = Message::new("login", self.device);
        let kind = rest.first_chunk::<2>().map(|kind| hex(kind));
        message.state_named("terminal_type", kind);
        self.answer(&mut message.answer_now, packet, Answer::Same);
        Ok(message)
    }

    fn bare(&mut self, bare: &Bare, now: Arrival) -> Result<Message, Reject> {
        let (kind, reading) = match bare.kind {
            Kind::Login => {
                let id = bare.terminal().ok_or(Reject::Length)?;
                self.device = Some(terminal_id(id).ok_or(Reject::Device)?);
                self.zone_minutes = None;
                ("login", Reading::default())
            }
            Kind::Heartbeat => ("heartbeat", Reading::default()),
            Kind::Location { .. } => ("location", bare.read(&self.clock(now))?),
            Kind::Wifi { .. } => ("wifi", bare.read(&self.clock(now))?),
        };
        let mut message = Message::new(kind, self.device);
        bare.push_answer(&mut message.answer_now);
        reading.finish(&mut message);
        Ok(message)
    }

    /// Reads a message after the envelope; what is in it is sound even if it cannot be read.
    fn packet(&mut self, packet: &Packet, now: Arrival) -> Message {
        let mut reading = Reading::default();
        let (kind, answer, whole) = match packet.number {
            0x8a => return self.time(packet, now),
            0x2a => return self.address(packet),
            _ => match read(packet, &self.clock(now), &mut reading) {
                Some(read) => read,
                None => return self.refuse(packet),
            },
        };
        let mut message = Message::new(kind, self.device);
        self.answer(&mut message.answer_now, packet, answer);
        // What stands before the place where a message breaks off is good.
        if whole.is_none() && reading.is_empty() {
            // Answered all the same: else the terminal would send it for ever.
            message.refused = Some(Reject::Length);
            return message;
        }
        self.raise_terminal_alarm(&mut reading, kind == "alarm");
        reading.finish(&mut message);
        message
    }

    /// Raises the alarm of the information byte if the message is about an alarm, or if the byte did not say so before.
    fn raise_terminal_alarm(&mut self, reading: &mut Reading, about_alarm: bool) {
        let Some(information) = reading.terminal else {
            return;
        };
        let bits = information >> 3 & 7;
        if about_alarm || bits != self.alarm_bits {
            alarm::raise(
                &mut reading.report.momentary,
                alarm::of_terminal(information),
            );
        }
        self.alarm_bits = bits;
    }

    fn answer(&self, out: &mut Vec<u8>, packet: &Packet, answer: Answer) {
        let long = match answer {
            Answer::None => return,
            Answer::Short => false,
            Answer::Same => packet.long,
        };
        push_answer(out, long, packet.number, &[], packet.serial);
    }

    /// The time in UTC.
    fn time(&self, packet: &Packet, now: Arrival) -> Message {
        let mut message = Message::new("time_request", self.device);
        let time = utc(now.wall_ms);
        push_answer(&mut message.answer_now, false, 0x8a, &time, packet.serial);
        message
    }

    /// The telephone that asked is told that no address is known.
    fn address(&self, packet: &Packet) -> Message {
        const ADDRESS: &[u8] = b"NA&&NA&&0##";
        let mut message = Message::new("address_request", self.device);
        let mut content = vec![ADDRESS.len() as u8, 0, 0, 0, 0];
        content.extend(ADDRESS);
        push_answer(&mut message.answer_now, true, 0x97, &content, packet.serial);
        message
    }

    /// A message that is not read. What has the short form may wait for an answer, except answers to commands and
    /// pictures, which are sent part by part to who asks for them.
    fn refuse(&self, packet: &Packet) -> Message {
        let (kind, reject, answer) = match packet.number {
            0x36 => ("media", Reject::Part, Answer::None),
            0x80..=0x82 => ("unknown", Reject::UnknownKind, Answer::None),
            _ if packet.long => ("unknown", Reject::UnknownKind, Answer::None),
            _ => ("unknown", Reject::UnknownKind, Answer::Short),
        };
        let mut message = Message::new(kind, self.device);
        message.refused = Some(reject);
        self.answer(&mut message.answer_now, packet, answer);
        message
    }
}

/// What a message says; `None` if its number is not known.
fn read(packet: &Packet, clock: &Clock, reading: &mut Reading) -> Option<Read> {
    let Packet {
        long,
        number,
        content,
        ..
    } = *packet;
    let location = |reading: &mut Reading| location::read(number, content, clock, reading);
    let around = |reading: &mut Reading| surroundings::read(number, content, clock, reading);
    let placed = || location::begins(content);
    Some(match number {
        0x10 | 0x11 | 0x12 | 0x22 | 0x25 | 0x2d | 0x31 | 0x37 | 0x38 | 0xa0 | 0x1e => {
            ("location", Answer::None, location(reading))
        }
        0x1a | 0x61 => ("location", Answer::Short, location(reading)),
        0x13 => (
            "heartbeat",
            Answer::Short,
            status::heartbeat(content, reading),
        ),
        0x23 => (
            "heartbeat",
            Answer::Short,
            status::newer_heartbeat(content, reading),
        ),
        0x32 | 0x33 if long => (
            "alarm",
            Answer::Same,
            models::alarm_system(number, content, clock, reading),
        ),
        0x16 | 0x26 | 0x27 | 0x32 | 0x39 | 0xa4 => ("alarm", Answer::Short, location(reading)),
        0xa3 if content.len() > status::LOCK_BYTES_MAX => {
            ("alarm", Answer::Short, location(reading))
        }
        0xa3 => ("status", Answer::Short, status::lock(content, reading)),
        0x19 if content.len() > 17 && place::has_time(content) => (
            "cells",
            Answer::None,
            surroundings::counted_cells(content, clock, reading),
        ),
        0x19 => (
            "alarm",
            Answer::Short,
            surroundings::status(content, reading),
        ),
        0xa5 => (
            "alarm",
            Answer::Short,
            surroundings::alarm(content, reading),
        ),
        0xa9 => ("alarm", Answer::Short, around(reading)),
        0x95 => (
            "alarm",
            Answer::Short,
            models::camera(content, clock, reading),
        ),
        0x17 if content.len() == 35 && placed() => ("location", Answer::Short, location(reading)),
        0x24 if content.len() == 41 && placed() => ("location", Answer::None, location(reading)),
        0x34 if content.len() != 50 => (
            "location",
            Answer::None,
            models::logger(content, clock, reading),
        ),
        0xa2 if content.len() == 59 && placed() => ("location", Answer::Short, location(reading)),
        // The upper half is the length of the GPS part; modules never have it there.
        0x36 if !long && content.len() == 48 && placed() && content[6] >> 4 == 12 => {
            ("location", Answer::Short, location(reading))
        }
        0x36 if !long => (
            "status",
            Answer::Short,
            status::with_modules(content, reading),
        ),
        0x18 | 0x24 | 0x28 | 0x2c | 0x2e | 0x33 | 0x34 | 0xa1 | 0xa2 => {
            ("cells", Answer::None, around(reading))
        }
        0xf3 => (
            "wifi",
            Answer::None,
            surroundings::points(content, clock, reading),
        ),
        0xb2 => (
            "beacon",
            Answer::Short,
            surroundings::beacon(content, clock, reading),
        ),
        0xa7 => (
            "address_request",
            Answer::None,
            surroundings::address(content, reading),
        ),
        0x15 => (
            "command_answer",
            Answer::None,
            information::command_answer(content, reading),
        ),
        0x21 => (
            "command_answer",
            Answer::None,
            information::newer_command_answer(content, clock, reading),
        ),
        0x94 => (
            "information",
            Answer::None,
            information::information(content, long, reading),
        ),
        0x9b => (
            "serial",
            Answer::None,
            information::serial(content, reading),
        ),
        0x70 => (
            "location",
            Answer::Short,
            modules::modular(content, clock, reading),
        ),
        0x35 => (
            "media",
            Answer::None,
            attached::picture_offer(content, reading),
        ),
        0x41 => ("media", Answer::Same, attached::picture(content, reading)),
        0x8c => (
            "diagnosis",
            Answer::None,
            attached::diagnosis(content, clock, reading),
        ),
        0x65 | 0x66 => (
            "diagnosis",
            Answer::None,
            attached::list(content, clock, reading),
        ),
        0x40 => (
            "battery",
            Answer::Short,
            attached::battery(content, clock, reading),
        ),
        0xf1 => (
            "status",
            Answer::Short,
            attached::states(content, clock, reading),
        ),
        0xf2 => (
            "sensors",
            Answer::Short,
            attached::sensors(content, clock, reading),
        ),
        _ => return None,
    })
}

/// The offset of a login: hours and minutes as a decimal number, a bit for west, and a language.
fn zone_minutes(word: u16) -> Option<i32> {
    let number = i32::from(word >> 4);
    let (hours, minutes) = (number / 100, number % 100);
    let offset = hours * 60 + minutes;
    if minutes >= 60 || offset > ZONE_MINUTES_MAX {
        return None;
    }
    Some(if word & 8 != 0 { -offset } else { offset })
}

/// An id of 15 digits behind a zero, or of 16; zeros are none.
fn terminal_id(id: &[u8; 8]) -> Option<DeviceId> {
    if *id == [0; 8] {
        return None;
    }
    let digits = hex(id);
    DeviceId::new(digits.strip_prefix('0').unwrap_or(&digits).as_bytes())
}

/// Text without the blanks around it, if there is any and it can be printed.
fn text(bytes: &[u8]) -> Option<String> {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let start = bytes.iter().position(|byte| !blank(byte))?;
    let end = bytes.iter().rposition(|byte| !blank(byte))? + 1;
    let text = &bytes[start..end];
    let printable = |byte: &u8| (b' '..=b'~').contains(byte) || byte.is_ascii_whitespace();
    if !text.iter().all(printable) {
        return None;
    }
    let text = &text[..text.len().min(TEXT_BYTES_MAX)];
    String::from_utf8(text.to_vec()).ok()
}

/// Year since 2000, month, day, hour, minute, second in binary.
fn utc(wall_ms: i64) -> [u8; 6] {
    let text = rfc3339_ms(wall_ms);
    let digits = text.as_bytes();
    [2, 5, 8, 11, 14, 17].map(|at| (digits[at] & 15) * 10 + (digits[at + 1] & 15))
}

#[cfg(test)]
mod tests;
