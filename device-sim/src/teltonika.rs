//! Teltonika as a tracker speaks it: Codec 8 and Codec 8 Extended, over TCP and over UDP.
//!
//! Written from the protocol's tables only. Over TCP a tracker names itself by its IMEI and then sends one packet of
//! records at a time, which it keeps until the server has stated their number; over UDP each packet names the tracker
//! and is answered by its numbers. An alarm is an event: the record names the input that made it.

mod record;
#[cfg(test)]
mod tests;

use record::Codec;

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
