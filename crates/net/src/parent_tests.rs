//! Modes, parents that several networks want, names of VLANs, and what the plan makes of them.

use super::*;
use crate::{
    HostDefaults, NetworkDraft, Pools, compile,
    fixtures::{container, network, object, port, subnet},
    resolve_network,
};

fn draft(driver: &str, link: &str, mode: &str) -> NetworkDraft {
    NetworkDraft {
        driver: driver.into(),
        parent: ParentDraft { link: link.into(), mode: mode.into(), ..ParentDraft::default() },
        ..NetworkDraft::named(weft_base::FreeName::new("net").unwrap())
    }
}

fn make(draft: &NetworkDraft, existing: &[&NetworkSpec]) -> Result<NetworkSpec, String> {
    resolve_network(draft, existing, &[], &Pools::defaults(b"h")).map_err(|e| e.to_string())
}

#[test]
fn modes_are_those_of_the_kernel() {
    let branch = |driver, mode| make(&draft(driver, "eth0", mode), &[]).map(|n| n.parent.unwrap().branch);
    assert_eq!(branch("macvlan", ""), Ok(Branch::Macvlan(MacvlanMode::Bridge)));
    assert_eq!(branch("macvlan", "passthru"), Ok(Branch::Macvlan(MacvlanMode::Passthru)));
    assert_eq!(branch("ipvlan", "l3s"), Ok(Branch::Ipvlan(IpvlanMode::L3s, IpvlanFlag::Bridge)));
    assert_eq!(
        branch("macvlan", "l2").unwrap_err(),
        "requested macvlan mode 'l2' is not valid, 'bridge' mode is the macvlan driver default"
    );
    assert_eq!(
        branch("ipvlan", "bridge").unwrap_err(),
        "requested ipvlan mode 'bridge' is not valid, 'l2' mode is the ipvlan driver default"
    );
    let loopback = make(&draft("macvlan", "lo", ""), &[]).unwrap_err();
    assert_eq!(loopback, "loopback interface is not a valid macvlan parent link");
}

#[test]
fn parents_are_shared_where_the_kernel_can() {
    let plain = make(&draft("macvlan", "eth0", ""), &[]).unwrap();
    let check = |driver: &str, link: &str, mode: &str, fault: Option<&str>| {
        let made = make(&draft(driver, link, mode), &[&plain]).err();
        let fault = fault.map(|f| f.replace("ID", &format!("dm-{}", plain.id.short())));
        assert_eq!(made, fault, "{driver} {link} {mode}");
    };
    check("macvlan", "eth0", "private", None);
    check("macvlan", "eth1", "passthru", None);
    check(
        "macvlan",
        "eth0",
        "passthru",
        Some("cannot use mode passthru, macvlan network ID is already using parent interface eth0"),
    );
    check("ipvlan", "eth0", "", Some("network ID is already using parent interface eth0"));
    let all = make(&draft("macvlan", "eth0", "passthru"), &[]).unwrap();
    let second = make(&draft("macvlan", "eth0", ""), &[&all]).unwrap_err();
    assert!(second.ends_with("is already using parent interface eth0 in mode passthru"), "{second}");
    let nowhere = make(&draft("macvlan", "", ""), &[]).unwrap();
    assert!(make(&draft("macvlan", "", ""), &[&nowhere]).is_ok(), "each its own");
}

#[test]
fn a_vlan_of_nothing_is_told_in_dockers_words() {
    let told =
        |link: &str, wanted| refusal(&ParentFault::Missing { link: link.into() }, Some(wanted)).to_string();
    assert_eq!(told("nope", "nope.10"), "-o parent interface does was not found on the host: nope");
    assert_eq!(told("nope", "nope"), "invalid subinterface vlan name nope, example formatting is eth0.10");
}

#[test]
fn names_of_vlans() {
    let check = |link: &str, expected: Result<(&str, u16), &str>| {
        assert_eq!(vlan(link).map_err(|e| e.clone()), expected.map_err(str::to_owned), "{link}");
    };
    check("eth0.10", Ok(("eth0", 10)));
    check("eth9", Err("invalid subinterface vlan name eth9, example formatting is eth0.10"));
    check("eth0.0", Err("vlan id must be between 1-4094, received: 0"));
    check("eth0.70000", Err("vlan id must be between 1-4094, received: 70000"));
    check("eth0.x", Err("unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"));
    let many =
        "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received a.b.c";
    check("a.b.c", Err(many));
}

#[test]
fn the_hosts_own_address_is_one_of_the_network() {
    let mut wish = draft("macvlan", "eth0", "");
    wish.ipam = vec![crate::IpamDraft { subnet: "10.9.0.0/24".into(), ..crate::IpamDraft::default() }];
    let with = |shim: &str| {
        let mut wish = wish.clone();
        wish.parent.shims = vec![shim.into()];
        make(&wish, &[])
    };
    let made = with("10.9.0.200").unwrap();
    assert_eq!(made.parent.unwrap().shim, ["10.9.0.200".parse().unwrap()].into());
    assert_eq!(made.subnets[0].reserved[SHIM], "10.9.0.200".parse::<IpAddr>().unwrap());
    assert_eq!(with("10.9.0.1").unwrap_err(), "Address already in use", "the gateway's");
    assert!(with("10.8.0.1").is_err() && with("x").is_err());
    wish.parent.mode = "private".into();
    wish.parent.shims = vec!["10.9.0.200".into()];
    assert!(make(&wish, &[]).is_err(), "nothing reaches its siblings");
}

#[test]
fn ports_hang_on_the_parent_and_publish_nothing() {
    let mut net = network("lan", vec![subnet("10.1.0.0/24")]);
    net.kind = NetworkKind::Macvlan;
    let branch = Branch::Macvlan(MacvlanMode::Bridge);
    let shim = ["10.1.0.9".parse().unwrap()].into();
    net.parent = Some(ParentSpec { link: Some("eth0.7".into()), branch, shim });
    let c = container("c", &[&net]);
    let mut p = port(&net, &["10.1.0.2"]);
    p.owner = weft_model::PortOwner::Container(c.id);
    p.publish = vec![weft_model::PublishBinding {
        protocol: weft_model::Protocol::Tcp,
        host_ip: "0.0.0.0".parse().unwrap(),
        host_port: 80,
        container_port: 80,
        more: 0,
    }];
    p.addresses[0].gateway = Some("10.1.0.1".parse().unwrap());
    let (nets, ports, containers) = ([object(net.clone())], [object(p.clone())], [object(c)]);
    let compiled = compile(&nets, &ports, &containers, &HostDefaults::default());
    assert_eq!(compiled.desired.check(), Ok(()));
    assert!(compiled.faults.is_empty() && compiled.desired.publishes.is_empty());
    let plug = &compiled.desired.ports[&p.id];
    assert_eq!(plug.parent, Some(Parent { link: "eth0.7".into(), branch }));
    assert_eq!(plug.mtu, 0, "the parent's");
    let uplink = compiled.desired.segments[&net.id].uplink.clone().unwrap();
    assert_eq!(uplink.origin, Origin::Vlan { of: "eth0".into(), id: 7 });
    assert_eq!(uplink.reached, ["10.1.0.2".parse().unwrap()].into());
}
