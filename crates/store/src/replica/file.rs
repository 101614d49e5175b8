//! A replica's file: what it last knew, so that a start without the store goes on from there.
//!
//! One redb database with three tables. `items`: key -> a record as in the embedded store (it carries a checksum of its
//! own). `follows`: prefix -> the store's revision up to which its content is known. `meta`: `replica_version`.
//!
//! Each commit leads from one state that was in memory to a later one, so the file is never ahead of what was seen and
//! never holds half a change; it may be behind by the time of a commit, which is harmless: it is a copy. Since it is
//! a copy, a damaged file is put aside, and what follows is a first start.

use std::{collections::BTreeMap, fs::Permissions, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::state::Dirty;
use crate::{
    Item, StoreError,
    embedded::{
        file::{META, backend, builder, number, open_error, read_meta, tables},
        quiet::caught,
        record::Record,
    },
};

const ITEMS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("items");
const FOLLOWS: TableDefinition<'static, &[u8], u64> = TableDefinition::new("follows");
const VERSION_KEY: &str = "replica_version";
/// The version that is written.
const VERSION: u32 = 1;

/// A file and what it remembered.
pub(super) struct Opened {
    pub(super) db: Database,
    pub(super) items: BTreeMap<Bytes, Item>,
    pub(super) follows: BTreeMap<Bytes, u64>,
}

/// Opens or makes the file at `path`; a damaged one is put aside as `<path>.damaged`.
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    match open_guarded(path) {
        Err(error @ StoreError::Damaged { .. }) => {
            let aside = path.with_extension("redb.damaged");
            tracing::error!(error = weft_base::chain(&error), aside = %aside.display(), "the replica's file is put aside");
            std::fs::rename(path, &aside).map_err(|e| io("put aside", path, e))?;
            open_guarded(path)
        }
        other => other,
    }
}

fn open_guarded(path: &Path) -> Result<Opened, StoreError> {
    caught(|| open_unguarded(path))
        .unwrap_or_else(|panic| Err(damaged(path, format!("the database's structure is broken ({panic})"))))
}

fn open_unguarded(path: &Path) -> Result<Opened, StoreError> {
    let db = builder().create(path).map_err(|e| open_error(path, e))?;
    // Policies and names of others are in there.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|e| io("close to others", path, e))?;
    let tx = db.begin_read().map_err(|e| backend("read", e))?;
    let names = tables(&tx)?;
    if names.is_empty() {
        drop(tx);
        make(&db)?;
        return Ok(Opened { db, items: BTreeMap::new(), follows: BTreeMap::new() });
    }
    let found = number(path, &read_meta(&tx)?, VERSION_KEY)?;
    let Some(found) = found.map(|n| u32::try_from(n).unwrap_or(u32::MAX)) else {
        let reason = "it is no replica of one".to_owned();
        return Err(StoreError::NotAStore { path: path.to_owned(), reason });
    };
    if found > VERSION {
        return Err(StoreError::NewerFile { path: path.to_owned(), found, known: VERSION });
    }
    let (mut items, mut follows) = (BTreeMap::new(), BTreeMap::new());
    let table = tx.open_table(ITEMS).map_err(|e| backend("open the items", e))?;
    for entry in table.iter().map_err(|e| backend("read the items", e))? {
        let (key, value) = entry.map_err(|e| backend("read the items", e))?;
        let record = Record::decode(value.value()).map(|(r, _)| r.item).filter(|i| i.key == key.value());
        let item = record.ok_or_else(|| {
            damaged(path, format!("the record of {} is unreadable", String::from_utf8_lossy(key.value())))
        })?;
        items.insert(item.key.clone(), item);
    }
    let table = tx.open_table(FOLLOWS).map_err(|e| backend("open the prefixes", e))?;
    for entry in table.iter().map_err(|e| backend("read the prefixes", e))? {
        let (prefix, at) = entry.map_err(|e| backend("read the prefixes", e))?;
        follows.insert(Bytes::copy_from_slice(prefix.value()), at.value());
    }
    drop(tx);
    Ok(Opened { db, items, follows })
}

fn make(db: &Database) -> Result<(), StoreError> {
    let tx = db.begin_write().map_err(|e| backend("make", e))?;
    {
        tx.open_table(ITEMS).map_err(|e| backend("make the items", e))?;
        tx.open_table(FOLLOWS).map_err(|e| backend("make the prefixes", e))?;
        let mut meta = tx.open_table(META).map_err(|e| backend("make the meta table", e))?;
        meta.insert(VERSION_KEY, VERSION.to_string().as_str())
            .map_err(|e| backend("write the version", e))?;
    }
    tx.commit().map_err(|e| backend("commit", e))
}

/// Writes what changed, all or nothing, and waits for the disk.
pub(super) fn write(db: &Database, dirty: &Dirty) -> Result<(), StoreError> {
    let tx = db.begin_write().map_err(|e| backend("begin a write", e))?;
    {
        let mut items = tx.open_table(ITEMS).map_err(|e| backend("open the items", e))?;
        let mut bytes = Vec::new();
        for (key, item) in &dirty.items {
            match item {
                Some(item) => {
                    Record { item: item.clone(), sub: 0, deleted: false }.encode(&mut bytes);
                    items.insert(&key[..], &bytes[..]).map_err(|e| backend("write an item", e))?;
                }
                None => {
                    items.remove(&key[..]).map_err(|e| backend("remove an item", e))?;
                }
            }
        }
        let mut follows = tx.open_table(FOLLOWS).map_err(|e| backend("open the prefixes", e))?;
        for (prefix, at) in &dirty.follows {
            match at {
                Some(at) => follows.insert(&prefix[..], at),
                None => follows.remove(&prefix[..]),
            }
            .map_err(|e| backend("write a prefix", e))?;
        }
    }
    tx.commit().map_err(|e| backend("commit", e))
}

fn damaged(path: &Path, detail: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), detail }
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { doing, path: path.to_owned(), source: Arc::new(source) }
}
