//! The policy `host-firewall`: published ports are reached by whom the host's own rules for incoming packets let in.
//!
//! ```text
//! prerouting    a client that is known ─▶ translated (or, to a routed port, let pass)
//!               one that is not        ─▶ as it is: for this host (to a routed port: turned to this host)
//! input, 200    what comes out of the host's rules and was meant for a published port ─▶ consent
//! consent       remembered for a minute, and dropped (remember4, remember6); this very attempt for some seconds
//! ```
//!
//! Why it remembers: a translated packet never comes to the input hook, where hosts keep the rules for their ports. So the
//! first packet of a client is left untranslated and runs through them; what comes out at the end was let in, and the
//! client's next packet (TCP sends its SYN again) is translated.
//!
//! There is room for so many clients, and whoever sends a packet is a client, whatever address it invents: no handshake
//! proves it, for there is none yet. So those of one interface never take more than half of the room, and those of one prefix
//! (/24, /64) a sixteenth: what comes more often is dropped and not remembered.

use std::collections::BTreeMap;

use weft_dataplane::Segment;
use weft_model::NetworkId;
use weft_sys::nft::{
    Field, Hook, HookPoint, Set, Shape,
    expr::{Base, Ct, Expr, Meta, Reg, Tuple, ct_state, ifname},
};

use crate::{
    direct, publish,
    rules::{self, Ruleset, accept, by_segment, drop_it, family, jump, local},
};

/// After every filter of others that we know of.
pub(crate) const INPUT: (&str, Hook) =
    ("input", Hook { kind: "filter", point: HookPoint::Input, priority: 200 });

const BELIEVED: Shape = Shape::Passing { seconds: 60, most: 65_536 };

/// Clients that the host's firewall has let in to a published port, for as long as they are believed: protocol, their
/// address, the address and port that they asked for. IPv4, IPv6.
pub(crate) const CONSENTED: [Set; 2] = [
    Set {
        name: "consented4",
        key: &[Field::Protocol, Field::Ipv4, Field::Ipv4, Field::Service],
        shape: BELIEVED,
    },
    Set {
        name: "consented6",
        key: &[Field::Protocol, Field::Ipv6, Field::Ipv6, Field::Service],
        shape: BELIEVED,
    },
];

/// Attempts that were let in, by the client's port, too: what the client sends again in just that attempt is let in even if the
/// host's rules were changed meanwhile, as a connection goes on that they let in. Else none would ever get in where they change
/// about as often as TCP asks again (1 s, RFC 6298).
const ATTEMPTS: [Set; 2] = [
    Set {
        name: "attempts4",
        key: &[Field::Protocol, Field::Ipv4, Field::Ipv4, Field::Service, Field::Service],
        shape: ATTEMPT,
    },
    Set {
        name: "attempts6",
        key: &[Field::Protocol, Field::Ipv6, Field::Ipv6, Field::Service, Field::Service],
        shape: ATTEMPT,
    },
];
const ATTEMPT: Shape = Shape::Passing { seconds: 4, most: 65_536 };

/// How often the host was asked: by interface and prefix, by interface.
const PREFIXES: [Set; 2] = [
    Set { name: "asking4", key: &[Field::Interface, Field::Ipv4], shape: BELIEVED },
    Set { name: "asking6", key: &[Field::Interface, Field::Ipv6], shape: BELIEVED },
];
const INTERFACES: Set = Set { name: "asking", key: &[Field::Interface], shape: BELIEVED };
/// A second, and at once: in [`BELIEVED`]'s minute a sixteenth of its places, and half of them.
const BY_PREFIX: (u32, u32) = (50, 1000);
const BY_INTERFACE: (u32, u32) = (500, 2500);

/// All sets that are there for this policy alone.
pub(crate) const SETS: [Set; 7] =
    [CONSENTED[0], CONSENTED[1], ATTEMPTS[0], ATTEMPTS[1], PREFIXES[0], PREFIXES[1], INTERFACES];

/// The comment of the rule that remembers a client that the host's rules let in.
const REMEMBERS: &str = "let in, asked again";

/// Whether a rule of ours drops a packet only so that its client asks again, and is let in then.
pub(crate) fn only_asks_again(chain: &str, comment: &str) -> bool {
    [false, true].iter().any(|v6| remember(*v6) == chain) && comment.starts_with(REMEMBERS)
}

/// Whether a set of our table says who was let in.
pub(crate) fn tells_who_is_known(set: &str) -> bool {
    CONSENTED.iter().any(|s| s.name == set)
}

/// Goes on if the client of the packet is known, or is not.
fn is_client(v6: bool, yes: bool) -> Vec<Expr> {
    let words = if v6 { 4 } else { 1 };
    [asker(v6), vec![service(words), Expr::In(CONSENTED[usize::from(v6)].name, Reg(0), yes)]].concat()
}

/// Goes on if the packet is of an attempt that was let in, or is not.
fn is_attempt(v6: bool, yes: bool) -> Vec<Expr> {
    let words = if v6 { 4 } else { 1 };
    let port = Expr::Payload(Base::Transport, 0, 2, Reg(2 + 2 * words));
    [asker(v6), vec![service(words), port, Expr::In(ATTEMPTS[usize::from(v6)].name, Reg(0), yes)]].concat()
}

/// What goes on with whom the host's rules have let in.
pub(crate) fn are_known(v6: bool) -> [Vec<Expr>; 2] {
    [is_client(v6, true), is_attempt(v6, true)]
}

