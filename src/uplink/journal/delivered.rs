//! Ids of the events delivered last: an event that comes again after its record was deleted is accepted without a
//! second record, within the bound of [`DELIVERED_IDS_MAX`].
//!
//! On disk it is a ring of rows, so that a delete writes to the page that the delete before it wrote to; an index by
//! id would write to a random one. Each row also carries the highest sequence ever given out, which is how sequences
//! stay unique when the journal is empty.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, params};

use super::{Doing, JournalError};

/// Ids remembered.
pub(super) const DELIVERED_IDS_MAX: u64 = 4096;

/// The ids, in memory as on disk.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// How often each is in `order`: an open alarm that is sent again after a crash is delivered twice.
    ids: HashMap<[u8; 16], u32>,
    order: VecDeque<[u8; 16]>,
    /// Rows written in the life of the journal; row `turn` is in slot `turn % DELIVERED_IDS_MAX`.
    turn: u64,
    high: u64,
    /// Ids written by the transaction that runs.
    unsettled: usize,
}

impl Delivered {
    /// Reads the ring.
    pub(super) fn load(db: &Connection) -> Result<Delivered, JournalError> {
        let mut delivered = Delivered::default();
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = db.prepare("SELECT turn, id, high FROM delivered ORDER BY turn")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id = row.get(1)?;
                delivered.turn = row.get::<_, u64>(0)? + 1;
                delivered.high = delivered.high.max(row.get(2)?);
                *delivered.ids.entry(id).or_insert(0) += 1;
                delivered.order.push_back(id);
            }
            Ok(())
        };
        read().doing("read the delivered ids")?;
        Ok(delivered)
    }

    /// The highest sequence that any row knows of.
    pub(super) fn high(&self) -> u64 {
        self.high
    }

    /// Whether the event was delivered lately.
    pub(super) fn contains(&self, id: &[u8; 16]) -> bool {
        self.ids.contains_key(id)
    }

    /// Adds an id in the transaction that runs. `high` is the highest sequence given out so far.
    pub(super) fn remember(
        &mut self,
        db: &Connection,
        id: [u8; 16],
        high: u64,
    ) -> rusqlite::Result<()> {
        db.prepare_cached(
            "INSERT OR REPLACE INTO delivered (slot, turn, id, high) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![self.turn % DELIVERED_IDS_MAX, self.turn, id, high])?;
        self.turn += 1;
        *self.ids.entry(id).or_insert(0) += 1;
        self.order.push_back(id);
        self.unsettled += 1;
        Ok(())
    }

    /// The transaction is on disk: the oldest ids go.
    pub(super) fn settle(&mut self) {
        self.unsettled = 0;
        while self.order.len() as u64 > DELIVERED_IDS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.forget(&oldest);
            }
        }
    }

    fn forget(&mut self, id: &[u8; 16]) {
        if let Some(count) = self.ids.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.ids.remove(id);
            }
        }
    }

    /// The transaction failed: what it added goes.
    pub(super) fn forget_unsettled(&mut self) {
        for _ in 0..self.unsettled {
            if let Some(newest) = self.order.pop_back() {
                self.forget(&newest);
                self.turn -= 1;
            }
        }
        self.unsettled = 0;
    }
}
