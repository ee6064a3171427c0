//! Connections of devices: accepted from a listening socket that outlives this process, looked after as a set.
//!
//! One epoll set holds all of them, level-triggered, so that what is not read now is reported again. Who comes from
//! where rubbish came from is accepted and not read before its time.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit};

use super::admit::{BUCKETS_MAX, Bucket, Buckets, Entered, Sessions, Unproven};
use super::connection::{Closed, Connection, Deadlines, Got};
use super::offence::{Offenders, Standing};
use super::session::Session;
use super::sources::{Sources, TurnedAway};
use super::tls::Acceptor;
use crate::config::{Admission, Listening};
use crate::frame::DeviceId;
use crate::role::DESCRIPTORS_RESERVED;
use crate::sys::clock;

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
    deadlines: Deadlines,
    dirty: Vec<Key>,
    swept_ms: u64,
    offenders: Offenders,
    sources: Sources,
    unproven: Unproven,
    sessions: Sessions<Key>,
    /// What devices may send that have no connection of their own.
    pub buckets: Buckets,
    /// What new connections get TLS from, if they do.
    pub tls: Option<Acceptor>,
    /// Connections that are not read yet, by when they will be.
    delayed: BTreeSet<(u64, u64)>,
    /// Connections that sent too much, by when they are read again.
    resting: BTreeSet<(u64, u64)>,
}

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
        listening: &Listening,
        admission: &Admission,
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
            connections_max: listening
                .connections_max
                .min(descriptors_for_connections()?),
            deadlines: Deadlines {
                idle_ms: listening.idle_ms,
                first_message_ms: admission.first_message_ms,
                message_ms: admission.message_ms,
                reads: true,
                read_since_ms: 0,
            },
            dirty: Vec::new(),
            swept_ms: 0,
            offenders: Offenders::default(),
            sources: Sources::new(admission),
            unproven: Unproven::new(),
            sessions: Sessions::new(),
            buckets: Buckets::new(BUCKETS_MAX),
            tls: None,
            delayed: BTreeSet::new(),
            resting: BTreeSet::new(),
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

    /// Whether a sound message of a known device has come of a connection.
    pub fn is_proven(&mut self, key: Key) -> bool {
        self.get(key).is_some_and(|c| c.proven)
    }

    /// A connection sent a sound message of a known device: what else comes from there can be trusted a little.
    pub fn sound(&mut self, key: Key) {
        let Some(connection) = self.get(key).filter(|c| !c.proven) else {
            return;
        };
        connection.proven = true;
        connection.standing = Standing::Sound;
        let source = connection.source;
        self.unproven.is_none_any_more(key.token());
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

    /// A connection sent too much, and is not read until then.
    pub fn rest(&mut self, key: Key, until_ms: u64) {
        let Some(connection) = self.get(key) else {
            return;
        };
        let before_ms = connection.rests_until_ms;
        let until_ms = before_ms.map_or(until_ms, |before_ms| before_ms.max(until_ms));
        connection.rests_until_ms = Some(until_ms);
        if let Some(before_ms) = before_ms {
            self.resting.remove(&(before_ms, key.token()));
        }
        self.resting.insert((until_ms, key.token()));
    }

    /// Whether a connection rests.
    pub fn rests(&mut self, key: Key) -> bool {
        self.get(key).is_some_and(|c| c.rests_until_ms.is_some())
    }

    /// The next connection whose rest is over; it may have whole messages kept.
    pub fn next_rested(&mut self, now_ms: u64) -> Option<Key> {
        while let Some(&(until_ms, token)) = self.resting.first()
            && until_ms <= now_ms
        {
            self.resting.pop_first();
            let key = Key::from_token(token);
            if let Some(connection) = self.get(key) {
                connection.rests_until_ms = None;
                // It could not be heard while nobody listened.
                connection.heard_ms = connection.heard_ms.max(until_ms);
                return Some(key);
            }
        }
        None
    }

    /// When the next rest is over.
    pub fn resting_until_ms(&self) -> Option<u64> {
        self.resting.first().map(|&(until_ms, _)| until_ms)
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

    /// A connection brings a message of a device, which is not its first one so far. `may_take`: whether a session may be
    /// taken over from a connection that was heard last then.
    pub fn enter(
        &mut self,
        key: Key,
        device: DeviceId,
        now_ns: u64,
        may_take: impl FnOnce(u64) -> bool,
    ) -> Entered<Key> {
        let slots = &self.slots;
        let holder = |key: Key| slots[key.index as usize].connection.as_ref();
        let further = holder(key).is_some_and(|connection| connection.device.is_some());
        let heard_ms = |before| holder(before).map_or(0, |connection| connection.heard_ms);
        let entered = self.sessions.enter(device, key, further, now_ns, |before| {
            may_take(heard_ms(before))
        });
        let bucket = match entered {
            Entered::New => self.buckets.remove(&device),
            Entered::TakenFrom(before) => self.displace(before, &device),
            _ => return entered,
        };
        if let Some(connection) = self.get(key) {
            if further {
                connection.further.get_or_insert_default().insert(device);
            } else {
                connection.device = Some(device);
                // Whoever connects anew has no more for it.
                connection.bucket = connection.bucket.max(bucket);
            }
        }
        entered
    }

    /// A device came by another connection: the one that it had is read no more, unless others come by it. Returns the
    /// device's bucket.
    fn displace(&mut self, key: Key, device: &DeviceId) -> Bucket {
        let Some(connection) = self.get(key) else {
            return Bucket::default();
        };
        let mut bucket = Bucket::default();
        if connection.device.as_ref() == Some(device) {
            connection.device = None;
            bucket = connection.bucket;
        }
        if let Some(further) = &mut connection.further {
            further.remove(device);
        }
        if connection.speaks_for_nobody() {
            connection.end(Closed::TakenOver);
        }
        bucket
    }

    /// Gives up the sessions of devices that are not known any more. Returns the connections that have none any more.
    pub fn forget_unknown(&mut self, knows: impl Fn(&DeviceId) -> bool) -> Vec<Key> {
        let mut left = Vec::new();
        for key in self.keys() {
            let Some(connection) = self.get(key) else {
                continue;
            };
            let mut gone: Vec<DeviceId> = connection
                .device
                .take_if(|device| !knows(device))
                .into_iter()
                .collect();
            if let Some(further) = &mut connection.further {
                gone.extend(further.extract_if(|device| !knows(device)));
            }
            if !gone.is_empty() && connection.speaks_for_nobody() {
                left.push(key);
            }
            for device in gone {
                self.sessions.leave(&device, key);
            }
        }
        left
    }

    /// No more of it is read: closed now if the device is owed no answer, else after the last one.
    pub fn end(&mut self, key: Key, why: Closed) -> Option<Closed> {
        self.get(key)?.end(why);
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
        if let Some(why) = connection.is_over() {
            self.close(key);
            return Some(why);
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
        let (device, bucket) = (connection.device.take(), connection.bucket);
        let further = connection.further.take();
        if let Some(until_ms) = connection.rests_until_ms {
            self.resting.remove(&(until_ms, key.token()));
        }
        if let Some(device) = device {
            self.sessions.leave(&device, key);
            let now_ns = clock::monotonic_ns();
            let bucket = bucket.max(self.buckets.remove(&device));
            if !bucket.is_full(now_ns) {
                self.buckets.put(device, bucket, now_ns);
            }
        }
        for device in further.iter().flat_map(|devices| devices.iter()) {
            self.sessions.leave(device, key);
        }
        self.sources.left(source);
        self.unproven.is_none_any_more(key.token());
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

    /// Who was silent, slow, or left answers unread for too long, to be closed; looks at all at most once a second.
    /// `reads`: connections are read now.
    pub fn overdue(&mut self, now_ms: u64, reads: bool) -> Vec<(Key, Closed)> {
        if reads && !self.deadlines.reads {
            self.deadlines.read_since_ms = now_ms;
        }
        self.deadlines.reads = reads;
        if now_ms < self.swept_ms + 1_000 {
            return Vec::new();
        }
        self.swept_ms = now_ms;
        let slots = self.slots.iter().enumerate();
        let overdue = slots.filter_map(|(index, slot)| {
            let why = slot.connection.as_ref()?.overdue(now_ms, &self.deadlines)?;
            let key = Key {
                index: index as u32,
                generation: slot.generation,
            };
            Some((key, why))
        });
        overdue.collect()
    }

    /// Connections that have not shown yet that a known device is there.
    pub fn unproven(&self) -> usize {
        self.unproven.count()
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

    fn insert(&mut self, mut connection: Connection, now_ms: u64) -> io::Result<Key> {
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
        self.unproven.came(key.token(), now_ms);
        Ok(key)
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
fn descriptors_for_connections() -> io::Result<u32> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let left = soft.saturating_sub(DESCRIPTORS_RESERVED);
    Ok(u32::try_from(left).unwrap_or(u32::MAX).max(1))
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
        let listening = Listening {
            listen: String::new(),
            connections_max: 10,
            idle_ms: 1_000_000,
            tls: None,
        };
        let mut connections =
            Connections::new(epoll, listener, &listening, &Admission::default()).unwrap();
        while connections
            .accept(0, session, |_, _| (), |_| ())
            .unwrap()
            .all
            == 0
        {
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
        assert_eq!(connections.overdue(30_004, true), []);
        assert_eq!(connections.overdue(31_004, true), [(key, Closed::Unread)]);
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
        while connections
            .accept(0, session, |_, _| (), |_| ())
            .unwrap()
            .all
            == 0
        {
            std::thread::yield_now();
        }
        assert!(connections.get(key).is_none());
        assert_eq!(connections.keys()[0].index, key.index);
    }
}
