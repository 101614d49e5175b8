//! Who is called what, as each container may see it: made from the model in one pass, then only read.
//!
//! A container sees the names on its own networks and its own links, nothing else. Names are compared
//! without case. `name` is looked up on each of its networks in the order of its interfaces, the first that
//! knows it answers; `name.network` only on that network, wherever the name is cut (as libnetwork).
//!
//! What nobody outside can mean is [`Answer::Nothing`] and never leaves the host: the names of containers that do not
//! run now or that are on other networks (see [`crate::ours`]), and what lies below a network whose name cannot be a
//! top-level domain (`shop_default`; those are of letters alone). Below `app` or `dev` others may know more, and Docker
//! asks them too.

mod build;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use weft_model::{ContainerId, Network, NetworkId, ProjectId, Protocol};

use crate::{
    options::Options,
    ours::{Ours, may_be_public},
    server::Server,
    services::Service,
};

/// The names of one host.
#[derive(Debug, Default)]
pub struct Names {
    zones: HashMap<NetworkId, Zone>,
    scopes: HashMap<ContainerId, Scope>,
    /// What each container declares to serve.
    offers: HashMap<ContainerId, Vec<(Protocol, u16)>>,
    ours: Ours,
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
    project: ProjectId,
    networks: Vec<NetworkId>,
    links: Vec<(Box<str>, NetworkId, Box<str>)>,
    forward: bool,
    servers: Option<Arc<[Server]>>,
    options: Options,
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
    pub fn upstream(&self, container: ContainerId) -> Option<Option<&Arc<[Server]>>> {
        self.scopes.get(&container).filter(|s| s.forward).map(|s| s.servers.as_ref())
    }

    /// The container's own options for asking others.
    #[must_use]
    pub(crate) fn options(&self, container: ContainerId) -> Options {
        self.scopes.get(&container).map_or_else(Options::default, |s| s.options)
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
        let mut ours = zones().any(|zone| zone.asleep.contains(name)) || self.ours.knows(scope.project, name);
        for (dot, _) in name.rmatch_indices('.') {
            let (host, network) = (&name[..dot], &name[dot + 1..]);
            let mine = zones().find(|zone| *zone.name == *network);
            if let Some(host) = mine.and_then(|zone| zone.hosts.get(host)) {
                return Found::Host(host);
            }
            let others = || self.ours.network(network).and_then(|id| self.zones.get(id));
            let Some(zone) = mine.or_else(others) else { continue };
            if zone.network.meta.project != scope.project {
                continue;
            }
            ours |= zone.hosts.contains_key(host) || zone.asleep.contains(host) || !may_be_public(network);
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
        let networks = self.scopes.get(&container).map_or(&[][..], |scope| &scope.networks);
        let mut zones = networks.iter().filter_map(|id| self.zones.get(id));
        match zones.find_map(|zone| zone.reverse.get(&ip)) {
            Some(name) => Answer::Pointer(name),
            None if self.owns(&ip.into()) => Answer::Nothing,
            None => Answer::Elsewhere,
        }
    }

    /// Whether these addresses are of a network that this host alone has.
    #[must_use]
    pub(crate) fn owns(&self, net: &IpNet) -> bool {
        self.ours.has(net)
    }
}

enum Found<'a> {
    Host(&'a Host),
    Nothing,
    Elsewhere,
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
