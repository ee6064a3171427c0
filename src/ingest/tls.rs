//! TLS on a device's connection: a machine that is driven by what the socket has or takes, as plain connections are.
//!
//! What it holds is bounded: one record of what came in, one of what goes out, and a handshake up to a limit. Bytes that
//! are decrypted already make no socket readable: [`Tls::holds`] says that there are some.

mod failure;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustls::ServerConnection;

pub use failure::Failure;

use super::connection::Got;
use crate::config::certificates::{CertificateError, Certificates, FILE_BYTES_MAX, Server};
use crate::config::x509::Facts;
use crate::config::{Identity, Tls as Settings};
use crate::frame::DeviceId;
use crate::role;

/// Bytes of answers that are encrypted before the kernel takes them, besides what may lie unread in plain.
const RECORD_BYTES: usize = 4 * 1024;

/// Bytes that a device may send until its handshake is done: a greeting and a chain of certificates.
const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

/// Time that a device has for its handshake.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;

/// Handshakes that one round goes on with, so that a flood of them does not keep known devices waiting: each costs a
/// signature. The others are reported again.
pub const HANDSHAKES_MAX: u32 = 4;

/// How long before the end of our certificate an operator is told, and how often.
const REMIND_BEFORE_S: u64 = 14 * 86_400;
const REMIND_EVERY_S: u64 = 86_400;

/// Shortest time between two lines about failures.
const COMPLAIN_EVERY_MS: u64 = 10_000;

/// What a sensor's connections get TLS from.
#[derive(Debug)]
pub struct Acceptor {
    settings: Settings,
    server: Server,
    remind_after_s: u64,
    complain_after_ms: u64,
    unsaid: u64,
}

