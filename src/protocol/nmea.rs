//! NMEA 0183: receivers on a line, in a log, or behind a modem that passes sentences on.
//!
//! This file holds the session: it cuts lines, refuses damaged ones and decides when a report goes out. A receiver says
//! what it knows about one moment, an *epoch*, in several sentences. A live session gives one report for each epoch, and
//! gives it early: it learns which sentence is the last of the receiver's cycle and does not wait for the next epoch.

mod epoch;
mod fields;
mod identity;
mod in_view;
mod sentence;
mod standard;
mod vendor;

use memchr::{memchr2, memchr3};

use self::epoch::{DateClock, Epoch};
use self::in_view::InView;
use self::sentence::{COMMENT, Check, Line};
use self::standard::{Kind, Part, Read};
use super::decoder::{Decoder, Mode};
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::DeviceId;

/// Longest line. The standard says 82 characters, receivers exceed it, some by hundreds.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024;

/// State of one stream.
pub(super) struct Session {
    settings: Settings,
    mode: Mode,
    /// Who the stream says it is.
    stated: Option<DeviceId>,
    /// The receiver puts checks on its sentences: one without is damaged.
    checks: bool,
    /// In a line that was too long.
    skipping: bool,
    clock: DateClock,
    epoch: Epoch,
    in_view: InView,
    /// The sentence that ended the last epoch, and so will end this one.
    last_of_cycle: Option<(Kind, [u8; 2])>,
}

impl Session {
    pub(super) fn new(settings: &Settings, mode: Mode) -> Session {
        Session {
            settings: settings.clone(),
            mode,
            stated: None,
            checks: false,
            skipping: false,
            clock: DateClock::default(),
            epoch: Epoch::default(),
            in_view: InView::default(),
            last_of_cycle: None,
        }
    }
}

impl Decoder for Session {
    /// A message ends with its line, or where the next sentence begins: a reset cuts sentences short.
    fn split(&mut self, bytes: &[u8]) -> Split {
        if self.skipping && !bytes.is_empty() {
            return self.skip(bytes);
        }
        let full = bytes.len() >= MESSAGE_BYTES_MAX;
        let Some(start) = bytes.iter().position(|&b| !is_line_end(b)) else {
            // Empty lines without end would fill the buffer of who waits for more.
            return if full {
                rubbish(bytes.len(), Reject::Rubbish)
            } else {
                Split::Incomplete
            };
        };
        let window = &bytes[start..bytes.len().min(start + MESSAGE_BYTES_MAX)];
        let end = if window.starts_with(COMMENT) {
            memchr2(b'\n', b'\r', window)
        } else {
            end_of_sentence(window)
        };
        match end {
            Some(len) => Split::Message {
                range: start..start + len,
                consumed: start + len + usize::from(is_line_end(window[len])),
            },
            None if window.len() == MESSAGE_BYTES_MAX => {
                self.skipping = true;
                rubbish(start + window.len(), Reject::TooLong)
            }
            None if full => rubbish(start, Reject::Rubbish),
            None => Split::Incomplete,
        }
    }

    /// Ends of lines alone belong to the message before.
    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|&byte| !is_line_end(byte))
    }

    fn decode(&mut self, line: &[u8], now: Arrival) -> Result<Message, Reject> {
        let sentence = match Line::read(line)? {
            Line::Sentence(sentence) => sentence,
            Line::Identity(device) => {
                self.stated = Some(device);
                return Ok(self.message("identity"));
            }
            Line::Other(kind) => return Ok(self.message(kind)),
        };
        let around = sentence.stated_device();
        let sound = match sentence.check {
            Check::Good => true,
            Check::Absent => !self.checks && sentence.is_long_enough(),
            // A tracker that puts its id around a sentence may change the sentence too, and leave the check as it was.
            Check::Bad => around.is_some() && self.settings.device.is_none(),
        };
        let mut read = Read::default();
        sentence.read(&mut read);
        if !sound && !self.settings.lenient {
            // Receivers mix in notes of their own without a check; they say nothing, so they may be damaged too.
            let note = sentence.check == Check::Absent && read.says_nothing();
            return if note {
                Ok(self.message(read.name))
            } else {
                Err(Reject::Checksum)
            };
        }
        self.checks |= sentence.check == Check::Good;
        let sender = read.sender.map(|sender| *sender).unwrap_or_default();
        if let Some(device) = around.or(sender.device) {
            self.stated = Some(device);
        }
        let mut message = self.message(read.name);
        message.attributes = sender.attributes;
        if let Some(count) = read.in_view {
            self.in_view.take(read.part.talker, count);
        }
        if read.part.kind != Kind::Other {
            self.take(&read.part, now, &mut message.reports);
        }
        Ok(message)
    }

    fn flush(&mut self) -> Option<Message> {
        let mut message = self.message("epoch");
        self.close(&mut message.reports);
        (!message.reports.is_empty()).then_some(message)
    }
}

