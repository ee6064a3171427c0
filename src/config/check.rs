//! From what was written to what will be run: defaults filled in, every combination judged, the first wrong one named
//! with its file, line and reason.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::capture::capture;
use super::document::{
    DispatcherSection, Document, FenceSection, NoSubscriber, NodeSection, ObserverSection,
    TraceSection, UplinkSection,
};
use super::port::Ports;
use super::sensor::sensor;
use super::settings::{
    DispatcherSettings, Fence, JumpRule, Node, ObserverSettings, OverspeedRule, Rules,
    SensorSettings, TraceSettings, UplinkSettings,
};
use super::{Config, ConfigError};
use crate::frame::DEVICE_RULE;

/// Most sensors of a node: each is a process.
pub const SENSORS_MAX: usize = 64;
/// Most devices: 2 KiB of shared memory for each in one region, as the state table has it.
const DEVICES_MAX: u32 = 500_000;
/// Most fences: every position is held against each.
pub const FENCES_MAX: usize = 64;
/// What `rules.fail_over.after` may be, ms: receivers state times in whole seconds and differ by one.
const FAIL_OVER_MS: RangeInclusive<u64> = 1_000..=3_600_000;
/// Most bytes of a name of a site, node, sensor or fence.
pub const NAME_BYTES_MAX: usize = 48;

/// One file, its text kept to turn offsets into lines.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
    pub document: Document,
}

impl Source {
    /// An error at a place of this file.
    pub fn error(&self, span: &Range<usize>, reason: impl Into<String>) -> ConfigError {
        let line = self.text[..span.start.min(self.text.len())]
            .matches('\n')
            .count()
            + 1;
        ConfigError {
            file: self.path.clone(),
            line: Some(line),
            reason: reason.into(),
        }
    }

    /// A path in this file is relative to the file.
    fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(path)
    }

    /// The path of a file that is there.
    pub fn existing_file(&self, path: &Spanned<String>) -> Result<String, ConfigError> {
        let resolved = self.resolve(path.get_ref());
        match std::fs::metadata(&resolved) {
            Ok(meta) if meta.is_file() => Ok(resolved.display().to_string()),
            Ok(_) => Err(self.error(&path.span(), format!("{:?} is not a file", path.get_ref()))),
            Err(cause) => Err(self.error(
                &path.span(),
                format!("cannot read file {:?}: {}", path.get_ref(), plain(&cause)),
            )),
        }
    }

    /// A path that may come to be later, from where this file stands.
    pub fn path(&self, path: &str) -> String {
        self.resolve(path).display().to_string()
    }

    /// A name that can stand in topics and metrics.
    pub fn name(&self, name: &Spanned<String>) -> Result<String, ConfigError> {
        let text = name.get_ref();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(allowed) {
            return Err(self.error(
                &name.span(),
                format!("{text:?} is not a name: 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ -"),
            ));
        }
        Ok(text.clone())
    }
}

/// An operating system's error without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text[..1].to_lowercase() + &text[1..]
}

fn node(sources: &[Source]) -> Result<(&Source, &Spanned<NodeSection>), ConfigError> {
    one(sources, "node", |d| d.node.as_ref())?.ok_or(ConfigError {
        file: sources[0].path.clone(),
        line: None,
        reason: "section [node] with site and name is missing".into(),
    })
}

/// Where the state directory is; nothing else is checked.
pub fn state_dir(sources: &[Source]) -> Result<PathBuf, ConfigError> {
    let (source, node) = node(sources)?;
    Ok(match &node.get_ref().state_dir {
        Some(dir) => source.resolve(dir),
        None => PathBuf::from("/var/lib/ringway"),
    })
}

