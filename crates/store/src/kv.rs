//! The seam: an ordered map of bytes with revisions, transactions, watches and leases.
//!
//! The meaning is etcd v3's, narrowed to what Weft uses (prefixes instead of ranges, no reads of the past),
//! so that a cluster backend adds a translation and nothing else:
//!
//! - Every transaction that writes raises the store's revision by one; all its writes carry that revision.
//! - A missing key compares as version, create and mod revision 0; its value equals nothing.
//! - One transaction writes a key at most once.
//! - Deleting what is not there writes nothing.
//!
//! Source: etcd v3 API guarantees and `KV`, `Watch`, `Lease` services (etcd.io/docs/v3.5/learning/api).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};

use crate::StoreError;

/// Longest key in bytes.
pub const MAX_KEY: usize = 4096;
/// The longest value in bytes that every backend takes (etcd's default request limit is 1.5 MiB).
pub const MAX_VALUE: usize = 1 << 20;
/// Most compares, and most operations of one branch, of a transaction (etcd's default).
pub const MAX_OPS: usize = 128;

/// Names a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A key with its value and bookkeeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision at which the key was made.
    pub create_revision: u64,
    /// Revision of the last write.
    pub mod_revision: u64,
    /// Writes since the key was made, from 1.
    pub version: u64,
    /// The lease with which the key ends.
    pub lease: Option<LeaseId>,
}

/// All items under a prefix in key order, as of one revision.
#[derive(Clone, Debug)]
pub struct Range {
    /// The store's revision of this picture; watch from the next one.
    pub revision: u64,
    /// The items.
    pub items: Vec<Item>,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
}

impl Cmp {
    /// Whether `found CMP wanted` holds.
    pub fn holds<T: Ord + ?Sized>(self, found: &T, wanted: &T) -> bool {
        match self {
            Self::Equal => found == wanted,
            Self::NotEqual => found != wanted,
            Self::Less => found < wanted,
            Self::Greater => found > wanted,
        }
    }
}

/// What of a key is compared, with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Writes since it was made; 0 when missing.
    Version(u64),
    /// Revision at which it was made; 0 when missing.
    CreateRevision(u64),
    /// Revision of its last write; 0 when missing.
    ModRevision(u64),
    /// Its value; a missing key fails every value compare.
    Value(Bytes),
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// The relation: `found CMP target`.
    pub cmp: Cmp,
    /// What is compared.
    pub target: Target,
}

impl Compare {
    /// The key must not exist.
    pub fn missing(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), cmp: Cmp::Equal, target: Target::CreateRevision(0) }
    }
    /// The key must exist.
    pub fn exists(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), cmp: Cmp::Greater, target: Target::CreateRevision(0) }
    }
    /// The key's last write must be that of `revision`.
    pub fn unchanged(key: impl Into<Bytes>, revision: u64) -> Self {
        Self { key: key.into(), cmp: Cmp::Equal, target: Target::ModRevision(revision) }
    }
    /// The key must hold exactly `value`.
    pub fn value(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), cmp: Cmp::Equal, target: Target::Value(value.into()) }
    }

    /// Whether the condition holds of what was found at the key.
    #[must_use]
    pub fn holds(&self, found: Option<&Item>) -> bool {
        let number = |pick: fn(&Item) -> u64, wanted: &u64| self.cmp.holds(&found.map_or(0, pick), wanted);
        match &self.target {
            Target::Version(wanted) => number(|i| i.version, wanted),
            Target::CreateRevision(wanted) => number(|i| i.create_revision, wanted),
            Target::ModRevision(wanted) => number(|i| i.mod_revision, wanted),
            Target::Value(wanted) => found.is_some_and(|i| self.cmp.holds(&i.value[..], &wanted[..])),
        }
    }
}

