//! Lists of known devices: copied whole when they are read, so that who edits a file changes nothing until it is read
//! again. What a list says is read by the ingest alone, which tells whether it is right; until then the one before
//! counts.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::listener::OpenError;
use crate::config::LIST_BYTES_MAX;
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
    // Never waits for whoever would write to a pipe of that name.
    let flags = OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a file",
        ));
    }
    let mut copy = std::fs::File::from(memfd_create("ringway-devices", MFdFlags::MFD_CLOEXEC)?);
    io::copy(&mut file.take(LIST_BYTES_MAX as u64 + 1), &mut copy)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
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
}
