//! Dates and times of day as devices write them.

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// With its century.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Clock {
    /// What a clock shows that is `east_s` seconds ahead of UTC.
    pub fn at(utc_s: u32, east_s: i64) -> Clock {
        let local = i64::from(utc_s) + east_s;
        let (year, month, day) = civil(local.div_euclid(86_400));
        let second = local.rem_euclid(86_400);
        Clock {
            year,
            month,
            day,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }

    /// UTC.
    pub fn utc(utc_s: u32) -> Clock {
        Clock::at(utc_s, 0)
    }

    /// `hhmmss`.
    pub fn hms(&self) -> String {
        format!("{:02}{:02}{:02}", self.hour, self.minute, self.second)
    }

    /// `ddmmyy`.
    pub fn dmy(&self) -> String {
        format!("{:02}{:02}{:02}", self.day, self.month, self.year % 100)
    }
}

/// Calendar date of a day counted from 1970-01-01.
fn civil(day: i64) -> (i64, u8, u8) {
    // Years are counted from March, so that a leap day is the last of its year.
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month as u8, of_month as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_the_borders() {
        // 2024-02-28T15:59:59Z, 2024-02-29T00:00:00Z and 2100-01-01T00:00:00Z by the calendar.
        let leap = Clock::utc(1_709_164_800);
        assert_eq!((leap.dmy(), leap.hms()), ("290224".into(), "000000".into()));
        let before = Clock::utc(1_709_135_999);
        assert_eq!(
            (before.dmy(), before.hms()),
            ("280224".into(), "155959".into())
        );
        assert_eq!(Clock::utc(4_102_444_800).year, 2100);
        let east = Clock::at(1_709_135_999, 8 * 3600);
        assert_eq!((east.dmy(), east.hms()), ("280224".into(), "235959".into()));
    }
}
