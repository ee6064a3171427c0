//! The configuration as written: one struct a section, every key optional here, unknown keys refused by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::settings::{Ack, ClientCertificates, Identity, Takeover, Unknown};
use super::unit::{Bytes, Millimetres, MillimetresPerSecond, Millis};
use crate::protocol::Protocol;

/// One file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub node: Option<Spanned<NodeSection>>,
    #[serde(default)]
    pub sensor: Vec<Spanned<SensorSection>>,
    #[serde(default)]
    pub rules: RulesSection,
    #[serde(default)]
    pub fence: Vec<Spanned<FenceSection>>,
    pub dispatcher: Option<Spanned<DispatcherSection>>,
    pub uplink: Option<Spanned<UplinkSection>>,
    pub observer: Option<Spanned<ObserverSection>>,
    pub capture: Option<Spanned<CaptureSection>>,
    pub trace: Option<Spanned<TraceSection>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    pub site: Spanned<String>,
    pub name: Spanned<String>,
    pub state_dir: Option<String>,
    pub devices_max: Option<Spanned<u32>>,
    pub connections_max: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    Tcp,
    Udp,
    Http,
    Serial,
    Gpsd,
    Exec,
    Fifo,
    File,
}

impl InputKind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            InputKind::Tcp => "tcp",
            InputKind::Udp => "udp",
            InputKind::Http => "http",
            InputKind::Serial => "serial",
            InputKind::Gpsd => "gpsd",
            InputKind::Exec => "exec",
            InputKind::Fifo => "fifo",
            InputKind::File => "file",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorSection {
    pub name: Spanned<String>,
    pub input: InputKind,
    pub protocol: Protocol,
    pub listen: Option<Spanned<String>>,
    pub path: Option<Spanned<String>>,
    pub answers_path: Option<Spanned<String>>,
    pub speed: Option<Spanned<f64>>,
    pub baud: Option<Spanned<Baud>>,
    pub connect: Option<Spanned<String>>,
    pub receiver: Option<Spanned<String>>,
    pub command: Option<Spanned<Vec<String>>>,
    pub directory: Option<Spanned<String>>,
    pub environment: Option<Spanned<BTreeMap<String, String>>>,
    pub user: Option<Spanned<String>>,
    pub group: Option<Spanned<String>>,
    pub answers: Option<Spanned<bool>>,
    pub device: Option<Spanned<String>>,
    #[serde(default)]
    pub ack: Ack,
    pub connections_max: Option<Spanned<u32>>,
    pub peers_max: Option<Spanned<u32>>,
    pub idle: Option<Spanned<Millis>>,
    pub errors_max: Option<Spanned<u32>>,
    pub zone_minutes: Option<Spanned<i32>>,
    #[serde(default)]
    pub lenient: bool,
    pub ring_slots: Option<Spanned<u32>>,
    pub answers_max: Option<Spanned<u32>>,
    pub rank: Option<Spanned<u8>>,
    #[serde(default)]
    pub capture: bool,
    pub tls: Option<Spanned<TlsSection>>,
    pub admit: Option<Spanned<AdmitSection>>,
}

/// Who may come in by a sensor.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmitSection {
    pub devices: Option<Spanned<String>>,
    pub unknown: Option<Spanned<Unknown>>,
    pub sources: Option<Spanned<Vec<Spanned<String>>>>,
    pub connections_per_source_max: Option<Spanned<u32>>,
    pub first_message: Option<Spanned<Millis>>,
    pub message: Option<Spanned<Millis>>,
    pub rate_max: Option<Spanned<u32>>,
    pub burst_max: Option<Spanned<u32>>,
    pub takeover: Option<Spanned<Takeover>>,
    pub silent: Option<Spanned<Millis>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    pub certificate: Spanned<String>,
    pub key: Spanned<String>,
    pub client_authorities: Option<Spanned<String>>,
    pub client: Option<Spanned<ClientCertificates>>,
    pub identity: Option<Spanned<Identity>>,
}

/// Rates of a serial line.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a rate, a list of rates, or \"auto\"")]
pub enum Baud {
    One(u32),
    Several(Vec<u32>),
    Word(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesSection {
    pub overspeed: Option<Spanned<OverspeedSection>>,
    pub jump: Option<Spanned<JumpSection>>,
    pub future_max: Option<Spanned<Millis>>,
    pub fail_over: Option<Spanned<FailOverSection>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverspeedSection {
    pub limit: Spanned<MillimetresPerSecond>,
    pub r#for: Option<Millis>,
    pub hysteresis: Option<MillimetresPerSecond>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JumpSection {
    pub speed_max: Option<MillimetresPerSecond>,
    pub jumps_max: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailOverSection {
    pub after: Option<Spanned<Millis>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceSection {
    pub name: Spanned<String>,
    pub lat: Spanned<f64>,
    pub lon: Spanned<f64>,
    pub radius: Spanned<Millimetres>,
    pub margin: Option<Millimetres>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatcherSection {
    pub listen: Option<Spanned<String>>,
    pub roads: Option<Spanned<String>>,
    pub subscriber_updates_max: Option<Spanned<u32>>,
    pub subscribers_max: Option<Spanned<u32>>,
    pub stalled: Option<Millis>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkSection {
    pub broker: Option<Spanned<String>>,
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<Spanned<String>>,
    pub keep_alive: Option<Spanned<Millis>>,
    pub window: Option<Spanned<u16>>,
    pub journal_size_max: Option<Spanned<Bytes>>,
    pub no_subscriber: Option<NoSubscriber>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoSubscriber {
    Hold,
    Accept,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserverSection {
    pub listen: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureSection {
    pub dir: Option<String>,
    pub file_size_max: Option<Spanned<Bytes>>,
    pub files_max: Option<Spanned<u32>>,
    pub free_min: Option<Spanned<Bytes>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceSection {
    pub endpoint: Option<Spanned<String>>,
    pub one_in: Option<u32>,
}
