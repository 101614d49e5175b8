//! Published ports as elements of eight maps: by family, by whether the listening address is given, and by whether it is
//! one port or a row of them.
//!
//! ```text
//! publish4         protocol . address . port : address . port     looked up first
//! publish4rows     protocol . address . first-last : address      the port stays as it is
//! publish4any      protocol . port : address . port
//! publish4anyrows  protocol . first-last : address
//! ```
//!
//! Under the policy `host-firewall`, the same maps tell which packets that the host's own rules have let in were meant for
//! a published port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_dataplane::{PublishKey, PublishMap, PublishTarget};
use weft_model::{PortRange, Protocol};
use weft_sys::nft::{
    Element, Field, Set, Shape,
    expr::{Base, Expr, Meta, Reg},
};

const TARGET4: Shape = Shape::Map(&[Field::Ipv4, Field::Service]);
const TARGET6: Shape = Shape::Map(&[Field::Ipv6, Field::Service]);

const ROWS4: Shape = Shape::Ranges(&[Field::Ipv4]);
const ROWS6: Shape = Shape::Ranges(&[Field::Ipv6]);

/// The maps: IPv4 and IPv6 with address, IPv4 and IPv6 without; then the same for rows.
pub(crate) static SETS: [Set; 8] = [
    Set { name: "publish4", key: &[Field::Protocol, Field::Ipv4, Field::Service], shape: TARGET4 },
    Set { name: "publish6", key: &[Field::Protocol, Field::Ipv6, Field::Service], shape: TARGET6 },
    Set { name: "publish4any", key: &[Field::Protocol, Field::Service], shape: TARGET4 },
    Set { name: "publish6any", key: &[Field::Protocol, Field::Service], shape: TARGET6 },
    Set { name: "publish4rows", key: &[Field::Protocol, Field::Ipv4, Field::Service], shape: ROWS4 },
    Set { name: "publish6rows", key: &[Field::Protocol, Field::Ipv6, Field::Service], shape: ROWS6 },
    Set { name: "publish4anyrows", key: &[Field::Protocol, Field::Service], shape: ROWS4 },
    Set { name: "publish6anyrows", key: &[Field::Protocol, Field::Service], shape: ROWS6 },
];

/// IP protocol numbers (IANA).
pub(crate) const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

pub(crate) fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| self::number(*p) == number)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// Where rows begin in [`SETS`].
const ROWS: usize = 4;

fn set_of(key: &PublishKey) -> usize {
    let rows = key.host_ports.end > key.host_ports.start;
    usize::from(key.host_ip.is_ipv6())
        + if key.host_ip.is_unspecified() { 2 } else { 0 }
        + if rows { ROWS } else { 0 }
}

/// The maps that a destination may be in, and the key by which it would be.
pub(crate) fn keys(protocol: u8, ip: IpAddr, port: u16) -> [(&'static Set, Vec<u8>); 4] {
    [0, 2, ROWS, ROWS + 2].map(|place| {
        let named = (place % ROWS == 0).then_some(ip);
        (&SETS[place + usize::from(ip.is_ipv6())], keyed(protocol, named, port))
    })
}

/// `protocol . address . port`, or `protocol . port`.
pub(crate) fn keyed(protocol: u8, ip: Option<IpAddr>, port: u16) -> Vec<u8> {
    [&[protocol, 0, 0, 0][..], &ip.map(octets).unwrap_or_default(), &padded(port)].concat()
}

fn encode_one(key: &PublishKey, target: &PublishTarget) -> Element {
    let mut bytes = vec![number(key.protocol), 0, 0, 0];
    if !key.host_ip.is_unspecified() {
        bytes.extend(octets(key.host_ip));
    }
    let mut data = octets(target.ip);
    let mut key_end = Vec::new();
    if key.host_ports.end > key.host_ports.start {
        key_end = [&bytes[..], &padded(key.host_ports.end)].concat();
    } else {
        data.extend(padded(target.port));
    }
    bytes.extend(padded(key.host_ports.start));
    Element { key: bytes, key_end, data, ..Element::default() }
}

/// The elements for each map that has some.
pub(crate) fn encode(publishes: &PublishMap) -> Vec<(Set, Vec<Element>)> {
    let mut lists: [Vec<Element>; SETS.len()] = Default::default();
    for (key, target) in publishes {
        lists[set_of(key)].push(encode_one(key, target));
    }
    SETS.into_iter().zip(lists).filter(|(_, list)| !list.is_empty()).collect()
}

pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The address (if any) and the padded port at the end of a key or of data.
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], u16)> {
    let (rest, port) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    Some((rest, u16::from_be_bytes([port[0], port[1]])))
}

