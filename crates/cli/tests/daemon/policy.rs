//! What a new daemon makes of containers that an earlier one left at rest: those start again whose policies say so.

use serde_json::Value;

use crate::{Host, plain, until};

/// Containers of each kind of network: what they are started with, and what shows that they have it.
const NETWORKS: [(&str, &[&str], &str); 3] = [
    ("bridged", &[], "ip -4 addr show eth0 | grep -q inet"),
    ("user", &["--network", "n", "-p", "8080:80"], "ip -4 addr show eth0 | grep -q inet && nslookup user"),
    ("none", &["--network", "none"], "ip addr show lo"),
];

fn state(host: &Host, name: &str) -> Value {
    host.json(&["inspect", name])[0]["State"].clone()
}

#[test]
fn what_always_runs_is_up_again_with_its_networks() {
    let mut host = Host::start(plain());
    host.ok(&["network", "create", "n"]);
    for (name, options, _) in NETWORKS {
        let run = ["run", "-d", "--name", name, "--restart", "always"];
        host.ok(&[&run[..], options, &["busybox", "sleep", "1000"]].concat());
    }
    host.ok(&["run", "-d", "--name", "off", "--restart", "unless-stopped", "busybox", "sleep", "1000"]);
    host.ok(&["stop", "-t", "0", "off"]);

    for (round, by) in [("stop", "kill -9"), ("kill", "stop")] {
        for (name, ..) in NETWORKS {
            let words: &[&str] = if round == "stop" { &["stop", "-t", "0", name] } else { &["kill", name] };
            host.ok(words);
            assert_eq!(state(&host, name)["Status"], "exited");
        }
        if by == "stop" { host.daemon.stop() } else { host.daemon.kill9() }.unwrap();
        host.daemon.boot(&host.sandbox).unwrap();
        for (name, _, shows) in NETWORKS {
            until(&format!("{name} after {round} and {by}: {}", state(&host, name)), || {
                state(&host, name)["Running"] == true
            });
            host.ok(&["exec", name, "sh", "-c", shows]);
        }
        let port = &host.json(&["inspect", "user"])[0]["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"];
        assert_eq!(port, "8080");
        let off = state(&host, "off");
        assert_eq!((&off["Status"], &off["ExitCode"]), (&"exited".into(), &137.into()), "{off}");
    }
    host.ok(&["rm", "-f", "bridged", "user", "none", "off"]);
}
