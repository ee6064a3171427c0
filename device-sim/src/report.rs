//! What a device reports: one position with its words, in exactly the units that JT/T 808 carries. What other protocols
//! cannot carry exactly is rounded before ([`crate::crew::Protocol::round`]).
//!
//! Everything downstream (encoder, ledger, truth) works on these whole numbers, so there is one value of a position
//! on both ends and no rounding to argue about.

/// One position report. Quantised: 1e-6 degree, 1 m, 0.1 km/h, 1 degree, 1 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// UTC, seconds since 1970.
    pub time_s: u32,
    /// Latitude, 1e-6 degree, north positive.
    pub lat_e6: i32,
    /// Longitude, 1e-6 degree, east positive.
    pub lon_e6: i32,
    /// Metres above sea level.
    pub altitude_m: u16,
    /// 0.1 km/h.
    pub speed_dkmh: u16,
    /// Degrees clockwise from north, 0 to 359.
    pub course_deg: u16,
    /// The alarm word, bits as in [`crate::alarm`].
    pub alarms: u32,
    /// Driven so far, 0.1 km.
    pub odometer_hm: u32,
    /// Satellites used.
    pub satellites: u8,
    /// Mobile network signal, 0 to 31.
    pub signal: u8,
}

impl Report {
    /// UTC, milliseconds since 1970.
    pub fn time_ms(&self) -> i64 {
        i64::from(self.time_s) * 1000
    }
}

/// Whole degrees of a coordinate in 1e-6 degree, and the rest in 1e-5 minute. The sign is dropped.
pub(crate) fn degrees_minutes(e6: i32) -> (u32, u32) {
    let e6 = e6.unsigned_abs();
    (e6 / 1_000_000, e6 % 1_000_000 * 6)
}

/// A position as a subscriber of the live stream is shown it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Latitude, degrees.
    pub lat: Option<f64>,
    /// Longitude, degrees.
    pub lon: Option<f64>,
    /// Speed, m/s.
    pub speed_mps: Option<f64>,
    /// Degrees clockwise from north.
    pub course_deg: Option<f64>,
}

/// What is shown may differ by this from what was sent: degrees of place, m/s, degrees of course. Protocols round
/// speeds to a hundredth of a knot or a thousandth of a metre a second.
const SHOWN_WITHIN: (f64, f64, f64) = (1e-6, 0.05, 0.5);

impl Report {
    /// Whether a position that was shown is the one that was sent.
    pub fn is_shown_by(&self, shown: &Shown) -> bool {
        let near = |shown: Option<f64>, sent: f64, within: f64| {
            shown.is_some_and(|shown| (shown - sent).abs() <= within)
        };
        let (place, speed, course) = SHOWN_WITHIN;
        near(shown.lat, f64::from(self.lat_e6) / 1e6, place)
            && near(shown.lon, f64::from(self.lon_e6) / 1e6, place)
            && near(shown.speed_mps, f64::from(self.speed_dkmh) / 36.0, speed)
            && near(shown.course_deg, f64::from(self.course_deg), course)
    }

    /// Speed in knots: a knot is 1.852 km/h.
    pub(crate) fn knots(&self) -> f64 {
        f64::from(self.speed_dkmh) / 18.52
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_position_is_held_against_the_report() {
        let report = Report {
            lat_e6: -33_867_485,
            lon_e6: 151_206_990,
            speed_dkmh: 650,
            course_deg: 271,
            ..Report::default()
        };
        let right = Shown {
            lat: Some(-33.867485),
            lon: Some(151.20699),
            // 65 / 3.6 = 18.0556
            speed_mps: Some(18.056),
            course_deg: Some(271.0),
        };
        assert!(report.is_shown_by(&right));
        let wrong = [
            Shown {
                lat: Some(33.867485),
                ..right
            },
            Shown {
                lon: Some(151.206993),
                ..right
            },
            // Knots taken for km/h.
            Shown {
                speed_mps: Some(9.749),
                ..right
            },
            Shown {
                course_deg: None,
                ..right
            },
        ];
        for shown in wrong {
            assert!(!report.is_shown_by(&shown), "{shown:?}");
        }
    }

    #[test]
    fn coordinates_have_minutes() {
        // 33.867487 degrees: 0.867487 x 60 = 52.04922 minutes.
        assert_eq!(degrees_minutes(-33_867_487), (33, 5_204_922));
        let report = Report {
            speed_dkmh: 1_852,
            ..Report::default()
        };
        assert!((report.knots() - 100.0).abs() < 1e-9);
    }
}
