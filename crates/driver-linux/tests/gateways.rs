//! How segments meet the world, with real connections: gateway modes, trusted links, a gateway that is somebody else's,
//! bridges of others, and subnets that grow under traffic.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use common::{HOST4, HOST6, Host, LAN4, LAN6, connect, connect_from, ip, serve_tcp, spawn};
use weft_dataplane::{Driver, DriverError, Open, Step};
use weft_model::{
    GatewayMode::{self, Isolated, NatUnprotected, Routed},
    NetworkId, PortId,
    Protocol::Tcp,
};

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ping(host: &Host, from: &std::path::Path, to: &'static str) -> bool {
    host.inside(from, move || {
        let words = ["ping", "-c1", "-W1", to];
        Command::new("busybox").args(words).output().is_ok_and(|o| o.status.success())
    })
}

/// Until the kernel is sure of its own link-local addresses: before that a host asks for no neighbour of what it forwards.
fn sure_of_addresses(host: &Host) {
    let begun = std::time::Instant::now();
    let tentative = || run("ip", &["-6", "-o", "addr", "show", "tentative"]);
    while !(tentative() + &host.inside(&host.lan, tentative)).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", tentative());
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Host {
    fn mode(&mut self, segment: NetworkId, v4: GatewayMode, v6: GatewayMode) {
        let segment = self.desired.segments.get_mut(&segment).unwrap();
        (segment.gateways.v4, segment.gateways.v6) = (v4, v6);
    }

    fn open(&mut self, segment: NetworkId, at: &str, port: u16) {
        let open = Open { protocol: Tcp, ip: ip(at), port };
        self.desired.segments.get_mut(&segment).unwrap().open.insert(open);
    }
}

#[test]
fn routed_keeps_addresses_and_shows_only_what_is_published() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let blue = host.segment(2, &["10.2.0.1/24", "fd02::1/64"]);
    host.mode(red, Routed, Routed);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let c = host.container(2, blue, &["10.2.0.2/24", "fd02::2/64"]);
    host.open(red, "10.1.0.2", 80);
    host.open(red, "fd01::2", 80);
    host.converge();
    host.assert_settled();
    host.lan_routes_to_host();
    sure_of_addresses(&host);
    let lan = host.lan.clone();
    serve_tcp(&lan, "0.0.0.0:80");
    serve_tcp(&lan, "[2001:db8::9]:80");
    for port in [80, 81] {
        serve_tcp(&a, &format!("0.0.0.0:{port}"));
        serve_tcp(&a, &format!("[fd01::2]:{port}"));
        serve_tcp(&c, &format!("0.0.0.0:{port}"));
    }
    assert_eq!(connect_from(&a, &format!("{LAN4}:80")), Ok(ip("10.1.0.2")), "no masquerade");
    assert_eq!(connect_from(&a, &format!("[{LAN6}]:80")), Ok(ip("fd01::2")), "no masquerade");
    assert_eq!(connect_from(&lan, "10.1.0.2:80"), Ok(ip(LAN4)), "published");
    assert_eq!(connect_from(&lan, "[fd01::2]:80"), Ok(ip(LAN6)), "published");
    assert!(connect_from(&lan, "10.1.0.2:81").is_err(), "not published");
    assert!(connect_from(&lan, "[fd01::2]:81").is_err(), "not published");
    assert_eq!(connect_from(&c, "10.1.0.2:80"), Ok(ip("10.2.0.2")), "from another segment, too");
    assert!(connect_from(&c, "10.1.0.2:81").is_err());
    assert!(connect_from(&a, "10.2.0.2:80").is_err(), "the other segment is no routed one");
    assert!(ping(&host, &lan, "10.1.0.2") && ping(&host, &lan, "fd01::2"), "ICMP passes");
    assert!(!ping(&host, &lan, "10.2.0.2"));
    // What comes is open at once, and what goes is closed; everything else stays as it is.
    host.open(red, "10.1.0.2", 81);
    let done = host.converge().done;
    assert!(matches!(&done[..], [Step::ChangeOpen { .. }]), "{done:?}");
    host.assert_settled();
    assert_eq!(connect_from(&lan, "10.1.0.2:81"), Ok(ip(LAN4)));
    host.desired.segments.get_mut(&red).unwrap().open.clear();
    let done = host.converge().done;
    assert!(matches!(&done[..], [Step::ChangeOpen { .. }]), "{done:?}");
    host.assert_settled();
    assert!(connect_from(&lan, "10.1.0.2:80").is_err());
    // Others may have been there first.
    host.open(red, "10.1.0.2", 80);
    host.converge();
    run("nft", &["delete element inet weft routed4 { tcp . 10.1.0.2 . 80 }"]);
    host.desired.segments.get_mut(&red).unwrap().open.clear();
    host.converge();
    host.assert_settled();
    run("nft", &["add element inet weft routed4 { tcp . 10.1.0.2 . 82 }"]);
    host.converger.forget();
    host.converge();
    host.assert_settled();
}

