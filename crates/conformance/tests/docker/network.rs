//! Networks: names, isolation, published ports, connect and disconnect.

use crate::dsl::{IMG, T, cases};

/// A container that answers HTTP with its own name.
fn web(t: &T, name: &str, flags: &[&str]) -> String {
    let c = t.ctr(name);
    let script = format!("mkdir /www; echo {name} > /www/index.html; exec httpd -f -p 80 -h /www");
    let mut args = vec!["run", "-d", "--name", &c];
    args.extend(flags);
    args.extend([IMG, "sh", "-c", &script]);
    t.docker(args).ok();
    c
}

/// `wget -T` of the static busybox 1.35 crashes, hence `timeout`.
const GET: [&str; 5] = ["timeout", "4", "wget", "-q", "-O-"];

fn get(url: &str) -> Vec<&str> {
    [&["busybox"], &GET[..], &[url]].concat()
}

cases! {
    fn create_inspect_remove(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--label", "a=b", "--subnet", "10.77.1.0/24", "--gateway", "10.77.1.254", &n]).ok();
        t.docker(["network", "inspect", "-f", "{{.Driver}} {{.Scope}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} {{.Labels.a}}", &n])
            .ok().is("bridge local 10.77.1.0/24 10.77.1.254 b");
        t.docker(["network", "ls", "--format", "{{.Name}}", "-f", "label=a=b"]).ok().has(&n);
        t.docker(["network", "rm", &n]).ok().is(&n);
        t.docker(["network", "inspect", &n]).exits(1);
    }
    fn predefined(t) { t.docker(["network", "ls", "--format", "{{.Name}} {{.Driver}}"]).ok().has("bridge bridge").has("host host").has("none null"); }
    fn predefined_stay(t) { t.docker(["network", "rm", "bridge"]).exits(1).says("is a pre-defined network and cannot be removed"); }
    fn name_taken(t) {
        let n = t.net("n");
        t.docker(["network", "create", &n]).ok();
        t.docker(["network", "create", &n]).exits(1).says("already exists");
    }
    fn subnets_overlap(t) {
        let (a, b) = (t.net("a"), t.net("b"));
        t.docker(["network", "create", "--subnet", "10.77.2.0/24", &a]).ok();
        t.docker(["network", "create", "--subnet", "10.77.2.128/25", &b]).exits(1).says("Pool overlaps with other one on this address space");
    }
    fn names_resolve(t) {
        let n = t.net("n");
        t.docker(["network", "create", &n]).ok();
        let w = web(t, "w", &["--network", &n, "--network-alias", "web"]);
        for host in [w.as_str(), "web"] {
            let url = format!("http://{host}/");
            t.until("answers", || t.docker([&["run", "--rm", "--network", &n, IMG][..], &GET, &[&url]].concat()).text() == "w");
        }
    }
    fn resolver_is_embedded(t) {
        let n = t.net("n");
        t.docker(["network", "create", &n]).ok();
        t.docker(["run", "--rm", "--network", &n, IMG, "cat", "/etc/resolv.conf"]).ok().has("nameserver 127.0.0.11");
    }
    fn reverse_names(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--subnet", "10.77.3.0/24", &n]).ok();
        let c = t.sleeper("a", ["--network", &n, "--ip", "10.77.3.33"]);
        t.docker(["run", "--rm", "--network", &n, IMG, "nslookup", "10.77.3.33"]).ok().has(&format!("{c}.{n}"));
    }
    fn unknown_names_fail(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--internal", &n]).ok();
        t.docker(["run", "--rm", "--network", &n, IMG, "ping", "-c1", "-W1", "nosuch-peer"]).fails();
    }
    fn default_bridge_reaches_by_address(t) {
        let w = web(t, "w", &[]);
        let url = format!("http://{}/", t.inspect(&w, "{{.NetworkSettings.IPAddress}}"));
        t.until("answers", || t.docker([&["run", "--rm", IMG][..], &GET, &[&url]].concat()).text() == "w");
    }
    fn networks_are_isolated(t) {
        let (a, b) = (t.net("a"), t.net("b"));
        t.docker(["network", "create", &a]).ok();
        t.docker(["network", "create", &b]).ok();
        let w = web(t, "w", &["--network", &a]);
        let address = t.inspect(&w, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
        let url = format!("http://{address}/");
        t.until("inside", || t.docker([&["run", "--rm", "--network", &a, IMG][..], &GET, &[&url]].concat()).text() == "w");
        t.docker([&["run", "--rm", "--network", &b, IMG][..], &GET, &[&url]].concat()).fails();
    }
    fn made_again_while_its_container_rests(t) {
        let (n, c) = (t.net("n"), t.ctr("a"));
        t.docker(["network", "create", &n]).ok();
        t.docker(["create", "--name", &c, "--network", &n, IMG, "sleep", "1000"]).ok();
        t.docker(["network", "rm", &n]).ok();
        t.docker(["start", &c]).exits(1).says(&format!("network {n} not found"));
        t.docker(["network", "create", &n]).ok();
        t.docker(["start", &c]).ok();
        t.docker(["network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", &n]).ok().is(&c);
    }
    fn connect_and_disconnect(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--subnet", "10.77.4.0/24", &n]).ok();
        let c = t.sleeper("a", [""; 0]);
        t.docker(["network", "connect", "--alias", "joined", "--ip", "10.77.4.44", &n, &c]).ok();
        t.docker(["exec", &c, "ip", "-o", "-4", "addr"]).ok().has("10.77.4.44/24").has("eth1");
        t.docker(["run", "--rm", "--network", &n, IMG, "ping", "-c1", "-W3", "joined"]).ok();
        t.docker(["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}", &n]).ok().is(&format!("{c} 10.77.4.44/24"));
        t.docker(["network", "disconnect", &n, &c]).ok();
        t.docker(["exec", &c, "ip", "-o", "-4", "addr"]).ok().lacks("10.77.4.44");
    }
    fn connect_survives_a_restart(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--subnet", "10.77.5.0/24", &n]).ok();
        let c = t.sleeper("a", ["--network", &n, "--ip", "10.77.5.55"]);
        t.docker(["restart", "-t", "0", &c]).ok();
        t.docker(["exec", &c, "ip", "-o", "-4", "addr"]).ok().has("10.77.5.55/24");
    }
    fn none_and_others_exclude_each_other(t) {
        let n = t.net("n");
        t.docker(["network", "create", &n]).ok();
        let (none, host, other) = (t.sleeper("none", ["--network", "none"]), t.sleeper("host", ["--network", "host"]), t.sleeper("a", [""; 0]));
        let sharer = t.sleeper("s", ["--network", &format!("container:{other}")]);
        let private = "container cannot be connected to multiple networks with one of the networks in private (none) mode";
        let shared = "container sharing network namespace with another container or host cannot be connected to any other network";
        t.docker(["network", "connect", &n, &none]).exits(1).says(private);
        t.docker(["network", "connect", "none", &other]).exits(1).says(private);
        t.docker(["network", "connect", &n, &host]).exits(1).says(shared);
        t.docker(["network", "connect", &n, &sharer]).exits(1).says(shared);
        t.docker(["network", "connect", "host", &other]).exits(1).says("container cannot be disconnected from host network or connected to host network");
        t.docker(["network", "disconnect", "none", &none]).ok();
        t.docker(["network", "connect", &n, &none]).ok();
        t.docker(["exec", &none, "ip", "link", "show", "eth0"]).ok();
        // Who has left its last network may join another.
        t.docker(["network", "disconnect", &n, &none]).ok();
        t.docker(["network", "connect", &n, &none]).ok();
        t.docker(["network", "disconnect", "-f", "bridge", "nosuch"]).exits(1).says("endpoint nosuch not found");
    }
    fn network_in_use(t) {
        let n = t.net("n");
        t.docker(["network", "create", &n]).ok();
        t.sleeper("a", ["--network", &n]);
        t.docker(["network", "rm", &n]).exits(1).says("has active endpoints");
    }
    fn address_taken(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--subnet", "10.77.6.0/24", &n]).ok();
        t.sleeper("a", ["--network", &n, "--ip", "10.77.6.6"]);
        let b = t.ctr("b");
        t.docker(["run", "-d", "--name", &b, "--network", &n, "--ip", "10.77.6.6", IMG, "true"]).exits(125).says("Address already in use");
    }
    fn address_on_the_default_bridge(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, "--ip", "172.17.0.99", IMG, "true"]).exits(125).says("user specified IP address is supported on user defined networks only");
    }
    fn wishes_of_a_predefined_network(t) {
        for network in ["host", "none", "bridge", "default"] {
            t.docker(["run", "--rm", "--network", network, "--ip", "10.1.2.3", IMG, "true"])
                .exits(125).says("user specified IP address is supported on user defined networks only");
            // The client itself refuses these; others do not. dockerd 20.10 says so at the start, newer ones at the creation.
            let name = t.ctr(network);
            let body = format!(r#"{{"Image": "{IMG}", "HostConfig": {{"NetworkMode": "{network}"}}, "NetworkingConfig": {{"EndpointsConfig": {{"{network}": {{"Aliases": ["x"]}}}}}}}}"#);
            let post = |path: &str, body: &str| {
                let url = format!("http://d/v1.41/containers/{path}");
                t.host(["curl", "-s", "--unix-socket", t.socket(), "-H", "Content-Type: application/json", "-d", body, &url]).text()
            };
            let mut told = post(&format!("create?name={name}"), &body);
            if told.contains("Id") {
                told = post(&format!("{name}/start"), "");
            }
            assert!(told.contains("network-scoped alias is supported only for containers in user defined networks"), "{network}: {told}");
        }
    }
    fn own_mac(t) [newer = "the client wants API 1.44 for it"] {
        t.docker(["run", "--rm", "--mac-address", "02:42:aa:bb:cc:dd", IMG, "cat", "/sys/class/net/eth0/address"]).ok().is("02:42:aa:bb:cc:dd");
    }
    fn internal_has_no_way_out(t) [newer = "20.10 leaves a default route that leads nowhere"] {
        let n = t.net("n");
        t.docker(["network", "create", "--internal", &n]).ok();
        t.docker(["run", "--rm", "--network", &n, IMG, "ip", "route"]).ok().lacks("default");
    }
    fn published_port(t) {
        let w = web(t, "w", &["-p", "18501:80"]);
        t.until("answers", || t.host(get("http://127.0.0.1:18501/")).text() == "w");
        t.docker(["port", &w]).ok().has("80/tcp -> 0.0.0.0:18501");
        t.docker(["port", &w, "80"]).ok().has("0.0.0.0:18501");
        t.docker(["stop", "-t", "0", &w]).ok();
        t.host(get("http://127.0.0.1:18501/")).fails();
    }
    fn published_on_one_address(t) {
        let w = web(t, "w", &["-p", "127.0.0.1:18502:80"]);
        t.until("answers", || t.host(get("http://127.0.0.1:18502/")).text() == "w");
        assert_eq!(t.docker(["port", &w]).ok().text(), "80/tcp -> 127.0.0.1:18502");
    }
    fn published_somewhere(t) {
        let w = web(t, "w", &["-p", "80"]);
        let port = t.inspect(&w, "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}");
        let url = format!("http://127.0.0.1:{port}/");
        t.until("answers", || t.host(get(&url)).text() == "w");
    }
    fn published_all(t) {
        let w = web(t, "w", &["-P", "--expose", "80"]);
        let port = t.inspect(&w, "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}");
        let url = format!("http://127.0.0.1:{port}/");
        t.until("answers", || t.host(get(&url)).text() == "w");
    }
    fn published_range(t) {
        let c = t.sleeper("a", ["-p", "18510-18512:80-82"]);
        t.docker(["port", &c]).ok().has("82/tcp -> 0.0.0.0:18512");
    }
    fn published_udp(t) {
        let c = t.ctr("a");
        // busybox has no UDP server; perl-base is on every Debian, so the container borrows the host's.
        let server = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, pack_sockaddr_in(9, INADDR_ANY)); $|=1; while (recv(S, $m, 99, 0)) { print $m }";
        t.docker(["run", "-d", "--name", &c, "-p", "18503:9/udp", "-v", "/:/host:ro", IMG, "chroot", "/host", "perl", "-e", server]).ok();
        t.docker(["port", &c]).ok().has("9/udp -> 0.0.0.0:18503");
        t.until("arrived", || {
            t.host(["bash", "-c", "echo datagram > /dev/udp/127.0.0.1/18503"]);
            t.docker(["logs", &c]).text().contains("datagram")
        });
    }
    fn host_network(t) {
        let links = t.host(["ip", "-o", "link", "show", "lo"]).ok();
        t.docker(["run", "--rm", "--network", "host", IMG, "ip", "-o", "link"]).ok().has(if t.subject_is_weft() { "wf0" } else { "docker0" });
        links.has("lo");
    }
    fn host_and_none_show_who_is_on_them(t) {
        for network in ["host", "none"] {
            let c = t.sleeper(network, ["--network", network]);
            let shown = "{{range .Containers}}{{.Name}}:{{.IPv4Address}}:{{len .EndpointID}} {{end}}";
            t.docker(["network", "inspect", "-f", shown, network]).ok().has(&format!("{c}::64 "));
            let endpoint = format!("{{{{len .NetworkSettings.Networks.{network}.EndpointID}}}}");
            t.docker(["inspect", "-f", &endpoint, &c]).ok().is("64");
            t.docker(["stop", "-t", "0", &c]).ok();
            t.docker(["network", "inspect", "-f", shown, network]).ok().lacks(&c);
        }
    }
    fn network_of_another(t) {
        let c = t.sleeper("a", [""; 0]);
        let address = t.inspect(&c, "{{.NetworkSettings.IPAddress}}");
        t.docker(["run", "--rm", "--network", &format!("container:{c}"), IMG, "ip", "-o", "-4", "addr"]).ok().has(&address);
    }
    fn links_are_variables_of_every_process(t) {
        let a = t.sleeper("a", ["-e", "COLOUR=red", "--expose", "8000"]);
        let b = t.sleeper("b", ["--link", &format!("{a}:al")]);
        for out in [t.docker(["exec", &b, "env"]), t.docker(["exec", &b, "cat", "/proc/1/environ"])] {
            let text = out.ok().text().replace('\0', "\n");
            for line in [&format!("AL_NAME=/{b}/al")[..], "AL_ENV_COLOUR=red", "AL_PORT_8000_TCP_PORT=8000", "AL_PORT=tcp://"] {
                assert!(text.contains(line), "{line}: {text}");
            }
        }
    }
    fn links_on_the_default_bridge(t) {
        let w = web(t, "w", &[]);
        t.until("answers", || t.docker([&["run", "--rm", "--link", &format!("{w}:peer"), IMG][..], &GET, &["http://peer/"]].concat()).text() == "w");
    }
    fn second_network_at_create(t) [newer = "API 1.44"] {
        let (a, b) = (t.net("a"), t.net("b"));
        t.docker(["network", "create", &a]).ok();
        t.docker(["network", "create", &b]).ok();
        t.docker(["run", "--rm", "--network", &a, "--network", &b, IMG, "ip", "-o", "link"]).ok().has("eth0").has("eth1");
    }
    fn ipv6(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--ipv6", "--subnet", "fd00:77:7::/64", &n]).ok();
        t.docker(["run", "--rm", "--network", &n, "--ip6", "fd00:77:7::7", IMG, "ip", "-o", "-6", "addr"]).ok().has("fd00:77:7::7/64");
    }
    fn unknown_driver(t) { let n = t.net("n"); t.docker(["network", "create", "-d", "nosuch", &n]).exits(1).says("nosuch"); }
    fn refusals_in_dockers_words(t) {
        let n = t.net("n");
        let says = |options: &[&str], text: &str| {
            t.docker([&["network", "create"][..], options, &[&n]].concat()).exits(1).says(text);
        };
        says(&["--scope", "foo"], "This node is not a swarm manager.");
        says(&["--scope", "swarm"], "cannot create a swarm scoped network when swarm is not active");
        says(&["-d", "none"], "plugin \"none\" not found");
        says(&["-d", "null"], "only one instance of \"null\" network is allowed");
        says(&["-o", "com.docker.network.bridge.name=lo"], "existing interface lo is not a bridge");
        t.docker(["network", "create", " "]).exits(1).says("invalid name:");
        says(&["-o", "com.docker.network.driver.mtu=-1"], "invalid MTU number: -1");
        says(&["--subnet", "10.77.9.0/24", "--aux-address", "a=10.77.9.9", "--aux-address", "b=10.77.9.9"], "failed to allocate secondary ip address (b:10.77.9.9): Address already in use");
        t.docker(["create", "--network", "container:", IMG]).fails().says("invalid container format container:<name|id>");
        t.docker(["network", "connect", "nosuch", "nosuch"]).exits(1).says("No such container: nosuch");
        let c = t.sleeper("h", ["--network", "host"]);
        t.docker(["network", "disconnect", "host", &c]).exits(1)
            .says("container cannot be disconnected from host network or connected to host network");
    }
    fn a_slash_in_a_name(t) [newer = "dockerd makes the network, and no path of the API leads to it"] {
        let n = t.net("a/b");
        t.docker(["network", "create", &n]).exits(1).says("invalid name:");
    }
    fn a_restart_that_fails(t) {
        let owner = t.sleeper("owner", [""; 0]);
        let c = t.ctr("c");
        t.docker(["run", "--name", &c, "--network", &format!("container:{owner}"), IMG, "sh", "-c", "exit 7"]).exits(7);
        t.docker(["stop", "-t", "0", &owner]).ok();
        t.docker(["restart", &c]).exits(1).says(&format!("Cannot restart container {c}: cannot join network of a non running container"));
        assert_eq!(t.inspect(&c, "{{.State.ExitCode}}"), "7", "of its last run");
    }
    fn prune(t) [alone = "removes unused networks"] {
        let (gone, kept) = (t.net("gone"), t.net("kept"));
        t.docker(["network", "create", &gone]).ok();
        t.docker(["network", "create", &kept]).ok();
        t.sleeper("a", ["--network", &kept]);
        t.docker(["network", "prune", "-f"]).ok().has(&gone).lacks(&kept);
    }
}
