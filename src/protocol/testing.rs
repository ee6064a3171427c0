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
        loop {
            let consumed = match session.split(&unread) {
                Split::Message { range, consumed } => {
                    results.push(session.decode(&unread[range], now));
                    consumed
                }
                Split::Rubbish { consumed, reason } => {
                    results.push(Err(reason));
                    consumed
                }
                Split::Incomplete => break,
            };
            unread.drain(..consumed);
        }
    }
    results
}
