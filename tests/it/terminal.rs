//! A JT/T 808 terminal in the hands of a test: says what it is told on a real socket, and keeps what it hears. It never
//! sends again by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use device_sim::jt808::{self, Answer, Edition, HEARTBEAT, LOCATION, Reader};
use device_sim::report::Report;

use crate::node::DEADLINE;

/// The emergency button, as a bit of the alarm word.
pub const SOS: u32 = 1 << device_sim::alarm::SOS;

/// A terminal with its connection.
pub struct Terminal {
    stream: TcpStream,
    speaker: jt808::Terminal,
    serial: u16,
    reader: Reader,
    heard: Vec<Answer>,
}

/// Seconds since 1970.
pub fn now_s() -> u32 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since_1970.as_secs() as u32
}

/// A good report of a car on a street in Munich at a time, UTC seconds since 1970.
pub fn report(time_s: u32) -> Report {
    Report {
        time_s,
        lat_e6: 48_137_154,
        lon_e6: 11_576_124,
        altitude_m: 519,
        speed_dkmh: 360,
        course_deg: 90,
        alarms: 0,
        odometer_hm: 1_234,
        satellites: 9,
        signal: 21,
    }
}

impl Terminal {
    /// Connects; `phone` is its identity.
    pub fn connect(address: &str, phone: u64) -> Terminal {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Terminal {
            stream,
            speaker: jt808::Terminal {
                edition: Edition::Y2013,
                phone,
            },
            serial: 0,
            reader: Reader::default(),
            heard: Vec::new(),
        }
    }

    /// The device id that the runtime gives it.
    pub fn id(&self) -> String {
        self.speaker.phone.to_string()
    }

    /// Bytes of the next message, and its serial number.
    pub fn message(&mut self, id: u16, body: &[u8]) -> (u16, Vec<u8>) {
        self.serial = self.serial.wrapping_add(1);
        let mut bytes = Vec::new();
        self.speaker.message(&mut bytes, id, self.serial, body);
        (self.serial, bytes)
    }

    /// Bytes of the next location, and its serial number.
    pub fn location(&mut self, report: &Report) -> (u16, Vec<u8>) {
        let mut body = Vec::new();
        jt808::location(report, &mut body);
        self.message(LOCATION, &body)
    }

    /// Sends bytes as they are.
    pub fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a location; returns its serial number.
    pub fn send(&mut self, report: &Report) -> u16 {
        let (serial, bytes) = self.location(report);
        self.say(&bytes);
        serial
    }

    /// Sends a heartbeat and waits until it is answered.
    pub fn beat(&mut self) {
        let (serial, bytes) = self.message(HEARTBEAT, &[]);
        self.say(&bytes);
        self.await_answer(serial);
    }

    /// Waits until the message with this serial number is answered with success.
    pub fn await_answer(&mut self, serial: u16) {
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        while !self.is_heard(serial) {
            let more = self.hear().unwrap_or_else(|why| {
                panic!("no answer to message {serial} of {}: {why}", self.id())
            });
            assert!(
                more,
                "closed before message {serial} of {} was answered",
                self.id()
            );
        }
    }

    /// Whether the message with this serial number has been answered by now.
    pub fn is_answered(&mut self, serial: u16) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        loop {
            match self.hear() {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(why) => panic!("{why}"),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        self.is_heard(serial)
    }

    /// General responses heard so far.
    pub fn answers(&self) -> usize {
        let general = |answer: &&Answer| matches!(answer, Answer::General { .. });
        self.heard.iter().filter(general).count()
    }

    /// Waits until the other side has closed the connection.
    pub fn await_end(&mut self) {
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        loop {
            match self.hear() {
                Ok(true) => {}
                Ok(false) => return,
                // Closed while bytes of ours were unread.
                Err(why) if why.kind() == ErrorKind::ConnectionReset => return,
                Err(why) => panic!("the connection of {} does not end: {why}", self.id()),
            }
        }
    }

    /// Sends no more.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The socket, for what a well-behaved terminal does not do.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn is_heard(&self, serial: u16) -> bool {
        self.heard.iter().any(
            |answer| matches!(answer, Answer::General { serial: s, result: 0, .. } if *s == serial),
        )
    }

    /// Takes what the socket has; `false` at its end.
    fn hear(&mut self) -> std::io::Result<bool> {
        let mut bytes = [0; 64 * 1024];
        let count = self.stream.read(&mut bytes)?;
        let heard = &mut self.heard;
        let read = self
            .reader
            .read(&bytes[..count], |answer| heard.push(answer));
        read.expect("answers are well formed");
        Ok(count > 0)
    }
}
