//! The verdict on one frame: a pure function of the device's state, the frame and the rules, and its application to
//! the state.
//!
//! Promises that judging the same frame on the same state gives the same events with the same ids, whenever and however
//! often it is done, and that a frame is applied as a whole or, for want of room for what it would owe, not at all.

use crate::frame::{AlarmKind, Alarms, DEVICE_RULE, FixFields, Frame, Phase};
use crate::hop::TraceHead;

use super::alarm::{Alarming, Transition};
use super::fence::Side;
use super::hygiene::{self, Rejection};
use super::place::Place;
use super::receiver::{Reported, Turn};
use super::rule::{OVERSPEED, RuleSet, Speeding};
use super::state::{Course, DeviceState, OWED_EVENTS_MAX, OpenSpell, Owed, Spell, spell_key};

/// What a frame's position is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The newest believed position of its device.
    Newest,
    /// Not newer than the newest.
    Late,
    /// Among the last reports already: changes nothing.
    Repeated,
    /// Not used by rules.
    Rejected(Rejection),
    /// Not used at all: a better receiver of the vehicle is.
    Outranked,
}

/// What follows from a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What its position is good for.
    pub standing: Standing,
    /// Whether it moves what subscribers see.
    pub shown: bool,
    /// Whether the device may have sent it before: it repeats or is not newer than the newest report. What is owed
    /// may stem from it, so its answer waits for that.
    pub perhaps_known: bool,
    /// When the device says that it reported, if that can be believed.
    pub time_ms: Option<i64>,
    /// Whether it ends something that went on: a button is released, a speed is fair again before it was too high for
    /// long. Its answer waits until it is decided what becomes of events found before it.
    pub ends: bool,
    /// Steps in the lives of alarms, in the order in which they happened.
    pub transitions: Vec<Transition>,
    turn: Turn,
    live: Course,
    history: Course,
    /// Whether the report belongs to the course of the late ones.
    pub(super) late_report: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it is part of the state now; if not, its message is to be refused.
    pub applied: bool,
    /// Events found: so many at the end of what is owed.
    pub found: usize,
    /// Steps that the state has no room for although nothing is owed: more alarms are open than a device may have. Its
    /// reports are not applied until some of them end.
    pub over_limit: usize,
    /// Whether the position was taken over for those who watch.
    pub shown: bool,
    /// Whether it waits for an older report, so that more room would not help.
    pub out_of_turn: bool,
}

/// Marks the digest of a report whose position did not count: another receiver may state the same, and then it does.
const ASIDE: u64 = 0x5555_5555_5555_5555;

/// Judges a frame of the device whose state is given and which has heard it.
pub fn classify(state: &DeviceState, frame: &Frame, turn: Turn, rules: &RuleSet) -> Verdict {
    let memory = &state.memory;
    let mut live = memory.live;
    let reported = state.receivers.reported(turn.rank);
    if let Some(reported) = reported {
        (live.report_ms, live.momentary) = (reported.report_ms, reported.momentary);
    }
    let time = hygiene::time_of(frame, rules.future_max_ms);
    let mut verdict = Verdict {
        standing: Standing::Repeated,
        shown: false,
        perhaps_known: true,
        time_ms: time.ok(),
        ends: false,
        transitions: Vec::new(),
        turn,
        live,
        history: memory.history,
        late_report: false,
    };
    // A report without a time is the same whenever nothing changed, so only the last one can tell that it repeats.
    let known = |digest| match time {
        Err(Rejection::NoTime) => memory.seen.ends_with(digest),
        _ => memory.seen.contains(digest),
    };
    let known_aside = !(turn.counts && reported.is_none()) && known(frame.digest ^ ASIDE);
    if known(frame.digest) || known_aside && !turn.counts {
        return verdict;
    }
    verdict.judge_report(state, frame, known_aside);
    match time.and_then(|_| hygiene::usable(&frame.fix)) {
        _ if !turn.counts => verdict.standing = Standing::Outranked,
        Ok(place) => verdict.judge_place(state, frame, place, rules),
        Err(rejection) => verdict.standing = Standing::Rejected(rejection),
    }
    verdict.ends = verdict.live.ends(&live) || verdict.history.ends(&memory.history);
    let drawable = match verdict.standing {
        Standing::Newest => true,
        Standing::Rejected(Rejection::Invalid) => hygiene::shown(&frame.fix).is_ok(),
        _ => false,
    };
    let shown = &state.public.fix;
    verdict.shown =
        drawable && (!shown.fields.has(FixFields::TIME) || frame.fix.time_ms > shown.time_ms);
    verdict
}

