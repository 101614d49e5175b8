//! Who is called what, as each container may see it: made from the model in one pass, then only read.
//!
//! A container sees the names on its own networks and its own links, nothing else. Names are compared
//! without case. `name` is looked up on each of its networks in the order of its interfaces, the first that
//! knows it answers; `name.network` only on that network (as libnetwork).

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_model::{Container, ContainerId, Network, NetworkId, NetworkKind, Port, PortOwner, Protocol};

/// The names of one host.
#[derive(Debug, Default)]
pub struct Names {
    zones: HashMap<NetworkId, Zone>,
    scopes: HashMap<ContainerId, Scope>,
}

/// One network.
#[derive(Debug)]
struct Zone {
    name: Box<str>,
    hosts: HashMap<Box<str>, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, Box<str>>,
    network: Arc<Network>,
}

/// What one container sees.
#[derive(Debug, Default)]
struct Scope {
    networks: Vec<NetworkId>,
    links: Vec<(Box<str>, Vec<IpAddr>)>,
    forward: bool,
    servers: Option<Arc<[SocketAddr]>>,
    serves_dns: bool,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It has these addresses, perhaps none of the asked family.
    Addresses(&'a [IpAddr]),
    /// The address has this name.
    Pointer(&'a str),
    /// It is this host's business and does not exist.
    Nothing,
    /// Others must know.
    Elsewhere,
}

impl Names {
    /// The names in these records. Networks without a resolver (the default bridge, `host`, `none`) give none.
    pub fn build<'a>(
        networks: impl IntoIterator<Item = &'a Arc<Network>>,
        ports: impl IntoIterator<Item = &'a Arc<Port>>,
        containers: impl IntoIterator<Item = &'a Arc<Container>>,
    ) -> Self {
        let mut names = Self::default();
        for network in networks.into_iter().filter(|n| has_resolver(n)) {
            let zone = Zone {
                name: network.spec.name.as_str().to_ascii_lowercase().into(),
                hosts: HashMap::new(),
                reverse: HashMap::new(),
                network: Arc::clone(network),
            };
            names.zones.insert(network.spec.id, zone);
        }
        let mut ports: Vec<&Arc<Port>> = ports.into_iter().filter(|p| p.meta.deleting.is_none()).collect();
        // Interfaces in their order; eth10 after eth9.
        ports.sort_by_key(|p| (p.spec.owner, p.spec.ifname.len(), p.spec.ifname.clone()));
        for port in &ports {
            names.add_hosts(port);
        }
        for port in &ports {
            names.add_scope(port);
        }
        for container in containers {
            names.add_wishes(container);
        }
        names
    }

    fn add_hosts(&mut self, port: &Port) {
        let Some(zone) = self.zones.get_mut(&port.spec.network) else { return };
        let addresses = port.addresses();
        let ips = addresses.iter().map(|a| a.ip);
        for name in &port.spec.names {
            let name: Box<str> = name.to_ascii_lowercase().into();
            zone.hosts.entry(name).or_default().extend(ips.clone());
        }
        if let Some(first) = port.spec.names.first() {
            let full: Box<str> = format!("{first}.{}", zone.network.spec.name).into();
            zone.reverse.extend(ips.map(|ip| (ip, full.clone())));
        }
    }

    fn add_scope(&mut self, port: &Port) {
        let Some(zone) = self.zones.get(&port.spec.network) else { return };
        let PortOwner::Container(owner) = port.spec.owner;
        let scope = self.scopes.entry(owner).or_default();
        scope.networks.push(port.spec.network);
        scope.forward |= !zone.network.spec.isolation.internal;
        // What the LAN offers; a container's own wishes come after it.
        if let Some(lease) = port.status.lease.as_ref().filter(|lease| !lease.dns.is_empty()) {
            scope.servers = Some(lease.dns.iter().map(|ip| SocketAddr::new((*ip).into(), 53)).collect());
        }
        for (alias, target) in &port.spec.links {
            // A container answers to the first twelve digits of its id.
            let short = target.parse::<ContainerId>().map(|id| id.short());
            let target = short.unwrap_or_else(|_| target.to_ascii_lowercase());
            if let Some(ips) = zone.hosts.get(target.as_str()) {
                scope.links.push((alias.to_ascii_lowercase().into(), ips.clone()));
            }
        }
    }

    fn add_wishes(&mut self, container: &Container) {
        let Some(scope) = self.scopes.get_mut(&container.spec.id) else { return };
        let servers = &container.spec.dns.servers;
        if !servers.is_empty() {
            scope.servers = Some(servers.iter().filter_map(|s| server(s)).collect());
        }
        let dns = |text: &String| matches!(text.as_str(), "53" | "53/tcp" | "53/udp");
        let publishes =
            container.spec.publish.iter().any(|p| p.container_port == 53 && p.protocol == Protocol::Tcp);
        scope.serves_dns = publishes || container.spec.exposed.iter().any(dns);
    }

    /// Containers that need a resolver.
    pub fn containers(&self) -> impl Iterator<Item = ContainerId> + '_ {
        self.scopes.keys().copied()
    }

    /// Whether the container itself declares to serve DNS, so that TCP port 53 must stay free for it.
    #[must_use]
    pub fn serves_dns(&self, container: ContainerId) -> bool {
        self.scopes.get(&container).is_some_and(|s| s.serves_dns)
    }

    /// Where the container's other queries go: `None` nowhere, `Some(None)` to the host's servers.
    #[must_use]
    pub fn upstream(&self, container: ContainerId) -> Option<Option<&Arc<[SocketAddr]>>> {
        self.scopes.get(&container).filter(|s| s.forward).map(|s| s.servers.as_ref())
    }

    /// What `name` (lower case, without the final dot) means to `container`.
    #[must_use]
    pub fn lookup(&self, container: ContainerId, name: &str) -> Answer<'_> {
        let Some(scope) = self.scopes.get(&container) else { return Answer::Elsewhere };
        if let Some((_, ips)) = scope.links.iter().find(|(alias, _)| **alias == *name) {
            return Answer::Addresses(ips);
        }
        let mut zones = scope.networks.iter().filter_map(|id| self.zones.get(id));
        if let Some(ips) = zones.clone().find_map(|zone| zone.hosts.get(name)) {
            return Answer::Addresses(ips);
        }
        match name.rsplit_once('.') {
            Some((host, network)) => zones
                .find(|zone| *zone.name == *network)
                .and_then(|zone| zone.hosts.get(host))
                .map_or(Answer::Elsewhere, |ips| Answer::Addresses(ips)),
            None => Answer::Elsewhere,
        }
    }

    /// The name of an address.
    #[must_use]
    pub fn reverse(&self, container: ContainerId, ip: IpAddr) -> Answer<'_> {
        let Some(scope) = self.scopes.get(&container) else { return Answer::Elsewhere };
        for zone in scope.networks.iter().filter_map(|id| self.zones.get(id)) {
            if let Some(name) = zone.reverse.get(&ip) {
                return Answer::Pointer(name);
            }
            if zone.network.spec.subnets.iter().any(|s| s.cidr.contains(&ip)) {
                return Answer::Nothing;
            }
        }
        Answer::Elsewhere
    }
}

fn has_resolver(network: &Network) -> bool {
    !network.spec.is_default_bridge() && !matches!(network.spec.kind, NetworkKind::Host | NetworkKind::None)
}

/// A name server as people write it: an address, perhaps with a port.
pub(crate) fn server(text: &str) -> Option<SocketAddr> {
    let plain = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
    plain.or_else(|| text.parse().ok())
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
