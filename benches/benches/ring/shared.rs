//! Peers in shared memory that trust the other side: System V with semaphores, a mapped file with a robust mutex, and a
//! plain ring.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{ftruncate, read, write};

use crate::frame;
use crate::raw::{Condition, Memory, SharedLock, SystemV, change_semaphore, semaphore_value};
use crate::transport::{BATCH_FRAMES, Channel, End, Mode, Reader, SLOTS, Transport, Writer};

/// System V shared memory; one semaphore counts free slots, one frames.
pub struct SystemVShared;

const FREE: u16 = 0;
const FILLED: u16 = 1;

/// Either end.
pub struct SystemVEnd {
    memory: Memory,
    semaphores: i32,
    size: usize,
    poll: bool,
    next: usize,
    buffer: Vec<u8>,
}

impl SystemVEnd {
    fn open(end: &End) -> io::Result<SystemVEnd> {
        let ids: Vec<i32> = end
            .text
            .split(' ')
            .filter_map(|id| id.parse().ok())
            .collect();
        let [segment, semaphores] = ids[..] else {
            return Err(io::Error::other("two ids are needed"));
        };
        Ok(SystemVEnd {
            memory: Memory::attach(segment, SLOTS * end.size)?,
            semaphores,
            size: end.size,
            poll: end.mode == Mode::Poll,
            next: 0,
            buffer: vec![0; end.size],
        })
    }

    /// Takes one from a semaphore, waiting as the mode says, and then what else there is, at most `most` in all.
    fn take(&self, number: u16, most: usize) -> io::Result<usize> {
        match change_semaphore(self.semaphores, number, -1, self.poll) {
            Err(Errno::EAGAIN) => return Ok(0),
            taken => taken?,
        }
        if most == 1 {
            return Ok(1);
        }
        let more = semaphore_value(self.semaphores, number)?.min(most as i32 - 1);
        if more > 0 {
            // Nobody else takes from it, so this cannot wait.
            change_semaphore(self.semaphores, number, -(more as i16), true)?;
        }
        Ok(1 + more.max(0) as usize)
    }

    fn give(&self, number: u16, count: usize) -> io::Result<()> {
        Ok(change_semaphore(
            self.semaphores,
            number,
            count as i16,
            false,
        )?)
    }

    fn slot(&mut self) -> usize {
        let byte = self.next % SLOTS * self.size;
        self.next += 1;
        byte
    }
}

impl Writer for SystemVEnd {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        let count = self.take(FREE, (frames.len() / self.size).min(BATCH_FRAMES))?;
        for frame in frames.chunks_exact(self.size).take(count) {
            let byte = self.slot();
            self.memory.copy_in(byte, frame);
        }
        if count > 0 {
            self.give(FILLED, count)?;
        }
        Ok(count)
    }
}

impl Reader for SystemVEnd {
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let count = self.take(FILLED, most)?;
        for _ in 0..count {
            let byte = self.slot();
            self.memory.copy_out(byte, &mut self.buffer);
            each(&self.buffer);
        }
        if count > 0 {
            self.give(FREE, count)?;
        }
        Ok(count)
    }
}

impl Transport for SystemVShared {
    type Writer = SystemVEnd;
    type Reader = SystemVEnd;

    fn create(_: &Path, size: usize) -> io::Result<Channel> {
        let made = SystemV::create(SLOTS * size)?;
        change_semaphore(made.semaphores, FREE, SLOTS as i16, false)?;
        Ok(Channel {
            text: format!("{} {}", made.segment, made.semaphores),
            keep: Some(Box::new(made)),
            ..Channel::default()
        })
    }

    fn writer(end: End) -> io::Result<SystemVEnd> {
        SystemVEnd::open(&end)
    }

    fn reader(end: End) -> io::Result<SystemVEnd> {
        SystemVEnd::open(&end)
    }
}

/// A mapped file: slots, and a robust mutex with two conditions around them.
pub struct MutexFile;

const LOCKED_HEAD: usize = SharedLock::BYTES;
const LOCKED_TAIL: usize = SharedLock::BYTES + 8;
const LOCKED_SLOTS: usize = SharedLock::BYTES + 64;

/// Either end.
pub struct MutexEnd {
    lock: SharedLock,
    size: usize,
    poll: bool,
    buffer: Vec<u8>,
}

