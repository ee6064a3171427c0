//! The journal's own thread: one task at a time, so that an fsync never holds up the ring or the broker.
//!
//! The data thread has at most one task of each kind under way; what comes meanwhile gathers with it, which is the whole
//! of group commit. The first error that the journal cannot survive is handed over as such and ends the thread.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::journal::{Batch, Committed, Journal, JournalError, Repeated, Snapshot, Stored, Usage};
use crate::sys::clock::wall_ms;
use crate::sys::fail::{self, Point};
use crate::table::{TableReader, write_snapshot};

/// Tasks that may wait: one of each kind.
const TASKS_MAX: usize = 5;

/// Bytes of a snapshot's buffer that are kept for the next one.
const SNAPSHOT_BUFFER_BYTES: usize = 1 << 20;

/// Something to do.
#[derive(Debug)]
pub enum Task {
    /// Carry out a batch.
    Commit(Batch),
    /// Read these records.
    Load(Vec<u64>),
    /// Write the state table down, if it changed since the last time.
    Snapshot,
    /// Write some of the open alarms again.
    Repeat,
    /// Note that the run ends in order, if the snapshot is up to date.
    End,
}

/// Something done.
#[derive(Debug)]
pub enum Done {
    /// A batch, handed back with what became of it.
    Committed {
        /// The batch.
        batch: Batch,
        /// What became of it.
        committed: Committed,
        /// How long it took.
        took: Duration,
        /// How full the journal is now.
        usage: Usage,
    },
    /// Records that were asked for, without those that are gone.
    Loaded {
        /// What was asked for.
        asked: Vec<u64>,
        /// What was found.
        found: Vec<Stored>,
    },
    /// The snapshot was looked after; whether one was written.
    Snapshot(bool),
    /// Open alarms were written again.
    Repeated {
        /// The new records, and what is left.
        repeated: Repeated,
        /// How full the journal is now.
        usage: Usage,
    },
    /// The run has ended.
    Ended,
}

/// The thread's handle.
pub struct Writer {
    tasks: SyncSender<Task>,
    done: mpsc::Receiver<Result<Done, JournalError>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread. The table is what snapshots are taken of. `restored`: so many devices were handed back at the
    /// start; a table with fewer has not been filled with them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start(journal: Journal, table: TableReader, restored: u32) -> io::Result<Writer> {
        let (tasks, todo) = sync_channel(TASKS_MAX);
        let (tell, done) = mpsc::channel(TASKS_MAX);
        let slots = table.slots();
        let desk = Desk {
            journal,
            table,
            snapshot_of: None,
            // A smaller table than the last run's never has more.
            restored: restored.min(slots),
            buffer: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || desk.work(&todo, &tell))?;
        Ok(Writer {
            tasks,
            done,
            thread,
        })
    }

    /// Hands over a task. A thread that has ended says so by [`Writer::next`].
    ///
    /// # Panics
    /// When there is one of this kind under way: the caller counts.
    pub fn give(&self, task: Task) {
        use std::sync::mpsc::TrySendError;
        match self.tasks.try_send(task) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => panic!("one task of each kind fits"),
        }
    }

    /// Waits for the next result; `None` when the thread has ended. May be cancelled.
    pub async fn next(&mut self) -> Option<Result<Done, JournalError>> {
        self.done.recv().await
    }

    /// Lets the thread finish what it has and close the journal. `in_order`: everything that came is in there.
    pub fn close(self, in_order: bool) {
        if in_order {
            self.give(Task::End);
        }
        drop(self.tasks);
        drop(self.done);
        // A thread that panicked has said so; there is nothing to add.
        let _ = self.thread.join();
    }
}

/// What the thread works with.
struct Desk {
    journal: Journal,
    table: TableReader,
    /// Fingerprint of the table as the last snapshot has it.
    snapshot_of: Option<u64>,
    /// Devices that the table has at least, once the classifier has filled it.
    restored: u32,
    buffer: Vec<u8>,
}

impl Desk {
    fn work(mut self, todo: &Receiver<Task>, tell: &mpsc::Sender<Result<Done, JournalError>>) {
        while let Ok(task) = todo.recv() {
            let done = self.carry_out(task);
            let failed = done.is_err();
            if tell.blocking_send(done).is_err() || failed {
                return;
            }
        }
    }

    fn carry_out(&mut self, task: Task) -> Result<Done, JournalError> {
        match task {
            Task::Commit(batch) => {
                let started = Instant::now();
                let committed = self.journal.commit(&batch, wall_ms())?;
                Ok(Done::Committed {
                    batch,
                    committed,
                    took: started.elapsed(),
                    usage: self.journal.usage(),
                })
            }
            Task::Load(asked) => {
                let found = self.journal.read(&asked, wall_ms())?;
                Ok(Done::Loaded { asked, found })
            }
            Task::Snapshot => self.snapshot().map(Done::Snapshot),
            Task::Repeat => Ok(Done::Repeated {
                repeated: self.journal.repeat(wall_ms())?,
                usage: self.journal.usage(),
            }),
            Task::End => {
                // States that changed after the snapshot, or found no room for one, are not in the journal. A table that
                // nobody has touched changes nothing about how the run before ended.
                let untouched =
                    self.restored > 0 && self.table.used() == 0 && self.journal.began_exact();
                if untouched || self.snapshot_of == Some(self.fingerprint()) {
                    self.journal.end_run()?;
                    fail::pass(Point::UplinkEnded);
                }
                Ok(Done::Ended)
            }
        }
    }

    fn snapshot(&mut self) -> Result<bool, JournalError> {
        let fingerprint = self.fingerprint();
        // The classifier has not taken over the states of the last run: theirs is the better snapshot.
        if self.snapshot_of == Some(fingerprint) || self.table.used() < self.restored {
            return Ok(false);
        }
        let mut body = std::mem::take(&mut self.buffer);
        body.clear();
        match write_snapshot(&self.table, &mut body) {
            Ok(report) if report.skipped > 0 => {
                tracing::warn!("snapshot lacks {} unreadable devices", report.skipped);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("cannot take snapshot: {error}");
                return Ok(false);
            }
        }
        let snapshot = Snapshot {
            at_ms: wall_ms(),
            body,
        };
        let written = self.journal.write_snapshot(&snapshot)?;
        if written {
            self.snapshot_of = Some(fingerprint);
        } else {
            tracing::warn!("cannot write snapshot: the journal has no room");
        }
        self.buffer = snapshot.body;
        self.buffer.clear();
        self.buffer.shrink_to(SNAPSHOT_BUFFER_BYTES);
        Ok(written)
    }

    /// A number that changes whenever any slot is written.
    fn fingerprint(&self) -> u64 {
        let used = self.table.used();
        let versions = (0..used).map(|slot| self.table.version(slot));
        versions.fold(u64::from(used), |sum, version| {
            sum.rotate_left(5).wrapping_add(version)
        })
    }
}
