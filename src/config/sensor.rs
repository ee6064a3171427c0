//! One `[[sensor]]`: where its bytes come from and what they mean.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::ConfigError;
use super::check::{Source, in_range};
use super::document::{InputKind, SensorSection};
use super::port::{Ports, Transport};
use super::settings::{Input, SensorSettings};
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
    })
}

/// Where the bytes of a sensor come from; `missing` makes the error for a key that has to be there.
fn input(
    source: &Source,
    s: &SensorSection,
    ports: &mut Ports,
    missing: impl Fn(&str, &str) -> ConfigError,
) -> Result<Input, ConfigError> {
    use InputKind::{File, Tcp, Udp};
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
    only(&[Tcp, Udp], "listen", span(&s.listen))?;
    only(&[Tcp], "connections_max", span(&s.connections_max))?;
    only(&[Udp], "peers_max", span(&s.peers_max))?;
    only(&[Tcp, Udp], "idle", span(&s.idle))?;
    only(&[File], "path", span(&s.path))?;
    only(&[File], "speed", span(&s.speed))?;
    let mut listen = |transport| {
        let listen = s.listen.as_ref();
        let listen = listen.ok_or_else(|| missing("listen", "where devices connect or send to"))?;
        ports.take(source, transport, listen)
    };
    let idle_ms = s.idle.as_ref().map_or(600_000, |idle| idle.get_ref().0);
    if let Some(idle) = s.idle.as_ref().filter(|_| !IDLE_MS.contains(&idle_ms)) {
        return Err(source.error(&idle.span(), "idle is not between 1s and 30d"));
    }
    Ok(match s.input {
        Tcp => Input::Tcp {
            listen: listen(Transport::Tcp)?,
            connections_max: in_range(source, s.connections_max.as_ref(), 12_000, 1..=60_000)?,
            idle_ms,
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
