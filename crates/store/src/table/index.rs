//! Unique names: a key beside the records that says which id holds a name.
//!
//! `/weft/v1/index/<kind>/<name>` holds `{"v":1,"id":"…"}`. It is claimed and released in the transaction that makes
//! and removes the record, so a name is never taken without its holder.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_model::{Resource, Scope};

use super::PREFIX;
use crate::{StoreError, Stores};

/// The key of a unique name. A kind that lies in both scopes has its names in both, each beside its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexKey {
    key: String,
    scopes: &'static [Scope],
}

#[derive(Serialize, Deserialize)]
struct Holder {
    v: u32,
    id: String,
}

impl IndexKey {
    /// The name `name` among those of kind `R`.
    #[must_use]
    pub fn of<R: Resource>(name: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self { key: format!("{PREFIX}index/{}/{name}", R::KIND), scopes: R::SCOPES }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// The scope, where the kind has one only.
    pub(super) fn scope(&self) -> Option<Scope> {
        match self.scopes {
            [scope] => Some(*scope),
            _ => None,
        }
    }

    /// The id that holds the name; where it is held in both scopes, the one of the kind's first.
    ///
    /// # Errors
    /// Those of [`crate::Kv::get`]; a value that cannot be read, with its key.
    pub async fn lookup(&self, stores: &Stores) -> Result<Option<String>, StoreError> {
        for (_, kv) in stores.among(self.scopes) {
            if let Some(item) = kv.get(self.key.as_bytes()).await? {
                return Self::holder(&self.key, &item.value).map(Some);
            }
        }
        Ok(None)
    }

    pub(crate) fn value(id: &str) -> Bytes {
        let id = serde_json::Value::from(id);
        format!("{{\"v\":1,\"id\":{id}}}").into()
    }

    pub(crate) fn holder(key: &str, value: &[u8]) -> Result<String, StoreError> {
        let holder: Holder = serde_json::from_slice(value)
            .map_err(|e| StoreError::Decode { key: key.to_owned(), source: std::sync::Arc::new(e) })?;
        if holder.v > 1 {
            return Err(StoreError::NewerValue { key: key.to_owned(), found: holder.v, known: 1 });
        }
        Ok(holder.id)
    }
}
