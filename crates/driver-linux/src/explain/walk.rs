//! A packet's way through namespaces, as a function of what was read: there, back again, and there once more, because what
//! follows in a known connection is judged by other rules than what begins it.
//!
//! ```text
//!  send ─ route ─ output ─ postrouting ─▶ transmit ─▶ wire or bridge ─▶ receive ─ prerouting ─ route ─┬─ input ─ socket
//!                                            ▲                                                        │
//!                                            └──────────── postrouting ─ forward ◀────────────────────┘
//! ```
//!
//! Every decision becomes a hop. Where something cannot be told, the walk goes on as if it let the packet pass, and the end says
//! what it depends on.

mod stack;

use std::{collections::BTreeMap, net::IpAddr};

use weft_dataplane::insight::{Explanation, Hop, HopKind, Question, Verdict};
use weft_sys::{
    netlink::{
        detail::Detail,
        lookup::{Lookup, Way},
    },
    nft::seen::Family,
};

use super::{
    facts::{Ask, Facts, Place},
    journal::Doubt,
    packet::{Packet, Tuple, Via},
    start::{self, Start},
};

/// How a walk stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At a socket here.
    Delivered(Place),
    /// It has left the host by this link.
    Left(u32),
    /// Why, and what to do about it.
    Dropped(String, String),
    Unclear(String),
    /// The host's rules let it in, and its client is to ask again ([`crate::consent`]).
    AskedAgain,
    /// At the ingress of an interface, to another: not at an end yet.
    Handed(u32),
}

/// What became of a connection in one namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracked {
    /// As it came.
    pub(crate) before: Tuple,
    /// As it left.
    pub(crate) after: Tuple,
    pub(crate) translated: u32,
    /// Destination and source are decided.
    pub(crate) bound: (bool, bool),
}

/// Of a packet that is handed on where nobody follows it.
pub(crate) const HANDED: &str = "a rule sends it by another interface (fwd)";

pub(crate) struct Walker<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) question: &'a Question,
    pub(crate) hops: Vec<Hop>,
    pub(crate) tracked: BTreeMap<Place, Tracked>,
    /// What it depends on.
    pub(crate) doubts: Vec<Doubt>,
    pub(crate) answer: bool,
    /// The packet as it was sent.
    first: Option<Packet>,
    left: usize,
}

/// Namespaces and bridges that a packet passes at most: a loop is an end, too.
const MOST: usize = 32;

/// Walks.
///
/// # Errors
/// What has to be known first.
pub(crate) fn walk(question: &Question, facts: &Facts) -> Result<Explanation, Ask> {
    let mut walker = Walker {
        facts,
        question,
        hops: Vec::new(),
        tracked: BTreeMap::new(),
        doubts: Vec::new(),
        answer: false,
        first: None,
        left: MOST,
    };
    let Start { place, link, mut packet, fixed } = match start::start(question, facts)? {
        Ok(start) => start,
        Err(stop) => return Ok(walker.explained(start::shown(question), String::new(), stop)),
    };
    let asked = packet.clone();
    let mut stop = walker.set_off((place, link), &mut packet, fixed)?;
    if stop == Stop::AskedAgain {
        packet = Packet { let_in: true, ..asked };
        walker.first = None;
        walker.tracked.clear();
        walker.left = MOST;
        stop = walker.set_off((place, link), &mut packet, fixed)?;
    }
    let stop = walker.back(stop, place, link, &packet)?;
    let first = walker.first.take();
    let shown = first.as_ref().map_or_else(|| start::shown(question), Packet::text);
    let ends = first.as_ref().map(|packet| walker.ends(packet)).unwrap_or_default();
    let stop = match first {
        Some(first) => walker.onward(stop, (place, link), first)?,
        None => stop,
    };
    Ok(walker.explained(shown, ends, stop))
}

