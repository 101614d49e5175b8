//! Where a packet starts and what its addresses are: what the question left open is chosen from what is there.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_dataplane::insight::{End, Idle, Question, Transport};
use weft_sys::netlink::{
    detail::Detail,
    lookup::{Lookup, Way},
};

use super::{
    facts::{Ask, Facts, Place, Space},
    packet::Packet,
    walk::Stop,
    why,
};

/// Addresses that stand for "somewhere": nobody has them (RFC 5737, RFC 3849).
const SOMEWHERE4: [u8; 4] = [198, 51, 100, 1];
const SOMEWHERE6: [u16; 8] = [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1];

/// A packet about to be sent, or about to come in by `link`.
pub(crate) struct Start {
    pub(crate) place: Place,
    pub(crate) link: Option<u32>,
    pub(crate) packet: Packet,
    /// Its source was asked for.
    pub(crate) fixed: bool,
}

/// The question in words, where no packet came of it.
pub(crate) fn shown(question: &Question) -> String {
    let port = question.port.map(|p| format!(" {p}")).unwrap_or_default();
    format!("{}{port}", question.transport.as_str())
}

type Chosen<T> = Result<Result<T, Stop>, Ask>;

/// Chooses.
pub(crate) fn start(question: &Question, facts: &Facts) -> Chosen<Start> {
    let Some(host) = facts.space(Place::Host)? else {
        return Ok(Err(Stop::Unclear("the host cannot be read".into())));
    };
    let to = match destination(question, facts, host)? {
        Ok(to) => to,
        Err(stop) => return Ok(Err(stop)),
    };
    if let Some(from) = fixed(&question.from).filter(|from| from.is_ipv6() != to.is_ipv6()) {
        return Ok(Err(Stop::Unclear(format!(
            "{from} and {to} are of two families: nothing passes between them"
        ))));
    }
    let packet = |from: IpAddr| Packet::new(question.transport, from, to, port(question));
    let unset = if to.is_ipv6() { IpAddr::from([0u16; 8]) } else { IpAddr::from([0u8; 4]) };
    let local = |place, address: Option<IpAddr>| Start {
        place,
        link: None,
        packet: packet(address.unwrap_or(unset)),
        fixed: address.is_some(),
    };
    Ok(match &question.from {
        End::Sandbox { id, address } => Ok(local(Place::Sandbox(*id), *address)),
        End::Host { address } => Ok(local(Place::Host, *address)),
        End::Outside { link, address } => {
            let Some(link) = outside(facts, host, link.as_deref(), *address, to.is_ipv6())? else {
                let name = link.as_deref().unwrap_or("to the outside");
                return Ok(Err(Stop::Unclear(format!("this host has no usable interface {name}"))));
            };
            let Some(from) = address.or_else(|| neighbour(host, link.index, to.is_ipv6())) else {
                let reason =
                    format!("{} has no address of that family: name the sender's address", link.name);
                return Ok(Err(Stop::Unclear(reason)));
            };
            Ok(Start { place: Place::Host, link: Some(link.index), packet: packet(from), fixed: true })
        }
    })
}

fn port(question: &Question) -> Option<u16> {
    question.port.filter(|_| question.transport != Transport::Icmp)
}

/// The address that an end was asked by.
fn fixed(end: &End) -> Option<IpAddr> {
    match end {
        End::Sandbox { address, .. } | End::Host { address } | End::Outside { address, .. } => *address,
    }
}

/// The family that who sends leaves: of the address that was asked for, else IPv4 where there is such an address.
fn family(from: &End, facts: &Facts) -> Result<Family, Ask> {
    if let Some(from) = fixed(from) {
        return Ok(if from.is_ipv6() { Family::V6 } else { Family::V4 });
    }
    let End::Sandbox { id, .. } = from else { return Ok(Family::Any) };
    let Some(space) = facts.space(Place::Sandbox(*id))? else { return Ok(Family::Any) };
    Ok(match own(space, Family::Any) {
        Some(ip) if ip.is_ipv6() => Family::V6,
        _ => Family::Any,
    })
}

/// Which addresses will do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    /// IPv4 first.
    Any,
}

impl Family {
    fn has(self, ip: &IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::Any => true,
        }
    }
}

