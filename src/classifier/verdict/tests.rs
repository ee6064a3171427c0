//! Claims about verdicts, each as a short course of reports.

use proptest::prelude::*;

use super::*;
use crate::classifier::hygiene::order_key;
use crate::classifier::testing::{classify, report, report_at, rule_set, rules, with_digest};
use crate::frame::EventId;

/// What a test looks at in an event: kind, phase, start, late.
type Seen = (AlarmKind, Phase, i64, bool);

/// A device, the rules, and every event it ever made; events are taken as safe at once.
struct Drive {
    state: DeviceState,
    rules: RuleSet,
    events: Vec<Owed>,
}

impl Drive {
    fn new() -> Drive {
        Drive {
            state: DeviceState::new(report("1", 1).device),
            rules: rule_set(),
            events: Vec::new(),
        }
    }

    /// Judges and applies a report; what it found is safe at once.
    fn report(&mut self, frame: &Frame) -> (Standing, Vec<Seen>) {
        let verdict = classify(&self.state, frame, &self.rules);
        let outcome = self.state.apply(frame, "gate", &verdict);
        let owed = std::mem::take(&mut self.state.memory.owed);
        assert_eq!((outcome.applied, outcome.found), (true, owed.len()));
        let seen = owed.iter().map(seen).collect();
        self.events.extend(owed);
        (verdict.standing, seen)
    }

    /// Reports at so many metres north, one second apart from `start_ms`, and gives what they found.
    fn pass(&mut self, start_ms: i64, north_m: &[f64]) -> Vec<Seen> {
        let mut found = Vec::new();
        for (&north, time_ms) in north_m.iter().zip((start_ms..).step_by(1_000)) {
            found.extend(self.report(&report_at("1", time_ms, north, 0)).1);
        }
        found
    }

    /// Reports speeds in mm/s, one second apart from `start_ms`.
    fn speeds(&mut self, start_ms: i64, speeds: &[u32]) -> Vec<Seen> {
        let mut found = Vec::new();
        for (&speed, time_ms) in speeds.iter().zip((start_ms..).step_by(1_000)) {
            found.extend(self.report(&report_at("1", time_ms, 0.0, speed)).1);
        }
        found
    }
}

fn seen(owed: &Owed) -> Seen {
    (owed.kind, owed.phase, owed.start_ms, owed.late)
}

fn with_alarms(mut frame: Frame, held: &[AlarmKind], momentary: &[AlarmKind]) -> Frame {
    frame.held = held.iter().copied().collect();
    frame.momentary = momentary.iter().copied().collect();
    with_digest(frame)
}

use AlarmKind::{Geofence, GnssFault, Overspeed, PowerCut, Sos};
use Phase::{Clear, Raise};

#[test]
fn a_fence_is_entered_at_the_radius_and_left_beyond_the_margin() {
    let mut drive = Drive::new();
    let north = [850.0, 899.0, 901.0, 950.0, 890.0, 881.0, 879.0, 901.0];
    let found = drive.pass(1_000, &north);
    let expected = [
        (Geofence, Raise, 3_000, false),
        (Geofence, Clear, 3_000, false),
        (Geofence, Raise, 8_000, false),
    ];
    assert_eq!(found, expected);
    assert_eq!(drive.events[0].rule, "yard");
    assert_ne!(drive.events[0].id, drive.events[2].id);
}

#[test]
fn a_device_first_seen_inside_a_fence_enters_it() {
    let found = Drive::new().pass(1_000, &[1_000.0]);
    assert_eq!(found, [(Geofence, Raise, 1_000, false)]);
}

#[test]
fn overspeed_takes_its_time_and_its_start_is_the_first_fix_above() {
    let mut drive = Drive::new();
    let above = [21_000; 6];
    assert_eq!(
        drive.speeds(1_000, &above),
        [(Overspeed, Raise, 1_000, false)]
    );
    // Above the limit less the hysteresis it stays, below it clears.
    assert_eq!(drive.speeds(10_000, &[19_500, 19_000, 25_000]), []);
    assert_eq!(
        drive.speeds(20_000, &[18_999]),
        [(Overspeed, Clear, 1_000, false)]
    );
}

#[test]
fn one_fix_at_the_limit_starts_overspeed_over() {
    let speeds = [21_000, 21_000, 21_000, 20_000, 21_000, 21_000, 21_000];
    assert_eq!(Drive::new().speeds(1_000, &speeds), []);
}

