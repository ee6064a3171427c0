//! The observer process from its assignment to its end: it takes trace records from their rings, answers scrapes, and
//! ends last.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::export::Traces;
use super::http::{self, View};
use super::otlp::Exporter;
use super::page::Pages;
use super::span::RecordFault;
use crate::config::{Node, TraceSettings};
use crate::frame::TraceRecord;
use crate::ring::{AttachError, Consumer, RingFds, Seat, Waiter};
use crate::role::{Duty, End, FromChild, Purpose, RingAssignment, ToChild, exit};
use crate::stats::{ObserverMetric, Stats};
use crate::sys::clock;
use crate::sys::control::{AsyncChannel, Channel, ControlError};
use crate::sys::start::Started;

/// How often the process says that it is alive and looks who else is there.
const BEAT: Duration = Duration::from_secs(1);

/// Records taken from one ring before the others and the rest of the process get their turn.
const RECORDS_IN_A_ROW_MAX: u64 = 1_024;

/// Time for the last records and their export.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Why an observer ends before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum ObserverError {
    /// The supervisor did not hand over what the duty needs.
    #[error("cannot start observer: {0} is missing in the assignment")]
    Assignment(&'static str),
    /// A ring is not usable.
    #[error(transparent)]
    Ring(#[from] AttachError),
    /// The supervisor cannot be told.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The system refused something.
    #[error("cannot run observer: {0}")]
    System(#[from] io::Error),
}

/// Watches until it is drained, and returns the exit code.
pub fn run(started: Started) -> i32 {
    tracing::info!("observer starts");
    // The one thread besides ours is for name look-ups, which block.
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(ObserverError::from)
        .and_then(|runtime| runtime.block_on(async { serve(Setup::of(started)?).await }));
    match result {
        Ok(()) => {
            tracing::info!("observer ends");
            exit::OK
        }
        Err(error) => {
            tracing::error!("{error}");
            exit::SOFTWARE
        }
    }
}

/// What an observer works with.
pub(super) struct Setup {
    /// The node, as traces name it.
    pub node: Node,
    /// Where traces go.
    pub trace: TraceSettings,
    /// The listening socket.
    pub listener: OwnedFd,
    /// The rings of trace records.
    pub rings: Vec<(RingAssignment, RingFds)>,
    /// The pages of the others.
    pub pages: Vec<OwnedFd>,
    /// Its own page.
    pub page: OwnedFd,
    /// The supervisor.
    pub control: Channel,
    /// The lock on the state directory, if this process holds it too.
    pub lock: Option<OwnedFd>,
}

impl Setup {
    fn of(started: Started) -> Result<Setup, ObserverError> {
        let Duty::Observer { trace, .. } = started.assignment.duty else {
            return Err(ObserverError::Assignment("the observer's duty"));
        };
        let listener = started.fds.into_iter().next();
        Ok(Setup {
            node: started.assignment.node,
            trace,
            listener: listener.ok_or(ObserverError::Assignment("the listening socket"))?,
            rings: started.rings,
            pages: started.pages,
            page: started.page,
            control: started.control,
            lock: Some(started.lock),
        })
    }
}

/// The part of [`run`] that needs no supervisor.
pub(super) async fn serve(setup: Setup) -> Result<(), ObserverError> {
    let Setup {
        node,
        trace,
        listener,
        rings,
        pages,
        page,
        control,
        lock: _held,
    } = setup;
    let stats = Stats::attach(page.as_fd(), "observer", clock::wall_ms())?;
    let mut all = Pages::default();
    add_page(&mut all, page);
    pages.into_iter().for_each(|page| add_page(&mut all, page));
    let view = View::new(all, stats.clone());
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    let server = tokio::spawn(http::serve(
        tokio::net::TcpListener::from_std(listener)?,
        view.clone(),
    ));
    let exporter = exporter(&trace, &node);
    let traces = Traces::new(stats.clone(), exporter.is_some());
    let export = exporter.map(|exporter| tokio::spawn(traces.clone().export(exporter)));

    let mut intake = Intake::new(
        rings,
        traces.clone(),
        view.clone(),
        trace.one_in,
        stats.clone(),
    )?;
    let control = AsyncChannel::new(control)?;
    beat(&view, &traces, &stats);
    stats.set_ready(true);
    match control.send(&FromChild::Ready, &[]).await {
        // Met again below, as the end of the channel.
        Ok(()) | Err(ControlError::Gone) => {}
        Err(error) => return Err(error.into()),
    }

    watch(&control, &mut intake, &view, &traces, &stats).await?;

    stats.set_ready(false);
    let until = Instant::now() + DRAIN_MAX;
    let _ = timeout_at(until, intake.drain()).await;
    traces.end();
    if let Some(export) = export
        && timeout_at(until, export).await.is_err()
    {
        tracing::warn!(
            left = traces.queued(),
            "trace collector is away: traces are lost"
        );
    }
    server.abort();
    Ok(())
}

/// Takes records and pages until it is told to drain or the supervisor is gone.
async fn watch(
    control: &AsyncChannel,
    intake: &mut Intake,
    view: &View,
    traces: &Traces,
    stats: &Stats<ObserverMetric>,
) -> Result<(), ObserverError> {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            heard = control.recv::<ToChild>() => match heard {
                Ok(Some((ToChild::Drain, _))) | Ok(None) => return Ok(()),
                Ok(Some((ToChild::Page, pages))) => view.with_pages(|all| {
                    pages.into_iter().for_each(|page| add_page(all, page));
                }),
                // Nothing else concerns an observer that runs.
                Ok(Some(_)) => {}
                // A channel that fails for good would be met here again and again.
                Err(ControlError::Socket(_)) => return Ok(()),
                Err(error) => tracing::warn!("{error}"),
            },
            _ = ticks.tick() => beat(view, traces, stats),
            () = intake.wait() => {
                for violation in intake.take() {
                    control.send(&violation, &[]).await?;
                }
            }
        }
    }
}

