//! The envelope of a message: start, length, number, content, serial number, check, and the answers in the same form.
//!
//! A message is cut where its check fits; the stop bytes behind it are then passed over like any `CR LF` between
//! messages. So a message whose stop is damaged is read all the same, and it is read as soon as it is there.

use super::super::check::crc16_x25;
use super::super::{Reject, Split};
use super::{MESSAGE_BYTES_MAX, bare};

/// Start of a message with a length of one byte.
const SHORT: [u8; 2] = [0x78; 2];

/// Start of a message with a length of two bytes.
const LONG: [u8; 2] = [0x79; 2];

/// End of a message.
pub(super) const STOP: [u8; 2] = *b"\r\n";

/// Number, serial number and check: what the length counts beside the content.
const FIXED_BYTES: usize = 5;

/// Most that the length can state: start, length, stop and two bytes of doubt come on top.
const LENGTH_MAX: usize = MESSAGE_BYTES_MAX - 8;

/// A message, opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// It has a length of two bytes.
    pub(super) long: bool,
    /// The protocol number: what the message is.
    pub(super) number: u8,
    pub(super) content: &'a [u8],
    pub(super) serial: u16,
}

/// What is known of a way to end the message.
pub(super) enum End {
    /// Here, without the stop.
    At(usize),
    /// More bytes are needed.
    Unsure,
    Nowhere,
}

/// Cuts the next message. It reaches as far as its check fits, or to the stop where its length says.
pub(super) fn split(bytes: &[u8]) -> Split {
    let blank = bytes.iter().take_while(|byte| STOP.contains(byte)).count();
    let rest = &bytes[blank..];
    match find_start(rest) {
        Some(0) => {}
        Some(at) => return rubbish(blank + at, Reject::Rubbish),
        None if bytes.len() >= MESSAGE_BYTES_MAX => return rubbish(bytes.len(), Reject::Rubbish),
        // One byte may be the first of a start.
        None if rest.len() <= 1 && rest.iter().all(|&byte| is_start(byte)) => {
            return Split::Incomplete;
        }
        None => {
            let half = rest.last().is_some_and(|&byte| is_start(byte));
            return rubbish(bytes.len() - usize::from(half), Reject::Rubbish);
        }
    }
    match end(rest) {
        Ok(End::At(end)) => {
            let stop = rest[end..].iter().zip(STOP).take_while(|(a, b)| **a == *b);
            Split::Message {
                range: blank..blank + end,
                consumed: blank + end + stop.count(),
            }
        }
        // Only what stands before the message can be dropped to make room for it.
        Ok(End::Unsure) if bytes.len() >= MESSAGE_BYTES_MAX => rubbish(blank, Reject::Rubbish),
        Ok(End::Unsure) => Split::Incomplete,
        Ok(End::Nowhere) => skip_start(bytes, blank, Reject::Length),
        Err(reject) => skip_start(bytes, blank, reject),
    }
}

fn rubbish(consumed: usize, reason: Reject) -> Split {
    Split::Rubbish { consumed, reason }
}

/// Drops a start that began no message, and what follows it up to the next one.
fn skip_start(bytes: &[u8], at: usize, reason: Reject) -> Split {
    let after = at + 1;
    let next = find_start(&bytes[after..]).map(|next| after + next);
    let half = usize::from(bytes.last().is_some_and(|&byte| is_start(byte)));
    rubbish(next.unwrap_or((bytes.len() - half).max(after)), reason)
}

fn is_start(byte: u8) -> bool {
    byte == SHORT[0] || byte == LONG[0]
}

fn find_start(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(2)
        .position(|pair| pair == SHORT || pair == LONG)
}

/// Length of what stands before the number, and what the length states.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [0x78, _, length, ..] => Some((3, usize::from(length))),
        [0x79, _, high, low, ..] => Some((4, usize::from(u16::from_be_bytes([high, low])))),
        _ => None,
    }
}

/// Where the message ends. The possible ends are tried from the nearest, so that bytes that come later change nothing.
fn end(bytes: &[u8]) -> Result<End, Reject> {
    let Some((head, length)) = head(bytes) else {
        return Ok(End::Unsure);
    };
    if length > LENGTH_MAX {
        return Err(Reject::TooLong);
    }
    let bare = bare::end(bytes);
    let stated = head + length;
    let short_of_stated = matches!(bare, End::At(at) if at < stated);
    if length < FIXED_BYTES || short_of_stated {
        return Ok(bare);
    }
    for (at, ends) in [
        (stated, checked as fn(&[u8], usize) -> Option<bool>),
        (stated, stopped),
        // Some devices do not count the check.
        (stated + 2, checked),
    ] {
        match ends(bytes, at) {
            Some(true) => return Ok(End::At(at)),
            Some(false) => {}
            None => return Ok(End::Unsure),
        }
    }
    Ok(bare)
}

/// Whether a check that fits stands before `end`.
fn checked(bytes: &[u8], end: usize) -> Option<bool> {
    bytes.get(..end).map(is_checked)
}

/// Whether the stop stands at `end`.
fn stopped(bytes: &[u8], end: usize) -> Option<bool> {
    bytes.get(end..end + 2).map(|stop| stop == STOP)
}

fn is_checked(message: &[u8]) -> bool {
    match message.split_last_chunk() {
        Some((before, check)) if before.len() > 2 => {
            crc16_x25(&before[2..]) == u16::from_be_bytes(*check)
        }
        _ => false,
    }
}

/// Opens a message that was cut.
pub(super) fn open(message: &[u8], lenient: bool) -> Result<Packet<'_>, Reject> {
    let (head, length) = head(message).ok_or(Reject::Rubbish)?;
    let body = message.get(head..).ok_or(Reject::Length)?;
    if body.len() < FIXED_BYTES || (body.len() != length && body.len() != length + 2) {
        return Err(Reject::Length);
    }
    if !lenient && !is_checked(message) {
        return Err(Reject::Checksum);
    }
    let (number, rest) = body.split_first().ok_or(Reject::Length)?;
    let (content, &[high, low, _, _]) = rest.split_last_chunk().ok_or(Reject::Length)?;
    Ok(Packet {
        long: head == 4,
        number: *number,
        content,
        serial: u16::from_be_bytes([high, low]),
    })
}

/// Adds an answer.
pub(super) fn push_answer(out: &mut Vec<u8>, long: bool, number: u8, content: &[u8], serial: u16) {
    let start = out.len();
    out.reserve(content.len() + FIXED_BYTES + 6);
    let length = (content.len() + FIXED_BYTES) as u16;
    if long {
        out.extend(LONG);
        out.extend(length.to_be_bytes());
    } else {
        out.extend(SHORT);
        out.push(length as u8);
    }
    out.push(number);
    out.extend(content);
    out.extend(serial.to_be_bytes());
    let check = crc16_x25(&out[start + 2..]);
    out.extend(check.to_be_bytes());
    out.extend(STOP);
}
