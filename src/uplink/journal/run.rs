//! How the runs of the node ended, and the open alarms that are written again after one that did not end in order.
//!
//! A run is named by the birth of its alarm ring. Three rows of `meta` say all: `run` is the last run that owed no
//! repeats any more, `doubt` the last one that began with repeats, `ended` the last one that ended with everything taken
//! in, in the journal and in the snapshot. A run that finds `ended` to be `run` begins on what its predecessor left in
//! order; any other owes the cloud every open alarm once more, under its old id, because a crash may have taken from
//! others what the journal took for delivered.
//!
//! Repeats are written in small batches, so that new alarms never wait for them. A run that is killed in between, or
//! that finds no room, leaves `run` as it was: its successor begins with the repeats again.

use rusqlite::{Connection, OptionalExtension, params};

use super::record::Record;
use super::{COMMIT_RECORDS_MAX, Doing, Journal, JournalError, Stored, is_full_or_busy, schema};
use crate::frame::Event;
use crate::sys::fail::{self, Point};

/// What a run still owes.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    birth: u64,
    /// Key of the last open alarm that was looked at, while any are to be written again.
    owes_after: Option<Vec<u8>>,
    exact: bool,
    /// It is `run` already.
    noted: bool,
}

/// A batch of open alarms written again.
#[derive(Debug)]
pub struct Repeated {
    /// The new records.
    pub records: Vec<Stored>,
    /// What is left.
    pub left: Left,
}

/// What is left to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// More of them.
    More,
    /// More of them than there is room for now.
    Full,
}

impl Journal {
    /// Finds out what the run of this birth begins on, or goes on with after a restart; whether the snapshot is what the
    /// run before ended with. Nothing is written before [`Journal::serve_run`].
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn begin_run(&mut self, birth: u64) -> Result<bool, JournalError> {
        let read = |key| meta(&self.db, key).doing("read how the last run ended");
        let (last, ended, doubt) = (read("run")?, read("ended")?, read("doubt")?);
        let birth_text = Some(birth.to_string());
        let in_order = match &last {
            Some(_) => last == birth_text || last == ended,
            // No run has ever served: what is open is from before runs were noted.
            None => self.is_none_open()?,
        };
        self.run = Run {
            birth,
            owes_after: (!in_order).then(Vec::new),
            exact: in_order && doubt != birth_text,
            noted: last == birth_text,
        };
        Ok(self.run.exact)
    }

    /// Notes that the run has begun, right before anybody can add to it: one that was killed while it started has
    /// changed nothing. Without room for the note the run is one in doubt: repeats cost less than what they are for.
    /// Whether open alarms are to be written again.
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn serve_run(&mut self) -> Result<bool, JournalError> {
        let birth = self.run.birth.to_string();
        if self.run.owes_after.is_some() {
            self.note("doubt", &birth)?;
        } else if !self.run.noted && !self.note("run", &birth)? {
            self.run.owes_after = Some(Vec::new());
        }
        Ok(self.run.owes_after.is_some())
    }

    /// Whether the run began on the states that the one before ended with.
    pub fn began_exact(&self) -> bool {
        self.run.exact
    }

    /// Writes the next open alarms again, at the wall clock `now_ms`: those of which no record waits for the broker.
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn repeat(&mut self, now_ms: i64) -> Result<Repeated, JournalError> {
        let Some(after) = self.run.owes_after.clone() else {
            return Ok(Repeated::nothing());
        };
        match self.repeat_after(after, now_ms) {
            Ok(repeated) => Ok(repeated),
            Err(cause) if is_full_or_busy(&cause) => {
                self.undo()?;
                Ok(Repeated {
                    records: Vec::new(),
                    left: Left::Full,
                })
            }
            Err(cause) => Err(JournalError::Database {
                doing: "write open alarms again",
                cause,
            }),
        }
    }

    fn repeat_after(&mut self, mut after: Vec<u8>, now_ms: i64) -> rusqlite::Result<Repeated> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let rows = open_after(&self.db, &after)?;
        let mut left = if rows.len() < COMMIT_RECORDS_MAX {
            Left::Nothing
        } else {
            Left::More
        };
        let mut room = self.room();
        let mut records = Vec::new();
        for OpenRow { key, body, crc } in rows {
            // One that fails its checksum was counted when the states were restored.
            let event = Event::decode(&body).ok();
            if let Some(event) = event.filter(|_| Some(crc32c::crc32c(&body)) == crc) {
                let cost = body.len() as u64 + super::RECORD_OVERHEAD_BYTES;
                if !room.has(cost, event.severity) {
                    left = Left::Full;
                    break;
                }
                let record = Record {
                    seq: self.next_seq + records.len() as u64,
                    id: event.id.0,
                    accepted_ms: now_ms,
                    body: &body,
                };
                if record.insert(&self.db)? {
                    room.take(cost);
                    records.push(Stored {
                        seq: record.seq,
                        accepted_ms: now_ms,
                        event,
                    });
                    fail::pass(Point::UplinkRepeating);
                }
            }
            after = key.unwrap_or(after);
        }
        if left == Left::Nothing {
            set_meta(&self.db, "run", &self.run.birth.to_string())?;
        }
        self.db.prepare_cached("COMMIT")?.execute([])?;
        fail::pass(Point::UplinkRepeated);
        self.next_seq += records.len() as u64;
        self.records += records.len() as u64;
        self.pages_used = schema::pages_used(&self.db)?;
        self.run.owes_after = (left != Left::Nothing).then_some(after);
        Ok(Repeated { records, left })
    }

    /// Notes that this run ended in order; without room for that, the next one takes it for one that did not. One that
    /// began in doubt and changed nothing leaves the doubt to the next.
    ///
    /// # Errors
    /// [`JournalError::Database`].
    pub fn end_run(&mut self) -> Result<bool, JournalError> {
        let birth = self.run.birth.to_string();
        self.note("ended", &birth)
    }

    fn is_none_open(&self) -> Result<bool, JournalError> {
        let open = open_after(&self.db, &[]).doing("look for open alarms")?;
        Ok(open.is_empty())
    }

    /// Writes a row of `meta` in a transaction of its own; `false`: no room.
    fn note(&mut self, key: &str, value: &str) -> Result<bool, JournalError> {
        match set_meta(&self.db, key, value) {
            Ok(()) => Ok(true),
            Err(cause) if is_full_or_busy(&cause) => self.undo().map(|()| false),
            Err(cause) => Err(JournalError::Database {
                doing: "note the run",
                cause,
            }),
        }
    }
}

impl Repeated {
    fn nothing() -> Repeated {
        Repeated {
            records: Vec::new(),
            left: Left::Nothing,
        }
    }
}

/// A row of an open alarm as far as it can be read: a flipped bit may change a length or a type as well as a value.
struct OpenRow {
    key: Option<Vec<u8>>,
    body: Vec<u8>,
    crc: Option<u32>,
}

/// The next open alarms, as many as one commit takes.
fn open_after(db: &Connection, after: &[u8]) -> rusqlite::Result<Vec<OpenRow>> {
    let mut statement = db.prepare_cached(
        "SELECT key, body, crc FROM open_alarm WHERE key > ?1 ORDER BY key LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after, COMMIT_RECORDS_MAX as u64], |row| {
        Ok(OpenRow {
            key: row.get(0).ok(),
            body: row.get(1).unwrap_or_default(),
            crc: row.get(2).ok(),
        })
    })?;
    rows.collect()
}

fn meta(db: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
        row.get(0)
    })
    .optional()
}

fn set_meta(db: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute([key, value])
        .map(drop)
}
