//! The allocator against a plain model of it, and Docker's words for what it refuses.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use proptest::prelude::*;

use super::*;
use crate::fixtures::{network, port, subnet};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn goes_on_behind_the_last_and_wraps() {
    let net = network("web", vec![subnet("10.0.0.0/29")]);
    let mut ipam = Ipam::new(&net, []);
    let mut last = None;
    let mut take = |ipam: &mut Ipam<'_>| {
        let given = ipam.next(Family::V4, last)?;
        last = Some(given.ip);
        Ok::<_, NetError>(given.ip.to_string())
    };
    assert_eq!(take(&mut ipam).unwrap(), "10.0.0.2");
    assert_eq!(take(&mut ipam).unwrap(), "10.0.0.3");
    ipam.release(ip("10.0.0.2"));
    assert_eq!(take(&mut ipam).unwrap(), "10.0.0.4", "a released address is not at once reused");
    assert_eq!(take(&mut ipam).unwrap(), "10.0.0.5");
    assert_eq!(take(&mut ipam).unwrap(), "10.0.0.6");
    assert_eq!(take(&mut ipam).unwrap(), "10.0.0.2", "the search wraps");
    let full = take(&mut ipam).unwrap_err().to_string();
    let wanted = format!("no available IPv4 addresses on this network's address pools: web ({})", net.id);
    assert_eq!(full, wanted);
}

#[test]
fn explicit_addresses_and_dockers_refusals() {
    let mut net = network("web", vec![subnet("10.0.0.0/24"), subnet("fd00:1::/64")]);
    net.subnets[0].reserved = BTreeMap::from([("printer".into(), ip("10.0.0.9"))]);
    let other = port(&net, &["10.0.0.5"]);
    let claim = |text: &str| Ipam::new(&net, [&other]).claim(ip(text)).map_err(|e| e.to_string());
    let given = claim("10.0.0.77").unwrap();
    assert_eq!((given.prefix, given.gateway), (24, Some(ip("10.0.0.1"))));
    assert_eq!(claim("fd00:1::77").unwrap().prefix, 64);
    for taken in ["10.0.0.5", "10.0.0.1", "10.0.0.9", "10.0.0.0", "10.0.0.255"] {
        assert_eq!(claim(taken), Err("Address already in use".into()), "{taken}");
    }
    let outside = "Invalid address 10.1.0.5: It does not belong to any of this network's subnets";
    assert_eq!(claim("10.1.0.5"), Err(outside.into()));
    net.subnets.iter_mut().for_each(|s| s.explicit = false);
    assert!(matches!(Ipam::new(&net, []).claim(ip("10.0.0.7")), Err(NetError::NoUserSubnet)));
    net.predefined = true;
    assert!(matches!(Ipam::new(&net, []).claim(ip("10.0.0.7")), Err(NetError::PredefinedAddress)));
}

#[test]
fn ranges_small_subnets_and_second_subnets() {
    let next = |subnets: Vec<SubnetSpec>, n: usize| {
        let net = network("n", subnets);
        let mut ipam = Ipam::new(&net, []);
        let mut last = None;
        let mut seen = Vec::new();
        for _ in 0..n {
            match ipam.next(Family::V4, last) {
                Ok(a) => {
                    last = Some(a.ip);
                    seen.push(a.ip.to_string());
                }
                Err(_) => seen.push("full".into()),
            }
        }
        seen.join(" ")
    };
    let ranged = SubnetSpec { range: Some("10.0.4.0/30".parse().unwrap()), ..subnet("10.0.0.0/16") };
    assert_eq!(next(vec![ranged], 5), "10.0.4.0 10.0.4.1 10.0.4.2 10.0.4.3 full");
    assert_eq!(next(vec![subnet("10.0.0.0/31")], 2), "10.0.0.0 full", "RFC 3021: the gateway is 10.0.0.1");
    assert_eq!(
        next(vec![subnet("10.0.0.0/30"), subnet("10.0.1.0/30")], 4),
        "10.0.0.2 10.0.1.2 full full",
        "a full subnet is followed by the next"
    );
}

/// A million operations on small subnets: nothing is given twice, nothing outside, and "full" is only said
/// when every address is really held.
#[test]
fn a_million_operations_give_no_address_twice() {
    let net = network("n", vec![subnet("10.0.0.0/25"), subnet("10.9.0.0/27"), subnet("fd00::/120")]);
    let capacity = (126 - 1) + (30 - 1);
    let mut ipam = Ipam::new(&net, []);
    let cursors = Cursors::default();
    let mut held: Vec<IpAddr> = Vec::new();
    let mut seen = HashSet::new();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for step in 0..1_000_000_u32 {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let phase_full = (step / 5_000) % 2 == 0;
        let allocate = dice % 8 < if phase_full { 5 } else { 3 };
        if allocate || held.is_empty() {
            let family = if dice & 0x100 == 0 { Family::V4 } else { Family::V6 };
            match ipam.next(family, cursors.last(net.id, family)) {
                Ok(a) => {
                    assert!(seen.insert(a.ip), "{} given twice at step {step}", a.ip);
                    assert!(net.subnets.iter().any(|s| s.cidr.contains(&a.ip)));
                    cursors.note(net.id, a.ip);
                    held.push(a.ip);
                }
                Err(_) => {
                    let in_family = held.iter().filter(|ip| Family::of(**ip) == family).count();
                    assert_eq!(in_family, if family == Family::V4 { capacity } else { 254 });
                }
            }
        } else {
            let at = usize::try_from(dice >> 20).unwrap() % held.len();
            let ip = held.swap_remove(at);
            seen.remove(&ip);
            ipam.release(ip);
        }
    }
}

proptest! {
    /// Making the allocator anew from ports at any moment gives the same answers as keeping it.
    #[test]
    fn ports_are_the_only_truth(ops in prop::collection::vec((any::<bool>(), any::<u16>()), 1..80)) {
        let net = network("n", vec![subnet("10.0.0.0/28")]);
        let mut kept = Ipam::new(&net, []);
        let mut ports = Vec::new();
        for (allocate, pick) in ops {
            if allocate || ports.is_empty() {
                let after = Some(IpAddr::from([10, 0, 0, (pick % 16) as u8]));
                let fresh = Ipam::new(&net, &ports).next(Family::V4, after).ok();
                prop_assert_eq!(fresh, kept.next(Family::V4, after).ok());
                ports.extend(fresh.map(|a| port(&net, &[&a.ip.to_string()])));
            } else {
                let gone = ports.swap_remove(usize::from(pick) % ports.len());
                gone.addresses.iter().for_each(|a| kept.release(a.ip));
            }
        }
    }
}
