//! The sentences of the standard that say where, when, how fast or how well.

use super::super::{calendar, text};
use super::fields::Fields;
use super::vendor;
use crate::frame::{Attribute, DeviceId};

/// What sentence it is. The number is a bit in an epoch's set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// It says nothing about a moment.
    #[default]
    Other,
    Rmc,
    Gga,
    Gns,
    Gll,
    Vtg,
    Gsa,
    Gst,
    Zda,
    /// A vendor's sentence with a position.
    Vendor,
}

impl Kind {
    /// Those that say where the receiver is, one bit each.
    pub(super) const WITH_PLACE: u16 = 1 << Kind::Rmc as u8
        | 1 << Kind::Gga as u8
        | 1 << Kind::Gns as u8
        | 1 << Kind::Gll as u8
        | 1 << Kind::Vendor as u8;
}

/// The receiver's word on its position, in the numbers of GGA.
pub(super) mod quality {
    pub(in super::super) const NONE: u8 = 0;
    pub(in super::super) const FIX: u8 = 1;
    pub(in super::super) const DIFFERENTIAL: u8 = 2;
    pub(in super::super) const PRECISE: u8 = 3;
    pub(in super::super) const RTK_FIXED: u8 = 4;
    pub(in super::super) const RTK_FLOAT: u8 = 5;
    /// Dead reckoning: a position, but marked.
    pub(in super::super) const ESTIMATED: u8 = 6;
    pub(in super::super) const MANUAL: u8 = 7;
    pub(in super::super) const SIMULATED: u8 = 8;
}

/// What is said about one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) time_of_day_ms: Option<u32>,
    /// Days since 1970.
    pub(super) date_days: Option<i32>,
    /// Latitude and longitude, 1e-7 degree.
    pub(super) place: Option<(i32, i32)>,
    pub(super) quality: Option<u8>,
    pub(super) altitude_mm: Option<i32>,
    pub(super) speed_mm_s: Option<u32>,
    pub(super) course_cdeg: Option<u16>,
    pub(super) satellites: Option<u8>,
    pub(super) accuracy_mm: Option<u32>,
    /// Dilutions of precision, 0.01.
    pub(super) hdop_e2: Option<u16>,
    pub(super) pdop_e2: Option<u16>,
    pub(super) vdop_e2: Option<u16>,
    /// Height of the geoid above the ellipsoid.
    pub(super) separation_mm: Option<i32>,
}

impl Facts {
    /// How many of the facts are known that a report waits for.
    pub(super) fn weight(&self) -> usize {
        let known = [
            self.place.is_some(),
            self.altitude_mm.is_some(),
            self.speed_mm_s.is_some(),
            self.course_cdeg.is_some(),
            self.accuracy_mm.is_some(),
        ];
        known.into_iter().map(usize::from).sum()
    }
}

/// What one sentence says about its moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) talker: [u8; 2],
    pub(super) facts: Facts,
}

/// What a sentence says.
#[derive(Default)]
pub(super) struct Read {
    pub(super) name: &'static str,
    pub(super) part: Part,
    /// Satellites in view of the talker's system.
    pub(super) in_view: Option<u8>,
    /// Beside the part: few say such things, so they do not weigh on the others.
    pub(super) sender: Option<Box<Sender>>,
}

/// What a tracker says about itself.
#[derive(Default)]
pub(super) struct Sender {
    pub(super) device: Option<DeviceId>,
    pub(super) attributes: Vec<Attribute>,
}

impl Read {
    /// Whether there is nothing in it for a report or its device.
    pub(super) fn says_nothing(&self) -> bool {
        self.part.kind == Kind::Other && self.in_view.is_none() && self.sender.is_none()
    }
}

/// Reads a sentence by its address. `read` is what says nothing yet: written where it stays, it is not copied.
pub(super) fn read(address: &[u8], at: &mut Fields, read: &mut Read) {
    let part = &mut read.part;
    let facts = &mut part.facts;
    let kind = match address {
        [first, second, kind @ ..] if kind.len() == 3 && *first != b'P' => {
            part.talker = [*first, *second];
            kind
        }
        _ => &[],
    };
    (read.name, part.kind) = match kind {
        b"RMC" => {
            rmc(at, facts);
            ("rmc", Kind::Rmc)
        }
        b"GGA" => {
            gga(at, facts);
            ("gga", Kind::Gga)
        }
        b"GNS" => {
            gns(at, facts);
            ("gns", Kind::Gns)
        }
        b"GLL" => {
            gll(at, facts);
            ("gll", Kind::Gll)
        }
        b"VTG" => {
            vtg(at, facts);
            ("vtg", Kind::Vtg)
        }
        b"GSA" => {
            gsa(at, facts);
            ("gsa", Kind::Gsa)
        }
        b"GST" => {
            gst(at, facts);
            ("gst", Kind::Gst)
        }
        b"ZDA" => {
            zda(at, facts);
            ("zda", Kind::Zda)
        }
        b"GSV" => {
            at.skip(2);
            read.in_view = small(at.next());
            ("gsv", Kind::Other)
        }
        _ => {
            return vendor::read(address, at, read);
        }
    };
}

