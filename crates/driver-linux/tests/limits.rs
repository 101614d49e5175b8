//! Bandwidth limits, measured with real transfers between namespaces; and mended when somebody removes them.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use common::{Host, spawn};
use weft_dataplane::{Driver, PortLimit, Queue, Step, link_name};
use weft_model::{MacAddr, NetworkId, PortId};

/// How long a transfer is measured, after its first bytes.
const SPAN: Duration = Duration::from_millis(1500);
const MBIT: u64 = 1_000_000 / 8;

/// A server that counts what each client sends, and answers with it.
fn sink(path: &Path) {
    let (ready, wait) = mpsc::channel();
    spawn(path, move || {
        let listener = TcpListener::bind("0.0.0.0:9").unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65536];
                // What went at once, in buckets that were full, is not counted.
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_millis(300) {
                    let _ = stream.read(&mut buffer).unwrap();
                }
                // Nor what waited for a busy machine to read it.
                stream.set_nonblocking(true).unwrap();
                while stream.read(&mut buffer).is_ok_and(|length| length == buffer.len()) {}
                stream.set_nonblocking(false).unwrap();
                let (begin, mut bytes) = (Instant::now(), 0usize);
                while begin.elapsed() < SPAN {
                    bytes += stream.read(&mut buffer).unwrap();
                }
                let rate = bytes as f64 * 8.0 / 1e6 / begin.elapsed().as_secs_f64();
                stream.write_all(format!("{rate}").as_bytes()).unwrap();
            });
        }
    });
    wait.recv().unwrap();
}

