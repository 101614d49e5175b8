//! Drafts and what they resolve to, one line each.

use super::*;
use crate::fixtures::{network, subnet};
use weft_base::FreeName;

fn draft(subnet: &str, range: &str, gateway: &str) -> NetworkDraft {
    let ipam = IpamDraft {
        subnet: subnet.into(),
        range: range.into(),
        gateway: gateway.into(),
        ..IpamDraft::default()
    };
    NetworkDraft { ipam: vec![ipam], ..NetworkDraft::named(FreeName::new("net").unwrap()) }
}

fn resolve(draft: &NetworkDraft, existing: &[&NetworkSpec]) -> Result<String, String> {
    let spec = resolve_network(draft, existing, &[], &Pools::docker_defaults(b"h"));
    let show = |s: &SubnetSpec| format!("{} via {}", s.cidr, s.gateway.unwrap());
    spec.map(|spec| spec.subnets.iter().map(show).collect::<Vec<_>>().join(", ")).map_err(|e| e.to_string())
}

#[test]
fn subnets_gateways_and_dockers_refusals() {
    let old = network("old", vec![subnet("10.1.0.0/16")]);
    let check = |subnet: &str, range: &str, gateway: &str, wanted: Result<&str, &str>| {
        let got = resolve(&draft(subnet, range, gateway), &[&old]);
        assert_eq!(got.as_deref().map_err(String::as_str), wanted, "{subnet} {range} {gateway}");
    };
    let config = "invalid network config:\n";
    check("10.2.0.0/16", "", "", Ok("10.2.0.0/16 via 10.2.0.1"));
    check("10.2.0.0/16", "10.2.5.0/24", "10.2.0.254", Ok("10.2.0.0/16 via 10.2.0.254"));
    check("10.1.4.0/24", "", "", Err("Pool overlaps with other one on this address space"));
    check("10.0.0.0/8", "", "", Err("Pool overlaps with other one on this address space"));
    let text = format!("{config}invalid subnet 10.2.0.9/16: it should be 10.2.0.0/16");
    check("10.2.0.9/16", "", "", Err(&text));
    check("ten", "", "", Err(&format!("{config}invalid subnet ten: invalid CIDR block notation")));
    let text =
        format!("{config}invalid gateway 10.3.0.1: parent subnet 10.2.0.0/16 doesn't contain this address");
    check("10.2.0.0/16", "", "10.3.0.1", Err(&text));
    let text =
        format!("{config}invalid ip-range 10.3.0.0/24: parent subnet 10.2.0.0/16 doesn't contain ip-range");
    check("10.2.0.0/16", "10.3.0.0/24", "", Err(&text));
}

#[test]
fn pools_avoid_networks_and_routes() {
    let old = network("old", vec![subnet("172.17.0.0/16")]);
    let plain = NetworkDraft::named(FreeName::new("net").unwrap());
    let routes = ["172.18.0.0/24".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
    let spec = resolve_network(&plain, &[&old], &routes, &Pools::docker_defaults(b"h")).unwrap();
    assert_eq!(spec.subnets[0].cidr.to_string(), "172.19.0.0/16");
    assert!(!spec.subnets[0].explicit);
    let six = NetworkDraft { ipv6: true, ..plain };
    let spec = resolve_network(&six, &[], &[], &Pools::docker_defaults(b"h")).unwrap();
    assert_eq!(spec.subnets.len(), 2);
    let v6 = &spec.subnets[1];
    assert_eq!((v6.cidr.prefix_len(), v6.gateway.unwrap().to_string().ends_with("::1")), (64, true));
}

#[test]
fn drivers_bridges_and_mtus() {
    let base = NetworkDraft::named(FreeName::new("net").unwrap());
    let check = |change: fn(&mut NetworkDraft), wanted: &str| {
        let mut draft = base.clone();
        change(&mut draft);
        let text = resolve(&draft, &[]).unwrap_err();
        assert!(text.contains(wanted), "{text}");
    };
    check(|d| d.driver = "weave".into(), "plugin \"weave\" not found");
    check(|d| d.driver = "host".into(), "only one instance of \"host\" network is allowed");
    check(|d| d.driver = "overlay".into(), "not supported by this host");
    check(|d| d.bridge = Some("a-name-too-long-for-linux".into()), "invalid bridge name");
    check(|d| d.mtu = Some(20), "invalid MTU 20");
    check(|d| d.ipv4 = false, "IPv4 or IPv6 must be enabled");
    let mut taken = network("old", vec![]);
    taken.bridge = Some("br9".into());
    let named = NetworkDraft { bridge: Some("br9".into()), ..base };
    assert!(resolve(&named, &[&taken]).unwrap_err().ends_with("networks have same bridge name"));
}
