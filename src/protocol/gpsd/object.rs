//! The objects that are read, with the members that are of use. Members and their order are free otherwise.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::super::real::{self, Moment};
use super::super::{Arrival, Reject, Report, Settings};
use crate::frame::{Attribute, AttributeKey, DeviceId, TimeSource};

/// Reads one object.
pub(super) fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Reject> {
    serde_json::from_slice(line).map_err(|_| Reject::Field)
}

/// What an object is. gpsd puts that first, and then nothing else is looked at.
pub(super) fn class(line: &[u8]) -> Result<Cow<'_, str>, Reject> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        class: Cow<'a, str>,
    }
    let first = line.strip_prefix(b"{\"class\":\"").and_then(|rest| {
        let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric())?;
        std::str::from_utf8(&rest[..end])
            .ok()
            .filter(|_| rest[end] == b'"')
    });
    match first {
        Some(class) => Ok(Cow::Borrowed(class)),
        None => read(line).map(|object: Object| object.class),
    }
}

/// Place, time and velocity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Tpv {
    pub(super) device: Path,
    pub(super) time: Option<Moment>,
    mode: Option<u8>,
    status: Option<u8>,
    lat: Option<f64>,
    lon: Option<f64>,
    #[serde(rename = "altMSL")]
    alt_msl: Option<f64>,
    /// The altitude before it had two names.
    alt: Option<f64>,
    speed: Option<f64>,
    track: Option<f64>,
    eph: Option<f64>,
    epx: Option<f64>,
    epy: Option<f64>,
    geoid_sep: Option<f64>,
}

/// Satellites and dilutions of precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Sky {
    pub(super) device: Path,
    hdop: Option<f64>,
    pdop: Option<f64>,
    vdop: Option<f64>,
    #[serde(rename = "nSat")]
    visible: Option<u32>,
    #[serde(rename = "uSat")]
    used: Option<u32>,
    satellites: Option<Satellites>,
}

/// The last objects of each receiver.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Poll {
    pub(super) tpv: Few<Tpv>,
    pub(super) sky: Few<Sky>,
}

/// The receivers that gpsd reads.
#[derive(Deserialize)]
pub(super) struct Devices {
    pub(super) devices: Few<Device>,
}

/// One of them.
#[derive(Deserialize)]
pub(super) struct Device {
    #[serde(default)]
    pub(super) path: Path,
    pub(super) driver: Option<String>,
    pub(super) subtype: Option<String>,
}

/// What gpsd says of itself.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) release: Option<String>,
}

/// What gpsd says about a request that it does not understand.
#[derive(Deserialize)]
pub(super) struct Failure {
    pub(super) message: Option<String>,
}

impl Tpv {
    /// Adds what a later object says about the same moment: it knows better.
    pub(super) fn merge(&mut self, new: &Tpv) {
        let known = *self;
        *self = Tpv {
            device: new.device,
            time: new.time.or(known.time),
            mode: new.mode.or(known.mode),
            status: new.status.or(known.status),
            lat: new.lat.or(known.lat),
            lon: new.lon.or(known.lon),
            alt_msl: new.alt_msl.or(known.alt_msl),
            alt: new.alt.or(known.alt),
            speed: new.speed.or(known.speed),
            track: new.track.or(known.track),
            eph: new.eph.or(known.eph),
            epx: new.epx.or(known.epx),
            epy: new.epy.or(known.epy),
            geoid_sep: new.geoid_sep.or(known.geoid_sep),
        };
    }

    /// Whether it says more about place and movement, or something else about how good they are.
    pub(super) fn knows_more_than(&self, before: &Tpv) -> bool {
        self.weight() > before.weight() || self.mode != before.mode
    }

    /// How many of the facts about place and movement are known.
    fn weight(&self) -> usize {
        let known = [
            self.place().is_some(),
            self.altitude().is_some(),
            self.speed.is_some(),
            self.track.is_some(),
        ];
        known.into_iter().filter(|&known| known).count()
    }

    /// The report, if it says where or at least when.
    pub(super) fn report(&self, settings: &Settings, now: Arrival) -> Option<Report> {
        let place = self.place();
        let mut report = Report::default();
        let fix = &mut report.fix;
        match self.time {
            Some(Moment(time_ms)) => fix.set_time(settings.fix_time(time_ms, now)),
            None if place.is_none() => return None,
            None if settings.recorded => {}
            None => fix.set_time((now.wall_ms, TimeSource::Arrival)),
        }
        if let Some((lat_e7, lon_e7)) = place {
            fix.set_position(lat_e7, lon_e7);
        }
        if let Some(mm) = self.altitude().and_then(real::mm) {
            fix.set_altitude(mm);
        }
        if let Some(mm_s) = self.speed.and_then(real::positive_mm) {
            fix.set_speed(mm_s);
        }
        if let Some(cdeg) = self.track.and_then(real::course_cdeg) {
            fix.set_course(cdeg);
        }
        if let Some(mm) = self.error().and_then(real::positive_mm) {
            fix.set_accuracy(mm);
        }
        fix.set_valid(place.is_some());
        let dead_reckoning = self.status == Some(status::DEAD_RECKONING);
        report.state(AttributeKey::FixMode, self.mode);
        report.state(AttributeKey::DeadReckoning, dead_reckoning.then_some(true));
        report.state(AttributeKey::GeoidSeparationM, self.geoid_sep);
        report.state_named("gpsd_status", self.status);
        Some(report)
    }

