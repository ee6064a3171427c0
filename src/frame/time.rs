//! How a time is written for others: RFC 3339 in UTC with milliseconds.

const DAY_MS: i64 = 86_400_000;

/// 0000-01-01 and 9999-12-31T23:59:59.999, milliseconds since 1970: the form has no other years.
const RANGE_MS: (i64, i64) = (-62_167_219_200_000, 253_402_300_799_999);

/// A time in the form of RFC 3339 with milliseconds, from milliseconds since 1970. Times that have no such form become
/// the nearest that has one.
pub fn rfc3339_ms(unix_ms: i64) -> String {
    let mut text = String::with_capacity(24);
    push_rfc3339_ms(&mut text, unix_ms);
    text
}

/// Appends what [`rfc3339_ms`] gives.
pub fn push_rfc3339_ms(out: &mut String, unix_ms: i64) {
    let unix_ms = unix_ms.clamp(RANGE_MS.0, RANGE_MS.1);
    let of_day = unix_ms.rem_euclid(DAY_MS);
    let (year, month, day) = civil_date(unix_ms.div_euclid(DAY_MS));
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, width: usize, mut value: i64| {
        for place in (at..at + width).rev() {
            text[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3_600_000);
    put(14, 2, of_day / 60_000 % 60);
    put(17, 2, of_day / 1_000 % 60);
    put(20, 3, of_day % 1_000);
    out.push_str(std::str::from_utf8(&text).expect("digits and separators are ASCII"));
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01. Years are counted from March, so that the
/// leap day is a year's last (the idea of Hinnant, "chrono-compatible low-level date algorithms").
pub fn civil_date(days: i64) -> (i64, i64, i64) {
    const CYCLE: i64 = 146_097; // Days of 400 years.
    const MARCH_YEAR_0: i64 = -719_468;
    let since = days - MARCH_YEAR_0;
    let (cycle, day) = (since.div_euclid(CYCLE), since.rem_euclid(CYCLE));
    // Take the leap days out: one after each 4 years (1460 days before it), but not each 100, but each 400.
    let year = (day - day / 1460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // From March on, months have 31 30 31 30 31 days, and again: 153 in five.
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let january_on = i64::from(month >= 10);
    (
        400 * cycle + year + january_on,
        month + 3 - 12 * january_on,
        day_of_month,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_at_the_edges_of_the_calendar() {
        // Expected values from GNU date.
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_603_200_000, "2024-12-31T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339_ms(unix_ms), text);
        }
    }
}
