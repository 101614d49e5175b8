//! The walk in words: hops as they are noted, names that people gave, and the answer at the end.

use std::net::IpAddr;

use weft_dataplane::insight::{Explanation, Hop, HopKind, RuleAt, Verdict};

use super::{
    facts::Place,
    packet::Packet,
    walk::{HANDED, Stop, Walker},
};

/// Something that the end depends on and that cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) reason: String,
    /// Which rule; empty where it is none.
    pub(crate) at: String,
}

/// Doubts in one line: each reason once, with all the places that have it.
pub(crate) fn told(doubts: &[Doubt]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for doubt in doubts {
        match reasons.iter_mut().find(|(reason, _)| *reason == doubt.reason) {
            Some((_, places)) if places.contains(&doubt.at.as_str()) => {}
            Some((_, places)) => places.push(&doubt.at),
            None => reasons.push((&doubt.reason, vec![&doubt.at])),
        }
    }
    let one = |(reason, places): &(&str, Vec<&str>)| match places.join(", ") {
        none if none.is_empty() => (*reason).to_owned(),
        places => format!("{reason} ({places})"),
    };
    reasons.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// `rule 7 of inet fw forward`.
pub(crate) fn at(rule: &RuleAt) -> String {
    let RuleAt { family, table, chain, .. } = rule;
    match rule.handle {
        None | Some(0) => format!("{family} {table} {chain}"),
        Some(handle) => format!("rule {handle} of {family} {table} {chain}"),
    }
}

impl Walker<'_> {
    /// The walk as an answer.
    pub(crate) fn explained(self, packet: String, ends: String, stop: Stop) -> Explanation {
        let (verdict, reason, remedy) = match stop {
            Stop::Dropped(reason, remedy) => (Verdict::Dropped, reason, remedy),
            Stop::Unclear(reason) => (Verdict::Unclear, reason, String::new()),
            Stop::Handed(_) => (Verdict::Unclear, HANDED.to_owned(), String::new()),
            Stop::AskedAgain => {
                let reason = "the host's rules let it in, and it was asked again all the same";
                (Verdict::Unclear, reason.to_owned(), String::new())
            }
            Stop::Delivered(_) | Stop::Left(_) if !self.doubts.is_empty() => {
                (Verdict::Unclear, format!("cannot tell: {}", told(&self.doubts)), String::new())
            }
            Stop::Delivered(place) => {
                (Verdict::Passes, format!("reaches {}", self.name(place)), String::new())
            }
            Stop::Left(link) => {
                let name = self.facts.spaces.get(&Place::Host).and_then(|s| s.as_ref()?.link(link));
                let name = name.map(|l| l.name.clone()).unwrap_or_default();
                (Verdict::Passes, format!("leaves this host by {name}"), String::new())
            }
        };
        Explanation { verdict, packet, ends, reason, remedy, hops: self.hops }
    }

    /// Who speaks to whom, by the names that people gave; empty where neither has one.
    pub(crate) fn ends(&self, packet: &Packet) -> String {
        let known = &self.question.known;
        let named = |ip: &IpAddr| {
            let container = known.sandboxes.get(known.addresses.get(ip)?)?;
            let network = known.homes.get(ip).map(|network| format!(".{network}")).unwrap_or_default();
            Some(format!("{container}{network}"))
        };
        let host = self.facts.spaces.get(&Place::Host).and_then(Option::as_ref);
        let shown = |ip: &IpAddr| {
            let own = || if host.is_some_and(|h| h.owns(*ip)) { "host".into() } else { ip.to_string() };
            named(ip).unwrap_or_else(own)
        };
        let (from, to) = (&packet.from, &packet.to);
        if named(from).or(named(to)).is_none() {
            return String::new();
        }
        format!("{} -> {}", shown(from), shown(to))
    }

    /// `host`, `container web`.
    pub(crate) fn name(&self, place: Place) -> String {
        match place {
            Place::Host => "host".into(),
            Place::Sandbox(id) => {
                let name = self.question.known.sandboxes.get(&id).cloned();
                format!("container {}", name.unwrap_or_else(|| id.short()))
            }
        }
    }

    /// A link with its network's name.
    pub(crate) fn link_name(&self, name: &str) -> String {
        match self.question.known.networks.get(name) {
            Some(network) => format!("{name} (network {network})"),
            None => name.to_owned(),
        }
    }

    pub(crate) fn hop(&mut self, place: Place, kind: HopKind, verdict: Verdict, text: impl Into<String>) {
        let (place, answer) = (self.name(place), self.answer);
        self.hops.push(Hop { place, kind, verdict, text: text.into(), rule: None, answer });
    }

    /// A hop that ends it.
    pub(crate) fn lost(
        &mut self,
        place: Place,
        kind: HopKind,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Stop {
        let text = text.into();
        self.hop(place, kind, Verdict::Dropped, text.clone());
        Stop::Dropped(format!("{}: {text}", self.name(place)), remedy.into())
    }

    pub(crate) fn unclear(&mut self, place: Place, kind: HopKind, text: impl Into<String>) -> Stop {
        let text = text.into();
        self.hop(place, kind, Verdict::Unclear, text.clone());
        Stop::Unclear(text)
    }
}
