//! Why the store could not do what was asked. Conflicts are the callers' ordinary business and say who is in
//! the way; the rest say which file, key or revision.

use std::{path::PathBuf, sync::Arc};

use crate::LeaseId;

/// A failure of the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error("store {} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer Weft wrote the file.
    #[error(
        "store {} has file version {found}; this Weft reads up to {known}: it was written by a newer Weft",
        path.display()
    )]
    NewerFile {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The file holds something else.
    #[error("{} is not a Weft store: {reason}", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// The file's content is damaged.
    #[error("store {} is damaged: {detail}; `weft store check` tells what can be recovered", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The database under the store failed. After a failed commit the store refuses further writes until it
    /// is opened again, because what reached the disk is unknown.
    #[error("the store's database failed to {doing}")]
    Backend {
        /// The verb.
        doing: &'static str,
        /// The database's reason.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store was closed, or its writer died.
    #[error("the store is closed")]
    Closed,
    /// The asked history is gone: list again, then watch from the list's revision.
    #[error("revision {asked} was compacted; the history begins after {compacted}")]
    Compacted {
        /// The revision that a watch asked for.
        asked: u64,
        /// The last revision that is gone.
        compacted: u64,
    },
    /// No such lease, or it has ended.
    #[error("lease {lease} does not exist or has ended")]
    NoLease {
        /// The lease.
        lease: LeaseId,
    },
    /// The request breaks a rule of the seam.
    #[error("invalid store request: {reason}")]
    Invalid {
        /// The rule.
        reason: String,
    },
    /// A value is longer than this store takes.
    #[error("the value of {key} has {size} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Where it was to go.
        key: String,
        /// Its size in bytes.
        size: usize,
        /// The longest that is taken.
        limit: usize,
    },
    /// Somebody else was there first.
    #[error("{key}: {reason}")]
    Conflict {
        /// The contested key.
        key: String,
        /// In which way.
        reason: Conflict,
    },
    /// A value cannot be written as JSON.
    #[error("cannot encode {key}: {reason}")]
    Encode {
        /// Where it was to go.
        key: String,
        /// The reason.
        reason: String,
    },
    /// A stored value is not what its kind expects.
    #[error("cannot read {key}")]
    Decode {
        /// Where it is.
        key: String,
        /// The parser's reason.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// A newer Weft wrote this value.
    #[error("{key} has schema {found}; this Weft reads up to {known}: it was written by a newer Weft")]
    NewerValue {
        /// Where it is.
        key: String,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        known: u32,
    },
    /// An old value could not be translated.
    #[error("cannot upgrade {key} from schema {from}: {reason}")]
    Upgrade {
        /// Where it is.
        key: String,
        /// Its schema.
        from: u32,
        /// The kind's reason.
        reason: String,
    },
}

/// In which way a key was contested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// It was to be made, and exists.
    #[error("exists already")]
    Exists,
    /// It was to be changed, and does not exist.
    #[error("does not exist")]
    Missing,
    /// It was changed since it was read.
    #[error("was changed meanwhile (read at revision {expected}, now at {found})")]
    Changed {
        /// The revision that was read.
        expected: u64,
        /// The revision it has.
        found: u64,
    },
    /// The name is held by another.
    #[error("is taken by {owner}")]
    Claimed {
        /// The holder's id.
        owner: String,
    },
}

impl StoreError {
    /// Wraps a database's error.
    pub fn backend(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Backend { doing, source: Arc::new(source) }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }

    /// The way in which a key was contested, if this is a conflict.
    #[must_use]
    pub fn conflict(&self) -> Option<&Conflict> {
        match self {
            Self::Conflict { reason, .. } => Some(reason),
            _ => None,
        }
    }
}
