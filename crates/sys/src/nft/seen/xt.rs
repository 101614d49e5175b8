//! Matches and targets of iptables inside nftables rules (`iptables-nft`, which keeps those it has no expression for as the
//! C structures of old). The few that firewalls are made of are read; the others are known by name.
//! Source: `linux/netfilter/xt_*.h`, `nf_nat.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XtMatch {
    /// Says nothing of the packet.
    Comment(String),
    /// States of connections (`XT_CONNTRACK_STATE_*`, as in `ct state`), or all but these.
    State {
        /// Bits.
        mask: u32,
        /// All but these.
        inverted: bool,
    },
    /// TCP or UDP ports, both ends included.
    Ports {
        /// 6 or 17.
        protocol: u8,
        /// Source ports.
        source: (u16, u16),
        /// Destination ports.
        destination: (u16, u16),
        /// All but these: source, destination.
        inverted: (bool, bool),
    },
    /// Ports of a list (`multiport`), of whatever protocol has ports.
    ListedPorts {
        /// Which port.
        of: PortOf,
        /// Ranges, both ends included.
        ranges: Vec<(u16, u16)>,
        /// None of these.
        inverted: bool,
    },
    /// The destination port as the connection began (`conntrack --ctorigdstport`), both ends included.
    OriginalPort {
        /// First and last.
        range: (u16, u16),
        /// Another one.
        inverted: bool,
    },
    /// Types of addresses, one bit for each `RTN_*`: source, destination; 0 for any.
    AddressType {
        /// Source.
        source: u16,
        /// Destination.
        destination: u16,
    },
    /// What is not understood, by its name.
    Other(String),
}

/// Which of a packet's ports is asked for (`XT_MULTIPORT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortOf {
    /// The source's.
    Source,
    /// The destination's.
    Destination,
    /// One of both.
    Either,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XtTarget {
    /// Drops, and says so.
    Reject,
    /// Source to the address of the interface it leaves by.
    Masquerade,
    /// Destination to another address and port.
    Destination(Option<IpAddr>, Option<u16>),
    /// Source to another address.
    Source(Option<IpAddr>),
    /// Nothing that decides.
    Harmless(String),
    /// What is not understood, by its name.
    Other(String),
}

fn half(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?))
}

fn half_be(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(info.get(at..at + 2)?.try_into().ok()?))
}

fn word(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?))
}

