use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::crew::{Crew, Protocol};
use crate::device::{Sent, Way};
use crate::report::{Report, Shown};
use crate::truth::{Overspeed, Rules};

fn ledger() -> Ledger {
    let overspeed = Some(Overspeed {
        limit_dkmh: 900,
        for_ms: 3000,
        hysteresis_dkmh: 50,
    });
    Ledger::new(
        2,
        Rules {
            overspeed,
            fences: Vec::new(),
        },
    )
}

fn wanted() -> Wanted {
    Wanted {
        tracks: true,
        alarms: true,
        traces: true,
        kinds: vec!["sos"],
        protocols: Vec::new(),
    }
}

/// Device 0 sends report `number` at second 1,700,000,000 + number.
fn send(ledger: &Ledger, number: u32, way: Way, alarms: u32) {
    let report = Report {
        time_s: 1_700_000_000 + number,
        alarms,
        ..Report::default()
    };
    ledger.sent(
        0,
        &[Sent {
            number,
            way,
            kept: true,
            report,
        }],
        Instant::now(),
    );
}

fn alarm(id: u128, kind: &str, phase: &str, second: u32) -> Value {
    json!({
        "id": format!("{id:032x}"), "device": "13900000000", "kind": kind, "rule": "device",
        "phase": phase, "start": format!("2023-11-14T22:13:{:02}.000Z", 20 + second),
        "journal": "j", "seq": id as u64,
    })
}

/// How the reports of these tests are shown.
const SHOWN: Shown = Shown {
    lat: Some(0.0),
    lon: Some(0.0),
    speed_mps: Some(0.0),
    course_deg: Some(0.0),
};

/// A run with one SOS at second 1, delivered and pushed.
fn good_run() -> Ledger {
    let ledger = ledger();
    for number in 0..3 {
        send(&ledger, number, Way::Fresh, u32::from(number == 1));
        ledger.answered(0, &[number]);
    }
    ledger.delivered(&alarm(1, "sos", "raise", 1));
    let at = Instant::now() + Duration::from_millis(5);
    ledger.tracked("13900000000", 1_700_000_001_000, &SHOWN, at, true);
    ledger
}

#[test]
fn good_run_is_ok_and_counts_both_ends() {
    let ledger = good_run();
    assert_eq!(ledger.outstanding(), 0);
    let found = check(&ledger, 1, &wanted()).summary;
    assert!(found.ok, "{found:?}");
    assert_eq!(
        (
            found.frames_sent,
            found.frames_answered,
            found.tracks_pushed
        ),
        (3, 3, 1)
    );
    assert_eq!((found.alarms_raised, found.alarms_delivered), (1, 1));
    assert!(found.latency_ms.max.unwrap() >= 5.0);
    let untraced = check(&ledger, 0, &wanted());
    assert!(!untraced.summary.ok);
    assert_eq!(untraced.missing, ["no trace of an alarm came"]);
    let members = serde_json::to_value(found).unwrap();
    let members: Vec<&String> = members.as_object().unwrap().keys().collect();
    assert_eq!(members.len(), 13, "{members:?}");
}

/// A demo of one second was not ok and did not say why: it was over before anything could be raised.
#[test]
fn run_in_which_nothing_happened_says_what_is_missing() {
    let found = check(&ledger(), 0, &wanted());
    let missing = [
        "no report was sent",
        "no position was pushed",
        "no alarm had to be raised",
        "no alarm was delivered",
        "no trace of an alarm came",
    ];
    assert_eq!((found.missing, found.summary.ok), (missing.to_vec(), false));
}

#[test]
fn position_that_is_shown_elsewhere_is_not_ok() {
    let ledger = good_run();
    send(&ledger, 3, Way::Fresh, 0);
    let lat = Some(0.01);
    let shown = Shown { lat, ..SHOWN };
    ledger.tracked(
        "13900000000",
        1_700_000_003_000,
        &shown,
        Instant::now(),
        true,
    );
    let found = check(&ledger, 1, &wanted());
    assert_eq!((found.misplaced, found.summary.ok), (1, false));
    let first = found.misplaced_first.unwrap();
    assert!(first.starts_with("13900000000 sent"), "{first}");
}

