//! More of interfaces than making them needs: peers, carriers, the state of bridge ports, counters. Read from the
//! attributes themselves; the bytes are foreign, and what is malformed is left out. Source: `linux/if_link.h`.

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;

use super::{
    Channel, Message, NetlinkError,
    attr::{as_text, find},
};

const GETLINK: u16 = 18;
const GETADDR: u16 = 22;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// What passed an interface, from its own point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets received and sent.
    pub packets: (u64, u64),
    /// Bytes received and sent.
    pub bytes: (u64, u64),
    /// Errors receiving and sending.
    pub errors: (u64, u64),
    /// Dropped when received, dropped instead of sent.
    pub dropped: (u64, u64),
}

/// What makes an interface a port of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgePort {
    /// `BR_STATE_*`: 3 forwards.
    pub state: u8,
    /// Talks to no other isolated port.
    pub isolated: bool,
    /// Gives back what came by it.
    pub hairpin: bool,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Index in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `bridge`, `veth`, …; empty for hardware and loopback.
    pub kind: String,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// Bytes.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: Vec<u8>,
    /// Index of what it is a port of.
    pub master: Option<u32>,
    /// Index of its peer or parent, in whichever namespace that is.
    pub peer: Option<u32>,
    /// The peer is in another namespace.
    pub peer_elsewhere: bool,
    /// As a port of a bridge.
    pub port: Option<BridgePort>,
    /// A bridge that shows what it forwards to the IP hooks by itself (`nf_call_iptables`, `nf_call_ip6tables`), whatever the
    /// namespace's parameters say: of IPv4, of IPv6.
    pub filtered: (bool, bool),
    /// Counters.
    pub passed: Passed,
}

/// All interfaces of the channel's namespace.
///
/// # Errors
/// As the kernel answers.
pub fn links(channel: &mut dyn Channel) -> Result<Vec<Detail>, NetlinkError> {
    let what = "list links".to_owned();
    let list = Message { kind: GETLINK, flags: NLM_F_DUMP, body: vec![0; 16], tolerate: &[], what };
    Ok(channel.query(&list)?.iter().filter_map(|(_, body)| decode(body)).collect())
}

/// All addresses of the channel's namespace, with the index of their interface.
///
/// # Errors
/// As the kernel answers.
pub fn addresses(channel: &mut dyn Channel) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
    let what = "list addresses".to_owned();
    let list = Message { kind: GETADDR, flags: NLM_F_DUMP, body: vec![0; 8], tolerate: &[], what };
    Ok(channel.query(&list)?.iter().filter_map(|(_, body)| decode_address(body)).collect())
}

pub(super) fn ne32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

pub(super) fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
        _ => None,
    }
}

/// `struct ifinfomsg` and attributes.
fn decode(body: &[u8]) -> Option<Detail> {
    let a = body.get(16..)?;
    let flags = ne32(&body[8..])?;
    let info = find(a, 18).unwrap_or_default();
    let port = (find(info, 4).and_then(as_text) == Some("bridge")).then(|| {
        let data = find(info, 5).unwrap_or_default();
        let byte = |kind| find(data, kind).and_then(|b| b.first().copied()).unwrap_or_default();
        BridgePort { state: byte(1), isolated: byte(33) != 0, hairpin: byte(4) != 0 }
    });
    let kind = find(info, 1).and_then(as_text).unwrap_or_default();
    let bridge = find(info, 2).filter(|_| kind == "bridge").unwrap_or_default();
    // IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES.
    let calls = |attribute| find(bridge, attribute).and_then(|b| b.first()).is_some_and(|b| *b != 0);
    Some(Detail {
        index: ne32(&body[4..])?,
        name: as_text(find(a, 3)?)?.to_owned(),
        kind: kind.to_owned(),
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        mtu: find(a, 4).and_then(ne32).unwrap_or_default(),
        mac: find(a, 1).unwrap_or_default().to_vec(),
        master: find(a, 10).and_then(ne32),
        peer: find(a, 5).and_then(ne32),
        peer_elsewhere: find(a, 37).is_some(),
        port,
        filtered: (calls(36), calls(37)),
        passed: find(a, 23).and_then(passed).unwrap_or_default(),
    })
}

/// `struct rtnl_link_stats64`.
fn passed(bytes: &[u8]) -> Option<Passed> {
    let n = |at: usize| Some(u64::from_ne_bytes(bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?));
    let pair = |at| Some((n(at)?, n(at + 1)?));
    Some(Passed { packets: pair(0)?, bytes: pair(2)?, errors: pair(4)?, dropped: pair(6)? })
}

/// `struct ifaddrmsg` and attributes.
fn decode_address(body: &[u8]) -> Option<(u32, IpNet)> {
    let (prefix, index) = (*body.get(1)?, ne32(body.get(4..8)?)?);
    let a = body.get(8..)?;
    // IFA_LOCAL is the own address, IFA_ADDRESS a peer's where there is one.
    let own = find(a, 2).or_else(|| find(a, 1)).and_then(ip)?;
    Some((index, IpNet::new(own, prefix).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Family, Socket, attr::Attrs};

    #[test]
    fn loopback_is_seen() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let lo = links(&mut socket).unwrap().into_iter().find(|l| l.name == "lo").unwrap();
        assert_eq!((lo.index, lo.kind.as_str(), lo.port), (1, "", None));
        addresses(&mut socket).unwrap();
    }

    #[test]
    fn fuzz_links_and_addresses() {
        let attrs = Attrs::new();
        let info = attrs.clone().text(1, "veth").text(4, "bridge").nest(5, &attrs.clone().u8(1, 3).u8(33, 1));
        let attrs = attrs.bytes(1, &[2; 6]).text(3, "wfp0").ne32(4, 1500).ne32(10, 4).nest(18, &info);
        let link = [&[0; 16], attrs.bytes(23, &[1; 200]).as_bytes()].concat();
        let seen = decode(&link).unwrap();
        assert_eq!((seen.name.as_str(), seen.port.unwrap().isolated), ("wfp0", true));
        let bridge = Attrs::new().text(1, "bridge").nest(2, &Attrs::new().u8(36, 1));
        let bridge = [&[0; 16], Attrs::new().text(3, "br0").nest(18, &bridge).as_bytes()].concat();
        assert_eq!(decode(&bridge).unwrap().filtered, (true, false));
        let address = [&[2, 24, 0, 0, 7, 0, 0, 0][..], &[8, 0, 2, 0, 10, 0, 0, 1]].concat();
        assert_eq!(decode_address(&address), Some((7, "10.0.0.1/24".parse().unwrap())));
        weft_testkit::fuzz::run("netlink-links", &[link, bridge, address], &[], |bytes| {
            let _ = (decode(bytes), decode_address(bytes));
        });
    }
}
