//! Certificates of sensors: read from the files that the configuration names, judged, and kept in memory that nobody can
//! change any more.
//!
//! An ingest that is started again gets what was judged, whatever the files hold by then.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::config::Tls;
use crate::config::certificates::{CertificateError, Certificates};
use crate::role;
use crate::sys::region;

/// Why a sensor has no certificates.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They are no good.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// They cannot be kept.
    #[error("cannot keep certificates in memory: {0}")]
    Memory(#[from] io::Error),
}

/// Reads and judges the files of a sensor.
///
/// # Errors
/// What is wrong with them.
pub fn read(tls: &Tls) -> Result<role::Certificates, ReadError> {
    let read = Certificates::read(tls)?;
    read.server(tls)?;
    let authorities = read.authorities.as_deref();
    Ok(role::Certificates {
        chain: keep(&read.chain)?,
        key: keep(&read.key)?,
        authorities: authorities.map(keep).transpose()?,
    })
}

/// A file in memory with these bytes, for ever.
fn keep(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("ringway-certificates", flags)?);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    region::read_only(file.as_fd())
}
