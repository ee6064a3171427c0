//! H02: small trackers of many vendors, text and packed decimal digits by turns.
//!
//! This file holds the session: it cuts messages and says what is answered. A text message has a start and an end. A
//! binary one has only a start, and no length: it has at least 32 bytes and ends where the next message begins, or with
//! the bytes that have arrived; bytes that come later and begin nothing are the rest of it. What it says stands in its
//! first bytes, so that how a network cuts it changes nothing.

mod binary;
mod cells;
mod place;
mod status;
mod text;

use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Settings, Split};
use crate::frame::{DeviceId, rfc3339_ms};

/// Longest message: a hundred stored positions in one text.
pub(super) const MESSAGE_BYTES_MAX: usize = 8192;

/// Longest binary message of any version, with room for access points.
const BINARY_BYTES_MAX: usize = 128;

/// State of one connection.
pub(super) struct Session {
    settings: Settings,
    /// Who spoke last, for messages that leave the id out.
    device: Option<DeviceId>,
    /// The last message was a binary one, of which the end may still come.
    tail: bool,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            device: None,
            tail: false,
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        let blank = bytes.iter().take_while(|&&b| is_line_end(b)).count();
        let rest = &bytes[blank..];
        let Some(skip) = (0..rest.len()).find(|&at| begins(&rest[at..]) != Begins::Nothing) else {
            let wait = rest.is_empty() || self.tail && rest.len() < BINARY_BYTES_MAX;
            return if wait && bytes.len() < MESSAGE_BYTES_MAX {
                Split::Incomplete
            } else {
                self.rubbish(bytes.len(), Reject::Rubbish)
            };
        };
        let start = blank + skip;
        if skip > 0 && !(self.tail && skip < BINARY_BYTES_MAX) {
            return self.rubbish(start, Reject::Rubbish);
        }
        let window = &bytes[start..bytes.len().min(start + MESSAGE_BYTES_MAX)];
        let end = match window[0] {
            b'*' => text_end(window),
            _ => binary_end(window),
        };
        match end {
            End::At(len) => {
                self.tail = window[0] != b'*';
                Split::Message {
                    range: start..start + len,
                    consumed: start + len,
                }
            }
            End::Never(len, reason) => self.rubbish(start + len, reason),
            // What stands before the start fills the buffer of who waits for more.
            End::Later if bytes.len() >= MESSAGE_BYTES_MAX => {
                self.rubbish(start.max(1), Reject::Rubbish)
            }
            End::Later => Split::Incomplete,
        }
    }

    /// Ends of lines and the rest of a binary message belong to what came before.
    fn is_part(&self, left: &[u8]) -> bool {
        let blank = left.iter().take_while(|&&b| is_line_end(b)).count();
        let rest = &left[blank..];
        match self.tail {
            true => (0..rest.len()).any(|at| begins(&rest[at..]) == Begins::Message),
            false => !rest.is_empty(),
        }
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let message = match message.first() {
            Some(b'*') => text::read(message, self.device, &self.settings, now)?,
            Some(b'$') => binary::read(message, &self.settings, now)?,
            // A form of which only the length is known.
            Some(b'X') => Message {
                refused: Some(Reject::UnknownKind),
                ..Message::new("unknown", self.device)
            },
            _ => return Err(Reject::Rubbish),
        };
        self.device = message.device;
        Ok(message)
    }
}

impl Session {
    fn rubbish(&mut self, consumed: usize, reason: Reject) -> Split {
        self.tail = false;
        Split::Rubbish { consumed, reason }
    }
}

/// Whether bytes begin a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    Nothing,
    /// As far as they go.
    Perhaps,
    Message,
}

/// A text message begins with a star, two letters of the maker and a comma; a binary one with its mark, an id and a
/// time in decimal digits.
fn begins(bytes: &[u8]) -> Begins {
    match bytes {
        [b'*', rest @ ..] => {
            let maker = &rest[..rest.len().min(2)];
            let comma = rest.get(2);
            match maker.iter().all(u8::is_ascii_alphanumeric) {
                true if comma == Some(&b',') => Begins::Message,
                true if comma.is_none() => Begins::Perhaps,
                _ => Begins::Nothing,
            }
        }
        [b'$' | b'X', rest @ ..] => binary::begins(rest),
        _ => Begins::Nothing,
    }
}

/// Where a message ends.
enum End {
    At(usize),
    /// With bytes that are not here.
    Later,
    /// These bytes are no message.
    Never(usize, Reject),
}

/// A text ends with `#`. Where another begins before, the end was lost.
fn text_end(window: &[u8]) -> End {
    for (at, &byte) in window.iter().enumerate().skip(1) {
        match byte {
            b'#' => return End::At(at + 1),
            b'*' if begins(&window[at..]) == Begins::Message => {
                return End::Never(at, Reject::Incomplete);
            }
            _ => {}
        }
    }
    match window.len() {
        MESSAGE_BYTES_MAX => End::Never(window.len(), Reject::TooLong),
        _ => End::Later,
    }
}

/// What may be the next start ends a message too: if it is none, it will be passed over as the rest of this one.
fn binary_end(window: &[u8]) -> End {
    let arrived = window.len();
    if arrived < binary::BYTES_MIN {
        return End::Later;
    }
    let next = (binary::BYTES_MIN..arrived.min(BINARY_BYTES_MAX))
        .find(|&at| begins(&window[at..]) != Begins::Nothing);
    match next {
        Some(next) => End::At(next),
        None if arrived < BINARY_BYTES_MAX => End::At(arrived),
        None => End::At(binary::BYTES_MIN),
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// `yyyymmddhhmmss`, UTC.
fn utc_digits(wall_ms: i64) -> [u8; 14] {
    let text = rfc3339_ms(wall_ms);
    let digits = text.as_bytes();
    [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18].map(|at| digits[at])
}

#[cfg(test)]
mod tests;
