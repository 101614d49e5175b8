//! Bringing an older file to the present version, one step after another, in one transaction.
//!
//! Step `n` turns version `n` into `n + 1`. Before the first step the file is copied to `<file>.v<n>`, so that
//! an older Weft can be put back. A newer file is refused and left alone.
//!
//! - Version 0: a table `kv` of key -> value, without revisions (development snapshots).
//! - Version 1: the log (see [`super::file`]).

use std::{path::Path, sync::Arc};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    file::{self, LEASES, LOG, META, backend},
    record::Record,
};
use crate::{Item, StoreError};

/// The version of files that this Weft writes.
pub const FILE_VERSION: u32 = 1;

type Step = fn(&WriteTransaction) -> Result<(), StoreError>;
const STEPS: [Step; FILE_VERSION as usize] = [v0_to_v1];

const V0_KV: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("kv");

/// What version a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No table: just made.
    Empty,
    /// A file of this version.
    Version(u32),
}

/// Reads the version of an open file; refuses what is newer or foreign.
pub(crate) fn version(db: &impl ReadableDatabase, path: &Path) -> Result<Found, StoreError> {
    let tx = db.begin_read().map_err(|e| backend("read", e))?;
    let tables = file::tables(&tx)?;
    if tables.is_empty() {
        return Ok(Found::Empty);
    }
    let has = |name: &str| tables.iter().any(|t| t == name);
    let stored = if has("meta") { file::number(path, &file::read_meta(&tx)?, "file_version")? } else { None };
    let found = match stored {
        Some(v) => u32::try_from(v).unwrap_or(u32::MAX),
        None if has("kv") => 0,
        None => {
            let reason = format!("it has the tables {}", tables.join(", "));
            return Err(StoreError::NotAStore { path: path.to_owned(), reason });
        }
    };
    if found > FILE_VERSION {
        return Err(StoreError::NewerFile { path: path.to_owned(), found, known: FILE_VERSION });
    }
    Ok(Found::Version(found))
}

/// Makes the file's version the present one.
pub(crate) fn to_present(db: &Database, path: &Path) -> Result<(), StoreError> {
    match version(db, path)? {
        Found::Version(FILE_VERSION) => Ok(()),
        Found::Empty => run(db, FILE_VERSION),
        Found::Version(v) => {
            keep_copy(path, v)?;
            tracing::info!(path = %path.display(), from = v, to = FILE_VERSION, "migrating the store");
            run(db, v)
        }
    }
}

/// Runs the steps from version `from` on and writes the present version, in one transaction.
pub(crate) fn run(db: &Database, from: u32) -> Result<(), StoreError> {
    let tx = db.begin_write().map_err(|e| backend("begin a migration", e))?;
    for step in &STEPS[from as usize..] {
        step(&tx)?;
    }
    tx.open_table(LOG).map_err(|e| backend("make the log", e))?;
    tx.open_table(LEASES).map_err(|e| backend("make the leases", e))?;
    let version = FILE_VERSION.to_string();
    tx.open_table(META)
        .map_err(|e| backend("make the meta table", e))?
        .insert("file_version", version.as_str())
        .map_err(|e| backend("write the file version", e))?;
    tx.commit().map_err(|e| backend("commit a migration", e))
}

fn keep_copy(path: &Path, version: u32) -> Result<(), StoreError> {
    let mut copy = path.as_os_str().to_owned();
    copy.push(format!(".v{version}"));
    let io =
        |source| StoreError::Io { doing: "keep a copy of", path: path.to_owned(), source: Arc::new(source) };
    std::fs::copy(path, &copy).map_err(io)?;
    std::fs::File::open(&copy).and_then(|f| f.sync_all()).map_err(io)
}

/// Every value becomes the first version of its key, all at revision 2, the first that a store gives.
fn v0_to_v1(tx: &WriteTransaction) -> Result<(), StoreError> {
    {
        let old = tx.open_table(V0_KV).map_err(|e| backend("open version 0's values", e))?;
        let mut log = tx.open_table(LOG).map_err(|e| backend("make the log", e))?;
        let mut bytes = Vec::new();
        for (sub, entry) in (0..).zip(old.iter().map_err(|e| backend("read version 0's values", e))?) {
            let (key, value) = entry.map_err(|e| backend("read version 0's values", e))?;
            let item = Item {
                key: key.value().to_vec().into(),
                value: value.value().to_vec().into(),
                create_revision: 2,
                mod_revision: 2,
                version: 1,
                lease: None,
            };
            let record = Record { item, sub, deleted: false };
            record.encode(&mut bytes);
            log.insert(record.log_key(), bytes.as_slice()).map_err(|e| backend("write the log", e))?;
        }
    }
    tx.delete_table(V0_KV).map_err(|e| backend("remove version 0's values", e))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Embedded, Kv, Options};

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[tokio::test]
    async fn version_0_becomes_version_1_and_keeps_a_copy() {
        let dir = dir();
        let path = dir.path().join("store.redb");
        {
            let db = Database::create(&path).unwrap();
            let tx = db.begin_write().unwrap();
            {
                let mut kv = tx.open_table(V0_KV).unwrap();
                kv.insert(&b"/weft/v1/volume/a"[..], &b"{\"v\":1}"[..]).unwrap();
                kv.insert(&b"/weft/v1/volume/b"[..], &b"{}"[..]).unwrap();
            }
            tx.commit().unwrap();
        }
        for _ in 0..2 {
            let store = Embedded::open(&path, Options::default()).unwrap();
            let all = store.range(b"/weft/").await.unwrap();
            let seen: Vec<_> = all.items.iter().map(|i| (&i.key[..], &i.value[..], i.version)).collect();
            assert_eq!(
                seen,
                [
                    (&b"/weft/v1/volume/a"[..], &b"{\"v\":1}"[..], 1),
                    (&b"/weft/v1/volume/b"[..], &b"{}"[..], 1)
                ]
            );
            assert_eq!(all.revision, 2);
        }
        let copy = Database::open(dir.path().join("store.redb.v0")).unwrap();
        assert_eq!(version(&copy, &path).unwrap(), Found::Version(0));
    }

    #[test]
    fn newer_and_foreign_files_are_refused_and_named() {
        let dir = dir();
        let path = dir.path().join("store.redb");
        drop(Embedded::open(&path, Options::default()).unwrap());
        {
            let db = Database::open(&path).unwrap();
            let tx = db.begin_write().unwrap();
            tx.open_table(META).unwrap().insert("file_version", "7").unwrap();
            tx.commit().unwrap();
        }
        let error = Embedded::open(&path, Options::default()).err().unwrap();
        assert!(matches!(error, StoreError::NewerFile { found: 7, known: FILE_VERSION, .. }), "{error}");
        assert!(error.to_string().contains("store.redb"));

        let foreign = dir.path().join("foreign.redb");
        let db = Database::create(&foreign).unwrap();
        let tx = db.begin_write().unwrap();
        tx.open_table(TableDefinition::<u64, u64>::new("games")).unwrap();
        tx.commit().unwrap();
        drop(db);
        let error = Embedded::open(&foreign, Options::default()).err().unwrap();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");

        let text = dir.path().join("text");
        std::fs::write(&text, vec![b'x'; 9000]).unwrap();
        let error = Embedded::open(&text, Options::default()).err().unwrap();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    }
}
