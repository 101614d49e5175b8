//! Looking at a store file without its daemon: is it sound, what is in it, what can be recovered.
//!
//! The file itself is never changed: a copy beside it is opened, repaired as a crash needs it, verified page by
//! page and record by record. Where the database's structure is broken, records are found in the raw bytes
//! (each has its own checksum, see [`crate::embedded::record`]) and the newest of each key is taken. What was
//! removed long ago can come back that way; so this reports and prints, and never writes a store by itself.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{DatabaseError, ReadableDatabase, ReadableTableMetadata};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    StoreError,
    embedded::{
        file::{self, LEASES, backend},
        migrate::{self, Found as FileVersion},
        quiet::caught,
        record::{Record, carve},
    },
};

/// The health of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Every page and record is as it was written.
    Sound,
    /// Something is not; the report's counts are of what can still be read.
    Damaged,
}

/// What `weft store check` tells.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its health.
    pub condition: Condition,
    /// Its version, where it could be read; older than [`crate::FILE_VERSION`] migrates when a daemon opens it.
    pub file_version: Option<u32>,
    /// The newest revision seen.
    pub revision: u64,
    /// The last revision that watches cannot reach.
    pub compacted: u64,
    /// Readable keys.
    pub keys: usize,
    /// Readable keys by kind (`other` for keys that are not Weft's).
    pub kinds: BTreeMap<String, usize>,
    /// Leases, where their table could be read.
    pub leases: u64,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}

/// What a dump gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// Lines written.
    pub keys: usize,
    /// The health of the file: damaged means that keys may be missing or old.
    pub condition: Condition,
}

/// Examines the file at `path`.
///
/// # Errors
/// [`StoreError::InUse`] (stop the daemon first), [`StoreError::NewerFile`], [`StoreError::NotAStore`],
/// [`StoreError::Io`]. Damage is no error but the report's content.
pub fn check(path: impl AsRef<Path>) -> Result<Report, StoreError> {
    let path = path.as_ref();
    let found = examine(path)?;
    let mut kinds = BTreeMap::new();
    for key in found.newest.keys() {
        *kinds.entry(kind(key)).or_insert(0) += 1;
    }
    Ok(Report {
        path: path.to_owned(),
        bytes: found.bytes,
        condition: found.condition(),
        file_version: found.version,
        revision: found.revision,
        compacted: found.compacted,
        keys: found.newest.len(),
        kinds,
        leases: found.leases,
        problems: found.problems,
    })
}

/// Writes every present key under `prefix` that can be read to `out`, one JSON object a line:
/// `{"key", "value" | "text" | "hex", "create_revision", "mod_revision", "version", "lease"}`.
///
/// # Errors
/// As [`check`]; [`StoreError::Io`] when `out` fails.
pub fn dump(path: impl AsRef<Path>, prefix: &str, out: &mut dyn Write) -> Result<Dumped, StoreError> {
    let path = path.as_ref();
    let found = examine(path)?;
    let io = |e| io_error("write the dump of", path, e);
    let mut keys = 0;
    for record in found.newest.values().filter(|r| r.item.key.starts_with(prefix.as_bytes())) {
        let line = serde_json::to_vec(&Line::of(record)).map_err(|e| io(e.into()))?;
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).map_err(io)?;
        keys += 1;
    }
    out.flush().map_err(io)?;
    Ok(Dumped { keys, condition: found.condition() })
}

#[derive(Serialize)]
struct Line<'a> {
    key: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<u64>,
}

impl<'a> Line<'a> {
    fn of(record: &'a Record) -> Self {
        let item = &record.item;
        let text = std::str::from_utf8(&item.value).ok();
        // A value with line breaks would not stay on its line; Weft writes none.
        let value: Option<&RawValue> =
            text.filter(|t| !t.contains('\n')).and_then(|t| serde_json::from_str(t).ok());
        let hex = || item.value.iter().map(|b| format!("{b:02x}")).collect();
        Self {
            key: String::from_utf8_lossy(&item.key),
            value,
            text: text.filter(|_| value.is_none()),
            hex: text.is_none().then(hex),
            create_revision: item.create_revision,
            mod_revision: item.mod_revision,
            version: item.version,
            lease: item.lease.map(|l| l.0),
        }
    }
}

