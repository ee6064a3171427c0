//! A sensor with TLS, with all processes: a fleet, OpenSSL as somebody else's client, and certificates that change.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use device_sim::fleet::{Options, run};
use device_sim::jt808::{self, Answer, Edition, HEARTBEAT, Reader};
use device_sim::roads::Roads;
use device_sim::schedule::Pace;
use device_sim::tls::Trust;
use device_sim::town;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::aside::block_on;
use crate::authority::{Authority, HOST, Pair, write_secret};
use crate::example;
use crate::node::{DEADLINE, Node, wait_for};

const OPENSSL: &str = "/usr/bin/openssl";
const DEVICES: u32 = 200;

/// The example of docs/sensors.md with files of a test.
struct Site {
    node: Node,
    folder: TempDir,
    server: Authority,
    fleet: Authority,
}

fn config(folder: &Path) -> String {
    let ports = "\n[dispatcher]\nlisten = \"127.0.0.1:0\"\n[observer]\nlisten = \"127.0.0.1:0\"\n";
    let file = |name: &str| folder.join(name).display().to_string();
    example::of(
        "TLS",
        &[
            ("[::]:6809", "127.0.0.1:0"),
            ("chain.pem", &file("chain.pem")),
            ("key.pem", &file("key.pem")),
            ("fleet.pem", &file("fleet.pem")),
        ],
    ) + ports
}

impl Site {
    /// A node that asks clients for certificates as `client` says.
    fn start(client: &str) -> Site {
        Site::start_as(client, &[])
    }

    /// As [`Site::start`], with these changes to the example.
    fn start_as(client: &str, changes: &[(&str, &str)]) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let (server, fleet) = (Authority::new("server"), Authority::new("fleet"));
        server.server(2090).write(folder.path());
        std::fs::write(folder.path().join("fleet.pem"), &fleet.pem).unwrap();
        std::fs::write(folder.path().join("server.pem"), &server.pem).unwrap();
        let config = config(folder.path());
        let mut config = config.replace("client = \"optional\"", &format!("client = {client:?}"));
        for (from, to) in changes {
            assert!(config.contains(from), "{from}");
            config = config.replace(from, to);
        }
        Site {
            node: Node::start(&config),
            folder,
            server,
            fleet,
        }
    }

    fn address(&self) -> String {
        self.node.address("sensor:secured")
    }

    fn figure(&self, name: &str, at_least: f64) {
        self.node.await_figure("secured", name, at_least);
    }
}

