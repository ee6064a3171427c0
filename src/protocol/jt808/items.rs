//! Items of a location: those of the standard, and those of vendors whose meaning is known from more than one model.
//!
//! Whatever is not known here is kept raw by the caller.

use super::super::Report;
use super::super::bytes::{Reader, hex};
use super::{ascii, battery};
use crate::frame::{AlarmKind, Alarms, AttributeKey};

/// Reads an item that the standard defines; `None` for another, or one of another length.
pub(super) fn standard(id: u8, value: &[u8], report: &mut Report) -> Option<()> {
    let number = number(value);
    match (id, value.len()) {
        (0x01, 4) => report.state(AttributeKey::OdometerM, Some(i64::from(number) * 100)),
        // Some terminals set the top bit and send a percentage.
        (0x02, 2) if number & 0x8000 != 0 => {
            report.state(AttributeKey::FuelPercent, Some(number & 0x7fff));
        }
        (0x02, 2) => report.state(AttributeKey::FuelL, Some(scaled(number, 10.0))),
        // 0.1 km/h.
        (0x03, 2) => report.state(AttributeKey::TachographSpeedMps, Some(scaled(number, 36.0))),
        (0x04, 2) => report.state_named("alarm_to_confirm", Some(number)),
        (0x05, 30) => tyre_pressures(value, report),
        (0x06, 2) => report.state(AttributeKey::TemperatureC, Some(sign_magnitude(number))),
        (0x11, 1 | 5) => {
            report.state_named("overspeed_place", value.first().copied());
            report.state(AttributeKey::Area, area(value.get(1..5)));
        }
        (0x12, 6) => {
            report.state_named("area_left", Some(value[5] == 1));
            report.state(AttributeKey::Area, area(value.get(1..5)));
        }
        (0x13, 7) => {
            report.state(AttributeKey::Area, area(value.get(..4)));
            report.state_named("section_s", Some(u16::from_be_bytes([value[4], value[5]])));
            report.state_named("section_too_long", Some(value[6] == 1));
        }
        (0x14, 4) => report.state_named("video_alarms", Some(number)),
        (0x25, 4) => report.state_named("vehicle_signals", Some(number)),
        (0x2a, 2) => report.state_named("io_status", Some(number)),
        (0x2b, 4) => {
            report.state_named("analog_0", Some(number & 0xffff));
            report.state_named("analog_1", Some(number >> 16));
        }
        (0x30, 1) => report.state(AttributeKey::Signal, Some(number)),
        (0x31, 1) => report.fix.set_satellites(value[0]),
        _ => return None,
    }
    Some(())
}

