//! The embedded backend: one crash-safe redb file, all present values in memory, group commit.
//!
//! redb, because it is pure Rust, one file, copy-on-write (a torn write never harms the last commit), and
//! small. Reads never touch it: they take a read lock on the map in memory. A commit costs one `fdatasync`,
//! shared by all requests that wait.
//!
//! The file is locked: a second daemon on it is refused by name.

mod eval;
pub(crate) mod file;
pub(crate) mod migrate;
pub(crate) mod quiet;
pub(crate) mod record;
mod state;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use redb::Database;
use tokio::sync::oneshot;
use weft_base::{Clock, SystemClock};

pub use self::migrate::FILE_VERSION;
use self::{
    state::State,
    writer::{Ask, Writer, owned},
};
use crate::{Item, Kv, LeaseId, Range, Request, Response, StoreError, Watch};

/// The longest value in bytes. Far more would fit, but redb keeps a value and its small neighbours in one page and copies it
/// whenever one of those goes: with 32 MiB a commit that sweeps takes seconds, with 4 MiB some milliseconds.
pub(crate) const MAX_VALUE: usize = 4 << 20;

/// How an embedded store is opened.
#[derive(Clone)]
pub struct Options {
    /// Revisions that watches can reach back to: compaction runs by itself at twice this.
    pub retain: u64,
    /// Where the wall-clock deadlines of leases come from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self { retain: 1024, clock: Arc::new(SystemClock) }
    }
}

/// What the writer thread, the readers and the watches share.
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) state: RwLock<State>,
    pub(crate) changed: tokio::sync::watch::Sender<u64>,
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counts: Counts,
}

/// What happened since the store was opened.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) commits: weft_base::metrics::Histogram,
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
}

/// A store in one file. Dropping it finishes what was asked, and closes and unlocks the file.
pub struct Embedded {
    shared: Arc<Shared>,
    asks: Option<mpsc::Sender<Ask>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the store at `path`, making it when absent; blocks while reading it.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::NewerFile`], [`StoreError::NotAStore`], [`StoreError::Damaged`],
    /// [`StoreError::Io`], each naming the file.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let opened = file::open(&path, options.clock.now())?;
        let (changed, _) = tokio::sync::watch::channel(opened.state.revision);
        let shared = Arc::new(Shared {
            path: path.clone(),
            state: RwLock::new(opened.state),
            changed,
            db: opened.db,
            clock: options.clock,
            counts: Counts::default(),
        });
        let (send, asks) = mpsc::channel();
        let (next_lease, retain) = (opened.next_lease, options.retain.max(1));
        let writer = Writer { shared: Arc::clone(&shared), asks, next_lease, retain, failed: None };
        let thread =
            std::thread::Builder::new().name("weft-store".into()).spawn(move || writer.run()).map_err(
                |source| StoreError::Io { doing: "start the writer of", path, source: Arc::new(source) },
            )?;
        Ok(Self { shared, asks: Some(send), writer: Mutex::new(Some(thread)) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    async fn ask<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Ask,
    ) -> Result<T, StoreError> {
        let (to, answer) = oneshot::channel();
        let asks = self.asks.as_ref().ok_or(StoreError::Closed)?;
        asks.send(make(to)).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.asks = None;
        if self.writer.lock().take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(path = %self.shared.path.display(), "the store's writer had died");
        }
    }
}

#[async_trait]
impl Kv for Embedded {
    async fn get(&self, key: &[u8]) -> Result<Option<Item>, StoreError> {
        Ok(self.shared.state.read().get(key).map(|e| e.item.clone()))
    }

    async fn range(&self, prefix: &[u8]) -> Result<Range, StoreError> {
        Ok(self.shared.state.read().range(prefix))
    }

    async fn txn(&self, request: Request) -> Result<Response, StoreError> {
        request.validate(MAX_VALUE)?;
        self.ask(|to| Ask::Txn(request, to)).await
    }

    async fn watch(&self, prefix: &[u8], from: u64) -> Result<Watch, StoreError> {
        watch::watch(&self.shared, owned(prefix), from)
    }

    async fn lease(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        if ttl < Duration::from_millis(1) || ttl > Duration::from_secs(100 * 365 * 86_400) {
            return Err(StoreError::invalid("a lease's time to live is between a millisecond and a century"));
        }
        self.ask(|to| Ask::Grant(ttl, to)).await
    }

    async fn keepalive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.ask(|to| Ask::Keepalive(lease, to)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(|to| Ask::Revoke(lease, to)).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.ask(|to| Ask::Compact(revision, to)).await
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        Ok(self.shared.state.read().revision)
    }

    fn local_revision(&self) -> Option<u64> {
        Some(self.shared.state.read().revision)
    }

    fn unchanged_since(&self, prefix: &[u8], revision: u64) -> Option<u64> {
        let state = self.shared.state.read();
        state.quiet_since(prefix, revision).then_some(state.revision)
    }

    fn max_value(&self) -> usize {
        MAX_VALUE
    }

    fn figures(&self) -> Option<crate::Figures> {
        let counts = &self.shared.counts;
        Some(crate::Figures {
            commits: counts.commits.read(),
            requests: counts.requests.load(Relaxed),
            failures: counts.failures.load(Relaxed),
        })
    }
}
