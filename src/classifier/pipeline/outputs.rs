//! What a batch commits to the rings of uplink and dispatcher.

use crate::frame::{Origin, SensorChange, record_kind};
use crate::hop::{Hop, TraceHead};
use crate::stats::ClassifierMetric as Metric;
use crate::sys::fail::{self, Point};

use super::super::batch::{Awaited, Until, Update};
use super::super::custody::Record;
use super::Pipeline;

impl Pipeline {
    /// Commits what the uplink and the dispatcher are to get and have not got yet. A message whose events do not all
    /// fit the uplink's ring is refused, and its events stay owed.
    pub fn commit_outputs(&mut self, at: usize) {
        let now_ns = (self.clock)();
        for at_message in 0..self.batch.messages.len() {
            let origin = self.origin(at, at_message);
            let message = &mut self.batch.messages[at_message];
            if message.events.len() == message.sent {
                continue;
            }
            let events = std::mem::take(&mut message.events);
            let first = message.sent;
            let sent = self.send(&events[first..], origin, now_ns);
            let message = &mut self.batch.messages[at_message];
            message.refused |= !sent;
            message.sent = events.len();
            message.events = events;
        }
        for (device, event) in std::mem::take(&mut self.batch.loose) {
            self.send(&[Awaited::safe(device, event)], None, now_ns);
        }
        fail::pass(Point::ClassifierAlarms);
        self.commit_updates(at, now_ns);
        self.batch.updates.clear();
    }

    /// Under which the records of a message name it. Nobody waits for a message that is refused already; what was found
    /// in it is on its way all the same.
    pub(super) fn origin(&self, at: usize, at_message: usize) -> Option<Origin> {
        let identity = self.sensors[at].consumer.identity();
        let message = &self.batch.messages[at_message];
        let waits = message.answer_index.filter(|_| !message.refused);
        waits.map(|answer_index| Origin {
            ring: identity.ring,
            birth: identity.birth,
            first_seq: message.first_seq,
            answer_index,
        })
    }

    /// Sends events that their devices owe, all in one commit or none.
    pub(super) fn send(&mut self, events: &[Awaited], origin: Option<Origin>, now_ns: u64) -> bool {
        self.outbox.clear();
        for Awaited { device, event, .. } in events {
            let owed = self.fleet.owed(device, *event);
            let owed = owed.expect("an event is owed until its outcome is passed on");
            let mut event = owed.event(*device, origin);
            event.trace.stamp(Hop::HandedOn, now_ns);
            if !self
                .outbox
                .push_event(&event, self.alarms.record_bytes_max(), None)
            {
                return false;
            }
        }
        let records = self.outbox.records();
        let Ok(first) = self.alarms.try_publish(&records, true) else {
            self.stats.add(Metric::AlarmRingFull, events.len() as u64);
            return false;
        };
        for (seq, awaited) in (first..).zip(events) {
            let record = Record {
                event: awaited.event,
                device: awaited.device,
                origin,
                binds: awaited.until == Until::Safe,
            };
            self.custody.sent(seq, record);
        }
        true
    }

    /// Commits tracks and alarms to the dispatcher's ring, as many as fit. What does not is found in the state table,
    /// which the dispatcher is asked to read again once the states are switched.
    fn commit_updates(&mut self, at_sensor: usize, now_ns: u64) {
        if self.batch.updates.is_empty() {
            return;
        }
        let bytes_max = self.tracks.record_bytes_max();
        let room = self.tracks.room();
        let fits =
            usize::try_from(room).map_or(usize::MAX, |room| room.min(self.batch.updates.len()));
        let mut urgent = false;
        self.outbox.clear();
        for at in 0..fits {
            match self.batch.updates[at] {
                Update::Sensor(device) => {
                    let sensor = self.sensors[at_sensor].name.clone();
                    self.outbox.push_sensor(&SensorChange { device, sensor });
                }
                Update::Track(at_frame) => {
                    let one_in = self.trace_one_in;
                    let (bytes, taken) = self.batch.frame_mut(at_frame);
                    let trace = &mut taken.frame.trace;
                    if !taken.found && trace.in_ratio(one_in) {
                        trace.flags |= TraceHead::SAMPLED;
                    }
                    trace.stamp(Hop::Classified, self.judged_ns);
                    trace.stamp(Hop::HandedOn, now_ns);
                    self.outbox.push_track(bytes, &taken.frame, bytes_max);
                }
                Update::Alarm(id, event) => {
                    urgent = true;
                    let owed = self.fleet.owed(&id, event);
                    let owed = owed.expect("an event is owed until its outcome is passed on");
                    let mut event = owed.event(id, None);
                    event.trace.stamp(Hop::HandedOn, now_ns);
                    self.outbox
                        .push_event(&event, bytes_max, Some(record_kind::ALARM));
                }
            }
        }
        let records = self.outbox.records();
        self.tracks.try_publish(&records, urgent).expect(
            "no more is published than there is room for, and only the consumer changes that",
        );
        let tracks = &self.batch.updates[..fits];
        let told = |update: &&Update| matches!(update, Update::Sensor(_));
        let tracks = fits - tracks.iter().filter(told).count();
        self.stats.add(Metric::TracksPassed, tracks as u64);
        let left = self.batch.updates.len() - fits;
        self.stats.add(Metric::TrackRingFull, left as u64);
        self.resync_wanted |= left > 0;
    }
}
