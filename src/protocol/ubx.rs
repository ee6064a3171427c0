//! u-blox UBX: binary receivers, whose port often carries NMEA 0183 and RTCM 3 as well.
//!
//! This file holds the session: it cuts messages by their check, so that a damaged length or a sync within other data
//! costs no message behind it, and decides when a report goes out. NAV-PVT holds a whole epoch and is a report at once.
//! Older receivers spread an epoch over several messages of the same time of week; it ends where the last of their
//! cycle is in, with NAV-EOE, or with the next epoch.

mod navigation;

use crc::{CRC_24_LTE_A, Crc, Table};

use self::navigation::{Facts, Id, Part};
use super::decoder::{Decoder, Mode};
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::{AttributeKey, TimeSource};

/// Longest message that is waited for: raw measurements of 127 signals. What states more is no message, as to wait for
/// the end of a damaged one would hold up those behind it.
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;

/// Bytes before and behind the payload.
const HEAD_BYTES: usize = 6;
const CHECK_BYTES: usize = 2;

/// Bytes that the check takes at once: with 16 of them a weighted sum stays below 65,536.
const CHECK_BLOCK_BYTES: usize = 16;

/// Longest sentence of NMEA 0183 that is passed over as one.
const SENTENCE_BYTES_MAX: usize = 1024;

const SYNC: [u8; 2] = [0xb5, 0x62];
const RTCM: u8 = 0xd3;
const RTCM_HEAD_BYTES: usize = 3;
const RTCM_CHECK_BYTES: usize = 3;

/// CRC-24Q of RTCM 10403, which the catalogue of CRC algorithms names after LTE.
static CRC_24Q: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_24_LTE_A);

/// State of one stream.
pub(super) struct Session {
    settings: Settings,
    mode: Mode,
    /// The receiver sends NAV-PVT, so that nothing else is a report.
    complete: bool,
    epoch: Epoch,
    /// The message that ended the last epoch, and so will end this one.
    last_of_cycle: Option<Id>,
}

/// What the messages of one time of week say.
#[derive(Default)]
struct Epoch {
    tow_ms: Option<u32>,
    facts: Facts,
    arrival: Option<Arrival>,
    /// The last message that a report waits for.
    last: Option<Id>,
    /// The report is out.
    reported: bool,
}

impl Session {
    pub(super) fn new(settings: &Settings, mode: Mode) -> Session {
        Session {
            settings: settings.clone(),
            mode,
            complete: false,
            epoch: Epoch::default(),
            last_of_cycle: None,
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        let start = bytes.iter().take_while(|&&byte| is_line_end(byte)).count();
        let full = bytes.len() >= MESSAGE_BYTES_MAX;
        match self.cut(&bytes[start..]) {
            Cut::Message(len) => Split::Message {
                range: start..start + len,
                consumed: start + len,
            },
            Cut::Noise(len, reason) => Split::Rubbish {
                consumed: start + len,
                reason,
            },
            // Empty lines without end would fill the buffer of who waits for more.
            Cut::Wait if full => Split::Rubbish {
                consumed: start,
                reason: Reject::Rubbish,
            },
            Cut::Wait => Split::Incomplete,
        }
    }

    /// Ends of lines alone belong to the sentence before.
    fn is_part(&self, left: &[u8]) -> bool {
        left.iter().any(|&byte| !is_line_end(byte))
    }

    fn decode(&mut self, message: &[u8], now: Arrival) -> Result<Message, Reject> {
        let &[0xb5, 0x62, class, id, _, _, ref payload @ .., _, _] = message else {
            return match message.first() {
                Some(b'$' | b'!') => Ok(self.message("nmea")),
                Some(&RTCM) => Ok(self.message("rtcm")),
                _ => Err(Reject::Rubbish),
            };
        };
        let part = match Id::of(class, id) {
            Some(Id::Version) => return self.version(payload),
            Some(id) => navigation::read(id, payload).ok_or(Reject::Length)?,
            None => return Ok(self.message(class_name(class))),
        };
        let mut message = self.message(part.id.name());
        message.reports = self.take(&part, now);
        Ok(message)
    }

    fn flush(&mut self) -> Option<Message> {
        let report = self.close()?;
        let mut message = self.message("epoch");
        message.reports.push(report);
        Some(message)
    }
}

/// What unread bytes begin with.
enum Cut {
    /// A message of that length.
    Message(usize),
    /// So many bytes of none.
    Noise(usize, Reject),
    /// More bytes are needed.
    Wait,
}

impl Session {
    fn cut(&self, bytes: &[u8]) -> Cut {
        match bytes {
            [] => Cut::Wait,
            [0xb5, 0x62, ..] => self.ubx(bytes),
            [RTCM, ..] if begins(bytes) => self.rtcm(bytes),
            [b'$' | b'!', ..] if begins(bytes) => sentence(bytes),
            // Half a sync.
            [0xb5] => Cut::Wait,
            _ => noise(bytes, Reject::Rubbish),
        }
    }

