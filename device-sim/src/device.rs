//! A device's custody of its reports: it logs in, reports, and gives nothing up that must be answered and was not.
//!
//! Pure: bytes and the time go in, bytes to write and what became of reports come out. Promises that reports go out
//! in the order they were made, that each one that the protocol answers is kept until its answer came, and that after
//! a reconnect everything unanswered goes out oldest first, before anything new. How a message is written and what an
//! answer means is the [`Dialect`]'s matter, connecting is `link`'s, what to report [`crate::fleet`]'s.

mod alarms;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use alarms::Alarms;

use crate::crew::Vocabulary;
use crate::dialect::{Damage, Dialect, Habits, Heard, Kind, Name};
use crate::random::Random;
use crate::report::Report;

/// Reports that a device stores while nobody answers; then it makes no more.
pub const STORED_REPORTS_MAX: usize = 4_096;
/// A step of a login that takes longer is given up, ms.
const HANDSHAKE_MS: u64 = 5_000;
/// A device with nothing to say for this long says so, ms.
const HEARTBEAT_MS: u64 = 30_000;
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
    /// By itself, again, although later ones may have overtaken it.
    Repeat,
    /// As one that was stored in a blind zone.
    Backlog,
}

/// A report that goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub number: u32,
    /// How it goes.
    pub way: Way,
    /// Whether the device keeps it until it is answered; if not, it is let go now and may be lost.
    pub kept: bool,
    /// What it says.
    pub report: Report,
}

/// Why a device hangs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HangUp {
    /// The login was refused, with this result.
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
}

/// One device, connected or not.
#[derive(Debug)]
pub struct Session {
    dialect: Box<dyn Dialect>,
    habits: Habits,
    stage: Stage,
    /// Unanswered reports, oldest first.
    held: VecDeque<Held>,
    /// Messages with reports that await an answer on this connection, oldest first.
    flights: VecDeque<Flight>,
    /// The newest report that was let go when it was written.
    let_go: Option<u32>,
    /// First answer timeout, ms; later ones are longer.
    timeout_ms: u64,
    resends: u64,
    spoke_ms: u64,
    /// Connections that failed in a row.
    failures: u32,
    alarms: Alarms,
    random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Offline,
    LoggingIn { since_ms: u64 },
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
    name: Name,
    kind: Kind,
    first: u32,
    last: u32,
    sent_ms: u64,
}

impl Session {
    /// A device that has never been connected and can say these alarms. It waits `timeout_ms` for an answer before it
    /// says things again.
    pub fn new(
        dialect: Box<dyn Dialect>,
        vocabulary: Vocabulary,
        timeout_ms: u64,
        random: Random,
    ) -> Session {
        Session {
            habits: dialect.habits(),
            dialect,
            stage: Stage::Offline,
            held: VecDeque::new(),
            flights: VecDeque::new(),
            let_go: None,
            timeout_ms,
            resends: 0,
            spoke_ms: 0,
            failures: 0,
            alarms: Alarms::of(vocabulary),
            random,
        }
    }

    /// Whether it is logged in on a live connection.
    pub fn online(&self) -> bool {
        self.stage == Stage::Online
    }

    /// Count of unanswered reports.
    pub fn unanswered(&self) -> usize {
        self.held.len()
    }

    /// Takes what happened since the last report: buttons pressed, and conditions that hold now. Returns the alarm
    /// word of the next report, as far as the protocol has words for it.
    pub fn alarms(&mut self, pressed: u32, held: u32) -> u32 {
        self.alarms.next(pressed, held)
    }

    /// A connection is there.
    pub fn connected(&mut self, now_ms: u64, out: &mut Output) {
        self.spoke_ms = now_ms;
        if self.dialect.greet(&mut out.bytes) {
            self.welcome(now_ms, out);
        } else {
            self.stage = Stage::LoggingIn { since_ms: now_ms };
        }
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
        // Ten thousand devices must not knock at once.
        pause / 2 + self.random.below(pause as usize / 2 + 1) as u64
    }

