//! What a receiver says, and how a fed sensor of a node is doing.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd::Pid;
use ringway::supervisor::report::FeedReport;
use serde_json::Value;

use crate::node::{Node, wait_for};
use crate::web;

/// A sentence of a moment of 18 October 2022, which a day's second tells. The check is the XOR of what stands between
/// `$` and `*`; the fields are those of the u-blox manual's example.
pub fn sentence(second: u32) -> String {
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    let text = format!(
        "GPRMC,{hours:02}{minutes:02}{seconds:02}.00,A,4717.11437,N,00833.91522,E,0.004,77.52,181022,,,A"
    );
    let check = text.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${text}*{check:02X}\r\n")
}

/// How the time of [`sentence`] is shown.
pub fn shown_time(second: u32) -> String {
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    format!("2022-10-18T{hours:02}:{minutes:02}:{seconds:02}.000Z")
}

/// The other side of a pseudo-terminal and its path; no program that is started has it, and it never blocks.
pub fn pseudo_terminal() -> (File, PathBuf) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let wire = posix_openpt(flags).unwrap();
    grantpt(&wire).unwrap();
    unlockpt(&wire).unwrap();
    let path = ptsname_r(&wire).unwrap();
    (OwnedFd::from(wire).into(), path.into())
}

/// A device's track as subscribers get it, if it is known.
pub fn track(node: &Node, device: &str) -> Option<Value> {
    let (status, body) = web::get(&node.address("dispatcher"), "/v1/tracks");
    assert_eq!(status, 200);
    let tracks: Value = serde_json::from_str(&body).unwrap();
    let mut tracks = tracks["features"].as_array().unwrap().iter();
    tracks
        .find(|track| track["properties"]["device"] == device)
        .cloned()
}

/// Waits until the sentence of that second is the newest that is shown of a device.
pub fn await_shown(node: &Node, device: &str, second: u32) {
    let time = shown_time(second);
    wait_for(&format!("{device} at {time}"), || {
        track(node, device).filter(|track| track["properties"]["time"] == *time)
    });
}

/// How a sensor's feed is doing.
pub fn feed(node: &Node, sensor: &str) -> FeedReport {
    let feeds = node.report().feeds;
    let feed = feeds.into_iter().find(|feed| feed.sensor == sensor);
    feed.unwrap_or_else(|| panic!("no feed of {sensor}"))
}

/// Waits until a sensor's feed is in that state.
pub fn await_feed(node: &Node, sensor: &str, state: &str) -> FeedReport {
    wait_for(&format!("the feed of {sensor} to be {state}"), || {
        Some(feed(node, sensor)).filter(|feed| feed.state == state)
    })
}

/// A counter of the messages that a sensor refused for that reason.
pub fn refused(node: &Node, sensor: &str, reason: &str) -> f64 {
    node.figure(
        sensor,
        &format!("ringway_messages_refused_total{{reason={reason:?}}}"),
    )
}

/// Resident memory of a process, bytes, by proc_pid_status(5).
pub fn resident(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}
