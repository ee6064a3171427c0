//! What processes use, as the kernel counts it.

use std::fs;
use std::io;
use std::time::Instant;

use nix::sys::resource::UsageWho;
use nix::sys::time::{TimeVal, TimeValLike};

/// A process that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Name in the report.
    pub name: String,
    /// Process id.
    pub pid: u32,
}

/// Usage of processes, and of everything else on the machine, from a moment on.
#[derive(Debug)]
pub struct Meter<'a> {
    processes: &'a [Process],
    began: Instant,
    cpu_ns: Vec<u64>,
    this_ns: u64,
    machine_ns: u64,
}

/// What a [`Meter`] showed.
#[derive(Debug)]
pub struct Used {
    /// Time on a CPU of each process, nanoseconds.
    pub cpu_ns: Vec<(String, u64)>,
    /// CPUs that everything but these processes and this one kept busy.
    pub others_cores: f64,
}

impl Meter<'_> {
    /// Begins.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn start(processes: &[Process]) -> io::Result<Meter<'_>> {
        let cpu_ns = processes.iter().map(|process| cpu_ns(process.pid));
        Ok(Meter {
            processes,
            began: Instant::now(),
            cpu_ns: cpu_ns.collect::<io::Result<_>>()?,
            this_ns: this_cpu_ns()?,
            machine_ns: machine_busy_ns()?,
        })
    }

    /// What was used since.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn read(&self) -> io::Result<Used> {
        let mut used = Vec::new();
        for (process, before) in self.processes.iter().zip(&self.cpu_ns) {
            // A thread that ended in between took its time along.
            let since = cpu_ns(process.pid)?.saturating_sub(*before);
            used.push((process.name.clone(), since));
        }
        let theirs: u64 = used.iter().map(|(_, used)| used).sum();
        let known = theirs + this_cpu_ns()? - self.this_ns;
        let others = (machine_busy_ns()? - self.machine_ns).saturating_sub(known);
        Ok(Used {
            cpu_ns: used,
            others_cores: others as f64 / self.began.elapsed().as_nanos() as f64,
        })
    }
}

/// Time on a CPU of this process, ended threads included.
fn this_cpu_ns() -> io::Result<u64> {
    let usage = nix::sys::resource::getrusage(UsageWho::RUSAGE_SELF)?;
    let nanos = |time: TimeVal| time.num_microseconds() as u64 * 1_000;
    Ok(nanos(usage.user_time()) + nanos(usage.system_time()))
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
/// When procfs says something else than expected.
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
        let this = [Process {
            name: "this".to_owned(),
            pid,
        }];
        let meter = Meter::start(&this).unwrap();
        let mut n = 0u64;
        while meter.read().unwrap().cpu_ns[0].1 == 0 {
            n = std::hint::black_box(n + 1);
        }
        assert!(pss_bytes(pid).unwrap() > 10_000);
    }
}
