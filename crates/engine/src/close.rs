//! The end of a daemon that takes its containers along (`live-restore` switched off).
//!
//! Each is stopped as people would have it stopped, and none as if people had: the next daemon starts those whose policy
//! says so.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{Engine, actor::wake, cell::Cell, plan::stop_timeout};

/// Seconds for all that stands beside a container's own patience (moby `daemon.ShutdownTimeout`).
const GRACE: i64 = 5;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

impl Engine {
    /// Stops all that runs and starts nothing any more. Waits `seconds`, or as long as the most patient container needs,
    /// and for ever when either is negative; answers how many run on.
    pub async fn close(&self, seconds: i64) -> usize {
        let inner = &self.0;
        inner.closing.store(true, Ordering::Release);
        let cells: Vec<Arc<Cell>> = inner.cells.lock().values().cloned().collect();
        let mut patience = seconds;
        for cell in cells.iter().filter(|cell| cell.shim().is_some()) {
            let Ok(container) = inner.container(cell.id).await else { continue };
            let own = stop_timeout(&container);
            let either = patience < 0 || own < 0;
            patience = if either { -1 } else { patience.max(own.saturating_add(GRACE)) };
        }
        cells.iter().for_each(|cell| wake(inner, cell));
        let begun = Instant::now();
        let limit = u64::try_from(patience).ok().map(Duration::from_secs);
        loop {
            // Those that were being started meanwhile are among them.
            let cells: Vec<Arc<Cell>> = inner.cells.lock().values().cloned().collect();
            if !cells.iter().any(|cell| cell.state.lock().busy) {
                return 0;
            }
            if limit.is_some_and(|limit| begun.elapsed() >= limit) {
                return cells.iter().filter(|cell| cell.shim().is_some()).count();
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
