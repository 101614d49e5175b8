//! The table as a pure function of the segments. What grows with containers and published ports is in maps; there is a fixed number
//! of rules for the host and two or three for each segment, reached by one lookup of the interface's name.
//!
//! ```text
//! raw          prerouting -300   what claims to be of 127/8 and comes by a wire: drop
//! prerouting   dstnat            to an address of this host: user_publish, then publish (or what the policy says)
//!                                under host-firewall: what is for a routed port, by who is not known: turned to this host
//! output       -100              the same, for what this host sends (but for ::1 where nobody can answer it: [`crate::loopback`])
//! publish                        address and port in a map: translate
//! input        200               only under host-firewall: what the host's rules let in to a published port is remembered
//! forward      filter            user_forward; established: accept; by the bridge it came from; by the one it goes to
//! from_<link>                    internal: only to itself
//! into_<link>                    itself: accept (without inter_container: published: accept; else drop); published: accept;
//!                                what its gateways let in ([`crate::direct`]): accept; else drop
//! postrouting  srcnat            hairpin; from a masqueraded subnet to a link that is no segment: the address its segment was
//!                                given ([`crate::source`]), else masquerade
//! hairpin_<link>                 translated, and from the segment itself or from 127/8: masquerade; from ::1: see [`crate::loopback`]
//! user_…                         the user's; made empty, never changed (docs/firewall.md)
//! ```
//!
//! Accepting in our base chain does not overrule a drop in another table: the host's own firewall keeps the last word.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weft_dataplane::Segment;
use weft_model::{NetworkId, PublishPolicy};
use weft_sys::nft::{
    Batch, Element, Field, Hook, HookPoint, Names, Set, Shape,
    expr::{Base, Ct, Expr, Meta, Reg, Verdict, ct_state, ct_status, ifname},
};

mod replace;

pub(crate) use replace::Old;

use crate::{
    TABLE, consent, direct,
    frame::{self, Frame},
    loopback, publish, source,
};

pub(crate) const SEGMENTS: Set = Set { name: "segments", key: &[Field::Ifname], shape: Shape::Plain };
const FROM: Set = Set { name: "from", key: &[Field::Ifname], shape: Shape::Verdicts };
const INTO: Set = Set { name: "into", key: &[Field::Ifname], shape: Shape::Verdicts };
const HAIRPIN: Set = Set { name: "hairpin", key: &[Field::Ifname], shape: Shape::Verdicts };
const MASQUERADE4: Set = Set { name: "masquerade4", key: &[Field::Ipv4], shape: Shape::Interval };
const MASQUERADE6: Set = Set { name: "masquerade6", key: &[Field::Ipv6], shape: Shape::Interval };

/// Sets whose elements follow from the segments.
pub(crate) const STRUCTURAL: [Set; 8] =
    [SEGMENTS, FROM, INTO, HAIRPIN, MASQUERADE4, MASQUERADE6, source::SETS[0], source::SETS[1]];

/// Chains that are the user's: jumped to, created where they are not there, never flushed.
const USER: [&str; 2] = ["user_forward", "user_publish"];

/// Whether a chain, set or map of our table is the user's.
pub(crate) fn is_users(name: &str) -> bool {
    name.starts_with("user_")
}

const BASE_CHAINS: [(&str, Hook); 5] = [
    ("raw", Hook { kind: "filter", point: HookPoint::Prerouting, priority: -300 }),
    ("prerouting", Hook { kind: "nat", point: HookPoint::Prerouting, priority: -100 }),
    ("output", Hook { kind: "nat", point: HookPoint::Output, priority: -100 }),
    ("forward", Hook { kind: "filter", point: HookPoint::Forward, priority: 0 }),
    ("postrouting", Hook { kind: "nat", point: HookPoint::Postrouting, priority: 100 }),
];

const V4: u8 = 2;
pub(crate) const V6: u8 = 10;
const R0: Reg = Reg(0);
const R1: Reg = Reg(1);

