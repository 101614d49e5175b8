//! Policy between endpoints, with real connections; within a bridge, between bridges, and to and from outside.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use common::{HOST4, Host, LAN4, ask_udp, connect, ip, serve_tcp, serve_udp};
use weft_dataplane::{CLOSED, Driver, Flow, HOST, OUTSIDE, Step, link_name};
use weft_model::{NetworkId, PortRange, Protocol::Tcp};

const A: u32 = 1;
const B: u32 = 2;

fn flow(from: u32, to: u32, protocol: u8, ports: Option<(u16, u16)>) -> Flow {
    Flow { from, to, protocol, ports: ports.map(|(start, end)| PortRange { start, end }) }
}

struct World {
    host: Host,
    a: PathBuf,
    b: PathBuf,
}

impl World {
    fn class(&mut self, address: &str, class: u32) {
        self.host.desired.policy.endpoints.insert(address.parse::<IpAddr>().unwrap(), class);
    }

    fn verdict(&mut self, flow: Flow, passes: bool) {
        if let Some(range) = flow.ports.filter(|r| r.start < r.end) {
            self.host.desired.policy.ranges.insert((Tcp, range));
        }
        self.host.desired.policy.host |= flow.from == HOST || flow.to == HOST;
        self.host.desired.policy.verdicts.insert(flow, passes);
    }

    fn converge(&mut self) -> Vec<Step> {
        let done = self.host.converge().done;
        self.host.assert_settled();
        done
    }
}

/// Connects; servers that listen on both families see IPv4 clients by mapped addresses.
fn reach(path: &Path, address: &str) -> Result<IpAddr, std::io::ErrorKind> {
    common::connect_from(path, address).map(|ip| ip.to_canonical())
}

fn link() -> String {
    link_name('b', &NetworkId::from_bytes([1; 32]))
}

/// Two containers on one guarded network, and a neighbour outside. `None` where the kernel lacks `br_netfilter`.
fn world() -> Option<World> {
    if !std::fs::exists("/proc/sys/net/bridge").unwrap() {
        return None;
    }
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, red, &["10.1.0.3/24", "fd01::3/64"]);
    host.publish(Tcp, "0.0.0.0", 8080, "10.1.0.3", 80);
    let mut world = World { host, a, b };
    for (address, class) in [("10.1.0.2", A), ("fd01::2", A), ("10.1.0.3", B), ("fd01::3", B)] {
        world.class(address, class);
    }
    world.host.desired.guarded.insert(link());
    world.converge();
    for server in [&world.a, &world.b] {
        serve_tcp(server, "[::]:80");
        serve_tcp(server, "[::]:81");
        serve_udp(server, "0.0.0.0:53");
    }
    Some(world)
}

#[test]
fn what_is_denied_is_dropped_by_port_protocol_and_direction() {
    let Some(mut w) = world() else { return };
    let (a, b) = (w.a.clone(), w.b.clone());
    assert_eq!(reach(&a, "10.1.0.3:80"), Ok(ip("10.1.0.2")), "without a verdict all passes");
    w.verdict(flow(A, B, 6, Some((80, 80))), false);
    let done = w.converge();
    assert!(matches!(&done[..], [Step::ChangePolicy { .. }]), "elements only: {done:?}");
    assert!(reach(&a, "10.1.0.3:80").is_err());
    assert!(reach(&a, "[fd01::3]:80").is_err());
    assert!(reach(&a, "10.1.0.3:81").is_ok(), "another port");
    assert!(reach(&a, "[fd01::3]:81").is_ok(), "another port");
    assert!(reach(&b, "10.1.0.2:80").is_ok(), "the other way");
    assert!(ask_udp(&a, "10.1.0.3:53").is_ok(), "another protocol");
    assert!(connect("10.1.0.3:80").is_ok(), "the host itself is not a container");
    w.verdict(flow(A, B, 17, None), false);
    w.verdict(flow(A, B, 6, Some((81, 90))), false);
    w.converge();
    assert!(ask_udp(&a, "10.1.0.3:53").is_err());
    let shown = nft("list ruleset");
    assert!(shown.contains("vmap @verdicts") && shown.contains("counter packets"), "{shown}");
    assert!(reach(&a, "10.1.0.3:81").is_err(), "in a range");
    assert!(reach(&b, "10.1.0.2:81").is_ok());
    let counted = w.host.driver().policy_counters().unwrap();
    assert!(counted.flows[&flow(A, B, 6, Some((80, 80)))].0 >= 2, "{counted:?}");
    assert!(counted.flows[&flow(A, B, 17, None)].1 > 0);
    w.host.desired.policy = Default::default();
    w.host.desired.guarded.clear();
    w.converge();
    assert!(reach(&a, "10.1.0.3:80").is_ok());
    let left = nft("list ruleset");
    assert!(!left.contains("weft-policy"), "{left}");
    let link = tool("ip", &format!("-d link show {}", link()));
    assert!(link.contains("nf_call_iptables 0"), "{link}");
}

