//! The messages of class NAV that say where, when, how fast or how well. All numbers are little-endian.

use super::super::{Report, calendar};
use crate::frame::AttributeKey;

/// Milliseconds since 1970 of the first GPS week: 1980-01-06.
const GPS_EPOCH_MS: i64 = 315_964_800_000;

/// Milliseconds of a week.
const WEEK_MS: i64 = 604_800_000;

/// A dilution of precision that is not known.
const DILUTION_UNKNOWN: u16 = 9999;

/// Most attributes of a report.
const ATTRIBUTES_MAX: usize = 8;

/// Which message it is, of those that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// NAV-PVT: a whole epoch.
    Pvt,
    PosLlh,
    Status,
    Dop,
    Sol,
    VelNed,
    TimeGps,
    TimeUtc,
    EndOfEpoch,
    /// MON-VER.
    Version,
}

impl Id {
    pub(super) fn of(class: u8, id: u8) -> Option<Id> {
        Some(match (class, id) {
            (0x01, 0x02) => Id::PosLlh,
            (0x01, 0x03) => Id::Status,
            (0x01, 0x04) => Id::Dop,
            (0x01, 0x06) => Id::Sol,
            (0x01, 0x07) => Id::Pvt,
            (0x01, 0x12) => Id::VelNed,
            (0x01, 0x20) => Id::TimeGps,
            (0x01, 0x21) => Id::TimeUtc,
            (0x01, 0x61) => Id::EndOfEpoch,
            (0x0a, 0x04) => Id::Version,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Id::Pvt => "nav_pvt",
            Id::PosLlh => "nav_posllh",
            Id::Status => "nav_status",
            Id::Dop => "nav_dop",
            Id::Sol => "nav_sol",
            Id::VelNed => "nav_velned",
            Id::TimeGps => "nav_timegps",
            Id::TimeUtc => "nav_timeutc",
            Id::EndOfEpoch => "nav_eoe",
            Id::Version => "version",
        }
    }

    /// Whether a payload of so many bytes can be one: newer receivers append fields.
    pub(super) fn has_length(self, bytes: usize) -> bool {
        let least = match self {
            Id::Pvt => 84,
            Id::PosLlh => 28,
            Id::Status | Id::TimeGps => 16,
            Id::Dop => 18,
            Id::Sol => 52,
            Id::VelNed => 36,
            Id::TimeUtc => 20,
            Id::EndOfEpoch => 4,
            Id::Version => 40,
        };
        let appended = match self {
            Id::Version => 30 * 30,
            _ => 32,
        };
        (least..=least + appended).contains(&bytes)
    }
}

/// What a message says about its time of week.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: Id,
    /// Time of the week, milliseconds.
    pub(super) tow_ms: u32,
    pub(super) facts: Facts,
}

/// What is known of one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// Milliseconds since 1970, UTC.
    pub(super) time_ms: Option<i64>,
    /// Latitude and longitude, 1e-7 degree.
    place: Option<(i32, i32)>,
    mode: Option<u8>,
    /// Whether the receiver vouches for the position.
    good: Option<bool>,
    altitude_mm: Option<i32>,
    /// Above the ellipsoid.
    height_mm: Option<i32>,
    speed_mm_s: Option<u32>,
    course_cdeg: Option<u32>,
    satellites: Option<u8>,
    accuracy_mm: Option<u32>,
    /// Dilutions of precision, 0.01.
    pdop_e2: Option<u16>,
    hdop_e2: Option<u16>,
    vdop_e2: Option<u16>,
    differential: Option<bool>,
    /// 1 a floating solution of the carrier's phase, 2 a fixed one.
    carrier: Option<u8>,
}

/// The receiver's word on its position.
mod mode {
    pub(super) const NONE: u8 = 0;
    pub(super) const DEAD_RECKONING: u8 = 1;
    pub(super) const TIME_ONLY: u8 = 5;
}

