//! What the supervisor owns on behalf of everybody: sockets, files, rings, the state table, statistics pages. A child
//! may die and start again on the same objects.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use tracing::{error, info, warn};

use super::captures::Captures;
use super::certificates::{self, ReadError};
use super::device_list::{DeviceLists, Judgement};
use super::feed::FeedState;
use super::listener::{self, OpenError};
use super::plan::{self, ProcessName, RingPlan};
use super::report::{NoticeReport, ProcessReport, ProgramReport, Report, RingReport, figures};
use super::state_dir::{StateDir, StateDirError};
use crate::config::{Config, Input, SensorSettings, Tls};
use crate::ring::{AttachError, RingFds, RingOwner};
use crate::role::{
    Assignment, Certificates, DESCRIPTORS_RESERVED, Devices, Duty, End, Feed, Notice, Purpose,
    Recording, RingAssignment, Role, States, exit,
};
use crate::stats::{self, Stats, SupervisorMetric};
use crate::sys::log::foreign;
use crate::sys::{clock, region};
use crate::table;

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

/// Most notices of an ingest that are kept: as many as it makes.
const NOTICES_MAX: usize = 128;

/// A list of devices that was to be read again.
#[derive(Debug)]
pub struct ReadList {
    /// Whose.
    pub name: ProcessName,
    /// From where.
    pub path: String,
    /// Its number, which its ingest will judge; or why it could not be read.
    pub outcome: Result<u64, String>,
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

struct Ring {
    plan: RingPlan,
    birth: Cell<u64>,
    owner: RefCell<RingOwner>,
    parked: RefCell<Option<Parked>>,
}

/// The owner of a ring that was replaced while somebody whom it does not trust still had it.
struct Parked {
    /// Kept for what dropping it does: its bells close.
    _owner: RingOwner,
    /// Whose ends it waits for.
    until: Vec<End>,
}

impl Ring {
    /// Makes way for the successor of an end that was reaped; the borrow ends here, so that the ring can be replaced
    /// if it cannot go on.
    fn succeed(&self, end: End) -> Result<(), AttachError> {
        let owner = self.owner.borrow();
        match end {
            End::Producer => owner.set_generation().map(drop),
            End::Consumer => owner.check(),
        }
    }

    /// An end was reaped: what was parked until then goes.
    fn unpark(&self, reaped: End) {
        let mut parked = self.parked.borrow_mut();
        parked.take_if(|parked| {
            parked.until.retain(|&end| end != reaped);
            parked.until.is_empty()
        });
    }

    /// Who is killed when the ring is replaced. The classifier takes a sensor's fresh ring while it runs.
    fn killed(&self) -> Vec<End> {
        match self.plan.purpose {
            Purpose::Sensor => vec![End::Producer],
            Purpose::Track | Purpose::Alarm | Purpose::Trace => vec![End::Producer, End::Consumer],
        }
    }
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
        let mut rings = Vec::new();
        for plan in plan::rings(&config) {
            let birth = state_dir.next_birth()?;
            let owner = RingOwner::create(plan.geometry, plan.number, birth)?;
            rings.push(Ring {
                plan,
                birth: Cell::new(birth),
                owner: RefCell::new(owner),
                parked: RefCell::default(),
            });
        }
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

    /// The rings of a child, and their descriptors.
    pub fn rings_of(
        &self,
        name: &ProcessName,
    ) -> Result<Vec<(RingAssignment, RingFds)>, AttachError> {
        let mine = self
            .rings
            .iter()
            .filter_map(|ring| Some((ring, ring.plan.end_of(name)?)));
        mine.map(|(ring, end)| {
            let assignment = RingAssignment {
                ring: ring.plan.number,
                birth: ring.birth.get(),
                purpose: ring.plan.purpose,
                end,
                name: ring.plan.name().to_string(),
                geometry: ring.plan.geometry,
            };
            let owner = ring.owner.borrow();
            let fds = match end {
                End::Producer => owner.producer_fds(),
                End::Consumer => owner.consumer_fds(),
            };
            Ok((assignment, fds?))
        })
        .collect()
    }

    /// The recordings.
    pub fn captures(&self) -> RefMut<'_, Captures> {
        self.captures.borrow_mut()
    }

    /// What an ingest is to record in, to hand over.
    pub fn recording(&self, name: &ProcessName) -> std::io::Result<Option<Recording>> {
        let life = self.process(name).state.borrow().restarts;
        self.captures.borrow().recording(&name.instance, life)
    }

