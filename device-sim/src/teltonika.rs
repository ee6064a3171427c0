//! Teltonika as a tracker speaks it: Codec 8 and Codec 8 Extended, over TCP and over UDP.
//!
//! Written from the protocol's tables only. Over TCP a tracker names itself by its IMEI and then sends one packet of
//! records at a time, which it keeps until the server has stated their number; over UDP each packet names the tracker
//! and is answered by its numbers. An alarm is an event: the record names the input that made it.

use crate::alarm;
use crate::dialect::{Damage, Dialect, Habits, Heard, Kind, Name};
use crate::report::Report;

/// Records in a packet over TCP.
const STREAM_RECORDS_MAX: usize = 25;
/// Records in a packet over UDP: it should fit one Ethernet frame.
const DATAGRAM_RECORDS_MAX: usize = 10;
/// Resends of a datagram before the tracker begins anew.
const DATAGRAM_RESENDS_MAX: u64 = 3;
/// A tracker that has nothing to say over TCP sends this byte.
const PING: u8 = 0xff;

/// Digital input of the panic button.
const PANIC: u8 = 236;
/// External power unplugged.
const UNPLUG: u8 = 252;
/// The vehicle's identification number, an element of variable length.
const VIN: u16 = 256;

/// How records are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Codec 8: element ids have one byte.
    Eight,
    /// Codec 8 Extended: element ids and counts have two bytes, and elements may be of any length.
    Extended,
}

