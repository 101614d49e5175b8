//! Everybody's tables as they are in the kernel: chains with their hooks, rules with their expressions, sets with their
//! elements, of all families. For explaining what becomes of a packet; [`super::rules`] is enough for our own table.
//!
//! What this does not know is kept by its name ([`Expr::Other`]), never guessed. The bytes are foreign: the decoders never
//! panic, and leave out what is malformed. Source: `linux/netfilter/nf_tables.h`.

mod expr;
mod xt;

use std::collections::BTreeMap;

use netlink_packet_core::NLM_F_DUMP;

pub use expr::{Code, Data, Expr, NatKind, VERDICT};
pub use xt::{TRANSLATED, XtMatch, XtTarget};

use super::SUBSYSTEM;
use crate::netlink::{
    Channel, Message, NetlinkError,
    attr::{self, Attrs},
};

const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const GETSET: u16 = 10;
const GETSETELEM: u16 = 13;

/// Families, as `nft` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames in a bridge.
    Bridge,
    /// What an interface receives or sends.
    Netdev,
    /// ARP.
    Arp,
}

impl Family {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Inet,
            2 => Self::Ip,
            3 => Self::Arp,
            5 => Self::Netdev,
            7 => Self::Bridge,
            10 => Self::Ip6,
            _ => return None,
        })
    }

    /// `NFPROTO_*`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Netdev => 5,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }

    /// The word of `nft`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
            Self::Arp => "arp",
        }
    }
}

/// A table, by family and name.
pub type TableKey = (Family, String);

/// A base chain's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooked {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// `enum nf_inet_hooks`, or of the family's own.
    pub number: u32,
    /// Lower is earlier.
    pub priority: i32,
    /// Interfaces it is bound to; empty for all.
    pub devices: Vec<String>,
    /// What its end means: false drops.
    pub accepts: bool,
}

/// A chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it hooks in; `None` for one that is jumped to.
    pub hook: Option<Hooked>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What `nft delete rule` names it by.
    pub handle: u64,
    /// Its comment; empty when it has none.
    pub comment: String,
    /// What it does, in order.
    pub exprs: Vec<Expr>,
}

/// An element of a set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The key, or the first of a range; fields of a concatenation padded to four bytes.
    pub key: Vec<u8>,
    /// Last of a range, in sets of concatenated ranges.
    pub key_end: Option<Vec<u8>>,
    /// What it maps to.
    pub data: Option<Data>,
    /// The first key after an interval.
    pub end: bool,
    /// Stands for everything that has no element.
    pub catch_all: bool,
}

/// A set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// `NFT_SET_*`.
    pub flags: u32,
    /// Bytes of a key.
    pub key_length: usize,
    /// Bytes of each field of a concatenation, where it is one with ranges.
    pub fields: Vec<usize>,
    /// nftables' number of the key's type.
    pub key_type: u32,
    /// Elements.
    pub elements: Vec<Element>,
}

impl Set {
    /// `NFT_SET_ANONYMOUS`: written inside a rule.
    #[must_use]
    pub const fn anonymous(&self) -> bool {
        self.flags & 1 != 0
    }

    /// `NFT_SET_INTERVAL`.
    #[must_use]
    pub const fn interval(&self) -> bool {
        self.flags & 4 != 0
    }

    /// `NFT_SET_MAP`.
    #[must_use]
    pub const fn map(&self) -> bool {
        self.flags & 8 != 0
    }
}

/// Everything of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Chains by table and name.
    pub chains: BTreeMap<(TableKey, String), Chain>,
    /// Sets by table and name.
    pub sets: BTreeMap<(TableKey, String), Set>,
}

fn dump(kind: u16, family: u8, attrs: &Attrs, what: &str) -> Message {
    let mut body = vec![family, 0, 0, 0];
    body.extend_from_slice(attrs.as_bytes());
    Message { kind: SUBSYSTEM | kind, flags: NLM_F_DUMP, body, tolerate: &[], what: what.to_owned() }
}

