//! The walk in words: hops as they are noted, names that people gave, and the answer at the end.

use weft_dataplane::insight::{Explanation, Hop, HopKind, Verdict};

use super::{
    facts::Place,
    walk::{Stop, Walker},
};

impl Walker<'_> {
    /// The walk as an answer.
    pub(crate) fn explained(self, packet: String, stop: Stop) -> Explanation {
        let (verdict, reason, remedy) = match stop {
            Stop::Dropped(reason, remedy) => (Verdict::Dropped, reason, remedy),
            Stop::Unclear(reason) => (Verdict::Unclear, reason, String::new()),
            Stop::Delivered(_) | Stop::Left(_) if !self.doubts.is_empty() => {
                (Verdict::Unclear, format!("cannot tell: {}", self.doubts.join("; ")), String::new())
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
        Explanation { verdict, packet, reason, remedy, hops: self.hops }
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