/// Rules in their order, and elements: what the table consists of, published and open ports apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    chains: Vec<String>,
    rules: Vec<(String, String, Vec<Expr>)>,
    elements: BTreeMap<&'static str, Vec<Element>>,
    policy: PublishPolicy,
    loops: bool,
}

impl Ruleset {
    /// Appends a rule.
    pub(crate) fn rule(&mut self, chain: &str, comment: &str, exprs: impl IntoIterator<Item = Vec<Expr>>) {
        let exprs = exprs.into_iter().flatten().collect();
        self.rules.push((chain.to_owned(), comment.to_owned(), exprs));
    }

    /// Appends a chain that is jumped to.
    pub(crate) fn chain(&mut self, name: &str) {
        self.chains.push(name.to_owned());
    }

    /// Adds an element to a set of [`STRUCTURAL`].
    pub(crate) fn element(&mut self, set: Set, element: Element) {
        self.elements.entry(set.name).or_default().push(element);
    }

    fn bases(&self) -> impl Iterator<Item = (&'static str, Hook)> + use<> {
        let asks = self.policy == PublishPolicy::HostFirewall;
        asks.then_some(consent::INPUT).into_iter().chain(BASE_CHAINS)
    }

    fn sets(&self) -> impl Iterator<Item = Set> + use<> {
        let asks = self.policy == PublishPolicy::HostFirewall;
        let consent = consent::SETS.into_iter().filter(move |_| asks);
        consent.chain(STRUCTURAL).chain(publish::SETS).chain(direct::SETS)
    }

    /// Whether one of its chains or sets is called so.
    pub(crate) fn has(&self, name: &str) -> bool {
        let base = self.bases().any(|(of, _)| of == name) || self.sets().any(|set| set.name == name);
        base || self.chains.iter().any(|of| of == name)
    }

    /// Digest of rules and elements, as [`digest`] makes it of what is in the kernel.
    pub(crate) fn digest(&self) -> String {
        let mut scratch = Batch::new(TABLE);
        let mut rules = Vec::new();
        for (chain, comment, exprs) in &self.rules {
            rules.push((chain.clone(), scratch.add_rule(chain, comment, exprs)));
        }
        digest(rules, &self.elements, &frame::wanted(self.bases(), self.chains.iter(), self.sets()))
    }
}

/// The part of what a table holds that is not the user's.
pub(crate) fn ours(present: &Names) -> Names {
    let pick = |names: &[String]| names.iter().filter(|n| !is_users(n)).cloned().collect();
    Names { chains: pick(&present.chains), sets: pick(&present.sets) }
}

