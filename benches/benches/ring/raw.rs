//! The one file of the benchmark that needs `unsafe`: memory and locks that the standard library does not know.
//!
//! It is what the peers of the ring are made of, and trusts the other process in all that the product must not: a
//! position that it reads is believed, bytes are copied as they stand.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Takes a descriptor that this process inherited and that nobody else here has taken.
pub fn inherit(fd: RawFd) -> OwnedFd {
    // SAFETY: the parent names each descriptor once, in the arguments of this process, and each is taken once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Memory that two processes share.
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    /// By `mmap`, else by `shmat`.
    mapped: bool,
}

impl Memory {
    /// Maps a file.
    pub fn map(fd: impl AsFd, bytes: usize) -> io::Result<Memory> {
        let length = bytes.try_into().map_err(io::Error::other)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel picks the address, so nothing that exists is mapped over.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, fd, 0)? };
        let start = start.cast();
        Ok(Memory {
            start,
            bytes,
            mapped: true,
        })
    }

    /// Attaches to a System V segment of `bytes` bytes.
    pub fn attach(segment: i32, bytes: usize) -> io::Result<Memory> {
        // SAFETY: the kernel picks the address, so nothing that exists is mapped over.
        let start = unsafe { libc::shmat(segment, std::ptr::null(), 0) };
        if start as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Memory {
            start,
            bytes,
            mapped: false,
        })
    }

    /// A word.
    pub fn word(&self, byte: usize) -> &AtomicU64 {
        assert!(
            byte.is_multiple_of(8) && byte + 8 <= self.bytes,
            "the word is inside"
        );
        // SAFETY: inside the map, which lives as long as `self`, and aligned: both just checked.
        unsafe { self.start.add(byte).cast::<AtomicU64>().as_ref() }
    }

    /// Copies in.
    pub fn copy_in(&self, byte: usize, bytes: &[u8]) {
        assert!(byte + bytes.len() <= self.bytes, "the copy ends inside");
        // SAFETY: inside the map, just checked; the peers' protocols keep the other process away from these bytes.
        unsafe {
            let to = self.start.add(byte);
            to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
    }

    /// Copies out.
    pub fn copy_out(&self, byte: usize, out: &mut [u8]) {
        assert!(byte + out.len() <= self.bytes, "the copy ends inside");
        // SAFETY: inside the map, just checked; the peers' protocols keep the other process away from these bytes.
        unsafe {
            let from = self.start.add(byte);
            from.copy_to_nonoverlapping(NonNull::from(&mut *out).cast(), out.len());
        }
    }

    fn at<T>(&self, byte: usize) -> *mut T {
        assert!(byte.is_multiple_of(align_of::<T>()) && byte + size_of::<T>() <= self.bytes);
        // SAFETY: inside the map, just checked.
        unsafe { self.start.add(byte).cast::<T>().as_ptr() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nothing borrowed from `self` is left; the address and length are those of the map.
        unsafe {
            if self.mapped {
                let _ = munmap(self.start.cast(), self.bytes);
            } else {
                libc::shmdt(self.start.as_ptr().cast());
            }
        }
    }
}

/// A robust mutex and two conditions in shared memory, in the first bytes of a region.
pub struct SharedLock {
    memory: Memory,
}

/// A condition of a [`SharedLock`].
#[derive(Clone, Copy)]
pub enum Condition {
    /// Frames came.
    Frames,
    /// Frames were taken.
    Room,
}

impl SharedLock {
    /// Bytes that it needs at the front of the region.
    pub const BYTES: usize = 256;

    /// A lock in memory in which [`SharedLock::initialise`] made it.
    pub fn of(memory: Memory) -> SharedLock {
        SharedLock { memory }
    }

    /// The memory that it lies in.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.memory.at(0)
    }

    fn condition(&self, condition: Condition) -> *mut libc::pthread_cond_t {
        match condition {
            Condition::Frames => self.memory.at(64),
            Condition::Room => self.memory.at(128),
        }
    }

    /// Makes mutex and conditions, before anybody else has the memory.
    pub fn initialise(&self) -> io::Result<()> {
        let mut mutex = std::mem::MaybeUninit::uninit();
        let mut condition = std::mem::MaybeUninit::uninit();
        // SAFETY: attributes are initialised before they are used; the places are inside the map, and nobody else uses
        // them yet.
        unsafe {
            check(libc::pthread_mutexattr_init(mutex.as_mut_ptr()))?;
            check(libc::pthread_mutexattr_setpshared(
                mutex.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            ))?;
            check(libc::pthread_mutexattr_setrobust(
                mutex.as_mut_ptr(),
                libc::PTHREAD_MUTEX_ROBUST,
            ))?;
            check(libc::pthread_mutex_init(self.mutex(), mutex.as_ptr()))?;
            check(libc::pthread_condattr_init(condition.as_mut_ptr()))?;
            check(libc::pthread_condattr_setpshared(
                condition.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            ))?;
            for which in [Condition::Frames, Condition::Room] {
                check(libc::pthread_cond_init(
                    self.condition(which),
                    condition.as_ptr(),
                ))?;
            }
        }
        Ok(())
    }

    /// Locks; `true` when the one who held it before died with it.
    pub fn lock(&self) -> io::Result<bool> {
        // SAFETY: the mutex was initialised before any process got the memory.
        self.taken(unsafe { libc::pthread_mutex_lock(self.mutex()) })
    }

    fn taken(&self, code: i32) -> io::Result<bool> {
        if code != libc::EOWNERDEAD {
            return check(code).map(|()| false);
        }
        // SAFETY: as above, and this thread holds the mutex.
        check(unsafe { libc::pthread_mutex_consistent(self.mutex()) })?;
        Ok(true)
    }

    /// Unlocks what this thread locked.
    pub fn unlock(&self) -> io::Result<()> {
        // SAFETY: as above.
        check(unsafe { libc::pthread_mutex_unlock(self.mutex()) })
    }

    /// Sleeps until the condition is signalled; the mutex is held before and after. `true` as in [`SharedLock::lock`].
    pub fn wait(&self, condition: Condition) -> io::Result<bool> {
        let condition = self.condition(condition);
        // SAFETY: both were initialised before any process got the memory, and this thread holds the mutex.
        self.taken(unsafe { libc::pthread_cond_wait(condition, self.mutex()) })
    }

    /// Wakes who waits for the condition.
    pub fn signal(&self, condition: Condition) -> io::Result<()> {
        // SAFETY: it was initialised before any process got the memory.
        check(unsafe { libc::pthread_cond_signal(self.condition(condition)) })
    }
}

