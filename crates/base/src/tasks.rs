//! Supervision of background tasks: named, cancelled together, never silently dead.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

use crate::Backoff;

/// A group of background tasks that end together. A supervised task that returns or panics before
/// [`Tasks::stop`] is logged and started again with backoff.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    set: Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An empty group.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner { set: Mutex::new(JoinSet::new()), stop: watch::channel(false).0 }))
    }

    /// Completes when the group is told to stop.
    pub async fn stopped(&self) {
        let mut stop = self.0.stop.subscribe();
        // The sender lives as long as `self`, so waiting can only end with the value.
        if stop.wait_for(|s| *s).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs `future` until it ends or the group stops.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let me = self.clone();
        let mut set = self.0.set.lock();
        while set.try_join_next().is_some() {}
        set.spawn(async move {
            tokio::select! { () = me.stopped() => {}, () = future => {} }
        });
    }

    /// Runs what `make` makes for as long as the group lives: a task that ends or panics is made anew
    /// after a growing pause.
    pub fn supervise<F>(&self, name: &'static str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(async move {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
            loop {
                let mut one = JoinSet::new();
                one.spawn(make());
                match one.join_next().await {
                    Some(Err(error)) => tracing::error!(task = name, %error, "task died; starting it again"),
                    _ => tracing::warn!(task = name, "task ended; starting it again"),
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        });
    }

    /// Stops every task and waits until all are gone.
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let mut set = std::mem::take(&mut *self.0.set.lock());
        while set.join_next().await.is_some() {}
    }
}