type Device = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: &str, trusts: &Authority) -> Device {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(trusts.pem.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = ServerName::try_from(HOST).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    StreamOwned::new(session, stream)
}

const PHONE: u64 = 13_900_000_009;

fn heartbeat(phone: u64, serial: u16) -> Vec<u8> {
    let terminal = jt808::Terminal {
        edition: Edition::Y2013,
        phone,
    };
    let mut bytes = Vec::new();
    terminal.message(&mut bytes, HEARTBEAT, serial, &[]);
    bytes
}

/// Whether these bytes answer the message with this serial number.
fn answers(bytes: &[u8], expected: u16) -> bool {
    let mut found = false;
    let read = Reader::default().read(bytes, |answer| {
        found |= matches!(answer, Answer::General { serial, result: 0, .. } if serial == expected);
    });
    read.expect("answers are well formed");
    found
}

fn try_beat(device: &mut Device, serial: u16) -> std::io::Result<()> {
    try_beat_of(PHONE, device, serial)
}

fn try_beat_of(phone: u64, device: &mut Device, serial: u16) -> std::io::Result<()> {
    device.write_all(&heartbeat(phone, serial))?;
    let mut heard = Vec::new();
    while !answers(&heard, serial) {
        let mut bytes = [0; 100];
        let count = device.read(&mut bytes)?;
        assert!(count > 0, "closed before message {serial} was answered");
        heard.extend_from_slice(&bytes[..count]);
    }
    Ok(())
}

#[test]
fn a_fleet_over_tls_is_answered_whatever_happens_to_its_ingest() {
    let seed = 47;
    eprintln!("seed {seed}");
    let site = Site::start("optional");
    let options = Options {
        pace: Pace::Clock {
            rate: 2.0,
            speed: 1.0,
        },
        grace: DEADLINE,
        trust: Some(Trust::new(site.server.pem.as_bytes(), HOST).unwrap()),
        ..Options::new(seed, DEVICES, site.address().parse().unwrap())
    };
    let roads = Roads::new(town::generate(seed)).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let check = std::thread::scope(|scope| {
        let handshakes = "ringway_tls_handshakes_total";
        let site = &site;
        let killer = scope.spawn(move || {
            let frames = "ringway_frames_published_total";
            site.figure(handshakes, f64::from(DEVICES));
            site.figure(frames, f64::from(DEVICES));
            assert!(site.node.signal("ingest", Signal::SIGKILL));
            // All come back, to an ingest that was handed the certificates again, and report to it.
            site.figure(handshakes, f64::from(2 * DEVICES));
            site.figure(frames, f64::from(3 * DEVICES));
            drop(stop);
        });
        let stopped = async {
            let _ = stopped.await;
        };
        let check = block_on(run(roads, options, stopped));
        killer.join().unwrap();
        check.unwrap()
    });
    let summary = &check.summary;
    assert!(summary.frames_sent > 0, "{check:#?}");
    assert_eq!(summary.frames_answered, summary.frames_sent, "{check:#?}");
    assert_eq!(check.refused, 0, "{check:#?}");
}

#[test]
fn requests_of_http_are_answered_over_tls() {
    let changes = [("\"tcp\"", "\"http\""), ("\"jt808\"", "\"json\"")];
    let site = Site::start_as("optional", &changes);
    let mut client = connect(&site.address(), &site.server);
    let body = r#"{"device":"bus-17","id":1,"lat":48.1173,"lon":11.5167}"#;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(body.as_bytes()).unwrap();
    let mut heard = String::new();
    while !heard.contains("{\"safe\":1}") {
        let mut bytes = [0; 1000];
        let count = client.read(&mut bytes).unwrap();
        assert!(count > 0, "closed after {heard:?}");
        heard.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
}

/// What OpenSSL's client heard from the node, and what it said of it to its user.
struct Heard {
    bytes: Vec<u8>,
    said: String,
}

/// OpenSSL's client with these arguments, until it has heard an answer or ends by itself.
fn openssl(site: &Site, arguments: &[&str], says: &[u8]) -> Heard {
    let folder = site.folder.path();
    let said = folder.join("openssl.log");
    let mut client = Command::new(OPENSSL)
        .args(["s_client", "-connect", &site.address(), "-servername", HOST])
        .args(["-verify_return_error", "-CAfile", "server.pem"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let mut input = client.stdin.take().unwrap();
    let mut output = client.stdout.take().unwrap();
    // It may be gone already.
    let _ = input.write_all(says);
    let (tell, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut bytes) {
            let _ = tell.send(bytes[..count].to_vec());
        }
    });
    let mut bytes = Vec::new();
    while let Ok(more) = told.recv_timeout(DEADLINE) {
        bytes.extend(more);
        if bytes.ends_with(&[0x7e]) {
            break;
        }
    }
    // One that has heard an answer waits for more.
    let _ = client.kill();
    client.wait().unwrap();
    reader.join().unwrap();
    let said = std::fs::read_to_string(said).unwrap();
    Heard { bytes, said }
}

/// Whether OpenSSL's program is there; if not, that is said.
fn has_openssl(test: &str) -> bool {
    let there = Path::new(OPENSSL).exists();
    if !there {
        // Written past the test runner, which keeps the words of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: 1 test, {test}: {OPENSSL} is not installed"
        );
    }
    there
}

#[test]
fn openssl_is_served_by_both_versions_and_turned_away_without_a_certificate() {
    if !has_openssl("openssl_is_served_by_both_versions_and_turned_away_without_a_certificate") {
        return;
    }
    let site = Site::start("required");
    let device = site.fleet.client("13900000009");
    std::fs::write(site.folder.path().join("device.pem"), &device.certificate).unwrap();
    write_secret(&site.folder.path().join("device-key.pem"), &device.key);
    let shown = ["-cert", "device.pem", "-key", "device-key.pem", "-quiet"];
    for (version, serial) in [("-tls1_2", 5), ("-tls1_3", 6)] {
        let arguments = [&shown[..], &[version]].concat();
        let heard = openssl(&site, &arguments, &heartbeat(PHONE, serial));
        assert!(answers(&heard.bytes, serial), "{version}: {}", heard.said);
        let heard = openssl(&site, &["-quiet", version], &heartbeat(PHONE, serial));
        assert!(heard.bytes.is_empty(), "{version}: {:02x?}", heard.bytes);
        // Alert 116 of TLS 1.3 and alert 40 of TLS 1.2.
        let told = ["certificate required", "handshake failure"];
        assert!(
            told.iter().any(|told| heard.said.contains(told)),
            "{}",
            heard.said
        );
    }
    site.figure("ringway_tls_failures_total{reason=\"no_certificate\"}", 2.0);
    // Too old, and never spoken here.
    let arguments = [&shown[..], &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]].concat();
    let heard = openssl(&site, &arguments, &heartbeat(PHONE, 7));
    assert!(heard.bytes.is_empty(), "{:02x?}", heard.bytes);
    assert!(heard.said.contains("alert"), "{}", heard.said);
    site.figure("ringway_tls_failures_total{reason=\"incompatible\"}", 1.0);
}

