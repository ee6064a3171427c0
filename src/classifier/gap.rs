//! A gap in what is applied of a device: the reports that were refused for want of room, which it is to send again.
//!
//! Promises that what came after the first of them waits for it: it is refused as well until that one is applied, so
//! that nothing is judged as late only because there was no room for it in time. A device that does not send it again
//! is let go on after [`GAP_MS`]. Reports that nobody waits for an answer to are not sent again and know no gap; neither
//! do those without a time, whose order nobody can tell, and those of a receiver that is not in use.

use serde::{Deserialize, Serialize};

use crate::frame::Frame;

use super::state::DeviceState;
use super::verdict::{Outcome, Standing, Verdict};

/// How long a gap is kept although none of its reports comes, by the clock at reception, ms: longer than devices wait
/// between two tries, and no longer than the alarms of one that gave a report up may be held back.
pub const GAP_MS: u64 = 120_000;

/// Most bytes of a gap in a device's state beyond those of none: three times of ten, a digest of five and its mark.
pub const GAP_BYTES_MAX: usize = 36;

/// The reports of a device that were refused and are to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The oldest that found no room; none once it is applied and those after it are awaited, in any order.
    first: Option<Report>,
    /// Time of the newest that was refused, ms.
    to_ms: i64,
    /// When one of them came last, by the clock at reception, ms.
    came_ms: i64,
}

/// A report, as far as it must be known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Report {
    time_ms: i64,
    /// Of its digest the lower half: it only tells apart reports of one device and one second.
    digest: u32,
}

impl Report {
    fn of(frame: &Frame, time_ms: i64) -> Report {
        Report {
            time_ms,
            digest: frame.digest as u32,
        }
    }
}

impl Gap {
    /// Whether a report may be judged now, and is not to wait for an older one.
    fn lets_pass(&self, report: Report) -> bool {
        match self.first {
            Some(first) => report.time_ms < first.time_ms || report == first,
            None => report.time_ms <= self.to_ms,
        }
    }

    /// The gap, after a report that it let pass was applied.
    fn after(mut self, report: Report) -> Option<Gap> {
        match self.first {
            Some(first) if first == report => self.first = None,
            Some(_) => return Some(self),
            None => {}
        }
        (report.time_ms < self.to_ms).then_some(self)
    }
}

impl DeviceState {
    /// Applies a verdict on `frame` as [`DeviceState::apply`] does, unless an older report is to come before. `resent`:
    /// whether the device sends again what is refused.
    pub fn apply_in_turn(
        &mut self,
        frame: &Frame,
        sensor: &str,
        verdict: &Verdict,
        resent: bool,
    ) -> Outcome {
        let aside = matches!(verdict.standing, Standing::Repeated | Standing::Outranked);
        if !resent || aside || verdict.late_report {
            return self.apply(frame, sensor, verdict);
        }
        let came_ms = frame.received_ms;
        let lapsed = |gap: &Gap| gap.came_ms.abs_diff(came_ms) > GAP_MS;
        self.memory.gap = self.memory.gap.filter(|gap| !lapsed(gap));
        let report = verdict.time_ms.map(|time_ms| Report::of(frame, time_ms));
        if let Some(gap) = &mut self.memory.gap {
            if !report.is_some_and(|report| gap.lets_pass(report)) {
                self.widen_gap(verdict.time_ms);
                return Outcome {
                    out_of_turn: true,
                    shown: self.show(frame, sensor, verdict),
                    ..Outcome::default()
                };
            }
            gap.came_ms = came_ms;
        }
        let outcome = self.apply(frame, sensor, verdict);
        let Some(report) = report else {
            return outcome;
        };
        let gap = self.memory.gap;
        // What has no room although nothing is owed does not wait for any, and nothing may wait for it.
        self.memory.gap = if outcome.applied || outcome.over_limit > 0 {
            gap.and_then(|gap| gap.after(report))
        } else {
            let first = gap.and_then(|gap| gap.first);
            let first = first.filter(|first| first.time_ms <= report.time_ms);
            let to_ms = gap.map_or(report.time_ms, |gap| gap.to_ms.max(report.time_ms));
            Some(Gap {
                first: first.or(Some(report)),
                to_ms,
                came_ms,
            })
        };
        outcome
    }

