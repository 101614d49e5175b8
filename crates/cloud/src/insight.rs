//! Use cases of looking: what becomes of a packet, live traces, counters, the picture of all networks. What the data plane
//! knows by links and ids is told by the names that people gave.

use std::net::IpAddr;

use serde::Serialize;
use weft_model::{ContainerId, Network, NetworkKind, NetworkMode, Port, PortOwner, PortSpec, PublishBinding};
use weft_net::{
    bridge_link, port_link,
    seen::{
        DropCounter, End, Explanation, Figures, Known, LinkCounters, Question, SeenLink, TraceEvent,
        Transport,
    },
};
use weft_store::Stored;

use crate::{Action, Caller, Cloud, CloudError, NetworkView, Result};

/// A packet as people describe it.
#[derive(Clone, Debug, Default)]
pub struct ExplainDraft {
    /// A container, an address, `host`, `outside`, `outside@INTERFACE` or `outside@ADDRESS`.
    pub from: String,
    /// The same, or a name that `from` could resolve.
    pub to: String,
    /// `tcp`, `udp`, `sctp`, `icmp`; empty for `tcp` with a port and `icmp` without.
    pub protocol: String,
    /// Destination port.
    pub port: Option<u16>,
}

/// A running trace.
#[derive(Debug)]
pub struct Watching(weft_net::Watch);

impl Watching {
    /// The next event; `None` when the trace has ended.
    pub async fn next(&mut self) -> Option<TraceEvent> {
        self.0.next().await
    }
}

/// Counters of one port.
#[derive(Clone, Debug, Serialize)]
pub struct PortStats {
    /// The container's name.
    pub container: String,
    /// The port's id.
    pub port: String,
    /// Its interface in the container.
    pub ifname: String,
    /// The host's end.
    pub link: String,
    /// As the container counts; `None` where the data plane has no such link.
    pub counters: Option<LinkCounters>,
}

/// Counters of one network.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkStats {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its link on the host.
    pub link: String,
    /// As the host counts.
    pub counters: Option<LinkCounters>,
    /// Its ports.
    pub ports: Vec<PortStats>,
    /// What was dropped, by reason, since the rules were last replaced.
    pub drops: Vec<DropCounter>,
}

/// One port in the picture.
#[derive(Clone, Debug, Serialize)]
pub struct GraphPort {
    /// The container's name.
    pub container: String,
    /// Its state: `running`, …
    pub state: String,
    /// The container's id.
    pub id: ContainerId,
    /// Its interface there.
    pub ifname: String,
    /// The host's end.
    pub link: String,
    /// Its addresses, with their prefixes.
    pub addresses: Vec<String>,
    /// It is the container's way out.
    pub default_route: bool,
    /// Published ports.
    pub publish: Vec<PublishBinding>,
}

/// One network in the picture.
#[derive(Clone, Debug, Serialize)]
pub struct GraphNetwork {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: NetworkKind,
    /// Its link on the host; empty for kinds without one.
    pub link: String,
    /// It is there, and up.
    pub up: bool,
    /// No way out and none in.
    pub internal: bool,
    /// What leaves is masqueraded.
    pub masquerade: bool,
    /// Its ports may talk to one another.
    pub inter_container: bool,
    /// Subnets, with the gateway where there is one.
    pub subnets: Vec<(String, Option<IpAddr>)>,
    /// Its ports.
    pub ports: Vec<GraphPort>,
}

/// The picture of all networks of this host.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkGraph {
    /// The host's name.
    pub host: String,
    /// Its own interfaces: neither networks' nor ports'.
    pub links: Vec<(String, SeenLink)>,
    /// Networks.
    pub networks: Vec<GraphNetwork>,
    /// Containers that use the host's own stack.
    pub on_host: Vec<String>,
}

impl Cloud {
    /// What becomes of a packet, and why.
    pub async fn explain(&self, caller: &Caller, draft: &ExplainDraft) -> Result<Explanation> {
        let question = self.question(caller, draft).await?;
        Ok(self.0.parts.net.explain(question).await?)
    }

    /// What is decided about such packets from now on.
    pub async fn explain_watch(&self, caller: &Caller, draft: &ExplainDraft) -> Result<Watching> {
        let question = self.question(caller, draft).await?;
        Ok(Watching(self.0.parts.net.watch(question).await?))
    }

    /// Counters of a network, its ports and what it dropped.
    pub async fn network_stats(&self, caller: &Caller, name: &str) -> Result<NetworkStats> {
        let view = self.network_view(caller, name).await?;
        let figures = self.0.parts.net.figures().await?;
        Ok(stats(&view, &figures))
    }

