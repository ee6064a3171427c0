//! JSON of gpsd: receivers that another program reads already.
//!
//! This file holds the session: it cuts lines and says what each class of object means. gpsd is a client's server, so
//! nothing is answered here. Several TPV can be about one moment of one receiver; a live session gives one report for
//! them, and does not wait for the next moment once it has learned how many there are.

mod object;
mod receiver;

use self::object::{Device, Devices, Failure, Poll, Sky, Tpv, Version};
use self::receiver::{Receiver, Receivers};
use super::decoder::{Decoder, Mode};
use super::lines::Lines;
use super::{Arrival, Message, Reject, Report, Settings, Split};
use crate::frame::{AttributeKey, DeviceId};

/// Longest line: SKY of a receiver that hears 113 satellites takes 12.8 KiB in public logs; this is room for 200.
pub(super) const MESSAGE_BYTES_MAX: usize = 24 * 1024;

/// Most characters of a text that is passed on.
const TEXT_CHARS_MAX: usize = 64;

/// Classes of objects that are known and not read.
const OTHERS: &[&str] = &[
    "AIS", "ATT", "GST", "IMU", "LOG", "OSC", "PPS", "RAW", "RTCM2", "RTCM3", "SUBFRAME", "TOFF",
];

/// State of one stream.
pub(super) struct Session {
    settings: Settings,
    mode: Mode,
    /// The receiver of objects that name none.
    stated: Option<DeviceId>,
    lines: Lines,
    receivers: Receivers,
}

impl Session {
    pub(super) fn new(settings: &Settings, mode: Mode) -> Session {
        Session {
            settings: settings.clone(),
            mode,
            stated: None,
            lines: Lines::new(MESSAGE_BYTES_MAX),
            receivers: Receivers::default(),
        }
    }
}

impl Decoder for Session {
    fn split(&mut self, bytes: &[u8]) -> Split {
        self.lines.split(bytes)
    }

    fn is_part(&self, left: &[u8]) -> bool {
        Lines::is_part(left)
    }

    fn decode(&mut self, line: &[u8], now: Arrival) -> Result<Message, Reject> {
        let line = line.trim_ascii();
        match line {
            [b'{', .., b'}'] => self.object(line, now),
            // A client may ask for the receiver's sentences beside the objects.
            [b'$' | b'!', ..] => Ok(self.message("nmea", None)),
            [b'{', ..] => Err(Reject::Incomplete),
            _ => Err(Reject::Rubbish),
        }
    }

    fn flush(&mut self) -> Option<Message> {
        let (name, report) = self.receivers.close_one(&self.settings)?;
        let mut message = self.message("epoch", name);
        message.reports.push(report);
        Some(message)
    }
}

impl Session {
    fn message(&self, kind: &'static str, name: Option<DeviceId>) -> Message {
        let device = self.settings.device.or(name).or(self.stated);
        Message::new(kind, device)
    }

    fn object(&mut self, line: &[u8], now: Arrival) -> Result<Message, Reject> {
        match &*object::class(line)? {
            "TPV" => {
                let tpv: Tpv = object::read(line)?;
                let mut message = self.message("tpv", tpv.device.name());
                message.reports = self.take(&tpv, now);
                Ok(message)
            }
            "SKY" => {
                let sky: Sky = object::read(line)?;
                let mut message = self.message("sky", sky.device.name());
                match self.mode {
                    Mode::Epoch => self.receiver(sky.device).see(&sky, now),
                    Mode::Message => message.attributes = sky.attributes(),
                }
                Ok(message)
            }
            "POLL" => self.poll(object::read(line)?, now),
            "DEVICES" => {
                let list: Devices = object::read(line)?;
                if let [device] = &list.devices.0[..] {
                    self.stated = device.path.name().or(self.stated);
                }
                Ok(self.message("devices", None))
            }
            "DEVICE" => {
                let device: Device = object::read(line)?;
                self.stated = device.path.name().or(self.stated);
                let mut message = self.message("device", None);
                message.state(AttributeKey::Model, device.driver.map(short));
                message.state(AttributeKey::Firmware, device.subtype.map(short));
                Ok(message)
            }
            "VERSION" => {
                let version: Version = object::read(line)?;
                let mut message = self.message("version", None);
                message.state_named("gpsd_release", version.release.map(short));
                Ok(message)
            }
            "ERROR" => {
                let failure: Failure = object::read(line)?;
                let mut message = self.message("error", None);
                message.state(AttributeKey::Text, failure.message.map(short));
                Ok(message)
            }
            "WATCH" => Ok(self.message("watch", None)),
            other if OTHERS.contains(&other) => Ok(self.message("other", None)),
            _ => {
                let mut message = self.message("unknown", None);
                message.refused = Some(Reject::UnknownKind);
                Ok(message)
            }
        }
    }

    /// The last objects of each receiver. A message is of one: of the first that is in it.
    fn poll(&mut self, poll: Poll, now: Arrival) -> Result<Message, Reject> {
        let first = poll.tpv.0.first().map(|tpv| tpv.device).unwrap_or_default();
        let mut message = self.message("poll", first.name());
        for sky in poll.sky.0.iter().filter(|sky| sky.device == first) {
            self.receiver(first).see(sky, now);
        }
        for tpv in poll.tpv.0.iter().filter(|tpv| tpv.device == first) {
            message.reports.extend(self.take(tpv, now));
        }
        Ok(message)
    }

    fn receiver(&mut self, path: object::Path) -> &mut Receiver {
        self.receivers.of(path.name().or(self.stated))
    }

    /// Adds an object to its epoch and gives the reports that are ready.
    fn take(&mut self, tpv: &Tpv, now: Arrival) -> Vec<Report> {
        if self.mode == Mode::Message {
            return tpv.report(&self.settings, now).into_iter().collect();
        }
        let receiver = self.receivers.of(tpv.device.name().or(self.stated));
        receiver.take(tpv, &self.settings, now)
    }
}

fn short(text: String) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests;
