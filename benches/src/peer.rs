//! The servers that are measured: each a process, or several, of its own, started here and ended here, also when the
//! run fails.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tempfile::TempDir;

use crate::usage::Process;

/// A server that is not ready by then never will be.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A server that has not ended by then is killed.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at a server that starts; bounds how exactly its start is known.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A running server.
#[derive(Debug)]
pub struct Peer {
    /// Where devices connect.
    pub devices: SocketAddr,
    /// Where subscribers do.
    pub subscribers: SocketAddr,
    /// Its processes.
    pub processes: Vec<Process>,
    /// From start to ready.
    pub ready_after: Duration,
    child: Child,
    /// Configuration and state; goes with the server.
    _directory: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A child that is gone needs no signal; then waiting returns at once.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let deadline = Instant::now() + END_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("process {} does not end: killed", self.child.id());
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// The raw server: this program again.
///
/// # Errors
/// When it cannot be started.
pub fn epoll() -> io::Result<Peer> {
    let started = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve-epoll")
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().expect("it was asked to be piped");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let port = line.trim().parse().map_err(io::Error::other)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Peer {
        devices: address,
        subscribers: address,
        processes: vec![process("epoll", child.id())],
        ready_after: started.elapsed(),
        child,
        _directory: TempDir::new()?,
    })
}

/// Mosquitto without Nagle's algorithm and without a disk; `None` if it is not installed.
///
/// # Errors
/// When it is there and does not start.
pub fn mosquitto() -> io::Result<Option<Peer>> {
    let Some(binary) = find("mosquitto") else {
        return Ok(None);
    };
    let directory = TempDir::new()?;
    // It takes no port 0; nobody else is likely to get this one in the meantime.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let config = directory.path().join("mosquitto.conf");
    let settings = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_connections -1\n\
         persistence false\nlog_type error\nmax_queued_messages 100000\n",
        address.port()
    );
    fs::write(&config, settings)?;
    let started = Instant::now();
    let child = Command::new(binary)
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .spawn()?;
    let mut peer = Peer {
        devices: address,
        subscribers: address,
        processes: vec![process("mosquitto", child.id())],
        ready_after: Duration::ZERO,
        child,
        _directory: directory,
    };
    while TcpStream::connect(address).is_err() {
        peer.check(started)?;
    }
    peer.ready_after = started.elapsed();
    Ok(Some(peer))
}

/// What `ringway status --json` says, as far as it is needed here.
#[derive(Deserialize)]
struct Status {
    state: String,
    listeners: std::collections::BTreeMap<String, SocketAddr>,
    processes: Vec<StatusProcess>,
}

#[derive(Deserialize)]
struct StatusProcess {
    role: String,
    instance: String,
    pid: Option<u32>,
}

/// Sensors of the measured node. The goals for memory are stated for four.
const SENSORS: u32 = 4;

/// A Ringway node with four sensors; all load goes to the first.
///
/// # Errors
/// When it does not get ready.
pub fn ringway(binary: &Path, broker: &str) -> io::Result<Peer> {
    let directory = TempDir::new()?;
    let config = directory.path().join("ringway.toml");
    let state = directory.path().join("state");
    fs::create_dir(&state)?;
    let mut settings = format!("[node]\nsite = \"b\"\nname = \"n\"\nstate_dir = {state:?}\n\n");
    for sensor in 1..=SENSORS {
        settings += &format!(
            "[[sensor]]\nname = \"t{sensor}\"\ninput = \"tcp\"\nprotocol = \"jt808\"\n\
             listen = \"127.0.0.1:0\"\n\n"
        );
    }
    settings += &format!(
        "[dispatcher]\nlisten = \"127.0.0.1:0\"\n\n[observer]\nlisten = \"127.0.0.1:0\"\n\n\
         [uplink]\nbroker = \"{broker}\"\n"
    );
    fs::write(&config, settings)?;
    let started = Instant::now();
    let log = fs::File::create(directory.path().join("log"))?;
    let child = Command::new(binary)
        .args(["run", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut peer = Peer {
        devices: nowhere,
        subscribers: nowhere,
        processes: vec![process("supervisor", child.id())],
        ready_after: Duration::ZERO,
        child,
        _directory: directory,
    };
    let status = loop {
        if let Some(status) = status(binary, &config).filter(|status| status.state == "ready") {
            break status;
        }
        if let Err(error) = peer.check(started) {
            let log = peer._directory.path().join("log");
            let log = fs::read_to_string(log).unwrap_or_default();
            return Err(io::Error::other(format!("{error}; its log: {log}")));
        }
    };
    peer.ready_after = started.elapsed();
    let listener = |name: &str| {
        let address = status.listeners.get(name).copied();
        address.ok_or_else(|| io::Error::other(format!("no listener {name:?} in the status")))
    };
    peer.devices = listener("sensor:t1")?;
    peer.subscribers = listener("dispatcher")?;
    for StatusProcess {
        role,
        instance,
        pid,
    } in &status.processes
    {
        if let Some(pid) = pid {
            let name = match role.as_str() {
                "ingest" => format!("ingest {instance}"),
                role => role.to_owned(),
            };
            peer.processes.push(process(&name, *pid));
        }
    }
    Ok(peer)
}

fn status(binary: &Path, config: &Path) -> Option<Status> {
    let mut command = Command::new(binary);
    command.arg("status").arg("--config").arg(config);
    let output = command.arg("--json").stderr(Stdio::null()).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

impl Peer {
    /// Waits a moment for a server that is not ready yet.
    fn check(&mut self, started: Instant) -> io::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let reason = format!("{} ended at its start: {status}", self.processes[0].name);
            return Err(io::Error::other(reason));
        }
        if started.elapsed() > READY_WITHIN {
            let reason = format!(
                "{} is not ready after {READY_WITHIN:?}",
                self.processes[0].name
            );
            return Err(io::Error::other(reason));
        }
        thread::sleep(LOOK_EVERY);
        Ok(())
    }
}

fn process(name: &str, pid: u32) -> Process {
    Process {
        name: name.to_owned(),
        pid,
    }
}

/// A program on the search path or where Debian puts servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places
        .map(|place| place.join(program))
        .find(|file| file.is_file())
}
