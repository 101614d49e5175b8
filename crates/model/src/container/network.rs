//! A container's way onto networks.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{ContainerId, MacAddr, NetworkId, PortRange, Protocol};

/// Whose network stack a container uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Its own, attached to networks.
    Attached,
    /// Its own with loopback only.
    None,
    /// The host's.
    Host,
    /// Another container's.
    Container(ContainerId),
}

/// A wish to be on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network.
    pub network: NetworkId,
    /// The network as it was written (name or id), shown again.
    #[serde(default)]
    pub written: String,
    /// Further names on that network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Links on that network, as written: `container[:alias]`.
    #[serde(default)]
    pub links: Vec<String>,
    /// Wanted IPv4 address.
    #[serde(default)]
    pub ipv4: Option<IpAddr>,
    /// Wanted IPv6 address.
    #[serde(default)]
    pub ipv6: Option<IpAddr>,
    /// Link-local addresses.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// Wanted Ethernet address.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    /// The highest priority gives the default route; ties go to the first.
    #[serde(default)]
    pub gateway_priority: i64,
    /// Driver options as written.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Wanted name of the interface inside.
    #[serde(default)]
    pub ifname: Option<String>,
    /// Sysctls of the interface, with `IFNAME` for its name (`net.ipv4.conf.IFNAME.forwarding`).
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Endpoint wishes were given in structured form and are shown again.
    #[serde(default)]
    pub explicit: bool,
}

/// A wish to publish a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishSpec {
    /// Protocol.
    pub protocol: Protocol,
    /// Port inside.
    pub container_port: u16,
    /// Address on the host as written; empty for all.
    #[serde(default)]
    pub host_ip: String,
    /// Port or range on the host to choose from; `None` for any free one.
    #[serde(default)]
    pub host_port: Option<PortRange>,
}
