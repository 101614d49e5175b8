//! From a container's wishes to its ports: addresses, Ethernet addresses, interface names and names, all decided here
//! and written once. Which of them has the default route and the published ports, `uplink` decides.

use std::net::IpAddr;

use weft_model::{
    Attachment, ContainerId, ContainerSpec, DhcpWish, MacAddr, NetworkKind, NetworkSpec, PortAddress, PortId,
    PortOwner, PortSpec,
};

use crate::{
    Cursors, Family, Hints, HostSockets, Ipam, NetError, WildcardV6,
    uplink::{elect_uplinks, publish},
};

/// What building ports looks at besides the container. References only; made anew for each transaction.
pub struct PortContext<'a> {
    /// All networks.
    pub networks: &'a [&'a NetworkSpec],
    /// All ports that exist, and those that others have chosen and not yet written ([`crate::Turn::pending`]).
    pub existing: &'a [&'a PortSpec],
    /// Search hints that outlive the transaction.
    pub hints: &'a Hints,
    /// The host's own sockets.
    pub sockets: &'a dyn HostSockets,
    /// What a container is called, for saying who has a port.
    pub name_of: &'a dyn Fn(ContainerId) -> Option<String>,
    /// Where published ports listen when neither people nor the network say.
    pub publish_ip: Option<IpAddr>,
    /// Wildcard publication on IPv6.
    pub wildcard_v6: WildcardV6,
}

/// All ports of a container that is about to start, in the order of its attachments.
///
/// # Errors
/// Unknown networks, addresses or host ports that cannot be had. Nothing is held after an error.
pub fn build_ports(container: &ContainerSpec, context: &PortContext<'_>) -> Result<Vec<PortSpec>, NetError> {
    let mut ports: Vec<PortSpec> = Vec::new();
    for attachment in &container.attachments {
        let port = build_port(container, attachment, &ports, context)?;
        ports.extend(port);
    }
    elect_uplinks(container, context.networks, &mut ports);
    publish(container, &mut ports, context)?;
    for port in &ports {
        note_automatic(port, &container.attachments, context);
    }
    Ok(ports)
}

/// One more port of a container that runs and has `ports`; they change when an uplink moves. Answers all
/// ports, the new one last; `None` when the network's kind makes none.
///
/// # Errors
/// As [`build_ports`].
pub fn connect_port(
    container: &ContainerSpec,
    attachment: &Attachment,
    ports: &[PortSpec],
    context: &PortContext<'_>,
) -> Result<Option<Vec<PortSpec>>, NetError> {
    let Some(port) = build_port(container, attachment, ports, context)? else { return Ok(None) };
    let mut all = ports.to_vec();
    all.push(port);
    elect_uplinks(container, context.networks, &mut all);
    publish(container, &mut all, context)?;
    if let Some(port) = all.last() {
        note_automatic(port, std::slice::from_ref(attachment), context);
    }
    Ok(Some(all))
}

/// The search for the next free address goes on behind the last that was found so; one that was asked for moves it
/// nowhere (as Docker's).
fn note_automatic(port: &PortSpec, wishes: &[Attachment], context: &PortContext<'_>) {
    let wished =
        |ip| wishes.iter().any(|w| w.network == port.network && (w.ipv4 == Some(ip) || w.ipv6 == Some(ip)));
    for ip in port.addresses.iter().map(|a| a.ip).filter(|ip| !wished(*ip)) {
        context.hints.shared().addresses.note(port.network, ip);
    }
}

pub(crate) fn find_network<'a>(
    id: weft_model::NetworkId,
    networks: &[&'a NetworkSpec],
) -> Result<&'a NetworkSpec, NetError> {
    networks.iter().find(|n| n.id == id).copied().ok_or(NetError::NoNetwork { id })
}

fn build_port(
    container: &ContainerSpec,
    attachment: &Attachment,
    mine: &[PortSpec],
    context: &PortContext<'_>,
) -> Result<Option<PortSpec>, NetError> {
    let network = find_network(attachment.network, context.networks)?;
    if matches!(network.kind, NetworkKind::Host | NetworkKind::None) {
        return Ok(None);
    }
    if network.kind == NetworkKind::Config {
        return Err(NetError::Refused("cannot create endpoint on configuration-only network".into()));
    }
    if network.predefined && !attachment.aliases.is_empty() {
        return Err(NetError::PredefinedAlias);
    }
    if let Some(parent) = &network.parent {
        hang(parent, network, attachment, context)?;
    }
    let others = context.existing.iter().copied().chain(mine);
    let addresses = addresses(network, attachment, others, &context.hints.shared().addresses)?;
    let id = PortId::new();
    let own = || {
        // A server knows its clients by it: the same after each start.
        if network.dhcp { stable_mac(container.id, network.id) } else { derive_mac(id, &addresses) }
    };
    let mac = attachment.mac.unwrap_or_else(own);
    let wish = || DhcpWish { hostname: container.hostname.clone() };
    Ok(Some(PortSpec {
        id,
        network: network.id,
        owner: PortOwner::Container(container.id),
        mac,
        addresses,
        ifname: ifname(network, attachment, mine)?,
        default_route: false,
        default_route_v6: false,
        names: names(container, attachment, network),
        links: links(attachment),
        publish: Vec::new(),
        sysctls: attachment.sysctls.clone(),
        dhcp: network.dhcp.then(wish),
    }))
}