    fn ubx(&self, bytes: &[u8]) -> Cut {
        let Some(&[_, _, class, id, low, high]) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Cut::Wait;
        };
        let payload_bytes = usize::from(u16::from_le_bytes([low, high]));
        let len = HEAD_BYTES + payload_bytes + CHECK_BYTES;
        let fits = Id::of(class, id).is_none_or(|id| id.has_length(payload_bytes));
        if len > MESSAGE_BYTES_MAX || !fits {
            return noise(bytes, Reject::Length);
        }
        let Some(message) = bytes.get(..len) else {
            return Cut::Wait;
        };
        let (said, stated) = message.split_at(len - CHECK_BYTES);
        if stated != check(&said[SYNC.len()..]) && !self.settings.lenient {
            return noise(bytes, Reject::Checksum);
        }
        Cut::Message(len)
    }

    fn rtcm(&self, bytes: &[u8]) -> Cut {
        let Some(&[_, high, low]) = bytes.first_chunk::<RTCM_HEAD_BYTES>() else {
            return Cut::Wait;
        };
        let body_bytes = usize::from(u16::from_be_bytes([high & 3, low]));
        let len = RTCM_HEAD_BYTES + body_bytes + RTCM_CHECK_BYTES;
        let Some(message) = bytes.get(..len) else {
            return Cut::Wait;
        };
        // The check of a message and its check is zero.
        match CRC_24Q.checksum(message) {
            0 => Cut::Message(len),
            _ => noise(bytes, Reject::Checksum),
        }
    }

    fn message(&self, kind: &'static str) -> Message {
        Message::new(kind, self.settings.device)
    }

    /// MON-VER: the receiver's program and its hardware, as text padded with zeros.
    fn version(&self, payload: &[u8]) -> Result<Message, Reject> {
        let (firmware, rest) = payload.split_at_checked(30).ok_or(Reject::Length)?;
        let hardware = rest.get(..10).ok_or(Reject::Length)?;
        let mut message = self.message("version");
        message.state(AttributeKey::Firmware, padded_text(firmware));
        message.state(AttributeKey::Hardware, padded_text(hardware));
        Ok(message)
    }

    /// Adds a message's part to its epoch and gives the reports that are ready.
    fn take(&mut self, part: &Part, now: Arrival) -> Vec<Report> {
        if self.mode == Mode::Message {
            return self.report(&part.facts, now).into_iter().collect();
        }
        let mut reports = Vec::new();
        let first = self.epoch.tow_ms != Some(part.tow_ms);
        if first {
            push(&mut reports, self.close());
            self.epoch.tow_ms = Some(part.tow_ms);
            self.epoch.arrival = Some(now);
        }
        if part.id == Id::Pvt {
            self.complete = true;
            self.epoch.reported = false;
            // It knows best; the others only add to it.
            let others = std::mem::replace(&mut self.epoch.facts, part.facts);
            if !first {
                self.epoch.facts.merge(&others);
            }
        } else if self.epoch.facts.merge(&part.facts) {
            self.epoch.last = Some(part.id);
        }
        let ended = match part.id {
            Id::Pvt | Id::EndOfEpoch => true,
            id => self.last_of_cycle == Some(id),
        };
        if ended && (part.id == Id::Pvt || !self.complete) {
            push(&mut reports, self.ready(now));
        }
        reports
    }

    /// Ends the epoch, gives its report if it is not out, and learns from it.
    fn close(&mut self) -> Option<Report> {
        let arrival = self.epoch.arrival?;
        let report = match self.complete {
            true => None,
            false => self.ready(arrival),
        };
        self.last_of_cycle = self.epoch.last.or(self.last_of_cycle);
        self.epoch = Epoch::default();
        report
    }

