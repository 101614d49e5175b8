//! A network in use gets a larger subnet, one more, or another range. Pure: a spec and its ports in, both as they will be out.
//!
//! What is given out stays: a subnet only grows around itself, gateways and addresses are as they were, and ports get the
//! new prefix. A family that comes with a subnet is given to the ports that are there, and what they publish is published in
//! it, too.
//!
//! A subnet may lie inside a wider route of the host, as at the making of a network. Swallowing such a route is refused here,
//! and there only warned of (as dockerd, which takes what people choose): a network is removed again, growth is not.

use ipnet::IpNet;
use weft_model::{ContainerSpec, NetworkKind, NetworkSpec, PortOwner, PortSpec, SubnetSpec};

use crate::{
    Family, Ipam, IpamDraft, NetError, PortContext, ipam,
    resolve::Wish,
    subnets,
    uplink::{elect_uplinks, publish},
};

/// What is to be different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkChange {
    /// CIDR that the subnet inside it grows to.
    pub subnet: Option<String>,
    /// Ranges that automatic addresses come from, each for the subnet around it as it will be. The whole subnet stands for none.
    pub ranges: Vec<String>,
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
    if change == &NetworkChange::default() {
        return Err(NetError::Invalid("nothing to change: a subnet or range is needed".into()));
    }
    let mut grown = network.clone();
    let mut faults = Vec::new();
    let wished = IpamDraft { subnet: change.subnet.clone().unwrap_or_default(), ..IpamDraft::default() };
    let larger = Wish::parse(&wished, &mut faults);
    let further: Vec<Wish> = change.add.iter().map(|draft| Wish::parse(draft, &mut faults)).collect();
    let ranged = |range: &String| IpamDraft { range: range.clone(), ..IpamDraft::default() };
    let ranges: Vec<Wish> = change.ranges.iter().map(|r| Wish::parse(&ranged(r), &mut faults)).collect();
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
    for range in ranges.iter().filter_map(|wish| wish.range) {
        confine(&mut grown, range)?;
    }
    match grown.mtu {
        Some(mtu) if grown.ipv6 && mtu < 1280 => {
            Err(NetError::Invalid(format!("invalid MTU {mtu}: IPv6 needs 1280 (RFC 8200)")))
        }
        _ => Ok(grown),
    }
}

/// The ports that change with the network, as they will be: those with an address in a subnet that grew, those that get an
/// address of a family that is new to them, and their containers' uplinks where these publish in it. In `context` the
/// network is as it will be.
///
/// # Errors
/// Too few addresses; a host port that cannot be had in the new family.
pub fn regrow_ports(
    network: &NetworkSpec,
    containers: &[&ContainerSpec],
    context: &PortContext<'_>,
) -> Result<Vec<PortSpec>, NetError> {
    let cursors = &context.hints.shared().addresses;
    let mut ipam = Ipam::new(network, context.existing.iter().copied());
    let mut changed: Vec<PortSpec> = Vec::new();
    let mut richer: Vec<PortOwner> = Vec::new();
    for old in context.existing.iter().filter(|port| port.network == network.id) {
        let mut port = PortSpec::clone(old);
        for address in &mut port.addresses {
            address.prefix = prefix_of(network, address.ip).unwrap_or(address.prefix);
        }
        for family in [Family::V4, Family::V6].into_iter().filter(|f| lacks(network, old, *f)) {
            let given = ipam.next(family, cursors.last(network.id, family))?;
            cursors.note(network.id, given.ip);
            // Before those that are of no subnet, such as link-local ones.
            let own = port.addresses.iter().take_while(|a| prefix_of(network, a.ip).is_some()).count();
            port.addresses.insert(own, given);
            richer.push(port.owner);
        }
        if port != **old {
            changed.push(port);
        }
    }
    for container in containers.iter().filter(|c| richer.contains(&PortOwner::Container(c.id))) {
        republish(container, &mut changed, context)?;
    }
    Ok(changed)
}

/// Whether the network has addresses of a family for a port that has none.
fn lacks(network: &NetworkSpec, port: &PortSpec, family: Family) -> bool {
    let offered = network.subnets.iter().any(|s| Family::of(s.cidr.addr()) == family);
    let has = |a: &weft_model::PortAddress| Family::of(a.ip) == family && prefix_of(network, a.ip).is_some();
    let leased = port.dhcp.is_some() && family == Family::V4;
    offered && !leased && !port.addresses.iter().any(has)
}

/// Fits what a container publishes to the addresses that its ports will have.
fn republish(
    container: &ContainerSpec,
    changed: &mut Vec<PortSpec>,
    context: &PortContext<'_>,
) -> Result<(), NetError> {
    let mine = context.existing.iter().filter(|p| p.owner == PortOwner::Container(container.id));
    let before: Vec<PortSpec> = mine
        .map(|port| {
            changed.iter().find(|c| c.id == port.id).map_or_else(|| PortSpec::clone(port), Clone::clone)
        })
        .collect();
    let mut after = before.clone();
    elect_uplinks(container, context.networks, &mut after);
    publish(container, &mut after, context)?;
    for port in after.into_iter().filter(|port| !before.contains(port)) {
        changed.retain(|c| c.id != port.id);
        changed.push(port);
    }
    Ok(())
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
    // A range that people chose stays: it is theirs to widen.
    *subnet = SubnetSpec { cidr, explicit: true, ..subnet.clone() };
    Ok(())
}

/// Gives the subnet around `range` this range.
fn confine(network: &mut NetworkSpec, range: IpNet) -> Result<(), NetError> {
    let invalid = |why: &str| Err(NetError::Invalid(format!("invalid ip-range {range}: {why}")));
    let Some(subnet) = network.subnets.iter_mut().find(|s| s.cidr.contains(&range)) else {
        return invalid("no subnet of the network contains it");
    };
    let kept = |ip: &std::net::IpAddr| {
        subnet.gateway == Some(*ip) || subnet.router == Some(*ip) || subnet.reserved.values().any(|r| r == ip)
    };
    if ipam::first(subnet.cidr, range, kept).is_none() {
        return invalid("no container could have an address in it");
    }
    subnet.range = Some(range).filter(|range| *range != subnet.cidr);
    Ok(())
}

fn free(
    cidr: IpNet,
    network: &NetworkSpec,
    existing: &[&NetworkSpec],
    host_routes: &[IpNet],
) -> Result<(), NetError> {
    subnets::check_free(cidr, network.id, existing)?;
    // What the network lies on already is not new.
    let known = |route: &IpNet| network.subnets.iter().any(|s| s.cidr.contains(route));
    match subnets::swallowed(cidr, host_routes).find(|route| !known(route)) {
        Some(route) => Err(NetError::OverlapsHost { wanted: cidr, route }),
        None => Ok(()),
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
#[path = "grow_tests.rs"]
mod tests;
