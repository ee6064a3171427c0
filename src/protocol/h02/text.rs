//! The text form: `*maker,id,command,...#`.
//!
//! Vendors put fields before and behind a position as they like, so a position is found by its shape: degrees, N or S,
//! degrees, E or W. What stands around it is counted from there.

use super::super::calendar::{self, DAY_MS};
use super::super::fields::{Fields, printable};
use super::super::{Arrival, Message, Reject, Report, Settings, text};
use super::{cells, place, status, utc_digits};
use crate::frame::{AlarmKind, Alarms, AttributeKey, DeviceId, TimeSource, civil_date};

/// Most positions of one upload of stored ones; the document's own limit.
const STORED_MAX: usize = 100;

/// Names of the fields behind the status that are kept as they are.
const EXTRA_NAMES: [&str; 12] = [
    "extra_1", "extra_2", "extra_3", "extra_4", "extra_5", "extra_6", "extra_7", "extra_8",
    "extra_9", "extra_10", "extra_11", "extra_12",
];

/// Room for most answers.
const ANSWER_BYTES: usize = 48;

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
    message.answer_now = match command {
        b"V1" | b"NBR" => answer(maker, id, &[b"V4", command, &utc_digits(now.wall_ms)]),
        b"V0" | b"HTBT" => answer(maker, id, &[command]),
        _ => Vec::new(),
    };
    match command {
        b"BC" => {
            let reports = reader.stored(inner);
            message.hold_answer_for(reports);
        }
        b"NBR" | b"V3" | b"BS" => reader.settle(&mut message, reader.cells()),
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
    if id.is_empty() {
        return Vec::new();
    }
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    answer.push(b'*');
    answer.extend(maker);
    for part in std::iter::once(&id).chain(parts) {
        answer.push(b',');
        answer.extend_from_slice(part);
    }
    answer.push(b'#');
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
        let place = place::find(fields, 4)?;
        let at = place.at;
        let mut report = Report {
            fix: place::movement(fields, &place),
            ..Report::default()
        };
        // Some put the charge between course and date.
        let charged = !is_date(fields.get(at + 5)) && is_date(fields.get(at + 6));
        let date_at = at + 5 + usize::from(charged);
        let time = fields.get(at.saturating_sub(3));
        if let Some(time) = self.time(time, fields.get(date_at)) {
            report.fix.set_time(time);
        }
        report.fix.set_valid(place::is_valid(fields.get(at - 2)));
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
        let percent = |at: usize| fields.u8(at).filter(|&percent| percent <= 100);
        match *extras {
            // Charge in two digits, so that 99 stands for all, and a count of cells.
            [_, b"3", mcc, mnc, ref pairs @ ..] if pairs.len() >= 6 => {
                let charge = percent(from).map(|percent| percent + u8::from(percent == 99));
                let pairs = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                report.state(AttributeKey::BatteryPercent, charge);
                report.state(AttributeKey::Cells, cells::decimal(mcc, mnc, pairs));
            }
            [_] if percent(from).is_some() => {
                report.state(AttributeKey::BatteryPercent, percent(from));
            }
            [mcc, mnc, area, cell, ..] if matches!(fields.get(2), b"VI1" | b"ALRM") => {
                let pair = std::iter::once((area, cell));
                report.state(AttributeKey::BatteryPercent, percent(from + 4));
                report.state(AttributeKey::Cells, cells::hexadecimal(mcc, mnc, pair));
            }
            // Odometer, temperature, fuel, altitude and a cell in hexadecimal.
            [_, _, fuel, altitude, _, _] if fuel.contains(&b'.') => {
                if let Some(mm) = text::metres_mm(altitude) {
                    report.fix.set_altitude(mm);
                }
                report.state(AttributeKey::OdometerM, fields.number(from));
                report.state(AttributeKey::TemperatureC, fields.float(from + 1));
                report.state_named("fuel_level", fields.float(from + 2));
                self.kept(report, from, 4);
            }
            // Vendors with short ids write a cell in decimals.
            [mcc, mnc, area, cell, ..] if fields.get(1).len() < 15 && is_country(mcc) => {
                let told = cells::decimal(mcc, mnc, std::iter::once((area, cell)));
                let done = if told.is_some() { 4 } else { 0 };
                report.state(AttributeKey::Cells, told);
                self.kept(report, from, done);
            }
            _ => self.kept(report, from, 0),
        }
    }

    /// Keeps what is not understood as it is.
    fn kept(&self, report: &mut Report, from: usize, done: usize) {
        let extras = EXTRA_NAMES.iter().zip(self.fields.from(from)).skip(done);
        for (&name, extra) in extras {
            report.state_named(name, printable(extra));
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
            b"VP1" if fields.get(3) == b"V" => {
                report.state(AttributeKey::Cells, cells::of_letters(fields));
            }
            _ => {}
        }
        report
    }

    /// Cells alone.
    fn cells(&self) -> Report {
        let mut report = self.moment();
        let (cells, battery) = match self.fields.get(2) {
            b"NBR" => (cells::of_neighbours(self.fields), None),
            b"BS" => (cells::of_base_stations(self.fields), None),
            _ => cells::with_battery(self.fields),
        };
        report.state(AttributeKey::Cells, cells);
        report.state_named("battery_code", battery);
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
        let place = place::find(&fields, 2)?;
        let mut report = Report {
            fix: place::movement(&fields, &place),
            backlog: true,
            ..Report::default()
        };
        if let Some(time) = self.day_time(fields.get(7)) {
            report.fix.set_time(time);
        }
        report.fix.set_valid(place::is_valid(fields.get(0)));
        if let Some(word) = status::parse(fields.get(8)) {
            status::state(&mut report, word);
            // A hundred of these are held at once.
            report.attributes.shrink_to_fit();
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

fn is_date(field: &[u8]) -> bool {
    field.len() == 6 && field.iter().all(u8::is_ascii_digit)
}

/// Country codes of mobile networks have three digits from 200 to 799.
fn is_country(field: &[u8]) -> bool {
    matches!(field, [b'2'..=b'7', b'0'..=b'9', b'0'..=b'9'])
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