/// Checks all files together. The first is the main file.
pub fn check(sources: &[Source]) -> Result<Config, ConfigError> {
    let mut ports = Ports::default();
    let state_dir = state_dir(sources)?;
    let (source, node) = node(sources)?;
    let NodeSection {
        site,
        name,
        devices_max,
        connections_max,
        ..
    } = node.get_ref();
    let node = Node {
        site: source.name(site)?,
        name: source.name(name)?,
    };
    let devices_max = in_range(source, devices_max.as_ref(), 10_000, 1..=DEVICES_MAX)?;

    let mut sensors: Vec<SensorSettings> = Vec::new();
    for source in sources {
        for section in &source.document.sensor {
            let sensor = sensor(source, section, &mut ports)?;
            if sensors.iter().any(|other| other.name == sensor.name) {
                let reason = format!("sensor {:?} is there already", sensor.name);
                return Err(source.error(&section.get_ref().name.span(), reason));
            }
            let earlier = sensors.iter().flat_map(|other| other.input.paths());
            let mut paths: Vec<&str> = earlier.collect();
            for path in sensor.input.paths() {
                if paths.contains(&path) {
                    let reason = format!("{path} is used already: each line and pipe has one use");
                    return Err(source.error(&section.get_ref().name.span(), reason));
                }
                paths.push(path);
            }
            if sensors.len() == SENSORS_MAX {
                let reason = format!("more than {SENSORS_MAX} sensors");
                return Err(source.error(&section.span(), reason));
            }
            sensors.push(sensor);
        }
    }
    if let Some(max) = connections_max {
        enough_connections(source, max, &sensors)?;
    }
    if sensors.is_empty() {
        let reason = "no [[sensor]]: nothing would be taken in".into();
        return Err(ConfigError {
            file: sources[0].path.clone(),
            line: None,
            reason,
        });
    }

    Ok(Config {
        rules: rules(sources)?,
        fences: fences(sources)?,
        dispatcher: dispatcher(sources, &mut ports)?,
        observer: observer(sources, &mut ports)?,
        uplink: uplink(sources, &node)?,
        trace: trace(sources)?,
        capture: capture(sources, &state_dir)?,
        node,
        state_dir,
        devices_max,
        sensors,
    })
}

/// Checks that all sensors together keep to the node's limit.
fn enough_connections(
    source: &Source,
    max: &Spanned<u32>,
    sensors: &[SensorSettings],
) -> Result<(), ConfigError> {
    let all: u64 = sensors
        .iter()
        .map(|sensor| u64::from(sensor.input.connections_max()))
        .sum();
    if all <= u64::from(*max.get_ref()) {
        return Ok(());
    }
    let reason = format!(
        "the sensors may have {all} connections together, connections_max says {}",
        max.get_ref()
    );
    Err(source.error(&max.span(), reason))
}

/// The section that only one of the files may have.
///
/// # Errors
/// When another one has it, too.
pub fn one<'a, T>(
    sources: &'a [Source],
    name: &str,
    section: impl Fn(&'a Document) -> Option<&'a Spanned<T>>,
) -> Result<Option<(&'a Source, &'a Spanned<T>)>, ConfigError> {
    let mut found: Option<(&Source, &Spanned<T>)> = None;
    for source in sources {
        let Some(here) = section(&source.document) else {
            continue;
        };
        if let Some((first, _)) = found {
            let reason = format!(
                "section [{name}] stands in {} already",
                first.path.display()
            );
            return Err(source.error(&here.span(), reason));
        }
        found = Some((source, here));
    }
    Ok(found)
}

