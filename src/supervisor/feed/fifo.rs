//! A named pipe: made if it is missing, opened without waiting for a writer.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::role::Feed;

/// Opens the pipe. The feed before it, if there was one, is still open then, so that a writer never finds nobody who
/// reads.
pub fn open(path: &str, answers_path: Option<&str>, number: u64) -> io::Result<Feed> {
    let answers = answers_path.map(|path| pipe(path, true)).transpose()?;
    Ok(Feed {
        number,
        input: pipe(path, false)?,
        answers,
        log: None,
    })
}

/// One pipe. A writer of answers opens it to read, too: to open it for writing alone fails as long as nobody reads.
fn pipe(path: &str, write: bool) -> io::Result<OwnedFd> {
    match mkfifo(path, Mode::from_bits_truncate(0o660)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other(format!("{path} is not a named pipe")));
    }
    Ok(file.into())
}
