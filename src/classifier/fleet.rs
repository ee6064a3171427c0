//! The devices and their slots in the state table. What is judged is judged on the states here; the table follows when
//! a batch is switched, so that a successor finds the state before the batch or after it.

use std::collections::{HashMap, HashSet};

use crate::frame::{DeviceId, EventId};
use crate::sys::fail::{self, Point};
use crate::table::{PAYLOAD_BYTES_MAX, SnapshotError, TableError, TableWriter, read_snapshot};

use super::state::{DeviceState, Owed};

/// A device's place in the fleet, good for as long as the fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Berth(u32);

/// A device with its slot.
#[derive(Debug)]
struct Device {
    slot: u32,
    /// Perhaps newer than the one in the table.
    state: DeviceState,
}

/// All devices.
pub struct Fleet {
    table: TableWriter,
    devices: Vec<Device>,
    berths: HashMap<DeviceId, Berth>,
    /// Slots handed out that hold no device.
    free: Vec<u32>,
    owing: HashSet<DeviceId>,
}

impl Fleet {
    /// Takes over a table and all states in it. Slots that cannot be read are given to other devices; the second value
    /// counts them.
    pub fn attach(table: TableWriter) -> (Fleet, u32) {
        let mut fleet = Fleet {
            devices: Vec::new(),
            berths: HashMap::new(),
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
                Some(state) => {
                    fleet.insert(slot, state);
                }
                None => fleet.free.push(slot),
            }
        }
        (fleet, damaged)
    }

    /// Adds the states of a snapshot for devices that the table does not know; how many. `exact`: they are those of the
    /// end of the last run. `ranks`: those of this run's sensors.
    ///
    /// # Errors
    /// The last thing that was wrong with the snapshot. What could be read is there.
    pub fn restore(
        &mut self,
        snapshot: &[u8],
        exact: bool,
        ranks: &[u8],
    ) -> Result<u32, SnapshotError> {
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
            let Some(mut state) = state else { continue };
            if self.berths.contains_key(&state.public.device) {
                continue;
            }
            let Some(slot) = self.free_slot() else { break };
            state.settle_open();
            state.receivers.begin_anew(ranks);
            if !exact {
                state.memory.forget_what_went_on();
                state.receivers.forget_what_went_on();
            }
            let berth = self.insert(slot, state);
            if self.switch(berth).is_ok() {
                restored += 1;
                fail::pass(Point::ClassifierRestoring);
            }
        }
        result.map(|()| restored)
    }

    fn insert(&mut self, slot: u32, state: DeviceState) -> Berth {
        let device = state.public.device;
        if !state.memory.owed.is_empty() {
            self.owing.insert(device);
        }
        let berth = Berth(self.devices.len() as u32);
        self.berths.insert(device, berth);
        self.devices.push(Device { slot, state });
        berth
    }

    fn free_slot(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| self.table.claim())
    }

    /// Finds a device that may be new; `None` when it is and there is no slot left.
    pub fn find(&mut self, id: DeviceId) -> Option<Berth> {
        match self.berths.get(&id) {
            Some(berth) => Some(*berth),
            None => {
                let slot = self.free_slot()?;
                Some(self.insert(slot, DeviceState::new(id)))
            }
        }
    }

    /// A device's state.
    pub fn state(&self, berth: Berth) -> &DeviceState {
        &self.devices[berth.0 as usize].state
    }

    /// A device's state, to be changed.
    pub fn state_mut(&mut self, berth: Berth) -> &mut DeviceState {
        &mut self.devices[berth.0 as usize].state
    }

    /// An event that a device owes.
    pub fn owed(&self, id: &DeviceId, event: EventId) -> Option<&Owed> {
        let berth = self.berths.get(id)?;
        let mut owed = self.state(*berth).memory.owed.iter();
        owed.find(|owed| owed.id == event)
    }

    /// Lets go of an event that is safe; the device, if it owed that.
    pub fn settle(&mut self, id: &DeviceId, event: EventId) -> Option<Berth> {
        let berth = *self.berths.get(id)?;
        let owed = self.state_mut(berth).memory.settle(event);
        owed.then_some(berth)
    }

    /// Makes a device's state the one in the table.
    ///
    /// # Errors
    /// `Large` when it does not fit; the table keeps the state before.
    pub fn switch(&self, berth: Berth) -> Result<(), TableError> {
        let device = &self.devices[berth.0 as usize];
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
        let (berths, devices) = (&self.berths, &self.devices);
        let state = |id: &DeviceId| berths.get(id).map(|berth| &devices[berth.0 as usize].state);
        self.owing
            .retain(|id| state(id).is_some_and(|state| !state.memory.owed.is_empty()));
        self.owing.iter().filter_map(state)
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

    /// Sets what a test looks for in a device's state.
    fn set(fleet: &mut Fleet, name: &str, received_ms: i64) -> Berth {
        let berth = fleet.find(id(name)).unwrap();
        fleet.state_mut(berth).public.received_ms = received_ms;
        berth
    }

    fn received_ms(fleet: &mut Fleet, name: &str) -> i64 {
        let berth = fleet.find(id(name)).unwrap();
        fleet.state(berth).public.received_ms
    }

    #[test]
    fn a_successor_finds_every_device_and_reuses_slots_without_one() {
        let fd = table::create(3).unwrap();
        let attach = || Fleet::attach(TableWriter::attach(fd.as_fd()).unwrap()).0;
        let mut first = attach();
        set(&mut first, "a", 5);
        let berth = set(&mut first, "b", 5);
        first.switch(berth).unwrap();
        let mut second = attach();
        assert_eq!(second.len(), 1);
        assert_eq!(received_ms(&mut second, "b"), 5);
        let found = ["c", "d", "e"].map(|name| second.find(id(name)).is_some());
        assert_eq!(found, [true, true, false], "three slots, three devices");
    }

    /// After a power cut the snapshot said that a button was pressed. It was released and pressed again since, which made
    /// an alarm; after the restart a third press looked like the first one and raised nothing, though it was answered.
    #[test]
    fn a_state_older_than_what_was_answered_does_not_hide_that_a_button_is_pressed_again() {
        use crate::classifier::testing::{classify, report, rule_set, with_digest};
        use crate::frame::AlarmKind;

        let pressed = |time_ms| {
            let mut frame = report("a", time_ms);
            frame.momentary = AlarmKind::Sos.into();
            with_digest(frame)
        };
        let old = table::create(4).unwrap();
        let mut fleet = Fleet::attach(TableWriter::attach(old.as_fd()).unwrap()).0;
        let berth = fleet.find(id("a")).unwrap();
        let verdict = classify(fleet.state(berth), &pressed(1_000), &rule_set());
        fleet
            .state_mut(berth)
            .apply(&pressed(1_000), "gate", &verdict);
        fleet.switch(berth).unwrap();
        let mut snapshot = Vec::new();
        let reader = table::TableReader::attach(old.as_fd()).unwrap();
        table::write_snapshot(&reader, &mut snapshot).unwrap();
        for (exact, raises) in [(true, 0), (false, 1)] {
            let fd = table::create(4).unwrap();
            let mut fleet = Fleet::attach(TableWriter::attach(fd.as_fd()).unwrap()).0;
            assert_eq!(fleet.restore(&snapshot, exact, &[1]), Ok(1));
            let berth = fleet.find(id("a")).unwrap();
            let verdict = classify(fleet.state(berth), &pressed(60_000), &rule_set());
            assert_eq!(verdict.transitions.len(), raises, "exact: {exact}");
        }
    }

    #[test]
    fn a_snapshot_fills_in_what_the_table_does_not_know() {
        let old = table::create(4).unwrap();
        let mut fleet = Fleet::attach(TableWriter::attach(old.as_fd()).unwrap()).0;
        for name in ["a", "b"] {
            let berth = set(&mut fleet, name, 1);
            fleet.switch(berth).unwrap();
        }
        let mut snapshot = Vec::new();
        let reader = table::TableReader::attach(old.as_fd()).unwrap();
        table::write_snapshot(&reader, &mut snapshot).unwrap();

        let fd = table::create(4).unwrap();
        let mut fleet = Fleet::attach(TableWriter::attach(fd.as_fd()).unwrap()).0;
        set(&mut fleet, "a", 2);
        assert_eq!(fleet.restore(&snapshot, true, &[1]), Ok(1));
        assert_eq!(received_ms(&mut fleet, "a"), 2);
        assert_eq!(received_ms(&mut fleet, "b"), 1);
        // What was restored is in the table, too.
        let successor = Fleet::attach(TableWriter::attach(fd.as_fd()).unwrap()).0;
        assert_eq!(successor.len(), 1);
    }
}
