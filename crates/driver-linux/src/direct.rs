//! Ports that are reached at a container's own address: published ports of routed segments, from anywhere, and of segments that
//! trust a link of the host, from there. One set for each family, whatever the number of ports.
//!
//! ```text
//! open4, open6    protocol . address . port
//! ```

use std::net::IpAddr;

use weft_dataplane::{Open, Segment};
use weft_model::GatewayMode;
use weft_sys::nft::{
    Element, Field, Set, Shape,
    expr::{Base, Expr, Meta, Reg, ifname},
};

use crate::publish;

const FIELDS4: &[Field] = &[Field::Protocol, Field::Ipv4, Field::Service];
const FIELDS6: &[Field] = &[Field::Protocol, Field::Ipv6, Field::Service];

/// The sets: IPv4, IPv6.
pub(crate) const SETS: [Set; 2] = [
    Set { name: "open4", key: FIELDS4, shape: Shape::Plain },
    Set { name: "open6", key: FIELDS6, shape: Shape::Plain },
];

/// The element of a port, with the set it belongs to.
pub(crate) fn element(open: &Open) -> (Set, Element) {
    let mut key = vec![publish::number(open.protocol), 0, 0, 0];
    match open.ip {
        IpAddr::V4(ip) => key.extend(ip.octets()),
        IpAddr::V6(ip) => key.extend(ip.octets()),
    }
    let [high, low] = open.port.to_be_bytes();
    key.extend([high, low, 0, 0]);
    (SETS[usize::from(open.ip.is_ipv6())], Element { key, ..Element::default() })
}

/// Goes on if the packet is for a port of the set.
fn is_open(v6: bool) -> Vec<Expr> {
    let (offset, length) = if v6 { (24, 16) } else { (16, 4) };
    vec![
        Expr::Meta(Meta::L4proto, Reg(0)),
        Expr::Payload(Base::Network, offset, length, Reg(1)),
        Expr::Payload(Base::Transport, 2, 2, Reg(1 + length / 4)),
        Expr::In(SETS[usize::from(v6)].name, Reg(0), true),
    ]
}

/// What passes into a segment beside its published ports of the host: whether for IPv6, what for, the condition.
pub(crate) fn ways_in(segment: &Segment, segments: &'static str) -> Vec<(bool, &'static str, Vec<Expr>)> {
    let mut ways = Vec::new();
    for (v6, mode) in [(false, segment.gateways.v4), (true, segment.gateways.v6)] {
        match mode {
            GatewayMode::Routed => {
                let icmp = if v6 { 58 } else { 1 };
                let icmp = vec![Expr::Meta(Meta::L4proto, Reg(0)), Expr::Cmp(Reg(0), true, vec![icmp])];
                ways.push((v6, "routed: open ports", is_open(v6)));
                ways.push((v6, "routed: ICMP", icmp));
            }
            GatewayMode::NatUnprotected => {
                let outside = vec![Expr::Meta(Meta::Iifname, Reg(0)), Expr::In(segments, Reg(0), false)];
                ways.push((v6, "unprotected: from outside", outside));
            }
            GatewayMode::Nat | GatewayMode::Isolated => {}
        }
        for link in &segment.trusted {
            let mut exprs = vec![Expr::Meta(Meta::Iifname, Reg(0)), Expr::Cmp(Reg(0), true, ifname(link))];
            exprs.extend(is_open(v6));
            ways.push((v6, "trusted link: open ports", exprs));
        }
    }
    ways
}
