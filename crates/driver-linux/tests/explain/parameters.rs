//! Parameters of the kernel, and routes that refuse.

use weft_dataplane::insight::End;
use weft_sys::sysctl;

use crate::{HOST4, LAN4, Scene, common::LAN6, container, lan, sh};

#[test]
fn parameters() {
    let scene = Scene::new(|_| ());
    sysctl::write("net.ipv4.ip_forward", "0").unwrap();
    scene.agrees(container(1), LAN4, 80, "net.ipv4.ip_forward is 0");
    scene.agrees(lan(), HOST4, 8080, "net.ipv4.ip_forward is 0");
    scene.agrees(container(1), "10.1.0.3", 80, "reaches");
    sysctl::write("net.ipv4.ip_forward", "1").unwrap();
    scene.agrees(lan(), HOST4, 8080, "reaches");
    // The way back to the LAN host leads elsewhere.
    let link = scene.host.desired.segments.values().next().unwrap().link.clone();
    let route = format!("ip route add {LAN4}/32 dev {link}");
    sh(&route);
    for (strict, reason) in [("1", "rp_filter"), ("0", "the answer is lost")] {
        for name in ["all", "eth0"] {
            sysctl::write(&format!("net.ipv4.conf.{name}.rp_filter"), strict).unwrap();
        }
        scene.agrees(lan(), HOST4, 8080, reason);
    }
}

/// Who comes by an interface that its address does not belong to: strict reverse path filtering wants the way back by the same
/// interface, loose any way back.
#[test]
fn who_comes_by_another_interface() {
    let scene = Scene::new(|_| ());
    scene.host.lan_routes_to_host();
    // The LAN host sends from an address that the host would look for elsewhere.
    let link = scene.host.desired.segments.values().next().unwrap().link.clone();
    sh(&format!("ip route add 203.0.113.0/24 dev {link}"));
    scene.host.inside(&scene.host.lan, || {
        sh("ip addr flush dev eth0 && ip addr add 203.0.113.5/32 dev eth0 && ip route add default dev eth0")
    });
    let stranger =
        || End::Outside { link: Some("eth0".into()), address: Some("203.0.113.5".parse().unwrap()) };
    let filter = |all: &str, own: &str| {
        sysctl::write("net.ipv4.conf.all.rp_filter", all).unwrap();
        sysctl::write("net.ipv4.conf.eth0.rp_filter", own).unwrap();
    };
    filter("0", "1");
    scene.agrees(
        stranger(),
        HOST4,
        8080,
        "net.ipv4.conf.eth0.rp_filter is 1 (strict): an answer to 203.0.113.5",
    );
    filter("1", "0");
    scene.agrees(stranger(), HOST4, 8080, "net.ipv4.conf.all.rp_filter is 1 (strict)");
    // Any way back will do; the answer goes it, though.
    filter("0", "2");
    scene.agrees(stranger(), HOST4, 8080, "the answer is lost");
    // And none will not.
    sh(&format!("ip route del 203.0.113.0/24 dev {link}"));
    scene.agrees(
        stranger(),
        HOST4,
        8080,
        "net.ipv4.conf.eth0.rp_filter is 2 (loose): there is no route back to 203.0.113.5",
    );
    // The way back that was advised.
    sh("ip route add 203.0.113.5/32 dev eth0");
    scene.agrees(stranger(), HOST4, 8080, "reaches container c1");
}

#[test]
fn policy_rules_that_refuse() {
    let scene = Scene::new(|_| ());
    for (kind, what) in [("blackhole", "drops it"), ("unreachable", "refuses it"), ("prohibit", "refuses it")]
    {
        // Of what passes through: by its source, and by the interface it came by.
        let link = scene.host.desired.segments.values().next().unwrap().link.clone();
        for selector in
            ["from 10.1.0.0/24".to_owned(), format!("from all iif {link}"), format!("from all to {LAN4}")]
        {
            sh(&format!("ip rule add priority 100 {selector} {kind}"));
            scene.agrees(container(1), LAN4, 80, &format!("ip rule 100 ({selector} {kind}) {what}"));
            sh("ip rule del priority 100");
        }
        // Of what the host sends itself.
        sh(&format!("ip rule add priority 100 to {LAN4} ipproto tcp dport 80 {kind}"));
        scene.agrees(
            crate::host(),
            LAN4,
            80,
            &format!("ip rule 100 (from all to {LAN4} ipproto tcp dport 80 {kind}) {what}"),
        );
        sh("ip rule del priority 100");
        sh(&format!("ip -6 rule add priority 100 to {LAN6} {kind}"));
        scene.agrees(crate::host(), LAN6, 80, &format!("ip -6 rule 100 (from all to {LAN6} {kind}) {what}"));
        sh("ip -6 rule del priority 100");
        // One that comes too late refuses nothing.
        sh(&format!("ip rule add priority 40000 {kind}"));
        scene.agrees(container(1), LAN4, 80, "leaves this host by eth0");
        sh("ip rule del priority 40000");
    }
    // A route that refuses is still called a route.
    sh("ip route add prohibit 198.51.100.0/24 && ip rule add priority 40000 prohibit");
    scene.agrees(container(1), "198.51.100.1", 80, "a route of type prohibit for 198.51.100.1");
}

#[test]
fn routes_that_refuse() {
    let scene = Scene::new(|_| ());
    for kind in ["blackhole", "unreachable", "prohibit"] {
        sh(&format!("ip route add {kind} 198.51.100.0/24"));
        scene.agrees(container(1), "198.51.100.1", 80, &format!("a route of type {kind} for 198.51.100.1"));
        scene.agrees(crate::host(), "198.51.100.1", 80, &format!("a route of type {kind} for 198.51.100.1"));
        sh(&format!("ip route del {kind} 198.51.100.0/24"));
    }
    // What only looks like it: the kernel refuses the sender.
    sh("ip addr add 192.0.2.77/32 dev lo");
    scene.agrees(container(1), LAN4, 80, "leaves this host by eth0");
}
