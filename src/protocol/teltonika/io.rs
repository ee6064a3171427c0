//! What the numbered values of a record mean: the list of the FMB family.
//!
//! A number has another meaning in other families, mostly with another length, so both decide. What has no standard name
//! is kept under its number.

use super::super::Report;
use super::super::bytes::{hex, io_name, number};
use super::record::{Element, kmh_mm_s};
use crate::frame::{AlarmKind, Attribute, AttributeKey, Value};

/// Values without a standard name that are kept of one message.
const VENDOR_ATTRIBUTES_MAX: usize = 64;

/// A longer value is passed over: lists of beacons heard can have a thousand bytes.
const VALUE_BYTES_MAX: usize = 128;

/// Attributes that there is room for at first. More than have a standard name, so that the room never doubles in each
/// record of a message that is made to.
const ATTRIBUTES_ROOM_MAX: usize = 64;

/// What several values say together.
#[derive(Default)]
struct Together {
    inputs: Option<u8>,
    outputs: Option<u8>,
    cell: Option<u64>,
    area: Option<u64>,
    operator: Option<u64>,
    iccid: [Option<u64>; 2],
}

/// States what the values of a record say, standard names first.
pub(super) fn state(elements: &[Element], event: u16, vendor: &mut Vendor, report: &mut Report) {
    let room = (elements.len() + 4).min(ATTRIBUTES_ROOM_MAX);
    report.attributes.reserve(room);
    let older_bus = has_older_bus(elements);
    let mut together = Together::default();
    for &element in elements {
        let (id, value) = element;
        let raw = number(value);
        if id == event && value.len() <= 2 {
            event_alarm(id, raw, report);
        }
        if together.take(element, raw) || is_repeated(element, report) {
            continue;
        }
        let other = older_bus && OLDER_BUS.contains(&id);
        if other || standard(element, raw, report).is_none() {
            vendor.add(element);
        }
    }
    together.state(vendor, report);
    vendor.move_to(report);
}

/// Values without a standard name, which follow those with one.
pub(super) struct Vendor {
    values: Vec<Attribute>,
    /// How many more are kept of this message.
    left: usize,
}

impl Vendor {
    pub(super) fn new() -> Vendor {
        Vendor {
            values: Vec::new(),
            left: VENDOR_ATTRIBUTES_MAX,
        }
    }

    pub(super) fn add(&mut self, (id, value): Element) {
        if self.left == 0 || value.len() > VALUE_BYTES_MAX {
            return;
        }
        self.left -= 1;
        let value = match i64::try_from(number(value)) {
            Ok(number) if value.len() <= 8 => Value::Int(number),
            _ => Value::Text(hex(value)),
        };
        self.values.push(Attribute::named(io_name(id), value));
    }

    pub(super) fn move_to(&mut self, report: &mut Report) {
        report.attributes.append(&mut self.values);
    }
}

/// Numbers that mean other things, at the same length, in the lists of the older families for lorries (FM36, FM63).
const OLDER_BUS: &[u16] = &[81, 82, 87, 102, 103, 107];

/// The older lists show by values that have another length in the FMB family: brake switch, wheel speed, fuel used and
/// turns of the engine.
fn has_older_bus(elements: &[Element]) -> bool {
    elements
        .iter()
        .any(|&(id, value)| matches!((id, value.len()), (79, 1) | (80 | 86 | 88, 4)))
}

fn is_stated(report: &Report, key: &AttributeKey) -> bool {
    report
        .attributes
        .iter()
        .any(|attribute| attribute.key == *key)
}

/// A value that says once more what the record does: its speed; or says that nobody is there: no key was touched.
fn is_repeated((id, value): Element, report: &Report) -> bool {
    match (id, value) {
        (24, &[high, low]) => report.fix.speed_mm_s == kmh_mm_s(u16::from_be_bytes([high, low])),
        (8 | 78 | 207, &[0, 0, 0, 0, 0, 0, 0, 0]) => true,
        _ => false,
    }
}

