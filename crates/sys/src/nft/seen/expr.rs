//! Expressions of rules, decoded. Registers are told by the offset of their first byte in the 64 bytes there are: the kernel
//! numbers four of sixteen bytes from 1, and sixteen of four bytes from 8, over the same memory.

use super::{
    decode::{length, text, word},
    xt::{XtMatch, XtTarget},
};
use crate::netlink::attr;

/// What becomes of the packet, or where it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// The end.
    Drop,
    /// On to the next base chain.
    Accept,
    /// Taken out of the kernel's hands.
    Stolen,
    /// To a program.
    Queue,
    /// The next rule.
    Continue,
    /// The next rule, from within a rule.
    Break,
    /// Into another chain, and back.
    Jump(String),
    /// Into another chain.
    Goto(String),
    /// Back to where the jump was.
    Return,
}

/// A value: bytes, or a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Bytes.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Code),
}

impl Data {
    pub(in crate::nft) fn decode(attributes: &[u8]) -> Option<Self> {
        if let Some(value) = attr::find(attributes, 1) {
            return Some(Self::Value(value.to_vec()));
        }
        let verdict = attr::find(attributes, 2)?;
        let chain = || text(verdict, 2);
        Some(Self::Verdict(match word(verdict, 1)?.cast_signed() {
            0 => Code::Drop,
            1 => Code::Accept,
            2 => Code::Stolen,
            -1 => Code::Continue,
            -2 => Code::Break,
            -3 => Code::Jump(chain()?),
            -4 => Code::Goto(chain()?),
            -5 => Code::Return,
            // The upper half is the queue's number.
            other if other & 0xff == 3 => Code::Queue,
            _ => return None,
        }))
    }
}

/// Kinds of translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// Source to what is in registers.
    Source,
    /// Destination to what is in registers.
    Destination,
    /// Source to the address of the interface it leaves by.
    Masquerade,
    /// Destination to this host.
    Redirect,
}

/// One expression. `to` and `from` are registers, as offsets in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are those of nf_tables.h")]
pub enum Expr {
    /// Loads context (`NFT_META_*`).
    Meta { key: u32, to: usize },
    /// Sets context.
    SetMeta { key: u32, from: usize },
    /// Loads the connection's record (`NFT_CT_*`); direction 0 is the original's.
    Ct { key: u32, direction: Option<u8>, to: usize },
    /// Sets the connection's record.
    SetCt { key: u32, from: usize },
    /// Loads bytes of the packet: base 0 link, 1 network, 2 transport.
    Payload { base: u32, offset: usize, length: usize, to: usize },
    /// Changes bytes of the packet, of the header that [`Expr::Payload`] calls so.
    SetPayload { base: u32 },
    /// Asks the routes: result 1 interface, 2 its name, 3 type of address.
    Fib { flags: u32, result: u32, to: usize },
    /// Goes on if it compares: 0 ==, 1 !=, 2 <, 3 <=, 4 >, 5 >=.
    Cmp { from: usize, op: u32, value: Vec<u8> },
    /// Goes on if it lies between, ends included, or does not.
    Range { from: usize, inside: bool, first: Vec<u8>, last: Vec<u8> },
    /// Masks and flips bits.
    Bitwise { from: usize, to: usize, mask: Vec<u8>, xor: Vec<u8> },
    /// Swaps bytes of each value of `size`.
    Byteorder { from: usize, to: usize, length: usize, size: usize },
    /// Looks up in a set; `to` for a map's data, [`VERDICT`] for its verdict.
    Lookup { set: String, from: usize, to: Option<usize>, inverted: bool },
    /// Loads a value, or is a verdict.
    Immediate { to: usize, data: Data },
    /// Has counted so much.
    Counter { packets: u64, bytes: u64 },
    /// Translates.
    Nat { kind: NatKind, address: Option<usize>, port: Option<usize> },
    /// Sends it by an interface, whose number is in the register.
    Forward { device: usize },
    /// Drops, and says so to the sender.
    Reject,
    /// Goes on while there is not too much (`over`: only if there is).
    Limit { over: bool },
    /// Writes to the log.
    Log,
    /// Leaves the packet to no connection.
    Notrack,
    /// Hands to a program.
    Queue,
    /// Nothing that decides: statistics, adding to sets, offloading, copies.
    Harmless(String),
    /// A match of iptables.
    XtMatch(XtMatch),
    /// A target of iptables.
    XtTarget(XtTarget),
    /// What is not understood, by its name.
    Other(String),
}

/// The register of verdicts.
pub const VERDICT: usize = usize::MAX;

/// A register's number as an offset.
fn register(attributes: &[u8], kind: u16) -> Option<usize> {
    Some(match word(attributes, kind)? {
        0 => VERDICT,
        n @ 1..=4 => usize::try_from(n - 1).ok()? * 16,
        n @ 8..=23 => usize::try_from(n - 8).ok()? * 4,
        _ => return None,
    })
}

