//! From the model (networks, ports, containers) to the one value that a driver makes real. Pure.
//!
//! One bad record must not stop a host: what contradicts something else (two ports with one listening
//! address, a port without its network) is left out and named in [`Compiled::faults`]; the rest stands.
//!
//! A container has a sandbox from the moment it is about to run until its ports are gone and it is not alive any more. Each
//! run has one of its own: once an end is written down, the one that was is made anew for what comes, with the same ports,
//! so that nothing stays of what was changed inside (libnetwork does so at every start). Who rests keeps what there is
//! until its ports go.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use weft_dataplane::{
    Desired, Gateway, IdMaps, Listeners, Open, Port as Plug, Publish, Sandbox, SandboxId, Segment, Users,
    link_name,
};
use weft_model::{
    Container, ContainerId, GatewayMode, MacAddr, Network, NetworkId, NetworkKind, NetworkMode, NetworkSpec,
    Port, PortId, PortOwner, PublishPolicy, RunState, Want,
};

use crate::grow::prefix_of;

/// A compiled host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// What must be. Its generation is left 0 for the caller.
    pub desired: Desired,
    /// Ports that cannot be, and why.
    pub faults: BTreeMap<PortId, String>,
}

/// MTU of a network that does not say.
pub const DEFAULT_MTU: u32 = 1500;

/// What holds for all of this host where records do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDefaults {
    /// Ids of containers' user namespaces; `None` leaves them in the host's.
    pub users: Option<IdMaps>,
    /// Who from outside reaches published ports.
    pub publish_policy: PublishPolicy,
}

/// Compiles all records of this host.
pub fn compile<'a>(
    networks: impl IntoIterator<Item = &'a Network>,
    ports: impl IntoIterator<Item = &'a Port>,
    containers: impl IntoIterator<Item = &'a Container>,
    host: &HostDefaults,
) -> Compiled {
    let ports: Vec<&Port> = ports.into_iter().filter(|p| p.meta.deleting.is_none()).collect();
    let networks: HashMap<NetworkId, &NetworkSpec> = networks
        .into_iter()
        .filter(|n| {
            n.meta.deleting.is_none() && (n.spec.kind == NetworkKind::Bridge || n.spec.parent.is_some())
        })
        .map(|n| (n.spec.id, &n.spec))
        .collect();
    let mut out = Compiled::default();
    out.desired.publish_policy = host.publish_policy;
    out.desired.segments = networks.values().map(|n| (n.id, segment(n, &ports))).collect();
    let containers: Vec<&Container> = containers.into_iter().collect();
    out.desired.sandboxes = sandboxes(&containers, &ports);
    if let Some(maps) = &host.users {
        give_users(&containers, maps, &mut out.desired.sandboxes);
    }
    let routes = default_routes(&ports);
    let mut taken = Taken::default();
    for port in &ports {
        match plug(port, &networks, &out.desired, &routes) {
            Ok(plug) => admit(port, plug, &mut taken, &mut out, |wanted| {
                let owner = holder(wanted, ports.iter().copied().filter(|p| p.spec.id != port.spec.id))?;
                containers.iter().find(|c| c.spec.id == owner).map(|c| c.spec.name.to_string())
            }),
            Err(why) => {
                out.faults.insert(port.spec.id, why);
            }
        }
    }
    out.desired.limits = crate::limits::compile(&out.desired, &networks, &containers);
    out
}

/// What only one port may have.
#[derive(Default)]
struct Taken {
    links: HashSet<String>,
    inside: HashSet<(SandboxId, String)>,
    listeners: Listeners,
}

/// `named`: what the container is called that has listening ports.
fn admit(
    port: &Port,
    plug: Plug,
    taken: &mut Taken,
    out: &mut Compiled,
    named: impl Fn(&Publish) -> Option<String>,
) {
    let id = port.spec.id;
    if !taken.links.insert(plug.link.clone()) {
        out.faults.insert(id, format!("another port's link is called {}, too", plug.link));
        return;
    }
    if !taken.inside.insert((plug.sandbox, plug.ifname.clone())) {
        out.faults.insert(id, format!("another interface of the container is called {}, too", plug.ifname));
        return;
    }
    // Who hangs on the LAN is reached there.
    for publish in publishes(port).filter(|_| plug.parent.is_none()) {
        if taken.listeners.take(&publish) {
            out.desired.publishes.insert(publish);
        } else {
            let (ip, ports) = (publish.host_ip, publish.host_ports);
            let by = named(&publish).map(|name| format!(" (by container {name})")).unwrap_or_default();
            out.faults.insert(id, format!("Bind for {ip}:{ports} failed: port is already allocated{by}"));
        }
    }
    if let Some(segment) = out.desired.segments.get_mut(&plug.segment) {
        let open: Vec<Open> = opens(port, segment).collect();
        segment.open.extend(open);
    }
    out.desired.ports.insert(id, plug);
}

