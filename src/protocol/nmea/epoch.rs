//! One moment of a receiver, put together from its sentences, and the date that goes with its time of day.

use super::super::calendar::{self, DAY_MS};
use super::super::{Report, Settings};
use super::standard::{Facts, Kind, Part, quality};
use crate::frame::{Attribute, AttributeKey, Fix, FixFields, TimeSource, Value};

/// What the sentences of one moment say together. Where two say the same, the first counts, but for the position.
#[derive(Default)]
pub(super) struct Epoch {
    facts: Facts,
    /// The kinds that are in, one bit each.
    kinds: u8,
    arrival_ms: i64,
    /// The last sentence that a report waits for.
    pub(super) last: Option<(Kind, [u8; 2])>,
    /// The report is out.
    pub(super) reported: bool,
}

impl Epoch {
    pub(super) fn new(arrival_ms: i64) -> Epoch {
        Epoch {
            arrival_ms,
            ..Epoch::default()
        }
    }

    /// Whether a sentence belongs to a later moment: it has another time, or none and is of a kind that is in already.
    pub(super) fn is_over_before(&self, part: &Part) -> bool {
        match (self.facts.time_of_day_ms, part.facts.time_of_day_ms) {
            (Some(this), Some(that)) => this != that,
            _ => part.kind.has_place() && self.has(part.kind),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds == 0
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds & 1 << kind as u8 != 0
    }

    /// Adds a sentence. Returns whether it brought something that a report should wait for: not all that come last in
    /// a cycle do, and some come in every fifth cycle only.
    pub(super) fn merge(&mut self, part: &Part) -> bool {
        let before = self.facts;
        self.kinds |= 1 << part.kind as u8;
        let (known, new) = (&mut self.facts, &part.facts);
        known.time_of_day_ms = known.time_of_day_ms.or(new.time_of_day_ms);
        known.date_days = known.date_days.or(new.date_days);
        // Some receivers give RMC the position of the epoch before.
        let fresh = matches!(part.kind, Kind::Gga | Kind::Gns);
        known.place = match fresh {
            true => new.place.or(known.place),
            false => known.place.or(new.place),
        };
        known.altitude_mm = known.altitude_mm.or(new.altitude_mm);
        known.speed_mm_s = known.speed_mm_s.or(new.speed_mm_s);
        known.course_cdeg = known.course_cdeg.or(new.course_cdeg);
        known.satellites = known.satellites.or(new.satellites);
        known.accuracy_mm = known.accuracy_mm.or(new.accuracy_mm);
        known.hdop_e2 = known.hdop_e2.or(new.hdop_e2);
        known.pdop_e2 = known.pdop_e2.or(new.pdop_e2);
        known.quality = match (known.quality, new.quality) {
            // One sentence that warns outweighs the others.
            (Some(quality::NONE), _) | (_, Some(quality::NONE)) => Some(quality::NONE),
            // "A fix" of RMC or GLL is less than what GGA says about it.
            (Some(quality::FIX) | None, Some(new)) => Some(new),
            (known, _) => known,
        };
        // RMC brings the date of its own epoch.
        part.kind == Kind::Rmc || known.weight() > before.weight()
    }

    /// The report, if a sentence with a position is in.
    pub(super) fn report(&self, clock: &DateClock, settings: &Settings) -> Option<Report> {
        let places = [Kind::Rmc, Kind::Gga, Kind::Gns, Kind::Gll, Kind::Vendor];
        if !places.into_iter().any(|kind| self.has(kind)) {
            return None;
        }
        let facts = &self.facts;
        let mut fix = Fix::default();
        let mut state = |stated: bool, field: u16| {
            if stated {
                fix.fields.0 |= field;
            }
        };
        let valid = facts
            .quality
            .is_some_and(|quality| quality != quality::NONE);
        state(facts.place.is_some(), FixFields::POSITION);
        state(facts.place.is_some() && valid, FixFields::VALID);
        state(facts.altitude_mm.is_some(), FixFields::ALTITUDE);
        state(facts.speed_mm_s.is_some(), FixFields::SPEED);
        state(facts.course_cdeg.is_some(), FixFields::COURSE);
        state(facts.satellites.is_some(), FixFields::SATELLITES);
        state(facts.accuracy_mm.is_some(), FixFields::ACCURACY);
        (fix.lat_e7, fix.lon_e7) = facts.place.unwrap_or_default();
        fix.altitude_mm = facts.altitude_mm.unwrap_or_default();
        fix.speed_mm_s = facts.speed_mm_s.unwrap_or_default();
        fix.course_cdeg = facts.course_cdeg.unwrap_or_default();
        fix.satellites = facts.satellites.unwrap_or_default();
        fix.accuracy_mm = facts.accuracy_mm.unwrap_or_default();
        if let Some((time_ms, source)) = self.time(clock, settings) {
            (fix.time_ms, fix.time_source) = (time_ms, source);
            fix.fields.0 |= FixFields::TIME;
        }
        Some(Report {
            fix,
            attributes: self.attributes(),
            ..Report::default()
        })
    }

    fn attributes(&self) -> Vec<Attribute> {
        let hundredths = |value: u32| Value::Float(f64::from(value) / 100.0);
        let int = |value: u8| Value::Int(i64::from(value));
        let stated = [
            (AttributeKey::FixMode, self.facts.quality.map(int)),
            (AttributeKey::Hdop, self.facts.hdop_e2.map(hundredths)),
            (AttributeKey::Pdop, self.facts.pdop_e2.map(hundredths)),
        ];
        stated
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| Attribute::new(key, value)))
            .collect()
    }

    fn time(&self, clock: &DateClock, settings: &Settings) -> Option<(i64, TimeSource)> {
        let Some(of_day_ms) = self.facts.time_of_day_ms.map(i64::from) else {
            let has_place = self.facts.place.is_some();
            return (has_place && !settings.recorded)
                .then_some((self.arrival_ms, TimeSource::Arrival));
        };
        let repair =
            |time_ms| calendar::repair_rollover(time_ms, self.arrival_ms, settings.recorded);
        if let Some(days) = self.facts.date_days {
            return Some(repair(days * DAY_MS + of_day_ms));
        }
        if let Some(known_ms) = clock.known_ms {
            let (time_ms, source) = repair(nearest(of_day_ms, known_ms));
            return Some(match source {
                TimeSource::Device => (time_ms, TimeSource::DateCompleted),
                repaired => (time_ms, repaired),
            });
        }
        let time_ms = nearest(of_day_ms, self.arrival_ms);
        (!settings.recorded).then_some((time_ms, TimeSource::DateCompleted))
    }
}