impl Facts {
    /// Adds what another message says about the same moment; what is known stays. Returns whether it brought something
    /// that a report should wait for.
    pub(super) fn merge(&mut self, new: &Facts) -> bool {
        let before = self.weight();
        let known = *self;
        *self = Facts {
            time_ms: known.time_ms.or(new.time_ms),
            place: known.place.or(new.place),
            mode: known.mode.or(new.mode),
            good: known.good.or(new.good),
            altitude_mm: known.altitude_mm.or(new.altitude_mm),
            height_mm: known.height_mm.or(new.height_mm),
            speed_mm_s: known.speed_mm_s.or(new.speed_mm_s),
            course_cdeg: known.course_cdeg.or(new.course_cdeg),
            satellites: known.satellites.or(new.satellites),
            accuracy_mm: known.accuracy_mm.or(new.accuracy_mm),
            pdop_e2: known.pdop_e2.or(new.pdop_e2),
            hdop_e2: known.hdop_e2.or(new.hdop_e2),
            vdop_e2: known.vdop_e2.or(new.vdop_e2),
            differential: known.differential.or(new.differential),
            carrier: known.carrier.or(new.carrier),
        };
        self.weight() > before
    }

    fn weight(&self) -> usize {
        let known = [
            self.time_ms.is_some(),
            self.place.is_some(),
            self.good.is_some(),
            self.speed_mm_s.is_some(),
        ];
        known.into_iter().filter(|&known| known).count()
    }

    /// Whether the receiver says that it found no position.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.mode, Some(mode::NONE | mode::TIME_ONLY))
    }

    /// The position, unless the receiver has none. One that only takes the time was told where it is: that is stated,
    /// but it is no fix.
    pub(super) fn stated_place(&self) -> Option<(i32, i32)> {
        let good = self.good == Some(true);
        let has_place = match self.mode {
            Some(mode::NONE) => false,
            Some(mode::TIME_ONLY) => good,
            _ => true,
        };
        self.place.filter(|_| has_place)
    }

    /// States all but the time.
    pub(super) fn state(&self, report: &mut Report) {
        let fix = &mut report.fix;
        if let Some((lat_e7, lon_e7)) = self.stated_place() {
            fix.set_position(lat_e7, lon_e7);
            if let Some(mm) = self.altitude_mm {
                fix.set_altitude(mm);
            }
            if let Some(mm) = self.accuracy_mm {
                fix.set_accuracy(mm);
            }
            if let Some(mm_s) = self.speed_mm_s {
                fix.set_speed(mm_s);
            }
            if let Some(cdeg) = self.course_cdeg {
                fix.set_course(cdeg);
            }
        }
        if let Some(count) = self.satellites {
            fix.set_satellites(count);
        }
        fix.set_valid(self.good == Some(true) && !self.is_lost());
        report.attributes.reserve_exact(ATTRIBUTES_MAX);
        let hundredths = |value: u16| f64::from(value) / 1e2;
        let dead_reckoning = self.mode == Some(mode::DEAD_RECKONING);
        report.state(AttributeKey::FixMode, self.mode);
        report.state(AttributeKey::DeadReckoning, dead_reckoning.then_some(true));
        report.state(AttributeKey::Hdop, self.hdop_e2.map(hundredths));
        report.state(AttributeKey::Pdop, self.pdop_e2.map(hundredths));
        report.state(AttributeKey::Vdop, self.vdop_e2.map(hundredths));
        report.state(AttributeKey::GeoidSeparationM, self.geoid_separation_m());
        report.state_named("carrier_solution", self.carrier.filter(|&kind| kind > 0));
        report.state_named("differential", self.differential.filter(|&used| used));
    }

    fn geoid_separation_m(&self) -> Option<f64> {
        let (above, sea) = self
            .stated_place()
            .and(self.height_mm)
            .zip(self.altitude_mm)?;
        Some((f64::from(above) - f64::from(sea)) / 1e3)
    }
}

