//! What processes use, as the kernel counts it.

use std::fs;
use std::io;

/// A process that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Name in the report.
    pub name: String,
    /// Process id.
    pub pid: u32,
}

/// Time that all living threads of a process spent on a CPU, nanoseconds. `schedstat` counts in nanoseconds, `stat`
/// only in ticks of 10 ms.
///
/// # Errors
/// When the process is gone.
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we read.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let on_cpu = text.split(' ').next().and_then(|word| word.parse().ok());
        sum += on_cpu.unwrap_or(0);
    }
    Ok(sum)
}

/// Memory of a process, shared pages divided among those that share them, bytes.
///
/// # Errors
/// When the process is gone or not ours.
pub fn pss_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other("no Pss in smaps_rollup"))
}

/// Time that all CPUs of the machine were busy since it started, nanoseconds, to 10 ms. Stolen time counts: it is not
/// ours.
///
/// # Errors
/// When `/proc/stat` cannot be read.
pub fn machine_busy_ns() -> io::Result<u64> {
    /// Linux counts for user space in these, whatever its own tick is.
    const TICK_NS: u64 = 10_000_000;
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match ticks[..] {
        [
            user,
            nice,
            system,
            _idle,
            _waiting,
            irq,
            softirq,
            stolen,
            ..,
        ] => Ok((user + nice + system + irq + softirq + stolen) * TICK_NS),
        _ => Err(io::Error::other("no CPU times in /proc/stat")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let pid = std::process::id();
        let before = cpu_ns(pid).unwrap();
        let mut n = 0u64;
        while cpu_ns(pid).unwrap() == before {
            n = std::hint::black_box(n + 1);
        }
        assert!(pss_bytes(pid).unwrap() > 10_000);
        assert!(machine_busy_ns().unwrap() > 0);
    }
}
