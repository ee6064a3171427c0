//! The way of a trace record from its ring to the collector: checked, queued, made into spans, sent.
//!
//! Taking records from the rings never waits for the collector. One task sends; what it cannot send it keeps, and
//! tries again after a growing pause, while the queue behind it drops by its own rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::otlp::{Backoff, Batch, ExportError, Exporter, REQUEST_SPANS_MAX, random};
use super::queue::{QUEUE_BYTES_MAX, TraceQueue};
use super::span::{self, RecordFault, Sensors, WallClock};
use crate::frame::TraceRecord;
use crate::stats::{ObserverMetric, Stats};
use crate::sys::clock;

/// Time for which the first record waits for company, unless the process ends.
const LINGER: Duration = Duration::from_millis(200);

/// Longest pause between attempts once the process ends.
const ENDING_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Most spans that one record adds to the request of one service: the ingest's.
const RECORD_SPANS_MAX: usize = 3;

/// Records between the rings and the collector. Clones share it.
#[derive(Clone)]
pub struct Traces {
    shared: Arc<Shared>,
    stats: Stats<ObserverMetric>,
    wanted: bool,
}

struct Shared {
    state: Mutex<State>,
    arrived: Notify,
    ending: Notify,
}

struct State {
    queue: TraceQueue,
    sensors: Sensors,
    ends: bool,
}

impl Traces {
    /// Nothing queued, no sensor known. `wanted`: there is a collector.
    pub fn new(stats: Stats<ObserverMetric>, wanted: bool) -> Traces {
        Traces {
            wanted,
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    queue: TraceQueue::new(QUEUE_BYTES_MAX),
                    sensors: Sensors::new(),
                    ends: false,
                }),
                arrived: Notify::new(),
                ending: Notify::new(),
            }),
            stats,
        }
    }

    /// The sensors whose traces are taken from now on.
    pub fn set_sensors(&self, sensors: Sensors) {
        self.state().sensors = sensors;
    }

    /// Takes a record if it holds what [`span::check`] asks for. Without a collector it is only counted.
    ///
    /// # Errors
    /// Why it is refused. The caller counts, since it may know a remedy and try again.
    pub fn take(&self, record: &TraceRecord, one_in: u32, now_ns: u64) -> Result<(), RecordFault> {
        let mut state = self.state();
        span::check(record, &state.sensors, one_in, now_ns)?;
        if !self.wanted {
            return Ok(());
        }
        let dropped = state.queue.push(record.clone());
        self.stats
            .add(ObserverMetric::DroppedAlarms, dropped.alarms);
        self.stats.add(ObserverMetric::DroppedRatio, dropped.ratio);
        let bytes = state.queue.bytes() as u64;
        self.stats.set(ObserverMetric::QueueBytes, bytes);
        drop(state);
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// No more records will come: [`Traces::export`] ends once the queue is empty.
    pub fn end(&self) {
        self.state().ends = true;
        self.shared.arrived.notify_one();
        self.shared.ending.notify_one();
    }

    /// Records queued.
    pub fn queued(&self) -> usize {
        self.state().queue.len()
    }

    /// Sends what comes to the collector until [`Traces::end`] and the queue is empty.
    pub async fn export(self, mut exporter: Exporter) {
        let mut batch = Batch::default();
        let mut backoff = Backoff::new();
        let mut away = false;
        while self.fill(&mut batch).await {
            match exporter.export(&mut batch).await {
                Ok(spans) => {
                    self.stats.add(ObserverMetric::SpansExported, spans as u64);
                    backoff.reset();
                    if std::mem::take(&mut away) {
                        tracing::info!("trace collector is back");
                    }
                }
                Err(error @ ExportError::Refused { spans, .. }) => {
                    self.stats.add(ObserverMetric::SpansRefused, spans as u64);
                    tracing::warn!("{error}");
                }
                Err(error @ ExportError::Away(_)) => {
                    self.stats.add(ObserverMetric::ExportFailures, 1);
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!("{error}; traces wait, the oldest are dropped when full");
                    }
                    self.pause(backoff.next_wait(random())).await;
                }
            }
        }
    }

    /// Waits before the next attempt, less if the process ends.
    async fn pause(&self, wait: Duration) {
        let ends = self.state().ends;
        let wait = if ends {
            wait.min(ENDING_PAUSE_MAX)
        } else {
            wait
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shared.ending.notified() => {}
        }
    }

    /// Fills an empty batch, waiting for records; `false` when none will come.
    async fn fill(&self, batch: &mut Batch) -> bool {
        while batch.is_empty() {
            let ends = {
                let mut state = self.state();
                self.spans_into(batch, &mut state);
                state.ends
            };
            if !batch.is_empty() {
                break;
            }
            if ends {
                return false;
            }
            self.shared.arrived.notified().await;
            if !self.state().ends {
                tokio::time::sleep(LINGER).await;
            }
        }
        true
    }

    /// Makes spans of as many records as one round of requests may carry.
    fn spans_into(&self, batch: &mut Batch, state: &mut State) {
        // Read at each flush, so that a clock that was set is followed.
        let wall = WallClock {
            offset_ns: i128::from(clock::wall_ns()) - i128::from(clock::monotonic_ns()),
        };
        let mut spans = Vec::new();
        while batch.request_spans() + RECORD_SPANS_MAX <= REQUEST_SPANS_MAX {
            let Some(record) = state.queue.pop() else {
                break;
            };
            span::spans(&record, &state.sensors, wall, &mut spans);
            batch.extend(spans.drain(..));
        }
        let bytes = state.queue.bytes() as u64;
        self.stats.set(ObserverMetric::QueueBytes, bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        // One thread uses it; a poisoned lock is one that panicked, and that ends the process.
        state.unwrap_or_else(PoisonError::into_inner)
    }
}
