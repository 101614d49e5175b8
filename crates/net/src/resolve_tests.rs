//! Drafts and what they resolve to, one line each.

use super::*;
use crate::fixtures::{network, subnet};
use weft_base::FreeName;
use weft_model::GatewayMode;

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
    let spec = resolve_network(draft, existing, &[], &Pools::defaults(b"h"));
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
    let spec = resolve_network(&plain, &[&old], &routes, &Pools::defaults(b"h")).unwrap();
    assert_eq!(spec.subnets[0].cidr.to_string(), "172.18.1.0/24");
    assert!(!spec.subnets[0].explicit);
    let six = NetworkDraft { ipv6: true, ..plain };
    let spec = resolve_network(&six, &[], &[], &Pools::defaults(b"h")).unwrap();
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

#[test]
fn one_auxiliary_address_has_one_name() {
    let mut twice = draft("10.1.0.0/24", "", "");
    for name in ["a", "b"] {
        twice.ipam[0].aux.insert(name.into(), "10.1.0.9".into());
    }
    let text = resolve(&twice, &[]).unwrap_err();
    assert_eq!(text, "failed to allocate secondary ip address (b:10.1.0.9): Address already in use");
    let mut router = draft("10.1.0.0/24", "", "10.1.0.1");
    router.ipam[0].aux.insert("a".into(), "10.1.0.1".into());
    let text = resolve(&router, &[]).unwrap_err();
    assert_eq!(text, "failed to allocate secondary ip address (a:10.1.0.1): Address already in use");
}

#[test]
fn routes_that_take_all_pools_are_named() {
    let plain = NetworkDraft::named(FreeName::new("net").unwrap());
    let nets = |all: &[&str]| all.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>();
    let pools = Pools::configured(&nets(&["10.5.0.0/16"]).iter().map(|n| (*n, 24)).collect::<Vec<_>>(), b"h");
    let refused = |routes: &[&str], existing: &[&NetworkSpec]| {
        resolve_network(&plain, existing, &nets(routes), &pools).unwrap_err().to_string()
    };
    let text = refused(&["192.168.1.0/24", "10.0.0.0/8"], &[]);
    assert_eq!(
        text,
        "all predefined address pools have been fully subnetted: the host's route to 10.0.0.0/8 lies across them"
    );
    // Where networks have taken all, no route is to blame.
    let mut full = network("full", vec![]);
    full.subnets = resolve_network(&draft("10.5.0.0/16", "", ""), &[], &[], &pools).unwrap().subnets;
    assert!(refused(&["10.0.0.0/8"], &[&full]).ends_with("fully subnetted"));
}

#[test]
fn useless_subnets_and_gateways() {
    let check = |subnet: &str, gateway: &str, wanted: &str| {
        let text = resolve(&draft(subnet, "", gateway), &[]).unwrap_err();
        assert!(text.contains(wanted), "{subnet} {gateway}: {text}");
    };
    let none = "failed to allocate gateway (): No available addresses on this pool";
    check("10.0.0.1/32", "", none);
    check("fd00::/128", "", none);
    check("10.1.0.0/24", "10.1.0.0", "failed to allocate gateway (10.1.0.0): Address already in use");
    check("10.1.0.0/24", "10.1.0.255", "failed to allocate gateway (10.1.0.255): Address already in use");
    check("127.0.0.0/8", "", "invalid subnet 127.0.0.0/8");
    check("224.0.0.0/24", "", "invalid subnet 224.0.0.0/24");
    check("ff02::/64", "", "invalid subnet ff02::/64");
    check("::ffff:10.0.0.0/112", "", "these are IPv4 addresses");
    assert_eq!(resolve(&draft("10.0.0.0/31", "", ""), &[]).unwrap(), "10.0.0.0/31 via 10.0.0.1", "RFC 3021");
    let with = |driver: &str| NetworkDraft { ipam_driver: driver.into(), ..draft("", "", "") };
    assert_eq!(resolve(&with("null"), &[]).unwrap_err(), "ipv4 pool is empty");
    assert_eq!(resolve(&with("nosuch"), &[]).unwrap_err(), "plugin \"nosuch\" not found");
}

fn subnets_of(draft: &NetworkDraft) -> Result<Vec<SubnetSpec>, String> {
    let spec = resolve_network(draft, &[], &[], &Pools::defaults(b"h"));
    spec.map(|s| s.subnets).map_err(|e| e.to_string())
}

