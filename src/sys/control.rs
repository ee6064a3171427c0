//! The control channel between the supervisor and a child: whole messages over a seqpacket socket, with descriptors.
//!
//! A message is one packet of postcard, at most [`MESSAGE_BYTES_MAX`]. That the other side is gone is a value
//! (`None`), not an error. What the messages mean is in [`crate::role`]. [`watch`], which registers a descriptor with
//! tokio, is here because that is an unsafe call and this one of the two files that may make one.

#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
    recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Most descriptors beside one message: the kernel's own bound, so that a receiver never sees some of them cut off.
pub const DESCRIPTORS_MAX: usize = 253;

/// Why a message did not pass.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket failed.
    #[error("cannot use control channel: {0}")]
    Socket(#[from] io::Error),
    /// The other side is gone; only [`Channel::send`] says so this way.
    #[error("cannot send control message: the other side is gone")]
    Gone,
    /// The message or its descriptors exceed the limits.
    #[error("cannot pass control message: it is larger than {MESSAGE_BYTES_MAX} bytes")]
    Large,
    /// More descriptors than [`DESCRIPTORS_MAX`], or more than this process may have open.
    #[error("cannot pass control message: too many descriptors")]
    Descriptors,
    /// The bytes are not such a message.
    #[error("cannot read control message: {0}")]
    Malformed(#[from] postcard::Error),
}

/// What was received: the message and the descriptors beside it, in the order sent.
pub type Received<M> = (M, Vec<OwnedFd>);

/// One end, for callers that may block.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Two connected ends, both closed on exec.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Channel { socket: a }, Channel { socket: b }))
    }

    /// The end that a child finds as its standard input.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` when standard input is no seqpacket socket.
    pub fn from_stdin() -> io::Result<Channel> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        let kind = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::SockType);
        if kind != Ok(SockType::SeqPacket) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "standard input is no control channel",
            ));
        }
        Ok(Channel { socket })
    }

    /// Sends a message and copies of the descriptors; blocks while the socket's buffer is full.
    ///
    /// # Errors
    /// `Large`, `Descriptors` before anything is sent; `Gone`; `Socket` for what else the kernel says.
    pub fn send<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ControlError> {
        Ok(send(
            &self.socket,
            &encode(message, descriptors)?,
            descriptors,
            MsgFlags::empty(),
        )?)
    }

    /// Sends a message without descriptors if the socket's buffer has room; whether it had.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn try_send<M: Serialize>(&self, message: &M) -> Result<bool, ControlError> {
        match send(
            &self.socket,
            &encode(message, &[])?,
            &[],
            MsgFlags::MSG_DONTWAIT,
        ) {
            Err(Errno::EAGAIN) => Ok(false),
            sent => Ok(sent.map(|()| true)?),
        }
    }

    /// Receives the next message; blocks until there is one. `None`: the other side is gone.
    ///
    /// # Errors
    /// `Large`, `Descriptors` or `Malformed` lose that one message; `Socket` for what the kernel says.
    pub fn recv<M: DeserializeOwned>(&self) -> Result<Option<Received<M>>, ControlError> {
        decode(receive(&self.socket, MsgFlags::empty())?)
    }
}

impl AsFd for Channel {
    /// To be waited on, by callers that have an epoll set of their own.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.socket
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Channel {
        Channel { socket }
    }
}

/// One end, for a tokio runtime. Both calls may be cancelled: a message is passed whole or not at all.
#[derive(Debug)]
pub struct AsyncChannel {
    socket: AsyncFd<OwnedFd>,
}

impl AsyncChannel {
    /// Takes over an end. Must be called on a runtime.
    ///
    /// # Errors
    /// What the kernel says when the socket is registered.
    pub fn new(channel: Channel) -> io::Result<AsyncChannel> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(AsyncChannel {
            socket: watch(channel.socket, interest)?,
        })
    }

    /// As [`Channel::send`], without blocking the thread.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn send<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ControlError> {
        let bytes = encode(message, descriptors)?;
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, |socket| {
                send(socket, &bytes, descriptors, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
            })
            .await;
        match sent {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ControlError::Gone),
            other => Ok(other?),
        }
    }

    /// As [`Channel::recv`], without blocking the thread.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub async fn recv<M: DeserializeOwned>(&self) -> Result<Option<Received<M>>, ControlError> {
        let packet = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                receive(socket, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
            })
            .await?;
        decode(packet)
    }
}

