//! A named pipe: made if it is missing, opened without waiting for a writer.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::role::Feed;

/// Mode of a pipe that is made, less the umask: its owner and group may write. Who may write may report.
const MODE: Mode = Mode::from_bits_truncate(0o660);

/// Opens the pipe. The feed before it, if there was one, is still open then, so that a writer never finds nobody who
/// reads.
pub fn open(path: &str, answers_path: Option<&str>, number: u64) -> io::Result<Feed> {
    let named = |cause| io::Error::other(format!("{}: {cause}", answers_path.unwrap_or(path)));
    let answers = answers_path.map(|path| pipe(path, true).map_err(named));
    Ok(Feed {
        number,
        input: pipe(path, false)?,
        answers: answers.transpose()?,
        log: None,
    })
}

/// Whether the path still leads to the pipe that is open. Removed, or made anew, it is one that no writer finds.
pub fn is_there(path: &str, feed: &Feed) -> bool {
    let open = || File::from(feed.input.try_clone()?).metadata();
    match (std::fs::metadata(path), open()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        (Err(cause), _) => cause.kind() != io::ErrorKind::NotFound,
        _ => true,
    }
}

/// One pipe. A writer of answers opens it to read, too: to open it for writing alone fails as long as nobody reads.
fn pipe(path: &str, write: bool) -> io::Result<OwnedFd> {
    match mkfifo(path, MODE) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is no named pipe"));
    }
    Ok(file.into())
}
