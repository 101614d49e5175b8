//! Tables of iptables-legacy, which the kernel keeps apart from nftables and only their own tool can read: the text of
//! `iptables-legacy-save` as chains and rules of the same form. What a line says beyond the common is not understood, and
//! the rule then cannot be told. The text is foreign: lines that are not of its form are left out.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_sys::nft::seen::{
    Chain, Code, Data, Expr, Family, Hooked, PortOf, Registered, Rule, Ruleset, TRANSLATED, TableKey,
    VERDICT, XtMatch, XtTarget,
};

use super::text::LEGACY;

/// Hook, and priority by table (`NF_IP_PRI_*`).
fn hooked(table: &str, chain: &str) -> Option<(u32, i32)> {
    let hook = match chain {
        "PREROUTING" => 0,
        "INPUT" => 1,
        "FORWARD" => 2,
        "OUTPUT" => 3,
        "POSTROUTING" => 4,
        _ => return None,
    };
    let priority = match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", 0 | 3) => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    };
    Some((hook, priority))
}

/// Adds what the text says to `rules`.
pub(crate) fn parse(text: &str, v6: bool, rules: &mut Ruleset) {
    let family = if v6 { Family::Ip6 } else { Family::Ip };
    let mut table: TableKey = (family, String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = (family, format!("{LEGACY}{}", name.trim()));
        } else if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split_whitespace();
            let (Some(chain), Some(policy)) = (words.next(), words.next()) else { continue };
            let short = table.1.strip_prefix(LEGACY).unwrap_or_default().to_owned();
            let hook = hooked(&short, chain).map(|(number, priority)| Hooked {
                kind: if short == "nat" { "nat".into() } else { "filter".into() },
                number,
                priority,
                devices: Vec::new(),
                accepts: policy != "DROP",
            });
            rules.chains.insert(
                (table.clone(), chain.to_owned()),
                Chain { hook, registered: Registered::default(), rules: Vec::new() },
            );
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let words = words(rest);
            let Some(chain) = words.first().and_then(|c| rules.chains.get_mut(&(table.clone(), c.clone())))
            else {
                continue;
            };
            let exprs = Line { words: &words[1..], v6, out: Vec::new(), protocol: 0 }.read();
            // Its number within the chain, by which iptables deletes it.
            let handle = chain.rules.len() as u64 + 1;
            chain.rules.push(Rule { handle, comment: line.to_owned(), exprs });
        }
    }
}

/// Splits at blanks, but not within quotes.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

struct Line<'a> {
    words: &'a [String],
    v6: bool,
    out: Vec<Expr>,
    protocol: u8,
}

