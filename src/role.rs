//! The control contract: what the supervisor and its children say to each other on a child's descriptor 0, a seqpacket
//! socket. Messages are postcard, one a packet; descriptors travel beside them in the order stated here.
//!
//! A child hears, in this order: [`ToChild::Assign`], any number of [`ToChild::Ring`], [`ToChild::Page`] and of what is a
//! [`Handed`], then [`ToChild::Start`]. It answers [`FromChild::Ready`]. What is handed to an ingest may be replaced while
//! it runs. End-of-file means that the supervisor is gone: drain.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::config::{
    DispatcherSettings, Fence, Node, ObserverSettings, Rules, SensorSettings, TraceSettings,
    UplinkSettings,
};
use crate::frame::DeviceId;
use crate::ring::{Geometry, Identity};

/// What a process of this binary can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Takes in one sensor.
    Ingest,
    /// Judges frames.
    Classifier,
    /// Serves the live fleet to local subscribers.
    Dispatcher,
    /// Carries alarms through the journal to the broker.
    Uplink,
    /// Shows metrics, health and traces.
    Observer,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 5] = [
        Role::Ingest,
        Role::Classifier,
        Role::Dispatcher,
        Role::Uplink,
        Role::Observer,
    ];

    /// The name in logs, metrics and process titles.
    pub fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Classifier => "classifier",
            Role::Dispatcher => "dispatcher",
            Role::Uplink => "uplink",
            Role::Observer => "observer",
        }
    }
}

/// The first message to a child. Beside it travel: the lock on the state directory, the child's statistics page
/// (writable), then what the role's own variant lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// Who we are.
    pub node: Node,
    /// This process among those of its role: the sensor's name for an ingest, else the role's name.
    pub instance: String,
    /// How often this child was started before.
    pub restarts: u32,
    /// What to do.
    pub duty: Duty,
}

/// A role's own part of its assignment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Duty {
    /// Descriptors: the socket (`tcp`, `http`: listening, `udp`: bound) or the open file (`file`); none for a feed.
    Ingest(SensorSettings),
    /// Descriptors: the state table (writable).
    Classifier {
        /// What to look for.
        rules: Rules,
        /// Where to look.
        fences: Vec<Fence>,
        /// One frame in this many is traced although it raised nothing; 0: none.
        trace_one_in: u32,
        /// Ranks of the sensors, by the number of their ring; a ring that replaces another keeps its number.
        ranks: Vec<u8>,
    },
    /// Descriptors: the state table (read only), the listening socket, and the road graph if `roads`.
    Dispatcher {
        /// Limits.
        settings: DispatcherSettings,
        /// Whether a descriptor of a road graph is there.
        roads: bool,
    },
    /// Descriptors: the state table (read only).
    Uplink {
        /// Journal and broker.
        settings: UplinkSettings,
        /// The state directory.
        state_dir: String,
    },
    /// Descriptors: the listening socket.
    Observer {
        /// Limits.
        settings: ObserverSettings,
        /// Where traces go.
        trace: TraceSettings,
    },
}

/// Which side of a ring a child has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It writes frames.
    Producer,
    /// It reads frames.
    Consumer,
}

/// What a ring carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Frames of one sensor, ingest to classifier.
    Sensor,
    /// Tracks and alarms without custody, classifier to dispatcher.
    Track,
    /// Alarms with custody, classifier to uplink.
    Alarm,
    /// Trace records, to the observer.
    Trace,
}

/// One ring that a child is handed. Beside it travel the descriptors of [`crate::ring::RingFds`], in its order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RingAssignment {
    /// Number of the ring; a sensor keeps its number while its configuration stands.
    pub ring: u32,
    /// Birth of the ring: grows with every ring ever made on this node.
    pub birth: u64,
    /// What it carries.
    pub purpose: Purpose,
    /// The side handed over.
    pub end: End,
    /// The sensor's name, or the role at the other end.
    pub name: String,
    /// Its size.
    pub geometry: Geometry,
}

impl RingAssignment {
    /// Which ring it must be.
    pub fn identity(&self) -> Identity {
        Identity {
            ring: self.ring,
            birth: self.birth,
            geometry: self.geometry,
        }
    }
}

/// The device states of the last run.
#[derive(Debug)]
pub struct States {
    /// A memfd in the format of [`crate::table`]'s snapshots.
    pub fd: OwnedFd,
    /// Whether they are those that the last run ended with. If not, they are older than what that run answered, and only
    /// the open alarms are as true as the journal.
    pub exact: bool,
}

impl States {
    /// Another descriptor of the same.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_clone(&self) -> std::io::Result<States> {
        Ok(States {
            fd: self.fd.try_clone()?,
            exact: self.exact,
        })
    }
}