#[test]
fn a_held_alarm_is_raised_when_it_appears_and_cleared_when_it_is_gone() {
    let mut drive = Drive::new();
    drive.report(&report("1", 1_000));
    let on = |ms| with_alarms(report("1", ms), &[PowerCut], &[]);
    assert_eq!(
        drive.report(&on(2_000)).1,
        [(PowerCut, Raise, 2_000, false)]
    );
    assert_eq!(drive.report(&on(3_000)).1, []);
    assert_eq!(drive.state.public.alarms.len(), 1);
    let gone = drive.report(&report("1", 4_000)).1;
    assert_eq!(gone, [(PowerCut, Clear, 2_000, false)]);
    assert!(drive.state.public.alarms.is_empty());
}

#[test]
fn a_momentary_alarm_is_raised_once_and_again_after_a_report_without_it() {
    let mut drive = Drive::new();
    let on = |ms| with_alarms(report("1", ms), &[], &[Sos]);
    assert_eq!(drive.report(&on(1_000)).1, [(Sos, Raise, 1_000, false)]);
    assert_eq!(drive.report(&on(2_000)).1, []);
    assert_eq!(drive.report(&report("1", 3_000)).1, []);
    assert_eq!(drive.report(&on(4_000)).1, [(Sos, Raise, 4_000, false)]);
    assert_ne!(drive.events[0].id, drive.events[1].id);
    assert!(drive.state.public.alarms.is_empty());
}

#[test]
fn alarms_of_one_report_have_ids_of_their_own() {
    let mut drive = Drive::new();
    drive.report(&with_alarms(
        report("1", 1_000),
        &[PowerCut, GnssFault],
        &[Sos],
    ));
    let ids: std::collections::HashSet<EventId> = drive.events.iter().map(|e| e.id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn an_alarm_in_the_same_second_as_the_newest_report_is_no_late_one() {
    let mut drive = Drive::new();
    drive.report(&report("1", 1_000));
    let sos = with_alarms(report("1", 1_000), &[], &[Sos]);
    assert_eq!(drive.report(&sos).1, [(Sos, Raise, 1_000, false)]);
}

#[test]
fn a_report_without_a_usable_position_counts_for_device_alarms_only() {
    for spoil in [
        |fix: &mut crate::frame::Fix| fix.fields.0 &= !FixFields::VALID,
        |fix: &mut crate::frame::Fix| fix.fields.0 &= !FixFields::POSITION,
        |fix: &mut crate::frame::Fix| fix.fields.0 &= !FixFields::TIME,
        |fix: &mut crate::frame::Fix| fix.time_ms = i64::MAX,
    ] {
        let mut drive = Drive::new();
        let mut frame = with_alarms(report_at("1", 1_000, 1_000.0, 0), &[PowerCut], &[]);
        spoil(&mut frame.fix);
        frame.received_ms = 1_500;
        let (standing, found) = drive.report(&with_digest(frame));
        assert!(matches!(standing, Standing::Rejected(_)));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1), (PowerCut, Raise));
    }
}

#[test]
fn a_report_without_a_time_is_judged_by_its_level() {
    let mut drive = Drive::new();
    let timeless = |held: &[AlarmKind]| {
        let mut frame = report("1", 1_000);
        frame.fix.fields.0 = 0;
        with_alarms(frame, held, &[])
    };
    let levels = [false, true, true, false, true].map(|on| {
        let held: &[AlarmKind] = if on { &[PowerCut] } else { &[] };
        drive.report(&timeless(held)).1.len()
    });
    assert_eq!(levels, [0, 1, 0, 1, 1]);
}

#[test]
fn jumps_are_left_out_until_so_many_agree() {
    let mut drive = Drive::new();
    drive.report(&report_at("1", 1_000, 0.0, 0));
    let far = |ms| report_at("1", ms, 50_000.0, 0);
    for ms in [2_000, 3_000, 4_000] {
        let (standing, _) = drive.report(&far(ms));
        assert_eq!(standing, Standing::Rejected(Rejection::Jump));
        assert_eq!(drive.state.public.fix.time_ms, 1_000, "a jump is not shown");
    }
    assert_eq!(drive.report(&far(5_000)).0, Standing::Newest);
    assert_eq!(drive.report(&far(6_000)).0, Standing::Newest);
}

#[test]
fn one_good_fix_forgets_the_jumps_before_it() {
    let mut drive = Drive::new();
    drive.report(&report("1", 1_000));
    for ms in (2_000..60_000).step_by(2_000) {
        let jump = report_at("1", ms, 900_000.0, 0);
        assert_eq!(
            drive.report(&jump).0,
            Standing::Rejected(Rejection::Jump),
            "at {ms}"
        );
        drive.report(&report("1", ms + 1_000));
    }
}