fn asker(v6: bool) -> Vec<Expr> {
    let (offset, length) = if v6 { (8, 16) } else { (12, 4) };
    vec![
        Expr::Meta(Meta::L4proto, Reg(0)),
        Expr::Payload(Base::Network, offset, length, Reg(1)),
        Expr::Payload(Base::Network, offset + length, length, Reg(1 + length / 4)),
    ]
}

/// The port that is asked for.
fn service(words: u32) -> Expr {
    Expr::Payload(Base::Transport, 2, 2, Reg(1 + 2 * words))
}

/// Remembers the client of a packet that may have been turned to this host, with whom it was for at first; drops the packet.
fn remember_rules(set: &mut Ruleset, v6: bool) {
    let (offset, length, destination) =
        if v6 { (8, 16, Tuple::Destination6) } else { (12, 4, Tuple::Destination4) };
    let words = length / 4;
    let source = Expr::Payload(Base::Network, offset, length, Reg(1));
    let mask = if v6 { [[0xff; 8], [0; 8]].concat() } else { vec![0xff, 0xff, 0xff, 0] };
    let chain = remember(v6);
    set.chain(chain);
    let (place, (rate, burst)) = (PREFIXES[usize::from(v6)].name, BY_PREFIX);
    let prefix = vec![
        Expr::Meta(Meta::Iif, Reg(0)),
        source.clone(),
        Expr::And(Reg(1), mask),
        Expr::Over(place, Reg(0), rate, burst),
    ];
    set.rule(chain, "many clients of one prefix", [prefix, drop_it()]);
    let (rate, burst) = BY_INTERFACE;
    let interface = vec![Expr::Meta(Meta::Iif, Reg(0)), Expr::Over(INTERFACES.name, Reg(0), rate, burst)];
    set.rule(chain, "many clients by one interface", [interface, drop_it()]);
    let client = vec![
        Expr::Meta(Meta::L4proto, Reg(0)),
        source,
        Expr::Tuple(destination, false, Reg(1 + words)),
        Expr::Tuple(Tuple::DestinationPort, false, Reg(1 + 2 * words)),
    ];
    let attempt = vec![
        Expr::Payload(Base::Transport, 0, 2, Reg(2 + 2 * words)),
        Expr::Update(ATTEMPTS[usize::from(v6)].name, Reg(0)),
    ];
    set.rule(chain, "this attempt", [client.clone(), attempt]);
    let known = vec![Expr::Update(CONSENTED[usize::from(v6)].name, Reg(0))];
    set.rule(chain, REMEMBERS, [client, known, drop_it()]);
    // Not remembered, and dropped all the same: the client asks again, and there may be room then.
    set.rule(chain, "no room", [drop_it()]);
}

fn remember(v6: bool) -> &'static str {
    if v6 { "remember6" } else { "remember4" }
}

/// The policy's own rules.
pub(crate) fn rules(set: &mut Ruleset, segments: &BTreeMap<NetworkId, Segment>) {
    for v6 in [false, true] {
        for known in are_known(v6) {
            set.rule("prerouting", "let in by the host", [family(v6), local(), known, jump("publish")]);
        }
    }
    for v6 in routed(segments) {
        ask_for_routed(set, segments, v6);
    }
    let wire = vec![Expr::Meta(Meta::Iifname, Reg(0)), Expr::Cmp(Reg(0), false, ifname("lo"))];
    let new = rules::ct(Ct::State, ct_state::NEW);
    set.rule("input", "not by link-local", [rules::to_link_local(), accept()]);
    set.rule("input", "let in", [new, wire, by_segment(false), local(), jump("consent")]);
    set.chain("consent");
    // What was turned here for a routed port first: the host may publish the same number.
    let routed: Vec<_> =
        routed(segments).map(|v6| (v6, "routed: open ports", direct::was_for_routed(v6))).collect();
    let published = publish::lookups().into_iter().map(|l| (l.v6, l.comment, l.find));
    for (v6, comment, find) in routed.into_iter().chain(published) {
        set.rule("consent", comment, [family(v6), find, jump(remember(v6))]);
    }
    [false, true].into_iter().for_each(|v6| remember_rules(set, v6));
}

/// Families in which some segment is routed.
fn routed(segments: &BTreeMap<NetworkId, Segment>) -> impl Iterator<Item = bool> + '_ {
    [false, true].into_iter().filter(|v6| segments.values().any(|s| s.is_routed(*v6)))
}

/// Turns who asks for a port of a routed segment, and is not known, to this host. A link that the segment trusts is not asked
/// about.
fn ask_for_routed(set: &mut Ruleset, segments: &BTreeMap<NetworkId, Segment>, v6: bool) {
    let routed = segments.values().filter(|s| s.is_routed(v6));
    for (segment, link) in routed.flat_map(|s| s.trusted.iter().map(move |link| (s, link))) {
        let by = || vec![Expr::Meta(Meta::Iifname, Reg(0)), Expr::Cmp(Reg(0), true, ifname(link))];
        for subnet in segment.subnets().filter(|net| net.addr().is_ipv6() == v6) {
            let trusted = [by(), rules::within(subnet, true), accept()];
            set.rule("prerouting", "routed: by a trusted link", trusted);
        }
    }
    let (asked, unknown) =
        (direct::is_for_routed(v6), [is_client(v6, false), is_attempt(v6, false)].concat());
    let ask = [family(v6), by_segment(false), asked, unknown, vec![Expr::Redirect]];
    set.rule("prerouting", "routed: the host is asked", ask);
}
