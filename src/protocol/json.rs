//! Lines of JSON: how a program in any language hands reports in.
//!
//! A line is one report, or a list of reports of one device, which is one message: all of it is taken, or nothing. Its
//! keys are those of `docs/schema/frame.schema.json` and no others, since a name that is misspelt would lose its value
//! without a word. A line that has an `id` is answered by a line that names it: `safe` when what it reports is kept,
//! `again` when there was no room, `refused` when it cannot be read. So custody reaches the program that wrote it.

mod answer;
mod object;
mod value;

use self::object::Reading;
use super::decoder::Decoder;
use super::lines::Lines;
use super::{Arrival, Message, Reject, Settings, Split};

/// Longest line.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Most reports of a line: more hardly fit into it, and all of them are in memory at a time.
const REPORTS_MAX: usize = 128;

/// Most attributes of a report.
const ATTRIBUTES_MAX: usize = 64;

/// Most attributes of all reports of a line.
const LINE_ATTRIBUTES_MAX: usize = 400;

/// State of one stream.
pub(super) struct Session {
    settings: Settings,
    lines: Lines,
}

impl Session {
    pub(super) fn new(settings: &Settings) -> Session {
        Session {
            settings: settings.clone(),
            lines: Lines::new(MESSAGE_BYTES_MAX),
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        self.lines.split(bytes)
    }

    fn is_part(&self, left: &[u8]) -> bool {
        Lines::is_part(left)
    }

    fn decode(&mut self, line: &[u8], now: Arrival) -> Result<Message, Reject> {
        let line = line.trim_ascii();
        if !matches!(line.first(), Some(b'{' | b'[')) {
            return Err(Reject::Rubbish);
        }
        match Reading::new(&self.settings, now).read(line) {
            Ok(message) => Ok(message),
            Err(refusal) => match object::id_of(line) {
                // It is told, so it is no rubbish: whoever can write an id can read a reason.
                Some(id) => Ok(Message {
                    refused: Some(refusal.reject),
                    answer_now: answer::refused(&id, &refusal.reason),
                    ..Message::new("refused", None)
                }),
                None => Err(refusal.reject),
            },
        }
    }
}

/// Says that something without a readable id is refused, where there is an answer to everything.
pub(super) fn refused(reject: Reject) -> Vec<u8> {
    answer::refused(&"null", &reject.to_string())
}

#[cfg(test)]
mod tests;
