//! Sockets and files that the supervisor opens for its children and keeps: a restart of a child refuses nobody.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};

/// Connections that the kernel holds while nobody accepts: a fleet that comes back at once after a cut.
const BACKLOG: i32 = 4_096;

/// Bytes of datagrams that the kernel is asked to hold while nobody reads, as while an ingest starts again; it gives up
/// to `net.core.rmem_max`.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Why a socket or file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is taken, not ours, or its name is unknown.
    #[error("cannot listen on {address} for {who}: {cause}")]
    Listen {
        /// As configured.
        address: String,
        /// The sensor or role.
        who: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The file cannot be read.
    #[error("cannot open {path} for {who}: {cause}")]
    File {
        /// As configured.
        path: String,
        /// The sensor or role.
        who: String,
        /// Why.
        cause: std::io::Error,
    },
}

/// A listening TCP socket and the address that it really has.
pub fn tcp(address: &str, who: &str) -> Result<(OwnedFd, SocketAddr), OpenError> {
    let open = || -> std::io::Result<(OwnedFd, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        // A second call on the same socket only changes the backlog.
        listen(&listener, Backlog::new(BACKLOG)?)?;
        listener.set_nonblocking(true)?;
        let real = listener.local_addr()?;
        Ok((listener.into(), real))
    };
    open().map_err(|cause| OpenError::Listen {
        address: address.into(),
        who: who.into(),
        cause,
    })
}

/// A bound UDP socket, which counts what it has no room for, and the address that it really has.
pub fn udp(address: &str, who: &str) -> Result<(OwnedFd, SocketAddr), OpenError> {
    let open = || -> std::io::Result<(OwnedFd, SocketAddr)> {
        let socket = UdpSocket::bind(address)?;
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        socket.set_nonblocking(true)?;
        let real = socket.local_addr()?;
        Ok((socket.into(), real))
    };
    open().map_err(|cause| OpenError::Listen {
        address: address.into(),
        who: who.into(),
        cause,
    })
}

/// A file to read.
pub fn file(path: &str, who: &str) -> Result<OwnedFd, OpenError> {
    File::open(path)
        .map(OwnedFd::from)
        .map_err(|cause| OpenError::File {
            path: path.into(),
            who: who.into(),
            cause,
        })
}
