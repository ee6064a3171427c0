//! Connections of devices: accepted from a listening socket that outlives this process, read when there is room,
//! answered in batches.
//!
//! One epoll set holds all of them, level-triggered, so that what is not read now is reported again. A connection owns
//! no read buffer: bytes of a message that is not complete yet are kept with it, and nothing while it is idle. What a
//! device can make us keep is bounded: unread answers stop the reading of its bytes, and too many or too old ones
//! close it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::session::Session;

/// Bytes of answers that a device may leave unread before it is closed.
const UNREAD_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Time for which a device may leave answers unread before it is closed.
const UNREAD_ANSWER_MS_MAX: u64 = 30_000;

/// Connections accepted in one go, so that a storm of them does not keep known devices waiting.
const ACCEPTS_MAX: u32 = 64;

/// Pause after the system refused another descriptor; it will refuse the next one as well.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Token of the listening socket in the epoll set; no [`Key`] has it.
pub const LISTENER: u64 = u64::MAX;

/// Names a connection for as long as this process lives; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As the token of an epoll event.
    pub fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// From the token of an epoll event.
    pub fn from_token(token: u64) -> Key {
        Key {
            index: token as u32,
            generation: (token >> 32) as u32,
        }
    }
}

/// Why a connection ended, or a peer was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The device closed it, or the network did.
    Peer,
    /// No message for too long.
    Idle,
    /// Too many unreadable messages.
    Errors,
    /// It does not read its answers.
    Unread,
    /// Another one took its place.
    Displaced,
    /// This process ends.
    Drain,
}

/// One device's connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    /// What its bytes mean, and the start of a message that is not complete.
    pub session: Session,
    /// Messages published whose answer is held back.
    pub awaiting: u32,
    /// Time of the last whole message, or of the accept, milliseconds of the monotonic clock.
    pub heard_ms: u64,
    /// Not read until some of its answers are given.
    pub paused: bool,
    /// When it will have been silent for long enough to end its epoch, if that is watched.
    pub silent_ms: Option<u64>,
    /// The device will send no more.
    ended: bool,
    /// Answers not yet taken by the kernel, from `unread[sent..]` on.
    unread: Vec<u8>,
    sent: usize,
    /// When the kernel first took no more answers.
    blocked_ms: Option<u64>,
    /// On the list of connections with new answers.
    dirty: bool,
    interest: EpollFlags,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// So many bytes.
    Bytes(usize),
    /// None now.
    Nothing,
    /// The device will send no more.
    End,
    /// The connection is broken.
    Broken,
}

