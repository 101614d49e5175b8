//! The file: one redb database with three tables, opened, versioned and read into memory here.
//!
//! - `log`: (revision, number within it) -> [`Record`]. Both the present and the history: a record that a
//!   later one superseded stays for watchers until compaction. Appending is all that a write does.
//! - `leases`: id -> (time to live, wall-clock deadline), milliseconds.
//! - `meta`: `file_version`, and `revision`, `compacted`, `next_lease` as decimal text.
//!
//! The file's version is the number of migration steps that made it; see [`super::migrate`].

use std::{
    collections::HashMap,
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError, TableHandle,
};
use weft_base::Timestamp;

use super::{
    migrate,
    quiet::caught,
    record::{LogKey, Record},
    state::{Lease, State},
};
use crate::{LeaseId, StoreError};

pub(crate) const LOG: TableDefinition<'static, LogKey, &[u8]> = TableDefinition::new("log");
pub(crate) const LEASES: TableDefinition<'static, u64, (u64, u64)> = TableDefinition::new("leases");
pub(crate) const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");

/// redb's own cache. All present values are in memory already and commits only append, so a few pages do.
const CACHE: usize = 1 << 20;

/// An opened file and its content.
pub(crate) struct Opened {
    pub(crate) db: Database,
    pub(crate) state: State,
    pub(crate) next_lease: u64,
}

/// Opens or makes the store at `path`, migrates it, and reads it.
pub(crate) fn open(path: &Path, now: Timestamp) -> Result<Opened, StoreError> {
    caught(|| open_unguarded(path, now)).unwrap_or_else(|panic| {
        let detail = format!("the database's structure is broken ({panic})");
        Err(StoreError::Damaged { path: path.to_owned(), detail })
    })
}

fn open_unguarded(path: &Path, now: Timestamp) -> Result<Opened, StoreError> {
    let db = builder().create(path).map_err(|e| open_error(path, e))?;
    // What containers are told in confidence is in there.
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|e| StoreError::Io {
        doing: "close to others",
        path: path.to_owned(),
        source: Arc::new(e),
    })?;
    migrate::to_present(&db, path)?;
    let tx = db.begin_read().map_err(|e| backend("read", e))?;
    let meta = read_meta(&tx)?;
    let mut state = State::default();
    state.revision = number(path, &meta, "revision")?.unwrap_or(1);
    state.compacted = number(path, &meta, "compacted")?.unwrap_or(0);
    state.leases = read_leases(&tx, now)?;
    for_each_record(&tx, |key, bytes| {
        let (record, _) = Record::decode(bytes).filter(|(r, _)| r.log_key() == key).ok_or_else(|| {
            let detail = format!("the record of revision {}.{} is unreadable", key.0, key.1);
            StoreError::Damaged { path: path.to_owned(), detail }
        })?;
        state.apply(&record);
        Ok(())
    })?;
    let next_lease = number(path, &meta, "next_lease")?.unwrap_or(1);
    drop(tx);
    Ok(Opened { db, state, next_lease })
}

pub(crate) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Hands every entry of the log to `visit` in order.
pub(crate) fn for_each_record(
    tx: &ReadTransaction,
    mut visit: impl FnMut(LogKey, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let log = match tx.open_table(LOG) {
        Ok(log) => log,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(e) => return Err(backend("open the log", e)),
    };
    for entry in log.iter().map_err(|e| backend("read the log", e))? {
        let (key, value) = entry.map_err(|e| backend("read the log", e))?;
        visit(key.value(), value.value())?;
    }
    Ok(())
}

/// The meta table as text.
pub(crate) fn read_meta(tx: &ReadTransaction) -> Result<HashMap<String, String>, StoreError> {
    let meta = match tx.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(HashMap::new()),
        Err(e) => return Err(backend("open the meta table", e)),
    };
    let mut all = HashMap::new();
    for entry in meta.iter().map_err(|e| backend("read the meta table", e))? {
        let (key, value) = entry.map_err(|e| backend("read the meta table", e))?;
        all.insert(key.value().to_owned(), value.value().to_owned());
    }
    Ok(all)
}

/// A number of the meta table.
pub(crate) fn number(
    path: &Path,
    meta: &HashMap<String, String>,
    key: &str,
) -> Result<Option<u64>, StoreError> {
    let parse = |text: &String| {
        text.parse().map_err(|_| StoreError::Damaged {
            path: path.to_owned(),
            detail: format!("meta value {key} is {text:?}, not a number"),
        })
    };
    meta.get(key).map(parse).transpose()
}

/// The names of the tables.
pub(crate) fn tables(tx: &ReadTransaction) -> Result<Vec<String>, StoreError> {
    let all = tx.list_tables().map_err(|e| backend("list the tables", e))?;
    Ok(all.map(|t| t.name().to_owned()).collect())
}

fn read_leases(tx: &ReadTransaction, now: Timestamp) -> Result<HashMap<LeaseId, Lease>, StoreError> {
    let table = tx.open_table(LEASES).map_err(|e| backend("open the leases", e))?;
    let (mut all, start) = (HashMap::new(), Instant::now());
    for entry in table.iter().map_err(|e| backend("read the leases", e))? {
        let (id, value) = entry.map_err(|e| backend("read the leases", e))?;
        let (ttl, deadline) = value.value();
        // A clock that was set back must not lengthen a lease beyond its time to live.
        let left = deadline.saturating_sub(unix_millis(now)).min(ttl);
        let lease = Lease {
            ttl: Duration::from_millis(ttl),
            deadline: start + Duration::from_millis(left),
            keys: std::collections::BTreeSet::new(),
        };
        all.insert(LeaseId(id.value()), lease);
    }
    Ok(all)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_millis(at: Timestamp) -> u64 {
    u64::try_from(at.unix_nanos() / 1_000_000).unwrap_or(0)
}

/// Says of a failed open whose fault it is.
pub(crate) fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { path }
        }
        DatabaseError::Storage(StorageError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::NotAStore { path, reason: e.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(e)) => {
            StoreError::Io { doing: "open", path, source: Arc::new(e) }
        }
        DatabaseError::Storage(StorageError::Corrupted(detail)) => StoreError::Damaged { path, detail },
        DatabaseError::UpgradeRequired(v) => {
            StoreError::NotAStore { path, reason: format!("it has redb's file format {v}") }
        }
        other => StoreError::backend("open", other),
    }
}

pub(crate) fn backend(doing: &'static str, e: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::backend(doing, e)
}