fn check(code: i32) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// A System V segment and two semaphores; removed when dropped, since the kernel keeps them else.
pub struct SystemV {
    /// Id of the segment.
    pub segment: i32,
    /// Id of the semaphores.
    pub semaphores: i32,
}

impl SystemV {
    /// Makes them, with all semaphores at zero.
    pub fn create(bytes: usize) -> io::Result<SystemV> {
        // SAFETY: plain calls without pointers.
        let (segment, semaphores) = unsafe {
            (
                libc::shmget(libc::IPC_PRIVATE, bytes, libc::IPC_CREAT | 0o600),
                libc::semget(libc::IPC_PRIVATE, 2, libc::IPC_CREAT | 0o600),
            )
        };
        let made = SystemV {
            segment: Errno::result(segment)?,
            semaphores: Errno::result(semaphores)?,
        };
        Ok(made)
    }
}

impl Drop for SystemV {
    fn drop(&mut self) {
        // SAFETY: plain calls; removing what does not exist is an error that nobody needs.
        unsafe {
            libc::shmctl(self.segment, libc::IPC_RMID, std::ptr::null_mut());
            libc::semctl(self.semaphores, 0, libc::IPC_RMID);
        }
    }
}

/// Adds `change` to a semaphore, or takes from it once it is high enough; `EAGAIN` instead of waiting when `poll`.
pub fn change_semaphore(semaphores: i32, number: u16, change: i16, poll: bool) -> nix::Result<()> {
    let mut operation = libc::sembuf {
        sem_num: number,
        sem_op: change,
        sem_flg: if poll { libc::IPC_NOWAIT as i16 } else { 0 },
    };
    // SAFETY: one operation, which outlives the call.
    Errno::result(unsafe { libc::semop(semaphores, &mut operation, 1) }).map(drop)
}

/// What a semaphore stands at.
pub fn semaphore_value(semaphores: i32, number: u16) -> nix::Result<i32> {
    // SAFETY: a plain call; GETVAL takes no argument.
    Errno::result(unsafe { libc::semctl(semaphores, i32::from(number), libc::GETVAL) })
}

/// Headers for many packets in one call. nix has such calls too, but binds its headers to the life of the bytes, so that
/// they would have to be made anew for each call.
pub struct PacketHeaders {
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl PacketHeaders {
    /// For at most `count` packets at a time.
    pub fn new(count: usize) -> PacketHeaders {
        // SAFETY: zeros are a valid iovec and a valid mmsghdr.
        let (part, header) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        PacketHeaders {
            parts: vec![part; count],
            headers: vec![header; count],
        }
    }

    fn point_at(&mut self, start: *mut u8, bytes: usize, size: usize) -> u32 {
        let count = (bytes / size).min(self.parts.len());
        for (n, part) in self.parts[..count].iter_mut().enumerate() {
            part.iov_base = start.wrapping_add(n * size).cast();
            part.iov_len = size;
            self.headers[n].msg_hdr.msg_iov = part;
            self.headers[n].msg_hdr.msg_iovlen = 1;
        }
        count as u32
    }

    /// Sends `bytes` as packets of `size` and returns how many went.
    pub fn send(&mut self, fd: BorrowedFd<'_>, bytes: &[u8], size: usize) -> nix::Result<usize> {
        let count = self.point_at(bytes.as_ptr().cast_mut(), bytes.len(), size);
        // SAFETY: the headers point at parts of `bytes` only, which outlives the call and which sending only reads.
        let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
        Errno::result(sent).map(|sent| sent as usize)
    }

    /// Receives packets of `size` into `room` and returns how many came; 0 at the end.
    pub fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        room: &mut [u8],
        size: usize,
    ) -> nix::Result<usize> {
        let count = self.point_at(room.as_mut_ptr(), room.len(), size);
        // The first is waited for, if at all; the rest is taken if it is there.
        let flags = libc::MSG_WAITFORONE;
        let none = std::ptr::null_mut();
        // SAFETY: the headers point at parts of `room` only, which outlives the call and is ours alone.
        let came = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                flags,
                none,
            )
        };
        let came = Errno::result(came)? as usize;
        let ended = came > 0 && self.headers[0].msg_len == 0;
        Ok(if ended { 0 } else { came })
    }
}
