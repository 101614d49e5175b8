//! The kernel's own decision on a packet's way (`RTM_GETROUTE` for one packet): policy rules, tables, and for what comes
//! in by an interface also the checks of its source. Nothing is sent. Source: `inet_rtm_getroute`, `inet6_rtm_getroute`.

use std::net::IpAddr;

use super::{
    Channel, Message, NetlinkError,
    attr::{Attrs, find},
    detail::{ip, ne32},
};

const GETROUTE: u16 = 26;
/// Answer with the table that decided (`RTM_F_LOOKUP_TABLE`).
const LOOKUP_TABLE: u32 = 0x1000;

/// A packet to be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup {
    /// Where to.
    pub to: IpAddr,
    /// Where from; needed when it comes in by an interface.
    pub from: Option<IpAddr>,
    /// Index of the interface it came in by; `None` for what this host sends.
    pub input: Option<u32>,
    /// Index of the interface it must leave by.
    pub output: Option<u32>,
    /// Firewall mark.
    pub mark: u32,
    /// Protocol, and port it is for, where policy rules ask for these.
    pub service: Option<(u8, u16)>,
}

/// What the kernel does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is for this host.
    Local {
        /// By which address it is sent, when this host sends it.
        source: Option<IpAddr>,
    },
    /// It goes out.
    Out {
        /// Index of the interface.
        link: u32,
        /// Next hop; `None` for a neighbour.
        via: Option<IpAddr>,
        /// By which address it is sent, when this host sends it.
        source: Option<IpAddr>,
        /// The table that decided.
        table: u32,
    },
    /// To many: broadcast or multicast.
    Many,
    /// Nowhere; the error number says why (`EXDEV`: its source should come by another interface; `EHOSTUNREACH`: this host
    /// does not forward; `ENETUNREACH`: no route; `EINVAL`: a source or destination that cannot be).
    Refused(i32),
}

/// Asks.
///
/// # Errors
/// The socket failed; a refusal of the packet is [`Way::Refused`].
pub fn lookup(channel: &mut dyn Channel, packet: &Lookup) -> Result<Way, NetlinkError> {
    match channel.query(&request(packet)) {
        Ok(answers) => {
            Ok(answers.iter().find_map(|(_, body)| decode(body)).unwrap_or(Way::Refused(libc::ENETUNREACH)))
        }
        Err(NetlinkError::Refused { source, .. }) => {
            Ok(Way::Refused(source.raw_os_error().unwrap_or(libc::ENETUNREACH)))
        }
        Err(error) => Err(error),
    }
}

fn request(packet: &Lookup) -> Message {
    let (v6, bits) = if packet.to.is_ipv6() { (true, 128) } else { (false, 32) };
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    // struct rtmsg: family, both prefix lengths, tos, table, protocol, scope, type, flags.
    let source_bits = if packet.from.is_some() { bits } else { 0 };
    let mut body = vec![u8::try_from(family).unwrap_or_default(), bits, source_bits, 0, 0, 0, 0, 0];
    body.extend_from_slice(&LOOKUP_TABLE.to_ne_bytes());
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut a = Attrs::new().bytes(1, &octets(packet.to));
    if let Some(from) = packet.from {
        a = a.bytes(2, &octets(from));
    }
    if let Some(input) = packet.input {
        a = a.ne32(3, input);
    }
    if let Some(output) = packet.output {
        a = a.ne32(4, output);
    }
    if packet.mark != 0 {
        a = a.ne32(16, packet.mark);
    }
    if let Some((protocol, port)) = packet.service {
        a = a.u8(27, protocol);
        if protocol == 6 || protocol == 17 {
            a = a.be16(29, port);
        }
    }
    body.extend_from_slice(a.as_bytes());
    Message { kind: GETROUTE, flags: 0, body, tolerate: &[], what: format!("route to {}", packet.to) }
}

fn decode(body: &[u8]) -> Option<Way> {
    let a = body.get(12..)?;
    let source = find(a, 7).and_then(ip);
    // RTN_*
    Some(match body[7] {
        1 => Way::Out {
            link: find(a, 4).and_then(ne32)?,
            via: find(a, 5).and_then(ip).or_else(|| find(a, 18).and_then(|via| ip(via.get(2..)?))),
            source,
            table: find(a, 15).and_then(ne32).unwrap_or_else(|| u32::from(body[4])),
        },
        2 | 4 => Way::Local { source },
        3 | 5 => Way::Many,
        6 => Way::Refused(libc::EINVAL),
        7 => Way::Refused(libc::EHOSTUNREACH),
        8 => Way::Refused(libc::EACCES),
        _ => Way::Refused(libc::ENETUNREACH),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Family, Socket};

    #[test]
    fn loopback_is_local() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let to = "127.0.0.1".parse().unwrap();
        let packet = Lookup { to, from: None, input: None, output: None, mark: 0, service: Some((6, 80)) };
        assert_eq!(lookup(&mut socket, &packet).unwrap(), Way::Local { source: Some(to) });
    }

    #[test]
    fn fuzz_route_answers() {
        let answer = [&[2, 32, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0][..], &[8, 0, 4, 0, 3, 0, 0, 0]].concat();
        assert_eq!(decode(&answer), Some(Way::Out { link: 3, via: None, source: None, table: 254 }));
        weft_testkit::fuzz::run("netlink-route", &[answer], &[], |bytes| {
            let _ = decode(bytes);
        });
    }
}
