//! Forgetting connections (`ctnetlink`): what was translated to a container that is gone must not outlive it, above
//! all UDP, whose entries are kept alive by the very clients that get no answer.
//!
//! The kernel filters by itself (`CTA_FILTER`, Linux 5.8): one message, no dump. Source: `nf_conntrack_netlink.c`,
//! `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;

use crate::netlink::{Channel, Message, NetlinkError, attr::Attrs};

const CT_DELETE: u16 = (1 << 8) | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const F_IP_SRC: u32 = 1;
const F_PROTO_NUM: u32 = 1 << 3;
const F_SRC_PORT: u32 = 1 << 4;
const F_DST_PORT: u32 = 1 << 5;

/// Which connections to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that `ip` began.
    From {
        /// An address.
        ip: IpAddr,
    },
    /// Those that `ip` answers, translated or not.
    To {
        /// An address.
        ip: IpAddr,
    },
    /// Those that this service answers.
    Service {
        /// An address.
        ip: IpAddr,
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

fn source(ip: IpAddr) -> Attrs {
    match ip {
        IpAddr::V4(ip) => Attrs::new().bytes(CTA_IP_V4_SRC, &ip.octets()),
        IpAddr::V6(ip) => Attrs::new().bytes(CTA_IP_V6_SRC, &ip.octets()),
    }
}

/// The request that forgets them. No such connection is success.
#[must_use]
pub fn forget(which: Which) -> Message {
    let ip_tuple = |ip| Attrs::new().nest(CTA_TUPLE_IP, &source(ip));
    let proto = |number: u8, kind, port| Attrs::new().u8(CTA_PROTO_NUM, number).be16(kind, port);
    let (v6, tuple, inner, orig, reply) = match which {
        Which::From { ip } => (ip.is_ipv6(), CTA_TUPLE_ORIG, ip_tuple(ip), F_IP_SRC, 0),
        Which::To { ip } => (ip.is_ipv6(), CTA_TUPLE_REPLY, ip_tuple(ip), 0, F_IP_SRC),
        Which::Service { ip, protocol, port } => {
            let inner = ip_tuple(ip).nest(CTA_TUPLE_PROTO, &proto(protocol, CTA_PROTO_SRC_PORT, port));
            (ip.is_ipv6(), CTA_TUPLE_REPLY, inner, 0, F_IP_SRC | F_PROTO_NUM | F_SRC_PORT)
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