impl Line<'_> {
    fn read(mut self) -> Vec<Expr> {
        let mut inverted = false;
        while let Some((word, rest)) = self.words.split_first() {
            self.words = rest;
            if word == "!" {
                inverted = true;
                continue;
            }
            let not = std::mem::take(&mut inverted);
            if self.matched(word, not).is_none() {
                self.out.push(Expr::Other(word.clone()));
            }
        }
        self.out
    }

    fn value(&mut self) -> Option<String> {
        let (value, rest) = self.words.split_first()?;
        self.words = rest;
        Some(value.clone())
    }

    fn matched(&mut self, word: &str, not: bool) -> Option<()> {
        match word {
            "-s" | "--source" => self.address(if self.v6 { 8 } else { 12 }, not)?,
            "-d" | "--destination" => self.address(if self.v6 { 24 } else { 16 }, not)?,
            "-i" => self.link(6, not)?,
            "-o" => self.link(7, not)?,
            "-p" => {
                let name = self.value()?;
                self.protocol = match name.as_str() {
                    "tcp" => 6,
                    "udp" => 17,
                    "icmp" => 1,
                    "ipv6-icmp" | "icmpv6" => 58,
                    "sctp" => 132,
                    "all" => return Some(()),
                    other => other.parse().ok()?,
                };
                self.out.push(Expr::Meta { key: 16, to: 0 });
                self.out.push(Expr::Cmp { from: 0, op: u32::from(not), value: vec![self.protocol] });
            }
            // What a match means follows in its options.
            "-m" => {
                let name = self.value()?;
                MODULES.contains(&name.as_str()).then_some(())?;
            }
            "--dports" | "--destination-ports" => self.listed(PortOf::Destination, not)?,
            "--sports" | "--source-ports" => self.listed(PortOf::Source, not)?,
            "--ports" => self.listed(PortOf::Either, not)?,
            "--ctorigdstport" => {
                let range = range(&self.value()?)?;
                self.out.push(Expr::XtMatch(XtMatch::OriginalPort { range, inverted: not }));
            }
            "--src-range" => self.between(if self.v6 { 8 } else { 12 }, not)?,
            "--dst-range" => self.between(if self.v6 { 24 } else { 16 }, not)?,
            "--mark" => {
                let text = self.value()?;
                let (value, mask) = text.split_once('/').unwrap_or((&text, "0xffffffff"));
                let bytes = |text| number(text).map(|n| n.to_ne_bytes().to_vec());
                self.out.push(Expr::Meta { key: 3, to: 0 });
                self.out.push(Expr::Bitwise { from: 0, to: 0, mask: bytes(mask)?, xor: vec![0; 4] });
                self.out.push(Expr::Cmp { from: 0, op: u32::from(not), value: bytes(value)? });
            }
            "--tcp-flags" => {
                let (mask, value) = (flags(&self.value()?)?, flags(&self.value()?)?);
                self.out.push(Expr::Payload { base: 2, offset: 13, length: 1, to: 0 });
                self.out.push(Expr::Bitwise { from: 0, to: 0, mask: vec![mask], xor: vec![0] });
                self.out.push(Expr::Cmp { from: 0, op: u32::from(not), value: vec![value] });
            }
            "--comment" | "--limit" | "--limit-burst" => drop(self.value()?),
            "--dport" | "--destination-port" => self.ports(false, not)?,
            "--sport" | "--source-port" => self.ports(true, not)?,
            "--ctstate" | "--state" => {
                let mask = self.value()?.split(',').map(state).sum::<Option<u32>>()?;
                self.out.push(Expr::XtMatch(XtMatch::State { mask, inverted: not }));
            }
            "--dst-type" | "--src-type" if !not => {
                let bit = match self.value()?.as_str() {
                    "UNICAST" => 1,
                    "LOCAL" => 2,
                    "BROADCAST" => 3,
                    "MULTICAST" => 5,
                    _ => return None,
                };
                let (source, destination) = if word == "--src-type" { (1 << bit, 0) } else { (0, 1 << bit) };
                self.out.push(Expr::XtMatch(XtMatch::AddressType { source, destination }));
            }
            "-j" | "-g" => self.target(word == "-g")?,
            "-c" => {
                self.value()?;
                self.value()?;
            }
            _ => return None,
        }
        Some(())
    }

    fn address(&mut self, offset: usize, not: bool) -> Option<()> {
        let text = self.value()?;
        let net: IpNet = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
        let (network, mask) = match net {
            IpNet::V4(net) => (net.network().octets().to_vec(), net.netmask().octets().to_vec()),
            IpNet::V6(net) => (net.network().octets().to_vec(), net.netmask().octets().to_vec()),
        };
        let (length, xor) = (mask.len(), vec![0; mask.len()]);
        self.out.push(Expr::Payload { base: 1, offset, length, to: 0 });
        self.out.push(Expr::Bitwise { from: 0, to: 0, mask, xor });
        self.out.push(Expr::Cmp { from: 0, op: u32::from(not), value: network });
        Some(())
    }

    fn link(&mut self, key: u32, not: bool) -> Option<()> {
        let name = self.value()?;
        let value = match name.strip_suffix('+') {
            Some(prefix) => prefix.as_bytes().to_vec(),
            None => weft_sys::nft::expr::ifname(&name),
        };
        self.out.push(Expr::Meta { key, to: 0 });
        self.out.push(Expr::Cmp { from: 0, op: u32::from(not), value });
        Some(())
    }

    fn ports(&mut self, source: bool, not: bool) -> Option<()> {
        let (range, all) = (range(&self.value()?)?, (0, u16::MAX));
        let (protocol, inverted) = (self.protocol, (source && not, !source && not));
        let (source, destination) = if source { (range, all) } else { (all, range) };
        self.out.push(Expr::XtMatch(XtMatch::Ports { protocol, source, destination, inverted }));
        Some(())
    }

    fn listed(&mut self, of: PortOf, not: bool) -> Option<()> {
        let ranges = self.value()?.split(',').map(range).collect::<Option<Vec<_>>>()?;
        self.out.push(Expr::XtMatch(XtMatch::ListedPorts { of, ranges, inverted: not }));
        Some(())
    }

    fn between(&mut self, offset: usize, not: bool) -> Option<()> {
        let text = self.value()?;
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let octets = |text: &str| match text.parse::<IpAddr>().ok()? {
            IpAddr::V4(ip) => Some(ip.octets().to_vec()),
            IpAddr::V6(ip) => Some(ip.octets().to_vec()),
        };
        let (first, last) = (octets(first)?, octets(last)?);
        self.out.push(Expr::Payload { base: 1, offset, length: first.len(), to: 0 });
        self.out.push(Expr::Range { from: 0, inside: !not, first, last });
        Some(())
    }

    fn target(&mut self, goto: bool) -> Option<()> {
        let name = self.value()?;
        let code = |code| Expr::Immediate { to: VERDICT, data: Data::Verdict(code) };
        let expr = match name.as_str() {
            "ACCEPT" => code(Code::Accept),
            "DROP" => code(Code::Drop),
            "RETURN" => code(Code::Return),
            "REJECT" => Expr::XtTarget(XtTarget::Reject),
            "MASQUERADE" => Expr::XtTarget(XtTarget::Masquerade),
            "LOG" | "NFLOG" | "TCPMSS" | "CHECKSUM" | "TRACE" => Expr::Harmless(name),
            "DNAT" | "SNAT" => self.nat(&name),
            "QUEUE" | "NFQUEUE" => Expr::Queue,
            other if other.chars().all(|c| c.is_ascii_uppercase()) && KNOWN.contains(&other) => {
                Expr::XtTarget(XtTarget::Other(name))
            }
            _ if goto => code(Code::Goto(name)),
            _ => code(Code::Jump(name)),
        };
        self.out.push(expr);
        // What follows are the target's own options.
        self.words = &[];
        Some(())
    }

    fn nat(&self, name: &str) -> Expr {
        let option = if name == "DNAT" { "--to-destination" } else { "--to-source" };
        let text = self.words.iter().position(|w| w == option).and_then(|at| self.words.get(at + 1));
        let text = text.map(String::as_str).unwrap_or_default();
        let (ip, port) = match text.parse::<std::net::SocketAddr>() {
            Ok(both) => (Some(both.ip()), Some(both.port())),
            Err(_) => (text.split('-').next().and_then(|t| t.parse().ok()), None),
        };
        Expr::XtTarget(if name == "DNAT" { XtTarget::Destination(ip, port) } else { XtTarget::Source(ip) })
    }
}

