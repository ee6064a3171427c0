//! Claims about several receivers of one vehicle. The state is written down and read back after every frame, as if each
//! found another classifier.

use proptest::prelude::*;

use super::*;
use crate::classifier::hygiene::Rejection;
use crate::classifier::testing::{report, report_at, rule_set, with_digest};
use crate::classifier::verdict::{Standing, classify};
use crate::frame::{AlarmKind, FixFields, FrameFlags, Phase};
use crate::table::PAYLOAD_BYTES_MAX;

/// When courses begin, by the clock at reception.
const T0: i64 = 1_800_000_000_000;

/// An event: sensor, kind, phase, late.
type Seen = (String, AlarmKind, Phase, bool);

/// A vehicle and what became of its frames.
struct Drive {
    state: DeviceState,
    rules: RuleSet,
    changes: Vec<Change>,
    events: Vec<Seen>,
}

fn sensor(rank: u8) -> String {
    format!("rank-{rank}")
}

/// A report of `second`, received at once.
fn at(second: i64) -> Frame {
    report("1", T0 + second * 1_000)
}

/// The receiver is there and has no fix.
fn without_fix(second: i64) -> Frame {
    let mut frame = at(second);
    frame.fix.fields.0 &= !FixFields::VALID;
    with_digest(frame)
}

