//! One `[[sensor]]`: where its bytes come from and what they mean.

use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::ConfigError;
use super::admit::admit;
use super::check::{Source, in_range};
use super::document::{Baud, InputKind, SensorSection};
use super::port::{Ports, Transport};
use super::program::program;
use super::settings::{Input, Listening, SensorSettings};
use super::tls::tls;
use crate::frame::DeviceId;
use crate::protocol::Protocol;

/// What `idle` may be, milliseconds: longer than the silence that ends what a receiver says of one moment.
const IDLE_MS: RangeInclusive<u64> = 1_000..=30 * 86_400_000;

/// Checks a sensor and takes its port.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn sensor(
    source: &Source,
    section: &Spanned<SensorSection>,
    ports: &mut Ports,
) -> Result<SensorSettings, ConfigError> {
    let s = section.get_ref();
    let missing = |key: &str, why: &str| {
        source.error(
            &section.span(),
            format!("sensor {:?}: {key} is missing: {why}", s.name.get_ref()),
        )
    };
    let input = input(source, s, ports, missing)?;
    let device = match &s.device {
        Some(device) => {
            let reason = || {
                format!(
                    "{:?} is not a device id: 1 to 31 of A-Z a-z 0-9 . _ : -",
                    device.get_ref()
                )
            };
            DeviceId::new(device.get_ref().as_bytes())
                .ok_or_else(|| source.error(&device.span(), reason()))?;
            Some(device.get_ref().clone())
        }
        None if s.protocol.is_anonymous() => {
            let why = format!("{} does not say who reports", s.protocol.name());
            return Err(missing("device", &why));
        }
        None => None,
    };
    let ring_slots = in_range(source, s.ring_slots.as_ref(), 8192, 64..=1 << 20)?;
    if !ring_slots.is_power_of_two() {
        let span = s.ring_slots.as_ref().map(Spanned::span).unwrap_or_default();
        return Err(source.error(&span, format!("{ring_slots} is not a power of two")));
    }
    Ok(SensorSettings {
        name: source.name(&s.name)?,
        input,
        protocol: s.protocol,
        device,
        ack: s.ack,
        errors_max: in_range(source, s.errors_max.as_ref(), 16, 1..=u32::MAX)?,
        zone_minutes: match &s.zone_minutes {
            Some(zone) => Some(in_range(source, Some(zone), 0, -720..=840)?),
            None => None,
        },
        lenient: s.lenient,
        ring_slots,
        answers_max: in_range(source, s.answers_max.as_ref(), 16_384, 1..=1 << 20)?,
        rank: in_range(source, s.rank.as_ref(), 1, 1..=9)?,
        capture: s.capture,
        admit: admit(source, s)?,
    })
}

