//! The walker on a host of values: two networks, three containers, one way out. Rules are real: `nft` loads them in a namespace
//! of the test's own, and they are read back as the driver reads them.
//!
//! ```text
//!  a 10.1.0.2 ─ p-a ┐                        ┌ p-c ─ c 10.2.0.2
//!  b 10.1.0.3 ─ p-b ┴ red 10.1.0.1   10.2.0.1 blue ┘          eth0 192.0.2.1 ─ the world (default via .254)
//! ```

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use nix::sched::{CloneFlags, unshare};
use weft_dataplane::insight::{End, Known, Transport};
use weft_model::ContainerId;
use weft_sys::{
    netlink::{
        Family, Socket,
        detail::{BridgePort, Detail},
        lookup::{Lookup, Way},
    },
    nft::seen::{self, Ruleset},
    sockets::Listener,
};

use super::{facts::*, legacy, walk::walk, *};

const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 3;

fn id(nth: u8) -> ContainerId {
    ContainerId::from_bytes([nth; 32])
}

/// Rules as the kernel tells them.
fn rules(text: &str) -> Ruleset {
    let text = text.to_owned();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{text}");
        seen::ruleset(&mut Socket::open(Family::Netfilter).unwrap()).unwrap()
    })
    .join()
    .unwrap()
}

fn link(index: u32, name: &str, kind: &str) -> Detail {
    Detail {
        index,
        name: name.into(),
        kind: kind.into(),
        up: true,
        carrier: true,
        mtu: 1500,
        ..Detail::default()
    }
}

fn sandbox(peer: u32, address: &str) -> Space {
    let eth0 = Detail { peer: Some(peer), peer_elsewhere: true, ..link(2, "eth0", "veth") };
    let listener = Listener { protocol: 6, address: [0, 0, 0, 0].into(), port: 80 };
    Space {
        links: vec![link(1, "lo", ""), eth0],
        addresses: vec![(1, "127.0.0.1/8".parse().unwrap()), (2, address.parse().unwrap())],
        listeners: vec![listener],
        ..Space::default()
    }
}

struct World {
    facts: Facts,
    question: Question,
}

fn world() -> World {
    let port = |index, name: &str, master| Detail {
        master: Some(master),
        peer: Some(2),
        port: Some(BridgePort { state: 3, isolated: false, hairpin: false }),
        ..link(index, name, "veth")
    };
    let mut host = Space {
        links: vec![
            link(1, "lo", ""),
            link(2, "eth0", ""),
            link(3, "red", "bridge"),
            port(4, "wfp-a", 3),
            port(5, "wfp-b", 3),
            link(6, "blue", "bridge"),
            port(7, "wfp-c", 6),
        ],
        ..Space::default()
    };
    for (index, net) in [(1, "127.0.0.1/8"), (2, "192.0.2.1/24"), (3, "10.1.0.1/24"), (6, "10.2.0.1/24")] {
        host.addresses.push((index, net.parse().unwrap()));
    }
    host.sysctls.insert("net.ipv4.conf.eth0.forwarding".into(), "1".into());
    let mut facts = Facts::default();
    facts.spaces.insert(Place::Host, Some(host));
    let mut known = Known::default();
    for (nth, peer, name, address) in
        [(A, 4, "a", "10.1.0.2"), (B, 5, "b", "10.1.0.3"), (C, 7, "c", "10.2.0.2")]
    {
        facts.spaces.insert(Place::Sandbox(id(nth)), Some(sandbox(peer, &format!("{address}/24"))));
        known.sandboxes.insert(id(nth), name.into());
        known.addresses.insert(address.parse().unwrap(), id(nth));
    }
    let from = End::Sandbox { id: id(A), address: None };
    let to = End::Sandbox { id: id(B), address: None };
    World { facts, question: Question { from, to, transport: Transport::Tcp, port: Some(80), known } }
}