#[test]
fn a_closed_network_passes_what_is_allowed_and_its_answers() {
    let Some(mut w) = world() else { return };
    let (a, b, lan) = (w.a.clone(), w.b.clone(), w.host.lan.clone());
    serve_tcp(&lan, "0.0.0.0:80");
    for (address, class) in [("10.1.0.2", A), ("fd01::2", A), ("10.1.0.3", B), ("fd01::3", B)] {
        w.class(address, class | CLOSED);
    }
    w.converge();
    assert!(reach(&a, "10.1.0.3:80").is_err());
    assert!(reach(&a, &format!("{LAN4}:80")).is_err(), "nor out");
    assert!(reach(&lan, &format!("{HOST4}:8080")).is_err(), "nor in");
    w.verdict(flow(A | CLOSED, B | CLOSED, 6, Some((80, 80))), true);
    w.converge();
    assert_eq!(reach(&a, "10.1.0.3:80"), Ok(ip("10.1.0.2")), "and its answers");
    assert_eq!(reach(&a, "[fd01::3]:80"), Ok(ip("fd01::2")));
    assert!(reach(&b, "10.1.0.2:80").is_err(), "not the other way");
    assert!(reach(&a, "10.1.0.3:81").is_err());
    w.verdict(flow(A | CLOSED, OUTSIDE, 6, None), true);
    w.verdict(flow(OUTSIDE, B | CLOSED, 6, Some((80, 80))), true);
    w.converge();
    assert_eq!(reach(&a, &format!("{LAN4}:80")), Ok(ip(HOST4)), "out, masqueraded");
    assert_eq!(reach(&lan, &format!("{HOST4}:8080")), Ok(ip(LAN4)), "in, published, by the container's port");
    w.host.lan_routes_to_host();
    assert!(reach(&lan, "10.1.0.3:80").is_err(), "allowed is not published");
    assert!(reach(&a, &format!("{HOST4}:8080")).is_ok(), "by the published port of a neighbour it may reach");
}

#[test]
fn what_is_dropped_by_default_is_counted_for_its_network() {
    let Some(mut w) = world() else { return };
    let (a, lan) = (w.a.clone(), w.host.lan.clone());
    for (address, class) in [("10.1.0.2", A), ("fd01::2", A), ("10.1.0.3", B), ("fd01::3", B)] {
        w.class(address, class | CLOSED);
    }
    w.host.desired.policy.closed.insert(link());
    w.converge();
    let dropped = |w: &World| w.host.driver().policy_counters().unwrap().closed[&link()].0;
    assert_eq!(dropped(&w), 0);
    assert!(reach(&a, "10.1.0.3:80").is_err(), "within");
    let within = dropped(&w);
    assert!(within > 0);
    assert!(reach(&lan, &format!("{HOST4}:8080")).is_err(), "nor in");
    let inward = dropped(&w);
    assert!(inward > within);
    assert!(reach(&a, &format!("{LAN4}:80")).is_err(), "nor out");
    let outward = dropped(&w);
    assert!(outward > inward);
    // Another entry changes nothing of what was counted.
    w.verdict(flow(A | CLOSED, B | CLOSED, 6, Some((80, 80))), true);
    let done = w.converge();
    assert!(matches!(&done[..], [Step::ChangePolicy { .. }]), "{done:?}");
    assert!(reach(&a, "10.1.0.3:80").is_ok());
    assert_eq!(dropped(&w), outward);
    assert!(connect("10.1.0.3:81").is_ok(), "a closed network is not closed to its host");
    assert!(
        !nft("list ruleset").contains("hook input priority filter - 5"),
        "whose own traffic is not looked at"
    );
    w.host.desired.policy.closed.clear();
    w.converge();
    assert!(w.host.driver().policy_counters().unwrap().closed.is_empty());
    assert!(reach(&a, "10.1.0.3:81").is_err(), "still dropped where no counter stands");
}

