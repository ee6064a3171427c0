//! Checked settings, one struct for each role: numbers in base units, nothing optional that has a default.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::protocol::Protocol;

/// Where this node stands, as topics and traces name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The site.
    pub site: String,
    /// The node's name, unique within the site.
    pub name: String,
}

impl Node {
    /// What authentication codes are derived from. Not a secret: these codes prove nothing, they only come out the same
    /// after a restart.
    pub fn key(&self) -> [u8; 16] {
        let mut key = Sha256::new();
        key.update(self.site.as_bytes());
        key.update([0]);
        key.update(self.name.as_bytes());
        let key = key.finalize();
        *key.first_chunk().expect("a SHA-256 has 32 bytes")
    }
}

/// When a device is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// When what its message raised is in the journal.
    #[default]
    Safe,
    /// When its message is in the ring.
    Received,
}

/// What becomes of a device that is not on the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Its connection is closed.
    #[default]
    Reject,
    /// It may log in; what it reports is neither taken nor answered, so that it keeps it.
    Quarantine,
    /// It is taken like any other, and noted.
    Accept,
}

/// What becomes of an id's session when the id comes by another connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// The newer connection has it, and the older is closed.
    #[default]
    Newest,
    /// The older connection keeps it until it was silent for long enough.
    Silent,
}

/// Who may come in by a sensor, and how much of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admission {
    /// File of the devices that are known; none: all are.
    pub devices: Option<String>,
    /// What becomes of the others.
    pub unknown: Unknown,
    /// Networks that may come in; empty: all may.
    pub sources: Vec<IpNet>,
    /// Most connections from one address, if there is such a limit.
    pub connections_per_source_max: Option<u32>,
    /// A connection of which no message came for this long is closed.
    pub first_message_ms: u64,
    /// A message that is not complete after this long ends its connection.
    pub message_ms: u64,
    /// Messages a second of one connection or peer, and of one device.
    pub rate_max: u32,
    /// ... and so many at once.
    pub burst_max: u32,
    /// What becomes of a session when its id comes by another connection.
    pub takeover: Takeover,
    /// Silence after which a session may be taken over where that is asked for.
    pub silent_ms: u64,
}

impl Default for Admission {
    fn default() -> Admission {
        Admission {
            devices: None,
            unknown: Unknown::default(),
            sources: Vec::new(),
            connections_per_source_max: None,
            first_message_ms: 60_000,
            message_ms: 30_000,
            // A gateway that speaks for ten thousand devices once a second; a tracker that sends its store at once.
            rate_max: 10_000,
            burst_max: 20_000,
            takeover: Takeover::default(),
            silent_ms: 60_000,
        }
    }
}

/// Where devices connect to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listening {
    /// Address and port; port 0 takes a free one.
    pub listen: String,
    /// Most connections at a time; further ones wait in the kernel's backlog.
    pub connections_max: u32,
    /// A connection that is silent for this long is closed.
    pub idle_ms: u64,
    /// TLS, if connections are to use it.
    pub tls: Option<Tls>,
}

/// Whether clients have to show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// Who shows none does not come in.
    Required,
    /// Who shows one must be in order.
    Optional,
}

/// What of a client's certificate has to be the id of the device that reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The common name of its subject.
    CommonName,
}

/// TLS of a sensor: PEM files, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// The certificate shown to devices, and what leads from it to an authority that they know.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// Authorities whose certificates clients show; none: clients are not asked for any.
    pub client_authorities: Option<String>,
    /// Whether clients have to show one.
    pub client: ClientCertificates,
    /// What binds a device to its certificate; none: whoever came in may report for any device.
    pub identity: Option<Identity>,
}

/// A program whose standard output is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its working directory; none: the supervisor's.
    pub directory: Option<String>,
    /// Its environment, `PATH` among it, but for what says which sensor it is.
    pub environment: Vec<(String, String)>,
    /// The user that it runs as; none: the supervisor's.
    pub user: Option<String>,
    /// The group that it runs as; none: the user's, or the supervisor's.
    pub group: Option<String>,
    /// Whether it reads answers on its standard input.
    pub answers: bool,
}

/// Where a sensor's bytes come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// Devices connect.
    Tcp(Listening),
    /// Devices, or what speaks for them, send HTTP requests.
    Http(Listening),
    /// A serial line.
    Serial {
        /// The terminal device.
        path: String,
        /// Rates to try, in this order, bits a second.
        bauds: Vec<u32>,
    },
    /// A gpsd to ask for what its receivers say.
    Gpsd {
        /// Host and port.
        connect: String,
        /// The receiver, as gpsd names it; none: all of them.
        receiver: Option<String>,
        /// Whether the receivers' sentences are wanted, and not gpsd's reports.
        sentences: bool,
    },
    /// A program writes to its standard output.
    Exec(Program),
    /// Programs write to a named pipe.
    Fifo {
        /// The pipe, made if it is missing.
        path: String,
        /// A second one, that answers are written to.
        answers_path: Option<String>,
    },
    /// Devices send datagrams.
    Udp {
        /// Address and port; port 0 takes a free one.
        listen: String,
        /// Most source addresses known at a time; a further one takes the place of the one silent for longest.
        peers_max: u32,
        /// A source address that is silent for this long is forgotten.
        idle_ms: u64,
    },
    /// A recorded log is replayed.
    File {
        /// The log.
        path: String,
        /// Times faster than it was recorded; 0: as fast as it goes.
        speed: f64,
    },
}

impl Input {
    /// Most connections at a time.
    pub fn connections_max(&self) -> u32 {
        match self {
            Input::Tcp(listening) | Input::Http(listening) => listening.connections_max,
            _ => 0,
        }
    }

