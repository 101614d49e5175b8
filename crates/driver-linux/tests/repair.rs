//! Reconciling against a real kernel: what is foreign stays, what is ours and unwanted goes, what was damaged is mended, and
//! a failure anywhere leaves what another run finishes.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{HOST4, Host, connect, connect_from, serve_tcp};
use weft_dataplane::{Driver, Step};
use weft_model::{PortId, Protocol::Tcp};

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(args: &str) -> String {
    run("ip", &args.split(' ').collect::<Vec<_>>())
}

/// Two segments, two containers, some published ports.
fn furnished() -> Host {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24", "fd01::1/64"]);
    let blue = host.segment(2, &["10.2.0.1/24"]);
    host.container(1, red, &["10.1.0.2/24", "fd01::2/64"]);
    host.container(2, blue, &["10.2.0.2/24"]);
    host.publish(Tcp, "0.0.0.0", 8080, "10.1.0.2", 80);
    host.publish(Tcp, "::", 8080, "fd01::2", 80);
    host
}

#[test]
fn nothing_is_left_and_nothing_foreign_is_touched() {
    let mut host = furnished();
    ip("link add foreign0 type bridge");
    ip("link add wfstrange type bridge");
    ip("link add wfp0123456789zz type veth peer name peer0");
    run("nft", &["add table inet other; add chain inet other c { type filter hook forward priority 5; }"]);
    std::fs::create_dir_all(host.dir.path().join("netns")).unwrap();
    std::fs::write(host.dir.path().join("netns/by-hand"), "").unwrap();
    let before = (ip("-br link"), run("nft", &["list", "ruleset"]));
    host.converge();
    host.assert_settled();
    assert_ne!(before.1, run("nft", &["list", "ruleset"]));
    let generation = host.desired.generation;
    host.desired = weft_dataplane::Desired { generation, ..Default::default() };
    host.converge();
    host.driver().settle();
    host.assert_settled();
    assert_eq!(before, (ip("-br link"), run("nft", &["list", "ruleset"])));
    let names: Vec<_> = std::fs::read_dir(host.dir.path().join("netns")).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_foreign_bridge_is_refused() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    host.desired.segments.get_mut(&red).unwrap().link = "lanbridge".to_owned();
    ip("link add lanbridge type bridge");
    host.desired.generation += 1;
    let outcome = host.converger.converge(&host.desired).unwrap();
    let (step, error) = &outcome.failed[0];
    assert!(matches!(step, Step::PutSegment { .. }), "{step}");
    assert_eq!(error.to_string(), "lanbridge exists and is not ours");
    assert!(!ip("addr show lanbridge").contains("10.1.0.1"));
    ip("link del lanbridge");
    host.converge();
    host.assert_settled();
    assert!(ip("addr show lanbridge").contains("10.1.0.1"), "ours now, by its alias");
    host.desired.segments.clear();
    host.converge();
    assert!(!ip("-br link").contains("lanbridge"));
}

