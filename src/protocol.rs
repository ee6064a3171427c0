//! Pure decoders: bytes of a device to fixes, alarms and answers.
//!
//! A [`Session`] is the state of one connection (or one recorded log). It cuts the unread bytes into messages and reads
//! each of them; it sees no socket and no clock, is total on any bytes, and a message that it refuses leaves its state
//! as it was. What a sender can make it hold is bounded by the limits that are named here and in the decoders.

mod auto;
mod bytes;
mod calendar;
mod check;
mod decoder;
mod fields;
mod gl200;
mod gps103;
mod gpsd;
mod gt06;
mod h02;
mod http;
mod json;
mod jt808;
mod lines;
mod meitrack;
mod message;
mod nmea;
mod osmand;
mod real;
mod reject;
mod ruptela;
mod teltonika;
#[cfg(test)]
mod testing;
mod text;
mod tk103;
mod ubx;

use serde::{Deserialize, Serialize};

pub use decoder::Split;
use decoder::{Decoder, Mode};
pub use message::{Message, Report};
pub use reject::Reject;

use crate::frame::{DeviceId, TimeSource};

macro_rules! protocols {
    ($($variant:ident $name:literal $bytes_max:expr; $doc:literal)*) => {
        /// What a sensor's bytes mean.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Protocol { $(#[doc = $doc] $variant,)* }

        impl Protocol {
            /// Every protocol.
            pub const ALL: &'static [Protocol] = &[$(Protocol::$variant,)*];

            /// The name in configuration, metrics and on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Protocol::$variant => $name,)* }
            }

            /// Bytes of the longest message as it stands on the wire. Who buffers for [`Session::split`] needs as
            /// many: with that many unread bytes it never answers [`Split::Incomplete`].
            pub const fn message_bytes_max(self) -> usize {
                match self { $(Protocol::$variant => $bytes_max,)* }
            }
        }
    };
}

protocols! {
    Jt808 "jt808" jt808::MESSAGE_BYTES_MAX; "JT/T 808, editions 2011, 2013 and 2019."
    Teltonika "teltonika" teltonika::MESSAGE_BYTES_MAX; "Teltonika codecs 8, 8 Extended and 16, over TCP or UDP."
    Gt06 "gt06" gt06::MESSAGE_BYTES_MAX; "GT06 (Concox, Jimi and many clones)."
    H02 "h02" h02::MESSAGE_BYTES_MAX; "H02, text and binary."
    Nmea "nmea" nmea::MESSAGE_BYTES_MAX; "NMEA 0183."
    Ubx "ubx" ubx::MESSAGE_BYTES_MAX; "u-blox UBX."
    Gpsd "gpsd" gpsd::MESSAGE_BYTES_MAX; "JSON of gpsd."
    Osmand "osmand" osmand::MESSAGE_BYTES_MAX; "OsmAnd and Traccar Client, over HTTP."
    Gl200 "gl200" gl200::MESSAGE_BYTES_MAX; "Queclink @Track, text and binary."
    Tk103 "tk103" tk103::MESSAGE_BYTES_MAX; "TK103."
    Gps103 "gps103" gps103::MESSAGE_BYTES_MAX; "GPS103 (Coban)."
    Meitrack "meitrack" meitrack::MESSAGE_BYTES_MAX; "Meitrack."
    Ruptela "ruptela" ruptela::MESSAGE_BYTES_MAX; "Ruptela."
    Json "json" json::MESSAGE_BYTES_MAX; "Lines of JSON in our own schema: what programs in any language write."
    Auto "auto" auto::MESSAGE_BYTES_MAX; "Whichever of the others the first bytes of a connection show."
}

impl Protocol {
    /// The protocol of that name.
    pub fn from_name(name: &str) -> Option<Protocol> {
        Protocol::ALL
            .iter()
            .copied()
            .find(|protocol| protocol.name() == name)
    }

    /// Whether messages do not say who sent them, so that the operator has to.
    pub fn is_anonymous(self) -> bool {
        matches!(self, Protocol::Nmea | Protocol::Ubx)
    }

    /// Whether what is known of one moment can come in several messages, so that silence ends it.
    pub fn has_epochs(self) -> bool {
        self.is_anonymous() || matches!(self, Protocol::Gpsd | Protocol::Auto)
    }

    /// Whether messages and answers are lines or words of text.
    pub fn is_text(self) -> bool {
        !matches!(
            self,
            Protocol::Jt808
                | Protocol::Teltonika
                | Protocol::Gt06
                | Protocol::Ubx
                | Protocol::Ruptela
        )
    }
}

/// What an operator states about a sensor's devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Offset of the devices' times from UTC, minutes, where it is known. Without it each protocol has its own rule:
    /// JT/T 808 is at +480, GT06 where its login says, the rest at UTC.
    pub zone_minutes: Option<i32>,
    /// Accept messages with a wrong checksum, and any authentication code.
    pub lenient: bool,
    /// NMEA 0183 and UBX, which name no sender, gpsd and JSON: who it is. Wins over what a stream says about itself.
    pub device: Option<DeviceId>,
    /// Secret of this node, from which authentication codes are derived.
    pub node_key: [u8; 16],
    /// The bytes are a recording: dates are never repaired or completed from the time of arrival.
    pub recorded: bool,
}