impl Acceptor {
    /// With the certificates that it begins with.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(
        settings: Settings,
        certificates: &Certificates,
    ) -> Result<Acceptor, CertificateError> {
        Ok(Acceptor {
            server: certificates.server(&settings)?,
            settings,
            remind_after_s: 0,
            complain_after_ms: 0,
            unsaid: 0,
        })
    }

    /// New connections get these certificates; open ones keep theirs.
    ///
    /// # Errors
    /// What is wrong with them; nothing has changed then.
    pub fn renew(&mut self, certificates: &Certificates) -> Result<(), CertificateError> {
        self.server = certificates.server(&self.settings)?;
        self.remind_after_s = 0;
        Ok(())
    }

    /// When our certificate ends, seconds since 1970.
    pub fn expires_s(&self) -> u64 {
        self.server.expires_s
    }

    /// TLS for a connection that was just accepted.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn accept(&self) -> io::Result<Tls> {
        let session =
            ServerConnection::new(self.server.config.clone()).map_err(io::Error::other)?;
        Ok(Tls {
            session,
            identity: self.settings.identity,
            owner: None,
            greeted: 0,
            established: false,
            held: 0,
            ends: false,
        })
    }

    /// Whole days that our certificate has left, if the operator is to be told now; none left: it has expired.
    pub fn remind(&mut self, now_s: u64) -> Option<u64> {
        let left_s = self.server.expires_s.saturating_sub(now_s);
        if left_s >= REMIND_BEFORE_S || now_s < self.remind_after_s {
            return None;
        }
        self.remind_after_s = now_s + REMIND_EVERY_S;
        Some(left_s / 86_400)
    }

    /// Whether a failure is to be logged now; how many were not, since the last that was.
    pub fn complain(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms < self.complain_after_ms {
            self.unsaid += 1;
            return None;
        }
        self.complain_after_ms = now_ms + COMPLAIN_EVERY_MS;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Reads what was handed over.
///
/// # Errors
/// What the kernel says.
pub fn read(handed: &role::Certificates) -> io::Result<Certificates> {
    let read = |fd: &OwnedFd| {
        let file = File::from(fd.try_clone()?);
        let mut bytes = vec![0; file.metadata()?.len().min(FILE_BYTES_MAX) as usize];
        // From its beginning: whoever read it before has moved the place that all descriptors of it share.
        file.read_exact_at(&mut bytes, 0)?;
        Ok::<_, io::Error>(bytes)
    };
    Ok(Certificates {
        chain: read(&handed.chain)?,
        key: read(&handed.key)?,
        authorities: handed.authorities.as_ref().map(read).transpose()?,
    })
}

/// TLS of one connection.
#[derive(Debug)]
pub struct Tls {
    session: ServerConnection,
    identity: Option<Identity>,
    /// Whom the device's certificate names, where that is what it may report for.
    owner: Option<DeviceId>,
    /// Bytes that came before the handshake was done.
    greeted: usize,
    established: bool,
    /// Bytes decrypted and not taken yet.
    held: usize,
    /// The device said that it will send no more, which was not told yet.
    ends: bool,
}

impl Tls {
    /// Whether nothing can come of the device yet.
    pub fn is_handshaking(&self) -> bool {
        !self.established
    }

    /// Whether [`Tls::read`] has something to give although the socket may have nothing.
    pub fn holds(&self) -> bool {
        self.held > 0 || self.ends
    }

    /// Whether something waits to be written, besides what [`Tls::write`] is given.
    pub fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// Whether the device that it comes from may report for this one.
    pub fn may_report_for(&self, device: &DeviceId) -> bool {
        self.identity.is_none() || self.owner.as_ref() == Some(device)
    }

    /// Reads from the socket at most once, and gives what could be decrypted.
    pub fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> Got {
        if self.holds() {
            return self.take(buffer);
        }
        match self.session.read_tls(socket) {
            Ok(0) => {
                // Who closes without saying so in TLS is taken as if it had: a message ends by its own rules, so what
                // was cut off is found to be incomplete.
                return if self.established {
                    Got::End
                } else {
                    Got::Failed(Failure::Left)
                };
            }
            Ok(bytes) if !self.established => self.greeted += bytes,
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => return Got::Nothing,
                // The library's own word for a record that is longer than there are.
                ErrorKind::InvalidData | ErrorKind::Other => return Got::Failed(Failure::Broken),
                _ if !self.established => return Got::Failed(Failure::Left),
                _ => return Got::Broken,
            },
        }
        let first = self.session.protocol_version().is_none();
        match self.session.process_new_packets() {
            Ok(state) => {
                self.held = state.plaintext_bytes_to_read();
                self.ends = state.peer_has_closed();
            }
            Err(error) => return Got::Failed(Failure::of(&error, first && !self.established)),
        }
        if self.established {
            return self.take(buffer);
        }
        if !self.session.is_handshaking() {
            return self.establish();
        }
        match self.greeted > HANDSHAKE_BYTES_MAX {
            true => Got::Failed(Failure::TooLong),
            false => Got::Nothing,
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> Got {
        if self.held > 0 {
            return match self.session.reader().read(buffer) {
                Ok(bytes) if bytes > 0 => {
                    self.held = self.held.saturating_sub(bytes);
                    Got::Bytes(bytes)
                }
                _ => Got::Broken,
            };
        }
        match std::mem::take(&mut self.ends) {
            true => Got::End,
            false => Got::Nothing,
        }
    }

    fn establish(&mut self) -> Got {
        self.established = true;
        if self.identity == Some(Identity::CommonName) {
            let certificate = self.session.peer_certificates().and_then(<[_]>::first);
            let facts = certificate.and_then(|certificate| Facts::of(certificate).ok());
            let name = facts.and_then(|facts| facts.common_name);
            self.owner = name.and_then(|name| DeviceId::new(name.as_bytes()));
            if self.owner.is_none() {
                return Got::Failed(Failure::Identity);
            }
        }
        Got::Established
    }

    /// Encrypts as many of these bytes as fit a record, once the kernel has taken all before; returns how many.
    ///
    /// # Errors
    /// What the socket says; `WouldBlock` if it does not take what is there already.
    pub fn write(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        let bytes = &bytes[..bytes.len().min(RECORD_BYTES)];
        self.session.writer().write_all(bytes)?;
        match self.flush(socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    fn flush(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Says that nothing more will come, as far as the kernel takes it at once.
    pub fn close(&mut self, socket: &mut TcpStream) {
        self.session.send_close_notify();
        // The connection ends anyway.
        let _ = self.flush(socket);
    }
}
