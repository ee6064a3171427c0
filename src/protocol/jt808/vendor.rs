//! Bodies outside the standard that hold positions, as far as they are known.

use memchr::memchr;

use super::super::bytes::{Reader, hex};
use super::super::calendar::{self, bcd};
use super::super::{Arrival, Message, Reject, Report};
use super::envelope::{Edition, Header, SHORT_STORED};
use super::items;
use super::location::{LOCATION_BYTES, Locations, motion};
use super::{ascii, battery, text_attribute, utc_bcd};
use crate::frame::{AlarmKind, Alarms, Attribute, AttributeKey, DeviceId, Fix};

/// What a vendor's body says.
#[derive(Default)]
pub(super) struct Body {
    pub(super) reports: Vec<Report>,
    pub(super) attributes: Vec<Attribute>,
}

/// Transparent data, 0x0900: one type byte, then anything. Four types hold a position.
pub(super) fn transparent(locations: &Locations, body: &[u8]) -> Result<Body, Reject> {
    let mut read = Body::default();
    let (&kind, data) = body.split_first().ok_or(Reject::Length)?;
    match kind {
        0x41 => {
            let mut report = Report::default();
            items::obd_text(data, &mut report);
            read.attributes = report.attributes;
            read.attributes.extend(text_attribute("transparent", data));
        }
        0xf0 => read.reports.extend(vehicle(locations, data)),
        0xff => read.reports.extend(signed_place(locations, data)),
        0x53 | 0x54 => read.reports.extend(tag_place(locations, data)),
        _ => read.attributes.extend(text_attribute("transparent", data)),
    }
    Ok(read)
}

/// Time, stored or not, kind of vehicle, kind of data, the data, then status, latitude and longitude, and the time of
/// the fix in some.
fn vehicle(locations: &Locations, data: &[u8]) -> Option<Report> {
    let mut at = Reader(data);
    let sent: [u8; 6] = at.array()?;
    let [stored, _vehicle, kind] = at.array()?;
    let mut report = Report {
        backlog: stored != 0,
        ..Report::default()
    };
    match kind {
        // Values of the vehicle: count, then each id of two bytes, length, value.
        1 => {
            for _ in 0..at.u8()? {
                let (_id, len) = (at.u16()?, at.u8()?);
                at.skip(usize::from(len))?;
            }
        }
        // Fault codes: count of systems, then each system, count of codes, then each code, state, text.
        2 => {
            let mut codes = Vec::new();
            for _ in 0..at.u16()? {
                at.skip(4)?;
                for _ in 0..at.u16()? {
                    at.skip(8)?;
                    let len = usize::from(at.u16()?);
                    codes.extend(ascii(at.take(len)?));
                }
            }
            report.state(AttributeKey::FaultCodes, Some(codes.join(" ")));
        }
        // Alarms: count, then each id, length, value.
        3 => {
            for _ in 0..at.u8()? {
                let (id, len) = (at.u8()?, at.u8()?);
                at.skip(usize::from(len))?;
                report.momentary.0 |= vehicle_alarm(id).map_or(0, |kind| Alarms::from(kind).0);
            }
        }
        // An event without a place.
        0x15 => {
            report.momentary = vehicle_event(at.u32()?)?.into();
            locations.set_time(&mut report.fix, &sent);
            return Some(report);
        }
        _ => return None,
    }
    report.fix = locations.place(at.u32()?, at.u32()?, at.u32()?);
    let of_fix = at.array().and_then(|time| locations.time(&time));
    match of_fix.or_else(|| locations.time(&sent)) {
        Some(time) => report.fix.set_time(time),
        None => report.fix.set_valid(false),
    }
    Some(report)
}

/// The events of such a vehicle that are alarms.
fn vehicle_event(number: u32) -> Option<AlarmKind> {
    match number {
        51 => Some(AlarmKind::HarshAcceleration),
        52 => Some(AlarmKind::HarshBraking),
        53 => Some(AlarmKind::HarshCornering),
        54 => Some(AlarmKind::LaneDeparture),
        56 => Some(AlarmKind::Collision),
        _ => None,
    }
}

/// The alarms of such a vehicle that have a kind.
fn vehicle_alarm(id: u8) -> Option<AlarmKind> {
    match id {
        0x02 => Some(AlarmKind::PowerCut),
        0x0e => Some(AlarmKind::Idling),
        0x1a => Some(AlarmKind::HarshAcceleration),
        0x1b => Some(AlarmKind::HarshBraking),
        0x1c => Some(AlarmKind::HarshCornering),
        0x1d..=0x1f => Some(AlarmKind::LaneDeparture),
        0x23 => Some(AlarmKind::Fatigue),
        0x25 => Some(AlarmKind::Overspeed),
        0x26..=0x28 => Some(AlarmKind::Collision),
        0x31 | 0x32 => Some(AlarmKind::DoorOpened),
        _ => None,
    }
}