fn rmc(at: &mut Fields, facts: &mut Facts) {
    facts.time_of_day_ms = text::time_of_day_ms(at.next());
    let status = at.next();
    facts.place = at.place();
    facts.speed_mm_s = text::knots_mm_s(at.next());
    facts.course_cdeg = text::course_cdeg(at.next());
    facts.date_days = days_of(text::date_days(at.next()));
    at.skip(2);
    facts.quality = status_quality(status, at.next());
}

fn gga(at: &mut Fields, facts: &mut Facts) {
    facts.time_of_day_ms = text::time_of_day_ms(at.next());
    facts.place = at.place();
    facts.quality = digit(at.next());
    facts.satellites = small(at.next());
    facts.hdop_e2 = hundredths(at.next());
    facts.altitude_mm = text::metres_mm(at.next());
    at.skip(1);
    facts.separation_mm = text::metres_mm(at.next());
}

fn gns(at: &mut Fields, facts: &mut Facts) {
    facts.time_of_day_ms = text::time_of_day_ms(at.next());
    facts.place = at.place();
    facts.quality = modes_quality(at.next());
    facts.satellites = small(at.next());
    facts.hdop_e2 = hundredths(at.next());
    facts.altitude_mm = text::metres_mm(at.next());
    facts.separation_mm = text::metres_mm(at.next());
}

fn gll(at: &mut Fields, facts: &mut Facts) {
    facts.place = at.place();
    facts.time_of_day_ms = text::time_of_day_ms(at.next());
    facts.quality = status_quality(at.next(), at.next());
}

fn vtg(at: &mut Fields, facts: &mut Facts) {
    facts.course_cdeg = text::course_cdeg(at.next());
    at.skip(3);
    let knots = text::knots_mm_s(at.next());
    at.skip(1);
    facts.speed_mm_s = knots.or_else(|| text::kmh_mm_s(at.next()));
}

fn gsa(at: &mut Fields, facts: &mut Facts) {
    at.skip(14);
    facts.pdop_e2 = hundredths(at.next());
    facts.hdop_e2 = hundredths(at.next());
    facts.vdop_e2 = hundredths(at.next());
}

/// Errors of latitude and longitude, one sigma; as a distance they are the horizontal one.
fn gst(at: &mut Fields, facts: &mut Facts) {
    facts.time_of_day_ms = text::time_of_day_ms(at.next());
    at.skip(4);
    let mut error = || text::metres_mm(at.next()).and_then(|mm| u32::try_from(mm).ok());
    if let (Some(lat), Some(lon)) = (error(), error()) {
        facts.accuracy_mm = Some(f64::from(lat).hypot(f64::from(lon)).round() as u32);
    }
}

fn zda(at: &mut Fields, facts: &mut Facts) {
    facts.time_of_day_ms = text::time_of_day_ms(at.next());
    let mut number = || text::decimal(at.next(), 0);
    if let (Some(day), Some(month), Some(year)) = (number(), number(), number()) {
        facts.date_days = days_of(calendar::days(year, month, day));
    }
}

/// Days of a date; all years of four digits fit.
pub(super) fn days_of(days: Option<i64>) -> Option<i32> {
    i32::try_from(days?).ok()
}

/// Status A or V with the mode letter that newer receivers add. A without a mode is a fix of an unknown kind.
pub(super) fn status_quality(status: &[u8], mode: &[u8]) -> Option<u8> {
    match status.trim_ascii() {
        b"A" => modes_quality(mode).or(Some(quality::FIX)),
        b"V" => Some(quality::NONE),
        _ => None,
    }
}

/// The best of the mode letters, one for each satellite system.
fn modes_quality(modes: &[u8]) -> Option<u8> {
    let best = modes.iter().filter_map(|&letter| rank(letter)).min();
    best.map(|rank| BEST_FIRST[rank])
}

const BEST_FIRST: [u8; 9] = [
    quality::RTK_FIXED,
    quality::RTK_FLOAT,
    quality::PRECISE,
    quality::DIFFERENTIAL,
    quality::FIX,
    quality::ESTIMATED,
    quality::MANUAL,
    quality::SIMULATED,
    quality::NONE,
];

/// Where a mode letter stands in [`BEST_FIRST`].
fn rank(letter: u8) -> Option<usize> {
    let rank = match letter {
        b'R' => 0,
        b'F' => 1,
        b'P' => 2,
        b'D' => 3,
        b'A' => 4,
        b'E' => 5,
        b'M' => 6,
        b'S' => 7,
        b'N' => 8,
        _ => return None,
    };
    Some(rank)
}

fn digit(field: &[u8]) -> Option<u8> {
    match field.trim_ascii() {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

fn small(field: &[u8]) -> Option<u8> {
    u8::try_from(text::decimal(field, 0)?).ok()
}

pub(super) fn hundredths(field: &[u8]) -> Option<u16> {
    u16::try_from(text::decimal(field, 2)?).ok()
}