/// Matches whose options are read.
const MODULES: &[&str] = &[
    "tcp",
    "udp",
    "icmp",
    "conntrack",
    "state",
    "addrtype",
    "comment",
    "multiport",
    "limit",
    "mark",
    "iprange",
];

/// `80`, `80:90`, `:90`, `80:`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let bound = |text: &str, otherwise| if text.is_empty() { Some(otherwise) } else { text.parse().ok() };
    Some((bound(first, 0)?, bound(last, u16::MAX)?))
}

/// `0x1f` or `31`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Bits of the TCP header by their names (RFC 9293, section 3.1).
fn flags(names: &str) -> Option<u8> {
    names.split(',').try_fold(0, |bits, name| {
        Some(
            bits | match name {
                "FIN" => 1,
                "SYN" => 2,
                "RST" => 4,
                "PSH" => 8,
                "ACK" => 16,
                "URG" => 32,
                "ALL" => 63,
                "NONE" => 0,
                _ => return None,
            },
        )
    })
}

/// Targets of iptables that are no chains, and that decide or change something this does not follow.
const KNOWN: &[&str] =
    &["REDIRECT", "NETMAP", "MARK", "CONNMARK", "TPROXY", "NOTRACK", "CT", "DSCP", "TTL", "SYNPROXY", "TEE"];

fn state(name: &str) -> Option<u32> {
    Some(match name {
        "INVALID" => 1,
        "ESTABLISHED" => 2,
        "RELATED" => 4,
        "NEW" => 8,
        "UNTRACKED" => 64,
        "DNAT" => TRANSLATED,
        _ => return None,
    })
}

/// Tables that are there and cannot be read: a rule that cannot be told stands for all of theirs.
pub(crate) fn unreadable<'a>(
    tables: impl Iterator<Item = &'a str>,
    v6: bool,
    tool: &str,
    rules: &mut Ruleset,
) {
    let family = if v6 { Family::Ip6 } else { Family::Ip };
    for table in tables {
        for chain in ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"] {
            let Some((number, priority)) = hooked(table, chain) else { continue };
            let comment = format!("{tool} is not installed: its rules cannot be read");
            let exprs = vec![
                Expr::Other(tool.to_owned()),
                Expr::Immediate { to: VERDICT, data: Data::Verdict(Code::Drop) },
            ];
            let (kind, devices) = ("filter".to_owned(), Vec::new());
            let hook = Some(Hooked { kind, number, priority, devices, accepts: true });
            let rules_seen = vec![Rule { handle: 0, comment, exprs }];
            let chain_seen = Chain { hook, registered: Registered::default(), rules: rules_seen };
            rules.chains.insert(((family, format!("{LEGACY}{table}")), chain.to_owned()), chain_seen);
        }
    }
}
