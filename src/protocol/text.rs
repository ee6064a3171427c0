//! Fields of text messages to numbers in fixed point, without floating point on the way. An empty field is unknown:
//! `None`.

use super::calendar;

/// Milliseconds since midnight of `hhmmss` or `hhmmss.sss`.
pub(in crate::protocol) fn time_of_day_ms(field: &[u8]) -> Option<u32> {
    let (whole, fraction) = field.split_at_checked(6)?;
    let [hour, minute, second] = pairs(whole)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let ms = match fraction {
        [] => 0,
        fraction => decimal(fraction, 3)?,
    };
    let seconds = u32::from(hour) * 3600 + u32::from(minute) * 60 + u32::from(second);
    Some(seconds * 1000 + u32::try_from(ms.min(999)).ok()?)
}

/// Days since 1970 of `ddmmyy`. A year of 80 to 99 is in the last century.
pub(in crate::protocol) fn date_days(field: &[u8]) -> Option<i64> {
    let [day, month, year] = pairs(field)?;
    let century = if year < 80 { 2000 } else { 1900 };
    calendar::days(century + i64::from(year), i64::from(month), i64::from(day))
}

/// Three numbers of two digits.
fn pairs(field: &[u8]) -> Option<[u8; 3]> {
    let &[a, b, c, d, e, f] = field else {
        return None;
    };
    let digits = [a, b, c, d, e, f];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |high: u8, low: u8| (high - b'0') * 10 + low - b'0';
    Some([two(a, b), two(c, d), two(e, f)])
}

/// Most digits before the point of a number, and most decimals that [`decimal`] keeps: both together fit 64 bits.
const DIGITS_MAX: usize = 9;

const POWERS_OF_TEN: [i64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut exponent = 1;
    while exponent <= DIGITS_MAX {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// A number with at most nine digits before the point as `value * 10^scale`, rounded; digits beyond the scale are read.
/// The scale is at most nine.
pub(in crate::protocol) fn decimal(field: &[u8], scale: u32) -> Option<i64> {
    let field = field.trim_ascii();
    let (negative, digits) = match field.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, field),
    };
    let (mut value, mut count) = (0_i64, 0);
    let fraction = loop {
        match digits.get(count) {
            None if count == 0 => return None,
            None => break &[][..],
            Some(b'.') => break &digits[count + 1..],
            Some(_) if count == DIGITS_MAX => return None,
            Some(&digit) => value = value * 10 + digit_value(digit)?,
        }
        count += 1;
    };
    if count + fraction.len() == 0 {
        return None;
    }
    let scale = (scale as usize).min(DIGITS_MAX);
    let (kept, beyond) = fraction.split_at(fraction.len().min(scale));
    for &digit in kept {
        value = value * 10 + digit_value(digit)?;
    }
    value *= POWERS_OF_TEN[scale - kept.len()];
    if let Some(&next) = beyond.first() {
        if !beyond.iter().all(u8::is_ascii_digit) {
            return None;
        }
        value += i64::from(next >= b'5');
    }
    Some(if negative { -value } else { value })
}

fn digit_value(digit: u8) -> Option<i64> {
    let value = digit.wrapping_sub(b'0');
    (value < 10).then_some(i64::from(value))
}

/// `ddmm.mmmm` and a hemisphere letter to 1e-7 degrees.
pub(in crate::protocol) fn degrees_e7(
    field: &[u8],
    hemisphere: &[u8],
    degrees_max: i64,
) -> Option<i32> {
    let negative = match hemisphere.trim_ascii() {
        b"N" | b"E" => false,
        b"S" | b"W" => true,
        _ => return None,
    };
    // Nine decimals of a minute are 0.002 mm.
    let number = decimal(field, 9).filter(|&number| number >= 0)?;
    let (degrees, minutes_e9) = (number / 100_000_000_000, number % 100_000_000_000);
    if minutes_e9 >= 60_000_000_000 {
        return None;
    }
    let e7 = degrees * 10_000_000 + (minutes_e9 + 3000) / 6000;
    if e7 > degrees_max * 10_000_000 {
        return None;
    }
    Some(if negative { -e7 } else { e7 } as i32)
}

