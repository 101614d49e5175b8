//! Which address of a network is free: a pure allocator over its subnets and the ports that exist.
//!
//! There is no second record of what is given out: an [`Ipam`] is made from the network and its ports at
//! the moment of a transaction, and the transaction fails if another port came between. [`Cursors`] only
//! remember where the last search ended, so that an address that was just released is not given to the
//! next container while neighbours still have it in their caches; losing them loses nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use parking_lot::Mutex;
use weft_model::{NetworkId, NetworkSpec, PortAddress, PortSpec, SubnetSpec};

use crate::NetError;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// 4 or 6.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

/// Where the last search of each network and family ended. Cheap to lose: only a hint.
#[derive(Debug, Default)]
pub struct Cursors(Mutex<HashMap<(NetworkId, Family), IpAddr>>);

impl Cursors {
    /// The address that was last given out.
    #[must_use]
    pub fn last(&self, network: NetworkId, family: Family) -> Option<IpAddr> {
        self.0.lock().get(&(network, family)).copied()
    }

    /// Notes that `ip` was given out.
    pub fn note(&self, network: NetworkId, ip: IpAddr) {
        self.0.lock().insert((network, Family::of(ip)), ip);
    }

    /// Notes that `ip`, which was given out last, was not taken.
    pub(crate) fn unnote(&self, network: NetworkId, ip: IpAddr) {
        let before = match ip {
            IpAddr::V4(ip) => u32::from(ip).checked_sub(1).map(|n| Ipv4Addr::from(n).into()),
            IpAddr::V6(ip) => u128::from(ip).checked_sub(1).map(|n| Ipv6Addr::from(n).into()),
        };
        let mut all = self.0.lock();
        if let Some(last) = all.get_mut(&(network, Family::of(ip))).filter(|last| **last == ip)
            && let Some(before) = before
        {
            *last = before;
        }
    }

    /// Forgets a network that is gone.
    pub fn forget(&self, network: NetworkId) {
        self.0.lock().retain(|(n, _), _| *n != network);
    }
}

/// The free and used addresses of one network.
#[derive(Clone, Debug)]
pub struct Ipam<'a> {
    network: &'a NetworkSpec,
    used: BTreeSet<IpAddr>,
}

