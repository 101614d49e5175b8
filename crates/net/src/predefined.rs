//! The three networks that are always there: `bridge`, `host` and `none`, and how configuration shapes the
//! default bridge.
//!
//! Their specs are made at the first start and made again at each one, because `bip` and its kin may have
//! changed; ids stay. The caller (`cloud`, the only writer of specs) stores what is returned.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_base::FreeName;
use weft_model::{HostBinding, Isolation, NetworkId, NetworkKind, NetworkSpec, SubnetSpec};

use crate::{Family, NetError, Pools, PredefinedConfig};

/// Link of the default bridge: ours by its mark, and beside a `docker0` that may be there.
pub const DEFAULT_BRIDGE_LINK: &str = "wf0";

/// The specs that must be in the store, given the networks that are. Each is either new (its id is not in
/// `existing`), changed (same id, other content) or as it was. A default bridge that configuration no longer
/// wants is left out; the caller removes it when nothing uses it.
///
/// # Errors
/// A `bip` or `fixed-cidr` that makes no sense or overlaps another network; exhausted pools.
pub fn ensure_predefined(
    config: &PredefinedConfig,
    existing: &[&NetworkSpec],
    host_routes: &[IpNet],
    pools: &Pools,
) -> Result<Vec<NetworkSpec>, NetError> {
    let old = |kind: NetworkKind| existing.iter().find(|n| n.predefined && n.kind == kind).copied();
    let mut specs = Vec::new();
    for (name, kind) in [("host", NetworkKind::Host), ("none", NetworkKind::None)] {
        specs.push(match old(kind) {
            Some(spec) => spec.clone(),
            None => blank(name, kind)?,
        });
    }
    if config.default_bridge {
        specs.push(default_bridge(config, old(NetworkKind::Bridge), existing, host_routes, pools)?);
    }
    Ok(specs)
}

fn blank(name: &str, kind: NetworkKind) -> Result<NetworkSpec, NetError> {
    Ok(NetworkSpec {
        id: NetworkId::new(),
        name: FreeName::new(name).map_err(|e| NetError::Invalid(e.to_string()))?,
        kind,
        ipv4: true,
        ipv6: false,
        subnets: Vec::new(),
        isolation: Isolation::default(),
        bridge: None,
        borrowed: false,
        gateways: Default::default(),
        trusted: Vec::new(),
        config_from: String::new(),
        mtu: None,
        host_binding: HostBinding::default(),
        host_source: weft_model::HostSource::default(),
        attachable: false,
        predefined: true,
        ifname_prefix: String::new(),
        limit: weft_model::RateLimit::default(),
        closed: false,
        parent: None,
        dhcp: false,
        options: Default::default(),
        ipam_options: Default::default(),
    })
}

fn default_bridge(
    config: &PredefinedConfig,
    old: Option<&NetworkSpec>,
    existing: &[&NetworkSpec],
    host_routes: &[IpNet],
    pools: &Pools,
) -> Result<NetworkSpec, NetError> {
    let mut spec = match old {
        Some(spec) => spec.clone(),
        None => blank("bridge", NetworkKind::Bridge)?,
    };
    spec.isolation = Isolation { internal: false, inter_container: config.icc, masquerade: config.ip_masq };
    spec.mtu = config.mtu;
    spec.host_binding = HostBinding { address: config.publish_ip, ..HostBinding::default() };
    spec.borrowed = config.bridge.is_some();
    spec.bridge = Some(DEFAULT_BRIDGE_LINK.into());
    if let Some((name, addresses)) = &config.bridge {
        spec.bridge = Some(name.clone());
        spec.subnets = borrow(config, name, addresses)?;
        spec.ipv6 = spec.subnets.len() > 1;
        route_by(&mut spec.subnets, &config.default_gateways)?;
        return Ok(spec);
    }
    let others: Vec<IpNet> =
        existing.iter().filter(|n| n.id != spec.id).flat_map(|n| n.claimed().map(|s| s.cidr)).collect();
    let mut avoid = others.clone();
    avoid.extend_from_slice(host_routes);
    let previous = |family| {
        let same = |s: &&SubnetSpec| Family::of(s.cidr.addr()) == family && !s.explicit;
        old.and_then(|o| o.subnets.iter().find(same)).map(|s| s.cidr)
    };
    let mut choose = |family, wanted: Option<IpNet>| -> Result<IpNet, NetError> {
        let cidr = match wanted.or_else(|| previous(family)) {
            Some(cidr) => cidr,
            None => pools.choose_for_bridge(family, &avoid)?,
        };
        if wanted.is_some() && others.iter().any(|o| o.contains(&cidr) || cidr.contains(o)) {
            return Err(NetError::Invalid(format!("bip {cidr} overlaps another network")));
        }
        avoid.push(cidr);
        Ok(cidr)
    };
    for bip in config.bip.iter().chain(&config.bip6) {
        // The kernel would take it; its answers would then come from either link.
        if host_routes.contains(&IpNet::from(bip.addr())) {
            return Err(NetError::Invalid(format!(
                "bip {bip}: another interface of this host has that address"
            )));
        }
    }
    let v4 = choose(Family::V4, config.bip.map(|b| b.trunc()))?;
    let mut subnets = vec![first_subnet(config, v4)?];
    if config.ipv6 {
        let wanted = config.bip6.or(config.fixed_cidr_v6);
        let mut second = subnet(choose(Family::V6, wanted.map(|c| c.trunc()))?, wanted.is_some());
        if let Some(bip6) = config.bip6 {
            (second.gateway, second.explicit_gateway) = (Some(bip6.addr()), true);
            second.range = config.fixed_cidr_v6.map(|range| range.trunc());
            inside(&second)?;
        }
        subnets.push(second);
    }
    route_by(&mut subnets, &config.default_gateways)?;
    spec.ipv6 = subnets.len() > 1;
    spec.subnets = subnets;
    Ok(spec)
}

