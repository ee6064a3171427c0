//! Teltonika: codecs 8, 8 Extended, 16 and the older 7 over TCP and UDP, and what devices answer to commands.
//!
//! This file holds the session: it cuts logins, packets (TCP) and datagrams (UDP) off the stream, which their first
//! bytes tell apart, and says what they are answered. Records are answered with their count when they are safe. A packet
//! with a wrong check is not answered: the device sends it again.

mod command;
mod handheld;
mod io;
mod record;
#[cfg(test)]
mod tests;

use self::record::{Codec, Records};
use super::bytes::Reader;
use super::check::crc16_arc;
use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Settings, Split};
use crate::frame::DeviceId;

/// Longest message. A packet has up to 1,280 bytes by the vendor's document; what a device passes on from its serial
/// port may have more.
pub(super) const MESSAGE_BYTES_MAX: usize = 2048;

/// A single byte by which a device keeps its connection open. Nothing answers it.
const KEEP_ALIVE: u8 = 0xff;

/// Bytes around the data of a packet: four zeros and the length before, the check after.
const PACKET_EXTRA_BYTES: usize = 12;

/// Least bytes of a packet's data: codec and twice the count.
const DATA_BYTES_MIN: usize = 3;

/// A datagram's length, numbers and IMEI, before its data.
const DATAGRAM_HEAD_BYTES: usize = 23;

/// Longest name that a login is taken for. What follows the length in a datagram is longer.
const LOGIN_BYTES_MAX: usize = DATAGRAM_HEAD_BYTES + DATA_BYTES_MIN - 4;

/// Digits of an IMEI.
const IMEI_BYTES: usize = 15;

/// State of one connection.
pub(super) struct Session {
    settings: Settings,
    /// Who logged in.
    device: Option<DeviceId>,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            device: None,
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        let reason = match Start::of(bytes) {
            Start::Message(length) => {
                return Split::Message {
                    range: 0..length,
                    consumed: length,
                };
            }
            Start::Partial => return Split::Incomplete,
            Start::Nothing(reason) => reason,
        };
        let next =
            (1..bytes.len()).find(|&at| !matches!(Start::of(&bytes[at..]), Start::Nothing(_)));
        Split::Rubbish {
            consumed: next.unwrap_or(bytes.len()),
            reason,
        }
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let Some(&[high, low]) = message.first_chunk() else {
            return match message {
                [KEEP_ALIVE] => Ok(Message::new("keep_alive", self.device)),
                _ => Err(Reject::Length),
            };
        };
        match usize::from(u16::from_be_bytes([high, low])) {
            0 => self.packet(message, now),
            1..=LOGIN_BYTES_MAX => Ok(self.login(&message[2..])),
            _ => self.datagram(message, now),
        }
    }

    /// A count of records does not say of which packet.
    fn answers_in_order(&self) -> bool {
        true
    }
}

/// What bytes begin.
enum Start {
    /// A message of that length, which is there.
    Message(usize),
    /// A message of which more has to come, or may.
    Partial,
    Nothing(Reject),
}

impl Start {
    fn of(bytes: &[u8]) -> Start {
        match *bytes {
            [] => Start::Partial,
            [KEEP_ALIVE, ..] => Start::Message(1),
            [high, ..] if usize::from(high) >= MESSAGE_BYTES_MAX / 256 => {
                Start::Nothing(Reject::Rubbish)
            }
            [_] => Start::Partial,
            [high, low, ref rest @ ..] => match usize::from(u16::from_be_bytes([high, low])) {
                0 => Start::of_packet(bytes),
                length @ 1..=LOGIN_BYTES_MAX => Start::of_login(rest, length),
                length => Start::of_datagram(bytes, length + 2),
            },
        }
    }

    fn whole(bytes: &[u8], length: usize) -> Start {
        match bytes.len() < length {
            true => Start::Partial,
            false => Start::Message(length),
        }
    }

    fn of_packet(bytes: &[u8]) -> Start {
        let zeros = &bytes[..bytes.len().min(4)];
        if zeros.iter().any(|&byte| byte != 0) {
            return Start::Nothing(Reject::Rubbish);
        }
        let Some(&[_, _, _, _, a, b, c, d]) = bytes.first_chunk() else {
            return Start::Partial;
        };
        match u32::from_be_bytes([a, b, c, d]) as usize {
            length if length > MESSAGE_BYTES_MAX - PACKET_EXTRA_BYTES => {
                Start::Nothing(Reject::TooLong)
            }
            length if length < DATA_BYTES_MIN => Start::Nothing(Reject::Length),
            length => Start::whole(bytes, length + PACKET_EXTRA_BYTES),
        }
    }

