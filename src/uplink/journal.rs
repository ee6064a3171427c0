//! The journal: where an alarm is from the moment it is accepted until the broker confirms it.
//!
//! One SQLite database, one connection, one owner ([`super::writer`] gives it a thread of its own). What
//! [`Journal::commit`] reports as accepted was on disk when it returned; what it refuses has left no trace. Every
//! record carries its own sequence and checksum, because SQLite returns wrong bytes without a word when a disk does;
//! a record that fails is moved to the table `quarantine` and counted, and the journal goes on.
//!
//! Bounded by `bytes_max`: above 90 % only critical alarms are taken, at the end nothing. What was accepted is never
//! dropped to make room. Deciding what to send, and when, is left to [`super::publisher`].

mod delivered;
mod open_alarm;
mod record;
mod run;
mod schema;
mod snapshot;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use crate::frame::{Event, Severity};
use crate::sys::fail::{self, Point};
use delivered::Delivered;
use record::Record;
use run::Run;

pub use open_alarm::OpenAlarm;
pub use run::{Left, Repeated};
pub use schema::SCHEMA_VERSION;
pub use snapshot::Snapshot;

/// Most records in one commit.
pub const COMMIT_RECORDS_MAX: usize = 256;

/// Share of the journal, in percent, above which only critical alarms are taken.
pub const ORDINARY_PERCENT_MAX: u64 = 90;

/// Share of the journal, in percent, above which the uplink calls itself degraded.
pub const DEGRADED_PERCENT: u64 = 80;

/// Pages kept free for what deleting itself writes (the ring of delivered ids, the rows of the quarantine).
const DELETE_PAGES_RESERVED: u64 = 64;

/// What a record costs beside its body: id twice, sequence, checksum, cell headers, and a third for half-full pages.
const RECORD_OVERHEAD_BYTES: u64 = 160;

/// Why a record was not accepted. A refusal is an answer: the device is not answered and sends again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The journal has no room for a record of this severity.
    Full,
    /// No broker would take a message of this size.
    Size,
    /// The disk has no room.
    Disk,
}

/// What became of one record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is on disk under this sequence.
    Accepted(u64),
    /// Its event is in the journal already, or was delivered a short while ago.
    Known,
    /// It was not taken.
    Refused(Refusal),
}

/// A record that asks to be accepted.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// The same as [`Event::encode`] wrote it.
    pub body: Vec<u8>,
}

/// Work for one commit.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Records to accept, at most [`COMMIT_RECORDS_MAX`].
    pub entries: Vec<Entry>,
    /// Sequences that the broker confirmed.
    pub delivered: Vec<u64>,
    /// Sequences that the broker will never take, and the MQTT reason code that it gave.
    pub quarantined: Vec<(u64, u8)>,
}

impl Batch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.delivered.is_empty() && self.quarantined.is_empty()
    }
}

/// What a commit did.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// One verdict for each entry, in order.
    pub verdicts: Vec<Verdict>,
    /// Whether `delivered` and `quarantined` were carried out; if not, they are to be handed in again.
    pub deleted: bool,
}

/// A record read back, its checksum verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Sequence in this journal.
    pub seq: u64,
    /// Wall clock at its commit, milliseconds since 1970.
    pub accepted_ms: i64,
    /// The event.
    pub event: Event,
}

/// How full the journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Records not yet confirmed.
    pub records: u64,
    /// Records set aside: damaged, or refused by the broker for good.
    pub quarantined: u64,
    /// Rows of any kind that failed their checksum since the journal was opened.
    pub damaged: u64,
    /// Bytes of pages in use.
    pub bytes: u64,
    /// Most bytes.
    pub bytes_max: u64,
}

impl Usage {
    /// Use in percent.
    pub fn percent(&self) -> u64 {
        self.bytes * 100 / self.bytes_max.max(1)
    }
}