/// Bytes of one sensor that the supervisor opened: a serial line, a connection to gpsd, a program's output, a pipe.
#[derive(Debug)]
pub struct Feed {
    /// Grows with each one that is opened for the sensor.
    pub number: u64,
    /// Bytes come from here; never blocks.
    pub input: OwnedFd,
    /// Answers go here, if anywhere; never blocks.
    pub answers: Option<OwnedFd>,
    /// What a program says about itself, to be logged line by line; never blocks.
    pub log: Option<OwnedFd>,
}

impl Feed {
    /// Other descriptors of the same.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_clone(&self) -> std::io::Result<Feed> {
        let clone = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
        Ok(Feed {
            number: self.number,
            input: self.input.try_clone()?,
            answers: clone(&self.answers)?,
            log: clone(&self.log)?,
        })
    }

    /// The message that hands it over, and the descriptors beside it.
    pub fn into_message(self) -> (ToChild, Vec<OwnedFd>) {
        let message = ToChild::Feed {
            number: self.number,
            answers: self.answers.is_some(),
            log: self.log.is_some(),
        };
        let fds = std::iter::once(self.input)
            .chain(self.answers)
            .chain(self.log);
        (message, fds.collect())
    }
}

/// A file in which a sensor's bytes are recorded.
#[derive(Debug)]
pub struct Recording {
    /// Open for appending only; its header is there already.
    pub file: OwnedFd,
    /// What stands before each record of it.
    pub mark: [u8; 8],
    /// Which life of the sensor's process begins to write.
    pub life: u32,
}

impl Recording {
    /// The message that hands it over, or says that nothing is recorded any more, and the descriptors beside it.
    pub fn into_message(recording: Option<Recording>) -> (ToChild, Vec<OwnedFd>) {
        match recording {
            Some(Recording { file, mark, life }) => {
                let of = Some((mark, life));
                (ToChild::Capture { of }, vec![file])
            }
            None => (ToChild::Capture { of: None }, Vec::new()),
        }
    }
}

/// Why a feed is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedEnd {
    /// Whoever writes has ended it.
    Closed,
    /// It failed: a line that was unplugged, a connection that broke.
    Broken,
    /// Nothing on it can be read: another rate, or another protocol.
    Unreadable,
    /// Nothing comes although something should.
    Stalled,
}

/// The list of the devices that a sensor's operator knows, as it was read at one time.
#[derive(Debug)]
pub struct Devices {
    /// Grows with each one that is read for the sensor.
    pub number: u64,
    /// A memfd with the text of the file; nobody changes it any more.
    pub list: OwnedFd,
}

impl Devices {
    /// Another descriptor of the same.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_clone(&self) -> std::io::Result<Devices> {
        Ok(Devices {
            number: self.number,
            list: self.list.try_clone()?,
        })
    }
}

/// What an ingest notices of a device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Noticed {
    /// It is not on the list.
    Unknown,
    /// Several devices seem to have it: they take over from each other again and again.
    Contested,
}

impl Noticed {
    /// All of it; the place in the list is the number.
    pub const ALL: [Noticed; 2] = [Noticed::Unknown, Noticed::Contested];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Noticed::Unknown => "unknown",
            Noticed::Contested => "contested",
        }
    }
}

/// A device id that an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Why.
    pub what: Noticed,
    /// The id.
    pub device: DeviceId,
    /// The address that it came from first.
    pub source: String,
    /// When it was noticed first, milliseconds of the wall clock.
    pub first_ms: i64,
    /// ... and last.
    pub last_ms: i64,
    /// How often: messages, or take-overs.
    pub count: u64,
}

/// What a sensor's TLS is made of, judged by the supervisor: files in memory that nobody can change any more.
#[derive(Debug)]
pub struct Certificates {
    /// The server's certificate and what leads from it to an authority, PEM.
    pub chain: OwnedFd,
    /// Its private key, PEM.
    pub key: OwnedFd,
    /// Whose signatures clients may show, PEM.
    pub authorities: Option<OwnedFd>,
}

impl Certificates {
    /// The message that hands it over, and the descriptors beside it.
    pub fn as_message(&self) -> (ToChild, Vec<BorrowedFd<'_>>) {
        let message = ToChild::Certificates {
            authorities: self.authorities.is_some(),
        };
        let fds = [&self.chain, &self.key]
            .into_iter()
            .chain(&self.authorities);
        (message, fds.map(AsFd::as_fd).collect())
    }
}

/// What an ingest uses besides its input and its ring, and may get anew while it runs.
#[derive(Debug)]
pub enum Handed {
    /// A feed, in the place of the one before.
    Feed(Feed),
    /// A list of devices, in the place of the one before if it is right.
    Devices(Devices),
    /// A file to record in, in the place of the one before; `None`: nothing is recorded any more.
    Capture(Option<Recording>),
    /// Certificates for connections that come from now on.
    Certificates(Certificates),
}

