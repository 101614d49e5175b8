//! What is left of a container's network after a restart: all that it was given, and nothing that was changed inside.
//!
//! Numbers of namespaces are given out again, so a namespace is known here by a mark left in it: a route and a second address.

use crate::dsl::{IMG, T, cases};

/// Addresses, routes, MAC address.
const LOOK: [&str; 3] =
    ["sh", "-c", "ip -o addr show eth0 | grep -v fe80; ip route; ip link show eth0 | grep ether"];

/// A network of a case's own, `10.86.N.0/24`.
fn net(t: &T, n: u8) -> String {
    let (name, subnet) = (t.net("n"), format!("10.86.{n}.0/24"));
    t.docker(["network", "create", "--subnet", &subnet, &name]).ok();
    name
}

fn look(t: &T, c: &str) -> String {
    let out = t.docker([&["exec", c][..], &LOOK].concat()).ok().text();
    // Interfaces are numbered on the host.
    let plain = |line: &str| line.split_once(": eth0").map_or(line, |(_, rest)| rest).to_owned();
    out.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Leaves the mark; how it looked before.
fn mark(t: &T, c: &str) -> String {
    let before = look(t, c);
    t.docker(["exec", c, "ip", "addr", "add", "10.88.0.9/24", "dev", "eth0"]).ok();
    t.docker(["exec", c, "ip", "route", "add", "10.89.0.0/24", "dev", "eth0"]).ok();
    assert!(is_marked(t, c));
    before
}

fn is_marked(t: &T, c: &str) -> bool {
    let out = look(t, c);
    let marks = ["10.88.0.9", "10.89.0.0"].map(|text| out.contains(text));
    assert_eq!(marks[0], marks[1], "all of it or nothing: {out}");
    marks[0]
}

/// A container that may change its network.
fn sleeper(t: &T, name: &str, n: &str, flags: &[&str]) -> String {
    t.sleeper(name, [&["--cap-add", "NET_ADMIN", "--network", n][..], flags].concat())
}

/// As by the kernel, or by somebody on the host; until its policy has brought it back.
pub fn kill_process(t: &T, c: &str) {
    let old = t.inspect(c, "{{.State.Pid}}");
    t.host(["busybox", "kill", "-9", &old]).ok();
    t.until("runs again", || {
        let now = t.inspect(c, "{{.State.Running}} {{.State.Restarting}} {{.State.Pid}}");
        now.strip_prefix("true false ").is_some_and(|pid| pid != "0" && pid != old)
    });
}

cases! {
    fn a_restart_gives_a_new_namespace(t) {
        let n = net(t, 1);
        let c = sleeper(t, "c", &n, &[]);
        let before = mark(t, &c);
        t.docker(["exec", &c, "ip", "link", "set", "eth0", "mtu", "1400"]).ok();
        t.docker(["restart", "-t", "0", &c]).ok();
        assert_eq!(look(t, &c), before);
        t.docker(["exec", &c, "cat", "/sys/class/net/eth0/mtu"]).ok().is("1500");
    }
    fn a_restart_by_policy_gives_a_new_namespace(t) {
        let n = net(t, 2);
        for policy in ["always", "unless-stopped", "on-failure"] {
            let c = sleeper(t, policy, &n, &["--restart", policy]);
            let before = mark(t, &c);
            kill_process(t, &c);
            assert_eq!(look(t, &c), before, "{policy}");
            // And the next time.
            mark(t, &c);
            kill_process(t, &c);
            assert_eq!(look(t, &c), before, "{policy}");
        }
    }
    fn a_start_after_an_end_finds_a_new_namespace(t) {
        let n = net(t, 3);
        let c = t.ctr("c");
        let script = "ip addr show lo | grep 10.88 && exit 7; ip addr add 10.88.0.9/32 dev lo || exit 8; exit 5";
        t.docker(["run", "--name", &c, "--cap-add", "NET_ADMIN", "--network", &n, IMG, "sh", "-c", script]).exits(5);
        for _ in 0..3 {
            t.docker(["start", "-a", &c]).exits(5);
        }
    }
    fn a_restart_without_networks_gives_a_new_namespace(t) {
        let c = sleeper(t, "c", "none", &["--restart", "always"]);
        let addresses = || t.docker(["exec", &c, "ip", "-o", "addr", "show", "lo"]).ok().text();
        let before = addresses();
        for again in [|t: &T, c: &str| drop(t.docker(["restart", "-t", "0", c]).ok()), kill_process] {
            t.docker(["exec", &c, "ip", "addr", "add", "10.88.0.9/32", "dev", "lo"]).ok();
            assert_ne!(addresses(), before);
            again(t, &c);
            assert_eq!(addresses(), before);
        }
    }
    fn sysctls_are_set_anew(t) {
        let n = net(t, 4);
        let c = sleeper(t, "c", &n, &["--sysctl", "net.ipv4.ip_default_ttl=99"]);
        let seen = || t.docker(["exec", &c, "sh", "-c", "cd /proc/sys/net/ipv4; cat ip_default_ttl ip_no_pmtu_disc"]).ok().text();
        assert_eq!(seen(), "99\n0");
        // The container may not; somebody on the host may.
        let pid = t.inspect(&c, "{{.State.Pid}}");
        t.host(["nsenter", "-n", "-t", &pid, "sh", "-c", "cd /proc/sys/net/ipv4; echo 33 > ip_default_ttl; echo 1 > ip_no_pmtu_disc"]).ok();
        assert_eq!(seen(), "33\n1");
        t.docker(["restart", "-t", "0", &c]).ok();
        assert_eq!(seen(), "99\n0");
    }
    fn published_ports_and_names_go_on(t) {
        let (n, c) = (net(t, 5), t.ctr("c"));
        let script = "mkdir -p /www; echo here > /www/index.html; exec httpd -f -p 80 -h /www";
        t.docker(["run", "-d", "--name", &c, "--network", &n, "--restart", "always", "-p", "18571:80", IMG, "sh", "-c", script]).ok();
        let peer = sleeper(t, "peer", &n, &[]);
        let get = ["timeout", "4", "wget", "-q", "-O-"];
        let reached = || {
            t.until("published", || t.host([&["busybox"][..], &get, &["http://127.0.0.1:18571/"]].concat()).text() == "here");
            let url = format!("http://{c}/");
            t.until("by name", || t.docker([&["exec", &peer][..], &get, &[&url]].concat()).text() == "here");
            // Its own resolver, in its new namespace.
            t.docker(["exec", &c, "nslookup", &peer, "127.0.0.11"]).ok().has("10.86.5.");
        };
        reached();
        t.docker(["restart", "-t", "0", &c]).ok();
        reached();
        kill_process(t, &c);
        reached();
    }
    fn who_shares_a_namespace_keeps_the_one_it_joined(t) {
        let n = net(t, 6);
        let c = sleeper(t, "c", &n, &["--restart", "always"]);
        let sharer = sleeper(t, "s", &format!("container:{c}"), &[]);
        let links = |c: &str| t.docker(["exec", c, "ip", "-o", "link"]).ok().text().lines().count();
        let before = mark(t, &sharer);
        assert!(is_marked(t, &c), "one namespace");
        for again in [|t: &T, c: &str| drop(t.docker(["restart", "-t", "0", c]).ok()), kill_process] {
            again(t, &c);
            assert_eq!(look(t, &c), before);
            // Its interfaces went with the run they were for.
            t.docker(["exec", &sharer, "ip", "link", "show", "eth0"]).fails();
            assert_eq!((links(&sharer), links(&c)), (1, 2));
            t.docker(["restart", "-t", "0", &sharer]).ok();
            assert_eq!(look(t, &sharer), before);
            mark(t, &sharer);
            assert!(is_marked(t, &c), "one namespace again");
        }
    }
    fn several_networks_come_back(t) {
        let (a, b) = (net(t, 7), t.net("second"));
        t.docker(["network", "create", "--subnet", "10.86.8.0/24", &b]).ok();
        let c = sleeper(t, "c", &a, &[]);
        t.docker(["network", "connect", "--ip", "10.86.8.77", &b, &c]).ok();
        // Which of them comes first is not promised.
        let all = || t.docker(["exec", &c, "sh", "-c", "{ ip addr | grep 'inet '; ip route; } | sort"]).ok().text();
        let before = all();
        mark(t, &c);
        t.docker(["restart", "-t", "0", &c]).ok();
        assert_eq!(all(), before);
    }
    fn the_hosts_network_is_left_alone(t) {
        let c = t.sleeper("c", ["--network", "host"]);
        let links = || t.docker(["exec", &c, "ip", "-o", "link", "show", "lo"]).ok().text();
        let before = links();
        t.docker(["restart", "-t", "0", &c]).ok();
        assert_eq!(links(), before);
    }
}
