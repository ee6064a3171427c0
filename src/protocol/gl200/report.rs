//! What a report says beside its positions: heads and tails of the kinds, events and their alarms.

use super::bus;
use super::fields::Fields;
use super::information;
use super::location;
use super::model::{Family, Model};
use crate::frame::{AlarmKind, AttributeKey};
use crate::protocol::{Report, text};

/// Most temperature sensors that have a name.
const TEMPERATURES: [AttributeKey; 4] = [
    AttributeKey::TemperatureC,
    AttributeKey::Temperature2C,
    AttributeKey::Temperature3C,
    AttributeKey::Temperature4C,
];

/// A report, cut and placed.
pub(super) struct Body<'a, 'b> {
    pub(super) fields: &'b Fields<'a>,
    pub(super) model: Model,
    /// It says a version.
    pub(super) versioned: bool,
    /// The three letters of its kind.
    pub(super) code: [u8; 3],
    /// Index of the device's name; what the kind says begins after it.
    pub(super) name: usize,
    /// Index of the first field after the last location and its cell, if it has one.
    pub(super) tail: Option<usize>,
    /// Index of the send time.
    pub(super) end: usize,
}

/// The kind of message that three letters stand for; `None` if they are not known.
pub(super) fn kind(code: [u8; 3]) -> Option<&'static str> {
    Some(match &code {
        b"FRI" | b"ERI" | b"RTL" | b"DOG" | b"LBC" | b"PNL" | b"NMR" | b"GCR" | b"TRI" | b"STR"
        | b"CTN" => "location",
        b"INF" | b"VER" | b"GPS" | b"CID" | b"CSQ" | b"BAT" | b"TMZ" | b"AIF" | b"ALL" | b"ALC"
        | b"ALM" | b"GIR" | b"GSV" | b"CVN" | b"IOS" => "information",
        b"GSM" | b"WIF" | b"LBS" => "network",
        b"OBD" | b"OPN" | b"OPF" | b"CAN" | b"CLT" | b"JES" => "bus",
        b"DAT" | b"DTT" => "data",
        b"SOS" | b"SPD" | b"GEO" | b"GES" | b"GIN" | b"GOT" | b"SWG" | b"TOW" | b"HBM" | b"CRA"
        | b"CRD" | b"STT" | b"IGN" | b"IGF" | b"IGL" | b"VGN" | b"VGF" | b"VGL" | b"IDN"
        | b"IDF" | b"IDL" | b"PNA" | b"PFA" | b"MPN" | b"MPF" | b"EPN" | b"EPF" | b"BPL"
        | b"BTC" | b"STC" | b"EPS" | b"AIS" | b"DIS" | b"IOB" | b"LSW" | b"TSW" | b"TMP"
        | b"TEM" | b"LSA" | b"JDR" | b"JDS" | b"GPJ" | b"ANT" | b"GSS" | b"RMD" | b"PDP"
        | b"DAR" | b"FLA" | b"SVR" | b"BAA" | b"BAR" | b"BID" | b"IDA" | b"UPC" | b"UPD"
        | b"EUC" | b"EXP" => "event",
        _ => return None,
    })
}

impl Body<'_, '_> {
    /// Adds what the kind says to `report`.
    pub(super) fn add_to(&self, report: &mut Report) {
        self.alarm(report);
        let code = String::from_utf8_lossy(&self.code).into_owned();
        report.state(AttributeKey::Event, Some(code));
        match &self.code {
            b"INF" if self.versioned => information::state(self, report),
            // The GT300 has another layout.
            b"INF" => {}
            b"VER" => self.version(report),
            b"CID" => report.state(AttributeKey::Iccid, self.fields.text(self.at(1))),
            b"CSQ" => report.state(AttributeKey::Signal, self.fields.int(self.at(1))),
            b"GSM" => self.cells(report),
            b"WIF" => self.wifi(report),
            b"LBS" => self.base_stations(report),
            b"OBD" => bus::obd(self, report),
            b"CAN" => bus::can(self.fields, self.name + 3, self.end, report),
            _ => {
                self.head(report);
                self.tail(report);
            }
        }
    }