fn value(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    attr::find(attributes, kind).and_then(|data| attr::find(data, 1)).map(<[u8]>::to_vec)
}

fn wide(attributes: &[u8], kind: u16) -> u64 {
    let bytes = attr::find(attributes, kind).and_then(|b| b.get(..8)?.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}

impl Expr {
    /// Never fails: what cannot be read is [`Expr::Other`].
    #[must_use]
    pub fn decode(attributes: &[u8]) -> Self {
        let name = text(attributes, 1).unwrap_or_default();
        let data = attr::find(attributes, 2).unwrap_or_default();
        Self::load(&name, data)
            .or_else(|| Self::compare(&name, data))
            .or_else(|| Self::act(&name, data))
            .unwrap_or(Self::Other(name))
    }

    fn load(name: &str, a: &[u8]) -> Option<Self> {
        Some(match name {
            "meta" => match (register(a, 1), word(a, 2)?) {
                (Some(to), key) => Self::Meta { key, to },
                (None, key) => Self::SetMeta { key, from: register(a, 3)? },
            },
            "ct" => match (register(a, 1), word(a, 2)?) {
                (Some(to), key) => {
                    Self::Ct { key, direction: attr::find(a, 3).and_then(|d| d.first().copied()), to }
                }
                (None, key) => Self::SetCt { key, from: register(a, 4)? },
            },
            "payload" => match register(a, 1) {
                None => Self::SetPayload { base: word(a, 2)? },
                Some(to) => {
                    Self::Payload { base: word(a, 2)?, offset: length(a, 3)?, length: length(a, 4)?, to }
                }
            },
            "fib" => Self::Fib { to: register(a, 1)?, result: word(a, 2)?, flags: word(a, 3)? },
            "immediate" => Self::Immediate { to: register(a, 1)?, data: Data::decode(attr::find(a, 2)?)? },
            _ => return None,
        })
    }

    fn compare(name: &str, a: &[u8]) -> Option<Self> {
        Some(match name {
            "cmp" => Self::Cmp { from: register(a, 1)?, op: word(a, 2)?, value: value(a, 3)? },
            "range" => Self::Range {
                from: register(a, 1)?,
                inside: word(a, 2)? == 0,
                first: value(a, 3)?,
                last: value(a, 4)?,
            },
            // Shifts (operations 1 and 2) are left to `Other`.
            "bitwise" if word(a, 6).unwrap_or(0) == 0 => Self::Bitwise {
                from: register(a, 1)?,
                to: register(a, 2)?,
                mask: value(a, 4)?,
                xor: value(a, 5)?,
            },
            "byteorder" => Self::Byteorder {
                from: register(a, 1)?,
                to: register(a, 2)?,
                length: length(a, 4)?,
                size: length(a, 5)?,
            },
            "lookup" => Self::Lookup {
                set: text(a, 1)?,
                from: register(a, 2)?,
                to: register(a, 3),
                inverted: word(a, 5).unwrap_or(0) & 1 != 0,
            },
            "limit" => Self::Limit { over: word(a, 5).unwrap_or(0) & 1 != 0 },
            // How many connections there are is not counted here.
            "connlimit" => Self::Other("ct count".into()),
            "match" => Self::XtMatch(XtMatch::decode(&text(a, 1)?, word(a, 2)?, attr::find(a, 3)?)),
            _ => return None,
        })
    }

    fn meter(a: &[u8]) -> Option<Self> {
        let one = attr::find(a, 7)?;
        let (name, data) = (text(one, 1)?, attr::find(one, 2)?);
        matches!(name.as_str(), "limit" | "connlimit").then(|| Self::compare(&name, data)).flatten()
    }

    fn act(name: &str, a: &[u8]) -> Option<Self> {
        let nat =
            |kind, address, port| Self::Nat { kind, address: register(a, address), port: register(a, port) };
        Some(match name {
            "counter" => Self::Counter { bytes: wide(a, 1), packets: wide(a, 2) },
            "nat" if word(a, 1)? == 0 => nat(NatKind::Source, 3, 5),
            "nat" => nat(NatKind::Destination, 3, 5),
            // 99 is no attribute: these have no address of their own.
            "masq" => nat(NatKind::Masquerade, 99, 2),
            "redir" => nat(NatKind::Redirect, 99, 1),
            "reject" => Self::Reject,
            // With an address (2) it goes to a neighbour.
            "fwd" if attr::find(a, 2).is_none() => Self::Forward { device: register(a, 1)? },
            "log" => Self::Log,
            "notrack" => Self::Notrack,
            "queue" => Self::Queue,
            // A meter: a limit for each value.
            "dynset" if Self::meter(a).is_some() => Self::meter(a)?,
            "objref" | "dynset" | "flow_offload" | "dup" | "last" => Self::Harmless(name.to_owned()),
            "target" => Self::XtTarget(XtTarget::decode(&text(a, 1)?, word(a, 2)?, attr::find(a, 3)?)),
            _ => return None,
        })
    }
}
