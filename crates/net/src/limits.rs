//! Bandwidth limits of networks and containers, as queues and ports of the data plane. Pure.
//!
//! A network's limit is for all its ports together: each direction has one queue that they pass. A container's limit is for each
//! of its ports: ingress on the port itself, egress as a member of its network's queue, which is there for that alone when
//! the network has no limit.

use std::collections::HashMap;

use weft_dataplane::{Desired, Limits, PortLimit, link_name};
use weft_model::{Container, ContainerId, NetworkId, NetworkSpec, Rate, RateLimit};

/// The links of a network's queues: of what its containers receive, and of what they send.
pub(crate) fn queue_links(network: &NetworkId) -> [String; 2] {
    [link_name('i', network), link_name('e', network)]
}

/// The limits of what `desired` has already.
pub(crate) fn compile(
    desired: &Desired,
    networks: &HashMap<NetworkId, &NetworkSpec>,
    containers: &[&Container],
) -> Limits {
    let mut limits = Limits::default();
    let own: HashMap<ContainerId, RateLimit> =
        containers.iter().filter(|c| !c.spec.limit.is_empty()).map(|c| (c.spec.id, c.spec.limit)).collect();
    for port in desired.ports.values() {
        let shared = networks.get(&port.segment).map(|n| n.limit).unwrap_or_default();
        let own = own.get(&port.sandbox).copied().unwrap_or_default();
        let [into, out] = queue_links(&port.segment);
        let mut limit = PortLimit { ingress: own.ingress.map(Rate::bytes), ..PortLimit::default() };
        if let Some(total) = shared.ingress {
            limits.queues.entry(into.clone()).or_default().total = Some(total.bytes());
            limit.into = Some(into);
        }
        if shared.egress.is_some() || own.egress.is_some() {
            let queue = limits.queues.entry(out.clone()).or_default();
            queue.total = shared.egress.map(Rate::bytes);
            queue.members.extend(own.egress.map(|rate| (port.mac, rate.bytes())));
            limit.out = Some(out);
        }
        if limit != PortLimit::default() {
            limits.ports.insert(port.link.clone(), limit);
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use weft_dataplane::Queue;
    use weft_model::{MacAddr, Network, Port, PortOwner};

    use super::*;
    use crate::{
        HostDefaults,
        fixtures::{container, network, object, port, subnet},
    };

    fn limit(ingress: &str, egress: &str) -> RateLimit {
        RateLimit { ingress: ingress.parse().ok(), egress: egress.parse().ok() }
    }

    /// Two containers on one network, the first with its own limit.
    fn compiled(of_network: RateLimit, of_container: RateLimit) -> (Limits, [String; 2]) {
        let mut net = network("web", vec![subnet("10.1.0.0/24")]);
        net.limit = of_network;
        let mut c = [container("a", &[&net]), container("b", &[&net])];
        c[0].limit = of_container;
        let mut p = [port(&net, &["10.1.0.2"]), port(&net, &["10.1.0.3"])];
        for n in 0..2 {
            p[n].owner = PortOwner::Container(c[n].id);
            p[n].mac = MacAddr([2, 0, 0, 0, 0, u8::try_from(n).unwrap()]);
        }
        let names = [link_name('p', &p[0].id), link_name('p', &p[1].id)];
        let net: Network = object(net);
        let (c, p): (Vec<Container>, Vec<Port>) = (c.map(object).into(), p.map(object).into());
        (crate::compile([&net], &p, &c, &HostDefaults::default()).desired.limits, names)
    }

    #[test]
    fn nothing_is_made_for_nothing() {
        assert_eq!(compiled(RateLimit::default(), RateLimit::default()).0, Limits::default());
    }

    #[test]
    fn a_networks_limit_is_one_queue_for_all() {
        let (limits, names) = compiled(limit("8mbit", "16mbit"), RateLimit::default());
        let totals: Vec<_> = limits.queues.values().map(|q| (q.total, q.members.len())).collect();
        assert_eq!(totals, [(Some(2_000_000), 0), (Some(1_000_000), 0)], "wfe, wfi");
        for name in names {
            let port = &limits.ports[&name];
            assert!(port.ingress.is_none() && port.into.is_some() && port.out.is_some());
        }
    }

    #[test]
    fn a_containers_limit_is_its_own() {
        let (limits, names) = compiled(RateLimit::default(), limit("8mbit", "16mbit"));
        let members = [(MacAddr([2, 0, 0, 0, 0, 0]), 2_000_000)].into();
        assert_eq!(limits.queues.values().collect::<Vec<_>>(), [&Queue { total: None, members }]);
        let port = &limits.ports[&names[0]];
        assert_eq!((port.ingress, port.into.as_ref(), port.out.is_some()), (Some(1_000_000), None, true));
        assert!(!limits.ports.contains_key(&names[1]), "its neighbour is not slowed down");
        let (limits, names) = compiled(limit("", "32mbit"), limit("", "16mbit"));
        let queue = limits.queues.values().next().unwrap();
        assert_eq!((queue.total, queue.members.len()), (Some(4_000_000), 1));
        assert_eq!(limits.ports[&names[1]].out, limits.ports[&names[0]].out, "both share");
    }
}
