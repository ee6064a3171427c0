//! Alarms by the names that Traccar gives them, which clients use.

use super::super::Report;
use crate::frame::AlarmKind;

const NAMES: &[(&str, AlarmKind)] = &[
    ("sos", AlarmKind::Sos),
    ("general", AlarmKind::Unspecified),
    ("vibration", AlarmKind::Vibration),
    ("movement", AlarmKind::IllegalMovement),
    ("lowspeed", AlarmKind::LowSpeed),
    ("overspeed", AlarmKind::Overspeed),
    ("fallDown", AlarmKind::Fall),
    ("lowPower", AlarmKind::PowerLow),
    ("lowBattery", AlarmKind::BatteryLow),
    ("fault", AlarmKind::VehicleFault),
    ("powerOff", AlarmKind::PoweredOff),
    ("door", AlarmKind::DoorOpened),
    ("bonnet", AlarmKind::DoorOpened),
    ("geofence", AlarmKind::AreaCrossed),
    ("geofenceEnter", AlarmKind::AreaCrossed),
    ("geofenceExit", AlarmKind::AreaCrossed),
    ("gpsAntennaCut", AlarmKind::GnssAntennaCut),
    ("accident", AlarmKind::Collision),
    ("tow", AlarmKind::IllegalMovement),
    ("idle", AlarmKind::Idling),
    ("highRpm", AlarmKind::EngineSpeed),
    ("hardAcceleration", AlarmKind::HarshAcceleration),
    ("hardBraking", AlarmKind::HarshBraking),
    ("hardCornering", AlarmKind::HarshCornering),
    ("laneChange", AlarmKind::LaneDeparture),
    ("fatigueDriving", AlarmKind::Fatigue),
    ("powerCut", AlarmKind::PowerCut),
    ("jamming", AlarmKind::Jamming),
    ("temperature", AlarmKind::Temperature),
    ("parking", AlarmKind::Parking),
    ("fuelLeak", AlarmKind::FuelAbnormal),
    ("tampering", AlarmKind::Tampering),
    ("removing", AlarmKind::Tampering),
];

/// Adds the alarms of a list of names with commas between them. One without a kind of its own is kept as text too.
pub(super) fn state(report: &mut Report, names: &str) {
    let names = names.split(',').map(str::trim);
    for name in names.filter(|name| !name.is_empty()) {
        let known = NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let kind = known.map_or(AlarmKind::Unspecified, |&(_, kind)| kind);
        if known.is_none() && !report.momentary.contains(kind) {
            report.state_named("alarm", Some(super::query::short(name)));
        }
        report.momentary.insert(kind);
    }
}