/// One text for a table: its rules in order, chain by chain, its elements whatever their order, and its frame.
pub(crate) fn digest(
    mut rules: Vec<(String, String)>,
    elements: &BTreeMap<&'static str, Vec<Element>>,
    frame: &Frame,
) -> String {
    rules.sort_by(|a, b| a.0.cmp(&b.0));
    let mut text = String::new();
    for (chain, tag) in &rules {
        text.extend([chain, ":", tag, "\n"]);
    }
    for (set, elements) in elements.iter().filter(|(_, e)| !e.is_empty()) {
        let mut lines: Vec<String> = elements
            .iter()
            .map(|e| format!("{set}:{:?}:{:?}:{}{:?}", e.key, e.jump, e.end, e.data))
            .collect();
        lines.sort();
        text.extend([&lines.join("\n"), "\n"]);
    }
    frame.iter().for_each(|line| text.extend([line, "\n"]));
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

/// Segments that packets of the host pass: those without a bridge are not among them, unless the host's own sub-interface must
/// be kept from being a way out of an internal one.
fn passed(segments: &BTreeMap<NetworkId, Segment>) -> BTreeMap<NetworkId, Segment> {
    let hidden = |s: &Segment| s.uplink.as_ref().is_some_and(|u| !s.internal || u.shim.is_empty());
    segments.iter().filter(|(_, s)| !hidden(s)).map(|(id, s)| (*id, s.clone())).collect()
}

/// The table that segments need. `loops`: containers can answer for `::1` ([`crate::loopback`]).
pub(crate) fn compile(
    segments: &BTreeMap<NetworkId, Segment>,
    policy: PublishPolicy,
    loops: bool,
) -> Ruleset {
    let segments = &passed(segments);
    let mut set = Ruleset { chains: vec!["publish".to_owned()], policy, loops, ..Ruleset::default() };
    host_rules(&mut set, segments);
    for segment in segments.values() {
        segment_rules(&mut set, segment);
    }
    let plain = |s: &Segment, net: &IpNet| s.masquerades(net) && s.source(net).is_none();
    let masqueraded = || segments.values().flat_map(|s| s.subnets().filter(move |net| plain(s, net)));
    let intervals4 = masqueraded().filter_map(|net| match net {
        IpNet::V4(net) => Some((u32::from(net.network()).into(), u32::from(net.broadcast()).into())),
        IpNet::V6(_) => None,
    });
    for element in intervals(intervals4.collect(), 4) {
        set.element(MASQUERADE4, element);
    }
    let intervals6 = masqueraded().filter_map(|net| match net {
        IpNet::V6(net) => Some((u128::from(net.network()), u128::from(net.broadcast()))),
        IpNet::V4(_) => None,
    });
    for element in intervals(intervals6.collect(), 16) {
        set.element(MASQUERADE6, element);
    }
    set
}

fn host_rules(set: &mut Ruleset, segments: &BTreeMap<NetworkId, Segment>) {
    let wire = || vec![Expr::Meta(Meta::Iifname, R0), Expr::Cmp(R0, false, ifname("lo"))];
    // Every packet passes these two, bridged ones too.
    for (comment, offset) in [("from loopback by wire", 12), ("to loopback by wire", 16)] {
        set.rule("raw", comment, [loopback4(offset), wire(), drop_it()]);
    }
    publish_rules(set, segments);
    set.rule("forward", "the user's", [jump("user_forward")]);
    // Nobody can ask by ::1 where no container has IPv6; and every packet passes here.
    if set.loops && segments.values().flat_map(Segment::subnets).any(|net| net.addr().is_ipv6()) {
        set.rule("forward", "to nobody who asked by ::1", [loopback::to_source(), drop_it()]);
    }
    let known = ct_state::ESTABLISHED | ct_state::RELATED;
    set.rule("forward", "established", [ct(Ct::State, known), accept()]);
    set.rule(
        "forward",
        "from segment",
        [vec![Expr::Meta(Meta::Iifname, R0), Expr::VerdictMap(FROM.name, R0)]],
    );
    set.rule(
        "forward",
        "into segment",
        [vec![Expr::Meta(Meta::Oifname, R0), Expr::VerdictMap(INTO.name, R0)]],
    );
    let oif = vec![Expr::Meta(Meta::Oifname, R0), Expr::VerdictMap(HAIRPIN.name, R0)];
    set.rule("postrouting", "hairpin", [oif]);
    source::rules(set, segments);
    for (family, length, offset, from) in [(V4, 4, 12, MASQUERADE4), (V6, 16, 8, MASQUERADE6)] {
        let source = vec![Expr::Payload(Base::Network, offset, length, R0), Expr::In(from.name, R0, true)];
        let out = vec![Expr::Meta(Meta::Oifname, R0), Expr::In(SEGMENTS.name, R0, false)];
        set.rule("postrouting", "way out", [nfproto(family), source, out, vec![Expr::Masquerade]]);
    }
}

/// How the comment begins of the rule that the publish policy is: what `weft doctor` and `weft explain` know it by.
const POLICY: &str = "published: ";

/// The publish policy that a rule is, by its comment.
pub(crate) fn policy_of(comment: &str) -> Option<PublishPolicy> {
    comment.strip_prefix(POLICY)?.split(' ').next()?.parse().ok()
}

/// The comment of the rule for what nobody published.
pub(crate) const UNPUBLISHED: &str = "unpublished";

/// Where packets meet the maps of published ports: whose, the policy says.
fn publish_rules(set: &mut Ruleset, segments: &BTreeMap<NetworkId, Segment>) {
    set.rule("prerouting", "the user's", [local(), jump("user_publish")]);
    set.rule("prerouting", "not by link-local", [to_link_local(), accept()]);
    let policy = format!("{POLICY}{}", set.policy.as_str());
    if set.policy == PublishPolicy::Open {
        set.rule("prerouting", &policy, [local(), jump("publish")]);
    } else {
        set.rule("prerouting", &policy, [by_segment(true), local(), jump("publish")]);
    }
    if set.policy == PublishPolicy::HostFirewall {
        consent::rules(set, segments);
    }
    if !set.loops {
        // The kernel routes no answer back to ::1 (IPv6 has no `route_localnet`): better refused at once than timed out, so
        // that a client who asked for "localhost" goes on to 127.0.0.1.
        set.rule("output", "not by ::1", [loopback::at(24), accept()]);
    }
    set.rule("output", "not by link-local", [to_link_local(), accept()]);
    set.rule("output", "to this host", [local(), jump("publish")]);
    for lookup in publish::lookups() {
        set.rule("publish", lookup.comment, [family(lookup.v6), lookup.find, vec![lookup.translate]]);
    }
}

fn segment_rules(set: &mut Ruleset, segment: &Segment) {
    let link = &segment.link;
    let (from, into, hairpin) = (format!("from_{link}"), format!("into_{link}"), format!("hairpin_{link}"));
    let key = ifname(link);
    set.element(SEGMENTS, Element { key: key.clone(), ..Element::default() });
    for (map, chain) in [(FROM, &from), (INTO, &into), (HAIRPIN, &hairpin)] {
        set.element(map, Element { key: key.clone(), jump: Some(chain.clone()), ..Element::default() });
        set.chains.push(chain.clone());
    }
    let itself = || vec![Expr::Meta(Meta::Iifname, R0), Expr::Cmp(R0, true, key.clone())];
    let translated = || ct(Ct::Status, ct_status::DNAT);
    if segment.internal {
        let others = vec![Expr::Meta(Meta::Oifname, R0), Expr::Cmp(R0, false, key.clone())];
        set.rule(&from, "internal: no way out", [others, drop_it()]);
    }
    if segment.inter_container {
        set.rule(&into, "inter-container", [itself(), accept()]);
    } else {
        set.rule(&into, "inter-container: published only", [itself(), translated(), accept()]);
        set.rule(&into, "inter-container", [itself(), drop_it()]);
    }
    if segment.internal {
        set.rule(&into, "internal: no way in", [drop_it()]);
    } else {
        set.rule(&into, "published", [translated(), accept()]);
        for (v6, comment, exprs) in direct::ways_in(segment, set.policy) {
            set.rule(&into, comment, [family(v6), exprs, accept()]);
        }
        // Two rules, so that what is dropped is counted by its reason.
        set.rule(&into, "isolation", [by_segment(true), drop_it()]);
        set.rule(&into, UNPUBLISHED, [drop_it()]);
    }
    set.rule(&hairpin, "hairpin from the host itself", [translated(), loopback4(12), vec![Expr::Masquerade]]);
    if set.loops && segment.subnets().any(|net| net.addr().is_ipv6()) {
        let asked = [translated(), loopback::at(8), loopback::as_source()];
        set.rule(&hairpin, "hairpin from the host's ::1", asked);
    }
    for subnet in segment.subnets() {
        set.rule(&hairpin, "hairpin", [translated(), within(subnet, false), vec![Expr::Masquerade]]);
    }
}

/// To a link-local address of the host (fe80::/10): such a packet cannot be forwarded, so it is never translated.
pub(crate) fn to_link_local() -> Vec<Expr> {
    let mut exprs = nfproto(V6);
    exprs.extend([
        Expr::Payload(Base::Network, 24, 2, R0),
        Expr::And(R0, vec![0xff, 0xc0]),
        Expr::Cmp(R0, true, vec![0xfe, 0x80]),
    ]);
    exprs
}

pub(crate) fn accept() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Accept)]
}

