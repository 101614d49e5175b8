//! Published ports as people meet them: rows, taken ports with their owners, a table that somebody flushes, a daemon that
//! dies, and the policy with what `weft doctor` says of it.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Host, plain, run, text, until};

/// A server on port 80 of `name` that says `hi`, one process for each visitor.
fn serve(host: &Host, name: &str, publish: &[&str]) {
    let script = "echo hi > /hi; exec nc -ll -p 80 -e cat /hi";
    let command = ["busybox", "sh", "-c", script];
    host.ok(&[&["run", "-d", "--name", name], publish, &command[..]].concat());
}

/// One visit from the LAN.
fn visit(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer == "hi\n" { Ok(()) } else { Err(std::io::Error::other(format!("answered {answer:?}"))) }
}

/// Visits one after another.
struct Visitors {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU32>,
    thread: JoinHandle<Vec<(Instant, String)>>,
}

impl Visitors {
    fn start(at: SocketAddr) -> Self {
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&good));
        let thread = thread::spawn(move || {
            let mut bad = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match visit(at) {
                    Ok(()) => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => bad.push((Instant::now(), error.to_string())),
                }
                thread::sleep(Duration::from_millis(2));
            }
            bad
        });
        Self { stop, good, thread }
    }

    fn more(&self, count: u32) {
        let goal = self.good.load(Ordering::Relaxed) + count;
        until("visitors", || self.good.load(Ordering::Relaxed) >= goal);
    }

    fn failures(self) -> Vec<(Instant, String)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn rows_are_kept_as_rows_and_shown_port_by_port() {
    let host = Host::start(plain());
    serve(&host, "row", &["-p", "9000-9099:9000-9099", "-p", "8000-8003:80-83", "-p", "80/udp"]);
    let ports = host.json(&["inspect", "row"])[0]["NetworkSettings"]["Ports"].clone();
    for port in [9000, 9050, 9099] {
        let binding = &ports[format!("{port}/tcp")][0];
        assert_eq!(binding, &json!({"HostIp": "0.0.0.0", "HostPort": port.to_string()}));
    }
    assert_eq!(ports["83/tcp"][0]["HostPort"], "8003");
    assert_eq!(ports.as_object().unwrap().len(), 105, "{ports}");
    let kept = host.json(&["network", "ports", "bridge"]);
    let rows: Vec<&Value> = kept[0]["port"]["spec"]["publish"].as_array().unwrap().iter().collect();
    assert_eq!(rows.iter().filter(|row| row["host_ip"] == "0.0.0.0").count(), 3, "{kept}");
    let listed = host.json(&["ps", "--no-trunc"]);
    assert!(listed.to_string().contains("9099"), "{listed}");
    let elements = run(host.sandbox.command("nft").args(["list", "map", "inet", "weft", "publish4anyrows"]));
    assert!(elements.contains("tcp . 9000-9099"), "{elements}");
    let at = SocketAddr::from((host.sandbox.address(), 8000));
    until("the server", || visit(at).is_ok());
    host.ok(&["rm", "-f", "row"]);
}

