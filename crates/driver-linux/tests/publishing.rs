//! Publishing and the host's firewall: rows of ports, what is bound to loopback, policies, the user's own rules, firewalls of
//! others that come and go under traffic, and a table that somebody deletes.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    io::{ErrorKind, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    HOST4, HOST6, Host, LAN4, LAN6, ask_udp, connect, connect_from,
    host_rules::{feed, furnished, held, listed, nft},
    ip, serve_tcp, serve_udp, spawn,
};
use weft_dataplane::{Driver, Step};
use weft_model::{
    Protocol::{Tcp, Udp},
    PublishPolicy,
};

#[test]
fn a_row_of_ports_is_one_element_and_each_leads_to_its_own() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let a = host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    let b = host.container(2, red, &["10.1.0.3/24"]);
    host.publish_row(Tcp, "0.0.0.0", 9000, 9999, "10.1.0.2");
    host.publish_row(Udp, HOST4, 9000, 9999, "10.1.0.2");
    host.publish_row(Tcp, "::", 9000, 9999, "fd01::2");
    host.converge();
    host.assert_settled();
    for port in [9000, 9500, 9999] {
        serve_tcp(&a, &format!("0.0.0.0:{port}"));
        serve_udp(&a, &format!("0.0.0.0:{port}"));
        serve_tcp(&a, &format!("[fd01::2]:{port}"));
    }
    let lan = host.lan.clone();
    // The addresses of IPv6 are first made sure of (DAD).
    assert_eq!(patient(&lan, &format!("[{HOST6}]:9000")), Ok(ip(LAN6)));
    for port in [9000, 9500, 9999] {
        assert_eq!(connect_from(&lan, &format!("{HOST4}:{port}")), Ok(ip(LAN4)), "{port}");
        assert_eq!(connect_from(&lan, &format!("[{HOST6}]:{port}")), Ok(ip(LAN6)), "{port}");
        assert_eq!(ask_udp(&lan, &format!("{HOST4}:{port}")), Ok(ip(LAN4)), "{port}");
        assert_eq!(connect(&format!("127.0.0.1:{port}")), Ok(ip("10.1.0.1")), "{port}");
        assert_eq!(connect_from(&a, &format!("{HOST4}:{port}")), Ok(ip("10.1.0.1")), "itself, {port}");
        assert_eq!(connect_from(&b, &format!("{HOST4}:{port}")), Ok(ip("10.1.0.1")), "neighbour, {port}");
    }
    let refused = Err(ErrorKind::ConnectionRefused);
    assert_eq!(connect_from(&lan, &format!("{HOST4}:9001")), refused, "the container's own refusal");
    for port in [8999, 10000] {
        assert_eq!(connect_from(&lan, &format!("{HOST4}:{port}")), refused, "beside the row, {port}");
    }
    let text = listed(&["list", "map", "inet", "weft", "publish4anyrows"]);
    assert_eq!(text.matches("10.1.0.2").count(), 1, "{text}");
    // Half of the row goes, and with it the connections through it.
    let (kept, lost) = (held(&a, &lan, HOST4, 9100), held(&a, &lan, HOST4, 9600));
    host.desired.publishes.retain(|p| p.host_ip.is_ipv6());
    host.publish_row(Tcp, "0.0.0.0", 9000, 9400, "10.1.0.2");
    let done = host.converge().done;
    assert!(done.iter().all(|step| matches!(step, Step::ChangePublishes { .. })), "{done:?}");
    host.assert_settled();
    assert!(lost.ended(), "unpublishing ends connections");
    assert!(!kept.ended(), "and no other");
    assert_eq!(connect_from(&lan, &format!("{HOST4}:9000")), Ok(ip(LAN4)));
    assert_eq!(connect_from(&lan, &format!("{HOST4}:9500")), refused);
    assert!(ask_udp(&lan, &format!("{HOST4}:9000")).is_err());
}

