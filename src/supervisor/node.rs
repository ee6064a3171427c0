//! What the supervisor owns on behalf of everybody: sockets, files, rings, the state table, statistics pages. A child
//! may die and start again on the same objects.

mod inputs;
mod renewal;
mod reporting;
mod rings;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::info;

use super::captures::Captures;
use super::certificates::{self, ReadError};
use super::device_list::DeviceLists;
use super::feed::FeedState;
use super::listener::{self, OpenError};
use super::plan::{self, ProcessName};
use super::report::ProgramReport;
use super::state_dir::{StateDir, StateDirError};
use crate::config::Config;
use crate::ring::AttachError;
use crate::role::{Assignment, Certificates, Duty, Feed, Notice, Role, States, exit};
use crate::stats::{self, Stats, SupervisorMetric};
use crate::sys::{clock, region};
use crate::table;
use inputs::{enough_descriptors, open_input, sensor, told};
pub use renewal::ReadAgain;
use renewal::{devices_path, tls};
use rings::Ring;

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Signals cannot be heard.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The state directory is not usable.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// A port or file is not.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Certificates are not.
    #[error("{0}: {1}")]
    Certificates(ProcessName, #[source] ReadError),
    /// Shared memory is not.
    #[error("cannot make shared memory: {0}")]
    Memory(#[source] std::io::Error),
    /// A ring is not.
    #[error("cannot make ring: {0}")]
    Ring(#[from] AttachError),
    /// A sensor may have more connections than the system lets a process have descriptors.
    #[error(
        "sensor {sensor}: connections_max = {connections} needs {needed} descriptors, and a process may have {limit}: \
         lower it, or raise the hard limit (ulimit -n, LimitNOFILE)"
    )]
    Descriptors {
        /// Which sensor.
        sensor: String,
        /// Its limit.
        connections: u32,
        /// Descriptors for as many.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
    /// The control socket is not.
    #[error("cannot serve control socket {0}: {1}")]
    Control(std::path::PathBuf, #[source] std::io::Error),
}

impl NodeError {
    /// The exit code that tells it to a service manager.
    pub fn exit_code(&self) -> i32 {
        match self {
            NodeError::Open(OpenError::Listen { .. }) => exit::UNAVAILABLE,
            NodeError::StateDir(StateDirError::Taken(_)) => exit::UNAVAILABLE,
            NodeError::Open(OpenError::File { .. }) | NodeError::StateDir(_) => exit::IO,
            NodeError::Control(..) | NodeError::Certificates(..) => exit::IO,
            NodeError::Descriptors { .. } => exit::CONFIG,
            NodeError::Signals(_) | NodeError::Memory(_) | NodeError::Ring(_) => exit::SOFTWARE,
        }
    }
}

/// What is known of a child.
#[derive(Clone, Debug, Default)]
pub struct ChildState {
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// Whether it said that it serves.
    pub ready: bool,
    /// Times that it was started again.
    pub restarts: u32,
    /// Whether it fails again and again.
    pub looping: bool,
    /// How it ended the last time.
    pub last_exit: Option<String>,
    /// Whether it will not be started again.
    pub ended: bool,
}

struct Process {
    name: ProcessName,
    page: OwnedFd,
    /// The listening socket or file, if the role has one.
    opened: Option<OwnedFd>,
    /// What the sensor is fed from, while it is open. Kept here, so that what is in a pipe outlives an ingest.
    feed: RefCell<Option<Feed>>,
    /// The program that feeds the sensor.
    program: RefCell<Option<ProgramReport>>,
    devices: RefCell<DeviceLists>,
    /// Device ids that an operator should look at.
    notices: RefCell<Vec<Notice>>,
    /// What its TLS is made of, if it has any.
    certificates: RefCell<Option<Rc<Certificates>>>,
    feed_state: RefCell<FeedState>,
    state: RefCell<ChildState>,
}

/// The device states of the last run.
enum Snapshot {
    /// The uplink has not told of any.
    Awaited,
    /// For every classifier that starts, until one has filled the table with them.
    Kept(States),
    /// They are in the table, which from then on knows better.
    Restored,
}

/// The node.
pub struct Node {
    config: Config,
    began: Instant,
    state_dir: RefCell<StateDir>,
    processes: Vec<Process>,
    rings: Vec<Ring>,
    page: OwnedFd,
    stats: Stats<SupervisorMetric>,
    table: OwnedFd,
    roads: Option<OwnedFd>,
    listeners: BTreeMap<String, String>,
    snapshot: RefCell<Snapshot>,
    captures: RefCell<Captures>,
    ready_after: Cell<Option<Duration>>,
    draining: Cell<bool>,
}

impl Node {
    /// Opens and makes everything; nothing is started yet.
    pub fn open(config: Config) -> Result<Node, NodeError> {
        let began = Instant::now();
        enough_descriptors(&config)?;
        let mut state_dir = StateDir::open(&config.state_dir, || {
            info!("waiting for the processes of the last run to finish");
        })?;
        let mut listeners = BTreeMap::new();
        let mut processes = Vec::new();
        for name in plan::processes(&config) {
            let opened = open_input(&config, &name, &mut listeners)?;
            let certificates = tls(&config, &name).map(certificates::read).transpose();
            let certificates =
                certificates.map_err(|cause| NodeError::Certificates(name.clone(), cause))?;
            let page = stats::create().map_err(NodeError::Memory)?;
            let mut devices = DeviceLists::default();
            if let Some(path) = devices_path(&config, &name) {
                devices.read(path, &format!("sensor {}", name.instance))?;
            }
            processes.push(Process {
                name,
                page,
                opened,
                feed: RefCell::default(),
                program: RefCell::default(),
                devices: RefCell::new(devices),
                notices: RefCell::default(),
                certificates: RefCell::new(certificates.map(Rc::new)),
                feed_state: RefCell::new(FeedState::new()),
                state: RefCell::default(),
            });
        }
        let roads = config.dispatcher.roads.as_deref();
        let roads = roads
            .map(|path| listener::file(path, "dispatcher.roads"))
            .transpose()?;
        let rings = rings::make(&config, &mut state_dir)?;
        let page = stats::create().map_err(NodeError::Memory)?;
        let stats = Stats::attach(page.as_fd(), "supervisor", clock::wall_ms())
            .map_err(NodeError::Memory)?;
        let table = table::create(config.devices_max).map_err(NodeError::Memory)?;
        let mut captures = Captures::new(&config);
        captures.begin();
        Ok(Node {
            config,
            began,
            state_dir: RefCell::new(state_dir),
            processes,
            rings,
            page,
            stats,
            table,
            roads,
            listeners,
            snapshot: RefCell::new(Snapshot::Awaited),
            captures: RefCell::new(captures),
            ready_after: Cell::new(None),
            draining: Cell::new(false),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The processes, in the order in which they start.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessName> {
        self.processes.iter().map(|process| &process.name)
    }

    /// What is listened on, by name.
    pub fn listeners(&self) -> impl Iterator<Item = (&String, &String)> {
        self.listeners.iter()
    }

    fn process(&self, name: &ProcessName) -> &Process {
        let found = self.processes.iter().find(|process| process.name == *name);
        found.expect("children are made from the plan")
    }

    /// Changes what is known of a child; the page says it at once.
    pub fn note(&self, name: &ProcessName, change: impl FnOnce(&mut ChildState)) {
        change(&mut self.process(name).state.borrow_mut());
        self.beat();
    }

    /// Whether every child serves; `since_start` is kept the first time that it is so.
    pub fn all_ready(&self, since_start: Duration) -> bool {
        let ready = self
            .processes
            .iter()
            .all(|process| process.state.borrow().ready);
        let first = ready && self.ready_after.get().is_none();
        if first {
            self.ready_after.set(Some(since_start));
        }
        first
    }

    /// From now on the node is not ready.
    pub fn drain_began(&self) {
        self.draining.set(true);
    }

    /// Whether the node drains.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether this process has one of these roles and has not ended for good.
    pub fn is_left(&self, roles: &[Role], name: &ProcessName) -> bool {
        roles.contains(&name.role) && !self.process(name).state.borrow().ended
    }

    /// Keeps the device states of the last run for the classifier. An uplink that was started again tells of them
    /// again: no news once they are in the table.
    pub fn keep_snapshot(&self, states: States) {
        let mut snapshot = self.snapshot.borrow_mut();
        if !matches!(*snapshot, Snapshot::Restored) {
            *snapshot = Snapshot::Kept(states);
        }
    }

    /// The device states of the last run, while the table lacks them. Kept until then: a classifier killed halfway
    /// through them has a successor that needs the rest.
    pub fn snapshot(&self) -> std::io::Result<Option<States>> {
        match &*self.snapshot.borrow() {
            Snapshot::Kept(states) => states.try_clone().map(Some),
            Snapshot::Awaited | Snapshot::Restored => Ok(None),
        }
    }

    /// A classifier serves: the device states of the last run are in the table.
    pub fn snapshot_restored(&self) {
        *self.snapshot.borrow_mut() = Snapshot::Restored;
    }

    /// What a child is told first, and the descriptors beside it.
    pub fn assignment(&self, name: &ProcessName) -> std::io::Result<(Assignment, Vec<OwnedFd>)> {
        let process = self.process(name);
        let config = &self.config;
        let state_dir = self.state_dir.borrow();
        let mut fds = vec![
            state_dir.lock.as_fd().try_clone_to_owned()?,
            process.page.try_clone()?,
        ];
        match name.role {
            Role::Classifier => fds.push(self.table.try_clone()?),
            Role::Dispatcher | Role::Uplink => fds.push(region::read_only(self.table.as_fd())?),
            Role::Ingest | Role::Observer => {}
        }
        if let Some(opened) = &process.opened {
            fds.push(opened.try_clone()?);
        }
        let duty = match name.role {
            Role::Ingest => Duty::Ingest(told(sensor(config, name))),
            Role::Classifier => Duty::Classifier {
                rules: config.rules.clone(),
                fences: config.fences.clone(),
                trace_one_in: config.trace.one_in,
                ranks: config.sensors.iter().map(|sensor| sensor.rank).collect(),
            },
            Role::Dispatcher => {
                if let Some(roads) = &self.roads {
                    fds.push(roads.try_clone()?);
                }
                Duty::Dispatcher {
                    settings: config.dispatcher.clone(),
                    roads: self.roads.is_some(),
                }
            }
            Role::Uplink => Duty::Uplink {
                settings: config.uplink.clone(),
                state_dir: config.state_dir.display().to_string(),
            },
            Role::Observer => Duty::Observer {
                settings: config.observer.clone(),
                trace: config.trace.clone(),
            },
        };
        let restarts = process.state.borrow().restarts;
        let (node, instance) = (config.node.clone(), name.instance.clone());
        Ok((
            Assignment {
                node,
                instance,
                restarts,
                duty,
            },
            fds,
        ))
    }

    /// The statistics pages of all processes, to read.
    pub fn pages(&self) -> std::io::Result<Vec<OwnedFd>> {
        let children = self.processes.iter().map(|process| &process.page);
        std::iter::once(&self.page)
            .chain(children)
            .map(|page| region::read_only(page.as_fd()))
            .collect()
    }

    /// Counts that a child is started again.
    pub fn count_restart(&self, role: Role) {
        self.stats.add(
            match role {
                Role::Ingest => SupervisorMetric::RestartsIngest,
                Role::Classifier => SupervisorMetric::RestartsClassifier,
                Role::Dispatcher => SupervisorMetric::RestartsDispatcher,
                Role::Uplink => SupervisorMetric::RestartsUplink,
                Role::Observer => SupervisorMetric::RestartsObserver,
            },
            1,
        );
    }

    /// Notes on the supervisor's page that it lives, whether the node serves, and how many children run.
    pub fn beat(&self) {
        let states = || self.processes.iter().map(|process| process.state.borrow());
        self.stats.set(
            SupervisorMetric::Children,
            states().filter(|s| s.pid.is_some()).count() as u64,
        );
        self.stats
            .set_ready(!self.draining.get() && states().all(|state| state.ready));
        self.stats.heartbeat(clock::monotonic_ns());
    }
}
