//! Each promise of the driver, with a real connection between namespaces.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use common::{HOST4, HOST6, Host, LAN4, LAN6, ask_udp, connect, connect_from, ip, serve_tcp, serve_udp};
use weft_model::Protocol::{Tcp, Udp};

#[test]
fn one_bridge_connects_and_two_are_isolated() {
    let mut host = Host::new();
    let (red, blue) = (host.segment(1, &["10.1.0.1/24"]), host.segment(2, &["10.2.0.1/24"]));
    let a = host.container(1, red, &["10.1.0.2/24"]);
    let b = host.container(2, red, &["10.1.0.3/24"]);
    let c = host.container(3, blue, &["10.2.0.2/24"]);
    host.converge();
    host.assert_settled();
    for server in [&a, &c] {
        serve_tcp(server, "0.0.0.0:80");
    }
    assert_eq!(connect_from(&b, "10.1.0.2:80"), Ok(ip("10.1.0.3")));
    assert_eq!(connect("10.1.0.2:80"), Ok(ip("10.1.0.1")), "the host reaches its containers");
    assert!(connect_from(&a, "10.2.0.2:80").is_err(), "another segment");
    assert!(connect_from(&c, "10.1.0.2:80").is_err(), "and back");
}

#[test]
fn the_way_out_is_masqueraded() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let blue = host.segment(2, &["10.2.0.1/24"]);
    host.desired.segments.get_mut(&blue).unwrap().masquerade = false;
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, blue, &["10.2.0.2/24"]);
    host.converge();
    host.assert_settled();
    let lan = host.lan.clone();
    serve_tcp(&lan, "0.0.0.0:80");
    serve_tcp(&lan, "[2001:db8::9]:81");
    assert_eq!(connect_from(&a, &format!("{LAN4}:80")), Ok(ip(HOST4)));
    assert_eq!(connect_from(&a, &format!("[{LAN6}]:81")), Ok(ip(HOST6)));
    host.lan_routes_to_host();
    assert_eq!(connect_from(&b, &format!("{LAN4}:80")), Ok(ip("10.2.0.2")), "no masquerade");
    serve_tcp(&a, "0.0.0.0:80");
    assert!(connect_from(&lan, "10.1.0.2:80").is_err(), "what is not published is not reached from outside");
}

#[test]
fn a_published_port_keeps_the_clients_address() {
    published(Host::new());
}

#[test]
fn a_published_port_keeps_the_clients_address_where_bridged_packets_are_filtered() {
    let host = Host::new();
    if host.bridged_packets_are_filtered(true) {
        published(host);
    }
}

fn published(mut host: Host) {
    let red = host.segment(1, &["10.1.0.1/24"]);
    let blue = host.segment(2, &["10.2.0.1/24"]);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    let b = host.container(2, red, &["10.1.0.3/24"]);
    let c = host.container(3, blue, &["10.2.0.2/24"]);
    host.publish(Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
    host.publish(Tcp, HOST4, 8081, "10.1.0.2", 80);
    host.publish(Tcp, "127.0.0.1", 8082, "10.1.0.2", 80);
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:80");
    let lan = host.lan.clone();
    for port in [8080, 8081] {
        let there = format!("{HOST4}:{port}");
        assert_eq!(connect_from(&lan, &there), Ok(ip(LAN4)), "from the LAN, {port}");
        assert_eq!(connect(&there), Ok(ip(HOST4)), "from the host by its own address, {port}");
        assert_eq!(connect_from(&b, &there), Ok(ip("10.1.0.1")), "hairpin of a neighbour, {port}");
        assert_eq!(connect_from(&a, &there), Ok(ip("10.1.0.1")), "hairpin of itself, {port}");
        assert_eq!(connect_from(&c, &there), Ok(ip("10.2.0.2")), "from another segment, {port}");
    }
    for port in [8080, 8082] {
        assert_eq!(connect(&format!("127.0.0.1:{port}")), Ok(ip("10.1.0.1")), "from 127.0.0.1, {port}");
    }
    assert!(connect("127.0.0.1:8081").is_err(), "published on another address");
    assert!(connect_from(&lan, &format!("{HOST4}:8082")).is_err(), "loopback only");
    assert!(connect_from(&b, "10.1.0.1:8082").is_err(), "loopback only");
}

#[test]
fn loopback_is_out_of_reach_by_wire() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    host.publish(Tcp, "127.0.0.1", 8082, "10.1.0.2", 80);
    host.converge();
    serve_tcp(&a, "0.0.0.0:80");
    let own = host.dir.path().join("own");
    host.driver().netns().create(&own, None, || Ok::<(), ()>(())).unwrap().unwrap();
    std::thread::spawn(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:8083").unwrap();
        listener.incoming().for_each(drop);
    });
    // A neighbour that may use 127/8 on the wire, and sends it to the host.
    for (path, gateway) in [(host.lan.clone(), HOST4), (a, "10.1.0.1")] {
        host.inside(&path, move || {
            for scope in ["all", "eth0"] {
                weft_sys::sysctl::write(&format!("net.ipv4.conf.{scope}.route_localnet"), "1").unwrap();
            }
            let run = |args: &[&str]| {
                assert!(std::process::Command::new("ip").args(args).status().unwrap().success(), "{args:?}");
            };
            run(&["addr", "del", "127.0.0.1/8", "dev", "lo"]);
            run(&["route", "add", "127.0.0.0/8", "via", gateway, "dev", "eth0"]);
        });
        for port in [8082, 8083] {
            assert!(connect_from(&path, &format!("127.0.0.1:{port}")).is_err(), "{gateway} {port}");
        }
    }
    let counted = nft(&["-j", "list", "chain", "inet", "weft", "raw"]);
    let packets =
        counted.split("\"packets\": ").skip(1).map(|t| t.split(',').next().unwrap().parse::<u64>().unwrap());
    assert!(packets.sum::<u64>() > 0, "the rule was what stopped them: {counted}");
}