/// Registers a descriptor with the runtime that this is called on, for the channel and for every other descriptor that
/// a role waits on: bells, timers, process handles.
///
/// # Errors
/// What the kernel says, such as that this kind of file cannot be waited on.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until it is dropped and always names the same file; the `AsyncFd` owns it and
    // deregisters before it drops it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    registered.map_err(io::Error::from)
}

fn encode<M: Serialize>(
    message: &M,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Vec<u8>, ControlError> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(ControlError::Descriptors);
    }
    let bytes = postcard::to_stdvec(message)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(ControlError::Large);
    }
    // An empty packet cannot be told from the end.
    assert!(!bytes.is_empty(), "a control message has bytes");
    Ok(bytes)
}

impl From<Errno> for ControlError {
    fn from(errno: Errno) -> ControlError {
        match errno {
            Errno::EPIPE => ControlError::Gone,
            other => ControlError::Socket(other.into()),
        }
    }
}

fn send(
    socket: &OwnedFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> nix::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let beside = if raw.is_empty() { &[] } else { &rights[..] };
    let iov = [IoSlice::new(bytes)];
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &iov, beside, flags, None) {
            Err(Errno::EINTR) => continue,
            sent => return sent.map(|_| ()),
        }
    }
}

/// One packet as it came.
struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    bytes_cut: bool,
    descriptors_cut: bool,
}

fn receive(socket: &OwnedFd, flags: MsgFlags) -> nix::Result<Option<Packet>> {
    let expected = match next_length(socket, flags) {
        Err(Errno::ECONNRESET) => return Ok(None),
        length => length?,
    };
    let mut bytes = vec![0; expected.clamp(1, MESSAGE_BYTES_MAX)];
    let mut beside = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, arrived, marks) = loop {
        let mut iov = [IoSliceMut::new(&mut bytes)];
        match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut beside), flags) {
            Err(Errno::EINTR) => continue,
            // The other side closed with messages of ours unread.
            Err(Errno::ECONNRESET) => return Ok(None),
            Err(errno) => return Err(errno),
            Ok(received) => {
                // `None` when the kernel cut descriptors off for want of free numbers; there was room for all.
                let arrived = received
                    .cmsgs()
                    .ok()
                    .map(|messages| own(messages).collect());
                break (received.bytes, arrived, received.flags);
            }
        }
    };
    let descriptors_cut = arrived.is_none();
    let descriptors: Vec<OwnedFd> = arrived.unwrap_or_default();
    if length == 0 && descriptors.is_empty() && !descriptors_cut {
        return Ok(None);
    }
    bytes.truncate(length);
    Ok(Some(Packet {
        bytes,
        descriptors,
        bytes_cut: marks.contains(MsgFlags::MSG_TRUNC),
        descriptors_cut,
    }))
}

/// Bytes of the next packet. Asked for first, because room for the largest would stay with every process for good.
fn next_length(socket: &OwnedFd, flags: MsgFlags) -> nix::Result<usize> {
    let flags = flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    loop {
        match recv(socket.as_raw_fd(), &mut [], flags) {
            Err(Errno::EINTR) => continue,
            length => return length,
        }
    }
}

fn own(messages: impl Iterator<Item = ControlMessageOwned>) -> impl Iterator<Item = OwnedFd> {
    messages
        .filter_map(|message| match message {
            ControlMessageOwned::ScmRights(raw) => Some(raw),
            _ => None,
        })
        .flatten()
        // SAFETY: the kernel has just made this descriptor for us in `recvmsg`, and nobody else knows its number.
        .map(|raw| unsafe { OwnedFd::from_raw_fd(raw) })
}

