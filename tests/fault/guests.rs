//! Devices of which the fleet's ledger knows nothing: each sends one message, never again, and never looks for an answer.
//! They provoke what a fleet does not, such as a full journal within seconds.

use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;

use device_sim::jt808::{self, Edition};
use device_sim::report::Report;

use crate::terminal::{now_s, report};

/// The first one's phone number; those from here on are passed over by the ledger of a stand's fleet.
pub const FIRST_PHONE: u64 = 13_999_000_000;

/// Four alarms that stay, as bits of the alarm word: as many as a device may owe at a time.
pub const HELD: u32 = 1 << 4 | 1 << 7 | 1 << 8 | 1 << 26;

/// Four alarms that do not stay.
const MOMENTARY: u32 = 1 << 20 | 1 << 21 | 1 << 22 | 1 << 27;

/// So many with [`MOMENTARY`] alarms fill a journal of 1 MiB, the smallest that may be configured.
const FILL: u64 = 1_200;

/// All of them so far.
#[derive(Default)]
pub struct Guests {
    /// Those that do not fill anything.
    count: u64,
    /// Kept open, so that what they sent is read.
    connections: Vec<TcpStream>,
}

impl Guests {
    /// A new device with one message to the sensor at this address: a report a second for every alarm word.
    pub fn come(&mut self, sensor: &str, words: &[u32]) {
        let phone = FIRST_PHONE + FILL + self.count;
        self.count += 1;
        self.send(sensor, phone..phone + 1, words);
    }

    /// As many alarms as fill a journal, of the same devices each time, so that their states take no more room.
    pub fn fill(&mut self, sensor: &str) {
        self.send(sensor, FIRST_PHONE..FIRST_PHONE + FILL, &[0, MOMENTARY]);
    }

    fn send(&mut self, sensor: &str, phones: Range<u64>, words: &[u32]) {
        let mut bytes = Vec::new();
        let first_s = now_s() - words.len() as u32;
        for phone in phones {
            let terminal = jt808::Terminal {
                edition: Edition::Y2013,
                phone,
            };
            let reports: Vec<Report> = (first_s..)
                .zip(words)
                .map(|(time_s, &alarms)| Report {
                    alarms,
                    ..report(time_s)
                })
                .collect();
            let body = jt808::batch(reports.iter());
            terminal.message(&mut bytes, jt808::BATCH, 1, &body);
        }
        // The node may be between two lives; whoever waits for what follows says that it did not come.
        if let Ok(mut stream) = TcpStream::connect(sensor) {
            let _ = stream.write_all(&bytes);
            self.connections.push(stream);
        }
    }
}
