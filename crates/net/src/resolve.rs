//! From a draft of a network to a resolved spec: every subnet, range and gateway is decided here, once.
//!
//! Subnets that people chose may not overlap another network's; subnets from the pools also avoid the
//! routes of the host. All faults of a draft are gathered and told together, as Docker does.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::{HostBinding, Isolation, NetworkId, NetworkKind, NetworkSpec, SubnetSpec};

use crate::{Family, IpamDraft, NetError, NetworkDraft, Pools, ipam, parent, subnets};

/// Longest name of a network link (`IFNAMSIZ` less its end mark).
const LINK_NAME: usize = 15;
/// Smallest MTU that IPv6 allows on a link (RFC 8200 section 5), and that of IPv4 (RFC 791).
const MIN_MTU: (u32, u32) = (1280, 68);

/// The address manager that is the LAN's own.
const DHCP: &str = "dhcp";

/// Resolves a draft beside the networks that exist.
///
/// # Errors
/// Unknown drivers, faults of the draft, overlapping subnets, exhausted pools.
pub fn resolve_network(
    draft: &NetworkDraft,
    existing: &[&NetworkSpec],
    host_routes: &[IpNet],
    pools: &Pools,
) -> Result<NetworkSpec, NetError> {
    let id = NetworkId::new();
    if draft.config_only {
        subnets::check_settings(draft)?;
        let subnets = settings(&draft.ipam)?;
        return Ok(spec(draft, id, NetworkKind::Config, subnets));
    }
    let kind = kind_of(&draft.driver)?;
    if !draft.ipv4 && !draft.ipv6 {
        return Err(NetError::Invalid("IPv4 or IPv6 must be enabled".into()));
    }
    check_links(draft, id, existing)?;
    subnets::check_gateways(draft)?;
    let mut subnets = resolve_subnets(draft, existing, host_routes, pools)?;
    let parent = parent::resolve(kind, &draft.parent, &mut subnets, existing)?;
    let dhcp = draft.ipam_driver == DHCP;
    if dhcp && (draft.ipv6 || !draft.ipv4) {
        return Err(NetError::Invalid("dhcp ipam driver gives IPv4 addresses only".into()));
    }
    if dhcp && parent.as_ref().is_some_and(|p| !p.branch.chooses_mac()) {
        return Err(NetError::Invalid(
            "dhcp ipam driver needs interfaces with MAC addresses of their own".into(),
        ));
    }
    if parent.is_some() && draft.ipv4 && subnets.is_empty() && !dhcp {
        return Err(NetError::Invalid("ipv4 pool is empty".into()));
    }
    Ok(NetworkSpec { parent, dhcp, ..spec(draft, id, kind, subnets) })
}

fn spec(draft: &NetworkDraft, id: NetworkId, kind: NetworkKind, subnets: Vec<SubnetSpec>) -> NetworkSpec {
    NetworkSpec {
        id,
        name: draft.name.clone(),
        kind,
        ipv4: draft.ipv4,
        ipv6: draft.ipv6 || subnets.iter().any(|s| s.cidr.network().is_ipv6()),
        subnets,
        isolation: Isolation {
            internal: draft.internal,
            inter_container: draft.inter_container,
            masquerade: draft.masquerade,
        },
        bridge: draft.bridge.clone(),
        borrowed: draft.foreign.is_some(),
        gateways: draft.gateways,
        trusted: draft.trusted.clone(),
        config_from: draft.config_from.clone(),
        mtu: draft.mtu,
        host_binding: HostBinding { address: draft.host_binding, address_v6: draft.host_binding_v6 },
        host_source: draft.host_source,
        attachable: draft.attachable,
        predefined: false,
        ifname_prefix: draft.ifname_prefix.clone(),
        limit: weft_model::RateLimit::default(),
        closed: false,
        parent: None,
        dhcp: false,
        options: draft.options.clone(),
        ipam_options: draft.ipam_options.clone(),
    }
}

fn kind_of(driver: &str) -> Result<NetworkKind, NetError> {
    let unsupported =
        |reason: &str| NetError::Unsupported { driver: driver.to_owned(), reason: reason.to_owned() };
    match driver {
        "" | "default" | "bridge" => Ok(NetworkKind::Bridge),
        "host" | "null" => Err(NetError::OnlyOne { driver: driver.to_owned() }),
        "macvlan" => Ok(NetworkKind::Macvlan),
        "ipvlan" => Ok(NetworkKind::Ipvlan),
        "overlay" | "routed" => Err(unsupported("networks over several hosts are not built yet")),
        _ => Err(NetError::NoDriver { driver: driver.to_owned() }),
    }
}

