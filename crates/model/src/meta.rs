//! What every resource has: an owner, a generation, labels; and how it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use weft_base::Timestamp;

use crate::ProjectId;

/// Free key-value pairs that people attach.
pub type Labels = BTreeMap<String, String>;

/// Bookkeeping common to all resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The owning project.
    pub project: ProjectId,
    /// When the resource was made.
    pub created: Timestamp,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
    /// People's labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Set once removal was asked for; the owning reconcilers take it down, then the record goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Timestamp>,
}

/// A resource: identity, wish and observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object<S, T> {
    /// Bookkeeping.
    pub meta: Meta,
    /// What is wanted; written by `weft-cloud` only.
    pub spec: S,
    /// What is so; written by the owning reconciler only.
    pub status: T,
}

/// Which store a kind of resource lives in (see the design, "The store").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This host's embedded store, always.
    Host,
    /// The store all hosts share; the embedded one on a single host.
    Cluster,
}

/// A kind of value kept in the store under `/weft/v1/<KIND>/<key>`.
pub trait Resource: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The path segment and noun, such as `container`.
    const KIND: &'static str;
    /// Where it lives; where [`Resource::SCOPES`] names two, the one of a record that says nothing else.
    const SCOPE: Scope;
    /// The scopes that records of this kind live in: two where [`Resource::scope`] decides for each.
    const SCOPES: &'static [Scope] = &[Self::SCOPE];
    /// Version of the value's JSON; raised when old text needs translating.
    const SCHEMA: u32 = 1;
    /// The last part of the key: the id, or the name for kinds without an id.
    fn key(&self) -> String;

    /// Where this record lives, for as long as it lives; one of [`Resource::SCOPES`].
    fn scope(&self) -> Scope {
        Self::SCOPE
    }

    /// Translates the JSON of an older schema version into the present one.
    fn upgrade(from: u32, _value: &mut serde_json::Value) -> Result<(), String> {
        Err(format!("no way is known from schema {from} of {}", Self::KIND))
    }
}

impl<S, T: Default> Object<S, T> {
    /// A new resource of `project` made at `now`.
    pub fn new(project: ProjectId, now: Timestamp, labels: Labels, spec: S) -> Self {
        let meta = Meta { project, created: now, generation: 1, labels, deleting: None };
        Self { meta, spec, status: T::default() }
    }
}