/// All connections of one sensor.
#[derive(Debug)]
pub struct Connections {
    epoll: Epoll,
    listener: TcpListener,
    listening: bool,
    accept_after_ms: u64,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    open: u32,
    connections_max: u32,
    idle_ms: u64,
    dirty: Vec<Key>,
    swept_ms: u64,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

impl Connections {
    /// Takes over a listening socket and an epoll set. Nothing is accepted before [`Connections::listen`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(
        epoll: Epoll,
        listener: TcpListener,
        connections_max: u32,
        idle_ms: u64,
    ) -> io::Result<Connections> {
        listener.set_nonblocking(true)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::empty(), LISTENER))?;
        Ok(Connections {
            epoll,
            listener,
            listening: false,
            accept_after_ms: 0,
            slots: Vec::new(),
            vacant: Vec::new(),
            open: 0,
            connections_max,
            idle_ms,
            dirty: Vec::new(),
            swept_ms: 0,
        })
    }

    /// The epoll set; tokens are [`LISTENER`] and [`Key::token`] besides what the caller adds.
    pub fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// Connections open.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// The connection, if it is still open.
    pub fn get(&mut self, key: Key) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation {
            slot.connection.as_deref_mut()
        } else {
            None
        }
    }

    /// Accepts what waits, within the limits; returns how many. `session` makes the session of each.
    ///
    /// # Errors
    /// When the listening socket is not usable any more.
    pub fn accept(&mut self, now_ms: u64, session: impl Fn() -> Session) -> io::Result<u32> {
        for accepted in 0..ACCEPTS_MAX {
            if self.open >= self.connections_max {
                self.listen(false)?;
                return Ok(accepted);
            }
            match self.listener.accept() {
                // A connection that broke before it was registered is not worth a word.
                Ok((socket, _)) => drop(self.insert(socket, session(), now_ms)),
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                    Errno::EAGAIN => return Ok(accepted),
                    Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM => {
                        self.accept_after_ms = now_ms + ACCEPT_PAUSE_MS;
                        self.listen(false)?;
                        return Ok(accepted);
                    }
                    Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK => return Err(error),
                    // The rest belongs to the connection that did not come about (accept(2)).
                    _ => continue,
                },
            }
        }
        Ok(ACCEPTS_MAX)
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
        let room = self.open < self.connections_max && now_ms >= self.accept_after_ms;
        if room { self.listen(true) } else { Ok(()) }
    }

    /// Reads what a connection has, into `buffer`.
    pub fn read(&mut self, key: Key, buffer: &mut [u8]) -> Got {
        let Some(connection) = self.get(key) else {
            return Got::Nothing;
        };
        match connection.socket.read(buffer) {
            Ok(0) => Got::End,
            Ok(bytes) => Got::Bytes(bytes),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Got::Nothing,
                _ => Got::Broken,
            },
        }
    }

    /// The device sends no more: closed now if it is owed no answer, else after the last one.
    pub fn end(&mut self, key: Key) -> Option<Closed> {
        let connection = self.get(key)?;
        connection.ended = true;
        self.settle(key)
    }

    /// Queues an answer for the next [`Connections::flush`], unless the connection is gone.
    pub fn answer(&mut self, key: Key, answer: Vec<u8>) {
        let Some(connection) = self.get(key) else {
            return;
        };
        if connection.unread.is_empty() {
            connection.unread = answer;
        } else {
            connection.unread.drain(..connection.sent);
            connection.sent = 0;
            connection.unread.extend_from_slice(&answer);
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Writes what was queued, one system call a connection, and reports those that were closed by it.
    pub fn flush(&mut self, now_ms: u64, mut closed: impl FnMut(Closed)) {
        while let Some(key) = self.dirty.pop() {
            if let Some(connection) = self.get(key) {
                connection.dirty = false;
            }
            if let Some(reason) = self.write(key, now_ms) {
                closed(reason);
            }
        }
    }

    /// Writes the answers of one connection. Returns why it was closed, if it was.
    pub fn write(&mut self, key: Key, now_ms: u64) -> Option<Closed> {
        let connection = self.get(key)?;
        let reason = match connection.write(now_ms) {
            Ok(()) => return self.settle(key),
            Err(reason) => reason,
        };
        self.close(key);
        Some(reason)
    }

    /// Brings what is waited for in line with the connection's state, and closes it if all is said.
    pub fn settle(&mut self, key: Key) -> Option<Closed> {
        let connection = self.get(key)?;
        if connection.ended && connection.awaiting == 0 && connection.unread.is_empty() {
            self.close(key);
            return Some(Closed::Peer);
        }
        let wanted = connection.wanted();
        if wanted != connection.interest {
            connection.interest = wanted;
            let mut event = EpollEvent::new(wanted, key.token());
            let slot = &self.slots[key.index as usize];
            let socket = &slot.connection.as_ref().expect("found above").socket;
            self.epoll
                .modify(socket, &mut event)
                .expect("an open connection is in the set");
        }
        None
    }

    /// Closes a connection; unknown ones are ignored.
    pub fn close(&mut self, key: Key) {
        if self.get(key).is_some() {
            let slot = &mut self.slots[key.index as usize];
            // Dropping the socket takes it out of the set: no other descriptor names it.
            slot.connection = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.vacant.push(key.index);
            self.open -= 1;
        }
    }

    /// Closes who was silent or left answers unread for too long; looks at all at most once a second.
    pub fn sweep(&mut self, now_ms: u64, mut closed: impl FnMut(Closed)) {
        if now_ms < self.swept_ms + 1_000 {
            return;
        }
        self.swept_ms = now_ms;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let Some(connection) = &slot.connection else {
                continue;
            };
            let unread = connection
                .blocked_ms
                .is_some_and(|since| now_ms >= since + UNREAD_ANSWER_MS_MAX);
            // A device that waits for us is not idle.
            let idle = connection.awaiting == 0 && now_ms >= connection.heard_ms + self.idle_ms;
            let key = Key {
                index: index as u32,
                generation: slot.generation,
            };
            if unread || idle {
                self.close(key);
                closed(if unread { Closed::Unread } else { Closed::Idle });
            }
        }
    }

    /// Keys of all open connections.
    pub fn keys(&self) -> Vec<Key> {
        let open = self.slots.iter().enumerate();
        open.filter(|(_, slot)| slot.connection.is_some())
            .map(|(index, slot)| Key {
                index: index as u32,
                generation: slot.generation,
            })
            .collect()
    }

    fn insert(&mut self, socket: TcpStream, session: Session, now_ms: u64) -> io::Result<Key> {
        socket.set_nonblocking(true)?;
        // Answers are gathered here; the kernel need not wait for more.
        socket.set_nodelay(true)?;
        let index = self.vacant.pop().unwrap_or(self.slots.len() as u32);
        if index as usize == self.slots.len() {
            self.slots.push(Slot {
                generation: 0,
                connection: None,
            });
        }
        let slot = &mut self.slots[index as usize];
        let key = Key {
            index,
            generation: slot.generation,
        };
        let interest = EpollFlags::EPOLLIN;
        if let Err(errno) = self
            .epoll
            .add(&socket, EpollEvent::new(interest, key.token()))
        {
            self.vacant.push(index);
            return Err(errno.into());
        }
        slot.connection = Some(Box::new(Connection {
            socket,
            session,
            awaiting: 0,
            heard_ms: now_ms,
            paused: false,
            silent_ms: None,
            ended: false,
            unread: Vec::new(),
            sent: 0,
            blocked_ms: None,
            dirty: false,
            interest,
        }));
        self.open += 1;
        Ok(key)
    }
}