/// Reads an item that only vendors define; `None` for one that is not known.
pub(super) fn vendor(id: u8, value: &[u8], report: &mut Report) -> Option<()> {
    let number = number(value);
    match (id, value.len()) {
        // Charge of the terminal's battery: a byte of a length that the standard gives another meaning.
        (0x06, 1) | (0xd4 | 0xe9 | 0xfe, 1) => charge(value[0], report),
        (0x56, 2) => percent(value[0].saturating_mul(10), report),
        (0x68, 2) => report.state(AttributeKey::BatteryPercent, Some(scaled(number, 100.0))),
        (0x69 | 0xd5, 2) => report.state(AttributeKey::BatteryV, Some(scaled(number, 100.0))),
        (0xe4, 2) => {
            report.state(AttributeKey::Charging, Some(value[0] == 0));
            percent(value[1], report);
        }
        (0xe5, 1) => report.state(AttributeKey::Motion, Some(value[0] == 1)),
        (0xf7, 4..=6) => {
            report.state(AttributeKey::BatteryV, Some(scaled(number, 1000.0)));
            let charging = value.get(4).map(|status| matches!(status, 2 | 3));
            report.state(AttributeKey::Charging, charging);
            if let Some(&level) = value.get(5) {
                percent(level, report);
            }
        }
        (0xe1, 1) => charge(value[0], report),
        // Supply voltage.
        (0x82 | 0xd3 | 0xe1 | 0xfe, 2) => {
            report.state(AttributeKey::PowerV, Some(scaled(number, 10.0)))
        }
        (0xf1, 4) => report.state(AttributeKey::PowerV, Some(scaled(number, 1000.0))),
        (0xee, 6) => {
            let mut at = Reader(value);
            report.state(AttributeKey::Signal, at.u8());
            report.state(AttributeKey::PowerV, at.u16().map(|mv| scaled(mv, 1000.0)));
            report.state(
                AttributeKey::BatteryV,
                at.u16().map(|mv| scaled(mv, 1000.0)),
            );
            report.fix.set_satellites(value[5]);
        }
        (0x51, 2 | 16) => temperatures(value, report),
        (0xac | 0xfe, 4) => report.state(AttributeKey::OdometerM, Some(number)),
        (0x94 | 0x8b, 17) => report.state(AttributeKey::Vin, ascii(value)),
        (0xa0, _) => {
            let codes = ascii(value).map(|codes| codes.replace(',', " "));
            report.state(AttributeKey::FaultCodes, codes);
        }
        (0xbc, _) => report.state_named("driver_name", ascii(value)),
        (0xbd, _) => report.state(AttributeKey::DriverId, ascii(value)),
        (0xcc, 20) => report.state(AttributeKey::Iccid, ascii(value)),
        (0xf2, _) => report.state(AttributeKey::Firmware, ascii(value)),
        // An IMEI in eight bytes, with a zero in front.
        (0xf6, 8) => report.state(AttributeKey::Imei, Some(hex(value).split_off(1))),
        (0x57, 8) => events(value[0], HARSH, report),
        (0x60, 2..) => lock_event(value, report),
        (0x70, 6..) => match value[5] {
            1 => report.momentary.insert(AlarmKind::HarshAcceleration),
            2 => report.momentary.insert(AlarmKind::HarshBraking),
            3 => report.momentary.insert(AlarmKind::HarshCornering),
            0x16 => report.momentary.insert(AlarmKind::Collision),
            _ => return None,
        },
        (0xe7, 8) => {
            let word = u16::from_be_bytes([value[0], value[1]]);
            hold(word & 1 != 0, AlarmKind::Vibration, report);
            if word & 0b1110 != 0 {
                report.momentary.insert(AlarmKind::Sos);
            }
        }
        (0xfe, 7..) if value[..3] == [0x7c, 1, 4] => {
            const KINDS: &[AlarmKind] = &[
                AlarmKind::HarshAcceleration,
                AlarmKind::HarshBraking,
                AlarmKind::HarshCornering,
                AlarmKind::Collision,
                AlarmKind::Tampering,
            ];
            events(value[6], KINDS, report);
        }
        (0xe6, _) if value.starts_with(b"$OBD-RT") => obd_text(value, report),
        (0xe6, 11..) if value.len().is_multiple_of(11) => sensors(value, report),
        (0xe1, 12..) if (value.len() - 4).is_multiple_of(8) => cells_of_area(value, report),
        (0xf0, 13..) if value.len().is_multiple_of(13) => cells(value, report),
        (0xec | 0xf4, 7..) if value.len().is_multiple_of(7) => access_points(value, report),
        (0x77, 8..) if value.len().is_multiple_of(8) => tyres(value, report),
        (0xeb, 4..) => return nested(value, report),
        _ => return None,
    }
    Some(())
}

/// The items of an engine's computer, which follow an item 0x80 in a list of their own.
pub(super) fn engine(id: u8, value: &[u8], report: &mut Report) -> Option<()> {
    let number = number(value);
    let below_40 = |number: u32| i64::from(number) - 40;
    match (id, value.len()) {
        // km/h.
        (0x80, 1) => report.state(AttributeKey::TachographSpeedMps, Some(scaled(number, 3.6))),
        (0x81, 2) => report.state(AttributeKey::EngineRpm, Some(number)),
        (0x83, 1) => report.state(AttributeKey::EngineLoadPercent, Some(number)),
        (0x84, 1) => report.state(AttributeKey::CoolantC, Some(below_40(number))),
        (0x89, 1) => report.state(AttributeKey::ThrottlePercent, Some(number)),
        (0x8c, 4) => report.state_named("engine_odometer_m", Some(i64::from(number) * 100)),
        (0x8d, 2) => report.state(AttributeKey::TripM, Some(i64::from(number) * 1000)),
        (0x8e, 1) => report.state(AttributeKey::FuelPercent, Some(number)),
        _ => return vendor(id, value, report),
    }
    Some(())
}

/// The fixed tail of 20 bytes that one family of terminals sends in place of items.
pub(super) fn tail(value: &[u8; 20], report: &mut Report) {
    let km = u32::from_be_bytes([value[4], value[5], value[6], value[7]]);
    let battery = u16::from_be_bytes([value[8], value[9]]);
    report.state(AttributeKey::OdometerM, Some(i64::from(km) * 1000));
    report.state(AttributeKey::BatteryV, Some(scaled(battery, 10.0)));
    report.state(AttributeKey::Signal, Some(value[14]));
}

/// `$OBD-RT`: supply, speed of the engine, speed, throttle, load, coolant, two consumptions, trip, odometer, two of
/// fuel used.
pub(super) fn obd_text(text: &[u8], report: &mut Report) {
    for (name, number) in obd_numbers(text) {
        match name {
            ObdField::Standard(key) => report.state(key, Some(number)),
            ObdField::Speed => report.state(AttributeKey::TachographSpeedMps, Some(number / 3.6)),
        }
    }
}