    fn at(&self, after_name: usize) -> usize {
        self.name + after_name
    }

    /// The alarm of an event. A state that says that the condition ended is none.
    fn alarm(&self, report: &mut Report) {
        let state = self.fields.int(self.at(1));
        let kind = match &self.code {
            b"SOS" => AlarmKind::Sos,
            b"SPD" => AlarmKind::Overspeed,
            b"TOW" => AlarmKind::IllegalMovement,
            b"IDL" | b"IDN" => AlarmKind::Idling,
            b"MPF" | b"EPF" | b"OPF" => AlarmKind::PowerCut,
            b"PFA" => AlarmKind::PoweredOff,
            b"BPL" => AlarmKind::BatteryLow,
            b"GEO" | b"GES" | b"GIN" | b"GOT" | b"SWG" => AlarmKind::AreaCrossed,
            b"TMP" | b"TEM" => AlarmKind::Temperature,
            b"JDR" => AlarmKind::Jamming,
            b"JDS" if state != Some(1) => AlarmKind::Jamming,
            b"GPJ" if self.fields.int(self.at(2)) != Some(1) => AlarmKind::Jamming,
            b"CRA" => AlarmKind::Collision,
            b"FLA" => AlarmKind::FuelAbnormal,
            b"SVR" => AlarmKind::Theft,
            b"LSA" => AlarmKind::Tampering,
            b"GSS" if state == Some(0) => AlarmKind::FixLost,
            b"DAR" if state == Some(1) => AlarmKind::Fatigue,
            b"DAR" | b"BAA" | b"BAR" | b"EPS" | b"AIS" | b"CLT" => AlarmKind::Unspecified,
            // The last digit of the report type: braking, accelerating, turning, then the first two at high speed.
            b"HBM" => match self.fields.get(self.at(2)).last() {
                Some(b'0' | b'3') => AlarmKind::HarshBraking,
                Some(b'1' | b'4') => AlarmKind::HarshAcceleration,
                Some(b'2') => AlarmKind::HarshCornering,
                _ => AlarmKind::Unspecified,
            },
            _ => return,
        };
        report.momentary.insert(kind);
    }

    /// What stands between the name and the location.
    fn head(&self, report: &mut Report) {
        let fields = self.fields;
        let (first, second) = (self.at(1), self.at(2));
        match &self.code {
            b"FRI" | b"RTL" | b"DOG" | b"SOS" | b"SPD" | b"GEO" => {
                report.state(AttributeKey::PowerV, power_v(fields, first));
                if self.code == *b"GEO" {
                    report.state(AttributeKey::Area, fields.text(second));
                }
            }
            b"ERI" => report.state(AttributeKey::PowerV, power_v(fields, second)),
            b"BPL" => {
                let volts = text::decimal(fields.get(first), 3);
                report.state(AttributeKey::BatteryV, volts.map(|mv| mv as f64 / 1e3));
            }
            b"IGL" | b"VGL" => {
                // The last digit: 0 for on.
                let ignition = match fields.get(second).last() {
                    Some(b'0') => Some(true),
                    Some(b'1') => Some(false),
                    _ => None,
                };
                report.state(AttributeKey::Ignition, ignition);
            }
            b"IGN" | b"VGN" => report.state(AttributeKey::Ignition, Some(true)),
            b"IGF" | b"VGF" => report.state(AttributeKey::Ignition, Some(false)),
            b"STT" => motion(fields.hex(first), report),
            b"NMR" => {
                let moving = fields.int(second).map(|kind| kind == 1);
                report.state(AttributeKey::Motion, moving);
            }
            b"STC" => report.state(AttributeKey::Charging, Some(false)),
            b"BTC" => report.state(AttributeKey::Charging, Some(true)),
            b"LSW" | b"TSW" => {
                let name = match &self.code {
                    b"LSW" => "input_1",
                    _ => "input_2",
                };
                report.state_named(name, fields.int(second).map(|state| state == 1));
            }
            // The number of the input, then its state.
            b"DIS" => {
                let kind = fields
                    .hex(second)
                    .filter(|kind| (0x10..0x100).contains(kind));
                if let Some(kind) = kind {
                    let name = format!("input_{}", kind >> 4);
                    report.state_named(name, Some(kind & 15 == 1));
                }
            }
            b"IDA" => report.state(AttributeKey::DriverId, fields.text(second)),
            b"TMP" | b"TEM" => {
                let celsius = text::decimal(fields.get(second), 2);
                report.state(
                    AttributeKey::TemperatureC,
                    celsius.map(|value| value as f64 / 1e2),
                );
            }
            b"STR" | b"CTN" if self.model.beacon => {
                let celsius = text::decimal(fields.get(self.at(4)), 2);
                report.state(AttributeKey::BatteryPercent, fields.percent(self.at(5)));
                report.state(
                    AttributeKey::TemperatureC,
                    celsius.map(|value| value as f64 / 1e2),
                );
            }
            b"DAT" => report.state(AttributeKey::Text, fields.text(self.at(4))),
            b"DTT" => report.state_named("data", fields.text(self.at(5))),
            b"BAA" => {
                report.state(
                    AttributeKey::AlarmWord,
                    fields.hex(self.at(4)).map(i64::from),
                );
                self.accessory(self.at(5), report);
            }
            b"BID" => self.accessory(self.at(3), report),
            b"JDS" | b"GSS" | b"ANT" | b"DAR" | b"RMD" => {
                report.state(AttributeKey::StatusWord, fields.int(first));
            }
            _ => {}
        }
    }

