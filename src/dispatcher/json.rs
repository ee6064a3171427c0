//! The JSON that subscribers read: tracks and alarms, written once and shared by everybody who gets them.
//!
//! Coordinates and speeds go from fixed point straight to decimal digits, so what is read is exactly what was
//! reported. Values that a device did not state are left out.

use super::trail::Point;
use crate::frame::{
    AlarmKind, DeviceId, EventId, Fix, FixFields, Phase, Severity, push_rfc3339_ms,
};

/// What a track says; see [`write_track`].
pub struct Track<'a> {
    /// Whose.
    pub device: &'a DeviceId,
    /// The sensor that it came in by; empty: not known.
    pub sensor: &'a str,
    /// The latest fix.
    pub fix: &'a Fix,
    /// Wall clock at reception, milliseconds since 1970.
    pub received_ms: i64,
}

/// An alarm as subscribers see it. The same whether it was just raised or has been open for a week.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// Identity of the event that raised or cleared it.
    pub id: EventId,
    /// Whose.
    pub device: DeviceId,
    /// What.
    pub kind: AlarmKind,
    /// Raised or cleared.
    pub phase: Phase,
    /// How much it matters.
    pub severity: Severity,
    /// The rule that found it.
    pub rule: Box<str>,
    /// UTC of the first fix that met the condition, milliseconds since 1970.
    pub start_ms: i64,
    /// The fix that decided.
    pub fix: Fix,
    /// Wall clock at its reception, milliseconds since 1970.
    pub received_ms: i64,
    /// Found in stored or reordered fixes.
    pub late: bool,
    /// The sensor that it came in by.
    pub sensor: Box<str>,
}

impl Alarm {
    /// Whether its end is an event of its own; the id says it ([`EventId::of_alarm`]).
    pub fn is_held(&self) -> bool {
        let start = self.start_ms as u64;
        self.id == EventId::of_alarm(&self.device, self.kind, &self.rule, start, self.phase)
    }
}

/// Appends a track object, without `conflated`: that is each subscriber's own ([`write_conflated`]).
pub fn write_track(out: &mut String, track: &Track<'_>, open: impl IntoIterator<Item = AlarmKind>) {
    out.push('{');
    write_identity(out, track);
    write_position(out, track.fix);
    write_motion(out, track.fix, open);
    out.push('}');
}

/// Appends a GeoJSON feature of a track: a point, or no geometry where the fix has no position (RFC 7946, 3.2). A
/// trail, if given, is a property: the geometry stays the point where the vehicle is.
pub fn write_feature(
    out: &mut String,
    track: &Track<'_>,
    open: impl IntoIterator<Item = AlarmKind>,
    trail: Option<&[Point]>,
) {
    out.push_str("{\"type\":\"Feature\",\"id\":\"");
    out.push_str(track.device.as_str());
    out.push_str("\",\"geometry\":");
    if track.fix.fields.has(FixFields::POSITION) {
        out.push_str("{\"type\":\"Point\",\"coordinates\":[");
        write_decimal(out, i64::from(track.fix.lon_e7), 7);
        out.push(',');
        write_decimal(out, i64::from(track.fix.lat_e7), 7);
        out.push_str("]}");
    } else {
        out.push_str("null");
    }
    out.push_str(",\"properties\":{");
    write_identity(out, track);
    write_motion(out, track.fix, open);
    if let Some(points) = trail {
        write_trail(out, points);
    }
    out.push_str("}}");
}

fn write_trail(out: &mut String, points: &[Point]) {
    out.push_str(",\"trail\":[");
    for (index, point) in points.iter().enumerate() {
        out.push_str(if index == 0 { "{" } else { ",{" });
        out.push_str("\"time\":");
        write_time(out, point.time_ms);
        out.push_str(",\"lat\":");
        write_decimal(out, i64::from(point.lat_e7), 7);
        out.push_str(",\"lon\":");
        write_decimal(out, i64::from(point.lon_e7), 7);
        out.push('}');
    }
    out.push(']');
}

/// Appends a written track with the count of updates that this subscriber did not get; none: as it is.
pub fn write_conflated(out: &mut String, track: &str, skipped: u32) {
    if skipped == 0 {
        out.push_str(track);
        return;
    }
    let body = track
        .strip_suffix('}')
        .expect("a track is a JSON object and ends in a brace");
    out.push_str(body);
    out.push_str(",\"conflated\":");
    write_decimal(out, i64::from(skipped), 0);
    out.push('}');
}

