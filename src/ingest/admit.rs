//! Who may come in: the list of known devices as it stands, what becomes of the others, and how much anybody may send.
//!
//! Tracker protocols carry an identifier and not a secret: this keeps strangers, mistakes and floods out, and nobody who
//! writes a known id into his messages.

mod bucket;
mod notices;
mod sessions;
mod unproven;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

use tracing::warn;

pub use bucket::{Bucket, Buckets, Rate};
use notices::Notices;
pub use sessions::{Entered, Sessions};
pub use unproven::Unproven;

use super::process::IngestError;
use super::round::Rounds;
use super::session::ReadAt;
use super::tally::Tally;
use crate::config::{Admission, DeviceList, LIST_BYTES_MAX, Takeover, Unknown};
use crate::frame::DeviceId;
use crate::role::{Devices, FromChild, Noticed};

/// Buckets of devices that lack tokens and have no connection to keep them.
pub const BUCKETS_MAX: usize = 4_096;

/// How often the supervisor is told what was noticed, at most.
const NEWS_EVERY_MS: u64 = 2_000;

/// What becomes of a device's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is taken.
    Taken,
    /// What it reports is neither taken nor answered.
    Quarantined,
    /// It is not taken, and its sender is not served.
    Rejected,
}

/// The door of one sensor.
#[derive(Debug)]
pub struct Door {
    sensor: String,
    /// The devices that are known; none: all are.
    list: Option<DeviceList>,
    unknown: Unknown,
    rate: Rate,
    takeover: Takeover,
    silent_ms: u64,
    notices: Notices,
    told_ms: u64,
}

impl Door {
    /// The sensor's name.
    pub fn sensor(&self) -> &str {
        &self.sensor
    }

    /// Of this sensor. Where there is to be a list, nobody is known until it has come.
    pub fn new(sensor: String, admission: &Admission) -> Door {
        Door {
            sensor,
            list: admission.devices.as_ref().map(|_| DeviceList::default()),
            unknown: admission.unknown,
            rate: Rate::a_second(admission.rate_max, admission.burst_max),
            takeover: admission.takeover,
            silent_ms: admission.silent_ms,
            notices: Notices::new(),
            told_ms: 0,
        }
    }

    /// How much a connection, a peer or a device may send.
    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Whether a session may be taken over from a connection that was heard last then.
    pub fn may_take_over(&self, heard_ms: u64, now_ms: u64) -> bool {
        match self.takeover {
            Takeover::Newest => true,
            Takeover::Silent => now_ms >= heard_ms.saturating_add(self.silent_ms),
        }
    }

    /// Whether a device is on the list, or there is none.
    pub fn knows(&self, device: &DeviceId) -> bool {
        self.list.as_ref().is_none_or(|list| list.knows(device))
    }

    /// Whether a sender has to be known: what comes of nobody proves nothing.
    pub fn is_guarded(&self) -> bool {
        self.list.is_some() && self.unknown != Unknown::Accept
    }

    /// What becomes of a message of this device, which came from `source`; counted and noted if it is not known.
    pub fn judge(
        &mut self,
        device: DeviceId,
        source: impl FnOnce() -> String,
        now: ReadAt,
        tally: &Tally,
    ) -> Judged {
        if self.knows(&device) {
            return Judged::Taken;
        }
        let (judged, what) = match self.unknown {
            Unknown::Reject => (Judged::Rejected, "not served"),
            Unknown::Quarantine => (Judged::Quarantined, "neither taken nor answered"),
            Unknown::Accept => (Judged::Taken, "taken all the same"),
        };
        tally.unknown(self.unknown);
        let now_ms = now.monotonic_ns / 1_000_000;
        let noted = self
            .notices
            .note(Noticed::Unknown, device, source, now_ms, now.wall_ms);
        if let Some(line) = noted {
            let (sensor, more) = (&self.sensor, line.unsaid);
            warn!(sensor, %device, more, "a device that is not on the list is {what}");
        }
        judged
    }

    /// Notes that a device's session is taken over again and again.
    pub fn contested(&mut self, device: DeviceId, source: impl FnOnce() -> String, now: ReadAt) {
        let now_ms = now.monotonic_ns / 1_000_000;
        let noted = self
            .notices
            .note(Noticed::Contested, device, source, now_ms, now.wall_ms);
        if let Some(line) = noted {
            let (sensor, more) = (&self.sensor, line.unsaid);
            warn!(sensor, %device, more, "several devices seem to have one id: take-overs of its session wait");
        }
    }

    /// Reads a list in the place of the one before, if it is right, and tells the supervisor.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn take_list<K: Copy>(
        &mut self,
        devices: Devices,
        rounds: &Rounds<K>,
    ) -> Result<(), IngestError> {
        let read = read_all(devices.list)
            .map_err(|cause| format!("cannot be read: {cause}"))
            .and_then(|text| DeviceList::parse(&text).map_err(|wrong| wrong.to_string()));
        let outcome = read.map(|list| {
            let count = list.len() as u32;
            self.notices
                .forget(Noticed::Unknown, |device| list.knows(device));
            self.list = Some(list);
            count
        });
        if let Ok(count) = outcome {
            rounds.tally.listed(count);
        }
        rounds.say(&FromChild::Devices {
            number: devices.number,
            outcome,
        })
    }

    /// Tells the supervisor what was noticed since it was told last, now and then.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn tell<K: Copy>(&mut self, now_ms: u64, rounds: &Rounds<K>) -> Result<(), IngestError> {
        if now_ms < self.told_ms + NEWS_EVERY_MS {
            return Ok(());
        }
        let Some(notices) = self.notices.take_news() else {
            return Ok(());
        };
        self.told_ms = now_ms;
        // A supervisor that is stopped must not hold up what devices send.
        if !rounds.try_say(&FromChild::Notices(notices))? {
            self.notices.put_back();
        }
        Ok(())
    }
}

/// The text of a list. The descriptor's offset is shared with everybody who was handed the same.
fn read_all(list: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(list);
    file.rewind()?;
    let mut text = Vec::new();
    file.take(LIST_BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}
