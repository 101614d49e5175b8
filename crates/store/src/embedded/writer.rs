//! The writer thread: collects the requests that wait, evaluates them, and commits them as one.
//!
//! ```text
//! callers ──> queue ──> evaluate the group ──> one redb commit (one fsync) ──> memory ──> answers, watchers
//!               ^                                   │
//!               └── requests that come meanwhile ───┘ are the next group
//! ```
//!
//! A lone writer waits for nobody; under load the group grows by itself to what arrived during one fsync. Leases
//! end here too: the thread sleeps no longer than until the next deadline.
//!
//! A failed commit leaves unknown what the disk has. The store then refuses writes until it is opened again;
//! reads go on from memory, which shows only what is known to be durable.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use redb::WriteTransaction;
use tokio::sync::oneshot;

use super::{
    Shared,
    eval::Group,
    file::{LEASES, LOG, META, backend, unix_millis},
    record::LogKey,
    state::{Lease, State},
};
use crate::{Batch, LeaseId, Request, Response, StoreError};

/// Most requests in one commit, and most dead records that one commit removes.
const GROUP: usize = 1024;
const SWEEP: usize = 256;
/// Most bytes of history. A few huge values, each written a thousand times, would fill the disk otherwise.
pub(crate) const HISTORY_BYTES: usize = 256 << 20;

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What callers ask of the writer.
pub(crate) enum Ask {
    Txn(Request, Answer<Response>),
    Grant(Duration, Answer<LeaseId>),
    Keepalive(LeaseId, Answer<Duration>),
    Revoke(LeaseId, Answer<()>),
    Compact(u64, Answer<()>),
}

/// An answer that waits for the commit; told `Some(error)` when that failed.
type Pending = Box<dyn FnOnce(Option<&StoreError>) + Send>;

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) next_lease: u64,
    pub(crate) retain: u64,
    pub(crate) failed: Option<StoreError>,
}

/// What one commit changes.
struct Commit {
    records: Vec<super::record::Record>,
    leases: Vec<(LeaseId, Option<Duration>)>,
    revision: u64,
    compacted: u64,
    sweep: Vec<LogKey>,
    next_lease: Option<u64>,
}

impl Writer {
    /// Serves until every sender is gone.
    pub(crate) fn run(mut self) {
        loop {
            let deadline = self.shared.state.read().next_deadline();
            let first = match deadline.filter(|_| self.failed.is_none()) {
                None => match self.asks.recv() {
                    Ok(ask) => Some(ask),
                    Err(mpsc::RecvError) => return,
                },
                Some(at) => match self.asks.recv_timeout(at.saturating_duration_since(Instant::now())) {
                    Ok(ask) => Some(ask),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                },
            };
            let asks: Vec<Ask> = first.into_iter().chain(self.asks.try_iter()).take(GROUP).collect();
            self.serve(asks);
        }
    }

    fn serve(&mut self, asks: Vec<Ask>) {
        let shared = Arc::clone(&self.shared);
        let (commit, pending) = {
            let state = shared.state.read();
            let mut group = Group::new(&state);
            let (first_lease, mut compact) = (self.next_lease, state.compacted);
            if self.failed.is_none() {
                expire(&state, &mut group);
            }
            shared.counts.requests.fetch_add(asks.len() as u64, Relaxed);
            let mut pending = Vec::with_capacity(asks.len());
            for ask in asks {
                pending.push(self.evaluate(ask, &mut group, &mut compact));
            }
            let next_lease = (self.next_lease != first_lease).then_some(self.next_lease);
            (self.plan(group, compact, next_lease, &state), pending)
        };
        let error = commit.and_then(|commit| self.carry_out(commit).err());
        for answer in pending {
            answer(error.as_ref());
        }
    }