    /// The sensors that are fed, with the process of each.
    pub fn fed(&self) -> impl Iterator<Item = (&ProcessName, &SensorSettings)> {
        let ingests = self.processes().filter(|name| name.role == Role::Ingest);
        let all = ingests.map(|name| (name, sensor(&self.config, name)));
        all.filter(|(_, sensor)| sensor.input.is_feed())
    }

    /// Keeps the feed of an ingest, or drops the one that ended.
    pub fn set_feed(&self, name: &ProcessName, feed: Option<Feed>) {
        *self.process(name).feed.borrow_mut() = feed;
    }

    /// The feed of an ingest, to hand over.
    pub fn feed(&self, name: &ProcessName) -> std::io::Result<Option<Feed>> {
        let feed = self.process(name).feed.borrow();
        feed.as_ref().map(Feed::try_clone).transpose()
    }

    /// Changes what is known of the program that feeds a sensor.
    pub fn note_program(&self, name: &ProcessName, change: impl FnOnce(&mut ProgramReport)) {
        let mut program = self.process(name).program.borrow_mut();
        change(program.get_or_insert_with(|| ProgramReport::of(&name.instance)));
    }

    /// Counts that a program is started again.
    pub fn count_program_restart(&self) {
        self.stats.add(SupervisorMetric::ProgramRestarts, 1);
    }

    /// Reads the list of devices of every sensor that has one.
    pub fn read_device_lists(&self) -> Vec<ReadList> {
        let lists = self.processes.iter().filter_map(|process| {
            let path = devices_path(&self.config, &process.name)?;
            let who = format!("sensor {}", process.name.instance);
            let outcome = process.devices.borrow_mut().read(path, &who);
            let outcome = outcome.map_err(|cause| {
                error!("{cause}; the list before stays");
                cause.to_string()
            });
            Some(ReadList {
                name: process.name.clone(),
                path: path.to_owned(),
                outcome,
            })
        });
        lists.collect()
    }

    /// The lists of devices for an ingest that starts.
    pub fn device_lists(&self, name: &ProcessName) -> std::io::Result<Vec<Devices>> {
        self.process(name).devices.borrow().all()
    }

    /// The list of devices for an ingest that runs, if there is a new one.
    pub fn fresh_device_list(&self, name: &ProcessName) -> std::io::Result<Option<Devices>> {
        self.process(name).devices.borrow().fresh()
    }

    /// An ingest says what became of a list: how many devices are on it, or what is wrong with it.
    pub fn judge_device_list(&self, name: &ProcessName, number: u64, outcome: Result<u32, String>) {
        let path = devices_path(&self.config, name).unwrap_or_default();
        let outcome = outcome.map_err(|wrong| foreign(&wrong));
        let said = outcome.clone();
        let mut lists = self.process(name).devices.borrow_mut();
        match (lists.judged(number, outcome), said) {
            (Judgement::Awaited, Ok(count)) => {
                info!("{name}: {count} devices are on the list {path}");
            }
            (Judgement::Awaited, Err(wrong)) => {
                error!("{name}: the list {path} is wrong: {wrong}; the list before stays");
            }
            (Judgement::Repeated, _) => {}
            (Judgement::Invented, _) => {
                warn!("{name} judged a list of devices that it was not handed");
            }
        }
    }

    /// What became of a list of devices, once its ingest has said so.
    pub fn device_list_outcome(
        &self,
        name: &ProcessName,
        number: u64,
    ) -> Option<Result<u32, String>> {
        self.process(name).devices.borrow().outcome(number)
    }

    /// Keeps what an ingest noticed of device ids; one that was taken over may say anything.
    pub fn set_notices(&self, name: &ProcessName, mut notices: Vec<Notice>) {
        notices.truncate(NOTICES_MAX);
        for notice in &mut notices {
            notice.source = foreign(&notice.source);
        }
        *self.process(name).notices.borrow_mut() = notices;
    }

    /// What the TLS of an ingest is made of, to hand over.
    pub fn certificates(&self, name: &ProcessName) -> Option<Rc<Certificates>> {
        self.process(name).certificates.borrow().clone()
    }

    /// Reads the certificates of all sensors anew; returns whose are to be handed over. Those that are no good change
    /// nothing.
    pub fn renew_certificates(&self) -> Vec<ProcessName> {
        let mut renewed = Vec::new();
        for process in &self.processes {
            let name = &process.name;
            match tls(&self.config, name).map(certificates::read) {
                None => {}
                Some(Ok(certificates)) => {
                    process.certificates.replace(Some(Rc::new(certificates)));
                    renewed.push(name.clone());
                }
                Some(Err(cause)) => error!("{name} goes on with its old certificates: {cause}"),
            }
        }
        renewed
    }

