//! The stages of a batch, from the sensor rings to those of dispatcher and uplink, without any waiting.
//!
//! The order is the promise: take, judge, commit outputs, say what is refused, switch states, say what is accepted,
//! free the slots. A process killed between any two of them leaves a successor that judges the same frames again on the
//! states before, or knows them as applied; either way nothing found is lost and nothing is accepted that is not safe.

use std::sync::Arc;

use crate::frame::{DeviceId, Event, EventId, Frame, Origin, Phase};
use crate::hop::{Hop, TraceHead};
use crate::ring::{Consumer, Outcome, Producer, Violation};
use crate::stats::{ClassifierMetric as Metric, Stats};

use super::batch::{BATCH_FRAMES_MAX, Batch, MESSAGE_FRAMES_MAX, Update};
use super::custody::{Custody, Record};
use super::fleet::Fleet;
use super::hygiene::{Rejection, order_key};
use super::outbox::{ALARM, Outbox};
use super::rule::RuleSet;
use super::state::{Applied, Owed};
use super::verdict::{Standing, classify};

/// A sensor's ring.
pub struct Sensor {
    name: Arc<str>,
    consumer: Consumer,
    /// Frames before this sequence may have been taken by a predecessor that died.
    redelivered_below: u64,
    /// What its producer did wrong, until it was told to whoever asks.
    violation: Option<Violation>,
}

/// What the classifier holds.
pub struct Pipeline {
    rules: RuleSet,
    trace_one_in: u32,
    sensors: Vec<Sensor>,
    tracks: Producer,
    alarms: Producer,
    fleet: Fleet,
    custody: Custody,
    stats: Stats<Metric>,
    clock: fn() -> u64,
    batch: Batch,
    outbox: Outbox,
    record: Vec<u8>,
    settled: Vec<(u64, bool)>,
    /// When the batch was judged, ns.
    judged_ns: u64,
    /// The dispatcher missed something of this batch.
    resync_wanted: bool,
}

/// What a pipeline is made of.
pub struct Parts {
    /// What is looked for.
    pub rules: RuleSet,
    /// One frame in this many is traced although it raised nothing; 0: none.
    pub trace_one_in: u32,
    /// The ring to the dispatcher.
    pub tracks: Producer,
    /// The ring to the uplink.
    pub alarms: Producer,
    /// The states.
    pub fleet: Fleet,
    /// What is counted.
    pub stats: Stats<Metric>,
    /// The monotonic clock, ns.
    pub clock: fn() -> u64,
}

impl Pipeline {
    /// A pipeline without sensors. Before the first batch, the sensors are added and [`Pipeline::resume`] is called.
    pub fn new(parts: Parts) -> Pipeline {
        Pipeline {
            rules: parts.rules,
            trace_one_in: parts.trace_one_in,
            sensors: Vec::new(),
            tracks: parts.tracks,
            alarms: parts.alarms,
            fleet: parts.fleet,
            custody: Custody::default(),
            stats: parts.stats,
            clock: parts.clock,
            batch: Batch::default(),
            outbox: Outbox::default(),
            record: Vec::new(),
            settled: Vec::new(),
            judged_ns: 0,
            resync_wanted: false,
        }
    }

    /// Adds a sensor's ring, or replaces the one of the same number. `restarted`: a predecessor may have taken frames
    /// that are still there.
    pub fn add_sensor(&mut self, name: &str, mut consumer: Consumer, restarted: bool) {
        let ring = consumer.identity().ring;
        // One batch at most is taken and not freed. A violation is found again when frames are taken.
        let waiting = consumer.available().unwrap_or(0);
        let taken = waiting.min((BATCH_FRAMES_MAX + MESSAGE_FRAMES_MAX) as u64);
        let sensor = Sensor {
            name: name.into(),
            redelivered_below: if restarted {
                consumer.head() + taken
            } else {
                0
            },
            consumer,
            violation: None,
        };
        self.sensors.retain(|s| s.consumer.identity().ring != ring);
        self.sensors.push(sensor);
    }

    /// Finds out what a predecessor left on the uplink's ring: outcomes that were not passed on are, and records without
    /// one are waited for.
    pub fn resume(&mut self) {
        for seq in self.alarms.oldest()..self.alarms.tail() {
            // A slot that does not hold its record any more was settled: only then is it overwritten.
            let kept = self.alarms.record_at(seq, &mut self.record).is_ok();
            let event = Event::decode(&self.record).ok();
            if let Some(event) = event.filter(|_| kept) {
                self.custody.sent(
                    seq,
                    Record {
                        event: event.id,
                        device: event.device,
                        origin: event.origin,
                    },
                );
            }
        }
        self.alarms.set_hold(self.custody.hold(self.alarms.tail()));
        let owed: usize = self.fleet.owing().map(|s| s.memory.owed.len()).sum();
        self.stats.set(Metric::EventsOwed, owed as u64);
        self.stats.set(Metric::Devices, self.fleet.len() as u64);
        self.pass_outcomes();
        self.emit_owed();
    }

