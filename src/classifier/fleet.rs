//! The devices and their slots in the state table. What is judged is judged on the states here; the table follows when
//! a batch is switched, so that a successor finds the state before the batch or after it.

use std::collections::{HashMap, HashSet};

use crate::frame::{DeviceId, EventId};
use crate::table::{PAYLOAD_BYTES_MAX, SnapshotError, TableError, TableWriter, read_snapshot};

use super::state::{DeviceState, Owed};

/// A device with its slot.
#[derive(Debug)]
pub struct Device {
    slot: u32,
    /// Its state, perhaps newer than the one in the table.
    pub state: DeviceState,
}

/// All devices.
pub struct Fleet {
    table: TableWriter,
    devices: HashMap<DeviceId, Device>,
    /// Slots handed out that hold no device.
    free: Vec<u32>,
    owing: HashSet<DeviceId>,
}

impl Fleet {
    /// Takes over a table and all states in it. Slots that cannot be read are given to other devices; the second value
    /// counts them.
    pub fn attach(table: TableWriter) -> (Fleet, u32) {
        let mut fleet = Fleet {
            devices: HashMap::new(),
            free: Vec::new(),
            owing: HashSet::new(),
            table,
        };
        let mut damaged = 0;
        let mut payload = Vec::new();
        for slot in 0..fleet.table.used() {
            let read = match fleet.table.read(slot, &mut payload) {
                Ok(true) => DeviceState::decode(&payload),
                Ok(false) => None,
                Err(_) => {
                    damaged += 1;
                    None
                }
            };
            match read {
                Some(state) => fleet.insert(slot, state),
                None => fleet.free.push(slot),
            }
        }
        (fleet, damaged)
    }

    /// Adds the states of a snapshot for devices that the table does not know; how many.
    ///
    /// # Errors
    /// The last thing that was wrong with the snapshot. What could be read is there.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<u32, SnapshotError> {
        let mut restored = 0;
        let mut result = Ok(());
        for payload in read_snapshot(snapshot) {
            let state = match payload {
                Ok(payload) => DeviceState::decode(payload),
                Err(error) => {
                    result = Err(error);
                    None
                }
            };
            let Some(state) = state else { continue };
            if self.devices.contains_key(&state.public.device) {
                continue;
            }
            let Some(slot) = self.free_slot() else { break };
            let device = state.public.device;
            self.insert(slot, state);
            // What was read from a slot fits a slot.
            if self.switch(&device).is_ok() {
                restored += 1;
            }
        }
        result.map(|()| restored)
    }

    fn insert(&mut self, slot: u32, state: DeviceState) {
        let device = state.public.device;
        if !state.memory.owed.is_empty() {
            self.owing.insert(device);
        }
        self.devices.insert(device, Device { slot, state });
    }

    fn free_slot(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| self.table.claim())
    }

    /// A device that may be new; `None` when it is and there is no slot left.
    pub fn device(&mut self, id: DeviceId) -> Option<&mut Device> {
        if !self.devices.contains_key(&id) {
            let slot = self.free_slot()?;
            self.insert(slot, DeviceState::new(id));
        }
        self.devices.get_mut(&id)
    }

    /// The state of a known device.
    pub fn state(&self, id: &DeviceId) -> Option<&DeviceState> {
        self.devices.get(id).map(|device| &device.state)
    }

    /// An event that a device owes.
    pub fn owed(&self, id: &DeviceId, event: EventId) -> Option<&Owed> {
        let mut owed = self.state(id)?.memory.owed.iter();
        owed.find(|owed| owed.id == event)
    }

    /// Lets go of an event that is safe; whether it was owed.
    pub fn settle(&mut self, id: &DeviceId, event: EventId) -> bool {
        let device = self.devices.get_mut(id);
        device.is_some_and(|device| device.state.memory.settle(event))
    }

    /// Makes a device's state the one in the table.
    ///
    /// # Errors
    /// `Large` when it does not fit; the table keeps the state before.
    pub fn switch(&self, id: &DeviceId) -> Result<(), TableError> {
        let Some(device) = self.devices.get(id) else {
            return Ok(());
        };
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let used = device.state.encode(&mut payload).ok_or(TableError::Large)?;
        self.table.write(device.slot, &payload[..used])
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Notes that a device owes something.
    pub fn note_owing(&mut self, id: DeviceId) {
        self.owing.insert(id);
    }

    /// Devices that owe something.
    pub fn owing(&mut self) -> impl Iterator<Item = &DeviceState> {
        let devices = &self.devices;
        self.owing.retain(|id| {
            devices
                .get(id)
                .is_some_and(|device| !device.state.memory.owed.is_empty())
        });
        self.owing
            .iter()
            .filter_map(|id| devices.get(id).map(|device| &device.state))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::table;

    fn id(text: &str) -> DeviceId {
        DeviceId::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_successor_finds_every_device_and_reuses_slots_without_one() {
        let fd = table::create(3).unwrap();
        let attach = || Fleet::attach(TableWriter::attach(fd.as_fd()).unwrap()).0;
        let mut first = attach();
        for name in ["a", "b"] {
            first.device(id(name)).unwrap().state.public.received_ms = 5;
        }
        first.switch(&id("b")).unwrap();
        let mut second = attach();
        assert_eq!(second.len(), 1);
        assert_eq!(second.state(&id("b")).unwrap().public.received_ms, 5);
        assert!(second.device(id("c")).is_some() && second.device(id("d")).is_some());
        assert!(
            second.device(id("e")).is_none(),
            "three slots, three devices"
        );
    }

    #[test]
    fn a_snapshot_fills_in_what_the_table_does_not_know() {
        let old = table::create(4).unwrap();
        let mut fleet = Fleet::attach(TableWriter::attach(old.as_fd()).unwrap()).0;
        for name in ["a", "b"] {
            fleet.device(id(name)).unwrap().state.public.received_ms = 1;
            fleet.switch(&id(name)).unwrap();
        }
        let mut snapshot = Vec::new();
        let reader = table::TableReader::attach(old.as_fd()).unwrap();
        table::write_snapshot(&reader, &mut snapshot).unwrap();

        let fd = table::create(4).unwrap();
        let mut fleet = Fleet::attach(TableWriter::attach(fd.as_fd()).unwrap()).0;
        fleet.device(id("a")).unwrap().state.public.received_ms = 2;
        assert_eq!(fleet.restore(&snapshot), Ok(1));
        let received = |name| fleet.state(&id(name)).unwrap().public.received_ms;
        assert_eq!((received("a"), received("b")), (2, 1));
        // What was restored is in the table, too.
        let successor = Fleet::attach(TableWriter::attach(fd.as_fd()).unwrap()).0;
        assert_eq!(successor.len(), 1);
    }
}
