//! The sequence of commands, and what is looked at afterwards.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::{Seen, host::Host, normal};

/// Networks: name, and the flags that make them.
const NETWORKS: &[(&str, &[&str])] = &[
    ("front", &["--subnet", "10.81.1.0/24"]),
    ("six", &["--subnet", "10.81.2.0/24", "--ipv6", "--subnet", "fd81:2::/64", "--gateway", "10.81.2.254"]),
    ("inner", &["--subnet", "10.81.3.0/24", "--internal"]),
    ("quiet", &["--subnet", "10.81.4.0/24", "-o", "com.docker.network.bridge.enable_icc=false"]),
    (
        "plain",
        &[
            "--subnet",
            "10.81.5.0/24",
            "-o",
            "com.docker.network.driver.mtu=1400",
            "-o",
            "com.docker.network.bridge.enable_ip_masquerade=false",
        ],
    ),
];

/// Containers in the order of their start, each a web server that tells its name: name, and flags.
const CONTAINERS: &[(&str, &[&str])] = &[
    ("a1", &[]),
    ("a2", &["--link", "a1:friend", "-h", "second"]),
    ("f1", &["--network", "front", "--network-alias", "web", "-p", "18081:80", "-h", "first"]),
    ("f2", &["--network", "front", "--network-alias", "WEB2", "--ip", "10.81.1.77"]),
    (
        "d1",
        &[
            "--network",
            "front",
            "--dns",
            "10.81.1.200",
            "--dns-search",
            "x.test",
            "--dns-option",
            "ndots:2",
            "--add-host",
            "up:host-gateway",
            "--add-host",
            "fixed:192.0.2.9",
            "-h",
            "named",
            "--domainname",
            "dom.test",
        ],
    ),
    ("d2", &["--dns", "192.0.2.53", "--dns-search", "."]),
    ("s1", &["--network", "six", "--ip6", "fd81:2::77"]),
    ("s2", &["--network", "six"]),
    ("i1", &["--network", "inner"]),
    ("i2", &["--network", "inner"]),
    ("q1", &["--network", "quiet", "-p", "127.0.0.1:18082:80"]),
    ("q2", &["--network", "quiet"]),
    ("p1", &["--network", "plain", "-p", "18083:80"]),
    ("m1", &["--network", "front"]),
    ("m2", &["--network", "front"]),
    ("n1", &["--network", "none"]),
    ("c1", &["--network", "container:f1"]),
    ("h1", &["--network", "host"]),
];

/// What each container looks up.
const LOOKUPS: &[&str] = &[
    "f1",
    "F1.front",
    "web",
    "web2",
    "first",
    "m1",
    "s1.six",
    "10.81.1.77",
    "10.81.2.1",
    "fd81:2::77",
    "friend",
    "nosuch",
];

/// Addresses and names that each container and the host try to reach, with their ports.
const TARGETS: &[&str] = &[
    "172.17.0.2",
    "172.17.0.3",
    "10.81.1.2",
    "10.81.1.77",
    "10.81.2.1",
    "10.81.3.2",
    "10.81.3.3",
    "10.81.4.2",
    "10.81.4.3",
    "10.81.5.2",
    "[fd81:2::77]",
    "a1",
    "a2",
    "friend",
    "second",
    "f1",
    "f1.front",
    "web",
    "WEB2",
    "first",
    "d1",
    "named",
    "named.dom.test",
    "s1",
    "s2",
    "i1",
    "i2",
    "q1",
    "q2",
    "p1",
    "m1",
    "m2",
    "m1.six",
    "n1",
    "fixed",
    // The host: by gateways, by its own address, by published ports there and on its loopback.
    "172.17.0.1:8099",
    "10.81.1.1:8099",
    "10.81.3.1:8099",
    "10.81.4.1:8099",
    "up:8099",
    "HOST:8099",
    "HOST:18081",
    "HOST:18082",
    "HOST:18083",
    "127.0.0.1:18081",
    "127.0.0.1:18082",
    "localhost:8099",
    "10.81.1.1:18081",
    "10.81.1.1:18083",
    "172.17.0.1:18081",
    // The world, which tells who came.
    "OUTSIDE",
];

/// Containers that are looked at at a time: most of a look is waiting for what does not answer.
const AT_ONCE: usize = 9;