#[test]
fn a_resent_report_changes_nothing() {
    let mut drive = Drive::new();
    let sos = with_alarms(report_at("1", 1_000, 1_000.0, 0), &[PowerCut], &[Sos]);
    assert_eq!(drive.report(&sos).1.len(), 3);
    let before = drive.state.clone();
    assert_eq!(drive.report(&sos), (Standing::Repeated, vec![]));
    assert_eq!(drive.state, before);
}

#[test]
fn a_report_resent_after_the_window_raises_nothing_anew() {
    let mut drive = Drive::new();
    let mut course: Vec<Frame> = (0..40)
        .map(|i| report_at("1", 1_000 * (i + 1), 700.0 + 15.0 * i as f64, 21_000))
        .collect();
    course[5] = with_alarms(course[5].clone(), &[PowerCut], &[Sos]);
    course[6] = with_alarms(course[6].clone(), &[PowerCut], &[Sos]);
    for frame in &course {
        drive.report(frame);
    }
    let before: Vec<EventId> = drive.events.iter().map(|e| e.id).collect();
    for at in [30, 6, 5, 7, 25, 0, 20] {
        drive.report(&course[at]);
    }
    for event in &drive.events[before.len()..] {
        assert!(before.contains(&event.id), "raised anew: {event:?}");
    }
}

#[test]
fn late_fixes_never_move_the_newest_nor_what_is_open() {
    let mut drive = Drive::new();
    drive.pass(100_000, &[870.0, 950.0]);
    let (public, live) = (drive.state.public.clone(), drive.state.memory.live);
    // A drive from before, past the yard.
    let found = drive.pass(10_000, &[700.0, 750.0, 800.0]);
    assert_eq!(found, []);
    let late = drive.report(&report_at("1", 50_000, 0.0, 30_000));
    assert_eq!(late.0, Standing::Late);
    assert_eq!(drive.state.public, public);
    assert_eq!(drive.state.memory.live, live);
}

#[test]
fn a_stored_drive_raises_late_events_and_clears_its_own() {
    let mut drive = Drive::new();
    drive.report(&report("1", 900_000));
    let found = drive.pass(10_000, &[870.0, 950.0, 950.0, 870.0]);
    let expected = [
        (Geofence, Raise, 11_000, true),
        (Geofence, Clear, 11_000, true),
    ];
    assert_eq!(found, expected);
    assert!(drive.state.memory.history_open.is_empty());
}

#[test]
fn late_fixes_of_an_alarm_that_was_raised_live_find_nothing() {
    let mut drive = Drive::new();
    // Inside from 2 s to 5 s; one fix of it is held back.
    drive.pass(1_000, &[870.0, 950.0, 950.0]);
    drive.pass(5_000, &[950.0, 870.0, 800.0]);
    let late = drive.report(&report_at("1", 4_000, 960.0, 0));
    assert_eq!(late, (Standing::Late, vec![]));
}

#[test]
fn stored_fixes_sent_newest_first_raise_a_visit_once() {
    let mut drive = Drive::new();
    drive.report(&report("1", 900_000));
    let mut found = Vec::new();
    for (i, north) in [0.0, 950.0, 1_000.0, 950.0, 0.0].into_iter().enumerate() {
        let time_ms = 500_000 - 10_000 * i as i64;
        found.extend(drive.report(&report_at("1", time_ms, north, 0)).1);
    }
    assert_eq!(found, [(Geofence, Raise, 490_000, true)]);
}

#[test]
fn a_late_held_alarm_does_not_touch_the_live_one() {
    let mut drive = Drive::new();
    let on = |ms| with_alarms(report("1", ms), &[PowerCut], &[]);
    drive.report(&on(100_000));
    // Late and without the alarm: the live one stays.
    assert_eq!(drive.report(&report("1", 50_000)).1, []);
    assert_eq!(drive.state.public.alarms.len(), 1);
    let late = drive.report(&on(60_000)).1;
    assert_eq!(late, [(PowerCut, Raise, 60_000, true)]);
    let over = drive.report(&report("1", 70_000)).1;
    assert_eq!(over, [(PowerCut, Clear, 60_000, true)]);
    assert_eq!(drive.state.public.alarms.len(), 1);
}

