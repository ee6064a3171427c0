//! Connections with real sockets, and nobody behind them.

use std::io::Read;
use std::net::TcpStream;

use nix::sys::epoll::EpollCreateFlags;
use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::ingest::session::Session;
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
