//! Routes (`RTM_*ROUTE`): the default routes of a sandbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::{Channel, Message, NetlinkError, decode_route};

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Default {
    /// Next hop; unspecified for none: all of that family is on the link.
    pub via: IpAddr,
    /// Interface's index.
    pub index: u32,
    /// Metric; 0 is the kernel's own choice (0 for IPv4, 1024 for IPv6).
    pub metric: u32,
}

fn message(route: &Default) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family =
        if route.via.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    let via = match route.via {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    };
    if route.via.is_unspecified() {
        message.header.scope = RouteScope::Link;
    } else {
        message.attributes.push(RouteAttribute::Gateway(via));
    }
    message.attributes.push(RouteAttribute::Oif(route.index));
    if route.metric > 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

/// Sets a default route, in place of another of the same metric.
#[must_use]
pub fn add(route: &Default) -> Message {
    let request = RouteNetlinkMessage::NewRoute(message(route));
    Message::route(&request, NLM_F_CREATE | NLM_F_REPLACE, format!("add default route via {}", route.via))
}

/// Takes a default route away. Not having it is success.
#[must_use]
pub fn remove(route: &Default) -> Message {
    let request = RouteNetlinkMessage::DelRoute(message(route));
    Message::route(&request, 0, format!("remove default route via {}", route.via)).tolerating(&[libc::ESRCH])
}

/// The default routes of the channel's namespace by one interface.
///
/// # Errors
/// As the kernel answers.
pub fn list(channel: &mut dyn Channel, index: u32) -> Result<Vec<Default>, NetlinkError> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let answers = channel.query(&Message::route(&request, NLM_F_DUMP, "list routes"))?;
    Ok(answers.iter().filter_map(|(kind, body)| decode(*kind, body)).filter(|r| r.index == index).collect())
}

/// Where packets go that are not for the default route: all destinations of all routing tables, with the interface they go
/// out by if they do. What comes back to the machine itself counts, what is dropped on purpose, too.
///
/// # Errors
/// As the kernel answers.
pub fn destinations(channel: &mut dyn Channel) -> Result<Vec<(IpNet, Option<u32>)>, NetlinkError> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let answers = channel.query(&Message::route(&request, NLM_F_DUMP, "list routes"))?;
    Ok(answers.iter().filter_map(|(kind, body)| destination(*kind, body)).collect())
}

/// What a route does with what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// Somewhere: out, to this host, to many.
    Somewhere,
    /// To the next policy rule (`throw`).
    Onward,
    /// Nowhere: blackhole, unreachable, prohibit.
    Nowhere,
}

/// A route of any table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its table.
    pub table: u32,
    /// What it is for.
    pub to: IpNet,
    /// Where it leads.
    pub leads: Leads,
}

/// All routes of one family, of all tables.
///
/// # Errors
/// As the kernel answers.
pub fn entries(channel: &mut dyn Channel, v6: bool) -> Result<Vec<Entry>, NetlinkError> {
    let mut message = RouteMessage::default();
    message.header.address_family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let request = RouteNetlinkMessage::GetRoute(message);
    let answers = channel.query(&Message::route(&request, NLM_F_DUMP, "list routes"))?;
    Ok(answers.iter().filter_map(|(kind, body)| entry(*kind, body)).collect())
}

fn entry(kind: u16, body: &[u8]) -> Option<Entry> {
    let RouteNetlinkMessage::NewRoute(message) = decode_route(kind, body)? else { return None };
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let (mut to, mut table) = (any, u32::from(message.header.table));
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => to = ip.into(),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => to = ip.into(),
            RouteAttribute::Table(number) => table = number,
            _ => {}
        }
    }
    let leads = match message.header.kind {
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Leads::Nowhere,
        RouteType::Throw => Leads::Onward,
        _ => Leads::Somewhere,
    };
    Some(Entry { table, to: IpNet::new(to, message.header.destination_prefix_length).ok()?.trunc(), leads })
}

fn destination(kind: u16, body: &[u8]) -> Option<(IpNet, Option<u32>)> {
    let RouteNetlinkMessage::NewRoute(message) = decode_route(kind, body)? else { return None };
    let counts = matches!(
        message.header.kind,
        RouteType::Unicast
            | RouteType::Local
            | RouteType::BlackHole
            | RouteType::Unreachable
            | RouteType::Prohibit
    );
    let (mut to, mut index) = (None, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => to = Some(ip.into()),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => to = Some(ip.into()),
            RouteAttribute::Oif(oif) => index = Some(oif),
            _ => {}
        }
    }
    let net = IpNet::new(to?, message.header.destination_prefix_length).ok()?;
    counts.then_some((net.trunc(), index))
}

fn decode(kind: u16, body: &[u8]) -> Option<Default> {
    let RouteNetlinkMessage::NewRoute(message) = decode_route(kind, body)? else { return None };
    let main = message.header.table == RouteHeader::RT_TABLE_MAIN;
    if !main || message.header.destination_prefix_length != 0 || message.header.kind != RouteType::Unicast {
        return None;
    }
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let (mut via, mut index, mut metric) = (any, None, 0);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => via = ip.into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => via = ip.into(),
            RouteAttribute::Oif(oif) => index = Some(oif),
            RouteAttribute::Priority(priority) => metric = priority,
            _ => {}
        }
    }
    Some(Default { via, index: index?, metric })
}
