//! Where a node listens: IPv4, IPv6, and both by one socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use crate::example;
use crate::node::{DEADLINE, Node, QUIET};
use crate::terminal::{Terminal, now_s, report};
use crate::web;

/// Whether there is IPv6 here; if not, that is said.
fn has_ipv6(test: &str) -> bool {
    let there = TcpListener::bind("[::1]:0").is_ok();
    if !there {
        // Written past the test runner, which keeps the words of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: 1 test, {test}: this system has no IPv6"
        );
    }
    there
}

/// A link-local address and its interface.
fn link_local() -> Option<String> {
    let all = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let mut lines = all
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = lines.find(|fields| fields[0].starts_with("fe80"))?;
    let groups: Vec<_> = (0..8)
        .map(|group| &found[0][4 * group..4 * group + 4])
        .collect();
    Some(format!("[{}%{}]", groups.join(":"), found[5]))
}

fn serves(address: &str, phone: u64) {
    let mut terminal = Terminal::connect(address, phone);
    let serial = terminal.send(&report(now_s() - 60));
    terminal.await_answer(serial);
}

#[test]
fn the_documented_sensor_of_tcp_serves_a_device() {
    let sensor = example::of("tcp", &[("[::]:6808", "127.0.0.1:0")]);
    let servers = QUIET.split_once("\n[dispatcher]").unwrap().1;
    let node = Node::start(&format!("{sensor}\n[dispatcher]{servers}"));
    serves(&node.address("sensor:trackers"), 13_900_000_001);
}

#[test]
fn an_unspecified_address_of_ipv6_takes_both() {
    if !has_ipv6("an_unspecified_address_of_ipv6_takes_both") {
        return;
    }
    let node = Node::start(&QUIET.replacen("127.0.0.1:0", "[::]:0", 1));
    let address: SocketAddr = node.address("sensor:trackers").parse().unwrap();
    assert!(address.is_ipv6());
    serves(&format!("127.0.0.1:{}", address.port()), 13_900_000_001);
    serves(&format!("[::1]:{}", address.port()), 13_900_000_002);
}

#[test]
fn every_server_listens_on_an_address_of_ipv6() {
    if !has_ipv6("every_server_listens_on_an_address_of_ipv6") {
        return;
    }
    let requests = "[[sensor]]\nname = \"requests\"\ninput = \"http\"\nprotocol = \"json\"\nlisten = \"[::1]:0\"\n";
    let datagrams = requests
        .replace("requests", "datagrams")
        .replace("http", "udp");
    let quiet = QUIET.replace("127.0.0.1:0", "[::1]:0");
    let node = Node::start(&format!("{quiet}{requests}{datagrams}"));
    let body = r#"{"device":"bus-17","id":1,"lat":48.1173,"lon":11.5167}"#;
    let mut client = TcpStream::connect(node.address("sensor:requests")).unwrap();
    let head = format!("POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
    client
        .write_all(format!("{head}{body}").as_bytes())
        .unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut status = [0; 15];
    client.read_exact(&mut status).unwrap();
    assert!(status.ends_with(b" 200 OK"), "{status:?}");
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    socket
        .send_to(
            format!("{body}\n").as_bytes(),
            node.address("sensor:datagrams"),
        )
        .unwrap();
    node.await_figure("datagrams", "ringway_messages_total", 1.0);
    serves(&node.address("sensor:trackers"), 13_900_000_001);
    let (status, _) = web::get(&node.address("observer"), "/livez");
    assert_eq!(status, 200);
    let (status, _) = web::get(&node.address("dispatcher"), "/v1/tracks");
    assert_eq!(status, 200);
}

#[test]
fn an_address_of_one_link_is_listened_on_with_its_interface() {
    let test = "an_address_of_one_link_is_listened_on_with_its_interface";
    let Some(address) = link_local() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: 1 test, {test}: no interface has a link-local address"
        );
        return;
    };
    let node = Node::start(&QUIET.replacen("127.0.0.1:0", &format!("{address}:0"), 1));
    let listens = node.address("sensor:trackers");
    assert!(listens.starts_with("[fe80:"), "{listens}");
    serves(&listens, 13_900_000_001);
}

#[test]
fn an_address_that_nobody_has_is_said_with_what_to_do() {
    // For documentation only (RFC 5737), so no interface has it.
    let mut node = Node::prepare(&QUIET.replacen("127.0.0.1:0", "192.0.2.1:5000", 1));
    node.launch();
    assert_eq!(node.ended().code(), Some(69));
    let log = node.log();
    assert!(
        log.contains("cannot listen on 192.0.2.1:5000 for sensor:trackers"),
        "{log}"
    );
    assert!(log.contains("no interface has it now"), "{log}");
    let mut node = Node::prepare(&QUIET.replacen("127.0.0.1:0", "[fe80::1%nosuch0]:5000", 1));
    node.launch();
    assert_eq!(node.ended().code(), Some(69));
    assert!(
        node.log().contains("no interface nosuch0"),
        "{}",
        node.log()
    );
}

/// Sets what a system may have set, in a network of its own, and waits until the node takes a connection by IPv4 there.
const ALONE: &str = r#"
echo 1 2>/dev/null > /proc/sys/net/ipv6/bindv6only && ip link set lo up || exit 77
"$1" run --config "$2" 2>> "$3" & node=$!
for try in $(seq 300); do
    (exec 3<> /dev/tcp/127.0.0.1/6808) 2> /dev/null && found=yes && break
    sleep 0.1
done
kill $node; wait $node
test "$found" = yes
"#;

#[test]
fn an_unspecified_address_takes_both_whatever_the_system_prefers() {
    let node = Node::prepare(&QUIET.replacen("127.0.0.1:0", "[::]:6808", 1));
    let log = node.config_path().with_file_name("log");
    let alone = Command::new("unshare")
        .args(["-Urn", "bash", "-c", ALONE, "alone"])
        .arg(env!("CARGO_BIN_EXE_ringway"))
        .arg(node.config_path())
        .arg(log)
        .stderr(Stdio::null())
        .status();
    match alone.ok().and_then(|status| status.code()) {
        Some(0) => {}
        Some(1) if !node.log().is_empty() => panic!("no connection by IPv4"),
        _ => {
            let test = "an_unspecified_address_takes_both_whatever_the_system_prefers";
            let why = "no network namespaces, or no IPv6 in them";
            let _ = writeln!(std::io::stderr(), "skipped: 1 test, {test}: {why}");
        }
    }
}
