//! The state of one device: what others may read of it ([`PublicState`]) and what only the classifier remembers.
//!
//! Promises that it does not outgrow its slot of the state table: all in it has a count, and what it is about to owe is
//! only taken if it fits ([`DeviceState::make_room`]). Alarms that are open but not listed for others are the price when
//! a device has many at once; they are raised and cleared like all.

use serde::{Deserialize, Serialize};

use crate::frame::{
    AlarmKind, Alarms, DEVICE_RULE, DeviceId, Event, EventId, Fix, Origin, Phase, Severity,
};
use crate::hop::TraceHead;
use crate::table::{PAYLOAD_BYTES_MAX, PublicState};

use super::gap::{GAP_BYTES_MAX, Gap};
use super::hygiene::Seen;
use super::place::Place;
use super::receiver::Receivers;

/// Events of a device that may be owed at a time.
pub const OWED_EVENTS_MAX: usize = 4;

/// Rings of which a device remembers the last frame that it has applied.
pub const APPLIED_RINGS_MAX: usize = 4;

/// Ended alarms whose time is remembered, so that a late fix does not find them again.
pub const SPELLS_MAX: usize = 4;

/// What a state may grow by without anybody asking whether it still fits, bytes: places and times of both courses that
/// are not known yet, longer numbers, another sensor's longer name.
const GROWTH_BYTES_MAX: usize = 96;

/// Most bytes of an [`Applied`]: a ring below 2^21, a birth below 2^35, a sequence below 2^42.
const APPLIED_BYTES_MAX: usize = 14;

/// All that is known of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceState {
    /// What the dispatcher and the uplink may read.
    pub public: PublicState,
    /// What only the classifier needs.
    pub memory: Memory,
    /// Its receivers. Written behind the rest, so that a state of before there were several reads as one of those that
    /// have one.
    pub receivers: Receivers,
}

/// The private part of a device's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The last reports.
    pub seen: Seen,
    /// The last frames applied, the most recently used ring first.
    pub applied: Vec<Applied>,
    /// The course of the newest fixes.
    pub live: Course,
    /// The course of the late fixes.
    pub history: Course,
    /// Alarms that are open now but found no room in the public part.
    pub unlisted: Vec<OpenSpell>,
    /// Alarms open in the course of the late fixes.
    pub history_open: Vec<OpenSpell>,
    /// When the last alarms were, the most recent first.
    pub spells: Vec<Spell>,
    /// Events that are not safe yet, in the order in which they were found.
    pub owed: Vec<Owed>,
    /// Reports that found no room and are to come again before newer ones are applied.
    pub gap: Option<Gap>,
}

/// A frame that is part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Number of the ring.
    pub ring: u32,
    /// Birth of the ring.
    pub birth: u64,
    /// Ring sequence of the last frame applied.
    pub seq: u64,
}

/// What rules remember of a course of fixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// The newest fix that was believed.
    pub place: Option<Place>,
    /// Jumps away from it in a row.
    pub jumps: u32,
    /// First fix of an unbroken run above the speed limit, ms, until the alarm is raised.
    pub over_since_ms: Option<i64>,
    /// Time of the newest report, with a position or without, ms.
    pub report_ms: Option<i64>,
    /// Momentary alarms of that report.
    pub momentary: Alarms,
}

/// An open alarm, as far as finding its end needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSpell {
    /// What.
    pub kind: AlarmKind,
    /// The rule that found it; empty for what the device reports, so that all of its kinds fit a state at once.
    rule: String,
    /// Time of the first fix that met the condition, ms.
    pub start_ms: i64,
}

impl Course {
    /// Whether something went on in the course `before` and does not in this one.
    pub fn ends(&self, before: &Course) -> bool {
        before.momentary.0 & !self.momentary.0 != 0
            || before.over_since_ms.is_some() && self.over_since_ms.is_none()
    }
}

impl Course {
    /// Fixes of another receiver follow: what was going on is not judged across the seam, and a vehicle does not jump
    /// where only its receiver changes.
    pub fn pass_on(&mut self) {
        self.over_since_ms = None;
        self.jumps = u32::MAX;
    }
}

impl OpenSpell {
    /// An alarm that a rule found.
    pub fn new(kind: AlarmKind, rule: &str, start_ms: i64) -> OpenSpell {
        let rule = if rule == DEVICE_RULE { "" } else { rule };
        OpenSpell {
            kind,
            rule: rule.to_owned(),
            start_ms,
        }
    }

