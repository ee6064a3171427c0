//! The text form: `*maker,id,command,...#`.
//!
//! Vendors put fields before and behind a position as they like, so a position is found by its shape: degrees, N or S,
//! degrees, E or W. What stands around it is counted from there.

use super::super::calendar::{self, DAY_MS};
use super::super::fields::{Fields, printable};
use super::super::{Arrival, Message, Reject, Report, Settings, text};
use super::{status, utc_digits};
use crate::frame::{AlarmKind, Alarms, AttributeKey, DeviceId, Fix, TimeSource, civil_date};

/// Most positions of one upload of stored ones; the document's own limit.
const STORED_MAX: usize = 100;

/// Most cells that are told.
const CELLS_MAX: usize = 8;

/// Most fields behind the status that are kept as they are.
const EXTRA_MAX: usize = 16;

/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 256;

/// Reads a message. `known` is who spoke before on this connection.
pub(super) fn read(
    content: &[u8],
    known: Option<DeviceId>,
    settings: &Settings,
    now: Arrival,
) -> Result<Message, Reject> {
    let inner = content
        .strip_prefix(b"*")
        .and_then(|rest| rest.strip_suffix(b"#"))
        .ok_or(Reject::Rubbish)?;
    let fields = Fields::new(inner);
    let (maker, id, command) = (fields.get(0), fields.get(1), fields.get(2));
    let device = match id {
        b"" => known,
        id => Some(DeviceId::new(id).ok_or(Reject::Device)?),
    };
    let reader = Reader {
        fields: &fields,
        settings,
        now,
    };
    let mut message = Message::new(kind(command), device);
    let answer = |parts: &[&[u8]]| answer(maker, id, parts);
    let utc = utc_digits(now.wall_ms);
    match command {
        b"V1" | b"NBR" => message.answer_now = answer(&[b"V4", command, &utc]),
        b"V0" | b"HTBT" => message.answer_now = answer(&[command]),
        _ => {}
    }
    match command {
        b"BC" => {
            let reports = reader.stored(inner);
            message.hold_answer_for(reports);
        }
        b"NBR" => reader.settle(&mut message, reader.cells_of_decimals()),
        b"V3" => reader.settle(&mut message, reader.cells_with_battery()),
        b"BS" => reader.settle(&mut message, reader.cells_of_hex()),
        b"LINK" => reader.settle(&mut message, reader.link()),
        b"HTBT" | b"V0" | b"XT" => {
            // The charge comes last, if it comes.
            let last = fields.u8(fields.len().saturating_sub(1).max(3));
            message.state(
                AttributeKey::BatteryPercent,
                last.filter(|&last| last <= 100),
            );
        }
        b"SMS" => message.state(AttributeKey::Result, words(after(inner, 3))),
        _ => match reader.position() {
            Some(report) => message.hold_answer_for(vec![report]),
            None => {
                reader.settle(&mut message, reader.without_position());
                message.refused = match message.kind {
                    "unknown" => Some(Reject::UnknownKind),
                    // A fix, and no position that can be read.
                    "location" if fields.get(4) == b"A" => Some(Reject::Field),
                    _ => None,
                };
            }
        },
    }
    if message.kind == "unknown" && !message.reports.is_empty() {
        message.kind = "location";
    }
    Ok(message)
}

fn kind(command: &[u8]) -> &'static str {
    match command {
        b"V4" => "command_result",
        b"VI1" => "location_request",
        b"ALRM" => "alarm",
        b"BC" => "stored",
        b"NBR" | b"V3" | b"BS" => "cells",
        b"LINK" => "link",
        b"HTBT" | b"V0" | b"XT" => "heartbeat",
        b"SMS" => "text",
        [b'V', b'0'..=b'9' | b'P', ..] => "location",
        _ => "unknown",
    }
}

/// `*maker,id,...#`; nothing to a device that does not say who it is.
fn answer(maker: &[u8], id: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut answer = Vec::new();
    if !id.is_empty() {
        answer.push(b'*');
        answer.extend(maker);
        for part in [&[id], parts].concat() {
            answer.push(b',');
            answer.extend(part);
        }
        answer.push(b'#');
    }
    answer
}