impl Verdict {
    /// What the device itself says, position or not. Reports of the same second are in the order of their arrival.
    /// `known`: another receiver has said the very same.
    fn judge_report(&mut self, state: &DeviceState, frame: &Frame, known: bool) {
        let time_ms = self.time_ms;
        let older_than =
            |course: &Course| matches!((time_ms, course.report_ms), (Some(t), Some(r)) if t < r);
        let late = older_than(&self.live);
        let newest_ms = self.live.report_ms;
        self.late_report = late;
        self.perhaps_known = time_ms.is_none_or(|t| newest_ms.is_some_and(|newest| t <= newest));
        let course = if late {
            &mut self.history
        } else {
            &mut self.live
        };
        let nothing = frame.held.0 | frame.momentary.0 | course.momentary.0 == 0;
        if !known && (!nothing || state.has_open()) {
            let alarming = Alarming {
                state,
                at_ms: time_ms.unwrap_or(frame.received_ms),
                late,
                backwards: late && older_than(course),
            };
            let before = course.momentary;
            let mut held = frame.held;
            if !late {
                held.0 |= state.receivers.held_by_others(self.turn.rank).0;
            }
            alarming.reported(
                &mut self.transitions,
                held,
                frame.momentary,
                before,
                frame.digest,
            );
        }
        course.momentary = frame.momentary;
        course.report_ms = course.report_ms.max(time_ms);
    }

    /// What follows from the position.
    fn judge_place(&mut self, state: &DeviceState, frame: &Frame, place: Place, rules: &RuleSet) {
        let not_newer = |course: &Course| {
            course
                .place
                .is_some_and(|newest| place.time_ms <= newest.time_ms)
        };
        let late = not_newer(&self.live);
        let course = if late {
            &mut self.history
        } else {
            &mut self.live
        };
        let backwards = late && not_newer(course);
        let jumps = course
            .place
            .is_some_and(|p| p.jumps_to(&place, &rules.jump));
        if jumps && course.jumps < rules.jump.jumps_max {
            course.jumps += 1;
            self.standing = Standing::Rejected(Rejection::Jump);
            return;
        }
        course.jumps = 0;
        course.place = Some(place);
        self.standing = if late {
            Standing::Late
        } else {
            Standing::Newest
        };
        let alarming = Alarming {
            state,
            at_ms: place.time_ms,
            late,
            backwards,
        };
        if backwards {
            course.over_since_ms = None;
        }
        course.over_since_ms = judge_speed(
            &alarming,
            &mut self.transitions,
            course.over_since_ms,
            frame,
            rules,
        );
        judge_fences(&alarming, &mut self.transitions, frame, rules);
    }
}

