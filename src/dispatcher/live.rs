//! The live view: the latest fix and the open alarms of every vehicle.
//!
//! Pure: it is told what came in and answers what subscribers must hear. A vehicle never moves backwards in time, so
//! records that a predecessor left in the ring cannot undo what the state table already said. Nothing here is kept
//! from one process to the next; the state table is the memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::json::{self, Alarm, Track};
use super::trail::Trail;
use crate::frame::{
    AlarmKind, Alarms, DEVICE_RULE, DeviceId, Event, Fix, FixFields, Frame, Phase, SensorChange,
};

/// Open alarms kept for one vehicle; more are told to subscribers but not listed. Each kind once and a few fences.
pub const OPEN_ALARMS_MAX: usize = 64;

/// How long a momentary alarm is listed that another receiver reported than the one whose tracks are shown, ms: who
/// looks at the map a moment later must still see it.
const MOMENTARY_MS: i64 = 60_000;

/// Number of a vehicle in the view; stays while the process lives.
pub type Slot = u32;

/// What the state table says about a device.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Whose.
    pub device: DeviceId,
    /// The sensor that its last fix came in by.
    pub sensor: Box<str>,
    /// Its last fix.
    pub fix: Fix,
    /// Wall clock at reception, milliseconds since 1970.
    pub received_ms: i64,
    /// Its open alarms.
    pub open: Vec<Alarm>,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The vehicle has a new track; subscribers must hear of it.
    Changed(Slot),
    /// Nothing changed: already known, or older than what is known.
    Known,
    /// The view is full and the vehicle is not in it.
    Full,
}

/// One vehicle.
struct Vehicle {
    device: DeviceId,
    sensor: Box<str>,
    fix: Fix,
    received_ms: i64,
    open: Vec<Alarm>,
    trail: Trail,
    /// The track as JSON, shared by the update log and every subscriber.
    track: Arc<str>,
}

/// The latest of every vehicle.
pub struct LiveView {
    slots: HashMap<DeviceId, Slot>,
    vehicles: Vec<Vehicle>,
    vehicles_max: usize,
    /// Reused to write JSON.
    scratch: String,
}

impl LiveView {
    /// An empty view of at most `vehicles_max` vehicles.
    pub fn new(vehicles_max: usize) -> LiveView {
        LiveView {
            slots: HashMap::new(),
            vehicles: Vec::new(),
            vehicles_max,
            scratch: String::new(),
        }
    }

    /// Takes a frame from the ring. It does not say its sensor: the one last told stands.
    pub fn apply_track(&mut self, frame: &Frame) -> Applied {
        let Some((slot, new)) = self.slot(&frame.device) else {
            return Applied::Full;
        };
        let vehicle = &mut self.vehicles[slot as usize];
        if !new && age_key(&frame.fix, frame.received_ms) < vehicle.age_key() {
            return Applied::Known;
        }
        vehicle.fix = frame.fix;
        vehicle.received_ms = frame.received_ms;
        vehicle.end_reported(frame);
        self.write(slot);
        Applied::Changed(slot)
    }

    /// Takes word from the ring by which sensor a vehicle's tracks come in from now on. It goes out with the next one.
    pub fn apply_sensor(&mut self, change: &SensorChange) {
        if let Some(&slot) = self.slots.get(&change.device) {
            self.vehicles[slot as usize].set_sensor(&change.sensor);
        }
    }

    /// Takes an event from the ring. Late events change nothing that is live. The caller tells subscribers of the
    /// event itself; the vehicle's next track lists what is open.
    pub fn apply_event(&mut self, event: &Event) -> Applied {
        if event.late {
            return Applied::Known;
        }
        let Some((slot, new)) = self.slot(&event.device) else {
            return Applied::Full;
        };
        let vehicle = &mut self.vehicles[slot as usize];
        if new {
            vehicle.fix = event.fix;
            vehicle.received_ms = event.received_ms;
        }
        // Its tracks may come in by another.
        if vehicle.sensor.is_empty() {
            vehicle.set_sensor(&event.sensor);
        }
        let same = |open: &Alarm| open.kind == event.kind && *open.rule == *event.rule;
        let known = vehicle.open.iter().position(same);
        match (event.phase, known) {
            (Phase::Raise, Some(at)) => vehicle.open[at] = alarm_of(event),
            (Phase::Raise, None) if vehicle.open.len() < OPEN_ALARMS_MAX => {
                vehicle.open.push(alarm_of(event));
            }
            (Phase::Clear, Some(at)) => drop(vehicle.open.remove(at)),
            (Phase::Raise | Phase::Clear, None) => {}
        }
        self.write(slot);
        Applied::Changed(slot)
    }