impl MutexEnd {
    fn open(end: End) -> io::Result<MutexEnd> {
        let (size, poll) = (end.size, end.mode == Mode::Poll);
        let memory = Memory::map(end.only_fd()?, LOCKED_SLOTS + SLOTS * size)?;
        Ok(MutexEnd {
            lock: SharedLock::of(memory),
            size,
            poll,
            buffer: vec![0; size * BATCH_FRAMES],
        })
    }

    /// Head and tail, once there is what `condition` says; `None` when there is not and the end polls. The lock is
    /// held after `Some`.
    fn enter(&self, condition: Condition) -> io::Result<Option<(u64, u64)>> {
        let mut died = self.lock.lock()?;
        loop {
            if died {
                // Positions move last, so that what they say is whole.
                eprintln!("the other side died with the lock held");
            }
            let load = |byte| self.lock.memory().word(byte).load(Ordering::Relaxed);
            let (head, tail) = (load(LOCKED_HEAD), load(LOCKED_TAIL));
            let ready = match condition {
                Condition::Frames => tail > head,
                Condition::Room => tail - head < SLOTS as u64,
            };
            if ready {
                return Ok(Some((head, tail)));
            }
            if self.poll {
                self.lock.unlock()?;
                return Ok(None);
            }
            died = self.lock.wait(condition)?;
        }
    }

    fn leave(&self, word: usize, position: u64, condition: Condition) -> io::Result<()> {
        self.lock
            .memory()
            .word(word)
            .store(position, Ordering::Relaxed);
        self.lock.unlock()?;
        if self.poll {
            return Ok(());
        }
        self.lock.signal(condition)
    }

    fn slot(&self, seq: u64) -> usize {
        LOCKED_SLOTS + seq as usize % SLOTS * self.size
    }
}

impl Writer for MutexEnd {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        let Some((head, tail)) = self.enter(Condition::Room)? else {
            return Ok(0);
        };
        let room = SLOTS - (tail - head) as usize;
        let count = room.min(frames.len() / self.size);
        for (seq, frame) in (tail..).zip(frames.chunks_exact(self.size).take(count)) {
            self.lock.memory().copy_in(self.slot(seq), frame);
        }
        self.leave(LOCKED_TAIL, tail + count as u64, Condition::Frames)?;
        Ok(count)
    }
}

impl Reader for MutexEnd {
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let Some((head, tail)) = self.enter(Condition::Frames)? else {
            return Ok(0);
        };
        let count = ((tail - head) as usize).min(most).min(BATCH_FRAMES);
        let mut copies = std::mem::take(&mut self.buffer);
        for (seq, copy) in (head..).zip(copies.chunks_exact_mut(self.size).take(count)) {
            self.lock.memory().copy_out(self.slot(seq), copy);
        }
        self.buffer = copies;
        self.leave(LOCKED_HEAD, head + count as u64, Condition::Room)?;
        // The frames are looked at after the lock is given back.
        let copies = self.buffer.chunks_exact(self.size);
        copies.take(count).for_each(each);
        Ok(count)
    }
}

impl Transport for MutexFile {
    type Writer = MutexEnd;
    type Reader = MutexEnd;

    fn create(folder: &Path, size: usize) -> io::Result<Channel> {
        let file: File = tempfile::Builder::new()
            .prefix("mutex")
            .tempfile_in(folder)?
            .keep()
            .map_err(|error| error.error)?
            .0;
        let bytes = LOCKED_SLOTS + SLOTS * size;
        file.set_len(bytes as u64)?;
        SharedLock::of(Memory::map(&file, bytes)?).initialise()?;
        let file = OwnedFd::from(file);
        Ok(Channel {
            writer: vec![file.try_clone()?],
            reader: vec![file],
            ..Channel::default()
        })
    }

    fn writer(end: End) -> io::Result<MutexEnd> {
        MutexEnd::open(end)
    }

    fn reader(end: End) -> io::Result<MutexEnd> {
        MutexEnd::open(end)
    }
}

/// A plain ring: slots, head, tail, nothing else; up to 64 frames are committed by one store, as in ours. A sleeping
/// reader is woken by an eventfd for every frame.
pub struct Trusting;

/// Most frames of one commit.
const COMMIT_FRAMES: usize = 64;

const HEAD: usize = 0;
const TAIL: usize = 128;
const PLAIN_SLOTS: usize = 256;

