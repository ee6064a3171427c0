//! Records as Codec 8 and Codec 8 Extended pack them.

use crate::alarm;
use crate::report::Report;

/// Digital input of the panic button.
const PANIC: u8 = 236;
/// External power unplugged.
const UNPLUG: u8 = 252;
/// The vehicle's identification number, an element of variable length.
const VIN: u16 = 256;

/// How records are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// Codec 8: element ids have one byte.
    Eight,
    /// Codec 8 Extended: element ids and counts have two bytes, and elements may be of any length.
    Extended,
}

impl Codec {
    /// Codecs take turns.
    pub(super) fn of(rank: u32) -> Codec {
        match rank % 2 {
            0 => Codec::Eight,
            _ => Codec::Extended,
        }
    }

    fn id(self) -> u8 {
        match self {
            Codec::Eight => 0x08,
            Codec::Extended => 0x8e,
        }
    }

    /// Appends an element's id, or a count of elements.
    fn number(self, number: u8, out: &mut Vec<u8>) {
        if self == Codec::Extended {
            out.push(0);
        }
        out.push(number);
    }

    /// Appends codec, count, records, and the count again.
    pub(super) fn data(
        self,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    ) {
        let count = reports.len() as u8;
        out.extend_from_slice(&[self.id(), count]);
        for report in reports {
            self.record(report, out);
        }
        out.push(count);
    }

    /// Appends one record.
    pub(super) fn record(self, report: &Report, out: &mut Vec<u8>) {
        let event = match report.alarms {
            word if word & 1 << alarm::SOS != 0 => PANIC,
            word if word & 1 << alarm::POWER_CUT != 0 => UNPLUG,
            _ => 0,
        };
        let priority = match event {
            PANIC => 2,
            UNPLUG => 1,
            _ => 0,
        };
        out.extend_from_slice(&(u64::from(report.time_s) * 1000).to_be_bytes());
        out.push(priority);
        out.extend_from_slice(&(report.lon_e6 * 10).to_be_bytes());
        out.extend_from_slice(&(report.lat_e6 * 10).to_be_bytes());
        out.extend_from_slice(&report.altitude_m.to_be_bytes());
        out.extend_from_slice(&report.course_deg.to_be_bytes());
        out.push(report.satellites);
        let kmh = report.speed_dkmh / 10;
        out.extend_from_slice(&kmh.to_be_bytes());
        self.elements(report, event, out);
    }

    /// Appends the elements of a record, in groups by their length.
    fn elements(self, report: &Report, event: u8, out: &mut Vec<u8>) {
        let moving = u8::from(report.speed_dkmh > 0);
        // Ignition, movement, GSM signal of 0 to 5, and a position that is good.
        let mut ones = vec![(239, 1), (240, moving), (21, report.signal / 6), (69, 1)];
        ones.extend((event != 0).then_some((event, 1)));
        let volts: u16 = if event == UNPLUG { 0 } else { 13_800 };
        let twos = [(66, volts), (67, 4_050)];
        let fours = [(16, report.odometer_hm * 100)];
        let variable = usize::from(self == Codec::Extended);
        self.number(event, out);
        let total = ones.len() + twos.len() + fours.len() + variable;
        self.number(total as u8, out);
        let ones: Vec<_> = ones.into_iter().map(|(id, value)| (id, [value])).collect();
        self.group(&ones, out);
        self.group(&twos.map(|(id, value)| (id, value.to_be_bytes())), out);
        self.group(&fours.map(|(id, value)| (id, value.to_be_bytes())), out);
        self.group::<8>(&[], out);
        if self == Codec::Extended {
            let vin = b"RWS1M0000000SIM01";
            out.extend_from_slice(&[0, 1]);
            out.extend_from_slice(&VIN.to_be_bytes());
            out.extend_from_slice(&(vin.len() as u16).to_be_bytes());
            out.extend_from_slice(vin);
        }
    }

    fn group<const N: usize>(self, elements: &[(u8, [u8; N])], out: &mut Vec<u8>) {
        self.number(elements.len() as u8, out);
        for (id, value) in elements {
            self.number(*id, out);
            out.extend_from_slice(value);
        }
    }
}
