//! Where a commit may stand, tried on one and the same small hardened ring: in a tail word of its own (as the product has
//! it), or in the first word of each slot, beside the data. Decision 13 was made with this.
//!
//! All variants copy once, check sequence, generation, length and checksum of the copy, and keep the regions of the two
//! sides apart, with the product's own memory. What they leave out is left out by all of them: attaching, answers, the
//! waiter. A sleeping reader says so by a nap word and is woken by an eventfd.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{read, write};
use ringway::sys::region::{self, ReadRegion, WriteRegion};

use crate::transport::{Channel, End, Mode, Reader, SLOTS, Transport, Writer};

/// The tail word is the commit and is what a reader polls.
pub const TAIL: u8 = 0;
/// The slot's first word, the frame's sequence plus one, is the commit; there is no tail. Frames that belong together
/// are written from the last to the first.
pub const SLOT: u8 = 1;
/// The tail word is the commit, and a reader that finds nothing touches the lines of the slot that comes next, so that
/// they travel together with the tail.
pub const TOUCH: u8 = 2;
/// The tail word is the commit; a reader polls the slot's first word, and looks at the tail once that has changed.
pub const HINT: u8 = 3;

/// A hardened ring that commits as `COMMIT` says.
pub struct Commit<const COMMIT: u8>;

/// Words of the P-region.
const TAIL_WORD: usize = 0;
const SLOTS_BYTE: usize = 512;
/// Words of the C-region.
const HEAD_WORD: usize = 0;
const NAP_WORD: usize = 16;
const CONSUMER_BYTES: usize = 256;

const HEADER_BYTES: usize = 32;
const GENERATION: u64 = 1;

fn stride(size: usize) -> usize {
    (size + HEADER_BYTES).next_multiple_of(128)
}

fn producer_bytes(size: usize) -> usize {
    SLOTS_BYTE + SLOTS * stride(size)
}

/// The writing end.
pub struct CommitWriter<const COMMIT: u8> {
    mine: WriteRegion,
    theirs: ReadRegion,
    bell: OwnedFd,
    size: usize,
    tail: u64,
    head: u64,
}

/// The reading end.
pub struct CommitReader<const COMMIT: u8> {
    mine: WriteRegion,
    theirs: ReadRegion,
    bell: OwnedFd,
    size: usize,
    mode: Mode,
    head: u64,
    copy: Vec<u8>,
}

fn slot_byte(seq: u64, size: usize) -> usize {
    SLOTS_BYTE + (seq as usize & (SLOTS - 1)) * stride(size)
}

impl<const COMMIT: u8> Writer for CommitWriter<COMMIT> {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        let mut count = 0;
        for frame in frames.chunks_exact(self.size) {
            if self.tail - self.head == SLOTS as u64 {
                // Acquire: pairs with the reader's release store.
                self.head = self.theirs.load(HEAD_WORD, Ordering::Acquire);
                if self.tail - self.head == SLOTS as u64 {
                    break;
                }
            }
            let (mine, byte) = (&self.mine, slot_byte(self.tail, self.size));
            let word = byte / 8;
            let head = [self.tail, GENERATION, frame.len() as u64];
            let checksum = mine.copy_in_summed(byte + HEADER_BYTES, frame, head);
            mine.store(word + 1, GENERATION, Ordering::Relaxed);
            mine.store(word + 2, frame.len() as u64, Ordering::Relaxed);
            mine.store(word + 3, checksum, Ordering::Relaxed);
            // Release where it is the commit: pairs with the reader's acquire load.
            mine.store(word, self.tail + 1, Ordering::Release);
            self.tail += 1;
            if COMMIT != SLOT {
                mine.store(TAIL_WORD, self.tail, Ordering::Release);
            }
            count += 1;
        }
        if count > 0 {
            // Partner: the fence before the reader sleeps.
            fence(Ordering::SeqCst);
            if self.theirs.load(NAP_WORD, Ordering::Acquire) % 2 == 1 {
                write(&self.bell, &1u64.to_ne_bytes())?;
            }
        }
        Ok(count)
    }
}

impl<const COMMIT: u8> CommitReader<COMMIT> {
    /// Frames known to be there: by the slot's word one at a time, by the tail all at once.
    fn available(&self) -> io::Result<u64> {
        let theirs = &self.theirs;
        let word = slot_byte(self.head, self.size) / 8;
        if COMMIT == SLOT || COMMIT == HINT {
            // Acquire: pairs with the writer's release store of this word.
            let came = theirs.load(word, Ordering::Acquire) == self.head + 1;
            if COMMIT == SLOT || !came {
                return Ok(u64::from(came));
            }
        }
        // Acquire: pairs with the commit.
        let tail = theirs.load(TAIL_WORD, Ordering::Acquire);
        let used = tail.wrapping_sub(self.head);
        if used > SLOTS as u64 {
            return Err(io::Error::other("the tail cannot be"));
        }
        if COMMIT == TOUCH && used == 0 {
            for line in 0..stride(self.size) / 64 {
                std::hint::black_box(theirs.load(word + line * 8, Ordering::Relaxed));
            }
        }
        Ok(used)
    }