#[test]
fn the_host_is_kept_apart_from_containers_both_ways() {
    let Some(mut w) = world() else { return };
    let (a, b, lan) = (w.a.clone(), w.b.clone(), w.host.lan.clone());
    serve_tcp(&lan, "0.0.0.0:80");
    let host = Path::new("/proc/thread-self/ns/net");
    serve_tcp(host, "[::]:2222");
    serve_udp(host, "0.0.0.0:5353");
    assert!(reach(&a, "10.1.0.1:2222").is_ok());
    w.verdict(flow(A, HOST, 6, Some((2222, 2222))), false);
    let done = w.converge();
    assert!(matches!(&done[..], [Step::ChangePolicy { .. }]), "not the whole table: {done:?}");
    for address in ["10.1.0.1", HOST4, "[fd01::1]"] {
        assert!(reach(&a, &format!("{address}:2222")).is_err(), "by {address}");
        assert!(reach(&b, &format!("{address}:2222")).is_ok(), "by {address}, another");
    }
    assert!(ask_udp(&a, "10.1.0.1:5353").is_ok(), "another protocol");
    assert!(connect("10.1.0.2:80").is_ok() && connect("[fd01::2]:80").is_ok(), "the other way");
    w.verdict(flow(A, HOST, 0, None), false);
    w.converge();
    assert!(ask_udp(&a, "10.1.0.1:5353").is_err());
    assert!(connect("10.1.0.2:80").is_ok(), "its answers pass");
    assert!(reach(&a, &format!("{LAN4}:80")).is_ok(), "what the host forwards is not to the host");
    assert!(reach(&a, &format!("{HOST4}:8080")).is_ok(), "nor is what it publishes");
    let before = w.host.driver().policy_counters().unwrap().flows;
    assert!(before[&flow(A, HOST, 6, Some((2222, 2222)))].0 >= 3, "{before:?}");
    w.verdict(flow(HOST, B, 6, Some((80, 90))), false);
    w.converge();
    assert!(connect("10.1.0.3:80").is_err() && connect("[fd01::3]:81").is_err(), "in the range");
    assert!(connect("127.0.0.1:8080").is_err(), "nor by the published port");
    assert!(connect("10.1.0.2:80").is_ok(), "another container");
    assert_eq!(reach(&a, "10.1.0.3:80"), Ok(ip("10.1.0.2")), "containers are not the host");
    assert_eq!(reach(&lan, &format!("{HOST4}:8080")), Ok(ip(LAN4)), "nor are other machines");
    assert!(reach(&b, "10.1.0.1:2222").is_ok(), "the other way");
    let after = w.host.driver().policy_counters().unwrap().flows;
    let kept = flow(A, HOST, 6, Some((2222, 2222)));
    assert_eq!(after[&kept], before[&kept], "what stays goes on counting");
    let shown = nft("list ruleset");
    assert!(shown.contains("hook input") && shown.contains("to_host"), "{shown}");
    w.host.desired.policy.host = false;
    w.host.desired.policy.verdicts.retain(|f, _| f.from != HOST && f.to != HOST);
    w.verdict(flow(A, B, 6, Some((81, 81))), false);
    w.converge();
    assert!(reach(&a, "10.1.0.1:2222").is_ok() && connect("10.1.0.3:80").is_ok());
    let shown = nft("list ruleset");
    assert!(!shown.contains("to_host") && shown.contains("weft-policy"), "{shown}");
}

#[test]
fn errors_about_what_is_forwarded_reach_a_container_that_may_not_talk_to_the_host() {
    let Some(mut w) = world() else { return };
    let a = w.a.clone();
    w.verdict(flow(A, HOST, 0, None), false);
    w.converge();
    tool("ip", "link set eth0 mtu 1300");
    let known =
        || tool("nsenter", &format!("--net={} ip route get {LAN4}", a.display())).contains("mtu 1300");
    assert!(!known());
    common::spawn(&a, || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((LAN4, 9)).unwrap();
        // The first makes the connection known, and the second call returns what came of it (nobody listens); the third
        // does not fit through, and the host says so.
        for size in [1, 1, 1400] {
            let _ = socket.send(&vec![0; size]);
            std::thread::sleep(Duration::from_millis(50));
        }
    })
    .join()
    .unwrap();
    assert!(known(), "fragmentation needed");
}

#[test]
fn this_machine_is_not_refused() {
    let Some(w) = world() else { return };
    assert_eq!(w.host.driver().refuses_policy(), None, "with a table");
    w.host.driver().apply(&Step::ClearPolicy).unwrap();
    assert_eq!(w.host.driver().refuses_policy(), None, "by trial");
    assert!(!nft("list ruleset").contains("weft-policy"), "which leaves nothing behind");
}

