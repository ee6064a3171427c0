//! `[sensor.admit]`: who may come in by a sensor, and how much of it.

use std::io::Read;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};

use ipnet::IpNet;
use toml::Spanned;

use super::ConfigError;
use super::check::{Source, in_range, plain};
use super::devices::{DeviceList, LIST_BYTES_MAX};
use super::document::{AdmitSection, InputKind, SensorSection};
use super::operator_file;
use super::settings::Admission;
use super::unit::Millis;

/// Most source ranges of a sensor: every connection is held against each.
const SOURCES_MAX: usize = 256;

/// What the deadlines may be, milliseconds.
const DEADLINE_MS: RangeInclusive<u64> = 1_000..=86_400_000;

/// Most messages a second, and at once.
const RATE_MAX: RangeInclusive<u32> = 1..=10_000_000;

/// Checks who may come in by a sensor.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn admit(source: &Source, sensor: &SensorSection) -> Result<Admission, ConfigError> {
    let Some(section) = &sensor.admit else {
        return Ok(Admission::default());
    };
    let s = section.get_ref();
    has_meaning(source, sensor.input, s)?;
    let default = Admission::default();
    if let (None, Some(unknown)) = (&s.devices, &s.unknown) {
        let reason = "unknown has no meaning without devices: nobody is unknown";
        return Err(source.error(&unknown.span(), reason));
    }
    let devices = match &s.devices {
        Some(path) => Some(device_list(source, path)?),
        None => None,
    };
    let deadline = |key: &str, value: &Option<Spanned<Millis>>, default: u64| match value {
        Some(time) if !DEADLINE_MS.contains(&time.get_ref().0) => {
            Err(source.error(&time.span(), format!("{key} is not between 1s and 1d")))
        }
        Some(time) => Ok(time.get_ref().0),
        None => Ok(default),
    };
    let per_source = s.connections_per_source_max.as_ref();
    Ok(Admission {
        devices,
        unknown: s
            .unknown
            .as_ref()
            .map_or(default.unknown, |key| *key.get_ref()),
        sources: sources(source, s.sources.as_ref())?,
        connections_per_source_max: match per_source {
            Some(max) => Some(in_range(source, Some(max), 1, 1..=60_000)?),
            None => None,
        },
        first_message_ms: deadline("first_message", &s.first_message, default.first_message_ms)?,
        message_ms: deadline("message", &s.message, default.message_ms)?,
        rate_max: in_range(source, s.rate_max.as_ref(), default.rate_max, RATE_MAX)?,
        burst_max: in_range(source, s.burst_max.as_ref(), default.burst_max, RATE_MAX)?,
        takeover: s
            .takeover
            .as_ref()
            .map_or(default.takeover, |key| *key.get_ref()),
        silent_ms: deadline("silent", &s.silent, default.silent_ms)?,
    })
}

/// Checks that each key says something about this kind of input.
fn has_meaning(source: &Source, input: InputKind, s: &AdmitSection) -> Result<(), ConfigError> {
    use InputKind::{Exec, Fifo, Gpsd, Http, Serial, Tcp, Udp};
    fn span<T>(key: &Option<Spanned<T>>) -> Option<Range<usize>> {
        key.as_ref().map(Spanned::span)
    }
    let live = &[Tcp, Http, Udp, Serial, Gpsd, Exec, Fifo][..];
    let ports = &[Tcp, Http, Udp][..];
    let connections = &[Tcp, Http][..];
    type Key<'a> = (&'a str, &'a [InputKind], Option<Range<usize>>);
    let keys: [Key<'_>; 10] = [
        ("devices", live, span(&s.devices)),
        ("unknown", live, span(&s.unknown)),
        ("sources", ports, span(&s.sources)),
        (
            "connections_per_source_max",
            connections,
            span(&s.connections_per_source_max),
        ),
        ("first_message", connections, span(&s.first_message)),
        ("message", connections, span(&s.message)),
        ("rate_max", ports, span(&s.rate_max)),
        ("burst_max", ports, span(&s.burst_max)),
        ("takeover", &[Tcp], span(&s.takeover)),
        ("silent", &[Tcp], span(&s.silent)),
    ];
    for (key, inputs, span) in keys {
        if let Some(span) = span.filter(|_| !inputs.contains(&input)) {
            let reason = format!("{key} has no meaning for input = {:?}", input.name());
            return Err(source.error(&span, reason));
        }
    }
    Ok(())
}

/// The path of a list of devices that is right now; it is read again while the node runs.
fn device_list(source: &Source, path: &Spanned<String>) -> Result<String, ConfigError> {
    let resolved = source.existing_file(path)?;
    let mut text = Vec::new();
    let file = operator_file::open(&resolved);
    let read = file.and_then(|file| file.take(LIST_BYTES_MAX as u64 + 1).read_to_end(&mut text));
    if let Err(cause) = read {
        let reason = format!("cannot read file {:?}: {}", path.get_ref(), plain(&cause));
        return Err(source.error(&path.span(), reason));
    }
    match DeviceList::parse(&text) {
        Ok(_) => Ok(resolved),
        Err(wrong) => Err(ConfigError {
            file: resolved.into(),
            line: wrong.line,
            reason: wrong.reason,
        }),
    }
}

