//! A text message cut into its fields, without a copy: one pass, and a place on the stack for where they end.

use crate::protocol::calendar;

/// Most fields of a message; the longest known, fifteen positions with access points and bus data, has about 400.
pub(super) const FIELDS_MAX: usize = 640;

/// The fields of a message. One that is not there reads as empty, which in this protocol is "unknown" too.
pub(super) struct Fields<'a> {
    text: &'a [u8],
    /// Where each field ends: at its comma, or with the text.
    ends: [u16; FIELDS_MAX],
    count: usize,
}

impl<'a> Fields<'a> {
    /// Cuts `text`, which stands without its `$`; `None` if it has too many fields or bytes.
    pub(super) fn cut(text: &'a [u8]) -> Option<Fields<'a>> {
        let len = u16::try_from(text.len()).ok()?;
        let mut fields = Fields {
            text,
            ends: [0; FIELDS_MAX],
            count: 0,
        };
        for (at, &byte) in (0..len).zip(text) {
            if byte == b',' {
                *fields.ends.get_mut(fields.count)? = at;
                fields.count += 1;
            }
        }
        *fields.ends.get_mut(fields.count)? = len;
        fields.count += 1;
        Some(fields)
    }

    /// Count of fields, with the header.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// One field, empty if there is none.
    pub(super) fn get(&self, at: usize) -> &'a [u8] {
        if at >= self.count {
            return b"";
        }
        let start = match at {
            0 => 0,
            _ => usize::from(self.ends[at - 1]) + 1,
        };
        &self.text[start..usize::from(self.ends[at])]
    }

    /// Bytes of one field.
    pub(super) fn len(&self, at: usize) -> usize {
        self.get(at).len()
    }

    /// A whole number in decimal.
    pub(super) fn int(&self, at: usize) -> Option<i64> {
        let field = self.get(at);
        let (negative, digits) = match field.strip_prefix(b"-") {
            Some(digits) => (true, digits),
            None => (false, field),
        };
        if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let value = digits
            .iter()
            .fold(0, |value, &digit| value * 10 + i64::from(digit - b'0'));
        Some(if negative { -value } else { value })
    }

    /// A whole number in hex, up to eight digits.
    pub(super) fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.get(at);
        if digits.is_empty() || digits.len() > 8 {
            return None;
        }
        digits.iter().try_fold(0, |value, &digit| {
            Some(value << 4 | char::from(digit).to_digit(16)?)
        })
    }

    /// A percentage: up to three digits, no more than 100.
    pub(super) fn percent(&self, at: usize) -> Option<i64> {
        self.int(at)
            .filter(|value| (0..=100).contains(value) && self.len(at) <= 3)
    }

    /// Text of a short field, if it has any and it is printable ASCII.
    pub(super) fn text(&self, at: usize) -> Option<String> {
        let field = self.get(at);
        let printable = field.iter().all(|&b| b == b' ' || b.is_ascii_graphic());
        if field.is_empty() || field.len() > TEXT_BYTES_MAX || !printable {
            return None;
        }
        String::from_utf8(field.to_vec()).ok()
    }

    /// A time, `yyyymmddhhmmss`, milliseconds since 1970.
    pub(super) fn time_ms(&self, at: usize) -> Option<i64> {
        let digits: &[u8; 14] = self.get(at).try_into().ok()?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = |range: std::ops::Range<usize>| {
            digits[range]
                .iter()
                .fold(0, |value, &digit| value * 10 + i64::from(digit - b'0'))
        };
        let date = (number(0..4), number(4..6), number(6..8));
        let time = (number(8..10), number(10..12), number(12..14));
        calendar::time_ms(date, time)
    }
}

/// Longest text that is kept as an attribute.
const TEXT_BYTES_MAX: usize = 160;
