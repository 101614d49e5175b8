//! Where subnets come from when nobody chose one: small ones out of large ranges, or the configured pools, and an
//! IPv6 prefix of this host's own (RFC 4193).

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weft_model::resolve_pool;

use crate::{Family, NetError};

/// Pools with the prefix length of the subnets cut from them, in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Pool and prefix length of each subnet.
    pub pools: Vec<(IpNet, u8)>,
    /// What the default bridge looks at before them.
    pub bridge: Vec<(IpNet, u8)>,
}

impl Pools {
    /// The ranges that Docker uses, in /24: dockerd cuts them into 16 subnets of 65,534 addresses and 16 of 4,094, which are
    /// soon used up and more likely to meet something of the host's. The default bridge has Docker's own 172.17.0.0/16 where
    /// that is free. For IPv6 a /48 of unique local addresses derived from `host` (any bytes that are this host's own), in /64.
    #[must_use]
    pub fn defaults(host: &[u8]) -> Self {
        let v4 = |a, b, len| IpNet::from(Ipv4Net::new_assert([a, b, 0, 0].into(), len));
        let pools = vec![
            (v4(172, 18, 15), 24),
            (v4(172, 20, 14), 24),
            (v4(172, 24, 13), 24),
            (v4(192, 168, 16), 24),
            (unique_local(host).into(), 64),
        ];
        Self { pools, bridge: vec![(v4(172, 17, 16), 16)] }
    }

    /// The configured pools; where they lack a family, the default pools of that family.
    #[must_use]
    pub fn configured(pools: &[(IpNet, u8)], host: &[u8]) -> Self {
        let mut all = Self::defaults(host);
        let lacks =
            |pool: &IpNet| !pools.iter().any(|(p, _)| Family::of(p.addr()) == Family::of(pool.addr()));
        all.pools.retain(|(pool, _)| lacks(pool));
        all.bridge.retain(|(pool, _)| lacks(pool));
        Self { pools: [pools, &all.pools].concat(), ..all }
    }

    /// The first subnet of the family that overlaps none of `taken`.
    ///
    /// # Errors
    /// [`NetError::PoolsExhausted`].
    pub fn choose(&self, family: Family, taken: &[IpNet]) -> Result<IpNet, NetError> {
        first(&self.pools, family, taken)
            .ok_or(NetError::PoolsExhausted { family: family.number(), route: None })
    }

    /// The same, with the host's routes to be kept clear of, too; one that is in the way of all is named.
    ///
    /// # Errors
    /// [`NetError::PoolsExhausted`].
    pub fn choose_beside(
        &self,
        family: Family,
        taken: &[IpNet],
        routes: &[IpNet],
    ) -> Result<IpNet, NetError> {
        let chosen = self.choose(family, &[taken, routes].concat());
        if chosen.is_ok() || self.choose(family, taken).is_err() {
            return chosen;
        }
        let mine = |(pool, _): &&(IpNet, u8)| Family::of(pool.addr()) == family;
        let across = |route: &&IpNet| {
            self.pools.iter().filter(mine).any(|(pool, _)| pool.contains(*route) || route.contains(pool))
        };
        // The widest: what it takes, others need not.
        let mut widest: Vec<&IpNet> = routes.iter().collect();
        widest.sort_by_key(|route| route.prefix_len());
        let route = widest.into_iter().filter(|r| r.prefix_len() > 0).find(across).copied();
        Err(NetError::PoolsExhausted { family: family.number(), route })
    }

    /// The same for the default bridge.
    ///
    /// # Errors
    /// [`NetError::PoolsExhausted`].
    pub fn choose_for_bridge(&self, family: Family, taken: &[IpNet]) -> Result<IpNet, NetError> {
        first(&self.bridge, family, taken).map_or_else(|| self.choose(family, taken), Ok)
    }
}

fn first(pools: &[(IpNet, u8)], family: Family, taken: &[IpNet]) -> Option<IpNet> {
    let fit = |(pool, size): &&(IpNet, u8)| {
        Family::of(pool.addr()) == family && *size >= pool.prefix_len() && *size <= pool.max_prefix_len()
    };
    let pools: Vec<_> = pools.iter().filter(fit).copied().collect();
    // A default route overlaps everything and says nothing about which addresses are in use.
    let taken: Vec<_> = taken.iter().filter(|t| t.prefix_len() > 0).copied().collect();
    resolve_pool(&pools, &taken)
}

/// `fdXX:XXXX:XXXX::/48` from FNV-1a over the host's bytes: stable for a host, unlikely to meet another's.
fn unique_local(host: &[u8]) -> Ipv6Net {
    let hash =
        host.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&hash.to_be_bytes()[..5]);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 48)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn small_subnets_without_what_is_taken() {
        let pools = Pools::defaults(b"host");
        let nets = |taken: &[&str]| taken.iter().map(|t| net(t)).collect::<Vec<_>>();
        let choose = |taken: &[&str]| pools.choose(Family::V4, &nets(taken)).ok();
        assert_eq!(choose(&[]), Some(net("172.18.0.0/24")));
        assert_eq!(choose(&["0.0.0.0/0"]), Some(net("172.18.0.0/24")));
        assert_eq!(choose(&["172.18.0.0/24", "172.18.1.4/32"]), Some(net("172.18.2.0/24")));
        assert_eq!(choose(&["172.18.0.0/15"]), Some(net("172.20.0.0/24")));
        assert_eq!(choose(&["172.16.0.0/12"]), Some(net("192.168.0.0/24")));
        assert_eq!(choose(&["172.16.0.0/12", "192.168.0.0/20"]), Some(net("192.168.16.0/24")));
        assert_eq!(choose(&["172.16.0.0/12", "192.168.0.0/16"]), None);
        let bridge = |taken: &[&str]| pools.choose_for_bridge(Family::V4, &nets(taken)).ok();
        assert_eq!(bridge(&[]), Some(net("172.17.0.0/16")));
        assert_eq!(bridge(&["172.17.9.0/24"]), Some(net("172.18.0.0/24")));
    }

    #[test]
    fn local_prefix_is_stable_and_the_hosts_own() {
        let one = Pools::defaults(b"one").choose(Family::V6, &[]).unwrap();
        assert_eq!(one, Pools::defaults(b"one").choose(Family::V6, &[]).unwrap());
        assert_ne!(one, Pools::defaults(b"two").choose(Family::V6, &[]).unwrap());
        assert_eq!((one.prefix_len(), one.to_string().starts_with("fd")), (64, true));
        assert_ne!(one, Pools::defaults(b"one").choose(Family::V6, &[one]).unwrap());
    }

    #[test]
    fn configured_pools_replace_only_their_family() {
        let pools = Pools::configured(&[(net("10.5.0.0/16"), 24)], b"host");
        assert_eq!(pools.choose(Family::V4, &[net("10.5.0.0/24")]).unwrap(), net("10.5.1.0/24"));
        assert_eq!(pools.choose_for_bridge(Family::V4, &[]).unwrap(), net("10.5.0.0/24"));
        assert!(pools.choose(Family::V6, &[]).is_ok());
    }
}
