//! The stages of a batch, from the sensor rings to those of dispatcher and uplink, without any waiting but the short
//! and bounded one of `room`.
//!
//! The order is the promise: take, judge, commit outputs, say what is refused, switch states, say what is accepted,
//! free the slots. A process killed between any two of them leaves a successor that judges the same frames again on the
//! states before, or knows them as applied; either way nothing found is lost and nothing is accepted that is not safe.

mod outcomes;
mod outputs;
mod room;

use crate::frame::{Frame, MESSAGE_FRAMES_MAX, Origin};
use crate::hop::{Hop, TraceHead};
use crate::ring::{Consumer, Outcome, Producer, Violation};
use crate::stats::{ClassifierMetric as Metric, Stats};
use crate::sys::fail::{self, Point};

use super::batch::{Batch, Until, Update};
use super::custody::Custody;
use super::fleet::{Berth, Fleet};
use super::hygiene::{self, order_key};
use super::outbox::Outbox;
use super::rule::RuleSet;
use super::sensor::Sensor;
use super::state::Applied;
use super::tally::{count_change, count_found, count_standing};
use super::verdict::{Standing, classify};
use room::Patience;

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
    patience: Patience,
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

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// It is part of its device's state.
    Applied,
    /// Its device owes too much to take on all that it raises.
    NoRoom,
    /// An older one is to come before.
    OutOfTurn,
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
            patience: Patience::default(),
        }
    }

    /// Adds a sensor's ring, or replaces the one of the same number. `restarted`: a predecessor may have taken frames
    /// that are still there.
    ///
    /// The best by rank is read first: of what came in while nobody judged, a receiver in use must not seem silent only
    /// because its ring is read later.
    pub fn add_sensor(&mut self, name: &str, rank: u8, consumer: Consumer, restarted: bool) {
        let sensor = Sensor::new(name, rank, consumer, restarted, &self.stats);
        let ring = sensor.consumer.identity().ring;
        self.sensors.retain(|s| s.consumer.identity().ring != ring);
        self.sensors.push(sensor);
        self.sensors.sort_by_key(|sensor| sensor.rank);
    }

    /// Passes on outcomes, then every ring once, a batch of each; whether a frame was there.
    pub fn turn(&mut self) -> bool {
        // First, because what is no longer owed makes room for what is about to be.
        self.pass_outcomes();
        let mut busy = false;
        for at in 0..self.sensors.len() {
            if self.take(at) {
                busy = true;
                fail::pass(Point::ClassifierTaken);
                self.judge(at);
                fail::pass(Point::ClassifierJudged);
                self.commit_outputs(at);
                fail::pass(Point::ClassifierOutputs);
                self.refuse(at);
                fail::pass(Point::ClassifierRefused);
                self.switch_states();
                fail::pass(Point::ClassifierSwitched);
                self.accept(at);
                fail::pass(Point::ClassifierAccepted);
                self.free(at);
            }
        }
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
            // A message that says to have begun elsewhere would be answered there, and block that word for others.
            let frame = Frame::decode(&self.record).ok();
            let frame = frame.filter(|frame| {
                let ahead = seq.checked_sub(frame.message_first_seq);
                ahead.is_some_and(|ahead| ahead < MESSAGE_FRAMES_MAX as u64)
            });
            let Some(mut frame) = frame else {
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
            one.berth = self.fleet.find(one.frame.device);
            one.applied = one.berth.is_some_and(|berth| {
                let memory = &self.fleet.state(berth).memory;
                memory.has_applied(identity.ring, identity.birth, one.seq)
            });
        }
        taken.sort_by_key(|one| order_key(&one.frame));
        for frame in frames.clone() {
            self.judge_frame(at, message, frame);
        }
        // Only now: a state that gets into the table before, because an outcome came, must not count the others in.
        for frame in frames {
            let taken = &self.batch.frames[frame];
            if let Some(berth) = taken.berth.filter(|_| taken.judged) {
                let (ring, birth, seq) = (identity.ring, identity.birth, taken.seq);
                let memory = &mut self.fleet.state_mut(berth).memory;
                memory.note_applied(Applied { ring, birth, seq });
                self.batch.note_dirty(berth);
            }
        }
    }

    /// Judges a frame, as often as it takes to find room for all that it raises.
    fn judge_frame(&mut self, at: usize, message: usize, at_frame: usize) {
        let Some(berth) = self.batch.frames[at_frame].berth else {
            self.stats.add(Metric::RejectedTableFull, 1);
            self.batch.messages[message].refused = true;
            return;
        };
        let resent = self.batch.messages[message].answer_index.is_some();
        let passed = if self.batch.blocked.contains(&berth) {
            let frame = &self.batch.frames[at_frame].frame;
            let time = hygiene::time_of(frame, self.rules.future_max_ms);
            let state = self.fleet.state_mut(berth);
            state.widen_gap(time.ok().filter(|_| resent));
            Passed::NoRoom
        } else {
            loop {
                let passed = self.try_judge(at, message, at_frame, berth);
                if passed != Passed::NoRoom || !self.make_room(at, message, berth) {
                    break passed;
                }
            }
        };
        if passed != Passed::Applied {
            self.stats.add(Metric::RejectedNotApplied, 1);
            self.batch.messages[message].refused = true;
            self.batch.note_dirty(berth);
        }
        if passed == Passed::NoRoom {
            self.batch.blocked.push(berth);
        }
    }

    /// Judges a frame and applies it, if there is room for all that it raises and no older one is to come before.
    fn try_judge(&mut self, at: usize, message: usize, at_frame: usize, berth: Berth) -> Passed {
        let sensor = &self.sensors[at];
        let batch = &mut self.batch;
        let taken = &mut batch.frames[at_frame];
        let id = taken.frame.device;
        let state = self.fleet.state_mut(berth);
        let (mut waits, mut found, mut passed) = (Some(Until::Safe), 0, Passed::Applied);
        if taken.applied {
            self.stats.add(Metric::Redelivered, 1);
        } else {
            let turn = state.hear(&taken.frame, sensor.rank, &self.rules);
            if let Some(change) = turn.change {
                count_change(&self.stats, change);
            }
            let verdict = classify(state, &taken.frame, turn, &self.rules);
            if !verdict.transitions.is_empty() {
                taken.frame.trace.stamp(Hop::Classified, (self.clock)());
            }
            let resent = batch.messages[message].answer_index.is_some();
            let known = &state.public.sensor;
            let elsewhere = !known.is_empty() && *known != sensor.name;
            let outcome = state.apply_in_turn(&taken.frame, &sensor.name, &verdict, resent);
            waits = match (verdict.perhaps_known, verdict.ends) {
                (true, _) => Some(Until::Safe),
                (false, true) => Some(Until::Decided),
                (false, false) => None,
            };
            found = outcome.found;
            taken.found |= found > 0;
            self.stats
                .add(Metric::AlarmsOverLimit, outcome.over_limit as u64);
            if outcome.shown {
                if elsewhere {
                    batch.updates.push(Update::Sensor(id));
                }
                batch.updates.push(Update::Track(at_frame));
            }
            if outcome.out_of_turn {
                return Passed::OutOfTurn;
            }
            if outcome.applied {
                count_standing(&self.stats, verdict.standing);
                taken.judged = verdict.standing != Standing::Repeated;
            } else {
                passed = Passed::NoRoom;
            }
        }
        let owed = &state.memory.owed;
        if owed.is_empty() {
            return passed;
        }
        let (before, new) = owed.split_at(owed.len() - found);
        for event in new {
            count_found(&self.stats, event);
            batch.updates.push(Update::Alarm(id, event.id));
        }
        let awaits = batch.messages[message].answer_index.is_some();
        for event in before {
            if let Some(until) = waits.filter(|_| awaits) {
                batch.messages[message].wait_for(id, event.id, until);
            } else if !self.custody.is_in_flight(event.id) && !batch.sends(event.id) {
                batch.loose.push((id, event.id));
            }
        }
        for event in new {
            batch.messages[message].wait_for(id, event.id, Until::Safe);
        }
        if found > 0 {
            self.fleet.note_owing(id);
        }
        passed
    }

    /// Says which messages cannot be accepted. Before the states are switched: a successor that knows the frames as
    /// applied must not accept a message of which something was left out.
    pub fn refuse(&mut self, at: usize) {
        for at_message in 0..self.batch.messages.len() {
            let message = &mut self.batch.messages[at_message];
            if message.refused {
                let kept_open = message.kept_open.take();
                self.end_message(at, at_message, kept_open, false);
            }
        }
    }

    /// Makes the states of the batch those in the table.
    pub fn switch_states(&mut self) {
        for berth in &self.batch.dirty {
            switch(&self.fleet, *berth);
            fail::pass(Point::ClassifierSwitching);
        }
        if self.resync_wanted {
            self.resync_wanted = false;
            self.tracks.request_resync();
        }
        self.stats.set(Metric::Devices, self.fleet.len() as u64);
    }

    /// Accepts the messages that raised nothing and wait for nothing.
    pub fn accept(&mut self, at: usize) {
        for at_message in 0..self.batch.messages.len() {
            let message = &mut self.batch.messages[at_message];
            let kept_open = message.kept_open.take();
            if !message.refused && (message.events.is_empty() || kept_open.is_some()) {
                self.end_message(at, at_message, kept_open, true);
            }
        }
    }

    /// Answers a message, through custody if records of it were sent before all of it was judged.
    fn end_message(&mut self, at: usize, at_message: usize, kept_open: Option<Origin>, yes: bool) {
        if let Some(origin) = kept_open {
            if let Some((origin, accepted)) = self.custody.close(origin, yes) {
                self.answer(origin, accepted);
            }
            return;
        }
        let message = &self.batch.messages[at_message];
        let Some(index) = message.answer_index else {
            return;
        };
        let (outcome, metric) = if yes {
            (Outcome::Accepted, Metric::SettledAccepted)
        } else {
            (Outcome::Refused, Metric::SettledRefused)
        };
        let consumer = &mut self.sensors[at].consumer;
        consumer.set_outcome(index, message.first_seq, outcome);
        self.stats.add(metric, 1);
    }

    /// Gives the slots of the batch back, and wakes who waits for that or for an answer.
    pub fn free(&mut self, at: usize) {
        let consumer = &mut self.sensors[at].consumer;
        consumer.advance(self.batch.end_seq);
        fail::pass(Point::ClassifierHead);
        consumer.wake_producer();
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

/// Makes a device's state the one in the table.
fn switch(fleet: &Fleet, berth: Berth) {
    if let Err(error) = fleet.switch(berth) {
        // Only by names longer than configuration lets through: the table keeps the state before.
        tracing::error!(%error, "the state of a device is not kept");
    }
}

#[cfg(test)]
mod tests;
