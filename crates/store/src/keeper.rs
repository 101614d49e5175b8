//! A lease that is kept alive, and what its holder must know of it.
//!
//! ```text
//!            answered              no answer until the lease's time is over
//!   Held ──────────────▶ Held    ─────────────────────────────────────────▶ Overdue ──answered──▶ Held
//!    └───────────── the store says it is gone ──────────▶ Lost (for good) ◀────────────┘
//! ```
//!
//! A store that does not answer is no reason to give up what the lease stands for: others may see it as ended from the
//! moment it is overdue, and may not (a cluster that changes its leader starts the time anew). What that means is
//! the holder's business, so both are told, each as what it is.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::AbortHandle, time::Instant};

use crate::{Kv, LeaseId, StoreError};

/// How it stands with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It lives.
    Held,
    /// Its time is over as far as we know, and nobody told.
    Overdue,
    /// It has ended. There will be no other word.
    Lost,
}

/// A lease, kept alive until this is dropped; then it ends when its time is over.
pub struct Keeper {
    lease: LeaseId,
    hold: watch::Receiver<Hold>,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Makes a lease of `ttl` and keeps it alive.
    ///
    /// # Errors
    /// Those of [`Kv::lease`].
    pub async fn start(kv: Arc<dyn Kv>, ttl: Duration) -> Result<Self, StoreError> {
        let asked = Instant::now();
        let lease = kv.lease(ttl).await?;
        Ok(Self::spawn(kv, lease, ttl, asked))
    }

    /// Keeps a lease alive that was made earlier, perhaps by an earlier daemon.
    ///
    /// # Errors
    /// Those of [`Kv::keepalive`], among them [`StoreError::NoLease`] when it has ended.
    pub async fn adopt(kv: Arc<dyn Kv>, lease: LeaseId) -> Result<Self, StoreError> {
        let asked = Instant::now();
        let ttl = kv.keepalive(lease).await?;
        Ok(Self::spawn(kv, lease, ttl, asked))
    }

    fn spawn(kv: Arc<dyn Kv>, lease: LeaseId, ttl: Duration, asked: Instant) -> Self {
        let (tell, hold) = watch::channel(Hold::Held);
        let task = tokio::spawn(keep(kv, lease, ttl, asked, tell)).abort_handle();
        Self { lease, hold, task }
    }

    /// The lease.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// How it stands, and each change of that.
    #[must_use]
    pub fn hold(&self) -> watch::Receiver<Hold> {
        self.hold.clone()
    }
}

async fn keep(kv: Arc<dyn Kv>, lease: LeaseId, ttl: Duration, asked: Instant, tell: watch::Sender<Hold>) {
    let set = |to: Hold| {
        tell.send_if_modified(|now| std::mem::replace(now, to) != to);
    };
    // From the asking, not from the answer: that may have been long under way.
    let (mut ends, mut ttl) = (asked + ttl, ttl);
    let mut pause = ttl / 3;
    loop {
        tokio::time::sleep(pause).await;
        let asked = Instant::now();
        let mut answer = std::pin::pin!(kv.keepalive(lease));
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer,
                // Told in time even if the store takes longer to say that it does not answer.
                () = tokio::time::sleep_until(ends), if *tell.borrow() == Hold::Held => set(Hold::Overdue),
            }
        };
        match answer {
            Ok(lives) => {
                (ends, ttl) = (asked + lives, lives);
                set(Hold::Held);
                pause = ttl / 3;
            }
            Err(StoreError::NoLease { .. }) => {
                set(Hold::Lost);
                return;
            }
            Err(error) => {
                tracing::debug!(%lease, error = weft_base::chain(&error), "a lease was not kept alive");
                if Instant::now() >= ends {
                    set(Hold::Overdue);
                }
                pause = (ttl / 10).clamp(Duration::from_millis(50), Duration::from_secs(1));
                if *tell.borrow() == Hold::Held {
                    pause = pause.min(ends.saturating_duration_since(Instant::now()));
                }
            }
        }
    }
}