/// The routes of this world: what is local, on a link's subnet, or by the default.
fn route(facts: &Facts, place: Place, lookup: &Lookup) -> Way {
    let space = facts.spaces[&place].as_ref().unwrap();
    if space.owns(lookup.to) {
        return Way::Local { source: Some(lookup.to) };
    }
    let source = |index| space.on(index, false).next().map(|net| net.addr());
    let near = space.addresses.iter().find(|(_, net)| net.contains(&lookup.to)).map(|(index, _)| *index);
    let out = |link: u32, via| {
        if lookup.output.is_some_and(|want| want != link) {
            return Way::Refused(libc::ENETUNREACH);
        }
        Way::Out { link, via, source: source(link), table: 254 }
    };
    match (near, place) {
        (Some(index), _) => out(index, None),
        (None, Place::Host) => out(2, Some([192, 0, 2, 254].into())),
        (None, Place::Sandbox(_)) => {
            let net = space.on(2, false).next().unwrap();
            out(2, net.hosts().next())
        }
    }
}

impl World {
    fn host(&mut self) -> &mut Space {
        self.facts.spaces.get_mut(&Place::Host).unwrap().as_mut().unwrap()
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn between(mut self, from: End, to: End) -> Self {
        (self.question.from, self.question.to) = (from, to);
        self
    }

    fn explained(mut self) -> Explanation {
        for _ in 0..50 {
            match walk(&self.question, &self.facts) {
                Ok(explanation) => return explanation,
                Err(Ask::Space(place)) => {
                    self.facts.spaces.insert(place, None);
                }
                Err(Ask::Connections(place, service)) => {
                    self.facts.connections.insert((place, service), Vec::new());
                }
                Err(Ask::Way(place, lookup)) => {
                    let way = route(&self.facts, place, &lookup);
                    self.facts.ways.insert((place, lookup), way);
                }
            }
        }
        panic!("asks for ever");
    }

    /// Verdict, and a part of the reason.
    #[track_caller]
    fn check(self, verdict: Verdict, reason: &str) {
        let seen = self.explained();
        assert_eq!(seen.verdict, verdict, "{seen:#?}");
        assert!(seen.reason.contains(reason), "{reason:?} in {seen:#?}");
    }
}

fn outside() -> End {
    End::Outside { link: None, address: None }
}

fn container(nth: u8) -> End {
    End::Sandbox { id: id(nth), address: None }
}

fn to_host() -> End {
    End::Host { address: None }
}

use Verdict::{Dropped, Passes, Unclear};

#[test]
fn without_rules_everything_passes() {
    world().check(Passes, "reaches container b");
    world().between(container(A), container(C)).check(Passes, "reaches container c");
    world().between(to_host(), container(A)).check(Passes, "reaches container a");
    world().between(outside(), container(A)).check(Passes, "reaches container a");
    let seen = world().between(container(A), outside()).explained();
    assert_eq!(seen.verdict, Unclear, "nobody translates: {seen:#?}");
    assert!(seen.reason.contains("knows the way back to 10.1.0.2"), "{}", seen.reason);
}

#[test]
fn what_a_bridge_does_not_pass() {
    let ports = |isolated: bool| {
        world().with(|w| {
            for link in w.host().links.iter_mut().filter(|l| l.name.starts_with("wfp-")) {
                link.port = Some(BridgePort { state: 3, isolated, hairpin: false });
            }
        })
    };
    ports(false).check(Passes, "");
    ports(true).check(Dropped, "isolated");
    ports(true).between(to_host(), container(A)).check(Passes, "");
    let link = |name: &'static str, change: fn(&mut Detail)| {
        world().with(|w| w.host().links.iter_mut().filter(|l| l.name == name).for_each(change))
    };
    link("red", |l| l.up = false).check(Dropped, "red is down");
    link("wfp-b", |l| l.up = false).check(Dropped, "wfp-b is down");
    link("wfp-a", |l| l.master = Some(6)).check(Dropped, "nobody on bridge blue has 10.1.0.3");
    link("wfp-b", |l| l.master = Some(6)).check(Dropped, "nobody on bridge red");
    link("wfp-b", |l| l.port = Some(BridgePort::default())).check(Dropped, "does not forward");
    let stranger = world().with(|w| {
        w.question.to = End::Host { address: Some("10.1.0.77".parse().unwrap()) };
    });
    stranger.check(Dropped, "nobody on bridge red has 10.1.0.77");
    let stranger = world().with(|w| {
        w.host().links.push(Detail { master: Some(3), ..link_of("eth9") });
        w.question.to = End::Host { address: Some("10.1.0.77".parse().unwrap()) };
    });
    stranger.check(Unclear, "may be behind port eth9");
}

