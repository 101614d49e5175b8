//! Policy rules (`ip rule`): which table of routes is asked about which packet, and which packets are refused without one. Read
//! from the attributes themselves; the bytes are foreign, and a rule that is malformed is left out. Source:
//! `linux/fib_rules.h`, `fib_rule_match`.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;

use super::{
    Channel, Message, NetlinkError,
    attr::{as_text, find},
    detail::{ip, ne32},
};

const GETRULE: u16 = 34;
const NEWRULE: u16 = 32;
/// `FIB_RULE_INVERT`.
const INVERT: u32 = 2;

/// What a rule does with what fits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A table is asked; when it knows no way, the next rule is.
    Table(u32),
    /// Goes on with the rule of that priority.
    Goto(u32),
    /// Nothing.
    Nothing,
    /// Drops without a word.
    Blackhole,
    /// Refuses: no route.
    Unreachable,
    /// Refuses: prohibited.
    Prohibit,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Lower ones are asked first.
    pub priority: u32,
    /// What it does.
    pub action: Action,
    /// It is for what does not fit.
    pub inverted: bool,
    /// Source.
    pub from: Option<IpNet>,
    /// Destination.
    pub to: Option<IpNet>,
    /// Interface it came by; `lo` for what the host sends.
    pub input: Option<String>,
    /// Interface that the sender has bound itself to.
    pub output: Option<String>,
    /// Mark, and the bits of it that count.
    pub mark: Option<(u32, u32)>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Source ports.
    pub sources: Option<RangeInclusive<u16>>,
    /// Destination ports.
    pub ports: Option<RangeInclusive<u16>>,
    /// Type of service; 0 for any.
    pub tos: u8,
    /// A way of a prefix as short as this, or shorter, does not count.
    pub suppress: Option<u32>,
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// Source, where it is chosen already.
    pub from: Option<IpAddr>,
    /// Destination.
    pub to: IpAddr,
    /// Interface it came by; `None` for what the host sends.
    pub input: Option<&'a str>,
    /// Mark.
    pub mark: u32,
    /// IP protocol.
    pub protocol: u8,
    /// Source and destination ports, where it has such.
    pub ports: (Option<u16>, Option<u16>),
}

impl Rule {
    /// Whether it is for such packets. An unbound sender and an ordinary type of service are taken for granted.
    #[must_use]
    pub fn fits(&self, flow: &Flow<'_>) -> bool {
        let within = |net: &Option<IpNet>, ip: Option<IpAddr>| match (net, ip) {
            (None, _) => true,
            (Some(net), Some(ip)) => net.contains(&ip),
            // The unspecified address.
            (Some(net), None) => net.prefix_len() == 0,
        };
        let among = |range: &Option<RangeInclusive<u16>>, port: Option<u16>| match (range, port) {
            (None, _) => true,
            (Some(range), Some(port)) => range.contains(&port),
            (Some(_), None) => false,
        };
        let fits = within(&self.from, flow.from)
            && within(&self.to, Some(flow.to))
            && self.input.as_deref().is_none_or(|name| name == flow.input.unwrap_or("lo"))
            && self.output.is_none()
            && self.mark.is_none_or(|(mark, mask)| (mark ^ flow.mark) & mask == 0)
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && among(&self.sources, flow.ports.0)
            && among(&self.ports, flow.ports.1)
            && self.tos == 0;
        fits != self.inverted
    }
}

