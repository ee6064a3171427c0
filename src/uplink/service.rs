//! The service: ring, journal and delivery in one loop, from readiness to the end of the drain.
//!
//! Each turn looks at everything once and then waits for whichever comes first. The journal has one commit at a time;
//! what comes meanwhile is the next one, and the deletes of what the broker confirmed ride along. Nothing here waits for
//! the broker before it accepts.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info, warn};

use super::delivery::Delivery;
use super::intake::{Intake, Tally};
use super::journal::{Batch, Committed, DEGRADED_PERCENT, Left, Repeated, Stored, Usage, Verdict};
use super::process::UplinkError;
use super::writer::{Done, Task, Writer};
use crate::frame::TraceRecord;
use crate::hop::Hop;
use crate::ring::{Producer, Waiter};
use crate::role::{FromChild, ToChild};
use crate::stats::{Stats, UplinkMetric as Metric};
use crate::sys::clock::{monotonic_ns, wall_ms};
use crate::sys::control::{AsyncChannel, ControlError};
use crate::sys::fail::{self, Point};

/// Deletes that are committed at once although no record comes with them.
const DELETES_AT_ONCE: usize = 64;

/// Time for which fewer deletes wait for company, milliseconds.
const DELETES_LINGER_MS: u64 = 50;

/// Time after which deletes are tried again that a full disk did not allow, milliseconds.
const DELETES_RETRY_MS: u64 = 1_000;

/// Time between snapshots of the state table, milliseconds.
const SNAPSHOT_MS: u64 = 15 * 60 * 1_000;

/// Time after which open alarms are tried again that the journal had no room to write again, milliseconds.
const REPEAT_RETRY_MS: u64 = 10_000;

/// Time for which a refused alarm counts as a degraded state, milliseconds.
const REFUSED_MS: u64 = 10_000;

/// Longest turn, milliseconds: the heartbeat.
const TURN_MS: u64 = 1_000;

/// Time for the ring to be closed and emptied in a drain, milliseconds.
const EMPTY_MS: u64 = 2_000;

/// Time for the last publishes, the snapshot and the goodbye after it, milliseconds.
const LEAVE_MS: u64 = 2_000;

/// Bytes of a trace record.
const TRACE_BYTES_MAX: usize = 512;

/// What the service works with besides ring and delivery.
pub struct Tools {
    /// The journal.
    pub writer: Writer,
    /// The ring to the observer, if there is one.
    pub traces: Option<Producer>,
    /// The statistics page.
    pub stats: Stats<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Told to drain; the classifier may still write.
    Emptying {
        until_ms: u64,
    },
    /// All that came is on disk.
    Leaving {
        until_ms: u64,
    },
}

/// The loop's state.
pub struct Service {
    intake: Intake,
    delivery: Delivery,
    tools: Tools,
    phase: Phase,
    /// What the next commit carries.
    batch: Batch,
    committing: bool,
    loading: bool,
    snapshotting: bool,
    /// When the deletes that wait are committed without company.
    deletes_due_ms: Option<u64>,
    /// The last commit could not delete for want of room: however many there are, they wait until they are due.
    deletes_failed: bool,
    snapshot_due_ms: u64,
    /// When open alarms are written again, as long as any are to be.
    repeat_due_ms: Option<u64>,
    repeating: bool,
    /// Open alarms written again so far.
    repeats: u64,
    /// Nothing that came into the ring is left out, and no more comes: it was closed, or silent for the whole drain,
    /// as when the classifier was killed with the supervisor.
    emptied: bool,
    /// The producer broke the rules: the ring is not read any more.
    broken: bool,
    usage: Usage,
    refused_ms: Option<u64>,
}

impl Service {
    /// A service that has not begun; the journal is as full as `usage` says. `repeats`: it is to send the open alarms
    /// again.
    pub fn new(
        intake: Intake,
        delivery: Delivery,
        tools: Tools,
        usage: Usage,
        repeats: bool,
    ) -> Service {
        Service {
            intake,
            delivery,
            tools,
            phase: Phase::Serving,
            batch: Batch::default(),
            committing: false,
            loading: false,
            snapshotting: false,
            deletes_due_ms: None,
            deletes_failed: false,
            snapshot_due_ms: now_ms() + SNAPSHOT_MS,
            repeat_due_ms: repeats.then_some(0),
            repeating: false,
            repeats: 0,
            emptied: false,
            broken: false,
            usage,
            refused_ms: None,
        }
    }

