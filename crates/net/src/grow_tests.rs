//! Growth, one line each; and that it never touches what is given out.

use super::*;
use crate::{
    build_ports,
    fixtures::{container, in_context, network, port, publish, show, subnet},
};
use proptest::prelude::*;

fn to(cidr: &str) -> NetworkChange {
    NetworkChange { subnet: Some(cidr.into()), ..NetworkChange::default() }
}

fn plus(cidr: &str, gateway: &str) -> NetworkChange {
    let draft = IpamDraft { subnet: cidr.into(), gateway: gateway.into(), ..IpamDraft::default() };
    NetworkChange { add: vec![draft], ..NetworkChange::default() }
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
    check(&plus("10.1.16.0/24", ""), overlaps);
    // Inside a wider route, as at the making of a network.
    check(
        &plus("10.1.16.128/25", ""),
        Ok("10.1.2.0/24 via 10.1.2.1, fd00:1::/64 via fd00:1::1, 10.1.16.128/25 via 10.1.16.129"),
    );
    check(&plus("10.1.2.0/25", ""), Err("subnet 10.1.2.0/25 overlaps 10.1.2.0/24 of the same network"));
    let none = Err("failed to allocate gateway (): No available addresses on this pool");
    check(&plus("10.9.0.9/32", ""), none);
    let text = "failed to allocate gateway (10.9.0.255): Address already in use";
    check(&plus("10.9.0.0/24", "10.9.0.255"), Err(text));
    check(&NetworkChange::default(), Err("nothing to change: a subnet or range is needed"));
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

#[test]
fn ranges_are_widened_by_who_chose_them() {
    let mut net = network("web", vec![subnet("10.1.2.0/24")]);
    net.subnets[0].range = Some("10.1.2.128/25".parse().unwrap());
    let range = |change: &NetworkChange| {
        let grown = grow_network(&net, change, &[&net], &[]).map_err(|e| e.to_string())?;
        Ok::<_, String>(grown.subnets[0].range.map(|r| r.to_string()))
    };
    let ranged = |subnet: Option<&str>, range: &str| NetworkChange {
        subnet: subnet.map(Into::into),
        ranges: vec![range.into()],
        add: Vec::new(),
    };
    assert_eq!(range(&to("10.1.2.0/23")).unwrap().as_deref(), Some("10.1.2.128/25"), "it stays");
    assert_eq!(range(&ranged(Some("10.1.2.0/23"), "10.1.3.0/24")).unwrap().as_deref(), Some("10.1.3.0/24"));
    assert_eq!(range(&ranged(None, "10.1.2.64/26")).unwrap().as_deref(), Some("10.1.2.64/26"));
    assert_eq!(range(&ranged(None, "10.1.2.0/24")), Ok(None), "the whole subnet is no range");
    for (change, told) in [
        (ranged(None, "10.1.3.0/24"), "invalid ip-range 10.1.3.0/24: no subnet of the network contains it"),
        (
            ranged(None, "10.1.2.0/31"),
            "invalid ip-range 10.1.2.0/31: no container could have an address in it",
        ),
        (
            ranged(None, "10.1.2.9/25"),
            "invalid network config:\ninvalid ip-range 10.1.2.9/25: it should be 10.1.2.0/25",
        ),
    ] {
        assert_eq!(range(&change).unwrap_err(), told);
    }
}

#[test]
fn a_new_family_comes_to_who_is_there() {
    let old = network("web", vec![subnet("10.1.2.0/24")]);
    let mut c = container("c", &[&old]);
    c.publish = vec![publish(80, Some(8080)), publish(81, None)];
    c.attachments[0].link_local = vec!["169.254.8.8".parse().unwrap()];
    let d = container("d", &[&old]);
    let mut ports = in_context(&[&old], &[], |x| build_ports(&c, x)).unwrap();
    ports.extend(in_context(&[&old], &ports, |x| build_ports(&d, x)).unwrap());
    let new = grow_network(&old, &plus("fd00:9::/64", ""), &[&old], &[]).unwrap();
    let changed = in_context(&[&new], &ports, |x| regrow_ports(&new, &[&c, &d], x)).unwrap();
    let mut shown = show(&changed, &[&new]);
    shown.sort();
    let wanted = [
        "eth0 web 10.1.2.2/24,fd00:9::2/64,169.254.8.8/16 default 0.0.0.0:8080->80 0.0.0.0:32768->81 [::]:8080->80 \
         [::]:32768->81",
        "eth0 web 10.1.2.3/24,fd00:9::3/64 default",
    ];
    assert_eq!(shown, wanted);
    assert_eq!(changed[0].addresses[1].gateway, new.subnets[1].gateway, "with a way out");
    assert!(in_context(&[&new], &changed, |x| regrow_ports(&new, &[&c, &d], x)).unwrap().is_empty());

    // Too few addresses for who is there: nothing is half made.
    let tiny = grow_network(&old, &plus("fd00:9::/127", ""), &[&old], &[]).unwrap();
    let told = in_context(&[&tiny], &ports, |x| regrow_ports(&tiny, &[&c, &d], x)).unwrap_err().to_string();
    assert!(told.starts_with("no available IPv6 addresses on this network's address pools: web"), "{told}");
    // A host port that another has there.
    let dual = network("dual", vec![subnet("10.3.0.0/24"), subnet("fd00:3::/64")]);
    let mut e = container("e", &[&dual]);
    e.publish = vec![weft_model::PublishSpec { host_ip: "::".into(), ..publish(80, Some(8080)) }];
    let nets = [&dual, &new];
    ports.extend(in_context(&nets, &ports, |x| build_ports(&e, x)).unwrap());
    let told = in_context(&nets, &ports, |x| regrow_ports(&new, &[&c, &d], x)).unwrap_err();
    let told = weft_base::chain(&told);
    assert!(told.ends_with("Bind for [::]:8080 failed: port is already allocated"), "{told}");
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
            let regrown = |ports: &[PortSpec]| in_context(&[&net], ports, |c| regrow_ports(&net, &[], c)).unwrap();
            for changed in regrown(&ports) {
                let old = ports.iter_mut().find(|p| p.id == changed.id).unwrap();
                prop_assert_eq!(old.addresses[0].ip, changed.addresses[0].ip);
                prop_assert_eq!(old.addresses[0].gateway, changed.addresses[0].gateway);
                *old = changed;
            }
            prop_assert!(regrown(&ports).is_empty(), "once is enough");
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
