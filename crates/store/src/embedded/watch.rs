//! Watches: a cursor over revisions that pulls from the ring in memory, or from the log on disk when it fell
//! behind, and ends with `Compacted` when the log no longer reaches back far enough.
//!
//! A watch does not keep the store open: it holds a weak reference, and ends with `Closed` when the store goes.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;

use super::{Shared, writer::read_log};
use crate::{Batch, Event, Reached, StoreError, Watch};

/// Revisions read from disk at a time.
const PAGE: u64 = 512;

struct Cursor {
    shared: Weak<Shared>,
    changed: watch::Receiver<u64>,
    prefix: Bytes,
    /// The next revision to look at.
    next: u64,
    ready: VecDeque<Batch>,
    reached: Reached,
    over: bool,
}

/// A watch on `prefix` from revision `from` on (0: from the next change on).
pub(crate) fn watch(shared: &Arc<Shared>, prefix: Bytes, from: u64) -> Result<Watch, StoreError> {
    let changed = shared.changed.subscribe();
    let state = shared.state.read();
    let next = if from == 0 { state.revision + 1 } else { from };
    if next <= state.compacted {
        return Err(StoreError::Compacted { asked: next, compacted: state.compacted });
    }
    drop(state);
    let reached = Reached::default();
    reached.tell(next - 1);
    let (told, ready) = (reached.clone(), VecDeque::new());
    let cursor =
        Cursor { shared: Arc::downgrade(shared), changed, prefix, next, ready, reached, over: false };
    let batches = stream::unfold(cursor, |mut cursor| async move {
        if cursor.over {
            return None;
        }
        let item = cursor.pull().await;
        cursor.over = item.is_err();
        Some((item, cursor))
    });
    Ok(Watch::new(batches, told))
}

impl Cursor {
    async fn pull(&mut self) -> Result<Batch, StoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.reached.tell(batch.revision);
                return Ok(batch);
            }
            let next = self.next;
            self.reached.tell(next - 1);
            if self.changed.wait_for(|revision| *revision >= next).await.is_err() {
                return Err(StoreError::Closed);
            }
            let shared = self.shared.upgrade().ok_or(StoreError::Closed)?;
            self.fill(shared).await?;
        }
    }

    /// Takes what there is from `next` on into `ready`, filtered, and moves `next` past it.
    async fn fill(&mut self, shared: Arc<Shared>) -> Result<(), StoreError> {
        let start = {
            let state = shared.state.read();
            if self.next <= state.compacted {
                return Err(StoreError::Compacted { asked: self.next, compacted: state.compacted });
            }
            let start = state.ring_start();
            if self.next >= start {
                let wanted = state.recent(self.next).filter_map(|b| narrow(b, &self.prefix));
                self.ready.extend(wanted);
                self.next = state.revision + 1;
                return Ok(());
            }
            start
        };
        let (from, until) = (self.next, start.min(self.next + PAGE));
        let reader = Arc::clone(&shared);
        let read = tokio::task::spawn_blocking(move || read_log(&reader, from, until)).await;
        let batches = read.map_err(|e| StoreError::backend("read the log", e))??;
        let compacted = shared.state.read().compacted;
        if from <= compacted {
            return Err(StoreError::Compacted { asked: from, compacted });
        }
        self.ready.extend(batches.iter().filter_map(|b| narrow(b, &self.prefix)));
        self.next = until;
        Ok(())
    }
}

/// The part of a batch under the prefix.
fn narrow(batch: &Batch, prefix: &[u8]) -> Option<Batch> {
    let events: Vec<Event> = batch.events.iter().filter(|e| e.key().starts_with(prefix)).cloned().collect();
    (!events.is_empty()).then_some(Batch { revision: batch.revision, events })
}
