//! A terminal's session: registers, authenticates, reports, and gives nothing up that was not answered.
//!
//! Pure: bytes and the time go in, bytes to write and what became of reports come out. Promises that reports go out
//! in the order they were made, that each is kept until a 0x8001 names its message with success, and that after a
//! reconnect everything unanswered goes out oldest first, before anything new. Connecting is `link`'s
//! matter; what to report is [`crate::fleet`]'s.

use std::collections::VecDeque;

use crate::alarm::MOMENTARY;
use crate::jt808::{self, Answer, BATCH_REPORTS_MAX, Damage, Reader, Terminal};
use crate::random::Random;
use crate::report::Report;

/// Reports that a device stores while nobody answers; then it makes no more.
pub const STORED_REPORTS_MAX: usize = 4_096;
/// Messages on a connection that may await an answer at a time; further reports wait.
pub const IN_FLIGHT_MAX: usize = 1_024;
/// More unanswered reports than this go out in batches after a reconnect.
const SINGLES_MAX: usize = 8;
/// A registration or authentication that takes longer is given up, ms.
const HANDSHAKE_MS: u64 = 5_000;
/// A terminal with nothing to say for this long says so, ms.
const HEARTBEAT_MS: u64 = 30_000;
/// Resends of a message on one connection; then the terminal reconnects.
const RESENDS_MAX: u64 = 3;
/// One report in this many travels in one segment with a heartbeat.
const GLUED_ONE_IN: usize = 64;
/// Shortest and longest pause before connecting again, ms.
const BACK_OFF_MS: (u64, u64) = (50, 2_000);

/// How a report travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By itself, for the first time.
    Fresh,
    /// By itself, again, on a new connection.
    Again,
    /// By itself, again, although later ones may have overtaken it on this connection.
    Repeat,
    /// In a batch after a blind zone.
    Backlog,
}

/// A report that goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub number: u32,
    /// How it goes.
    pub way: Way,
    /// What it says.
    pub report: Report,
}

/// Why a terminal hangs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HangUp {
    /// Registration or authentication was refused, with this result.
    #[error("cannot log in: server refused with {0}")]
    Refused(u8),
    /// No answer for too long.
    #[error("cannot get an answer: server is silent")]
    Silent,
    /// The server's bytes make no sense.
    #[error("cannot read server: {0}")]
    Damage(#[from] Damage),
}

/// What a step of the session leads to. The caller takes from it and empties it.
#[derive(Debug, Default)]
pub struct Output {
    /// To be written to the connection, in order.
    pub bytes: Vec<u8>,
    /// Reports in those bytes, in order.
    pub sent: Vec<Sent>,
    /// Reports that were answered with success, by number.
    pub answered: Vec<u32>,
    /// Answers that said no.
    pub refused: u32,
    body: Vec<u8>,
}

/// One terminal, connected or not.
#[derive(Debug)]
pub struct Session {
    terminal: Terminal,
    /// The authentication code of the last registration.
    code: Option<Vec<u8>>,
    stage: Stage,
    serial: u16,
    reader: Reader,
    /// Unanswered reports, oldest first.
    held: VecDeque<Held>,
    /// Messages with reports that await an answer on this connection, oldest first.
    flights: VecDeque<Flight>,
    /// First answer timeout, ms; later ones are longer.
    timeout_ms: u64,
    resends: u64,
    spoke_ms: u64,
    /// Connections that failed in a row.
    failures: u32,
    momentary: u32,
    random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Offline,
    Registering { serial: u16, since_ms: u64 },
    Authenticating { serial: u16, since_ms: u64 },
    Online,
}

#[derive(Debug)]
struct Held {
    number: u32,
    report: Report,
    /// Was written to some connection before.
    sent: bool,
}

/// A message with the reports `first..=last` that are still held.
#[derive(Debug)]
struct Flight {
    serial: u16,
    id: u16,
    first: u32,
    last: u32,
    sent_ms: u64,
}

impl Session {
    /// A terminal that has never been connected. It waits `timeout_ms` for an answer before it says things again.
    pub fn new(terminal: Terminal, timeout_ms: u64, random: Random) -> Session {
        Session {
            terminal,
            code: None,
            stage: Stage::Offline,
            serial: 0,
            reader: Reader::default(),
            held: VecDeque::new(),
            flights: VecDeque::new(),
            timeout_ms,
            resends: 0,
            spoke_ms: 0,
            failures: 0,
            momentary: 0,
            random,
        }
    }