/// What follows the first `count` fields.
fn after(inner: &[u8], count: usize) -> &[u8] {
    let mut rest = inner;
    for _ in 0..count {
        let comma = rest.iter().position(|&byte| byte == b',');
        rest = comma.map_or(&[], |comma| &rest[comma + 1..]);
    }
    rest
}

/// Text of several lines, bounded.
fn words(bytes: &[u8]) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let shown = |byte: u8| (b' '..=b'~').contains(&byte) || byte == b'\n';
    let kept = bytes.iter().copied().filter(|&byte| shown(byte));
    let text: String = kept.map(char::from).collect();
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// The fields of one message, and what is needed to understand them.
struct Reader<'a> {
    fields: &'a Fields<'a>,
    settings: &'a Settings,
    now: Arrival,
}

impl Reader<'_> {
    /// A message with a position.
    fn position(&self) -> Option<Report> {
        let fields = self.fields;
        let place = find_place(fields, 4)?;
        let at = place.at;
        let mut report = Report {
            fix: movement(fields, &place),
            ..Report::default()
        };
        // Some put the charge between course and date.
        let charged = !is_date(fields.get(at + 5)) && is_date(fields.get(at + 6));
        let date_at = at + 5 + usize::from(charged);
        let time = fields.get(at.saturating_sub(3));
        if let Some(time) = self.time(time, fields.get(date_at)) {
            report.fix.set_time(time);
        }
        report.fix.set_valid(is_valid(fields.get(at - 2)));
        // Some put three fields of the SIM card between date and status.
        let candidates = [date_at + 1, date_at + 4];
        let word = candidates
            .into_iter()
            .find_map(|at| status::parse(fields.get(at)).map(|word| (at, word)));
        if let Some((at, word)) = word {
            status::state(&mut report, word);
            if at == date_at + 4 {
                let iccid = fields.text(at - 1);
                let iccid = iccid.map(|iccid| iccid.trim_end_matches('?'));
                report.state(AttributeKey::Iccid, iccid.filter(|iccid| !iccid.is_empty()));
            }
        }
        if charged {
            let percent = fields.u8(at + 5).filter(|&percent| percent <= 100);
            report.state(AttributeKey::BatteryPercent, percent);
        }
        match fields.get(2) {
            b"ALRM" => report.momentary = alarm(fields.get(3)),
            b"V4" => {
                let said = fields.from(3).iter().take(at.saturating_sub(6));
                let said = said.copied().collect::<Vec<_>>().join(&b',');
                report.state(AttributeKey::Result, printable(&said));
            }
            _ => {}
        }
        if let Some((at, _)) = word {
            self.extras(&mut report, at + 1);
        }
        Some(report)
    }

    /// What stands behind the status.
    fn extras(&self, report: &mut Report, from: usize) {
        let fields = self.fields;
        let extras = fields.from(from);
        let digits = |field: &[u8]| !field.is_empty() && field.iter().all(u8::is_ascii_digit);
        match extras {
            // Charge, then a count of three cells.
            [percent, b"3", mcc, mnc, cells @ ..] if digits(percent) && cells.len() >= 6 => {
                let percent = fields.u8(from).filter(|&percent| percent <= 99);
                // 99 stands for all.
                let percent = percent.map(|percent| if percent == 99 { 100 } else { percent });
                report.state(AttributeKey::BatteryPercent, percent);
                let cells = cells.chunks_exact(2).map(|cell| (cell[0], cell[1]));
                report.state(AttributeKey::Cells, cells_text(mcc, mnc, cells));
            }
            // Odometer, temperature, fuel, altitude and a cell in hexadecimal.
            [_, _, fuel, altitude, _, _] if fuel.contains(&b'.') => {
                if let Some(mm) = text::metres_mm(altitude) {
                    report.fix.set_altitude(mm);
                }
                report.state(AttributeKey::OdometerM, fields.number(from));
                report.state(AttributeKey::TemperatureC, fields.float(from + 1));
                report.state_named("fuel_level", fields.float(from + 2));
                report.state_named("extra_5", fields.text(from + 4));
                report.state_named("extra_6", fields.text(from + 5));
            }
            _ => {
                for (count, extra) in extras.iter().take(EXTRA_MAX).enumerate() {
                    let name = format!("extra_{}", count + 1);
                    report.state_named(name, printable(extra));
                }
            }
        }
    }

    /// A message whose layout has a status, but no position that can be read.
    fn without_position(&self) -> Report {
        let fields = self.fields;
        let mut report = self.moment();
        match fields.get(2) {
            b"ALRM" => {
                report.momentary = alarm(fields.get(3));
                if let Some(time) = self.time(fields.get(4), b"") {
                    report.fix.set_time(time);
                }
            }
            b"V4" => {
                let said = fields.from(3).join(&b',');
                report.state(AttributeKey::Result, printable(&said));
            }
            // Cells, separated by a letter: `lac,cid,signalYlac,cid,signalY`.
            b"VP1" if fields.get(3) == b"V" => {
                let cells = fields.from(6).join(&b',');
                let cells = cells.split(|&byte| byte == b'Y').filter_map(|cell| {
                    let mut cell = cell.split(|&byte| byte == b',');
                    Some((cell.next()?, cell.next()?))
                });
                let cells = cells_text(fields.get(4), fields.get(5), cells);
                report.state(AttributeKey::Cells, cells);
            }
            _ => {}
        }
        report
    }

    /// Time, network, delay and count, then area, cell and signal of each cell in decimals.
    fn cells_of_decimals(&self) -> Report {
        let fields = self.fields;
        let mut report = self.moment();
        let count = fields.u8(7).map_or(0, usize::from);
        let cells = fields.from(8).chunks_exact(3).take(count);
        let cells = cells.map(|cell| (cell[0], cell[1]));
        let cells = cells_text(fields.get(4), fields.get(5), cells);
        report.state(AttributeKey::Cells, cells);
        report
    }

    /// Time, network as one number, count, and four fields to a cell; then the battery as a code.
    fn cells_with_battery(&self) -> Report {
        let fields = self.fields;
        let mut report = self.moment();
        let count = fields.u8(5).map_or(0, usize::from);
        let (mcc, mnc) = fields.get(4).split_at(fields.get(4).len().min(3));
        let cells = fields.from(6).chunks_exact(4).take(count);
        let cells = cells.map(|cell| (cell[0], cell[1]));
        report.state(AttributeKey::Cells, cells_text(mcc, mnc, cells));
        let battery = fields.text(6 + 4 * count).filter(|code| code.len() == 4);
        report.state_named("battery_code", battery);
        report
    }

    /// Network and triples of cells in hexadecimal, filled with zeros.
    fn cells_of_hex(&self) -> Report {
        let fields = self.fields;
        let number = |field: &[u8]| {
            let number = u32::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok()?;
            Some(number.to_string().into_bytes())
        };
        let mut report = self.moment();
        let pairs: Vec<_> = fields
            .from(6)
            .chunks_exact(3)
            .map_while(|cell| Some((number(cell[0])?, number(cell[1])?)))
            .filter(|(area, _)| area != b"0")
            .take(CELLS_MAX)
            .collect();
        let cells = pairs
            .iter()
            .map(|(area, cell)| (area.as_slice(), cell.as_slice()));
        if let (Some(mcc), Some(mnc)) = (number(fields.get(4)), number(fields.get(5))) {
            report.state(AttributeKey::Cells, cells_text(&mcc, &mnc, cells));
        }
        report
    }

    /// Time, signal, satellites, charge, steps, turns.
    fn link(&self) -> Report {
        let fields = self.fields;
        let mut report = self.moment();
        let percent = fields.u8(6).filter(|&percent| percent <= 100);
        report.state(AttributeKey::BatteryPercent, percent);
        report.state(AttributeKey::Signal, fields.number(4));
        report.state_named("satellites", fields.u8(5));
        report.state(AttributeKey::Steps, fields.number(7));
        report.state_named("turnovers", fields.number(8));
        report
    }

    /// The time and status of a message without a position: a date of six digits and a word of eight, which stand last
    /// but for what vendors add.
    fn moment(&self) -> Report {
        let fields = self.fields;
        let mut report = Report::default();
        let found = (3..fields.len()).rev().find_map(|at| {
            let word = status::parse(fields.get(at))?;
            is_date(fields.get(at - 1)).then_some((at, word))
        });
        if let Some((at, word)) = found {
            if let Some(time) = self.time(fields.get(3), fields.get(at - 1)) {
                report.fix.set_time(time);
            }
            status::state(&mut report, word);
        }
        report
    }

    /// What a message without a position says is a report only for an alarm.
    fn settle(&self, message: &mut Message, report: Report) {
        if report.held.is_empty() && report.momentary.is_empty() {
            message.attributes = report.attributes;
        } else {
            message.hold_answer_for(vec![report]);
        }
    }

    /// Stored positions, `;` between them, with the day of the month and the time of day in one field.
    fn stored(&self, inner: &[u8]) -> Vec<Report> {
        let points = after(inner, 5).split(|&byte| byte == b';').take(STORED_MAX);
        points
            .filter_map(|point| self.stored_point(point))
            .collect()
    }

    fn stored_point(&self, point: &[u8]) -> Option<Report> {
        let fields = Fields::new(point);
        let place = find_place(&fields, 2)?;
        let mut report = Report {
            fix: movement(&fields, &place),
            backlog: true,
            ..Report::default()
        };
        if let Some(time) = self.day_time(fields.get(7)) {
            report.fix.set_time(time);
        }
        report.fix.set_valid(is_valid(fields.get(0)));
        if let Some(word) = status::parse(fields.get(8)) {
            status::state(&mut report, word);
        }
        Some(report)
    }

    /// Minutes that the device's clock is ahead of UTC, in milliseconds.
    fn zone_ms(&self) -> i64 {
        i64::from(self.settings.zone_minutes.unwrap_or(0)) * 60_000
    }

    /// The time of a time of day and a date. What a live device leaves out is taken from the arrival.
    fn time(&self, time: &[u8], date: &[u8]) -> Option<(i64, TimeSource)> {
        let zone_ms = self.zone_ms();
        match (text::time_of_day_ms(time), text::date_days(date)) {
            (Some(of_day), Some(days)) => {
                let time_ms = days * DAY_MS + i64::from(of_day) - zone_ms;
                Some(self.settings.fix_time(time_ms, self.now))
            }
            _ if self.settings.recorded => None,
            (Some(of_day), None) if date.is_empty() => {
                let local = calendar::nearest(i64::from(of_day), self.now.wall_ms + zone_ms);
                Some((local - zone_ms, TimeSource::DateCompleted))
            }
            _ => Some((self.now.wall_ms, TimeSource::Arrival)),
        }
    }

    /// The latest moment of that day of a month, `DDhhmmss`, that is not in the future.
    fn day_time(&self, field: &[u8]) -> Option<(i64, TimeSource)> {
        let (day, time) = field.split_at_checked(2)?;
        let day = text::decimal(day, 0)?;
        let of_day = i64::from(text::time_of_day_ms(time)?);
        if self.settings.recorded {
            return None;
        }
        let latest_ms = self.now.wall_ms + DAY_MS;
        let (mut year, mut month, _) = civil_date(latest_ms.div_euclid(DAY_MS));
        // Of three months in a row at least two have the day.
        for _ in 0..3 {
            let time_ms = calendar::days(year, month, day)
                .map(|days| days * DAY_MS + of_day - self.zone_ms());
            if let Some(time_ms) = time_ms.filter(|&time_ms| time_ms <= latest_ms) {
                return Some((time_ms, TimeSource::DateCompleted));
            }
            (year, month) = match month {
                1 => (year - 1, 12),
                month => (year, month - 1),
            };
        }
        None
    }
}