fn destination(question: &Question, facts: &Facts, host: &Space) -> Chosen<IpAddr> {
    let family = family(&question.from, facts)?;
    Ok(match &question.to {
        End::Sandbox { address: Some(address), .. }
        | End::Host { address: Some(address) }
        | End::Outside { address: Some(address), .. } => Ok(*address),
        End::Sandbox { id, .. } => {
            let place = Place::Sandbox(*id);
            let Some(space) = facts.space(place)? else {
                let (reason, remedy) = why::idle(&question.known, *id, Idle::Stopped);
                return Ok(Err(Stop::Dropped(reason, remedy)));
            };
            own(space, family).ok_or_else(|| {
                let name = question.known.sandboxes.get(id).cloned().unwrap_or_else(|| id.short());
                if own(space, Family::Any).is_some() {
                    let reason = format!("container {name} has no address of the family that is asked by");
                    return Stop::Dropped(reason, "ask by an address of the other family".into());
                }
                Stop::Dropped(
                    format!("container {name} is not connected to a network"),
                    format!("docker network connect NETWORK {name}"),
                )
            })
        }
        End::Host { .. } => Ok(host_address(question, facts, host, family)?),
        End::Outside { link, .. } => {
            let named = link.as_ref().and_then(|name| host.named(name));
            match (link, named) {
                (Some(name), None) => Err(Stop::Unclear(format!("this host has no interface {name}"))),
                (_, Some(link)) => [false, true]
                    .into_iter()
                    .filter_map(|v6| neighbour(host, link.index, v6))
                    .find(|ip| family.has(ip))
                    .ok_or_else(|| {
                        Stop::Unclear(format!("{} has no address: name the destination's", link.name))
                    }),
                (None, None) if family == Family::V6 => Ok(SOMEWHERE6.into()),
                (None, None) => Ok(SOMEWHERE4.into()),
            }
        }
    })
}

/// An address of a sandbox: of IPv4, if it has one that will do.
fn own(space: &Space, family: Family) -> Option<IpAddr> {
    let all = space.addresses.iter().map(|(_, net)| net.addr());
    let mut all: Vec<IpAddr> = all.filter(|ip| usable(ip) && family.has(ip)).collect();
    all.sort_by_key(IpAddr::is_ipv6);
    all.first().copied()
}

fn usable(ip: &IpAddr) -> bool {
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
    !ip.is_loopback() && !link_local
}

/// The host's address that is nearest to who sends.
fn host_address(question: &Question, facts: &Facts, host: &Space, family: Family) -> Result<IpAddr, Ask> {
    let loopback = match family {
        Family::V6 => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        _ => IpAddr::from([127, 0, 0, 1]),
    };
    let first = || own(host, family).unwrap_or(loopback);
    Ok(match &question.from {
        End::Host { .. } => loopback,
        End::Sandbox { id, address } => {
            let Some(space) = facts.space(Place::Sandbox(*id))? else { return Ok(first()) };
            let mine = |net: &IpNet| match address {
                Some(address) => net.contains(address),
                None => space.addresses.iter().any(|(_, a)| usable(&a.addr()) && net.contains(&a.addr())),
            };
            let mut shared: Vec<IpAddr> = host
                .addresses
                .iter()
                .filter(|(_, net)| usable(&net.addr()) && family.has(&net.addr()) && mine(net))
                .map(|(_, n)| n.addr())
                .collect();
            shared.sort_by_key(IpAddr::is_ipv6);
            shared.first().copied().unwrap_or_else(first)
        }
        End::Outside { link, address } => {
            let v6 = address.is_some_and(|a| a.is_ipv6());
            let link = outside(facts, host, link.as_deref(), *address, v6)?;
            link.and_then(|l| host.on(l.index, v6).next()).map_or_else(first, |net| net.addr())
        }
    })
}

/// The interface behind which the outside is: as it is named, on whose subnet the address is (whatever other routes say: that is
/// where it comes from), as the routes say, or the first that is no network's.
fn outside<'a>(
    facts: &Facts,
    host: &'a Space,
    link: Option<&str>,
    address: Option<IpAddr>,
    v6: bool,
) -> Result<Option<&'a Detail>, Ask> {
    if let Some(name) = link {
        return Ok(host.named(name));
    }
    let near =
        |net: &&(u32, IpNet)| !net.1.addr().is_loopback() && address.is_some_and(|ip| net.1.contains(&ip));
    if let Some((index, _)) = host.addresses.iter().filter(near).max_by_key(|(_, net)| net.prefix_len()) {
        return Ok(host.link(*index));
    }
    let somewhere = if v6 { IpAddr::from(SOMEWHERE6) } else { IpAddr::from(SOMEWHERE4) };
    let to = address.unwrap_or(somewhere);
    let lookup = Lookup { to, from: None, input: None, output: None, mark: 0, service: None };
    if let Way::Out { link, .. } = facts.way(Place::Host, lookup)? {
        return Ok(host.link(link));
    }
    let fits = |l: &&Detail| {
        l.up && l.name != "lo"
            && l.kind != "bridge"
            && l.master.is_none()
            && host.on(l.index, v6).next().is_some()
    };
    Ok(host.links.iter().find(fits))
}

/// Some address beside the host's own on an interface.
fn neighbour(host: &Space, link: u32, v6: bool) -> Option<IpAddr> {
    host.on(link, v6)
        .filter(|net| usable(&net.addr()))
        .find_map(|net| net.hosts().take(8).find(|ip| !host.owns(*ip)))
}