    /// Takes what the state table says. Another sensor alone is no news; it goes out with the next track. An older
    /// state changes nothing: the table is switched after the ring is written, so its open alarms may be behind as well.
    pub fn resync(&mut self, state: State) -> Applied {
        let Some((slot, new)) = self.slot(&state.device) else {
            return Applied::Full;
        };
        let vehicle = &mut self.vehicles[slot as usize];
        if !new {
            let (told, known) = (age_key(&state.fix, state.received_ms), vehicle.age_key());
            let same_alarms = vehicle.open.iter().map(|open| open.id);
            let same = told == known && same_alarms.eq(state.open.iter().map(|open| open.id));
            if same || told < known {
                // An older state may be of before a change that the ring told of.
                if same || vehicle.sensor.is_empty() {
                    vehicle.set_sensor(&state.sensor);
                }
                self.write(slot);
                return Applied::Known;
            }
        }
        vehicle.fix = state.fix;
        vehicle.received_ms = state.received_ms;
        vehicle.set_sensor(&state.sensor);
        vehicle.open = state.open;
        vehicle.open.truncate(OPEN_ALARMS_MAX);
        self.write(slot);
        Applied::Changed(slot)
    }

    /// Count of vehicles; slots are `0..len`.
    pub fn len(&self) -> usize {
        self.vehicles.len()
    }

    /// Whose a slot is.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn device(&self, slot: Slot) -> &DeviceId {
        &self.vehicles[slot as usize].device
    }

    /// The sensor that a vehicle's last fix came in by; empty: not told yet.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn sensor(&self, slot: Slot) -> &str {
        &self.vehicles[slot as usize].sensor
    }

    /// The latest track of a vehicle as JSON.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn track(&self, slot: Slot) -> &Arc<str> {
        &self.vehicles[slot as usize].track
    }

    /// Appends the GeoJSON feature of a device with its trail; whether there is such a device.
    pub fn write_feature_with_trail(&self, out: &mut String, device: &DeviceId) -> bool {
        let Some(&slot) = self.slots.get(device) else {
            return false;
        };
        let vehicle = &self.vehicles[slot as usize];
        let trail = vehicle.trail.points();
        json::write_feature(out, &vehicle.as_track(), vehicle.open_kinds(), Some(trail));
        true
    }

    /// Appends the GeoJSON feature of a device; whether there is one and its fix passes `wanted`.
    pub fn write_feature(
        &self,
        out: &mut String,
        device: &DeviceId,
        wanted: impl Fn(&Fix) -> bool,
    ) -> bool {
        let slot = self.slots.get(device);
        let vehicle = slot.map(|&slot| &self.vehicles[slot as usize]);
        match vehicle.filter(|vehicle| wanted(&vehicle.fix)) {
            Some(vehicle) => vehicle.write_feature(out),
            None => return false,
        }
        true
    }

    /// Appends the features of those of `slots` whose fix passes `wanted`, with commas between. `empty` says whether
    /// nothing was written yet, over several calls.
    pub fn write_features(
        &self,
        out: &mut String,
        slots: Range<usize>,
        empty: &mut bool,
        wanted: impl Fn(&Fix) -> bool,
    ) {
        let vehicles = self.vehicles[slots].iter();
        for vehicle in vehicles.filter(|vehicle| wanted(&vehicle.fix)) {
            if !std::mem::take(empty) {
                out.push(',');
            }
            vehicle.write_feature(out);
        }
    }

    /// Every open alarm.
    pub fn open_alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.vehicles.iter().flat_map(|vehicle| &vehicle.open)
    }

    /// The slot of a device, made if there is room, and whether it was made.
    fn slot(&mut self, device: &DeviceId) -> Option<(Slot, bool)> {
        if let Some(&slot) = self.slots.get(device) {
            return Some((slot, false));
        }
        if self.vehicles.len() >= self.vehicles_max {
            return None;
        }
        let slot = Slot::try_from(self.vehicles.len()).ok()?;
        self.vehicles.push(Vehicle {
            device: *device,
            sensor: "".into(),
            fix: Fix::default(),
            received_ms: 0,
            open: Vec::new(),
            trail: Trail::default(),
            track: "".into(),
        });
        self.slots.insert(*device, slot);
        Some((slot, true))
    }

    /// Writes a vehicle's track anew, and the point that it leaves.
    fn write(&mut self, slot: Slot) {
        let vehicle = &mut self.vehicles[slot as usize];
        vehicle.trail.add(&vehicle.fix);
        self.scratch.clear();
        json::write_track(&mut self.scratch, &vehicle.as_track(), vehicle.open_kinds());
        vehicle.track = self.scratch.as_str().into();
    }
}