/// The overspeed rule; gives the start of the run above the limit that is not raised yet.
fn judge_speed(
    alarming: &Alarming<'_>,
    out: &mut Vec<Transition>,
    since_ms: Option<i64>,
    frame: &Frame,
    rules: &RuleSet,
) -> Option<i64> {
    let kind = AlarmKind::Overspeed;
    let open_since = alarming.open_since(kind, OVERSPEED);
    let Some(rule) = &rules.overspeed else {
        // The rule was configured away while its alarm was open.
        if let Some(start_ms) = open_since {
            alarming.clear(out, kind, OVERSPEED, start_ms);
        }
        return None;
    };
    if !frame.fix.fields.has(FixFields::SPEED) {
        return since_ms;
    }
    let raised = open_since.is_some();
    match Speeding::judge(rule, since_ms, raised, alarming.at_ms, frame.fix.speed_mm_s) {
        Speeding::No | Speeding::Stays => None,
        Speeding::Since(start_ms) => Some(start_ms),
        Speeding::Raise(start_ms) => {
            alarming.raise(out, kind, OVERSPEED, start_ms);
            None
        }
        Speeding::Clear => {
            if let Some(start_ms) = open_since {
                alarming.clear(out, kind, OVERSPEED, start_ms);
            }
            None
        }
    }
}

/// The fences.
fn judge_fences(
    alarming: &Alarming<'_>,
    out: &mut Vec<Transition>,
    frame: &Frame,
    rules: &RuleSet,
) {
    let kind = AlarmKind::Geofence;
    for fence in &rules.fences {
        let side = fence.side(&frame.fix);
        match (alarming.open_since(kind, fence.name()), side) {
            (None, Side::Inside) => alarming.raise(out, kind, fence.name(), alarming.at_ms),
            (Some(start_ms), Side::Outside) => alarming.clear(out, kind, fence.name(), start_ms),
            _ => {}
        }
    }
    // Fences that were configured away while a vehicle was inside.
    for (open, rule, start_ms) in alarming.open() {
        if open == kind && rule != DEVICE_RULE && rules.fences.iter().all(|f| f.name() != rule) {
            alarming.clear(out, kind, rule, start_ms);
        }
    }
}

impl DeviceState {
    /// Applies a verdict on `frame`, which came in by `sensor`. Where what it finds does not fit beside what is owed
    /// already, the state stays as it was. Where it does not fit although nothing was owed, as much as fits is taken,
    /// so that the same frame sent again gets further: a device with many faults at once must not be stuck for ever. What
    /// has no room even then stays out with the rest of the frame, but for the position, which subscribers go on to see.
    pub fn apply(&mut self, frame: &Frame, sensor: &str, verdict: &Verdict) -> Outcome {
        let mut outcome = Outcome {
            applied: true,
            ..Outcome::default()
        };
        if verdict.standing == Standing::Repeated {
            return outcome;
        }
        if !verdict.transitions.is_empty() {
            let before = self.clone();
            outcome = self.take_all(frame, sensor, &verdict.transitions);
            if !outcome.applied {
                if !before.memory.owed.is_empty() {
                    *self = before;
                    outcome.found = 0;
                }
                if outcome.over_limit > 0 {
                    outcome.shown = self.show(frame, sensor, verdict);
                }
                return outcome;
            }
        }
        self.note_report(frame, verdict);
        outcome.shown = self.show(frame, sensor, verdict);
        outcome
    }

    /// Takes the position over for those who watch; whether it is to be.
    pub(super) fn show(&mut self, frame: &Frame, sensor: &str, verdict: &Verdict) -> bool {
        if verdict.shown {
            self.public.fix = frame.fix;
            self.public.received_ms = frame.received_ms;
            if self.public.sensor != sensor {
                sensor.clone_into(&mut self.public.sensor);
            }
        }
        verdict.shown
    }

    /// Takes transitions in their order until one finds no room.
    fn take_all(&mut self, frame: &Frame, sensor: &str, transitions: &[Transition]) -> Outcome {
        let owed = self.memory.owed.len();
        let mut outcome = Outcome {
            applied: true,
            ..Outcome::default()
        };
        for transition in transitions {
            let full = !transition.silent && self.memory.owed.len() == OWED_EVENTS_MAX;
            let before = self.clone();
            if !full {
                self.take(transition, frame, sensor);
            }
            if full || !self.make_room() {
                *self = before;
                outcome.applied = false;
                // What is owed goes away by itself; with nothing owed, waiting would not help.
                if self.memory.owed.is_empty() {
                    outcome.over_limit += 1;
                } else {
                    break;
                }
            }
        }
        outcome.found = self.memory.owed.len() - owed;
        outcome
    }

