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
use crate::frame::{Event, Frame, SensorChange, TraceRecord, record_kind};
use crate::hop::{Hop, TraceHead};
use crate::ring::{Consumer, Producer, Violation};
use crate::stats::{DispatcherMetric as Metric, Stats};
use crate::table::{PublicState, TableError, TableReader};

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
            Some((&record_kind::SENSOR, bytes)) => match SensorChange::decode(bytes) {
                Ok(change) => fleet.view.apply_sensor(&change),
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
            let read = self.table.read(slot, &mut self.record);
            self.apply_slot(slot, read);
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
            let read = self.table.read(slot, &mut self.record);
            // Outputs are committed before states are switched: tracks that led to this state and are still in the ring
            // come first, or subscribers would never hear of them.
            if matches!(self.ring.available(), Ok(1..)) {
                break;
            }
            self.apply_slot(slot, read);
            if self.resync.known == slot {
                // Claimed and not yet written: tried again at the next wake-up.
                break;
            }
        }
        self.resync.known > before
    }

    /// Takes what was read of one slot into the view.
    fn apply_slot(&mut self, slot: u32, read: Result<bool, TableError>) {
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::live::LiveView;
    use super::super::subscription::Subscriptions;
    use super::*;
    use crate::frame::{Alarms, DeviceId, FRAME_BYTES_MAX, Fix, FixFields, FrameFlags};
    use crate::ring::{Geometry, RingOwner};
    use crate::table::TableWriter;
    use crate::{stats, table};

    fn fix(time_ms: i64) -> Fix {
        Fix {
            time_ms,
            fields: FixFields(FixFields::POSITION | FixFields::TIME | FixFields::VALID),
            ..Fix::default()
        }
    }

    /// A device's first batch is committed and its state switched right after the ring was found empty. The state is
    /// that of the last frame; subscribers must hear of all.
    #[test]
    fn a_new_devices_state_does_not_overtake_its_tracks() {
        let geometry = Geometry {
            slots: 8,
            stride: 1024,
            answers: 0,
        };
        let owner = RingOwner::create(geometry, 1, 1).unwrap();
        let mut classifier = Producer::attach(&owner.producer_fds().unwrap()).unwrap();
        let consumer = Consumer::attach(&owner.consumer_fds().unwrap()).unwrap();
        let memory = table::create(4).unwrap();
        let states = TableWriter::attach(memory.as_fd()).unwrap();
        let page = stats::create().unwrap();
        let feed = Arc::new(Feed::new(LiveView::new(4), Subscriptions::new(16, 1)));
        let mut intake = Intake::new(
            Arc::clone(&feed),
            consumer,
            TableReader::attach(memory.as_fd()).unwrap(),
            None,
            Stats::attach(page.as_fd(), "dispatcher", 0).unwrap(),
        );
        while intake.resync() {}
        let mut subscriber = feed.subscribe().unwrap();
        let mut heard = Vec::new();
        subscriber.take(&mut heard);
        heard.clear();
        assert_eq!(intake.take(), Ok(0));

        let device = DeviceId::new(b"new").unwrap();
        for time_ms in [1_000, 2_000] {
            let frame = Frame {
                device,
                fix: fix(time_ms),
                trace: TraceHead::default(),
                held: Alarms::default(),
                momentary: Alarms::default(),
                flags: FrameFlags::default(),
                answer_index: 0,
                message_first_seq: 0,
                received_ms: 0,
                digest: 0,
                attributes: Vec::new(),
            };
            let mut record = [0; FRAME_BYTES_MAX + 1];
            record[0] = record_kind::TRACK;
            let (used, _) = frame.encode(&mut record[1..]).unwrap();
            classifier.try_publish(&[&record[..=used]], false).unwrap();
        }
        let state = PublicState {
            device,
            sensor: "gate".into(),
            fix: fix(2_000),
            received_ms: 0,
            alarms: Vec::new(),
        };
        let slot = states.claim().unwrap();
        states
            .write(slot, &postcard::to_stdvec(&state).unwrap())
            .unwrap();

        assert!(!intake.resync());
        assert_eq!(intake.take(), Ok(2));
        assert!(intake.resync());
        subscriber.take(&mut heard);
        let text = String::from_utf8(heard.concat()).unwrap();
        for time in ["00:00:01", "00:00:02"] {
            assert!(text.contains(time), "{text}");
        }
        assert_eq!(feed.lock().view.sensor(0), "gate");
    }
}