#[test]
fn what_is_bound_to_loopback_is_out_of_reach_from_the_lan() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    let b = host.container(2, red, &["10.1.0.3/24"]);
    host.publish(Tcp, "127.0.0.1", 8082, "10.1.0.2", 80);
    host.publish_row(Tcp, "127.0.0.1", 9000, 9009, "10.1.0.2");
    host.converge();
    serve_tcp(&a, "0.0.0.0:80");
    serve_tcp(&a, "0.0.0.0:9005");
    assert_eq!(connect("127.0.0.1:8082"), Ok(ip("10.1.0.1")));
    assert_eq!(connect("127.0.0.1:9005"), Ok(ip("10.1.0.1")));
    let lan = host.lan.clone();
    host.lan_routes_to_host();
    for there in
        [format!("{HOST4}:8082"), format!("{HOST4}:9005"), "10.1.0.1:8082".into(), "10.1.0.1:9005".into()]
    {
        assert!(connect_from(&lan, &there).is_err(), "from the LAN, {there}");
        assert!(connect_from(&b, &there).is_err(), "from a neighbour, {there}");
    }
    assert!(connect_from(&lan, "10.1.0.2:80").is_err(), "by a route to the container itself");
    // With 127/8 routed to the host by wire: see loopback_is_out_of_reach_by_wire for single ports; here a row.
    host.inside(&lan, || {
        for scope in ["all", "eth0"] {
            weft_sys::sysctl::write(&format!("net.ipv4.conf.{scope}.route_localnet"), "1").unwrap();
        }
        feed("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"], "");
        feed("ip", &["route", "add", "127.0.0.0/8", "via", HOST4, "dev", "eth0"], "");
    });
    assert!(connect_from(&lan, "127.0.0.1:9005").is_err(), "by a forged route");
}

#[test]
fn deny_keeps_other_hosts_out_and_no_one_else() {
    let (mut host, a) = furnished();
    let lan = host.lan.clone();
    assert_eq!(connect_from(&lan, &format!("{HOST4}:8080")), Ok(ip(LAN4)));
    host.desired.publish_policy = PublishPolicy::Deny;
    host.converge();
    host.assert_settled();
    assert!(connect_from(&lan, &format!("{HOST4}:8080")).is_err());
    assert!(connect_from(&lan, &format!("[{HOST6}]:8080")).is_err());
    assert!(ask_udp(&lan, &format!("{HOST4}:53")).is_err());
    assert!(connect("127.0.0.1:8080").is_ok(), "the host itself");
    assert!(connect(&format!("{HOST4}:8080")).is_ok(), "the host itself");
    assert!(connect_from(&a, &format!("{HOST4}:8080")).is_ok(), "containers");
    host.desired.publish_policy = PublishPolicy::Open;
    host.converge();
    assert_eq!(connect_from(&lan, &format!("{HOST4}:8080")), Ok(ip(LAN4)));
}

/// As ufw writes it, cut to what matters: incoming packets are dropped but for what was allowed.
const UFW: &str = "*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
:ufw-after-input - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-user-input
-A INPUT -j ufw-after-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-user-input -p tcp --dport 8080 -j ACCEPT
-A ufw-user-input -p udp --dport 53 -j ACCEPT
COMMIT
";

#[test]
fn host_firewall_leaves_published_ports_to_the_rules_for_incoming_packets() {
    let (mut host, a) = furnished();
    host.publish_row(Tcp, "0.0.0.0", 9000, 9009, "10.1.0.2");
    host.desired.publish_policy = PublishPolicy::HostFirewall;
    host.converge();
    host.assert_settled();
    serve_tcp(&a, "0.0.0.0:9005");
    let lan = host.lan.clone();
    feed("iptables-restore", &[], UFW);
    let first = Instant::now();
    assert_eq!(
        patient(&lan, &format!("{HOST4}:8080")),
        Ok(ip(LAN4)),
        "ufw allow 8080/tcp; the address is kept"
    );
    assert!(
        first.elapsed() > Duration::from_millis(500),
        "asked once: the first SYN went to the host's rules"
    );
    let second = Instant::now();
    assert_eq!(connect_from(&lan, &format!("{HOST4}:8080")), Ok(ip(LAN4)));
    assert!(second.elapsed() < Duration::from_millis(500), "and then it is known");
    assert!(patient(&lan, &format!("{HOST4}:8081")).is_err(), "nobody allowed 8081");
    assert!(patient(&lan, &format!("{HOST4}:9005")).is_err(), "nor the row");
    let udp = || (0..3).find_map(|_| ask_udp(&lan, &format!("{HOST4}:53")).ok());
    assert_eq!(udp(), Some(ip(LAN4)));
    assert!(connect("127.0.0.1:8081").is_ok(), "the host itself is not asked");
    assert!(connect_from(&a, &format!("{HOST4}:8081")).is_ok(), "nor are containers");
    feed(
        "iptables-restore",
        &["--noflush"],
        "*filter\n-I INPUT -p tcp --dport 9000:9009 -j ACCEPT\nCOMMIT\n",
    );
    assert_eq!(patient(&lan, &format!("{HOST4}:9005")), Ok(ip(LAN4)));
    host.assert_settled();
}