impl Walker<'_> {
    /// From where it is sent, or by where it comes in.
    fn set_off(
        &mut self,
        (place, link): (Place, Option<u32>),
        packet: &mut Packet,
        fixed: bool,
    ) -> Result<Stop, Ask> {
        match link {
            None => self.send(place, packet, fixed),
            Some(link) => self.arrive(link, packet),
        }
    }

    /// The answer's way.
    fn back(&mut self, stop: Stop, place: Place, link: Option<u32>, packet: &Packet) -> Result<Stop, Ask> {
        let mut reply = packet.reply();
        let end = stop.clone();
        self.answer = true;
        self.left = MOST;
        let back = match stop {
            Stop::Delivered(at) => self.send(at, &mut reply, true)?,
            Stop::Left(by) => {
                if let Some(space) = self.facts.space(Place::Host)?
                    && !space.owns(reply.to)
                    && link.is_none()
                {
                    let reason = format!(
                        "whether the outside knows the way back to {}: its address is not translated",
                        reply.to
                    );
                    self.doubts.push(Doubt { reason, at: String::new() });
                }
                self.arrive(by, &mut reply)?
            }
            other => return Ok(other),
        };
        Ok(match back {
            Stop::Delivered(at) if link.is_none() && at == place => end,
            Stop::Left(by) if link.is_some() => {
                if link != Some(by) {
                    let text = "the answer leaves by another interface than the packet came by";
                    self.hop(Place::Host, HopKind::Route, Verdict::Passes, text);
                }
                end
            }
            Stop::Dropped(reason, remedy) => Stop::Dropped(format!("the answer is lost: {reason}"), remedy),
            Stop::Unclear(reason) => Stop::Unclear(format!("the answer: {reason}")),
            Stop::Handed(_) => Stop::Unclear(format!("the answer: {HANDED}")),
            Stop::AskedAgain => Stop::Unclear("the answer: it is taken for a new connection".into()),
            Stop::Delivered(_) | Stop::Left(_) => {
                Stop::Dropped("the answer does not come back to who asked".into(), String::new())
            }
        })
    }

    /// What follows the answer. It is told only where it does not arrive.
    fn onward(&mut self, stop: Stop, start: (Place, Option<u32>), first: Packet) -> Result<Stop, Ask> {
        if !matches!(stop, Stop::Delivered(_) | Stop::Left(_)) {
            return Ok(stop);
        }
        let told = self.hops.len();
        let mut packet = Packet { further: true, ..first };
        self.answer = false;
        self.left = MOST;
        let onward = self.set_off(start, &mut packet, true)?;
        Ok(match onward {
            Stop::Dropped(reason, remedy) => {
                Stop::Dropped(format!("later packets are lost: {reason}"), remedy)
            }
            Stop::Unclear(reason) => Stop::Unclear(format!("later packets: {reason}")),
            Stop::Handed(_) => Stop::Unclear(format!("later packets: {HANDED}")),
            Stop::AskedAgain => Stop::Unclear("later packets: they are taken for a new connection".into()),
            Stop::Delivered(_) | Stop::Left(_) => {
                self.hops.truncate(told);
                stop
            }
        })
    }

    /// One more namespace or bridge; `false` when there were too many.
    pub(crate) fn further(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// What a namespace remembers of the connection.
    fn enter(&mut self, place: Place, packet: &mut Packet) {
        packet.mark = 0;
        packet.untracked = false;
        if packet.known() {
            if let Some(known) = self.tracked.get(&place) {
                packet.translated = known.translated;
                packet.original = known.before;
                packet.answered = Some(known.after.turned());
            }
            return;
        }
        self.first.get_or_insert_with(|| packet.clone());
        packet.translated = 0;
        (packet.original, packet.answered) = (packet.own(), None);
        let (before, after) = (packet.original, packet.original);
        self.tracked.insert(place, Tracked { before, after, translated: 0, bound: (false, false) });
    }

    fn way(
        &self,
        place: Place,
        packet: &Packet,
        from: Option<IpAddr>,
        input: Option<u32>,
    ) -> Result<Way, Ask> {
        let service = packet.service();
        let lookup = Lookup { to: packet.to, from, input, output: None, mark: packet.mark, service };
        self.facts.way(place, lookup)
    }
}

/// The families of IP's hooks.
pub(crate) fn ip(packet: &Packet) -> &'static [Family] {
    if packet.v6() { &[Family::Inet, Family::Ip6] } else { &[Family::Inet, Family::Ip] }
}

pub(crate) fn via(link: &Detail) -> Via {
    Via { index: link.index, name: link.name.clone(), kind: link.kind.clone() }
}