impl Vehicle {
    fn as_track(&self) -> Track<'_> {
        Track {
            device: &self.device,
            sensor: &self.sensor,
            fix: &self.fix,
            received_ms: self.received_ms,
        }
    }

    /// Each open kind once, in the order of their bits.
    fn open_kinds(&self) -> impl Iterator<Item = AlarmKind> + use<> {
        let open: Alarms = self.open.iter().map(|alarm| alarm.kind).collect();
        AlarmKind::ALL
            .iter()
            .copied()
            .filter(move |&kind| open.contains(kind))
    }

    fn write_feature(&self, out: &mut String) {
        json::write_feature(out, &self.as_track(), self.open_kinds(), None);
    }

    fn set_sensor(&mut self, sensor: &str) {
        if !sensor.is_empty() && *self.sensor != *sensor {
            self.sensor = sensor.into();
        }
    }

    /// Ends what the device reported and does not any more. A momentary bit is never cleared by an event: it is open as
    /// long as the device keeps saying so. What another receiver of the vehicle reported is not in this frame: an alarm
    /// that it holds is cleared by an event, a momentary one is taken as over after a while.
    fn end_reported(&mut self, frame: &Frame) {
        let reported = Alarms(frame.held.0 | frame.momentary.0);
        let sensor = &self.sensor;
        self.open.retain(|alarm| {
            let elsewhere = || {
                let age_ms = frame.received_ms.saturating_sub(alarm.received_ms);
                alarm.sensor != *sensor && (age_ms < MOMENTARY_MS || alarm.is_held())
            };
            &*alarm.rule != DEVICE_RULE || reported.contains(alarm.kind) || elsewhere()
        });
    }

    fn age_key(&self) -> i64 {
        age_key(&self.fix, self.received_ms)
    }
}

/// An alarm as subscribers see it, of an event from the ring.
pub fn alarm_of(event: &Event) -> Alarm {
    Alarm {
        id: event.id,
        device: event.device,
        kind: event.kind,
        phase: event.phase,
        severity: event.severity,
        rule: event.rule.as_str().into(),
        start_ms: event.start_ms,
        fix: event.fix,
        received_ms: event.received_ms,
        late: event.late,
        sensor: event.sensor.as_str().into(),
    }
}

