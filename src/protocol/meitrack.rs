//! Meitrack.

use super::decoder::Decoder;
use super::{Arrival, Message, Reject, Settings, Split};

/// Longest message.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024;

/// State of one connection.
pub(super) struct Session {
    _settings: Settings,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            _settings: settings.clone(),
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        match bytes.len() {
            0 => Split::Incomplete,
            consumed => Split::Rubbish {
                consumed,
                reason: Reject::Rubbish,
            },
        }
    }

    fn decode(&mut self, _message: &[u8], _now: Arrival) -> Result<Message, Reject> {
        Err(Reject::Rubbish)
    }
}
