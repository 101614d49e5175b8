//! How links of ours really are, whatever their tags say: a tag is what we last made of a link, and others can change the link
//! and leave the tag.
//!
//! A driver that sees no more than tags leaves it out (`None`), and a tag is believed. What people add stays: an address
//! more on a bridge is no damage, one that is missing is.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use weft_model::MacAddr;

use crate::{Port, SeenPort, SeenSegment, Segment};

/// A bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeState {
    /// Administratively up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its addresses, also link-local ones of IPv6.
    pub addresses: BTreeSet<IpNet>,
    /// Subnets that are routed to what is on it; `None` where that cannot be told.
    pub routes: Option<BTreeSet<IpNet>>,
    /// Kernel parameters.
    pub parameters: Parameters,
}

/// Kernel parameters that packets of a segment depend on. What a driver leaves to others is as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Answers find back to a client on a loopback address.
    pub answers_loopback: bool,
    /// The bridge takes nobody for a router.
    pub ignores_routers: bool,
    /// It can have addresses of IPv6.
    pub ipv6: bool,
    /// The host forwards IPv4.
    pub forwards4: bool,
    /// The host forwards IPv6.
    pub forwards6: bool,
}

impl Parameters {
    fn fit(&self, segment: &Segment) -> bool {
        let has = |v4: bool| !segment.internal && segment.addresses.iter().any(|a| a.addr().is_ipv4() == v4);
        self.answers_loopback
            && (self.ignores_routers || !self.ipv6)
            && !(self.ipv6 && segment.is_isolated())
            && (self.forwards4 || !has(true))
            && (self.forwards6 || !has(false))
    }
}

/// A port's end on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndState {
    /// Administratively up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// The bridge it is in.
    pub bridge: Option<String>,
    /// The bridge itself keeps it apart from others like it.
    pub isolated: bool,
    /// Its bridge shows what it forwards to the rules: they keep ports apart, and let pass what is published.
    pub guarded: bool,
    /// It gives back what it must, and only then.
    pub hairpin_fits: bool,
}