/// The last time with a date.
#[derive(Default)]
pub(super) struct DateClock {
    known_ms: Option<i64>,
}

impl DateClock {
    /// Learns the date of a sentence, or follows its time of day across midnight. A receiver without a fix often has a
    /// date that it made up.
    pub(super) fn follow(&mut self, facts: &Facts) {
        let Some(of_day_ms) = facts.time_of_day_ms.map(i64::from) else {
            return;
        };
        if facts.quality == Some(quality::NONE) {
            return;
        }
        match (facts.date_days, self.known_ms) {
            (Some(days), _) => self.known_ms = Some(days * DAY_MS + of_day_ms),
            (None, Some(known_ms)) => self.known_ms = Some(nearest(of_day_ms, known_ms)),
            (None, None) => {}
        }
    }
}

/// The moment with this time of day that is nearest to another.
fn nearest(of_day_ms: i64, to_ms: i64) -> i64 {
    let same_day = to_ms.div_euclid(DAY_MS) * DAY_MS + of_day_ms;
    match same_day - to_ms {
        ahead if ahead > DAY_MS / 2 => same_day - DAY_MS,
        behind if behind < -DAY_MS / 2 => same_day + DAY_MS,
        _ => same_day,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_goes_to_the_nearest_day() {
        let noon = 100 * DAY_MS + DAY_MS / 2;
        let late = 101 * DAY_MS - 1000;
        assert_eq!(nearest(0, late), 101 * DAY_MS, "past midnight");
        assert_eq!(
            nearest(DAY_MS - 1, 101 * DAY_MS),
            101 * DAY_MS - 1,
            "before it"
        );
        assert_eq!(nearest(1, noon), 100 * DAY_MS + 1);
    }
}
