//! How a network's containers meet what is outside of it, for each family of addresses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What stands between containers and the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// They leave by the host's address, and are reached by published ports of the host.
    #[default]
    Nat,
    /// The same; beside it, who has a route to a container reaches all of its ports, published or not.
    NatUnprotected,
    /// They leave by their own addresses, and who has a route reaches the ports that are published, at the container itself.
    Routed,
    /// The bridge has no address, so that not even the host meets them. Internal networks only.
    Isolated,
}

/// The gateways of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateways {
    /// For IPv4.
    #[serde(default)]
    pub v4: GatewayMode,
    /// For IPv6.
    #[serde(default)]
    pub v6: GatewayMode,
    /// The IPv4 gateway is somebody else's: containers route by it, the bridge does not have it.
    #[serde(default)]
    pub inhibit_v4: bool,
}

impl Gateways {
    /// The mode of this address's family.
    #[must_use]
    pub fn of(&self, ip: IpAddr) -> GatewayMode {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }
}