#[test]
fn a_client_that_wants_to_begin_anew_is_refused_and_hurts_nobody() {
    if !has_openssl("a_client_that_wants_to_begin_anew_is_refused_and_hurts_nobody") {
        return;
    }
    let site = Site::start("optional");
    let mut device = connect(&site.address(), &site.server);
    try_beat(&mut device, 1).unwrap();
    // Its command for a renegotiation, which TLS 1.3 does not have any more.
    let said = openssl(&site, &["-tls1_2"], b"R\n").said;
    assert!(
        said.contains("RENEGOTIATING") && said.contains("no renegotiation"),
        "{said}"
    );
    try_beat(&mut device, 2).unwrap();
}

#[test]
fn certificates_change_while_devices_stay() {
    let site = Site::start("optional");
    let expires = "ringway_tls_certificate_expires_timestamp_seconds";
    // Seconds from 1970 to 2090 and 2091: 120 and 121 years with 30 leap days.
    let years = |years: u32| f64::from(365 * years + 30) * 86_400.0;
    assert_eq!(site.node.figure("secured", expires), years(120));
    let mut old = connect(&site.address(), &site.server);
    try_beat(&mut old, 1).unwrap();

    let next = Authority::new("next");
    next.server(2091).write(site.folder.path());
    site.node.signal_supervisor(Signal::SIGHUP);
    site.figure(expires, years(121));
    // Another device: the same one would take the session of the old connection over.
    try_beat_of(PHONE + 1, &mut connect(&site.address(), &next), 2).unwrap();
    try_beat(&mut old, 3).unwrap();
    // Once it said that nothing was there to be read again.
    let reload = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["reload", "--config"])
        .arg(site.node.config_path())
        .output()
        .unwrap();
    let said = String::from_utf8(reload.stdout).unwrap();
    assert_eq!(reload.status.code(), Some(0), "{said}");
    assert!(said.contains("secured: new connections get"), "{said}");

    // A key of another pair is refused, and stays out when the ingest is started again, too.
    write_secret(&site.folder.path().join("key.pem"), &next.server(2091).key);
    site.node.signal_supervisor(Signal::SIGHUP);
    wait_for("the refusal", || {
        let log = site.node.log();
        let refused = log.contains("goes on with its old certificates");
        (refused && log.contains("the key does not belong to the certificate")).then_some(())
    });
    try_beat(&mut old, 4).unwrap();
    let before = site.node.process("ingest").unwrap().pid;
    assert!(site.node.signal("ingest", Signal::SIGKILL));
    wait_for("the next ingest", || {
        let now = site.node.process("ingest")?;
        (now.pid.is_some() && now.pid != before && now.state == "ready").then_some(())
    });
    try_beat(&mut connect(&site.address(), &next), 5).unwrap();
}

