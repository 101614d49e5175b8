//! Growth, one line each; and that it never touches what is given out.

use super::*;
use crate::{
    Family, Ipam,
    fixtures::{network, port, subnet},
};
use proptest::prelude::*;

fn to(cidr: &str) -> NetworkChange {
    NetworkChange { subnet: Some(cidr.into()), add: Vec::new() }
}

fn plus(cidr: &str, gateway: &str) -> NetworkChange {
    let draft = IpamDraft { subnet: cidr.into(), gateway: gateway.into(), ..IpamDraft::default() };
    NetworkChange { subnet: None, add: vec![draft] }
}

#[test]
fn what_grows_and_dockers_refusals() {
    let net = network("web", vec![subnet("10.1.2.0/24"), subnet("fd00:1::/64")]);
    let other = network("other", vec![subnet("10.1.8.0/24")]);
    let routes = ["0.0.0.0/0".parse().unwrap(), "10.1.16.0/24".parse().unwrap()];
    let check = |change: &NetworkChange, wanted: Result<&str, &str>| {
        let grown = grow_network(&net, change, &[&net, &other], &routes);
        let show = |s: &SubnetSpec| format!("{} via {}", s.cidr, s.gateway.unwrap());
        let got = grown.map(|n| n.subnets.iter().map(show).collect::<Vec<_>>().join(", "));
        let got = got.map_err(|e| e.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), wanted, "{change:?}");
    };
    let overlaps = Err("Pool overlaps with other one on this address space");
    check(&to("10.1.2.0/23"), Ok("10.1.2.0/23 via 10.1.2.1, fd00:1::/64 via fd00:1::1"));
    check(&to("10.1.0.0/22"), Ok("10.1.0.0/22 via 10.1.2.1, fd00:1::/64 via fd00:1::1"));
    check(&to("fd00::/16"), Ok("10.1.2.0/24 via 10.1.2.1, fd00::/16 via fd00:1::1"));
    check(&to("10.1.0.0/20"), overlaps);
    check(&to("10.1.0.0/19"), overlaps);
    check(&to("10.0.0.0/8"), overlaps);
    check(&to("10.1.2.0/24"), Err("invalid subnet 10.1.2.0/24: the network has it already"));
    check(&to("10.1.2.0/25"), Err("invalid subnet 10.1.2.0/25: it is smaller than 10.1.2.0/24"));
    check(&to("10.9.0.0/16"), Err("invalid subnet 10.9.0.0/16: it contains no subnet of the network"));
    let text = "invalid network config:\ninvalid subnet 10.1.2.0/22: it should be 10.1.0.0/22";
    check(&to("10.1.2.0/22"), Err(text));
    check(
        &plus("10.9.0.0/24", ""),
        Ok("10.1.2.0/24 via 10.1.2.1, fd00:1::/64 via fd00:1::1, 10.9.0.0/24 via 10.9.0.1"),
    );
    check(
        &plus("10.9.0.0/24", "10.9.0.254"),
        Ok("10.1.2.0/24 via 10.1.2.1, fd00:1::/64 via fd00:1::1, 10.9.0.0/24 via 10.9.0.254"),
    );
    check(&plus("10.1.8.128/25", ""), overlaps);
    check(&plus("10.1.16.0/20", ""), overlaps);
    check(&plus("10.1.2.0/25", ""), Err("subnet 10.1.2.0/25 overlaps 10.1.2.0/24 of the same network"));
    let none = Err("failed to allocate gateway (): No available addresses on this pool");
    check(&plus("10.9.0.9/32", ""), none);
    let text = "failed to allocate gateway (10.9.0.255): Address already in use";
    check(&plus("10.9.0.0/24", "10.9.0.255"), Err(text));
    check(&NetworkChange::default(), Err("nothing to change: a subnet is needed"));
    // 10.1.3.255 may be a gateway in a /22 and is the broadcast address of the /23.
    let mut odd = network("odd", vec![subnet("10.1.3.254/31")]);
    odd.subnets[0].gateway = Some("10.1.3.255".parse().unwrap());
    let refused = grow_network(&odd, &to("10.1.2.0/23"), &[&odd], &[]).unwrap_err().to_string();
    assert_eq!(refused, "failed to allocate gateway (10.1.3.255): Address already in use");
}

#[test]
fn whose_subnets_are_not_ours_to_change() {
    let refused = |change: fn(&mut NetworkSpec)| {
        let mut net = network("web", vec![subnet("10.1.2.0/24")]);
        change(&mut net);
        grow_network(&net, &to("10.1.2.0/23"), &[&net], &[]).unwrap_err().to_string()
    };
    assert!(refused(|n| n.predefined = true).contains("predefined web network"));
    assert!(refused(|n| n.kind = NetworkKind::Config).contains("is no bridge network"));
    assert!(refused(|n| n.borrowed = true).contains("which is not ours"));
}

proptest! {
    /// However often a network grows: addresses stay and are never given again, ports have their subnet's prefix, gateways stay.
    #[test]
    fn growth_keeps_what_is_given_out(steps in prop::collection::vec(0..6u8, 1..40)) {
        let mut net = network("n", vec![subnet("10.0.0.0/28")]);
        let mut ports: Vec<PortSpec> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut extra = 1;
        for step in steps {
            let before = net.clone();
            match step {
                0 if net.subnets[0].cidr.prefix_len() > 20 => {
                    let cidr = net.subnets[0].cidr.supernet().unwrap().to_string();
                    net = grow_network(&net, &to(&cidr), &[&before], &[]).unwrap();
                }
                1 if extra < 8 => {
                    net = grow_network(&net, &plus(&format!("10.{extra}.0.0/29"), ""), &[&before], &[]).unwrap();
                    extra += 1;
                }
                _ => {
                    if let Ok(given) = Ipam::new(&net, &ports).next(Family::V4, None) {
                        prop_assert!(seen.insert(given.ip), "{} given twice", given.ip);
                        let mut fresh = port(&net, &[]);
                        fresh.addresses.push(given);
                        ports.push(fresh);
                    }
                }
            }
            for changed in regrow_ports(&net, &ports) {
                let old = ports.iter_mut().find(|p| p.id == changed.id).unwrap();
                prop_assert_eq!(old.addresses[0].ip, changed.addresses[0].ip);
                prop_assert_eq!(old.addresses[0].gateway, changed.addresses[0].gateway);
                *old = changed;
            }
            prop_assert!(regrow_ports(&net, &ports).is_empty(), "once is enough");
            for p in &ports {
                prop_assert_eq!(Some(p.addresses[0].prefix), prefix_of(&net, p.addresses[0].ip));
            }
            for (old, new) in before.subnets.iter().zip(&net.subnets) {
                prop_assert_eq!(old.gateway, new.gateway);
                prop_assert!(new.cidr.contains(&old.cidr));
            }
        }
    }
}
