//! Sentences of vendors: u-blox's position, and what trackers say in the form of a sentence.

use super::super::{calendar, fields::printable, text};
use super::fields::Fields;
use super::standard::{Facts, Kind, Read, Sender, days_of, hundredths, quality, status_quality};
use crate::frame::{Attribute, AttributeKey, DeviceId, Value};

/// Reads what is known; everything else is a sentence that says nothing.
pub(super) fn read(address: &[u8], at: &mut Fields, read: &mut Read) {
    let facts = &mut read.part.facts;
    let name = match address {
        b"PUBX" if at.next() == b"00" => {
            ublox(at, facts);
            "pubx"
        }
        b"TRCCR" => {
            tracker_report(at, facts);
            "tracker"
        }
        b"ID" => {
            read.sender = Some(Box::new(gateway(at, facts)));
            "gateway"
        }
        [_, _, b'R', b'M', b'A'] => {
            loran(at, facts);
            "rma"
        }
        b"QZE" => {
            read.sender = Some(Box::new(event_report(at, facts)));
            "tracker"
        }
        b"GPIOP" => {
            read.sender = Some(Box::new(inputs(at)));
            read.name = "inputs";
            return;
        }
        b"GPTXT" if at.next() == b"NET" => {
            read.sender = Some(Box::new(network(at)));
            read.name = "network";
            return;
        }
        b"PGID" | b"GPFID" | b"DEVID" | b"PCPTI" | b"CONNECT" | b"PSIWMDID" => {
            // Its first field is the sender's id.
            read.sender = Some(Box::new(Sender {
                device: DeviceId::new(at.next()),
                ..Sender::default()
            }));
            read.name = "identity";
            return;
        }
        _ => {
            read.name = "other";
            return;
        }
    };
    read.name = name;
    (read.part.kind, read.part.talker) = (Kind::Vendor, *b"P ");
}

/// `PUBX,00`: everything about a fix in one sentence. Its altitude is above the ellipsoid, so it stays out.
fn ublox(at: &mut Fields, facts: &mut Facts) {
    facts.time_of_day_ms = text::time_of_day_ms(at.next());
    facts.place = at.place();
    at.skip(1);
    facts.quality = match at.next() {
        b"G2" | b"G3" => Some(quality::FIX),
        b"D2" | b"D3" => Some(quality::DIFFERENTIAL),
        b"DR" | b"RK" => Some(quality::ESTIMATED),
        // No fix, or time only.
        _ => Some(quality::NONE),
    };
    facts.accuracy_mm = text::metres_mm(at.next()).and_then(|mm| u32::try_from(mm).ok());
    at.skip(1);
    facts.speed_mm_s = text::kmh_mm_s(at.next());
    facts.course_cdeg = text::course_cdeg(at.next());
    at.skip(2);
    facts.hdop_e2 = hundredths(at.next());
    facts.vdop_e2 = hundredths(at.next());
    at.skip(1);
    facts.satellites = text::decimal(at.next(), 0).and_then(|n| u8::try_from(n).ok());
}

/// A phone client's report: `yyyymmddhhmmss.sss`, validity, decimal degrees, knots, course, altitude.
fn tracker_report(at: &mut Fields, facts: &mut Facts) {
    if let Some((date, time)) = at.next().split_at_checked(8) {
        let number = |digits: &[u8]| text::decimal(digits, 0).unwrap_or(0);
        let (year, month, day) = (number(&date[..4]), number(&date[4..6]), number(&date[6..]));
        facts.date_days = days_of(calendar::days(year, month, day));
        facts.time_of_day_ms = text::time_of_day_ms(time);
    }
    facts.quality = status_quality(at.next(), b"");
    let lat = text::signed_degrees_e7(at.next(), 90);
    facts.place = lat.zip(text::signed_degrees_e7(at.next(), 180));
    facts.speed_mm_s = text::knots_mm_s(at.next());
    facts.course_cdeg = text::course_cdeg(at.next());
    facts.altitude_mm = text::metres_mm(at.next());
}