fn decode<M: DeserializeOwned>(
    packet: Option<Packet>,
) -> Result<Option<Received<M>>, ControlError> {
    match packet {
        None => Ok(None),
        Some(packet) if packet.bytes_cut => Err(ControlError::Large),
        Some(packet) if packet.descriptors_cut => Err(ControlError::Descriptors),
        Some(packet) => Ok(Some((
            postcard::from_bytes(&packet.bytes)?,
            packet.descriptors,
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors_in_order() {
        let (a, b) = Channel::pair().unwrap();
        let (mut first, second) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        first.write_all(b"first").unwrap();
        std::io::Seek::rewind(&mut first).unwrap();
        a.send(&("hello", 7u32), &[first.as_fd(), second.as_fd()])
            .unwrap();
        let ((text, number), fds) = b.recv::<(String, u32)>().unwrap().unwrap();
        assert_eq!((text.as_str(), number, fds.len()), ("hello", 7, 2));
        let mut content = String::new();
        let mut fds = fds.into_iter();
        File::from(fds.next().unwrap())
            .read_to_string(&mut content)
            .unwrap();
        assert_eq!(content, "first");
        let flags = nix::fcntl::fcntl(fds.next().unwrap(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
    }

    #[test]
    fn messages_keep_their_borders() {
        let (a, b) = Channel::pair().unwrap();
        for n in 0..10u32 {
            a.send(&n, &[]).unwrap();
        }
        for n in 0..10u32 {
            assert_eq!(b.recv::<u32>().unwrap().unwrap().0, n);
        }
    }

    #[test]
    fn the_end_is_a_value_after_the_last_message() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&1u32, &[]).unwrap();
        drop(a);
        assert_eq!(b.recv::<u32>().unwrap().unwrap().0, 1);
        assert!(b.recv::<u32>().unwrap().is_none());
        assert!(matches!(b.send(&1u32, &[]), Err(ControlError::Gone)));
    }

    #[test]
    fn an_end_that_leaves_messages_unread_is_gone_all_the_same() {
        let (a, b) = Channel::pair().unwrap();
        b.send(&1u32, &[]).unwrap();
        drop(a);
        assert!(b.recv::<u32>().unwrap().is_none());
    }

    #[test]
    fn a_message_over_the_limit_is_refused_and_the_next_one_passes() {
        let (a, b) = Channel::pair().unwrap();
        let large = vec![1u8; MESSAGE_BYTES_MAX];
        assert!(matches!(a.send(&large, &[]), Err(ControlError::Large)));
        a.send(&vec![1u8; MESSAGE_BYTES_MAX - 3], &[]).unwrap();
        assert_eq!(
            b.recv::<Vec<u8>>().unwrap().unwrap().0.len(),
            MESSAGE_BYTES_MAX - 3
        );
    }

    #[test]
    fn rubbish_is_an_error_of_that_message_only() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&255u8, &[]).unwrap();
        a.send(&1u8, &[]).unwrap();
        assert!(matches!(b.recv::<bool>(), Err(ControlError::Malformed(_))));
        assert!(b.recv::<bool>().unwrap().unwrap().0);
    }

    #[tokio::test]
    async fn the_async_ends_pass_messages_and_see_the_end() {
        let (a, b) = Channel::pair().unwrap();
        let (a, b) = (AsyncChannel::new(a).unwrap(), AsyncChannel::new(b).unwrap());
        let file = tempfile::tempfile().unwrap();
        let receiver = tokio::spawn(async move {
            let (number, fds) = b.recv::<u32>().await.unwrap().unwrap();
            (
                number,
                fds.len(),
                b.recv::<u32>().await.unwrap().is_none(),
                b,
            )
        });
        a.send(&5u32, &[file.as_fd()]).await.unwrap();
        drop(a);
        let (number, fds, ended, b) = receiver.await.unwrap();
        assert_eq!((number, fds, ended), (5, 1, true));
        assert!(matches!(b.send(&1u32, &[]).await, Err(ControlError::Gone)));
    }
}
