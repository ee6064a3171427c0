//! The binary form: a header of four letters, a mask of what the device puts in, a length, and a check at the end.
//!
//! What the mask leaves out and what each event puts before its location differs by device, so locations are found by
//! their shape here too: a count, and as many groups whose coordinates and times can be.

use crc::{CRC_16_IBM_3740, Crc, Table};

use super::location;
use crate::frame::{AlarmKind, AttributeKey, DeviceId, Fix};
use crate::protocol::bytes::Reader;
use crate::protocol::{Arrival, Message, Reject, Report, Settings, calendar};

/// Beginnings of binary messages; an acknowledgement of the text form has a colon next.
pub(super) const HEADERS: [&[u8]; 11] = [
    b"+RSP", b"+BSP", b"+EVT", b"+BVT", b"+INF", b"+BNF", b"+HBD", b"+CRD", b"+BRD", b"+LGN",
    b"+ACK",
];

/// Lengths that a message can have.
pub(super) const LENGTHS: std::ops::RangeInclusive<usize> = 12..=super::MESSAGE_BYTES_MAX;

/// The end of each message.
pub(super) const END: &[u8] = b"\r\n";

/// Bytes of a time.
const TIME_BYTES: usize = 7;

/// Send time, count number, check and the end.
const TAIL_BYTES: usize = 13;

/// The check and the end.
const CHECK_BYTES: usize = 4;

/// A location: accuracy, speed, azimuth, altitude, longitude, latitude, time, cell, and one reserved.
const GROUP_BYTES: usize = 32;

/// Most bytes between the sender's id and the count of locations.
const BEFORE_LOCATION_MAX: usize = 40;

/// Most locations of a message.
const LOCATIONS_MAX: u8 = 15;

/// The mask of reports and events whose first fields are battery and supply. The device's name is beside the point.
const KNOWN_MASK: u32 = 0x00fc_1fff;
const NAME_BIT: u32 = 1 << 6;

/// Most positions of such a report, eight minutes of them.
const POINTS_MAX: u16 = 512;

/// The bit of a heartbeat's mask that puts the sender's id in.
const HEARTBEAT_ID_BIT: u8 = 1 << 7;

/// The type of reports whose positions are differences.
const COMPRESSED: u8 = 100;

/// What a message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Report { stored: bool },
    Event { stored: bool },
    Information,
    Heartbeat,
    Crash,
    Login,
    Acknowledgement,
}

impl Header {
    /// The header of these bytes, if they are binary.
    pub(super) fn of(bytes: &[u8]) -> Option<Header> {
        Some(match bytes.first_chunk::<4>()? {
            b"+RSP" => Header::Report { stored: false },
            b"+BSP" => Header::Report { stored: true },
            b"+EVT" => Header::Event { stored: false },
            b"+BVT" => Header::Event { stored: true },
            b"+INF" | b"+BNF" => Header::Information,
            b"+HBD" => Header::Heartbeat,
            b"+CRD" | b"+BRD" => Header::Crash,
            b"+LGN" => Header::Login,
            b"+ACK" if *bytes.get(4)? != b':' => Header::Acknowledgement,
            _ => return None,
        })
    }

    /// Bytes before the length, and how many it has.
    fn length_at(self) -> (usize, usize) {
        match self {
            // Type, four bytes of mask.
            Header::Report { .. } | Header::Event { .. } => (9, 2),
            // Type, two bytes of mask.
            Header::Information => (7, 2),
            // Two bytes.
            Header::Crash | Header::Login => (6, 2),
            // Type, one byte of mask.
            Header::Acknowledgement => (6, 1),
            // One byte of mask.
            Header::Heartbeat => (5, 1),
        }
    }

    /// Bytes of the whole message as it states; `None` until they are there.
    pub(super) fn length(self, bytes: &[u8]) -> Option<usize> {
        let (at, count) = self.length_at();
        let field = bytes.get(at..at + count)?;
        Some(
            field
                .iter()
                .fold(0, |length, &byte| length << 8 | usize::from(byte)),
        )
    }

    /// Bytes between the length and the sender's id: type of device, version of protocol and of program, as the mask
    /// says.
    fn before_id(self, message: &[u8]) -> usize {
        let masked = |mask: u8| {
            let bytes = [1, 2, 2];
            let stated = bytes.iter().enumerate();
            stated
                .map(|(bit, bytes)| usize::from(mask >> bit & 1) * bytes)
                .sum()
        };
        let byte = |at: usize| message.get(at).copied().unwrap_or(0);
        match self {
            Header::Report { .. } | Header::Event { .. } => masked(byte(7)),
            Header::Heartbeat => masked(byte(4) >> 1),
            Header::Information => 0,
            // A type of three bytes.
            Header::Login => 7,
            Header::Crash | Header::Acknowledgement => 5,
        }
    }
}

