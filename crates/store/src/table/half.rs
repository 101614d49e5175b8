//! The records of one kind in one store, decoded once.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use weft_model::Resource;

use super::{Change, Changes, PREFIX, Stored, envelope};
use crate::{Compare, Event, Item, Kv, Op, Request, StoreError, Watch};

/// One kind in one store. Values read once stay decoded until they change, so listing is cheap.
pub(super) struct Half<R> {
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

impl<R: Resource> Half<R> {
    pub(super) fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// Where this kind's keys begin.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn new(kv: Arc<dyn Kv>) -> Self {
        let cache = Mutex::new(Cache { values: HashMap::new(), list: None });
        Self { kv, prefix: format!("{PREFIX}{}/", R::KIND), cache }
    }

    /// The record at `key` (id or name).
    pub(super) async fn get(&self, key: &str) -> Result<Option<Stored<R>>, StoreError> {
        match self.kv.get(key.as_bytes()).await? {
            Some(item) => self.decode(&item).map(Some),
            None => {
                self.cache.lock().values.remove(key.as_bytes());
                Ok(None)
            }
        }
    }

    /// All records in key order, shared: an unchanged store answers without any copy.
    pub(super) async fn list_shared(&self) -> Result<Arc<[Stored<R>]>, StoreError> {
        if let Some(list) = &mut self.cache.lock().list
            && let Some(now) = self.kv.unchanged_since(self.prefix.as_bytes(), list.revision)
        {
            list.revision = now;
            return Ok(Arc::clone(&list.values));
        }
        Ok(self.read_list().await?.1)
    }

    /// All records, and the changes since.
    pub(super) async fn follow(self: &Arc<Self>) -> Result<(Vec<Stored<R>>, Changes<R>), StoreError> {
        let (revision, list) = self.read_list().await?;
        let changes = self.watch_from(revision + 1).await?;
        Ok((list.to_vec(), changes))
    }

    async fn read_list(&self) -> Result<(u64, Arc<[Stored<R>]>), StoreError> {
        let range = self.kv.range(self.prefix.as_bytes()).await?;
        let mut cache = self.cache.lock();
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

    /// What [`super::Table::update`] does; `None` when there is no such record here.
    pub(super) async fn update(
        &self,
        key: &str,
        change: &mut (impl FnMut(&mut R) -> bool + Send),
    ) -> Result<Option<Stored<R>>, StoreError> {
        while let Some(item) = self.kv.get(key.as_bytes()).await? {
            let stored = self.decode(&item)?;
            let mut value = R::clone(&stored.value);
            if !change(&mut value) {
                return Ok(Some(stored));
            }
            let unchanged = Compare::unchanged(item.key.clone(), item.mod_revision);
            let encoded = envelope::encode(key, &value)?;
            let put = Op::Put { key: item.key, value: encoded, lease: item.lease };
            let response = self.kv.txn(when(unchanged, put)).await?;
            if response.succeeded {
                return Ok(Some(Stored { value: Arc::new(value), revision: response.revision }));
            }
        }
        Ok(None)
    }

    /// Removes a record; answers whether it was there. What is removed is what was read: should the answer be lost and
    /// the request be carried out later, nothing newer goes.
    pub(super) async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        while let Some(item) = self.kv.get(key.as_bytes()).await? {
            let unchanged = Compare::unchanged(item.key.clone(), item.mod_revision);
            if self.kv.txn(when(unchanged, Op::delete(item.key))).await?.succeeded {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Changes from `revision` on (inclusive; 0 means from now on).
    pub(super) async fn watch_from(self: &Arc<Self>, revision: u64) -> Result<Changes<R>, StoreError> {
        let watch: Watch = self.kv.watch(self.prefix.as_bytes(), revision).await?;
        let half = Arc::clone(self);
        Ok(watch
            .into_stream()
            .flat_map(move |batch| {
                let changes: Vec<_> = match batch {
                    Ok(batch) => batch.events.iter().map(|e| half.change(e)).collect(),
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
                let known = self.cache.lock().known(item);
                known.map_or_else(|| decode(item), Ok).map(Change::Put)
            }
            Event::Delete { key, .. } => {
                let last = &key[self.prefix.len()..];
                Ok(Change::Gone(String::from_utf8_lossy(last).into_owned()))
            }
        }
    }

    fn decode(&self, item: &Item) -> Result<Stored<R>, StoreError> {
        if let Some(stored) = self.cache.lock().known(item) {
            return Ok(stored);
        }
        let stored: Stored<R> = decode(item)?;
        self.cache.lock().keep(item.key.clone(), stored.clone());
        Ok(stored)
    }
}

/// `then` where `condition` holds.
fn when(condition: Compare, then: Op) -> Request {
    Request { compares: vec![condition], then: vec![then], otherwise: Vec::new() }
}

fn same_values<R>(a: &[Stored<R>], b: &[Stored<R>]) -> bool {
    a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(&a.value, &b.value))
}

fn decode<R: Resource>(item: &Item) -> Result<Stored<R>, StoreError> {
    let value = Arc::new(envelope::decode(&item.key, &item.value)?);
    Ok(Stored { value, revision: item.mod_revision })
}
