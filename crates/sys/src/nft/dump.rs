//! What is in the kernel: the rules' tags and the sets' elements.

use netlink_packet_core::NLM_F_DUMP;

use super::{GETCHAIN, GETRULE, GETSET, GETSETELEM, INET, NETDEV, Set, request, request_of};
use crate::netlink::{
    Channel, NetlinkError,
    attr::{self, Attrs},
};

/// An element of a set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The key, each field of a concatenation padded to four bytes.
    pub key: Vec<u8>,
    /// The last key, where the element is a range of concatenations; empty else.
    pub key_end: Vec<u8>,
    /// What it maps to; empty for sets and verdicts.
    pub data: Vec<u8>,
    /// The chain it jumps to.
    pub jump: Option<String>,
    /// This key is the first one after an interval.
    pub end: bool,
    /// Of a counted verdict: the packet goes on (`return`), else it is dropped.
    pub passes: bool,
    /// What all keys map to that the map does not have; it has no key itself.
    pub catchall: bool,
}

/// A rule as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSeen {
    /// Its chain.
    pub chain: String,
    /// Its comment; empty when it has none.
    pub tag: String,
}

/// The rules of a table in their order; `None` when there is no such table.
///
/// # Errors
/// As the kernel answers.
pub fn rules(channel: &mut dyn Channel, table: &str) -> Result<Option<Vec<RuleSeen>>, NetlinkError> {
    rules_of(channel, INET, table)
}

/// The same of a table of the `netdev` family.
///
/// # Errors
/// As the kernel answers.
pub fn netdev_rules(channel: &mut dyn Channel, table: &str) -> Result<Vec<RuleSeen>, NetlinkError> {
    Ok(rules_of(channel, NETDEV, table)?.unwrap_or_default())
}

fn rules_of(
    channel: &mut dyn Channel,
    family: u8,
    table: &str,
) -> Result<Option<Vec<RuleSeen>>, NetlinkError> {
    let what = format!("list rules of table {table}");
    let attrs = Attrs::new().text(1, table);
    let answers = match channel.query(&request_of(family, GETRULE, NLM_F_DUMP, &attrs, what)) {
        Ok(answers) => answers,
        Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let of = |body: &&Vec<u8>| body.first() == Some(&family);
    let bodies = answers.iter().map(|(_, body)| body).filter(of);
    let rules: Vec<RuleSeen> = bodies.filter_map(|body| decode_rule(body, table)).collect();
    Ok((!rules.is_empty()).then_some(rules))
}

fn decode_rule(body: &[u8], table: &str) -> Option<RuleSeen> {
    let attributes = body.get(4..)?;
    if attr::as_text(attr::find(attributes, 1)?)? != table {
        return None;
    }
    let chain = attr::as_text(attr::find(attributes, 2)?)?.to_owned();
    let tag = attr::find(attributes, 7).and_then(comment).unwrap_or_default();
    Some(RuleSeen { chain, tag })
}

pub(super) fn comment(udata: &[u8]) -> Option<String> {
    let length = usize::from(*udata.get(1)?);
    let text = udata.get(2..2 + length).filter(|_| udata[0] == 0)?;
    attr::as_text(text).map(str::to_owned)
}

/// Names of what a table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Its chains.
    pub chains: Vec<String>,
    /// Its sets and maps, but for those without a name of their own, which belong to a rule.
    pub sets: Vec<String>,
}

/// What a table holds; nothing when there is no such table.
///
/// # Errors
/// As the kernel answers.
pub fn names(channel: &mut dyn Channel, table: &str) -> Result<Names, NetlinkError> {
    let chains = list(channel, (INET, GETCHAIN, 3), table)?;
    let mut sets = list(channel, (INET, GETSET, 2), table)?;
    sets.retain(|name| !name.starts_with("__"));
    Ok(Names { chains, sets })
}

/// The chains of a table of the `netdev` family; none when there is no such table.
///
/// # Errors
/// As the kernel answers.
pub fn netdev_chains(channel: &mut dyn Channel, table: &str) -> Result<Vec<String>, NetlinkError> {
    list(channel, (NETDEV, GETCHAIN, 3), table)
}

