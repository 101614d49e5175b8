//! Several hosts that share a store: a real etcd, a daemon in each of three namespaces.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;
use weft_testkit::{DaemonOptions, Etcd, EtcdSetup, Lab, LabHost};

use crate::{run, text, until, until_within};

/// The cluster's store, reached by each host over the wire that leads to the test.
struct Cluster {
    lab: Lab,
    /// Ends with it.
    _etcd: Etcd,
}

fn options(etcd: &Etcd, host: &LabHost) -> DaemonOptions {
    let store = format!("etcd://{}/test", etcd.endpoints_at(host.sandbox.outside_address()));
    DaemonOptions { extra: ["--store".to_owned(), store].into(), ..DaemonOptions::default() }
}

impl Cluster {
    fn start(hosts: usize) -> Self {
        let mut lab = Lab::wire(hosts).unwrap();
        let also: Vec<Ipv4Addr> = lab.hosts.iter().map(|h| h.sandbox.outside_address()).collect();
        let etcd = Etcd::start(EtcdSetup { also, ..EtcdSetup::default() }).unwrap();
        for host in &mut lab.hosts {
            let options = options(&etcd, host);
            host.power(options).unwrap();
        }
        Self { lab, _etcd: etcd }
    }

    fn weft(&self, n: usize, words: &[&str]) -> String {
        run(&mut self.command(n, words))
    }

    fn command(&self, n: usize, words: &[&str]) -> std::process::Command {
        let mut command = self.lab.hosts[n].sandbox.command(env!("CARGO_BIN_EXE_weft"));
        command.arg("--run").arg(self.lab.hosts[n].sandbox.dir().join("d/run")).args(words);
        command
    }

    /// Names and whether they are there, as one host sees them.
    fn seen(&self, n: usize) -> Vec<(String, bool)> {
        let all: Value = serde_json::from_str(&self.weft(n, &["--json", "host", "ls"])).unwrap();
        let one = |view: &Value| {
            (view["host"]["spec"]["name"].as_str().unwrap().to_owned(), view["alive"].as_bool().unwrap())
        };
        all.as_array().unwrap().iter().map(one).collect()
    }

    /// Whether a host reaches what is outside the lab: the store.
    fn wire(&self, n: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        run(self.lab.hosts[n].sandbox.command("ip").args(["link", "set", "eth0", state]));
    }
}

fn all(alive: [bool; 3]) -> Vec<(String, bool)> {
    ["h1", "h2", "h3"].map(str::to_owned).into_iter().zip(alive).collect()
}

#[test]
fn hosts_meet_by_the_store_alone() {
    let mut cluster = Cluster::start(3);
    for n in 0..3 {
        until("all hosts", || cluster.seen(n) == all([true; 3]));
    }
    let table = cluster.weft(1, &["host", "ls"]);
    assert!(table.lines().any(|line| line.contains(" * ") && line.contains("h2")), "{table}");
    let one: Value = serde_json::from_str(&cluster.weft(2, &["host", "inspect", "h1"])).unwrap();
    assert_eq!(one[0]["host"]["spec"]["name"], "h1");
    let refused = cluster.command(0, &["host", "inspect", "h9"]).output().unwrap();
    assert!(text(&refused.stderr).contains("No such host: h9"), "{}", text(&refused.stderr));

    // What is for all hosts is known on all, and is refused where the store is away.
    cluster.weft(0, &["policy", "add", "--from", "name=aa", "--to", "name=bb", "deny"]);
    until("the policy on every host", || {
        (0..3).all(|n| cluster.weft(n, &["policy", "ls"]).contains("name=aa"))
    });
    cluster.wire(1, false);
    // Its sign of life ends after 15 s.
    until_within(Duration::from_secs(60), "the host that is cut off", || {
        cluster.seen(0) == all([true, false, true])
    });
    let refused =
        cluster.command(1, &["policy", "add", "--from", "any", "--to", "name=bb", "deny"]).output().unwrap();
    assert!(!refused.status.success() && text(&refused.stderr).contains("etcd"), "{}", text(&refused.stderr));
    assert!(cluster.weft(1, &["policy", "ls"]).contains("name=aa"), "what it knew it knows");

    // Its daemon starts without the store, on what it knew.
    let host = &mut cluster.lab.hosts[1];
    let daemon = host.daemon.as_mut().unwrap();
    daemon.kill9().unwrap();
    daemon.boot(&host.sandbox).unwrap();
    assert!(cluster.weft(1, &["policy", "ls"]).contains("name=aa"));
    cluster.weft(0, &["policy", "add", "--from", "name=cc", "--to", "name=bb", "deny"]);
    cluster.wire(1, true);
    until("all hosts again", || (0..3).all(|n| cluster.seen(n) == all([true; 3])));
    until("what was missed", || cluster.weft(1, &["policy", "ls"]).contains("name=cc"));
}

#[test]
fn a_host_that_cannot_join_says_why_and_makes_nothing() {
    let mut lab = Lab::wire(2).unwrap();
    let also: Vec<Ipv4Addr> = lab.hosts.iter().map(|h| h.sandbox.outside_address()).collect();
    let mut etcd = Etcd::start(EtcdSetup { also, ..EtcdSetup::default() }).unwrap();
    let good = options(&etcd, &lab.hosts[0]);
    lab.hosts[0].power(good).unwrap();
    let refused =
        |lab: &mut Lab, options: DaemonOptions| format!("{:#}", lab.hosts[1].power(options).unwrap_err());

    let mut wrong = options(&etcd, &lab.hosts[1]);
    wrong.extra[1] = "etcd:///".into();
    let text = refused(&mut lab, wrong);
    assert!(text.contains("an endpoint is empty"), "{text}");
    // The name of another.
    "h1".clone_into(&mut lab.hosts[1].name);
    let same = options(&etcd, &lab.hosts[1]);
    let text = refused(&mut lab, same);
    assert!(text.contains("a host named h1 is in the cluster already"), "{text}");
    "h2".clone_into(&mut lab.hosts[1].name);
    // A first start without the store.
    etcd.kill(0).unwrap();
    let away = options(&etcd, &lab.hosts[1]);
    let text = refused(&mut lab, away.clone());
    assert!(text.contains("--store etcd://"), "{text}");
    etcd.restart(0).unwrap();
    etcd.wait().unwrap();
    lab.hosts[1].power(away).unwrap();
}
