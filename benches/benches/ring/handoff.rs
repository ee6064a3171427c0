//! What the machine itself takes: L, one cache line from core to core; S, one small `read`.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use benches::clock;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{ftruncate, read};

use crate::frame;
use crate::raw::Memory;
use crate::transport::{Channel, End, Reader, Transport, Writer};

/// A word that goes from core to core and nothing else: the shortest hop there can be.
pub struct Line;

/// Either end.
pub struct LineEnd {
    memory: Memory,
    seq: u64,
    frame: Vec<u8>,
}

const BYTES: usize = 4096;

impl LineEnd {
    fn open(end: End) -> io::Result<LineEnd> {
        let frame = vec![0; end.size];
        Ok(LineEnd {
            memory: Memory::map(end.only_fd()?, BYTES)?,
            seq: 0,
            frame,
        })
    }
}

/// Stands for the last frame, whose words do not travel.
const LAST: u64 = u64::MAX;

impl Writer for LineEnd {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        self.seq += 1;
        let word = if frame::is_end(frames) {
            LAST
        } else {
            self.seq
        };
        // Release: there is nothing before it to see, but that is how a ring would commit.
        self.memory.word(0).store(word, Ordering::Release);
        Ok(1)
    }
}

impl Reader for LineEnd {
    fn receive(&mut self, _: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let word = self.memory.word(0).load(Ordering::Acquire);
        if word == self.seq {
            return Ok(0);
        }
        match word {
            LAST => frame::write_end(&mut self.frame, self.seq),
            _ => frame::write(&mut self.frame, self.seq, 0),
        }
        self.seq += 1;
        each(&self.frame);
        Ok(1)
    }
}

impl Transport for Line {
    type Writer = LineEnd;
    type Reader = LineEnd;

    fn create(_: &Path, _: usize) -> io::Result<Channel> {
        let memory = memfd_create("line", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&memory, BYTES as i64)?;
        Ok(Channel {
            writer: vec![memory.try_clone()?],
            reader: vec![memory],
            ..Channel::default()
        })
    }

    fn writer(end: End) -> io::Result<LineEnd> {
        LineEnd::open(end)
    }

    fn reader(end: End) -> io::Result<LineEnd> {
        LineEnd::open(end)
    }
}

/// Microseconds of one `read` of 64 bytes from a file that is always full.
///
/// # Errors
/// What the kernel says.
pub fn small_read() -> io::Result<f64> {
    const READS: u32 = 20_000;
    let zeros = std::fs::File::open("/dev/zero")?;
    let mut bytes = [0; 64];
    let began = clock::now();
    for _ in 0..READS {
        read(&zeros, &mut bytes)?;
    }
    Ok((clock::now() - began) as f64 / 1_000.0 / f64::from(READS))
}
