//! What is this host's own business, whoever asks: no question about it leaves the host.
//!
//! dockerd asks the world for the names of containers on networks that the asker is not on, and so tells it about them.
//! Here they are names that do not exist. That must not take names from anybody which mean something outside, so it
//! holds within a project, for the names of its containers without dots (nothing public has such a name; a search
//! domain of the LAN is still asked) and for `container.network`, but not for other names with dots that people give
//! (`--network-alias api.example.com`). Addresses are the host's own when they are of a network that it alone has: not
//! of one that borrows the LAN's addresses, whose name servers know them.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use weft_model::{Container, Network, NetworkId, NetworkKind, NetworkMode, Port, ProjectId};

/// Names and subnets.
#[derive(Debug, Default)]
pub(crate) struct Ours {
    names: HashMap<ProjectId, HashSet<Box<str>>>,
    networks: HashMap<Box<str>, NetworkId>,
    subnets: Vec<IpNet>,
}

impl Ours {
    pub(crate) fn add_network(&mut self, network: &Network) {
        let spec = &network.spec;
        self.networks.insert(spec.name.as_str().to_ascii_lowercase().into(), spec.id);
        if alone(network) {
            self.subnets.extend(spec.subnets.iter().map(|subnet| subnet.cidr));
        }
    }

    pub(crate) fn add_port(&mut self, port: &Port) {
        self.add(port.meta.project, port.spec.names.iter().map(String::as_str));
    }

    pub(crate) fn add_container(&mut self, container: &Container) {
        let spec = &container.spec;
        let short = spec.id.short();
        // With the host's network it has the host's name, which is the LAN's business.
        let hostname = (spec.network == NetworkMode::Attached).then_some(spec.hostname.as_str());
        let aliases = spec.attachments.iter().flat_map(|a| &a.aliases).map(String::as_str);
        let own = [spec.name.as_str(), &short];
        self.add(container.meta.project, own.into_iter().chain(hostname).chain(aliases));
    }

    fn add<'a>(&mut self, project: ProjectId, names: impl Iterator<Item = &'a str>) {
        let known = self.names.entry(project).or_default();
        known.extend(
            names.filter(|n| !n.is_empty() && !n.contains('.')).map(|n| n.to_ascii_lowercase().into()),
        );
    }

    /// Whether a container of the project is called this, without dots.
    pub(crate) fn knows(&self, project: ProjectId, name: &str) -> bool {
        self.names.get(&project).is_some_and(|names| names.contains(name))
    }

    pub(crate) fn network(&self, name: &str) -> Option<&NetworkId> {
        self.networks.get(name)
    }

    /// Whether these addresses are of one of the host's own networks.
    pub(crate) fn has(&self, net: &IpNet) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(net))
    }
}

/// Whether the network's addresses are this host's alone.
fn alone(network: &Network) -> bool {
    let spec = &network.spec;
    let shared =
        matches!(spec.kind, NetworkKind::Macvlan | NetworkKind::Ipvlan) || spec.borrowed || spec.dhcp;
    !shared && !matches!(spec.kind, NetworkKind::Host | NetworkKind::None | NetworkKind::Config)
}

/// Whether names below a network's may be public ones: top-level domains are of letters, or `xn--…` (RFC 3696
/// section 2, ICANN's rules).
pub(crate) fn may_be_public(network: &str) -> bool {
    let top = network.rsplit('.').next().unwrap_or(network);
    top.starts_with("xn--") || top.bytes().all(|b| b.is_ascii_alphabetic())
}
