//! One simulated device: its vehicle, its part in the scenario and its session, moved on by the clock.
//!
//! Makes the reports that are due, also those that became due while it was not connected, and enters in the ledger
//! what becomes of them.

use tokio::time::Instant;

use crate::device::{HangUp, Output, STORED_REPORTS_MAX, Session};
use crate::dialect;
use crate::fleet::Shared;
use crate::random::Random;
use crate::scenario::{Moment, Part};
use crate::vehicle::Vehicle;

/// One vehicle in this many drives to places instead of about.
const ERRAND_ONE_IN: u32 = 8;

/// A device.
#[derive(Debug)]
pub(crate) struct Unit {
    index: u32,
    session: Session,
    vehicle: Vehicle,
    part: Part,
    /// Whether it has been online once; before, it makes no reports.
    begun: bool,
    /// Next slot of the time table.
    slot: u32,
    /// Number of the next report.
    number: u32,
    /// Second of driving at which the drive began, and where it is now.
    first: u32,
    second: u32,
    moment: Moment,
    counted_online: bool,
    pub(crate) out: Output,
    pub(crate) random: Random,
}

impl Unit {
    pub(crate) fn new(shared: &Shared, index: u32) -> Unit {
        let stream = |of: u64| Random::part(shared.seed, u64::from(index) << 8 | of);
        let mut random = stream(1);
        let start = shared.scenario.start(index, &shared.roads, &mut random);
        let errand = index % ERRAND_ONE_IN == ERRAND_ONE_IN - 1;
        let crew = &shared.crew;
        let protocol = crew.protocol(index);
        let dialect = dialect::open(protocol, &crew.id(index), crew.rank(index));
        let vocabulary = protocol.vocabulary();
        let mut part = Part::default();
        let moment = shared.scenario.moment(index, 0, &mut part);
        Unit {
            index,
            session: Session::new(dialect, vocabulary, shared.answer_timeout_ms, stream(2)),
            vehicle: Vehicle::new(&shared.roads, &start, errand, random),
            part,
            begun: false,
            slot: 0,
            number: 0,
            first: 0,
            second: 0,
            moment,
            counted_online: false,
            out: Output::default(),
            random: stream(3),
        }
    }

    /// A connection is there.
    pub(crate) fn connected(&mut self, shared: &Shared) {
        self.session
            .connected(shared.now_ms(Instant::now()), &mut self.out);
    }

    /// The connection is gone. Returns the pause before the next try, ms.
    pub(crate) fn disconnected(&mut self, shared: &Shared) -> u64 {
        self.out.bytes = Vec::new();
        if self.session.online() && !shared.crew.protocol(self.index).answers(0) {
            shared.ledger.cut(self.index);
        }
        let pause = self.session.disconnected();
        self.count_online(shared);
        pause
    }

    /// Takes what the server wrote.
    pub(crate) fn received(&mut self, shared: &Shared, bytes: &[u8]) -> Result<(), HangUp> {
        let now_ms = shared.now_ms(Instant::now());
        let result = self.session.received(bytes, now_ms, &mut self.out);
        self.count_online(shared);
        result
    }

    /// Makes the reports that are due and lets the session do what time demands.
    pub(crate) fn work(&mut self, shared: &Shared, now: Instant) -> Result<(), HangUp> {
        if !self.begun && self.session.online() {
            self.begun = true;
            self.slot = shared.schedule.first(self.index, now);
            self.first = shared.schedule.second(self.index, self.slot).unwrap_or(0);
            self.second = self.first;
        }
        if self.begun && !shared.stopping() {
            if shared.schedule.paced() {
                while shared.schedule.due(self.index, self.slot) <= now {
                    // A full memory records nothing more until it is emptied.
                    if self.session.unanswered() < STORED_REPORTS_MAX {
                        self.make(shared, now);
                    }
                    self.slot += 1;
                }
            } else if self.session.online() && self.session.unanswered() == 0 {
                for _ in 0..shared.schedule.pipeline() {
                    self.make(shared, now);
                    self.slot += 1;
                }
            }
        }
        self.session.due(shared.now_ms(now), &mut self.out)
    }

    /// Enters in the ledger what the session did. Must come before anything is written.
    pub(crate) fn enter(&mut self, shared: &Shared, now: Instant) {
        if !self.out.answered.is_empty() {
            shared.ledger.answered(self.index, &self.out.answered);
            self.out.answered.clear();
        }
        if !self.out.sent.is_empty() {
            shared
                .ledger
                .sent(self.index, &self.out.sent, now.into_std());
            self.out.sent.clear();
        }
        if self.out.refused > 0 {
            shared.ledger.refused(std::mem::take(&mut self.out.refused));
        }
    }

    /// The second half of a cut message has left.
    pub(crate) fn left(&self, shared: &Shared, now: Instant) {
        shared.ledger.left(self.index, now.into_std());
    }

    /// When there is something to do next, if nothing comes.
    pub(crate) fn wake(&self, shared: &Shared, now: Instant) -> Instant {
        let session = shared.at_ms(self.session.deadline_ms(), now);
        match self.begun && shared.schedule.paced() && !shared.stopping() {
            true => shared.schedule.due(self.index, self.slot).min(session),
            false => session,
        }
    }

    /// Drives on to the second of the present slot and reports.
    fn make(&mut self, shared: &Shared, now: Instant) {
        let Some(second) = shared.schedule.second(self.index, self.slot) else {
            return;
        };
        let mut pressed = if self.number == 0 {
            self.moment.pressed
        } else {
            0
        };
        while self.second < second {
            self.vehicle.step(&shared.roads, self.moment.manner);
            self.second += 1;
            let at = self.second - self.first;
            self.moment = shared.scenario.moment(self.index, at, &mut self.part);
            pressed |= self.moment.pressed;
        }
        let alarms = self.session.alarms(pressed, self.moment.held);
        let time_s = shared.schedule.time_s(second);
        let report = self.vehicle.report(&shared.roads, time_s, alarms);
        let (report, step_dkmh) = shared.crew.protocol(self.index).round(report);
        let report = report.clear_of(shared.scenario.rules(), step_dkmh);
        shared.made();
        self.session
            .report(self.number, report, shared.now_ms(now), &mut self.out);
        self.number += 1;
    }

    fn count_online(&mut self, shared: &Shared) {
        let online = self.session.online();
        if online != self.counted_online {
            self.counted_online = online;
            shared.count_online(online);
        }
    }
}
