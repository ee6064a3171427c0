//! Devices that connect and send rubbish, and their neighbours.

use std::net::Ipv4Addr;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use std::os::fd::AsRawFd;

use super::*;

/// Connects from an address of its own: all of 127.0.0.0/8 is this machine.
pub(super) fn connect_from(site: &Site, last: u8) -> TcpStream {
    let stream = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let SocketAddr::V4(to) = site.address.unwrap() else {
        panic!("the site listens on IPv4");
    };
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    let SocketAddr::V4(from) = from else {
        unreachable!()
    };
    bind(stream.as_raw_fd(), &SockaddrIn::from(from)).unwrap();
    connect(stream.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
    let stream = TcpStream::from(stream);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn beat(device: &mut TcpStream, serial: u16) {
    beat_of(0x5678, device, serial);
}

fn beat_of(device: u16, stream: &mut TcpStream, serial: u16) {
    stream
        .write_all(&message_of(device, 0x0002, serial, &[]))
        .unwrap();
    assert_eq!(answered(stream), serial);
}

/// Sends as many bad messages as end a connection.
fn offend(site: &Site, device: &mut TcpStream) {
    let bad = message(0x0002, 1, &[]);
    let bad = [&bad[..13], &[bad[13] ^ 1, 0x7e]].concat();
    device.write_all(&bad.repeat(5)).unwrap();
    assert_closed(device);
    site.counted(IngestMetric::ClosedErrors, 1);
}

#[test]
fn who_sent_rubbish_is_let_back_in_with_a_delay_and_who_comes_from_elsewhere_without() {
    let site = Site::listening(ROOM);
    let running = site.start(settings());
    let begin = Instant::now();
    offend(&site, &mut connect_from(&site, 2));

    beat(&mut connect_from(&site, 3), 1);
    assert_eq!(site.counted(IngestMetric::ConnectionsDelayed, 0), 0);
    let mut again = connect_from(&site, 2);
    beat(&mut again, 2);
    // The clock of the ingest has milliseconds.
    assert!(begin.elapsed() >= Duration::from_millis(999));
    assert_eq!(site.counted(IngestMetric::ConnectionsDelayed, 1), 1);
    running.drain();
}

#[test]
fn beside_a_sound_neighbour_a_device_is_read_at_once_but_may_err_only_once() {
    let site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut good = site.connect();
    beat(&mut good, 1);
    offend(&site, &mut site.connect());

    let mut other = site.connect();
    beat_of(0x5679, &mut other, 2);
    let mut bad = site.connect();
    bad.write_all(b"\x7e\x00\x7e").unwrap();
    assert_closed(&mut bad);
    site.counted(IngestMetric::ClosedErrors, 2);
    beat(&mut good, 3);
    assert_eq!(site.counted(IngestMetric::ConnectionsDelayed, 0), 0);
    running.drain();
}

/// The garbage came first. One that was there before shows that not all who come from there are bad.
#[test]
fn a_sound_neighbour_ends_the_wait_of_others() {
    let site = Site::listening(ROOM);
    let running = site.start(settings());
    let mut quiet = site.connect();
    site.counted(IngestMetric::ConnectionsAccepted, 1);
    offend(&site, &mut site.connect());
    let mut bad = site.connect();
    site.counted(IngestMetric::ConnectionsDelayed, 1);
    beat(&mut quiet, 1);
    // On probation, so one error is enough; had it waited for the delay to end, it would take five.
    bad.write_all(b"\x7e\x00\x7e").unwrap();
    assert_closed(&mut bad);
    running.drain();
}

#[test]
fn who_waits_is_not_idle() {
    let site = Site::listening(ROOM);
    let mut settings = settings();
    settings.input = Input::Tcp(Listening {
        listen: String::new(),
        connections_max: 10,
        idle_ms: 300,
        tls: None,
    });
    let running = site.start(settings);
    offend(&site, &mut site.connect());
    let mut again = site.connect();
    beat(&mut again, 1);
    assert_eq!(site.counted(IngestMetric::ConnectionsDelayed, 1), 1);
    running.drain();
}