fn is_link_local(address: &IpNet) -> bool {
    matches!(address.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The route that comes with an address: none with that of a single host, and none is known with that of a link.
fn routed(address: &IpNet) -> Option<IpNet> {
    (!is_link_local(address) && address.prefix_len() < address.max_prefix_len()).then(|| address.trunc())
}

impl BridgeState {
    fn fits(&self, segment: &Segment) -> bool {
        let mut wanted = segment.addresses.iter();
        // A host without one asks for no neighbour of what it forwards.
        let asks = self.addresses.iter().any(is_link_local);
        self.up
            && self.parameters.fit(segment)
            && (asks || !segment.addresses.iter().any(|a| a.addr().is_ipv6()))
            && (self.mtu == segment.mtu || segment.mtu == 0)
            && self.mac == segment.mac
            && wanted.all(|a| {
                let routes = self.routes.as_ref().zip(routed(a));
                self.addresses.contains(a) && routes.is_none_or(|(have, to)| have.contains(&to))
            })
    }
}

impl SeenSegment {
    /// Whether this is what `segment` wants.
    #[must_use]
    pub fn is(&self, segment: &Segment) -> bool {
        self.tag == segment.tag() && self.state.as_ref().is_none_or(|state| state.fits(segment))
    }
}

impl SeenPort {
    /// Whether the host's end is in its place, in the bridge of that name.
    #[must_use]
    pub fn is_attached(&self, port: &Port, bridge: &str) -> bool {
        self.state.as_ref().is_none_or(|end| {
            end.up
                && end.hairpin_fits
                && (end.mtu == port.mtu || port.mtu == 0)
                && end.isolated == (port.isolated && !end.guarded)
                && end.bridge.as_deref() == Some(bridge)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
pub(crate) mod tests {
    use super::*;

    const RIGHT: Parameters = Parameters {
        answers_loopback: true,
        ignores_routers: true,
        ipv6: true,
        forwards4: true,
        forwards6: true,
    };

    #[test]
    fn parameters_are_asked_for_by_who_needs_them() {
        let internal = Segment { internal: true, ..segment() };
        assert!(Parameters { forwards4: false, forwards6: false, ..RIGHT }.fit(&internal));
        let isolated = Segment { addresses: BTreeSet::new(), ..internal };
        assert!(!RIGHT.fit(&isolated));
        assert!(Parameters { ipv6: false, ignores_routers: false, ..RIGHT }.fit(&isolated));
    }

    pub(crate) fn segment() -> Segment {
        Segment {
            link: "wfb0".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            addresses: ["10.1.0.1/24", "fd01::1/64", "fe80::1/64", "10.2.0.1/32"]
                .map(|a| a.parse().unwrap())
                .into(),
            mtu: 1500,
            internal: false,
            inter_container: true,
            masquerade: true,
            borrowed: false,
            further: BTreeSet::new(),
            gateways: Default::default(),
            trusted: BTreeSet::new(),
            open: BTreeSet::new(),
            source: Default::default(),
            uplink: None,
        }
    }

    #[test]
    fn a_port_is_kept_apart_by_its_bridge_or_by_the_rules() {
        let mut port = Port {
            link: "wfp0".into(),
            segment: weft_model::NetworkId::from_bytes([1; 32]),
            sandbox: crate::SandboxId::from_bytes([1; 32]),
            ifname: "eth0".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
            addresses: BTreeSet::new(),
            mtu: 1500,
            gateways: Default::default(),
            sysctls: Default::default(),
            isolated: true,
            parent: None,
        };
        let end = |isolated, guarded| EndState {
            up: true,
            mtu: 1500,
            bridge: Some("wfb0".into()),
            isolated,
            guarded,
            hairpin_fits: true,
        };
        let mut fits = |wanted, isolated, guarded| {
            port.isolated = wanted;
            let seen = SeenPort { state: Some(end(isolated, guarded)), ..SeenPort::default() };
            seen.is_attached(&port, "wfb0")
        };
        assert!(fits(true, true, false) && fits(true, false, true));
        assert!(!fits(true, false, false) && !fits(true, true, true));
        assert!(fits(false, false, false) && fits(false, false, true) && !fits(false, true, false));
    }

    #[test]
    fn a_bridge_fits_or_does_not() {
        let segment = segment();
        let good = BridgeState {
            up: true,
            mtu: 1500,
            mac: segment.mac,
            // One more of the user's.
            addresses: ["10.1.0.1/24", "fd01::1/64", "fe80::1/64", "10.2.0.1/32", "10.9.0.1/24"]
                .map(|a| a.parse().unwrap())
                .into(),
            routes: Some(["10.1.0.0/24", "fd01::/64"].map(|a| a.parse().unwrap()).into()),
            parameters: RIGHT,
        };
        let is = |state: Option<BridgeState>| SeenSegment { tag: segment.tag(), state }.is(&segment);
        assert!(is(None) && is(Some(good.clone())));
        assert!(is(Some(BridgeState { routes: None, ..good.clone() })));
        let without = |net: &str| {
            let mut bad = good.clone();
            let net: IpNet = net.parse().unwrap();
            assert!(bad.addresses.remove(&net) || bad.routes.as_mut().unwrap().remove(&net));
            bad
        };
        let with = |parameters: Parameters| BridgeState { parameters, ..good.clone() };
        for bad in [
            BridgeState { up: false, ..good.clone() },
            BridgeState { mtu: 1400, ..good.clone() },
            BridgeState { mac: MacAddr([2, 0, 0, 0, 0, 2]), ..good.clone() },
            without("10.1.0.1/24"),
            without("fd01::1/64"),
            without("fe80::1/64"),
            without("10.2.0.1/32"),
            without("10.1.0.0/24"),
            without("fd01::/64"),
            with(Parameters { answers_loopback: false, ..RIGHT }),
            with(Parameters { ignores_routers: false, ..RIGHT }),
            with(Parameters { forwards4: false, ..RIGHT }),
            with(Parameters { forwards6: false, ..RIGHT }),
        ] {
            assert!(!is(Some(bad.clone())), "{bad:?}");
        }
        assert!(!SeenSegment { tag: "other".into(), state: Some(good.clone()) }.is(&segment));
    }
}
