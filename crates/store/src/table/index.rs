//! Unique names: a key beside the records that says which id holds a name.
//!
//! `/weft/v1/index/<kind>/<name>` holds `{"v":1,"id":"…"}`. It is claimed and released in the transaction that makes
//! and removes the record, so a name is never taken without its holder.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_model::Resource;

use super::PREFIX;
use crate::{Kv, StoreError};

/// The key of a unique name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey(String);

#[derive(Serialize, Deserialize)]
struct Holder {
    v: u32,
    id: String,
}

impl IndexKey {
    /// The name `name` among those of `kind`; a kind may have several indexes, such as `container-alias`.
    #[must_use]
    pub fn new(kind: &str, name: &str) -> Self {
        Self(format!("{PREFIX}index/{kind}/{name}"))
    }

    /// The name `name` among those of kind `R`.
    #[must_use]
    pub fn of<R: Resource>(name: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::new(R::KIND, &name.to_string())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that holds the name.
    pub async fn lookup(&self, kv: &dyn Kv) -> Result<Option<String>, StoreError> {
        match kv.get(self.0.as_bytes()).await? {
            Some(item) => Self::holder(&self.0, &item.value).map(Some),
            None => Ok(None),
        }
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
