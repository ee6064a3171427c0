//! The classifier process from its assignment to its end: it waits on all rings at once, passes batches, and keeps the
//! second in which what is owed is sent again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::config::{Fence, Rules};
use crate::ring::{AttachError, BACKSTOP, Consumer, Producer, RingFds, Seat, Waiter};
use crate::role::{Duty, End, FromChild, Purpose, RingAssignment, States, ToChild};
use crate::stats::{ClassifierMetric, Stats};
use crate::sys::clock::{monotonic_ns, wall_ms};
use crate::sys::control::{AsyncChannel, Channel, ControlError};
use crate::sys::fail::{self, Point};
use crate::sys::region::ReadRegion;
use crate::sys::start::Started;
use crate::table::{TableError, TableWriter};

use super::fleet::Fleet;
use super::pipeline::{Parts, Pipeline};
use super::rule::RuleSet;

/// Time after which what is owed and not on its way is sent again, ns.
const OWED_INTERVAL_NS: u64 = 1_000_000_000;

/// Longest time from the order to end to the end, ns.
const DRAIN_NS_MAX: u64 = 1_000_000_000;

/// Turns in a row after which the control channel gets a look in.
const TURNS_MAX: u32 = 16;

/// Why a classifier ends before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    /// The supervisor did not hand over what the duty needs.
    #[error("cannot start classifier: {0} is missing in the assignment")]
    Assignment(&'static str),
    /// A ring is not usable.
    #[error(transparent)]
    Ring(#[from] AttachError),
    /// The state table is not usable.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The supervisor cannot be told.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The runtime or a page failed.
    #[error("cannot run classifier: {0}")]
    Io(#[from] io::Error),
}

/// Judges frames until the supervisor orders the end or is gone, and then until all rings are empty.
///
/// # Errors
/// What keeps it from serving.
pub fn run(started: Started) -> Result<(), ClassifierError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Held until the end: the lock on the state directory goes with the last process that has it.
    let _lock = started.lock;
    let assignment = started.assignment;
    let Duty::Classifier {
        rules,
        fences,
        trace_one_in,
        ranks,
    } = assignment.duty
    else {
        return Err(ClassifierError::Assignment("the duty"));
    };
    let page = started.page;
    let setup = Setup {
        rules,
        fences,
        trace_one_in,
        ranks,
        restarted: assignment.restarts > 0,
        stats: Stats::attach(page.as_fd(), &assignment.instance, wall_ms())?,
        table: started
            .fds
            .into_iter()
            .next()
            .ok_or(ClassifierError::Assignment("the state table"))?,
        rings: started.rings,
        snapshot: started.snapshot,
        control: started.control,
    };
    runtime.block_on(serve(setup))
}

/// What a classifier works with.
pub struct Setup {
    /// What to look for.
    pub rules: Rules,
    /// Where to look.
    pub fences: Vec<Fence>,
    /// One frame in this many is traced although it raised nothing; 0: none.
    pub trace_one_in: u32,
    /// Ranks of the sensors, by the number of their ring.
    pub ranks: Vec<u8>,
    /// Whether a predecessor died.
    pub restarted: bool,
    /// The statistics page.
    pub stats: Stats<ClassifierMetric>,
    /// The state table, writable.
    pub table: OwnedFd,
    /// Sensor rings to read; one track and one alarm ring to write.
    pub rings: Vec<(RingAssignment, RingFds)>,
    /// The device states of the last run.
    pub snapshot: Option<States>,
    /// The supervisor.
    pub control: Channel,
}

/// Serves on the runtime that this is called on.
///
/// # Errors
/// What keeps it from serving.
pub async fn serve(setup: Setup) -> Result<(), ClassifierError> {
    let control = AsyncChannel::new(setup.control)?;
    let stats = setup.stats;
    let mut sensors = Vec::new();
    let (mut tracks, mut alarms) = (None, None);
    for (ring, fds) in setup.rings {
        match (ring.purpose, ring.end) {
            (Purpose::Sensor, End::Consumer) => sensors.push((ring, fds)),
            (Purpose::Track, End::Producer) => {
                tracks = Some(Producer::attach_as(&fds, &ring.identity())?);
            }
            (Purpose::Alarm, End::Producer) => {
                alarms = Some(Producer::attach_as(&fds, &ring.identity())?);
            }
            _ => tracing::warn!(ring = ring.ring, "a ring is of no use here"),
        }
    }
    let alarms = alarms.ok_or(ClassifierError::Assignment("the ring to the uplink"))?;
    alarms.wait_for(0, true);
    let mut waiter = Waiter::new()?;
    waiter.add_producer(&alarms)?;
    let mut process = Process {
        pipeline: Pipeline::new(Parts {
            rules: RuleSet::new(&setup.rules, &setup.fences),
            trace_one_in: setup.trace_one_in,
            tracks: tracks.ok_or(ClassifierError::Assignment("the ring to the dispatcher"))?,
            alarms,
            fleet: fleet(setup.table, setup.snapshot, &setup.ranks)?,
            stats: stats.clone(),
            clock: monotonic_ns,
        }),
        seats: Vec::new(),
        ranks: setup.ranks,
        waiter,
        control,
        stats,
        owed_at_ns: monotonic_ns() + OWED_INTERVAL_NS,
        drain_until_ns: None,
    };
    for (ring, fds) in &sensors {
        process.add_sensor(ring, fds, setup.restarted)?;
    }
    process.pipeline.resume(setup.restarted);
    process.stats.heartbeat(monotonic_ns());
    process.stats.set_ready(true);
    process.control.send(&FromChild::Ready, &[]).await?;
    process.serve().await
}

/// The states of the table and, where it knows nothing of a device, of the snapshot.
fn fleet(table: OwnedFd, snapshot: Option<States>, ranks: &[u8]) -> Result<Fleet, ClassifierError> {
    let (mut fleet, damaged) = Fleet::attach(TableWriter::attach(table.as_fd())?);
    if damaged > 0 {
        tracing::warn!(damaged, "some device states are damaged and forgotten");
    }
    if let Some(states) = snapshot {
        let region = ReadRegion::map(states.fd.as_fd(), 0)?;
        let mut bytes = vec![0; region.len()];
        region.copy_out(0, &mut bytes);
        match fleet.restore(&bytes, states.exact, ranks) {
            Ok(restored) => tracing::info!(restored, "device states restored from the snapshot"),
            Err(error) => tracing::warn!(%error, "device states are only restored in part"),
        }
        fail::pass(Point::ClassifierRestored);
    }
    Ok(fleet)
}

struct Process {
    pipeline: Pipeline,
    /// Number and place of each sensor's ring.
    seats: Vec<(u32, Seat)>,
    ranks: Vec<u8>,
    waiter: Waiter,
    control: AsyncChannel,
    stats: Stats<ClassifierMetric>,
    owed_at_ns: u64,
    /// When to end at the latest, once ordered to.
    drain_until_ns: Option<u64>,
}

impl Process {
    fn add_sensor(
        &mut self,
        ring: &RingAssignment,
        fds: &RingFds,
        restarted: bool,
    ) -> Result<(), ClassifierError> {
        let consumer = Consumer::attach_as(fds, &ring.identity())?;
        let seat = self.waiter.add_consumer(&consumer)?;
        let former = self
            .seats
            .iter()
            .position(|(number, _)| *number == ring.ring);
        if let Some(at) = former {
            self.waiter.remove(self.seats.swap_remove(at).1);
        }
        self.seats.push((ring.ring, seat));
        let rank = self.ranks.get(ring.ring as usize).copied().unwrap_or(1);
        self.pipeline
            .add_sensor(&ring.name, rank, consumer, restarted);
        Ok(())
    }

    async fn serve(mut self) -> Result<(), ClassifierError> {
        loop {
            let busy = (0..TURNS_MAX).all(|_| self.pipeline.turn());
            let now_ns = monotonic_ns();
            self.stats.heartbeat(now_ns);
            if now_ns >= self.owed_at_ns {
                self.owed_at_ns = now_ns + OWED_INTERVAL_NS;
                self.pipeline.emit_owed();
            }
            while let Some((ring, violation)) = self.pipeline.next_violation() {
                tracing::warn!(ring, %violation, "a sensor's ring is not read any more");
                let what = violation.to_string();
                let message = FromChild::Violation { ring, what };
                self.control.send(&message, &[]).await?;
            }
            if self.is_over(now_ns) {
                self.pipeline.close();
                return Ok(());
            }
            let patience = self.patience(now_ns);
            // Once it is about to end nothing that is said matters, and the end of the channel would be said for ever.
            let listens = self.drain_until_ns.is_none();
            let message = tokio::select! {
                biased;
                message = self.control.recv::<ToChild>(), if listens => message,
                // Lets the runtime look at the control channel and comes back at once.
                () = tokio::task::yield_now(), if busy => continue,
                _ = self.waiter.wait(patience), if !busy => continue,
            };
            match message {
                Ok(Some((ToChild::Ring(ring), fds))) => self.replace_ring(&ring, fds)?,
                Ok(Some((ToChild::Drain, _))) | Ok(None) => self.drain(),
                Ok(Some(_)) => tracing::warn!("a control message is of no use here"),
                // A supervisor that talks nonsense is as good as gone.
                Err(error) => {
                    tracing::error!(%error, "control channel failed");
                    self.drain();
                }
            }
        }
    }

    /// Takes over the ring that replaces one whose producer broke the rules.
    fn replace_ring(
        &mut self,
        ring: &RingAssignment,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ClassifierError> {
        let fds = RingFds::take(&mut fds.into_iter())
            .ok_or(ClassifierError::Assignment("a descriptor of a ring"))?;
        self.add_sensor(ring, &fds, false)
    }

    fn drain(&mut self) {
        if self.drain_until_ns.is_none() {
            tracing::info!("draining");
            self.stats.set_ready(false);
            self.drain_until_ns = Some(monotonic_ns() + DRAIN_NS_MAX);
        }
    }

    fn is_over(&mut self, now_ns: u64) -> bool {
        self.drain_until_ns
            .is_some_and(|until_ns| self.pipeline.is_finished() || now_ns >= until_ns)
    }

    fn patience(&self, now_ns: u64) -> Duration {
        let next_ns = self
            .drain_until_ns
            .map_or(self.owed_at_ns, |until_ns| until_ns.min(self.owed_at_ns));
        Duration::from_nanos(next_ns.saturating_sub(now_ns)).min(BACKSTOP)
    }
}

#[cfg(test)]
mod tests;
