//! What each container of the fixture sees.

use super::*;
use crate::fixtures::{db, probe, web, world};

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
    check(web(), "probe", "Elsewhere");
    check(web(), "db.lab", "Elsewhere");
    check(probe(), "web", "Elsewhere");
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
    assert_eq!(names.reverse(web(), ip("10.2.0.4")), Answer::Elsewhere);
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
