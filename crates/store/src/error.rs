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
    /// No server of the store answers. Nothing was carried out.
    #[error("the store {store} does not answer: {reason}")]
    Unavailable {
        /// Its address.
        store: String,
        /// What each server said, or did not say.
        reason: String,
    },
    /// The request went out and no answer came back: all or nothing of it is there, or will be: a server that was stopped
    /// with the request in its hands carries it out when it goes on, after whatever was written since. Reading again tells
    /// what is so now; only compares keep what was decided on an older state from being carried out later.
    #[error(
        "the answer to a request to {doing} was lost, so it may have been carried out, or still be: {reason}"
    )]
    Unknown {
        /// The verb.
        doing: &'static str,
        /// What was seen instead of the answer.
        reason: String,
    },
    /// The store does not let us in.
    #[error("the store {store} refuses the login of {user}: {reason}")]
    LoginRefused {
        /// Its address.
        store: String,
        /// Whose login; `nobody` without one.
        user: String,
        /// The server's reason.
        reason: String,
    },
    /// The user of the store may not do this.
    #[error("the store's user {user} has no permission to {doing} below {prefix}/")]
    NoPermission {
        /// The user.
        user: String,
        /// The verb.
        doing: &'static str,
        /// The prefix of this store's keys.
        prefix: String,
    },
    /// A transaction is larger than the store takes, although each of its values is not.
    #[error("a request to the store is too large: {reason}")]
    RequestTooLarge {
        /// The server's words, or the sizes.
        reason: String,
    },
    /// The store takes no more writes.
    #[error("the store {store} is full: {reason}")]
    Full {
        /// Its address.
        store: String,
        /// The server's reason.
        reason: String,
    },
    /// What is under the prefix is not Weft's. Nothing was written.
    #[error("{store} is not a Weft store: {reason}")]
    Foreign {
        /// Its address.
        store: String,
        /// What was seen.
        reason: String,
    },
    /// A newer Weft made the store. Nothing was written.
    #[error("{store} has schema {found}; this Weft reads up to {known}: it was made by a newer Weft")]
    NewerStore {
        /// Its address.
        store: String,
        /// Its schema.
        found: u64,
        /// The newest schema known here.
        known: u64,
    },
    /// Another store answers where the one that was opened did, or an older state of it.
    #[error("{store} is not the store that was opened: {reason}")]
    Replaced {
        /// Its address.
        store: String,
        /// How it differs.
        reason: String,
    },
    /// The replica does not follow this part of the store, so it knows nothing of it.
    #[error("the replica does not follow {prefix}")]
    NotFollowed {
        /// What was to be read.
        prefix: String,
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

    /// A request that breaks a rule of the seam.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }

    /// Whether trying again later may help although nobody changed the request, the store or its configuration.
    #[must_use]
    pub fn transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unknown { .. })
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