/// A decoder that refused every packed message of H02 could pass the demo: half the devices of the protocol send text,
/// their positions stood for all, and what nobody answers cannot be lost.
#[test]
fn device_that_reports_and_is_never_pushed_is_not_ok() {
    let crew = Crew::new(2, &[Protocol::H02]);
    let ledger = Ledger::of(crew, Rules::default());
    let wanted = Wanted {
        tracks: true,
        ..Wanted::default()
    };
    let sent = Sent {
        number: 0,
        way: Way::Fresh,
        kept: false,
        report: Report {
            time_s: 1_700_000_000,
            ..Report::default()
        },
    };
    ledger.sent(0, &[sent], Instant::now());
    ledger.tracked(
        "4100000000",
        1_700_000_000_000,
        &SHOWN,
        Instant::now(),
        true,
    );
    let found = check(&ledger, 0, &wanted);
    assert!(found.summary.ok, "the other has not reported: {found:?}");
    ledger.sent(1, &[sent], Instant::now());
    let found = check(&ledger, 0, &wanted);
    assert_eq!((found.unseen, found.summary.ok), (1, false));
    assert_eq!(found.unseen_first.as_deref(), Some("4100000001"));
    let blind = check(&ledger, 0, &Wanted::default());
    assert!(blind.summary.ok, "nobody watched the stream: {blind:?}");
}

#[test]
fn answered_alarm_that_never_came_is_lost() {
    let ledger = good_run();
    send(&ledger, 3, Way::Fresh, 1 << 8);
    let found = check(&ledger, 1, &wanted());
    assert_eq!(found.summary.lost, 0, "not answered yet");
    ledger.answered(0, &[3]);
    let found = check(&ledger, 1, &wanted());
    assert_eq!((found.summary.lost, found.summary.ok), (1, false));
    assert_eq!(found.lost[0].kind, "power_cut");
    assert_eq!(ledger.outstanding(), 1);
}

#[test]
fn alarm_that_no_report_means_is_invented() {
    let strange = [
        alarm(2, "sos", "raise", 2),
        alarm(3, "sos", "clear", 1),
        alarm(4, "sos", "raise", 1),
        alarm(5, "theft", "raise", 1),
        json!({"id": "?"}),
        json!({"device": "moon"}),
    ];
    for payload in strange {
        let ledger = good_run();
        ledger.delivered(&payload);
        let found = check(&ledger, 1, &wanted());
        assert_eq!(
            (found.summary.invented, found.summary.ok),
            (1, false),
            "{payload}"
        );
    }
}

#[test]
fn same_id_again_is_a_duplicate_and_older_after_newer_reordered() {
    let ledger = good_run();
    ledger.delivered(&alarm(1, "sos", "raise", 1));
    send(&ledger, 3, Way::Fresh, 1 << 8);
    send(&ledger, 4, Way::Fresh, 0);
    ledger.delivered(&alarm(9, "power_cut", "clear", 3));
    ledger.delivered(&alarm(8, "power_cut", "raise", 3));
    let found = check(&ledger, 1, &wanted());
    assert!(found.summary.ok);
    assert_eq!((found.summary.duplicates, found.reordered), (1, 1));
}

#[test]
fn other_start_counts_only_where_order_was_disturbed() {
    for (way, shifted, invented) in [
        (Way::Again, 0, 1),
        (Way::Repeat, 1, 0),
        (Way::Backlog, 1, 0),
    ] {
        let ledger = good_run();
        send(&ledger, 3, Way::Fresh, 1 << 8);
        send(&ledger, 4, Way::Fresh, 1 << 8);
        send(&ledger, 3, way, 1 << 8);
        ledger.answered(0, &[3, 4]);
        ledger.delivered(&alarm(2, "power_cut", "raise", 4));
        let found = check(&ledger, 1, &wanted());
        assert_eq!(
            (found.shifted, found.summary.invented),
            (shifted, invented),
            "{way:?}"
        );
        assert_eq!(found.summary.lost, invented, "{way:?}");
    }
}

