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
    facts::{Ask, Facts, Place, Space},
    hooks::Hook,
    packet::{Packet, Via},
    start::{self, Start},
    why,
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
}

/// What became of a connection in one namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracked {
    /// Source, destination, port as they came.
    pub(crate) before: (IpAddr, IpAddr, Option<u16>),
    /// As they left.
    pub(crate) after: (IpAddr, IpAddr, Option<u16>),
    pub(crate) translated: u32,
    /// Destination and source are decided.
    pub(crate) bound: (bool, bool),
}

pub(crate) struct Walker<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) question: &'a Question,
    pub(crate) hops: Vec<Hop>,
    pub(crate) tracked: BTreeMap<Place, Tracked>,
    /// What it depends on.
    pub(crate) doubts: Vec<String>,
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
        Err(stop) => return Ok(walker.explained(start::shown(question), stop)),
    };
    let stop = match link {
        None => walker.send(place, &mut packet, fixed)?,
        Some(link) => walker.arrive(link, &mut packet)?,
    };
    let stop = walker.back(stop, place, link, &packet)?;
    let first = walker.first.take();
    let shown = first.as_ref().map_or_else(|| start::shown(question), Packet::text);
    let stop = match first {
        Some(first) => walker.onward(stop, (place, link), first)?,
        None => stop,
    };
    Ok(walker.explained(shown, stop))
}

