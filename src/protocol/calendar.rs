//! Days, dates and the repair of dates, without a clock.

use crate::frame::TimeSource;

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// A receiver that lost count of the GPS weeks is this far behind: 1024 weeks.
const ROLLOVER_MS: i64 = 7168 * DAY_MS;

/// No live fix is older than this program: 2020-01-01, UTC.
const FLOOR_MS: i64 = 1_577_836_800_000;

/// A repaired date that lies further ahead of arrival than this was not a lost week count, but never set.
const AHEAD_MS_MAX: i64 = DAY_MS;

/// Days since 1970-01-01 of a date of the Gregorian calendar; `None` if there is no such date.
pub(super) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) || !(0..=9999).contains(&year) {
        return None;
    }
    // Years that begin in March put the leap day last, so the days before a month follow one linear rule.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before_year = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before_month = (153 * month + 2) / 5;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    Some(before_year + before_month + day - 1 - 719_468)
}

/// Milliseconds since 1970 of a date and a time of day; second 60 is a leap second.
pub(super) fn time_ms(date: (i64, i64, i64), time: (i64, i64, i64)) -> Option<i64> {
    let (hour, minute, second) = time;
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    Some(days(date.0, date.1, date.2)? * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000)
}

/// Six bytes of binary-coded decimal, `YY MM DD hh mm ss`, in a zone; `None` if they are no date.
pub(super) fn bcd_time_ms(bytes: &[u8; 6], zone_minutes: i32) -> Option<i64> {
    let mut field = [0; 6];
    for (value, &byte) in field.iter_mut().zip(bytes) {
        *value = i64::from(bcd(byte)?);
    }
    let [year, month, day, hour, minute, second] = field;
    let local = time_ms((2000 + year, month, day), (hour, minute, second))?;
    Some(local - i64::from(zone_minutes) * 60_000)
}

/// Two decimal digits in a byte.
pub(super) fn bcd(byte: u8) -> Option<u8> {
    let (high, low) = (byte >> 4, byte & 15);
    (high < 10 && low < 10).then_some(high * 10 + low)
}

/// The moment with this time of day that is nearest to another; of two, the earlier.
pub(super) fn nearest(of_day_ms: i64, to_ms: i64) -> i64 {
    let same_day = to_ms.div_euclid(DAY_MS) * DAY_MS + of_day_ms;
    match same_day - to_ms {
        ahead if ahead >= DAY_MS / 2 => same_day - DAY_MS,
        behind if behind < -DAY_MS / 2 => same_day + DAY_MS,
        _ => same_day,
    }
}

/// The rule for lost weeks: a date before 2020 in a live stream gets 1024 weeks until it is not, unless that leads into
/// the future, where it stays as it is and is just old.
pub(super) fn repair_rollover(time_ms: i64, arrival_ms: i64, recorded: bool) -> (i64, TimeSource) {
    if recorded || time_ms >= FLOOR_MS {
        return (time_ms, TimeSource::Device);
    }
    let missing = (FLOOR_MS - time_ms + ROLLOVER_MS - 1) / ROLLOVER_MS;
    let repaired = time_ms + missing * ROLLOVER_MS;
    if repaired > arrival_ms.saturating_add(AHEAD_MS_MAX) {
        (time_ms, TimeSource::Device)
    } else {
        (repaired, TimeSource::RolloverRepaired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{civil_date, rfc3339_ms};

    #[test]
    fn dates_and_days_lead_to_each_other() {
        assert_eq!(days(1970, 1, 1), Some(0));
        assert_eq!(days(2000, 2, 29), Some(11_016));
        for day in -200_000..200_000 {
            let (year, month, of_month) = civil_date(day);
            assert_eq!(days(year, month, of_month), Some(day));
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for (year, month, day) in [(2023, 2, 29), (2023, 0, 1), (2023, 13, 1), (2023, 4, 31)] {
            assert_eq!(days(year, month, day), None);
        }
        assert_eq!(
            bcd_time_ms(&[0x23, 0x1a, 0x01, 0, 0, 0], 0),
            None,
            "not a digit"
        );
        assert_eq!(
            bcd_time_ms(&[0; 6], 480),
            None,
            "month 00 of a terminal without a fix"
        );
    }

    #[test]
    fn a_leap_second_is_a_time_of_day() {
        let text = rfc3339_ms(time_ms((2016, 12, 31), (23, 59, 60)).unwrap());
        assert_eq!(text, "2017-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_nearest_moment_may_be_of_the_day_before_or_after() {
        let noon = 10 * DAY_MS + DAY_MS / 2;
        assert_eq!(nearest(0, noon), 10 * DAY_MS);
        assert_eq!(nearest(0, noon + 1), 11 * DAY_MS);
        assert_eq!(nearest(DAY_MS - 1, 10 * DAY_MS), 10 * DAY_MS - 1);
    }

    #[test]
    fn lost_weeks_are_repaired_only_in_live_streams_and_never_into_the_future() {
        let arrival = time_ms((2026, 6, 1), (0, 0, 0)).unwrap();
        // 2026-05-31 less 1024 weeks.
        let early = time_ms((2006, 10, 15), (12, 0, 0)).unwrap();
        let (repaired, source) = repair_rollover(early, arrival, false);
        assert_eq!(rfc3339_ms(repaired), "2026-05-31T12:00:00.000Z");
        assert_eq!(source, TimeSource::RolloverRepaired);
        assert_eq!(
            repair_rollover(early, arrival, true),
            (early, TimeSource::Device)
        );
        // A clock that was never set: two rollovers later it would be 2039.
        let unset = time_ms((2000, 1, 1), (0, 0, 0)).unwrap();
        assert_eq!(
            repair_rollover(unset, arrival, false),
            (unset, TimeSource::Device)
        );
    }
}
