//! What a program writes to its standard error, turned into lines for our log: cut out, cut short, made harmless, and no
//! more of them than somebody reads (pure).

/// Longest line that is said, bytes; the rest of it is left out.
pub const LINE_BYTES_MAX: usize = 512;

/// Most lines that are said within [`WINDOW_MS`]: room for what a program says when it falls over.
pub const LINES_MAX: u32 = 100;

/// How long [`LINES_MAX`] lines have to last, ms.
pub const WINDOW_MS: u64 = 10_000;

/// The lines of one program.
#[derive(Debug, Default)]
pub struct LogLines {
    /// The beginning of a line that has not ended.
    line: Vec<u8>,
    /// Whether more of it came than is kept.
    is_cut: bool,
    window_began_ms: u64,
    said: u32,
    left_out: u64,
}

impl LogLines {
    /// Takes bytes; each line that they end is said, and how many were not.
    pub fn put(&mut self, bytes: &[u8], now_ms: u64, say: &mut impl FnMut(&str)) {
        self.tick(now_ms, say);
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = LINE_BYTES_MAX - self.line.len();
            self.is_cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.line_ended(say);
            }
        }
    }

    /// Says what is due: how many lines were left out.
    pub fn tick(&mut self, now_ms: u64, say: &mut impl FnMut(&str)) {
        if now_ms.saturating_sub(self.window_began_ms) >= WINDOW_MS {
            self.say_left_out(say);
            self.window_began_ms = now_ms;
            self.said = 0;
        }
    }

    /// When [`LogLines::tick`] has something to say.
    pub fn due_ms(&self) -> Option<u64> {
        (self.left_out > 0).then_some(self.window_began_ms + WINDOW_MS)
    }

    /// No more comes: says the beginning of a line that has no end, too.
    pub fn end(&mut self, say: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.line_ended(say);
        }
        self.say_left_out(say);
    }

    fn line_ended(&mut self, say: &mut impl FnMut(&str)) {
        let is_cut = std::mem::take(&mut self.is_cut);
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if self.said < LINES_MAX {
            // An empty line says nothing.
            if !self.line.is_empty() {
                self.said += 1;
                say(&harmless(&self.line, is_cut));
            }
        } else {
            self.left_out += 1;
        }
        self.line.clear();
    }

    fn say_left_out(&mut self, say: &mut impl FnMut(&str)) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            say(&format!("({left_out} lines left out)"));
        }
    }
}

/// Text that cannot move a cursor or pretend to be another line.
fn harmless(line: &[u8], is_cut: bool) -> String {
    let mut text = String::with_capacity(line.len() + 4);
    for c in String::from_utf8_lossy(line).chars() {
        match c {
            '"' | '\'' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    if is_cut {
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pieces: &[(&[u8], u64)]) -> Vec<String> {
        let mut lines = LogLines::default();
        let mut said = Vec::new();
        let mut say = |line: &str| said.push(line.to_owned());
        for (bytes, now_ms) in pieces {
            lines.put(bytes, *now_ms, &mut say);
        }
        lines.end(&mut say);
        said
    }

    #[test]
    fn lines_come_out_whole_however_they_came_in_and_the_last_one_without_an_end() {
        let text = b"one\r\n\ntwo \xc3\xa9\nthree";
        let whole = said(&[(text, 0)]);
        assert_eq!(whole, ["one", "two \u{e9}", "three"]);
        let bytes: Vec<(&[u8], u64)> = text.chunks(1).map(|byte| (byte, 0)).collect();
        assert_eq!(said(&bytes), whole);
    }

    #[test]
    fn a_line_cannot_pretend_to_be_another_or_move_the_cursor() {
        let found = said(&[(b"a\x1b[2Jb\rERROR \xff\xe2\x80\xae \"x\" \\n\n", 0)]);
        assert_eq!(
            found,
            ["a\\u{1b}[2Jb\\rERROR \u{fffd}\\u{202e} \"x\" \\\\n"]
        );
    }

    #[test]
    fn a_line_that_never_ends_is_cut_and_holds_no_memory() {
        let mut lines = LogLines::default();
        let mut found = Vec::new();
        for _ in 0..1_000 {
            lines.put(&[b'x'; 4096], 0, &mut |line| found.push(line.to_owned()));
        }
        assert!(found.is_empty() && lines.line.capacity() <= 2 * LINE_BYTES_MAX);
        lines.put(b"\nnext\n", 0, &mut |line| found.push(line.to_owned()));
        let cut = format!("{} ...", "x".repeat(LINE_BYTES_MAX));
        assert_eq!(found, [cut.as_str(), "next"]);
    }

    #[test]
    fn a_flood_is_left_out_and_counted_until_the_next_window() {
        let mut lines = LogLines::default();
        let mut found = Vec::new();
        let mut say = |line: &str| found.push(line.to_owned());
        for _ in 0..1_000 {
            lines.put(b"again\n", 1, &mut say);
        }
        assert_eq!(lines.due_ms(), Some(WINDOW_MS));
        lines.tick(WINDOW_MS - 1, &mut say);
        lines.tick(WINDOW_MS, &mut say);
        assert_eq!(lines.due_ms(), None);
        lines.put(b"after\n", WINDOW_MS + 1, &mut say);
        let most = LINES_MAX as usize;
        assert_eq!(found.len(), most + 2);
        assert_eq!(found[most..], ["(900 lines left out)", "after"]);
    }
}
