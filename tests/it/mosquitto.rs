//! A real broker for a test: Debian's mosquitto on a free loopback port, with a configuration of its own and nothing on
//! disk. It ends with the test.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const BINARY: &str = "/usr/sbin/mosquitto";

/// How long it may take to listen.
const DEADLINE: Duration = Duration::from_secs(20);

/// The broker, running or not.
pub struct Mosquitto {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// Chooses a port; `None` where it is not installed, which is said.
    pub fn prepare(test: &str) -> Option<Mosquitto> {
        if !Path::new(BINARY).exists() {
            // Written past the test runner, which keeps the words of a test that passes.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: 1 test, {test}: {BINARY} is not installed"
            );
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\n\
             max_queued_messages 0\nset_tcp_nodelay true\n"
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
        Some(Mosquitto {
            folder,
            port,
            child: None,
        })
    }

    /// As [`Mosquitto::prepare`], and started.
    pub fn running(test: &str) -> Option<Mosquitto> {
        let mut broker = Mosquitto::prepare(test)?;
        broker.start();
        Some(broker)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as the simulator's subscriber wants it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Starts it and waits until it listens.
    pub fn start(&mut self) {
        let child = Command::new(BINARY)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it with everything that it had in memory.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