/// HUP had the supervisor wait for whoever would write to the pipe, deaf to TERM and blind to children that died.
#[test]
fn a_pipe_in_the_place_of_a_certificate_holds_up_nobody() {
    let site = Site::start("optional");
    let chain = site.folder.path().join("chain.pem");
    std::fs::remove_file(&chain).unwrap();
    mkfifo(&chain, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    site.node.signal_supervisor(Signal::SIGHUP);
    wait_for("the refusal", || {
        site.node.log().contains("it is not a file").then_some(())
    });
    assert_eq!(site.node.process("ingest").unwrap().state, "ready");
    try_beat(&mut connect(&site.address(), &site.server), 1).unwrap();
}

#[test]
fn an_end_that_is_near_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (server, fleet) = (Authority::new("server"), Authority::new("fleet"));
    server.server(2002).write(folder.path());
    std::fs::write(folder.path().join("fleet.pem"), &fleet.pem).unwrap();
    let node = Node::start(&config(folder.path()));
    wait_for("the warning", || {
        node.log().contains("has expired").then_some(())
    });
}

/// What `ringway check` says to the example with these files.
fn wrong(server: &Pair, key: &Pair, mode: u32, change: (&str, &str)) -> String {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let fleet = Authority::new("fleet");
    let (_, key_path) = server.write(folder.path());
    write_secret(&key_path, &key.key);
    std::fs::set_permissions(&key_path, PermissionsExt::from_mode(mode)).unwrap();
    std::fs::write(folder.path().join("fleet.pem"), &fleet.pem).unwrap();
    let config = config(folder.path()).replace(change.0, change.1);
    let node = Node::prepare(&config);
    let check = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["check", "--config"])
        .arg(node.config_path())
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(78));
    String::from_utf8_lossy(&check.stderr).into_owned()
}

#[test]
fn wrong_files_are_found_before_anything_is_started() {
    let server = Authority::new("server");
    let (one, other) = (server.server(2090), server.server(2090));
    let none = ("", "");
    let said = wrong(&one, &other, 0o600, none);
    assert!(
        said.contains("the key does not belong to the certificate"),
        "{said}"
    );
    let said = wrong(&one, &one, 0o644, none);
    assert!(said.contains("can be read by everybody"), "{said}");
    let said = wrong(&one, &one, 0o600, ("key.pem", "fleet.pem"));
    assert!(said.contains("fleet.pem"), "{said}");
    let said = wrong(&one, &one, 0o600, ("chain.pem", "chain2.pem"));
    assert!(said.contains("cannot read file"), "{said}");
    let said = wrong(
        &one,
        &one,
        0o600,
        ("client = ", "identity = \"common_name\"\nclient = "),
    );
    assert!(said.contains("leave client at \"required\""), "{said}");
    let said = wrong(&one, &one, 0o600, ("input = \"tcp\"", "input = \"udp\""));
    assert!(
        said.contains("tls has no meaning for input = \"udp\""),
        "{said}"
    );
    let garbage = Pair {
        certificate: "no certificate".to_owned(),
        key: one.key.clone(),
    };
    let said = wrong(&garbage, &one, 0o600, none);
    assert!(said.contains("no certificate in PEM form"), "{said}");
}
