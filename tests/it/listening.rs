//! Where a node listens: IPv4, IPv6, and both by one socket.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use crate::node::{Node, QUIET};
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
    let node = Node::start(&QUIET.replace("127.0.0.1:0", "[::1]:0"));
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
