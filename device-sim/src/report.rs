//! What a device reports: one position with its words, in exactly the units that JT/T 808 carries.
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
