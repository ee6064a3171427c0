//! A body in chunks (RFC 9112, 7.1), each with its length before it.

use httparse::{Status, parse_chunk_size};

/// Most chunks of a body. It is looked for its end again whenever more of it arrives.
const CHUNKS_MAX: usize = 1_024;

/// Where a body in chunks ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After so many bytes.
    At(usize),
    /// Further on.
    Missing,
    /// Nowhere: these are no chunks, or too many.
    Never,
}

/// Goes through the chunks that `coded` begins with, and gives the bytes of each.
pub(super) fn walk<'a>(coded: &'a [u8], mut each: impl FnMut(&'a [u8])) -> End {
    let mut at = 0;
    for _ in 0..CHUNKS_MAX {
        // `httparse` takes a line without a number for the last chunk.
        if coded.get(at).is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return End::Never;
        }
        // `httparse` reads on behind a line end without CR, where others may see a chunk.
        let line_end = memchr::memchr(b'\n', &coded[at..]).map(|len| at + len + 1);
        let (line, size) = match parse_chunk_size(&coded[at..line_end.unwrap_or(coded.len())]) {
            Ok(Status::Complete((line, size))) => (line, size),
            Ok(Status::Partial) if line_end.is_none() => return End::Missing,
            Ok(Status::Partial) | Err(_) => return End::Never,
        };
        at += line;
        if size == 0 {
            return trailer(&coded[at..]).map_or(End::Missing, |len| End::At(at + len));
        }
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| at.checked_add(size));
        let Some(end) = end.filter(|&end| end < coded.len()) else {
            return End::Missing;
        };
        match coded[end..] {
            [b'\r', b'\n', ..] => each(&coded[at..end]),
            [b'\r'] => return End::Missing,
            _ => return End::Never,
        }
        at = end + 2;
    }
    End::Never
}

/// Bytes of the fields after the last chunk, with the empty line that ends them. What they say is passed over.
fn trailer(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let len = memchr::memchr(b'\n', &bytes[at..])?;
        let line = &bytes[at..at + len];
        at += len + 1;
        if matches!(line, b"" | b"\r") {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(coded: &[u8]) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        let end = walk(coded, |chunk| body.extend_from_slice(chunk));
        (body, end)
    }

    #[test]
    fn chunks_are_joined_and_end_behind_the_trailer() {
        let coded = b"4\r\nWiki\r\n7;name=value\r\npedia i\r\nB\r\nn \r\nchunks.\r\n0\r\nExpires: never\r\n\r\nGET /";
        let len = coded.len() - 5;
        assert_eq!(
            joined(coded),
            (b"Wikipedia in \r\nchunks.".to_vec(), End::At(len))
        );
        for cut in 0..len {
            assert_eq!(joined(&coded[..cut]).1, End::Missing, "cut at {cut}");
        }
    }

    #[test]
    fn what_are_no_chunks_or_too_many_have_no_end() {
        for coded in [
            &b"x\r\n"[..],
            b"-1\r\n",
            b"4\r\nWikipedia",
            b"11111111111111111\r\n",
            b"\r\n",
            b"4;x\nWiki\r\n0\r\n\r\n",
        ] {
            assert_eq!(joined(coded).1, End::Never, "{coded:?}");
        }
        let huge = joined(b"fffffffffffffff\r\nx").1;
        assert_eq!(huge, End::Missing, "more than there can be memory");
        assert_eq!(walk(&b"1\r\nx\r\n".repeat(CHUNKS_MAX), |_| ()), End::Never);
    }
}