    /// Evaluates one request into the group.
    fn evaluate(&mut self, ask: Ask, group: &mut Group<'_>, compact: &mut u64) -> Pending {
        if let Some(error) = &self.failed {
            return refuse(ask, error.clone());
        }
        match ask {
            Ask::Txn(request, to) => answer(to, group.txn(&request)),
            Ask::Grant(ttl, to) => {
                let id = LeaseId(self.next_lease);
                self.next_lease += 1;
                group.grant(id, ttl);
                answer(to, Ok(id))
            }
            Ask::Keepalive(id, to) => {
                let ttl = group.ttl(id);
                if let Ok(ttl) = ttl {
                    group.grant(id, ttl);
                }
                answer(to, ttl)
            }
            Ask::Revoke(id, to) => answer(to, group.revoke(id)),
            Ask::Compact(revision, to) => {
                let now = group.revision;
                if revision > now {
                    let reason = format!("cannot compact to revision {revision}, the present one is {now}");
                    return answer(to, Err(StoreError::invalid(reason)));
                }
                *compact = (*compact).max(revision);
                answer(to, Ok(()))
            }
        }
    }

    /// Decides what to write, the automatic compaction included; `None` when nothing is to be written.
    fn plan(&self, group: Group<'_>, compact: u64, next_lease: Option<u64>, state: &State) -> Option<Commit> {
        let revision = group.revision;
        let mut compacted = compact;
        if revision.saturating_sub(compacted) > self.retain.saturating_mul(2) {
            compacted = revision - self.retain;
        }
        compacted = compacted.max(state.overweight(HISTORY_BYTES).unwrap_or(0));
        if group.records.is_empty() && group.leases.is_empty() && compacted == state.compacted {
            return None;
        }
        let old = state.dead.iter().take(SWEEP).take_while(|dead| dead.since <= compacted);
        let mut sweep: Vec<_> = old.collect();
        // The largest first: redb copies a whole page for each record removed from it.
        sweep.sort_by_key(|dead| std::cmp::Reverse(dead.size));
        let sweep = sweep.into_iter().map(|dead| dead.at).collect();
        let leases = group.leases.into_iter().collect();
        Some(Commit { records: group.records, leases, revision, compacted, sweep, next_lease })
    }

    fn carry_out(&mut self, commit: Commit) -> Result<(), StoreError> {
        // Watchers that read the log on disk check this after reading; so it is raised before the records go.
        let before = {
            let mut state = self.shared.state.write();
            std::mem::replace(&mut state.compacted, commit.compacted)
        };
        let now = Instant::now();
        let written = self.write(&commit, before);
        self.shared.counts.commits.observe(now.elapsed());
        if let Err(error) = written {
            self.shared.counts.failures.fetch_add(1, Relaxed);
            tracing::error!(error = %weft_base::chain(&error), "the store cannot write any more");
            self.failed = Some(error.clone());
            return Err(error);
        }
        let mut state = self.shared.state.write();
        for (id, change) in &commit.leases {
            if let Some(ttl) = change {
                let lease = state.leases.entry(*id).or_insert_with(|| Lease {
                    ttl: *ttl,
                    deadline: now,
                    keys: std::collections::BTreeSet::new(),
                });
                lease.deadline = now + *ttl;
            }
        }
        for records in commit.records.chunk_by(|a, b| a.item.mod_revision == b.item.mod_revision) {
            for record in records {
                state.apply(record);
            }
            let events = records.iter().map(super::record::Record::event).collect();
            state.publish(Batch { revision: records[0].item.mod_revision, events });
        }
        for (id, _) in commit.leases.iter().filter(|(_, change)| change.is_none()) {
            state.leases.remove(id);
        }
        state.swept(commit.sweep.len());
        let revision = state.revision;
        drop(state);
        self.shared.changed.send_replace(revision);
        Ok(())
    }

