//! Kinds of `weft-model` as typed records over the seam.
//!
//! A [`Table`] reads and writes one kind; a [`Txn`] changes several kinds and claims names in one transaction;
//! an [`IndexKey`] makes a name unique. Values read once stay decoded until they change, so listing is cheap.

mod envelope;
mod index;
mod txn;

use std::{collections::HashMap, fmt::Display, ops::Deref, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use parking_lot::Mutex;
use weft_model::Resource;

pub use self::{index::IndexKey, txn::Txn};
use crate::{Compare, Conflict, Event, Item, Kv, Op, Request, StoreError, Watch};

/// Where all of Weft's keys begin.
pub const PREFIX: &str = "/weft/v1/";

/// A value and the revision of its last write. Cheap to clone.
#[derive(Debug)]
pub struct Stored<R> {
    /// The value.
    pub value: Arc<R>,
    /// The revision of its last write; hand it to `replace` or `Txn::update`.
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

/// Changes in the order of revisions; an error is the last word (after `Compacted`: list and watch again).
pub type Changes<R> = BoxStream<'static, Result<Change<R>, StoreError>>;

/// All records of one kind. Cheap to clone; clones share the cache of decoded values.
pub struct Table<R>(Arc<Inner<R>>);

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<R> {
    kv: Arc<dyn Kv>,
    prefix: String,
    cache: Mutex<Cache<R>>,
}

struct Cache<R> {
    values: HashMap<Bytes, Stored<R>>,
    list: Option<List<R>>,
}

/// The whole list as of a revision of the store.
struct List<R> {
    revision: u64,
    keys: Vec<Bytes>,
    values: Arc<[Stored<R>]>,
}

impl<R> Cache<R> {
    /// The decoded value of an item, if it was decoded since its last write.
    fn known(&self, item: &Item) -> Option<Stored<R>> {
        self.values.get(&item.key).filter(|s| s.revision == item.mod_revision).cloned()
    }

    fn keep(&mut self, key: Bytes, stored: Stored<R>) {
        // Only a list tells which records went; the cache must not grow for ever.
        if self.values.len() > 1024 + 2 * self.list.as_ref().map_or(0, |list| list.keys.len()) {
            self.values.clear();
        }
        self.values.insert(key, stored);
    }
}

/// The key of one record.
pub(crate) fn key_of<R: Resource>(key: &(impl Display + ?Sized)) -> String {
    format!("{PREFIX}{}/{key}", R::KIND)
}

impl<R: Resource> Table<R> {
    /// The table of kind `R` in `kv`.
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        let cache = Mutex::new(Cache { values: HashMap::new(), list: None });
        Self(Arc::new(Inner { kv, prefix: format!("{PREFIX}{}/", R::KIND), cache }))
    }

    /// The store below.
    #[must_use]
    pub fn kv(&self) -> &Arc<dyn Kv> {
        &self.0.kv
    }

    /// The prefix of this kind's keys, for `reconcile::Loop::watching`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// The record at `key` (id or name).
    pub async fn get(&self, key: &(impl Display + ?Sized + Sync)) -> Result<Option<Stored<R>>, StoreError> {
        let key = key_of::<R>(key);
        match self.0.kv.get(key.as_bytes()).await? {
            Some(item) => self.decode(&item).map(Some),
            None => {
                self.0.cache.lock().values.remove(key.as_bytes());
                Ok(None)
            }
        }
    }

    /// All records in key order.
    pub async fn list(&self) -> Result<Vec<Stored<R>>, StoreError> {
        Ok(self.list_shared().await?.to_vec())
    }

    /// All records in key order, shared: an unchanged store answers without any copy.
    pub async fn list_shared(&self) -> Result<Arc<[Stored<R>]>, StoreError> {
        if let Some(now) = self.0.kv.local_revision()
            && let Some(list) = self.0.cache.lock().list.as_ref().filter(|list| list.revision == now)
        {
            return Ok(Arc::clone(&list.values));
        }
        Ok(self.read_list().await?.1)
    }

    /// All records, and the changes since.
    pub async fn follow(&self) -> Result<(Vec<Stored<R>>, Changes<R>), StoreError> {
        let (revision, list) = self.read_list().await?;
        let changes = self.watch_from(revision + 1).await?;
        Ok((list.to_vec(), changes))
    }

    async fn read_list(&self) -> Result<(u64, Arc<[Stored<R>]>), StoreError> {
        let range = self.0.kv.range(self.0.prefix.as_bytes()).await?;
        let mut cache = self.0.cache.lock();
        let old = cache.list.take();
        // Both lists are in key order: most records are found unchanged by walking them side by side.
        let mut before = old.iter().flat_map(|l| l.keys.iter().zip(l.values.iter())).peekable();
        let (mut keys, mut list) =
            (Vec::with_capacity(range.items.len()), Vec::with_capacity(range.items.len()));
        for item in &range.items {
            while before.next_if(|(key, _)| **key < item.key).is_some() {}
            let same = before.next_if(|(key, s)| **key == item.key && s.revision == item.mod_revision);
            let stored = match same.map(|(_, s)| s.clone()).or_else(|| cache.known(item)) {
                Some(stored) => stored,
                None => decode(item)?,
            };
            keys.push(item.key.clone());
            list.push(stored);
        }
        let values: Arc<[Stored<R>]> = list.into();
        // `get` finds there what the list decoded; what is gone from the list goes from there.
        if old.is_none_or(|old| old.values.len() != values.len() || !same_values(&old.values, &values)) {
            cache.values = keys.iter().cloned().zip(values.iter().cloned()).collect();
        }
        cache.list = Some(List { revision: range.revision, keys, values: Arc::clone(&values) });
        Ok((range.revision, values))
    }

    /// Makes a record.
    ///
    /// # Errors
    /// [`Conflict::Exists`].
    pub async fn create(&self, value: &R) -> Result<Stored<R>, StoreError> {
        let revision = Txn::new(&self.0.kv).create(value).commit().await?;
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
        loop {
            let Some(item) = self.0.kv.get(key.as_bytes()).await? else {
                return Err(StoreError::Conflict { key, reason: Conflict::Missing });
            };
            let stored = self.decode(&item)?;
            let mut value = R::clone(&stored.value);
            if !change(&mut value) {
                return Ok(stored);
            }
            let encoded = envelope::encode(&key, &value)?;
            let response = self
                .0
                .kv
                .txn(Request {
                    compares: vec![Compare::unchanged(item.key.clone(), item.mod_revision)],
                    then: vec![Op::Put { key: item.key, value: encoded, lease: item.lease }],
                    otherwise: Vec::new(),
                })
                .await?;
            if response.succeeded {
                return Ok(Stored { value: Arc::new(value), revision: response.revision });
            }
        }
    }

    /// Writes a whole record that was read at `revision`.
    ///
    /// # Errors
    /// [`Conflict::Changed`], [`Conflict::Missing`].
    pub async fn replace(&self, value: &R, revision: u64) -> Result<Stored<R>, StoreError> {
        let revision = Txn::new(&self.0.kv).update(value, revision).commit().await?;
        Ok(Stored { value: Arc::new(value.clone()), revision })
    }

    /// Removes a record; answers whether it was there.
    pub async fn delete(&self, key: &(impl Display + ?Sized + Sync)) -> Result<bool, StoreError> {
        let response = self.0.kv.txn(Request::always(vec![Op::delete(key_of::<R>(key))])).await?;
        Ok(response.results.contains(&crate::OpResult::Deleted(1)))
    }

    /// Changes from now on.
    pub async fn watch(&self) -> Result<Changes<R>, StoreError> {
        self.watch_from(0).await
    }

    /// Changes from `revision` on (inclusive; 0 means from now on).
    pub async fn watch_from(&self, revision: u64) -> Result<Changes<R>, StoreError> {
        let watch: Watch = self.0.kv.watch(self.0.prefix.as_bytes(), revision).await?;
        let table = self.clone();
        Ok(watch
            .into_stream()
            .flat_map(move |batch| {
                let changes: Vec<_> = match batch {
                    Ok(batch) => batch.events.iter().map(|e| table.change(e)).collect(),
                    Err(error) => vec![Err(error)],
                };
                stream::iter(changes)
            })
            .boxed())
    }

    fn change(&self, event: &Event) -> Result<Change<R>, StoreError> {
        match event {
            // A watch may lag: the past must not overwrite newer values in the cache.
            Event::Put(item) => {
                let known = self.0.cache.lock().known(item);
                known.map_or_else(|| decode(item), Ok).map(Change::Put)
            }
            Event::Delete { key, .. } => {
                let last = &key[self.0.prefix.len()..];
                Ok(Change::Gone(String::from_utf8_lossy(last).into_owned()))
            }
        }
    }

    fn decode(&self, item: &Item) -> Result<Stored<R>, StoreError> {
        if let Some(stored) = self.0.cache.lock().known(item) {
            return Ok(stored);
        }
        let stored: Stored<R> = decode(item)?;
        self.0.cache.lock().keep(item.key.clone(), stored.clone());
        Ok(stored)
    }
}

fn same_values<R>(a: &[Stored<R>], b: &[Stored<R>]) -> bool {
    a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(&a.value, &b.value))
}

fn decode<R: Resource>(item: &Item) -> Result<Stored<R>, StoreError> {
    let value = Arc::new(envelope::decode(&item.key, &item.value)?);
    Ok(Stored { value, revision: item.mod_revision })
}