#[test]
fn a_taken_port_is_told_with_its_owner() {
    let host = Host::start(plain());
    host.ok(&["run", "-d", "--name", "first", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let told = |publish: &str| {
        let run = host.weft(&["run", "--name", "second", "-p", publish, "busybox", "true"]);
        assert_eq!(run.status.code(), Some(125));
        host.ok(&["rm", "-f", "second"]);
        text(&run.stderr)
    };
    let by_container = told("8080:80");
    let expected = "Bind for 0.0.0.0:8080 failed: port is already allocated (by container first)";
    assert!(by_container.contains(expected), "{by_container}");
    let mut listener =
        host.sandbox.command("busybox").args(["nc", "-ll", "-p", "8081", "-e", "cat"]).spawn().unwrap();
    until("the host's own server", || {
        run(host.sandbox.command("cat").arg("/proc/net/tcp6")).contains(":1F91")
            || run(host.sandbox.command("cat").arg("/proc/net/tcp")).contains(":1F91")
    });
    let by_process = told("8081:80");
    let expected = "failed to bind host port 0.0.0.0:8081/tcp: address already in use (by ";
    assert!(by_process.contains(expected) && by_process.contains("process "), "{by_process}");
    listener.kill().unwrap();
    listener.wait().unwrap();
    host.ok(&["rm", "-f", "first"]);
}

/// Many hands at one port, with containers that come and go: whoever does not get it is told who has it.
#[test]
fn in_a_race_for_a_port_the_owner_is_told_too() {
    let host = Host::start(plain());
    let told: Vec<String> = thread::scope(|scope| {
        let hand = |_| {
            scope.spawn(|| {
                let run = || host.weft(&["run", "--rm", "-p", "8080:80", "busybox", "true"]);
                (0..12)
                    .map(|_| run())
                    .filter(|run| !run.status.success())
                    .map(|run| text(&run.stderr))
                    .collect()
            })
        };
        let hands: Vec<_> = (0..6).map(hand).collect();
        hands.into_iter().flat_map(|hand| -> Vec<String> { hand.join().unwrap() }).collect()
    });
    assert!(!told.is_empty(), "nobody was in the way of anybody");
    for told in told {
        assert!(told.contains("port is already allocated (by container "), "{told}");
    }
}

#[test]
fn a_flushed_ruleset_is_back_within_a_second_under_traffic() {
    let host = Host::start(plain());
    serve(&host, "web", &["-p", "8080:80"]);
    let at = SocketAddr::from((host.sandbox.address(), 8080));
    until("the server", || visit(at).is_ok());
    let visitors = Visitors::start(at);
    visitors.more(10);
    for damage in [&["flush", "ruleset"][..], &["delete", "table", "inet", "weft"]] {
        let done = Instant::now();
        run(host.sandbox.command("nft").args(damage));
        until("a visitor", || visit(at).is_ok());
        let took = done.elapsed();
        assert!(took < Duration::from_secs(1), "{damage:?}: {took:?}");
        visitors.more(10);
    }
    for (_, failure) in visitors.failures() {
        // Between the flush and the repair the port is the host's own, where nobody listens.
        assert!(failure.contains("refused") || failure.contains("reset"), "{failure}");
    }
    host.ok(&["rm", "-f", "web"]);
}

#[test]
fn no_visitor_is_lost_while_the_daemon_is_killed_and_comes_back() {
    let mut host = Host::start(plain());
    serve(&host, "web", &["-p", "8080:80"]);
    let at = SocketAddr::from((host.sandbox.address(), 8080));
    until("the server", || visit(at).is_ok());
    let visitors = Visitors::start(at);
    visitors.more(20);
    for _ in 0..3 {
        host.daemon.kill9().unwrap();
        visitors.more(20);
        host.daemon.boot(&host.sandbox).unwrap();
        visitors.more(20);
    }
    // The new daemon hears of changes as the first one did.
    run(host.sandbox.command("nft").args(["add", "rule", "inet", "weft", "forward", "counter"]));
    until("the foreign rule to go", || {
        !run(host.sandbox.command("nft").args(["list", "chain", "inet", "weft", "forward"]))
            .contains("counter packets 0 bytes 0\n\t}")
    });
    let lost: Vec<_> = visitors.failures().into_iter().map(|(_, why)| why).collect();
    assert_eq!(lost, Vec::<String>::new());
    host.ok(&["rm", "-f", "web"]);
}

#[test]
fn the_policy_is_kept_and_explained() {
    let host = Host::with(json!({"publish-policy": "open"}), |_| (), &["--publish-policy", "deny"]);
    serve(&host, "web", &["-p", "8080:80"]);
    let inside = || host.sandbox.command("busybox").args(["nc", "127.0.0.1", "8080"]).output().unwrap();
    until("the server, from the host itself", || text(&inside().stdout) == "hi\n");
    let at = SocketAddr::from((host.sandbox.address(), 8080));
    assert!(visit(at).is_err(), "from the LAN");
    let all = host.json(&["doctor"]);
    let all = all.as_array().or_else(|| all["checks"].as_array()).unwrap();
    let told =
        all.iter().find(|c| c["name"].as_str().is_some_and(|n| n.starts_with("publish policy"))).unwrap();
    assert_eq!(told["name"], "publish policy deny");
    assert!(told["detail"].as_str().unwrap().starts_with("no other host"), "{told}");
    host.ok(&["rm", "-f", "web"]);
}
