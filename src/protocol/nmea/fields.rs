//! The fields of a sentence, one after the other.
//!
//! Commas are looked for eight bytes at a time: fields are so short that a search for each costs more than reading it.

use memchr::memchr;

use super::super::text;

/// Bytes that are searched at once.
const WINDOW_BYTES: usize = 64;

/// What is left of a sentence; after the last field all further ones are empty.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    /// The commas known of the rest: a bit for each of its next bytes.
    commas: u64,
}

impl<'a> Fields<'a> {
    pub(super) fn new(text: &'a [u8]) -> Fields<'a> {
        Fields {
            rest: text,
            commas: commas(text),
        }
    }

    #[inline]
    pub(super) fn next(&mut self) -> &'a [u8] {
        if self.commas == 0 {
            return self.next_beyond();
        }
        let comma = self.commas.trailing_zeros();
        self.commas = self.commas >> comma >> 1;
        self.cut(comma as usize)
    }

    /// The next field where no comma is known.
    fn next_beyond(&mut self) -> &'a [u8] {
        self.commas = commas(self.rest);
        if self.commas != 0 {
            return self.next();
        }
        match memchr(b',', self.rest) {
            Some(comma) => self.cut(comma),
            None => std::mem::take(&mut self.rest),
        }
    }

    /// The field before that comma.
    fn cut(&mut self, comma: usize) -> &'a [u8] {
        let (field, rest) = self.rest.split_at_checked(comma).unwrap_or_default();
        self.rest = rest.get(1..).unwrap_or_default();
        field
    }

    /// Passes over `count` fields.
    pub(super) fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    /// The next field that is not empty, or `None` after the last one.
    pub(super) fn next_stated(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let field = self.next();
            if !field.is_empty() {
                return Some(field);
            }
        }
        None
    }

    /// Latitude and hemisphere, longitude and hemisphere.
    #[inline]
    pub(super) fn place(&mut self) -> Option<(i32, i32)> {
        let lat = text::degrees_e7(self.next(), self.next(), 90);
        let lon = text::degrees_e7(self.next(), self.next(), 180);
        lat.zip(lon)
    }
}

/// A bit for each of the first bytes that is a comma.
fn commas(text: &[u8]) -> u64 {
    let (words, rest) = text[..text.len().min(WINDOW_BYTES)].as_chunks();
    let mut mask = 0;
    for (at, word) in words.iter().enumerate() {
        mask |= commas_of(u64::from_le_bytes(*word)) << (8 * at);
    }
    for (at, &byte) in rest.iter().enumerate() {
        mask |= u64::from(byte == b',') << (8 * words.len() + at);
    }
    mask
}

/// A bit for each byte that is a comma, the first byte's lowest.
fn commas_of(word: u64) -> u64 {
    const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // A byte is 0 where a comma was.
    let word = word ^ 0x2c2c_2c2c_2c2c_2c2c;
    // The top bit of each byte that is 0; no byte carries into the next.
    let zeros = !(((word & LOW_SEVEN) + LOW_SEVEN) | word | LOW_SEVEN);
    // Moves the top bits of all bytes together into the lowest byte. A multiplication would do it too, but vectors of
    // the oldest processors have none.
    let pairs = zeros >> 7 | zeros >> 14;
    let fours = pairs | pairs >> 14;
    (fours | fours >> 28) & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_at_each_comma_wherever_it_stands() {
        for len in 0..200 {
            let text: Vec<u8> = (0..len)
                .map(|at: usize| {
                    if at * at % 7 == 2 || at % 67 == 66 {
                        b','
                    } else {
                        b'-' - (at % 3) as u8
                    }
                })
                .collect();
            let mut fields = Fields::new(&text);
            for expected in text.split(|&byte| byte == b',') {
                assert_eq!(fields.next(), expected, "of {len} bytes");
            }
            assert!(fields.next_stated().is_none() && fields.next().is_empty());
        }
    }

    #[test]
    fn a_field_may_be_longer_than_what_is_searched_at_once() {
        let text = [&[b'1'; 150][..], b",2"].concat();
        let mut fields = Fields::new(&text);
        assert_eq!((fields.next().len(), fields.next()), (150, &b"2"[..]));
    }

    #[test]
    fn only_commas_are_commas() {
        for byte in 0..=255 {
            let found = commas_of(u64::from_le_bytes([byte; 8]));
            assert_eq!(found, if byte == b',' { 0xff } else { 0 });
        }
        for at in 0..8 {
            let mut word = [0xac; 8];
            word[at] = b',';
            assert_eq!(commas_of(u64::from_le_bytes(word)), 1 << at);
        }
    }
}