    /// All networks with who is on them.
    pub async fn network_graph(&self, caller: &Caller) -> Result<NetworkGraph> {
        caller.authorise(Action::Host, caller.project)?;
        let figures = self.0.parts.net.figures().await?;
        let containers = self.0.containers.list_shared().await?;
        let state = |id: ContainerId| {
            let found = containers.iter().find(|c| c.spec.id == id);
            found.map_or("", |c| c.status.state.as_str()).to_owned()
        };
        let mut networks = Vec::new();
        for view in self.network_list(caller).await? {
            networks.push(graph_network(&view, &figures, &state));
        }
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        let own = |name: &str| {
            name != "lo" && !networks.iter().any(|n| n.link == name || n.ports.iter().any(|p| p.link == name))
        };
        let links =
            figures.links.iter().filter(|(name, _)| own(name)).map(|(n, l)| (n.clone(), l.clone())).collect();
        let on_host = containers
            .iter()
            .filter(|c| c.spec.network == NetworkMode::Host && c.status.state.is_alive())
            .map(|c| c.spec.name.to_string())
            .collect();
        Ok(NetworkGraph { host: self.host(caller)?.name.clone(), links, networks, on_host })
    }

    async fn question(&self, caller: &Caller, draft: &ExplainDraft) -> Result<Question> {
        caller.authorise(Action::Host, caller.project)?;
        let transport = match (draft.protocol.as_str(), draft.port) {
            ("tcp", _) | ("", Some(_)) => Transport::Tcp,
            ("udp", _) => Transport::Udp,
            ("sctp", _) => Transport::Sctp,
            ("icmp", None) | ("", None) => Transport::Icmp,
            ("icmp", Some(_)) => return Err(CloudError::Invalid("icmp has no ports".into())),
            (other, _) => return Err(CloudError::Invalid(format!("invalid proto: {other}"))),
        };
        let ports = self.0.ports.list_shared().await?;
        let known = self.known(&ports).await?;
        let mine = |end: &End| match end {
            End::Sandbox { id, .. } => of(&ports, *id).map(|p| p.spec.clone()).collect(),
            _ => Vec::new(),
        };
        let from = self.end(caller, &draft.from, &known, &[], &ports).await?;
        let peer: Vec<PortSpec> = mine(&from);
        let mut to = self.end(caller, &draft.to, &known, &peer, &ports).await?;
        if let End::Sandbox { id, address: address @ None } = &mut to {
            *address = nearest(&mine(&End::Sandbox { id: *id, address: None }), &peer);
        }
        Ok(Question { from, to, transport, port: draft.port, known })
    }

    async fn known(&self, ports: &[Stored<Port>]) -> Result<Known> {
        let mut known = Known::default();
        for network in self.0.networks.list_shared().await?.iter() {
            if network.spec.kind == NetworkKind::Bridge {
                known.networks.insert(bridge_link(&network.spec), network.spec.name.to_string());
            }
        }
        for container in self.0.containers.list_shared().await?.iter() {
            known.sandboxes.insert(container.spec.id, container.spec.name.to_string());
        }
        for port in ports {
            let PortOwner::Container(owner) = port.spec.owner;
            known.addresses.extend(port.spec.addresses.iter().map(|a| (a.ip, owner)));
        }
        Ok(known)
    }

    /// What people mean by a word. `peer`: the ports of who sends, whose names count.
    async fn end(
        &self,
        caller: &Caller,
        text: &str,
        known: &Known,
        peer: &[PortSpec],
        ports: &[Stored<Port>],
    ) -> Result<End> {
        if text == "host" {
            return Ok(End::Host { address: None });
        }
        if let Some(rest) = text.strip_prefix("outside") {
            let at = rest.strip_prefix('@').map(|at| at.parse::<IpAddr>().map_err(|_| at.to_owned()));
            match at {
                None if rest.is_empty() => return Ok(End::Outside { link: None, address: None }),
                Some(Ok(ip)) => return Ok(End::Outside { link: None, address: Some(ip) }),
                Some(Err(link)) if !link.is_empty() => {
                    return Ok(End::Outside { link: Some(link), address: None });
                }
                _ => {}
            }
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return self.end_of(ip, known).await;
        }
        match self.container_find(caller, text).await {
            Ok(found) => Ok(sandbox(found.spec.id, found.spec.network)),
            Err(CloudError::NotFound { .. }) => {
                let shared = |p: &&Stored<Port>| peer.iter().any(|mine| mine.network == p.spec.network);
                let named = ports.iter().filter(shared).find(|p| p.spec.names.iter().any(|n| n == text));
                let PortOwner::Container(owner) = match named {
                    Some(port) => port.spec.owner,
                    None => return Err(CloudError::not_found(crate::Kind::Container, text)),
                };
                Ok(End::Sandbox { id: owner, address: None })
            }
            Err(error) => Err(error),
        }
    }

