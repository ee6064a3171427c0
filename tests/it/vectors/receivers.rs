//! Logs of real receivers against gpsd's reading of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ringway::frame::{AttributeKey, Fix, FixFields, Value, rfc3339_ms};
use ringway::protocol::{Protocol, Report, Session};
use serde_json::Value as Json;

use super::data::{data, data_dir, feed, json_lines, places, recorded, reports};

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
    mode: i64,
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
            mode: report["mode"].as_i64().unwrap(),
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
        eprintln!(
            "{name}: {} fixes, {} different",
            fixes.len(),
            complaints.len()
        );
        let left_out = LOGS_LEFT_OUT.iter().any(|(log, _)| *log == name);
        if complaints.is_empty() == left_out {
            wrong.push(format!("{name}: left out {left_out}, {complaints:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 1000, "only {compared} fixes");
}

/// Logs with NAV-PVT, and the moments at which gpsd and we are both heard.
const BINARY_LOGS: &[(&str, usize)] = &[
    ("navisys-gr8013.log", 35),
    ("ublox-glo.log", 291),
    ("ublox-lea-m8f.log", 18),
    ("ublox-neo-m8l.log", 18),
    ("ublox-neo-m8p.log", 58),
    ("ublox-neo-m8u.log", 2),
    ("ublox-neo-m8u-hnr.log", 1),
    ("ublox-zed-f9p-hp.log", 28),
    ("ublox-zed-f9p-sfrbx.log", 18),
    ("ublox-zed-f9t-ubx_nmea_l5.log", 8),
];

/// Moments at which we differ, with the reason.
const BINARY_LEFT_OUT: &[(&str, usize, &str)] = &[
    (
        "ublox-lea-m8f.log",
        18,
        "a timing receiver (fix type 5): gpsd says 3D, we give the place and do not call it a fix",
    ),
    (
        "ublox-neo-m8l.log",
        1,
        "gpsd's report of this moment is that of HNR-PVT, which we do not read",
    ),
    ("ublox-neo-m8u-hnr.log", 1, "as above"),
];

#[test]
fn binary_logs_give_the_fixes_that_gpsd_gives() {
    let mut wrong = Vec::new();
    for &(name, moments) in BINARY_LOGS {
        let Some(check) = data(&format!("gpsd/{name}.chk"), name) else {
            return;
        };
        let log = fs::read(data_dir().join("gpsd").join(name)).unwrap();
        let read = |chunk_bytes: usize| {
            let mut session = Session::new(Protocol::Ubx, &recorded(Some(b"receiver")));
            let mut results = feed(&mut session, &log, chunk_bytes);
            results.extend(std::iter::from_fn(|| session.flush().map(Ok)));
            reports(&results)
        };
        let ours = read(usize::MAX);
        assert_eq!(read(7), ours, "{name} in pieces");
        let theirs = opinions(&check, false);
        let both = |report: &&Report| {
            let time_ms = report.fix.time().filter(|time| theirs.contains_key(time));
            report.fix.position_deg().and(time_ms).is_some()
        };
        let shared: Vec<_> = ours.iter().filter(both).collect();
        let differs = |report: &&&Report| {
            let opinions = &theirs[&report.fix.time().unwrap()];
            !agrees_with_binary(report, opinions.last().unwrap())
        };
        let different = shared.iter().filter(differs).count();
        let left_out = BINARY_LEFT_OUT.iter().find(|(log, ..)| *log == name);
        eprintln!(
            "{name}: {} reports, {} moments shared, {different} different",
            ours.len(),
            shared.len(),
        );
        let expected = (moments, left_out.map_or(0, |&(_, count, _)| count));
        if (shared.len(), different) != expected {
            wrong.push(format!(
                "{name}: {} shared, {different} different",
                shared.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn agrees_with_binary(report: &Report, theirs: &Opinion) -> bool {
    let fix = &report.fix;
    let (lat, lon) = fix.position_deg().unwrap();
    let near = |ours: Option<f64>, theirs: Option<f64>, turn: f64, tolerance: f64| {
        let apart = ours.zip(theirs).map(|(ours, theirs)| (ours - theirs).abs());
        apart.is_none_or(|apart| apart.min(turn - apart).abs() <= tolerance)
    };
    let mode = report.attributes.iter().find_map(|attribute| {
        let value = (attribute.key == AttributeKey::FixMode).then_some(&attribute.value)?;
        match *value {
            // NAV-PVT's types of a fix as gpsd's modes.
            Value::Int(2) => Some(2),
            Value::Int(3 | 4) => Some(3),
            _ => Some(1),
        }
    });
    (lat - theirs.lat).abs() < 5e-7
        && (lon - theirs.lon).abs() < 5e-7
        && near(fix.speed_mps(), theirs.speed, f64::INFINITY, 0.0011)
        && near(fix.course_deg(), theirs.track, 360.0, 0.0051)
        && mode == Some(theirs.mode)
}