/// Reads a message that was cut by its length.
pub(super) fn read(
    header: Header,
    message: &[u8],
    settings: &Settings,
    now: Arrival,
) -> Result<Message, Reject> {
    let stated = header.length(message).ok_or(Reject::Length)?;
    if stated != message.len() || !message.ends_with(END) || !LENGTHS.contains(&stated) {
        return Err(Reject::Length);
    }
    let (checked, check) = message.split_at(message.len() - CHECK_BYTES);
    // The letters are not in the check.
    let sum = crc16_false(&checked[4..]);
    if !settings.lenient && check[..2] != sum.to_be_bytes() {
        return Err(Reject::Checksum);
    }
    let (at, count) = header.length_at();
    let id = at + count + header.before_id(message);
    // A heartbeat may say nothing but that the line is alive.
    let nameless = header == Header::Heartbeat && message[4] & HEARTBEAT_ID_BIT == 0;
    let device = match nameless {
        true => None,
        false => Some(
            message
                .get(id..id + 8)
                .and_then(device)
                .ok_or(Reject::Device)?,
        ),
    };
    if matches!(header, Header::Heartbeat) {
        return Ok(Message::new(name(header), device));
    }
    let body = message
        .get(id + 8..message.len() - TAIL_BYTES)
        .ok_or(Reject::Length)?;
    let kind = message[4];
    let mut read = Message::new(name(header), device);
    match header {
        Header::Report { stored } | Header::Event { stored } => {
            let compressed = header == Header::Report { stored } && kind == COMPRESSED;
            let mut reports = match compressed {
                true => differences(body, settings, now)?,
                false => groups(body, settings, now),
            };
            let newest = reports.pop();
            let located = newest.is_some();
            let mut newest = newest.unwrap_or_default();
            // What stands before the location is known only for one mask.
            let mask = Reader(&message[5..]).u32();
            let known = mask.is_some_and(|mask| mask | NAME_BIT == KNOWN_MASK);
            match header {
                Header::Report { .. } => of_report(kind, &mut newest),
                _ => of_event(kind, body.get(5).copied().filter(|_| known), &mut newest),
            }
            if known {
                supply(body, &mut newest);
            }
            if located || !newest.momentary.is_empty() {
                let sent = Reader(&message[message.len() - TAIL_BYTES..]);
                if let (false, Some(time_ms)) = (located, time_ms(sent)) {
                    let utc_ms = time_ms - location::zone_ms(settings);
                    newest.fix.set_time(settings.fix_time(utc_ms, now));
                }
                reports.push(newest);
            } else {
                read.attributes = newest.attributes;
            }
            for report in &mut reports {
                report.backlog = stored;
            }
            read.reports = reports;
        }
        Header::Crash => read.refused = Some(Reject::UnknownKind),
        _ => {}
    }
    Ok(read)
}

/// The kind of message.
fn name(header: Header) -> &'static str {
    match header {
        Header::Report { .. } => "location",
        Header::Event { .. } => "event",
        Header::Information => "information",
        Header::Heartbeat => "heartbeat",
        Header::Crash => "data",
        Header::Login => "login",
        Header::Acknowledgement => "acknowledgement",
    }
}

/// An IMEI with two digits in a byte and one in the last, or the device's name padded with zeros.
fn device(id: &[u8]) -> Option<DeviceId> {
    let (&last, pairs) = id.split_last()?;
    if last < 10 && pairs.iter().all(|&pair| pair < 100) && pairs[0] >= 10 && !is_text(id) {
        let mut digits = [0; 15];
        for (two, &pair) in digits.chunks_exact_mut(2).zip(pairs) {
            two[0] = b'0' + pair / 10;
            two[1] = b'0' + pair % 10;
        }
        digits[14] = b'0' + last;
        return DeviceId::new(&digits);
    }
    DeviceId::new(id.split(|&byte| byte == 0).next()?)
}

/// Whether these bytes are letters and digits with nothing but zeros after.
fn is_text(id: &[u8]) -> bool {
    let end = id.iter().position(|&byte| byte == 0).unwrap_or(id.len());
    end > 0 && DeviceId::new(&id[..end]).is_some() && id[end..].iter().all(|&byte| byte == 0)
}

