//! What is explained is what happens: each situation is made, explained, and then tried with a real connection.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use common::{HOST4, Host, LAN4, connect, connect_from, serve_tcp};
use weft_dataplane::{
    Driver,
    insight::{End, Explanation, Known, Question, TraceEvent, Transport, Verdict},
};
use weft_model::{ContainerId, Protocol::Tcp};
use weft_sys::sysctl;

fn id(nth: u8) -> ContainerId {
    ContainerId::from_bytes([nth; 32])
}

fn container(nth: u8) -> End {
    End::Sandbox { id: id(nth), address: None }
}

fn at(address: &str) -> End {
    End::Host { address: Some(address.parse().unwrap()) }
}

fn lan() -> End {
    End::Outside { link: Some("eth0".into()), address: Some(LAN4.parse().unwrap()) }
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
    let host = || End::Host { address: None };
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
    scene.agrees(container(1), "10.1.0.3", 80, "isolated");
    scene.agrees(container(3), LAN4, 80, "no route to");
    scene.agrees(container(1), "10.2.0.2", 80, "internal: no way in");
    scene.agrees(End::Host { address: None }, "10.2.0.2", 80, "reaches container c3");
    scene.agrees(container(2), HOST4, 8080, "reaches container c1");
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
fn rules_of_others() {
    let scene = Scene::new(|_| ());
    nft(
        "table inet foreign {\n chain f {\n type filter hook forward priority 10; tcp dport 80 drop comment \"no web\"\n }\n}",
    );
    scene.agrees(lan(), HOST4, 8080, "inet foreign f (no web)");
    scene.agrees(container(1), LAN4, 80, "inet foreign f");
    scene.agrees(container(1), "10.1.0.3", 80, "reaches container c2");
    nft(
        "delete table inet foreign\ntable ip foreign {\n chain FORWARD {\n type filter hook forward priority 0; policy drop;\n }\n}",
    );
    scene.agrees(lan(), HOST4, 8080, "policy drop of chain ip foreign FORWARD");
    scene.agrees(container(1), LAN4, 80, "policy drop");
    nft(
        "delete table ip foreign\ntable ip late {\n chain i {\n type filter hook forward priority 5; iifname \"eth0\" ct state established drop\n }\n}",
    );
    scene.agrees(container(1), LAN4, 80, "the answer is lost");
    scene.agrees(lan(), HOST4, 8080, "later packets are lost");
    nft(
        "delete table ip late\ntable ip early {\n chain p {\n type filter hook prerouting priority raw; ip saddr 192.0.2.9 reject\n }\n}",
    );
    scene.agrees(lan(), HOST4, 8080, "ip early p");
    nft(
        "delete table ip early\ntable bridge b {\n chain f {\n type filter hook forward priority 0; ip daddr 10.1.0.3 drop\n }\n}",
    );
    scene.agrees(container(1), "10.1.0.3", 80, "bridge b f");
}

#[test]
fn the_old_iptables() {
    let scene = Scene::new(|_| ());
    let set =
        |args: &[&str]| Command::new("iptables-legacy").args(args).output().is_ok_and(|o| o.status.success());
    if !set(&["-A", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP"]) {
        // This kernel has no such tables: there is nothing to explain.
        return;
    }
    scene.agrees(lan(), HOST4, 8080, "iptables-legacy filter FORWARD");
    assert!(set(&["-F", "FORWARD"]));
    scene.agrees(lan(), HOST4, 8080, "reaches");
    assert!(set(&["-P", "FORWARD", "DROP"]));
    scene.agrees(lan(), HOST4, 8080, "policy drop");
}

#[test]
fn parameters() {
    let scene = Scene::new(|_| ());
    sysctl::write("net.ipv4.ip_forward", "0").unwrap();
    scene.agrees(container(1), LAN4, 80, "net.ipv4.ip_forward is 0");
    scene.agrees(lan(), HOST4, 8080, "net.ipv4.ip_forward is 0");
    scene.agrees(container(1), "10.1.0.3", 80, "reaches");
    sysctl::write("net.ipv4.ip_forward", "1").unwrap();
    scene.agrees(lan(), HOST4, 8080, "reaches");
    // The way back to the LAN host leads elsewhere.
    let link = scene.host.desired.segments.values().next().unwrap().link.clone();
    let route = format!("ip route add {LAN4}/32 dev {link}");
    assert!(Command::new("sh").args(["-c", &route]).status().unwrap().success());
    for (strict, reason) in [("1", "rp_filter"), ("0", "the answer is lost")] {
        for name in ["all", "eth0"] {
            sysctl::write(&format!("net.ipv4.conf.{name}.rp_filter"), strict).unwrap();
        }
        scene.agrees(lan(), HOST4, 8080, reason);
    }
}

#[test]
fn links_that_are_down() {
    let scene = Scene::new(|_| ());
    let port = scene.host.desired.ports.values().find(|p| p.sandbox == id(2)).unwrap();
    let down = format!("ip link set {} down", port.link);
    assert!(Command::new("sh").args(["-c", &down]).status().unwrap().success());
    scene.agrees(container(1), "10.1.0.3", 80, "is down");
    scene.agrees(container(2), "10.1.0.2", 80, "has no carrier");
}

#[test]
fn counters_tell_what_was_dropped_and_why() {
    let scene = Scene::new(|_| ());
    scene.host.lan_routes_to_host();
    let insight = scene.host.driver().insight().unwrap();
    assert!(connect_from(&scene.paths[0], "10.2.0.2:80").is_err());
    assert!(connect_from(&scene.host.lan, "10.1.0.2:80").is_err());
    assert!(connect_from(&scene.paths[0], "10.1.0.3:80").is_ok());
    let figures = insight.figures().unwrap();
    let link = |nth: usize| scene.host.desired.segments.values().nth(nth).unwrap().link.clone();
    let dropped = |link: &str, reason: &str| {
        let mut found =
            figures.drops.iter().filter(|d| d.link.as_deref() == Some(link) && d.reason == reason);
        found.next().map(|d| d.packets).unwrap()
    };
    assert!(
        dropped(&link(1), "isolation") > 0 && dropped(&link(1), "unpublished") == 0,
        "{:?}",
        figures.drops
    );
    assert!(
        dropped(&link(0), "unpublished") > 0 && dropped(&link(0), "isolation") == 0,
        "{:?}",
        figures.drops
    );
    let port = scene.host.desired.ports.values().find(|p| p.sandbox == id(2)).unwrap();
    let seen = &figures.links[&port.link];
    assert!(seen.up && seen.counters.rx_packets > 0 && seen.counters.tx_bytes > 0, "{seen:?}");
}

fn tables(prefix: &str) -> usize {
    let list = Command::new("nft").args(["list", "tables"]).output().unwrap();
    String::from_utf8_lossy(&list.stdout).lines().filter(|l| l.contains(prefix)).count()
}

/// Watches until `enough`, with connections made meanwhile.
fn watched(
    scene: &Scene,
    question: &Question,
    from: &Path,
    to: &str,
    enough: impl Fn(&TraceEvent) -> bool,
) -> Vec<TraceEvent> {
    let (from, to) = (from.to_owned(), to.to_owned());
    let (start, wait) = mpsc::channel::<()>();
    let client = std::thread::spawn(move || {
        wait.recv().unwrap();
        let _ = connect_from(&from, &to);
    });
    let (mut events, begun, mut started) = (Vec::new(), Instant::now(), false);
    let insight = scene.host.driver().insight().unwrap();
    let mut tell = |event: Option<TraceEvent>| {
        if !std::mem::replace(&mut started, true) {
            assert!(tables("weft_trace") > 0, "a table of its own");
            start.send(()).unwrap();
        }
        let done = event.as_ref().is_some_and(&enough);
        events.extend(event);
        !done && begun.elapsed() < Duration::from_secs(8)
    };
    insight.watch(question, &mut tell).unwrap();
    client.join().unwrap();
    assert_eq!(tables("weft_trace"), 0, "nothing is left of it");
    events
}

#[test]
fn real_packets_are_watched() {
    let scene = Scene::new(|_| ());
    let question = scene.question(lan(), at(HOST4), 8080);
    let accepted = |e: &TraceEvent| e.rule.chain == "forward" && e.rule.comment == "established";
    let events = watched(&scene, &question, &scene.host.lan, &format!("{HOST4}:8080"), accepted);
    assert!(events.iter().any(|e| e.verdict == "seen" && e.what.contains(":8080 SYN")), "{events:#?}");
    assert!(
        events.iter().any(|e| e.rule.chain.starts_with("into_") && e.rule.comment == "published"),
        "{events:#?}"
    );
    assert!(events.iter().any(accepted), "{events:#?}");
    let question = scene.question(container(1), at("10.2.0.2"), 80);
    let dropped = |e: &TraceEvent| e.verdict == "drop";
    let events = watched(&scene, &question, &scene.paths[0], "10.2.0.2:80", dropped);
    let drop = events.iter().find(|e| dropped(e)).unwrap();
    assert_eq!((drop.rule.table.as_str(), drop.rule.comment.as_str()), ("weft", "isolation"));
}
