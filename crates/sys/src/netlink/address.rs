//! Addresses of interfaces (`RTM_*ADDR`).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
};

use super::{Channel, Message, NetlinkError, decode_route};

fn message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.header.family = if address.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes.push(AddressAttribute::Address(address.addr()));
    if let IpNet::V4(net) = address {
        message.attributes.push(AddressAttribute::Local(address.addr()));
        if net.prefix_len() < 31 && net.broadcast() != Ipv4Addr::BROADCAST {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
    } else {
        // We hand out the addresses: nothing to be detected, and usable at once.
        message.header.flags |= AddressHeaderFlags::Nodad;
    }
    message
}

/// Gives an interface an address. Having it already is success.
#[must_use]
pub fn add(index: u32, address: IpNet) -> Message {
    let request = RouteNetlinkMessage::NewAddress(message(index, address));
    Message::route(&request, NLM_F_CREATE | NLM_F_REPLACE, format!("add address {address}"))
        .tolerating(&[libc::EEXIST])
}

/// Takes an address away. Not having it is success.
#[must_use]
pub fn remove(index: u32, address: IpNet) -> Message {
    let request = RouteNetlinkMessage::DelAddress(message(index, address));
    Message::route(&request, 0, format!("remove address {address}")).tolerating(&[libc::EADDRNOTAVAIL])
}

/// From the addresses an interface has to those it is to have. One that only changes its prefix is there all the time where
/// the kernel can: IPv4 takes the second before the first goes, so that routes and connections stay; of IPv6 an interface has
/// each address once, so that it is away for as long as one message takes. The second of one IPv4 subnet goes with the first
/// (`promote_secondaries`), so those of the subnets that lost one are said again at the end.
#[must_use]
pub fn replace(index: u32, have: &BTreeSet<IpNet>, want: &BTreeSet<IpNet>) -> Vec<Message> {
    let mut messages = Vec::new();
    for new in want.difference(have) {
        let twin = have.difference(want).find(|old| old.addr() == new.addr() && old.addr().is_ipv6());
        messages.extend(twin.map(|old| remove(index, *old)));
        messages.push(add(index, *new));
    }
    let replaced = |old: &&IpNet| old.addr().is_ipv6() && want.iter().any(|new| new.addr() == old.addr());
    messages.extend(have.difference(want).filter(|old| !replaced(old)).map(|old| remove(index, *old)));
    let beside =
        |new: &&IpNet| new.addr().is_ipv4() && have.difference(want).any(|old| old.trunc() == new.trunc());
    messages.extend(want.iter().filter(beside).map(|new| add(index, *new)));
    messages
}

/// Addresses of one interface, but for those the kernel gave it by itself (link scope).
///
/// # Errors
/// As the kernel answers.
pub fn list(channel: &mut dyn Channel, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
    Ok(all(channel)?.into_iter().filter(|(of, _)| *of == index).map(|(_, address)| address).collect())
}

/// The same of all interfaces, each with the index of its own.
///
/// # Errors
/// As the kernel answers.
pub fn all(channel: &mut dyn Channel) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
    Ok(dump(channel)?.into_iter().filter(|(_, _, of_link)| !of_link).map(|(of, net, _)| (of, net)).collect())
}

/// The same with link-local addresses of IPv6 (fe80::/10), whoever gave them.
///
/// # Errors
/// As the kernel answers.
pub fn all_and_link_local(channel: &mut dyn Channel) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
    let kept = |(_, net, of_link): &(u32, IpNet, bool)| !of_link || net.addr().is_ipv6();
    Ok(dump(channel)?.into_iter().filter(kept).map(|(of, net, _)| (of, net)).collect())
}

/// The link-local address that the kernel makes of an Ethernet address (RFC 4291, appendix A).
#[must_use]
pub fn link_local([a, b, c, d, e, f]: [u8; 6]) -> IpNet {
    let ip = Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    IpNet::new_assert(ip.into(), 64)
}

/// Each with its interface and whether it is of link scope.
fn dump(channel: &mut dyn Channel) -> Result<Vec<(u32, IpNet, bool)>, NetlinkError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = channel.query(&Message::route(&request, NLM_F_DUMP, "list addresses"))?;
    Ok(answers.iter().filter_map(|(kind, body)| decode(*kind, body)).collect())
}

fn decode(kind: u16, body: &[u8]) -> Option<(u32, IpNet, bool)> {
    let RouteNetlinkMessage::NewAddress(message) = decode_route(kind, body)? else { return None };
    let of_link = message.header.scope == AddressScope::Link;
    let mut found: Option<IpAddr> = None;
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => found = Some(ip),
            AddressAttribute::Address(ip) => found = found.or(Some(ip)),
            _ => {}
        }
    }
    Some((message.header.index, IpNet::new(found?, message.header.prefix_len).ok()?, of_link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_is_made_of_a_mac() {
        assert_eq!(link_local([0x02, 0x42, 0xac, 1, 2, 3]).to_string(), "fe80::42:acff:fe01:203/64");
    }
}
