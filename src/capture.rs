//! A recording of what a sensor's devices said and were answered, byte by byte, with the times of both clocks.
//!
//! A file is a [`Header`] and then records, each behind the file's own *mark*, with its length and CRC-32C. The mark is
//! random, so that nothing that a device sends can be taken for a record where the file is damaged. All of it is pure:
//! who opens, writes and reads files is elsewhere.

mod account;
mod buffer;
mod pace;
mod playback;
mod reader;

pub use account::Account;
pub use buffer::{BUFFER_BYTES_MAX, Buffer, Fill};
pub use pace::Pace;
pub use playback::{Playback, Played, Remark, STREAMS_MAX};
pub use reader::{Item, Reader};

use serde::{Deserialize, Serialize};

use crate::frame::DeviceId;
use crate::protocol::{Envelope, Protocol, Settings};

/// What a capture file begins with.
pub const MAGIC: [u8; 8] = *b"RINGCAP\n";

/// Version of header and records.
pub const VERSION: u32 = 1;

/// Bytes of one record's data; a longer read makes several records. No datagram is longer.
pub const DATA_BYTES_MAX: usize = 64 * 1024;

/// Bytes of all in a record that is not data.
const HEAD_BYTES_MAX: usize = 512;

/// Bytes of text, such as an address, in a record; longer ones are cut.
const TEXT_BYTES_MAX: usize = 200;

/// Bytes of a header behind its fixed part.
const HEADER_BYTES_MAX: usize = 4 * 1024;

/// Mark, length and checksum of a record.
const PREFIX_BYTES: usize = 16;

/// Magic, version, length, mark and checksum of a file.
const FIXED_BYTES: usize = 28;

/// Bytes of the longest record.
pub const RECORD_BYTES_MAX: usize = PREFIX_BYTES + HEAD_BYTES_MAX + DATA_BYTES_MAX;

/// What stands before each record of one file.
pub type Mark = [u8; 8];

/// Why something is not the start of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It begins otherwise.
    #[error("it is not a capture")]
    Magic,
    /// Another program wrote it.
    #[error("it is a capture of version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// Its first bytes are damaged, or missing.
    #[error("the header of the capture is damaged")]
    Damaged,
}

/// What a file says about all of its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Site and name of the node.
    pub node: (String, String),
    /// The sensor.
    pub sensor: String,
    /// Its input, as it is written in the configuration.
    pub input: String,
    /// Its protocol, as it is written in the configuration.
    pub protocol: String,
    /// Id of the device, where the protocol carries none.
    pub device: Option<String>,
    /// Offset of the devices' times from UTC, minutes, where it is not the protocol's own.
    pub zone_minutes: Option<i32>,
    /// Messages with a wrong checksum were accepted.
    pub lenient: bool,
    /// Unreadable messages in a row after which a stream was closed.
    pub errors_max: u32,
    /// What authentication codes are derived from; no secret.
    pub node_key: [u8; 16],
    /// Files of one recording have the same number here.
    pub series: u64,
    /// Place of the file in its recording, from 1 on.
    pub number: u32,
    /// When it was begun, milliseconds since 1970.
    pub created_ms: i64,
}

impl Header {
    /// The first bytes of a file.
    pub fn encode(&self, mark: Mark) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a header is plain data");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(mark);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &body);
        bytes.extend(sum.to_le_bytes());
        bytes.extend(body);
        bytes
    }

    /// Reads a header, its mark and its length; `None` while bytes are missing.
    ///
    /// # Errors
    /// When more bytes would not help.
    fn decode(bytes: &[u8]) -> Result<Option<(Header, Mark, usize)>, HeaderError> {
        let magic = bytes.len().min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] {
            return Err(HeaderError::Magic);
        }
        let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
            return Ok(None);
        };
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| fixed[at + n]));
        match word(8) {
            VERSION => {}
            other => return Err(HeaderError::Version(other)),
        }
        let length = word(12) as usize;
        if length > HEADER_BYTES_MAX {
            return Err(HeaderError::Damaged);
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let sum = crc32c::crc32c_append(crc32c::crc32c(&fixed[..FIXED_BYTES - 4]), body);
        if sum != word(FIXED_BYTES - 4) {
            return Err(HeaderError::Damaged);
        }
        let header = postcard::from_bytes(body).map_err(|_| HeaderError::Damaged)?;
        let mark = std::array::from_fn(|at| fixed[16 + at]);
        Ok(Some((header, mark, FIXED_BYTES + length)))
    }

    /// The protocol, if this program knows it.
    pub fn protocol(&self) -> Option<Protocol> {
        Protocol::from_name(&self.protocol)
    }

    /// How the sensor decoded. Times of arrival are known, so dates are repaired and completed as they were then.
    pub fn decoding(&self) -> Settings {
        let device = self.device.as_ref();
        Settings {
            zone_minutes: self.zone_minutes,
            lenient: self.lenient,
            device: device.and_then(|id| DeviceId::new(id.as_bytes())),
            node_key: self.node_key,
            recorded: false,
        }
    }

    /// What the messages came in.
    pub fn envelope(&self) -> Envelope {
        match &*self.input {
            "http" => Envelope::Http,
            _ => Envelope::Bare,
        }
    }

    /// Whether each record of bytes is one datagram.
    pub fn is_datagrams(&self) -> bool {
        self.input == "udp"
    }
}

/// When something happened, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// Wall clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
    /// Monotonic clock, nanoseconds.
    pub monotonic_ns: u64,
}

