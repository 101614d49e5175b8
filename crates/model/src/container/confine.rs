//! How a container is confined: namespaces, capabilities, filters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ContainerId;

/// Whose namespace of a kind a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(ContainerId),
}

/// Whose System V IPC and `/dev/shm` a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpcMode {
    /// Its own, not to be joined.
    #[default]
    Private,
    /// Its own, others may join.
    Shareable,
    /// Its own without `/dev/shm`.
    None,
    /// The host's.
    Host,
    /// Another container's.
    Container(ContainerId),
}

/// Cgroup namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupNs {
    /// The daemon's default: private on cgroup v2, the host's on v1.
    #[default]
    Default,
    /// Its own.
    Private,
    /// The host's.
    Host,
}

/// User namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserNs {
    /// The daemon's default: remapped where `userns-remap` is set, the host's otherwise.
    #[default]
    Default,
    /// The host's.
    Host,
}

/// Which seccomp filter applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompChoice {
    /// Docker's default profile.
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// A profile as JSON text, in the format of Docker's default profile.
    Profile(String),
}

/// Confinement of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// All capabilities, all devices, nothing masked, no filter.
    #[serde(default)]
    pub privileged: bool,
    /// Capabilities added, as written (`NET_ADMIN`, `CAP_NET_ADMIN`, `ALL`).
    #[serde(default)]
    pub cap_add: Vec<String>,
    /// Capabilities dropped, as written.
    #[serde(default)]
    pub cap_drop: Vec<String>,
    /// The root file system cannot be written.
    #[serde(default)]
    pub read_only_root: bool,
    /// `no_new_privs`.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// Filter of system calls.
    #[serde(default)]
    pub seccomp: SeccompChoice,
    /// Security options exactly as written, shown again.
    #[serde(default)]
    pub security_opt: Vec<String>,
    /// Paths hidden inside; `None` for the default list.
    #[serde(default)]
    pub masked_paths: Option<Vec<String>>,
    /// Paths made read-only inside; `None` for the default list.
    #[serde(default)]
    pub readonly_paths: Option<Vec<String>>,
    /// Process ids.
    #[serde(default)]
    pub pid: Namespace,
    /// Host and domain name.
    #[serde(default)]
    pub uts: Namespace,
    /// System V IPC and `/dev/shm`.
    #[serde(default)]
    pub ipc: IpcMode,
    /// Cgroup view.
    #[serde(default)]
    pub cgroup: CgroupNs,
    /// User and group ids.
    #[serde(default)]
    pub user: UserNs,
    /// Kernel parameters set inside, by dotted name.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}
