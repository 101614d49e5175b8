//! Watches of a replica: a cursor over positions that pulls from the changes kept in memory. A slow one costs nothing, and
//! is told [`StoreError::Compacted`] when what it lacks is no longer kept. It does not keep the replica open.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;

use super::Shared;
use crate::{Batch, Event, Reached, StoreError, Watch};

struct Cursor {
    shared: Weak<Shared>,
    changed: watch::Receiver<()>,
    prefix: Bytes,
    /// The next position to look at.
    next: u64,
    ready: VecDeque<Batch>,
    reached: Reached,
    over: bool,
}

/// A watch on `prefix` from position `from` on (0: from the next change on).
pub(super) fn watch(shared: &Arc<Shared>, prefix: Bytes, from: u64) -> Result<Watch, StoreError> {
    let changed = shared.changed.subscribe();
    let next = {
        let state = shared.state.read();
        shared.readable(&state, &prefix)?;
        let next = if from == 0 { state.position + 1 } else { from };
        if next <= state.floor {
            return Err(StoreError::Compacted { asked: next, compacted: state.floor });
        }
        next
    };
    let reached = Reached::default();
    reached.tell(next - 1);
    let told = reached.clone();
    let shared = Arc::downgrade(shared);
    let cursor = Cursor { shared, changed, prefix, next, ready: VecDeque::new(), reached, over: false };
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
            self.reached.tell(self.next - 1);
            self.changed.borrow_and_update();
            if !self.fill()? && self.changed.changed().await.is_err() {
                return Err(StoreError::Closed);
            }
        }
    }

    /// Takes what there is from `next` on, and moves `next` past it; false when there was nothing to look at.
    fn fill(&mut self) -> Result<bool, StoreError> {
        let shared = self.shared.upgrade().ok_or(StoreError::Closed)?;
        let state = shared.state.read();
        if self.next <= state.floor {
            return Err(StoreError::Compacted { asked: self.next, compacted: state.floor });
        }
        if self.next > state.position {
            return Ok(false);
        }
        self.ready.extend(state.since(self.next).filter_map(|b| narrow(b, &self.prefix)));
        self.next = state.position + 1;
        Ok(true)
    }
}

/// The part of a batch under the prefix.
fn narrow(batch: &Batch, prefix: &[u8]) -> Option<Batch> {
    let events: Vec<Event> = batch.events.iter().filter(|e| e.key().starts_with(prefix)).cloned().collect();
    (!events.is_empty()).then_some(Batch { revision: batch.revision, events })
}
