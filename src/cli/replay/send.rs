//! The recorded bytes once more, to a node: a connection or socket for each recorded stream, answers read and
//! discarded.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::capture::{Item, What};

/// How long a connection may take to come about.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How long the node may take no bytes of a connection before it is given up.
const TAKE_WAIT: Duration = Duration::from_secs(30);

/// How long the last answers may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long answers to datagrams may take: nothing says that there will be no more.
const DATAGRAM_WAIT: Duration = Duration::from_millis(500);

/// Pause before the node is asked again to take bytes.
const AGAIN: Duration = Duration::from_millis(1);

/// What was sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Records of bytes.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Connections, or sockets of datagrams.
    pub streams: u64,
    /// Connections that did not come about, or that the node ended while there were bytes for it.
    pub failed: u64,
    /// Bytes that could not be sent for that.
    pub unsent_bytes: u64,
    /// Bytes of answers.
    pub answer_bytes: u64,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sent {
            records,
            bytes,
            streams,
            failed,
            unsent_bytes,
            answer_bytes,
        } = self;
        write!(
            f,
            "sent {bytes} bytes of {records} records over {streams} streams; {answer_bytes} bytes of answers"
        )?;
        if *failed > 0 {
            write!(
                f,
                "; {failed} streams failed, {unsent_bytes} bytes not sent"
            )?;
        }
        Ok(())
    }
}

impl Sent {
    /// The same as one object.
    pub fn json(&self) -> Json {
        json!({
            "records": self.records, "bytes": self.bytes, "streams": self.streams, "failed": self.failed,
            "unsent_bytes": self.unsent_bytes, "answer_bytes": self.answer_bytes,
        })
    }
}

/// Plays streams to a node.
pub struct Sender {
    to: SocketAddr,
    udp: bool,
    life: Option<u32>,
    /// `None`: it failed, and its bytes are counted.
    streams: BTreeMap<u64, Option<Wire>>,
    /// Streams that say no more and may still be answered.
    leaving: Vec<(Wire, Instant)>,
    sent: Sent,
}

enum Wire {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Sender {
    /// Finds the node; nothing is sent yet.
    ///
    /// # Errors
    /// When the name has no address.
    pub fn new(to: &str, udp: bool) -> io::Result<Sender> {
        let mut addresses = to.to_socket_addrs()?;
        let to = addresses.next();
        Ok(Sender {
            to: to.ok_or_else(|| io::Error::other("the name has no address"))?,
            udp,
            life: None,
            streams: BTreeMap::new(),
            leaving: Vec::new(),
            sent: Sent::default(),
        })
    }

    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Does what a record says.
    ///
    /// # Errors
    /// When not even the first stream comes about.
    pub fn take(&mut self, item: &Item<'_>) -> io::Result<()> {
        let Item::Record(record) = item else {
            return Ok(());
        };
        match record.what {
            What::Begun { life } => {
                if self.life.replace(life) != Some(life) {
                    let all = std::mem::take(&mut self.streams);
                    all.into_values()
                        .flatten()
                        .for_each(|wire| self.leave(wire));
                }
            }
            What::Opened { stream, .. } => self.open(stream)?,
            What::Bytes { stream } => {
                if !self.streams.contains_key(&stream) {
                    self.open(stream)?;
                }
                self.send(stream, record.data);
            }
            What::Closed { stream, .. } => {
                if let Some(Some(wire)) = self.streams.remove(&stream) {
                    self.leave(wire);
                }
            }
            What::Quiet { .. } | What::Sent { .. } | What::Lost { .. } | What::Ended => {}
        }
        Ok(())
    }

    /// Reads and discards what came back.
    pub fn listen(&mut self) {
        let mut bytes = 0;
        for wire in self.streams.values_mut().flatten() {
            bytes += wire.discard().0;
        }
        let now = Instant::now();
        self.leaving.retain_mut(|(wire, until)| {
            let (read, ended) = wire.discard();
            bytes += read;
            !ended && now < *until
        });
        self.sent.answer_bytes += bytes;
    }

    /// Says no more on all streams and waits for the last answers.
    pub fn finish(mut self) -> Sent {
        let all = std::mem::take(&mut self.streams);
        all.into_values()
            .flatten()
            .for_each(|wire| self.leave(wire));
        while !self.leaving.is_empty() {
            self.listen();
            std::thread::sleep(AGAIN);
        }
        self.sent
    }

    fn open(&mut self, stream: u64) -> io::Result<()> {
        let first = self.sent.streams == 0;
        self.sent.streams += 1;
        let wire = match Wire::open(self.to, self.udp) {
            Ok(wire) => Some(wire),
            Err(cause) if first => return Err(cause),
            Err(cause) => {
                if self.sent.failed == 0 {
                    eprintln!(
                        "ringway: cannot open stream {stream}: {cause} (are there enough descriptors: ulimit -n?)"
                    );
                }
                self.sent.failed += 1;
                None
            }
        };
        self.streams.insert(stream, wire);
        Ok(())
    }

    fn send(&mut self, stream: u64, data: &[u8]) {
        let give_up = Instant::now() + TAKE_WAIT;
        let mut left = data;
        while !left.is_empty() {
            let wire = self.streams.get_mut(&stream).and_then(Option::as_mut);
            let Some(wire) = wire else { break };
            match wire.write(left) {
                Ok(bytes) => left = &left[bytes..],
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                // The node may wait for its answers to be read.
                Err(cause) if cause.kind() == ErrorKind::WouldBlock && Instant::now() < give_up => {
                    self.listen();
                    std::thread::sleep(AGAIN);
                }
                Err(_) => {
                    self.sent.failed += 1;
                    self.streams.insert(stream, None);
                }
            }
        }
        self.sent.records += 1;
        self.sent.bytes += (data.len() - left.len()) as u64;
        self.sent.unsent_bytes += left.len() as u64;
    }

    fn leave(&mut self, wire: Wire) {
        let wait = match &wire {
            Wire::Tcp(socket) => {
                // One that is gone already has nothing to say.
                let _ = socket.shutdown(Shutdown::Write);
                ANSWER_WAIT
            }
            Wire::Udp(_) => DATAGRAM_WAIT,
        };
        self.leaving.push((wire, Instant::now() + wait));
    }
}

impl Wire {
    fn open(to: SocketAddr, udp: bool) -> io::Result<Wire> {
        if udp {
            let any: SocketAddr = match to {
                SocketAddr::V4(_) => ([0; 4], 0).into(),
                SocketAddr::V6(_) => ([0; 16], 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            return Ok(Wire::Udp(socket));
        }
        let socket = TcpStream::connect_timeout(&to, CONNECT_WAIT)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Wire::Tcp(socket))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(socket) => socket.write(bytes),
            Wire::Udp(socket) => socket.send(bytes),
        }
    }

    /// Reads what is there; how much, and whether nothing more can come. An answer to a datagram may always come, but
    /// it is not waited for.
    fn discard(&mut self) -> (u64, bool) {
        let mut buffer = [0; 4096];
        let mut total = 0;
        loop {
            let read = match self {
                Wire::Tcp(socket) => socket.read(&mut buffer),
                Wire::Udp(socket) => socket.recv(&mut buffer),
            };
            match read {
                Ok(0) => return (total, true),
                Ok(bytes) => total += bytes as u64,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return (total, cause.kind() != ErrorKind::WouldBlock),
            }
        }
    }
}
