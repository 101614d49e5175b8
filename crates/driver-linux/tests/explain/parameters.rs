//! Parameters of the kernel, and routes that refuse.

use weft_sys::sysctl;

use crate::{HOST4, LAN4, Scene, container, lan, sh};

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