/// What happened. A *stream* is a connection, a source address of datagrams, or a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What<'a> {
    /// A process began to write to the file. Streams of another `life` are over.
    Begun {
        /// Which life of the sensor's process.
        life: u32,
    },
    /// A stream began.
    Opened {
        /// Which; never again in this life.
        stream: u64,
        /// Where it comes from.
        peer: &'a str,
    },
    /// A device sent the data.
    Bytes {
        /// Which stream.
        stream: u64,
    },
    /// The stream fell silent, or will say no more: what was known of a moment was taken.
    Quiet {
        /// Which stream.
        stream: u64,
    },
    /// A device was sent the data.
    Sent {
        /// Which stream.
        stream: u64,
    },
    /// A stream is over.
    Closed {
        /// Which.
        stream: u64,
        /// Why.
        why: &'a str,
    },
    /// The recording did not keep up: this much is missing here.
    Lost {
        /// Records.
        records: u64,
        /// Bytes of their data.
        bytes: u64,
    },
    /// The file ends in order.
    Ended,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When.
    pub at: At,
    /// What.
    pub what: What<'a>,
    /// Of [`What::Bytes`] and [`What::Sent`]: what was read or written.
    pub data: &'a [u8],
}

/// A record without its data.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    at: At,
    #[serde(borrow)]
    what: What<'a>,
}

impl Record<'_> {
    /// Appends the record to `out`. Data longer than [`DATA_BYTES_MAX`] has no place in one record.
    fn encode(&self, mark: Mark, out: &mut Vec<u8>) {
        assert!(self.data.len() <= DATA_BYTES_MAX, "data is cut before");
        let head = Head {
            at: self.at,
            what: self.what.cut(),
        };
        let mut space = [0; HEAD_BYTES_MAX];
        let head = postcard::to_slice(&head, &mut space).expect("texts are cut");
        let length = ((head.len() + self.data.len()) as u32).to_le_bytes();
        let sum = crc32c::crc32c(&length);
        let sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, head), self.data);
        out.reserve(PREFIX_BYTES + head.len() + self.data.len());
        out.extend_from_slice(&mark);
        out.extend_from_slice(&length);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(head);
        out.extend_from_slice(self.data);
    }

    fn decode(body: &[u8]) -> Option<Record<'_>> {
        let (head, data) = postcard::take_from_bytes::<Head<'_>>(body).ok()?;
        Some(Record {
            at: head.at,
            what: head.what,
            data,
        })
    }
}

impl<'a> What<'a> {
    /// With texts that fit.
    fn cut(self) -> What<'a> {
        let short = |text: &'a str| {
            let mut ends = (0..=TEXT_BYTES_MAX.min(text.len())).rev();
            let end = ends.find(|&end| text.is_char_boundary(end));
            &text[..end.unwrap_or_default()]
        };
        match self {
            What::Opened { stream, peer } => What::Opened {
                stream,
                peer: short(peer),
            },
            What::Closed { stream, why } => What::Closed {
                stream,
                why: short(why),
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const MARK: Mark = [0xd1, 2, 3, 4, 5, 6, 7, 8];

    pub fn header() -> Header {
        Header {
            node: ("depot".into(), "gw1".into()),
            sensor: "trackers".into(),
            input: "tcp".into(),
            protocol: "jt808".into(),
            device: None,
            zone_minutes: Some(120),
            lenient: false,
            errors_max: 16,
            node_key: [7; 16],
            series: 42,
            number: 1,
            created_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_and_not_before_all_of_it_is_there() {
        let bytes = header().encode(MARK);
        for length in 0..bytes.len() {
            assert_eq!(Header::decode(&bytes[..length]), Ok(None), "{length}");
        }
        let (read, mark, length) = Header::decode(&bytes).unwrap().unwrap();
        assert_eq!((read, mark, length), (header(), MARK, bytes.len()));
    }

    #[test]
    fn a_header_with_any_byte_changed_is_refused() {
        let good = header().encode(MARK);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            // A length that grew asks for bytes that are not there.
            assert!(!matches!(Header::decode(&bad), Ok(Some(_))), "byte {at}");
        }
    }

    /// The layout as docs/decisions/0027 states it, by hand.
    #[test]
    fn a_record_stands_in_the_file_as_documented() {
        let record = Record {
            at: At {
                wall_ms: 1,
                monotonic_ns: 300,
            },
            what: What::Bytes { stream: 5 },
            data: b"abc",
        };
        let mut bytes = Vec::new();
        record.encode(MARK, &mut bytes);
        // Wall clock 1 in zigzag, 300 as two groups of seven bits, the third variant, the stream, the data.
        let body = [2, 0xac, 0x02, 2, 5, b'a', b'b', b'c'];
        assert_eq!(bytes[..8], MARK);
        assert_eq!(bytes[8..12], [8, 0, 0, 0]);
        assert_eq!(bytes[16..], body);
        let sum = crc32c::crc32c(&[&bytes[8..12], &body].concat());
        assert_eq!(bytes[12..16], sum.to_le_bytes());
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_two_characters() {
        let long = "ü".repeat(TEXT_BYTES_MAX);
        let mut bytes = Vec::new();
        let record = Record {
            at: At::default(),
            what: What::Closed {
                stream: 1,
                why: &long,
            },
            data: &[],
        };
        record.encode(MARK, &mut bytes);
        let read = Record::decode(&bytes[PREFIX_BYTES..]).unwrap();
        let What::Closed { why, .. } = read.what else {
            panic!("{read:?}");
        };
        assert_eq!(why, "ü".repeat(TEXT_BYTES_MAX / 2));
    }
}
