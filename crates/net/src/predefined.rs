//! The three networks that are always there: `bridge`, `host` and `none`, and how configuration shapes the
//! default bridge.
//!
//! Their specs are made at the first start and made again at each one, because `bip` and its kin may have
//! changed; ids stay. The caller (`cloud`, the only writer of specs) stores what is returned.

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
        mtu: None,
        host_binding: HostBinding::default(),
        attachable: false,
        predefined: true,
        ifname_prefix: String::new(),
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
    let others: Vec<IpNet> =
        existing.iter().filter(|n| n.id != spec.id).flat_map(|n| n.subnets.iter().map(|s| s.cidr)).collect();
    let mut avoid = others.clone();
    avoid.extend_from_slice(host_routes);
    let previous = |family| {
        let same = |s: &&SubnetSpec| Family::of(s.cidr.addr()) == family && !s.explicit;
        old.and_then(|o| o.subnets.iter().find(same)).map(|s| s.cidr)
    };
    let mut choose = |family, wanted: Option<IpNet>| -> Result<IpNet, NetError> {
        let cidr = match wanted.or_else(|| previous(family)) {
            Some(cidr) => cidr,
            None => pools.choose(family, &avoid)?,
        };
        if wanted.is_some() && others.iter().any(|o| o.contains(&cidr) || cidr.contains(o)) {
            return Err(NetError::Invalid(format!("bip {cidr} overlaps another network")));
        }
        avoid.push(cidr);
        Ok(cidr)
    };
    let v4 = choose(Family::V4, config.bip.map(|b| b.trunc()))?;
    let mut subnets = vec![first_subnet(config, v4)?];
    if config.ipv6 || config.fixed_cidr_v6.is_some() {
        let cidr = choose(Family::V6, config.fixed_cidr_v6.map(|c| c.trunc()))?;
        let explicit = config.fixed_cidr_v6.is_some();
        subnets.push(subnet(cidr, explicit));
    }
    spec.ipv6 = subnets.len() > 1;
    spec.subnets = subnets;
    spec.isolation = Isolation { internal: false, inter_container: config.icc, masquerade: config.ip_masq };
    spec.bridge = Some(DEFAULT_BRIDGE_LINK.into());
    spec.mtu = config.mtu;
    spec.host_binding = HostBinding { address: config.publish_ip };
    Ok(spec)
}

fn subnet(cidr: IpNet, explicit: bool) -> SubnetSpec {
    SubnetSpec {
        cidr,
        gateway: cidr.hosts().find(|ip| *ip != cidr.network()),
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
    if let Some(gateway) = config.default_gateway {
        return Err(NetError::Unsupported {
            driver: "bridge".into(),
            reason: format!("a default gateway ({gateway}) other than the bridge is not built yet"),
        });
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_reshaped_by_configuration() {
        let pools = Pools::docker_defaults(b"h");
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
        let none = PredefinedConfig { default_bridge: false, ..PredefinedConfig::default() };
        assert_eq!(ensure_predefined(&none, &[], &[], &pools).unwrap().len(), 2);
    }
}
