//! Parameters of the kernel, and refusals of its routes.

use super::*;

#[test]
fn parameters_of_the_kernel_are_named() {
    let refused = |errno: i32, parameter: Option<(&str, &str)>| {
        let mut world = world().between(outside(), container(A));
        if let Some((name, value)) = parameter {
            world.host().sysctls.insert(name.into(), value.into());
        }
        let to = "10.1.0.2".parse().unwrap();
        let (from, service) = (Some("192.0.2.2".parse().unwrap()), Some((6, 80)));
        let lookup = Lookup { to, from, input: Some(2), output: None, mark: 0, service };
        world.facts.ways.insert((Place::Host, lookup), Way::Refused(errno));
        world
    };
    refused(libc::EXDEV, Some(("net.ipv4.conf.eth0.rp_filter", "1"))).check(Dropped, "rp_filter");
    refused(libc::EHOSTUNREACH, Some(("net.ipv4.conf.eth0.forwarding", "0")))
        .check(Dropped, "net.ipv4.ip_forward is 0");
    refused(libc::EHOSTUNREACH, Some(("net.ipv4.conf.eth0.forwarding", "1")))
        .check(Dropped, "a route of type unreachable for 10.1.0.2");
    refused(libc::EACCES, None).check(Dropped, "a route of type prohibit for 10.1.0.2");
    refused(libc::EINVAL, None).check(Dropped, "martian");
    refused(libc::ENETUNREACH, None).check(Dropped, "no route");
    let full = world().between(outside(), container(A)).with(|w| {
        for name in ["count", "max"] {
            w.host().sysctls.insert(format!("net.netfilter.nf_conntrack_{name}"), "100".into());
        }
    });
    full.check(Dropped, "table of connections is full: 100 of 100");
}

#[test]
fn a_neighbour_comes_by_its_own_wire_whatever_routes_say() {
    let neighbour: std::net::IpAddr = "192.0.2.9".parse().unwrap();
    let sender = End::Outside { link: None, address: Some(neighbour) };
    let mut world = world().between(sender, container(A));
    world.host().sysctls.insert("net.ipv4.conf.eth0.rp_filter".into(), "1".into());
    let (to, service) = ("10.1.0.2".parse().unwrap(), Some((6, 80)));
    let back = Lookup { to: neighbour, from: None, input: None, output: None, mark: 0, service: None };
    let elsewhere = Way::Out { link: 6, via: None, source: None, table: 254 };
    let there = Lookup { to, from: Some(neighbour), input: Some(2), output: None, mark: 0, service };
    world
        .facts
        .ways
        .extend([((Place::Host, back), elsewhere), ((Place::Host, there), Way::Refused(libc::EINVAL))]);
    world.check(Dropped, "rp_filter is 1 (strict): an answer to 192.0.2.9 would not leave by eth0");
}

#[test]
fn a_blackhole_is_no_martian() {
    let mut world = world().between(outside(), container(A));
    let to = "10.1.0.2".parse().unwrap();
    let (from, service) = (Some("192.0.2.2".parse().unwrap()), Some((6, 80)));
    let lookup = Lookup { to, from, input: Some(2), output: None, mark: 0, service };
    // The kernel says the same of everybody.
    for lookup in [lookup, Lookup { from: None, input: None, ..lookup }] {
        world.facts.ways.insert((Place::Host, lookup), Way::Refused(libc::EINVAL));
    }
    let seen = world.explained();
    assert_eq!(seen.verdict, Dropped, "{seen:#?}");
    assert!(seen.reason.contains("a route of type blackhole for 10.1.0.2 drops it"), "{}", seen.reason);
    assert!(seen.remedy.contains("ip route show table all type blackhole"), "{}", seen.remedy);
}