    /// Whether it is authenticated on a live connection.
    pub fn online(&self) -> bool {
        self.stage == Stage::Online
    }

    /// Count of unanswered reports.
    pub fn unanswered(&self) -> usize {
        self.held.len()
    }

    /// Sets momentary bits, as a driver's press of the button does, and returns all that are set.
    pub fn press(&mut self, bits: u32) -> u32 {
        self.momentary |= bits & MOMENTARY;
        self.momentary
    }

    /// A connection is there.
    pub fn connected(&mut self, now_ms: u64, out: &mut Output) {
        self.reader.reset();
        let (serial, since_ms) = (self.take_serial(), now_ms);
        if let Some(code) = &self.code {
            let body = self.terminal.authentication(code);
            self.stage = Stage::Authenticating { serial, since_ms };
            self.terminal
                .message(&mut out.bytes, jt808::AUTHENTICATE, serial, &body);
        } else {
            let body = self.terminal.registration();
            self.stage = Stage::Registering { serial, since_ms };
            self.terminal
                .message(&mut out.bytes, jt808::REGISTER, serial, &body);
        }
        self.spoke_ms = now_ms;
    }

    /// The connection is gone, or there was none. Returns the pause before the next try, ms.
    pub fn disconnected(&mut self) -> u64 {
        if self.online() {
            self.failures = 0;
        }
        self.stage = Stage::Offline;
        self.flights.clear();
        self.resends = 0;
        let pause = (BACK_OFF_MS.0 << self.failures.min(16)).min(BACK_OFF_MS.1);
        self.failures += 1;
        // Ten thousand terminals must not knock at once.
        pause / 2 + self.random.below(pause as usize / 2 + 1) as u64
    }

    /// Takes what the server wrote.
    ///
    /// # Errors
    /// When the connection is of no use any more.
    pub fn received(&mut self, bytes: &[u8], now_ms: u64, out: &mut Output) -> Result<(), HangUp> {
        let mut reader = std::mem::take(&mut self.reader);
        let mut result = Ok(());
        let read = reader.read(bytes, |answer| {
            if result.is_ok() {
                result = self.hear(answer, now_ms, out);
            }
        });
        self.reader = reader;
        read?;
        result?;
        if self.online() {
            self.send_waiting(now_ms, out);
        }
        Ok(())
    }

    /// Takes a new report; numbers count up from 0 without gaps. It goes out now if it can, else later.
    pub fn report(&mut self, number: u32, report: Report, now_ms: u64, out: &mut Output) {
        debug_assert!(self.held.back().is_none_or(|last| last.number < number));
        self.held.push_back(Held {
            number,
            report,
            sent: false,
        });
        if self.online() {
            if self.random.one_in(GLUED_ONE_IN) {
                self.heartbeat(now_ms, out);
            }
            self.send_waiting(now_ms, out);
        }
    }

    /// When [`Session::due`] wants to be called, at the latest.
    pub fn deadline_ms(&self) -> u64 {
        match self.stage {
            Stage::Offline => u64::MAX,
            Stage::Registering { since_ms, .. } | Stage::Authenticating { since_ms, .. } => {
                since_ms + HANDSHAKE_MS
            }
            Stage::Online => {
                let resend = self
                    .flights
                    .front()
                    .map(|oldest| oldest.sent_ms + self.wait_ms());
                resend.unwrap_or(u64::MAX).min(self.spoke_ms + HEARTBEAT_MS)
            }
        }
    }

    /// Does what time demands: resends, heartbeats.
    ///
    /// # Errors
    /// When the server has been silent for too long.
    pub fn due(&mut self, now_ms: u64, out: &mut Output) -> Result<(), HangUp> {
        if now_ms < self.deadline_ms() {
            return Ok(());
        }
        if !self.online() {
            return Err(HangUp::Silent);
        }
        let late = |oldest: &Flight| now_ms >= oldest.sent_ms + self.wait_ms();
        if self.flights.front().is_some_and(late) {
            if self.resends == RESENDS_MAX {
                return Err(HangUp::Silent);
            }
            self.resends += 1;
            for mut flight in std::mem::take(&mut self.flights) {
                flight.sent_ms = now_ms;
                let way = if flight.id == jt808::BATCH {
                    Way::Backlog
                } else {
                    Way::Repeat
                };
                self.write(&flight, way, out);
                self.flights.push_back(flight);
            }
            self.spoke_ms = now_ms;
        }
        if now_ms >= self.spoke_ms + HEARTBEAT_MS {
            self.heartbeat(now_ms, out);
        }
        Ok(())
    }

