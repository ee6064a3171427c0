//! Devices that connect over TLS, and what speaks to a TLS port without being one.

use std::io;
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::*;
use crate::config::certificates::Certificates;
use crate::config::{Admission, ClientCertificates, Identity, Tls};
use crate::ingest::connection::{Closed, Got};
use crate::ingest::connections::Connections;
use crate::ingest::session::Session;
use crate::ingest::tls::{self, Acceptor, Failure};
use crate::protocol;
use crate::role;

const HOST: &str = "gateway.example";

/// Somebody who signs certificates.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Pair {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Authority {
            certificate,
            issuer,
        }
    }

    fn signs(&self, name: &str, purpose: ExtendedKeyUsagePurpose, until_year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate, key }
    }

    fn server(&self) -> Pair {
        self.signs(HOST, ExtendedKeyUsagePurpose::ServerAuth, 2090)
    }

    fn client(&self, name: &str) -> Pair {
        self.signs(name, ExtendedKeyUsagePurpose::ClientAuth, 2090)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

/// Settings whose files nobody opens: an ingest is handed what is in them.
fn tls(clients: bool, identity: bool) -> Tls {
    Tls {
        certificate: "chain.pem".to_owned(),
        key: "key.pem".to_owned(),
        client_authorities: clients.then(|| "clients.pem".to_owned()),
        client: ClientCertificates::Required,
        identity: identity.then_some(Identity::CommonName),
    }
}

fn over(tls: Tls) -> SensorSettings {
    let mut settings = settings();
    settings.input = Input::Tcp(Listening {
        listen: String::new(),
        connections_max: 300,
        idle_ms: 60_000,
        tls: Some(tls),
    });
    settings
}

fn certificates(server: &Pair, clients: Option<&Authority>) -> Certificates {
    Certificates {
        chain: server.certificate.pem().into_bytes(),
        key: server.key.serialize_pem().into_bytes(),
        authorities: clients.map(|authority| authority.certificate.pem().into_bytes()),
    }
}

fn handed(certificates: &Certificates) -> role::Certificates {
    let file = |bytes: &Vec<u8>| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        OwnedFd::from(file)
    };
    role::Certificates {
        chain: file(&certificates.chain),
        key: file(&certificates.key),
        authorities: certificates.authorities.as_ref().map(file),
    }
}

impl Site {
    fn start_tls(&self, tls: Tls, server: &Pair, clients: Option<&Authority>) -> Running {
        let handed = handed(&certificates(server, clients));
        self.start_with(over(tls), vec![Handed::Certificates(handed)])
    }
}

type Device<S = TcpStream> = StreamOwned<ClientConnection, S>;

