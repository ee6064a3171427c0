//! Who reads the messages: ours, and each crate as its documentation says to use it.
//!
//! Equal work is from the bytes of a stream to typed values: cut the next message off, verify its check, read time,
//! place, speed and course, and what else the reader makes of the message, owned or in place as it does. Crates that want
//! a whole message are handed one, cut at its line end. What a reader does less than that stands beside its name.

use std::hint::black_box;

use ringway::frame::DeviceId;
use ringway::protocol::{Arrival, Message, Protocol, Session, Settings, Split};

use crate::message::{Case, IMEI};
use crate::report;

/// What came out of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Places, also those that are not handed out as such.
    pub places: u32,
    /// The last of them, degrees.
    pub last: (f64, f64),
}

impl Tally {
    pub fn place(&mut self, lat: f64, lon: f64) {
        self.places += 1;
        self.last = (lat, lon);
    }

    /// The places of a message as it is handed on.
    fn message(&mut self, message: &Message) {
        for fix in message.reports.iter().map(|report| &report.fix) {
            if let (Some((lat, lon)), Some(_)) = (fix.position_deg(), fix.time()) {
                self.place(lat, lon);
            }
        }
        black_box(message);
    }
}

/// Reads a stream once more; state stays between the calls.
pub type Reader = Box<dyn FnMut(&'static [u8]) -> Tally>;

/// The time when everything arrives: 2026-06-15T12:01:00Z.
const NOW: Arrival = Arrival {
    wall_ms: 1_781_524_860_000,
};

/// Ours: everything, with answers, alarms and attributes, as the ingest calls it.
pub fn ours(case: &Case) -> Reader {
    let settings = Settings {
        device: match case.protocol.is_anonymous() {
            true => DeviceId::new(b"bench"),
            false => None,
        },
        ..Settings::default()
    };
    let mut session = Session::new(case.protocol, &settings);
    read_ours(&mut session, &(case.login)());
    Box::new(move |stream| read_ours(&mut session, stream))
}

fn read_ours(session: &mut Session, stream: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let mut rest = stream;
    loop {
        match session.split(rest) {
            Split::Message { range, consumed } => {
                match session.decode(&rest[range], NOW) {
                    Ok(message) => tally.message(&message),
                    Err(reject) => {
                        black_box(reject);
                    }
                }
                rest = &rest[consumed..];
            }
            Split::Rubbish { consumed, .. } => rest = &rest[consumed..],
            Split::Incomplete => return tally,
        }
    }
}

/// A crate that is compared.
pub struct Peer {
    /// Name and version.
    pub name: &'static str,
    /// The protocol that it reads.
    pub protocol: Protocol,
    /// What it does less than ours, or otherwise.
    pub differs: &'static str,
    /// Opens a reader.
    pub open: fn(&Case) -> Reader,
}

/// All of them.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "nmea 0.8",
        protocol: Protocol::Nmea,
        differs: "merges into one state; no reports, no stream",
        open: nmea,
    },
    Peer {
        name: "nmea 0.8, parse_str",
        protocol: Protocol::Nmea,
        differs: "single sentences; no state, no stream",
        open: nmea_parse_str,
    },
    Peer {
        name: "nmea0183 0.6",
        protocol: Protocol::Nmea,
        differs: "single sentences; 32-bit seconds of arc",
        open: nmea0183,
    },
    Peer {
        name: "nmea-parser 0.11",
        protocol: Protocol::Nmea,
        differs: "single sentences; no stream",
        open: nmea_parser,
    },
    Peer {
        name: "nmea-kit 0.8",
        protocol: Protocol::Nmea,
        differs: "single sentences; times stay text, places stay ddmm.mmmm; no stream",
        open: nmea_kit,
    },
    Peer {
        name: "nom-teltonika 0.3, views",
        protocol: Protocol::Teltonika,
        differs: "values read in place; no answer, no names",
        open: nom_teltonika_views,
    },
    Peer {
        name: "nom-teltonika 0.3, owned",
        protocol: Protocol::Teltonika,
        differs: "no answer, no names",
        open: nom_teltonika_owned,
    },
    Peer {
        name: "nom-teltonika 0.3 + report",
        protocol: Protocol::Teltonika,
        differs: "names 14 values",
        open: nom_teltonika_report,
    },
    Peer {
        name: "gt06 0.4",
        protocol: Protocol::Gt06,
        differs: "no status or alarms",
        open: gt06,
    },
    Peer {
        name: "gt06 0.4 + report",
        protocol: Protocol::Gt06,
        differs: "no ignition; reads four kinds of message",
        open: gt06_report,
    },
    Peer {
        name: "ublox 0.10",
        protocol: Protocol::Ubx,
        differs: "fields read in place; copies the stream first",
        open: ublox,
    },
    Peer {
        name: "ublox 0.10 + report",
        protocol: Protocol::Ubx,
        differs: "no epochs of several messages",
        open: ublox_report,
    },
    Peer {
        name: "gpsd_proto 1.0",
        protocol: Protocol::Gpsd,
        differs: "time stays text; no stream",
        open: gpsd_proto,
    },
    Peer {
        name: "gpsd_proto 1.0 + report",
        protocol: Protocol::Gpsd,
        differs: "no epochs of several objects; no satellites",
        open: gpsd_proto_report,
    },
];