    /// Takes one step in the life of an alarm.
    fn take(&mut self, step: &Transition, frame: &Frame, sensor: &str) {
        if step.phase == Phase::Clear {
            self.close(step);
        }
        if step.phase == Phase::Clear || !step.held {
            self.memory.note_spell(Spell::of(step));
        }
        if step.silent {
            return;
        }
        let mut trace = frame.trace;
        // The uplink owns the trace of a frame that found something, whatever the sampling ratio is.
        trace.flags |= TraceHead::SAMPLED;
        let owed = Owed {
            id: step.id,
            kind: step.kind,
            phase: step.phase,
            severity: step.kind.severity(),
            late: step.late,
            rule: step.rule.clone(),
            start_ms: step.start_ms,
            fix: frame.fix,
            received_ms: frame.received_ms,
            sensor: sensor.to_owned(),
            trace,
        };
        if step.phase == Phase::Raise && step.held {
            self.open(&owed);
        }
        self.memory.owed.push(owed);
    }

    fn open(&mut self, raised: &Owed) {
        if raised.late {
            let spell = OpenSpell::new(raised.kind, &raised.rule, raised.start_ms);
            self.memory.history_open.push(spell);
        } else {
            self.public.alarms.push(raised.listed(self.public.device));
        }
    }

    fn close(&mut self, step: &Transition) {
        let other = |kind, rule: &str| (kind, rule) != (step.kind, step.rule.as_str());
        let memory = &mut self.memory;
        if step.late {
            memory.history_open.retain(|a| other(a.kind, a.rule()));
        } else {
            self.public.alarms.retain(|a| other(a.kind, &a.rule));
            memory.unlisted.retain(|a| other(a.kind, a.rule()));
        }
    }

    fn has_open(&self) -> bool {
        let memory = &self.memory;
        !(self.public.alarms.is_empty()
            && memory.unlisted.is_empty()
            && memory.history_open.is_empty())
    }

    /// Remembers the report itself.
    fn note_report(&mut self, frame: &Frame, verdict: &Verdict) {
        let memory = &mut self.memory;
        let alarms = frame.held.0 | frame.momentary.0;
        if verdict.turn.counts {
            memory.seen.push(frame.digest);
        } else if alarms != 0 {
            memory.seen.push(frame.digest ^ ASIDE);
        }
        // A momentary alarm that the device still states: its spell goes on.
        let rank = verdict.turn.rank;
        let before = match self.receivers.reported(rank) {
            _ if verdict.late_report => memory.history.momentary,
            Some(reported) => reported.momentary,
            None => memory.live.momentary,
        };
        for kind in Alarms(frame.momentary.0 & before.0).iter() {
            let key = spell_key(kind, DEVICE_RULE);
            if let Some(spell) = memory.spells.iter_mut().find(|s| s.key == key) {
                spell.to_ms = spell.to_ms.max(frame.fix.time_ms);
                spell.from_ms = spell.from_ms.min(frame.fix.time_ms);
            }
        }
        memory.live = verdict.live;
        memory.history = verdict.history;
        if !verdict.late_report {
            let reported = Reported {
                report_ms: verdict.live.report_ms,
                momentary: verdict.live.momentary,
                held: frame.held,
            };
            self.receivers.note_reported(rank, reported);
        }
    }
}

impl Spell {
    /// When an alarm was that a transition ends or that has no end.
    fn of(step: &Transition) -> Spell {
        Spell {
            key: spell_key(step.kind, &step.rule),
            from_ms: step.start_ms.min(step.at_ms),
            to_ms: step.start_ms.max(step.at_ms),
        }
    }
}

#[cfg(test)]
mod tests;