    /// T(n+1) = T(n) x (n+1), as the standard has it.
    fn wait_ms(&self) -> u64 {
        self.timeout_ms * (1..=self.resends + 1).product::<u64>()
    }

    fn hear(&mut self, answer: Answer, now_ms: u64, out: &mut Output) -> Result<(), HangUp> {
        match (answer, self.stage) {
            (Answer::Registered { serial, code }, Stage::Registering { serial: asked, .. })
                if serial == asked =>
            {
                self.code = Some(code.map_err(HangUp::Refused)?);
                self.connected(now_ms, out);
            }
            (
                Answer::General { serial, result, .. },
                Stage::Authenticating { serial: asked, .. },
            ) if serial == asked => {
                if result != 0 {
                    self.code = None;
                    return Err(HangUp::Refused(result));
                }
                self.stage = Stage::Online;
                self.failures = 0;
                self.resume(now_ms, out);
            }
            (Answer::General { serial, id, result }, Stage::Online) => {
                self.settle(serial, id, result, now_ms, out);
            }
            // Downlinks that this terminal does not know, and answers to what it no longer asks.
            _ => {}
        }
        Ok(())
    }

    /// Ends the flight that an answer names.
    fn settle(&mut self, serial: u16, id: u16, result: u8, now_ms: u64, out: &mut Output) {
        let named = |flight: &Flight| flight.serial == serial && flight.id == id;
        let Some(at) = self.flights.iter().position(named) else {
            return;
        };
        // 4: an alarm that somebody handled. A refusal stays in flight, so it is sent again after the timeout.
        if result != 0 && result != 4 {
            out.refused += 1;
            return;
        }
        let flight = self.flights.remove(at).expect("position is inside");
        if at == 0 {
            self.resends = 0;
            // The server answers again: what waits behind gets a fair part of the timeout from now.
            if let Some(oldest) = self.flights.front_mut() {
                oldest.sent_ms = oldest
                    .sent_ms
                    .max(now_ms.saturating_sub(self.timeout_ms / 2));
            }
        }
        let range = self.range(flight.first, flight.last);
        for held in self.held.drain(range) {
            self.momentary &= !held.report.alarms;
            out.answered.push(held.number);
        }
    }

    /// Sends everything unanswered, oldest first.
    fn resume(&mut self, now_ms: u64, out: &mut Output) {
        if self.held.len() <= SINGLES_MAX {
            return self.send_waiting(now_ms, out);
        }
        let numbers: Vec<u32> = self.held.iter().map(|held| held.number).collect();
        for group in numbers.chunks(BATCH_REPORTS_MAX).take(IN_FLIGHT_MAX) {
            let (first, last) = (group[0], group[group.len() - 1]);
            self.launch(jt808::BATCH, first, last, Way::Backlog, now_ms, out);
        }
    }

    /// Sends what is held and not in flight, one message each, as far as the window allows.
    fn send_waiting(&mut self, now_ms: u64, out: &mut Output) {
        while self.flights.len() < IN_FLIGHT_MAX {
            let after = self.flights.back().map_or(0, |newest| newest.last + 1);
            let at = self.held.partition_point(|held| held.number < after);
            let Some(held) = self.held.get(at) else {
                return;
            };
            let way = if held.sent { Way::Again } else { Way::Fresh };
            let number = held.number;
            self.launch(jt808::LOCATION, number, number, way, now_ms, out);
        }
    }

    fn launch(&mut self, id: u16, first: u32, last: u32, way: Way, now_ms: u64, out: &mut Output) {
        let serial = self.take_serial();
        let flight = Flight {
            serial,
            id,
            first,
            last,
            sent_ms: now_ms,
        };
        self.write(&flight, way, out);
        self.flights.push_back(flight);
        self.spoke_ms = now_ms;
    }

