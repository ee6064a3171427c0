//! Accepting within the limits: who may not come in is closed, and where there is no room the unproven give way or
//! newcomers wait.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit};

use super::{Connections, Key, LISTENER};
use crate::ingest::connection::Connection;
use crate::ingest::offence::Standing;
use crate::ingest::session::Session;
use crate::ingest::sources::TurnedAway;
use crate::ingest::tls::Acceptor;
use crate::role::DESCRIPTORS_RESERVED;

/// Connections accepted in one go, so that a storm of them does not keep known devices waiting.
const ACCEPTS_MAX: u32 = 64;

/// Pause after the system refused another descriptor; it will refuse the next one as well.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Connections that were accepted in one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// All of them.
    pub all: u32,
    /// Those that are not read yet.
    pub delayed: u32,
    /// Those that were closed at once, for where they come from.
    pub from_elsewhere: u32,
    /// ... and for how many come from there.
    pub too_many: u32,
    /// Whether accepting paused for want of room.
    pub no_room: bool,
}

impl Connections {
    /// Accepts what waits, within the limits; returns how many. `session` makes the session of each; `opened` hears of it.
    ///
    /// # Errors
    /// When the listening socket is not usable any more.
    pub fn accept(
        &mut self,
        now_ms: u64,
        session: impl Fn() -> Session,
        opened: impl Fn(Key, SocketAddr),
        gave_way: impl Fn(Key),
    ) -> io::Result<Accepted> {
        let mut accepted = Accepted::default();
        for _ in 0..ACCEPTS_MAX {
            if self.open >= self.connections_max && self.unproven.gives_way(now_ms).is_none() {
                accepted.no_room = true;
                self.listen(false)?;
                break;
            }
            match self.listener.accept() {
                Ok((socket, address)) => {
                    let source = match self.sources.enter(address.ip()) {
                        Ok(source) => source,
                        Err(why) => {
                            accepted.turned_away(why);
                            continue;
                        }
                    };
                    if self.open >= self.connections_max
                        && let Some(token) = self.unproven.gives_way(now_ms)
                    {
                        self.close(Key::from_token(token));
                        gave_way(Key::from_token(token));
                    }
                    let standing = self.offenders.admit(source, now_ms);
                    let delayed = matches!(standing, Standing::Delayed { .. });
                    accepted.all += 1;
                    accepted.delayed += u32::from(delayed);
                    let tls = self.tls.as_ref().map(Acceptor::accept).transpose();
                    let made = tls.and_then(|tls| {
                        Connection::new(socket, tls, session(), source, standing, now_ms)
                    });
                    // A connection that broke before it was registered is not worth a word.
                    match made.and_then(|connection| self.insert(connection, now_ms)) {
                        Ok(key) => opened(key, address),
                        Err(_) => self.sources.left(source),
                    }
                }
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                    Errno::EAGAIN => break,
                    Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM => {
                        self.accept_after_ms = now_ms + ACCEPT_PAUSE_MS;
                        self.listen(false)?;
                        break;
                    }
                    Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK => return Err(error),
                    // The rest belongs to the connection that did not come about (accept(2)).
                    _ => continue,
                },
            }
        }
        Ok(accepted)
    }

    /// Starts or stops accepting; stopped, new connections wait in the kernel's backlog.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(&mut self, on: bool) -> io::Result<()> {
        if self.listening != on {
            let interest = if on {
                EpollFlags::EPOLLIN
            } else {
                EpollFlags::empty()
            };
            self.epoll
                .modify(&self.listener, &mut EpollEvent::new(interest, LISTENER))?;
            self.listening = on;
        }
        Ok(())
    }

    /// Starts accepting again if what stopped it is over.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen_if_room(&mut self, now_ms: u64) -> io::Result<()> {
        let room = self.open < self.connections_max || self.unproven.gives_way(now_ms).is_some();
        if room && now_ms >= self.accept_after_ms {
            self.listen(true)?;
        }
        Ok(())
    }
}

impl Accepted {
    fn turned_away(&mut self, why: TurnedAway) {
        match why {
            TurnedAway::Source => self.from_elsewhere += 1,
            TurnedAway::PerSource => self.too_many += 1,
        }
    }
}

/// Descriptors that connections may take, so that accepting pauses before there are none.
pub fn descriptors_for_connections() -> io::Result<u32> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let left = soft.saturating_sub(DESCRIPTORS_RESERVED);
    Ok(u32::try_from(left).unwrap_or(u32::MAX).max(1))
}
