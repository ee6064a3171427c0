//! A file that an operator names: opened without waiting for anybody.
//!
//! The supervisor reads such files while it serves. A pipe that came to have the name would hold up all of it until
//! somebody writes there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;

/// Opens a file to read.
///
/// # Errors
/// What the kernel says; `InvalidInput` for what is no file, such as a pipe or a folder.
pub fn open(path: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        let what = "it is not a file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::config::certificates::Certificates;
    use crate::config::{ClientCertificates, Tls};

    /// Somebody put a pipe in the place of a certificate. The next HUP had the supervisor wait for its writer, and the
    /// node neither started a child again nor could be stopped.
    #[test]
    fn a_pipe_that_nobody_writes_to_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe").display().to_string();
        mkfifo(pipe.as_str(), Mode::S_IRUSR).unwrap();
        let (done, read) = mpsc::channel();
        std::thread::spawn(move || {
            let tls = Tls {
                certificate: pipe.clone(),
                key: pipe.clone(),
                client_authorities: None,
                client: ClientCertificates::Required,
                identity: None,
            };
            done.send((open(&pipe), Certificates::read(&tls)))
        });
        let (opened, certificates) = read.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let wrong = certificates.unwrap_err().to_string();
        assert!(wrong.ends_with("it is not a file"), "{wrong}");
    }
}
