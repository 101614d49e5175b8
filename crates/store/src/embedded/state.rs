//! What the embedded store holds in memory: every present item, the latest changes for watchers, the leases.
//!
//! Readers take a read lock for the length of one look-up; only the writer thread changes it, after the disk
//! has it. Watchers pull: each has a cursor, and finds what it lacks in the ring here or, when it fell
//! behind, in the log on disk. So a slow watcher costs nothing and loses nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::record::{LogKey, Record};
use crate::{Batch, Item, LeaseId, Range};

/// Most revisions, and most bytes of keys and values, that the ring of latest changes keeps.
const RING_LEN: usize = 256;
const RING_BYTES: usize = 512 << 10;

/// A present item and where in the log it lies.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) item: Item,
    pub(crate) at: LogKey,
}

/// A record of the log that is history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead {
    /// The revision that superseded it.
    pub(crate) since: u64,
    pub(crate) at: LogKey,
    pub(crate) size: usize,
}

/// A lease in memory.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) ttl: Duration,
    pub(crate) deadline: Instant,
    pub(crate) keys: BTreeSet<Bytes>,
}

/// The whole store in memory.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) revision: u64,
    /// Changes up to and including this revision cannot be watched any more.
    pub(crate) compacted: u64,
    pub(crate) map: BTreeMap<Bytes, Entry>,
    pub(crate) leases: HashMap<LeaseId, Lease>,
    /// Records that are history, the first superseded first.
    pub(crate) dead: VecDeque<Dead>,
    dead_bytes: usize,
    ring: VecDeque<Batch>,
    ring_bytes: usize,
}

impl State {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.map.get(key)
    }

    /// Present items under `prefix` in key order.
    pub(crate) fn under<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Entry> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.map.range::<[u8], _>(from).take_while(move |(k, _)| k.starts_with(prefix)).map(|(_, e)| e)
    }

    pub(crate) fn range(&self, prefix: &[u8]) -> Range {
        Range { revision: self.revision, items: self.under(prefix).map(|e| e.item.clone()).collect() }
    }

    /// Takes one record of the log into the present; records come in the order of the log.
    pub(crate) fn apply(&mut self, record: &Record) {
        let (key, at) = (&record.item.key, record.log_key());
        self.revision = self.revision.max(at.0);
        let old = if record.deleted {
            self.map.remove(key)
        } else {
            let entry = Entry { item: record.item.clone(), at };
            self.map.insert(key.clone(), entry)
        };
        if let Some(old) = old {
            self.bury(at.0, old.at, &old.item);
            if let Some(lease) = old.item.lease.and_then(|id| self.leases.get_mut(&id)) {
                lease.keys.remove(key);
            }
        }
        if record.deleted {
            self.bury(at.0, at, &record.item);
        } else if let Some(lease) = record.item.lease.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
    }

    fn bury(&mut self, since: u64, at: LogKey, item: &Item) {
        let size = item.key.len() + item.value.len();
        self.dead_bytes += size;
        self.dead.push_back(Dead { since, at, size });
    }

    /// The first `count` records of the history are gone from the log.
    pub(crate) fn swept(&mut self, count: usize) {
        self.dead_bytes -= self.dead.drain(..count).map(|d| d.size).sum::<usize>();
    }

    /// The revision up to which the history must go so that the rest has at most half of `limit` bytes; none while the
    /// whole has not more than `limit`.
    pub(crate) fn overweight(&self, limit: usize) -> Option<u64> {
        if self.dead_bytes <= limit {
            return None;
        }
        let mut left = self.dead_bytes;
        let fits = |dead: &&Dead| {
            left -= dead.size;
            left <= limit / 2
        };
        self.dead.iter().find(fits).map(|dead| dead.since)
    }

    /// Shows a committed revision to watchers.
    pub(crate) fn publish(&mut self, batch: Batch) {
        self.ring_bytes += weight(&batch);
        self.ring.push_back(batch);
        while self.ring.len() > RING_LEN || (self.ring_bytes > RING_BYTES && self.ring.len() > 1) {
            if let Some(old) = self.ring.pop_front() {
                self.ring_bytes -= weight(&old);
            }
        }
    }

    /// The first revision that the ring holds or will hold.
    pub(crate) fn ring_start(&self) -> u64 {
        self.ring.front().map_or(self.revision + 1, |b| b.revision)
    }

    /// The batches of the ring from revision `from` on.
    pub(crate) fn recent(&self, from: u64) -> impl Iterator<Item = &Batch> {
        let skip = usize::try_from(from.saturating_sub(self.ring_start())).unwrap_or(usize::MAX);
        self.ring.iter().skip(skip)
    }

    /// Whether the ring shows that nothing below `prefix` has changed after `revision`.
    pub(crate) fn quiet_since(&self, prefix: &[u8], revision: u64) -> bool {
        let mut since = self.recent(revision + 1).flat_map(|batch| &batch.events);
        revision == self.revision
            || (revision + 1 >= self.ring_start() && !since.any(|event| event.key().starts_with(prefix)))
    }

    /// When the next lease ends.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().map(|l| l.deadline).min()
    }
}

fn weight(batch: &Batch) -> usize {
    let one = |e: &crate::Event| match e {
        crate::Event::Put(item) => item.key.len() + item.value.len() + 64,
        crate::Event::Delete { key, .. } => key.len() + 64,
    };
    batch.events.iter().map(one).sum()
}
