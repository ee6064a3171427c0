//! One stream of bytes, from a connection or a recorded log: cut into messages, read, and its errors counted.
//!
//! Pure. Bytes of a message that is not complete are kept here, never more than the longest message of the protocol
//! or what one read gave; while there are none, no memory is held for them.

use crate::protocol::{self, Arrival, Envelope, Message, Protocol, Reject, Settings, Split};

/// When bytes were read, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAt {
    /// Monotonic, nanoseconds.
    pub monotonic_ns: u64,
    /// Wall clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
}

/// What the next unread bytes gave.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// A message.
    Message {
        /// Bytes to drop.
        consumed: usize,
        /// What it says.
        message: Message,
    },
    /// Bytes that nothing can be made of.
    Refused {
        /// Bytes to drop.
        consumed: usize,
        /// Why.
        reason: Reject,
    },
    /// The start of a message, or nothing.
    Incomplete,
}

/// How the bytes of a sensor are read: what each of its sessions begins with.
#[derive(Clone, Debug)]
pub struct Decoding {
    /// What messages come in.
    pub envelope: Envelope,
    /// What they mean.
    pub protocol: Protocol,
    /// What devices do not say.
    pub settings: Settings,
}

impl Decoding {
    /// A stream that has just begun.
    pub fn session(&self) -> Session {
        Session::enveloped(self.envelope, self.protocol, &self.settings)
    }

    /// Bytes of the longest message, with its envelope.
    pub fn message_bytes_max(&self) -> usize {
        self.envelope.message_bytes_max(self.protocol)
    }
}

/// State of one stream.
pub struct Session {
    protocol: protocol::Session,
    kept: Vec<u8>,
    kept_at: ReadAt,
    errors_in_a_row: u32,
}

impl Session {
    /// A stream that has just begun, of bare messages.
    #[cfg(test)]
    pub fn new(protocol: Protocol, settings: &Settings) -> Session {
        Session::enveloped(Envelope::Bare, protocol, settings)
    }

    /// A stream that has just begun, of messages in an envelope.
    pub fn enveloped(envelope: Envelope, protocol: Protocol, settings: &Settings) -> Session {
        Session {
            protocol: protocol::Session::enveloped(envelope, protocol, settings),
            kept: Vec::new(),
            kept_at: ReadAt::default(),
            errors_in_a_row: 0,
        }
    }

    /// Reads the next message off `bytes`, which were read at `at`.
    pub fn next(&mut self, bytes: &[u8], at: ReadAt) -> Next {
        let passed_over = self.protocol.passes_over();
        let (range, consumed) = match self.protocol.split(bytes) {
            Split::Message { range, consumed } => (range, consumed),
            Split::Rubbish { consumed, reason } if passed_over => {
                return Next::Refused { consumed, reason };
            }
            Split::Rubbish { consumed, reason } => return self.refuse(consumed, reason),
            Split::Incomplete => return Next::Incomplete,
        };
        let arrival = Arrival {
            wall_ms: at.wall_ms,
        };
        match self.protocol.decode(&bytes[range], arrival) {
            Ok(message) => {
                // A sound message of a kind that is not read is no error: devices send pictures in a hundred parts.
                self.errors_in_a_row = 0;
                Next::Message { consumed, message }
            }
            Err(reason) => self.refuse(consumed, reason),
        }
    }

    /// Whether answers do not say what they answer: they have to go out in the order of the messages.
    pub fn answers_in_order(&self) -> bool {
        self.protocol.answers_in_order()
    }

    /// What is under construction, because the stream ended or fell silent.
    pub fn flush(&mut self) -> Option<Message> {
        self.protocol.flush()
    }

    /// Whether the start of a message is kept, of which the rest is missing if nothing more comes.
    pub fn is_within_message(&self) -> bool {
        self.protocol.is_part(&self.kept)
    }

    /// Whether `left`, after which nothing more will come, is the start of a message; an error if it is.
    pub fn is_cut_off(&mut self, left: &[u8]) -> bool {
        let cut_off = self.protocol.is_part(left);
        self.errors_in_a_row = self.errors_in_a_row.saturating_add(cut_off.into());
        cut_off
    }

    /// Messages refused since the last good one.
    pub fn errors_in_a_row(&self) -> u32 {
        self.errors_in_a_row
    }

    /// Keeps the bytes that are left.
    pub fn keep(&mut self, left: &[u8], at: ReadAt) {
        if left.is_empty() {
            self.kept = Vec::new();
        } else {
            self.kept.clear();
            self.kept.reserve_exact(left.len());
            self.kept.extend_from_slice(left);
            self.kept_at = at;
        }
    }

    /// Puts the bytes that were kept at the start of `buffer`, which holds them; says how many, and when the last of
    /// them was read.
    pub fn put_kept(&self, buffer: &mut [u8]) -> (usize, ReadAt) {
        buffer[..self.kept.len()].copy_from_slice(&self.kept);
        (self.kept.len(), self.kept_at)
    }

    fn refuse(&mut self, consumed: usize, reason: Reject) -> Next {
        self.errors_in_a_row = self.errors_in_a_row.saturating_add(1);
        Next::Refused { consumed, reason }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("kept", &self.kept.len())
            .field("errors_in_a_row", &self.errors_in_a_row)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three sentences of two moments, with their checks by the rule of NMEA 0183 (XOR between `$` and `*`).
    const LINES: &[u8] =
        b"$GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*57\r\n\
        rubbish\r\n\
        $GPRMC,083600.00,A,4717.11438,N,00833.91523,E,0.004,77.52,091202,,,A*56\r\n";

    /// Feeds pieces as a connection does, and collects what comes.
    fn fed(pieces: &[&[u8]]) -> (Vec<Message>, Vec<Reject>) {
        let mut session = Session::new(Protocol::Nmea, &Settings::default());
        let (mut messages, mut refused) = (Vec::new(), Vec::new());
        let mut buffer = [0; 4096];
        for piece in pieces {
            let (kept, _) = session.put_kept(&mut buffer);
            buffer[kept..kept + piece.len()].copy_from_slice(piece);
            let bytes = &buffer[..kept + piece.len()];
            let mut taken = 0;
            loop {
                match session.next(&bytes[taken..], ReadAt::default()) {
                    Next::Message { consumed, message } => {
                        messages.push(message);
                        taken += consumed;
                    }
                    Next::Refused { consumed, reason } => {
                        refused.push(reason);
                        taken += consumed;
                    }
                    Next::Incomplete => break,
                }
            }
            session.keep(&bytes[taken..], ReadAt::default());
        }
        messages.extend(session.flush());
        (messages, refused)
    }

    #[test]
    fn a_stream_split_at_any_byte_gives_the_same() {
        let whole = fed(&[LINES]);
        let reports = whole.0.iter().map(|message| message.reports.len());
        assert_eq!((reports.sum::<usize>(), whole.1.len()), (2, 1), "{whole:?}");
        for at in 0..=LINES.len() {
            let (head, tail) = LINES.split_at(at);
            assert_eq!(fed(&[head, tail]), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = LINES.chunks(1).collect();
        assert_eq!(fed(&single), whole);
    }

    #[test]
    fn nothing_is_held_for_a_stream_between_two_messages() {
        let mut session = Session::new(Protocol::Nmea, &Settings::default());
        session.keep(b"$GPRMC", ReadAt::default());
        assert_eq!(session.put_kept(&mut [0; 16]).0, 6);
        session.keep(b"", ReadAt::default());
        assert_eq!(session.kept.capacity(), 0);
    }
}
