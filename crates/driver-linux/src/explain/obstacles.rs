//! What stops a packet in a namespace besides rules, and what the kernel remembers of earlier ones: refused routes, a
//! container that does not run, a full table of connections.

use std::{collections::BTreeMap, net::IpAddr};

use weft_dataplane::insight::{HopKind, Idle, Verdict};
use weft_sys::netlink::{
    detail::Detail,
    lookup::{Lookup, Way},
    rules::Flow,
};

use super::{
    facts::{Ask, Place, Space},
    packet::Packet,
    walk::{Stop, Walker},
    why,
};

impl Walker<'_> {
    pub(crate) fn refused(
        &mut self,
        place: Place,
        space: &Space,
        packet: &Packet,
        input: Option<&Detail>,
        way: Way,
    ) -> Result<Stop, Ask> {
        let Way::Refused(mut errno) = way else {
            return Ok(self.unclear(place, HopKind::Route, "broadcast and multicast are not followed"));
        };
        let routing = self.facts.routing(place, packet.v6())?;
        let flow = Flow {
            from: Some(packet.from).filter(|ip| !ip.is_unspecified()),
            to: packet.to,
            input: input.map(|link| link.name.as_str()),
            mark: packet.mark,
            protocol: packet.protocol(),
            ports: (packet.source, packet.port),
        };
        if let Some(rule) = routing.refuses(&flow, errno) {
            let (text, remedy) = why::ruled_out(rule, packet);
            return Ok(self.lost(place, HopKind::Route, text, remedy));
        }
        // Since Linux 6.13 the answer to a refused source is EINVAL, whatever is wrong with it.
        if let Some(input) = input.filter(|_| errno == libc::EINVAL)
            && self.reverse_refused(place, space, packet, input)?
        {
            errno = libc::EXDEV;
        }
        if errno == libc::EINVAL && self.blackholed(place, packet)? {
            let (kind, text, remedy) = why::barred("blackhole", packet.to);
            return Ok(self.lost(place, kind, text, remedy));
        }
        let (kind, text, remedy) = why::refused(space, packet, input.map(|l| l.name.as_str()), errno);
        Ok(self.lost(place, kind, text, remedy))
    }

    /// Whether a route for its destination is of type blackhole, which is refused as what cannot be (`EINVAL`): then it is so
    /// whoever sends.
    fn blackholed(&self, place: Place, packet: &Packet) -> Result<bool, Ask> {
        let (to, mark, service) = (packet.to, packet.mark, packet.service());
        let anybody = Lookup { to, from: None, input: None, output: None, mark, service };
        Ok(self.facts.way(place, anybody)? == Way::Refused(libc::EINVAL))
    }

    /// Whether `rp_filter` is what refuses a source: strict wants the way back by the same interface, loose any way back.
    pub(crate) fn reverse_refused(
        &self,
        place: Place,
        space: &Space,
        packet: &Packet,
        input: &Detail,
    ) -> Result<bool, Ask> {
        let number = |value: Option<&str>| value.and_then(|v| v.parse::<u8>().ok()).unwrap_or(0);
        let all = number(space.sysctl("net.ipv4.conf.all.rp_filter"));
        let filter = all.max(number(space.of_link(false, &input.name, "rp_filter")));
        if filter == 0 || packet.v6() {
            return Ok(false);
        }
        let to = packet.from;
        let back = Lookup { to, from: None, input: None, output: None, mark: 0, service: None };
        Ok(match self.facts.way(place, back)? {
            Way::Out { link, .. } => filter == 1 && link != input.index,
            Way::Refused(_) => true,
            Way::Local { .. } | Way::Many => false,
        })
    }

    pub(crate) fn not_running(&mut self, place: Place) -> Stop {
        let Place::Sandbox(id) = place else {
            return self.unclear(place, HopKind::End, "the host cannot be read");
        };
        let (reason, remedy) = why::idle(&self.question.known, id, Idle::Stopped);
        self.hop(place, HopKind::End, Verdict::Dropped, "it is not running");
        Stop::Dropped(reason, remedy)
    }

    /// Why nobody there sends or answers, if it is so. A frozen container's kernel answers what it answers by itself.
    pub(crate) fn idle(&mut self, place: Place, by_kernel: bool) -> Option<Stop> {
        let Place::Sandbox(id) = place else { return None };
        match *self.question.known.idle.get(&id)? {
            // The namespace may outlive the process, or be there before it.
            Idle::Stopped => Some(self.not_running(place)),
            Idle::Paused if by_kernel => None,
            Idle::Paused => {
                let (reason, remedy) = why::idle(&self.question.known, id, Idle::Paused);
                self.hop(place, HopKind::End, Verdict::Dropped, "it is paused: its processes are frozen");
                Some(Stop::Dropped(reason, remedy))
            }
        }
    }

    /// A full table of connections takes no new one.
    pub(crate) fn full(&mut self, place: Place, space: &Space, packet: &Packet) -> Option<Stop> {
        let number = |name: &str| space.sysctl(name).and_then(|v| v.parse::<u64>().ok());
        let count = number("net.netfilter.nf_conntrack_count")?;
        let most = number("net.netfilter.nf_conntrack_max").filter(|most| *most > 0 && count >= *most)?;
        let text = format!("the table of connections is full: {count} of {most}");
        (!packet.known()).then(|| {
            self.lost(place, HopKind::Conntrack, text, "sysctl -w net.netfilter.nf_conntrack_max=… (more)")
        })
    }

    /// Connections of the same two that are kept: their packets go where they went before, whatever rules say of new ones.
    pub(crate) fn remembered(&mut self, place: Place, packet: &Packet) -> Result<(), Ask> {
        let Some((protocol, port)) = packet.service().filter(|_| !packet.known()) else { return Ok(()) };
        let service = (packet.v6(), protocol, port);
        let all = self.facts.connections.get(&(place, service)).ok_or(Ask::Connections(place, service))?;
        let same = all.iter().filter(|c| (c.asked.from, c.asked.to) == (packet.from, packet.to));
        let mut by: BTreeMap<(IpAddr, u16), usize> = BTreeMap::new();
        for connection in same {
            *by.entry((connection.answered.from, connection.answered.source)).or_default() += 1;
        }
        for ((ip, port), count) in by {
            let address = std::net::SocketAddr::new(ip, port);
            let text = format!("{count} earlier connection(s) of the two are kept, answered by {address}");
            self.hop(place, HopKind::Conntrack, Verdict::Passes, text);
        }
        Ok(())
    }
}