    /// The accessory of a report, by the mask at `at`.
    fn accessory(&self, at: usize, report: &mut Report) {
        let (fields, mut at) = (self.fields, at);
        let mask = fields.hex(at).unwrap_or(0);
        let mut next = |bit: u32| {
            let stated = mask >> bit & 1 != 0;
            at += usize::from(stated);
            stated.then_some(at)
        };
        if let Some(at) = next(0) {
            report.state_named("accessory_name", fields.text(at));
        }
        if let Some(at) = next(1) {
            report.state_named("accessory", fields.text(at));
        }
        if let Some(at) = next(2) {
            report.state_named("accessory_status", fields.int(at));
        }
        if let Some(at) = next(3) {
            let volts = fields.int(at).map(|mv| mv as f64 / 1e3);
            report.state_named("accessory_v", volts);
        }
        if let Some(at) = next(4) {
            report.state(AttributeKey::TemperatureC, fields.int(at));
        }
        if let Some(at) = next(5) {
            report.state(AttributeKey::HumidityPercent, fields.int(at));
        }
    }

    /// What stands between the last cell and the send time.
    fn tail(&self, report: &mut Report) {
        let (fields, end) = (self.fields, self.end);
        let Some(tail) = self.tail.filter(|&tail| tail < end) else {
            return;
        };
        if self.model.beacon {
            if end - tail > 3 {
                report.state(AttributeKey::BatteryPercent, fields.percent(tail + 3));
                let celsius = Some(fields.get(tail + 6)).filter(|field| field.contains(&b'.'));
                let celsius = celsius.and_then(|field| text::decimal(field, 2));
                report.state(
                    AttributeKey::TemperatureC,
                    celsius.map(|value| value as f64 / 1e2),
                );
            }
            return;
        }
        let mileage = (tail..end.min(tail + 2)).find_map(|at| metres(fields.get(at)));
        report.state(AttributeKey::OdometerM, mileage);
        let hours = (tail..end).find(|&at| fields.get(at).contains(&b':'));
        let seconds = hours.and_then(|at| seconds(fields.get(at)));
        report.state(AttributeKey::EngineS, seconds);
        let is_status = |at: usize| fields.len(at) == 6 && fields.hex(at).is_some();
        let vehicle = self.model.family == Family::Vehicle;
        let status = (tail..end).find(|&at| vehicle && is_status(at));
        if let Some(at) = status {
            self.inputs(tail + 2, at.saturating_sub(1), report);
            let charge = Some(at - 1).filter(|&at| at >= tail);
            report.state(
                AttributeKey::BatteryPercent,
                charge.and_then(|at| fields.percent(at)),
            );
            status_word(fields.hex(at), report);
            self.after_status(at, report);
        } else if self.model.many_inputs && matches!(&self.code, b"FRI" | b"ERI") {
            self.inputs(tail + 2, tail + 5, report);
            report.state(AttributeKey::Inputs, fields.hex(tail + 5));
            report.state(AttributeKey::Outputs, fields.hex(tail + 6));
            if self.code == *b"ERI" {
                self.extras(tail + 8, report);
            }
        } else if self.code != *b"ERI" {
            // Charge is the last that is said, but for fields that are empty; the first is reserved or a mileage.
            let last = (tail + 1..end).rev().find(|&at| !fields.get(at).is_empty());
            let charge = last.and_then(|at| fields.percent(at));
            report.state(AttributeKey::BatteryPercent, charge);
        }
    }

