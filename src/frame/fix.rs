//! Where and when: one position of one device in fixed-point units.

use serde::{Deserialize, Serialize};

/// Bytes of an encoded fix.
const FIX_BYTES: usize = 40;

/// Which fields of a [`Fix`] the device stated, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixFields(pub u16);

impl FixFields {
    /// Latitude and longitude.
    pub const POSITION: u16 = 1;
    /// Time of the fix.
    pub const TIME: u16 = 1 << 1;
    /// Altitude.
    pub const ALTITUDE: u16 = 1 << 2;
    /// Speed over ground.
    pub const SPEED: u16 = 1 << 3;
    /// Course over ground.
    pub const COURSE: u16 = 1 << 4;
    /// Count of satellites.
    pub const SATELLITES: u16 = 1 << 5;
    /// Accuracy.
    pub const ACCURACY: u16 = 1 << 6;
    /// The receiver says that the position is good.
    pub const VALID: u16 = 1 << 7;

    /// Whether all bits of `mask` are set.
    pub fn has(self, mask: u16) -> bool {
        self.0 & mask == mask
    }
}

/// Where the time of a fix comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum TimeSource {
    /// The device stated none.
    #[default]
    None = 0,
    /// The receiver's UTC date and time.
    Device = 1,
    /// The receiver's time of day; the date was completed from elsewhere.
    DateCompleted = 2,
    /// The receiver's date, moved by 1024 weeks.
    RolloverRepaired = 3,
    /// The time of arrival here.
    Arrival = 4,
}

/// One position. A field counts only if its bit in [`Fix::fields`] is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// Latitude, 1e-7 degree, WGS 84, north positive.
    pub lat_e7: i32,
    /// Longitude, 1e-7 degree, WGS 84, east positive.
    pub lon_e7: i32,
    /// Altitude above mean sea level, millimetres.
    pub altitude_mm: i32,
    /// Speed over ground, millimetres per second.
    pub speed_mm_s: u32,
    /// Estimated horizontal error, millimetres.
    pub accuracy_mm: u32,
    /// Course over ground, 0.01 degree clockwise from true north, 0 to 35,999.
    pub course_cdeg: u16,
    /// Satellites used.
    pub satellites: u8,
    /// Where the time comes from.
    pub time_source: TimeSource,
    /// Which of the fields were stated.
    pub fields: FixFields,
}

impl Fix {
    /// Latitude and longitude in degrees, if stated.
    pub fn position_deg(&self) -> Option<(f64, f64)> {
        let stated = self.fields.has(FixFields::POSITION);
        stated.then(|| (f64::from(self.lat_e7) / 1e7, f64::from(self.lon_e7) / 1e7))
    }

    /// UTC in milliseconds, if stated.
    pub fn time(&self) -> Option<i64> {
        self.fields.has(FixFields::TIME).then_some(self.time_ms)
    }

    /// Speed in metres per second, if stated.
    pub fn speed_mps(&self) -> Option<f64> {
        self.fields
            .has(FixFields::SPEED)
            .then(|| f64::from(self.speed_mm_s) / 1e3)
    }

    /// Course in degrees, if stated.
    pub fn course_deg(&self) -> Option<f64> {
        self.fields
            .has(FixFields::COURSE)
            .then(|| f64::from(self.course_cdeg) / 1e2)
    }

    /// Altitude in metres, if stated.
    pub fn altitude_m(&self) -> Option<f64> {
        self.fields
            .has(FixFields::ALTITUDE)
            .then(|| f64::from(self.altitude_mm) / 1e3)
    }

    /// States the position, 1e-7 degree; out of range it stays unstated.
    pub fn set_position(&mut self, lat_e7: i32, lon_e7: i32) {
        let stated = Fix {
            lat_e7,
            lon_e7,
            course_cdeg: 0,
            ..*self
        };
        if stated.in_range() {
            (self.lat_e7, self.lon_e7) = (lat_e7, lon_e7);
            self.fields.0 |= FixFields::POSITION;
        }
    }

