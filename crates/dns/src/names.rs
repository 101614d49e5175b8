//! Who is called what, as each container may see it: made from the model in one pass, then only read.
//!
//! A container sees the names on its own networks and its own links, nothing else. Names are compared
//! without case. `name` is looked up on each of its networks in the order of its interfaces, the first that
//! knows it answers; `name.network` only on that network, wherever the name is cut (as libnetwork).
//!
//! What nobody outside can mean is [`Answer::Nothing`] and never leaves the host: the names of containers on the
//! asker's networks that do not run now, and what lies below a network whose name cannot be a top-level domain
//! (`shop_default`; those are of letters alone). Below `app` or `dev` others may know more, and Docker asks them too.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_model::{Container, ContainerId, Network, NetworkId, NetworkKind, Port, PortOwner, Protocol};

use crate::services::Service;

/// The names of one host.
#[derive(Debug, Default)]
pub struct Names {
    zones: HashMap<NetworkId, Zone>,
    scopes: HashMap<ContainerId, Scope>,
    /// What each container declares to serve.
    offers: HashMap<ContainerId, Vec<(Protocol, u16)>>,
}

/// One network.
#[derive(Debug)]
struct Zone {
    name: Box<str>,
    hosts: HashMap<Box<str>, Host>,
    reverse: HashMap<IpAddr, Box<str>>,
    /// Names of containers that are attached and do not run.
    asleep: HashSet<Box<str>>,
    network: Arc<Network>,
}

/// What a name stands for: the addresses of all that bear it, and who they are.
#[derive(Debug, Default)]
struct Host {
    ips: Vec<IpAddr>,
    bearers: Vec<Bearer>,
}

/// One container behind a name.
#[derive(Debug)]
struct Bearer {
    owner: ContainerId,
    /// `name.network`, as people wrote both.
    full: Box<str>,
    ips: Vec<IpAddr>,
}

/// What one container sees.
#[derive(Debug, Default)]
struct Scope {
    networks: Vec<NetworkId>,
    links: Vec<(Box<str>, NetworkId, Box<str>)>,
    forward: bool,
    servers: Option<Arc<[SocketAddr]>>,
    dots: Option<bool>,
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

/// One place where a service is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// `name.network` of the container.
    pub(crate) target: &'a str,
    /// Its port.
    pub(crate) port: u16,
    /// Its addresses.
    pub(crate) ips: &'a [IpAddr],
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
            names.zones.insert(network.spec.id, Zone::new(network));
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
        scope.networks.push(port.spec.network);
        scope.forward |= !zone.network.spec.isolation.internal;
        // What the LAN offers; a container's own wishes come after it.
        if let Some(lease) = port.status.lease.as_ref().filter(|lease| !lease.dns.is_empty()) {
            scope.servers = Some(lease.dns.iter().map(|ip| SocketAddr::new((*ip).into(), 53)).collect());
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
            scope.servers = Some(servers.iter().filter_map(|s| server(s)).collect());
        }
        scope.dots = crate::hostfile::wants_dots(&spec.dns.options);
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

    /// Whether the container's own options ask for dots in names that go out; `None` when they say nothing.
    #[must_use]
    pub fn wants_dots(&self, container: ContainerId) -> Option<bool> {
        self.scopes.get(&container).and_then(|s| s.dots)
    }

    /// What `name` (lower case, without the final dot) means to `container`.
    #[must_use]
    pub fn lookup(&self, container: ContainerId, name: &str) -> Answer<'_> {
        match self.find(container, name) {
            Found::Host(host) => Answer::Addresses(&host.ips),
            Found::Nothing => Answer::Nothing,
            Found::Elsewhere => Answer::Elsewhere,
        }
    }

    fn find(&self, container: ContainerId, name: &str) -> Found<'_> {
        let Some(scope) = self.scopes.get(&container) else { return Found::Elsewhere };
        if let Some((_, network, target)) = scope.links.iter().find(|(alias, ..)| **alias == *name)
            && let Some(host) = self.zones.get(network).and_then(|zone| zone.hosts.get(target))
        {
            return Found::Host(host);
        }
        let zones = || scope.networks.iter().filter_map(|id| self.zones.get(id));
        if let Some(host) = zones().find_map(|zone| zone.hosts.get(name)) {
            return Found::Host(host);
        }
        let mut ours = zones().any(|zone| zone.asleep.contains(name));
        for (dot, _) in name.rmatch_indices('.') {
            let (host, network) = (&name[..dot], &name[dot + 1..]);
            let Some(zone) = zones().find(|zone| *zone.name == *network) else { continue };
            if let Some(host) = zone.hosts.get(host) {
                return Found::Host(host);
            }
            ours |= zone.asleep.contains(host) || !may_be_public(network);
        }
        if ours { Found::Nothing } else { Found::Elsewhere }
    }

    /// Where a service is that `container` asks for; `Err` when its host is no name of ours.
    ///
    /// # Errors
    /// What is known of the host: nothing, or that others must know.
    pub(crate) fn places(
        &self,
        container: ContainerId,
        service: &Service<'_>,
    ) -> Result<Vec<Place<'_>>, Answer<'_>> {
        let host = match self.find(container, service.host) {
            Found::Host(host) => host,
            Found::Nothing => return Err(Answer::Nothing),
            Found::Elsewhere => return Err(Answer::Elsewhere),
        };
        let mut places = Vec::new();
        for bearer in &host.bearers {
            let offers = self.offers.get(&bearer.owner).map_or(&[][..], Vec::as_slice);
            for (_, port) in offers.iter().filter(|(protocol, port)| service.is(*protocol, *port)) {
                places.push(Place { target: &bearer.full, port: *port, ips: &bearer.ips });
            }
        }
        Ok(places)
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

enum Found<'a> {
    Host(&'a Host),
    Nothing,
    Elsewhere,
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
    !network.spec.is_default_bridge() && !matches!(network.spec.kind, NetworkKind::Host | NetworkKind::None)
}

/// Top-level domains are of letters, or `xn--…` (RFC 3696 section 2, ICANN's rules).
fn may_be_public(network: &str) -> bool {
    let top = network.rsplit('.').next().unwrap_or(network);
    top.starts_with("xn--") || top.bytes().all(|b| b.is_ascii_alphabetic())
}

/// A declared port: `80/tcp`, or `80`.
fn offer(text: &str) -> Option<(Protocol, u16)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((protocol.parse().ok()?, port.parse().ok()?))
}

/// A name server as people write it: an address, perhaps with a port.
pub(crate) fn server(text: &str) -> Option<SocketAddr> {
    let plain = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
    plain.or_else(|| text.parse().ok())
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