/// Reads a payload; `None` if it is too short.
pub(super) fn read(id: Id, payload: &[u8]) -> Option<Part> {
    let at = Payload(payload);
    let facts = match id {
        Id::Pvt => pvt(at)?,
        Id::PosLlh => Facts {
            place: Some((at.i32(8)?, at.i32(4)?)),
            height_mm: Some(at.i32(12)?),
            altitude_mm: Some(at.i32(16)?),
            accuracy_mm: Some(at.u32(20)?),
            ..Facts::default()
        },
        Id::Status => Facts {
            mode: Some(at.u8(4)?),
            good: Some(at.u8(5)? & 1 != 0),
            differential: Some(at.u8(5)? & 2 != 0),
            ..Facts::default()
        },
        Id::Dop => Facts {
            pdop_e2: dilution(at.u16(6)?),
            vdop_e2: dilution(at.u16(10)?),
            hdop_e2: dilution(at.u16(12)?),
            ..Facts::default()
        },
        Id::Sol => Facts {
            mode: Some(at.u8(10)?),
            good: Some(at.u8(11)? & 1 != 0),
            differential: Some(at.u8(11)? & 2 != 0),
            pdop_e2: dilution(at.u16(44)?),
            satellites: Some(at.u8(47)?),
            ..Facts::default()
        },
        Id::VelNed => Facts {
            speed_mm_s: at.u32(20)?.checked_mul(10),
            course_cdeg: course(at.i32(24)?),
            ..Facts::default()
        },
        Id::TimeGps => Facts {
            time_ms: time_gps_ms(at)?,
            ..Facts::default()
        },
        Id::TimeUtc => Facts {
            time_ms: match at.u8(19)? & 4 != 0 {
                true => utc_ms(at, 12, at.i32(8)?)?,
                false => None,
            },
            ..Facts::default()
        },
        Id::EndOfEpoch | Id::Version => Facts::default(),
    };
    Some(Part {
        id,
        tow_ms: at.u32(0)?,
        facts,
    })
}

fn pvt(at: Payload) -> Option<Facts> {
    let (valid, mode, flags) = (at.u8(11)?, at.u8(20)?, at.u8(21)?);
    // Date and time of day: before they are valid they come from a clock that may never have been set.
    let time_ms = match valid & 3 == 3 {
        true => utc_ms(at, 4, at.i32(16)?)?,
        false => None,
    };
    let place = (at.i32(28)?, at.i32(24)?);
    let has_place = at.u8(78)? & 1 == 0;
    Some(Facts {
        time_ms,
        place: has_place.then_some(place),
        mode: Some(mode),
        good: Some(flags & 1 != 0),
        altitude_mm: Some(at.i32(36)?),
        height_mm: Some(at.i32(32)?),
        speed_mm_s: u32::try_from(at.i32(60)?).ok(),
        course_cdeg: course(at.i32(64)?),
        satellites: Some(at.u8(23)?),
        accuracy_mm: Some(at.u32(40)?),
        pdop_e2: dilution(at.u16(76)?),
        differential: Some(flags & 2 != 0),
        carrier: Some(flags >> 6),
        ..Facts::default()
    })
}

/// Year, month, day, hour, minute and second from `offset` on, moved by nanoseconds that may be less than nothing: the
/// fields are rounded to the nearest second. The inner value is `None` if they are no date.
fn utc_ms(at: Payload, offset: usize, nano: i32) -> Option<Option<i64>> {
    let year = i64::from(at.u16(offset)?);
    let [month, day, hour, minute, second] = at.array::<5>(offset + 2)?.map(i64::from);
    let whole = calendar::time_ms((year, month, day), (hour, minute, second));
    Some(whole.map(|ms| ms + (i64::from(nano) + 500_000).div_euclid(1_000_000)))
}

/// UTC of NAV-TIMEGPS, if week, time of week and leap seconds are valid.
fn time_gps_ms(at: Payload) -> Option<Option<i64>> {
    let (tow_ms, nano) = (i64::from(at.u32(0)?), i64::from(at.i32(4)?));
    let (week, leap_s) = (i64::from(at.u16(8)? as i16), i64::from(at.u8(10)? as i8));
    let gps_ms = week * WEEK_MS + tow_ms + (nano + 500_000).div_euclid(1_000_000);
    let valid = at.u8(11)? & 7 == 7;
    Some(valid.then_some(GPS_EPOCH_MS + gps_ms - leap_s * 1000))
}

/// 1e-5 degree to 0.01 degree. Some receivers count to the west.
fn course(e5: i32) -> Option<u32> {
    let cdeg = (i64::from(e5) + 500).div_euclid(1000);
    (-36_000..=36_000)
        .contains(&cdeg)
        .then(|| cdeg.rem_euclid(36_000) as u32)
}

fn dilution(e2: u16) -> Option<u16> {
    (e2 < DILUTION_UNKNOWN).then_some(e2)
}

/// Fields by their offset, as the interface description has them.
#[derive(Clone, Copy)]
struct Payload<'a>(&'a [u8]);

impl Payload<'_> {
    fn array<const N: usize>(self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }

    fn u8(self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    fn u16(self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_le_bytes)
    }

    fn u32(self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn i32(self, offset: usize) -> Option<i32> {
        self.array(offset).map(i32::from_le_bytes)
    }
}
