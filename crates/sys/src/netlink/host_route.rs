//! Routes to single hosts by one link (`RTM_*ROUTE`).

use std::{collections::BTreeSet, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::{Channel, Message, NetlinkError, decode_route};

fn message(to: IpAddr, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Link;
    message.header.kind = RouteType::Unicast;
    let (family, length, address) = match to {
        IpAddr::V4(ip) => (AddressFamily::Inet, 32, RouteAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(ip)),
    };
    (message.header.address_family, message.header.destination_prefix_length) = (family, length);
    message.attributes.extend([RouteAttribute::Destination(address), RouteAttribute::Oif(index)]);
    message
}

/// A route to one host by a link, with one of our addresses as the preferred source.
#[must_use]
pub fn add(to: IpAddr, index: u32, source: Option<IpAddr>) -> Message {
    let mut message = message(to, index);
    message.attributes.extend(source.map(|ip| match ip {
        IpAddr::V4(ip) => RouteAttribute::PrefSource(RouteAddress::Inet(ip)),
        IpAddr::V6(ip) => RouteAttribute::PrefSource(RouteAddress::Inet6(ip)),
    }));
    let request = RouteNetlinkMessage::NewRoute(message);
    Message::route(&request, NLM_F_CREATE | NLM_F_REPLACE, format!("add route to {to}"))
}

/// Takes such a route away. Not having it is success.
#[must_use]
pub fn remove(to: IpAddr, index: u32) -> Message {
    let request = RouteNetlinkMessage::DelRoute(message(to, index));
    Message::route(&request, 0, format!("remove route to {to}")).tolerating(&[libc::ESRCH])
}

/// The hosts that are routed by a link.
///
/// # Errors
/// As the kernel answers.
pub fn list(channel: &mut dyn Channel, index: u32) -> Result<BTreeSet<IpAddr>, NetlinkError> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let answers = channel.query(&Message::route(&request, NLM_F_DUMP, "list routes"))?;
    Ok(answers.iter().filter_map(|(kind, body)| decode(*kind, body, index)).collect())
}

fn decode(kind: u16, body: &[u8], index: u32) -> Option<IpAddr> {
    let RouteNetlinkMessage::NewRoute(message) = decode_route(kind, body)? else { return None };
    let header = &message.header;
    let ours = header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
        && header.protocol == RouteProtocol::Boot
        && message.attributes.contains(&RouteAttribute::Oif(index));
    let to = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some((IpAddr::from(*ip), 32)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some((IpAddr::from(*ip), 128)),
        _ => None,
    });
    to.filter(|(_, length)| ours && header.destination_prefix_length == *length).map(|(ip, _)| ip)
}
