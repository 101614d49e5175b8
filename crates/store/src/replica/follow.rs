//! One followed prefix: a task that lists it, then watches it, for as long as it is followed.
//!
//! ```text
//!          listed                    Compacted: what was missed is found by a list
//!   List ─────────▶ Watch ──────────────────────────────────────────────▶ List
//!    ▲ └─ away: wait, again            ├─ broken: wait, watch again from where it was
//!    │                                 └─ Replaced: stop, what is known stays
//!    start
//! ```
//!
//! A start always lists, also where the file says how far it was: only so is a store noticed that was put back or
//! replaced while this daemon was away. There is no cheaper proof in the seam.

use std::{sync::Weak, time::Duration};

use bytes::Bytes;
use weft_base::Backoff;

use super::Shared;
use crate::{StoreError, Watch};

/// Follows `prefix` until the replica goes or the prefix is left (then the task is aborted).
pub(super) async fn follow(shared: Weak<Shared>, prefix: Bytes) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        // The replica is not kept alive from here while the store is waited for.
        let Some(origin) = shared.upgrade().map(|s| std::sync::Arc::clone(&s.origin)) else { return };
        let outcome = match origin.range(&prefix).await {
            Ok(list) => {
                let from = list.revision + 1;
                let Some(shared) = shared.upgrade() else { return };
                shared.change(|state| state.list(&prefix, list));
                backoff.reset();
                drop(shared);
                Ok(from)
            }
            Err(error) => Err(error),
        };
        let error = match outcome {
            Ok(from) => watch_on(&shared, &prefix, from).await,
            Err(error) => error,
        };
        let Some(alive) = shared.upgrade() else { return };
        alive.stuck(&prefix, &error);
        match error {
            StoreError::Compacted { .. } => {
                tracing::info!(?prefix, "the history was compacted, listing again")
            }
            StoreError::Replaced { .. } => return,
            _ => {}
        }
        drop(alive);
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Watches from `from` on, again and again, until a list is needed or nothing helps.
async fn watch_on(shared: &Weak<Shared>, prefix: &Bytes, mut from: u64) -> StoreError {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        let Some(origin) = shared.upgrade().map(|s| std::sync::Arc::clone(&s.origin)) else {
            return StoreError::Closed;
        };
        let opened = origin.watch(prefix, from).await;
        drop(origin);
        let error = match opened {
            Ok(mut watch) => {
                if let Some(shared) = shared.upgrade() {
                    shared.moving(prefix);
                }
                let error = drain(shared, prefix, &mut watch, &mut backoff).await;
                from = from.max(watch.reached() + 1);
                error
            }
            Err(error) => error,
        };
        if matches!(error, StoreError::Compacted { .. } | StoreError::Replaced { .. }) {
            return error;
        }
        let Some(alive) = shared.upgrade() else { return error };
        alive.stuck(prefix, &error);
        drop(alive);
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Takes what a watch tells, to its end.
async fn drain(
    shared: &Weak<Shared>,
    prefix: &Bytes,
    watch: &mut Watch,
    backoff: &mut Backoff,
) -> StoreError {
    loop {
        let told = watch.next().await;
        let reached = watch.reached();
        let Some(shared) = shared.upgrade() else { return StoreError::Closed };
        match told {
            Ok(batch) => shared.change(|state| {
                state.apply(prefix, &batch);
                // Progress that came before the batch says nothing of it; afterwards it may be further.
                state.reached(prefix, reached);
            }),
            Err(error) => {
                shared.change(|state| state.reached(prefix, reached));
                return error;
            }
        }
        backoff.reset();
    }
}