/// Starts a transfer; gives back the Mbit/s that the receiver saw.
fn send(from: &Path, to: &str) -> impl FnOnce() -> f64 + use<> {
    let to = format!("{to}:9");
    let thread = spawn(from, move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (junk, mut text) = (vec![0; 65536], String::new());
        loop {
            let _ = stream.write(&junk);
            let mut buffer = [0; 64];
            match stream.read(&mut buffer) {
                Ok(length) => {
                    text += std::str::from_utf8(&buffer[..length]).unwrap();
                    return text.parse::<f64>().unwrap();
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    });
    move || thread.join().unwrap()
}

/// Within a tenth below; above it only by what headers and a moment's burst explain.
fn about(rate: f64, expected: f64, what: &str) {
    assert!(rate > expected * 0.85 && rate < expected * 1.1, "{what}: {rate:.2} of {expected} Mbit/s");
}

struct Pair {
    host: Host,
    segment: NetworkId,
    a: PathBuf,
    b: PathBuf,
}

fn pair() -> Pair {
    let mut host = Host::new();
    let segment = host.segment(1, &["10.1.0.1/24"]);
    let a = host.container(1, segment, &["10.1.0.2/24"]);
    let b = host.container(2, segment, &["10.1.0.3/24"]);
    host.converge();
    sink(&a);
    sink(&b);
    Pair { host, segment, a, b }
}

fn link(nth: u8) -> String {
    link_name('p', &PortId::from_bytes([nth; 32]))
}

fn mac(nth: u8) -> MacAddr {
    MacAddr([2, 0x42, 1, 0, 0, nth])
}

#[test]
fn a_container_keeps_to_its_rates_each_way() {
    let Pair { mut host, segment, a, b } = pair();
    let out = link_name('e', &segment);
    let queue = |rate| Queue { total: None, members: [(mac(1), rate * MBIT)].into() };
    let limit = |rate| PortLimit { ingress: Some(rate * MBIT), into: None, out: Some(out.clone()) };
    host.desired.limits.queues.insert(out.clone(), queue(16));
    host.desired.limits.ports.insert(link(1), limit(8));
    let done = host.converge().done;
    assert!(matches!(&done[..], [Step::PutQueue { .. }, Step::LimitPort { .. }]), "in place: {done:?}");
    host.assert_settled();
    about(send(&a, "10.1.0.3")(), 16.0, "egress");
    about(send(&b, "10.1.0.2")(), 8.0, "ingress");
    // Changed while a transfer runs, which goes on.
    let running = send(&a, "10.1.0.3");
    host.desired.limits.queues.insert(out.clone(), queue(4));
    host.desired.limits.ports.insert(link(1), limit(32));
    host.converge();
    host.assert_settled();
    let rate = running();
    assert!(rate < 8.0, "{rate}");
    about(send(&b, "10.1.0.2")(), 32.0, "ingress, changed");
    host.desired.limits = Default::default();
    host.converge();
    host.assert_settled();
    let free = send(&a, "10.1.0.3")();
    assert!(free > 100.0, "{free}");
    let left = tool("tc", "qdisc show") + &tool("ip", "-br link");
    assert!(!left.contains("clsact") && !left.contains("tbf") && !left.contains("wfe"), "{left}");
}

#[test]
fn a_network_shares_its_rates() {
    let Pair { mut host, segment, a, b } = pair();
    let c = host.container(3, segment, &["10.1.0.4/24"]);
    let [into, out] = ['i', 'e'].map(|kind| link_name(kind, &segment));
    let total = |rate| Queue { total: Some(rate * MBIT), ..Queue::default() };
    host.desired
        .limits
        .queues
        .insert(out.clone(), Queue { members: [(mac(2), 16 * MBIT)].into(), ..total(64) });
    let limit = PortLimit { ingress: None, into: None, out: Some(out.clone()) };
    for nth in 1..=3 {
        host.desired.limits.ports.insert(link(nth), limit.clone());
    }
    host.converge();
    host.assert_settled();
    sink(&c);
    let lan = host.lan.clone();
    sink(&lan);
    let both = [send(&a, "192.0.2.9"), send(&c, "192.0.2.9")].map(|wait| wait());
    about(both[0] + both[1], 64.0, "all that is sent together");
    assert!(both.iter().all(|rate| *rate > 1.0), "nobody is starved: {both:?}");
    about(send(&b, "192.0.2.9")(), 16.0, "a member's own rate below the total");
    // Now what they receive, together.
    host.desired.limits = Default::default();
    host.desired.limits.queues.insert(into.clone(), total(64));
    let limit = PortLimit { ingress: None, into: Some(into), out: None };
    for nth in 1..=3 {
        host.desired.limits.ports.insert(link(nth), limit.clone());
    }
    host.desired.limits.ports.get_mut(&link(2)).unwrap().ingress = Some(16 * MBIT);
    host.converge();
    host.assert_settled();
    host.lan_routes_to_host();
    let both = [send(&b, "10.1.0.2"), send(&a, "10.1.0.4")].map(|wait| wait());
    about(both[0] + both[1], 64.0, "all that is received together");
    about(send(&a, "10.1.0.3")(), 16.0, "a port's own rate behind the queue");
}

fn tool(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn limits_that_others_removed_come_back() {
    let Pair { mut host, segment, b, .. } = pair();
    let out = link_name('e', &segment);
    let queue = Queue { total: Some(100 * MBIT), members: [(mac(1), 16 * MBIT)].into() };
    host.desired.limits.queues.insert(out.clone(), queue);
    let limit = PortLimit { ingress: Some(8 * MBIT), into: None, out: Some(out.clone()) };
    host.desired.limits.ports.insert(link(1), limit);
    host.converge();
    let damages = [
        ("tc", format!("qdisc del dev {} root", link(1))),
        ("tc", format!("qdisc del dev {} clsact", link(1))),
        ("tc", format!("filter del dev {} ingress", link(1))),
        ("tc", format!("qdisc del dev {out} root")),
        ("tc", format!("class change dev {out} classid 1:1 htb rate 1mbit")),
        ("tc", format!("filter del dev {out} parent 1:")),
        ("ip", format!("link set {out} down")),
        ("ip", format!("link del {out}")),
        ("ip", "link add wfeffffffffffff type ifb".to_owned()),
    ];
    for (program, damage) in damages {
        tool(program, &damage);
        let observed = host.driver().observe().unwrap();
        assert_ne!(host.driver().plan(&host.desired, &observed), [], "{damage}: seen");
        host.converger.forget();
        host.converge();
        host.assert_settled();
    }
    about(send(&b, "10.1.0.2")(), 8.0, "after all that");
    // What others hang on our links stays: a filter of their own, beside ours.
    let foreign =
        format!("filter add dev {} ingress protocol ip prio 5 u32 match u32 0 0 action ok", link(1));
    if Command::new("tc").args(foreign.split(' ')).output().is_ok_and(|o| o.status.success()) {
        host.desired.limits = Default::default();
        host.converge();
        assert!(tool("tc", &format!("filter show dev {} ingress", link(1))).contains("pref 5"));
    }
}

#[test]
fn every_step_can_be_run_twice_and_a_foreign_link_is_left_alone() {
    let Pair { mut host, segment, .. } = pair();
    let out = link_name('e', &segment);
    tool("ip", &format!("link add {out} type bridge"));
    let queue = Queue { total: Some(100 * MBIT), members: [(mac(1), 16 * MBIT), (mac(2), MBIT)].into() };
    let step = Step::PutQueue { link: out.clone(), queue: queue.clone() };
    let error = host.driver().apply(&step).unwrap_err().to_string();
    assert_eq!(error, format!("{out} exists and is not ours"));
    tool("ip", &format!("link del {out}"));
    host.desired.limits.queues.insert(out.clone(), queue);
    let limit = PortLimit { ingress: Some(8 * MBIT), into: Some(out.clone()), out: Some(out.clone()) };
    host.desired.limits.ports.insert(link(1), limit);
    host.converger.forget();
    let steps = host.driver().plan(&host.desired, &host.driver().observe().unwrap());
    for step in &steps {
        host.driver().apply(step).unwrap();
        host.driver().apply(step).unwrap_or_else(|e| panic!("{step} twice: {e:?}"));
    }
    host.assert_settled();
    let gone =
        [Step::LimitPort { link: link(1), limit: PortLimit::default() }, Step::DeleteQueue { link: out }];
    for step in &gone {
        host.driver().apply(step).unwrap();
        host.driver().apply(step).unwrap_or_else(|e| panic!("{step} twice: {e:?}"));
    }
}
