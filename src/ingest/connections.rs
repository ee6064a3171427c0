//! Connections of devices: accepted from a listening socket that outlives this process, looked after as a set.
//!
//! One epoll set holds all of them, level-triggered, so that what is not read now is reported again. Who comes from
//! where rubbish came from is accepted and not read before its time.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::connection::{Closed, Connection, Got};
use super::offence::{Offenders, Source, Standing};
use super::session::Session;
use super::tls::Acceptor;

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
    offenders: Offenders,
    /// What new connections get TLS from, if they do.
    pub tls: Option<Acceptor>,
    /// Connections that are not read yet, by when they will be.
    delayed: BTreeSet<(u64, u64)>,
}

/// Connections that were accepted in one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// All of them.
    pub all: u32,
    /// Those that are not read yet.
    pub delayed: u32,
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
            offenders: Offenders::default(),
            tls: None,
            delayed: BTreeSet::new(),
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

    /// Accepts what waits, within the limits; returns how many. `session` makes the session of each; `opened` hears of it.
    ///
    /// # Errors
    /// When the listening socket is not usable any more.
    pub fn accept(
        &mut self,
        now_ms: u64,
        session: impl Fn() -> Session,
        opened: impl Fn(Key, SocketAddr),
    ) -> io::Result<Accepted> {
        let mut accepted = Accepted::default();
        for _ in 0..ACCEPTS_MAX {
            if self.open >= self.connections_max {
                self.listen(false)?;
                break;
            }
            match self.listener.accept() {
                Ok((socket, address)) => {
                    let source = source(address.ip());
                    let standing = self.offenders.admit(source, now_ms);
                    let delayed = matches!(standing, Standing::Delayed { .. });
                    accepted.all += 1;
                    accepted.delayed += u32::from(delayed);
                    let tls = self.tls.as_ref().map(Acceptor::accept).transpose();
                    let made = tls.and_then(|tls| {
                        Connection::new(socket, tls, session(), source, standing, now_ms)
                    });
                    // A connection that broke before it was registered is not worth a word.
                    if let Ok(key) = made.and_then(|connection| self.insert(connection)) {
                        opened(key, address);
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
        let room = self.open < self.connections_max && now_ms >= self.accept_after_ms;
        if room { self.listen(true) } else { Ok(()) }
    }

    /// Reads what a connection has, into `buffer`.
    pub fn read(&mut self, key: Key, buffer: &mut [u8]) -> Got {
        let Some(connection) = self.get(key) else {
            return Got::Nothing;
        };
        let got = connection.read(buffer);
        if connection.queue_tls() {
            self.dirty.push(key);
        }
        got
    }

    /// Whether TLS of a connection has something to say by itself.
    pub fn owes_tls(&mut self, key: Key) -> bool {
        self.get(key).is_some_and(|c| c.tls_wants_write())
    }

    /// Whether something sound has come of a connection.
    pub fn is_sound(&mut self, key: Key) -> bool {
        self.get(key).is_some_and(|c| c.standing == Standing::Sound)
    }

    /// A connection sent a sound message: what else comes from there can be trusted a little.
    pub fn sound(&mut self, key: Key) {
        let Some(connection) = self.get(key).filter(|c| c.standing != Standing::Sound) else {
            return;
        };
        connection.standing = Standing::Sound;
        let source = connection.source;
        if self.offenders.sound(source) {
            for (until_ms, token) in std::mem::take(&mut self.delayed) {
                let key = Key::from_token(token);
                if self.get(key).is_some_and(|c| c.source == source) {
                    self.read_from_now_on(key, Standing::Probation);
                } else {
                    self.delayed.insert((until_ms, token));
                }
            }
        }
    }

    /// A connection sent too much rubbish, and will be closed: who comes from there is not read for a while.
    pub fn offend(&mut self, key: Key, now_ms: u64) {
        if let Some(connection) = self.get(key) {
            let source = connection.source;
            self.offenders.offend(source, now_ms);
        }
    }

    /// Begins to read those whose delay is over.
    pub fn end_delays(&mut self, now_ms: u64) {
        while let Some(&(until_ms, token)) = self.delayed.first()
            && until_ms <= now_ms
        {
            self.delayed.pop_first();
            self.read_from_now_on(Key::from_token(token), Standing::New);
        }
    }

    /// When the next delay is over.
    pub fn delayed_until_ms(&self) -> Option<u64> {
        self.delayed.first().map(|&(until_ms, _)| until_ms)
    }

    fn read_from_now_on(&mut self, key: Key, standing: Standing) {
        let Some(connection) = self.get(key) else {
            return;
        };
        if let Standing::Delayed { until_ms } = connection.standing {
            // It could not be heard while nobody listened.
            connection.heard_ms = until_ms;
        }
        connection.standing = standing;
        self.settle(key);
    }

    /// The device sends no more: closed now if it is owed no answer, else after the last one.
    pub fn end(&mut self, key: Key) -> Option<Closed> {
        self.get(key)?.end();
        self.settle(key)
    }

    /// Queues an answer for the next [`Connections::flush`], unless the connection is gone.
    pub fn answer(&mut self, key: Key, answer: Vec<u8>) {
        if self.get(key).is_some_and(|c| c.queue(answer)) {
            self.dirty.push(key);
        }
    }

    /// Writes what was queued, one system call a connection. Reports those that were closed by it, and those that were not
    /// read for their unread answers and are again.
    pub fn flush(
        &mut self,
        now_ms: u64,
        mut closed: impl FnMut(Key, Closed),
        mut resumed: impl FnMut(Key),
    ) {
        while let Some(key) = self.dirty.pop() {
            let was_read = self.get(key).is_some_and(|c| c.readable());
            if let Some(reason) = self.write(key, now_ms) {
                closed(key, reason);
            } else if !was_read && self.get(key).is_some_and(|c| c.readable()) {
                resumed(key);
            }
        }
    }

    /// Writes the answers of one connection. Returns why it was closed, if it was.
    pub fn write(&mut self, key: Key, now_ms: u64) -> Option<Closed> {
        let reason = match self.get(key)?.write(now_ms) {
            Ok(()) => return self.settle(key),
            Err(reason) => reason,
        };
        self.close(key);
        Some(reason)
    }

    /// Brings what is waited for in line with the connection's state, and closes it if all is said.
    pub fn settle(&mut self, key: Key) -> Option<Closed> {
        let connection = self.get(key)?;
        if connection.is_over() {
            self.close(key);
            return Some(Closed::Peer);
        }
        if let Some(wanted) = connection.new_interest() {
            let slot = &self.slots[key.index as usize];
            let socket = slot.connection.as_ref().expect("found above").socket();
            self.epoll
                .modify(socket, &mut EpollEvent::new(wanted, key.token()))
                .expect("an open connection is in the set");
        }
        None
    }

    /// Closes a connection; unknown ones are ignored.
    pub fn close(&mut self, key: Key) {
        let Some(connection) = self.get(key) else {
            return;
        };
        let (source, standing) = (connection.source, connection.standing);
        match standing {
            Standing::Sound => self.offenders.left(source),
            Standing::Delayed { until_ms } => drop(self.delayed.remove(&(until_ms, key.token()))),
            Standing::New | Standing::Probation => {}
        }
        let slot = &mut self.slots[key.index as usize];
        // Dropping the socket takes it out of the set: no other descriptor names it.
        slot.connection = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(key.index);
        self.open -= 1;
    }

    /// Closes who was silent or left answers unread for too long; looks at all at most once a second.
    pub fn sweep(&mut self, now_ms: u64, mut closed: impl FnMut(Key, Closed)) {
        if now_ms < self.swept_ms + 1_000 {
            return;
        }
        self.swept_ms = now_ms;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let connection = slot.connection.as_ref();
            let Some(reason) = connection.and_then(|c| c.overdue(now_ms, self.idle_ms)) else {
                continue;
            };
            let key = Key {
                index: index as u32,
                generation: slot.generation,
            };
            self.close(key);
            closed(key, reason);
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

    fn insert(&mut self, mut connection: Connection) -> io::Result<Key> {
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
        let interest = connection.new_interest().unwrap_or(EpollFlags::empty());
        let event = EpollEvent::new(interest, key.token());
        if let Err(errno) = self.epoll.add(connection.socket(), event) {
            self.vacant.push(index);
            return Err(errno.into());
        }
        if let Standing::Delayed { until_ms } = connection.standing {
            self.delayed.insert((until_ms, key.token()));
        }
        slot.connection = Some(Box::new(connection));
        self.open += 1;
        Ok(key)
    }
}

/// Where a connection comes from. An IPv4 address is the same whether the socket is one of IPv6 or not.
fn source(address: IpAddr) -> Source {
    Source::of(match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
        IpAddr::V6(six) => six.octets(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;

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
        while connections.accept(0, session, |_, _| ()).unwrap().all == 0 {
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
            connections.flush(5, |_, why| panic!("closed: {why:?}"), |_| {});
        }
        let mut closed = Vec::new();
        connections.sweep(30_004, |_, why| closed.push(why));
        assert_eq!(closed, []);
        connections.sweep(31_004, |_, why| closed.push(why));
        assert_eq!((closed, connections.open()), (vec![Closed::Unread], 0));
    }

    /// A device read its answers just before the next one was due. That one was written with the rest, so the kernel had
    /// nothing to say any more; the messages kept of the device lay until it sent more, and then did not fit beside that.
    #[test]
    fn a_device_that_reads_before_its_next_answer_is_gone_on_with() {
        let (mut connections, key, mut device) = deaf_device();
        let closed = |_: Key, why| panic!("closed: {why:?}");
        while connections.get(key).unwrap().readable() {
            connections.answer(key, vec![0x7e; 1000]);
            connections.flush(5, closed, |_| panic!("it was read all the time"));
        }
        let mut resumed = Vec::new();
        device.set_nonblocking(true).unwrap();
        while resumed.is_empty() {
            let _ = device.read(&mut [0; 1000]);
            connections.answer(key, vec![0x7e]);
            connections.flush(5, closed, |key| resumed.push(key));
        }
        assert!(connections.get(key).unwrap().readable());
        assert_eq!(resumed, [key]);
    }

    #[test]
    fn more_unread_answers_than_the_limit_end_the_connection_at_once() {
        let (mut connections, key, _device) = deaf_device();
        let mut closed = Vec::new();
        for _ in 0..10_000 {
            connections.answer(key, vec![0x7e; 1000]);
            connections.flush(5, |_, why| closed.push(why), |_| {});
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
        while connections.accept(0, session, |_, _| ()).unwrap().all == 0 {
            std::thread::yield_now();
        }
        assert!(connections.get(key).is_none());
        assert_eq!(connections.keys()[0].index, key.index);
    }
}
