//! The rules of the table. Their number does not depend on how much policy there is.
//!
//! ```text
//!  forward     by port, by range, by protocol, by endpoints; closed ─▶ closed
//!  closed      by the link it came by, by the one it leaves by: drop
//!
//!  input, output     errors about other connections: accept
//!                    whose first packet came from a container: to_host    from the host: from_host
//!  to_host     from no container: accept; else as forward, to the host
//!  from_host   to no container: accept; else as forward, from the host
//! ```
//!
//! One end of what passes `input` and `output` is the host, whichever of its addresses is used; the other decides whether
//! the packet concerns us at all. Traffic of the machine with the rest of the world leaves at the first lookup, and where no
//! policy names the host these chains are not there. A network that is closed by default is not closed to its host.
//!
//! What is translated, published ports among it, is forwarded and never comes to `input`; what the host itself sends to a port
//! it publishes is judged as what it is after that: sent to the container's port.

use std::collections::BTreeMap;

use weft_dataplane::{CLOSED, HOST, OUTSIDE};
use weft_sys::nft::{
    Batch, Hook, HookPoint, Names,
    expr::{Base, Ct, Expr, Meta, Reg, Tuple, Verdict, ct_state},
};

use super::{CLASS4, CLASS6, CLOSED_LINKS, OF_NO_CONNECTION, RANGES, TABLE, VERDICTS};
use crate::publish::number;

/// A chain, its hook if it has one, and its rules: what for, how.
pub(super) struct Chain {
    name: &'static str,
    hook: Option<Hook>,
    rules: Vec<(&'static str, Vec<Expr>)>,
}

impl Chain {
    fn new(name: &'static str) -> Self {
        Self { name, hook: None, rules: Vec::new() }
    }

    /// Before the chains of the same hook in table `weft` and in most others, which accept.
    fn base(name: &'static str, point: HookPoint) -> Self {
        Self { hook: Some(Hook { kind: "filter", point, priority: -5 }), ..Self::new(name) }
    }

