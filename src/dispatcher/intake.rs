//! The intake: from the classifier's ring and the state table into the feed.
//!
//! The ring brings what is new, the table what the ring had no room for. A batch is taken whole, then subscribers get
//! their turn, then it is accounted for ([`Intake::settle`]): that is the moment of the push.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;

use super::feed::{Feed, Fleet};
use super::json;
use super::live::{Applied, State, alarm_of};
use crate::frame::{Event, Frame, TraceRecord, record_kind};
use crate::hop::{Hop, TraceHead};
use crate::ring::{Consumer, Producer, Violation};
use crate::stats::{DispatcherMetric as Metric, Stats};
use crate::table::{PublicState, TableReader};

/// Records taken before subscribers get their turn.
const BATCH_RECORDS_MAX: u64 = 256;

/// Slots of the state table read before the ring and the subscribers get their turn.
const RESYNC_SLOTS_MAX: u32 = 128;

/// Bytes of an encoded trace record: a head, a device, the longest sensor name of the configuration.
const TRACE_RECORD_BYTES_MAX: usize = 480;

/// Everything that leads into the feed.
pub struct Intake {
    feed: Arc<Feed>,
    ring: Consumer,
    table: TableReader,
    traces: Option<Producer>,
    stats: Stats<Metric>,
    record: Vec<u8>,
    /// Heads of the tracks that were taken and not settled yet.
    taken: Vec<Taken>,
    resync: Resync,
}

/// A track on its way to subscribers.
struct Taken {
    head: TraceHead,
    slot: u32,
}

/// How far the state table is read.
#[derive(Default)]
struct Resync {
    /// The ring's counter when the last full reading began.
    served: u64,
    /// The next slot of a full reading.
    next: Option<u32>,
    /// Slots below this one were read at least once.
    known: u32,
}

impl Intake {
    /// Connects ring, table and feed; the table is to be read in whole first.
    pub fn new(
        feed: Arc<Feed>,
        ring: Consumer,
        table: TableReader,
        traces: Option<Producer>,
        stats: Stats<Metric>,
    ) -> Intake {
        let resync = Resync {
            served: ring.resync_counter(),
            next: Some(0),
            ..Resync::default()
        };
        Intake {
            feed,
            ring,
            table,
            traces,
            stats,
            record: Vec::new(),
            taken: Vec::new(),
            resync,
        }
    }

    /// The ring, to wait for.
    pub fn ring(&self) -> &Consumer {
        &self.ring
    }

    /// Takes what the ring has, at most a batch; how many records that were. After the last one of a ring that is
    /// closed there will be no more.
    ///
    /// # Errors
    /// What the classifier did wrong; the ring is then never read again.
    pub fn take(&mut self) -> Result<u64, Violation> {
        let count = self.ring.available()?.min(BATCH_RECORDS_MAX);
        if count == 0 {
            return Ok(0);
        }
        let feed = Arc::clone(&self.feed);
        let fleet = &mut *feed.lock();
        fleet.subscriptions.forget_read();
        let head = self.ring.head();
        for seq in head..head + count {
            self.ring.read(seq, &mut self.record)?;
            self.apply(fleet);
        }
        // Nothing here is in custody: what is in the view is as safe as it gets.
        self.ring.advance(head + count);
        Ok(count)
    }

    fn apply(&mut self, fleet: &mut Fleet) {
        match self.record.split_first() {
            Some((&record_kind::TRACK, bytes)) => match Frame::decode(bytes) {
                Ok(frame) => self.apply_track(fleet, &frame),
                Err(_) => self.stats.add(Metric::BadRecords, 1),
            },
            Some((&record_kind::ALARM, bytes)) => match Event::decode(bytes) {
                Ok(event) => self.apply_event(fleet, &event),
                Err(_) => self.stats.add(Metric::BadRecords, 1),
            },
            _ => self.stats.add(Metric::BadRecords, 1),
        }
    }

