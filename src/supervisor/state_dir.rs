//! The state directory: who may use it, and the numbers that must only grow.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How long a starting supervisor waits for the children of a dead one to finish.
pub const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// Births reserved by one write: a crash loses at most so many numbers.
const BIRTHS_RESERVED: u64 = 1024;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// A file cannot be made, read or written.
    #[error("cannot use state directory file {0}: {1}")]
    Io(PathBuf, #[source] std::io::Error),
    /// Another supervisor has it.
    #[error(
        "state directory {0} is in use by another ringway; stop it, or set another node.state_dir"
    )]
    Taken(PathBuf),
    /// The births file has been tampered with.
    #[error(
        "cannot read births in {0}: not a number; remove the file if no journal refers to older rings"
    )]
    Births(PathBuf),
}

/// The locked state directory.
pub struct StateDir {
    /// Held as long as this process or any child lives: children inherit the descriptor.
    pub lock: Flock<File>,
    births: File,
    births_path: PathBuf,
    next_birth: u64,
    reserved: u64,
}

impl StateDir {
    /// Makes the directory if need be and locks it, waiting for the children of a dead supervisor. `waiting` is called
    /// once if it has to wait.
    ///
    /// # Errors
    /// [`StateDirError::Taken`] when the lock is not free in time; otherwise what the file system says.
    pub fn open(path: &Path, waiting: impl FnOnce()) -> Result<StateDir, StateDirError> {
        let io = |file: &Path| {
            let file = file.to_path_buf();
            move |cause| StateDirError::Io(file, cause)
        };
        std::fs::create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join("lock");
        let options = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .to_owned()
        };
        let file = options().open(&lock_path).map_err(io(&lock_path))?;
        let lock = lock(file, path, waiting)?;

        let births_path = path.join("births");
        let mut births = options().open(&births_path).map_err(io(&births_path))?;
        let mut text = String::new();
        births.read_to_string(&mut text).map_err(io(&births_path))?;
        let next_birth = match text.trim() {
            "" => 1,
            digits => digits
                .parse()
                .map_err(|_| StateDirError::Births(births_path.clone()))?,
        };
        Ok(StateDir {
            lock,
            births,
            births_path,
            next_birth,
            reserved: next_birth,
        })
    }

    /// The next ring birth: greater than any that was ever given out here, on disk before it is used.
    ///
    /// # Errors
    /// When the number cannot be made durable.
    pub fn next_birth(&mut self) -> Result<u64, StateDirError> {
        if self.next_birth == self.reserved {
            let reserved = self.reserved + BIRTHS_RESERVED;
            let write = |file: &mut File| {
                file.rewind()?;
                // The same width each time: a torn write leaves digits of one of the two numbers, never fewer.
                write!(file, "{reserved:020}")?;
                file.sync_all()
            };
            write(&mut self.births)
                .map_err(|cause| StateDirError::Io(self.births_path.clone(), cause))?;
            self.reserved = reserved;
        }
        self.next_birth += 1;
        Ok(self.next_birth - 1)
    }
}

fn lock(mut file: File, path: &Path, waiting: impl FnOnce()) -> Result<Flock<File>, StateDirError> {
    let deadline = Instant::now() + LOCK_WAIT;
    let mut waiting = Some(waiting);
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= deadline => {
                return Err(StateDirError::Taken(path.to_path_buf()));
            }
            Err((same, Errno::EWOULDBLOCK)) => {
                if let Some(waiting) = waiting.take() {
                    waiting();
                }
                std::thread::sleep(LOCK_POLL);
                file = same;
            }
            Err((_, cause)) => return Err(StateDirError::Io(path.join("lock"), cause.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_only_grow_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut births = Vec::new();
        for _ in 0..3 {
            let mut state = StateDir::open(dir.path(), || ()).unwrap();
            births.extend((0..2_000).map(|_| state.next_birth().unwrap()));
        }
        assert!(births.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn births_that_are_no_number_are_an_error_and_not_a_new_beginning() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("births"), "x").unwrap();
        assert!(matches!(
            StateDir::open(dir.path(), || ()),
            Err(StateDirError::Births(_))
        ));
    }
}