impl Session {
    /// Passes over the rest of a line that was too long.
    fn skip(&mut self, bytes: &[u8]) -> Split {
        let end = bytes.iter().position(|&b| is_line_end(b) || b == b'$');
        self.skipping = end.is_none();
        match end {
            Some(0) => self.split(bytes),
            end => rubbish(end.unwrap_or(bytes.len()), Reject::TooLong),
        }
    }

    /// Who sends: the operator's word, or the stream's.
    fn device(&self) -> Option<DeviceId> {
        match self.settings.device {
            Some(device) => Some(device),
            None => self.stated,
        }
    }

    fn message(&self, kind: &'static str) -> Message {
        Message::new(kind, self.device())
    }

    /// Adds a sentence's part to its epoch and gives the reports that are ready.
    fn take(&mut self, part: &Part, now: Arrival, reports: &mut Vec<Report>) {
        if self.mode == Mode::Message {
            self.clock.follow(&part.facts);
            self.epoch = Epoch::new(part, now.wall_ms);
            self.report(reports);
            return;
        }
        if self.epoch.is_over_before(part) {
            self.close(reports);
        }
        self.clock.follow(&part.facts);
        let before = self.epoch.weight();
        if self.epoch.is_empty() {
            self.epoch = Epoch::new(part, now.wall_ms);
        } else {
            self.epoch.merge(part);
        }
        // A report waits for a sentence that brings something: not all that come last in a cycle do, and some come in
        // every fifth cycle only. RMC brings the date of its own epoch.
        if part.kind == Kind::Rmc || self.epoch.weight() > before {
            let this = Some((part.kind, part.talker));
            self.epoch.last = this;
            if self.last_of_cycle == this {
                self.report(reports);
            }
        }
    }

    /// Ends the epoch, gives its report if it is not out, and learns from it.
    fn close(&mut self, reports: &mut Vec<Report>) {
        self.report(reports);
        self.last_of_cycle = self.epoch.last.or(self.last_of_cycle);
        self.epoch = Epoch::default();
        self.in_view.end_epoch();
    }

    fn report(&mut self, reports: &mut Vec<Report>) {
        if !self.epoch.is_to_report() {
            return;
        }
        // Nearly always the only one: no room for more.
        reports.reserve_exact(1);
        reports.push(Report::default());
        if let Some(report) = reports.last_mut() {
            let in_view = self.in_view.total();
            self.epoch
                .write(&self.clock, in_view, &self.settings, report);
        }
        self.epoch.reported = true;
    }
}

/// Where the line ends or a second sentence begins.
fn end_of_sentence(line: &[u8]) -> Option<usize> {
    let next = |from: usize| {
        let found = memchr3(b'\n', b'\r', b'$', line.get(from..)?)?;
        Some(from + found)
    };
    let first = match line.first() {
        Some(b'$') => 0,
        _ => next(0)?,
    };
    if line[first] == b'$' {
        next(first + 1)
    } else {
        Some(first)
    }
}

fn rubbish(consumed: usize, reason: Reject) -> Split {
    Split::Rubbish { consumed, reason }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

#[cfg(test)]
mod tests;
