//! An alarm as a subscriber gets it: the members of the payload that the checker compares.

use serde_json::Value;

/// Raised or cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It began.
    Raise,
    /// It ended.
    Clear,
}

impl Phase {
    /// The name in payloads.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Raise => "raise",
            Phase::Clear => "clear",
        }
    }
}

/// What a delivered alarm says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Identity of the event.
    pub id: u128,
    /// Whose.
    pub device: String,
    /// Kind of alarm.
    pub kind: String,
    /// Rule that found it.
    pub rule: String,
    /// Raised or cleared.
    pub phase: Phase,
    /// UTC of the first report that met the condition, ms.
    pub start_ms: i64,
    /// The journal that it went through, if stated.
    pub journal: Option<String>,
    /// Its place in that journal, if stated.
    pub seq: Option<u64>,
}

impl Delivery {
    /// Reads a payload; `None` if a member that identifies the alarm is missing or not readable.
    pub fn read(payload: &Value) -> Option<Delivery> {
        let text = |name: &str| payload.get(name)?.as_str();
        let id = text("id")?;
        Some(Delivery {
            id: u128::from_str_radix(id, 16)
                .ok()
                .filter(|_| id.len() == 32)?,
            device: text("device")?.to_string(),
            kind: text("kind")?.to_string(),
            rule: text("rule")?.to_string(),
            phase: match text("phase")? {
                "raise" => Phase::Raise,
                "clear" => Phase::Clear,
                _ => return None,
            },
            start_ms: time_ms(text("start")?)?,
            journal: text("journal").map(str::to_string),
            seq: payload.get("seq").and_then(Value::as_u64),
        })
    }
}

/// Reads RFC 3339 in UTC (`2023-11-14T22:13:20.5Z`) as milliseconds since 1970.
pub fn time_ms(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').or(text.strip_suffix("+00:00"))?;
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| all)
    };
    let marks = [(4, '-'), (7, '-'), (10, 'T'), (13, ':'), (16, ':')];
    let marked = |&(at, mark): &(usize, char)| text[at..].starts_with(mark);
    if !text.is_ascii() || text.len() < 19 || !marks.iter().all(marked) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let clock = (number(11..13)? * 60 + number(14..16)?) * 60 + number(17..19)?;
    let milliseconds = match text.get(19..) {
        Some("") => 0,
        Some(rest) => {
            let digits = rest.strip_prefix('.').filter(|digits| !digits.is_empty())?;
            let padded: String = digits.chars().chain("000".chars()).take(3).collect();
            padded.parse::<u16>().ok()?.into()
        }
        None => return None,
    };
    // Days since 1970; years are counted from March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day = days + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some((day * 86_400 + clock) * 1000 + milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2023-11-14T22:13:20.000Z", Some(1_700_000_000_000)),
            ("2023-11-14T22:13:20.05Z", Some(1_700_000_000_050)),
            ("2024-02-29T00:00:00.1239+00:00", Some(1_709_164_800_123)),
            ("2023-11-14 22:13:20Z", None),
            ("2023-11-14T22:13:20", None),
            ("2023-11-14T22:13:20.Z", None),
            ("2023-1-14T022:13:20Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn payload_without_identity_is_no_delivery() {
        let whole = serde_json::json!({
            "id": "000102030405060708090a0b0c0d0e0f", "device": "13900000000", "kind": "sos",
            "rule": "device", "phase": "raise", "start": "2023-11-14T22:13:20.000Z", "seq": 7,
        });
        let read = Delivery::read(&whole).unwrap();
        assert_eq!(
            (read.phase, read.seq, read.journal),
            (Phase::Raise, Some(7), None)
        );
        for member in ["id", "device", "kind", "rule", "phase", "start"] {
            let mut cut = whole.clone();
            cut.as_object_mut().unwrap().remove(member);
            assert_eq!(Delivery::read(&cut), None, "without {member}");
        }
    }
}