fn subnet(cidr: IpNet, explicit: bool) -> SubnetSpec {
    SubnetSpec {
        cidr,
        gateway: cidr.hosts().find(|ip| *ip != cidr.network()),
        remote_gateway: false,
        router: None,
        range: None,
        reserved: Default::default(),
        explicit,
        explicit_gateway: false,
    }
}

/// IPv4 of the default bridge: `bip` gives both subnet and gateway, `fixed-cidr` the range.
fn first_subnet(config: &PredefinedConfig, cidr: IpNet) -> Result<SubnetSpec, NetError> {
    let mut spec = subnet(cidr, config.bip.is_some());
    if let Some(bip) = config.bip {
        if bip.addr() == cidr.network() || bip.addr() == cidr.broadcast() {
            return Err(NetError::Invalid(format!("bip {bip} must name the bridge's own address")));
        }
        (spec.gateway, spec.explicit_gateway) = (Some(bip.addr()), true);
    }
    if let Some(range) = config.fixed_cidr {
        if !cidr.contains(&range.trunc()) {
            return Err(NetError::Invalid(format!("fixed-cidr {range} is no part of the bridge's {cidr}")));
        }
        spec.range = Some(range.trunc());
    }
    Ok(spec)
}

/// A range of addresses must be one of the subnet's.
fn inside(subnet: &SubnetSpec) -> Result<(), NetError> {
    match subnet.range.filter(|range| !subnet.cidr.contains(range)) {
        Some(range) => Err(NetError::Invalid(format!("fixed-cidr-v6 {range} is no part of {}", subnet.cidr))),
        None => Ok(()),
    }
}

/// The default routes that configuration wants, kept from being given to anybody.
fn route_by(subnets: &mut [SubnetSpec], gateways: &[IpAddr]) -> Result<(), NetError> {
    let v6 = subnets.iter().any(|s| s.cidr.network().is_ipv6());
    for gateway in gateways.iter().filter(|gateway| gateway.is_ipv4() || v6) {
        let outside =
            || NetError::Invalid(format!("default-gateway {gateway} is not in the bridge's subnet"));
        let subnet = subnets.iter_mut().find(|s| s.cidr.contains(gateway)).ok_or_else(outside)?;
        subnet.router = Some(*gateway).filter(|_| subnet.gateway != Some(*gateway));
        let name = if gateway.is_ipv4() { "DefaultGatewayIPv4" } else { "DefaultGatewayIPv6" };
        // The names that Docker's users know them by.
        subnet.reserved.extend(subnet.router.map(|router| (name.to_owned(), router)));
    }
    Ok(())
}

