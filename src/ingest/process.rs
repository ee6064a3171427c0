//! The ingest process from its assignment to its end.

use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags};

use super::admit::Door;
use super::connections::Connections;
use super::datagrams::Datagrams;
use super::fed::{Fed, Origin};
use super::file::Replay;
use super::peers::Peers;
use super::publishing::Publisher;
use super::round::Rounds;
use super::session::Decoding;
use super::sources::Sources;
use super::tally::Tally;
use super::tcp::Tcp;
use super::udp::Udp;
use super::wake::Wake;
use crate::config::certificates::CertificateError;
use crate::config::{Input, Node, SensorSettings};
use crate::frame::DeviceId;
use crate::protocol::{self, Envelope, Protocol};
use crate::ring::{AttachError, Identity, Producer, RingFds};
use crate::role::{Duty, End, Handed, Purpose, exit};
use crate::stats::Stats;
use crate::sys::clock;
use crate::sys::control::{Channel, ControlError};
use crate::sys::start::Started;

/// Why an ingest ends before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The supervisor did not hand over what the duty needs.
    #[error("cannot start ingest: {0} is missing in the assignment")]
    Assignment(&'static str),
    /// The ring is not usable.
    #[error(transparent)]
    Ring(#[from] AttachError),
    /// The supervisor cannot be told.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The certificates of the sensor are no good.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The input failed.
    #[error("cannot use input of ingest: {0}")]
    Input(#[from] io::Error),
}

/// A socket or file was promised and did not come.
const NO_INPUT: IngestError = IngestError::Assignment("the input");

/// Limits that hold for each connection or peer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Unreadable messages in a row after which a connection is closed, or a peer not read for a while.
    pub errors_max: u32,
    /// Unanswered messages of one connection after which it is not read for a while, or further ones of a peer are
    /// dropped, so that it does not use up the words that all share.
    pub connection_answers_max: u32,
}

impl Limits {
    /// Most unanswered messages of a connection. Answers that do not say what they answer go out one at a time: an
    /// immediate one must not overtake one that waits until something is safe.
    pub fn awaiting_max(&self, in_order: bool) -> u32 {
        if in_order {
            1
        } else {
            self.connection_answers_max
        }
    }
}

/// What an ingest works with.
pub(super) struct Setup {
    /// The node, whose name keys authentication codes.
    pub node: Node,
    /// The sensor.
    pub settings: SensorSettings,
    /// The socket or the open file; none for a feed.
    pub input: Option<OwnedFd>,
    /// The ring to the classifier.
    pub ring: RingFds,
    /// Which ring that is.
    pub identity: Identity,
    /// The supervisor.
    pub control: Channel,
    /// What came before the start.
    pub handed: Vec<Handed>,
    /// The statistics page.
    pub tally: Tally,
    /// The lock on the state directory, if this process holds it too.
    pub lock: Option<OwnedFd>,
}

/// Serves the sensor that the supervisor assigned until it is drained, and returns the exit code.
pub fn run(started: Started) -> i32 {
    let sensor = started.assignment.instance.clone();
    let restarts = started.assignment.restarts;
    tracing::info!(sensor, restarts, "ingest starts");
    match Setup::of(started).and_then(serve) {
        Ok(()) => {
            tracing::info!(sensor, "ingest ends");
            exit::OK
        }
        Err(error) => {
            tracing::error!(sensor, "{error}");
            error.exit_code()
        }
    }
}

impl IngestError {
    fn exit_code(&self) -> i32 {
        match self {
            IngestError::Input(_) => exit::IO,
            _ => exit::SOFTWARE,
        }
    }
}

impl Setup {
    fn of(started: Started) -> Result<Setup, IngestError> {
        let missing = IngestError::Assignment;
        let Duty::Ingest(settings) = started.assignment.duty else {
            return Err(missing("the sensor"));
        };
        let instance = &started.assignment.instance;
        let stats = Stats::attach(started.page.as_fd(), instance, clock::wall_ms())?;
        let (assigned, ring) = started
            .rings
            .into_iter()
            .find(|(ring, _)| ring.purpose == Purpose::Sensor && ring.end == End::Producer)
            .ok_or(missing("the ring"))?;
        let input = started.fds.into_iter().next();
        Ok(Setup {
            node: started.assignment.node,
            tally: Tally::new(stats, settings.protocol),
            settings,
            input,
            handed: started.handed,
            ring,
            identity: assigned.identity(),
            control: started.control,
            lock: Some(started.lock),
        })
    }
}

/// The part of [`run`] that needs no supervisor.
pub(super) fn serve(setup: Setup) -> Result<(), IngestError> {
    let Setup {
        node,
        settings,
        input,
        ring,
        identity,
        control,
        handed,
        tally,
        lock: _held,
    } = setup;
    let producer = Producer::attach_as(&ring, &identity)?;
    let decoding = decoding(&settings, &node);
    let wake = Wake::new(control, ring.producer_bell.as_fd(), handed)?;
    let epoll = || Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from);
    let limits = Limits {
        errors_max: settings.errors_max,
        connection_answers_max: (identity.geometry.answers / 8).max(1),
    };
    let door = Door::new(settings.name, &settings.admit);
    // Over HTTP one device may come by several connections at a time, as a proxy has them.
    let has_sessions =
        matches!(settings.input, Input::Tcp(_)) && settings.protocol != Protocol::Osmand;
    match settings.input {
        Input::Tcp(listening) | Input::Http(listening) => {
            let epoll = epoll()?;
            let tls = listening.tls.clone();
            let rounds = Rounds::new(&epoll, Publisher::new(producer, settings.ack), wake, tally)?;
            let listener = TcpListener::from(input.ok_or(NO_INPUT)?);
            Tcp::new(
                Connections::new(epoll, listener, &listening, &settings.admit)?,
                tls,
                rounds,
                limits,
                door,
                has_sessions,
                decoding,
            )
            .run()
        }
        Input::Udp {
            peers_max, idle_ms, ..
        } => {
            let epoll = epoll()?;
            let rounds = Rounds::new(&epoll, Publisher::new(producer, settings.ack), wake, tally)?;
            Udp::new(
                epoll,
                Datagrams::new(UdpSocket::from(input.ok_or(NO_INPUT)?))?,
                Peers::new(peers_max, idle_ms, Sources::new(&settings.admit)),
                rounds,
                limits,
                door,
                decoding,
            )?
            .run()
        }
        Input::Serial { .. } | Input::Gpsd { .. } | Input::Exec(_) | Input::Fifo { .. } => {
            let epoll = epoll()?;
            let rounds = Rounds::new(&epoll, Publisher::new(producer, settings.ack), wake, tally)?;
            let origin = match settings.input {
                Input::Serial { .. } => Origin::Line,
                Input::Gpsd { .. } => Origin::Gpsd,
                Input::Exec(_) => Origin::Program,
                _ => Origin::Pipe,
            };
            Fed::new(epoll, rounds, limits, door, decoding, origin).run()
        }
        Input::File { speed, .. } => Replay::new(
            File::from(input.ok_or(NO_INPUT)?),
            decoding.protocol,
            decoding.session(),
            Publisher::new(producer, settings.ack),
            wake,
            tally,
            speed,
        )?
        .run(),
    }
}

fn decoding(settings: &SensorSettings, node: &Node) -> Decoding {
    let device = settings.device.as_ref();
    Decoding {
        envelope: match settings.input {
            Input::Http(_) => Envelope::Http,
            _ => Envelope::Bare,
        },
        protocol: settings.protocol,
        settings: protocol::Settings {
            zone_minutes: settings.zone_minutes,
            lenient: settings.lenient,
            device: device.and_then(|id| DeviceId::new(id.as_bytes())),
            node_key: node.key(),
            recorded: matches!(settings.input, Input::File { .. }),
        },
    }
}
