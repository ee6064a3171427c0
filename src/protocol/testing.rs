//! Feeding decoders in tests, as a connection does.

use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Split};

/// Everything that a session makes of bytes that come in pieces.
pub(super) fn read(
    session: &mut impl Decoder,
    pieces: &[&[u8]],
    now: Arrival,
) -> Vec<Result<Message, Reject>> {
    let mut results = Vec::new();
    let mut unread = Vec::new();
    for piece in pieces {
        unread.extend_from_slice(piece);
        results.extend(drain(session, &mut unread, now));
    }
    results
}

/// Everything that a session makes of the unread bytes; what is no whole message is left in them.
pub(super) fn drain(
    session: &mut impl Decoder,
    unread: &mut Vec<u8>,
    now: Arrival,
) -> Vec<Result<Message, Reject>> {
    let mut results = Vec::new();
    loop {
        let consumed = match session.split(unread) {
            Split::Message { range, consumed } => {
                results.push(session.decode(&unread[range], now));
                consumed
            }
            Split::Rubbish { consumed, reason } => {
                results.push(Err(reason));
                consumed
            }
            Split::Incomplete => return results,
        };
        unread.drain(..consumed);
    }
}
