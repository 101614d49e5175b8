//! Transactions evaluated: a pure function from the state and a group of requests to the records to write.
//!
//! A group shares one disk commit, so a later request of the group sees the earlier ones' writes, which are
//! not in the state yet: they lie in an overlay. Nothing here touches the state or the disk.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;

use super::{
    record::Record,
    state::{Entry, State},
};
use crate::{Item, LeaseId, Op, OpResult, Request, Response, StoreError};

/// What a lease becomes: granted or kept alive with a time to live, or ended.
pub(crate) type LeaseChange = Option<Duration>;

/// A group of requests being evaluated.
pub(crate) struct Group<'a> {
    base: &'a State,
    /// The revision after the requests so far.
    pub(crate) revision: u64,
    /// Keys that the group changed; `None` is removed.
    overlay: BTreeMap<Bytes, Option<Entry>>,
    /// The writes, in the order of the log.
    pub(crate) records: Vec<Record>,
    /// Leases that the group changed.
    pub(crate) leases: HashMap<LeaseId, LeaseChange>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(base: &'a State) -> Self {
        let (overlay, leases) = (BTreeMap::new(), HashMap::new());
        Self { base, revision: base.revision, overlay, records: Vec::new(), leases }
    }

    /// Runs one transaction, all of it or (on error) nothing.
    pub(crate) fn txn(&mut self, request: &Request) -> Result<Response, StoreError> {
        let succeeded = request.compares.iter().all(|c| c.holds(self.get(&c.key).map(|e| &e.item)));
        let ops = if succeeded { &request.then } else { &request.otherwise };
        for op in ops {
            if let Op::Put { lease: Some(lease), .. } = op {
                self.ttl(*lease)?;
            }
        }
        let mut write = Write { revision: self.revision + 1, sub: 0 };
        let results = ops.iter().map(|op| self.step(op, &mut write)).collect();
        if write.sub > 0 {
            self.revision = write.revision;
        }
        Ok(Response { succeeded, revision: self.revision, results })
    }

    /// Makes or renews a lease.
    pub(crate) fn grant(&mut self, lease: LeaseId, ttl: Duration) {
        self.leases.insert(lease, Some(ttl));
    }

    /// The time to live of a lease that has not ended.
    pub(crate) fn ttl(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        let known = match self.leases.get(&lease) {
            Some(change) => *change,
            None => self.base.leases.get(&lease).map(|l| l.ttl),
        };
        known.ok_or(StoreError::NoLease { lease })
    }

    /// Ends a lease and removes its keys in one revision.
    pub(crate) fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.ttl(lease)?;
        let held = self.base.leases.get(&lease).into_iter().flat_map(|l| l.keys.iter());
        let mut keys: HashSet<Bytes> = held.chain(self.overlay.keys()).cloned().collect();
        keys.retain(|k| self.get(k).is_some_and(|e| e.item.lease == Some(lease)));
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable();
        let mut write = Write { revision: self.revision + 1, sub: 0 };
        for key in keys {
            self.remove(key, &mut write);
        }
        if write.sub > 0 {
            self.revision = write.revision;
        }
        self.leases.insert(lease, None);
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Option<&Entry> {
        match self.overlay.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.get(key),
        }
    }

    fn range(&self, prefix: &[u8]) -> Vec<Item> {
        let mut found: BTreeMap<&Bytes, &Item> =
            self.base.under(prefix).map(|e| (&e.item.key, &e.item)).collect();
        for (key, changed) in self.overlay.iter().filter(|(k, _)| k.starts_with(prefix)) {
            match changed {
                Some(entry) => found.insert(key, &entry.item),
                None => found.remove(key),
            };
        }
        found.into_values().cloned().collect()
    }

    fn step(&mut self, op: &Op, write: &mut Write) -> OpResult {
        match op {
            Op::Get { key } => OpResult::Items(self.get(key).map(|e| e.item.clone()).into_iter().collect()),
            Op::Range { prefix } => OpResult::Items(self.range(prefix)),
            Op::Put { key, value, lease } => {
                self.put(key, value, *lease, write);
                OpResult::Put
            }
            Op::Delete { key } => {
                let there = self.get(key).is_some();
                if there {
                    self.remove(key.clone(), write);
                }
                OpResult::Deleted(u64::from(there))
            }
            Op::DeleteRange { prefix } => {
                let items = self.range(prefix);
                let count = items.len() as u64;
                for item in items {
                    self.remove(item.key, write);
                }
                OpResult::Deleted(count)
            }
        }
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, lease: Option<LeaseId>, write: &mut Write) {
        let old = self.get(key).map(|e| (e.item.create_revision, e.item.version));
        let (create_revision, version) = old.unwrap_or((write.revision, 0));
        // Requests may hand in slices of large buffers; a copy keeps only what is kept.
        let key = self.base.get(key).map_or_else(|| Bytes::copy_from_slice(key), |e| e.item.key.clone());
        let item = Item {
            key: key.clone(),
            value: Bytes::copy_from_slice(value),
            create_revision,
            mod_revision: write.revision,
            version: version + 1,
            lease,
        };
        let record = Record { item, sub: write.next(), deleted: false };
        self.overlay.insert(key, Some(Entry { item: record.item.clone(), at: record.log_key() }));
        self.records.push(record);
    }

    fn remove(&mut self, key: Bytes, write: &mut Write) {
        self.overlay.insert(key.clone(), None);
        self.records.push(Record::tombstone(key, write.revision, write.next()));
    }
}

/// The revision being written and how many writes it has.
struct Write {
    revision: u64,
    sub: u32,
}

impl Write {
    fn next(&mut self) -> u32 {
        self.sub += 1;
        self.sub - 1
    }
}