impl Drive {
    fn new() -> Drive {
        Drive {
            state: DeviceState::new(report("1", 1).device),
            rules: rule_set(),
            changes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A frame comes in by a receiver of this rank; what its position was good for.
    fn come(&mut self, rank: u8, frame: &Frame) -> Standing {
        let turn = self.state.hear(frame, rank, &self.rules);
        self.changes.extend(turn.change);
        let verdict = classify(&self.state, frame, turn, &self.rules);
        assert!(self.state.apply(frame, &sensor(rank), &verdict).applied);
        let owed = std::mem::take(&mut self.state.memory.owed);
        let seen = owed
            .into_iter()
            .map(|o| (o.sensor, o.kind, o.phase, o.late));
        self.events.extend(seen);
        self.write_down();
        verdict.standing
    }

    fn write_down(&mut self) {
        let mut bytes = [0; PAYLOAD_BYTES_MAX];
        let used = self.state.encode(&mut bytes).expect("it fits its slot");
        let back = DeviceState::decode(&bytes[..used]).expect("it reads back");
        assert_eq!(back.receivers, self.state.receivers);
        self.state = back;
    }

    /// Reports of a receiver, second after second.
    fn reports(&mut self, rank: u8, seconds: std::ops::RangeInclusive<i64>) -> Vec<Standing> {
        seconds.map(|second| self.come(rank, &at(second))).collect()
    }

    /// Both report, second after second, the better one first.
    fn both(&mut self, seconds: std::ops::RangeInclusive<i64>) {
        for second in seconds {
            self.come(1, &at(second));
            self.come(2, &at(second));
        }
    }

    /// The receiver whose position is shown, and its second.
    fn shown(&self) -> (&str, i64) {
        let public = &self.state.public;
        (&public.sensor, (public.fix.time_ms - T0) / 1_000)
    }
}

#[test]
fn a_worse_receiver_changes_nothing_while_a_better_one_gives_fixes() {
    let mut drive = Drive::new();
    drive.both(0..=20);
    assert_eq!(drive.shown(), ("rank-1", 20));
    let far = report_at("1", T0 + 20_500, 1_000.0, 50_000);
    assert_eq!(drive.come(2, &far), Standing::Outranked);
    assert_eq!((drive.shown(), drive.events.len()), (("rank-1", 20), 0));
}

#[test]
fn the_next_one_takes_over_after_the_stated_silence_and_not_before() {
    let mut drive = Drive::new();
    drive.both(0..=10);
    assert_eq!(drive.reports(2, 11..=15), [Standing::Outranked; 5]);
    assert_eq!(drive.come(2, &at(16)), Standing::Newest);
    assert_eq!(drive.shown(), ("rank-2", 16));
    assert_eq!(drive.changes, [Change::Worse]);
}

#[test]
fn a_receiver_without_a_fix_is_as_good_as_silent() {
    let mut drive = Drive::new();
    drive.both(0..=10);
    for second in 11..=17 {
        drive.come(1, &without_fix(second));
        drive.come(2, &at(second));
    }
    assert_eq!(drive.shown(), ("rank-2", 17));
}

#[test]
fn a_better_receiver_takes_back_once_it_was_good_for_as_long() {
    let mut drive = Drive::new();
    drive.both(0..=10);
    drive.reports(2, 11..=30);
    for second in 31..=35 {
        assert_eq!(drive.come(1, &at(second)), Standing::Outranked);
        drive.come(2, &at(second));
    }
    assert_eq!(drive.shown(), ("rank-2", 35));
    assert_eq!(drive.come(1, &at(36)), Standing::Newest);
    assert_eq!(drive.come(2, &at(37)), Standing::Outranked);
    assert_eq!(drive.changes, [Change::Worse, Change::Better]);
}

/// A receiver between houses: a fix for three seconds, none for two, over and over.
#[test]
fn a_better_receiver_that_comes_and_goes_does_not_take_back() {
    let mut drive = Drive::new();
    drive.both(0..=10);
    drive.reports(2, 11..=20);
    for second in 21..=80 {
        if second % 5 < 3 {
            drive.come(1, &at(second));
        } else {
            drive.come(1, &without_fix(second));
        }
        drive.come(2, &at(second));
    }
    assert_eq!(drive.changes, [Change::Worse]);
    assert_eq!(drive.shown(), ("rank-2", 80));
}

/// The link of the better one was cut; it sends what it stored, marked by its protocol or not.
#[test]
fn what_a_receiver_stored_is_not_fresh() {
    for marked in [true, false] {
        let mut drive = Drive::new();
        drive.both(0..=10);
        drive.reports(2, 11..=60);
        for stored in 11..=52 {
            let mut frame = at(stored);
            frame.received_ms = T0 + 60_000 + stored * 200;
            frame.flags.set(FrameFlags::BACKLOG, marked);
            drive.come(1, &frame);
        }
        assert_eq!(drive.shown(), ("rank-2", 60), "marked: {marked}");
        assert_eq!(drive.changes, [Change::Worse]);
    }
}

/// It goes on to send what it stored, fix after fix ahead of its last one, while the worse one is live.
#[test]
fn a_receiver_in_use_that_lags_behind_gives_way() {
    let mut drive = Drive::new();
    drive.both(0..=10);
    for second in 11..=16 {
        drive.come(2, &at(second));
    }
    drive.both(17..=25);
    assert_eq!(drive.shown().0, "rank-1");
    // From here on it is a minute behind.
    for second in 86..=120 {
        let mut old = at(second - 60);
        old.received_ms = T0 + second * 1_000;
        drive.come(1, &old);
        drive.come(2, &at(second));
    }
    assert_eq!(drive.shown(), ("rank-2", 120));
}

/// What it stored before the other one took over is its own time: it is judged, late, as ever.
#[test]
fn stored_fixes_of_before_the_seam_are_judged_late() {
    let mut drive = Drive::new();
    drive.both(0..=10);
    drive.reports(2, 16..=30);
    let mut inside = report_at("1", T0 + 12_000, 1_000.0, 0);
    inside.received_ms = T0 + 31_000;
    // 1 km in two seconds from where it was would be a jump for a live fix, too.
    inside.fix.time_ms = T0 + 9_500;
    assert_eq!(drive.come(1, &with_digest(inside.clone())), Standing::Late);
    inside.fix.time_ms = T0 + 20_000;
    assert_eq!(drive.come(1, &with_digest(inside)), Standing::Outranked);
    assert!(drive.events.iter().all(|(.., late)| *late));
}

/// Replayed logs are years old, and so is all by a clock that is not set.
#[test]
fn old_logs_are_compared_with_each_other() {
    let mut drive = Drive::new();
    let old = |second: i64| {
        let mut frame = report("1", 1_000_000_000_000 + second * 1_000);
        frame.received_ms = T0 + second * 1_000;
        frame
    };
    for second in 0..=10 {
        drive.come(1, &old(second));
        drive.come(2, &old(second));
    }
    for second in 11..=16 {
        drive.come(2, &old(second));
    }
    assert_eq!(drive.changes, [Change::Worse]);
    for second in 17..=22 {
        drive.come(1, &old(second));
        drive.come(2, &old(second));
    }
    assert_eq!(drive.changes, [Change::Worse, Change::Better]);
}

#[test]
fn clocks_a_second_apart_find_nothing_late_and_move_nothing_back() {
    for skew_ms in [-1_000, 1_000] {
        let mut drive = Drive::new();
        let mut newest_ms = 0;
        for second in 0..=60 {
            // Nothing of the better one from 20 to 40.
            let silent = (20..=40).contains(&second);
            for (rank, skew_ms) in [(1, skew_ms), (2, 0)] {
                if rank == 1 && silent {
                    continue;
                }
                let mut frame = report("1", T0 + second * 1_000 + skew_ms);
                frame.received_ms = T0 + second * 1_000 + 50 * i64::from(rank);
                assert_ne!(drive.come(rank, &frame), Standing::Late);
                assert!(drive.state.public.fix.time_ms >= newest_ms);
                newest_ms = drive.state.public.fix.time_ms;
            }
        }
        assert_eq!(drive.changes, [Change::Worse, Change::Better]);
        assert_eq!(drive.shown().0, "rank-1");
    }
}

#[test]
fn receivers_far_apart_change_without_a_jump() {
    let mut drive = Drive::new();
    for second in 0..=16 {
        if second <= 10 {
            drive.come(1, &at(second));
        }
        let frame = report_at("1", T0 + second * 1_000, 900.0, 0);
        let expected = if second < 16 {
            Standing::Outranked
        } else {
            Standing::Newest
        };
        assert_eq!(drive.come(2, &frame), expected);
    }
    // Only the first is let off.
    assert_eq!(drive.come(2, &at(17)), Standing::Rejected(Rejection::Jump));
}

/// 3 s too fast by one and 3 s by the other, with a silence between, are no 5 s in every fix.
#[test]
fn a_speed_is_not_held_against_both() {
    let fast = |second: i64| report_at("1", T0 + second * 1_000, 0.0, 21_000);
    let mut drive = Drive::new();
    drive.both(0..=7);
    (8..=10).for_each(|second| {
        drive.come(1, &fast(second));
    });
    (16..=19).for_each(|second| {
        drive.come(2, &fast(second));
    });
    assert_eq!((drive.shown(), drive.events.len()), (("rank-2", 19), 0));
    drive.come(2, &fast(20));
    drive.come(2, &fast(21));
    let raised = (sensor(2), AlarmKind::Overspeed, Phase::Raise, false);
    assert_eq!(drive.events, [raised]);
}

#[test]
fn a_button_counts_whichever_receiver_has_it() {
    let mut drive = Drive::new();
    drive.both(0..=10);
    for second in 11..=13 {
        let mut pressed = at(second);
        pressed.momentary = AlarmKind::Sos.into();
        drive.come(1, &at(second));
        assert_eq!(drive.come(2, &with_digest(pressed)), Standing::Outranked);
    }
    let raised = (sensor(2), AlarmKind::Sos, Phase::Raise, false);
    assert_eq!(drive.events, [raised], "once, and not late");
}

/// The clock of the tracker with the button is five seconds behind that of the other receiver.
#[test]
fn a_button_of_a_slow_clock_is_no_late_news() {
    let mut drive = Drive::new();
    drive.reports(1, 0..=10);
    for second in 11..=13 {
        let mut frame = at(second - 5);
        frame.received_ms = T0 + second * 1_000;
        if second == 12 {
            frame.momentary = AlarmKind::Sos.into();
        }
        drive.come(1, &at(second));
        drive.come(2, &with_digest(frame));
    }
    assert_eq!(
        drive.events,
        [(sensor(2), AlarmKind::Sos, Phase::Raise, false)]
    );
}

/// A receiver without inputs took the power cut of the tracker beside it back once a second.
#[test]
fn what_one_receiver_holds_another_does_not_end() {
    let mut drive = Drive::new();
    let cut = |second| {
        let mut frame = at(second);
        frame.held = AlarmKind::PowerCut.into();
        with_digest(frame)
    };
    // It is open before the other receiver is heard of.
    drive.come(2, &cut(0));
    for second in 1..=30 {
        drive.come(1, &at(second));
        drive.come(2, &cut(second));
    }
    let (raised, cleared) = (Phase::Raise, Phase::Clear);
    let event = |phase| (sensor(2), AlarmKind::PowerCut, phase, false);
    assert_eq!(drive.events, [event(raised)]);
    drive.come(2, &at(31));
    assert_eq!(drive.events, [event(raised), event(cleared)]);
}

/// A tracker that reports over two ways says the same twice; so does a receiver read directly and through gpsd.
#[test]
fn the_same_report_by_both_ways_is_one() {
    let mut drive = Drive::new();
    drive.both(0..=10);
    let mut pressed = at(11);
    pressed.momentary = AlarmKind::Sos.into();
    let pressed = with_digest(pressed);
    assert_eq!(drive.come(2, &pressed), Standing::Outranked);
    assert_eq!(drive.come(2, &pressed), Standing::Repeated);
    assert_eq!(drive.come(1, &pressed), Standing::Newest);
    assert_eq!(drive.come(1, &pressed), Standing::Repeated);
    assert_eq!((drive.shown(), drive.events.len()), (("rank-1", 11), 1));
}

#[test]
fn of_three_the_second_is_next() {
    let mut drive = Drive::new();
    for second in 0..=10 {
        (1..=3).for_each(|rank| {
            drive.come(rank, &at(second));
        });
    }
    for second in 11..=30 {
        drive.come(3, &at(second));
        drive.come(2, &at(second));
    }
    assert_eq!(drive.shown(), ("rank-2", 30));
    drive.reports(3, 31..=36);
    assert_eq!(drive.shown(), ("rank-3", 36));
    assert_eq!(drive.changes, [Change::Worse, Change::Worse]);
}

#[test]
fn of_more_ranks_than_are_remembered_the_best_are() {
    let mut drive = Drive::new();
    for second in 0..=10 {
        for rank in (1..=9).rev() {
            drive.come(rank, &at(second));
        }
    }
    let ranks = drive.state.receivers.heard.iter().map(|r| r.rank);
    let mut ranks: Vec<u8> = ranks.collect();
    ranks.sort_unstable();
    assert_eq!(ranks, [1, 2, 3, 4]);
    assert_eq!(drive.shown().0, "rank-1");
}

#[test]
fn who_was_in_use_stays_so_over_a_restart_if_it_is_heard_in_time() {
    let restored = |first_heard: i64| {
        let mut drive = Drive::new();
        drive.both(0..=10);
        drive.state.receivers.begin_anew(&[1, 2]);
        drive.write_down();
        // A day later, by a clock that may be another.
        for second in 86_400..=86_410 {
            drive.come(2, &at(second));
            if second >= first_heard {
                drive.come(1, &at(second));
            }
        }
        drive.changes
    };
    assert_eq!(restored(86_404), []);
    assert_eq!(restored(86_409), [Change::Worse]);
}

/// The tracker that said so was taken out of the configuration.
#[test]
fn what_a_receiver_held_that_is_gone_ends() {
    let mut drive = Drive::new();
    let mut cut = at(0);
    cut.held = AlarmKind::PowerCut.into();
    drive.come(1, &with_digest(cut));
    drive.come(2, &at(0));
    drive.state.receivers.begin_anew(&[2]);
    assert_eq!(drive.come(2, &at(60)), Standing::Newest);
    assert_eq!(drive.events.last().unwrap().2, Phase::Clear);
    assert_eq!(drive.changes, []);
}

#[test]
fn a_clock_that_is_set_neither_way_keeps_a_vehicle_from_its_receivers() {
    for step_ms in [-7_200_000, 7_200_000] {
        let mut drive = Drive::new();
        let stepped = |second: i64| {
            let mut frame = at(second);
            frame.received_ms += step_ms;
            frame.flags.set(FrameFlags::CLOCK_UNSYNCED, true);
            frame
        };
        for second in 0..=10 {
            drive.come(1, &stepped(second));
            drive.come(2, &stepped(second));
        }
        drive.reports(2, 11..=17);
        assert_eq!(drive.shown(), ("rank-2", 17), "{step_ms}");
        drive.both(18..=24);
        assert_eq!(drive.shown(), ("rank-1", 24), "{step_ms}");
    }
}

/// A tracker that was silent for an hour comes back by a worse way, with all that it stored, in one second: nobody else
/// was there in that hour.
#[test]
fn what_is_stored_of_a_time_without_any_receiver_counts() {
    let mut drive = Drive::new();
    drive.reports(1, 0..=10);
    for second in 11..=3_600 {
        let mut stored = at(second);
        stored.received_ms = T0 + 3_601_000;
        stored.flags.set(FrameFlags::BACKLOG, true);
        assert_eq!(drive.come(2, &stored), Standing::Newest);
    }
    assert_eq!(drive.changes, [Change::Worse]);
}

#[test]
fn before_any_fix_the_better_one_is_not_waited_for_nor_made_to_wait() {
    let mut drive = Drive::new();
    drive.come(2, &without_fix(0));
    drive.come(1, &at(1));
    assert_eq!(drive.shown(), ("rank-1", 1));
    let mut drive = Drive::new();
    drive.come(1, &without_fix(0));
    drive.come(2, &at(1));
    assert_eq!(drive.shown(), ("rank-2", 1));
}

#[test]
fn receivers_take_no_more_bytes_than_stated() {
    let bytes = |receivers: &Receivers| postcard::to_stdvec(receivers).unwrap().len();
    let mut drive = Drive::new();
    drive.come(1, &at(0));
    assert_eq!(bytes(&drive.state.receivers), 4);
    assert_eq!(drive.state.receivers.growth_bytes(), 0);
    (2..=4).for_each(|rank| {
        drive.come(rank, &at(1));
    });
    let before = &drive.state.receivers;
    let time_ms = T0 * 100;
    let mut most = before.clone();
    most.newest = Some(Newest {
        time_ms,
        received_ms: time_ms,
    });
    most.seam = Some(Seam {
        former: 9,
        until_ms: time_ms,
        from_ms: time_ms,
    });
    for receiver in &mut most.heard {
        receiver.good = Good::Until {
            since_ms: Some(time_ms),
            last_ms: time_ms,
        };
        receiver.reported = Reported {
            report_ms: Some(time_ms),
            momentary: AlarmKind::ALL.iter().copied().collect(),
            held: AlarmKind::ALL.iter().copied().collect(),
        };
    }
    assert!(bytes(&most) <= bytes(before) + before.growth_bytes());
}

/// A time in which a receiver does not deliver fixes: from, for, how.
type Outage = (u64, u64, u8);

/// What a course of two receivers is made of.
fn course() -> impl Strategy<Value = ([i64; 2], [Vec<Outage>; 2], u64)> {
    let outages = || proptest::collection::vec((0u64..200, 1u64..60, 0u8..2), 0..6);
    let skew = || (-1i64..=1).prop_map(|seconds| seconds * 1_000);
    ([skew(), skew()], [outages(), outages()], any::<u64>())
}

/// The truth at a time: along a street through the fence, too fast for eight seconds of each 50.
fn truth(time_ms: i64) -> (f64, u32) {
    let seconds = (time_ms - T0) as f64 / 1_000.0;
    let fast = seconds.rem_euclid(50.0) >= 42.0;
    (seconds * 10.0, if fast { 25_000 } else { 10_000 })
}

proptest! {
    /// Two receivers of one truth, a second apart at most, which fall silent, lose their fix and come back at any time,
    /// and whose frames come in any order within a second.
    #[test]
    fn the_track_is_one_receivers_at_a_time_and_events_are_those_of_the_truth(
        (skews, outages, seed) in course(),
    ) {
        let mut random = seed | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut frames: Vec<(u8, bool, Frame)> = Vec::new();
        for second in 0..220u64 {
            for rank in [1u8, 2] {
                let at = usize::from(rank - 1);
                let now = outages[at].iter().filter(|o| (o.0..o.0 + o.1).contains(&second));
                let how = now.map(|o| o.2).max();
                if how == Some(1) {
                    continue;
                }
                let time_ms = T0 + second as i64 * 1_000;
                let (north_m, speed) = truth(time_ms);
                let mut frame = report_at("1", time_ms + skews[at], north_m + f64::from(rank), speed);
                frame.received_ms = time_ms + 1_000 + next(900) as i64;
                if how.is_some() {
                    frame.fix.fields.0 &= !FixFields::VALID;
                }
                frames.push((rank, how.is_none(), with_digest(frame)));
            }
        }
        frames.sort_by_key(|(_, _, frame)| frame.received_ms);

        let after_ms = rule_set().fail_over_ms;
        let mut drive = Drive::new();
        // The first to report is in use.
        let mut used = frames[0].0;
        let mut newest_ms = 0;
        // Of each rank: reception of its last valid fix, and of the first of those without a break.
        let mut last: [Option<i64>; 2] = [None; 2];
        let mut since: [Option<i64>; 2] = [None; 2];
        for (rank, valid, frame) in &frames {
            let (at, now_ms) = (usize::from(rank - 1), frame.received_ms);
            let fresh = |last: Option<i64>| last.is_some_and(|ms| now_ms - ms <= after_ms);
            let before = last;
            if *valid {
                if !fresh(last[at]) || since[at].is_none() {
                    since[at] = Some(now_ms);
                }
                last[at] = Some(now_ms);
            } else {
                since[at] = None;
            }
            let changes = drive.changes.len();
            let standing = drive.come(*rank, frame);
            prop_assert!(!matches!(standing, Standing::Late | Standing::Rejected(Rejection::Jump)));
            if drive.changes.len() > changes {
                let other = usize::from(used - 1);
                let steady = since[at].is_some_and(|ms| now_ms - ms >= after_ms);
                let taken = !fresh(before[other]) || *rank < used && steady;
                prop_assert!(*valid && taken, "second {}", (now_ms - T0) / 1_000);
                used = *rank;
            }
            if standing == Standing::Newest {
                prop_assert_eq!(*rank, used);
                prop_assert!(frame.fix.time_ms > newest_ms);
                newest_ms = frame.fix.time_ms;
            }
        }
        // Each alarm is raised and cleared in turn, and no more often than it was true.
        for (kind, most) in [(AlarmKind::Geofence, 1), (AlarmKind::Overspeed, 5)] {
            let of_kind = drive.events.iter().filter(|event| event.1 == kind);
            let phases: Vec<Phase> = of_kind.map(|event| event.2).collect();
            let in_turn = [Phase::Raise, Phase::Clear].iter().cycle();
            prop_assert!(phases.iter().zip(in_turn).all(|(phase, expected)| phase == expected));
            prop_assert!(phases.len() <= 2 * most, "{kind:?}: {phases:?}");
        }
        prop_assert!(drive.events.iter().all(|(.., late)| !late));
    }
}