    /// The rule that found it.
    pub fn rule(&self) -> &str {
        match self.rule.as_str() {
            "" => DEVICE_RULE,
            rule => rule,
        }
    }
}

/// When an alarm was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// Kind and rule ([`spell_key`]).
    pub key: u32,
    /// First fix that met the condition, ms.
    pub from_ms: i64,
    /// The fix that ended it, or the last one seen, ms.
    pub to_ms: i64,
}

/// An event that is not safe yet: an [`Event`] without what its device's state already says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owed {
    /// Identity.
    pub id: EventId,
    /// What.
    pub kind: AlarmKind,
    /// Raised or cleared.
    pub phase: Phase,
    /// How much it matters.
    pub severity: Severity,
    /// Found in late fixes.
    pub late: bool,
    /// The rule that found it.
    pub rule: String,
    /// Time of the first fix that met the condition, ms.
    pub start_ms: i64,
    /// The fix that decided.
    pub fix: Fix,
    /// Wall clock at its reception, ms.
    pub received_ms: i64,
    /// Name of the sensor.
    pub sensor: String,
    /// Trace identity and stamps.
    pub trace: TraceHead,
}

impl Owed {
    /// The event as it goes out, under the message that waits for it, if one does.
    pub fn event(&self, device: DeviceId, origin: Option<Origin>) -> Event {
        Event {
            id: self.id,
            device,
            kind: self.kind,
            phase: self.phase,
            severity: self.severity,
            late: self.late,
            rule: self.rule.clone(),
            start_ms: self.start_ms,
            fix: self.fix,
            received_ms: self.received_ms,
            sensor: self.sensor.clone(),
            trace: self.trace,
            origin,
        }
    }
}

impl Owed {
    /// The id that it has if its alarm lasts until it is cleared; what is momentary has another.
    fn id_of_held(&self, device: &DeviceId) -> EventId {
        EventId::of_alarm(
            device,
            self.kind,
            &self.rule,
            self.start_ms as u64,
            self.phase,
        )
    }

    /// The event as the public part lists it.
    pub fn listed(&self, device: DeviceId) -> Event {
        Event {
            trace: TraceHead::default(),
            ..self.event(device, None)
        }
    }
}

/// Names a kind and a rule in a [`Spell`]. Two that share a key hide late alarms from each other, nothing more.
pub fn spell_key(kind: AlarmKind, rule: &str) -> u32 {
    // FNV-1a, 32 bits (RFC 9923).
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    rule.bytes().fold(step(0x811c_9dc5, kind as u8), step)
}

impl DeviceState {
    /// A device that nothing is known of.
    pub fn new(device: DeviceId) -> DeviceState {
        DeviceState {
            public: PublicState {
                device,
                sensor: String::new(),
                fix: Fix::default(),
                received_ms: 0,
                alarms: Vec::new(),
            },
            memory: Memory::default(),
            receivers: Receivers::default(),
        }
    }

    /// Writes the state to `out`, the public part first, the receivers last; its length, or `None` when it does not
    /// fit.
    pub fn encode(&self, out: &mut [u8; PAYLOAD_BYTES_MAX]) -> Option<usize> {
        let public = postcard::to_slice(&self.public, out).ok()?.len();
        let memory = postcard::to_slice(&self.memory, &mut out[public..])
            .ok()?
            .len();
        let receivers = postcard::to_slice(&self.receivers, &mut out[public + memory..]).ok()?;
        Some(public + memory + receivers.len())
    }

    /// Reads what [`DeviceState::encode`] wrote. What parses is kept, from the front on, as after an upgrade; `None`
    /// where not even the public part does.
    pub fn decode(payload: &[u8]) -> Option<DeviceState> {
        let (public, private) = postcard::take_from_bytes::<PublicState>(payload).ok()?;
        let (memory, rest) = postcard::take_from_bytes(private).unwrap_or_default();
        let receivers = postcard::from_bytes(rest).unwrap_or_default();
        Some(DeviceState {
            public,
            memory,
            receivers,
        })
    }

    /// Whether the state fits its slot, now and with all that it may grow by.
    fn fits(&self) -> bool {
        let gap = self.memory.gap.map_or(GAP_BYTES_MAX, |_| 0);
        let growth = GROWTH_BYTES_MAX
            + gap
            + self.memory.seen.growth_bytes()
            + self.receivers.growth_bytes()
            + (APPLIED_RINGS_MAX - self.memory.applied.len()) * APPLIED_BYTES_MAX;
        let mut scratch = [0; PAYLOAD_BYTES_MAX];
        self.encode(&mut scratch)
            .is_some_and(|used| used + growth <= PAYLOAD_BYTES_MAX)
    }

