//! What a replica holds in memory: the items it follows, how far each prefix is, the latest changes for its watchers, and
//! what its file does not have yet. No I/O here.
//!
//! Two countings of time meet. Items, and how far a prefix is, carry the **store's revisions**: compares need them. But two
//! watches of the store are not told in step, so a change of revision 10 may arrive after one of revision 12 below another
//! prefix. So the replica's readers and watchers count **positions**: each change takes the next position, at least its own
//! revision. A list and a watch from the position after it have no gap, and nothing changes without the position moving.
//! With one prefix followed, positions are the revisions.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    ops::Bound,
};

use bytes::Bytes;

use crate::{Batch, Event, Item, LeaseId, Range, StoreError};

/// A prefix that is followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Follow {
    /// The store's revision up to which its content is known; none before the first list.
    pub(super) applied: Option<u64>,
    /// It was listed since this replica was opened, so it is not only what the file remembered.
    pub(super) listed: bool,
    /// Why it does not move on, when it does not.
    pub(super) error: Option<StoreError>,
}

/// What the file lacks. Later changes of a key take the place of earlier ones, so a slow disk costs no memory beyond the
/// items themselves; taken as a whole it leads from one state that was in memory to another.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) items: BTreeMap<Bytes, Option<Item>>,
    /// How far a prefix is; none when it was left.
    pub(super) follows: BTreeMap<Bytes, Option<u64>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) position: u64,
    /// Positions up to this one cannot be watched any more.
    pub(super) floor: u64,
    pub(super) items: BTreeMap<Bytes, Item>,
    pub(super) follows: BTreeMap<Bytes, Follow>,
    pub(super) dirty: Dirty,
    log: VecDeque<Batch>,
    log_bytes: usize,
    retain: usize,
    retain_bytes: usize,
}

impl State {
    /// The state that a file remembered, or an empty one.
    pub(super) fn new(
        items: BTreeMap<Bytes, Item>,
        applied: BTreeMap<Bytes, u64>,
        retain: usize,
        retain_bytes: usize,
    ) -> Self {
        let position = applied.values().copied().max().unwrap_or(0).max(1);
        let known = |(prefix, at)| (prefix, Follow { applied: Some(at), ..Follow::default() });
        Self {
            position,
            floor: position,
            items,
            follows: applied.into_iter().map(known).collect(),
            dirty: Dirty::default(),
            log: VecDeque::new(),
            log_bytes: 0,
            retain,
            retain_bytes,
        }
    }

    /// The followed prefix that holds `key` (a key, or a longer prefix).
    pub(super) fn holder(&self, key: &[u8]) -> Option<(&Bytes, &Follow)> {
        self.follows.iter().find(|(prefix, _)| key.starts_with(prefix))
    }

    /// The followed prefixes that are parts of `prefix`.
    pub(super) fn parts(&self, prefix: &[u8]) -> impl Iterator<Item = (&Bytes, &Follow)> {
        self.follows.iter().filter(move |(part, _)| part.starts_with(prefix))
    }

