//! Configuration: what an operator writes in one TOML file and its drop-ins, checked once and as a whole, then handed
//! to each role as plain settings.

mod admit;
mod capture;
pub mod certificates;
mod check;
mod devices;
mod document;
pub mod operator_file;
mod port;
mod program;
mod sensor;
mod settings;
mod tls;
mod unit;
pub mod x509;

use std::fmt;
use std::path::{Path, PathBuf};

pub use port::Address;
pub use settings::{
    Ack, Admission, CaptureSettings, ClientCertificates, DispatcherSettings, Fence, Identity,
    Input, JumpRule, Listening, Node, ObserverSettings, OverspeedRule, Program, Rules,
    SensorSettings, Takeover, Tls, TraceSettings, Unknown, UplinkSettings,
};

use check::{Source, plain};
pub use devices::{DeviceList, DeviceListError, LIST_BYTES_MAX};
pub use unit::Millis;

/// Most bytes of one configuration file.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the node stands.
    pub node: Node,
    /// Journal, lock and control socket.
    pub state_dir: PathBuf,
    /// Devices that the state table has room for.
    pub devices_max: u32,
    /// Inputs.
    pub sensors: Vec<SensorSettings>,
    /// What to look for.
    pub rules: Rules,
    /// Where to look.
    pub fences: Vec<Fence>,
    /// Local subscribers.
    pub dispatcher: DispatcherSettings,
    /// Journal and broker.
    pub uplink: UplinkSettings,
    /// Metrics and health.
    pub observer: ObserverSettings,
    /// Recordings.
    pub capture: CaptureSettings,
    /// Traces.
    pub trace: TraceSettings,
}

/// The first thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// In which file.
    pub file: PathBuf,
    /// In which line, from 1, if it has one.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.reason),
            None => write!(f, "{}: {}", self.file.display(), self.reason),
        }
    }
}

impl Config {
    /// Reads `path` and the drop-ins beside it (`edge.toml` has `edge.d/*.toml`, in the order of their names) and
    /// checks them together.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and reason.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        check::check(&sources(path)?)
    }

    /// The state directory that `path` and its drop-ins name, whatever else is wrong with them: a node that runs can be
    /// asked while its configuration is being changed.
    ///
    /// # Errors
    /// When a file cannot be read, or is not of this form.
    pub fn state_dir(path: &Path) -> Result<PathBuf, ConfigError> {
        check::state_dir(&sources(path)?)
    }
}

/// The file and its drop-ins.
fn sources(path: &Path) -> Result<Vec<Source>, ConfigError> {
    let mut sources = vec![read(path)?];
    let mut drop_ins: Vec<PathBuf> = std::fs::read_dir(path.with_extension("d"))
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect()
        })
        .unwrap_or_default();
    drop_ins.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    drop_ins.sort();
    for file in drop_ins {
        sources.push(read(&file)?);
    }
    Ok(sources)
}