    /// Takes the listed alarms, which a restore made those that the journal knows to be open, as the whole truth but for
    /// what is owed: an event that the journal has not accepted has no row there. Whether the state fits its slot.
    pub fn settle_open(&mut self) -> bool {
        self.memory.unlisted.clear();
        let device = self.public.device;
        for owed in self.memory.owed.iter().filter(|owed| !owed.late) {
            let raised = owed.phase == Phase::Raise;
            if raised && owed.id != owed.id_of_held(&device) {
                continue;
            }
            let alarms = &mut self.public.alarms;
            alarms.retain(|alarm| (alarm.kind, &alarm.rule) != (owed.kind, &owed.rule));
            if raised {
                alarms.push(owed.listed(device));
            }
        }
        self.make_room()
    }

    /// Whether the state fits its slot, if need be with open alarms that are no longer listed for others, the least
    /// severe first.
    pub fn make_room(&mut self) -> bool {
        while !self.fits() {
            let alarms = self.public.alarms.iter().enumerate();
            let Some((least, _)) = alarms.min_by_key(|(_, alarm)| alarm.severity) else {
                return false;
            };
            let alarm = self.public.alarms.remove(least);
            let spell = OpenSpell::new(alarm.kind, &alarm.rule, alarm.start_ms);
            self.memory.unlisted.push(spell);
        }
        true
    }
}

impl Memory {
    /// Whether a frame is part of the state already.
    pub fn has_applied(&self, ring: u32, birth: u64, seq: u64) -> bool {
        let same = |a: &&Applied| a.ring == ring && a.birth == birth;
        self.applied.iter().find(same).is_some_and(|a| seq <= a.seq)
    }

    /// Notes that a frame, and with it all earlier ones of its ring, is part of the state. The ring that was used
    /// longest ago falls out.
    pub fn note_applied(&mut self, frame: Applied) {
        if let Some(first) = self.applied.first_mut()
            && (first.ring, first.birth) == (frame.ring, frame.birth)
        {
            first.seq = first.seq.max(frame.seq);
            return;
        }
        let former = self.applied.iter().position(|a| a.ring == frame.ring);
        let mut entry = frame;
        if let Some(at) = former {
            let former = self.applied.remove(at);
            if former.birth == frame.birth {
                entry.seq = entry.seq.max(former.seq);
            }
        }
        self.applied.insert(0, entry);
        self.applied.truncate(APPLIED_RINGS_MAX);
    }

    /// Forgets what was going on when the state was written down, because it is older than what was answered since: a
    /// button that was pressed then hides that it is pressed again, and a speed that was too high then says nothing of
    /// the time between. What is open stays; the journal knows it.
    pub fn forget_what_went_on(&mut self) {
        self.gap = None;
        for course in [&mut self.live, &mut self.history] {
            course.momentary = Alarms::default();
            course.over_since_ms = None;
        }
    }

    /// Remembers when an alarm was; the oldest one falls out.
    pub fn note_spell(&mut self, spell: Spell) {
        self.spells.insert(0, spell);
        self.spells.truncate(SPELLS_MAX);
    }

