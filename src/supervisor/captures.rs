//! Recordings: which sensors are recorded, in which file, and when the next file follows.
//!
//! Files are opened here, for appending only, with their header; what the header is followed by is the ingest's. The
//! oldest files of a sensor are removed, so that its recordings take a bounded room, and none begins or goes on where
//! the file system is nearly full: the journal needs that room more.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use tracing::{info, warn};

use super::report::CaptureReport;
use crate::capture::{Header, Mark};
use crate::config::{CaptureSettings, Config, Input, Node, SensorSettings};
use crate::frame::rfc3339_ms;
use crate::role::Recording;
use crate::sys::clock;

/// What file names end with.
const ENDING: &str = ".ringcap";

/// The recordings of a node.
pub struct Captures {
    node: Node,
    settings: CaptureSettings,
    /// Of all files that this supervisor opens.
    series: u64,
    sensors: BTreeMap<String, Sensor>,
}

struct Sensor {
    settings: SensorSettings,
    /// Files opened so far.
    number: u32,
    open: Option<Open>,
    /// Why nothing is recorded although it was wished.
    stopped: Option<String>,
}

/// The file that is recorded in.
struct Open {
    path: PathBuf,
    file: File,
    mark: Mark,
    until: Option<Instant>,
}

/// Why a recording cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no such sensor.
    #[error("there is no sensor {0:?}")]
    Sensor(String),
    /// It replays a file.
    #[error("sensor {0:?} replays a file: that is a recording already")]
    Replay(String),
    /// The file system is nearly full.
    #[error("{dir} has {free} bytes left, less than capture.free_min ({min})")]
    Room {
        /// Where.
        dir: String,
        /// Bytes that are left.
        free: u64,
        /// Bytes that must be.
        min: u64,
    },
    /// A file cannot be made.
    #[error("cannot make {0}: {1}")]
    File(PathBuf, #[source] io::Error),
}

impl Captures {
    /// Nothing is recorded yet.
    pub fn new(config: &Config) -> Captures {
        let sensors = config.sensors.iter().map(|sensor| {
            let state = Sensor {
                settings: sensor.clone(),
                number: 0,
                open: None,
                stopped: None,
            };
            (sensor.name.clone(), state)
        });
        Captures {
            node: config.node.clone(),
            settings: config.capture.clone(),
            series: random(),
            sensors: sensors.collect(),
        }
    }

    /// Begins what the configuration wants recorded. A sensor that cannot be recorded serves all the same.
    pub fn begin(&mut self) {
        let wanted = self.sensors.values().filter(|s| s.settings.capture);
        let wanted: Vec<String> = wanted.map(|s| s.settings.name.clone()).collect();
        for name in wanted {
            if let Err(cause) = self.start(&name, None) {
                warn!("cannot record sensor {name}: {cause}; it is served all the same");
                self.stopped(&name, cause.to_string());
            }
        }
    }