/// As `connect_from`, but it waits for a second SYN and a third.
fn patient(from: &Path, address: &str) -> Result<std::net::IpAddr, ErrorKind> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    spawn(from, move || {
        let ask = || {
            let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(2500))?;
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

#[test]
fn the_firewall_changes_its_mind_and_is_asked_again() {
    let (mut host, _a) = furnished();
    host.desired.publish_policy = PublishPolicy::HostFirewall;
    host.driver().watch(Box::new(|| {})).unwrap();
    host.converge();
    let lan = host.lan.clone();
    nft("table inet fw {
           chain input {
             type filter hook input priority 0; policy drop
             tcp dport 8080 accept
           }
         }");
    assert!(patient(&lan, &format!("{HOST4}:8080")).is_ok());
    nft("flush chain inet fw input");
    std::thread::sleep(Duration::from_millis(200));
    assert!(patient(&lan, &format!("{HOST4}:8080")).is_err(), "whom it let in before it may not let in now");
}

#[test]
fn who_asks_while_the_firewall_changes_all_the_time_gets_in() {
    let (mut host, _a) = furnished();
    host.desired.publish_policy = PublishPolicy::HostFirewall;
    host.driver().watch(Box::new(|| {})).unwrap();
    host.converge();
    let lan = host.lan.clone();
    nft("table inet fw {
           set banned { type ipv4_addr; }
           chain input {
             type filter hook input priority 0; policy drop
             tcp dport 8080 ip saddr != @banned accept
           }
         }");
    // Faster than a client asks again (RFC 6298: one second).
    let stop = Arc::new(AtomicBool::new(false));
    let changes = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                nft(
                    "add element inet fw banned { 192.0.2.99 }; delete element inet fw banned { 192.0.2.99 }",
                );
                std::thread::sleep(Duration::from_millis(300));
            }
        })
    };
    let came = (0..3).map(|_| patient(&lan, &format!("{HOST4}:8080"))).collect::<Vec<_>>();
    stop.store(true, Ordering::Relaxed);
    changes.join().unwrap();
    assert!(came.iter().all(Result::is_ok), "{came:?}");
}

#[test]
fn who_is_let_in_to_one_address_is_not_let_in_to_another() {
    let (mut host, _a) = furnished();
    host.desired.publish_policy = PublishPolicy::HostFirewall;
    host.converge();
    let lan = host.lan.clone();
    feed("ip", &["address", "add", "192.0.2.3/24", "dev", "eth0"], "");
    nft("table inet fw {
           chain input {
             type filter hook input priority 0; policy drop
             ip daddr 192.0.2.1 tcp dport 8080 accept
           }
         }");
    assert!(patient(&lan, &format!("{HOST4}:8080")).is_ok());
    assert!(patient(&lan, "192.0.2.3:8080").is_err());
}

/// What is sent to a link-local address cannot be forwarded: refused at once is better than lost.
#[test]
fn link_local_addresses_of_the_host_publish_nothing() {
    let (host, _a) = furnished();
    let lan = host.lan.clone();
    assert_eq!(patient(&lan, &format!("[{HOST6}]:8080")), Ok(ip(LAN6)));
    let text = feed("ip", &["-6", "-o", "address", "show", "dev", "eth0", "scope", "link"], "");
    let address = text.split_whitespace().find(|word| word.starts_with("fe80:")).unwrap();
    let address = address.split('/').next().unwrap().parse().unwrap();
    let refused = host.inside(&lan, move || {
        let scope = nix::net::if_::if_nametoindex("eth0").unwrap();
        let to = std::net::SocketAddrV6::new(address, 8080, 0, scope).into();
        // An address that the kernel still looks for twins of (RFC 4862, section 5.4) does not answer at all.
        let begun = Instant::now();
        loop {
            let told = std::net::TcpStream::connect_timeout(&to, common::WAIT).map_err(|e| e.kind()).err();
            if told != Some(ErrorKind::TimedOut) || begun.elapsed() > Duration::from_secs(10) {
                break told;
            }
        }
    });
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
}