    /// Passes every ring once, a batch of each; whether anything was there.
    pub fn turn(&mut self) -> bool {
        let mut busy = false;
        for at in 0..self.sensors.len() {
            if self.take(at) {
                busy = true;
                self.judge(at);
                self.commit_outputs(at);
                self.refuse(at);
                self.switch_states();
                self.accept(at);
                self.free(at);
            }
        }
        self.pass_outcomes();
        busy
    }

    /// Takes a batch from a sensor's ring; whether there was any frame.
    pub fn take(&mut self, at: usize) -> bool {
        let sensor = &mut self.sensors[at];
        let from = sensor.consumer.head();
        self.batch.clear(from);
        // A quarantined ring keeps its frames; they are told of once, when the violation was found.
        let Ok(available) = sensor.count_available(&self.stats) else {
            return false;
        };
        if available == 0 {
            return false;
        }
        let now_ns = (self.clock)();
        let mut taken = 0;
        for seq in from..from + available {
            if let Err(violation) = sensor.consumer.read(seq, &mut self.record) {
                sensor.note_violation(violation, &self.stats);
                break;
            }
            taken += 1;
            self.batch.end_seq = seq + 1;
            let Ok(mut frame) = Frame::decode(&self.record) else {
                self.stats.add(Metric::RejectedBadFrame, 1);
                continue;
            };
            frame.trace.stamp(Hop::Taken, now_ns);
            frame.trace.flags = 0;
            if seq < sensor.redelivered_below {
                frame.trace.flags = TraceHead::REDELIVERED;
            }
            self.batch.push(seq, frame, &self.record);
            if self.batch.is_full() {
                break;
            }
        }
        self.stats.add(Metric::Frames, taken);
        taken > 0
    }

    /// Judges the batch. States change here and not yet in the table.
    pub fn judge(&mut self, at: usize) {
        for message in 0..self.batch.messages.len() {
            self.judge_message(at, message);
        }
        self.judged_ns = (self.clock)();
    }

    fn judge_message(&mut self, at: usize, message: usize) {
        let identity = self.sensors[at].consumer.identity();
        let frames = self.batch.messages[message].frames.clone();
        let taken = &mut self.batch.frames[frames.clone()];
        // Before anything of the message is applied: its frames are judged in another order than they were numbered.
        for one in taken.iter_mut() {
            let state = self.fleet.state(&one.frame.device);
            one.applied =
                state.is_some_and(|s| s.memory.has_applied(identity.ring, identity.birth, one.seq));
        }
        taken.sort_by_key(|one| order_key(&one.frame));
        for frame in frames {
            self.judge_frame(at, message, frame);
        }
    }

    fn judge_frame(&mut self, at: usize, message: usize, at_frame: usize) {
        let sensor = &self.sensors[at];
        let identity = sensor.consumer.identity();
        let batch = &mut self.batch;
        let taken = &mut batch.frames[at_frame];
        let id = taken.frame.device;
        let Some(device) = self.fleet.device(id) else {
            self.stats.add(Metric::RejectedTableFull, 1);
            batch.messages[message].refused = true;
            return;
        };
        let state = &mut device.state;
        let mut perhaps_known = true;
        let mut found = 0;
        if taken.applied {
            self.stats.add(Metric::Redelivered, 1);
        } else {
            let verdict = classify(state, &taken.frame, &self.rules);
            count_standing(&self.stats, verdict.standing);
            if !verdict.transitions.is_empty() {
                taken.frame.trace.stamp(Hop::Classified, (self.clock)());
            }
            let outcome = state.apply(&taken.frame, &sensor.name, &verdict);
            perhaps_known = verdict.perhaps_known;
            found = outcome.found;
            taken.found = found > 0;
            self.stats
                .add(Metric::AlarmsOverLimit, outcome.over_limit as u64);
            if outcome.applied && verdict.standing != Standing::Repeated {
                state.memory.note_applied(Applied {
                    ring: identity.ring,
                    birth: identity.birth,
                    seq: taken.seq,
                });
                batch.note_dirty(id);
                if verdict.shown {
                    batch.updates.push(Update::Track(at_frame));
                }
            } else if !outcome.applied {
                self.stats.add(Metric::RejectedNotApplied, 1);
                batch.messages[message].refused = true;
                if found > 0 {
                    batch.note_dirty(id);
                }
            }
        }
        let owed = &device.state.memory.owed;
        if owed.is_empty() {
            return;
        }
        let (before, new) = owed.split_at(owed.len() - found);
        for event in new {
            count_found(&self.stats, event);
            batch.updates.push(Update::Alarm(id, event.id));
        }
        let awaits = batch.messages[message].answer_index.is_some();
        for event in before {
            if awaits && perhaps_known {
                note(&mut batch.messages[message].events, id, event.id);
            } else if !self.custody.is_in_flight(event.id) && !batch.sends(event.id) {
                batch.loose.push((id, event.id));
            }
        }
        for event in new {
            note(&mut batch.messages[message].events, id, event.id);
        }
        if found > 0 {
            self.fleet.note_owing(id);
        }
    }