/// A tracker's event, without a dollar before it and a check behind: id, code, `ddmmyyyy`, time, decimal degrees, km/h,
/// course, validity, ignition.
fn event_report(at: &mut Fields, facts: &mut Facts) -> Sender {
    let mut sender = Sender {
        device: DeviceId::new(at.next()),
        ..Sender::default()
    };
    let event = text::decimal(at.next(), 0);
    if let Some((day_month, year)) = at.next().split_at_checked(4) {
        let number = |digits: &[u8]| text::decimal(digits, 0).unwrap_or(0);
        let (day, month) = (number(&day_month[..2]), number(&day_month[2..]));
        facts.date_days = days_of(calendar::days(number(year), month, day));
    }
    facts.time_of_day_ms = text::time_of_day_ms(at.next());
    let lat = text::signed_degrees_e7(at.next(), 90);
    facts.place = lat.zip(text::signed_degrees_e7(at.next(), 180));
    facts.speed_mm_s = text::kmh_mm_s(at.next());
    facts.course_cdeg = text::course_cdeg(at.next());
    facts.quality = status_quality(at.next(), b"");
    let ignition = match at.next() {
        b"1" => Some(Value::Bool(true)),
        b"0" => Some(Value::Bool(false)),
        _ => None,
    };
    let state = [
        (AttributeKey::Event, event.map(Value::Int)),
        (AttributeKey::Ignition, ignition),
    ];
    for (key, value) in state {
        sender
            .attributes
            .extend(value.map(|value| Attribute::new(key, value)));
    }
    sender
}

/// A modem's status: its id, states of its own, then a name that begins with `GPSE`, validity, and pairs of a name and
/// a value in any order.
fn gateway(at: &mut Fields, facts: &mut Facts) -> Sender {
    let device = DeviceId::new(at.next());
    while let Some(name) = at.next_stated() {
        if matches!(name, [b'G', b'P', b'S', b'E', _]) {
            facts.quality = status_quality(at.next(), b"");
            break;
        }
    }
    let (mut lat, mut lon) = (None, None);
    while let Some(name) = at.next_stated() {
        match name {
            b"D" => facts.date_days = days_of(text::date_days(at.next())),
            b"T" => facts.time_of_day_ms = text::time_of_day_ms(at.next()),
            b"La" => lat = signed(at.next(), at.next(), 90),
            b"Lo" => lon = signed(at.next(), at.next(), 180),
            b"H" => facts.course_cdeg = text::course_cdeg(at.next()),
            b"V" => facts.speed_mm_s = text::kmh_mm_s(at.next()),
            // In view, and used.
            b"S" => {
                let used = at.next().split(|&byte| byte == b':').nth(1);
                facts.satellites = used.and_then(|used| text::decimal(used, 0)?.try_into().ok());
            }
            _ => {}
        }
    }
    facts.place = lat.zip(lon);
    Sender {
        device,
        ..Sender::default()
    }
}

/// Decimal degrees and a hemisphere.
fn signed(degrees: &[u8], hemisphere: &[u8], degrees_max: i64) -> Option<i32> {
    let value = text::signed_degrees_e7(degrees, degrees_max)?;
    match hemisphere {
        b"N" | b"E" => Some(value),
        b"S" | b"W" => Some(-value),
        _ => None,
    }
}

/// Inputs, outputs, four voltages of which the first two are analogue inputs, supply and battery.
fn inputs(at: &mut Fields) -> Sender {
    let mut sender = Sender::default();
    for name in ["inputs", "outputs"] {
        if let Ok(text @ [_, ..]) = std::str::from_utf8(at.next()).map(str::as_bytes) {
            let text = String::from_utf8_lossy(text).into_owned();
            sender
                .attributes
                .push(Attribute::named(name, Value::Text(text)));
        }
    }
    at.skip(4);
    for key in [AttributeKey::PowerV, AttributeKey::BatteryV] {
        if let Some(mv) = text::decimal(at.next(), 3) {
            let volts = Value::Float(mv as f64 / 1000.0);
            sender.attributes.push(Attribute::new(key, volts));
        }
    }
    sender
}

/// The network of a modem: its id, the network's name, signal in dBm, country and network.
fn network(at: &mut Fields) -> Sender {
    let device = DeviceId::new(at.next());
    let name = printable(at.next()).map(|name| Value::Text(name.to_owned()));
    let signal = text::decimal(at.next(), 0).map(Value::Int);
    let code = printable(at.next()).map(|code| code.replace(' ', ""));
    let code = code.and_then(|code| text::decimal(code.as_bytes(), 0));
    let state = [
        (AttributeKey::SignalDbm, signal),
        (AttributeKey::Operator, code.map(Value::Int)),
        (AttributeKey::Other("network".into()), name),
    ];
    let attributes = state
        .into_iter()
        .filter_map(|(key, value)| Some(Attribute::new(key, value?)));
    Sender {
        device,
        attributes: attributes.collect(),
    }
}

/// RMA of Loran-C days, which some trackers still send: status, position, speed and course, without a time.
fn loran(at: &mut Fields, facts: &mut Facts) {
    facts.quality = status_quality(at.next(), b"");
    facts.place = at.place();
    at.skip(2);
    facts.speed_mm_s = text::knots_mm_s(at.next());
    facts.course_cdeg = text::course_cdeg(at.next());
}