    /// Records a sensor, for so long or until told otherwise; says where. One that is recorded already goes on in the
    /// same file.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn start(&mut self, name: &str, lasts: Option<Duration>) -> Result<PathBuf, CaptureError> {
        let until = lasts.map(|lasts| Instant::now() + lasts);
        let sensor = self.sensor(name)?;
        if let Input::File { .. } = sensor.settings.input {
            return Err(CaptureError::Replay(name.into()));
        }
        if let Some(open) = &mut sensor.open {
            open.until = until;
            return Ok(open.path.clone());
        }
        let path = self.open_next(name, until)?;
        info!("sensor {name} is recorded in {}", path.display());
        Ok(path)
    }

    /// Ends the recording of a sensor; says where it is, if there was one.
    ///
    /// # Errors
    /// When there is no such sensor.
    pub fn stop(&mut self, name: &str) -> Result<Option<PathBuf>, CaptureError> {
        let sensor = self.sensor(name)?;
        sensor.stopped = None;
        let open = sensor.open.take();
        Ok(open.map(|open| {
            info!(
                "sensor {name} is recorded no more; last file {}",
                open.path.display()
            );
            open.path
        }))
    }

    /// The ingest could not write.
    pub fn failed(&mut self, name: &str, mark: Mark, why: String) {
        let Ok(sensor) = self.sensor(name) else {
            return;
        };
        if let Some(open) = sensor.open.take_if(|open| open.mark == mark) {
            warn!(
                "recording of sensor {name} in {} ended: {why}",
                open.path.display()
            );
            self.stopped(name, why);
        }
    }

    /// Goes on in a fresh file where one is long enough, and ends what is over; says which ingests have to be told.
    pub fn beat(&mut self, now: Instant) -> Vec<String> {
        let mut changed = Vec::new();
        let names: Vec<String> = self.sensors.keys().cloned().collect();
        for name in names {
            let Some(open) = &self.sensors[&name].open else {
                continue;
            };
            let until = open.until;
            if until.is_some_and(|until| until <= now) {
                // It is there, so that no error is possible.
                let _ = self.stop(&name);
                changed.push(name);
                continue;
            }
            let long = open.file.metadata().map(|file| file.len());
            let room = self.room();
            if room.is_ok() && long.is_ok_and(|bytes| bytes < self.settings.file_bytes_max) {
                continue;
            }
            let next = room.and_then(|()| self.open_next(&name, until));
            if let Err(cause) = next {
                warn!("recording of sensor {name} ended: {cause}");
                self.stopped(&name, cause.to_string());
            }
            changed.push(name);
        }
        changed
    }

    /// What the ingest of a sensor is to be handed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn recording(&self, name: &str, life: u32) -> io::Result<Option<Recording>> {
        let open = self.sensors.get(name).and_then(|s| s.open.as_ref());
        let recording = open.map(|open| {
            Ok(Recording {
                file: OwnedFd::from(open.file.try_clone()?),
                mark: open.mark,
                life,
            })
        });
        recording.transpose()
    }

    /// How the recordings are doing.
    pub fn report(&self) -> Vec<CaptureReport> {
        let known = self.sensors.values();
        let known = known.filter(|s| s.open.is_some() || s.stopped.is_some());
        let now = Instant::now();
        let told = known.map(|sensor| {
            let open = sensor.open.as_ref();
            let bytes = open.and_then(|open| open.file.metadata().ok());
            let until = open.and_then(|open| open.until);
            CaptureReport {
                sensor: sensor.settings.name.clone(),
                file: open.map(|open| open.path.display().to_string()),
                bytes: bytes.map_or(0, |file| file.len()),
                left_s: until.map(|until| until.saturating_duration_since(now).as_secs_f64()),
                stopped: sensor.stopped.clone(),
            }
        });
        told.collect()
    }

    fn sensor(&mut self, name: &str) -> Result<&mut Sensor, CaptureError> {
        let found = self.sensors.get_mut(name);
        found.ok_or_else(|| CaptureError::Sensor(name.into()))
    }

    fn stopped(&mut self, name: &str, why: String) {
        if let Ok(sensor) = self.sensor(name) {
            sensor.open = None;
            sensor.stopped = Some(why);
        }
    }

    /// Whether there is room enough for more.
    fn room(&self) -> Result<(), CaptureError> {
        let CaptureSettings {
            dir,
            free_bytes_min: min,
            ..
        } = &self.settings;
        match statvfs(Path::new(dir)) {
            Ok(system) => {
                #[allow(clippy::unnecessary_cast)] // Machines of 32 bits have narrower numbers.
                let free = system.blocks_available() as u64 * system.fragment_size() as u64;
                let (dir, min) = (dir.clone(), *min);
                let enough = free >= min;
                if enough {
                    Ok(())
                } else {
                    Err(CaptureError::Room { dir, free, min })
                }
            }
            Err(cause) => Err(CaptureError::File(dir.into(), cause.into())),
        }
    }

    /// Opens the next file of a sensor, and removes the oldest ones that are too many.
    fn open_next(&mut self, name: &str, until: Option<Instant>) -> Result<PathBuf, CaptureError> {
        let dir = PathBuf::from(&self.settings.dir);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|cause| CaptureError::File(dir.clone(), cause))?;
        self.room()?;
        remove_oldest(&dir, name, self.settings.files_max as usize - 1);

        let (node, series) = (self.node.clone(), self.series);
        let sensor = self.sensor(name)?;
        let number = sensor.number + 1;
        let created_ms = clock::wall_ms();
        let path = dir.join(file_name(name, created_ms, number));
        let mark = random().to_le_bytes();
        let header = header(&node, &sensor.settings, series, number, created_ms);
        let open = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let mut file = options
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(&header.encode(mark))?;
            Ok(file)
        };
        let file = open().map_err(|cause| CaptureError::File(path.clone(), cause))?;
        sensor.number = number;
        sensor.stopped = None;
        sensor.open = Some(Open {
            path: path.clone(),
            file,
            mark,
            until,
        });
        Ok(path)
    }
}