/// What a field of an OBD text is.
pub(super) enum ObdField {
    Standard(AttributeKey),
    /// km/h.
    Speed,
}

/// The fields of an OBD text that are known and not empty.
pub(super) fn obd_numbers(text: &[u8]) -> impl Iterator<Item = (ObdField, f64)> {
    let fields = [
        Some(ObdField::Standard(AttributeKey::PowerV)),
        Some(ObdField::Standard(AttributeKey::EngineRpm)),
        Some(ObdField::Speed),
        Some(ObdField::Standard(AttributeKey::ThrottlePercent)),
        Some(ObdField::Standard(AttributeKey::EngineLoadPercent)),
        Some(ObdField::Standard(AttributeKey::CoolantC)),
        // Consumption in a unit that models differ in; the distances too.
        None,
        None,
        None,
        None,
        None,
        Some(ObdField::Standard(AttributeKey::FuelUsedL)),
    ];
    let values = text.split(|&byte| byte == b',').skip(1);
    fields.into_iter().zip(values).filter_map(|(field, value)| {
        let number: f64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        number.is_finite().then_some((field?, number))
    })
}

/// A vendor's list within an item: length of two bytes, type of two, value. A cut list says what stands before the cut.
fn nested(value: &[u8], report: &mut Report) -> Option<()> {
    if value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        report.state_named("time_zone", ascii(value));
        return Some(());
    }
    let mut rest = Reader(value);
    while let Some(item) = rest.u16().and_then(|len| rest.take(usize::from(len))) {
        let Some((&[high, low], value)) = item.split_first_chunk() else {
            break;
        };
        let number = number(value);
        match (u16::from_be_bytes([high, low]), value.len()) {
            (0x002d, 4) => report.state(AttributeKey::PowerV, Some(scaled(number, 1000.0))),
            (0x002d, 2) => report.state(AttributeKey::BatteryV, Some(scaled(number, 1000.0))),
            (0x00ce, 2) => report.state(AttributeKey::PowerV, Some(scaled(number, 100.0))),
            (0x00a8 | 0x00e1, 1) => percent(value[0], report),
            (0x00b2, 10) => {
                let digits = hex(value);
                report.state(AttributeKey::Iccid, Some(digits.trim_end_matches('f')));
            }
            (0x00d5, 15) => report.state(
                AttributeKey::Imei,
                ascii(value).filter(|id| !id.trim_matches('0').is_empty()),
            ),
            // Alarms of these two words are bits that are 0.
            (0x0089, 4) => {
                hold(number & 1 == 0, AlarmKind::PowerCut, report);
                hold(number & 1 << 12 == 0, AlarmKind::Tampering, report);
            }
            (0x00c5, 4) => hold(number & 1 << 6 == 0, AlarmKind::Vibration, report),
            (0x0023, 6) => {
                let level = ascii(value).and_then(|text| text.parse::<f64>().ok());
                report.state_named("fuel_2", level.filter(|level| level.is_finite()));
            }
            _ => {}
        }
    }
    Some(())
}

const HARSH: &[AlarmKind] = &[
    AlarmKind::HarshAcceleration,
    AlarmKind::HarshBraking,
    AlarmKind::HarshCornering,
];

/// Reports a kind for each set bit.
fn events(bits: u8, kinds: &[AlarmKind], report: &mut Report) {
    let set = kinds
        .iter()
        .enumerate()
        .filter(|&(bit, _)| bits & 1 << bit != 0);
    let set: Alarms = set.map(|(_, &kind)| kind).collect();
    report.momentary.0 |= set.0;
}

fn hold(holds: bool, kind: AlarmKind, report: &mut Report) {
    if holds {
        report.held.insert(kind);
    }
}

/// What an electronic lock did, and the card that did it.
fn lock_event(value: &[u8], report: &mut Report) {
    let event = u16::from_be_bytes([value[0], value[1]]);
    report.state(AttributeKey::Event, Some(event));
    if (0x61..=0x66).contains(&event) {
        let card = value.get(8..16).and_then(ascii);
        report.state(AttributeKey::DriverId, card);
    }
}

/// Temperatures of up to eight sensors, 0.1 degree with a sign bit; ffff where there is none.
fn temperatures(value: &[u8], report: &mut Report) {
    for (at, pair) in value.chunks_exact(2).enumerate() {
        let raw = number(pair);
        let degrees = (raw != 0xffff).then(|| sign_magnitude(raw) as f64 / 10.0);
        match temperature_key(at + 1) {
            Some(key) => report.state(key, degrees),
            None => report.state_named(format!("temperature_{}_c", at + 1), degrees),
        }
    }
}

