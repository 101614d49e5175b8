//! A replica: what a host needs of a shared store, in memory and in a file of its own, so that readers never ask the
//! cluster and a host that cannot reach it goes on with what it knew. It is itself a [`Kv`].
//!
//! | call | answered by |
//! |---|---|
//! | `get`, `range`, `watch`, `revision`, `local_revision` | memory, of the prefixes that are followed |
//! | `txn`, leases, `compact` | the store; away: its typed error |
//!
//! A transaction that wrote is answered when its changes are in memory here, so a host reads its own writes; what others
//! write arrives with the watches, each prefix in order. Between prefixes there is no order: a transaction over two of
//! them may be seen half for a moment. Items and answers of transactions carry the store's revisions; lists, watches and
//! `local_revision` count positions, which are never behind them (`state` says why). So whoever waits for a write to be
//! looked at takes `local_revision` after it, not the answer's revision.
//!
//! What it refuses: to answer for what it does not follow ([`StoreError::NotFollowed`]), and to go on with a store that
//! was put back or replaced while it runs: then it keeps what it knew ([`Standing::error`]) until it is opened anew.

mod file;
mod follow;
mod pen;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::task::AbortHandle;

use self::{pen::Pen, state::State};
use crate::{Item, Kv, LeaseId, Op, OpResult, Range, Request, Response, StoreError, Watch};

/// How a replica is opened.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// The file; without one nothing outlives the process.
    pub path: Option<PathBuf>,
    /// The prefixes that must be known before it opens. None may be the beginning of another.
    pub follow: Vec<Bytes>,
    /// Prefixes below which only some parts are followed, by [`Replica::follow`]: lists and watches of them see those parts,
    /// also when there are none. What the file knows below them is followed at once.
    pub partial: Vec<Bytes>,
    /// How long a transaction that was carried out waits to be seen here.
    pub patience: Duration,
    /// Changes that watches can reach back to, and their most bytes of keys and values.
    pub retain: usize,
    /// See `retain`.
    pub retain_bytes: usize,
    /// Shortest time between two commits of the file.
    pub pause: Duration,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self {
            path: None,
            follow: Vec::new(),
            partial: Vec::new(),
            patience: Duration::from_secs(6),
            retain: 2048,
            retain_bytes: 16 << 20,
            pause: Duration::from_millis(50),
        }
    }
}

/// How it stands with a followed prefix.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The prefix.
    pub prefix: Bytes,
    /// The store's revision up to which it is known; none when it was never read.
    pub applied: Option<u64>,
    /// It was read since the replica was opened, not only remembered by the file.
    pub listed: bool,
    /// Why it does not move on at present. [`StoreError::Replaced`] is for good.
    pub error: Option<StoreError>,
}

/// What the replica, its tasks, its writer and its watches share.
struct Shared {
    origin: Arc<dyn Kv>,
    partial: Vec<Bytes>,
    state: RwLock<State>,
    /// Told at every change of `state`.
    changed: tokio::sync::watch::Sender<()>,
    pen: Pen,
}

/// A replica of parts of a store. Dropping it writes and closes its file; its watches end.
pub struct Replica {
    shared: Arc<Shared>,
    patience: Duration,
    tasks: Mutex<BTreeMap<Bytes, AbortHandle>>,
    writer: Option<JoinHandle<()>>,
}

impl Shared {
    /// Changes the state; tells readers and the file's writer.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let dirty = {
            let mut state = self.state.write();
            change(&mut state);
            !state.dirty.is_empty()
        };
        self.changed.send_replace(());
        if dirty {
            self.pen.ring();
        }
    }

    /// Notes why a prefix does not move on.
    fn stuck(&self, prefix: &Bytes, error: &StoreError) {
        self.change(|state| {
            if let Some(follow) = state.follows.get_mut(prefix) {
                if follow.error.is_none() {
                    tracing::warn!(?prefix, error = weft_base::chain(error), "the replica does not move on");
                }
                follow.error = Some(error.clone());
            }
        });
    }

    /// A prefix is watched (again).
    fn moving(&self, prefix: &Bytes) {
        self.change(|state| {
            if let Some(follow) = state.follows.get_mut(prefix) {
                follow.error = None;
            }
        });
    }

    /// Whether a list or watch of `prefix` may be answered from here.
    fn readable(&self, state: &State, prefix: &[u8]) -> Result<(), StoreError> {
        if let Some((held, follow)) = state.holder(prefix) {
            return match (&follow.applied, &follow.error) {
                (Some(_), _) => Ok(()),
                (None, Some(error)) => Err(error.clone()),
                (None, None) => Err(StoreError::Unavailable {
                    store: "below ".to_owned() + &String::from_utf8_lossy(held),
                    reason: "it was not read yet".to_owned(),
                }),
            };
        }
        let above = |part: &Bytes| part.starts_with(prefix) || prefix.starts_with(part);
        if state.parts(prefix).next().is_some() || self.partial.iter().any(above) {
            return Ok(());
        }
        Err(StoreError::NotFollowed { prefix: String::from_utf8_lossy(prefix).into_owned() })
    }
}