fn header(
    node: &Node,
    sensor: &SensorSettings,
    series: u64,
    number: u32,
    created_ms: i64,
) -> Header {
    Header {
        node: (node.site.clone(), node.name.clone()),
        sensor: sensor.name.clone(),
        input: sensor.input.name().into(),
        protocol: sensor.protocol.name().into(),
        device: sensor.device.clone(),
        zone_minutes: sensor.zone_minutes,
        lenient: sensor.lenient,
        errors_max: sensor.errors_max,
        node_key: node.key(),
        series,
        number,
        created_ms,
    }
}

/// `SENSOR-20261125T023400Z-0001.ringcap`: files of a sensor stand in the order of their making.
fn file_name(sensor: &str, created_ms: i64, number: u32) -> String {
    let time = rfc3339_ms(created_ms).replace(['-', ':'], "");
    let time = time.split('.').next().unwrap_or_default();
    format!("{sensor}-{time}Z-{number:04}{ENDING}")
}

/// The place of a file among those of this sensor, if it is one of them. Names of others may begin with this one.
fn place(sensor: &str, file: &str) -> Option<(String, u32)> {
    let rest = file.strip_prefix(sensor)?.strip_prefix('-')?;
    let (time, number) = rest.strip_suffix(ENDING)?.split_once('-')?;
    let (day, of_day) = time.strip_suffix('Z')?.split_once('T')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = digits(day) && digits(of_day);
    is_time.then_some((time.into(), number.parse().ok()?))
}

/// Removes the oldest files of a sensor until so many are left.
fn remove_oldest(dir: &Path, sensor: &str, left: usize) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let placed = names.filter_map(|name| Some((place(sensor, &name)?, name)));
    let mut names: Vec<_> = placed.collect();
    names.sort();
    let too_many = names.len().saturating_sub(left);
    for (_, name) in &names[..too_many] {
        if let Err(cause) = std::fs::remove_file(dir.join(name)) {
            warn!("cannot remove old recording {name}: {cause}");
        }
    }
}

/// A number that nobody can guess: the kernel gives the standard library's hash keys to each process.
fn random() -> u64 {
    RandomState::new().hash_one(clock::monotonic_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_sensor_time_and_place() {
        let name = file_name("gate", 1_700_000_000_123, 7);
        assert_eq!(name, "gate-20231114T221320Z-0007.ringcap");
        assert_eq!(place("gate", &name), Some(("20231114T221320Z".into(), 7)));
    }

    #[test]
    fn files_of_other_sensors_and_other_files_are_not_taken_for_ones_own() {
        for other in [
            "gate-2-20231114T221320Z-0007.ringcap",
            "gate-20231114T221320Z-0007.ringcap.gz",
            "gate-20231114T221320Z-.ringcap",
            "gate-notes-1.ringcap",
            "gate.ringcap",
            "ga-20231114T221320Z-0007.ringcap",
        ] {
            assert_eq!(place("gate", other), None, "{other}");
        }
    }

    #[test]
    fn the_oldest_files_of_a_sensor_go_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let name = |sensor: &str, second: i64, number| file_name(sensor, second * 1_000, number);
        let own = [
            name("a", 5, 9998),
            name("a", 5, 9999),
            name("a", 5, 10_000),
            name("a", 6, 1),
        ];
        let others = [name("a-b", 1, 1), "notes.txt".to_string()];
        for file in own.iter().chain(&others) {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        remove_oldest(dir.path(), "a", 2);
        let there = |file: &String| dir.path().join(file).exists();
        let kept: Vec<bool> = own.iter().map(there).collect();
        assert_eq!(kept, [false, false, true, true]);
        assert!(others.iter().all(there));
    }
}
