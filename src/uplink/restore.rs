//! The device states of the last run, as the classifier gets them: the newest snapshot, corrected by the alarms that
//! the journal knows to be open.
//!
//! The snapshot may be a quarter of an hour old; a row of an open alarm is as true as the commit that wrote it. So a
//! device's open alarms are its rows, all of them, and the rest of its state is the snapshot's. What its owed events make
//! of that, and how it fits a slot, only the classifier can tell.

use std::collections::HashMap;

use crate::frame::{DeviceId, Event};
use crate::hop::TraceHead;
use crate::table::{PublicState, SnapshotWriter, read_snapshot};

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Devices in the result.
    pub devices: u32,
    /// States of the snapshot that were damaged and are left out.
    pub damaged: u32,
}

/// Merges a snapshot (empty: there is none) and the open alarms into a snapshot.
pub fn restore(snapshot: &[u8], open: Vec<Event>) -> (Vec<u8>, Report) {
    let mut alarms: HashMap<DeviceId, Vec<Event>> = HashMap::new();
    for mut event in open {
        // A state lists alarms without them, to save room.
        (event.trace, event.origin) = (TraceHead::default(), None);
        alarms.entry(event.device).or_default().push(event);
    }
    let mut report = Report::default();
    let mut out = SnapshotWriter::new(Vec::with_capacity(snapshot.len()));
    let states = (!snapshot.is_empty()).then(|| read_snapshot(snapshot));
    for payload in states.into_iter().flatten() {
        let parsed = payload.ok().and_then(split);
        let Some((mut state, private)) = parsed else {
            report.damaged += 1;
            continue;
        };
        state.alarms = alarms.remove(&state.device).unwrap_or_default();
        write(&mut out, &mut report, &state, private);
    }
    for (device, alarms) in alarms {
        let newest = alarms.iter().max_by_key(|event| event.received_ms);
        let newest = newest.expect("a device is listed with its first alarm");
        let state = PublicState {
            device,
            sensor: newest.sensor.clone(),
            fix: newest.fix,
            received_ms: newest.received_ms,
            alarms,
        };
        write(&mut out, &mut report, &state, &[]);
    }
    let bytes = out.finish().expect("memory takes what is written");
    (bytes, report)
}

/// The public part of a payload, and the classifier's own, which is opaque here.
fn split(payload: &[u8]) -> Option<(PublicState, &[u8])> {
    PublicState::decode(payload)?;
    postcard::take_from_bytes(payload).ok()
}

/// Writes a state; it may be larger than a slot.
fn write(
    out: &mut SnapshotWriter<Vec<u8>>,
    report: &mut Report,
    state: &PublicState,
    private: &[u8],
) {
    let mut payload = postcard::to_stdvec(state).expect("memory takes what is written");
    payload.extend_from_slice(private);
    out.push(&payload).expect("memory takes what is written");
    report.devices += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{AlarmKind, EventId, Fix, Phase, Severity};
    use crate::table::PAYLOAD_BYTES_MAX;

    fn device(n: u8) -> DeviceId {
        DeviceId::new(&[b'0' + n]).unwrap()
    }

    fn alarm(n: u8, rule: &str) -> Event {
        Event {
            id: EventId::derive(&device(n), rule, 1, Phase::Raise),
            device: device(n),
            kind: AlarmKind::Overspeed,
            phase: Phase::Raise,
            severity: Severity::Warning,
            late: false,
            rule: rule.to_owned(),
            start_ms: 1,
            fix: Fix::default(),
            received_ms: 2,
            sensor: "gate".to_owned(),
            trace: TraceHead::default(),
            origin: None,
        }
    }

    fn state(n: u8, alarms: Vec<Event>) -> PublicState {
        PublicState {
            device: device(n),
            sensor: "gate".to_owned(),
            fix: Fix::default(),
            received_ms: 2,
            alarms,
        }
    }

    fn payload(state: &PublicState, private: &[u8]) -> Vec<u8> {
        let mut bytes = postcard::to_stdvec(state).unwrap();
        bytes.extend_from_slice(private);
        bytes
    }

    fn snapshot(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut out = SnapshotWriter::new(Vec::new());
        payloads
            .iter()
            .for_each(|payload| out.push(payload).unwrap());
        out.finish().unwrap()
    }

    fn states(bytes: &[u8]) -> Vec<(PublicState, Vec<u8>)> {
        let parts = read_snapshot(bytes).map(|payload| split(payload.unwrap()).unwrap());
        parts
            .map(|(state, private)| (state, private.to_vec()))
            .collect()
    }

    #[test]
    fn rows_of_open_alarms_win_over_the_snapshot_and_the_rest_stays() {
        let old = snapshot(&[
            payload(&state(1, vec![alarm(1, "cleared since")]), b"private"),
            payload(&state(2, vec![alarm(2, "still open")]), b""),
        ]);
        let open = vec![
            alarm(2, "still open"),
            alarm(2, "raised since"),
            alarm(3, "new device"),
        ];
        let (bytes, report) = restore(&old, open);
        assert_eq!((report.devices, report.damaged), (3, 0));
        assert_eq!(
            states(&bytes),
            [
                (state(1, vec![]), b"private".to_vec()),
                (
                    state(2, vec![alarm(2, "still open"), alarm(2, "raised since")]),
                    vec![]
                ),
                (state(3, vec![alarm(3, "new device")]), vec![]),
            ]
        );
    }

    #[test]
    fn open_alarms_alone_make_a_snapshot_and_what_is_no_state_is_left_out() {
        let (bytes, _) = restore(&[], vec![alarm(1, "a")]);
        assert_eq!(states(&bytes).len(), 1);
        let old = snapshot(&[b"no state".to_vec(), payload(&state(1, vec![]), b"x")]);
        let (bytes, report) = restore(&old, vec![]);
        assert_eq!((states(&bytes).len(), report.damaged), (1, 1));
        let (bytes, _) = restore(b"rubbish", vec![]);
        assert_eq!(states(&bytes).len(), 0);
    }

    #[test]
    fn every_open_alarm_is_there_however_many_they_are() {
        let private = vec![7; PAYLOAD_BYTES_MAX - 300];
        let old = snapshot(&[payload(&state(1, vec![]), &private)]);
        let rules: Vec<String> = (0..60).map(|n| format!("rule {n}")).collect();
        let (bytes, _) = restore(&old, rules.iter().map(|rule| alarm(1, rule)).collect());
        let found = states(&bytes);
        assert_eq!(found[0].1, private);
        assert_eq!(found[0].0.alarms.len(), 60);
    }
}
