//! Facts about this host and this daemon, gathered once by the daemon at start.

use std::{collections::BTreeMap, path::PathBuf};

use weft_base::Timestamp;
use weft_model::HostId;

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// The host's identity.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Version of Weft.
    pub version: String,
    /// Root directory.
    pub root: PathBuf,
    /// `uname -r`.
    pub kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub os: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// `uname -m`.
    pub machine: String,
    /// Processors online.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Name to path; the built-in runtime has an empty path.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Which one is used when none is named.
    pub default_runtime: String,
    /// Log drivers that work here.
    pub log_drivers: Vec<String>,
    /// The default one.
    pub log_driver: String,
    /// Mirrors of Docker Hub.
    pub mirrors: Vec<String>,
    /// Registries reached insecurely.
    pub insecure: Vec<String>,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// Containers go on when the daemon stops.
    pub live_restore: bool,
    /// What this host cannot do, in words for people.
    pub warnings: Vec<String>,
    /// `name=…` security options in force.
    pub security: Vec<String>,
    /// Default address pools: base and size.
    pub pools: Vec<(String, u8)>,
    /// File system under the root directory.
    pub backing_fs: String,
    /// The daemon logs more.
    pub debug: bool,
    /// When the daemon started.
    pub started: Timestamp,
    /// What containers can be held to.
    pub limits: HostLimits,
    /// The host forwards IPv4 packets.
    pub ipv4_forwarding: bool,
    /// Bridged packets pass the host's IPv4 and IPv6 rules.
    pub bridge_netfilter: (bool, bool),
    /// Proxies on the way to registries: for `http`, for `https`, and what needs none.
    pub proxies: [String; 3],
    /// Where the seccomp profile comes from: `builtin`, `unconfined`, or a file.
    pub seccomp: String,
}

/// Which limits this kernel and its cgroups offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLimits {
    /// Memory.
    pub memory: bool,
    /// Memory and swap together.
    pub swap: bool,
    /// Number of processes.
    pub pids: bool,
    /// CPU bandwidth.
    pub cpu_cfs: bool,
    /// CPU weight.
    pub cpu_shares: bool,
    /// Which CPUs and memory nodes.
    pub cpuset: bool,
    /// Switching the out-of-memory killer off.
    pub oom_kill_disable: bool,
}

/// How many containers are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerCounts {
    /// All.
    pub total: usize,
    /// Running.
    pub running: usize,
    /// Paused.
    pub paused: usize,
    /// Neither.
    pub stopped: usize,
}
