//! What the supervisor read from a file, kept in memory that nobody can change any more: who is handed it, and may be
//! taken over, can neither write to it nor make it larger.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::sys::region;

/// A file in memory with what is read here, for ever; read only.
///
/// # Errors
/// What the kernel says.
pub fn copy(name: &str, mut from: impl Read) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    io::copy(&mut from, &mut file)?;
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    region::read_only(file.as_fd())
}