#[test]
fn each_family_has_its_own_mode() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    host.mode(red, GatewayMode::Nat, Routed);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    host.publish(Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
    host.open(red, "fd01::2", 80);
    host.converge();
    host.assert_settled();
    host.lan_routes_to_host();
    sure_of_addresses(&host);
    let lan = host.lan.clone();
    for server in [&a, &lan] {
        serve_tcp(server, "[::]:80");
    }
    assert_eq!(connect_from(&lan, &format!("{HOST4}:8080")), Ok(ip(&format!("::ffff:{LAN4}"))));
    assert!(connect_from(&lan, "10.1.0.2:80").is_err());
    assert!(connect_from(&lan, &format!("[{HOST6}]:8080")).is_err());
    assert_eq!(connect_from(&lan, "[fd01::2]:80"), Ok(ip(LAN6)));
    assert_eq!(connect_from(&a, &format!("{LAN4}:80")), Ok(ip(&format!("::ffff:{HOST4}"))), "masqueraded");
    assert_eq!(connect_from(&a, &format!("[{LAN6}]:80")), Ok(ip("fd01::2")), "not masqueraded");
}

#[test]
fn unprotected_is_open_to_who_has_a_route_but_not_to_other_segments() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let blue = host.segment(2, &["10.2.0.1/24"]);
    host.mode(red, NatUnprotected, GatewayMode::Nat);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let c = host.container(2, blue, &["10.2.0.2/24"]);
    host.publish(Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
    host.converge();
    host.assert_settled();
    host.lan_routes_to_host();
    sure_of_addresses(&host);
    let lan = host.lan.clone();
    serve_tcp(&lan, "0.0.0.0:80");
    serve_tcp(&a, "0.0.0.0:80");
    serve_tcp(&a, "0.0.0.0:81");
    serve_tcp(&a, "[fd01::2]:81");
    assert_eq!(connect_from(&lan, "10.1.0.2:81"), Ok(ip(LAN4)), "whatever port");
    assert!(connect_from(&lan, "[fd01::2]:81").is_err(), "of this family only");
    assert_eq!(connect_from(&lan, &format!("{HOST4}:8080")), Ok(ip(LAN4)), "published as ever");
    assert_eq!(connect_from(&a, &format!("{LAN4}:80")), Ok(ip(HOST4)), "masqueraded as ever");
    assert!(connect_from(&c, "10.1.0.2:81").is_err(), "isolated from other segments");
    assert_eq!(connect_from(&c, &format!("{HOST4}:8080")), Ok(ip("10.2.0.2")), "but for what is published");
}

#[test]
fn a_trusted_link_reaches_what_is_published_at_the_container() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    host.publish(Tcp, "127.0.0.1", 8080, "10.1.0.2", 80);
    host.open(red, "10.1.0.2", 80);
    host.converge();
    host.lan_routes_to_host();
    sure_of_addresses(&host);
    let lan = host.lan.clone();
    serve_tcp(&a, "0.0.0.0:80");
    serve_tcp(&a, "0.0.0.0:81");
    assert!(connect_from(&lan, "10.1.0.2:80").is_err(), "not trusted");
    for (link, reached) in [("eth7", false), ("eth0", true)] {
        host.desired.segments.get_mut(&red).unwrap().trusted = [link.to_owned()].into();
        host.converge();
        host.assert_settled();
        assert_eq!(connect_from(&lan, "10.1.0.2:80").is_ok(), reached, "{link}");
        assert!(connect_from(&lan, "10.1.0.2:81").is_err(), "{link}, not published");
    }
}