impl Settings {
    /// The time of a fix, with its source: as the device has it, or moved by the weeks that it lost.
    fn fix_time(&self, time_ms: i64, now: Arrival) -> (i64, TimeSource) {
        calendar::repair_rollover(time_ms, now.wall_ms, self.recorded)
    }

    /// States the time of a report: as sent, or the time of arrival.
    fn state_time(&self, report: &mut Report, sent_ms: Option<i64>, now: Arrival) {
        match sent_ms {
            Some(time_ms) => report.fix.set_time(self.fix_time(time_ms, now)),
            None if !self.recorded => {
                report.fix.set_time((now.wall_ms, TimeSource::Arrival));
            }
            None => {}
        }
    }
}

/// What the messages of a protocol come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// Nothing: the bytes are the messages.
    Bare,
    /// Bodies of HTTP requests. OsmAnd is at home in HTTP and has requests of its own.
    Http,
}

impl Envelope {
    /// As [`Protocol::message_bytes_max`], in this envelope.
    pub const fn message_bytes_max(self, protocol: Protocol) -> usize {
        match (self, protocol) {
            (Envelope::Bare, _) | (_, Protocol::Osmand) => protocol.message_bytes_max(),
            (Envelope::Http, _) => http::MESSAGE_BYTES_MAX,
        }
    }
}

/// When bytes arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Wall clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
}

/// State of one connection or one log.
pub struct Session(Box<dyn Decoder>);

impl Session {
    /// A session for a live stream: one report for each epoch or report of the device.
    pub fn new(protocol: Protocol, settings: &Settings) -> Session {
        Session(open(protocol, settings, Mode::Epoch))
    }

    /// As [`Session::new`], where the messages come in an envelope.
    pub fn enveloped(envelope: Envelope, protocol: Protocol, settings: &Settings) -> Session {
        match (envelope, protocol) {
            (Envelope::Bare, _) | (_, Protocol::Osmand) => Session::new(protocol, settings),
            (Envelope::Http, _) => Session(Box::new(http::Session::new(protocol, settings))),
        }
    }

    /// A session that gives what a message holds with that message, although later ones may say more about the same
    /// moment.
    pub fn per_message(protocol: Protocol, settings: &Settings) -> Session {
        Session(open(protocol, settings, Mode::Message))
    }

    /// Cuts the next message off the unread `bytes`. It is called again with what is left after the consumed bytes
    /// until it answers [`Split::Incomplete`]; then with more.
    pub fn split(&mut self, bytes: &[u8]) -> Split {
        self.0.split(bytes)
    }

    /// Reads one message that [`Session::split`] cut.
    ///
    /// # Errors
    /// Why it is refused; the session is then as if it had never come.
    pub fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        self.0.decode(message, now)
    }

    /// Whether `left`, after which [`Session::split`] answered [`Split::Incomplete`], is the start of a message and not
    /// just what may stand between two.
    pub fn is_part(&self, left: &[u8]) -> bool {
        self.0.is_part(left)
    }

    /// Whether what comes next belongs to a message that was refused already: the rubbish that [`Session::split`] makes of
    /// it is no further fault.
    pub fn passes_over(&self) -> bool {
        self.0.passes_over()
    }

    /// Whether answers do not say what they answer: they have to go out in the order of the messages.
    pub fn answers_in_order(&self) -> bool {
        self.0.answers_in_order()
    }

    /// Gives what is under construction, because the stream ended or fell silent: one message a call until there is
    /// none.
    pub fn flush(&mut self) -> Option<Message> {
        self.0.flush()
    }
}

fn open(protocol: Protocol, settings: &Settings, mode: Mode) -> Box<dyn Decoder> {
    match protocol {
        Protocol::Jt808 => Box::new(jt808::Session::new(settings)),
        Protocol::Teltonika => Box::new(teltonika::Session::new(settings)),
        Protocol::Gt06 => Box::new(gt06::Session::new(settings)),
        Protocol::H02 => Box::new(h02::Session::new(settings)),
        Protocol::Nmea => Box::new(nmea::Session::new(settings, mode)),
        Protocol::Ubx => Box::new(ubx::Session::new(settings, mode)),
        Protocol::Gpsd => Box::new(gpsd::Session::new(settings, mode)),
        Protocol::Osmand => Box::new(osmand::Session::new(settings)),
        Protocol::Gl200 => Box::new(gl200::Session::new(settings)),
        Protocol::Tk103 => Box::new(tk103::Session::new(settings)),
        Protocol::Gps103 => Box::new(gps103::Session::new(settings)),
        Protocol::Meitrack => Box::new(meitrack::Session::new(settings)),
        Protocol::Ruptela => Box::new(ruptela::Session::new(settings)),
        Protocol::Json => Box::new(json::Session::new(settings)),
        Protocol::Auto => Box::new(auto::Session::new(settings, mode)),
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
