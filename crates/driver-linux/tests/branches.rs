//! Ports that are sub-interfaces of a link of the host, with real connections between namespaces.
//!
//! The parent is the host's `eth0`, whose other end is the LAN's host.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{path::Path, process::Command};

use common::{HOST4, Host, LAN4, connect, connect_from, ip, serve_tcp};
use weft_dataplane::{Driver, Gateway, Origin, Parent, ParentFault, Segment, Step, Uplink, link_name};
use weft_model::{Branch, ContainerId, IpvlanFlag, IpvlanMode, MacAddr, MacvlanMode, NetworkId, PortId};
use weft_sys::netlink::{
    Family, Socket,
    branch::{self, Sub},
    link,
};

const BRIDGE: Branch = Branch::Macvlan(MacvlanMode::Bridge);

fn hang(host: &mut Host, nth: u8, link: &str, branch: Branch, origin: Origin) -> NetworkId {
    let id = NetworkId::from_bytes([nth; 32]);
    let parent = Parent { link: link.to_owned(), branch };
    let uplink = Uplink { parent, origin, shim: [].into(), reached: [].into() };
    let segment = Segment {
        link: link_name('h', &id),
        mac: MacAddr([2, 0x42, 0, 0, 0, nth]),
        addresses: [].into(),
        mtu: 0,
        internal: false,
        inter_container: true,
        masquerade: false,
        borrowed: false,
        further: Default::default(),
        gateways: Default::default(),
        trusted: Default::default(),
        open: Default::default(),
        source: Default::default(),
        uplink: Some(uplink),
    };
    host.desired.segments.insert(id, segment);
    id
}

/// A container on such a segment.
fn container(host: &mut Host, nth: u8, segment: NetworkId, address: &str) -> std::path::PathBuf {
    let path = host.container(nth, segment, &[address]);
    settle_port(host, nth, segment);
    path
}

fn settle_port(host: &mut Host, nth: u8, segment: NetworkId) {
    let parent = host.desired.segments[&segment].uplink.clone().unwrap().parent;
    host.desired.ports.get_mut(&PortId::from_bytes([nth; 32])).unwrap().parent = Some(parent);
}

fn shown(path: &Path, args: &'static [&'static str]) -> String {
    common::spawn(path, move || {
        let output = Command::new("ip").args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    })
    .join()
    .unwrap()
}

fn here(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().unwrap().success(), "{args:?}");
}

fn links() -> Vec<String> {
    link::list(&mut Socket::open(Family::Route).unwrap()).unwrap().into_iter().map(|l| l.name).collect()
}

#[test]
fn macvlan_is_on_the_lan_itself() {
    let mut host = Host::new();
    let before = shown(Path::new("/proc/self/ns/net"), &["-d", "link", "show", "eth0"]);
    let lan = hang(&mut host, 1, "eth0", BRIDGE, Origin::Foreign);
    let a = container(&mut host, 1, lan, "192.0.2.51/24");
    let b = container(&mut host, 2, lan, "192.0.2.52/24");
    host.converge();
    host.assert_settled();
    assert_eq!(links().len(), 2, "nothing on the host's side: {:?}", links());
    let outside = host.lan.clone();
    serve_tcp(&a, "0.0.0.0:80");
    serve_tcp(&outside, "0.0.0.0:80");
    assert_eq!(connect_from(&b, "192.0.2.51:80"), Ok(ip("192.0.2.52")), "siblings");
    assert_eq!(connect_from(&outside, "192.0.2.51:80"), Ok(ip(LAN4)), "from the LAN");
    assert_eq!(
        connect_from(&a, &format!("{LAN4}:80")),
        Ok(ip("192.0.2.51")),
        "to the LAN, by its own address"
    );
    assert!(connect("192.0.2.51:80").is_err(), "the host itself does not, as with any macvlan");
    let inside = shown(&a, &["-d", "link", "show", "eth0"]);
    assert!(inside.contains("macvlan mode bridge") && inside.contains("02:42:01:00:00:01"), "{inside}");

    // A new driver finds all as it is.
    host.converger = weft_dataplane::Converger::new(
        weft_driver_linux::LinuxDriver::new(host.dir.path().join("netns"), true).unwrap(),
    );
    host.desired.generation = 0;
    let steps = host.converge().done;
    let put = |s: &Step| matches!(s, Step::PutSegment { .. });
    assert!(steps.iter().all(put) && steps.len() == 1, "{steps:?}");
    host.assert_settled();

    host.desired.ports.clear();
    host.desired.sandboxes.clear();
    host.desired.segments.clear();
    host.converge();
    assert_eq!(links().len(), 2);
    assert_eq!(std::fs::read_dir(host.dir.path().join("netns")).unwrap().count(), 0, "no note stays");
    let after = shown(Path::new("/proc/self/ns/net"), &["-d", "link", "show", "eth0"]);
    assert_eq!(
        before.replace("promiscuity 1", "promiscuity 0"),
        after.replace("promiscuity 1", "promiscuity 0")
    );
}