/// Where the bytes of a sensor come from; `missing` makes the error for a key that has to be there.
fn input(
    source: &Source,
    s: &SensorSection,
    ports: &mut Ports,
    missing: impl Fn(&str, &str) -> ConfigError,
) -> Result<Input, ConfigError> {
    use InputKind::{Exec, Fifo, File, Gpsd, Http, Serial, Tcp, Udp};
    fn span<T>(key: &Option<Spanned<T>>) -> Option<Range<usize>> {
        key.as_ref().map(Spanned::span)
    }
    let only = |kinds: &[InputKind], key: &str, span: Option<Range<usize>>| match span {
        Some(span) if !kinds.contains(&s.input) => {
            let reason = format!("{key} has no meaning for input = {:?}", s.input.name());
            Err(source.error(&span, reason))
        }
        _ => Ok(()),
    };
    if s.capture && s.input == File {
        let reason = "capture has no meaning for input = \"file\": it is a recording";
        return Err(source.error(&s.name.span(), reason));
    }
    only(&[Tcp, Udp, Http], "listen", span(&s.listen))?;
    only(&[Tcp, Http], "connections_max", span(&s.connections_max))?;
    only(&[Udp], "peers_max", span(&s.peers_max))?;
    only(&[Tcp, Udp, Http], "idle", span(&s.idle))?;
    only(&[File, Serial, Fifo], "path", span(&s.path))?;
    only(&[Fifo], "answers_path", span(&s.answers_path))?;
    only(&[Serial], "baud", span(&s.baud))?;
    only(&[Gpsd], "connect", span(&s.connect))?;
    only(&[Gpsd], "receiver", span(&s.receiver))?;
    only(&[Exec], "command", span(&s.command))?;
    only(&[Exec], "directory", span(&s.directory))?;
    only(&[Exec], "environment", span(&s.environment))?;
    only(&[Exec], "user", span(&s.user))?;
    only(&[Exec], "group", span(&s.group))?;
    only(&[Exec], "answers", span(&s.answers))?;
    only(&[File], "speed", span(&s.speed))?;
    only(&[Tcp, Http], "tls", span(&s.tls))?;
    let mut listen = |transport| {
        let listen = s.listen.as_ref();
        let listen = listen.ok_or_else(|| missing("listen", "where devices connect or send to"))?;
        ports.take(source, transport, listen)
    };
    let idle_ms = s.idle.as_ref().map_or(600_000, |idle| idle.get_ref().0);
    if let Some(idle) = s.idle.as_ref().filter(|_| !IDLE_MS.contains(&idle_ms)) {
        return Err(source.error(&idle.span(), "idle is not between 1s and 30d"));
    }
    let mut listening = || {
        Ok::<_, ConfigError>(Listening {
            listen: listen(Transport::Tcp)?,
            connections_max: in_range(source, s.connections_max.as_ref(), 12_000, 1..=60_000)?,
            idle_ms,
            tls: s
                .tls
                .as_ref()
                .map(|section| tls(source, section))
                .transpose()?,
        })
    };
    let path = |why| {
        let path = s.path.as_ref().ok_or_else(|| missing("path", why))?;
        Ok::<_, ConfigError>(source.path(path.get_ref()))
    };
    Ok(match s.input {
        Tcp => Input::Tcp(listening()?),
        Http => Input::Http(listening()?),
        Serial => Input::Serial {
            path: path("which line to read")?,
            bauds: bauds(source, s.baud.as_ref())?,
        },
        Gpsd if !matches!(s.protocol, Protocol::Gpsd | Protocol::Nmea) => {
            let reason = format!("gpsd does not send {}: gpsd or nmea", s.protocol.name());
            return Err(source.error(&s.name.span(), reason));
        }
        Gpsd => Input::Gpsd {
            connect: match &s.connect {
                Some(connect) => host_and_port(source, connect)?,
                None => "127.0.0.1:2947".into(),
            },
            receiver: s.receiver.as_ref().map(|name| name.get_ref().clone()),
            sentences: s.protocol == Protocol::Nmea,
        },
        Exec => Input::Exec(program(source, s, missing)?),
        Fifo => Input::Fifo {
            path: path("which pipe to read")?,
            answers_path: s
                .answers_path
                .as_ref()
                .map(|path| source.path(path.get_ref())),
        },
        Udp if matches!(s.protocol, Protocol::Osmand | Protocol::Ruptela) => {
            let name = s.protocol.name();
            let reason = format!("{name} is not for udp: its answers need a connection");
            return Err(source.error(&s.name.span(), reason));
        }
        Udp => Input::Udp {
            listen: listen(Transport::Udp)?,
            peers_max: in_range(source, s.peers_max.as_ref(), 12_000, 1..=1_000_000)?,
            idle_ms,
        },
        File => {
            let path = s.path.as_ref();
            let path = path.ok_or_else(|| missing("path", "which log to replay"))?;
            Input::File {
                path: source.existing_file(path)?,
                speed: in_range(source, s.speed.as_ref(), 1.0, 0.0..=1000.0)?,
            }
        }
    })
}

/// A place to connect to: a name or an address, and a port.
fn host_and_port(source: &Source, connect: &Spanned<String>) -> Result<String, ConfigError> {
    let text = connect.get_ref();
    let parts = text.rsplit_once(':');
    let named = |(host, port): (&str, &str)| {
        !host.is_empty() && !host.contains(':') && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if text.parse::<SocketAddr>().is_ok() || parts.is_some_and(named) {
        return Ok(text.clone());
    }
    let reason = format!("{text:?} is no place to connect to: expected host:port or [ipv6]:port");
    Err(source.error(&connect.span(), reason))
}

/// Rates that receivers and trackers come with, the likeliest first.
const BAUDS_AUTO: [u32; 6] = [9_600, 115_200, 38_400, 4_800, 57_600, 19_200];

/// Rates that a line can have: those of POSIX and of Linux up to 921600.
const BAUDS: [u32; 12] = [
    1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 500_000, 921_600,
];

fn bauds(source: &Source, baud: Option<&Spanned<Baud>>) -> Result<Vec<u32>, ConfigError> {
    let Some(baud) = baud else {
        return Ok(BAUDS_AUTO.to_vec());
    };
    let bauds = match baud.get_ref() {
        Baud::One(rate) => vec![*rate],
        Baud::Several(rates) => rates.clone(),
        Baud::Word(word) if word == "auto" => BAUDS_AUTO.to_vec(),
        Baud::Word(word) => {
            let reason = format!("{word:?} is no rate: expected a number, a list, or \"auto\"");
            return Err(source.error(&baud.span(), reason));
        }
    };
    match bauds.iter().find(|rate| !BAUDS.contains(rate)) {
        Some(rate) => {
            let reason = format!("{rate} is not one of {BAUDS:?}");
            Err(source.error(&baud.span(), reason))
        }
        None if bauds.is_empty() => Err(source.error(&baud.span(), "baud lists no rate")),
        None => Ok(bauds),
    }
}
