//! Shared memory between processes: the one place that maps it.
//!
//! A region is a sealed memfd, mapped as 64-bit words. Another process may write to it at any time, so nothing here
//! hands out a reference to its bytes: words are atomics, and bytes are copied to or from private memory word by word.
//! What the words mean is left to `ring`, `table` and `stats`, as is every check of what was read.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod, fstat};

use super::checksum;
use super::steps::step;

/// Bytes of a word.
pub const WORD_BYTES: usize = 8;

/// Bytes of the four words that are copied and summed at a time.
const FOUR_BYTES: usize = 4 * WORD_BYTES;

/// Most bytes of one region.
pub const REGION_BYTES_MAX: usize = 1 << 30;

/// Makes a region of zeros that can neither shrink nor grow nor be sealed further, with all its memory reserved.
///
/// `bytes` is rounded up to whole words. The descriptor is readable and writable; [`read_only`] makes one that is not.
///
/// # Errors
/// What the kernel says, such as no memory; `InvalidInput` for zero or more than [`REGION_BYTES_MAX`] bytes.
pub fn create(name: &str, bytes: usize) -> io::Result<OwnedFd> {
    if bytes == 0 || bytes > REGION_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("cannot create region of {bytes} bytes: not in 1..={REGION_BYTES_MAX}"),
        ));
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let noexec = MFdFlags::from_bits_retain(nix::libc::MFD_NOEXEC_SEAL);
    // Kernels before 6.3 do not know the flag and say EINVAL; there the region is merely not barred from execution.
    let fd = match memfd_create(name, flags | noexec) {
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        made => made?,
    };
    let bytes = bytes.next_multiple_of(WORD_BYTES);
    // Reserved in full: a page that cannot be had later would be a bus error in the middle of a store.
    fallocate(&fd, FallocateFlags::empty(), 0, bytes as i64)?;
    // With write permission on the inode, who holds a read-only descriptor could open it anew for writing by procfs.
    fchmod(&fd, Mode::S_IRUSR)?;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals()))?;
    Ok(fd)
}

/// A second descriptor of the same region through which it cannot be mapped writable.
///
/// # Errors
/// What the kernel says; procfs must be mounted.
pub fn read_only(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // A memfd has no name to open it by, and a duplicate would share the access mode.
    let by_number = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(File::open(by_number)?.into())
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Checks that a received descriptor is a region that nobody can shrink under us, and returns its bytes.
fn check(fd: BorrowedFd<'_>, bytes_min: usize) -> io::Result<usize> {
    let refuse = |why: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("cannot map region: {why}"),
        )
    };
    // A file that is no memfd has no seals and says EINVAL.
    let held =
        fcntl(fd, FcntlArg::F_GET_SEALS).map_err(|_| refuse("it cannot be sealed".into()))?;
    if !SealFlag::from_bits_retain(held).contains(seals()) {
        return Err(refuse("it is not sealed".into()));
    }
    let bytes = usize::try_from(fstat(fd)?.st_size).unwrap_or(0);
    if bytes < bytes_min.max(WORD_BYTES) || bytes > REGION_BYTES_MAX {
        return Err(refuse(format!(
            "it has {bytes} bytes, {bytes_min} are needed"
        )));
    }
    Ok(bytes)
}

/// A mapping, seen as words.
struct Map {
    raw: MmapRaw,
    words: usize,
}

impl Map {
    fn words(&self) -> &[AtomicU64] {
        let start = self.raw.as_ptr().cast::<AtomicU64>();
        // SAFETY: `raw` maps at least `words * 8` bytes, page-aligned, for as long as `self` lives; `check` saw the
        // seals that keep the file from shrinking, so every page stays backed. Other processes write these bytes;
        // atomics are the type for which that is allowed. Where the mapping is read-only, only `ReadRegion` has it,
        // and that does nothing but relaxed loads.
        unsafe { std::slice::from_raw_parts(start, self.words) }
    }