/// A bridge of others: its own addresses say which subnets it has.
fn borrow(config: &PredefinedConfig, name: &str, addresses: &[IpNet]) -> Result<Vec<SubnetSpec>, NetError> {
    let of = |v4: bool| {
        let usable = |a: &&IpNet| match a {
            IpNet::V4(_) => v4,
            IpNet::V6(net) => !v4 && !net.addr().is_unicast_link_local(),
        };
        addresses.iter().find(usable).copied()
    };
    let missing = |family| NetError::Invalid(format!("bridge {name} has no {family} address"));
    let v4 = of(true).ok_or_else(|| missing("IPv4"))?;
    let mut subnets = vec![first_subnet(&PredefinedConfig { bip: Some(v4), ..config.clone() }, v4.trunc())?];
    if config.ipv6 {
        let v6 = of(false).ok_or_else(|| missing("IPv6"))?;
        let mut second = subnet(v6.trunc(), true);
        (second.gateway, second.explicit_gateway) = (Some(v6.addr()), true);
        second.range = config.fixed_cidr_v6.map(|range| range.trunc());
        inside(&second)?;
        subnets.push(second);
    }
    Ok(subnets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_reshaped_by_configuration() {
        let pools = Pools::defaults(b"h");
        let first = ensure_predefined(&PredefinedConfig::default(), &[], &[], &pools).unwrap();
        let names: Vec<_> = first.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["host", "none", "bridge"]);
        assert_eq!(first[2].subnets[0].cidr.to_string(), "172.17.0.0/16");
        assert!(first[2].is_default_bridge());

        let refs: Vec<_> = first.iter().collect();
        let route = ["172.17.0.0/16".parse().unwrap()];
        let again = ensure_predefined(&PredefinedConfig::default(), &refs, &route, &pools).unwrap();
        assert_eq!(again, first, "its own route does not push it away");

        let config = PredefinedConfig {
            bip: Some("10.20.30.1/24".parse().unwrap()),
            fixed_cidr: Some("10.20.30.128/25".parse().unwrap()),
            ..PredefinedConfig::default()
        };
        let moved = ensure_predefined(&config, &refs, &[], &pools).unwrap();
        let subnet = &moved[2].subnets[0];
        assert_eq!(moved[2].id, first[2].id);
        assert_eq!(
            (subnet.cidr.to_string().as_str(), subnet.gateway),
            ("10.20.30.0/24", config.bip.map(|b| b.addr()))
        );
        assert_eq!(subnet.range.unwrap().to_string(), "10.20.30.128/25");

        let bad = PredefinedConfig { fixed_cidr: Some("10.9.0.0/24".parse().unwrap()), ..config };
        assert!(ensure_predefined(&bad, &refs, &[], &pools).is_err());
        let borrowed = PredefinedConfig {
            bridge: Some((
                "br0".into(),
                vec!["192.0.2.9/24".parse().unwrap(), "fe80::1/64".parse().unwrap()],
            )),
            default_gateways: vec!["192.0.2.1".parse().unwrap()],
            ..PredefinedConfig::default()
        };
        let spec = &ensure_predefined(&borrowed, &refs, &[], &pools).unwrap()[2];
        assert_eq!((spec.bridge.as_deref(), spec.borrowed, spec.ipv6), (Some("br0"), true, false));
        let subnet = &spec.subnets[0];
        assert_eq!(
            (subnet.gateway, subnet.cidr.to_string().as_str()),
            (Some("192.0.2.9".parse().unwrap()), "192.0.2.0/24")
        );
        assert_eq!((subnet.router, subnet.reserved.len()), (Some("192.0.2.1".parse().unwrap()), 1));
        for bad in [
            PredefinedConfig { default_gateways: vec!["198.51.100.1".parse().unwrap()], ..borrowed.clone() },
            PredefinedConfig { bridge: Some(("br0".into(), vec![])), ..borrowed.clone() },
            PredefinedConfig { ipv6: true, ..borrowed.clone() },
        ] {
            assert!(ensure_predefined(&bad, &refs, &[], &pools).is_err(), "{bad:?}");
        }
        let back = ensure_predefined(&PredefinedConfig::default(), &[spec], &[], &pools).unwrap();
        let back = back.iter().find(|n| n.name.as_str() == "bridge").unwrap();
        assert_eq!((back.bridge.as_deref(), back.borrowed), (Some(DEFAULT_BRIDGE_LINK), false));

        // As dockerd: what is said of IPv6 makes none.
        let six = PredefinedConfig {
            fixed_cidr_v6: Some("fd00:9::/64".parse().unwrap()),
            default_gateways: vec!["fd00:9::9".parse().unwrap()],
            ..PredefinedConfig::default()
        };
        let four = &ensure_predefined(&six, &[], &[], &pools).unwrap()[2];
        assert_eq!((four.ipv6, four.subnets.len()), (false, 1));
        let both = PredefinedConfig { ipv6: true, ..six };
        let both = &ensure_predefined(&both, &[], &[], &pools).unwrap()[2];
        assert_eq!(both.subnets[1].cidr.to_string(), "fd00:9::/64");

        let config =
            PredefinedConfig { bip: Some("10.20.30.1/24".parse().unwrap()), ..PredefinedConfig::default() };
        let used = ["10.20.30.1/32".parse().unwrap()];
        let told = ensure_predefined(&config, &[], &used, &pools).unwrap_err().to_string();
        assert_eq!(told, "bip 10.20.30.1/24: another interface of this host has that address");

        let none = PredefinedConfig { default_bridge: false, ..PredefinedConfig::default() };
        assert_eq!(ensure_predefined(&none, &[], &[], &pools).unwrap().len(), 2);
    }
}