/// Reads everything. What others remove while it is read is left out.
///
/// # Errors
/// As the kernel answers.
pub fn ruleset(channel: &mut dyn Channel) -> Result<Ruleset, NetlinkError> {
    let mut all = Ruleset::default();
    for (_, body) in channel.query(&dump(GETCHAIN, 0, &Attrs::new(), "list chains"))? {
        if let Some((key, chain)) = decode_chain(&body) {
            all.chains.insert(key, chain);
        }
    }
    for (_, body) in channel.query(&dump(GETRULE, 0, &Attrs::new(), "list rules"))? {
        if let Some((key, rule)) = decode_rule(&body)
            && let Some(chain) = all.chains.get_mut(&key)
        {
            chain.rules.push(rule);
        }
    }
    for (_, body) in channel.query(&dump(GETSET, 0, &Attrs::new(), "list sets"))? {
        if let Some((key, set)) = decode_set(&body) {
            all.sets.insert(key, set);
        }
    }
    for (((family, table), name), set) in &mut all.sets {
        let attrs = Attrs::new().text(1, table).text(2, name);
        match channel.query(&dump(GETSETELEM, family.number(), &attrs, "list a set")) {
            Ok(answers) => {
                set.elements = answers.iter().flat_map(|(_, body)| decode_elements(body)).collect()
            }
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The rules of one table of the `inet` family, each with its chain; none when it is not there.
///
/// # Errors
/// As the kernel answers.
pub fn ruleset_of(channel: &mut dyn Channel, table: &str) -> Result<Vec<(String, Rule)>, NetlinkError> {
    let attrs = Attrs::new().text(1, table);
    let answers = match channel.query(&dump(GETRULE, Family::Inet.number(), &attrs, "list rules")) {
        Ok(answers) => answers,
        Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let rules = answers.iter().filter_map(|(_, body)| decode_rule(body));
    Ok(rules.filter(|(((_, of), _), _)| of == table).map(|((_, chain), rule)| (chain, rule)).collect())
}

/// Family and attributes of an answer.
pub(super) fn split(body: &[u8]) -> Option<(Family, &[u8])> {
    Some((Family::of(*body.first()?)?, body.get(4..)?))
}

fn text(attributes: &[u8], kind: u16) -> Option<String> {
    attr::find(attributes, kind).and_then(attr::as_text).map(str::to_owned)
}

fn word(attributes: &[u8], kind: u16) -> Option<u32> {
    attr::find(attributes, kind).and_then(attr::as_be32)
}

fn length(attributes: &[u8], kind: u16) -> Option<usize> {
    word(attributes, kind).and_then(|n| usize::try_from(n).ok())
}

fn decode_chain(body: &[u8]) -> Option<((TableKey, String), Chain)> {
    let (family, attributes) = split(body)?;
    let hook = attr::find(attributes, 4).and_then(|hook| {
        let devices = attr::find(hook, 4).map(attr::read).into_iter().flatten();
        let mut devices: Vec<String> =
            devices.filter_map(|(_, name)| attr::as_text(name).map(str::to_owned)).collect();
        devices.extend(text(hook, 3).filter(|d| !d.is_empty() && !devices.contains(d)));
        Some(Hooked {
            kind: text(attributes, 7).unwrap_or_default(),
            number: word(hook, 1)?,
            priority: word(hook, 2)?.cast_signed(),
            devices,
            accepts: word(attributes, 5) != Some(0),
        })
    });
    Some((((family, text(attributes, 1)?), text(attributes, 3)?), Chain { hook, rules: Vec::new() }))
}

fn decode_rule(body: &[u8]) -> Option<((TableKey, String), Rule)> {
    let (family, attributes) = split(body)?;
    let handle = attr::find(attributes, 3)?.get(..8)?.try_into().ok().map(u64::from_be_bytes)?;
    let comment = attr::find(attributes, 7).and_then(super::dump::comment).unwrap_or_default();
    let exprs = attr::find(attributes, 4).map(attr::read).into_iter().flatten();
    let exprs = exprs.map(|(_, expr)| Expr::decode(expr)).collect();
    Some((((family, text(attributes, 1)?), text(attributes, 2)?), Rule { handle, comment, exprs }))
}

fn decode_set(body: &[u8]) -> Option<((TableKey, String), Set)> {
    let (family, attributes) = split(body)?;
    // NFTA_SET_DESC, NFTA_SET_DESC_CONCAT, a list of NFTA_SET_FIELD_LEN.
    let concat = attr::find(attributes, 9).and_then(|desc| attr::find(desc, 2)).map(attr::read);
    let fields = concat.into_iter().flatten().filter_map(|(_, field)| length(field, 1)).collect();
    let set = Set {
        flags: word(attributes, 3).unwrap_or_default(),
        key_length: length(attributes, 5)?,
        key_type: word(attributes, 4).unwrap_or_default(),
        fields,
        elements: Vec::new(),
    };
    Some((((family, text(attributes, 1)?), text(attributes, 2)?), set))
}

fn decode_elements(body: &[u8]) -> Vec<Element> {
    let list = body.get(4..).and_then(|attributes| attr::find(attributes, 3)).unwrap_or_default();
    attr::read(list).filter_map(|(_, element)| decode_element(element)).collect()
}

fn decode_element(attributes: &[u8]) -> Option<Element> {
    let flags = word(attributes, 3).unwrap_or_default();
    let value = |kind| attr::find(attributes, kind).and_then(|key| attr::find(key, 1)).map(<[u8]>::to_vec);
    let catch_all = flags & 2 != 0;
    Some(Element {
        key: value(1).or(catch_all.then(Vec::new))?,
        key_end: value(10),
        data: attr::find(attributes, 2).and_then(Data::decode),
        end: flags & 1 != 0,
        catch_all,
    })
}

#[cfg(test)]
#[path = "../seen_tests.rs"]
mod tests;