/// One step of a transaction. Steps see the writes of the steps before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads one key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Reads all keys under a prefix.
    Range {
        /// The prefix.
        prefix: Bytes,
    },
    /// Writes a key; without a lease, one that it had is taken off.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease with which the key ends.
        lease: Option<LeaseId>,
    },
    /// Removes a key if it is there.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes all keys under a prefix.
    DeleteRange {
        /// The prefix.
        prefix: Bytes,
    },
}

impl Op {
    /// Writes a key that ends with no lease.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }
    /// Reads one key.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get { key: key.into() }
    }
    /// Removes a key.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete { key: key.into() }
    }
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The items a read found.
    Items(Vec<Item>),
    /// A key was written.
    Put,
    /// So many keys were removed.
    Deleted(u64),
}

/// A transaction: when every compare holds, `then`, else `otherwise`; all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The conditions.
    pub compares: Vec<Compare>,
    /// Steps when all conditions hold.
    pub then: Vec<Op>,
    /// Steps when one does not.
    pub otherwise: Vec<Op>,
}

impl Request {
    /// A transaction without conditions.
    #[must_use]
    pub fn always(then: Vec<Op>) -> Self {
        Self { then, ..Self::default() }
    }

    /// Checks the seam's limits, the same in every backend but for the longest value.
    pub fn validate(&self, longest: usize) -> Result<(), StoreError> {
        if self.compares.len().max(self.then.len()).max(self.otherwise.len()) > MAX_OPS {
            return Err(StoreError::invalid(format!("a transaction has at most {MAX_OPS} steps")));
        }
        for compare in &self.compares {
            check_key(&compare.key)?;
        }
        validate_branch(&self.then, longest)?;
        validate_branch(&self.otherwise, longest)
    }
}

fn check_key(key: &[u8]) -> Result<(), StoreError> {
    match key.len() {
        0 => Err(StoreError::invalid("a key is empty")),
        n if n > MAX_KEY => {
            Err(StoreError::invalid(format!("a key has {n} bytes, at most {MAX_KEY} are allowed")))
        }
        _ => Ok(()),
    }
}

