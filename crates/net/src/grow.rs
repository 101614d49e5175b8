//! A network in use gets a larger subnet, or one more. Pure: a spec and its ports in, both as they will be out.
//!
//! What is given out stays: a subnet only grows around itself, gateways and addresses are as they were, and ports get the
//! new prefix. Unlike a subnet of a new network, which is people's own choice, none of what is new may be where the host routes
//! to: containers that run would lose the way there.

use ipnet::IpNet;
use weft_model::{NetworkKind, NetworkSpec, PortSpec, SubnetSpec};

use crate::{IpamDraft, NetError, ipam, resolve::Wish, subnets};

/// What is to be different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkChange {
    /// CIDR that the subnet inside it grows to.
    pub subnet: Option<String>,
    /// Further subnets.
    pub add: Vec<IpamDraft>,
}

/// The network as it will be, beside the networks that exist.
///
/// # Errors
/// Networks whose subnets are not ours to change, faults of the change, subnets that overlap something.
pub fn grow_network(
    network: &NetworkSpec,
    change: &NetworkChange,
    existing: &[&NetworkSpec],
    host_routes: &[IpNet],
) -> Result<NetworkSpec, NetError> {
    may_change(network)?;
    if change.subnet.is_none() && change.add.is_empty() {
        return Err(NetError::Invalid("nothing to change: a subnet is needed".into()));
    }
    let mut grown = network.clone();
    let mut faults = Vec::new();
    let wished = IpamDraft { subnet: change.subnet.clone().unwrap_or_default(), ..IpamDraft::default() };
    let larger = Wish::parse(&wished, &mut faults);
    let further: Vec<Wish> = change.add.iter().map(|draft| Wish::parse(draft, &mut faults)).collect();
    for wish in &further {
        wish.check(&mut faults);
        if wish.subnet.is_none() && faults.is_empty() {
            faults.push("invalid subnet : one is needed".into());
        }
    }
    if !faults.is_empty() {
        return Err(NetError::InvalidConfig(faults));
    }
    if let Some(cidr) = larger.subnet {
        enlarge(&mut grown, cidr)?;
        free(cidr, network, existing, host_routes)?;
    }
    for (wish, cidr) in further.iter().filter_map(|w| Some((w, w.subnet?))) {
        if let Some(own) = grown.subnets.iter().find(|s| overlap(s.cidr, cidr)) {
            return Err(NetError::Invalid(format!(
                "subnet {cidr} overlaps {} of the same network",
                own.cidr
            )));
        }
        free(cidr, network, existing, host_routes)?;
        let subnet = subnets::place(wish.settle(cidr)?, &grown.gateways);
        grown.ipv4 |= cidr.network().is_ipv4();
        grown.ipv6 |= cidr.network().is_ipv6();
        grown.subnets.push(subnet);
    }
    match grown.mtu {
        Some(mtu) if grown.ipv6 && mtu < 1280 => {
            Err(NetError::Invalid(format!("invalid MTU {mtu}: IPv6 needs 1280 (RFC 8200)")))
        }
        _ => Ok(grown),
    }
}

/// The ports whose addresses are in a subnet that grew, as they will be.
#[must_use]
pub fn regrow_ports<'p>(
    network: &NetworkSpec,
    ports: impl IntoIterator<Item = &'p PortSpec>,
) -> Vec<PortSpec> {
    let changed = |port: &PortSpec| {
        let mut port = port.clone();
        let mut differs = false;
        for address in &mut port.addresses {
            let prefix = prefix_of(network, address.ip).unwrap_or(address.prefix);
            differs |= prefix != address.prefix;
            address.prefix = prefix;
        }
        differs.then_some(port)
    };
    ports.into_iter().filter(|port| port.network == network.id).filter_map(changed).collect()
}

/// Length of the prefix of the network's subnet that an address is in.
pub(crate) fn prefix_of(network: &NetworkSpec, ip: std::net::IpAddr) -> Option<u8> {
    network.subnets.iter().find(|s| s.cidr.contains(&ip)).map(|s| s.cidr.prefix_len())
}

fn may_change(network: &NetworkSpec) -> Result<(), NetError> {
    let refused = |why: String| Err(NetError::Refused(why));
    let name = &network.name;
    if network.predefined {
        return refused(format!("operation is not permitted on predefined {name} network"));
    }
    if network.kind != NetworkKind::Bridge {
        return refused(format!("the subnets of network {name} cannot be changed: it is no bridge network"));
    }
    if network.borrowed {
        let bridge = network.bridge.as_deref().unwrap_or_default();
        return refused(format!(
            "the subnets of network {name} are those of bridge {bridge}, which is not ours"
        ));
    }
    Ok(())
}

fn enlarge(network: &mut NetworkSpec, cidr: IpNet) -> Result<(), NetError> {
    let invalid = |why: String| NetError::Invalid(format!("invalid subnet {cidr}: {why}"));
    let touched: Vec<IpNet> =
        network.subnets.iter().map(|s| s.cidr).filter(|own| overlap(*own, cidr)).collect();
    match touched.as_slice() {
        [] => return Err(invalid("it contains no subnet of the network".into())),
        [own] if *own == cidr => return Err(invalid("the network has it already".into())),
        [own] if own.contains(&cidr) => return Err(invalid(format!("it is smaller than {own}"))),
        [_] => {}
        _ => return Err(invalid("it contains several subnets of the network".into())),
    }
    let Some(subnet) = network.subnets.iter_mut().find(|s| cidr.contains(&s.cidr)) else { return Ok(()) };
    let kept = subnet.gateway.into_iter().chain(subnet.router);
    if let Some(ip) = kept.into_iter().find(|ip| !ipam::usable(cidr, *ip)) {
        return Err(NetError::GatewayInUse { ip });
    }
    *subnet = SubnetSpec { cidr, explicit: true, ..subnet.clone() };
    Ok(())
}

fn free(
    cidr: IpNet,
    network: &NetworkSpec,
    existing: &[&NetworkSpec],
    host_routes: &[IpNet],
) -> Result<(), NetError> {
    subnets::check_free(cidr, network.id, existing)?;
    match host_routes.iter().find(|route| route.prefix_len() > 0 && overlap(**route, cidr)) {
        Some(route) => Err(NetError::OverlapsHost { wanted: cidr, route: *route }),
        None => Ok(()),
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
#[path = "grow_tests.rs"]
mod tests;