impl XtMatch {
    pub(super) fn decode(name: &str, revision: u32, info: &[u8]) -> Self {
        Self::read(name, revision, info).unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    fn read(name: &str, revision: u32, info: &[u8]) -> Option<Self> {
        Some(match (name, revision) {
            ("comment", _) => {
                let end = info.iter().position(|b| *b == 0).unwrap_or(info.len());
                Self::Comment(String::from_utf8_lossy(&info[..end]).into_owned())
            }
            // struct xt_conntrack_mtinfo3: eight addresses, expiry, ports, then flags and masks.
            ("conntrack", 2 | 3) => {
                let (flags, inverted, mask) = (half(info, 146)?, half(info, 148)?, half(info, 150)?);
                match (flags, revision) {
                    // XT_CONNTRACK_STATE and nothing else.
                    (1, _) => Self::State { mask: conntrack_states(mask), inverted: inverted & 1 != 0 },
                    // XT_CONNTRACK_ORIGDST_PORT and nothing else; of revision 3 both ends in the host's order.
                    (0x200, 3) => Self::OriginalPort {
                        range: (half(info, 140)?, half(info, 156)?),
                        inverted: inverted & 0x200 != 0,
                    },
                    _ => return None,
                }
            }
            ("state", _) => {
                Self::State { mask: conntrack_states(u16::try_from(word(info, 0)?).ok()?), inverted: false }
            }
            // struct xt_tcp: two pairs of ports, option, flag mask, flag compare, inverted.
            ("tcp", _) => {
                if *info.get(8)? != 0 || *info.get(9)? != 0 {
                    return None;
                }
                Self::ports(6, info, *info.get(11)?)?
            }
            ("multiport", 1) => Self::listed(info)?,
            ("udp", _) => Self::ports(17, info, *info.get(8)?)?,
            // struct xt_addrtype_info_v1: two masks, flags; 1 and 2 invert, 4 and 8 name the interface.
            ("addrtype", 1) if word(info, 4)? == 0 => {
                Self::AddressType { source: half(info, 0)?, destination: half(info, 2)? }
            }
            _ => return None,
        })
    }

    /// `struct xt_multiport_v1`: which, how many, fifteen ports, for each whether a range begins there, inverted.
    fn listed(info: &[u8]) -> Option<Self> {
        let of = match info.first()? {
            0 => PortOf::Source,
            1 => PortOf::Destination,
            2 => PortOf::Either,
            _ => return None,
        };
        let count = usize::from(*info.get(1)?).min(15);
        let port = |nth: usize| half(info, 2 + 2 * nth);
        let (mut ranges, mut nth) = (Vec::new(), 0);
        while nth < count {
            let ranged = *info.get(32 + nth)? != 0 && nth + 1 < count;
            ranges.push((port(nth)?, port(nth + usize::from(ranged))?));
            nth += 1 + usize::from(ranged);
        }
        Some(Self::ListedPorts { of, ranges, inverted: *info.get(47)? != 0 })
    }

    fn ports(protocol: u8, info: &[u8], inverted: u8) -> Option<Self> {
        Some(Self::Ports {
            protocol,
            source: (half(info, 0)?, half(info, 2)?),
            destination: (half(info, 4)?, half(info, 6)?),
            inverted: (inverted & 1 != 0, inverted & 2 != 0),
        })
    }
}

/// The bits of `ct state`, which are those of xtables but for what is translated: SNAT and DNAT (64, 128) and UNTRACKED (256).
fn conntrack_states(mask: u16) -> u32 {
    let mut bits = u32::from(mask & 0xf);
    if mask & 256 != 0 {
        bits |= 64;
    }
    if mask & 128 != 0 {
        bits |= TRANSLATED;
    }
    bits
}

/// Our own bit for iptables' state `DNAT`: the connection's destination was translated.
pub const TRANSLATED: u32 = 1 << 16;

impl XtTarget {
    pub(super) fn decode(name: &str, _revision: u32, info: &[u8]) -> Self {
        match name {
            "REJECT" => Self::Reject,
            "MASQUERADE" => Self::Masquerade,
            "LOG" | "NFLOG" | "TCPMSS" | "CHECKSUM" | "ULOG" | "TRACE" => Self::Harmless(name.to_owned()),
            "DNAT" => range(info)
                .map_or_else(|| Self::Other(name.to_owned()), |(ip, port)| Self::Destination(ip, port)),
            "SNAT" => range(info).map_or_else(|| Self::Other(name.to_owned()), |(ip, _)| Self::Source(ip)),
            _ => Self::Other(name.to_owned()),
        }
    }
}

/// `nf_nat_ipv4_multi_range_compat` (revision 0: a count, then flags, two addresses, two ports: 20 bytes) or
/// `nf_nat_range` and `nf_nat_range2` (flags, two addresses of 16 bytes, ports). The first address and port.
fn range(info: &[u8]) -> Option<(Option<IpAddr>, Option<u16>)> {
    let (flags, address, port) = if info.len() < 36 {
        let octets: [u8; 4] = info.get(8..12)?.try_into().ok()?;
        (word(info, 4)?, IpAddr::from(octets), half_be(info, 16)?)
    } else {
        let octets: [u8; 16] = info.get(4..20)?.try_into().ok()?;
        // An IPv4 address lies in the first four bytes, and the rest is zero.
        let v4 = octets[4..].iter().all(|b| *b == 0);
        let address = if v4 {
            Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()
        } else {
            Ipv6Addr::from(octets).into()
        };
        (word(info, 0)?, address, half_be(info, 36)?)
    };
    // NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED.
    Some(((flags & 1 != 0).then_some(address), (flags & 2 != 0).then_some(port)))
}
