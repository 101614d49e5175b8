//! The IP stack of a namespace: what it sends, what it takes, what it passes on.

use std::net::IpAddr;

use weft_dataplane::insight::{HopKind, Verdict};
use weft_sys::netlink::{detail::Detail, lookup::Way};

use super::{HANDED, Stop, Walker, ip, via};
use crate::explain::{
    eval::has_ports,
    facts::{Ask, Place, Space},
    hooks::{Hook, INGRESS},
    packet::Packet,
    published, why,
};

impl Walker<'_> {
    /// A namespace sends it; `fixed`: from the address it has.
    pub(crate) fn send(&mut self, place: Place, packet: &mut Packet, fixed: bool) -> Result<Stop, Ask> {
        let facts = self.facts;
        let Some(space) = facts.space(place)? else { return Ok(self.not_running(place)) };
        if !packet.known()
            && let Some(stop) = self.idle(place, false)
        {
            return Ok(stop);
        }
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
    pub(super) fn arrive(&mut self, link: u32, packet: &mut Packet) -> Result<Stop, Ask> {
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
        for (families, hook) in [(INGRESS, Hook::Ingress), (ip(packet), Hook::Prerouting)] {
            match self.hook(place, families, hook, &link.name, packet)? {
                Some(Stop::Handed(index)) => return self.handed(place, space, index, packet),
                Some(stop) => return Ok(stop),
                None => {}
            }
        }
        self.routed(place, space, link, packet)
    }

    /// A rule sent it by another interface: by `lo`, it comes in again.
    pub(crate) fn handed(
        &mut self,
        place: Place,
        space: &Space,
        index: u32,
        packet: &mut Packet,
    ) -> Result<Stop, Ask> {
        match space.link(index).filter(|link| link.name == "lo") {
            Some(_) if !self.further() => {
                Ok(self.lost(place, HopKind::Route, "it goes round in a circle", ""))
            }
            Some(lo) => self.input(place, space, lo, packet),
            None => Ok(self.unclear(place, HopKind::Link, HANDED)),
        }
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
        let listening = why::listening(space, packet);
        let by_kernel = !has_ports(packet.transport) || listening.is_err();
        if let Some(stop) = self.idle(place, by_kernel) {
            return stop;
        }
        match listening {
            Ok(text) => {
                self.hop(place, HopKind::Socket, Verdict::Passes, text);
                Stop::Delivered(place)
            }
            Err(deaf) => {
                let (text, remedy) = published::untranslated(space, packet).unwrap_or(deaf);
                self.lost(place, HopKind::Socket, text, remedy)
            }
        }
    }
}