    async fn end_of(&self, ip: IpAddr, known: &Known) -> Result<End> {
        if let Some(id) = known.addresses.get(&ip) {
            return Ok(End::Sandbox { id: *id, address: Some(ip) });
        }
        let figures = self.0.parts.net.figures().await?;
        let own = figures.links.values().any(|l| l.addresses.iter().any(|net| net.addr() == ip));
        if own || ip.is_loopback() {
            return Ok(End::Host { address: Some(ip) });
        }
        Ok(End::Outside { link: None, address: Some(ip) })
    }
}

fn sandbox(id: ContainerId, mode: NetworkMode) -> End {
    match mode {
        NetworkMode::Host => End::Host { address: None },
        NetworkMode::Container(other) => End::Sandbox { id: other, address: None },
        NetworkMode::Attached | NetworkMode::None => End::Sandbox { id, address: None },
    }
}

fn of(ports: &[Stored<Port>], id: ContainerId) -> impl Iterator<Item = &Stored<Port>> {
    ports.iter().filter(move |p| p.spec.owner == PortOwner::Container(id))
}

/// The address by which one would be reached: on a network that both are on, else where its way out is; IPv4 first.
fn nearest(ports: &[PortSpec], peer: &[PortSpec]) -> Option<IpAddr> {
    let rank = |p: &&PortSpec| {
        (!peer.iter().any(|mine| mine.network == p.network), !p.default_route, p.ifname.clone())
    };
    let port = ports.iter().min_by_key(rank)?;
    port.addresses.iter().map(|a| a.ip).min_by_key(IpAddr::is_ipv6)
}

fn link_of(network: &Network) -> String {
    if network.spec.kind == NetworkKind::Bridge { bridge_link(&network.spec) } else { String::new() }
}

fn stats(view: &NetworkView, figures: &Figures) -> NetworkStats {
    let link = link_of(&view.network);
    let port = |(port, container): &(std::sync::Arc<Port>, String)| {
        let link = port_link(port.spec.id);
        PortStats {
            container: container.clone(),
            port: port.spec.id.to_string(),
            ifname: port.spec.ifname.clone(),
            // What the host receives the container has sent.
            counters: figures.links.get(&link).map(|l| l.counters.swapped()),
            link,
        }
    };
    NetworkStats {
        name: view.network.spec.name.to_string(),
        id: view.network.spec.id.to_string(),
        counters: figures.links.get(&link).map(|l| l.counters),
        ports: view.ports.iter().map(port).collect(),
        drops: figures.drops.iter().filter(|d| d.link.as_deref() == Some(link.as_str())).cloned().collect(),
        link,
    }
}

fn graph_network(
    view: &NetworkView,
    figures: &Figures,
    state: &impl Fn(ContainerId) -> String,
) -> GraphNetwork {
    let spec = &view.network.spec;
    let link = link_of(&view.network);
    let port = |(port, container): &(std::sync::Arc<Port>, String)| {
        let PortOwner::Container(id) = port.spec.owner;
        GraphPort {
            container: container.clone(),
            state: state(id),
            id,
            ifname: port.spec.ifname.clone(),
            link: port_link(port.spec.id),
            addresses: port.spec.addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix)).collect(),
            default_route: port.spec.default_route,
            publish: port.spec.publish.clone(),
        }
    };
    let mut ports: Vec<GraphPort> = view.ports.iter().map(port).collect();
    ports.sort_by(|a, b| (&a.container, &a.ifname).cmp(&(&b.container, &b.ifname)));
    GraphNetwork {
        name: spec.name.to_string(),
        kind: spec.kind,
        up: figures.links.get(&link).is_some_and(|l| l.up || ports.is_empty()),
        link,
        internal: spec.isolation.internal,
        masquerade: spec.isolation.masquerade,
        inter_container: spec.isolation.inter_container,
        subnets: spec.subnets.iter().map(|s| (s.cidr.to_string(), s.gateway)).collect(),
        ports,
    }
}
