//! What made a report: one list of codes for all models.

use super::super::Report;
use crate::frame::{AlarmKind, AttributeKey};

/// A driver's card was read.
pub(super) const CARD: u32 = 37;

/// States the code, and what it means.
pub(super) fn state(code: u32, report: &mut Report) {
    report.state(AttributeKey::Event, Some(code));
    if let Some(kind) = alarm(code) {
        report.momentary.insert(kind);
    }
    match code {
        144 | 145 => report.state(AttributeKey::Ignition, Some(code == 144)),
        41 | 42 => report.state(AttributeKey::Motion, Some(code == 42)),
        56 | 57 => report.state(AttributeKey::Armed, Some(code == 56)),
        _ => {}
    }
}

fn alarm(code: u32) -> Option<AlarmKind> {
    Some(match code {
        1 => AlarmKind::Sos,
        17 => AlarmKind::BatteryLow,
        18 => AlarmKind::PowerLow,
        19 => AlarmKind::Overspeed,
        20 | 21 => AlarmKind::AreaCrossed,
        23 => AlarmKind::PowerCut,
        24 => AlarmKind::FixLost,
        28 => AlarmKind::GnssAntennaCut,
        36 => AlarmKind::IllegalMovement,
        40 => AlarmKind::PoweredOff,
        44 => AlarmKind::Jamming,
        50 | 51 => AlarmKind::Temperature,
        54 => AlarmKind::FuelAbnormal,
        58 => AlarmKind::Theft,
        78 => AlarmKind::Collision,
        79 => AlarmKind::Fall,
        81 => AlarmKind::Tampering,
        90 | 91 => AlarmKind::HarshCornering,
        129 => AlarmKind::HarshBraking,
        130 => AlarmKind::HarshAcceleration,
        133 => AlarmKind::Idling,
        135 => AlarmKind::Fatigue,
        _ => return None,
    })
}
