//! What processes and the kernel keep in memory, as /proc has it.

use std::fs::read_to_string;

use crate::node::Node;

/// Bytes of a page as /proc/net/sockstat counts them.
const PAGE_BYTES: u64 = 4096;

/// Ids of a node's processes, the supervisor among them.
pub fn processes(node: &Node) -> Vec<u32> {
    let children = node.report().processes;
    let pids = children.into_iter().filter_map(|process| process.pid);
    pids.chain([node.pid() as u32]).collect()
}

/// Bytes of a process that it has written to and shares with nobody; `None` if it is gone.
pub fn private_bytes(pid: u32) -> Option<u64> {
    rollup(pid, "Private_Dirty:")
}

/// Bytes of these processes, each page that several share counted once among them.
pub fn proportional_bytes(pids: &[u32]) -> u64 {
    let each = pids.iter().filter_map(|&pid| rollup(pid, "Pss:"));
    each.sum()
}

/// A line of a process's summed mappings, in bytes.
fn rollup(pid: u32, name: &str) -> Option<u64> {
    let text = read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(line(&text, name)? * 1024)
}

/// What the kernel keeps, of this whole machine.
#[derive(Clone, Copy, Default)]
pub struct Kernel {
    /// Bytes in TCP's buffers.
    pub buffers: u64,
    /// Bytes of its own objects that it cannot give back: sockets, descriptors, watches.
    pub objects: u64,
}

impl Kernel {
    pub fn now() -> Kernel {
        let sockets = read_to_string("/proc/net/sockstat").unwrap_or_default();
        let memory = read_to_string("/proc/meminfo").unwrap_or_default();
        let tcp = sockets.lines().find(|line| line.starts_with("TCP:"));
        let pages = tcp.and_then(|line| line.split(" mem ").nth(1)?.trim().parse::<u64>().ok());
        Kernel {
            buffers: pages.unwrap_or(0) * PAGE_BYTES,
            objects: line(&memory, "SUnreclaim:").unwrap_or(0) * 1024,
        }
    }
}

/// The number on the line with this name.
fn line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
