//! Lists of known devices: copied whole when they are read, so that who edits a file changes nothing until it is read
//! again. What a list says is read by the ingest alone, which tells whether it is right; until then the one before
//! counts.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use super::listener::OpenError;
use super::sealed;
use crate::config::{LIST_BYTES_MAX, operator_file};
use crate::role::Devices;

/// Lists that wait for their ingest's judgement; of more, the oldest is forgotten.
const UNJUDGED_MAX: usize = 2;

/// Whether a judgement was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It was.
    Awaited,
    /// No more: the list was judged before, or is forgotten. Who is told twice of a new list reads it twice.
    Repeated,
    /// There never was such a list.
    Invented,
}

/// The lists of one sensor.
#[derive(Debug, Default)]
pub struct DeviceLists {
    /// Number of the one that was read last.
    number: u64,
    /// The last one that was right.
    right: Option<Devices>,
    /// Later ones, in the order in which they were read.
    unjudged: VecDeque<Devices>,
    /// What became of the one that was judged last.
    judged: Option<(u64, Result<u32, String>)>,
}

impl DeviceLists {
    /// Reads the list anew; returns its number.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&mut self, path: &str, who: &str) -> Result<u64, OpenError> {
        let list = copy(path).map_err(|cause| OpenError::File {
            path: path.into(),
            who: who.into(),
            cause,
        })?;
        self.number += 1;
        let number = self.number;
        if self.unjudged.len() == UNJUDGED_MAX {
            self.unjudged.pop_front();
        }
        self.unjudged.push_back(Devices { number, list });
        Ok(number)
    }

    /// An ingest says what became of a list. Those before it will not be judged any more.
    pub fn judged(&mut self, number: u64, outcome: Result<u32, String>) -> Judgement {
        if number > self.number {
            return Judgement::Invented;
        }
        let place = self.unjudged.iter().position(|list| list.number == number);
        let Some(devices) = place.and_then(|place| self.unjudged.drain(..=place).next_back())
        else {
            return Judgement::Repeated;
        };
        if outcome.is_ok() {
            self.right = Some(devices);
        }
        self.judged = Some((number, outcome));
        Judgement::Awaited
    }

    /// What became of a list, or of one that was read after it, once its ingest has said so.
    pub fn outcome(&self, number: u64) -> Option<Result<u32, String>> {
        let (judged, outcome) = self.judged.as_ref()?;
        (*judged >= number).then(|| outcome.clone())
    }

    /// What an ingest that starts is handed: the last list that was right, and those after it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn all(&self) -> io::Result<Vec<Devices>> {
        let all = self.right.iter().chain(&self.unjudged);
        all.map(Devices::try_clone).collect()
    }

    /// What an ingest that runs is handed: the newest, if it is to be judged.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn fresh(&self) -> io::Result<Option<Devices>> {
        self.unjudged.back().map(Devices::try_clone).transpose()
    }
}

/// A copy of a file in memory, of its first bytes if there are more than a list may have.
fn copy(path: &str) -> io::Result<OwnedFd> {
    let file = operator_file::open(path)?;
    sealed::copy("ringway-devices", file.take(LIST_BYTES_MAX as u64 + 1))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_list_counts_once_it_was_found_right_and_the_one_before_stays_if_it_was_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let mut lists = DeviceLists::default();
        let numbers = |lists: &DeviceLists| {
            lists
                .all()
                .unwrap()
                .iter()
                .map(|l| l.number)
                .collect::<Vec<_>>()
        };

        assert_eq!(lists.read(path, "t").unwrap(), 1);
        assert_eq!(lists.outcome(1), None);
        assert_eq!(lists.judged(1, Ok(0)), Judgement::Awaited);
        assert_eq!(lists.read(path, "t").unwrap(), 2);
        assert_eq!(numbers(&lists), [1, 2]);
        assert_eq!(lists.judged(1, Ok(9)), Judgement::Repeated);
        assert_eq!(lists.judged(3, Ok(9)), Judgement::Invented);
        assert_eq!(lists.judged(2, Err("line 1".into())), Judgement::Awaited);
        assert_eq!(lists.outcome(2), Some(Err("line 1".into())));
        assert_eq!(numbers(&lists), [1]);
        assert!(lists.fresh().unwrap().is_none());
    }

    /// HUP came twice: the first list was in force, but forgotten when the second was read. That one was wrong, and an
    /// ingest that started again had the list from before both; the log said of both that nobody had asked.
    #[test]
    fn a_list_that_is_read_before_the_one_before_was_judged_does_not_undo_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let mut lists = DeviceLists::default();
        assert_eq!(lists.read(path, "t").unwrap(), 1);
        assert_eq!(lists.read(path, "t").unwrap(), 2);
        assert_eq!(lists.judged(1, Ok(7)), Judgement::Awaited);
        assert_eq!(lists.judged(2, Err("line 1".into())), Judgement::Awaited);
        let all = lists.all().unwrap();
        assert_eq!(all.iter().map(|l| l.number).collect::<Vec<_>>(), [1]);
        for _ in 0..9 {
            lists.read(path, "t").unwrap();
        }
        assert_eq!(lists.all().unwrap().len(), 1 + UNJUDGED_MAX);
        assert_eq!(lists.judged(11, Ok(7)), Judgement::Awaited);
        assert_eq!(lists.outcome(4), Some(Ok(7)), "what was read later counts");
    }

    /// An ingest that was taken over could write its list, and so say for all its successors who is known, and fill the
    /// machine's memory with it.
    #[test]
    fn who_is_handed_a_list_can_neither_change_it_nor_make_it_larger() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "1\n").unwrap();
        let mut lists = DeviceLists::default();
        lists.read(file.path().to_str().unwrap(), "t").unwrap();
        let mut handed = std::fs::File::from(lists.fresh().unwrap().unwrap().list);
        assert!(handed.write_all(b"2\n").is_err());
        assert!(handed.set_len(1 << 30).is_err());
        let by_number = format!("/proc/self/fd/{}", handed.as_raw_fd());
        let anew = std::fs::OpenOptions::new().write(true).open(by_number);
        let written = anew.and_then(|mut anew| anew.write_all(b"2\n"));
        assert!(written.is_err());
    }
}
