//! What containers may reach and how fast: policy and bandwidth limits, with real containers.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{Host, plain, text};

impl Host {
    /// A container that serves `/big` (1.5 MB) and `/small` on ports 80 and 81.
    fn server(&self, name: &str, more: &[&str]) {
        let serve = "mkdir -p /w; dd if=/dev/zero of=/w/big bs=1000 count=1500; echo hello >/w/small; \
            httpd -p 80 -h /w; httpd -f -p 81 -h /w";
        let args = [&["run", "-d", "--name", name][..], more, &["busybox", "sh", "-c", serve]].concat();
        self.ok(&args);
        let ready = ["exec", name, "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:81/small"];
        crate::until("the server", || self.weft(&ready).status.success());
    }

    fn reaches(&self, from: &str, url: &str) -> bool {
        let url = format!("http://{url}");
        self.weft(&["exec", from, "timeout", "2", "wget", "-q", "-O", "/dev/null", &url]).status.success()
    }

    /// How long `from` takes to get a megabyte and a half.
    fn fetches(&self, from: &str, server: &str) -> Duration {
        let begun = Instant::now();
        self.ok(&["exec", from, "wget", "-q", "-O", "/dev/null", &format!("http://{server}/big")]);
        begun.elapsed()
    }
}

#[test]
fn bandwidth_is_limited_by_option_label_and_command() {
    let mut host = Host::start(plain());
    let said = host.refused(&["run", "-d", "--egress", "fast", "busybox", "true"]);
    assert!(said.contains("invalid rate \"fast\""), "{said}");
    assert_eq!(host.ok(&["ps", "-aq"]), "", "nothing is left");
    let said = host.refused(&["network", "create", "-o", "weft.ingress=1", "bad"]);
    assert!(said.contains("invalid rate \"1\": 8kbit are the least"), "{said}");
    host.ok(&["network", "create", "web"]);
    host.server("slow", &["--network", "web", "--egress", "8mbit"]);
    host.server("fast", &["--network", "web"]);
    // 1.5 MB at 8 Mbit/s are 1.5 s.
    let took = host.fetches("fast", "slow");
    assert!(took > Duration::from_millis(1300) && took < Duration::from_secs(4), "{took:?}");
    let took = host.fetches("slow", "fast");
    assert!(took < Duration::from_millis(1200), "the other way: {took:?}");
    assert_eq!(host.json(&["network", "limit", "slow"])["limit"], json!({"egress": "8mbit"}));
    host.ok(&["network", "limit", "slow", "--ingress", "8mbit", "--egress", "800mbit"]);
    assert!(host.fetches("fast", "slow") < Duration::from_millis(1200));
    assert!(host.fetches("slow", "fast") > Duration::from_millis(1300));
    let table = host.ok(&["network", "limit"]);
    assert!(table.contains("container") && table.contains("slow") && table.contains("800mbit"), "{table}");
    // A daemon that comes back finds it as it was.
    host.daemon.kill9().unwrap();
    host.daemon.boot(&host.sandbox).unwrap();
    assert!(host.fetches("slow", "fast") > Duration::from_millis(1300));
    host.ok(&["network", "limit", "slow", "--clear"]);
    host.ok(&["network", "limit", "web", "--egress", "1mbps"]);
    assert!(host.fetches("slow", "fast") > Duration::from_millis(1300), "of the network");
    let said = host.refused(&["network", "limit", "web", "--egress", "soon"]);
    assert!(said.contains("invalid rate"), "{said}");
    assert_eq!(
        host.json(&["network", "limit", "web"])["limit"],
        json!({"egress": "8mbit"}),
        "nothing changed"
    );
    host.ok(&["network", "limit", "web", "--clear"]);
    assert!(host.fetches("slow", "fast") < Duration::from_millis(1200));
    assert!(host.refused(&["network", "limit", "nobody"]).contains("No such network or container: nobody"));
    assert!(host.refused(&["network", "limit", "host", "--egress", "8mbit"]).contains("bridge networks"));
    host.ok(&["network", "create", "--label", "weft.egress=8mbit", "labelled"]);
    assert_eq!(host.json(&["network", "limit", "labelled"])["limit"], json!({"egress": "8mbit"}));
}