/// Names, which stand at an attribute of that number.
fn list(
    channel: &mut dyn Channel,
    (family, kind, name_at): (u8, u16, u16),
    table: &str,
) -> Result<Vec<String>, NetlinkError> {
    let what = format!("list what table {table} holds");
    let attrs = Attrs::new().text(1, table);
    match channel.query(&request_of(family, kind, NLM_F_DUMP, &attrs, what)) {
        Ok(answers) => {
            Ok(answers.iter().filter_map(|(_, body)| decode_name(body, family, table, name_at)).collect())
        }
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn decode_name(body: &[u8], family: u8, table: &str, name_at: u16) -> Option<String> {
    let attributes = body.get(4..).filter(|_| body[0] == family)?;
    let same = attr::as_text(attr::find(attributes, 1)?)? == table;
    attr::as_text(attr::find(attributes, name_at)?).filter(|_| same).map(str::to_owned)
}

/// The elements of a set or map; `None` when it is not there.
///
/// # Errors
/// As the kernel answers.
pub fn elements(
    channel: &mut dyn Channel,
    table: &str,
    set: &Set,
) -> Result<Option<Vec<Element>>, NetlinkError> {
    let attrs = Attrs::new().text(1, table).text(2, set.name);
    let what = format!("list set {}", set.name);
    match channel.query(&request(GETSETELEM, NLM_F_DUMP, &attrs, what)) {
        Ok(answers) => Ok(Some(answers.iter().flat_map(|(_, body)| decode_elements(body)).collect())),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What each element of a map of counted verdicts has counted: key, packets, bytes. Nothing where there is no such map.
///
/// # Errors
/// As the kernel answers.
pub fn counters(
    channel: &mut dyn Channel,
    table: &str,
    set: &Set,
) -> Result<Vec<(Vec<u8>, u64, u64)>, NetlinkError> {
    let attrs = Attrs::new().text(1, table).text(2, set.name);
    match channel.query(&request(GETSETELEM, NLM_F_DUMP, &attrs, format!("read counters of {}", set.name))) {
        Ok(answers) => Ok(answers.iter().flat_map(|(_, body)| decode_counters(body)).collect()),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn decode_counters(body: &[u8]) -> Vec<(Vec<u8>, u64, u64)> {
    let list = body.get(4..).and_then(|attributes| attr::find(attributes, 3)).unwrap_or_default();
    let one = |element: &[u8]| {
        let key = attr::find(attr::find(element, 1)?, 1)?.to_vec();
        let counter = attr::find(attr::find(element, 7)?, 2)?;
        let number = |kind| Some(u64::from_be_bytes(attr::find(counter, kind)?.get(..8)?.try_into().ok()?));
        Some((key, number(2)?, number(1)?))
    };
    attr::read(list).filter_map(|(_, element)| one(element)).collect()
}

fn decode_elements(body: &[u8]) -> Vec<Element> {
    let list = body.get(4..).and_then(|attributes| attr::find(attributes, 3)).unwrap_or_default();
    attr::read(list).filter_map(|(_, element)| decode_element(element)).collect()
}

fn decode_element(attributes: &[u8]) -> Option<Element> {
    let flags = attr::find(attributes, 3).and_then(attr::as_be32).unwrap_or_default();
    let catchall = flags & 2 == 2;
    let key = attr::find(attributes, 1).and_then(|key| attr::find(key, 1));
    let key = key.or(catchall.then_some(&[]))?.to_vec();
    let key_end = attr::find(attributes, 10).and_then(|end| attr::find(end, 1)).unwrap_or_default().to_vec();
    let value = attr::find(attributes, 2).unwrap_or_default();
    let data = attr::find(value, 1).unwrap_or_default().to_vec();
    let verdict = attr::find(value, 2).unwrap_or_default();
    let jump = attr::find(verdict, 2).and_then(attr::as_text).map(str::to_owned);
    let passes = attr::find(verdict, 1).and_then(attr::as_be32) == Some(super::expr::RETURN.cast_unsigned());
    Some(Element { key, key_end, data, jump, end: flags & 1 == 1, passes, catchall })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_dumps_are_nothing() {
        for body in [&[][..], &[1, 0, 0], &[1, 0, 0, 0, 9, 0, 3, 0, 1], &[0xff; 40]] {
            assert!(decode_elements(body).is_empty());
            assert!(decode_rule(body, "weft").is_none());
            assert!(decode_name(body, INET, "weft", 3).is_none());
        }
        assert_eq!(comment(&[0, 3, b'a', b'b', 0]), Some("ab".to_owned()));
        assert_eq!(comment(&[0, 9, b'a']), None);
    }
}
