//! What people mean by a question: words become ends, and what is known of names goes along.

use std::net::IpAddr;

use weft_model::{ContainerId, NetworkKind, NetworkMode, Port, PortOwner, PortSpec, RunState};
use weft_net::{
    bridge_link,
    seen::{End, Idle, Known, Question, Transport},
};
use weft_store::Stored;

use super::ExplainDraft;
use crate::{Action, Caller, Cloud, CloudError, Result};

impl Cloud {
    pub(super) async fn question(&self, caller: &Caller, draft: &ExplainDraft) -> Result<Question> {
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
        let mut known = Known { policies: self.policy_words().await?, ..Known::default() };
        let networks = self.0.networks.list_shared().await?;
        for network in networks.iter().filter(|n| n.spec.kind == NetworkKind::Bridge) {
            known.networks.insert(bridge_link(&network.spec), network.spec.name.to_string());
        }
        for container in self.0.containers.list_shared().await?.iter() {
            let id = container.spec.id;
            known.sandboxes.insert(id, container.spec.name.to_string());
            let idle = match container.status.state {
                RunState::Running => None,
                RunState::Paused => Some(Idle::Paused),
                _ => Some(Idle::Stopped),
            };
            known.idle.extend(idle.map(|idle| (id, idle)));
        }
        for port in ports {
            let PortOwner::Container(owner) = port.spec.owner;
            known.addresses.extend(port.spec.addresses.iter().map(|a| (a.ip, owner)));
            if let Some(network) = networks.iter().find(|n| n.spec.id == port.spec.network) {
                let name = || network.spec.name.to_string();
                known.homes.extend(port.spec.addresses.iter().map(|a| (a.ip, name())));
            }
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
        if let Some(end) = outside(text) {
            return Ok(end);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return self.end_of(ip, known).await;
        }
        match self.container_find(caller, text).await {
            Ok(found) => {
                let runs = known.idle.get(&found.spec.id) != Some(&Idle::Stopped);
                Ok(sandbox(found.spec.id, found.spec.network, runs))
            }
            Err(CloudError::NotFound { .. }) => {
                let shared = |p: &&Stored<Port>| peer.iter().any(|mine| mine.network == p.spec.network);
                if let Some(named) = ports.iter().filter(shared).find(|p| has_name(p, text)) {
                    return Ok(End::Sandbox { id: owner(named), address: None });
                }
                let found = self.on_network(caller, text, ports).await?;
                found.ok_or_else(|| CloudError::not_found(crate::Kind::Container, text))
            }
            Err(error) => Err(error),
        }
    }

    /// `NAME.NETWORK`, as the resolver takes it: a container by its address there. Both may have dots in them.
    async fn on_network(&self, caller: &Caller, text: &str, ports: &[Stored<Port>]) -> Result<Option<End>> {
        for (at, _) in text.match_indices('.') {
            let (name, network) = (&text[..at], &text[at + 1..]);
            let Ok(network) = self.network_find(caller, network).await else { continue };
            let there = ports.iter().filter(|p| p.spec.network == network.spec.id);
            let container = self.container_find(caller, name).await.ok().map(|c| c.spec.id);
            let mut fitting = there.filter(|p| Some(owner(p)) == container || has_name(p, name));
            if let Some(port) = fitting.next() {
                let address = port.spec.addresses.iter().map(|a| a.ip).min_by_key(IpAddr::is_ipv6);
                return Ok(Some(End::Sandbox { id: owner(port), address }));
            }
        }
        Ok(None)
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

/// `outside`, `outside@INTERFACE`, `outside@ADDRESS`, `outside@ADDRESS%INTERFACE` (as addresses with a zone are written, RFC 4007,
/// 11) or `outside@ADDRESS@INTERFACE`: who is meant, and by which interface of this host its packets come.
fn outside(text: &str) -> Option<End> {
    let rest = text.strip_prefix("outside")?;
    let (mut link, mut address) = (None, None);
    if !rest.is_empty() {
        let at = rest.strip_prefix('@')?;
        let (first, second) = match at.split_once(['%', '@']) {
            Some((ip, link)) if !link.is_empty() => (ip, Some(link)),
            Some(_) => return None,
            None => (at, None),
        };
        match (first.parse(), second) {
            (Ok(ip), second) => (address, link) = (Some(ip), second.map(str::to_owned)),
            (Err(_), None) if !first.is_empty() => link = Some(first.to_owned()),
            (Err(_), _) => return None,
        }
    }
    Some(End::Outside { link, address })
}

/// Names are as the resolver has them: in any case.
fn has_name(port: &Port, name: &str) -> bool {
    port.spec.names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn owner(port: &Port) -> ContainerId {
    let PortOwner::Container(owner) = port.spec.owner;
    owner
}

/// Whose stack a container has: its own when it does not run, which is what is told then.
fn sandbox(id: ContainerId, mode: NetworkMode, runs: bool) -> End {
    match mode {
        _ if !runs => End::Sandbox { id, address: None },
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
        let shared = peer.iter().any(|mine| mine.network == p.network);
        (!shared, !p.default_route, !p.default_route_v6, p.ifname.clone())
    };
    let port = ports.iter().min_by_key(rank)?;
    port.addresses.iter().map(|a| a.ip).min_by_key(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_is_an_address_an_interface_or_both() {
        let check = |text: &str, expected: Option<(Option<&str>, Option<&str>)>| {
            let link = |link: Option<&str>| link.map(str::to_owned);
            let end = expected
                .map(|(by, ip)| End::Outside { link: link(by), address: ip.map(|ip| ip.parse().unwrap()) });
            assert_eq!(outside(text), end, "{text}");
        };
        check("outside", Some((None, None)));
        check("outside@eth0", Some((Some("eth0"), None)));
        check("outside@10.0.0.9", Some((None, Some("10.0.0.9"))));
        check("outside@fe80::1", Some((None, Some("fe80::1"))));
        check("outside@10.0.0.9%eth1", Some((Some("eth1"), Some("10.0.0.9"))));
        check("outside@10.0.0.9@eth1", Some((Some("eth1"), Some("10.0.0.9"))));
        check("outside@fe80::1%eth0", Some((Some("eth0"), Some("fe80::1"))));
        for other in ["outside@", "outside@10.0.0.9%", "outside@eth0%eth1", "outsider", "web"] {
            check(other, None);
        }
    }
}
