//! Devices that connect over TLS: whom they trust, and their connections.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Most bytes of one record.
const RECORD_BYTES: usize = 4 * 1024;

/// Why a fleet trusts nobody.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file has no certificate of an authority.
    #[error("no certificate of an authority in PEM form")]
    Authority,
    /// The name is no host's.
    #[error("{0:?} is not the name of a host")]
    Name(String),
    /// The TLS library refuses.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// Whom devices trust.
#[derive(Clone, Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// A server with this name or address, whose certificate one of these authorities signed.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(authorities_pem: &[u8], name: &str) -> Result<Trust, TrustError> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities_pem) {
            roots.add(authority.map_err(|_| TrustError::Authority)?)?;
        }
        if roots.is_empty() {
            return Err(TrustError::Authority);
        }
        let server = ServerName::try_from(name.to_owned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust {
            config: Arc::new(config),
            name: server.map_err(|_| TrustError::Name(name.to_owned()))?,
        })
    }
}

/// A connection whose handshake is done.
pub(crate) struct Stream {
    socket: TcpStream,
    session: ClientConnection,
}

/// A socket as the TLS library reads and writes it: what it cannot do at once would block.
struct AtOnce<'a>(&'a TcpStream);

impl Read for AtOnce<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// Shakes hands.
    pub(crate) async fn connect(socket: TcpStream, trust: &Trust) -> io::Result<Stream> {
        let session = ClientConnection::new(Arc::clone(&trust.config), trust.name.clone());
        let session = session.map_err(io::Error::other)?;
        let mut stream = Stream { socket, session };
        while stream.session.is_handshaking() {
            let done = if stream.session.wants_write() {
                stream.socket.writable().await?;
                stream.flush()
            } else {
                stream.socket.readable().await?;
                stream.take_in()
            };
            match done {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(stream)
    }

    /// Writes what it can take at once.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let bytes = &bytes[..bytes.len().min(RECORD_BYTES)];
        self.session.writer().write_all(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What was encrypted and found no room leaves while the device waits for its answers.
        while self.session.wants_write() && self.socket.poll_write_ready(cx)?.is_ready() {
            match self.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                _ => {}
            }
        }
        loop {
            match self.session.reader().read(to.initialize_unfilled()) {
                Ok(count) => {
                    to.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                Err(_) => {}
            }
            ready!(self.socket.poll_read_ready(cx))?;
            match self.take_in() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    fn take_in(&mut self) -> io::Result<()> {
        let count = self.session.read_tls(&mut AtOnce(&self.socket))?;
        self.session
            .process_new_packets()
            .map_err(io::Error::other)?;
        if count == 0 && self.session.is_handshaking() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut AtOnce(&self.socket))?;
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.send_close_notify();
        // The connection ends anyway.
        let _ = self.flush();
    }
}
