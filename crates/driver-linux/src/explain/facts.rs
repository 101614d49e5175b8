//! What was read of the machine: all that the walker knows. Whatever it needs beyond that it asks for ([`Ask`]), and is then
//! walked again from the start, so that it stays a function of values.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use weft_dataplane::SandboxId;
use weft_sys::{
    connections::Connection,
    netlink::{
        detail::Detail,
        lookup::{Lookup, Way},
    },
    nft::seen::Ruleset,
    sockets::Listener,
};

use super::routing::Routing;

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Host,
    Sandbox(SandboxId),
}

/// What is in a network namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    pub(crate) links: Vec<Detail>,
    pub(crate) addresses: Vec<(u32, IpNet)>,
    /// By dotted name, `/` for a dot within a part; only those that matter.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Of nftables and, under tables named so, of iptables-legacy.
    pub(crate) rules: Ruleset,
    pub(crate) listeners: Vec<Listener>,
}

/// Connections that are asked for: IPv6 or not, protocol, port.
pub(crate) type Service = (bool, u8, u16);

/// What is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Space(Place),
    Way(Place, Lookup),
    Connections(Place, Service),
    /// Rules and routes of IPv6 or not.
    Routing(Place, bool),
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// `None`: there is no such namespace.
    pub(crate) spaces: BTreeMap<Place, Option<Space>>,
    pub(crate) ways: BTreeMap<(Place, Lookup), Way>,
    pub(crate) connections: BTreeMap<(Place, Service), Vec<Connection>>,
    pub(crate) routings: BTreeMap<(Place, bool), Routing>,
}

impl Facts {
    pub(crate) fn space(&self, place: Place) -> Result<Option<&Space>, Ask> {
        self.spaces.get(&place).map(Option::as_ref).ok_or(Ask::Space(place))
    }

    pub(crate) fn way(&self, place: Place, lookup: Lookup) -> Result<Way, Ask> {
        self.ways.get(&(place, lookup)).copied().ok_or(Ask::Way(place, lookup))
    }

    pub(crate) fn routing(&self, place: Place, v6: bool) -> Result<&Routing, Ask> {
        self.routings.get(&(place, v6)).ok_or(Ask::Routing(place, v6))
    }
}

impl Space {
    pub(crate) fn link(&self, index: u32) -> Option<&Detail> {
        self.links.iter().find(|l| l.index == index)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Detail> {
        self.links.iter().find(|l| l.name == name)
    }

    /// Whether packets for this address are for this namespace.
    pub(crate) fn owns(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.iter().any(|(_, net)| net.addr() == ip)
    }

    /// Addresses of one interface, of one family.
    pub(crate) fn on(&self, index: u32, v6: bool) -> impl Iterator<Item = IpNet> + '_ {
        let of = move |net: &IpNet| net.addr().is_ipv6() == v6;
        self.addresses.iter().filter(move |(i, net)| *i == index && of(net)).map(|(_, net)| *net)
    }

    pub(crate) fn sysctl(&self, name: &str) -> Option<&str> {
        self.sysctls.get(name).map(String::as_str)
    }

    /// A parameter of an interface.
    pub(crate) fn of_link(&self, v6: bool, link: &str, parameter: &str) -> Option<&str> {
        let family = if v6 { "ipv6" } else { "ipv4" };
        self.sysctl(&format!("net.{family}.conf.{}.{parameter}", link.replace('.', "/")))
    }
}
