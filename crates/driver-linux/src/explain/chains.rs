//! What the chains of a hook do to the packet on its way: they end it, translate it, or let it go on. Answers are
//! translated back by the connection, not by chains.

use std::net::IpAddr;

use weft_dataplane::insight::{Hop, HopKind, Verdict};
use weft_sys::nft::seen::{Code, Family, NatKind};

use super::{
    eval::Effect,
    facts::{Ask, Place},
    hooks::{self, Decided, End, Hook},
    packet::{DST_NAT, Packet, SRC_NAT},
    walk::{Stop, Walker},
    why,
};

/// Priorities at which destinations and sources are translated (`NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`).
const NAT_DESTINATION: i32 = -100;
const NAT_SOURCE: i32 = 100;

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
        for (key, chain) in hooks::chains(space, families, hook, device) {
            let Some(place_in) = chain.hook.as_ref() else { continue };
            if let Some(true) =
                again.map(|d| place_in.priority > if d { NAT_DESTINATION } else { NAT_SOURCE })
            {
                self.translate_again(place, again.take() == Some(true), packet);
            }
            let nat = place_in.kind == "nat";
            if nat && (packet.known() || packet.untracked || self.bound(place, destination)) {
                continue;
            }
            let Some(decided) = hooks::base(facts, place, key, packet)? else { continue };
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
        tracked.after = (packet.from, packet.to, packet.port);
        tracked.translated = packet.translated;
    }

    /// As the connection was translated: its later packets the same way, its answers the other way round.
    fn translate_again(&mut self, place: Place, destination: bool, packet: &mut Packet) {
        let Some(tracked) = self.tracked.get(&place).copied() else { return };
        let ((from, to, port), after) = (tracked.before, tracked.after);
        let was = packet.text();
        match (packet.answer, destination) {
            (false, true) if (packet.from, packet.to) == (from, to) => {
                (packet.to, packet.port) = (after.1, after.2);
            }
            (false, false) if packet.from == from && packet.to == after.1 => packet.from = after.0,
            (true, true) if packet.from == after.1 && packet.to == after.0 => packet.to = from,
            (true, false) if packet.from == after.1 && packet.to == from => {
                packet.from = to;
                if packet.source.is_some() {
                    packet.source = port;
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
        let mut saved = None;
        for (rule, reason, effect) in &decided.doubts {
            let text = format!("cannot tell whether this rule matches: {reason}");
            let answer = self.answer;
            self.hops.push(Hop {
                place: self.name(place),
                kind: HopKind::Chain,
                verdict: Verdict::Unclear,
                text,
                rule: Some(rule.clone()),
                answer,
            });
            let told = format!(
                "rule {} of {} {} {}: {reason}",
                rule.handle.unwrap_or(0),
                rule.family,
                rule.table,
                rule.chain
            );
            match effect {
                // It would be let through: what drops it later may never see it.
                Effect::Code(Code::Accept) | Effect::Nat(..) => {
                    saved.get_or_insert_with(|| told.clone());
                }
                _ => self.doubts.push(told),
            }
        }
        let (verdict, what) = match &decided.end {
            End::Accept => (Verdict::Passes, "accepts"),
            End::Drop => (Verdict::Dropped, "drops"),
            End::Reject => (Verdict::Dropped, "rejects"),
            End::Away(_) => (Verdict::Unclear, "is not understood"),
            End::Nat(..) => (Verdict::Passes, "translates"),
        };
        let by = if decided.rule.handle.is_some() { "by a rule" } else { "at its end" };
        let mut text = format!("{} {what} {by}", decided.about);
        let mut kind = HopKind::Chain;
        if let End::Nat(nat, ip, port) = &decided.end {
            kind = HopKind::Nat;
            if !self.apply(place, *nat, (*ip, *port), packet) {
                self.doubts.push("where to a rule translates is not known".into());
            }
            self.bind(place, destination, packet);
            text = format!("{text}: {}", packet.text());
        }
        let answer = self.answer;
        let (place_name, rule) = (self.name(place), decided.rule);
        self.hops.push(Hop { place: place_name, kind, verdict, text, rule: Some(rule.clone()), answer });
        match decided.end {
            End::Accept | End::Nat(..) => None,
            End::Away(reason) => Some(Stop::Unclear(reason)),
            End::Drop | End::Reject => Some(match saved {
                Some(told) => Stop::Unclear(format!("cannot tell: {told}")),
                None => {
                    let (reason, remedy) = why::dropped(&rule, packet);
                    Stop::Dropped(reason, remedy)
                }
            }),
        }
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