/// A position and the field of its N or S.
struct Place {
    lat_e7: i32,
    lon_e7: i32,
    at: usize,
}

fn find_place(fields: &Fields, first: usize) -> Option<Place> {
    (first..fields.len().saturating_sub(2)).find_map(|at| {
        let lat_e7 = degrees_e7(fields.get(at - 1), fields.get(at), b"NS", 90)?;
        let lon_e7 = degrees_e7(fields.get(at + 1), fields.get(at + 2), b"EW", 180)?;
        Some(Place { lat_e7, lon_e7, at })
    })
}

/// A position with the speed and course behind it.
fn movement(fields: &Fields, place: &Place) -> Fix {
    let mut fix = Fix::default();
    fix.set_position(place.lat_e7, place.lon_e7);
    if let Some(speed) = text::knots_mm_s(fields.get(place.at + 3)) {
        fix.set_speed(speed);
    }
    if let Some(course) = text::course_cdeg(fields.get(place.at + 4)) {
        fix.set_course(u32::from(course));
    }
    fix
}

/// Degrees and minutes to 1e-7 degrees: `ddmm.mmmm`, the same without its point, or `-dd-mm.mmmm`, where the sign says
/// no more than the letter.
fn degrees_e7(field: &[u8], hemisphere: &[u8], letters: &[u8], degrees_max: i64) -> Option<i32> {
    let &[letter] = hemisphere else {
        return None;
    };
    if !letters.contains(&letter) {
        return None;
    }
    if let Some(dashed) = field.strip_prefix(b"-") {
        let dash = dashed.iter().position(|&byte| byte == b'-')?;
        let (degrees, minutes) = (&dashed[..dash], &dashed[dash + 1..]);
        let two_digits = minutes.iter().take_while(|byte| byte.is_ascii_digit());
        let fill: &[u8] = match two_digits.count() {
            1 => b"0",
            _ => b"",
        };
        let joined = [degrees, fill, minutes].concat();
        return text::degrees_e7(&joined, hemisphere, degrees_max);
    }
    if field.len() >= 7 && !field.contains(&b'.') {
        let (whole, fraction) = field.split_at(field.len() - 4);
        return text::degrees_e7(&[whole, b".", fraction].concat(), hemisphere, degrees_max);
    }
    text::degrees_e7(field, hemisphere, degrees_max)
}

