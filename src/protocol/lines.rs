//! Lines of text: cut off a stream, however it arrives, and never longer than is allowed.

use super::{Reject, Split};

/// Where a stream of lines stands.
pub(super) struct Lines {
    bytes_max: usize,
    /// In a line that was too long.
    skipping: bool,
}

impl Lines {
    /// Lines of at most so many bytes without their end.
    pub(super) fn new(bytes_max: usize) -> Lines {
        Lines {
            bytes_max,
            skipping: false,
        }
    }

    /// Cuts the next line that is not empty off `bytes`. With `bytes_max` unread bytes it never waits for more.
    pub(super) fn split(&mut self, bytes: &[u8]) -> Split {
        if self.skipping && !bytes.is_empty() {
            return self.skip(bytes);
        }
        let start = bytes.iter().take_while(|&&byte| is_line_end(byte)).count();
        let window = &bytes[start..bytes.len().min(start + self.bytes_max)];
        match memchr::memchr2(b'\n', b'\r', window) {
            Some(len) => Split::Message {
                range: start..start + len,
                consumed: start + len + 1,
            },
            None if window.len() == self.bytes_max => {
                self.skipping = true;
                rubbish(start + window.len(), Reject::TooLong)
            }
            // Empty lines without end would fill the buffer of who waits for more.
            None if bytes.len() >= self.bytes_max => rubbish(start, Reject::Rubbish),
            None => Split::Incomplete,
        }
    }

    /// Whether what is left is the start of a line: ends of lines alone belong to the one before.
    pub(super) fn is_part(left: &[u8]) -> bool {
        left.iter().any(|&byte| !is_line_end(byte))
    }

    /// Passes over the rest of a line that was too long.
    fn skip(&mut self, bytes: &[u8]) -> Split {
        let end = memchr::memchr2(b'\n', b'\r', bytes);
        self.skipping = end.is_none();
        match end {
            Some(0) => self.split(bytes),
            end => rubbish(end.unwrap_or(bytes.len()), Reject::TooLong),
        }
    }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

fn rubbish(consumed: usize, reason: Reject) -> Split {
    Split::Rubbish { consumed, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_passed_over_to_its_end_however_it_arrives() {
        for piece_bytes in 1..40 {
            let mut lines = Lines::new(8);
            let (mut unread, mut found) = (Vec::new(), Vec::new());
            for piece in b"one\r\n\r\nmuch too long\ntwo\n12345678\nthree\n".chunks(piece_bytes) {
                unread.extend_from_slice(piece);
                loop {
                    match lines.split(&unread) {
                        Split::Message { range, consumed } => {
                            found.push(String::from_utf8_lossy(&unread[range]).into_owned());
                            unread.drain(..consumed);
                        }
                        Split::Rubbish { consumed, .. } => drop(unread.drain(..consumed)),
                        Split::Incomplete => break,
                    }
                    assert!(unread.len() < 64);
                }
            }
            assert_eq!(found, ["one", "two", "three"], "pieces of {piece_bytes}");
        }
    }
}
