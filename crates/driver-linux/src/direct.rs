//! Ports that are reached at a container's own address: published ports of routed segments, by whom the policy lets in
//! ([`weft_model::PublishPolicy`]), and of segments that trust a link of the host, from there and whatever the policy. Two
//! sets for each family, whatever the number of ports.
//!
//! ```text
//! open4, open6        protocol . address . port      of segments that trust a link
//! routed4, routed6    the same                       of routed segments
//! ```
//!
//! Under `host-firewall` the first packet of a client to a routed port is turned to the host itself, its port as it is, so
//! that it goes through the host's rules for incoming packets; from there it is as with a translated port
//! ([`crate::consent`]), but that the client's next packet is let pass and not translated.

use std::net::IpAddr;

use weft_dataplane::{Open, OpenSet, Reach, Segment};
use weft_model::{GatewayMode, PublishPolicy};
use weft_sys::{
    netlink::{Channel, Socket},
    nft::{
        self, Batch, Element, Field, Set, Shape,
        expr::{Base, Ct, Expr, Meta, Reg, Tuple, ct_status, ifname},
    },
};

use crate::{
    LinuxError, TABLE, consent, publish,
    rules::{self, by_segment},
};

const FIELDS4: &[Field] = &[Field::Protocol, Field::Ipv4, Field::Service];
const FIELDS6: &[Field] = &[Field::Protocol, Field::Ipv6, Field::Service];

/// Of ports that a trusted link reaches: IPv4, IPv6; then those of routed segments.
pub(crate) static SETS: [Set; 4] = [
    Set { name: "open4", key: FIELDS4, shape: Shape::Plain },
    Set { name: "open6", key: FIELDS6, shape: Shape::Plain },
    Set { name: "routed4", key: FIELDS4, shape: Shape::Plain },
    Set { name: "routed6", key: FIELDS6, shape: Shape::Plain },
];
/// Where those of routed segments begin in [`SETS`].
const ROUTED: usize = 2;

fn place(reach: Reach, v6: bool) -> usize {
    usize::from(v6)
        + match reach {
            Reach::Trusted => 0,
            Reach::Routed => ROUTED,
        }
}

fn element(open: &Open) -> Element {
    let key = publish::keyed(publish::number(open.protocol), Some(open.ip), open.port);
    Element { key, ..Element::default() }
}

/// The set of routed segments' ports that a destination may be in, and the key by which it would be.
pub(crate) fn routed_key(protocol: u8, ip: IpAddr, port: u16) -> (&'static Set, Vec<u8>) {
    (&SETS[place(Reach::Routed, ip.is_ipv6())], publish::keyed(protocol, Some(ip), port))
}

/// The elements for each set that has some.
pub(crate) fn encode(open: &OpenSet) -> Vec<(Set, Vec<Element>)> {
    let mut lists: [Vec<Element>; SETS.len()] = Default::default();
    for (reach, open) in open {
        lists[place(*reach, open.ip.is_ipv6())].push(element(open));
    }
    SETS.into_iter().zip(lists).filter(|(_, list)| !list.is_empty()).collect()
}

/// What an element says; `None` for what we would not have written.
fn decode(found: &Element) -> Option<Open> {
    let (head, port) = publish::split(&found.key)?;
    let (number, ip) = head.split_at_checked(4)?;
    let open = Open { protocol: publish::protocol(number[0])?, ip: publish::address(ip)?, port };
    (element(&open) == *found).then_some(open)
}

/// What the kernel has.
pub(crate) fn observe(socket: &mut Socket) -> Result<OpenSet, LinuxError> {
    Ok(observe_all(socket)?.0)
}

/// The same, and how many elements we would not have written.
pub(crate) fn observe_all(socket: &mut Socket) -> Result<(OpenSet, usize), LinuxError> {
    let (mut all, mut strange) = (OpenSet::new(), 0);
    for (place, set) in SETS.iter().enumerate() {
        let reach = if place < ROUTED { Reach::Trusted } else { Reach::Routed };
        let elements = nft::elements(socket, TABLE, set)?.unwrap_or_default();
        let known: Vec<_> = elements.iter().filter_map(decode).collect();
        strange += elements.len() - known.len();
        all.extend(known.into_iter().map(|open| (reach, open)));
    }
    Ok((all, strange))
}

