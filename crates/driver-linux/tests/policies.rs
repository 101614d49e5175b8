//! The publish policy and ports that are reached at the container's own address: routed segments, those without protection,
//! and trusted links.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    io::{ErrorKind, Read},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    Host, LAN4, LAN6, ask_udp, connect, connect_from,
    host_rules::{listed, nft},
    ip, serve_tcp, serve_udp, spawn,
};
use weft_dataplane::Open;
use weft_model::{
    GatewayMode::{NatUnprotected, Routed},
    NetworkId,
    Protocol::{self, Tcp, Udp},
    PublishPolicy,
};

/// Waits for a second SYN and a third, and until addresses of IPv6 are sure.
fn patient(from: &Path, address: &str) -> Result<IpAddr, ErrorKind> {
    let address: SocketAddr = address.parse().unwrap();
    spawn(from, move || {
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(3500))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().map(|text: String| text.parse().unwrap()).map_err(|e: std::io::Error| e.kind())
    })
    .join()
    .unwrap()
}

fn open(host: &mut Host, segment: NetworkId, protocol: Protocol, at: &str, port: u16) {
    let open = Open { protocol, ip: ip(at), port };
    host.desired.segments.get_mut(&segment).unwrap().open.insert(open);
}

/// A routed segment with `10.1.0.2` that serves TCP 80 and 81 and UDP 53, and a neighbour on a segment with NAT; all of
/// it published, but for 81. `8080` of the host leads to the neighbour's 80.
fn routed(policy: PublishPolicy) -> (Host, PathBuf, PathBuf, NetworkId) {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let blue = host.segment(2, &["10.2.0.1/24", "fd02::1/64"]);
    let segment = host.desired.segments.get_mut(&red).unwrap();
    (segment.gateways.v4, segment.gateways.v6) = (Routed, Routed);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let c = host.container(2, blue, &["10.2.0.2/24", "fd02::2/64"]);
    open(&mut host, red, Tcp, "10.1.0.2", 80);
    open(&mut host, red, Tcp, "fd01::2", 80);
    open(&mut host, red, Udp, "10.1.0.2", 53);
    host.publish(Tcp, "0.0.0.0", 8080, "10.2.0.2", 80);
    host.publish(Tcp, "0.0.0.0", 80, "10.2.0.2", 80);
    host.desired.publish_policy = policy;
    host.converge();
    host.assert_settled();
    host.lan_routes_to_host();
    for port in [80, 81] {
        serve_tcp(&a, &format!("0.0.0.0:{port}"));
        serve_tcp(&a, &format!("[fd01::2]:{port}"));
    }
    serve_udp(&a, "0.0.0.0:53");
    serve_tcp(&c, "0.0.0.0:80");
    (host, a, c, red)
}

#[test]
fn deny_closes_routed_ports_to_other_hosts_alone() {
    let (mut host, _a, c, _) = routed(PublishPolicy::Deny);
    let lan = host.lan.clone();
    assert!(connect_from(&lan, "10.1.0.2:80").is_err());
    assert!(ask_udp(&lan, "10.1.0.2:53").is_err());
    assert_eq!(connect("10.1.0.2:80"), Ok(ip("10.1.0.1")), "the host itself");
    assert_eq!(connect_from(&c, "10.1.0.2:80"), Ok(ip("10.2.0.2")), "containers");
    assert_eq!(patient(&c, "[fd01::2]:80"), Ok(ip("fd02::2")), "containers");
    assert!(connect_from(&c, "10.1.0.2:81").is_err(), "what is published, and no more");
    assert!(connect_from(&lan, "[fd01::2]:80").is_err());
    host.desired.publish_policy = PublishPolicy::Open;
    host.converge();
    assert_eq!(connect_from(&lan, "10.1.0.2:80"), Ok(ip(LAN4)));
    assert_eq!(patient(&lan, "[fd01::2]:80"), Ok(ip(LAN6)));
}

