//! Use cases of looking: what becomes of a packet, live traces, counters, the picture of all networks. What the data plane
//! knows by links and ids is told by the names that people gave.

mod question;

use std::{net::IpAddr, time::Duration};

use serde::Serialize;
use tokio::time::MissedTickBehavior;
use weft_model::{
    ContainerId, Network, NetworkKind, NetworkMode, PolicyAction, Port, PortOwner, PublishBinding,
};
use weft_net::{
    Watch, bridge_link, port_link,
    seen::{DropCounter, Explanation, Figures, LinkCounters, Question, SeenLink, TraceEvent},
};

use crate::{Action, Caller, Cloud, NetworkView, Result, policies::default_of};

/// A packet as people describe it.
#[derive(Clone, Debug, Default)]
pub struct ExplainDraft {
    /// A container, `CONTAINER.NETWORK`, an address, `host`, `outside`, `outside@INTERFACE`, `outside@ADDRESS` or
    /// `outside@ADDRESS%INTERFACE`.
    pub from: String,
    /// The same, or a name that `from` could resolve.
    pub to: String,
    /// `tcp`, `udp`, `sctp`, `icmp`; empty for `tcp` with a port and `icmp` without.
    pub protocol: String,
    /// Destination port.
    pub port: Option<u16>,
}

/// A running trace. It follows its ends: a container that comes back with another address, and policies that come and go, are
/// seen within [`LOOK`].
pub struct Watching {
    cloud: Cloud,
    caller: Caller,
    draft: ExplainDraft,
    question: Question,
    trace: Watch,
    looks: tokio::time::Interval,
}

/// How often it is looked whether what is asked means something else by now.
const LOOK: Duration = Duration::from_secs(1);

impl Watching {
    /// The next event; `None` when the trace has ended.
    pub async fn next(&mut self) -> Option<TraceEvent> {
        loop {
            tokio::select! {
                biased;
                event = self.trace.next() => return event,
                _ = self.looks.tick() => self.look().await,
            }
        }
    }

    /// What cannot be asked any more (the container is gone) goes on being watched as it was.
    async fn look(&mut self) {
        let net = &self.cloud.0.parts.net;
        let Ok(asked) = self.cloud.question(&self.caller, &self.draft).await else { return };
        let asked = net.with_deciding(asked);
        if asked != self.question
            && let Ok(trace) = net.watch(asked.clone()).await
        {
            (self.question, self.trace) = (asked, trace);
        }
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
    /// What holds for connections that no policy speaks of; `None` of kinds that have no policy.
    pub policy_default: Option<PolicyAction>,
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
    /// It is the container's way out in IPv4.
    pub default_route: bool,
    /// In IPv6.
    pub default_route_v6: bool,
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
        let net = &self.0.parts.net;
        let question = net.with_deciding(self.question(caller, draft).await?);
        let trace = net.watch(question.clone()).await?;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (cloud, caller, draft) = (self.clone(), caller.clone(), draft.clone());
        Ok(Watching { cloud, caller, draft, question, trace, looks })
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
        policy_default: (view.network.spec.kind == NetworkKind::Bridge).then(|| default_of(&view.network)),
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
            default_route_v6: port.spec.default_route_v6,
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
