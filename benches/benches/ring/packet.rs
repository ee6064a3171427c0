//! Unix seqpacket sockets: one frame is one packet; many of them take one call.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use std::os::fd::AsRawFd;

use crate::raw::PacketHeaders;
use crate::stream::{between, set_mode};
use crate::transport::{BATCH_FRAMES, Channel, End, Reader, Transport, Writer};

/// A pair of Unix seqpacket sockets.
pub struct UnixPacket;

/// Either end.
pub struct PacketEnd {
    fd: OwnedFd,
    size: usize,
    headers: PacketHeaders,
    buffer: Vec<u8>,
}

impl PacketEnd {
    fn open(end: End) -> io::Result<PacketEnd> {
        let (size, mode) = (end.size, end.mode);
        let fd = end.only_fd()?;
        set_mode(&fd, mode)?;
        Ok(PacketEnd {
            fd,
            size,
            headers: PacketHeaders::new(BATCH_FRAMES),
            buffer: vec![0; size * BATCH_FRAMES],
        })
    }
}

impl Writer for PacketEnd {
    fn send(&mut self, frames: &[u8]) -> io::Result<usize> {
        let sent = if frames.len() == self.size {
            send(self.fd.as_raw_fd(), frames, MsgFlags::empty()).map(|_| 1)
        } else {
            self.headers.send(self.fd.as_fd(), frames, self.size)
        };
        match sent {
            Err(Errno::EAGAIN) => Ok(0),
            sent => Ok(sent?),
        }
    }
}

impl Reader for PacketEnd {
    fn receive(&mut self, most: usize, each: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let room = &mut self.buffer[..self.size * most.min(BATCH_FRAMES)];
        let received = if most == 1 {
            recv(self.fd.as_raw_fd(), room, MsgFlags::empty()).map(|bytes| usize::from(bytes > 0))
        } else {
            self.headers.receive(self.fd.as_fd(), room, self.size)
        };
        match received {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                room[..count * self.size]
                    .chunks_exact(self.size)
                    .for_each(each);
                Ok(count)
            }
            Err(Errno::EAGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl Transport for UnixPacket {
    type Writer = PacketEnd;
    type Reader = PacketEnd;

    fn create(_: &Path, _: usize) -> io::Result<Channel> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (writer, reader) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok(between(writer, reader))
    }

    fn writer(end: End) -> io::Result<PacketEnd> {
        PacketEnd::open(end)
    }

    fn reader(end: End) -> io::Result<PacketEnd> {
        PacketEnd::open(end)
    }
}
