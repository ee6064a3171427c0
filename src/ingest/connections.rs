//! Connections of devices: accepted from a listening socket that outlives this process, looked after as a set.
//!
//! One epoll set holds all of them, level-triggered, so that what is not read now is reported again. Who comes from
//! where rubbish came from is accepted and not read before its time.

mod accepting;
mod sessions;
mod standing;

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

pub use accepting::Accepted;

use super::admit::{BUCKETS_MAX, Buckets, Sessions, Unproven};
use super::connection::{Closed, Connection, Got};
use super::deadlines::Deadlines;
use super::offence::{Offenders, Standing};
use super::session::ReadAt;
use super::sources::Sources;
use super::tls::Acceptor;
use crate::config::{Admission, Listening};
use crate::sys::clock;

/// Most bytes that all starts of messages together may take which wait for their rest.
pub const PART_BYTES_MAX: usize = 64 * 1024 * 1024;

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
    /// Bytes of messages that began and are not whole.
    part_bytes: usize,
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
            part_bytes: 0,
            connections_max: listening
                .connections_max
                .min(accepting::descriptors_for_connections()?),
            deadlines: Deadlines::new(
                listening.idle_ms,
                admission.first_message_ms,
                admission.message_ms,
            ),
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

    /// Keeps what a read left over, see [`Connection::keep`]. Returns the connection that has to give way where that is too
    /// much: the oldest unproven one with the start of a message, for a proven one, else this one.
    pub fn keep(&mut self, key: Key, left: &[u8], at: ReadAt, reads_on: bool) -> Option<Key> {
        let connection = self.get(key)?;
        let before = connection.part_bytes();
        connection.keep(left, at, reads_on);
        let after = connection.part_bytes();
        let proven = connection.proven;
        self.part_bytes = self.part_bytes - before + after;
        if after <= before || self.part_bytes <= PART_BYTES_MAX {
            return None;
        }
        let has_part = |key: &Key| {
            let slot = &self.slots[key.index as usize];
            slot.connection.as_ref().is_some_and(|c| c.part_bytes() > 0)
        };
        let mut unproven = self.unproven.oldest_first().map(Key::from_token);
        let gives_way = proven.then(|| unproven.find(has_part)).flatten();
        gives_way.or(Some(key))
    }

    /// Whether TLS of a connection has something to say by itself.
    pub fn owes_tls(&mut self, key: Key) -> bool {
        self.get(key).is_some_and(|c| c.tls_wants_write())
    }

    /// Whether a sound message of a known device has come of a connection.
    pub fn is_proven(&mut self, key: Key) -> bool {
        self.get(key).is_some_and(|c| c.proven)
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
        let part_bytes = connection.part_bytes();
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
        self.part_bytes -= part_bytes;
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
        self.deadlines.note(now_ms, reads);
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

#[cfg(test)]
mod tests;
