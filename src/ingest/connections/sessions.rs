//! Which connection has the session of which device, and what becomes of the one that had it before.

use super::{Connections, Key};
use crate::frame::DeviceId;
use crate::ingest::admit::{Bucket, Entered};
use crate::ingest::connection::Closed;

impl Connections {
    /// A connection brings a message of a device, which is not its first one so far. `may_take`: whether a session may be
    /// taken over from a connection that was heard last then.
    pub fn enter(
        &mut self,
        key: Key,
        device: DeviceId,
        now_ns: u64,
        may_take: impl FnOnce(u64) -> bool,
    ) -> Entered<Key> {
        let slots = &self.slots;
        let holder = |key: Key| slots[key.index as usize].connection.as_ref();
        let further = holder(key).is_some_and(|connection| connection.device.is_some());
        let entered = self.sessions.enter(device, key, further, now_ns, |before| {
            // Nothing more will come of one that has ended: it waits for answers that it is owed.
            holder(before).is_none_or(|c| c.is_ended() || may_take(c.heard_ms))
        });
        let bucket = match entered {
            Entered::New => Bucket::default(),
            Entered::TakenFrom(before) => self.displace(before, &device),
            _ => return entered,
        };
        // Whoever connects anew has no more for it.
        let bucket = bucket.max(self.buckets.remove(&device));
        if further && !bucket.is_full(now_ns) {
            self.buckets.put(device, bucket, now_ns);
        }
        if let Some(connection) = self.get(key) {
            if further {
                connection.further.get_or_insert_default().insert(device);
            } else {
                connection.device = Some(device);
                connection.bucket = connection.bucket.max(bucket);
            }
        }
        entered
    }

    /// A device came by another connection: the one that it had is read no more, unless others come by it. Returns the
    /// device's bucket.
    fn displace(&mut self, key: Key, device: &DeviceId) -> Bucket {
        let Some(connection) = self.get(key) else {
            return Bucket::default();
        };
        let mut bucket = Bucket::default();
        if connection.device.as_ref() == Some(device) {
            connection.device = None;
            bucket = connection.bucket;
        }
        if let Some(further) = &mut connection.further {
            further.remove(device);
        }
        if connection.speaks_for_nobody() {
            connection.end(Closed::TakenOver);
        }
        bucket
    }

    /// Gives up the sessions of devices that are not known any more. Returns the connections that have none any more.
    pub fn forget_unknown(&mut self, knows: impl Fn(&DeviceId) -> bool) -> Vec<Key> {
        let mut left = Vec::new();
        for key in self.keys() {
            let Some(connection) = self.get(key) else {
                continue;
            };
            let mut gone: Vec<DeviceId> = connection
                .device
                .take_if(|device| !knows(device))
                .into_iter()
                .collect();
            if let Some(further) = &mut connection.further {
                gone.extend(further.extract_if(|device| !knows(device)));
            }
            if !gone.is_empty() && connection.speaks_for_nobody() {
                left.push(key);
            }
            for device in gone {
                self.sessions.leave(&device, key);
            }
        }
        left
    }
}
