//! The list of devices that an operator knows: a text file, an id a line, read as a whole or not at all (pure).
//!
//! `#` begins a comment, `abc*` stands for every id that begins with `abc`. A list of a million ids takes some 20 bytes
//! for each.

use std::fmt;

use crate::frame::DeviceId;

/// Most bytes of a list.
pub const LIST_BYTES_MAX: usize = 16 << 20;

/// Most ids of a list.
pub const LIST_IDS_MAX: usize = 1_000_000;

/// Characters of a wrong line that are repeated to the operator.
const QUOTED_CHARS_MAX: usize = 40;

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceListError {
    /// In which line, from 1, if it has one.
    pub line: Option<usize>,
    /// What, and what would be right.
    pub reason: String,
}

impl fmt::Display for DeviceListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// The devices of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceList {
    ids: Words,
    beginnings: Words,
}

impl DeviceList {
    /// Reads a whole list.
    ///
    /// # Errors
    /// The first line that is not an id, or which limit it exceeds.
    pub fn parse(text: &[u8]) -> Result<DeviceList, DeviceListError> {
        let (mut ids, mut beginnings) = (Vec::new(), Vec::new());
        let too_large = |reason| DeviceListError { line: None, reason };
        if text.len() > LIST_BYTES_MAX {
            return Err(too_large(format!(
                "it has more than {LIST_BYTES_MAX} bytes"
            )));
        }
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let content = line.split(|&byte| byte == b'#').next().unwrap_or_default();
            let content = content.trim_ascii();
            let (word, kind) = match content.strip_suffix(b"*") {
                _ if content.is_empty() => continue,
                Some(beginning) => (beginning, &mut beginnings),
                None => (content, &mut ids),
            };
            if DeviceId::new(word).is_none() {
                return Err(DeviceListError {
                    line: Some(number + 1),
                    reason: format!(
                        "{:?} is not a device id: 1 to 31 of A-Z a-z 0-9 . _ : -, and a * at its end for all that \
                         begin so",
                        quoted(content)
                    ),
                });
            }
            kind.push(word);
            if ids.len() + beginnings.len() > LIST_IDS_MAX {
                return Err(too_large(format!("it has more than {LIST_IDS_MAX} ids")));
            }
        }
        Ok(DeviceList {
            ids: Words::of(ids),
            beginnings: Words::of(beginnings),
        })
    }

    /// Whether a device is on the list.
    pub fn knows(&self, device: &DeviceId) -> bool {
        let id = device.as_bytes();
        let begins = |length| self.beginnings.contains(&id[..length]);
        self.ids.contains(id) || !self.beginnings.is_empty() && (1..=id.len()).any(begins)
    }

    /// Ids and beginnings of ids, each counted once.
    pub fn len(&self) -> usize {
        self.ids.len() + self.beginnings.len()
    }

    /// Whether nobody is on the list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The start of a line, without what could harm a terminal once it is quoted.
fn quoted(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

/// Words in order, one after the other in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Words {
    text: Box<[u8]>,
    ends: Box<[u32]>,
}

impl Words {
    fn of(mut words: Vec<&[u8]>) -> Words {
        words.sort_unstable();
        words.dedup();
        let ends = words.iter().scan(0, |end, word| {
            *end += word.len() as u32;
            Some(*end)
        });
        Words {
            ends: ends.collect(),
            text: words.concat().into(),
        }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn word(&self, at: usize) -> &[u8] {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin as usize..self.ends[at] as usize]
    }

    fn contains(&self, word: &[u8]) -> bool {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.word(middle).cmp(word) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(list: &str, id: &str) -> bool {
        let list = DeviceList::parse(list.as_bytes()).unwrap();
        list.knows(&DeviceId::new(id.as_bytes()).unwrap())
    }

    #[test]
    fn ids_and_beginnings_are_known_and_comments_are_not() {
        let list = "# the depot\n356307042441013\r\n\n  truck-7 # leased\n8612*\n";
        for id in ["356307042441013", "truck-7", "8612", "861230043907626"] {
            assert!(knows(list, id), "{id}");
        }
        for id in [
            "35630704244101",
            "3563070424410130",
            "truck",
            "861",
            "leased",
            "86",
        ] {
            assert!(!knows(list, id), "{id}");
        }
        assert!(!knows("", "1") && !knows("#1\n", "1"));
    }

    #[test]
    fn a_wrong_line_refuses_the_whole_list_and_is_quoted_cut_and_harmless() {
        for (line, wrong) in [
            ("a b", "a b"),
            ("*", "*"),
            ("a*b", "a*b"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            (
                "12345678901234567890123456789012",
                "12345678901234567890123456789012",
            ),
        ] {
            let error = DeviceList::parse(format!("1\n2\n{line}\n").as_bytes()).unwrap_err();
            assert_eq!(error.line, Some(3));
            let quoted = format!("\"{wrong}\" is not a device id");
            assert!(error.reason.starts_with(&quoted), "{}", error.reason);
        }
        let long = DeviceList::parse("x ".repeat(500).as_bytes()).unwrap_err();
        assert!(long.reason.len() < 200, "{}", long.reason);
    }

    #[test]
    fn a_list_has_limits_of_bytes_and_ids() {
        let mut many: String = (0..LIST_IDS_MAX).map(|id| format!("{id}\n")).collect();
        let list = DeviceList::parse(many.as_bytes()).unwrap();
        assert_eq!(list.len(), LIST_IDS_MAX);
        for id in ["0", "1", "77", "999999"] {
            assert!(list.knows(&DeviceId::new(id.as_bytes()).unwrap()));
        }
        many += "x\n";
        let error = DeviceList::parse(many.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 1000000 ids");
        let error = DeviceList::parse(&vec![b'\n'; LIST_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 16777216 bytes");
    }

    proptest::proptest! {
        #[test]
        fn exactly_those_are_known_that_the_list_names(
            ids in proptest::collection::vec("[a-c]{1,4}", 0..20),
            beginnings in proptest::collection::vec("[a-c]{1,3}", 0..3),
            asked in "[a-c]{1,5}",
        ) {
            let lines = ids.iter().cloned();
            let lines = lines.chain(beginnings.iter().map(|beginning| format!("{beginning}*")));
            let list: String = lines.map(|line| line + "\n").collect();
            let expected = ids.contains(&asked) || beginnings.iter().any(|b| asked.starts_with(b.as_str()));
            assert_eq!(knows(&list, &asked), expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = DeviceList::parse(&bytes);
        }
    }
}
