//! From policies and the endpoints of a host to what its data plane looks up. Pure.
//!
//! Endpoints that the same selectors choose are of one class, so that a container that starts beside others of its kind is one
//! element more, and a policy costs as many elements as it has pairs of classes. The number of a class is made from what
//! chooses it: it stays as containers come and go.
//!
//! The host is a class of its own without addresses: a driver tells it by where a packet passes. It guards nothing, for what the
//! host itself sends and receives is never bridged alone.
//!
//! A deny wins: an entry for a port is only written as passing where no wider policy of the same pair denies.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
};

use weft_dataplane::{CLOSED, Desired, Flow, HOST, OUTSIDE, PolicyTable, Port};
use weft_model::{
    Container, ContainerId, Network, NetworkId, NetworkSpec, Policy, PolicyAction, PolicyId, PolicySpec,
    PortRange, Protocol, Selector,
};

use crate::Compiled;

/// What came of the policies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompiledPolicy {
    /// What the data plane looks up.
    pub table: PolicyTable,
    /// Links of bridges whose own traffic is subject to it.
    pub guarded: BTreeSet<String>,
    /// Who decides what.
    pub decided: Decided,
}

/// Who decides what, and whom it concerns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// Which policy decides a flow, and whether it passes.
    pub owners: BTreeMap<Flow, (PolicyId, bool)>,
    /// Links of the segments on which a class has endpoints.
    pub links: BTreeMap<u32, BTreeSet<String>>,
}

/// Adds the policy to a compiled host; answers which policy decides which flow.
pub(crate) fn with_policy<'a>(
    compiled: &mut Compiled,
    networks: impl Iterator<Item = &'a Network>,
    containers: impl Iterator<Item = &'a Container>,
    policies: impl Iterator<Item = &'a Policy>,
) -> Decided {
    let networks: HashMap<NetworkId, &NetworkSpec> = networks.map(|n| (n.spec.id, &n.spec)).collect();
    let (containers, policies): (Vec<_>, Vec<_>) = (containers.collect(), policies.collect());
    let policy = compile(&compiled.desired, &networks, &containers, &policies);
    (compiled.desired.policy, compiled.desired.guarded) = (policy.table, policy.guarded);
    policy.decided
}

/// The policy of what `desired` has already.
pub(crate) fn compile(
    desired: &Desired,
    networks: &HashMap<NetworkId, &NetworkSpec>,
    containers: &[&Container],
    policies: &[&Policy],
) -> CompiledPolicy {
    let closed = |id: &NetworkId| networks.get(id).is_some_and(|n| n.closed);
    let mut out = CompiledPolicy::default();
    if policies.is_empty() && !networks.keys().any(closed) {
        return out;
    }
    let mut specs: Vec<&PolicySpec> = policies.iter().map(|p| &p.spec).collect();
    specs.sort_by_key(|spec| spec.id);
    let classes = Classes::of(desired, &closed, containers, &specs);
    let mut pairs: BTreeMap<(u32, u32), Vec<&PolicySpec>> = BTreeMap::new();
    let stranger = |class: u32| matches!(class, OUTSIDE | HOST);
    for spec in &specs {
        for from in classes.chosen(&spec.from) {
            for to in classes.chosen(&spec.to).iter().filter(|to| !stranger(*from) || !stranger(**to)) {
                pairs.entry((*from, *to)).or_default().push(spec);
            }
        }
    }
    let ranges = elementary(pairs.values().flatten().copied());
    // Gathered first: a map that is made of what is in order already is made at once.
    let mut entries = Vec::with_capacity(specs.len());
    for ((from, to), rules) in &pairs {
        pair(*from, *to, rules, &ranges, &mut |flow, by| {
            let range = flow.ports.filter(|range| !single(range));
            out.table.ranges.extend(transport(flow.protocol).zip(range));
            entries.push((flow, (by.id, by.action == PolicyAction::Allow)));
        });
    }
    out.table.verdicts = entries.iter().map(|(flow, (_, passes))| (*flow, *passes)).collect();
    out.decided.owners = entries.into_iter().collect();
    out.table.endpoints = classes.endpoints;
    out.table.host = pairs.keys().any(|(from, to)| *from == HOST || *to == HOST);
    let shut = desired.segments.iter().filter(|(id, _)| closed(id));
    out.table.closed = shut.map(|(_, segment)| segment.link.clone()).collect();
    let bridged = pairs.keys().filter(|(from, to)| *from != HOST && *to != HOST);
    let judged: BTreeSet<u32> = bridged.flat_map(|(from, to)| [*from, *to]).collect();
    for port in desired.ports.values() {
        let Some(segment) = desired.segments.get(&port.segment) else { continue };
        for class in addresses(port).filter_map(|ip| out.table.endpoints.get(&ip).copied()) {
            out.decided.links.entry(class).or_default().insert(segment.link.clone());
            if !segment.borrowed && (class & CLOSED != 0 || judged.contains(&class)) {
                out.guarded.insert(segment.link.clone());
            }
        }
    }
    out
}

