//! One moment of a receiver, put together from its sentences, and the date that goes with its time of day.

use super::super::calendar::{self, DAY_MS};
use super::super::{Report, Settings};
use super::standard::{Facts, Kind, Part, quality};
use crate::frame::{AttributeKey, TimeSource};

/// Attributes of most reports.
const ATTRIBUTES_EXPECTED: usize = 6;

/// What the sentences of one moment say together. Where two say the same, the first counts, but for the position.
#[derive(Default)]
pub(super) struct Epoch {
    facts: Facts,
    /// The kinds that are in, one bit each.
    kinds: u16,
    arrival_ms: i64,
    /// The last sentence that a report waits for.
    pub(super) last: Option<(Kind, [u8; 2])>,
    /// The report is out.
    pub(super) reported: bool,
}

impl Epoch {
    /// An epoch that begins with this sentence.
    pub(super) fn new(part: &Part, arrival_ms: i64) -> Epoch {
        Epoch {
            facts: part.facts,
            kinds: 1 << part.kind as u8,
            arrival_ms,
            last: None,
            reported: false,
        }
    }

    /// Whether a sentence belongs to a later moment: it has another time, or none and is of a kind that is in already.
    pub(super) fn is_over_before(&self, part: &Part) -> bool {
        match (self.facts.time_of_day_ms, part.facts.time_of_day_ms) {
            (Some(this), Some(that)) => this != that,
            _ => Kind::WITH_PLACE & self.kinds & 1 << part.kind as u8 != 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds == 0
    }

    /// Adds a sentence.
    pub(super) fn merge(&mut self, part: &Part) {
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
        known.vdop_e2 = known.vdop_e2.or(new.vdop_e2);
        known.separation_mm = known.separation_mm.or(new.separation_mm);
        known.quality = match (known.quality, new.quality) {
            // One sentence that warns outweighs the others.
            (Some(quality::NONE), _) | (_, Some(quality::NONE)) => Some(quality::NONE),
            // "A fix" of RMC or GLL is less than what GGA says about it.
            (Some(quality::FIX) | None, Some(new)) => Some(new),
            (known, _) => known,
        };
    }

    /// How many of the facts are known that a report waits for.
    pub(super) fn weight(&self) -> usize {
        self.facts.weight()
    }

    /// Whether a report is to be made of it: a sentence with a position is in.
    pub(super) fn is_to_report(&self) -> bool {
        !self.reported && self.kinds & Kind::WITH_PLACE != 0
    }

    /// Writes what it says into an empty report.
    pub(super) fn write(
        &self,
        clock: &DateClock,
        in_view: Option<u8>,
        settings: &Settings,
        report: &mut Report,
    ) {
        let facts = &self.facts;
        let fix = &mut report.fix;
        if let Some((lat_e7, lon_e7)) = facts.place {
            fix.set_position(lat_e7, lon_e7);
        }
        if let Some(time) = self.time(clock, settings) {
            fix.set_time(time);
        }
        if let Some(mm) = facts.altitude_mm {
            fix.set_altitude(mm);
        }
        if let Some(mm_s) = facts.speed_mm_s {
            fix.set_speed(mm_s);
        }
        if let Some(cdeg) = facts.course_cdeg {
            fix.set_course(u32::from(cdeg));
        }
        if let Some(count) = facts.satellites {
            fix.set_satellites(count);
        }
        if let Some(mm) = facts.accuracy_mm {
            fix.set_accuracy(mm);
        }
        let fixed = |&quality: &u8| quality != quality::NONE;
        fix.set_valid(facts.quality.as_ref().is_some_and(fixed));
        self.attributes(in_view, report);
    }

    fn attributes(&self, in_view: Option<u8>, report: &mut Report) {
        let facts = &self.facts;
        let hundredths = |value: u16| f64::from(value) / 100.0;
        report.attributes = Vec::with_capacity(ATTRIBUTES_EXPECTED);
        report.state(AttributeKey::FixMode, facts.quality);
        if facts.quality == Some(quality::ESTIMATED) {
            report.state(AttributeKey::DeadReckoning, Some(true));
        }
        report.state(AttributeKey::Hdop, facts.hdop_e2.map(hundredths));
        report.state(AttributeKey::Pdop, facts.pdop_e2.map(hundredths));
        report.state(AttributeKey::Vdop, facts.vdop_e2.map(hundredths));
        report.state(AttributeKey::SatellitesInView, in_view);
        let separation_m = facts.separation_mm.map(|mm| f64::from(mm) / 1000.0);
        report.state(AttributeKey::GeoidSeparationM, separation_m);
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
            return Some(repair(i64::from(days) * DAY_MS + of_day_ms));
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
            (Some(days), _) => self.known_ms = Some(i64::from(days) * DAY_MS + of_day_ms),
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