#[test]
fn the_users_chains_decide_first_and_survive() {
    let (mut host, _a) = furnished();
    let lan = host.lan.clone();
    host.lan_routes_to_host();
    nft("add set inet weft user_friends { type ipv4_addr; elements = { 192.0.2.200 }; }
         add chain inet weft user_mine
         add rule inet weft user_mine ip saddr @user_friends accept
         add rule inet weft user_forward jump user_mine
         add rule inet weft user_forward meta l4proto tcp ct original proto-dst 8081 ip saddr { 192.0.2.9, 192.0.2.10 } drop
         add rule inet weft user_publish tcp dport 8080 ip saddr 192.0.2.9 drop");
    let holds = |when: &str| {
        let text = listed(&["list", "table", "inet", "weft"]);
        assert!(
            text.contains("jump user_mine") && text.contains("elements = { 192.0.2.200 }"),
            "{when}: {text}"
        );
        assert!(connect_from(&lan, &format!("{HOST4}:8080")).is_err(), "{when}: dropped before translation");
        assert!(connect_from(&lan, &format!("{HOST4}:8081")).is_err(), "{when}: dropped before our accept");
        assert_eq!(connect_from(&lan, &format!("[{HOST6}]:8080")), Ok(ip(LAN6)), "{when}: others pass");
    };
    assert_eq!(patient(&lan, &format!("[{HOST6}]:8080")), Ok(ip(LAN6)), "once IPv6 is sure of its addresses");
    host.assert_settled();
    holds("at once");
    host.segment(2, &["10.2.0.1/24"]);
    let done = host.converge().done;
    assert!(done.iter().any(|s| matches!(s, Step::ReplaceRules { .. })), "{done:?}");
    host.assert_settled();
    holds("after all of ours was replaced");
    assert!(connect_from(&lan, "10.1.0.2:80").is_err(), "isolation");
    nft("add rule inet weft user_forward ip daddr 10.1.0.2 tcp dport 80 accept");
    assert!(connect_from(&lan, "10.1.0.2:80").is_ok(), "the user's accept comes before our drop");
    // Nothing of ours is left, all of theirs is.
    let generation = host.desired.generation;
    host.desired = weft_dataplane::Desired { generation, ..Default::default() };
    host.converge();
    host.assert_settled();
    let text = listed(&["list", "table", "inet", "weft"]);
    assert!(text.contains("jump user_mine") && !text.contains("hook"), "{text}");
    nft("delete table inet weft");
    host.assert_settled();
}

/// Visitors of a published port, one request after another, from when it is made until it is asked.
struct Visitors {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU32>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

fn visit(from: &Path, address: &'static str) -> Visitors {
    let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&good));
    let thread = spawn(from, move || {
        let mut bad = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            match connect(address) {
                Ok(_) => drop(counted.fetch_add(1, Ordering::Relaxed)),
                Err(error) => bad.push(format!("{error:?}")),
            }
        }
        bad
    });
    Visitors { stop, good, thread }
}

