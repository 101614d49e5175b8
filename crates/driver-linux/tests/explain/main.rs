//! What is explained is what happens: each situation is made, explained, and then tried with a real connection.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../common/mod.rs"]
mod common;
mod firewalls;
mod parameters;
mod policy;
mod watching;

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use common::{HOST4, Host, LAN4, connect, connect_from, serve_tcp};
use weft_dataplane::{
    Driver, Open,
    insight::{End, Explanation, Known, Question, Transport, Verdict},
};
use weft_model::{ContainerId, GatewayMode, Protocol::Tcp, PublishPolicy};

fn id(nth: u8) -> ContainerId {
    ContainerId::from_bytes([nth; 32])
}

fn container(nth: u8) -> End {
    End::Sandbox { id: id(nth), address: None }
}

fn at(address: &str) -> End {
    End::Host { address: Some(address.parse().unwrap()) }
}

fn host() -> End {
    End::Host { address: None }
}

fn lan() -> End {
    End::Outside { link: Some("eth0".into()), address: Some(LAN4.parse().unwrap()) }
}

fn sh(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

/// Loads rules of somebody else into the host.
fn nft(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

struct Scene {
    host: Host,
    paths: Vec<PathBuf>,
}

impl Scene {
    /// Containers 1 and 2 on red, 3 on blue, 1 published on 8080; each serves port 80, so does the LAN host.
    fn new(change: impl FnOnce(&mut Host)) -> Self {
        let mut host = Host::new();
        let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
        let blue = host.segment(2, &["10.2.0.1/24"]);
        let mut paths = vec![host.container(1, red, &["10.1.0.2/24", "fd01::2/64"])];
        paths.push(host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]));
        paths.push(host.container(3, blue, &["10.2.0.2/24"]));
        host.publish(Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
        host.publish(Tcp, "127.0.0.1", 8082, "10.1.0.2", 80);
        host.publish(Tcp, "0.0.0.0", 8083, "10.1.0.2", 83);
        host.publish(Tcp, "::", 8084, "fd01::3", 81);
        host.publish(Tcp, "::1", 8085, "fd01::3", 82);
        change(&mut host);
        host.converge();
        for path in &paths {
            serve_tcp(path, "0.0.0.0:80");
        }
        serve_tcp(&paths[1], "[fd01::3]:81");
        serve_tcp(&paths[1], "127.0.0.1:82");
        serve_tcp(&host.lan, "0.0.0.0:80");
        Self { host, paths }
    }

    fn question(&self, from: End, to: End, port: u16) -> Question {
        let mut known = Known::default();
        for (port, plug) in &self.host.desired.ports {
            known.sandboxes.insert(plug.sandbox, format!("c{}", port.as_bytes()[0]));
            known.addresses.extend(plug.addresses.iter().map(|a| (a.addr(), plug.sandbox)));
        }
        Question { from, to, transport: Transport::Tcp, port: Some(port), known }
    }

    fn explained(&self, from: End, to: &str, port: u16) -> Explanation {
        let question = self.question(from, at(to), port);
        self.host.driver().insight().unwrap().explain(&question).unwrap()
    }

    /// Explains, tries, and compares; the reason holds these words.
    #[track_caller]
    fn agrees(&self, from: End, to: &str, port: u16, reason: &str) {
        let seen = self.explained(from.clone(), to, port);
        let ip: std::net::IpAddr = to.parse().unwrap();
        let address = std::net::SocketAddr::new(ip, port).to_string();
        let real = match &from {
            End::Sandbox { id, .. } => connect_from(&self.paths[usize::from(id.as_bytes()[0]) - 1], &address),
            End::Host { .. } => connect(&address),
            End::Outside { .. } => connect_from(&self.host.lan, &address),
        };
        let expected = if real.is_ok() { Verdict::Passes } else { Verdict::Dropped };
        assert_eq!(seen.verdict, expected, "really: {real:?}; {seen:#?}");
        assert!(seen.reason.contains(reason), "{reason:?} in {seen:#?}");
        let refused = real.is_err_and(|e| e == std::io::ErrorKind::ConnectionRefused);
        assert!(!refused || seen.reason.contains("refused") || seen.reason.contains("reject"), "{seen:#?}");
    }
}

#[test]
fn networks_as_they_are() {
    let scene = Scene::new(|_| ());
    scene.agrees(container(1), "10.1.0.3", 80, "reaches container c2");
    scene.agrees(container(1), "fd01::3", 81, "reaches container c2");
    scene.agrees(container(1), "10.2.0.2", 80, "(isolation)");
    scene.agrees(container(3), "10.1.0.2", 80, "(isolation)");
    scene.agrees(container(1), "10.1.0.3", 81, "connection refused");
    scene.agrees(container(1), "10.1.0.3", 82, "127.0.0.1 only");
    scene.agrees(container(1), "10.1.0.99", 80, "nobody on bridge");
    scene.agrees(host(), "10.1.0.2", 80, "reaches container c1");
    scene.agrees(host(), "127.0.0.1", 8080, "reaches container c1");
    scene.agrees(host(), "127.0.0.1", 8081, "connection refused");
    // The bridge's own address is first made sure of (DAD).
    let _ = (0..30).any(|_| connect("[::1]:8084").is_ok());
    scene.agrees(host(), "::1", 8083, "connection refused");
    scene.agrees(host(), "::1", 8085, "connection refused");
    scene.agrees(host(), "::1", 8084, "reaches container c2");
    scene.agrees(host(), HOST4, 8080, "reaches container c1");
    scene.agrees(container(2), HOST4, 8080, "reaches container c1");
    scene.agrees(container(1), HOST4, 8080, "reaches container c1");
    scene.agrees(container(3), HOST4, 8080, "reaches container c1");
    scene.agrees(container(1), LAN4, 80, "leaves this host by eth0");
}

#[test]
fn from_outside() {
    let scene = Scene::new(|_| ());
    scene.host.lan_routes_to_host();
    scene.agrees(lan(), HOST4, 8080, "reaches container c1");
    scene.agrees(lan(), HOST4, 8081, "connection refused");
    scene.agrees(lan(), HOST4, 8082, "connection refused");
    scene.agrees(lan(), HOST4, 8083, "connection refused");
    scene.agrees(lan(), "10.1.0.2", 80, "(unpublished)");
}

/// What keeps other hosts out is named, not what drops their packets at last.
#[test]
fn published_and_the_policy_denies() {
    let scene = Scene::new(|host| {
        host.desired.publish_policy = PublishPolicy::Deny;
        host.publish_row(Tcp, "0.0.0.0", 9000, 9009, "10.1.0.2");
        host.publish(Tcp, HOST4, 8086, "10.1.0.2", 80);
        let blue = host.desired.segments.values_mut().find(|s| s.link.ends_with("020202")).unwrap();
        blue.gateways.v4 = GatewayMode::Routed;
        blue.open.insert(Open { protocol: Tcp, ip: "10.2.0.2".parse().unwrap(), port: 80 });
    });
    scene.host.lan_routes_to_host();
    for port in [8080, 8086, 9005] {
        scene.agrees(lan(), HOST4, port, "is published, but the publish policy is deny");
        scene.agrees(container(2), HOST4, port, if port == 9005 { "nothing listens" } else { "reaches" });
    }
    scene.agrees(lan(), HOST4, 8081, "nothing listens on tcp port 8081");
    scene.agrees(
        lan(),
        "10.2.0.2",
        80,
        "tcp port 80 of 10.2.0.2 is published, but the publish policy is deny",
    );
    scene.agrees(lan(), "10.2.0.2", 81, "(unpublished)");
    scene.agrees(container(1), "10.2.0.2", 80, "reaches container c3");
}

#[test]
fn internal_and_without_inter_container_traffic() {
    let scene = Scene::new(|host| {
        for segment in host.desired.segments.values_mut() {
            segment.inter_container = false;
            segment.internal = segment.link.ends_with("020202");
        }
        for port in host.desired.ports.values_mut() {
            port.isolated = true;
            if port.addresses.iter().any(|a| a.addr().to_string().starts_with("10.2.")) {
                port.gateways.clear();
            }
        }
    });
    // By the rules where the bridge shows them its packets, else by the bridge itself.
    let filter = std::fs::exists("/proc/sys/net/bridge").unwrap();
    let by = if filter { "(inter-container)" } else { "isolated from one another" };
    scene.agrees(container(1), "10.1.0.3", 80, by);
    scene.agrees(container(3), LAN4, 80, "no route to");
    scene.agrees(container(1), "10.2.0.2", 80, "internal: no way in");
    scene.agrees(End::Host { address: None }, "10.2.0.2", 80, "reaches container c3");
    scene.agrees(container(2), HOST4, 8080, "reaches container c1");
    scene.agrees(container(1), HOST4, 8080, "reaches container c1");
}

#[test]
fn a_stopped_container() {
    let scene = Scene::new(|_| ());
    let stopped = id(9);
    let mut question = scene.question(container(1), container(9), 80);
    question.known.sandboxes.insert(stopped, "gone".into());
    let seen = scene.host.driver().insight().unwrap().explain(&question).unwrap();
    assert_eq!(seen.verdict, Verdict::Dropped, "{seen:#?}");
    assert!(seen.reason.contains("container gone is not running"), "{}", seen.reason);
}

#[test]
fn links_that_are_down() {
    let scene = Scene::new(|_| ());
    let port = scene.host.desired.ports.values().find(|p| p.sandbox == id(2)).unwrap();
    let down = format!("ip link set {} down", port.link);
    sh(&down);
    scene.agrees(container(1), "10.1.0.3", 80, "is down");
    scene.agrees(container(2), "10.1.0.2", 80, "has no carrier");
}
