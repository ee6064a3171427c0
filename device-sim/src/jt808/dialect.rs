//! A terminal's login, its reports and what their answers mean.

use super::{
    AUTHENTICATE, Answer, BATCH, BATCH_REPORTS_MAX, Edition, HEARTBEAT, LOCATION, REGISTER, Reader,
    Terminal,
};
use crate::dialect::{Damage, Dialect, Habits, Heard, Kind, Name};
use crate::report::Report;

/// Messages with reports that may await an answer at a time.
const IN_FLIGHT_MAX: usize = 1_024;
/// More held reports than this go out in batches after a reconnect.
const SINGLES_MAX: usize = 8;
/// Resends of a message on one connection.
const RESENDS_MAX: u64 = 3;

/// A terminal that speaks.
#[derive(Debug)]
pub struct Speaker {
    terminal: Terminal,
    /// The authentication code of the last registration.
    code: Option<Vec<u8>>,
    stage: Stage,
    serial: u16,
    reader: Reader,
    /// Room to build a body in.
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Registering(u16),
    Authenticating(u16),
    In,
}

impl Speaker {
    /// A terminal with this phone number that was never registered. Editions take turns.
    pub fn new(phone: &str, rank: u32) -> Speaker {
        let editions = [Edition::Y2013, Edition::Y2019, Edition::Y2011];
        Speaker::of(Terminal {
            edition: editions[rank as usize % editions.len()],
            phone: phone.parse().expect("a phone number is a number"),
        })
    }

    pub(crate) fn of(terminal: Terminal) -> Speaker {
        Speaker {
            terminal,
            code: None,
            stage: Stage::In,
            serial: 0,
            reader: Reader::default(),
            body: Vec::new(),
        }
    }

    /// Registers, or authenticates with a code from before.
    fn log_in(&mut self, out: &mut Vec<u8>) {
        let serial = self.take_serial();
        let (id, body) = match &self.code {
            Some(code) => (AUTHENTICATE, self.terminal.authentication(code)),
            None => (REGISTER, self.terminal.registration()),
        };
        self.stage = match id {
            REGISTER => Stage::Registering(serial),
            _ => Stage::Authenticating(serial),
        };
        self.terminal.message(out, id, serial, &body);
    }

    fn take_serial(&mut self) -> u16 {
        let serial = self.serial;
        self.serial = serial.wrapping_add(1);
        serial
    }

    fn take(&mut self, answer: Answer, out: &mut Vec<u8>) -> Option<Heard> {
        match (answer, self.stage) {
            (Answer::Registered { serial, code }, Stage::Registering(asked)) if serial == asked => {
                match code {
                    Ok(code) => self.code = Some(code),
                    Err(result) => return Some(Heard::Refused(result)),
                }
                self.log_in(out);
                Some(Heard::Onward)
            }
            (Answer::General { serial, result, .. }, Stage::Authenticating(asked))
                if serial == asked =>
            {
                if result != 0 {
                    self.code = None;
                    return Some(Heard::Refused(result));
                }
                self.stage = Stage::In;
                Some(Heard::Welcome)
            }
            (Answer::General { serial, id, result }, Stage::In) => {
                let number = number(id, serial);
                // 4: an alarm that somebody handled.
                Some(match result {
                    0 | 4 => Heard::Done(number),
                    _ => Heard::Not(number),
                })
            }
            // Downlinks that this terminal does not know, and answers to what it no longer asks.
            _ => None,
        }
    }
}

/// Answers name a message by its id and its serial.
fn number(id: u16, serial: u16) -> u32 {
    u32::from(id) << 16 | u32::from(serial)
}

impl Dialect for Speaker {
    fn habits(&self) -> Habits {
        Habits {
            in_flight_max: IN_FLIGHT_MAX,
            live_max: 1,
            stored_max: BATCH_REPORTS_MAX,
            stored_above: SINGLES_MAX,
            resends_max: RESENDS_MAX,
        }
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> bool {
        self.reader.reset();
        self.log_in(out);
        false
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        each: &mut dyn FnMut(Heard),
    ) -> Result<(), Damage> {
        let mut reader = std::mem::take(&mut self.reader);
        let read = reader.read(bytes, |answer| {
            if let Some(heard) = self.take(answer, out) {
                each(heard);
            }
        });
        self.reader = reader;
        read
    }

    fn name(&mut self, kind: Kind, _first: &Report) -> Name {
        let id = match kind {
            Kind::Live => LOCATION,
            Kind::Stored => BATCH,
        };
        Name {
            number: number(id, self.take_serial()),
            awaited: true,
        }
    }

    fn write(
        &mut self,
        name: Name,
        kind: Kind,
        reports: &mut dyn ExactSizeIterator<Item = &Report>,
        out: &mut Vec<u8>,
    ) {
        let serial = name.number as u16;
        match kind {
            Kind::Live => {
                self.body.clear();
                if let Some(report) = reports.next() {
                    super::location(report, &mut self.body);
                }
                self.terminal.message(out, LOCATION, serial, &self.body);
            }
            Kind::Stored => {
                let body = super::batch(reports);
                self.terminal.message(out, BATCH, serial, &body);
            }
        }
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        let serial = self.take_serial();
        self.terminal.message(out, HEARTBEAT, serial, &[]);
    }
}
