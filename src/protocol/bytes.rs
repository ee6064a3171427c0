//! Reading binary messages: fields one after the other, big-endian unless stated, never past the end.

use std::borrow::Cow;

/// What is left of a message. A read past its end gives `None` and takes nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Bytes that are left.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A big-endian number; of more than eight bytes the first eight.
pub(super) fn number(bytes: &[u8]) -> u64 {
    // The usual widths are read at once.
    match *bytes {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
        _ => bytes
            .iter()
            .take(8)
            .fold(0, |number, &byte| number << 8 | u64::from(byte)),
    }
}

/// Names of a vendor's numbered values, `io_0` and on, for the numbers that most have: made once, as each report has
/// dozens.
static IO_NAMES: [[u8; 6]; 1000] = io_names();

const fn io_names() -> [[u8; 6]; 1000] {
    let mut names = [*b"io_000"; 1000];
    let mut id = 0;
    while id < 1000 {
        // Digits stand at the left; what is behind them is not used.
        let digits = [id / 100, id / 10 % 10, id % 10];
        let skipped = 3 - io_digits(id);
        let mut at = skipped;
        while at < 3 {
            names[id][3 + at - skipped] = b'0' + digits[at] as u8;
            at += 1;
        }
        id += 1;
    }
    names
}

const fn io_digits(id: usize) -> usize {
    match id {
        0..10 => 1,
        10..100 => 2,
        _ => 3,
    }
}

/// The name of a vendor's numbered value.
pub(super) fn io_name(id: u16) -> Cow<'static, str> {
    let name = IO_NAMES
        .get(usize::from(id))
        .and_then(|name| name.get(..3 + io_digits(usize::from(id))))
        .and_then(|name| std::str::from_utf8(name).ok());
    match name {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("io_{id}")),
    }
}

/// The start of a text without the space around it, or of the bytes as hex where they are no text.
pub(super) fn text_or_hex(bytes: &[u8], characters_max: usize) -> String {
    let bytes = bytes.trim_ascii();
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    match bytes.iter().all(is_text) {
        true => {
            let kept = &bytes[..bytes.len().min(characters_max)];
            String::from_utf8_lossy(kept).into_owned()
        }
        false => hex(&bytes[..bytes.len().min(characters_max / 2)]),
    }
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for &byte in bytes {
        text.push(char::from(digits[usize::from(byte >> 4)]));
        text.push(char::from(digits[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_and_what_is_none_becomes_hex() {
        assert_eq!(text_or_hex(b" OK\r\n", 128), "OK");
        assert_eq!(text_or_hex(b"abcdef", 4), "abcd");
        assert_eq!(text_or_hex(&[0xff, b'a', b'b'], 4), "ff61");
    }

    #[test]
    fn numbered_values_have_a_name_each() {
        for id in [0, 9, 10, 99, 100, 999, 1000, u16::MAX] {
            assert_eq!(io_name(id), format!("io_{id}"));
        }
    }

    #[test]
    fn a_read_past_the_end_takes_nothing() {
        let mut reader = Reader(&[1, 2, 3]);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.u16(), Some(0x0102));
        assert_eq!(reader.take(2), None);
        assert_eq!(
            (reader.len(), reader.u8(), reader.is_empty()),
            (1, Some(3), true)
        );
    }
}