/// Refuses what the kernel takes for no name of a link, before it is asked about it.
///
/// # Errors
/// It is none.
pub fn check_bridge_name(name: &str) -> Result<(), NetError> {
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    if name.is_empty() || name.len() > LINK_NAME || !name.chars().all(fits) || name.starts_with('.') {
        return Err(NetError::Invalid(format!(
            "invalid bridge name {name:?}: a link's name has 1 to {LINK_NAME} printable characters without / : %"
        )));
    }
    Ok(())
}

fn check_links(draft: &NetworkDraft, id: NetworkId, existing: &[&NetworkSpec]) -> Result<(), NetError> {
    if let Some(bridge) = &draft.bridge {
        check_bridge_name(bridge)?;
        if let Some(other) = existing.iter().find(|n| n.bridge.as_ref() == Some(bridge)) {
            return Err(NetError::SameBridge { id, bridge: bridge.clone(), other: other.id });
        }
    }
    let least = if draft.ipv6 { MIN_MTU.0 } else { MIN_MTU.1 };
    match draft.mtu {
        Some(mtu) if !(least..=65_535).contains(&mtu) => {
            Err(NetError::Invalid(format!("invalid MTU {mtu}: {least} to 65535 are possible")))
        }
        _ => Ok(()),
    }
}

