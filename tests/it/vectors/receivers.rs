//! Logs of real receivers against gpsd's reading of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ringway::frame::{Fix, FixFields, rfc3339_ms};
use ringway::protocol::{Protocol, Session};
use serde_json::Value as Json;

use super::data::{data, data_dir, feed, json_lines, places, recorded};

/// Logs whose fixes differ from gpsd's, with the reason.
const LOGS_LEFT_OUT: &[(&str, &str)] = &[
    (
        "foretrex-201.log",
        "at 20:00:04 RMC warns while GGA does not; gpsd takes the fix, we do not trust it",
    ),
    (
        "garmin48.log",
        "the receiver gives two fixes in its cycle; gpsd reports one of them",
    ),
    ("gp-320fw-2019-03-28.log", GPSD_LEARNS),
    ("gp-320fw-2019-04-06-overflow.log", GPSD_LEARNS),
    ("rst39.log", GPSD_LEARNS),
    ("tn204.log", GPSD_LEARNS),
    (
        "ublox-neo-m8l.log",
        "its positions are in u-blox binary; its sentences are text only",
    ),
];

const GPSD_LEARNS: &str = "gpsd leaves out the second epoch, while it learns the cycle";

/// A fix of gpsd: one of its reports with a position.
struct Opinion {
    lat: f64,
    lon: f64,
    speed: Option<f64>,
    track: Option<f64>,
}

/// gpsd's positions by time in ms, its shift of 1024 weeks undone where the index marks it.
fn opinions(check: &str, shifted: bool) -> BTreeMap<i64, Vec<Opinion>> {
    let mut by_time = BTreeMap::<_, Vec<_>>::new();
    for line in check.lines().filter(|line| line.starts_with('{')) {
        let Ok(report) = serde_json::from_str::<Json>(line) else {
            continue;
        };
        let usable = report["class"] == "TPV" && report["mode"].as_i64() >= Some(2);
        let (Some(lat), Some(lon)) = (report["lat"].as_f64(), report["lon"].as_f64()) else {
            continue;
        };
        let Some(time) = report["time"].as_str().filter(|_| usable) else {
            continue;
        };
        let time_ms = parse_ms(time) - if shifted { 619_315_200_000 } else { 0 };
        by_time.entry(time_ms).or_default().push(Opinion {
            lat,
            lon,
            speed: report["speed"].as_f64(),
            track: report["track"].as_f64(),
        });
    }
    by_time
}

/// Milliseconds since 1970 of a time with milliseconds; found by asking our own formatter, which has its own tests.
fn parse_ms(text: &str) -> i64 {
    let (mut low, mut high) = (0, 4_102_444_800_000);
    while low < high {
        let middle = (low + high) / 2;
        if rfc3339_ms(middle).as_str() < text {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    assert_eq!(rfc3339_ms(low), text);
    low
}

/// Compares a log with gpsd's reading of it; gives complaints.
fn check_log(ours: &[Fix], theirs: &BTreeMap<i64, Vec<Opinion>>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    let agrees = |ours: Option<f64>, theirs: Vec<f64>, turn: f64| {
        let near = |theirs: &f64| {
            let apart = (ours.unwrap_or(*theirs) - theirs).abs();
            apart.min(turn - apart).abs() <= 0.02
        };
        theirs.is_empty() || theirs.iter().any(near)
    };
    for fix in ours {
        let Some(time_ms) = fix.time().filter(|_| fix.fields.has(FixFields::VALID)) else {
            continue;
        };
        seen.insert(time_ms);
        let Some(opinions) = theirs.get(&time_ms) else {
            // gpsd is silent until it knows the cycle, and about an epoch that has no end.
            let inside = theirs.range(..time_ms).next().is_some()
                && theirs.range(time_ms..).next().is_some();
            if inside {
                complaints.push(format!("{} is ours alone", rfc3339_ms(time_ms)));
            }
            continue;
        };
        let (lat, lon) = fix.position_deg().unwrap();
        let near = |o: &&Opinion| (lat - o.lat).abs() < 2e-6 && (lon - o.lon).abs() < 2e-6;
        let speeds = opinions.iter().filter_map(|o| o.speed).collect();
        let tracks = opinions.iter().filter_map(|o| o.track).collect();
        if !opinions.iter().any(|opinion| near(&opinion))
            || !agrees(fix.speed_mps(), speeds, f64::INFINITY)
            || !agrees(fix.course_deg(), tracks, 360.0)
        {
            complaints.push(format!("{} is different", rfc3339_ms(time_ms)));
        }
    }
    for &time_ms in theirs.keys().filter(|time_ms| !seen.contains(time_ms)) {
        complaints.push(format!("{} is missing", rfc3339_ms(time_ms)));
    }
    complaints
}

#[test]
fn receiver_logs_give_the_fixes_that_gpsd_gives() {
    let Some(index) = data("gpsd/index.jsonl", "69 logs") else {
        return;
    };
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for entry in json_lines(&index) {
        if entry["kind"] == "ubx" {
            continue;
        }
        let name = entry["log"].as_str().unwrap();
        let log = fs::read(data_dir().join("gpsd").join(name)).unwrap();
        let check = data(&format!("gpsd/{name}.chk"), name).unwrap();
        let shifted = entry["chk_shifted_by_1024_weeks"] == true;

        let settings = recorded(Some(b"receiver"));
        let read = |chunk_bytes: usize| {
            let mut session = Session::new(Protocol::Nmea, &settings);
            let mut results = feed(&mut session, &log, chunk_bytes);
            results.extend(session.flush().map(Ok));
            places(&results)
        };
        let fixes = read(usize::MAX);
        assert_eq!(read(7), fixes, "{name} in pieces");
        compared += fixes.len();
        let complaints = check_log(&fixes, &opinions(&check, shifted));
        let left_out = LOGS_LEFT_OUT.iter().any(|(log, _)| *log == name);
        if complaints.is_empty() == left_out {
            wrong.push(format!("{name}: left out {left_out}, {complaints:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 1000, "only {compared} fixes");
}