#[test]
fn damage_is_mended() {
    let mut host = furnished();
    host.converge();
    let sandbox = host.driver().sandbox_path(*host.desired.sandboxes.keys().next().unwrap());
    serve_tcp(&sandbox, "0.0.0.0:80");
    let works = |host: &Host| connect_from(&host.lan.clone(), &format!("{HOST4}:8080")).is_ok();
    assert!(works(&host));
    let table = ["delete", "table", "inet", "weft"];
    type Damage = (&'static str, fn());
    let damages: [Damage; 14] = [
        ("table deleted", || drop(run("nft", &["delete", "table", "inet", "weft"]))),
        ("everything flushed", || drop(run("nft", &["flush", "ruleset"]))),
        ("rule deleted", || drop(run("nft", &["flush", "chain", "inet", "weft", "prerouting"]))),
        ("rule added", || drop(run("nft", &["insert rule inet weft forward drop"]))),
        ("structural element deleted", || {
            drop(run("nft", &["delete element inet weft into { wfb010101010101 }"]));
        }),
        ("published port deleted", || {
            drop(run("nft", &["delete element inet weft publish4any { tcp . 8080 }"]))
        }),
        ("published port added", || {
            drop(run("nft", &["add element inet weft publish4any { tcp . 9 : 10.1.0.9 . 9 }"]));
        }),
        ("element that we would not have written", || {
            drop(run("nft", &["add element inet weft publish4 { tcp . 0.0.0.0 . 9 : 10.1.0.9 . 9 }"]));
        }),
        ("chain and set of others", || {
            drop(run(
                "nft",
                &["add chain inet weft theirs { type filter hook input priority 5; policy drop; }"],
            ));
            drop(run("nft", &["add set inet weft theirs { type ipv4_addr; }"]));
        }),
        ("policy of a chain", || drop(run("nft", &["chain inet weft forward { policy drop; }"]))),
        ("put to sleep", || drop(run("nft", &["add table inet weft { flags dormant; }"]))),
        ("a chain of others that the user's rules use", || {
            drop(run("nft", &["add chain inet weft helper"]));
            drop(run("nft", &["add rule inet weft user_forward jump helper"]));
            drop(run("nft", &["flush chain inet weft forward"]));
        }),
        ("port taken off its bridge", || drop(ip("link set wfp010101010101 nomaster"))),
        ("bridge down", || drop(ip("link set wfb010101010101 down"))),
    ];
    for (what, damage) in damages {
        damage();
        let observed = host.driver().observe().unwrap();
        assert_ne!(host.driver().plan(&host.desired, &observed), [], "{what}: seen");
        host.converger.forget();
        host.converge();
        host.assert_settled();
        assert!(works(&host), "{what}: mended");
    }
    let _ = table;
    // Strays: ours by name, wanted by nobody.
    ip("link add wfbffffffffffff type bridge");
    ip("link add wfpffffffffffff type veth peer name x");
    std::fs::write(sandbox.with_file_name("f".repeat(64)), "").unwrap();
    host.converger.forget();
    host.converge();
    host.driver().settle();
    host.assert_settled();
    assert!(!ip("-br link").contains("ffffffffffff"));
    assert!(works(&host));
}

#[test]
fn a_changed_port_keeps_its_connections() {
    let mut host = Host::new();
    let red = host.segment(1, &["10.1.0.1/24"]);
    let blue = host.segment(2, &["10.2.0.1/24"]);
    let a = host.container(1, red, &["10.1.0.2/24"]);
    host.converge();
    serve_tcp(&a, "0.0.0.0:80");
    // A second network while running, then a second subnet, then both away.
    let id = *host.desired.sandboxes.keys().next().unwrap();
    let second = host.plug(2, "eth1", id, blue, &["10.2.0.2/24"]);
    host.desired.ports.get_mut(&second).unwrap().gateways.clear();
    let done = host.converge().done;
    assert!(matches!(&done[..], [Step::CreatePort { .. }]), "{done:?}");
    assert_eq!(connect("10.2.0.2:80"), Ok(common::ip("10.2.0.1")));
    host.desired.segments.get_mut(&red).unwrap().addresses.insert("10.3.0.1/24".parse().unwrap());
    let first = host.desired.ports.get_mut(&PortId::from_bytes([1; 32])).unwrap();
    first.addresses.insert("10.3.0.2/24".parse().unwrap());
    let done = host.converge().done;
    assert!(done.iter().all(|s| !matches!(s, Step::CreatePort { .. } | Step::DeletePort { .. })), "{done:?}");
    assert_eq!(connect("10.3.0.2:80"), Ok(common::ip("10.3.0.1")));
    assert_eq!(connect("10.1.0.2:80"), Ok(common::ip("10.1.0.1")));
    host.desired.ports.remove(&second);
    host.desired.segments.get_mut(&red).unwrap().addresses.remove(&"10.3.0.1/24".parse().unwrap());
    let first = host.desired.ports.get_mut(&PortId::from_bytes([1; 32])).unwrap();
    first.addresses.remove(&"10.3.0.2/24".parse().unwrap());
    host.converge();
    assert!(!inside(&host, &a, "addr").contains("10.3.0"));
    assert_eq!(connect("10.1.0.2:80"), Ok(common::ip("10.1.0.1")));
    // The port comes back at once under the name that is still being deleted.
    let second = host.plug(2, "eth1", id, blue, &["10.2.0.2/24"]);
    host.desired.ports.get_mut(&second).unwrap().gateways.clear();
    host.converge();
    host.assert_settled();
    assert_eq!(connect("10.2.0.2:80"), Ok(common::ip("10.2.0.1")));
}

fn inside(host: &Host, path: &Path, args: &'static str) -> String {
    host.inside(path, move || ip(args))
}

#[test]
fn every_step_can_be_the_last_one_and_run_twice() {
    let total = {
        let host = furnished();
        host.driver().plan(&host.desired, &host.driver().observe().unwrap()).len()
    };
    for cut in 0..=total {
        // Each round is a host of its own, on a thread of its own.
        std::thread::spawn(move || {
            let mut host = furnished();
            let steps = host.driver().plan(&host.desired, &host.driver().observe().unwrap());
            for step in steps.iter().take(cut) {
                host.driver().apply(step).unwrap();
                host.driver().apply(step).unwrap_or_else(|e| panic!("{step} twice: {e:?}"));
            }
            host.converge();
            host.assert_settled();
            let full = host.driver().observe().unwrap();
            let empty = weft_dataplane::Desired::default();
            for step in host.driver().plan(&empty, &full).iter().take(cut) {
                host.driver().apply(step).unwrap();
                host.driver().apply(step).unwrap_or_else(|e| panic!("{step} twice: {e:?}"));
            }
            host.converger.forget();
            host.converge();
            host.assert_settled();
        })
        .join()
        .unwrap();
    }
}

#[test]
fn networks_that_come_and_go_lose_no_visitor_of_another() {
    let mut host = furnished();
    host.converge();
    let sandbox = host.driver().sandbox_path(*host.desired.sandboxes.keys().next().unwrap());
    serve_tcp(&sandbox, "0.0.0.0:80");
    let stop = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            common::spawn(&host.lan.clone(), move || {
                let (mut lost, mut seen) = (Vec::new(), 0);
                while !stop.load(Ordering::Relaxed) {
                    seen += 1;
                    lost.extend(connect(&format!("{HOST4}:8080")).err());
                }
                (lost, seen)
            })
        })
        .collect();
    let bridges = host.desired.segments.clone();
    for round in 0..150 {
        host.desired.segments.clone_from(&bridges);
        if round % 2 == 0 {
            host.segment(3, &["10.3.0.1/24"]);
        }
        host.converge();
    }
    stop.store(true, Ordering::Relaxed);
    for visitor in visitors {
        let (lost, seen) = visitor.join().unwrap();
        assert_eq!(lost, [], "of {seen}");
        assert!(seen > 500, "{seen}");
    }
    host.assert_settled();
}
