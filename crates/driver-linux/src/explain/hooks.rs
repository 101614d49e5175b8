//! One hook: every base chain of every table there, in the kernel's order, on one packet.
//!
//! A drop ends the packet. An accept ends its base chain only: the next one may still drop. Chains of type `nat` see the first
//! packet of a connection, and the first translation of a hook is the one.

use std::cmp::Reverse;

use weft_dataplane::insight::RuleAt;
use weft_sys::nft::seen::{Chain, Code, Family, NatKind, Rule, TableKey};

use super::{
    eval::{self, Context, Effect, Matched},
    facts::{Ask, Facts, Place, Space},
    packet::Packet,
    text,
};

/// Where the kernel asks rules (`enum nf_inet_hooks`; the same numbers in the bridge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
    /// Of the inet family; netdev calls it 0.
    Ingress = 5,
    /// Of netdev alone, which calls it 1.
    Egress = 6,
}

impl Hook {
    /// Its number in a family.
    fn number(self, family: Family) -> Option<u32> {
        match (family, self) {
            (Family::Netdev, Self::Ingress) => Some(0),
            (Family::Netdev, Self::Egress) => Some(1),
            (Family::Netdev, _) | (_, Self::Egress) => None,
            (_, hook) => Some(hook as u32),
        }
    }

    /// The priority of translations there (`NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`); `None` where nothing is translated.
    pub(crate) fn translation(self) -> Option<i32> {
        match self {
            Self::Prerouting | Self::Output => Some(-100),
            Self::Input | Self::Postrouting => Some(100),
            Self::Forward | Self::Ingress | Self::Egress => None,
        }
    }
}

/// The families that share the ingress of an interface.
pub(crate) const INGRESS: &[Family] = &[Family::Netdev, Family::Inet];

/// How a base chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Accept,
    Drop,
    Reject,
    /// Something that decides elsewhere.
    Away(String),
    /// On by the interface of this number.
    Hand(u32),
    Nat(NatKind, Option<std::net::IpAddr>, Option<u16>),
}

/// What a base chain decided.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) end: End,
    pub(crate) rule: RuleAt,
    /// `filter, priority 0`.
    pub(crate) about: String,
    /// Rules that may or may not have matched, with the reason and what they would have done.
    pub(crate) doubts: Vec<(RuleAt, String, Effect)>,
}

/// After this priority connections are known (`NF_IP_PRI_CONNTRACK`).
const CONNTRACK: i32 = -200;
/// Rules that one base chain may go through: a circle of gotos is refused by the kernel, but the tables are read in pieces.
const MOST: usize = 200_000;
/// Chains within chains (`NFT_JUMP_STACK_SIZE`).
const DEEP: usize = 16;

/// The base chains of a hook, in the order in which the kernel asks them.
///
/// By priority; among equals the one that was registered last is the first (`nf_hook_entries_grow`). Chains of type `nat` are
/// in a list of their own, which one function of the kernel goes through (`nf_nat_register_fn`): at the priority of
/// translation, whatever theirs is, and among other chains of that priority as old as the first of them.
pub(crate) fn chains<'a>(
    space: &'a Space,
    families: &[Family],
    hook: Hook,
    device: &str,
) -> Vec<(&'a (TableKey, String), &'a Chain)> {
    let mut found: Vec<_> = space
        .rules
        .chains
        .iter()
        .filter(|(((family, _), _), chain)| {
            chain.hook.as_ref().is_some_and(|h| {
                let bound = h.devices.is_empty() || h.devices.iter().any(|d| d == device);
                families.contains(family) && Some(h.number) == hook.number(*family) && bound
            })
        })
        .collect();
    let translates = |chain: &Chain| chain.hook.as_ref().is_some_and(|h| h.kind == "nat");
    let first = found.iter().filter(|(_, c)| translates(c)).map(|(_, c)| c.registered).min();
    found.sort_by_key(|(_, chain)| {
        let own = chain.hook.as_ref().map_or(0, |h| h.priority);
        let among = (own, Reverse(chain.registered));
        match hook.translation().filter(|_| translates(chain)) {
            Some(priority) => ((priority, Reverse(first.unwrap_or_default())), among),
            None => (among, among),
        }
    });
    found
}

/// Whether two chains of one list are in an order that nothing tells: those of iptables-legacy are not dated.
pub(crate) fn unordered((a, chain_a): (&TableKey, &Chain), (b, chain_b): (&TableKey, &Chain)) -> bool {
    let priority = |chain: &Chain| chain.hook.as_ref().map(|h| h.priority);
    let old = |key: &TableKey| key.1.starts_with(text::LEGACY);
    old(a) != old(b) && priority(chain_a) == priority(chain_b)
}

