//! Connections that the kernel keeps (`ctnetlink`), those that asked for one port: for telling where packets of a
//! connection that is already known go, whatever the rules say of new ones.
//!
//! The kernel filters by itself (`CTA_FILTER`, Linux 5.8), so that a table of a million entries costs what it answers.
//! Source: `nf_conntrack_netlink.c`, `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;

use crate::netlink::{
    Channel, Message, NetlinkError,
    attr::{Attrs, find},
};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const CT_GET: u16 = (1 << 8) | 1;
/// `CTA_FILTER_F_CTA_PROTO_NUM | CTA_FILTER_F_CTA_PROTO_DST_PORT`.
const BY_SERVICE: u32 = 1 << 3 | 1 << 5;

/// One way of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Source.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub port: u16,
}

/// A connection: how it was asked for, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// As it was asked for.
    pub asked: Way,
    /// As it is answered: from whom it was translated to.
    pub answered: Way,
}

/// Connections of a protocol that asked for a port, of one family.
///
/// # Errors
/// As the kernel answers.
pub fn list(
    channel: &mut dyn Channel,
    v6: bool,
    protocol: u8,
    port: u16,
) -> Result<Vec<Connection>, NetlinkError> {
    let proto = Attrs::new().u8(1, protocol).be16(3, port);
    let tuple = Attrs::new().nest(2, &proto);
    let filter = Attrs::new().ne32(1, BY_SERVICE).ne32(2, 0);
    let attrs = Attrs::new().nest(1, &tuple).nest(25, &filter);
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let mut body = vec![u8::try_from(family).unwrap_or_default(), 1, 0, 0];
    body.extend_from_slice(attrs.as_bytes());
    let what = format!("list connections to port {port}");
    let answers = channel.query(&Message { kind: CT_GET, flags: NLM_F_DUMP, body, tolerate: &[], what })?;
    // A kernel that does not know the filter answers with everything.
    let of = |c: &Connection| c.asked.port == port;
    Ok(answers.iter().filter_map(|(_, body)| decode(body, protocol)).filter(of).collect())
}

fn decode(body: &[u8], protocol: u8) -> Option<Connection> {
    let a = body.get(4..)?;
    Some(Connection { asked: way(find(a, 1)?, protocol)?, answered: way(find(a, 2)?, protocol)? })
}

fn way(tuple: &[u8], protocol: u8) -> Option<Way> {
    let (ip, proto) = (find(tuple, 1)?, find(tuple, 2)?);
    if find(proto, 1)?.first() != Some(&protocol) {
        return None;
    }
    let v4 = |kind| find(ip, kind).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from);
    let v6 = |kind| find(ip, kind).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from);
    let port = |kind| find(proto, kind).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
    Some(Way { from: v4(1).or(v6(3))?, to: v4(2).or(v6(4))?, source: port(2)?, port: port(3)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_connections() {
        let way = |from: [u8; 4], to: [u8; 4], source: u16, port: u16| {
            let proto = Attrs::new().u8(1, 17).be16(2, source).be16(3, port);
            Attrs::new().nest(1, &Attrs::new().bytes(1, &from).bytes(2, &to)).nest(2, &proto)
        };
        let a = Attrs::new().nest(1, &way([10, 0, 0, 1], [10, 0, 0, 2], 5, 53));
        let a = a.nest(2, &way([10, 0, 0, 9], [10, 0, 0, 1], 53, 5));
        let body = [&[2, 0, 0, 0], a.as_bytes()].concat();
        let seen = decode(&body, 17).unwrap();
        assert_eq!((seen.asked.port, seen.answered.from), (53, [10, 0, 0, 9].into()));
        assert_eq!(decode(&body, 6), None);
        weft_testkit::fuzz::run("ctnetlink", &[body], &[], |bytes| {
            let _ = decode(bytes, 17);
        });
    }
}