/// Location groups, wherever they begin.
fn groups(body: &[u8], settings: &Settings, now: Arrival) -> Vec<Report> {
    let starts = 0..body.len().min(BEFORE_LOCATION_MAX);
    let found = starts.into_iter().find_map(|at| {
        let count = body[at];
        if !(1..=LOCATIONS_MAX).contains(&count) {
            return None;
        }
        let groups = body[at + 1..].get(..usize::from(count) * GROUP_BYTES)?;
        let groups = groups.chunks_exact(GROUP_BYTES);
        groups.map(|group| one(group, settings, now)).collect()
    });
    found.unwrap_or_default()
}

/// One group; `None` if it cannot be one.
fn one(group: &[u8], settings: &Settings, now: Arrival) -> Option<Report> {
    let mut reader = Reader(group);
    let accuracy = reader.u8()?;
    // Whole km/h, and tenths.
    let (kmh, tenths) = (reader.u16()?, reader.u8()?);
    let (azimuth, altitude_m) = (reader.u16()?, reader.i16()?);
    let (lon_e6, lat_e6) = (reader.i32()?, reader.i32()?);
    let time_ms = time_ms(reader)?;
    reader.skip(TIME_BYTES)?;
    if tenths > 9 || azimuth > 360 {
        return None;
    }
    let mut report = Report::default();
    let fix = &mut report.fix;
    place(fix, lon_e6, lat_e6)?;
    fix.set_time(settings.fix_time(time_ms - location::zone_ms(settings), now));
    fix.set_speed(tenths_mm_s(u32::from(kmh) * 10 + u32::from(tenths)));
    fix.set_course(u32::from(azimuth) * 100);
    fix.set_altitude(i32::from(altitude_m) * 1000);
    fix.set_valid(accuracy > 0);
    let dilution = Some(f64::from(accuracy)).filter(|_| accuracy > 0);
    report.state(AttributeKey::Hdop, dilution);
    report.state(AttributeKey::Cells, cell(reader));
    Some(report)
}

/// A time: two bytes of year, one each of month, day, hour, minute, second.
fn time_ms(mut reader: Reader) -> Option<i64> {
    let year = reader.u16().filter(|year| (1990..2100).contains(year))?;
    let [month, day, hour, minute, second] = reader.array()?.map(i64::from);
    calendar::time_ms((i64::from(year), month, day), (hour, minute, second))
}

/// Longitude and latitude in 1e-6 degree; `None` if there is no such place.
pub(super) fn place(fix: &mut Fix, lon_e6: i32, lat_e6: i32) -> Option<()> {
    let possible = lat_e6.unsigned_abs() <= 90_000_000 && lon_e6.unsigned_abs() <= 180_000_000;
    possible.then(|| fix.set_position(lat_e6 * 10, lon_e6 * 10))
}

/// Tenths of a km/h to mm/s: 0.1 km/h is 250/9 mm/s.
pub(super) fn tenths_mm_s(tenths: u32) -> u32 {
    (tenths * 250 + 4) / 9
}

/// MCC and MNC have their decimal digits in hex.
fn cell(mut reader: Reader) -> Option<String> {
    let mut decimal = || {
        let [high, low] = reader.array()?;
        Some(u32::from(calendar::bcd(high)?) * 100 + u32::from(calendar::bcd(low)?))
    };
    let (mcc, mnc) = (decimal()?, decimal()?);
    let numbers = [mcc, mnc, reader.u16()?.into(), reader.u16()?.into()];
    (mcc > 0).then(|| location::cell_name(numbers))
}

/// Positions a second apart, the first in full, others as differences from the one before.
fn differences(body: &[u8], settings: &Settings, now: Arrival) -> Result<Vec<Report>, Reject> {
    let mut reports = Vec::new();
    let mut reader = Reader(body);
    // Battery, supply, motion, satellites.
    let count = reader.skip(5).and_then(|()| reader.u16());
    let count = count.ok_or(Reject::Length)?;
    if count > POINTS_MAX {
        return Err(Reject::TooLong);
    }
    let mut point = None;
    for _ in 0..count {
        let Some(next) = Point::next(&mut reader, point) else {
            break;
        };
        point = next.or(point.map(Point::later));
        if let Some(report) = next.and_then(|next| next.report(settings, now)) {
            reports.push(report);
        }
    }
    Ok(reports)
}

/// A position of a compressed report.
#[derive(Clone, Copy)]
struct Point {
    seconds: u32,
    speed_tenths: i32,
    azimuth: i32,
    lon_e6: i32,
    lat_e6: i32,
}

