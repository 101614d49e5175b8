//! Ports of whole containers: a container and its surroundings in, ports out.

use super::*;
use crate::fixtures::{container, in_context, network, publish, show, subnet};

fn build(c: &ContainerSpec, nets: &[&NetworkSpec], old: &[PortSpec]) -> Result<Vec<PortSpec>, String> {
    in_context(nets, old, |context| build_ports(c, context)).map_err(|e| weft_base::chain(&e))
}

#[test]
fn addresses_interfaces_default_route_and_publication() {
    let (zoo, app) = (
        network("zoo", vec![subnet("10.1.0.0/16")]),
        network("app", vec![subnet("10.2.0.0/16"), subnet("fd00::/64")]),
    );
    let nets = [&zoo, &app];
    let mut c = container("web", &nets);
    c.publish = vec![publish(80, Some(8080))];
    let ports = build(&c, &nets, &[]).unwrap();
    let wanted =
        ["eth0 zoo 10.1.0.2/16", "eth1 app 10.2.0.2/16,fd00::2/64 default 0.0.0.0:8080->80 [::]:8080->80"];
    assert_eq!(show(&ports, &nets), wanted, "ties go to the name that sorts first");
    assert_eq!(ports[0].mac.to_string(), "02:42:0a:01:00:02");
    c.attachments[0].gateway_priority = 1;
    let ports = build(&c, &nets, &[]).unwrap();
    assert_eq!(show(&ports, &nets)[0], "eth0 zoo 10.1.0.2/16 default4 0.0.0.0:8080->80");
}

#[test]
fn names_links_and_wishes() {
    let net = network("n", vec![subnet("10.1.0.0/16")]);
    let mut c = container("Web", &[&net]);
    c.hostname = "front".into();
    let a = &mut c.attachments[0];
    a.aliases = vec!["www".into(), "web".into()];
    a.links = vec!["db:database".into(), "db".into(), "nobody:x".into()];
    a.ipv4 = Some("10.1.7.7".parse().unwrap());
    a.mac = Some("02:00:00:00:00:09".parse().unwrap());
    a.link_local = vec!["169.254.8.8".parse().unwrap()];
    let port = build(&c, &[&net], &[]).unwrap().remove(0);
    assert_eq!(port.names, ["Web", "www", &c.id.short(), "front"]);
    let links: Vec<_> = port.links.iter().map(|(alias, target)| format!("{alias}={target}")).collect();
    assert_eq!(links, ["database=db", "db=db", "x=nobody"]);
    assert_eq!((port.mac.to_string().as_str(), port.addresses.len()), ("02:00:00:00:00:09", 2));
    c.attachments[0].link_local = vec!["10.0.0.1".parse().unwrap()];
    assert_eq!(build(&c, &[&net], &[]), Err("invalid link local IP address: 10.0.0.1".into()));
}

#[test]
fn the_default_bridge_knows_no_names() {
    let mut bridge = network("bridge", vec![subnet("172.17.0.0/16")]);
    bridge.predefined = true;
    let mut c = container("web", &[&bridge]);
    assert!(build(&c, &[&bridge], &[]).unwrap()[0].names.is_empty());
    c.attachments[0].aliases = vec!["www".into()];
    let text = "network-scoped alias is supported only for containers in user defined networks";
    assert_eq!(build(&c, &[&bridge], &[]), Err(text.into()));
}

#[test]
fn taken_host_ports_name_the_endpoint() {
    let net = network("n", vec![subnet("10.1.0.0/16")]);
    let mut one = container("one", &[&net]);
    one.publish = vec![publish(80, Some(8080))];
    let old = build(&one, &[&net], &[]).unwrap();
    let mut two = container("two", &[&net]);
    two.publish = vec![publish(81, Some(8080))];
    let text = build(&two, &[&net], &old).unwrap_err();
    assert!(text.starts_with("driver failed programming external connectivity on endpoint two ("), "{text}");
    assert!(text.ends_with("): Bind for 0.0.0.0:8080 failed: port is already allocated"), "{text}");
    two.publish = vec![publish(81, None), publish(82, Some(32768))];
    let ports = build(&two, &[&net], &old).unwrap();
    assert_eq!(ports[0].addresses[0].ip.to_string(), "10.1.0.3");
    let hosts: Vec<_> = ports[0].publish.iter().map(|b| (b.container_port, b.host_port)).collect();
    assert_eq!(hosts, [(82, 32768), (81, 32769)], "fixed ports are chosen before random ones");
}

#[tokio::test]
async fn turns_close_the_gap_between_choosing_and_writing() {
    let net = network("n", vec![subnet("10.1.0.0/24")]);
    let hints = Hints::default();
    let store = parking_lot::Mutex::new(Vec::<PortSpec>::new());
    let run = || async {
        let turn = hints.turn().await;
        let mut existing = store.lock().clone();
        existing.extend_from_slice(turn.pending());
        // Without the hint every search begins at the first address.
        let chosen = in_context(&[&net], &existing, |x| build_ports(&container("c", &[&net]), x)).unwrap();
        let hold = turn.hold(&chosen);
        tokio::task::yield_now().await;
        store.lock().extend(chosen);
        drop(hold);
    };
    futures_util::future::join_all((0..200).map(|_| run())).await;
    let store = store.lock();
    let ips: std::collections::HashSet<_> = store.iter().map(|p| p.addresses[0].ip).collect();
    assert_eq!(ips.len(), 200);
}