impl Walker<'_> {
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
                    self.doubts.push(format!(
                        "whether the outside knows the way back to {}: its address is not translated",
                        reply.to
                    ));
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
        let onward = match start {
            (place, None) => self.send(place, &mut packet, true)?,
            (_, Some(link)) => self.arrive(link, &mut packet)?,
        };
        Ok(match onward {
            Stop::Dropped(reason, remedy) => {
                Stop::Dropped(format!("later packets are lost: {reason}"), remedy)
            }
            Stop::Unclear(reason) => Stop::Unclear(format!("later packets: {reason}")),
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
            }
            return;
        }
        self.first.get_or_insert_with(|| packet.clone());
        packet.translated = 0;
        packet.original = (packet.from, packet.to, packet.port);
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

    /// A namespace sends it; `fixed`: from the address it has.
    pub(crate) fn send(&mut self, place: Place, packet: &mut Packet, fixed: bool) -> Result<Stop, Ask> {
        let facts = self.facts;
        let Some(space) = facts.space(place)? else { return Ok(self.not_running(place)) };
        let way = self.way(place, packet, fixed.then_some(packet.from), None)?;
        let Some((link, mut next)) = self.route(place, space, packet, way, !fixed)? else {
            return self.refused(place, space, packet, None, way);
        };
        self.enter(place, packet);
        if let Some(stop) = self.full(place, space, packet) {
            return Ok(stop);
        }
        self.remembered(place, packet)?;
        let (to, mark) = (packet.to, packet.mark);
        let mut link = link;
        packet.output = Some(via(link));
        if let Some(stop) = self.hook(place, ip(packet), Hook::Output, &link.name, packet)? {
            return Ok(stop);
        }
        if (packet.to, packet.mark) != (to, mark) {
            let way = self.way(place, packet, Some(packet.from), None)?;
            match self.route(place, space, packet, way, false)? {
                Some(again) => (link, next) = again,
                None => return self.refused(place, space, packet, None, way),
            }
            packet.output = Some(via(link));
        }
        if let Some(stop) = self.hook(place, ip(packet), Hook::Postrouting, &link.name, packet)? {
            return Ok(stop);
        }
        if link.name == "lo" {
            return self.looped(place, space, link, packet);
        }
        self.transmit(place, space, link, next, packet)
    }

    /// What a namespace sends to itself comes back by `lo` with its route already decided.
    fn looped(&mut self, place: Place, space: &Space, lo: &Detail, packet: &mut Packet) -> Result<Stop, Ask> {
        if let Some(stop) = self.usable(place, lo) {
            return Ok(stop);
        }
        (packet.input, packet.output) = (Some(via(lo)), None);
        for hook in [Hook::Prerouting, Hook::Input] {
            if let Some(stop) = self.hook(place, ip(packet), hook, "lo", packet)? {
                return Ok(stop);
            }
        }
        Ok(self.deliver(place, space, packet))
    }

    /// The link and next hop of a way, as a hop; `None` for a refusal.
    fn route<'s>(
        &mut self,
        place: Place,
        space: &'s Space,
        packet: &mut Packet,
        way: Way,
        choose: bool,
    ) -> Result<Option<(&'s Detail, IpAddr)>, Ask> {
        match way {
            Way::Local { source } => {
                if choose {
                    packet.from = source.unwrap_or(packet.to);
                }
                let text = format!("{} is an address here: through lo", packet.to);
                self.hop(place, HopKind::Route, Verdict::Passes, text);
                Ok(space.named("lo").map(|lo| (lo, packet.to)))
            }
            Way::Out { link, via, source, table } => {
                if let (true, Some(source)) = (choose, source) {
                    packet.from = source;
                }
                let Some(link) = space.link(link) else { return Ok(None) };
                let mut text = match via {
                    Some(via) => format!("to {} via {via} by {}", packet.to, self.link_name(&link.name)),
                    None => format!("to {} by {}", packet.to, self.link_name(&link.name)),
                };
                if choose {
                    text += &format!(", from {}", packet.from);
                }
                // RT_TABLE_MAIN and RT_TABLE_LOCAL are what everybody has.
                if !(254..=255).contains(&table) && table != 0 {
                    text += &format!(" (table {table}, by a policy rule)");
                }
                self.hop(place, HopKind::Route, Verdict::Passes, text);
                Ok(Some((link, via.unwrap_or(packet.to))))
            }
            Way::Many | Way::Refused(_) => Ok(None),
        }
    }

    /// It comes from beyond the host.
    fn arrive(&mut self, link: u32, packet: &mut Packet) -> Result<Stop, Ask> {
        let facts = self.facts;
        let Some(space) = facts.space(Place::Host)? else { return Ok(self.not_running(Place::Host)) };
        let Some(link) = space.link(link) else {
            return Ok(self.lost(Place::Host, HopKind::Link, "there is no such interface", ""));
        };
        let text = format!("comes in by {}", self.link_name(&link.name));
        self.hop(Place::Host, HopKind::Link, Verdict::Passes, text);
        if let Some(stop) = self.usable(Place::Host, link) {
            return Ok(stop);
        }
        let link = link.master.and_then(|master| space.link(master)).unwrap_or(link);
        self.enter(Place::Host, packet);
        if let Some(stop) = self.full(Place::Host, space, packet) {
            return Ok(stop);
        }
        self.remembered(Place::Host, packet)?;
        self.input(Place::Host, space, link, packet)
    }

    /// It comes to a namespace by an interface.
    pub(crate) fn receive(
        &mut self,
        place: Place,
        link: u32,
        next: IpAddr,
        packet: &mut Packet,
    ) -> Result<Stop, Ask> {
        let facts = self.facts;
        if !self.further() {
            return Ok(self.lost(place, HopKind::Route, "it goes round in a circle", ""));
        }
        let Some(space) = facts.space(place)? else { return Ok(self.not_running(place)) };
        let Some(link) = space.link(link) else {
            return Ok(self.lost(place, HopKind::Link, "its interface is gone", ""));
        };
        if let Some(stop) = self.usable(place, link) {
            return Ok(stop);
        }
        self.enter(place, packet);
        if let Some(stop) = self.full(place, space, packet) {
            return Ok(stop);
        }
        self.remembered(place, packet)?;
        let bridge = link.port.and(link.master).and_then(|master| space.link(master));
        match bridge {
            Some(bridge) => self.bridge_in(place, space, (bridge, link), next, packet),
            None => self.input(place, space, link, packet),
        }
    }

    /// The IP stack takes it.
    pub(crate) fn input(
        &mut self,
        place: Place,
        space: &Space,
        link: &Detail,
        packet: &mut Packet,
    ) -> Result<Stop, Ask> {
        packet.input = Some(via(link));
        packet.output = None;
        for (families, hook) in [
            (&[Family::Netdev][..], Hook::Ingress),
            (&[Family::Inet], Hook::Ingress),
            (ip(packet), Hook::Prerouting),
        ] {
            if let Some(stop) = self.hook(place, families, hook, &link.name, packet)? {
                return Ok(stop);
            }
        }
        self.routed(place, space, link, packet)
    }

    /// Where it goes from there.
    pub(crate) fn routed(
        &mut self,
        place: Place,
        space: &Space,
        link: &Detail,
        packet: &mut Packet,
    ) -> Result<Stop, Ask> {
        let way = self.way(place, packet, Some(packet.from), Some(link.index))?;
        let (out, next) = match way {
            Way::Local { .. } => {
                packet.output = None;
                let text = format!("{} is an address here", packet.to);
                self.hop(place, HopKind::Route, Verdict::Passes, text);
                return match self.hook(place, ip(packet), Hook::Input, &link.name, packet)? {
                    Some(stop) => Ok(stop),
                    None => Ok(self.deliver(place, space, packet)),
                };
            }
            Way::Out { .. } => match self.route(place, space, packet, way, false)? {
                Some(out) => out,
                None => return self.refused(place, space, packet, Some(link), way),
            },
            other => return self.refused(place, space, packet, Some(link), other),
        };
        // The kernel asks IPv4's parameter itself when it routes.
        if packet.v6() && space.sysctl("net.ipv6.conf.all.forwarding") == Some("0") {
            let text = "net.ipv6.conf.all.forwarding is 0: this host forwards no IPv6";
            return Ok(self.lost(place, HopKind::Sysctl, text, "sysctl -w net.ipv6.conf.all.forwarding=1"));
        }
        packet.output = Some(via(out));
        for hook in [Hook::Forward, Hook::Postrouting] {
            if let Some(stop) = self.hook(place, ip(packet), hook, &out.name, packet)? {
                return Ok(stop);
            }
        }
        if !self.further() {
            return Ok(self.lost(place, HopKind::Route, "it goes round in a circle", ""));
        }
        self.transmit(place, space, out, next, packet)
    }

    /// A socket here, or none.
    fn deliver(&mut self, place: Place, space: &Space, packet: &Packet) -> Stop {
        if packet.known() {
            let text = if packet.answer { "the answer is here" } else { "it is here" };
            self.hop(place, HopKind::End, Verdict::Passes, text);
            return Stop::Delivered(place);
        }
        match why::listening(space, packet) {
            Ok(text) => {
                self.hop(place, HopKind::Socket, Verdict::Passes, text);
                Stop::Delivered(place)
            }
            Err((text, remedy)) => self.lost(place, HopKind::Socket, text, remedy),
        }
    }
}

/// The families of IP's hooks.
pub(crate) fn ip(packet: &Packet) -> &'static [Family] {
    if packet.v6() { &[Family::Inet, Family::Ip6] } else { &[Family::Inet, Family::Ip] }
}

pub(crate) fn via(link: &Detail) -> Via {
    Via { index: link.index, name: link.name.clone(), kind: link.kind.clone() }
}
