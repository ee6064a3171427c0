//! One line: what it is, and whether its check holds.

use memchr::memchr;

use super::super::{Reject, check};
use super::fields::Fields;
use super::identity::{identity, stated_around};
use super::standard::{self, Read};
use crate::frame::DeviceId;

/// Starts a comment in a recorded log, and vendors' messages that are not sentences.
pub(super) const COMMENT: &[u8] = b"#";

/// Starts a tracker's report in the form of a sentence without a dollar.
const BARE: &[u8] = b"QZE,";

/// How an object of gpsd begins, which sends some of its own before and between the sentences that it passes on.
const GPSD: &[u8] = b"{\"class\":\"";

/// What a line is.
pub(super) enum Line<'a> {
    /// A sentence of `$`.
    Sentence(Sentence<'a>),
    /// A device id and nothing else.
    Identity(DeviceId),
    /// Something known that says nothing about a position.
    Other(&'static str),
}

/// Whether a sentence is as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The check matches.
    Good,
    /// There is none.
    Absent,
    /// The check does not match.
    Bad,
}

/// A line with a sentence in it.
pub(super) struct Sentence<'a> {
    /// What stands before the `$`.
    before: &'a [u8],
    /// What the check covers: address and fields, with the commas between them.
    said: &'a [u8],
    pub(super) check: Check,
    /// What stands behind the check.
    after: &'a [u8],
}

/// Shortest address of a sentence: some trackers have one of two letters.
const ADDRESS_BYTES_MIN: usize = 2;

impl<'a> Line<'a> {
    /// Takes a line apart. Fails where it holds no sentence and is nothing else that is known.
    pub(super) fn read(line: &'a [u8]) -> Result<Line<'a>, Reject> {
        let line = after_tag_block(line.trim_ascii());
        if line.starts_with(COMMENT) {
            return Ok(Line::Other("comment"));
        }
        if line.starts_with(GPSD) {
            return Ok(Line::Other("gpsd"));
        }
        if line.starts_with(BARE) {
            return Ok(Line::Sentence(Sentence::cut(&[], line)));
        }
        let start = match line.first() {
            Some(b'$') => Some(0),
            _ => memchr(b'$', line),
        };
        if let Some(device) = named(line) {
            return Ok(Line::Identity(device));
        }
        if let Some(start) = start {
            let sentence = Sentence::cut(&line[..start], &line[start + 1..]);
            // Dollars and noise are no notes of a receiver: who sends them is not sound.
            let address = sentence.said.first_chunk::<ADDRESS_BYTES_MIN>();
            return match address.is_some_and(|begin| begin.iter().all(u8::is_ascii_alphanumeric)) {
                true => Ok(Line::Sentence(sentence)),
                false => Err(Reject::Rubbish),
            };
        }
        match line.first() {
            // AIS: other ships.
            Some(b'!') => Ok(Line::Other("encapsulated")),
            _ => identity(line).map(Line::Identity).ok_or(Reject::Rubbish),
        }
    }
}

/// A block between backslashes may stand before a sentence.
fn after_tag_block(line: &[u8]) -> &[u8] {
    let Some(block) = line.strip_prefix(b"\\") else {
        return line;
    };
    match block.iter().position(|&b| b == b'\\') {
        Some(end) => &block[end + 1..],
        None => line,
    }
}

/// The id in a line that is the word IMEI, one character, and digits.
fn named(line: &[u8]) -> Option<DeviceId> {
    let line = line.strip_prefix(b"$").unwrap_or(line);
    let (_, id) = line.strip_prefix(b"IMEI")?.split_first()?;
    identity(id)
}

impl<'a> Sentence<'a> {
    fn cut(before: &'a [u8], text: &'a [u8]) -> Sentence<'a> {
        let star = memchr(b'*', text).unwrap_or(text.len());
        let (said, rest) = text.split_at(star);
        let sum = check::xor(said);
        // One digit stands for itself: some receivers leave a leading zero out.
        let digits = rest
            .iter()
            .skip(1)
            .take(2)
            .take_while(|b| b.is_ascii_hexdigit());
        let (count, stated) = digits.fold((0, 0), |(count, stated), &digit| {
            let value = char::from(digit).to_digit(16).unwrap_or(0) as u8;
            (count + 1, stated << 4 | value)
        });
        let check = match rest {
            [] => Check::Absent,
            _ if count > 0 && stated == sum => Check::Good,
            _ => Check::Bad,
        };
        Sentence {
            before,
            said,
            check,
            after: rest.get(1 + count..).unwrap_or(&[]),
        }
    }

    /// The id that a tracker puts before a sentence or behind it.
    pub(super) fn stated_device(&self) -> Option<DeviceId> {
        stated_around(self.before, self.after)
    }

    /// Whether a sentence without a check has the fields that matter, so that it was not cut within them.
    pub(super) fn is_long_enough(&self) -> bool {
        let commas = self.said.iter().filter(|&&byte| byte == b',').count();
        match self.said.get(2..5) {
            Some(b"RMC" | b"GGA") => commas >= 10,
            Some(b"GNS") => commas >= 9,
            Some(b"GLL") => commas >= 6,
            _ => true,
        }
    }

    /// What the sentence says.
    pub(super) fn read(&self, read: &mut Read) {
        let mut fields = Fields::new(self.said);
        let address = fields.next();
        standard::read(address, &mut fields, read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(line: &[u8]) -> Sentence<'_> {
        match Line::read(line) {
            Ok(Line::Sentence(sentence)) => sentence,
            _ => panic!("no sentence"),
        }
    }

    #[test]
    fn the_check_covers_what_stands_between_dollar_and_star() {
        // The textbook sentence.
        let gga = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47";
        assert_eq!(sentence(gga).check, Check::Good);
        assert_eq!(sentence(&gga[..gga.len() - 3]).check, Check::Absent);
        assert_eq!(sentence(&gga[..gga.len() - 2]).check, Check::Bad);
        assert_eq!(sentence(b"$AB*3").check, Check::Good, "41 ^ 42 is 03");
        assert_eq!(sentence(b"$AB*03").check, Check::Good);
        assert_eq!(sentence(b"$AB*04").check, Check::Bad);
    }

    #[test]
    fn what_stands_around_a_sentence_is_kept_apart() {
        let sentence = sentence(b"\\s:station*55\\$AB,1,2*31,x");
        assert_eq!(
            (sentence.before, sentence.said, sentence.after),
            (&b""[..], &b"AB,1,2"[..], &b",x"[..])
        );
    }
}