fn link_of(name: &str) -> Detail {
    link(9, name, "")
}

#[test]
fn who_does_not_run_or_listen() {
    let stopped = |nth: u8| world().with(|w| drop(w.facts.spaces.insert(Place::Sandbox(id(nth)), None)));
    stopped(A).check(Dropped, "does not run");
    stopped(B).check(Dropped, "does not run");
    world().with(|w| w.question.port = Some(81)).check(Dropped, "nothing listens on tcp port 81");
    world().with(|w| w.question.transport = Transport::Udp).check(Dropped, "nothing listens on udp port 80");
    world().with(|w| w.question.transport = Transport::Icmp).check(Passes, "");
    let only = |address: &str| {
        world().with(|w| {
            let b = w.facts.spaces.get_mut(&Place::Sandbox(id(B))).unwrap().as_mut().unwrap();
            b.listeners = vec![Listener { protocol: 6, address: address.parse().unwrap(), port: 80 }];
        })
    };
    only("127.0.0.1").check(Dropped, "on 127.0.0.1 only");
    only("10.1.0.3").check(Passes, "");
    only("::").check(Passes, "");
}

/// A forward chain of a foreign table, on a packet from a to c (port 80).
#[track_caller]
fn forwarded(body: &str, verdict: Verdict, reason: &str) {
    let text = format!(
        "table ip foreign {{\n set nets {{ type ipv4_addr; flags interval; elements = {{ 10.2.0.0/16, 10.7.0.1-10.7.0.9 }} }}\n \
         map verdicts {{ type inet_service : verdict; elements = {{ 80 : drop, 443 : accept }} }}\n \
         map pairs {{ type ipv4_addr . inet_service : verdict; flags interval; elements = {{ 10.2.0.0/24 . 70-90 : drop }} }}\n \
         chain sub {{\n ip daddr 10.2.0.2 return\n ip saddr 10.2.0.2 return\n drop\n }}\n chain bad {{\n drop\n }}\n \
         chain forward {{\n type filter hook forward priority 10; policy accept;\n {body}\n }}\n}}\n"
    );
    let rules = rules(&text);
    world().with(|w| w.host().rules = rules).between(container(A), container(C)).check(verdict, reason);
}