impl Connection {
    /// Whether more of its bytes may be taken now.
    pub fn readable(&self) -> bool {
        !self.ended && !self.paused && self.blocked_ms.is_none()
    }

    fn wanted(&self) -> EpollFlags {
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, self.readable());
        wanted.set(EpollFlags::EPOLLOUT, self.blocked_ms.is_some());
        wanted
    }

    fn write(&mut self, now_ms: u64) -> Result<(), Closed> {
        while self.sent < self.unread.len() {
            match self.socket.write(&self.unread[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_ms.get_or_insert(now_ms);
                    let left = self.unread.len() - self.sent;
                    return if left > UNREAD_ANSWER_BYTES_MAX {
                        Err(Closed::Unread)
                    } else {
                        Ok(())
                    };
                }
                Err(_) => return Err(Closed::Peer),
            }
        }
        // Given back, not kept: most connections are silent most of the time.
        self.unread = Vec::new();
        self.sent = 0;
        self.blocked_ms = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::EpollCreateFlags;
    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;
    use crate::protocol::{Protocol, Settings};

    fn session() -> Session {
        Session::new(Protocol::Jt808, &Settings::default())
    }

    /// A device that never reads, with small buffers in the kernel, and its connection here.
    fn deaf_device() -> (Connections, Key, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        setsockopt(&listener, sockopt::SndBuf, &4096).unwrap();
        let device = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        setsockopt(&device, sockopt::RcvBuf, &4096).unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut connections = Connections::new(epoll, listener, 10, 1_000_000).unwrap();
        while connections.accept(0, session).unwrap() == 0 {
            std::thread::yield_now();
        }
        let key = connections.keys()[0];
        (connections, key, device)
    }

    #[test]
    fn answers_left_unread_stop_the_reading_and_later_end_the_connection() {
        let (mut connections, key, _device) = deaf_device();
        while connections.get(key).unwrap().readable() {
            connections.answer(key, vec![0x7e; 1000]);
            connections.flush(5, |why| panic!("closed: {why:?}"));
        }
        let mut closed = Vec::new();
        connections.sweep(1_005 + UNREAD_ANSWER_MS_MAX - 1_001, |why| closed.push(why));
        assert_eq!(closed, []);
        connections.sweep(1_005 + UNREAD_ANSWER_MS_MAX, |why| closed.push(why));
        assert_eq!((closed, connections.open()), (vec![Closed::Unread], 0));
    }

    #[test]
    fn more_unread_answers_than_the_limit_end_the_connection_at_once() {
        let (mut connections, key, _device) = deaf_device();
        let mut closed = Vec::new();
        for _ in 0..10_000 {
            connections.answer(key, vec![0x7e; 1000]);
            connections.flush(5, |why| closed.push(why));
        }
        assert_eq!(closed, [Closed::Unread]);
        assert!(connections.get(key).is_none());
    }

    #[test]
    fn an_idle_connection_holds_little() {
        // 1.5 KB is the goal for all that an idle connection takes here; while idle it owns no further memory.
        let bytes = size_of::<Connection>() + size_of::<Slot>();
        assert!(bytes <= 1024, "{bytes}");
    }

    #[test]
    fn a_key_names_one_connection_for_ever() {
        let (mut connections, key, _device) = deaf_device();
        assert_eq!(Key::from_token(key.token()), key);
        connections.close(key);
        let address = connections.listener.local_addr().unwrap();
        let _other = TcpStream::connect(address).unwrap();
        while connections.accept(0, session).unwrap() == 0 {
            std::thread::yield_now();
        }
        assert!(connections.get(key).is_none());
        assert_eq!(connections.keys()[0].index, key.index);
    }
}