fn temperature_key(sensor: usize) -> Option<AttributeKey> {
    match sensor {
        1 => Some(AttributeKey::TemperatureC),
        2 => Some(AttributeKey::Temperature2C),
        3 => Some(AttributeKey::Temperature3C),
        4 => Some(AttributeKey::Temperature4C),
        _ => None,
    }
}

/// Radio sensors: number, address of six bytes, temperature, humidity; each a whole number and 1/255.
fn sensors(value: &[u8], report: &mut Report) {
    for sensor in value.chunks_exact(11) {
        let number = |whole: u8, part: u8| {
            let whole = whole as i8;
            let magnitude = f64::from(whole.unsigned_abs()) + f64::from(part) / 255.0;
            if whole < 0 { -magnitude } else { magnitude }
        };
        if let Some(key) = temperature_key(usize::from(sensor[0])) {
            report.state(key, Some(number(sensor[7], sensor[8])));
            let humidity = number(sensor[9], sensor[10]);
            report.state_named(format!("humidity_{}_percent", sensor[0]), Some(humidity));
        }
    }
}

/// Cells of one network: its codes, then area of three bytes, cell of four, signal.
fn cells_of_area(value: &[u8], report: &mut Report) {
    let mut at = Reader(value);
    let (Some(mcc), Some(mnc)) = (at.u16(), at.u16()) else {
        return;
    };
    let cells = at.0.chunks_exact(8).map(|cell| {
        let (area, id) = (number(&cell[..3]), number(&cell[3..7]));
        format!("{mcc}-{mnc}-{area}-{id}")
    });
    let cells: Vec<_> = cells.collect();
    report.state(AttributeKey::Cells, Some(cells.join(" ")));
}

/// Cells of any network: its codes, cell of four bytes, area of four, signal.
fn cells(value: &[u8], report: &mut Report) {
    let cells = value.chunks_exact(13).map(|cell| {
        let [mcc, mnc] = [&cell[..2], &cell[2..4]].map(number);
        let (id, area) = (number(&cell[4..8]), number(&cell[8..12]));
        format!("{mcc}-{mnc}-{area}-{id}")
    });
    let cells: Vec<_> = cells.collect();
    report.state(AttributeKey::Cells, Some(cells.join(" ")));
}

/// Access points: address of six bytes, signal in dBm.
fn access_points(value: &[u8], report: &mut Report) {
    let points = value.chunks_exact(7).map(|point| {
        let address: Vec<_> = point[..6].iter().map(|&byte| hex(&[byte])).collect();
        format!("{} {}", address.join(":"), point[6] as i8)
    });
    let points: Vec<_> = points.collect();
    report.state(AttributeKey::Wifi, Some(points.join(" ")));
}

/// The number of each tyre and its pressure. All in one text: thirty values each of a name of its own would take a
/// hundred times the memory of the item.
fn tyre_pressures(value: &[u8], report: &mut Report) {
    let known = value.iter().enumerate().filter(|&(_, &raw)| raw != 0xff);
    let pressures: Vec<_> = known.map(|(at, raw)| format!("{}:{raw}", at + 1)).collect();
    let stated = (!pressures.is_empty()).then(|| pressures.join(" "));
    report.state_named("tyre_pressures", stated);
}

/// Tyres: number, sensor of three bytes, pressure in 1/40 bar, temperature from 50 below zero, state.
fn tyres(value: &[u8], report: &mut Report) {
    for tyre in value.chunks_exact(8) {
        let number = tyre[0];
        let pressure = u16::from_be_bytes([tyre[4], tyre[5]]) & 0x3ff;
        let bar = scaled(pressure, 40.0);
        report.state_named(format!("tyre_{number}_pressure_bar"), Some(bar));
        let degrees = i64::from(tyre[6]) - 50;
        report.state_named(format!("tyre_{number}_temperature_c"), Some(degrees));
    }
}

fn charge(raw: u8, report: &mut Report) {
    match raw {
        0xff => report.state(AttributeKey::Charging, Some(true)),
        level => percent(level, report),
    }
}

fn percent(level: u8, report: &mut Report) {
    report.attributes.extend(battery(level));
}

fn area(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| number(bytes).to_string())
}

/// Up to four bytes as a number.
fn number(bytes: &[u8]) -> u32 {
    let first = bytes.iter().take(4);
    first.fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn scaled(number: impl Into<f64>, divisor: f64) -> f64 {
    number.into() / divisor
}

/// Two bytes whose top bit is the sign.
fn sign_magnitude(raw: u32) -> i64 {
    let magnitude = i64::from(raw & 0x7fff);
    if raw & 0x8000 != 0 {
        -magnitude
    } else {
        magnitude
    }
}
