//! NMEA 0183: receivers on a line, in a log, or behind a modem that passes sentences on.
//!
//! This file holds the session: it cuts lines, refuses damaged ones and decides when a report goes out. A receiver says
//! what it knows about one moment, an *epoch*, in several sentences. A live session gives one report for each epoch, and
//! gives it early: it learns which sentence is the last of the receiver's cycle and does not wait for the next epoch.

mod epoch;
mod identity;
mod sentence;
mod standard;
mod vendor;

use self::epoch::{DateClock, Epoch};
use self::sentence::{COMMENT, Check, Line};
use self::standard::{Kind, Part};
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
        let mut dollars = 0;
        let comment = window.starts_with(COMMENT);
        let end = window.iter().position(|&b| {
            dollars += usize::from(b == b'$');
            is_line_end(b) || (dollars == 2 && !comment)
        });
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
                return Ok(self.message("identity", Vec::new()));
            }
            Line::Other(kind) => return Ok(self.message(kind, Vec::new())),
        };
        let around = sentence.stated_device();
        let sound = match sentence.check {
            Check::Good => true,
            Check::Absent => !self.checks && sentence.is_long_enough(),
            // A tracker that puts its id around a sentence may change the sentence too, and leave the check as it was.
            Check::Bad => around.is_some() && self.settings.device.is_none(),
        };
        let read = sentence.fields();
        if !sound && !self.settings.lenient {
            // Receivers mix in notes of their own without a check; they say nothing, so they may be damaged too.
            let note = sentence.check == Check::Absent && read.says_nothing();
            return if note {
                Ok(self.message(read.kind, Vec::new()))
            } else {
                Err(Reject::Checksum)
            };
        }
        self.checks |= sentence.check == Check::Good;
        self.stated = around.or(read.device).or(self.stated);
        let reports = match read.part {
            Some(part) => self.take(&part, now),
            None => Vec::new(),
        };
        let mut message = self.message(read.kind, reports);
        message.attributes = read.attributes;
        Ok(message)
    }

    fn flush(&mut self) -> Option<Message> {
        let report = self.close()?;
        Some(self.message("epoch", vec![report]))
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

    fn message(&self, kind: &'static str, reports: Vec<Report>) -> Message {
        Message {
            device: self.settings.device.or(self.stated),
            kind,
            reports,
            ..Message::default()
        }
    }

    /// Adds a sentence's part to its epoch and gives the reports that are ready.
    fn take(&mut self, part: &Part, now: Arrival) -> Vec<Report> {
        let mut reports = Vec::new();
        if self.mode == Mode::Message {
            self.clock.follow(&part.facts);
            self.epoch = Epoch::new(now.wall_ms);
            self.epoch.merge(part);
            reports.extend(self.report());
            return reports;
        }
        if self.epoch.is_over_before(part) {
            reports.extend(self.close());
        }
        if self.epoch.is_empty() {
            self.epoch = Epoch::new(now.wall_ms);
        }
        self.clock.follow(&part.facts);
        if self.epoch.merge(part) {
            let this = Some((part.kind, part.talker));
            self.epoch.last = this;
            if self.last_of_cycle == this {
                reports.extend(self.report());
            }
        }
        reports
    }

    /// Ends the epoch, gives its report if it is not out, and learns from it.
    fn close(&mut self) -> Option<Report> {
        let report = self.report();
        self.last_of_cycle = self.epoch.last.or(self.last_of_cycle);
        self.epoch = Epoch::default();
        report
    }

    fn report(&mut self) -> Option<Report> {
        if self.epoch.reported {
            return None;
        }
        let report = self.epoch.report(&self.clock, &self.settings);
        self.epoch.reported = report.is_some();
        report
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
