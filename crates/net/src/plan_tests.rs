//! Records in, one value out; every value must pass the data plane's own check.

use weft_dataplane::Observed;
use weft_model::{Protocol, PublishBinding, RunState};

use super::*;
use crate::fixtures::{container, network, object, port, subnet};

/// Compiles and checks; the fixtures are turned into records here.
fn check(
    nets: &[NetworkSpec],
    ports: &[weft_model::PortSpec],
    containers: &[weft_model::ContainerSpec],
) -> Compiled {
    let nets: Vec<Network> = nets.iter().cloned().map(object).collect();
    let ports: Vec<Port> = ports.iter().cloned().map(object).collect();
    let containers: Vec<Container> = containers.iter().cloned().map(object).collect();
    let compiled = compile(&nets, &ports, &containers, &HostDefaults::default());
    assert_eq!(compiled.desired.check(), Ok(()));
    let steps = weft_dataplane::plan(&compiled.desired, &Observed::default(), "rules");
    let mut seen = Observed::default();
    steps.iter().for_each(|step| seen.note(step));
    assert_eq!(weft_dataplane::plan(&compiled.desired, &seen, "rules"), [], "planning again gives nothing");
    compiled
}

fn plugged(net: &NetworkSpec, c: &weft_model::ContainerSpec, ip: &str) -> weft_model::PortSpec {
    let mut port = port(net, &[ip]);
    port.owner = PortOwner::Container(c.id);
    port.addresses.iter_mut().for_each(|a| a.gateway = net.subnets[0].gateway);
    port
}