    /// Changes what is known of the feed of an ingest.
    pub fn note_feed<T>(&self, name: &ProcessName, change: impl FnOnce(&mut FeedState) -> T) -> T {
        change(&mut self.process(name).feed_state.borrow_mut())
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

    /// Puts the rings of a child that ended in order for its successor: positions that cannot be cost the ring, since
    /// no successor could resume at them; where it wrote, the generation moves on; both bells ring, because it may have
    /// died between a commit and its bell. Returns the rings that had to be replaced, which the other side does not
    /// know yet, and the end that it had of them.
    pub fn reap(&self, name: &ProcessName) -> Vec<(u32, End)> {
        let mut replaced = Vec::new();
        for ring in &self.rings {
            let Some(end) = ring.plan.end_of(name) else {
                continue;
            };
            ring.unpark(end);
            if let Err(violation) = ring.succeed(end) {
                error!(
                    "ring {} of {name} cannot go on: {violation}",
                    ring.plan.name()
                );
                let mut until = ring.killed();
                until.retain(|&left| left != end);
                if self.replace(ring, until) {
                    replaced.push((ring.plan.number, end));
                }
            }
            ring.owner.borrow().ring_bells();
        }
        replaced
    }

    /// A fresh ring in the place of one whose producer cannot be trusted, and whose ends are being killed. What was in
    /// it was never answered: devices send again.
    pub fn replace_ring(&self, number: u32) {
        if let Some(ring) = self.rings.get(number as usize) {
            self.replace(ring, ring.killed());
        }
    }

    /// The old ring's owner is kept until these ends are reaped: to close a bell waits for whoever holds it up inside the
    /// kernel, and somebody who runs can do so at will. Whether there is a fresh ring.
    fn replace(&self, ring: &Ring, until: Vec<End>) -> bool {
        let fresh = self
            .state_dir
            .borrow_mut()
            .next_birth()
            .map_err(NodeError::from)
            .and_then(|birth| {
                let owner = RingOwner::create(ring.plan.geometry, ring.plan.number, birth)?;
                Ok((birth, owner))
            });
        match fresh {
            Ok((birth, owner)) => {
                ring.birth.set(birth);
                self.stats.add(SupervisorMetric::RingsReplaced, 1);
                let old = ring.owner.replace(owner);
                // One a ring: an older one that still waits goes now.
                let parked = (!until.is_empty()).then_some(Parked { _owner: old, until });
                ring.parked.replace(parked);
                true
            }
            Err(error) => {
                error!("cannot replace ring {}: {error}", ring.plan.name());
                false
            }
        }
    }

    /// Says on behalf of processes that are gone for good that no more will come from them.
    pub fn close_rings_of(&self, roles: &[Role]) {
        for ring in self
            .rings
            .iter()
            .filter(|ring| roles.contains(&ring.plan.producer.role))
        {
            ring.owner.borrow().close();
        }
    }

    /// What a ring carries, who writes it and who reads it.
    pub fn ring(&self, number: u32) -> Option<&RingPlan> {
        self.rings.get(number as usize).map(|ring| &ring.plan)
    }

    /// Whether this process reads that ring.
    pub fn is_consumer(&self, name: &ProcessName, number: u32) -> bool {
        let ring = self.rings.get(number as usize);
        ring.is_some_and(|ring| ring.plan.consumer == *name)
    }

    /// How the node is doing.
    pub fn report(&self) -> Report {
        let processes: Vec<ProcessReport> = self.processes.iter().map(process_report).collect();
        let rings = self.rings.iter().map(|ring| {
            let position = ring.owner.borrow().snapshot();
            RingReport {
                ring: ring.plan.number,
                name: ring.plan.name().to_string(),
                tail: position.tail,
                waiting: position.used(),
                slots: ring.plan.geometry.slots,
            }
        });
        let programs = self.processes.iter();
        let programs = programs.filter_map(|process| process.program.borrow().clone());
        let feeds = self.fed().map(|(name, sensor)| {
            let state = self.process(name).feed_state.borrow();
            state.report(&name.instance, sensor.input.name())
        });
        let state = match (self.draining.get(), self.ready_after.get()) {
            (true, _) => "draining",
            (_, None) => "starting",
            _ if processes.iter().all(|process| process.state == "ready") => "ready",
            _ => "degraded",
        };
        Report {
            state: state.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.began.elapsed().as_secs_f64(),
            start_to_ready_ms: self.ready_after.get().map(|time| time.as_secs_f64() * 1e3),
            listeners: self.listeners.clone(),
            feeds: feeds.collect(),
            rings: rings.collect(),
            programs: programs.collect(),
            captures: self.captures.borrow().report(),
            processes,
        }
    }
}

/// Checks that every sensor can have as many connections as it may; nothing is started otherwise.
fn enough_descriptors(config: &Config) -> Result<(), NodeError> {
    let (_, limit) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|cause| NodeError::Memory(cause.into()))?;
    for sensor in &config.sensors {
        let connections = sensor.input.connections_max();
        let needed = u64::from(connections) + DESCRIPTORS_RESERVED;
        if needed > limit {
            return Err(NodeError::Descriptors {
                sensor: sensor.name.clone(),
                connections,
                needed,
                limit,
            });
        }
    }
    Ok(())
}

