//! Routes to what is on a link itself (`RTM_*ROUTE`): those that the kernel makes with an address, to its subnet.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::{Message, NetlinkError, Socket, decode_route};

fn message(v6: bool) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Kernel;
    message.header.kind = RouteType::Unicast;
    message
}

/// The main table's routes that the kernel made, each with the index of its interface; `None` where the kernel cannot pick them out of
/// all the routes there are.
///
/// # Errors
/// As the kernel answers.
pub fn list(socket: &mut Socket) -> Result<Option<BTreeSet<(u32, IpNet)>>, NetlinkError> {
    let mut found = BTreeSet::new();
    for v6 in [false, true] {
        let request = RouteNetlinkMessage::GetRoute(message(v6));
        match socket.query_filtered(&Message::route(&request, NLM_F_DUMP, "list routes")) {
            Ok(Some(answers)) => {
                found.extend(answers.iter().filter_map(|(kind, body)| decode(*kind, body)));
            }
            // There is no main table before the first route of a family.
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            // No such family, or no such filter.
            Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => return Ok(None),
            Ok(None) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(found))
}

/// The route that the kernel makes with an address.
#[must_use]
pub fn connect(index: u32, address: IpNet) -> Message {
    let (to, own) = match address {
        IpNet::V4(net) => (RouteAddress::Inet(net.network()), RouteAddress::Inet(net.addr())),
        IpNet::V6(net) => (RouteAddress::Inet6(net.network()), RouteAddress::Inet6(net.addr())),
    };
    let v6 = address.addr().is_ipv6();
    let mut message = message(v6);
    message.header.destination_prefix_length = address.prefix_len();
    message.attributes.extend([RouteAttribute::Destination(to), RouteAttribute::Oif(index)]);
    // As `fib_add_ifaddr` and `addrconf_prefix_route`: beside the same route by another link, never in place of it.
    let flags = if v6 {
        // IP6_RT_PRIO_ADDRCONF
        message.attributes.push(RouteAttribute::Priority(256));
        NLM_F_CREATE
    } else {
        message.header.scope = RouteScope::Link;
        message.attributes.push(RouteAttribute::PrefSource(own));
        NLM_F_CREATE | NLM_F_APPEND
    };
    let what = format!("add the route of address {address}");
    Message::route(&RouteNetlinkMessage::NewRoute(message), flags, what).tolerating(&[libc::EEXIST])
}

fn decode(kind: u16, body: &[u8]) -> Option<(u32, IpNet)> {
    let RouteNetlinkMessage::NewRoute(message) = decode_route(kind, body)? else { return None };
    let header = message.header;
    let (mut to, mut index) = (None::<IpAddr>, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => to = Some(ip.into()),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => to = Some(ip.into()),
            RouteAttribute::Oif(oif) => index = Some(oif),
            RouteAttribute::Gateway(_) => return None,
            _ => {}
        }
    }
    let whole = header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
        && header.protocol == RouteProtocol::Kernel;
    let net = IpNet::new(to?, header.destination_prefix_length).ok()?;
    whole.then_some((index?, net))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{
        Channel, Family, address,
        link::{self, Change},
    };

    #[test]
    fn a_connected_route_is_seen_and_made_again() {
        // A network namespace of the thread's own.
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let mut socket = Socket::open(Family::Route).unwrap();
            // No link was ever up here, so there is no table either.
            assert_eq!(list(&mut socket).unwrap(), Some(BTreeSet::new()));
            let up = Change { up: Some(true), ..Change::default() };
            socket.transact(&[link::create_bridge("b0", &up), link::change("b0", &up)]).unwrap();
            let index = link::get(&mut socket, "b0").unwrap().unwrap().index;
            let addresses: [IpNet; 2] = ["10.9.0.1/24".parse().unwrap(), "fd09::1/64".parse().unwrap()];
            socket.transact(&addresses.map(|a| address::add(index, a))).unwrap();
            let made: BTreeSet<_> = addresses.iter().map(|a| (index, a.trunc())).collect();
            let seen = |socket: &mut Socket| {
                let mut all = list(socket).unwrap().unwrap();
                // The kernel's own, to link-local addresses.
                all.retain(|(_, net)| net.prefix_len() < 128 && !net.to_string().starts_with("fe80"));
                all
            };
            assert_eq!(seen(&mut socket), made);
            for family in ["-4", "-6"] {
                let args = [family, "route", "flush", "dev", "b0", "proto", "kernel"];
                assert!(std::process::Command::new("ip").args(args).status().unwrap().success());
            }
            assert_eq!(seen(&mut socket), BTreeSet::new());
            let connect_all = addresses.map(|a| connect(index, a));
            socket.transact(&connect_all).unwrap();
            socket.transact(&connect_all).unwrap();
            assert_eq!(seen(&mut socket), made);
        })
        .join()
        .unwrap();
    }
}