/// The value, or the default where there is none.
///
/// # Errors
/// When it is not within the range.
pub fn in_range<T: Copy + PartialOrd + std::fmt::Display>(
    source: &Source,
    value: Option<&Spanned<T>>,
    default: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, ConfigError> {
    let Some(value) = value else {
        return Ok(default);
    };
    if range.contains(value.get_ref()) {
        return Ok(*value.get_ref());
    }
    let reason = format!(
        "{} is not between {} and {}",
        value.get_ref(),
        range.start(),
        range.end()
    );
    Err(source.error(&value.span(), reason))
}

fn rules(sources: &[Source]) -> Result<Rules, ConfigError> {
    let overspeed = match one(sources, "rules.overspeed", |d| d.rules.overspeed.as_ref())? {
        None => None,
        Some((source, section)) => {
            let s = section.get_ref();
            let limit_mm_s = s.limit.get_ref().0;
            let hysteresis_mm_s = s.hysteresis.map_or(1_389, |speed| speed.0);
            if hysteresis_mm_s >= limit_mm_s {
                let reason = "hysteresis is not below limit: the alarm would never clear";
                return Err(source.error(&section.span(), reason));
            }
            let for_ms = s.r#for.map_or(5_000, |time| time.0);
            Some(OverspeedRule {
                limit_mm_s,
                for_ms,
                hysteresis_mm_s,
            })
        }
    };
    let jump = one(sources, "rules.jump", |d| d.rules.jump.as_ref())?;
    let jump = jump.map(|(_, section)| section.get_ref());
    let future = one(sources, "rules", |d| d.rules.future_max.as_ref())?;
    let fail_over = one(sources, "rules.fail_over", |d| d.rules.fail_over.as_ref())?;
    let after = fail_over.and_then(|(source, s)| Some((source, s.get_ref().after.as_ref()?)));
    if let Some((source, after)) = after.filter(|(_, a)| !FAIL_OVER_MS.contains(&a.get_ref().0)) {
        return Err(source.error(&after.span(), "after is not between 1s and 1h"));
    }
    Ok(Rules {
        overspeed,
        jump: JumpRule {
            // A car at 300 km/h with an error of its own; a helicopter's owner sets it higher.
            speed_max_mm_s: jump
                .and_then(|j| j.speed_max)
                .map_or(100_000, |speed| speed.0),
            jumps_max: jump.and_then(|j| j.jumps_max).unwrap_or(3),
        },
        future_max_ms: future.map_or(300_000, |(_, time)| time.get_ref().0),
        fail_over_ms: after.map_or(5_000, |(_, time)| time.get_ref().0),
    })
}

fn fences(sources: &[Source]) -> Result<Vec<Fence>, ConfigError> {
    let mut fences: Vec<Fence> = Vec::new();
    for source in sources {
        for section in &source.document.fence {
            let FenceSection {
                name,
                lat,
                lon,
                radius,
                margin,
            } = section.get_ref();
            let fence = Fence {
                name: source.name(name)?,
                lat_e7: (in_range(source, Some(lat), 0.0, -90.0..=90.0)? * 1e7).round() as i32,
                lon_e7: (in_range(source, Some(lon), 0.0, -180.0..=180.0)? * 1e7).round() as i32,
                radius_mm: radius.get_ref().0,
                margin_mm: margin.map_or(20_000, |length| length.0),
            };
            if fence.name == DEVICE_RULE {
                let reason = format!("{DEVICE_RULE:?} names what devices report themselves");
                return Err(source.error(&name.span(), reason));
            }
            if fences.iter().any(|other| other.name == fence.name) {
                let reason = format!("fence {:?} is there already", fence.name);
                return Err(source.error(&name.span(), reason));
            }
            if fences.len() == FENCES_MAX {
                return Err(source.error(&section.span(), format!("more than {FENCES_MAX} fences")));
            }
            fences.push(fence);
        }
    }
    Ok(fences)
}

fn dispatcher(sources: &[Source], ports: &mut Ports) -> Result<DispatcherSettings, ConfigError> {
    let empty = DispatcherSection::default();
    let found = one(sources, "dispatcher", |d| d.dispatcher.as_ref())?;
    let s = found.map_or(&empty, |(_, section)| section.get_ref());
    let source = found.map_or(&sources[0], |(source, _)| source);
    Ok(DispatcherSettings {
        listen: ports.take_or(source, s.listen.as_ref(), "127.0.0.1:8080", "dispatcher")?,
        roads: s
            .roads
            .as_ref()
            .map(|path| source.existing_file(path))
            .transpose()?,
        subscriber_updates_max: in_range(
            source,
            s.subscriber_updates_max.as_ref(),
            20_000,
            1..=1_000_000,
        )?,
        subscribers_max: in_range(source, s.subscribers_max.as_ref(), 64, 1..=10_000)?,
        stalled_ms: s.stalled.map_or(10_000, |time| time.0),
    })
}

fn observer(sources: &[Source], ports: &mut Ports) -> Result<ObserverSettings, ConfigError> {
    let empty = ObserverSection::default();
    let found = one(sources, "observer", |d| d.observer.as_ref())?;
    let s = found.map_or(&empty, |(_, section)| section.get_ref());
    let source = found.map_or(&sources[0], |(source, _)| source);
    Ok(ObserverSettings {
        listen: ports.take_or(source, s.listen.as_ref(), "127.0.0.1:9464", "observer")?,
    })
}

fn uplink(sources: &[Source], node: &Node) -> Result<UplinkSettings, ConfigError> {
    let empty = UplinkSection::default();
    let found = one(sources, "uplink", |d| d.uplink.as_ref())?;
    let s = found.map_or(&empty, |(_, section)| section.get_ref());
    let source = found.map_or(&sources[0], |(source, _)| source);
    let broker = s
        .broker
        .as_ref()
        .map(|url| broker(source, url))
        .transpose()?;
    let keep_alive = s.keep_alive.as_ref().map(|time| time.get_ref().0 / 1000);
    if let Some(time) = s
        .keep_alive
        .as_ref()
        .filter(|_| !keep_alive.is_some_and(|k| (5..=3600).contains(&k)))
    {
        return Err(source.error(&time.span(), "keep_alive is not between 5s and 1h"));
    }
    let journal_bytes_max = s
        .journal_size_max
        .as_ref()
        .map_or(64 << 20, |size| size.get_ref().0);
    if let Some(size) = s
        .journal_size_max
        .as_ref()
        .filter(|size| size.get_ref().0 < 1 << 20)
    {
        return Err(source.error(&size.span(), "journal_size_max is below 1MiB"));
    }
    Ok(UplinkSettings {
        broker_port: broker.as_ref().map_or(1883, |(_, port)| *port),
        broker_host: broker.map(|(host, _)| host),
        client_id: s
            .client_id
            .clone()
            .unwrap_or_else(|| format!("ringway-{}-{}", node.site, node.name)),
        username: s.username.clone(),
        password_file: s
            .password_file
            .as_ref()
            .map(|path| source.existing_file(path))
            .transpose()?,
        keep_alive_s: keep_alive.unwrap_or(30) as u16,
        window: in_range(source, s.window.as_ref(), 100, 1..=10_000)?,
        journal_bytes_max,
        hold_without_subscriber: s.no_subscriber != Some(NoSubscriber::Accept),
    })
}

/// `mqtt://host[:port]`.
fn broker(source: &Source, url: &Spanned<String>) -> Result<(String, u16), ConfigError> {
    let wrong = |why: &str| {
        source.error(
            &url.span(),
            format!("{:?} is not a broker: {why}", url.get_ref()),
        )
    };
    let rest = url
        .get_ref()
        .strip_prefix("mqtt://")
        .ok_or_else(|| wrong("expected mqtt://host:port"))?;
    let rest = rest.trim_end_matches('/');
    if rest.contains('@') {
        // Not echoed: it is a password.
        let reason = "broker has a user or password in it: use username and password_file";
        return Err(source.error(&url.span(), reason));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (
            host,
            port.parse()
                .map_err(|_| wrong("the port is not a number up to 65535"))?,
        ),
        _ => (rest, 1883),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong("the host is missing"));
    }
    Ok((host.to_string(), port))
}

fn trace(sources: &[Source]) -> Result<TraceSettings, ConfigError> {
    let empty = TraceSection::default();
    let found = one(sources, "trace", |d| d.trace.as_ref())?;
    let s = found.map_or(&empty, |(_, section)| section.get_ref());
    if let Some((source, _)) = found
        && let Some(url) = s
            .endpoint
            .as_ref()
            .filter(|url| !url.get_ref().starts_with("http://"))
    {
        let reason = format!(
            "{:?} is not a collector: expected http://host:port",
            url.get_ref()
        );
        return Err(source.error(&url.span(), reason));
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = s.endpoint.as_ref().map(|url| url.get_ref().clone());
    let headers = variable("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default();
    let headers = headers.split(',').filter_map(|pair| pair.split_once('='));
    Ok(TraceSettings {
        endpoint,
        headers: headers
            .map(|(k, v)| (k.trim().to_string(), v.trim().to_string()))
            .collect(),
        one_in: s.one_in.unwrap_or(0),
    })
}