#[test]
fn host_firewall_decides_about_routed_ports() {
    let (mut host, a, c, red) = routed(PublishPolicy::HostFirewall);
    let lan = host.lan.clone();
    // The host serves a port of that number itself: nobody who asks for the container's may get to it.
    serve_tcp(Path::new("/proc/thread-self/ns/net"), "[::]:53");
    nft("table inet fw {
           chain input {
             type filter hook input priority 0; policy drop
             ct state established,related accept
             meta l4proto ipv6-icmp accept
             udp dport 53 accept
           }
         }");
    assert!(patient(&lan, "10.1.0.2:80").is_err(), "nobody allowed 80");
    assert_eq!(connect_from(&c, "10.1.0.2:80"), Ok(ip("10.2.0.2")), "containers are not asked");
    assert_eq!(connect("10.1.0.2:80"), Ok(ip("10.1.0.1")), "nor is the host");
    let udp = || (0..3).find_map(|_| ask_udp(&lan, "10.1.0.2:53").ok());
    assert_eq!(udp(), Some(ip(LAN4)), "53 is");
    nft("add rule inet fw input tcp dport 80 accept");
    assert_eq!(patient(&lan, "10.1.0.2:80"), Ok(ip(LAN4)), "the address is kept");
    assert_eq!(patient(&lan, "[fd01::2]:80"), Ok(ip(LAN6)), "the address is kept");
    let known = listed(&["list", "set", "inet", "weft", "consented4"]);
    assert!(known.contains("10.1.0.2 . 80"), "{known}");
    assert!(!known.contains("192.0.2.1 . 80"), "that it may ask the host's own 80 was not said: {known}");
    assert!(patient(&lan, "10.1.0.2:81").is_err(), "not published");
    host.assert_settled();
    // A flow that nobody answers goes on when what was remembered is over.
    let (told, tell) = std::sync::mpsc::channel();
    let receiver = spawn(&a, move || {
        let socket = std::net::UdpSocket::bind("10.1.0.2:514").unwrap();
        told.send(()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 4];
        while let Ok(1) = socket.recv(&mut buffer) {
            seen.push(buffer[0]);
            if buffer[0] == b'c' {
                break;
            }
        }
        seen
    });
    tell.recv().unwrap();
    open(&mut host, red, Udp, "10.1.0.2", 514);
    host.converge();
    nft("add rule inet fw input udp dport 514 accept");
    let (step, steps) = std::sync::mpsc::channel::<u8>();
    let (done, wait) = std::sync::mpsc::channel();
    spawn(&lan, move || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.1.0.2:514").unwrap();
        while let Ok(letter) = steps.recv() {
            socket.send(&[letter]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            done.send(()).unwrap();
        }
    });
    for letter in *b"abc" {
        if letter == b'c' {
            nft("flush set inet weft consented4");
        }
        step.send(letter).unwrap();
        wait.recv().unwrap();
    }
    assert_eq!(receiver.join().unwrap(), b"bc", "the first one asked");
}

#[test]
fn a_trusted_link_is_not_asked_about() {
    for policy in [PublishPolicy::Deny, PublishPolicy::HostFirewall] {
        std::thread::spawn(move || {
            let (mut host, _a, _c, red) = routed(policy);
            let lan = host.lan.clone();
            nft("table inet fw {
                   chain input {
                     type filter hook input priority 0; policy drop
                   }
                 }");
            for link in ["eth7", "eth0"] {
                host.desired.segments.get_mut(&red).unwrap().trusted = [link.to_owned()].into();
                host.converge();
                host.assert_settled();
                assert_eq!(connect_from(&lan, "10.1.0.2:80").is_ok(), link == "eth0", "{policy:?} {link}");
                assert!(connect_from(&lan, "10.1.0.2:81").is_err(), "{policy:?} {link}");
            }
        })
        .join()
        .unwrap();
    }
}

#[test]
fn without_protection_all_is_open_whatever_the_policy() {
    let (mut host, _a, _c, red) = routed(PublishPolicy::Deny);
    let lan = host.lan.clone();
    host.desired.segments.get_mut(&red).unwrap().gateways.v4 = NatUnprotected;
    host.converge();
    host.assert_settled();
    assert_eq!(connect_from(&lan, "10.1.0.2:80"), Ok(ip(LAN4)));
    assert_eq!(connect_from(&lan, "10.1.0.2:81"), Ok(ip(LAN4)));
    let rules = listed(&["list", "chain", "inet", "weft", "into_wfb010101010101"]);
    assert!(rules.contains("unprotected: from outside"), "what weft doctor knows it by: {rules}");
}
