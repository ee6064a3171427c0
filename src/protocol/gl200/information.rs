//! `GTINF`: what the device says about itself.

use super::model::Family;
use super::report::{Body, motion};
use crate::frame::AttributeKey;
use crate::protocol::{Report, text};

/// Where the battery's voltage can stand, counted from the name: devices have one to four fields before it.
const BATTERY_AT: std::ops::Range<usize> = 6..12;

/// Adds what the message says.
pub(super) fn state(body: &Body, report: &mut Report) {
    let (fields, name) = (body.fields, body.name);
    motion(fields.hex(name + 1), report);
    let csq = fields.int(name + 3).filter(|csq| (0..=99).contains(csq));
    // A voltage with a point; a mileage has one too, but no lithium cell is outside of this.
    let battery = (name + BATTERY_AT.start..body.end.min(name + BATTERY_AT.end)).find_map(|at| {
        let field = fields.get(at);
        let millivolts = text::decimal(field, 3).filter(|mv| (2500..5000).contains(mv))?;
        (field.contains(&b'.') && field.len() <= 5 && at > name + 6).then_some((at, millivolts))
    });
    let supply = name + 6;
    if let Some(millivolts) = fields.int(supply).filter(|mv| (1000..100_000).contains(mv)) {
        report.state(AttributeKey::PowerV, Some(millivolts as f64 / 1e3));
    } else if fields.get(supply).contains(&b'.') {
        report.state(
            AttributeKey::OdometerM,
            text::decimal(fields.get(supply), 3),
        );
    }
    let second = fields
        .int(supply + 1)
        .filter(|mv| (1000..100_000).contains(mv));
    report.state_named("power_2_v", second.map(|mv| mv as f64 / 1e3));
    if let Some((at, millivolts)) = battery {
        report.state(AttributeKey::BatteryV, Some(millivolts as f64 / 1e3));
        let charging = fields.int(at + 1).filter(|state| (0..=2).contains(state));
        report.state(AttributeKey::Charging, charging.map(|state| state == 1));
        if body.model.family == Family::Portable {
            // It stands after the time of the last fix.
            let fixed = (at..body.end).find(|&at| fields.time_ms(at).is_some());
            let charge = fixed.and_then(|at| fields.percent(at + 1));
            report.state(AttributeKey::BatteryPercent, charge);
        }
    }
    report.state(AttributeKey::Signal, csq);
    report.state(AttributeKey::Iccid, fields.text(name + 2));
    report.state(AttributeKey::Protocol, fields.text(1));
}