/// What an interface without an Ethernet address of its own, or one that has its parent for itself, cannot be.
fn hang(
    parent: &weft_model::ParentSpec,
    network: &NetworkSpec,
    attachment: &Attachment,
    context: &PortContext<'_>,
) -> Result<(), NetError> {
    if attachment.mac.is_some() && !parent.branch.chooses_mac() {
        return Err(NetError::NoCustomMac { kind: parent.branch.kind() });
    }
    let taken = context.existing.iter().any(|p| p.network == network.id);
    if parent.branch.is_exclusive() && taken {
        let link = parent.link.as_deref().unwrap_or_default();
        let text = format!("parent interface {link} is already in use by a container in mode passthru");
        return Err(NetError::ParentTaken { text });
    }
    Ok(())
}

fn addresses<'p>(
    network: &NetworkSpec,
    attachment: &Attachment,
    ports: impl Iterator<Item = &'p PortSpec>,
    cursors: &Cursors,
) -> Result<Vec<PortAddress>, NetError> {
    let mut ipam = Ipam::new(network, ports);
    let mut addresses = Vec::new();
    for (family, wanted) in [(Family::V4, attachment.ipv4), (Family::V6, attachment.ipv6)] {
        let offered = network.subnets.iter().any(|s| Family::of(s.cidr.addr()) == family);
        match wanted {
            Some(ip) if Family::of(ip) != family => return Err(NetError::OutsideSubnets { ip }),
            Some(ip) => addresses.push(ipam.claim(ip)?),
            None if offered => addresses.push(ipam.next(family, cursors.last(network.id, family))?),
            None => {}
        }
    }
    for ip in &attachment.link_local {
        let prefix = match ip {
            IpAddr::V4(v4) if v4.is_link_local() => 16,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => 64,
            _ => return Err(NetError::NotLinkLocal { ip: *ip }),
        };
        addresses.push(PortAddress { ip: *ip, prefix, gateway: None });
    }
    Ok(addresses)
}

/// `02:42` and the IPv4 address, as Docker; of the port's id where there is none.
fn derive_mac(id: PortId, addresses: &[PortAddress]) -> MacAddr {
    let v4 = addresses.iter().find_map(|a| match a.ip {
        IpAddr::V4(ip) if !ip.is_link_local() => Some(ip),
        _ => None,
    });
    v4.map_or_else(
        || {
            let b = id.as_bytes();
            MacAddr([0x02, 0x42, b[0], b[1], b[2], b[3]])
        },
        MacAddr::from_ipv4,
    )
}

/// `02:42` and bytes of both ids.
fn stable_mac(container: ContainerId, network: weft_model::NetworkId) -> MacAddr {
    let (c, n) = (container.as_bytes(), network.as_bytes());
    MacAddr([0x02, 0x42, c[0] ^ n[0], c[1] ^ n[1], c[2] ^ n[2], c[3] ^ n[3]])
}

/// The wanted name, else the next free one with the network's prefix.
fn ifname(network: &NetworkSpec, attachment: &Attachment, mine: &[PortSpec]) -> Result<String, NetError> {
    if let Some(name) = &attachment.ifname {
        return if mine.iter().any(|p| p.ifname == *name) {
            Err(NetError::Invalid(format!("interface name {name} is already in use in the container")))
        } else {
            Ok(name.clone())
        };
    }
    Ok(free_ifname(if network.ifname_prefix.is_empty() { "eth" } else { &network.ifname_prefix }, mine))
}

fn free_ifname(prefix: &str, mine: &[PortSpec]) -> String {
    let mut number = 0;
    loop {
        let name = format!("{prefix}{number}");
        if mine.iter().all(|p| p.ifname != name) {
            return name;
        }
        number += 1;
    }
}

/// Docker's `DNSNames`: name, aliases, short id, host name; none on the default bridge.
fn names(container: &ContainerSpec, attachment: &Attachment, network: &NetworkSpec) -> Vec<String> {
    if network.is_default_bridge() {
        return Vec::new();
    }
    let mut names: Vec<String> = Vec::new();
    let short = container.id.short();
    let all = [container.name.as_str()]
        .into_iter()
        .chain(attachment.aliases.iter().map(String::as_str))
        .chain([short.as_str(), container.hostname.as_str()]);
    for name in all.filter(|n| !n.is_empty()) {
        if !names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    }
    names
}

/// `container[:alias]` as alias and target.
fn links(attachment: &Attachment) -> Vec<(String, String)> {
    let one = |text: &String| {
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        let last = alias.rsplit('/').next().unwrap_or_default();
        (last.to_owned(), target.trim_start_matches('/').to_owned())
    };
    attachment.links.iter().map(one).collect()
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