    fn write(&mut self, flight: &Flight, way: Way, out: &mut Output) {
        let range = self.range(flight.first, flight.last);
        if flight.id == jt808::BATCH {
            let reports = self.held.range(range.clone()).map(|held| &held.report);
            let body = jt808::batch(reports);
            self.terminal
                .message(&mut out.bytes, flight.id, flight.serial, &body);
        } else if let Some(held) = self.held.get(range.start) {
            out.body.clear();
            jt808::location(&held.report, &mut out.body);
            self.terminal
                .message(&mut out.bytes, flight.id, flight.serial, &out.body);
        }
        for held in self.held.range_mut(range) {
            held.sent = true;
            let (number, report) = (held.number, held.report);
            out.sent.push(Sent {
                number,
                way,
                report,
            });
        }
    }

    /// Where the reports `first..=last` are held.
    fn range(&self, first: u32, last: u32) -> std::ops::Range<usize> {
        let start = self.held.partition_point(|held| held.number < first);
        start..self.held.partition_point(|held| held.number <= last)
    }

    fn heartbeat(&mut self, now_ms: u64, out: &mut Output) {
        let serial = self.take_serial();
        self.terminal
            .message(&mut out.bytes, jt808::HEARTBEAT, serial, &[]);
        self.spoke_ms = now_ms;
    }

