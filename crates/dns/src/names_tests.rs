//! What each container of the fixture sees.

use super::*;
use crate::fixtures::{World, db, probe, web, world};

fn see(container: ContainerId, name: &str) -> String {
    match world().names().lookup(container, name) {
        Answer::Addresses(ips) => ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

#[test]
fn names_belong_to_networks_and_links_to_their_owner() {
    let check = |container, name, wanted| assert_eq!(see(container, name), wanted, "{name}");
    check(web(), "db", "10.1.0.3");
    check(web(), "web", "10.1.0.2 fd00:1::2");
    check(web(), "www", "10.1.0.2 fd00:1::2 10.1.0.3");
    check(web(), "web.app", "10.1.0.2 fd00:1::2");
    check(web(), "store", "10.1.0.3");
    check(db(), "store", "Elsewhere");
    check(db(), "db", "10.1.0.3");
    check(db(), "db.lab", "10.2.0.3");
    check(db(), "probe", "10.2.0.4");
    check(web(), "probe", "Nothing");
    check(web(), "db.lab", "Nothing");
    check(probe(), "web", "Nothing");
    check(web(), "example.com", "Elsewhere");
    check(ContainerId::from_bytes([77; 32]), "web", "Elsewhere");
}

#[test]
fn addresses_have_the_names_of_the_askers_networks() {
    let names = world().names();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(names.reverse(web(), ip("10.1.0.3")), Answer::Pointer("db.App"));
    assert_eq!(names.reverse(web(), ip("fd00:1::2")), Answer::Pointer("web.App"));
    assert_eq!(names.reverse(web(), ip("10.1.9.9")), Answer::Nothing);
    assert_eq!(names.reverse(web(), ip("10.2.0.4")), Answer::Nothing);
    assert_eq!(names.reverse(web(), ip("192.0.2.4")), Answer::Elsewhere);
    assert_eq!(names.reverse(db(), ip("10.2.0.4")), Answer::Pointer("probe.lab"));
}

#[test]
fn upstreams_follow_the_container_and_internal_networks_have_none() {
    let names = world().names();
    assert_eq!(names.upstream(web()), Some(None));
    let own: Vec<String> = names.upstream(db()).unwrap().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.9.9.9:53", "[::1]:53"]);
    assert_eq!(names.upstream(probe()), None);
    assert_eq!(names.containers().count(), 3);
}

#[test]
fn the_default_bridge_has_no_resolver() {
    let mut world = world();
    for network in &mut world.networks {
        Arc::get_mut(network).unwrap().spec.predefined = true;
    }
    assert_eq!(world.names().containers().count(), 0);
}

/// Names and addresses that mean something outside are still asked for there.
#[test]
fn what_others_may_know_is_asked_of_them() {
    let mut world = world();
    let more = serde_json::json!({"name": "nas", "hostname": "machine", "network": "host"});
    world.containers.push(crate::fixtures::container(5, more));
    let aliases = &["api.example.com", "printer"];
    world.ports.push(crate::fixtures::port(0x21, 0xb, 6, "eth0", &["10.2.0.6"], aliases));
    world.networks.push(crate::fixtures::network(0xd, "lan", &["192.0.2.0/24"], false));
    world.ports.push(crate::fixtures::port(0x22, 0xd, 1, "eth1", &["192.0.2.6"], &["web"]));
    let see = |world: &World, name: &str| format!("{:?}", world.names().lookup(web(), name));
    assert_eq!(see(&world, "nas"), "Nothing");
    assert_eq!(see(&world, "printer"), "Nothing");
    assert_eq!(see(&world, "machine"), "Elsewhere", "the host's own name");
    assert_eq!(see(&world, "api.example.com"), "Elsewhere");
    let ask = |world: &World| format!("{:?}", world.names().reverse(web(), "192.0.2.9".parse().unwrap()));
    assert_eq!(ask(&world), "Nothing");
    // The LAN's own addresses: its servers may know them.
    for change in [
        |spec: &mut weft_model::NetworkSpec| spec.borrowed = true,
        |spec: &mut weft_model::NetworkSpec| spec.kind = weft_model::NetworkKind::Macvlan,
    ] {
        let mut world = world.clone();
        change(&mut Arc::make_mut(&mut world.networks[3]).spec);
        assert_eq!(ask(&world), "Elsewhere");
    }
    // Another project's containers are not looked at.
    for container in &mut world.containers {
        Arc::make_mut(container).meta.project = ProjectId::new();
    }
    assert_eq!(see(&world, "nas"), "Elsewhere");
}
