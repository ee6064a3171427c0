//! The journal's file: how it is opened, which settings SQLite runs under and why, and its tables.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{Doing, JournalError};

/// Version of the tables and of what their blobs hold.
pub const SCHEMA_VERSION: i64 = 1;

/// Marks the file as ours ("RwJ1").
const APPLICATION_ID: i64 = 0x5277_4a31;

/// SQLite 3.51.3 repaired a race at the reset of the write-ahead log (in since 3.7.0) that loses committed records.
const ENGINE_VERSION_MIN: i32 = 3_051_003;

/// Bytes to which the write-ahead log is cut back after a checkpoint.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// SQLite's page cache; reads are rare and the kernel caches too.
const CACHE_KIB: u64 = 1024;

/// Statements kept compiled: all that the journal has.
const STATEMENTS_MAX: usize = 32;

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE record (
        seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, accepted_ms INTEGER NOT NULL,
        body BLOB NOT NULL, crc INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE delivered (
        slot INTEGER PRIMARY KEY, turn INTEGER NOT NULL, id BLOB NOT NULL, high INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE quarantine (
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, reason TEXT NOT NULL, id BLOB, body BLOB
    ) STRICT;
    CREATE TABLE open_alarm (
        key BLOB PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE snapshot (
        slot INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL
    ) STRICT;
";

/// Opens or makes the file and brings its tables to [`SCHEMA_VERSION`].
pub(super) fn open(path: &Path, bytes_max: u64) -> Result<Connection, JournalError> {
    if rusqlite::version_number() < ENGINE_VERSION_MIN {
        let found = rusqlite::version().to_owned();
        return Err(JournalError::Engine { found });
    }
    create_private(path).map_err(|cause| JournalError::File {
        path: path.to_owned(),
        cause,
    })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).doing("open the journal")?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // EXCLUSIVE before WAL: then SQLite needs no shared memory file, and nobody else can open the journal.
    db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA mmap_size = 0;")
        .doing("lock the journal")?;
    check_owner(&db, path)?;
    db.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;
         PRAGMA journal_size_limit = {LOG_BYTES_MAX}; PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA temp_store = MEMORY;"
    ))
    .doing("set up the journal")?;
    let page_bytes = pragma(&db, "page_size")?;
    db.execute_batch(&format!(
        "PRAGMA max_page_count = {}",
        bytes_max / page_bytes
    ))
    .doing("limit the journal")?;
    if pragma(&db, "user_version")? == 0 {
        create_tables(&db).doing("make the journal's tables")?;
    }
    Ok(db)
}

/// Makes an empty file that only its owner can read, since positions are personal data, and puts its name on disk.
/// SQLite gives its log the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Refuses a file that another program or a newer version wrote, before anything is changed in it.
fn check_owner(db: &Connection, path: &Path) -> Result<(), JournalError> {
    let found = pragma(db, "user_version")? as i64;
    let owner = pragma(db, "application_id")? as i64;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .doing("read the journal's schema")?;
    let path = path.to_owned();
    if owner == APPLICATION_ID && found > SCHEMA_VERSION {
        Err(JournalError::Newer { path, found })
    } else if tables > 0 && owner != APPLICATION_ID {
        Err(JournalError::Foreign { path })
    } else {
        Ok(())
    }
}

fn create_tables(db: &Connection) -> rusqlite::Result<()> {
    let tx = db.unchecked_transaction()?;
    tx.execute_batch(TABLES)?;
    let random: [u8; 16] = tx.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
    tx.execute(
        "INSERT INTO meta (key, value) VALUES ('uuid', ?1)",
        [uuid_text(random)],
    )?;
    tx.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
    ))?;
    tx.commit()
}

/// A random (version 4) UUID in the text form of RFC 9562.
fn uuid_text(random: [u8; 16]) -> String {
    let versioned = u128::from_be_bytes(random) & !(0xf000 << 64) & !(0xc << 60);
    let bits = versioned | 0x4000 << 64 | 0x8 << 60;
    let field = |shift: u32, digits: usize| {
        let value = (bits >> shift) & ((1 << (4 * digits)) - 1);
        format!("{value:0digits$x}")
    };
    [
        field(96, 8),
        field(80, 4),
        field(64, 4),
        field(48, 4),
        field(0, 12),
    ]
    .join("-")
}

/// The journal's identity.
pub(super) fn uuid(db: &Connection) -> Result<String, JournalError> {
    db.query_row("SELECT value FROM meta WHERE key = 'uuid'", [], |row| {
        row.get(0)
    })
    .doing("read the journal's uuid")
}

/// The value of a numeric setting.
pub(super) fn pragma(db: &Connection, name: &str) -> Result<u64, JournalError> {
    db.pragma_query_value(None, name, |row| row.get(0))
        .doing("read the journal's settings")
}

/// Pages that hold something.
pub(super) fn pages_used(db: &Connection) -> rusqlite::Result<u64> {
    let value = |sql: &str| {
        db.prepare_cached(sql)?
            .query_row([], |row| row.get::<_, u64>(0))
    };
    Ok(value("PRAGMA page_count")? - value("PRAGMA freelist_count")?)
}

#[cfg(test)]
mod tests {
    use super::uuid_text;

    #[test]
    fn a_uuid_has_the_version_and_variant_of_rfc_9562() {
        assert_eq!(
            uuid_text([0xff; 16]),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
        assert_eq!(uuid_text([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
