//! Health checks and what they said.

use serde::{Deserialize, Serialize};
use weft_base::Timestamp;

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthTest {
    /// Nothing: an image's check was switched off.
    Disabled,
    /// An argument vector.
    Exec(Vec<String>),
    /// A line for the container's shell.
    Shell(String),
}

/// A health check. Times are nanoseconds; 0 means the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is run.
    pub test: HealthTest,
    /// Between two probes (30 s).
    #[serde(default)]
    pub interval: i64,
    /// The longest a probe may take (30 s).
    #[serde(default)]
    pub timeout: i64,
    /// Failures in a row that make it unhealthy (3).
    #[serde(default)]
    pub retries: i64,
    /// After start, failures do not count (0 s).
    #[serde(default)]
    pub start_period: i64,
    /// Between probes during the start period (5 s).
    #[serde(default)]
    pub start_interval: i64,
}

/// The verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// No verdict yet.
    #[default]
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many probes failed in a row.
    Unhealthy,
}

impl HealthState {
    /// The lower-case word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Begin.
    pub start: Timestamp,
    /// End.
    pub end: Timestamp,
    /// Exit code; -1 when it was cut off.
    pub exit_code: i64,
    /// The first 4096 bytes of its output.
    pub output: String,
}

/// Verdict and the last five probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The verdict.
    pub state: HealthState,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five probes, oldest first.
    #[serde(default)]
    pub log: Vec<Probe>,
}