/// The addresses that a port answers to: those it was given, and with IPv6 the one that the kernel makes of its Ethernet
/// address (RFC 4291, appendix A), by which neighbours and the host reach it as well.
fn addresses(port: &Port) -> impl Iterator<Item = IpAddr> + '_ {
    let v6 = port.addresses.iter().any(|a| a.addr().is_ipv6());
    let [a, b, c, d, e, f] = port.mac.0;
    let local = Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    port.addresses.iter().map(ipnet::IpNet::addr).chain(v6.then_some(IpAddr::V6(local)))
}

static ANY: Selector = Selector::Any;
static BEYOND: Selector = Selector::Outside;
static ITSELF: Selector = Selector::Host;

/// The classes of a host's endpoints.
struct Classes<'a> {
    endpoints: BTreeMap<IpAddr, u32>,
    /// Classes by the selectors that choose them; of networks and names, too.
    by_selector: HashMap<&'a Selector, Vec<u32>>,
}

impl<'a> Classes<'a> {
    fn of(
        desired: &Desired,
        closed: &dyn Fn(&NetworkId) -> bool,
        containers: &[&Container],
        specs: &[&'a PolicySpec],
    ) -> Self {
        let selectors: BTreeSet<&Selector> = specs.iter().flat_map(|s| [&s.from, &s.to]).collect();
        let containers: HashMap<ContainerId, &Container> =
            containers.iter().map(|c| (c.spec.id, *c)).collect();
        let labels: Vec<&Selector> =
            selectors.iter().copied().filter(|s| matches!(s, Selector::Label(..))).collect();
        let mut known: BTreeMap<(Vec<&Selector>, bool), Vec<IpAddr>> = BTreeMap::new();
        for port in desired.ports.values() {
            let Some(container) = containers.get(&port.sandbox) else { continue };
            let has = |selector: &&Selector| match selector {
                Selector::Label(key, None) => container.meta.labels.contains_key(key),
                Selector::Label(key, Some(value)) => container.meta.labels.get(key) == Some(value),
                _ => false,
            };
            let mut choosing: Vec<&Selector> = labels.iter().copied().filter(has).collect();
            let named = [Selector::Name(container.spec.name.to_string()), Selector::Network(port.segment)];
            choosing.extend(named.iter().filter_map(|selector| selectors.get(selector).copied()));
            known.entry((choosing, closed(&port.segment))).or_default().extend(addresses(port));
        }
        let mut classes = Self { endpoints: BTreeMap::new(), by_selector: HashMap::new() };
        classes.by_selector.insert(&ANY, vec![OUTSIDE]);
        classes.by_selector.insert(&BEYOND, vec![OUTSIDE]);
        classes.by_selector.insert(&ITSELF, vec![HOST]);
        let mut taken = BTreeSet::from([OUTSIDE, HOST]);
        for ((choosing, closed), addresses) in known {
            let class = number(&choosing, closed, &mut taken);
            classes.endpoints.extend(addresses.into_iter().map(|ip| (ip, class)));
            for selector in choosing.into_iter().chain([&ANY]) {
                classes.by_selector.entry(selector).or_default().push(class);
            }
        }
        classes
    }

    fn chosen(&self, selector: &Selector) -> &[u32] {
        self.by_selector.get(selector).map_or(&[], Vec::as_slice)
    }
}

/// FNV-1a of what chooses a class, and the next free number where that is taken.
fn number(choosing: &[&Selector], closed: bool, taken: &mut BTreeSet<u32>) -> u32 {
    let text: String = choosing.iter().flat_map(|s| [s.to_string(), "\n".to_owned()]).collect();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let flag = if closed { CLOSED } else { 0 };
    let mut class = hash & !CLOSED | flag;
    while !taken.insert(class) {
        class = class.wrapping_add(1) & !CLOSED | flag;
    }
    class
}

fn single(range: &PortRange) -> bool {
    range.start == range.end
}

fn transport(protocol: u8) -> Option<Protocol> {
    match protocol {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        _ => None,
    }
}

/// The ranges of all policies, cut where one begins or ends, so that a port is in one at most.
fn elementary<'a>(specs: impl Iterator<Item = &'a PolicySpec>) -> BTreeMap<u8, Vec<PortRange>> {
    let mut wide: BTreeMap<u8, BTreeSet<PortRange>> = BTreeMap::new();
    for spec in specs {
        let (Some(protocol), Some(range)) = (spec.protocol, spec.ports.filter(|r| !single(r))) else {
            continue;
        };
        for number in protocol.numbers() {
            wide.entry(*number).or_default().insert(range);
        }
    }
    let cut = |ranges: BTreeSet<PortRange>| {
        let begins = ranges.iter().map(|r| u32::from(r.start));
        let bounds: BTreeSet<u32> = begins.chain(ranges.iter().map(|r| u32::from(r.end) + 1)).collect();
        let bounds: Vec<u32> = bounds.into_iter().collect();
        let parts = bounds.windows(2).filter_map(|w| {
            let part = PortRange { start: u16::try_from(w[0]).ok()?, end: u16::try_from(w[1] - 1).ok()? };
            ranges.iter().any(|r| covers(r, &part)).then_some(part)
        });
        parts.collect()
    };
    wide.into_iter().map(|(protocol, ranges)| (protocol, cut(ranges))).collect()
}