    /// Takes what the server wrote.
    ///
    /// # Errors
    /// When the connection is of no use any more.
    pub fn received(&mut self, bytes: &[u8], now_ms: u64, out: &mut Output) -> Result<(), HangUp> {
        let mut all = Vec::new();
        let read = self
            .dialect
            .hear(bytes, &mut out.bytes, &mut |heard| all.push(heard));
        for heard in all {
            self.take(heard, now_ms, out)?;
        }
        read?;
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
            Stage::LoggingIn { since_ms } => since_ms + HANDSHAKE_MS,
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
            if self.resends == self.habits.resends_max {
                return Err(HangUp::Silent);
            }
            self.resends += 1;
            for mut flight in std::mem::take(&mut self.flights) {
                flight.sent_ms = now_ms;
                self.write(&flight, Some(Way::Repeat), out);
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

    fn take(&mut self, heard: Heard, now_ms: u64, out: &mut Output) -> Result<(), HangUp> {
        match (heard, self.stage) {
            (Heard::Onward, Stage::LoggingIn { .. }) => {
                self.stage = Stage::LoggingIn { since_ms: now_ms };
                self.spoke_ms = now_ms;
            }
            (Heard::Welcome, Stage::LoggingIn { .. }) => self.welcome(now_ms, out),
            (Heard::Refused(result), _) => return Err(HangUp::Refused(result)),
            (Heard::Done(number), Stage::Online) => self.settle(number, now_ms, out),
            // It stays in flight, so it is sent again after the timeout.
            (Heard::Not(number), Stage::Online) => {
                out.refused += u32::from(self.flight(number).is_some());
            }
            // Answers to what it no longer asks.
            _ => {}
        }
        Ok(())
    }

    fn welcome(&mut self, now_ms: u64, out: &mut Output) {
        self.stage = Stage::Online;
        self.failures = 0;
        self.resume(now_ms, out);
    }

    fn flight(&self, number: u32) -> Option<usize> {
        let named = |flight: &Flight| flight.name.number == number;
        self.flights.iter().position(named)
    }

    /// Ends the flight that an answer names.
    fn settle(&mut self, number: u32, now_ms: u64, out: &mut Output) {
        let Some(at) = self.flight(number) else {
            return;
        };
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
            self.alarms.settle(held.report.alarms);
            out.answered.push(held.number);
        }
    }

    /// Sends everything unanswered, oldest first.
    fn resume(&mut self, now_ms: u64, out: &mut Output) {
        if self.held.len() > self.habits.stored_above {
            let numbers: Vec<u32> = self.held.iter().map(|held| held.number).collect();
            let groups = numbers.chunks(self.habits.stored_max);
            for group in groups.take(self.habits.in_flight_max) {
                let (first, last) = (group[0], group[group.len() - 1]);
                self.launch(Kind::Stored, first, last, now_ms, out);
            }
        }
        self.send_waiting(now_ms, out);
    }

    /// Sends what is held and not in flight, as far as the window allows.
    fn send_waiting(&mut self, now_ms: u64, out: &mut Output) {
        while self.flights.len() < self.habits.in_flight_max {
            let after = self.flights.back().map_or(0, |newest| newest.last + 1);
            let at = self.held.partition_point(|held| held.number < after);
            let Some(first) = self.held.get(at) else {
                return;
            };
            let last = (at + self.habits.live_max).min(self.held.len()) - 1;
            let (first, last) = (first.number, self.held[last].number);
            self.launch(Kind::Live, first, last, now_ms, out);
        }
    }

    fn launch(&mut self, kind: Kind, first: u32, last: u32, now_ms: u64, out: &mut Output) {
        let at = self.range(first, last).start;
        let name = self.dialect.name(kind, &self.held[at].report);
        let flight = Flight {
            name,
            kind,
            first,
            last,
            sent_ms: now_ms,
        };
        self.write(&flight, None, out);
        self.spoke_ms = now_ms;
        if name.awaited {
            self.flights.push_back(flight);
            return;
        }
        self.let_go = self.let_go.max(Some(last));
        let range = self.range(first, last);
        for held in self.held.drain(range) {
            self.alarms.settle(held.report.alarms);
        }
    }

    /// Writes a message; `resent` is the way of its reports if it goes out again on the same connection.
    fn write(&mut self, flight: &Flight, resent: Option<Way>, out: &mut Output) {
        let range = self.range(flight.first, flight.last);
        let mut reports = self.held.range(range.clone()).map(|held| &held.report);
        self.dialect
            .write(flight.name, flight.kind, &mut reports, &mut out.bytes);
        let let_go = self.let_go;
        for held in self.held.range_mut(range) {
            let way = match (flight.kind, held.sent) {
                (Kind::Stored, _) => Way::Backlog,
                (Kind::Live, false) => Way::Fresh,
                (Kind::Live, true) if let_go > Some(held.number) => Way::Repeat,
                (Kind::Live, true) => resent.unwrap_or(Way::Again),
            };
            held.sent = true;
            out.sent.push(Sent {
                number: held.number,
                way,
                kept: flight.name.awaited,
                report: held.report,
            });
        }
    }

    /// Where the reports `first..=last` are held.
    fn range(&self, first: u32, last: u32) -> std::ops::Range<usize> {
        let start = self.held.partition_point(|held| held.number < first);
        start..self.held.partition_point(|held| held.number <= last)
    }

    fn heartbeat(&mut self, now_ms: u64, out: &mut Output) {
        self.dialect.heartbeat(&mut out.bytes);
        self.spoke_ms = now_ms;
    }
}
