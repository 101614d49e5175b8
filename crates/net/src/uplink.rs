//! In each family one port of a container carries its default route and its published ports: the *uplink*. It is the port
//! with the highest gateway priority on a network that has a way out in that family; of equal ones that with a way out in
//! both, so that both families go by one network where they can; then the one whose network's name sorts first (libnetwork's
//! `Endpoint.Less` and `Sandbox.getGatewayEndpoint`).
//!
//! When networks come and go while the container runs, or get another family of addresses, [`elect_uplinks`] moves them, and
//! [`publish`] fits what is published to what the uplinks have: host ports stay as they are, a family that came is listened on,
//! too, and one that went is not. A host address of a family in which the container has none is not listened on: there is no
//! proxy process that could carry packets from one family to the other (dockerd with `userland-proxy: false` does the same,
//! and says so in its log).

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use weft_model::{
    ContainerSpec, GatewayMode, NetworkId, NetworkKind, NetworkSpec, PortId, PortOwner, PortRange, PortSpec,
    PublishBinding, PublishSpec,
};

use crate::{
    HostPorts, NetError, PortContext, PublishError, WildcardV6, ports::find_network, publish::listen_at,
};

/// The ports that stay when a container leaves a network; what was published moves to the new uplink, as far as that can
/// have it.
#[must_use]
pub fn disconnect_ports(
    container: &ContainerSpec,
    network: NetworkId,
    context: &PortContext<'_>,
    ports: &[PortSpec],
) -> Vec<PortSpec> {
    let (gone, mut rest): (Vec<_>, Vec<_>) = ports.iter().cloned().partition(|p| p.network == network);
    if let Some(first) = rest.first_mut() {
        first.publish.extend(gone.into_iter().flat_map(|p| p.publish));
    }
    elect_uplinks(container, context.networks, &mut rest);
    let mut fitted = rest.clone();
    // A network is left whatever becomes of a host port.
    match publish(container, &mut fitted, context) {
        Ok(()) => fitted,
        Err(error) => {
            let container = container.name.as_str();
            tracing::warn!(container, error = weft_base::chain(&error), "not all is published as before");
            rest
        }
    }
}

/// Gives each family's default route and published ports to the port that should have them.
pub fn elect_uplinks(container: &ContainerSpec, networks: &[&NetworkSpec], ports: &mut [PortSpec]) {
    let rank = |port: &PortSpec| {
        let network = networks.iter().find(|n| n.id == port.network)?;
        let priority = container.attachments.iter().find(|a| a.network == port.network);
        let priority = priority.map_or(0, |a| a.gateway_priority);
        let leased = network.dhcp && !network.isolation.internal;
        let ways = (leased || has_way_out(port, true), has_way_out(port, false));
        let one_only = ways.0 != ways.1;
        (ways != (false, false)).then(|| ((Reverse(priority), one_only, network.name.clone()), ways))
    };
    let mut ranked: Vec<_> =
        ports.iter().enumerate().filter_map(|(i, p)| rank(p).map(|(rank, ways)| (rank, ways, i))).collect();
    ranked.sort();
    let of_v4 = ranked.iter().find(|(_, ways, _)| ways.0).map(|(.., i)| *i);
    let of_v6 = ranked.iter().find(|(_, ways, _)| ways.1).map(|(.., i)| *i);
    let mut published = Vec::new();
    for (i, port) in ports.iter_mut().enumerate() {
        (port.default_route, port.default_route_v6) = (of_v4 == Some(i), of_v6 == Some(i));
        published.append(&mut port.publish);
    }
    for binding in published {
        let (own, other) = if binding.host_ip.is_ipv4() { (of_v4, of_v6) } else { (of_v6, of_v4) };
        // Without an uplink of its family it is remembered at the other's, for its host port.
        if let Some(port) = own.or(other).and_then(|i| ports.get_mut(i)) {
            port.publish.push(binding);
        }
    }
}

/// Whether a port's network has a way out in a family for it.
fn has_way_out(port: &PortSpec, v4: bool) -> bool {
    port.addresses.iter().any(|a| a.ip.is_ipv4() == v4 && a.gateway.is_some())
}

/// Publishes at the uplinks what the container wants; what is published already keeps its host port.
///
/// # Errors
/// Host ports that cannot be had.
pub(crate) fn publish(
    container: &ContainerSpec,
    ports: &mut [PortSpec],
    context: &PortContext<'_>,
) -> Result<(), NetError> {
    let mut old: Vec<PublishBinding> = ports
        .iter_mut()
        .flat_map(|p| std::mem::take(&mut p.publish))
        .flat_map(PublishBinding::each)
        .collect();
    let mut outlets = Vec::new();
    for v4 in [true, false] {
        outlets.extend(outlet(ports, v4, context)?);
    }
    let me = PortOwner::Container(container.id);
    let others = context.existing.iter().copied().filter(|p| p.owner != me);
    let hints = context.hints.shared();
    let mut chooser =
        HostPorts::new(others, context.sockets, hints.dynamic, &hints.host_port).naming(context.name_of);
    let mut published = Vec::new();
    for wish in wishes(container).into_iter().filter(|_| !outlets.is_empty()) {
        let failed = |source| NetError::Publish {
            container: container.name.to_string(),
            port: outlets.first().map_or_else(PortId::new, |outlet| outlet.port),
            source: Box::new(source),
        };
        let mut at = Vec::new();
        for outlet in &outlets {
            at.extend(outlet.listens(&wish, &mut published).map_err(failed)?);
        }
        let kept = earlier(&wish, &at, &mut old);
        let host_port = kept.first().map(|b| PortRange { start: b.host_port, end: b.host_port });
        let wish = PublishSpec { host_port: host_port.or(wish.host_port), ..wish };
        let (kept, _): (Vec<_>, Vec<_>) = kept.into_iter().partition(|b| at.contains(&b.host_ip));
        at.retain(|ip| kept.iter().all(|b| b.host_ip != *ip));
        published.extend(kept);
        if !at.is_empty() {
            published.extend(chooser.allocate(container.id, &wish, &at).map_err(failed)?);
        }
    }
    for port in ports {
        let here = |b: &PublishBinding| {
            outlets.iter().any(|outlet| outlet.port == port.id && outlet.v4 == b.host_ip.is_ipv4())
        };
        port.publish = PublishBinding::rows(published.iter().copied().filter(here).collect());
    }
    Ok(())
}