fn resolve_subnets(
    draft: &NetworkDraft,
    existing: &[&NetworkSpec],
    host_routes: &[IpNet],
    pools: &Pools,
) -> Result<Vec<SubnetSpec>, NetError> {
    match draft.ipam_driver.as_str() {
        "" | "default" => {}
        // A bridge without addresses is refused by dockerd's driver.
        "null" => {
            return Err(NetError::Invalid(format!(
                "{} pool is empty",
                if draft.ipv4 { "ipv4" } else { "ipv6" }
            )));
        }
        DHCP if draft.ipam.is_empty() => return Ok(Vec::new()),
        DHCP => return Err(NetError::Invalid("dhcp ipam driver does not support subnets".into())),
        other => return Err(NetError::NoDriver { driver: other.to_owned() }),
    }
    let bridge = draft.bridge.as_deref().unwrap_or_default();
    let mut faults = Vec::new();
    let mut wishes: Vec<_> = draft.ipam.iter().map(|wish| Wish::parse(wish, &mut faults)).collect();
    for wish in &wishes {
        wish.check(&mut faults);
    }
    if !faults.is_empty() {
        return Err(NetError::InvalidConfig(faults));
    }
    if let Some(addresses) = &draft.foreign
        && wishes.iter().all(|w| w.subnet.is_none())
    {
        let found = subnets::of_bridge(bridge, addresses, draft.ipv6)?;
        wishes = found.into_iter().map(|cidr| Wish { subnet: Some(cidr), ..Wish::default() }).collect();
    }
    let settle = |wish: &Wish, cidr: IpNet| {
        let subnet = subnets::place(wish.settle(cidr)?, &draft.gateways);
        match &draft.foreign {
            Some(addresses) => subnets::adopt(subnet, bridge, addresses),
            None => Ok(subnet),
        }
    };
    let mut taken: Vec<IpNet> = existing.iter().flat_map(|n| n.claimed().map(|s| s.cidr)).collect();
    for cidr in wishes.iter().filter_map(|w| w.subnet) {
        subnets::check_free(cidr, NetworkId::new(), existing)?;
        if wishes.iter().filter_map(|w| w.subnet).filter(|other| overlap(*other, cidr)).count() > 1 {
            return Err(NetError::Invalid(format!(
                "subnet {cidr} overlaps another subnet of the same network"
            )));
        }
        taken.push(cidr);
    }
    let mut subnets = Vec::new();
    for family in [Family::V4, Family::V6] {
        let wanted = if family == Family::V4 { draft.ipv4 } else { draft.ipv6 };
        let given: Vec<_> = wishes.iter().filter(|w| w.family() == family).collect();
        if wanted && given.iter().all(|w| w.subnet.is_none()) {
            let cidr = pools.choose_beside(family, &taken, host_routes)?;
            taken.push(cidr);
            subnets.push(settle(given.first().copied().unwrap_or(&Wish::default()), cidr)?);
        }
        for (wish, cidr) in given.iter().filter_map(|w| Some((w, w.subnet?))) {
            subnets.push(settle(wish, cidr)?);
        }
    }
    Ok(subnets)
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// A wish for addresses whose texts are read.
#[derive(Default)]
pub(crate) struct Wish {
    pub(crate) subnet: Option<IpNet>,
    pub(crate) range: Option<IpNet>,
    gateway: Option<IpAddr>,
    aux: std::collections::BTreeMap<String, IpAddr>,
}

impl Wish {
    pub(crate) fn parse(draft: &IpamDraft, faults: &mut Vec<String>) -> Self {
        let mut cidr = |what: &str, text: &str| match text.parse::<IpNet>() {
            _ if text.is_empty() => None,
            Ok(net) if net == net.trunc() => Some(net),
            Ok(net) => {
                faults.push(format!("invalid {what} {text}: it should be {}", net.trunc()));
                None
            }
            Err(_) => {
                faults.push(format!("invalid {what} {text}: invalid CIDR block notation"));
                None
            }
        };
        let (subnet, range) = (cidr("subnet", &draft.subnet), cidr("ip-range", &draft.range));
        let mut address = |what: &str, text: &str| {
            let ip = text.parse::<IpAddr>().ok();
            if ip.is_none() && !text.is_empty() {
                faults.push(format!("invalid {what} {text}: invalid address"));
            }
            ip
        };
        let gateway = address("gateway", &draft.gateway);
        let aux = &draft.aux;
        let aux =
            aux.iter().filter_map(|(k, v)| Some((k.clone(), address("auxiliary address", v)?))).collect();
        Self { subnet, range, gateway, aux }
    }

    pub(crate) fn check(&self, faults: &mut Vec<String>) {
        let Some(subnet) = self.subnet else {
            if self.range.is_some() || self.gateway.is_some() || !self.aux.is_empty() {
                faults.push("invalid subnet : an ip-range, gateway or auxiliary address needs one".into());
            }
            return;
        };
        if subnet.addr().is_loopback() || subnet.addr().is_multicast() {
            faults.push(format!("invalid subnet {subnet}: loopback and multicast addresses are no host's"));
        }
        if let IpNet::V6(net) = subnet
            && net.addr().to_ipv4_mapped().is_some()
        {
            faults.push(format!("invalid subnet {subnet}: these are IPv4 addresses, write them as such"));
        }
        let outside = |what: &str, text: String, thing: &str| {
            format!("invalid {what} {text}: parent subnet {subnet} doesn't contain {thing}")
        };
        if let Some(range) = self.range.filter(|r| !subnet.contains(r)) {
            faults.push(outside("ip-range", range.to_string(), "ip-range"));
        }
        if let Some(ip) = self.gateway.filter(|ip| !subnet.contains(ip)) {
            faults.push(outside("gateway", ip.to_string(), "this address"));
        }
        for ip in self.aux.values().filter(|ip| !subnet.contains(*ip)) {
            faults.push(outside("auxiliary address", ip.to_string(), "this address"));
        }
    }

    fn family(&self) -> Family {
        self.subnet.map_or(Family::V4, |s| Family::of(s.addr()))
    }

    /// The spec, with the first free address of the subnet as gateway when people chose none.
    pub(crate) fn settle(&self, cidr: IpNet) -> Result<SubnetSpec, NetError> {
        let reserved = |ip: &IpAddr| self.aux.values().any(|aux| aux == ip);
        let named = |ip: IpAddr| self.aux.iter().find(|(_, aux)| **aux == ip);
        let twice =
            |(nth, (_, ip)): &(usize, (&String, &IpAddr))| self.aux.values().take(*nth).any(|a| a == *ip);
        if let Some((_, (name, ip))) = self.aux.iter().enumerate().find(twice) {
            return Err(NetError::AuxInUse { name: name.clone(), ip: *ip });
        }
        let gateway = match self.gateway {
            Some(ip) => match named(ip) {
                Some((name, _)) => return Err(NetError::AuxInUse { name: name.clone(), ip }),
                None => ip,
            },
            // As dockerd, the first address of the range where there is one.
            None => match self.range.filter(|range| *range != cidr) {
                Some(range) => ipam::first(cidr, range, reserved).ok_or(NetError::NoRoom { subnet: cidr })?,
                None => cidr.hosts().find(|ip| *ip != cidr.network() && !reserved(ip)).unwrap_or(cidr.addr()),
            },
        };
        let subnet = SubnetSpec {
            cidr,
            gateway: Some(gateway),
            remote_gateway: false,
            router: None,
            range: self.range,
            reserved: self.aux.clone(),
            explicit: self.subnet.is_some(),
            explicit_gateway: self.gateway.is_some(),
        };
        subnets::check(&subnet)?;
        Ok(subnet)
    }
}

/// Subnets of a network of settings: as they are written, with nothing chosen.
fn settings(ipam: &[IpamDraft]) -> Result<Vec<SubnetSpec>, NetError> {
    let mut faults = Vec::new();
    let wishes: Vec<_> = ipam.iter().map(|wish| Wish::parse(wish, &mut faults)).collect();
    wishes.iter().for_each(|wish| wish.check(&mut faults));
    if !faults.is_empty() {
        return Err(NetError::InvalidConfig(faults));
    }
    let written = |wish: &Wish| {
        let settled = SubnetSpec { gateway: wish.gateway, ..wish.settle(wish.subnet?).ok()? };
        Some(settled)
    };
    Ok(wishes.iter().filter_map(written).collect())
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