impl<'a> Ipam<'a> {
    /// The state of `network`, given all ports that exist (those of other networks are ignored).
    pub fn new<'p>(network: &'a NetworkSpec, ports: impl IntoIterator<Item = &'p PortSpec>) -> Self {
        let mut used: BTreeSet<IpAddr> = ports
            .into_iter()
            .filter(|port| port.network == network.id)
            .flat_map(|port| port.addresses.iter().map(|a| a.ip))
            .collect();
        for subnet in &network.subnets {
            used.extend(subnet.gateway);
            used.extend(subnet.router);
            used.extend(subnet.reserved.values());
        }
        Self { network, used }
    }

    /// Takes exactly `ip`.
    ///
    /// # Errors
    /// On predefined networks, on networks without a subnet that people chose, outside the subnets, and
    /// when it is in use (also as gateway, reserved, network or broadcast address).
    pub fn claim(&mut self, ip: IpAddr) -> Result<PortAddress, NetError> {
        if self.network.predefined {
            return Err(NetError::PredefinedAddress);
        }
        if !self.network.subnets.iter().any(|s| s.explicit) {
            return Err(NetError::NoUserSubnet);
        }
        let subnet = self.network.subnets.iter().find(|s| s.cidr.contains(&ip));
        let subnet = subnet.ok_or(NetError::OutsideSubnets { ip })?;
        if !Bounds::of(subnet.cidr, subnet.cidr).contains(ip) || !self.used.insert(ip) {
            return Err(NetError::AddressInUse { ip });
        }
        Ok(self.address(subnet, ip))
    }

    /// Takes the next free address of a family, searching from the one behind `after` round to it again.
    /// Subnets are used in their order.
    ///
    /// # Errors
    /// [`NetError::NoAddresses`] when none is free.
    pub fn next(&mut self, family: Family, after: Option<IpAddr>) -> Result<PortAddress, NetError> {
        let network = self.network;
        for subnet in network.subnets.iter().filter(|s| Family::of(s.cidr.addr()) == family) {
            let bounds = Bounds::of(subnet.cidr, subnet.range.unwrap_or(subnet.cidr));
            if let Some(ip) = self.free_in(bounds, after) {
                self.used.insert(ip);
                return Ok(self.address(subnet, ip));
            }
        }
        let (name, id) = (network.name.to_string(), network.id);
        Err(NetError::NoAddresses { family: family.number(), name, id })
    }

    /// Gives an address back.
    pub fn release(&mut self, ip: IpAddr) {
        let kept = |s: &SubnetSpec| s.gateway == Some(ip) || s.reserved.values().any(|r| *r == ip);
        if !self.network.subnets.iter().any(kept) {
            self.used.remove(&ip);
        }
    }

    fn address(&self, subnet: &SubnetSpec, ip: IpAddr) -> PortAddress {
        // Where the link resolves no neighbours, there is no next hop: all is on the link.
        let on_link = self.network.parent.as_ref().is_some_and(|p| !p.branch.has_neighbours());
        let any = || if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let gateway = subnet.router.or(subnet.gateway).map(|gateway| if on_link { any() } else { gateway });
        let gateway = gateway.filter(|_| !self.network.isolation.internal);
        PortAddress { ip, prefix: subnet.cidr.prefix_len(), gateway }
    }

    /// An address that is given out already, as the network's subnets now want it; `None` where they have no place for it.
    pub(crate) fn again(network: &NetworkSpec, ip: IpAddr) -> Option<PortAddress> {
        let subnet = network.subnets.iter().find(|s| s.cidr.contains(&ip))?;
        let mut ipam = Ipam::new(network, []);
        let free = Bounds::of(subnet.cidr, subnet.cidr).contains(ip) && ipam.used.insert(ip);
        free.then(|| ipam.address(subnet, ip))
    }

    fn free_in(&self, bounds: Bounds, after: Option<IpAddr>) -> Option<IpAddr> {
        let start = match after {
            Some(ip) if bounds.contains(ip) && number(ip) < bounds.last => number(ip) + 1,
            _ => bounds.first,
        };
        self.first_free(bounds, start, bounds.last)
            .or_else(|| self.first_free(bounds, bounds.first, start.checked_sub(1)?))
    }

    /// Walks the used addresses beside the candidates, so that a run of used ones costs one step each.
    fn first_free(&self, bounds: Bounds, from: u128, to: u128) -> Option<IpAddr> {
        if from > to {
            return None;
        }
        let mut candidate = from;
        for used in self.used.range(bounds.ip(from)..=bounds.ip(to)) {
            if number(*used) != candidate {
                break;
            }
            candidate += 1;
        }
        (candidate <= to).then(|| bounds.ip(candidate))
    }
}

/// Whether a host may have this address of a subnet.
pub(crate) fn usable(cidr: IpNet, ip: IpAddr) -> bool {
    Bounds::of(cidr, cidr).contains(ip)
}

/// The first address of a subnet, inside a range of it, that a host may have and `taken` does not name.
pub(crate) fn first(cidr: IpNet, range: IpNet, taken: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let bounds = Bounds::of(cidr, range);
    (bounds.first..=bounds.last).map(|n| bounds.ip(n)).find(|ip| !taken(ip))
}

/// First and last address that may be given out, as numbers of one family.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    family: Family,
    first: u128,
    last: u128,
}

impl Bounds {
    /// The part of `cidr` inside `range`, without the network's own address and IPv4's broadcast address
    /// (RFC 3021 /31 and single addresses keep all theirs).
    fn of(cidr: IpNet, range: IpNet) -> Self {
        let whole = cidr.max_prefix_len() - cidr.prefix_len() <= 1;
        let keep = u128::from(!whole);
        let broadcast = if cidr.network().is_ipv4() { keep } else { 0 };
        let first = number(range.network()).max(number(cidr.network()) + keep);
        let last = number(range.broadcast()).min(number(cidr.broadcast()) - broadcast);
        Self { family: Family::of(cidr.addr()), first, last }
    }

    fn contains(self, ip: IpAddr) -> bool {
        Family::of(ip) == self.family && (self.first..=self.last).contains(&number(ip))
    }

    fn ip(self, n: u128) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX)).into(),
            Family::V6 => Ipv6Addr::from(n).into(),
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

#[cfg(test)]
#[path = "ipam_tests.rs"]
mod tests;
