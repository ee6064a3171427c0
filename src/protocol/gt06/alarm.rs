//! Alarm codes, and the alarm bits of the terminal's information byte.
//!
//! All are momentary: a message that is not answered is sent again, and most messages do not say what goes on.

use crate::frame::{AlarmKind, Alarms};

/// The alarm of a code as the documents of Concox and Jimi have them; where models differ, as most have it. Codes of
/// notices (first fix, power on, ignition, unlocked) are none; a code that is not known is one without a name.
pub(super) fn of_code(code: u16) -> Option<AlarmKind> {
    Some(match code {
        0x01 => AlarmKind::Sos,
        0x02 => AlarmKind::PowerCut,
        0x03 => AlarmKind::Vibration,
        // Into a fence, out of it; the code says which.
        0x04 | 0x05 => AlarmKind::AreaCrossed,
        0x06 => AlarmKind::Overspeed,
        0x09 => AlarmKind::IllegalMovement,
        // Into a place without reception. Out of it (0b) is good news.
        0x0a => AlarmKind::FixLost,
        // The supply is low; the terminal spares it.
        0x0e | 0x0f => AlarmKind::PowerLow,
        0x10 => AlarmKind::SimChanged,
        // Switched off, radio off, battery empty.
        0x11 | 0x12 | 0x15 => AlarmKind::PoweredOff,
        0x13 | 0x18 | 0x25 | 0x32 => AlarmKind::Tampering,
        0x14 => AlarmKind::DoorOpened,
        // A base station that is none.
        0x17 => AlarmKind::Jamming,
        0x19 => AlarmKind::BatteryLow,
        0x1a | 0x27 | 0x30 => AlarmKind::HarshBraking,
        0x1b | 0x28 | 0x2a | 0x2b | 0x2e => AlarmKind::HarshCornering,
        0x23 => AlarmKind::Fall,
        0x26 | 0x29 => AlarmKind::HarshAcceleration,
        0x2c => AlarmKind::Collision,
        0x53 => AlarmKind::FuelAbnormal,
        0x5b | 0x5c => AlarmKind::Temperature,
        0xc9 => AlarmKind::Idling,
        0x107 | 0x10b => AlarmKind::Jamming,
        0x00 | 0x0b | 0x0c | 0x0d | 0x20 | 0x33 | 0x34 | 0xe8..=0xea | 0xfe | 0xff => return None,
        _ => AlarmKind::Unspecified,
    })
}

/// The alarm bits of the terminal's information byte.
pub(super) fn of_terminal(information: u8) -> Option<AlarmKind> {
    match information >> 3 & 7 {
        1 => Some(AlarmKind::Vibration),
        2 => Some(AlarmKind::PowerCut),
        3 => Some(AlarmKind::BatteryLow),
        4 => Some(AlarmKind::Sos),
        6 => Some(AlarmKind::AreaCrossed),
        7 => Some(AlarmKind::Tampering),
        _ => None,
    }
}

/// The alarm of an event of a dash camera.
pub(super) fn of_camera(event: u8) -> Option<AlarmKind> {
    match event {
        0x01 => Some(AlarmKind::Sos),
        0x0e => Some(AlarmKind::PowerLow),
        0x76 => Some(AlarmKind::Temperature),
        0x80 => Some(AlarmKind::Vibration),
        0x87 => Some(AlarmKind::Overspeed),
        0x88 => Some(AlarmKind::PowerCut),
        0x90 => Some(AlarmKind::HarshAcceleration),
        0x91 => Some(AlarmKind::HarshBraking),
        0x92 => Some(AlarmKind::HarshCornering),
        0x93 => Some(AlarmKind::Collision),
        _ => None,
    }
}

/// The alarm of an event in a message that is made of modules.
pub(super) fn of_module(event: u8) -> Option<AlarmKind> {
    match event {
        0x10 => Some(AlarmKind::DoorOpened),
        0x12 | 0x23 => Some(AlarmKind::Tampering),
        0x14 | 0x15 => Some(AlarmKind::AreaCrossed),
        0x16 => Some(AlarmKind::Temperature),
        0x1a => Some(AlarmKind::BatteryLow),
        0x1b => Some(AlarmKind::Overspeed),
        0x1d => Some(AlarmKind::PoweredOff),
        0x20 => Some(AlarmKind::Vibration),
        0x21 => Some(AlarmKind::PowerCut),
        _ => None,
    }
}

/// Adds an alarm, if there is one.
pub(super) fn raise(alarms: &mut Alarms, kind: Option<AlarmKind>) {
    if let Some(kind) = kind {
        alarms.insert(kind);
    }
}