#[test]
fn foreign_rules_are_understood() {
    forwarded("tcp dport 80 drop", Dropped, "ip foreign forward: tcp");
    forwarded("tcp dport 80 drop comment \"no web\"", Dropped, "(no web)");
    forwarded("tcp dport 81 drop", Passes, "");
    forwarded("udp dport 80 drop", Passes, "");
    forwarded("tcp dport 70-90 reject", Dropped, "tcp dport");
    forwarded("tcp dport { 22, 80 } drop", Dropped, "");
    forwarded("ct state new tcp dport != { 22, 80 } drop", Passes, "");
    forwarded("iifname \"red\" oifname \"blue\" drop", Dropped, "iifname \"red\" oifname \"blue\" drop");
    forwarded("iifname \"re*\" drop", Dropped, "iifname \"re*\"");
    forwarded("iifname \"eth0\" drop", Passes, "");
    forwarded("iifname { \"eth0\", \"red\" } drop", Dropped, "");
    forwarded("ip saddr 10.1.0.0/24 ip daddr 10.2.0.0/24 drop", Dropped, "ip saddr 10.1.0.0/24");
    forwarded("ct state new ip saddr != 10.1.0.0/24 drop", Passes, "");
    forwarded("ip saddr != 10.1.0.0/24 drop", Dropped, "the answer is lost");
    forwarded("ip daddr @nets drop", Dropped, "ip daddr @nets drop");
    forwarded("ip saddr @nets tcp flags syn drop", Dropped, "the answer is lost");
    forwarded("tcp dport vmap @verdicts", Dropped, "vmap @verdicts");
    forwarded("ip daddr . tcp dport vmap @pairs", Dropped, "");
    forwarded("ct state new drop", Dropped, "ct state new drop");
    forwarded("ct state established,related accept\ncounter drop", Dropped, "counter packets 0");
    forwarded("ct state invalid drop", Passes, "");
    forwarded("ct state new accept\ndrop", Dropped, "the answer is lost");
    forwarded("ct state vmap { established : accept, new : accept }\ndrop", Passes, "");
    forwarded("ct status dnat drop", Passes, "");
    forwarded("jump sub", Passes, "");
    forwarded("goto bad", Dropped, "ip foreign bad");
    forwarded("jump sub\njump bad", Dropped, "ip foreign bad");
    forwarded("return\ndrop", Passes, "");
    forwarded("accept\ndrop", Passes, "");
    forwarded("meta mark 1 drop", Passes, "");
    forwarded("meta mark set 1\nmeta mark 1 drop", Dropped, "meta mark");
    forwarded("fib daddr type local drop", Passes, "");
    forwarded("fib saddr . iif oif missing drop", Passes, "");
    forwarded("limit rate 5/second accept\ndrop", Passes, "");
    forwarded("meta l4proto != tcp drop", Passes, "");
    forwarded("ip protocol tcp drop", Dropped, "ip protocol tcp drop");
}

#[test]
fn what_is_not_known_is_said() {
    forwarded("tcp sport 1024-65535 drop", Dropped, "tcp sport");
    forwarded("tcp sport 5 drop", Passes, "");
    forwarded("ip dscp cs1 drop", Unclear, "cannot tell: rule");
    forwarded("meta skuid 0 drop", Unclear, "foreign forward");
    forwarded("meta cpu 1 accept\ndrop", Unclear, "cannot tell");
    forwarded("ip dscp cs1 tcp dport 81 drop", Passes, "");
    forwarded("numgen random mod 2 0 jump bad", Unclear, "cannot tell");
    forwarded("numgen random mod 2 0 jump sub", Passes, "");
}

