//! What every decoder does: cut the next message off a stream, and read it.

use std::ops::Range;

use super::{Arrival, Message, Reject};

/// What the next unread bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// A message to pass to [`super::Session::decode`].
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

/// What a report is made of, where a device spreads what it knows about one moment over several messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// All that is said about one moment.
    Epoch,
    /// One message that holds a position.
    Message,
}

/// The state of one stream in one protocol.
///
/// Total on any bytes; what it holds has a limit that the sender cannot move; what it refuses leaves it as it was.
pub(super) trait Decoder {
    /// Cuts the next message off the unread bytes. With as many as the protocol's longest message has, the answer is
    /// never [`Split::Incomplete`].
    fn split(&mut self, bytes: &[u8]) -> Split;

    /// Reads one message that [`Decoder::split`] cut.
    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject>;

    /// Whether `left`, of which nothing more can be cut, is the start of a message.
    fn is_part(&self, left: &[u8]) -> bool {
        !left.is_empty()
    }

    /// Whether what comes next belongs to a message that was refused already, and is no further fault.
    fn passes_over(&self) -> bool {
        false
    }

    /// Whether answers do not say what they answer, so that they have to go out in the order of the messages.
    fn answers_in_order(&self) -> bool {
        false
    }

    /// Gives what is under construction, one message a call until there is none.
    fn flush(&mut self) -> Option<Message> {
        None
    }
}