/// Who listens where another would.
fn holder<'p>(wanted: &Publish, mut ports: impl Iterator<Item = &'p Port>) -> Option<ContainerId> {
    let clashes = |other: Publish| {
        (other.protocol, other.host_ip) == (wanted.protocol, wanted.host_ip)
            && other.host_ports.start <= wanted.host_ports.end
            && wanted.host_ports.start <= other.host_ports.end
    };
    let port = ports.find(|port| publishes(port).any(clashes))?;
    let PortOwner::Container(owner) = port.spec.owner;
    Some(owner)
}

/// The kernel's name of a network's bridge.
#[must_use]
pub fn bridge_link(network: &NetworkSpec) -> String {
    network.bridge.clone().unwrap_or_else(|| link_name('b', &network.id))
}

fn segment(network: &NetworkSpec, ports: &[&Port]) -> Segment {
    if let Some(parent) = &network.parent {
        return crate::parent::segment(network, parent, ports);
    }
    let b = network.id.as_bytes();
    let gateway = |s: &weft_model::SubnetSpec| IpNet::new(s.gateway?, s.cidr.prefix_len()).ok();
    Segment {
        link: bridge_link(network),
        mac: MacAddr([0x02, 0x42, b[0], b[1], b[2], b[3]]),
        addresses: network.subnets.iter().filter(|s| !s.remote_gateway).filter_map(gateway).collect(),
        mtu: network.mtu.unwrap_or(DEFAULT_MTU),
        internal: network.isolation.internal,
        inter_container: network.isolation.inter_container,
        masquerade: network.isolation.masquerade,
        borrowed: network.borrowed,
        further: network
            .subnets
            .iter()
            .filter(|s| s.remote_gateway || s.gateway.is_none())
            .map(|s| s.cidr)
            .collect(),
        gateways: network.gateways,
        trusted: network.trusted.iter().cloned().collect(),
        open: BTreeSet::new(),
        source: network.host_source,
        uplink: None,
    }
}

/// Says whose user namespace each sandbox is in. A container that shares another's namespaces is in that one's user
/// namespace, which lives as long as that one's sandbox: who is about to run needs a sandbox in the present one, who runs
/// already stays in that which it found.
fn give_users(containers: &[&Container], maps: &IdMaps, sandboxes: &mut BTreeMap<SandboxId, Sandbox>) {
    let records: HashMap<_, _> = containers.iter().map(|c| (c.spec.id, *c)).collect();
    let known: BTreeSet<SandboxId> = sandboxes.keys().copied().collect();
    sandboxes.retain(|id, sandbox| {
        let Some(container) = records.get(id).filter(|c| c.spec.remappable()) else { return true };
        let mut root = *container;
        // As many steps as there are containers: records that lead in a circle end, too.
        for _ in 0..records.len() {
            let Some(other) = root.spec.shares_users_of() else { break };
            let Some(other) = records.get(&other) else { return false };
            root = other;
        }
        let of = root.spec.id;
        if of == *id {
            sandbox.users = Some(Users::Own(maps.clone()));
            return true;
        }
        sandbox.users = Some(Users::Of(of));
        let coming = sandbox.run.filter(|_| !container.status.state.is_alive());
        sandbox.run = coming.map(|run| run << 32 | root.status.runs & u64::from(u32::MAX));
        known.contains(&of)
    });
}

fn sandboxes(containers: &[&Container], ports: &[&Port]) -> BTreeMap<SandboxId, Sandbox> {
    let mut plugged: HashMap<ContainerId, bool> = HashMap::new();
    for port in ports {
        let PortOwner::Container(owner) = port.spec.owner;
        *plugged.entry(owner).or_default() |= port.spec.addresses.iter().any(|a| a.ip.is_ipv6());
    }
    let mut sandboxes = BTreeMap::new();
    for container in containers {
        let (id, ports) = (container.spec.id, plugged.get(&container.spec.id));
        let own = matches!(container.spec.network, NetworkMode::Attached | NetworkMode::None);
        let runs = is_coming(container) || container.status.state.is_alive();
        if own && (runs || ports.is_some()) {
            let ipv6 = ports.copied().unwrap_or_default();
            let run = runs.then_some(container.status.runs);
            sandboxes.insert(id, Sandbox { ipv6, run, ..Sandbox::default() });
        }
    }
    sandboxes
}

/// A request to run it is to be answered, or its policy is about to start it again.
fn is_coming(container: &Container) -> bool {
    let (run, status) = (&container.spec.run, &container.status);
    let asked = if run.seq > status.answered {
        run.want == Want::Running
    } else {
        status.state == RunState::Restarting
    };
    asked && container.meta.deleting.is_none()
}