/// What an element of the map at this place of [`SETS`] says; `None` for what we would not have written.
pub(crate) fn decode(set: usize, element: &Element) -> Option<(PublishKey, PublishTarget)> {
    let (head, start) = split(&element.key)?;
    let (number, ip) = head.split_at_checked(4)?;
    let host_ip = match (ip, set % ROWS) {
        ([], 2) => Ipv4Addr::UNSPECIFIED.into(),
        ([], 3) => Ipv6Addr::UNSPECIFIED.into(),
        (bytes, _) => address(bytes)?,
    };
    let (end, ip, port) = if set < ROWS {
        let (ip, port) = split(&element.data)?;
        (start, ip, port)
    } else {
        (split(&element.key_end)?.1, &element.data[..], start)
    };
    let host_ports = PortRange { start, end };
    let key = PublishKey { protocol: protocol(number[0])?, host_ip, host_ports };
    let target = PublishTarget { ip: address(ip)?, port };
    // What reads the same may be written otherwise, or in another map (0.0.0.0 in that of one address): it could be taken away by
    // no name of ours.
    (set_of(&key) == set && encode_one(&key, &target) == *element).then_some((key, target))
}

/// A look into one of the maps: whether for IPv6, what for, the expressions that leave what the map has in register 0, and
/// how that is translated.
pub(crate) struct Lookup {
    pub(crate) v6: bool,
    pub(crate) comment: &'static str,
    pub(crate) find: Vec<Expr>,
    pub(crate) translate: Expr,
}

/// All of them, in their order. What is meant for one address comes before what is meant for all.
pub(crate) fn lookups() -> Vec<Lookup> {
    let port = |reg| Expr::Payload(Base::Transport, 2, 2, Reg(reg));
    let protocol = || Expr::Meta(Meta::L4proto, Reg(0));
    let mut lookups = Vec::new();
    for (v6, offset, length) in [(false, 16, 4), (true, 24, 16)] {
        let words = length / 4;
        let destination = || Expr::Payload(Base::Network, offset, length, Reg(1));
        let one = Expr::Dnat(v6, Reg(0), Reg(words));
        let row = Expr::DnatAddress(v6, Reg(0));
        for (place, comment, translate) in [
            (0, "published on an address", one.clone()),
            (ROWS, "rows published on an address", row.clone()),
            (2, "published on all addresses", one),
            (ROWS + 2, "rows published on all addresses", row),
        ] {
            let named = place % ROWS == 0;
            let map = Expr::Map(SETS[place + usize::from(v6)].name, Reg(0), Reg(0));
            let find = if named {
                vec![protocol(), destination(), port(1 + words), map]
            } else {
                vec![protocol(), port(1), map]
            };
            lookups.push(Lookup { v6, comment, find, translate });
        }
    }
    lookups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maps may hold what others put there.
    #[test]
    fn fuzz_publish_elements() {
        weft_testkit::fuzz::run("publish-elements", &[vec![6; 16], vec![0; 40]], &["\u{6}\0\0\0"], |bytes| {
            let (key, rest) = bytes.split_at(bytes.len() / 2);
            let (key_end, data) = rest.split_at(rest.len() / 2);
            let (key, key_end, data) = (key.to_vec(), key_end.to_vec(), data.to_vec());
            let element = Element { key, key_end, data, ..Element::default() };
            for set in 0..SETS.len() {
                let _ = decode(set, &element);
            }
        });
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let entry = |protocol, host: &str, (start, end), (target, port): (&str, u16)| {
            let host_ports = PortRange { start, end };
            let key = PublishKey { protocol, host_ip: host.parse().unwrap(), host_ports };
            (key, PublishTarget { ip: target.parse().unwrap(), port })
        };
        let all: PublishMap = [
            entry(Protocol::Tcp, "0.0.0.0", (8080, 8080), ("10.1.0.2", 80)),
            entry(Protocol::Udp, "127.0.0.1", (53, 53), ("10.1.0.2", 80)),
            entry(Protocol::Sctp, "::", (9, 9), ("fd00::2", 80)),
            entry(Protocol::Tcp, "fd01::1", (65535, 65535), ("fd00::2", 80)),
            entry(Protocol::Tcp, "0.0.0.0", (9000, 9999), ("10.1.0.2", 9000)),
            entry(Protocol::Udp, "192.0.2.1", (1, 65535), ("10.1.0.2", 1)),
            entry(Protocol::Tcp, "::", (9000, 9001), ("fd00::2", 9000)),
            entry(Protocol::Tcp, "fd01::1", (9000, 9001), ("fd00::2", 9000)),
        ]
        .into();
        let mut seen = PublishMap::new();
        for (set, elements) in encode(&all) {
            let place = SETS.iter().position(|s| s.name == set.name).unwrap();
            seen.extend(elements.iter().filter_map(|e| decode(place, e)));
        }
        assert_eq!(seen, all);
        // Of no map that it would be in, or with bytes where we leave none.
        let any = Element {
            key: vec![6, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0],
            data: vec![10, 1, 0, 2, 0, 9, 0, 0],
            ..Element::default()
        };
        assert_eq!(decode(0, &any), None);
        let mut one = any.clone();
        one.key[7] = 1;
        assert!(decode(0, &one).is_some());
        one.key[1] = 1;
        assert_eq!(decode(0, &one), None);
        for key in [&[][..], &[6], &[6, 0, 0, 0, 1, 2, 0, 80, 0, 0]] {
            for place in 0..SETS.len() {
                assert_eq!(decode(place, &Element { key: key.to_vec(), ..Element::default() }), None);
            }
        }
    }
}
