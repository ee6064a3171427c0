//! `ringway check`: is this configuration right?

use clap::Args;
use serde_json::json;

use super::ConfigPath;
use crate::config::{Config, Input};
use crate::role::exit;

/// Read the configuration and say what is wrong with it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ringway check --config edge.toml --json")]
pub struct Check {
    #[command(flatten)]
    path: ConfigPath,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Checks and says what was found; the exit code is 78 if something is wrong.
pub fn run(check: &Check) -> i32 {
    let found = Config::load(&check.path.config);
    match (&found, check.json) {
        (Ok(config), false) => {
            println!(
                "{} is right: {}",
                check.path.config.display(),
                summary(config)
            );
        }
        (Ok(config), true) => println!("{}", json!({"ok": true, "sensors": config.sensors.len()})),
        (Err(error), false) => eprintln!("ringway: {error}"),
        (Err(error), true) => {
            let (file, line) = (error.file.display().to_string(), error.line);
            println!(
                "{}",
                json!({"ok": false, "file": file, "line": line, "reason": error.reason})
            );
        }
    }
    if found.is_ok() {
        exit::OK
    } else {
        exit::CONFIG
    }
}

fn summary(config: &Config) -> String {
    let sensors: Vec<String> = config
        .sensors
        .iter()
        .map(|sensor| match &sensor.input {
            Input::Tcp(listening) => format!("{} (tcp {})", sensor.name, listening.listen),
            Input::Http(listening) => format!("{} (http {})", sensor.name, listening.listen),
            Input::Serial { path, .. } => format!("{} (serial {path})", sensor.name),
            Input::Gpsd { connect, .. } => format!("{} (gpsd {connect})", sensor.name),
            Input::Exec(program) => format!("{} (exec {})", sensor.name, program.command[0]),
            Input::Fifo { path, .. } => format!("{} (fifo {path})", sensor.name),
            Input::Udp { listen, .. } => format!("{} (udp {listen})", sensor.name),
            Input::File { path, .. } => format!("{} (file {path})", sensor.name),
        })
        .collect();
    let broker = match &config.uplink.broker_host {
        Some(host) => format!("broker {host}:{}", config.uplink.broker_port),
        None => "no broker: alarms stay in the journal".into(),
    };
    format!(
        "node {}/{}; sensors: {}; {} fences; map on http://{}; metrics on http://{}/metrics; {broker}",
        config.node.site,
        config.node.name,
        sensors.join(", "),
        config.fences.len(),
        config.dispatcher.listen,
        config.observer.listen,
    )
}
