//! What policy costs, in a network namespace of its own: the round trip between two containers without policy, with 10 and
//! with 10,000 flows; and how long one flow more takes in the kernel. Medians in microseconds.
//!
//! `cargo run --release -p weft-bench --example policy -- 10000`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    path::PathBuf,
    thread,
    time::Instant,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare},
    unistd::Pid,
};
use weft_dataplane::{Converger, Desired, Driver, Flow, PolicyTable, Port, Sandbox, Segment, link_name};
use weft_driver_linux::LinuxDriver;
use weft_model::{ContainerId, MacAddr, NetworkId, PortId, PortRange};

const ROUNDS: usize = 20_000;

fn pinned(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cores).unwrap();
}

fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Policy of `flows` flows between the two endpoints, the last of them the one that lets the measured connection pass.
fn table(flows: u32) -> PolicyTable {
    let mut table = PolicyTable::default();
    table.endpoints.insert("10.1.0.2".parse().unwrap(), 1);
    table.endpoints.insert("10.1.0.3".parse().unwrap(), 2);
    for nth in 0..flows {
        let port = u16::try_from(10_000 + nth % 50_000).unwrap();
        let ports = Some(PortRange { start: port, end: port });
        table.verdicts.insert(Flow { from: 1, to: 2 + nth / 50_000, protocol: 6, ports }, true);
    }
    table
}

/// Round trips of 64 bytes to port 10,000 of the second container: the median, in nanoseconds.
fn round_trip(a: &PathBuf, b: &PathBuf) -> u128 {
    let (server, client) = (weft_namespace(b), weft_namespace(a));
    let (ready, wait) = std::sync::mpsc::channel();
    let answering = thread::spawn(move || {
        setns(server.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        pinned(0);
        let listener = TcpListener::bind("0.0.0.0:10000").unwrap();
        ready.send(()).unwrap();
        let mut stream = listener.accept().unwrap().0;
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; 64];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer).unwrap();
        }
    });
    wait.recv().unwrap();
    let asking = thread::spawn(move || {
        setns(client.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        pinned(0);
        let mut stream = TcpStream::connect("10.1.0.3:10000").unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; 64];
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            stream.write_all(&buffer).unwrap();
            stream.read_exact(&mut buffer).unwrap();
            times.push(start.elapsed().as_nanos());
        }
        median(times)
    });
    let median = asking.join().unwrap();
    answering.join().unwrap();
    median
}

fn weft_namespace(path: &PathBuf) -> std::fs::File {
    std::fs::File::open(path).unwrap()
}

fn main() {
    let many: u32 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut desired = Desired::default();
    let segment = NetworkId::from_bytes([1; 32]);
    let bridge = link_name('b', &segment);
    let network = Segment {
        link: bridge.clone(),
        mac: MacAddr([2, 0x42, 10, 1, 0, 1]),
        addresses: ["10.1.0.1/16".parse().unwrap()].into(),
        mtu: 1500,
        internal: false,
        inter_container: true,
        masquerade: true,
        borrowed: false,
        further: Default::default(),
        gateways: Default::default(),
        trusted: Default::default(),
        open: Default::default(),
        source: Default::default(),
        uplink: None,
    };
    desired.segments.insert(segment, network);
    for nth in [2u8, 3] {
        let (sandbox, id) = (ContainerId::from_bytes([nth; 32]), PortId::from_bytes([nth; 32]));
        desired.sandboxes.insert(sandbox, Sandbox::default());
        let port = Port {
            link: link_name('p', &id),
            segment,
            sandbox,
            ifname: "eth0".into(),
            mac: MacAddr([2, 0x42, 10, 1, 0, nth]),
            addresses: [format!("10.1.0.{nth}/16").parse().unwrap()].into(),
            mtu: 1500,
            gateways: Default::default(),
            sysctls: Default::default(),
            isolated: false,
            parent: None,
        };
        desired.ports.insert(id, port);
    }
    let mut converger = Converger::new(LinuxDriver::new(dir.path(), true).unwrap());
    let [a, b] = [2u8, 3].map(|nth| converger.driver().sandbox_path(ContainerId::from_bytes([nth; 32])));
    let mut converge = |desired: &Desired| {
        let start = Instant::now();
        let outcome = converger.converge(desired).unwrap();
        assert!(outcome.converged(), "{:?}", outcome.failed);
        start.elapsed()
    };
    converge(&desired);
    // The first look at each table in turn, several times, so that a drift of the machine is nobody's.
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (nth, flows) in [0, 10, many].into_iter().enumerate() {
            desired.policy = if flows == 0 { PolicyTable::default() } else { table(flows) };
            desired.guarded = if flows == 0 { Default::default() } else { [bridge.clone()].into() };
            desired.generation += 1;
            converge(&desired);
            times[nth].push(round_trip(&a, &b));
        }
    }
    for (what, times) in ["no policy", "10 flows", &format!("{many} flows")].iter().zip(times) {
        println!("round trip, {what}: {:.2} us", median(times) as f64 / 1000.0);
    }
    let mut times = Vec::new();
    let all = table(many + 200);
    let more: Vec<Flow> =
        all.verdicts.keys().filter(|f| !desired.policy.verdicts.contains_key(f)).copied().collect();
    for flow in more {
        desired.policy.verdicts.insert(flow, true);
        desired.generation += 1;
        let add = weft_dataplane::Step::ChangePolicy {
            remove: PolicyTable::default(),
            add: PolicyTable { verdicts: [(flow, true)].into(), ..PolicyTable::default() },
        };
        let start = Instant::now();
        converger.driver().apply(&add).unwrap();
        times.push(start.elapsed().as_micros());
    }
    println!("one flow more beside {many}, in the kernel: {} us", median(times));
}
