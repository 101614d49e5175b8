//! What is so of a container; written by `weft-engine` only.

use serde::{Deserialize, Serialize};
use weft_base::Timestamp;

use super::{HealthReport, Propagation};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Never started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and waits to be started again.
    Restarting,
    /// It is being removed.
    Removing,
    /// It ended.
    Exited,
    /// Its removal failed half-way.
    Dead,
}

impl RunState {
    /// The lower-case word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// A process exists.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// 0 to 255; 128 and the signal's number for one that was killed.
    pub code: i64,
    /// The kernel killed a process of it for lack of memory.
    pub oom_killed: bool,
}

/// A mount as it was made real, for showing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, `image`.
    pub kind: String,
    /// The volume's name; empty otherwise.
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path inside.
    pub target: String,
    /// The volume's driver; empty otherwise.
    pub driver: String,
    /// Mode words.
    pub mode: String,
    /// Writable.
    pub rw: bool,
    /// Propagation; empty for volumes of the short notation.
    pub propagation: Propagation,
}

/// State of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// Where it is.
    pub state: RunState,
    /// Host pid of its process 1; 0 when none runs.
    pub pid: u32,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// How it last ended.
    pub exit: ExitStatus,
    /// The last failure to start; empty when none.
    pub error: String,
    /// Exit code that a failed start is reported with (126, 127 or 128); 0 when none.
    pub start_failure: i64,
    /// Restarts by policy since people last started it.
    pub restart_count: u32,
    /// Runs that are over, failed starts among them: the number of the run that is, or comes next. What is made for one run
    /// and not kept for another (its network namespace) bears it.
    pub runs: u64,
    /// The `seq` of the last request that was carried out (successfully or not).
    pub answered: u64,
    /// The last end was asked for by people, so that `unless-stopped` leaves it down.
    pub stopped_by_user: bool,
    /// Health, where a check is defined and it runs.
    pub health: Option<HealthReport>,
    /// Mounts as made at creation.
    pub mounts: Vec<MountPoint>,
    /// What could not be granted, in words for people.
    pub warnings: Vec<String>,
}