    fn take_serial(&mut self) -> u16 {
        let serial = self.serial;
        self.serial = serial.wrapping_add(1);
        serial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jt808::Edition;

    const TERMINAL: Terminal = Terminal {
        edition: Edition::Y2013,
        phone: 13_900_000_001,
    };

    /// A server's message: the same frame, other ids.
    fn server(id: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        TERMINAL.message(&mut bytes, id, 0, body);
        bytes
    }

    fn done(serial: u16, id: u16) -> Vec<u8> {
        result(serial, id, 0)
    }

    fn result(serial: u16, id: u16, result: u8) -> Vec<u8> {
        let ([a, b], [c, d]) = (serial.to_be_bytes(), id.to_be_bytes());
        server(0x8001, &[a, b, c, d, result])
    }

    /// Message ids in what was written.
    fn ids(out: &Output) -> Vec<u16> {
        let messages = out
            .bytes
            .split(|&byte| byte == 0x7e)
            .filter(|part| !part.is_empty());
        messages.map(|m| u16::from_be_bytes([m[0], m[1]])).collect()
    }

    fn sent(out: &Output) -> Vec<(u32, Way)> {
        out.sent
            .iter()
            .map(|sent| (sent.number, sent.way))
            .collect()
    }

    fn take(out: &mut Output) -> Output {
        std::mem::take(out)
    }

    fn report(second: u32) -> Report {
        Report {
            time_s: 1_700_000_000 + second,
            ..Report::default()
        }
    }

    /// A session that has used serials 0 (register) and 1 (authenticate).
    fn online() -> (Session, Output) {
        let mut session = Session::new(TERMINAL, 5_000, Random::new(5));
        let mut out = Output::default();
        session.connected(0, &mut out);
        assert_eq!(ids(&take(&mut out)), [0x0100]);
        let registered = server(0x8100, b"\0\0\0CODE");
        session.received(&registered, 0, &mut out).unwrap();
        assert_eq!(ids(&take(&mut out)), [0x0102]);
        session.received(&done(1, 0x0102), 0, &mut out).unwrap();
        assert!(session.online());
        (session, take(&mut out))
    }

    /// Sends reports one second apart without glued heartbeats.
    fn send(session: &mut Session, numbers: std::ops::Range<u32>, out: &mut Output) {
        for number in numbers {
            session.random = Random::new(5);
            session.report(number, report(number), u64::from(number) * 1_000, out);
        }
    }

    #[test]
    fn answered_reports_are_let_go_and_others_kept() {
        let (mut session, mut out) = online();
        send(&mut session, 0..3, &mut out);
        let sent = sent(&take(&mut out));
        assert_eq!(sent, [(0, Way::Fresh), (1, Way::Fresh), (2, Way::Fresh)]);
        session.received(&done(3, 0x0200), 3_000, &mut out).unwrap();
        assert_eq!(out.answered, [1]);
        session.received(&done(2, 0x0704), 3_000, &mut out).unwrap();
        session
            .received(&result(2, 0x0200, 1), 3_000, &mut out)
            .unwrap();
        assert_eq!(
            (out.answered.len(), out.refused),
            (1, 1),
            "wrong id, or refused"
        );
        assert_eq!(session.unanswered(), 2);
    }

    #[test]
    fn timeout_sends_all_unanswered_again_and_grows() {
        let (mut session, mut out) = online();
        send(&mut session, 0..2, &mut out);
        let first = take(&mut out).bytes;
        assert_eq!(session.deadline_ms(), 5_000);
        session.due(4_999, &mut out).unwrap();
        assert!(out.bytes.is_empty());
        session.due(5_000, &mut out).unwrap();
        assert_eq!(sent(&out), [(0, Way::Repeat), (1, Way::Repeat)]);
        assert_eq!(
            take(&mut out).bytes,
            first,
            "the same messages, serials included"
        );
        assert_eq!(session.deadline_ms(), 15_000);
        session.due(15_000, &mut out).unwrap();
        session.due(45_000, &mut out).unwrap();
        assert_eq!(session.due(165_000, &mut out), Err(HangUp::Silent));
    }

    #[test]
    fn reconnect_sends_old_before_new_with_the_known_code() {
        let (mut session, mut out) = online();
        send(&mut session, 0..2, &mut out);
        session.disconnected();
        send(&mut session, 2..3, &mut out);
        take(&mut out);
        session.connected(9_000, &mut out);
        assert_eq!(ids(&take(&mut out)), [0x0102]);
        session.received(&done(4, 0x0102), 9_000, &mut out).unwrap();
        assert_eq!(
            sent(&out),
            [(0, Way::Again), (1, Way::Again), (2, Way::Fresh)]
        );
    }

    #[test]
    fn many_stored_reports_go_in_batches_that_one_answer_settles() {
        let (mut session, mut out) = online();
        session.disconnected();
        send(&mut session, 0..30, &mut out);
        session.connected(40_000, &mut out);
        take(&mut out);
        session
            .received(&done(2, 0x0102), 40_000, &mut out)
            .unwrap();
        assert_eq!(ids(&out), [0x0704, 0x0704]);
        assert!(
            out.sent.iter().map(|sent| sent.number).eq(0..30),
            "oldest first"
        );
        assert!(out.sent.iter().all(|sent| sent.way == Way::Backlog));
        take(&mut out);
        send(&mut session, 30..31, &mut out);
        assert_eq!(sent(&out), [(30, Way::Fresh)]);
        session
            .received(&done(3, 0x0704), 41_000, &mut out)
            .unwrap();
        assert!(
            out.answered.iter().copied().eq(0..24),
            "24 of 42 bytes fit 1023"
        );
    }

    #[test]
    fn pressed_button_stays_set_until_answered() {
        let (mut session, mut out) = online();
        let alarms = session.press(1);
        session.random = Random::new(5);
        session.report(
            0,
            Report {
                alarms,
                ..report(0)
            },
            0,
            &mut out,
        );
        assert_eq!(session.press(0), 1);
        session.received(&done(2, 0x0200), 10, &mut out).unwrap();
        assert_eq!(session.press(0), 0);
        assert_eq!(session.press(1 << 8), 0, "held bits are not buttons");
    }

    #[test]
    fn refused_authentication_registers_anew() {
        let (mut session, mut out) = online();
        session.disconnected();
        session.connected(0, &mut out);
        let refused = session.received(&result(2, 0x0102, 1), 0, &mut out);
        assert_eq!(refused, Err(HangUp::Refused(1)));
        session.disconnected();
        take(&mut out);
        session.connected(0, &mut out);
        assert_eq!(ids(&out), [0x0100]);
        assert_eq!(session.due(5_000, &mut out), Err(HangUp::Silent));
    }

    #[test]
    fn pauses_grow_within_their_bounds() {
        let mut session = Session::new(TERMINAL, 5_000, Random::new(1));
        let pauses: Vec<u64> = (0..10).map(|_| session.disconnected()).collect();
        assert!((25..=50).contains(&pauses[0]), "{pauses:?}");
        assert!(
            pauses[6..]
                .iter()
                .all(|pause| (1_000..=2_000).contains(pause)),
            "{pauses:?}"
        );
    }
}