fn nft(args: &[&str]) -> String {
    let output = std::process::Command::new("nft").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn udp_is_published_and_forgets_the_dead() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    let b = host.container(2, red, &["10.1.0.3/24"]);
    host.converge();
    serve_udp(&a, "0.0.0.0:53");
    serve_udp(&b, "0.0.0.0:53");
    let lan = host.lan.clone();
    // One client socket through all of it: its connection entry would otherwise be kept alive by its own packets.
    let (question, questions) = std::sync::mpsc::channel::<()>();
    let (answer, answers) = std::sync::mpsc::channel();
    common::spawn(&lan, move || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(400))).unwrap();
        for () in questions {
            let mut buffer = [0; 64];
            let _ = socket.send_to(b"?", (HOST4, 53));
            answer.send(socket.recv_from(&mut buffer).map(|_| ()).map_err(|e| e.kind())).unwrap();
        }
    });
    let ask = || {
        question.send(()).unwrap();
        answers.recv().unwrap()
    };
    assert!(ask().is_err(), "not published yet");
    host.publish(Udp, "0.0.0.0", 53, "10.1.0.2", 53);
    host.converge();
    assert_eq!(ask_udp(&lan, &format!("{HOST4}:53")), Ok(ip(LAN4)));
    assert_eq!(ask(), Ok(()), "a client that asked before");
    host.desired.publishes.clear();
    host.publish(Udp, "0.0.0.0", 53, "10.1.0.3", 53);
    host.desired.ports.remove(&weft_model::PortId::from_bytes([1; 32]));
    host.converge();
    assert_eq!(ask(), Ok(()), "the old connection does not lead to a dead container");
    host.desired.publishes.clear();
    host.converge();
    assert!(ask().is_err(), "not published any more");
    host.assert_settled();
}

#[test]
fn internal_has_no_way_out_nor_in() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    let inner = host.segment(2, &["10.2.0.1/24"]);
    host.desired.segments.get_mut(&inner).unwrap().internal = true;
    let a = host.container(1, red, &["10.1.0.2/24"]);
    let b = host.container(2, inner, &["10.2.0.2/24"]);
    let c = host.container(3, inner, &["10.2.0.3/24"]);
    host.publish(Tcp, "0.0.0.0", 8080, "10.2.0.2", 80);
    host.publish(Tcp, "0.0.0.0", 8081, "10.1.0.2", 80);
    host.converge();
    host.assert_settled();
    let lan = host.lan.clone();
    host.lan_routes_to_host();
    for server in [&a, &b, &lan] {
        serve_tcp(server, "0.0.0.0:80");
    }
    assert_eq!(connect_from(&c, "10.2.0.2:80"), Ok(ip("10.2.0.3")), "among themselves");
    // Even a container that gives itself a default route stays in.
    host.inside(&b, || {
        let args = ["route", "add", "default", "via", "10.2.0.1"];
        assert!(std::process::Command::new("ip").args(args).status().unwrap().success());
    });
    assert!(connect_from(&b, &format!("{LAN4}:80")).is_err(), "no way out");
    assert!(connect_from(&b, "10.1.0.2:80").is_err(), "not to another segment");
    assert!(connect_from(&b, &format!("{HOST4}:8081")).is_err(), "nor by a published port");
    assert!(connect_from(&lan, &format!("{HOST4}:8080")).is_err(), "no way in");
    assert!(connect_from(&lan, "10.2.0.2:80").is_err(), "no way in");
}

#[test]
fn without_inter_container_only_published_ports_are_reached() {
    published_only(Host::new());
}

#[test]
fn without_inter_container_only_published_ports_are_reached_where_bridged_packets_are_filtered() {
    let host = Host::new();
    if host.bridged_packets_are_filtered(true) {
        published_only(host);
    }
}

