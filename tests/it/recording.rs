//! Recorded drives in NMEA 0183 and what they hold, by a reader of their own: nothing here knows the runtime's decoder.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use device_sim::delivery::time_ms;

/// A moment with a fix.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    pub lat: f64,
    pub lon: f64,
}

/// The path of a log in other people's data; `None`, and a loud word about what is skipped, where they are not.
pub fn recorded(path: &str, skipped: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("RINGWAY_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(path);
    if path.is_file() {
        return Some(path);
    }
    // Written past the test runner, which keeps the words of a test that passes.
    let _ = writeln!(
        std::io::stderr(),
        "skipped: 1 test, {skipped}: data not found at {}",
        path.display()
    );
    None
}

/// The fields of a sentence with a good checksum, its type first.
fn fields(line: &str) -> Option<Vec<&str>> {
    let (body, check) = line.trim_end().strip_prefix('$')?.rsplit_once('*')?;
    let stated = u8::from_str_radix(check, 16).ok()?;
    let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    (sum == stated).then(|| body.split(',').collect())
}

/// Degrees of `ddmm.mmmm` and its hemisphere.
fn degrees(value: &str, hemisphere: &str) -> Option<f64> {
    let point = value.find('.')?;
    let (whole, minutes) = value.split_at(point - 2);
    let degrees = whole.parse::<f64>().ok()? + minutes.parse::<f64>().ok()? / 60.0;
    Some(if matches!(hemisphere, "S" | "W") {
        -degrees
    } else {
        degrees
    })
}

/// The time of day of `hhmmss.ss` on a day of `ddmmyy`.
fn moment_ms(day: &str, time: &str) -> Option<i64> {
    let two = |text: &str, at: usize| text.get(at..at + 2).map(str::to_owned);
    let part = |at: usize| two(time, at);
    let date = |at: usize| two(day, at);
    let fraction = time.get(6..).filter(|rest| rest.len() > 1).unwrap_or(".0");
    time_ms(&format!(
        "20{}-{}-{}T{}:{}:{}{fraction}Z",
        date(4)?,
        date(2)?,
        date(0)?,
        part(0)?,
        part(2)?,
        part(4)?
    ))
}

/// Every moment of which a sound RMC, GGA or GLL states a fix and none denies it, in the order of the log. GGA's
/// position counts where several state one.
pub fn epochs(log: &str) -> Vec<Epoch> {
    let mut found: Vec<(Epoch, bool)> = Vec::new();
    let mut day = String::new();
    for line in log.lines() {
        let Some(fields) = fields(line) else { continue };
        let kind = fields[0].get(2..).unwrap_or_default();
        let (time, place, fix) = match kind {
            "RMC" if fields.len() > 9 => {
                day = fields[9].to_owned();
                (fields[1], &fields[3..7], fields[2] == "A")
            }
            "GGA" if fields.len() > 9 => (fields[1], &fields[2..6], fields[6] != "0"),
            "GLL" if fields.len() > 6 => (fields[5], &fields[1..5], fields[6] == "A"),
            _ => continue,
        };
        let Some(time_ms) = moment_ms(&day, time) else {
            continue;
        };
        let lat = degrees(place[0], place[1]).unwrap_or(f64::NAN);
        let lon = degrees(place[2], place[3]).unwrap_or(f64::NAN);
        match found.last_mut() {
            Some((epoch, good)) if epoch.time_ms == time_ms => {
                *good &= fix;
                if kind == "GGA" {
                    (epoch.lat, epoch.lon) = (lat, lon);
                }
            }
            _ => found.push((Epoch { time_ms, lat, lon }, fix)),
        }
    }
    found
        .into_iter()
        .filter(|(_, fix)| *fix)
        .map(|(epoch, _)| epoch)
        .collect()
}

/// Seconds of the drive in [`drive`].
const DRIVE_S: u32 = 90;

/// A drive along the quay of Monaco as a receiver would have written it: a second without a fix, one with a damaged
/// sentence, one across midnight. Returns the log and what it holds.
pub fn drive() -> (String, Vec<Epoch>) {
    let mut log = String::from("# a comment, as collections of logs have them\r\n");
    let mut epochs = Vec::new();
    for second in 0..DRIVE_S {
        // 2024-02-28T23:59:30 and on into the leap day.
        let (day, of_day) = match second {
            0..30 => ("280224", 86_370 + second),
            _ => ("290224", second - 30),
        };
        let time = format!(
            "{:02}{:02}{:02}.00",
            of_day / 3600,
            of_day / 60 % 60,
            of_day % 60
        );
        // Four decimals of a minute, so that both sentences say the same.
        let (lat_min, lon_min) = (
            44.04 + 0.004 * f64::from(second),
            25.29 + 0.006 * f64::from(second),
        );
        let (lat, lon) = (format!("43{lat_min:07.4}"), format!("007{lon_min:07.4}"));
        let fix = second != 40;
        let (status, quality) = if fix { ("A", "1") } else { ("V", "0") };
        let mut sentence = |body: String, damaged: bool| {
            let sum = body.bytes().fold(u8::from(damaged), |sum, byte| sum ^ byte);
            writeln!(log, "${body}*{sum:02X}\r").unwrap();
        };
        let damaged = second == 50;
        sentence(
            format!("GPRMC,{time},{status},{lat},N,{lon},E,17.5,051.3,{day},,,A"),
            damaged,
        );
        sentence(
            format!("GPGGA,{time},{lat},N,{lon},E,{quality},08,1.1,4.2,M,48.0,M,,"),
            damaged,
        );
        sentence(
            "GPGSA,A,3,02,05,12,13,15,18,25,29,,,,,2.0,1.1,1.7".into(),
            false,
        );
        if fix && !damaged {
            // Counted from 2024-02-28T23:59:30Z (date -u -d 2024-02-28T23:59:30Z +%s).
            let time_ms = (1_709_164_770 + i64::from(second)) * 1000;
            let four = |minutes: f64| (minutes * 1e4).round() / 1e4 / 60.0;
            epochs.push(Epoch {
                time_ms,
                lat: 43.0 + four(lat_min),
                lon: 7.0 + four(lon_min),
            });
        }
    }
    (log, epochs)
}

#[test]
fn the_reader_finds_what_the_drive_holds() {
    let (log, expected) = drive();
    let found = epochs(&log);
    assert_eq!(found.len(), DRIVE_S as usize - 2);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.time_ms, expected.time_ms);
        assert!(
            (found.lat - expected.lat).abs() < 1e-9,
            "{found:?} {expected:?}"
        );
        assert!(
            (found.lon - expected.lon).abs() < 1e-9,
            "{found:?} {expected:?}"
        );
    }
}

/// Sentences of the NMEA 0183 literature, with their values.
#[test]
fn the_reader_reads_published_sentences() {
    let rmc = "$GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*57";
    let read = epochs(rmc);
    assert_eq!(read[0].time_ms, time_ms("2002-12-09T08:35:59Z").unwrap());
    assert!((read[0].lat - 47.285_239_5).abs() < 1e-7, "{read:?}");
    assert!((read[0].lon - 8.565_253_7).abs() < 1e-7, "{read:?}");
    assert_eq!(epochs(&rmc.replace("*57", "*56")), []);
}
