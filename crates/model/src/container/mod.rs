//! Containers: what runs, from which image, how it is confined, what it may use, how it is kept running.
//!
//! The spec is resolved: image defaults are merged, names are ids, every string that has a grammar is
//! parsed. What people wrote and only want to see again (such as the short notation of a mount) is kept
//! beside the resolved value, not instead of it.

mod confine;
mod dns;
mod health;
mod link;
mod mount;
mod network;
mod process;
mod resources;
mod run;
mod status;

pub use confine::{CgroupNs, Confinement, IpcMode, Namespace, SeccompChoice, UserNs};
pub use dns::{DnsConfig, NoDots, ndots};
pub use health::{HealthCheck, HealthReport, HealthState, HealthTest, Probe};
pub use link::Link;
pub use mount::{MountKind, MountSpec, Notation, Propagation, ReadOnlyDepth, TmpfsOptions};
pub use network::{Attachment, NetworkMode, PublishSpec};
pub use process::{ExecSpec, ImageBinding, ProcessSpec};
pub use resources::{BlkioDevice, BlkioRate, DeviceRequest, DeviceSpec, Resources, Ulimit};
pub use run::{RestartMode, RestartPolicy, RunRequest, StopRequest, Want};
pub use status::{ContainerStatus, ExitStatus, MountPoint, RunState};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use weft_base::Name;

use crate::{Container, ContainerId, RateLimit, Resource, Scope};

/// Where a container's output is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `local`, `none`, `journald`, `syslog`.
    pub driver: String,
    /// Driver options: `max-size`, `max-file`, `compress`, `labels`, `env`, `tag`, …
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Identity.
    pub id: ContainerId,
    /// Unique name on this host.
    pub name: Name,
    /// The image it runs.
    pub image: ImageBinding,
    /// The program.
    pub process: ProcessSpec,
    /// Host name inside.
    pub hostname: String,
    /// NIS domain name inside.
    #[serde(default)]
    pub domainname: String,
    /// Namespaces, capabilities, filters.
    pub confine: Confinement,
    /// Limits and devices.
    pub resources: Resources,
    /// What is mounted into its root file system.
    #[serde(default)]
    pub mounts: Vec<MountSpec>,
    /// Other containers whose volumes it mounts too: `id[:ro|rw]`, as written.
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// Where its network comes from.
    pub network: NetworkMode,
    /// Networks it is attached to while it runs; the first is the one it was made with.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// Ports that the image or people declare, without publishing them: `80/tcp`.
    #[serde(default)]
    pub exposed: Vec<String>,
    /// Ports to publish on the host.
    #[serde(default)]
    pub publish: Vec<PublishSpec>,
    /// Publish every exposed port on a free host port.
    #[serde(default)]
    pub publish_all: bool,
    /// Name servers, search domains and options that replace the host's.
    #[serde(default)]
    pub dns: DnsConfig,
    /// `name:address` lines for its hosts file; the address may be `host-gateway`.
    #[serde(default)]
    pub extra_hosts: Vec<String>,
    /// Legacy links, as written: `container:alias`.
    #[serde(default)]
    pub links: Vec<String>,
    /// How much may flow by each of its interfaces.
    #[serde(default)]
    pub limit: RateLimit,
    /// Where its output goes.
    pub log: LogConfig,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Remove it once it ends.
    #[serde(default)]
    pub auto_remove: bool,
    /// Health check, image default merged; `None` when there is none.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// Signal that asks it to stop; `SIGTERM` when empty.
    #[serde(default)]
    pub stop_signal: String,
    /// Seconds between the stop signal and `SIGKILL`; 10 when absent, -1 for ever.
    #[serde(default)]
    pub stop_timeout: Option<i64>,
    /// OCI runtime by name; empty for the built-in one.
    #[serde(default)]
    pub runtime: String,
    /// Run a small init as process 1.
    #[serde(default)]
    pub init: Option<bool>,
    /// Free annotations handed to the runtime.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Fields that mean nothing on Linux or to Weft and are only shown again to the API that gave them.
    #[serde(default)]
    pub echo: BTreeMap<String, serde_json::Value>,
    /// What is asked of it now: run, stop, pause.
    #[serde(default)]
    pub run: RunRequest,
}

impl ContainerSpec {
    /// Whether it gets a user namespace of its own where the host has one for containers.
    #[must_use]
    pub fn remappable(&self) -> bool {
        self.confine.user == UserNs::Default && !self.confine.privileged
    }

    /// The containers of which it shares a namespace.
    pub fn joins(&self) -> impl Iterator<Item = ContainerId> {
        let ipc = if let IpcMode::Container(other) = self.confine.ipc { Some(other) } else { None };
        let pid = if let Namespace::Container(other) = self.confine.pid { Some(other) } else { None };
        let net = if let NetworkMode::Container(other) = self.network { Some(other) } else { None };
        ipc.into_iter().chain(pid).chain(net)
    }

    /// The container in whose user namespace it must be, since it shares a namespace that belongs to it.
    #[must_use]
    pub fn shares_users_of(&self) -> Option<ContainerId> {
        self.joins().next()
    }
}

impl Resource for Container {
    const KIND: &'static str = "container";
    const SCOPE: Scope = Scope::Host;
    fn key(&self) -> String {
        self.spec.id.to_string()
    }
}