    fn rule(&mut self, comment: &'static str, parts: &[Vec<Expr>]) {
        self.rules.push((comment, parts.concat()));
    }
}

/// Adds chains and their rules: all chains first, for rules name them. Those that are named come first in `chains`.
pub(super) fn add(batch: &mut Batch, chains: &[Chain]) {
    for chain in chains {
        batch.add_chain(chain.name, chain.hook);
    }
    for chain in chains {
        for (comment, exprs) in &chain.rules {
            batch.add_rule(chain.name, comment, exprs);
        }
    }
}

/// The names of chains, for their removal.
pub(super) fn names(chains: &[Chain]) -> Names {
    Names { chains: chains.iter().map(|chain| chain.name.to_owned()).collect(), sets: Vec::new() }
}

/// The tags of the rules of each chain, as the kernel will tell them.
pub(super) fn tags(chains: &[Chain]) -> BTreeMap<String, Vec<String>> {
    let mut scratch = Batch::new(TABLE);
    let mut of = |chain: &Chain| {
        let tag = |(comment, exprs): &(&'static str, Vec<Expr>)| scratch.add_rule(chain.name, comment, exprs);
        (chain.name.to_owned(), chain.rules.iter().map(tag).collect())
    };
    chains.iter().map(&mut of).collect()
}

const FROM: Reg = Reg(0);
const TO: Reg = Reg(1);
const PROTOCOL: Reg = Reg(2);
const PORT: Reg = Reg(3);
const SCRATCH: Reg = Reg(4);
/// Behind [`SCRATCH`], which takes an IPv6 address or the name of an interface.
const KEPT: Reg = Reg(8);

fn family(v6: bool) -> Vec<Expr> {
    let number = if v6 { 10 } else { 2 };
    vec![Expr::Meta(Meta::Nfproto, SCRATCH), Expr::Cmp(SCRATCH, true, vec![number])]
}

/// The class of who began the connection, or of who answers it.
fn class(v6: bool, answers: bool, to: Reg) -> [Expr; 2] {
    let (source, set) = if v6 { (Tuple::Source6, CLASS6) } else { (Tuple::Source4, CLASS4) };
    [Expr::Tuple(source, answers, SCRATCH), Expr::Map(set.name, SCRATCH, to)]
}

/// The classes of who began the connection and of who answers it.
fn classes(v6: bool) -> Vec<Expr> {
    let found = [class(v6, false, FROM), class(v6, true, TO)].concat();
    [family(v6), found, measured(&[FROM, TO])].concat()
}

fn host(at: Reg) -> Vec<Expr> {
    vec![Expr::Load(HOST.to_ne_bytes().to_vec(), at)]
}

fn to_host(v6: bool) -> Vec<Expr> {
    [family(v6), class(v6, false, FROM).to_vec(), measured(&[FROM]), host(TO)].concat()
}

fn from_host(v6: bool) -> Vec<Expr> {
    [family(v6), class(v6, true, TO).to_vec(), measured(&[TO]), host(FROM)].concat()
}

/// Takes looked-up values through the packet's mark, which is put back before the rule looks anything up: `nft list` cannot
/// read a key that is put together from looked-up values, whose length it does not know, and ends with a failed assertion; a
/// mark has a length. Nothing can end the rule between taking the mark and putting it back.
fn measured(values: &[Reg]) -> Vec<Expr> {
    let through =
        values.iter().flat_map(|reg| [Expr::SetMeta(Meta::Mark, *reg), Expr::Meta(Meta::Mark, *reg)]);
    let kept = std::iter::once(Expr::Meta(Meta::Mark, KEPT));
    kept.chain(through).chain([Expr::SetMeta(Meta::Mark, KEPT)]).collect()
}

fn drop_it() -> Vec<Expr> {
    vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]
}

/// The lookups of one family, from the narrowest to the widest.
fn lookups(chain: &mut Chain, ends: &[Expr]) {
    let ends = || ends.to_vec();
    let protocol = || vec![Expr::Ct(Ct::Protocol, PROTOCOL)];
    let no = |reg| vec![Expr::Load(vec![0; 4], reg)];
    let answering = |reg| vec![Expr::Tuple(Tuple::SourcePort, true, reg)];
    let judge = || vec![Expr::VerdictMap(VERDICTS.name, FROM)];
    chain.rule("by port", &[ends(), protocol(), answering(PORT), judge()]);
    for (ranged, set) in RANGES {
        let only = vec![Expr::Cmp(PROTOCOL, true, vec![number(ranged)])];
        let range = vec![Expr::Map(set.name, SCRATCH, PORT)];
        let range = [answering(SCRATCH), range, measured(&[PORT])].concat();
        chain.rule("by range of ports", &[protocol(), only, ends(), range, judge()]);
    }
    chain.rule("by protocol", &[ends(), protocol(), no(PORT), judge()]);
    chain.rule("by endpoints", &[ends(), no(PROTOCOL), no(PORT), judge()]);
}

/// What the host forwards, and what its bridges do.
pub(super) fn forwarded() -> Vec<Chain> {
    let mut closed = Chain::new("closed");
    for (comment, way) in
        [("by the link it came by", Meta::Iifname), ("by the link it leaves by", Meta::Oifname)]
    {
        closed.rule(comment, &[vec![Expr::Meta(way, SCRATCH), Expr::VerdictMap(CLOSED_LINKS.name, SCRATCH)]]);
    }
    closed.rule("by neither", &[drop_it()]);
    let mut forward = Chain::base("forward", HookPoint::Forward);
    for v6 in [false, true] {
        let (set, length, places) = if v6 { (CLASS6, 16, [8, 24]) } else { (CLASS4, 4, [12, 16]) };
        for place in places {
            let invalid = vec![
                Expr::Ct(Ct::State, FROM),
                Expr::And(FROM, ct_state::INVALID.to_ne_bytes().to_vec()),
                Expr::Cmp(FROM, false, vec![0; 4]),
                Expr::Payload(Base::Network, place, length, SCRATCH),
                Expr::Map(set.name, SCRATCH, FROM),
                Expr::Cmp(FROM, false, OUTSIDE.to_ne_bytes().to_vec()),
            ];
            forward.rule(OF_NO_CONNECTION, &[family(v6), invalid, drop_it()]);
        }
        lookups(&mut forward, &classes(v6));
        for end in [FROM, TO] {
            let bit = CLOSED.to_ne_bytes().to_vec();
            let is = vec![Expr::And(end, bit), Expr::Cmp(end, false, vec![0; 4])];
            forward.rule("closed", &[classes(v6), is, jump(closed.name)]);
        }
    }
    vec![closed, forward]
}

fn jump(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Jump(chain.to_owned()))]
}

/// What the host itself sends and receives.
pub(super) fn own() -> Vec<Chain> {
    let (mut to, mut from) = (Chain::new("to_host"), Chain::new("from_host"));
    for v6 in [false, true] {
        for (chain, answers, ends) in [(&mut to, false, to_host(v6)), (&mut from, true, from_host(v6))] {
            let other = [family(v6), class(v6, answers, FROM).to_vec()].concat();
            let none =
                vec![Expr::Cmp(FROM, true, OUTSIDE.to_ne_bytes().to_vec()), Expr::Verdict(Verdict::Accept)];
            chain.rule("of no container", &[other, none]);
            lookups(chain, &ends);
        }
    }
    // In `output`, what began elsewhere is an answer.
    let base = |name, point, first: &Chain, answers: &Chain| {
        let mut chain = Chain::base(name, point);
        // The host tells of packets that it cannot forward ("fragmentation needed"); that is of the connection they belong to.
        let related = vec![
            Expr::Ct(Ct::State, FROM),
            Expr::And(FROM, ct_state::RELATED.to_ne_bytes().to_vec()),
            Expr::Cmp(FROM, false, vec![0; 4]),
        ];
        chain.rule("about another connection", &[related, vec![Expr::Verdict(Verdict::Accept)]]);
        for (direction, to) in [(0, first), (1, answers)] {
            let way = vec![Expr::Ct(Ct::Direction, FROM), Expr::Cmp(FROM, true, vec![direction])];
            chain.rule("by who began it", &[way, jump(to.name)]);
        }
        chain
    };
    let input = base("input", HookPoint::Input, &to, &from);
    let output = base("output", HookPoint::Output, &from, &to);
    vec![to, from, input, output]
}