    fn ready(&mut self, now: Arrival) -> Option<Report> {
        if self.epoch.reported {
            return None;
        }
        let report = self.report(&self.epoch.facts, now);
        self.epoch.reported = report.is_some();
        report
    }

    /// The report, if the facts say where the receiver is, or when it was that it did not know.
    fn report(&self, facts: &Facts, now: Arrival) -> Option<Report> {
        let placed = facts.stated_place().is_some();
        let mut report = Report::default();
        match facts.time_ms {
            Some(time_ms) if placed || facts.is_lost() => {
                report.fix.set_time(self.settings.fix_time(time_ms, now));
            }
            None if placed && self.settings.recorded => {}
            None if placed => report.fix.set_time((now.wall_ms, TimeSource::Arrival)),
            _ => return None,
        }
        facts.state(&mut report);
        Some(report)
    }
}

/// Adds a report if there is one. There is rarely a second, so no room is made for it.
fn push(reports: &mut Vec<Report>, report: Option<Report>) {
    if let Some(report) = report {
        reports.reserve_exact(1);
        reports.push(report);
    }
}

/// The two bytes of the check over class to payload: sums of the bytes and of the sums (Fletcher, modulo 256). Those of
/// a block of bytes need no order among them, so that they are taken side by side; wider sums spare carries.
fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let (blocks, rest) = bytes.as_chunks::<CHECK_BLOCK_BYTES>();
    let sums = blocks.iter().fold((0_u16, 0_u16), |(a, b), block| {
        let (mut sum, mut weighted) = (0_u16, 0_u16);
        for (at, &byte) in block.iter().enumerate() {
            sum += u16::from(byte);
            weighted += (CHECK_BLOCK_BYTES - at) as u16 * u16::from(byte);
        }
        let before = a.wrapping_mul(CHECK_BLOCK_BYTES as u16);
        let b = b.wrapping_add(before).wrapping_add(weighted);
        (a.wrapping_add(sum), b)
    });
    let sums = rest.iter().fold(sums, |(a, b), &byte| {
        let a = a.wrapping_add(u16::from(byte));
        (a, b.wrapping_add(a))
    });
    [sums.0 as u8, sums.1 as u8]
}

/// A sentence ends with its line; a byte that is not printable means that it was cut short.
fn sentence(bytes: &[u8]) -> Cut {
    let window = &bytes[..bytes.len().min(SENTENCE_BYTES_MAX)];
    let end = window.iter().position(|byte| !matches!(byte, b' '..=b'~'));
    match end {
        Some(end) if is_line_end(window[end]) => Cut::Message(end),
        Some(end) => Cut::Noise(end, Reject::Rubbish),
        None if window.len() == SENTENCE_BYTES_MAX => noise(bytes, Reject::TooLong),
        None => Cut::Wait,
    }
}

/// Bytes up to where the next message may begin, at least one.
fn noise(bytes: &[u8], reason: Reject) -> Cut {
    let next = (1..bytes.len()).find(|&at| begins(&bytes[at..]));
    Cut::Noise(next.unwrap_or(bytes.len()), reason)
}

/// Whether a message may begin here, as far as the bytes go.
fn begins(bytes: &[u8]) -> bool {
    match *bytes {
        [0xb5] | [0xb5, 0x62, ..] => true,
        // Six bits after the preamble are zero.
        [RTCM, ref rest @ ..] => rest.first().is_none_or(|&byte| byte & 0xfc == 0),
        [b'$' | b'!', ref rest @ ..] => rest.first().is_none_or(u8::is_ascii_uppercase),
        _ => false,
    }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

fn padded_text(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|&byte| byte == 0).next()?.trim_ascii();
    let printable = !text.is_empty() && text.iter().all(|byte| matches!(byte, b' '..=b'~'));
    printable.then(|| String::from_utf8_lossy(text).into_owned())
}

/// Kinds of messages that are sound and not read, by their class.
fn class_name(class: u8) -> &'static str {
    match class {
        0x01 => "nav",
        0x02 => "rxm",
        0x04 => "inf",
        0x05 => "ack",
        0x06 => "cfg",
        0x0a => "mon",
        0x0d => "tim",
        0x10 => "esf",
        0x28 => "hnr",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
