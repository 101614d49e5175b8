//! nftables by netlink: a compact codec for tables, chains, rules, sets and maps, and batches that the kernel takes whole or not
//! at all. No `nft` process is started; the crates that speak this protocol are GPL or start one.
//!
//! ```text
//!  BATCH_BEGIN  NEWTABLE NEWCHAIN… NEWSET… NEWSETELEM… NEWRULE…  BATCH_END      one sendmsg, one commit
//! ```
//!
//! A rule carries a comment that ends in a digest of its expressions, so that what is in the kernel can be compared with
//! what should be without decoding expressions, and `nft list ruleset` shows people what each rule is for.
//! Source: `linux/netfilter/nf_tables.h`, `nfnetlink.h`, and libnftnl's user data (`udata.h`) for comments.

mod dump;
pub mod expr;
pub mod seen;
mod set;
pub mod trace;

pub use dump::{Element, Names, RuleSeen, counters, elements, names, netdev_chains, netdev_rules, rules};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
pub use set::{Field, Set, Shape};

use crate::netlink::{Message, attr::Attrs};

pub(crate) const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
pub(crate) const NEWTABLE: u16 = 0;
pub(crate) const DELTABLE: u16 = 2;
pub(crate) const NEWCHAIN: u16 = 3;
pub(crate) const GETCHAIN: u16 = 4;
pub(crate) const DELCHAIN: u16 = 5;
pub(crate) const NEWRULE: u16 = 6;
pub(crate) const GETRULE: u16 = 7;
pub(crate) const DELRULE: u16 = 8;
pub(crate) const NEWSET: u16 = 9;
pub(crate) const GETSET: u16 = 10;
pub(crate) const DELSET: u16 = 11;
pub(crate) const NEWSETELEM: u16 = 12;
pub(crate) const GETSETELEM: u16 = 13;
pub(crate) const DELSETELEM: u16 = 14;
/// `NFPROTO_INET`: IPv4 and IPv6 in one table.
const INET: u8 = 1;
/// `NFPROTO_NETDEV`: what comes in by an interface, before any protocol sees it.
const NETDEV: u8 = 5;

/// Where a base chain hooks in (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum HookPoint {
    /// Everything that arrives.
    Prerouting = 0,
    /// What is for this host.
    Input = 1,
    /// What is for others.
    Forward = 2,
    /// What this host sends.
    Output = 3,
    /// Everything that leaves.
    Postrouting = 4,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where.
    pub point: HookPoint,
    /// Order among base chains of one hook; lower is earlier.
    pub priority: i32,
}

/// A batch on one table, of the `inet` family unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Batch {
    family: u8,
    table: String,
    messages: Vec<Message>,
    sets: u32,
    /// User data of base chains.
    stamp: Option<Vec<u8>>,
}

/// A request on the `inet` family.
pub(crate) fn request(kind: u16, flags: u16, attrs: &Attrs, what: String) -> Message {
    request_of(INET, kind, flags, attrs, what)
}

fn request_of(family: u8, kind: u16, flags: u16, attrs: &Attrs, what: String) -> Message {
    let mut body = vec![family, 0, 0, 0];
    body.extend_from_slice(attrs.as_bytes());
    Message { kind: SUBSYSTEM | kind, flags, body, tolerate: &[], what }
}

impl Batch {
    /// Nothing to do yet.
    #[must_use]
    pub fn new(table: &str) -> Self {
        Self { family: INET, table: table.to_owned(), messages: Vec::new(), sets: 0, stamp: None }
    }

    /// On a table of the `netdev` family, whose base chains hang on an interface ([`Batch::add_ingress`]).
    #[must_use]
    pub fn netdev(table: &str) -> Self {
        Self { family: NETDEV, ..Self::new(table) }
    }

    fn push(&mut self, kind: u16, flags: u16, attrs: &Attrs, what: String) {
        self.messages.push(request_of(self.family, kind, flags, attrs, what));
    }

    /// Makes the table if it is not there.
    pub fn add_table(&mut self) {
        let what = format!("add table {}", self.table);
        self.push(NEWTABLE, NLM_F_CREATE, &Attrs::new().text(1, &self.table), what);
    }

    /// Ends the table's sleep (`NFT_TABLE_F_DORMANT`); it must be there. A batch of its own: since Linux 6.9 base chains may not
    /// be added in one that changes this.
    pub fn wake_table(&mut self) {
        let what = format!("wake table {}", self.table);
        self.push(NEWTABLE, 0, &Attrs::new().text(1, &self.table).be32(2, 0), what);
    }

    /// Makes a table that only this socket can change, and that ends with it (`NFT_TABLE_F_OWNER`, Linux 5.12).
    pub fn add_owned_table(&mut self) {
        let what = format!("add table {} as its owner", self.table);
        self.push(NEWTABLE, NLM_F_CREATE, &Attrs::new().text(1, &self.table).be32(2, 2), what);
    }

    /// Removes the table with all in it; it must be there.
    pub fn delete_table(&mut self) {
        let what = format!("delete table {}", self.table);
        self.push(DELTABLE, 0, &Attrs::new().text(1, &self.table), what);
    }

