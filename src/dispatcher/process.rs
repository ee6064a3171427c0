//! The process: takes over what it was handed, serves, drains.

use std::fs::File;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::feed::{Feed, Wake};
use super::http::{self, Site};
use super::intake::Intake;
use super::live::LiveView;
use super::server::{self, Limits};
use super::subscription::{Subscriptions, Taken};
use crate::config::DispatcherSettings;
use crate::ring::{AttachError, BACKSTOP, Consumer, Producer, Waiter};
use crate::role::{Duty, End, FromChild, Purpose, ToChild};
use crate::stats::{DispatcherMetric as Metric, Stats};
use crate::sys::clock::{monotonic_ns, wall_ms};
use crate::sys::control::{AsyncChannel, ControlError};
use crate::sys::start::Started;
use crate::table::{DEVICES_MAX, TableError, TableReader};

/// Connections beside those of subscribers: pages being loaded, requests for GeoJSON.
const REQUESTS_MAX: usize = 64;

/// Bytes of a road graph; it is held in memory.
const ROADS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest drain, and the part of it that is left for goodbyes.
const DRAIN_MAX: Duration = Duration::from_secs(2);
const GOODBYE_MAX: Duration = Duration::from_millis(300);

/// Why the dispatcher cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherError {
    /// The assignment is another role's, or incomplete.
    #[error("cannot start dispatcher: {0} is missing from its assignment")]
    Assignment(&'static str),
    /// A ring cannot be attached.
    #[error("cannot start dispatcher: {0}")]
    Ring(#[from] AttachError),
    /// The state table cannot be mapped.
    #[error("cannot start dispatcher: {0}")]
    Table(#[from] TableError),
    /// The operating system refuses something.
    #[error("cannot start dispatcher: {what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The supervisor cannot be told.
    #[error("cannot report to supervisor: {0}")]
    Control(#[from] ControlError),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DispatcherError {
    move |cause| DispatcherError::System { what, cause }
}

/// Serves until the supervisor says drain or is gone.
///
/// # Errors
/// When something that was handed over cannot be used; once it serves, only when the supervisor cannot be told so.
pub fn run(started: Started) -> Result<(), DispatcherError> {
    let handed = Handed::take(started)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("make runtime"))?
        .block_on(serve(handed))
}

/// What was handed over, sorted.
struct Handed {
    settings: DispatcherSettings,
    stats: Stats<Metric>,
    table: TableReader,
    listener: StdListener,
    roads: Option<Bytes>,
    tracks: Consumer,
    traces: Option<Producer>,
    control: crate::sys::control::Channel,
    _lock: OwnedFd,
}

impl Handed {
    fn take(started: Started) -> Result<Handed, DispatcherError> {
        let missing = DispatcherError::Assignment;
        let Duty::Dispatcher { settings, roads } = started.assignment.duty else {
            return Err(missing("the dispatcher's duty"));
        };
        let instance = &started.assignment.instance;
        let stats = Stats::attach(started.page.as_fd(), instance, wall_ms())
            .map_err(system("map statistics page"))?;
        let mut fds = started.fds.into_iter();
        let table = fds.next().ok_or(missing("the state table"))?;
        let listener = StdListener::from(fds.next().ok_or(missing("the listening socket"))?);
        listener
            .set_nonblocking(true)
            .map_err(system("set up listening socket"))?;
        let roads = match roads {
            true => read_roads(fds.next().ok_or(missing("the road graph"))?),
            false => None,
        };
        let (mut tracks, mut traces) = (None, None);
        for (assigned, fds) in started.rings {
            let identity = assigned.identity();
            match (assigned.purpose, assigned.end) {
                (Purpose::Track, End::Consumer) => {
                    tracks = Some(Consumer::attach_as(&fds, &identity)?);
                }
                (Purpose::Trace, End::Producer) => {
                    traces = Some(Producer::attach_as(&fds, &identity)?);
                }
                _ => return Err(missing("a ring that it knows")),
            }
        }
        Ok(Handed {
            settings,
            stats,
            table: TableReader::attach(table.as_fd())?,
            listener,
            roads,
            tracks: tracks.ok_or(missing("the track ring"))?,
            traces,
            control: started.control,
            _lock: started.lock,
        })
    }
}

async fn serve(handed: Handed) -> Result<(), DispatcherError> {
    let settings = &handed.settings;
    let stats = handed.stats;
    let subscribers_max = settings.subscribers_max as usize;
    let feed = Arc::new(Feed::new(
        LiveView::new(DEVICES_MAX as usize),
        Subscriptions::new(settings.subscriber_updates_max as usize, subscribers_max),
    ));
    let mut waiter = Waiter::new().map_err(system("make timer"))?;
    waiter
        .add_consumer(&handed.tracks)
        .map_err(system("watch track ring"))?;
    let mut intake = Intake::new(
        Arc::clone(&feed),
        handed.tracks,
        handed.table,
        handed.traces,
        stats.clone(),
    );
    // The first subscriber is to see the whole fleet.
    while intake.resync() {}

    let listener = TcpListener::from_std(handed.listener).map_err(system("listen"))?;
    let address = listener.local_addr().map_err(system("listen"))?;
    let router = http::router(Arc::new(Site {
        feed: Arc::clone(&feed),
        roads: handed.roads,
        loopback: server::is_loopback(address),
        stats: stats.clone(),
    }));
    let limits = Limits {
        connections_max: subscribers_max + REQUESTS_MAX,
        stalled: Duration::from_millis(settings.stalled_ms),
    };
    let server = tokio::spawn(server::serve(listener, router, limits, stats.clone()));

    let control = Arc::new(AsyncChannel::new(handed.control).map_err(system("watch supervisor"))?);
    tokio::spawn(heed(Arc::clone(&control), Arc::clone(&feed)));
    control.send(&FromChild::Ready, &[]).await?;
    stats.set_ready(true);
    info!("serving on http://{address}");

    pump(&mut intake, &mut waiter, &feed, &stats, &control).await;

    server.abort();
    feed.wake(Wake::Ended);
    let goodbye = Instant::now() + GOODBYE_MAX;
    while feed.lock().subscriptions.len() > 0 && Instant::now() < goodbye {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    report(&feed, &stats, &mut Taken::default());
    Ok(())
}

/// Waits for the word to drain, or for the supervisor's end, which means the same.
async fn heed(control: Arc<AsyncChannel>, feed: Arc<Feed>) {
    loop {
        match control.recv::<ToChild>().await {
            Ok(Some((ToChild::Drain, _))) | Ok(None) => break,
            Ok(Some(_)) => warn!("cannot use message of supervisor: it comes after the start"),
            Err(ControlError::Socket(error)) => {
                error!("cannot hear supervisor: {error}");
                break;
            }
            Err(error) => warn!("cannot read message of supervisor: {error}"),
        }
    }
    feed.wake(Wake::Closing);
}

/// Takes, pushes, sleeps; until the ring is closed and empty, or a drain took too long.
async fn pump(
    intake: &mut Intake,
    waiter: &mut Waiter,
    feed: &Feed,
    stats: &Stats<Metric>,
    control: &AsyncChannel,
) {
    let mut wake = feed.watch();
    let mut deadline: Option<Instant> = None;
    let mut reported = Taken::default();
    let mut broken = false;
    loop {
        if *wake.borrow_and_update() >= Wake::Closing && deadline.is_none() {
            stats.set_ready(false);
            deadline = Some(Instant::now() + DRAIN_MAX - GOODBYE_MAX);
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            warn!("drain took too long: the track ring is not closed");
            return;
        }
        // Asked before the ring is looked at: what was committed before the close is then seen.
        let closed = intake.ring().closed();
        let taken = match intake.take() {
            Ok(taken) => taken,
            Err(_) if broken => 0,
            Err(violation) => {
                broken = true;
                error!("cannot read track ring: {violation}");
                let told = FromChild::Violation {
                    ring: intake.ring().identity().ring,
                    what: violation.to_string(),
                };
                if let Err(error) = control.send(&told, &[]).await {
                    error!("cannot report to supervisor: {error}");
                }
                0
            }
        };
        if taken > 0 || intake.resync() {
            feed.wake(Wake::News);
            // Subscribers write to their sockets in this turn; when it comes back, the batch is pushed.
            yield_now().await;
            let now_ns = monotonic_ns();
            intake.settle(now_ns);
            stats.heartbeat(now_ns);
            continue;
        }
        if closed || broken && deadline.is_some() {
            return;
        }
        report(feed, stats, &mut reported);
        stats.heartbeat(monotonic_ns());
        let drained = deadline.unwrap_or_else(|| Instant::now() + BACKSTOP);
        tokio::select! {
            _ = waiter.wait(BACKSTOP) => {}
            _ = closing(&mut wake, deadline.is_some()) => {}
            () = sleep_until(drained) => {}
        }
    }
}

/// Waits until the end is said; for ever if it was.
async fn closing(wake: &mut tokio::sync::watch::Receiver<Wake>, said: bool) {
    if said {
        std::future::pending::<()>().await;
    }
    // An error would mean that the feed is gone, and it is not: the caller holds it.
    let _ = wake.wait_for(|wake| *wake >= Wake::Closing).await;
}

/// Writes to the statistics page what the feed counted since the last time.
fn report(feed: &Feed, stats: &Stats<Metric>, reported: &mut Taken) {
    let fleet = feed.lock();
    stats.set(Metric::Vehicles, fleet.view.len() as u64);
    stats.set(Metric::Subscribers, fleet.subscriptions.len() as u64);
    let taken = fleet.taken;
    stats.add(Metric::Pushed, taken.tracks - reported.tracks);
    stats.add(Metric::Conflated, taken.conflated - reported.conflated);
    *reported = taken;
}

/// Reads the road graph, from its start: a predecessor has read the same open file to its end. The map does without
/// a graph that cannot be read.
fn read_roads(fd: OwnedFd) -> Option<Bytes> {
    let file = File::from(fd);
    let read = || -> io::Result<Vec<u8>> {
        let length = file.metadata()?.len();
        if length > ROADS_BYTES_MAX {
            let why = format!("larger than {ROADS_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0)?;
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Some(bytes.into()),
        Err(error) => {
            warn!("cannot read road graph: {error}");
            None
        }
    }
}