    /// Notes that a report was refused while older ones are to come again.
    pub fn widen_gap(&mut self, time_ms: Option<i64>) {
        if let (Some(gap), Some(time_ms)) = (&mut self.memory.gap, time_ms) {
            gap.to_ms = gap.to_ms.max(time_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::state::OWED_EVENTS_MAX;
    use crate::classifier::testing::{classify, report, report_at, rule_set, with_digest};
    use crate::frame::AlarmKind;

    fn push(state: &mut DeviceState, frame: &Frame, resent: bool) -> Outcome {
        let verdict = classify(state, frame, &rule_set());
        state.apply_in_turn(frame, "gate", &verdict, resent)
    }

    /// A device that owes as much as it may, at second 100.
    fn owing() -> DeviceState {
        let mut state = DeviceState::new(report("1", 1).device);
        for n in 0..OWED_EVENTS_MAX as i64 {
            let mut pressed = report("1", 92_000 + 2_000 * n);
            pressed.momentary = AlarmKind::Sos.into();
            push(&mut state, &with_digest(pressed), true);
            push(&mut state, &report("1", 93_000 + 2_000 * n), true);
        }
        assert_eq!(state.memory.owed.len(), OWED_EVENTS_MAX);
        state
    }

    /// In the fence.
    fn inside(time_ms: i64) -> Frame {
        report_at("1", time_ms, 1_000.0, 0)
    }

    #[test]
    fn all_that_was_refused_is_applied_in_its_order() {
        let mut state = owing();
        let reports = [inside(200_000), report("1", 300_000), report("1", 310_000)];
        assert!(!push(&mut state, &reports[0], true).applied);
        for later in &reports[1..] {
            let outcome = push(&mut state, later, true);
            assert!(outcome.out_of_turn && outcome.shown && !outcome.applied);
        }
        state.memory.owed.clear();
        assert!(push(&mut state, &reports[2], true).out_of_turn);
        assert_eq!(push(&mut state, &reports[0], true).found, 1);
        let new = report("1", 320_000);
        assert!(
            push(&mut state, &new, true).out_of_turn,
            "two are to come before"
        );
        for report in reports.iter().skip(1).chain([&new]) {
            assert!(push(&mut state, report, true).applied);
        }
        assert_eq!(state.memory.gap, None);
        assert_eq!(state.memory.owed.len(), 2, "in and out");
    }

    #[test]
    fn the_gap_lasts_for_as_long_as_one_of_its_reports_comes_again() {
        let mut state = owing();
        let entering = inside(200_000);
        push(&mut state, &entering, true);
        let mut again = entering.clone();
        again.received_ms += GAP_MS as i64;
        assert!(!push(&mut state, &again, true).applied);
        let mut later = report("1", 300_000);
        later.received_ms = again.received_ms + GAP_MS as i64;
        assert!(push(&mut state, &later, true).out_of_turn);
        // The device gave up, or the clock was set back.
        for away_ms in [GAP_MS as i64 + 1, -(GAP_MS as i64) - 1] {
            let mut state = state.clone();
            later.received_ms = again.received_ms + away_ms;
            assert!(push(&mut state, &later, true).applied);
            assert_eq!(state.memory.gap, None);
        }
    }

    #[test]
    fn what_nobody_sends_again_is_not_waited_for() {
        let mut state = owing();
        assert!(!push(&mut state, &inside(200_000), false).applied);
        assert!(push(&mut state, &report("1", 300_000), false).applied);
        assert!(push(&mut state, &report("1", 310_000), true).applied);
    }

    #[test]
    fn late_reports_neither_wait_nor_are_waited_for() {
        let mut state = owing();
        let mut late = report("1", 50_000);
        late.held = AlarmKind::PowerCut.into();
        let late = with_digest(late);
        assert!(!push(&mut state, &late, true).applied);
        assert_eq!(state.memory.gap, None);
        push(&mut state, &inside(200_000), true);
        assert!(push(&mut state, &report("1", 51_000), true).applied);
    }

    #[test]
    fn a_report_of_the_same_second_waits_too() {
        let mut state = owing();
        let mut other = inside(200_000);
        push(&mut state, &other, true);
        other.fix.speed_mm_s = 1_000;
        assert!(push(&mut state, &with_digest(other), true).out_of_turn);
    }

    #[test]
    fn a_gap_takes_no_more_bytes_than_stated() {
        let report = Report {
            time_ms: i64::MIN,
            digest: u32::MAX,
        };
        let gap = Gap {
            first: Some(report),
            to_ms: i64::MIN,
            came_ms: i64::MIN,
        };
        let bytes = |gap: Option<Gap>| postcard::to_stdvec(&gap).unwrap().len();
        assert_eq!(bytes(Some(gap)) - bytes(None), GAP_BYTES_MAX);
    }
}