    fn apply_track(&mut self, fleet: &mut Fleet, frame: &Frame) {
        self.stats.add(Metric::Tracks, 1);
        // A frame does not say its sensor; events and the state table do.
        if let Applied::Changed(slot) = fleet.view.apply_track(frame) {
            fleet.subscriptions.push_track(slot, fleet.view.track(slot));
            let head = frame.trace;
            self.taken.push(Taken { head, slot });
        }
    }

    fn apply_event(&mut self, fleet: &mut Fleet, event: &Event) {
        self.stats.add(Metric::Alarms, 1);
        fleet.view.apply_event(event);
        let mut message = String::from("{\"type\":\"alarm\",\"alarm\":");
        json::write_alarm(&mut message, &alarm_of(event));
        message.push('}');
        fleet.subscriptions.push_alarm(Bytes::from(message));
    }

    /// Accounts for what was taken: it is pushed at the monotonic time `now_ns`.
    pub fn settle(&mut self, now_ns: u64) {
        let fleet = self.feed.lock();
        for Taken { head, slot } in self.taken.drain(..) {
            let age = Duration::from_nanos(now_ns.saturating_sub(head.t0_ns));
            self.stats.observe(Metric::Freshness, age);
            // A frame that raised something is the uplink's to trace, and its track is not marked.
            let ours = head.flags & TraceHead::SAMPLED != 0 && head.trace_id != 0;
            if let (true, Some(traces)) = (ours, &mut self.traces) {
                let mut head = head;
                head.stamp(Hop::Done, now_ns);
                let record = TraceRecord::Pushed {
                    head,
                    device: *fleet.view.device(slot),
                    sensor: fleet.view.sensor(slot).to_owned(),
                };
                let mut bytes = [0; TRACE_RECORD_BYTES_MAX];
                let fits = postcard::to_slice(&record, &mut bytes).ok();
                let published = fits.map(|bytes| traces.try_publish(&[&*bytes], false));
                if !matches!(published, Some(Ok(_))) {
                    self.stats.add(Metric::TraceRingFull, 1);
                }
            }
        }
    }

    /// Reads a part of the state table if there is a reason to; whether there was one. To be called when the ring is
    /// drained, for what is still in it is newer.
    pub fn resync(&mut self) -> bool {
        let counter = self.ring.resync_counter();
        if counter != self.resync.served {
            self.resync.served = counter;
            self.resync.next = Some(0);
        }
        let used = self.table.used();
        let Some(first) = self.resync.next else {
            return self.read_new(used);
        };
        let end = used.min(first + RESYNC_SLOTS_MAX);
        for slot in first..end {
            self.read_slot(slot);
        }
        self.resync.next = (end < used).then_some(end);
        if end == used {
            self.stats.add(Metric::Resyncs, 1);
        }
        true
    }

    /// Reads slots that are new since the last time: they tell the sensor of a new device. Whether there were any.
    fn read_new(&mut self, used: u32) -> bool {
        let before = self.resync.known;
        for slot in before..used.min(before.saturating_add(RESYNC_SLOTS_MAX)) {
            self.read_slot(slot);
            if self.resync.known == slot {
                // Claimed and not yet written: tried again at the next wake-up.
                break;
            }
        }
        self.resync.known > before
    }

    /// Reads one slot into the view.
    fn read_slot(&mut self, slot: u32) {
        let read = self.table.read(slot, &mut self.record);
        if slot == self.resync.known && !matches!(read, Ok(false)) {
            self.resync.known += 1;
        }
        match read {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return warn!("{error}"),
        }
        let Some(state) = PublicState::decode(&self.record) else {
            return self.stats.add(Metric::BadRecords, 1);
        };
        let fleet = &mut *self.feed.lock();
        let applied = fleet.view.resync(State {
            device: state.device,
            sensor: state.sensor.into(),
            fix: state.fix,
            received_ms: state.received_ms,
            open: state.alarms.iter().map(alarm_of).collect(),
        });
        if let Applied::Changed(slot) = applied {
            fleet.subscriptions.push_track(slot, fleet.view.track(slot));
        }
    }
}