impl Point {
    /// Reads the next point. `None` at the end of the message or if a difference has nothing before it; `Some(None)` for
    /// a second without a position.
    fn next(reader: &mut Reader, before: Option<Point>) -> Option<Option<Point>> {
        let first = *reader.0.first()?;
        match first >> 6 {
            1 => {
                let [a, b, c] = reader.array()?;
                // Two bits of kind, one of fix, twelve of speed, nine of azimuth.
                let bits = u32::from_be_bytes([0, a, b, c]);
                let (lon_e6, lat_e6) = (reader.i32()?, reader.i32()?);
                let seconds = match before {
                    Some(before) => before.later().seconds,
                    None => reader.u32()?,
                };
                Some(Some(Point {
                    seconds,
                    speed_tenths: (bits >> 9 & 0xfff) as i32,
                    azimuth: (bits & 0x1ff) as i32,
                    lon_e6,
                    lat_e6,
                }))
            }
            2 => {
                let [a, b, c, d, e] = reader.array()?;
                // Two bits of kind, one of fix, then seven, seven, twelve and eleven bits with sign.
                let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
                let signed = |shift: u32, width: u32| {
                    ((bits << (64 - shift - width)) as i64 >> (64 - width)) as i32
                };
                let before = before?;
                Some(Some(Point {
                    seconds: before.later().seconds,
                    speed_tenths: before.speed_tenths.wrapping_add(signed(30, 7)),
                    azimuth: before.azimuth.wrapping_add(signed(23, 7)),
                    lon_e6: before.lon_e6.wrapping_add(signed(11, 12)),
                    lat_e6: before.lat_e6.wrapping_add(signed(0, 11)),
                }))
            }
            _ => reader.skip(1).map(|()| None),
        }
    }

    fn later(self) -> Point {
        Point {
            seconds: self.seconds.wrapping_add(1),
            ..self
        }
    }

    fn report(&self, settings: &Settings, now: Arrival) -> Option<Report> {
        let mut report = Report::default();
        let fix = &mut report.fix;
        place(fix, self.lon_e6, self.lat_e6)?;
        fix.set_time(settings.fix_time(i64::from(self.seconds) * 1000, now));
        if let Ok(tenths) = u32::try_from(self.speed_tenths) {
            fix.set_speed(tenths_mm_s(tenths.min(0xffff)));
        }
        fix.set_course(self.azimuth.rem_euclid(360) as u32 * 100);
        fix.set_valid(true);
        Some(report)
    }
}

/// What the type of a report says.
fn of_report(kind: u8, report: &mut Report) {
    if kind == 8 {
        report.momentary.insert(AlarmKind::AreaCrossed);
    }
}

/// What the type of an event says, with the first byte of what only this type has.
fn of_event(kind: u8, state: Option<u8>, report: &mut Report) {
    let alarm = match kind {
        6 => Some(AlarmKind::BatteryLow),
        21 if state == Some(0) => Some(AlarmKind::FixLost),
        23 => Some(AlarmKind::Collision),
        26 => Some(AlarmKind::AreaCrossed),
        31 => Some(AlarmKind::Jamming),
        33 if state != Some(1) => Some(AlarmKind::Jamming),
        _ => None,
    };
    if let Some(alarm) = alarm {
        report.momentary.insert(alarm);
    }
    let ignition = match kind {
        45 => Some(true),
        46 => Some(false),
        _ => None,
    };
    report.state(AttributeKey::Ignition, ignition);
    report.state(AttributeKey::Event, Some(kind));
}

/// Charge of the battery and supply in millivolts, motion and satellites.
fn supply(body: &[u8], report: &mut Report) {
    let mut reader = Reader(body);
    let charge = reader.u8().filter(|&charge| charge <= 100);
    let volts = reader.u16().map(|mv| f64::from(mv) / 1e3);
    let (motion, satellites) = (reader.u8(), reader.u8());
    super::report::motion(motion.map(u32::from), report);
    if let Some(satellites) = satellites {
        report.fix.set_satellites(satellites);
    }
    report.state(AttributeKey::PowerV, volts.filter(|&volts| volts > 0.0));
    report.state(AttributeKey::BatteryPercent, charge);
}

/// CRC-16/IBM-3740, also called CRC-16/CCITT-FALSE.
fn crc16_false(bytes: &[u8]) -> u16 {
    static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_IBM_3740);
    CRC.checksum(bytes)
}
