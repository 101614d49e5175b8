//! A container as it is asked for: names instead of ids, image defaults not yet merged.
//!
//! A face fills this from its API's words; `container_create` resolves it once into a
//! [`weft_model::ContainerSpec`], and nothing past that point is in doubt again.

use std::{collections::BTreeMap, net::IpAddr};

use weft_model::{
    Confinement, DnsConfig, HealthCheck, Labels, LogConfig, MacAddr, MountSpec, ProcessSpec, PublishSpec,
    Resources, RestartPolicy,
};

/// Which network stack is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DraftNetwork {
    /// The default bridge.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
    /// That of a container, by name or id.
    Container(String),
    /// A network, by name or id.
    Named(String),
}

/// Wishes for one network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftEndpoint {
    /// Network, by name or id.
    pub network: String,
    /// Further names there.
    pub aliases: Vec<String>,
    /// Links there: `container[:alias]`.
    pub links: Vec<String>,
    /// Wanted IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// Wanted IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// Wanted Ethernet address.
    pub mac: Option<MacAddr>,
    /// The highest gives the default route.
    pub gateway_priority: i64,
    /// Driver options as written.
    pub options: BTreeMap<String, String>,
    /// Wanted name of the interface.
    pub ifname: Option<String>,
    /// Sysctls of the interface, with `IFNAME` for its name.
    pub sysctls: BTreeMap<String, String>,
}

/// What a container is to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerDraft {
    /// Name; a friendly random one when absent.
    pub name: Option<String>,
    /// Image reference or id.
    pub image: String,
    /// `os/arch[/variant]` that the image must have.
    pub platform: Option<String>,
    /// The process; empty parts are taken from the image. An entrypoint of one empty string resets it.
    pub process: ProcessSpec,
    /// Host name; the short id when absent.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: String,
    /// Confinement; its `Container(..)` namespaces are given by name in the `*_of` fields below.
    pub confine: Confinement,
    /// Join the PID namespace of this container (name or id).
    pub pid_of: Option<String>,
    /// Nothing was said about the IPC namespace.
    pub ipc_unsaid: bool,
    /// Join the IPC namespace of this container (name or id).
    pub ipc_of: Option<String>,
    /// Limits and devices.
    pub resources: Resources,
    /// Mounts that people asked for; the image's volumes are added.
    pub mounts: Vec<MountSpec>,
    /// `container[:ro|rw]`.
    pub volumes_from: Vec<String>,
    /// Network stack.
    pub network: DraftNetwork,
    /// Wishes for each network; networks not named by `network` are attached as well.
    pub endpoints: Vec<DraftEndpoint>,
    /// Ethernet address on the first network.
    pub mac: Option<MacAddr>,
    /// Declared ports, `80/tcp`; the image's are added.
    pub exposed: Vec<String>,
    /// Ports to publish.
    pub publish: Vec<PublishSpec>,
    /// Publish all exposed ports.
    pub publish_all: bool,
    /// Resolver settings.
    pub dns: DnsConfig,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    /// Legacy links.
    pub links: Vec<String>,
    /// Log driver; the daemon's default when absent. Driver may be empty to take only the options.
    pub log: Option<LogConfig>,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Remove once it ends.
    pub auto_remove: bool,
    /// Health check; the image's when absent. Zero fields are taken from the image's.
    pub health: Option<HealthCheck>,
    /// Stop signal; the image's when empty.
    pub stop_signal: String,
    /// Stop time-out in seconds.
    pub stop_timeout: Option<i64>,
    /// OCI runtime by name.
    pub runtime: String,
    /// Small init as process 1.
    pub init: Option<bool>,
    /// Annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Labels; the image's are added below them.
    pub labels: Labels,
    /// Shown again only.
    pub echo: BTreeMap<String, serde_json::Value>,
}
