//! Segments whose packets leave with an address that people chose (Docker's `host_ipv4`, `host_ipv6`), and not with that of the
//! link they leave by.
//!
//! ```text
//! source4, source6    subnets : address
//! ```

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use weft_dataplane::Segment;
use weft_model::NetworkId;
use weft_sys::nft::{
    Element, Field, Set, Shape,
    expr::{Base, Expr, Meta, Reg},
};

use crate::rules::{self, Ruleset, family};

/// IPv4, IPv6.
pub(crate) const SETS: [Set; 2] = [
    Set { name: "source4", key: &[Field::Ipv4], shape: Shape::IntervalMap(&[Field::Ipv4]) },
    Set { name: "source6", key: &[Field::Ipv6], shape: Shape::IntervalMap(&[Field::Ipv6]) },
];

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address behind the last one of a subnet; none behind the last of all.
fn behind(subnet: &IpNet) -> Option<Vec<u8>> {
    match subnet {
        IpNet::V4(net) => u32::from(net.broadcast()).checked_add(1).map(|ip| ip.to_be_bytes().to_vec()),
        IpNet::V6(net) => u128::from(net.broadcast()).checked_add(1).map(|ip| ip.to_be_bytes().to_vec()),
    }
}

/// The elements for subnets of one family, which do not overlap. Each says its end, also where the next begins: the kernel
/// takes one that has none for one without end.
fn elements(subnets: &BTreeMap<IpNet, IpAddr>) -> Vec<Element> {
    let mut all = Vec::new();
    for (net, source) in subnets {
        all.push(Element { key: octets(net.network()), data: octets(*source), ..Element::default() });
        all.extend(behind(net).map(|key| Element { key, end: true, ..Element::default() }));
    }
    all
}

/// Rules and elements, where some segment has such an address.
pub(crate) fn rules(set: &mut Ruleset, segments: &BTreeMap<NetworkId, Segment>) {
    for v6 in [false, true] {
        let of = |s: &Segment| -> Vec<(IpNet, IpAddr)> {
            let nets = s.subnets().filter(|net| net.addr().is_ipv6() == v6);
            nets.filter_map(|net| Some((net, s.source(&net)?))).collect()
        };
        let subnets: BTreeMap<IpNet, IpAddr> = segments.values().flat_map(of).collect();
        if subnets.is_empty() {
            continue;
        }
        let place = SETS[usize::from(v6)];
        for element in elements(&subnets) {
            set.element(place, element);
        }
        let (offset, length) = if v6 { (8, 16) } else { (12, 4) };
        let out = vec![Expr::Meta(Meta::Oifname, Reg(0)), Expr::In(rules::SEGMENTS.name, Reg(0), false)];
        let source = vec![
            Expr::Payload(Base::Network, offset, length, Reg(0)),
            Expr::Map(place.name, Reg(0), Reg(0)),
            Expr::Snat(v6, Reg(0)),
        ];
        set.rule("postrouting", "way out, by a given address", [family(v6), out, source]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_beginning_and_an_end() {
        let check = |nets: &[&str], expected: &[(&[u8], bool)]| {
            let source: IpAddr = "192.0.2.1".parse().unwrap();
            let subnets = nets.iter().map(|net| (net.parse().unwrap(), source)).collect();
            let found = elements(&subnets);
            let seen: Vec<_> = found.iter().map(|e| (e.key.as_slice(), e.end)).collect();
            assert_eq!(seen, expected, "{nets:?}");
            assert!(found.iter().all(|e| e.end == e.data.is_empty()));
        };
        check(&[], &[]);
        check(&["10.1.0.0/24"], &[(&[10, 1, 0, 0], false), (&[10, 1, 1, 0], true)]);
        check(
            &["10.1.0.0/24", "10.1.1.0/24"],
            &[
                (&[10, 1, 0, 0], false),
                (&[10, 1, 1, 0], true),
                (&[10, 1, 1, 0], false),
                (&[10, 1, 2, 0], true),
            ],
        );
        check(&["255.255.255.0/24"], &[(&[255, 255, 255, 0], false)]);
    }
}