/// Its selector and action, as `ip rule` writes them.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.map_or_else(|| "all".into(), shown);
        write!(f, "{}from {from}", if self.inverted { "not " } else { "" })?;
        if let Some(to) = self.to {
            write!(f, " to {}", shown(to))?;
        }
        if self.tos > 0 {
            write!(f, " tos {:#x}", self.tos)?;
        }
        match self.mark {
            Some((mark, u32::MAX)) => write!(f, " fwmark {mark:#x}")?,
            Some((mark, mask)) => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
            None => {}
        }
        for (word, name) in [("iif", &self.input), ("oif", &self.output)] {
            if let Some(name) = name {
                write!(f, " {word} {name}")?;
            }
        }
        match self.protocol {
            Some(6) => write!(f, " ipproto tcp")?,
            Some(17) => write!(f, " ipproto udp")?,
            Some(other) => write!(f, " ipproto {other}")?,
            None => {}
        }
        for (word, range) in [("sport", &self.sources), ("dport", &self.ports)] {
            match range.as_ref().map(|r| (*r.start(), *r.end())) {
                Some((start, end)) if start == end => write!(f, " {word} {start}")?,
                Some((start, end)) => write!(f, " {word} {start}-{end}")?,
                None => {}
            }
        }
        match self.action {
            Action::Table(253) => write!(f, " lookup default"),
            Action::Table(254) => write!(f, " lookup main"),
            Action::Table(255) => write!(f, " lookup local"),
            Action::Table(table) => write!(f, " lookup {table}"),
            Action::Goto(priority) => write!(f, " goto {priority}"),
            Action::Nothing => write!(f, " nop"),
            Action::Blackhole => write!(f, " blackhole"),
            Action::Unreachable => write!(f, " unreachable"),
            Action::Prohibit => write!(f, " prohibit"),
        }
    }
}