fn read(path: &Path) -> Result<Source, ConfigError> {
    let wrong = |reason: String| ConfigError {
        file: path.to_path_buf(),
        line: None,
        reason,
    };
    let size = std::fs::metadata(path)
        .map_err(|cause| wrong(format!("cannot read configuration: {}", plain(&cause))))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|cause| wrong(format!("cannot read configuration: {}", plain(&cause))))?;
    let mut source = Source {
        path: path.to_path_buf(),
        text,
        document: Default::default(),
    };
    match toml::from_str(&source.text) {
        Ok(document) => source.document = document,
        Err(cause) => {
            let span = cause.span().unwrap_or_default();
            return Err(source.error(&span, cause.message().replace('\n', " ")));
        }
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "[node]\nsite = \"depot\"\nname = \"gw1\"\n";
    const SENSOR: &str = "[[sensor]]\nname = \"t\"\ninput = \"tcp\"\nprotocol = \"jt808\"\nlisten = \"127.0.0.1:6808\"\n";

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    fn wrong(text: &str) -> (Option<usize>, String) {
        let error = load(text).unwrap_err();
        (error.line, error.reason)
    }

    #[test]
    fn recordings_go_to_the_state_directory_unless_it_says_where() {
        let config = load(&format!("{NODE}state_dir = \"/srv/s\"\n{SENSOR}")).unwrap();
        assert_eq!(config.capture.dir, "/srv/s/captures");
        assert!(!config.sensors[0].capture);
        let config = load(&format!(
            "{NODE}{SENSOR}capture = true\n[capture]\ndir = \"/srv/c\"\nfile_size_max = \"64KiB\"\n"
        ));
        let config = config.unwrap();
        assert_eq!(
            (&*config.capture.dir, config.capture.file_bytes_max),
            ("/srv/c", 65_536)
        );
        assert!(config.sensors[0].capture);
        let (line, reason) = wrong(&format!(
            "{NODE}{SENSOR}[capture]\nfile_size_max = \"1KiB\"\n"
        ));
        assert_eq!((line, &*reason), (Some(10), "file_size_max is below 64KiB"));
    }

    #[test]
    fn a_node_and_a_sensor_are_enough() {
        let config = load(&format!("{NODE}{SENSOR}")).unwrap();
        assert_eq!(config.sensors[0].ack, Ack::Safe);
        assert_eq!(config.dispatcher.listen, "127.0.0.1:8080");
        assert_eq!(config.uplink.client_id, "ringway-depot-gw1");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let (line, reason) = wrong(&format!("{NODE}{SENSOR}colour = \"red\"\n"));
        assert_eq!(line, Some(9));
        assert!(reason.contains("colour"), "{reason}");
    }

    #[test]
    fn a_wrong_unit_says_which_units_there_are() {
        let (line, reason) = wrong(&format!("{NODE}{SENSOR}idle = \"10 parsecs\"\n"));
        assert_eq!(line, Some(9));
        assert!(
            reason.contains("\"10 parsecs\" (units: s, ms, min, h, d)"),
            "{reason}"
        );
    }

    #[test]
    fn a_port_taken_twice_is_an_error_at_the_second() {
        let twice = format!("{NODE}{SENSOR}[dispatcher]\nlisten = \"127.0.0.1:6808\"\n");
        let (line, reason) = wrong(&twice);
        assert_eq!(line, Some(10));
        assert!(
            reason.starts_with("127.0.0.1:6808 is listened on already, at "),
            "{reason}"
        );
    }

    #[test]
    fn a_password_in_the_address_of_the_broker_is_refused_and_not_repeated() {
        let url = format!("{NODE}{SENSOR}[uplink]\nbroker = \"mqtt://me:secret@127.0.0.1\"\n");
        let (line, reason) = wrong(&url);
        assert_eq!(line, Some(10));
        assert!(
            reason.contains("password_file") && !reason.contains("secret"),
            "{reason}"
        );
    }

    #[test]
    fn a_sensor_on_a_default_port_is_told_whose_default_it_is() {
        let (_, reason) = wrong(&format!("{NODE}{SENSOR}").replace("6808", "8080"));
        assert!(
            reason.contains("the default of dispatcher.listen"),
            "{reason}"
        );
    }

    #[test]
    fn a_missing_file_is_an_error_before_anything_starts() {
        let file = "[[sensor]]\nname = \"t\"\ninput = \"file\"\nprotocol = \"nmea\"\ndevice = \"1\"\npath = \"none.log\"\n";
        let (line, reason) = wrong(&format!("{NODE}{file}"));
        assert_eq!(line, Some(9));
        assert!(
            reason.starts_with("cannot read file \"none.log\": no such file"),
            "{reason}"
        );
    }

    #[test]
    fn a_key_of_another_kind_of_input_is_refused() {
        let (line, reason) = wrong(&format!("{NODE}{SENSOR}path = \"x\"\n"));
        assert_eq!(
            (line, reason.as_str()),
            (Some(9), "path has no meaning for input = \"tcp\"")
        );
    }

    /// A pipe that two sensors read gave each of them a part of every message; one that its own answers go to fed them
    /// back.
    #[test]
    fn a_line_or_pipe_that_is_used_twice_is_an_error() {
        let sensor = |name: &str, rest: &str| {
            format!("[[sensor]]\nname = {name:?}\nprotocol = \"jt808\"\n{rest}\n")
        };
        let pipe = "input = \"fifo\"\npath = \"/run/a\"";
        let line = "input = \"serial\"\npath = \"/run/a\"";
        for (first, second) in [(pipe, pipe), (line, pipe), (line, line)] {
            let text = [sensor("t", first), sensor("u", second)].concat();
            let (at, reason) = wrong(&format!("{NODE}{text}"));
            let expected = "/run/a is used already: each line and pipe has one use";
            let second_at = format!("{NODE}{}", sensor("t", first)).lines().count() + 2;
            assert_eq!((at, reason.as_str()), (Some(second_at), expected));
        }
        let echo = format!("{pipe}\nanswers_path = \"/run/a\"");
        let (_, reason) = wrong(&format!("{NODE}{}", sensor("t", &echo)));
        assert!(reason.contains("is used already"), "{reason}");
        let other = pipe.replace("/run/a", "/run/b");
        let text = [sensor("t", pipe), sensor("u", &other)].concat();
        assert_eq!(load(&format!("{NODE}{text}")).unwrap().sensors.len(), 2);
    }

    #[test]
    fn tcp_and_udp_have_ports_of_their_own() {
        let second = |input: &str| {
            let text = SENSOR.replace("\"t\"", "\"u\"").replace("\"tcp\"", input);
            format!("{NODE}{SENSOR}{text}")
        };
        let config = load(&second("\"udp\"")).unwrap();
        let expected = Input::Udp {
            listen: "127.0.0.1:6808".to_owned(),
            peers_max: 12_000,
            idle_ms: 600_000,
        };
        assert_eq!(config.sensors[1].input, expected);
        let (_, reason) = wrong(&second("\"tcp\""));
        assert!(reason.contains("is listened on already"), "{reason}");
    }

    #[test]
    fn http_is_not_taken_over_udp() {
        let sensor = SENSOR
            .replace("\"tcp\"", "\"udp\"")
            .replace("jt808", "osmand");
        let (line, reason) = wrong(&format!("{NODE}{sensor}"));
        assert_eq!(line, Some(5));
        assert!(reason.contains("osmand is not for udp"), "{reason}");
    }

    #[test]
    fn limits_that_nothing_can_run_with_are_refused_here_and_not_later() {
        for (section, key) in [
            (SENSOR, "errors_max = 0\n"),
            ("[dispatcher]\n", "subscribers_max = 0\n"),
            ("[dispatcher]\n", "subscriber_updates_max = 0\n"),
        ] {
            let rest = if section == SENSOR { "" } else { SENSOR };
            let (_, reason) = wrong(&format!("{NODE}{rest}{section}{key}"));
            assert!(reason.starts_with("0 is not between 1 and "), "{reason}");
        }
        let (line, reason) = wrong(&format!("{NODE}devices_max = 500001\n{SENSOR}"));
        assert_eq!(
            (line, reason.as_str()),
            (Some(4), "500001 is not between 1 and 500000")
        );
    }

    #[test]
    fn a_fail_over_is_neither_within_the_second_of_receivers_nor_for_hours() {
        let config = load(&format!("{NODE}{SENSOR}")).unwrap();
        assert_eq!(
            (config.sensors[0].rank, config.rules.fail_over_ms),
            (1, 5_000)
        );
        for after in ["999ms", "61min"] {
            let rule = format!("[rules.fail_over]\nafter = \"{after}\"\n");
            let (line, reason) = wrong(&format!("{NODE}{SENSOR}{rule}"));
            assert_eq!(
                (line, reason.as_str()),
                (Some(10), "after is not between 1s and 1h")
            );
        }
        for rank in ["0", "10"] {
            let (line, reason) = wrong(&format!("{NODE}{SENSOR}rank = {rank}\n"));
            assert_eq!(
                (line, reason),
                (Some(9), format!("{rank} is not between 1 and 9"))
            );
        }
    }

    /// With less, a source of datagrams was forgotten before the silence that ends what it says of a moment; with very much,
    /// the end was beyond the clock.
    #[test]
    fn idle_is_neither_shorter_than_a_silence_nor_for_ever() {
        for idle in ["0s", "999ms", "31d", "200000000000d"] {
            let (line, reason) = wrong(&format!("{NODE}{SENSOR}idle = \"{idle}\"\n"));
            assert_eq!(
                (line, reason.as_str()),
                (Some(9), "idle is not between 1s and 30d")
            );
        }
    }

    /// A fence of that name and a rule of the device's own share the key of an open alarm: each report cleared the one
    /// that each fix raised.
    #[test]
    fn a_fence_cannot_have_the_name_of_what_devices_report() {
        let fence = "[[fence]]\nname = \"device\"\nlat = 1.0\nlon = 1.0\nradius = \"1km\"\n";
        let (line, reason) = wrong(&format!("{NODE}{SENSOR}{fence}"));
        assert_eq!(line, Some(10));
        assert!(reason.contains("report themselves"), "{reason}");
    }

    #[test]
    fn a_section_stands_in_one_file_only_and_drop_ins_add_sensors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.toml");
        std::fs::write(&path, format!("{NODE}{SENSOR}[trace]\n")).unwrap();
        std::fs::create_dir(dir.path().join("edge.d")).unwrap();
        let second = SENSOR.replace("\"t\"", "\"u\"").replace("6808", "6809");
        std::fs::write(dir.path().join("edge.d/a.toml"), second).unwrap();
        assert_eq!(Config::load(&path).unwrap().sensors.len(), 2);
        std::fs::write(dir.path().join("edge.d/b.toml"), "[trace]\n").unwrap();
        let error = Config::load(&path).unwrap_err();
        assert!(
            error.file.ends_with("edge.d/b.toml") && error.line == Some(1),
            "{error}"
        );
    }
}
