//! What networks and endpoints can be told when they are made: addresses, settings of others, options of the bridge driver.

use crate::dsl::{IMG, T, cases};

/// `network create` with these words, of a network of this test.
fn made(t: &T, name: &str, words: &[&str]) -> String {
    let n = t.net(name);
    t.docker([&["network", "create"][..], words, &[n.as_str()]].concat()).ok();
    n
}

/// What it complains of.
fn refused(t: &T, words: &[&str], complaint: &str) {
    let n = t.net("refused");
    t.docker([&["network", "create"][..], words, &[n.as_str()]].concat()).exits(1).says(complaint);
    t.docker(["network", "inspect", &n]).exits(1);
}

/// What a command says in a fresh container on a network.
fn inside(t: &T, flags: &[&str], command: &[&str]) -> String {
    t.docker([&["run", "--rm"][..], flags, &[IMG], command].concat()).ok().text()
}

const ADDRESSES: [&str; 3] = ["ip", "-o", "addr"];

cases! {
    fn reserved_addresses_are_given_to_nobody(t) {
        let n = made(t, "n", &["--subnet", "10.78.1.0/24", "--gateway", "10.78.1.1", "--aux-address", "printer=10.78.1.2"]);
        t.docker(["network", "inspect", "-f", "{{json (index .IPAM.Config 0).AuxiliaryAddresses}}", &n]).ok().is(r#"{"printer":"10.78.1.2"}"#);
        assert!(inside(t, &["--network", &n], &ADDRESSES).contains("10.78.1.3/24"));
        let c = t.ctr("c");
        t.docker(["run", "--name", &c, "--network", &n, "--ip", "10.78.1.2", IMG, "true"]).exits(125).says("Address already in use");
    }
    fn addresses_come_from_the_range(t) {
        let n = made(t, "n", &["--subnet", "10.78.2.0/24", "--ip-range", "10.78.2.64/26"]);
        // The gateway is the first of the range, too.
        let text = inside(t, &["--network", &n], &["sh", "-c", "ip -o -4 addr; ip route"]);
        assert!(text.contains("10.78.2.65/24") && text.contains("default via 10.78.2.64"), "{text}");
        assert!(inside(t, &["--network", &n, "--ip", "10.78.2.9"], &ADDRESSES).contains("10.78.2.9/24"));
    }
    fn link_local_addresses_are_set(t) {
        let n = made(t, "n", &["--subnet", "10.78.3.0/24"]);
        let text = inside(t, &["--network", &n, "--ip", "10.78.3.3", "--link-local-ip", "169.254.9.9"], &ADDRESSES);
        assert!(text.contains("10.78.3.3/24") && text.contains("169.254.9.9/16"), "{text}");
        let c = t.sleeper("c", [""; 0]);
        t.docker(["network", "connect", "--link-local-ip", "169.254.9.8", &n, &c]).ok();
        t.docker(["exec", &c, "ip", "-o", "addr", "show", "eth1"]).ok().has("169.254.9.8/16");
    }
    fn useless_subnets(t) {
        for subnet in ["10.78.4.1/32", "10.78.4.0/32"] {
            refused(t, &["--subnet", subnet], "failed to allocate gateway (): No available addresses on this pool");
        }
        refused(t, &["--ipv6", "--subnet", "fd00:78:4::/128"], "failed to allocate gateway (): No available addresses on this pool");
        refused(t, &["--subnet", "10.78.4.0/24", "--gateway", "10.78.4.255"], "failed to allocate gateway (10.78.4.255): Address already in use");
        refused(t, &["--subnet", "0.0.0.0/0"], "Pool overlaps with other one on this address space");
    }
    fn other_address_managers(t) {
        refused(t, &["--ipam-driver", "nosuch"], "plugin \"nosuch\" not found");
        refused(t, &["--ipam-driver", "null"], "ipv4 pool is empty");
        let n = made(t, "n", &["--ipam-driver", "default", "--ipam-opt", "a=b", "--subnet", "10.78.5.0/24"]);
        t.docker(["network", "inspect", "-f", "{{.IPAM.Driver}} {{.IPAM.Options.a}}", &n]).ok().is("default b");
    }
    fn scopes(t) {
        let n = made(t, "n", &["--scope", "local"]);
        t.docker(["network", "inspect", "-f", "{{.Scope}}", &n]).ok().is("local");
        refused(t, &["--scope", "swarm"], "swarm");
    }
    fn attachable(t) {
        let n = made(t, "n", &["--attachable"]);
        t.docker(["network", "inspect", "-f", "{{.Attachable}}", &n]).ok().is("true");
    }
    fn settings_of_another_network(t) {
        let conf = made(t, "conf", &["--config-only", "--subnet", "10.78.6.0/24", "--gateway", "10.78.6.9", "--label", "a=b", "-o", "com.docker.network.driver.mtu=1400"]);
        t.docker(["network", "inspect", "-f", "{{.Driver}} {{.ConfigOnly}} {{.Scope}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}", &conf])
            .ok().is("null true local 10.78.6.0/24 b");
        let n = made(t, "n", &["--config-from", &conf, "--internal"]);
        t.docker(["network", "inspect", "-f", "{{.Driver}} {{.ConfigOnly}} {{.ConfigFrom.Network}} {{.Internal}} {{(index .IPAM.Config 0).Gateway}} {{.Labels.a}}", &n])
            .ok().is(&format!("bridge false {conf} true 10.78.6.9 b"));
        assert!(inside(t, &["--network", &n], &["ip", "-o", "link", "show", "eth0"]).contains("mtu 1400"));
        t.docker(["network", "rm", &conf]).exits(1).says(&format!("configuration network \"{conf}\" is in use"));
        t.docker(["network", "rm", &n]).ok();
        t.docker(["network", "rm", &conf]).ok();
    }
    fn nobody_is_on_settings(t) {
        let conf = made(t, "conf", &["--config-only"]);
        let c = t.ctr("c");
        t.docker(["run", "--name", &c, "--network", &conf, IMG, "true"]).exits(125).says("cannot create endpoint on configuration-only network");
        let d = t.sleeper("d", [""; 0]);
        t.docker(["network", "connect", &conf, &d]).exits(1).says("cannot create endpoint on configuration-only network");
        t.docker(["exec", &d, "ip", "-o", "link"]).ok().lacks("eth1");
    }
    fn settings_and_wishes_do_not_mix(t) {
        let conf = made(t, "conf", &["--config-only"]);
        let mixed = "user specified configurations are not supported if the network depends on a configuration network";
        refused(t, &["--config-from", &conf, "--label", "x=y"], mixed);
        refused(t, &["--config-from", &conf, "--subnet", "10.78.7.0/24"], mixed);
        refused(t, &["--config-from", &conf, "-o", "a=b"], "network driver options are not supported if the network depends on a configuration network");
        refused(t, &["--config-from", "nosuch"], "configuration network \"nosuch\" does not exist");
        refused(t, &["--config-from", "bridge"], "configuration network \"bridge\" does not exist");
        refused(t, &["--config-only", "--config-from", &conf], "a configuration network cannot depend on another configuration network");
        let fields = "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.";
        for words in [&["--config-only", "--internal"][..], &["--config-only", "--attachable"], &["--config-only", "--scope", "local"]] {
            refused(t, words, fields);
        }
    }
    fn options_that_cannot_be_read(t) {
        refused(t, &["-o", "com.docker.network.bridge.enable_icc=maybe"],
            "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)");
        refused(t, &["-o", "com.docker.network.bridge.host_binding_ipv4=nonsense"],
            "failed to parse com.docker.network.bridge.host_binding_ipv4 value: nonsense (nil ip)");
    }
    fn the_gateway_is_somebody_elses(t) {
        let n = made(t, "n", &["--subnet", "10.78.8.0/24", "-o", "com.docker.network.bridge.inhibit_ipv4=true", "-o", "com.docker.network.bridge.name=wtinhibit"]);
        let text = inside(t, &["--network", &n], &["ip", "route"]);
        assert!(text.contains("default via 10.78.8.1"), "{text}");
        assert!(!t.host(["ip", "-o", "-4", "addr", "show", "dev", "wtinhibit"]).ok().text().contains("10.78.8.1"));
    }
    fn default_host_address_of_published_ports(t) {
        let n = made(t, "n", &["-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1"]);
        let c = t.sleeper("c", ["--network", &n, "-p", "18551:80"]);
        t.docker(["port", &c]).ok().is("80/tcp -> 127.0.0.1:18551");
    }
    fn default_host_address_of_published_ports_on_ipv6(t) [newer = "20.10 has no such option"] {
        let n = made(t, "n", &["--ipv6", "--subnet", "fd00:78:9::/64", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1",
            "-o", "com.docker.network.bridge.host_binding_ipv6=fd00:78:9::1"]);
        let c = t.sleeper("c", ["--network", &n, "-p", "18552:80"]);
        t.docker(["port", &c]).ok().has("80/tcp -> 127.0.0.1:18552").has("80/tcp -> [fd00:78:9::1]:18552").lacks("[::]");
    }
    fn routed_ports_have_no_host_port(t) [newer = "gateway modes came with 27"] {
        let n = made(t, "n", &["--subnet", "10.78.10.0/24", "-o", "com.docker.network.bridge.gateway_mode_ipv4=routed"]);
        let c = t.sleeper("c", ["--network", &n, "-p", "18553:80"]);
        t.docker(["inspect", "-f", "{{json .NetworkSettings.Ports}}", &c]).ok().is(r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":""}]}"#);
        // The host port is free for others.
        let d = t.sleeper("d", ["-p", "18553:80"]);
        t.docker(["port", &d]).ok().has("0.0.0.0:18553");
    }
    fn isolated_networks_have_no_gateway(t) [newer = "gateway modes came with 27"] {
        let mode = "com.docker.network.bridge.gateway_mode_ipv4=isolated";
        refused(t, &["-o", mode], "gateway mode 'isolated' can only be used for an internal network");
        let n = made(t, "n", &["--internal", "--subnet", "10.78.11.0/24", "-o", mode, "-o", "com.docker.network.bridge.name=wtisolated"]);
        let text = inside(t, &["--network", &n], &["sh", "-c", "ip -o -4 addr; ip route"]);
        assert!(text.contains("10.78.11.1/24") && !text.contains("default"), "{text}");
        t.host(["ip", "-o", "addr", "show", "dev", "wtisolated"]).ok().is("");
    }
    fn interface_names_and_parameters(t) [newer = "20.10 has no such options"] {
        let n = made(t, "n", &[]);
        let wish = format!("name={n},driver-opt=com.docker.network.endpoint.ifname=wan0,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1");
        let text = inside(t, &["--network", &wish], &["sh", "-c", "ip -o link; cat /proc/sys/net/ipv4/conf/wan0/log_martians"]);
        assert!(text.contains("wan0") && text.ends_with('1'), "{text}");
        let c = t.sleeper("c", [""; 0]);
        t.docker(["network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=lan0", &n, &c]).ok();
        t.docker(["exec", &c, "ip", "-o", "link"]).ok().has("lan0").lacks("eth1");
    }
    fn the_highest_priority_gives_the_default_route(t) [newer = "API 1.48"] {
        let a = made(t, "a", &["--subnet", "10.78.12.0/24"]);
        let b = made(t, "b", &["--subnet", "10.78.13.0/24"]);
        let first = format!("name={b},gw-priority=5");
        let text = inside(t, &["--network", &a, "--network", &first], &["ip", "route"]);
        assert!(text.contains("default via 10.78.13.1"), "{text}");
        let c = t.sleeper("c", ["--network", &a]);
        t.docker(["network", "connect", "--gw-priority", "1", &b, &c]).ok();
        t.docker(["exec", &c, "ip", "route"]).ok().has("default via 10.78.13.1").lacks("default via 10.78.12.1");
        t.docker(["network", "disconnect", &b, &c]).ok();
        t.docker(["exec", &c, "ip", "route"]).ok().has("default via 10.78.12.1");
    }
    fn published_on_the_hosts_own_ipv6_loopback(t) [newer = "20.10 has no IPv6 without ip6tables"] {
        let n = made(t, "n", &["--ipv6", "--subnet", "fd00:78:20::/64"]);
        let serve = "mkdir /www; echo me > /www/index.html; exec httpd -f -p 80 -h /www";
        let c = t.ctr("c");
        t.docker(["run", "-d", "--name", &c, "--network", &n, "-p", "[::1]:18556:80", "-p", "18557:80", IMG, "sh", "-c", serve]).ok();
        t.docker(["port", &c]).ok().has("80/tcp -> [::1]:18556").has("80/tcp -> [::]:18557");
        for port in ["18556", "18557"] {
            let url = format!("http://[::1]:{port}/");
            t.until("answers", || t.host(["busybox", "timeout", "4", "wget", "-q", "-O-", &url]).text() == "me");
        }
        t.host(["busybox", "timeout", "4", "wget", "-q", "-O-", "http://[fd00:78:20::1]:18556/"]).fails();
        t.docker(["rm", "-f", &c]).ok();
        t.host(["busybox", "timeout", "4", "wget", "-q", "-O-", "http://[::1]:18557/"]).fails();
    }
    fn without_icc_only_published_ports_are_reached(t) {
        let n = made(t, "n", &["--subnet", "10.78.19.0/24", "-o", "com.docker.network.bridge.enable_icc=false"]);
        let c = t.ctr("c");
        let serve = "mkdir /www; echo me > /www/index.html; exec httpd -f -p 80 -h /www";
        t.docker(["run", "-d", "--name", &c, "--network", &n, "-p", "18555:80", IMG, "sh", "-c", serve]).ok();
        let d = t.sleeper("d", ["--network", &n]);
        let get = |who: &str, url: &str| t.docker(["exec", who, "timeout", "3", "wget", "-q", "-O-", url]);
        for who in [&d, &c] {
            t.until("answers", || get(who, "http://10.78.19.1:18555/").text() == "me");
        }
        let address = t.inspect(&c, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
        get(&d, &format!("http://{address}/")).fails();
    }
    fn each_family_has_its_own_way_out(t) [newer = "API 1.48"] {
        let four = made(t, "a", &["--subnet", "10.78.17.0/24"]);
        let both = made(t, "b", &["--ipv6", "--subnet", "10.78.18.0/24", "--subnet", "fd00:78:18::/64"]);
        let routes = |c: &str| t.docker(["exec", c, "sh", "-c", "ip route; ip -6 route"]).ok();
        let serve = "mkdir /www; echo me > /www/index.html; exec httpd -f -p 80 -h /www";
        // Of equal priority the network with both families is the way out of both.
        let c = t.ctr("c");
        t.docker(["run", "-d", "--name", &c, "--network", &four, "--network", &both, "-p", "18554:80", IMG, "sh", "-c", serve]).ok();
        routes(&c).has("default via 10.78.18.1").has("default via fd00:78:18::1");
        t.docker(["port", &c]).ok().has("80/tcp -> 0.0.0.0:18554").has("80/tcp -> [::]:18554");
        t.docker(["network", "disconnect", &four, &c]).ok();
        // Else each family goes by the best that has it.
        t.docker(["network", "connect", "--gw-priority", "1", &four, &c]).ok();
        routes(&c).has("default via 10.78.17.1").has("default via fd00:78:18::1");
        t.docker(["port", &c]).ok().has("80/tcp -> 0.0.0.0:18554").has("80/tcp -> [::]:18554");
        for host in ["10.78.18.1", "[fd00:78:18::1]"] {
            let url = format!("http://{host}:18554/");
            t.until("answers", || t.host(["busybox", "timeout", "4", "wget", "-q", "-O-", &url]).text() == "me");
        }
        t.docker(["network", "disconnect", &both, &c]).ok();
        t.docker(["port", &c]).ok().has("80/tcp -> 0.0.0.0:18554").lacks("[::]");
    }
    fn without_ipv4(t) [newer = "API 1.48"] {
        let n = made(t, "n", &["--ipv4=false", "--ipv6", "--subnet", "fd00:78:14::/64"]);
        let text = inside(t, &["--network", &n], &["sh", "-c", "ip -o addr show eth0; ip -6 route"]);
        assert!(text.contains("fd00:78:14::2/64") && !text.contains("inet ") && text.contains("default via fd00:78:14::1"), "{text}");
    }
    fn ipv6_from_the_hosts_own_prefix(t) [newer = "20.10 has no default pool for IPv6"] {
        let n = made(t, "n", &["--ipv6"]);
        let text = inside(t, &["--network", &n], &ADDRESSES);
        assert!(text.contains("inet6 fd"), "{text}");
        let n = made(t, "m", &["-o", "com.docker.network.enable_ipv6=true"]);
        t.docker(["network", "inspect", "-f", "{{.EnableIPv6}}", &n]).ok().is("true");
    }
    fn several_subnets(t) [newer = "20.10 has one of each family"] {
        if !t.subject_is_weft() {
            return;
        }
        let n = made(t, "n", &["--subnet", "10.78.15.0/30", "--subnet", "10.78.16.0/24"]);
        let c = t.sleeper("c", ["--network", &n]);
        // The first subnet is full.
        let text = inside(t, &["--network", &n], &["sh", "-c", &format!("ip -o -4 addr; ping -c1 -W3 {c}")]);
        assert!(text.contains("10.78.16.2/24") && text.contains("1 packets received"), "{text}");
    }
}