fn beat(view: &View, traces: &Traces, stats: &Stats<ObserverMetric>) {
    stats.heartbeat(clock::monotonic_ns());
    traces.set_sensors(view.survey().sensors());
}

fn add_page(pages: &mut Pages, page: OwnedFd) {
    if let Err(error) = pages.add(page) {
        tracing::warn!("{error}");
    }
}

/// The way to the collector, if there is one.
fn exporter(trace: &TraceSettings, node: &Node) -> Option<Exporter> {
    Exporter::new(trace, node).unwrap_or_else(|error| {
        // Traces are for people who look at them; the node works without.
        tracing::error!("{error}");
        None
    })
}

/// The consuming ends of the trace rings.
struct Intake {
    rings: Vec<Ring>,
    waiter: Waiter,
    traces: Traces,
    view: View,
    one_in: u32,
    record: Vec<u8>,
    more: bool,
    stats: Stats<ObserverMetric>,
}

struct Ring {
    consumer: Consumer,
    number: u32,
    seat: Seat,
}

impl Intake {
    fn new(
        rings: Vec<(RingAssignment, RingFds)>,
        traces: Traces,
        view: View,
        one_in: u32,
        stats: Stats<ObserverMetric>,
    ) -> Result<Intake, ObserverError> {
        let mut waiter = Waiter::new()?;
        let mut attached = Vec::new();
        for (assigned, fds) in rings {
            if assigned.purpose != Purpose::Trace || assigned.end != End::Consumer {
                return Err(ObserverError::Assignment("a ring of trace records"));
            }
            let consumer = Consumer::attach_as(&fds, &assigned.identity())?;
            attached.push(Ring {
                number: assigned.ring,
                seat: waiter.add_consumer(&consumer)?,
                consumer,
            });
        }
        Ok(Intake {
            rings: attached,
            waiter,
            traces,
            view,
            one_in,
            record: Vec::new(),
            more: true,
            stats,
        })
    }

    /// Sleeps until a ring may have something.
    async fn wait(&mut self) {
        if self.more {
            tokio::task::yield_now().await;
        } else {
            self.waiter.wait(BEAT).await;
        }
    }

    /// Takes what is there, up to a limit, and returns what the supervisor is to be told of rings that broke the rules.
    fn take(&mut self) -> Vec<FromChild> {
        let mut violations = Vec::new();
        self.more = false;
        let now_ns = clock::monotonic_ns();
        let mut reader = RecordReader {
            traces: &self.traces,
            view: &self.view,
            stats: &self.stats,
            one_in: self.one_in,
            now_ns,
            surveyed: false,
        };
        let record = &mut self.record;
        self.rings.retain_mut(|ring| {
            match take_from(&mut ring.consumer, record, |record| reader.take(record)) {
                Ok(more) => {
                    self.more |= more;
                    true
                }
                Err(violation) => {
                    self.waiter.remove(ring.seat);
                    violations.push(FromChild::Violation {
                        ring: ring.number,
                        what: violation.to_string(),
                    });
                    false
                }
            }
        });
        violations
    }

    /// Takes records until every ring is closed and empty.
    async fn drain(&mut self) {
        loop {
            // Asked first: what was committed before the end is then seen by the look that follows.
            let closed = self.rings.iter().all(|ring| ring.consumer.closed());
            self.take();
            self.stats.heartbeat(clock::monotonic_ns());
            if closed && !self.more {
                return;
            }
            self.wait().await;
        }
    }
}

/// Reads the records of one round.
struct RecordReader<'a> {
    traces: &'a Traces,
    view: &'a View,
    stats: &'a Stats<ObserverMetric>,
    one_in: u32,
    now_ns: u64,
    surveyed: bool,
}

impl RecordReader<'_> {
    fn take(&mut self, bytes: &[u8]) {
        self.stats.add(ObserverMetric::TraceRecords, 1);
        let taken = postcard::from_bytes(bytes).is_ok_and(|record| self.take_record(&record));
        if !taken {
            self.stats.add(ObserverMetric::TraceRecordsRefused, 1);
        }
    }

    fn take_record(&mut self, record: &TraceRecord) -> bool {
        match self.traces.take(record, self.one_in, self.now_ns) {
            // A sensor's page may have been begun a moment ago; looked for once a round.
            Err(RecordFault::Sensor) if !self.surveyed => {
                self.surveyed = true;
                self.traces.set_sensors(self.view.survey().sensors());
                self.take_record(record)
            }
            result => result.is_ok(),
        }
    }
}

/// Passes on the records of one ring and frees them; says whether there are more.
fn take_from(
    consumer: &mut Consumer,
    record: &mut Vec<u8>,
    mut pass: impl FnMut(&[u8]),
) -> Result<bool, crate::ring::Violation> {
    let there = consumer.available()?;
    let head = consumer.head();
    let taken = there.min(RECORDS_IN_A_ROW_MAX);
    for seq in head..head + taken {
        consumer.read(seq, record)?;
        pass(record);
    }
    consumer.advance(head + taken);
    consumer.wake_producer();
    Ok(taken < there)
}
