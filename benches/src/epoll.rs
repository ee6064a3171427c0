//! The raw server: what the kernel alone asks for. One thread, one epoll set, reads 60 bytes and answers 20, does
//! nothing with them. It serves at once when idle; after that it gathers for a millisecond, as Ringway does.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::wire::{PLAIN_ANSWER_BYTES, PLAIN_MESSAGE_BYTES};

/// Events taken at once.
const EVENTS_MAX: usize = 1_024;

/// Between two rounds of service when busy.
const GATHER: Duration = Duration::from_millis(1);

/// The key of the listener in the epoll set; connections have their index.
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// Bytes of a message that is not complete.
    open: usize,
}

/// Serves until it is killed; prints its port first.
///
/// # Errors
/// When the kernel refuses a socket; a connection that fails is only dropped.
pub fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = [EpollEvent::empty(); EVENTS_MAX];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            ready => ready?,
        };
        let began = Instant::now();
        for event in &events[..ready] {
            if event.data() == LISTENER {
                accept(&listener, &epoll, &mut connections)?;
                continue;
            }
            let place = &mut connections[event.data() as usize];
            if let Some(connection) = place
                && answer(connection).is_err()
            {
                *place = None;
            }
        }
        thread::sleep(GATHER.saturating_sub(began.elapsed()));
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let key = connections.len() as u64;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        connections.push(Some(Connection { stream, open: 0 }));
    }
}

/// Reads once and answers each complete message.
fn answer(connection: &mut Connection) -> io::Result<()> {
    let mut input = [0; 4_096];
    let read = connection.stream.read(&mut input)?;
    if read == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    connection.open += read;
    let messages = connection.open / PLAIN_MESSAGE_BYTES;
    connection.open %= PLAIN_MESSAGE_BYTES;
    let output = [0xaa; 4_096 / PLAIN_MESSAGE_BYTES * PLAIN_ANSWER_BYTES + PLAIN_ANSWER_BYTES];
    connection
        .stream
        .write_all(&output[..messages * PLAIN_ANSWER_BYTES])
}
