//! Why the engine refused or failed, typed by what the asker can do about it. Texts that reach people are
//! those that Docker's users know.

use weft_model::{ContainerId, ExecId};

use crate::{oci::OciError, shim::ShimError};

/// Shorthand of this crate.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No such container.
    #[error("No such container: {0}")]
    NotFound(ContainerId),
    /// No such exec.
    #[error("No such exec instance: {0}")]
    NoExec(ExecId),
    /// It needs a running container.
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    /// It is paused already.
    #[error("Container {0} is already paused")]
    AlreadyPaused(ContainerId),
    /// It is not paused.
    #[error("Container {0} is not paused")]
    NotPaused(ContainerId),
    /// It cannot be done to a paused container.
    #[error("Container {0} is paused, unpause the container before exec")]
    Paused(ContainerId),
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A path inside a container (or another nameless thing) is not there.
    #[error("{0}")]
    Missing(String),
    /// There is no file at that path in the container.
    #[error("Could not find the file {path} in container {container}")]
    NoFile {
        /// As it was written.
        path: String,
        /// The container; who knows a name says it better.
        container: ContainerId,
    },
    /// It is marked read-only.
    #[error("{0}")]
    ReadOnly(&'static str),
    /// This machine or this set-up cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// The process could not be started.
    #[error("{message}")]
    StartFailed {
        /// What people are told.
        message: String,
        /// 126, 127 or 128, as `docker run` exits with.
        code: i64,
    },
    /// The store failed.
    #[error("container records")]
    Store(#[from] weft_store::StoreError),
    /// The image side failed.
    #[error(transparent)]
    Image(#[from] weft_image::ImageError),
    /// No configuration could be made.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The shim failed.
    #[error(transparent)]
    Shim(#[from] ShimError),
    /// The file system or the kernel refused.
    #[error("{doing}")]
    Io {
        /// What was being done, to what.
        doing: String,
        /// The answer.
        source: std::io::Error,
    },
    /// A worker of ours died.
    #[error("internal: {0}")]
    Internal(String),
}

impl EngineError {
    /// An I/O failure while `doing` something.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// The same for `rustix`'s errors.
    pub fn os(doing: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source: source.into() }
    }
}

/// Runs blocking work (mounts, tar streams, directory walks) off the scheduler.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(EngineError::Internal(format!("a worker died: {e}"))),
    }
}
