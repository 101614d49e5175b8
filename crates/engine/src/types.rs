//! What the engine is told at start and what it tells.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use async_trait::async_trait;
use weft_model::{ContainerId, ExecSpec, LogConfig, MountPoint, Ulimit};

use crate::{
    oci::UserNamespace,
    shim::{Launcher, Runtime},
};

/// Where a container's network becomes ready. The engine and the network never call each other; `cloud` hands
/// this in.
#[async_trait]
pub trait NetGate: Send + Sync + 'static {
    /// Waits until the container's sandbox is as its ports want it. `None` where it has no sandbox of its own.
    async fn ready(&self, container: ContainerId) -> Result<Option<PathBuf>, String>;

    /// Whether names are answered at 127.0.0.11; without, containers ask the host's servers.
    fn names(&self) -> bool {
        true
    }
}

/// What the daemon decides about its engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Durable state: `containers/<id>`, `volumes/<name>/_data`.
    pub root: PathBuf,
    /// State of this boot: `containers/<id>`.
    pub run: PathBuf,
    /// Parent of all containers' cgroups (`/weft`).
    pub cgroup_parent: String,
    /// Name of this daemon, for log tags.
    pub name: String,
    /// Log driver of containers that name none.
    pub log: LogConfig,
    /// OCI runtimes by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The runtime of containers that name none; empty for the built-in one.
    pub default_runtime: String,
    /// Limits for containers that say nothing of their own.
    pub default_ulimits: Vec<Ulimit>,
    /// `userns-remap`, resolved.
    pub userns_remap: Option<UserNamespace>,
    /// The small init for `--init`.
    pub init_path: Option<PathBuf>,
    /// Run it where a container says nothing.
    pub init_by_default: bool,
    /// `no_new_privs` for all.
    pub no_new_privileges: bool,
    /// Bytes of `/dev/shm` where a container says nothing.
    pub shm_size: i64,
    /// What `host-gateway` in an extra host means; the default bridge's gateways when empty.
    pub host_gateway: Vec<IpAddr>,
    /// Name servers, search domains and options for containers that have none of their own.
    pub dns: weft_model::DnsConfig,
    /// How shims are started.
    pub launcher: Launcher,
}

/// What was made for a new container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Mounts as they will be, for showing; belongs into `status.mounts`.
    pub mounts: Vec<MountPoint>,
    /// What could not be granted.
    pub warnings: Vec<String>,
}

/// What a waiter waits for (Docker's `condition`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It is not running (at once, if so already).
    #[default]
    NotRunning,
    /// It ends the next time.
    NextExit,
    /// It is removed.
    Removed,
}

/// What a waiter is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitResult {
    /// Exit code.
    pub code: i64,
    /// Why the condition could not come true; empty when it did.
    pub error: String,
}

/// What an attached client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Give input.
    pub stdin: bool,
    /// Take standard output.
    pub stdout: bool,
    /// Take standard error.
    pub stderr: bool,
    /// First what has been logged.
    pub logs: bool,
    /// Then what comes; without it the stream ends behind the logs.
    pub stream: bool,
    /// Keys that detach, as written (`ctrl-p,ctrl-q`); the default when `None`, none when empty.
    pub detach_keys: Option<String>,
}

/// How an exec is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecStart {
    /// Nobody will attach.
    pub detach: bool,
    /// Size of the terminal: rows, columns.
    pub console_size: Option<(u16, u16)>,
}

/// An exec as it is.
#[derive(Clone, Debug)]
pub struct ExecView {
    /// What it runs.
    pub spec: ExecSpec,
    /// Its process runs.
    pub running: bool,
    /// Its exit code, once it ended.
    pub exit_code: Option<i64>,
    /// Host pid; 0 before start.
    pub pid: u32,
    /// It could not be started; `exit_code` says why in `docker run`'s codes.
    pub failed: bool,
}

/// Bytes of a container's file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSize {
    /// Of its writable layer.
    pub rw: u64,
    /// Of the image below and the writable layer together.
    pub root_fs: u64,
}

/// What changed about a path since the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Content or attributes.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// Absolute path inside.
    pub path: String,
    /// How.
    pub kind: ChangeKind,
}

/// The table of a container's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopTable {
    /// Column titles.
    pub titles: Vec<String>,
    /// One row for each process.
    pub rows: Vec<Vec<String>>,
}