/// Either end.
pub struct TrustingEnd {
    memory: Memory,
    bell: OwnedFd,
    size: usize,
    mode: Mode,
    mine: u64,
    /// The other side's position when last looked at.
    theirs: u64,
    buffer: Vec<u8>,
}

impl TrustingEnd {
    fn open(end: End) -> io::Result<TrustingEnd> {
        let (size, mode) = (end.size, end.mode);
        let mut fds = end.fds.into_iter();
        let (Some(memory), Some(bell)) = (fds.next(), fds.next()) else {
            return Err(io::Error::other("two descriptors are needed"));
        };
        Ok(TrustingEnd {
            memory: Memory::map(memory, PLAIN_SLOTS + SLOTS * size)?,
            bell,
            size,
            mode,
            mine: 0,
            theirs: 0,
            buffer: vec![0; size],
        })
    }

    fn slot(&self, seq: u64) -> usize {
        PLAIN_SLOTS + (seq as usize & (SLOTS - 1)) * self.size
    }
}

impl Writer for TrustingEnd {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        let mut count = 0;
        for frame in frames.chunks_exact(self.size) {
            if self.mine - self.theirs == SLOTS as u64 {
                // Acquire: pairs with the reader's release store of the head.
                self.theirs = self.memory.word(HEAD).load(Ordering::Acquire);
                if self.mine - self.theirs == SLOTS as u64 {
                    break;
                }
            }
            self.memory.copy_in(self.slot(self.mine), frame);
            self.mine += 1;
            count += 1;
            if count % COMMIT_FRAMES == 0 {
                // Release: the commit.
                self.memory.word(TAIL).store(self.mine, Ordering::Release);
            }
        }
        self.memory.word(TAIL).store(self.mine, Ordering::Release);
        if self.mode == Mode::Sleep && count > 0 {
            write(&self.bell, &1u64.to_ne_bytes())?;
        }
        Ok(count)
    }
}

impl Reader for TrustingEnd {
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        // Acquire: pairs with the commit.
        self.theirs = self.memory.word(TAIL).load(Ordering::Acquire);
        while self.theirs == self.mine {
            if self.mode == Mode::Poll {
                return Ok(0);
            }
            read(&self.bell, &mut [0; 8])?;
            self.theirs = self.memory.word(TAIL).load(Ordering::Acquire);
        }
        let count = (self.theirs - self.mine).min(most as u64);
        for seq in self.mine..self.mine + count {
            self.memory.copy_out(self.slot(seq), &mut self.buffer);
            each(&self.buffer);
        }
        self.mine += count;
        // Release: the slots may be written again.
        self.memory.word(HEAD).store(self.mine, Ordering::Release);
        Ok(count as usize)
    }
}

impl Transport for Trusting {
    type Writer = TrustingEnd;
    type Reader = TrustingEnd;

    fn create(_: &Path, size: usize) -> io::Result<Channel> {
        let memory = memfd_create("plain", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&memory, (PLAIN_SLOTS + SLOTS * size) as i64)?;
        let bell: OwnedFd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?.into();
        Ok(Channel {
            writer: vec![memory.try_clone()?, bell.try_clone()?],
            reader: vec![memory, bell],
            ..Channel::default()
        })
    }

    fn writer(end: End) -> io::Result<TrustingEnd> {
        TrustingEnd::open(end)
    }

    fn reader(end: End) -> io::Result<TrustingEnd> {
        TrustingEnd::open(end)
    }
}

/// No transport at all: the writer paces itself and sends nothing; the reader is done at once. What it costs is what
/// pacing costs.
pub struct Nothing;

/// Either end.
pub struct NoEnd {
    size: usize,
}

impl Writer for NoEnd {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        Ok(frames.len() / self.size)
    }
}

impl Reader for NoEnd {
    fn receive(&mut self, _: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let mut last = vec![0; self.size];
        frame::write_end(&mut last, 0);
        each(&last);
        Ok(1)
    }
}

impl Transport for Nothing {
    type Writer = NoEnd;
    type Reader = NoEnd;

    fn create(_: &Path, _: usize) -> io::Result<Channel> {
        Ok(Channel::default())
    }

    fn writer(end: End) -> io::Result<NoEnd> {
        Ok(NoEnd { size: end.size })
    }

    fn reader(end: End) -> io::Result<NoEnd> {
        Ok(NoEnd { size: end.size })
    }
}