#[test]
fn the_host_is_not_on_an_isolated_segment() {
    let mut host = Host::new();
    let red = host.segment(1, &[]);
    host.mode(red, Isolated, Isolated);
    let segment = host.desired.segments.get_mut(&red).unwrap();
    segment.internal = true;
    segment.further = ["10.1.0.0/24", "fd01::/64"].iter().map(|s| s.parse().unwrap()).collect();
    let link = segment.link.clone();
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]);
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    serve_tcp(&a, "[fd01::2]:80");
    assert_eq!(connect_from(&b, "10.1.0.2:80"), Ok(ip("10.1.0.3")), "among themselves");
    assert_eq!(connect_from(&b, "[fd01::2]:80"), Ok(ip("fd01::3")), "among themselves");
    assert_eq!(run("ip", &["-o", "addr", "show", "dev", &link]), "", "not even a link-local address");
    assert!(connect("10.1.0.2:80").is_err());
}

#[test]
fn the_gateway_may_be_somebody_elses() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    host.container(1, red, &["10.1.0.2/24"]);
    host.converge();
    // `inhibit_ipv4`: the address goes, the subnet stays the segment's.
    let segment = host.desired.segments.get_mut(&red).unwrap();
    segment.addresses.clear();
    segment.further = ["10.1.0.0/24".parse().unwrap()].into();
    let link = segment.link.clone();
    host.converge();
    host.assert_settled();
    assert_eq!(run("ip", &["-o", "-4", "addr", "show", "dev", &link]), "");
    assert!(run("nft", &["list", "set", "inet", "weft", "masquerade4"]).contains("10.1.0.0/24"));
}

#[test]
fn a_bridge_of_others_is_used_and_left_as_it_is() {
    let mut host = Host::new();
    run("ip", &["link", "add", "br0", "type", "bridge"]);
    run("ip", &["addr", "add", "10.1.0.5/24", "dev", "br0"]);
    run("ip", &["link", "set", "br0", "up"]);
    assert_eq!(host.driver().foreign_bridge("br0").unwrap(), Some(vec!["10.1.0.5/24".parse().unwrap()]));
    let refused = host.driver().foreign_bridge("eth0");
    assert!(matches!(refused, Err(DriverError::NoBridge { .. })), "{refused:?}");
    assert_eq!(host.driver().foreign_bridge("br9").unwrap(), None, "not there");
    assert!(host.driver().routes().unwrap().contains(&"10.1.0.0/24".parse().unwrap()));
    let before = (run("ip", &["-o", "addr", "show", "dev", "br0"]), sysctl("net.ipv6.conf.br0.accept_ra"));
    let red = host.segment(1, &["10.1.0.5/24"]);
    let segment = host.desired.segments.get_mut(&red).unwrap();
    (segment.link, segment.borrowed) = ("br0".to_owned(), true);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    assert_eq!(connect("10.1.0.2:80"), Ok(ip("10.1.0.5")));
    host.desired = weft_dataplane::Desired { generation: host.desired.generation, ..Default::default() };
    host.converge();
    host.driver().settle();
    let after = (run("ip", &["-o", "addr", "show", "dev", "br0"]), sysctl("net.ipv6.conf.br0.accept_ra"));
    assert_eq!(after, before);
    // What is ours is no foreign bridge, whatever its name.
    let blue = host.segment(2, &["10.2.0.1/24"]);
    host.desired.segments.get_mut(&blue).unwrap().link = "mine".to_owned();
    host.converge();
    assert_eq!(host.driver().foreign_bridge("mine").unwrap(), None);
    assert!(!host.driver().routes().unwrap().contains(&"10.2.0.0/24".parse().unwrap()));
}

