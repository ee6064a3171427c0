//! What became of the records on the uplink's ring, and what is owed until it is safe.

use crate::frame::{Event, Origin};
use crate::ring::Outcome;
use crate::stats::ClassifierMetric as Metric;
use crate::sys::fail::{self, Point};

use super::super::batch::Awaited;
use super::super::custody::Record;
use super::super::state::Owed;
use super::{Pipeline, switch};

impl Pipeline {
    /// Finds out what a predecessor left on the uplink's ring: outcomes that were not passed on are, and records without
    /// one are waited for. `restarted`: it died, perhaps between a switch and the resync that it owed the dispatcher.
    pub fn resume(&mut self, restarted: bool) {
        if restarted {
            self.tracks.request_resync();
        }
        for seq in self.alarms.oldest()..self.alarms.tail() {
            // A slot that does not hold its record any more was settled: only then is it overwritten.
            let kept = self.alarms.record_at(seq, &mut self.record).is_ok();
            let event = Event::decode(&self.record).ok();
            if let Some(event) = event.filter(|_| kept) {
                // A message whose frames are not free is judged again and then sends all of its events; what is here may
                // be a part of them only.
                let origin = event.origin.filter(|origin| !self.comes_again(origin));
                self.custody.sent(
                    seq,
                    Record {
                        event: event.id,
                        device: event.device,
                        origin,
                        // Nothing says what its sender wanted of it; the stricter is never wrong.
                        binds: true,
                    },
                );
            }
        }
        self.alarms.set_hold(self.custody.hold(self.alarms.tail()));
        let owed: usize = self.fleet.owing().map(|s| s.memory.owed.len()).sum();
        self.stats.set(Metric::EventsOwed, owed as u64);
        self.stats.set(Metric::Devices, self.fleet.len() as u64);
        fail::pass(Point::ClassifierResumed);
        self.pass_outcomes();
        self.emit_owed();
    }

    /// Whether the frames of a message are still to be taken from their ring.
    fn comes_again(&self, origin: &Origin) -> bool {
        self.sensors.iter().any(|sensor| {
            let identity = sensor.consumer.identity();
            (identity.ring, identity.birth) == (origin.ring, origin.birth)
                && origin.first_seq >= sensor.consumer.head()
        })
    }

    /// Passes on the outcomes that the uplink has set since.
    pub fn pass_outcomes(&mut self) {
        if self.gather_outcomes() > 0 {
            self.patience.outcomes_come();
        }
        for at in 0..self.settled.len() {
            self.pass_on(at);
        }
        self.release_records();
    }

    /// Looks which records have an outcome now; how many.
    pub fn gather_outcomes(&mut self) -> usize {
        let slots = u64::from(self.alarms.identity().geometry.slots);
        self.settled.clear();
        for seq in self.custody.pending() {
            match self.alarms.outcome((seq % slots) as u32).outcome_of(seq) {
                Outcome::Pending => {}
                outcome => self.settled.push((seq, outcome == Outcome::Accepted)),
            }
        }
        self.settled.len()
    }

    /// Answers the message that waited for an outcome, and lets go of the event if it is safe.
    pub fn pass_on(&mut self, at: usize) {
        let (seq, accepted) = self.settled[at];
        let Some(settled) = self.custody.settle(seq, accepted) else {
            return;
        };
        if let Some((origin, accepted)) = settled.answer {
            self.answer(origin, accepted);
            fail::pass(Point::ClassifierOutcome);
        }
        let device = settled.record.device;
        let owed = settled
            .accepted
            .then(|| self.fleet.settle(&device, settled.record.event));
        if let Some(berth) = owed.flatten() {
            switch(&self.fleet, berth);
            self.stats.subtract(Metric::EventsOwed, 1);
        }
        fail::pass(Point::ClassifierSettled);
    }

    /// Gives the slots of records free whose outcome was passed on, and wakes who waits for an answer.
    pub fn release_records(&mut self) {
        if self.settled.is_empty() {
            return;
        }
        self.alarms.set_hold(self.custody.hold(self.alarms.tail()));
        fail::pass(Point::ClassifierReleased);
        for sensor in &mut self.sensors {
            sensor.consumer.wake_producer();
        }
    }

    /// Answers a message, if its ring is still there.
    pub(super) fn answer(&mut self, origin: Origin, accepted: bool) {
        let sensor = self.sensors.iter_mut().find(|sensor| {
            let identity = sensor.consumer.identity();
            (identity.ring, identity.birth) == (origin.ring, origin.birth)
        });
        let Some(sensor) = sensor else { return };
        let (outcome, metric) = if accepted {
            (Outcome::Accepted, Metric::SettledAccepted)
        } else {
            (Outcome::Refused, Metric::SettledRefused)
        };
        let consumer = &mut sensor.consumer;
        consumer.set_outcome(origin.answer_index, origin.first_seq, outcome);
        self.stats.add(metric, 1);
    }

    /// Sends again what is owed and not on its way, as far as there is room.
    pub fn emit_owed(&mut self) {
        let now_ns = (self.clock)();
        let mut waiting = Vec::new();
        for state in self.fleet.owing() {
            let idle = |owed: &&Owed| !self.custody.is_in_flight(owed.id);
            let events = state.memory.owed.iter().filter(idle);
            let device = state.public.device;
            waiting.extend(events.map(|owed| Awaited::safe(device, owed.id)));
        }
        for event in waiting {
            if !self.send(&[event], None, now_ns) {
                break;
            }
            fail::pass(Point::ClassifierOwed);
        }
    }
}