#[test]
fn gateways_by_mode() {
    let mut wish = draft("10.1.0.0/24", "", "");
    wish.gateways.v4 = GatewayMode::Isolated;
    let refused = subnets_of(&wish).unwrap_err();
    assert_eq!(refused, "gateway mode 'isolated' can only be used for an internal network");
    wish.internal = true;
    assert_eq!(subnets_of(&wish).unwrap()[0].gateway, None);
    wish.ipam[0].gateway = "10.1.0.9".into();
    let explicit = &subnets_of(&wish).unwrap()[0];
    assert_eq!((explicit.gateway, explicit.remote_gateway), ("10.1.0.9".parse().ok(), true));
    let mut wish = draft("10.1.0.0/24", "", "");
    wish.gateways.inhibit_v4 = true;
    let inhibited = &subnets_of(&wish).unwrap()[0];
    assert_eq!((inhibited.gateway, inhibited.remote_gateway), ("10.1.0.1".parse().ok(), true));
}

#[test]
fn bridges_of_others_say_which_subnets_there_are() {
    let on = |subnet: &str, gateway: &str, addresses: &[&str]| {
        let foreign = Some(addresses.iter().map(|a| a.parse().unwrap()).collect());
        let mut wish = NetworkDraft { foreign, bridge: Some("br0".into()), ..draft(subnet, "", gateway) };
        if subnet.is_empty() {
            wish.ipam.clear();
        }
        let show = |s: &SubnetSpec| {
            let via = s.gateway.map_or("nobody".into(), |g| g.to_string());
            let reserved: Vec<_> = s.reserved.iter().map(|(name, ip)| format!(" {name}={ip}")).collect();
            format!(
                "{} via {via}{}{}",
                s.cidr,
                if s.remote_gateway { " beyond" } else { "" },
                reserved.concat()
            )
        };
        subnets_of(&wish).map(|all| all.iter().map(show).collect::<Vec<_>>().join(", "))
    };
    let check = |subnet: &str, gateway: &str, addresses: &[&str], wanted: &str| {
        assert_eq!(on(subnet, gateway, addresses).unwrap(), wanted, "{subnet} {gateway} {addresses:?}");
    };
    check("", "", &["10.5.0.5/24"], "10.5.0.0/24 via 10.5.0.5");
    check("10.5.0.0/24", "", &["10.5.0.5/24"], "10.5.0.0/24 via 10.5.0.5");
    check("10.5.0.0/24", "10.5.0.1", &["10.5.0.5/24"], "10.5.0.0/24 via 10.5.0.1 beyond br0=10.5.0.5");
    check("10.6.0.0/24", "10.6.0.1", &["10.5.0.5/24"], "10.6.0.0/24 via 10.6.0.1 beyond");
    check("10.6.0.0/24", "", &[], "10.6.0.0/24 via nobody beyond");
    // The bridge's own subnet is the larger one: containers cannot take it for their gateway.
    check("10.5.0.0/25", "", &["10.5.0.5/24"], "10.5.0.0/25 via nobody beyond br0=10.5.0.5");
    let elsewhere = "bridge IPv4 (10.5.0.5) does not match requested configuration 10.6.0.0/24";
    assert_eq!(on("10.6.0.0/24", "", &["fe80::5/64", "10.5.0.5/24"]).unwrap_err(), elsewhere);
    check("10.6.0.0/24", "", &["fd00:5::5/64"], "10.6.0.0/24 via nobody beyond");
    assert_eq!(on("", "", &[]).unwrap_err(), "bridge br0 has no IPv4 address: the network needs a subnet");
}

#[test]
fn settings_are_kept_as_written_and_claim_nothing() {
    let settings =
        |subnet: &str, gateway: &str| NetworkDraft { config_only: true, ..draft(subnet, "", gateway) };
    let all = subnets_of(&settings("10.1.0.0/24", "10.1.0.9")).unwrap();
    assert_eq!((all[0].gateway, all[0].reserved.len()), ("10.1.0.9".parse().ok(), 0));
    assert_eq!(subnets_of(&settings("10.1.0.0/24", "")).unwrap()[0].gateway, None);
    assert_eq!(subnets_of(&settings("", "")).unwrap(), []);
    let kept = resolve_network(&settings("10.1.0.0/24", ""), &[], &[], &Pools::defaults(b"h")).unwrap();
    assert_eq!(kept.kind, NetworkKind::Config);
    assert_eq!(resolve(&draft("10.1.0.0/24", "", ""), &[&kept]).unwrap(), "10.1.0.0/24 via 10.1.0.1");
    let refused = subnets_of(&NetworkDraft { internal: true, ..settings("", "") }).unwrap_err();
    assert!(
        refused.starts_with("configuration network can only contain network specific fields"),
        "{refused}"
    );
}