#[test]
fn what_came_is_counted_by_kind_and_phase() {
    let ledger = good_run();
    send(&ledger, 3, Way::Fresh, 1 << 8);
    send(&ledger, 4, Way::Fresh, 0);
    ledger.delivered(&alarm(8, "power_cut", "raise", 3));
    ledger.delivered(&alarm(9, "power_cut", "clear", 3));
    let came = check(&ledger, 1, &wanted()).came;
    assert_eq!(
        came,
        BTreeMap::from([("power_cut", [1, 1]), ("sos", [1, 0])])
    );
}

#[test]
fn alarms_of_guests_are_neither_invented_nor_delivered() {
    let ledger = good_run();
    let mut guest = alarm(2, "sos", "raise", 2);
    guest["device"] = json!("13900000001");
    ledger.delivered(&guest);
    assert_eq!(check(&ledger, 1, &wanted()).summary.invented, 1);
    let ledger = good_run();
    ledger.pass_over_from(13_900_000_001);
    ledger.delivered(&guest);
    let found = check(&ledger, 1, &wanted()).summary;
    assert_eq!((found.invented, found.alarms_delivered), (0, 1));
}

#[test]
fn unanswered_reports_are_parted_by_what_they_decide() {
    let ledger = good_run();
    send(&ledger, 3, Way::Fresh, 1 << 8);
    send(&ledger, 4, Way::Fresh, 1 << 8);
    send(&ledger, 5, Way::Fresh, 0);
    let found = ledger.unanswered(Duration::ZERO);
    assert_eq!(
        (found.deciding, found.plain),
        (2, 1),
        "raise, clear; between"
    );
    ledger.answered(0, &[3, 4]);
    let found = ledger.unanswered(Duration::ZERO);
    assert_eq!((found.deciding, found.plain), (1, 0));
    let found = ledger.unanswered(Duration::from_secs(60));
    assert_eq!((found.deciding, found.plain), (0, 0), "too young");
}

/// A receiver of NMEA, whose reports nobody answers, speeds from second 0 to second 5 and is then slow.
fn receiver() -> Ledger {
    let overspeed = ledger().open().rules.overspeed;
    let rules = Rules {
        overspeed,
        fences: Vec::new(),
    };
    let ledger = Ledger::of(Crew::new(1, &[Protocol::Nmea]), rules);
    for number in 0..8 {
        let report = Report {
            time_s: 1_700_000_000 + number,
            speed_dkmh: if number < 6 { 1_000 } else { 500 },
            ..Report::default()
        };
        let sent = Sent {
            number,
            way: Way::Fresh,
            kept: false,
            report,
        };
        ledger.sent(0, &[sent], Instant::now());
    }
    ledger
}

fn receiver_told(ledger: &Ledger, number: u32) {
    let id = ledger.open().crew.id(0);
    let time_ms = 1_700_000_000_000 + i64::from(number) * 1_000;
    let speed_mps = Some(1_000.0 / 36.0);
    let shown = Shown { speed_mps, ..SHOWN };
    ledger.tracked(&id, time_ms, &shown, Instant::now(), true);
}

