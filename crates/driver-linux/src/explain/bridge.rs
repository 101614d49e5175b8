//! Interfaces and bridges: what is down, who is behind which port, and what a bridge does not pass on.

use std::net::IpAddr;

use weft_dataplane::insight::{HopKind, Verdict};
use weft_sys::{
    netlink::{
        detail::Detail,
        lookup::{Lookup, Way},
    },
    nft::seen::Family,
};

use super::{
    facts::{Ask, Place, Space},
    hooks::{Hook, INGRESS},
    packet::Packet,
    walk::{Stop, Walker, ip, via},
};

/// `BR_STATE_FORWARDING`.
const FORWARDING: u8 = 3;

impl Walker<'_> {
    /// Why an interface passes nothing, if it does not.
    pub(crate) fn usable(&mut self, place: Place, link: &Detail) -> Option<Stop> {
        let name = self.link_name(&link.name);
        if !link.up {
            let remedy = format!("ip link set {} up", link.name);
            return Some(self.lost(place, HopKind::Link, format!("{name} is down"), remedy));
        }
        if !link.carrier && link.name != "lo" && link.kind != "bridge" {
            let remedy = "look at its other end, or the cable";
            return Some(self.lost(place, HopKind::Link, format!("{name} has no carrier"), remedy));
        }
        None
    }

    /// Out by an interface, to the next hop.
    pub(crate) fn transmit(
        &mut self,
        place: Place,
        space: &Space,
        link: &Detail,
        next: IpAddr,
        packet: &mut Packet,
    ) -> Result<Stop, Ask> {
        if let Some(stop) = self.usable(place, link) {
            return Ok(stop);
        }
        let text = format!("leaves by {} (MTU {})", self.link_name(&link.name), link.mtu);
        self.hop(place, HopKind::Link, Verdict::Passes, text);
        if let Some(stop) = self.hook(place, &[Family::Netdev], Hook::Egress, &link.name, packet)? {
            return Ok(stop);
        }
        match (place, link.kind.as_str()) {
            (_, "bridge") => self.bridge_out(place, space, (link, None), next, packet),
            (Place::Sandbox(_), "veth") => match self.host_end(link)? {
                Some(peer) => self.receive(Place::Host, peer, next, packet),
                None => Ok(self.unclear(
                    place,
                    HopKind::Link,
                    "the other end of its interface is not on this host",
                )),
            },
            (Place::Sandbox(_), _) => {
                let text = format!("{} is a {}: it does not pass the host's tables", link.name, link.kind);
                Ok(self.unclear(place, HopKind::Link, text))
            }
            (Place::Host, _) => match self.behind(link, next)? {
                Some((owner, inner)) => self.receive(owner, inner, next, packet),
                None => Ok(Stop::Left(link.index)),
            },
        }
    }

    /// The host's end of a sandbox's interface.
    fn host_end(&self, inner: &Detail) -> Result<Option<u32>, Ask> {
        let Some(host) = self.facts.space(Place::Host)? else { return Ok(None) };
        let peer = inner.peer.and_then(|index| host.link(index));
        Ok(peer.filter(|l| l.kind == "veth" && l.peer == Some(inner.index)).map(|l| l.index))
    }

    /// The sandbox behind an interface of the host, if it is that of `next`.
    fn behind(&self, outer: &Detail, next: IpAddr) -> Result<Option<(Place, u32)>, Ask> {
        let Some((owner, inner)) = self.owner(next)? else { return Ok(None) };
        Ok((inner.peer == Some(outer.index) && outer.kind == "veth").then_some((owner, inner.index)))
    }

    /// Who has an address, and on which of its interfaces: as somebody said, if that is true.
    fn owner(&self, ip: IpAddr) -> Result<Option<(Place, &Detail)>, Ask> {
        let Some(id) = self.question.known.addresses.get(&ip) else { return Ok(None) };
        let place = Place::Sandbox(*id);
        let Some(space) = self.facts.space(place)? else { return Ok(None) };
        let index = space.addresses.iter().find(|(_, net)| net.addr() == ip).map(|(index, _)| *index);
        Ok(index.and_then(|index| space.link(index)).map(|link| (place, link)))
    }

    /// A frame comes into a bridge by a port.
    pub(crate) fn bridge_in(
        &mut self,
        place: Place,
        space: &Space,
        (bridge, port): (&Detail, &Detail),
        next: IpAddr,
        packet: &mut Packet,
    ) -> Result<Stop, Ask> {
        let name = self.link_name(&bridge.name);
        let text = format!("into bridge {name} by port {}", port.name);
        self.hop(place, HopKind::Bridge, Verdict::Passes, text);
        if let Some(stop) = self.usable(place, bridge) {
            return Ok(stop);
        }
        if port.port.is_some_and(|p| p.state != FORWARDING) {
            let text = format!("port {} does not forward", port.name);
            return Ok(self.lost(place, HopKind::Bridge, text, "wait for spanning tree, or: bridge link"));
        }
        (packet.input, packet.output) = (Some(via(port)), None);
        match self.hook(place, INGRESS, Hook::Ingress, &port.name, packet)? {
            Some(Stop::Handed(index)) => return self.handed(place, space, index, packet),
            Some(stop) => return Ok(stop),
            None => {}
        }
        if let Some(stop) = self.hook(place, &[Family::Bridge], Hook::Prerouting, &port.name, packet)? {
            return Ok(stop);
        }
        let mut next = next;
        let filtered = filtered(space, bridge, packet);
        if filtered {
            let to = packet.to;
            packet.input = Some(via(bridge));
            if let Some(stop) = self.hook(place, ip(packet), Hook::Prerouting, &bridge.name, packet)? {
                return Ok(stop);
            }
            // Translated to somebody on the same bridge, it stays in it.
            if packet.to != to {
                let (from, input) = (Some(packet.from), Some(bridge.index));
                let lookup = Lookup {
                    to: packet.to,
                    from,
                    input,
                    output: None,
                    mark: packet.mark,
                    service: packet.service(),
                };
                match self.facts.way(place, lookup)? {
                    Way::Out { link, via, .. } if link == bridge.index => next = via.unwrap_or(packet.to),
                    _ => {}
                }
            }
        }
        if !space.owns(next) {
            return self.bridge_out(place, space, (bridge, Some(port)), next, packet);
        }
        if let Some(stop) = self.hook(place, &[Family::Bridge], Hook::Input, &port.name, packet)? {
            return Ok(stop);
        }
        if filtered {
            packet.input = Some(via(bridge));
            return self.routed(place, space, bridge, packet);
        }
        self.input(place, space, bridge, packet)
    }

    /// A bridge passes a frame on to who has the next address.
    fn bridge_out(
        &mut self,
        place: Place,
        space: &Space,
        (bridge, from): (&Detail, Option<&Detail>),
        next: IpAddr,
        packet: &mut Packet,
    ) -> Result<Stop, Ask> {
        let owner = self.owner(next)?.map(|(owner, inner)| (owner, inner.index, inner.peer, inner.mtu));
        let port =
            owner.and_then(|(.., peer, _)| space.link(peer?)).filter(|l| l.master == Some(bridge.index));
        let (Some((owner, inner, _, mtu)), Some(port)) = (owner, port) else {
            return Ok(self.nobody(place, space, bridge, next));
        };
        let text = format!("bridge {} passes it on to port {}", self.link_name(&bridge.name), port.name);
        self.hop(place, HopKind::Bridge, Verdict::Passes, text);
        if let Some(stop) = self.barred(place, from, port) {
            return Ok(stop);
        }
        if let Some(from) = from.filter(|from| from.mtu > mtu) {
            let text =
                format!("MTU falls from {} to {mtu}: larger packets are lost without a word", from.mtu);
            self.hop(place, HopKind::Bridge, Verdict::Passes, text);
        }
        packet.output = Some(via(port));
        if let Some(from) = from {
            packet.input = Some(via(from));
        }
        let first = if from.is_some() { Hook::Forward } else { Hook::Output };
        for hook in [first, Hook::Postrouting] {
            if let Some(stop) = self.hook(place, &[Family::Bridge], hook, &port.name, packet)? {
                return Ok(stop);
            }
            // br_netfilter asks IP's chains, too, with the bridge for both interfaces.
            if from.is_some() && filtered(space, bridge, packet) {
                let kept = (packet.input.clone(), packet.output.clone());
                (packet.input, packet.output) = (Some(via(bridge)), Some(via(bridge)));
                if let Some(stop) = self.hook(place, ip(packet), hook, &bridge.name, packet)? {
                    return Ok(stop);
                }
                (packet.input, packet.output) = kept;
            }
        }
        if let Some(stop) = self.hook(place, &[Family::Netdev], Hook::Egress, &port.name, packet)? {
            return Ok(stop);
        }
        self.receive(owner, inner, next, packet)
    }

    /// Why a frame does not go from one port to another, if it does not.
    fn barred(&mut self, place: Place, from: Option<&Detail>, port: &Detail) -> Option<Stop> {
        if let Some(stop) = self.usable(place, port) {
            return Some(stop);
        }
        let to = port.port.unwrap_or_default();
        if to.state != FORWARDING {
            let text = format!("port {} does not forward", port.name);
            return Some(self.lost(place, HopKind::Bridge, text, "bridge link shows the states of ports"));
        }
        let from = from?;
        if from.index == port.index && !to.hairpin {
            let text = format!("port {} does not give back what came by it (hairpin is off)", port.name);
            let remedy = format!("bridge link set dev {} hairpin on", port.name);
            return Some(self.lost(place, HopKind::Bridge, text, remedy));
        }
        if from.index != port.index && to.isolated && from.port.is_some_and(|p| p.isolated) {
            let text = format!("ports {} and {} are isolated from one another", from.name, port.name);
            let remedy =
                "its network was made with enable_icc=false: use another network, or publish the port";
            return Some(self.lost(place, HopKind::Bridge, text, remedy));
        }
        None
    }

    /// Nobody known has the address.
    fn nobody(&mut self, place: Place, space: &Space, bridge: &Detail, next: IpAddr) -> Stop {
        let name = self.link_name(&bridge.name);
        let foreign = |l: &&Detail| l.master == Some(bridge.index) && !l.name.starts_with("wfp");
        if let Some(port) = space.links.iter().find(foreign) {
            let text =
                format!("{next} may be behind port {} of bridge {name}, which is not of Weft", port.name);
            return self.unclear(place, HopKind::Bridge, text);
        }
        let text = format!(
            "nobody on bridge {name} has {next}: the question for it (ARP, ND) stays without an answer"
        );
        self.lost(
            place,
            HopKind::Bridge,
            text,
            "is the container running, and is that its address? weft network ports NETWORK",
        )
    }
}

/// Whether frames are shown to IP's chains (`br_netfilter`): by all bridges of the namespace, or by this one.
fn filtered(space: &Space, bridge: &Detail, packet: &Packet) -> bool {
    let (name, own) = if packet.v6() {
        ("net.bridge.bridge-nf-call-ip6tables", bridge.filtered.1)
    } else {
        ("net.bridge.bridge-nf-call-iptables", bridge.filtered.0)
    };
    own || space.sysctl(name) == Some("1")
}