#[test]
fn private_siblings_do_not_meet() {
    let mut host = Host::new();
    let lan = hang(&mut host, 1, "eth0", Branch::Macvlan(MacvlanMode::Private), Origin::Foreign);
    let a = container(&mut host, 1, lan, "192.0.2.51/24");
    let b = container(&mut host, 2, lan, "192.0.2.52/24");
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    assert!(connect_from(&b, "192.0.2.51:80").is_err());
    assert_eq!(connect_from(&host.lan.clone(), "192.0.2.51:80"), Ok(ip(LAN4)));
}

#[test]
fn passthru_leaves_the_parents_address() {
    let mut host = Host::new();
    let mac = |name: &str| link::get(&mut Socket::open(Family::Route).unwrap(), name).unwrap().unwrap().mac;
    let before = mac("eth0");
    let lan = hang(&mut host, 1, "eth0", Branch::Macvlan(MacvlanMode::Passthru), Origin::Foreign);
    let a = container(&mut host, 1, lan, "192.0.2.51/24");
    host.converge();
    host.assert_settled();
    assert_eq!(mac("eth0"), before, "the parent is never changed");
    serve_tcp(&a, "0.0.0.0:80");
    assert_eq!(connect_from(&host.lan.clone(), "192.0.2.51:80"), Ok(ip(LAN4)));
    // The kernel lets nobody beside it.
    container(&mut host, 2, lan, "192.0.2.52/24");
    host.desired.generation += 1;
    let outcome = host.converger.converge(&host.desired).unwrap();
    assert_eq!(outcome.failed.len(), 1, "{outcome:?}");
}

#[test]
fn bridge_and_macvlan_in_one_container() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    let lan = hang(&mut host, 2, "eth0", BRIDGE, Origin::Foreign);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    let id = ContainerId::from_bytes([1; 32]);
    host.plug(2, "eth1", id, lan, &["192.0.2.51/24"]);
    settle_port(&mut host, 2, lan);
    host.publish(weft_model::Protocol::Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    let outside = host.lan.clone();
    assert_eq!(connect_from(&outside, "192.0.2.51:80"), Ok(ip(LAN4)), "by its leg on the LAN");
    assert_eq!(connect("10.1.0.2:80"), Ok(ip("10.1.0.1")), "by its leg on the bridge");
    // The default route moves to the LAN and back.
    let (bridge, branch) = (PortId::from_bytes([1; 32]), PortId::from_bytes([2; 32]));
    let via = |ip: &str| [Gateway { via: ip.parse().unwrap(), metric: 0 }].into();
    host.desired.ports.get_mut(&bridge).unwrap().gateways.clear();
    host.desired.ports.get_mut(&branch).unwrap().gateways = via(LAN4);
    host.converge();
    assert!(shown(&a, &["route"]).contains("default via 192.0.2.9 dev eth1"), "{}", shown(&a, &["route"]));
    host.assert_settled();
    // It leaves the LAN while it runs.
    host.desired.ports.remove(&branch);
    host.desired.ports.get_mut(&bridge).unwrap().gateways = via("10.1.0.1");
    host.converge();
    host.assert_settled();
    assert!(!shown(&a, &["-br", "link"]).contains("eth1"));
    assert!(shown(&a, &["route"]).contains("default via 10.1.0.1 dev eth0"));
    assert!(connect_from(&outside, "192.0.2.51:80").is_err());
}

