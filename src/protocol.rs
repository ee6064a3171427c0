//! Pure decoders: bytes of a device to fixes, alarms and answers.
//!
//! A [`Session`] is the state of one connection (or one recorded log). It cuts the unread bytes into messages and reads
//! each of them; it sees no socket and no clock, is total on any bytes, and a message that it refuses leaves its state
//! as it was. What a sender can make it hold is bounded by the limits that are named here and in the decoders.

mod calendar;
mod jt808;
mod nmea;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::frame::{Alarms, Attribute, DeviceId, Fix};

/// What a sensor's bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// JT/T 808, editions 2011, 2013 and 2019.
    Jt808,
    /// NMEA 0183.
    Nmea,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: &'static [Protocol] = &[Protocol::Jt808, Protocol::Nmea];

    /// The name in configuration, metrics and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Jt808 => "jt808",
            Protocol::Nmea => "nmea",
        }
    }

    /// The protocol of that name.
    pub fn from_name(name: &str) -> Option<Protocol> {
        Protocol::ALL
            .iter()
            .copied()
            .find(|protocol| protocol.name() == name)
    }

    /// Bytes of the longest message as it stands on the wire. Who buffers for [`Session::split`] needs as many: with
    /// that many unread bytes it never answers [`Split::Incomplete`].
    pub fn message_bytes_max(self) -> usize {
        match self {
            Protocol::Jt808 => jt808::MESSAGE_BYTES_MAX,
            Protocol::Nmea => nmea::MESSAGE_BYTES_MAX,
        }
    }
}

/// What an operator states about a sensor's devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// JT/T 808: offset of the devices' times from UTC, minutes. The standard's is +480.
    pub zone_minutes: i32,
    /// Accept messages with a wrong checksum, and any authentication code.
    pub lenient: bool,
    /// NMEA 0183, which names no sender: who it is. Wins over what a stream says about itself.
    pub device: Option<DeviceId>,
    /// Secret of this node, from which authentication codes are derived.
    pub node_key: [u8; 16],
    /// The bytes are a recording: dates are never repaired or completed from the time of arrival.
    pub recorded: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            zone_minutes: 480,
            lenient: false,
            device: None,
            node_key: [0; 16],
            recorded: false,
        }
    }
}

/// When bytes arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Wall clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
}

/// What the next unread bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// A message to pass to [`Session::decode`].
    Message {
        /// Where it stands in the unread bytes.
        range: Range<usize>,
        /// Bytes to drop once it is read.
        consumed: usize,
    },
    /// The start of a message, or nothing.
    Incomplete,
    /// Bytes that belong to no message.
    Rubbish {
        /// Bytes to drop; at least one.
        consumed: usize,
        /// Why.
        reason: Reject,
    },
}

/// Why bytes or a message are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// The check does not match.
    #[error("checksum does not match")]
    Checksum,
    /// A stated length does not fit.
    #[error("length does not fit")]
    Length,
    /// Longer than any message may be.
    #[error("message is too long")]
    TooLong,
    /// Not this protocol.
    #[error("bytes are not a message")]
    Rubbish,
    /// An escape sequence that does not exist.
    #[error("escape sequence is not valid")]
    Escape,
    /// A kind of message that is not known. It was answered so.
    #[error("kind of message is not known")]
    UnknownKind,
    /// The message does not say who sent it in a way that can be used.
    #[error("device id is not valid")]
    Device,
    /// A field does not parse.
    #[error("field does not parse")]
    Field,
    /// The body is encrypted.
    #[error("message is encrypted")]
    Encrypted,
    /// A part of a long message that is not collected: of a kind that is not read, or over the limit.
    #[error("part of a long message is not collected")]
    Part,
    /// The stream ended before the message did.
    #[error("message is not complete")]
    Incomplete,
}

impl Reject {
    /// Every reason.
    pub const ALL: &'static [Reject] = &[
        Reject::Checksum,
        Reject::Length,
        Reject::TooLong,
        Reject::Rubbish,
        Reject::Escape,
        Reject::UnknownKind,
        Reject::Device,
        Reject::Field,
        Reject::Encrypted,
        Reject::Part,
        Reject::Incomplete,
    ];

    /// The name of the reason in counters.
    pub fn name(self) -> &'static str {
        match self {
            Reject::Checksum => "checksum",
            Reject::Length => "length",
            Reject::TooLong => "too_long",
            Reject::Rubbish => "rubbish",
            Reject::Escape => "escape",
            Reject::UnknownKind => "unknown_kind",
            Reject::Device => "device",
            Reject::Field => "field",
            Reject::Encrypted => "encrypted",
            Reject::Part => "part",
            Reject::Incomplete => "incomplete",
        }
    }
}