#[derive(Default)]
struct Found {
    bytes: u64,
    version: Option<u32>,
    revision: u64,
    compacted: u64,
    leases: u64,
    newest: BTreeMap<Bytes, Record>,
    problems: Vec<String>,
}

impl Found {
    fn condition(&self) -> Condition {
        if self.problems.is_empty() { Condition::Sound } else { Condition::Damaged }
    }

    fn take(&mut self, record: Record) {
        self.revision = self.revision.max(record.item.mod_revision);
        let newer = |old: &Record| old.log_key() < record.log_key();
        if self.newest.get(&record.item.key).is_none_or(newer) {
            self.newest.insert(record.item.key.clone(), record);
        }
    }
}

fn examine(path: &Path) -> Result<Found, StoreError> {
    let bytes = std::fs::metadata(path).map_err(|e| io_error("read", path, e))?.len();
    // Where it opens, this also holds off a daemon during the copy.
    let held = caught(|| file::builder().open_read_only(path));
    if let Ok(Err(error @ (DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch))) = held
    {
        return Err(file::open_error(path, error));
    }
    let copy = Copy::of(path)?;
    drop(held);
    let mut found = Found { bytes, ..Found::default() };
    // A damaged file can make the database panic; that, too, is only a finding.
    let read = caught(|| read(&copy.0, path, &mut found));
    let foreign = match read {
        Ok(Ok(())) => None,
        Ok(Err(error @ StoreError::NewerFile { .. })) => return Err(error),
        Ok(Err(error)) => {
            found.problems.push(weft_base::chain(&error));
            matches!(error, StoreError::NotAStore { .. }).then_some(error)
        }
        Err(_) => {
            found.problems.push("the database's structure is broken".to_owned());
            None
        }
    };
    if !found.problems.is_empty() {
        // The untouched file: opening the copy may have reused pages.
        let raw = std::fs::read(path).map_err(|e| io_error("read", path, e))?;
        let records = carve(&raw);
        if let (true, Some(error)) = (records.is_empty(), foreign) {
            return Err(error);
        }
        records.into_iter().for_each(|r| found.take(r));
    }
    found.newest.retain(|_, r| !r.deleted);
    Ok(found)
}

/// Reads what the database gives out; `shown` is the path for errors.
fn read(copy: &Path, shown: &Path, found: &mut Found) -> Result<(), StoreError> {
    let mut db = file::builder().open(copy).map_err(|e| file::open_error(shown, e))?;
    if !db.check_integrity().map_err(|e| file::open_error(shown, e))? {
        found.problems.push("pages of the database were inconsistent and had to be repaired".to_owned());
    }
    match migrate::version(&db, shown)? {
        FileVersion::Empty => return Ok(()),
        FileVersion::Version(v) => {
            found.version = Some(v);
            if v != crate::FILE_VERSION {
                migrate::run(&db, v)?;
            }
        }
    }
    let tx = db.begin_read().map_err(|e| backend("read", e))?;
    let meta = file::read_meta(&tx)?;
    found.revision = file::number(shown, &meta, "revision")?.unwrap_or(1);
    found.compacted = file::number(shown, &meta, "compacted")?.unwrap_or(0);
    let leases = tx.open_table(LEASES).map_err(|e| backend("open the leases", e))?;
    found.leases = leases.len().map_err(|e| backend("count the leases", e))?;
    file::for_each_record(&tx, |key, bytes| {
        match Record::decode(bytes).filter(|(r, _)| r.log_key() == key) {
            Some((record, _)) => found.take(record),
            None => found.problems.push(format!("the record of revision {}.{} is unreadable", key.0, key.1)),
        }
        Ok(())
    })
}

/// A copy of the file beside it, removed at the end.
struct Copy(PathBuf);

impl Copy {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".check-{}", std::process::id()));
        let copy = Self(name.into());
        std::fs::copy(path, &copy.0).map_err(|e| io_error("copy", path, e))?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the copy of a store");
        }
    }
}

fn kind(key: &[u8]) -> String {
    let key = String::from_utf8_lossy(key);
    let rest = key.strip_prefix(crate::PREFIX).and_then(|rest| rest.split_once('/'));
    rest.map_or("other", |(kind, _)| kind).to_owned()
}

fn io_error(doing: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { doing, path: path.to_owned(), source: Arc::new(source) }
}