fn sysctl(name: &str) -> String {
    weft_sys::sysctl::read(name).unwrap()
}

#[test]
fn routes_of_all_tables_say_what_is_in_use() {
    let host = Host::new();
    run("ip", &["route", "add", "10.70.0.0/16", "via", LAN4, "table", "70"]);
    run("ip", &["route", "add", "blackhole", "10.71.0.0/16"]);
    run("ip", &["-6", "route", "add", "2001:db8:72::/48", "via", LAN6, "table", "72"]);
    let routes = host.driver().routes().unwrap();
    for net in ["192.0.2.0/24", "192.0.2.1/32", "10.70.0.0/16", "10.71.0.0/16", "2001:db8:72::/48"] {
        assert!(routes.contains(&net.parse().unwrap()), "{net} in {routes:?}");
    }
    assert!(!routes.contains(&"192.0.2.255/32".parse().unwrap()), "a broadcast address is nobody's");
}

/// A connection that says what it is sent, and tells by its channel whether all came back.
fn echo_under(path: &std::path::Path, address: &'static str) -> impl FnMut(&str) {
    let (ready, wait) = mpsc::channel();
    spawn(path, move || {
        let listener = TcpListener::bind(address).unwrap();
        ready.send(()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 16];
        while let Ok(length) = stream.read(&mut buffer) {
            if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    });
    wait.recv().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    move |when: &str| {
        let mut buffer = [0; 4];
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut buffer).unwrap_or_else(|e| panic!("{when}: {e}"));
    }
}

#[test]
fn another_gateway_of_the_same_subnet() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    host.converge();
    host.assert_settled();
    // The kernel takes the second address of a subnet away with the first.
    host.desired.segments.get_mut(&red).unwrap().addresses = ["10.1.0.9/24".parse().unwrap()].into();
    host.converge();
    host.assert_settled();
    let shown = run("ip", &["-o", "-4", "addr", "show", "dev", &weft_dataplane::link_name('b', &red)]);
    assert!(shown.contains("10.1.0.9/24") && !shown.contains("10.1.0.1/24"), "{shown}");
}

#[test]
fn a_subnet_grows_and_connections_stay() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]);
    host.converge();
    let mut four = echo_under(&a, "10.1.0.2:7");
    let mut six = echo_under(&a, "[fd01::2]:7");
    four("before");
    six("before");
    // The larger subnet, first on the bridge, then at the ports, as one convergence does it.
    let grown = |a: &str| a.parse::<ipnet::IpNet>().unwrap();
    host.desired.segments.get_mut(&red).unwrap().addresses =
        [grown("10.1.0.1/23"), grown("fd01::1/56")].into();
    for (nth, last) in [(1, 2), (2, 3)] {
        let port = host.desired.ports.get_mut(&PortId::from_bytes([nth; 32])).unwrap();
        port.addresses = [grown(&format!("10.1.0.{last}/23")), grown(&format!("fd01::{last}/56"))].into();
    }
    let done = host.converge().done;
    let in_place = |s: &Step| {
        matches!(s, Step::PutSegment { .. } | Step::ConfigurePort { .. } | Step::ReplaceRules { .. })
    };
    assert!(done.iter().all(in_place), "{done:?}");
    host.assert_settled();
    four("after");
    six("after");
    let shown = host.inside(&b, || run("ip", &["-o", "addr", "show", "dev", "eth0", "scope", "global"]));
    assert!(shown.contains("10.1.0.3/23") && shown.contains("fd01::3/56"), "{shown}");
    assert!(!shown.contains("/24") && !shown.contains("/64"), "{shown}");
    let routes = host.inside(&b, || run("ip", &["route"]) + &run("ip", &["-6", "route"]));
    for route in ["default via 10.1.0.1 dev eth0", "10.1.0.0/23 dev eth0", "default via fd01::1 dev eth0"] {
        assert!(routes.contains(route), "{route} in {routes}");
    }
    // Somebody in the new half meets those in the old one, and the world.
    let c = host.container(3, red, &["10.1.1.9/23", "fd01:0:0:1::9/56"]);
    host.converge();
    host.assert_settled();
    serve_tcp(&b, "0.0.0.0:80");
    serve_tcp(&b, "[fd01::3]:81");
    assert_eq!(connect_from(&c, "10.1.0.3:80"), Ok(ip("10.1.1.9")));
    assert_eq!(connect_from(&c, "[fd01::3]:81"), Ok(ip("fd01:0:0:1::9")));
    let lan = host.lan.clone();
    serve_tcp(&lan, "0.0.0.0:80");
    assert_eq!(connect_from(&c, &format!("{LAN4}:80")), Ok(ip(HOST4)));
}

