//! Networks whose ports are sub-interfaces of a link of the host: their wishes resolved, and their part of the plan.
//!
//! What needs a look at the host (is the parent there, does the kernel know the kind) is asked of the driver, before a network
//! is written ([`crate::Net::uplink_possible`]). What two networks may have in common is decided here: macvlan networks
//! share a parent, but not with a passthru one; an ipvlan parent has one network, since its mode is the parent's.

use std::{collections::BTreeSet, net::IpAddr};

use weft_dataplane::{Origin, Parent, ParentFault, Segment, Uplink, link_name};
use weft_model::{
    Branch, IpvlanFlag, IpvlanMode, MacAddr, MacvlanMode, NetworkId, NetworkKind, NetworkSpec, ParentSpec,
    Port, SubnetSpec,
};

use crate::{NetError, ParentDraft};

/// Name that the host's own addresses on such a network are reserved under.
const SHIM: &str = "weft.host_shim";

fn invalid(text: String) -> NetError {
    NetError::Invalid(text)
}

/// What ports of a network of this kind hang on; nothing for other kinds.
pub(crate) fn resolve(
    kind: NetworkKind,
    draft: &ParentDraft,
    subnets: &mut [SubnetSpec],
    existing: &[&NetworkSpec],
) -> Result<Option<ParentSpec>, NetError> {
    let branch = match kind {
        NetworkKind::Macvlan => Branch::Macvlan(macvlan_mode(&draft.mode)?),
        NetworkKind::Ipvlan => Branch::Ipvlan(ipvlan_mode(&draft.mode)?, ipvlan_flag(&draft.flag)?),
        _ => return Ok(None),
    };
    let link = Some(draft.link.clone()).filter(|link| !link.is_empty());
    if let Some(link) = &link {
        if link == "lo" {
            return Err(invalid(format!("loopback interface is not a valid {} parent link", branch.kind())));
        }
        share(link, branch, existing)?;
    }
    let shim = shims(&draft.shims, branch, subnets)?;
    Ok(Some(ParentSpec { link, branch, shim }))
}

fn macvlan_mode(text: &str) -> Result<MacvlanMode, NetError> {
    Ok(match text {
        "" | "bridge" => MacvlanMode::Bridge,
        "private" => MacvlanMode::Private,
        "vepa" => MacvlanMode::Vepa,
        "passthru" => MacvlanMode::Passthru,
        _ => {
            return Err(invalid(format!(
                "requested macvlan mode '{text}' is not valid, 'bridge' mode is the macvlan driver default"
            )));
        }
    })
}

fn ipvlan_mode(text: &str) -> Result<IpvlanMode, NetError> {
    Ok(match text {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        _ => {
            return Err(invalid(format!(
                "requested ipvlan mode '{text}' is not valid, 'l2' mode is the ipvlan driver default"
            )));
        }
    })
}

fn ipvlan_flag(text: &str) -> Result<IpvlanFlag, NetError> {
    Ok(match text {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        _ => {
            return Err(invalid(format!(
                "requested ipvlan flag '{text}' is not valid, 'bridge' is the ipvlan driver default"
            )));
        }
    })
}

/// Docker's name of a network in the texts about parents.
fn shown(id: NetworkId, branch: Branch) -> String {
    let letters = if branch.kind() == "macvlan" { "dm" } else { "di" };
    format!("{letters}-{}", id.short())
}

fn share(link: &str, branch: Branch, existing: &[&NetworkSpec]) -> Result<(), NetError> {
    for network in existing {
        let Some(parent) = network.parent.as_ref().filter(|p| p.link.as_deref() == Some(link)) else {
            continue;
        };
        let other = shown(network.id, parent.branch);
        let text = match (branch, parent.branch) {
            (Branch::Macvlan(_), Branch::Macvlan(_)) if branch.is_exclusive() => {
                format!(
                    "cannot use mode passthru, macvlan network {other} is already using parent interface {link}"
                )
            }
            (Branch::Macvlan(_), Branch::Macvlan(MacvlanMode::Passthru)) => {
                format!("macvlan network {other} is already using parent interface {link} in mode passthru")
            }
            (Branch::Macvlan(_), Branch::Macvlan(_)) => continue,
            _ => format!("network {other} is already using parent interface {link}"),
        };
        return Err(NetError::ParentTaken { text });
    }
    Ok(())
}

