//! Byte streams of the kernel: anonymous pipe, FIFO, Unix stream socket. Frames have one size, so that their borders
//! can be found again; what was read of an incomplete frame is kept for the next read.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode as Permissions;
use nix::unistd::{mkfifo, pipe2, read, write};

use crate::transport::{BATCH_FRAMES, Channel, End, Mode, Reader, Transport, Writer};

/// The writing end of a stream.
pub struct StreamWriter {
    fd: OwnedFd,
    size: usize,
    /// Bytes of the first frame that were written by an earlier call.
    begun: usize,
}

/// The reading end of a stream.
pub struct StreamReader {
    fd: OwnedFd,
    size: usize,
    buffer: Vec<u8>,
    filled: usize,
}

/// Makes reads and writes of an end say `EAGAIN` instead of waiting.
pub fn set_mode(fd: impl AsFd, mode: Mode) -> io::Result<()> {
    let flags = match mode {
        Mode::Poll => OFlag::O_NONBLOCK,
        Mode::Sleep => OFlag::empty(),
    };
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

impl StreamWriter {
    fn open(end: End) -> io::Result<StreamWriter> {
        let (size, mode) = (end.size, end.mode);
        let fd = end.only_fd()?;
        set_mode(&fd, mode)?;
        Ok(StreamWriter { fd, size, begun: 0 })
    }
}

impl Writer for StreamWriter {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        let written = match write(&self.fd, &frames[self.begun..]) {
            Ok(bytes) => self.begun + bytes,
            Err(Errno::EAGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        self.begun = written % self.size;
        Ok(written / self.size)
    }
}

impl StreamReader {
    fn open(end: End) -> io::Result<StreamReader> {
        let (size, mode) = (end.size, end.mode);
        let fd = end.only_fd()?;
        set_mode(&fd, mode)?;
        Ok(StreamReader {
            fd,
            size,
            buffer: vec![0; size * BATCH_FRAMES],
            filled: 0,
        })
    }
}

impl Reader for StreamReader {
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let end = self.size * most.min(BATCH_FRAMES);
        match read(&self.fd, &mut self.buffer[self.filled..end]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => self.filled += bytes,
            Err(Errno::EAGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let whole = self.filled / self.size;
        let bytes = whole * self.size;
        self.buffer[..bytes].chunks_exact(self.size).for_each(each);
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
        Ok(whole)
    }
}

/// What the streams differ in: how one is made.
pub trait Stream {
    /// As [`Transport::create`]; a stream has no borders, so the size of a frame is all one to it.
    ///
    /// # Errors
    /// What the kernel says.
    fn create(folder: &Path) -> io::Result<Channel>;
}

impl<S: Stream> Transport for S {
    type Writer = StreamWriter;
    type Reader = StreamReader;

    fn create(folder: &Path, _: usize) -> io::Result<Channel> {
        <S as Stream>::create(folder)
    }

    fn writer(end: End) -> io::Result<StreamWriter> {
        StreamWriter::open(end)
    }

    fn reader(end: End) -> io::Result<StreamReader> {
        StreamReader::open(end)
    }
}

/// An anonymous pipe of the usual 64 KiB.
pub struct Pipe;

impl Stream for Pipe {
    fn create(_: &Path) -> io::Result<Channel> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(between(writer, reader))
    }
}

/// A named pipe.
pub struct Fifo;

impl Stream for Fifo {
    fn create(folder: &Path) -> io::Result<Channel> {
        let path = tempfile::Builder::new()
            .prefix("fifo")
            .make_in(folder, |path| {
                mkfifo(path, Permissions::S_IRUSR | Permissions::S_IWUSR).map_err(io::Error::from)
            })?;
        let (_, path) = path.keep().map_err(|error| error.error)?;
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        // Reading first: a FIFO without a reader cannot be opened for writing.
        let reader = open(&path, flags | OFlag::O_RDONLY, Permissions::empty())?;
        let writer = open(&path, flags | OFlag::O_WRONLY, Permissions::empty())?;
        Ok(between(writer, reader))
    }
}

/// A pair of Unix stream sockets.
pub struct UnixStream;

impl Stream for UnixStream {
    fn create(_: &Path) -> io::Result<Channel> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (writer, reader) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        Ok(between(writer, reader))
    }
}

/// A channel of one descriptor a side.
pub fn between(writer: OwnedFd, reader: OwnedFd) -> Channel {
    Channel {
        writer: vec![writer],
        reader: vec![reader],
        ..Channel::default()
    }
}
