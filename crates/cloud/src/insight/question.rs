//! What people mean by a question: words become ends, and what is known of names goes along.

use std::net::IpAddr;

use weft_model::{ContainerId, Link, NetworkKind, NetworkMode, Port, PortOwner, PortSpec, RunState};
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
        let mut from = self.end(caller, &draft.from, &known, None, &ports).await?;
        let peer: Vec<PortSpec> = mine(&from.end);
        let sender = match &from.end {
            End::Sandbox { id, .. } => Some(Sender { id: *id, ports: &peer }),
            _ => None,
        };
        let mut to = self.end(caller, &draft.to, &known, sender, &ports).await?;
        let reachable: Vec<IpAddr> = match &to.end {
            End::Sandbox { address: None, .. } if to.among.is_empty() => nearest(&mine(&to.end), &peer),
            _ => to.among.clone(),
        };
        // Who sends by an address that was not named has a choice among all that it has.
        let senders = match fixed(&from.end) {
            Some(ip) => vec![ip],
            None if !from.among.is_empty() => from.among.clone(),
            None => peer.iter().flat_map(|p| p.addresses.iter().map(|a| a.ip)).collect(),
        };
        let reachable = fixed(&to.end).map_or(reachable, |ip| vec![ip]);
        let v6 = family(&senders, &reachable).ok_or_else(|| {
            CloudError::Invalid(format!("{} and {} have no addresses of one family", draft.from, draft.to))
        })?;
        from.settle(v6, &[]);
        to.settle(v6, &reachable);
        Ok(Question { from: from.end, to: to.end, transport, port: draft.port, known })
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

    /// What people mean by a word. `sender`: who sends, whose names count for whom it sends to.
    async fn end(
        &self,
        caller: &Caller,
        text: &str,
        known: &Known,
        sender: Option<Sender<'_>>,
        ports: &[Stored<Port>],
    ) -> Result<Meant> {
        if text == "host" {
            return Ok(End::Host { address: None }.into());
        }
        if let Some(end) = outside(text) {
            return Ok(end.into());
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return self.end_of(ip, known).await.map(Meant::from);
        }
        if !may_be_name(text) {
            return Err(CloudError::Invalid(format!("invalid end of a packet's way {text:?}: {FORMS}")));
        }
        match self.container_find(caller, text).await {
            Ok(found) => {
                let runs = known.idle.get(&found.spec.id) != Some(&Idle::Stopped);
                return Ok(sandbox(found.spec.id, found.spec.network, runs).into());
            }
            Err(CloudError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        // A resolver takes the final dot for the end of the name.
        let name = text.strip_suffix('.').unwrap_or(text);
        if let Some(sender) = &sender
            && let Some(found) = self.resolved(caller, name, known, sender, ports).await?
        {
            return Ok(found);
        }
        if let Some(found) = self.on_network(caller, name, ports).await? {
            return Ok(found);
        }
        let who = if sender.is_some() { ", and FROM has no such name of this host's" } else { "" };
        Err(CloudError::Missing(format!("No such container: {text}{who} ({FORMS})")))
    }

    /// A name as who sends has it, in the order of its files and its resolver: `--add-host`, links, names on its networks.
    async fn resolved(
        &self,
        caller: &Caller,
        name: &str,
        known: &Known,
        sender: &Sender<'_>,
        ports: &[Stored<Port>],
    ) -> Result<Option<Meant>> {
        if let Some(own) = self.0.containers.get(&sender.id).await? {
            let of = |line: &String| {
                let (host, ip) = line.split_once([':', '='])?;
                host.eq_ignore_ascii_case(name).then(|| ip.trim_matches(['[', ']']).parse().ok())?
            };
            if let Some(ip) = own.spec.extra_hosts.iter().find_map(of) {
                return self.end_of(ip, known).await.map(|end| Some(end.into()));
            }
            let link = |written| (Link::parse(written).target, Link::parse(written).alias);
            let linked = own.spec.links.iter().map(|written| link(written));
            let of_ports =
                sender.ports.iter().flat_map(|p| p.links.iter().map(|(a, t)| (t.as_str(), a.as_str())));
            let target =
                linked.chain(of_ports).find(|(_, alias)| alias.eq_ignore_ascii_case(name)).map(|(t, _)| t);
            if let Some(target) = target
                && let Ok(found) = self.container_find(caller, target).await
            {
                return Ok(Some(End::Sandbox { id: found.spec.id, address: None }.into()));
            }
        }
        let shared = |p: &&Stored<Port>| sender.ports.iter().any(|mine| mine.network == p.spec.network);
        let named = ports.iter().filter(shared).find(|p| has_name(p, name));
        Ok(named.map(|port| End::Sandbox { id: owner(port), address: None }.into()))
    }

    /// `NAME.NETWORK`, as the resolver takes it: a container by its address there. Both may have dots in them.
    async fn on_network(&self, caller: &Caller, text: &str, ports: &[Stored<Port>]) -> Result<Option<Meant>> {
        for (at, _) in text.match_indices('.') {
            let (name, network) = (&text[..at], &text[at + 1..]);
            let Ok(network) = self.network_find(caller, network).await else { continue };
            let there = ports.iter().filter(|p| p.spec.network == network.spec.id);
            let container = self.container_find(caller, name).await.ok().map(|c| c.spec.id);
            let mut fitting = there.filter(|p| Some(owner(p)) == container || has_name(p, name));
            if let Some(port) = fitting.next() {
                let end = End::Sandbox { id: owner(port), address: None };
                let among = port.spec.addresses.iter().map(|a| a.ip).collect();
                return Ok(Some(Meant { end, among }));
            }
        }
        Ok(None)
    }

    async fn end_of(&self, ip: IpAddr, known: &Known) -> Result<End> {
        let ip = ip.to_canonical();
        if ip.is_unspecified() {
            return Err(CloudError::Invalid(format!("{ip} is nobody's address ({FORMS})")));
        }
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

/// Whom a question can be about.
const FORMS: &str = "a container, CONTAINER.NETWORK, an address, host, outside, outside@INTERFACE, outside@ADDRESS or \
                     outside@ADDRESS%INTERFACE is expected";

/// Who sends, if it is a container.
struct Sender<'a> {
    id: ContainerId,
    ports: &'a [PortSpec],
}

/// An end, and the addresses it may be asked by where a choice is left; none: the driver's choice.
struct Meant {
    end: End,
    among: Vec<IpAddr>,
}

impl From<End> for Meant {
    fn from(end: End) -> Self {
        Self { end, among: Vec::new() }
    }
}

impl Meant {
    /// Decides by which address.
    fn settle(&mut self, v6: bool, reachable: &[IpAddr]) {
        if let End::Sandbox { address: address @ None, .. } = &mut self.end {
            let all = if self.among.is_empty() { reachable } else { &self.among };
            *address = all.iter().find(|ip| ip.is_ipv6() == v6).copied();
        }
    }
}

fn fixed(end: &End) -> Option<IpAddr> {
    match end {
        End::Sandbox { address, .. } | End::Host { address } | End::Outside { address, .. } => *address,
    }
}

/// The family in which both can speak, IPv4 first; an end without known addresses speaks any. `None`: there is none.
fn family(from: &[IpAddr], to: &[IpAddr]) -> Option<bool> {
    let has = |all: &[IpAddr], v6| all.is_empty() || all.iter().any(|ip| ip.is_ipv6() == v6);
    [false, true].into_iter().find(|v6| has(from, *v6) && has(to, *v6))
}

/// Whether containers and hosts can be called so: what has other characters is a slip of the pen.
fn may_be_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b) || b >= 0x80;
    !text.is_empty() && text.bytes().all(fits)
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

/// The addresses by which one would be reached, the likeliest first: on a network that both are on, else where its way out is;
/// of one network IPv4 first.
fn nearest(ports: &[PortSpec], peer: &[PortSpec]) -> Vec<IpAddr> {
    let rank = |p: &&PortSpec| {
        let shared = peer.iter().any(|mine| mine.network == p.network);
        (!shared, !p.default_route, !p.default_route_v6, p.ifname.clone())
    };
    let mut ports: Vec<&PortSpec> = ports.iter().collect();
    ports.sort_by_key(rank);
    let of = |p: &&PortSpec| {
        let mut all: Vec<IpAddr> = p.addresses.iter().map(|a| a.ip).collect();
        all.sort_by_key(IpAddr::is_ipv6);
        all
    };
    // Where both are on one network, its families are what counts.
    let both = ports.first().is_some_and(|p| peer.iter().any(|mine| mine.network == p.network));
    let shared = ports.iter().take(if both { 1 } else { ports.len() });
    shared.flat_map(of).collect()
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

    #[test]
    fn both_ends_speak_one_family() {
        let ips =
            |text: &str| -> Vec<IpAddr> { text.split_whitespace().map(|ip| ip.parse().unwrap()).collect() };
        let check = |from: &str, to: &str, v6: Option<bool>| {
            assert_eq!(family(&ips(from), &ips(to)), v6, "{from} {to}")
        };
        check("10.0.0.2 fd00::2", "10.0.0.3 fd00::3", Some(false));
        check("fd00::2", "10.0.0.3 fd00::3", Some(true));
        check("10.0.0.2 fd00::2", "fd00::3", Some(true));
        check("", "fd00::3", Some(true));
        check("10.0.0.2", "", Some(false));
        check("10.0.0.2", "fd00::3", None);
        let mut to = Meant {
            end: End::Sandbox { id: ContainerId::from_bytes([1; 32]), address: None },
            among: ips("10.0.0.3 fd00::3"),
        };
        to.settle(true, &[]);
        assert_eq!(fixed(&to.end), Some("fd00::3".parse().unwrap()));
    }

    #[test]
    fn slips_of_the_pen_are_no_names() {
        for good in ["web", "web.front", "/web", "a_b-c.d", "0123", "web."] {
            assert!(may_be_name(good), "{good}");
        }
        for bad in ["", "web:80", "outside@", "http://web", "a b", "fd88::99999", "a\tb"] {
            assert!(!may_be_name(bad), "{bad:?}");
        }
    }
}