/// Signed decimal degrees to 1e-7 degrees.
pub(in crate::protocol) fn signed_degrees_e7(field: &[u8], degrees_max: i64) -> Option<i32> {
    let e7 = decimal(field, 7)?;
    (e7.abs() <= degrees_max * 10_000_000).then_some(e7 as i32)
}

/// Knots to mm/s; a knot is 1852 m/h.
pub(in crate::protocol) fn knots_mm_s(field: &[u8]) -> Option<u32> {
    let e6 = decimal(field, 6).filter(|&knots| knots >= 0)?;
    u32::try_from((e6 * 1852 + 1_800_000) / 3_600_000).ok()
}

/// km/h to mm/s.
pub(in crate::protocol) fn kmh_mm_s(field: &[u8]) -> Option<u32> {
    let e6 = decimal(field, 6).filter(|&kmh| kmh >= 0)?;
    u32::try_from((e6 + 1800) / 3600).ok()
}

/// Degrees of a course to 0.01 degree below 360.
pub(in crate::protocol) fn course_cdeg(field: &[u8]) -> Option<u16> {
    let cdeg = decimal(field, 2)?;
    (0..=36_000)
        .contains(&cdeg)
        .then_some((cdeg % 36_000) as u16)
}

/// Metres to millimetres.
pub(in crate::protocol) fn metres_mm(field: &[u8]) -> Option<i32> {
    i32::try_from(decimal(field, 3)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_become_degrees_exactly() {
        // 48 deg 07.038' is 48.1173 deg, 11 deg 31.000' is 11.516667 deg.
        assert_eq!(degrees_e7(b"4807.038", b"N", 90), Some(481_173_000));
        assert_eq!(degrees_e7(b"01131.000", b"W", 180), Some(-115_166_667));
        assert_eq!(degrees_e7(b"9000.0001", b"N", 90), None);
        assert_eq!(degrees_e7(b"4860.0", b"N", 90), None);
        assert_eq!(degrees_e7(b"-4807.038", b"N", 90), None);
        assert_eq!(degrees_e7(b"", b"N", 90), None);
        assert_eq!(degrees_e7(b"4807.038", b"", 90), None);
    }

    #[test]
    fn times_have_any_number_of_decimals() {
        assert_eq!(time_of_day_ms(b"235960"), Some(86_400_000));
        assert_eq!(time_of_day_ms(b"000000.5"), Some(500));
        assert_eq!(time_of_day_ms(b"000000.9999"), Some(999));
        for bad in [
            &b""[..],
            b"12345",
            b"240000",
            b"126000",
            b"12345x",
            b"123456.x",
        ] {
            assert_eq!(time_of_day_ms(bad), None);
        }
    }

    #[test]
    fn two_digit_years_turn_at_80() {
        assert_eq!(date_days(b"010170"), calendar::days(2070, 1, 1));
        assert_eq!(date_days(b"060180"), calendar::days(1980, 1, 6));
        assert_eq!(date_days(b"310299"), None);
        assert_eq!(date_days(b"0503"), None);
    }

    #[test]
    fn speeds_are_metric() {
        assert_eq!(knots_mm_s(b"22.4"), Some(11_524), "22.4 kn is 11.5236 m/s");
        assert_eq!(kmh_mm_s(b"36"), Some(10_000));
        assert_eq!(knots_mm_s(b"-1"), None);
    }

    #[test]
    fn decimals_are_rounded_and_bounded() {
        assert_eq!(decimal(b"1.2345", 3), Some(1235));
        assert_eq!(decimal(b"-46.0", 3), Some(-46_000));
        assert_eq!(
            decimal(b"999999999.999999999999999999999", 9),
            Some(1_000_000_000_000_000_000)
        );
        for bad in [&b""[..], b".", b"-", b"1234567890", b"1e5", b"1.2.3"] {
            assert_eq!(decimal(bad, 3), None);
        }
    }
}