/// Time, signed latitude and longitude, altitude, speed, course: where a collision was, which is sent with a fix only.
fn signed_place(locations: &Locations, data: &[u8]) -> Option<Report> {
    let mut at = Reader(data);
    let mut report = Report::default();
    let fix = &mut report.fix;
    let time = locations.time(&at.array()?);
    let (lat, lon) = (at.i32()?, at.i32()?);
    fix.set_position(lat.checked_mul(10)?, lon.checked_mul(10)?);
    motion(fix, at.u16()?, at.u16()?, at.u16()?);
    fix.set_time(time?);
    fix.set_valid(true);
    Some(report)
}

/// Status, latitude, longitude, altitude, speed, course, time, and radio tags after it.
fn tag_place(locations: &Locations, data: &[u8]) -> Option<Report> {
    let mut at = Reader(data);
    let mut fix = locations.place(at.u32()?, at.u32()?, at.u32()?);
    motion(&mut fix, at.u16()?, at.u16()?, at.u16()?);
    locations.set_time(&mut fix, &at.array()?);
    Some(Report {
        fix,
        ..Report::default()
    })
}

/// A driver's card, 0x0702: put in or taken out, when, result of reading it, name, code, authority, valid until.
/// Texts are in GBK: what is not ASCII stays out.
pub(super) fn driver(body: &[u8]) -> Vec<Attribute> {
    let mut report = Report::default();
    let mut at = Reader(body);
    report.state_named("card_in", at.u8().map(|state| state == 1));
    let mut read = || {
        at.skip(6)?;
        report.state_named("card_result", Some(at.u8()?));
        let len = usize::from(at.u8()?);
        report.state_named("driver_name", ascii(at.take(len)?));
        report.state(AttributeKey::DriverId, ascii(at.take(20)?));
        let len = usize::from(at.u8()?);
        report.state_named("card_authority", ascii(at.take(len)?));
        report.state_named("card_valid_until", Some(hex(at.take(4)?)));
        Some(())
    };
    read();
    report.attributes
}

/// What a terminal is, 0x0107: kind, maker, model, id, number of its SIM card, versions of hardware and firmware.
pub(super) fn properties(edition: Edition, body: &[u8]) -> Vec<Attribute> {
    let (maker_bytes, model_bytes, id_bytes) = match edition {
        Edition::Of2013 => (5, 20, 7),
        Edition::Of2019 => (5, 30, 30),
    };
    let mut report = Report::default();
    let mut at = Reader(body);
    let mut read = || {
        at.skip(2)?;
        report.state_named("manufacturer", ascii(at.take(maker_bytes)?));
        report.state(AttributeKey::Model, ascii(at.take(model_bytes)?));
        at.skip(id_bytes)?;
        report.state(AttributeKey::Iccid, Some(hex(at.take(10)?)));
        for key in [AttributeKey::Hardware, AttributeKey::Firmware] {
            let len = usize::from(at.u8()?);
            report.state(key, ascii(at.take(len)?));
        }
        Some(())
    };
    read();
    report.attributes
}

/// A text that answers a command: the kinds of message differ in what stands before it.
pub(super) fn result(id: u16, body: &[u8]) -> Option<Attribute> {
    let text = match id {
        // Length of four bytes.
        0x0701 => ascii(body.get(4..)?)?,
        // Serial number of the command, then UTF-16.
        0x1300 => {
            let units = body.get(2..)?.chunks_exact(2);
            let units = units.map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            ascii(text.ok()?.as_bytes())?
        }
        // Encoding.
        _ => ascii(body.get(1..)?)?,
    };
    Some(Attribute::new(AttributeKey::Result, text))
}

/// 0x0210: either the charge of the battery and a time, or locations with a length byte before each.
pub(super) fn packed(locations: &mut Locations, body: &[u8]) -> Result<Body, Reject> {
    let mut read = Body::default();
    if let &[percent, _, _, _, _, _, _] = body {
        read.attributes.extend(battery(percent));
        return Ok(read);
    }
    let mut rest = body;
    while let Some((&len, after)) = rest.split_first() {
        let Some((item, after)) = after.split_at_checked(usize::from(len)) else {
            break;
        };
        rest = after;
        if item.len() >= LOCATION_BYTES {
            read.reports.push(locations.one(item)?);
        }
    }
    Ok(read)
}

