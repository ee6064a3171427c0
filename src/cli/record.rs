//! `ringway record`: switch the recording of a sensor on or off while the node runs.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::ConfigPath;
use super::status::{request, unanswered};
use crate::config::{Config, Millis};
use crate::role::exit;
use crate::supervisor::request::Request;

/// Record what a sensor's devices say and are answered, byte by byte, while the node runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Files go to capture.dir of the configuration, STATE_DIR/captures by default; `ringway replay` reads them.
They hold whatever devices send: identities and positions.

Examples:
  ringway record trackers --for 10min
  ringway record trackers --off
  ringway record trackers --for 10min --json | jq -r .file")]
pub struct Record {
    /// The sensor
    sensor: String,
    /// End by itself after this time, such as 30s, 10min or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = lasts, conflicts_with = "off")]
    lasts: Option<Duration>,
    /// Record no more
    #[arg(long)]
    off: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    path: ConfigPath,
}

fn lasts(text: &str) -> Result<Duration, String> {
    Millis::parse(text).map(|time| Duration::from_millis(time.0))
}

/// Asks the node and says where it records; the exit code is 69 when no node runs there, 64 when it cannot do it.
pub fn run(record: &Record) -> i32 {
    let config = match Config::load(&record.path.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ringway: {error}");
            return exit::CONFIG;
        }
    };
    let sensor = &record.sensor;
    if !config.sensors.iter().any(|known| known.name == *sensor) {
        eprintln!("ringway: cannot record {sensor:?}: there is no such sensor");
        return exit::USAGE;
    }
    let wish = Request::Record {
        sensor: sensor.clone(),
        on: !record.off,
        lasts: record.lasts,
    };
    let told = match request(&config.state_dir, &wish) {
        Ok(told) => told,
        Err(cause) => return unanswered(&config.state_dir, &cause),
    };
    let told: Value = serde_json::from_str(&told).unwrap_or_default();
    if record.json && told.get("file").is_some() {
        println!("{told}");
        return exit::OK;
    }
    match (told.get("file"), record.off) {
        (Some(Value::String(file)), false) => println!("sensor {sensor} is recorded in {file}"),
        (Some(Value::String(file)), true) => {
            println!("sensor {sensor} is recorded no more; the last file is {file}");
        }
        (Some(_), _) => println!("sensor {sensor} was not recorded"),
        (None, _) => {
            let why = told["error"]
                .as_str()
                .unwrap_or("the node does not say why");
            eprintln!("ringway: cannot record {sensor:?}: {why}");
            return exit::USAGE;
        }
    }
    exit::OK
}