/// A message, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Who sent it, if known. Reports of nobody cannot be passed on; [`Reject::Device`] is their name.
    pub device: Option<DeviceId>,
    /// Kind of message, one of a few names per protocol.
    pub kind: &'static str,
    /// What it reports, in the order sent.
    pub reports: Vec<Report>,
    /// What it says without a position (a terminal's model, a text).
    pub attributes: Vec<Attribute>,
    /// Bytes to send at once.
    pub answer_now: Vec<u8>,
    /// Bytes to send when the reports are safe; empty if the device waits for nothing.
    pub answer_when_safe: Vec<u8>,
    /// The message is sound and was answered, but not read: why. Its sender is no source of rubbish: a picture in a
    /// hundred parts is a hundred of these.
    pub refused: Option<Reject>,
}

impl Message {
    /// Adds reports that the answer so far must wait for; without any, it goes out at once.
    fn hold_answer_for(&mut self, reports: Vec<Report>) {
        if !reports.is_empty() {
            self.reports = reports;
            self.answer_when_safe = std::mem::take(&mut self.answer_now);
        }
    }
}

/// One position report of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Where and when.
    pub fix: Fix,
    /// Alarms that stay set until their condition ends.
    pub held: Alarms,
    /// Alarms that the device drops when it is answered.
    pub momentary: Alarms,
    /// The device stored this report and sent it later.
    pub backlog: bool,
    /// What else it says, most wanted first.
    pub attributes: Vec<Attribute>,
}

/// State of one connection or one log.
pub struct Session(Inner);

enum Inner {
    Jt808(jt808::Session),
    Nmea(nmea::Session),
}

impl Session {
    /// A session for a live stream: one report for each epoch or report of the device.
    pub fn new(protocol: Protocol, settings: &Settings) -> Session {
        Session(match protocol {
            Protocol::Jt808 => Inner::Jt808(jt808::Session::new(settings)),
            Protocol::Nmea => Inner::Nmea(nmea::Session::new(settings, nmea::Mode::Epoch)),
        })
    }

    /// A session that gives what a message holds with that message, although later ones may say more about the same
    /// moment.
    pub fn per_message(protocol: Protocol, settings: &Settings) -> Session {
        match protocol {
            Protocol::Jt808 => Session::new(protocol, settings),
            Protocol::Nmea => Session(Inner::Nmea(nmea::Session::new(
                settings,
                nmea::Mode::Sentence,
            ))),
        }
    }

    /// Cuts the next message off the unread `bytes`. It is called again with what is left after the consumed bytes
    /// until it answers [`Split::Incomplete`]; then with more.
    pub fn split(&mut self, bytes: &[u8]) -> Split {
        match &mut self.0 {
            Inner::Jt808(session) => session.split(bytes),
            Inner::Nmea(session) => session.split(bytes),
        }
    }

    /// Reads one message that [`Session::split`] cut.
    ///
    /// # Errors
    /// Why it is refused; the session is then as if it had never come.
    pub fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        match &mut self.0 {
            Inner::Jt808(session) => session.decode(message, now),
            Inner::Nmea(session) => session.decode(message, now),
        }
    }

    /// Whether `left`, after which [`Session::split`] answered [`Split::Incomplete`], is the start of a message and not
    /// just what may stand between two.
    pub fn is_part(&self, left: &[u8]) -> bool {
        match &self.0 {
            Inner::Jt808(session) => session.is_part(left),
            Inner::Nmea(session) => session.is_part(left),
        }
    }

    /// Gives what is under construction, because the stream ended or fell silent.
    pub fn flush(&mut self) -> Option<Message> {
        match &mut self.0 {
            Inner::Jt808(_) => None,
            Inner::Nmea(session) => session.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_protocol() {
        for &protocol in Protocol::ALL {
            assert_eq!(Protocol::from_name(protocol.name()), Some(protocol));
        }
        assert_eq!(Protocol::from_name("carrier_pigeon"), None);
    }

    #[test]
    fn each_reason_has_a_name_of_its_own() {
        let mut names: Vec<_> = Reject::ALL.iter().map(|reject| reject.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reject::ALL.len());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_split_and_read_without_panic_and_to_the_end(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000),
            lenient: bool,
        ) {
            for &protocol in Protocol::ALL {
                let settings = Settings { lenient, ..Settings::default() };
                let mut session = Session::new(protocol, &settings);
                let mut rest = &bytes[..];
                loop {
                    match session.split(rest) {
                        Split::Message { range, consumed } => {
                            assert!(range.end <= consumed && consumed > 0 && consumed <= rest.len());
                            let _ = session.decode(&rest[range], Arrival { wall_ms: 0 });
                            rest = &rest[consumed..];
                        }
                        Split::Rubbish { consumed, .. } => {
                            assert!(consumed > 0 && consumed <= rest.len());
                            rest = &rest[consumed..];
                        }
                        Split::Incomplete => break,
                    }
                }
                assert!(rest.len() < protocol.message_bytes_max());
                session.flush();
            }
        }
    }
}