#[test]
fn a_parent_that_comes_back_gets_its_branches_again() {
    let mut host = Host::new();
    here(&["link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
    here(&["link", "set", "up0", "up"]);
    here(&["link", "set", "up1", "up"]);
    let lan = hang(&mut host, 1, "up0", BRIDGE, Origin::Foreign);
    let a = container(&mut host, 1, lan, "10.5.0.2/24");
    host.converge();
    here(&["link", "del", "up0"]);
    host.converger.forget();
    host.desired.generation += 1;
    let outcome = host.converger.converge(&host.desired).unwrap();
    assert!(!outcome.failed.is_empty(), "{outcome:?}");
    assert!(!shown(&a, &["-br", "link"]).contains("eth0"));
    here(&["link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
    here(&["link", "set", "up0", "up"]);
    here(&["link", "set", "up1", "up"]);
    here(&["addr", "add", "10.5.0.1/24", "dev", "up1"]);
    host.converger.forget();
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    assert!(shown(&a, &["-br", "addr"]).contains("10.5.0.2/24"));
    // And a container that removes its interface gets it back.
    host.inside(&a, || here(&["link", "del", "eth0"]));
    host.converger.forget();
    host.converge();
    host.assert_settled();
}

#[test]
fn without_a_parent_siblings_are_among_themselves() {
    let mut host = Host::new();
    let id = NetworkId::from_bytes([1; 32]);
    let lonely = hang(&mut host, 1, &link_name('d', &id), BRIDGE, Origin::Alone);
    let a = container(&mut host, 1, lonely, "10.6.0.2/24");
    let b = container(&mut host, 2, lonely, "10.6.0.3/24");
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    assert_eq!(connect_from(&b, "10.6.0.2:80"), Ok(ip("10.6.0.3")));
    // A driver that never heard of it removes what is left.
    host.converger = weft_dataplane::Converger::new(
        weft_driver_linux::LinuxDriver::new(host.dir.path().join("netns"), true).unwrap(),
    );
    host.desired = weft_dataplane::Desired::default();
    host.converge();
    assert_eq!(links().len(), 2, "{:?}", links());
}

#[test]
fn the_host_reaches_them_by_its_own_leg() {
    let mut host = Host::new();
    let lan = hang(&mut host, 1, "eth0", BRIDGE, Origin::Foreign);
    let a = container(&mut host, 1, lan, "192.0.2.51/24");
    let uplink = |host: &mut Host| {
        let reached: Vec<_> = ["192.0.2.51", "192.0.2.52"].map(ip).to_vec();
        let uplink = host.desired.segments.get_mut(&lan).unwrap().uplink.as_mut().unwrap();
        uplink.shim = [ip("192.0.2.200")].into();
        uplink.reached = reached.into_iter().collect();
    };
    uplink(&mut host);
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    serve_tcp(&host.lan.clone(), "0.0.0.0:80");
    assert_eq!(connect("192.0.2.51:80"), Ok(ip("192.0.2.200")));
    assert_eq!(connect(&format!("{LAN4}:80")), Ok(ip(HOST4)), "the rest of the LAN as before");
    let own = host.desired.segments[&lan].link.clone();
    // What others did to it is repaired; what it reached and no longer does is forgotten.
    here(&["link", "set", &own, "down"]);
    host.desired.segments.get_mut(&lan).unwrap().uplink.as_mut().unwrap().reached.pop_last();
    host.converger.forget();
    host.converge();
    host.assert_settled();
    assert_eq!(connect("192.0.2.51:80"), Ok(ip("192.0.2.200")));
    let routes = shown(Path::new("/proc/thread-self/ns/net"), &["route"]);
    assert!(routes.contains("192.0.2.51 dev wfh") && !routes.contains("192.0.2.52"), "{routes}");
    host.desired.segments.get_mut(&lan).unwrap().uplink.as_mut().unwrap().shim.clear();
    host.converge();
    host.assert_settled();
    assert!(!links().contains(&own));
}

#[test]
fn what_the_kernel_lacks_is_said() {
    let mut host = Host::new();
    let mut socket = Socket::open(Family::Route).unwrap();
    let mut check = |nth, link: &str, branch, origin| {
        let id = hang(&mut host, nth, link, branch, origin);
        host.driver().refuses_uplink(&host.desired.segments[&id])
    };
    let missing = |link: &str| Some(ParentFault::Missing { link: link.to_owned() });
    assert_eq!(check(1, "eth0", BRIDGE, Origin::Foreign), None);
    assert_eq!(check(2, "eth9", BRIDGE, Origin::Foreign), missing("eth9"));
    assert_eq!(check(3, "lo", BRIDGE, Origin::Foreign), Some(ParentFault::Loopback { kind: "macvlan" }));
    let vlan = |of: &str| Origin::Vlan { of: of.to_owned(), id: 7 };
    assert_eq!(check(4, "eth9.7", BRIDGE, vlan("eth9")), missing("eth9"));
    let refused = check(5, "eth0.7", BRIDGE, vlan("eth0"));
    let kernel = |link: &str, kind, module| Some(ParentFault::Kernel { link: link.to_owned(), kind, module });
    let has = branch::is_known(&mut socket, &Sub::Vlan(7)).unwrap();
    assert_eq!(refused, if has { None } else { kernel("eth0.7", "vlan", "8021q") });
    for mode in [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s] {
        let ipvlan = Branch::Ipvlan(mode, IpvlanFlag::Bridge);
        let refused = check(6, "eth0", ipvlan, Origin::Foreign);
        let has = std::fs::exists("/sys/module/ipvlan").unwrap();
        assert_eq!(refused, if has { None } else { kernel("eth0", "ipvlan", "ipvlan") });
    }
    here(&["link", "add", "br9", "type", "bridge"]);
    here(&["link", "set", "eth0", "master", "br9"]);
    assert!(matches!(check(7, "eth0", BRIDGE, Origin::Foreign), Some(ParentFault::Busy { .. })));
    assert_eq!(check(8, "br9", BRIDGE, Origin::Foreign), None, "the bridge itself is a parent");
}

/// Where the kernel has 802.1Q: a VLAN of ours is made and removed, a stranger's is used and stays.
#[test]
fn vlans_are_made_where_the_kernel_has_them() {
    let mut host = Host::new();
    if !branch::is_known(&mut Socket::open(Family::Route).unwrap(), &Sub::Vlan(7)).unwrap() {
        return;
    }
    let origin = Origin::Vlan { of: "eth0".into(), id: 7 };
    let lan = hang(&mut host, 1, "eth0.7", BRIDGE, origin);
    let a = container(&mut host, 1, lan, "10.7.0.2/24");
    host.converge();
    host.assert_settled();
    host.inside(&host.lan.clone(), || {
        here(&["link", "add", "eth0.7", "link", "eth0", "type", "vlan", "id", "7"]);
        here(&["addr", "add", "10.7.0.1/24", "dev", "eth0.7"]);
        here(&["link", "set", "eth0.7", "up"]);
    });
    serve_tcp(&a, "0.0.0.0:80");
    assert_eq!(connect_from(&host.lan.clone(), "10.7.0.2:80"), Ok(ip("10.7.0.1")));
    host.desired = weft_dataplane::Desired { generation: host.desired.generation, ..Default::default() };
    host.converge();
    assert!(!links().contains(&"eth0.7".to_owned()));
}

/// A thing of macvlan that others take away is heard of at once, and mended as soon as it can be.
#[test]
fn parents_and_shims_are_heard_of() {
    let mut host = Host::new();
    here(&["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]);
    here(&["link", "set", "lan0", "up"]);
    let lan = hang(&mut host, 1, "lan0", BRIDGE, Origin::Foreign);
    let uplink = host.desired.segments.get_mut(&lan).unwrap().uplink.as_mut().unwrap();
    uplink.shim = [ip("192.0.2.200")].into();
    uplink.reached = [ip("192.0.2.51")].into();
    let shim = host.desired.segments[&lan].link.clone();
    container(&mut host, 1, lan, "192.0.2.51/24");
    let (tell, heard) = std::sync::mpsc::channel();
    host.driver().watch(Box::new(move || tell.send(()).unwrap_or_default())).unwrap();
    host.converge();
    host.assert_settled();
    let quiet = std::time::Duration::from_millis(400);
    let calm = || while heard.recv_timeout(quiet).is_ok() {};
    calm();
    for damage in [&["link", "del", &shim][..], &["link", "set", &shim, "down"]] {
        here(damage);
        heard.recv_timeout(quiet).unwrap_or_else(|_| panic!("{damage:?}"));
        host.converger.forget();
        host.converge();
        host.assert_settled();
        calm();
    }
    here(&["link", "del", "lan0"]);
    heard.recv_timeout(quiet).expect("the parent is gone");
    host.converger.forget();
    host.desired.generation += 1;
    assert!(!host.converger.converge(&host.desired).unwrap().converged(), "there is nothing to hang on");
    calm();
    here(&["link", "add", "wrong0", "type", "veth", "peer", "name", "lan1"]);
    assert!(heard.recv_timeout(quiet).is_err(), "another link is no news");
    here(&["link", "del", "wrong0"]);
    here(&["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]);
    heard.recv_timeout(quiet).expect("the parent is back");
    here(&["link", "set", "lan0", "up"]);
    host.converger.forget();
    host.converge();
    host.assert_settled();
}
