//! One port of a container carries its default route and its published ports: the *uplink*, the port with the highest
//! gateway priority on a network that has a way out, ties going to the network whose name sorts first (as libnetwork).
//!
//! When networks come and go while the container runs, or get another family of addresses, [`elect_uplink`] moves both, and
//! [`publish`] fits what is published to what the uplink has: host ports stay as they are, a family that came is listened on,
//! too, and one that went is not. A host address of a family in which the container has none is not listened on: there is no
//! proxy process that could carry packets from one family to the other (dockerd with `userland-proxy: false` does the same,
//! and says so in its log).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_model::{
    ContainerSpec, GatewayMode, NetworkId, NetworkKind, NetworkSpec, PortOwner, PortRange, PortSpec,
    PublishBinding, PublishSpec,
};

use crate::{HostPorts, NetError, PortContext, WildcardV6, ports::find_network, publish::listen_at};

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
    elect_uplink(container, context.networks, &mut rest);
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

/// Gives default route and published ports to the port that should have them; `true` when something moved.
pub fn elect_uplink(container: &ContainerSpec, networks: &[&NetworkSpec], ports: &mut [PortSpec]) -> bool {
    let rank = |port: &PortSpec| {
        let network = networks.iter().find(|n| n.id == port.network)?;
        let priority = container.attachments.iter().find(|a| a.network == port.network);
        let priority = priority.map_or(0, |a| a.gateway_priority);
        let leased = network.dhcp && !network.isolation.internal;
        let way_out = leased || port.addresses.iter().any(|a| a.gateway.is_some());
        way_out.then(|| (std::cmp::Reverse(priority), network.name.clone()))
    };
    let ranked = ports.iter().enumerate().filter_map(|(i, p)| Some((rank(p)?, i)));
    let uplink = ranked.min().map(|(_, i)| i);
    let mut published = Vec::new();
    let mut moved = false;
    for (i, port) in ports.iter_mut().enumerate() {
        let is = uplink == Some(i);
        moved |= port.default_route != is;
        port.default_route = is;
        if !is {
            published.append(&mut port.publish);
        }
    }
    if let Some(port) = uplink.and_then(|i| ports.get_mut(i)) {
        port.publish.append(&mut published);
    }
    moved
}

/// Publishes at the uplink what the container wants; what is published already keeps its host port.
///
/// # Errors
/// Host ports that cannot be had.
pub(crate) fn publish(
    container: &ContainerSpec,
    ports: &mut [PortSpec],
    context: &PortContext<'_>,
) -> Result<(), NetError> {
    let Some(port) = ports.iter_mut().find(|p| p.default_route) else { return Ok(()) };
    let network = find_network(port.network, context.networks)?;
    let mut old: Vec<PublishBinding> =
        std::mem::take(&mut port.publish).iter().flat_map(|b| b.each()).collect();
    // Where addresses are the LAN's, so are the containers.
    if network.kind != NetworkKind::Bridge || network.dhcp {
        return Ok(());
    }
    let default = network.host_binding.address.or(context.publish_ip);
    let has = |v4: bool| port.addresses.iter().any(|a| a.ip.is_ipv4() == v4 && a.gateway.is_some());
    let served = (has(true), has(false));
    let v6 = served.1 && context.wildcard_v6 == WildcardV6::WhenAddressed;
    let me = PortOwner::Container(container.id);
    let others = context.existing.iter().copied().filter(|p| p.owner != me);
    let hints = context.hints.shared();
    let mut chooser =
        HostPorts::new(others, context.sockets, hints.dynamic, &hints.host_port).naming(context.name_of);
    for wish in wishes(container) {
        let failed = |source| NetError::Publish {
            container: container.name.to_string(),
            port: port.id,
            source: Box::new(source),
        };
        let at = listen_at(&wish, default, (served.0, v6)).map_err(failed)?;
        let mut bound = Vec::new();
        let mut at = listen_by_mode(network, &wish, v6, at, &mut bound);
        at.retain(|ip| if ip.is_ipv4() { served.0 } else { served.1 });
        bound.retain(|b| if b.host_ip.is_ipv4() { served.0 } else { served.1 });
        port.publish.append(&mut bound);
        let kept = earlier(&wish, &at, &mut old);
        let host_port = kept.first().map(|b| PortRange { start: b.host_port, end: b.host_port });
        let wish = PublishSpec { host_port: host_port.or(wish.host_port), ..wish };
        let (kept, _): (Vec<_>, Vec<_>) = kept.into_iter().partition(|b| at.contains(&b.host_ip));
        at.retain(|ip| kept.iter().all(|b| b.host_ip != *ip));
        port.publish.extend(kept);
        if !at.is_empty() {
            port.publish.extend(chooser.allocate(container.id, &wish, &at).map_err(failed)?);
        }
    }
    port.publish = PublishBinding::rows(std::mem::take(&mut port.publish));
    Ok(())
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

/// Where a wish listens on the host. In routed families it does not: what is published is reached at the container itself, and
/// bound without a host port.
fn listen_by_mode(
    network: &NetworkSpec,
    wish: &PublishSpec,
    v6: bool,
    mut at: Vec<IpAddr>,
    bound: &mut Vec<PublishBinding>,
) -> Vec<IpAddr> {
    if let (true, true, Some(ip)) = (wish.host_ip.is_empty(), v6, network.host_binding.address_v6) {
        at.retain(IpAddr::is_ipv4);
        at.push(ip);
    }
    let (routed, at): (Vec<_>, Vec<_>) =
        at.into_iter().partition(|ip| network.gateways.of(*ip) == GatewayMode::Routed);
    bound.extend(routed.into_iter().map(|ip| PublishBinding {
        protocol: wish.protocol,
        host_ip: if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
        host_port: 0,
        container_port: wish.container_port,
        more: 0,
    }));
    at
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