#[test]
fn policy_by_label_and_name() {
    if !std::fs::exists("/proc/sys/net/bridge").unwrap() {
        return;
    }
    let mut host = Host::start(plain());
    host.ok(&["network", "create", "web"]);
    for name in ["db", "app", "other"] {
        let tier = format!("tier={name}");
        host.server(name, &["--network", "web", "--label", &tier]);
    }
    assert!(host.reaches("app", "db/small"));
    let deny = host.ok(&[
        "policy",
        "add",
        "--from",
        "any",
        "--to",
        "name=db",
        "--protocol",
        "tcp",
        "--port",
        "80",
        "deny",
    ]);
    assert!(!host.reaches("app", "db/small") && host.reaches("app", "db:81/small"));
    let said = host.refused(&[
        "policy",
        "add",
        "--from",
        "any",
        "--to",
        "name=db",
        "--protocol",
        "tcp",
        "--port",
        "80",
        "deny",
    ]);
    assert!(said.contains("says so already"), "{said}");
    let counted = host.json(&["policy", "counters"]);
    assert!(counted[0]["packets"].as_u64().unwrap() > 0, "{counted}");
    host.ok(&["policy", "rm", &deny[..12]]);
    assert!(host.reaches("app", "db/small"));
    // Closed, with one way in.
    host.ok(&["policy", "default", "web", "deny"]);
    assert!(!host.reaches("app", "db/small"));
    host.ok(&[
        "policy",
        "add",
        "--from",
        "label=tier=app",
        "--to",
        "label=tier=db",
        "--protocol",
        "tcp",
        "allow",
    ]);
    assert!(host.reaches("app", "db/small") && host.reaches("app", "db:81/small"));
    assert!(!host.reaches("other", "db/small") && !host.reaches("db", "app/small"));
    // One that comes later is judged as its kind is, and one that goes leaves nothing.
    host.server("app2", &["--network", "web", "--label", "tier=app"]);
    assert!(host.reaches("app2", "db/small"));
    host.ok(&["rm", "-f", "app2"]);
    let list = host.ok(&["policy", "ls"]);
    assert!(list.contains("label=tier=app") && list.contains("allow"), "{list}");
    for (args, expected) in [
        (vec!["--from", "everyone", "--to", "any", "deny"], "invalid selector \"everyone\""),
        (vec!["--from", "any", "--to", "network=nope", "deny"], "network nope not found"),
        (vec!["--from", "any", "--to", "any", "--port", "80", "deny"], "ports need a protocol"),
        (
            vec!["--from", "any", "--to", "any", "--protocol", "tcp", "--port", "9-1", "deny"],
            "invalid port range",
        ),
        (vec!["--from", "any", "--to", "any", "--protocol", "ipx", "deny"], "invalid proto: ipx"),
    ] {
        let said = host.refused(&[&["policy", "add"][..], &args].concat());
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    assert_eq!(host.json(&["policy", "ls"]).as_array().unwrap().len(), 1);
    // The daemon is killed and everybody's rules are flushed: the next daemon has policy hold before it is ready.
    host.daemon.kill9().unwrap();
    let flushed = host.sandbox.command("nft").args(["flush", "ruleset"]).output().unwrap();
    assert!(flushed.status.success(), "{}", text(&flushed.stderr));
    host.daemon.boot(&host.sandbox).unwrap();
    crate::until("policy", || !host.reaches("other", "db/small"));
    assert!(host.reaches("app", "db/small"));
    host.ok(&["policy", "default", "web", "allow"]);
    assert!(host.reaches("other", "db/small"));
}