#[test]
fn every_hook_and_every_table_counts() {
    let case = |text: &str, verdict: Verdict, reason: &str| {
        let rules = rules(text);
        world().with(|w| w.host().rules = rules).between(container(A), container(C)).check(verdict, reason);
    };
    let two = |second: &str| {
        format!(
            "table inet x {{\n chain f {{\n type filter hook forward priority -10; accept\n }}\n}}\n\
             table ip y {{\n chain f {{\n type filter hook forward priority 20; {second}\n }}\n}}\n"
        )
    };
    case(&two("policy drop;"), Dropped, "policy drop of chain ip y f");
    case(&two("policy accept;"), Passes, "");
    case("table ip6 x {\n chain f {\n type filter hook forward priority 0; policy drop;\n }\n}", Passes, "");
    case("table ip x {\n chain f {\n type filter hook input priority 0; policy drop;\n }\n}", Passes, "");
    case(
        "table ip x {\n chain f {\n type filter hook prerouting priority -300; tcp dport 80 drop\n }\n}",
        Dropped,
        "x f",
    );
    case(
        "table inet x {\n chain f {\n type filter hook postrouting priority 0; tcp dport 80 drop\n }\n}",
        Dropped,
        "x f",
    );
    case(
        "table bridge x {\n chain f {\n type filter hook forward priority 0; policy drop;\n }\n}",
        Passes,
        "",
    );
    for hook in ["ingress", "egress"] {
        let text = format!(
            "table netdev x {{\n chain f {{\n type filter hook {hook} device lo priority 0; policy drop;\n }}\n}}"
        );
        for (device, verdict) in [("red", Dropped), ("wfp-c", Dropped), ("eth0", Passes)] {
            let mut seen = rules(&text);
            for chain in seen.chains.values_mut() {
                chain.hook.as_mut().unwrap().devices = vec![device.into()];
            }
            let world = world().with(|w| w.host().rules = seen);
            world.between(container(A), container(C)).check(verdict, "");
        }
    }
    let early =
        "table ip x {\n chain f {\n type filter hook prerouting priority -300; ct state new drop\n }\n}";
    case(early, Passes, "");
    let later = "table ip x {\n chain f {\n type filter hook forward priority 0; iifname \"red\" ct state established drop\n }\n}";
    case(later, Dropped, "later packets are lost");
    let bridged =
        "table bridge x {\n chain f {\n type filter hook forward priority 0; ip daddr 10.1.0.3 drop\n }\n}";
    let bridged = rules(bridged);
    world().with(|w| w.host().rules = bridged).check(Dropped, "bridge x f");
    let ip = rules("table ip x {\n chain f {\n type filter hook forward priority 0; policy drop;\n }\n}");
    let both = |on: &str| {
        world().with(|w| {
            w.host().rules = ip.clone();
            w.host().sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), on.into());
        })
    };
    both("0").check(Passes, "");
    both("1").check(Dropped, "policy drop of chain ip x f");
    let inner =
        rules("table ip x {\n chain i {\n type filter hook input priority 0; tcp dport 80 drop\n }\n}");
    let inside = world().with(|w| {
        w.facts.spaces.get_mut(&Place::Sandbox(id(B))).unwrap().as_mut().unwrap().rules = inner;
    });
    inside.check(Dropped, "ip x i");
}

