//! What the chains of a hook do to the packet on its way: they end it, translate it, or let it go on. Answers are
//! translated back by the connection, not by chains.

use std::net::IpAddr;

use weft_dataplane::insight::{Hop, HopKind, Verdict};
use weft_sys::nft::seen::{Chain, Code, Family, NatKind, TableKey};

use super::{
    eval::Effect,
    facts::{Ask, Place},
    hooks::{self, Decided, End, Hook},
    journal::{Doubt, at, told},
    packet::{DST_NAT, Packet, SRC_NAT},
    policies::{self, Judged},
    published,
    walk::{Stop, Walker},
    why,
};
use crate::{TABLE, consent};

/// Whether a hook translates destinations; `None` if it translates nothing.
fn manipulates(hook: Hook) -> Option<bool> {
    match hook {
        Hook::Prerouting | Hook::Output => Some(true),
        Hook::Input | Hook::Postrouting => Some(false),
        Hook::Forward | Hook::Ingress | Hook::Egress => None,
    }
}

impl Walker<'_> {
    /// All base chains of a hook. `Some` ends the walk.
    pub(crate) fn hook(
        &mut self,
        place: Place,
        families: &[Family],
        hook: Hook,
        device: &str,
        packet: &mut Packet,
    ) -> Result<Option<Stop>, Ask> {
        let facts = self.facts;
        let Some(space) = facts.space(place)? else { return Ok(None) };
        let routed = !families.contains(&Family::Bridge) && !matches!(hook, Hook::Ingress | Hook::Egress);
        let destination = manipulates(hook).filter(|_| routed);
        let mut again = destination.filter(|_| packet.known());
        let mut translated: Option<(&TableKey, &Chain)> = None;
        for (key, chain) in hooks::chains(space, families, hook, device) {
            let Some(place_in) = chain.hook.as_ref() else { continue };
            let nat = place_in.kind == "nat";
            if again.is_some() && (nat || hook.translation().is_some_and(|at| place_in.priority > at)) {
                self.translate_again(place, again.take() == Some(true), packet);
            }
            if nat && (packet.known() || packet.untracked || self.bound(place, destination)) {
                if let Some(first) = translated.filter(|first| hooks::unordered(*first, (&key.0, chain)))
                    && !packet.known()
                    && self.translates(place, destination, key, packet)?
                {
                    self.rivals(first.0, &key.0);
                }
                continue;
            }
            let Some(decided) = hooks::base(facts, place, key, packet)? else { continue };
            if matches!(decided.end, End::Nat(..)) {
                translated = Some((&key.0, chain));
            }
            if let Some(stop) = self.decided(place, decided, destination, packet) {
                return Ok(Some(stop));
            }
        }
        if let Some(destination) = again {
            self.translate_again(place, destination, packet);
        }
        self.bind(place, destination, packet);
        Ok(None)
    }

    /// Whether a chain would translate as well what another has translated.
    fn translates(
        &self,
        place: Place,
        destination: Option<bool>,
        key: &(TableKey, String),
        packet: &Packet,
    ) -> Result<bool, Ask> {
        let before = self.tracked.get(&place).map_or(packet.original, |t| t.before);
        let mut untouched = match destination {
            Some(true) => Packet { to: before.to, port: before.port, ..packet.clone() },
            _ => Packet { from: before.from, ..packet.clone() },
        };
        let decided = hooks::base(self.facts, place, key, &mut untouched)?;
        Ok(decided.is_some_and(|d| matches!(d.end, End::Nat(..))))
    }

    fn rivals(&mut self, first: &TableKey, second: &TableKey) {
        let name = |table: &TableKey| format!("{} {}", table.0.as_str(), table.1);
        let reason = "both translate it, and which one the kernel asks first is not known".to_owned();
        self.doubts.push(Doubt { reason, at: format!("{} and {}", name(first), name(second)) });
    }

    fn bound(&self, place: Place, destination: Option<bool>) -> bool {
        let Some(tracked) = self.tracked.get(&place) else { return false };
        match destination {
            Some(true) => tracked.bound.0,
            Some(false) => tracked.bound.1,
            None => true,
        }
    }

    /// After the hook it is decided, translated or not.
    fn bind(&mut self, place: Place, destination: Option<bool>, packet: &Packet) {
        let Some(tracked) = self.tracked.get_mut(&place).filter(|_| !packet.known()) else { return };
        match destination {
            Some(true) => tracked.bound.0 = true,
            Some(false) => tracked.bound.1 = true,
            None => {}
        }
        tracked.after = packet.own();
        tracked.translated = packet.translated;
    }

    /// As the connection was translated: its later packets the same way, its answers the other way round.
    fn translate_again(&mut self, place: Place, destination: bool, packet: &mut Packet) {
        let Some(tracked) = self.tracked.get(&place).copied() else { return };
        let (before, after) = (tracked.before, tracked.after);
        let was = packet.text();
        match (packet.answer, destination) {
            (false, true) if (packet.from, packet.to) == (before.from, before.to) => {
                (packet.to, packet.port) = (after.to, after.port);
            }
            (false, false) if packet.from == before.from && packet.to == after.to => packet.from = after.from,
            (true, true) if packet.from == after.to && packet.to == after.from => packet.to = before.from,
            (true, false) if packet.from == after.to && packet.to == before.from => {
                packet.from = before.to;
                if packet.source.is_some() {
                    packet.source = before.port;
                }
            }
            _ => {}
        }
        if was != packet.text() {
            let back = if packet.answer { " back" } else { "" };
            let text = format!("the connection translates it{back}: {}", packet.text());
            self.hop(place, HopKind::Conntrack, Verdict::Passes, text);
        }
    }

    fn decided(
        &mut self,
        place: Place,
        decided: Decided,
        destination: Option<bool>,
        packet: &mut Packet,
    ) -> Option<Stop> {
        let saved = self.doubted(place, &decided);
        let (verdict, what) = match &decided.end {
            End::Accept => (Verdict::Passes, "accepts"),
            End::Drop => (Verdict::Dropped, "drops"),
            End::Reject => (Verdict::Dropped, "rejects"),
            End::Away(_) => (Verdict::Unclear, "is not understood"),
            End::Hand(_) => (Verdict::Passes, "hands it to another interface"),
            End::Nat(..) => (Verdict::Passes, "translates"),
        };
        let by = if decided.rule.handle.is_some() { "by a rule" } else { "at its end" };
        let mut text = format!("{} {what} {by}", decided.about);
        let mut kind = HopKind::Chain;
        if let End::Nat(nat, ip, port) = &decided.end {
            kind = HopKind::Nat;
            if !self.apply(place, *nat, (*ip, *port), packet) {
                let reason = "where to a rule translates is not known".to_owned();
                self.doubts.push(Doubt { reason, at: at(&decided.rule) });
            }
            self.bind(place, destination, packet);
            text = format!("{text}: {}", packet.text());
        }
        let mut rule = decided.rule;
        let judged = Judged::of(packet).at(&rule.chain, self.answer);
        let space = self.facts.spaces.get(&place).and_then(Option::as_ref);
        let policed = space.map(|space| &space.rules).filter(|_| policies::is_policy(&rule));
        if let Some(rules) = policed {
            let words = policies::words(&self.question.known, policies::decide(rules, &judged));
            match rule.handle {
                Some(_) => rule.comment = format!("{}: {words}", rule.comment),
                None => text = format!("{text}: {words}"),
            }
        }
        let answer = self.answer;
        let place_name = self.name(place);
        let asked_again = decided.end == End::Drop
            && rule.table == TABLE
            && consent::only_asks_again(&rule.chain, &rule.comment);
        let verdict = if asked_again { Verdict::Passes } else { verdict };
        if asked_again {
            text = "the host's rules let it in: this packet is dropped, and the client's next one goes on \
                    (host-firewall)"
                .to_owned();
        }
        self.hops.push(Hop { place: place_name, kind, verdict, text, rule: Some(rule.clone()), answer });
        match decided.end {
            _ if asked_again => Some(Stop::AskedAgain),
            End::Accept | End::Nat(..) => None,
            End::Away(reason) => Some(Stop::Unclear(reason)),
            End::Hand(index) => Some(Stop::Handed(index)),
            End::Drop | End::Reject => Some(match saved {
                Some(told) => Stop::Unclear(format!("cannot tell: {told}")),
                None => {
                    let (reason, remedy) = match policed {
                        Some(rules) => policies::dropped(rules, &self.question.known, &rule, &judged),
                        None => space
                            .and_then(|space| published::dropped(space, &rule, packet))
                            .unwrap_or_else(|| why::dropped(&rule, packet)),
                    };
                    Stop::Dropped(reason, remedy)
                }
            }),
        }
    }

    /// Notes the rules that may or may not match. What comes back is one that may let the packet through before it is dropped.
    fn doubted(&mut self, place: Place, decided: &Decided) -> Option<String> {
        let mut saved = None;
        for (rule, reason, effect) in &decided.doubts {
            let said = self.hops.iter().any(|h| h.verdict == Verdict::Unclear && h.text.ends_with(reason));
            let text = if said {
                "cannot tell whether this rule matches, as above".to_owned()
            } else {
                format!("cannot tell whether this rule matches: {reason}")
            };
            let (place, answer) = (self.name(place), self.answer);
            let (kind, verdict) = (HopKind::Chain, Verdict::Unclear);
            self.hops.push(Hop { place, kind, verdict, text, rule: Some(rule.clone()), answer });
            let doubt = Doubt { reason: reason.clone(), at: at(rule) };
            match effect {
                // It would be let through: what drops it later may never see it.
                Effect::Code(Code::Accept) | Effect::Nat(..) => {
                    saved.get_or_insert_with(|| told(&[doubt]));
                }
                _ => self.doubts.push(doubt),
            }
        }
        saved
    }

    /// Translates; `false` when where to is not known.
    fn apply(
        &self,
        place: Place,
        nat: NatKind,
        to: (Option<IpAddr>, Option<u16>),
        packet: &mut Packet,
    ) -> bool {
        let space = self.facts.spaces.get(&place).and_then(Option::as_ref);
        let own = |link: Option<u32>| {
            let mut on = space?.on(link?, packet.v6());
            on.next().map(|net| net.addr())
        };
        let new = match nat {
            NatKind::Source | NatKind::Destination => to.0,
            NatKind::Masquerade => own(packet.output.as_ref().map(|v| v.index)),
            NatKind::Redirect => match packet.input.as_ref() {
                Some(input) => own(Some(input.index)),
                None if packet.v6() => Some(std::net::Ipv6Addr::LOCALHOST.into()),
                None => Some(std::net::Ipv4Addr::LOCALHOST.into()),
            },
        };
        match nat {
            NatKind::Source | NatKind::Masquerade => {
                packet.translated |= SRC_NAT;
                packet.from = new.unwrap_or(packet.from);
            }
            NatKind::Destination | NatKind::Redirect => {
                packet.translated |= DST_NAT;
                packet.to = new.unwrap_or(packet.to);
                packet.port = to.1.or(packet.port);
            }
        }
        new.is_some() || to.1.is_some()
    }
}
