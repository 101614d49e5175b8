//! Policy between endpoints: a table of its own, `inet weft-policy`, that stands only while there is policy.
//!
//! ```text
//!  forward (before the chain of the same hook in table weft)
//!    class4, class6     address : class           0 for all others
//!    ranges_tcp, …      range of ports : range
//!    verdicts           from . to . protocol . port : drop | return      counted
//!    closed             link of a closed network : drop                  counted
//!  input, output        only while a policy names the host               see [`rules`]
//! ```
//!
//! Each packet is judged as a part of its connection: who began it, who answers it (after translation) and the port that
//! answers. So answers pass with the question, a changed policy takes hold of connections that run, and the counters count
//! both ways. `return` goes on to the rules of table `weft`: policy opens nothing that isolation closes.
//!
//! Packets within a bridge come by here only where the bridge shows them to the IP hooks (`br_netfilter`). That is switched
//! on for single bridges that have policy, not for the machine. The bridge family of nftables would not need it, but has no
//! connection tracking on many kernels and so could not tell an answer from a question.

mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use weft_dataplane::{Count, Flow, OUTSIDE, PolicyCounters, PolicyTable};
use weft_model::{PortRange, Protocol};
use weft_sys::{
    netlink::{
        Channel, NetlinkError, Socket,
        link::{self, Change},
    },
    nft::{self, Batch, Element, Field, Set, Shape, expr::ifname},
};

use crate::{LinuxError, mark};

/// The table.
pub(crate) const TABLE: &str = "weft-policy";

const CLASS: Shape = Shape::Map(&[Field::Mark]);
const CLASS4: Set = Set { name: "class4", key: &[Field::Ipv4], shape: CLASS };
const CLASS6: Set = Set { name: "class6", key: &[Field::Ipv6], shape: CLASS };
pub(crate) const VERDICTS: Set = Set {
    name: "verdicts",
    key: &[Field::Mark, Field::Mark, Field::Protocol, Field::Mark],
    shape: Shape::CountedVerdicts,
};
const CLOSED_LINKS: Set = Set { name: "closed", key: &[Field::Ifname], shape: Shape::CountedVerdicts };
const RANGE: Shape = Shape::IntervalMap(&[Field::Mark]);
const RANGES: [(Protocol, Set); 3] = [
    (Protocol::Tcp, Set { name: "ranges_tcp", key: &[Field::Service], shape: RANGE }),
    (Protocol::Udp, Set { name: "ranges_udp", key: &[Field::Service], shape: RANGE }),
    (Protocol::Sctp, Set { name: "ranges_sctp", key: &[Field::Service], shape: RANGE }),
];

/// Beginning of the comment of rules that drop what belongs to no connection.
pub(crate) const OF_NO_CONNECTION: &str = "of no connection";

/// The map of classes of a family.
pub(crate) const fn class_set(v6: bool) -> &'static str {
    if v6 { CLASS6.name } else { CLASS4.name }
}

/// The map of ranges of a protocol.
pub(crate) fn range_set(protocol: u8) -> Option<&'static str> {
    RANGES.iter().find(|(of, _)| crate::publish::number(*of) == protocol).map(|(_, set)| set.name)
}

fn sets() -> Vec<Set> {
    let ranges = RANGES.iter().map(|(_, set)| *set);
    [CLASS4, CLASS6, VERDICTS, CLOSED_LINKS].into_iter().chain(ranges).collect()
}

/// A range as one value, first and last port; no port alone looks like it, since its second half is zero.
fn range_mark(range: PortRange) -> Vec<u8> {
    [range.start.to_be_bytes(), range.end.to_be_bytes()].concat()
}

fn port_field(ports: Option<PortRange>) -> Vec<u8> {
    match ports {
        None => vec![0; 4],
        Some(PortRange { start, end }) if start == end => [start.to_be_bytes(), [0; 2]].concat(),
        Some(range) => range_mark(range),
    }
}

/// What a flow is looked up by.
pub(crate) fn key(flow: &Flow) -> Vec<u8> {
    let [from, to] = [flow.from, flow.to].map(u32::to_ne_bytes);
    [&from[..], &to, &[flow.protocol, 0, 0, 0], &port_field(flow.ports)].concat()
}