    fn write(&self, commit: &Commit, compacted_before: u64) -> Result<(), StoreError> {
        let tx = self.shared.db.begin_write().map_err(|e| backend("begin a commit", e))?;
        write_log(&tx, commit)?;
        if !commit.leases.is_empty() {
            let mut table = tx.open_table(LEASES).map_err(|e| backend("open the leases", e))?;
            for (id, change) in &commit.leases {
                match change {
                    Some(ttl) => {
                        let deadline = unix_millis(self.shared.clock.now().plus(*ttl));
                        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                        table.insert(id.0, (ttl, deadline)).map_err(|e| backend("write a lease", e))?;
                    }
                    None => {
                        table.remove(id.0).map_err(|e| backend("remove a lease", e))?;
                    }
                }
            }
        }
        let mut meta = Vec::new();
        if commit.compacted != compacted_before || !commit.sweep.is_empty() {
            // The newest record may itself be swept (a removal), so the revision is kept here as well.
            meta.push(("compacted", commit.compacted));
            meta.push(("revision", commit.revision));
        }
        meta.extend(commit.next_lease.map(|n| ("next_lease", n)));
        if !meta.is_empty() {
            let mut table = tx.open_table(META).map_err(|e| backend("open the meta table", e))?;
            for (key, value) in meta {
                let text = value.to_string();
                table.insert(key, text.as_str()).map_err(|e| backend("write the meta table", e))?;
            }
        }
        tx.commit().map_err(|e| backend("commit", e))
    }
}

fn write_log(tx: &WriteTransaction, commit: &Commit) -> Result<(), StoreError> {
    if commit.records.is_empty() && commit.sweep.is_empty() {
        return Ok(());
    }
    let mut log = tx.open_table(LOG).map_err(|e| backend("open the log", e))?;
    let mut bytes = Vec::new();
    for record in &commit.records {
        record.encode(&mut bytes);
        log.insert(record.log_key(), bytes.as_slice()).map_err(|e| backend("write the log", e))?;
    }
    for key in &commit.sweep {
        log.remove(*key).map_err(|e| backend("sweep the log", e))?;
    }
    Ok(())
}

/// Ends the leases whose time is over.
fn expire(state: &State, group: &mut Group<'_>) {
    let now = Instant::now();
    let mut over: Vec<_> =
        state.leases.iter().filter(|(_, l)| l.deadline <= now).map(|(id, _)| *id).collect();
    over.sort_unstable();
    for id in over {
        tracing::debug!(lease = %id, "lease ended");
        if let Err(error) = group.revoke(id) {
            tracing::warn!(lease = %id, %error, "cannot end a lease");
        }
    }
}

/// Holds an answer until the commit. A caller that went away is no concern.
fn answer<T: Send + 'static>(to: Answer<T>, result: Result<T, StoreError>) -> Pending {
    Box::new(move |error| {
        let result = match error {
            Some(error) => Err(error.clone()),
            None => result,
        };
        drop(to.send(result));
    })
}

fn refuse(ask: Ask, error: StoreError) -> Pending {
    match ask {
        Ask::Txn(_, to) => answer(to, Err(error)),
        Ask::Grant(_, to) => answer(to, Err(error)),
        Ask::Keepalive(_, to) => answer(to, Err(error)),
        Ask::Revoke(_, to) | Ask::Compact(_, to) => answer(to, Err(error)),
    }
}

/// The log on disk of revisions `from..until` as batches.
pub(crate) fn read_log(shared: &Shared, from: u64, until: u64) -> Result<Vec<Batch>, StoreError> {
    use redb::ReadableDatabase;
    let tx = shared.db.begin_read().map_err(|e| backend("read", e))?;
    let log = tx.open_table(LOG).map_err(|e| backend("open the log", e))?;
    let mut batches: Vec<Batch> = Vec::new();
    for entry in log.range((from, 0)..(until, 0)).map_err(|e| backend("read the log", e))? {
        let (key, value) = entry.map_err(|e| backend("read the log", e))?;
        let (revision, _) = key.value();
        let Some((record, _)) = super::record::Record::decode(value.value()) else {
            let detail = format!("the record of revision {revision} is unreadable");
            return Err(StoreError::Damaged { path: shared.path.clone(), detail });
        };
        match batches.last_mut().filter(|b| b.revision == revision) {
            Some(batch) => batch.events.push(record.event()),
            None => batches.push(Batch { revision, events: vec![record.event()] }),
        }
    }
    Ok(batches)
}

/// Keys own their bytes: what callers borrow is copied once.
pub(crate) fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