#[test]
fn one_container_on_one_network() {
    let net = network("web", vec![subnet("10.1.0.0/16")]);
    let c = container("c", &[&net]);
    let mut p = plugged(&net, &c, "10.1.0.2");
    p.publish = vec![
        PublishBinding {
            protocol: Protocol::Tcp,
            host_ip: "0.0.0.0".parse().unwrap(),
            host_port: 80,
            container_port: 8080,
            more: 0,
        },
        PublishBinding {
            protocol: Protocol::Tcp,
            host_ip: "::".parse().unwrap(),
            host_port: 80,
            container_port: 8080,
            more: 0,
        },
    ];
    let out = check(std::slice::from_ref(&net), std::slice::from_ref(&p), std::slice::from_ref(&c));
    assert!(out.faults.is_empty());
    let segment = &out.desired.segments[&net.id];
    assert_eq!(segment.link, format!("wfb{}", &net.id.to_string()[..12]));
    assert_eq!(segment.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.1/16"]);
    assert!(!out.desired.sandboxes[&c.id].ipv6);
    let plug = &out.desired.ports[&p.id];
    assert_eq!(plug.gateways.iter().map(|g| g.via.to_string()).collect::<Vec<_>>(), ["10.1.0.1"]);
    assert_eq!((plug.mtu, plug.isolated, plug.sandbox), (1500, false, c.id));
    assert_eq!(out.desired.publishes.len(), 1, "the family that the port lacks is not served");
}

#[test]
fn who_has_a_sandbox() {
    let with = |change: fn(&mut Container)| {
        let mut c: Container = object(container("c", &[]));
        change(&mut c);
        !compile([], [], [&c], &HostDefaults::default()).desired.sandboxes.is_empty()
    };
    assert!(with(|_| ()));
    assert!(with(|c| c.spec.network = NetworkMode::None));
    assert!(!with(|c| c.spec.network = NetworkMode::Host));
    assert!(!with(|c| c.spec.network = NetworkMode::Container(ContainerId::new())));
    assert!(!with(|c| c.spec.run.want = Want::Stopped));
    assert!(with(|c| {
        c.spec.run.want = Want::Stopped;
        c.status.state = RunState::Paused;
    }));
    assert!(!with(|c| c.meta.deleting = Some(c.meta.created)));
    assert!(with(|c| {
        c.meta.deleting = Some(c.meta.created);
        c.status.state = RunState::Running;
    }));
    // One that ended by itself is still wanted by its last request, which was answered.
    assert!(!with(|c| {
        c.status.answered = 1;
        c.status.state = RunState::Exited;
    }));
    assert!(with(|c| {
        c.status.answered = 1;
        c.status.state = RunState::Restarting;
    }));
}

#[test]
fn each_run_has_a_sandbox_of_its_own() {
    let net = network("web", vec![subnet("10.1.0.0/16")]);
    let run_of = |change: fn(&mut Container)| {
        let mut c: Container = object(container("c", &[&net]));
        (c.status.runs, c.status.answered) = (4, 1);
        change(&mut c);
        let plugged: Port = object(plugged(&net, &c.spec, "10.1.0.2"));
        let desired = compile([], [&plugged], [&c], &HostDefaults::default()).desired;
        desired.sandboxes[&c.spec.id].run
    };
    assert_eq!(run_of(|c| c.status.state = RunState::Running), Some(4));
    assert_eq!(run_of(|c| c.status.state = RunState::Paused), Some(4));
    assert_eq!(run_of(|c| c.status.state = RunState::Restarting), Some(4));
    // `docker restart`, once the end is written down; and a start.
    assert_eq!(
        run_of(|c| {
            c.spec.run.seq = 2;
            c.status.state = RunState::Exited;
        }),
        Some(4)
    );
    // It rests, or is about to: what there is goes with its ports, and is not made anew for nobody.
    assert_eq!(run_of(|c| c.status.state = RunState::Exited), None);
    assert_eq!(
        run_of(|c| {
            (c.spec.run.seq, c.spec.run.want) = (2, Want::Stopped);
            c.status.state = RunState::Restarting;
        }),
        None
    );
}

#[test]
fn who_is_to_run_in_anothers_user_namespace_gets_a_sandbox_in_the_present_one() {
    let mut own: Container = object(container("own", &[]));
    own.spec.network = NetworkMode::None;
    let mut joined = own.clone();
    joined.spec.id = ContainerId::new();
    joined.spec.confine.ipc = weft_model::IpcMode::Container(own.spec.id);
    joined.status.runs = 1;
    let range = weft_dataplane::IdRange { inside: 0, outside: 100_000, count: 65_536 };
    let maps = IdMaps { uids: vec![range], gids: vec![range] };
    let defaults = HostDefaults { users: Some(maps), ..HostDefaults::default() };
    let run_of = |own: &Container, joined: &Container| {
        compile([], [], [own, joined], &defaults).desired.sandboxes[&joined.spec.id].run
    };
    let first = run_of(&own, &joined);
    own.status.runs = 1;
    let second = run_of(&own, &joined);
    assert!(first.is_some() && second.is_some() && first != second, "{first:?} {second:?}");
    joined.status.runs = 2;
    assert_ne!(run_of(&own, &joined), second);
    joined.status.state = RunState::Running;
    assert_eq!(run_of(&own, &joined), None, "who runs is left where it is");
}

#[test]
fn a_bad_record_is_named_and_stops_nothing_else() {
    let net = network("web", vec![subnet("10.1.0.0/16")]);
    let (a, b) = (container("a", &[]), container("b", &[]));
    let good = plugged(&net, &a, "10.1.0.2");
    let mut twin = plugged(&net, &a, "10.1.0.3");
    twin.ifname = good.ifname.clone();
    let gone = plugged(&network("gone", vec![subnet("10.9.0.0/16")]), &b, "10.9.0.2");
    let orphan = plugged(&net, &container("nobody", &[]), "10.1.0.4");
    let mut clash = plugged(&net, &b, "10.1.0.5");
    let binding = PublishBinding {
        protocol: Protocol::Tcp,
        host_ip: "0.0.0.0".parse().unwrap(),
        host_port: 80,
        container_port: 80,
        more: 0,
    };
    clash.publish = vec![binding, binding];
    let ports = [good.clone(), twin.clone(), gone.clone(), orphan.clone(), clash.clone()];
    let out = check(&[net], &ports, &[a, b]);
    assert_eq!(out.desired.ports.keys().copied().collect::<BTreeSet<_>>(), [good.id, clash.id].into());
    let text = |id| out.faults[&id].as_str();
    assert!(text(twin.id).contains("is called eth0, too"));
    assert!(text(gone.id).ends_with("not found"));
    assert!(text(orphan.id).ends_with("has no network sandbox of its own"));
    assert!(text(clash.id).ends_with("port is already allocated"));
    assert_eq!(out.desired.publishes.len(), 1);
}

#[test]
fn a_port_that_is_taken_is_told_with_its_owner() {
    let net = network("web", vec![subnet("10.1.0.0/16")]);
    let (a, b) = (container("a", &[]), container("b", &[]));
    let row = |host_port, more| PublishBinding {
        protocol: Protocol::Tcp,
        host_ip: "0.0.0.0".parse().unwrap(),
        host_port,
        container_port: host_port,
        more,
    };
    let (mut first, mut second) = (plugged(&net, &a, "10.1.0.2"), plugged(&net, &b, "10.1.0.3"));
    (first.publish, second.publish) = (vec![row(8000, 9)], vec![row(8005, 0)]);
    let out = check(&[net], &[first.clone(), second.clone()], &[a, b]);
    let told = out.faults.values().next().unwrap();
    let owner = if out.faults.contains_key(&second.id) { "a" } else { "b" };
    assert!(told.ends_with(&format!("port is already allocated (by container {owner})")), "{told}");
}

#[test]
fn each_family_finds_its_own_default_route() {
    let four = network("four", vec![subnet("10.1.0.0/16")]);
    let six = network("six", vec![subnet("fd00::/64")]);
    let c = container("c", &[]);
    let one = plugged(&four, &c, "10.1.0.2");
    let mut two = plugged(&six, &c, "fd00::2");
    (two.ifname, two.default_route) = ("eth1".into(), false);
    let out = check(&[four.clone(), six.clone()], &[one.clone(), two.clone()], std::slice::from_ref(&c));
    assert_eq!(out.desired.ports[&one.id].gateways.len(), 1);
    assert_eq!(out.desired.ports[&two.id].gateways.len(), 1);
    assert!(out.desired.sandboxes[&c.id].ipv6);

    // Of two with IPv6 the one that is said to be; a record that says it of neither knows one uplink for both.
    let more = network("more", vec![subnet("fd00:7::/64")]);
    let mut three = plugged(&more, &c, "fd00:7::2");
    three.ifname = "eth2".into();
    let mut of_v6 = |says: [bool; 2], old: [bool; 2]| {
        (two.default_route_v6, three.default_route_v6) = says.into();
        (two.default_route, three.default_route) = old.into();
        let all = [one.clone(), two.clone(), three.clone()];
        let out = check(&[four.clone(), six.clone(), more.clone()], &all, std::slice::from_ref(&c));
        [&two, &three].map(|p| out.desired.ports[&p.id].gateways.len())
    };
    assert_eq!(of_v6([false, true], [false, false]), [0, 1]);
    assert_eq!(of_v6([true, false], [false, true]), [1, 0]);
    assert_eq!(of_v6([false, false], [false, true]), [0, 1]);
    assert_eq!(of_v6([false, false], [false, false]), [1, 0]);
}

#[test]
fn sandboxes_belong_to_their_containers_users() {
    let mut own = container("own", &[]);
    own.network = NetworkMode::None;
    let mut joined = own.clone();
    joined.id = ContainerId::new();
    joined.confine.pid = weft_model::Namespace::Container(own.id);
    let mut host = own.clone();
    host.id = ContainerId::new();
    host.confine.user = weft_model::UserNs::Host;
    let range = weft_dataplane::IdRange { inside: 0, outside: 100_000, count: 65_536 };
    let maps = IdMaps { uids: vec![range], gids: vec![range] };
    let defaults = HostDefaults { users: Some(maps.clone()), ..HostDefaults::default() };
    let seen = |all: &[&weft_model::ContainerSpec]| {
        let records: Vec<Container> = all.iter().map(|c| object((*c).clone())).collect();
        let desired = compile([], [], &records, &defaults).desired;
        desired.sandboxes.into_iter().map(|(id, s)| (id, s.users)).collect::<BTreeMap<_, _>>()
    };
    let all = seen(&[&own, &joined, &host]);
    assert_eq!(all[&own.id], Some(Users::Own(maps)));
    assert_eq!(all[&joined.id], Some(Users::Of(own.id)));
    assert_eq!(all[&host.id], None);
    // Without the one it shares them with it has none, and none of an earlier run stays.
    assert!(!seen(&[&joined]).contains_key(&joined.id));
    joined.confine.pid = weft_model::Namespace::Container(joined.id);
    assert!(seen(&[&joined]).contains_key(&joined.id), "a circle ends");
}

#[test]
fn gateways_of_others_open_ports_and_subnets_that_grew() {
    let mut net = network("web", vec![subnet("10.1.0.0/16"), subnet("10.2.0.0/24")]);
    net.subnets[1].remote_gateway = true;
    net.gateways.v4 = GatewayMode::Routed;
    let c = container("c", &[&net]);
    let mut p = plugged(&net, &c, "10.1.0.2");
    let binding = |host_port, protocol| PublishBinding {
        protocol,
        host_ip: "0.0.0.0".parse().unwrap(),
        host_port,
        container_port: 80,
        more: 0,
    };
    p.publish = vec![binding(0, Protocol::Tcp), binding(0, Protocol::Udp)];
    let compiled = |net: &NetworkSpec, p: &weft_model::PortSpec| {
        check(std::slice::from_ref(net), std::slice::from_ref(p), std::slice::from_ref(&c)).desired
    };
    let desired = compiled(&net, &p);
    let segment = &desired.segments[&net.id];
    let subnets: Vec<_> = segment.subnets().map(|s| s.to_string()).collect();
    assert_eq!(subnets, ["10.1.0.0/16", "10.2.0.0/24"]);
    assert_eq!(segment.addresses.len(), 1, "the bridge has no address that is somebody else's");
    assert_eq!(segment.open.len(), 2);
    assert!(desired.publishes.is_empty());
    let prefix = |d: &Desired| d.ports[&p.id].addresses.first().unwrap().prefix_len();
    assert_eq!(prefix(&desired), 16, "that of the network's subnet, whatever the port's record says");
    // With host ports: open only where a link is trusted.
    net.gateways = weft_model::Gateways::default();
    p.publish = vec![binding(8080, Protocol::Tcp)];
    assert!(compiled(&net, &p).segments[&net.id].open.is_empty());
    net.trusted = vec!["eth3".into()];
    let desired = compiled(&net, &p);
    assert_eq!((desired.segments[&net.id].open.len(), desired.publishes.len()), (1, 1));
}
