//! The policy `host-firewall` under a flood of invented clients: whom it leaves room for.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    HOST4, Host, LAN4,
    host_rules::{feed, furnished, listed, nft},
    ip, spawn,
};
use weft_model::{Protocol::Udp, PublishPolicy};
use weft_sys::{
    netlink::{
        Channel, Family, Socket,
        link::{self, Change, Peer},
    },
    netns,
};

/// How many clients there is room for.
const ROOM: usize = 65_536;

/// A host that lets everybody in, with a row of a thousand UDP ports published.
fn guarded() -> Host {
    let (mut host, _a) = furnished();
    host.publish_row(Udp, "0.0.0.0", 20_000, 20_999, "10.1.0.2");
    host.desired.publish_policy = PublishPolicy::HostFirewall;
    host.converge();
    host.assert_settled();
    nft("table inet fw {
           chain input {
             type filter hook input priority 0; policy accept
           }
         }");
    host
}

/// A datagram of each invented client to each port.
fn flood(host: &Host, from: impl Iterator<Item = Ipv4Addr> + Send + 'static, ports: std::ops::Range<u16>) {
    host.inside(&host.lan, move || {
        feed("ip", &["route", "add", "local", "10.64.0.0/10", "dev", "lo"], "");
        for client in from {
            let socket = UdpSocket::bind((client, 0)).unwrap();
            for port in ports.clone() {
                socket.send_to(b"x", (HOST4, port)).unwrap();
            }
        }
    });
}

fn remembered() -> usize {
    listed(&["list", "set", "inet", "weft", "consented4"]).matches("expires").count()
}

fn patient(from: &Path) -> Option<IpAddr> {
    spawn(from, move || {
        let address: SocketAddr = format!("{HOST4}:8080").parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(3500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    })
    .join()
    .unwrap()
}

#[test]
fn one_prefix_leaves_room_for_the_others() {
    let host = guarded();
    // 200 clients that ask for 1,000 ports each.
    flood(&host, (1..=200).map(|n| Ipv4Addr::new(10, 64, 0, n)), 20_000..21_000);
    let taken = remembered();
    assert!((500..ROOM / 8).contains(&taken), "{taken}");
    assert_eq!(patient(&host.lan), Some(ip(LAN4)), "another prefix, by the same interface");
}

#[test]
fn one_interface_leaves_room_for_the_others() {
    let host = guarded();
    let other = second_lan(&host);
    // So many clients that all of them would not find room.
    flood(&host, (0..70_000).map(|n| Ipv4Addr::from(0x0a40_0000 + n * 7)), 20_000..20_001);
    let taken = remembered();
    assert!((1000..ROOM * 5 / 8).contains(&taken), "{taken}");
    assert_eq!(patient(&other), Some(ip("198.51.100.9")), "another interface");
}

/// A second neighbour, `198.51.100.9` at `eth1`.
fn second_lan(host: &Host) -> PathBuf {
    let path = host.dir.path().join("lan2");
    wire(host, &path);
    feed("ip", &["address", "add", "198.51.100.1/24", "dev", "eth1"], "");
    host.inside(&path, || {
        feed("ip", &["link", "set", "eth0", "up"], "");
        feed("ip", &["address", "add", "198.51.100.9/24", "dev", "eth0"], "");
        feed("ip", &["route", "add", "default", "via", "198.51.100.1"], "");
    });
    path
}

fn wire(host: &Host, path: &Path) {
    host.driver().netns().create(path, None, || Ok::<(), ()>(())).unwrap().unwrap();
    let target = netns::open(path).unwrap();
    let peer = Peer { name: "eth0", netns: target.as_fd(), change: Change::default() };
    let up = Change { up: Some(true), ..Change::default() };
    Socket::open(Family::Route).unwrap().transact(&[link::create_veth("eth1", &up, &peer)]).unwrap();
}
