//! What a message goes through before it is taken: its device known, its session here, and not too much of it.

use super::Tcp;
use crate::frame::DeviceId;
use crate::ingest::admit::{Entered, Judged};
use crate::ingest::connection::Closed;
use crate::ingest::connections::Key;
use crate::ingest::process::IngestError;
use crate::ingest::session::ReadAt;
use crate::ingest::tls::Failure;
use crate::protocol::Message;
use crate::role::Devices;

impl Tcp {
    /// Takes a message as far as its device may come in, and its connection may send.
    pub(super) fn let_in(&mut self, key: Key, message: Message, at: ReadAt) {
        let device = message.device;
        if !self.may_report(key, device) {
            return self.fail(key, Failure::Identity);
        }
        let known = match device {
            // Anybody can ask a web server for something.
            None => false,
            Some(device) => {
                let connection = self.connections.get(key);
                let is_here = connection.is_some_and(|c| c.device == Some(device));
                match if is_here {
                    Judged::Taken
                } else {
                    self.judge(key, device, at)
                } {
                    Judged::Taken => true,
                    Judged::Quarantined => {
                        self.quarantine(key, message);
                        return self.pace(key, Some(device));
                    }
                    Judged::Rejected => return,
                }
            }
        };
        if known {
            self.connections.sound(key);
        }
        self.message(key, message, at);
        self.pace(key, device);
    }

    /// Takes what was said last of a moment, although no more is read.
    pub(super) fn let_in_last(&mut self, key: Key, message: Message, at: ReadAt) {
        if !self.may_report(key, message.device) {
            return self.fail(key, Failure::Identity);
        }
        if message
            .device
            .is_none_or(|device| self.door.knows(&device) || !self.door.is_guarded())
        {
            self.message(key, message, at);
        }
    }

    /// Whether what a connection proves of itself allows it to report for a device.
    fn may_report(&mut self, key: Key, device: Option<DeviceId>) -> bool {
        let connection = self.connections.get(key);
        let both = device.zip(connection);
        both.is_none_or(|(device, connection)| connection.may_report_for(&device))
    }

    /// What becomes of a message of a device that is not the connection's first one; a rejected one is closed.
    fn judge(&mut self, key: Key, device: DeviceId, at: ReadAt) -> Judged {
        let Some(connection) = self.connections.get(key) else {
            return Judged::Rejected;
        };
        let source = connection.source;
        let judged = self
            .door
            .judge(device, || source.to_string(), at, &self.rounds.tally);
        match judged {
            Judged::Taken => {}
            Judged::Quarantined => return judged,
            Judged::Rejected => {
                self.close(key, Closed::Unknown);
                return judged;
            }
        }
        if !self.has_sessions {
            // The last one, which spares it the list.
            connection.device = Some(device);
            return judged;
        }
        let now_ms = self.now_ns / 1_000_000;
        let door = &self.door;
        let may_take = |heard_ms| door.may_take_over(heard_ms, now_ms);
        match self.connections.enter(key, device, self.now_ns, may_take) {
            Entered::Here | Entered::New | Entered::NoRoom => {}
            Entered::TakenFrom(before) => {
                self.rounds.tally.taken_over();
                self.displaced.push(before);
            }
            Entered::Contested { until_ns } => {
                // What came is taken: its sender may not send it again. The next has to wait.
                self.rounds.tally.contested();
                self.door.contested(device, || source.to_string(), at);
                self.connections.rest(key, until_ns.div_ceil(1_000_000));
            }
            Entered::Occupied => {
                self.close(key, Closed::Occupied);
                return Judged::Rejected;
            }
        }
        judged
    }

    /// Answers the login of a device that is not known, and not what it reports: it keeps that.
    fn quarantine(&mut self, key: Key, message: Message) {
        self.rounds.tally.message(message.refused);
        self.answer(key, message.answer_now);
        if !message.answer_when_safe.is_empty() {
            let connection = self.connections.get(key);
            let in_order = connection.is_some_and(|c| c.session.answers_in_order());
            self.refused(key, message.answer_if_refused, in_order);
        }
    }

    /// Counts a message against what its connection and its device may send, which is not read while that is too much.
    fn pace(&mut self, key: Key, device: Option<DeviceId>) {
        let (now_ns, rate) = (self.now_ns, self.door.rate());
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let mut until_ns = connection.bucket.take(rate, now_ns);
        // The bucket of the device that holds its session here is the connection's.
        let is_apart = |device| !self.has_sessions || connection.device != Some(device);
        if let Some(device) = device.filter(|&device| is_apart(device)) {
            let bucket = self.connections.buckets.of(device, now_ns);
            until_ns = until_ns.max(bucket.take(rate, now_ns));
        }
        if let Some(until_ns) = until_ns {
            self.rounds.tally.rests();
            self.connections.rest(key, until_ns.div_ceil(1_000_000));
        }
        if until_ns.is_some() || self.connections.rests(key) {
            self.update(key);
        }
    }

    /// Goes on with those that sent too much.
    pub(super) fn end_rests(&mut self, now_ms: u64) {
        while let Some(key) = self.connections.next_rested(now_ms) {
            self.resumable.push_back(key);
        }
    }

    /// Ends connections whose device came by another one: what they said last is taken, and what they are owed is waited
    /// for.
    pub(super) fn settle_displaced(&mut self, now: ReadAt) {
        while !self.rounds.publisher.stalled()
            && let Some(key) = self.displaced.pop()
        {
            if self.connections.get(key).is_some_and(|c| c.is_ended()) {
                self.end_epoch(key, now);
                self.update(key);
            }
        }
    }

    /// Closes who was silent or slow for too long.
    pub(super) fn close_overdue(&mut self, now_ms: u64) {
        let reads = !self.rounds.publisher.stalled() && !self.rounds.draining();
        for (key, why) in self.connections.overdue(now_ms, reads) {
            self.close(key, why);
        }
    }

    /// Takes a list of devices, and ends the sessions of those that are not on it.
    pub(super) fn take_list(&mut self, devices: Devices) -> Result<(), IngestError> {
        self.door.take_list(devices, &self.rounds)?;
        if self.door.is_guarded() {
            let door = &self.door;
            for key in self.connections.forget_unknown(|device| door.knows(device)) {
                self.close(key, Closed::Unknown);
            }
        }
        Ok(())
    }
}