#[test]
fn alarms_of_rules_that_were_configured_away_are_cleared() {
    let mut drive = Drive::new();
    drive.speeds(1_000, &[21_000; 6]);
    drive.report(&report_at("1", 17_000, 1_000.0, 21_000));
    assert_eq!(drive.state.public.alarms.len(), 2);
    let mut rules = rules();
    rules.overspeed = None;
    drive.rules = RuleSet::new(&rules, &[]);
    let found = drive.report(&report_at("1", 18_000, 1_000.0, 21_000)).1;
    let phases: Vec<Phase> = found.iter().map(|f| f.1).collect();
    assert_eq!(phases, [Clear, Clear]);
}

#[test]
fn a_frame_without_room_for_what_it_would_owe_leaves_the_state_as_it_was() {
    let mut state = DeviceState::new(report("1", 1).device);
    let rules = rule_set();
    let apply = |state: &mut DeviceState, frame: &Frame| {
        let verdict = classify(state, frame, &rules);
        state.apply(frame, "gate", &verdict)
    };
    let three = with_alarms(report("1", 1_000), &[PowerCut, GnssFault], &[Sos]);
    assert_eq!(apply(&mut state, &three).found, 3);
    let before = state.clone();
    // Two clears do not fit beside three that are owed; one enters a fence beside it.
    let gone = report("1", 2_000);
    let outcome = apply(&mut state, &gone);
    assert_eq!((outcome.applied, outcome.found), (false, 0));
    assert_eq!(state, before);
    // Once something is safe, the same frame is judged anew and fits.
    let safe = state.memory.owed[0].id;
    assert!(state.memory.settle(safe));
    let outcome = apply(&mut state, &gone);
    assert_eq!((outcome.applied, outcome.found), (true, 2));
}

#[test]
fn a_frame_that_finds_more_than_may_ever_be_owed_gets_through_in_steps() {
    let mut state = DeviceState::new(report("1", 1).device);
    let rules = rule_set();
    let all: Vec<AlarmKind> = AlarmKind::ALL[..24].to_vec();
    let frame = with_alarms(report("1", 1_000), &all, &[]);
    let mut raised = Vec::new();
    for round in 0.. {
        assert!(round < 20, "the same frame gets further each time");
        let verdict = classify(&state, &frame, &rules);
        let outcome = state.apply(&frame, "gate", &verdict);
        raised.extend(state.memory.owed.drain(..).map(|owed| owed.kind));
        if outcome.applied {
            break;
        }
        assert!(outcome.found > 0);
    }
    raised.sort();
    raised.dedup();
    assert_eq!(raised, all);
    assert!(state.make_room());
}

/// Judges a frame again and again, its events being safe each time, until it is applied or gets no further; the kinds
/// and rules raised, and the last outcome.
fn push(state: &mut DeviceState, rules: &RuleSet, frame: &Frame) -> (usize, Outcome) {
    let mut raised = 0;
    loop {
        let verdict = classify(state, frame, rules);
        let outcome = state.apply(frame, "gate", &verdict);
        raised += std::mem::take(&mut state.memory.owed).len();
        if outcome.applied || outcome.found == 0 {
            return (raised, outcome);
        }
    }
}

#[test]
fn every_kind_that_a_device_can_report_is_open_at_once_beside_a_dozen_fences() {
    let fences: Vec<_> = (0..12)
        .map(|n| crate::classifier::testing::fence(&format!("district-{n:02}"), 0.0))
        .collect();
    let rules = RuleSet::new(&rules(), &fences);
    let mut state = DeviceState::new(report("1", 1).device);
    let frame = with_alarms(report("1", 1_000), AlarmKind::ALL, &[]);
    let (raised, outcome) = push(&mut state, &rules, &frame);
    assert_eq!((raised, outcome.applied), (AlarmKind::ALL.len() + 12, true));
    let (cleared, outcome) = push(&mut state, &rules, &report_at("1", 100_000, 2_000.0, 0));
    assert_eq!(
        (cleared, outcome.applied),
        (AlarmKind::ALL.len() + 12, true)
    );
}

