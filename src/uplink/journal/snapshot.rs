//! The snapshot of the state table: one blob that the journal keeps and does not look into.

use rusqlite::{Connection, OptionalExtension, params};

/// The states of all devices at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Wall clock when it was taken, milliseconds since 1970.
    pub at_ms: i64,
    /// The blob, in the format of [`crate::table`]'s snapshots.
    pub body: Vec<u8>,
}

impl Snapshot {
    fn checksum(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.at_ms.to_le_bytes()), &self.body)
    }
}

/// Replaces the snapshot in one transaction.
pub(super) fn write(db: &Connection, snapshot: &Snapshot) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO snapshot (slot, at_ms, body, crc) VALUES (0, ?1, ?2, ?3)",
    )?
    .execute(params![snapshot.at_ms, snapshot.body, snapshot.checksum()])
    .map(drop)
}

/// Reads the snapshot, or why it cannot be trusted; `None` if there is none.
pub(super) fn read(db: &Connection) -> rusqlite::Result<Option<Result<Snapshot, &'static str>>> {
    db.query_row(
        "SELECT at_ms, body, crc FROM snapshot WHERE slot = 0",
        [],
        |row| {
            let snapshot = Snapshot {
                at_ms: row.get(0)?,
                body: row.get(1)?,
            };
            let good = row.get(2) == Ok(snapshot.checksum());
            Ok(if good {
                Ok(snapshot)
            } else {
                Err("the checksum does not match")
            })
        },
    )
    .optional()
}