const PUBLISH: &str = "table ip nat {
    chain pre { type nat hook prerouting priority dstnat; fib daddr type local tcp dport 8080 dnat to 10.1.0.2:80; }
    chain out { type nat hook output priority -100; fib daddr type local tcp dport 8080 dnat to 10.1.0.2:80; }
    chain post { type nat hook postrouting priority srcnat; ip saddr 10.1.0.0/24 oifname \"eth0\" masquerade; }
}
table ip filter {
    chain f { type filter hook forward priority 0; policy drop; ct state established accept; ct status dnat accept; iifname \"red\" accept; }
}";

#[test]
fn translations_are_followed_there_and_back() {
    let lines = PUBLISH.replace("; ", ";\n").replace("{ ", "{\n").replace("; }", ";\n}");
    let rules = rules(&lines);
    let case = |from: End, to: End, port: u16| {
        world()
            .with(|w| {
                w.host().rules = rules.clone();
                w.question.port = Some(port);
            })
            .between(from, to)
    };
    let seen = case(outside(), to_host(), 8080).explained();
    assert_eq!(seen.verdict, Passes, "{seen:#?}");
    assert_eq!(seen.packet, "tcp 192.0.2.2 -> 192.0.2.1:8080");
    assert!(seen.hops.iter().any(|h| h.kind == weft_dataplane::insight::HopKind::Nat), "{seen:#?}");
    let back = seen.hops.iter().find(|h| h.answer && h.text.contains("translates it back")).unwrap();
    assert!(back.text.contains("192.0.2.1:8080 -> 192.0.2.2"), "{}", back.text);
    case(outside(), to_host(), 8081).check(Dropped, "nothing listens on tcp port 8081");
    case(outside(), container(A), 80).check(Dropped, "policy drop");
    let out = case(container(A), outside(), 443).explained();
    assert_eq!(out.verdict, Passes, "masqueraded: {out:#?}");
    assert!(out.reason.contains("leaves this host by eth0"), "{}", out.reason);
}

#[test]
fn parameters_of_the_kernel_are_named() {
    let refused = |errno: i32, parameter: Option<(&str, &str)>| {
        let mut world = world().between(outside(), container(A));
        if let Some((name, value)) = parameter {
            world.host().sysctls.insert(name.into(), value.into());
        }
        let to = "10.1.0.2".parse().unwrap();
        let (from, service) = (Some("192.0.2.2".parse().unwrap()), Some((6, 80)));
        let lookup = Lookup { to, from, input: Some(2), output: None, mark: 0, service };
        world.facts.ways.insert((Place::Host, lookup), Way::Refused(errno));
        world
    };
    refused(libc::EXDEV, Some(("net.ipv4.conf.eth0.rp_filter", "1"))).check(Dropped, "rp_filter");
    refused(libc::EHOSTUNREACH, Some(("net.ipv4.conf.eth0.forwarding", "0")))
        .check(Dropped, "ip_forward is off");
    refused(libc::EHOSTUNREACH, None).check(Dropped, "unreachable");
    refused(libc::EINVAL, None).check(Dropped, "martian");
    refused(libc::ENETUNREACH, None).check(Dropped, "no route");
    let full = world().between(outside(), container(A)).with(|w| {
        for name in ["count", "max"] {
            w.host().sysctls.insert(format!("net.netfilter.nf_conntrack_{name}"), "100".into());
        }
    });
    full.check(Dropped, "table of connections is full: 100 of 100");
}

const LEGACY: &str = "# Generated\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n\
    -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A FORWARD -s 10.1.0.0/24 -o blue -p tcp -m tcp --dport 80 -m comment --comment \"let it pass\" -j ACCEPT\n\
    -A FORWARD -i eth+ -j MINE\n-A MINE -p tcp -m tcp --dport 8000:9000 -j REJECT --reject-with icmp-port-unreachable\n\
    -A MINE -m owner --uid-owner 0 -j DROP\nCOMMIT\n";

#[test]
fn the_old_iptables_is_understood() {
    let case = |from: End, port: u16| {
        world()
            .with(|w| {
                legacy::parse(LEGACY, false, &mut w.host().rules);
                w.question.port = Some(port);
            })
            .between(from, container(C))
    };
    case(container(A), 80).check(Passes, "");
    case(container(A), 81).check(Dropped, "policy drop of chain ip iptables-legacy filter FORWARD");
    case(outside(), 8080).check(Dropped, "--dport 8000:9000 -j REJECT");
    let seen = case(outside(), 80).explained();
    assert_eq!(seen.verdict, Dropped, "the policy drops it, whatever the owner: {seen:#?}");
    assert!(
        seen.hops
            .iter()
            .any(|h| h.verdict == Unclear && h.rule.as_ref().is_some_and(|r| r.text.contains("--uid-owner")))
    );
}

#[test]
fn fuzz_legacy_tables() {
    weft_testkit::fuzz::run(
        "iptables-save",
        &[LEGACY.as_bytes().to_vec()],
        &["--dport", "-s", "!", "-j", "DNAT", "--to-destination", "*nat\n", ":A - [0:0]\n", "-A A "],
        |bytes| legacy::parse(&String::from_utf8_lossy(bytes), bytes.len() % 2 == 0, &mut Ruleset::default()),
    );
}

#[test]
fn rules_that_call_themselves_end() {
    let mut rules = Ruleset::default();
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:X - [0:0]\n-A FORWARD -j X\n-A X -j X\nCOMMIT\n";
    legacy::parse(text, false, &mut rules);
    let seen = world().with(|w| w.host().rules = rules).between(container(A), container(C)).explained();
    assert_ne!(seen.verdict, Dropped, "{seen:#?}");
}
