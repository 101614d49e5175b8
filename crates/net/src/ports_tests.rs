//! Ports of whole containers: a container and its surroundings in, ports out.

use std::{io, net::SocketAddr};

use weft_model::{HostBinding, Protocol, PublishSpec};

use super::*;
use crate::fixtures::{attachment, container, network, subnet};

struct Free;
impl HostSockets for Free {
    fn probe(&self, _: Protocol, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }
}

fn build(c: &ContainerSpec, nets: &[&NetworkSpec], old: &[PortSpec]) -> Result<Vec<PortSpec>, String> {
    with(nets, old, &Hints::default(), |context| build_ports(c, context)).map_err(|e| weft_base::chain(&e))
}

fn with<T>(
    nets: &[&NetworkSpec],
    old: &[PortSpec],
    hints: &Hints,
    run: impl FnOnce(&PortContext<'_>) -> T,
) -> T {
    let existing: Vec<&PortSpec> = old.iter().collect();
    run(&PortContext {
        networks: nets,
        existing: &existing,
        hints,
        sockets: &Free,
        name_of: &|_| None,
        publish_ip: None,
        wildcard_v6: WildcardV6::WhenAddressed,
    })
}

fn publish(container_port: u16, host: Option<u16>) -> PublishSpec {
    let host_port = host.map(|p| weft_model::PortRange { start: p, end: p });
    PublishSpec { protocol: Protocol::Tcp, container_port, host_ip: String::new(), host_port }
}

/// `ifname network address mac [default] [publish…]`, one port a line.
fn show(ports: &[PortSpec], nets: &[&NetworkSpec]) -> Vec<String> {
    let line = |p: &PortSpec| {
        let net = nets.iter().find(|n| n.id == p.network).unwrap().name.as_str();
        let ips: Vec<_> = p.addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix)).collect();
        let mut line = format!("{} {net} {}", p.ifname, ips.join(","));
        if p.default_route {
            line += " default";
        }
        for b in &p.publish {
            line += &format!(" {}->{}", SocketAddr::new(b.host_ip, b.host_port), b.container_port);
            line += &if b.more > 0 { format!("+{}", b.more) } else { String::new() };
        }
        line
    };
    ports.iter().map(line).collect()
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
    assert_eq!(show(&ports, &nets)[0], "eth0 zoo 10.1.0.2/16 default 0.0.0.0:8080->80");
}

#[test]
fn internal_networks_give_no_way_out_and_publish_nothing() {
    let mut hidden = network("hidden", vec![subnet("10.1.0.0/16")]);
    hidden.isolation.internal = true;
    let mut c = container("web", &[&hidden]);
    c.publish = vec![publish(80, Some(8080))];
    let ports = build(&c, &[&hidden], &[]).unwrap();
    assert_eq!(show(&ports, &[&hidden]), ["eth0 hidden 10.1.0.2/16"]);
    assert_eq!(ports[0].addresses[0].gateway, None);
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

#[test]
fn publish_all_and_host_binding() {
    let mut net = network("n", vec![subnet("10.1.0.0/16")]);
    net.host_binding = HostBinding { address: Some("127.0.0.1".parse().unwrap()), ..HostBinding::default() };
    let mut c = container("c", &[&net]);
    c.publish_all = true;
    c.publish = vec![publish(80, Some(8080))];
    c.exposed = vec!["80/tcp".into(), "53/udp".into(), "nonsense".into()];
    let port = build(&c, &[&net], &[]).unwrap().remove(0);
    let seen: Vec<_> = port
        .publish
        .iter()
        .map(|b| format!("{} {} {}", b.host_ip, b.protocol.as_str(), b.container_port))
        .collect();
    assert_eq!(seen, ["127.0.0.1 tcp 80", "127.0.0.1 udp 53"]);
}

#[test]
fn the_uplink_and_its_publication_move_as_networks_come_and_go() {
    let (zoo, app) =
        (network("zoo", vec![subnet("10.1.0.0/16")]), network("app", vec![subnet("10.2.0.0/16")]));
    let nets = [&zoo, &app];
    let mut c = container("web", &[&zoo]);
    c.publish = vec![publish(80, Some(8080))];
    let before = build(&c, &nets, &[]).unwrap();
    let wish = attachment(&app);
    c.attachments.push(wish.clone());
    let after = with(&nets, &before, &Hints::default(), |x| connect_port(&c, &wish, &before, x));
    let mut after = after.unwrap().unwrap();
    let wanted = ["eth0 zoo 10.1.0.2/16", "eth1 app 10.2.0.2/16 default 0.0.0.0:8080->80"];
    assert_eq!(show(&after, &nets), wanted);
    after.reverse();
    let rest = disconnect_ports(&c, app.id, &nets, &after);
    assert_eq!(show(&rest, &nets), ["eth0 zoo 10.1.0.2/16 default 0.0.0.0:8080->80"]);
    assert!(disconnect_ports(&c, zoo.id, &nets, &rest).is_empty());
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
        let chosen =
            with(&[&net], &existing, &Hints::default(), |x| build_ports(&container("c", &[&net]), x))
                .unwrap();
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

#[test]
fn routed_families_are_published_without_a_host_port() {
    let mut net = network("n", vec![subnet("10.1.0.0/16"), subnet("fd00::/64")]);
    net.gateways.v6 = GatewayMode::Routed;
    let mut c = container("c", &[&net]);
    c.publish = vec![publish(80, Some(8080))];
    let nets = [&net];
    let ports = build(&c, &nets, &[]).unwrap();
    assert_eq!(show(&ports, &nets), ["eth0 n 10.1.0.2/16,fd00::2/64 default 0.0.0.0:8080->80 [::]:0->80"]);
    net.gateways.v4 = GatewayMode::Routed;
    let nets = [&net];
    let again = build(&c, &nets, &ports).unwrap();
    assert_eq!(show(&again, &nets), ["eth0 n 10.1.0.3/16,fd00::3/64 default 0.0.0.0:0->80 [::]:0->80"]);
    net.gateways = weft_model::Gateways::default();
    net.host_binding = HostBinding { address: None, address_v6: Some("fd00::1".parse().unwrap()) };
    let nets = [&net];
    let bound = build(&c, &nets, &[]).unwrap();
    assert_eq!(
        show(&bound, &nets),
        ["eth0 n 10.1.0.2/16,fd00::2/64 default 0.0.0.0:8080->80 [fd00::1]:8080->80"]
    );
}
