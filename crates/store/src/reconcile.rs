//! The loop around a reconciler: run one function over the whole, on change and on a timer.
//!
//! ```text
//!            wake (any number) ─┐
//!  store changes under a prefix ├─> pending? ──> reconcile() ──ok──> wait for a wake or the timer
//!                        timer ─┘       ^             └─error──> wait the backoff (a wake does not shorten it)
//!                                       └── wakes that come meanwhile make one more run
//! ```
//!
//! The reconciler is handed no hint what changed: start, steady state and repair are one path. A watch that was
//! compacted loses nothing here: it is opened again and wakes the loop.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::sync::Notify;
use weft_base::{Backoff, chain};
use weft_model::Resource;

use crate::{Kv, StoreError, Table};

/// Wakes a loop. Many wakes before the loop gets to run are one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Asks for a run; never blocks.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// A reconcile loop being set up; [`Loop::run`] runs it.
pub struct Loop {
    name: &'static str,
    every: Duration,
    backoff: Backoff,
    wake: Wake,
    watching: Vec<(Arc<dyn Kv>, String)>,
}

impl Loop {
    /// A loop that runs every minute and after errors waits 100 ms to 30 s.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        Self { name, every: Duration::from_secs(60), backoff, wake: Wake::default(), watching: Vec::new() }
    }

    /// Runs at least this often.
    #[must_use]
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Waits this long after errors.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Runs when any record of `table` changes.
    #[must_use]
    pub fn watching<R: Resource>(mut self, table: &Table<R>) -> Self {
        self.watching.extend(table.places());
        self
    }

    /// Is woken by `wake`, too: a loop that is made anew after its task died keeps its handles.
    #[must_use]
    pub fn waking(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }

    /// A handle that asks for a run.
    #[must_use]
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Runs `reconcile` once now and from then on as described above. Never ends by itself; dropping the
    /// future cancels a run under way.
    pub async fn run<F, E>(mut self, mut reconcile: impl FnMut() -> F + Send)
    where
        F: Future<Output = Result<(), E>> + Send,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let watching = std::mem::take(&mut self.watching);
        let followers =
            join_all(watching.into_iter().map(|(kv, prefix)| follow(kv, prefix, self.wake.clone())));
        let runs = async {
            loop {
                let result = reconcile().await.map_err(Into::into);
                self.rest(result).await;
            }
        };
        tokio::join!(followers, runs);
    }

    /// Waits until the next run is due.
    async fn rest(&mut self, result: Result<(), Box<dyn Error + Send + Sync>>) {
        if let Err(error) = result {
            let (pause, error) = (self.backoff.next_delay(), chain(&*error));
            tracing::warn!(reconciler = self.name, %error, ?pause, "reconciling failed; trying again");
            tokio::time::sleep(pause).await;
            return;
        }
        self.backoff.reset();
        tokio::select! {
            () = self.wake.0.notified() => {}
            () = tokio::time::sleep(self.every) => {}
        }
    }
}

/// Wakes the loop at every change under `prefix`, until the store is closed.
async fn follow(kv: Arc<dyn Kv>, prefix: String, wake: Wake) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let error = match kv.watch(prefix.as_bytes(), 0).await {
            Ok(mut watch) => loop {
                // Once for what changed before the watch was open, then for every change.
                wake.wake();
                match watch.next().await {
                    Ok(_) => backoff.reset(),
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        if matches!(error, StoreError::Closed) {
            return;
        }
        if !matches!(error, StoreError::Compacted { .. }) {
            tracing::warn!(prefix, error = %chain(&error), "a watch ended; opening it again");
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// A reconciler that counts its runs and holds each until it is let through.
    struct Gate {
        started: Arc<Semaphore>,
        pass: Arc<Semaphore>,
    }

    fn gated(looping: Loop, fail: bool) -> (Gate, tokio::task::JoinHandle<()>) {
        let gate = Gate { started: Arc::new(Semaphore::new(0)), pass: Arc::new(Semaphore::new(0)) };
        let (started, pass) = (Arc::clone(&gate.started), Arc::clone(&gate.pass));
        let task = tokio::spawn(looping.run(move || {
            let (started, pass) = (Arc::clone(&started), Arc::clone(&pass));
            async move {
                started.add_permits(1);
                pass.acquire().await.unwrap().forget();
                if fail { Err(StoreError::Closed) } else { Ok(()) }
            }
        }));
        (gate, task)
    }

    #[tokio::test]
    async fn many_wakes_during_a_run_make_one_more_run() {
        let looping = Loop::new("test").every(LONG);
        let wake = looping.wake();
        let (gate, task) = gated(looping, false);
        gate.started.acquire().await.unwrap().forget();
        for _ in 0..100 {
            wake.wake();
        }
        gate.pass.add_permits(10);
        gate.started.acquire().await.unwrap().forget();
        let third = tokio::time::timeout(Duration::from_millis(100), gate.started.acquire()).await;
        assert!(third.is_err(), "a third run although nothing woke it");
        task.abort();
    }

    #[tokio::test]
    async fn the_timer_and_errors_make_further_runs() {
        let timer = Loop::new("test").every(Duration::from_millis(1));
        let errors = Loop::new("test").every(LONG).backoff(Backoff::new(Duration::ZERO, Duration::ZERO));
        for (looping, fail) in [(timer, false), (errors, true)] {
            let (gate, task) = gated(looping, fail);
            gate.pass.add_permits(100);
            gate.started.acquire_many(5).await.unwrap().forget();
            task.abort();
        }
    }
}