/// Takes some away and adds others, in one transaction.
pub(crate) fn change(socket: &mut Socket, remove: &OpenSet, add: &OpenSet) -> Result<(), LinuxError> {
    let batch = |remove: &OpenSet| {
        let mut batch = Batch::new(TABLE);
        encode(remove).iter().for_each(|(set, elements)| batch.delete_elements(set, elements));
        encode(add).iter().for_each(|(set, elements)| batch.add_elements(set, elements));
        batch.finish()
    };
    if socket.transact(&batch(remove)).is_err() {
        // Some may be gone already.
        let have = observe(socket)?;
        socket.transact(&batch(&(remove & &have)))?;
    }
    Ok(())
}

fn mode(segment: &Segment, v6: bool) -> GatewayMode {
    if v6 { segment.gateways.v6 } else { segment.gateways.v4 }
}

/// Goes on if the packet is for a port of the set at this place of [`SETS`].
fn is_for(place: usize, v6: bool) -> Vec<Expr> {
    let (offset, length) = if v6 { (24, 16) } else { (16, 4) };
    vec![
        Expr::Meta(Meta::L4proto, Reg(0)),
        Expr::Payload(Base::Network, offset, length, Reg(1)),
        Expr::Payload(Base::Transport, 2, 2, Reg(1 + length / 4)),
        Expr::In(SETS[place + usize::from(v6)].name, Reg(0), true),
    ]
}

/// Goes on if the packet is for a port of a routed segment.
pub(crate) fn is_for_routed(v6: bool) -> Vec<Expr> {
    is_for(ROUTED, v6)
}

/// Goes on if the packet was for a port of a routed segment before it was turned to the host.
pub(crate) fn was_for_routed(v6: bool) -> Vec<Expr> {
    let (destination, words) = if v6 { (Tuple::Destination6, 4) } else { (Tuple::Destination4, 1) };
    vec![
        Expr::Meta(Meta::L4proto, Reg(0)),
        Expr::Tuple(destination, false, Reg(1)),
        Expr::Tuple(Tuple::DestinationPort, false, Reg(1 + words)),
        Expr::In(SETS[ROUTED + usize::from(v6)].name, Reg(0), true),
    ]
}

/// What passes into a segment beside its published ports of the host: whether for IPv6, what for, the condition.
pub(crate) fn ways_in(segment: &Segment, policy: PublishPolicy) -> Vec<(bool, &'static str, Vec<Expr>)> {
    let mut ways = Vec::new();
    for v6 in [false, true] {
        match mode(segment, v6) {
            GatewayMode::Routed => {
                let open = || is_for_routed(v6);
                if policy == PublishPolicy::Open {
                    ways.push((v6, "routed: open ports", open()));
                } else {
                    ways.push((v6, "routed: open ports, by networks", [by_segment(true), open()].concat()));
                }
                if policy == PublishPolicy::HostFirewall {
                    // What nobody answers stays new: a flow that once was let in goes on.
                    let known = rules::ct(Ct::Status, ct_status::CONFIRMED);
                    ways.push((v6, "routed: open ports, let in before", [known, open()].concat()));
                    for let_in in consent::are_known(v6) {
                        let let_in = [open(), let_in].concat();
                        ways.push((v6, "routed: open ports, let in by the host", let_in));
                    }
                }
                let icmp = if v6 { 58 } else { 1 };
                let icmp = vec![Expr::Meta(Meta::L4proto, Reg(0)), Expr::Cmp(Reg(0), true, vec![icmp])];
                ways.push((v6, "routed: ICMP", icmp));
            }
            GatewayMode::NatUnprotected => {
                ways.push((v6, "unprotected: from outside", by_segment(false)));
            }
            GatewayMode::Nat | GatewayMode::Isolated => {}
        }
        for link in &segment.trusted {
            let by_link = vec![Expr::Meta(Meta::Iifname, Reg(0)), Expr::Cmp(Reg(0), true, ifname(link))];
            ways.push((v6, "trusted link: open ports", [by_link, is_for(0, v6)].concat()));
        }
    }
    ways
}