#[test]
fn subnets_of_one_segment_meet_by_its_gateway() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    host.converge();
    host.desired.segments.get_mut(&red).unwrap().addresses.insert("10.9.0.1/24".parse().unwrap());
    let b = host.container(2, red, &["10.9.0.2/24"]);
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    serve_tcp(&b, "0.0.0.0:80");
    assert_eq!(connect_from(&b, "10.1.0.2:80"), Ok(ip("10.9.0.2")));
    assert_eq!(connect_from(&a, "10.9.0.2:80"), Ok(ip("10.1.0.2")));
    let lan = host.lan.clone();
    serve_tcp(&lan, "0.0.0.0:80");
    assert_eq!(connect_from(&b, &format!("{LAN4}:80")), Ok(ip(HOST4)));
}

#[test]
fn what_leaves_takes_the_address_its_segment_was_given() {
    let mut host = Host::new();
    // Side by side, so that their ranges touch.
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let blue = host.segment(2, &["10.1.1.1/24", "fd01:0:0:1::1/64"]);
    let plain = host.segment(3, &["10.1.2.1/24"]);
    for (segment, last) in [(red, 77), (blue, 78)] {
        let source = &mut host.desired.segments.get_mut(&segment).unwrap().source;
        source.v4 = Some([192, 0, 2, last].into());
        source.v6 = Some(format!("2001:db8::{last}").parse().unwrap());
    }
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, blue, &["10.1.1.2/24", "fd01:0:0:1::2/64"]);
    let c = host.container(3, plain, &["10.1.2.2/24"]);
    for last in [77, 78] {
        run("ip", &["addr", "add", &format!("192.0.2.{last}/24"), "dev", "eth0"]);
        run("ip", &["addr", "add", &format!("2001:db8::{last}/64"), "dev", "eth0"]);
    }
    host.converge();
    host.assert_settled();
    sure_of_addresses(&host);
    let lan = host.lan.clone();
    serve_tcp(&lan, "0.0.0.0:80");
    serve_tcp(&lan, "[2001:db8::9]:80");
    let four = |from: &std::path::Path| connect_from(from, &format!("{LAN4}:80"));
    let six = |from: &std::path::Path| connect_from(from, &format!("[{LAN6}]:80"));
    assert_eq!((four(&a), six(&a)), (Ok(ip("192.0.2.77")), Ok(ip("2001:db8::77"))));
    assert_eq!((four(&b), six(&b)), (Ok(ip("192.0.2.78")), Ok(ip("2001:db8::78"))));
    assert_eq!(four(&c), Ok(ip(HOST4)), "who was given none");
    // Another address is another table.
    host.desired.segments.get_mut(&red).unwrap().source.v4 = Some([192, 0, 2, 78].into());
    let done = host.converge().done;
    assert!(matches!(&done[..], [Step::ReplaceRules { .. }]), "{done:?}");
    host.assert_settled();
    assert_eq!(four(&a), Ok(ip("192.0.2.78")));
    // Where nothing is masqueraded it says nothing.
    host.desired.segments.get_mut(&red).unwrap().masquerade = false;
    host.converge();
    host.lan_routes_to_host();
    assert_eq!(four(&a), Ok(ip("10.1.0.2")));
}