pub(crate) fn drop_it() -> Vec<Expr> {
    vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]
}

/// To an address of this host.
pub(crate) fn local() -> Vec<Expr> {
    vec![Expr::FibDaddrType(R0), Expr::Cmp(R0, true, 2u32.to_ne_bytes().to_vec())]
}

pub(crate) fn jump(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Jump(chain.to_owned()))]
}

/// Comes by a bridge of a segment, or does not.
pub(crate) fn by_segment(yes: bool) -> Vec<Expr> {
    vec![Expr::Meta(Meta::Iifname, R0), Expr::In(SEGMENTS.name, R0, yes)]
}

pub(crate) fn family(v6: bool) -> Vec<Expr> {
    nfproto(if v6 { V6 } else { V4 })
}

pub(crate) fn nfproto(family: u8) -> Vec<Expr> {
    vec![Expr::Meta(Meta::Nfproto, R1), Expr::Cmp(R1, true, vec![family])]
}

/// Any of these bits of a connection's record.
pub(crate) fn ct(key: Ct, bits: u32) -> Vec<Expr> {
    let mask = bits.to_ne_bytes().to_vec();
    vec![Expr::Ct(key, R0), Expr::And(R0, mask), Expr::Cmp(R0, false, vec![0; 4])]
}

/// An IPv4 address of 127/8 at this offset of the header: 12 for the source, 16 for the destination. Whether it is IPv4 is asked
/// last: nearly no packet has that byte there.
fn loopback4(offset: u32) -> Vec<Expr> {
    let mut exprs = vec![Expr::Payload(Base::Network, offset, 1, R0), Expr::Cmp(R0, true, vec![127])];
    exprs.extend(nfproto(V4));
    exprs
}