/// Where a container's ports are published in one family.
struct Outlet<'a> {
    port: PortId,
    network: &'a NetworkSpec,
    v4: bool,
    /// Where wishes listen that do not say.
    default: Option<IpAddr>,
    /// Wishes for all addresses listen in this family, too.
    wildcard: bool,
}

/// The outlet of a family; `None` where its uplink publishes nothing.
fn outlet<'a>(
    ports: &[PortSpec],
    v4: bool,
    context: &PortContext<'a>,
) -> Result<Option<Outlet<'a>>, NetError> {
    let uplink = ports.iter().find(|p| if v4 { p.default_route } else { p.default_route_v6 });
    let Some(port) = uplink.filter(|p| has_way_out(p, v4)) else { return Ok(None) };
    let network = find_network(port.network, context.networks)?;
    // Where addresses are the LAN's, so are the containers.
    Ok((network.kind == NetworkKind::Bridge && !network.dhcp).then(|| Outlet {
        port: port.id,
        network,
        v4,
        default: network.host_binding.address.or(context.publish_ip),
        wildcard: v4 || context.wildcard_v6 == WildcardV6::WhenAddressed,
    }))
}

impl Outlet<'_> {
    /// Where a wish listens on the host. In a routed family it does not: what is published is reached at the container
    /// itself, and `bound` without a host port.
    fn listens(
        &self,
        wish: &PublishSpec,
        bound: &mut Vec<PublishBinding>,
    ) -> Result<Vec<IpAddr>, PublishError> {
        let own = self.network.host_binding.address_v6.filter(|_| !self.v4 && self.wildcard);
        let mut at = match own.filter(|_| wish.host_ip.is_empty()) {
            Some(ip) => vec![ip],
            None => listen_at(wish, self.default, (self.v4, !self.v4 && self.wildcard))?,
        };
        at.retain(|ip| ip.is_ipv4() == self.v4);
        let (routed, at): (Vec<_>, Vec<_>) =
            at.into_iter().partition(|ip| self.network.gateways.of(*ip) == GatewayMode::Routed);
        bound.extend(routed.into_iter().map(|ip| PublishBinding {
            protocol: wish.protocol,
            host_ip: if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
            host_port: 0,
            container_port: wish.container_port,
            more: 0,
        }));
        Ok(at)
    }
}

/// Takes out of `old` what a wish was published as before, be it at addresses where it does not listen any more: it keeps
/// its host port.
fn earlier(wish: &PublishSpec, at: &[IpAddr], old: &mut Vec<PublishBinding>) -> Vec<PublishBinding> {
    let fits = |b: &PublishBinding| {
        let wanted = wish.host_port.is_none_or(|r| r.start == 0 || (r.start..=r.end).contains(&b.host_port));
        b.host_port > 0 && b.protocol == wish.protocol && b.container_port == wish.container_port && wanted
    };
    let anywhere = wish.host_ip.is_empty();
    let same = old.iter().find(|b| fits(b) && at.contains(&b.host_ip));
    let Some(known) = same.or_else(|| old.iter().find(|b| fits(b) && anywhere)).copied() else {
        return Vec::new();
    };
    let mine = |b: &PublishBinding| {
        fits(b) && b.host_port == known.host_port && (anywhere || at.contains(&b.host_ip))
    };
    let taken = old.iter().copied().filter(mine).collect();
    old.retain(|b| !mine(b));
    taken
}

/// Explicit wishes first (fixed ports before ranges before any), then, with `publish_all`, every exposed
/// port that none of them names.
fn wishes(container: &ContainerSpec) -> Vec<PublishSpec> {
    let mut wishes = container.publish.clone();
    wishes.sort_by_key(|w| match w.host_port {
        Some(range) if range.start == range.end => 0,
        Some(_) => 1,
        None => 2,
    });
    if container.publish_all {
        for text in &container.exposed {
            let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            let (Ok(container_port), Ok(protocol)) = (port.parse::<u16>(), protocol.parse()) else {
                continue;
            };
            if !wishes.iter().any(|w| w.container_port == container_port && w.protocol == protocol) {
                wishes.push(PublishSpec {
                    protocol,
                    container_port,
                    host_ip: String::new(),
                    host_port: None,
                });
            }
        }
    }
    wishes
}

#[cfg(test)]
#[path = "uplink_tests.rs"]
mod tests;
