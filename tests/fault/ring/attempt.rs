//! What a producer that was taken over may ask the kernel for with the descriptors that it holds, and what it must be
//! told.
//!
//! The one place of these tests with unsafe calls: the product has none of them, and what they try must fail.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::sys::mman::{MmapAdvise, ProtFlags, madvise, mprotect};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{ftruncate, write};
use ringway::ring::{Geometry, RingFds, RingOwner};
use ringway::sys::control::Channel;
use serde::{Deserialize, Serialize};

/// Whose process it is that tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    /// Another user's than the one who made the ring: a role with a uid of its own.
    Other,
    /// The same user's, without privileges: all roles under one uid. It makes the ring that it tries on.
    Same,
}

/// What must come of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The kernel refuses.
    Refused,
    /// It is the producer's own to spoil; what the others make of it is among the attacks.
    Own,
    /// Only a process that is confined (no fchmod, no open) is refused. The children are not confined yet, so this is
    /// counted and does not fail.
    UntilConfined,
}

/// An attempt and what the kernel said: 0 or the error number.
pub type Said = (String, i32);

/// Tries everything and reports on the control channel.
pub fn run(whose: Whose, fds: Vec<OwnedFd>, channel: &Channel) {
    let said = match whose {
        Whose::Other => {
            let fds = RingFds::take(&mut fds.into_iter()).expect("the descriptors of a ring");
            try_all(&fds)
        }
        Whose::Same => {
            let geometry = Geometry {
                slots: 64,
                stride: 512,
                answers: 64,
            };
            let owner = RingOwner::create(geometry, 1, 1).expect("a ring of its own");
            try_all(&owner.producer_fds().expect("its descriptors"))
        }
    };
    channel.send(&said, &[]).expect("the parent listens");
}

/// What must come of the attempt of that name.
pub fn expected(name: &str, whose: Whose) -> Expected {
    let (what, on) = name.split_once(' ').unwrap_or((name, ""));
    match (what, on) {
        // Its own region: it may write there, so it may as well zero it.
        ("punch" | "remove" | "map" | "protect" | "write", "P") => Expected::Own,
        ("flags", "consumer-bell") => Expected::Own,
        ("chmod" | "chmod-path" | "reopen-after-chmod", _) if whose == Whose::Same => {
            Expected::UntilConfined
        }
        _ => Expected::Refused,
    }
}

fn try_all(fds: &RingFds) -> Vec<Said> {
    let regions = [
        ("S", &fds.supervisor_page),
        ("P", &fds.producer_region),
        ("C", &fds.consumer_region),
    ];
    let mut said = Vec::new();
    let mut note = |what: &str, on: &str, result: nix::Result<()>| {
        let errno = result.err().map_or(0, |errno| errno as i32);
        said.push((format!("{what} {on}"), errno));
    };
    for (on, fd) in regions {
        let fd = fd.as_fd();
        note("shrink", on, ftruncate(fd, 0));
        note("grow", on, ftruncate(fd, 1 << 20));
        let grow = FallocateFlags::empty();
        note("allocate", on, fallocate(fd, grow, 0, 1 << 20));
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        note("punch", on, fallocate(fd, punch, 4096, 4096));
        note("remove", on, remove(fd));
        note("map", on, map_writable(fd));
        note("protect", on, protect_writable(fd));
        note("write", on, write(fd, &[0; 8]).map(|_| ()));
        note("seal", on, seal(fd));
        note("reopen", on, reopen(fd));
        note("execute", on, execute(fd));
    }
    // Flags and count belong to the file and not to a descriptor, so these must be files that nobody else rings.
    let flags = FcntlArg::F_SETFL(OFlag::empty());
    note(
        "flags",
        "consumer-bell",
        fcntl(&fds.consumer_bell, flags).map(|_| ()),
    );
    let rung = write(&fds.producer_bell, &1u64.to_ne_bytes());
    note("ring", "producer-bell", rung.map(|_| ()));
    note("open-parent", "memory", open_parent());
    // Last, since they would open the way for those above.
    for (on, fd) in regions {
        let fd = fd.as_fd();
        let all = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IROTH | Mode::S_IWOTH;
        note("chmod", on, fchmod(fd, all));
        note("chmod-path", on, chmod_path(fd));
        note("reopen-after-chmod", on, reopen(fd));
    }
    said
}

fn path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn errno(result: std::io::Result<()>) -> nix::Result<()> {
    result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

fn reopen(fd: BorrowedFd<'_>) -> nix::Result<()> {
    errno(File::options().write(true).open(path(fd)).map(|_| ()))
}

fn chmod_path(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let all = std::fs::Permissions::from_mode(0o606);
    errno(std::fs::set_permissions(path(fd), all))
}

fn execute(fd: BorrowedFd<'_>) -> nix::Result<()> {
    errno(std::process::Command::new(path(fd)).spawn().map(|_| ()))
}

/// Reads what the process that started this one has open, its rings among it.
fn open_parent() -> nix::Result<()> {
    let parent = std::os::unix::process::parent_id();
    errno(std::fs::read_dir(format!("/proc/{parent}/fd")).map(|_| ()))
}

fn seal(fd: BorrowedFd<'_>) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).map(|_| ())
}

fn map_writable(fd: BorrowedFd<'_>) -> nix::Result<()> {
    errno(MmapRaw::map_raw(&fd).map(|_| ()))
}

/// A map that may be read, or written too where that is possible, for calls that need an address.
fn map(fd: BorrowedFd<'_>) -> (MmapRaw, std::ptr::NonNull<std::ffi::c_void>) {
    let map = MmapOptions::new().map_raw_read_only(&fd).expect("a map");
    let start = std::ptr::NonNull::new(map.as_mut_ptr().cast()).expect("a map has an address");
    (map, start)
}

fn protect_writable(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let (map, start) = map(fd);
    let writable = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: `map` covers these bytes and lives until after the call; nothing refers to them.
    unsafe { mprotect(start, map.len(), writable) }
}

fn remove(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let (map, start) = map(fd);
    // SAFETY: as above; what the call zeroes are bytes of the ring, which nobody holds a reference to.
    unsafe { madvise(start, map.len(), MmapAdvise::MADV_REMOVE) }
}