impl Replica {
    /// Opens a replica of `origin`. What the file knows is there at once and is compared with the store in the
    /// background; prefixes of `options.follow` that it does not know are read from the store first. Must be called in a
    /// runtime of tokio.
    ///
    /// # Errors
    /// Those of [`Kv::range`] on `origin` when something must be read (a first start without the store is refused),
    /// [`StoreError::InUse`], [`StoreError::NewerFile`], [`StoreError::NotAStore`], [`StoreError::Io`] naming the file,
    /// [`StoreError::Invalid`] for prefixes that overlap.
    pub async fn open(origin: Arc<dyn Kv>, options: ReplicaOptions) -> Result<Self, StoreError> {
        let all: Vec<_> = options.follow.iter().chain(&options.partial).collect();
        for (n, one) in all.iter().enumerate() {
            if let Some(other) = all[..n].iter().find(|o| overlap(o, one)) {
                return Err(overlapping(one, other));
            }
        }
        let path = options.path.clone();
        let opened = match path.clone() {
            Some(path) => {
                let opening = tokio::task::spawn_blocking(move || file::open(&path));
                Some(opening.await.map_err(|e| StoreError::backend("open", e))??)
            }
            None => None,
        };
        let (db, items, known) = opened.map_or_else(Default::default, |o| (Some(o.db), o.items, o.follows));
        let mut state = State::new(items, known, options.retain.max(1), options.retain_bytes);
        let wanted = |prefix: &Bytes| {
            options.follow.contains(prefix) || options.partial.iter().any(|p| prefix.starts_with(p))
        };
        let old: Vec<_> = state.follows.keys().filter(|p| !wanted(p)).cloned().collect();
        old.iter().for_each(|prefix| state.leave(prefix));
        for prefix in &options.follow {
            if !state.follows.contains_key(prefix) {
                let list = origin.range(prefix).await?;
                state.follows.insert(prefix.clone(), state::Follow::default());
                state.list(prefix, list);
            }
        }
        let prefixes: Vec<_> = state.follows.keys().cloned().collect();
        let shared = Arc::new(Shared {
            origin,
            partial: options.partial,
            state: RwLock::new(state),
            changed: tokio::sync::watch::Sender::new(()),
            pen: Pen::default(),
        });
        let writer = match (db, path) {
            (Some(db), Some(path)) => Some(pen::start(&shared, db, path, options.pause)?),
            _ => None,
        };
        shared.change(|_| {});
        let patience = options.patience;
        let replica = Self { shared, patience, tasks: Mutex::default(), writer };
        prefixes.into_iter().for_each(|prefix| replica.spawn(prefix));
        Ok(replica)
    }

    fn spawn(&self, prefix: Bytes) {
        let task = tokio::spawn(follow::follow(Arc::downgrade(&self.shared), prefix.clone()));
        self.tasks.lock().insert(prefix, task.abort_handle());
    }

    /// Follows `prefix` from now on; it can be read when it was listed, at once if the store answers. Following it again
    /// does nothing.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it overlaps another followed prefix.
    pub fn follow(&self, prefix: impl Into<Bytes>) -> Result<(), StoreError> {
        let prefix = prefix.into();
        {
            let mut state = self.shared.state.write();
            if state.follows.contains_key(&prefix) {
                return Ok(());
            }
            if let Some(other) = state.follows.keys().find(|o| overlap(o, &prefix)) {
                return Err(overlapping(&prefix, other));
            }
            state.follows.insert(prefix.clone(), state::Follow::default());
        }
        self.spawn(prefix);
        Ok(())
    }

    /// Follows `prefix` no more and forgets what is below it; watches are told of its items as removed.
    pub fn leave(&self, prefix: &[u8]) {
        let prefix = Bytes::copy_from_slice(prefix);
        if let Some(task) = self.tasks.lock().remove(&prefix) {
            task.abort();
        }
        self.shared.change(|state| state.leave(&prefix));
    }