/// Whole addresses without their length.
fn shown(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// The rules of the channel's namespace for one family, in the order in which they are asked.
///
/// # Errors
/// As the kernel answers.
pub fn list(channel: &mut dyn Channel, v6: bool) -> Result<Vec<Rule>, NetlinkError> {
    let family = u8::try_from(if v6 { libc::AF_INET6 } else { libc::AF_INET }).unwrap_or_default();
    // struct fib_rule_hdr.
    let mut body = vec![0; HEADER];
    body[0] = family;
    let what = "list policy rules".to_owned();
    let request = Message { kind: GETRULE, flags: NLM_F_DUMP, body, tolerate: &[], what };
    let answers = channel.query(&request)?;
    let mut rules: Vec<Rule> =
        answers.iter().filter(|(kind, _)| *kind == NEWRULE).filter_map(|(_, body)| decode(body)).collect();
    rules.sort_by_key(|rule| rule.priority);
    Ok(rules)
}

/// Bytes of `struct fib_rule_hdr`.
const HEADER: usize = 12;

fn decode(body: &[u8]) -> Option<Rule> {
    let (head, a) = body.split_at_checked(HEADER)?;
    let v6 = i32::from(head[0]) == libc::AF_INET6;
    let net = |kind: u16, length: u8| -> Option<Option<IpNet>> {
        if length == 0 {
            return Some(None);
        }
        let ip = find(a, kind).and_then(ip).filter(|ip| ip.is_ipv6() == v6)?;
        Some(Some(IpNet::new(ip, length).ok()?.trunc()))
    };
    let number = |kind: u16| find(a, kind).and_then(ne32);
    let name = |kind: u16| find(a, kind).and_then(as_text).map(str::to_owned);
    // struct fib_rule_port_range, in host order.
    let range = |kind: u16| -> Option<RangeInclusive<u16>> {
        let bytes: [u8; 4] = find(a, kind)?.get(..4)?.try_into().ok()?;
        let [a, b, c, d] = bytes;
        Some(u16::from_ne_bytes([a, b])..=u16::from_ne_bytes([c, d]))
    };
    let flags = ne32(head.get(8..)?)?;
    Some(Rule {
        priority: number(6).unwrap_or(0),
        // FR_ACT_*
        action: match head[7] {
            1 => Action::Table(number(15).unwrap_or_else(|| u32::from(head[4]))),
            2 => Action::Goto(number(4)?),
            6 => Action::Blackhole,
            7 => Action::Unreachable,
            8 => Action::Prohibit,
            _ => Action::Nothing,
        },
        inverted: flags & INVERT != 0,
        from: net(2, head[2])?,
        to: net(1, head[1])?,
        input: name(3),
        output: name(17),
        mark: match (number(10).unwrap_or(0), number(16).unwrap_or(0)) {
            (0, 0) => None,
            mark => Some(mark),
        },
        protocol: find(a, 22).and_then(|bytes| bytes.first().copied()),
        sources: range(23),
        ports: range(24),
        tos: head[3],
        suppress: number(14).filter(|length| *length != u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Family, Socket, attr::Attrs};

    /// A rule as the kernel tells it: lengths of destination and source, action, flags, attributes.
    fn told(lengths: (u8, u8), action: u8, flags: u32, attrs: Attrs) -> Vec<u8> {
        let mut body = vec![2, lengths.0, lengths.1, 0, 0, 0, 0, action];
        body.extend(flags.to_ne_bytes());
        body.extend(attrs.ne32(6, 100).into_bytes());
        body
    }

    #[test]
    fn rules_are_read_written_and_matched() {
        let flow = Flow {
            from: Some([10, 1, 0, 2].into()),
            to: [192, 0, 2, 9].into(),
            input: Some("br0"),
            mark: 0x51,
            protocol: 6,
            ports: (Some(40_000), Some(80)),
        };
        let check = |body: &[u8], text: &str, fits: bool| {
            let rule = decode(body).unwrap();
            assert_eq!((rule.to_string().as_str(), rule.fits(&flow), rule.priority), (text, fits, 100));
        };
        let none = Attrs::new;
        check(&told((0, 0), 8, 0, none()), "from all prohibit", true);
        check(&told((0, 24), 6, 0, none().bytes(2, &[10, 1, 0, 0])), "from 10.1.0.0/24 blackhole", true);
        check(
            &told((0, 24), 6, INVERT, none().bytes(2, &[10, 1, 0, 0])),
            "not from 10.1.0.0/24 blackhole",
            false,
        );
        check(
            &told((32, 0), 7, 0, none().bytes(1, &[192, 0, 2, 9])),
            "from all to 192.0.2.9 unreachable",
            true,
        );
        check(&told((0, 0), 8, 0, none().text(3, "br0")), "from all iif br0 prohibit", true);
        check(&told((0, 0), 8, 0, none().text(3, "lo")), "from all iif lo prohibit", false);
        check(&told((0, 0), 1, 0, none().ne32(15, 254)), "from all lookup main", true);
        check(&told((0, 0), 2, 0, none().ne32(4, 7)), "from all goto 7", true);
        check(
            &told((0, 0), 8, 0, none().ne32(10, 1).ne32(16, 0xf)),
            "from all fwmark 0x1/0xf prohibit",
            true,
        );
        check(
            &told((0, 0), 8, 0, none().ne32(10, 1).ne32(16, u32::MAX)),
            "from all fwmark 0x1 prohibit",
            false,
        );
        let ports = [80_u16.to_ne_bytes(), 90_u16.to_ne_bytes()].concat();
        check(
            &told((0, 0), 8, 0, none().u8(22, 6).bytes(24, &ports)),
            "from all ipproto tcp dport 80-90 prohibit",
            true,
        );
        check(&told((0, 0), 8, 0, none().u8(22, 17)), "from all ipproto udp prohibit", false);
        // A source without its address, and a cut header.
        assert_eq!(decode(&told((0, 24), 6, 0, none())), None);
        assert_eq!(decode(&[2; 11]), None);
    }

    #[test]
    fn the_three_that_all_have() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let rules = list(&mut socket, false).unwrap();
        assert!(
            rules.iter().any(|rule| (rule.priority, rule.action) == (0, Action::Table(255))),
            "{rules:?}"
        );
        assert!(rules.iter().any(|rule| rule.action == Action::Table(254)), "{rules:?}");
    }

    #[test]
    fn fuzz_policy_rules() {
        let seed = told(
            (32, 24),
            8,
            2,
            Attrs::new().bytes(2, &[10, 1, 0, 0]).bytes(1, &[1, 2, 3, 4]).text(3, "br0"),
        );
        weft_testkit::fuzz::run("netlink-rules", &[seed], &[], |bytes| {
            if let Some(rule) = decode(bytes) {
                let _ = rule.to_string();
            }
        });
    }
}