impl Visitors {
    /// At least so many more have come.
    fn more(&self, count: u32) {
        let goal = self.good.load(Ordering::Relaxed) + count;
        let begun = Instant::now();
        while self.good.load(Ordering::Relaxed) < goal {
            assert!(begun.elapsed() < Duration::from_secs(10), "nobody gets through");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// As firewalld writes it, cut to what matters.
const FIREWALLD: &str = "table inet firewalld
delete table inet firewalld
table inet firewalld {
  chain filter_INPUT { type filter hook input priority 10; policy accept;
    ct state { established, related } accept; iifname \"lo\" accept; tcp dport 22 accept; reject with icmpx admin-prohibited; }
  chain filter_FORWARD { type filter hook forward priority 10; policy accept;
    ct state { established, related } accept; ct status dnat accept; iifname \"wf*\" accept; reject with icmpx admin-prohibited; }
  chain nat_POSTROUTING { type nat hook postrouting priority 110; policy accept; }
  chain nat_PREROUTING { type nat hook prerouting priority -90; policy accept; }
}";

#[test]
fn firewalls_of_others_come_and_go_and_no_visitor_notices() {
    let (host, a) = furnished();
    let lan = host.lan.clone();
    let visitors = visit(&lan, "192.0.2.1:8080");
    serve_tcp(&lan, "0.0.0.0:80");
    visitors.more(5);
    for _ in 0..5 {
        feed("iptables-restore", &[], UFW);
        visitors.more(5);
        nft(FIREWALLD);
        visitors.more(5);
        assert!(connect_from(&a, &format!("{LAN4}:80")).is_ok(), "the way out");
        nft(FIREWALLD);
        feed("iptables-restore", &[], UFW);
        visitors.more(5);
        nft("delete table inet firewalld");
        feed("iptables", &["-F"], "");
        feed("iptables", &["-P", "INPUT", "ACCEPT"], "");
        feed("iptables-legacy-restore", &[], UFW);
        visitors.more(5);
        feed("iptables-legacy", &["-F"], "");
        feed("iptables-legacy", &["-P", "INPUT", "ACCEPT"], "");
    }
    assert_eq!(visitors.failures(), Vec::<String>::new());
    host.assert_settled();
}

#[test]
fn a_foreign_forward_drop_has_the_last_word() {
    let (host, _a) = furnished();
    let lan = host.lan.clone();
    feed("iptables-legacy", &["-P", "FORWARD", "DROP"], "");
    assert!(connect_from(&lan, &format!("{HOST4}:8080")).is_err());
    let let_in = ["-I", "FORWARD", "-m", "conntrack", "--ctorigdstport", "8080", "-j", "ACCEPT"];
    feed("iptables-legacy", &let_in, "");
    let known = ["-I", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"];
    feed("iptables-legacy", &known, "");
    assert_eq!(
        connect_from(&lan, &format!("{HOST4}:8080")),
        Ok(ip(LAN4)),
        "forwarding rules can name the host's port"
    );
    assert!(connect_from(&lan, &format!("{HOST4}:8081")).is_err());
    feed("iptables-legacy", &["-P", "FORWARD", "ACCEPT"], "");
    host.assert_settled();
}

#[test]
fn what_others_do_is_heard_at_once_and_what_we_do_is_not() {
    let (mut host, _a) = furnished();
    let (tell, heard) = std::sync::mpsc::channel();
    host.driver().watch(Box::new(move || tell.send(Instant::now()).unwrap_or_default())).unwrap();
    host.publish(Tcp, "0.0.0.0", 8090, "10.1.0.2", 80);
    host.segment(3, &["10.3.0.1/24"]);
    host.converge();
    nft("add table inet stranger; delete table inet stranger");
    assert!(heard.recv_timeout(Duration::from_millis(300)).is_err(), "our own doing, and another's table");
    for damage in ["delete table inet weft", "flush ruleset", "flush chain inet weft prerouting"] {
        let done = Instant::now();
        nft(damage);
        let at = heard.recv_timeout(Duration::from_secs(1)).unwrap();
        assert!(at - done < Duration::from_millis(300), "{damage}: {:?}", at - done);
        host.converger.forget();
        host.converge();
        host.assert_settled();
        while heard.recv_timeout(Duration::from_millis(150)).is_ok() {}
    }
    feed("ip", &["link", "set", "wfb010101010101", "down"], "");
    heard.recv_timeout(Duration::from_secs(1)).unwrap();
}

#[test]
fn one_element_more_is_well_below_a_millisecond() {
    let (mut host, _a) = furnished();
    host.publish_row(Tcp, "0.0.0.0", 20_000, 29_999, "10.1.0.2");
    host.converge();
    let mut times: Vec<Duration> = (0..100)
        .map(|n| {
            host.publish(Tcp, "0.0.0.0", 30_000 + n, "10.1.0.2", 80);
            host.desired.generation += 1;
            let steps = host.driver().plan(&host.desired, &host.driver().observe().unwrap());
            let [step] = &steps[..] else { panic!("{steps:?}") };
            let begun = Instant::now();
            host.driver().apply(step).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("one published port more: median {:?}, of 100 the slowest {:?}", times[50], times[99]);
    assert!(times[50] < Duration::from_millis(1), "{:?}", times[50]);
}