/// Makes everything.
pub fn play(host: &Host) {
    for (name, flags) in NETWORKS {
        host.docker(&[&["network", "create"], *flags, &[*name]].concat());
    }
    for (name, flags) in CONTAINERS {
        let port = if *name == "h1" { "8099" } else { "80" };
        // One that shares another's namespace has its port taken.
        let serve =
            if *name == "c1" { "sleep 100000".to_owned() } else { format!("httpd -f -p {port} -h /www") };
        let script = format!("mkdir /www; echo {name} > /www/index.html; exec {serve}");
        let head = ["run", "-d", "--name", name, "--stop-timeout", "1"];
        host.docker(&[&head[..], flags, &["busybox", "sh", "-c", &script]].concat());
    }
    // Networks that come and go while the container runs.
    host.docker(&["network", "connect", "--alias", "late", "six", "m1"]);
    host.docker(&["network", "connect", "inner", "m2"]);
    host.docker(&["network", "disconnect", "front", "m2"]);
    // One that ended and came back, and one that is gone.
    host.docker(&["restart", "-t", "1", "f2"]);
    host.docker(&["run", "--name", "gone", "--network", "front", "busybox", "true"]);
}

/// Everything that is seen.
pub fn look(host: &Host) -> Seen {
    let seen = Mutex::new(BTreeMap::new());
    let note = |what: String, text: String| drop(seen.lock().unwrap().insert(what, text));
    let next = Mutex::new(CONTAINERS.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((name, _)) = next.lock().unwrap().next() else { break };
                    of_container(host, name, &note);
                }
            });
        }
    });
    for (target, answer) in reach(host, |script| host.on_host(script), "busybox ") {
        note(format!("host reaches {target}"), answer);
    }
    for port in [8099, 18081, 18082, 18083] {
        note(format!("outside reaches HOST:{port}"), host.seen_outside(port));
    }
    seen.into_inner().unwrap()
}

fn of_container(host: &Host, name: &str, note: &impl Fn(String, String)) {
    // One look at everything that is text; parts are told from one another by a line of their own.
    let parts = [
        ("addresses", "ip addr"),
        ("routes", "ip route"),
        ("routes of IPv6", "ip -6 route"),
        ("hosts", "cat /etc/hosts"),
        ("resolv.conf", "cat /etc/resolv.conf"),
        ("hostname", "hostname; hostname -f; cat /etc/hostname"),
        (
            "sysctls",
            "cd /proc/sys/net; cat ipv4/ip_forward ipv6/conf/lo/disable_ipv6 ipv4/ip_unprivileged_port_start \
                     ipv4/ping_group_range",
        ),
    ];
    // What the host's own network shows is no container's.
    if name != "h1" {
        let script: Vec<String> = parts.iter().map(|(_, script)| format!("{script}; echo ====")).collect();
        let text = host.sees(name, &script.join("\n"));
        for ((what, _), part) in parts.iter().zip(text.split("====")) {
            let part = part.trim();
            let part = if *what == "resolv.conf" { normal::resolv(part) } else { part.to_owned() };
            note(format!("{name}: {what}"), part);
        }
        for (what, answer) in lookups(host, name) {
            note(format!("{name} looks up {what}"), answer);
        }
    }
    for (target, answer) in reach(host, |script| host.sees(name, script), "") {
        note(format!("{name} reaches {target}"), answer);
    }
}

/// Asks for all names at once. Records of one answer may come in any order; a server that is not there says nothing.
fn lookups(host: &Host, name: &str) -> Vec<(&'static str, String)> {
    let one = |query: &&str| format!("timeout 6 nslookup {query} 2>&1 | sed 's|^|{query} |' &");
    let script: Vec<String> = LOOKUPS.iter().map(one).collect();
    let text = host.sees(name, &format!("{}\nwait", script.join("\n")));
    let answer = |query: &&'static str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(*query)?.strip_prefix(' '));
        // The first two lines name the server.
        let mut lines: Vec<&str> = lines.skip(2).collect();
        lines.sort_unstable();
        lines.dedup();
        // How a question fails that the world's servers are asked, which are not there, is not the point.
        let found = lines.iter().any(|line| line.starts_with("Address") || line.contains("name ="));
        (*query, if found { lines.join("; ") } else { "no".to_owned() })
    };
    LOOKUPS.iter().map(answer).collect()
}

/// Tries all targets at once; what each said, or `no`.
fn reach(host: &Host, run: impl Fn(&str) -> String, busybox: &str) -> Vec<(&'static str, String)> {
    let address = |target: &str| {
        let own = target.replace("HOST", &host.sandbox.address().to_string());
        own.replace("OUTSIDE", &host.outside.to_string())
    };
    // `wget -T` of the static busybox crashes, hence `timeout`.
    let one = |target: &&str| {
        format!(
            "( echo \"{target} $({busybox}timeout 4 {busybox}wget -q -O- http://{}/ 2>/dev/null || echo no)\" ) &",
            address(target)
        )
    };
    let script: Vec<String> = TARGETS.iter().map(one).collect();
    let text = run(&format!("{}\nwait", script.join("\n")));
    let answer = |target: &&'static str| {
        let said = text.lines().find_map(|line| line.strip_prefix(*target)?.strip_prefix(' '));
        (*target, said.unwrap_or("(nothing)").to_owned())
    };
    TARGETS.iter().map(answer).collect()
}
