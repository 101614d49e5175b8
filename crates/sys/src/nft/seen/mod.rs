//! Everybody's tables as they are in the kernel: chains with their hooks, rules with their expressions, sets with their
//! elements, of all families. For explaining what becomes of a packet; [`super::rules`] is enough for our own table.
//!
//! What this does not know is kept by its name ([`Expr::Other`]), never guessed. The bytes are foreign: the decoders never
//! panic, and leave out what is malformed. Source: `linux/netfilter/nf_tables.h`.

mod decode;
mod expr;
mod xt;

use std::collections::BTreeMap;

use netlink_packet_core::NLM_F_DUMP;

pub use expr::{Code, Data, Expr, NatKind, VERDICT};
pub use xt::{PortOf, TRANSLATED, XtMatch, XtTarget};

use decode::{decode_chain, decode_elements, decode_rule, decode_set, decode_table};
pub(super) use decode::{split, stamp};

use super::SUBSYSTEM;
use crate::netlink::{Channel, Message, NetlinkError, attr::Attrs};

const GETTABLE: u16 = 1;
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

/// When a base chain was registered: later ones have greater values. Tables are numbered as they come, chains within their
/// table, and a chain of ours that came anew in a table that stayed says which tables were there already
/// ([`super::Batch::add_chain`]). Others' chains that were added to an older table are taken for as old as it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registered {
    /// The table's number, or the greatest that was there.
    pub table: u64,
    /// It came after everything that this table has had then.
    pub later: bool,
    /// The chain's number in its table.
    pub chain: u64,
}

/// A chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it hooks in; `None` for one that is jumped to.
    pub hook: Option<Hooked>,
    /// Among base chains of the same hook and priority the kernel asks the one first that was registered last
    /// (`nf_hook_entries_grow`).
    pub registered: Registered,
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

/// What is known of a table itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Table {
    handle: u64,
    /// `NFT_TABLE_F_DORMANT`: its chains are not hooked in.
    dormant: bool,
}

/// The number of the table that came last, of those that are there; 0 when there is none.
///
/// # Errors
/// As the kernel answers.
pub fn last_table(channel: &mut dyn Channel) -> Result<u64, NetlinkError> {
    let answers = channel.query(&dump(GETTABLE, 0, &Attrs::new(), "list tables"))?;
    let tables = answers.iter().filter_map(|(_, body)| decode_table(body));
    Ok(tables.map(|(_, table)| table.handle).max().unwrap_or_default())
}

/// Whether a table of the `inet` family sleeps: its chains are there, and nothing passes by them.
///
/// # Errors
/// As the kernel answers.
pub fn is_dormant(channel: &mut dyn Channel, table: &str) -> Result<bool, NetlinkError> {
    let answers = channel.query(&dump(GETTABLE, Family::Inet.number(), &Attrs::new(), "list tables"))?;
    let mut tables = answers.iter().filter_map(|(_, body)| decode_table(body));
    Ok(tables.any(|((family, name), seen)| family == Family::Inet && name == table && seen.dormant))
}

/// The chains of one table of the `inet` family, without their rules; none when it is not there.
///
/// # Errors
/// As the kernel answers.
pub fn chains_of(channel: &mut dyn Channel, table: &str) -> Result<BTreeMap<String, Chain>, NetlinkError> {
    let answers = match channel.query(&dump(GETCHAIN, Family::Inet.number(), &Attrs::new(), "list chains")) {
        Ok(answers) => answers,
        Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let chains = answers.iter().filter_map(|(_, body)| decode_chain(body));
    let of = |key: &TableKey| key.0 == Family::Inet && key.1 == table;
    Ok(chains.filter(|((key, _), _)| of(key)).map(|((_, name), chain)| (name, chain)).collect())
}

/// Reads everything. What others remove while it is read is left out.
///
/// # Errors
/// As the kernel answers.
pub fn ruleset(channel: &mut dyn Channel) -> Result<Ruleset, NetlinkError> {
    let mut all = Ruleset::default();
    let tables: BTreeMap<TableKey, Table> = channel
        .query(&dump(GETTABLE, 0, &Attrs::new(), "list tables"))?
        .iter()
        .filter_map(|(_, body)| decode_table(body))
        .collect();
    for (_, body) in channel.query(&dump(GETCHAIN, 0, &Attrs::new(), "list chains"))? {
        let Some((key, mut chain)) = decode_chain(&body) else { continue };
        let table = tables.get(&key.0).copied().unwrap_or_default();
        if chain.registered.table < table.handle {
            (chain.registered.table, chain.registered.later) = (table.handle, false);
        }
        if table.dormant {
            chain.hook = None;
        }
        all.chains.insert(key, chain);
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

#[cfg(test)]
#[path = "../seen_tests.rs"]
mod tests;