    /// As it is written in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Input::Tcp(_) => "tcp",
            Input::Http(_) => "http",
            Input::Serial { .. } => "serial",
            Input::Gpsd { .. } => "gpsd",
            Input::Exec(_) => "exec",
            Input::Fifo { .. } => "fifo",
            Input::Udp { .. } => "udp",
            Input::File { .. } => "file",
        }
    }

    /// Paths of the line or the named pipes that are its own: who reads along takes away what another is to get.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let (path, answers_path) = match self {
            Input::Serial { path, .. } => (Some(path), None),
            Input::Fifo { path, answers_path } => (Some(path), answers_path.as_ref()),
            _ => (None, None),
        };
        path.into_iter().chain(answers_path).map(String::as_str)
    }

    /// Whether its bytes are one feed that the supervisor opens again whenever it ends.
    pub fn is_feed(&self) -> bool {
        match self {
            Input::Serial { .. } | Input::Gpsd { .. } | Input::Exec(_) | Input::Fifo { .. } => true,
            Input::Tcp(_) | Input::Http(_) | Input::Udp { .. } | Input::File { .. } => false,
        }
    }
}

/// One sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorSettings {
    /// Its name, unique on the node.
    pub name: String,
    /// Where its bytes come from.
    pub input: Input,
    /// What they mean.
    pub protocol: Protocol,
    /// Id of the device, for protocols that carry none.
    pub device: Option<String>,
    /// When a device is answered.
    pub ack: Ack,
    /// Unreadable messages after which a connection is closed.
    pub errors_max: u32,
    /// Offset of the devices' times from UTC, minutes, where it is not the protocol's own.
    pub zone_minutes: Option<i32>,
    /// Accept messages with a wrong checksum.
    pub lenient: bool,
    /// Slots of the sensor's ring, a power of two.
    pub ring_slots: u32,
    /// Messages that may await an answer at a time.
    pub answers_max: u32,
    /// Which of several receivers of one vehicle is used: the lowest that has a fix.
    pub rank: u8,
    /// Whether its bytes are recorded from the start on.
    pub capture: bool,
    /// Who may come in.
    pub admit: Admission,
}

/// Overspeed by our own rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverspeedRule {
    /// Raised above this, mm/s.
    pub limit_mm_s: u32,
    /// ... for at least this long in fix time.
    pub for_ms: u64,
    /// Cleared below `limit_mm_s - hysteresis_mm_s`.
    pub hysteresis_mm_s: u32,
}

/// A fix that implies more than this speed since the last one is a jump.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct JumpRule {
    /// Implied speed, mm/s.
    pub speed_max_mm_s: u32,
    /// Jumps in a row after which the new place is believed.
    pub jumps_max: u32,
}

/// What the classifier looks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Overspeed, if looked for.
    pub overspeed: Option<OverspeedRule>,
    /// Jumps.
    pub jump: JumpRule,
    /// A fix this far ahead of the clock is a clock fault, ms.
    pub future_max_ms: u64,
    /// After so long without a fresh fix of a vehicle's receiver in use, the next one is, ms.
    pub fail_over_ms: u64,
}

/// A circular fence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fence {
    /// Its name, unique on the node.
    pub name: String,
    /// Latitude of the centre, 1e-7 degree.
    pub lat_e7: i32,
    /// Longitude of the centre, 1e-7 degree.
    pub lon_e7: i32,
    /// Radius, mm.
    pub radius_mm: u64,
    /// A vehicle has left when it is this far outside, mm.
    pub margin_mm: u64,
}

/// The dispatcher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DispatcherSettings {
    /// Address and port of HTTP and WebSocket.
    pub listen: String,
    /// A road graph to draw under the map.
    pub roads: Option<String>,
    /// Updates queued for one subscriber before it gets the latest of each vehicle instead.
    pub subscriber_updates_max: u32,
    /// Most subscribers at a time.
    pub subscribers_max: u32,
    /// A subscriber that takes nothing for this long is cut off.
    pub stalled_ms: u64,
}

/// The uplink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UplinkSettings {
    /// Host of the broker; none: alarms stay in the journal.
    pub broker_host: Option<String>,
    /// Its port.
    pub broker_port: u16,
    /// MQTT client id.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// File that holds the password.
    pub password_file: Option<String>,
    /// MQTT keep-alive, seconds.
    pub keep_alive_s: u16,
    /// Unconfirmed publishes at a time.
    pub window: u16,
    /// Most bytes of the journal's database.
    pub journal_bytes_max: u64,
    /// Keep an alarm although nobody subscribes (PUBACK reason 0x10) until somebody does.
    pub hold_without_subscriber: bool,
}

/// The observer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObserverSettings {
    /// Address and port of `/metrics`, `/livez` and `/readyz`.
    pub listen: String,
}

/// Recordings of what devices said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureSettings {
    /// Their directory.
    pub dir: String,
    /// A file that is this long is followed by another one.
    pub file_bytes_max: u64,
    /// Files kept of one sensor; the oldest is removed.
    pub files_max: u32,
    /// Nothing is recorded while the file system has less room than this.
    pub free_bytes_min: u64,
}

/// Traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceSettings {
    /// Base URL of an OTLP/HTTP collector, such as `http://127.0.0.1:4318`; none: no traces.
    pub endpoint: Option<String>,
    /// Headers sent with each export.
    pub headers: Vec<(String, String)>,
    /// One frame in this many is traced although it raised nothing; 0: none.
    pub one_in: u32,
}