fn sources(
    source: &Source,
    ranges: Option<&Spanned<Vec<Spanned<String>>>>,
) -> Result<Vec<IpNet>, ConfigError> {
    let Some(ranges) = ranges else {
        return Ok(Vec::new());
    };
    let count = ranges.get_ref().len();
    if !(1..=SOURCES_MAX).contains(&count) {
        let reason = format!("sources has {count} networks: expected 1 to {SOURCES_MAX}");
        return Err(source.error(&ranges.span(), reason));
    }
    let network = |text: &Spanned<String>| {
        let written = text.get_ref();
        let network = written.parse::<IpNet>().ok();
        // One address is a network, too.
        let network = network.or_else(|| Some(IpNet::from(written.parse::<IpAddr>().ok()?)));
        network.ok_or_else(|| {
            let reason = format!(
                "{written:?} is not a network: expected such as \"10.0.0.0/8\" or \"2001:db8::/32\""
            );
            source.error(&text.span(), reason)
        })
    };
    ranges.get_ref().iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Admission, Config, ConfigError, Takeover, Unknown};

    const NODE: &str = "[node]\nsite = \"depot\"\nname = \"gw1\"\n";
    const SENSOR: &str = "[[sensor]]\nname = \"t\"\ninput = \"tcp\"\nprotocol = \"jt808\"\n\
        listen = \"127.0.0.1:6808\"\n[sensor.admit]\n";

    fn load(folder: &Path, text: &str) -> Result<Config, ConfigError> {
        let path = folder.join("edge.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    /// Line and reason of what is wrong with these keys; they begin in line 10.
    fn wrong(sensor: &str, keys: &str) -> (Option<usize>, String) {
        let folder = tempfile::tempdir().unwrap();
        let error = load(folder.path(), &format!("{NODE}{sensor}{keys}\n")).unwrap_err();
        (error.line, error.reason)
    }

    #[test]
    fn what_is_left_out_lets_any_fleet_in() {
        let folder = tempfile::tempdir().unwrap();
        let config = load(folder.path(), &format!("{NODE}{SENSOR}")).unwrap();
        assert_eq!(config.sensors[0].admit, Admission::default());
    }

    #[test]
    fn all_keys_are_read_and_the_list_is_looked_for_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("fleet.txt");
        std::fs::write(&list, "1\n2 # two\n").unwrap();
        let keys = "devices = \"fleet.txt\"\nunknown = \"quarantine\"\n\
            sources = [\"10.0.0.0/8\", \"192.0.2.7\", \"2001:db8::/32\"]\n\
            connections_per_source_max = 3\nfirst_message = \"5s\"\nmessage = \"10s\"\n\
            rate_max = 7\nburst_max = 9\ntakeover = \"silent\"\nsilent = \"2min\"\n";
        let config = load(folder.path(), &format!("{NODE}{SENSOR}{keys}")).unwrap();
        let networks = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
        let expected = Admission {
            devices: Some(list.display().to_string()),
            unknown: Unknown::Quarantine,
            sources: networks.map(|network| network.parse().unwrap()).to_vec(),
            connections_per_source_max: Some(3),
            first_message_ms: 5_000,
            message_ms: 10_000,
            rate_max: 7,
            burst_max: 9,
            takeover: Takeover::Silent,
            silent_ms: 120_000,
        };
        assert_eq!(config.sensors[0].admit, expected);
    }

    #[test]
    fn a_wrong_list_is_an_error_at_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fleet.txt"), "1\n\na b\n").unwrap();
        let error = load(
            folder.path(),
            &format!("{NODE}{SENSOR}devices = \"fleet.txt\"\n"),
        )
        .unwrap_err();
        assert!(error.file.ends_with("fleet.txt"), "{error}");
        assert_eq!(error.line, Some(3), "{error}");
    }

    #[test]
    fn keys_that_say_nothing_or_cannot_be_are_named_with_their_line() {
        for (keys, expected) in [
            ("devices = \"none.txt\"", "cannot read file \"none.txt\""),
            (
                "unknown = \"reject\"",
                "unknown has no meaning without devices",
            ),
            ("sources = []", "sources has 0 networks"),
            (
                "sources = [\"10.0.0.0/33\"]",
                "\"10.0.0.0/33\" is not a network",
            ),
            ("sources = [\"depot\"]", "\"depot\" is not a network"),
            ("rate_max = 0", "0 is not between 1 and 10000000"),
            ("burst_max = 0", "0 is not between 1 and 10000000"),
            ("message = \"10ms\"", "message is not between 1s and 1d"),
            (
                "connections_per_source_max = 0",
                "0 is not between 1 and 60000",
            ),
        ] {
            let (line, reason) = wrong(SENSOR, keys);
            assert!(reason.starts_with(expected), "{reason}");
            assert_eq!(line, Some(10), "{reason}");
        }
        let datagrams = SENSOR.replace("\"tcp\"", "\"udp\"");
        let (line, reason) = wrong(&datagrams, "takeover = \"newest\"");
        let expected = "takeover has no meaning for input = \"udp\"";
        assert_eq!((line, reason.as_str()), (Some(10), expected));
    }

    #[test]
    fn sensors_keep_to_the_limit_of_connections_of_their_node() {
        let folder = tempfile::tempdir().unwrap();
        let limited = |max: u32| {
            let text = format!("{NODE}connections_max = {max}\n{SENSOR}");
            load(
                folder.path(),
                &text.replace("[sensor.admit]", "connections_max = 100"),
            )
        };
        assert!(limited(100).is_ok());
        let error = limited(99).unwrap_err();
        assert_eq!(error.line, Some(4));
        assert!(
            error
                .reason
                .starts_with("the sensors may have 100 connections together"),
            "{error}"
        );
    }
}
