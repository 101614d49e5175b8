//! What the uplink publishes, as networks come and go.

use weft_model::HostBinding;

use super::*;
use crate::{
    build_ports, connect_port,
    fixtures::{attachment, container, in_context, network, publish, show, subnet},
};

fn build(c: &ContainerSpec, nets: &[&NetworkSpec], old: &[PortSpec]) -> Result<Vec<PortSpec>, String> {
    in_context(nets, old, |context| build_ports(c, context)).map_err(|e| weft_base::chain(&e))
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
    let after = in_context(&nets, &before, |x| connect_port(&c, &wish, &before, x));
    let mut after = after.unwrap().unwrap();
    let wanted = ["eth0 zoo 10.1.0.2/16", "eth1 app 10.2.0.2/16 default4 0.0.0.0:8080->80"];
    assert_eq!(show(&after, &nets), wanted);
    after.reverse();
    let rest = in_context(&nets, &after, |x| disconnect_ports(&c, app.id, x, &after));
    assert_eq!(show(&rest, &nets), ["eth0 zoo 10.1.0.2/16 default4 0.0.0.0:8080->80"]);
    assert!(in_context(&nets, &rest, |x| disconnect_ports(&c, zoo.id, x, &rest)).is_empty());
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
fn addresses_of_a_family_that_the_container_lacks_are_not_listened_on() {
    let four = network("four", vec![subnet("10.1.0.0/16")]);
    let both = network("both", vec![subnet("10.2.0.0/16"), subnet("fd00::/64")]);
    let nets = [&four, &both];
    let mut c = container("web", &[&four]);
    let at = |host_ip: &str, spec: PublishSpec| PublishSpec { host_ip: host_ip.into(), ..spec };
    c.publish =
        vec![at("[::]", publish(80, Some(8080))), at("fd00::1", publish(81, None)), publish(82, Some(8082))];
    let ports = build(&c, &nets, &[]).unwrap();
    assert_eq!(show(&ports, &nets), ["eth0 four 10.1.0.2/16 default4 0.0.0.0:8082->82"]);
    // A network with IPv6 becomes the uplink: all is there, under the same ports.
    let wish = attachment(&both);
    c.attachments.push(wish.clone());
    let ports = in_context(&nets, &ports, |x| connect_port(&c, &wish, &ports, x)).unwrap().unwrap();
    let wanted = [
        "eth0 four 10.1.0.2/16",
        "eth1 both 10.2.0.2/16,fd00::2/64 default 0.0.0.0:8082->82 [::]:8080->80 [::]:8082->82 [fd00::1]:32768->81",
    ];
    assert_eq!(show(&ports, &nets), wanted);
    let rest = in_context(&nets, &ports, |x| disconnect_ports(&c, both.id, x, &ports));
    assert_eq!(show(&rest, &nets), ["eth0 four 10.1.0.2/16 default4 0.0.0.0:8082->82"]);

    let six = network("six", vec![subnet("fd00:6::/64")]);
    c.attachments = vec![attachment(&six)];
    c.publish = vec![at("127.0.0.1", publish(80, Some(8080))), publish(81, Some(8081))];
    let ports = build(&c, &[&six], &[]).unwrap();
    assert_eq!(show(&ports, &[&six]), ["eth0 six fd00:6::2/64 default6 [::]:8081->81"]);
}

#[test]
fn random_ports_stay_where_they_were_found() {
    let (zoo, app) =
        (network("zoo", vec![subnet("10.1.0.0/16")]), network("app", vec![subnet("10.2.0.0/16")]));
    let nets = [&zoo, &app];
    let mut c = container("web", &[&zoo]);
    let two = PublishSpec { host_ip: "10.0.0.2".into(), ..publish(80, None) };
    let one = PublishSpec { host_ip: "10.0.0.1".into(), ..publish(80, None) };
    c.publish = vec![two, one, publish(81, None)];
    let before = build(&c, &nets, &[]).unwrap();
    let rows = |ports: &[PortSpec]| show(ports, &nets).concat().split_once("default4 ").unwrap().1.to_owned();
    assert_eq!(rows(&before), "0.0.0.0:32770->81 10.0.0.1:32769->80 10.0.0.2:32768->80");
    let wish = attachment(&app);
    c.attachments.push(wish.clone());
    let after = in_context(&nets, &before, |x| connect_port(&c, &wish, &before, x)).unwrap().unwrap();
    assert!(after[1].default_route);
    assert_eq!(rows(&after), rows(&before));
}

/// A container on an IPv4-only network, one with both families and one with IPv6 only, with these gateway priorities.
fn ways(priorities: [i64; 3], wanted: [&str; 3]) {
    let four = network("four", vec![subnet("10.1.0.0/16")]);
    let both = network("gate", vec![subnet("10.2.0.0/16"), subnet("fd00:2::/64")]);
    let six = network("core", vec![subnet("fd00:3::/64")]);
    let nets = [&four, &both, &six];
    let mut c = container("web", &nets);
    for (attachment, priority) in c.attachments.iter_mut().zip(priorities) {
        attachment.gateway_priority = priority;
    }
    c.publish = vec![publish(80, None)];
    let shown = show(&build(&c, &nets, &[]).unwrap(), &nets);
    let way = |line: &String| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    assert_eq!(shown.iter().map(way).collect::<Vec<_>>(), wanted, "{priorities:?}");
}

#[test]
fn each_family_has_its_own_uplink() {
    let (on4, on6) = ("default4 0.0.0.0:32768->80", "default6 [::]:32768->80");
    // Of equal priority the one with both goes first, whatever it is called.
    ways([0, 0, 0], ["", "default 0.0.0.0:32768->80 [::]:32768->80", ""]);
    ways([1, 0, 0], [on4, on6, ""]);
    ways([0, 0, 1], ["", on4, on6]);
    ways([2, 0, 1], [on4, "", on6]);
    ways([-1, -2, -3], [on4, on6, ""]);
}

#[test]
fn a_familys_publication_moves_alone() {
    let four = network("four", vec![subnet("10.1.0.0/16")]);
    let both = network("gate", vec![subnet("10.2.0.0/16"), subnet("fd00:2::/64")]);
    let nets = [&four, &both];
    let mut c = container("web", &[&both]);
    c.publish = vec![publish(80, None)];
    let before = build(&c, &nets, &[]).unwrap();
    let whole = "eth0 gate 10.2.0.2/16,fd00:2::2/64 default 0.0.0.0:32768->80 [::]:32768->80";
    assert_eq!(show(&before, &nets), [whole]);
    let wish = weft_model::Attachment { gateway_priority: 1, ..attachment(&four) };
    c.attachments.push(wish.clone());
    let after = in_context(&nets, &before, |x| connect_port(&c, &wish, &before, x)).unwrap().unwrap();
    let split = [
        "eth0 gate 10.2.0.2/16,fd00:2::2/64 default6 [::]:32768->80",
        "eth1 four 10.1.0.2/16 default4 0.0.0.0:32768->80",
    ];
    assert_eq!(show(&after, &nets), split);
    let rest = in_context(&nets, &after, |x| disconnect_ports(&c, four.id, x, &after));
    assert_eq!(show(&rest, &nets), [whole]);
    let rest = in_context(&nets, &after, |x| disconnect_ports(&c, both.id, x, &after));
    assert_eq!(show(&rest, &nets), [split[1]]);
}

#[test]
fn each_family_listens_where_its_network_says() {
    let mut four = network("four", vec![subnet("10.1.0.0/16")]);
    four.host_binding.address = Some("127.0.0.1".parse().unwrap());
    let mut six = network("six", vec![subnet("fd00:6::/64")]);
    six.gateways.v6 = GatewayMode::Routed;
    let nets = [&four, &six];
    let mut c = container("web", &nets);
    c.publish = vec![publish(80, Some(8080))];
    let wanted =
        ["eth0 four 10.1.0.2/16 default4 127.0.0.1:8080->80", "eth1 six fd00:6::2/64 default6 [::]:0->80"];
    assert_eq!(show(&build(&c, &nets, &[]).unwrap(), &nets), wanted);
}