    /// Lets go of an event that is safe now; whether it was owed.
    pub fn settle(&mut self, id: EventId) -> bool {
        let before = self.owed.len();
        self.owed.retain(|owed| owed.id != id);
        self.owed.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(ring: u32, birth: u64, seq: u64) -> Applied {
        Applied { ring, birth, seq }
    }

    #[test]
    fn a_frame_at_or_below_the_last_one_of_its_ring_and_birth_is_applied() {
        let mut memory = Memory::default();
        memory.note_applied(applied(1, 5, 10));
        memory.note_applied(applied(2, 6, 3));
        memory.note_applied(applied(1, 5, 8));
        assert!(memory.has_applied(1, 5, 10) && !memory.has_applied(1, 5, 11));
        assert!(memory.has_applied(2, 6, 3));
        assert!(
            !memory.has_applied(1, 6, 1),
            "another birth is another ring"
        );
    }

    #[test]
    fn a_new_birth_of_a_ring_replaces_the_old_one() {
        let mut memory = Memory::default();
        memory.note_applied(applied(1, 5, 10));
        memory.note_applied(applied(1, 7, 2));
        assert_eq!(memory.applied, [applied(1, 7, 2)]);
    }

    #[test]
    fn the_last_four_rings_are_remembered() {
        let mut memory = Memory::default();
        (1..=4).for_each(|ring| memory.note_applied(applied(ring, 1, 1)));
        memory.note_applied(applied(1, 1, 2));
        memory.note_applied(applied(5, 1, 1));
        let rings: Vec<u32> = memory.applied.iter().map(|a| a.ring).collect();
        assert_eq!(rings, [5, 1, 4, 3]);
    }

    #[test]
    fn a_state_reads_back_and_its_public_part_survives_an_unknown_private_one() {
        let mut state = DeviceState::new(DeviceId::new(b"1").unwrap());
        state.public.sensor = "gate".into();
        state.memory.seen.push(7);
        let mut bytes = [0; PAYLOAD_BYTES_MAX];
        let used = state.encode(&mut bytes).unwrap();
        assert_eq!(DeviceState::decode(&bytes[..used]), Some(state.clone()));
        assert_eq!(
            PublicState::decode(&bytes[..used]),
            Some(state.public.clone())
        );
        // Of the same layout, but for the receivers: what a node wrote before it knew of several.
        let older = used - postcard::to_stdvec(&state.receivers).unwrap().len();
        assert_eq!(DeviceState::decode(&bytes[..older]), Some(state.clone()));
        let cut = DeviceState::decode(&bytes[..older - 1]).unwrap();
        assert_eq!((cut.public, cut.memory), (state.public, Memory::default()));
    }

    fn owed(device: &DeviceId, kind: AlarmKind, phase: Phase) -> Owed {
        Owed {
            id: EventId::of_alarm(device, kind, DEVICE_RULE, 5, phase),
            kind,
            phase,
            severity: kind.severity(),
            late: false,
            rule: DEVICE_RULE.into(),
            start_ms: 5,
            fix: Fix::default(),
            received_ms: 5,
            sensor: "gate".into(),
            trace: TraceHead::default(),
        }
    }

    #[test]
    fn what_is_open_after_a_restore_is_what_the_journal_knows_and_what_is_owed() {
        use AlarmKind::{PowerCut, PowerLow, Sos, Theft};
        use Phase::{Clear, Raise};
        let device = DeviceId::new(b"1").unwrap();
        let mut state = DeviceState::new(device);
        let row = |kind| owed(&device, kind, Raise).listed(device);
        state.public.alarms = vec![row(PowerCut), row(PowerLow)];
        state.memory.unlisted = vec![OpenSpell::new(PowerLow, DEVICE_RULE, 5)];
        let mut momentary = owed(&device, Sos, Raise);
        momentary.id = EventId([1; 16]);
        state.memory.owed = vec![
            owed(&device, PowerCut, Clear),
            owed(&device, Theft, Raise),
            momentary,
        ];
        assert!(state.settle_open());
        let open: Vec<AlarmKind> = state.public.alarms.iter().map(|a| a.kind).collect();
        assert_eq!(open, [PowerLow, Theft]);
        assert_eq!(state.memory.unlisted, []);
    }

    #[test]
    fn a_restored_state_that_is_larger_than_a_slot_is_made_to_fit() {
        let device = DeviceId::new(b"1").unwrap();
        let mut state = DeviceState::new(device);
        let rows = AlarmKind::ALL.iter();
        let rows = rows.map(|kind| owed(&device, *kind, Phase::Raise).listed(device));
        state.public.alarms = rows.collect();
        assert!(state.settle_open());
        let open = state.public.alarms.len() + state.memory.unlisted.len();
        assert_eq!(open, AlarmKind::ALL.len());
        assert!(state.encode(&mut [0; PAYLOAD_BYTES_MAX]).is_some());
    }

    #[test]
    fn the_memory_reads_back() {
        let mut memory = Memory::default();
        memory.note_applied(applied(1, 5, 10));
        memory.note_spell(Spell {
            key: spell_key(AlarmKind::Sos, "device"),
            from_ms: -1,
            to_ms: 5,
        });
        memory.seen.push(99);
        memory.live.over_since_ms = Some(7);
        let bytes = postcard::to_stdvec(&memory).unwrap();
        assert_eq!(postcard::from_bytes::<Memory>(&bytes).unwrap(), memory);
    }
}