/// Comes from a subnet, or goes there.
pub(crate) fn within(subnet: IpNet, destination: bool) -> Vec<Expr> {
    let (v6, network, mask) = match subnet {
        IpNet::V4(net) => (false, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
        IpNet::V6(net) => (true, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    let length = u32::try_from(mask.len()).unwrap_or_default();
    let offset = if v6 { 8 } else { 12 } + if destination { length } else { 0 };
    let mut exprs = family(v6);
    exprs.extend([
        Expr::Payload(Base::Network, offset, length, R0),
        Expr::And(R0, mask),
        Expr::Cmp(R0, true, network),
    ]);
    exprs
}

/// Interval elements of inclusive ranges, merged: the kernel wants them apart from one another.
fn intervals(mut ranges: Vec<(u128, u128)>, width: usize) -> Vec<Element> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    let bytes = |value: u128| value.to_be_bytes()[16 - width..].to_vec();
    let last = if width == 16 { u128::MAX } else { (1 << (8 * width)) - 1 };
    let mut elements = Vec::new();
    for (start, end) in merged {
        elements.push(Element { key: bytes(start), ..Element::default() });
        if end < last {
            elements.push(Element { key: bytes(end + 1), end: true, ..Element::default() });
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_subnets_are_one_interval() {
        let check = |ranges: &[(u128, u128)], expected: &[(u8, bool)]| {
            let seen: Vec<_> = intervals(ranges.to_vec(), 4).iter().map(|e| (e.key[3], e.end)).collect();
            assert_eq!(seen, expected, "{ranges:?}");
        };
        check(&[], &[]);
        check(&[(8, 15)], &[(8, false), (16, true)]);
        check(&[(16, 31), (8, 15)], &[(8, false), (32, true)]);
        check(&[(8, 15), (24, 31)], &[(8, false), (16, true), (24, false), (32, true)]);
        check(&[(8, 31), (16, 20)], &[(8, false), (32, true)]);
        check(&[(0xffff_fff0, 0xffff_ffff)], &[(0xf0, false)]);
    }
}