/// Why the journal cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be made or opened.
    #[error("cannot open journal \"{}\": {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// SQLite is older than the fix of a bug that loses committed records.
    #[error("cannot use SQLite {found}: the journal needs 3.51.3 or newer")]
    Engine {
        /// Its version.
        found: String,
    },
    /// A newer version of this program wrote the journal.
    #[error(
        "cannot read journal \"{}\": its schema is {found}, this program knows {SCHEMA_VERSION}; \
         start the newer version again, or move the file away to begin an empty journal", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// The file is a database, but not a journal.
    #[error("cannot use \"{}\": it is a database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The database failed. Whether the last commit reached the disk is unknown, so the process must end.
    #[error("cannot {doing}: {cause}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        cause: rusqlite::Error,
    },
}

/// Names what was tried when the database fails.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, JournalError>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, JournalError> {
        self.map_err(|cause| JournalError::Database { doing, cause })
    }
}

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    uuid: String,
    /// Sequence of the next accepted record; never used twice in the life of this journal.
    next_seq: u64,
    delivered: Delivered,
    run: Run,
    page_bytes: u64,
    pages_max: u64,
    pages_used: u64,
    records: u64,
    quarantined: u64,
    damaged: u64,
}

impl Journal {
    /// Opens the journal of a state directory, or makes it, with room for `bytes_max`.
    ///
    /// # Errors
    /// Any [`JournalError`]; the file is left as it was.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Journal, JournalError> {
        let db = schema::open(path, bytes_max)?;
        let uuid = schema::uuid(&db)?;
        let delivered = Delivered::load(&db)?;
        let highest: u64 = db
            .query_row(
                "SELECT coalesce(max(seq), 0)
                 FROM (SELECT max(seq) AS seq FROM record UNION ALL SELECT max(seq) FROM quarantine)",
                [],
                |row| row.get(0),
            )
            .doing("read the journal's last sequence")?;
        let page_bytes = schema::pragma(&db, "page_size")?;
        let pages_max = schema::pragma(&db, "max_page_count")?;
        let count = |sql| db.query_row(sql, [], |row| row.get(0));
        let records = count("SELECT count(*) FROM record").doing("count the records")?;
        let quarantined =
            count("SELECT count(*) FROM quarantine").doing("count the quarantined records")?;
        let next_seq = highest.max(delivered.high()) + 1;
        let mut journal = Journal {
            db,
            uuid,
            next_seq,
            delivered,
            run: Run::default(),
            page_bytes,
            pages_max,
            pages_used: 0,
            records,
            quarantined,
            damaged: 0,
        };
        journal.measure()?;
        Ok(journal)
    }

    /// Identity of this journal: a node that lost its disk has a new one, and its sequences begin anew.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        Usage {
            records: self.records,
            quarantined: self.quarantined,
            damaged: self.damaged,
            bytes: self.pages_used * self.page_bytes,
            bytes_max: self.pages_max * self.page_bytes,
        }
    }

    /// Carries out a batch in one transaction, at the wall clock `now_ms`. A full disk or journal refuses the batch's
    /// entries and is no error.
    ///
    /// # Errors
    /// [`JournalError::Database`] for any other failure: nothing of the batch may be called accepted, and the process
    /// must end, because a failed fsync leaves nothing to reason about.
    pub fn commit(&mut self, batch: &Batch, now_ms: i64) -> Result<Committed, JournalError> {
        match self.transact(batch, now_ms) {
            Ok(committed) => Ok(committed),
            Err(cause) if is_full_or_busy(&cause) => {
                self.undo()?;
                self.commit_without_entries(batch, now_ms)
            }
            Err(cause) => Err(JournalError::Database {
                doing: "commit to the journal",
                cause,
            }),
        }
    }

    /// Second try of a batch after a full disk: deletes alone, which may make room.
    fn commit_without_entries(
        &mut self,
        batch: &Batch,
        now_ms: i64,
    ) -> Result<Committed, JournalError> {
        let deletes = Batch {
            entries: Vec::new(),
            delivered: batch.delivered.clone(),
            quarantined: batch.quarantined.clone(),
        };
        let deleted = match self.transact(&deletes, now_ms) {
            Ok(_) => true,
            Err(cause) if is_full_or_busy(&cause) => {
                self.undo()?;
                false
            }
            Err(cause) => {
                return Err(JournalError::Database {
                    doing: "delete from the journal",
                    cause,
                });
            }
        };
        // SQLite says the same of its own limit and of the disk's; the journal's is near only when it is nearly full.
        let full = self.usage().percent() >= ORDINARY_PERCENT_MAX;
        let refusal = if full { Refusal::Full } else { Refusal::Disk };
        let verdicts = vec![Verdict::Refused(refusal); batch.entries.len()];
        Ok(Committed { verdicts, deleted })
    }

    fn transact(&mut self, batch: &Batch, now_ms: i64) -> rusqlite::Result<Committed> {
        fail::pass(Point::UplinkBegin);
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let (mut next_seq, mut records) = (self.next_seq, self.records);
        let mut quarantined = 0;
        for &seq in &batch.delivered {
            let id: Option<[u8; 16]> = self
                .db
                .prepare_cached("DELETE FROM record WHERE seq = ?1 RETURNING id")?
                .query_row([seq], |row| row.get(0))
                .optional()?;
            if let Some(id) = id {
                self.delivered.remember(&self.db, id, next_seq - 1)?;
                records -= 1;
                fail::pass(Point::UplinkDeleting);
            }
        }
        for &(seq, reason) in &batch.quarantined {
            quarantined += record::quarantine(&self.db, seq, &reason_text(reason), now_ms)?;
        }
        let mut room = self.room();
        let mut verdicts = Vec::with_capacity(batch.entries.len());
        for entry in &batch.entries {
            let verdict = self.accept(entry, next_seq, now_ms, &mut room)?;
            if matches!(verdict, Verdict::Accepted(_)) {
                next_seq += 1;
                records += 1;
                fail::pass(Point::UplinkInserted);
            }
            verdicts.push(verdict);
        }
        fail::pass(Point::UplinkCommit);
        self.db.prepare_cached("COMMIT")?.execute([])?;
        fail::pass(Point::UplinkCommitted);
        if !batch.delivered.is_empty() {
            fail::pass(Point::UplinkDeleted);
        }
        // Only now is anything true outside the transaction.
        self.next_seq = next_seq;
        self.records = records - quarantined;
        self.quarantined += quarantined;
        self.delivered.settle();
        self.pages_used = schema::pages_used(&self.db)?;
        Ok(Committed {
            verdicts,
            deleted: true,
        })
    }

    fn accept(
        &self,
        entry: &Entry,
        seq: u64,
        now_ms: i64,
        room: &mut Room,
    ) -> rusqlite::Result<Verdict> {
        if self.delivered.contains(&entry.event.id.0) {
            return Ok(Verdict::Known);
        }
        let cost = entry.body.len() as u64 + RECORD_OVERHEAD_BYTES;
        if !room.has(cost, entry.event.severity) {
            let known = self
                .db
                .prepare_cached("SELECT 1 FROM record WHERE id = ?1")?
                .exists([&entry.event.id.0])?;
            let refused = Verdict::Refused(Refusal::Full);
            return Ok(if known { Verdict::Known } else { refused });
        }
        let record = Record {
            seq,
            id: entry.event.id.0,
            accepted_ms: now_ms,
            body: &entry.body,
        };
        if !record.insert(&self.db)? {
            return Ok(Verdict::Known);
        }
        open_alarm::follow(&self.db, entry)?;
        room.take(cost);
        Ok(Verdict::Accepted(seq))
    }

    /// Reads records by sequence, at the wall clock `now_ms`. One that is gone, or that fails its checksum and was
    /// moved to the quarantine for it, is left out.
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn read(&mut self, seqs: &[u64], now_ms: i64) -> Result<Vec<Stored>, JournalError> {
        let mut found = Vec::with_capacity(seqs.len());
        let mut bad = Vec::new();
        for &seq in seqs {
            match record::read(&self.db, seq).doing("read from the journal")? {
                Some(Ok(stored)) => found.push(stored),
                Some(Err(why)) => bad.push((seq, why)),
                None => {}
            }
        }
        self.contain(&bad, now_ms)?;
        Ok(found)
    }

    /// Hands every record to `each`, oldest first, and contains those that fail their checksum. For the start.
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn scan(&mut self, now_ms: i64, mut each: impl FnMut(Stored)) -> Result<(), JournalError> {
        let bad = record::scan(&self.db, &mut each).doing("read the journal")?;
        self.contain(&bad, now_ms)
    }

    /// Moves records that failed to the quarantine. A full disk leaves them where they are; they fail again.
    fn contain(&mut self, bad: &[(u64, &'static str)], now_ms: i64) -> Result<(), JournalError> {
        if let Some((seq, why)) = bad.first() {
            let others = bad.len() - 1;
            tracing::error!(
                "journal is damaged: record {seq} and {others} others set aside: {why}"
            );
        }
        for &(seq, why) in bad {
            self.damaged += 1;
            match record::quarantine(&self.db, seq, why, now_ms) {
                Ok(moved) => {
                    self.records -= moved;
                    self.quarantined += moved;
                }
                Err(cause) if is_full_or_busy(&cause) => {}
                Err(cause) => {
                    let doing = "quarantine a damaged record";
                    return Err(JournalError::Database { doing, cause });
                }
            }
        }
        if bad.is_empty() {
            Ok(())
        } else {
            self.measure()
        }
    }

    /// The alarms that were raised and not cleared, as far as accepted. A row that fails its checksum is left out and
    /// counted.
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn open_alarms(&mut self) -> Result<Vec<OpenAlarm>, JournalError> {
        let (alarms, damaged) = open_alarm::read(&self.db).doing("read the open alarms")?;
        self.damaged += damaged;
        Ok(alarms)
    }

    /// Replaces the snapshot. `false`: no room; the former one stays.
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn write_snapshot(&mut self, snapshot: &Snapshot) -> Result<bool, JournalError> {
        let pages = snapshot.body.len() as u64 / self.page_bytes + 2;
        if self.pages_used + pages > self.pages_max * ORDINARY_PERCENT_MAX / 100 {
            return Ok(false);
        }
        fail::pass(Point::UplinkSnapshot);
        match snapshot::write(&self.db, snapshot) {
            Ok(()) => {
                fail::pass(Point::UplinkSnapshotted);
                self.measure().map(|()| true)
            }
            Err(cause) if is_full_or_busy(&cause) => self.undo().map(|()| false),
            Err(cause) => Err(JournalError::Database {
                doing: "write the snapshot",
                cause,
            }),
        }
    }

    /// The newest snapshot; `None` if there is none or it fails its checksum, which is counted.
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn read_snapshot(&mut self) -> Result<Option<Snapshot>, JournalError> {
        match snapshot::read(&self.db).doing("read the snapshot")? {
            Some(Ok(snapshot)) => Ok(Some(snapshot)),
            Some(Err(why)) => {
                self.damaged += 1;
                tracing::error!(why, "snapshot is damaged, starting without it");
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Ends a transaction that failed; SQLite may have ended it by itself.
    fn undo(&mut self) -> Result<(), JournalError> {
        self.delivered.forget_unsettled();
        if !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK").doing("roll back")?;
        }
        Ok(())
    }

    fn measure(&mut self) -> Result<(), JournalError> {
        self.pages_used = schema::pages_used(&self.db).doing("measure the journal")?;
        Ok(())
    }

    fn room(&self) -> Room {
        let used = self.pages_used;
        let bytes = |pages: u64| pages.saturating_sub(used) * self.page_bytes;
        Room {
            ordinary: bytes(self.pages_max * ORDINARY_PERCENT_MAX / 100),
            critical: bytes(self.pages_max.saturating_sub(DELETE_PAGES_RESERVED)),
        }
    }
}

/// Bytes left in the running transaction. Pages that its own deletes free count from the next one on.
struct Room {
    ordinary: u64,
    critical: u64,
}

impl Room {
    fn has(&self, bytes: u64, severity: Severity) -> bool {
        let left = match severity {
            Severity::Critical => self.critical.max(self.ordinary),
            Severity::Warning | Severity::Info => self.ordinary,
        };
        bytes <= left
    }

    fn take(&mut self, bytes: u64) {
        self.ordinary = self.ordinary.saturating_sub(bytes);
        self.critical = self.critical.saturating_sub(bytes);
    }
}

/// The two failures that leave the database as it was: no room, and a lock that somebody holds.
fn is_full_or_busy(cause: &rusqlite::Error) -> bool {
    matches!(
        cause.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy)
    )
}

fn reason_text(reason: u8) -> String {
    format!("refused by the broker, reason 0x{reason:02x}")
}
