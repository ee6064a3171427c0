//! Certificates of sensors: read from the files that the configuration names, judged, and kept in memory that nobody can
//! change any more.
//!
//! An ingest that is started again gets what was judged, whatever the files hold by then.

use std::io;
use std::os::fd::OwnedFd;

use super::sealed;
use crate::config::Tls;
use crate::config::certificates::{CertificateError, Certificates};
use crate::role;

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

fn keep(bytes: &[u8]) -> io::Result<OwnedFd> {
    sealed::copy("ringway-certificates", bytes)
}