    /// Analogue inputs: millivolts, or a fuel sensor's percentage after an `F`.
    fn inputs(&self, from: usize, to: usize, report: &mut Report) {
        let keys = [
            AttributeKey::Analog1V,
            AttributeKey::Analog2V,
            AttributeKey::Analog3V,
        ];
        for (at, key) in (from..to).zip(keys) {
            match self.fields.get(at).strip_prefix(b"F") {
                Some(percent) => {
                    report.state(AttributeKey::FuelPercent, text::decimal(percent, 0));
                }
                None => {
                    let volts = self.fields.int(at).map(|mv| mv as f64 / 1e3);
                    report.state(key, volts);
                }
            }
        }
    }

    /// What follows the status word: engine data in a periodic report, what the mask says in an extended one.
    fn after_status(&self, status: usize, report: &mut Report) {
        let fields = self.fields;
        if self.code == *b"ERI" {
            return self.extras(status + 2, report);
        }
        if self.code != *b"FRI" || self.end < status + 4 {
            return;
        }
        report.state(AttributeKey::EngineRpm, fields.int(status + 1));
        let fuel = text::decimal(fields.get(status + 2), 2);
        report.state_named("fuel_consumption", fuel.map(|value| value as f64 / 1e2));
        report.state(AttributeKey::FuelPercent, fields.percent(status + 3));
    }

    /// The parts of an extended report from `at`, in the order of the mask's bits, as far as their lengths are known:
    /// a fuel sensor, wired temperature sensors, bus data, or accessories.
    fn extras(&self, at: usize, report: &mut Report) {
        let (fields, mut at) = (self.fields, at);
        let mask = fields.hex(self.at(1)).unwrap_or(0);
        if mask & 1 != 0 {
            // A reading has four digits; the GV200's first editions have one more field before it.
            at += usize::from(fields.len(at) != 4 && fields.len(at + 1) == 4);
            report.state_named("fuel_sensor", fields.hex(at));
            at += 1;
        }
        match mask & !1 {
            0x002 => {
                let count = fields.int(at).unwrap_or(0);
                let sensors = (at + 3..self.end).step_by(3);
                for ((_, at), key) in (0..count).zip(sensors).zip(TEMPERATURES) {
                    // Sixteenths of a degree in sixteen bits with sign.
                    let raw = fields.hex(at).filter(|_| fields.len(at) == 4);
                    let celsius = raw.map(|raw| f64::from(raw as u16 as i16) / 16.0);
                    report.state(key, celsius);
                }
            }
            0x004 => bus::can(fields, at + 1, self.end, report),
            0x100 => self.accessories(at, report),
            _ => {}
        }
    }

