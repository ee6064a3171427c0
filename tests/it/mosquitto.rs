//! A real broker: Debian's mosquitto on a free port of this machine, a child of the test that ends with it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::node::wait_for;

/// Where it may be; Debian does not put it on everybody's path.
const PROGRAMS: [&str; 3] = [
    "/usr/sbin/mosquitto",
    "/usr/local/sbin/mosquitto",
    "/usr/bin/mosquitto",
];

/// Tries to get a port: another program may take a free one before mosquitto does.
const TRIES: u32 = 5;

/// A running broker without a memory on disk.
pub struct Mosquitto {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Mosquitto {
    /// Starts one; `None`, and a loud word about what is skipped, where there is none.
    pub fn start(skipped: &str) -> Option<Mosquitto> {
        let Some(program) = PROGRAMS.into_iter().find(|path| Path::new(path).is_file()) else {
            // Written past the test runner, which keeps the words of a test that passes.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: 1 test, {skipped}: mosquitto not found"
            );
            return None;
        };
        (0..TRIES)
            .find_map(|_| Mosquitto::try_start(program))
            .or_else(|| panic!("{program} does not start"))
    }

    fn try_start(program: &str) -> Option<Mosquitto> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let address = address.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n",
            address.port()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut broker = Mosquitto {
            address,
            child,
            _folder: folder,
        };
        wait_for("mosquitto to listen", || {
            if broker.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect(address).is_ok().then_some(true)
        })
        .then_some(broker)
    }

    /// Its `mqtt://` URL.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
