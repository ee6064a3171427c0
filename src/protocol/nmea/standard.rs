//! The sentences of the standard that say where, when, how fast or how well.

use super::super::text;
use super::vendor;
use crate::frame::{Attribute, DeviceId};

/// What sentence it is. The number is a bit in an epoch's set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Rmc,
    Gga,
    Gns,
    Gll,
    Vtg,
    Gsa,
    Zda,
    /// A vendor's sentence with a position.
    Vendor,
}

impl Kind {
    /// Whether it says where the receiver is.
    pub(super) fn has_place(self) -> bool {
        !matches!(self, Kind::Vtg | Kind::Gsa | Kind::Zda)
    }
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
    pub(super) date_days: Option<i64>,
    /// Latitude and longitude, 1e-7 degree.
    pub(super) place: Option<(i32, i32)>,
    pub(super) quality: Option<u8>,
    pub(super) altitude_mm: Option<i32>,
    pub(super) speed_mm_s: Option<u32>,
    pub(super) course_cdeg: Option<u16>,
    pub(super) satellites: Option<u8>,
    pub(super) accuracy_mm: Option<u32>,
    /// Dilutions of precision, 0.01.
    pub(super) hdop_e2: Option<u32>,
    pub(super) pdop_e2: Option<u32>,
}

impl Facts {
    /// How many of the facts about place and movement are known.
    pub(super) fn weight(&self) -> usize {
        let known = [
            self.place.is_some(),
            self.altitude_mm.is_some(),
            self.speed_mm_s.is_some(),
            self.course_cdeg.is_some(),
        ];
        known.into_iter().filter(|&known| known).count()
    }
}

/// What one sentence says about its moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) talker: [u8; 2],
    pub(super) facts: Facts,
}

/// What a sentence says.
#[derive(Default)]
pub(super) struct Read {
    pub(super) kind: &'static str,
    pub(super) part: Option<Part>,
    pub(super) device: Option<DeviceId>,
    pub(super) attributes: Vec<Attribute>,
}

impl Read {
    /// Whether there is nothing in it for a report or its device.
    pub(super) fn says_nothing(&self) -> bool {
        self.part.is_none() && self.device.is_none() && self.attributes.is_empty()
    }
}

/// The fields of a sentence, one after the other; after the last one they are empty.
pub(super) struct Fields<'a>(Option<&'a [u8]>);

impl<'a> Fields<'a> {
    pub(super) fn new(text: &'a [u8]) -> Fields<'a> {
        Fields(Some(text))
    }

    pub(super) fn next(&mut self) -> &'a [u8] {
        let rest = self.0.take().unwrap_or(&[]);
        match rest.iter().position(|&b| b == b',') {
            Some(comma) => {
                self.0 = Some(&rest[comma + 1..]);
                &rest[..comma]
            }
            None => rest,
        }
    }

    /// Passes over `count` fields.
    pub(super) fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    /// The next field that is not empty, or `None` after the last one.
    pub(super) fn next_stated(&mut self) -> Option<&'a [u8]> {
        while self.0.is_some() {
            let field = self.next();
            if !field.is_empty() {
                return Some(field);
            }
        }
        None
    }

    /// Latitude and hemisphere, longitude and hemisphere.
    pub(super) fn place(&mut self) -> Option<(i32, i32)> {
        let lat = text::degrees_e7(self.next(), self.next(), 90);
        let lon = text::degrees_e7(self.next(), self.next(), 180);
        lat.zip(lon)
    }
}