    /// Commits what the uplink and the dispatcher are to get. A message whose events do not all fit the uplink's ring
    /// is refused, and its events stay owed.
    pub fn commit_outputs(&mut self, at: usize) {
        let now_ns = (self.clock)();
        let identity = self.sensors[at].consumer.identity();
        for at_message in 0..self.batch.messages.len() {
            let message = &mut self.batch.messages[at_message];
            if message.events.is_empty() {
                continue;
            }
            let events = std::mem::take(&mut message.events);
            // Nobody waits for a message that is refused already; what was found in it is on its way all the same.
            let waits = message.answer_index.filter(|_| !message.refused);
            let origin = waits.map(|answer_index| Origin {
                ring: identity.ring,
                birth: identity.birth,
                first_seq: message.first_seq,
                answer_index,
            });
            let sent = self.send(&events, origin, now_ns);
            let message = &mut self.batch.messages[at_message];
            message.refused |= !sent;
            message.events = events;
        }
        for at_loose in 0..self.batch.loose.len() {
            let event = self.batch.loose[at_loose];
            self.send(&[event], None, now_ns);
        }
        self.commit_updates(now_ns);
    }

    /// Sends events that their devices owe, all in one commit or none.
    fn send(
        &mut self,
        events: &[(DeviceId, EventId)],
        origin: Option<Origin>,
        now_ns: u64,
    ) -> bool {
        self.outbox.clear();
        for (id, event) in events {
            let owed = self.fleet.owed(id, *event);
            let owed = owed.expect("an event is owed until its outcome is passed on");
            let mut event = owed.event(*id, origin);
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
        for (seq, &(device, event)) in (first..).zip(events) {
            let record = Record {
                event,
                device,
                origin,
            };
            self.custody.sent(seq, record);
        }
        true
    }

    /// Commits tracks and alarms to the dispatcher's ring, as many as fit. What does not is found in the state table,
    /// which the dispatcher is asked to read again once the states are switched.
    fn commit_updates(&mut self, now_ns: u64) {
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
                    self.outbox.push_event(&event, bytes_max, Some(ALARM));
                }
            }
        }
        let records = self.outbox.records();
        self.tracks.try_publish(&records, urgent).expect(
            "no more is published than there is room for, and only the consumer changes that",
        );
        self.stats.add(Metric::TracksPassed, fits as u64);
        let left = self.batch.updates.len() - fits;
        self.stats.add(Metric::TrackRingFull, left as u64);
        self.resync_wanted |= left > 0;
    }

    /// Says which messages cannot be accepted. Before the states are switched: a successor that knows the frames as
    /// applied must not accept a message of which something was left out.
    pub fn refuse(&mut self, at: usize) {
        let sensor = &mut self.sensors[at];
        for message in self.batch.messages.iter().filter(|m| m.refused) {
            if let Some(index) = message.answer_index {
                sensor
                    .consumer
                    .set_outcome(index, message.first_seq, Outcome::Refused);
                self.stats.add(Metric::SettledRefused, 1);
            }
        }
    }

    /// Makes the states of the batch those in the table.
    pub fn switch_states(&mut self) {
        for id in &self.batch.dirty {
            switch(&self.fleet, id);
        }
        if self.resync_wanted {
            self.resync_wanted = false;
            self.tracks.request_resync();
        }
        self.stats.set(Metric::Devices, self.fleet.len() as u64);
    }

    /// Accepts the messages that raised nothing and wait for nothing.
    pub fn accept(&mut self, at: usize) {
        let sensor = &mut self.sensors[at];
        let messages = self.batch.messages.iter();
        for message in messages.filter(|m| !m.refused && m.events.is_empty()) {
            if let Some(index) = message.answer_index {
                sensor
                    .consumer
                    .set_outcome(index, message.first_seq, Outcome::Accepted);
                self.stats.add(Metric::SettledAccepted, 1);
            }
        }
    }

    /// Gives the slots of the batch back, and wakes who waits for that or for an answer.
    pub fn free(&mut self, at: usize) {
        let consumer = &mut self.sensors[at].consumer;
        consumer.advance(self.batch.end_seq);
        consumer.wake_producer();
    }

    /// Passes on the outcomes that the uplink has set since.
    pub fn pass_outcomes(&mut self) {
        self.gather_outcomes();
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
        }
        let device = settled.record.device;
        if settled.accepted && self.fleet.settle(&device, settled.record.event) {
            switch(&self.fleet, &device);
            self.stats.subtract(Metric::EventsOwed, 1);
        }
    }

    /// Gives the slots of records free whose outcome was passed on, and wakes who waits for an answer.
    pub fn release_records(&mut self) {
        if self.settled.is_empty() {
            return;
        }
        self.alarms.set_hold(self.custody.hold(self.alarms.tail()));
        for sensor in &mut self.sensors {
            sensor.consumer.wake_producer();
        }
    }

    /// Answers a message, if its ring is still there.
    fn answer(&mut self, origin: Origin, accepted: bool) {
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
            waiting.extend(events.map(|owed| (state.public.device, owed.id)));
        }
        for event in waiting {
            if !self.send(&[event], None, now_ns) {
                break;
            }
        }
    }

    /// Whether nothing more can come: every sensor's ring is closed and empty or quarantined, and no outcome pending.
    pub fn is_finished(&mut self) -> bool {
        let mut sensors = self.sensors.iter_mut();
        // The end first: what was committed before it is counted after it.
        let all_ended =
            sensors.all(|s| s.consumer.closed() && !matches!(s.consumer.available(), Ok(1..)));
        all_ended && self.custody.is_idle()
    }

    /// Ring and reason of a producer that broke the rules, each once.
    pub fn next_violation(&mut self) -> Option<(u32, Violation)> {
        self.sensors.iter_mut().find_map(|sensor| {
            let violation = sensor.violation.take()?;
            Some((sensor.consumer.identity().ring, violation))
        })
    }

    /// Says to dispatcher and uplink that nothing more will come.
    pub fn close(self) {
        self.tracks.close();
        self.alarms.close();
    }
}