    /// Serves until a drain is over; returns how many records are left in the ring.
    ///
    /// # Errors
    /// What the journal cannot survive, or a supervisor that cannot be told of a violation.
    pub async fn serve(
        &mut self,
        waiter: &mut Waiter,
        control: &AsyncChannel,
    ) -> Result<u64, UplinkError> {
        loop {
            let now_ms = now_ms();
            // Asked before the ring is looked at: what was committed before the close is then seen.
            let closed = self.intake.ring().closed();
            self.gather(control).await?;
            self.delivery.tick(now_ms);
            self.delivery.act(now_ms);
            self.commit(now_ms);
            self.load();
            self.snapshot(now_ms);
            self.repeat(now_ms);
            self.report(now_ms);
            if self.advance_drain(now_ms, closed) {
                return Ok(self.intake.unsettled());
            }
            let patience = Duration::from_millis(self.patience_ms(now_ms));
            let listening = self.intake.has_room() && !self.broken;
            tokio::select! {
                biased;
                told = control.recv::<ToChild>(), if self.phase == Phase::Serving => {
                    self.hear_supervisor(told);
                }
                done = self.tools.writer.next() => {
                    self.take(done.ok_or(UplinkError::Thread)??);
                }
                heard = self.delivery.hear() => {
                    self.delivery.take(heard, self::now_ms());
                }
                _ = waiter.wait(patience), if listening => {}
                () = sleep(patience), if !listening => {}
            }
        }
    }

    /// Closes the journal. `served`: the drain came to its end.
    pub fn close(self, served: bool) {
        self.tools.stats.set_ready(false);
        if let Some(traces) = self.tools.traces {
            traces.close();
        }
        self.tools.writer.close(served && self.emptied);
    }

    async fn gather(&mut self, control: &AsyncChannel) -> Result<(), UplinkError> {
        if self.broken {
            return Ok(());
        }
        let delivery = &self.delivery;
        let fits = |event: &_| delivery.fits(event);
        if let Err(violation) = self.intake.gather(&mut self.batch.entries, fits) {
            self.broken = true;
            error!("cannot read alarm ring: {violation}");
            let told = FromChild::Violation {
                ring: self.intake.ring().identity().ring,
                what: violation.to_string(),
            };
            control.send(&told, &[]).await?;
        }
        Ok(())
    }

    /// Gives the journal its next batch, if it is free and there is reason to.
    fn commit(&mut self, now_ms: u64) {
        let deletes = self.delivery.deletes();
        if deletes > 0 {
            self.deletes_due_ms
                .get_or_insert(now_ms + DELETES_LINGER_MS);
        }
        if self.committing {
            return;
        }
        let records = self.intake.has_gathered();
        let leaving = !matches!(self.phase, Phase::Serving);
        let due = self.deletes_due_ms.is_some_and(|due_ms| now_ms >= due_ms);
        let at_once =
            deletes > 0 && (leaving || deletes >= DELETES_AT_ONCE) && !self.deletes_failed;
        if !records && !due && !at_once {
            return;
        }
        self.delivery.take_deletes(&mut self.batch);
        self.deletes_due_ms = None;
        self.intake.commit_begins();
        self.committing = true;
        let batch = std::mem::take(&mut self.batch);
        self.tools.writer.give(Task::Commit(batch));
    }

    fn load(&mut self) {
        if !self.loading {
            let wanted = self.delivery.take_wanted();
            if !wanted.is_empty() {
                self.loading = true;
                self.tools.writer.give(Task::Load(wanted));
            }
        }
    }

    fn snapshot(&mut self, now_ms: u64) {
        if now_ms >= self.snapshot_due_ms && !self.snapshotting {
            self.snapshot_due_ms = now_ms + SNAPSHOT_MS;
            self.snapshotting = true;
            self.tools.writer.give(Task::Snapshot);
        }
    }

