//! `ringway reload`: has a running node read its lists of devices and certificates again.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::ConfigPath;
use crate::config::Config;
use crate::role::exit;
use crate::supervisor::control::SOCKET_NAME;
use crate::supervisor::report::Reloaded;
use crate::supervisor::request::Request;

/// How long the node may take to answer: it waits for every ingest that has a list.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Have a running node read its lists of devices and certificates again; the rest of the configuration takes a restart.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ringway reload\n  ringway reload --config edge.toml --json")]
pub struct Reload {
    #[command(flatten)]
    path: ConfigPath,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks and shows; the exit code is 69 when no node runs there, 78 when a list is wrong and the one before stays.
pub fn run(reload: &Reload) -> i32 {
    let config = match Config::load(&reload.path.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ringway: {error}; nothing was read again");
            return exit::CONFIG;
        }
    };
    let reloaded = match ask(&config.state_dir) {
        Ok(reloaded) => reloaded,
        Err(cause) => {
            let socket = config.state_dir.join(SOCKET_NAME);
            eprintln!(
                "ringway: cannot ask {}: {cause}; does a node run there?",
                socket.display()
            );
            return exit::UNAVAILABLE;
        }
    };
    if reload.json {
        let text = serde_json::to_string(&reloaded).expect("a report is plain data");
        println!("{text}");
    } else {
        show(&reloaded);
    }
    if reloaded
        .device_lists
        .iter()
        .any(|list| list.error.is_some())
    {
        exit::CONFIG
    } else {
        exit::OK
    }
}

/// Asks the node that uses this state directory.
fn ask(state_dir: &Path) -> io::Result<Reloaded> {
    let mut stream = UnixStream::connect(state_dir.join(SOCKET_NAME))?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(Request::Reload.line().as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::from)
}

fn show(reloaded: &Reloaded) {
    if reloaded.device_lists.is_empty() {
        println!("no sensor has a list of devices; the rest of the configuration takes a restart");
    }
    for list in &reloaded.device_lists {
        let (sensor, path) = (&list.sensor, &list.path);
        match (&list.error, list.devices) {
            (None, count) => println!("{sensor}: {path}: {} devices", count.unwrap_or_default()),
            (Some(wrong), _) => eprintln!("{sensor}: {path}: {wrong}; the list before stays"),
        }
    }
}