/// 0x5501 and 0x5502: date and time, then degrees and minutes, all in decimal digits; UTC. The speed's unit is not
/// known, so it stays out.
pub(super) fn short_location(
    locations: &Locations,
    header: &Header,
    body: &[u8],
) -> Result<Report, Reject> {
    let (fixed, _) = body.split_first_chunk::<17>().ok_or(Reject::Length)?;
    let digits = |range: std::ops::Range<usize>| {
        fixed[range].iter().try_fold(0, |number: i64, &byte| {
            bcd(byte).map(|two| number * 100 + i64::from(two))
        })
    };
    let two = |at: usize| digits(at..at + 1).ok_or(Reject::Field);
    let (day, month, year) = (two(0)?, two(1)?, two(2)?);
    let time = (two(3)?, two(4)?, two(5)?);
    let lat = digits(6..10).ok_or(Reject::Field)?;
    // Nine digits; the last half byte holds the flags.
    let (high, flags) = (fixed[14] >> 4, fixed[14] & 15);
    let lon = digits(10..14).ok_or(Reject::Field)? * 10 + i64::from(high);
    if high > 9 {
        return Err(Reject::Field);
    }
    let mut fix = Fix::default();
    let north = flags & 2 != 0;
    let east = flags & 4 != 0;
    let lat_e7 = minutes_e4(lat, 90, north).ok_or(Reject::Field)?;
    let lon_e7 = minutes_e4(lon, 180, east).ok_or(Reject::Field)?;
    fix.set_position(lat_e7, lon_e7);
    if let Some(time_ms) = calendar::time_ms((2000 + year, month, day), time) {
        fix.set_time(locations.repaired(time_ms));
        fix.set_valid(flags & 1 != 0);
    }
    fix.set_course(u32::from(fixed[16]) * 200);
    let mut report = Report {
        fix,
        backlog: header.id == SHORT_STORED,
        ..Report::default()
    };
    // Signal, satellites, odometer, battery; cell and area; kind of product, its state and alarms; items.
    let mut at = Reader(&body[fixed.len()..]);
    report.state(AttributeKey::Signal, at.u8());
    if let Some(satellites) = at.u8() {
        report.fix.set_satellites(satellites);
    }
    let odometer_m = at.u32().map(|km| i64::from(km) * 1000);
    report.state(AttributeKey::OdometerM, odometer_m);
    match at.u8() {
        Some(0xaa | 0xab) => report.state(AttributeKey::Charging, Some(true)),
        level => report.attributes.extend(level.and_then(battery)),
    }
    at.skip(6);
    if let (Some(product), Some(state), Some(alarms)) = (at.u8(), at.u16(), at.u16()) {
        report.state(AttributeKey::StatusWord, Some(state));
        report.state(AttributeKey::AlarmWord, Some(alarms));
        report.held = short_alarms(product, alarms);
    }
    while let (Some(id), Some(len)) = (at.u8(), at.u8()) {
        let Some(value) = at.take(usize::from(len)) else {
            break;
        };
        match (id, value) {
            (0x02, &[high, low]) => {
                let metres = i16::from_be_bytes([high, low]);
                report.fix.set_altitude(i32::from(metres) * 1000);
            }
            (0x0c, [x, x_low, y, y_low, z, z_low]) => {
                let axes = [[x, x_low], [y, y_low], [z, z_low]];
                let axes = axes.map(|[high, low]| i16::from_be_bytes([*high, *low]).to_string());
                report.state_named("tilt", Some(axes.join(" ")));
            }
            _ => {}
        }
    }
    Ok(report)
}

/// The alarms of such a product; two products have one kind only.
fn short_alarms(product: u8, word: u16) -> Alarms {
    let kinds: &[(u16, AlarmKind)] = match product {
        1 | 2 => &[(0, AlarmKind::BatteryLow)],
        3 => &[
            (0, AlarmKind::Overspeed),
            (1, AlarmKind::PowerLow),
            (2, AlarmKind::Vibration),
            (3, AlarmKind::BatteryLow),
            (5, AlarmKind::AreaCrossed),
            (6, AlarmKind::AreaCrossed),
        ],
        _ => &[],
    };
    let set = kinds.iter().filter(|&&(bit, _)| word & 1 << bit != 0);
    set.map(|&(_, kind)| kind).collect()
}

/// Degrees and minutes with four decimals as one number, to 1e-7 degrees.
fn minutes_e4(number: i64, degrees_max: i64, positive: bool) -> Option<i32> {
    let (degrees, minutes_e4) = (number / 1_000_000, number % 1_000_000);
    let e7 = degrees * 10_000_000 + (minutes_e4 * 100 + 3) / 6;
    if minutes_e4 >= 600_000 || e7 > degrees_max * 10_000_000 {
        return None;
    }
    Some(if positive { e7 } else { -e7 } as i32)
}

/// `(id,...)`: a text of terminals with an electronic lock. One asks for the time, and gets its own text back with it.
pub(super) fn text(content: &[u8], now: Arrival) -> Result<Message, Reject> {
    let inner = content
        .strip_prefix(b"(")
        .and_then(|rest| rest.strip_suffix(b")"))
        .ok_or(Reject::Rubbish)?;
    let comma = memchr(b',', inner).ok_or(Reject::Rubbish)?;
    let (id, text) = (&inner[..comma], &inner[comma + 1..]);
    let device = DeviceId::new(id).ok_or(Reject::Device)?;
    let mut message = Message::new("text", Some(device));
    message.state(AttributeKey::Text, ascii(text));
    if let Some(question) = inner.strip_suffix(b"BASE,2,TIME") {
        let digits = hex(&utc_bcd(now.wall_ms));
        message.answer_now = [b"(", question, b"BASE,2,20", digits.as_bytes(), b")"].concat();
    }
    Ok(message)
}