impl Codec {
    /// Codecs take turns.
    fn of(rank: u32) -> Codec {
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
    fn data(self, reports: &mut dyn ExactSizeIterator<Item = &Report>, out: &mut Vec<u8>) {
        let count = reports.len() as u8;
        out.extend_from_slice(&[self.id(), count]);
        for report in reports {
            self.record(report, out);
        }
        out.push(count);
    }

    /// Appends one record.
    fn record(self, report: &Report, out: &mut Vec<u8>) {
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

/// A tracker on a connection.
#[derive(Debug)]
pub struct Stream {
    imei: String,
    codec: Codec,
    stage: Stage,
    /// Number of the packet in flight, and its count of records.
    asked: Option<(u32, u32)>,
    packets: u32,
    /// Bytes of an answer that is not complete.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Named,
    In,
}

impl Stream {
    /// A tracker with this IMEI.
    pub fn new(imei: &str, rank: u32) -> Stream {
        Stream {
            imei: imei.into(),
            codec: Codec::of(rank),
            stage: Stage::Named,
            asked: None,
            packets: 0,
            partial: Vec::new(),
        }
    }
}

impl Dialect for Stream {
    /// The next packet goes out only after the answer. A server that is silent is left: an answer names no packet, so
    /// that a late one could be taken for that of another.
    fn habits(&self) -> Habits {
        Habits {
            in_flight_max: 1,
            live_max: STREAM_RECORDS_MAX,
            stored_max: STREAM_RECORDS_MAX,
            stored_above: usize::MAX,
            resends_max: 0,
        }
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> bool {
        self.stage = Stage::Named;
        self.asked = None;
        self.partial.clear();
        out.extend_from_slice(&(self.imei.len() as u16).to_be_bytes());
        out.extend_from_slice(self.imei.as_bytes());
        false
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        each: &mut dyn FnMut(Heard),
    ) -> Result<(), Damage> {
        let mut bytes = bytes;
        if let (Stage::Named, Some((&verdict, rest))) = (self.stage, bytes.split_first()) {
            self.stage = Stage::In;
            bytes = rest;
            match verdict {
                1 => each(Heard::Welcome),
                0 => each(Heard::Refused(0)),
                _ => return Err(Damage::Form),
            }
        }
        self.partial.extend_from_slice(bytes);
        while let Some(&answer) = self.partial.first_chunk() {
            self.partial.drain(..4);
            let (number, records) = self.asked.take().ok_or(Damage::Form)?;
            match u32::from_be_bytes(answer) == records {
                true => each(Heard::Done(number)),
                false => each(Heard::Not(number)),
            }
        }
        Ok(())
    }

    fn name(&mut self, _kind: Kind, _first: &Report) -> Name {
        self.packets = self.packets.wrapping_add(1);
        Name {
            number: self.packets,
            awaited: true,
        }
    }

    fn write(
        &mut self,
        name: Name,
        _kind: Kind,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    ) {
        self.asked = Some((name.number, reports.len() as u32));
        packet(self.codec, reports, out);
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        out.push(PING);
    }
}

/// Appends a packet as it goes over TCP: zero, length, data, check.
fn packet(codec: Codec, reports: &mut dyn ExactSizeIterator<Item = &Report>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    codec.data(reports, out);
    let length = (out.len() - start - 8) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
    let check = u32::from(crc(&out[start + 8..]));
    out.extend_from_slice(&check.to_be_bytes());
}

/// A tracker that sends datagrams.
#[derive(Debug)]
pub struct Datagrams {
    imei: String,
    codec: Codec,
    packets: u16,
    /// The packet in flight, and its count of records.
    asked: Option<(u16, u8)>,
}

impl Datagrams {
    /// A tracker with this IMEI.
    pub fn new(imei: &str, rank: u32) -> Datagrams {
        Datagrams {
            imei: imei.into(),
            codec: Codec::of(rank),
            packets: 0,
            asked: None,
        }
    }
}

impl Dialect for Datagrams {
    fn habits(&self) -> Habits {
        Habits {
            in_flight_max: 1,
            live_max: DATAGRAM_RECORDS_MAX,
            stored_max: DATAGRAM_RECORDS_MAX,
            stored_above: usize::MAX,
            resends_max: DATAGRAM_RESENDS_MAX,
        }
    }

    fn greet(&mut self, _out: &mut Vec<u8>) -> bool {
        self.asked = None;
        true
    }

    /// Each call has one datagram.
    fn hear(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        each: &mut dyn FnMut(Heard),
    ) -> Result<(), Damage> {
        let &[0, 5, high, low, 1, record_packet, accepted] = bytes else {
            return Err(Damage::Form);
        };
        let number = u16::from_be_bytes([high, low]);
        match self.asked {
            Some((asked, records)) if asked == number && record_packet == number as u8 => {
                self.asked = None;
                match accepted == records {
                    true => each(Heard::Done(number.into())),
                    false => each(Heard::Not(number.into())),
                }
            }
            // The answer to a packet that went out twice.
            _ => {}
        }
        Ok(())
    }

    fn name(&mut self, _kind: Kind, _first: &Report) -> Name {
        self.packets = self.packets.wrapping_add(1);
        Name {
            number: self.packets.into(),
            awaited: true,
        }
    }

    fn write(
        &mut self,
        name: Name,
        _kind: Kind,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    ) {
        let number = name.number as u16;
        self.asked = Some((number, reports.len() as u8));
        datagram(self.codec, &self.imei, number, reports, out);
    }
}

/// Appends a packet as it goes over UDP: its length, its number, the number of its records' packet, the IMEI, the data.
fn datagram(
    codec: Codec,
    imei: &str,
    number: u16,
    reports: &mut dyn ExactSizeIterator<Item = &Report>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&[1, number as u8]);
    out.extend_from_slice(&(imei.len() as u16).to_be_bytes());
    out.extend_from_slice(imei.as_bytes());
    codec.data(reports, out);
    let length = (out.len() - start - 2) as u16;
    out[start..start + 2].copy_from_slice(&length.to_be_bytes());
}

/// Bytes of the first datagram of those that were written one after the other.
pub(crate) fn datagram_bytes(written: &[u8]) -> usize {
    match written {
        &[high, low, ..] => (2 + usize::from(u16::from_be_bytes([high, low]))).min(written.len()),
        short => short.len(),
    }
}

/// CRC-16/ARC: 0x8005 reflected, from zero.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, &byte| {
        let byte = sum ^ u16::from(byte);
        (0..8).fold(byte, |sum, _| {
            sum >> 1 ^ if sum & 1 == 1 { 0xa001 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14T22:13:20Z near Sydney.
    const REPORT: Report = Report {
        time_s: 1_700_000_000,
        lat_e6: -33_867_485,
        lon_e6: 151_206_990,
        altitude_m: 58,
        speed_dkmh: 650,
        course_deg: 271,
        alarms: 0,
        odometer_hm: 12_345,
        satellites: 9,
        signal: 22,
    };

    const SOS: Report = Report {
        alarms: 1 << alarm::SOS,
        ..REPORT
    };

    fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    fn hear(dialect: &mut impl Dialect, bytes: &[u8]) -> Result<Vec<Heard>, Damage> {
        let mut all = Vec::new();
        dialect.hear(bytes, &mut Vec::new(), &mut |heard| all.push(heard))?;
        Ok(all)
    }

    /// Writes one message and returns its bytes.
    fn write(dialect: &mut impl Dialect, kind: Kind, reports: &[Report]) -> (Name, Vec<u8>) {
        let (name, mut out) = (dialect.name(kind, &reports[0]), Vec::new());
        dialect.write(name, kind, &mut reports.iter(), &mut out);
        (name, out)
    }

    const IMEI: &str = "866999000000003";

    #[test]
    fn check_is_the_catalogued_one() {
        assert_eq!(crc(b"123456789"), 0xbb3d);
        // The data of the vendor's first example of Codec 8, whose check is 0000c7cf.
        let data = hex(
            "08 01 0000016b40d8ea30 01 00000000 00000000 0000 0000 00 0000 01 05
             02 15 03 01 01 01 42 5e0f 01 f1 0000601a 01 4e 0000000000000000 01",
        );
        assert_eq!(crc(&data), 0xc7cf);
    }

    #[test]
    fn record_of_codec_8_has_every_field_at_its_place() {
        let mut out = Vec::new();
        Codec::Eight.record(&REPORT, &mut out);
        // 1,700,000,000,000 ms; 1512069900 and -338674850 ten-millionths; 58 m, 271 degrees, 9 satellites, 65 km/h.
        let fixed = "0000018bcfe56800 00 5a205b0c ebd03b5e 003a 010f 09 0041";
        // No event, seven elements: ignition, movement, signal 22/6, good fix; 13.8 V, 4.05 V; 1,234,500 m.
        let elements = "00 07 04 ef01 f001 1503 4501 02 42 35e8 43 0fd2 01 10 0012d644 00";
        assert_eq!(out, hex(&format!("{fixed}{elements}")));
    }

    #[test]
    fn record_of_codec_8_extended_has_wide_ids_and_a_string() {
        let mut out = Vec::new();
        Codec::Extended.record(&SOS, &mut out);
        let fixed = "0000018bcfe56800 02 5a205b0c ebd03b5e 003a 010f 09 0041";
        let few = "00ec 0009 0005 00ef01 00f001 001503 004501 00ec01";
        let more = "0002 0042 35e8 0043 0fd2 0001 0010 0012d644 0000";
        let vin = "0001 0100 0011 525753314d3030303030303053494d3031";
        assert_eq!(out, hex(&format!("{fixed}{few}{more}{vin}")));
    }

    #[test]
    fn lost_power_is_an_event_of_high_priority() {
        let report = Report {
            alarms: 1 << alarm::POWER_CUT,
            ..REPORT
        };
        let mut out = Vec::new();
        Codec::Eight.record(&report, &mut out);
        assert_eq!((out[8], out[24]), (1, 252));
        assert!(out.windows(5).any(|five| five == hex("fc01 02 4200")));
    }

    #[test]
    fn packet_has_length_and_check_around_its_records() {
        let mut stream = Stream::new(IMEI, 0);
        let mut out = Vec::new();
        assert!(!stream.greet(&mut out));
        assert_eq!(out, b"\x00\x0f866999000000003");
        let (_, packet) = write(&mut stream, Kind::Live, &[REPORT, SOS]);
        // Two records of 24 + 25 and 24 + 27 bytes.
        assert_eq!(packet.len(), 8 + 3 + 49 + 51 + 4);
        assert_eq!(packet[..10], hex("00000000 00000067 08 02"));
        assert_eq!(packet[110], 2);
        let check = crc(&packet[8..111]);
        assert_eq!(packet[111..], u32::from(check).to_be_bytes());
    }

    #[test]
    fn answer_is_the_count_of_records_however_it_is_cut() {
        let mut stream = Stream::new(IMEI, 0);
        stream.greet(&mut Vec::new());
        assert_eq!(hear(&mut stream, &[1]), Ok(vec![Heard::Welcome]));
        let (name, _) = write(&mut stream, Kind::Live, &[REPORT, SOS]);
        assert_eq!(hear(&mut stream, &[0, 0, 0]), Ok(vec![]));
        assert_eq!(hear(&mut stream, &[2]), Ok(vec![Heard::Done(name.number)]));
        let (name, _) = write(&mut stream, Kind::Live, &[REPORT, SOS]);
        let one = [0, 0, 0, 1];
        assert_eq!(hear(&mut stream, &one), Ok(vec![Heard::Not(name.number)]));
        assert_eq!(hear(&mut stream, &one), Err(Damage::Form), "to nothing");
        stream.greet(&mut Vec::new());
        assert_eq!(hear(&mut stream, &[0]), Ok(vec![Heard::Refused(0)]));
    }

    #[test]
    fn datagram_names_the_tracker_and_is_answered_by_its_numbers() {
        let mut tracker = Datagrams::new(IMEI, 0);
        assert!(tracker.greet(&mut Vec::new()));
        let (name, bytes) = write(&mut tracker, Kind::Live, &[REPORT]);
        // 23 bytes of head, then codec, count, 49 bytes, count.
        assert_eq!(bytes.len(), 23 + 3 + 49);
        assert_eq!(bytes[..8], hex("0049 0001 01 01 000f"));
        assert_eq!(&bytes[8..23], IMEI.as_bytes());
        assert_eq!((bytes[23], bytes[24], bytes[74]), (8, 1, 1));
        let two = [bytes.clone(), bytes.clone()].concat();
        assert_eq!(datagram_bytes(&two), bytes.len());
        assert_eq!(hear(&mut tracker, &hex("0005 0002 01 02 01")), Ok(vec![]));
        let done = hear(&mut tracker, &hex("0005 0001 01 01 01"));
        assert_eq!(done, Ok(vec![Heard::Done(name.number)]));
        assert_eq!(hear(&mut tracker, &[1]), Err(Damage::Form));
    }
}
