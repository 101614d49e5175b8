//! A store behind a wire that fails as a cluster does.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream;
use tokio::sync::watch;

use crate::{Item, Kv, LeaseId, Range, Reached, Request, Response, StoreError, Watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Whole,
    /// Calls are refused, watches keep silent.
    Silent,
    /// Calls are refused, watches end.
    Broken,
    /// Another store answers.
    Replaced,
}

pub(super) struct Wire {
    inner: Arc<dyn Kv>,
    mode: watch::Sender<Mode>,
    /// How late watches below a prefix are.
    late: parking_lot::Mutex<(Vec<u8>, Duration)>,
}

impl Wire {
    pub(super) fn to(inner: Arc<dyn Kv>) -> Self {
        Self { inner, mode: watch::Sender::new(Mode::Whole), late: parking_lot::Mutex::default() }
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// New watches of `prefix` tell so much later.
    pub(super) fn late(&self, prefix: &str, by: Duration) {
        *self.late.lock() = (prefix.as_bytes().to_vec(), by);
    }

    fn check(&self) -> Result<(), StoreError> {
        match *self.mode.borrow() {
            Mode::Whole => Ok(()),
            Mode::Replaced => Err(replaced()),
            Mode::Silent | Mode::Broken => Err(gone()),
        }
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable { store: "origin".into(), reason: "the wire is cut".into() }
}

fn replaced() -> StoreError {
    StoreError::Replaced { store: "origin".into(), reason: "it is another one".into() }
}

#[async_trait]
impl Kv for Wire {
    async fn get(&self, key: &[u8]) -> Result<Option<Item>, StoreError> {
        self.check()?;
        self.inner.get(key).await
    }
    async fn range(&self, prefix: &[u8]) -> Result<Range, StoreError> {
        self.check()?;
        self.inner.range(prefix).await
    }
    async fn txn(&self, request: Request) -> Result<Response, StoreError> {
        self.check()?;
        self.inner.txn(request).await
    }
    async fn watch(&self, prefix: &[u8], from: u64) -> Result<Watch, StoreError> {
        self.check()?;
        let (inner, reached) = (self.inner.watch(prefix, from).await?, Reached::default());
        reached.tell(inner.reached());
        let late = self.late.lock().clone();
        let by = if prefix == late.0 { late.1 } else { Duration::ZERO };
        let start = (inner, self.mode.subscribe(), reached.clone(), false);
        let batches = stream::unfold(start, move |(mut inner, mut mode, reached, over)| async move {
            if over {
                return None;
            }
            let mut held = None;
            loop {
                let now = *mode.borrow_and_update();
                match now {
                    Mode::Broken => return Some((Err(gone()), (inner, mode, reached, true))),
                    Mode::Replaced => return Some((Err(replaced()), (inner, mode, reached, true))),
                    Mode::Silent => {
                        mode.changed().await.ok()?;
                        continue;
                    }
                    Mode::Whole => {}
                }
                if let Some(told) = held.take() {
                    let over = Result::is_err(&told);
                    if let Ok(batch) = &told {
                        let batch: &crate::Batch = batch;
                        reached.tell(batch.revision);
                    }
                    return Some((told, (inner, mode, reached, over)));
                }
                tokio::select! {
                    told = inner.next() => {
                        tokio::time::sleep(by).await;
                        held = Some(told);
                    }
                    changed = mode.changed() => changed.ok()?,
                }
            }
        });
        Ok(Watch::new(batches, reached))
    }
    async fn lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.check()?;
        self.inner.lease(ttl).await
    }
    async fn keepalive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.check()?;
        self.inner.keepalive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.check()?;
        self.inner.revoke(lease).await
    }
    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.check()?;
        self.inner.compact(revision).await
    }
    async fn revision(&self) -> Result<u64, StoreError> {
        self.check()?;
        self.inner.revision().await
    }
}