/// Where a fix lies in its vehicle's time: its own time, or that of reception where it has none.
fn age_key(fix: &Fix, received_ms: i64) -> i64 {
    if fix.fields.has(FixFields::TIME) {
        fix.time_ms
    } else {
        received_ms
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::frame::{AlarmKind, EventId, FrameFlags, Severity};
    use crate::hop::TraceHead;

    pub fn fix(time_ms: i64) -> Fix {
        Fix {
            time_ms,
            lat_e7: 437_400_000,
            lon_e7: 74_200_000,
            fields: FixFields(FixFields::POSITION | FixFields::TIME | FixFields::VALID),
            ..Fix::default()
        }
    }

    pub fn device(name: &str) -> DeviceId {
        DeviceId::new(name.as_bytes()).unwrap()
    }

    pub fn frame(name: &str, time_ms: i64) -> Frame {
        Frame {
            trace: TraceHead::default(),
            device: device(name),
            fix: fix(time_ms),
            held: Alarms::default(),
            momentary: Alarms::default(),
            flags: FrameFlags::default(),
            answer_index: 0,
            message_first_seq: 0,
            received_ms: time_ms + 5,
            digest: 0,
            attributes: Vec::new(),
        }
    }

    pub fn event(name: &str, kind: AlarmKind, rule: &str, phase: Phase, time_ms: i64) -> Event {
        Event {
            id: EventId::derive(&device(name), rule, time_ms as u64, phase),
            device: device(name),
            kind,
            phase,
            severity: Severity::Warning,
            late: false,
            rule: rule.into(),
            start_ms: time_ms,
            fix: fix(time_ms),
            received_ms: time_ms + 5,
            sensor: "yard".into(),
            trace: TraceHead::default(),
            origin: None,
        }
    }

    fn alarms_of(view: &LiveView, slot: Slot) -> Vec<String> {
        let track: serde_json::Value = serde_json::from_str(view.track(slot)).unwrap();
        serde_json::from_value(track["alarms"].clone()).unwrap()
    }

    #[test]
    fn a_vehicle_never_moves_backwards_in_time() {
        let mut view = LiveView::new(10);
        assert_eq!(view.apply_track(&frame("a", 2_000)), Applied::Changed(0));
        assert_eq!(view.apply_track(&frame("a", 1_000)), Applied::Known);
        assert_eq!(view.apply_track(&frame("b", 1_000)), Applied::Changed(1));
        assert!(view.track(0).contains("00:00:02.000"));
    }

    #[test]
    fn a_full_view_refuses_new_vehicles_and_serves_known_ones() {
        let mut view = LiveView::new(1);
        assert_eq!(view.apply_track(&frame("a", 1)), Applied::Changed(0));
        assert_eq!(view.apply_track(&frame("b", 1)), Applied::Full);
        assert_eq!(view.apply_track(&frame("a", 2)), Applied::Changed(0));
    }

    #[test]
    fn a_raised_alarm_is_open_until_it_is_cleared() {
        let mut view = LiveView::new(10);
        view.apply_track(&frame("a", 1_000));
        view.apply_event(&event(
            "a",
            AlarmKind::Overspeed,
            "overspeed",
            Phase::Raise,
            1_000,
        ));
        view.apply_event(&event(
            "a",
            AlarmKind::Geofence,
            "yard",
            Phase::Raise,
            1_000,
        ));
        view.apply_event(&event(
            "a",
            AlarmKind::Geofence,
            "port",
            Phase::Raise,
            1_000,
        ));
        view.apply_track(&frame("a", 2_000));
        assert_eq!(alarms_of(&view, 0), ["overspeed", "geofence"]);
        view.apply_event(&event(
            "a",
            AlarmKind::Geofence,
            "yard",
            Phase::Clear,
            2_000,
        ));
        assert_eq!(alarms_of(&view, 0), ["overspeed", "geofence"]);
        view.apply_event(&event(
            "a",
            AlarmKind::Geofence,
            "port",
            Phase::Clear,
            2_000,
        ));
        assert_eq!(alarms_of(&view, 0), ["overspeed"]);
        assert_eq!(view.open_alarms().count(), 1);
    }

    #[test]
    fn what_a_device_reports_is_open_while_it_reports_it_whatever_the_order() {
        for event_first in [true, false] {
            let mut view = LiveView::new(10);
            let mut sos = frame("a", 1_000);
            sos.momentary = Alarms::from(AlarmKind::Sos);
            let raised = event("a", AlarmKind::Sos, "device", Phase::Raise, 1_000);
            if event_first {
                view.apply_event(&raised);
                view.apply_track(&sos);
            } else {
                view.apply_track(&sos);
                view.apply_event(&raised);
            }
            assert_eq!(alarms_of(&view, 0), ["sos"]);
            view.apply_track(&frame("a", 2_000));
            assert_eq!(alarms_of(&view, 0), [""; 0]);
        }
    }

    fn told(view: &mut LiveView, sensor: &str) {
        view.apply_sensor(&SensorChange {
            device: device("a"),
            sensor: sensor.into(),
        });
    }

    #[test]
    fn a_track_names_the_sensor_that_was_told_last() {
        let mut view = LiveView::new(10);
        view.apply_track(&frame("a", 1_000));
        told(&mut view, "roof");
        view.apply_track(&frame("a", 2_000));
        // An SOS by the receiver that is not in use, and a state of before.
        view.apply_event(&event("a", AlarmKind::Sos, "device", Phase::Raise, 2_000));
        view.resync(State {
            device: device("a"),
            sensor: "dash".into(),
            fix: fix(1_000),
            received_ms: 1_005,
            open: Vec::new(),
        });
        view.apply_track(&frame("a", 3_000));
        assert!(view.track(0).contains("\"sensor\":\"roof\""));
        told(&mut view, "dash");
        view.apply_track(&frame("a", 4_000));
        assert!(view.track(0).contains("\"sensor\":\"dash\""));
    }

    #[test]
    fn what_another_receiver_reported_is_not_ended_by_tracks_that_cannot_state_it() {
        let mut view = LiveView::new(10);
        view.apply_track(&frame("a", 1_000));
        told(&mut view, "roof");
        // Held: its id follows from its start. The other is momentary.
        let mut cut = event("a", AlarmKind::PowerCut, "device", Phase::Raise, 1_000);
        cut.id = EventId::of_alarm(&device("a"), cut.kind, "device", 1_000, Phase::Raise);
        view.apply_event(&cut);
        view.apply_event(&event("a", AlarmKind::Sos, "device", Phase::Raise, 1_000));
        view.apply_track(&frame("a", 2_000));
        assert_eq!(alarms_of(&view, 0), ["sos", "power_cut"]);
        view.apply_track(&frame("a", 1_000 + MOMENTARY_MS));
        assert_eq!(alarms_of(&view, 0), ["power_cut"]);
        cut.phase = Phase::Clear;
        view.apply_event(&cut);
        assert_eq!(alarms_of(&view, 0), [""; 0]);
    }

    #[test]
    fn a_late_event_opens_nothing() {
        let mut view = LiveView::new(10);
        view.apply_track(&frame("a", 9_000));
        let mut late = event("a", AlarmKind::Overspeed, "overspeed", Phase::Raise, 1_000);
        late.late = true;
        assert_eq!(view.apply_event(&late), Applied::Known);
        assert_eq!(view.open_alarms().count(), 0);
    }

    #[test]
    fn a_resync_takes_what_is_newer_and_leaves_what_is_older() {
        let mut view = LiveView::new(10);
        view.apply_track(&frame("a", 2_000));
        let state = |time_ms: i64, open: &[Event]| State {
            device: device("a"),
            sensor: "table".into(),
            fix: fix(time_ms),
            received_ms: time_ms + 5,
            open: open.iter().map(alarm_of).collect(),
        };
        let raised = event("a", AlarmKind::Overspeed, "overspeed", Phase::Raise, 1_000);
        assert_eq!(
            view.resync(state(1_000, std::slice::from_ref(&raised))),
            Applied::Known
        );
        assert_eq!(view.resync(state(2_000, &[])), Applied::Known);
        assert_eq!(
            view.resync(state(2_000, std::slice::from_ref(&raised))),
            Applied::Changed(0)
        );
        assert_eq!(alarms_of(&view, 0), ["overspeed"]);
        assert_eq!(view.resync(state(3_000, &[])), Applied::Changed(0));
        assert!(view.track(0).contains("\"table\"") && view.open_alarms().count() == 0);
    }
}
