//! Names: what the resolver in a container knows, and the files beside it.

use crate::dsl::{IMG, T, cases};

/// A network of the test with a subnet.
fn network(t: &T, subnet: &str) -> String {
    let n = t.net("n");
    t.docker(["network", "create", "--subnet", subnet, &n]).ok();
    n
}

/// What `nslookup` in a container says of a name, without the lines that name the server.
fn lookup(t: &T, container: &str, query: &[&str]) -> String {
    let args = [&["exec", container, "timeout", "10", "nslookup"][..], query].concat();
    t.docker(args).both().lines().skip(2).collect::<Vec<_>>().join("\n")
}

cases! {
    fn all_names_of_a_container(t) {
        let n = network(t, "10.78.1.0/24");
        let c = t.sleeper("a", ["--network", &n, "--network-alias", "Front", "--ip", "10.78.1.20"]);
        let short = &t.inspect(&c, "{{.Id}}")[..12];
        for name in [c.as_str(), "front", "FRONT", short, &format!("{c}.{n}"), &format!("front.{n}")] {
            let said = lookup(t, &c, &[name]);
            assert!(said.contains("10.78.1.20"), "{name}: {said}");
        }
    }
    fn host_names_resolve(t) [newer = "since 25"] {
        let n = network(t, "10.78.2.0/24");
        let c = t.sleeper("a", ["--network", &n, "--hostname", "named", "--ip", "10.78.2.20"]);
        assert!(lookup(t, &c, &["named"]).contains("10.78.2.20"));
    }
    fn a_name_of_several_takes_turns(t) {
        let n = network(t, "10.78.3.0/24");
        let a = t.sleeper("a", ["--network", &n, "--network-alias", "both", "--ip", "10.78.3.20"]);
        t.sleeper("b", ["--network", &n, "--network-alias", "both", "--ip", "10.78.3.21"]);
        let first = |_| {
            let said = lookup(t, &a, &["both"]);
            assert!(said.contains("10.78.3.20") && said.contains("10.78.3.21"), "{said}");
            said.find("10.78.3.20") < said.find("10.78.3.21")
        };
        let seen: std::collections::BTreeSet<bool> = (0..12).map(first).collect();
        assert_eq!(seen.len(), 2, "each is first at times");
    }
    fn both_families_and_reverse(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--ipv6", "--subnet", "10.78.4.0/24", "--subnet", "fd78:4::/64", &n]).ok();
        let c = t.sleeper("a", ["--network", &n, "--ip", "10.78.4.20", "--ip6", "fd78:4::20"]);
        let said = lookup(t, &c, &[&c]);
        assert!(said.contains("10.78.4.20") && said.contains("fd78:4::20"), "{said}");
        for ip in ["10.78.4.20", "fd78:4::20"] {
            let said = lookup(t, &c, &[ip]);
            assert!(said.contains(&format!("{c}.{n}")), "{ip}: {said}");
        }
    }
    fn names_of_other_networks_are_unknown(t) {
        let (a, b) = (t.net("a"), t.net("b"));
        t.docker(["network", "create", "--internal", &a]).ok();
        t.docker(["network", "create", "--internal", &b]).ok();
        let (one, other) = (t.sleeper("one", ["--network", &a]), t.sleeper("other", ["--network", &b]));
        t.docker(["exec", &one, "nslookup", &other]).fails();
        t.docker(["network", "connect", "--alias", "late", &a, &other]).ok();
        t.docker(["exec", &one, "nslookup", &other]).ok();
        t.docker(["exec", &one, "nslookup", "late"]).ok();
        t.docker(["network", "disconnect", &a, &other]).ok();
        t.docker(["exec", &one, "nslookup", &other]).fails();
    }
    fn links_are_their_owners(t) {
        let n = network(t, "10.78.5.0/24");
        let db = t.sleeper("db", ["--network", &n, "--ip", "10.78.5.20"]);
        let app = t.sleeper("app", ["--network", &n, "--link", &format!("{db}:store")]);
        assert!(lookup(t, &app, &["store"]).contains("10.78.5.20"));
        assert!(!lookup(t, &db, &["store"]).contains("10.78.5.20"));
        // What the default bridge's links leave in files and variables is not for these.
        let said = t.docker(["exec", &app, "sh", "-c", "grep -c store /etc/hosts; env"]).text();
        assert!(said.starts_with('0') && !said.contains("STORE_"), "{said}");
    }
    fn links_follow_a_new_name(t) {
        let db = t.sleeper("db", [""; 0]);
        let app = t.sleeper("app", ["--link", &format!("{db}:store")]);
        let other = t.ctr("other");
        t.docker(["rename", &db, &other]).ok();
        t.docker(["inspect", "-f", "{{.HostConfig.Links}}", &app]).ok().is(&format!("[/{other}:/{app}/store]"));
        t.docker(["restart", "-t", "0", &app]).ok();
        t.docker(["exec", &app, "cat", "/etc/hosts"]).ok().has("store");
    }
    fn links_lead_over_the_default_bridge(t) {
        let n = network(t, "10.78.14.0/24");
        let (db, far) = (t.sleeper("db", [""; 0]), t.sleeper("far", ["--network", &n]));
        t.docker(["network", "connect", "--ip", "10.78.14.20", &n, &db]).ok();
        let app = t.sleeper("app", ["--link", &format!("{db}:store")]);
        let hosts = t.docker(["exec", &app, "grep", "store", "/etc/hosts"]).text();
        let address = t.docker(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", &db]).text();
        assert!(hosts.starts_with(&address), "{hosts}");
        t.docker(["run", "--rm", "--link", &far, IMG, "true"]).fails().says("as it does not belong to the default network");
        // It comes back elsewhere, since somebody else has its address now.
        t.docker(["stop", "-t", "0", &db]).ok();
        t.sleeper("other", ["--network", "bridge"]);
        t.docker(["start", &db]).ok();
        let now = t.docker(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", &db]).text();
        assert_ne!(now, address);
        let said = || t.docker(["exec", &app, "grep", "store", "/etc/hosts"]).text();
        t.until(&format!("{now} instead of {address}"), || said().starts_with(&now));
    }
    fn names_that_sleep_stay_here(t) [newer = "dockerd asks the world for them"] {
        let n = network(t, "10.78.6.0/24");
        let c = t.sleeper("a", ["--network", &n]);
        let gone = t.ctr("gone");
        t.docker(["run", "--name", &gone, "--network", &n, IMG, "true"]).ok();
        let said = lookup(t, &c, &[&gone]);
        assert!(said.contains("NXDOMAIN"), "{said}");
    }
    fn names_of_others_are_asked_of_nobody(t) [newer = "dockerd asks the world for them"] {
        let (one, other) = (network(t, "10.78.12.0/24"), t.net("o"));
        t.docker(["network", "create", "--subnet", "10.78.13.0/24", &other]).ok();
        let c = t.sleeper("a", ["--network", &one]);
        let hidden = t.sleeper("b", ["--network", &other, "--network-alias", "hidden", "--ip", "10.78.13.20"]);
        // No server outside is there to ask: it would be another failure.
        for query in [hidden.as_str(), "hidden", &format!("{hidden}.{other}"), "10.78.13.20", "10.78.12.99"] {
            let said = lookup(t, &c, &[query]);
            assert!(said.contains("NXDOMAIN"), "{query}: {said}");
        }
        assert!(!lookup(t, &c, &["outside.example"]).contains("NXDOMAIN"));
    }
    fn services_by_their_ports(t) [newer = "dockerd has them in swarm mode only"] {
        let n = network(t, "10.78.7.0/24");
        let c = t.sleeper("a", ["--network", &n, "--network-alias", "shop", "--expose", "80", "--expose", "9000/udp"]);
        for (name, port) in [("_http._tcp.shop", "80"), ("_9000._udp.shop", "9000")] {
            let said = lookup(t, &c, &["-type=srv", name]);
            assert!(said.contains(&format!("0 0 {port} {c}.{n}")), "{name}: {said}");
        }
        assert!(lookup(t, &c, &["-type=srv", "_https._tcp.shop"]).contains("NXDOMAIN"));
    }
    fn host_gateway(t) {
        let gateway = t.docker(["network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"]).ok().text();
        t.docker(["run", "--rm", "--add-host", "up:host-gateway", IMG, "cat", "/etc/hosts"]).ok().has(&format!("{gateway}\tup"));
    }
    fn hosts_keep_what_was_written(t) {
        let n = network(t, "10.78.8.0/24");
        let c = t.sleeper("a", ["-h", "me"]);
        t.docker(["exec", &c, "sh", "-c", "echo 192.0.2.1 mine >> /etc/hosts"]).ok();
        t.docker(["network", "connect", "--ip", "10.78.8.20", &n, &c]).ok();
        t.docker(["exec", &c, "cat", "/etc/hosts"]).ok().has("192.0.2.1 mine").has("10.78.8.20\tme");
        t.docker(["network", "disconnect", &n, &c]).ok();
        t.docker(["exec", &c, "cat", "/etc/hosts"]).ok().has("192.0.2.1 mine").lacks("10.78.8.20");
    }
    fn an_edited_resolv_conf_is_left_alone(t) [newer = "since 25"] {
        let n = network(t, "10.78.9.0/24");
        let c = t.sleeper("a", ["--network", "bridge"]);
        t.docker(["exec", &c, "sh", "-c", "echo nameserver 192.0.2.1 > /etc/resolv.conf"]).ok();
        t.docker(["network", "connect", &n, &c]).ok();
        t.docker(["exec", &c, "cat", "/etc/resolv.conf"]).ok().is("nameserver 192.0.2.1");
        t.docker(["restart", "-t", "0", &c]).ok();
        t.docker(["exec", &c, "cat", "/etc/resolv.conf"]).ok().has("nameserver 127.0.0.11");
    }
    fn where_servers_come_from(t) [newer = "since 25"] {
        let n = network(t, "10.78.10.0/24");
        t.docker(["run", "--rm", "--network", &n, "--dns", "192.0.2.53", "--dns-option", "ndots:2", IMG, "cat", "/etc/resolv.conf"])
            .ok().has("# Generated by Docker Engine.").has("nameserver 127.0.0.11\n").has("options ndots:2\n")
            .has("(internal resolver)").has("# ExtServers: [192.0.2.53]").has("# Overrides: [nameservers options]")
            .has("# Option ndots from: override");
        // What is no number is told, and is none (dockerd says nothing).
        t.docker(["run", "--rm", "--network", &n, "--dns-option", "ndots:x", IMG, "cat", "/etc/resolv.conf"])
            .ok().has("options ndots:0\n").has("# Option ndots from: internal");
    }
    fn a_server_of_its_own_is_asked_from_inside(t) {
        // On the container's own loopback nobody listens: its kernel counts the question (`NoPorts`), and not the host's.
        let n = network(t, "10.78.11.0/24");
        let c = t.sleeper("a", ["--network", &n, "--dns", "127.0.0.1"]);
        let script = "grep ^Udp: /proc/net/snmp | tail -1 | cut -d' ' -f3; timeout 3 nslookup outside.example >/dev/null 2>&1; \
                      grep ^Udp: /proc/net/snmp | tail -1 | cut -d' ' -f3";
        let out = t.docker(["exec", &c, "sh", "-c", script]).ok();
        let counts: Vec<u64> = out.stdout.lines().map(|line| line.parse().unwrap()).collect();
        assert!(counts.len() == 2 && counts[1] > counts[0], "{counts:?}");
    }
}