/// Where an ingest's list of devices is, if it has one.
fn devices_path<'a>(config: &'a Config, name: &ProcessName) -> Option<&'a str> {
    let is_ingest = name.role == Role::Ingest;
    is_ingest
        .then(|| sensor(config, name).admit.devices.as_deref())
        .flatten()
}

/// The sensor that an ingest is for.
fn sensor<'a>(config: &'a Config, name: &ProcessName) -> &'a SensorSettings {
    let mut sensors = config.sensors.iter();
    let found = sensors.find(|sensor| sensor.name == name.instance);
    found.expect("an ingest is made from a sensor")
}

/// The TLS of an ingest, if it has any.
fn tls<'a>(config: &'a Config, name: &ProcessName) -> Option<&'a Tls> {
    if name.role != Role::Ingest {
        return None;
    }
    match &sensor(config, name).input {
        Input::Tcp(listening) | Input::Http(listening) => listening.tls.as_ref(),
        _ => None,
    }
}

/// What an ingest is told of its sensor: not the environment of a program, where secrets may be.
fn told(sensor: &SensorSettings) -> SensorSettings {
    let mut told = sensor.clone();
    if let Input::Exec(program) = &mut told.input {
        program.environment.clear();
    }
    told
}

/// What a role takes in from outside.
fn open_input(
    config: &Config,
    name: &ProcessName,
    listeners: &mut BTreeMap<String, String>,
) -> Result<Option<OwnedFd>, NodeError> {
    let (key, opened) = match name.role {
        Role::Ingest => {
            let key = format!("sensor:{}", name.instance);
            let opened = match &sensor(config, name).input {
                Input::Tcp(listening) | Input::Http(listening) => {
                    listener::tcp(&listening.listen, &key)
                }
                Input::Serial { .. } | Input::Gpsd { .. } | Input::Exec(_) | Input::Fifo { .. } => {
                    return Ok(None);
                }
                Input::Udp { listen, .. } => listener::udp(listen, &key),
                Input::File { path, .. } => {
                    let who = format!("sensor {}", name.instance);
                    return Ok(Some(listener::file(path, &who)?));
                }
            };
            (key, opened)
        }
        Role::Dispatcher => {
            let key = "dispatcher".to_string();
            let opened = listener::tcp(&config.dispatcher.listen, &key);
            (key, opened)
        }
        Role::Observer => {
            let key = "observer".to_string();
            let opened = listener::tcp(&config.observer.listen, &key);
            (key, opened)
        }
        Role::Classifier | Role::Uplink => return Ok(None),
    };
    let (fd, real) = opened?;
    listeners.insert(key, real.to_string());
    Ok(Some(fd))
}

fn process_report(process: &Process) -> ProcessReport {
    let state = process.state.borrow();
    let doing = match (state.ended, state.ready, state.pid) {
        (true, _, _) => "ended",
        (_, true, _) => "ready",
        (_, _, Some(_)) => "starting",
        _ => "waiting",
    };
    ProcessReport {
        role: process.name.role.name().into(),
        instance: process.name.instance.clone(),
        pid: state.pid,
        state: doing.into(),
        restarts: state.restarts,
        looping: state.looping,
        last_exit: state.last_exit.clone(),
        notices: process
            .notices
            .borrow()
            .iter()
            .map(NoticeReport::of)
            .collect(),
        figures: stats::read(process.page.as_fd())
            .map(|page| figures(&page))
            .unwrap_or_default(),
    }
}
