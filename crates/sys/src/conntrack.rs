//! Forgetting connections (`ctnetlink`): what was translated to a container that is gone must not outlive it, above
//! all UDP, whose entries are kept alive by the very clients that get no answer.
//!
//! The kernel filters by itself (`CTA_FILTER`, Linux 5.8): one message, no dump. Source: `nf_conntrack_netlink.c`,
//! `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::NLM_F_DUMP;

use crate::netlink::{
    Channel, Message, NetlinkError,
    attr::{Attrs, as_be32, find},
};

const CT_GET: u16 = (1 << 8) | 1;
const CT_DELETE: u16 = (1 << 8) | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_DST_NAT: u32 = 1 << 5;
const F_IP_SRC: u32 = 1;
const F_PROTO_NUM: u32 = 1 << 3;
const F_SRC_PORT: u32 = 1 << 4;
const F_DST_PORT: u32 = 1 << 5;

/// Which connections to forget. Those of an IPv6 service are not among them: the kernel's filter compares IPv6 addresses the
/// wrong way round (`ctnetlink_filter_match_tuple`, 5.8 to 6.18 at least), and would forget everybody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that this service answers.
    Service {
        /// Its address.
        ip: Ipv4Addr,
        /// IP protocol number.
        protocol: u8,
        /// Its port.
        port: u16,
    },
    /// Those that asked for this port of whatever address, before translation.
    Asked {
        /// IPv6 instead of IPv4.
        v6: bool,
        /// IP protocol number.
        protocol: u8,
        /// The port.
        port: u16,
    },
}

/// A connection, as far as publishing is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// IP protocol number.
    pub protocol: u8,
    /// What the client asked for.
    pub asked: (IpAddr, u16),
    /// Who answers.
    pub answers: (IpAddr, u16),
    /// The destination was translated.
    pub translated: bool,
    /// Who began it, and whom the answers are for: another one where the source was translated.
    pub source: (IpAddr, IpAddr),
    /// It was answered.
    pub answered: bool,
    /// The original direction as the kernel wrote it, by which it is found again.
    tuple: Vec<u8>,
}

/// Connections of these families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv6 alone.
    V6,
}

/// All connections of protocols with ports, in the default zone. On a busy host that is many: for when one question for
/// each port would be more, or where the kernel cannot be asked.
///
/// # Errors
/// As the kernel answers.
pub fn list(channel: &mut dyn Channel, families: Families) -> Result<Vec<Entry>, NetlinkError> {
    let family = match families {
        Families::Both => libc::AF_UNSPEC,
        Families::V6 => libc::AF_INET6,
    };
    let body = vec![u8::try_from(family).unwrap_or_default(), 0, 0, 0];
    let what = "list connections".to_owned();
    let answers = channel.query(&Message { kind: CT_GET, flags: NLM_F_DUMP, body, tolerate: &[], what })?;
    Ok(answers.iter().filter_map(|(_, body)| decode(body)).collect())
}

/// Forgets one of them. One that ended meanwhile is success.
#[must_use]
pub fn forget_entry(entry: &Entry) -> Message {
    let family = if entry.asked.0.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let mut body = vec![u8::try_from(family).unwrap_or_default(), 0, 0, 0];
    body.extend_from_slice(Attrs::new().bytes(CTA_TUPLE_ORIG | 0x8000, &entry.tuple).as_bytes());
    let what = format!("forget a connection to {}", entry.asked.0);
    Message { kind: CT_DELETE, flags: 0, body, tolerate: &[libc::ENOENT], what }
}

fn decode(body: &[u8]) -> Option<Entry> {
    let attributes = body.get(4..)?;
    if find(attributes, CTA_ZONE).is_some() {
        return None;
    }
    let tuple = find(attributes, CTA_TUPLE_ORIG)?;
    let (protocol, asked) = end(tuple, [CTA_IP_V4_DST, CTA_IP_V6_DST], CTA_PROTO_DST_PORT)?;
    let reply = find(attributes, CTA_TUPLE_REPLY)?;
    let (_, answers) = end(reply, [CTA_IP_V4_SRC, CTA_IP_V6_SRC], CTA_PROTO_SRC_PORT)?;
    let status = find(attributes, CTA_STATUS).and_then(as_be32).unwrap_or(0);
    let source = (
        address(find(tuple, CTA_TUPLE_IP)?, [CTA_IP_V4_SRC, CTA_IP_V6_SRC])?,
        address(find(reply, CTA_TUPLE_IP)?, [CTA_IP_V4_DST, CTA_IP_V6_DST])?,
    );
    let (translated, answered) = (status & IPS_DST_NAT != 0, status & IPS_SEEN_REPLY != 0);
    Some(Entry { protocol, asked, answers, translated, source, answered, tuple: tuple.to_vec() })
}