/// States the standard attribute that a value is; `None` if it is none, or one that is stated.
fn standard((id, bytes): Element, raw: u64, report: &mut Report) -> Option<()> {
    use AttributeKey as Key;
    let int = || Value::Int(raw as i64);
    let parts = |parts: f64| Value::Float(raw as f64 / parts);
    let signed = match *bytes {
        [a] => i64::from(a as i8),
        [a, b] => i64::from(i16::from_be_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
        _ => 0,
    };
    match (id, bytes.len()) {
        (239, 1) => put(report, Key::Ignition, Value::Bool(raw != 0)),
        (240, 1) => put(report, Key::Motion, Value::Bool(raw != 0)),
        (16, 4) => put(report, Key::OdometerM, int()),
        (66, 2) => put(report, Key::PowerV, parts(1000.0)),
        (67, 2) => put(report, Key::BatteryV, parts(1000.0)),
        (68, 2) => put(report, Key::BatteryMa, int()),
        (113, 1) => put(report, Key::BatteryPercent, int()),
        (21, 1) => put(report, Key::Signal, int()),
        (69, 1) => put(report, Key::FixMode, int()),
        (181, 2) => put(report, Key::Pdop, parts(10.0)),
        (182, 2) => put(report, Key::Hdop, parts(10.0)),
        (199, 4) => put(report, Key::TripM, int()),
        // Even where the device stands, odd where it moves; at home, abroad, or in a network that it does not know.
        (80, 1) if raw < 4 => put(report, Key::Roaming, Value::Bool(raw >= 2)),
        (9, 2) => put(report, Key::Analog1V, parts(1000.0)),
        (6 | 10, 2) => put(report, Key::Analog2V, parts(1000.0)),
        (11, 2) => put(report, Key::Analog3V, parts(1000.0)),
        (245, 2) => put(report, Key::Analog4V, parts(1000.0)),
        (17, 2) => put(report, Key::AccelerationXMg, Value::Int(signed)),
        (18, 2) => put(report, Key::AccelerationYMg, Value::Int(signed)),
        (19, 2) => put(report, Key::AccelerationZMg, Value::Int(signed)),
        // Values outside of what the sensor measures are error codes.
        (72..=75, 4) if (-550..=1250).contains(&signed) => {
            let celsius = Value::Float(signed as f64 / 10.0);
            put(report, temperature(id - 72), celsius)
        }
        (8 | 78 | 207, 8) => put(report, Key::DriverId, Value::Text(hex(bytes))),
        (31, 1) => put(report, Key::EngineLoadPercent, int()),
        (32, 1) => put(report, Key::CoolantC, Value::Int(signed)),
        (115, 2) => put(report, Key::CoolantC, Value::Float(signed as f64 / 10.0)),
        (36 | 85, 2) => put(report, Key::EngineRpm, int()),
        (37 | 81, 1) => put(report, Key::TachographSpeedMps, parts(3.6)),
        (41 | 82, 1) => put(report, Key::ThrottlePercent, int()),
        (48 | 89, 1) => put(report, Key::FuelPercent, int()),
        (84 | 390, 2) => put(report, Key::FuelL, parts(10.0)),
        (12, 4) => put(report, Key::FuelUsedL, parts(1000.0)),
        (83 | 107, 4) => put(report, Key::FuelUsedL, parts(10.0)),
        (110, 2) => put(report, Key::FuelLPerH, parts(10.0)),
        (87 | 105, 4) => put(report, Key::OdometerM, int()),
        (389, 4) => put(report, Key::OdometerM, Value::Int(raw as i64 * 1000)),
        (102 | 103, 4) => put(report, Key::EngineS, Value::Int(raw as i64 * 60)),
        // One bit for each of four doors, the bonnet and the boot, above a byte of others.
        (90, 2) => put(report, Key::Doors, Value::Int((raw >> 8 & 0x3f) as i64)),
        (256 | 325, 17) => put(report, Key::Vin, Value::Text(printable(bytes)?)),
        (281, _) => put(
            report,
            Key::FaultCodes,
            Value::Text(printable(bytes)?.replace(',', " ")),
        ),
        _ => None,
    }
}

/// States a standard attribute; `None` if it is stated already. Inlined, as a value is then written where it stays:
/// one that is handed around is read before it is written in full, and waits.
#[inline(always)]
fn put(report: &mut Report, key: AttributeKey, value: Value) -> Option<()> {
    if is_stated(report, &key) {
        return None;
    }
    report.attributes.push(Attribute { key, value });
    Some(())
}

fn temperature(sensor: u16) -> AttributeKey {
    match sensor {
        0 => AttributeKey::TemperatureC,
        1 => AttributeKey::Temperature2C,
        2 => AttributeKey::Temperature3C,
        _ => AttributeKey::Temperature4C,
    }
}

fn printable(bytes: &[u8]) -> Option<String> {
    let short = bytes.len() <= VALUE_BYTES_MAX && bytes.iter().all(u8::is_ascii_graphic);
    short.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// The alarm of a value that made the record. The same value in other records just says what it was last.
fn event_alarm(id: u16, value: u64, report: &mut Report) {
    let zone = zone(id);
    let kind = match (id, value) {
        (236, 1..) => AlarmKind::Sos,
        (246, 1..) => AlarmKind::IllegalMovement,
        // 2 to 5 are the parts of a trace that follows, 7 and 8 a hole or a hump in the road.
        (247, 1 | 6) => AlarmKind::Collision,
        (249, 1) | (318, 1..) => AlarmKind::Jamming,
        (251, 1) => AlarmKind::Idling,
        (252, 1) => AlarmKind::PowerCut,
        (253, 1) => AlarmKind::HarshAcceleration,
        (253, 2) => AlarmKind::HarshBraking,
        (253, 3) => AlarmKind::HarshCornering,
        (255, _) => AlarmKind::Overspeed,
        (_, 0 | 1) if zone.is_some() || id == 175 => AlarmKind::AreaCrossed,
        (_, 3) if zone.is_some() => AlarmKind::Overspeed,
        _ => return,
    };
    report.momentary.insert(kind);
    report.state(AttributeKey::Area, zone);
}

/// The device's own fence, from 1, that a number is about.
pub(super) fn zone(id: u16) -> Option<u16> {
    Some(match id {
        155..=159 => id - 154,
        61..=65 => id - 55,
        70 => 11,
        88 => 12,
        91..=99 => id - 78,
        153 | 154 => id - 131,
        190..=198 => id - 166,
        208 | 209 => id - 175,
        216..=231 => id - 181,
        _ => return None,
    })
}

impl Together {
    /// Takes a value that only says something with others.
    fn take(&mut self, (id, value): Element, raw: u64) -> bool {
        match (id, value.len()) {
            (1..=4, 1) => set_bit(&mut self.inputs, id - 1, raw),
            (179 | 180, 1) => set_bit(&mut self.outputs, id - 179, raw),
            (380, 1) => set_bit(&mut self.outputs, 2, raw),
            (205, 2 | 4) | (636, 4) if self.cell.is_none() => self.cell = Some(raw),
            (206, 2) => self.area = Some(raw),
            (241, 4) => self.operator = Some(raw),
            (11, 8) => self.iccid[0] = Some(raw),
            (14, 8) => self.iccid[1] = Some(raw),
            _ => return false,
        }
        true
    }

    fn state(&self, vendor: &mut Vendor, report: &mut Report) {
        report.state(AttributeKey::Inputs, self.inputs);
        report.state(AttributeKey::Outputs, self.outputs);
        // Five or six digits: three of the country, the rest of the network.
        let operator = self
            .operator
            .filter(|code| (10_000..1_000_000).contains(code));
        report.state(AttributeKey::Operator, operator.map(|code| code as i64));
        let cell = match (operator, self.area, self.cell) {
            (Some(operator), Some(area), Some(cell)) => {
                let code = operator.to_string();
                let (country, network) = code.split_at(3);
                Some(format!("{country}-{network}-{area}-{cell}"))
            }
            _ => None,
        };
        let numbers = match &cell {
            Some(_) => [(205, None), (206, None)],
            None => [(205, self.cell), (206, self.area)],
        };
        report.state(AttributeKey::Cells, cell);
        let iccid = self.iccid();
        let halves = match &iccid {
            Some(_) => [(11, None), (14, None)],
            None => [(11, self.iccid[0]), (14, self.iccid[1])],
        };
        report.state(AttributeKey::Iccid, iccid);
        for (id, value) in numbers.into_iter().chain(halves) {
            if let Some(value) = value {
                vendor.add((id, &value.to_be_bytes()));
            }
        }
    }

    /// Ten digits, and nine or ten more. How many zeros the second number lost, the check digit tells.
    fn iccid(&self) -> Option<String> {
        let [Some(first @ 1_000_000_000..=9_999_999_999), Some(second)] = self.iccid else {
            return None;
        };
        let readings = [
            format!("{first}{second:09}"),
            format!("{first}{second:010}"),
        ];
        readings
            .into_iter()
            .find(|digits| digits.len() <= 20 && has_luhn_check(digits))
    }
}

fn set_bit(bits: &mut Option<u8>, bit: u16, value: u64) {
    let bits = bits.get_or_insert(0);
    if value != 0 {
        *bits |= 1 << bit;
    }
}

/// Whether the last digit checks the others by Luhn's rule, as in the numbers of cards.
fn has_luhn_check(digits: &str) -> bool {
    let sum = digits
        .bytes()
        .rev()
        .enumerate()
        .fold(0, |sum, (from_right, digit)| {
            let value = u32::from(digit - b'0');
            sum + match from_right % 2 {
                1 if value > 4 => 2 * value - 9,
                1 => 2 * value,
                _ => value,
            }
        });
    sum % 10 == 0
}
