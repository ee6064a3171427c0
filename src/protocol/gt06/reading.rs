//! What one message says, before it is known whether that makes a report.

use super::super::{Message, Report};
use super::network::Network;
use super::place::{Clock, TIME_BYTES};
use crate::frame::{Attribute, AttributeKey, DeviceId, FixFields};

/// Attributes that most messages have at most.
const ATTRIBUTES: usize = 8;

/// What one message says.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) report: Report,
    pub(super) network: Network,
    /// The terminal's id, where it stands in the message.
    pub(super) device: Option<DeviceId>,
    /// The terminal's information byte, which tells of alarms too.
    pub(super) terminal: Option<u8>,
    /// Some messages state it twice; what comes last counts.
    pub(super) ignition: Option<bool>,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading {
            report: Report {
                attributes: Vec::with_capacity(ATTRIBUTES),
                ..Report::default()
            },
            network: Network::default(),
            device: None,
            terminal: None,
            ignition: None,
        }
    }
}

impl Reading {
    /// States the time, if it is one.
    pub(super) fn set_time(&mut self, clock: &Clock, fields: [u8; TIME_BYTES]) {
        if let Some(time_ms) = clock.time_ms(fields) {
            self.set_time_ms(clock, time_ms);
        }
    }

    /// States the time, UTC.
    pub(super) fn set_time_ms(&mut self, clock: &Clock, time_ms: i64) {
        let time = clock.settings.fix_time(time_ms, clock.now);
        self.report.fix.set_time(time);
    }

    /// Whether nothing was read but perhaps a time.
    pub(super) fn is_empty(&self) -> bool {
        let placed = self.report.fix.fields.has(FixFields::POSITION);
        !placed && self.ignition.is_none() && self.report.attributes.is_empty()
    }

    /// Gives what was read to the message: a report, for which the answer waits, if there is a position or an alarm,
    /// else attributes.
    pub(super) fn finish(mut self, message: &mut Message) {
        if let Some(ignition) = self.ignition {
            let ignition = Attribute::new(AttributeKey::Ignition, ignition);
            self.report.attributes.insert(0, ignition);
        }
        let list = |text: String| (!text.is_empty()).then_some(text);
        let Network { cells, points } = self.network;
        self.report.state(AttributeKey::Cells, list(cells));
        self.report.state(AttributeKey::Wifi, list(points));
        message.device = self.device.or(message.device);
        let placed = self.report.fix.fields.has(FixFields::POSITION);
        if placed || !self.report.momentary.is_empty() {
            message.hold_answer_for(vec![self.report]);
        } else {
            message.attributes = self.report.attributes;
        }
    }
}
