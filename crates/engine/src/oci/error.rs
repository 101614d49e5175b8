//! Why no configuration can be made.

use std::path::PathBuf;

use super::{seccomp::SeccompError, user::UserError};

/// Why a container cannot be given a configuration. Texts are Docker's where Docker has one.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Neither entry point nor command.
    #[error("no command specified")]
    NoCommand,
    /// Not a capability.
    #[error("unknown capability: {0:?}")]
    Capability(String),
    /// The user cannot be found.
    #[error(transparent)]
    User(#[from] UserError),
    /// The system call profile cannot be used.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// A device is not there, or is none.
    #[error("error gathering device information while adding custom device {path:?}: {reason}")]
    Device {
        /// The path as written.
        path: String,
        /// Why.
        reason: String,
    },
    /// A rule of the device cgroup has another form.
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
    /// Devices by capability (`--gpus`).
    #[error("could not select device driver {driver:?} with capabilities: {}", go_lists(capabilities))]
    DeviceRequest {
        /// The driver asked for.
        driver: String,
        /// The capabilities asked for.
        capabilities: Vec<Vec<String>>,
    },
    /// A process limit that does not exist.
    #[error("invalid ulimit type: {0}")]
    Ulimit(String),
    /// A mount option that tmpfs does not have.
    #[error("invalid tmpfs option [{}]", .0.splitn(2, '=').map(|part| format!("{part:?}")).collect::<Vec<_>>().join(" "))]
    TmpfsOption(String),
    /// Negative shares.
    #[error("invalid CPU shares ({0}): value must be a positive integer")]
    CpuShares(i64),
    /// A namespace of a container that does not run.
    #[error("cannot join the {kind} namespace of a container that is not running")]
    NotRunning {
        /// `pid`, `ipc`, `network`.
        kind: &'static str,
    },
    /// The kernel or this host's setup lacks what was asked for.
    #[error("{0}")]
    Unsupported(String),
    /// A part of the configuration cannot be made.
    #[error("making the runtime configuration")]
    Spec(#[from] oci_spec::OciSpecError),
    /// A file of the host could not be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Lists in a list as Go prints them: `[[gpu utility] [tpu]]`.
fn go_lists(lists: &[Vec<String>]) -> String {
    let inner: Vec<String> = lists.iter().map(|list| format!("[{}]", list.join(" "))).collect();
    format!("[{}]", inner.join(" "))
}