/// A is a fix by GPS and B one by BeiDou; a number is the coding of an address that is asked for, of a place that is
/// known.
fn is_valid(field: &[u8]) -> bool {
    matches!(field, b"A" | b"B") || !field.is_empty() && field.iter().all(u8::is_ascii_digit)
}

fn is_date(field: &[u8]) -> bool {
    field.len() == 6 && field.iter().all(u8::is_ascii_digit)
}

fn alarm(number: &[u8]) -> Alarms {
    let kind = match number {
        b"1" => AlarmKind::Sos,
        b"2" => AlarmKind::BatteryLow,
        b"3" => AlarmKind::AreaCrossed,
        _ => AlarmKind::Unspecified,
    };
    kind.into()
}

/// `mcc-mnc-area-cell`, spaces between; areas of zeros are filling.
fn cells_text<'a>(
    mcc: &[u8],
    mnc: &[u8],
    cells: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Option<String> {
    let number = |field: &[u8]| text::decimal(field, 0).filter(|&number| number >= 0);
    let (mcc, mnc) = (number(mcc)?, number(mnc)?);
    let cells: Vec<_> = cells
        .filter_map(|(area, cell)| Some((number(area)?, number(cell)?)))
        .filter(|&(area, _)| area != 0)
        .take(CELLS_MAX)
        .map(|(area, cell)| format!("{mcc}-{mnc}-{area}-{cell}"))
        .collect();
    (!cells.is_empty()).then(|| cells.join(" "))
}