    /// Takes all rules of chains away; they must be there.
    pub fn flush_chains<'a>(&mut self, chains: impl IntoIterator<Item = &'a String>) {
        for chain in chains {
            let attrs = Attrs::new().text(1, &self.table).text(2, chain);
            self.push(DELRULE, 0, &attrs, format!("flush chain {chain}"));
        }
    }

    /// Removes chains and sets with all in them; they must be there. Rules go first, for they hold sets and chains; then
    /// elements, for verdicts hold chains.
    pub fn delete(&mut self, names: &Names) {
        let table = self.table.clone();
        let named = |at, name: &str| Attrs::new().text(1, &table).text(at, name);
        self.flush_chains(&names.chains);
        for set in &names.sets {
            self.push(DELSETELEM, 0, &named(2, set), format!("flush set {set}"));
        }
        for set in &names.sets {
            self.push(DELSET, 0, &named(2, set), format!("delete set {set}"));
        }
        for chain in &names.chains {
            self.push(DELCHAIN, 0, &named(3, chain), format!("delete chain {chain}"));
        }
    }

    /// Base chains that follow say in their comment which table was the last when they came ([`seen::last_table`]): of chains
    /// that come anew in a table that stays, nothing else tells how old they are ([`seen::Registered`]).
    pub fn stamp(&mut self, last_table: u64) {
        self.stamp = Some(seen::stamp(last_table));
    }

    /// Takes all elements of a set away.
    pub fn flush_set(&mut self, set: &Set) {
        let attrs = Attrs::new().text(1, &self.table).text(2, set.name);
        self.push(DELSETELEM, 0, &attrs, format!("flush set {}", set.name));
    }

    /// A chain; with a hook, a base chain whose policy is to accept.
    pub fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        let mut attrs = Attrs::new().text(1, &self.table).text(3, name);
        if let Some(hook) = hook {
            let point = Attrs::new().be32(1, hook.point as u32).be32(2, hook.priority.cast_unsigned());
            attrs = attrs.nest(4, &point).be32(5, 1).text(7, hook.kind);
            // NFTA_CHAIN_USERDATA, which kernels before 5.9 ignore.
            attrs = self.stamp.iter().fold(attrs, |attrs, stamp| attrs.bytes(12, stamp));
        }
        self.push(NEWCHAIN, NLM_F_CREATE, &attrs, format!("add chain {name}"));
    }

    /// A base chain that sees what comes in by an interface, whose name it has. Before Linux 6.16 it ends with the interface.
    pub fn add_ingress(&mut self, device: &str) {
        // NF_NETDEV_INGRESS is 0; NFTA_HOOK_DEV is 3.
        let point = Attrs::new().be32(1, 0).be32(2, 0).text(3, device);
        let attrs = Attrs::new().text(1, &self.table).text(3, device).nest(4, &point).be32(5, 1);
        self.push(NEWCHAIN, NLM_F_CREATE, &attrs.text(7, "filter"), format!("add ingress chain {device}"));
    }

    /// A rule at the end of a chain. Gives back its tag, as [`rules`] will report it.
    pub fn add_rule(&mut self, chain: &str, comment: &str, exprs: &[expr::Expr]) -> String {
        let list = exprs.iter().fold(Attrs::new(), |list, e| list.nest(1, &e.encode()));
        let tag = format!("{comment} #{:08x}", fnv(list.as_bytes()));
        // Type 0 is the comment; a zero byte ends it (libnftnl's `NFTNL_UDATA_RULE_COMMENT`).
        let mut udata = vec![0u8, u8::try_from(tag.len() + 1).unwrap_or(u8::MAX)];
        udata.extend_from_slice(tag.as_bytes());
        udata.push(0);
        let attrs = Attrs::new().text(1, &self.table).text(2, chain).nest(4, &list).bytes(7, &udata);
        self.push(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &attrs, format!("add rule {chain}: {comment}"));
        tag
    }

    /// A set or map.
    pub fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let attrs = set.encode(&self.table, self.sets);
        self.push(NEWSET, NLM_F_CREATE, &attrs, format!("add set {}", set.name));
    }

    /// Elements of a set or map: key and, for maps, what it maps to.
    pub fn add_elements(&mut self, set: &Set, elements: &[Element]) {
        for chunk in elements.chunks(CHUNK) {
            let attrs = set.encode_elements(&self.table, chunk);
            self.push(NEWSETELEM, NLM_F_CREATE, &attrs, format!("add to set {}", set.name));
        }
    }

    /// Takes elements away; they must be there.
    pub fn delete_elements(&mut self, set: &Set, elements: &[Element]) {
        for chunk in elements.chunks(CHUNK) {
            let attrs = set.encode_elements(&self.table, chunk);
            self.push(DELSETELEM, 0, &attrs, format!("remove from set {}", set.name));
        }
    }

    /// The messages, between a batch's begin and end.
    #[must_use]
    pub fn finish(self) -> Vec<Message> {
        let begin = edge(BATCH_BEGIN, "begin nftables batch");
        let end = edge(BATCH_END, "commit nftables batch");
        std::iter::once(begin).chain(self.messages).chain(std::iter::once(end)).collect()
    }
}

/// Begin or end of a batch: `struct nfgenmsg` with the subsystem, in network order, as resource id.
fn edge(kind: u16, what: &str) -> Message {
    Message { kind, flags: 0, body: vec![0, 0, 0, 10], tolerate: &[], what: what.to_owned() }
}

/// A list attribute holds less than 64 KiB; the longest element here takes about 140 bytes.
const CHUNK: usize = 200;

/// FNV-1a, 32 bits.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}
