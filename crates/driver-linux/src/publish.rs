//! Published ports as elements of four maps: by family, and by whether the listening address is given.
//!
//! ```text
//! publish4      protocol . address . port : address . port      looked up first
//! publish4any   protocol . port : address . port
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_dataplane::{PublishKey, PublishMap, PublishTarget};
use weft_model::Protocol;
use weft_sys::nft::{
    Element, Field, Set, Shape,
    expr::{Base, Expr, Meta, Reg},
};

const TARGET4: Shape = Shape::Map(&[Field::Ipv4, Field::Service]);
const TARGET6: Shape = Shape::Map(&[Field::Ipv6, Field::Service]);

/// The maps: IPv4 and IPv6 with address, IPv4 and IPv6 without.
pub(crate) const SETS: [Set; 4] = [
    Set { name: "publish4", key: &[Field::Protocol, Field::Ipv4, Field::Service], shape: TARGET4 },
    Set { name: "publish6", key: &[Field::Protocol, Field::Ipv6, Field::Service], shape: TARGET6 },
    Set { name: "publish4any", key: &[Field::Protocol, Field::Service], shape: TARGET4 },
    Set { name: "publish6any", key: &[Field::Protocol, Field::Service], shape: TARGET6 },
];

/// IP protocol numbers (IANA).
pub(crate) const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| self::number(*p) == number)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn set_of(key: &PublishKey) -> usize {
    usize::from(key.host_ip.is_ipv6()) + if key.host_ip.is_unspecified() { 2 } else { 0 }
}

fn encode_one(key: &PublishKey, target: &PublishTarget) -> Element {
    let mut bytes = vec![number(key.protocol), 0, 0, 0];
    if !key.host_ip.is_unspecified() {
        bytes.extend(octets(key.host_ip));
    }
    bytes.extend(padded(key.host_port));
    let mut data = octets(target.ip);
    data.extend(padded(target.port));
    Element { key: bytes, data, ..Element::default() }
}

/// The elements for each map that has some.
pub(crate) fn encode(publishes: &PublishMap) -> Vec<(Set, Vec<Element>)> {
    let mut lists: [Vec<Element>; 4] = Default::default();
    for (key, target) in publishes {
        lists[set_of(key)].push(encode_one(key, target));
    }
    SETS.into_iter().zip(lists).filter(|(_, list)| !list.is_empty()).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The address (if any) and the padded port at the end of a key or of data.
fn split(bytes: &[u8]) -> Option<(&[u8], u16)> {
    let (rest, port) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    Some((rest, u16::from_be_bytes([port[0], port[1]])))
}

/// What an element of the map at this place of [`SETS`] says; `None` for what we would not have written.
pub(crate) fn decode(set: usize, element: &Element) -> Option<(PublishKey, PublishTarget)> {
    let (head, host_port) = split(&element.key)?;
    let (number, ip) = head.split_at_checked(4)?;
    let host_ip = match (ip, set) {
        ([], 2) => Ipv4Addr::UNSPECIFIED.into(),
        ([], 3) => Ipv6Addr::UNSPECIFIED.into(),
        (bytes, _) => address(bytes)?,
    };
    let (ip, port) = split(&element.data)?;
    let key = PublishKey { protocol: protocol(number[0])?, host_ip, host_port };
    Some((key, PublishTarget { ip: address(ip)?, port }))
}

/// The rules of the chain `publish`: whether for IPv6, what for, how.
pub(crate) fn lookups() -> Vec<(bool, &'static str, Vec<Expr>)> {
    let port = |reg| Expr::Payload(Base::Transport, 2, 2, Reg(reg));
    let protocol = || Expr::Meta(Meta::L4proto, Reg(0));
    let mut lookups = Vec::new();
    for (v6, offset, length) in [(false, 16, 4), (true, 24, 16)] {
        let words = length / 4;
        let dnat = || Expr::Dnat(v6, Reg(0), Reg(words));
        let [named, any] = if v6 { [SETS[1], SETS[3]] } else { [SETS[0], SETS[2]] };
        let destination = Expr::Payload(Base::Network, offset, length, Reg(1));
        let by_address =
            vec![protocol(), destination, port(1 + words), Expr::Map(named.name, Reg(0), Reg(0)), dnat()];
        lookups.push((v6, "published on an address", by_address));
        let by_port = vec![protocol(), port(1), Expr::Map(any.name, Reg(0), Reg(0)), dnat()];
        lookups.push((v6, "published on all addresses", by_port));
    }
    lookups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let entry = |protocol, host: &str, port, target: &str| {
            let key = PublishKey { protocol, host_ip: host.parse().unwrap(), host_port: port };
            (key, PublishTarget { ip: target.parse().unwrap(), port: 80 })
        };
        let all: PublishMap = [
            entry(Protocol::Tcp, "0.0.0.0", 8080, "10.1.0.2"),
            entry(Protocol::Udp, "127.0.0.1", 53, "10.1.0.2"),
            entry(Protocol::Sctp, "::", 9, "fd00::2"),
            entry(Protocol::Tcp, "fd01::1", 65535, "fd00::2"),
        ]
        .into();
        let mut seen = PublishMap::new();
        for (set, elements) in encode(&all) {
            let place = SETS.iter().position(|s| s.name == set.name).unwrap();
            seen.extend(elements.iter().filter_map(|e| decode(place, e)));
        }
        assert_eq!(seen, all);
        for key in [&[][..], &[6], &[6, 0, 0, 0, 1, 2, 0, 80, 0, 0]] {
            assert_eq!(decode(0, &Element { key: key.to_vec(), ..Element::default() }), None);
        }
    }
}