/// Appends an alarm object.
pub fn write_alarm(out: &mut String, alarm: &Alarm) {
    out.push_str("{\"id\":\"");
    out.push_str(&alarm.id.to_string());
    out.push_str("\",\"device\":\"");
    out.push_str(alarm.device.as_str());
    out.push_str("\",\"kind\":\"");
    out.push_str(alarm.kind.name());
    out.push_str(match alarm.phase {
        Phase::Raise => "\",\"phase\":\"raise\",\"severity\":\"",
        Phase::Clear => "\",\"phase\":\"clear\",\"severity\":\"",
    });
    out.push_str(match alarm.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    });
    out.push_str("\",\"rule\":");
    write_text(out, &alarm.rule);
    out.push_str(",\"start\":");
    write_time(out, alarm.start_ms);
    if let Some(time_ms) = alarm.fix.time() {
        out.push_str(",\"time\":");
        write_time(out, time_ms);
    }
    out.push_str(",\"received\":");
    write_time(out, alarm.received_ms);
    out.push_str(if alarm.late {
        ",\"late\":true"
    } else {
        ",\"late\":false"
    });
    write_position(out, &alarm.fix);
    write_speed(out, &alarm.fix);
    if !alarm.sensor.is_empty() {
        out.push_str(",\"sensor\":");
        write_text(out, &alarm.sensor);
    }
    out.push('}');
}

/// Device, sensor and times: the members every track begins with.
fn write_identity(out: &mut String, track: &Track<'_>) {
    out.push_str("\"device\":\"");
    out.push_str(track.device.as_str());
    out.push('"');
    if !track.sensor.is_empty() {
        out.push_str(",\"sensor\":");
        write_text(out, track.sensor);
    }
    if let Some(time_ms) = track.fix.time() {
        out.push_str(",\"time\":");
        write_time(out, time_ms);
    }
    out.push_str(",\"received\":");
    write_time(out, track.received_ms);
}

fn write_position(out: &mut String, fix: &Fix) {
    if fix.fields.has(FixFields::POSITION) {
        out.push_str(",\"lat\":");
        write_decimal(out, i64::from(fix.lat_e7), 7);
        out.push_str(",\"lon\":");
        write_decimal(out, i64::from(fix.lon_e7), 7);
    }
}

fn write_speed(out: &mut String, fix: &Fix) {
    if fix.fields.has(FixFields::SPEED) {
        out.push_str(",\"speed_mps\":");
        write_decimal(out, i64::from(fix.speed_mm_s), 3);
    }
}

/// What follows the position: altitude, speed, course, validity, open alarms.
fn write_motion(out: &mut String, fix: &Fix, open: impl IntoIterator<Item = AlarmKind>) {
    if fix.fields.has(FixFields::ALTITUDE) {
        out.push_str(",\"altitude_m\":");
        write_decimal(out, i64::from(fix.altitude_mm), 3);
    }
    write_speed(out, fix);
    if fix.fields.has(FixFields::COURSE) {
        out.push_str(",\"course_deg\":");
        write_decimal(out, i64::from(fix.course_cdeg), 2);
    }
    out.push_str(if fix.fields.has(FixFields::VALID) {
        ",\"valid\":true,\"alarms\":["
    } else {
        ",\"valid\":false,\"alarms\":["
    });
    for (index, kind) in open.into_iter().enumerate() {
        out.push_str(if index == 0 { "\"" } else { ",\"" });
        out.push_str(kind.name());
        out.push('"');
    }
    out.push(']');
}

/// Appends text from configuration as a JSON string.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                let code = control as u8;
                out.push_str("\\u00");
                out.push(char::from(b"0123456789abcdef"[usize::from(code >> 4)]));
                out.push(char::from(b"0123456789abcdef"[usize::from(code & 15)]));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Appends `value` / 10^`places` without trailing zeros.
fn write_decimal(out: &mut String, value: i64, places: u32) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    let mut left = places;
    // Digits come last first; zeros at the end of the fraction are never written.
    let mut significant = false;
    while left > 0 {
        let digit = (rest % 10) as u8;
        rest /= 10;
        left -= 1;
        significant |= digit != 0;
        if significant {
            at -= 1;
            digits[at] = b'0' + digit;
        }
    }
    if significant {
        at -= 1;
        digits[at] = b'.';
    }
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits and a point are ASCII"));
}

