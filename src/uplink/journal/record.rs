//! One record: its checksum, reading it back, and where a record goes that cannot be trusted or delivered.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Stored;
use crate::frame::Event;

/// What the checksum covers: everything.
pub(super) struct Record<'a> {
    pub(super) seq: u64,
    pub(super) id: [u8; 16],
    pub(super) accepted_ms: i64,
    pub(super) body: &'a [u8],
}

impl Record<'_> {
    /// CRC-32C over all fields, so that a row that took another's place is found too.
    pub(super) fn checksum(&self) -> u32 {
        let mut crc = crc32c::crc32c(&self.seq.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &self.id);
        crc = crc32c::crc32c_append(crc, &self.accepted_ms.to_le_bytes());
        crc32c::crc32c_append(crc, self.body)
    }

    /// Writes it in the transaction that runs; `false`: a record of this event is there already.
    pub(super) fn insert(&self, db: &Connection) -> rusqlite::Result<bool> {
        let inserted = db
            .prepare_cached(
                "INSERT INTO record (seq, id, accepted_ms, body, crc) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                self.seq,
                self.id,
                self.accepted_ms,
                self.body,
                self.checksum()
            ])?;
        Ok(inserted > 0)
    }
}

/// A record, or why it cannot be trusted.
type Checked = Result<Stored, &'static str>;

/// Reads one record; `None` if it is gone.
pub(super) fn read(db: &Connection, seq: u64) -> rusqlite::Result<Option<Checked>> {
    db.prepare_cached("SELECT seq, id, accepted_ms, body, crc FROM record WHERE seq = ?1")?
        .query_row([seq], |row| Ok(check(row)))
        .optional()
}

/// Hands every good record to `each` and returns the bad ones.
pub(super) fn scan(
    db: &Connection,
    each: &mut impl FnMut(Stored),
) -> rusqlite::Result<Vec<(u64, &'static str)>> {
    let mut statement =
        db.prepare("SELECT seq, id, accepted_ms, body, crc FROM record ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let mut bad = Vec::new();
    while let Some(row) = rows.next()? {
        match check(row) {
            Ok(stored) => each(stored),
            Err(why) => bad.push((row.get(0)?, why)),
        }
    }
    Ok(bad)
}

/// Whatever a row holds, of whatever type: a flipped bit may change a length or a type as well as a value.
fn check(row: &Row<'_>) -> Checked {
    const FIELD: &str = "a field has the wrong type or size";
    let field = |_| FIELD;
    let record = Record {
        seq: row.get(0).map_err(field)?,
        id: row.get(1).map_err(field)?,
        accepted_ms: row.get(2).map_err(field)?,
        body: row
            .get_ref(3)
            .map_err(field)?
            .as_blob()
            .map_err(|_| FIELD)?,
    };
    if row.get(4) != Ok(record.checksum()) {
        return Err("the checksum does not match");
    }
    let event = Event::decode(record.body).map_err(|_| "the body is no event")?;
    Ok(Stored {
        seq: record.seq,
        accepted_ms: record.accepted_ms,
        event,
    })
}

/// Moves a record to the quarantine, in the transaction that runs or in one of its own. Returns how many it moved: one,
/// or none if it was gone.
pub(super) fn quarantine(
    db: &Connection,
    seq: u64,
    reason: &str,
    now_ms: i64,
) -> rusqlite::Result<u64> {
    let savepoint = |sql| db.prepare_cached(sql)?.execute([]);
    savepoint("SAVEPOINT quarantine")?;
    db.prepare_cached(
        "INSERT OR REPLACE INTO quarantine (seq, at_ms, reason, id, body)
         SELECT seq, ?2, ?3, id, body FROM record WHERE seq = ?1",
    )?
    .execute(params![seq, now_ms, reason])?;
    let moved = db
        .prepare_cached("DELETE FROM record WHERE seq = ?1")?
        .execute([seq])?;
    savepoint("RELEASE quarantine")?;
    Ok(moved as u64)
}
