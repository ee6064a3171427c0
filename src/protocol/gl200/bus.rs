//! Data of the vehicle's own bus: `GTOBD`, `GTCAN`, and the same in an extended report.

use super::fields::Fields;
use super::report::Body;
use crate::frame::{AttributeKey, Value};
use crate::protocol::{Report, text};

/// `GTOBD`: fixed places from the name to the trip counters.
pub(super) fn obd(body: &Body, report: &mut Report) {
    let fields = body.fields;
    let at = |after_name: usize| body.name + after_name;
    report.state(AttributeKey::EngineRpm, fields.int(at(7)));
    report.state(
        AttributeKey::TachographSpeedMps,
        metres_per_second(fields.get(at(8))),
    );
    report.state(AttributeKey::CoolantC, fields.int(at(9)));
    report.state(AttributeKey::ThrottlePercent, fields.percent(at(16)));
    report.state(AttributeKey::EngineLoadPercent, fields.percent(at(17)));
    report.state(AttributeKey::FuelPercent, fields.percent(at(18)));
    let codes = fields
        .text(at(15))
        .filter(|codes| codes.bytes().all(|b| b.is_ascii_hexdigit()));
    report.state(AttributeKey::FaultCodes, codes);
    report.state(AttributeKey::Vin, fields.text(at(3)));
    let volts = fields.int(at(5)).map(|mv| mv as f64 / 1e3);
    report.state_named("obd_v", volts);
    // The distance since codes were cleared.
    report.state_named("cleared_km", fields.int(at(11)));
}

/// `GTCAN`: a mask at `at`, then one field for each of its bits, in the documents' order.
pub(super) fn can(fields: &Fields, at: usize, end: usize, report: &mut Report) {
    /// Bits of the mask in the order of their fields; the speed of the engine stands before that of the vehicle.
    const ORDER: [u8; 22] = [
        0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    ];
    /// Between the fields above and the second mask models put other things.
    const OTHERS: u32 = 0x1fc0_0000;
    const SECOND_MASK: u32 = 1 << 29;
    let Some(mask) = fields.hex(at) else {
        return;
    };
    let mut next = at + 1;
    for bit in ORDER.into_iter().filter(|bit| mask >> bit & 1 != 0) {
        if next >= end {
            return;
        }
        one(bit, fields, next, report);
        next += 1;
    }
    if mask & OTHERS == 0 && mask & SECOND_MASK != 0 && next + 1 < end {
        let second = fields.hex(next).filter(|_| fields.len(next) == 8);
        if second.is_some_and(|second| second & 1 != 0) {
            let percent = fields.get(next + 1).strip_prefix(b"P");
            let percent = percent.and_then(|percent| text::decimal(percent, 2));
            report.state_named("adblue_percent", percent.map(|value| value as f64 / 1e2));
        }
    }
}

/// The field of one bit.
fn one(bit: u8, fields: &Fields, at: usize, report: &mut Report) {
    let field = fields.get(at);
    let hundredths = |field: &[u8]| text::decimal(field, 2).map(|value| value as f64 / 1e2);
    match bit {
        0 => report.state(AttributeKey::Vin, fields.text(at)),
        1 => {
            let ignition = fields.int(at).map(|state| state > 0);
            first(report, AttributeKey::Ignition, ignition);
        }
        // Hundreds of metres after an `H`, impulses after an `I`.
        2 => {
            let hectometres = field
                .strip_prefix(b"H")
                .and_then(|field| text::decimal(field, 1));
            first(
                report,
                AttributeKey::OdometerM,
                hectometres.map(|tenths| tenths * 10),
            );
        }
        3 => report.state(AttributeKey::FuelUsedL, hundredths(litres(field))),
        4 => report.state(AttributeKey::TachographSpeedMps, metres_per_second(field)),
        5 => report.state(AttributeKey::EngineRpm, fields.int(at)),
        6 => report.state(AttributeKey::CoolantC, fields.int(at)),
        7 => {
            let rate = field.strip_prefix(b"L/H").and_then(hundredths);
            report.state(AttributeKey::FuelLPerH, rate);
        }
        8 => match field.split_first() {
            Some((b'P', percent)) => report.state(AttributeKey::FuelPercent, hundredths(percent)),
            Some((b'L', litres)) => report.state(AttributeKey::FuelL, hundredths(litres)),
            _ => {}
        },
        10 => report.state(AttributeKey::ThrottlePercent, fields.percent(at)),
        11 => {
            // Hours with two decimals; 36 seconds are a hundredth.
            let seconds = text::decimal(field, 2).map(|hundredths| hundredths * 36);
            report.state(AttributeKey::EngineS, seconds);
        }
        19 => report.state(AttributeKey::Doors, fields.hex(at)),
        9 => report.state_named("range_hm", fields.int(at)),
        15 => report.state_named("axle_weight", fields.int(at)),
        17 => report.state_named("indicators", fields.text(at)),
        18 => report.state_named("lights", fields.text(at)),
        _ => {}
    }
}

/// Adds what the device did not say by its own sensors already.
fn first(report: &mut Report, key: AttributeKey, value: Option<impl Into<Value>>) {
    if !report.attributes.iter().any(|said| said.key == key) {
        report.state(key, value);
    }
}

/// Litres with or without their letter.
fn litres(field: &[u8]) -> &[u8] {
    field.strip_prefix(b"L").unwrap_or(field)
}

fn metres_per_second(kmh: &[u8]) -> Option<f64> {
    text::kmh_mm_s(kmh).map(|mm_s| f64::from(mm_s) / 1e3)
}