    /// Has some of the open alarms written again, one batch at a time.
    fn repeat(&mut self, now_ms: u64) {
        let due = self.repeat_due_ms.is_some_and(|due_ms| now_ms >= due_ms);
        if due && !self.repeating && self.phase == Phase::Serving {
            self.repeating = true;
            self.tools.writer.give(Task::Repeat);
        }
    }

    fn take_repeated(&mut self, repeated: Repeated) {
        self.repeating = false;
        self.repeats += repeated.records.len() as u64;
        for stored in repeated.records {
            self.delivery.accepted(stored);
        }
        self.repeat_due_ms = match repeated.left {
            Left::More => Some(now_ms()),
            Left::Full => Some(now_ms() + REPEAT_RETRY_MS),
            Left::Nothing => {
                info!(
                    "the last run did not end in order: {} open alarms are sent again",
                    self.repeats
                );
                None
            }
        };
    }

    fn hear_supervisor(
        &mut self,
        told: Result<Option<(ToChild, Vec<std::os::fd::OwnedFd>)>, ControlError>,
    ) {
        match told {
            Ok(Some((ToChild::Drain, _))) | Ok(None) => {}
            Ok(Some(_)) => {
                return warn!("cannot use message of supervisor: it comes after the start");
            }
            Err(ControlError::Socket(error)) => error!("cannot hear supervisor: {error}"),
            Err(error) => return warn!("cannot read message of supervisor: {error}"),
        }
        self.tools.stats.set_ready(false);
        let until_ms = now_ms() + EMPTY_MS;
        self.phase = Phase::Emptying { until_ms };
    }

    /// Whether the drain is over.
    fn advance_drain(&mut self, now_ms: u64, closed: bool) -> bool {
        match self.phase {
            Phase::Serving => false,
            Phase::Emptying { until_ms } => {
                let empty = !self.intake.is_busy() && self.intake.unsettled() == 0;
                self.emptied = empty && !self.broken;
                if closed && empty || self.broken && !self.intake.is_busy() || now_ms >= until_ms {
                    let until_ms = now_ms + LEAVE_MS;
                    self.phase = Phase::Leaving { until_ms };
                    self.snapshot_due_ms = now_ms;
                    self.snapshot(now_ms);
                    self.delivery.drain(now_ms);
                    self.delivery.act(now_ms);
                }
                false
            }
            Phase::Leaving { until_ms } => {
                let at_work = self.committing || self.snapshotting || self.intake.is_busy();
                let delivered = self.delivery.is_finished() && self.delivery.deletes() == 0;
                delivered && !at_work || now_ms >= until_ms
            }
        }
    }

