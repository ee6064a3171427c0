//! One UDP socket, which outlives this process: datagrams read in batches, answers sent one by one.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg,
};

/// Bytes of the longest datagram: the length field of UDP has 16 bits.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Datagrams read by one system call. Their buffers take memory only as far as datagrams were that long.
pub const BATCH_DATAGRAMS_MAX: usize = 32;

/// A socket and the last batch that was read of it.
pub struct Datagrams {
    socket: UdpSocket,
    buffer: Box<[u8]>,
    batch: Vec<(SocketAddr, usize)>,
    lost: Option<u32>,
}

impl Datagrams {
    /// Takes over a bound socket. It counts what it loses if [`nix::sys::socket::sockopt::RxqOvfl`] is set.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(socket: UdpSocket) -> io::Result<Datagrams> {
        socket.set_nonblocking(true)?;
        Ok(Datagrams {
            socket,
            buffer: vec![0; BATCH_DATAGRAMS_MAX * DATAGRAM_BYTES_MAX].into(),
            batch: Vec::with_capacity(BATCH_DATAGRAMS_MAX),
            lost: None,
        })
    }

    /// The socket, to wait for.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what is there, at most a batch, in the place of the last one; returns how many.
    ///
    /// # Errors
    /// When the socket is not usable any more.
    pub fn read(&mut self) -> io::Result<usize> {
        self.batch.clear();
        let slices = self.buffer.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let mut slices: Vec<_> = slices.map(|slice| [IoSliceMut::new(slice)]).collect();
        // Made anew each time: the kernel shortens the room for control messages to what it wrote, and nix does not
        // put it back.
        let mut headers: MultiHeaders<SockaddrStorage> =
            MultiHeaders::preallocate(BATCH_DATAGRAMS_MAX, Some(cmsg_space!(u32)));
        let got = recvmmsg(
            self.socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::empty(),
            None,
        );
        match got {
            Ok(got) => {
                for datagram in got {
                    self.lost = lost(&datagram).or(self.lost);
                    // A sender without an address cannot be, and its datagram is as good as lost.
                    let from = datagram.address.as_ref().and_then(address);
                    let from = from.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
                    self.batch.push((from, datagram.bytes));
                }
                Ok(self.batch.len())
            }
            Err(errno @ (Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK)) => Err(errno.into()),
            // Nothing there, or an error of the network about what was sent before (udp(7)).
            Err(_) => Ok(0),
        }
    }

    /// Sender and length of a datagram of the batch.
    pub fn head(&self, at: usize) -> (SocketAddr, usize) {
        self.batch[at]
    }

    /// A datagram of the batch.
    pub fn bytes(&self, at: usize) -> &[u8] {
        &self.buffer[at * DATAGRAM_BYTES_MAX..][..self.batch[at].1]
    }

    /// Datagrams that the kernel had no room for since the socket was made, modulo 2^32, as it says with each one
    /// that comes after them.
    pub fn lost(&self) -> Option<u32> {
        self.lost
    }

    /// Sends one datagram; `false` if the kernel does not take it now, or not to there.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        self.socket.send_to(bytes, to).is_ok()
    }
}

fn lost(datagram: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<u32> {
    let mut words = datagram.cmsgs().ok()?;
    words.find_map(|word| match word {
        ControlMessageOwned::RxqOvfl(lost) => Some(lost),
        _ => None,
    })
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let four = storage.as_sockaddr_in().map(|&a| SocketAddr::V4(a.into()));
    four.or_else(|| storage.as_sockaddr_in6().map(|&a| SocketAddr::V6(a.into())))
}