/// Reads a sentence by its address.
pub(super) fn read(address: &[u8], text: &[u8]) -> Read {
    let mut fields = Fields::new(text);
    let at = &mut fields;
    let (&talker, kind) = match address.split_first_chunk::<2>() {
        Some((talker, kind)) if kind.len() == 3 && talker[0] != b'P' => (talker, kind),
        _ => return vendor::read(address, fields),
    };
    let (name, kind, facts) = match kind {
        b"RMC" => ("rmc", Kind::Rmc, rmc(at)),
        b"GGA" => ("gga", Kind::Gga, gga(at)),
        b"GNS" => ("gns", Kind::Gns, gns(at)),
        b"GLL" => ("gll", Kind::Gll, gll(at)),
        b"VTG" => ("vtg", Kind::Vtg, vtg(at)),
        b"GSA" => ("gsa", Kind::Gsa, gsa(at)),
        b"ZDA" => ("zda", Kind::Zda, zda(at)),
        // Satellites in view say nothing about the position.
        b"GSV" => {
            return Read {
                kind: "gsv",
                ..Read::default()
            };
        }
        _ => return vendor::read(address, fields),
    };
    Read {
        kind: name,
        part: Some(Part {
            kind,
            talker,
            facts,
        }),
        ..Read::default()
    }
}

fn rmc(at: &mut Fields) -> Facts {
    let mut facts = Facts {
        time_of_day_ms: text::time_of_day_ms(at.next()),
        ..Facts::default()
    };
    let status = at.next();
    facts.place = at.place();
    facts.speed_mm_s = text::knots_mm_s(at.next());
    facts.course_cdeg = text::course_cdeg(at.next());
    facts.date_days = text::date_days(at.next());
    at.skip(2);
    facts.quality = status_quality(status, at.next());
    facts
}

fn gga(at: &mut Fields) -> Facts {
    Facts {
        time_of_day_ms: text::time_of_day_ms(at.next()),
        place: at.place(),
        quality: digit(at.next()),
        satellites: small(at.next()),
        hdop_e2: hundredths(at.next()),
        altitude_mm: text::metres_mm(at.next()),
        ..Facts::default()
    }
}

fn gns(at: &mut Fields) -> Facts {
    Facts {
        time_of_day_ms: text::time_of_day_ms(at.next()),
        place: at.place(),
        quality: modes_quality(at.next()),
        satellites: small(at.next()),
        hdop_e2: hundredths(at.next()),
        altitude_mm: text::metres_mm(at.next()),
        ..Facts::default()
    }
}

fn gll(at: &mut Fields) -> Facts {
    Facts {
        place: at.place(),
        time_of_day_ms: text::time_of_day_ms(at.next()),
        quality: status_quality(at.next(), at.next()),
        ..Facts::default()
    }
}

fn vtg(at: &mut Fields) -> Facts {
    let course_cdeg = text::course_cdeg(at.next());
    at.skip(3);
    let knots = text::knots_mm_s(at.next());
    at.skip(1);
    Facts {
        course_cdeg,
        speed_mm_s: knots.or_else(|| text::kmh_mm_s(at.next())),
        ..Facts::default()
    }
}

fn gsa(at: &mut Fields) -> Facts {
    at.skip(14);
    Facts {
        pdop_e2: hundredths(at.next()),
        hdop_e2: hundredths(at.next()),
        ..Facts::default()
    }
}

fn zda(at: &mut Fields) -> Facts {
    let time_of_day_ms = text::time_of_day_ms(at.next());
    let mut number = || text::decimal(at.next(), 0);
    let (day, month, year) = (number(), number(), number());
    let date_days = match (year, month, day) {
        (Some(year), Some(month), Some(day)) => super::super::calendar::days(year, month, day),
        _ => None,
    };
    Facts {
        time_of_day_ms,
        date_days,
        ..Facts::default()
    }
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
    // Best first.
    let known = [
        (b'R', quality::RTK_FIXED),
        (b'F', quality::RTK_FLOAT),
        (b'P', quality::PRECISE),
        (b'D', quality::DIFFERENTIAL),
        (b'A', quality::FIX),
        (b'E', quality::ESTIMATED),
        (b'M', quality::MANUAL),
        (b'S', quality::SIMULATED),
        (b'N', quality::NONE),
    ];
    let stated = known.iter().find(|(letter, _)| modes.contains(letter));
    stated.map(|&(_, quality)| quality)
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

pub(super) fn hundredths(field: &[u8]) -> Option<u32> {
    u32::try_from(text::decimal(field, 2)?).ok()
}