    /// States the time, UTC in milliseconds since 1970, and where it comes from.
    pub fn set_time(&mut self, (time_ms, source): (i64, TimeSource)) {
        (self.time_ms, self.time_source) = (time_ms, source);
        self.fields.0 |= FixFields::TIME;
    }

    /// States the speed over ground, mm/s.
    pub fn set_speed(&mut self, mm_s: u32) {
        self.speed_mm_s = mm_s;
        self.fields.0 |= FixFields::SPEED;
    }

    /// States the course over ground, 0.01 degree; a full circle is 0, and more stays unstated.
    pub fn set_course(&mut self, cdeg: u32) {
        if cdeg <= 36_000 {
            self.course_cdeg = (cdeg % 36_000) as u16;
            self.fields.0 |= FixFields::COURSE;
        }
    }

    /// States the altitude, mm.
    pub fn set_altitude(&mut self, mm: i32) {
        self.altitude_mm = mm;
        self.fields.0 |= FixFields::ALTITUDE;
    }

    /// States the count of satellites.
    pub fn set_satellites(&mut self, count: u8) {
        self.satellites = count;
        self.fields.0 |= FixFields::SATELLITES;
    }

    /// States the accuracy, mm.
    pub fn set_accuracy(&mut self, mm: u32) {
        self.accuracy_mm = mm;
        self.fields.0 |= FixFields::ACCURACY;
    }

    /// Says whether the receiver vouches for the position; without a position and a time it cannot.
    pub fn set_valid(&mut self, valid: bool) {
        let valid = valid && self.fields.has(FixFields::POSITION | FixFields::TIME);
        if valid {
            self.fields.0 |= FixFields::VALID;
        } else {
            self.fields.0 &= !FixFields::VALID;
        }
    }

    /// Fixed layout, little-endian, padded with zeros.
    pub fn encode(&self) -> [u8; FIX_BYTES] {
        let mut out = [0; FIX_BYTES];
        out[0..8].copy_from_slice(&self.time_ms.to_le_bytes());
        out[8..12].copy_from_slice(&self.lat_e7.to_le_bytes());
        out[12..16].copy_from_slice(&self.lon_e7.to_le_bytes());
        out[16..20].copy_from_slice(&self.altitude_mm.to_le_bytes());
        out[20..24].copy_from_slice(&self.speed_mm_s.to_le_bytes());
        out[24..28].copy_from_slice(&self.accuracy_mm.to_le_bytes());
        out[28..30].copy_from_slice(&self.course_cdeg.to_le_bytes());
        out[30] = self.satellites;
        out[31] = self.time_source as u8;
        out[32..34].copy_from_slice(&self.fields.0.to_le_bytes());
        out
    }

    /// Reads what [`Fix::encode`] wrote; `None` if a stated field is out of range.
    pub fn decode(bytes: &[u8; FIX_BYTES]) -> Option<Fix> {
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let fix = Fix {
            time_ms: i64::from_le_bytes(*bytes.first_chunk()?),
            lat_e7: i32::from_le_bytes(four(8)),
            lon_e7: i32::from_le_bytes(four(12)),
            altitude_mm: i32::from_le_bytes(four(16)),
            speed_mm_s: u32::from_le_bytes(four(20)),
            accuracy_mm: u32::from_le_bytes(four(24)),
            course_cdeg: u16::from_le_bytes([bytes[28], bytes[29]]),
            satellites: bytes[30],
            time_source: match bytes[31] {
                0 => TimeSource::None,
                1 => TimeSource::Device,
                2 => TimeSource::DateCompleted,
                3 => TimeSource::RolloverRepaired,
                4 => TimeSource::Arrival,
                _ => return None,
            },
            fields: FixFields(u16::from_le_bytes([bytes[32], bytes[33]])),
        };
        fix.in_range().then_some(fix)
    }

    /// Whether latitude, longitude and course lie where such values can lie.
    pub fn in_range(&self) -> bool {
        (-900_000_000..=900_000_000).contains(&self.lat_e7)
            && (-1_800_000_000..=1_800_000_000).contains(&self.lon_e7)
            && self.course_cdeg < 36_000
    }
}
