//! Sockets and files that the supervisor opens for its children and keeps: a restart of a child refuses nobody.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

use crate::config::{Address, operator_file};

/// Connections that the kernel holds while nobody accepts: a fleet that comes back at once after a cut.
const BACKLOG: i32 = 4_096;

/// Bytes of datagrams that the kernel is asked to hold while nobody reads, as while an ingest starts again; it gives up
/// to `net.core.rmem_max`.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Why a socket or file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is taken, not ours, or its name is unknown.
    #[error("cannot listen on {address} for {who}: {cause}{}", advice(cause))]
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
    let open = || -> io::Result<(OwnedFd, SocketAddr)> {
        let socket = bound(address, SockType::Stream)?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        let listener = TcpListener::from(socket);
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
    let open = || -> io::Result<(OwnedFd, SocketAddr)> {
        let socket = UdpSocket::from(bound(address, SockType::Datagram)?);
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        let real = socket.local_addr()?;
        Ok((socket.into(), real))
    };
    open().map_err(|cause| OpenError::Listen {
        address: address.into(),
        who: who.into(),
        cause,
    })
}

/// A socket at this address, which never blocks.
fn bound(address: &str, kind: SockType) -> io::Result<OwnedFd> {
    let address = located(address)?;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None)?;
    if family == AddressFamily::Inet6 {
        // `[::]` takes IPv4 too, whatever net.ipv6.bindv6only says.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    if kind == SockType::Stream {
        // Connections of the last run that still fade away do not keep the port.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// The address with the number that its interface has now.
fn located(address: &str) -> io::Result<SocketAddr> {
    let parsed = Address::parse(address);
    let parsed = parsed.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    let mut socket_address = parsed.address;
    if let (SocketAddr::V6(six), Some(interface)) = (&mut socket_address, &parsed.interface) {
        let number = if_nametoindex(interface.as_str()).map_err(|errno| {
            io::Error::new(
                io::Error::from(errno).kind(),
                format!("no interface {interface}"),
            )
        })?;
        six.set_scope_id(number);
    }
    Ok(socket_address)
}

/// What can be done, where the system's words do not say it.
fn advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT) => {
            "; this system has no IPv6: listen on an address of IPv4, such as 0.0.0.0"
        }
        Some(Errno::EADDRNOTAVAIL) => {
            "; no interface has it now: see `ip address`, or listen on 0.0.0.0 or [::]"
        }
        Some(Errno::EADDRINUSE) => "; see `ss -lntup` for who has it",
        Some(Errno::EACCES) => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

/// A file to read.
pub fn file(path: &str, who: &str) -> Result<OwnedFd, OpenError> {
    operator_file::open(path)
        .map(OwnedFd::from)
        .map_err(|cause| OpenError::File {
            path: path.into(),
            who: who.into(),
            cause,
        })
}