fn covers(range: &PortRange, part: &PortRange) -> bool {
    range.start <= part.start && part.end <= range.end
}

/// The policy that decides among several: the first that denies, else the first.
fn winner<'a>(a: Option<&'a PolicySpec>, b: &'a PolicySpec) -> Option<&'a PolicySpec> {
    match a {
        Some(a) if a.action == PolicyAction::Deny || b.action == PolicyAction::Allow => Some(a),
        _ => Some(b),
    }
}

fn denies(by: Option<&PolicySpec>) -> bool {
    by.is_some_and(|by| by.action == PolicyAction::Deny)
}

/// The entries of one pair of classes, each flow once.
fn pair(
    from: u32,
    to: u32,
    rules: &[&PolicySpec],
    ranges: &BTreeMap<u8, Vec<PortRange>>,
    decide: &mut dyn FnMut(Flow, &PolicySpec),
) {
    let mut enter = |protocol, ports: Option<PortRange>, by: &PolicySpec| {
        decide(Flow { from, to, protocol, ports }, by);
    };
    let all = rules.iter().copied().filter(|r| r.protocol.is_none()).fold(None, winner);
    if let Some(by) = all {
        enter(0, None, by);
    }
    if denies(all) {
        return;
    }
    let numbers: BTreeSet<u8> =
        rules.iter().filter_map(|r| r.protocol).flat_map(|p| p.numbers()).copied().collect();
    for protocol in numbers {
        let of = |r: &&PolicySpec| r.protocol.is_some_and(|p| p.numbers().contains(&protocol));
        let own: Vec<&PolicySpec> = rules.iter().copied().filter(of).collect();
        let whole = own.iter().copied().filter(|r| r.ports.is_none()).fold(None, winner);
        if let Some(by) = whole {
            enter(protocol, None, by);
        }
        if !denies(whole) {
            let parts = ranges.get(&protocol).map_or(&[][..], Vec::as_slice);
            by_port(&own, parts).into_iter().for_each(|(ports, by)| enter(protocol, Some(ports), by));
        }
    }
}

/// What decides for single ports, and for each part of the ranges.
fn by_port<'a>(rules: &[&'a PolicySpec], parts: &[PortRange]) -> BTreeMap<PortRange, &'a PolicySpec> {
    let ported = || rules.iter().copied().filter_map(|rule| Some((rule.ports?, rule)));
    let wide: Vec<(PortRange, &PolicySpec)> = ported().filter(|(range, _)| !single(range)).collect();
    let over = |part: &PortRange| {
        wide.iter().filter(|(range, _)| covers(range, part)).map(|(_, rule)| *rule).fold(None, winner)
    };
    let mut ports: BTreeMap<PortRange, &PolicySpec> = BTreeMap::new();
    if !wide.is_empty() {
        ports.extend(parts.iter().filter_map(|part| Some((*part, over(part)?))));
    }
    for (port, rule) in ported().filter(|(range, _)| single(range)) {
        let by = winner(ports.get(&port).copied().or_else(|| over(&port)), rule).unwrap_or(rule);
        ports.insert(port, by);
    }
    ports
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