    /// Present items under `prefix` in key order.
    pub(super) fn under<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Item> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.items.range::<[u8], _>(from).take_while(move |(k, _)| k.starts_with(prefix)).map(|(_, i)| i)
    }

    pub(super) fn range(&self, prefix: &[u8]) -> Range {
        Range { revision: self.position, items: self.under(prefix).cloned().collect() }
    }

    pub(super) fn carries(&self, lease: LeaseId) -> bool {
        self.items.values().any(|i| i.lease == Some(lease))
    }

    /// Takes a batch that the store's watch told below `prefix`. What is known already changes nothing.
    pub(super) fn apply(&mut self, prefix: &Bytes, batch: &Batch) {
        let known = self.follows.get(prefix).and_then(|f| f.applied);
        if known.is_none_or(|known| batch.revision <= known) {
            return;
        }
        self.take(batch.revision, batch.events.clone());
        self.reached(prefix, batch.revision);
    }

    /// The store's watch has told all below `prefix` up to `revision`.
    pub(super) fn reached(&mut self, prefix: &Bytes, revision: u64) {
        let Some(follow) = self.follows.get_mut(prefix) else { return };
        if follow.applied.is_some_and(|at| at < revision) {
            follow.applied = Some(revision);
            self.position = self.position.max(revision);
            self.dirty.follows.insert(prefix.clone(), Some(revision));
        }
    }

    /// Takes a list of all below `prefix`: tells what differs from what was known as one change.
    pub(super) fn list(&mut self, prefix: &Bytes, list: Range) {
        let revision = list.revision;
        // The task of a prefix that was left and is followed again may come late; nothing goes back.
        let late = |f: &Follow| f.listed && f.applied > Some(revision);
        if self.follows.get(prefix).is_none_or(late) {
            return;
        }
        let new: BTreeMap<_, _> = list.items.into_iter().map(|i| (i.key.clone(), i)).collect();
        let gone = self.under(prefix).filter(|i| !new.contains_key(&i.key));
        let gone = gone.map(|i| Event::Delete { key: i.key.clone(), revision });
        let mut events: Vec<_> = gone.collect();
        let differs = |item: &Item| self.items.get(&item.key) != Some(item);
        events.extend(new.into_values().filter(differs).map(Event::Put));
        if !events.is_empty() {
            self.take(revision, events);
        }
        self.position = self.position.max(revision);
        let listed = Follow { applied: Some(revision), listed: true, error: None };
        self.follows.insert(prefix.clone(), listed);
        self.dirty.follows.insert(prefix.clone(), Some(revision));
    }

    /// Forgets a prefix; its items are told as removed.
    pub(super) fn leave(&mut self, prefix: &Bytes) {
        if self.follows.remove(prefix).is_none() {
            return;
        }
        let revision = self.position + 1;
        let keys = self.under(prefix).map(|i| Event::Delete { key: i.key.clone(), revision });
        let events: Vec<_> = keys.collect();
        if !events.is_empty() {
            self.take(revision, events);
        }
        self.dirty.follows.insert(prefix.clone(), None);
    }

    fn take(&mut self, revision: u64, events: Vec<Event>) {
        for event in &events {
            match event {
                Event::Put(item) => {
                    self.items.insert(item.key.clone(), item.clone());
                    self.dirty.items.insert(item.key.clone(), Some(item.clone()));
                }
                Event::Delete { key, .. } => {
                    self.items.remove(key);
                    self.dirty.items.insert(key.clone(), None);
                }
            }
        }
        self.position = revision.max(self.position + 1);
        let batch = Batch { revision: self.position, events };
        self.log_bytes += weight(&batch);
        self.log.push_back(batch);
        while self.log.len() > self.retain || (self.log_bytes > self.retain_bytes && self.log.len() > 1) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(old) = self.log.pop_front() {
            self.log_bytes -= weight(&old);
            self.floor = old.revision;
        }
    }

    /// Forgets the changes up to and including `position`.
    pub(super) fn compact(&mut self, position: u64) {
        let position = position.min(self.position);
        while self.log.front().is_some_and(|b| b.revision <= position) {
            self.drop_oldest();
        }
        self.floor = self.floor.max(position);
    }

    /// The kept changes from position `from` on.
    pub(super) fn since(&self, from: u64) -> impl Iterator<Item = &Batch> {
        self.log.range(self.log.partition_point(|b| b.revision < from)..)
    }

    pub(super) fn take_dirty(&mut self) -> Dirty {
        mem::take(&mut self.dirty)
    }

    /// Puts back what could not be written; what changed since stands.
    pub(super) fn keep_dirty(&mut self, old: Dirty) {
        for (key, item) in old.items {
            self.dirty.items.entry(key).or_insert(item);
        }
        for (prefix, at) in old.follows {
            self.dirty.follows.entry(prefix).or_insert(at);
        }
    }
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.follows.is_empty()
    }
}

fn weight(batch: &Batch) -> usize {
    let one = |e: &Event| match e {
        Event::Put(item) => item.key.len() + item.value.len() + 64,
        Event::Delete { key, .. } => key.len() + 64,
    };
    batch.events.iter().map(one).sum()
}