impl Sensor {
    fn count_available(&mut self, stats: &Stats<Metric>) -> Result<u64, Violation> {
        let quarantined = self.consumer.violation().is_some();
        self.consumer.available().inspect_err(|&violation| {
            if !quarantined {
                self.note_violation(violation, stats);
            }
        })
    }

    fn note_violation(&mut self, violation: Violation, stats: &Stats<Metric>) {
        stats.add(Metric::RingViolations, 1);
        self.violation = Some(violation);
    }
}

/// Makes a device's state the one in the table.
fn switch(fleet: &Fleet, id: &DeviceId) {
    if let Err(error) = fleet.switch(id) {
        // Only by names longer than configuration lets through: the table keeps the state before.
        tracing::error!(device = %id, %error, "device state is not kept");
    }
}

/// Adds an event to those that a message waits for.
fn note(events: &mut Vec<(DeviceId, EventId)>, device: DeviceId, event: EventId) {
    if !events.iter().any(|known| known.1 == event) {
        events.push((device, event));
    }
}

fn count_found(stats: &Stats<Metric>, event: &Owed) {
    stats.add(
        match event.phase {
            Phase::Raise => Metric::EventsRaised,
            Phase::Clear => Metric::EventsCleared,
        },
        1,
    );
    stats.add(Metric::EventsLate, u64::from(event.late));
    stats.add(Metric::EventsOwed, 1);
}

fn count_standing(stats: &Stats<Metric>, standing: Standing) {
    let metric = match standing {
        Standing::Newest => return,
        Standing::Late => Metric::RejectedLate,
        Standing::Repeated => Metric::RejectedDuplicate,
        Standing::Rejected(Rejection::Future) => Metric::RejectedFuture,
        Standing::Rejected(Rejection::OutOfRange) => Metric::RejectedOutOfRange,
        Standing::Rejected(Rejection::Jump) => Metric::RejectedJump,
        Standing::Rejected(
            Rejection::NoTime | Rejection::NoPosition | Rejection::Zero | Rejection::Invalid,
        ) => Metric::RejectedInvalid,
    };
    stats.add(metric, 1);
}

#[cfg(test)]
mod tests;