/// Neighbours reach one another, and a container itself, by what is published at the host's addresses, and by nothing else.
fn published_only(mut host: Host) {
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    host.desired.segments.get_mut(&red).unwrap().inter_container = false;
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]);
    for (any, host_ip, target) in [("0.0.0.0", HOST4, "10.1.0.2"), ("::", HOST6, "fd01::2")] {
        host.publish(Tcp, any, 8080, target, 80);
        host.publish(Tcp, host_ip, 8081, target, 80);
        host.publish(Udp, any, 8080, target, 80);
    }
    host.converge();
    host.assert_settled();
    for server in ["0.0.0.0:80", "[fd01::2]:80"] {
        serve_tcp(&a, server);
        serve_udp(&a, server);
    }
    let lan = host.lan.clone();
    serve_tcp(&lan, "0.0.0.0:80");
    for (at, direct, gateway) in
        [(HOST4.to_owned(), "10.1.0.2", "10.1.0.1"), (format!("[{HOST6}]"), "[fd01::2]", "fd01::1")]
    {
        for port in [8080, 8081] {
            let there = format!("{at}:{port}");
            // The addresses of IPv6 are first made sure of (DAD).
            let _ = (0..30).find(|_| connect_from(&b, &there).is_ok());
            assert_eq!(connect_from(&b, &there), Ok(ip(gateway)), "a neighbour, {there}");
            assert_eq!(connect_from(&a, &there), Ok(ip(gateway)), "itself, {there}");
            assert!(connect_from(&lan, &there).is_ok(), "{there}");
        }
        assert_eq!(ask_udp(&b, &format!("{at}:8080")), Ok(ip(gateway)), "{at}");
        assert!(connect_from(&b, &format!("{direct}:80")).is_err(), "directly");
        assert!(ask_udp(&b, &format!("{direct}:80")).is_err(), "directly");
    }
    assert_eq!(connect_from(&b, "10.1.0.1:8080"), Ok(ip("10.1.0.1")), "by the gateway's address");
    assert!(connect_from(&b, &format!("{LAN4}:80")).is_ok(), "the way out is open");
    // Who switches the filter off for the bridge does not open it for long, nor who puts a port as it was before.
    for damage in
        ["link set BRIDGE type bridge nf_call_iptables 0", "link set PORT type bridge_slave isolated on"]
    {
        let link = &host.desired.segments[&red].link;
        let port = &host.desired.ports.values().next().unwrap().link;
        let words = damage.replace("BRIDGE", link).replace("PORT", port);
        let done = std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(done.success(), "{words}");
        host.converger.forget();
        host.converge();
        host.assert_settled();
        assert_eq!(connect_from(&b, &format!("{HOST4}:8080")), Ok(ip("10.1.0.1")), "{words}");
        assert!(connect_from(&b, "10.1.0.2:80").is_err(), "{words}");
    }
}

#[test]
fn ipv6_end_to_end() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let blue = host.segment(2, &["fd02::1/64"]);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]);
    let c = host.container(3, blue, &["fd02::2/64"]);
    host.publish(Tcp, "::", 8080, "fd01::2", 80);
    host.publish(Tcp, HOST6, 8081, "fd01::2", 80);
    host.publish(Udp, "::", 8080, "fd01::2", 80);
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "[::]:80");
    serve_udp(&a, "[::]:80");
    let lan = host.lan.clone();
    assert_eq!(connect_from(&b, "[fd01::2]:80"), Ok(ip("fd01::3")));
    assert!(connect_from(&c, "[fd01::2]:80").is_err(), "isolation");
    assert_eq!(connect_from(&lan, &format!("[{HOST6}]:8080")), Ok(ip(LAN6)));
    assert_eq!(connect_from(&lan, &format!("[{HOST6}]:8081")), Ok(ip(LAN6)));
    assert_eq!(ask_udp(&lan, &format!("[{HOST6}]:8080")), Ok(ip(LAN6)));
    assert_eq!(connect_from(&b, &format!("[{HOST6}]:8080")), Ok(ip("fd01::1")), "hairpin");
    assert_eq!(connect(&format!("[{HOST6}]:8081")), Ok(ip(HOST6)), "from the host");
}

#[test]
fn what_nft_shows() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    host.publish(Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
    host.publish(Udp, HOST6, 53, "fd01::2", 5353);
    host.publish_row(Tcp, "0.0.0.0", 9000, 9999, "10.1.0.2");
    host.publish_row(Tcp, HOST6, 9000, 9999, "fd01::2");
    host.converge();
    let text = nft(&["list", "table", "inet", "weft"]);
    for expected in [
        "type filter hook forward priority filter; policy accept;",
        "type nat hook prerouting priority dstnat; policy accept;",
        "elements = { tcp . 8080 : 10.1.0.2 . 80 }",
        "elements = { udp . 2001:db8::1 . 53 : fd01::2 . 5353 }",
        "elements = { tcp . 9000-9999 : 10.1.0.2 }",
        "elements = { tcp . 2001:db8::1 . 9000-9999 : fd01::2 }",
        "elements = { 10.1.0.0/24 }",
        "elements = { fd01::/64 }",
        "\"wfb010101010101\" : jump into_wfb010101010101",
        "fib daddr type local jump publish",
        "ct status dnat accept",
        "oifname != @segments masquerade",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&nft(&["-j", "list", "table", "inet", "weft"])).unwrap();
    let count =
        |kind: &str| json["nftables"].as_array().unwrap().iter().filter(|o| o.get(kind).is_some()).count();
    assert_eq!((count("chain"), count("map"), count("set")), (11, 13, 7), "{text}");
}
