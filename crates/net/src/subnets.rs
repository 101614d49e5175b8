//! What becomes of a network's subnets once they are chosen: whether anybody can live there, whether the bridge has the
//! gateway's address, and what a bridge of somebody else's brings with it.

use ipnet::IpNet;
use weft_model::{GatewayMode, Gateways, NetworkId, NetworkSpec, SubnetSpec};

use crate::{NetError, NetworkDraft, ipam};

/// Refuses a subnet in which no container could have an address, and a gateway that is none.
pub(crate) fn check(subnet: &SubnetSpec) -> Result<(), NetError> {
    if subnet.cidr.prefix_len() == subnet.cidr.max_prefix_len() {
        return Err(NetError::NoRoom { subnet: subnet.cidr });
    }
    match subnet.gateway.filter(|ip| !ipam::usable(subnet.cidr, *ip)) {
        Some(ip) => Err(NetError::GatewayInUse { ip }),
        None => Ok(()),
    }
}

/// With the gateway where its mode wants it.
pub(crate) fn place(mut subnet: SubnetSpec, gateways: &Gateways) -> SubnetSpec {
    let v4 = subnet.cidr.network().is_ipv4();
    let isolated = gateways.of(subnet.cidr.network()) == GatewayMode::Isolated;
    if isolated && !subnet.explicit_gateway {
        subnet.gateway = None;
    }
    subnet.remote_gateway |= isolated || (v4 && gateways.inhibit_v4);
    subnet
}

/// On a bridge of somebody else's: its own address there is the gateway, unless people name another; then it is kept from
/// being given to anybody. A bridge without an address of the family is no gateway; one whose addresses are elsewhere is no
/// place for the subnet, unless people know of a gateway there.
pub(crate) fn adopt(
    mut subnet: SubnetSpec,
    bridge: &str,
    addresses: &[IpNet],
) -> Result<SubnetSpec, NetError> {
    let own: Vec<&IpNet> = addresses.iter().filter(|a| subnet.cidr.contains(&a.addr())).collect();
    if own.is_empty() && subnet.gateway.is_some() && !subnet.explicit_gateway {
        let v4 = subnet.cidr.network().is_ipv4();
        let local = |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
        if let Some(elsewhere) = addresses.iter().find(|a| a.addr().is_ipv4() == v4 && !local(a)) {
            // dockerd's words.
            return Err(NetError::Refused(format!(
                "bridge IPv{} ({}) does not match requested configuration {}",
                if v4 { 4 } else { 6 },
                elsewhere.addr(),
                subnet.cidr
            )));
        }
    }
    let whole = own.iter().find(|a| a.trunc() == subnet.cidr).map(|a| a.addr());
    if !subnet.explicit_gateway {
        subnet.gateway = whole;
    }
    subnet.remote_gateway = !own.iter().any(|a| a.trunc() == subnet.cidr && Some(a.addr()) == subnet.gateway);
    for (nth, address) in own.iter().filter(|a| Some(a.addr()) != subnet.gateway).enumerate() {
        let name = if nth == 0 { bridge.to_owned() } else { format!("{bridge}.{nth}") };
        subnet.reserved.insert(name, address.addr());
    }
    Ok(subnet)
}

/// The subnets that a bridge of somebody else's has where nobody says others.
pub(crate) fn of_bridge(bridge: &str, addresses: &[IpNet], ipv6: bool) -> Result<Vec<IpNet>, NetError> {
    let mut subnets = Vec::new();
    for v4 in if ipv6 { &[true, false][..] } else { &[true] } {
        let usable = |a: &&IpNet| match a {
            IpNet::V4(_) => *v4,
            IpNet::V6(net) => !v4 && !net.addr().is_unicast_link_local(),
        };
        let family = if *v4 { "IPv4" } else { "IPv6" };
        let found = addresses.iter().find(usable).ok_or_else(|| {
            NetError::Invalid(format!("bridge {bridge} has no {family} address: the network needs a subnet"))
        })?;
        subnets.push(found.trunc());
    }
    Ok(subnets)
}

/// Modes and links that make no sense together.
pub(crate) fn check_gateways(draft: &NetworkDraft) -> Result<(), NetError> {
    let modes = [draft.gateways.v4, draft.gateways.v6];
    if !draft.internal && modes.contains(&GatewayMode::Isolated) {
        let text = "gateway mode 'isolated' can only be used for an internal network";
        return Err(NetError::Invalid(text.into()));
    }
    Ok(())
}

/// A network of settings has no more than settings.
pub(crate) fn check_settings(draft: &NetworkDraft) -> Result<(), NetError> {
    let refused = |text: &str| Err(NetError::Refused(text.to_owned()));
    if draft.internal || draft.attachable {
        return refused(
            "configuration network can only contain network specific fields. Network operator fields like \
             [ ingress | internal | attachable | scope ] are not supported.",
        );
    }
    if !draft.config_from.is_empty() {
        return refused("a configuration network cannot depend on another configuration network");
    }
    Ok(())
}

/// Subnets that are nobody's yet may not be another network's.
pub(crate) fn check_free(cidr: IpNet, me: NetworkId, existing: &[&NetworkSpec]) -> Result<(), NetError> {
    let overlaps = |s: &SubnetSpec| s.cidr.contains(&cidr) || cidr.contains(&s.cidr);
    match existing.iter().find(|n| n.id != me && n.claimed().any(overlaps)) {
        Some(other) => Err(NetError::Overlap { wanted: cidr, other: other.id }),
        None => Ok(()),
    }
}

/// The host's routes to what lies in a subnet: the host would look for it on the network's bridge.
pub(crate) fn swallowed<'r>(cidr: IpNet, host_routes: &'r [IpNet]) -> impl Iterator<Item = IpNet> + 'r {
    host_routes.iter().copied().filter(move |route| route.prefix_len() > 0 && cidr.contains(route))
}

/// What is to be said of subnets that people chose on top of the host's routes.
#[must_use]
pub fn warn_of_routes(network: &NetworkSpec, host_routes: &[IpNet]) -> Vec<String> {
    // Where the bridge is another's or the LAN's, the routes are its own.
    if network.borrowed || network.parent.is_some() {
        return Vec::new();
    }
    let told = |cidr: IpNet| {
        swallowed(cidr, host_routes).next().map(|route| {
            format!("subnet {cidr} covers the host's route to {route}: what is there is out of its reach")
        })
    };
    network.subnets.iter().filter(|s| s.explicit).filter_map(|s| told(s.cidr)).collect()
}