    fn copy_out_summed(&self, byte_offset: usize, out: &mut [u8], head: [u64; 3]) -> u64 {
        let words = self.words_from(byte_offset, out.len());
        let (fours, rest) = out.as_chunks_mut::<FOUR_BYTES>();
        let (word_fours, word_rest) = words.split_at(fours.len() * 4);
        let copied = fours
            .iter_mut()
            .zip(word_fours.as_chunks().0)
            .map(|(bytes, words)| {
                let four = words.each_ref().map(|word| word.load(Ordering::Relaxed));
                *bytes = checksum::to_bytes(four);
                four
            });
        let last = (!rest.is_empty()).then(|| {
            let mut bytes = [0; FOUR_BYTES];
            for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(word_rest) {
                *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            }
            rest.copy_from_slice(&bytes[..rest.len()]);
            // What lies behind the record in its last word is no part of it.
            bytes[rest.len()..].fill(0);
            checksum::to_words(bytes)
        });
        sum(head, copied, last)
    }

    /// The words that begin at a byte and hold the next `bytes`.
    fn words_from(&self, byte_offset: usize, bytes: usize) -> &[AtomicU64] {
        let first = first_word(byte_offset);
        &self.words()[first..first + bytes.div_ceil(WORD_BYTES)]
    }

    fn copy_out(&self, byte_offset: usize, out: &mut [u8]) {
        let words = &self.words()[first_word(byte_offset)..];
        assert!(
            out.len().div_ceil(WORD_BYTES) <= words.len(),
            "the copy ends inside the region"
        );
        let (whole, rest) = out.as_chunks_mut::<WORD_BYTES>();
        for (chunk, word) in whole.iter_mut().zip(words) {
            *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        if !rest.is_empty() {
            let last = words[whole.len()].load(Ordering::Relaxed).to_ne_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

/// The checksum of what `fours` and `last` copy, with three words before it.
#[inline]
fn sum(head: [u64; 3], fours: impl Iterator<Item = [u64; 4]>, last: Option<[u64; 4]>) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: this processor has the instructions, as was just asked.
        return unsafe { checksum::by_instruction(head, fours, last) };
    }
    checksum::by_table(head, fours, last)
}

fn first_word(byte_offset: usize) -> usize {
    assert!(
        byte_offset.is_multiple_of(WORD_BYTES),
        "offsets are whole words"
    );
    byte_offset / WORD_BYTES
}

/// A region that this process reads and another one writes.
pub struct ReadRegion {
    map: Map,
}

impl ReadRegion {
    /// Maps a region read-only after checking its seals and size.
    ///
    /// # Errors
    /// `InvalidData` when it is not sealed or has fewer than `bytes_min` bytes, else what the kernel says.
    pub fn map(fd: BorrowedFd<'_>, bytes_min: usize) -> io::Result<ReadRegion> {
        let bytes = check(fd, bytes_min)?;
        let raw = MmapOptions::new().len(bytes).map_raw_read_only(&fd)?;
        let words = bytes / WORD_BYTES;
        Ok(ReadRegion {
            map: Map { raw, words },
        })
    }

    /// Bytes of the region.
    pub fn len(&self) -> usize {
        self.map.words * WORD_BYTES
    }

    /// Never: an empty region cannot be mapped.
    pub fn is_empty(&self) -> bool {
        self.map.words == 0
    }

    /// Loads a word by its index.
    ///
    /// # Panics
    /// When `word` is outside the region, or `order` is for stores.
    pub fn load(&self, word: usize, order: Ordering) -> u64 {
        // Only relaxed loads are promised to work on pages mapped read-only; a fence behind one makes it an acquire.
        let value = self.map.words()[word].load(Ordering::Relaxed);
        if order != Ordering::Relaxed {
            fence(order);
        }
        value
    }

    /// As [`ReadRegion::copy_out`], and returns the checksum of `head` and of the copy.
    ///
    /// # Panics
    /// As [`ReadRegion::copy_out`].
    pub fn copy_out_summed(&self, byte_offset: usize, out: &mut [u8], head: [u64; 3]) -> u64 {
        self.map.copy_out_summed(byte_offset, out, head)
    }

    /// Copies bytes out with relaxed loads: whole only if the caller's protocol says so.
    ///
    /// # Panics
    /// When `byte_offset` is not a multiple of 8 or the copy runs over the end.
    pub fn copy_out(&self, byte_offset: usize, out: &mut [u8]) {
        self.map.copy_out(byte_offset, out);
    }
}

/// A region that this process writes and others read.
pub struct WriteRegion {
    map: Map,
}

impl WriteRegion {
    /// Maps a region readable and writable after checking its seals and size.
    ///
    /// # Errors
    /// `InvalidData` when it is not sealed or has fewer than `bytes_min` bytes, else what the kernel says, such as
    /// that the descriptor is read-only.
    pub fn map(fd: BorrowedFd<'_>, bytes_min: usize) -> io::Result<WriteRegion> {
        let bytes = check(fd, bytes_min)?;
        let raw = MmapOptions::new().len(bytes).map_raw(&fd)?;
        let words = bytes / WORD_BYTES;
        Ok(WriteRegion {
            map: Map { raw, words },
        })
    }

    /// Bytes of the region.
    pub fn len(&self) -> usize {
        self.map.words * WORD_BYTES
    }

    /// Never: an empty region cannot be mapped.
    pub fn is_empty(&self) -> bool {
        self.map.words == 0
    }

    /// Loads a word by its index.
    ///
    /// # Panics
    /// When `word` is outside the region, or `order` is for stores.
    pub fn load(&self, word: usize, order: Ordering) -> u64 {
        self.map.words()[word].load(order)
    }

    /// Stores a word by its index.
    ///
    /// # Panics
    /// When `word` is outside the region, or `order` is for loads.
    pub fn store(&self, word: usize, value: u64, order: Ordering) {
        step();
        self.map.words()[word].store(value, order);
    }

    /// Adds to a word, wrapping, and returns what it was.
    ///
    /// # Panics
    /// When `word` is outside the region.
    pub fn fetch_add(&self, word: usize, value: u64, order: Ordering) -> u64 {
        step();
        self.map.words()[word].fetch_add(value, order)
    }

    /// As [`WriteRegion::copy_in`], and returns the checksum of `head` and of what was copied.
    ///
    /// # Panics
    /// As [`WriteRegion::copy_in`].
    pub fn copy_in_summed(&self, byte_offset: usize, bytes: &[u8], head: [u64; 3]) -> u64 {
        let words = self.map.words_from(byte_offset, bytes.len());
        let (fours, rest) = bytes.as_chunks::<FOUR_BYTES>();
        let (word_fours, word_rest) = words.split_at(fours.len() * 4);
        let copy = |four: [u64; 4], words: &[AtomicU64]| {
            for (word, value) in words.iter().zip(four) {
                step();
                word.store(value, Ordering::Relaxed);
            }
            four
        };
        let word_fours = word_fours.chunks_exact(4);
        let copied = fours
            .iter()
            .zip(word_fours)
            .map(|(bytes, words)| copy(checksum::to_words(*bytes), words));
        let last = (!rest.is_empty()).then(|| {
            let mut bytes = [0; FOUR_BYTES];
            bytes[..rest.len()].copy_from_slice(rest);
            copy(checksum::to_words(bytes), word_rest)
        });
        sum(head, copied, last)
    }

    /// As [`ReadRegion::copy_out_summed`].
    ///
    /// # Panics
    /// As [`ReadRegion::copy_out`].
    pub fn copy_out_summed(&self, byte_offset: usize, out: &mut [u8], head: [u64; 3]) -> u64 {
        self.map.copy_out_summed(byte_offset, out, head)
    }

    /// Copies bytes in with relaxed stores; the rest of the last word becomes zeros.
    ///
    /// # Panics
    /// When `byte_offset` is not a multiple of 8 or the copy runs over the end.
    pub fn copy_in(&self, byte_offset: usize, bytes: &[u8]) {
        let words = &self.map.words()[first_word(byte_offset)..];
        assert!(
            bytes.len().div_ceil(WORD_BYTES) <= words.len(),
            "the copy ends inside the region"
        );
        let (whole, rest) = bytes.as_chunks::<WORD_BYTES>();
        for (chunk, word) in whole.iter().zip(words) {
            step();
            word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let mut padded = [0; WORD_BYTES];
            padded[..rest.len()].copy_from_slice(rest);
            step();
            words[whole.len()].store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
    }

    /// Copies bytes out, as [`ReadRegion::copy_out`].
    ///
    /// # Panics
    /// When `byte_offset` is not a multiple of 8 or the copy runs over the end.
    pub fn copy_out(&self, byte_offset: usize, out: &mut [u8]) {
        self.map.copy_out(byte_offset, out);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn bytes_written_on_one_side_are_read_on_the_other() {
        let fd = create("test", 4096).unwrap();
        let writer = WriteRegion::map(fd.as_fd(), 4096).unwrap();
        let reader = ReadRegion::map(read_only(fd.as_fd()).unwrap().as_fd(), 4096).unwrap();
        writer.copy_in(16, b"thirteen chars");
        let mut out = [0; 14];
        reader.copy_out(16, &mut out);
        assert_eq!(&out, b"thirteen chars");
        writer.store(511, 7, Ordering::Release);
        assert_eq!(reader.load(511, Ordering::Acquire), 7);
    }

    #[test]
    fn a_region_of_an_odd_size_is_whole_words() {
        let fd = create("test", 13).unwrap();
        assert_eq!(ReadRegion::map(fd.as_fd(), 13).unwrap().len(), 16);
    }

    #[test]
    fn bytes_are_copied_and_summed_whatever_their_number() {
        let fd = create("test", 4096).unwrap();
        let writer = WriteRegion::map(fd.as_fd(), 4096).unwrap();
        let reader = ReadRegion::map(read_only(fd.as_fd()).unwrap().as_fd(), 4096).unwrap();
        let bytes: Vec<u8> = (0..200u32).map(|n| (n * n % 251) as u8).collect();
        for length in 0..bytes.len() {
            let head = [7, u64::MAX - 3, length as u64];
            // What the slot held before must not matter.
            writer.copy_in(64, &[0xff; 256]);
            let expected = checksum::tests::bit_by_bit(head, &bytes[..length]);
            let written = writer.copy_in_summed(64, &bytes[..length], head);
            if !length.is_multiple_of(WORD_BYTES) {
                // What stands behind the bytes in their last word is no part of them.
                let (word, used) = (8 + length / WORD_BYTES, length % WORD_BYTES * 8);
                let value = writer.load(word, Ordering::Relaxed);
                writer.store(word, value ^ u64::MAX << used, Ordering::Relaxed);
            }
            let mut copy = vec![0; length];
            let read = reader.copy_out_summed(64, &mut copy, head);
            assert_eq!((written, read), (expected, expected), "{length} bytes");
            assert_eq!(copy, bytes[..length]);
        }
    }

    #[test]
    fn an_unsealed_or_foreign_descriptor_is_refused() {
        let open = memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        nix::unistd::ftruncate(&open, 4096).unwrap();
        let error = ReadRegion::map(open.as_fd(), 64).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert!(WriteRegion::map(file.as_fd(), 64).is_err());
    }

    #[test]
    fn a_short_region_is_refused() {
        let fd = create("test", 64).unwrap();
        assert!(ReadRegion::map(fd.as_fd(), 72).is_err());
        assert!(ReadRegion::map(fd.as_fd(), 64).is_ok());
    }

    #[test]
    fn a_region_can_neither_shrink_nor_grow() {
        let fd = create("test", 4096).unwrap();
        assert!(nix::unistd::ftruncate(&fd, 0).is_err());
        assert!(nix::unistd::ftruncate(&fd, 8192).is_err());
    }

    #[test]
    fn a_read_only_descriptor_cannot_be_mapped_writable() {
        let fd = create("test", 4096).unwrap();
        let reading = read_only(fd.as_fd()).unwrap();
        assert!(WriteRegion::map(reading.as_fd(), 4096).is_err());
    }

    #[test]
    fn a_size_out_of_range_is_refused() {
        for bytes in [0, REGION_BYTES_MAX + 1] {
            assert_eq!(
                create("test", bytes).err().unwrap().kind(),
                io::ErrorKind::InvalidInput
            );
        }
    }
}