/// What had no room at all was left out and its message accepted: an alarm was never raised, and its device not told.
#[test]
fn alarms_beyond_the_room_of_a_state_refuse_their_report_and_positions_go_on() {
    let fences: Vec<_> = (0..64)
        .map(|n| crate::classifier::testing::fence(&format!("{n:048}"), 0.0))
        .collect();
    let rules = RuleSet::new(&rules(), &fences);
    let mut state = DeviceState::new(report("1", 1).device);
    let (raised, outcome) = push(&mut state, &rules, &report("1", 1_000));
    assert!((4..64).contains(&raised), "{raised}");
    assert_eq!((outcome.applied, outcome.found), (false, 0));
    assert_eq!(outcome.over_limit, 64 - raised);
    assert_eq!(state.public.fix.time_ms, 1_000);
    let again = push(&mut state, &rules, &report("1", 2_000)).1;
    assert!(!again.applied && again.shown);
    assert_eq!(state.public.fix.time_ms, 2_000);
    // Outside of all of them its reports are applied again, and everything that was raised ends.
    let (cleared, outcome) = push(&mut state, &rules, &report_at("1", 100_000, 2_000.0, 0));
    assert_eq!((cleared, outcome.applied), (raised, true));
}

#[test]
fn what_is_sampled_is_the_trace_of_the_event() {
    let mut drive = Drive::new();
    drive.report(&report_at("1", 1_000, 1_000.0, 0));
    assert_eq!(drive.events[0].trace.flags, TraceHead::SAMPLED);
}

prop_compose! {
    fn any_report()(
        time_s in 1..60_i64,
        north in -1..=24_i32,
        speed in prop_oneof![Just(0_u32), 18_000..23_000_u32],
        power in any::<bool>(),
        sos in proptest::bool::weighted(0.2),
        valid in proptest::bool::weighted(0.9),
    ) -> Frame {
        let mut frame = report_at("1", 1_000 * time_s, f64::from(north) * 50.0, speed);
        if !valid {
            frame.fix.fields.0 &= !FixFields::VALID;
        }
        let held: &[AlarmKind] = if power { &[PowerCut] } else { &[] };
        let momentary: &[AlarmKind] = if sos { &[Sos] } else { &[] };
        with_alarms(frame, held, momentary)
    }
}

/// Judges the frames of one message as the batch does.
fn message(drive: &mut Drive, frames: &[Frame]) {
    let mut frames = frames.to_vec();
    frames.sort_by_key(order_key);
    for frame in &frames {
        drive.report(frame);
    }
}

proptest! {
    #[test]
    fn any_order_within_a_message_gives_the_same_events(
        before in proptest::collection::vec(any_report(), 0..6),
        frames in proptest::collection::vec(any_report(), 1..12),
        order in any::<u64>(),
    ) {
        let mut shuffled: Vec<(usize, Frame)> = frames.iter().cloned().enumerate().collect();
        shuffled.sort_by_key(|(i, _)| (*i as u64 ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shuffled: Vec<Frame> = shuffled.into_iter().map(|(_, frame)| frame).collect();
        let (mut a, mut b) = (Drive::new(), Drive::new());
        for drive in [&mut a, &mut b] {
            message(drive, &before);
        }
        message(&mut a, &frames);
        message(&mut b, &shuffled);
        prop_assert_eq!(a.events, b.events);
        prop_assert_eq!(a.state, b.state);
    }

    #[test]
    fn a_message_sent_again_at_once_raises_nothing_anew(
        frames in proptest::collection::vec(any_report(), 1..12),
    ) {
        let mut drive = Drive::new();
        message(&mut drive, &frames);
        let (state, events) = (drive.state.clone(), drive.events.len());
        message(&mut drive, &frames);
        prop_assert_eq!(drive.events.len(), events);
        prop_assert_eq!(drive.state, state);
    }

    #[test]
    fn raise_and_clear_of_a_live_alarm_alternate(
        frames in proptest::collection::vec(any_report(), 1..60),
    ) {
        let mut drive = Drive::new();
        frames.iter().for_each(|frame| { drive.report(frame); });
        let mut open = std::collections::HashSet::new();
        for event in drive.events.iter().filter(|e| !e.late && e.kind != Sos) {
            let key = (event.kind, event.rule.clone());
            match event.phase {
                Raise => prop_assert!(open.insert(key)),
                Clear => prop_assert!(open.remove(&key)),
            }
        }
        prop_assert_eq!(open.len(), drive.state.public.alarms.len() + drive.state.memory.unlisted.len());
    }

    #[test]
    fn the_newest_place_never_goes_back(
        frames in proptest::collection::vec(any_report(), 1..60),
    ) {
        let mut drive = Drive::new();
        for frame in &frames {
            let before = (drive.state.public.fix.time_ms, drive.state.memory.live.place.map(|p| p.time_ms));
            drive.report(frame);
            let after = (drive.state.public.fix.time_ms, drive.state.memory.live.place.map(|p| p.time_ms));
            prop_assert!(after.0 >= before.0 && after.1 >= before.1);
        }
    }
}