fn client(
    trusts: &Authority,
    shows: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(trusts.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
            let chain = vec![pair.certificate.der().clone()];
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from(HOST).unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

fn connect(site: &Site, trusts: &Authority, shows: Option<&Pair>) -> Device {
    StreamOwned::new(client(trusts, shows, rustls::ALL_VERSIONS), site.connect())
}

fn beat(device: &mut (impl Read + Write), serial: u16) {
    device.write_all(&message(0x0002, serial, &[])).unwrap();
    assert_eq!(answered(device), serial);
}

/// Whatever it is told, in the end it is closed.
fn assert_turned_away(mut device: Device) {
    let _ = device.write_all(&message(0x0002, 1, &[]));
    let mut rest = Vec::new();
    let _ = device.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_device_is_answered_over_both_versions_of_tls() {
    for version in rustls::ALL_VERSIONS {
        let authority = Authority::new("authority");
        let mut site = Site::listening(ROOM);
        let running = site.start_tls(tls(false, false), &authority.server(), None);
        let client = client(&authority, None, &[version]);
        let mut device = StreamOwned::new(client, site.connect());
        device.write_all(&report(7)).unwrap();
        let (_, frame) = site.frames(1).remove(0);
        assert_eq!(frame.device.as_str(), "13912345678");
        site.settle(&frame, Outcome::Accepted);
        assert_eq!(answered(&mut device), 7);
        assert_eq!(site.counted(IngestMetric::TlsHandshakes, 1), 1);
        // What is counted is what the device said, not what it took to say it in secret.
        assert_eq!(site.counted(IngestMetric::Bytes, 1), report(7).len() as u64);
        running.drain();
        // The end is said, so that nobody else can have cut it off.
        assert_eq!(device.read(&mut [0]).unwrap(), 0);
    }
}

/// Gives and takes one byte at a time.
struct Dribble(TcpStream);

impl Read for Dribble {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

impl Write for Dribble {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn a_handshake_and_records_may_come_byte_by_byte() {
    let authority = Authority::new("authority");
    let site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &authority.server(), None);
    let stream = site.connect();
    stream.set_nodelay(true).unwrap();
    let client = client(&authority, None, rustls::ALL_VERSIONS);
    let mut device: Device<Dribble> = StreamOwned::new(client, Dribble(stream));
    for serial in 1..=3 {
        beat(&mut device, serial);
    }
    running.drain();
}

/// The library takes a whole record and the one behind it out of the socket, more than is read in one go. What is left
/// in it makes the socket readable no more.
#[test]
fn what_is_decrypted_already_does_not_wait_for_the_socket() {
    let authority = Authority::new("authority");
    let site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &authority.server(), None);
    let mut device = connect(&site, &authority, None);
    let count = 2_300;
    let beats: Vec<u8> = (1..=count)
        .flat_map(|serial| message(0x0002, serial, &[]))
        .collect();
    assert!(beats.len() > 2 * 16 * 1024, "{}", beats.len());
    let rounds = 5;
    for _ in 0..rounds {
        device.write_all(&beats).unwrap();
        for serial in 1..=count {
            assert_eq!(answered(&mut device), serial);
        }
    }
    running.drain();
}

/// Reading stops while a device is owed many answers; what of it is decrypted already is gone on with afterwards.
#[test]
fn a_device_that_was_held_up_is_gone_on_with() {
    let authority = Authority::new("authority");
    let mut site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &authority.server(), None);
    let mut device = connect(&site, &authority, None);
    let count = 800;
    let reports: Vec<u8> = (1..=count).flat_map(report).collect();
    assert!(reports.len() > 2 * 16 * 1024, "{}", reports.len());
    device.write_all(&reports).unwrap();
    for _ in 1..=count {
        let (_, frame) = site.frames(1).remove(0);
        site.settle(&frame, Outcome::Accepted);
        answered(&mut device);
    }
    running.drain();
}

#[test]
fn who_says_that_it_sends_no_more_is_answered_and_then_told_the_same() {
    let authority = Authority::new("authority");
    let mut site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &authority.server(), None);
    let mut device = connect(&site, &authority, None);
    device.write_all(&report(7)).unwrap();
    device.conn.send_close_notify();
    device.flush().unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut device), 7);
    // Its socket stays open: only TLS said that this is the end.
    assert_eq!(device.read(&mut [0]).unwrap(), 0);
    site.counted(IngestMetric::ClosedByPeer, 1);
    running.drain();
}

#[test]
fn a_message_that_is_cut_off_is_counted_and_what_came_before_is_kept() {
    let authority = Authority::new("authority");
    let mut site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &authority.server(), None);
    let mut device = connect(&site, &authority, None);
    let bytes = [report(7), report(8)[..20].to_vec()].concat();
    device.write_all(&bytes).unwrap();
    device.sock.shutdown(std::net::Shutdown::Write).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut device), 7);
    site.counted(IngestMetric::RefusedIncomplete, 1);
    running.drain();
}

#[test]
fn a_client_comes_in_with_a_certificate_of_ours_only() {
    let authority = Authority::new("authority");
    let ours = Authority::new("fleet");
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let cases = [
        (None, IngestMetric::TlsNoCertificate),
        (
            Some(Authority::new("fleet").client("1")),
            IngestMetric::TlsUnknownAuthority,
        ),
        (
            Some(Authority::new("strangers").client("1")),
            IngestMetric::TlsUnknownAuthority,
        ),
        (
            Some(ours.signs("1", client, 2002)),
            IngestMetric::TlsExpired,
        ),
        (
            Some(ours.signs("1", ExtendedKeyUsagePurpose::ServerAuth, 2090)),
            IngestMetric::TlsCertificate,
        ),
    ];
    for (shown, metric) in cases {
        let site = Site::listening(ROOM);
        let running = site.start_tls(tls(true, false), &authority.server(), Some(&ours));
        // Whoever is in order is not asked to wait for those who are not.
        let good = ours.client("1");
        let mut good = connect(&site, &authority, Some(&good));
        beat(&mut good, 1);
        assert_turned_away(connect(&site, &authority, shown.as_ref()));
        site.counted(metric, 1);
        assert_eq!(site.counted(IngestMetric::ClosedTls, 1), 1);
        beat(&mut good, 2);
        running.drain();
    }
}

