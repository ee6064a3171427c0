//! What a message says: who sent it, its reports, and the answers that it is owed.

use std::borrow::Cow;

use super::Reject;
use crate::frame::{Alarms, Attribute, AttributeKey, DeviceId, Fix, Value};

/// A message, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Who sent it, if known. Reports of nobody cannot be passed on; [`Reject::Device`] is their name.
    pub device: Option<DeviceId>,
    /// Kind of message, one of a few names per protocol.
    pub kind: &'static str,
    /// What it reports, in the order sent.
    pub reports: Vec<Report>,
    /// What it says without a position (a terminal's model, a text).
    pub attributes: Vec<Attribute>,
    /// Bytes to send at once.
    pub answer_now: Vec<u8>,
    /// Bytes to send when the reports are safe; empty if the device waits for nothing.
    pub answer_when_safe: Vec<u8>,
    /// Bytes to send instead when the reports could not be kept; empty if the protocol has no words for it.
    pub answer_if_refused: Vec<u8>,
    /// The message is sound and was answered, but not read: why. Its sender is no source of rubbish: a picture in a
    /// hundred parts is a hundred of these.
    pub refused: Option<Reject>,
}

impl Message {
    /// A message of that kind from that device, which says nothing yet.
    pub(super) fn new(kind: &'static str, device: Option<DeviceId>) -> Message {
        Message {
            device,
            kind,
            ..Message::default()
        }
    }

    /// Adds a standard attribute, if there is a value.
    pub(super) fn state(&mut self, key: AttributeKey, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.attributes.push(Attribute::new(key, value));
        }
    }

    /// Adds a vendor's attribute, if there is a value.
    pub(super) fn state_named(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: Option<impl Into<Value>>,
    ) {
        if let Some(value) = value {
            self.attributes.push(Attribute::named(name, value));
        }
    }

    /// Adds reports that the answer so far must wait for; without any, it goes out at once.
    pub(super) fn hold_answer_for(&mut self, reports: Vec<Report>) {
        if !reports.is_empty() {
            self.reports = reports;
            self.answer_when_safe = std::mem::take(&mut self.answer_now);
        }
    }
}

/// One position report of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Where and when.
    pub fix: Fix,
    /// Alarms that stay set until their condition ends.
    pub held: Alarms,
    /// Alarms that the device drops when it is answered.
    pub momentary: Alarms,
    /// The device stored this report and sent it later.
    pub backlog: bool,
    /// What else it says, most wanted first.
    pub attributes: Vec<Attribute>,
}

impl Report {
    /// Adds a standard attribute, if there is a value.
    pub(super) fn state(&mut self, key: AttributeKey, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.attributes.push(Attribute::new(key, value));
        }
    }

    /// Adds a vendor's attribute, if there is a value.
    pub(super) fn state_named(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: Option<impl Into<Value>>,
    ) {
        if let Some(value) = value {
            self.attributes.push(Attribute::named(name, value));
        }
    }
}