#[test]
fn a_new_deny_ends_connections_and_foreign_packets_pass_nowhere() {
    use std::io::{Read, Write};
    let Some(mut w) = world() else { return };
    let (a, b) = (w.a.clone(), w.b.clone());
    let (ready, wait) = std::sync::mpsc::channel();
    common::spawn(&b, move || {
        let listener = std::net::TcpListener::bind("0.0.0.0:7").unwrap();
        ready.send(()).unwrap();
        let mut stream = listener.accept().unwrap().0;
        let mut buffer = [0; 1];
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
            stream.write_all(&buffer).unwrap();
        }
    });
    wait.recv().unwrap();
    let (question, questions) = std::sync::mpsc::channel::<()>();
    let (answer, answers) = std::sync::mpsc::channel();
    common::spawn(&a, move || {
        let mut stream = std::net::TcpStream::connect("10.1.0.3:7").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        for () in questions {
            let mut buffer = [0; 1];
            stream.write_all(b"x").unwrap();
            answer.send(stream.read(&mut buffer).is_ok_and(|n| n == 1)).unwrap();
        }
    });
    let ask = || {
        question.send(()).unwrap();
        answers.recv().unwrap()
    };
    assert!(ask());
    w.verdict(flow(A, B, 0, None), false);
    w.converge();
    assert!(!ask(), "it was established, and is denied now");
    assert!(reach(&b, "10.1.0.2:80").is_ok(), "begun by the other");
}

#[test]
fn damage_to_policy_is_heard_at_once_and_our_own_changes_are_not() {
    let Some(mut w) = world() else { return };
    w.verdict(flow(A, B, 6, Some((80, 80))), false);
    w.converge();
    let (tell, heard) = std::sync::mpsc::channel();
    w.host.driver().watch(Box::new(move || tell.send(()).unwrap_or_default())).unwrap();
    w.verdict(flow(A, B, 6, Some((90, 99))), false);
    w.converge();
    assert!(heard.recv_timeout(Duration::from_millis(300)).is_err(), "our own doing");
    for damage in [
        "delete table inet weft-policy",
        "flush chain inet weft-policy forward",
        "flush map inet weft-policy verdicts",
        "insert rule inet weft-policy forward accept",
    ] {
        nft(damage);
        assert!(heard.recv_timeout(Duration::from_secs(1)).is_ok(), "{damage}");
        w.host.converger.forget();
        w.converge();
        while heard.recv_timeout(Duration::from_millis(150)).is_ok() {}
    }
}

#[test]
fn damage_to_policy_is_mended() {
    let Some(mut w) = world() else { return };
    let a = w.a.clone();
    w.verdict(flow(A, B, 6, Some((80, 80))), false);
    w.verdict(flow(A, B, 6, Some((90, 99))), false);
    w.verdict(flow(A, HOST, 6, Some((2222, 2222))), false);
    w.host.desired.policy.closed.insert(link());
    w.converge();
    let damages = [
        "delete table inet weft-policy".to_owned(),
        "flush ruleset".to_owned(),
        "flush chain inet weft-policy forward".to_owned(),
        "insert rule inet weft-policy forward accept".to_owned(),
        "delete element inet weft-policy class4 { 10.1.0.2 }".to_owned(),
        "flush map inet weft-policy verdicts".to_owned(),
        "flush map inet weft-policy class4".to_owned(),
        "flush map inet weft-policy ranges_tcp".to_owned(),
        "flush map inet weft-policy closed".to_owned(),
        "flush chain inet weft-policy input".to_owned(),
        "flush chain inet weft-policy to_host".to_owned(),
        "insert rule inet weft-policy output accept".to_owned(),
    ];
    for damage in damages {
        nft(&damage);
        let observed = w.host.driver().observe().unwrap();
        assert_ne!(w.host.driver().plan(&w.host.desired, &observed), [], "{damage}: seen");
        w.host.converger.forget();
        w.converge();
        assert!(reach(&a, "10.1.0.3:80").is_err(), "{damage}: mended");
        assert!(reach(&a, "10.1.0.3:81").is_ok(), "{damage}: mended");
    }
    tool("ip", &format!("link set {} type bridge nf_call_iptables 0", link()));
    assert!(reach(&a, "10.1.0.3:80").is_ok(), "unguarded");
    w.host.converger.forget();
    w.converge();
    assert!(reach(&a, "10.1.0.3:80").is_err());
    // A change that meets other entries than it remembers still ends where it should.
    nft("flush map inet weft-policy ranges_tcp");
    w.host.desired.policy.ranges.clear();
    w.host.desired.policy.verdicts.clear();
    w.verdict(flow(A, B, 6, Some((81, 81))), false);
    w.converge();
    assert!(reach(&a, "10.1.0.3:80").is_ok() && reach(&a, "10.1.0.3:81").is_err());
}

fn tool(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn nft(line: &str) -> String {
    let output = Command::new("nft").arg(line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