/// Appends a time in quotes.
fn write_time(out: &mut String, unix_ms: i64) {
    out.push('"');
    push_rfc3339_ms(out, unix_ms);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    fn fix() -> Fix {
        Fix {
            time_ms: 1_700_000_000_250,
            lat_e7: -437_397_160,
            lon_e7: 74_251_530,
            altitude_mm: -1_500,
            speed_mm_s: 13_890,
            course_cdeg: 27_050,
            fields: FixFields(
                FixFields::POSITION
                    | FixFields::TIME
                    | FixFields::ALTITUDE
                    | FixFields::SPEED
                    | FixFields::COURSE
                    | FixFields::VALID,
            ),
            ..Fix::default()
        }
    }

    #[test]
    fn a_track_has_the_members_of_the_contract() {
        let device = DeviceId::new(b"van-7").unwrap();
        let track = Track {
            device: &device,
            sensor: "yard \"A\"\n",
            fix: &fix(),
            received_ms: 1_700_000_000_300,
        };
        let text = written(|out| write_track(out, &track, [AlarmKind::Sos, AlarmKind::Geofence]));
        assert_eq!(
            parsed(&text),
            json!({
                "device": "van-7", "sensor": "yard \"A\"\n",
                "time": "2023-11-14T22:13:20.250Z", "received": "2023-11-14T22:13:20.300Z",
                "lat": -43.739716, "lon": 7.425153, "altitude_m": -1.5, "speed_mps": 13.89,
                "course_deg": 270.5, "valid": true, "alarms": ["sos", "geofence"],
            })
        );
        let conflated = written(|out| write_conflated(out, &text, 3));
        assert_eq!(parsed(&conflated)["conflated"], json!(3));
        assert_eq!(written(|out| write_conflated(out, &text, 0)), text);
    }

    #[test]
    fn what_a_device_did_not_state_is_left_out() {
        let device = DeviceId::new(b"1").unwrap();
        let track = Track {
            device: &device,
            sensor: "",
            fix: &Fix::default(),
            received_ms: 0,
        };
        assert_eq!(
            parsed(&written(|out| write_track(out, &track, []))),
            json!({"device": "1", "received": "1970-01-01T00:00:00.000Z", "valid": false, "alarms": []})
        );
        assert_eq!(
            parsed(&written(|out| write_feature(out, &track, [], None)))["geometry"],
            Value::Null
        );
    }

    #[test]
    fn a_feature_has_its_point_as_longitude_then_latitude() {
        let device = DeviceId::new(b"1").unwrap();
        let track = Track {
            device: &device,
            sensor: "a",
            fix: &fix(),
            received_ms: 0,
        };
        let feature = parsed(&written(|out| write_feature(out, &track, [], None)));
        assert_eq!(
            feature["geometry"],
            json!({"type": "Point", "coordinates": [7.425153, -43.739716]})
        );
        assert_eq!(feature["id"], "1");
        assert_eq!(feature["properties"].get("lat"), None);
    }

    #[test]
    fn an_alarm_has_the_members_of_the_contract() {
        let alarm = Alarm {
            id: EventId([0x0a; 16]),
            device: DeviceId::new(b"van-7").unwrap(),
            kind: AlarmKind::Overspeed,
            phase: Phase::Raise,
            severity: Severity::Warning,
            rule: "overspeed".into(),
            start_ms: 1_700_000_000_000,
            fix: fix(),
            received_ms: 1_700_000_000_300,
            late: false,
            sensor: "yard".into(),
        };
        assert_eq!(
            parsed(&written(|out| write_alarm(out, &alarm))),
            json!({
                "id": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "device": "van-7", "kind": "overspeed",
                "phase": "raise", "severity": "warning", "rule": "overspeed",
                "start": "2023-11-14T22:13:20.000Z", "time": "2023-11-14T22:13:20.250Z",
                "received": "2023-11-14T22:13:20.300Z", "late": false, "lat": -43.739716,
                "lon": 7.425153, "speed_mps": 13.89, "sensor": "yard",
            })
        );
    }

    #[test]
    fn decimals_are_exact_and_short() {
        for (value, places, expected) in [
            (0, 7, "0"),
            (-1, 7, "-0.0000001"),
            (10_000_000, 7, "1"),
            (-1_800_000_000, 7, "-180"),
            (1_230, 3, "1.23"),
            (7, 0, "7"),
            (i64::from(u32::MAX), 3, "4294967.295"),
        ] {
            assert_eq!(written(|out| write_decimal(out, value, places)), expected);
        }
    }

    /// Times from RFC 3339 section 5.8, leap days, and the ends of the range.
    #[test]
    fn times_are_right_on_the_days_that_calendars_get_wrong() {
        for (unix_ms, expected) in [
            (482_196_050_520, "\"1985-04-12T23:20:50.520Z\""),
            (951_782_400_000, "\"2000-02-29T00:00:00.000Z\""),
            (4_107_542_399_999, "\"2100-02-28T23:59:59.999Z\""),
            (4_107_542_400_000, "\"2100-03-01T00:00:00.000Z\""),
            (-1, "\"1969-12-31T23:59:59.999Z\""),
            (i64::MAX, "\"9999-12-31T23:59:59.999Z\""),
            (i64::MIN, "\"0000-01-01T00:00:00.000Z\""),
        ] {
            assert_eq!(written(|out| write_time(out, unix_ms)), expected);
        }
    }
}
