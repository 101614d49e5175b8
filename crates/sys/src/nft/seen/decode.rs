//! What the kernel tells of tables, chains, rules and sets, decoded. The bytes are foreign.

use super::{Chain, Data, Element, Expr, Family, Hooked, Registered, Rule, Set, Table, TableKey};
use crate::netlink::attr;

/// What the comment of a chain says before the number of the table that came last when it was made.
const STAMP: &str = "after table handle ";

/// User data of a chain: a comment (`NFTNL_UDATA_CHAIN_COMMENT`), ended by a zero byte.
pub(in crate::nft) fn stamp(last_table: u64) -> Vec<u8> {
    let text = format!("{STAMP}{last_table}\0");
    [&[0, u8::try_from(text.len()).unwrap_or(u8::MAX)], text.as_bytes()].concat()
}

fn stamped(udata: &[u8]) -> Option<u64> {
    crate::nft::dump::comment(udata)?.strip_prefix(STAMP)?.parse().ok()
}

fn wide(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

pub(super) fn decode_table(body: &[u8]) -> Option<(TableKey, Table)> {
    let (family, attributes) = split(body)?;
    let handle = attr::find(attributes, 4).and_then(wide)?;
    let dormant = word(attributes, 2).unwrap_or_default() & 1 != 0;
    Some(((family, text(attributes, 1)?), Table { handle, dormant }))
}

/// Family and attributes of an answer.
pub(in crate::nft) fn split(body: &[u8]) -> Option<(Family, &[u8])> {
    Some((Family::of(*body.first()?)?, body.get(4..)?))
}

pub(super) fn text(attributes: &[u8], kind: u16) -> Option<String> {
    attr::find(attributes, kind).and_then(attr::as_text).map(str::to_owned)
}

pub(super) fn word(attributes: &[u8], kind: u16) -> Option<u32> {
    attr::find(attributes, kind).and_then(attr::as_be32)
}

pub(super) fn length(attributes: &[u8], kind: u16) -> Option<usize> {
    word(attributes, kind).and_then(|n| usize::try_from(n).ok())
}

pub(super) fn decode_chain(body: &[u8]) -> Option<((TableKey, String), Chain)> {
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
    let chain = attr::find(attributes, 2).and_then(wide).unwrap_or_default();
    let seen = attr::find(attributes, 12).and_then(stamped);
    let registered = Registered { table: seen.unwrap_or_default(), later: seen.is_some(), chain };
    Some((
        ((family, text(attributes, 1)?), text(attributes, 3)?),
        Chain { hook, registered, rules: Vec::new() },
    ))
}

pub(super) fn decode_rule(body: &[u8]) -> Option<((TableKey, String), Rule)> {
    let (family, attributes) = split(body)?;
    let handle = attr::find(attributes, 3).and_then(wide)?;
    let comment = attr::find(attributes, 7).and_then(crate::nft::dump::comment).unwrap_or_default();
    let exprs = attr::find(attributes, 4).map(attr::read).into_iter().flatten();
    let exprs = exprs.map(|(_, expr)| Expr::decode(expr)).collect();
    Some((((family, text(attributes, 1)?), text(attributes, 2)?), Rule { handle, comment, exprs }))
}

pub(super) fn decode_set(body: &[u8]) -> Option<((TableKey, String), Set)> {
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

pub(super) fn decode_elements(body: &[u8]) -> Vec<Element> {
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
