//! `weft explain`, its live trace, counters and the picture of networks, against a daemon with real containers: what is
//! explained is compared with what `wget` in a container, or this test from outside, really gets.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use serde_json::Value;

use super::{Host, plain, run, text, until};

const SERVE: &str = "mkdir /www; echo hi > /www/index.html; exec httpd -f -p 80 -h /www";

/// `a` and `b` on red, `c` on blue, `d` on an internal one, `e` stopped; `b` is published on 8080.
fn scene() -> Host {
    let host = Host::start(plain());
    for args in [&["red"][..], &["blue"], &["--internal", "inner"]] {
        host.ok(&[&["network", "create"], args].concat());
    }
    for (name, network, more) in [
        ("aa", "red", &[][..]),
        ("bb", "red", &["-p", "8080:80"]),
        ("cc", "blue", &[]),
        ("dd", "inner", &[]),
        ("ee", "red", &[]),
    ] {
        let start = ["run", "-d", "--name", name, "--network", network, "--network-alias", "alias"];
        host.ok(&[&start, more, &["busybox", "sh", "-c", SERVE]].concat());
    }
    host.ok(&["stop", "-t", "0", "ee"]);
    until("a web server", || {
        host.weft(&["exec", "bb", "wget", "-q", "-O-", "http://127.0.0.1/"]).status.success()
    });
    host
}

/// Explains, and looks whether it agrees with `real`; the answer.
fn agrees(host: &Host, args: &[&str], real: bool) -> Value {
    let output = host.weft(&[&["--json", "explain"], args].concat());
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{args:?}: {}{}", text(&output.stdout), text(&output.stderr)));
    let expected = if real { "passes" } else { "dropped" };
    assert_eq!(answer["verdict"], expected, "{args:?}: {answer:#}");
    assert_eq!(output.status.code(), Some(i32::from(!real)), "{args:?}");
    answer
}

fn wget(host: &Host, from: &str, to: &str) -> bool {
    let ask = format!("timeout 2 wget -q -O- http://{to}/");
    host.weft(&["exec", from, "sh", "-c", &ask]).status.success()
}

