//! Kinds of `weft-model` as typed records over the seam.
//!
//! A [`Table`] reads and writes one kind; a [`Txn`] changes several kinds and claims names in one transaction;
//! an [`IndexKey`] makes a name unique. Each record lies in the store of its scope (`weft_model::Scope`): a table of a kind
//! that lies in both shows them as one, a transaction is of one scope and refuses two.

mod both;
mod envelope;
mod half;
mod index;
mod txn;

use std::{fmt::Display, ops::Deref, sync::Arc};

use futures_util::{StreamExt, stream, stream::BoxStream};
use weft_model::Resource;

use self::{both::Union, half::Half};
pub use self::{index::IndexKey, txn::Txn};
use crate::{Conflict, Kv, StoreError, Stores};

/// Where all of Weft's keys begin.
pub const PREFIX: &str = "/weft/v1/";

/// A value and the revision of its last write. Cheap to clone.
#[derive(Debug)]
pub struct Stored<R> {
    /// The value.
    pub value: Arc<R>,
    /// The revision of its last write in the store of its scope; hand it to `replace` or `Txn::update`.
    pub revision: u64,
}

impl<R> Clone for Stored<R> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), revision: self.revision }
    }
}

impl<R> Deref for Stored<R> {
    type Target = R;
    fn deref(&self) -> &R {
        &self.value
    }
}

/// One change of a kind.
#[derive(Clone, Debug)]
pub enum Change<R> {
    /// Made or changed.
    Put(Stored<R>),
    /// Removed; the last part of its key (id or name).
    Gone(String),
}

/// Changes in the order of revisions of each store; an error is the last word of that store (after `Compacted`: list and
/// watch again).
pub type Changes<R> = BoxStream<'static, Result<Change<R>, StoreError>>;

/// All records of one kind. Cheap to clone; clones share the cache of decoded values.
pub struct Table<R>(Arc<Inner<R>>);

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<R> {
    stores: Stores,
    /// One for each store that holds such records.
    halves: Vec<Arc<Half<R>>>,
    union: Union<R>,
}

/// The key of one record.
pub(crate) fn key_of<R: Resource>(key: &(impl Display + ?Sized)) -> String {
    format!("{PREFIX}{}/{key}", R::KIND)
}

impl<R: Resource> Table<R> {
    /// The table of kind `R` in the stores of its scopes.
    #[must_use]
    pub fn new(stores: &Stores) -> Self {
        let halves = stores.among(R::SCOPES).into_iter().map(|(_, kv)| Arc::new(Half::new(kv))).collect();
        Self(Arc::new(Inner { stores: stores.clone(), halves, union: Union::default() }))
    }

    /// The stores below.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// Where this kind's keys are, for `reconcile::Loop::watching`.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Arc<dyn Kv>, String)> {
        self.0.halves.iter().map(|half| (Arc::clone(half.kv()), half.prefix().to_owned()))
    }

    /// The record at `key` (id or name).
    ///
    /// # Errors
    /// Those of [`Kv::get`]; a value that cannot be read, with its key.
    pub async fn get(&self, key: &(impl Display + ?Sized + Sync)) -> Result<Option<Stored<R>>, StoreError> {
        let key = key_of::<R>(key);
        for half in &self.0.halves {
            if let Some(found) = half.get(&key).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// All records in key order.
    ///
    /// # Errors
    /// Those of [`Kv::range`]; a value that cannot be read, with its key.
    pub async fn list(&self) -> Result<Vec<Stored<R>>, StoreError> {
        Ok(self.list_shared().await?.to_vec())
    }

    /// All records in key order, shared: an unchanged store answers without any copy.
    ///
    /// # Errors
    /// As [`Table::list`].
    pub async fn list_shared(&self) -> Result<Arc<[Stored<R>]>, StoreError> {
        match &self.0.halves[..] {
            [one] => one.list_shared().await,
            [one, other] => Ok(self.0.union.of(one.list_shared().await?, other.list_shared().await?)),
            _ => Ok(Arc::default()),
        }
    }

    /// All records, and the changes since.
    ///
    /// # Errors
    /// As [`Table::list`], and those of [`Kv::watch`].
    pub async fn follow(&self) -> Result<(Vec<Stored<R>>, Changes<R>), StoreError> {
        let (mut all, mut since) = (Vec::new(), Vec::new());
        for half in &self.0.halves {
            let (list, changes) = half.follow().await?;
            all.extend(list);
            since.push(changes);
        }
        all.sort_by_cached_key(|stored| stored.key());
        Ok((all, stream::select_all(since).boxed()))
    }

    /// Makes a record in the store of its scope.
    ///
    /// # Errors
    /// [`Conflict::Exists`].
    pub async fn create(&self, value: &R) -> Result<Stored<R>, StoreError> {
        let revision = Txn::new(self.stores()).create(value).commit().await?;
        Ok(Stored { value: Arc::new(value.clone()), revision })
    }

    /// Changes a record: `change` is applied to the present value, again when another writer came between,
    /// and answers whether it changed anything (if not, nothing is written). A lease on the key stays.
    ///
    /// # Errors
    /// [`Conflict::Missing`].
    pub async fn update(
        &self,
        key: &(impl Display + ?Sized + Sync),
        mut change: impl FnMut(&mut R) -> bool + Send,
    ) -> Result<Stored<R>, StoreError> {
        let key = key_of::<R>(key);
        for half in &self.0.halves {
            if let Some(now) = half.update(&key, &mut change).await? {
                return Ok(now);
            }
        }
        Err(StoreError::Conflict { key, reason: Conflict::Missing })
    }

    /// Writes a whole record that was read at `revision`.
    ///
    /// # Errors
    /// [`Conflict::Changed`], [`Conflict::Missing`].
    pub async fn replace(&self, value: &R, revision: u64) -> Result<Stored<R>, StoreError> {
        let revision = Txn::new(self.stores()).update(value, revision).commit().await?;
        Ok(Stored { value: Arc::new(value.clone()), revision })
    }

    /// Removes a record; answers whether it was there.
    ///
    /// # Errors
    /// Those of [`Kv::txn`].
    pub async fn delete(&self, key: &(impl Display + ?Sized + Sync)) -> Result<bool, StoreError> {
        let key = key_of::<R>(key);
        for half in &self.0.halves {
            if half.delete(&key).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Changes from now on.
    ///
    /// # Errors
    /// Those of [`Kv::watch`].
    pub async fn watch(&self) -> Result<Changes<R>, StoreError> {
        let mut since = Vec::new();
        for half in &self.0.halves {
            since.push(half.watch_from(0).await?);
        }
        Ok(stream::select_all(since).boxed())
    }
}
