//! What is asked of a container now, and what is asked of it for ever.

use serde::{Deserialize, Serialize};

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartMode {
    /// Never.
    #[default]
    No,
    /// Always; also when the daemon starts.
    Always,
    /// Always, unless people stopped it.
    UnlessStopped,
    /// When its exit code is not zero.
    OnFailure,
}

impl RestartMode {
    /// The word people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure => "on-failure",
        }
    }
}

/// Restart policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub mode: RestartMode,
    /// Most restarts in a row for `OnFailure`; 0 for no limit.
    #[serde(default)]
    pub max_retries: u32,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Not running.
    #[default]
    Stopped,
    /// Running.
    Running,
}

/// How a container is to be stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Signal instead of the container's stop signal.
    #[serde(default)]
    pub signal: Option<String>,
    /// Seconds before `SIGKILL`, instead of the container's; negative waits for ever.
    #[serde(default)]
    pub timeout: Option<i64>,
}

/// The present request. Each new one raises `seq`; the status says which one was carried out, so that a
/// request is acted on exactly once however often the daemon dies between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// Counts requests; 0 before the first.
    pub seq: u64,
    /// On or off.
    pub want: Want,
    /// For `Running`: end a running instance first.
    #[serde(default)]
    pub restart: bool,
    /// Processes frozen.
    #[serde(default)]
    pub paused: bool,
    /// How to stop, for `Stopped` and `restart`.
    #[serde(default)]
    pub stop: StopRequest,
}