#[test]
fn a_device_reports_for_whom_its_certificate_names_only() {
    let authority = Authority::new("authority");
    let ours = Authority::new("fleet");
    let mut site = Site::listening(ROOM);
    let running = site.start_tls(tls(true, true), &authority.server(), Some(&ours));
    let right = ours.client("13912345678");
    let mut device = connect(&site, &authority, Some(&right));
    device.write_all(&report(7)).unwrap();
    let (_, frame) = site.frames(1).remove(0);
    site.settle(&frame, Outcome::Accepted);
    assert_eq!(answered(&mut device), 7);

    let wrong = ours.client("13912345679");
    let mut device = connect(&site, &authority, Some(&wrong));
    device.write_all(&report(8)).unwrap();
    let _ = device.read_to_end(&mut Vec::new());
    assert_eq!(site.counted(IngestMetric::TlsIdentity, 1), 1);
    // One that no device can have is turned away before it says anything.
    assert_turned_away(connect(&site, &authority, Some(&ours.client("no id!"))));
    site.counted(IngestMetric::TlsIdentity, 2);
    assert_eq!(site.consumer.available().unwrap(), 0);
    running.drain();
}

#[test]
fn what_is_no_tls_is_named() {
    let cases: [(&[u8], IngestMetric); 4] = [
        (&message(0x0002, 1, &[]), IngestMetric::TlsPlainText),
        (b"POST / HTTP/1.1\r\n\r\n", IngestMetric::TlsPlainText),
        // A handshake record that holds no greeting (RFC 8446, 4).
        (&[0x16, 3, 1, 0, 4, 0x63, 0, 0, 0], IngestMetric::TlsBroken),
        // A greeting without an end.
        (
            &[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff],
            IngestMetric::TlsTooLong,
        ),
    ];
    for (sent, metric) in cases {
        let authority = Authority::new("authority");
        let site = Site::listening(ROOM);
        let running = site.start_tls(tls(false, false), &authority.server(), None);
        let mut stranger = site.connect();
        stranger.write_all(sent).unwrap();
        if metric == IngestMetric::TlsTooLong {
            let record = [&[0x16, 3, 1, 0x40, 0][..], &[7; 0x4000][..]].concat();
            stranger.write_all(&[7; 0x4000 - 4]).unwrap();
            // It may be closed in the middle of the rest.
            let _ = stranger.write_all(&record);
        }
        assert_closed(&mut stranger);
        site.counted(metric, 1);
        // The next one from there waits, as after rubbish.
        let mut next = site.connect();
        let _ = next.write_all(sent);
        site.counted(IngestMetric::ConnectionsDelayed, 1);
        running.drain();
    }
}

#[test]
fn a_record_that_was_changed_on_the_way_ends_the_connection() {
    let authority = Authority::new("authority");
    let site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &authority.server(), None);
    let mut device = connect(&site, &authority, None);
    beat(&mut device, 1);
    let record = [&[0x17, 3, 3, 0, 32][..], &[9; 32][..]].concat();
    device.sock.write_all(&record).unwrap();
    site.counted(IngestMetric::TlsBroken, 1);
    running.drain();
}

#[test]
fn who_leaves_in_the_middle_of_a_handshake_is_no_offender() {
    let authority = Authority::new("authority");
    let site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &authority.server(), None);
    drop(site.connect());
    site.counted(IngestMetric::TlsLeft, 1);
    let mut half = site.connect();
    half.write_all(&[0x16, 3, 1]).unwrap();
    drop(half);
    site.counted(IngestMetric::TlsLeft, 2);
    beat(&mut connect(&site, &authority, None), 1);
    assert_eq!(site.counted(IngestMetric::ConnectionsDelayed, 0), 0);
    running.drain();
}