fn validate_branch(ops: &[Op], longest: usize) -> Result<(), StoreError> {
    let mut puts = std::collections::BTreeSet::new();
    for op in ops {
        match op {
            Op::Get { key } | Op::Delete { key } => check_key(key)?,
            Op::Put { key, value, .. } => {
                check_key(key)?;
                if value.len() > longest {
                    let key = String::from_utf8_lossy(key).into_owned();
                    return Err(StoreError::TooLarge { key, size: value.len(), limit: longest });
                }
                if !puts.insert(key) {
                    return Err(twice(key));
                }
            }
            Op::Range { .. } | Op::DeleteRange { .. } => {}
        }
    }
    for op in ops {
        match op {
            Op::Delete { key } if puts.contains(key) => return Err(twice(key)),
            Op::DeleteRange { prefix } => {
                if let Some(key) = puts.iter().find(|k| k.starts_with(prefix)) {
                    return Err(twice(key));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn twice(key: &Bytes) -> StoreError {
    StoreError::invalid(format!("one transaction writes {} twice", String::from_utf8_lossy(key)))
}

/// What a transaction gave.
#[derive(Clone, Debug)]
pub struct Response {
    /// Whether every compare held.
    pub succeeded: bool,
    /// The store's revision after it; the revision of its writes when it wrote.
    pub revision: u64,
    /// One result for each step of the branch that ran.
    pub results: Vec<OpResult>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key was written.
    Put(Item),
    /// A key was removed, or ended with its lease.
    Delete {
        /// The key.
        key: Bytes,
        /// The revision of the removal.
        revision: u64,
    },
}

impl Event {
    /// The changed key.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put(item) => &item.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// All changes of one revision under the watched prefix, never split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: u64,
    /// Its changes, in the order of the transaction's steps.
    pub events: Vec<Event>,
}

/// A stream of batches in the order of revisions. An error is its last word.
pub struct Watch {
    stream: BoxStream<'static, Result<Batch, StoreError>>,
    reached: Reached,
}

/// How far a watch is, as its backend tells. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reached(Arc<AtomicU64>);

impl Reached {
    /// All up to `revision` has been handed on; never goes back.
    pub fn tell(&self, revision: u64) {
        self.0.fetch_max(revision, Relaxed);
    }

    /// The last revision up to which all has been handed on.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Watch {
    /// Wraps a backend's stream, which tells `reached` how far it is.
    pub fn new(
        stream: impl Stream<Item = Result<Batch, StoreError>> + Send + 'static,
        reached: Reached,
    ) -> Self {
        Self { stream: stream.boxed(), reached }
    }

    /// The last revision up to which all changes under the prefix have been handed on, also where there were none: a new
    /// watch from the next one misses nothing. It moves while [`Watch::next`] is waited for, and may lag behind.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.reached.revision()
    }

    /// The next batch. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the reader fell behind the history, [`StoreError::Closed`] at the end.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        self.stream.next().await.unwrap_or(Err(StoreError::Closed))
    }

    /// The same as a stream.
    #[must_use]
    pub fn into_stream(self) -> BoxStream<'static, Result<Batch, StoreError>> {
        self.stream
    }
}

/// A key-value store with etcd v3's meaning. Handed around as `Arc<dyn Kv>`.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    /// The present item at `key`.
    async fn get(&self, key: &[u8]) -> Result<Option<Item>, StoreError>;

    /// The present items whose key begins with `prefix` (all for an empty one), in key order.
    async fn range(&self, prefix: &[u8]) -> Result<Range, StoreError>;

    /// Runs a transaction. When this returns `Ok`, its writes are durable and every reader of this store in
    /// the process sees them. After an error of the kinds `Backend`, `Closed` and `Unknown` the outcome is unknown:
    /// all or nothing of it will be there, after `Unknown` perhaps only later. So what is written into a shared store
    /// carries a compare on what it was decided by.
    async fn txn(&self, request: Request) -> Result<Response, StoreError>;

    /// All changes under `prefix` from revision `from` on (inclusive); 0 means from the next change on.
    /// Backends keep at least the last thousand revisions unless told to compact, or unless those are huge.
    async fn watch(&self, prefix: &[u8], from: u64) -> Result<Watch, StoreError>;

    /// Makes a lease that ends after `ttl` unless kept alive; backends may round up to whole seconds.
    async fn lease(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Starts the lease's time anew; answers its full time to live.
    async fn keepalive(&self, lease: LeaseId) -> Result<Duration, StoreError>;

    /// Ends a lease now; its keys are removed in one revision.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Forgets the history up to and including `revision`. Already compacted is no error.
    async fn compact(&self, revision: u64) -> Result<(), StoreError>;

    /// The store's present revision, 1 when nothing was ever written.
    async fn revision(&self) -> Result<u64, StoreError>;

    /// The present revision, where asking costs nothing and every read is as fresh: lets typed tables
    /// answer a list from their cache. Remote backends say `None`.
    fn local_revision(&self) -> Option<u64> {
        None
    }

    /// The present revision, if nothing below `prefix` has changed since `revision` and that is known without a call: what was
    /// listed then is the list of now. `None` may mean that it is not known any more.
    fn unchanged_since(&self, prefix: &[u8], revision: u64) -> Option<u64> {
        let _ = prefix;
        self.local_revision().filter(|now| *now == revision)
    }

    /// The longest value in bytes that this store takes.
    fn max_value(&self) -> usize {
        MAX_VALUE
    }

    /// What the store has done since it was opened, where it counts.
    fn figures(&self) -> Option<Figures> {
        None
    }
}

/// What a store has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Commits and how long each took, from its first write to being durable.
    pub commits: weft_base::metrics::Distribution,
    /// Requests that they carried.
    pub requests: u64,
    /// Commits that failed.
    pub failures: u64,
}
