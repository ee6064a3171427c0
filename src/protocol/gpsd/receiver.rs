//! One receiver's moment, put together from the objects about it.

use super::super::{Arrival, Report, Settings};
use super::object::{Sky, Tpv};
use crate::frame::DeviceId;

/// Most receivers of one gpsd that are told apart; with one more, the one that was silent for longest is forgotten.
const RECEIVERS_MAX: usize = 4;

/// Satellites are news for so long, as some receivers list them in every fifth second only.
const SKY_MS_MAX: i64 = 10_000;

/// The receivers, the one that was heard last at the end.
#[derive(Default)]
pub(super) struct Receivers(Vec<Receiver>);

impl Receivers {
    /// The receiver of that name.
    pub(super) fn of(&mut self, name: Option<DeviceId>) -> &mut Receiver {
        let at = self.0.iter().position(|receiver| receiver.name == name);
        let receiver = match at {
            Some(at) => self.0.remove(at),
            None => Receiver {
                name,
                ..Receiver::default()
            },
        };
        if self.0.len() == RECEIVERS_MAX {
            self.0.remove(0);
        }
        self.0.push(receiver);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Gives one report that is under construction, and whose it is.
    pub(super) fn close_one(&mut self, settings: &Settings) -> Option<(Option<DeviceId>, Report)> {
        let receivers = self.0.iter_mut();
        receivers
            .filter_map(|receiver| Some((receiver.name, receiver.close(settings)?)))
            .next()
    }
}

/// What is known about one receiver.
#[derive(Default)]
pub(super) struct Receiver {
    name: Option<DeviceId>,
    epoch: Option<Epoch>,
    /// Objects of an epoch up to the last that is waited for.
    objects_learned: u32,
    sky: Sky,
    sky_ms: i64,
}

/// What the objects about one moment say together.
struct Epoch {
    facts: Tpv,
    arrival: Arrival,
    objects: u32,
    /// As many were in when the last one that brought something was.
    objects_needed: u32,
    /// The report is out.
    reported: bool,
}

impl Receiver {
    /// Adds what is seen of the satellites.
    pub(super) fn see(&mut self, sky: &Sky, now: Arrival) {
        if !self.is_recent(now) {
            self.sky = Sky::default();
        }
        self.sky.merge(sky);
        self.sky_ms = now.wall_ms;
    }

    fn is_recent(&self, now: Arrival) -> bool {
        now.wall_ms.saturating_sub(self.sky_ms) <= SKY_MS_MAX
    }

    /// Adds an object to its epoch and gives the reports that are ready.
    pub(super) fn take(&mut self, tpv: &Tpv, settings: &Settings, now: Arrival) -> Vec<Report> {
        let mut reports = Vec::new();
        if self.epoch.as_ref().is_some_and(|e| e.is_over_before(tpv)) {
            reports.extend(self.close(settings));
        }
        let learned = self.objects_learned;
        let epoch = self.epoch.get_or_insert_with(|| Epoch::new(now));
        epoch.merge(tpv);
        if learned > 0 && epoch.objects >= learned {
            reports.extend(self.report(settings));
        }
        reports
    }

    /// Ends the epoch, gives its report if it is not out, and learns from it.
    fn close(&mut self, settings: &Settings) -> Option<Report> {
        let report = self.report(settings);
        let epoch = self.epoch.take()?;
        // What brought something once is waited for as long as it comes.
        let usual = self.objects_learned.min(epoch.objects);
        self.objects_learned = epoch.objects_needed.max(usual);
        report
    }

    fn report(&mut self, settings: &Settings) -> Option<Report> {
        let epoch = self.epoch.as_mut().filter(|epoch| !epoch.reported)?;
        let mut report = epoch.facts.report(settings, epoch.arrival)?;
        epoch.reported = true;
        let arrival = epoch.arrival;
        if self.is_recent(arrival) {
            self.sky.state(&mut report);
        }
        Some(report)
    }
}

impl Epoch {
    fn new(arrival: Arrival) -> Epoch {
        Epoch {
            facts: Tpv::default(),
            arrival,
            objects: 0,
            objects_needed: 1,
            reported: false,
        }
    }

    /// An object without a time belongs to the running epoch, if that has one, unless the receiver has found a position
    /// since that was reported.
    fn is_over_before(&self, tpv: &Tpv) -> bool {
        match (self.facts.time, tpv.time) {
            (Some(this), Some(that)) => this != that,
            (Some(_), None) => self.reported && tpv.has_place() && !self.facts.has_place(),
            (None, _) => true,
        }
    }

    fn merge(&mut self, tpv: &Tpv) {
        let before = self.facts;
        self.facts.merge(tpv);
        self.objects = self.objects.saturating_add(1);
        if self.facts.knows_more_than(&before) {
            self.objects_needed = self.objects;
        }
    }
}