/// Which port gives each family's default route of each container: its uplink in that family where it has a gateway (a
/// lease may have none), else the other's (records of old know one for both), else the first by interface name.
fn default_routes(ports: &[&Port]) -> HashMap<(ContainerId, bool), PortId> {
    let mut best: HashMap<(ContainerId, bool), (u8, &str, PortId)> = HashMap::new();
    for port in ports {
        let PortOwner::Container(owner) = port.spec.owner;
        for v4 in [true, false] {
            if port.addresses().iter().any(|a| a.gateway.is_some_and(|g| g.is_ipv4() == v4)) {
                let (own, other) = (port.spec.default_route, port.spec.default_route_v6);
                let (own, other) = if v4 { (own, other) } else { (other, own) };
                let turn = if own { 0 } else { 2 - u8::from(other) };
                let rank = (turn, port.spec.ifname.as_str(), port.spec.id);
                let slot = best.entry((owner, v4)).or_insert(rank);
                *slot = rank.min(*slot);
            }
        }
    }
    best.into_iter().map(|(key, (_, _, id))| (key, id)).collect()
}

fn plug(
    port: &Port,
    networks: &HashMap<NetworkId, &NetworkSpec>,
    desired: &Desired,
    routes: &HashMap<(ContainerId, bool), PortId>,
) -> Result<Plug, String> {
    let spec = &port.spec;
    let network = networks.get(&spec.network).ok_or_else(|| format!("network {} not found", spec.network))?;
    let PortOwner::Container(sandbox) = spec.owner;
    if !desired.sandboxes.contains_key(&sandbox) {
        return Err(format!("container {sandbox} has no network sandbox of its own"));
    }
    let mut addresses = BTreeSet::new();
    let mine = port.addresses();
    for address in &mine {
        // A subnet that grew while this port was being written has another prefix by now.
        let net = IpNet::new(address.ip, prefix_of(network, address.ip).unwrap_or(address.prefix));
        addresses.insert(net.map_err(|_| format!("{}/{} is no address", address.ip, address.prefix))?);
    }
    let route = |via: &IpAddr| routes.get(&(sandbox, via.is_ipv4())) == Some(&spec.id);
    let way_out = |a: &weft_model::PortAddress| a.gateway.filter(|_| !network.isolation.internal);
    let gateways = mine.iter().filter_map(way_out).filter(route);
    Ok(Plug {
        link: link_name('p', &spec.id),
        segment: spec.network,
        sandbox,
        ifname: spec.ifname.clone(),
        mac: spec.mac,
        addresses,
        // Of a bridge of somebody else's, and of a parent, it is whatever that one has.
        mtu: network.mtu.unwrap_or(if network.parent.is_some() || network.borrowed {
            0
        } else {
            DEFAULT_MTU
        }),
        gateways: gateways.map(|via| Gateway { via, metric: 0 }).collect(),
        sysctls: spec.sysctls.clone(),
        isolated: !network.isolation.inter_container,
        parent: desired.segments.get(&network.id).and_then(|s| Some(s.uplink.as_ref()?.parent.clone())),
    })
}

/// What of a port is reached at its own addresses.
fn opens<'a>(port: &'a Port, segment: &'a Segment) -> impl Iterator<Item = Open> + 'a {
    let own = |v4: bool| {
        let found = port.spec.addresses.iter().find(|a| a.ip.is_ipv4() == v4 && a.gateway.is_some());
        found.map(|a| a.ip)
    };
    port.spec.publish.iter().flat_map(|b| b.each()).filter_map(move |binding| {
        let ip = own(binding.host_ip.is_ipv4())?;
        let reached = segment.gateways.of(ip) == GatewayMode::Routed || !segment.trusted.is_empty();
        reached.then_some(Open { protocol: binding.protocol, ip, port: binding.container_port })
    })
}

/// Bindings with the port's address of their family; a family it does not have is not served.
fn publishes(port: &Port) -> impl Iterator<Item = Publish> + '_ {
    // Without a host port it is reached at the container's own address only.
    port.spec.publish.iter().filter(|b| b.host_port > 0).filter_map(|binding| {
        let own =
            |a: &&weft_model::PortAddress| a.ip.is_ipv4() == binding.host_ip.is_ipv4() && a.gateway.is_some();
        let target_ip = port.spec.addresses.iter().find(own)?.ip;
        Some(Publish {
            protocol: binding.protocol,
            host_ip: binding.host_ip,
            host_ports: binding.host_ports(),
            target_ip,
            target_port: binding.container_port,
        })
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
