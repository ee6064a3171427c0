//! The life cycle of alarms: what a report or a fix makes of those that are open, and the identity of what follows.
//!
//! A transition is a value; nothing here changes a state. A held bit is open from the first report that has it to the
//! first without it; a momentary one is raised when it appears and never cleared.

use crate::frame::{AlarmKind, Alarms, DEVICE_RULE, EventId, Phase};

use super::state::{DeviceState, spell_key};

/// One step in the life of an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Identity of the event.
    pub id: EventId,
    /// What.
    pub kind: AlarmKind,
    /// The rule that found it.
    pub rule: String,
    /// Raised or cleared.
    pub phase: Phase,
    /// Found in late fixes, and of no concern to what is open now.
    pub late: bool,
    /// Whether it is open from now on (raised), or was (cleared); a momentary alarm never is.
    pub held: bool,
    /// An end that nobody is told of: late fixes that go backwards in time find where an alarm began, not its end.
    pub silent: bool,
    /// Time of the first fix that met the condition, ms.
    pub start_ms: i64,
    /// Time of what decided, ms.
    pub at_ms: i64,
}

/// Alarms as one report or fix meets them, and the transitions that follow.
#[derive(Debug)]
pub struct Alarming<'a> {
    /// The state before the frame.
    pub state: &'a DeviceState,
    /// Time of the report or fix, or of its reception where it has none, ms.
    pub at_ms: i64,
    /// Whether it belongs to the course of the late fixes.
    pub late: bool,
    /// Whether it is older than the newest of that course.
    pub backwards: bool,
}

impl<'a> Alarming<'a> {
    /// The alarms that are open in this course: kind, rule and start.
    pub fn open(&self) -> impl Iterator<Item = (AlarmKind, &'a str, i64)> + use<'a> {
        let memory = &self.state.memory;
        let (listed, unlisted): (&[_], &[_]) = if self.late {
            (&[], &memory.history_open)
        } else {
            (&self.state.public.alarms, &memory.unlisted)
        };
        let listed = listed.iter().map(|a| (a.kind, a.rule.as_str(), a.start_ms));
        let unlisted = unlisted.iter().map(|a| (a.kind, a.rule(), a.start_ms));
        listed.chain(unlisted)
    }

    /// Start of an open alarm, ms.
    pub fn open_since(&self, kind: AlarmKind, rule: &str) -> Option<i64> {
        self.open()
            .find(|open| (open.0, open.1) == (kind, rule))
            .map(|open| open.2)
    }

    /// Raises an alarm, unless a late fix only shows what was raised before.
    pub fn raise(&self, out: &mut Vec<Transition>, kind: AlarmKind, rule: &str, start_ms: i64) {
        if self.known(kind, rule, start_ms) {
            return;
        }
        let id = EventId::of_alarm(
            &self.state.public.device,
            kind,
            rule,
            start_ms as u64,
            Phase::Raise,
        );
        out.push(Transition {
            id,
            phase: Phase::Raise,
            held: true,
            ..self.step(kind, rule, start_ms)
        });
    }

    /// Clears an open alarm.
    pub fn clear(&self, out: &mut Vec<Transition>, kind: AlarmKind, rule: &str, start_ms: i64) {
        let id = EventId::of_alarm(
            &self.state.public.device,
            kind,
            rule,
            start_ms as u64,
            Phase::Clear,
        );
        out.push(Transition {
            id,
            phase: Phase::Clear,
            held: true,
            silent: self.backwards,
            ..self.step(kind, rule, start_ms)
        });
    }

    /// What the device itself reports. `before` are the momentary alarms of the report before, `digest` is the
    /// identity of this one.
    pub fn reported(
        &self,
        out: &mut Vec<Transition>,
        held: Alarms,
        momentary: Alarms,
        before: Alarms,
        digest: u64,
    ) {
        for kind in held.iter() {
            if self.open_since(kind, DEVICE_RULE).is_none() {
                self.raise(out, kind, DEVICE_RULE, self.at_ms);
            }
        }
        for kind in Alarms(momentary.0 & !before.0 & !held.0).iter() {
            if !self.known(kind, DEVICE_RULE, self.at_ms) {
                let device = &self.state.public.device;
                let id = EventId::of_alarm(device, kind, DEVICE_RULE, digest, Phase::Raise);
                out.push(Transition {
                    id,
                    ..self.step(kind, DEVICE_RULE, self.at_ms)
                });
            }
        }
        for (kind, rule, start_ms) in self.open() {
            if rule == DEVICE_RULE && !held.contains(kind) {
                self.clear(out, kind, rule, start_ms);
            }
        }
    }

    /// Whether a late fix only shows an alarm that was found before.
    fn known(&self, kind: AlarmKind, rule: &str, start_ms: i64) -> bool {
        if !self.late {
            return false;
        }
        let key = spell_key(kind, rule);
        let overlaps = |from_ms: i64, to_ms: i64| from_ms <= self.at_ms && start_ms <= to_ms;
        let live = Alarming {
            late: false,
            ..*self
        };
        let open_ms = live.open_since(kind, rule);
        let mut spells = self.state.memory.spells.iter();
        open_ms.is_some_and(|from_ms| overlaps(from_ms, i64::MAX))
            || spells.any(|s| s.key == key && overlaps(s.from_ms, s.to_ms))
    }

    /// A raise that does not stay open, to be completed by the caller.
    fn step(&self, kind: AlarmKind, rule: &str, start_ms: i64) -> Transition {
        Transition {
            id: EventId([0; 16]),
            kind,
            rule: rule.to_owned(),
            phase: Phase::Raise,
            late: self.late,
            held: false,
            silent: false,
            start_ms,
            at_ms: self.at_ms,
        }
    }
}
