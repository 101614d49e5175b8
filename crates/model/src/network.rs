//! Networks: isolated layer-2 segments with subnets.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_base::FreeName;

use crate::{Gateways, Network, NetworkId, ParentSpec, RateLimit, Resource, Scope};

/// How a network is made real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// A bridge on one host.
    Bridge,
    /// The host's own stack: nothing is made.
    Host,
    /// Loopback only.
    None,
    /// Sub-interfaces of a parent, each with its own MAC.
    Macvlan,
    /// Sub-interfaces of a parent that share its MAC.
    Ipvlan,
    /// One segment over all hosts (VXLAN).
    Overlay,
    /// Per-host subnets without encapsulation.
    Routed,
    /// Settings for other networks to be made from; nothing is made of it, nothing plugs into it.
    Config,
}

/// Driver options exactly as people wrote them, for showing them back.
pub type DriverOptions = BTreeMap<String, String>;

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// The subnet.
    pub cidr: IpNet,
    /// The gateway's address (the bridge's own), inside `cidr`.
    pub gateway: Option<IpAddr>,
    /// That address is somebody else's: the bridge does not have it.
    #[serde(default)]
    pub remote_gateway: bool,
    /// Where its ports' default route leads, when not to the bridge's own address.
    #[serde(default)]
    pub router: Option<IpAddr>,
    /// Where automatic addresses come from, when narrower than `cidr`.
    #[serde(default)]
    pub range: Option<IpNet>,
    /// Addresses never given out, by name.
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
    /// People asked for this subnet (as opposed to one from the default pools).
    #[serde(default)]
    pub explicit: bool,
    /// People asked for this gateway.
    #[serde(default)]
    pub explicit_gateway: bool,
}

/// What a network lets pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// No way out of the network and none in.
    pub internal: bool,
    /// Its ports may talk to one another.
    pub inter_container: bool,
    /// Traffic that leaves is masqueraded.
    pub masquerade: bool,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { internal: false, inter_container: true, masquerade: true }
    }
}

/// Where published ports listen when no host address is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostBinding {
    /// IPv4 or IPv6 address; `None` for all.
    pub address: Option<IpAddr>,
    /// IPv6 address for ports that also listen on IPv6; as `address` when `None`.
    #[serde(default)]
    pub address_v6: Option<IpAddr>,
}

/// Addresses of the host that a network's packets leave with where they are masqueraded; `None`: that of the interface they
/// leave by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSource {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Identity.
    pub id: NetworkId,
    /// Name; unique on this host.
    pub name: FreeName,
    /// Kind.
    pub kind: NetworkKind,
    /// IPv4 wanted.
    pub ipv4: bool,
    /// IPv6 wanted.
    pub ipv6: bool,
    /// Subnets, resolved: none is left to choose.
    pub subnets: Vec<SubnetSpec>,
    /// What passes.
    pub isolation: Isolation,
    /// Name of the bridge in the kernel, when people chose one.
    #[serde(default)]
    pub bridge: Option<String>,
    /// That bridge is somebody else's: it is there already, is used as it is, and never changed or removed.
    #[serde(default)]
    pub borrowed: bool,
    /// How its containers meet the world.
    #[serde(default)]
    pub gateways: Gateways,
    /// Links of the host by which published ports are reached at the container itself, too.
    #[serde(default)]
    pub trusted: Vec<String>,
    /// Name of the network whose settings these are.
    #[serde(default)]
    pub config_from: String,
    /// Bytes; the underlay's 1500 when absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Default listening address of published ports.
    #[serde(default)]
    pub host_binding: HostBinding,
    /// The host's address for its packets on their way out.
    #[serde(default)]
    pub host_source: HostSource,
    /// Containers may attach by hand (always so for kinds of one host).
    #[serde(default)]
    pub attachable: bool,
    /// One of the three that are always there: `bridge`, `host`, `none`.
    #[serde(default)]
    pub predefined: bool,
    /// Beginning of the names of its interfaces in containers; `eth` when empty.
    #[serde(default)]
    pub ifname_prefix: String,
    /// How much may flow to and from all its ports together.
    #[serde(default)]
    pub limit: RateLimit,
    /// What begins or ends at its ports needs a policy that allows it.
    #[serde(default)]
    pub closed: bool,
    /// IPv4 addresses come from the LAN's DHCP server.
    #[serde(default)]
    pub dhcp: bool,
    /// What its ports hang on, where it has no bridge (macvlan, ipvlan).
    #[serde(default)]
    pub parent: Option<ParentSpec>,
    /// Options as written.
    #[serde(default)]
    pub options: DriverOptions,
    /// Options of address management as written.
    #[serde(default)]
    pub ipam_options: DriverOptions,
}

/// What the data plane said of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// The generation that was last made real.
    pub observed: u64,
    /// The last failure, empty when none.
    #[serde(default)]
    pub error: String,
}

impl NetworkSpec {
    /// The subnets that nobody else may have: none of settings that other networks are made from.
    pub fn claimed(&self) -> impl Iterator<Item = &SubnetSpec> {
        let real = self.kind != NetworkKind::Config;
        self.subnets.iter().filter(move |_| real)
    }

    /// Its interfaces have Ethernet addresses that we choose.
    #[must_use]
    pub fn chooses_mac(&self) -> bool {
        self.parent.as_ref().is_none_or(|parent| parent.branch.chooses_mac())
    }

    /// The default bridge has Docker's historic behaviour: no names, containers keep the host's resolver.
    #[must_use]
    pub fn is_default_bridge(&self) -> bool {
        self.predefined && self.kind == NetworkKind::Bridge
    }
}

impl Resource for Network {
    const KIND: &'static str = "network";
    const SCOPE: Scope = Scope::Host;
    fn key(&self) -> String {
        self.spec.id.to_string()
    }
}

/// The first subnet of `size` bits out of `pools` that overlaps none of `taken`; pools are tried in order.
#[must_use]
pub fn resolve_pool(pools: &[(IpNet, u8)], taken: &[IpNet]) -> Option<IpNet> {
    pools.iter().find_map(|(pool, size)| {
        pool.subnets(*size)
            .ok()?
            .find(|candidate| taken.iter().all(|t| !t.contains(candidate) && !candidate.contains(t)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_skip_what_is_taken_either_way_round() {
        let net = |s: &str| s.parse::<IpNet>().unwrap();
        let pools = [(net("10.0.0.0/23"), 24), (net("10.9.0.0/16"), 24)];
        assert_eq!(resolve_pool(&pools, &[]), Some(net("10.0.0.0/24")));
        assert_eq!(resolve_pool(&pools, &[net("10.0.0.7/32")]), Some(net("10.0.1.0/24")));
        assert_eq!(resolve_pool(&pools, &[net("10.0.0.0/8")]), None);
        assert_eq!(resolve_pool(&pools, &[net("10.0.0.0/16")]), Some(net("10.9.0.0/24")));
    }
}