/// One base chain on a packet.
pub(crate) fn base(
    facts: &Facts,
    place: Place,
    key: &(TableKey, String),
    packet: &mut Packet,
) -> Result<Option<Decided>, Ask> {
    let Some(space) = facts.space(place)? else { return Ok(None) };
    let Some((chain, hook)) = space.rules.chains.get(key).and_then(|c| Some((c, c.hook.as_ref()?))) else {
        return Ok(None);
    };
    let tracked = hook.priority > CONNTRACK;
    let at = Context { facts, place, space, rules: &space.rules, table: &key.0, tracked };
    let mut run = Run { at: &at, doubts: Vec::new(), steps: 0, depth: 0 };
    let ended = run.chain(&key.1, chain, packet)?;
    let (end, rule) = match ended {
        Some((end, chain, rule)) => (end, text::rule_at(&space.rules, &key.0, &chain, &rule)),
        None => {
            let end = if hook.accepts { End::Accept } else { End::Drop };
            let text = format!("policy {}", if hook.accepts { "accept" } else { "drop" });
            let (family, table) = (key.0.0.as_str().to_owned(), key.0.1.clone());
            let rule =
                RuleAt { family, table, chain: key.1.clone(), handle: None, text, comment: String::new() };
            (end, rule)
        }
    };
    let about = format!("{}, priority {}", hook.kind, hook.priority);
    Ok(Some(Decided { end, rule, about, doubts: run.doubts }))
}

struct Run<'a> {
    at: &'a Context<'a>,
    doubts: Vec<(RuleAt, String, Effect)>,
    steps: usize,
    depth: usize,
}

type Ended = Option<(End, String, Rule)>;

impl Run<'_> {
    /// `None` when the chain's end was reached.
    fn chain(&mut self, name: &str, chain: &Chain, packet: &mut Packet) -> Result<Ended, Ask> {
        for rule in &chain.rules {
            self.steps += 1;
            if self.steps > MOST {
                return Ok(Some((
                    End::Away("the rules lead in a circle".into()),
                    name.to_owned(),
                    rule.clone(),
                )));
            }
            let effect = match eval::rule(self.at, &rule.exprs, packet)? {
                Matched::No | Matched::Yes(Effect::None) => continue,
                Matched::Yes(effect) => effect,
                Matched::Maybe(why, effect) => {
                    self.doubt(name, rule, why, effect, packet)?;
                    continue;
                }
            };
            let end = match effect {
                Effect::Code(Code::Jump(to)) => {
                    if let Some(ended) = self.enter(&to, packet)? {
                        return Ok(Some(ended));
                    }
                    continue;
                }
                // What ends there ends here, too.
                Effect::Code(Code::Goto(to)) => return self.enter(&to, packet),
                Effect::Code(Code::Return) => return Ok(None),
                Effect::Code(Code::Accept) => End::Accept,
                Effect::Code(Code::Drop) => End::Drop,
                Effect::Code(_) | Effect::None => continue,
                Effect::Reject => End::Reject,
                Effect::Away(why) => End::Away(why),
                Effect::Hand(Some(index)) => End::Hand(index),
                Effect::Hand(None) => End::Away("it is sent by an interface that is not known".into()),
                Effect::Nat(kind, ip, port) => End::Nat(kind, ip, port),
            };
            return Ok(Some((end, name.to_owned(), rule.clone())));
        }
        Ok(None)
    }

    fn enter(&mut self, name: &str, packet: &mut Packet) -> Result<Ended, Ask> {
        let key = (self.at.table.clone(), name.to_owned());
        let Some(chain) = self.at.rules.chains.get(&key).filter(|_| self.depth < DEEP) else {
            return Ok(None);
        };
        self.depth += 1;
        let ended = self.chain(name, chain, packet);
        self.depth -= 1;
        ended
    }

    /// Notes a rule that may match. Where it would lead into another chain, what that chain would do is what counts.
    fn doubt(
        &mut self,
        chain: &str,
        rule: &Rule,
        why: String,
        effect: Effect,
        packet: &Packet,
    ) -> Result<(), Ask> {
        let effect = match effect {
            Effect::None | Effect::Code(Code::Return | Code::Continue | Code::Break) => return Ok(()),
            Effect::Code(Code::Jump(to) | Code::Goto(to)) => match self.enter(&to, &mut packet.clone())? {
                None => return Ok(()),
                Some((End::Accept, ..)) => Effect::Code(Code::Accept),
                Some((End::Drop, ..)) => Effect::Code(Code::Drop),
                Some((End::Reject, ..)) => Effect::Reject,
                Some((End::Away(why), ..)) => Effect::Away(why),
                Some((End::Hand(index), ..)) => Effect::Hand(Some(index)),
                Some((End::Nat(kind, ip, port), ..)) => Effect::Nat(kind, ip, port),
            },
            other => other,
        };
        // Of a table that cannot be read, the comment of its one rule says so.
        let unread = rule.handle == 0 && self.at.table.1.starts_with(text::LEGACY);
        let why = if unread { rule.comment.clone() } else { why };
        self.doubts.push((text::rule_at(self.at.rules, self.at.table, chain, rule), why, effect));
        Ok(())
    }
}
