//! How a node is doing, as the control socket tells it and `ringway status` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::role::Notice;
use crate::stats::{Page, Value};

/// The whole node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// `starting`, `ready`, `degraded` (a child is not ready) or `draining`.
    pub state: String,
    /// Version of the running program.
    pub version: String,
    /// Process id of the supervisor.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// Milliseconds from the start of the supervisor until every child was ready the first time.
    pub start_to_ready_ms: Option<f64>,
    /// What is listened on: `sensor:NAME`, `dispatcher`, `observer` to address and port.
    pub listeners: BTreeMap<String, String>,
    /// The children.
    pub processes: Vec<ProcessReport>,
    /// What sensors are fed from.
    pub feeds: Vec<FeedReport>,
    /// The rings.
    pub rings: Vec<RingReport>,
    /// The programs of `exec` sensors.
    #[serde(default)]
    pub programs: Vec<ProgramReport>,
    /// The recordings.
    #[serde(default)]
    pub captures: Vec<CaptureReport>,
}

/// One program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramReport {
    /// The sensor that it feeds.
    pub sensor: String,
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// `running`, `waiting` (to be started again) or `ended`.
    pub state: String,
    /// Times that it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_exit: Option<String>,
}

/// One sensor's recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptureReport {
    /// The sensor.
    pub sensor: String,
    /// The file that it is recorded in, while it is.
    pub file: Option<String>,
    /// Bytes of that file.
    pub bytes: u64,
    /// Seconds until the recording ends by itself, if it does.
    pub left_s: Option<f64>,
    /// Why it is not recorded although it was wished.
    pub stopped: Option<String>,
}

/// One feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeedReport {
    /// The sensor that it feeds.
    pub sensor: String,
    /// What kind it is: `serial`, `gpsd`, `exec` or `fifo`.
    pub input: String,
    /// `waiting` (to be opened), `open` (nothing sound came yet) or `sound`.
    pub state: String,
    /// Seconds for which it has been so.
    pub since_s: f64,
    /// The last trouble with it, if there was any.
    pub why: Option<String>,
    /// Times that it was opened.
    pub opened: u64,
    /// The rate of a serial line that is open, or was last.
    pub baud: Option<u32>,
}

/// One child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Its role.
    pub role: String,
    /// Which of them.
    pub instance: String,
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// `starting`, `ready`, `waiting` (to be started again) or `ended`.
    pub state: String,
    /// Times that it was started again.
    pub restarts: u32,
    /// Whether it fails again and again.
    pub looping: bool,
    /// How it ended the last time.
    pub last_exit: Option<String>,
    /// Device ids that an operator should look at (ingest only).
    #[serde(default)]
    pub notices: Vec<NoticeReport>,
    /// Its counters and gauges that are not zero, by name and labels.
    pub figures: BTreeMap<String, f64>,
}

impl ProgramReport {
    /// Of a sensor whose program was not started yet.
    pub fn of(sensor: &str) -> ProgramReport {
        ProgramReport {
            sensor: sensor.into(),
            pid: None,
            state: "waiting".into(),
            restarts: 0,
            last_exit: None,
        }
    }
}

/// A device id that an operator should look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NoticeReport {
    /// `unknown` (not on the list) or `contested` (several devices seem to have it).
    pub what: String,
    /// The id.
    pub device: String,
    /// Where it came from first.
    pub source: String,
    /// When it was noticed first, milliseconds since 1970 UTC.
    pub first_ms: i64,
    /// ... and last.
    pub last_ms: i64,
    /// How often.
    pub count: u64,
}

impl NoticeReport {
    /// Of what an ingest says.
    pub fn of(notice: &Notice) -> NoticeReport {
        NoticeReport {
            what: notice.what.name().into(),
            device: notice.device.to_string(),
            source: notice.source.clone(),
            first_ms: notice.first_ms,
            last_ms: notice.last_ms,
            count: notice.count,
        }
    }
}

/// What became of a reload, as the control socket tells it and `ringway reload` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// Certificates of sensors with TLS.
    #[serde(default)]
    pub certificates: Vec<ReloadedCertificates>,
    /// Lists of devices.
    pub device_lists: Vec<ReloadedList>,
}

/// Certificates of a sensor that were to be read again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadedCertificates {
    /// Whose.
    pub sensor: String,
    /// Why the old ones stay; none: new connections get the new ones.
    pub error: Option<String>,
}

/// One list of devices that was to be read again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadedList {
    /// Whose.
    pub sensor: String,
    /// From where.
    pub path: String,
    /// How many devices are on it, if it is right and used now.
    pub devices: Option<u32>,
    /// Why the one before stays.
    pub error: Option<String>,
}

/// One ring.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RingReport {
    /// Its number.
    pub ring: u32,
    /// What it is called.
    pub name: String,
    /// Frames ever committed.
    pub tail: u64,
    /// Frames that wait.
    pub waiting: u64,
    /// Its size.
    pub slots: u32,
}

/// The counters and gauges of a page that are not zero, named as in the metrics.
pub fn figures(page: &Page) -> BTreeMap<String, f64> {
    let named = page
        .values
        .iter()
        .filter_map(|(metric, value)| match value {
            Value::Number(number) if *number != 0 => {
                let label = metric
                    .label
                    .map(|(key, value)| format!("{{{key}={value:?}}}"));
                Some((
                    format!("{}{}", metric.name, label.unwrap_or_default()),
                    *number as f64,
                ))
            }
            _ => None,
        });
    named.collect()
}