    /// Any short text is taken for a login, so that it can be refused.
    fn of_login(name: &[u8], length: usize) -> Start {
        let name = &name[..name.len().min(length)];
        match name.iter().all(u8::is_ascii_graphic) {
            true if name.len() == length => Start::Message(length + 2),
            true => Start::Partial,
            false => Start::Nothing(Reject::Rubbish),
        }
    }

    fn of_datagram(bytes: &[u8], length: usize) -> Start {
        let head = &bytes[..bytes.len().min(DATAGRAM_HEAD_BYTES)];
        let marked = head
            .iter()
            .skip(6)
            .zip([0, IMEI_BYTES as u8])
            .all(|(&byte, mark)| byte == mark);
        if !marked || !head.iter().skip(8).all(u8::is_ascii_digit) {
            return Start::Nothing(Reject::Rubbish);
        }
        match length {
            length if length > MESSAGE_BYTES_MAX => Start::Nothing(Reject::TooLong),
            length if length < DATAGRAM_HEAD_BYTES + DATA_BYTES_MIN => {
                Start::Nothing(Reject::Length)
            }
            length => Start::whole(bytes, length),
        }
    }
}

impl Session {
    /// A name that is no IMEI is told so, and the device may hang up.
    fn login(&mut self, name: &[u8]) -> Message {
        let device = imei(name);
        let mut message = Message::new("login", device);
        match device {
            Some(_) => {
                self.device = device;
                message.answer_now.push(1);
            }
            None => {
                message.answer_now.push(0);
                message.refused = Some(Reject::Device);
            }
        }
        message
    }

    fn packet(&self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let (_, rest) = message.split_at_checked(8).ok_or(Reject::Length)?;
        let (data, check) = rest.split_last_chunk().ok_or(Reject::Length)?;
        if !self.settings.lenient && u32::from(crc16_arc(data)) != u32::from_be_bytes(*check) {
            return Err(Reject::Checksum);
        }
        let answer = |accepted: u8| u32::from(accepted).to_be_bytes().to_vec();
        self.data(data, self.device, answer, now)
    }

    /// The IMEI is in each datagram, and so is a number that the answer repeats.
    fn datagram(&self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let (head, data) = message
            .split_first_chunk::<DATAGRAM_HEAD_BYTES>()
            .ok_or(Reject::Length)?;
        let device = imei(&head[8..]).ok_or(Reject::Device)?;
        // The byte between the numbers, 0 or 1, has no use any more; every datagram is answered.
        let &[_, _, id_high, id_low, _, number, ..] = head;
        let answer = |accepted: u8| vec![0, 5, id_high, id_low, 1, number, accepted];
        self.data(data, Some(device), answer, now)
    }

    /// What stands between the length and the check: a codec, a count, as many things, and the count again.
    fn data(
        &self,
        data: &[u8],
        device: Option<DeviceId>,
        answer: impl Fn(u8) -> Vec<u8>,
        now: Arrival,
    ) -> Result<Message, Reject> {
        let &[codec, count, ref body @ .., count_again] = data else {
            return Err(Reject::Length);
        };
        if count != count_again {
            return Err(Reject::Length);
        }
        let mut records = Records::new(&self.settings, now);
        let read = match (Codec::of(codec), codec) {
            (Some(codec), _) => records.read(codec, count, body),
            (None, handheld::CODEC) => handheld::read(&mut records, count, body),
            (None, _) if command::is_codec(codec) => {
                return command::read(codec, count, body, device);
            }
            (None, _) => {
                let mut message = Message::new("unknown", device);
                message.answer_now = answer(0);
                message.refused = Some(Reject::UnknownKind);
                return Ok(message);
            }
        };
        let mut message = Message::new("records", device);
        // What cannot be read is accepted all the same: the check was right, so it would come again for ever, and what
        // the device has stored behind it would never come.
        message.answer_now = answer(count);
        message.refused = read.err();
        message.attributes = records.attributes;
        message.hold_answer_for(records.reports);
        Ok(message)
    }
}

/// The device that 15 digits name.
fn imei(name: &[u8]) -> Option<DeviceId> {
    let digits = name.len() == IMEI_BYTES && name.iter().all(u8::is_ascii_digit);
    digits.then(|| DeviceId::new(name))?
}

/// A count or id of one byte, or of two.
fn narrow_or_wide(reader: &mut Reader, wide: bool) -> Option<u16> {
    match wide {
        true => reader.u16(),
        false => reader.u8().map(u16::from),
    }
}