#[test]
fn report_that_nobody_answers_means_its_alarm_once_it_was_pushed() {
    let wanted = Wanted {
        kinds: Vec::new(),
        traces: false,
        ..wanted()
    };
    let ledger = receiver();
    assert_eq!(ledger.outstanding(), 0, "it may be lost on the way");
    assert_eq!(ledger.unanswered(Duration::ZERO).deciding, 0);
    // Raised at second 3.
    receiver_told(&ledger, 3);
    let found = check(&ledger, 0, &wanted).summary;
    assert_eq!((found.alarms_raised, found.lost, found.ok), (1, 1, false));
    let mut speeding = alarm(1, "overspeed", "raise", 0);
    speeding["rule"] = json!("overspeed");
    speeding["device"] = json!(ledger.open().crew.id(0));
    ledger.delivered(&speeding);
    let found = check(&ledger, 0, &wanted).summary;
    assert_eq!((found.lost, found.invented, found.ok), (0, 0, true));
    let share = found.protocols["nmea"];
    assert_eq!((share.frames_sent, share.tracks_pushed), (8, 1));
    assert_eq!((share.alarms_raised, share.alarms_delivered), (1, 1));
    // The clear came although its report was never pushed.
    speeding["id"] = json!(format!("{:032x}", 2));
    speeding["phase"] = json!("clear");
    ledger.delivered(&speeding);
    let found = check(&ledger, 0, &wanted).summary;
    assert_eq!((found.alarms_raised, found.alarms_delivered), (2, 2));
}

#[test]
fn cut_connection_excuses_what_nobody_kept() {
    let ledger = receiver();
    receiver_told(&ledger, 3);
    ledger.cut(0);
    let wanted = Wanted {
        alarms: true,
        ..Wanted::default()
    };
    let found = check(&ledger, 0, &wanted);
    assert_eq!((found.summary.lost, found.excused), (0, 1));
    assert!(!found.summary.ok, "no alarm came at all");
}

#[test]
fn protocol_that_was_not_seen_end_to_end_is_not_ok() {
    let ledger = good_run();
    for (protocols, missing) in [
        (vec![("jt808", vec!["sos"])], vec![]),
        (
            vec![("jt808", vec!["power_cut"])],
            vec!["jt808: no power_cut was delivered"],
        ),
    ] {
        let wanted = Wanted {
            protocols,
            ..wanted()
        };
        let found = check(&ledger, 1, &wanted);
        assert_eq!(found.protocols_missing, missing);
        assert_eq!(found.summary.ok, missing.is_empty());
    }
    let crew = Crew::new(2, &[Protocol::Jt808, Protocol::H02]);
    let silent = check(
        &Ledger::of(crew, Rules::default()),
        0,
        &Wanted {
            tracks: true,
            protocols: vec![("h02", Vec::new())],
            ..Wanted::default()
        },
    );
    let missing = ["h02: no report was sent", "h02: no position was pushed"];
    assert_eq!(silent.protocols_missing, missing);
}

#[test]
fn missing_kind_is_not_ok() {
    let kinds = vec!["sos", "power_cut"];
    let found = check(&good_run(), 1, &Wanted { kinds, ..wanted() });
    assert_eq!(
        (found.kinds_missing, found.summary.ok),
        (vec!["power_cut"], false)
    );
}

#[test]
fn ledger_file_alone_gives_the_same_verdict() {
    let name = format!("device-sim-ledger-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let ledger = ledger();
    ledger.keep_in(&path).unwrap();
    assert!(
        ledger.keep_in(&path).is_err(),
        "another run's ledger is not written over"
    );
    for number in 0..3 {
        send(&ledger, number, Way::Fresh, u32::from(number == 1));
        ledger.answered(0, &[number]);
    }
    send(&ledger, 3, Way::Fresh, 1 << 8);
    ledger.delivered(&alarm(1, "sos", "raise", 1));
    ledger.answered(0, &[3]);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.clone() + "s 1 0 f 17").unwrap();
    let rules = ledger.open().rules.clone();
    let loaded = Ledger::load(&path, 2, rules.clone()).unwrap();
    assert_eq!(loaded.counts(), ledger.counts());
    assert_eq!(check(&loaded, 1, &wanted()), check(&ledger, 1, &wanted()));
    std::fs::write(&path, format!("nonsense\n{text}")).unwrap();
    assert!(Ledger::load(&path, 2, rules).is_err());
    std::fs::remove_file(&path).unwrap();
}
