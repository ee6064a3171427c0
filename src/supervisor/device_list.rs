//! Lists of known devices: copied whole when they are read, so that who edits a file changes nothing until it is read
//! again. What a list says is read by the ingest alone, which tells whether it is right; until then the one before
//! counts.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use super::listener::OpenError;
use super::sealed;
use crate::config::{LIST_BYTES_MAX, operator_file};
use crate::role::Devices;

/// The lists of one sensor.
#[derive(Debug, Default)]
pub struct DeviceLists {
    /// Number of the one that was read last.
    number: u64,
    /// The last one that was right.
    right: Option<Devices>,
    /// One that its ingest has not judged yet.
    fresh: Option<Devices>,
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
        self.fresh = Some(Devices { number, list });
        Ok(number)
    }

    /// An ingest says what became of a list; whether it is one that was to be judged.
    pub fn judged(&mut self, number: u64, outcome: Result<u32, String>) -> bool {
        let Some(devices) = self.fresh.take_if(|devices| devices.number == number) else {
            return false;
        };
        if outcome.is_ok() {
            self.right = Some(devices);
        }
        self.judged = Some((number, outcome));
        true
    }

    /// What became of a list, once its ingest has said so.
    pub fn outcome(&self, number: u64) -> Option<Result<u32, String>> {
        let (_, outcome) = self
            .judged
            .as_ref()
            .filter(|(judged, _)| *judged == number)?;
        Some(outcome.clone())
    }

    /// What an ingest that starts is handed: the last list that was right, and the one after it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn all(&self) -> io::Result<Vec<Devices>> {
        let all = self.right.iter().chain(&self.fresh);
        all.map(Devices::try_clone).collect()
    }

    /// What an ingest that runs is handed: the one that is to be judged.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn fresh(&self) -> io::Result<Option<Devices>> {
        self.fresh.as_ref().map(Devices::try_clone).transpose()
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
        assert!(lists.judged(1, Ok(0)));
        assert_eq!(lists.read(path, "t").unwrap(), 2);
        assert_eq!(numbers(&lists), [1, 2]);
        assert!(!lists.judged(1, Ok(9)), "it was judged already");
        assert!(lists.judged(2, Err("line 1".into())));
        assert_eq!(lists.outcome(2), Some(Err("line 1".into())));
        assert_eq!(numbers(&lists), [1]);
        assert!(lists.fresh().unwrap().is_none());
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