fn flow(key: &[u8]) -> Option<Flow> {
    let word = |at: usize| Some(u32::from_ne_bytes(key.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_be_bytes(key.get(at..at + 2)?.try_into().ok()?));
    let ports = match (half(12)?, half(14)?) {
        (0, 0) => None,
        (port, 0) => Some(PortRange { start: port, end: port }),
        (start, end) => Some(PortRange { start, end }),
    };
    Some(Flow { from: word(0)?, to: word(4)?, protocol: *key.get(8)?, ports })
}

/// The elements of each set.
fn encode(table: &PolicyTable) -> Vec<(Set, Vec<Element>)> {
    let mut all: Vec<(Set, Vec<Element>)> = Vec::new();
    for (set, v4) in [(CLASS4, true), (CLASS6, false)] {
        let of = |(ip, class): (&IpAddr, &u32)| {
            let key = match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let element = Element { key, data: class.to_ne_bytes().to_vec(), ..Element::default() };
            (ip.is_ipv4() == v4).then_some(element)
        };
        all.push((set, table.endpoints.iter().filter_map(of).collect()));
    }
    for (protocol, set) in RANGES {
        let mut elements = Vec::new();
        for (_, range) in table.ranges.iter().filter(|(p, _)| *p == protocol) {
            let key = range.start.to_be_bytes().to_vec();
            elements.push(Element { key, data: range_mark(*range), ..Element::default() });
            if let Some(after) = range.end.checked_add(1) {
                elements.push(Element { key: after.to_be_bytes().to_vec(), end: true, ..Element::default() });
            }
        }
        all.push((set, elements));
    }
    let verdict =
        |(f, passes): (&Flow, &bool)| Element { key: key(f), passes: *passes, ..Element::default() };
    all.push((VERDICTS, table.verdicts.iter().map(verdict).collect()));
    let closed = |link: &String| Element { key: ifname(link), ..Element::default() };
    all.push((CLOSED_LINKS, table.closed.iter().map(closed).collect()));
    all.retain(|(_, elements)| !elements.is_empty());
    all
}

/// Puts all policy in place of all policy.
pub(crate) fn replace(socket: &mut Socket, table: &PolicyTable) -> Result<(), LinuxError> {
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    for set in sets() {
        batch.add_set(&set);
    }
    let others = Element { data: OUTSIDE.to_ne_bytes().to_vec(), catchall: true, ..Element::default() };
    for set in [CLASS4, CLASS6] {
        batch.add_elements(&set, std::slice::from_ref(&others));
    }
    for (set, elements) in encode(table) {
        batch.add_elements(&set, &elements);
    }
    rules::add(&mut batch, &rules::forwarded());
    if table.host {
        rules::add(&mut batch, &rules::own());
    }
    Ok(socket.transact(&batch.finish())?)
}

/// Removes the table.
pub(crate) fn clear(socket: &mut Socket) -> Result<(), LinuxError> {
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    batch.delete_table();
    Ok(socket.transact(&batch.finish())?)
}

/// Changes elements, at once; what stays goes on counting.
pub(crate) fn change(socket: &mut Socket, remove: &PolicyTable, add: &PolicyTable) -> Result<(), LinuxError> {
    let messages = |remove: &PolicyTable, add: &PolicyTable| {
        let mut batch = Batch::new(TABLE);
        if remove.host {
            batch.delete(&rules::names(&rules::own()));
        }
        for (set, elements) in encode(remove) {
            batch.delete_elements(&set, &elements);
        }
        for (set, elements) in encode(add) {
            batch.add_elements(&set, &elements);
        }
        if add.host {
            rules::add(&mut batch, &rules::own());
        }
        batch.finish()
    };
    if socket.transact(&messages(remove, add)).is_err() {
        // Something is not as remembered: from what is there to what it was to become.
        let have = elements(socket)?;
        let mut want = have.without(remove);
        want.add(add);
        socket.transact(&messages(&have.without(&want), &want.without(&have)))?;
    }
    Ok(())
}

/// What this machine lacks for policy, in words; `None` where it lacks nothing. Makes the parts that old kernels do not know
/// in a transaction that takes them back, unless the table stands and so proves it.
pub(crate) fn lacks(socket: &mut Socket) -> Option<String> {
    if !crate::host::can_guard() {
        return Some(LinuxError::NoFilter.to_string());
    }
    if nft::rules(socket, TABLE).is_ok_and(|rules| rules.is_some()) {
        return None;
    }
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    batch.add_set(&CLASS4);
    batch.add_set(&VERDICTS);
    let others = Element { data: OUTSIDE.to_ne_bytes().to_vec(), catchall: true, ..Element::default() };
    batch.add_elements(&CLASS4, &[others]);
    batch.delete_table();
    let tried: Result<(), NetlinkError> = socket.transact(&batch.finish());
    let error = tried.err()?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Some(format!("it needs nftables of Linux 5.13 or later, and this is {}: {error}", release.trim()))
}

/// The policy that is there; `None` where there is none, or its rules are not ours.
pub(crate) fn observe(socket: &mut Socket) -> Result<Option<PolicyTable>, LinuxError> {
    let Some(seen) = nft::rules(socket, TABLE)? else { return Ok(None) };
    let table = elements(socket)?;
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in seen {
        tags.entry(rule.chain).or_default().push(rule.tag);
    }
    let mut ours = rules::tags(&rules::forwarded());
    if table.host {
        ours.extend(rules::tags(&rules::own()));
    }
    let mut whole = tags == ours;
    for set in [CLASS4, CLASS6] {
        let elements = nft::elements(socket, TABLE, &set)?.unwrap_or_default();
        whole &= elements.iter().any(|e| e.catchall);
    }
    // A table that was tampered with is one without entries: it is replaced or cleared, never changed.
    Ok(Some(if whole { table } else { PolicyTable::default() }))
}

fn elements(socket: &mut Socket) -> Result<PolicyTable, LinuxError> {
    let mut table = PolicyTable::default();
    for set in [CLASS4, CLASS6] {
        for element in nft::elements(socket, TABLE, &set)?.unwrap_or_default() {
            let ip = match element.key.len() {
                4 => <[u8; 4]>::try_from(&element.key[..]).ok().map(IpAddr::from),
                16 => <[u8; 16]>::try_from(&element.key[..]).ok().map(IpAddr::from),
                _ => None,
            };
            let class = <[u8; 4]>::try_from(&element.data[..]).ok().map(u32::from_ne_bytes);
            table.endpoints.extend(ip.zip(class));
        }
    }
    for (protocol, set) in RANGES {
        for element in nft::elements(socket, TABLE, &set)?.unwrap_or_default() {
            if let [a, b, c, d] = element.data[..] {
                let (start, end) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                table.ranges.insert((protocol, PortRange { start, end }));
            }
        }
    }
    for element in nft::elements(socket, TABLE, &VERDICTS)?.unwrap_or_default() {
        table.verdicts.extend(flow(&element.key).map(|flow| (flow, element.passes)));
    }
    let closed = nft::elements(socket, TABLE, &CLOSED_LINKS)?.unwrap_or_default();
    table.closed.extend(closed.iter().filter_map(|element| link_of(&element.key)));
    let chains: BTreeSet<String> = nft::names(socket, TABLE)?.chains.into_iter().collect();
    table.host = rules::names(&rules::own()).chains.iter().any(|chain| chains.contains(chain));
    Ok(table)
}

/// An interface's name, as a key has it.
fn link_of(key: &[u8]) -> Option<String> {
    let name = key.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// What policy has decided.
pub(crate) fn counters(socket: &mut Socket) -> Result<PolicyCounters, LinuxError> {
    fn read<K: Ord>(
        socket: &mut Socket,
        set: &Set,
        named: impl Fn(&[u8]) -> Option<K>,
    ) -> Result<BTreeMap<K, Count>, LinuxError> {
        let seen = nft::counters(socket, TABLE, set)?;
        Ok(seen.iter().filter_map(|(key, packets, bytes)| Some((named(key)?, (*packets, *bytes)))).collect())
    }
    let flows = read(socket, &VERDICTS, flow)?;
    Ok(PolicyCounters { flows, closed: read(socket, &CLOSED_LINKS, link_of)? })
}

/// Subjects what a bridge forwards to rules, or not any more; its ports need hairpin mode while it is (see
/// [`crate::host::bridged_packets_are_filtered`]), and no isolation by the bridge itself ([`crate::host::is_guarded`]).
pub(crate) fn guard(socket: &mut Socket, name: &str, on: bool) -> Result<(), LinuxError> {
    let found = link::get(socket, name)?.ok_or_else(|| LinuxError::NoLink { name: name.to_owned() })?;
    if on && !crate::host::can_guard() {
        return Err(LinuxError::NoFilter);
    }
    socket.transact(&[link::filter_bridged(name, on)])?;
    let hairpin = on || crate::host::bridged_packets_are_filtered();
    let mut messages = Vec::new();
    for port in link::list(socket)?.iter().filter(|port| port.master == Some(found.index)) {
        let Some(alias) = mark::in_mode(port, hairpin) else { continue };
        let change = Change { alias: Some(alias), ..Change::default() };
        messages.extend([link::hairpin(&port.name, hairpin), link::change(&port.name, &change)]);
        messages.extend(on.then(|| link::isolate(&port.name, false)));
    }
    Ok(socket.transact(&messages)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_dataplane::CLOSED;

    #[test]
    fn links_are_read_as_they_are_written() {
        for name in ["wf0", "wfb123456789012", "a"] {
            assert_eq!(link_of(&ifname(name)).as_deref(), Some(name));
        }
        for bytes in [&[][..], &[0; 16], &[0xff, 0]] {
            assert_eq!(link_of(bytes), None);
        }
    }

    #[test]
    fn flows_are_read_as_they_are_written() {
        for ports in [None, Some((80, 80)), Some((1, 65535)), Some((8000, 8010))] {
            let ports = ports.map(|(start, end)| PortRange { start, end });
            let one = Flow { from: CLOSED | 7, to: 0, protocol: 6, ports };
            assert_eq!(key(&one).len(), 16);
            assert_eq!(flow(&key(&one)), Some(one));
        }
        for bytes in [&[][..], &[0; 15]] {
            assert_eq!(flow(bytes), None);
        }
    }
}
