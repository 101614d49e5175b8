//! The two scopes side by side: what a host keeps alone, and what all hosts share.

use std::sync::Arc;

use bytes::Bytes;
use weft_model::{Resource, Scope};

use crate::{Kv, PREFIX, StoreError};

/// The stores of both scopes; one store serves both on a single host. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    host: Arc<dyn Kv>,
    cluster: Arc<dyn Kv>,
}

/// How far both scopes have come. Revisions of the two say nothing about each other, so marks are ordered only where
/// both agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    host: u64,
    cluster: u64,
}

impl Mark {
    /// Whether all that was written by `asked` was written by now.
    #[must_use]
    pub fn covers(self, asked: Self) -> bool {
        self.host >= asked.host && self.cluster >= asked.cluster
    }
}

impl Stores {
    /// One store for both scopes: a single host is a cluster of one.
    #[must_use]
    pub fn single(kv: Arc<dyn Kv>) -> Self {
        Self { cluster: Arc::clone(&kv), host: kv }
    }

    /// A store for each scope.
    #[must_use]
    pub fn new(host: Arc<dyn Kv>, cluster: Arc<dyn Kv>) -> Self {
        Self { host, cluster }
    }

    /// The store of a scope.
    #[must_use]
    pub fn of(&self, scope: Scope) -> &Arc<dyn Kv> {
        match scope {
            Scope::Host => &self.host,
            Scope::Cluster => &self.cluster,
        }
    }

    /// Whether the scopes lie in two stores.
    #[must_use]
    pub fn are_two(&self) -> bool {
        !Arc::ptr_eq(&self.host, &self.cluster)
    }

    /// The different stores that `scopes` lie in, the first scope's first.
    pub(crate) fn among(&self, scopes: &[Scope]) -> Vec<(Scope, Arc<dyn Kv>)> {
        let mut stores: Vec<(Scope, Arc<dyn Kv>)> = Vec::with_capacity(2);
        for scope in scopes {
            let kv = self.of(*scope);
            if !stores.iter().any(|(_, known)| Arc::ptr_eq(known, kv)) {
                stores.push((*scope, Arc::clone(kv)));
            }
        }
        stores
    }

    /// How far both have come: what is read afterwards is at least as new. From memory where the stores can.
    ///
    /// # Errors
    /// Those of [`Kv::revision`].
    pub async fn mark(&self) -> Result<Mark, StoreError> {
        let host = revision(&self.host).await?;
        let cluster = if self.are_two() { revision(&self.cluster).await? } else { host };
        Ok(Mark { host, cluster })
    }
}

/// The prefixes that records of kind `R` and their names lie below: what a replica follows of it.
#[must_use]
pub fn prefixes<R: Resource>() -> [Bytes; 2] {
    [format!("{PREFIX}{}/", R::KIND), format!("{PREFIX}index/{}/", R::KIND)].map(Bytes::from)
}

async fn revision(kv: &Arc<dyn Kv>) -> Result<u64, StoreError> {
    match kv.local_revision() {
        Some(revision) => Ok(revision),
        None => kv.revision().await,
    }
}
