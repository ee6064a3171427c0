//! Connections with real sockets, and nobody behind them.

use std::io::Read;
use std::net::TcpStream;

use nix::sys::epoll::EpollCreateFlags;
use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::frame::DeviceId;
use crate::ingest::admit::{Entered, Rate};
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
    accept(&mut connections);
    let key = connections.keys()[0];
    (connections, key, device)
}

fn accept(connections: &mut Connections) {
    while connections
        .accept(0, session, |_, _| (), |_| ())
        .unwrap()
        .all
        == 0
    {
        std::thread::yield_now();
    }
}

/// A further device and its connection.
fn connect(connections: &mut Connections) -> (Key, TcpStream) {
    let before = connections.keys();
    let device = TcpStream::connect(connections.listener.local_addr().unwrap()).unwrap();
    accept(connections);
    let mut keys = connections.keys().into_iter();
    let key = keys.find(|key| !before.contains(key)).unwrap();
    (key, device)
}

fn id(text: &str) -> DeviceId {
    DeviceId::new(text.as_bytes()).unwrap()
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

/// The classifier was stopped for longer than connections may be idle: the whole fleet was closed, although what it had
/// sent lay unread in the kernel.
#[test]
fn nobody_is_idle_or_late_while_nothing_is_read() {
    let (mut connections, key, _device) = deaf_device();
    assert_eq!(connections.overdue(1_000, false), []);
    assert_eq!(connections.overdue(2_000_000, false), []);
    assert_eq!(connections.overdue(2_001_000, true), []);
    let late_ms = 2_001_000 + Admission::default().first_message_ms;
    assert_eq!(connections.overdue(late_ms - 1, true), []);
    let closed = connections.overdue(late_ms + 1_000, true);
    assert_eq!(closed, [(key, Closed::NoMessage)]);
}

/// A device that had closed its connection was kept out as long as that one waited for an answer.
#[test]
fn a_connection_that_has_ended_keeps_no_session() {
    let (mut connections, before, _device) = deaf_device();
    let (now, _again) = connect(&mut connections);
    let device = id("1");
    assert_eq!(
        connections.enter(before, device, 0, |_| false),
        Entered::New
    );
    assert_eq!(
        connections.enter(now, device, 0, |_| false),
        Entered::Occupied
    );
    connections.get(before).unwrap().awaiting = 1;
    assert_eq!(connections.end(before, Closed::Peer), None);
    assert_eq!(
        connections.enter(now, device, 0, |_| false),
        Entered::TakenFrom(before)
    );
}

/// A device that sent too much had all its tokens back once it came by the connection of another.
#[test]
fn a_device_that_comes_anew_beside_another_has_no_more_tokens() {
    let (mut connections, key, _device) = deaf_device();
    let rate = Rate::a_second(1, 5);
    let spent = id("2");
    let first = connections.enter(key, id("1"), 0, |_| true);
    assert_eq!(first, Entered::New);
    while connections.buckets.of(spent, 0).try_take(&rate, 0).is_ok() {}
    assert_eq!(connections.enter(key, spent, 0, |_| true), Entered::New);
    assert!(connections.buckets.of(spent, 0).try_take(&rate, 0).is_err());
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
    let (other, _device) = connect(&mut connections);
    assert!(connections.get(key).is_none());
    assert_eq!(other.index, key.index);
}