fn address(host: &Host, name: &str) -> String {
    let all = host.json(&["inspect", name]);
    let networks = all[0]["NetworkSettings"]["Networks"].as_object().unwrap();
    networks.values().next().unwrap()["IPAddress"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_explained_is_what_happens() {
    let host = scene();
    let (b, c, d) = (address(&host, "bb"), address(&host, "cc"), address(&host, "dd"));
    let here = host.sandbox.address().to_string();
    agrees(&host, &["aa", "bb", "tcp", "80"], wget(&host, "aa", &b));
    agrees(&host, &["aa", &b, "80"], true);
    agrees(&host, &["aa", "bb", "tcp", "81"], wget(&host, "aa", &format!("{b}:81")));
    let isolated = agrees(&host, &["aa", "cc", "tcp", "80"], wget(&host, "aa", &c));
    assert!(isolated["remedy"].as_str().unwrap().contains("network connect"), "{isolated:#}");
    agrees(&host, &["aa", "dd", "tcp", "80"], wget(&host, "aa", &d));
    agrees(&host, &["dd", "outside", "tcp", "80"], false);
    agrees(&host, &["aa", "host", "8080"], wget(&host, "aa", &format!("{here}:8080")));
    agrees(&host, &["cc", &here, "8080"], wget(&host, "cc", &format!("{here}:8080")));
    let stopped = agrees(&host, &["aa", "ee", "tcp", "80"], false);
    assert!(stopped["reason"].as_str().unwrap().contains("container ee is not running"), "{stopped:#}");
    agrees(&host, &["aa", "bb"], true);
    let reached = |port: u16| {
        let address = std::net::SocketAddr::new(host.sandbox.address().into(), port);
        std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
    };
    agrees(&host, &["outside@eth0", "host", "8080"], reached(8080));
    agrees(&host, &["outside@eth0", &here, "8081"], reached(8081));
    let foreign = "table inet fw {\n chain f {\n type filter hook forward priority 5; tcp dport 80 drop comment \"mine\"\n }\n}";
    let file = host.sandbox.dir().join("fw.nft");
    std::fs::write(&file, foreign).unwrap();
    run(host.sandbox.command("nft").args(["-f", file.to_str().unwrap()]));
    let dropped = agrees(&host, &["outside@eth0", "host", "8080"], reached(8080));
    let hop = dropped["hops"].as_array().unwrap().iter().find(|h| h["verdict"] == "dropped").unwrap();
    assert_eq!((hop["rule"]["table"].as_str(), hop["rule"]["comment"].as_str()), (Some("fw"), Some("mine")));
    let output = host.weft(&["explain", "outside@eth0", "host", "8080"]);
    assert!(text(&output.stdout).contains("what to do: it is not of Weft"), "{}", text(&output.stdout));
}

#[test]
fn ends_are_named_by_their_networks() {
    let host = scene();
    host.ok(&["network", "connect", "blue", "bb"]);
    let networks = &host.json(&["inspect", "bb"])[0]["NetworkSettings"]["Networks"];
    let on = |network: &str| networks[network]["IPAddress"].as_str().unwrap().to_owned();
    let seen = agrees(&host, &["aa", "bb.red", "80"], wget(&host, "aa", &on("red")));
    assert_eq!(seen["ends"], "aa.red -> bb.red", "{seen:#}");
    assert!(seen["packet"].as_str().unwrap().ends_with(&format!("{}:80", on("red"))), "{seen:#}");
    let seen = agrees(&host, &["aa", "bb.blue", "80"], wget(&host, "aa", &on("blue")));
    assert!(seen["packet"].as_str().unwrap().ends_with(&format!("{}:80", on("blue"))), "{seen:#}");
    let seen = agrees(&host, &["bb.blue", "cc.blue", "80"], true);
    assert!(seen["packet"].as_str().unwrap().contains(&on("blue")), "{seen:#}");
    agrees(&host, &["aa", "ALIAS.red", "80"], true);
    host.ok(&[
        "run",
        "-d",
        "--name",
        "ll",
        "--network",
        "red",
        "--link",
        "bb:linked",
        "--add-host",
        "far:192.0.2.9",
        "busybox",
        "sleep",
        "1000",
    ]);
    until("an answer to the linked name", || wget(&host, "ll", "linked"));
    let linked = agrees(&host, &["ll", "linked", "80"], true);
    assert_eq!(linked["ends"], "ll.red -> bb.red", "{linked:#}");
    let far = host.weft(&["explain", "ll", "far", "80"]);
    assert!(text(&far.stdout).contains("192.0.2.9:80"), "{}{}", text(&far.stdout), text(&far.stderr));
    for slip in ["bb:80", "outside@", "http://bb", "0.0.0.0"] {
        let said = host.refused(&["explain", "aa", slip, "80"]);
        assert!(said.contains("CONTAINER.NETWORK"), "{slip}: {said}");
    }
    assert!(host.refused(&["explain", "aa", "cc.red", "80"]).contains("No such container: cc.red"));
    let output = host.weft(&["explain", "aa", "bb", "80"]);
    assert!(text(&output.stdout).contains("(aa.red -> bb.red)"), "{}", text(&output.stdout));
}

#[test]
fn both_ends_are_of_one_family() {
    let host = scene();
    host.ok(&["network", "create", "--subnet", "10.88.0.0/24", "--ipv6", "--subnet", "fd88::/64", "two"]);
    for name in ["aa", "bb"] {
        host.ok(&["network", "connect", "two", name]);
    }
    let six = |name: &str| {
        let networks = &host.json(&["inspect", name])[0]["NetworkSettings"]["Networks"];
        networks["two"]["GlobalIPv6Address"].as_str().unwrap().to_owned()
    };
    let (a, b) = (six("aa"), six("bb"));
    let to = format!("[{b}]:80");
    for args in
        [[&a, "bb.two", "80"], ["aa.two", &b, "80"], ["aa", &b, "80"], [&a, "bb", "80"], [&a, &b, "80"]]
    {
        let output = host.weft(&[&["explain"][..], &args].concat());
        assert!(
            text(&output.stdout).contains(&to),
            "{args:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
    let four = address(&host, "cc");
    assert!(host.refused(&["explain", &a, &four, "80"]).contains("no addresses of one family"));
    assert_eq!(host.ok(&["policy", "default", "two"]), "allow");
    assert_eq!(host.json(&["network", "inspect", "two"])[0]["PolicyDefault"], "allow");
    assert!(host.refused(&["network", "rm", ""]).contains("value is empty"));
}

#[test]
fn who_is_paused_and_what_policy_denies() {
    let host = scene();
    let b = address(&host, "bb");
    host.ok(&["pause", "bb"]);
    let paused = agrees(&host, &["aa", "bb", "tcp", "80"], wget(&host, "aa", &b));
    assert!(paused["reason"].as_str().unwrap().starts_with("container bb is paused"), "{paused:#}");
    assert_eq!(paused["remedy"], "docker unpause bb");
    let paused = agrees(&host, &["bb", "aa", "tcp", "80"], false);
    assert!(paused["reason"].as_str().unwrap().starts_with("container bb is paused"), "{paused:#}");
    host.ok(&["unpause", "bb"]);
    agrees(&host, &["aa", "bb", "tcp", "80"], wget(&host, "aa", &b));
    if !std::fs::exists("/proc/sys/net/bridge").unwrap() {
        return;
    }
    let add = [
        "policy",
        "add",
        "--from",
        "name=aa",
        "--to",
        "network=red",
        "--protocol",
        "tcp",
        "--port",
        "80",
        "deny",
    ];
    let id = host.ok(&add).trim().to_owned();
    let denied = agrees(&host, &["aa", "bb", "tcp", "80"], wget(&host, "aa", &b));
    let reason = denied["reason"].as_str().unwrap();
    assert!(reason.contains("(deny name=aa -> network=red, tcp 80)"), "{reason}");
    let named = reason.split("policy ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(id.starts_with(named) || named.starts_with(&id), "{id}: {reason}");
    // What is advised helps.
    assert!(denied["remedy"].as_str().unwrap().contains(&format!("weft policy rm {named}")), "{denied:#}");
    host.ok(&["policy", "rm", named]);
    agrees(&host, &["aa", "bb", "tcp", "80"], wget(&host, "aa", &b));
    host.ok(&["policy", "default", "red", "deny"]);
    let closed = agrees(&host, &["aa", "bb", "tcp", "80"], wget(&host, "aa", &b));
    let remedy = closed["remedy"].as_str().unwrap();
    let advised = remedy.split(" (or: ").next().unwrap();
    assert!(closed["reason"].as_str().unwrap().contains("the default of network red is deny"), "{closed:#}");
    let words: Vec<&str> = advised.split(' ').skip(1).collect();
    host.ok(&words);
    agrees(&host, &["aa", "bb", "tcp", "80"], wget(&host, "aa", &b));
}

#[test]
fn words_that_mean_nothing_are_refused() {
    let host = Host::start(plain());
    let said = |args: &[&str]| host.refused(&[&["explain"], args].concat());
    assert!(said(&["nobody", "host"]).contains("No such container: nobody"));
    assert!(said(&["host", "host", "ipx"]).contains("invalid proto: ipx"));
    assert!(said(&["host", "host", "icmp", "8"]).contains("icmp has no ports"));
    assert_eq!(host.weft(&["explain", "host", "host", "tcp", "0"]).status.code(), Some(2));
}

#[test]
fn counters_and_the_picture() {
    let host = scene();
    let c = address(&host, "cc");
    assert!(wget(&host, "aa", &address(&host, "bb")) && !wget(&host, "aa", &c));
    let stats = host.json(&["network", "stats", "blue"]);
    let isolation = stats["drops"].as_array().unwrap().iter().find(|d| d["reason"] == "isolation").unwrap();
    assert!(isolation["packets"].as_u64().unwrap() > 0, "{stats:#}");
    let inspected = host.json(&["network", "inspect", "red"]);
    assert_eq!(inspected[0]["Name"], "red");
    let ports = inspected[0]["Counters"]["Ports"].as_array().unwrap();
    let a = ports.iter().find(|p| p["container"] == "aa").unwrap();
    assert!(a["counters"]["tx_packets"].as_u64().unwrap() > 0, "{inspected:#}");
    let table = host.ok(&["network", "stats", "red"]);
    assert!(table.starts_with("CONTAINER") && table.contains("DROPPED BECAUSE"), "{table}");
    let tree = host.ok(&["network", "graph"]);
    assert!(
        tree.contains("network red (bridge, wfb") && tree.contains("published 0.0.0.0:8080->80/tcp"),
        "{tree}"
    );
    let file = host.sandbox.dir().join("graph.svg");
    host.ok(&["network", "graph", "--svg", file.to_str().unwrap()]);
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains(">inner<") && svg.ends_with("</svg>"), "{svg}");
    assert!(host.ok(&["network", "graph", "--format", "dot"]).starts_with("graph weft {"));
    assert!(host.json(&["network", "graph"])["networks"].as_array().unwrap().len() >= 4);
}

fn traces(host: &Host) -> bool {
    run(host.sandbox.command("nft").args(["list", "tables"])).contains("weft_trace")
}

/// A client that watches `aa` to another container's port 80.
struct Watcher {
    client: std::process::Child,
    events: Receiver<Value>,
}

impl Watcher {
    /// Returns when the trace runs.
    fn new(host: &Host, to: &str) -> Self {
        let mut command = host.sandbox.command(env!("CARGO_BIN_EXE_weft"));
        let (socket, run) = (host.daemon.docker_host(), host.home().join("run"));
        command.args(["--host", &socket, "--run", run.to_str().unwrap()]);
        command.args(["--json", "explain", "--watch", "aa", to, "tcp", "80"]).stdin(Stdio::null());
        let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
        until("the trace's table", || traces(host));
        let (send, events) = mpsc::channel();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let read = move |line: String| send.send(serde_json::from_str(&line).unwrap());
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(read));
        Self { client, events }
    }

    /// The next event that is so.
    fn told(&self, is: impl Fn(&Value) -> bool) -> Option<Value> {
        std::iter::from_fn(|| self.events.recv_timeout(Duration::from_secs(10)).ok()).find(is)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        kill(&mut self.client);
    }
}

#[test]
fn a_trace_ends_with_who_looks_and_with_the_daemon() {
    let mut host = scene();
    let watcher = Watcher::new(&host, "cc");
    let c = address(&host, "cc");
    assert!(!wget(&host, "aa", &c));
    let dropped = watcher.told(|e| e["verdict"] == "drop").expect("a drop");
    assert_eq!(dropped["rule"]["comment"], "isolation", "{dropped:#}");
    // No rule sees what never comes to one: it is explained anew.
    host.ok(&["pause", "aa"]);
    let paused = |e: &Value| {
        e["explained"]["reason"].as_str().is_some_and(|r| r.starts_with("container aa is paused"))
    };
    assert!(watcher.told(paused).is_some(), "nothing was said of the pause");
    host.ok(&["unpause", "aa"]);
    drop(watcher);
    until("the end of the trace's table", || !traces(&host));
    let watcher = Watcher::new(&host, "cc");
    host.daemon.kill9().unwrap();
    until("the end of the trace's table", || !traces(&host));
    drop(watcher);
}

#[test]
fn a_trace_follows_its_ends_and_the_policies() {
    let host = scene();
    let watcher = Watcher::new(&host, "bb");
    host.ok(&["policy", "create", "--from", "aa", "--to", "bb", "deny"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!wget(&host, "aa", &address(&host, "bb")));
    let named =
        |e: &Value| e["rule"]["comment"].as_str().is_some_and(|c| c.contains("(deny name=aa -> name=bb)"));
    assert!(watcher.told(named).is_some(), "a policy that came after the watch is not named");
    let before = address(&host, "bb");
    host.ok(&["network", "disconnect", "red", "bb"]);
    host.ok(&["start", "ee"]);
    host.ok(&["network", "connect", "red", "bb"]);
    let now = address(&host, "bb");
    assert_ne!(before, now);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!wget(&host, "aa", &now));
    let there = |e: &Value| e["what"].as_str().is_some_and(|what| what.contains(&now));
    assert!(watcher.told(there).is_some(), "the new address is not watched");
}

/// Ends a client in a sandbox: `nsenter` forks to enter the process namespace, and its child is the client.
fn kill(client: &mut std::process::Child) {
    let id = client.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    for pid in children.split_whitespace() {
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
    let _ = client.kill();
    let _ = client.wait();
}