    /// Accessories over Bluetooth: a count, then for each its number, type, model, raw data, a mask, and what it says.
    fn accessories(&self, at: usize, report: &mut Report) {
        let (fields, mut at) = (self.fields, at);
        let count = fields.int(at).unwrap_or(0);
        at += 1;
        for (_, key) in (0..count).zip(TEMPERATURES) {
            at += 4 + usize::from(self.model.raw_length);
            let Some(mask) = fields.hex(at).filter(|_| at < self.end) else {
                return;
            };
            at += 1;
            for bit in (0..16).filter(|bit| mask >> bit & 1 != 0 && *bit != 6) {
                match bit {
                    4 => {
                        let celsius = text::decimal(fields.get(at), 2);
                        report.state(key.clone(), celsius.map(|value| value as f64 / 1e2));
                    }
                    5 => report.state(AttributeKey::HumidityPercent, fields.percent(at)),
                    _ => {}
                }
                at += 1;
            }
        }
    }

    fn version(&self, report: &mut Report) {
        let fields = self.fields;
        report.state(AttributeKey::Model, fields.text(self.at(1)));
        report.state(AttributeKey::Firmware, fields.text(self.at(2)));
        report.state(AttributeKey::Hardware, fields.text(self.at(3)));
    }

    /// Cells heard: each has six fields.
    fn cells(&self, report: &mut Report) {
        self.cells_from(self.name + 1, report);
    }

    fn cells_from(&self, from: usize, report: &mut Report) {
        let cells: Vec<_> = (from..self.end)
            .step_by(6)
            .filter_map(|at| location::cell(self.fields, at))
            .collect();
        let cells = Some(cells.join(" ")).filter(|cells| !cells.is_empty());
        report.state(AttributeKey::Cells, cells);
    }

    fn wifi(&self, report: &mut Report) {
        let mut at = self.at(2);
        let heard = location::access_points(self.fields, &mut at);
        report.state(
            AttributeKey::BatteryPercent,
            self.fields.percent(self.end - 1),
        );
        report.state(AttributeKey::Wifi, heard);
    }

    fn base_stations(&self, report: &mut Report) {
        report.state(
            AttributeKey::BatteryPercent,
            self.fields.percent(self.at(3)),
        );
        self.cells_from(self.at(9), report);
    }
}

/// External supply in millivolts; a small number is a report type of a portable device.
fn power_v(fields: &Fields, at: usize) -> Option<f64> {
    let millivolts = fields.int(at).filter(|mv| (1000..100_000).contains(mv))?;
    Some(millivolts as f64 / 1e3)
}

/// Kilometres with a point, to metres.
fn metres(field: &[u8]) -> Option<i64> {
    if !field.contains(&b'.') {
        return None;
    }
    text::decimal(field, 3).filter(|&metres| metres >= 0)
}

/// `hours:minutes:seconds` to seconds.
fn seconds(field: &[u8]) -> Option<i64> {
    let mut parts = field.split(|&b| b == b':');
    let mut seconds = 0;
    for unit in [3600, 60, 1] {
        let part = parts.next()?;
        seconds += unit * text::decimal(part, 0).filter(|&part| part >= 0)?;
    }
    parts.next().is_none().then_some(seconds)
}

/// A device's state in two digits: the first says whether the ignition is on (or that none is wired), the second whether
/// it moves.
pub(super) fn motion(state: Option<u32>, report: &mut Report) {
    let Some(state) = state else {
        return;
    };
    let ignition = match state {
        0x11 | 0x12 | 0x16 | 0x1a => Some(false),
        0x21 | 0x22 => Some(true),
        _ => None,
    };
    let moving = match state {
        0x11 | 0x21 | 0x41 => Some(false),
        0x12 | 0x16 | 0x1a | 0x22 | 0x42 => Some(true),
        _ => None,
    };
    report.state(AttributeKey::Ignition, ignition);
    report.state(AttributeKey::Motion, moving);
    if state == 0x16 {
        report.held.insert(AlarmKind::IllegalMovement);
    }
}

/// The status word: state, inputs (bit 0 is the ignition's own), outputs.
fn status_word(word: Option<u32>, report: &mut Report) {
    let Some(word) = word else {
        return;
    };
    motion(Some(word >> 16), report);
    report.state(AttributeKey::Inputs, Some(word >> 9 & 0x7f));
    report.state(AttributeKey::Outputs, Some(word & 0xff));
    report.state(AttributeKey::StatusWord, Some(word));
}