fn shims(texts: &[String], branch: Branch, subnets: &mut [SubnetSpec]) -> Result<BTreeSet<IpAddr>, NetError> {
    let mut shim = BTreeSet::new();
    for text in texts {
        let ip: IpAddr = text.parse().map_err(|_| invalid(format!("invalid host shim address: {text}")))?;
        if !branch.is_open() {
            return Err(invalid(format!(
                "a host shim needs sub-interfaces that talk to one another: {} mode bridge",
                branch.kind()
            )));
        }
        let subnet = subnets.iter_mut().find(|s| s.cidr.contains(&ip));
        let subnet = subnet.ok_or(NetError::OutsideSubnets { ip })?;
        let taken = subnet.gateway == Some(ip) || subnet.reserved.values().any(|r| *r == ip);
        if taken || shim.iter().any(|s: &IpAddr| s.is_ipv4() == ip.is_ipv4()) {
            return Err(NetError::AddressInUse { ip });
        }
        subnet.reserved.insert(SHIM.to_owned(), ip);
        shim.insert(ip);
    }
    Ok(shim)
}

/// The parent's name, and whose it is.
fn parent(network: NetworkId, spec: &ParentSpec) -> (String, Origin) {
    let Some(link) = &spec.link else { return (link_name('d', &network), Origin::Alone) };
    let origin = match vlan(link) {
        Ok((of, id)) => Origin::Vlan { of: of.to_owned(), id },
        Err(_) => Origin::Foreign,
    };
    (link.clone(), origin)
}

/// `eth0.10` as `eth0` and 10, or Docker's words about what it is not.
fn vlan(link: &str) -> Result<(&str, u16), String> {
    let mut parts = link.split('.');
    let (Some(of), Some(id), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(if link.contains('.') {
            format!(
                "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {link}"
            )
        } else {
            format!("invalid subinterface vlan name {link}, example formatting is eth0.10")
        });
    };
    let number: i64 = id
        .parse()
        .map_err(|_| format!("unable to parse a valid vlan id from: {id} (ex. eth0.10 for vlan 10)"))?;
    match u16::try_from(number) {
        Ok(id @ 1..=4094) => Ok((of, id)),
        _ => Err(format!("vlan id must be between 1-4094, received: {number}")),
    }
}

/// The driver's refusal of the parent `wanted`, in Docker's words: one that is not there is read as the name of a VLAN.
pub(crate) fn refusal(fault: &ParentFault, wanted: Option<&str>) -> NetError {
    match fault {
        // What the VLAN was to be of. The words are to the letter.
        ParentFault::Missing { link } if wanted.is_some_and(|wanted| wanted != link) => {
            invalid(format!("-o parent interface does was not found on the host: {link}"))
        }
        ParentFault::Missing { link } => invalid(vlan(link).err().unwrap_or_else(|| fault.to_string())),
        ParentFault::Busy { .. } => NetError::ParentTaken { text: fault.to_string() },
        ParentFault::Loopback { .. } => invalid(fault.to_string()),
        ParentFault::Kernel { .. } => NetError::NoKind(fault.to_string()),
    }
}

/// The segment of a network with a parent. `ports`: all there are.
pub(crate) fn segment(network: &NetworkSpec, spec: &ParentSpec, ports: &[&Port]) -> Segment {
    let (link, origin) = parent(network.id, spec);
    let b = network.id.as_bytes();
    let on = ports.iter().filter(|p| p.spec.network == network.id && !spec.shim.is_empty());
    let reached = on.flat_map(|p| p.addresses().into_iter().map(|a| a.ip));
    Segment {
        link: link_name('h', &network.id),
        mac: MacAddr([0x02, 0x42, b[0], b[1], b[2], b[3]]),
        addresses: BTreeSet::new(),
        mtu: network.mtu.unwrap_or_default(),
        internal: network.isolation.internal,
        inter_container: true,
        masquerade: false,
        borrowed: false,
        further: Default::default(),
        gateways: Default::default(),
        trusted: Default::default(),
        open: Default::default(),
        source: weft_model::HostSource::default(),
        uplink: Some(Uplink {
            parent: Parent { link, branch: spec.branch },
            origin,
            shim: spec.shim.clone(),
            reached: reached.collect(),
        }),
    }
}

#[cfg(test)]
#[path = "parent_tests.rs"]
mod tests;
