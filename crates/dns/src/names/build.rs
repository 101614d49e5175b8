//! Names out of the records of networks, ports and containers.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_model::{Container, ContainerId, Network, NetworkKind, Port, PortOwner, Protocol};

use super::{Bearer, Names, Zone};
use crate::{options::Options, server::Server};

impl Names {
    /// The names in these records. Networks without a resolver (the default bridge, `host`, `none`) give none.
    pub fn build<'a>(
        networks: impl IntoIterator<Item = &'a Arc<Network>>,
        ports: impl IntoIterator<Item = &'a Arc<Port>>,
        containers: impl IntoIterator<Item = &'a Arc<Container>>,
    ) -> Self {
        let mut names = Self::default();
        for network in networks {
            names.ours.add_network(network);
            if has_resolver(network) {
                names.zones.insert(network.spec.id, Zone::new(network));
            }
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
            names.add_container(container);
        }
        names
    }

    fn add_hosts(&mut self, port: &Port) {
        self.ours.add_port(port);
        let Some(zone) = self.zones.get_mut(&port.spec.network) else { return };
        let PortOwner::Container(owner) = port.spec.owner;
        let ips: Vec<IpAddr> = port.addresses().iter().map(|a| a.ip).collect();
        let Some(first) = port.spec.names.first() else { return };
        let full: Box<str> = format!("{first}.{}", zone.network.spec.name).into();
        for name in &port.spec.names {
            let host = zone.hosts.entry(name.to_ascii_lowercase().into()).or_default();
            host.ips.extend(&ips);
            host.bearers.push(Bearer { owner, full: full.clone(), ips: ips.clone() });
        }
        zone.reverse.extend(ips.into_iter().map(|ip| (ip, full.clone())));
    }

    fn add_scope(&mut self, port: &Port) {
        let Some(zone) = self.zones.get(&port.spec.network) else { return };
        let PortOwner::Container(owner) = port.spec.owner;
        let scope = self.scopes.entry(owner).or_default();
        scope.project = port.meta.project;
        scope.networks.push(port.spec.network);
        scope.forward |= !zone.network.spec.isolation.internal;
        // What the LAN offers; a container's own wishes come after it.
        if let Some(lease) = port.status.lease.as_ref().filter(|lease| !lease.dns.is_empty()) {
            scope.servers =
                Some(lease.dns.iter().map(|ip| SocketAddr::new((*ip).into(), 53).into()).collect());
        }
        for (alias, target) in &port.spec.links {
            // A container answers to the first twelve digits of its id.
            let short = target.parse::<ContainerId>().map(|id| id.short());
            let target: Box<str> = short.unwrap_or_else(|_| target.to_ascii_lowercase()).into();
            if zone.hosts.contains_key(&target) {
                scope.links.push((alias.to_ascii_lowercase().into(), port.spec.network, target));
            }
        }
    }

    fn add_container(&mut self, container: &Container) {
        self.ours.add_container(container);
        let spec = &container.spec;
        for attachment in &spec.attachments {
            let Some(zone) = self.zones.get_mut(&attachment.network) else { continue };
            // A host name with dots may well be a public one.
            let hostname = Some(&spec.hostname).filter(|name| !name.contains('.'));
            let own = [spec.name.as_str().to_owned(), spec.id.short()];
            for name in own.iter().chain(hostname).chain(&attachment.aliases) {
                let name = name.to_ascii_lowercase();
                if !name.is_empty() && !zone.hosts.contains_key(name.as_str()) {
                    zone.asleep.insert(name.into());
                }
            }
        }
        let Some(scope) = self.scopes.get_mut(&spec.id) else { return };
        let servers = &spec.dns.servers;
        if !servers.is_empty() {
            scope.servers = Some(servers.iter().filter_map(|s| Server::parse(s)).collect());
        }
        scope.options = Options::parse(&spec.dns.options);
        if !spec.dns.options.is_empty() {
            // They take the place of the host's, and without a number of dots the file says ndots:0.
            scope.options.dots.get_or_insert(false);
        }
        let mut offers: Vec<(Protocol, u16)> =
            spec.publish.iter().map(|p| (p.protocol, p.container_port)).collect();
        // A published UDP port alone leaves TCP to the resolver.
        scope.serves_dns = offers.contains(&(Protocol::Tcp, 53));
        let exposed: Vec<_> = spec.exposed.iter().filter_map(|text| offer(text)).collect();
        scope.serves_dns |= exposed.iter().any(|(protocol, port)| *port == 53 && *protocol != Protocol::Sctp);
        offers.extend(exposed);
        offers.sort_unstable();
        offers.dedup();
        if !offers.is_empty() {
            self.offers.insert(spec.id, offers);
        }
    }
}

impl Zone {
    fn new(network: &Arc<Network>) -> Self {
        Self {
            name: network.spec.name.as_str().to_ascii_lowercase().into(),
            hosts: HashMap::new(),
            reverse: HashMap::new(),
            asleep: HashSet::new(),
            network: Arc::clone(network),
        }
    }
}

fn has_resolver(network: &Network) -> bool {
    !network.spec.is_default_bridge()
        && !matches!(network.spec.kind, NetworkKind::Host | NetworkKind::None | NetworkKind::Config)
}

/// A declared port: `80/tcp`, or `80`.
fn offer(text: &str) -> Option<(Protocol, u16)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((protocol.parse().ok()?, port.parse().ok()?))
}
