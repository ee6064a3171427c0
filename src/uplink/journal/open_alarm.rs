//! The alarms that are raised and not cleared: one row each, written in the raise's commit and deleted in the clear's.
//! After a crash they win over the snapshot of the state table, which may be a quarter of an hour old.

use rusqlite::{Connection, params};

use super::Entry;
use crate::frame::{Event, EventId, Phase};

/// An open alarm: the event that raised it.
pub type OpenAlarm = Event;

/// Writes or deletes the row that follows from an entry, in the transaction that runs. Late events say nothing about
/// now, and what a device reports once is never cleared, so neither opens anything.
pub(super) fn follow(db: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let event = &entry.event;
    match event.phase {
        _ if event.late => Ok(()),
        Phase::Raise if holds(event) => db
            .prepare_cached(
                "INSERT OR REPLACE INTO open_alarm (key, body, crc) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![key(event), entry.body, crc32c::crc32c(&entry.body)])
            .map(drop),
        Phase::Raise => Ok(()),
        Phase::Clear => db
            .prepare_cached("DELETE FROM open_alarm WHERE key = ?1")?
            .execute([key(event)])
            .map(drop),
    }
}

/// Whether the alarm lasts until it is cleared: then its id follows from its start.
fn holds(event: &Event) -> bool {
    let start = event.start_ms as u64;
    event.id == EventId::of_alarm(&event.device, event.kind, &event.rule, start, event.phase)
}

/// A device has at most one open alarm of a kind under a rule.
fn key(event: &Event) -> Vec<u8> {
    let mut key = event.device.encode().to_vec();
    key.push(event.kind as u8);
    key.extend_from_slice(event.rule.as_bytes());
    key
}

/// All open alarms, and how many rows failed their checksum.
pub(super) fn read(db: &Connection) -> rusqlite::Result<(Vec<OpenAlarm>, u64)> {
    let mut statement = db.prepare("SELECT body, crc FROM open_alarm")?;
    let mut rows = statement.query([])?;
    let (mut alarms, mut damaged) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body = row.get_ref(0)?.as_blob().unwrap_or_default();
        let good = row.get(1) == Ok(crc32c::crc32c(body));
        match Event::decode(body) {
            Ok(event) if good => alarms.push(event),
            _ => damaged += 1,
        }
    }
    Ok((alarms, damaged))
}