    fn copy_checked(&mut self, seq: u64) -> io::Result<()> {
        let byte = slot_byte(seq, self.size);
        let words: [u64; 4] =
            std::array::from_fn(|at| self.theirs.load(byte / 8 + at, Ordering::Relaxed));
        let [stamp, generation, length, checksum] = words;
        let fits = length as usize <= stride(self.size) - HEADER_BYTES;
        if stamp != seq + 1 || generation != GENERATION || !fits {
            return Err(io::Error::other("a header cannot be"));
        }
        self.copy.resize(length as usize, 0);
        let head = [seq, generation, length];
        let found = self
            .theirs
            .copy_out_summed(byte + HEADER_BYTES, &mut self.copy, head);
        if found != checksum {
            return Err(io::Error::other("a checksum does not match"));
        }
        Ok(())
    }

    fn sleep(&self) -> io::Result<()> {
        let nap = self.mine.load(NAP_WORD, Ordering::Relaxed);
        // Release: pairs with the writer's acquire load.
        self.mine.store(NAP_WORD, nap + 1, Ordering::Release);
        // Partner: the fence after the commit.
        fence(Ordering::SeqCst);
        if self.available()? == 0 {
            read(&self.bell, &mut [0; 8])?;
        }
        self.mine.store(NAP_WORD, nap + 2, Ordering::Release);
        Ok(())
    }
}

impl<const COMMIT: u8> Reader for CommitReader<COMMIT> {
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let mut known = self.available()?;
        while known == 0 {
            if self.mode == Mode::Poll {
                return Ok(0);
            }
            self.sleep()?;
            known = self.available()?;
        }
        let first = self.head;
        while known > 0 && ((self.head - first) as usize) < most {
            self.copy_checked(self.head)?;
            each(&self.copy);
            self.head += 1;
            known -= 1;
            if COMMIT == SLOT {
                known = self.available()?;
            }
        }
        // Release: pairs with the writer's acquire load.
        self.mine.store(HEAD_WORD, self.head, Ordering::Release);
        // As the product does before it looks whether the producer sleeps.
        fence(Ordering::SeqCst);
        Ok((self.head - first) as usize)
    }
}

fn take(end: &mut End) -> io::Result<[OwnedFd; 3]> {
    let fds = std::mem::take(&mut end.fds);
    let fds: Result<[OwnedFd; 3], _> = fds.try_into();
    fds.map_err(|_| io::Error::other("three descriptors are needed"))
}

impl<const COMMIT: u8> Transport for Commit<COMMIT> {
    type Writer = CommitWriter<COMMIT>;
    type Reader = CommitReader<COMMIT>;

    fn create(_: &Path, size: usize) -> io::Result<Channel> {
        let producer = region::create("producer", producer_bytes(size))?;
        let consumer = region::create("consumer", CONSUMER_BYTES)?;
        let bell: OwnedFd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?.into();
        Ok(Channel {
            reader: vec![
                region::read_only(producer.as_fd())?,
                consumer.try_clone()?,
                bell.try_clone()?,
            ],
            writer: vec![producer, region::read_only(consumer.as_fd())?, bell],
            ..Channel::default()
        })
    }

    fn writer(mut end: End) -> io::Result<CommitWriter<COMMIT>> {
        let [mine, theirs, bell] = take(&mut end)?;
        Ok(CommitWriter {
            mine: WriteRegion::map(mine.as_fd(), producer_bytes(end.size))?,
            theirs: ReadRegion::map(theirs.as_fd(), CONSUMER_BYTES)?,
            bell,
            size: end.size,
            tail: 0,
            head: 0,
        })
    }

    fn reader(mut end: End) -> io::Result<CommitReader<COMMIT>> {
        let [theirs, mine, bell] = take(&mut end)?;
        Ok(CommitReader {
            theirs: ReadRegion::map(theirs.as_fd(), producer_bytes(end.size))?,
            mine: WriteRegion::map(mine.as_fd(), CONSUMER_BYTES)?,
            bell,
            size: end.size,
            mode: end.mode,
            head: 0,
            copy: Vec::new(),
        })
    }
}