#[test]
fn new_connections_get_new_certificates_and_open_ones_stay() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &before.server(), None);
    let mut old = connect(&site, &before, None);
    beat(&mut old, 1);
    let hand = |certificates: &Certificates| {
        let certificates = handed(certificates);
        let (message, fds) = certificates.as_message();
        running.control.send(&message, &fds).unwrap();
    };

    // A key of another pair: nothing changes.
    let mut wrong = certificates(&after.server(), None);
    wrong.key = after.server().key.serialize_pem().into_bytes();
    hand(&wrong);
    hand(&certificates(&after.server(), None));
    let give_up = Instant::now() + DEADLINE;
    loop {
        let mut device = connect(&site, &after, None);
        // Another device: the same one would take the session of the old connection over.
        if device
            .write_all(&message_of(0x5679, 0x0002, 2, &[]))
            .is_ok()
        {
            assert_eq!(answered(&mut device), 2);
            break;
        }
        assert!(Instant::now() < give_up, "the new certificate is not shown");
        std::thread::sleep(Duration::from_millis(20));
    }
    beat(&mut old, 3);
    running.drain();
}

#[test]
fn two_hundred_devices_are_all_answered() {
    let authority = Authority::new("authority");
    let mut site = Site::listening(ROOM);
    let running = site.start_tls(tls(false, false), &authority.server(), None);
    let mut devices: Vec<_> = (0..200).map(|_| connect(&site, &authority, None)).collect();
    // All greet before the first one is done.
    for device in &mut devices {
        device.conn.write_tls(&mut device.sock).unwrap();
    }
    for (serial, device) in devices.iter_mut().enumerate() {
        let (serial, id) = (serial as u16, numbered(serial as u16));
        device.write_all(&report_of(id, serial)).unwrap();
    }
    for (_, frame) in site.frames(200) {
        site.settle(&frame, Outcome::Accepted);
    }
    for (serial, device) in devices.iter_mut().enumerate() {
        assert_eq!(answered(device), serial as u16);
    }
    assert_eq!(site.counted(IngestMetric::TlsHandshakes, 200), 200);
    running.drain();
}

/// Connections with one that has just been accepted, and the device's end.
fn one_connection(authority: &Authority) -> (Connections, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    setsockopt(&listener, sockopt::SndBuf, &4096).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    setsockopt(&stream, sockopt::RcvBuf, &4096).unwrap();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let listening = Listening {
        listen: String::new(),
        connections_max: 10,
        idle_ms: 1_000_000,
        tls: None,
    };
    let admission = Admission::default();
    let mut connections = Connections::new(epoll, listener, &listening, &admission).unwrap();
    let certificates = certificates(&authority.server(), None);
    connections.tls = Some(Acceptor::new(tls(false, false), &certificates).unwrap());
    let session = || Session::new(Protocol::Jt808, &protocol::Settings::default());
    while connections
        .accept(0, session, |_, _| {}, |_| {})
        .unwrap()
        .all
        == 0
    {
        std::thread::yield_now();
    }
    (connections, stream)
}

#[test]
fn a_handshake_has_an_end_by_the_clock() {
    let (mut connections, _stream) = one_connection(&Authority::new("authority"));
    let key = connections.keys()[0];
    assert_eq!(connections.overdue(tls::HANDSHAKE_MS_MAX - 1, true), []);
    assert_eq!(
        connections.overdue(tls::HANDSHAKE_MS_MAX + 1_000, true),
        [(key, Closed::Tls(Failure::Late))]
    );
}

#[test]
fn answers_left_unread_have_the_limits_that_they_have_without_tls() {
    let authority = Authority::new("authority");
    let (mut connections, stream) = one_connection(&authority);
    let client = client(&authority, None, rustls::ALL_VERSIONS);
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let device = std::thread::spawn(move || {
        let mut device = StreamOwned::new(client, stream);
        while device.conn.is_handshaking() {
            device.conn.complete_io(&mut device.sock).unwrap();
        }
        let _ = wait.recv();
    });
    let key = connections.keys()[0];
    let give_up = Instant::now() + DEADLINE;
    while connections.read(key, &mut [0; 100]) != Got::Established {
        connections.flush(5, |_, why| panic!("closed: {why:?}"), |_| {});
        assert!(Instant::now() < give_up, "no handshake");
    }
    while connections.get(key).unwrap().readable() {
        connections.answer(key, vec![0x7e; 1000]);
        connections.flush(5, |_, why| panic!("closed: {why:?}"), |_| {});
    }
    let (mut closed, mut answers) = (Vec::new(), 0);
    while closed.is_empty() {
        answers += 1;
        connections.answer(key, vec![0x7e; 1000]);
        connections.flush(5, |_, why| closed.push(why), |_| {});
    }
    assert_eq!(closed, [Closed::Unread]);
    assert!((50..=66).contains(&answers), "{answers}");
    drop(done);
    device.join().unwrap();
}