fn address(ip: &[u8], [v4, v6]: [u16; 2]) -> Option<IpAddr> {
    let four = find(ip, v4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from);
    four.or_else(|| find(ip, v6).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from))
}

/// One end of a direction: protocol, address and port.
fn end(tuple: &[u8], [v4, v6]: [u16; 2], port: u16) -> Option<(u8, (IpAddr, u16))> {
    let ip = address(find(tuple, CTA_TUPLE_IP)?, [v4, v6])?;
    let proto = find(tuple, CTA_TUPLE_PROTO)?;
    let port = u16::from_be_bytes(find(proto, port)?.try_into().ok()?);
    Some((*find(proto, CTA_PROTO_NUM)?.first()?, (ip, port)))
}

/// The request that forgets them. No such connection is success.
#[must_use]
pub fn forget(which: Which) -> Message {
    let proto = |number: u8, kind, port| Attrs::new().u8(CTA_PROTO_NUM, number).be16(kind, port);
    let (v6, tuple, inner, orig, reply) = match which {
        Which::Service { ip, protocol, port } => {
            let ip = Attrs::new().bytes(CTA_IP_V4_SRC, &ip.octets());
            let proto = proto(protocol, CTA_PROTO_SRC_PORT, port);
            let inner = Attrs::new().nest(CTA_TUPLE_IP, &ip).nest(CTA_TUPLE_PROTO, &proto);
            (false, CTA_TUPLE_REPLY, inner, 0, F_IP_SRC | F_PROTO_NUM | F_SRC_PORT)
        }
        Which::Asked { v6, protocol, port } => {
            let inner = Attrs::new().nest(CTA_TUPLE_PROTO, &proto(protocol, CTA_PROTO_DST_PORT, port));
            (v6, CTA_TUPLE_ORIG, inner, F_PROTO_NUM | F_DST_PORT, 0)
        }
    };
    let filter = Attrs::new().ne32(CTA_FILTER_ORIG_FLAGS, orig).ne32(CTA_FILTER_REPLY_FLAGS, reply);
    let attrs = Attrs::new().nest(tuple, &inner).nest(CTA_FILTER, &filter);
    // `struct nfgenmsg`: family, version, resource id. Version 0 would mean "of every family".
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let mut body = vec![u8::try_from(family).unwrap_or_default(), 1, 0, 0];
    body.extend_from_slice(attrs.as_bytes());
    let what = format!("forget connections {which:?}");
    Message { kind: CT_DELETE, flags: 0, body, tolerate: &[libc::ENOENT], what }
}

/// Forgets them all, in one go.
///
/// # Errors
/// As the kernel answers; a kernel without connection tracking has nothing to forget.
pub fn forget_all(channel: &mut dyn Channel, which: &[Which]) -> Result<(), NetlinkError> {
    let messages: Vec<Message> = which.iter().map(|w| forget(*w)).collect();
    channel.transact(&messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lists_is_read_and_nonsense_is_not() {
        let tuple = |src: [u8; 4], dst: [u8; 4], from: u16, to: u16| {
            let ip = Attrs::new().bytes(CTA_IP_V4_SRC, &src).bytes(CTA_IP_V4_DST, &dst);
            let proto = Attrs::new().u8(CTA_PROTO_NUM, 17).be16(CTA_PROTO_SRC_PORT, from);
            Attrs::new().nest(CTA_TUPLE_IP, &ip).nest(CTA_TUPLE_PROTO, &proto.be16(CTA_PROTO_DST_PORT, to))
        };
        let attrs = Attrs::new()
            .nest(CTA_TUPLE_ORIG, &tuple([192, 0, 2, 9], [192, 0, 2, 1], 4000, 53))
            .nest(CTA_TUPLE_REPLY, &tuple([10, 1, 0, 2], [192, 0, 2, 9], 5353, 4000))
            .be32(CTA_STATUS, IPS_DST_NAT | 8);
        let body = [&[2, 0, 0, 0], attrs.as_bytes()].concat();
        let entry = decode(&body).unwrap();
        assert_eq!((entry.protocol, entry.translated), (17, true));
        assert_eq!(entry.asked, ("192.0.2.1".parse().unwrap(), 53));
        assert_eq!(entry.answers, ("10.1.0.2".parse().unwrap(), 5353));
        assert_eq!(entry.source, ("192.0.2.9".parse().unwrap(), "192.0.2.9".parse().unwrap()));
        assert!(!entry.answered);
        for cut in 0..body.len() {
            // Cut short, it is another thing or none; it is never a panic.
            let _ = decode(&body[..cut]);
        }
        assert_eq!(decode(&[0xff; 64]), None);
    }
}