impl Handed {
    /// From a message and the descriptors beside it; `None` for every other message, and for too few descriptors.
    pub fn of(message: &ToChild, fds: Vec<OwnedFd>) -> Option<Handed> {
        let mut fds = fds.into_iter();
        match *message {
            ToChild::Feed {
                number,
                answers,
                log,
            } => {
                let input = fds.next()?;
                let answers = if answers { Some(fds.next()?) } else { None };
                let log = if log { Some(fds.next()?) } else { None };
                Some(Handed::Feed(Feed {
                    number,
                    input,
                    answers,
                    log,
                }))
            }
            ToChild::Devices { number } => Some(Handed::Devices(Devices {
                number,
                list: fds.next()?,
            })),
            ToChild::Capture {
                of: Some((mark, life)),
            } => {
                let file = fds.next()?;
                Some(Handed::Capture(Some(Recording { file, mark, life })))
            }
            ToChild::Capture { of: None } => Some(Handed::Capture(None)),
            ToChild::Certificates { authorities } => Some(Handed::Certificates(Certificates {
                chain: fds.next()?,
                key: fds.next()?,
                authorities: if authorities { Some(fds.next()?) } else { None },
            })),
            _ => None,
        }
    }
}

/// What a child is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToChild {
    /// What to be.
    Assign(Box<Assignment>),
    /// A ring.
    Ring(RingAssignment),
    /// A statistics page of another process, to read (observer only). Beside it travels the page, which says itself
    /// whose it is.
    Page,
    /// The device states of the last snapshot (classifier only). Beside it travels a memfd in the format of
    /// [`crate::table`]'s snapshots.
    Snapshot {
        /// See [`States::exact`].
        exact: bool,
    },
    /// A feed (ingest only). Beside it travel its input, where its answers go, and what it says about itself.
    Feed {
        /// See [`Feed::number`].
        number: u64,
        /// Whether there is a descriptor for answers.
        answers: bool,
        /// Whether there is one of what it says about itself.
        log: bool,
    },
    /// A list of devices (ingest only). Beside it travels the memfd.
    Devices {
        /// See [`Devices::number`].
        number: u64,
    },
    /// What a sensor's bytes are recorded in from now on (ingest only). Beside it travels the file, if there is one.
    Capture {
        /// [`Recording::mark`] and [`Recording::life`]; none: nothing is recorded any more.
        of: Option<([u8; 8], u32)>,
    },
    /// What a sensor's TLS is made of (ingest only). Beside it travel the chain, the key, and the authorities of clients.
    Certificates {
        /// Whether there is a descriptor of authorities.
        authorities: bool,
    },
    /// All is handed over.
    Start,
    /// Stop taking in; finish what is there; end.
    Drain,
}

/// What a child says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromChild {
    /// It serves.
    Ready,
    /// A snapshot of device states from the journal (uplink only, before `Ready`). Beside it travels the memfd.
    Snapshot {
        /// See [`States::exact`].
        exact: bool,
    },
    /// A sound message came from a feed (ingest only, once a feed).
    FeedSound {
        /// Which feed.
        number: u64,
    },
    /// A feed is of no use any more (ingest only); another one is wanted.
    FeedEnded {
        /// Which feed.
        number: u64,
        /// Why.
        why: FeedEnd,
    },
    /// A list of devices was read (ingest only, once a list).
    Devices {
        /// Which list.
        number: u64,
        /// How many ids are on it, or why the one before stays.
        outcome: Result<u32, String>,
    },
    /// Device ids that an operator should look at (ingest only), in the place of those said before.
    Notices(Vec<Notice>),
    /// A recording came to an end because its file cannot be written (ingest only).
    CaptureFailed {
        /// The mark of the file.
        mark: [u8; 8],
        /// Why.
        why: String,
    },
    /// A producer broke the rules of its ring; the ring is no longer read.
    Violation {
        /// Number of the ring.
        ring: u32,
        /// What was found.
        what: String,
    },
}

/// Descriptors of an ingest that are not for connections: channels, ring, input, and what may be handed over while it
/// runs; about thirty.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// Exit codes of children and of `ringway run`, after sysexits.
pub mod exit {
    /// All that was accepted is on disk.
    pub const OK: i32 = 0;
    /// An error of our own.
    pub const SOFTWARE: i32 = 70;
    /// A resource is taken, such as a port.
    pub const UNAVAILABLE: i32 = 69;
    /// A file or device failed.
    pub const IO: i32 = 74;
    /// Something was left behind in a drain; the log says what and where.
    pub const LEFT: i32 = 75;
    /// Wrong use of the command line.
    pub const USAGE: i32 = 64;
    /// The configuration is wrong.
    pub const CONFIG: i32 = 78;
}