    /// How it stands with each followed prefix, in their order.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let state = self.shared.state.read();
        let one = |(prefix, f): (&Bytes, &state::Follow)| Standing {
            prefix: prefix.clone(),
            applied: f.applied,
            listed: f.listed,
            error: f.error.clone(),
        };
        state.follows.iter().map(one).collect()
    }

    /// Why the file could not be written last, if so. What is in memory is not touched by it.
    #[must_use]
    pub fn file_error(&self) -> Option<StoreError> {
        self.shared.pen.error()
    }

    /// Waits until every followed prefix was read since the opening; false when that took longer than `within`.
    pub async fn caught_up(&self, within: Duration) -> bool {
        self.until(within, |state| state.follows.values().all(|f| f.listed)).await
    }

    /// Waits until `so` holds; false when that took longer than `within`.
    async fn until(&self, within: Duration, so: impl Fn(&State) -> bool) -> bool {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if so(&self.shared.state.read()) {
                    return true;
                }
                if changed.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(within, wait).await.unwrap_or(false)
    }

    /// Waits until what was carried out is seen here.
    async fn seen(&self, doing: &'static str, so: impl Fn(&State) -> bool) -> Result<(), StoreError> {
        if self.until(self.patience, so).await {
            return Ok(());
        }
        let reason = format!("it was carried out, and was not seen here within {:?}", self.patience);
        Err(StoreError::Unknown { doing, reason })
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.lock().values().for_each(AbortHandle::abort);
        self.shared.pen.stop();
        if self.writer.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the replica's writer had died");
        }
    }
}

fn overlap(one: &Bytes, other: &Bytes) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn overlapping(one: &Bytes, other: &Bytes) -> StoreError {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    StoreError::invalid(format!("the followed prefixes {} and {} overlap", text(one), text(other)))
}

/// Whether what a transaction wrote at `revision` is in `state`, as far as it is followed.
fn arrived(state: &State, revision: u64, wrote: &[Op]) -> bool {
    // What a file remembers is of a store that may have been replaced since, so it has to be listed first.
    let there = |key: &Bytes| state.holder(key).is_none_or(|(_, f)| f.listed && f.applied >= Some(revision));
    wrote.iter().all(|op| match op {
        Op::Put { key, .. } | Op::Delete { key } => there(key),
        Op::DeleteRange { prefix } if state.holder(prefix).is_some() => there(prefix),
        // Which of several followed prefixes it met is not told: none may have anything older there.
        Op::DeleteRange { prefix } => state.parts(prefix).all(|(part, f)| {
            f.applied >= Some(revision) || !state.under(part).any(|i| i.mod_revision < revision)
        }),
        Op::Get { .. } | Op::Range { .. } => true,
    })
}

/// The steps that wrote something.
fn wrote(request: Request, response: &Response) -> Vec<Op> {
    let ran = if response.succeeded { request.then } else { request.otherwise };
    let did = |result: &OpResult| match result {
        OpResult::Put => true,
        OpResult::Deleted(n) => *n > 0,
        OpResult::Items(_) => false,
    };
    ran.into_iter().zip(&response.results).filter(|(_, r)| did(r)).map(|(op, _)| op).collect()
}

#[async_trait]
impl Kv for Replica {
    async fn get(&self, key: &[u8]) -> Result<Option<Item>, StoreError> {
        let state = self.shared.state.read();
        if state.holder(key).is_none() {
            return Err(StoreError::NotFollowed { prefix: String::from_utf8_lossy(key).into_owned() });
        }
        self.shared.readable(&state, key)?;
        Ok(state.items.get(key).cloned())
    }

    async fn range(&self, prefix: &[u8]) -> Result<Range, StoreError> {
        let state = self.shared.state.read();
        self.shared.readable(&state, prefix)?;
        Ok(state.range(prefix))
    }

    async fn txn(&self, request: Request) -> Result<Response, StoreError> {
        let response = self.shared.origin.txn(request.clone()).await?;
        let wrote = wrote(request, &response);
        self.seen("write", |state| arrived(state, response.revision, &wrote)).await?;
        Ok(response)
    }

    async fn watch(&self, prefix: &[u8], from: u64) -> Result<Watch, StoreError> {
        watch::watch(&self.shared, Bytes::copy_from_slice(prefix), from)
    }

    async fn lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.shared.origin.lease(ttl).await
    }

    async fn keepalive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.shared.origin.keepalive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.origin.revoke(lease).await?;
        self.seen("end a lease", |state| !state.carries(lease)).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.shared.origin.compact(revision).await?;
        self.shared.change(|state| state.compact(revision));
        Ok(())
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        Ok(self.shared.state.read().position)
    }

    fn local_revision(&self) -> Option<u64> {
        Some(self.shared.state.read().position)
    }

    fn max_value(&self) -> usize {
        self.shared.origin.max_value()
    }
}
