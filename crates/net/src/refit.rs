//! The default bridge when configuration wants other addresses for it while containers are on it.
//!
//! dockerd meets this with `live-restore` only, and then takes up nothing ("there are running containers, updated network
//! configuration will not take affect"). Here what the containers' own addresses allow is changed under them: another gateway
//! in the same subnet, a larger subnet, IPv6 for who comes later. What would cut one of them off waits until none is there.

use weft_model::{NetworkSpec, PortSpec};

use crate::Ipam;

/// The default bridge as it is to be now.
#[derive(Clone, Debug, PartialEq)]
pub struct Refit {
    /// The network.
    pub network: NetworkSpec,
    /// Its ports that change with it, as they will be.
    pub ports: Vec<PortSpec>,
    /// The addresses are still the old ones.
    pub waits: bool,
}

/// `old` becomes `wanted` under `ports`, those of containers that run.
#[must_use]
pub fn refit_default_bridge(old: &NetworkSpec, wanted: NetworkSpec, ports: &[&PortSpec]) -> Refit {
    let ports: Vec<&PortSpec> = ports.iter().copied().filter(|p| p.network == old.id).collect();
    let same_link = (&old.bridge, old.borrowed) == (&wanted.bridge, wanted.borrowed);
    let refitted: Option<Vec<PortSpec>> = ports.iter().map(|port| refit(port, &wanted)).collect();
    match refitted.filter(|_| same_link || ports.is_empty()) {
        Some(new) => {
            let ports = new.into_iter().filter(|port| !ports.contains(&port)).collect();
            Refit { network: wanted, ports, waits: false }
        }
        None => {
            let network = NetworkSpec {
                subnets: old.subnets.clone(),
                bridge: old.bridge.clone(),
                borrowed: old.borrowed,
                ipv6: old.ipv6,
                ..wanted
            };
            Refit { network, ports: Vec::new(), waits: true }
        }
    }
}

/// A port on the network as it will be; `None` where one of its addresses has no place there.
fn refit(port: &PortSpec, network: &NetworkSpec) -> Option<PortSpec> {
    let mut port = port.clone();
    for address in &mut port.addresses {
        let local = match address.ip {
            std::net::IpAddr::V4(ip) => ip.is_link_local(),
            std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if !local {
            *address = Ipam::again(network, address.ip)?;
        }
    }
    Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pools, PredefinedConfig, ensure_predefined, fixtures::port};

    fn bridge(bip: &str, old: &[&NetworkSpec]) -> NetworkSpec {
        let config = PredefinedConfig { bip: Some(bip.parse().unwrap()), ..PredefinedConfig::default() };
        ensure_predefined(&config, old, &[], &Pools::defaults(b"h")).unwrap().remove(2)
    }

    /// A container with 10.9.0.2 on a bridge with 10.9.0.1/24, and another `bip`.
    fn check(bip: &str, wanted: &str) {
        let old = bridge("10.9.0.1/24", &[]);
        let mut on = port(&old, &["10.9.0.2"]);
        on.addresses[0].gateway = Some("10.9.0.1".parse().unwrap());
        let done = refit_default_bridge(&old, bridge(bip, &[&old]), &[&on]);
        let now = done.ports.first().unwrap_or(&on).addresses[0];
        let shown = format!(
            "{} {} /{} via {}{}",
            done.network.subnets[0].cidr,
            done.network.subnets[0].gateway.unwrap(),
            now.prefix,
            now.gateway.unwrap(),
            if done.waits { " waits" } else { "" }
        );
        assert_eq!(shown, wanted, "{bip}");
    }

    #[test]
    fn what_containers_allow_is_changed_under_them() {
        check("10.9.0.1/24", "10.9.0.0/24 10.9.0.1 /24 via 10.9.0.1");
        check("10.9.0.254/24", "10.9.0.0/24 10.9.0.254 /24 via 10.9.0.254");
        check("10.9.1.1/16", "10.9.0.0/16 10.9.1.1 /16 via 10.9.1.1");
        check("10.9.0.2/24", "10.9.0.0/24 10.9.0.1 /24 via 10.9.0.1 waits");
        check("10.8.0.1/24", "10.9.0.0/24 10.9.0.1 /24 via 10.9.0.1 waits");
        check("10.9.0.1/30", "10.9.0.0/30 10.9.0.1 /30 via 10.9.0.1");
    }

    #[test]
    fn another_bridge_waits_and_without_containers_nothing_does() {
        let old = bridge("10.9.0.1/24", &[]);
        let mut wanted = bridge("10.9.0.1/24", &[&old]);
        (wanted.bridge, wanted.borrowed, wanted.mtu) = (Some("br0".into()), true, Some(1400));
        let on = port(&old, &["10.9.0.2"]);
        let done = refit_default_bridge(&old, wanted.clone(), &[&on]);
        assert!(done.waits);
        assert_eq!((&done.network.bridge, done.network.borrowed), (&old.bridge, false));
        assert_eq!(done.network.mtu, Some(1400), "what is no address is taken up");
        assert_eq!(refit_default_bridge(&old, wanted.clone(), &[]).network, wanted);
    }
}