/// Lines with their ends cut off.
fn lines(stream: &'static [u8]) -> impl Iterator<Item = &'static str> {
    let text = std::str::from_utf8(stream).expect("the messages are ASCII");
    text.lines()
}

fn nmea(_: &Case) -> Reader {
    let mut state = nmea::Nmea::default();
    Box::new(move |stream| {
        let mut tally = Tally::default();
        for line in lines(stream) {
            let kind = state.parse(line);
            let has_place = matches!(kind, Ok(nmea::SentenceType::RMC | nmea::SentenceType::GGA));
            if let (true, Some(lat), Some(lon)) = (has_place, state.latitude(), state.longitude()) {
                tally.place(lat, lon);
            }
            black_box(&state);
        }
        tally
    })
}

fn nmea_parse_str(_: &Case) -> Reader {
    use nmea::ParseResult::{GGA, RMC};
    Box::new(move |stream| {
        let mut tally = Tally::default();
        for line in lines(stream) {
            let read = nmea::parse_str(line);
            let place = match &read {
                Ok(RMC(rmc)) => rmc.lat.zip(rmc.lon),
                Ok(GGA(gga)) => gga.latitude.zip(gga.longitude),
                _ => None,
            };
            if let Some((lat, lon)) = place {
                tally.place(lat, lon);
            }
            black_box(&read);
        }
        tally
    })
}

fn nmea0183(_: &Case) -> Reader {
    use nmea0183::ParseResult::{GGA, RMC};
    let mut parser = nmea0183::Parser::new();
    Box::new(move |stream| {
        let mut tally = Tally::default();
        for read in parser.parse_from_bytes(stream) {
            match &read {
                Ok(RMC(Some(rmc))) => tally.place(rmc.latitude.as_f64(), rmc.longitude.as_f64()),
                Ok(GGA(Some(gga))) => tally.place(gga.latitude.as_f64(), gga.longitude.as_f64()),
                _ => {}
            }
            black_box(&read);
        }
        tally
    })
}

fn nmea_parser(_: &Case) -> Reader {
    use nmea_parser::ParsedMessage::{Gga, Rmc};
    let mut parser = nmea_parser::NmeaParser::new();
    Box::new(move |stream| {
        let mut tally = Tally::default();
        for line in lines(stream) {
            let read = parser.parse_sentence(line);
            let place = match &read {
                Ok(Rmc(rmc)) => rmc.latitude.zip(rmc.longitude),
                Ok(Gga(gga)) => gga.latitude.zip(gga.longitude),
                _ => None,
            };
            if let Some((lat, lon)) = place {
                tally.place(lat, lon);
            }
            black_box(&read);
        }
        tally
    })
}

fn nmea_kit(_: &Case) -> Reader {
    use nmea_kit::NmeaSentence::{Gga, Rmc};
    // 4807.038 is 48 degrees and 7.038 minutes.
    let degrees = |ddmm: f64| (ddmm / 100.0).trunc() + ddmm % 100.0 / 60.0;
    Box::new(move |stream| {
        let mut tally = Tally::default();
        for line in lines(stream) {
            let read =
                nmea_kit::parse_frame(line).map(|frame| nmea_kit::NmeaSentence::parse(&frame));
            let place = match &read {
                Ok(Rmc(rmc)) => rmc.lat.zip(rmc.lon),
                Ok(Gga(gga)) => gga.lat.zip(gga.lon),
                _ => None,
            };
            if let Some((lat, lon)) = place {
                tally.place(degrees(lat), degrees(lon));
            }
            black_box(&read);
        }
        tally
    })
}

fn nom_teltonika_views(_: &Case) -> Reader {
    use nom_teltonika::decoder::take_frame;
    use nom_teltonika::protocol::FrameView;
    Box::new(move |mut rest| {
        let mut tally = Tally::default();
        while let Ok(FrameView::Avl(packet)) = take_frame(&mut rest) {
            for record in packet.records() {
                let gps = record.gps();
                tally.place(gps.latitude_degrees(), gps.longitude_degrees());
                black_box(u64::from(record.timestamp()));
                record.io_elements().for_each(|element| {
                    black_box(element);
                });
            }
        }
        tally
    })
}

fn nom_teltonika_owned(_: &Case) -> Reader {
    use nom_teltonika::decoder::take_frame;
    use nom_teltonika::protocol::FrameView;
    Box::new(move |mut rest| {
        let mut tally = Tally::default();
        while let Ok(FrameView::Avl(packet)) = take_frame(&mut rest) {
            let packet = packet.evaluate();
            for record in packet.records() {
                let gps = record.gps();
                tally.place(gps.latitude_degrees(), gps.longitude_degrees());
            }
            black_box(&packet);
        }
        tally
    })
}

fn gt06(case: &Case) -> Reader {
    let mut decoder = gt06::Decoder::new();
    decoder.push(&(case.login)());
    Box::new(move |stream| {
        let mut tally = Tally::default();
        // A packet a call, as sockets bring them: it builds a list for each call.
        for packet in stream.chunks(stream.len() / crate::message::STREAM_MESSAGES as usize) {
            for read in decoder.push(packet) {
                if let Ok(gt06::Message::Location(location)) = &read {
                    tally.place(location.fix.latitude, location.fix.longitude);
                }
                black_box(&read);
            }
        }
        tally
    })
}

fn ublox(_: &Case) -> Reader {
    use ublox::UbxPacket;
    use ublox::proto23::PacketRef;
    let mut parser = ublox::Parser::default_proto();
    Box::new(move |stream| {
        let mut tally = Tally::default();
        let mut packets = parser.consume_ubx(stream);
        while let Some(read) = packets.next() {
            if let Ok(UbxPacket::Proto23(PacketRef::NavPvt(fix))) = &read {
                tally.place(fix.latitude(), fix.longitude());
                black_box((
                    fix.year(),
                    fix.month(),
                    fix.day(),
                    fix.hour(),
                    fix.min(),
                    fix.sec(),
                ));
                black_box((
                    fix.nanosec(),
                    fix.fix_type(),
                    fix.flags(),
                    fix.num_satellites(),
                ));
                black_box((fix.height_msl(), fix.horizontal_accuracy()));
                black_box((fix.ground_speed_2d(), fix.heading_motion(), fix.pdop()));
            }
        }
        tally
    })
}

fn gpsd_proto(_: &Case) -> Reader {
    Box::new(move |stream| {
        let mut tally = Tally::default();
        for line in lines(stream) {
            let read = serde_json::from_str(line);
            if let Ok(gpsd_proto::ResponseData::Tpv(fix)) = &read
                && let (Some(lat), Some(lon)) = (fix.lat, fix.lon)
            {
                tally.place(lat, lon);
            }
            black_box(&read.is_ok());
        }
        tally
    })
}

fn nom_teltonika_report(_: &Case) -> Reader {
    use nom_teltonika::decoder::take_frame;
    use nom_teltonika::protocol::FrameView;
    let device = DeviceId::new(IMEI.as_bytes());
    Box::new(move |mut rest| {
        let mut tally = Tally::default();
        while let Ok(FrameView::Avl(packet)) = take_frame(&mut rest) {
            tally.message(&report::teltonika(&packet, device));
        }
        tally
    })
}

fn gt06_report(case: &Case) -> Reader {
    let mut decoder = gt06::Decoder::new();
    decoder.push(&(case.login)());
    Box::new(move |stream| {
        let mut tally = Tally::default();
        for packet in stream.chunks(stream.len() / crate::message::STREAM_MESSAGES as usize) {
            for read in decoder.push(packet).iter().flatten() {
                if let Some(message) = report::gt06(read) {
                    tally.message(&message);
                }
            }
        }
        tally
    })
}

fn ublox_report(_: &Case) -> Reader {
    use ublox::UbxPacket;
    use ublox::proto23::PacketRef;
    let device = DeviceId::new(b"bench");
    let mut parser = ublox::Parser::default_proto();
    Box::new(move |stream| {
        let mut tally = Tally::default();
        let mut packets = parser.consume_ubx(stream);
        while let Some(read) = packets.next() {
            if let Ok(UbxPacket::Proto23(PacketRef::NavPvt(fix))) = &read {
                tally.message(&report::ublox(fix, device));
            }
        }
        tally
    })
}

fn gpsd_proto_report(_: &Case) -> Reader {
    Box::new(move |stream| {
        let mut tally = Tally::default();
        for line in lines(stream) {
            if let Ok(gpsd_proto::ResponseData::Tpv(fix)) = serde_json::from_str(line) {
                tally.message(&report::gpsd(&fix));
            }
        }
        tally
    })
}