    fn patience_ms(&self, now_ms: u64) -> u64 {
        let phase = match self.phase {
            Phase::Serving => None,
            Phase::Emptying { until_ms } | Phase::Leaving { until_ms } => Some(until_ms),
        };
        let deletes = self.deletes_due_ms.filter(|_| !self.committing);
        let serving = self.phase == Phase::Serving;
        let repeats = self.repeat_due_ms.filter(|_| serving && !self.repeating);
        [
            self.delivery.publisher().deadline_ms(),
            deletes,
            repeats,
            phase,
        ]
        .into_iter()
        .flatten()
        .min()
        .map_or(TURN_MS, |at_ms| at_ms.saturating_sub(now_ms).min(TURN_MS))
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Committed {
                batch,
                committed,
                took,
                usage,
            } => {
                self.committing = false;
                self.usage = usage;
                self.tools.stats.add(Metric::Commits, 1);
                self.tools.stats.observe(Metric::CommitSeconds, took);
                self.take_committed(batch, &committed);
            }
            Done::Loaded { asked, found } => {
                self.loading = false;
                self.delivery.loaded(&asked, found);
            }
            Done::Snapshot(written) => {
                self.snapshotting = false;
                self.tools.stats.add(Metric::Snapshots, u64::from(written));
            }
            Done::Repeated { repeated, usage } => {
                self.usage = usage;
                self.take_repeated(repeated);
            }
            // Said when nobody listens any more.
            Done::Ended => {}
        }
    }

    fn take_committed(&mut self, mut batch: Batch, committed: &Committed) {
        // First of all: devices wait for it.
        let tally = self.intake.settle(&committed.verdicts);
        if !committed.verdicts.is_empty() {
            fail::pass(Point::UplinkBell);
        }
        let now_ns = monotonic_ns();
        for (entry, verdict) in batch.entries.drain(..).zip(&committed.verdicts) {
            if let Verdict::Accepted(seq) = *verdict {
                let mut head = entry.event.trace;
                head.stamp(Hop::Done, now_ns);
                let event = &entry.event;
                self.trace(&TraceRecord::Journalled {
                    head,
                    device: event.device,
                    sensor: event.sensor.clone(),
                    event: event.id,
                    kind: event.kind,
                    phase: event.phase,
                });
                let accepted_ms = wall_ms();
                self.delivery.accepted(Stored {
                    seq,
                    accepted_ms,
                    event: entry.event,
                });
            }
        }
        self.deletes_failed = !committed.deleted;
        if committed.deleted {
            batch.delivered.clear();
            batch.quarantined.clear();
        } else {
            self.delivery.return_deletes(&mut batch);
            self.deletes_due_ms = Some(now_ms() + DELETES_RETRY_MS);
        }
        // Its memory serves the next batch.
        if self.batch.is_empty() {
            self.batch = batch;
        }
        self.count(tally);
    }

    fn count(&mut self, tally: Tally) {
        let stats = &self.tools.stats;
        stats.add(Metric::Accepted, tally.accepted);
        stats.add(Metric::Repeated, tally.repeated);
        stats.add(Metric::RefusedFull, tally.full);
        stats.add(Metric::RefusedDisk, tally.disk);
        stats.add(Metric::RefusedTooLarge, tally.large);
        stats.add(Metric::RefusedBadRecord, tally.bad);
        if tally.full + tally.disk > 0 {
            if self.refused_ms.is_none() {
                let what = if tally.disk > 0 { "disk" } else { "journal" };
                warn!("{what} is full, new alarms are refused and their devices not answered");
            }
            self.refused_ms = Some(now_ms());
        } else if tally.accepted > 0
            && self
                .refused_ms
                .is_some_and(|at| now_ms() >= at + REFUSED_MS)
        {
            self.refused_ms = None;
            info!("alarms are accepted again");
        }
    }

    /// Tells the observer; a full ring costs the trace and nothing else.
    fn trace(&mut self, record: &TraceRecord) {
        let Some(traces) = &mut self.tools.traces else {
            return;
        };
        let mut bytes = [0; TRACE_BYTES_MAX];
        let room = traces.record_bytes_max().min(TRACE_BYTES_MAX);
        let written = postcard::to_slice(record, &mut bytes[..room])
            .is_ok_and(|used| traces.try_publish(&[used], false).is_ok());
        if !written {
            self.tools.stats.add(Metric::TraceRingFull, 1);
        }
    }

    fn report(&mut self, now_ms: u64) {
        let news = self.delivery.take_news();
        for record in &news.confirmed {
            self.trace(record);
        }
        let publisher = self.delivery.publisher();
        let stats = &self.tools.stats;
        stats.add(Metric::Published, news.published);
        stats.add(Metric::Confirmed, news.confirmed.len() as u64);
        stats.add(Metric::PublishRefused, news.refused);
        stats.add(Metric::Reconnects, news.reconnects);
        stats.set(Metric::Connected, u64::from(publisher.is_connected()));
        stats.set(Metric::Backlog, publisher.records() as u64);
        stats.set(Metric::JournalRecords, self.usage.records);
        stats.set(Metric::JournalBytes, self.usage.bytes);
        stats.set(Metric::Quarantined, self.usage.quarantined);
        stats.set(Metric::Damaged, self.usage.damaged);
        let refused = self
            .refused_ms
            .is_some_and(|at_ms| now_ms < at_ms + REFUSED_MS);
        let full = self.usage.percent() >= DEGRADED_PERCENT;
        let degraded = refused || full || publisher.held_devices() > 0;
        stats.set(Metric::Degraded, u64::from(degraded));
        stats.heartbeat(monotonic_ns());
    }
}

fn now_ms() -> u64 {
    monotonic_ns() / 1_000_000
}