    pub(super) fn has_place(&self) -> bool {
        self.place().is_some()
    }

    /// Latitude and longitude, 1e-7 degree. In modes 0 and 1 there is no fix.
    fn place(&self) -> Option<(i32, i32)> {
        let (lat, lon) = self.lat.zip(self.lon)?;
        let lat_e7 = real::degrees_e7(lat, 90.0)?;
        let lon_e7 = real::degrees_e7(lon, 180.0)?;
        self.mode
            .is_some_and(|mode| mode >= 2)
            .then_some((lat_e7, lon_e7))
    }

    fn altitude(&self) -> Option<f64> {
        self.alt_msl.or(self.alt)
    }

    /// Horizontal error, metres.
    fn error(&self) -> Option<f64> {
        let both = || Some(self.epx?.hypot(self.epy?));
        self.eph.or_else(both)
    }
}

mod status {
    pub(super) const DEAD_RECKONING: u8 = 5;
}

impl Sky {
    /// Adds what a later object says.
    pub(super) fn merge(&mut self, new: &Sky) {
        let known = *self;
        *self = Sky {
            device: new.device,
            hdop: new.hdop.or(known.hdop),
            pdop: new.pdop.or(known.pdop),
            vdop: new.vdop.or(known.vdop),
            visible: new.visible.or(known.visible),
            used: new.used.or(known.used),
            satellites: new.satellites.or(known.satellites),
        };
    }

    /// How many satellites are used.
    fn used(&self) -> Option<u8> {
        let counted = self.satellites.map(|satellites| satellites.used);
        self.used.or(counted)?.try_into().ok()
    }

    /// States the satellites and all attributes.
    pub(super) fn state(&self, report: &mut Report) {
        if let Some(count) = self.used() {
            report.fix.set_satellites(count);
        }
        report.attributes.extend(self.attributes());
    }

    pub(super) fn attributes(&self) -> Vec<Attribute> {
        let counted = self.satellites.map(|satellites| satellites.visible);
        let visible = self.visible.or(counted);
        let stated = [
            self.hdop
                .map(|value| Attribute::new(AttributeKey::Hdop, value)),
            self.pdop
                .map(|value| Attribute::new(AttributeKey::Pdop, value)),
            self.vdop
                .map(|value| Attribute::new(AttributeKey::Vdop, value)),
            visible.map(|count| Attribute::new(AttributeKey::SatellitesInView, count)),
        ];
        stated.into_iter().flatten().collect()
    }
}

/// The name of a receiver: the file name of its path. It is the only name that gpsd has for one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Path(Option<DeviceId>);

impl Path {
    pub(super) fn name(self) -> Option<DeviceId> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Path, D::Error> {
        from.deserialize_str(PathVisitor)
    }
}

struct PathVisitor;

impl Visitor<'_> for PathVisitor {
    type Value = Path;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a path")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<Path, E> {
        let name = path.rsplit('/').next().unwrap_or(path);
        Ok(Path(DeviceId::new(name.as_bytes())))
    }
}

/// The first of a list, as a list of empty objects would take a hundred times the memory of its line.
pub(super) struct Few<T>(pub(super) Vec<T>);

/// Most objects of a list that are read: one for each receiver, of which a vehicle has a few.
const LIST_MAX: usize = 16;

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Few<T>, D::Error> {
        from.deserialize_seq(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Few<T>, A::Error> {
        let mut few = Vec::new();
        while few.len() < LIST_MAX {
            match items.next_element()? {
                Some(item) => few.push(item),
                None => return Ok(Few(few)),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Few(few))
    }
}

/// A list of satellites, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Satellites {
    visible: u32,
    used: u32,
}

#[derive(Deserialize)]
struct Satellite {
    #[serde(default)]
    used: bool,
}

impl<'de> Deserialize<'de> for Satellites {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Satellites, D::Error> {
        from.deserialize_seq(SatellitesVisitor)
    }
}

struct SatellitesVisitor;

impl<'de> Visitor<'de> for SatellitesVisitor {
    type Value = Satellites;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of satellites")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Satellites, A::Error> {
        let mut count = Satellites::default();
        while let Some(satellite) = items.next_element::<Satellite>()? {
            count.visible += 1;
            count.used += u32::from(satellite.used);
        }
        Ok(count)
    }
}
