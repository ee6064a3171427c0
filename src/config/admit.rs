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
    let keys: [(&str, &[InputKind], Option<Range<usize>>); 10] = [
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
    let file = std::fs::File::open(&resolved);
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
