//! The process: takes over what it was handed, restores, serves, drains.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use tracing::{error, info, warn};

use super::delivery::Delivery;
use super::intake::Intake;
use super::journal::{Journal, JournalError};
use super::mqtt::Broker;
use super::publisher::{Publisher, Settings};
use super::restore::restore;
use super::service::{Service, Tools};
use super::topics::Topics;
use super::writer::Writer;
use crate::config::{Node, UplinkSettings};
use crate::ring::{AttachError, Consumer, Producer, Waiter};
use crate::role::{Duty, End, FromChild, Purpose, exit};
use crate::stats::{Stats, UplinkMetric as Metric};
use crate::sys::clock::{wall_ms, wall_ns};
use crate::sys::control::{AsyncChannel, Channel, ControlError};
use crate::sys::fail::{self, Point};
use crate::sys::region::{self, WriteRegion};
use crate::sys::start::Started;
use crate::table::{TableError, TableReader};

/// The journal's file in the state directory.
const JOURNAL_FILE: &str = "journal.db";

/// Threads beside data thread and journal: one, for the look-up of the broker's name.
const LOOKUP_THREADS_MAX: usize = 1;

/// Why the uplink cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The assignment is another role's, or incomplete.
    #[error("cannot start uplink: {0} is missing from its assignment")]
    Assignment(&'static str),
    /// A ring cannot be attached.
    #[error("cannot start uplink: {0}")]
    Ring(#[from] AttachError),
    /// The state table cannot be mapped.
    #[error("cannot start uplink: {0}")]
    Table(#[from] TableError),
    /// The operating system refuses something.
    #[error("cannot start uplink: {what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The journal cannot go on.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's thread ended by itself.
    #[error("cannot go on: the journal's thread has ended")]
    Thread,
    /// The supervisor cannot be told.
    #[error("cannot report to supervisor: {0}")]
    Control(#[from] ControlError),
}

impl UplinkError {
    fn code(&self) -> i32 {
        match self {
            UplinkError::Journal(JournalError::Newer { .. } | JournalError::Foreign { .. }) => {
                exit::CONFIG
            }
            UplinkError::Journal(_) => exit::IO,
            _ => exit::SOFTWARE,
        }
    }
}

/// Serves until the supervisor says drain or is gone; returns the exit code.
pub fn run(started: Started) -> i32 {
    let served = Handed::take(started).and_then(|handed| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUP_THREADS_MAX)
            .build()
            .map_err(system("make runtime"))?
            .block_on(serve(handed))
    });
    match served {
        Ok(0) => exit::OK,
        Ok(left) => {
            error!("{left} records stay in the alarm ring, their devices were not answered");
            exit::LEFT
        }
        Err(error) => {
            error!("{error}");
            error.code()
        }
    }
}

/// What was handed over, sorted.
struct Handed {
    node: Node,
    settings: UplinkSettings,
    state_dir: String,
    stats: Stats<Metric>,
    table: TableReader,
    alarms: Consumer,
    traces: Option<Producer>,
    control: Channel,
    /// Held as long as the journal is open.
    lock: OwnedFd,
}

impl Handed {
    fn take(started: Started) -> Result<Handed, UplinkError> {
        let missing = UplinkError::Assignment;
        let assignment = started.assignment;
        let Duty::Uplink {
            settings,
            state_dir,
        } = assignment.duty
        else {
            return Err(missing("the uplink's duty"));
        };
        let stats = Stats::attach(started.page.as_fd(), &assignment.instance, wall_ms())
            .map_err(system("map statistics page"))?;
        let table = started.fds.first().ok_or(missing("the state table"))?;
        let (mut alarms, mut traces) = (None, None);
        for (assigned, fds) in &started.rings {
            let identity = assigned.identity();
            match (assigned.purpose, assigned.end) {
                (Purpose::Alarm, End::Consumer) => {
                    alarms = Some(Consumer::attach_as(fds, &identity)?);
                }
                (Purpose::Trace, End::Producer) => {
                    traces = Some(Producer::attach_as(fds, &identity)?);
                }
                _ => return Err(missing("a ring that it knows")),
            }
        }
        Ok(Handed {
            node: assignment.node,
            settings,
            state_dir,
            stats,
            table: TableReader::attach(table.as_fd())?,
            alarms: alarms.ok_or(missing("the alarm ring"))?,
            traces,
            control: started.control,
            lock: started.lock,
        })
    }
}

/// Returns how many records are left in the ring.
async fn serve(handed: Handed) -> Result<u64, UplinkError> {
    let settings = &handed.settings;
    let path = Path::new(&handed.state_dir).join(JOURNAL_FILE);
    let mut journal = Journal::open(&path, settings.journal_bytes_max)?;
    let control = AsyncChannel::new(handed.control).map_err(system("watch supervisor"))?;
    let exact = journal.begin_run(handed.alarms.identity().birth)?;
    let restored = hand_back(&mut journal, exact, &control).await?;

    let session = format!("{:016x}", wall_ns());
    let topics = Topics::new(handed.node, journal.uuid(), &session);
    let broker = Broker::new(settings);
    let publisher_settings = Settings {
        window: settings.window.max(1),
        hold_without_subscriber: settings.hold_without_subscriber,
        broker: broker.is_some(),
    };
    let publisher = Publisher::new(publisher_settings, wall_ns());
    let mut delivery = Delivery::new(publisher, topics, broker);
    journal.scan(wall_ms(), |stored| {
        delivery.found(stored.seq, stored.event.device);
    })?;
    let usage = journal.usage();
    info!(
        "journal holds {} alarms that wait for the broker",
        usage.records
    );

    let mut waiter = Waiter::new().map_err(system("make timer"))?;
    waiter
        .add_consumer(&handed.alarms)
        .map_err(system("watch alarm ring"))?;
    let repeats = journal.serve_run()?;
    let writer =
        Writer::start(journal, handed.table, restored).map_err(system("start journal thread"))?;
    control.send(&FromChild::Ready, &[]).await?;
    handed.stats.set_ready(true);

    let mut service = Service::new(
        Intake::new(handed.alarms),
        delivery,
        Tools {
            writer,
            traces: handed.traces,
            stats: handed.stats,
        },
        usage,
        repeats,
    );
    let served = service.serve(&mut waiter, &control).await;
    service.close(served.is_ok());
    drop(handed.lock);
    served
}

/// Sends the device states of the last run to the supervisor, if there are any; of how many devices.
async fn hand_back(
    journal: &mut Journal,
    exact: bool,
    control: &AsyncChannel,
) -> Result<u32, UplinkError> {
    let snapshot = journal.read_snapshot()?.map(|snapshot| snapshot.body);
    let open = journal.open_alarms()?;
    if snapshot.is_none() && open.is_empty() {
        return Ok(0);
    }
    let (bytes, report) = restore(&snapshot.unwrap_or_default(), open);
    if report.damaged > 0 {
        warn!(
            "{} device states of the snapshot are damaged and left out",
            report.damaged
        );
    }
    let memory = region::create("ringway-snapshot", bytes.len()).map_err(system("make memory"))?;
    WriteRegion::map(memory.as_fd(), bytes.len())
        .map_err(system("map memory"))?
        .copy_in(0, &bytes);
    let sealed = region::read_only(memory.as_fd()).map_err(system("make memory read-only"))?;
    fail::pass(Point::UplinkRestored);
    control
        .send(&FromChild::Snapshot { exact }, &[sealed.as_fd()])
        .await?;
    fail::pass(Point::UplinkHandedBack);
    info!("restored the states of {} devices", report.devices);
    Ok(report.devices)
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> UplinkError {
    move |cause| UplinkError::System { what, cause }
}
